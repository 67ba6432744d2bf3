// SPDX-License-Identifier: Apache-2.0
/*
 * initramfs.c - composes the guest's root file system
 *
 * How it works
 * Whatever comes from the host lies in the guest at the same path, and every symbolic link met on
 * the way to it is reproduced, so that all names of a file work in the guest as on the host: a host
 * whose /bin is a link to usr/bin gives a guest with that link.
 *
 * The parts are added in this order, the first to take a path keeps it: the layout of the top
 * level, the command, includes, modules, then init, busybox with a link for each applet, small
 * files in /etc. So an applet never replaces a program from the host, but stands in for those that
 * were not packed: `sh -c 'a | b'` finds b.
 *
 * Directories that init mounts over cannot hold files.
 */
#include "image/initramfs.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/wire.h"
#include "image/closure.h"
#include "image/cpio.h"
#include "image/modules.h"

#define LATER_MAX 512u
#define LINKS_MAX 40
#define APPLETS_MAX 65536 /* bytes of busybox's list */
#define SYSTEM_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* src/guest, embedded by embed.py. */
extern const u8 guest_init[];
extern const size_t guest_init_len;

struct composer {
	const struct initramfs_cfg *cfg;
	struct err *e;
	struct cpio *cpio;
	struct closure_env env;
	struct buf spec;
	char *applets; /* busybox's list, one a line; owned */
	char *busybox; /* its real path; owned */
};

/* init mounts over these, or they are ours. */
static const char *const taken[] = { "/proc", "/sys", "/dev", WIRE_DIR, "/init" };

static int check_place(struct composer *c, const char *path)
{
	for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
		size_t n = strlen(taken[i]);

		if (!strncmp(path, taken[i], n) && (path[n] == '/' || !path[n]))
			return err_set(
				c->e, -EINVAL,
				"%s cannot be packed at that place: the guest has its own %s; "
				"use --include FILE:GUESTPATH",
				path, taken[i]);
	}
	return 0;
}

/* One component more for mirror: adds @name in directory @at (PATH_MAX). 0, or 1 with the link's
 * target in @target. */
static int mirror_step(struct composer *c, char *at, const char *name, size_t n, char *target)
{
	size_t len = strlen(at);
	struct stat sb;
	ssize_t got;
	int ret;

	if (len + n + 2 > PATH_MAX)
		return err_sys(c->e, -ENAMETOOLONG, "%s", at);
	snprintf(at + len, PATH_MAX - len, "/%.*s", (int)n, name);
	if (lstat(at, &sb) < 0)
		return err_sys(c->e, -errno, "cannot pack %s", at);
	if (S_ISDIR(sb.st_mode))
		return cpio_dir(c->cpio, at, 0755, c->e);
	if (!S_ISLNK(sb.st_mode))
		return 0;
	got = readlink(at, target, PATH_MAX - 1);
	if (got < 0)
		return err_sys(c->e, -errno, "cannot pack %s", at);
	target[got] = 0;
	ret = check_place(c, at);
	if (!ret)
		ret = cpio_symlink(c->cpio, at, target, c->e);
	at[target[0] == '/' ? 0 : len] = 0;
	return ret ? ret : 1;
}

/*
 * Reproduces the directories and links on the way to the host's @path, which may end in a
 * directory. @real (PATH_MAX) gets the path without links.
 */
static int mirror(struct composer *c, const char *path, char *real)
{
	char rest[2 * PATH_MAX], target[PATH_MAX], more[2 * PATH_MAX];
	unsigned links = 0;
	char *p = rest;
	int ret;

	if (snprintf(rest, sizeof(rest), "%s", path) >= (int)sizeof(rest))
		return err_sys(c->e, -ENAMETOOLONG, "cannot pack %.80s...", path);
	real[0] = 0;
	while (*(p += strspn(p, "/"))) {
		size_t n = strcspn(p, "/");

		if (n == 2 && !memcmp(p, "..", 2)) {
			char *slash = strrchr(real, '/');

			*(slash ? slash : real) = 0;
		} else if (n != 1 || *p != '.') {
			ret = mirror_step(c, real, p, n, target);
			if (ret < 0)
				return ret;
			if (ret && ++links > LINKS_MAX)
				return err_sys(c->e, -ELOOP, "cannot pack %s", path);
			if (ret) {
				if (snprintf(more, sizeof(more), "%s/%s", target, p + n) >=
				    (int)sizeof(more))
					return err_sys(c->e, -ENAMETOOLONG, "cannot pack %s", path);
				memcpy(rest, more, sizeof(rest));
				p = rest;
				continue;
			}
		}
		p += n;
	}
	return check_place(c, real);
}

