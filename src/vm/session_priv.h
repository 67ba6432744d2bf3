/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_priv.h - a session's data, for the files it is made of
 */
#ifndef ORR_VM_SESSION_PRIV_H
#define ORR_VM_SESSION_PRIV_H

#include "vm/gdb.h"
#include "vm/session.h"

#include <pthread.h>

#include "base/wire.h"

#define SESSION_OUT 16384u
#define SESSION_IN 4096u

struct session_out {
	int fd; /* -1: drop */
	const char *what;
	u8 data[SESSION_OUT];
	size_t n;
};

struct session {
	struct session_cfg cfg;
	struct machine *m; /* while it runs; changed under the lock */
	struct io *io;
	struct gate *gate, *io_gate;
	struct cmdport *port;
	struct conlog console;
	struct session_out out, err, file;
	u8 wire[2 * WIRE_WINDOW]; /* for a receiver that takes a part at a time: COM2's 16 bytes */
	bool hvc_spoke;		  /* the guest has written to hvc0 */
	bool gathers;		  /* what is put is passed on when the device says so */
	bool moved;		  /* the command port is the virtio port now */
	size_t wire_n, wire_old;  /* bytes there; those that are still for COM2 after a move */
	u8 in[SESSION_IN];	  /* read from a file, or the end of the input, for COM1 */
	size_t in_at, in_n;
	u8 last; /* the last byte of the input */
	bool in_eof, eof_told;
	u64 asked_line; /* the console line + 1 at whose prompt the shell was told to end */

	enum session_stop why;
	int signal;
	int out_err;
	const char *out_what;
	const char *fault;

	/* What was begun and is not done. Each is also in @begun. */
	struct order *pausing, *resuming, *resetting;
	struct order *begun;
	u64 ask_ns;    /* the guest was asked to end, and has this long; 0: not */
	bool ask_wait; /* its init does not listen yet */

	bool given_up; /* atomic: cfg.hung was called */

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t cond;  /* kicked */
	bool kicked;	      /* since the VM's thread last looked: only while it is paused */
	bool closed;	      /* no order is taken any more */
	bool withdrawn;	      /* one of @begun is */
	struct order *queue, **tail;
};

/* Stops the machine for @why, unless there is a reason already. */
void session_stop_for(struct session *s, enum session_stop why);
/* What has ended the run: a signal, a time-out, ...; on the VM's thread, paused or not. */
void session_take_events(struct session *s);
void session_flush(struct session *s);

/* Begins the orders that were given. On the VM's thread, paused or not. */
void session_take_orders(struct session *s);
/* Parks the machine, which is not running, until somebody resumes it or the VM is to end. */
void session_paused(struct session *s);
/* No order is taken any more; those that are under way end with @r. */
void session_end_orders(struct session *s);
void session_finish(struct session *s, struct order *o, int r);
/* --- gdb_session.c: on the VM's thread, the machine not running --- */

/* Waits while the debugger holds the machine. */
void session_debug_wait(struct session *s);
/* The run came back because of @why. True: that was the debugger's; it is to be run again. */
bool session_debug_stopped(struct session *s, enum engine_exit why);

/* The guest's init listens, or its driver does: a request to end that waited for that. */
void session_ask_again(struct session *s);

#endif
