// SPDX-License-Identifier: Apache-2.0
/*
 * test_engine.c - the KVM engine with guests of a few instructions: registers, accesses, time, memory
 */
#include "rig.h"

#include "base/gclock.h"
#include "base/hosttime.h"
#include "cpu/kvm/probe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

GUEST(regs)
GUEST(pio)
GUEST(mmio)
GUEST(spin)
GUEST(vector)
GUEST(wide)
GUEST(triple)
GUEST(off)
GUEST(dirty)
GUEST(notify)

static void make(struct rig *r, unsigned n)
{
	struct err e;

	if (rig_new(r, n, &e) < 0)
		fail_msg("%s", e.msg);
}

static void test_probe(void **state)
{
	struct kvm_probe p;
	u64 begun = host_ns();

	kvm_probe(&p);
	assert_true(host_ns() - begun < 1000000000u);
	assert_true(p.verdict == KVM_VERDICT_GOOD || p.verdict == KVM_VERDICT_SLOW);
	assert_int_equal(p.verdict == KVM_VERDICT_GOOD, p.rate >= KVM_HARDWARE_RATE);
	assert_true(strlen(p.words) > 10 && !strchr(p.words, '\n'));
	print_message("%s\n", p.words);
}

static void test_registers(void **state)
{
	struct x86_cpu *c;
	struct rig r;

	make(&r, 1);
	load_regs(&r);
	assert_int_equal(rig_run(&r, NULL, NULL), ENGINE_STOPPED);
	c = engine_cpu(r.e, 0);
	assert_int_equal(c->r[X86_RBX], 0x12345678);
	assert_int_equal(c->r[X86_RCX], 0x9abcdef0);
	assert_int_equal(c->r[X86_RSI], 0x0fedcba9);
	assert_int_equal(c->r[X86_RDI], 0x87654321);
	assert_int_equal(c->r[X86_RBP], 0x00c0ffee);
	assert_int_equal(c->r[X86_RSP], RIG_STACK);
	assert_true(x86_get_rflags(c) & X86_CF);
	assert_int_equal(c->seg[X86_CS].sel, 8);
	assert_int_equal(c->seg[X86_CS].limit, 0xffffffff);
	assert_int_equal(c->cpl, 0);
	/* The vCPU stands behind its OUT: the access is complete. */
	assert_int_equal(r.n_port, 1);
	c->r[X86_RBX] = 0xfeedface;
	c->cr2 = 0x5000;
	engine_cpu_changed(r.e, 0);
	r.n_port = 0;
	assert_int_equal(rig_run(&r, NULL, NULL), ENGINE_STOPPED);
	assert_int_equal(r.n_port, 3);
	assert_int_equal(r.port[0].val, 0xfeedface);
	assert_int_equal(r.port[1].val, 0x5000);
	rig_free(&r);
}

static void test_vectors(void **state)
{
	struct x86_cpu *c;
	struct rig r;
	u32 low;

	make(&r, 1);
	load_vector(&r);
	if (!rig_runs(&r, ENGINE_STOPPED))
		return;
	c = engine_cpu(r.e, 0);
	memcpy(&low, c->x.xmm[3], sizeof(low));
	assert_int_equal(low, 0x600d);
	/* 1.0 on the x87 stack. */
	assert_int_equal(c->x.st[0][9], 0x3f);
	assert_int_equal(c->x.st[0][8], 0xff);
	assert_int_equal(c->x.st[0][7], 0x80);
	low = 0xbeef;
	memcpy(c->x.xmm[3], &low, sizeof(low));
	engine_cpu_changed(r.e, 0);
	r.n_port = 0;
	assert_int_equal(rig_run(&r, NULL, NULL), ENGINE_STOPPED);
	assert_int_equal(r.port[0].val, 0xbeef);
	rig_free(&r);
}

