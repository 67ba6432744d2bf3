// SPDX-License-Identifier: Apache-2.0
/*
 * test_life.c - the states of a VM: every pair of them, and the words of a refusal
 */
#include "vm/life.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

/* Every legal step, written down once more: the table must not grow one by mistake. */
static const enum life_state legal[][2] = {
	{ LIFE_CREATED, LIFE_INITIALIZING },  { LIFE_INITIALIZING, LIFE_RUNNING },
	{ LIFE_INITIALIZING, LIFE_STOPPING }, { LIFE_INITIALIZING, LIFE_FAILED },
	{ LIFE_RUNNING, LIFE_PAUSED },	      { LIFE_RUNNING, LIFE_INITIALIZING },
	{ LIFE_RUNNING, LIFE_STOPPING },      { LIFE_RUNNING, LIFE_FAILED },
	{ LIFE_PAUSED, LIFE_RUNNING },	      { LIFE_PAUSED, LIFE_INITIALIZING },
	{ LIFE_PAUSED, LIFE_STOPPING },	      { LIFE_PAUSED, LIFE_FAILED },
	{ LIFE_STOPPING, LIFE_STOPPED },      { LIFE_STOPPING, LIFE_FAILED },
};

static bool is_legal(enum life_state from, enum life_state to)
{
	for (unsigned i = 0; i < ARRAY_LEN(legal); i++)
		if (legal[i][0] == from && legal[i][1] == to)
			return true;
	return false;
}

static unsigned calls;
static enum life_state last_from, last_to;

static void on_change(void *opaque, enum life_state from, enum life_state to)
{
	calls++;
	last_from = from;
	last_to = to;
}

static void every_pair(void **state)
{
	for (unsigned from = 0; from < LIFE_STATES; from++) {
		for (unsigned to = 0; to < LIFE_STATES; to++) {
			struct life l = { .state = from, .changed = on_change };
			bool ok = is_legal(from, to);

			calls = 0;
			assert_int_equal(life_may(from, to), ok);
			assert_int_equal(life_set(&l, to), ok ? 0 : -EBADFD);
			assert_int_equal(life_now(&l), ok ? to : from);
			assert_int_equal(calls, ok);
			if (ok) {
				assert_int_equal(last_from, from);
				assert_int_equal(last_to, to);
			}
		}
	}
}

static void no_such_state(void **state)
{
	struct life l = { .state = LIFE_RUNNING };

	assert_false(life_may(LIFE_RUNNING, LIFE_STATES));
	assert_false(life_may(LIFE_STATES, LIFE_RUNNING));
	assert_int_equal(life_set(&l, (enum life_state)99), -EBADFD);
	assert_int_equal(life_now(&l), LIFE_RUNNING);
	assert_string_equal(life_name((enum life_state)99), "unknown");
}

/* A wrong-state call says which state it is and what would help (reference A: S1). */
static void words(void **state)
{
	struct err e;

	for (unsigned s = 0; s < LIFE_STATES; s++) {
		memset(&e, 0, sizeof(e));
		assert_int_equal(life_refuse(s, "pause", &e), -EBADFD);
		assert_non_null(strstr(e.msg, "cannot pause"));
		assert_non_null(strstr(e.msg, life_name(s)));
		assert_int_equal(e.code, -EBADFD);
	}
	assert_non_null(strstr((life_refuse(LIFE_PAUSED, "pause", &e), e.msg), "orrery resume"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_pair),
		cmocka_unit_test(no_such_state),
		cmocka_unit_test(words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
