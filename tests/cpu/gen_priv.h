/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_priv.h - what the files of the generator share
 */
#ifndef ORR_TESTS_CPU_GEN_PRIV_H
#define ORR_TESTS_CPU_GEN_PRIV_H

#include "diff.h"

struct rng {
	u64 s;
	u8 mode;  /* enum diff_mode of the sequence in the making */
	bool smc; /* its code may be written */
	/*
	 * Its instructions mostly do not fault: what faults each time never gets hot, since a run ends
	 * after a few exceptions.
	 */
	bool calm;
};

u64 rnd(struct rng *g);
u32 rnd_below(struct rng *g, u32 n); /* 0..n-1 */
bool rnd_pct(struct rng *g, u32 percent);
u64 rnd_pointer(struct rng *g); /* into or near the data pages */
u64 rnd_value(struct rng *g);	/* small numbers, edges of all sizes, random bits */
void rnd_block(struct rng *g, u8 *p16);

/* Whether a classified instruction belongs to the CPU model and may run here; see rules.c. */
bool gen_allowed(struct rng *g, struct diff_insn *d);
/* An instruction of a shape that random bytes hit too seldom; see special.c. */
void gen_special(struct rng *g, struct diff_insn *d);
/* An instruction of x86-64-v3, or bytes that only look like one; see gen_avx.c. */
void gen_avx(struct rng *g, struct diff_insn *d);
/* Bytes of an encoding: ModRM with SIB and displacement. */
struct enc {
	u8 b[48];
	unsigned n;
};
void enc_put(struct enc *e, u64 v, unsigned size);
void enc_modrm(struct rng *g, struct enc *e, bool want_reg);
/* Control flow, and what goes with it in loops; see gen_flow.c. */
void gen_flow(struct rng *g, struct diff_insn *d);
/* A call of a subroutine, a jump past one, and its end. */
enum gen_sub { SUB_CALL, SUB_SKIP, SUB_RET };
void gen_sub(struct rng *g, struct diff_insn *d, enum gen_sub what);
/* Makes the last instruction of @q one that goes back to its beginning. */
void gen_loop(struct rng *g, struct diff_seq *q);
/* Chooses the targets of all branches and writes of @q. */
void gen_targets(struct rng *g, struct diff_seq *q);

/* For makers: an empty instruction, bytes at its end, where the one that is meant begins, done. */
void gen_start(struct rng *g, struct diff_insn *d);
void gen_bytes(struct diff_insn *d, u64 v, unsigned n);
void gen_mark(struct diff_insn *d);
void gen_finish(struct diff_insn *d);
/* MOV r32, imm32 (of 8 to 15: in 64-bit code). */
void gen_set32(struct diff_insn *d, unsigned reg, u32 v);

/* MOV of a good value to a register, as wide as it goes. */
void gen_mov_imm(struct rng *g, struct diff_insn *d);

#endif
