/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remote.h - a running VM of another process, through its socket (vm/ctl.h)
 */
#ifndef ORR_VM_REMOTE_H
#define ORR_VM_REMOTE_H

#include "base/err.h"

#include <sys/types.h>

struct remote {
	int fd; /* blocking */
	pid_t pid;
	char name[64]; /* or the process number as text */
	bool vsock, agent;
};

/*
 * Finds the VM called @which (a name or process number); NULL: the only one there is. 0, -ENOENT
 * (no such one, none at all), -ENOTUNIQ, or another error, with message.
 */
int remote_open(const char *which, struct err *e, struct remote *ret);
void remote_close(struct remote *r);

/*
 * Waits until the guest has accepted a connection to @port: a connected stream socket in *ret_fd,
 * owned. -ECONNREFUSED: nobody listens there; -ENOTSUP: no --vsock; or another error. With message.
 */
int remote_connect(struct remote *r, u32 port, struct err *e, int *ret_fd);

#endif
