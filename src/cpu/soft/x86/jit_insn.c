/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_insn.c - the translator: moves, arithmetic, and what kind an instruction is
 *
 * Most instructions are the guest's own bytes with other register numbers (tr_modrm, tr_short).
 */
#include "cpu/soft/x86/jit_priv.h"

#include "cpu/soft/x86/ops.h"

struct rule {
	ZydisMnemonic m;
	enum fx fx;
};

/*
 * Instructions that are re-emitted with other register numbers. FX_SET: all six flags get new
 * values, or undefined ones that do not depend on the old; FX_KEEP: some stay, or all may.
 */
static const struct rule rules[] = {
	{ ZYDIS_MNEMONIC_MOV, FX_NONE },	{ ZYDIS_MNEMONIC_MOVZX, FX_NONE },
	{ ZYDIS_MNEMONIC_MOVSX, FX_NONE },	{ ZYDIS_MNEMONIC_MOVSXD, FX_NONE },
	{ ZYDIS_MNEMONIC_MOVNTI, FX_NONE },	{ ZYDIS_MNEMONIC_NOT, FX_NONE },
	{ ZYDIS_MNEMONIC_ADD, FX_SET },		{ ZYDIS_MNEMONIC_OR, FX_SET },
	{ ZYDIS_MNEMONIC_ADC, FX_SOME },	{ ZYDIS_MNEMONIC_SBB, FX_SOME },
	{ ZYDIS_MNEMONIC_AND, FX_SET },		{ ZYDIS_MNEMONIC_SUB, FX_SET },
	{ ZYDIS_MNEMONIC_XOR, FX_SET },		{ ZYDIS_MNEMONIC_CMP, FX_SET },
	{ ZYDIS_MNEMONIC_TEST, FX_SET },	{ ZYDIS_MNEMONIC_NEG, FX_SET },
	{ ZYDIS_MNEMONIC_INC, FX_KEEP },	{ ZYDIS_MNEMONIC_DEC, FX_KEEP },
	{ ZYDIS_MNEMONIC_SHL, FX_KEEP },	{ ZYDIS_MNEMONIC_SHR, FX_KEEP },
	{ ZYDIS_MNEMONIC_SAR, FX_KEEP },	{ ZYDIS_MNEMONIC_ROL, FX_KEEP },
	{ ZYDIS_MNEMONIC_ROR, FX_KEEP },	{ ZYDIS_MNEMONIC_RCL, FX_SOME },
	{ ZYDIS_MNEMONIC_RCR, FX_SOME },	{ ZYDIS_MNEMONIC_SHLD, FX_KEEP },
	{ ZYDIS_MNEMONIC_SHRD, FX_KEEP },	{ ZYDIS_MNEMONIC_BT, FX_KEEP },
	{ ZYDIS_MNEMONIC_BTS, FX_KEEP },	{ ZYDIS_MNEMONIC_BTR, FX_KEEP },
	{ ZYDIS_MNEMONIC_BTC, FX_KEEP },	{ ZYDIS_MNEMONIC_BSF, FX_KEEP },
	{ ZYDIS_MNEMONIC_BSR, FX_KEEP },	{ ZYDIS_MNEMONIC_IMUL, FX_KEEP },
	{ ZYDIS_MNEMONIC_MUL, FX_KEEP },	{ ZYDIS_MNEMONIC_POPCNT, FX_SET },
	{ ZYDIS_MNEMONIC_CRC32, FX_NONE },	{ ZYDIS_MNEMONIC_XADD, FX_SET },
	{ ZYDIS_MNEMONIC_LZCNT, FX_KEEP },	{ ZYDIS_MNEMONIC_TZCNT, FX_KEEP },
	{ ZYDIS_MNEMONIC_MOVBE, FX_NONE },	{ ZYDIS_MNEMONIC_CMPXCHG, FX_SET },
	{ ZYDIS_MNEMONIC_CMPXCHG16B, FX_KEEP },
};

