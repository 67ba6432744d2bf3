// SPDX-License-Identifier: Apache-2.0
/*
 * setup.c - makes the guest a Unix system: file systems, device links, name, modules
 */
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/wire.h"

#define NODEV_ALL (MS_NOSUID | MS_NODEV | MS_NOEXEC)

/* In order. A kernel without one of them just lacks it. */
static const struct mnt {
	const char *dir, *type;
	unsigned long flags;
	const char *data;
	bool make;     /* make the directory */
	bool if_empty; /* the initramfs may have packed files there: they stay */
} mnts[] = {
	{ "/proc", "proc", NODEV_ALL, NULL, true, false },
	{ "/sys", "sysfs", NODEV_ALL, NULL, true, false },
	{ "/dev", "devtmpfs", MS_NOSUID, "mode=0755", true, false },
	{ "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666", true,
	  false },
	{ "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777", true, false },
	{ "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777", true, true },
	{ "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755", true, true },
	{ "/sys/fs/cgroup", "cgroup2", NODEV_ALL, "nsdelegate", false, false },
	{ "/sys/kernel/debug", "debugfs", NODEV_ALL, NULL, false, false },
	{ "/sys/kernel/tracing", "tracefs", NODEV_ALL, NULL, false, false },
	{ "/sys/fs/bpf", "bpf", NODEV_ALL, "mode=0700", false, false },
};

static const char *const links[][2] = {
	{ "/proc/self/fd", "/dev/fd" },
	{ "/proc/self/fd/0", "/dev/stdin" },
	{ "/proc/self/fd/1", "/dev/stdout" },
	{ "/proc/self/fd/2", "/dev/stderr" },
};

static bool is_empty(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *ent;
	bool empty = true;

	if (!d)
		return true;
	while (empty && (ent = readdir(d)))
		empty = !strcmp(ent->d_name, ".") || !strcmp(ent->d_name, "..");
	closedir(d);
	return empty;
}

void setup_mounts(void)
{
	umask(0);
	for (size_t i = 0; i < GUEST_LEN(mnts); i++) {
		const struct mnt *m = &mnts[i];

		if (m->make)
			mkdir(m->dir, 0755);
		if (m->if_empty && !is_empty(m->dir))
			continue;
		if (mount(m->type, m->dir, m->type, m->flags, m->data) < 0 && errno == EINVAL)
			mount(m->type, m->dir, m->type, m->flags, NULL);
	}
	for (size_t i = 0; i < GUEST_LEN(links); i++)
		(void)!symlink(links[i][0], links[i][1]);
	umask(022);
}

void setup_identity(const struct spec *s)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	const char *name = s->host ? s->host : "orrery";
	int fd;

	sethostname(name, strlen(name));
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	ioctl(fd, SIOCSIFFLAGS, &ifr);
	close(fd);
}

/* Whether @word (of the kernel's command line) is a parameter of @module, which is @n bytes long. */
static bool is_param(const char *word, const char *module, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (word[i] != module[i] &&
		    !((word[i] == '-' || word[i] == '_') && (module[i] == '-' || module[i] == '_')))
			return false;
	return word[n] == '.' && word[n + 1];
}

/*
 * The parameters of the module in @file, as modprobe(8) takes them from the kernel's command line:
 * MODULE.PARAM=VALUE, in order. The kernel itself gives them to what is built in only.
 */
static void module_params(const char *file, const char *cmdline, char *ret, size_t size)
{
	const char *base = strrchr(file, '/');
	size_t len = 0, n;

	base = base ? base + 1 : file;
	n = strcspn(base, ".");
	*ret = 0;
	for (const char *p = cmdline; *p;) {
		size_t k = strcspn(p, " \n");

		if (is_param(p, base, n) && k - n - 1 + len + 2 < size)
			len += (size_t)snprintf(ret + len, size - len, "%s%.*s", len ? " " : "",
						(int)(k - n - 1), p + n + 1);
		p += k + (p[k] != 0);
	}
}

/* /proc files have no size to read by. */
static void read_cmdline(char *ret, size_t size)
{
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, ret, size - 1) : 0;

	ret[n > 0 ? n : 0] = 0;
	if (fd >= 0)
		close(fd);
}

