/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_lapic.c - local APICs by registers, messages and MSRs alone
 */
#include "dev/lapic.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "testclock.h"

#define CPUS 20

static struct {
	struct testclock clk;
	struct lapics *l;
	struct cpu_intc i;
	unsigned irqs[CPUS], nmis[CPUS], inits[CPUS], sipis[CPUS];
	u8 sipi_vector;
	u64 tsc_offset[CPUS];
	unsigned eois;
	u8 eoi_vector;
} t;

static void on_irq(void *o, unsigned cpu)
{
	t.irqs[cpu]++;
}

static void on_nmi(void *o, unsigned cpu)
{
	t.nmis[cpu]++;
}

static void on_init(void *o, unsigned cpu)
{
	t.inits[cpu]++;
}

static void on_sipi(void *o, unsigned cpu, u8 v)
{
	t.sipis[cpu]++;
	t.sipi_vector = v;
}

static void on_eoi(void *o, u8 v)
{
	t.eois++;
	t.eoi_vector = v;
}

static u64 tsc_to_ns(void *o, unsigned cpu, u64 tsc)
{
	return tsc > t.tsc_offset[cpu] ? tsc - t.tsc_offset[cpu] : 0;
}

static void start(const u32 *ids, unsigned n, bool x2)
{
	struct lapics_cfg cfg = {
		.ncpus = n,
		.apic_ids = ids,
		.start_x2apic = x2,
		.clk = &t.clk.g,
		.cpu = { on_irq, on_nmi, on_init, on_sipi, NULL },
		.tsc_to_ns = tsc_to_ns,
		.eoi = on_eoi,
	};
	struct err e;

	memset(&t, 0, sizeof(t));
	testclock_init(&t.clk);
	assert_int_equal(lapics_new(&cfg, &e, &t.l), 0);
	t.i = lapics_intc(t.l);
}

static int setup(void **s)
{
	static const u32 ids[4] = { 0, 1, 2, 3 };

	start(ids, 4, false);
	return 0;
}

static int setup_x2(void **s)
{
	static const u32 ids[6] = { 0, 1, 17, 255, 256, 300 };

	start(ids, 6, true);
	return 0;
}

static int teardown(void **s)
{
	lapics_free(t.l);
	gclock_fini(&t.clk.g);
	return 0;
}

static u32 rd(unsigned cpu, unsigned off)
{
	return (u32)lapics_bus_ops.read(t.l, off, 4, cpu);
}

static void wr(unsigned cpu, unsigned off, u32 v)
{
	lapics_bus_ops.write(t.l, off, 4, v, cpu);
}

static u64 rdmsr(unsigned cpu, u32 msr)
{
	u64 v = 0;

	assert_int_equal(t.i.msr_read(t.i.opaque, cpu, msr, &v), 0);
	return v;
}

static int wrmsr(unsigned cpu, u32 msr, u64 v)
{
	return t.i.msr_write(t.i.opaque, cpu, msr, v);
}

static int pending(unsigned cpu)
{
	return t.i.pending(t.i.opaque, cpu);
}

static int take(unsigned cpu)
{
	int v = pending(cpu);

	if (v >= 0)
		t.i.accept(t.i.opaque, cpu, v);
	return v;
}

static void enable(unsigned cpu)
{
	wr(cpu, 0xf0, 0x1ff);
}

static void enable_all(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		enable(i);
}

static void power_on_values(void **s)
{
	assert_int_equal(rd(2, 0x20), 2u << 24);
	assert_int_equal(rd(0, 0x30) & 0xff00ff, 0x50014);
	assert_int_equal(rd(0, 0xe0), 0xffffffff);
	assert_int_equal(rd(0, 0xf0), 0xff);
	for (unsigned off = 0x320; off <= 0x370; off += 0x10)
		assert_int_equal(rd(1, off), 0x10000);
	assert_int_equal(rdmsr(0, 0x1b), 0xfee00900);
	assert_int_equal(rdmsr(1, 0x1b), 0xfee00800);
	/* Software-disabled: masks cannot be cleared, fixed interrupts are not accepted. */
	wr(0, 0x350, 0x40);
	assert_int_equal(rd(0, 0x350), 0x10040);
	assert_int_equal(lapics_msi(t.l, 0xfee00000, 0x55), 0);
	assert_int_equal(pending(0), -1);
}

