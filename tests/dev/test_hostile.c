/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_hostile.c - random accesses to every device, wired as on a board
 *
 * A seeded guest that writes anything anywhere, with every access size, MSR and message, while
 * time passes in jumps. The devices must neither crash nor hang (run it under the sanitizers), and
 * two runs of one seed must end in the same state: that is the determinism contract in small.
 */
#include "dev/acpi_pm.h"
#include "dev/debug_exit.h"
#include "dev/i8042.h"
#include "dev/ioapic.h"
#include "dev/lapic.h"
#include "dev/rtc.h"
#include "dev/uart16550.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "testclock.h"

#define CPUS 5
#define OPS 100000

struct rig {
	struct testclock clk;
	struct bus *bus;
	struct lapics *l;
	struct ioapic *io;
	struct uart *u;
	struct rtc *r;
	struct i8042 *k;
	struct acpi_pm *p;
	struct debug_exit *d;
	struct cpu_intc i;
	u64 rng, signals, tx;
};

static u64 rnd(struct rig *g)
{
	/* xorshift64* */
	g->rng ^= g->rng >> 12;
	g->rng ^= g->rng << 25;
	g->rng ^= g->rng >> 27;
	return g->rng * 2685821657736338717ull;
}

static void on_cpu(void *o, unsigned cpu)
{
	struct rig *g = o;

	assert_true(cpu < CPUS);
	g->signals = g->signals * 31 + cpu;
}

static void on_init(void *o, unsigned cpu)
{
	struct rig *g = o;

	on_cpu(o, cpu);
	g->i.cpu_init(g->i.opaque, cpu);
}

static void on_sipi(void *o, unsigned cpu, u8 v)
{
	on_cpu(o, cpu);
}

static unsigned to_lapics(void *o, u64 addr, u32 data)
{
	return lapics_msi(((struct rig *)o)->l, addr, data);
}

static void on_tx(void *o, const u8 *b, size_t n)
{
	((struct rig *)o)->tx += n;
}

static void on_space(void *o)
{
	struct rig *g = o;
	u8 b[32] = { 0 };

	uart_rx(g->u, b, rnd(g) % sizeof(b));
}

static void on_event(void *o)
{
	((struct rig *)o)->signals++;
}

static void on_exit_code(void *o, u32 code)
{
	assert_true(code & 1);
}

static void rig_up(struct rig *g, u64 seed)
{
	static const u32 ids[CPUS] = { 0, 1, 16, 255, 300 };
	struct lapics_cfg lc = { .ncpus = CPUS,
				 .apic_ids = ids,
				 .clk = &g->clk.g,
				 .cpu = { on_cpu, on_cpu, on_init, on_sipi, g } };
	struct ioapic_cfg ic = { .pins = 24, .msg = to_lapics, .opaque = g };
	struct uart_cfg uc = { .clk = &g->clk.g, .tx = on_tx, .rx_space = on_space, .opaque = g };
	struct rtc_cfg rc = { .clk = &g->clk.g, .base = 1700000000 };
	struct i8042_cfg kc = { .reset = on_event, .opaque = g };
	struct acpi_pm_cfg pc = { on_event, on_event, g };
	struct debug_exit_cfg dc = { on_exit_code, g };

	memset(g, 0, sizeof(*g));
	g->rng = seed;
	testclock_init(&g->clk);
	assert_int_equal(lapics_new(&lc, NULL, &g->l), 0);
	g->i = lapics_intc(g->l);
	assert_int_equal(ioapic_new(&ic, &g->io), 0);
	lapics_set_eoi(g->l, ioapic_eoi, g->io);
	uc.irq = ioapic_line(g->io, 4);
	rc.irq = ioapic_line(g->io, 8);
	kc.irq = ioapic_line(g->io, 1);
	assert_int_equal(uart_new(&uc, &g->u), 0);
	assert_int_equal(rtc_new(&rc, &g->r), 0);
	assert_int_equal(i8042_new(&kc, &g->k), 0);
	assert_int_equal(acpi_pm_new(&pc, &g->p), 0);
	assert_int_equal(debug_exit_new(&dc, &g->d), 0);
	assert_int_equal(bus_new(&g->bus), 0);
	assert_int_equal(bus_add(g->bus, BUS_MMIO, LAPIC_MMIO_BASE, LAPIC_MMIO_SIZE,
				 &lapics_bus_ops, g->l, "lapic"),
			 0);
	assert_int_equal(bus_add(g->bus, BUS_MMIO, IOAPIC_MMIO_BASE, IOAPIC_MMIO_SIZE,
				 &ioapic_bus_ops, g->io, "ioapic"),
			 0);
	assert_int_equal(bus_add(g->bus, BUS_PIO, 0x3f8, UART_PORTS, &uart_bus_ops, g->u, "uart"),
			 0);
	assert_int_equal(bus_add(g->bus, BUS_PIO, RTC_PORT, RTC_PORTS, &rtc_bus_ops, g->r, "rtc"),
			 0);
	assert_int_equal(i8042_attach(g->k, g->bus), 0);
	assert_int_equal(bus_add(g->bus, BUS_PIO, ACPI_PM_PORT, ACPI_PM_PORTS, &acpi_pm_bus_ops,
				 g->p, "acpi"),
			 0);
	assert_int_equal(
		bus_add(g->bus, BUS_PIO, 0xf4, DEBUG_EXIT_PORTS, &debug_exit_bus_ops, g->d, "exit"),
		0);
}

