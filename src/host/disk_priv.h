/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_priv.h - what the parts of a disk share
 */
#ifndef ORR_HOST_DISK_PRIV_H
#define ORR_HOST_DISK_PRIV_H

#include "host/disk.h"

#include <pthread.h>

/* Where what is written to a private copy is kept. */
struct disk_overlay {
	int base, top; /* base is borrowed */
	u64 at;	       /* of the disk's first byte in the top */
	u64 size;
	u64 *map; /* a bit for each cluster; mapped memory */
	size_t map_len;
	pthread_rwlock_t lock;
	/* Only of one with a name (disk_overlay_file.c). */
	u8 *dirty; /* owned: pages of the bitmap that the file does not have; NULL: no name */
	pthread_mutex_t sync;
};

struct disk {
	enum disk_kind kind;
	bool read_only;
	bool device; /* a block device, whose size cannot change under us */
	u64 size;
	int fd;			  /* the file; of an overlay, the original */
	struct disk_overlay *top; /* owned; only of an overlay */
	char *opt;		  /* owned; begins messages */
};

/* disk_io.c: whole transfers on one descriptor. 0 or a negative errno; -EIO at the file's end. */
int disk_fd_read(int fd, u64 off, const struct iovec *iov, unsigned n, size_t skip, size_t len);
int disk_fd_write(int fd, u64 off, const struct iovec *iov, unsigned n, size_t skip, size_t len);
int disk_fd_write_zeros(int fd, u64 off, u64 len);
int disk_fd_zero(int fd, u64 off, u64 len, bool unmap);
/* -EOPNOTSUPP if the file system cannot. */
int disk_fd_punch(int fd, u64 off, u64 len);
/* A file without a name: in @dir, or (NULL) where large temporary files go. An fd or an errno. */
int disk_fd_temp(const char *dir);

/* disk_overlay.c: @base is borrowed. 0 or a negative errno. */
int disk_overlay_new(int base, u64 size, struct disk_overlay **ret);
void disk_overlay_free(struct disk_overlay *o);
/* With the top @fd (taken, also on failure), in which the disk begins at @at. */
int disk_overlay_with(int base, u64 size, int fd, u64 at, struct disk_overlay **ret);
int disk_overlay_read(struct disk_overlay *o, u64 off, const struct iovec *iov, unsigned n,
		      size_t skip, size_t len);
int disk_overlay_write(struct disk_overlay *o, u64 off, const struct iovec *iov, unsigned n,
		       size_t skip, size_t len);
/* @hint: a discard, which need not touch clusters that it covers in part. */
int disk_overlay_zero(struct disk_overlay *o, u64 off, u64 len, bool hint);

/*
 * disk_overlay_file.c: one that lasts, in the file @path, which is made if it is not there or
 * empty. 0, or an error with message that begins with @opt: -EBUSY, -EINVAL if it is none, or not
 * one of this original as it is now, ...
 */
int disk_overlay_open(const char *path, int base, u64 size, const char *opt, struct err *e,
		      struct disk_overlay **ret);
/* What was written before is in the file, and the host's disk. */
int disk_overlay_flush(struct disk_overlay *o);

#define DISK_CLUSTER_SHIFT 12u
#define DISK_CLUSTER (1u << DISK_CLUSTER_SHIFT)
#define DISK_MAP_PAGE 4096u /* bytes of a bitmap that are written at once */

#endif
