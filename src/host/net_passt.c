// SPDX-License-Identifier: Apache-2.0
/*
 * net_passt.c - a network by passt(1), a process of its own
 *
 * How it works
 * The protocol is the one for stream sockets that passt and others share: each frame is preceded by
 * its length, 32 bits in network byte order. Frames are finished here (checksums, and segments that
 * fit the MTU), since nothing beside the frame can be said.
 *
 * Either a passt that listens on a socket is connected to, or one is started with a socket of its
 * own. A started one sets itself up, goes into the background and tells by its exit status whether
 * that went well; it ends by itself when we close the socket.
 *
 * The stream must stay in step: what a write did not take of a frame is kept and written before
 * anything else, and until then sending is refused. A length that cannot be one ends the connection:
 * the cable is out.
 */
#include "host/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define LEN_LEN 4u
#define IN_SIZE (256u << 10) /* a read; some frames of the largest size */
#define OUT_SIZE (256u << 10)
#define ROUNDS 4u /* reads for one event */
#define ARGS_MAX 192u
#define SOCKET_BYTES (1 << 20)
#define WAIT_MS 10000

struct passt {
	struct net n;
	struct gate *gate;
	struct gate_watch watch;
	int fd;
	bool started, refused, full;
	size_t n_in, at;      /* bytes in in; where the next frame begins */
	size_t n_out, at_out; /* bytes in out; how many are written */
	u8 in[IN_SIZE];
	u8 out[OUT_SIZE];
	u8 frame[NET_FRAME_MAX];
};

static struct passt *passt_of(struct net *n)
{
	return container_of(n, struct passt, n);
}

static void update_watch(struct passt *p)
{
	u32 events = 0;

	if (!p->gate)
		return;
	if (p->started)
		events = (p->full ? 0 : EPOLLIN) | (p->n_out ? EPOLLOUT : 0);
	gate_watch_events(p->gate, &p->watch, events);
}

static void unplug(struct passt *p)
{
	if (p->started && p->gate)
		gate_release(p->gate);
	p->started = false;
	p->n_in = p->at = p->n_out = p->at_out = 0;
	p->n.link = false;
	update_watch(p);
	p->n.peer.link(p->n.peer.opaque, false);
}

/* --- to the card ------------------------------------------------------------------------------ */

/* Whole frames of p->in. False: the stream is out of step. */
static bool deliver(struct passt *p)
{
	u32 len;

	p->full = false;
	while (p->n_in - p->at >= LEN_LEN) {
		memcpy(&len, p->in + p->at, LEN_LEN);
		len = ntohl(len);
		if (len < NET_ETH_LEN || len > NET_FRAME_MAX)
			return false;
		if (p->n_in - p->at < LEN_LEN + len)
			break;
		struct iovec iov = { p->in + p->at + LEN_LEN, len };
		struct net_frame f = { .iov = &iov, .n = 1, .len = len, .o = { .valid = true } };

		if (p->n.peer.receive(p->n.peer.opaque, &f) < 0) {
			p->full = true;
			return true;
		}
		p->at += LEN_LEN + len;
	}
	memmove(p->in, p->in + p->at, p->n_in - p->at);
	p->n_in -= p->at;
	p->at = 0;
	return true;
}

/* False: the connection is over. */
static bool take(struct passt *p)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		ssize_t n;

		if (!deliver(p))
			return false;
		if (p->full)
			return true;
		n = recv(p->fd, p->in + p->n_in, IN_SIZE - p->n_in, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return false;
		if (n < 0)
			return true;
		p->n_in += (size_t)n;
	}
	return deliver(p);
}

/* --- from the card ---------------------------------------------------------------------------- */

