/* SPDX-License-Identifier: Apache-2.0 */
/*
 * testclock.h - a guest clock that a test turns by hand
 */
#ifndef ORR_TESTS_DEV_TESTCLOCK_H
#define ORR_TESTS_DEV_TESTCLOCK_H

#include "base/gclock.h"

struct testclock {
	struct gclock g;
	u64 now;
};

static inline u64 testclock_read(void *opaque)
{
	return ((struct testclock *)opaque)->now;
}

static inline void testclock_init(struct testclock *c)
{
	c->now = 0;
	gclock_init(&c->g, testclock_read, NULL, c);
}

/* Goes to @t, stopping at every deadline on the way as an engine does. */
static inline void testclock_to(struct testclock *c, u64 t)
{
	while (gclock_next(&c->g) <= t) {
		c->now = MAX(c->now, gclock_next(&c->g));
		gclock_run(&c->g, c->now);
	}
	c->now = t;
}

static inline void testclock_by(struct testclock *c, u64 ns)
{
	testclock_to(c, c->now + ns);
}

#endif
