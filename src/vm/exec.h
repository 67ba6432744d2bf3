/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec.h - one command in a guest that is running already, through its agent
 */
#ifndef ORR_VM_EXEC_H
#define ORR_VM_EXEC_H

#include "base/err.h"

#define EXEC_FOREVER UINT64_MAX

struct exec;

/* All borrowed. */
struct exec_cfg {
	const char *const *argv; /* NULL-terminated, not empty */
	const char *const *env;	 /* NAME=VALUE, NULL-terminated; may be NULL */
	const char *cwd;	 /* absolute; NULL: that of the VM's own command */
	bool tty;		 /* the command gets a terminal, of this size (0: unknown) */
	unsigned rows, cols;
	int in_fd, out_fd, err_fd; /* of the command; -1: none */
	/*
	 * Whenever @wake_fd (-1: none) is readable, @wake is called from within exec_run: it reads
	 * there, and may call the functions below.
	 */
	int wake_fd;
	void (*wake)(void *opaque, struct exec *x);
	void *opaque;
};

/* 0; -EINVAL; -E2BIG: more than the agent takes; or another error; with message. */
int exec_new(const struct exec_cfg *cfg, struct err *e, struct exec **ret);
void exec_free(struct exec *x);

/*
 * Asks the agent at the other end of @fd (a connected stream socket, borrowed, made non-blocking)
 * to run the command, and carries its bytes until it has ended; once. @end_ns: of host_ns, how long
 * at most. The thread gets no SIGPIPE meanwhile.
 *
 * 0 and the status in *ret_status: the command's own, or 128 + the signal that killed it. Or, with
 * message: -ENOENT: the guest has no such command; -ENOEXEC: it could not execute it; -ETIMEDOUT;
 * -ECANCELED: exec_cancel; -ECONNRESET: the VM or its agent is gone; -EPROTO: the agent speaks
 * nonsense; the error of writing to @out_fd (-EPIPE: nobody reads it). The agent hangs a command
 * up (SIGHUP) that still runs then.
 */
int exec_run(struct exec *x, int fd, u64 end_ns, struct err *e, int *ret_status);

/* Sends signal @sig (1 to 64) to the command's process group, once it runs. */
void exec_signal(struct exec *x, unsigned sig);
void exec_winsize(struct exec *x, unsigned rows, unsigned cols);
/* exec_run returns soon, with -ECANCELED. */
void exec_cancel(struct exec *x);

#endif
