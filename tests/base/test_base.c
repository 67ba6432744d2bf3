/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_base.c - guest clock, buffers and errors
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/gclock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* --- clock
 * ---------------------------------------------------------------------------------------- */

#define TIMERS 200

static struct {
	struct gclock c;
	u64 now, sooner;
	unsigned sooners;
	struct gtimer t[TIMERS];
	unsigned order[4 * TIMERS], fired;
	u64 last;
} g;

static u64 now(void *o)
{
	return g.now;
}

static void sooner(void *o, u64 ns)
{
	g.sooner = ns;
	g.sooners++;
}

static void fired(void *o)
{
	struct gtimer *t = o;

	assert_false(gtimer_armed(t)); /* it may arm itself again */
	assert_true(t->deadline >= g.last);
	g.last = t->deadline;
	g.order[g.fired++ % ARRAY_LEN(g.order)] = (unsigned)(t - g.t);
}

static int clock_setup(void **s)
{
	memset(&g, 0, sizeof(g));
	gclock_init(&g.c, now, sooner, NULL);
	for (unsigned i = 0; i < TIMERS; i++)
		gtimer_init(&g.t[i], &g.c, fired, &g.t[i]);
	return 0;
}

static int clock_teardown(void **s)
{
	gclock_fini(&g.c);
	return 0;
}

static void clock_order(void **s)
{
	assert_int_equal(gclock_next(&g.c), GCLOCK_NEVER);
	assert_int_equal(gclock_run(&g.c, UINT64_MAX - 1), 0);
	gtimer_arm(&g.t[0], 50);
	gtimer_arm(&g.t[1], 30);
	gtimer_arm(&g.t[2], 50);
	gtimer_arm(&g.t[3], 30);
	assert_int_equal(g.sooners, 2); /* only for a new first deadline */
	assert_int_equal(g.sooner, 30);
	gtimer_arm(&g.t[1], 30); /* re-arming goes to the end of its equals */
	assert_int_equal(gclock_next(&g.c), 30);
	assert_int_equal(gclock_run(&g.c, 29), 0);
	assert_int_equal(gclock_run(&g.c, 50), 4);
	assert_int_equal(g.order[0], 3);
	assert_int_equal(g.order[1], 1);
	assert_int_equal(g.order[2], 0);
	assert_int_equal(g.order[3], 2);
}

static void clock_cancel(void **s)
{
	gtimer_cancel(&g.t[0]); /* not armed: harmless */
	gtimer_arm(&g.t[0], 10);
	gtimer_arm(&g.t[1], 20);
	assert_true(gtimer_armed(&g.t[0]));
	gtimer_cancel(&g.t[0]);
	gtimer_cancel(&g.t[0]);
	assert_false(gtimer_armed(&g.t[0]));
	assert_int_equal(gclock_next(&g.c), 20);
	gclock_fini(&g.c); /* whoever is still armed is not any more */
	assert_false(gtimer_armed(&g.t[1]));
}

/* Against a linear search: many timers, armed, moved and cancelled at random. */
static void clock_random(void **s)
{
	u32 x = 12345;

	for (unsigned i = 0; i < 100000; i++) {
		struct gtimer *t;
		u64 first = GCLOCK_NEVER;

		x = x * 1664525 + 1013904223;
		t = &g.t[(x >> 8) % TIMERS];
		if (x >> 30 == 0) {
			gtimer_cancel(t);
		} else if (x >> 30 == 1 && !(x & 15)) {
			g.now += (x >> 8) & 0xff;
			gclock_run(&g.c, g.now);
		} else {
			gtimer_arm(t, g.now + ((x >> 4) & 0x3ff));
		}
		for (unsigned k = 0; k < TIMERS; k++)
			if (gtimer_armed(&g.t[k]))
				first = MIN(first, g.t[k].deadline);
		assert_int_equal(gclock_next(&g.c), first);
	}
	assert_true(g.fired > 100);
}

static void rearm_self(void *o)
{
	struct gtimer *t = o;

	if (++g.fired < 10)
		gtimer_arm(t, t->deadline + 5);
	gtimer_cancel(&g.t[1]); /* a callback may cancel one that is due in the same run */
}

