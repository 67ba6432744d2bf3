// SPDX-License-Identifier: Apache-2.0
/*
 * exec.c - one command in a guest that is running already, through its agent
 *
 * How it works
 * The guest's agent (src/guest/agent.c) listens on a vsock port. It gets what to run (WIRE_AGENT_PORT,
 * base/wire.h), and from then on this is what the monitor is for the VM's own command: cmdport
 * speaks the protocol, this file carries its bytes between the connection and three descriptors.
 *
 * All of it is in the caller's thread and waits in one place (rest). A reader of the output that
 * is slow makes the guest's agent wait, not the caller: while output waits, signals, the end of
 * time and the caller's own descriptor are still looked at, but nothing more is read from the guest.
 */
#include "vm/exec.h"

#include "base/buf.h"
#include "base/hosttime.h"
#include "base/wire.h"
#include "vm/cmdport.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WRITE_MAX 4096u /* PIPE_BUF: what a pipe that is ready takes without blocking */

struct exec {
	struct exec_cfg cfg;
	struct cmdport *port;
	int fd; /* of the agent */
	u64 end_ns;
	struct buf wire; /* for the agent */
	size_t wire_at;
	bool in_eof;
	int stop; /* negative errno: it is over before the command's status is known */
};

/* --- what to run ------------------------------------------------------------------------------ */

static int add(struct buf *b, const char *key, const char *value)
{
	return buf_printf(b, "%s=%s%c", key, value, 0);
}

/* Length and spec, see WIRE_AGENT_PORT. */
static int request(const struct exec_cfg *c, struct buf *b)
{
	int r = buf_add(b, NULL, 4);

	if (r == 0)
		r = buf_printf(b, "%s%c", WIRE_SPEC_MAGIC, 0);
	if (r == 0)
		r = add(b, "exec", c->argv[0]);
	for (const char *const *p = c->argv; r == 0 && *p; p++)
		r = add(b, "arg", *p);
	for (const char *const *p = c->env; r == 0 && p && *p; p++)
		r = add(b, "env", *p);
	if (r == 0 && c->cwd)
		r = add(b, "cwd", c->cwd);
	if (r == 0 && c->tty)
		r = buf_printf(b, "tty=%ux%u%c", c->rows, c->cols, 0);
	if (r == 0)
		wire_put32(b->data, (u32)(b->len - 4));
	return r;
}

static int check(const struct exec_cfg *c, struct err *e)
{
	if (!c->argv || !c->argv[0] || !c->argv[0][0])
		return err_set(e, -EINVAL, "the command is empty");
	if (c->cwd && c->cwd[0] != '/')
		return err_set(e, -EINVAL, "cwd %.80s: it must begin with /", c->cwd);
	for (const char *const *p = c->env; p && *p; p++)
		if (**p == '=' || !strchr(*p, '='))
			return err_set(e, -EINVAL, "env %.80s: it takes NAME=VALUE", *p);
	return 0;
}

/* --- carrying --------------------------------------------------------------------------------- */

static size_t pending(const struct exec *x)
{
	return x->wire.len - x->wire_at;
}

static void give_wire(struct exec *x)
{
	ssize_t n = send(x->fd, x->wire.data + x->wire_at, pending(x), MSG_NOSIGNAL);

	if (n > 0)
		x->wire_at += (size_t)n;
	else if (errno != EINTR && errno != EAGAIN)
		x->wire_at = x->wire.len; /* what it has said is still to be read */
}

/* How long poll(2) may wait; rounded up, so that the end has come when it is over. */
static int left_ms(const struct exec *x)
{
	u64 now;

	if (x->end_ns == EXEC_FOREVER)
		return -1;
	now = host_ns();
	return now >= x->end_ns ? 0 : (int)MIN((x->end_ns - now) / 1000000 + 1, (u64)INT32_MAX);
}

/*
 * Waits for what @p[2] asks, or for whatever else there is to do: what is for the agent goes out, the
 * caller is called. -1 descriptors are not waited for.
 */
