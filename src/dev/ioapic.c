/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioapic.c - I/O APIC (Intel 82093AA data sheet; ICH-style EOI register of version 0x20)
 *
 * How it works
 * Each pin has a redirection table entry (RTE) that says which message its assertion sends. An
 * edge pin sends one message per assertion, and an edge that arrives while masked is lost, as the
 * data sheet says. A level pin sends one while asserted, then waits (Remote IRR) until the vector
 * is completed, and sends another if still asserted. Remote IRR is set only if a CPU accepted the
 * message: a message to nobody must not silence the pin until an EOI that never comes.
 *
 * Messages are composed in MSI form, so that one routine delivers both. RTE bits 55:49 carry bits
 * 14:8 of the destination (KVM_FEATURE_MSI_EXT_DEST_ID), bits 63:56 its low byte.
 *
 * Registers: 0x00 IOREGSEL, 0x10 IOWIN, 0x40 EOI. Indexed: 0 ID, 1 version, 2 arbitration,
 * 0x10 + 2n low and high half of RTE n.
 */
#include "dev/ioapic.h"

#include <errno.h>
#include <stdlib.h>

#define MMIO_IOREGSEL 0x00
#define MMIO_IOWIN 0x10
#define MMIO_EOI 0x40

#define REG_ID 0
#define REG_VERSION 1
#define REG_ARB 2
#define REG_RTE 0x10
#define VERSION 0x20u

#define RTE_LOGICAL BIT(11)
#define RTE_STATUS BIT(12)
#define RTE_REMOTE_IRR BIT(14)
#define RTE_LEVEL BIT(15)
#define RTE_MASKED BIT(16)
#define RTE_READ_ONLY (RTE_STATUS | RTE_REMOTE_IRR)
#define RTE_WRITABLE (0xfffe00000001ffffull & ~RTE_READ_ONLY)

struct ioapic_st {
	u64 rte[IOAPIC_PINS_MAX];
	u64 asserted; /* one bit per pin */
	u32 id;	      /* in bits 27:24, as the register shows it */
	u32 sel;
};

struct ioapic {
	struct ioapic_cfg cfg;
	struct ioapic_st st;
};

#define F(m) DEV_FIELD(struct ioapic_st, m)
static const struct field_desc fields[] = {
	F(rte), F(asserted), F(id), F(sel), DEV_FIELDS_END,
};
#undef F

/* The message of an entry: its data; the address in *ret_addr. */
static u32 message(u64 rte, u64 *ret_addr)
{
	u32 data = (u32)(rte & 0x7ff);

	*ret_addr = 0xfee00000ull | ((rte >> 56) & 0xff) << 12 | ((rte >> 49) & 0x7f) << 5;
	if (rte & RTE_LOGICAL)
		*ret_addr |= BIT(2);
	if (rte & RTE_LEVEL)
		data |= 3u << 14; /* trigger mode level, assert */
	return data;
}

/* Sends the pin's message; returns whether anybody accepted it. */
static bool send(struct ioapic *io, u64 rte)
{
	u64 addr;
	u32 data = message(rte, &addr);

	return io->cfg.msg(io->cfg.opaque, addr, data) > 0;
}

static void tell_route(struct ioapic *io, unsigned pin)
{
	u64 addr;
	u32 data = message(io->st.rte[pin], &addr);

	if (io->cfg.route)
		io->cfg.route(io->cfg.opaque, pin, addr, data);
}

/* A level pin speaks if it may. */
static void check_level(struct ioapic *io, unsigned pin)
{
	u64 rte = io->st.rte[pin];

	if (!(io->st.asserted & BIT(pin)) || !(rte & RTE_LEVEL) ||
	    (rte & (RTE_MASKED | RTE_REMOTE_IRR)))
		return;
	/* Set first: accepting may lead, through the engine, back to us. */
	io->st.rte[pin] |= RTE_REMOTE_IRR;
	if (!send(io, rte))
		io->st.rte[pin] &= ~RTE_REMOTE_IRR;
}

void ioapic_set_irq(void *opaque, unsigned pin, bool asserted)
{
	struct ioapic *io = opaque;
	bool was;

	if (pin >= io->cfg.pins)
		return;
	was = (io->st.asserted & BIT(pin)) != 0;
	if (was == asserted)
		return;
	io->st.asserted ^= BIT(pin);
	if (!asserted)
		return;
	if (io->st.rte[pin] & RTE_LEVEL)
		check_level(io, pin);
	else if (!(io->st.rte[pin] & RTE_MASKED))
		send(io, io->st.rte[pin]);
}