/* Packs the regular file @path of the host at its place. */
static int pack_file(struct composer *c, const char *path)
{
	char real[PATH_MAX];
	u64 size;
	int ret = mirror(c, path, real);

	return ret ? ret : cpio_host_file(c->cpio, real, real, c->e, &size);
}

/* Packs what @prog needs besides itself. */
static int pack_closure(struct composer *c, const char *prog, enum closure_kind *ret_kind)
{
	struct closure cl = { 0 };
	int ret = closure_add(&cl, prog, &c->env, c->e, ret_kind);

	for (size_t i = 0; !ret && i < cl.n; i++)
		ret = pack_file(c, cl.path[i]);
	closure_fini(&cl);
	return ret;
}

/* @path made absolute with the working directory. Owned by the caller; NULL: no memory. */
static char *absolute(const struct composer *c, const char *path)
{
	char *abs;

	if (path[0] == '/')
		return strdup(path);
	return asprintf(&abs, "%s/%s", c->cfg->cwd ? c->cfg->cwd : "", path) < 0 ? NULL : abs;
}

static bool is_applet(const struct composer *c, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = c->applets; *p;) {
		size_t len = strcspn(p, "\n");

		if (len == n && !memcmp(p, name, n))
			return true;
		p += len + (p[len] != 0);
	}
	return false;
}

/* Finds CMD. 0 and *ret_file (owned); *ret_applet: it is busybox's. */
static int find_command(struct composer *c, const char *cmd, bool *ret_applet, char **ret_file)
{
	struct stat sb;
	char *file;
	int ret;

	*ret_applet = false;
	if (!strchr(cmd, '/')) {
		ret = closure_which(c->cfg->path, cmd, ret_file);
		if (ret != -ENOENT)
			return ret;
		if (!cmd[0] || !is_applet(c, cmd))
			return err_set(
				c->e, -ENOENT,
				"there is no command \"%s\" in this host's PATH, nor in busybox",
				cmd);
		*ret_applet = true;
		return asprintf(ret_file, "/bin/%s", cmd) < 0 ? -ENOMEM : 0;
	}
	file = absolute(c, cmd);
	if (!file)
		return -ENOMEM;
	if (stat(file, &sb) < 0)
		ret = err_sys(c->e, -errno, "cannot run %s", cmd);
	else if (!S_ISREG(sb.st_mode))
		ret = err_set(c->e, -EACCES, "cannot run %s: not a regular file", cmd);
	else if (!(sb.st_mode & 0111))
		ret = err_set(c->e, -EACCES, "cannot run %s: not executable (chmod +x it)", cmd);
	else
		ret = 0;
	if (ret)
		free(file);
	else
		*ret_file = file;
	return ret;
}

