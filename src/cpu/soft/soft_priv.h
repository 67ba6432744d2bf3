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

/*
 * What engine_set_debug asked for (debug.c). A block never goes past a place where execution stops; one that
 * begins at such a place is entered through op_break.
 */
struct soft_debug {
	u64 *exec; /* linear addresses, sorted */
	unsigned n_exec;
	u64 stops[64]; /* a bit for each offset in a page that one of them has */
	struct {
		enum engine_break kind;
		u64 addr;
		u8 len;
	} at[ENGINE_BREAKS_MAX];
	unsigned n_at, n_watch; /* all, and those that are about data */
	bool int3;
	int step; /* vCPU, or -1 */
	struct engine_debug_event event;
};

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
	u64 plan;		      /* the turn's length when it began */
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

	struct soft_debug dbg;
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

/* --- debug.c ------------------------------------------------------------------------------------ */

void debug_init(struct soft *s);
void debug_fini(struct soft *s);
int debug_set(struct soft *s, const struct engine_debug *d);
/* How many of the @n instructions at @gpa may be one block. */
unsigned debug_block_end(const struct soft *s, gpa_t gpa, const struct op *ops, unsigned n);
/* Whether execution may have to stop at @gpa. */
bool debug_stops_at(const struct soft *s, gpa_t gpa);
/* Whether it does at c.rip; then the engine is being stopped. */
bool debug_stop_here(struct vcpu *v);
/* The first op of a block for which debug_stops_at. */
const struct op *op_break(struct vcpu *v, const struct op *op);
/* Whether a place that an access hits is watched. */
bool debug_watches(const struct soft *s, u64 a, unsigned n, bool write);
/* It is: the engine stops behind the instruction. */
void debug_stop_behind(struct vcpu *v, u64 a, unsigned n, bool write);
/* An INT3 is about to be delivered. Returns as debug_stop_here. */
bool debug_int3(struct vcpu *v);

#endif
