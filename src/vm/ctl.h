/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl.h - the socket by which other processes of the user reach a running VM
 *
 * How it works
 * An entry in the user's private directory (host/rundir.h), called by the VM's name or the
 * monitor's process number. Only processes of the same user, or of root, are listened to. A client
 * sends requests and gets an answer to each: lines of JSON, at most CTL_LINE bytes, one at a time.
 *
 *	{"op": "hello"}			{"ok": true, "version": 1, "pid": N, "name": S or null,
 *					 "vsock": B, "agent": B}
 *	{"op": "connect", "port": N}	{"ok": true} with a connected stream socket (SCM_RIGHTS),
 *					when the guest has accepted
 *	anything			{"ok": false, "error": WORDS, "code": CODE}
 *
 * CODE: "refused" (nobody listens in the guest), "vsock" (the VM has no --vsock), "request" (not
 * understood), "host". A client that closes its connection gives up what it has asked for.
 */
#ifndef ORR_VM_CTL_H
#define ORR_VM_CTL_H

#include "base/err.h"
#include "base/gate.h"
#include "vm/devices.h"

#define CTL_VERSION 1
#define CTL_LINE 4096u

struct ctl;

/* All borrowed. */
struct ctl_cfg {
	const char *name; /* NULL: the process number; need not be checked */
	struct gate *gate;
	const struct vm_devs *devs;
	bool agent; /* the guest runs our init, and so the agent */
};

/* Whether @name can be a VM's. 0 or -EINVAL with a message about --name. */
int ctl_check_name(const char *name, struct err *e);
/* Everything is on the VM's thread. 0, or an error with message. */
int ctl_new(const struct ctl_cfg *cfg, struct err *e, struct ctl **ret);
/* Removes the entry. After the machine is freed, before the gate is. NULL is legal. */
void ctl_free(struct ctl *c);

#endif
