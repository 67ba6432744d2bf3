/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_priv.h - what the translator's parts share: conventions of host code, a region in the making
 *
 * Registers. Twelve guest registers live in host registers while host code runs, the other four in
 * struct vcpu (host_of). RSP points at the vcpu, with room for signal handlers below it; R15 is the
 * budget; R10 and R11 are scratch. So most instructions are the guest's own bytes with other
 * register numbers.
 *
 * RIP. One block may run at several linear addresses, so c.rip holds the linear address of the
 * *page* while host code runs, and everything else is a constant added to it.
 *
 * Flags. Between instructions guest flags are in the host's, in memory (just below the vcpu, as
 * PUSHF leaves them), in both, or to be had by a recipe: host instructions that make them again
 * from registers that are still what they were (enum where). Every way out of host code needs them
 * in memory; recipes are followed out of line, on the way out. Where no instruction and no way
 * out will ask for them, they are in none of these places.
 *
 * Memory. A TLB probe inline. A miss asks C to enter the translation, and goes on; what is not a
 * plain access then (a fault, a device, two pages, a page with code) leaves.
 *
 * Leaving. R11 = a block, R10 = the number of an instruction in it or one of enum exit_code, then
 * to jit_exit, which stores the registers and returns both to op_jit.
 */
#ifndef ORR_CPU_SOFT_X86_JIT_PRIV_H
#define ORR_CPU_SOFT_X86_JIT_PRIV_H

#include "cpu/soft/x86/codebuf.h"
#include "cpu/soft/x86/emit.h"
#include "cpu/soft/x86/jit.h"

#include <Zydis/Zydis.h>
#include <stdio.h>

#define T0 10u /* scratch registers */
#define T1 11u
#define VC 4u /* RSP: the vcpu */
#define BUDGET 15u
#define G_RSP 9u /* where guest RSP is */
#define G_RBP 5u

#define VCPU(field) em(VC, (s32)offsetof(struct vcpu, field))
#define FLAGS_SLOT em(VC, -8) /* EFLAGS as PUSHF stores them */

/* Conditions, as in the opcodes of Jcc. */
#define CC_B 2
#define CC_AE 3
#define CC_E 4
#define CC_NE 5
#define CC_BE 6
#define CC_A 7
#define CC_S 8

/* What R10 may say beside the number of an instruction. */
enum exit_code {
	EXIT_GO = 0x100,     /* go on at c.rip, whatever is there; R11 is not used */
	EXIT_BUDGET = 0x101, /* the budget is less than block R11 takes */
	EXIT_LINK = 0x102,   /* R11 is a link to make; go on at its target, */
	EXIT_FAR = 0x103,    /* or, if that is in another page, at c.rip */
	EXIT_ONE = 0x200,    /* + an instruction: run it, then go on at v->jit_resume */
};

/* What host code returns: op_jit. */
struct jit_ret {
	void *p; /* struct block or struct block_link */
	u64 k;
};

#define REGION_BLOCKS 24u
#define REGION_INSNS 224u
#define TAKE_MAX 100u /* instructions that the budget is asked for at once, at most */
#define LINKS_MAX(members) (4 * (members)) /* two ways out, each in line and out of line */

/* Blocks of one page that were translated together; dropped together. */
struct region {
	struct region *next, **prevp; /* in its segment; dropped ones by `next` in struct jit */
	unsigned n, n_links;
	u32 bytes; /* of host code */
	struct block *member[REGION_BLOCKS];
	struct block_link link[]; /* room for LINKS_MAX */
};

struct tr;

/* A piece of the cache of host code, filled from its beginning and emptied as a whole. */
struct segment {
	struct codebuf cb;
	struct region *regions;
};

