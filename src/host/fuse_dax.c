// SPDX-License-Identifier: Apache-2.0
/*
 * fuse_dax.c - mapping files into the window (SETUPMAPPING, REMOVEMAPPING)
 *
 * How it works
 * The window is memory that the client sees; a mapping puts pages of a file over a part of it, so
 * that the client reads and writes the host's page cache. Ranges are page-aligned, within the
 * window, and disjoint, but the very range of a mapping may be mapped again: that is how Linux
 * turns one for reading into one for writing. Where nothing is mapped there are zeros.
 *
 * For reading a mapping is private, so that a client which writes all the same changes nothing but
 * a copy of its own: the memory must stay writable, or its write would be our fault.
 *
 * The table and the memory change together, under the lock.
 */
#include "host/fuse_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE_MASK 4095u
#define GROW 64u
#define MAPPINGS_MAX 8192u /* the host has a limit for the process: vm.max_map_count */

/* The first mapping that ends behind @off. */
static u32 find(const struct fuse *f, u64 off)
{
	u32 lo = 0, hi = f->n_map;

	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (f->map[mid].off + f->map[mid].len <= off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void touched(struct freq *q, u64 off, u64 len)
{
	struct fuse_req *r = q->r;

	r->map_lo = r->map_hi ? MIN(r->map_lo, off) : off;
	r->map_hi = MAX(r->map_hi, off + len);
}

static int unmap(struct fuse *f, u64 off, u64 len)
{
	void *p = mmap(f->cfg.window + off, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

	return p == MAP_FAILED ? -errno : 0;
}

bool fuse_unmap_all(struct fuse *f)
{
	bool some;

	pthread_mutex_lock(&f->lock);
	some = f->n_map;
	if (some)
		(void)!unmap(f, 0, f->cfg.window_len);
	f->n_map = 0;
	pthread_mutex_unlock(&f->lock);
	return some;
}

static void forget(struct fuse *f, u32 i)
{
	f->n_map--;
	memmove(&f->map[i], &f->map[i + 1], (f->n_map - i) * sizeof(f->map[0]));
}

static int map_locked(struct fuse *f, const struct fuse_setupmapping_in *in, int fd)
{
	bool write = in->flags & FUSE_SETUPMAPPING_FLAG_WRITE;
	u32 i = find(f, in->moffset);
	bool again = i < f->n_map && f->map[i].off == in->moffset && f->map[i].len == in->len;
	void *p;

	if (!again && i < f->n_map && f->map[i].off < in->moffset + in->len)
		return -EEXIST;
	if (!again && f->n_map == f->map_cap) {
		u32 cap = f->map_cap + GROW;
		struct fuse_mapping *map =
			cap <= MAPPINGS_MAX ? realloc(f->map, cap * sizeof(*map)) : NULL;

		if (!map)
			return -ENOMEM;
		f->map = map;
		f->map_cap = cap;
	}
	p = mmap(f->cfg.window + in->moffset, in->len, PROT_READ | PROT_WRITE,
		 MAP_FIXED | (write ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE), fd,
		 (off_t)in->foffset);
	if (p == MAP_FAILED) {
		int r = errno == EINVAL || errno == EACCES ? -errno : -EIO;

		/* What lay there may be gone: the window must have no hole. */
		(void)!unmap(f, in->moffset, in->len);
		if (again)
			forget(f, i);
		return r;
	}
	if (!again) {
		memmove(&f->map[i + 1], &f->map[i], (f->n_map - i) * sizeof(f->map[0]));
		f->map[i] = (struct fuse_mapping){ .off = in->moffset, .len = in->len };
		f->n_map++;
	}
	f->stat.setups++;
	f->stat.setup_bytes += in->len;
	return 0;
}

/* A descriptor to map from, owned by the caller. */
static int mapping_fd(struct freq *q, const struct fuse_setupmapping_in *in)
{
	bool write = in->flags & FUSE_SETUPMAPPING_FLAG_WRITE;
	struct fhandle *h;
	int fd;

	if (q->node->type != S_IFREG)
		return -EINVAL;
	/* Linux maps by node. Anew, so that the mapping has the mode it needs. */
	if (in->fh == UINT64_MAX)
		return fuse_reopen(q->f, q->node, write ? O_RDWR : O_RDONLY, 0);
	if (fuse_fh_get(q->f, in->fh, &h) < 0)
		return -EBADF;
	fd = h->dir || h->node != q->node ? -EBADF : fcntl(h->fd, F_DUPFD_CLOEXEC, 0);
	if (fd == -1)
		fd = -errno;
	fuse_fh_put(q->f, h);
	return fd;
}

static bool fits(const struct fuse *f, u64 off, u64 len)
{
	u64 end;

	return !((off | len) & PAGE_MASK) && len && !__builtin_add_overflow(off, len, &end) &&
	       end <= f->cfg.window_len;
}

int fuse_do_setupmapping(struct freq *q)
{
	struct fuse *f = q->f;
	struct fuse_setupmapping_in in;
	int r, fd;

	if (!f->cfg.window_len)
		return -ENOSYS;
	r = freq_arg(q, &in, sizeof(in), sizeof(in));
	if (r < 0)
		return r;
	if (!fits(f, in.moffset, in.len) || (in.foffset & PAGE_MASK) ||
	    in.foffset > INT64_MAX - in.len)
		return -EINVAL;
	if (f->cfg.ro && (in.flags & FUSE_SETUPMAPPING_FLAG_WRITE))
		return -EROFS;
	fd = mapping_fd(q, &in);
	if (fd < 0)
		return fd;
	pthread_mutex_lock(&f->lock);
	r = map_locked(f, &in, fd);
	pthread_mutex_unlock(&f->lock);
	close(fd);
	/* A failure may have taken away what lay there. */
	touched(q, in.moffset, in.len);
	return r;
}

static int remove_one(struct freq *q, const struct fuse_removemapping_one *one)
{
	struct fuse *f = q->f;
	u32 i = find(f, one->moffset);
	int r;

	if (i == f->n_map || f->map[i].off != one->moffset)
		return -ENOENT;
	if (f->map[i].len != one->len)
		return -EINVAL;
	r = unmap(f, one->moffset, one->len);
	if (r < 0)
		return -EIO;
	forget(f, i);
	f->stat.removes++;
	touched(q, one->moffset, one->len);
	return 0;
}

int fuse_do_removemapping(struct freq *q)
{
	struct fuse_removemapping_in in;
	struct fuse_removemapping_one one;
	int r;

	if (!q->f->cfg.window_len)
		return -ENOSYS;
	r = freq_arg(q, &in, sizeof(in), sizeof(in));
	/* Bounded by the request's length; the first failure ends the list. */
	for (u32 i = 0; r == 0 && i < in.count; i++) {
		r = freq_arg(q, &one, sizeof(one), sizeof(one));
		if (r < 0)
			break;
		pthread_mutex_lock(&q->f->lock);
		r = remove_one(q, &one);
		pthread_mutex_unlock(&q->f->lock);
	}
	return r;
}
