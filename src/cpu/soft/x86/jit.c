/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit.c - the translator: hot blocks of 64-bit guest code as host code
 *
 * How it works
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
 * Vectors. Guest XMM registers and MXCSR become the host's at the first SSE instruction after
 * entering host code, and memory's when it is left (xmm_live), so that code without SSE pays
 * nothing. With an SSE exception unmasked, or SSE not available, the interpreter takes over. The
 * same holds for the x87 state (x87_live); control words and environments are the interpreter's.
 *
 * Memory. A TLB probe inline; a miss, and every instruction this file does not know, leaves host
 * code *before* the instruction, with precise state, and the interpreter runs the rest of the
 * block. There is no other slow path: faults, devices and self-modifying code are the
 * interpreter's, and so the two tiers cannot disagree about them.
 *
 * Blocks. RIP is kept in memory, since one block may run at several linear addresses: each way
 * from block to block adds a constant to it. Direct branches inside a page go through a link that
 * points at the target's code once both are translated (the page's translation is what it was, or
 * we would not be running there). All others look the target up in the vCPU's block cache. A block
 * begins by taking its instruction count from the budget, so turns end exactly where the
 * interpreter ends them.
 *
 * Leaving. R11 = the block (or 0: go on at RIP), R10 = the instruction, then to jit_exit, which
 * stores the registers and returns both to op_jit.
 */
#include "cpu/soft/x86/jit.h"

#include "cpu/soft/soft_priv.h"
#include "cpu/soft/x86/codebuf.h"
#include "cpu/soft/x86/emit.h"
#include "cpu/soft/x86/ops.h"
#include "cpu/soft/x86/vec.h"

#include <Zydis/Zydis.h>

#include <errno.h>
#include <stdlib.h>

#define HOT 48u		/* executions until a block is translated */
#define CODE_MAX 16384u /* of one block, before it is copied into place */
#define T0 10u		/* scratch registers */
#define T1 11u
#define VC 5u	 /* RBP: the vcpu */
#define G_RSP 9u /* where guest RSP and RBP are */
#define G_RBP 15u
#define EXIT_LINK 0x100u /* + 0, 1: make this link, then go on at RIP */

#define V(field) em(VC, (s32)offsetof(struct vcpu, field))

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
	const void *exit_next; /* R11 = 0, then exit: what untranslated blocks have for code */
	bool full;
	u32 hot;
	ZydisDecoder dec;
	struct jit_stats st;
};

/* Host register of each guest register, or -1: it stays in memory. */
static const s8 host_of[X86_GPRS] = {
	[X86_RAX] = 0,	   [X86_RCX] = 1,     [X86_RDX] = 2,  [X86_RBX] = 3,
	[X86_RSP] = G_RSP, [X86_RBP] = G_RBP, [X86_RSI] = 6,  [X86_RDI] = 7,
	[X86_R8] = 8,	   [X86_R9] = -1,     [X86_R10] = -1, [X86_R11] = -1,
	[X86_R12] = 12,	   [X86_R13] = 13,    [X86_R14] = 14, [X86_R15] = -1,
};

enum where { FL_MEM, FL_HOST, FL_BOTH };

struct exit_ref {
	u32 at; /* of the jump's displacement */
	u8 k;
};

/* One block being translated. */
struct tr {
	struct emit e;
	struct jit *j;
	struct block *b;
	unsigned k; /* the instruction */
	enum where fl;
	struct exit_ref exits[4 * BLOCK_OPS];
	unsigned n_exits;
	bool ended;	      /* control has left the block */
	bool xmm, x87;	      /* these registers are known to be live */
	const struct vcpu *v; /* what all vCPUs have in common */
	u32 lookup[2];	      /* code that resolves link i */
	u32 link_slot[2];
	unsigned n_links;
};

/* The handler of the instruction: the first op's own is aside while the block is watched. */
static op_fn handler(const struct tr *t)
{
	return t->k ? t->b->ops[t->k].fn : t->b->fn0;
}

/* --- small pieces -------------------------------------------------------------------------- */

static struct erm greg(unsigned g)
{
	return em(VC, (s32)(offsetof(struct vcpu, c.r) + g * 8));
}

/* The host register that holds guest register @g; loaded into @tmp if it lives in memory. */
static u8 use(struct tr *t, unsigned g, u8 tmp)
{
	if (host_of[g] >= 0)
		return (u8)host_of[g];
	eload(&t->e, tmp, greg(g));
	return tmp;
}

static void put(struct tr *t, unsigned g, u8 from)
{
	if (host_of[g] < 0)
		estore(&t->e, greg(g), from);
	else
		emov(&t->e, (u8)host_of[g], from);
}

/* LAHF and SETO touch no flags. */
static void flags_save(struct tr *t)
{
	if (t->fl != FL_HOST)
		return;
	emov(&t->e, T1, 0);
	e8(&t->e, 0x9f);		       /* lahf */
	ebytes(&t->e, "\x0f\x90\xc0", 3);      /* seto al */
	einsn(&t->e, EM_66, 0x89, 0, V(c.of)); /* mov [of], ax */
	emov(&t->e, 0, T1);
	t->fl = FL_BOTH;
}

static void flags_load(struct tr *t)
{
	if (t->fl != FL_MEM)
		return;
	emov(&t->e, T1, 0);
	einsn(&t->e, EM_0F, 0xb7, 0, V(c.of)); /* movzx eax, word [of] */
	ebytes(&t->e, "\x04\x7f\x9e", 3);      /* add al, 7fh; sahf */
	emov(&t->e, 0, T1);
	t->fl = FL_BOTH;
}

/* Leaves at instruction k; flags are in memory. @cc: condition, or -1 for always. */
static void leave(struct tr *t, int cc)
{
	struct exit_ref *x = &t->exits[t->n_exits++];

	BUG_IF(t->n_exits > ARRAY_LEN(t->exits));
	x->k = (u8)t->k;
	x->at = cc < 0 ? ejmp(&t->e) : ejcc(&t->e, (u8)cc);
}

#define CC_B 2
#define CC_AE 3
#define CC_E 4
#define CC_NE 5
#define CC_BE 6
#define CC_A 7
#define CC_S 8

/* T0 = the linear address in T0's [page]: turns it into a host pointer, or leaves. */
static void probe(struct tr *t, unsigned n, bool write)
{
	struct emit *e = &t->e;

	_Static_assert(sizeof(struct tlb_entry) == 32, "index is shifted by 12 - 5");
	emov(e, T1, T0);
	einsn(e, EM_W, 0xc1, 5, er(T1)); /* shr r11, 7 */
	e8(e, 7);
	einsn(e, 0, 0x81, 4, er(T1)); /* and r11d, ... */
	e32(e, (TLB_SIZE - 1) << 5);
	einsn(e, EM_W, 0x03, T1, V(tlb));
	einsn(e, EM_W, 0x2b, T0,
	      em(T1, write ? offsetof(struct tlb_entry, wtag) : offsetof(struct tlb_entry, rtag)));
	einsn(e, EM_W, 0x81, 7, er(T0)); /* cmp r10, 1000h - n */
	e32(e, 0x1000 - n);
	leave(t, CC_A);
	einsn(e, EM_W, 0x03, T0, em(T1, offsetof(struct tlb_entry, host)));
	t->fl = FL_MEM;
}