static int add_command(struct composer *c)
{
	enum closure_kind kind = CLOSURE_ELF;
	char *file = NULL;
	bool applet;
	int ret;

	if (!c->cfg->argv)
		return 0;
	if (!c->cfg->argv[0])
		return err_set(c->e, -EINVAL, "the command is empty");
	ret = find_command(c, c->cfg->argv[0], &applet, &file);
	if (!ret && applet && c->cfg->host_root)
		ret = err_set(c->e, -ENOENT, "there is no command \"%s\" in this host's PATH",
			      c->cfg->argv[0]);
	if (!ret && !applet && !c->cfg->host_root) {
		ret = pack_file(c, file);
		if (!ret)
			ret = pack_closure(c, file, &kind);
	}
	if (!ret && kind == CLOSURE_DATA)
		ret = err_set(
			c->e, -ENOEXEC,
			"cannot run %s: neither an ELF program nor a script that begins with #!",
			file);
	else if (!ret && kind == CLOSURE_ALIEN)
		ret = err_set(c->e, -ENOEXEC, "cannot run %s: not a program for an x86-64 guest",
			      file);
	if (!ret)
		ret = buf_printf(&c->spec, "exec=%s%c", file, 0);
	for (const char *const *a = c->cfg->argv; !ret && *a; a++)
		ret = buf_printf(&c->spec, "arg=%s%c", *a, 0);
	free(file);
	return ret;
}

