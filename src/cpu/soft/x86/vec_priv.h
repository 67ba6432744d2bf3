/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_priv.h - what the thunk generator and the code that runs beside thunks share
 */
#ifndef ORR_CPU_SOFT_X86_VEC_PRIV_H
#define ORR_CPU_SOFT_X86_VEC_PRIV_H

#include "cpu/soft/x86/vec.h"

/* Which x87 memory image a thunk stores, so that its pointers can be scrubbed. */
enum vec_env { VEC_ENV_NONE, VEC_ENV_16, VEC_ENV_32 };

/* One generated instruction. Its address is part of its code, so it never moves. */
struct vec_thunk {
	struct vec_thunk *next; /* hash chain */
	u8 key[20];		/* canonical encoding, see vec.c; zero padded */
	struct vec_insn insn;
	vec_fn body;	  /* executes the instruction, without checks */
	const u8 *end;	  /* behind the body */
	const u8 *resume; /* where the body goes on when the host raises #XM in it, or NULL */
	bool waits;	  /* #MF first if an unmasked x87 exception is pending */
	u8 env;		  /* enum vec_env */
};

/* Thunks that save and load the whole x87 state come here first. */
int vec_run_x87(struct x86_cpu *c, void *mem, const struct vec_thunk *t);
/* SSE thunks come here when the guest has unmasked an SSE exception. */
int vec_run_unmasked(struct x86_cpu *c, void *mem, const struct vec_thunk *t);

/* Instructions that need no host instruction: vec_fn. */
int vec_ldmxcsr(struct x86_cpu *c, void *mem);
int vec_stmxcsr(struct x86_cpu *c, void *mem);
int vec_fwait(struct x86_cpu *c, void *mem);

/* Takes over SIGFPE for faults inside thunks, unless it has it. 0 or a negative errno. */
int vec_trap_init(void);

#endif
