// SPDX-License-Identifier: Apache-2.0
/*
 * relay.c - runs the command and carries its input and output until it ends
 *
 * How it works
 * The command is the leader of a new session. Its output comes through two pipes, or through a
 * pseudo-terminal, which is then also its input and controlling terminal. One poll loop moves
 * bytes: output into STDOUT and STDERR frames, STDIN frames into a ring of one window, from there
 * to the command, and what the command has taken is acknowledged by CREDIT.
 *
 * The end is the death of the command itself, not the closing of its output: a background process
 * that it left behind may hold a pipe open for ever. What is in the pipes at that moment is still
 * sent, so everything the command wrote arrives before EXIT.
 *
 * The command's failure to start comes back through a close-on-exec pipe.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/wire.h"

#define TTY_DRAIN_MAX 65536
#define TTY_SILENT_MS 10

struct relay {
	struct port *port;
	struct port old; /* the serial port, read until MOVED; fd -1: not in use */
	bool moved_last; /* MOVED came */
	const struct spec *spec;
	size_t carried; /* bytes of the command's, both ways; SIZE_MAX: no longer counted */
	pid_t pid;
	int out, err; /* read ends; @out is the pty's master with a tty; -1 when finished */
	int in;	      /* write end; -1 when closed */
	int sig;      /* signalfd */
	int grace;    /* timerfd: the command was asked to end and has not; -1: it was not */
	bool tty;
	bool eof; /* the host sent STDIN_EOF */
	uint8_t ring[WIRE_WINDOW];
	size_t head, n; /* of the ring */
	size_t frames;	/* header bytes of the STDIN frames in it, not yet acknowledged */
};

void outcome_fail(struct outcome *o, int err, const char *fmt, ...)
{
	va_list ap;
	int n;

	o->how = WIRE_NOT_STARTED;
	o->value = (unsigned)err;
	va_start(ap, fmt);
	n = vsnprintf(o->words, sizeof(o->words), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(o->words))
		snprintf(o->words + n, sizeof(o->words) - (size_t)n, ": %s", strerror(err));
}

static void drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void credit(struct relay *r, size_t bytes)
{
	uint8_t data[WIRE_CREDIT_LEN];

	if (!bytes)
		return;
	wire_put32(data, (uint32_t)bytes);
	port_send(r->port, WIRE_CREDIT, data, sizeof(data));
}

/*
 * Stops taking input. What is held or still comes is discarded and not acknowledged, so that the
 * host sends a window of it at most; control frames have a part of the window to themselves.
 */
static void close_input(struct relay *r)
{
	if (!r->tty)
		drop(&r->in);
	r->in = -1;
	r->n = 0;
	r->frames = 0;
}

/* The ring's bytes to the command, as many as it takes. */
static void feed(struct relay *r)
{
	size_t done = 0;

	while (r->in >= 0 && r->n) {
		size_t run = sizeof(r->ring) - r->head;
		ssize_t n = write(r->in, r->ring + r->head, r->n < run ? r->n : run);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0) {
			close_input(r); /* it closed its standard input */
			break;
		}
		r->head = (r->head + (size_t)n) % sizeof(r->ring);
		r->n -= (size_t)n;
		done += (size_t)n;
	}
	/* Headers are acknowledged with the last byte they announced: when all is through. */
	if (!r->n) {
		done += r->frames;
		r->frames = 0;
	}
	credit(r, done);
	if (r->eof && !r->n && r->in >= 0) {
		/* On a terminal, end of file is a character. */
		if (!r->tty || (write(r->in, "\004", 1) == 1))
			close_input(r);
	}
}

/* Behind what is in the ring, which has room. */
static void keep(struct relay *r, const uint8_t *data, size_t len)
{
	size_t at = (r->head + r->n) % sizeof(r->ring), first = sizeof(r->ring) - at;

	if (first > len)
		first = len;
	memcpy(r->ring + at, data, first);
	memcpy(r->ring, data + first, len - first);
	r->n += len;
}

static void count(struct relay *r, size_t bytes)
{
	if (r->carried != SIZE_MAX)
		r->carried += bytes;
}