/* A file, link or directory of an included tree. @strict: a script's interpreter must exist. */
static int include_one(struct composer *c, const char *host, const struct stat *sb,
		       const char *guest, bool strict)
{
	enum closure_kind kind;
	char target[PATH_MAX];
	struct err ignored;
	ssize_t n;
	u64 size;
	int ret;

	ret = check_place(c, guest);
	if (ret)
		return ret;
	if (S_ISDIR(sb->st_mode))
		return cpio_dir(c->cpio, guest, sb->st_mode & 07777, c->e);
	if (S_ISLNK(sb->st_mode)) {
		n = readlink(host, target, sizeof(target) - 1);
		if (n < 0)
			return err_sys(c->e, -errno, "cannot pack %s", host);
		target[n] = 0;
		return cpio_symlink(c->cpio, guest, target, c->e);
	}
	if (!S_ISREG(sb->st_mode))
		return err_set(c->e, -EINVAL,
			       "cannot pack %s: neither file, directory nor symbolic link", host);
	ret = cpio_host_file(c->cpio, guest, host, c->e, &size);
	if (ret)
		return ret;
	if (strict)
		return pack_closure(c, host, &kind);
	/* A member of a tree may be a script that nobody calls: do without its interpreter then. */
	kind = CLOSURE_DATA;
	ignored = *c->e;
	ret = pack_closure(c, host, &kind);
	if (ret && kind == CLOSURE_SCRIPT) {
		*c->e = ignored;
		ret = 0;
	}
	return ret;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int include_tree(struct composer *c, char *host, const char *guest)
{
	char *roots[] = { host, NULL };
	FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
	char path[PATH_MAX];
	FTSENT *ent;
	int ret = 0;

	if (!fts)
		return err_sys(c->e, -errno, "cannot read %s", host);
	while (!ret && (errno = 0, ent = fts_read(fts))) {
		if (ent->fts_info == FTS_DP)
			continue;
		if (ent->fts_info == FTS_DNR || ent->fts_info == FTS_ERR || ent->fts_info == FTS_NS)
			ret = err_sys(c->e, -ent->fts_errno, "cannot read %s", ent->fts_path);
		else if (snprintf(path, sizeof(path), "%s%s", guest,
				  ent->fts_path + strlen(host)) >= (int)sizeof(path))
			ret = err_sys(c->e, -ENAMETOOLONG, "cannot pack %s", ent->fts_path);
		else
			ret = include_one(c, ent->fts_path, ent->fts_statp, path, false);
	}
	if (!ret && errno)
		ret = err_sys(c->e, -errno, "cannot read %s", host);
	fts_close(fts);
	return ret;
}

/* Where include @in is to lie: @guest (PATH_MAX). @host: absolute, @real: without links. */
static int include_place(struct composer *c, const struct initramfs_include *in, const char *host,
			 const char *real, char *guest)
{
	int len;

	if (!in->guest)
		return snprintf(guest, PATH_MAX, "%s", real), 0;
	if (in->guest[0] != '/')
		return err_set(c->e, -EINVAL, "--include %s:%s: the guest path must begin with /",
			       in->host, in->guest);
	if (strstr(in->guest, "/../") || strstr(in->guest, "/./"))
		return err_set(c->e, -EINVAL, "--include %s:%s: the guest path has . or ..",
			       in->host, in->guest);
	len = (int)strlen(in->guest);
	if (in->guest[len - 1] == '/')
		len = snprintf(guest, PATH_MAX, "%s%s", in->guest, strrchr(host, '/') + 1);
	else
		len = snprintf(guest, PATH_MAX, "%s", in->guest);
	return len < PATH_MAX ? 0 : err_sys(c->e, -ENAMETOOLONG, "--include %s", in->host);
}

static int add_include(struct composer *c, const struct initramfs_include *in)
{
	char guest[PATH_MAX], *host = absolute(c, in->host), *real = NULL;
	struct stat sb;
	int ret = host ? 0 : -ENOMEM;

	if (!ret && stat(host, &sb) < 0) {
		ret = -errno;
		free(host);
		host = NULL;
		if (ret == -ENOENT && !strchr(in->host, '/'))
			ret = closure_which(c->cfg->path, in->host, &host);
		if (!ret && stat(host, &sb) < 0)
			ret = -errno;
		if (ret) {
			free(host);
			return err_sys(c->e, ret, "--include %s", in->host);
		}
	}
	real = ret ? NULL : realpath(host, NULL);
	if (!real) {
		ret = ret ? ret : -errno;
		free(host);
		return err_sys(c->e, ret, "--include %s", in->host);
	}
	/* Without a guest path, also the links that lead to it. */
	if (!in->guest)
		ret = mirror(c, host, guest);
	if (!ret)
		ret = include_place(c, in, host, real, guest);
	if (!ret && S_ISDIR(sb.st_mode))
		ret = include_tree(c, real, guest);
	else if (!ret)
		ret = include_one(c, real, &sb, guest, true);
	free(host);
	free(real);
	return ret;
}

static int pack_modules(struct composer *c, const struct modules *m, size_t from, const char *dir,
			const char *list_file)
{
	const char *release = strrchr(dir, '/');
	struct buf list = { 0 };
	char path[PATH_MAX];
	int ret = 0;

	release = release ? release + 1 : dir;
	for (size_t i = from; !ret && i < m->n; i++) {
		if (snprintf(path, sizeof(path), "/lib/modules/%s/%s", release, m->mod[i].file) >=
		    (int)sizeof(path))
			ret = err_sys(c->e, -ENAMETOOLONG, "%s", m->mod[i].file);
		else
			ret = cpio_file(c->cpio, path, 0644, m->mod[i].data.data,
					m->mod[i].data.len, c->e);
		if (!ret)
			ret = buf_printf(&list, "%s\n", path);
	}
	if (!ret && list.len)
		ret = cpio_file(c->cpio, list_file, 0644, list.data, list.len, c->e);
	buf_fini(&list);
	return ret;
}

/* What may be loaded later, behind all of @first. A kernel that lacks some of it gets none. */
static int pack_later(struct composer *c, const struct modules *first, const char *dir)
{
	const char *names[LATER_MAX];
	struct modules all = { 0 };
	struct err lacks = { 0 };
	size_t n = 0;
	int ret = 0;

	for (const char *const *l = c->cfg->modules; l && *l && n + 1 < LATER_MAX; l++)
		names[n++] = *l;
	for (const char *const *l = c->cfg->later; *l && n + 1 < LATER_MAX; l++)
		names[n++] = *l;
	names[n] = NULL;
	if (modules_resolve(dir, names, &lacks, &all) == 0)
		ret = pack_modules(c, &all, first->n, dir, WIRE_LATER_FILE);
	modules_fini(&all);
	return ret;
}

static int add_modules(struct composer *c)
{
	const struct initramfs_cfg *cfg = c->cfg;
	bool some = cfg->modules && cfg->modules[0];
	struct modules m = { 0 };
	char dir[PATH_MAX];
	int ret = 0;

	if (some && !cfg->modules_dir)
		return err_set(c->e, -EINVAL, "this kernel comes without modules, but %s is needed",
			       cfg->modules[0]);
	if (!cfg->modules_dir)
		return 0;
	snprintf(dir, sizeof(dir), "%s", cfg->modules_dir);
	for (size_t n = strlen(dir); n > 1 && dir[n - 1] == '/';)
		dir[--n] = 0;
	if (some)
		ret = modules_resolve(dir, cfg->modules, c->e, &m);
	if (!ret)
		ret = pack_modules(c, &m, 0, dir, WIRE_MODULES_FILE);
	if (!ret && cfg->later)
		ret = pack_later(c, &m, dir);
	modules_fini(&m);
	return ret;
}

/* Appends what `busybox --list` prints. */
static int read_applets(const char *busybox, struct buf *b)
{
	char list[] = "--list", *argv[] = { (char *)busybox, list, NULL }, *env[] = { NULL };
	posix_spawn_file_actions_t act;
	int fd[2], status, ret;
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) < 0)
		return -errno;
	posix_spawn_file_actions_init(&act);
	posix_spawn_file_actions_adddup2(&act, fd[1], 1);
	ret = -posix_spawn(&pid, busybox, &act, NULL, argv, env);
	posix_spawn_file_actions_destroy(&act);
	close(fd[1]);
	if (!ret) {
		ret = buf_read_fd(b, fd[0], APPLETS_MAX);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (!ret && (!WIFEXITED(status) || WEXITSTATUS(status)))
			ret = -ENOEXEC;
	}
	close(fd[0]);
	return ret ? ret : buf_add(b, "", 1);
}

