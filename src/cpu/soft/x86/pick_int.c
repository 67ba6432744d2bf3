/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pick_int.c - pickers of moves, arithmetic, shifts and bits
 */
#include "cpu/soft/x86/pick.h"

#include "cpu/soft/x86/ops.h"

void pick_alu(struct pick *p, unsigned a)
{
	const ZydisDecodedOperand *d = &p->o[0], *s = &p->o[1];
	unsigned z = size_index(d->size);
	enum op_form f;

	if (is_mem(d)) {
		set_mem(p, d);
		f = is_imm(s) ? F_MI : F_MR;
	} else if (is_mem(s)) {
		set_mem(p, s);
		f = F_RM;
	} else {
		f = is_imm(s) ? F_RI : F_RR;
	}
	if (is_reg(d))
		p->op->dst = reg_off(d->reg.value);
	if (is_imm(s))
		p->op->imm = s->imm.value.s;
	else if (is_reg(s))
		p->op->src = reg_off(s->reg.value);
	p->op->fn = ops_alu[a][z][f];
}

static void pick_mov_special(struct pick *p)
{
	const ZydisDecodedOperand *d = &p->o[0], *s = &p->o[1];
	bool to = is_reg(d);
	ZydisRegister r = to ? d->reg.value : s->reg.value;
	ZydisRegisterClass cd = is_reg(d) ? ZydisRegisterGetClass(d->reg.value) : 0;
	ZydisRegisterClass cs = is_reg(s) ? ZydisRegisterGetClass(s->reg.value) : 0;

	/* LOCK MOV CR0 is another vendor's CR8. */
	if (p->in->attributes & ZYDIS_ATTRIB_HAS_LOCK) {
		pick_sys(p, Y_UD);
		return;
	}
	if (cd == ZYDIS_REGCLASS_SEGMENT) {
		p->op->imm = seg_num(r);
		if (p->op->imm == X86_CS) {
			pick_sys(p, Y_UD);
			return;
		}
		set_rm(p, s);
		pick_sys(p, Y_MOV_TO_SEG);
	} else if (cs == ZYDIS_REGCLASS_SEGMENT) {
		p->op->imm = seg_num(s->reg.value);
		set_rm(p, d);
		p->op->aux = (u8)(d->size / 8);
		p->op->fn = op_mov_from_seg;
	} else if (cd == ZYDIS_REGCLASS_CONTROL || cd == ZYDIS_REGCLASS_DEBUG) {
		bool cr = cd == ZYDIS_REGCLASS_CONTROL;
		p->op->imm = r - (cr ? ZYDIS_REGISTER_CR0 : ZYDIS_REGISTER_DR0);
		p->op->src = reg_off(s->reg.value);
		pick_sys(p, cr ? Y_MOV_TO_CR : Y_MOV_TO_DR);
	} else {
		bool cr = cs == ZYDIS_REGCLASS_CONTROL;
		p->op->imm = s->reg.value - (cr ? ZYDIS_REGISTER_CR0 : ZYDIS_REGISTER_DR0);
		p->op->dst = reg_off(d->reg.value);
		pick_sys(p, cr ? Y_MOV_FROM_CR : Y_MOV_FROM_DR);
	}
}

void pick_mov(struct pick *p, unsigned arg)
{
	const ZydisDecodedOperand *d = &p->o[0], *s = &p->o[1];
	const ZydisDecodedOperand *m = is_mem(d) ? d : s;

	if ((is_reg(d) && !is_gpr(d)) || (is_reg(s) && !is_gpr(s))) {
		pick_mov_special(p);
		return;
	}
	if (is_mem(m) && m->mem.disp.value != (s32)m->mem.disp.value) {
		set_seg(p, seg_num(m->mem.segment));
		p->op->imm = m->mem.disp.value;
		p->op->aux = (u8)(d->size / 8 | (is_mem(d) ? 16 : 0));
		p->op->fn = op_movabs;
		return;
	}
	pick_alu(p, A_MOV);
}

void pick_un(struct pick *p, unsigned u)
{
	set_rm(p, &p->o[0]);
	p->op->fn = ops_un[u][size_index(p->o[0].size)][is_mem(&p->o[0])];
}

void pick_shift(struct pick *p, unsigned s)
{
	bool cl = is_reg(&p->o[1]);

	set_rm(p, &p->o[0]);
	p->op->imm = cl ? 0 : (u8)p->o[1].imm.value.u;
	p->op->fn = ops_sh[s][size_index(p->o[0].size)][cl][is_mem(&p->o[0])];
}

void pick_shd(struct pick *p, unsigned right)
{
	bool cl = is_reg(&p->o[2]);

	set_rm(p, &p->o[0]);
	p->op->src = reg_off(p->o[1].reg.value);
	p->op->imm = cl ? 0 : (u8)p->o[2].imm.value.u;
	p->op->fn = ops_shd[right][size_index(p->o[0].size)][cl][is_mem(&p->o[0])];
}