static void rig_down(struct rig *g)
{
	bus_free(g->bus);
	debug_exit_free(g->d);
	acpi_pm_free(g->p);
	i8042_free(g->k);
	rtc_free(g->r);
	uart_free(g->u);
	ioapic_free(g->io);
	lapics_free(g->l);
	gclock_fini(&g->clk.g);
}

/* One access to a range, at a register more often than between two. */
static void poke(struct rig *g, enum bus_kind kind, u64 base, u64 len)
{
	unsigned size = 1u << (rnd(g) & 3), cpu = (unsigned)(rnd(g) % CPUS);
	u64 off = rnd(g) % len, val = rnd(g), got;

	if (kind == BUS_MMIO && (rnd(g) & 7)) {
		off &= 0x3f0;
		size = 4;
	}
	if (rnd(g) & 3)
		val &= rnd(g) & 1 ? 0x301ff : 0xff;
	if (rnd(g) & 1)
		bus_write(g->bus, kind, base + off, size, val, cpu);
	else if (!bus_read(g->bus, kind, base + off, size, cpu, &got))
		assert_true(got == UINT64_MAX >> (64 - 8 * size));
	else
		assert_true(size == 8 || got >> (8 * size) == 0);
}

static void poke_ioapic(struct rig *g)
{
	bus_write(g->bus, BUS_MMIO, IOAPIC_MMIO_BASE, 4, rnd(g) & 0x4f, 0);
	bus_write(g->bus, BUS_MMIO, IOAPIC_MMIO_BASE + 0x10, 4, rnd(g) & rnd(g), 0);
	ioapic_set_irq(g->io, (unsigned)(rnd(g) % 70), rnd(g) & 1);
}

static void poke_msr(struct rig *g)
{
	u32 msr = rnd(g) & 7 ? 0x800 + (rnd(g) & 0x4f) : rnd(g) & 1 ? 0x1b : 0x6e0;
	unsigned cpu = (unsigned)(rnd(g) % CPUS);
	u64 v = rnd(g) & (rnd(g) & 1 ? 0xff : UINT64_MAX);

	if (msr == 0x1b)
		v = 0xfee00000 | (rnd(g) & 0xd00);
	if (msr == 0x6e0)
		v = g->clk.now + (rnd(g) & 0xffff);
	if (rnd(g) & 1)
		g->i.msr_write(g->i.opaque, cpu, msr, v);
	else
		g->i.msr_read(g->i.opaque, cpu, msr, &v);
}

