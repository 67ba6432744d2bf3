/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate.h - the one way from the host's world into a VM's thread
 *
 * How it works
 * The VM's thread executes the guest and waits for nothing else. Whatever the host has for it -
 * a worker that is done, a readable socket, an accepted connection - passes here: the VM's thread
 * calls gate_dispatch between two turns of the guest, and everything registered is called from
 * there. So devices and back ends need no locks, and there is one place where live input enters,
 * which can be logged.
 *
 * Two kinds of events: a *post*, a function to be called once, given from any thread; and a
 * *watch*, a descriptor and a function that is called while it is ready (level-triggered). Waiting
 * is somebody else's job: gate_fd() becomes readable when there is something to dispatch. A post
 * also calls cfg.kick at once, which must make the VM's thread come soon.
 *
 * A back end that may bring something at any time *holds* the gate: while held, an idle guest
 * waits at the host's pace instead of jumping to its next timer or being declared dead.
 */
#ifndef ORR_BASE_GATE_H
#define ORR_BASE_GATE_H

#include "base/compiler.h"

struct gate;

struct gate_cfg {
	void (*kick)(void *opaque); /* from any thread: dispatch soon */
	/* On the VM's thread: the gate began or ceased to be held. May be NULL. */
	void (*held)(void *opaque, bool held);
	void *opaque;
};

int gate_new(const struct gate_cfg *cfg, struct gate **ret); /* 0 or a negative errno */
/* No thread may post any more. Watches and posts that remain are forgotten. */
void gate_free(struct gate *g);

/* Embedded by the owner, zeroed. @fn is called on the VM's thread. */
struct gate_post {
	void (*fn)(struct gate_post *p);
	struct gate_post *next;
	bool queued;
};

/*
 * From any thread: @p->fn will be called once. Posting what is queued already changes nothing.
 * Posts are called in order; @p may be posted again, or freed, from within @fn.
 */
void gate_post(struct gate *g, struct gate_post *p);
/* On the VM's thread: forgets @p if it is queued. Returns whether it was. */
bool gate_unpost(struct gate *g, struct gate_post *p);

/* Embedded by the owner, zeroed but for @fn and @opaque. */
struct gate_watch {
	/* @events: those of epoll(7) that are ready, EPOLLERR and EPOLLHUP unasked for. */
	void (*fn)(void *opaque, u32 events);
	void *opaque;
	int fd;
	u32 events;
	struct gate_watch *next;
	bool active;
};

/*
 * On the VM's thread, as the two below. Calls @w->fn while any of @events (EPOLLIN, EPOLLOUT,
 * EPOLLRDHUP) is ready on @fd, which must stay open until gate_unwatch. 0, or the negative errno
 * of epoll_ctl(2): -EPERM for a regular file, which is always ready.
 */
int gate_watch(struct gate *g, struct gate_watch *w, int fd, u32 events);
/* Changes what is waited for. With 0 not even a hang-up is reported. */
void gate_watch_events(struct gate *g, struct gate_watch *w, u32 events);
/* Legal on a watch that is not active, and from within any callback. */
void gate_unwatch(struct gate *g, struct gate_watch *w);

/* Counted. On the VM's thread. */
void gate_hold(struct gate *g);
void gate_release(struct gate *g);
bool gate_held(const struct gate *g);

/* --- for whoever runs the VM ----------------------------------------------------------------- */

/* Readable, as poll(2) sees it, while a watched descriptor is ready. Owned by the gate. */
int gate_fd(const struct gate *g);
/* Calls what is due, on the VM's thread. Work that callbacks add is left for the next call. */
void gate_dispatch(struct gate *g);

#endif
