/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_mem.c - guest RAM: bounds, regions that touch, the digest, and memory that costs nothing
 */
#include "mem/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#define MIB (1ull << 20)
#define GIB (1ull << 30)

/* Two regions that touch, a hole, a third above 4 GiB. */
static const struct mem_region layout[3] = {
	{ 0, 2 * MIB, 0 },
	{ 2 * MIB, 1 * MIB, 1 },
	{ 4 * GIB, 1 * MIB, 2 },
};

static struct {
	unsigned calls;
	gpa_t gpa;
	size_t len;
} seen;

static void observe(void *o, gpa_t gpa, size_t len)
{
	seen.calls++;
	seen.gpa = gpa;
	seen.len = len;
}

static struct mem *make(const struct mem_region *r, unsigned n)
{
	struct mem *m = NULL;
	struct err e;

	assert_int_equal(mem_new(r, n, &e, &m), 0);
	return m;
}

static void access_and_bounds(void **s)
{
	struct mem *m = make(layout, 3);
	u8 buf[64], back[64];

	assert_int_equal(mem_region_count(m), 3);
	assert_int_equal(mem_size(m), 4 * MIB);
	assert_int_equal(mem_region_get(m, 2)->node, 2);
	memset(buf, 0xa5, sizeof(buf));
	assert_int_equal(mem_write(m, 4 * GIB, buf, 64), 0);
	assert_int_equal(mem_read(m, 4 * GIB, back, 64), 0);
	assert_memory_equal(buf, back, 64);
	/* Across two regions that touch. */
	assert_int_equal(mem_write(m, 2 * MIB - 20, buf, 64), 0);
	memset(back, 0, sizeof(back));
	assert_int_equal(mem_read(m, 2 * MIB - 20, back, 64), 0);
	assert_memory_equal(buf, back, 64);
	assert_null(mem_ptr(m, 2 * MIB - 20, 64)); /* not one piece */
	assert_non_null(mem_ptr(m, 2 * MIB - 20, 20));
	/* Ends, holes, wrap-around: an error, and nothing is copied. */
	memset(buf, 1, sizeof(buf));
	assert_int_equal(mem_write(m, 3 * MIB - 63, buf, 64), -EFAULT);
	assert_int_equal(mem_read(m, 3 * MIB - 63, back, 64), -EFAULT);
	assert_int_equal(back[0], 0xa5);
	assert_int_equal(*(u8 *)mem_ptr(m, 3 * MIB - 63, 1), 0);
	assert_int_equal(mem_read(m, 3 * MIB, back, 1), -EFAULT);
	assert_int_equal(mem_read(m, 4 * GIB - 1, back, 2), -EFAULT);
	assert_int_equal(mem_read(m, UINT64_MAX, back, 2), -EFAULT);
	assert_int_equal(mem_fill(m, 4 * GIB, 0, SIZE_MAX), -EFAULT);
	assert_null(mem_ptr(m, UINT64_MAX - 3, 8));
	assert_null(mem_ptr(m, 4 * GIB, SIZE_MAX));
	assert_int_equal(mem_fill(m, 0, 0x33, 3 * MIB), 0);
	assert_int_equal(*(u8 *)mem_ptr(m, 3 * MIB - 1, 1), 0x33);
	/* Host and guest addresses agree below 2 MiB, so that huge pages fit. */
	assert_int_equal((uintptr_t)mem_ptr(m, 2 * MIB, 1) % (2 * MIB), 0);
	assert_int_equal((uintptr_t)mem_ptr(m, 4 * GIB, 1) % (2 * MIB), 0);
	mem_free(m);
	mem_free(NULL);
}

static void observer(void **s)
{
	struct mem *m = make(layout, 3);

	mem_set_observer(m, observe, NULL);
	seen.calls = 0;
	assert_int_equal(mem_write(m, 100, "x", 1), 0);
	assert_int_equal(seen.calls, 1);
	assert_int_equal(seen.gpa, 100);
	assert_int_equal(mem_fill(m, 4096, 1, 9000), 0);
	assert_int_equal(seen.calls, 2);
	assert_int_equal(seen.len, 9000);
	assert_int_equal(mem_write(m, 3 * MIB, "x", 1), -EFAULT);
	assert_int_equal(mem_write(m, 0, "x", 0), 0);
	assert_int_equal(mem_read(m, 0, &(u8){ 0 }, 1), 0);
	assert_int_equal(seen.calls, 2);
	mem_free(m);
}

static struct mem_digest digest(struct mem *m)
{
	struct mem_digest d = { 0 };

	assert_int_equal(mem_digest(m, NULL, &d), 0);
	return d;
}

static bool same(struct mem_digest a, struct mem_digest b)
{
	return a.lo == b.lo && a.hi == b.hi;
}

