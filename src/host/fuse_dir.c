// SPDX-License-Identifier: Apache-2.0
/*
 * fuse_dir.c - reading directories
 *
 * How it works
 * A directory is read as a whole when its reading begins, and again whenever it begins anew at
 * offset 0; the offset of an entry is its place. So a client that removes files while it reads
 * misses none and meets none twice, whatever the host's file system does with its offsets, and no
 * descriptor is kept. What all open directories cost is bounded: FUSE_DIRS_BYTES.
 *
 * Under cfg.exact the names are sorted first: their order on disk depends on hash keys and history.
 */
#include "host/fuse_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct reading {
	struct fdirent *ent;
	u32 n, cap;
	char *names;
	size_t len, names_cap;
	size_t budget;
};

static int add_entry(struct reading *d, const char *name, u64 ino, u8 type)
{
	size_t n = strlen(name) + 1;

	if (d->n == d->cap) {
		u32 cap = d->cap ? 2 * d->cap : 64;
		struct fdirent *ent = realloc(d->ent, cap * sizeof(*ent));

		if (!ent)
			return -ENOMEM;
		d->ent = ent;
		d->cap = cap;
	}
	if (d->len + n > d->names_cap) {
		size_t cap = MAX(2 * d->names_cap, (size_t)4096);
		char *names = realloc(d->names, cap);

		if (!names)
			return -ENOMEM;
		d->names = names;
		d->names_cap = cap;
	}
	if (d->cap * sizeof(*d->ent) + d->names_cap > d->budget)
		return -ENOMEM;
	memcpy(d->names + d->len, name, n);
	d->ent[d->n++] = (struct fdirent){ .ino = ino, .name = (u32)d->len, .type = type };
	d->len += n;
	return 0;
}

static int by_name(const void *a, const void *b, void *names)
{
	const struct fdirent *x = a, *y = b;

	return strcmp((char *)names + x->name, (char *)names + y->name);
}

static int read_names(struct reading *d, int fd)
{
	DIR *dir = fdopendir(fd);
	struct dirent *ent;
	int r = 0;

	if (!dir) {
		r = -errno;
		close(fd);
		return r;
	}
	while (r == 0 && (errno = 0, ent = readdir(dir)))
		if (strcmp(ent->d_name, ".") && strcmp(ent->d_name, ".."))
			r = add_entry(d, ent->d_name, ent->d_ino, ent->d_type);
	if (r == 0 && errno)
		r = -errno;
	closedir(dir);
	return r;
}

/* Under h->lock. */
static int read_whole(struct freq *q, struct fhandle *h)
{
	struct fuse *f = q->f;
	struct reading d = { 0 };
	size_t bytes;
	int fd, r;

	pthread_mutex_lock(&f->lock);
	d.budget = FUSE_DIRS_BYTES - MIN(f->dirs_bytes - h->bytes, (size_t)FUSE_DIRS_BYTES);
	pthread_mutex_unlock(&f->lock);
	/* Of the directory above the client knows more than we do. */
	r = add_entry(&d, ".", h->node->ino, DT_DIR);
	if (r == 0)
		r = add_entry(&d, "..", h->node->ino, DT_DIR);
	if (r == 0 && !h->node->hollow) {
		fd = fuse_reopen(f, h->node, O_RDONLY, 0);
		r = fd < 0 ? fd : read_names(&d, fd);
	}
	if (r < 0) {
		free(d.ent);
		free(d.names);
		return r;
	}
	if (f->cfg.exact)
		qsort_r(d.ent, d.n, sizeof(*d.ent), by_name, d.names);
	for (u32 i = 0; i < d.n; i++)
		d.ent[i].ino = fuse_shown(f, h->node->dev, d.ent[i].ino);
	bytes = d.cap * sizeof(*d.ent) + d.names_cap;
	pthread_mutex_lock(&f->lock);
	f->dirs_bytes += bytes - h->bytes;
	pthread_mutex_unlock(&f->lock);
	free(h->ent);
	free(h->names);
	h->ent = d.ent;
	h->n_ent = d.n;
	h->names = d.names;
	h->bytes = bytes;
	h->read = true;
	return 0;
}

