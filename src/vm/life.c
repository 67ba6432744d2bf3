// SPDX-License-Identifier: Apache-2.0
/*
 * life.c - the states of a VM, and which may follow which
 */
#include "vm/life.h"

#include <errno.h>

static const struct {
	const char *name;
	u32 next;	  /* bit n: enum life_state */
	const char *hint; /* behind "the VM is NAME" */
} states[LIFE_STATES] = {
	[LIFE_CREATED] = { "created", BIT(LIFE_INITIALIZING), "it has not been started" },
	/* Straight to STOPPING: somebody did not wait until it ran. */
	[LIFE_INITIALIZING] = { "initializing",
				BIT(LIFE_RUNNING) | BIT(LIFE_STOPPING) | BIT(LIFE_FAILED),
				"it does not run yet" },
	[LIFE_RUNNING] = { "running",
			   BIT(LIFE_PAUSED) | BIT(LIFE_INITIALIZING) | BIT(LIFE_STOPPING) |
				   BIT(LIFE_FAILED),
			   "it has not been paused" },
	[LIFE_PAUSED] = { "paused",
			  BIT(LIFE_RUNNING) | BIT(LIFE_INITIALIZING) | BIT(LIFE_STOPPING) |
				  BIT(LIFE_FAILED),
			  "`orrery resume` lets it go on" },
	[LIFE_STOPPING] = { "stopping", BIT(LIFE_STOPPED) | BIT(LIFE_FAILED),
			    "it is about to end" },
	[LIFE_STOPPED] = { "stopped", 0, "it has ended" },
	[LIFE_FAILED] = { "failed", 0, "it has ended" },
};

enum life_state life_now(const struct life *l)
{
	return __atomic_load_n(&l->state, __ATOMIC_ACQUIRE);
}

const char *life_name(enum life_state state)
{
	return (unsigned)state < LIFE_STATES ? states[state].name : "unknown";
}

bool life_may(enum life_state from, enum life_state to)
{
	return (unsigned)from < LIFE_STATES && (unsigned)to < LIFE_STATES &&
	       (states[from].next & BIT(to));
}

int life_set(struct life *l, enum life_state to)
{
	enum life_state from = life_now(l);

	if (!life_may(from, to))
		return -EBADFD;
	__atomic_store_n(&l->state, to, __ATOMIC_RELEASE);
	if (l->changed)
		l->changed(l->opaque, from, to);
	return 0;
}

int life_refuse(enum life_state state, const char *what, struct err *e)
{
	BUG_IF((unsigned)state >= LIFE_STATES);
	return err_set(e, -EBADFD, "cannot %s: the VM is %s (%s)", what, states[state].name,
		       states[state].hint);
}
