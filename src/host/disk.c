// SPDX-License-Identifier: Apache-2.0
/*
 * disk.c - opens a disk's contents, and passes requests to what keeps them
 *
 * How it works
 * A file is locked by an open-file-description lock on the whole of it: for writing by a disk that
 * writes to it, for reading by all others. So two writers, or a writer under a shared original,
 * refuse each other, in one process as well as in two, and nothing stays locked when its holder is
 * killed. QEMU uses locks of the same kind and is kept out too. A file system without such locks is
 * taken as it is.
 *
 * A copy-on-write disk that is to last has an overlay file (disk_overlay_file.c). Another is a clone by the file system if it can do that, beside the original or
 * where temporary files are; otherwise an overlay of our own. It vanishes with its last descriptor.
 *
 * Programs that ignore locks can make the file shorter. Reads notice by themselves. A write would
 * make the file longer again and hide that data between are lost, so the size is looked at before
 * each (a fraction of what the write costs), and before a flush is called good.
 */
#include "host/disk_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- opening ---------------------------------------------------------------------------------- */

static int open_failed(const struct disk_cfg *c, int r, struct err *e)
{
	if (r == -ENOENT)
		return err_sys(e, r, "%s (truncate -s 1G FILE makes an empty disk)", c->opt);
	if ((r == -EACCES || r == -EPERM || r == -EROFS) && c->mode == DISK_RW &&
	    access(c->path, R_OK) == 0)
		return err_sys(e, r, "%s: cannot be written (it can be read: use ,ro or ,cow)",
			       c->opt);
	return err_sys(e, r, "%s", c->opt);
}

static int lock(const struct disk_cfg *c, int fd, struct err *e)
{
	bool write = c->mode == DISK_RW;
	struct flock l = { .l_type = write ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &l) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return err_set(e, -EBUSY,
			       "%s: in use as the disk of another VM%s, or given twice%s; end that "
			       "one, or make a copy",
			       c->opt, write ? "" : ", which writes to it",
			       write ? "; ,ro or ,cow share it with readers" : "");
	if (errno == ENOLCK || errno == EOPNOTSUPP || errno == EINVAL)
		return 0;
	return err_sys(e, -errno, "%s: cannot be locked", c->opt);
}

