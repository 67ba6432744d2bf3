// SPDX-License-Identifier: Apache-2.0
/*
 * exec.c - the command `orrery exec`: runs a command in a VM that is running already
 *
 * How it works
 * The guest's agent (src/guest/agent.c) listens on a vsock port. We connect, send what to run, and
 * are from then on what the monitor is for the VM's own command: vm/cmdport speaks the protocol,
 * this file carries its bytes between the connection and our standard streams.
 *
 * A guest that still boots has the driver some time before the agent, so a refused connection is
 * tried again for a while.
 */
#include "exec.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/hosttime.h"
#include "base/values.h"
#include "base/wire.h"
#include "options.h"
#include "vm/cmdport.h"
#include "vm/remote.h"
#include "vm/run.h"
#include "vm/term.h"

#define ENV_MAX 128u
#define WAIT_NS 10000000000ull
#define RETRY_NS 20000000u
#define INSIST 3u /* that many SIGINTs or SIGTERMs end us, whatever the guest does */

enum { OPT_VM = 1, OPT_TTY, OPT_ENV, OPT_CWD, OPT_WAIT, OPT_HELP };

static const struct option_def options[] = {
	{ "vm", 0, "NAME|PID", "which VM, if more than one is running", OPT_VM },
	{ "tty", 't', NULL, "the command gets a terminal of its own", OPT_TTY },
	{ "env", 0, "NAME=VALUE", "sets a variable for the command; may be repeated", OPT_ENV },
	{ "cwd", 0, "DIR", "the command's directory; default: that of the VM's own", OPT_CWD },
	{ "wait", 0, "SEC", "how long to wait for a guest that boots (default 10)", OPT_WAIT },
	{ "help", 'h', NULL, "this list", OPT_HELP },
	{ 0 },
};

static const char intro[] =
	"usage: orrery exec [OPTION...] -- COMMAND [ARG...]\n"
	"\n"
	"Runs a COMMAND of the guest's in a running VM (`orrery run --vsock`), as root, with our\n"
	"standard input, output and error, and exits with its status. Signals are passed on.\n"
	"\n";

static const char outro[] =
	"\n"
	"Exit status: the command's, 128 + N if signal N killed it; 127 or 126 if it could not be\n"
	"started. 125: Orrery could not do what was asked.\n";

static const int passed_on[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH };

struct exec_args {
	const char *vm, *cwd;
	const char *env[ENV_MAX];
	unsigned n_env;
	u64 wait_ns;
	bool tty, help;
};

struct exec {
	const struct exec_args *a;
	struct cmdport *port;
	int fd, sig;
	struct buf wire; /* for the guest */
	size_t wire_at;
	bool in_eof;
	unsigned asked; /* signals that ask to end */
	int out_err;	/* negative errno: standard output cannot be written */
	bool lost, no_memory;
};

static int on_option(void *opaque, int id, const char *v, struct err *e)
{
	struct exec_args *a = opaque;

	switch (id) {
	case OPT_VM:
		a->vm = v;
		break;
	case OPT_TTY:
		a->tty = true;
		break;
	case OPT_CWD:
		if (v[0] != '/')
			return err_set(e, -EINVAL, "--cwd %.80s: it must begin with /", v);
		a->cwd = v;
		break;
	case OPT_WAIT:
		return value_seconds("--wait", v, e, &a->wait_ns);
	case OPT_ENV:
		if (v[0] == '=' || !strchr(v, '='))
			return err_set(e, -EINVAL, "--env %.80s: it takes NAME=VALUE", v);
		if (a->n_env == ENV_MAX)
			return err_set(e, -E2BIG, "--env: more than %u of them", ENV_MAX);
		a->env[a->n_env++] = v;
		break;
	default:
		a->help = true;
	}
	return 0;
}

/* --- what to run ------------------------------------------------------------------------------ */

static int add(struct buf *b, const char *key, const char *value)
{
	return buf_printf(b, "%s=%s%c", key, value, 0);
}

