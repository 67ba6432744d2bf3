// SPDX-License-Identifier: Apache-2.0
/*
 * test_place.c - plans for hosts of many shapes, none of which needs to be this one
 */
#include "host/place.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* How the kernel numbers the threads of a core: side by side, or all first ones before the second. */
enum numbering { ADJACENT, APART };

static struct host_topo *host(u32 nodes, u32 llcs, u32 cores, u32 threads, enum numbering how)
{
	struct host_topo *t = calloc(1, sizeof(*t));
	u32 n = nodes * llcs * cores;

	assert_non_null(t);
	t->nnodes = nodes;
	t->nllcs = nodes * llcs;
	t->cores = n;
	t->packages = nodes;
	t->smt = threads > 1;
	t->llc = calloc(t->nllcs, sizeof(*t->llc));
	t->node = calloc(nodes, sizeof(*t->node));
	t->distance = calloc((size_t)nodes * nodes, sizeof(*t->distance));
	assert_true(t->llc && t->node && t->distance);
	for (u32 core = 0; core < n; core++) {
		for (u32 k = 0; k < threads; k++) {
			u32 cpu = how == ADJACENT ? core * threads + k : core + k * n;
			u32 llc = core / cores, node = llc / llcs;

			cpulist_add(&t->online, cpu);
			t->core_of[cpu] = core;
			t->llc_of[cpu] = llc;
			cpulist_add(&t->llc[llc].cpus, cpu);
			t->llc[llc].node = node;
			cpulist_add(&t->node[node].cpus, cpu);
		}
	}
	for (u32 a = 0; a < nodes; a++) {
		t->node[a].id = a;
		for (u32 b = 0; b < nodes; b++)
			t->distance[a * nodes + b] =
				a == b ? 10 : 10 + 10 * (a > b ? a - b : b - a);
	}
	return t;
}

static const u8 one_domain[PLACE_GROUPS_MAX];

static struct place_want want(enum place_mode mode, u32 groups, u32 cores, u32 threads)
{
	return (struct place_want){ .mode = mode,
				    .groups = groups,
				    .cores = cores,
				    .threads = threads,
				    .domains = 1,
				    .domain = one_domain };
}

static struct place_free all_of(const struct host_topo *t)
{
	return (struct place_free){ .cpus = t->online };
}

static const char *text(const struct cpulist *l)
{
	static char t[2][128];
	static unsigned i;

	return cpulist_format(l, t[i++ % 2], sizeof(t[0]));
}

static void expect_cpus(const struct place *p, const u16 *cpu, u32 n)
{
	assert_int_equal(p->n, n);
	for (u32 i = 0; i < n; i++)
		assert_int_equal(p->cpu[i], cpu[i]);
}

/* One cache, as most desktops have: the other threads of the guest's cores stay idle. */
static void one_cache(void **s)
{
	struct host_topo *t = host(1, 1, 4, 2, ADJACENT);
	struct place_want w = want(PLACE_LLCS, 1, 3, 1);
	struct place_free f = all_of(t);
	struct err e = { 0 };
	struct place p;

	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	expect_cpus(&p, (u16[]){ 0, 2, 4 }, 3);
	assert_int_equal(p.service, 6); /* a core of its own */
	assert_int_equal(p.service_llc, -1);
	assert_string_equal(text(&p.llcs), "0");
	assert_string_equal(text(&p.cpus), "0,2,4,6");
	assert_false(p.cores_differ);

	w.cores = 4; /* the service CPU is a sibling then */
	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	expect_cpus(&p, (u16[]){ 0, 2, 4, 6 }, 4);
	assert_int_equal(p.service, 1);

	w.cores = 2; /* siblings of the guest are siblings here */
	w.threads = 2;
	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	expect_cpus(&p, (u16[]){ 0, 1, 2, 3 }, 4);
	assert_int_equal(p.service, 4);

	w = want(PLACE_LLCS, 1, 7, 1); /* more than cores: some share one */
	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	assert_true(p.cores_differ);
	assert_int_equal(p.service, 7);

	w.cores = 8; /* nothing is left to serve them */
	assert_int_equal(place_plan(t, &w, &f, &e, &p), -ENOSPC);
	assert_string_equal(e.msg,
			    "8 CPUs and one more to serve them are wanted, and 8 can be had");
	w = want(PLACE_LLCS, 2, 1, 1);
	assert_int_equal(place_plan(t, &w, &f, &e, &p), -ENOSPC);
	assert_string_equal(e.msg,
			    "2 last-level caches are wanted, each with 1 CPUs, and 1 can be had");
	host_topo_free(t);
}

