/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place.h - which host CPUs a program's threads get: a pure function of the host's shape
 *
 * How it works
 * A program has *groups* of threads that share a cache in its own view (the vCPUs of a virtual
 * last-level cache), and *domains* of groups that are near each other (virtual NUMA nodes). Each group
 * goes to a last-level cache of the host of its own, the groups of a domain to one node of the host if
 * any has room, and different domains to different nodes, the nearest first. One more CPU is kept for
 * what serves those threads.
 *
 * Nothing here looks at the machine: topology, what may be used and what others hold come in, a plan
 * goes out, and the same input gives the same plan. So a plan that lost a race for a lock is made again
 * without what was lost.
 */
#ifndef ORR_HOST_PLACE_H
#define ORR_HOST_PLACE_H

#include "base/err.h"
#include "host/hosttopo.h"

#define PLACE_THREADS_MAX 256u
#define PLACE_GROUPS_MAX 256u
#define PLACE_DOMAINS_MAX 32u

enum place_mode {
	PLACE_LLCS, /* caches as a whole: nobody else shares one of them */
	PLACE_CPUS, /* CPUs of one's own, in caches that others may use too */
	PLACE_CAP,  /* any of at most @cap CPUs, which others may use too */
};

struct place_want {
	enum place_mode mode;
	u32 groups; /* 1..PLACE_GROUPS_MAX */
	u32 cores,
		threads;  /* cores in a group, threads in a core; with groups at most 256 threads */
	u32 domains;	  /* 1..PLACE_DOMAINS_MAX; some may have no group */
	const u8 *domain; /* of each group, ascending */
	u32 cap;	  /* PLACE_CAP: 1 or more */
};

/* What can be had just now. */
struct place_free {
	struct cpulist cpus;   /* allowed by the kernel */
	struct cpulist taken;  /* held by others for themselves */
	struct cpulist barred; /* numbers of LLCs that others hold for themselves */
	struct cpulist shared; /* numbers of LLCs that others use, and share */
	const u16 *load;       /* by CPU: how many others share it; NULL: none */
};

struct place {
	enum place_mode mode;
	u32 n;			    /* threads; PLACE_CAP: 0 */
	u16 cpu[PLACE_THREADS_MAX]; /* of each, groups in order, then cores, then threads */
	int service;		    /* the CPU for everything else; -1: any of @cpus */
	struct cpulist cpus;	    /* all, with the service CPU */
	struct cpulist llcs;	    /* numbers of LLCs to be held: in LLCS mode for oneself... */
	int service_llc;	    /* ...but for this one, shared; -1: none */
	u64 nodes
		[PLACE_DOMAINS_MAX]; /* by domain: a mask of the kernel's numbers of nodes; 0: none */
	bool domain_split;	     /* a domain is spread over several nodes */
	bool domains_meet;	     /* two domains are on one node */
	bool cores_differ; /* threads of a core are not threads of a core here, or the reverse */
};

/*
 * 0, or -ENOSPC with a message that says what is short, in terms of host CPUs, caches and @f. With nothing
 * taken, barred or shared in @f, -ENOSPC means never on this host.
 */
int place_plan(const struct host_topo *t, const struct place_want *w, const struct place_free *f,
	       struct err *e, struct place *ret);

#endif
