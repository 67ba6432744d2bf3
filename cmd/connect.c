// SPDX-License-Identifier: Apache-2.0
/*
 * connect.c - the command `orrery connect`: standard input and output to a vsock port of a guest
 *
 * How it works
 * Two streams that know nothing of each other: the end of one is passed on as the end of that
 * direction, and the other goes on. It is over when the guest has ended its own; what standard
 * input still has then nobody would read.
 */
#include "connect.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/values.h"
#include "options.h"
#include "vm/remote.h"
#include "vm/run.h"

enum { OPT_VM = 1, OPT_HELP };

static const struct option_def options[] = {
	{ "vm", 0, "NAME|PID", "which VM, if more than one is running", OPT_VM },
	{ "help", 'h', NULL, "this list", OPT_HELP },
	{ 0 },
};

static const char intro[] =
	"usage: orrery connect [OPTION...] PORT\n"
	"\n"
	"Connects standard input and output with vsock port PORT in a running guest (`orrery run\n"
	"--vsock`), until the guest closes the connection.\n"
	"\n";

struct args {
	const char *vm;
	bool help;
};

/* One direction. */
struct stream {
	int from, to;
	u8 buf[65536];
	size_t at, n;
	size_t most; /* bytes that a ready @to takes without waiting */
	bool eof;    /* of @from */
	bool over;   /* and passed on */
};

static int on_option(void *opaque, int id, const char *v, struct err *e)
{
	struct args *a = opaque;

	if (id == OPT_VM)
		a->vm = v;
	else
		a->help = true;
	return 0;
}

static size_t takes(int fd)
{
	struct stat sb;

	/* Ready means that one page fits into a pipe; more would wait. */
	return fstat(fd, &sb) == 0 && S_ISFIFO(sb.st_mode) ? 4096
							   : sizeof(((struct stream *)0)->buf);
}

static void fill(struct stream *s)
{
	ssize_t n = read(s->from, s->buf, sizeof(s->buf));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	s->at = 0;
	s->n = n > 0 ? (size_t)n : 0;
	s->eof = n <= 0;
}

/* 0, or a negative errno of write(2). */
static int drain(struct stream *s)
{
	size_t len = s->n < s->most ? s->n : s->most;
	ssize_t n = write(s->to, s->buf + s->at, len);

	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 0 : -errno;
	s->at += (size_t)n;
	s->n -= (size_t)n;
	return 0;
}

/* Until the guest's direction is over. 0, or a negative errno of writing to standard output. */
static int carry(struct stream *in, struct stream *out)
{
	while (!out->eof || out->n) {
		struct pollfd p[4] = {
			{ .fd = in->eof || in->n || in->over ? -1 : in->from, .events = POLLIN },
			{ .fd = in->n ? in->to : -1, .events = POLLOUT },
			{ .fd = out->eof || out->n ? -1 : out->from, .events = POLLIN },
			{ .fd = out->n ? out->to : -1, .events = POLLOUT },
		};
		int r = 0;

		if (poll(p, 4, -1) < 0 && errno != EINTR)
			return -errno;
		if (p[0].revents)
			fill(in);
		if (p[1].revents && drain(in) < 0) {
			/* The guest takes no more; it may still have something to say. */
			in->n = 0;
			in->over = true;
		}
		if (in->eof && !in->n && !in->over) {
			shutdown(in->to, SHUT_WR);
			in->over = true;
		}
		if (p[2].revents)
			fill(out);
		if (p[3].revents)
			r = drain(out);
		if (r < 0)
			return r;
	}
	return 0;
}

static int run(const struct args *a, const char *port_text, struct err *e)
{
	static struct stream in, out;
	struct remote vm;
	u64 port;
	int fd, r;

	r = value_u64("PORT", port_text, 0, UINT32_MAX, e, &port);
	if (r == 0)
		r = remote_open(a->vm, true, e, &vm);
	if (r < 0)
		return r;
	r = remote_connect(&vm, (u32)port, e, &fd);
	remote_close(&vm);
	if (r < 0)
		return r;
	signal(SIGPIPE, SIG_IGN);
	fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
	in = (struct stream){ .from = STDIN_FILENO, .to = fd, .most = sizeof(in.buf) };
	out = (struct stream){ .from = fd, .to = STDOUT_FILENO, .most = takes(STDOUT_FILENO) };
	r = carry(&in, &out);
	close(fd);
	if (r == -EPIPE) /* as a program that writes to a pipe without a reader: silently */
		return 128 + SIGPIPE;
	return r < 0 ? err_sys(e, r, "cannot write to standard output") : 0;
}

int cmd_connect(int argc, char **argv)
{
	struct args a = { 0 };
	struct err e = { 0 };
	const char *port = NULL;
	int r;

	/* The last word is no option. */
	if (argc > 1 && argv[argc - 1][0] != '-') {
		port = argv[argc - 1];
		argc--;
	}
	r = options_parse(options, argc, argv, on_option, &a, &e);
	if (r >= 0 && a.help) {
		fputs(intro, stdout);
		options_print(options);
		return fflush(stdout) ? VM_STATUS_FAILED : 0;
	}
	if (r >= 0 && !port)
		r = err_set(&e, -EINVAL, "which port? `orrery connect --help` says more");
	if (r >= 0)
		r = run(&a, port, &e);
	if (r >= 0)
		return r;
	fprintf(stderr, "orrery: %s\n", e.msg);
	return VM_STATUS_FAILED;
}
