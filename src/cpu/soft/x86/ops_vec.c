/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_vec.c - vector and x87 instructions through their thunks (vec.h)
 */
#include "cpu/soft/x86/ops.h"
#include "cpu/soft/x86/vec.h"

#include <string.h>

/* #UD and #NM as CR0 and CR4 ask for (SDM vol. 3, tables 2-2 and 14-1). */
attr_cold static void check_available(struct vcpu *v, const struct op *op, u8 cls)
{
	const struct x86_cpu *c = &v->c;

	if (cls == VEC_SSE) {
		if ((c->cr0 & CR0_EM) || !(c->cr4 & CR4_OSFXSR))
			raise_ud(v, op);
	} else if (cls == VEC_MMX) {
		if (c->cr0 & CR0_EM)
			raise_ud(v, op);
	}
	if (c->cr0 & (CR0_TS | CR0_EM)) {
		x86_fault(&v->c, X86_NM);
		vcpu_raise(v, op);
	}
}

const struct op *op_vec(struct vcpu *v, const struct op *op)
{
	const struct vec_insn *i = op->ptr;
	void *p = v->bounce;

	if (unlikely(!(i->cls == VEC_SSE ? v->sse_ok : v->x87_ok)))
		check_available(v, op, i->cls);
	if (op->flags & OPF_MEM) {
		u64 a = ea(v, op, i->mem_size, i->mem_write);
		if (unlikely(a & (i->mem_align - 1u)))
			raise_gp0(v, op);
		if (i->mem_write) {
			p = rmw(v, op, a, i->mem_size);
		} else {
			p = tlb_rd(v, a, i->mem_size);
			if (unlikely(!p))
				p = mem_ref(v, op, a, i->mem_size, false);
		}
	}
	if (unlikely(i->fn(&v->c, p)))
		vcpu_raise(v, op);
	if (i->mem_write)
		mem_commit(v, op, p);
	NEXT;
}