/*
 * Moves to the virtio port (base/wire.h) once it pays, if there is one. A port_send of any length
 * has gone out whole, so this is between two frames.
 */
static void maybe_move(struct relay *r)
{
	uint8_t data[WIRE_READY_LEN];
	int fd;

	if (r->carried == SIZE_MAX || r->carried < WIRE_MOVE_AFTER || r->port->fd < 0)
		return;
	r->carried = SIZE_MAX;
	if (better_port(r->spec, true, &fd) < 0)
		return;
	tcdrain(r->port->fd);
	r->old.fd = r->port->fd;
	r->old.n_in = r->port->n_in;
	memcpy(r->old.in, r->port->in, r->port->n_in);
	r->port->fd = fd;
	r->port->n_in = 0;
	wire_put32(data, WIRE_WINDOW);
	port_send(r->port, WIRE_READY, data, sizeof(data));
}

/* The command, and what it has started in its session, is to end: first it is asked. */
static void shut_down(struct relay *r, uint32_t ms)
{
	struct itimerspec when = { .it_value = { .tv_sec = ms / 1000,
						 .tv_nsec = (long)(ms % 1000) * 1000000 + 1 } };

	kill(-r->pid, SIGTERM);
	/* Who is stopped does not hear it. */
	kill(-r->pid, SIGCONT);
	if (r->grace < 0)
		r->grace = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (r->grace < 0 || timerfd_settime(r->grace, 0, &when, NULL) < 0)
		kill(-r->pid, SIGKILL);
}

static int frame(void *opaque, unsigned type, const uint8_t *data, size_t len)
{
	struct relay *r = opaque;

	switch (type) {
	case WIRE_STDIN:
		if (len > sizeof(r->ring) - r->n)
			return -EPROTO; /* the host ignored the window */
		if (r->in < 0 || r->eof)
			return 0;
		keep(r, data, len);
		r->frames += WIRE_HEAD;
		feed(r);
		count(r, len);
		return 0;
	case WIRE_MOVED:
		if (len || r->old.fd < 0)
			return -EPROTO;
		r->moved_last = true;
		return 0;
	case WIRE_STDIN_EOF:
		r->eof = true;
		feed(r);
		break;
	case WIRE_WINSIZE:
		if (len != WIRE_WINSIZE_LEN)
			return -EPROTO;
		if (r->tty && r->out >= 0) {
			struct winsize w = { .ws_row = (unsigned short)wire_get16(data),
					     .ws_col = (unsigned short)wire_get16(data + 2) };

			ioctl(r->out, TIOCSWINSZ, &w);
		}
		break;
	case WIRE_SHUTDOWN:
		if (len != WIRE_SHUTDOWN_LEN)
			return -EPROTO;
		shut_down(r, wire_get32(data));
		break;
	case WIRE_SIGNAL:
		if (len != WIRE_SIGNAL_LEN)
			return -EPROTO;
		if (data[0] < NSIG)
			kill(-r->pid, data[0]);
		break;
	default:
		return -EPROTO;
	}
	credit(r, WIRE_HEAD + len);
	return 0;
}

/* One read of the command's output: how much it was; 0 at its end, or when there is nothing now. */
static size_t pump(struct relay *r, int *fd, unsigned type)
{
	uint8_t *data = port_payload(r->port);
	ssize_t n = read(*fd, data, WIRE_PAYLOAD_MAX);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) { /* a pty's master says EIO when the last slave is closed */
		if (r->tty)
			close_input(r);
		drop(fd);
		return 0;
	}
	port_send(r->port, type, data, (size_t)n);
	count(r, (size_t)n);
	return (size_t)n;
}

/*
 * The command has ended: sends what it wrote and nobody has read yet. A process it left behind may
 * go on writing, so a pipe is emptied of what is in it now. A pseudo-terminal hands over late (a
 * kernel worker moves the bytes) and cannot say how much is coming: it is read until it says that
 * all have closed it, or, if somebody has not, until it has been silent for a moment.
 */
