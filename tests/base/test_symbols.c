/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_symbols.c - lists of symbols: what is kept, what is found, what is refused
 */
#include "base/symbols.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What symbols_load makes of @text. */
static int load(const char *text, size_t n, struct err *e, struct symbols **ret)
{
	char path[] = "/tmp/orrery-symbols-XXXXXX";
	int fd = mkstemp(path), r;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, n), n);
	close(fd);
	r = symbols_load(path, e, ret);
	unlink(path);
	return r;
}

static void check(const struct symbols *s, u64 addr, const char *want, u64 want_off)
{
	u64 off = 77;
	const char *name = symbols_find(s, addr, &off);

	if (want) {
		assert_non_null(name);
		assert_string_equal(name, want);
		assert_int_equal(off, want_off);
	} else {
		assert_null(name);
		assert_int_equal(off, 77);
	}
}

static void test_find(void **state)
{
	static const char text[] = "ffffffff81000200 T second\n"
				   "ffffffff81000000 T first\n"
				   "ffffffff81000000 t alias\n"
				   "0000000000014000 A percpu\n"
				   "ffffffff81000300 D data\n"
				   "                 U undefined\n"
				   "not a line\n"
				   "\n"
				   "0000000000000000 T hidden\n"
				   "ffffffffc0000010 t probe\t[module]\n"
				   "ffffffffc0000020 W last";
	struct symbols *s = NULL;

	assert_int_equal(load(text, sizeof(text) - 1, NULL, &s), 0);
	check(s, 0xffffffff80ffffff, NULL, 0);
	check(s, 0xffffffff81000000, "first", 0);
	check(s, 0xffffffff810001ff, "first", 0x1ff);
	check(s, 0xffffffff81000200, "second", 0);
	check(s, 0xffffffff81000310, "second", 0x110);
	check(s, 0xffffffff81100200, NULL, 0);
	check(s, 0xffffffffc000001f, "probe", 15);
	check(s, 0xffffffffc0000021, "last", 1);
	check(s, 0x14000, NULL, 0);
	check(s, 0, NULL, 0);
	check(NULL, 0xffffffff81000000, NULL, 0);
	symbols_free(s);
	symbols_free(NULL);
}

static void test_refused(void **state)
{
	static const char zeros[] = "0000000000000000 T a\n0000000000000000 T b\n";
	struct symbols *s = NULL;
	char junk[4096];
	struct err e;

	assert_int_equal(symbols_load("/nonexistent", &e, &s), -ENOENT);
	assert_int_equal(load("", 0, &e, &s), -EINVAL);
	assert_non_null(strstr(e.msg, "kallsyms"));
	assert_int_equal(load(zeros, sizeof(zeros) - 1, &e, &s), -EINVAL);
	for (size_t i = 0; i < sizeof(junk); i++)
		junk[i] = (char)(i * 37 % 251);
	assert_int_equal(load(junk, sizeof(junk), &e, &s), -EINVAL);
	assert_null(s);
}

/* A name that is too long for a line of the map is cut. */
static void test_long_name(void **state)
{
	char text[1024] = "1000 T ";
	struct symbols *s = NULL;
	u64 off;

	memset(text + 7, 'x', 1000);
	assert_int_equal(load(text, 1007, NULL, &s), 0);
	assert_int_equal(strlen(symbols_find(s, 0x1001, &off)), 127);
	symbols_free(s);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_long_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