static void address_of(struct tr *t, const struct op *o)
{
	struct emit *e = &t->e;

	if (o->base == X86_BLOCK) {
		eload(e, T0, V(c.rip));
		elea(e, EM_W, T0, T0, -1, 0, o->disp);
	} else {
		int b = o->base == X86_ZERO ? -1 : use(t, o->base, T0);
		int x = o->index == X86_ZERO ? -1 : use(t, o->index, T1);
		if (b < 0 && x < 0) {
			einsn(e, EM_W, 0xc7, 0, er(T0));
			e32(e, (u32)o->disp);
		} else {
			elea(e, EM_W, T0, b, x, o->scale, o->disp);
		}
	}
	if (o->seg != X86_SEGS)
		einsn(e, EM_W, 0x03, T0,
		      em(VC, (s32)(offsetof(struct vcpu, c.segbase) + o->seg * 8u)));
}

/* The operand in memory: T0 = host pointer. */
static void mem_operand(struct tr *t, const struct op *o, unsigned n, bool write)
{
	flags_save(t);
	address_of(t, o);
	probe(t, n, write);
}

/* --- from block to block ---------------------------------------------------------------------- */

/* Goes on at [rip], whatever is there. */
static void lookup(struct tr *t)
{
	struct emit *e = &t->e;

	_Static_assert(sizeof(struct jc_entry) == 16, "index is shifted by 4");
	eload(e, T0, V(c.rip));
	emov(e, T1, T0);
	einsn(e, EM_W, 0xc1, 5, er(T1));
	e8(e, JC_BITS);
	einsn(e, 0, 0x33, T1, er(T0));
	einsn(e, 0, 0x81, 4, er(T1));
	e32(e, JC_SIZE - 1);
	einsn(e, 0, 0xc1, 4, er(T1));
	e8(e, 4);
	einsn(e, EM_W, 0x03, T1, V(jc));
	einsn(e, EM_W, 0x33, T0, V(jit_salt));
	einsn(e, EM_W, 0x3b, T0, em(T1, offsetof(struct jc_entry, key)));
	u32 miss = ejcc(e, CC_NE);
	eload(e, T1, em(T1, offsetof(struct jc_entry, b)));
	einsn(e, 0, 0xff, 4, em(T1, offsetof(struct block, code)));
	ehere(e, miss);
	einsn(e, 0, 0x33, T1, er(T1));
	einsn(e, 0, 0xff, 4, V(jit_exit));
}

/* A direct branch to @delta from the block's start. Flags are in memory. */
static void go(struct tr *t, s64 delta)
{
	struct emit *e = &t->e;
	u64 page = t->b->gpa & 0xfff;
	bool near = (s64)page + delta >= 0 && (s64)page + delta < 0x1000;

	if (delta) {
		einsn(e, EM_W, 0x81, 0, V(c.rip));
		e32(e, (u32)delta);
	}
	if (!near || t->n_links == 2) {
		lookup(t);
		return;
	}
	unsigned i = t->n_links++;
	eimm64(e, T1, (u64)(uintptr_t)&t->b->link[i].to_code);
	einsn(e, 0, 0xff, 4, em(T1, 0));
	t->lookup[i] = e->n;
	eimm64(e, T1, (u64)(uintptr_t)t->b);
	einsn(e, 0, 0xc7, 0, er(T0));
	e32(e, EXIT_LINK + i);
	einsn(e, 0, 0xff, 4, V(jit_exit));
}

/* T0 holds a new RIP: leaves before the instruction if it is not canonical. */
static void check_canonical(struct tr *t)
{
	struct emit *e = &t->e;

	emov(e, T1, T0);
	einsn(e, EM_W, 0xc1, 4, er(T1)); /* shl r11, 16 */
	e8(e, 16);
	einsn(e, EM_W, 0xc1, 7, er(T1)); /* sar r11, 16 */
	e8(e, 16);
	einsn(e, EM_W, 0x3b, T1, er(T0));
	leave(t, CC_NE);
}

/* --- instructions
 * ----------------------------------------------------------------------------------- */

/* What an instruction does with flags. */
enum fx { FX_NONE, FX_READ, FX_SET, FX_SOME };

struct rule {
	ZydisMnemonic m;
	enum fx fx;
};

/*
 * Instructions that are re-emitted with other register numbers. FX_SET: all six flags get new
 * values, or undefined ones that do not depend on the old; FX_SOME: some stay, or all may.
 */
static const struct rule rules[] = {
	{ ZYDIS_MNEMONIC_MOV, FX_NONE },    { ZYDIS_MNEMONIC_MOVZX, FX_NONE },
	{ ZYDIS_MNEMONIC_MOVSX, FX_NONE },  { ZYDIS_MNEMONIC_MOVSXD, FX_NONE },
	{ ZYDIS_MNEMONIC_MOVNTI, FX_NONE }, { ZYDIS_MNEMONIC_NOT, FX_NONE },
	{ ZYDIS_MNEMONIC_ADD, FX_SET },	    { ZYDIS_MNEMONIC_OR, FX_SET },
	{ ZYDIS_MNEMONIC_ADC, FX_SOME },    { ZYDIS_MNEMONIC_SBB, FX_SOME },
	{ ZYDIS_MNEMONIC_AND, FX_SET },	    { ZYDIS_MNEMONIC_SUB, FX_SET },
	{ ZYDIS_MNEMONIC_XOR, FX_SET },	    { ZYDIS_MNEMONIC_CMP, FX_SET },
	{ ZYDIS_MNEMONIC_TEST, FX_SET },    { ZYDIS_MNEMONIC_NEG, FX_SET },
	{ ZYDIS_MNEMONIC_INC, FX_SOME },    { ZYDIS_MNEMONIC_DEC, FX_SOME },
	{ ZYDIS_MNEMONIC_SHL, FX_SOME },    { ZYDIS_MNEMONIC_SHR, FX_SOME },
	{ ZYDIS_MNEMONIC_SAR, FX_SOME },    { ZYDIS_MNEMONIC_ROL, FX_SOME },
	{ ZYDIS_MNEMONIC_ROR, FX_SOME },    { ZYDIS_MNEMONIC_RCL, FX_SOME },
	{ ZYDIS_MNEMONIC_RCR, FX_SOME },    { ZYDIS_MNEMONIC_SHLD, FX_SOME },
	{ ZYDIS_MNEMONIC_SHRD, FX_SOME },   { ZYDIS_MNEMONIC_BT, FX_SOME },
	{ ZYDIS_MNEMONIC_BTS, FX_SOME },    { ZYDIS_MNEMONIC_BTR, FX_SOME },
	{ ZYDIS_MNEMONIC_BTC, FX_SOME },    { ZYDIS_MNEMONIC_BSF, FX_SOME },
	{ ZYDIS_MNEMONIC_BSR, FX_SOME },    { ZYDIS_MNEMONIC_IMUL, FX_SOME },
	{ ZYDIS_MNEMONIC_MUL, FX_SOME },    { ZYDIS_MNEMONIC_POPCNT, FX_SET },
	{ ZYDIS_MNEMONIC_CRC32, FX_NONE },  { ZYDIS_MNEMONIC_XADD, FX_SET },
	{ ZYDIS_MNEMONIC_CMPXCHG, FX_SET },
};