/* --- replies ---------------------------------------------------------------------------------- */

static int put_dirent(struct freq *q, const struct fhandle *h, u32 i)
{
	static const u8 zeros[8];
	const char *name = h->names + h->ent[i].name;
	struct fuse_dirent d = { .ino = h->ent[i].ino,
				 .off = i + 1,
				 .namelen = (u32)strlen(name),
				 .type = h->ent[i].type };
	int r = freq_put(q, &d, FUSE_NAME_OFFSET);

	if (r == 0)
		r = freq_put(q, name, d.namelen);
	if (r == 0)
		r = freq_put(q, zeros, FUSE_DIRENT_SIZE(&d) - FUSE_NAME_OFFSET - d.namelen);
	return r;
}

/* The entry of READDIRPLUS: a look-up. A name that is gone, or is no one's, has node 0. */
static int put_plus(struct freq *q, const struct fhandle *h, u32 i)
{
	const char *name = h->names + h->ent[i].name;
	struct fuse_entry_out o = { 0 };
	struct fnode *n;
	struct statx st;

	if (strcmp(name, ".") && strcmp(name, "..") &&
	    fuse_node_look(q->f, h->node, name, false, &n, &st) == 0) {
		fuse_fill_entry(q->f, n, &st, &o);
		/* The number shown here and there must agree, on a mount point too. */
		h->ent[i].ino = n->shown;
		fuse_node_put(q->f, n);
	}
	return freq_put(q, &o, sizeof(o));
}

static int read_dir(struct freq *q, bool plus)
{
	struct fhandle *h = q->fh;
	struct fuse_read_in in;
	size_t room;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	if (r < 0)
		return r;
	room = MIN(q->room, (size_t)in.size);
	pthread_mutex_lock(&h->lock);
	if (!h->read || in.offset == 0)
		r = read_whole(q, h);
	for (u64 i = in.offset; r == 0 && i < h->n_ent; i++) {
		size_t size = FUSE_REC_ALIGN(FUSE_NAME_OFFSET + strlen(h->names + h->ent[i].name));

		if (plus)
			size += sizeof(struct fuse_entry_out);
		if (size > room - q->len) {
			/* Nothing at all would be the end of the directory. */
			r = q->len ? 0 : -EINVAL;
			break;
		}
		if (plus)
			r = put_plus(q, h, (u32)i);
		if (r == 0)
			r = put_dirent(q, h, (u32)i);
	}
	pthread_mutex_unlock(&h->lock);
	return r;
}

int fuse_do_readdir(struct freq *q)
{
	return read_dir(q, false);
}

int fuse_do_readdirplus(struct freq *q)
{
	return read_dir(q, true);
}

int fuse_do_opendir(struct freq *q)
{
	struct fuse_open_out o = { .open_flags = q->f->cfg.cached
							 ? FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR
							 : 0 };
	struct fhandle *h;
	int r = q->node->type == S_IFDIR ? 0 : -ENOTDIR, fd;

	/* Who may not read it hears it now. */
	if (r == 0 && !q->node->hollow) {
		fd = fuse_reopen(q->f, q->node, O_RDONLY, 0);
		if (fd < 0)
			return fd;
		close(fd);
	}
	if (r == 0)
		r = fuse_fh_new(q->f, q->node, -1, true, &o.fh);
	if (r < 0)
		return r;
	r = freq_put(q, &o, sizeof(o));
	if (r < 0 && fuse_fh_get(q->f, o.fh, &h) == 0) {
		fuse_fh_close(q->f, h);
		fuse_fh_put(q->f, h);
	}
	return r;
}

int fuse_do_releasedir(struct freq *q)
{
	fuse_fh_close(q->f, q->fh);
	return 0;
}

int fuse_do_fsyncdir(struct freq *q)
{
	int fd, r;

	if (q->f->cfg.ro || q->node->hollow)
		return 0;
	fd = fuse_reopen(q->f, q->node, O_RDONLY, 0);
	if (fd < 0)
		return fd;
	r = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return r;
}
