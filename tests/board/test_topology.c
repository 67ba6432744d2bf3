/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_topology.c - text forms, checks and the memory map that follows from a topology
 */
#include "board/topology.h"
#include "board/x86/layout.h"
#include "board/x86/memmap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void parse_and_print(void **state)
{
	static const char *const good[] = { "1n1l1c1t",	  "1n2l4c2t",	"2n4l8c2t",
					    "1n252l1c1t", "1n1l126c2t", "32n32l1c1t" };
	struct topo t;
	struct err e;
	char text[TOPO_TEXT_MAX];

	for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(topo_parse(good[i], &e, &t), 0);
		assert_int_equal(topo_validate(&t, 1ull << 30, &e), 0);
		assert_int_equal(topo_format(&t, text), strlen(good[i]));
		assert_string_equal(text, good[i]);
	}
	assert_int_equal(topo_from_cpus(252, &e, &t), 0);
	topo_format(&t, text);
	assert_string_equal(text, "1n1l252c1t");
	assert_int_equal(topo_from_cpus(0, &e, &t), -EINVAL);
	assert_int_equal(topo_from_cpus(253, &e, &t), -EINVAL);
}

static void bad_text(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "", "neither" },
		{ "huge-llc", "neither" },
		{ "0n1l1c1t", "NUMA nodes is zero" },
		{ "1n0l1c1t", "LLCs is zero" },
		{ "1n1l0c1t", "cores per LLC is zero" },
		{ "1n1l1c0t", "threads per core is zero" },
		{ "1n2l4c2tx", "follows" },
		{ "1n2l4c2t ", "follows" },
		{ "1n2l4c", "threads per core" },
		{ "1s2c3t", "NUMA nodes" },
		{ "1n-2l4c2t", "LLCs" },
		{ "4294967296n1l1c1t", "too large" },
		{ "99999999999999999999999n1l1c1t", "too large" },
		/* Products that wrap to something small in 32 or 64 bits. */
		{ "1n65536l65536c1t", "252" },
		{ "1n4294967295l4294967295c4294967295t", "252" },
		{ "1n2147483648l2c2147483649t", "252" },
		{ "1n1l253c1t", "252" },
		{ "33n33l1c1t", "at most 32" },
	};
	struct topo t, keep;
	struct err e;

	memset(&t, 0x5a, sizeof(t));
	keep = t;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(topo_parse(bad[i].text, &e, &t), -EINVAL);
		if (!strstr(e.msg, bad[i].says))
			fail_msg("\"%s\" gave: %s", bad[i].text, e.msg);
		assert_memory_equal(&t, &keep, sizeof(t));
	}
	assert_int_equal(topo_parse("2n3l1c1t", &e, &t), 0);
	assert_int_equal(topo_validate(&t, 0, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "cannot be divided evenly"));
	assert_int_equal(topo_parse("2n2l1c1t", &e, &t), 0);
	assert_int_equal(topo_validate(&t, 2 << 20, &e), -EINVAL);
}

static void presets(void **state)
{
	/* name dims CPUs, from the reference list */
	static const struct {
		const char *name, *dims;
		u32 cpus;
	} want[] = {
		{ "tiny-1llc", "1n1l4c1t", 4 },
		{ "tiny-2llc", "1n2l2c1t", 4 },
		{ "odd-3llc", "1n3l3c1t", 9 },
		{ "odd-5llc", "1n5l3c1t", 15 },
		{ "odd-7llc", "1n7l2c1t", 14 },
		{ "smt-2llc", "1n2l2c2t", 8 },
		{ "smt-3llc", "1n3l2c2t", 12 },
		{ "medium-4llc", "1n4l4c2t", 32 },
		{ "medium-8llc", "1n8l4c2t", 64 },
		{ "large-4llc", "1n4l16c2t", 128 },
		{ "large-8llc", "1n8l8c2t", 128 },
		{ "near-max-llc", "1n15l8c2t", 240 },
		{ "max-cpu", "1n14l9c2t", 252 },
		{ "medium-4llc-nosmt", "1n4l8c1t", 32 },
		{ "medium-8llc-nosmt", "1n8l8c1t", 64 },
		{ "large-4llc-nosmt", "1n4l32c1t", 128 },
		{ "large-8llc-nosmt", "1n8l16c1t", 128 },
		{ "near-max-llc-nosmt", "1n15l16c1t", 240 },
		{ "max-cpu-nosmt", "1n14l18c1t", 252 },
		{ "numa2-4llc", "2n4l4c1t", 16 },
		{ "numa2-8llc", "2n8l8c2t", 128 },
		{ "numa2-8llc-nosmt", "2n8l16c1t", 128 },
		{ "numa4-8llc", "4n8l4c1t", 32 },
		{ "numa4-12llc", "4n12l8c2t", 192 },
	};
	struct topo t;
	struct err e;
	char text[TOPO_TEXT_MAX];
	unsigned n;

	topo_presets(&n);
	assert_int_equal(n, 24);
	assert_int_equal(ARRAY_LEN(want), 24);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(topo_parse(want[i].name, &e, &t), 0);
		assert_int_equal(topo_validate(&t, 4ull << 30, &e), 0);
		topo_format(&t, text);
		assert_string_equal(text, want[i].dims);
		assert_int_equal(topo_cpus(&t), want[i].cpus);
	}
}

