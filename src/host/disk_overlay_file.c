// SPDX-License-Identifier: Apache-2.0
/*
 * disk_overlay_file.c - an overlay that lasts: a file that holds what differs from the original
 *
 * How it works
 * The file, all numbers little-endian:
 *
 *	0	header: struct head, zeros up to 4096
 *	4096	bitmap: cluster i is here if bit i % 8 of byte i / 8 is set
 *	data	cluster i at data + 4096 i; a hole where it is not here
 *
 * The bitmap is as long as it must be for the disk's size, up to a multiple of 4096, and data
 * follows at once. So everything follows from the size of the disk, and a header is never used:
 * it is compared with the one that this disk would get. Nothing in the file can lead astray but
 * a bit, and a bit is only a choice between two files.
 *
 * Order. A bit in the file must not precede its cluster. A flush takes the pages of the bitmap that
 * have changed, makes the data durable, writes the pages, and makes them durable: bits that come
 * meanwhile are for the next one. Between flushes the file's bitmap stays as it was: if the
 * monitor or the host dies, writes that were not flushed are gone, as with any disk, and those
 * that were are not. An end in good order flushes.
 *
 * The original must stay as it is. Its time of modification is remembered, and an overlay of one
 * that has changed is refused: half of each would be a file system of neither. (A block device has
 * no such time; there only the size counts.)
 */
#include "host/disk_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD_LEN 4096u
#define VERSION 1u

struct head {
	char magic[8];
	u32 version, cluster;
	u64 size;    /* of the disk */
	u64 data;    /* where clusters begin */
	u64 base_ns; /* when the original was modified, since 1970; 0: a device */
};

_Static_assert(sizeof(struct head) == 40, "no padding");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file's numbers");

static const char magic[8] = { 'O', 'r', 'r', 'O', 'v', 'l', '\r', '\n' };

static u64 map_bytes(u64 size)
{
	u64 clusters = (size + DISK_CLUSTER - 1) / DISK_CLUSTER;

	return ALIGN_UP((clusters + 7) / 8, (u64)DISK_MAP_PAGE);
}

static int head_of(int base, u64 size, struct head *ret)
{
	struct stat st;

	if (fstat(base, &st) < 0)
		return -errno;
	*ret = (struct head){ .version = VERSION,
			      .cluster = DISK_CLUSTER,
			      .size = size,
			      .data = HEAD_LEN + map_bytes(size) };
	memcpy(ret->magic, magic, sizeof(magic));
	if (S_ISREG(st.st_mode))
		ret->base_ns = (u64)st.st_mtim.tv_sec * 1000000000u + (u64)st.st_mtim.tv_nsec;
	return 0;
}

/* --- opening ---------------------------------------------------------------------------------- */

static int none(const char *path, const char *opt, struct err *e)
{
	return err_set(e, -EINVAL,
		       "%s: overlay=%s: this file is no overlay; name one that is not there yet, "
		       "or delete it",
		       opt, path);
}

static int compare(const struct head *want, const struct head *got, const char *path,
		   const char *opt, struct err *e)
{
	if (memcmp(got->magic, magic, sizeof(magic)) != 0)
		return none(path, opt, e);
	if (got->version != want->version || got->cluster != want->cluster)
		return err_set(e, -EINVAL,
			       "%s: overlay=%s: made by another version of Orrery (format %u, not "
			       "%u)",
			       opt, path, got->version, want->version);
	if (got->size != want->size)
		return err_set(
			e, -EINVAL,
			"%s: overlay=%s: it belongs to a disk of %llu bytes, and this one has "
			"%llu",
			opt, path, (unsigned long long)got->size, (unsigned long long)want->size);
	if (got->base_ns != want->base_ns)
		return err_set(
			e, -EINVAL,
			"%s: overlay=%s: the original has changed since the overlay was made; "
			"what is in it is lost, delete it",
			opt, path);
	if (memcmp(want, got, sizeof(*want)) != 0)
		return err_set(e, -EINVAL, "%s: overlay=%s: its header is damaged; delete it", opt,
			       path);
	return 0;
}

/* A file that is empty, or was left in the middle of this. */
static int make(int fd, const struct head *h)
{
	u8 page[HEAD_LEN] = { 0 };
	struct iovec iov = { page, sizeof(page) };
	int r;

	memcpy(page, h, sizeof(*h));
	r = disk_fd_write(fd, 0, &iov, 1, 0, sizeof(page));
	if (r == 0 && fdatasync(fd) < 0)
		r = -errno;
	if (r == 0 && (ftruncate(fd, (off_t)(h->data + h->size)) < 0 || fdatasync(fd) < 0))
		r = -errno;
	return r;
}

static int check_file(int fd, const struct head *h, const char *path, const char *opt,
		      struct err *e)
{
	struct head got;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno, "%s: overlay=%s", opt, path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%s: overlay=%s: not a regular file", opt, path);
	if (st.st_size) {
		struct iovec iov = { &got, sizeof(got) };

		if (disk_fd_read(fd, 0, &iov, 1, 0, sizeof(got)) < 0)
			return none(path, opt, e);
		r = compare(h, &got, path, opt, e);
		if (r < 0)
			return r;
	}
	if ((u64)st.st_size > HEAD_LEN) {
		if ((u64)st.st_size == h->data + h->size)
			return 0;
		return err_set(e, -EINVAL,
			       "%s: overlay=%s: it has %llu bytes and should have %llu: damaged; "
			       "delete it",
			       opt, path, (unsigned long long)st.st_size,
			       (unsigned long long)(h->data + h->size));
	}
	r = make(fd, h);
	return r < 0 ? err_sys(e, r, "%s: overlay=%s: cannot be made", opt, path) : 0;
}