static void test_pio(void **state)
{
	struct rig r;

	make(&r, 1);
	load_pio(&r);
	assert_int_equal(rig_run(&r, NULL, NULL), ENGINE_STOPPED);
	assert_int_equal(r.port[0].val, 0xd4);
	assert_int_equal(r.port[0].size, 1);
	assert_int_equal(r.port[1].val, 0xc3d4);
	assert_int_equal(r.port[1].size, 2);
	assert_int_equal(r.port[2].val, 0xa1b2c3d4);
	assert_int_equal(r.port[2].size, 4);
	assert_int_equal(rig_peek(&r, RIG_DATA), 0x11);
	assert_int_equal(rig_peek(&r, RIG_DATA + 4), 0x2211);
	assert_int_equal(rig_peek(&r, RIG_DATA + 8), RIG_IN);
	assert_int_equal(rig_peek(&r, RIG_DATA + 12), 0xffffffff);
	/* REP OUTS: what DATA held; REP INS: three words. */
	assert_int_equal(r.n_port, 3 + 4 + 1);
	assert_int_equal(r.port[5].val, RIG_IN);
	assert_int_equal(rig_peek(&r, RIG_DATA + 32), 0x22112211);
	assert_int_equal(rig_peek(&r, RIG_DATA + 36), 0x2211);
	rig_free(&r);
}

static void test_mmio(void **state)
{
	struct rig r;

	make(&r, 1);
	load_mmio(&r);
	assert_int_equal(rig_run(&r, NULL, NULL), ENGINE_STOPPED);
	assert_int_equal(r.n_mmio, 3);
	assert_int_equal(r.mmio[0].val, 0xd4);
	assert_int_equal(r.mmio[0].size, 1);
	assert_int_equal(r.mmio[1].val, 0xc3d4);
	assert_int_equal(r.mmio[2].val, 0xa1b2c3d4);
	assert_int_equal(rig_peek(&r, RIG_DATA), 0x11);
	assert_int_equal(rig_peek(&r, RIG_DATA + 4), 0x2211);
	assert_int_equal(rig_peek(&r, RIG_DATA + 8), RIG_IN);
	assert_int_equal(rig_peek(&r, RIG_DATA + 12), 0xffffffff);
	rig_free(&r);
}

static void test_wide(void **state)
{
	struct rig r;

	make(&r, 1);
	load_wide(&r);
	if (!rig_runs(&r, ENGINE_STOPPED))
		return;
	assert_int_equal(r.n_mmio, 1);
	assert_int_equal(r.mmio[0].size, 8);
	assert_int_equal(r.mmio[0].val, 0xa1b2c3d4);
	rig_free(&r);
}

static void test_triple(void **state)
{
	struct rig r;

	make(&r, 1);
	load_triple(&r);
	if (rig_runs(&r, ENGINE_TRIPLE))
		rig_free(&r);
}

static void test_off(void **state)
{
	struct rig r;

	make(&r, 1);
	load_off(&r);
	assert_int_equal(rig_run(&r, NULL, NULL), ENGINE_POWEROFF);
	assert_int_equal(rig_peek(&r, RIG_DATA), 0);
	rig_free(&r);
}

/* --- dirty pages ------------------------------------------------------------------------------ */

static void test_dirty(void **state)
{
	u64 map[RIG_MEM / 4096 / 64];
	struct rig r;
	struct err e;

	make(&r, 1);
	load_dirty(&r);
	assert_int_equal(kvm_dirty_get(r.kvm, 0, map, ARRAY_LEN(map), &e), -22);
	assert_int_equal(kvm_dirty_log(r.kvm, true, &e), 0);
	assert_int_equal(kvm_dirty_log(r.kvm, true, &e), 0);
	assert_int_equal(rig_run(&r, NULL, NULL), ENGINE_STOPPED);
	assert_int_equal(kvm_dirty_get(r.kvm, 1, map, ARRAY_LEN(map), &e), -22);
	assert_int_equal(kvm_dirty_get(r.kvm, 0, map, 1, &e), -22);
	memset(map, 0, sizeof(map));
	assert_int_equal(kvm_dirty_get(r.kvm, 0, map, ARRAY_LEN(map), &e), 0);
	assert_true((map[0] & BIT(0x20)) && (map[0] & BIT(0x23)) && (map[1] & BIT(0)));
	assert_false(map[0] & BIT(0x21));
	/* To read is to clear. */
	assert_int_equal(rig_run(&r, NULL, NULL), ENGINE_STOPPED);
	assert_int_equal(kvm_dirty_get(r.kvm, 0, map, ARRAY_LEN(map), &e), 0);
	assert_true(map[0] & BIT(0x23));
	assert_false((map[0] & BIT(0x20)) || (map[1] & BIT(0)));
	assert_int_equal(kvm_dirty_log(r.kvm, false, &e), 0);
	assert_int_equal(kvm_dirty_log(r.kvm, false, &e), 0);
	assert_int_equal(kvm_dirty_get(r.kvm, 0, map, ARRAY_LEN(map), &e), -22);
	rig_free(&r);
}

