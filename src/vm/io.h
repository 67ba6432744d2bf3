/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io.h - a thread that waits, for a VM's input, time-out and signals
 */
#ifndef ORR_VM_IO_H
#define ORR_VM_IO_H

#include "base/err.h"

struct io;

/* What standard input is, which decides how its bytes reach the guest. */
enum input_kind {
	INPUT_NULL,   /* nothing will come: /dev/null, or closed */
	INPUT_FILE,   /* always ready: read on the engine's thread, where the guest asks for it */
	INPUT_STREAM, /* a pipe or socket: ready when it likes */
	INPUT_TERMINAL,
};

enum input_kind input_kind(int fd);

struct io_cfg {
	int in_fd; /* a stream or terminal to read from; -1: none */
	bool escape; /* Ctrl-A X ends the VM, Ctrl-A H or C asks for help, Ctrl-A Ctrl-A is one Ctrl-A */
	u64 timeout_ns;		    /* of host time from io_start; 0: none */
	int watch_fd;		    /* kick when it is readable; -1: none. See io_watch_again */
	void (*kick)(void *opaque); /* called on the I/O thread when there is something new */
	/*
	 * What the I/O thread itself has to do: called there when @serve_fd is readable (-1: none), and
	 * soon after io_poke. Must not block. May be NULL.
	 */
	int serve_fd;
	void (*serve)(void *opaque);
	bool no_signals; /* they are the caller's own matter */
	/*
	 * Called on the I/O thread IO_HANG_NS behind the first reason to end the VM (an event below, or
	 * io_over) and every second from then on, until io_stop. @ns: how long ago that was. NULL: not.
	 */
	void (*hangs)(void *opaque, u64 ns);
	void *opaque;
};

#define IO_HANG_NS 5000000000ull

/* What has happened since the start; each stays true but @resized and @help, which are cleared by reading. */
struct io_events {
	bool timed_out;
	bool escaped; /* Ctrl-A X */
	bool late;    /* the time of io_deadline has come */
	bool help;    /* Ctrl-A H; cleared by reading, too */
	bool resized; /* the terminal's size changed */
	int signal;   /* SIGINT, SIGTERM, SIGHUP or SIGQUIT; 0: none, always with no_signals */
	bool eof;     /* all input has been taken, none will follow */
};

/* Blocks the signals it waits for in this thread, until io_stop. 0 or an error with message. */
int io_start(const struct io_cfg *cfg, struct err *e, struct io **ret);
/*
 * The VM is over: no more input is read, nothing but cfg.serve and cfg.hangs is called. Once more is
 * legal.
 */
void io_over(struct io *io);
/* Joins the thread and frees everything. NULL is legal. */
void io_stop(struct io *io);

/* What made watch_fd readable has been dealt with: wait for it once more. */
void io_watch_again(struct io *io);

/* From any thread: cfg.serve is called soon. */
void io_poke(struct io *io);
/*
 * From any thread: io_events says @late in @ns of host time from now on, whatever was set before; 0: at
 * once. A write that blocks is given up then.
 */
void io_deadline(struct io *io, u64 ns);

void io_events(struct io *io, struct io_events *ret);
/* Copies up to @max bytes of the input, without removing them. */
size_t io_peek(struct io *io, u8 *ret, size_t max);
void io_consume(struct io *io, size_t n);
/*
 * Writes all of @len bytes to @fd, waiting as long as needed, unless the VM is to end: by time-out,
 * deadline, signal or escape. 0, -ECANCELED, or the negative errno of write(2).
 */
int io_write(struct io *io, int fd, const u8 *data, size_t len);

#endif
