/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topology.c - parse, check and print the shape of a guest's CPUs and memory
 *
 * Counts come from people and files, so every product is formed in 64 bits from 32-bit factors
 * and compared before it is used.
 */
#include "board/topology.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TOPO_MEM_ALIGN (2ull << 20) /* shares keep huge pages whole */
#define TOPO_PAGE 4096ull

static const struct topo_preset presets[] = {
	{ "tiny-1llc", 1, 1, 4, 1 },	     { "tiny-2llc", 1, 2, 2, 1 },
	{ "odd-3llc", 1, 3, 3, 1 },	     { "odd-5llc", 1, 5, 3, 1 },
	{ "odd-7llc", 1, 7, 2, 1 },	     { "smt-2llc", 1, 2, 2, 2 },
	{ "smt-3llc", 1, 3, 2, 2 },	     { "medium-4llc", 1, 4, 4, 2 },
	{ "medium-8llc", 1, 8, 4, 2 },	     { "large-4llc", 1, 4, 16, 2 },
	{ "large-8llc", 1, 8, 8, 2 },	     { "near-max-llc", 1, 15, 8, 2 },
	{ "max-cpu", 1, 14, 9, 2 },	     { "medium-4llc-nosmt", 1, 4, 8, 1 },
	{ "medium-8llc-nosmt", 1, 8, 8, 1 }, { "large-4llc-nosmt", 1, 4, 32, 1 },
	{ "large-8llc-nosmt", 1, 8, 16, 1 }, { "near-max-llc-nosmt", 1, 15, 16, 1 },
	{ "max-cpu-nosmt", 1, 14, 18, 1 },   { "numa2-4llc", 2, 4, 4, 1 },
	{ "numa2-8llc", 2, 8, 8, 2 },	     { "numa2-8llc-nosmt", 2, 8, 16, 1 },
	{ "numa4-8llc", 4, 8, 4, 1 },	     { "numa4-12llc", 4, 12, 8, 2 },
};

const struct topo_preset *topo_presets(unsigned *ret_n)
{
	*ret_n = ARRAY_LEN(presets);
	return presets;
}

/* --- text -------------------------------------------------------------------------------- */

/* Decimal digits at *@p, at least one. 0 and *p behind them, -EINVAL, or -ERANGE above @max. */
static int parse_num(const char **p, u64 max, u64 *ret)
{
	const char *s = *p;
	u64 v = 0;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	for (; *s >= '0' && *s <= '9'; s++) {
		u64 d = (u64)(*s - '0');

		if (v > (max - d) / 10)
			return -ERANGE;
		v = v * 10 + d;
	}
	*p = s;
	*ret = v;
	return 0;
}

/* A number with an optional binary unit. As parse_num. */
static int parse_size(const char **p, u64 *ret)
{
	static const char units[] = "KMGT";
	const char *u;
	u64 v;
	int rc = parse_num(p, UINT64_MAX / 16, &v);

	if (rc < 0)
		return rc;
	u = **p ? strchr(units, **p & ~0x20) : NULL;
	if (u && *u) {
		unsigned shift = 10 * (unsigned)(u - units + 1);

		if (v > UINT64_MAX >> shift)
			return -ERANGE;
		v <<= shift;
		(*p)++;
	}
	*ret = v;
	return 0;
}

static int parse_counts(const char *text, struct err *e, struct topo *ret)
{
	static const char letters[] = "nlct";
	static const char *const names[] = { "NUMA nodes", "LLCs", "cores per LLC",
					     "threads per core" };
	const char *p = text;
	u64 v[4];

	for (unsigned i = 0; i < 4; i++) {
		int rc = parse_num(&p, UINT32_MAX, &v[i]);

		if (rc == -ERANGE)
			return err_set(e, -EINVAL,
				       "topology \"%.60s\": the number of %s is too large", text,
				       names[i]);
		if (rc < 0 || *p != letters[i])
			return err_set(
				e, -EINVAL,
				"topology \"%.60s\": expected <number>%c (%s) at \"%.20s\"; a "
				"topology looks like 1n2l4c2t, or is the name of a preset",
				text, letters[i], names[i], rc < 0 ? p : p - 1);
		if (v[i] == 0)
			return err_set(
				e, -EINVAL,
				"topology \"%.60s\": the number of %s is zero; each count must "
				"be at least 1",
				text, names[i]);
		p++;
	}
	if (*p)
		return err_set(e, -EINVAL, "topology \"%.60s\": \"%.20s\" follows the last count",
			       text, p);
	memset(ret, 0, sizeof(*ret));
	ret->nodes = (u32)v[0];
	ret->llcs = (u32)v[1];
	ret->cores = (u32)v[2];
	ret->threads = (u32)v[3];
	return 0;
}

