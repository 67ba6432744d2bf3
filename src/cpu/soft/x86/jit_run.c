/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_run.c - the translator: runs of accesses beside each other, with one TLB probe for all
 *
 * How it works
 *
 * Code often touches several places at small distances from one register: saves registers on the
 * stack, copies a structure, spills. A run is a piece of a block with such accesses, in which the
 * register changes by known constants only and T0 is left alone. One probe covers the whole range;
 * T0 then points at its lowest byte until the run ends.
 *
 * If the probe fails although single accesses might do (the range touches two pages), the run's
 * other version is taken, out of line, where every access has a probe of its own. If an access can
 * not be made at all, that version leaves at the right instruction.
 *
 * A probe for writing where the first access only reads sets the page's D bit early. Nobody can see
 * that, if nothing between the two can leave host code: so budget checks, alignment checks and the
 * like end such a run.
 */
#include "cpu/soft/x86/jit_priv.h"

#include "cpu/soft/x86/ops.h"
#include "cpu/soft/x86/vec.h"

#define SPAN_MAX 256
#define DISP_MAX (1 << 29) /* so that sums and differences of displacements fit */

/* What an instruction does to memory at [base + disp], and to base. */
struct access {
	bool some, write, checks; /* touches memory; writes it; may leave for another reason */
	bool ends;		  /* nothing can follow */
	int base;		  /* guest register, or -1: any (no access, nothing changed) */
	s32 disp;
	u32 n;
	s32 step; /* what is added to base */
	u8 align;
};

static const struct insn *insn_at(const struct tr *t, unsigned k)
{
	return &t->m[t->cur].insn[k];
}

static bool in_host(ZydisRegister r)
{
	bool high;
	int g = gpr_of(r, &high);

	return g >= 0 && host_of[g] >= 0;
}

