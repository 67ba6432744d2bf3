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

/* --- division, flags in memory ----------------------------------------------------------- */

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
	t->fl = FL_MEM;
	return true;
}

static bool tr_df(struct tr *t, bool set)
{
	flags_save(t);
	einsn(&t->e, EM_W, 0x81, set ? 1 : 4, VCPU(c.rflags));
	e32(&t->e, set ? X86_DF : ~X86_DF);
	t->fl = FL_MEM;
	return true;
}

bool tr_insn(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
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
	enum fx fx;
	if (fn == op_sys || fn == op_mov_from_seg || !rule_of(in, &fx))
		return false;
	if (in->attributes & ZYDIS_ATTRIB_HAS_MODRM)
		return tr_modrm(t, in, o, bytes, fx);
	return tr_short(t, in, o, bytes, fx);
}