struct irq_line ioapic_line(struct ioapic *io, unsigned pin)
{
	return (struct irq_line){ ioapic_set_irq, io, pin };
}

void ioapic_eoi(void *opaque, u8 vector)
{
	struct ioapic *io = opaque;

	for (unsigned i = 0; i < io->cfg.pins; i++) {
		u64 rte = io->st.rte[i];

		if ((rte & 0xff) != vector || !(rte & RTE_REMOTE_IRR))
			continue;
		io->st.rte[i] &= ~RTE_REMOTE_IRR;
		check_level(io, i);
	}
}

static u32 reg_read(const struct ioapic *io, u32 reg)
{
	u32 pin = (reg - REG_RTE) / 2;

	switch (reg) {
	case REG_ID:
	case REG_ARB:
		return io->st.id;
	case REG_VERSION:
		return VERSION | (io->cfg.pins - 1) << 16;
	default:
		if (reg < REG_RTE || pin >= io->cfg.pins)
			return 0;
		return (u32)(io->st.rte[pin] >> (reg & 1 ? 32 : 0));
	}
}

static void write_rte(struct ioapic *io, unsigned pin, u64 val)
{
	u64 *rte = &io->st.rte[pin];

	*rte = (*rte & RTE_READ_ONLY) | (val & RTE_WRITABLE);
	/* Drivers clear a stuck Remote IRR by way of edge mode. */
	if (!(*rte & RTE_LEVEL))
		*rte &= ~RTE_REMOTE_IRR;
	tell_route(io, pin);
	check_level(io, pin);
}

static void reg_write(struct ioapic *io, u32 reg, u32 val)
{
	u32 pin = (reg - REG_RTE) / 2;
	u64 old;

	if (reg == REG_ID)
		io->st.id = val & 0x0f000000;
	if (reg < REG_RTE || pin >= io->cfg.pins)
		return;
	old = io->st.rte[pin];
	if (reg & 1)
		write_rte(io, pin, (u32)old | (u64)val << 32);
	else
		write_rte(io, pin, (old & ~0xffffffffull) | val);
}

static u64 mmio_read(void *opaque, u64 off, unsigned size, unsigned cpu)
{
	struct ioapic *io = opaque;

	if (off == MMIO_IOREGSEL)
		return io->st.sel;
	if (off == MMIO_IOWIN)
		return reg_read(io, io->st.sel);
	return 0;
}

static void mmio_write(void *opaque, u64 off, unsigned size, u64 val, unsigned cpu)
{
	struct ioapic *io = opaque;

	if (off == MMIO_IOREGSEL)
		io->st.sel = val & 0xff;
	else if (off == MMIO_IOWIN && size >= 4)
		reg_write(io, io->st.sel, (u32)val);
	else if (off == MMIO_EOI)
		ioapic_eoi(io, (u8)val);
}

const struct bus_ops ioapic_bus_ops = { .read = mmio_read, .write = mmio_write };

static void dev_reset(void *dev)
{
	struct ioapic *io = dev;
	u64 asserted = io->st.asserted; /* wires belong to their devices, not to our reset */

	io->st = (struct ioapic_st){ .id = (u32)(io->cfg.id & 0xf) << 24, .asserted = asserted };
	for (unsigned i = 0; i < io->cfg.pins; i++) {
		io->st.rte[i] = RTE_MASKED;
		tell_route(io, i);
	}
}

static void *dev_state(void *dev, unsigned i)
{
	return i ? NULL : &((struct ioapic *)dev)->st;
}

static const struct device_ops device_ops = {
	.name = "ioapic",
	.reset = dev_reset,
	.state = dev_state,
	.fields = fields,
};

struct device ioapic_device(struct ioapic *io)
{
	return (struct device){ &device_ops, io };
}

int ioapic_new(const struct ioapic_cfg *cfg, struct ioapic **ret)
{
	struct ioapic *io;

	if (!cfg->pins || cfg->pins > IOAPIC_PINS_MAX || !cfg->msg)
		return -EINVAL;
	io = calloc(1, sizeof(*io));
	if (!io)
		return -ENOMEM;
	io->cfg = *cfg;
	dev_reset(io);
	*ret = io;
	return 0;
}

void ioapic_free(struct ioapic *io)
{
	free(io);
}