static void drain(struct relay *r, int *fd, unsigned type)
{
	int left = 0;

	if (r->tty) {
		struct pollfd p = { .fd = *fd, .events = POLLIN };

		for (left = TTY_DRAIN_MAX; *fd >= 0 && left > 0 && poll(&p, 1, TTY_SILENT_MS) > 0;)
			left -= (int)pump(r, fd, type) + 1;
		return;
	}
	if (*fd < 0 || ioctl(*fd, FIONREAD, &left) < 0)
		return;
	while (left > 0) {
		size_t n = pump(r, fd, type);

		if (!n)
			break;
		left -= (int)n;
	}
}

/* Whether the command has ended. As process 1, also buries everybody else's children. */
static bool reap(struct relay *r, struct outcome *o)
{
	bool ended = false;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != r->pid)
			continue;
		ended = true;
		o->how = WIFEXITED(status) ? WIRE_EXITED : WIRE_SIGNALED;
		o->value = (unsigned)(WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	}
	return ended;
}

enum { P_SIG, P_PORT, P_OUT, P_ERR, P_IN, P_GRACE, P_COUNT };

static void port_lost(struct relay *r, int err)
{
	say("the command port failed: %s", strerror(-err));
	drop(&r->port->fd);
	/* Nobody can see the output: end the command as a terminal's loss would. */
	kill(-r->pid, SIGHUP);
	close_input(r);
}

/* Where the host speaks. */
static struct port *reading(struct relay *r)
{
	return r->old.fd >= 0 ? &r->old : r->port;
}

static void loop(struct relay *r, struct outcome *o)
{
	struct pollfd p[P_COUNT];
	struct signalfd_siginfo si;
	int ret;

	for (;;) {
		p[P_SIG] = (struct pollfd){ .fd = r->sig, .events = POLLIN };
		p[P_PORT] = (struct pollfd){ .fd = reading(r)->fd, .events = POLLIN };
		p[P_OUT] = (struct pollfd){ .fd = r->out, .events = POLLIN };
		p[P_ERR] = (struct pollfd){ .fd = r->err, .events = POLLIN };
		p[P_IN] = (struct pollfd){ .fd = r->n ? r->in : -1, .events = POLLOUT };
		p[P_GRACE] = (struct pollfd){ .fd = r->grace, .events = POLLIN };
		if (poll(p, P_COUNT, -1) < 0)
			continue;
		if (p[P_OUT].revents && r->out >= 0)
			pump(r, &r->out, WIRE_STDOUT);
		if (p[P_ERR].revents && r->err >= 0)
			pump(r, &r->err, WIRE_STDERR);
		if (p[P_IN].revents)
			feed(r);
		if (p[P_GRACE].revents) {
			kill(-r->pid, SIGKILL);
			drop(&r->grace);
		}
		if (p[P_PORT].revents && r->port->fd >= 0) {
			ret = port_receive(reading(r), frame, r);
			if (ret < 0)
				port_lost(r, ret);
			if (r->moved_last)
				drop(&r->old.fd);
		}
		maybe_move(r);
		if (p[P_SIG].revents && read(r->sig, &si, sizeof(si)) > 0 && reap(r, o))
			break;
	}
	if (r->out >= 0)
		drain(r, &r->out, WIRE_STDOUT);
	if (r->err >= 0)
		drain(r, &r->err, WIRE_STDERR);
}

/* The command's ends of its standard input, output and error. */
struct ends {
	int fd[3];
};

/* What the child says if it cannot become the command. */
struct failure {
	int err;
	char what[128];
};

static void child(const struct spec *s, struct ends *ends, int fail)
{
	struct failure words = { 0 };
	sigset_t none;

	setsid();
	if (s->tty)
		ioctl(ends->fd[0], TIOCSCTTY, 0);
	for (int i = 0; i < 3; i++)
		if (dup2(ends->fd[i], i) < 0)
			words.err = errno;
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (s->cwd && chdir(s->cwd) < 0 && (setup_mkdirs(s->cwd) < 0 || chdir(s->cwd) < 0)) {
		words.err = errno;
		snprintf(words.what, sizeof(words.what), "cannot go to the directory %s", s->cwd);
	} else {
		execve(s->exec, s->argv, s->envp);
		words.err = errno;
		snprintf(words.what, sizeof(words.what), "cannot execute %s", s->exec);
	}
	(void)!write(fail, &words, sizeof(words));
	_exit(127);
}