static void priorities(void **s)
{
	enable_all(4);
	assert_int_equal(lapics_msi(t.l, 0xfee01000, 0x41), 1);
	assert_int_equal(t.irqs[1], 1);
	assert_int_equal(pending(0), -1);
	assert_int_equal(pending(1), 0x41);
	assert_int_equal(rd(1, 0x220), 1u << 1); /* IRR, vectors 0x40-0x5f */

	wr(1, 0x80, 0x40); /* TPR: the same class blocks */
	assert_int_equal(pending(1), -1);
	wr(1, 0x80, 0x30);
	assert_int_equal(take(1), 0x41);
	assert_int_equal(rd(1, 0x220), 0);
	assert_int_equal(rd(1, 0x120), 1u << 1); /* ISR */
	assert_int_equal(rd(1, 0xa0), 0x40);	 /* PPR */

	lapics_msi(t.l, 0xfee01000, 0x4f); /* the class in service */
	assert_int_equal(pending(1), -1);
	lapics_msi(t.l, 0xfee01000, 0xf0); /* a higher one nests */
	assert_int_equal(take(1), 0xf0);
	wr(1, 0xb0, 0);
	assert_int_equal(pending(1), -1);
	wr(1, 0xb0, 0); /* the second EOI completes 0x41 */
	assert_int_equal(take(1), 0x4f);
	wr(1, 0xb0, 0);
	wr(1, 0xb0, 0); /* nothing in service: harmless */
	assert_int_equal(pending(1), -1);
	assert_int_equal(t.eois, 0); /* all were edge triggered */
}

static void cr8_is_tpr(void **s)
{
	enable(0);
	t.i.cr8_write(t.i.opaque, 0, 5);
	assert_int_equal(rd(0, 0x80), 0x50);
	wr(0, 0x80, 0x7f);
	assert_int_equal(t.i.cr8_read(t.i.opaque, 0), 7);
	lapics_msi(t.l, 0xfee00000, 0x71);
	assert_int_equal(pending(0), -1);
	t.i.cr8_write(t.i.opaque, 0, 6);
	assert_int_equal(pending(0), 0x71);
	assert_int_equal(t.irqs[0], 1);
}

static void level_eoi_broadcast(void **s)
{
	enable(0);
	lapics_msi(t.l, 0xfee00000, 0x51 | 3u << 14);
	assert_int_equal(rd(0, 0x1a0), 1u << 17); /* TMR */
	assert_int_equal(take(0), 0x51);
	wr(0, 0xb0, 0);
	assert_int_equal(t.eois, 1);
	assert_int_equal(t.eoi_vector, 0x51);
	wr(0, 0xf0, 0x11ff); /* suppressed */
	lapics_msi(t.l, 0xfee00000, 0x51 | 3u << 14);
	take(0);
	wr(0, 0xb0, 0);
	assert_int_equal(t.eois, 1);
	/* Level de-assert is no interrupt. */
	assert_int_equal(lapics_msi(t.l, 0xfee00000, 0x51 | 1u << 15), 0);
	assert_int_equal(lapics_msi(t.l, 0xfed00000, 0x51), 0);
}

static void ipi_modes(void **s)
{
	enable_all(4);
	wr(0, 0x310, 2u << 24);
	wr(0, 0x300, 0x44);
	assert_int_equal(take(2), 0x44);
	wr(0, 0x300, 0x45 | 1u << 18); /* self */
	assert_int_equal(take(0), 0x45);
	wr(0, 0x300, 0x46 | 2u << 18); /* all */
	wr(3, 0x300, 0x47 | 3u << 18); /* all but self */
	assert_int_equal(pending(3), 0x46);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(rd(i, 0x220), 1u << 6 | 1u << 7);
	wr(0, 0x310, 0xffu << 24); /* physical broadcast */
	wr(0, 0x300, 0x88);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(rd(i, 0x240) & 1u << 8, 1u << 8);

	wr(0, 0x310, 1u << 24);
	wr(0, 0x300, 0x400); /* NMI */
	wr(0, 0x300, 0x4500);
	wr(0, 0x300, 0x8500); /* INIT de-assert: nothing */
	wr(0, 0x300, 0x69a);
	assert_int_equal(t.nmis[1], 1);
	assert_int_equal(t.inits[1], 1);
	assert_int_equal(t.sipis[1], 1);
	assert_int_equal(t.sipi_vector, 0x9a);
	wr(0, 0x300, 0xc4500); /* INIT to all but self */
	assert_int_equal(t.inits[0], 0);
	assert_int_equal(t.inits[1], 2);
	assert_int_equal(t.inits[3], 1);
	wr(0, 0x300, 0x40400); /* NMI to self by shorthand is not defined */
	assert_int_equal(t.nmis[0], 0);
	assert_int_equal(rd(0, 0x300), 0x40400);
}

