/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hosttime.h - the host's monotonic clock
 *
 * For waiting and measuring on the host. A guest sees it through its engine's clock only
 * (base/gclock.h), and under the virtual clock not at all.
 */
#ifndef ORR_BASE_HOSTTIME_H
#define ORR_BASE_HOSTTIME_H

#include "base/compiler.h"

#include <time.h>

/* Nanoseconds since some time in the past. */
static inline u64 host_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}

/* The same in milliseconds. */
static inline u64 host_ms(void)
{
	return host_ns() / 1000000u;
}

/* The time @ns from now, for calls that wait until a time of CLOCK_MONOTONIC. */
static inline struct timespec host_after(u64 ns)
{
	u64 t = host_ns() + ns;

	return (struct timespec){ .tv_sec = (time_t)(t / 1000000000u),
				  .tv_nsec = (long)(t % 1000000000u) };
}

#endif
