// SPDX-License-Identifier: Apache-2.0
/*
 * test_perf.c - --perf and --cpu-cap on hosts with several nodes: which thread and which memory goes where
 *
 * The host is made of files, and what would be done to it is written down instead.
 */
#include "vm/perf.h"

#include "base/path.h"
#include "base/thread.h"
#include "board/topology.h"
#include "host/cpulist.h"
#include "host/fake_file.h"
#include "mem/mem_back.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#define CPUS 16u
#define M (1ull << 20)

static char root[64];
static int words; /* a file for what perf says */
static struct cpulist all;

/* What was done, in order: "on 4-7", "fifo 1", "memory huge strict present 1 2". */
static char done[1024];
static bool no_fifo;
static unsigned refuse_memory; /* how many times */

static void note(const char *fmt, ...) attr_printf(1, 2);

static void note(const char *fmt, ...)
{
	size_t at = strlen(done);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(done + at, sizeof(done) - at, fmt, ap);
	va_end(ap);
}

static int confine(const struct cpulist *l)
{
	char text[64];

	note("on %s; ", cpulist_format(l, text, sizeof(text)));
	return 0;
}

static int fifo(int prio)
{
	note("fifo %d; ", prio);
	return no_fifo ? -EPERM : 0;
}

static int back(struct mem *m, const struct mem_backing *b, struct err *e)
{
	note("memory%s%s%s", b->huge ? " huge" : "", b->strict ? " strict" : "",
	     b->present ? " present" : "");
	for (unsigned i = 0; i < b->n_nodes; i++)
		note(" %llu", (unsigned long long)b->nodes[i]);
	note("; ");
	return refuse_memory && refuse_memory-- ? err_set(e, -ENOMEM, "there is none") : 0;
}

static const struct perf_host fake = {
	.root = root, .allowed = &all, .confine = confine, .fifo = fifo, .back = back
};

/* --- the host --------------------------------------------------------------------------------- */

#define put(text, ...) fake_file(root, text, __VA_ARGS__)

/* Nodes 1 and 4, with two caches of four CPUs each; a GiB is free on each node. */
static void make_host(void)
{
	static const unsigned node[] = { 1, 4 };
	char text[256];

	put("0-15\n", "sys/devices/system/cpu/online");
	for (unsigned i = 0; i < CPUS; i++) {
		const char *cpu = "sys/devices/system/cpu/cpu";

		snprintf(text, sizeof(text), "%u-%u\n", i / 4 * 4, i / 4 * 4 + 3);
		put(text, "%s%u/cache/index0/shared_cpu_list", cpu, i);
		put("3\n", "%s%u/cache/index0/level", cpu, i);
		put("Unified\n", "%s%u/cache/index0/type", cpu, i);
		snprintf(text, sizeof(text), "%u\n", i);
		put(text, "%s%u/topology/core_cpus_list", cpu, i);
		put(i < 8 ? "0\n" : "1\n", "%s%u/topology/physical_package_id", cpu, i);
	}
	put("1,4\n", "sys/devices/system/node/online");
	for (unsigned i = 0; i < 2; i++) {
		const char *dir = "sys/devices/system/node/node";

		put(i ? "8-15\n" : "0-7\n", "%s%u/cpulist", dir, node[i]);
		put(i ? "20 10\n" : "10 20\n", "%s%u/distance", dir, node[i]);
		snprintf(text, sizeof(text),
			 "Node %u MemTotal: 4194304 kB\nNode %u MemFree: 1048576 kB\n", node[i],
			 node[i]);
		put(text, "%s%u/meminfo", dir, node[i]);
	}
	put("MemTotal: 8388608 kB\nMemAvailable: 2097152 kB\n", "proc/meminfo");
	put("0.1 0.1 0.1 1/99 1234\n", "proc/loadavg");
	put("tsc\n", "sys/devices/system/clocksource/clocksource0/current_clocksource");
}