/* Writes what is kept. False: the connection is over. */
static bool flush(struct passt *p)
{
	while (p->at_out < p->n_out) {
		ssize_t n = send(p->fd, p->out + p->at_out, p->n_out - p->at_out,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		p->at_out += (size_t)n;
	}
	p->n_out = p->at_out = 0;
	return true;
}

static void on_finished(void *opaque, u8 *frame, size_t len)
{
	struct passt *p = opaque;
	u32 be = htonl((u32)len);

	if (OUT_SIZE - p->n_out < LEN_LEN + len) {
		if (!flush(p) || OUT_SIZE - p->n_out < LEN_LEN + len) {
			p->n.dropped++; /* a segment of a large frame: TCP sends it again */
			return;
		}
	}
	memcpy(p->out + p->n_out, &be, LEN_LEN);
	memcpy(p->out + p->n_out + LEN_LEN, frame, len);
	p->n_out += LEN_LEN + len;
}

static int passt_send(struct net *n, const struct net_frame *f)
{
	struct passt *p = passt_of(n);

	if (!p->started) {
		n->dropped++;
		return 0;
	}
	/* What is kept was refused by the socket: nothing more until that is gone. */
	if (p->at_out || OUT_SIZE - p->n_out < 2 * NET_FRAME_MAX) {
		if (flush(p) && p->n_out) {
			p->refused = true;
			update_watch(p);
			return -EAGAIN;
		}
	}
	iov_read(f->iov, f->n, 0, p->frame, f->len);
	net_frame_finish(p->frame, f->len, &f->o, false, on_finished, p);
	return 0;
}

static void passt_sent(struct net *n)
{
	struct passt *p = passt_of(n);

	if (!p->started)
		return;
	if (!flush(p))
		unplug(p);
	else
		update_watch(p);
}

static void on_ready(void *opaque, u32 events)
{
	struct passt *p = opaque;

	if (events & EPOLLOUT && !flush(p)) {
		unplug(p);
		return;
	}
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !take(p)) {
		p->n.peer.received(p->n.peer.opaque);
		unplug(p);
		return;
	}
	p->n.peer.received(p->n.peer.opaque);
	if (p->refused && !p->n_out) {
		p->refused = false;
		p->n.peer.ready(p->n.peer.opaque);
	}
	update_watch(p);
}

static void passt_room(struct net *n)
{
	struct passt *p = passt_of(n);

	if (p->started && !take(p))
		unplug(p);
	update_watch(p);
}

/* --- life ------------------------------------------------------------------------------------- */

static void passt_start(struct net *n, unsigned takes)
{
	struct passt *p = passt_of(n);

	if (!p->started && n->link && p->gate) {
		p->started = true;
		gate_hold(p->gate);
	}
	update_watch(p);
}

/* Bytes of a frame that is not whole yet stay: the stream goes on where it was. */
static void passt_stop(struct net *n)
{
	struct passt *p = passt_of(n);

	if (p->started)
		gate_release(p->gate);
	p->started = p->refused = p->full = false;
	update_watch(p);
}

static int passt_attach(struct net *n, struct gate *gate, struct gclock *clk)
{
	struct passt *p = passt_of(n);
	int r;

	if (!gate)
		return 0;
	p->watch = (struct gate_watch){ .fn = on_ready, .opaque = p };
	r = gate_watch(gate, &p->watch, p->fd, 0);
	if (r == 0)
		p->gate = gate;
	return r;
}

static void passt_detach(struct net *n)
{
	struct passt *p = passt_of(n);

	passt_stop(n);
	if (p->gate)
		gate_unwatch(p->gate, &p->watch);
	p->gate = NULL;
}

static void passt_free(struct net *n)
{
	struct passt *p = passt_of(n);

	if (p->fd >= 0)
		close(p->fd);
	free(p);
}

static const struct net_ops passt_ops = {
	.name = "passt",
	.attach = passt_attach,
	.start = passt_start,
	.stop = passt_stop,
	.send = passt_send,
	.sent = passt_sent,
	.room = passt_room,
	.detach = passt_detach,
	.free = passt_free,
};

/* --- a running one ---------------------------------------------------------------------------- */