static int open_busybox(struct composer *c)
{
	const char *file = c->cfg->busybox ? c->cfg->busybox : INITRAMFS_BUSYBOX;
	struct buf b = { 0 };
	int ret;

	c->busybox = realpath(file, NULL);
	ret = c->busybox ? read_applets(c->busybox, &b) : -errno;
	if (ret) {
		buf_fini(&b);
		return err_sys(c->e, ret, "cannot use %s (Debian package busybox-static)", file);
	}
	c->applets = (char *)b.data;
	return 0;
}

static int add_busybox(struct composer *c)
{
	enum closure_kind kind;
	char path[5 + 64] = "/bin/";
	u64 size;
	int ret = 0;

	if (!cpio_has(c->cpio, "/bin/busybox"))
		ret = cpio_host_file(c->cpio, "/bin/busybox", c->busybox, c->e, &size);
	if (!ret)
		ret = pack_closure(c, c->busybox, &kind);
	for (const char *p = c->applets; !ret && *p;) {
		const char *name = p;
		size_t n = strcspn(p, "\n");

		p += n + (p[n] != 0);
		if (!n || n >= 64 || memchr(name, '/', n))
			continue;
		memcpy(path + 5, name, n);
		path[5 + n] = 0;
		if (!cpio_has(c->cpio, path))
			ret = cpio_symlink(c->cpio, path, "/bin/busybox", c->e);
	}
	/* Scripts begin with it. */
	if (!ret && is_applet(c, "env") && !cpio_has(c->cpio, "/usr/bin/env"))
		ret = cpio_symlink(c->cpio, "/usr/bin/env", "/bin/busybox", c->e);
	return ret;
}

/* The top level: as on the host where that has a link, so that its paths mean the same. */
static int add_layout(struct composer *c)
{
	static const char *const like_host[] = { "/bin", "/sbin", "/lib", "/lib64" };
	static const struct {
		const char *path;
		unsigned mode;
	} dirs[] = { { "/usr/bin", 0755 }, { "/usr/sbin", 0755 }, { "/usr/lib", 0755 },
		     { "/proc", 0555 },	   { "/sys", 0555 },	  { "/dev", 0755 },
		     { "/run", 0755 },	   { "/tmp", 01777 },	  { "/etc", 0755 },
		     { "/root", 0700 },	   { "/mnt", 0755 },	  { "/var/tmp", 01777 } };
	char real[PATH_MAX];
	int ret = 0;

	for (size_t i = 0; !ret && i < ARRAY_LEN(dirs); i++)
		ret = cpio_dir(c->cpio, dirs[i].path, dirs[i].mode, c->e);
	for (size_t i = 0; !ret && i < ARRAY_LEN(like_host); i++)
		ret = access(like_host[i], F_OK) < 0 ? cpio_dir(c->cpio, like_host[i], 0755, c->e)
						     : mirror(c, like_host[i], real);
	/* The kernel opens the first for init before anything is mounted. */
	if (!ret)
		ret = cpio_node(c->cpio, "/dev/console", S_IFCHR | 0600, 5, 1, c->e);
	if (!ret)
		ret = cpio_node(c->cpio, "/dev/null", S_IFCHR | 0666, 1, 3, c->e);
	return ret;
}

