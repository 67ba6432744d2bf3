/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_vec.c - the translator: SSE and x87
 *
 * How it works
 *
 * Vectors. Guest XMM registers and MXCSR become the host's at the first SSE instruction after
 * entering host code, and memory's when it is left (xmm_live), so that code without SSE pays
 * nothing. With an SSE exception unmasked, or SSE not available, the interpreter takes over. The
 * same holds for the x87 state (x87_live); control words and environments are the interpreter's.
 */
#include "cpu/soft/x86/jit_priv.h"

#include "cpu/soft/x86/vec.h"

/* Calls @load unless what is at @live is @least or more. */
static void need_one(struct tr *t, struct erm live, u8 least, s32 load, unsigned code)
{
	struct emit *e = &t->e;

	einsn(e, 0, 0x80, 7, live);
	e8(e, least);
	u32 yes = ejcc(e, CC_AE);
	ecall_glue(e, load);
	leave_as(t, CC_B, code);
	ehere(e, yes);
}

void need_live(struct tr *t, unsigned code)
{
	if (t->x87)
		need_one(t, VCPU(x87_live), 1, (s32)offsetof(struct vcpu, jit_x87), code);
	if (t->ymm)
		need_one(t, VCPU(xmm_live), LIVE_YMM, (s32)offsetof(struct vcpu, jit_ymm), code);
	else if (t->xmm && !t->x87)
		need_one(t, VCPU(xmm_live), LIVE_XMM, (s32)offsetof(struct vcpu, jit_xmm), code);
}

void need_ymm(struct tr *t)
{
	if (!t->ymm)
		t->ymm = t->surprise = true;
}

/* The region uses XMM registers: every way in makes them live. */
static void need_xmm(struct tr *t)
{
	if (!t->xmm && !t->ymm && !t->x87)
		t->xmm = t->surprise = true;
}

bool is_vector(const ZydisDecodedOperand *o)
{
	ZydisRegisterClass c = ZydisRegisterGetClass(o->reg.value);

	return o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       (c == ZYDIS_REGCLASS_XMM || c == ZYDIS_REGCLASS_YMM);
}

int vec_reg(struct tr *t, const ZydisDecodedOperand *o, u8 tmp)
{
	bool high;

	if (is_vector(o))
		return ZydisRegisterGetId(o->reg.value);
	int g = gpr_of(o->reg.value, &high);
	return g < 0 || high ? -1 : use(t, (unsigned)g, tmp);
}