static void places(void **state)
{
	struct topo t;
	struct topo_place p;
	struct err e;

	assert_int_equal(topo_parse("2n4l3c2t", &e, &t), 0);
	assert_int_equal(topo_validate(&t, 0, &e), 0);
	topo_place(&t, 0, &p);
	assert_true(p.node == 0 && p.llc == 0 && p.core == 0 && p.thread == 0);
	topo_place(&t, 11, &p);
	assert_true(p.node == 0 && p.llc == 1 && p.core == 2 && p.thread == 1);
	topo_place(&t, 12, &p);
	assert_true(p.node == 1 && p.llc == 2 && p.core == 0 && p.thread == 0);
	topo_place(&t, 23, &p);
	assert_true(p.node == 1 && p.llc == 3 && p.core == 2 && p.thread == 1);
}

static void explicit_nodes(void **state)
{
	struct topo t;
	struct topo_place p;
	struct err e;

	assert_int_equal(topo_parse("1n3l2c1t", &e, &t), 0);
	assert_int_equal(topo_add_node(&t, "mem=256M", &e), 0); /* memory only, first */
	assert_int_equal(topo_add_node(&t, "llcs=2,mem=1G,lat=90,bw=60000", &e), 0);
	assert_int_equal(topo_add_node(&t, "mem=512m,llcs=1,cache=64M:1:2:128", &e), 0);
	assert_int_equal(topo_validate(&t, 0, &e), 0);
	assert_int_equal(t.nodes, 3);
	assert_int_equal(topo_mem_sum(&t), 1792ull << 20);
	assert_int_equal(topo_validate(&t, 1792ull << 20, &e), 0);
	assert_int_equal(topo_validate(&t, 1793ull << 20, &e), -EINVAL);
	assert_int_equal(t.node[1].lat_ns, 90);
	assert_int_equal(t.node[1].bw_mbs, 60000);
	assert_int_equal(t.node[2].cache.size, 64 << 20);
	assert_int_equal(t.node[2].cache.policy, 2);
	assert_int_equal(t.node[2].cache.line, 128);
	topo_place(&t, 3, &p);
	assert_true(p.node == 1 && p.llc == 1);
	topo_place(&t, 4, &p);
	assert_true(p.node == 2 && p.llc == 2);
	topo_place(&t, 0, &p);
	assert_int_equal(p.node, 1);
}

static void bad_nodes(void **state)
{
	static const char *const bad[] = {
		"",
		"llcs=1",
		"llcs=1,mem=0",
		"mem=1G,",
		"mem=1G,x=2",
		"mem=1Q",
		"mem=1G 2",
		"mem=-1",
		"mem=4097",
		"mem=",
		"mem=1G,llcs=253",
		"mem=99999999999999999T",
		"mem=1G,cache=0",
		"mem=1G,cache=1M:16",
		"mem=1G,cache=1M:1:1:0",
		"mem=1G,lat=99999999",
	};
	struct topo t;
	struct err e;

	assert_int_equal(topo_parse("1n2l1c1t", &e, &t), 0);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		if (topo_add_node(&t, bad[i], &e) != -EINVAL)
			fail_msg("\"%s\" was accepted", bad[i]);
		assert_int_equal(t.nexplicit, 0);
	}
	assert_int_equal(topo_add_node(&t, "mem=1G,llcs=1", &e), 0);
	assert_int_equal(topo_validate(&t, 0, &e), -EINVAL); /* 1 LLC of 2 */
	assert_int_equal(topo_add_node(&t, "mem=1G,llcs=1", &e), 0);
	assert_int_equal(topo_validate(&t, 0, &e), 0);
	for (unsigned i = 2; i < TOPO_NODES_MAX; i++)
		assert_int_equal(topo_add_node(&t, "mem=1G", &e), 0);
	assert_int_equal(topo_add_node(&t, "mem=1G", &e), -EINVAL);
}

