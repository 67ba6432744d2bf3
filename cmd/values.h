/* SPDX-License-Identifier: Apache-2.0 */
/*
 * values.h - reads the values of options: numbers, sizes, durations, dates
 *
 * Each takes the option's name for the message. 0 and *ret, or -EINVAL with a message.
 */
#ifndef ORR_CMD_VALUES_H
#define ORR_CMD_VALUES_H

#include "base/err.h"

/* Decimal, or hexadecimal with 0x; between @min and @max. */
int value_u64(const char *opt, const char *text, u64 min, u64 max, struct err *e, u64 *ret);
/* Bytes, with an optional K, M, G or T (powers of 1024). */
int value_size(const char *opt, const char *text, struct err *e, u64 *ret);
/* Seconds, with an optional fraction; more than 0, in nanoseconds. */
int value_seconds(const char *opt, const char *text, struct err *e, u64 *ret);
/* Unix seconds, or "YYYY-MM-DD" with an optional "THH:MM:SS" and "Z": always UTC. */
int value_time(const char *opt, const char *text, struct err *e, s64 *ret);

#endif
