/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit.h - the translator: hot blocks as host code
 */
#ifndef ORR_CPU_SOFT_X86_JIT_H
#define ORR_CPU_SOFT_X86_JIT_H

#include "cpu/soft/x86/vcpu.h"

#include <stdio.h>

struct jit; /* host code of a VM's blocks */

struct jit_stats {
	u64 translated, regions, refused;     /* blocks, ... */
	u64 evictions, evicted, evict_ns_max; /* of segments; regions; the longest took, host ns */
	u64 code_bytes, region_bytes;	      /* in use */
	u64 code_held, other_bytes;	      /* host code, dropped one too; all else */
};

/*
 * @code_max: bytes of host code; beyond, the oldest is forgotten. @eager: translate at the first
 * execution instead of when a block is hot. 0, -ENOMEM, -EPERM.
 */
int jit_new(size_t code_max, bool eager, struct jit **ret);
/* All blocks have been dropped. */
void jit_free(struct jit *j);
struct symbols;
/* Where to write what is translated (jit_dump.c), and names for it; borrowed; NULL: nowhere, none. */
void jit_trace(struct jit *j, FILE *dump, FILE *perf_map, const struct symbols *symbols);
struct jit_stats jit_stats(const struct jit *j);

/* A new block: it counts its executions and is translated when it is hot. */
void jit_watch(struct jit *j, struct block *b);
/* The block is being dropped: nothing may jump to its code any more. */
void jit_forget(struct jit *j, struct block *b);
/* Frees what belonged to dropped blocks; call when no host code runs. */
void jit_reap(struct jit *j);
/* Fills the fields of a vCPU that host code uses. */
void jit_attach(const struct jit *j, struct vcpu *v);
/*
 * To be called in a child process: the code made so far stays shared with the parent, which goes on as
 * if nothing had happened. Nothing is dumped any more.
 */
void jit_fork_child(struct jit *j);

#endif