static void distances(void **state)
{
	static const struct {
		const char *text;
		bool parses;
	} bad[] = {
		{ "11,20/20,10", true },    { "10,20/21,10", true },  { "10,10/10,10", true },
		{ "10,20/20", false },	    { "10,20,20,10", false }, { "10,20/20,10/", false },
		{ "10,255/255,10", false }, { "10,x/20,10", false },  { "", false },
	};
	struct topo t;
	struct err e;

	assert_int_equal(topo_parse("2n2l1c1t", &e, &t), 0);
	assert_int_equal(topo_dist(&t, 0, 0), 10);
	assert_int_equal(topo_dist(&t, 0, 1), 20);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		int rc = topo_set_dist(&t, bad[i].text, &e);

		if (bad[i].parses)
			rc = rc < 0 ? 1 : topo_validate(&t, 0, &e);
		if (rc != -EINVAL)
			fail_msg("\"%s\" was accepted", bad[i].text);
	}
	assert_int_equal(topo_set_dist(&t, "10,42/42,10", &e), 0);
	assert_int_equal(topo_validate(&t, 0, &e), 0);
	assert_int_equal(topo_dist(&t, 1, 0), 42);
}

static void memory_across_gap(void **state)
{
	struct mem_region r[MEM_REGIONS_MAX];
	struct x86_e820 map[X86_E820_MAX];
	struct topo t;
	struct err e;
	unsigned n;
	u64 sum = 0;

	assert_int_equal(topo_parse("4n4l1c1t", &e, &t), 0);
	assert_int_equal(topo_validate(&t, 7ull << 30, &e), 0);
	assert_int_equal(x86_mem_layout(&t, (7ull << 30) + 4096, &e, r, &n), 0);
	assert_int_equal(n, 5);
	for (unsigned i = 0; i < n; i++) {
		sum += r[i].size;
		if (i)
			assert_true(r[i].base >= r[i - 1].base + r[i - 1].size);
		assert_true(r[i].base + r[i].size <= X86_GAP_BASE || r[i].base >= X86_GAP_END);
	}
	assert_int_equal(sum, (7ull << 30) + 4096);
	/* 1.75 GiB each: node 1 lies across the gap. */
	assert_int_equal(r[1].node, 1);
	assert_int_equal(r[2].node, 1);
	assert_int_equal(r[2].base, X86_GAP_END);
	assert_int_equal(x86_low_ram_end(r, n), X86_GAP_BASE);
	n = x86_e820_map(r, n, map);
	assert_int_equal(map[n - 1].base, X86_GAP_END);
	assert_int_equal(map[n - 1].size, (4ull << 30) + 4096);
	for (unsigned i = 1; i < n; i++)
		assert_true(map[i].base >= map[i - 1].base + map[i - 1].size);
	/* Exactly up to the gap: nothing above. */
	assert_int_equal(x86_mem_layout(&t, 3ull << 30, &e, r, &n), 0);
	assert_int_equal(n, 4);
	n = x86_e820_map(r, n, map);
	assert_int_equal(map[n - 1].base + map[n - 1].size, X86_GAP_BASE);
	assert_int_equal(x86_mem_layout(&t, 4097, &e, r, &n), -EINVAL);
	assert_int_equal(x86_mem_layout(&t, (64 << 20) + 1, &e, r, &n), -EINVAL);
	assert_int_equal(x86_mem_layout(&t, UINT64_MAX & ~4095ull, &e, r, &n), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parse_and_print), cmocka_unit_test(bad_text),
		cmocka_unit_test(presets),	   cmocka_unit_test(places),
		cmocka_unit_test(explicit_nodes),  cmocka_unit_test(bad_nodes),
		cmocka_unit_test(distances),	   cmocka_unit_test(memory_across_gap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
