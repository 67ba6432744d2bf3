/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hosttopo.h - the shape of this host: packages, last-level caches, cores, threads, NUMA nodes
 *
 * How it works
 * Everything comes from sysfs (Documentation/ABI/stable/sysfs-devices-system-cpu, -node), below a
 * directory that the caller names, so that tests bring hosts of any shape. What sysfs does not say has
 * the nearest sensible value: CPUs without a cache are in one cache for each package, a host without
 * nodes is one node. A last-level cache (LLC) is the data or unified cache of the highest level that a
 * CPU has.
 *
 * LLCs are numbered by their lowest CPU, cores too, nodes in the order of the kernel's numbers. All
 * processes of a host so come to the same numbers.
 */
#ifndef ORR_HOST_HOSTTOPO_H
#define ORR_HOST_HOSTTOPO_H

#include "base/err.h"
#include "host/cpulist.h"

#define HOST_NODES_MAX 64u /* as many as a mask of 64 bits names */
#define HOST_DISTANCE_LOCAL 10u

struct host_llc {
	struct cpulist cpus;
	u32 node; /* index */
	u64 size; /* bytes; 0: unknown */
};

struct host_node {
	u32 id; /* the kernel's number, < HOST_NODES_MAX */
	struct cpulist cpus;
	u64 mem_free;	/* bytes; 0: unknown */
	u64 huge2_free; /* pages of 2 MiB */
};

struct host_topo {
	struct cpulist online;
	u32 packages, cores, nllcs, nnodes;
	bool smt; /* some core has two threads */
	u32 core_of[CPULIST_MAX];
	u32 llc_of[CPULIST_MAX];
	struct host_llc *llc;	/* nllcs */
	struct host_node *node; /* nnodes */
	u32 *distance;		/* nnodes x nnodes */
};

/* Reads @root/sys (@root "": this host). 0 and an owned *ret, or an error with message. */
int host_topo_read(const char *root, struct err *e, struct host_topo **ret);
void host_topo_free(struct host_topo *t);

static inline u32 host_topo_distance(const struct host_topo *t, u32 a, u32 b)
{
	return t->distance[a * t->nnodes + b];
}

#endif
