// SPDX-License-Identifier: Apache-2.0
/*
 * hosttopo.c - the shape of this host: packages, last-level caches, cores, threads, NUMA nodes
 */
#include "host/hosttopo.h"

#include "host/hostfile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SYS_CPU "/sys/devices/system/cpu"
#define SYS_NODE "/sys/devices/system/node"
#define TEXT 4096u /* a list of CPULIST_MAX CPUs may be longer: then it is cut, and refused */
#define CACHES_MAX 16u
#define UNSEEN UINT32_MAX

/* A set that a file holds. 0, or -errno; then *ret is as before. */
static int read_list(struct cpulist *ret, const char *root, const char *path)
{
	char text[4 * TEXT];
	int r = hostfile_text(text, sizeof(text), root, "%s", path);

	if (r < 0)
		return r;
	return (size_t)r == sizeof(text) - 1 ? -EFBIG : cpulist_parse(text, ret);
}

static int read_cpu_list(struct cpulist *ret, const char *root, unsigned cpu, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), SYS_CPU "/cpu%u/%s", cpu, name);
	return read_list(ret, root, path);
}

/* "260M", "32768K" */
static u64 read_size(const char *root, unsigned cpu, unsigned cache)
{
	char text[32], *end;
	u64 n;

	if (hostfile_text(text, sizeof(text), root, SYS_CPU "/cpu%u/cache/index%u/size", cpu,
			  cache) <= 0)
		return 0;
	n = strtoull(text, &end, 10);
	return *end == 'K' ? n << 10 : *end == 'M' ? n << 20 : *end == 'G' ? n << 30 : n;
}

/* The CPUs that share @cpu's last-level cache, and its size. */
static void read_llc(const char *root, const struct host_topo *t, unsigned cpu,
		     struct cpulist *ret_cpus, u64 *ret_size)
{
	u64 best = 0;
	int index = -1;

	*ret_size = 0;
	for (unsigned i = 0; i < CACHES_MAX; i++) {
		char type[32];
		u64 level = hostfile_u64(0, root, SYS_CPU "/cpu%u/cache/index%u/level", cpu, i);

		if (level <= best)
			continue;
		hostfile_text(type, sizeof(type), root, SYS_CPU "/cpu%u/cache/index%u/type", cpu,
			      i);
		if (!strcmp(type, "Instruction"))
			continue;
		best = level;
		index = (int)i;
	}
	memset(ret_cpus, 0, sizeof(*ret_cpus));
	if (index >= 0) {
		char name[48];

		snprintf(name, sizeof(name), "cache/index%d/shared_cpu_list", index);
		if (read_cpu_list(ret_cpus, root, cpu, name) == 0)
			*ret_size = read_size(root, cpu, (unsigned)index);
	}
	/* The older name comes second: the newer kernels have both. */
	if (!cpulist_has(ret_cpus, cpu) &&
	    read_cpu_list(ret_cpus, root, cpu, "topology/package_cpus_list") < 0)
		read_cpu_list(ret_cpus, root, cpu, "topology/core_siblings_list");
	if (!cpulist_has(ret_cpus, cpu))
		*ret_cpus = t->online;
	cpulist_and(ret_cpus, &t->online);
}

static int read_llcs(const char *root, struct host_topo *t)
{
	cpulist_each(&t->online, cpu) t->llc_of[cpu] = UNSEEN;
	cpulist_each(&t->online, cpu)
	{
		struct host_llc l = { 0 }, *all;

		if (t->llc_of[cpu] != UNSEEN)
			continue;
		read_llc(root, t, cpu, &l.cpus, &l.size);
		all = reallocarray(t->llc, t->nllcs + 1, sizeof(*all));
		if (!all)
			return -ENOMEM;
		t->llc = all;
		/* A CPU is in one, whatever several files say. */
		cpulist_each(&l.cpus, other)
		{
			if (t->llc_of[other] == UNSEEN)
				t->llc_of[other] = t->nllcs;
			else
				cpulist_del(&l.cpus, other);
		}
		all[t->nllcs++] = l;
	}
	return 0;
}

