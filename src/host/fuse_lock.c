// SPDX-License-Identifier: Apache-2.0
/*
 * fuse_lock.c - POSIX and flock locks, against the client's own processes and the host's
 *
 * How it works
 * flock(2) locks belong to an open file: they are taken on the handle's descriptor. POSIX locks
 * belong to a process, which the client names by a number, the owner. For each owner of locks on
 * a node there is a descriptor of its own with open-file-description locks (fcntl(2)), which have
 * the same ranges and conflicts; closing it drops them all, as a process's close(2) does (FLUSH).
 *
 * A lock that must be waited for would keep a worker as long as the client likes. So none waits:
 * the request is given back as blocked, and whoever serves it tries again later.
 */
#include "host/fuse_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#define LOCKERS_MAX 1024u /* or an eighth of the descriptors, which is not counted among them */

struct fuse_locker {
	struct fuse_locker *next;
	u64 owner;
	int fd;
};

static void end_locker(struct fuse *f, struct fuse_locker **at)
{
	struct fuse_locker *l = *at;

	*at = l->next;
	close(l->fd);
	free(l);
	f->n_lockers--;
}

void fuse_lockers_drop_locked(struct fuse *f, struct fnode *n)
{
	while (n->lockers)
		end_locker(f, &n->lockers);
}

void fuse_locker_end(struct fuse *f, struct fnode *n, u64 owner)
{
	pthread_mutex_lock(&f->lock);
	for (struct fuse_locker **at = &n->lockers; *at; at = &(*at)->next)
		if ((*at)->owner == owner) {
			end_locker(f, at);
			break;
		}
	pthread_mutex_unlock(&f->lock);
}

/* For both kinds of lock the descriptor must be open for reading and for writing. */
static int open_for_locks(struct fuse *f, const struct fnode *n)
{
	int fd = f->cfg.ro ? -EROFS : fuse_reopen(f, n, O_RDWR, 0);

	return fd < 0 ? fuse_reopen(f, n, O_RDONLY, 0) : fd;
}

/* The descriptor of @owner's locks, made if need be; or negative errno. Under f->lock. */
static int locker_fd(struct fuse *f, struct fnode *n, u64 owner)
{
	struct fuse_locker *l = n->lockers;
	int fd;

	while (l && l->owner != owner)
		l = l->next;
	if (l)
		return l->fd;
	if (f->n_lockers >= MIN(LOCKERS_MAX, f->cfg.fds / 8))
		return -ENOLCK;
	fd = open_for_locks(f, n);
	if (fd < 0)
		return fd;
	l = malloc(sizeof(*l));
	if (!l) {
		close(fd);
		return -ENOMEM;
	}
	*l = (struct fuse_locker){ .next = n->lockers, .owner = owner, .fd = fd };
	n->lockers = l;
	f->n_lockers++;
	return fd;
}

static int to_flock(const struct fuse_file_lock *lk, struct flock *ret)
{
	/* An end of OFFSET_MAX is "whatever follows", which fcntl(2) calls length 0. */
	if (lk->start > INT64_MAX || lk->end < lk->start ||
	    (lk->type != F_RDLCK && lk->type != F_WRLCK && lk->type != F_UNLCK))
		return -EINVAL;
	*ret = (struct flock){ .l_type = (short)lk->type,
			       .l_whence = SEEK_SET,
			       .l_start = (off_t)lk->start };
	if (lk->end < INT64_MAX)
		ret->l_len = (off_t)(lk->end - lk->start + 1);
	return 0;
}

/* fcntl(2) on the owner's descriptor: these commands do not wait. */
static int command(struct freq *q, const struct fuse_lk_in *in, int cmd, struct flock *fl)
{
	int fd, r = 0;

	pthread_mutex_lock(&q->f->lock);
	fd = locker_fd(q->f, q->node, in->owner);
	if (fd < 0)
		r = fd;
	else if (fcntl(fd, cmd, fl) < 0)
		r = errno == EACCES ? -EAGAIN : -errno;
	pthread_mutex_unlock(&q->f->lock);
	return r;
}

int fuse_do_getlk(struct freq *q)
{
	struct fuse_lk_out o = { 0 };
	struct fuse_lk_in in;
	struct flock fl;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	if (r == 0)
		r = to_flock(&in.lk, &fl);
	if (r == 0)
		r = command(q, &in, F_OFD_GETLK, &fl);
	if (r < 0)
		return r;
	o.lk.type = (u32)fl.l_type;
	if (fl.l_type != F_UNLCK) {
		o.lk.start = (u64)fl.l_start;
		o.lk.end = fl.l_len ? (u64)(fl.l_start + fl.l_len - 1) : (u64)INT64_MAX;
	}
	return freq_put(q, &o, sizeof(o));
}

static int set_flock(struct freq *q, const struct fuse_lk_in *in)
{
	int op = in->lk.type == F_RDLCK	  ? LOCK_SH
		 : in->lk.type == F_WRLCK ? LOCK_EX
		 : in->lk.type == F_UNLCK ? LOCK_UN
					  : -1;

	if (op < 0)
		return -EINVAL;
	return flock(q->fh->fd, op | LOCK_NB) < 0 ? -errno : 0;
}

int fuse_do_setlk(struct freq *q)
{
	struct fuse_lk_in in;
	struct flock fl;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	if (r < 0)
		return r;
	if (in.lk_flags & FUSE_LK_FLOCK) {
		r = set_flock(q, &in);
	} else {
		r = to_flock(&in.lk, &fl);
		if (r == 0)
			r = command(q, &in, F_OFD_SETLK, &fl);
	}
	if (r == -EAGAIN && q->h.opcode == FUSE_SETLKW)
		q->r->blocked = true;
	return r;
}
