/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk.h - a fixed number of bytes that are read, written, flushed and given back: a disk's contents
 *
 * What is behind it is a regular file, a block device, a sparse file without a name, or a private
 * copy of a file that shares whatever has not been written. Requests may come from any thread and
 * overlap; each does all of its bytes or fails.
 */
#ifndef ORR_HOST_DISK_H
#define ORR_HOST_DISK_H

#include "base/compiler.h"
#include "base/err.h"

#include <sys/uio.h>

#define DISK_SECTOR 512u /* sizes and, where not said otherwise, nothing else are multiples of it */

struct disk;

enum disk_mode {
	DISK_RW,  /* writes go to the file; nobody else may have it open as a disk */
	DISK_RO,  /* writes fail; others may read it too */
	DISK_COW, /* writes go to a private copy, which vanishes with the disk, or to @overlay */
};

struct disk_cfg {
	const char *opt;  /* begins every message, such as "--disk a.img" */
	const char *path; /* NULL: a sparse file without a name, of @size bytes */
	enum disk_mode mode;
	u64 size; /* only without @path; a multiple of DISK_SECTOR, > 0 */
	/* DISK_COW: the file that keeps what is written, made if there is none; NULL: nothing does. */
	const char *overlay;
};

/* How the bytes are kept. */
enum disk_kind {
	DISK_FILE,    /* the file or device itself */
	DISK_SPARSE,  /* without a name */
	DISK_REFLINK, /* a clone that the file system made (FICLONE) */
	DISK_OVERLAY, /* a sparse file over the original, with a bitmap */
};

/*
 * Opens and locks. 0 and *ret, or an error with message: missing, unreadable, of a size that no
 * disk has, in use (-EBUSY), ...
 */
int disk_open(const struct disk_cfg *cfg, struct err *e, struct disk **ret);
void disk_free(struct disk *d);

u64 disk_size(const struct disk *d); /* bytes; never changes */
bool disk_read_only(const struct disk *d);
enum disk_kind disk_kind(const struct disk *d);
/* Whether what is written is still there after disk_free. */
bool disk_lasting(const struct disk *d);

/*
 * @len bytes from offset @off on, out of or into the pieces from their byte @skip on. 0, or a
 * negative errno; then any part of it may have been done. -EIO also if the file has become
 * shorter than the disk. The caller vouches for @off + @len <= disk_size.
 */
int disk_read(struct disk *d, u64 off, const struct iovec *iov, unsigned n, size_t skip,
	      size_t len) attr_nodiscard;
int disk_write(struct disk *d, u64 off, const struct iovec *iov, unsigned n, size_t skip,
	       size_t len) attr_nodiscard;
/* What was written before the call survives a power failure of the host. Nothing if not lasting. */
int disk_flush(struct disk *d) attr_nodiscard;
/*
 * The range reads as zeros from now on. @unmap: its room is given back if that is possible;
 * else it stays allocated if that is possible without writing.
 */
int disk_zero(struct disk *d, u64 off, u64 len, bool unmap) attr_nodiscard;
/* The range is not needed any more; a hint, which may do nothing. */
int disk_discard(struct disk *d, u64 off, u64 len) attr_nodiscard;

/*
 * Whether the file still has the size it had when it was opened: 0, or -EBUSY with a message.
 * Somebody who ignores locks changes it.
 */
int disk_check(const struct disk *d, struct err *e);

#endif