static void digests(void **s)
{
	struct mem *a = make(layout, 3), *b = make(layout, 3);
	struct mem_digest empty = digest(a), da;

	assert_true(same(empty, digest(b)));
	assert_int_equal(mem_write(a, 5 * 4096 + 7, "q", 1), 0);
	da = digest(a);
	assert_false(same(empty, da));
	assert_int_equal(mem_fill(b, 0, 0, 3 * MIB), 0); /* touched, but zero */
	assert_true(same(empty, digest(b)));
	assert_int_equal(mem_write(b, 6 * 4096 + 7, "q", 1), 0); /* another page */
	assert_false(same(da, digest(b)));
	assert_int_equal(mem_write(b, 6 * 4096 + 7, "\0", 1), 0);
	assert_int_equal(mem_write(b, 5 * 4096 + 7, "q", 1), 0);
	assert_true(same(da, digest(b)));
	mem_free(a);
	mem_free(b);
}

/* Resident set of this process in KiB. */
static long resident(void)
{
	long kib = -1;
	char line[256];
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmRSS: %ld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

static void untouched_is_free(void **s)
{
	struct mem_region r[2] = { { 0, 3 * GIB, 0 }, { 4 * GIB, 61 * GIB, 0 } };
	struct mem_digest d;
	struct mem *m = NULL;
	struct err e;
	long before;

	if (mem_new(r, 2, &e, &m) < 0) {
		print_message("skipped: %s; needs an unlimited address space\n", e.msg);
		skip();
	}
	before = resident();
	assert_int_equal(mem_write(m, 65 * GIB - 1, "z", 1), 0);
	d = digest(m);
	assert_true(d.lo | d.hi);
	assert_true(resident() - before < 8192);
	mem_free(m);
}

static void bad_layouts(void **s)
{
	static const struct mem_region bad[][2] = {
		{ { 0, 0, 0 }, { 0 } },
		{ { 0, 100, 0 }, { 0 } },
		{ { 1, 4096, 0 }, { 0 } },
		{ { 0, 2 * MIB, 0 }, { MIB, MIB, 0 } },
		{ { 2 * MIB, MIB, 0 }, { 0, MIB, 0 } },
		{ { ~0ull << 12, 8192, 0 }, { 0 } },
		{ { 0, ~0ull << 12, 0 }, { 0 } },
	};
	struct mem *m = NULL;
	struct err e;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		e.msg[0] = 0;
		assert_int_equal(mem_new(bad[i], bad[i][1].size ? 2 : 1, &e, &m), -EINVAL);
		assert_true(e.msg[0] != 0);
	}
	assert_int_equal(mem_new(layout, 0, &e, &m), -EINVAL);
	assert_int_equal(mem_new(layout, 65, &e, &m), -EINVAL);
	/* More than an address space: the host says no, and in words. */
	struct mem_region huge = { 0, 1ull << 50, 0 };
	assert_int_equal(mem_new(&huge, 1, &e, &m), -ENOMEM);
	assert_non_null(strstr(e.msg, "reserve"));
	assert_null(m);
}

/* Spans end with their region; a window is memory, but neither RAM nor part of the digest. */
static void spans_and_windows(void **s)
{
	const struct mem_region r[] = { { 0, 2 * MIB, 0 },
					{ 2 * MIB, MIB, 1 },
					{ 4 * GIB, 2 * MIB, 0, true } };
	struct mem *m = make(r, 3), *plain = make(r, 2);
	struct mem_digest a, b;
	struct err e;
	size_t n;

	assert_ptr_equal(mem_span(m, 2 * MIB - 10, 100, &n), mem_ptr(m, 2 * MIB - 10, 1));
	assert_int_equal(n, 10);
	assert_non_null(mem_span(m, 2 * MIB, 100, &n));
	assert_int_equal(n, 100);
	assert_null(mem_span(m, 3 * MIB, 1, &n));
	assert_int_equal(mem_size(m), 3 * MIB);

	u8 *w = mem_ptr(m, 4 * GIB, 2 * MIB);
	assert_non_null(w);
	assert_ptr_equal(mmap(w, 4096, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 w);
	w[5] = 77;
	assert_int_equal(mem_read(m, 4 * GIB + 5, &n, 1), 0);
	assert_int_equal((u8)n, 77);
	assert_int_equal(mem_digest(m, &e, &a), 0);
	assert_int_equal(mem_digest(plain, &e, &b), 0);
	assert_memory_equal(&a, &b, sizeof(a));

	memset(&seen, 0, sizeof(seen));
	mem_set_observer(m, observe, NULL);
	mem_wrote(m, 4 * GIB, 4096);
	mem_wrote(m, 4 * GIB, 0);
	assert_int_equal(seen.calls, 1);
	assert_int_equal(seen.len, 4096);
	mem_free(m);
	mem_free(plain);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(access_and_bounds), cmocka_unit_test(observer),
		cmocka_unit_test(digests),	     cmocka_unit_test(untouched_is_free),
		cmocka_unit_test(bad_layouts),	     cmocka_unit_test(spans_and_windows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