static void one_cpu(void **s)
{
	struct host_topo *t = host(1, 1, 1, 1, ADJACENT);
	struct place_want w = want(PLACE_CPUS, 1, 1, 1);
	struct place_free f = all_of(t);
	struct err e = { 0 };
	struct place p = { .n = 99 };

	assert_int_equal(place_plan(t, &w, &f, &e, &p), -ENOSPC);
	assert_int_equal(p.n, 99);
	assert_non_null(strstr(e.msg, "1 CPU and one more"));
	host_topo_free(t);
}

/* A server of two sockets with eight small caches each, threads numbered apart. */
static void two_sockets(void **s)
{
	struct host_topo *t = host(2, 8, 8, 2, APART);
	struct place_want w = want(PLACE_LLCS, 2, 8, 2);
	struct place_free f = all_of(t);
	struct err e = { 0 };
	struct place p;

	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	assert_int_equal(p.cpu[0], 0);
	assert_int_equal(p.cpu[1], 128); /* its sibling */
	assert_int_equal(p.cpu[2], 1);
	assert_int_equal(p.cpu[16], 8);
	assert_string_equal(text(&p.llcs), "0-1");
	assert_int_equal(p.service, 16); /* both caches are full: the nearest third */
	assert_int_equal(p.service_llc, 2);
	assert_int_equal(p.nodes[0], 1);

	/* Two nodes of the guest are two of the host's. */
	w = want(PLACE_LLCS, 4, 4, 1);
	w.domains = 2;
	w.domain = (const u8[]){ 0, 0, 1, 1 };
	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	assert_string_equal(text(&p.llcs), "0-1,8-9");
	assert_int_equal(p.nodes[0], 1);
	assert_int_equal(p.nodes[1], 2);
	assert_false(p.domain_split || p.domains_meet);

	/* Larger than a node: it is spread, and said. */
	w = want(PLACE_LLCS, 9, 4, 1);
	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	assert_true(p.domain_split);
	assert_int_equal(p.nodes[0], 3);

	/* Three nodes of the guest on two. */
	w = want(PLACE_LLCS, 3, 4, 1);
	w.domains = 3;
	w.domain = (const u8[]){ 0, 1, 2 };
	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	assert_true(p.domains_meet);
	assert_false(p.domain_split);
	host_topo_free(t);
}

/* A domain that needs a whole node gets it, though a smaller one comes first. */
static void large_domain_first(void **s)
{
	struct host_topo *t = host(2, 2, 2, 1, ADJACENT);
	struct place_want w = want(PLACE_LLCS, 3, 1, 1);
	struct place_free f = all_of(t);
	struct err e = { 0 };
	struct place p;

	w.domains = 3; /* the middle one is memory only */
	w.domain = (const u8[]){ 0, 2, 2 };
	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	assert_false(p.domain_split || p.domains_meet);
	assert_int_equal(p.nodes[2], 1);
	assert_int_equal(p.nodes[0], 2);
	assert_int_equal(p.nodes[1], 0);
	expect_cpus(&p, (u16[]){ 4, 0, 2 }, 3);
	host_topo_free(t);
}

/* Near nodes before far ones. */
static void distances(void **s)
{
	struct host_topo *t = host(4, 1, 4, 1, ADJACENT);
	struct place_want w = want(PLACE_LLCS, 2, 2, 1);
	struct place_free f = all_of(t);
	struct err e = { 0 };
	struct place p;

	w.domains = 2;
	w.domain = (const u8[]){ 0, 1 };
	cpulist_add(&f.barred, 0);
	cpulist_add(&f.barred, 2);
	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	assert_string_equal(text(&p.llcs), "1,3");
	f.barred = (struct cpulist){ 0 };
	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	assert_string_equal(text(&p.llcs), "0-1");
	host_topo_free(t);
}

