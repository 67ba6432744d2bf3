/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec.h - vector and x87 instructions of the guest as the same host instruction
 *
 * How it works
 * For each distinct instruction (registers and opcode; a memory operand's address does not count)
 * a small host function, a thunk, is made once: it loads the guest registers that the instruction
 * names from struct x86_cpu, executes the instruction with its memory operand replaced by
 * [scratch], and stores what it changed. The interpreter fetches and stores memory operands.
 */
#ifndef ORR_CPU_SOFT_X86_VEC_H
#define ORR_CPU_SOFT_X86_VEC_H

#include "isa/x86/state.h"

#include <Zydis/Zydis.h>

struct vec; /* thunks of a VM and the code arena they live in */

/*
 * @mem points to a 64-byte aligned buffer of at least 512 bytes that holds the memory operand
 * (filled before if it is read, taken after if it is written).
 */
typedef int (*vec_fn)(struct x86_cpu *c, void *mem);

enum vec_class {
	VEC_SSE, /* needs CR0.EM = 0, CR0.TS = 0, CR4.OSFXSR: else #UD / #NM */
	VEC_MMX, /* CR0.EM: #UD; TS: #NM; pending x87 exception: #MF */
	VEC_X87, /* EM or TS: #NM; waiting instructions: #MF if FSW.ES is set and CR0.NE */
	VEC_X87_NOWAIT,
};

struct vec_insn {
	vec_fn fn; /* 0, or X86_FAULT with c->exc set (#XM, #MF); then nothing was changed */
	u8 cls;    /* enum vec_class */
	u8 mem_read, mem_write;  /* the operand in [mem] is read / written */
	u16 mem_size;            /* bytes, 0 without a memory operand */
	u8 mem_align;            /* alignment whose violation is #GP(0), or 1 */
};

int vec_new(struct vec **ret);
void vec_free(struct vec *v);

/*
 * Whether @insn is a vector/x87 instruction (SSE..SSE4.2, MMX, x87, PCLMUL/AES only if
 * implemented; not FXSAVE/XSAVE/LDMXCSR/STMXCSR/EMMS-class exceptions named in vec.c), and its
 * thunk. 0, -ENOENT if it is not ours, -ENOMEM.
 */
int vec_get(struct vec *v, const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *ops,
	    const u8 *bytes, struct vec_insn *ret);

#endif
