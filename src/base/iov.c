// SPDX-License-Identifier: Apache-2.0
/*
 * iov.c - a byte string in pieces: copying in and out at an offset, cutting
 */
#include "base/iov.h"

#include <string.h>

/* Where byte @off is; false behind the end. */
static bool seek(const struct iovec *iov, unsigned n, size_t off, unsigned *ret_i, size_t *ret_at)
{
	for (unsigned i = 0; i < n; i++) {
		if (off < iov[i].iov_len) {
			*ret_i = i;
			*ret_at = off;
			return true;
		}
		off -= iov[i].iov_len;
	}
	return false;
}

size_t iov_size(const struct iovec *iov, unsigned n)
{
	size_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}

enum op { OP_READ, OP_WRITE, OP_FILL };

static size_t walk(const struct iovec *iov, unsigned n, size_t off, u8 *buf, size_t len, enum op op,
		   u8 byte)
{
	size_t done = 0, at;
	unsigned i;

	if (!len || !seek(iov, n, off, &i, &at))
		return 0;
	for (; i < n && done < len; i++, at = 0) {
		size_t k = MIN(len - done, iov[i].iov_len - at);
		u8 *p = (u8 *)iov[i].iov_base + at;

		if (!k)
			continue;
		if (op == OP_READ)
			memcpy(buf + done, p, k);
		else if (op == OP_WRITE)
			memcpy(p, buf + done, k);
		else
			memset(p, byte, k);
		done += k;
	}
	return done;
}

size_t iov_read(const struct iovec *iov, unsigned n, size_t off, void *dst, size_t len)
{
	return walk(iov, n, off, dst, len, OP_READ, 0);
}

size_t iov_write(const struct iovec *iov, unsigned n, size_t off, const void *src, size_t len)
{
	return walk(iov, n, off, (u8 *)src, len, OP_WRITE, 0);
}

size_t iov_fill(const struct iovec *iov, unsigned n, size_t off, u8 byte, size_t len)
{
	return walk(iov, n, off, NULL, len, OP_FILL, byte);
}

unsigned iov_slice(const struct iovec *iov, unsigned n, size_t off, size_t len, struct iovec *ret,
		   unsigned max, size_t *ret_len)
{
	size_t done = 0, at;
	unsigned i, k = 0;

	if (len && seek(iov, n, off, &i, &at)) {
		for (; i < n && k < max && done < len; i++, at = 0) {
			size_t part = MIN(len - done, iov[i].iov_len - at);

			if (!part)
				continue;
			ret[k++] = (struct iovec){ (u8 *)iov[i].iov_base + at, part };
			done += part;
		}
	}
	if (ret_len)
		*ret_len = done;
	return k;
}