struct jit {
	struct codebuf glue;
	struct segment *seg; /* a ring: the one being filled, then the oldest */
	unsigned n_segs, cur;
	size_t seg_bytes;
	struct region *dead; /* dropped while their code may have been running */
	struct jit_ret (*enter)(struct vcpu *v, const void *code);
	const void *exit;      /* stores registers, returns to C */
	const void *xmm_load;  /* makes XMM registers live; CF: it cannot */
	const void *ymm_load;  /* makes YMM registers live; CF: it cannot */
	const void *x87_load;  /* makes x87 and XMM registers live; CF: it cannot */
	const void *miss;      /* enters a translation into the TLB; CF: it cannot */
	const void *look_up;   /* goes on at the RIP in T0 */
	const void *exit_link; /* EXIT_FAR: goes on at the RIP in T0 */
	const void *exit_next; /* EXIT_GO: what untranslated blocks have for code */
	bool bmi2, avx;	       /* the host has them */
	u32 hot;
	ZydisDecoder dec;
	struct tr *tr;	  /* room for one */
	FILE *dump, *map; /* borrowed, or NULL */
	const struct symbols *symbols;
	struct jit_stats st;
};

/* Host register of each guest register, or -1: it stays in memory. */
extern const s8 host_of[X86_GPRS];

/* Where the guest's flags are. */
enum where { FL_MEM, FL_HOST, FL_BOTH, FL_RECIPE };

/* What an instruction does with flags: nothing, reads, sets all, sets some, reads and sets. */
enum fx { FX_NONE, FX_READ, FX_SET, FX_KEEP, FX_SOME };

/* Who asks for flags at a place, from there on, before they are set anew. */
enum live { DEAD, IN_EXITS, LIVE };

/* How flags are made again. */
struct recipe {
	enum recipe_kind {
		REC_NONE,
		REC_CMP,
		REC_TEST,
		REC_RESULT,
		REC_ADD,
		REC_SUB,
		REC_NEG
	} kind;
	u16 regs;     /* guest registers that must not have changed */
	u8 dst, size; /* guest register; bits */
	s8 src;	      /* guest register, or -1: imm */
	s32 imm;
};

/* One guest instruction. */
struct insn {
	ZydisDecodedInstruction in;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	const u8 *bytes;
	enum fx fx;
	bool exits;   /* may leave before it is done */
	bool refused; /* the interpreter's */
	u16 writes;   /* guest registers */
	enum live after;
	u32 at; /* host code */
};

/* Where a block may go to next. */
struct succ {
	bool used;
	s64 delta; /* from the block's start */
	int m;	   /* member, or -1 */
};

/* One block of the region. */
struct member {
	struct block *b;
	struct insn *insn;   /* b->n of them */
	struct succ succ[2]; /* 0: what follows, or a jump's target; 1: a taken branch's */
	enum { IN_DEAD, IN_MEM, IN_HOST } entry; /* where flags are at its start */
	/*
	 * Budget: taken for the block when it is entered, and for those that may follow before
	 * instruction @check, or (-1) together with its own.
	 */
	unsigned in, take; /* instructions: for the block; for what follows */
	int check;
	u32 label, near, far, tail;
	bool tail_used;
};

struct exit_ref {
	u32 at; /* of the jump's displacement */
	u16 m;
	u16 k;	    /* instruction, or enum exit_code */
	u16 refund; /* to the budget: what was taken beyond the block, or with it */
	s16 rec;
};

/* A TLB probe's way out of line. */
struct miss {
	u32 at, back; /* the jump's displacement; where it goes on with T0 a host pointer */
	u16 n, m, k, refund;
	s16 rec;
	s16 run; /* on failure, its other version; -1: leave */
	bool write;
};
#define MISS_WRITE 0x10000u /* beside the size, in T1 */

/* Accesses at small distances from one register, with one probe for all (jit_run.c). */
struct run {
	bool on;
	u8 base; /* guest register */
	bool write;
	unsigned from, to; /* instructions */
	s32 lo, delta;	   /* T0 points at base + lo - delta */
	u32 span;	   /* bytes */
	s32 first;	   /* displacement of the first access */
	u8 align;	   /* of it, checked before the probe */

	/* For the version with a probe for each access. */
	u16 m;
	enum where fl, fl_end;
	struct recipe rec;
	unsigned held;
	u32 slow, back; /* where it is; where it goes on */
	bool ended;
};

/* A branch's way to another block, out of line. */
struct edge {
	u32 at;
	u16 m;
	u8 s;
	enum where fl;
	struct recipe rec;
};

struct fixup {
	u32 at;
	u16 m;
	bool tail;
};