static void rest(struct exec *x, struct pollfd p[2])
{
	struct pollfd all[4] = {
		p[0],
		p[1],
		{ .fd = pending(x) ? x->fd : -1, .events = POLLOUT },
		{ .fd = x->cfg.wake_fd, .events = POLLIN },
	};
	int n = poll(all, ARRAY_LEN(all), left_ms(x));

	p[0].revents = n > 0 ? all[0].revents : 0;
	p[1].revents = n > 0 ? all[1].revents : 0;
	if (n > 0 && all[2].revents)
		give_wire(x);
	if (n > 0 && all[3].revents)
		x->cfg.wake(x->cfg.opaque, x);
	if (!x->stop && x->end_ns != EXEC_FOREVER && host_ns() >= x->end_ns)
		x->stop = -ETIMEDOUT;
}

static void write_out(struct exec *x, int fd, const u8 *data, size_t len)
{
	while (len && fd >= 0 && !x->stop) {
		struct pollfd p[2] = { { .fd = fd, .events = POLLOUT }, { .fd = -1 } };
		ssize_t n;

		rest(x, p);
		if (!p[0].revents)
			continue;
		n = write(fd, data, MIN(len, (size_t)WRITE_MAX));
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0) {
			/* Nothing depends on standard error. */
			if (fd == x->cfg.out_fd)
				x->stop = -errno;
			return;
		}
		data += n;
		len -= (size_t)n;
	}
}

static void on_out(void *opaque, int fd, const u8 *data, size_t len)
{
	struct exec *x = opaque;

	write_out(x, fd == STDOUT_FILENO ? x->cfg.out_fd : x->cfg.err_fd, data, len);
}

static void on_message(void *opaque, const char *words)
{
	struct exec *x = opaque;
	char line[600];
	int n = snprintf(line, sizeof(line), "orrery: guest: %s\n%s", words,
			 x->cfg.tty ? "\r" : "");

	write_out(x, x->cfg.err_fd, (const u8 *)line, MIN((size_t)n, sizeof(line) - 1));
}

static void on_send(void *opaque, const u8 *data, size_t len)
{
	struct exec *x = opaque;

	if (x->wire_at == x->wire.len)
		x->wire.len = x->wire_at = 0;
	if (buf_add(&x->wire, data, len) < 0)
		x->stop = -ENOMEM;
}

static const struct cmdport_ops port_ops = {
	.out = on_out,
	.message = on_message,
	.send = on_send,
};

static void take_input(struct exec *x)
{
	u8 buf[32768];
	size_t room = cmdport_stdin_room(x->port);
	ssize_t n = read(x->cfg.in_fd, buf, MIN(room, sizeof(buf)));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n > 0) {
		cmdport_stdin(x->port, buf, (size_t)n);
		return;
	}
	x->in_eof = true;
	cmdport_stdin_eof(x->port);
}

static void take_wire(struct exec *x)
{
	u8 buf[65536];
	ssize_t n = read(x->fd, buf, sizeof(buf));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0)
		x->stop = -ECONNRESET;
	else if (cmdport_rx(x->port, buf, (size_t)n) < 0 && !x->stop)
		x->stop = -EPROTO;
}

static void carry(struct exec *x)
{
	while (!x->stop && cmdport_state(x->port) != CMDPORT_EXITED) {
		/* An agent that acknowledges what it does not read must not fill our memory. */
		bool reads = !x->in_eof && pending(x) < WIRE_WINDOW && cmdport_stdin_room(x->port);
		struct pollfd p[2] = {
			{ .fd = x->fd, .events = POLLIN },
			{ .fd = reads ? x->cfg.in_fd : -1, .events = POLLIN },
		};

		rest(x, p);
		if (x->stop)
			return;
		if (p[0].revents)
			take_wire(x);
		if (p[1].revents && !x->stop && cmdport_stdin_room(x->port))
			take_input(x);
	}
}

