// SPDX-License-Identifier: Apache-2.0
/*
 * clock.c - the guest's time under KVM: the host's, less what the guest was not run
 *
 * How it works
 * Three clocks must agree that no time passed while the machine stood: gclock, which devices see; the
 * kernel's kvmclock; and each vCPU's TSC, whose offset is moved back by what vCPU 0's had gained (the
 * offset, because a written TSC value would differ a little on each vCPU, and guests call that
 * unstable). A TSC deadline is armed anew, since its host timer was computed from the old offset. A
 * one-shot or periodic APIC timer of the older kind may expire early by the pause; its host timer has no
 * such handle, and a guest that reads a clock then finds nothing due.
 *
 * Kernels before 5.16 have no offset to move: there the TSC goes on during a pause, and the guest is told
 * through kvmclock that it was paused, so that its watchdogs stay quiet.
 */
#include "base/hosttime.h"
#include "cpu/kvm/call.h"
#include "cpu/kvm/kvm_priv.h"

#include <errno.h>
#include <unistd.h>

#define MSR_TSC 0x10u
#define MSR_TSC_DEADLINE 0x6e0u

u64 kvm_now(void *o)
{
	struct kvm *k = o;

	if (!atomic_load(&k->running))
		return atomic_load(&k->stood);
	return host_ns() - atomic_load(&k->base);
}

/* A timer is due before the VM's thread wakes by itself. Under the device lock, as all of gclock. */
static void on_sooner(void *o, u64 ns)
{
	struct kvm *k = o;
	u64 one = 1;

	if (ns >= k->waits_until)
		return;
	k->waits_until = ns;
	/* The one descriptor serves kicks too; without `kicked` no poll follows. */
	(void)!write(k->wake_fd, &one, sizeof(one));
}

static int attr(struct kvm_vcpu *v, const char *name, unsigned long request, u64 *val)
{
	struct kvm_device_attr a = { .group = KVM_VCPU_TSC_CTRL,
				     .attr = KVM_VCPU_TSC_OFFSET,
				     .addr = (uintptr_t)val };

	return kvm_call(v->fd, name, request, (unsigned long)&a);
}

int kvm_clock_init(struct kvm *k, struct err *e)
{
	u64 unused = 0;
	int r;

	gclock_init(&k->clk, kvm_now, on_sooner, k);
	r = KVM_TRY(e, k->cpu[0].fd, KVM_GET_TSC_KHZ, 0);
	if (r < 0)
		return r;
	k->tsc_khz = (u32)r;
	k->tsc_offset = attr(&k->cpu[0], "KVM_HAS_DEVICE_ATTR", KVM_HAS_DEVICE_ATTR, &unused) == 0;
	return 0;
}

static int one_msr(struct kvm_vcpu *v, bool set, u32 index, u64 *val, struct err *e)
{
	struct {
		struct kvm_msrs h;
		struct kvm_msr_entry e;
	} m = { .h = { .nmsrs = 1 }, .e = { .index = index, .data = *val } };
	int r = set ? KVM_TRY(e, v->fd, KVM_SET_MSRS, &m) : KVM_TRY(e, v->fd, KVM_GET_MSRS, &m);

	if (r < 0)
		return r;
	if (r != 1)
		return err_set(e, -EIO, "KVM has no MSR 0x%x", index);
	*val = m.e.data;
	return 0;
}

/* The TSC of @v as if @gained ticks had not passed. */
static int set_back(struct kvm_vcpu *v, u64 gained, struct err *e)
{
	u64 val = 0;
	int r = attr(v, "KVM_GET_DEVICE_ATTR", KVM_GET_DEVICE_ATTR, &val);

	if (r == 0) {
		val -= gained;
		r = attr(v, "KVM_SET_DEVICE_ATTR", KVM_SET_DEVICE_ATTR, &val);
	}
	if (r < 0)
		return err_sys(e, r, "KVM cannot move a TSC offset");
	val = 0;
	r = one_msr(v, false, MSR_TSC_DEADLINE, &val, e);
	if (r == 0 && val)
		r = one_msr(v, true, MSR_TSC_DEADLINE, &val, e);
	return r;
}

int kvm_clock_go(struct kvm *k, struct err *e)
{
	struct kvm_clock_data kc = { .clock = k->kvmclock.clock };
	u64 tsc = 0;
	int r = 0;

	if (k->ran) {
		r = KVM_TRY(e, k->vm, KVM_SET_CLOCK, &kc);
		if (r == 0 && k->tsc_offset)
			r = one_msr(&k->cpu[0], false, MSR_TSC, &tsc, e);
		for (unsigned i = 0; r == 0 && i < k->cfg.ncpus; i++) {
			if (k->tsc_offset)
				r = set_back(&k->cpu[i], tsc - k->stood_tsc, e);
			else /* fails where the guest has no kvmclock: nobody to tell */
				(void)KVM_CALL(k->cpu[i].fd, KVM_KVMCLOCK_CTRL, 0);
		}
	}
	if (r < 0)
		return r;
	k->ran = true;
	atomic_store(&k->base, host_ns() - atomic_load(&k->stood));
	atomic_store(&k->running, true);
	return 0;
}

int kvm_clock_stand(struct kvm *k, struct err *e)
{
	int r = KVM_TRY(e, k->vm, KVM_GET_CLOCK, &k->kvmclock);

	atomic_store(&k->stood, host_ns() - atomic_load(&k->base));
	atomic_store(&k->running, false);
	if (r == 0 && k->tsc_offset)
		r = one_msr(&k->cpu[0], false, MSR_TSC, &k->stood_tsc, e);
	return r;
}