static void logical_destinations(void **s)
{
	enable_all(4);
	for (unsigned i = 0; i < 4; i++)
		wr(i, 0xd0, 1u << (24 + i));
	wr(0, 0x310, 0x0au << 24); /* flat: CPUs 1 and 3 */
	wr(0, 0x300, 0x861);
	assert_int_equal(take(0), -1);
	assert_int_equal(take(1), 0x61);
	assert_int_equal(take(2), -1);
	assert_int_equal(take(3), 0x61);
	/* Cluster model: CPUs 0, 1 in cluster 1, CPUs 2, 3 in cluster 2. */
	for (unsigned i = 0; i < 4; i++) {
		wr(i, 0xe0, 0x0fffffff);
		wr(i, 0xd0, (u32)(0x10 * (1 + i / 2) + (1u << (i % 2))) << 24);
	}
	wr(0, 0x310, 0x23u << 24);
	wr(0, 0x300, 0x872);
	assert_int_equal(take(0), -1);
	assert_int_equal(take(1), -1);
	assert_int_equal(take(2), 0x72);
	assert_int_equal(take(3), 0x72);
}

static void lowest_priority(void **s)
{
	unsigned got[4] = { 0 };

	enable_all(3); /* CPU 3 stays software-disabled */
	for (unsigned i = 0; i < 4; i++)
		wr(i, 0xd0, 1u << (24 + i));
	wr(0, 0x80, 0x20);
	/* Logical, all four; CPU 0 has a higher priority: vectors alternate between 1 and 2. */
	for (u32 v = 0x60; v < 0x70; v++) {
		assert_int_equal(lapics_msi(t.l, 0xfee0f004, v | 0x100), 1);
		for (unsigned i = 0; i < 4; i++)
			if (take(i) >= 0) {
				got[i]++;
				wr(i, 0xb0, 0);
			}
	}
	assert_int_equal(got[0] + got[3], 0);
	assert_int_equal(got[1], 8);
	assert_int_equal(got[2], 8);
	/* The redirection hint of an MSI says the same. */
	assert_int_equal(lapics_msi(t.l, 0xfee0f00c, 0x60), 1);
}

static void illegal_vectors(void **s)
{
	enable_all(2);
	wr(0, 0x370, 0xfe); /* error interrupt */
	wr(0, 0x300, 0x40005);
	assert_int_equal(rd(0, 0x280), 0); /* latched only by a write */
	assert_int_equal(take(0), 0xfe);
	wr(0, 0x280, 0);
	assert_int_equal(rd(0, 0x280), 0x20);
	wr(0, 0x280, 0);
	assert_int_equal(rd(0, 0x280), 0);
	assert_int_equal(lapics_msi(t.l, 0xfee01000, 0x0f), 0);
	wr(1, 0x280, 0);
	assert_int_equal(rd(1, 0x280), 0x40);
	rd(1, 0x3f0);
	wr(1, 0x280, 0);
	assert_int_equal(rd(1, 0x280), 0x80);
	/* An error entry with an illegal vector must not recurse. */
	wr(1, 0x370, 3);
	rd(1, 0x3f0);
	assert_int_equal(pending(1), -1);
}

