// SPDX-License-Identifier: Apache-2.0
/*
 * test_irq.c - from a pin of the board's I/O APIC to a vCPU's handler, and the completion back
 */
#include "rig.h"

#include "base/gclock.h"
#include "dev/ioapic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

GUEST(irq)
GUEST(irq_x2)
extern const u8 guest_irq_handler[], guest_irq_x2_handler[];

#define VECTOR 0x40u
#define TIMES 3u
#define RTE_LEVEL BIT(15)
#define LONG_NS 200000000u /* in which nothing more must happen */

/* One I/O APIC on the rig's engine, and what the test does when a handler reports. */
static struct {
	struct rig r;
	struct ioapic *io;
	unsigned pin, seen, cpu, to;
	bool level;
	struct gtimer timer;
} t;

static unsigned on_msi(void *o, u64 addr, u32 data)
{
	return kvm_msi(t.r.kvm, addr, data);
}

static void on_route(void *o, unsigned pin, u64 addr, u32 data)
{
	kvm_route(t.r.kvm, pin, addr, data);
}

static void on_timer(void *opaque)
{
	engine_stop(t.r.e, ENGINE_STOPPED);
}

/* The guest's word that it is ready, then its handler's, before the EOI. */
static void on_report(struct rig *r, u32 val)
{
	if (val != VECTOR) {
		/* A CPU is ready: what comes now is kept by its local APIC, but not by another's. */
		if (r->port[r->n_port - 1].cpu == t.to)
			ioapic_set_irq(t.io, t.pin, true);
		return;
	}
	t.seen++;
	t.cpu = r->port[r->n_port - 1].cpu;
	if (!t.level && t.seen < TIMES) { /* the next edge */
		ioapic_set_irq(t.io, t.pin, false);
		ioapic_set_irq(t.io, t.pin, true);
	}
	if (t.seen < TIMES) /* a level stays, and comes again after the EOI */
		return;
	ioapic_set_irq(t.io, t.pin, false);
	gtimer_arm(&t.timer, gclock_now(engine_gclock(r->e)) + LONG_NS);
}

static void write_reg(u32 index, u32 val)
{
	ioapic_bus_ops.write(t.io, 0x00, 4, index, 0);
	ioapic_bus_ops.write(t.io, 0x10, 4, val, 0);
}

/* @to: the vCPU whose local APIC is @dest. */
static void set_up(unsigned pin, bool level, u32 dest, unsigned to)
{
	struct ioapic_cfg ic = { .pins = 64, .msg = on_msi, .route = on_route };
	u64 rte = VECTOR | (level ? RTE_LEVEL : 0) | (u64)(dest & 0xff) << 56 |
		  (u64)(dest >> 8 & 0x7f) << 49;

	assert_int_equal(ioapic_new(&ic, &t.io), 0);
	kvm_set_eoi(t.r.kvm, ioapic_eoi, t.io);
	t.pin = pin;
	t.to = to;
	t.level = level;
	t.seen = 0;
	t.r.on_report = on_report;
	gtimer_init(&t.timer, engine_gclock(t.r.e), on_timer, NULL);
	write_reg(0x11 + 2 * pin, (u32)(rte >> 32));
	write_reg(0x10 + 2 * pin, (u32)rte);
}

static void run_until_silence(void)
{
	assert_int_equal(rig_run(&t.r, NULL, NULL), ENGINE_STOPPED);
	assert_int_equal(t.seen, TIMES);
	assert_int_equal(rig_peek(&t.r, RIG_DATA), TIMES);
	gtimer_cancel(&t.timer);
	ioapic_free(t.io);
	rig_free(&t.r);
}

static void one_pin(unsigned pin, bool level)
{
	struct err e;

	if (rig_new(&t.r, 2, &e) < 0)
		fail_msg("%s", e.msg);
	load_irq(&t.r);
	rig_gate(&t.r, VECTOR, (size_t)(guest_irq_handler - guest_irq));
	set_up(pin, level, 0, 0);
	run_until_silence();
	assert_int_equal(t.cpu, 0);
}

static void test_edge(void **state)
{
	one_pin(4, false);
}

/* A pin that the kernel's own I/O APIC would not have. The EOI must come back to see the level again. */
static void test_level(void **state)
{
	one_pin(40, true);
}

/* A destination that eight bits do not hold. */
static void test_apic_id_300(void **state)
{
	static const u32 ids[] = { 0, 300 };
	struct err e;

	if (rig_new_x2apic(&t.r, 2, ids, &e) < 0)
		fail_msg("%s", e.msg);
	load_irq_x2(&t.r);
	rig_gate(&t.r, VECTOR, (size_t)(guest_irq_x2_handler - guest_irq_x2));
	rig_start(&t.r, 1);
	set_up(33, true, 300, 1);
	run_until_silence();
	assert_int_equal(t.cpu, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edge),
		cmocka_unit_test(test_level),
		cmocka_unit_test(test_apic_id_300),
	};

	return rig_has_kvm() && rig_is_real() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
