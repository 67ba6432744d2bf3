/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_priv.h - what the translator's parts share: conventions of host code, a block in the making
 *
 * Registers. Twelve guest registers live in host registers while host code runs, the other four in
 * struct vcpu (host_of). RBP points at the vcpu; R10 and R11 are scratch. So most instructions are
 * the guest's own bytes with other register numbers.
 *
 * Flags. Between instructions guest flags are in the host's, in memory (of, fl), or in both
 * (enum where). Every way out of host code needs them in memory, exactly: so they are saved before
 * an instruction that may leave (and whose TLB compare destroys them), if they have changed since
 * the last time; and loaded back only before an instruction that reads them, or changes just some.
 *
 * Memory. A TLB probe inline. A miss asks C to enter the translation, and goes on; what is not a
 * plain access then (a fault, a device, two pages, a page with code) leaves.
 *
 * Leaving. R11 = the block (or 0: go on at RIP), R10 = the instruction, then to jit_exit, which
 * stores the registers and returns both to op_jit.
 */
#ifndef ORR_CPU_SOFT_X86_JIT_PRIV_H
#define ORR_CPU_SOFT_X86_JIT_PRIV_H

#include "cpu/soft/x86/codebuf.h"
#include "cpu/soft/x86/emit.h"
#include "cpu/soft/x86/jit.h"

#include <Zydis/Zydis.h>

#define T0 10u /* scratch registers */
#define T1 11u
#define VC 5u	 /* RBP: the vcpu */
#define G_RSP 9u /* where guest RSP and RBP are */
#define G_RBP 15u
#define EXIT_LINK 0x100u /* + 0, 1: make this link, then go on at RIP */

#define VCPU(field) em(VC, (s32)offsetof(struct vcpu, field))

/* Conditions, as in the opcodes of Jcc. */
#define CC_B 2
#define CC_AE 3
#define CC_E 4
#define CC_NE 5
#define CC_BE 6
#define CC_A 7
#define CC_S 8

/* What host code returns: op_jit. */
struct jit_ret {
	struct block *b;
	u64 k;
};

struct jit {
	struct codebuf cb;
	size_t glue; /* bytes that stay */
	struct jit_ret (*enter)(struct vcpu *v, const void *code);
	const void *exit;      /* stores registers, returns to C */
	const void *xmm_load;  /* makes XMM registers live; CF: it cannot */
	const void *x87_load;  /* makes x87 and XMM registers live; CF: it cannot */
	const void *miss;      /* enters a translation into the TLB; CF: it cannot */
	const void *exit_next; /* R11 = 0, then exit: what untranslated blocks have for code */
	bool full;
	u32 hot;
	ZydisDecoder dec;
	struct jit_stats st;
};

/* Host register of each guest register, or -1: it stays in memory. */
extern const s8 host_of[X86_GPRS];

/* Where the guest's flags are. */
enum where { FL_MEM, FL_HOST, FL_BOTH };

struct exit_ref {
	u32 at; /* of the jump's displacement */
	u8 k;
};

/* A TLB probe's way out of line. */
struct miss {
	u32 at, back; /* the jump's displacement; where it goes on with T0 a host pointer */
	u16 n;
	u8 k;
	bool write;
};
#define MISS_WRITE 0x10000u /* beside the size, in T1 */

/* One block being translated. */
struct tr {
	struct emit e;
	struct jit *j;
	struct block *b;
	unsigned k; /* the instruction */
	enum where fl;
	struct exit_ref exits[8 * BLOCK_OPS];
	unsigned n_exits;
	struct miss misses[4 * BLOCK_OPS];
	unsigned n_misses;
	bool ended;	      /* control has left the block */
	bool xmm, x87;	      /* these registers are known to be live */
	const struct vcpu *v; /* what all vCPUs have in common */
	u32 lookup[2];	      /* code that resolves link i */
	unsigned n_links;
};

/* What an instruction does with flags. */
enum fx { FX_NONE, FX_READ, FX_SET, FX_SOME };

/* jit_block.c */
bool translate_block(struct jit *j, struct vcpu *v, struct block *b);
op_fn handler(const struct tr *t);
struct erm greg(unsigned g); /* a guest register in memory */
/* The host register that holds guest register @g; loaded into @tmp if it lives in memory. */
u8 use(struct tr *t, unsigned g, u8 tmp);
void put(struct tr *t, unsigned g, u8 from);
void flags_save(struct tr *t);
void flags_load(struct tr *t);
/* Leaves at instruction k; flags are in memory. @cc: condition, or -1 for always. */
void leave(struct tr *t, int cc);
/* T0 = a linear address: turns it into a host pointer to @n bytes, or leaves. */
void probe(struct tr *t, unsigned n, bool write);
void address_of(struct tr *t, const struct op *o); /* T0 = the linear address of the operand */
/* The operand in memory: T0 = host pointer. */
void mem_operand(struct tr *t, const struct op *o, unsigned n, bool write);
void lookup(struct tr *t);	  /* goes on at [rip], whatever is there */
void go(struct tr *t, s64 delta); /* to @delta from the block's start; flags are in memory */

/* jit_insn.c; false: the instruction is the interpreter's, leave before it */
bool tr_insn(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
	     const u8 *bytes);
/* The guest register (0-15) of a general-register operand; *ret_high for AH..BH. -1: none. */
int gpr_of(ZydisRegister r, bool *ret_high);
unsigned map_flag(const ZydisDecodedInstruction *in);
void copy_imm(struct tr *t, const ZydisDecodedInstruction *in, const u8 *bytes);

/* jit_flow.c */
bool tr_push(struct tr *t, const ZydisDecodedOperand *o);
bool tr_pop(struct tr *t, const ZydisDecodedOperand *o);
bool tr_leave(struct tr *t);
bool tr_jcc(struct tr *t);
bool tr_branch(struct tr *t, bool call);
bool tr_branch_rm(struct tr *t, const ZydisDecodedOperand *o, bool call);
bool tr_ret(struct tr *t);

/* jit_vec.c */
bool tr_sse(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
	    const u8 *bytes);
bool tr_x87(struct tr *t, const ZydisDecodedInstruction *in);
struct erm xmm_slot(unsigned i); /* a guest XMM register in memory */
void emit_xmm_load(struct emit *e);
void emit_x87_load(struct emit *e);
void emit_vec_store(struct emit *e);

#endif
