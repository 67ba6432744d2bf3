/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pick_sys.c - pickers of system, flag and vector instructions, and of old ones
 */
#include "cpu/soft/x86/pick.h"

#include "cpu/soft/soft_priv.h"
#include "cpu/soft/x86/ops.h"
#include "cpu/soft/x86/vec.h"

#include <errno.h>

void pick_sys(struct pick *p, unsigned y)
{
	p->op->fn = op_sys;
	p->op->aux = (u8)y;
	p->ends = true;
}

void pick_misc(struct pick *p, unsigned m)
{
	p->op->fn = op_misc;
	p->op->aux = (u8)m;
}

/* System instruction with an r/m operand; operand size in imm. */
void pick_sys_rm(struct pick *p, unsigned y)
{
	set_rm(p, &p->o[0]);
	p->op->imm = p->o[0].size / 8;
	pick_sys(p, y);
}

/* With an operand in memory. */
void pick_sys_mem(struct pick *p, unsigned y)
{
	set_mem(p, &p->o[0]);
	p->op->imm = 0;
	pick_sys(p, y);
}

/* Operand size of an instruction that takes only REX.W for 8 bytes. */
static unsigned wide(const struct pick *p)
{
	return p->in->attributes & ZYDIS_ATTRIB_HAS_REX && p->in->raw.rex.W ? 8 : 4;
}

/* FXSAVE and its family: with REX.W pointers are of 8 bytes, else of 4. */
void pick_sys_state(struct pick *p, unsigned y)
{
	pick_sys_mem(p, y);
	p->op->imm = wide(p);
}

void pick_sys_table(struct pick *p, unsigned y)
{
	pick_sys_mem(p, y);
	if (p->in->operand_width == 16)
		p->op->flags |= OPF_O16;
}

void pick_int(struct pick *p, unsigned arg)
{
	p->op->imm = (u8)p->o[0].imm.value.u;
	pick_sys(p, Y_INT);
}

void pick_iret(struct pick *p, unsigned bytes)
{
	p->op->imm = bytes;
	pick_sys(p, Y_IRET);
}

/* SYSRET, SYSEXIT. */
void pick_sysret(struct pick *p, unsigned y)
{
	p->op->imm = wide(p);
	pick_sys(p, y);
}

void pick_io(struct pick *p, unsigned in)
{
	const ZydisDecodedOperand *port = &p->o[in ? 1 : 0], *val = &p->o[in ? 0 : 1];

	p->op->imm = is_imm(port) ? (u8)port->imm.value.u : -1;
	p->op->src = (u8)(val->size / 8);
	pick_sys(p, in ? Y_IN : Y_OUT);
}

void pick_invpcid(struct pick *p, unsigned arg)
{
	p->op->src = reg_off(p->o[0].reg.value);
	set_mem(p, &p->o[1]);
	pick_sys(p, Y_INVPCID);
}

/* LAR, LSL. */
void pick_lar(struct pick *p, unsigned y)
{
	p->op->src = reg_off(p->o[0].reg.value);
	set_rm(p, &p->o[1]);
	p->op->imm = p->o[0].size / 8;
	pick_sys(p, y);
}

void pick_arpl(struct pick *p, unsigned arg)
{
	set_rm(p, &p->o[0]);
	p->op->src = reg_off(p->o[1].reg.value);
	pick_sys(p, Y_ARPL);
}

/* AAM, AAD. */
void pick_misc_imm(struct pick *p, unsigned m)
{
	p->op->imm = (u8)p->o[0].imm.value.u;
	pick_misc(p, m);
}

void pick_bound(struct pick *p, unsigned arg)
{
	p->op->src = reg_off(p->o[0].reg.value);
	set_mem(p, &p->o[1]);
	p->op->aux = (u8)(p->o[0].size / 8);
	p->op->fn = op_bound;
}

void pick_lxs(struct pick *p, unsigned s)
{
	p->op->src = reg_off(p->o[0].reg.value);
	set_mem(p, &p->o[1]);
	p->op->aux = (u8)(p->o[0].size / 8);
	p->op->imm = s;
	p->op->fn = op_lxs;
	p->ends = true;
}

void pick_clflush(struct pick *p, unsigned arg)
{
	set_mem(p, &p->o[0]);
	p->op->fn = op_clflush;
}

/* STAC, CLAC. */
void pick_ac(struct pick *p, unsigned set)
{
	p->op->fn = set ? op_stac : op_clac;
}

const struct vec_insn *pick_vec_insn(struct pick *p)
{
	const struct vec_insn *d;
	int r = vec_get(p->v->s->vec, p->in, p->o, p->bytes, &d);

	if (r < 0) {
		*p->full |= r != -ENOENT;
		pick_sys(p, Y_UD);
		return NULL;
	}
	for (unsigned j = 0; d->mem_size && j < p->in->operand_count; j++) {
		if (is_mem(&p->o[j])) {
			set_mem(p, &p->o[j]);
			break;
		}
	}
	p->op->ptr = d;
	return d;
}

void pick_vec(struct pick *p)
{
	const struct vec_insn *d = pick_vec_insn(p);

	if (!d)
		return;
	if (d->cls != VEC_SSE)
		p->op->fn = op_vec_x87;
	else if (!(p->op->flags & OPF_MEM))
		p->op->fn = op_vec_reg;
	else
		p->op->fn = d->mem_write ? op_vec_store : op_vec_load;
}
