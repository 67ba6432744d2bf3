/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_vex.c - the translator: VEX-encoded instructions, of vectors (AVX, AVX2, FMA) and of general
 * registers (BMI)
 *
 * How it works
 *
 * Like the others they are emitted as themselves, with other general registers. A region with a
 * vector one makes the upper halves of the YMM registers live on the way in, too (xmm_live is
 * LIVE_YMM then); legacy SSE instructions leave them alone here as there. Masked moves and gathers
 * are the interpreter's.
 */
#include "cpu/soft/x86/jit_priv.h"

#include "cpu/soft/x86/ops.h"
#include "cpu/soft/x86/vec.h"

/* The three-byte prefix, opcode, operands (SDM vol. 2, 2.3.5). */
static void evex(struct emit *e, const ZydisDecodedInstruction *in, u8 reg, u8 vvvv, struct erm m)
{
	const struct ZydisDecodedInstructionRawVex_ *x = &in->raw.vex;

	e8(e, 0xc4);
	e8(e, (u8)((reg & 8 ? 0 : 0x80) | 0x40 | (m.reg & 8 ? 0 : 0x20) | x->m_mmmm));
	e8(e, (u8)((x->W ? 0x80 : 0) | (~vvvv & 15) << 3 | (x->L ? 4 : 0) | x->pp));
	e8(e, in->opcode);
	if (m.mem)
		edisp(e, reg, m.reg, m.disp);
	else
		e8(e, (u8)(0xc0 | (reg & 7) << 3 | (m.reg & 7)));
}

/* An immediate byte, or a register in one. */
static void trailing(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
		     const u8 *bytes)
{
	if (in->raw.imm[0].size || encoded_in(in, o, ZYDIS_OPERAND_ENCODING_IS4))
		e8(&t->e, bytes[in->length - 1]);
}

static bool tr_avx(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
		   const u8 *bytes)
{
	const struct op *op = &t->b->ops[t->k];
	const struct vec_insn *vi = op->ptr;
	const ZydisDecodedOperand *rm = encoded_in(in, o, ZYDIS_OPERAND_ENCODING_MODRM_RM);
	const ZydisDecodedOperand *rg = encoded_in(in, o, ZYDIS_OPERAND_ENCODING_MODRM_REG);
	const ZydisDecodedOperand *nd = encoded_in(in, o, ZYDIS_OPERAND_ENCODING_NDSNDD);
	u8 reg = in->raw.modrm.reg & 7;
	struct erm m;

	if (!rm || (op->flags & OPF_EASLOW) || (nd && !is_vector(nd)) ||
	    in->mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU)
		return false;
	need_ymm(t);
	if (rm->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		m = mem_operand(t, op, vi->mem_size, vi->mem_align, vi->mem_write);
		if (in->mnemonic == ZYDIS_MNEMONIC_VLDMXCSR)
			masked_only(t, m, 4, 0x1f80, 0xffff0000);
	} else {
		m = er((u8)vec_reg(t, rm, T0));
	}
	if (rg)
		reg = (u8)vec_reg(t, rg, T1);
	flags_before(t);
	evex(&t->e, in, reg, nd ? (u8)vec_reg(t, nd, T1) : 0, m);
	trailing(t, in, o, bytes);
	vec_put(t, rm, T0);
	vec_put(t, rg, T1);
	flags_after(t);
	return true;
}

/* BMI: r/m is a source always, so that it may be in memory wherever it lives. */
static bool tr_bmi(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
		   const u8 *bytes)
{
	const struct op *op = &t->b->ops[t->k];
	const ZydisDecodedOperand *rm = encoded_in(in, o, ZYDIS_OPERAND_ENCODING_MODRM_RM);
	const ZydisDecodedOperand *rg = encoded_in(in, o, ZYDIS_OPERAND_ENCODING_MODRM_REG);
	const ZydisDecodedOperand *nd = encoded_in(in, o, ZYDIS_OPERAND_ENCODING_NDSNDD);
	u8 reg = in->raw.modrm.reg & 7, vvvv = 0;
	bool high, rg_mem, nd_mem;
	struct erm m;

	if (!rm || (op->flags & OPF_EASLOW))
		return false;
	bool mem = rm->type == ZYDIS_OPERAND_TYPE_MEMORY;
	rg_mem = rg && host_of[gpr_of(rg->reg.value, &high)] < 0;
	nd_mem = nd && host_of[gpr_of(nd->reg.value, &high)] < 0;
	if (mem && rg_mem && nd_mem) /* three scratch registers */
		return false;
	if (mem) {
		m = mem_operand(t, op, rm->size / 8u, 1, false);
	} else {
		int g = gpr_of(rm->reg.value, &high);
		m = host_of[g] < 0 ? greg((unsigned)g) : er((u8)host_of[g]);
	}
	u8 nd_tmp = mem ? T1 : T0;
	flags_before(t);
	if (rg)
		reg = (u8)vec_reg(t, rg, T1);
	if (nd)
		vvvv = (u8)vec_reg(t, nd, nd_tmp);
	evex(&t->e, in, reg, vvvv, m);
	trailing(t, in, o, bytes);
	vec_put(t, nd, nd_tmp); /* MULX: the register of the upper half wins */
	vec_put(t, rg, T1);
	flags_after(t);
	return true;
}

bool tr_vex(struct tr *t, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o,
	    const u8 *bytes)
{
	op_fn fn = block_fn(t->b, t->k);

	if (fn == op_avx_reg || fn == op_avx_load || fn == op_avx_store)
		return tr_avx(t, in, o, bytes);
	if (fn == op_vzeroupper || fn == op_vzeroall) {
		need_ymm(t);
		ebytes(&t->e, fn == op_vzeroall ? "\xc5\xfc\x77" : "\xc5\xf8\x77", 3);
		return true;
	}
	switch (in->meta.isa_set) {
	case ZYDIS_ISA_SET_BMI1:
	case ZYDIS_ISA_SET_BMI2:
		return tr_bmi(t, in, o, bytes);
	default:
		return false;
	}
}
