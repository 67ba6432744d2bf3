/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iov.h - a byte string in pieces: copying in and out at an offset, cutting
 *
 * All functions take @n pieces and an offset @off from the start of the first; a piece may be
 * empty. Offsets and lengths beyond the end are legal: what is not there is not touched.
 */
#ifndef ORR_BASE_IOV_H
#define ORR_BASE_IOV_H

#include "base/compiler.h"

#include <sys/uio.h>

/* Bytes in all pieces. The caller vouches that the sum fits. */
size_t iov_size(const struct iovec *iov, unsigned n);

/* Copies up to @len bytes out of, into, or fills the pieces. Returns how many bytes that were. */
size_t iov_read(const struct iovec *iov, unsigned n, size_t off, void *dst, size_t len);
size_t iov_write(const struct iovec *iov, unsigned n, size_t off, const void *src, size_t len);
size_t iov_fill(const struct iovec *iov, unsigned n, size_t off, u8 byte, size_t len);

/*
 * Describes bytes [@off, @off+@len) by up to @max pieces in @ret, for readv(2) and its like.
 * Returns how many pieces; *ret_len (may be NULL) is how many bytes they hold: less than @len if
 * @max or the end of the pieces was reached.
 */
unsigned iov_slice(const struct iovec *iov, unsigned n, size_t off, size_t len, struct iovec *ret,
		   unsigned max, size_t *ret_len);

#endif
