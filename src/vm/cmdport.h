/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmdport.h - the host's end of the command port
 *
 * A pure state machine between the UART (or another byte stream) of the guest and whoever owns the
 * command's standard streams. It reads no clock and no descriptor.
 */
#ifndef ORR_VM_CMDPORT_H
#define ORR_VM_CMDPORT_H

#include "base/compiler.h"

struct cmdport;

enum cmdport_state {
	CMDPORT_WAITING, /* nothing said yet: the guest's kernel boots */
	CMDPORT_HELLO,	 /* init runs */
	CMDPORT_STARTED, /* the command runs */
	CMDPORT_EXITED,	 /* EXIT came; nothing follows */
	CMDPORT_BROKEN,	 /* the guest broke the protocol; everything else it says is dropped */
};

enum cmdport_how {
	CMDPORT_BY_EXIT,     /* value: exit status, 0-255 */
	CMDPORT_BY_SIGNAL,   /* value: signal number, 1-64 */
	CMDPORT_NOT_STARTED, /* value: errno; words say what failed */
};

struct cmdport_outcome {
	enum cmdport_how how;
	u32 value;
	char words[256]; /* NUL-terminated; control characters replaced by '?' */
};

/* Called from within cmdport functions; must not free the port. Bytes are valid during the call. */
struct cmdport_ops {
	/* Output of the command. @fd: 1 or 2; with a pseudo-terminal all is 1. */
	void (*out)(void *opaque, int fd, const u8 *data, size_t len);
	/* init's own words for the user, made printable, NUL-terminated. May be NULL. */
	void (*message)(void *opaque, const char *words);
	/* Bytes for the guest's receiver. Must take all: at most the window are ever under way. */
	void (*send)(void *opaque, const u8 *data, size_t len);
	/* cmdport_state() changed. May be NULL. */
	void (*state)(void *opaque, enum cmdport_state state);
	/* cmdport_stdin_room() grew. May be NULL. */
	void (*room)(void *opaque);
};

/* @ops is borrowed. 0 or -ENOMEM. */
int cmdport_new(const struct cmdport_ops *ops, void *opaque, struct cmdport **ret);
void cmdport_free(struct cmdport *p);

enum cmdport_state cmdport_state(const struct cmdport *p);
/* Why it is BROKEN, else "". Static storage. */
const char *cmdport_fault(const struct cmdport *p);
/* Valid in EXITED, else NULL. */
const struct cmdport_outcome *cmdport_outcome(const struct cmdport *p);
/*
 * The shell's convention for an outcome: the exit status; 128 + signal; 127 for a command that was
 * not found, 126 for one that could not be executed.
 */
int cmdport_status(const struct cmdport_outcome *o);

/* Bytes from the guest, in any portions. 0, or -EPROTO when (and after) it is BROKEN. */
int cmdport_rx(struct cmdport *p, const u8 *data, size_t len);

/*
 * The guest was heard on a better stream: what is sent from within this call still belongs to the
 * old one. Once. 0, or -EPROTO if it is BROKEN by it.
 */
int cmdport_move(struct cmdport *p);

/* How many bytes of standard input would be sent now. 0 before READY, after EOF and at the end. */
size_t cmdport_stdin_room(const struct cmdport *p);
/* Sends up to @len bytes and returns how many; the caller keeps the rest. */
size_t cmdport_stdin(struct cmdport *p, const u8 *data, size_t len);
/* No more input. May be called at any time, once or more. */
void cmdport_stdin_eof(struct cmdport *p);
/* The terminal's size; the latest is sent as soon as possible. */
void cmdport_winsize(struct cmdport *p, unsigned rows, unsigned cols);
/* Sends signal @sig (1-64) to the command's process group as soon as possible. */
void cmdport_signal(struct cmdport *p, unsigned sig);
/* Asks the guest to end, with @ms of its time for the command, as soon as possible. Once. */
void cmdport_shutdown(struct cmdport *p, u32 ms);

#endif