/* A region being translated. */
struct tr {
	struct emit e;
	struct jit *j;
	const struct vcpu *v; /* what all vCPUs have in common */
	struct region *r;
	struct member m[REGION_BLOCKS];
	unsigned n, cur; /* members; the one being translated */
	struct block *b; /* m[cur].b */
	unsigned k;	 /* the instruction */
	unsigned held;	 /* instructions of the budget taken for what follows the block */
	enum where fl;
	struct recipe rec;  /* of the current flags */
	bool rec_new;	    /* they were set by the current instruction */
	bool ended;	    /* control has left the block */
	bool checked;	    /* the budget is, before the next instruction */
	bool out;	    /* what is emitted stands out of line */
	struct run run;	    /* the current one, if run.on */
	bool xmm, ymm, x87; /* the region uses these */
	bool surprise;	    /* an instruction is not what it was taken for: once more */

	u32 in_line; /* host code that is not out of line */
	struct insn insn[REGION_INSNS];
	unsigned n_insn;
	struct exit_ref exits[6 * REGION_INSNS];
	unsigned n_exits;
	struct miss misses[3 * REGION_INSNS];
	unsigned n_misses;
	struct recipe recs[3 * REGION_INSNS];
	unsigned n_recs;
	struct run runs[REGION_INSNS / 2];
	unsigned n_runs;
	struct edge edges[REGION_BLOCKS];
	unsigned n_edges;
	struct fixup fixups[8 * REGION_INSNS];
	unsigned n_fixups;
	u32 resolve[LINKS_MAX(REGION_BLOCKS)]; /* code that resolves link i; looks its target up */
	u32 look_up[LINKS_MAX(REGION_BLOCKS)];
	u8 straddle[32]; /* the instruction of a block in two pages */
	u8 buf[96 * 1024];
};

/* jit.c */
void link_break(struct block_link *l);
/*
 * Room for the @n bytes of @code and for @r, whose code they are; it may drop other regions, so no host
 * code may be running. 0 and the executable address, or -ENOMEM.
 */
int code_place(struct jit *j, struct region *r, const void *code, size_t n, const u8 **ret_code);
void block_hot(struct block *b);		 /* it is host code now */
void block_cold(struct jit *j, struct block *b); /* it is not any more */

/* jit_region.c */
/* Host code for @b and blocks around it. 0; -ENOENT: there is none; -ENOMEM: perhaps later. */
int translate_region(struct jit *j, struct vcpu *v, struct block *b);
size_t region_size(const struct region *r); /* without its code */
/* Nothing leads to @r any more; it stays readable until jit_reap. */
void region_drop(struct jit *j, struct region *r);
void translate_insn(struct tr *t);

/* jit_flags.c */
void analyse(struct tr *t);    /* fills what jit_insn.c asks of struct insn */
void flags_save(struct tr *t); /* into memory; host flags stay */
void flags_load(struct tr *t); /* into the host's */
void flags_drop(struct tr *t); /* the host's are about to change */
void recipe_emit(struct tr *t, const struct recipe *r);
void recipe_note(struct tr *t);		/* the instruction just emitted set all flags */
void flags_before(struct tr *t);	/* the instruction about to be emitted asks for them */
void flags_after(struct tr *t);		/* it has set them */
void recipe_check(struct tr *t);	/* after each instruction */
void exit_flags(struct tr *t, s16 rec); /* on a way out: flags to memory */

/* jit_block.c */
struct erm greg(unsigned g); /* a guest register in memory */
/* The host register that holds guest register @g; loaded into @tmp if it lives in memory. */
u8 use(struct tr *t, unsigned g, u8 tmp);
void put(struct tr *t, unsigned g, u8 from);
/* Leaves at instruction k; flags are in memory or a recipe. @cc: condition, or -1 for always. */
void leave(struct tr *t, int cc);
void leave_as(struct tr *t, int cc, unsigned code);
/* T0 = a linear address: turns it into a host pointer to @n bytes, or leaves. */
void probe(struct tr *t, unsigned n, bool write);
void address_of(struct tr *t, const struct op *o); /* T0 = the linear address of the operand */
/* The operand in memory; T0 is used up. @align: else leave. */
struct erm mem_operand(struct tr *t, const struct op *o, unsigned n, unsigned align, bool write);
/* The @n bytes at RSP + @off. */
struct erm stack_operand(struct tr *t, s32 off, unsigned n, bool write);
void run_begin(struct tr *t);
void run_end(struct tr *t);
void lin_of(struct tr *t, u8 reg, s64 delta); /* @reg = linear address at @delta from the block */
void emit_lookup(struct emit *e);	      /* goes on at T0, whatever is there */
void edge(struct tr *t, unsigned s);	      /* to successor @s */
void branch(struct tr *t, u8 cc);	      /* to successor 1 if @cc, else 0 */
/* The interpreter runs instruction k; then host code goes on. */
void run_one_insn(struct tr *t);
void block_start(struct tr *t);
void budget_check(struct tr *t); /* before the instruction that member.check says */
void out_of_line(struct tr *t);

