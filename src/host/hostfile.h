/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostfile.h - reads the small files of /proc and /sys
 */
#ifndef ORR_HOST_HOSTFILE_H
#define ORR_HOST_HOSTFILE_H

#include "base/compiler.h"

/*
 * The beginning of a file, at most @size - 1 bytes and a NUL, without white space at its end. The path is
 * @fmt below @root. Its length, or negative errno; then @ret is "".
 */
int hostfile_text(char *ret, size_t size, const char *root, const char *fmt, ...) attr_printf(4, 5);

/* The number that the file begins with, or @otherwise if there is none. */
u64 hostfile_u64(u64 otherwise, const char *root, const char *fmt, ...) attr_printf(3, 4);

/*
 * The number behind "@key" at the beginning of a line of @text, as /proc/meminfo has them; @otherwise:
 * there is none.
 */
u64 hostfile_field(const char *text, const char *key, u64 otherwise);

#endif
