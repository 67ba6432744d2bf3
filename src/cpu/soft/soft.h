/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft.h - the built-in CPU: all vCPUs of a VM on one host thread, in turns of guest time
 */
#ifndef ORR_CPU_SOFT_SOFT_H
#define ORR_CPU_SOFT_SOFT_H

#include "base/err.h"
#include "base/gclock.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "cpu/engine.h"
#include "mem/mem.h"

#include "isa/x86/state.h"

#include <stdio.h>

struct soft;
struct symbols;

enum soft_clock { SOFT_CLOCK_VIRTUAL, SOFT_CLOCK_REAL };

/* Which tiers run. The guest cannot tell: they agree to the bit and to the instruction. */
enum soft_tier { SOFT_TIER_MIX, SOFT_TIER_INTERP, SOFT_TIER_JIT };

#define SOFT_CODE_CACHE_DEFAULT (64ull << 20)
#define SOFT_BLOCK_CACHE_DEFAULT (256ull << 20)

struct soft_cfg {
	unsigned ncpus;	 /* 1..252 */
	struct mem *mem; /* borrowed */
	struct bus *bus; /* borrowed */
	enum soft_clock clock;
	u32 mips; /* guest instructions per microsecond of guest time, per busy vCPU; 1..100000 */
	u64 seed; /* varies turn lengths and their order; 0: fixed */
	enum soft_tier tier;
	u64 code_cache;		       /* bytes of translated code; 0: SOFT_CODE_CACHE_DEFAULT */
	u64 block_cache;	       /* bytes of decoded code; 0: SOFT_BLOCK_CACHE_DEFAULT */
	FILE *code_dump;	       /* translated code is written here as it is made, or NULL */
	FILE *perf_map;		       /* the same for perf: /tmp/perf-PID.map */
	const struct symbols *symbols; /* names of guest code for both; borrowed, or NULL */
	u64 cr4_allowed, xcr0_allowed, phys_mask;
	u64 tsc_khz; /* 1000000: one tick a nanosecond */
	const struct x86_cpuid_entry *(*cpuid)(void *opaque, unsigned cpu, unsigned *ret_n);
	void *cpuid_opaque; /* the tables must outlive the engine */
};

/*
 * What the host lacks to execute a CPU model whose XCR0 may hold @xcr0_allowed ("AVX2"), or NULL.
 * AVX state stands for the whole of x86-64-v3. soft_new refuses what this names.
 */
const char *soft_host_lacks(u64 xcr0_allowed);
int soft_new(const struct soft_cfg *cfg, struct err *e, struct soft **ret);
void soft_free(struct soft *s);
/* The engine as the VM sees it (cpu/engine.h); engine_free frees @s. */
struct engine soft_engine(struct soft *s);

struct gclock *soft_gclock(struct soft *s); /* the VM's guest clock; owned by the engine */
struct cpu_signals soft_signals(struct soft *s);
void soft_set_intc(struct soft *s, const struct cpu_intc *intc); /* copied */

/* Architectural state of a vCPU. Change it only while not running, then call soft_cpu_changed. */
struct x86_cpu *soft_cpu(struct soft *s, unsigned cpu);
void soft_cpu_changed(struct soft *s, unsigned cpu);
/* The same when paging and everything it reads stayed as it was: translations are kept. */
void soft_cpu_loaded(struct soft *s, unsigned cpu);

/*
 * Runs until something ends it. Called again it goes on. Calls @poll (may be NULL) at turn
 * boundaries after soft_kick, on this thread: the one gate where live input enters.
 */
enum engine_exit soft_run(struct soft *s, void (*poll)(void *opaque), void *opaque);
/* From any thread or signal handler: makes soft_run call @poll soon. */
void soft_kick(struct soft *s);
/* From a device or @poll, on the engine's thread: soft_run returns @why after this instruction. */
void soft_stop(struct soft *s, enum engine_exit why);
/*
 * With a live back end attached (terminal, network) an idle guest's time passes at host pace
 * instead of jumping to the next event; without, it jumps.
 */
void soft_set_live(struct soft *s, bool live);

/*
 * For tests and debuggers: called before an exception, with c->exc and rip of the instruction.
 * Returns true to stop soft_run (ENGINE_STOPPED) instead of delivering it.
 */
void soft_set_exc_hook(struct soft *s, bool (*hook)(void *opaque, struct x86_cpu *c), void *opaque);
/* Stops (ENGINE_STOPPED) after exactly this many more instructions of all vCPUs; UINT64_MAX: never. */
void soft_set_limit(struct soft *s, u64 insns);
u64 soft_insns(const struct soft *s); /* executed so far, all vCPUs */

/* Feeds all vCPU state into a hash, in a fixed order. */
void soft_digest(struct soft *s, void (*add)(void *h, const void *p, size_t n), void *h);

/*
 * To be called in a child process that was forked between two calls of soft_run, before anything else of
 * the engine. From then on the parent's engine and the child's go on by themselves; translated code made
 * so far is shared. The guest's memory must be the child's own (private pages), and so must the
 * devices. 0, or -errno: then the child must not run it.
 */
int soft_fork_child(struct soft *s);

/* Prints counters as "name value" lines. */
void soft_stats(struct soft *s, void (*line)(void *o, const char *name, u64 val), void *o);

#endif
