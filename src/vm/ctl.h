/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl.h - the socket by which other processes of the user reach a running VM
 *
 * How it works
 * An entry in the user's private directory (host/rundir.h), called by the VM's name or the
 * monitor's process number. Only processes of the same user, or of root, are listened to. A client
 * sends requests and gets an answer to each: lines of JSON, at most CTL_LINE bytes one way and
 * CTL_ANSWER the other, one at a time.
 *
 *	{"op": "hello"}			{"ok": true, "version": 1, "pid": N, "name": S or null,
 *					 "vsock": B, "agent": B, "state": S, "engine": S,
 *					 "vcpus": N, "memory": BYTES, "up_ms": N, "command": S or null}
 *	{"op": "pause"}			{"ok": true} when all vCPUs are parked and workers are quiet
 *	{"op": "resume"}		{"ok": true} when the guest goes on
 *	{"op": "stop", "timeout_ms": N}	{"ok": true} when it has been asked; the connection is closed
 *					when the VM has ended. N: how long it has, 0: it is ended at
 *					once; absent: CTL_STOP_MS
 *	{"op": "reset"}			{"ok": true} when the machine is as at power-on
 *	{"op": "balloon", "bytes": N}	{"ok": true} when the guest has been told to keep N bytes
 *	{"op": "stats"}			{"ok": true, "stats": {NAME: N, ...}}
 *	{"op": "connect", "port": N}	{"ok": true} with a connected stream socket (SCM_RIGHTS),
 *					when the guest has accepted
 *	anything			{"ok": false, "error": WORDS, "code": CODE}
 *
 * CODE: "refused" (nobody listens in the guest), "device" (the VM has no such one), "state" (not
 * while it is paused, not paused, ...), "request" (not understood), "ended", "host". A client that
 * closes its connection gives up what it has asked for.
 *
 * All of this is on the I/O thread: a client gets its answer also while the VM is paused, or waits
 * for whoever reads its output. What the VM's thread has to do goes there as an order (vm/order.h).
 */
#ifndef ORR_VM_CTL_H
#define ORR_VM_CTL_H

#include "base/err.h"
#include "vm/devices.h"
#include "vm/life.h"
#include "vm/session.h"

#define CTL_VERSION 1
#define CTL_LINE 4096u
#define CTL_ANSWER 65536u
#define CTL_STOP_MS 10000u

struct ctl;

/* All borrowed. */
struct ctl_cfg {
	const char *name; /* NULL: the process number; need not be checked */
	struct session *session;
	const struct life *life;
	const struct vm_devs *devs;
	bool agent; /* the guest runs our init, and so the agent */
	const char *engine;
	unsigned vcpus;
	u64 mem;		 /* bytes */
	const char *const *argv; /* NULL: none */
};

/* Whether @name can be a VM's. 0 or -EINVAL with a message about --name. */
int ctl_check_name(const char *name, struct err *e);
/* Makes the entry. 0; -EEXIST: a running VM has the name; or another error; with message. */
int ctl_new(const struct ctl_cfg *cfg, struct err *e, struct ctl **ret);
/*
 * Removes the entry. After session_end, and after the machine is freed: that is what clients see as
 * the VM's end. NULL is legal.
 */
void ctl_free(struct ctl *c);
/*
 * On the I/O thread: the process ends without ctl_free, and may take long to, by no fault of its own.
 * Clients see the end of the VM. NULL is legal.
 */
void ctl_hang_up(struct ctl *c);

/*
 * One request as a client would send it, for tests of the parser: what the answer begins with is in
 * @ret. Nothing of a VM is needed or changed.
 */
void ctl_parse_only(const char *line, size_t len, char ret[80]);

#endif