/* What others hold is not taken, whole or in part. */
static void others(void **s)
{
	struct host_topo *t = host(1, 4, 4, 1, ADJACENT);
	struct place_want w = want(PLACE_LLCS, 1, 4, 1);
	struct place_free f = all_of(t);
	struct err e = { 0 };
	struct place p;

	cpulist_add(&f.barred, 0);
	cpulist_add(&f.shared, 1);
	cpulist_add(&f.taken, 4);
	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	assert_string_equal(text(&p.llcs), "2");
	assert_int_equal(p.service, 5); /* a shared one will do, a whole one is kept... */
	assert_int_equal(p.service_llc, 1);

	w.mode = PLACE_CPUS; /* ...and for CPUs it will do as well */
	w.cores = 3;
	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	assert_string_equal(text(&p.llcs), "1");
	expect_cpus(&p, (u16[]){ 5, 6, 7 }, 3);

	f.cpus = (struct cpulist){ 0 }; /* what the kernel allows is the frame */
	cpulist_parse("5,8-9", &f.cpus);
	w.cores = 2;
	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	expect_cpus(&p, (u16[]){ 8, 9 }, 2);
	assert_int_equal(p.service, 5);
	host_topo_free(t);
}

/* Efficiency cores without siblings beside performance cores with them, all in one cache. */
static void hybrid(void **s)
{
	struct host_topo *t = host(1, 1, 4, 2, ADJACENT);
	struct place_want w = want(PLACE_LLCS, 1, 4, 2);
	struct place_free f = all_of(t);
	struct err e = { 0 };
	struct place p;

	for (u32 cpu = 8; cpu < 12; cpu++) {
		cpulist_add(&t->online, cpu);
		cpulist_add(&t->llc[0].cpus, cpu);
		t->core_of[cpu] = cpu;
	}
	f = all_of(t);
	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	expect_cpus(&p, (u16[]){ 0, 1, 2, 3, 4, 5, 6, 7 }, 8);
	assert_false(p.cores_differ);
	assert_int_equal(p.service, 8);
	w.cores = 5; /* a fifth core with two threads there is not */
	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	assert_true(p.cores_differ);
	host_topo_free(t);
}

static void cap(void **s)
{
	struct host_topo *t = host(2, 2, 4, 2, ADJACENT);
	struct place_want w = { .mode = PLACE_CAP, .cap = 3 };
	struct place_free f = all_of(t);
	u16 load[CPULIST_MAX] = { 0 };
	struct err e = { 0 };
	struct place p;

	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	assert_string_equal(text(&p.cpus), "0,2,4"); /* cores before siblings */
	assert_int_equal(p.n, 0);
	assert_int_equal(p.service, -1);

	/* The next one goes where caches are shared already, and to other CPUs. */
	cpulist_add(&f.shared, 0);
	load[0] = load[2] = load[4] = 1;
	f.load = load;
	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	assert_string_equal(text(&p.cpus), "1,3,6");
	assert_string_equal(text(&p.llcs), "0");

	/* More than a cache: the next on the same node. */
	w.cap = 12;
	f.load = NULL;
	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	assert_string_equal(text(&p.llcs), "0-1");
	cpulist_add(&f.barred, 1);
	assert_int_equal(place_plan(t, &w, &f, &e, &p), 0);
	assert_string_equal(text(&p.llcs), "0,2");
	w.cap = 25;
	assert_int_equal(place_plan(t, &w, &f, &e, &p), -ENOSPC);
	assert_string_equal(e.msg, "25 CPUs are wanted, and 24 can be had");
	host_topo_free(t);
}

/* --- any shape ------------------------------------------------------------------------------- */

static u64 rnd_state;

static u32 rnd(u32 n)
{
	rnd_state = rnd_state * 6364136223846793005ull + 1442695040888963407ull;
	return (u32)(rnd_state >> 33) % n;
}