/* Length and spec, see WIRE_AGENT_PORT. */
static int request(const struct exec_args *a, char **argv, struct buf *b)
{
	unsigned rows = 0, cols = 0;
	const char *term = getenv("TERM");
	int r = buf_add(b, NULL, 4);

	if (r == 0)
		r = buf_printf(b, "%s%c", WIRE_SPEC_MAGIC, 0);
	if (r == 0)
		r = add(b, "exec", argv[0]);
	for (char **p = argv; r == 0 && *p; p++)
		r = add(b, "arg", *p);
	if (r == 0 && a->tty && term && *term)
		r = buf_printf(b, "env=TERM=%s%c", term, 0);
	for (unsigned i = 0; r == 0 && i < a->n_env; i++)
		r = add(b, "env", a->env[i]);
	if (r == 0 && a->cwd)
		r = add(b, "cwd", a->cwd);
	if (r == 0 && a->tty) {
		term_size((int[]){ STDIN_FILENO, STDOUT_FILENO }, 2, &rows, &cols);
		r = buf_printf(b, "tty=%ux%u%c", rows, cols, 0);
	}
	if (r == 0)
		wire_put32(b->data, (u32)(b->len - 4));
	return r;
}

/* --- carrying --------------------------------------------------------------------------------- */

static void on_out(void *opaque, int fd, const u8 *data, size_t len)
{
	struct exec *x = opaque;

	while (len && !(fd == STDOUT_FILENO && x->out_err)) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EAGAIN) {
			poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, -1);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			if (fd == STDOUT_FILENO)
				x->out_err = -errno;
			return;
		}
		data += n;
		len -= (size_t)n;
	}
}

static void on_message(void *opaque, const char *words)
{
	struct exec *x = opaque;

	dprintf(STDERR_FILENO, "orrery: guest: %s\n%s", words, x->a->tty ? "\r" : "");
}

static void on_send(void *opaque, const u8 *data, size_t len)
{
	struct exec *x = opaque;

	if (x->wire_at == x->wire.len)
		x->wire.len = x->wire_at = 0;
	if (buf_add(&x->wire, data, len) < 0)
		x->no_memory = true;
}

static const struct cmdport_ops port_ops = {
	.out = on_out,
	.message = on_message,
	.send = on_send,
};

static void take_signal(struct exec *x)
{
	struct signalfd_siginfo si;
	unsigned rows, cols;

	if (read(x->sig, &si, sizeof(si)) != sizeof(si))
		return;
	if (si.ssi_signo != SIGWINCH) {
		x->asked += si.ssi_signo == SIGINT || si.ssi_signo == SIGTERM;
		cmdport_signal(x->port, si.ssi_signo);
	} else if (x->a->tty &&
		   term_size((int[]){ STDIN_FILENO, STDOUT_FILENO }, 2, &rows, &cols)) {
		cmdport_winsize(x->port, rows, cols);
	}
}

static void take_input(struct exec *x)
{
	u8 buf[32768];
	size_t room = cmdport_stdin_room(x->port);
	ssize_t n = read(STDIN_FILENO, buf, MIN(room, sizeof(buf)));

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
		x->lost = true;
	else
		cmdport_rx(x->port, buf, (size_t)n);
}

static void give_wire(struct exec *x)
{
	ssize_t n = write(x->fd, x->wire.data + x->wire_at, x->wire.len - x->wire_at);

	if (n > 0)
		x->wire_at += (size_t)n;
	else if (errno != EINTR && errno != EAGAIN)
		x->wire_at = x->wire.len; /* what it has said is still to be read */
}

static bool going_on(const struct exec *x)
{
	enum cmdport_state s = cmdport_state(x->port);

	return s != CMDPORT_EXITED && s != CMDPORT_BROKEN && !x->lost && !x->out_err &&
	       !x->no_memory && x->asked < INSIST;
}

static void carry(struct exec *x)
{
	while (going_on(x)) {
		bool reads = !x->in_eof && cmdport_stdin_room(x->port);
		struct pollfd p[] = {
			{ .fd = x->fd,
			  .events = (short)(POLLIN | (x->wire_at < x->wire.len ? POLLOUT : 0)) },
			{ .fd = x->sig, .events = POLLIN },
			{ .fd = reads ? STDIN_FILENO : -1, .events = POLLIN },
		};

		if (poll(p, ARRAY_LEN(p), -1) < 0)
			continue;
		if (p[0].revents & POLLOUT)
			give_wire(x);
		if (p[0].revents & (POLLIN | POLLHUP | POLLERR))
			take_wire(x);
		if (p[1].revents)
			take_signal(x);
		if (p[2].revents)
			take_input(x);
	}
}

