/* SPDX-License-Identifier: Apache-2.0 */
/*
 * symbols.h - names of code addresses, from a list as nm(1) prints it
 */
#ifndef ORR_BASE_SYMBOLS_H
#define ORR_BASE_SYMBOLS_H

#include "base/err.h"

struct symbols;

/*
 * Reads a list of "ADDRESS TYPE NAME" lines in hexadecimal: nm's output, a kernel's System.map or
 * /proc/kallsyms. Only code (types t, T, w, W, i) is kept, in any order; lines of another form are
 * passed over. 0, or a negative errno with a message; -EINVAL if there is no code in it.
 */
int symbols_load(const char *path, struct err *e, struct symbols **ret);
void symbols_free(struct symbols *s);

/*
 * The name of the last symbol at or below @addr, borrowed, and how far @addr is behind it. NULL if there
 * is none, or if it is 1 MiB away: that is not its code. @s may be NULL.
 */
const char *symbols_find(const struct symbols *s, u64 addr, u64 *ret_off);

#endif
