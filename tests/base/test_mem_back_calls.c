// SPDX-License-Identifier: Apache-2.0
/*
 * test_mem_back_calls.c - what mem_back asks the kernel for, on a host with many nodes and a full pool
 *
 * The linker leads its calls of mmap (large-file name), madvise and syscall to functions here (--wrap), which write them down,
 * and give small pages for large ones. Each may fail in turn.
 */
#include "mem/mem_back.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <cmocka.h>

#define M (1ull << 20)
#define ADVICE_POPULATE 23 /* MADV_POPULATE_WRITE, Linux 5.14 */

static const struct mem_region regions[] = {
	{ .base = 0, .size = 5 * M },
	{ .base = 5 * M, .size = 3 * M + 4096, .node = 1 },
	{ .base = 16 * M, .size = M, .node = 2 },
	{ .base = 32 * M, .size = 2 * M, .window = true },
};

static struct mem *m; /* NULL: nothing is written down */
static char calls[2048];
static unsigned n_calls, fail_at, fail_again;

void *__real_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t off);
void *__wrap_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t off);
int __real_madvise(void *at, size_t len, int advice);
int __wrap_madvise(void *at, size_t len, int advice);
long __wrap_syscall(long nr, ...);

/* True: it fails, with ENOMEM. */
static bool note(const char *fmt, ...) attr_printf(1, 2);

static bool note(const char *fmt, ...)
{
	size_t at = strlen(calls);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(calls + at, sizeof(calls) - at, fmt, ap);
	va_end(ap);
	errno = ENOMEM;
	n_calls++;
	return n_calls == fail_at || n_calls == fail_again;
}

/* Where in the guest a host address is, in MiB. */
static unsigned long long mib(const void *at)
{
	for (unsigned i = 0; i < ARRAY_LEN(regions); i++) {
		const u8 *p = mem_ptr(m, regions[i].base, regions[i].size);

		if ((const u8 *)at >= p && (const u8 *)at < p + regions[i].size)
			return (regions[i].base + (u64)((const u8 *)at - p)) / M;
	}
	return 999;
}

void *__wrap_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	bool huge = flags & MAP_HUGETLB, fixed = flags & MAP_FIXED;

	if (m && huge &&
	    note(fixed ? "huge %llu+%zu; " : "ask %llu+%zu; ", fixed ? mib(at) : 0,
		 (size_t)(len / M)))
		return MAP_FAILED;
	if (m && huge) /* a page of the pool is 2 MiB: 21 is its logarithm */
		assert_int_equal((unsigned)flags >> 26, 21);
	if (m && !huge && fixed && note("small %llu; ", mib(at)))
		return MAP_FAILED;
	return __real_mmap64(at, len, prot, huge ? flags & ~(MAP_HUGETLB | 21 << 26) : flags, fd,
			     off);
}

int __wrap_madvise(void *at, size_t len, int advice)
{
	if (m && advice == ADVICE_POPULATE && note("present %llu; ", mib(at)))
		return -1;
	return advice == ADVICE_POPULATE ? 0 : __real_madvise(at, len, advice);
}

/* mbind(2) is the only one that is made by number here. */
long __wrap_syscall(long nr, ...)
{
	const unsigned long *mask;
	unsigned long len, bits;
	unsigned flags;
	va_list ap;
	void *at;
	int mode;

	assert_int_equal(nr, SYS_mbind);
	va_start(ap, nr);
	at = va_arg(ap, void *);
	len = va_arg(ap, unsigned long);
	mode = va_arg(ap, int);
	mask = va_arg(ap, const unsigned long *);
	bits = va_arg(ap, unsigned long);
	flags = va_arg(ap, unsigned);
	va_end(ap);
	assert_true(bits == 65 && !mask[1] && !flags && len);
	return note("%s %llu to %lx; ", mode == MPOL_BIND ? "bind" : "prefer", mib(at), mask[0])
		       ? -1
		       : 0;
}

static void make(void)
{
	m = NULL;
	assert_int_equal(mem_new(regions, ARRAY_LEN(regions), NULL, &m), 0);
	calls[0] = 0;
	n_calls = 0;
}

static void drop(void)
{
	struct mem *was = m;

	m = NULL;
	mem_free(was);
}

/* The pool is asked, replaced where whole huge pages fit, bound, and made present, in this order. */
static void all(void **s)
{
	u64 mask[] = { BIT(1), BIT(4) | BIT(6) }; /* of the third node nothing is said */
	struct mem_backing b = {
		.huge = true, .present = true, .nodes = mask, .n_nodes = 2, .strict = true
	};
	struct err e = { 0 };

	fail_at = 0;
	make();
	assert_int_equal(mem_back(m, &b, &e), 0);
	assert_string_equal(calls,
			    "ask 0+6; huge 0+4; huge 6+2; bind 0 to 2; bind 5 to 50; present 0; "
			    "present 5; present 16; ");
	drop();
	/* A preference is for one node. */
	b = (struct mem_backing){ .nodes = mask, .n_nodes = 2 };
	make();
	assert_int_equal(mem_back(m, &b, &e), 0);
	assert_string_equal(calls, "prefer 0 to 2; prefer 5 to 10; ");
	drop();
}

/* Whichever fails: an error with words, and all regions are small and anywhere again. */
static void each_fails(void **s)
{
	u64 mask[] = { BIT(1), BIT(4), BIT(5) };
	struct mem_backing b = {
		.huge = true, .present = true, .nodes = mask, .n_nodes = 3, .strict = true
	};
	u8 byte = 1;

	for (fail_at = 1; fail_at <= 9; fail_at++) {
		struct err e = { 0 };
		const char *at;

		make();
		assert_int_equal(mem_back(m, &b, &e), -ENOMEM);
		assert_non_null(strstr(e.msg, fail_at <= 3   ? "vm.nr_hugepages"
					      : fail_at <= 6 ? "NUMA"
							     : "not enough memory"));
		at = strstr(calls, "small ");
		assert_non_null(at);
		assert_string_equal(at, "small 0; small 5; small 16; ");
		assert_int_equal(mem_read(m, 7 * M, &byte, 1), 0);
		assert_int_equal(byte, 0);
		drop();
	}
}

/* What cannot be put back must not be used. */
static void not_put_back(void **s)
{
	u64 mask[] = { BIT(1) };
	struct mem_backing b = { .huge = true, .nodes = mask, .n_nodes = 1 };
	struct err e = { 0 };

	make();
	fail_at = 1;
	fail_again = 2;
	assert_int_equal(mem_back(m, &b, &e), -ENOTRECOVERABLE);
	fail_again = 0;
	drop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all),
		cmocka_unit_test(each_fails),
		cmocka_unit_test(not_put_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
