// SPDX-License-Identifier: Apache-2.0
/*
 * xsetbv.c - what QEMU's emulation of SVM forgets, put right for the monitors that run on it
 *
 * How it works
 * QEMU's TCG (7.2 at least) does not intercept XSETBV although the VMCB asks for it (AMD manual volume
 * 2, 15.9: "XSETBV" among the intercepts of word 4). So a guest's XSETBV takes effect, but KVM never hears
 * of it, and puts its own value, that of reset, back at the next entry: XCR0 is 1 in a guest that has
 * set 3. Programs in the guest then die when a signal handler returns. QEMU as a monitor has the same trouble.
 *
 * This library is preloaded into monitors. When one tells KVM a vCPU's CPUID, it tells KVM that XCR0 is
 * already what Linux will set: all that CPUID leaf 13 offers and Linux knows. The guest sees that before
 * its own XSETBV only if it looks. What is lost is that XSETBV itself is not tested.
 */
#include <dlfcn.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <sys/ioctl.h>

/* x87, SSE, AVX, the three of AVX-512, PKRU: without MPX, which Linux no longer enables. */
#define LINUX_ENABLES 0x2e7u
#define AT_RESET 1u

static int real_ioctl(int fd, unsigned long request, void *arg)
{
	static int (*real)(int, unsigned long, ...);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "ioctl");
	return real(fd, request, arg);
}

static unsigned offered(const struct kvm_cpuid2 *c)
{
	for (unsigned i = 0; i < c->nent; i++)
		if (c->entries[i].function == 13 && c->entries[i].index == 0)
			return c->entries[i].eax & LINUX_ENABLES;
	return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
	static unsigned xcr0; /* all vCPUs of a VM have the same */
	va_list va;
	va_start(va, request);
	void *arg = va_arg(va, void *);
	va_end(va);

	if (request == KVM_SET_XCRS && xcr0) {
		struct kvm_xcrs x = *(const struct kvm_xcrs *)arg;

		for (unsigned i = 0; i < x.nr_xcrs && i < KVM_MAX_XCRS; i++)
			if (x.xcrs[i].xcr == 0 && x.xcrs[i].value == AT_RESET)
				x.xcrs[i].value = xcr0;
		return real_ioctl(fd, request, &x);
	}
	int r = real_ioctl(fd, request, arg);

	if (request == KVM_SET_CPUID2 && r == 0 && (xcr0 = offered(arg)) != 0) {
		struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs[0] = { .value = xcr0 } };

		/* One that KVM refuses is no worse than none. */
		real_ioctl(fd, KVM_SET_XCRS, &x);
	}
	return r;
}
