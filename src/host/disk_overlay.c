// SPDX-License-Identifier: Apache-2.0
/*
 * disk_overlay.c - a private copy of a file, of which only what is written takes room
 *
 * How it works
 * Beside the original there is a sparse file without a name and of the same size, the *top*, and
 * a bitmap with one bit for each cluster of 4 KiB: set, the cluster is the top's; clear, it is the
 * original's. A bit is set after its cluster is whole in the top, and never cleared. The offset is
 * the same in both files, so there is no other metadata and nothing to look up. Guests write whole
 * pages, so a cluster of that size is hardly ever copied: only where a write covers a part of one.
 *
 * Requests come from several threads. Two that touch the same bytes may end in any order; two that
 * touch different sectors of one cluster must both survive. So copying a cluster up excludes all
 * other writes (the lock is taken for writing): those before it have set their bits, those after
 * it find the cluster in the top. All others share the lock. A read takes no lock: it sees each
 * bit either way, and both are right while a write is under way.
 *
 * The bitmap is 1/32768 of the disk and is not touched, so not there, where nothing was written.
 *
 * disk_overlay_file.c is about a top that has a name, and stays.
 */
#include "host/disk_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SHIFT DISK_CLUSTER_SHIFT
#define CLUSTER DISK_CLUSTER

static bool is_top(const struct disk_overlay *o, u64 cluster)
{
	return __atomic_load_n(&o->map[cluster / 64], __ATOMIC_ACQUIRE) & BIT(cluster % 64);
}

/* Clusters [@from, @to) are whole in the top. */
static void set_top(struct disk_overlay *o, u64 from, u64 to)
{
	while (from < to) {
		unsigned bit = from % 64;
		u64 n = MIN(to - from, (u64)(64 - bit));
		u64 mask = n == 64 ? UINT64_MAX : (BIT(n) - 1) << bit;

		/* Behind the bit, so that whoever takes the mark away sees the bit. */
		if ((__atomic_fetch_or(&o->map[from / 64], mask, __ATOMIC_RELEASE) & mask) !=
			    mask &&
		    o->dirty)
			__atomic_store_n(&o->dirty[from / 8 / DISK_MAP_PAGE], 1, __ATOMIC_RELEASE);
		from += n;
	}
}

int disk_overlay_read(struct disk_overlay *o, u64 off, const struct iovec *iov, unsigned n,
		      size_t skip, size_t len)
{
	int r = 0;

	while (r == 0 && len) {
		u64 cluster = off >> SHIFT, end = cluster + 1;
		bool top = is_top(o, cluster);
		size_t part;

		while (end << SHIFT < off + len && is_top(o, end) == top)
			end++;
		part = (size_t)MIN((end << SHIFT) - off, (u64)len);
		r = top ? disk_fd_read(o->top, o->at + off, iov, n, skip, part)
			: disk_fd_read(o->base, off, iov, n, skip, part);
		off += part;
		skip += part;
		len -= part;
	}
	return r;
}

/* Makes @cluster the top's. */
static int copy_up(struct disk_overlay *o, u64 cluster)
{
	u8 buf[CLUSTER];
	struct iovec iov = { buf, CLUSTER };
	u64 at = cluster << SHIFT;
	size_t len = (size_t)MIN((u64)CLUSTER, o->size - at);
	int r = 0;

	if (is_top(o, cluster))
		return 0;
	pthread_rwlock_wrlock(&o->lock);
	if (!is_top(o, cluster)) {
		r = disk_fd_read(o->base, at, &iov, 1, 0, len);
		if (r == 0)
			r = disk_fd_write(o->top, o->at + at, &iov, 1, 0, len);
		if (r == 0)
			set_top(o, cluster, cluster + 1);
	}
	pthread_rwlock_unlock(&o->lock);
	return r;
}

/* Where the last cluster, which may be short, ends counts as its end. */
static bool at_end(const struct disk_overlay *o, u64 off)
{
	return off % CLUSTER == 0 || off == o->size;
}

/* Copies up the clusters at both ends of [@off, @end) that it covers in part. */
static int copy_up_ends(struct disk_overlay *o, u64 off, u64 end)
{
	int r = off % CLUSTER ? copy_up(o, off >> SHIFT) : 0;

	return r < 0 || at_end(o, end) ? r : copy_up(o, end >> SHIFT);
}

int disk_overlay_write(struct disk_overlay *o, u64 off, const struct iovec *iov, unsigned n,
		       size_t skip, size_t len)
{
	int r;

	if (!len)
		return 0;
	r = copy_up_ends(o, off, off + len);
	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&o->lock);
	r = disk_fd_write(o->top, o->at + off, iov, n, skip, len);
	if (r == 0)
		set_top(o, off >> SHIFT, (off + len + CLUSTER - 1) >> SHIFT);
	pthread_rwlock_unlock(&o->lock);
	return r;
}

int disk_overlay_zero(struct disk_overlay *o, u64 off, u64 len, bool hint)
{
	u64 end = off + len, from = ALIGN_UP(off, (u64)CLUSTER);
	u64 to = at_end(o, end) ? end : ALIGN_DOWN(end, (u64)CLUSTER);
	int r = 0;

	if (!len || (hint && from >= to))
		return 0;
	if (!hint)
		r = copy_up_ends(o, off, end);
	else
		off = from, end = to;
	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&o->lock);
	r = disk_fd_zero(o->top, o->at + off, end - off, true);
	if (r == 0)
		set_top(o, off >> SHIFT, (end + CLUSTER - 1) >> SHIFT);
	pthread_rwlock_unlock(&o->lock);
	return r;
}

int disk_overlay_with(int base, u64 size, int fd, u64 at, struct disk_overlay **ret)
{
	struct disk_overlay *o = calloc(1, sizeof(*o));
	int r;

	if (!o) {
		close(fd);
		return -ENOMEM;
	}
	o->base = base;
	o->top = fd;
	o->at = at;
	o->size = size;
	pthread_rwlock_init(&o->lock, NULL);
	pthread_mutex_init(&o->sync, NULL);
	o->map_len = (size_t)((size >> SHIFT) / 64 + 1) * sizeof(u64);
	o->map = mmap(NULL, o->map_len, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (o->map == MAP_FAILED) {
		r = -errno;
		disk_overlay_free(o);
		return r;
	}
	*ret = o;
	return 0;
}

int disk_overlay_new(int base, u64 size, struct disk_overlay **ret)
{
	int fd = disk_fd_temp(NULL), r;

	if (fd < 0)
		return fd;
	if (ftruncate(fd, (off_t)size) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return disk_overlay_with(base, size, fd, 0, ret);
}

void disk_overlay_free(struct disk_overlay *o)
{
	if (!o)
		return;
	if (o->map != MAP_FAILED)
		munmap(o->map, o->map_len);
	close(o->top);
	free(o->dirty);
	pthread_mutex_destroy(&o->sync);
	pthread_rwlock_destroy(&o->lock);
	free(o);
}
