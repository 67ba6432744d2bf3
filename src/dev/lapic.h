/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lapic.h - the local APICs of all vCPUs of a VM (Intel SDM vol. 3, chapter 10)
 *
 * One object, because every message between CPUs is a question to all of them. xAPIC registers
 * are an MMIO page that each CPU sees as its own; x2APIC registers, IA32_APIC_BASE and
 * IA32_TSC_DEADLINE are MSRs that the engine passes on through cpu_intc.
 */
#ifndef ORR_DEV_LAPIC_H
#define ORR_DEV_LAPIC_H

#include "base/compiler.h"
#include "base/err.h"
#include "base/gclock.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"

#define LAPIC_MMIO_BASE 0xfee00000ull
#define LAPIC_MMIO_SIZE 0x1000ull
#define LAPIC_ID_MAX 0x7fffu /* what a message with an extended destination can address */
#define LAPIC_CPUS_MAX 4096u
/* Nanoseconds per tick of the timer's input clock (25 MHz): what CPUID leaf 0x15 must say. */
#define LAPIC_TICK_NS 40u

struct lapics;

struct lapics_cfg {
	unsigned ncpus;	     /* 1..LAPIC_CPUS_MAX */
	const u32 *apic_ids; /* ncpus distinct ids, <= LAPIC_ID_MAX; copied */
	unsigned bsp;	     /* index of the bootstrap processor */
	bool start_x2apic;   /* as firmware leaves it on a machine with ids above 254 */
	struct gclock *clk;  /* borrowed */
	struct cpu_signals cpu;
	/*
	 * The guest time (ns) at which @cpu's TSC, IA32_TSC_ADJUST included, reaches @tsc; 0 for
	 * the past, GCLOCK_NEVER for never. NULL: the TSC is the guest time in ns.
	 */
	u64 (*tsc_to_ns)(void *opaque, unsigned cpu, u64 tsc);
	void *tsc_opaque;
	/* A level-triggered vector was completed: for the I/O APIC. May be NULL. */
	void (*eoi)(void *opaque, u8 vector);
	void *eoi_opaque;
};

/* 0 and *ret_lapics (owned by the caller), -EINVAL (with a message) or -ENOMEM. */
int lapics_new(const struct lapics_cfg *cfg, struct err *e, struct lapics **ret_lapics);
void lapics_free(struct lapics *l);

/* For bus_add(LAPIC_MMIO_BASE, LAPIC_MMIO_SIZE) with the struct lapics as opaque. */
extern const struct bus_ops lapics_bus_ops;

/* What an engine needs; valid while @l is. */
struct cpu_intc lapics_intc(struct lapics *l);
struct device lapics_device(struct lapics *l);

/*
 * An interrupt message (MSI, I/O APIC; SDM 10.11) with the extended destination of
 * KVM_FEATURE_MSI_EXT_DEST_ID: address bits 11:5 are bits 14:8 of the destination. Returns how
 * many CPUs accepted it. An address outside 0xFEExxxxx is accepted by none.
 */
unsigned lapics_msi(struct lapics *l, u64 addr, u32 data);

/* The CPU's TSC jumped (WRMSR to IA32_TSC or IA32_TSC_ADJUST): re-time its TSC deadline. */
void lapics_tsc_changed(struct lapics *l, unsigned cpu);

/* Sets the eoi callback after creation: the I/O APIC needs the lapics first. */
void lapics_set_eoi(struct lapics *l, void (*eoi)(void *opaque, u8 vector), void *opaque);

#endif