static int add_etc(struct composer *c)
{
	static const char *const files[][2] = {
		{ "/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"
				 "nobody:x:65534:65534:nobody:/:/bin/false\n" },
		{ "/etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n" },
		{ "/etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n" },
	};
	int ret = 0;

	for (size_t i = 0; !ret && i < ARRAY_LEN(files); i++)
		if (!cpio_has(c->cpio, files[i][0]))
			ret = cpio_file(c->cpio, files[i][0], 0644, files[i][1],
					strlen(files[i][1]), c->e);
	return ret;
}

static bool has_env(const struct initramfs_cfg *cfg, const char *name)
{
	size_t n = strlen(name);

	for (const char *const *v = cfg->env; v && *v; v++)
		if (!strncmp(*v, name, n) && (*v)[n] == '=')
			return true;
	return false;
}

/* Appends the directory @dir (@n bytes) to the list @b, unless it is there or not in the guest. */
static int add_path_dir(struct composer *c, struct buf *b, const char *dir, size_t n)
{
	char path[PATH_MAX];
	int ret;

	if (!n || dir[0] != '/' || n >= sizeof(path))
		return 0;
	memcpy(path, dir, n);
	path[n] = 0;
	if (!cpio_has(c->cpio, path))
		return 0;
	for (size_t i = 0, len; i < b->len; i += len + 1) {
		const u8 *colon = memchr(b->data + i, ':', b->len - i);

		len = colon ? (size_t)(colon - b->data) - i : b->len - i;
		if (len == n && !memcmp(b->data + i, dir, n))
			return 0;
	}
	ret = b->len ? buf_add(b, ":", 1) : 0;
	return ret ? ret : buf_add(b, path, n);
}

/* PATH in the guest: the host's order, then what the host's may lack; only what exists, since
 * every missing directory costs the guest a look-up per command. */
static int spec_path(struct composer *c)
{
	const char *const lists[] = { c->cfg->path ? c->cfg->path : "", SYSTEM_PATH };
	struct buf b = { 0 };
	int ret = 0;

	if (has_env(c->cfg, "PATH"))
		return 0;
	for (size_t i = 0; !ret && i < ARRAY_LEN(lists); i++) {
		for (const char *p = lists[i]; !ret && *p; p += *p == ':') {
			size_t n = strcspn(p, ":");

			ret = add_path_dir(c, &b, p, n);
			p += n;
		}
	}
	if (!ret)
		ret = buf_printf(&c->spec, "env=PATH=%.*s%c", (int)b.len, (char *)b.data, 0);
	buf_fini(&b);
	return ret;
}

