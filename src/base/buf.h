/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buf.h - a growable byte buffer
 *
 * The owner zero-initializes it and frees it with buf_fini. Growth failure aborts nothing: the
 * functions return -ENOMEM and leave the buffer as it was.
 */
#ifndef ORR_BASE_BUF_H
#define ORR_BASE_BUF_H

#include "base/compiler.h"

struct buf {
	u8 *data;   /* owned, NULL while cap is 0 */
	size_t len; /* bytes in use */
	size_t cap;
};

void buf_fini(struct buf *b);
/* Makes room for @n more bytes behind len. 0 or -ENOMEM. */
int buf_reserve(struct buf *b, size_t n) attr_nodiscard;
/* Appends @n bytes from @p (zeros if @p is NULL). 0 or -ENOMEM. */
int buf_add(struct buf *b, const void *p, size_t n) attr_nodiscard;
/* Appends zeros until len is a multiple of @align (a power of two). 0 or -ENOMEM. */
int buf_pad(struct buf *b, size_t align) attr_nodiscard;
/* Appends formatted text without its NUL. 0 or -ENOMEM. */
int buf_printf(struct buf *b, const char *fmt, ...) attr_printf(2, 3) attr_nodiscard;
/*
 * Appends the whole of an open file from its current offset, at most @max bytes.
 * 0, -EFBIG if the file is longer than @max, or the negative errno of read(2).
 */
int buf_read_fd(struct buf *b, int fd, size_t max) attr_nodiscard;
/* Writes @len bytes to @fd, which blocks. 0, or the negative errno of write(2). */
int buf_write_fd(int fd, const void *data, size_t len) attr_nodiscard;

#endif
