/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claim.h - host CPUs that a program has, by plan and by lock
 */
#ifndef ORR_HOST_CLAIM_H
#define ORR_HOST_CLAIM_H

#include "host/place.h"

struct claim;

struct claim_cfg {
	const struct host_topo *topo;  /* borrowed */
	const struct cpulist *allowed; /* borrowed; NULL: what the kernel allows this thread */
	struct place_want want;
	const char *option; /* what the user calls it, for messages: "--perf" */
	u64 wait_ns;	    /* for others to end, at most */
	/* Called once if there is something to wait for; @who: those that hold it. May be NULL. */
	void (*waits)(void *opaque, const char *who);
	void *opaque;
};

/*
 * Plans, and takes the locks of all that is planned, or nothing. 0 and an owned *ret; -ENOSPC: this host
 * has not enough, whoever ends; -EBUSY: others have it, and the message names them; or another error
 * with a message.
 */
int claim_new(const struct claim_cfg *cfg, struct err *e, struct claim **ret);
const struct place *claim_place(const struct claim *c);
/* Gives the CPUs back. NULL is legal. */
void claim_free(struct claim *c);

#endif
