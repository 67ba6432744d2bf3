// SPDX-License-Identifier: Apache-2.0
/*
 * place.c - which host CPUs a program's threads get: a pure function of the host's shape
 *
 * How it works
 * Domains are placed one after the other, those with many groups first, each on the node that fits
 * best: one that no other domain has, near to those that were chosen, with the fewest caches left over.
 * An exact search would now and then find a node for a domain that this spreads over two; shapes where
 * that happens (domains of different sizes) are rare, and the user is told.
 *
 * Within a cache a core of the program goes to a core of the host, so that two vCPUs that are no
 * siblings do not become some. Only if there are too few cores are they counted thread by thread.
 */
#include "host/place.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct plan {
	const struct host_topo *t;
	const struct place_want *w;
	const struct place_free *f;
	struct place *p;
	struct cpulist left; /* CPUs that are still to be had */
	struct cpulist used; /* numbers of LLCs that have a group */
	u64 nodes;	     /* indices of nodes that have a domain */
	u16 llc_of_group[PLACE_GROUPS_MAX];
};

static struct cpulist left_in(const struct plan *pl, u32 llc)
{
	struct cpulist l = pl->left;

	cpulist_and(&l, &pl->t->llc[llc].cpus);
	return l;
}

/* How many cores of @l have @threads members in it. */
static u32 whole_cores(const struct plan *pl, const struct cpulist *l, u32 threads)
{
	u32 n = 0;

	cpulist_each(l, cpu)
	{
		u32 mates = 0;
		bool first = true;

		cpulist_each(l, other)
		{
			if (pl->t->core_of[other] != pl->t->core_of[cpu])
				continue;
			first &= other >= cpu;
			mates++;
		}
		n += first && mates >= threads;
	}
	return n;
}

enum fit { FIT_NOT, FIT_THREADS, FIT_CORES };

/* How a group would lie in @llc. */
static enum fit fits(const struct plan *pl, u32 llc)
{
	struct cpulist l = left_in(pl, llc);

	if (cpulist_has(&pl->used, llc) || cpulist_has(&pl->f->barred, llc) ||
	    (pl->w->mode == PLACE_LLCS && cpulist_has(&pl->f->shared, llc)) ||
	    cpulist_count(&l) < pl->w->cores * pl->w->threads)
		return FIT_NOT;
	return whole_cores(pl, &l, pl->w->threads) >= pl->w->cores ? FIT_CORES : FIT_THREADS;
}

static u32 distance_to_used(const struct plan *pl, u32 node)
{
	u32 sum = 0;

	for (u32 i = 0; i < pl->t->nnodes; i++)
		if (pl->nodes >> i & 1)
			sum += host_topo_distance(pl->t, i, node);
	return sum;
}

/* The next cache for a group on @node (UINT32_MAX: on any, the nearest), or -1. */
static int pick_llc(const struct plan *pl, u32 node)
{
	u64 best = UINT64_MAX;
	int found = -1;

	for (u32 i = 0; i < pl->t->nllcs; i++) {
		const struct host_llc *l = &pl->t->llc[i];
		enum fit fit = fits(pl, i);
		struct cpulist left;
		u64 cost;

		if (fit == FIT_NOT || (node != UINT32_MAX && l->node != node))
			continue;
		left = left_in(pl, i);
		/* Whole cores first, then near ones, then the smallest that does. */
		cost = (u64)(fit == FIT_THREADS) << 60 | (u64)distance_to_used(pl, l->node) << 32 |
		       cpulist_count(&left);
		if (cost < best) {
			best = cost;
			found = (int)i;
		}
	}
	return found;
}

/* The node on which @groups fit best, or UINT32_MAX. */
static u32 pick_node(const struct plan *pl, u32 groups)
{
	u64 best = UINT64_MAX;
	u32 found = UINT32_MAX;

	for (u32 node = 0; node < pl->t->nnodes; node++) {
		u32 room = 0, cores = 0;
		u64 cost;

		for (u32 i = 0; i < pl->t->nllcs; i++) {
			enum fit fit = pl->t->llc[i].node == node ? fits(pl, i) : FIT_NOT;

			room += fit != FIT_NOT;
			cores += fit == FIT_CORES;
		}
		if (room < groups)
			continue;
		cost = (u64)(cores < groups) << 61 | (pl->nodes >> node & 1) << 60 |
		       (u64)distance_to_used(pl, node) << 32 | (room - groups);
		if (cost < best) {
			best = cost;
			found = node;
		}
	}
	return found;
}

static int place_domain(struct plan *pl, u32 domain, u32 groups)
{
	u32 node = pick_node(pl, groups);

	pl->p->domain_split |= node == UINT32_MAX;
	pl->p->domains_meet |= node != UINT32_MAX && (pl->nodes >> node & 1);
	for (u32 g = 0; g < pl->w->groups; g++) {
		int llc;

		if (pl->w->domain[g] != domain)
			continue;
		llc = pick_llc(pl, node);
		if (llc < 0)
			return -ENOSPC;
		pl->p->cores_differ |= fits(pl, (u32)llc) == FIT_THREADS;
		pl->llc_of_group[g] = (u16)llc;
		cpulist_add(&pl->used, (unsigned)llc);
		pl->nodes |= BIT(pl->t->llc[llc].node);
		pl->p->nodes[domain] |= BIT(pl->t->node[pl->t->llc[llc].node].id);
	}
	return 0;
}