/* --- from beginning to end -------------------------------------------------------------------- */

static int reach(const struct exec_args *a, struct err *e, int *ret_fd)
{
	u64 until = host_ns() + a->wait_ns;
	struct remote vm;
	int r = remote_open(a->vm, true, e, &vm);

	if (r < 0)
		return r;
	if (vm.vsock && !vm.agent)
		r = err_set(
			e, -ENOTSUP,
			"VM %s was started with an init of its own (--initrd), so Orrery's agent "
			"is not in it",
			vm.name);
	while (r == 0) {
		r = remote_connect(&vm, WIRE_AGENT_PORT, e, ret_fd);
		if (r != -ECONNREFUSED || host_ns() > until)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = RETRY_NS }, NULL);
		r = 0;
	}
	remote_close(&vm);
	return r;
}

static int result(const struct exec *x, char **argv, struct err *e)
{
	const struct cmdport_outcome *o = cmdport_outcome(x->port);

	if (o && o->how == CMDPORT_NOT_STARTED)
		fprintf(stderr, "orrery: the guest could not run %s: %s\n", argv[0], o->words);
	if (o)
		return cmdport_status(o);
	if (x->out_err == -EPIPE)
		return 128 + SIGPIPE;
	if (x->out_err)
		return err_sys(e, x->out_err, "cannot write to standard output");
	if (x->asked >= INSIST)
		return 128 + SIGINT;
	if (x->no_memory)
		return err_set(e, -ENOMEM, "out of memory");
	if (cmdport_state(x->port) == CMDPORT_BROKEN)
		return err_set(e, -EPROTO, "the guest's agent broke the protocol (%s)",
			       cmdport_fault(x->port));
	return err_set(e, -ECONNRESET,
		       "the connection to the guest ended before the command's status was known");
}

static int run(const struct exec_args *a, char **argv, struct err *e)
{
	struct exec x = { .a = a, .fd = -1, .sig = -1 };
	sigset_t set;
	int r = request(a, argv, &x.wire);

	if (r == 0)
		r = cmdport_new(&port_ops, &x, &x.port);
	if (r < 0)
		err_sys(e, r, "cannot prepare the request");
	else if (x.wire.len > WIRE_SPEC_MAX)
		r = err_set(e, -E2BIG, "the command has more than %u bytes", WIRE_SPEC_MAX);
	if (r == 0)
		r = reach(a, e, &x.fd);
	if (r < 0)
		goto out;
	fcntl(x.fd, F_SETFL, O_RDWR | O_NONBLOCK);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	for (unsigned i = 0; i < ARRAY_LEN(passed_on); i++)
		sigaddset(&set, passed_on[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	x.sig = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (x.sig < 0) {
		r = err_sys(e, -errno, "cannot wait for signals");
		goto out;
	}
	if (a->tty && isatty(STDIN_FILENO))
		r = term_raw(STDIN_FILENO, e);
	if (r == 0) {
		carry(&x);
		term_restore();
		r = result(&x, argv, e);
	}
out:
	if (x.fd >= 0)
		close(x.fd);
	if (x.sig >= 0)
		close(x.sig);
	cmdport_free(x.port);
	buf_fini(&x.wire);
	return r;
}

int cmd_exec(int argc, char **argv)
{
	static struct exec_args a;
	struct err e = { 0 };
	int r;

	a = (struct exec_args){ .wait_ns = WAIT_NS };
	r = options_parse(options, argc, argv, on_option, &a, &e);
	if (r >= 0 && a.help) {
		fputs(intro, stdout);
		options_print(options);
		fputs(outro, stdout);
		return fflush(stdout) ? VM_STATUS_FAILED : 0;
	}
	if (r >= argc)
		r = err_set(&e, -EINVAL,
			    "which command? `orrery exec -- COMMAND` runs one in the guest");
	if (r >= 0)
		r = run(&a, argv + r, &e);
	if (r >= 0)
		return r;
	fprintf(stderr, "orrery: %s\n", e.msg);
	return VM_STATUS_FAILED;
}