/* False: not one of these. */
static bool rule_of(const ZydisDecodedInstruction *in, enum fx *ret_fx)
{
	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		if (rules[i].m == in->mnemonic) {
			*ret_fx = rules[i].fx;
			return true;
		}
	}
	if (in->meta.category != ZYDIS_CATEGORY_SETCC && in->meta.category != ZYDIS_CATEGORY_CMOV)
		return false;
	*ret_fx = FX_READ;
	return true;
}

bool moves_data(const ZydisDecodedInstruction *in)
{
	enum fx fx;

	return rule_of(in, &fx);
}

unsigned alignment_of(const ZydisDecodedInstruction *in)
{
	return in->mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B ? 16 : 1;
}

/* A shift by a constant that is not 0 keeps no flag. */
static bool shifts_surely(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o)
{
	if (in->mnemonic != ZYDIS_MNEMONIC_SHL && in->mnemonic != ZYDIS_MNEMONIC_SHR &&
	    in->mnemonic != ZYDIS_MNEMONIC_SAR)
		return false;
	return o[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
	       (o[1].imm.value.u & (o[0].size == 64 ? 63 : 31)) != 0;
}

static enum fx fx_vector(const ZydisDecodedInstruction *in)
{
	if (!in->cpu_flags)
		return FX_NONE;
	if (in->cpu_flags->tested)
		return FX_READ;
	if (!(in->cpu_flags->modified | in->cpu_flags->set_0 | in->cpu_flags->set_1 |
	      in->cpu_flags->undefined))
		return FX_NONE;
	return in->meta.isa_set == ZYDIS_ISA_SET_X87 ? FX_KEEP : FX_SET;
}

enum fx fx_of(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o)
{
	enum fx fx;

	if (rule_of(in, &fx))
		return shifts_surely(in, o) ? FX_SET : fx;
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_LAHF:
		return FX_READ;
	case ZYDIS_MNEMONIC_SAHF:
	case ZYDIS_MNEMONIC_CLC:
	case ZYDIS_MNEMONIC_STC:
		return FX_KEEP;
	case ZYDIS_MNEMONIC_CMC:
		return FX_SOME;
	default:
		break;
	}
	if (in->meta.category == ZYDIS_CATEGORY_COND_BR)
		return FX_READ;
	if (in->meta.isa_set == ZYDIS_ISA_SET_BMI1 || in->meta.isa_set == ZYDIS_ISA_SET_BMI2)
		return fx_vector(in) == FX_NONE ? FX_NONE : FX_KEEP;
	if (ZydisRegisterGetClass(o[0].reg.value) == ZYDIS_REGCLASS_XMM ||
	    ZydisRegisterGetClass(o[0].reg.value) == ZYDIS_REGCLASS_YMM ||
	    in->meta.category == ZYDIS_CATEGORY_X87_ALU || in->meta.isa_set == ZYDIS_ISA_SET_X87 ||
	    in->meta.isa_set == ZYDIS_ISA_SET_FCMOV)
		return fx_vector(in);
	return FX_NONE;
}

int gpr_of(ZydisRegister r, bool *ret_high)
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

const ZydisDecodedOperand *encoded_in(const ZydisDecodedInstruction *in,
				      const ZydisDecodedOperand *o, ZydisOperandEncoding enc)
{
	for (unsigned i = 0; i < in->operand_count; i++)
		if (o[i].encoding == enc)
			return &o[i];
	return NULL;
}

unsigned map_flag(const ZydisDecodedInstruction *in)
{
	return in->opcode_map == ZYDIS_OPCODE_MAP_0F	 ? EM_0F
	       : in->opcode_map == ZYDIS_OPCODE_MAP_0F38 ? EM_0F38
	       : in->opcode_map == ZYDIS_OPCODE_MAP_0F3A ? EM_0F3A
							 : 0;
}

void copy_imm(struct tr *t, const ZydisDecodedInstruction *in, const u8 *bytes)
{
	if (in->raw.imm[0].size)
		ebytes(&t->e, bytes + in->raw.imm[0].offset, in->raw.imm[0].size / 8u);
}