void pick_movx(struct pick *p, unsigned sign)
{
	p->op->dst = reg_off(p->o[0].reg.value);
	if (is_mem(&p->o[1]))
		set_mem(p, &p->o[1]);
	else
		p->op->src = reg_off(p->o[1].reg.value);
	p->op->fn = ops_movx[sign][p->o[1].size == 16][size_index(p->o[0].size)][is_mem(&p->o[1])];
}

void pick_movsxd(struct pick *p, unsigned arg)
{
	if (p->o[0].size != 64) { /* MOVSXD without REX.W moves */
		ZydisDecodedOperand s = p->o[1];
		s.size = p->o[0].size;
		p->op->dst = reg_off(p->o[0].reg.value);
		if (is_mem(&s))
			set_mem(p, &s);
		else
			p->op->src = reg_off(s.reg.value);
		p->op->fn = ops_alu[A_MOV][size_index(p->o[0].size)][is_mem(&s) ? F_RM : F_RR];
		return;
	}
	p->op->dst = reg_off(p->o[0].reg.value);
	if (is_mem(&p->o[1]))
		set_mem(p, &p->o[1]);
	else
		p->op->src = reg_off(p->o[1].reg.value);
	p->op->fn = ops_movsxd[is_mem(&p->o[1])];
}

void pick_lea(struct pick *p, unsigned arg)
{
	set_mem(p, &p->o[1]);
	p->op->dst = reg_off(p->o[0].reg.value);
	p->op->fn = ops_lea[size_index(p->o[0].size)];
}

/* Destination register in `src`, r/m source in `dst` or memory. */
static void pick_reg_rm(struct pick *p, const op_fn t[4][2], unsigned bits)
{
	p->op->src = reg_off(p->o[0].reg.value);
	set_rm(p, &p->o[1]);
	p->op->fn = t[size_index(bits)][is_mem(&p->o[1])];
}

static void pick_rm_reg(struct pick *p, const op_fn t[4][2])
{
	const ZydisDecodedOperand *m = &p->o[0], *r = &p->o[1];

	if (is_mem(r)) {
		m = &p->o[1];
		r = &p->o[0];
	}
	set_rm(p, m);
	p->op->src = reg_off(r->reg.value);
	p->op->fn = t[size_index(m->size)][is_mem(m)];
}

void pick_exchange(struct pick *p, unsigned x)
{
	pick_rm_reg(p, x == X_XCHG ? ops_xchg : x == X_XADD ? ops_xadd : ops_cmpxchg);
}

void pick_cmpxchg_pair(struct pick *p, unsigned bytes)
{
	set_mem(p, &p->o[0]);
	p->op->fn = bytes == 8 ? op_cmpxchg8b : op_cmpxchg16b;
}

void pick_bt(struct pick *p, unsigned b)
{
	bool imm = is_imm(&p->o[1]);

	set_rm(p, &p->o[0]);
	if (imm)
		p->op->imm = (u8)p->o[1].imm.value.u;
	else
		p->op->src = reg_off(p->o[1].reg.value);
	p->op->fn = ops_bt[b][size_index(p->o[0].size)][imm][is_mem(&p->o[0])];
}

void pick_bscan(struct pick *p, unsigned reverse)
{
	pick_reg_rm(p, ops_bscan[reverse], p->o[0].size);
}

void pick_popcnt(struct pick *p, unsigned arg)
{
	pick_reg_rm(p, ops_popcnt, p->o[0].size);
}

void pick_crc32(struct pick *p, unsigned arg)
{
	pick_reg_rm(p, ops_crc32, p->o[1].size);
}

void pick_bswap(struct pick *p, unsigned arg)
{
	p->op->dst = reg_off(p->o[0].reg.value);
	p->op->fn = ops_bswap[size_index(p->o[0].size)];
}

void pick_mul(struct pick *p, unsigned arg)
{
	set_rm(p, &p->o[0]);
	p->op->fn = ops_mul[size_index(p->o[0].size)][is_mem(&p->o[0])];
}

void pick_imul(struct pick *p, unsigned arg)
{
	unsigned n = p->in->operand_count_visible;

	if (n == 1) {
		set_rm(p, &p->o[0]);
		p->op->fn = ops_imul[size_index(p->o[0].size)][is_mem(&p->o[0])];
	} else {
		pick_reg_rm(p, n == 2 ? ops_imul2 : ops_imul3, p->o[0].size);
		if (n == 3)
			p->op->imm = p->o[2].imm.value.s;
	}
}

void pick_div(struct pick *p, unsigned sign)
{
	set_rm(p, &p->o[0]);
	p->op->fn = (sign ? ops_idiv : ops_div)[size_index(p->o[0].size)];
}

/* CBW, CWDE, CDQE; CWD, CDQ, CQO. */
void pick_extend(struct pick *p, unsigned into_dx)
{
	p->op->fn = (into_dx ? ops_cwd : ops_cbw)[size_index(p->in->operand_width)];
}

void pick_setcc(struct pick *p)
{
	set_rm(p, &p->o[0]);
	p->op->fn = ops_setcc[p->in->opcode & 15][is_mem(&p->o[0])];
}

void pick_cmov(struct pick *p)
{
	pick_reg_rm(p, ops_cmov[p->in->opcode & 15], p->o[0].size);
}
