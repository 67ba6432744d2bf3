// SPDX-License-Identifier: Apache-2.0
/*
 * sandbox_root.c - which files may still be reached, where the kernel has no Landlock: a mount namespace
 *
 * How it works
 * The process gets a mount namespace of its own while it is still an ordinary one. In it a small file
 * system in memory is mounted over a directory that nobody looks into, and the places that the running
 * guest needs are bound there by their own names, and /proc, which is how descriptors are opened again.
 * Everything else goes on to see the host's files, until sandbox_root_enter makes that mount the root and lets go
 * of the old one. That is for all threads at once, since they share one root.
 *
 * A descriptor of a directory leads out by "..". So those that were given are replaced, under their
 * numbers, by ones of the bound directories, above which there is the new root only.
 *
 * It takes CAP_SYS_ADMIN. Others could have it in a user namespace, but there all users but one are
 * nobody: owners of shared files and the peers of the control socket would not be who they are.
 * What Landlock refuses and this does not: to open by handle files of the same file system, and to do more
 * with the other files of a directory from which one is to be removed.
 */
#include "vm/sandbox_priv.h"

#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Where the new root is until it is one: directories that no part of Orrery reads by then. */
static const char *const bases[] = { "/proc/driver", "/sys/firmware", "/mnt" };

#define PROC "/proc"
#define PLAIN (MS_NOSUID | MS_NODEV | MS_NOEXEC)

struct place {
	char path[PATH_MAX];
	int fd; /* -1: of nobody */
	enum sandbox_access access;
};

static const char *base;

static int negative(int r)
{
	return r < 0 ? -errno : 0;
}

static int make_base(void)
{
	int r = negative(unshare(CLONE_NEWNS));

	/* What is mounted here must not appear outside. */
	if (r == 0)
		r = negative(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	if (r < 0)
		return r;
	for (unsigned i = 0; i < ARRAY_LEN(bases); i++) {
		r = negative(mount("orrery", bases[i], "tmpfs", PLAIN, "mode=0755,size=256k"));
		if (r == 0) {
			base = bases[i];
			return 0;
		}
	}
	return r;
}

/* The place itself in the new root: what is mounted on needs to be there. */
static int make_target(const char *target, bool dir)
{
	char parent[2 * PATH_MAX];
	int fd, r;

	if (dir)
		return path_make_dirs(target);
	snprintf(parent, sizeof(parent), "%s", target);
	*strrchr(parent, '/') = 0;
	r = path_make_dirs(parent);
	if (r < 0)
		return r;
	fd = open(target, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0)
		close(fd);
	return negative(fd);
}

/* @fd becomes a descriptor of what is bound at @target, which must be the same file. */
static int replace(int fd, const char *target)
{
	int new = open(target, O_PATH | O_CLOEXEC | O_NOFOLLOW), r;
	struct stat a, b;

	if (new < 0)
		return -errno;
	r = negative(fstat(fd, &a) < 0 || fstat(new, &b) < 0 ? -1 : 0);
	if (r == 0 && (a.st_dev != b.st_dev || a.st_ino != b.st_ino))
		r = -ESTALE; /* moved since it was opened */
	if (r == 0)
		r = negative(dup3(new, fd, O_CLOEXEC));
	close(new);
	return r;
}

static int bind_place(const struct place *p)
{
	char target[2 * PATH_MAX];
	struct stat st;
	int r;

	snprintf(target, sizeof(target), "%s%s", base, strcmp(p->path, "/") ? p->path : "");
	r = negative(stat(p->path, &st));
	if (r == 0)
		r = make_target(target, S_ISDIR(st.st_mode));
	if (r == 0)
		r = negative(mount(p->path, target, NULL,
				   MS_BIND | (p->fd >= 0 && S_ISDIR(st.st_mode) ? MS_REC : 0),
				   NULL));
	/* On its own: flags of a bind are not looked at. Mounts below are read-only by the filter of calls. */
	if (r == 0 && p->access == SANDBOX_READ)
		r = negative(mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID,
				   NULL));
	return r == 0 && p->fd >= 0 ? replace(p->fd, target) : r;
}

/* What is above before what is below it, which would be hidden otherwise. */
static int by_length(const void *a, const void *b)
{
	size_t x = strlen(((const struct place *)a)->path),
	       y = strlen(((const struct place *)b)->path);

	return x < y ? -1 : x > y;
}

int sandbox_root_new(const struct sandbox_path *paths, unsigned n)
{
	struct place *p = calloc(n + 1, sizeof(*p));
	int r = p ? make_base() : -ENOMEM;

	for (unsigned i = 0; r == 0 && i < n; i++) {
		char link[32];
		ssize_t len;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", paths[i].fd);
		len = readlink(link, p[i].path, sizeof(p[i].path) - 1);
		r = len < 0 ? -errno : len >= PATH_MAX - 1 ? -ENAMETOOLONG : 0;
		p[i].fd = paths[i].fd;
		p[i].access = paths[i].access;
	}
	if (r == 0) {
		p[n] = (struct place){ .path = PROC, .fd = -1, .access = SANDBOX_CHANGE };
		qsort(p, n + 1, sizeof(*p), by_length);
	}
	for (unsigned i = 0; r == 0 && i <= n; i++)
		r = bind_place(&p[i]);
	if (r == 0)
		r = negative(
			mount(NULL, base, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | PLAIN, NULL));
	free(p);
	return r;
}

int sandbox_root_enter(void)
{
	if (chdir(base) < 0)
		return -errno;
	/* pivot_root(2), NOTES: with both the same, the old root lies over the new one, and is taken off. */
	if (syscall(SYS_pivot_root, ".", ".") == 0)
		return negative(umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ? -1 : 0);
	/* An initial RAM file system cannot be let go of. */
	return negative(chroot(".") < 0 || chdir("/") < 0 ? -1 : 0);
}