static void timer_oneshot(void **s)
{
	enable(0);
	wr(0, 0x3e0, 0xb); /* divide by 1: 40 ns */
	wr(0, 0x320, 0x31);
	wr(0, 0x380, 100);
	testclock_by(&t.clk, 1000);
	assert_int_equal(rd(0, 0x390), 75);
	assert_int_equal(pending(0), -1);
	testclock_to(&t.clk, 3999);
	assert_int_equal(rd(0, 0x390), 1);
	assert_int_equal(pending(0), -1);
	testclock_to(&t.clk, 4000);
	assert_int_equal(take(0), 0x31);
	wr(0, 0xb0, 0);
	assert_int_equal(rd(0, 0x390), 0);
	testclock_by(&t.clk, 1000000);
	assert_int_equal(pending(0), -1);
	assert_int_equal(gclock_next(&t.clk.g), GCLOCK_NEVER);
	wr(0, 0x380, 100);
	wr(0, 0x380, 0); /* stops it */
	assert_int_equal(gclock_next(&t.clk.g), GCLOCK_NEVER);
}

static void timer_periodic(void **s)
{
	enable(0);
	wr(0, 0x3e0, 0x3); /* divide by 16: 640 ns */
	wr(0, 0x320, 0x20031);
	wr(0, 0x380, 10);
	for (unsigned i = 1; i <= 5; i++) {
		testclock_to(&t.clk, 6400 * i - 1);
		assert_int_equal(pending(0), -1);
		testclock_to(&t.clk, 6400 * i);
		assert_int_equal(take(0), 0x31);
		wr(0, 0xb0, 0);
	}
	/* Masked: it counts on, but nobody is woken. */
	wr(0, 0x320, 0x30031);
	assert_int_equal(gclock_next(&t.clk.g), GCLOCK_NEVER);
	testclock_to(&t.clk, 6400 * 10 + 640);
	assert_int_equal(rd(0, 0x390), 9);
	wr(0, 0x320, 0x20031);
	assert_int_equal(gclock_next(&t.clk.g), 6400 * 11);
	/* The clock jumps over several periods: one interrupt, and the phase stays. */
	t.clk.now = 6400 * 20 + 1;
	gclock_run(&t.clk.g, t.clk.now);
	assert_int_equal(take(0), 0x31);
	assert_int_equal(gclock_next(&t.clk.g), 6400 * 21);
	/* Twice the divider in the middle of a count: the rest takes twice as long. */
	testclock_to(&t.clk, 6400 * 20 + 640 * 4);
	wr(0, 0x3e0, 0x8); /* 32 */
	assert_int_equal(rd(0, 0x390), 6);
	assert_int_equal(gclock_next(&t.clk.g), 6400 * 20 + 640 * 4 + 6 * 1280);
}

static void timer_dividers(void **s)
{
	static const u8 code[8] = { 0xb, 0, 1, 2, 3, 8, 9, 0xa };

	enable(0);
	wr(0, 0x320, 0x31);
	for (unsigned i = 0; i < 8; i++) {
		wr(0, 0x3e0, code[i]);
		wr(0, 0x380, 1000);
		assert_int_equal(gclock_next(&t.clk.g) - t.clk.now, 40000ull << i);
	}
	wr(0, 0x380, 0xffffffff); /* the longest: no overflow */
	assert_int_equal(gclock_next(&t.clk.g) - t.clk.now, 0xffffffffull * 5120);
}

