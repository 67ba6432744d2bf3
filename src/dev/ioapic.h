/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioapic.h - I/O APIC (Intel 82093AA register model, version 0x20 with an EOI register)
 */
#ifndef ORR_DEV_IOAPIC_H
#define ORR_DEV_IOAPIC_H

#include "base/compiler.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"

#define IOAPIC_MMIO_BASE 0xfec00000ull
#define IOAPIC_MMIO_SIZE 0x1000ull
#define IOAPIC_PINS_MAX 64u

struct ioapic;

struct ioapic_cfg {
	unsigned pins; /* 1..IOAPIC_PINS_MAX */
	u8 id;	       /* initial value of the ID register, 0..15 */
	/* Sends an interrupt message (lapics_msi fits); returns how many CPUs accepted it. */
	unsigned (*msg)(void *opaque, u64 addr, u32 data);
	/* @pin's message is another one from now on, masked or not. For a host that must know; or NULL. */
	void (*route)(void *opaque, unsigned pin, u64 addr, u32 data);
	void *opaque;
};

int ioapic_new(const struct ioapic_cfg *cfg, struct ioapic **ret); /* 0, -EINVAL, -ENOMEM */
void ioapic_free(struct ioapic *io);

/* For bus_add(IOAPIC_MMIO_BASE, IOAPIC_MMIO_SIZE). */
extern const struct bus_ops ioapic_bus_ops;
struct device ioapic_device(struct ioapic *io);

/*
 * A device asserts or deasserts its input: fits irq_line.set, @opaque is the struct ioapic.
 * @asserted is logical: whether the wire is high or low then is between the board's tables and
 * the polarity bit, which is stored and not interpreted. A pin that does not exist is ignored.
 */
void ioapic_set_irq(void *opaque, unsigned pin, bool asserted);
struct irq_line ioapic_line(struct ioapic *io, unsigned pin);

/* A local APIC completed a level-triggered @vector: fits lapics_cfg.eoi. */
void ioapic_eoi(void *opaque, u8 vector);

#endif
