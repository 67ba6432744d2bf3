// SPDX-License-Identifier: Apache-2.0
/*
 * rundir.c - a user's private directory of sockets by which running programs are reached
 *
 * How it works
 * An entry is alive if its socket can be connected to. A socket that is bound but not listening
 * yet, or not any more, would look dead; so it is made under another name and moved to its own
 * when it listens, and whoever looks for the dead, or takes a name, holds a lock (flock on .lock)
 * meanwhile: between seeing that a socket is dead and removing it nobody can have replaced it.
 */
#include "host/rundir.h"

#include "host/unixsock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIR_MAX 60u /* leaves room for a name in a socket's address */
#define SUFFIX ".sock"

bool rundir_name_ok(const char *name)
{
	static const char ok[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t n = strlen(name);

	return n && n <= RUNDIR_NAME_MAX && strspn(name, ok) == n && !strchr("._-", name[0]);
}

/* The directory is ours alone. Others must not even be able to prepare it for us. */
static int check(const char *dir, struct err *e)
{
	struct stat sb;

	if (lstat(dir, &sb) < 0)
		return -errno;
	if (!S_ISDIR(sb.st_mode) || sb.st_uid != geteuid() || (sb.st_mode & 077))
		return err_set(e, -EPERM,
			       "%s must be a directory of your own with mode 0700; remove it, or "
			       "set XDG_RUNTIME_DIR",
			       dir);
	return 0;
}

/* Finds the directory, or makes it. 0; -ENOENT if there is none and @make is false. */
static int find(bool make, struct err *e, char ret[DIR_MAX])
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	const char *base[] = { xdg && xdg[0] == '/' ? xdg : NULL, "/run", "/tmp" };
	int r = -ENOENT;

	for (unsigned i = 0; i < ARRAY_LEN(base); i++) {
		int n;

		if (!base[i])
			continue;
		n = i ? snprintf(ret, DIR_MAX, "%s/orrery-%u", base[i], (unsigned)geteuid())
		      : snprintf(ret, DIR_MAX, "%s/orrery", base[i]);
		if ((unsigned)n >= DIR_MAX)
			return err_set(e, -ENAMETOOLONG,
				       "XDG_RUNTIME_DIR %s: the path is too long for a socket's",
				       base[i]);
		r = check(ret, e);
		if (r == -ENOENT && make)
			r = mkdir(ret, 0700) < 0 ? -errno : check(ret, e);
		if (r == 0 || r == -EPERM || i == 0)
			break;
	}
	if (r < 0 && r != -EPERM && (make || r != -ENOENT))
		return err_sys(e, r, "cannot use the runtime directory %s (XDG_RUNTIME_DIR)", ret);
	return r;
}

int rundir_open(struct err *e)
{
	char dir[DIR_MAX];
	int r = find(true, e, dir), fd;

	if (r < 0)
		return r;
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_sys(e, -errno, "cannot open %s", dir) : fd;
}

static int lock(const char *dir, struct err *e)
{
	char path[DIR_MAX + 8];
	int fd, r;

	snprintf(path, sizeof(path), "%s/.lock", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0 && flock(fd, LOCK_EX) == 0)
		return fd;
	r = err_sys(e, -errno, "cannot lock %s", path);
	if (fd >= 0)
		close(fd);
	return r;
}

/* A connected descriptor; -ECONNREFUSED: its process has ended, and it has been removed. */
static int reach(const char *path)
{
	int fd = unixsock_connect(path);

	if (fd == -ECONNREFUSED)
		unlink(path);
	return fd;
}

static int enter_locked(const char *dir, const char *name, struct rundir_entry *ret, struct err *e)
{
	char temp[sizeof(ret->path)], path[sizeof(ret->path)];
	int fd;

	snprintf(path, sizeof(path), "%s/%s" SUFFIX, dir, name);
	snprintf(temp, sizeof(temp), "%s/.new", dir);
	fd = reach(path);
	/* Only nobody there, or a full queue of somebody, says anything about it. */
	if (fd >= 0 || fd == -EAGAIN) {
		if (fd >= 0)
			close(fd);
		return err_set(e, -EEXIST, "--name %s: a running VM has this name", name);
	}
	unlink(temp);
	fd = unixsock_listen(temp);
	if (fd < 0)
		return err_sys(e, fd, "cannot make the socket %s", path);
	if (rename(temp, path) < 0) {
		int r = err_sys(e, -errno, "cannot make the socket %s", path);

		unlink(temp);
		close(fd);
		return r;
	}
	memcpy(ret->path, path, sizeof(path));
	ret->fd = fd;
	return 0;
}

int rundir_enter(const char *name, struct err *e, struct rundir_entry *ret)
{
	char dir[DIR_MAX];
	int r = find(true, e, dir), held;

	if (r < 0)
		return r;
	held = lock(dir, e);
	if (held < 0)
		return held;
	r = enter_locked(dir, name, ret, e);
	close(held);
	return r;
}

void rundir_leave(struct rundir_entry *r)
{
	if (!r->path[0])
		return;
	/* Before it is closed: nobody can find it dead and replace it in between. */
	unlink(r->path);
	close(r->fd);
	r->path[0] = 0;
}

int rundir_each(bool (*each)(void *opaque, const char *name, pid_t pid, int fd), void *opaque,
		struct err *e)
{
	char dir[DIR_MAX], path[DIR_MAX + 256], name[RUNDIR_NAME_MAX + 1];
	int r = find(false, e, dir), held;
	struct dirent *ent;
	bool found = false;
	pid_t pid;
	uid_t uid;
	DIR *d;

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	held = lock(dir, e);
	if (held < 0)
		return held;
	d = opendir(dir);
	while (d && !found && (ent = readdir(d))) {
		size_t n = strlen(ent->d_name), k = strlen(SUFFIX);
		int fd;

		if (n <= k || n - k > RUNDIR_NAME_MAX || strcmp(ent->d_name + n - k, SUFFIX) != 0)
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)(n - k), ent->d_name);
		snprintf(path, sizeof(path), "%s/%s", dir, ent->d_name);
		fd = reach(path);
		if (fd < 0 || !rundir_name_ok(name))
			continue;
		fcntl(fd, F_SETFL, O_RDWR);
		if (unixsock_peer(fd, &pid, &uid) == 0 && uid == geteuid())
			found = each(opaque, name, pid, fd);
		if (!found)
			close(fd);
	}
	if (d)
		closedir(d);
	close(held);
	return found;
}
