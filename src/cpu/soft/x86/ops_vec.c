/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_vec.c - vector and x87 instructions through their thunks (vec.h)
 *
 * How it works
 * Order of checks, as processors have it: #UD and #NM by CR0 and CR4; a pending x87 exception
 * (#MF); then the memory operand. SSE instructions have a handler each for registers, loads and
 * stores; the rest are rare enough for one.
 *
 * An x87 store that meets an unmasked exception does not store and does not even touch its operand:
 * no page fault, only the exception flags, reported by the next waiting instruction (SDM vol. 1,
 * 8.7). Whether it will is asked from the host's own instruction, with a scratch operand.
 */
#include "cpu/soft/x86/ops.h"
#include "cpu/soft/x86/vec.h"

#include <string.h>

#define FCW_MASKS 0x3fu /* all six exceptions masked */

/* #UD and #NM as CR0 and CR4 ask for (SDM vol. 3, tables 2-2 and 14-1). */
attr_cold attr_noinline static void check_available(struct vcpu *v, const struct op *op, u8 cls)
{
	const struct x86_cpu *c = &v->c;
	u64 nm = CR0_TS | CR0_EM;

	if (cls == VEC_SSE) {
		if ((c->cr0 & CR0_EM) || !(c->cr4 & CR4_OSFXSR))
			raise_ud(v, op);
	} else if (cls == VEC_MMX) {
		if (c->cr0 & CR0_EM)
			raise_ud(v, op);
	} else if (cls == VEC_FWAIT) {
		nm = c->cr0 & CR0_MP ? CR0_TS : 0;
	}
	if (c->cr0 & nm) {
		x86_fault(&v->c, X86_NM);
		vcpu_raise(v, op);
	}
}

attr_cold attr_noinline attr_noreturn static void raise_mf(struct vcpu *v, const struct op *op)
{
	x86_fault(&v->c, X86_MF);
	vcpu_raise(v, op);
}

/* --- SSE -------------------------------------------------------------------------------------- */

const struct op *op_vec_reg(struct vcpu *v, const struct op *op)
{
	const struct vec_insn *i = op->ptr;

	if (unlikely(!v->sse_ok))
		check_available(v, op, VEC_SSE);
	if (unlikely(i->fn(&v->c, v->bounce)))
		vcpu_raise(v, op);
	NEXT;
}

const struct op *op_vec_load(struct vcpu *v, const struct op *op)
{
	if (unlikely(!v->sse_ok))
		check_available(v, op, VEC_SSE);
	vec_load(v, op);
	NEXT;
}

const struct op *op_vec_store(struct vcpu *v, const struct op *op)
{
	if (unlikely(!v->sse_ok))
		check_available(v, op, VEC_SSE);
	vec_store(v, op);
	NEXT;
}

/* --- x87 and MMX ------------------------------------------------------------------------------ */

/* Runs the store @i onto scratch bytes that all hold @fill; true if any changed. */
static bool try_store(struct vcpu *v, const struct vec_insn *i, u8 fill)
{
	memset(v->bounce, fill, i->mem_size);
	BUG_IF(i->fn(&v->c, v->bounce)); /* pending exceptions were looked for before */
	for (unsigned k = 0; k < i->mem_size; k++)
		if (v->bounce[k] != fill)
			return true;
	return false;
}

/*
 * Whether the x87 store @i would reach memory. If so nothing has changed; if not it has been
 * executed, and its exception is pending.
 */
attr_cold attr_noinline static bool x87_would_store(struct vcpu *v, const struct vec_insn *i)
{
	struct x86_xstate before = v->c.x;
	bool stores = try_store(v, i, 0x5a);

	if (!stores) { /* or the value looks like the scratch bytes */
		v->c.x = before;
		stores = try_store(v, i, 0xa5);
	}
	if (stores)
		v->c.x = before;
	return stores;
}

/*
 * A 10-byte store is one of 8 bytes and one of 2: where they lie on two pages, the first stays done
 * when the second faults (SDM vol. 3, 8.1.1 allows it; processors do it).
 */
attr_cold static void x87_split_store(struct vcpu *v, const struct op *op, const struct vec_insn *i,
				      u64 a)
{
	struct x86_xstate before = v->c.x, after;
	u64 lo;
	u16 hi;

	memset(v->bounce, 0, 10);
	BUG_IF(i->fn(&v->c, v->bounce));
	memcpy(&lo, v->bounce, 8);
	memcpy(&hi, v->bounce + 8, 2);
	after = v->c.x;
	v->c.x = before;
	st_u64(v, op, a, lo);
	st_u16(v, op, lin_add(v, a, 8), hi);
	v->c.x = after;
}

const struct op *op_vec_x87(struct vcpu *v, const struct op *op)
{
	const struct vec_insn *i = op->ptr;
	const struct x86_xstate *x = &v->c.x;
	void *p = v->bounce;

	if (unlikely(!v->x87_ok))
		check_available(v, op, i->cls);
	if (unlikely(x->fsw & ~x->fcw & FCW_MASKS) && i->cls != VEC_X87_NOWAIT)
		raise_mf(v, op);
	if (op->flags & OPF_MEM) {
		if (unlikely((x->fcw & FCW_MASKS) != FCW_MASKS) && i->mem_write &&
		    i->cls == VEC_X87 && !x87_would_store(v, i))
			NEXT;
		u64 a = ea(v, op, i->mem_size, i->mem_write);
		if (unlikely(a & (i->mem_align - 1u))) /* CVTPS2PI and its like */
			raise_gp0(v, op);
		if (i->mem_write && i->mem_size == 10 && unlikely((a & 0xfff) > 0xff6)) {
			x87_split_store(v, op, i, a);
			NEXT;
		}
		p = i->mem_write ? rmw(v, op, a, i->mem_size)
				 : mem_ref(v, op, a, i->mem_size, false);
	}
	if (unlikely(i->fn(&v->c, p)))
		vcpu_raise(v, op);
	if (i->mem_write)
		mem_commit(v, op, p);
	NEXT;
}