static void read_cores(const char *root, struct host_topo *t)
{
	struct cpulist seen = { 0 };
	bool package[CPULIST_MAX] = { false };

	cpulist_each(&t->online, cpu)
	{
		struct cpulist mates = { 0 };
		u64 id = hostfile_u64(0, root, SYS_CPU "/cpu%u/topology/physical_package_id", cpu);

		id = id < CPULIST_MAX ? id : 0;
		t->packages += !package[id];
		package[id] = true;
		if (cpulist_has(&seen, cpu))
			continue;
		if (read_cpu_list(&mates, root, cpu, "topology/core_cpus_list") < 0)
			read_cpu_list(&mates, root, cpu, "topology/thread_siblings_list");
		cpulist_add(&mates, cpu);
		cpulist_and(&mates, &t->online);
		cpulist_sub(&mates, &seen);
		t->smt |= cpulist_count(&mates) > 1;
		cpulist_each(&mates, mate) t->core_of[mate] = t->cores;
		cpulist_or(&seen, &mates);
		t->cores++;
	}
}

static void read_node(const char *root, u32 id, struct host_node *ret)
{
	char path[128], text[TEXT];

	*ret = (struct host_node){ .id = id };
	snprintf(path, sizeof(path), SYS_NODE "/node%u/cpulist", id);
	read_list(&ret->cpus, root, path);
	/* "Node 0 MemFree:  123 kB" */
	if (hostfile_text(text, sizeof(text), root, SYS_NODE "/node%u/meminfo", id) > 0) {
		snprintf(path, sizeof(path), "Node %u MemFree", id);
		ret->mem_free = hostfile_field(text, path, 0) << 10;
	}
	ret->huge2_free = hostfile_u64(
		0, root, SYS_NODE "/node%u/hugepages/hugepages-2048kB/free_hugepages", id);
}

/* Row @a of the matrix; what is not said is 10 here and 20 there, as in ACPI's SLIT. */
static void read_distance(const char *root, struct host_topo *t, u32 a)
{
	char text[TEXT];
	const char *p = text;

	for (u32 b = 0; b < t->nnodes; b++)
		t->distance[a * t->nnodes + b] = a == b ? HOST_DISTANCE_LOCAL : 20;
	hostfile_text(text, sizeof(text), root, SYS_NODE "/node%u/distance", t->node[a].id);
	for (u32 b = 0; b < t->nnodes && *p; b++) {
		char *end;
		unsigned long d = strtoul(p, &end, 10);

		if (end == p)
			break;
		if (d && d < 256)
			t->distance[a * t->nnodes + b] = (u32)d;
		p = end;
	}
}

static int read_nodes(const char *root, struct host_topo *t)
{
	struct cpulist ids = { 0 };
	u32 n = 0;

	if (read_list(&ids, root, SYS_NODE "/online") < 0 || !cpulist_count(&ids))
		cpulist_add(&ids, 0);
	t->node = calloc(HOST_NODES_MAX, sizeof(*t->node));
	if (!t->node)
		return -ENOMEM;
	cpulist_each(&ids, id) if (id < HOST_NODES_MAX) read_node(root, id, &t->node[n++]);
	if (!n)
		t->node[n++] = (struct host_node){ 0 };
	t->nnodes = n;
	t->distance = calloc((size_t)n * n, sizeof(*t->distance));
	if (!t->distance)
		return -ENOMEM;
	for (u32 i = 0; i < n; i++) {
		cpulist_and(&t->node[i].cpus, &t->online);
		read_distance(root, t, i);
	}
	for (u32 i = 0; i < t->nllcs; i++) {
		unsigned first = cpulist_next(&t->llc[i].cpus, 0);

		for (u32 k = 0; k < n; k++)
			if (cpulist_has(&t->node[k].cpus, first))
				t->llc[i].node = k;
	}
	/* Without files all CPUs are in the first, so that none is nowhere. */
	if (n == 1)
		t->node[0].cpus = t->online;
	return 0;
}

int host_topo_read(const char *root, struct err *e, struct host_topo **ret)
{
	struct host_topo *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	r = read_list(&t->online, root, SYS_CPU "/online");
	if (r == 0 && !cpulist_count(&t->online))
		r = -EINVAL;
	if (r < 0) {
		err_sys(e, r,
			"cannot read %s%s/online, which says what CPUs this host has (is /sys "
			"mounted?)",
			root, SYS_CPU);
		goto fail;
	}
	r = read_llcs(root, t);
	if (r == 0) {
		read_cores(root, t);
		r = read_nodes(root, t);
	}
	if (r < 0) {
		err_set(e, r, "out of memory");
		goto fail;
	}
	*ret = t;
	return 0;
fail:
	host_topo_free(t);
	return r;
}

void host_topo_free(struct host_topo *t)
{
	if (!t)
		return;
	free(t->llc);
	free(t->node);
	free(t->distance);
	free(t);
}
