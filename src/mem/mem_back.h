/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem_back.h - where guest RAM lies on the host: page size, NUMA node, presence
 *
 * For guests that get host CPUs of their own. Others need none of it: their RAM is small pages, or
 * what the kernel makes of them, and costs nothing until it is touched.
 */
#ifndef ORR_MEM_MEM_BACK_H
#define ORR_MEM_MEM_BACK_H

#include "mem/mem.h"

struct mem_backing {
	bool huge;	  /* 2 MiB pages of the host's pool (vm.nr_hugepages) wherever one fits */
	bool present;	  /* all of it at once, rather than when it is touched */
	const u64 *nodes; /* by guest node: host nodes, a mask of their numbers; 0: any */
	unsigned n_nodes; /* guest nodes from there on: any */
	bool strict;	  /* on those nodes or not at all; else preferably */
};

/* How many pages of the pool mem_back takes for @n regions. */
u64 mem_back_huge_pages(const struct mem_region *r, unsigned n);

/*
 * Right behind mem_new, before anything is written. 0; or a negative errno with a message (-ENOMEM: the
 * pool, or a node, has not enough), and then the RAM is as mem_new left it; or -ENOTRECOVERABLE, and then
 * it must not be used. Windows are left alone.
 */
int mem_back(struct mem *m, const struct mem_backing *b, struct err *e);

#endif
