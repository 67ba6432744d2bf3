// SPDX-License-Identifier: Apache-2.0
/*
 * debug.c - breakpoints and single steps, by the processor's debug registers
 *
 * How it works
 * KVM_SET_GUEST_DEBUG puts our breakpoints into the real debug registers while the guest runs; the
 * guest's own sleep meanwhile. KVM reports an INT3 and an instruction breakpoint before the instruction,
 * data breakpoints and steps behind it.
 *
 * While one vCPU steps the others stay parked: their round does not begin.
 */
#include "cpu/kvm/call.h"
#include "cpu/kvm/kvm_priv.h"

#include <errno.h>

#define DR6_BS BIT(14)
#define VECTOR_BP 3u

/* DR7: L bit of breakpoint i, and its R/W and LEN fields (SDM vol. 3, 17.2.4). */
static int dr7_of(const struct engine_debug *d, u64 *ret)
{
	static const u64 rw[] = {
		[ENGINE_BREAK_EXEC] = 0, [ENGINE_BREAK_WRITE] = 1, [ENGINE_BREAK_ACCESS] = 3
	};
	u64 v = 0x400;

	for (unsigned i = 0; i < d->n; i++) {
		u8 len = d->at[i].len;
		u64 code = len == 1 ? 0 : len == 2 ? 1 : len == 8 ? 2 : 3;

		if ((len != 1 && len != 2 && len != 4 && len != 8) || (d->at[i].addr & (len - 1u)))
			return -EINVAL;
		if (d->at[i].kind == ENGINE_BREAK_EXEC && len != 1)
			return -EINVAL;
		v |= BIT(2 * i) | rw[d->at[i].kind] << (16 + 4 * i) | code << (18 + 4 * i);
	}
	*ret = v;
	return 0;
}

/*
 * Interrupts wait during a step, where KVM can do that (Linux 5.15): host time has passed since the last
 * one, so each step of a kernel would otherwise enter its timer's handler. A halted vCPU needs one.
 */
static u32 quiet_step(struct kvm *k, unsigned cpu)
{
	int can = KVM_CALL(k->sys, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG2);
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_HALTED };

	if (can < 0 || !(can & KVM_GUESTDBG_BLOCKIRQ) ||
	    KVM_CALL(k->cpu[cpu].fd, KVM_GET_MP_STATE, &mp) < 0 ||
	    mp.mp_state == KVM_MP_STATE_HALTED)
		return 0;
	return KVM_GUESTDBG_BLOCKIRQ;
}

int kvm_debug_set(struct kvm *k, const struct engine_debug *d)
{
	u64 dr7 = 0;
	int r;

	if (d->n > ENGINE_BREAKS_MAX || d->n_exec)
		return -ENOSPC;
	if (d->step >= (int)k->cfg.ncpus)
		return -EINVAL;
	r = dr7_of(d, &dr7);
	for (unsigned i = 0; r == 0 && i < k->cfg.ncpus; i++) {
		struct kvm_guest_debug g = { 0 };

		if (d->int3)
			g.control |= KVM_GUESTDBG_USE_SW_BP;
		if (d->n)
			g.control |= KVM_GUESTDBG_USE_HW_BP;
		if (d->step == (int)i)
			g.control |= KVM_GUESTDBG_SINGLESTEP | quiet_step(k, i);
		if (g.control)
			g.control |= KVM_GUESTDBG_ENABLE;
		for (unsigned b = 0; b < d->n; b++)
			g.arch.debugreg[b] = d->at[b].addr;
		g.arch.debugreg[7] = dr7;
		/* State that waits to be given would end the step that this begins: it goes first. */
		if (k->cpu[i].changed) {
			r = kvm_state_set(&k->cpu[i], NULL);
			if (r < 0)
				return r;
			k->cpu[i].changed = k->cpu[i].fresh = false;
		}
		r = KVM_CALL(k->cpu[i].fd, KVM_SET_GUEST_DEBUG, &g);
		k->cpu[i].debug_hit = false; /* of breakpoints that are no more */
	}
	if (r == 0)
		k->debug = *d;
	return r;
}

struct engine_debug_event kvm_debug_decode(const struct kvm_vcpu *v)
{
	const struct engine_debug *d = &v->k->debug;
	struct engine_debug_event ev = { .what = ENGINE_ON_STEP, .cpu = v->index };

	if (v->debug.exception == VECTOR_BP) {
		ev.what = ENGINE_ON_INT3;
		return ev;
	}
	for (unsigned i = 0; i < d->n; i++) {
		if (!(v->debug.dr6 & BIT(i)))
			continue;
		ev.what = ENGINE_ON_BREAK;
		ev.index = i;
		/* Of a step that ends on a breakpoint, the step is news: the break comes again. */
		if (!(v->debug.dr6 & DR6_BS) || d->at[i].kind != ENGINE_BREAK_EXEC)
			return ev;
		ev.what = ENGINE_ON_STEP;
	}
	return ev;
}
