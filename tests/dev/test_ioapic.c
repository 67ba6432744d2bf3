/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ioapic.c - I/O APIC alone, and together with local APICs
 */
#include "dev/ioapic.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dev/lapic.h"
#include "testclock.h"

#define LEVEL (1u << 15)
#define MASKED (1u << 16)

static struct {
	struct ioapic *io;
	unsigned msgs;
	u64 addr;
	u32 data;
	unsigned accept; /* what the receiver answers */
} t;

static unsigned on_msg(void *o, u64 addr, u32 data)
{
	t.msgs++;
	t.addr = addr;
	t.data = data;
	return t.accept;
}

static u32 rd(u32 reg)
{
	ioapic_bus_ops.write(t.io, 0x00, 4, reg, 0);
	return (u32)ioapic_bus_ops.read(t.io, 0x10, 4, 0);
}

static void wr(u32 reg, u32 v)
{
	ioapic_bus_ops.write(t.io, 0x00, 4, reg, 0);
	ioapic_bus_ops.write(t.io, 0x10, 4, v, 0);
}

static void rte(unsigned pin, u32 hi, u32 lo)
{
	wr(0x11 + 2 * pin, hi);
	wr(0x10 + 2 * pin, lo);
}

static int setup(void **s)
{
	struct ioapic_cfg cfg = { .pins = 64, .id = 9, .msg = on_msg };

	memset(&t, 0, sizeof(t));
	t.accept = 1;
	return ioapic_new(&cfg, &t.io);
}

static int teardown(void **s)
{
	ioapic_free(t.io);
	return 0;
}

static void registers(void **s)
{
	assert_int_equal(rd(0), 9u << 24);
	assert_int_equal(rd(1), 63u << 16 | 0x20);
	assert_int_equal(rd(0x10), MASKED);
	assert_int_equal(rd(0x8e), MASKED);
	wr(0, 0xffffffff);
	assert_int_equal(rd(0), 0x0f000000);
	rte(63, 0xffffffff, 0xffffffff);
	assert_int_equal(rd(0x8e), 0x1afff); /* status and remote IRR are read-only */
	assert_int_equal(rd(0x8f), 0xfffe0000);
	wr(0x90, 0); /* behind the last pin */
	assert_int_equal(rd(0x90), 0);
	assert_int_equal(rd(0xff), 0);
	assert_int_equal(ioapic_bus_ops.read(t.io, 0x20, 8, 0), 0);
	ioapic_bus_ops.write(t.io, 0x10, 1, 0xff, 0); /* narrow: ignored */
}

static void edge(void **s)
{
	rte(4, 2u << 24, 0x34);
	ioapic_set_irq(t.io, 4, true);
	assert_int_equal(t.msgs, 1);
	assert_int_equal(t.addr, 0xfee02000);
	assert_int_equal(t.data, 0x34);
	ioapic_set_irq(t.io, 4, true); /* no new edge */
	ioapic_set_irq(t.io, 4, false);
	assert_int_equal(t.msgs, 1);
	rte(4, 2u << 24, 0x34 | MASKED);
	ioapic_set_irq(t.io, 4, true); /* lost */
	rte(4, 2u << 24, 0x34);
	assert_int_equal(t.msgs, 1);
	ioapic_set_irq(t.io, 4, false);
	ioapic_set_irq(t.io, 4, true);
	assert_int_equal(t.msgs, 2);
	ioapic_set_irq(t.io, 64, true); /* no such pin */
	ioapic_set_irq(t.io, UINT32_MAX, true);
	assert_int_equal(t.msgs, 2);
}

static void level(void **s)
{
	struct irq_line line = ioapic_line(t.io, 10);

	irq_set(&line, true);
	assert_int_equal(t.msgs, 0);
	rte(10, 0, 0x50 | LEVEL);
	assert_int_equal(t.msgs, 1); /* unmasking an asserted level pin */
	assert_int_equal(t.data, 0x50 | 3u << 14);
	assert_int_equal(rd(0x24), 0x50 | LEVEL | 1u << 14);
	irq_set(&line, false);
	irq_set(&line, true);
	assert_int_equal(t.msgs, 1); /* remote IRR holds it */
	ioapic_eoi(t.io, 0x51);
	assert_int_equal(t.msgs, 1);
	ioapic_eoi(t.io, 0x50); /* still asserted: again */
	assert_int_equal(t.msgs, 2);
	irq_set(&line, false);
	ioapic_bus_ops.write(t.io, 0x40, 4, 0x50, 0); /* the EOI register */
	assert_int_equal(t.msgs, 2);
	assert_int_equal(rd(0x24), 0x50 | LEVEL);
	/* Masked while in service, EOI, unmasked. */
	irq_set(&line, true);
	wr(0x24, 0x50 | LEVEL | MASKED);
	ioapic_eoi(t.io, 0x50);
	assert_int_equal(t.msgs, 3);
	wr(0x24, 0x50 | LEVEL);
	assert_int_equal(t.msgs, 4);
	/* Remote IRR cleared by way of edge mode. */
	wr(0x24, 0x50 | MASKED);
	assert_int_equal(rd(0x24), 0x50 | MASKED);
}

