// SPDX-License-Identifier: Apache-2.0
/*
 * halt.c - whether a guest is halted for good
 *
 * How it works
 * The kernel has the local APICs, so KVM_RUN of a halted vCPU comes back when something wakes it, or never. A
 * vCPU that is halted with interrupts off is woken by NMI, INIT and SIPI only, of which the boards have
 * two senders: another vCPU, and a pin of the I/O APIC that is programmed for it. (LINT1 is wired to
 * nothing, there are no performance counters, and the APIC's timer sends fixed interrupts.) So if all are
 * halted like that or wait for their start, and no pin is anything but an ordinary interrupt, nothing will
 * ever happen again.
 *
 * It is looked for where it costs nobody anything (run.c), and with all vCPUs parked: of one that runs, its
 * state is not known, and KVM_GET_MP_STATE would wait for it. With interrupts on nothing is said: whether a
 * timer of a local APIC is due is the kernel's knowledge.
 */
#include "cpu/kvm/call.h"
#include "cpu/kvm/kvm_priv.h"
#include "isa/x86/state.h"

/* Delivery mode of a message's data (SDM vol. 3, 10.11.2). */
#define DELIVERY(data) ((data) >> 8 & 7)
#define LOWEST_PRIORITY 1u

static bool pins_are_ordinary(const struct kvm *k)
{
	for (unsigned i = 0; i < k->cfg.pins; i++)
		if (DELIVERY(k->route[i].data) > LOWEST_PRIORITY)
			return false;
	return true;
}

static bool halted_for_good(const struct kvm_vcpu *v)
{
	struct kvm_vcpu_events ev = { 0 };
	struct kvm_mp_state mp;
	struct kvm_regs g;

	/* An INIT or SIPI that is on its way is acted on by this call. */
	if (KVM_CALL(v->fd, KVM_GET_MP_STATE, &mp) < 0)
		return false;
	if (mp.mp_state == KVM_MP_STATE_UNINITIALIZED || mp.mp_state == KVM_MP_STATE_INIT_RECEIVED)
		return true;
	if (mp.mp_state != KVM_MP_STATE_HALTED || KVM_CALL(v->fd, KVM_GET_REGS, &g) < 0 ||
	    (g.rflags & X86_IF) || KVM_CALL(v->fd, KVM_GET_VCPU_EVENTS, &ev) < 0)
		return false;
	return !ev.nmi.pending && !ev.nmi.injected && !ev.smi.pending;
}

bool kvm_halted_for_good(const struct kvm *k)
{
	if (!pins_are_ordinary(k))
		return false;
	for (unsigned i = 0; i < k->cfg.ncpus; i++)
		if (!halted_for_good(&k->cpu[i]))
			return false;
	return true;
}
