/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remote.h - a running VM of another process, through its socket (vm/ctl.h)
 */
#ifndef ORR_VM_REMOTE_H
#define ORR_VM_REMOTE_H

#include "base/err.h"

#include <sys/types.h>

#define REMOTE_NAME 64u

struct remote {
	int fd; /* blocking */
	pid_t pid;
	char name[REMOTE_NAME]; /* or the process number as text */
	bool vsock, agent;
};

/* What a VM says about itself. */
struct remote_info {
	char name[REMOTE_NAME];
	pid_t pid;
	bool answered; /* else what follows is not known */
	char state[16], engine[16];
	unsigned vcpus;
	u64 mem;	   /* bytes */
	u64 up_ms;	   /* since it began to run, pauses included */
	char command[256]; /* "": none */
};

/*
 * Finds the VM called @which (a name or process number); NULL: the only one there is, or, with
 * @vsock, the only one that has sockets. 0, -ENOENT (no such one, none at all), -ENOTUNIQ, or
 * another error, with message.
 */
int remote_open(const char *which, bool vsock, struct err *e, struct remote *ret);
void remote_close(struct remote *r);

/*
 * Waits until the guest has accepted a connection to @port: a connected stream socket in *ret_fd,
 * owned. -ECONNREFUSED: nobody listens there; -ENOTSUP: no --vsock; or another error. With message.
 */
int remote_connect(struct remote *r, u32 port, struct err *e, int *ret_fd);

/*
 * One request of ctl.h without arguments ("pause", "resume", "reset"), waiting for its answer.
 * @limit_ms: how long at most. 0; -ETIMEDOUT; -EBADFD: not in the state that it is in; or another
 * error. With message.
 */
int remote_order(struct remote *r, const char *op, unsigned limit_ms, struct err *e);
int remote_balloon(struct remote *r, u64 bytes, struct err *e);
/*
 * Asks the VM to end within @timeout_ms (0: at once) and waits until it has. 0 or an error with
 * message.
 */
int remote_stop(struct remote *r, unsigned timeout_ms, struct err *e);
/* Calls @line for each counter, in the VM's order. */
int remote_stats(struct remote *r, void (*line)(void *o, const char *name, u64 val), void *o,
		 struct err *e);

/*
 * All running VMs of the user, sorted by process number, in *ret (freed by the caller): how many. A
 * VM that does not answer within a second is in the list all the same.
 */
int remote_list(struct err *e, struct remote_info **ret);

#endif
