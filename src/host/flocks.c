// SPDX-License-Identifier: Apache-2.0
/*
 * flocks.c - who holds which lock: what the kernel says of flock(2)
 *
 * How it works
 * A line of /proc/locks (proc_locks(5)) is
 *
 *	1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF
 *	1: -> FLOCK  ADVISORY  WRITE 1235 fe:00:5678 0 EOF
 *
 * with the process, and device (hexadecimal) and inode of the file; an arrow marks one that waits. The
 * device is that of the file system, which stat(2) does not tell everywhere (overlayfs and btrfs show
 * another one); the mount in /proc/self/mountinfo does.
 */
#include "host/flocks.h"

#include "base/buf.h"
#include "host/hostfile.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define LOCKS_MAX (4u << 20) /* bytes of /proc/locks */

struct entry {
	unsigned major, minor;
	u64 ino;
	struct flock_holder who;
};

struct flocks {
	unsigned n;
	struct entry entry[];
};

/* The whole of a file of /proc, with a NUL. False: it cannot be read. */
static bool slurp(const char *root, const char *name, struct buf *ret)
{
	char path[256];
	int fd, r;

	snprintf(path, sizeof(path), "%s/proc/%s", root, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	r = buf_read_fd(ret, fd, LOCKS_MAX);
	close(fd);
	return r == 0 && buf_add(ret, "", 1) == 0;
}

static bool parse(const char *line, struct entry *ret)
{
	char kind[16], mode[16];
	unsigned long long ino;
	const char *p = strchr(line, ':');
	long pid;

	if (!p)
		return false;
	p += 1 + strspn(p + 1, " ");
	*ret = (struct entry){ .who.waits = !strncmp(p, "->", 2) };
	p += ret->who.waits ? 2 : 0;
	if (sscanf(p, " %15s %*s %15s %ld %x:%x:%llu", kind, mode, &pid, &ret->major, &ret->minor,
		   &ino) != 6 ||
	    strcmp(kind, "FLOCK") != 0 || pid <= 0)
		return false;
	ret->who.pid = (pid_t)pid;
	ret->who.exclusive = !strcmp(mode, "WRITE");
	ret->ino = ino;
	return true;
}

struct flocks *flocks_read(const char *root)
{
	struct buf text = { 0 };
	struct flocks *f;
	size_t lines = 1;
	char *p;

	if (!slurp(root, "locks", &text))
		buf_fini(&text);
	for (size_t i = 0; i < text.len; i++)
		lines += text.data[i] == '\n';
	f = calloc(1, sizeof(*f) + lines * sizeof(f->entry[0]));
	p = (char *)text.data;
	for (char *line; f && p && (line = strsep(&p, "\n"));)
		f->n += parse(line, &f->entry[f->n]);
	buf_fini(&text);
	return f;
}

void flocks_free(struct flocks *f)
{
	free(f);
}

/* The device of the file system behind @fd. */
static void device_of(int fd, const struct stat *sb, unsigned *ret_major, unsigned *ret_minor)
{
	struct buf text = { 0 };
	char info[512];
	u64 id = UINT64_MAX;
	char *p;

	*ret_major = major(sb->st_dev);
	*ret_minor = minor(sb->st_dev);
	if (hostfile_text(info, sizeof(info), "", "/proc/self/fdinfo/%d", fd) > 0)
		id = hostfile_field(info, "mnt_id:", UINT64_MAX);
	if (id != UINT64_MAX && slurp("", "self/mountinfo", &text)) {
		p = (char *)text.data;
		for (char *line; (line = strsep(&p, "\n"));) {
			unsigned long long mount;
			unsigned ma, mi;

			if (sscanf(line, "%llu %*u %u:%u", &mount, &ma, &mi) == 3 && mount == id) {
				*ret_major = ma;
				*ret_minor = mi;
			}
		}
	}
	buf_fini(&text);
}

unsigned flocks_of(const struct flocks *f, int fd, struct flock_holder *ret, unsigned max)
{
	unsigned n = 0, ma = 0, mi = 0;
	bool known = false;
	struct stat sb;

	if (!f || fstat(fd, &sb) < 0)
		return 0;
	for (unsigned i = 0; i < f->n && n < max; i++) {
		const struct entry *t = &f->entry[i];

		if (t->ino != sb.st_ino)
			continue;
		if (!known)
			device_of(fd, &sb, &ma, &mi);
		known = true;
		if (t->major == ma && t->minor == mi)
			ret[n++] = t->who;
	}
	return n;
}

char *flocks_command(pid_t pid, char *ret, size_t size)
{
	char path[32];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, ret, size - 1);
		close(fd);
	}
	while (n > 0 && !ret[n - 1])
		n--;
	if (n <= 0) {
		snprintf(ret, size, "?");
		return ret;
	}
	/* Arguments end in NULs; another user's process has them as it likes. */
	for (ssize_t i = 0; i < n; i++)
		if (ret[i] == 0)
			ret[i] = ' ';
		else if ((u8)ret[i] < 0x20 || (u8)ret[i] >= 0x7f)
			ret[i] = '?';
	ret[n] = 0;
	return ret;
}