static bool prefixes_plain(const ZydisDecodedInstruction *in, unsigned *f)
{
	/* Elsewhere F2 and F3 mean nothing to the guest, but might to the host (TZCNT, LZCNT). */
	if (in->mnemonic == ZYDIS_MNEMONIC_POPCNT || in->mnemonic == ZYDIS_MNEMONIC_LZCNT ||
	    in->mnemonic == ZYDIS_MNEMONIC_TZCNT)
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

static bool bit_string(const ZydisDecodedInstruction *in)
{
	return in->mnemonic == ZYDIS_MNEMONIC_BT || in->mnemonic == ZYDIS_MNEMONIC_BTS ||
	       in->mnemonic == ZYDIS_MNEMONIC_BTR || in->mnemonic == ZYDIS_MNEMONIC_BTC;
}

/* The operands of a ModRM byte: general registers, or memory. */
struct modrm {
	const ZydisDecodedOperand *rm, *rg; /* rg: NULL without */
	bool mem, high_m, high_r;	    /* AH..BH */
	int gm, gr;			    /* guest registers, -1: none */
};

static bool modrm_of(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
		     struct modrm *ret)
{
	struct modrm r = { .rm = encoded_in(in, o, ZYDIS_OPERAND_ENCODING_MODRM_RM),
			   .rg = encoded_in(in, o, ZYDIS_OPERAND_ENCODING_MODRM_REG),
			   .gm = -1,
			   .gr = -1 };

	if (!r.rm)
		return false;
	r.mem = r.rm->type == ZYDIS_OPERAND_TYPE_MEMORY;
	if (!r.mem)
		r.gm = gpr_of(r.rm->reg.value, &r.high_m);
	if (r.rg)
		r.gr = gpr_of(r.rg->reg.value, &r.high_r);
	*ret = r;
	return (r.mem || r.gm >= 0) && (!r.rg || r.gr >= 0);
}

static bool writes(const ZydisDecodedOperand *o)
{
	return (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
}

/* A whole operand, and it lives in memory. */
static bool spilled(int g, bool high)
{
	return g >= 0 && !high && host_of[g] < 0;
}

/*
 * A guest register that lives in memory can be the instruction's memory operand: unless 32 bits are
 * written, which clears the rest; the other operand is the same; a bit offset would lead away; or
 * processors leave other undefined flags behind when they shift memory.
 */
static bool in_place(const ZydisDecodedInstruction *in, const struct modrm *x)
{
	return x->gm != x->gr && !bit_string(in) && in->meta.category != ZYDIS_CATEGORY_ROTATE &&
	       in->meta.category != ZYDIS_CATEGORY_SHIFT && !(x->rm->size == 32 && writes(x->rm));
}

/*
 * The other way round it can, too, if the opcode has a form with the operands exchanged: those of
 * ALU operations and MOV differ in one bit, and TEST does not care.
 */
static bool exchangeable(const ZydisDecodedInstruction *in, const struct modrm *x)
{
	return in->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && !x->mem && !x->high_m &&
	       host_of[x->gm] >= 0 && spilled(x->gr, x->high_r) &&
	       ((in->opcode < 0x40 && (in->opcode & 6) == 0) || (in->opcode & 0xfe) == 0x88 ||
		(in->opcode & 0xfe) == 0x84);
}

/* Both operands need a scratch register: then T0 is one of them. */
static bool needs_both(const ZydisDecodedInstruction *in, const struct modrm *x)
{
	return spilled(x->gm, x->high_m) && spilled(x->gr, x->high_r) && x->gm != x->gr &&
	       !in_place(in, x);
}

bool keeps_t0(const struct insn *i)
{
	struct modrm x;

	return moves_data(&i->in) && (i->in.attributes & ZYDIS_ATTRIB_HAS_MODRM) &&
	       modrm_of(&i->in, i->o, &x) && !x.mem && !needs_both(&i->in, &x);
}

/* The old value of a register operand does not matter. */
static bool overwrites(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o)
{
	if (o->actions != ZYDIS_OPERAND_ACTION_WRITE || o->size < 32)
		return false;
	return in->mnemonic == ZYDIS_MNEMONIC_MOV || in->mnemonic == ZYDIS_MNEMONIC_MOVZX ||
	       in->mnemonic == ZYDIS_MNEMONIC_MOVSX || in->mnemonic == ZYDIS_MNEMONIC_MOVSXD;
}

/* The r/m operand in a register or where it lives. *ret_tmp: the scratch register it is in, or 0. */
static struct erm operand_m(struct tr *t, const ZydisDecodedInstruction *in, const struct modrm *x,
			    unsigned *f, u8 *ret_tmp)
{
	if (x->high_m) {
		*f |= EM_NOREX;
		return er((u8)(x->gm + 4));
	}
	if (host_of[x->gm] >= 0) {
		if (x->rm->size == 8 && host_of[x->gm] >= 4)
			*f |= EM_REX;
		return er((u8)host_of[x->gm]);
	}
	if (in_place(in, x))
		return greg((unsigned)x->gm);
	*ret_tmp = needs_both(in, x) ? T0 : T1;
	if (x->gm == x->gr || !overwrites(in, x->rm))
		eload(&t->e, *ret_tmp, greg((unsigned)x->gm));
	if (x->rm->size == 8)
		*f |= EM_REX;
	return er(*ret_tmp);
}

/* The reg operand: T1 if it lives in memory. */
static u8 operand_r(struct tr *t, const ZydisDecodedInstruction *in, const struct modrm *x,
		    unsigned *f)
{
	u8 r = T1;

	if (x->high_r) {
		*f |= EM_NOREX;
		return (u8)(x->gr + 4);
	}
	if (host_of[x->gr] >= 0)
		r = (u8)host_of[x->gr];
	else if (!overwrites(in, x->rg))
		eload(&t->e, T1, greg((unsigned)x->gr));
	if (x->rg->size == 8 && r >= 4)
		*f |= EM_REX;
	return r;
}

/* With the operands exchanged. */
static void tr_exchanged(struct tr *t, const ZydisDecodedInstruction *in, const struct modrm *x,
			 unsigned f)
{
	u8 opc = (in->opcode & 0xfe) == 0x84 ? in->opcode : in->opcode | 2;
	u8 r = (u8)host_of[x->gm];

	if (x->rm->size == 8 && r >= 4)
		f |= EM_REX;
	einsn(&t->e, f, opc, r, greg((unsigned)x->gr));
}

/* An instruction with a ModRM byte, its general registers renamed. */
static bool tr_modrm(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
		     const u8 *bytes)
{
	const struct op *op = &t->b->ops[t->k];
	unsigned f = map_flag(in);
	u8 tmp = 0, reg = in->raw.modrm.reg & 7;
	struct erm m = { 0 };
	struct modrm x;

	if (!prefixes_plain(in, &f) || !modrm_of(in, o, &x) || (x.mem && (op->flags & OPF_EASLOW)))
		return false;
	if (x.mem)
		m = mem_operand(t, op, x.rm->size / 8u, alignment_of(in), writes(x.rm));
	flags_before(t);
	if (exchangeable(in, &x)) {
		tr_exchanged(t, in, &x, f);
		flags_after(t);
		return true;
	}
	if (!x.mem)
		m = operand_m(t, in, &x, &f, &tmp);
	/* One register twice (XADD) must be one register for the host too. */
	if (x.gr >= 0)
		reg = tmp && x.gr == x.gm ? tmp : operand_r(t, in, &x, &f);
	einsn(&t->e, f, in->opcode, reg, m);
	copy_imm(t, in, bytes);
	if (tmp && writes(x.rm))
		put(t, (unsigned)x.gm, tmp);
	if (spilled(x.gr, x.high_r) && writes(x.rg))
		put(t, (unsigned)x.gr, reg);
	flags_after(t);
	return true;
}

/* Opcodes without ModRM: rAX with an immediate, B0+r, BSWAP, the CBW family. */
static bool tr_short(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
		     const u8 *bytes)
{
	unsigned f = map_flag(in);
	bool high;

	if (!prefixes_plain(in, &f) || in->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
		return false;
	if (in->opcode >= 0xb0 && in->opcode <= 0xbf) { /* mov r, imm */
		int g = gpr_of(o[0].reg.value, &high);
		u8 d = high ? (u8)(g + 4) : host_of[g] >= 0 ? (u8)host_of[g] : T1;
		if (!high && host_of[g] < 0 && o[0].size < 32)
			eload(&t->e, T1, greg((unsigned)g));
		if (o[0].size == 8 && d >= 4 && !high)
			f |= EM_REX;
		if (high)
			f |= EM_NOREX;
		eopc(&t->e, f, (u8)((in->opcode & 0xf8) | (d & 7)), 0, 0, high ? 0 : d);
		copy_imm(t, in, bytes);
		if (!high && host_of[g] < 0)
			put(t, (unsigned)g, T1);
		return true;
	}
	/* ALU and TEST of rAX with an immediate. */
	if ((in->opcode < 0x40 && (in->opcode & 6) == 4) || (in->opcode & 0xfe) == 0xa8) {
		flags_before(t);
		eopc(&t->e, f, in->opcode, 0, 0, 0);
		copy_imm(t, in, bytes);
		flags_after(t);
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
	bool rip = op->base == X86_BLOCK;
	int b = op->base == X86_ZERO || rip ? -1 : host_of[op->base];
	int x = op->index == X86_ZERO ? -1 : host_of[op->index];
	if (!rip && (b >= 0 || op->base == X86_ZERO) && (x >= 0 || op->index == X86_ZERO) &&
	    (b >= 0 || x >= 0) && host_of[g] >= 0 && o[0].size >= 32) {
		elea(&t->e, o[0].size == 64 ? EM_W : 0, (u8)host_of[g], b, x, op->scale, op->disp);
		return true;
	}
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
		struct erm m = mem_operand(t, op, o[0].size / 8u, 1, true);
		u8 s = use(t, (unsigned)g, T1);
		einsn(&t->e, f, 0x87, s, m);
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

static bool tr_bswap(struct tr *t, const ZydisDecodedOperand *o)
{
	bool high;
	int g = gpr_of(o[0].reg.value, &high);

	if (o[0].size < 32)
		return false;
	u8 r = use(t, (unsigned)g, T1);
	eopc(&t->e, EM_0F | (o[0].size == 64 ? EM_W : 0), (u8)(0xc8 | (r & 7)), 0, 0, r);
	put(t, (unsigned)g, r);
	return true;
}

/*
 * A bit of a string in memory: the word that it is in, wherever that is; then the register form,
 * which takes the bit's number modulo the word's size.
 */
static bool tr_bit_string(struct tr *t, const ZydisDecodedInstruction *in,
			  const ZydisDecodedOperand *o)
{
	const struct op *op = &t->b->ops[t->k];
	struct emit *e = &t->e;
	bool high, writes = in->mnemonic != ZYDIS_MNEMONIC_BT;
	int g = gpr_of(o[1].reg.value, &high);
	unsigned w = o[0].size == 64 ? EM_W : 0;

	if (o[0].size < 32 || host_of[g] < 0 || (op->flags & OPF_EASLOW))
		return false;
	flags_drop(t);
	address_of(t, op);
	if (w)
		emov(e, T1, (u8)host_of[g]);
	else
		einsn(e, EM_W, 0x63, T1, er((u8)host_of[g])); /* movsxd */
	einsn(e, EM_W, 0xc1, 7, er(T1));		      /* sar r11, 5 or 6 */
	e8(e, w ? 6 : 5);
	elea(e, EM_W, T0, T0, T1, w ? 3 : 2, 0);
	probe(t, w ? 8 : 4, writes);
	flags_before(t);
	einsn(e, w, 0x8b, T1, em(T0, 0));
	einsn(e, w | EM_0F, in->opcode, (u8)host_of[g], er(T1));
	if (writes)
		einsn(e, w, 0x89, T1, em(T0, 0));
	flags_after(t);
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
	case ZYDIS_MNEMONIC_LAHF:
	case ZYDIS_MNEMONIC_SAHF:
	case ZYDIS_MNEMONIC_CLC:
	case ZYDIS_MNEMONIC_STC:
	case ZYDIS_MNEMONIC_CMC:
		flags_before(t);
		ebytes(&t->e, bytes, in->length);
		flags_after(t);
		return true;
	default:
		return false;
	}
}

/* --- division, and what changes the host's flags alone ----------------------------------- */

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
		einsn(e, w, 0x8b, T0, mem_operand(t, op, o[0].size / 8u, 1, false));
	} else {
		int g = gpr_of(o[0].reg.value, &high);
		flags_drop(t);
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
	return true;
}

/* STAC and CLAC choose the other TLB of the supervisor. */
static bool tr_ac(struct tr *t, bool set)
{
	struct emit *e = &t->e;

	if (!(t->v->c.cr4_allowed & CR4_SMAP))
		return false;
	flags_drop(t);
	einsn(e, 0, 0x80, 7, VCPU(c.cpl));
	e8(e, 0);
	leave(t, CC_NE);
	eload(e, T1, VCPU(tlb));
	einsn(e, EM_W, 0x3b, T1, VCPU(empty_tlb));
	leave(t, CC_E);
	einsn(e, EM_W, 0x81, set ? 1 : 4, VCPU(c.rflags));
	e32(e, set ? X86_AC : ~X86_AC);
	eload(e, T1,
	      em(VC, (s32)(offsetof(struct vcpu, tlbs) +
			   (set ? TLB_KERNEL_AC : TLB_KERNEL) * sizeof(struct tlb *))));
	estore(e, VCPU(tlb), T1);
	return true;
}

static bool tr_df(struct tr *t, bool set)
{
	flags_drop(t);
	einsn(&t->e, EM_W, 0x81, set ? 1 : 4, VCPU(c.rflags));
	e32(&t->e, set ? X86_DF : ~X86_DF);
	return true;
}

bool tr_insn(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
	     const u8 *bytes)
{
	const struct op *op = &t->b->ops[t->k];
	op_fn fn = block_fn(t->b, t->k);

	if (fn == op_misc && (op->aux == M_NOP || op->aux == M_FENCE))
		return true;
	if (fn == op_vec_reg || fn == op_vec_load || fn == op_vec_store)
		return tr_sse(t, in, o, bytes);
	if (fn == op_vec_x87)
		return tr_x87(t, in);
	if (in->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		return tr_vex(t, in, o, bytes);
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
		return fn == op_call				? tr_branch(t, true)
		       : fn == op_call_r64 || fn == op_call_m64 ? tr_branch_rm(t, o, true)
								: false;
	case ZYDIS_MNEMONIC_JMP:
		return fn == op_jmp			      ? tr_branch(t, false)
		       : fn == op_jmp_r64 || fn == op_jmp_m64 ? tr_branch_rm(t, o, false)
							      : false;
	case ZYDIS_MNEMONIC_RET:
		return tr_ret(t);
	case ZYDIS_MNEMONIC_PUSHFQ:
		return tr_pushf(t);
	case ZYDIS_MNEMONIC_CLI:
		return tr_cli(t);
	case ZYDIS_MNEMONIC_STI:
		return tr_sti(t);
	case ZYDIS_MNEMONIC_SWAPGS:
		return tr_swapgs(t);
	case ZYDIS_MNEMONIC_RDFSBASE:
	case ZYDIS_MNEMONIC_WRFSBASE:
		return tr_base(t, o, X86_FS, in->mnemonic == ZYDIS_MNEMONIC_WRFSBASE);
	case ZYDIS_MNEMONIC_RDGSBASE:
	case ZYDIS_MNEMONIC_WRGSBASE:
		return tr_base(t, o, X86_GS, in->mnemonic == ZYDIS_MNEMONIC_WRGSBASE);
	case ZYDIS_MNEMONIC_BSWAP:
		return tr_bswap(t, o);
	default:
		break;
	}
	if (fn == ops_jcc[op->aux & 15] && in->meta.category == ZYDIS_CATEGORY_COND_BR)
		return tr_jcc(t);
	if (tr_plain(t, in, bytes))
		return true;
	if (bit_string(in) && o[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
	    o[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
		return tr_bit_string(t, in, o);
	enum fx fx;
	if (fn == op_mov_from_seg)
		return tr_mov_from_seg(t, o);
	if (fn == op_sys || !rule_of(in, &fx))
		return false;
	if (in->attributes & ZYDIS_ATTRIB_HAS_MODRM)
		return tr_modrm(t, in, o, bytes);
	return tr_short(t, in, o, bytes);
}
