// SPDX-License-Identifier: Apache-2.0
/*
 * caps.c - what the engine needs of the host's KVM
 *
 * The kernel's Documentation/virt/kvm/api.rst says what each is. All are in any Linux since 4.12
 * on hardware; an emulated KVM may lack some, and then a clear word beats a strange failure.
 */
#include "cpu/kvm/caps.h"

#include "cpu/kvm/call.h"

#include <errno.h>
#include <linux/kvm.h>
#include <unistd.h>

#define CREATE_TRIES 5

#define CAP(name)                                                                                  \
	{                                                                                          \
#name, KVM_CAP_##name                                                              \
	}
static const struct {
	const char *name;
	int cap;
} needed[] = {
	CAP(USER_MEMORY),
	CAP(IRQCHIP),
	CAP(SPLIT_IRQCHIP),
	CAP(X2APIC_API),
	CAP(IRQ_ROUTING),
	CAP(SIGNAL_MSI),
	CAP(IOEVENTFD),
	CAP(SET_TSS_ADDR),
	CAP(SET_IDENTITY_MAP_ADDR),
	CAP(MP_STATE),
	CAP(VCPU_EVENTS),
	CAP(DEBUGREGS),
	CAP(XSAVE),
	CAP(XCRS),
	CAP(EXT_CPUID),
	CAP(ADJUST_CLOCK),
	CAP(GET_TSC_KHZ),
	CAP(TSC_DEADLINE_TIMER),
	CAP(IMMEDIATE_EXIT),
	CAP(SET_GUEST_DEBUG),
};
#undef CAP

int kvm_caps_check(int fd, struct err *e)
{
	int r = KVM_TRY(e, fd, KVM_GET_API_VERSION, 0);

	if (r < 0)
		return r;
	if (r != KVM_API_VERSION)
		return err_set(e, -ENOTSUP, "/dev/kvm speaks version %d of its interface, not %d",
			       r, KVM_API_VERSION);
	for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
		r = KVM_TRY(e, fd, KVM_CHECK_EXTENSION, needed[i].cap);
		if (r < 0)
			return r;
		if (!r)
			return err_set(e, -ENOTSUP, "this host's KVM lacks KVM_CAP_%s",
				       needed[i].name);
	}
	return 0;
}

int kvm_create_vm(int fd, struct err *e)
{
	int r = -EINTR;

	/* A signal that is due may interrupt it again and again; it needs time to be delivered. */
	for (unsigned i = 0; i < CREATE_TRIES && r == -EINTR; i++) {
		if (i)
			usleep(1u << i);
		r = KVM_TRY(e, fd, KVM_CREATE_VM, 0);
	}
	return r;
}
