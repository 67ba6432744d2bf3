// SPDX-License-Identifier: Apache-2.0
/*
 * test_throttle.c - the token bucket, against one that counts tokens
 */
#include "host/throttle.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define S 1000000000ull

static void limits(void **s)
{
	struct throttle t = { .rate = 100, .burst = 99 };
	struct err e = { 0 };

	assert_int_equal(throttle_check(&t, "--disk x", "iops", &e), -EINVAL);
	assert_non_null(strstr(e.msg, "iops_burst=99 is less than iops=100"));
	t = (struct throttle){ .burst = 5 };
	assert_int_equal(throttle_check(&t, "--disk x", "bps", &e), -EINVAL);
	assert_non_null(strstr(e.msg, "bps_burst= needs bps="));
	t = (struct throttle){ .rate = THROTTLE_MAX + 1 };
	assert_int_equal(throttle_check(&t, "--disk x", "bps", &e), -EINVAL);
	t = (struct throttle){ .rate = 7 };
	assert_int_equal(throttle_check(&t, "--disk x", "bps", &e), 0);
	assert_int_equal(t.burst, 7);
	t = (struct throttle){ 0 };
	assert_int_equal(throttle_check(&t, "--disk x", "bps", &e), 0);
	assert_int_equal(t.burst, 0);
}

static void unlimited(void **s)
{
	struct throttle t = { 0 };
	u64 full = 0;

	assert_int_equal(throttle_take(&t, &full, 5, UINT64_MAX), 5);
	assert_int_equal(full, 0);
}

/* Full at the start; then at its rate; full again after a pause, and not fuller. */
static void burst_and_rate(void **s)
{
	struct throttle t = { .rate = 10, .burst = 20 };
	u64 full = 0, now = 7 * S;

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 20; i++)
			assert_int_equal(throttle_take(&t, &full, now, 1), now);
		for (unsigned i = 1; i <= 30; i++)
			assert_int_equal(throttle_take(&t, &full, now, 1), now + i * S / 10);
		now += 3 * S + 2 * S + round * 100 * S;
	}
}

/* More than the bucket ever holds is late, not lost; and what follows waits behind it. */
static void larger_than_the_bucket(void **s)
{
	struct throttle t = { .rate = 1000, .burst = 1000 };
	u64 full = 0;

	assert_int_equal(throttle_take(&t, &full, 0, 5000), 4 * S);
	assert_int_equal(throttle_take(&t, &full, 0, 1), 4 * S + S / 1000);
	assert_true(throttle_take(&t, &full, 0, UINT64_MAX) < UINT64_MAX);
	assert_true(throttle_take(&t, &full, UINT64_MAX / 4, UINT64_MAX) >= UINT64_MAX / 4);
}

/* Against a count of tokens that is refilled step by step. */
static void model(void **s)
{
	unsigned short seed[3] = { 1, 2, 3 };

	for (unsigned run = 0; run < 200; run++) {
		/* A rate that divides a second, so that the model is exact. */
		u64 rate = (u64[]){ 1, 10, 500, 4000, 1000000 }[run % 5];
		u64 burst = rate + (u64)(nrand48(seed) % 2000), step = S / rate;
		struct throttle t = { .rate = rate, .burst = burst };
		u64 full = 0, now = 0, level = burst, at = 0, last = 0;

		for (unsigned i = 0; i < 200; i++) {
			u64 cost = 1 + (u64)nrand48(seed) % burst, due, want;

			now += (u64)nrand48(seed) % 4 ? 0 : (u64)nrand48(seed) % 1000 * step;
			due = throttle_take(&t, &full, now, cost);
			assert_true(due >= now && due >= last);
			/* The model starts where the last request was served. */
			want = MAX(now, at);
			level = MIN(burst, level + (want - at) / step);
			if (level < cost) {
				want += (cost - level) * step;
				level = cost;
			}
			level -= cost;
			at = want;
			assert_int_equal(due, want);
			last = due;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits),	  cmocka_unit_test(unlimited),
		cmocka_unit_test(burst_and_rate), cmocka_unit_test(larger_than_the_bucket),
		cmocka_unit_test(model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