static int check_counts(const struct topo *t, struct err *e)
{
	u64 cores = (u64)t->llcs * t->cores; /* 32 x 32 bits fit */

	if (!t->nodes || !t->llcs || !t->cores || !t->threads)
		return err_set(e, -EINVAL,
			       "topology %un%ul%uc%ut: a count is zero; each must be at least 1",
			       t->nodes, t->llcs, t->cores, t->threads);
	if (cores > TOPO_CPUS_MAX || cores * t->threads > TOPO_CPUS_MAX)
		return err_set(
			e, -EINVAL,
			"topology %un%ul%uc%ut has more than %u vCPUs, the most a VM can have",
			t->nodes, t->llcs, t->cores, t->threads, TOPO_CPUS_MAX);
	if (t->nodes > TOPO_NODES_MAX)
		return err_set(e, -EINVAL,
			       "topology %un%ul%uc%ut: at most %u NUMA nodes are possible",
			       t->nodes, t->llcs, t->cores, t->threads, TOPO_NODES_MAX);
	return 0;
}

int topo_parse(const char *text, struct err *e, struct topo *ret)
{
	struct topo t;
	int rc;

	for (unsigned i = 0; i < ARRAY_LEN(presets); i++) {
		const struct topo_preset *p = &presets[i];

		if (strcmp(text, p->name) != 0)
			continue;
		memset(ret, 0, sizeof(*ret));
		ret->nodes = p->nodes;
		ret->llcs = p->llcs;
		ret->cores = p->cores;
		ret->threads = p->threads;
		return 0;
	}
	if (!(*text >= '0' && *text <= '9'))
		return err_set(
			e, -EINVAL,
			"topology \"%.60s\" is neither of the form 1n2l4c2t nor the name of a "
			"preset such as tiny-1llc, smt-2llc or numa4-8llc",
			text);
	rc = parse_counts(text, e, &t);
	if (rc == 0)
		rc = check_counts(&t, e);
	if (rc < 0)
		return rc;
	*ret = t;
	return 0;
}

int topo_from_cpus(u32 cpus, struct err *e, struct topo *ret)
{
	if (cpus < 1 || cpus > TOPO_CPUS_MAX)
		return err_set(e, -EINVAL, "%u vCPUs: a VM has 1 to %u", cpus, TOPO_CPUS_MAX);
	memset(ret, 0, sizeof(*ret));
	ret->nodes = ret->llcs = ret->threads = 1;
	ret->cores = cpus;
	return 0;
}

/* SIZE[:ASSOC[:POLICY[:LINE]]]; the codes have four bits (ACPI 6.3, table 5-148). */
static int parse_side_cache(const char **p, struct topo_side_cache *ret)
{
	static const u64 max[] = { 15, 15, UINT16_MAX };
	u64 v[3] = { 1, 1, 64 };
	struct topo_side_cache c = { 0 };
	int rc = parse_size(p, &c.size);

	for (unsigned i = 0; rc == 0 && i < 3 && **p == ':'; i++) {
		(*p)++;
		rc = parse_num(p, max[i], &v[i]);
	}
	if (rc < 0)
		return rc;
	if (c.size == 0 || v[2] == 0)
		return -EINVAL;
	c.assoc = (u8)v[0];
	c.policy = (u8)v[1];
	c.line = (u16)v[2];
	*ret = c;
	return 0;
}

/* One key=value of an explicit node; *@p is at the key and ends behind the value. */
static int parse_node_item(const char **p, struct topo_node *n)
{
	static const struct {
		const char *key;
		u32 max;
	} nums[] = { { "llcs=", TOPO_CPUS_MAX }, { "lat=", 1000000 }, { "bw=", 100000000 } };
	u64 v = 0;
	int rc;

	for (unsigned i = 0; i < ARRAY_LEN(nums); i++) {
		size_t len = strlen(nums[i].key);

		if (strncmp(*p, nums[i].key, len) != 0)
			continue;
		*p += len;
		rc = parse_num(p, nums[i].max, &v);
		if (rc < 0)
			return rc;
		*(i == 0 ? &n->llcs : i == 1 ? &n->lat_ns : &n->bw_mbs) = (u32)v;
		return 0;
	}
	if (strncmp(*p, "mem=", 4) == 0) {
		*p += 4;
		return parse_size(p, &n->mem);
	}
	if (strncmp(*p, "cache=", 6) == 0) {
		*p += 6;
		return parse_side_cache(p, &n->cache);
	}
	return -ENOENT;
}

