/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pick_vex.c - pickers of VEX-encoded instructions, and of the others that came with them
 */
#include "cpu/soft/x86/pick.h"

#include "cpu/soft/soft_priv.h"
#include "cpu/soft/x86/ops.h"
#include "cpu/soft/x86/vec.h"

#include <errno.h>

/* --- general registers ------------------------------------------------------------------------ */

struct gpr_picker {
	ZydisMnemonic m;
	op_fn fn;
	s8 dst, rm, other; /* operand numbers; other: one more register, or the immediate */
};

static const struct gpr_picker gpr_picks[] = {
	{ ZYDIS_MNEMONIC_ANDN, op_andn, 0, 2, 1 },	{ ZYDIS_MNEMONIC_BEXTR, op_bextr, 0, 1, 2 },
	{ ZYDIS_MNEMONIC_BZHI, op_bzhi, 0, 1, 2 },	{ ZYDIS_MNEMONIC_BLSI, op_blsi, 0, 1, -1 },
	{ ZYDIS_MNEMONIC_BLSMSK, op_blsmsk, 0, 1, -1 }, { ZYDIS_MNEMONIC_BLSR, op_blsr, 0, 1, -1 },
	{ ZYDIS_MNEMONIC_MULX, op_mulx, 0, 2, 1 },	{ ZYDIS_MNEMONIC_PDEP, op_pdep, 0, 2, 1 },
	{ ZYDIS_MNEMONIC_PEXT, op_pext, 0, 2, 1 },	{ ZYDIS_MNEMONIC_RORX, op_rorx, 0, 1, 2 },
	{ ZYDIS_MNEMONIC_SARX, op_sarx, 0, 1, 2 },	{ ZYDIS_MNEMONIC_SHLX, op_shlx, 0, 1, 2 },
	{ ZYDIS_MNEMONIC_SHRX, op_shrx, 0, 1, 2 },
};

static bool pick_gpr(struct pick *p)
{
	for (size_t i = 0; i < ARRAY_LEN(gpr_picks); i++) {
		const struct gpr_picker *g = &gpr_picks[i];

		if (g->m != p->in->mnemonic)
			continue;
		p->op->aux = (u8)(p->o[g->dst].size / 8);
		p->op->src = reg_off(p->o[g->dst].reg.value);
		set_rm(p, &p->o[g->rm]);
		if (g->other >= 0 && is_imm(&p->o[g->other]))
			p->op->imm = (u8)p->o[g->other].imm.value.u;
		else if (g->other >= 0)
			p->op->imm = reg_off(p->o[g->other].reg.value) / 8;
		p->op->fn = g->fn;
		return true;
	}
	return false;
}

void pick_movbe(struct pick *p, unsigned arg)
{
	bool store = is_mem(&p->o[0]);

	set_mem(p, &p->o[store ? 0 : 1]);
	p->op->src = reg_off(p->o[store ? 1 : 0].reg.value);
	p->op->aux = (u8)(p->o[0].size / 8);
	p->op->fn = store ? op_movbe_store : op_movbe_load;
}

void pick_count(struct pick *p, unsigned trailing)
{
	p->op->src = reg_off(p->o[0].reg.value);
	set_rm(p, &p->o[1]);
	p->op->aux = (u8)(p->o[0].size / 8);
	p->op->fn = trailing ? op_tzcnt : op_lzcnt;
}

/* --- vectors ---------------------------------------------------------------------------------- */

static u8 vreg(const ZydisDecodedOperand *o)
{
	return (u8)ZydisRegisterGetId(o->reg.value);
}

static u8 width(const ZydisDecodedInstruction *in)
{
	return in->raw.vex.L ? VX_256 : 0;
}

/* Destination, mask, source; one of the outer two is memory. */
static void pick_maskmov(struct pick *p, unsigned n)
{
	bool store = is_mem(&p->o[0]);

	set_mem(p, &p->o[store ? 0 : 2]);
	p->op->dst = vreg(&p->o[store ? 2 : 0]);
	p->op->src = vreg(&p->o[1]);
	p->op->aux = (u8)(n | width(p->in));
	p->op->fn = store ? op_maskstore : op_maskload;
}

/* Destination, memory with a vector of indices, mask. Zydis sees to it that they are three. */
static void pick_gather(struct pick *p, unsigned n, bool index8)
{
	ZydisDecodedOperand m = p->o[1];

	p->op->imm = ZydisRegisterGetId(m.mem.index);
	m.mem.index = ZYDIS_REGISTER_NONE;
	set_mem(p, &m);
	p->op->scale = (u8)__builtin_ctz(m.mem.scale ? m.mem.scale : 1);
	p->op->dst = vreg(&p->o[0]);
	p->op->src = vreg(&p->o[2]);
	p->op->aux = (u8)(n | width(p->in) | (index8 ? VX_INDEX8 : 0));
	p->op->fn = op_gather;
}

static void pick_thunk(struct pick *p)
{
	const struct vec_insn *d = pick_vec_insn(p);

	if (!d)
		return;
	if (!(p->op->flags & OPF_MEM))
		p->op->fn = op_avx_reg;
	else if (p->in->mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH)
		p->op->fn = op_avx_round_store;
	else if (p->in->mnemonic == ZYDIS_MNEMONIC_VCVTPH2PS && d->mem_size == 8)
		p->op->fn = op_avx_load8;
	else
		p->op->fn = d->mem_write ? op_avx_store : op_avx_load;
}

void pick_vex(struct pick *p)
{
	switch (p->in->mnemonic) {
	case ZYDIS_MNEMONIC_VZEROUPPER:
		p->op->fn = op_vzeroupper;
		return;
	case ZYDIS_MNEMONIC_VZEROALL:
		p->op->fn = op_vzeroall;
		return;
	case ZYDIS_MNEMONIC_VMASKMOVPS:
	case ZYDIS_MNEMONIC_VPMASKMOVD:
		pick_maskmov(p, 4);
		return;
	case ZYDIS_MNEMONIC_VMASKMOVPD:
	case ZYDIS_MNEMONIC_VPMASKMOVQ:
		pick_maskmov(p, 8);
		return;
	case ZYDIS_MNEMONIC_VGATHERDPS:
	case ZYDIS_MNEMONIC_VPGATHERDD:
		pick_gather(p, 4, false);
		return;
	case ZYDIS_MNEMONIC_VGATHERDPD:
	case ZYDIS_MNEMONIC_VPGATHERDQ:
		pick_gather(p, 8, false);
		return;
	case ZYDIS_MNEMONIC_VGATHERQPS:
	case ZYDIS_MNEMONIC_VPGATHERQD:
		pick_gather(p, 4, true);
		return;
	case ZYDIS_MNEMONIC_VGATHERQPD:
	case ZYDIS_MNEMONIC_VPGATHERQQ:
		pick_gather(p, 8, true);
		return;
	default:
		if (!pick_gpr(p))
			pick_thunk(p);
	}
}
