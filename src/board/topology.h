/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topology.h - the shape of a guest's CPUs and memory: nodes, last-level caches, cores, threads
 *
 * How it works
 * A shape is four counts: NUMA nodes, last-level caches (LLCs) in total, cores per LLC, threads
 * per core. An LLC is also a package. LLCs are dealt to the nodes evenly and in order, unless
 * explicit nodes say how many each one has; then a node may also have memory only.
 * vCPU numbers run through threads first, then cores, then LLCs, then nodes.
 *
 * Text forms: "2n4l8c2t" (4 LLCs over 2 nodes, 8 cores per LLC, 2 threads per core), a preset's
 * name ("numa4-8llc"), one "llcs=1,mem=512M" per explicit node, and "10,20/20,10" for distances.
 */
#ifndef ORR_BOARD_TOPOLOGY_H
#define ORR_BOARD_TOPOLOGY_H

#include "base/compiler.h"
#include "base/err.h"

#define TOPO_CPUS_MAX 252u
#define TOPO_NODES_MAX 32u
#define TOPO_TEXT_MAX 48 /* bytes that topo_format can need, with NUL */
#define TOPO_DIST_LOCAL 10u
#define TOPO_DIST_REMOTE 20u

/* A memory-side cache in front of a node's memory (ACPI HMAT); size 0: none. */
struct topo_side_cache {
	u64 size;	  /* bytes */
	u8 assoc, policy; /* HMAT codes: 0 none, 1 direct mapped/write back, 2 complex/write through
			   */
	u16 line;	  /* bytes */
};

struct topo_node {
	u32 llcs;   /* 0: memory only */
	u64 mem;    /* bytes */
	u32 lat_ns; /* 0: the board's default */
	u32 bw_mbs; /* 0: the board's default */
	struct topo_side_cache cache;
};

struct topo {
	u32 nodes, llcs, cores, threads; /* cores per LLC, threads per core */
	unsigned nexplicit; /* explicit nodes in node[], 0: LLCs and memory are split evenly */
	struct topo_node node[TOPO_NODES_MAX];
	bool has_dist;
	u8 dist[TOPO_NODES_MAX][TOPO_NODES_MAX];
};

/* Where a vCPU is. @core counts within its LLC, @thread within its core. */
struct topo_place {
	u32 node, llc, core, thread;
};

struct topo_preset {
	const char *name;
	u32 nodes, llcs, cores, threads;
};

/* "1n2l4c2t" or a preset's name. Returns 0, or -EINVAL with a message. */
int topo_parse(const char *text, struct err *e, struct topo *ret);

/* --cpus N: one node, one LLC, N cores. 0 or -EINVAL. */
int topo_from_cpus(u32 cpus, struct err *e, struct topo *ret);

/*
 * Adds an explicit node:
 * "mem=SIZE[,llcs=N][,lat=NS][,bw=MBS][,cache=SIZE[:ASSOC[:POLICY[:LINE]]]]". SIZE is a number with
 * an optional K, M, G or T; llcs defaults to 0 (memory only). 0 or -EINVAL.
 */
int topo_add_node(struct topo *t, const char *text, struct err *e);

/* The distance matrix, rows separated by '/', columns by ','; N x N after the nodes. 0 or -EINVAL.
 */
int topo_set_dist(struct topo *t, const char *text, struct err *e);

/*
 * Checks the whole: counts >= 1, at most TOPO_CPUS_MAX vCPUs, LLCs divisible by nodes, explicit
 * nodes consistent with the counts and with @mem (bytes of RAM; 0: take the sum of the nodes),
 * distances legal. With explicit nodes it sets t->nodes. 0 or -EINVAL with a message.
 */
int topo_validate(struct topo *t, u64 mem, struct err *e);

/* All below need a validated topology. */
static inline u32 topo_cpus(const struct topo *t)
{
	return t->llcs * t->cores * t->threads;
}
void topo_place(const struct topo *t, u32 cpu, struct topo_place *ret);
u32 topo_node_llcs(const struct topo *t, u32 node);
/* Bytes of RAM of @node when the VM has @mem: even shares of whole 2 MiB, the rest to the last. */
u64 topo_node_mem(const struct topo *t, u32 node, u64 mem);
/* The sum of explicit nodes' memory, or 0 without any. */
u64 topo_mem_sum(const struct topo *t);
u32 topo_dist(const struct topo *t, u32 a, u32 b);

/* Writes "1n2l4c2t" and a NUL; returns its length. */
int topo_format(const struct topo *t, char ret[TOPO_TEXT_MAX]);

/* The named shapes, in the order they are listed to people. */
const struct topo_preset *topo_presets(unsigned *ret_n);

#endif
