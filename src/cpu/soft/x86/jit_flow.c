/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_flow.c - the translator: the stack, jumps, calls
 */
#include "cpu/soft/x86/jit_priv.h"

#include "cpu/soft/x86/ops.h"

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

bool tr_push(struct tr *t, const ZydisDecodedOperand *o)
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
		estore(&t->e, VCPU(jit_tmp), T0);
		stack_slot(t, -8, true);
		eload(&t->e, T1, VCPU(jit_tmp));
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

bool tr_pop(struct tr *t, const ZydisDecodedOperand *o)
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

bool tr_leave(struct tr *t)
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

bool tr_jcc(struct tr *t)
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
	eload(&t->e, T1, VCPU(c.rip));
	elea(&t->e, EM_W, T1, T1, -1, 0, op->ip + op->len);
	estore(&t->e, em(T0, 0), T1);
}

bool tr_branch(struct tr *t, bool call)
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

bool tr_branch_rm(struct tr *t, const ZydisDecodedOperand *o, bool call)
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
		estore(&t->e, VCPU(jit_tmp), T0);
		push_return(t);
		rsp_add(t, -8);
		eload(&t->e, T0, VCPU(jit_tmp));
	}
	estore(&t->e, VCPU(c.rip), T0);
	lookup(t);
	t->ended = true;
	return true;
}

bool tr_ret(struct tr *t)
{
	const struct op *op = &t->b->ops[t->k];

	if (handler(t) != op_ret)
		return false;
	stack_slot(t, 0, false);
	eload(&t->e, T0, em(T0, 0));
	check_canonical(t);
	rsp_add(t, 8 + (s32)op->imm);
	estore(&t->e, VCPU(c.rip), T0);
	lookup(t);
	t->ended = true;
	return true;
}