/* Opens a pseudo-terminal: the master in r->out (and r->in), the slave in all of @ends. */
static int open_tty(struct relay *r, const struct spec *s, struct ends *ends)
{
	struct winsize w = { .ws_row = (unsigned short)s->rows, .ws_col = (unsigned short)s->cols };
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	int slave;

	if (master < 0)
		return -errno;
	r->out = r->in = master;
	if (unlockpt(master) < 0)
		return -errno;
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return -errno;
	ioctl(master, TIOCSWINSZ, &w);
	for (int i = 0; i < 3; i++)
		ends->fd[i] = slave;
	return 0;
}

/* Pipes: ours in r->in, r->out, r->err without blocking, the command's in @ends. */
static int open_pipes(struct relay *r, const struct spec *s, struct ends *ends)
{
	int *ours[3] = { &r->in, &r->out, &r->err };

	for (int i = 0; i < 3; i++) {
		int fd[2];

		if (i == 0 && s->stdin_null) {
			ends->fd[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
			if (ends->fd[0] < 0)
				return -errno;
			continue;
		}
		if (pipe2(fd, O_CLOEXEC) < 0)
			return -errno;
		ends->fd[i] = fd[i != 0];
		*ours[i] = fd[i == 0];
		fcntl(*ours[i], F_SETFL, O_NONBLOCK);
	}
	return 0;
}

/* Forks and waits until the command runs. 0, or negative errno with @o filled in. */
static int start(struct relay *r, const struct spec *s, struct ends *ends, struct outcome *o)
{
	struct failure words;
	int fail[2];
	ssize_t n;

	if (pipe2(fail, O_CLOEXEC) < 0)
		return -errno;
	r->pid = fork();
	if (r->pid == 0)
		child(s, ends, fail[1]);
	close(fail[1]);
	if (r->pid < 0) {
		close(fail[0]);
		return -errno;
	}
	while ((n = read(fail[0], &words, sizeof(words))) < 0 && errno == EINTR)
		;
	close(fail[0]);
	if (n != sizeof(words))
		return 0;
	waitpid(r->pid, NULL, 0);
	words.what[sizeof(words.what) - 1] = 0;
	outcome_fail(o, words.err, "%s", words.what);
	return -words.err;
}

void relay_run(struct port *port, const struct spec *s, struct outcome *ret)
{
	static struct relay r;
	struct ends ends = { { -1, -1, -1 } };
	sigset_t chld;
	int err;

	r = (struct relay){
		.port = port, .spec = s, .out = -1, .err = -1, .in = -1, .grace = -1, .tty = s->tty
	};
	r.old.fd = -1;
	r.carried = s->vport && isatty(port->fd) ? 0 : SIZE_MAX;
	ret->words[0] = 0;
	ret->value = 0;
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	signal(SIGPIPE, SIG_IGN);
	r.sig = signalfd(-1, &chld, SFD_CLOEXEC);
	err = r.sig < 0 ? -errno : s->tty ? open_tty(&r, s, &ends) : open_pipes(&r, s, &ends);
	if (!err) {
		port_send(port, WIRE_STARTED, NULL, 0);
		err = start(&r, s, &ends, ret);
	}
	if (err && !ret->words[0])
		outcome_fail(ret, -err, "cannot set up the command");
	drop(&ends.fd[0]);
	if (!s->tty) {
		drop(&ends.fd[1]);
		drop(&ends.fd[2]);
	}
	if (!err)
		loop(&r, ret);
	if (s->tty)
		r.in = -1; /* the same as r.out */
	drop(&r.in);
	drop(&r.out);
	drop(&r.err);
	drop(&r.sig);
	drop(&r.grace);
	drop(&r.old.fd);
}
