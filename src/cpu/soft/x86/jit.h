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
	u64 translated, regions, refused, flushes; /* blocks, ... */
	u64 code_bytes, region_bytes;		   /* in use */
};

/*
 * @code_max: bytes of host code before everything is forgotten. @eager: translate at the first
 * execution instead of when a block is hot. 0, -ENOMEM, -EPERM.
 */
int jit_new(size_t code_max, bool eager, struct jit **ret);
/* Where to write what is translated (jit_dump.c), borrowed; NULL: nowhere. */
void jit_trace(struct jit *j, FILE *dump, FILE *perf_map);
void jit_free(struct jit *j);
struct jit_stats jit_stats(const struct jit *j);

/* A new block: it counts its executions and is translated when it is hot. */
void jit_watch(struct jit *j, struct block *b);
/* The block is being dropped: nothing may jump to its code any more. */
void jit_forget(struct jit *j, struct block *b);
/* The buffer is full. The caller drops every block, then calls jit_reset between handlers. */
/* Fills the fields of a vCPU that host code uses. */
void jit_attach(const struct jit *j, struct vcpu *v);
bool jit_full(const struct jit *j);
void jit_reset(struct jit *j);

#endif
