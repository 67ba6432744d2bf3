// SPDX-License-Identifier: Apache-2.0
/*
 * test_mem_back.c - guest RAM from the pool of huge pages, on nodes, and present
 *
 * With an empty pool only its refusal is tested; `sysctl vm.nr_hugepages=16` gives the rest.
 */
#include "mem/mem_back.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#define M (1ull << 20)

/* Edges that no huge page fits, a region too small for one, and a window. */
static const struct mem_region regions[] = {
	{ .base = 0, .size = 5 * M },
	{ .base = 5 * M, .size = 3 * M + 4096, .node = 1 },
	{ .base = 16 * M, .size = M, .node = 2 },
	{ .base = 32 * M, .size = 2 * M, .window = true },
};

static struct mem *make(void)
{
	struct mem *m;

	assert_int_equal(mem_new(regions, ARRAY_LEN(regions), NULL, &m), 0);
	return m;
}

static long meminfo(const char *key)
{
	FILE *f = fopen("/proc/meminfo", "r");
	char line[128];
	long n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			n = strtol(line + strlen(key), NULL, 10);
	fclose(f);
	return n;
}

static bool pool(long pages)
{
	return meminfo("HugePages_Free:") - meminfo("HugePages_Rsvd:") >= pages;
}

/* Whether the page of the host at @gpa is in memory. */
static bool resident(struct mem *m, gpa_t gpa)
{
	unsigned char vec;

	assert_int_equal(mincore(mem_ptr(m, gpa, 4096), 4096, &vec), 0);
	return vec & 1;
}

static void expect_zero_and_usable(struct mem *m)
{
	u8 page[4096], zero[4096] = { 0 };

	for (unsigned i = 0; i < ARRAY_LEN(regions); i++) {
		for (u64 at = 0; at < regions[i].size; at += 4096) {
			assert_int_equal(mem_read(m, regions[i].base + at, page, 4096), 0);
			assert_memory_equal(page, zero, 4096);
		}
		assert_int_equal(mem_fill(m, regions[i].base, 0x5a, regions[i].size), 0);
	}
}

static void count(void **s)
{
	/* [0, 4M) of the first, [6M, 8M) of the second. */
	assert_int_equal(mem_back_huge_pages(regions, ARRAY_LEN(regions)), 3);
	assert_int_equal(mem_back_huge_pages(&regions[2], 2), 0);
}

static void present(void **s)
{
	struct mem_backing b = { .present = true };
	struct mem *m = make();
	struct err e = { 0 };

	assert_false(resident(m, 3 * M));
	assert_int_equal(mem_back(m, &b, &e), 0);
	for (u64 at = 0; at < 5 * M; at += 4096)
		assert_true(resident(m, at));
	assert_true(resident(m, 16 * M));
	assert_false(resident(m, 32 * M));
	expect_zero_and_usable(m);
	/* It is to stay: a release only clears. */
	assert_int_equal(mem_release(m, M, 2 * M), 0);
	assert_true(resident(m, M + 4096));
	u8 byte = 1;
	assert_int_equal(mem_read(m, 2 * M, &byte, 1), 0);
	assert_int_equal(byte, 0);
	mem_free(m);
}

/* Every host has node 0. What is bound to nodes that are not there is refused. */
static void nodes(void **s)
{
	u64 mask[] = { 1, 1, 0 };
	struct mem_backing b = { .nodes = mask, .n_nodes = 3, .strict = true, .present = true };
	struct mem *m = make();
	struct err e = { 0 };

	assert_int_equal(mem_back(m, &b, &e), 0);
	expect_zero_and_usable(m);
	mem_free(m);

	m = make();
	b.strict = false;
	assert_int_equal(mem_back(m, &b, &e), 0);
	expect_zero_and_usable(m);
	mem_free(m);

	m = make();
	b.strict = true;
	mask[1] = BIT(63);
	assert_true(mem_back(m, &b, &e) < 0);
	assert_non_null(strstr(e.msg, "NUMA"));
	assert_false(resident(m, 0));
	expect_zero_and_usable(m);
	mem_free(m);
}

static void huge(void **s)
{
	u64 mask[] = { 1, 1, 1 };
	struct mem_backing b = { .huge = true, .present = true, .nodes = mask, .n_nodes = 3 };
	struct mem_digest before, after;
	struct mem *m = make();
	struct err e = { 0 };
	long had;

	if (!pool(3)) {
		assert_int_equal(mem_back(m, &b, &e), -ENOMEM);
		assert_non_null(strstr(e.msg, "vm.nr_hugepages"));
		expect_zero_and_usable(m);
		mem_free(m);
		print_message("skip: the pool of huge pages is empty; sysctl vm.nr_hugepages=16 "
			      "fills it\n");
		skip();
	}
	had = meminfo("HugePages_Free:");
	assert_int_equal(mem_digest(m, &e, &before), 0);
	assert_int_equal(mem_back(m, &b, &e), 0);
	assert_int_equal(meminfo("HugePages_Free:"), had - 3);
	assert_int_equal(mem_digest(m, &e, &after), 0);
	assert_memory_equal(&before, &after, sizeof(before));
	expect_zero_and_usable(m);
	/* Pieces of a huge page, which the kernel would round away. */
	assert_int_equal(mem_release(m, 4096, 3 * M), 0);
	for (u64 at = 0; at < 5 * M; at += 4096) {
		u8 byte;

		assert_int_equal(mem_read(m, at, &byte, 1), 0);
		assert_int_equal(byte, at >= 4096 && at < 4096 + 3 * M ? 0 : 0x5a);
	}
	mem_free(m);
	assert_int_equal(meminfo("HugePages_Free:"), had);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(count),
		cmocka_unit_test(present),
		cmocka_unit_test(nodes),
		cmocka_unit_test(huge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