/* jit_dump.c; @rip: a linear address of the region's page */
void jit_dump(const struct tr *t, const u8 *code, u64 rip);
void jit_map(const struct tr *t, const u8 *code, u64 rip);

/* jit_run.c */
bool run_plan(struct tr *t, struct run *ret);
void run_step(struct tr *t);

/* jit_insn.c; false: the instruction is the interpreter's */
bool tr_insn(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
	     const u8 *bytes);
/* The guest register (0-15) of a general-register operand; *ret_high for AH..BH. -1: none. */
int gpr_of(ZydisRegister r, bool *ret_high);
/* The operand that stands in that field of the encoding, or NULL. */
const ZydisDecodedOperand *encoded_in(const ZydisDecodedInstruction *in,
				      const ZydisDecodedOperand *o, ZydisOperandEncoding enc);
unsigned map_flag(const ZydisDecodedInstruction *in);
void copy_imm(struct tr *t, const ZydisDecodedInstruction *in, const u8 *bytes);
unsigned alignment_of(const ZydisDecodedInstruction *in); /* that its memory operand must have */
bool moves_data(const ZydisDecodedInstruction *in);	  /* is re-emitted with other registers */
bool keeps_t0(const struct insn *x); /* although it uses a register that lives in memory */
enum fx fx_of(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o);

/* jit_flow.c */
bool tr_push(struct tr *t, const ZydisDecodedOperand *o);
bool tr_pop(struct tr *t, const ZydisDecodedOperand *o);
bool tr_leave(struct tr *t);
bool tr_jcc(struct tr *t);
bool tr_branch(struct tr *t, bool call);
bool tr_branch_rm(struct tr *t, const ZydisDecodedOperand *o, bool call);
bool tr_ret(struct tr *t);
bool tr_pushf(struct tr *t);
bool tr_cli(struct tr *t);
bool tr_sti(struct tr *t);
bool tr_mov_from_seg(struct tr *t, const ZydisDecodedOperand *o);
bool tr_base(struct tr *t, const ZydisDecodedOperand *o, unsigned seg, bool write);
bool tr_swapgs(struct tr *t);

/* jit_vec.c */
bool tr_sse(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
	    const u8 *bytes);
bool tr_x87(struct tr *t, const ZydisDecodedInstruction *in);
void need_live(struct tr *t, unsigned code); /* at a way in, or after @code ran in C */
void need_ymm(struct tr *t);
bool is_vector(const ZydisDecodedOperand *o); /* an XMM or YMM register */
/* A register operand for the host: a general one that lives in memory in @tmp. -1: none of these. */
int vec_reg(struct tr *t, const ZydisDecodedOperand *o, u8 tmp);
/* @tmp goes to where the general register @o lives, if it is one in memory that is written. */
void vec_put(struct tr *t, const ZydisDecodedOperand *o, u8 tmp);
/* Leaves if the control word at @m would unmask an exception, or set a reserved bit. */
void masked_only(struct tr *t, struct erm m, unsigned n, u32 masks, u32 reserved);
/* All registers that are live, to or from memory; @base: the vcpu. Changes RAX if it is not that. */
void emit_live_save(struct emit *e, u8 base, bool avx);
void emit_live_load(struct emit *e, u8 base, bool avx);
void emit_xmm_load(struct emit *e);
void emit_ymm_load(struct emit *e);
void emit_x87_load(struct emit *e);
void emit_vec_store(struct emit *e, bool avx);

/* jit_vex.c */
bool tr_vex(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
	    const u8 *bytes);

#endif