static void check(const struct host_topo *t, const struct place_want *w, const struct place_free *f,
		  const struct place *p)
{
	u32 per = w->cores * w->threads;
	struct cpulist seen = { 0 }, llcs = { 0 };

	assert_int_equal(p->n, w->groups * per);
	for (u32 i = 0; i < p->n; i++) {
		u32 cpu = p->cpu[i], llc = t->llc_of[cpu];

		assert_true(cpulist_has(&f->cpus, cpu) && !cpulist_has(&f->taken, cpu));
		assert_false(cpulist_has(&seen, cpu));
		cpulist_add(&seen, cpu);
		assert_false(cpulist_has(&f->barred, llc));
		assert_false(w->mode == PLACE_LLCS && cpulist_has(&f->shared, llc));
		if (i % per)
			assert_int_equal(llc, t->llc_of[p->cpu[i - 1]]);
		else
			assert_false(cpulist_has(&llcs, llc));
		cpulist_add(&llcs, llc);
		assert_true(p->nodes[w->domain[i / per]] >> t->node[t->llc[llc].node].id & 1);
		if (p->cores_differ)
			continue;
		/* Threads of one core here are those of one core there. */
		for (u32 k = i - i % per; k < i; k++)
			assert_int_equal(t->core_of[p->cpu[k]] == t->core_of[cpu],
					 k / w->threads == i / w->threads);
	}
	assert_true(p->service >= 0 && !cpulist_has(&seen, (u32)p->service));
	cpulist_add(&seen, (u32)p->service);
	assert_memory_equal(&seen, &p->cpus, sizeof(seen));
	assert_memory_equal(&llcs, &p->llcs, sizeof(llcs));
}

/* With one domain and nobody else there is a plan if and only if counting says so. */
static bool possible(const struct host_topo *t, const struct place_want *w,
		     const struct place_free *f)
{
	u32 fit = 0, all = 0;

	for (u32 i = 0; i < t->nllcs; i++) {
		struct cpulist l = f->cpus;

		cpulist_and(&l, &t->llc[i].cpus);
		fit += cpulist_count(&l) >= w->cores * w->threads;
		all += cpulist_count(&l);
	}
	return fit >= w->groups && all > w->groups * w->cores * w->threads;
}

static void any_shape(void **s)
{
	unsigned planned = 0;

	for (unsigned i = 0; i < 3000; i++) {
		struct host_topo *t = host(1 + rnd(4), 1 + rnd(4), 1 + rnd(8), 1 + rnd(2),
					   rnd(2) ? ADJACENT : APART);
		struct place_want w =
			want(rnd(2) ? PLACE_LLCS : PLACE_CPUS, 1 + rnd(4), 1 + rnd(6), 1 + rnd(2));
		struct place_free f = all_of(t);
		u8 domain[PLACE_GROUPS_MAX] = { 0 };
		struct err e = { 0 };
		struct place p, again;
		bool alone = rnd(2);
		int r;

		cpulist_each(&t->online, cpu)
		{
			if (!rnd(8))
				cpulist_del(&f.cpus, cpu);
			if (!alone && !rnd(16))
				cpulist_add(&f.taken, cpu);
		}
		for (u32 l = 0; !alone && l < t->nllcs; l++)
			if (!rnd(4))
				cpulist_add(rnd(2) ? &f.barred : &f.shared, l);
		if (!alone) {
			w.domains = 1 + rnd(w.groups);
			for (u32 g = 0; g < w.groups; g++)
				domain[g] = (u8)(g * w.domains / w.groups);
			w.domain = domain;
		}
		r = place_plan(t, &w, &f, &e, &p);
		if (r == 0) {
			check(t, &w, &f, &p);
			assert_int_equal(place_plan(t, &w, &f, &e, &again), 0);
			assert_memory_equal(&p, &again, sizeof(p));
			planned++;
		} else {
			assert_int_equal(r, -ENOSPC);
			assert_true(e.msg[0]);
		}
		if (alone)
			assert_int_equal(r == 0, possible(t, &w, &f));
		host_topo_free(t);
	}
	assert_true(planned > 500 && planned < 2900);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_cache),   cmocka_unit_test(one_cpu),
		cmocka_unit_test(two_sockets), cmocka_unit_test(large_domain_first),
		cmocka_unit_test(distances),   cmocka_unit_test(others),
		cmocka_unit_test(hybrid),      cmocka_unit_test(cap),
		cmocka_unit_test(any_shape),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