static int open_locked(const char *path, const char *opt, struct err *e)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666), r;

	if (fd < 0)
		return err_sys(e, -errno, "%s: overlay=%s", opt, path);
	if (fcntl(fd, F_OFD_SETLK, &l) == 0 || errno == ENOLCK || errno == EOPNOTSUPP ||
	    errno == EINVAL)
		return fd;
	r = errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
	close(fd);
	return r == -EBUSY ? err_set(e, r, "%s: overlay=%s: in use by another VM, or another disk",
				     opt, path)
			   : err_sys(e, r, "%s: overlay=%s: cannot be locked", opt, path);
}

/* Pages of zeros are not touched: a large disk's bitmap is mostly that. */
static int load_map(struct disk_overlay *o)
{
	static const u8 zero[DISK_MAP_PAGE];
	u8 page[DISK_MAP_PAGE];
	struct iovec iov = { page, sizeof(page) };
	size_t len = MIN(o->map_len, (size_t)map_bytes(o->size));
	int r = 0;

	for (size_t at = 0; r == 0 && at < len; at += DISK_MAP_PAGE) {
		size_t n = MIN(len - at, sizeof(page));

		r = disk_fd_read(o->top, HEAD_LEN + at, &iov, 1, 0, n);
		if (r == 0 && memcmp(page, zero, n) != 0)
			memcpy((u8 *)o->map + at, page, n);
	}
	return r;
}

int disk_overlay_open(const char *path, int base, u64 size, const char *opt, struct err *e,
		      struct disk_overlay **ret)
{
	struct disk_overlay *o;
	struct head h;
	int fd = open_locked(path, opt, e), r;

	if (fd < 0)
		return fd;
	r = head_of(base, size, &h);
	r = r < 0 ? err_sys(e, r, "%s", opt) : check_file(fd, &h, path, opt, e);
	if (r < 0) {
		close(fd);
		return r;
	}
	r = disk_overlay_with(base, size, fd, h.data, &o);
	if (r < 0)
		return err_sys(e, r, "%s: overlay=%s", opt, path);
	r = load_map(o);
	if (r == 0 && !(o->dirty = calloc(o->map_len / DISK_MAP_PAGE + 1, 1)))
		r = -ENOMEM;
	if (r < 0) {
		disk_overlay_free(o);
		return err_sys(e, r, "%s: overlay=%s: cannot be read", opt, path);
	}
	*ret = o;
	return 0;
}

/* --- flush ------------------------------------------------------------------------------------ */

static int write_page(struct disk_overlay *o, size_t i, u64 *words)
{
	size_t n = MIN((size_t)DISK_MAP_PAGE, map_bytes(o->size) - i * DISK_MAP_PAGE);
	struct iovec iov = { words, n };

	return disk_fd_write(o->top, HEAD_LEN + i * DISK_MAP_PAGE, &iov, 1, 0, n);
}

/* Takes the marks away and copies what they stand for: those pages, one behind the other. */
static size_t take_pages(struct disk_overlay *o, u64 *copy, size_t *index, size_t max)
{
	size_t pages = o->map_len / DISK_MAP_PAGE + 1, n = 0, per = DISK_MAP_PAGE / sizeof(u64);

	for (size_t i = 0; i < pages && n < max; i++) {
		if (!__atomic_exchange_n(&o->dirty[i], 0, __ATOMIC_ACQ_REL))
			continue;
		memset(copy + n * per, 0, DISK_MAP_PAGE);
		for (size_t k = 0; k < per && (i * per + k) * sizeof(u64) < o->map_len; k++)
			copy[n * per + k] = __atomic_load_n(&o->map[i * per + k], __ATOMIC_ACQUIRE);
		index[n++] = i;
	}
	return n;
}

static int flush_locked(struct disk_overlay *o)
{
	enum { AT_ONCE = 64 };
	static const size_t per = DISK_MAP_PAGE / sizeof(u64);
	u64 *copy = malloc((size_t)AT_ONCE * DISK_MAP_PAGE);
	size_t index[AT_ONCE], n;
	struct stat st;
	int r = copy ? 0 : -ENOMEM;

	if (r == 0 && fstat(o->top, &st) < 0)
		r = -errno;
	if (r == 0 && (u64)st.st_size < o->at + o->size)
		r = -EIO; /* somebody who ignores locks */
	do {
		n = r == 0 ? take_pages(o, copy, index, AT_ONCE) : 0;
		if (r == 0 && fdatasync(o->top) < 0)
			r = -errno;
		for (size_t i = 0; r == 0 && i < n; i++)
			r = write_page(o, index[i], copy + i * per);
		if (r == 0 && n && fdatasync(o->top) < 0)
			r = -errno;
		/* What failed is still to be done. */
		for (size_t i = 0; r < 0 && i < n; i++)
			__atomic_store_n(&o->dirty[index[i]], 1, __ATOMIC_RELEASE);
	} while (r == 0 && n == AT_ONCE);
	free(copy);
	return r;
}

int disk_overlay_flush(struct disk_overlay *o)
{
	int r;

	pthread_mutex_lock(&o->sync);
	r = flush_locked(o);
	pthread_mutex_unlock(&o->sync);
	return r;
}