/* Domains with many groups first: they are the hardest to find room for. */
static int place_domains(struct plan *pl)
{
	u32 size[PLACE_DOMAINS_MAX] = { 0 };
	bool done[PLACE_DOMAINS_MAX] = { false };

	for (u32 g = 0; g < pl->w->groups; g++)
		size[pl->w->domain[g]]++;
	for (;;) {
		u32 next = PLACE_DOMAINS_MAX;
		int r;

		for (u32 d = 0; d < pl->w->domains; d++)
			if (!done[d] && size[d] &&
			    (next == PLACE_DOMAINS_MAX || size[d] > size[next]))
				next = d;
		if (next == PLACE_DOMAINS_MAX)
			return 0;
		done[next] = true;
		r = place_domain(pl, next, size[next]);
		if (r < 0)
			return r;
	}
}

/* Takes a CPU of @l: of core @core, or (UINT32_MAX) of any. */
static unsigned take_cpu(struct plan *pl, struct cpulist *l, u32 core)
{
	cpulist_each(l, cpu)
	{
		if (core != UINT32_MAX && pl->t->core_of[cpu] != core)
			continue;
		cpulist_del(l, cpu);
		cpulist_del(&pl->left, cpu);
		cpulist_add(&pl->p->cpus, cpu);
		return cpu;
	}
	BUG_IF(true); /* what fits() has counted is there */
}

/* A core of @l with the most free threads if there are too few cores, else any with enough. */
static u32 pick_core(const struct plan *pl, const struct cpulist *l, u32 threads)
{
	u32 best = 0, found = UINT32_MAX;

	cpulist_each(l, cpu)
	{
		u32 mates = 0;

		cpulist_each(l, other) mates += pl->t->core_of[other] == pl->t->core_of[cpu];
		if (mates >= threads && mates > best) {
			best = mates;
			found = pl->t->core_of[cpu];
		}
	}
	return found;
}

static void place_threads(struct plan *pl)
{
	const struct place_want *w = pl->w;

	for (u32 g = 0; g < w->groups; g++) {
		u32 llc = pl->llc_of_group[g];
		struct cpulist l = left_in(pl, llc);
		bool whole = whole_cores(pl, &l, w->threads) >= w->cores;

		for (u32 c = 0; c < w->cores; c++) {
			u32 core = whole ? pick_core(pl, &l, w->threads) : UINT32_MAX;

			for (u32 k = 0; k < w->threads; k++) {
				u32 at = (g * w->cores + c) * w->threads + k;

				pl->p->cpu[at] = (u16)take_cpu(pl, &l, core);
			}
			/* Its other threads stay idle, as long as there are other cores. */
			for (u32 k = 0; whole && k < CPULIST_MAX; k++)
				if (cpulist_has(&l, k) && pl->t->core_of[k] == core)
					cpulist_del(&l, k);
		}
	}
	pl->p->llcs = pl->used;
}

/* How well @cpu serves: the less, the better; UINT64_MAX: not at all. */
static u64 service_cost(const struct plan *pl, unsigned cpu)
{
	u32 llc = pl->t->llc_of[cpu];
	bool own = cpulist_has(&pl->used, llc), sibling = false;

	if (!own && cpulist_has(&pl->f->barred, llc))
		return UINT64_MAX;
	cpulist_each(&pl->p->cpus, other) sibling |= pl->t->core_of[other] == pl->t->core_of[cpu];
	/*
	 * A cache that is held anyway, even beside a busy thread, before one that the next program
	 * could have had as a whole.
	 */
	return (u64)!own << 62 | (u64)sibling << 61 |
	       (u64)distance_to_used(pl, pl->t->llc[llc].node) << 20 | cpu;
}

static int place_service(struct plan *pl)
{
	u64 best = UINT64_MAX;
	unsigned found = 0;

	cpulist_each(&pl->left, cpu)
	{
		u64 cost = service_cost(pl, cpu);

		if (cost < best) {
			best = cost;
			found = cpu;
		}
	}
	if (best == UINT64_MAX)
		return -ENOSPC;
	pl->p->service = (int)found;
	cpulist_add(&pl->p->cpus, found);
	if (!cpulist_has(&pl->used, pl->t->llc_of[found]))
		pl->p->service_llc = (int)pl->t->llc_of[found];
	return 0;
}

/* --- at most so many CPUs --------------------------------------------------------------------- */

/* The cost of going on in @llc: those in use by others, who share, then near, then large. */
static u64 cap_cost(const struct plan *pl, u32 llc)
{
	struct cpulist l = left_in(pl, llc);
	unsigned n = cpulist_count(&l);

	if (!n || cpulist_has(&pl->used, llc))
		return UINT64_MAX;
	return (u64)!cpulist_has(&pl->f->shared, llc) << 60 |
	       (u64)distance_to_used(pl, pl->t->llc[llc].node) << 32 | (u64)(CPULIST_MAX - n) << 12;
}