int topo_add_node(struct topo *t, const char *text, struct err *e)
{
	struct topo_node n = { 0 };
	const char *p = text;

	if (t->nexplicit == TOPO_NODES_MAX)
		return err_set(e, -EINVAL, "NUMA node \"%.60s\": at most %u nodes are possible",
			       text, TOPO_NODES_MAX);
	for (;;) {
		const char *item = p;
		int rc = parse_node_item(&p, &n);

		if (rc == -ENOENT)
			return err_set(
				e, -EINVAL,
				"NUMA node \"%.60s\": \"%.20s\" is not one of mem=SIZE, llcs=N, "
				"lat=NS, bw=MBS, cache=SIZE[:ASSOC[:POLICY[:LINE]]]",
				text, item);
		if (rc == -ERANGE)
			return err_set(e, -EINVAL,
				       "NUMA node \"%.60s\": the number in \"%.20s\" is "
				       "too large",
				       text, item);
		if (rc < 0 || (*p && *p != ','))
			return err_set(e, -EINVAL,
				       "NUMA node \"%.60s\": \"%.20s\" is not a number "
				       "with, for sizes, K, M, G or T",
				       text, item);
		if (!*p++)
			break;
	}
	if (n.mem == 0)
		return err_set(e, -EINVAL, "NUMA node \"%.60s\" has no memory; say mem=SIZE", text);
	if (n.mem % TOPO_PAGE)
		return err_set(e, -EINVAL,
			       "NUMA node \"%.60s\": its memory is not a multiple of 4K", text);
	t->node[t->nexplicit++] = n;
	return 0;
}

int topo_set_dist(struct topo *t, const char *text, struct err *e)
{
	u8 d[TOPO_NODES_MAX][TOPO_NODES_MAX] = { 0 };
	u32 n = t->nexplicit ? t->nexplicit : t->nodes;
	const char *p = text;

	if (n > TOPO_NODES_MAX)
		return err_set(e, -EINVAL, "distances: at most %u NUMA nodes are possible",
			       TOPO_NODES_MAX);
	for (u32 i = 0; i < n * n; i++) {
		u64 v;
		char want = i == n * n - 1 ? '\0' : (i + 1) % n == 0 ? '/' : ',';

		/* 255 means unreachable (ACPI 6.3, 5.2.17); a node nobody reaches is no node. */
		if (parse_num(&p, 254, &v) < 0 || *p != want)
			return err_set(
				e, -EINVAL,
				"distances \"%.60s\": row %u, column %u is not a number up to "
				"254 in a matrix of %u rows of %u; two nodes look like 10,20/20,10",
				text, i / n + 1, i % n + 1, n, n);
		d[i / n][i % n] = (u8)v;
		p++;
	}
	memcpy(t->dist, d, sizeof(d));
	t->has_dist = true;
	return 0;
}

int topo_format(const struct topo *t, char ret[TOPO_TEXT_MAX])
{
	return snprintf(ret, TOPO_TEXT_MAX, "%un%ul%uc%ut", t->nodes, t->llcs, t->cores,
			t->threads);
}

/* --- checks -------------------------------------------------------------------------------- */

