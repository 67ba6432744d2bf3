// SPDX-License-Identifier: Apache-2.0
/*
 * hold.c - a VM with a vCPU that never runs, for as long as the outer guest lives
 *
 * How it works
 * Linux patches its own code when the first VM is made and when the last one is gone (preempt
 * notifiers), and when a vCPU's APIC is switched on: __schedule and KVM's hot paths have static keys
 * for that. Where the outer guest has two CPUs, QEMU 7.2's threads may run such an instruction while it
 * is being changed: then the breakpoint that stands there meanwhile is met by a CPU that no longer
 * finds it in the kernel's list, and the outer kernel panics. While one such VM exists nothing needs
 * to be patched.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(void)
{
	int sys = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = sys < 0 ? -1 : ioctl(sys, KVM_CREATE_VM, 0);

	if (vm < 0 || ioctl(vm, KVM_CREATE_IRQCHIP, 0) < 0 || ioctl(vm, KVM_CREATE_VCPU, 0) < 0) {
		perror("nested: the VM that is only held");
		return 1;
	}
	if (daemon(0, 0) < 0)
		return 1;
	for (;;)
		pause();
}
