/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec.h - vector and x87 instructions of the guest as the same host instruction
 *
 * How it works
 * For each distinct instruction (registers and opcode; a memory operand's address does not count)
 * a small host function, a thunk, is made once: it loads the guest registers that the instruction
 * names from struct x86_cpu, executes the instruction with its memory operand replaced by
 * [scratch], and stores what it changed. The interpreter fetches and stores memory operands.
 *
 * The host needs SSE4.2. A guest that unmasks SSE exceptions makes the host raise SIGFPE inside
 * thunks; vec_new installs a handler for it (which hands every other SIGFPE to the one before),
 * and the first such thunk unblocks the signal in its thread. Do not replace the handler later.
 */
#ifndef ORR_CPU_SOFT_X86_VEC_H
#define ORR_CPU_SOFT_X86_VEC_H

#include "isa/x86/state.h"

#include <Zydis/Zydis.h>

struct vec; /* thunks of a VM and the code arena they live in */

/*
 * @mem points to the memory operand: a buffer (filled before if it is read, taken after if it is
 * written) or guest RAM itself, aligned to mem_align. c->x.mxcsr_mask is never changed.
 */
typedef int (*vec_fn)(struct x86_cpu *c, void *mem);

enum vec_class {
	VEC_SSE, /* needs CR0.EM = 0, CR0.TS = 0, CR4.OSFXSR: else #UD / #NM */
	VEC_MMX, /* CR0.EM: #UD; TS: #NM; pending x87 exception: #MF */
	VEC_X87, /* EM or TS: #NM; waiting instructions: #MF if FSW.ES is set and CR0.NE */
	VEC_X87_NOWAIT,
	VEC_FWAIT, /* #NM only if CR0.MP and TS */
	VEC_AVX,   /* VEX-encoded: CR4.OSXSAVE, XCR0[2:1], not real mode: else #UD; TS: #NM */
};

struct vec_insn {
	/*
	 * 0, or X86_FAULT with c->exc set (#XM, #UD for it, #MF, #GP of LDMXCSR). Then only MXCSR
	 * flags have changed, and the x87 state by a CVTxx2PI that entered MMX state first;
	 * [mem] must not be stored.
	 */
	vec_fn fn;
	u8 cls;			/* enum vec_class */
	u8 mem_read, mem_write; /* the operand in [mem] is read / written; x87 and MASKMOV
				 * stores say both: they may leave bytes as they were */
	u16 mem_size;		/* bytes, 0 without a memory operand */
	u8 mem_align;		/* alignment whose violation is #GP(0), or 1 */
};

/* 0, -ENOTSUP if the host has no SSE4.2, -EPERM if it forbids generated code, -ENOMEM. */
int vec_new(struct vec **ret);
void vec_free(struct vec *v);

/*
 * Whether @insn is a vector/x87 instruction of SSE to SSE4.2, MMX or x87, or one of AVX, AVX2, FMA
 * and F16C, and its thunk (borrowed, until vec_flush; the same instruction gives the same pointer). Also
 * LDMXCSR, STMXCSR, EMMS, FWAIT. Not FXSAVE, XSAVE and their like (isa/x86), nor MOVNTI, CRC32,
 * POPCNT, prefetches, fences (plain instructions), nor masked moves, gathers, VZEROUPPER and VZEROALL
 * (ops_avx.c), nor anything newer: -ENOENT.
 * @ops are all operands, hidden ones too; MASKMOV's memory operand is a hidden one.
 * 0, -ENOENT if it is not ours, -ENOMEM also when the arena is full: see vec_flush.
 */
int vec_get(struct vec *v, const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *ops,
	    const u8 *bytes, const struct vec_insn **ret);

/*
 * What of x86-64-v3 the host cannot execute ("AVX2"), or NULL: thunks of VEX-encoded instructions,
 * and the handlers of ops_bmi.c, are for a host that has all of it. vec_lacks answers for given
 * CPUID registers (leaf 1 ECX, leaf 7 EBX, leaf 80000001H ECX) and XCR0.
 */
const char *vec_host_lacks(void);
const char *vec_lacks(u32 leaf1_ecx, u32 leaf7_ebx, u32 ext1_ecx, u64 xcr0);

/*
 * Drops all thunks. Every struct vec_insn taken before is void: the caller has dropped the blocks
 * that hold them. A guest that makes up endless different instructions forces this now and then.
 */
void vec_flush(struct vec *v);

/* To be called in a child process before it uses @v: see codebuf_fork_child. */
int vec_fork_child(struct vec *v);

struct vec_stats {
	u64 thunks, code_bytes, flushes;
};
struct vec_stats vec_stats(const struct vec *v);

#endif
