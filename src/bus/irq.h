/* SPDX-License-Identifier: Apache-2.0 */
/*
 * irq.h - interrupt lines, and what a CPU and its interrupt controller say to each other
 *
 * How it works
 * A device drives an irq_line. A board connects the line to a controller input (an I/O APIC pin,
 * a GIC SPI, an irqfd). The controller decides which CPU is to take which vector and tells it
 * through cpu_signals; an engine asks through cpu_intc what is deliverable now. Neither side
 * includes the other: `dev` knows no engine, `cpu` no device.
 */
#ifndef ORR_BUS_IRQ_H
#define ORR_BUS_IRQ_H

#include "base/compiler.h"

/* A wire from a device to a controller input. Unconnected (all zero) is legal and silent. */
struct irq_line {
	void (*set)(void *opaque, unsigned input, bool level);
	void *opaque;
	unsigned input;
};

static inline void irq_set(const struct irq_line *l, bool level)
{
	if (l->set)
		l->set(l->opaque, l->input, level);
}

/* Controller -> CPU. Implemented by the engine; called on the engine's thread. */
struct cpu_signals {
	/* What cpu_intc.pending says for @cpu may have become >= 0: look before the next insn. */
	void (*irq)(void *opaque, unsigned cpu);
	void (*nmi)(void *opaque, unsigned cpu);
	void (*init)(void *opaque, unsigned cpu);
	void (*sipi)(void *opaque, unsigned cpu, u8 vector);
	void *opaque;
};

/* CPU -> its local interrupt controller (x86: the local APIC). Implemented by a device. */
struct cpu_intc {
	/* The vector that would be delivered to @cpu now if IF allowed it, or -1. No side effect. */
	int (*pending)(void *opaque, unsigned cpu);
	/* Delivery of @vector (as returned by pending) begins: IRR -> ISR. */
	void (*accept)(void *opaque, unsigned cpu, int vector);
	/*
	 * Registers that the CPU reaches by other ways than the bus. MSRs: IA32_APIC_BASE (0x1B),
	 * IA32_TSC_DEADLINE (0x6E0), x2APIC 0x800-0x8FF. Return 0, or -EPERM for #GP.
	 */
	int (*msr_read)(void *opaque, unsigned cpu, u32 msr, u64 *ret_val);
	int (*msr_write)(void *opaque, unsigned cpu, u32 msr, u64 val);
	u64 (*cr8_read)(void *opaque, unsigned cpu);
	void (*cr8_write)(void *opaque, unsigned cpu, u64 val);
	/* INIT: the controller's registers of @cpu return to their state after INIT. */
	void (*cpu_init)(void *opaque, unsigned cpu);
	void *opaque;
};

#endif