static int check_explicit(const struct topo *t, u64 mem, struct err *e)
{
	u64 llcs = 0, sum = 0;

	if (t->nexplicit > TOPO_NODES_MAX)
		return err_set(e, -EINVAL, "at most %u NUMA nodes are possible", TOPO_NODES_MAX);
	for (unsigned i = 0; i < t->nexplicit; i++) {
		if (t->node[i].mem == 0 || t->node[i].mem % TOPO_PAGE)
			return err_set(e, -EINVAL,
				       "NUMA node %u: its memory is zero or not a multiple of 4K",
				       i);
		if (__builtin_add_overflow(sum, t->node[i].mem, &sum))
			return err_set(e, -EINVAL,
				       "the NUMA nodes' memory adds up to more than 2^64");
		llcs += t->node[i].llcs;
	}
	if (t->nodes != 1 && t->nodes != t->nexplicit)
		return err_set(e, -EINVAL,
			       "the topology has %u NUMA nodes, but %u are described one by one",
			       t->nodes, t->nexplicit);
	if (llcs != t->llcs)
		return err_set(e, -EINVAL,
			       "the NUMA nodes have %llu LLCs in all, the topology has %u",
			       (unsigned long long)llcs, t->llcs);
	if (mem && sum != mem)
		return err_set(
			e, -EINVAL,
			"the NUMA nodes have %llu KiB of memory in all, the VM has %llu KiB; "
			"leave out the VM's size to have it added up",
			(unsigned long long)sum >> 10, (unsigned long long)mem >> 10);
	return 0;
}

static int check_dist(const struct topo *t, struct err *e)
{
	for (u32 i = 0; i < t->nodes; i++) {
		if (t->dist[i][i] != TOPO_DIST_LOCAL)
			return err_set(
				e, -EINVAL,
				"distances: node %u to itself is %u; the diagonal must be %u", i,
				t->dist[i][i], TOPO_DIST_LOCAL);
		for (u32 j = 0; j < t->nodes; j++) {
			if (i == j)
				continue;
			if (t->dist[i][j] <= TOPO_DIST_LOCAL || t->dist[i][j] == 255)
				return err_set(
					e, -EINVAL,
					"distances: node %u to node %u is %u; it must be %u to "
					"254",
					i, j, t->dist[i][j], TOPO_DIST_LOCAL + 1);
			if (t->dist[i][j] != t->dist[j][i])
				return err_set(
					e, -EINVAL,
					"distances: node %u to node %u is %u, but back it is %u; "
					"the matrix must be symmetric",
					i, j, t->dist[i][j], t->dist[j][i]);
		}
	}
	return 0;
}

int topo_validate(struct topo *t, u64 mem, struct err *e)
{
	int rc = check_counts(t, e);

	if (rc < 0)
		return rc;
	if (t->nexplicit) {
		rc = check_explicit(t, mem, e);
		if (rc < 0)
			return rc;
		t->nodes = t->nexplicit;
	} else if (t->llcs % t->nodes) {
		return err_set(
			e, -EINVAL,
			"topology %un%ul%uc%ut: %u LLCs cannot be divided evenly among %u NUMA "
			"nodes",
			t->nodes, t->llcs, t->cores, t->threads, t->llcs, t->nodes);
	} else if (mem && mem / t->nodes < TOPO_MEM_ALIGN) {
		return err_set(e, -EINVAL, "%llu KiB of memory are too little for %u NUMA nodes",
			       (unsigned long long)mem >> 10, t->nodes);
	}
	return t->has_dist ? check_dist(t, e) : 0;
}

/* --- questions ------------------------------------------------------------------------------ */

u32 topo_node_llcs(const struct topo *t, u32 node)
{
	return t->nexplicit ? t->node[node].llcs : t->llcs / t->nodes;
}

void topo_place(const struct topo *t, u32 cpu, struct topo_place *ret)
{
	u32 first = 0, node = 0;

	ret->thread = cpu % t->threads;
	ret->core = cpu / t->threads % t->cores;
	ret->llc = cpu / t->threads / t->cores;
	while (node + 1 < t->nodes && ret->llc >= first + topo_node_llcs(t, node))
		first += topo_node_llcs(t, node++);
	ret->node = node;
}

u64 topo_mem_sum(const struct topo *t)
{
	u64 sum = 0;

	for (unsigned i = 0; i < t->nexplicit; i++)
		sum += t->node[i].mem;
	return sum;
}

u64 topo_node_mem(const struct topo *t, u32 node, u64 mem)
{
	u64 share;

	if (t->nexplicit)
		return t->node[node].mem;
	share = ALIGN_DOWN(mem / t->nodes, TOPO_MEM_ALIGN);
	return node + 1 < t->nodes ? share : mem - share * (t->nodes - 1);
}

u32 topo_dist(const struct topo *t, u32 a, u32 b)
{
	if (t->has_dist)
		return t->dist[a][b];
	return a == b ? TOPO_DIST_LOCAL : TOPO_DIST_REMOTE;
}