/* How many use @cpu's core: others, and the plan so far. */
static u64 core_load(const struct plan *pl, unsigned cpu)
{
	u64 n = 0;

	cpulist_each(&pl->t->llc[pl->t->llc_of[cpu]].cpus,
		     other) if (pl->t->core_of[other] == pl->t->core_of[cpu]) n +=
		(pl->f->load ? pl->f->load[other] : 0u) + cpulist_has(&pl->p->cpus, other);
	return n;
}

/* Takes @n CPUs of @llc, or all there are: those with the fewest users first, then idle cores. */
static u32 cap_take(struct plan *pl, u32 llc, u32 n)
{
	struct cpulist l = left_in(pl, llc);
	u32 got = 0;

	while (got < n) {
		u64 best = UINT64_MAX;
		unsigned found = 0;

		cpulist_each(&l, cpu)
		{
			u64 cost = (u64)(pl->f->load ? pl->f->load[cpu] : 0) << 40 |
				   core_load(pl, cpu) << 16 | cpu;

			if (cost < best) {
				best = cost;
				found = cpu;
			}
		}
		if (best == UINT64_MAX)
			break;
		cpulist_del(&l, found);
		cpulist_del(&pl->left, found);
		cpulist_add(&pl->p->cpus, found);
		got++;
	}
	return got;
}

static int place_cap(struct plan *pl)
{
	for (u32 need = pl->w->cap; need;) {
		u64 best = UINT64_MAX;
		u32 found = 0;

		for (u32 i = 0; i < pl->t->nllcs; i++) {
			u64 cost = cap_cost(pl, i);

			if (cost < best) {
				best = cost;
				found = i;
			}
		}
		if (best == UINT64_MAX)
			return -ENOSPC;
		cpulist_add(&pl->used, found);
		pl->nodes |= BIT(pl->t->llc[found].node);
		need -= cap_take(pl, found, need);
	}
	pl->p->llcs = pl->used;
	return 0;
}

/* --- the whole ------------------------------------------------------------------------------- */

static u32 usable_llcs(const struct plan *pl, u32 *ret_best)
{
	u32 n = 0;

	*ret_best = 0;
	for (u32 i = 0; i < pl->t->nllcs; i++) {
		struct cpulist l = pl->left;

		cpulist_and(&l, &pl->t->llc[i].cpus);
		*ret_best = MAX(*ret_best, cpulist_count(&l));
		n += cpulist_count(&l) > 0;
	}
	return n;
}

/* @left: what there was to begin with. */
static int short_of(const struct plan *pl, const struct cpulist *left, struct err *e)
{
	const struct place_want *w = pl->w;
	u32 per = w->cores * w->threads, have = cpulist_count(left), best, llcs;
	struct plan fresh = *pl;

	fresh.left = *left;
	llcs = usable_llcs(&fresh, &best);
	if (w->mode == PLACE_CAP)
		return err_set(e, -ENOSPC, "%u CPUs are wanted, and %u can be had", w->cap, have);
	if (have < w->groups * per + 1)
		return err_set(e, -ENOSPC,
			       "%u CPU%s and one more to serve them are wanted, and %u can be had",
			       w->groups * per, w->groups * per == 1 ? "" : "s", have);
	if (llcs < w->groups)
		return err_set(e, -ENOSPC,
			       "%u last-level caches are wanted, each with %u CPUs, and %u can be "
			       "had",
			       w->groups, per, llcs);
	return err_set(e, -ENOSPC,
		       "%u last-level cache%s with %u CPUs %s wanted, besides one CPU to serve "
		       "them, and the largest of the %u that can be had has %u",
		       w->groups, w->groups == 1 ? "" : "s, each", per,
		       w->groups == 1 ? "is" : "are", llcs, best);
}

int place_plan(const struct host_topo *t, const struct place_want *w, const struct place_free *f,
	       struct err *e, struct place *ret)
{
	struct place p = { .mode = w->mode, .service = -1, .service_llc = -1 };
	struct plan pl = { .t = t, .w = w, .f = f, .p = &p, .left = f->cpus };
	struct cpulist begin;
	int r;

	cpulist_and(&pl.left, &t->online);
	cpulist_sub(&pl.left, &f->taken);
	cpulist_each(&f->barred, llc) if (llc < t->nllcs) cpulist_sub(&pl.left, &t->llc[llc].cpus);
	begin = pl.left;
	if (w->mode == PLACE_CAP) {
		r = place_cap(&pl);
	} else {
		r = place_domains(&pl);
		if (r == 0) {
			p.n = w->groups * w->cores * w->threads;
			place_threads(&pl);
			r = place_service(&pl);
		}
	}
	if (r < 0)
		return short_of(&pl, &begin, e);
	*ret = p;
	return 0;
}
