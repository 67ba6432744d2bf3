/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_rtc.c - MC146818A by its registers
 */
#include "dev/rtc.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "testclock.h"

#define SEC 1000000000ull
/* 2024-02-28 23:59:58, a Wednesday before a leap day */
#define BASE 1709164798

static struct {
	struct testclock clk;
	struct rtc *r;
	bool line;
	unsigned edges;
} t;

static void on_irq(void *o, unsigned input, bool level)
{
	t.edges += level && !t.line;
	t.line = level;
}

static u8 rd(u8 reg)
{
	rtc_bus_ops.write(t.r, 0, 1, reg, 0);
	return (u8)rtc_bus_ops.read(t.r, 1, 1, 0);
}

static void wr(u8 reg, u8 v)
{
	rtc_bus_ops.write(t.r, 0, 1, reg, 0);
	rtc_bus_ops.write(t.r, 1, 1, v, 0);
}

static void start(s64 base)
{
	struct rtc_cfg cfg = { .clk = &t.clk.g, .irq = { on_irq, NULL, 8 }, .base = base };

	memset(&t, 0, sizeof(t));
	testclock_init(&t.clk);
	assert_int_equal(rtc_new(&cfg, &t.r), 0);
}

static int setup(void **s)
{
	start(BASE);
	return 0;
}

static int teardown(void **s)
{
	rtc_free(t.r);
	gclock_fini(&t.clk.g);
	return 0;
}

static void expect(u8 century, u8 year, u8 mon, u8 day, u8 wday, u8 h, u8 m, u8 s)
{
	assert_int_equal(rd(0x32), century);
	assert_int_equal(rd(9), year);
	assert_int_equal(rd(8), mon);
	assert_int_equal(rd(7), day);
	assert_int_equal(rd(6), wday);
	assert_int_equal(rd(4), h);
	assert_int_equal(rd(2), m);
	assert_int_equal(rd(0), s);
}

static void reads_time(void **s)
{
	assert_int_equal(rd(0x0a), 0x26);
	assert_int_equal(rd(0x0b), 0x02);
	assert_int_equal(rd(0x0d), 0x80);
	expect(0x20, 0x24, 0x02, 0x28, 4, 0x23, 0x59, 0x58);
	testclock_by(&t.clk, 2 * SEC - 1);
	expect(0x20, 0x24, 0x02, 0x28, 4, 0x23, 0x59, 0x59);
	testclock_by(&t.clk, 1);
	expect(0x20, 0x24, 0x02, 0x29, 5, 0, 0, 0);
	wr(0x0b, 0x06); /* binary: the same time */
	expect(20, 24, 2, 29, 5, 0, 0, 0);
	testclock_by(&t.clk, 366ull * 86400 * SEC);
	expect(20, 25, 3, 1, 7, 0, 0, 0);
}

static void twelve_hours(void **s)
{
	wr(0x0b, 0x00);
	assert_int_equal(rd(4), 0x91); /* 11 PM */
	testclock_by(&t.clk, 2 * SEC);
	assert_int_equal(rd(4), 0x12); /* midnight */
	testclock_by(&t.clk, 3600 * SEC);
	assert_int_equal(rd(4), 0x01);
	testclock_by(&t.clk, 11 * 3600 * SEC);
	assert_int_equal(rd(4), 0x92); /* noon */
	wr(4, 0x87);
	wr(0x0b, 0x02);
	assert_int_equal(rd(4), 0x19);
	wr(0x0b, 0x04);
	assert_int_equal(rd(4), 0x87);
	wr(4, 12);
	wr(0x0b, 0x06);
	assert_int_equal(rd(4), 0);
}