static void timer_deadline(void **s)
{
	enable_all(2);
	testclock_to(&t.clk, 1000);
	assert_int_equal(wrmsr(0, 0x6e0, 5000), 0); /* not in deadline mode: ignored */
	assert_int_equal(rdmsr(0, 0x6e0), 0);
	wr(0, 0x320, 0x40032);
	wrmsr(0, 0x6e0, 5000);
	assert_int_equal(rdmsr(0, 0x6e0), 5000);
	wr(0, 0x380, 77); /* ignored in this mode */
	assert_int_equal(rd(0, 0x380), 0);
	testclock_to(&t.clk, 4999);
	assert_int_equal(pending(0), -1);
	testclock_to(&t.clk, 5000);
	assert_int_equal(take(0), 0x32);
	wr(0, 0xb0, 0);
	assert_int_equal(rdmsr(0, 0x6e0), 0);
	wrmsr(0, 0x6e0, 4000); /* past: at once */
	assert_int_equal(take(0), 0x32);
	wr(0, 0xb0, 0);
	wrmsr(0, 0x6e0, 9000);
	wrmsr(0, 0x6e0, 0); /* disarms */
	assert_int_equal(gclock_next(&t.clk.g), GCLOCK_NEVER);
	/* The other CPU's TSC is 100000 ahead; then it jumps. */
	t.tsc_offset[1] = 100000;
	wr(1, 0x320, 0x40033);
	wrmsr(1, 0x6e0, 107000);
	assert_int_equal(gclock_next(&t.clk.g), 7000);
	t.tsc_offset[1] = 99000;
	lapics_tsc_changed(t.l, 1);
	assert_int_equal(gclock_next(&t.clk.g), 8000);
	/* Masked when the time comes: lost. */
	wr(1, 0x320, 0x50033);
	testclock_to(&t.clk, 10000);
	wr(1, 0x320, 0x40033);
	assert_int_equal(pending(1), -1);
	assert_int_equal(rdmsr(1, 0x6e0), 0);
	/* Leaving the mode disarms. */
	wrmsr(1, 0x6e0, 200000);
	wr(1, 0x320, 0x33);
	wr(1, 0x320, 0x40033);
	assert_int_equal(rdmsr(1, 0x6e0), 0);
}

static void software_disable(void **s)
{
	enable(0);
	wr(0, 0x320, 0x20031);
	wr(0, 0x380, 10);
	lapics_msi(t.l, 0xfee00000, 0x50);
	wr(0, 0xf0, 0xff);
	assert_int_equal(rd(0, 0x320), 0x30031);
	assert_int_equal(gclock_next(&t.clk.g), GCLOCK_NEVER);
	assert_int_equal(pending(0), 0x50); /* what was accepted stays */
	assert_int_equal(lapics_msi(t.l, 0xfee00000, 0x60), 0);
	assert_int_equal(lapics_msi(t.l, 0xfee00000, 0x400), 1); /* NMI passes */
	assert_int_equal(t.nmis[0], 1);
}

static void init_state(void **s)
{
	enable(1);
	wr(1, 0x320, 0x20031);
	wr(1, 0x380, 10);
	lapics_msi(t.l, 0xfee01000, 0x50);
	t.i.cpu_init(t.i.opaque, 1);
	assert_int_equal(pending(1), -1);
	assert_int_equal(rd(1, 0xf0), 0xff);
	assert_int_equal(rd(1, 0x20), 1u << 24);
	assert_int_equal(gclock_next(&t.clk.g), GCLOCK_NEVER);
}

/* SDM 10.12.5: every pair of modes. */
static void mode_transitions(void **s)
{
	const u64 off = 0xfee00000, x1 = 0xfee00800, x2 = 0xfee00c00;

	enable(1);
	assert_int_equal(wrmsr(1, 0x1b, 0xfee00400), -EPERM); /* EXTD without EN */
	assert_int_equal(wrmsr(1, 0x1b, 0xfed00800), -EPERM); /* relocation */
	assert_int_equal(wrmsr(1, 0x1b, x1 | 1), -EPERM);     /* reserved */
	assert_int_equal(wrmsr(1, 0x1b, x1 | BIT(60)), -EPERM);
	assert_int_equal(wrmsr(1, 0x1b, x1 | BIT(8)), 0);
	assert_int_equal(rdmsr(1, 0x1b), x1); /* BSP is not software's to set */
	assert_int_equal(wrmsr(1, 0x802, 0), -EPERM);
	assert_int_equal(wrmsr(1, 0x1b, x2), 0);
	assert_int_equal(rdmsr(1, 0x80f), 0x1ff); /* state survives */
	assert_int_equal(rdmsr(1, 0x80d), 1u << 1);
	assert_int_equal(rd(1, 0x20), 0xffffffff); /* the page is gone */
	assert_int_equal(wrmsr(1, 0x1b, x1), -EPERM);
	assert_int_equal(wrmsr(1, 0x1b, off), 0);
	assert_int_equal(wrmsr(1, 0x1b, x2), -EPERM);
	assert_int_equal(lapics_msi(t.l, 0xfee01000, 0x400), 0); /* deaf when disabled */
	assert_int_equal(wrmsr(1, 0x1b, x1), 0);
	assert_int_equal(rd(1, 0xf0), 0xff); /* state is lost */
	assert_int_equal(wrmsr(1, 0x1b, off), 0);
	assert_int_equal(wrmsr(1, 0x1b, off), 0);
}

