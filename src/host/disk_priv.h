/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_priv.h - what the parts of a disk share
 */
#ifndef ORR_HOST_DISK_PRIV_H
#define ORR_HOST_DISK_PRIV_H

#include "host/disk.h"

#include <pthread.h>

struct disk_overlay;

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
int disk_overlay_read(struct disk_overlay *o, u64 off, const struct iovec *iov, unsigned n,
		      size_t skip, size_t len);
int disk_overlay_write(struct disk_overlay *o, u64 off, const struct iovec *iov, unsigned n,
		       size_t skip, size_t len);
/* @hint: a discard, which need not touch clusters that it covers in part. */
int disk_overlay_zero(struct disk_overlay *o, u64 off, u64 len, bool hint);

#endif