static const struct rule *rule_of(const ZydisDecodedInstruction *in)
{
	static struct rule r;

	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		if (rules[i].m == in->mnemonic)
			return &rules[i];
	if (in->meta.category == ZYDIS_CATEGORY_SETCC || in->meta.category == ZYDIS_CATEGORY_CMOV) {
		r = (struct rule){ in->mnemonic, FX_READ };
		return &r;
	}
	return NULL;
}

/* The guest register (0-15) of a general-register operand; *ret_high for AH..BH. -1: none. */
static int gpr_of(ZydisRegister r, bool *ret_high)
{
	*ret_high = false;
	if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH) {
		*ret_high = true;
		return r - ZYDIS_REGISTER_AH;
	}
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR8:
		return r < ZYDIS_REGISTER_AH ? r - ZYDIS_REGISTER_AL : r - ZYDIS_REGISTER_SPL + 4;
	case ZYDIS_REGCLASS_GPR16:
		return r - ZYDIS_REGISTER_AX;
	case ZYDIS_REGCLASS_GPR32:
		return r - ZYDIS_REGISTER_EAX;
	case ZYDIS_REGCLASS_GPR64:
		return r - ZYDIS_REGISTER_RAX;
	default:
		return -1;
	}
}

static unsigned map_flag(const ZydisDecodedInstruction *in)
{
	return in->opcode_map == ZYDIS_OPCODE_MAP_0F	 ? EM_0F
	       : in->opcode_map == ZYDIS_OPCODE_MAP_0F38 ? EM_0F38
	       : in->opcode_map == ZYDIS_OPCODE_MAP_0F3A ? EM_0F3A
							 : 0;
}

static void copy_imm(struct tr *t, const ZydisDecodedInstruction *in, const u8 *bytes)
{
	if (in->raw.imm[0].size)
		ebytes(&t->e, bytes + in->raw.imm[0].offset, in->raw.imm[0].size / 8u);
}

static bool prefixes_plain(const ZydisDecodedInstruction *in, unsigned *f)
{
	/* Elsewhere F2 and F3 mean nothing to the guest, but might to the host (TZCNT, LZCNT). */
	if (in->mnemonic == ZYDIS_MNEMONIC_POPCNT)
		*f |= EM_F3;
	else if (in->mnemonic == ZYDIS_MNEMONIC_CRC32)
		*f |= EM_F2;
	if (in->raw.rex.W)
		*f |= EM_W;
	for (unsigned i = 0; i < in->raw.prefix_count; i++) {
		u8 p = in->raw.prefixes[i].value;
		if (p == 0x66)
			*f |= EM_66;
		else if (p == 0x67)
			return false;
		/* LOCK, segments (done by address_of), REX, F2, F3 */
	}
	return true;
}

static void flags_before(struct tr *t, enum fx fx)
{
	if (fx == FX_READ || fx == FX_SOME)
		flags_load(t);
}

static void flags_after(struct tr *t, enum fx fx)
{
	if (fx == FX_SET || fx == FX_SOME)
		t->fl = FL_HOST;
}