static int connect_to(struct passt *p, const struct net_passt_cfg *cfg, struct err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	if (strlen(cfg->path) >= sizeof(sa.sun_path))
		return err_set(e, -ENAMETOOLONG, "%s: the socket's path is longer than %zu bytes",
			       cfg->opt, sizeof(sa.sun_path) - 1);
	memcpy(sa.sun_path, cfg->path, strlen(cfg->path));
	p->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (p->fd < 0 || connect(p->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return err_sys(e, -errno, "%s: cannot connect (does passt --socket %s run?)",
			       cfg->opt, cfg->path);
	return 0;
}

/* --- starting one ----------------------------------------------------------------------------- */

static unsigned command_line(const struct net_passt_cfg *cfg, const char *fd, const char *mtu,
			     const char **arg)
{
	const char *fixed[] = { "passt",	 "--stderr", "--quiet",	  "--ipv4-only",
				"--fd",		 fd,	     "--address", cfg->addr,
				"--netmask",	 "24",	     "--gateway", cfg->gw,
				"--dns-forward", cfg->dns,   "--mtu",	  mtu };
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_LEN(fixed); i++)
		arg[n++] = fixed[i];
	for (const char *const *t = cfg->tcp; t && *t && n < ARGS_MAX - 2; t++) {
		arg[n++] = "--tcp-ports";
		arg[n++] = *t;
	}
	for (const char *const *t = cfg->udp; t && *t && n < ARGS_MAX - 2; t++) {
		arg[n++] = "--udp-ports";
		arg[n++] = *t;
	}
	arg[n] = NULL;
	return n;
}

/* In the child, between fork and exec. */
static attr_noreturn void run_child(const char *const *arg, int fd, int words)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* The socket survives exec by having its flag taken; dup2 onto itself would keep it. */
	int copy = dup(fd);
	if (copy >= 0 && dup2(copy, fd) >= 0 && dup2(words, 2) >= 0) {
		close(copy);
		execvp(arg[0], (char *const *)(size_t)arg);
	}
	_exit(errno == ENOENT ? 127 : 126);
}

/* The last line that says something, without its end. */
static void last_line(char *text, size_t n, const char **ret)
{
	text[n] = 0;
	while (n && text[n - 1] == '\n')
		text[--n] = 0;
	for (char *p = text; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		*ret = strncmp(p, "Failed to send", 14) ? p : *ret; /* there is no syslog */
	}
}

/* Waits until it is in the background. */
static int await(pid_t pid, int words, const struct net_passt_cfg *cfg, struct err *e)
{
	const char *why = "it said nothing";
	char text[2048];
	size_t n = 0;
	int status;

	for (;;) {
		struct pollfd p = { .fd = words, .events = POLLIN };
		ssize_t got = 0;

		if (n < sizeof(text) - 1 && poll(&p, 1, WAIT_MS) > 0)
			got = read(words, text + n, sizeof(text) - 1 - n);
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	/* Not the end of its words, but of a time in which it should have come: it hangs. */
	for (unsigned i = 0; waitpid(pid, &status, WNOHANG) == 0; i++) {
		if (i == WAIT_MS / 10) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			break;
		}
		poll(NULL, 0, 10);
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return err_set(e, -ENOENT,
			       "%s: the program passt is not installed (Debian's package passt); "
			       "--net user needs none",
			       cfg->opt);
	last_line(text, n, &why);
	return err_set(e, -EIO, "%s: passt did not start: %s", cfg->opt, why);
}

static int start_one(struct passt *p, const struct net_passt_cfg *cfg, struct err *e)
{
	int pair[2] = { -1, -1 }, words[2] = { -1, -1 }, r = 0, size = SOCKET_BYTES;
	const char *arg[ARGS_MAX + 1];
	char fd[12], mtu[12];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ||
	    pipe2(words, O_CLOEXEC) < 0) {
		r = err_sys(e, -errno, "%s: cannot start passt", cfg->opt);
		goto out;
	}
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	snprintf(fd, sizeof(fd), "%d", pair[1]);
	snprintf(mtu, sizeof(mtu), "%u", cfg->mtu);
	command_line(cfg, fd, mtu, arg);
	pid = fork();
	if (pid == 0)
		run_child(arg, pair[1], words[1]);
	close(words[1]);
	close(pair[1]);
	words[1] = pair[1] = -1;
	if (pid < 0)
		r = err_sys(e, -errno, "%s: cannot start passt", cfg->opt);
	else
		r = await(pid, words[0], cfg, e);
	p->fd = pair[0];
	pair[0] = -1;
out:
	for (unsigned i = 0; i < 2; i++) {
		if (pair[i] >= 0)
			close(pair[i]);
		if (words[i] >= 0)
			close(words[i]);
	}
	return r;
}

int net_passt_open(const struct net_passt_cfg *cfg, struct err *e, struct net **ret)
{
	struct passt *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_set(e, -ENOMEM, "%s: out of memory", cfg->opt);
	p->n = (struct net){ .ops = &passt_ops, .link = true };
	p->fd = -1;
	r = cfg->path ? connect_to(p, cfg, e) : start_one(p, cfg, e);
	if (r < 0) {
		passt_free(&p->n);
		return r;
	}
	*ret = &p->n;
	return 0;
}