static void update_in_progress(void **s)
{
	assert_int_equal(rd(0x0a) & 0x80, 0);
	testclock_by(&t.clk, SEC - 244001);
	assert_int_equal(rd(0x0a) & 0x80, 0);
	testclock_by(&t.clk, 1);
	assert_int_equal(rd(0x0a) & 0x80, 0x80);
	wr(0x0b, 0x82); /* held: no update, no announcement */
	assert_int_equal(rd(0x0a) & 0x80, 0);
	wr(0x0b, 0x02);
	testclock_by(&t.clk, 244000);
	assert_int_equal(rd(0x0a) & 0x80, 0);
	assert_int_equal(rd(0), 0x59);
}

static void sets_time(void **s)
{
	testclock_by(&t.clk, SEC / 4);
	wr(0x0b, 0x82);
	testclock_by(&t.clk, 5 * SEC);
	assert_int_equal(rd(0), 0x58); /* held */
	wr(0x32, 0x19);
	wr(9, 0x99);
	wr(8, 0x12);
	wr(7, 0x31);
	wr(4, 0x23);
	wr(2, 0x59);
	wr(0, 0x59);
	wr(0x0b, 0x02);
	expect(0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59);
	testclock_by(&t.clk, 3 * SEC / 4 - 1); /* the divider chain ran on */
	assert_int_equal(rd(0), 0x59);
	testclock_by(&t.clk, 1);
	expect(0x20, 0x00, 0x01, 0x01, 7, 0, 0, 0);
	/* As Linux does: the divider reset; the first update comes half a second after. */
	wr(0x0b, 0x82);
	wr(0x0a, 0x76);
	wr(0, 0x10);
	wr(0x0b, 0x02);
	testclock_by(&t.clk, 10 * SEC);
	assert_int_equal(rd(0), 0x10);
	wr(0x0a, 0x26);
	testclock_by(&t.clk, SEC / 2 - 1);
	assert_int_equal(rd(0), 0x10);
	testclock_by(&t.clk, 1);
	assert_int_equal(rd(0), 0x11);
	/* Without holding: one register at a time, the second goes on. */
	wr(4, 0x12);
	assert_int_equal(rd(4), 0x12);
	assert_int_equal(rd(0), 0x11);
	/* Nonsense gives some time, not a crash. */
	for (u8 r = 0; r < 10; r++)
		wr(r, 0xff);
	wr(0x32, 0xff);
	rd(9);
}

static void update_interrupt(void **s)
{
	assert_int_equal(gclock_next(&t.clk.g), GCLOCK_NEVER);
	wr(0x0b, 0x12);
	testclock_by(&t.clk, SEC - 1);
	assert_false(t.line);
	testclock_by(&t.clk, 1);
	assert_true(t.line);
	testclock_by(&t.clk, 5 * SEC); /* one until it is read */
	assert_int_equal(t.edges, 1);
	assert_int_equal(rd(0x0c) & 0x90, 0x90);
	assert_false(t.line);
	assert_int_equal(rd(0x0c), 0);
	testclock_by(&t.clk, SEC);
	assert_int_equal(t.edges, 2);
	wr(0x0b, 0x92); /* SET clears UIE */
	assert_int_equal(rd(0x0b), 0x82);
	rd(0x0c);
	testclock_by(&t.clk, 5 * SEC);
	assert_int_equal(t.edges, 2);
	assert_int_equal(gclock_next(&t.clk.g), GCLOCK_NEVER);
}

static void polled_flags(void **s)
{
	rd(0x0c);
	testclock_by(&t.clk, SEC);
	assert_int_equal(rd(0x0c), 0x50); /* UF and PF without IRQF */
	assert_false(t.line);
	wr(0x0b, 0x12);
	assert_false(t.line);
}