/* --- notifications ---------------------------------------------------------------------------- */

static unsigned notified;

static void on_notify(void *opaque, u32 val)
{
	assert_int_equal(val, 1);
	notified++;
	rig_stop(opaque);
}

/* The VM's thread hears of value 1, the bus of value 2, and the guest does not wait. */
static void test_notify(void **state)
{
	struct rig r;

	make(&r, 1);
	load_notify(&r);
	notified = 0;
	assert_int_equal(kvm_add_notify(r.kvm, RIG_MMIO + 0x50, 1, on_notify, &r), 0);
	assert_int_equal(rig_run(&r, NULL, NULL), ENGINE_STOPPED);
	assert_int_equal(notified, 1);
	assert_true(r.n_mmio <= 1);
	if (r.n_mmio)
		assert_int_equal(r.mmio[0].val, 2);
	rig_free(&r);
}

/* --- time ------------------------------------------------------------------------------------- */

static void on_timer(void *opaque)
{
	rig_stop(opaque);
}

static void test_time(void **state)
{
	struct gtimer t;
	struct rig r;
	u64 host, at;

	make(&r, 2);
	load_spin(&r);
	gtimer_init(&t, engine_gclock(r.e), on_timer, &r);
	assert_int_equal(gclock_now(engine_gclock(r.e)), 0);
	gtimer_arm(&t, 20000000);
	host = host_ns();
	assert_int_equal(rig_run(&r, NULL, NULL), ENGINE_STOPPED);
	host = host_ns() - host;
	at = gclock_now(engine_gclock(r.e));
	assert_true(at >= 20000000 && at <= host);
	/* It stands while nobody runs the guest. */
	usleep(30000);
	assert_int_equal(gclock_now(engine_gclock(r.e)), at);
	gtimer_arm(&t, at + 10000000);
	host = host_ns();
	assert_int_equal(rig_run(&r, NULL, NULL), ENGINE_STOPPED);
	host = host_ns() - host;
	assert_true(gclock_now(engine_gclock(r.e)) - at >= 10000000);
	assert_true(gclock_now(engine_gclock(r.e)) - at <= host);
	assert_true(rig_peek(&r, RIG_DATA) > 0);
	rig_free(&r);
}

static unsigned named;

static void count_line(void *l, const char *name, u64 val)
{
	assert_true(name[0] != 0 && strlen(name) < 48);
	if (strcmp(name, "kvm_exit_io") == 0)
		assert_true(val >= 1);
	named++;
}

static void test_stats(void **state)
{
	struct rig r;

	make(&r, 1);
	load_off(&r);
	assert_int_equal(rig_run(&r, NULL, NULL), ENGINE_POWEROFF);
	named = 0;
	r.e.ops->stats(r.e.o, count_line, NULL);
	assert_true(named >= 8);
	rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_probe),	cmocka_unit_test(test_registers),
		cmocka_unit_test(test_pio),	cmocka_unit_test(test_mmio),
		cmocka_unit_test(test_vectors), cmocka_unit_test(test_wide),
		cmocka_unit_test(test_triple),	cmocka_unit_test(test_off),
		cmocka_unit_test(test_dirty),	cmocka_unit_test(test_notify),
		cmocka_unit_test(test_time),	cmocka_unit_test(test_stats),
	};

	return rig_has_kvm() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