static bool stack_access(const struct tr *t, unsigned k, op_fn fn, struct access *a)
{
	const struct insn *x = insn_at(t, k);
	const struct op *op = &t->b->ops[k];
	bool reg = x->o[0].type == ZYDIS_OPERAND_TYPE_REGISTER && x->o[0].size == 64;
	bool high;

	*a = (struct access){ .some = true, .base = X86_RSP, .n = 8 };
	switch (x->in.mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
		a->write = true;
		a->disp = a->step = -8;
		return op->aux == 8 && (reg || x->o[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) &&
		       (!reg || gpr_of(x->o[0].reg.value, &high) >= 0);
	case ZYDIS_MNEMONIC_POP:
		a->step = 8;
		return reg && gpr_of(x->o[0].reg.value, &high) >= 0 &&
		       x->o[0].reg.value != ZYDIS_REGISTER_RSP;
	case ZYDIS_MNEMONIC_CALL:
		a->write = a->ends = true;
		a->disp = a->step = -8;
		return fn == op_call;
	case ZYDIS_MNEMONIC_RET:
		a->ends = true;
		return fn == op_ret;
	default:
		return false;
	}
}

static const ZydisDecodedOperand *mem_of(const struct insn *x)
{
	const ZydisDecodedOperand *rm = encoded_in(&x->in, x->o, ZYDIS_OPERAND_ENCODING_MODRM_RM);

	return rm && rm->type == ZYDIS_OPERAND_TYPE_MEMORY ? rm : NULL;
}

/* BT and its like with a register reach beyond their operand. */
static bool strings_bits(const struct insn *x)
{
	return x->in.meta.category == ZYDIS_CATEGORY_BITBYTE &&
	       x->o[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
}

/* Of a plain memory operand. */
static bool mem_access(const struct tr *t, unsigned k, op_fn fn, struct access *a)
{
	const struct insn *x = insn_at(t, k);
	const struct op *op = &t->b->ops[k];
	const ZydisDecodedOperand *m = mem_of(x);

	if (!m || x->in.mnemonic == ZYDIS_MNEMONIC_LEA || op->index != X86_ZERO ||
	    op->base >= X86_GPRS || op->seg != X86_SEGS || (op->flags & OPF_EASLOW) ||
	    op->disp < -DISP_MAX || op->disp > DISP_MAX)
		return false;
	*a = (struct access){ .some = true, .base = op->base, .disp = op->disp };
	if (fn == op_vec_reg || fn == op_vec_load || fn == op_vec_store || fn == op_vec_x87 ||
	    fn == op_avx_load || fn == op_avx_store) {
		const struct vec_insn *vi = op->ptr;
		a->n = vi->mem_size;
		a->write = vi->mem_write;
		a->align = vi->mem_align;
		a->checks = vi->mem_align > 1 || x->in.mnemonic == ZYDIS_MNEMONIC_LDMXCSR ||
			    x->in.mnemonic == ZYDIS_MNEMONIC_VLDMXCSR ||
			    x->in.mnemonic == ZYDIS_MNEMONIC_FLDCW;
		return true;
	}
	a->n = m->size / 8u;
	a->align = (u8)alignment_of(&x->in);
	a->checks = a->align > 1;
	a->write = (m->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
	return (moves_data(&x->in) && !strings_bits(x)) || x->in.mnemonic == ZYDIS_MNEMONIC_XCHG;
}

/* Adds a constant to a register: which, in a->base. */
static bool adds_constant(const struct insn *x, struct access *a)
{
	bool high;

	if (x->o[0].type != ZYDIS_OPERAND_TYPE_REGISTER || x->o[0].size != 64)
		return false;
	*a = (struct access){ .base = gpr_of(x->o[0].reg.value, &high) };
	if (a->base < 0 || host_of[a->base] < 0 || x->o[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
		return false;
	s64 n = x->o[1].imm.value.s;
	if (n < -SPAN_MAX || n > SPAN_MAX)
		return false;
	a->step = (s32)(x->in.mnemonic == ZYDIS_MNEMONIC_SUB ? -n : n);
	return x->in.mnemonic == ZYDIS_MNEMONIC_ADD || x->in.mnemonic == ZYDIS_MNEMONIC_SUB;
}

/* Leaves memory, T0 and the ways out alone. */
static bool harmless(const struct tr *t, const struct insn *x, op_fn fn)
{
	if (x->exits || mem_of(x))
		return false;
	if (fn == op_misc || fn == op_vec_x87)
		return true;
	for (unsigned i = 0; i < x->in.operand_count_visible; i++) {
		const ZydisDecodedOperand *o = &x->o[i];
		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && !is_vector(o) &&
		    !in_host(o->reg.value) && !keeps_t0(x))
			return false;
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && /* LEA */
		    ((o->mem.base != ZYDIS_REGISTER_NONE && !in_host(o->mem.base)) ||
		     (o->mem.index != ZYDIS_REGISTER_NONE && !in_host(o->mem.index))))
			return false;
	}
	if (fn == op_vec_reg || x->in.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		return true;
	return x->in.mnemonic == ZYDIS_MNEMONIC_LEA
		       ? x->o[0].size >= 32
		       : moves_data(&x->in) || fx_of(&x->in, x->o) != FX_NONE;
}

/* False: a run cannot go on with instruction @k. */
static bool access_of(const struct tr *t, unsigned k, struct access *a)
{
	const struct insn *x = insn_at(t, k);
	op_fn fn = block_fn(t->b, k);

	if (x->refused || x->in.meta.category == ZYDIS_CATEGORY_COND_BR)
		return false;
	if (stack_access(t, k, fn, a) || mem_access(t, k, fn, a) || adds_constant(x, a))
		return true;
	*a = (struct access){ .base = -1 };
	return harmless(t, x, fn);
}

/* A run that begins with instruction k, if there is one worth it. */
bool run_plan(struct tr *t, struct run *ret)
{
	struct access a;
	struct run r = { .from = t->k };
	s32 lo, hi, delta = 0;
	unsigned n = 1;
	bool mixed = false, write, checks;
	s32 first;
	u8 align;

	if (!access_of(t, t->k, &a) || !a.some || a.ends ||
	    (!a.step && insn_at(t, t->k)->writes & (1u << a.base)))
		return false;
	r.base = (u8)a.base;
	lo = a.disp;
	hi = a.disp + (s32)a.n;
	write = a.write;
	checks = a.checks;
	align = a.align;
	first = a.disp;
	delta = a.step;
	for (unsigned k = t->k + 1; k < t->b->n; k++) {
		if (!access_of(t, k, &a))
			break;
		bool leaves = a.checks || (int)k == t->m[t->cur].check;
		if (!a.some) {
			if (mixed && leaves)
				break;
			checks |= leaves;
			if (a.base == r.base)
				delta += a.step;
			else if (insn_at(t, k)->writes & (1u << r.base))
				break;
			continue;
		}
		s32 from = MIN(lo, delta + a.disp);
		s32 to = MAX(hi, delta + a.disp + (s32)a.n);
		if (a.base != r.base || to - from > SPAN_MAX)
			break;
		bool mixes = mixed || (a.write && !write);
		if (mixes && (checks || leaves))
			break;
		mixed = mixes;
		checks |= leaves;
		write |= a.write;
		lo = from;
		hi = to;
		delta += a.step;
		r.to = k;
		n++;
		if (a.ends || (insn_at(t, k)->writes & (1u << r.base) && !a.step))
			break;
	}
	if (n < 2)
		return false;
	r.align = align;
	r.first = first;
	r.lo = lo;
	r.span = (u32)(hi - lo);
	r.write = write;
	*ret = r;
	return true;
}

/* Instruction k is done: what it added to the base. */
void run_step(struct tr *t)
{
	struct access a;

	if (access_of(t, t->k, &a) && a.base == t->run.base)
		t->run.delta += a.step;
}