/* The rest of the spec; the command's lines are there already. */
static int finish_spec(struct composer *c)
{
	const struct initramfs_cfg *cfg = c->cfg;
	int ret = spec_path(c);

	if (!ret && !has_env(cfg, "HOME"))
		ret = buf_printf(&c->spec, "env=HOME=/root%c", 0);
	if (!ret && !has_env(cfg, "TERM"))
		ret = buf_printf(&c->spec, "env=TERM=vt100%c", 0);
	if (!ret && cfg->ld_library_path && *cfg->ld_library_path &&
	    !has_env(cfg, "LD_LIBRARY_PATH"))
		ret = buf_printf(&c->spec, "env=LD_LIBRARY_PATH=%s%c", cfg->ld_library_path, 0);
	for (const char *const *v = cfg->env; !ret && v && *v; v++)
		ret = buf_printf(&c->spec, "env=%s%c", *v, 0);
	if (!ret)
		ret = buf_printf(&c->spec, "cwd=%s%c", cfg->cwd ? cfg->cwd : "/", 0);
	if (!ret)
		ret = buf_printf(&c->spec, "host=%s%c", cfg->hostname ? cfg->hostname : "orrery",
				 0);
	if (!ret && cfg->port)
		ret = buf_printf(&c->spec, "port=%s%c", cfg->port, 0);
	if (!ret && cfg->port && cfg->vport)
		ret = buf_printf(&c->spec, "vport=%s%c", cfg->vport, 0);
	if (!ret && cfg->console)
		ret = buf_printf(&c->spec, "console=%s%c", cfg->console, 0);
	if (!ret && cfg->stdin_null)
		ret = buf_printf(&c->spec, "stdin=null%c", 0);
	if (!ret && cfg->tty)
		ret = buf_printf(&c->spec, "tty=%ux%u%c", MIN(cfg->rows, 65535u),
				 MIN(cfg->cols, 65535u), 0);
	return ret ? ret
		   : cpio_file(c->cpio, WIRE_SPEC_FILE, 0644, c->spec.data, c->spec.len, c->e);
}

static int compose(struct composer *c, struct initramfs_sizes *s)
{
	const struct initramfs_cfg *cfg = c->cfg;
	u64 at, begin = cpio_size(c->cpio);
	int ret;

	if (cfg->cwd && cfg->cwd[0] != '/')
		return err_set(c->e, -EINVAL, "the working directory %s is not absolute", cfg->cwd);
	ret = open_busybox(c);
	if (!ret)
		ret = buf_printf(&c->spec, "%s%c", WIRE_SPEC_MAGIC, 0);
	if (!ret)
		ret = add_layout(c);
	s->base = cpio_size(c->cpio) - begin;
	at = cpio_size(c->cpio);
	if (!ret)
		ret = add_command(c);
	s->command = cpio_size(c->cpio) - at;
	at = cpio_size(c->cpio);
	for (size_t i = 0; !ret && i < cfg->n_include; i++)
		ret = add_include(c, &cfg->include[i]);
	s->include = cpio_size(c->cpio) - at;
	at = cpio_size(c->cpio);
	if (!ret)
		ret = add_modules(c);
	s->modules = cpio_size(c->cpio) - at;
	at = cpio_size(c->cpio);
	if (!ret)
		ret = cpio_file(c->cpio, "/init", 0755, guest_init, guest_init_len, c->e);
	if (!ret)
		ret = add_busybox(c);
	if (!ret)
		ret = add_etc(c);
	if (!ret)
		ret = finish_spec(c);
	if (!ret && c->cfg->setup)
		ret = cpio_file(c->cpio, WIRE_SETUP_FILE, 0644, c->cfg->setup, c->cfg->setup_len,
				c->e);
	s->base += cpio_size(c->cpio) - at;
	return ret;
}

int initramfs_compose(const struct initramfs_cfg *cfg, struct err *e,
		      struct initramfs_sizes *ret_sizes, struct buf *ret_buf)
{
	struct err local = { 0 };
	struct composer c = { .cfg = cfg, .e = e ? e : &local };
	struct initramfs_sizes s = { 0 };
	size_t start = ret_buf->len;
	int ret;

	c.env = (struct closure_env){ .path = cfg->path, .ld_library_path = cfg->ld_library_path };
	ret = cpio_new(&c.cpio);
	if (!ret)
		ret = compose(&c, &s);
	if (!ret)
		ret = cpio_write(c.cpio, c.e, ret_buf);
	if (ret == -ENOMEM)
		err_sys(c.e, ret, "cannot compose the initramfs");
	if (!ret && ret_sizes) {
		s.total = ret_buf->len - start;
		*ret_sizes = s;
	}
	cpio_free(c.cpio);
	buf_fini(&c.spec);
	free(c.applets);
	free(c.busybox);
	return ret;
}
