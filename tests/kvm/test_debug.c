// SPDX-License-Identifier: Apache-2.0
/*
 * test_debug.c - breakpoints, watched data and single steps under KVM
 *
 * Offsets are those of the instructions of guest_debug in guests.S.
 */
#include "rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

GUEST(debug)

enum { AT_START = 0, AT_INT3 = 2, AT_STORE = 4, AT_AFTER = 9, AT_LOOP = 11 };

static void make(struct rig *r)
{
	struct err e;

	if (rig_new(r, 2, &e) < 0)
		fail_msg("%s", e.msg);
	load_debug(r);
	rig_start(r, 0);
}

static void set(struct rig *r, const struct engine_debug *d)
{
	assert_int_equal(engine_set_debug(r->e, d), 0);
}

static u64 rip(struct rig *r)
{
	return engine_cpu(r->e, 0)->rip - RIG_CODE;
}

static void go_to(struct rig *r, u64 off)
{
	engine_cpu(r->e, 0)->rip = RIG_CODE + off;
	engine_cpu_changed(r->e, 0);
}

static struct engine_debug_event event(struct rig *r)
{
	return r->e.ops->debug_event(r->e.o);
}

/* What QEMU's emulated SVM does not do: it also ignores the DR7 with which a guest is entered. */
static void unseen(struct rig *r, const char *what)
{
	printf("skip: this KVM does not see %s, as on QEMU's emulated SVM; run on hardware\n",
	       what);
	rig_free(r);
}

static void test_int3(void **state)
{
	struct engine_debug d = { .int3 = true, .step = -1 };
	struct rig r;

	if (!rig_is_real())
		return;
	make(&r);
	set(&r, &d);
	enum engine_exit why = rig_run(&r, NULL, NULL);

	/* QEMU takes INT3 for a software interrupt, whose intercept KVM does not use; then no IDT. */
	if (why == ENGINE_TRIPLE) {
		unseen(&r, "INT3");
		return;
	}
	assert_int_equal(why, ENGINE_DEBUG);
	assert_int_equal(event(&r).what, ENGINE_ON_INT3);
	assert_int_equal(event(&r).cpu, 0);
	assert_int_equal(rip(&r), AT_INT3);
	/* It stands before the instruction: to go on without a change is to meet it again. */
	assert_int_equal(rig_run(&r, NULL, NULL), ENGINE_DEBUG);
	assert_int_equal(rip(&r), AT_INT3);
	rig_free(&r);
}

static void test_exec(void **state)
{
	struct engine_debug d = { .n = 2,
				  .at = { { ENGINE_BREAK_EXEC, 0x5000, 1 },
					  { ENGINE_BREAK_EXEC, RIG_CODE + AT_AFTER, 1 } },
				  .step = -1 };
	struct rig r;

	make(&r);
	go_to(&r, AT_STORE);
	set(&r, &d);
	enum engine_exit why = rig_run(&r, NULL, NULL);

	if (why == ENGINE_STOPPED && r.late) {
		unseen(&r, "execution breakpoints");
		return;
	}
	assert_int_equal(why, ENGINE_DEBUG);
	assert_int_equal(event(&r).what, ENGINE_ON_BREAK);
	assert_int_equal(event(&r).index, 1);
	assert_int_equal(rip(&r), AT_AFTER);
	rig_free(&r);
}

static void test_watch(void **state)
{
	struct engine_debug d = { .n = 1,
				  .at = { { ENGINE_BREAK_WRITE, RIG_DATA, 4 } },
				  .step = -1 };
	struct rig r;

	if (!rig_is_real())
		return;
	make(&r);
	go_to(&r, AT_STORE);
	engine_cpu(r.e, 0)->r[X86_RAX] = 0x1234;
	engine_cpu_changed(r.e, 0);
	set(&r, &d);
	enum engine_exit why = rig_run(&r, NULL, NULL);

	if (why == ENGINE_STOPPED && r.late) {
		unseen(&r, "data breakpoints");
		return;
	}
	assert_int_equal(why, ENGINE_DEBUG);
	assert_int_equal(event(&r).what, ENGINE_ON_BREAK);
	assert_int_equal(event(&r).index, 0);
	assert_int_equal(rip(&r), AT_AFTER); /* behind the store */
	assert_int_equal(rig_peek(&r, RIG_DATA), 0x1234);
	rig_free(&r);
}

static void test_step(void **state)
{
	static const u64 path[] = { 1, 2 };
	struct engine_debug d = { .step = 0 }, off = { .step = -1 };
	struct rig r;

	if (!rig_is_real())
		return;
	make(&r);
	set(&r, &d);
	for (unsigned i = 0; i < ARRAY_LEN(path); i++) {
		assert_int_equal(rig_run(&r, NULL, NULL), ENGINE_DEBUG);
		assert_int_equal(event(&r).what, ENGINE_ON_STEP);
		assert_int_equal(event(&r).cpu, 0);
		assert_int_equal(rip(&r), path[i]);
	}
	go_to(&r, AT_STORE);
	set(&r, &d);
	assert_int_equal(rig_run(&r, NULL, NULL), ENGINE_DEBUG);
	assert_int_equal(rip(&r), AT_AFTER);
	/* And no more of it. */
	set(&r, &off);
	engine_kick(r.e);
	assert_int_equal(rig_run(&r, rig_stop, &r), ENGINE_STOPPED);
	rig_free(&r);
}

static void test_bad(void **state)
{
	struct engine_debug d = { .n = 1, .at = { { ENGINE_BREAK_WRITE, 0x1001, 4 } }, .step = -1 };
	struct rig r;

	make(&r);
	assert_int_equal(engine_set_debug(r.e, &d), -EINVAL);
	d.at[0].len = 3;
	assert_int_equal(engine_set_debug(r.e, &d), -EINVAL);
	d.n = ENGINE_BREAKS_MAX + 1;
	assert_int_equal(engine_set_debug(r.e, &d), -ENOSPC);
	d = (struct engine_debug){ .step = 2 };
	assert_int_equal(engine_set_debug(r.e, &d), -EINVAL);
	rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_int3),  cmocka_unit_test(test_exec),
		cmocka_unit_test(test_watch), cmocka_unit_test(test_step),
		cmocka_unit_test(test_bad),
	};

	return rig_has_kvm() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