static void serve(struct rig *g)
{
	for (unsigned c = 0; c < CPUS; c++) {
		int v = g->i.pending(g->i.opaque, c);

		assert_true(v == -1 || (v >= 16 && v < 256));
		if (v >= 0 && (rnd(g) & 1))
			g->i.accept(g->i.opaque, c, v);
	}
}

/* Time passes; a hostile timer may be periodic at 40 ns, so jumps are what bounds the work. */
static void pass_time(struct rig *g)
{
	g->clk.now += rnd(g) & (rnd(g) & 15 ? 0xfff : 0xffffffffff);
	gclock_run(&g->clk.g, g->clk.now);
}

static void step(struct rig *g)
{
	switch (rnd(g) % 12) {
	case 0:
		poke(g, BUS_MMIO, LAPIC_MMIO_BASE, LAPIC_MMIO_SIZE);
		break;
	case 1:
		poke(g, BUS_MMIO, IOAPIC_MMIO_BASE, IOAPIC_MMIO_SIZE);
		break;
	case 2:
		poke(g, BUS_PIO, 0x3f8, UART_PORTS);
		break;
	case 3:
		poke(g, BUS_PIO, RTC_PORT, RTC_PORTS);
		break;
	case 4:
		poke(g, BUS_PIO, 0x60, 5);
		break;
	case 5:
		poke(g, BUS_PIO, rnd(g) & 1 ? ACPI_PM_PORT : 0xf4, 4);
		break;
	case 6:
		poke_ioapic(g);
		break;
	case 7:
		poke_msr(g);
		break;
	case 8:
		serve(g);
		break;
	case 9:
		lapics_msi(g->l, 0xfee00000 | (rnd(g) & 0xfffff), (u32)rnd(g));
		g->i.cr8_write(g->i.opaque, (unsigned)(rnd(g) % CPUS), rnd(g));
		break;
	case 10:
		uart_rx_break(g->u);
		on_space(g);
		break;
	default:
		pass_time(g);
	}
}

static void add(void *o, const void *p, size_t n)
{
	u64 *h = o;

	for (size_t i = 0; i < n; i++)
		*h = (*h ^ ((const u8 *)p)[i]) * 0x100000001b3ull;
}

static u64 digest(struct rig *g)
{
	struct device d[] = { lapics_device(g->l),    ioapic_device(g->io), uart_device(g->u),
			      rtc_device(g->r),	      i8042_device(g->k),   acpi_pm_device(g->p),
			      debug_exit_device(g->d) };
	u64 h = g->signals ^ g->tx;

	for (unsigned i = 0; i < ARRAY_LEN(d); i++)
		device_digest(&d[i], add, &h);
	return h;
}

static u64 run(u64 seed, unsigned ops)
{
	struct rig g;
	u64 h;

	rig_up(&g, seed);
	for (unsigned i = 0; i < ops; i++)
		step(&g);
	h = digest(&g);
	rig_down(&g);
	return h;
}

static void same_seed_same_state(void **s)
{
	u64 a = run(0x1234567, 12 * OPS); /* about OPS for each device */

	assert_true(a == run(0x1234567, 12 * OPS));
	assert_true(a != run(0x7654321, 12 * OPS));
}

/* One device alone, so that another's side effects (masking, resets) do not shield it. */
static void each_device_alone(void **s)
{
	struct rig g;

	for (unsigned kind = 0; kind < 6; kind++) {
		rig_up(&g, 99 + kind);
		for (unsigned i = 0; i < OPS; i++) {
			if (kind == 0)
				poke(&g, BUS_MMIO, LAPIC_MMIO_BASE, LAPIC_MMIO_SIZE);
			else if (kind == 1)
				poke_ioapic(&g);
			else if (kind == 2)
				poke(&g, BUS_PIO, 0x3f8, UART_PORTS);
			else if (kind == 3)
				poke(&g, BUS_PIO, RTC_PORT, RTC_PORTS);
			else if (kind == 4)
				poke(&g, BUS_PIO, 0x60, 5);
			else
				poke_msr(&g);
			serve(&g);
			if (!(i & 7))
				pass_time(&g);
		}
		rig_down(&g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_seed_same_state),
		cmocka_unit_test(each_device_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
