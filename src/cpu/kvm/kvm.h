/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm.h - the host's KVM as an engine: a thread for each vCPU, local APICs in the kernel
 */
#ifndef ORR_CPU_KVM_KVM_H
#define ORR_CPU_KVM_KVM_H

#include "base/err.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "cpu/engine.h"
#include "mem/mem.h"

#include "isa/x86/state.h"

struct kvm;

#define KVM_CPUS_MAX 4096u
#define KVM_PINS_MAX 96u /* of I/O APICs: what the kernel keeps routes for */

struct kvm_cfg {
	unsigned ncpus;
	const u32 *apic_ids; /* ncpus distinct ids; copied */
	bool start_x2apic;   /* as firmware leaves it on a machine with ids above 254 */
	struct mem *mem;     /* borrowed */
	struct bus *bus;     /* borrowed */
	unsigned pins;	     /* of the I/O APIC; <= KVM_PINS_MAX */
	/* What the guest shall see; what the host's KVM cannot do is taken off (x86/cpuid.c). */
	const struct x86_cpuid_entry *(*cpuid)(void *opaque, unsigned cpu, unsigned *ret_n);
	void *cpuid_opaque;
	bool host_features; /* all features that KVM offers instead of the table's */
	bool own_cpus;	    /* each vCPU has a host CPU to itself: KVM_HINTS_REALTIME */
	bool keep_cpus;	    /* HLT and PAUSE do not leave the guest */
	u32 halt_poll_ns;   /* how long an idle vCPU spins before it sleeps... */
	bool halt_poll_set; /* ... if this is set; else the host's default */
	/* What struct x86_cpu says of its model: for whoever walks page tables. */
	u64 phys_mask, cr4_allowed, xcr0_allowed;
	/* On each vCPU's thread before its first instruction, or NULL. A negative errno ends the run. */
	int (*thread_start)(void *opaque, unsigned cpu);
	/* Called by kvm_new if something that @keep_cpus asks for cannot be had, or NULL. */
	void (*warn)(void *opaque, const char *words);
	void *perf_opaque; /* for both */
};

/* 0 and *ret (engine_free frees it), or a negative errno with a message. */
int kvm_new(const struct kvm_cfg *cfg, struct err *e, struct kvm **ret);
void kvm_free(struct kvm *k);
struct engine kvm_engine(struct kvm *k);

/* --- interrupts ------------------------------------------------------------------------------- */

/*
 * An interrupt message, with an extended destination as lapics_msi has it (dev/lapic.h). Under the
 * device lock. Returns how many CPUs accepted it.
 */
unsigned kvm_msi(struct kvm *k, u64 addr, u32 data);
/*
 * What the I/O APIC's @pin would send. The kernel must know the level-triggered ones: it reports
 * the completion of their vectors only. Under the device lock.
 */
void kvm_route(struct kvm *k, unsigned pin, u64 addr, u32 data);
/* A vector that kvm_route announced was completed. Called under the device lock. */
void kvm_set_eoi(struct kvm *k, void (*eoi)(void *opaque, u8 vector), void *opaque);
/* The local APICs and the rest of the kernel's state, which reset as a device does. */
struct device kvm_device(struct kvm *k);

/*
 * From now on a 4-byte write of @val at @gpa wakes the VM's thread, which calls @fn under the device
 * lock, instead of stopping the vCPU for the bus. 0 or a negative errno.
 */
int kvm_add_notify(struct kvm *k, gpa_t gpa, u32 val, void (*fn)(void *opaque, u32 val),
		   void *opaque);

/* --- dirty pages ------------------------------------------------------------------------------ */

/* While not running. From now on written pages are logged, or no more. Twice is once. */
int kvm_dirty_log(struct kvm *k, bool on, struct err *e);
/*
 * Bit i of @ret_map: page i of memory region @region (mem_region_get) was written since the last
 * call. @words: 64 pages each, enough for the region. -EINVAL while nothing is logged.
 */
int kvm_dirty_get(struct kvm *k, unsigned region, u64 *ret_map, size_t words, struct err *e);

#endif
