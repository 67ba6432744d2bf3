// SPDX-License-Identifier: Apache-2.0
/*
 * disk_cache.c - files that are made once and read many times
 *
 * How it works
 * A file appears under its name by rename, complete and never changed again, so readers take no
 * lock. Whoever wants to make it locks KEY.lock (flock: gone with its holder, however that dies),
 * looks again, makes KEY.tmp and renames it. What a killed maker left is KEY.tmp, and the next one
 * empties it. Waiting is a poll of the lock, twenty times a second: a lock that one can wait for
 * with a time-out would need a signal or a thread.
 *
 * The holder writes its process id into the lock file, for the message of those who wait.
 */
#include "host/disk_cache.h"

#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define POLLS_PER_S 20u

struct entry {
	char *path, *tmp, *lock;
	int lock_fd;
};

static void entry_fini(struct entry *n)
{
	if (n->lock_fd >= 0)
		close(n->lock_fd);
	free(n->path);
	free(n->tmp);
	free(n->lock);
}

static void holder(int fd, char *ret, size_t size)
{
	char text[16];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	long pid;

	text[n > 0 ? n : 0] = 0;
	pid = strtol(text, NULL, 10);
	if (pid > 0)
		snprintf(ret, size, "process %ld", pid);
	else
		snprintf(ret, size, "another process");
}

static int lock(const struct disk_cache_cfg *cfg, int fd, struct err *e)
{
	const struct timespec pause = { .tv_nsec = 1000000000 / POLLS_PER_S };
	char who[48], pid[16];
	int n;

	for (u64 i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_sys(e, -errno, "cannot lock %s in %s", cfg->key, cfg->dir);
		holder(fd, who, sizeof(who));
		if (i == 0 && cfg->waits)
			cfg->waits(cfg->opaque, who);
		if (i >= (u64)cfg->wait_s * POLLS_PER_S)
			return err_set(
				e, -ETIMEDOUT,
				"%s/%s: %s has been making it for %u s; end that process, or "
				"wait for it",
				cfg->dir, cfg->key, who, cfg->wait_s);
		nanosleep(&pause, NULL);
	}
	n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	/* Only for a message. */
	if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)n, 0) < 0)
		errno = 0;
	return 0;
}

static int make_locked(const struct disk_cache_cfg *cfg, const struct entry *n, struct err *e)
{
	int fd = open(n->tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666), r;

	if (fd < 0)
		return err_sys(e, -errno, "cannot make %s", n->tmp);
	r = cfg->make(cfg->opaque, n->tmp, e);
	/* Complete on the disk before it has the name: a power failure leaves all or nothing. */
	if (r == 0 && (fsync(fd) < 0 || fchmod(fd, 0444) < 0 || rename(n->tmp, n->path) < 0))
		r = err_sys(e, -errno, "cannot make %s", n->path);
	if (r < 0)
		unlink(n->tmp);
	close(fd);
	return r;
}

int disk_cache_get(const struct disk_cache_cfg *cfg, struct err *e, char **ret_path)
{
	struct entry n = { .lock_fd = -1 };
	int r = 0;

	if (asprintf(&n.path, "%s/%s", cfg->dir, cfg->key) < 0)
		n.path = NULL;
	if (asprintf(&n.tmp, "%s/%s.tmp", cfg->dir, cfg->key) < 0)
		n.tmp = NULL;
	if (asprintf(&n.lock, "%s/%s.lock", cfg->dir, cfg->key) < 0)
		n.lock = NULL;
	if (!n.path || !n.tmp || !n.lock) {
		r = err_set(e, -ENOMEM, "out of memory");
		goto out;
	}
	if (access(n.path, R_OK) == 0)
		goto out;
	r = path_make_dirs(cfg->dir);
	if (r == 0) {
		n.lock_fd = open(n.lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
		r = n.lock_fd < 0 ? -errno : 0;
	}
	if (r < 0) {
		err_sys(e, r, "cannot write the cache %s (XDG_CACHE_HOME chooses another place)",
			cfg->dir);
		goto out;
	}
	r = lock(cfg, n.lock_fd, e);
	if (r == 0 && access(n.path, R_OK) < 0)
		r = make_locked(cfg, &n, e);
out:
	if (r == 0) {
		*ret_path = n.path;
		n.path = NULL;
	}
	entry_fini(&n);
	return r;
}