/* --- from beginning to end -------------------------------------------------------------------- */

/* A write to a pipe without a reader is an error here, not the caller's end. */
static bool block_pipe(sigset_t *pipe, sigset_t *ret_old)
{
	sigset_t waits;

	sigemptyset(pipe);
	sigaddset(pipe, SIGPIPE);
	sigpending(&waits);
	pthread_sigmask(SIG_BLOCK, pipe, ret_old);
	return sigismember(&waits, SIGPIPE) == 1;
}

static void unblock_pipe(const sigset_t *pipe, const sigset_t *old, bool waited)
{
	const struct timespec now = { 0 };

	/* One that waited before is the caller's; ours is a second of it. */
	while (!waited && sigtimedwait(pipe, NULL, &now) < 0 && errno == EINTR)
		;
	pthread_sigmask(SIG_SETMASK, old, NULL);
}

static int result(const struct exec *x, struct err *e, int *ret_status)
{
	const struct cmdport_outcome *o = cmdport_outcome(x->port);

	if (o && o->how != CMDPORT_NOT_STARTED) {
		*ret_status = cmdport_status(o);
		return 0;
	}
	if (o)
		return err_set(e, o->value == ENOENT ? -ENOENT : -ENOEXEC,
			       "the guest could not run %.200s: %s", x->cfg.argv[0],
			       o->words[0] ? o->words : strerror((int)(o->value & 0xfff)));
	switch (x->stop) {
	case -ETIMEDOUT:
		return err_set(e, x->stop, "time-out: %.200s had not ended", x->cfg.argv[0]);
	case -ECANCELED:
		return err_set(e, x->stop, "given up: %.200s had not ended", x->cfg.argv[0]);
	case -ENOMEM:
		return err_set(e, x->stop, "out of memory");
	case -EPROTO:
		return err_set(e, x->stop, "the guest's agent broke the protocol (%s)",
			       cmdport_fault(x->port));
	case -ECONNRESET:
		return err_set(
			e, x->stop,
			"the connection to the guest ended before the command's status was known");
	default:
		return err_sys(e, x->stop, "cannot write to standard output");
	}
}

int exec_run(struct exec *x, int fd, u64 end_ns, struct err *e, int *ret_status)
{
	sigset_t pipe, old;
	bool waited = block_pipe(&pipe, &old);

	x->fd = fd;
	x->end_ns = end_ns;
	fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
	x->in_eof = x->cfg.in_fd < 0;
	if (x->in_eof)
		cmdport_stdin_eof(x->port);
	carry(x);
	unblock_pipe(&pipe, &old, waited);
	return result(x, e, ret_status);
}

void exec_signal(struct exec *x, unsigned sig)
{
	cmdport_signal(x->port, sig);
}

void exec_winsize(struct exec *x, unsigned rows, unsigned cols)
{
	cmdport_winsize(x->port, rows, cols);
}

void exec_cancel(struct exec *x)
{
	if (!x->stop)
		x->stop = -ECANCELED;
}

int exec_new(const struct exec_cfg *cfg, struct err *e, struct exec **ret)
{
	int r = check(cfg, e);
	struct exec *x;

	if (r < 0)
		return r;
	x = calloc(1, sizeof(*x));
	if (!x)
		return err_set(e, -ENOMEM, "out of memory");
	x->cfg = *cfg;
	r = request(cfg, &x->wire);
	if (r == 0)
		r = cmdport_new(&port_ops, x, &x->port);
	if (r < 0)
		err_sys(e, r, "cannot prepare the request");
	else if (x->wire.len > WIRE_SPEC_MAX)
		r = err_set(e, -E2BIG, "the command has more than %u bytes", WIRE_SPEC_MAX);
	if (r < 0) {
		exec_free(x);
		return r;
	}
	*ret = x;
	return 0;
}

void exec_free(struct exec *x)
{
	if (!x)
		return;
	cmdport_free(x->port);
	buf_fini(&x->wire);
	free(x);
}
