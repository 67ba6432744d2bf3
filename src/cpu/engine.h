/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h - what every CPU engine offers to the VM
 *
 * How it works
 * An engine executes the vCPUs of one machine and owns its guest clock. engine_run is called on the
 * VM's thread and comes back with every vCPU parked: while it is not running, vCPU state, guest memory
 * and devices belong to the caller alone. So to pause a machine is to make engine_run come back.
 *
 * While it runs, devices are entered only under the engine's *device lock*: by a vCPU's register access,
 * by a timer of the guest clock, by @poll. An engine with one thread for everything has no lock to take;
 * one with a thread for each vCPU takes it at these three places. Only engine_kick may be called without.
 */
#ifndef ORR_CPU_ENGINE_H
#define ORR_CPU_ENGINE_H

#include "base/compiler.h"

#include <errno.h>

struct gclock;
struct x86_cpu;

/* Why engine_run came back. */
enum engine_exit {
	ENGINE_STOPPED,	 /* somebody asked: engine_stop */
	ENGINE_RESET,	 /* the guest asked for a reset (i8042, ACPI) */
	ENGINE_POWEROFF, /* the guest powered off */
	ENGINE_TRIPLE,	 /* triple fault */
	ENGINE_DEADLOCK, /* every vCPU is halted with interrupts off, or waits forever */
	ENGINE_DEBUG,	 /* what engine_debug asked for: engine_debug_event says which */
	ENGINE_FAILED,	 /* the host's KVM failed: engine_failure says how */
};

/* --- debugging -------------------------------------------------------------------------------- */

enum engine_break { ENGINE_BREAK_EXEC, ENGINE_BREAK_WRITE, ENGINE_BREAK_ACCESS };

#define ENGINE_BREAKS_MAX 4u /* as many as the processor's debug registers hold */

/* What makes engine_run come back with ENGINE_DEBUG. All zero but @step: nothing does. */
struct engine_debug {
	bool int3; /* a #BP of the guest, before it is delivered; RIP is that of the INT3 */
	unsigned n;
	struct {
		enum engine_break kind;
		u64 addr; /* linear */
		u8 len;	  /* 1, 2, 4 or 8, aligned; 1 for ENGINE_BREAK_EXEC */
	} at[ENGINE_BREAKS_MAX];
	int step; /* this vCPU executes one instruction, the others none; -1: not */
	/*
	 * More linear addresses where execution stops, as many as one likes; copied. Engines whose only
	 * means are debug registers say -ENOSPC.
	 */
	const u64 *exec;
	unsigned n_exec;
};

struct engine_debug_event {
	enum { ENGINE_ON_INT3, ENGINE_ON_BREAK, ENGINE_ON_STEP } what;
	unsigned cpu;
	/* ENGINE_ON_BREAK: of engine_debug.at; or ENGINE_BREAKS_MAX: one of engine_debug.exec */
	unsigned index;
};

/* --- the engine ------------------------------------------------------------------------------- */

struct engine_ops {
	const char *name;
	void (*free)(void *o);
	struct gclock *(*gclock)(void *o); /* owned by the engine */
	enum engine_exit (*run)(void *o, void (*poll)(void *opaque), void *opaque);
	void (*kick)(void *o);
	void (*stop)(void *o, enum engine_exit why);
	void (*set_live)(void *o, bool live);
	struct x86_cpu *(*cpu)(void *o, unsigned cpu);
	void (*cpu_changed)(void *o, unsigned cpu);
	void (*digest)(void *o, void (*add)(void *h, const void *p, size_t n), void *h);
	void (*stats)(void *o, void (*line)(void *l, const char *name, u64 val), void *l);
	/* NULL: cannot be debugged. */
	int (*debug)(void *o, const struct engine_debug *d);
	struct engine_debug_event (*debug_event)(void *o);
	const char *(*failure)(void *o); /* NULL: cannot fail */
};

/* By value; ops NULL: none. */
struct engine {
	const struct engine_ops *ops;
	void *o;
};

static inline void engine_free(struct engine e)
{
	if (e.ops)
		e.ops->free(e.o);
}

static inline struct gclock *engine_gclock(struct engine e)
{
	return e.ops->gclock(e.o);
}

/*
 * Runs until something ends it. Called again it goes on. Calls @poll (may be NULL) soon after each
 * engine_kick, on this thread: the one gate where live input enters.
 */
static inline enum engine_exit engine_run(struct engine e, void (*poll)(void *opaque), void *opaque)
{
	return e.ops->run(e.o, poll, opaque);
}

/* From any thread or signal handler. */
static inline void engine_kick(struct engine e)
{
	e.ops->kick(e.o);
}

/*
 * Of two reasons to come back at once: whether @why counts, and not @before. The guest's own end comes
 * before what somebody asks for, who would let a guest go on that has powered off; and both before a
 * debugger's stop. Of equals the first.
 */
static inline bool engine_outweighs(enum engine_exit why, enum engine_exit before)
{
	return before == ENGINE_DEBUG
		       ? why != ENGINE_DEBUG
		       : before == ENGINE_STOPPED && why != ENGINE_STOPPED && why != ENGINE_DEBUG;
}

/*
 * From a device or @poll: engine_run returns @why, or what outweighs it, with the vCPU behind its
 * instruction.
 */
static inline void engine_stop(struct engine e, enum engine_exit why)
{
	e.ops->stop(e.o, why);
}

/*
 * With a live back end attached (terminal, network) an idle guest's time passes at host pace instead of
 * jumping to the next event.
 */
static inline void engine_set_live(struct engine e, bool live)
{
	e.ops->set_live(e.o, live);
}

/*
 * Architectural state of a vCPU, while not running. Whoever changes it calls engine_cpu_changed
 * before the next engine_run.
 */
static inline struct x86_cpu *engine_cpu(struct engine e, unsigned cpu)
{
	return e.ops->cpu(e.o, cpu);
}

static inline void engine_cpu_changed(struct engine e, unsigned cpu)
{
	e.ops->cpu_changed(e.o, cpu);
}

/* While not running: replaces what was asked for before. 0, or -ENOTSUP, -EINVAL, -ENOSPC. */
static inline int engine_set_debug(struct engine e, const struct engine_debug *d)
{
	return e.ops->debug ? e.ops->debug(e.o, d) : -ENOTSUP;
}

#endif
