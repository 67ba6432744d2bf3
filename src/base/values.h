/* SPDX-License-Identifier: Apache-2.0 */
/*
 * values.h - reads the values of options: numbers, sizes, durations, dates, words
 *
 * Each takes the option's name for the message. 0 and *ret, or -EINVAL with a message.
 */
#ifndef ORR_BASE_VALUES_H
#define ORR_BASE_VALUES_H

#include "base/err.h"

/* Decimal, or hexadecimal with 0x; between @min and @max. */
int value_u64(const char *opt, const char *text, u64 min, u64 max, struct err *e, u64 *ret);
/* Bytes, with an optional K, M, G or T (powers of 1024). */
int value_size(const char *opt, const char *text, struct err *e, u64 *ret);
/* Seconds, with an optional fraction; more than 0, in nanoseconds. */
int value_seconds(const char *opt, const char *text, struct err *e, u64 *ret);
/* Unix seconds, or "YYYY-MM-DD" with an optional "THH:MM:SS" and "Z": always UTC. */
int value_time(const char *opt, const char *text, struct err *e, s64 *ret);

/* One of @n @names: its number in *ret. The message says which one was probably meant. */
int value_choice(const char *opt, const char *text, const char *const *names, unsigned n,
		 struct err *e, unsigned *ret);
/* The one of @n @names that @word is probably meant to be, or NULL. @stride: bytes between them. */
const char *value_nearest(const char *word, const char *const *names, size_t n, size_t stride);

/*
 * The pieces of "WORD,KEY=VALUE,FLAG": *list is advanced behind one piece, which is copied to
 * @piece (NUL-terminated, at most @size - 1 bytes) and cut at its first '='. *ret_val points to
 * what follows, or is NULL for a piece without '='. 1; 0 at the end of the list; -EINVAL with a
 * message for an empty or overlong piece. A comma in a value is written as two.
 */
int value_piece(const char *opt, const char **list, char *piece, size_t size, struct err *e,
		const char **ret_val);

#endif