/* An instruction with a ModRM byte, its general registers renamed. */
static bool tr_modrm(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
		     const u8 *bytes, enum fx fx)
{
	const struct op *op = &t->b->ops[t->k];
	const ZydisDecodedOperand *rm = NULL, *rg = NULL;
	unsigned f = map_flag(in);
	bool high_m = false, high_r = false;
	int gm = -1, gr = -1;

	if (!prefixes_plain(in, &f))
		return false;
	for (unsigned i = 0; i < in->operand_count; i++) {
		if (o[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
			rm = &o[i];
		else if (o[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
			rg = &o[i];
	}
	if (!rm)
		return false;
	bool mem = rm->type == ZYDIS_OPERAND_TYPE_MEMORY;
	if (!mem) {
		gm = gpr_of(rm->reg.value, &high_m);
		if (gm < 0)
			return false;
	}
	if (rg) {
		gr = gpr_of(rg->reg.value, &high_r);
		if (gr < 0)
			return false;
	}
	/* A bit string reaches beyond its operand. */
	if (mem && rg &&
	    (in->mnemonic == ZYDIS_MNEMONIC_BT || in->mnemonic == ZYDIS_MNEMONIC_BTS ||
	     in->mnemonic == ZYDIS_MNEMONIC_BTR || in->mnemonic == ZYDIS_MNEMONIC_BTC))
		return false;
	u8 opc = in->opcode, reg = in->raw.modrm.reg & 7;
	struct erm m;
	if (mem) {
		if (op->flags & OPF_EASLOW)
			return false;
		mem_operand(t, op, rm->size / 8u,
			    (rm->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0);
	}
	flags_before(t, fx);
	if (mem) {
		m = em(T0, 0);
	} else if (high_m) {
		m = er((u8)(gm + 4));
		f |= EM_NOREX;
	} else {
		m = er(use(t, (unsigned)gm, T0));
		if (rm->size == 8 && m.reg >= 4)
			f |= EM_REX;
	}
	if (gr >= 0) {
		if (high_r) {
			reg = (u8)(gr + 4);
			f |= EM_NOREX;
		} else {
			/* One register twice (XADD) must be one register for the host too. */
			reg = !mem && gr == gm && !high_m ? m.reg : use(t, (unsigned)gr, T1);
			if (rg->size == 8 && reg >= 4)
				f |= EM_REX;
		}
	}
	einsn(&t->e, f, opc, reg, m);
	copy_imm(t, in, bytes);
	if (!mem && host_of[gm] < 0 && (rm->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
		put(t, (unsigned)gm, T0);
	if (gr >= 0 && host_of[gr] < 0 && (rg->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
		put(t, (unsigned)gr, reg);
	flags_after(t, fx);
	return true;
}

/* Opcodes without ModRM: rAX with an immediate, B0+r, BSWAP, the CBW family. */
static bool tr_short(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
		     const u8 *bytes, enum fx fx)
{
	unsigned f = map_flag(in);
	bool high;

	if (!prefixes_plain(in, &f) || in->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
		return false;
	if (in->opcode >= 0xb0 && in->opcode <= 0xbf) { /* mov r, imm */
		int g = gpr_of(o[0].reg.value, &high);
		u8 d = high ? (u8)(g + 4) : host_of[g] >= 0 ? (u8)host_of[g] : T0;
		if (!high && host_of[g] < 0 && o[0].size < 32)
			eload(&t->e, T0, greg((unsigned)g));
		if (o[0].size == 8 && d >= 4 && !high)
			f |= EM_REX;
		if (high)
			f |= EM_NOREX;
		eopc(&t->e, f, (u8)((in->opcode & 0xf8) | (d & 7)), 0, 0, high ? 0 : d);
		copy_imm(t, in, bytes);
		if (!high && host_of[g] < 0)
			put(t, (unsigned)g, T0);
		return true;
	}
	/* ALU and TEST of rAX with an immediate. */
	if ((in->opcode < 0x40 && (in->opcode & 6) == 4) || (in->opcode & 0xfe) == 0xa8) {
		flags_before(t, fx);
		eopc(&t->e, f, in->opcode, 0, 0, 0);
		copy_imm(t, in, bytes);
		flags_after(t, fx);
		return true;
	}
	return false;
}

static bool tr_lea(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o)
{
	const struct op *op = &t->b->ops[t->k];
	unsigned f = 0;
	bool high;
	int g = gpr_of(o[0].reg.value, &high);

	if (!prefixes_plain(in, &f) || (op->flags & (OPF_EASLOW | OPF_A32 | OPF_A16)))
		return false;
	struct op flat = *op;
	flat.seg = X86_SEGS;
	address_of(t, &flat);
	if (o[0].size == 64) {
		put(t, (unsigned)g, T0);
	} else if (o[0].size == 32) {
		einsn(&t->e, 0, 0x8b, T0, er(T0)); /* mov r10d, r10d */
		put(t, (unsigned)g, T0);
	} else {
		u8 d = use(t, (unsigned)g, T1);
		einsn(&t->e, EM_66, 0x8b, d, er(T0));
		if (host_of[g] < 0)
			put(t, (unsigned)g, T1);
	}
	return true;
}

static bool tr_xchg(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o)
{
	const struct op *op = &t->b->ops[t->k];
	bool mem = o[0].type == ZYDIS_OPERAND_TYPE_MEMORY || o[1].type == ZYDIS_OPERAND_TYPE_MEMORY;
	bool h0 = false, h1 = false;
	unsigned f = 0;

	if (!prefixes_plain(in, &f) || o[0].size == 8)
		return false;
	if (mem) {
		const ZydisDecodedOperand *r =
			o[0].type == ZYDIS_OPERAND_TYPE_MEMORY ? &o[1] : &o[0];
		int g = gpr_of(r->reg.value, &h0);
		if (op->flags & OPF_EASLOW)
			return false;
		mem_operand(t, op, o[0].size / 8u, true);
		u8 s = use(t, (unsigned)g, T1);
		einsn(&t->e, f, 0x87, s, em(T0, 0));
		if (host_of[g] < 0)
			put(t, (unsigned)g, T1);
		return true;
	}
	int a = gpr_of(o[0].reg.value, &h0), b = gpr_of(o[1].reg.value, &h1);
	u8 ra = use(t, (unsigned)a, T0), rb = a == b ? ra : use(t, (unsigned)b, T1);
	einsn(&t->e, f, 0x87, rb, er(ra));
	if (host_of[a] < 0)
		put(t, (unsigned)a, ra);
	if (host_of[b] < 0)
		put(t, (unsigned)b, rb);
	return true;
}

/* T0 = host pointer of the 8 bytes at RSP + @off. */
static void stack_slot(struct tr *t, s32 off, bool write)
{
	flags_save(t);
	elea(&t->e, EM_W, T0, G_RSP, -1, 0, off);
	probe(t, 8, write);
}

static void rsp_add(struct tr *t, s32 n)
{
	elea(&t->e, EM_W, G_RSP, G_RSP, -1, 0, n);
}

static bool tr_push(struct tr *t, const ZydisDecodedOperand *o)
{
	const struct op *op = &t->b->ops[t->k];
	bool high;

	if (op->aux != 8)
		return false;
	if (o[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		stack_slot(t, -8, true);
		einsn(&t->e, EM_W, 0xc7, 0, em(T0, 0));
		e32(&t->e, (u32)op->imm);
	} else if (o[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
		if (op->flags & OPF_EASLOW)
			return false;
		mem_operand(t, op, 8, false);
		eload(&t->e, T0, em(T0, 0));
		estore(&t->e, V(jit_tmp), T0);
		stack_slot(t, -8, true);
		eload(&t->e, T1, V(jit_tmp));
		estore(&t->e, em(T0, 0), T1);
	} else {
		int g = gpr_of(o[0].reg.value, &high);
		if (g < 0 || o[0].size != 64)
			return false;
		stack_slot(t, -8, true);
		estore(&t->e, em(T0, 0), use(t, (unsigned)g, T1));
	}
	rsp_add(t, -8);
	return true;
}

static bool tr_pop(struct tr *t, const ZydisDecodedOperand *o)
{
	bool high;
	int g = o[0].type == ZYDIS_OPERAND_TYPE_REGISTER ? gpr_of(o[0].reg.value, &high) : -1;

	if (g < 0 || o[0].size != 64)
		return false;
	stack_slot(t, 0, false);
	rsp_add(t, 8);
	if (host_of[g] >= 0) {
		eload(&t->e, (u8)host_of[g], em(T0, 0));
	} else {
		eload(&t->e, T0, em(T0, 0));
		put(t, (unsigned)g, T0);
	}
	return true;
}

static bool tr_leave(struct tr *t)
{
	if (t->b->ops[t->k].aux != 8)
		return false;
	flags_save(t);
	emov(&t->e, T0, G_RBP);
	probe(t, 8, false);
	elea(&t->e, EM_W, G_RSP, G_RBP, -1, 0, 8);
	eload(&t->e, G_RBP, em(T0, 0));
	return true;
}

static bool tr_jcc(struct tr *t)
{
	const struct op *op = &t->b->ops[t->k];

	flags_save(t);
	flags_load(t);
	u32 taken = ejcc(&t->e, op->aux & 15);
	go(t, op->ip + op->len);
	ehere(&t->e, taken);
	go(t, op->imm);
	t->ended = true;
	return true;
}

static void push_return(struct tr *t)
{
	const struct op *op = &t->b->ops[t->k];

	stack_slot(t, -8, true);
	eload(&t->e, T1, V(c.rip));
	elea(&t->e, EM_W, T1, T1, -1, 0, op->ip + op->len);
	estore(&t->e, em(T0, 0), T1);
}

static bool tr_branch(struct tr *t, bool call)
{
	const struct op *op = &t->b->ops[t->k];

	if (call) {
		/* The target of a near call within 2 GiB of canonical code may not be canonical. */
		push_return(t);
		rsp_add(t, -8);
	}
	flags_save(t);
	go(t, op->imm);
	t->ended = true;
	return true;
}

static bool tr_branch_rm(struct tr *t, const ZydisDecodedOperand *o, bool call)
{
	const struct op *op = &t->b->ops[t->k];
	bool high;

	if (op->aux != 8)
		return false;
	if (o[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
		if (op->flags & OPF_EASLOW)
			return false;
		mem_operand(t, op, 8, false);
		eload(&t->e, T0, em(T0, 0));
	} else {
		int g = gpr_of(o[0].reg.value, &high);
		flags_save(t);
		u8 s = use(t, (unsigned)g, T0);
		emov(&t->e, T0, s);
	}
	check_canonical(t);
	t->fl = FL_MEM;
	if (call) {
		estore(&t->e, V(jit_tmp), T0);
		push_return(t);
		rsp_add(t, -8);
		eload(&t->e, T0, V(jit_tmp));
	}
	estore(&t->e, V(c.rip), T0);
	lookup(t);
	t->ended = true;
	return true;
}

static bool tr_ret(struct tr *t)
{
	const struct op *op = &t->b->ops[t->k];

	if (handler(t) != op_ret)
		return false;
	stack_slot(t, 0, false);
	eload(&t->e, T0, em(T0, 0));
	check_canonical(t);
	rsp_add(t, 8 + (s32)op->imm);
	estore(&t->e, V(c.rip), T0);
	lookup(t);
	t->ended = true;
	return true;
}

/* LAHF, SAHF, CLC, STC, CMC, and the CBW family: the guest's own bytes. */
static bool tr_plain(struct tr *t, const ZydisDecodedInstruction *in, const u8 *bytes)
{
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_CBW:
	case ZYDIS_MNEMONIC_CWDE:
	case ZYDIS_MNEMONIC_CDQE:
	case ZYDIS_MNEMONIC_CWD:
	case ZYDIS_MNEMONIC_CDQ:
	case ZYDIS_MNEMONIC_CQO:
		break;
	case ZYDIS_MNEMONIC_LAHF:
		flags_load(t);
		break;
	case ZYDIS_MNEMONIC_SAHF:
	case ZYDIS_MNEMONIC_CLC:
	case ZYDIS_MNEMONIC_STC:
	case ZYDIS_MNEMONIC_CMC:
		flags_load(t);
		t->fl = FL_HOST;
		break;
	default:
		return false;
	}
	ebytes(&t->e, bytes, in->length);
	return true;
}

/* --- vectors --------------------------------------------------------------------------------- */

/* From here on guest XMM registers are the host's. Flags are in memory afterwards. */
static void need_xmm(struct tr *t)
{
	struct emit *e = &t->e;

	if (t->xmm)
		return;
	flags_save(t);
	einsn(e, 0, 0x80, 7, V(xmm_live));
	e8(e, 0);
	u32 live = ejcc(e, CC_NE);
	einsn(e, 0, 0xff, 2, V(jit_xmm)); /* call */
	leave(t, CC_B);
	ehere(e, live);
	t->fl = FL_MEM;
	t->xmm = true;
}

static bool is_xmm(ZydisRegister r)
{
	return ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_XMM;
}

/* The number of a register operand for the host: XMM as it is, general ones renamed. -1: neither. */
static int vec_reg(struct tr *t, const ZydisDecodedOperand *o, u8 tmp, int *ret_gpr)
{
	bool high;
	int g;

	*ret_gpr = -1;
	if (is_xmm(o->reg.value))
		return o->reg.value - ZYDIS_REGISTER_XMM0;
	g = gpr_of(o->reg.value, &high);
	if (g < 0 || high)
		return -1;
	*ret_gpr = g;
	return use(t, (unsigned)g, tmp);
}

/* An SSE instruction: its XMM registers have the same numbers here. */
static bool tr_sse(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
		   const u8 *bytes)
{
	const struct op *op = &t->b->ops[t->k];
	const struct vec_insn *vi = op->ptr;
	const ZydisDecodedOperand *rm = NULL, *rg = NULL;
	unsigned f = map_flag(in) | (in->raw.rex.W ? EM_W : 0);
	int gm = -1, gr = -1, reg = in->raw.modrm.reg & 7;
	struct erm m = em(T0, 0);

	if (vi->cls != VEC_SSE || in->mnemonic == ZYDIS_MNEMONIC_LDMXCSR ||
	    in->mnemonic == ZYDIS_MNEMONIC_STMXCSR || in->mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ||
	    (op->flags & OPF_EASLOW))
		return false;
	for (unsigned i = 0; i < in->raw.prefix_count; i++) {
		u8 p = in->raw.prefixes[i].value;
		if (in->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY)
			f |= p == 0x66 ? EM_66 : p == 0xf2 ? EM_F2 : p == 0xf3 ? EM_F3 : 0;
	}
	for (unsigned i = 0; i < in->operand_count; i++) {
		if (o[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
			rm = &o[i];
		else if (o[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
			rg = &o[i];
	}
	if (!rm)
		return false;
	need_xmm(t);
	if (rm->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		flags_save(t);
		address_of(t, op);
		if (vi->mem_align > 1) {
			einsn(&t->e, 0, 0xf6, 0, er(T0)); /* test r10b, align - 1 */
			e8(&t->e, (u8)(vi->mem_align - 1));
			leave(t, CC_NE);
		}
		probe(t, vi->mem_size, vi->mem_write);
	} else {
		int r = vec_reg(t, rm, T0, &gm);
		if (r < 0)
			return false;
		m = er((u8)r);
	}
	if (rg) {
		reg = vec_reg(t, rg, T1, &gr);
		if (reg < 0)
			return false;
	}
	einsn(&t->e, f, in->opcode, (u8)reg, m);
	copy_imm(t, in, bytes);
	if (gm >= 0 && host_of[gm] < 0 && (rm->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
		put(t, (unsigned)gm, T0);
	if (gr >= 0 && host_of[gr] < 0 && (rg->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
		put(t, (unsigned)gr, T1);
	if (in->cpu_flags && (in->cpu_flags->modified | in->cpu_flags->set_0 |
			      in->cpu_flags->set_1 | in->cpu_flags->undefined))
		t->fl = FL_HOST;
	return true;
}

/* --- x87 ---------------------------------------------------------------------------------------- */

static void need_x87(struct tr *t)
{
	struct emit *e = &t->e;

	if (t->x87)
		return;
	flags_save(t);
	einsn(e, 0, 0x80, 7, V(x87_live));
	e8(e, 0);
	u32 live = ejcc(e, CC_NE);
	einsn(e, 0, 0xff, 2, V(jit_x87)); /* call */
	leave(t, CC_B);
	ehere(e, live);
	t->fl = FL_MEM;
	t->x87 = t->xmm = true;
}

/*
 * The exceptions are all masked (jit_x87 sees to that), so that no instruction here can fault but
 * for its operand, and every store stores.
 */
static bool tr_x87(struct tr *t, const ZydisDecodedInstruction *in)
{
	const struct op *op = &t->b->ops[t->k];
	const struct vec_insn *vi = op->ptr;

	if ((vi->cls != VEC_X87 && vi->cls != VEC_X87_NOWAIT) || (op->flags & OPF_EASLOW))
		return false;
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_FLDCW:
	case ZYDIS_MNEMONIC_FLDENV:
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_FNSAVE:
		return false;
	default:
		break;
	}
	if (in->opcode < 0xd8 || in->opcode > 0xdf || in->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
		return false;
	need_x87(t);
	if (vi->mem_size) {
		mem_operand(t, op, vi->mem_size, vi->mem_write);
		einsn(&t->e, 0, in->opcode, in->raw.modrm.reg & 7, em(T0, 0));
		return true;
	}
	if (in->cpu_flags && in->cpu_flags->tested)
		flags_load(t);
	e8(&t->e, in->opcode);
	e8(&t->e, (u8)(0xc0 | (in->raw.modrm.reg & 7) << 3 | (in->raw.modrm.rm & 7)));
	if (in->cpu_flags && (in->cpu_flags->modified | in->cpu_flags->set_0))
		t->fl = FL_HOST;
	return true;
}

/* --- division, flags in memory ------------------------------------------------------------------ */

/*
 * DIV and IDIV of 32 and 64 bits where the quotient surely fits: the upper half below the divisor,
 * or a sign extension and the divisor neither 0 nor -1. All else leaves. Flags stay.
 */
static bool tr_div(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o)
{
	const struct op *op = &t->b->ops[t->k];
	struct emit *e = &t->e;
	bool high, sign = in->mnemonic == ZYDIS_MNEMONIC_IDIV;
	unsigned w = o[0].size == 64 ? EM_W : 0;

	if (o[0].size < 32)
		return false;
	if (o[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
		if (op->flags & OPF_EASLOW)
			return false;
		mem_operand(t, op, o[0].size / 8u, false);
		einsn(e, w, 0x8b, T0, em(T0, 0));
	} else {
		int g = gpr_of(o[0].reg.value, &high);
		flags_save(t);
		u8 s = use(t, (unsigned)g, T0);
		einsn(e, w, 0x8b, T0, er(s));
	}
	if (sign) {
		einsn(e, w, 0x8b, T1, er(0));
		einsn(e, w, 0xc1, 7, er(T1)); /* sar r11, size - 1 */
		e8(e, (u8)(o[0].size - 1));
		einsn(e, w, 0x3b, T1, er(2)); /* cmp r11, rdx */
		leave(t, CC_NE);
		elea(e, w, T1, T0, -1, 0, 1);
		einsn(e, w, 0x83, 7, er(T1)); /* cmp r11, 1 */
		e8(e, 1);
		leave(t, CC_BE);
	} else {
		einsn(e, w, 0x3b, 2, er(T0)); /* cmp rdx, r10 */
		leave(t, CC_AE);
	}
	einsn(e, w, 0xf7, sign ? 7 : 6, er(T0));
	t->fl = FL_MEM;
	return true;
}

/* STAC and CLAC choose the other TLB of the supervisor. */
static bool tr_ac(struct tr *t, bool set)
{
	struct emit *e = &t->e;

	if (!(t->v->c.cr4_allowed & CR4_SMAP))
		return false;
	flags_save(t);
	einsn(e, 0, 0x80, 7, V(c.cpl));
	e8(e, 0);
	leave(t, CC_NE);
	eload(e, T1, V(tlb));
	einsn(e, EM_W, 0x3b, T1, V(empty_tlb));
	leave(t, CC_E);
	einsn(e, EM_W, 0x81, set ? 1 : 4, V(c.rflags));
	e32(e, set ? X86_AC : ~X86_AC);
	eload(e, T1,
	      em(VC, (s32)(offsetof(struct vcpu, tlbs) +
			   (set ? TLB_KERNEL_AC : TLB_KERNEL) * sizeof(struct tlb *))));
	estore(e, V(tlb), T1);
	t->fl = FL_MEM;
	return true;
}

static bool tr_df(struct tr *t, bool set)
{
	flags_save(t);
	einsn(&t->e, EM_W, 0x81, set ? 1 : 4, V(c.rflags));
	e32(&t->e, set ? X86_DF : ~X86_DF);
	t->fl = FL_MEM;
	return true;
}

/* One instruction. False: leave before it. */
static bool tr_insn(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
		    const u8 *bytes)
{
	const struct op *op = &t->b->ops[t->k];
	op_fn fn = handler(t);

	if (fn == op_misc && (op->aux == M_NOP || op->aux == M_FENCE))
		return true;
	if (fn == op_vec_reg || fn == op_vec_load || fn == op_vec_store)
		return tr_sse(t, in, o, bytes);
	if (fn == op_vec_x87)
		return tr_x87(t, in);
	if (fn == op_stac || fn == op_clac)
		return tr_ac(t, fn == op_stac);
	if (fn == op_misc && (op->aux == M_CLD || op->aux == M_STD))
		return tr_df(t, op->aux == M_STD);
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_DIV:
	case ZYDIS_MNEMONIC_IDIV:
		return tr_div(t, in, o);
	case ZYDIS_MNEMONIC_LEA:
		return tr_lea(t, in, o);
	case ZYDIS_MNEMONIC_XCHG:
		return tr_xchg(t, in, o);
	case ZYDIS_MNEMONIC_PUSH:
		return tr_push(t, o);
	case ZYDIS_MNEMONIC_POP:
		return tr_pop(t, o);
	case ZYDIS_MNEMONIC_LEAVE:
		return tr_leave(t);
	case ZYDIS_MNEMONIC_CALL:
		return fn == op_call	  ? tr_branch(t, true)
		       : fn == op_call_rm ? tr_branch_rm(t, o, true)
					  : false;
	case ZYDIS_MNEMONIC_JMP:
		return fn == op_jmp	 ? tr_branch(t, false)
		       : fn == op_jmp_rm ? tr_branch_rm(t, o, false)
					 : false;
	case ZYDIS_MNEMONIC_RET:
		return tr_ret(t);
	default:
		break;
	}
	if (fn == ops_jcc[op->aux & 15] && in->meta.category == ZYDIS_CATEGORY_COND_BR)
		return tr_jcc(t);
	if (tr_plain(t, in, bytes))
		return true;
	const struct rule *r = rule_of(in);
	if (!r || fn == op_sys || fn == op_mov_from_seg)
		return false;
	if (in->attributes & ZYDIS_ATTRIB_HAS_MODRM)
		return tr_modrm(t, in, o, bytes, r->fx);
	return tr_short(t, in, o, bytes, r->fx);
}

/* --- a whole block
 * ------------------------------------------------------------------------------------ */

static void budget_check(struct tr *t, u32 *ret_body)
{
	struct emit *e = &t->e;

	einsn(e, EM_W, 0x83, 5, V(budget)); /* sub [budget], n */
	e8(e, t->b->n);
	u32 ok = ejcc(e, CC_S ^ 1);
	einsn(e, EM_W, 0x83, 0, V(budget));
	e8(e, t->b->n);
	einsn(e, 0, 0x33, T1, er(T1));
	einsn(e, 0, 0xff, 4, V(jit_exit));
	ehere(e, ok);
	*ret_body = e->n;
}

static void exits(struct tr *t)
{
	struct emit *e = &t->e;

	for (unsigned i = 0; i < t->n_exits; i++) {
		ehere(e, t->exits[i].at);
		u8 k = t->exits[i].k;
		/* Later exits of the same instruction share the code. */
		for (unsigned j = i + 1; j < t->n_exits; j++) {
			if (t->exits[j].k == k) {
				ehere(e, t->exits[j].at);
				t->exits[j] = t->exits[--t->n_exits];
				j--;
			}
		}
		eimm64(e, T1, (u64)(uintptr_t)t->b);
		einsn(e, 0, 0xc7, 0, er(T0));
		e32(e, k);
		einsn(e, 0, 0xff, 4, V(jit_exit));
	}
}

static const u8 *block_bytes(struct vcpu *v, const struct block *b)
{
	return mem_ptr(v->s->cfg.mem, b->gpa, b->len);
}

/* Host code for @b. False if it begins with something that is not translated. */
static bool translate_block(struct jit *j, struct vcpu *v, struct block *b)
{
	u8 buf[CODE_MAX];
	struct tr t = {
		.e = { .buf = buf, .cap = sizeof(buf) }, .j = j, .v = v, .b = b, .fl = FL_MEM
	};
	const u8 *bytes = block_bytes(v, b), *code;
	u32 body;

	if (!bytes)
		return false;
	budget_check(&t, &body);
	for (t.k = 0; t.k < b->n && !t.ended; t.k++) {
		ZydisDecodedInstruction in;
		ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
		const struct op *op = &b->ops[t.k];
		struct emit before = t.e;
		enum where fl = t.fl;
		unsigned nx = t.n_exits;
		bool xmm = t.xmm, x87 = t.x87;
		bool ok = ZYAN_SUCCESS(ZydisDecoderDecodeFull(&j->dec, bytes + op->ip,
							      b->len - op->ip, &in, o)) &&
			  tr_insn(&t, &in, o, bytes + op->ip);
		if (ok && !t.e.full)
			continue;
		/* Leave before it. */
		t.e = before;
		t.fl = fl;
		t.n_exits = nx;
		t.xmm = xmm;
		t.x87 = x87;
		t.ended = false;
		if (t.k == 0)
			return false;
		flags_save(&t);
		leave(&t, -1);
		t.ended = true;
		break;
	}
	if (!t.ended) {
		flags_save(&t);
		go(&t, b->len);
	}
	exits(&t);
	if (t.e.full)
		return false;
	if (codebuf_add(&j->cb, buf, t.e.n, 16, &code) < 0) {
		j->full = true;
		return false;
	}
	b->code = code;
	b->body = code + body;
	for (unsigned i = 0; i < t.n_links; i++) {
		b->link[i].resolve = code + t.lookup[i];
		b->link[i].to_code = b->link[i].resolve;
		b->link[i].from = b;
	}
	j->st.translated++;
	j->st.code_bytes += t.e.n;
	return true;
}

/* --- running
 * ---------------------------------------------------------------------------------------------- */

static void make_link(struct vcpu *v, struct block *b, unsigned i)
{
	struct block_link *l = &b->link[i];
	u64 rip = v->c.rip;
	const struct jc_entry *e = &v->jc[jc_hash(rip)];

	if (b->dead || l->to || e->key != (rip ^ v->jc_salt[rip >> 63]) || !e->b->body)
		return;
	/* The branch was emitted as one inside the page; the target must be the same page's. */
	if ((e->b->gpa ^ b->gpa) >> 12)
		return;
	l->to = e->b;
	l->to_code = e->b->code;
	l->next = e->b->incoming;
	l->prevp = &e->b->incoming;
	if (l->next)
		l->next->prevp = &l->next;
	e->b->incoming = l;
}

static void unlink_one(struct block_link *l)
{
	if (!l->to)
		return;
	*l->prevp = l->next;
	if (l->next)
		l->next->prevp = l->prevp;
	l->to = NULL;
	l->to_code = l->resolve;
}

void jit_forget(struct block *b)
{
	unlink_one(&b->link[0]);
	unlink_one(&b->link[1]);
	while (b->incoming)
		unlink_one(b->incoming);
}

/* The first op of a translated block. */
static const struct op *op_jit(struct vcpu *v, const struct op *op)
{
	struct jit *j = v->s->jit;

	v->jit_salt = v->jc_salt[v->c.rip >> 63];
	struct jit_ret r = j->enter(v, v->cur->body);
	if (!r.b)
		return jump_to(v, v->c.rip);
	if (r.k >= EXIT_LINK) {
		make_link(v, r.b, (unsigned)(r.k - EXIT_LINK));
		return jump_to(v, v->c.rip);
	}
	v->cur = r.b;
	v->c.r[X86_BLOCK] = v->c.rip;
	const struct op *o = &r.b->ops[r.k];
	return r.k == 0 ? r.b->fn0(v, o) : o->fn(v, o);
}

/* The first op of a block that may become hot. */
static const struct op *op_warm(struct vcpu *v, const struct op *op)
{
	struct block *b = (struct block *)v->cur;
	struct jit *j = v->s->jit;

	if (++b->heat < j->hot)
		return b->fn0(v, op);
	if (translate_block(j, v, b)) {
		b->ops[0].fn = op_jit;
		return op_jit(v, op);
	}
	if (!j->full) {
		b->ops[0].fn = b->fn0;
		j->st.refused++;
	}
	return b->fn0(v, op);
}

void jit_watch(struct jit *j, struct block *b)
{
	b->fn0 = b->ops[0].fn;
	b->code = j->exit_next;
	b->body = NULL;
	if (b->mode == CODE_64 && !b->gpa2)
		b->ops[0].fn = op_warm;
}

/* --- the way in and out
 * --------------------------------------------------------------------------------- */

static const u8 callee_saved[] = { 3, 5, 12, 13, 14, 15 };

static void emit_enter(struct emit *e)
{
	for (unsigned i = 0; i < ARRAY_LEN(callee_saved); i++)
		eopc(e, 0, 0x50 | (callee_saved[i] & 7), 0, 0, callee_saved[i]);
	emov(e, VC, 7); /* rdi: the vcpu */
	emov(e, T1, 6); /* rsi: the code */
	for (unsigned g = 0; g < X86_GPRS; g++)
		if (host_of[g] >= 0)
			eload(e, (u8)host_of[g], greg(g));
	einsn(e, 0, 0xff, 4, er(T1));
}

static struct erm xmm_slot(unsigned i)
{
	return em(VC, (s32)(offsetof(struct vcpu, c.x.xmm) + i * 16));
}

/* LDMXCSR and STMXCSR: 0F AE /2 and /3; MOVAPS: 0F 28 and 0F 29. */
static void emit_xmm_load(struct emit *e)
{
	einsn(e, 0, 0x80, 7, V(sse_ok));
	e8(e, 0);
	u32 no = ejcc(e, CC_E);
	einsn(e, 0, 0x8b, T1, V(c.x.mxcsr));
	einsn(e, 0, 0xf7, 2, er(T1)); /* not r11d: unmasked exceptions become ones */
	einsn(e, 0, 0xf7, 0, er(T1)); /* test r11d, 1f80h */
	e32(e, 0x1f80);
	u32 unmasked = ejcc(e, CC_NE);
	einsn(e, EM_0F, 0xae, 2, V(c.x.mxcsr));
	for (unsigned i = 0; i < 16; i++)
		einsn(e, EM_0F, 0x28, (u8)i, xmm_slot(i));
	einsn(e, 0, 0xc6, 0, V(xmm_live));
	e8(e, 1);
	e8(e, 0xf8); /* clc */
	e8(e, 0xc3);
	ehere(e, no);
	ehere(e, unmasked);
	e8(e, 0xf9); /* stc */
	e8(e, 0xc3);
}

static void emit_xmm_store(struct emit *e)
{
	einsn(e, EM_0F, 0xae, 3, V(c.x.mxcsr));
	for (unsigned i = 0; i < 16; i++)
		einsn(e, EM_0F, 0x29, (u8)i, xmm_slot(i));
}

/* FXSAVE64 and FXRSTOR64: REX.W 0F AE /0 and /1. */
static void emit_x87_load(struct emit *e)
{
	u32 no[4];

	einsn(e, 0, 0x80, 7, V(x87_ok));
	e8(e, 0);
	no[0] = ejcc(e, CC_E);
	einsn(e, 0, 0x8b, T1, V(c.x.fcw)); /* FCW, FSW */
	einsn(e, 0, 0x81, 4, er(T1));	   /* and r11d: FSW.ES, the masks */
	e32(e, 0x80003f);
	einsn(e, 0, 0x81, 7, er(T1)); /* cmp r11d: no ES, all masked */
	e32(e, 0x3f);
	no[1] = ejcc(e, CC_NE);
	einsn(e, 0, 0x80, 7, V(xmm_live));
	e8(e, 0);
	u32 dead = ejcc(e, CC_E);
	emit_xmm_store(e);
	ehere(e, dead);
	einsn(e, 0, 0x80, 7, V(sse_ok));
	e8(e, 0);
	no[2] = ejcc(e, CC_E);
	einsn(e, 0, 0x8b, T1, V(c.x.mxcsr));
	einsn(e, 0, 0xf7, 2, er(T1));
	einsn(e, 0, 0xf7, 0, er(T1));
	e32(e, 0x1f80);
	no[3] = ejcc(e, CC_NE);
	einsn(e, EM_W | EM_0F, 0xae, 1, V(c.x));
	einsn(e, 0, 0xc6, 0, V(xmm_live));
	e8(e, 1);
	einsn(e, 0, 0xc6, 0, V(x87_live));
	e8(e, 1);
	e8(e, 0xf8); /* clc */
	e8(e, 0xc3);
	for (unsigned i = 0; i < ARRAY_LEN(no); i++)
		ehere(e, no[i]);
	e8(e, 0xf9); /* stc */
	e8(e, 0xc3);
}

/* Vector state goes back to memory. RAX is free. */
static void emit_vec_store(struct emit *e)
{
	einsn(e, 0, 0x80, 7, V(xmm_live));
	e8(e, 0);
	u32 dead = ejcc(e, CC_E);
	einsn(e, 0, 0x80, 7, V(x87_live));
	e8(e, 0);
	u32 sse_only = ejcc(e, CC_E);
	/* The pointers of the last instruction are ours, and its mask is the host's. */
	einsn(e, 0, 0x8b, 0, V(c.x.mxcsr_mask));
	einsn(e, EM_W | EM_0F, 0xae, 0, V(c.x));
	einsn(e, 0, 0x89, 0, V(c.x.mxcsr_mask));
	einsn(e, 0, 0x33, 0, er(0));
	einsn(e, EM_66, 0x89, 0, V(c.x.fop));
	estore(e, V(c.x.fip), 0);
	estore(e, V(c.x.fdp), 0);
	ebytes(e, "\xdb\xe3", 2); /* fninit: the host's x87 state is empty */
	einsn(e, 0, 0xc6, 0, V(x87_live));
	e8(e, 0);
	u32 done = ejmp(e);
	ehere(e, sse_only);
	emit_xmm_store(e);
	ehere(e, done);
	einsn(e, EM_0F, 0xae, 2, V(host_mxcsr));
	einsn(e, 0, 0xc6, 0, V(xmm_live));
	e8(e, 0);
	ehere(e, dead);
}

static void emit_exit(struct emit *e)
{
	for (unsigned g = 0; g < X86_GPRS; g++)
		if (host_of[g] >= 0)
			estore(e, greg(g), (u8)host_of[g]);
	emit_vec_store(e);
	emov(e, 0, T1);
	emov(e, 2, T0);
	for (unsigned i = ARRAY_LEN(callee_saved); i-- > 0;)
		eopc(e, 0, 0x58 | (callee_saved[i] & 7), 0, 0, callee_saved[i]);
	e8(e, 0xc3);
}

static int emit_glue(struct jit *j)
{
	u8 buf[2048];
	struct emit e = { .buf = buf, .cap = sizeof(buf) };
	const u8 *code;

	emit_enter(&e);
	u32 out = e.n;
	emit_exit(&e);
	u32 xmm = e.n;
	emit_xmm_load(&e);
	u32 x87 = e.n;
	emit_x87_load(&e);
	u32 next = e.n;
	einsn(&e, 0, 0x33, T1, er(T1));
	einsn(&e, 0, 0xff, 4, V(jit_exit));
	BUG_IF(e.full);
	if (codebuf_add(&j->cb, buf, e.n, 16, &code) < 0)
		return -ENOMEM;
	memcpy(&j->enter, &code, sizeof(code));
	j->exit = code + out;
	j->xmm_load = code + xmm;
	j->x87_load = code + x87;
	j->exit_next = code + next;
	j->glue = j->cb.len;
	return 0;
}

int jit_new(size_t code_max, bool eager, struct jit **ret)
{
	struct jit *j = calloc(1, sizeof(*j));
	int r;

	if (!j)
		return -ENOMEM;
	j->hot = eager ? 1 : HOT;
	r = codebuf_init(&j->cb, code_max);
	if (r == 0)
		r = emit_glue(j);
	if (r < 0) {
		jit_free(j);
		return r;
	}
	ZydisDecoderInit(&j->dec, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisDecoderEnableMode(&j->dec, ZYDIS_DECODER_MODE_LZCNT, ZYAN_FALSE);
	ZydisDecoderEnableMode(&j->dec, ZYDIS_DECODER_MODE_TZCNT, ZYAN_FALSE);
	*ret = j;
	return 0;
}

void jit_free(struct jit *j)
{
	if (!j)
		return;
	codebuf_fini(&j->cb);
	free(j);
}

bool jit_full(const struct jit *j)
{
	return j->full;
}

void jit_reset(struct jit *j)
{
	codebuf_truncate(&j->cb, j->glue);
	j->full = false;
	j->st.flushes++;
}

struct jit_stats jit_stats(const struct jit *j)
{
	return j->st;
}

void jit_attach(const struct jit *j, struct vcpu *v)
{
	v->jit_exit = j->exit;
	v->jit_xmm = j->xmm_load;
	v->jit_x87 = j->x87_load;
	v->host_mxcsr = 0x1f80; /* the ABI's initial value: nothing here changes it */
}
