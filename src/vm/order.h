/* SPDX-License-Identifier: Apache-2.0 */
/*
 * order.h - what somebody asks of a VM that runs, from whatever thread
 *
 * How it works
 * A machine belongs to the thread that runs it. Everybody else, a client of the control socket or a
 * program that has the VM in its process, fills in an order and gives it to the session
 * (session_give). The VM's thread carries it out between two turns of the guest, or while the guest
 * is paused, and calls @done, once. Until then the order belongs to the session.
 */
#ifndef ORR_VM_ORDER_H
#define ORR_VM_ORDER_H

#include "base/err.h"
#include "dev/virtio_vsock.h"

enum order_op {
	/* done: every vCPU is parked, workers are quiet */
	ORDER_PAUSE,
	ORDER_RESUME, /* done: the guest executes */
	/*
	 * @arg: ns of host time that the guest has to end by itself, asked in the way that it
	 * understands; 0: none, it is ended at once. A paused guest is resumed for it. @done says that
	 * it is under way; the end is the session's.
	 */
	ORDER_STOP,
	ORDER_RESET,   /* done: the machine is as at power-on, and runs */
	ORDER_BALLOON, /* @arg: bytes that the guest is to keep. done: it was told */
	ORDER_STATS,   /* @stat is called for each counter */
	/* @arg: a vsock port; @fd (taken) becomes the host's end. done: the guest has answered */
	ORDER_CONNECT,
};

struct order {
	enum order_op op;
	u64 arg;
	int fd;
	/* On the VM's thread. */
	void (*stat)(struct order *o, const char *name, u64 val);
	/*
	 * On the VM's thread, or from within session_give: the order is its owner's again. @r: 0;
	 * -EBADFD: not in this state; -ESHUTDOWN: the VM has ended; -ECANCELED: session_withdraw;
	 * -ENOTSUP: the VM has no such device; -ECONNREFUSED; or another. With @err.
	 */
	void (*done)(struct order *o, int r);
	struct err err;

	/* The session's own. */
	struct order *next;
	enum { ORDER_IDLE, ORDER_QUEUED, ORDER_BEGUN } state;
	bool withdrawn;
	struct vsock_call call;
	void *session;
};

#endif
