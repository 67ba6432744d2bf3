/* SPDX-License-Identifier: Apache-2.0 */
/*
 * init_port.h - runs the real guest init as a process of the host, with a cmdport at its other end
 */
#ifndef ORR_TESTS_GUEST_INIT_PORT_H
#define ORR_TESTS_GUEST_INIT_PORT_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "vm/cmdport.h"

struct init_run {
	struct cmdport *port;
	struct buf out, err, words; /* NUL-terminated after init_run_finish; len without it */
	int fd;
	pid_t pid;
	u64 sent;     /* bytes to the guest */
	u64 received; /* bytes from it */
	bool gone;    /* it closed the stream */
};

/* Starts init with a spec of @lines (NULL-terminated, KEY=VALUE each). Fails the test on error. */
void init_run_start(struct init_run *r, const char *const *lines);
/* Starts init as the agent for one connection, on which @request has been sent. */
void init_run_agent(struct init_run *r, const void *request, size_t len);
/* Carries @in to the command (@eof: then its end) until @done is true or the stream ends. */
void init_run_until(struct init_run *r, const void *in, size_t len, bool eof,
		    bool (*done)(struct init_run *r));
bool init_run_exited(struct init_run *r);
/* Waits for init, terminates the texts and frees the port; the texts stay. */
void init_run_finish(struct init_run *r);
void init_run_free(struct init_run *r);

#endif