static void x2apic_registers(void **s)
{
	u64 v;

	assert_int_equal(rdmsr(5, 0x802), 300);
	assert_int_equal(rdmsr(5, 0x80d), 18u << 16 | 1u << 12);
	assert_int_equal(wrmsr(0, 0x80f, 0x1ff), 0);
	assert_int_equal(wrmsr(0, 0x80f, 0x100000001ff), -EPERM);
	assert_int_equal(wrmsr(0, 0x808, 0x100), -EPERM);
	assert_int_equal(wrmsr(0, 0x80b, 1), -EPERM);
	assert_int_equal(wrmsr(0, 0x80b, 0), 0);
	assert_int_equal(wrmsr(0, 0x828, 1), -EPERM);
	assert_int_equal(wrmsr(0, 0x802, 0), -EPERM);
	assert_int_equal(wrmsr(0, 0x80d, 0), -EPERM);
	assert_int_equal(wrmsr(0, 0x80e, 0), -EPERM);
	assert_int_equal(wrmsr(0, 0x831, 0), -EPERM);
	assert_int_equal(wrmsr(0, 0x839, 0), -EPERM);
	assert_int_equal(wrmsr(0, 0x83f, 0x100), -EPERM);
	assert_int_equal(wrmsr(0, 0x832, 0x80000), -EPERM);
	assert_int_equal(wrmsr(0, 0x832, 0x20040), 0);
	assert_int_equal(wrmsr(0, 0x830, BIT(20)), -EPERM);
	assert_int_equal(wrmsr(0, 0x840, 0), -EPERM);
	assert_int_equal(wrmsr(0, 0x8ff, 0), -EPERM);
	v = 1;
	assert_int_equal(t.i.msr_read(t.i.opaque, 0, 0x80b, &v), -EPERM);
	assert_int_equal(t.i.msr_read(t.i.opaque, 0, 0x83f, &v), -EPERM);
	assert_int_equal(t.i.msr_read(t.i.opaque, 0, 0x80e, &v), -EPERM);
	assert_int_equal(t.i.msr_read(t.i.opaque, 0, 0x82f, &v), -EPERM);
	assert_int_equal(v, 1); /* untouched by failures */
	wrmsr(0, 0x83f, 0x77);	/* self IPI */
	assert_int_equal(take(0), 0x77);
	wrmsr(0, 0x83f, 5);
	wrmsr(0, 0x828, 0);
	assert_int_equal(rdmsr(0, 0x828), 0x20);
}

static void x2apic_destinations(void **s)
{
	for (unsigned i = 0; i < 6; i++)
		wrmsr(i, 0x80f, 0x1ff);
	wrmsr(0, 0x830, 300ull << 32 | 0x41); /* physical, beyond 8 bits */
	assert_int_equal(take(5), 0x41);
	assert_int_equal(rdmsr(0, 0x830), 300ull << 32 | 0x41);
	wrmsr(0, 0x830, 255ull << 32 | 0x42); /* no broadcast to a 32-bit sender */
	assert_int_equal(take(3), 0x42);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(pending(i), -1);
	wrmsr(0, 0x830, 0xffffffffull << 32 | 0x53);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(take(i), 0x53);
	/* Logical: cluster 16 holds id 256 (bit 0), cluster 15 id 255 (bit 15), 0 ids 0 and 1. */
	wrmsr(0, 0x830, (16ull << 16 | 0xffff) << 32 | 0x864);
	assert_int_equal(take(4), 0x64);
	wrmsr(0, 0x830, (0ull << 16 | 3) << 32 | 0x865);
	assert_int_equal(take(0), 0x65);
	assert_int_equal(take(1), 0x65);
	wrmsr(0, 0x830, (0xfffe0001ull) << 32 | 0x866); /* a cluster that nobody is in */
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(pending(i), -1);
	/* Extended destination of an MSI: id 300 = 0x12c. */
	assert_int_equal(lapics_msi(t.l, 0xfee00000 | 0x2c << 12 | 1 << 5, 0x70), 1);
	assert_int_equal(take(5), 0x70);
	assert_int_equal(lapics_msi(t.l, 0xfee00000 | 0xff << 12, 0x71), 1);
	assert_int_equal(take(3), 0x71);
	assert_int_equal(lapics_msi(t.l, 0xfeeffff0, 0x71), 0);
}

