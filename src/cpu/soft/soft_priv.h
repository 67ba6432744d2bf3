/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft_priv.h - the engine's own data
 */
#ifndef ORR_CPU_SOFT_SOFT_PRIV_H
#define ORR_CPU_SOFT_SOFT_PRIV_H

#include "cpu/soft/soft.h"
#include "cpu/soft/x86/vcpu.h"

#include <stdatomic.h>

struct vec;

#define SOFT_CPUS_MAX 256
#define BLOCK_HASH_BITS 18

/* Guest time inside the engine: picoseconds since power-on. */
#define PS_PER_NS 1000ull

struct rng {
	u64 s[4];
};
void rng_seed(struct rng *r, u64 seed);
u64 rng_next(struct rng *r);

struct soft {
	struct soft_cfg cfg;
	struct gclock clk;
	struct cpu_intc intc;
	struct vcpu **cpu;

	/* Turns */
	u64 now_ps;	  /* at the start of the current turn */
	u64 rate;	  /* instructions per microsecond of all busy vCPUs during this turn */
	unsigned running; /* index of the vCPU whose turn it is, or ncpus */
	unsigned next;	  /* whose turn is next, if it is busy */
	bool in_turn;
	u64 busy[SOFT_CPUS_MAX / 64]; /* vCPUs that execute */
	unsigned n_busy;
	struct rng order_rng; /* turn lengths and order */
	struct rng guest_rng; /* RDRAND, RDSEED */
	u64 insns;	      /* executed in finished turns */
	u64 limit;	      /* stop when insns reaches it */
	u64 last_ns;	      /* the latest time read: reads never decrease */
	u64 real_base;	      /* CLOCK_REAL: host ns at guest time 0 */
	u64 real_stood;	      /* host ns since which the guest has not been run; 0: it is running */
	bool live;

	bool stop;
	enum engine_exit why;
	_Atomic int kicked;
	int kick_fd; /* eventfd: wakes the idle wait */

	bool (*exc_hook)(void *opaque, struct x86_cpu *c);
	void *exc_opaque;

	/* Blocks */
	struct block **hash;
	struct block **page_code; /* per guest page: blocks that overlap it */
	u64 n_pages;
	struct block *dead;
	u64 n_blocks, block_bytes, block_max;
	u32 sweep_hand; /* where the next sweep of the hash begins */
	struct compiler *compiler;
	struct vec *vec;
	struct jit *jit; /* NULL: interpreter only */

	struct {
		u64 turns, idle, blocks, invalidated, swept, decoded;
	} stat;
};

/* The current guest time in ns, exact to the instruction being executed. */
u64 soft_now(struct soft *s);
/* A vCPU's halted/wait_sipi state changed. */
void soft_update_busy(struct soft *s, struct vcpu *v);

#endif