static void nobody_accepts(void **s)
{
	t.accept = 0;
	rte(3, 0, 0x50 | LEVEL);
	ioapic_set_irq(t.io, 3, true);
	assert_int_equal(t.msgs, 1);
	assert_int_equal(rd(0x16), 0x50 | LEVEL); /* not stuck in remote IRR */
	t.accept = 1;
	rte(3, 0, 0x50 | LEVEL);
	assert_true(t.msgs >= 2);
	assert_int_equal(rd(0x16), 0x50 | LEVEL | 1u << 14);
}

static void message_format(void **s)
{
	rte(0, 0x2cu << 24 | 1u << 17, 0x41 | 1u << 8 | 1u << 11);
	ioapic_set_irq(t.io, 0, true);
	assert_int_equal(t.addr, 0xfee00000 | 0x2c << 12 | 1 << 5 | 1 << 2);
	assert_int_equal(t.data, 0x141);
}

static void reset_and_limits(void **s)
{
	struct device d = ioapic_device(t.io);
	struct ioapic_cfg cfg = { .pins = 65, .msg = on_msg };
	struct ioapic *io;

	rte(3, 5, 0x50);
	ioapic_set_irq(t.io, 3, true);
	device_reset(&d);
	assert_int_equal(rd(0x16), MASKED);
	rte(3, 0, 0x50 | LEVEL); /* the wire is still asserted */
	assert_int_equal(t.msgs, 2);
	assert_int_equal(ioapic_new(&cfg, &io), -EINVAL);
	cfg.pins = 0;
	assert_int_equal(ioapic_new(&cfg, &io), -EINVAL);
}

/* --- with local APICs ------------------------------------------------------------------------ */

static unsigned to_lapics(void *o, u64 addr, u32 data)
{
	return lapics_msi(o, addr, data);
}

static void ignore(void *o, unsigned cpu)
{
}

static void ignore_sipi(void *o, unsigned cpu, u8 v)
{
}

static void level_through_lapic(void **s)
{
	static const u32 ids[2] = { 0, 1 };
	struct testclock clk;
	struct lapics_cfg lc = { .ncpus = 2,
				 .apic_ids = ids,
				 .clk = &clk.g,
				 .cpu = { ignore, ignore, ignore, ignore_sipi, NULL } };
	struct ioapic_cfg ic = { .pins = 24, .msg = to_lapics };
	struct ioapic *io;
	struct lapics *l;
	struct cpu_intc i;

	testclock_init(&clk);
	assert_int_equal(lapics_new(&lc, NULL, &l), 0);
	ic.opaque = l;
	assert_int_equal(ioapic_new(&ic, &io), 0);
	lapics_set_eoi(l, ioapic_eoi, io);
	i = lapics_intc(l);
	lapics_bus_ops.write(l, 0xf0, 4, 0x1ff, 1);
	ioapic_bus_ops.write(io, 0, 4, 0x10 + 2 * 9 + 1, 0);
	ioapic_bus_ops.write(io, 0x10, 4, 1u << 24, 0);
	ioapic_bus_ops.write(io, 0, 4, 0x10 + 2 * 9, 0);
	ioapic_bus_ops.write(io, 0x10, 4, 0x61 | LEVEL, 0);
	ioapic_set_irq(io, 9, true);
	for (unsigned n = 0; n < 3; n++) { /* asserted: EOI brings it back each time */
		assert_int_equal(i.pending(i.opaque, 1), 0x61);
		i.accept(i.opaque, 1, 0x61);
		assert_int_equal(i.pending(i.opaque, 1), -1);
		if (n == 2)
			ioapic_set_irq(io, 9, false);
		lapics_bus_ops.write(l, 0xb0, 4, 0, 1);
	}
	assert_int_equal(i.pending(i.opaque, 1), -1);
	ioapic_free(io);
	lapics_free(l);
	gclock_fini(&clk.g);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(registers),
		T(edge),
		T(level),
		T(nobody_accepts),
		T(message_format),
		T(reset_and_limits),
		cmocka_unit_test(level_through_lapic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
