/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gclock.h - guest time and the timers that fire in it
 *
 * How it works
 * Guest time is one count of nanoseconds since the VM's power-on. Whoever executes the guest (an
 * engine) owns it: it installs @read, which returns the exact time of the instruction being
 * executed, and calls gclock_run() when the time has come. Devices only read the time and arm
 * timers; they cannot tell whether the clock is virtual or follows the host, and never look at
 * any other clock.
 *
 * Timers that are due fire in the order (deadline, order of arming), so that a run is a pure
 * function of the guest. A callback runs on the engine's thread, may arm or cancel any timer, and
 * sees gclock_now() == max(its deadline, the time before it).
 */
#ifndef ORR_BASE_GCLOCK_H
#define ORR_BASE_GCLOCK_H

#include "base/compiler.h"

#define GCLOCK_NEVER UINT64_MAX

struct gclock;

/* A timer. The owner embeds it, zeroed, and sets it up with gtimer_init. */
struct gtimer {
	void (*fn)(void *opaque);
	void *opaque;
	struct gclock *clk;
	u64 deadline; /* ns of guest time; meaningful while armed */
	u64 seq;      /* order of arming among equal deadlines */
	u32 slot;     /* index in the heap + 1, or 0 while not armed */
};

struct gclock {
	u64 (*read)(void *opaque);	      /* ns; never decreases */
	void (*sooner)(void *opaque, u64 ns); /* the first deadline moved to an earlier time */
	void *opaque;
	struct gtimer **heap; /* owned */
	u32 n, cap;
	u64 seq;
};

/* @read and @sooner (may be NULL) are the engine's; both get @opaque. */
void gclock_init(struct gclock *c, u64 (*read)(void *), void (*sooner)(void *, u64), void *opaque);
void gclock_fini(struct gclock *c);

/* Nanoseconds of guest time since power-on. */
static inline u64 gclock_now(struct gclock *c)
{
	return c->read(c->opaque);
}

/* The earliest deadline, or GCLOCK_NEVER. */
u64 gclock_next(const struct gclock *c);

/* Fires every timer whose deadline is <= @now, in order. Returns how many fired. */
unsigned gclock_run(struct gclock *c, u64 now);

void gtimer_init(struct gtimer *t, struct gclock *c, void (*fn)(void *), void *opaque);
/* (Re-)arms for an absolute time in ns; a time already past fires at the next gclock_run. */
void gtimer_arm(struct gtimer *t, u64 deadline);
void gtimer_cancel(struct gtimer *t);
static inline bool gtimer_armed(const struct gtimer *t)
{
	return t->slot != 0;
}

#endif
