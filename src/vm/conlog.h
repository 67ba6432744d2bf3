/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conlog.h - what a guest's console said last, and whether it said that its kernel panicked
 */
#ifndef ORR_VM_CONLOG_H
#define ORR_VM_CONLOG_H

#include "base/compiler.h"

#define CONLOG_TAIL 8192u
#define CONLOG_LINE 512u

/* The owner zero-initializes it. */
struct conlog {
	char line[CONLOG_LINE]; /* the current line, as far as it fits, printable */
	size_t n;
	char panic[CONLOG_LINE]; /* the line of the panic from "Kernel panic" on, or "" */
	u64 lines;		 /* complete ones so far */
	bool panic_over;	 /* the kernel will do nothing more */
	char tail[CONLOG_TAIL];	 /* a ring of the last printable text */
	u64 total;		 /* bytes that went into it */
};

void conlog_add(struct conlog *c, const u8 *bytes, size_t n);
/* Whether a panic line has begun: its text may not be whole yet. */
bool conlog_panicked(const struct conlog *c);
/*
 * Copies the last @max_lines lines of the tail, NUL-terminated, to @ret (CONLOG_TAIL + 1 bytes).
 * Returns the length.
 */
size_t conlog_last(const struct conlog *c, unsigned max_lines, char *ret);

#endif