/* A module that does not load is said, but the command runs: it may not need it. */
void setup_modules(const char *file_list)
{
	static char cmdline[8192], params[4096];
	char *list, *save;
	size_t len;

	if (text_read(file_list, &list, &len) < 0)
		return;
	read_cmdline(cmdline, sizeof(cmdline));
	for (char *file = strtok_r(list, "\n", &save); file; file = strtok_r(NULL, "\n", &save)) {
		int fd = open(file, O_RDONLY | O_CLOEXEC);

		module_params(file, cmdline, params, sizeof(params));
		if (fd < 0 || (syscall(SYS_finit_module, fd, params, 0) < 0 && errno != EEXIST))
			say("cannot load the kernel module %s: %s", file, strerror(errno));
		if (fd >= 0)
			close(fd);
	}
	free(list);
}

/* --- what the host's devices ask for ---------------------------------------------------------- */

#define WORDS_MAX 16
#define MOUNTS_MAX 64

/* What setup_finish unmounts again, in order of mounting; owned. */
static char *mounted[MOUNTS_MAX];
static int n_mounted;

/* TYPE SOURCE DIR OPTIONS */
static int do_mount(char **w)
{
	unsigned long flags = 0;
	char *data = w[3];
	int ret = setup_mkdirs(w[2]);

	if (!strncmp(data, "ro", 2) && (!data[2] || data[2] == ',')) {
		flags = MS_RDONLY;
		data += data[2] ? 3 : 2;
	}
	if (!ret && mount(w[1], w[2], w[0], flags, data) < 0)
		ret = -errno;
	if (!ret && n_mounted < MOUNTS_MAX && (mounted[n_mounted] = strdup(w[2])))
		n_mounted++;
	return ret;
}

void setup_finish(void)
{
	/* The host ends the VM as soon as it knows the status: what is not on a disk yet is lost. */
	sync();
	if (chdir("/") < 0)
		return;
	while (n_mounted) {
		/* Busy where the command left processes behind. */
		umount2(mounted[--n_mounted], 0);
		free(mounted[n_mounted]);
	}
}

/* TYPE SOURCE OPTIONS */
static int do_root(char **w)
{
	return root_switch(w[0], w[1], w[2]);
}

static const struct directive {
	const char *name;
	int words; /* behind the name */
	int (*run)(char **words);
} directives[] = {
	{ "mount", 4, do_mount },    { "root", 3, do_root },	    { "net", 5, setup_net },
	{ "agent", 1, agent_start }, { "listen", 1, listen_start },
};

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes %xx in place. */
static void unescape(char *p)
{
	char *out = p;

	for (; *p; p++)
		if (*p == '%' && hex(p[1]) >= 0 && hex(p[2]) >= 0) {
			*out++ = (char)(hex(p[1]) << 4 | hex(p[2]));
			p += 2;
		} else {
			*out++ = *p;
		}
	*out = 0;
}

static void setup_line(char *line)
{
	char *word[WORDS_MAX], *p = line;
	int n = 0, ret = -ENOSYS;

	while (n < WORDS_MAX && (word[n] = strsep(&p, "\t")))
		unescape(word[n++]);
	for (size_t i = 0; i < GUEST_LEN(directives); i++)
		if (!strcmp(word[0], directives[i].name) && n - 1 == directives[i].words)
			ret = directives[i].run(word + 1);
	if (ret)
		say("%s %s: %s", word[0], n > 3 ? word[3] : n > 1 ? word[1] : "", strerror(-ret));
}

void setup_lines(void)
{
	char *list, *p;
	size_t len;

	if (text_read(WIRE_SETUP_FILE, &list, &len) < 0)
		return;
	/* What others mount goes into the root that stays. */
	for (char *line = list; *line;) {
		size_t n = strcspn(line, "\n");

		if (strncmp(line, "root\t", 5)) {
			line += n + (line[n] != 0);
			continue;
		}
		p = strndup(line, n);
		if (p)
			setup_line(p);
		free(p);
		memset(line, '\n', n);
		break;
	}
	p = list;
	for (char *line; (line = strsep(&p, "\n"));)
		if (*line)
			setup_line(line);
	free(list);
}

int setup_mkdirs(const char *path)
{
	char *copy = strdup(path);
	int ret = 0;

	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1; !ret && p[-1]; p++) {
		char c = *p;

		if (c && c != '/')
			continue;
		*p = 0;
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			ret = -errno;
		*p = c;
	}
	free(copy);
	return ret;
}