static int setup(void **s)
{
	snprintf(root, sizeof(root), "/tmp/orrery-perf-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	make_host();
	setenv("ORRERY_LOCK_DIR", root, 1);
	assert_int_equal(cpulist_parse("0-15", &all), 0);
	words = memfd_create("words", MFD_CLOEXEC);
	done[0] = 0;
	no_fifo = false;
	refuse_memory = 0;
	return words < 0 ? -1 : 0;
}

static int teardown(void **s)
{
	close(words);
	unsetenv("ORRERY_LOCK_DIR");
	return path_remove_tree(root);
}

static const char *said(void)
{
	static char text[2048];
	ssize_t n = pread(words, text, sizeof(text) - 1, 0);

	text[MAX(n, 0)] = 0;
	return text;
}

/* What was done since the last call. */
static void expect_done(const char *want)
{
	assert_string_equal(done, want);
	done[0] = 0;
}

static struct perf *start(struct vm_cfg cfg, const char *shape, bool kvm)
{
	struct perf *p = NULL;
	struct err e = { 0 };
	struct topo t;

	cfg.err_fd = words;
	if (topo_parse(shape, &e, &t) < 0 || perf_new_on(&fake, &cfg, &t, kvm, &e, &p) < 0)
		fail_msg("%s", e.msg);
	return p;
}

static struct mem *memory(void)
{
	static const struct mem_region regions[] = {
		{ .base = 0, .size = 512 * M }, { .base = 512 * M, .size = 512 * M, .node = 1 }
	};
	struct mem *m;

	assert_int_equal(mem_new(regions, 2, NULL, &m), 0);
	return m;
}

/* --- tests ------------------------------------------------------------------------------------ */

/* Guest nodes on host nodes, with threads and memory. */
static void two_nodes(void **s)
{
	struct vm_cfg cfg = { .perf = VM_PERF_LLCS };
	struct perf *p = start(cfg, "2n2l3c1t", true);
	struct mem *m = memory();
	struct cpulist here;
	size_t size = CPU_ALLOC_SIZE(CPULIST_MAX);
	cpu_set_t *set = CPU_ALLOC(CPULIST_MAX);

	assert_true(perf_owns_cpus(p));
	/* The VM's thread is on the service CPU, the one left of the first cache. */
	expect_done("on 3; fifo 2; ");
	assert_int_equal(perf_vcpu_thread(p, 0), 0);
	assert_int_equal(perf_vcpu_thread(p, 2), 0);
	assert_int_equal(perf_vcpu_thread(p, 3), 0);
	assert_int_equal(perf_vcpu_thread(p, 5), 0);
	expect_done("on 0; fifo 1; on 2; fifo 1; on 8; fifo 1; on 10; fifo 1; ");
	/* Host nodes have the numbers 1 and 4. */
	assert_int_equal(perf_back_mem(p, m, NULL), 0);
	expect_done("memory huge strict present 2 16; ");
	assert_string_equal(said(), "");
	/* What serves begins on the service CPU, at ordinary priority. */
	assert_non_null(thread_attr());
	assert_int_equal(pthread_attr_getaffinity_np(thread_attr(), size, set), 0);
	assert_int_equal(CPU_COUNT_S(size, set), 1);
	assert_true(CPU_ISSET_S(3, size, set));
	CPU_FREE(set);
	assert_int_equal(cpulist_allowed(&here), 0);
	perf_free(p);
	assert_null(thread_attr());
	mem_free(m);
}

/* One node's CPUs are taken: both of the guest's are on the other, and that is said. */
static void nodes_meet(void **s)
{
	struct vm_cfg cfg = { .perf = VM_PERF_CPUS };
	struct perf *p;
	struct mem *m = memory();

	assert_int_equal(cpulist_parse("8-15", &all), 0);
	p = start(cfg, "2n2l3c1t", true);
	assert_int_equal(perf_back_mem(p, m, NULL), 0);
	assert_non_null(strstr(done, "memory huge strict present 16 16; "));
	assert_non_null(strstr(said(), "NUMA nodes of the guest are on the same one"));
	perf_free(p);
	mem_free(m);
}

/* A guest node that has more caches than any of the host's lies on both. */
static void node_split(void **s)
{
	struct vm_cfg cfg = { .perf = VM_PERF_LLCS };
	struct perf *p = start(cfg, "1n3l3c1t", true);
	struct mem *m = memory();

	assert_int_equal(perf_back_mem(p, m, NULL), 0);
	assert_non_null(strstr(done, "memory huge strict present 18; "));
	assert_non_null(strstr(said(), "is spread over several"));
	perf_free(p);
	mem_free(m);
}

/* The built-in CPU is one thread, wherever the guest believes to be: memory is where that is. */
static void one_thread(void **s)
{
	struct vm_cfg cfg = { .perf = VM_PERF_LLCS };
	struct perf *p = start(cfg, "2n2l3c1t", false);
	struct mem *m = memory();

	expect_done("on 0; fifo 1; ");
	assert_int_equal(perf_back_mem(p, m, NULL), 0);
	expect_done("memory huge strict present 2 2; ");
	perf_free(p);
	mem_free(m);
}

/* What cannot be had is warned of, and what is left is asked for; a reset asks for that at once. */
static void lacks(void **s)
{
	struct vm_cfg cfg = { .perf = VM_PERF_LLCS };
	struct mem *m = memory();
	struct perf *p;

	no_fifo = true;
	put("0.1 0.1 0.1 9/99 1234\n", "proc/loadavg");
	put("hpet\n", "sys/devices/system/clocksource/clocksource0/current_clocksource");
	p = start(cfg, "2n2l3c1t", true);
	expect_done("on 3; fifo 2; ");
	assert_int_equal(perf_vcpu_thread(p, 0), 0);
	expect_done("on 0; ");
	assert_non_null(strstr(said(), "no real-time priority"));
	assert_non_null(strstr(said(), "8 other threads are running"));
	assert_non_null(strstr(said(), "clock source is hpet"));
	refuse_memory = 1;
	assert_int_equal(perf_back_mem(p, m, NULL), 0);
	/* There is room on the nodes and on the host. */
	expect_done("memory huge strict present 2 16; memory strict present 2 16; ");
	assert_non_null(strstr(said(), "no huge pages for guest memory, which takes 512 of 2 MiB"));
	assert_int_equal(perf_back_mem(p, m, NULL), 0);
	expect_done("memory strict present 2 16; ");
	perf_warn(p, "HLT leaves");
	perf_warn(p, "HLT leaves");
	assert_non_null(strstr(said(), "--perf: HLT leaves\n"));
	assert_null(strstr(strstr(said(), "HLT leaves") + 1, "HLT leaves"));
	perf_free(p);
	mem_free(m);
}

/* Without room there, neither strictness nor presence: they would be somebody's end. */
static void no_room(void **s)
{
	struct vm_cfg cfg = { .perf = VM_PERF_LLCS };
	struct mem *m = memory();
	struct perf *p;

	put("Node 1 MemFree: 400000 kB\n", "sys/devices/system/node/node1/meminfo");
	put("Node 4 MemFree: 400000 kB\n", "sys/devices/system/node/node4/meminfo");
	put("MemAvailable: 800000 kB\n", "proc/meminfo");
	p = start(cfg, "2n2l3c1t", true);
	done[0] = 0;
	refuse_memory = 1;
	assert_int_equal(perf_back_mem(p, m, NULL), 0);
	expect_done("memory huge strict present 2 16; memory 2 16; ");
	perf_free(p);
	mem_free(m);
}

/* --cpu-cap: a mask for all threads, at ordinary priority; memory is as for any guest. */
static void capped(void **s)
{
	struct vm_cfg cfg = { .cpu_cap = 3 };
	struct perf *p = start(cfg, "2n2l3c1t", true);
	struct mem *m = memory();

	assert_false(perf_owns_cpus(p));
	expect_done("on 0-2; ");
	assert_int_equal(perf_vcpu_thread(p, 0), 0);
	assert_int_equal(perf_back_mem(p, m, NULL), 0);
	expect_done("");
	assert_null(thread_attr());
	perf_free(p);
	done[0] = 0;

	/* Three tenths of 16 are 5; 6 vCPUs have 6 threads under KVM. */
	cfg.cpu_cap = VM_CPU_CAP_AUTO;
	p = start(cfg, "2n2l3c1t", false);
	expect_done("on 0-4; ");
	perf_free(p);
	done[0] = 0;
	p = start(cfg, "2n2l3c1t", true);
	expect_done("on 0-5; ");
	perf_free(p);
	done[0] = 0;
	assert_int_equal(cpulist_parse("9", &all), 0);
	p = start(cfg, "2n2l3c1t", true);
	expect_done("on 9; ");
	perf_free(p);
	mem_free(m);
}

/* What does not fit is an error with the numbers, and nothing is done. */
static void does_not_fit(void **s)
{
	struct vm_cfg cfg = { .perf = VM_PERF_LLCS, .err_fd = words };
	struct perf *p = NULL;
	struct err e = { 0 };
	struct topo t;

	assert_int_equal(topo_parse("1n5l1c1t", &e, &t), 0);
	assert_int_equal(perf_new_on(&fake, &cfg, &t, true, &e, &p), -ENOSPC);
	assert_null(p);
	assert_non_null(strstr(e.msg, "5 last-level caches are wanted"));
	assert_int_equal(topo_parse("1n4l4c1t", &e, &t), 0);
	assert_int_equal(perf_new_on(&fake, &cfg, &t, true, &e, &p), -ENOSPC);
	assert_non_null(strstr(e.msg, "16 CPUs and one more to serve them are wanted, and 16"));
	expect_done("");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(two_nodes, setup, teardown),
		cmocka_unit_test_setup_teardown(nodes_meet, setup, teardown),
		cmocka_unit_test_setup_teardown(node_split, setup, teardown),
		cmocka_unit_test_setup_teardown(one_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(lacks, setup, teardown),
		cmocka_unit_test_setup_teardown(no_room, setup, teardown),
		cmocka_unit_test_setup_teardown(capped, setup, teardown),
		cmocka_unit_test_setup_teardown(does_not_fit, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
