/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_priv.h - what the thunk generator and the code that runs beside thunks share
 */
#ifndef ORR_CPU_SOFT_X86_VEC_PRIV_H
#define ORR_CPU_SOFT_X86_VEC_PRIV_H

#include "cpu/soft/x86/vec.h"

/* Host registers by number in an encoding. */
enum {
	VEC_H_RAX = 0,
	VEC_H_RCX = 1,
	VEC_H_RDX = 2,
	VEC_H_XMM_IMPLIED = 0,
	VEC_H_XMM_REG = 1,
	VEC_H_XMM_RM = 2,
	VEC_H_XMM_VVVV = 3, /* VEX only, as the next */
	VEC_H_XMM_IS4 = 4,
	VEC_H_RSI = 6
};

enum vec_kind {
	VEC_KIND_NONE,
	VEC_KIND_SSE,
	VEC_KIND_X87, /* also MMX: the x87 registers take part */
	VEC_KIND_AVX, /* VEX-encoded: what is written has its upper half written too */
	VEC_KIND_LDMXCSR,
	VEC_KIND_STMXCSR,
	VEC_KIND_FWAIT,
};

/* A register operand. */
struct vec_regop {
	u8 guest, host;
	bool read, write;
	bool wide; /* YMM */
};

/* An instruction taken apart, as far as a thunk needs it. */
struct vec_form {
	enum vec_kind kind;
	bool mmx, fp; /* fp: depends on MXCSR and can raise #XM */
	bool maskmov; /* stores at RDI, implicitly */
	bool ax16;    /* FNSTSW AX */
	bool flags_in, flags_out;

	u8 prefix[2], nprefix;
	bool rex_w;
	u8 opcode[3], nopcode;
	bool has_modrm, mem;
	u8 mod, reg, rm;      /* reg and rm with REX.R and REX.B as bit 3 */
	u8 host_reg, host_rm; /* as encoded in the thunk */
	u8 imm[2], nimm;

	/* VEX only */
	u8 vex_map, vex_pp; /* as encoded */
	bool vex_w, vex_l;
	u8 vvvv, host_vvvv; /* register numbers, 0 if there is none (SDM vol. 2, 2.3.5.6) */
	bool is4;	    /* the immediate's upper half is a register */

	struct vec_regop gpr[4], xmm[4];
	unsigned ngpr, nxmm;
	u16 mem_size;
	bool mem_read, mem_write;
};

/*
 * Takes an instruction apart. 0, or -ENOENT if it is none of ours. The rest: facts about one that
 * is. A 16-byte operand without alignment; an x87 instruction that does not report a pending
 * exception; FNSTENV, FNSAVE, FLDENV, FRSTOR.
 */
int vec_form_init(struct vec_form *f, const ZydisDecodedInstruction *in,
		  const ZydisDecodedOperand *ops, const u8 *bytes);
/* The same for VEX-encoded ones (vec_vex.c); vec_form_init leaves them to it. */
int vec_vex_init(struct vec_form *f, const ZydisDecodedInstruction *in,
		 const ZydisDecodedOperand *ops, const u8 *bytes);
/* A VEX-encoded instruction whose memory operand must be aligned to its size. */
bool vec_vex_aligned(const ZydisDecodedInstruction *in);
bool vec_unaligned_ok(const ZydisDecodedInstruction *in);
bool vec_nowait(const ZydisDecodedInstruction *in);
bool vec_is_env(const ZydisDecodedInstruction *in);

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