static void mmio_oddities(void **s)
{
	enable(0);
	assert_int_equal(lapics_bus_ops.read(t.l, 0x32, 1, 0) & 0xff, 5); /* a byte of VERSION */
	assert_int_equal(lapics_bus_ops.read(t.l, 0x34, 4, 0), 0);
	assert_int_equal(lapics_bus_ops.read(t.l, 0xff8, 8, 0), 0);
	assert_int_equal(lapics_bus_ops.read(t.l, 0x20, 4, 99), UINT64_MAX);
	lapics_bus_ops.write(t.l, 0x80, 1, 0x77, 0); /* not a register write */
	lapics_bus_ops.write(t.l, 0x84, 4, 0x77, 0);
	lapics_bus_ops.write(t.l, 0x80, 4, 0x77, 99);
	assert_int_equal(rd(0, 0x80), 0);
	t.i.accept(t.i.opaque, 0, 300); /* nothing of the kind is pending */
	t.i.accept(t.i.opaque, 0, -1);
	assert_int_equal(rd(0, 0xa0), 0);
}

struct sum {
	u64 h;
	size_t bytes;
};

static void add(void *o, const void *p, size_t n)
{
	struct sum *s = o;

	for (size_t i = 0; i < n; i++)
		s->h = (s->h ^ ((const u8 *)p)[i]) * 0x100000001b3ull;
	s->bytes += n;
}

static u64 digest(void)
{
	struct device d = lapics_device(t.l);
	struct sum s = { 0 };

	device_digest(&d, add, &s);
	return s.h;
}

static void device_table(void **s)
{
	struct device d = lapics_device(t.l);
	u64 before = digest();

	enable(3);
	wr(3, 0x320, 0x20031);
	wr(3, 0x380, 10);
	lapics_msi(t.l, 0xfee03000, 0x90);
	assert_true(digest() != before);
	/* As after a restored snapshot: the timers and the signal come back from st. */
	gclock_fini(&t.clk.g);
	t.irqs[3] = 0;
	device_resume(&d);
	assert_int_equal(gclock_next(&t.clk.g), 10 * 80);
	assert_int_equal(t.irqs[3], 1);
	device_reset(&d);
	assert_int_equal(digest(), before);
	assert_int_equal(pending(3), -1);
}

static void bad_configurations(void **s)
{
	static const u32 twice[2] = { 4, 4 }, big[1] = { 40000 };
	struct lapics_cfg cfg = { .ncpus = 2, .apic_ids = twice, .clk = &t.clk.g };
	struct lapics *l = NULL;
	struct err e;

	assert_int_equal(lapics_new(&cfg, &e, &l), -EINVAL);
	assert_non_null(strstr(e.msg, "twice"));
	cfg.ncpus = 1;
	cfg.apic_ids = big;
	assert_int_equal(lapics_new(&cfg, &e, &l), -EINVAL);
	cfg.ncpus = 0;
	assert_int_equal(lapics_new(&cfg, &e, &l), -EINVAL);
	assert_null(l);
	lapics_free(NULL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define X(f) cmocka_unit_test_setup_teardown(f, setup_x2, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(power_on_values),	T(priorities),		T(cr8_is_tpr),
		T(level_eoi_broadcast), T(ipi_modes),		T(logical_destinations),
		T(lowest_priority),	T(illegal_vectors),	T(timer_oneshot),
		T(timer_periodic),	T(timer_dividers),	T(timer_deadline),
		T(software_disable),	T(init_state),		T(mode_transitions),
		X(x2apic_registers),	X(x2apic_destinations), T(mmio_oddities),
		T(device_table),	T(bad_configurations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
