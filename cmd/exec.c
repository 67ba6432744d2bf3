// SPDX-License-Identifier: Apache-2.0
/*
 * exec.c - the command `orrery exec`: runs a command in a VM that is running already
 *
 * vm/exec.c does it; here are the options, the way to the VM, and our signals. A guest that still
 * boots has the driver some time before the agent, so a refused connection is tried again for a
 * while.
 */
#include "exec.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/hosttime.h"
#include "base/values.h"
#include "base/wire.h"
#include "options.h"
#include "vm/exec.h"
#include "vm/remote.h"
#include "vm/run.h"
#include "vm/term.h"

#define ENV_MAX 128u
#define WAIT_NS 10000000000ull
#define RETRY_NS 20000000u
#define INSIST 3u /* that many SIGINTs or SIGTERMs end us, whatever the guest does */

enum { OPT_VM = 1, OPT_TTY, OPT_ENV, OPT_CWD, OPT_WAIT, OPT_TIMEOUT, OPT_HELP };

static const struct option_def options[] = {
	{ "vm", 0, "NAME|PID", "which VM, if more than one is running", OPT_VM },
	{ "tty", 't', NULL, "the command gets a terminal of its own", OPT_TTY },
	{ "env", 0, "NAME=VALUE", "sets a variable for the command; may be repeated", OPT_ENV },
	{ "cwd", 0, "DIR", "the command's directory; default: that of the VM's own", OPT_CWD },
	{ "wait", 0, "SEC", "how long to wait for a guest that boots (default 10)", OPT_WAIT },
	{ "timeout", 0, "SEC", "gives the command up after SEC seconds: status 124", OPT_TIMEOUT },
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
	"started. 124: time-out. 125: Orrery could not do what was asked.\n";

static const int passed_on[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH };

struct exec_args {
	const char *vm, *cwd;
	const char *env[ENV_MAX + 2]; /* the first for TERM */
	unsigned n_env;
	u64 wait_ns, timeout_ns; /* 0: no time-out */
	bool tty, help;
};

/* Signals, while the command runs. */
struct signals {
	sigset_t set;
	int fd;
	bool tty;
	unsigned asked; /* those that ask to end */
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
	case OPT_TIMEOUT:
		return value_seconds("--timeout", v, e, &a->timeout_ns);
	case OPT_ENV:
		if (v[0] == '=' || !strchr(v, '='))
			return err_set(e, -EINVAL, "--env %.80s: it takes NAME=VALUE", v);
		if (a->n_env == ENV_MAX)
			return err_set(e, -E2BIG, "--env: more than %u of them", ENV_MAX);
		a->env[++a->n_env] = v;
		break;
	default:
		a->help = true;
	}
	return 0;
}

static bool our_size(unsigned *ret_rows, unsigned *ret_cols)
{
	return term_size((int[]){ STDIN_FILENO, STDOUT_FILENO }, 2, ret_rows, ret_cols);
}

static void take_signal(void *opaque, struct exec *x)
{
	struct signals *s = opaque;
	struct signalfd_siginfo si;
	unsigned rows, cols;

	if (read(s->fd, &si, sizeof(si)) != sizeof(si))
		return;
	if (si.ssi_signo != SIGWINCH) {
		s->asked += si.ssi_signo == SIGINT || si.ssi_signo == SIGTERM;
		exec_signal(x, si.ssi_signo);
		if (s->asked >= INSIST)
			exec_cancel(x);
	} else if (s->tty && our_size(&rows, &cols)) {
		exec_winsize(x, rows, cols);
	}
}

static int open_signals(struct signals *s, struct err *e)
{
	sigemptyset(&s->set);
	for (unsigned i = 0; i < ARRAY_LEN(passed_on); i++)
		sigaddset(&s->set, passed_on[i]);
	s->fd = signalfd(-1, &s->set, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->fd < 0 ? err_sys(e, -errno, "cannot wait for signals") : 0;
}

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

/* What a shell would say of it; @r: of exec_run. */
static int failed(int r, struct err *e)
{
	switch (r) {
	case -ENOENT:
	case -ENOEXEC:
	case -ETIMEDOUT:
		fprintf(stderr, "orrery: %s\n", e->msg);
		return r == -ENOENT ? 127 : r == -ENOEXEC ? 126 : VM_STATUS_TIMEOUT;
	case -EPIPE: /* as a program that writes to a pipe without a reader: silently */
		return 128 + SIGPIPE;
	case -ECANCELED:
		return 128 + SIGINT;
	default:
		return r;
	}
}

static int run(struct exec_args *a, char **argv, struct err *e)
{
	struct signals sig = { .fd = -1, .tty = a->tty };
	struct exec_cfg cfg = { .argv = (const char *const *)argv,
				.cwd = a->cwd,
				.tty = a->tty,
				.in_fd = STDIN_FILENO,
				.out_fd = STDOUT_FILENO,
				.err_fd = STDERR_FILENO,
				.wake = take_signal,
				.opaque = &sig };
	char term[128];
	struct exec *x = NULL;
	int fd = -1, status = 0, r;

	/* Before what the user says. */
	snprintf(term, sizeof(term), "TERM=%s", getenv("TERM") ? getenv("TERM") : "");
	a->env[0] = term;
	cfg.env = a->env + (a->tty && term[strlen("TERM=")] ? 0 : 1);
	if (a->tty)
		our_size(&cfg.rows, &cfg.cols);
	r = open_signals(&sig, e);
	cfg.wake_fd = sig.fd;
	if (r == 0)
		r = exec_new(&cfg, e, &x);
	if (r == 0)
		r = reach(a, e, &fd);
	if (r == 0 && a->tty && isatty(STDIN_FILENO))
		r = term_raw(STDIN_FILENO, e);
	if (r == 0) {
		/* Not before: until then they end us. */
		sigprocmask(SIG_BLOCK, &sig.set, NULL);
		r = exec_run(x, fd, a->timeout_ns ? host_ns() + a->timeout_ns : EXEC_FOREVER, e,
			     &status);
		term_restore();
		r = r < 0 ? failed(r, e) : status;
	}
	if (fd >= 0)
		close(fd);
	if (sig.fd >= 0)
		close(sig.fd);
	exec_free(x);
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
