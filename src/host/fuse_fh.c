// SPDX-License-Identifier: Apache-2.0
/*
 * fuse_fh.c - handles: files and directories that the client has open
 *
 * A handle's value is its place in a table and a count, so that one that was closed means nothing,
 * and never another file. It lives while a request uses it, after the client has closed it too.
 */
#include "host/fuse_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define GROW 64u

static int free_slot(struct fuse *f, u32 *ret)
{
	u32 cap = MAX(2 * f->fh_cap, GROW);
	struct fhandle **fh;

	if (f->fh_n >= f->cfg.fds / 2)
		return -ENFILE;
	if (f->fh_n == f->fh_cap) {
		fh = realloc(f->fh, cap * sizeof(struct fhandle *));
		if (!fh)
			return -ENOMEM;
		for (u32 i = f->fh_cap; i < cap; i++)
			fh[i] = NULL;
		f->fh = fh;
		f->fh_cap = cap;
	}
	/* From where the last one was found: no look-out over the whole table. */
	for (u32 i = 0; i < f->fh_cap; i++) {
		u32 at = (f->fh_gen + i) % f->fh_cap;

		if (!f->fh[at]) {
			*ret = at;
			return 0;
		}
	}
	return -ENFILE;
}

int fuse_fh_new(struct fuse *f, struct fnode *n, int fd, bool dir, u64 *ret)
{
	struct fhandle *h = calloc(1, sizeof(*h));
	u32 at;
	int r = h ? 0 : -ENOMEM;

	pthread_mutex_lock(&f->lock);
	if (r == 0)
		r = free_slot(f, &at);
	if (r == 0) {
		f->fh_gen++;
		*h = (struct fhandle){ .value = (u64)f->fh_gen << 32 | at,
				       .refs = 1,
				       .dir = dir,
				       .fd = fd,
				       .node = n };
		pthread_mutex_init(&h->lock, NULL);
		n->refs++;
		f->fh[at] = h;
		f->fh_n++;
		*ret = h->value;
	}
	pthread_mutex_unlock(&f->lock);
	if (r < 0)
		free(h);
	return r;
}

int fuse_fh_get(struct fuse *f, u64 value, struct fhandle **ret)
{
	u32 at = (u32)value;
	int r = -EBADF;

	pthread_mutex_lock(&f->lock);
	if (at < f->fh_cap && f->fh[at] && f->fh[at]->value == value) {
		f->fh[at]->refs++;
		*ret = f->fh[at];
		r = 0;
	}
	pthread_mutex_unlock(&f->lock);
	return r;
}

/* Drops a reference under the lock; whether it was the last. */
static bool unref(struct fuse *f, struct fhandle *h)
{
	if (--h->refs)
		return false;
	f->dirs_bytes -= h->bytes;
	f->fh_n--;
	return true;
}

/* Closing may block: not under the lock. */
static void destroy(struct fuse *f, struct fhandle *h)
{
	if (h->fd >= 0)
		close(h->fd);
	fuse_node_put(f, h->node);
	pthread_mutex_destroy(&h->lock);
	free(h->ent);
	free(h->names);
	free(h);
}

void fuse_fh_put(struct fuse *f, struct fhandle *h)
{
	bool last;

	pthread_mutex_lock(&f->lock);
	last = unref(f, h);
	pthread_mutex_unlock(&f->lock);
	if (last)
		destroy(f, h);
}

void fuse_fh_close(struct fuse *f, struct fhandle *h)
{
	bool was;

	pthread_mutex_lock(&f->lock);
	was = h->closed;
	h->closed = true;
	if (!was)
		f->fh[(u32)h->value] = NULL;
	pthread_mutex_unlock(&f->lock);
	if (!was)
		fuse_fh_put(f, h);
}

void fuse_fh_close_all(struct fuse *f)
{
	u32 cap;

	pthread_mutex_lock(&f->lock);
	cap = f->fh_cap;
	pthread_mutex_unlock(&f->lock);
	for (u32 i = 0; i < cap; i++) {
		struct fhandle *h;

		pthread_mutex_lock(&f->lock);
		h = f->fh[i];
		if (h)
			h->refs++;
		pthread_mutex_unlock(&f->lock);
		if (!h)
			continue;
		fuse_fh_close(f, h);
		fuse_fh_put(f, h);
	}
}