static void clock_callbacks(void **s)
{
	gtimer_init(&g.t[0], &g.c, rearm_self, &g.t[0]);
	gtimer_arm(&g.t[0], 5);
	gtimer_arm(&g.t[1], 6);
	assert_int_equal(gclock_run(&g.c, 1000), 10);
	assert_int_equal(g.t[0].deadline, 50);
}

/* --- buffers
 * ---------------------------------------------------------------------------------------- */

static void buffers(void **s)
{
	struct buf b = { 0 };
	u8 chunk[1000];

	memset(chunk, 7, sizeof(chunk));
	assert_int_equal(buf_add(&b, "abc", 3), 0);
	assert_int_equal(buf_add(&b, NULL, 2), 0);
	assert_int_equal(buf_add(&b, NULL, 0), 0);
	assert_int_equal(b.len, 5);
	assert_memory_equal(b.data, "abc\0\0", 5);
	assert_int_equal(buf_pad(&b, 8), 0);
	assert_int_equal(buf_pad(&b, 8), 0);
	assert_int_equal(b.len, 8);
	assert_int_equal(buf_printf(&b, "%d-%s", 42, "x"), 0);
	assert_int_equal(b.len, 12);
	assert_memory_equal(b.data + 8, "42-x", 4);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(buf_add(&b, chunk, sizeof(chunk)), 0);
	assert_int_equal(b.len, 100012);
	assert_int_equal(b.data[100011], 7);
	assert_int_equal(buf_reserve(&b, SIZE_MAX), -ENOMEM);
	assert_int_equal(buf_reserve(&b, SIZE_MAX / 2), -ENOMEM);
	assert_int_equal(b.len, 100012); /* as it was */
	buf_fini(&b);
	assert_null(b.data);
	buf_fini(&b);
}

static void buffers_from_files(void **s)
{
	struct buf b = { 0 };
	FILE *f = tmpfile();

	assert_non_null(f);
	for (unsigned i = 0; i < 100000; i++)
		fputc((int)(i & 0xff), f);
	fflush(f);
	lseek(fileno(f), 10, SEEK_SET);
	assert_int_equal(buf_read_fd(&b, fileno(f), 99990), 0);
	assert_int_equal(b.len, 99990);
	assert_int_equal(b.data[0], 10);
	lseek(fileno(f), 0, SEEK_SET);
	assert_int_equal(buf_read_fd(&b, fileno(f), 99999), -EFBIG);
	assert_int_equal(buf_read_fd(&b, -1, 10), -EBADF);
	buf_fini(&b);
	fclose(f);
}

/* --- errors
 * ---------------------------------------------------------------------------------------- */

static void errors(void **s)
{
	static char big[3000];
	struct err e = { 0 };

	assert_int_equal(err_set(NULL, -EIO, "nobody listens"), -EIO);
	assert_int_equal(err_set(&e, -EINVAL, "%s: %d", "what", 3), -EINVAL);
	assert_int_equal(e.code, -EINVAL);
	assert_string_equal(e.msg, "what: 3");
	err_prefix(NULL, "nobody listens");
	err_prefix(&e, "in %s", "file");
	assert_int_equal(e.code, -EINVAL);
	assert_string_equal(e.msg, "in file: what: 3");
	err_set(&e, -EIO, "<%s>", e.msg); /* its own message as argument */
	assert_string_equal(e.msg, "<in file: what: 3>");
	assert_int_equal(err_sys(&e, -ENOENT, "x"), -ENOENT);
	assert_string_equal(e.msg, "x: No such file or directory");
	memset(big, 'y', sizeof(big) - 1);
	err_set(&e, -EIO, "%s", big);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	err_sys(&e, -EIO, "%s", big);
	err_prefix(&e, "%s", big);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	assert_int_equal(e.code, -EIO);
}

#define C(f) cmocka_unit_test_setup_teardown(f, clock_setup, clock_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		C(clock_order),
		C(clock_cancel),
		C(clock_random),
		C(clock_callbacks),
		cmocka_unit_test(buffers),
		cmocka_unit_test(buffers_from_files),
		cmocka_unit_test(errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
