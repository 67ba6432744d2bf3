/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buf.c - a growable byte buffer
 */
#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void buf_fini(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ 0 };
}

int buf_reserve(struct buf *b, size_t n)
{
	size_t want, cap = b->cap ? b->cap : 256;

	if (__builtin_add_overflow(b->len, n, &want))
		return -ENOMEM;
	if (want <= b->cap)
		return 0;
	while (cap < want)
		if (__builtin_mul_overflow(cap, (size_t)2, &cap))
			return -ENOMEM;
	u8 *p = realloc(b->data, cap);
	if (!p)
		return -ENOMEM;
	b->data = p;
	b->cap = cap;
	return 0;
}

int buf_add(struct buf *b, const void *p, size_t n)
{
	int r = buf_reserve(b, n);

	if (r < 0)
		return r;
	if (!n)
		return 0;
	if (p)
		memcpy(b->data + b->len, p, n);
	else
		memset(b->data + b->len, 0, n);
	b->len += n;
	return 0;
}

int buf_pad(struct buf *b, size_t align)
{
	return buf_add(b, NULL, ALIGN_UP(b->len, align) - b->len);
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n, r;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -ENOMEM;
	r = buf_reserve(b, (size_t)n + 1);
	if (r < 0)
		return r;
	va_start(ap, fmt);
	vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
	return 0;
}

int buf_read_fd(struct buf *b, int fd, size_t max)
{
	size_t got = 0;

	for (;;) {
		int r = buf_reserve(b, 65536);
		if (r < 0)
			return r;
		ssize_t n = read(fd, b->data + b->len, b->cap - b->len);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (n == 0)
			return 0;
		got += (size_t)n;
		b->len += (size_t)n;
		if (got > max)
			return -EFBIG;
	}
}

int buf_write_fd(int fd, const void *data, size_t len)
{
	const u8 *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}