void vec_put(struct tr *t, const ZydisDecodedOperand *o, u8 tmp)
{
	bool high;
	int g = o && o->type == ZYDIS_OPERAND_TYPE_REGISTER ? gpr_of(o->reg.value, &high) : -1;

	if (g >= 0 && host_of[g] < 0 && (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
		put(t, (unsigned)g, tmp);
}

void masked_only(struct tr *t, struct erm m, unsigned n, u32 masks, u32 reserved)
{
	struct emit *e = &t->e;

	flags_drop(t);
	einsn(e, n == 2 ? EM_0F : 0, n == 2 ? 0xb7 : 0x8b, T1, m);
	if (reserved) {
		einsn(e, 0, 0xf7, 0, er(T1));
		e32(e, reserved);
		leave(t, CC_NE);
	}
	einsn(e, 0, 0xf7, 2, er(T1)); /* not */
	einsn(e, 0, 0xf7, 0, er(T1)); /* test */
	e32(e, masks);
	leave(t, CC_NE);
}

/* An SSE instruction: its XMM registers have the same numbers here. */
bool tr_sse(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
	    const u8 *bytes)
{
	const struct op *op = &t->b->ops[t->k];
	const struct vec_insn *vi = op->ptr;
	const ZydisDecodedOperand *rm = encoded_in(in, o, ZYDIS_OPERAND_ENCODING_MODRM_RM);
	const ZydisDecodedOperand *rg = encoded_in(in, o, ZYDIS_OPERAND_ENCODING_MODRM_REG);
	unsigned f = map_flag(in) | (in->raw.rex.W ? EM_W : 0);
	int reg = in->raw.modrm.reg & 7;
	struct erm m = em(T0, 0);

	if (vi->cls != VEC_SSE || in->mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ||
	    (op->flags & OPF_EASLOW))
		return false;
	for (unsigned i = 0; i < in->raw.prefix_count; i++) {
		u8 p = in->raw.prefixes[i].value;
		if (in->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY)
			f |= p == 0x66 ? EM_66 : p == 0xf2 ? EM_F2 : p == 0xf3 ? EM_F3 : 0;
	}
	if (!rm)
		return false;
	need_xmm(t);
	if (rm->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		m = mem_operand(t, op, vi->mem_size, vi->mem_align, vi->mem_write);
		if (in->mnemonic == ZYDIS_MNEMONIC_LDMXCSR)
			masked_only(t, m, 4, 0x1f80, 0xffff0000);
	} else {
		int r = vec_reg(t, rm, T0);
		if (r < 0)
			return false;
		m = er((u8)r);
	}
	if (rg) {
		reg = vec_reg(t, rg, T1);
		if (reg < 0)
			return false;
	}
	einsn(&t->e, f, in->opcode, (u8)reg, m);
	copy_imm(t, in, bytes);
	vec_put(t, rm, T0);
	vec_put(t, rg, T1);
	flags_after(t);
	return true;
}

/* --- x87 --------------------------------------------------------------------------------- */

static void need_x87(struct tr *t)
{
	if (!t->x87)
		t->x87 = t->surprise = true;
}

/*
 * The exceptions are all masked (jit_x87 sees to that), so that no instruction here can fault but
 * for its operand, and every store stores.
 */
bool tr_x87(struct tr *t, const ZydisDecodedInstruction *in)
{
	const struct op *op = &t->b->ops[t->k];
	const struct vec_insn *vi = op->ptr;

	if (vi->cls == VEC_FWAIT) { /* nothing can be pending */
		need_x87(t);
		return true;
	}
	if ((vi->cls != VEC_X87 && vi->cls != VEC_X87_NOWAIT) || (op->flags & OPF_EASLOW))
		return false;
	switch (in->mnemonic) {
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
		struct erm m = mem_operand(t, op, vi->mem_size, 1, vi->mem_write);
		if (in->mnemonic == ZYDIS_MNEMONIC_FLDCW)
			masked_only(t, m, 2, 0x3f, 0);
		einsn(&t->e, 0, in->opcode, in->raw.modrm.reg & 7, m);
		return true;
	}
	flags_before(t);
	e8(&t->e, in->opcode);
	e8(&t->e, (u8)(0xc0 | (in->raw.modrm.reg & 7) << 3 | (in->raw.modrm.rm & 7)));
	flags_after(t);
	return true;
}

/* --- between memory and registers -------------------------------------------------------- */

static struct erm at(u8 base, size_t off)
{
	return em(base, (s32)off);
}
#define FIELD(base, field) at(base, offsetof(struct vcpu, field))

static struct erm xmm_slot(u8 base, unsigned i)
{
	return at(base, offsetof(struct vcpu, c.x.xmm) + i * 16);
}

/* MOVAPS: 0F 28 and 0F 29 */
static void all_xmm(struct emit *e, u8 opc, u8 base)
{
	for (unsigned i = 0; i < 16; i++)
		einsn(e, EM_0F, opc, (u8)i, xmm_slot(base, i));
}

/* VINSERTF128 ymm, ymm, [slot], 1: VEX.256.66.0F3A.W0 18; VEXTRACTF128 [slot], ymm, 1: 19 */
static void all_upper(struct emit *e, bool load, u8 base)
{
	for (unsigned i = 0; i < 16; i++) {
		e8(e, 0xc4);
		e8(e, (u8)((i & 8 ? 0 : 0x80) | 0x40 | (base & 8 ? 0 : 0x20) | 3));
		e8(e, (u8)((~(load ? i : 0) & 15) << 3 | 4 | 1));
		e8(e, load ? 0x18 : 0x19);
		edisp(e, (u8)i, base, (s32)(offsetof(struct vcpu, c.x.ymmh) + i * 16));
		e8(e, 1);
	}
}

static void vzeroupper(struct emit *e)
{
	ebytes(e, "\xc5\xf8\x77", 3);
}

/* Jumps if fewer than @least are live. */
static u32 unless_live(struct emit *e, u8 base, u8 least)
{
	einsn(e, 0, 0x80, 7, FIELD(base, xmm_live));
	e8(e, least);
	return ejcc(e, CC_B);
}

void emit_live_save(struct emit *e, u8 base, bool avx)
{
	u32 none = unless_live(e, base, LIVE_XMM);

	all_xmm(e, 0x29, base);
	if (avx) {
		u32 no_upper = unless_live(e, base, LIVE_YMM);
		all_upper(e, false, base);
		vzeroupper(e);
		ehere(e, no_upper);
	}
	ehere(e, none);
}

void emit_live_load(struct emit *e, u8 base, bool avx)
{
	u32 none = unless_live(e, base, LIVE_XMM);

	all_xmm(e, 0x28, base);
	if (avx) {
		u32 no_upper = unless_live(e, base, LIVE_YMM);
		all_upper(e, true, base);
		ehere(e, no_upper);
	}
	ehere(e, none);
}

/*
 * The loads are called with RSP 16 below the vcpu; T0 becomes the vcpu.
 * LDMXCSR and STMXCSR: 0F AE /2 and /3.
 */
static u32 check_mxcsr(struct emit *e)
{
	einsn(e, 0, 0x8b, T1, FIELD(T0, c.x.mxcsr));
	einsn(e, 0, 0xf7, 2, er(T1)); /* not r11d: unmasked exceptions become ones */
	einsn(e, 0, 0xf7, 0, er(T1)); /* test r11d, 1f80h */
	e32(e, 0x1f80);
	return ejcc(e, CC_NE);
}

static u32 check_ok(struct emit *e, struct erm ok)
{
	einsn(e, 0, 0x80, 7, ok);
	e8(e, 0);
	return ejcc(e, CC_E);
}

void emit_xmm_load(struct emit *e)
{
	elea(e, EM_W, T0, VC, -1, 0, 16);
	u32 no = check_ok(e, FIELD(T0, sse_ok));
	u32 unmasked = check_mxcsr(e);
	einsn(e, EM_0F, 0xae, 2, FIELD(T0, c.x.mxcsr));
	all_xmm(e, 0x28, T0);
	einsn(e, 0, 0xc6, 0, FIELD(T0, xmm_live));
	e8(e, LIVE_XMM);
	e8(e, 0xf8); /* clc */
	e8(e, 0xc3);
	ehere(e, no);
	ehere(e, unmasked);
	e8(e, 0xf9); /* stc */
	e8(e, 0xc3);
}

/* The lower halves may be live already. */
void emit_ymm_load(struct emit *e)
{
	u32 no[4];

	elea(e, EM_W, T0, VC, -1, 0, 16);
	einsn(e, 0, 0xf7, 0, FIELD(T0, c.cr4));
	e32(e, CR4_OSXSAVE);
	no[0] = ejcc(e, CC_E);
	einsn(e, 0, 0x8b, T1, FIELD(T0, c.xcr0));
	einsn(e, 0, 0xf7, 2, er(T1)); /* not */
	einsn(e, 0, 0xf7, 0, er(T1)); /* test */
	e32(e, XCR0_SSE | XCR0_AVX);
	no[1] = ejcc(e, CC_NE);
	u32 dead = unless_live(e, T0, LIVE_XMM);
	u32 lower = ejmp(e);
	ehere(e, dead);
	no[2] = check_ok(e, FIELD(T0, sse_ok));
	no[3] = check_mxcsr(e);
	einsn(e, EM_0F, 0xae, 2, FIELD(T0, c.x.mxcsr));
	all_xmm(e, 0x28, T0);
	ehere(e, lower);
	all_upper(e, true, T0);
	einsn(e, 0, 0xc6, 0, FIELD(T0, xmm_live));
	e8(e, LIVE_YMM);
	e8(e, 0xf8); /* clc */
	e8(e, 0xc3);
	for (unsigned i = 0; i < ARRAY_LEN(no); i++)
		ehere(e, no[i]);
	e8(e, 0xf9); /* stc */
	e8(e, 0xc3);
}

static void emit_xmm_store(struct emit *e, u8 base)
{
	einsn(e, EM_0F, 0xae, 3, FIELD(base, c.x.mxcsr));
	all_xmm(e, 0x29, base);
}

/* FXSAVE64 and FXRSTOR64: REX.W 0F AE /0 and /1. */
void emit_x87_load(struct emit *e)
{
	u32 no[4];

	elea(e, EM_W, T0, VC, -1, 0, 16);
	no[0] = check_ok(e, FIELD(T0, x87_ok));
	einsn(e, 0, 0x8b, T1, FIELD(T0, c.x.fcw)); /* FCW, FSW */
	einsn(e, 0, 0x81, 4, er(T1));		   /* and r11d: FSW.ES, the masks */
	e32(e, 0x80003f);
	einsn(e, 0, 0x81, 7, er(T1)); /* cmp r11d: no ES, all masked */
	e32(e, 0x3f);
	no[1] = ejcc(e, CC_NE);
	u32 dead = check_ok(e, FIELD(T0, xmm_live));
	emit_xmm_store(e, T0);
	ehere(e, dead);
	no[2] = check_ok(e, FIELD(T0, sse_ok));
	no[3] = check_mxcsr(e);
	einsn(e, EM_W | EM_0F, 0xae, 1, FIELD(T0, c.x)); /* upper halves stay */
	einsn(e, 0, 0x80, 1, FIELD(T0, xmm_live));	 /* or */
	e8(e, LIVE_XMM);
	einsn(e, 0, 0xc6, 0, FIELD(T0, x87_live));
	e8(e, 1);
	e8(e, 0xf8); /* clc */
	e8(e, 0xc3);
	for (unsigned i = 0; i < ARRAY_LEN(no); i++)
		ehere(e, no[i]);
	e8(e, 0xf9); /* stc */
	e8(e, 0xc3);
}

/* Vector state goes back to memory. RAX is free. */
void emit_vec_store(struct emit *e, bool avx)
{
	u32 dead = unless_live(e, VC, LIVE_XMM);
	if (avx) {
		u32 no_upper = unless_live(e, VC, LIVE_YMM);
		all_upper(e, false, VC);
		ehere(e, no_upper);
	}
	einsn(e, 0, 0x80, 7, VCPU(x87_live));
	e8(e, 0);
	u32 sse_only = ejcc(e, CC_E);
	/* The pointers of the last instruction are ours, and its mask is the host's. */
	einsn(e, 0, 0x8b, 0, VCPU(c.x.mxcsr_mask));
	einsn(e, EM_W | EM_0F, 0xae, 0, VCPU(c.x));
	einsn(e, 0, 0x89, 0, VCPU(c.x.mxcsr_mask));
	einsn(e, 0, 0x33, 0, er(0));
	einsn(e, EM_66, 0x89, 0, VCPU(c.x.fop));
	estore(e, VCPU(c.x.fip), 0);
	estore(e, VCPU(c.x.fdp), 0);
	ebytes(e, "\xdb\xe3", 2); /* fninit: the host's x87 state is empty */
	einsn(e, 0, 0xc6, 0, VCPU(x87_live));
	e8(e, 0);
	u32 done = ejmp(e);
	ehere(e, sse_only);
	emit_xmm_store(e, VC);
	ehere(e, done);
	if (avx)
		vzeroupper(e);
	einsn(e, EM_0F, 0xae, 2, VCPU(host_mxcsr));
	einsn(e, 0, 0xc6, 0, VCPU(xmm_live));
	e8(e, 0);
	ehere(e, dead);
}
