/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_flow.c - the translator: the stack, jumps, calls, and what system calls and task switches need
 */
#include "cpu/soft/x86/jit_priv.h"

#include "cpu/soft/x86/ops.h"

/* T0 holds a new RIP: leaves before the instruction if it is not canonical. */
static void check_canonical(struct tr *t)
{
	struct emit *e = &t->e;

	flags_drop(t);
	emov(e, T1, T0);
	einsn(e, EM_W, 0xc1, 4, er(T1)); /* shl r11, 16 */
	e8(e, 16);
	einsn(e, EM_W, 0xc1, 7, er(T1)); /* sar r11, 16 */
	e8(e, 16);
	einsn(e, EM_W, 0x3b, T1, er(T0));
	leave(t, CC_NE);
}

static void rsp_add(struct tr *t, s32 n)
{
	elea(&t->e, EM_W, G_RSP, G_RSP, -1, 0, n);
}

bool tr_push(struct tr *t, const ZydisDecodedOperand *o)
{
	const struct op *op = &t->b->ops[t->k];
	struct erm m;
	bool high;

	if (op->aux != 8)
		return false;
	if (o[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		m = stack_operand(t, -8, 8, true);
		einsn(&t->e, EM_W, 0xc7, 0, m);
		e32(&t->e, (u32)op->imm);
	} else if (o[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
		if (op->flags & OPF_EASLOW)
			return false;
		eload(&t->e, T0, mem_operand(t, op, 8, 1, false));
		estore(&t->e, VCPU(jit_tmp), T0);
		m = stack_operand(t, -8, 8, true);
		eload(&t->e, T1, VCPU(jit_tmp));
		estore(&t->e, m, T1);
	} else {
		int g = gpr_of(o[0].reg.value, &high);
		if (g < 0 || o[0].size != 64)
			return false;
		m = stack_operand(t, -8, 8, true);
		estore(&t->e, m, use(t, (unsigned)g, T1));
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
	struct erm m = stack_operand(t, 0, 8, false);
	rsp_add(t, 8);
	u8 r = host_of[g] >= 0 ? (u8)host_of[g] : T1;
	eload(&t->e, r, m);
	if (host_of[g] < 0)
		put(t, (unsigned)g, r);
	return true;
}

bool tr_leave(struct tr *t)
{
	if (t->b->ops[t->k].aux != 8)
		return false;
	flags_drop(t);
	emov(&t->e, T0, G_RBP);
	probe(t, 8, false);
	elea(&t->e, EM_W, G_RSP, G_RBP, -1, 0, 8);
	eload(&t->e, G_RBP, em(T0, 0));
	return true;
}

bool tr_jcc(struct tr *t)
{
	branch(t, t->b->ops[t->k].aux & 15);
	t->ended = true;
	return true;
}

static void push_return(struct tr *t)
{
	const struct op *op = &t->b->ops[t->k];

	struct erm m = stack_operand(t, -8, 8, true);
	lin_of(t, T1, op->ip + op->len);
	estore(&t->e, m, T1);
}

bool tr_branch(struct tr *t, bool call)
{
	if (call) {
		/* The target of a near call within 2 GiB of canonical code may not be canonical. */
		push_return(t);
		rsp_add(t, -8);
	}
	edge(t, 0);
	t->ended = true;
	return true;
}

/* To T0. */
static void indirect(struct tr *t)
{
	flags_save(t);
	emit_lookup(&t->e);
	t->ended = true;
}

bool tr_branch_rm(struct tr *t, const ZydisDecodedOperand *o, bool call)
{
	const struct op *op = &t->b->ops[t->k];
	bool high;

	if (o[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
		if (op->flags & OPF_EASLOW)
			return false;
		eload(&t->e, T0, mem_operand(t, op, 8, 1, false));
	} else {
		int g = gpr_of(o[0].reg.value, &high);
		flags_drop(t);
		u8 s = use(t, (unsigned)g, T0);
		emov(&t->e, T0, s);
	}
	check_canonical(t);
	if (call) {
		estore(&t->e, VCPU(jit_tmp), T0);
		push_return(t);
		rsp_add(t, -8);
		eload(&t->e, T0, VCPU(jit_tmp));
	}
	indirect(t);
	return true;
}

bool tr_ret(struct tr *t)
{
	const struct op *op = &t->b->ops[t->k];

	if (block_fn(t->b, t->k) != op_ret)
		return false;
	eload(&t->e, T0, stack_operand(t, 0, 8, false));
	check_canonical(t);
	rsp_add(t, 8 + (s32)op->imm);
	indirect(t);
	return true;
}

/* --- flags and interrupts ---------------------------------------------------------------- */

bool tr_pushf(struct tr *t)
{
	struct emit *e = &t->e;

	if (t->b->ops[t->k].aux != 8)
		return false;
	flags_save(t);
	struct erm m = stack_operand(t, -8, 8, true);
	einsn(e, 0, 0x8b, T1, FLAGS_SLOT);
	einsn(e, 0, 0x81, 4, er(T1));
	e32(e, X86_ARITH);
	einsn(e, EM_W, 0x0b, T1, VCPU(c.rflags));
	einsn(e, 0, 0x81, 4, er(T1));
	e32(e, ~(X86_RF | X86_VM));
	estore(e, m, T1);
	rsp_add(t, -8);
	t->fl = FL_MEM;
	return true;
}

/* Leaves unless in kernel mode. */
static void need_kernel(struct tr *t)
{
	flags_drop(t);
	einsn(&t->e, 0, 0x80, 7, VCPU(c.cpl));
	e8(&t->e, 0);
	leave(t, CC_NE);
}

bool tr_cli(struct tr *t)
{
	need_kernel(t);
	einsn(&t->e, EM_W, 0x81, 4, VCPU(c.rflags));
	e32(&t->e, ~X86_IF);
	return true;
}

/* As the interpreter's; if an interrupt waits already, it is the interpreter's. */
bool tr_sti(struct tr *t)
{
	struct emit *e = &t->e;

	need_kernel(t);
	einsn(e, 0, 0x80, 7, VCPU(attn));
	e8(e, 0);
	leave(t, CC_NE);
	einsn(e, 0, 0xf7, 0, VCPU(c.rflags)); /* test */
	e32(e, X86_IF);
	u32 set = ejcc(e, CC_NE);
	einsn(e, EM_W, 0x81, 1, VCPU(c.rflags));
	e32(e, X86_IF);
	eload(e, T1, VCPU(total)); /* vcpu_count, as nothing of the block is left */
	einsn(e, EM_W, 0x03, T1, VCPU(start));
	einsn(e, EM_W, 0x2b, T1, er(BUDGET));
	elea(e, EM_W, T1, T1, -1, 0, -(s32)t->held);
	estore(e, VCPU(sti_at), T1);
	ehere(e, set);
	return true;
}

/* --- segments ---------------------------------------------------------------------------- */

static struct erm seg_field(unsigned seg, size_t field)
{
	return em(VC, (s32)(offsetof(struct vcpu, c.seg) + seg * sizeof(struct x86_seg) + field));
}

/* T0 becomes the base of @seg: where instructions of 64-bit code find it, and in the register. */
static void set_base(struct tr *t, unsigned seg)
{
	estore(&t->e, seg_field(seg, offsetof(struct x86_seg, base)), T0);
	estore(&t->e, em(VC, (s32)(offsetof(struct vcpu, c.segbase) + seg * 8u)), T0);
}

bool tr_mov_from_seg(struct tr *t, const ZydisDecodedOperand *o)
{
	struct emit *e = &t->e;
	bool high;

	if (o[0].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	int g = gpr_of(o[0].reg.value, &high);
	einsn(e, EM_0F, 0xb7, T1, /* movzx r11d, ... */
	      seg_field((unsigned)t->b->ops[t->k].imm, offsetof(struct x86_seg, sel)));
	if (o[0].size == 16)
		einsn(e, EM_66, 0x89, T1, host_of[g] < 0 ? greg((unsigned)g) : er((u8)host_of[g]));
	else
		put(t, (unsigned)g, T1);
	return true;
}

/* RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE. */
bool tr_base(struct tr *t, const ZydisDecodedOperand *o, unsigned seg, bool write)
{
	struct emit *e = &t->e;
	unsigned wide = o[0].size == 64 ? EM_W : 0;
	bool high;
	int g = gpr_of(o[0].reg.value, &high);

	flags_drop(t);
	einsn(e, 0, 0xf7, 0, VCPU(c.cr4)); /* test */
	e32(e, CR4_FSGSBASE);
	leave(t, CC_E);
	if (!write) {
		einsn(e, wide, 0x8b, T1, seg_field(seg, offsetof(struct x86_seg, base)));
		put(t, (unsigned)g, T1);
		return true;
	}
	einsn(e, wide, 0x8b, T0, er(use(t, (unsigned)g, T0)));
	if (wide)
		check_canonical(t);
	set_base(t, seg);
	return true;
}

bool tr_swapgs(struct tr *t)
{
	struct emit *e = &t->e;

	need_kernel(t);
	eload(e, T0, VCPU(c.kernel_gs_base));
	eload(e, T1, seg_field(X86_GS, offsetof(struct x86_seg, base)));
	estore(e, VCPU(c.kernel_gs_base), T1);
	set_base(t, X86_GS);
	return true;
}
