/* SPDX-License-Identifier: Apache-2.0 */
/*
 * life.h - the states of a VM, and which may follow which
 *
 *	CREATED -> INITIALIZING -> RUNNING <-> PAUSED
 *	                |   ^         |           |
 *	                |   +--reset--+-----------+
 *	                v             v           v
 *	              FAILED       STOPPING -> STOPPED
 *
 * STOPPED and FAILED are for ever: another run is another VM. The VM's thread alone changes the
 * state; any thread may look at it.
 */
#ifndef ORR_VM_LIFE_H
#define ORR_VM_LIFE_H

#include "base/err.h"

enum life_state {
	LIFE_CREATED,	   /* configured. Nothing of the host is in use. May be started */
	LIFE_INITIALIZING, /* kernel, devices, machine are made. May be stopped: before it runs */
	LIFE_RUNNING,	   /* the guest executes. May be all but resumed */
	/*
	 * Every vCPU is parked and workers are quiet: guest memory does not change, guest time stands
	 * still, back ends wait. May be resumed, stopped, reset, asked for statistics; host time runs
	 * on, and with it a time-out.
	 */
	LIFE_PAUSED,
	LIFE_STOPPING, /* the guest was asked to end, or is over: not paused, not reset any more */
	LIFE_STOPPED,  /* over; how it ended is known */
	LIFE_FAILED,   /* the host could not do it; why is known */
};
#define LIFE_STATES 7u

struct life {
	enum life_state state; /* atomic: life_now */
	/* On the VM's thread, behind each change. May be NULL. */
	void (*changed)(void *opaque, enum life_state from, enum life_state to);
	void *opaque;
};

enum life_state life_now(const struct life *l);
const char *life_name(enum life_state state); /* "running" */
/* Whether @to may follow @from. No state follows itself. */
bool life_may(enum life_state from, enum life_state to);
/* The one way from state to state. 0, or -EBADFD if @to may not follow: then nothing changes. */
int life_set(struct life *l, enum life_state to);
/* -EBADFD, and words for who asked for something that @state does not allow. */
int life_refuse(enum life_state state, const char *what, struct err *e);

#endif