static void periodic_interrupt(void **s)
{
	wr(0x0a, 0x2f); /* 2 Hz */
	wr(0x0b, 0x42);
	for (unsigned i = 1; i <= 6; i++) {
		testclock_to(&t.clk, i * SEC / 2 - 1);
		assert_false(t.line);
		testclock_to(&t.clk, i * SEC / 2);
		assert_true(t.line);
		assert_int_equal(rd(0x0c) & 0xc0, 0xc0);
	}
	wr(0x0a, 0x23); /* 8192 Hz, and 1 and 2 are 256 and 128 */
	assert_int_equal(gclock_next(&t.clk.g) - t.clk.now, 122070 - t.clk.now % 122070);
	wr(0x0a, 0x21);
	rd(0x0c);
	assert_int_equal(gclock_next(&t.clk.g) / 3906250 * 3906250, gclock_next(&t.clk.g));
	assert_true(gclock_next(&t.clk.g) - t.clk.now <= 3906250);
	wr(0x0a, 0x20); /* off */
	assert_int_equal(gclock_next(&t.clk.g), GCLOCK_NEVER);
}

static void alarm_interrupt(void **s)
{
	wr(5, 0x00);
	wr(3, 0x00);
	wr(1, 0x05);
	wr(0x0b, 0x22);
	assert_int_equal(gclock_next(&t.clk.g), 7 * SEC);
	testclock_by(&t.clk, 7 * SEC);
	assert_true(t.line);
	assert_int_equal(rd(0x0c) & 0xa0, 0xa0);
	assert_int_equal(gclock_next(&t.clk.g), (7 + 86400) * SEC);
	wr(5, 0xc0);
	assert_int_equal(gclock_next(&t.clk.g), (7 + 3600) * SEC);
	wr(3, 0xff);
	assert_int_equal(gclock_next(&t.clk.g), (7 + 60) * SEC);
	wr(1, 0xc5);
	assert_int_equal(gclock_next(&t.clk.g), 8 * SEC);
	wr(1, 0x99); /* never */
	assert_int_equal(gclock_next(&t.clk.g), GCLOCK_NEVER);
	/* 12-hour alarm at 1 PM. */
	wr(0x0b, 0x20);
	wr(5, 0x81);
	wr(3, 0x00);
	wr(1, 0x00);
	assert_int_equal(gclock_next(&t.clk.g), (2 + 13 * 3600) * SEC);
	/* Setting the time moves it. */
	wr(4, 0x12);
	assert_int_equal(gclock_next(&t.clk.g) - t.clk.now, (86400 - 5 - 11 * 3600) * SEC);
}

static void cmos_and_reset(void **s)
{
	struct device d = rtc_device(t.r);

	for (unsigned i = 0x0e; i < 0x80; i++)
		if (i != 0x32)
			wr((u8)i, (u8)(i ^ 0x5a));
	rtc_bus_ops.write(t.r, 0, 1, 0x80 | 0x40, 0); /* bit 7 is not part of the index */
	assert_int_equal(rtc_bus_ops.read(t.r, 0, 1, 0), 0x40);
	testclock_by(&t.clk, 2 * SEC);
	wr(0x0b, 0x77);
	device_reset(&d);
	assert_false(t.line);
	assert_int_equal(rd(0x0b), 0x02);
	expect(0x20, 0x24, 0x02, 0x29, 5, 0, 0, 0);
	for (unsigned i = 0x0e; i < 0x80; i++)
		if (i != 0x32)
			assert_int_equal(rd((u8)i), i ^ 0x5a);
}

static void bases(void **s)
{
	struct rtc_cfg cfg = { .clk = &t.clk.g, .base = RTC_BASE_MAX + 1 };
	struct rtc *r;

	assert_int_equal(rtc_new(&cfg, &r), -EINVAL);
	cfg.base = -1;
	assert_int_equal(rtc_new(&cfg, &r), -EINVAL);
	teardown(s);
	start(RTC_BASE_MAX);
	expect(0x99, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59);
	testclock_by(&t.clk, 100 * SEC); /* stays there */
	assert_int_equal(rd(9), 0x99);
	teardown(s);
	start(0);
	expect(0x19, 0x70, 0x01, 0x01, 5, 0, 0, 0);
	rtc_free(NULL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(reads_time),	     T(twelve_hours), T(update_in_progress), T(sets_time),
		T(update_interrupt), T(polled_flags), T(periodic_interrupt), T(alarm_interrupt),
		T(cmos_and_reset),   T(bases),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