static int measure(struct disk *d, const struct disk_cfg *c, struct err *e)
{
	struct stat st;
	u64 size;

	if (fstat(d->fd, &st) < 0)
		return err_sys(e, -errno, "%s", c->opt);
	if (S_ISDIR(st.st_mode))
		return err_set(e, -EISDIR, "%s: a directory; a disk is a file or a block device",
			       c->opt);
	d->device = S_ISBLK(st.st_mode);
	if (!d->device && !S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%s: neither a regular file nor a block device", c->opt);
	size = (u64)st.st_size;
	if (d->device && ioctl(d->fd, BLKGETSIZE64, &size) < 0)
		return err_sys(e, -errno, "%s: cannot get the device's size", c->opt);
	if (!size)
		return err_set(e, -EINVAL,
			       "%s: the file is empty; truncate -s 1G FILE gives it a "
			       "size",
			       c->opt);
	if (size % DISK_SECTOR)
		return err_set(e, -EINVAL,
			       "%s: its size of %llu bytes is not a multiple of %u, a sector; "
			       "truncate -s %%%u FILE rounds it up",
			       c->opt, (unsigned long long)size, DISK_SECTOR, DISK_SECTOR);
	d->size = size;
	return 0;
}

/* The directory of @path, owned. */
static char *dir_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return strdup(".");
	return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

/* A clone of the file in @dir: its descriptor, or a negative errno where that cannot be done. */
static int clone_in(const struct disk *d, const char *dir)
{
	int fd = disk_fd_temp(dir);

	if (fd < 0 || ioctl(fd, FICLONE, d->fd) == 0)
		return fd;
	close(fd);
	return -EOPNOTSUPP;
}

static int make_copy(struct disk *d, const struct disk_cfg *c, struct err *e)
{
	if (c->overlay) {
		d->kind = DISK_OVERLAY;
		return disk_overlay_open(c->overlay, d->fd, d->size, c->opt, e, &d->top);
	}

	char *dir = d->device ? NULL : dir_of(c->path);
	int fd = dir ? clone_in(d, dir) : -EOPNOTSUPP, r;

	if (fd < 0 && !d->device)
		fd = clone_in(d, NULL);
	free(dir);
	if (fd >= 0) {
		close(d->fd);
		d->fd = fd;
		d->kind = DISK_REFLINK;
		return 0;
	}
	d->kind = DISK_OVERLAY;
	r = disk_overlay_new(d->fd, d->size, &d->top);
	return r < 0 ? err_sys(e, r,
			       "%s: cannot make a temporary file for what is written (TMPDIR says "
			       "where)",
			       c->opt)
		     : 0;
}

static int open_file(struct disk *d, const struct disk_cfg *c, struct err *e)
{
	int flags = c->mode == DISK_RW ? O_RDWR : O_RDONLY, r;

	/* Not to wait for the other end of a pipe: it is refused anyway. */
	d->fd = open(c->path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (d->fd < 0 && errno != EISDIR)
		return open_failed(c, -errno, e);
	if (d->fd < 0)
		d->fd = open(c->path, O_RDONLY | O_CLOEXEC);
	if (d->fd < 0)
		return open_failed(c, -errno, e);
	r = measure(d, c, e);
	if (r == 0)
		r = lock(c, d->fd, e);
	if (r == 0)
		r = measure(d, c, e); /* whoever held the lock may have changed it */
	if (r == 0 && c->mode == DISK_COW)
		r = make_copy(d, c, e);
	return r;
}

static int open_sparse(struct disk *d, const struct disk_cfg *c, struct err *e)
{
	d->kind = DISK_SPARSE;
	d->size = c->size;
	d->fd = disk_fd_temp(NULL);
	if (d->fd < 0)
		return err_sys(e, d->fd, "%s: cannot make a temporary file (TMPDIR says where)",
			       c->opt);
	if (ftruncate(d->fd, (off_t)c->size) < 0)
		return err_sys(e, -errno,
			       "%s: cannot make a temporary file of %llu bytes (TMPDIR says where)",
			       c->opt, (unsigned long long)c->size);
	return 0;
}

int disk_open(const struct disk_cfg *cfg, struct err *e, struct disk **ret)
{
	struct disk *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return err_set(e, -ENOMEM, "%s: out of memory", cfg->opt);
	d->fd = -1;
	d->read_only = cfg->mode == DISK_RO;
	d->opt = strdup(cfg->opt);
	if (!d->opt)
		r = err_set(e, -ENOMEM, "%s: out of memory", cfg->opt);
	else
		r = cfg->path ? open_file(d, cfg, e) : open_sparse(d, cfg, e);
	if (r < 0) {
		disk_free(d);
		return r;
	}
	*ret = d;
	return 0;
}

void disk_free(struct disk *d)
{
	if (!d)
		return;
	/* Nobody is left to be told that it failed; what the guest flushed is there. */
	if (d->top && d->top->dirty)
		(void)!disk_overlay_flush(d->top);
	disk_overlay_free(d->top);
	if (d->fd >= 0)
		close(d->fd);
	free(d->opt);
	free(d);
}

/* --- questions -------------------------------------------------------------------------------- */

u64 disk_size(const struct disk *d)
{
	return d->size;
}

bool disk_read_only(const struct disk *d)
{
	return d->read_only;
}

enum disk_kind disk_kind(const struct disk *d)
{
	return d->kind;
}

bool disk_lasting(const struct disk *d)
{
	return (d->kind == DISK_FILE && !d->read_only) || (d->top && d->top->dirty);
}

/* The size of the file now. */
static int size_now(const struct disk *d, u64 *ret)
{
	struct stat st;

	*ret = d->size;
	if (d->device)
		return 0;
	if (fstat(d->fd, &st) < 0)
		return -errno;
	*ret = (u64)st.st_size;
	return 0;
}

int disk_check(const struct disk *d, struct err *e)
{
	u64 size;
	int r = size_now(d, &size);

	if (r < 0)
		return err_sys(e, r, "%s", d->opt);
	if (size == d->size)
		return 0;
	return err_set(e, -EBUSY,
		       "%s: its size changed from %llu to %llu bytes while it was in use; another "
		       "program writes to it",
		       d->opt, (unsigned long long)d->size, (unsigned long long)size);
}

/* Only a file with a name can become shorter. */
static int whole(const struct disk *d)
{
	u64 size;
	int r;

	if (d->kind != DISK_FILE)
		return 0;
	r = size_now(d, &size);
	return r < 0 ? r : size < d->size ? -EIO : 0;
}

/* --- requests --------------------------------------------------------------------------------- */

int disk_read(struct disk *d, u64 off, const struct iovec *iov, unsigned n, size_t skip, size_t len)
{
	return d->top ? disk_overlay_read(d->top, off, iov, n, skip, len)
		      : disk_fd_read(d->fd, off, iov, n, skip, len);
}

int disk_write(struct disk *d, u64 off, const struct iovec *iov, unsigned n, size_t skip,
	       size_t len)
{
	int r;

	if (d->read_only)
		return -EROFS;
	if (d->top)
		return disk_overlay_write(d->top, off, iov, n, skip, len);
	r = whole(d);
	return r < 0 ? r : disk_fd_write(d->fd, off, iov, n, skip, len);
}

int disk_flush(struct disk *d)
{
	int r;

	if (!disk_lasting(d))
		return 0;
	if (d->top)
		return disk_overlay_flush(d->top);
	r = whole(d);
	if (r < 0)
		return r;
	return fdatasync(d->fd) < 0 ? -errno : 0;
}

int disk_zero(struct disk *d, u64 off, u64 len, bool unmap)
{
	int r;

	if (d->read_only)
		return -EROFS;
	if (d->top)
		return disk_overlay_zero(d->top, off, len, false);
	r = whole(d);
	return r < 0 ? r : disk_fd_zero(d->fd, off, len, unmap);
}

int disk_discard(struct disk *d, u64 off, u64 len)
{
	int r;

	if (d->read_only)
		return -EROFS;
	if (d->top)
		return disk_overlay_zero(d->top, off, len, true);
	r = whole(d);
	if (r == 0)
		r = disk_fd_punch(d->fd, off, len);
	return r == -EOPNOTSUPP ? 0 : r;
}
