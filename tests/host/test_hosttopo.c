// SPDX-License-Identifier: Apache-2.0
/*
 * test_hosttopo.c - hosts made of files, and the texts that describe sets of CPUs
 */
#include "host/hosttopo.h"

#include "base/path.h"
#include "fake_file.h"
#include "host/hostfile.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char root[64];

static int setup(void **s)
{
	snprintf(root, sizeof(root), "/tmp/orrery-host-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **s)
{
	return path_remove_tree(root);
}

#define put(text, name, ...) fake_file(root, text, "sys/devices/system/" name, ##__VA_ARGS__)

static struct host_topo *read_it(void)
{
	struct err e = { 0 };
	struct host_topo *t = NULL;

	if (host_topo_read(root, &e, &t) < 0)
		fail_msg("%s", e.msg);
	return t;
}

static void expect_list(const struct cpulist *l, const char *want)
{
	char text[256];

	assert_string_equal(cpulist_format(l, text, sizeof(text)), want);
}

static void lists(void **s)
{
	static const char *const bad[] = { "1,",    ",1",	   "1-",   "-1",   "3-1",   "a",
					   "1 2",   "1--2",	   "4096", "1\n2", "1,,2",  "0x1",
					   "1-2-3", "99999999999", "1-",   "1,-2", "0-4096" };
	struct cpulist l = { 0 }, all;
	char text[64];

	assert_int_equal(cpulist_parse("0-3,8,10-11\n", &l), 0);
	assert_int_equal(cpulist_count(&l), 7);
	assert_true(cpulist_has(&l, 8) && !cpulist_has(&l, 9) && !cpulist_has(&l, 99999));
	expect_list(&l, "0-3,8,10-11");
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		if (cpulist_parse(bad[i], &l) != -EINVAL)
			fail_msg("\"%s\" is accepted", bad[i]);
	assert_int_equal(cpulist_count(&l), 7);
	assert_int_equal(cpulist_parse("", &l), 0);
	assert_int_equal(cpulist_count(&l), 0);
	expect_list(&l, "");
	assert_int_equal(cpulist_parse("0-4095", &all), 0);
	assert_int_equal(cpulist_count(&all), CPULIST_MAX);
	assert_int_equal(cpulist_next(&all, 4095), 4095);
	assert_int_equal(cpulist_next(&all, 4096), CPULIST_NONE);
	for (unsigned i = 0; i < 60; i += 2)
		cpulist_add(&l, i);
	assert_string_equal(cpulist_format(&l, text, 16), "0,2,4,6,8,...");
	assert_string_equal(cpulist_format(&l, text, 8), "0,2,...");
}

/* What this machine says of itself must be readable, whatever it is. */
static void this_host(void **s)
{
	struct cpulist allowed;
	struct host_topo *t;
	struct err e = { 0 };
	u32 n = 0;

	assert_int_equal(cpulist_allowed(&allowed), 0);
	assert_int_equal(host_topo_read("", &e, &t), 0);
	cpulist_and(&allowed, &t->online);
	assert_true(cpulist_count(&allowed) >= 1);
	for (u32 i = 0; i < t->nllcs; i++)
		n += cpulist_count(&t->llc[i].cpus);
	assert_int_equal(n, cpulist_count(&t->online));
	host_topo_free(t);
	assert_int_equal(cpulist_confine(&allowed), 0);
}

static void caches(unsigned cpu, const char *core, const char *llc)
{
	put("1\n", "cpu/cpu%u/cache/index0/level", cpu);
	put("Data\n", "cpu/cpu%u/cache/index0/type", cpu);
	put(core, "cpu/cpu%u/cache/index0/shared_cpu_list", cpu);
	put("3\n", "cpu/cpu%u/cache/index2/level", cpu);
	put("Unified\n", "cpu/cpu%u/cache/index2/type", cpu);
	put(llc, "cpu/cpu%u/cache/index2/shared_cpu_list", cpu);
	put("32768K\n", "cpu/cpu%u/cache/index2/size", cpu);
	put("4\n", "cpu/cpu%u/cache/index3/level", cpu);
	put("Instruction\n", "cpu/cpu%u/cache/index3/type", cpu);
	put(core, "cpu/cpu%u/topology/core_cpus_list", cpu);
}

/* Two packages, numbered by turns; two threads to a core; node 1 has no CPUs, and 3 is far. */
static void two_packages(void **s)
{
	struct host_topo *t;

	put("0-7\n", "cpu/online");
	for (unsigned i = 0; i < 8; i++) {
		char core[16];

		snprintf(core, sizeof(core), "%u,%u\n", i % 4, i % 4 + 4);
		caches(i, core, i % 2 ? "1,3,5,7\n" : "0,2,4,6\n");
		put(i % 2 ? "1\n" : "0\n", "cpu/cpu%u/topology/physical_package_id", i);
	}
	put("0-1,3\n", "node/online");
	put("0,2,4,6\n", "node/node0/cpulist");
	put("\n", "node/node1/cpulist");
	put("1,3,5,7\n", "node/node3/cpulist");
	put("10 17 28\n", "node/node0/distance");
	put("17 10 28\n", "node/node1/distance");
	put("28 28 10\n", "node/node3/distance");
	put("Node 3 MemTotal:   100 kB\nNode 3 MemFree:    50 kB\n", "node/node3/meminfo");
	put("7\n", "node/node3/hugepages/hugepages-2048kB/free_hugepages");
	t = read_it();
	assert_int_equal(t->packages, 2);
	assert_int_equal(t->cores, 4);
	assert_true(t->smt);
	assert_int_equal(t->nllcs, 2);
	expect_list(&t->llc[1].cpus, "1,3,5,7");
	assert_int_equal(t->llc[1].size, 32u << 20);
	assert_int_equal(t->llc[1].node, 2);
	assert_int_equal(t->llc_of[5], 1);
	assert_int_equal(t->core_of[5], t->core_of[1]);
	assert_int_not_equal(t->core_of[5], t->core_of[3]);
	assert_int_equal(t->nnodes, 3);
	assert_int_equal(t->node[2].id, 3);
	assert_int_equal(host_topo_distance(t, 0, 2), 28);
	assert_int_equal(t->node[2].mem_free, 50 << 10);
	assert_int_equal(t->node[2].huge2_free, 7);
	assert_int_equal(t->node[0].mem_free, 0);
	host_topo_free(t);

	/* A CPU that is off line is nowhere. */
	put("0-6\n", "cpu/online");
	t = read_it();
	expect_list(&t->llc[1].cpus, "1,3,5");
	expect_list(&t->node[2].cpus, "1,3,5");
	host_topo_free(t);
}

/* No caches, no nodes, no cores: as some virtual machines and containers have it. */
static void bare(void **s)
{
	struct host_topo *t;
	struct err e = { 0 };

	assert_int_equal(host_topo_read(root, &e, &t), -ENOENT);
	assert_non_null(strstr(e.msg, "cpu/online"));
	put("0-2\n", "cpu/online");
	t = read_it();
	assert_int_equal(t->nllcs, 1);
	expect_list(&t->llc[0].cpus, "0-2");
	assert_int_equal(t->cores, 3);
	assert_int_equal(t->packages, 1);
	assert_int_equal(t->nnodes, 1);
	expect_list(&t->node[0].cpus, "0-2");
	assert_int_equal(host_topo_distance(t, 0, 0), 10);
	host_topo_free(t);

	/* Without caches, packages stand for them. */
	put("0-1\n", "cpu/cpu0/topology/core_siblings_list");
	put("0-1\n", "cpu/cpu1/topology/core_siblings_list");
	put("2\n", "cpu/cpu2/topology/package_cpus_list");
	t = read_it();
	assert_int_equal(t->nllcs, 2);
	expect_list(&t->llc[1].cpus, "2");
	host_topo_free(t);
}

/* Files that contradict each other or make no sense still give one place to each CPU. */
static void nonsense(void **s)
{
	struct host_topo *t;
	u32 n = 0;

	put("0-3\n", "cpu/online");
	caches(0, "0-1\n", "0-9999999\n");
	caches(1, "0-3\n", "1-2\n");
	caches(2, "x\n", "0-3\n");
	caches(3, "\n", "\n");
	put("banana\n", "cpu/cpu3/topology/physical_package_id");
	put("0,7,200\n", "node/online");
	put("0-\n", "node/node0/cpulist");
	put("10 banana\n", "node/node0/distance");
	put("0-3\n", "node/node7/cpulist");
	t = read_it();
	for (u32 i = 0; i < t->nllcs; i++)
		n += cpulist_count(&t->llc[i].cpus);
	assert_int_equal(n, 4);
	cpulist_each(&t->online, cpu)
	{
		assert_true(t->llc_of[cpu] < t->nllcs);
		assert_true(cpulist_has(&t->llc[t->llc_of[cpu]].cpus, cpu));
		assert_true(t->core_of[cpu] < t->cores);
	}
	assert_int_equal(t->nnodes, 2); /* 200 is more than a mask holds */
	assert_int_equal(host_topo_distance(t, 0, 1), 20);
	host_topo_free(t);
	put("4-2\n", "cpu/online");
	struct err e = { 0 };
	assert_int_equal(host_topo_read(root, &e, &t), -EINVAL);
}

static void fields(void **s)
{
	static const char text[] = "MemTotal:  12 kB\nHugePages_Free:        3\nHuge: x\n";

	assert_int_equal(hostfile_field(text, "HugePages_Free", 9), 3);
	assert_int_equal(hostfile_field(text, "MemTotal", 9), 12);
	assert_int_equal(hostfile_field(text, "Huge:", 9), 9);
	assert_int_equal(hostfile_field(text, "Nothing", 9), 9);
	assert_int_equal(hostfile_field("", "Nothing", 9), 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists),
		cmocka_unit_test(this_host),
		cmocka_unit_test(fields),
		cmocka_unit_test_setup_teardown(two_packages, setup, teardown),
		cmocka_unit_test_setup_teardown(bare, setup, teardown),
		cmocka_unit_test_setup_teardown(nonsense, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
