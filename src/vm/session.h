/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.h - moves bytes between a running machine and the host's descriptors
 */
#ifndef ORR_VM_SESSION_H
#define ORR_VM_SESSION_H

#include "base/err.h"
#include "base/gate.h"
#include "vm/cmdport.h"
#include "vm/conlog.h"
#include "vm/io.h"
#include "vm/life.h"
#include "vm/machine.h"
#include "vm/order.h"
#include "vm/vcon.h"

struct session;

/* Why a session stopped its machine. */
enum session_stop {
	SESSION_RUNS, /* it did not */
	SESSION_EXITED,
	SESSION_PROTOCOL,
	SESSION_PANIC,
	SESSION_OUTPUT,
	SESSION_TIMEOUT,
	SESSION_SIGNAL,
	SESSION_ESCAPED,
	SESSION_STOPPED, /* by an order: at once, or because its time was over */
};

struct session_cfg {
	bool command;	  /* the command port is in use, else the console is our input and output */
	bool linux_guest; /* no input for the console before the guest's driver listens */
	bool shell;	  /* the console is a shell's: the end of input is told by Ctrl-D */
	bool tty;	  /* the command has a terminal: its size is passed on */
	bool verbose;	  /* the console also on err_fd */
	enum input_kind input;
	bool live; /* an idle guest waits for its input at the host's pace */
	int in_fd, out_fd, err_fd;
	int console_fd;	   /* the console also there; -1: not */
	struct vcon *hvc;  /* is the console's input and output, beside the serial one; or NULL */
	struct vcon *port; /* the command port may move there; or NULL */
	u64 timeout_ns;
	bool no_signals;   /* struct io_cfg */
	bool init;	   /* the guest runs our init, also without a command */
	struct life *life; /* borrowed: INITIALIZING at first */
	const struct vm_devs *devs;
	struct gdb *gdb; /* borrowed; NULL: no debugger */
	/*
	 * On the I/O thread, once: the VM is to end, and its thread does not come to it, since the
	 * host does not let it, or a worker; @words say which. What it may still say goes nowhere.
	 */
	void (*hung)(void *opaque, const char *words);
	void *opaque;
};

/* Starts to wait for input and signals. 0 or an error with message. */
int session_new(const struct session_cfg *cfg, struct err *e, struct session **ret);
/* No order is taken any more, and no machine is touched; the state stays for the functions below. */
void session_close(struct session *s);
/* Ends the I/O thread. Once the machine is freed: until then that thread sees whether it hangs. */
void session_end(struct session *s);
void session_free(struct session *s);

/*
 * Where what the I/O thread serves enters (struct io_cfg): dispatched there, also while the VM is
 * paused. The session's.
 */
struct gate *session_io_gate(struct session *s);
/* Where devices' back ends enter the VM's thread; the session's. */
struct gate *session_gate(struct session *s);

/* The machine's callbacks (struct machine_cfg), with the session as opaque. */
void session_tx(void *opaque, enum machine_port port, const u8 *bytes, size_t n);
void session_rx_space(void *opaque, enum machine_port port);

/* The debugger gets the machine, before it is run. 0 or an error with message. */
int session_debug_begin(struct session *s, struct machine *m, struct err *e);

/*
 * Runs the machine to its end, or to the session's, through all pauses. ENGINE_RESET also if an order
 * asked for it: then session_again says so.
 */
enum engine_exit session_run(struct session *s, struct machine *m);
/*
 * The machine of the last run is about to be freed, and another will be run from the beginning: the
 * guest's conversation is forgotten, input that it has read is gone. 0 or -ENOMEM.
 */
int session_reset(struct session *s);
/* Whether the guest runs our init, and so its agent. */
bool session_init(const struct session *s);
/* Whether the last run was ended by ORDER_RESET. */
bool session_reset_asked(const struct session *s);

/*
 * Gives an order (vm/order.h). From any thread, as long as the session is not freed.
 */
void session_give(struct session *s, struct order *o);
/*
 * From any thread: nobody waits for @o any more. True: it was taken back, @done will not be called.
 * False: it will be, or has been.
 */
bool session_withdraw(struct session *s, struct order *o);
/* Whether the guest was asked to end (ORDER_STOP), and how long it had, in ns; 0: it was not. */
u64 session_asked(const struct session *s);

enum session_stop session_stopped(const struct session *s);
const struct conlog *session_console(const struct session *s);
const struct cmdport *session_port(const struct session *s); /* NULL without a command */
const char *session_fault(const struct session *s);	     /* with SESSION_PROTOCOL */
int session_signal(const struct session *s);		     /* with SESSION_SIGNAL */
/* With SESSION_OUTPUT: the negative errno, and what could not be written. */
int session_output_error(const struct session *s, const char **ret_what);

#endif
