// SPDX-License-Identifier: Apache-2.0
/*
 * gdb.c - a debugger on a machine: its connection, and when the machine runs
 *
 * How it works
 * One client at a time, on a socket that never blocks. Everything happens on the VM's thread. While the vCPUs
 * stand still it waits here, for the client and for whoever wakes it (gdb_serve); while they run, the client's
 * bytes come through the gate as any input of the host does, between two turns of the guest. So an interrupt
 * stops the guest between two instructions, and under the virtual clock a debugger who only looks leaves
 * the run as it was.
 *
 * A client that comes while they run stops them; one that goes away lets them run, without his breakpoints.
 * What the client does not read waits in a buffer; when that is full he is sent away.
 */
#include "vm/gdb.h"

#include "base/buf.h"
#include "base/gate.h"
#include "host/unixsock.h"
#include "vm/gdb_rsp.h"
#include "vm/gdb_target.h"
#include "vm/machine.h"
#include "vm/x86/gdb_cpu.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define TX_MAX (1u << 20)
#define SIGNAL_INT 2u
#define SIGNAL_TRAP 5u
#define SIGNAL_SEGV 11u

struct gdb {
	char words[160];
	char path[108]; /* "": TCP */
	bool nowait;
	int listener, client, wake; /* -1: none */

	struct target t;
	bool bound; /* @t is there */
	struct buf xml;
	struct rsp *rsp;
	struct gate *gate;
	struct gate_watch watch; /* of the client, else of the listener */
	void (*kill)(void *opaque);
	void *opaque;

	bool held;
	bool asked; /* the engine is being stopped: by the client's interrupt, or because he came */
	bool ended; /* the guest has; the client may look before that is all */
	int step;
	struct rsp_stop last;
	u8 rx[4096];
	size_t n_rx;
	struct buf tx;
};

/* --- the socket ------------------------------------------------------------------------------- */

static int listen_port(struct gdb *g, u16 port, struct err *e)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons(port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int one = 1;

	g->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (g->listener < 0)
		return err_sys(e, -errno, "--gdb %u: no socket", port);
	setsockopt(g->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(g->listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* inherited */
	if (bind(g->listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(g->listener, 1) < 0 ||
	    getsockname(g->listener, (struct sockaddr *)&a, &len) < 0)
		return err_sys(e, -errno, "--gdb %u: cannot listen on 127.0.0.1", port);
	snprintf(g->words, sizeof(g->words), "target remote 127.0.0.1:%u", ntohs(a.sin_port));
	return 0;
}

static int listen_path(struct gdb *g, const char *path, struct err *e)
{
	g->listener = unixsock_listen(path);
	if (g->listener == -EADDRINUSE)
		return err_set(e, -EEXIST, "--gdb %s: it exists; remove it if no other VM has it",
			       path);
	if (g->listener < 0)
		return err_sys(e, g->listener, "--gdb %s", path);
	snprintf(g->path, sizeof(g->path), "%s", path);
	snprintf(g->words, sizeof(g->words), "target remote %s", path);
	return 0;
}

int gdb_new(const char *text, struct err *e, struct gdb **ret)
{
	static const char nowait[] = ",nowait";
	struct gdb *g = calloc(1, sizeof(*g));
	size_t n = strlen(text), digits = strspn(text, "0123456789");
	char where[108];
	int r;

	if (!g)
		return err_set(e, -ENOMEM, "out of memory");
	g->listener = g->client = g->wake = -1;
	g->step = -1;
	g->nowait = n >= strlen(nowait) && !strcmp(text + n - strlen(nowait), nowait);
	n -= g->nowait ? strlen(nowait) : 0;
	snprintf(where, sizeof(where), "%.*s", (int)n, text);
	/* A socket in this directory is ./NAME, so that a misspelt port makes none. */
	if (!n || n >= sizeof(where) || (digits != n && !strchr(where, '/')))
		r = err_set(e, -EINVAL,
			    "--gdb %.120s: it takes a port, or a path with a / of up to 107 bytes",
			    text);
	else if (digits == n && (n > 5 || strtoul(where, NULL, 10) > 65535))
		r = err_set(e, -EINVAL, "--gdb %s: a port is a number up to 65535", text);
	else if (digits == n)
		r = listen_port(g, (u16)strtoul(where, NULL, 10), e);
	else
		r = listen_path(g, where, e);
	if (r == 0) {
		g->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		r = g->wake < 0 ? err_sys(e, -errno, "--gdb") : 0;
	}
	if (r < 0) {
		gdb_free(g);
		return r;
	}
	*ret = g;
	return 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void gdb_free(struct gdb *g)
{
	if (!g)
		return;
	gdb_end(g);
	rsp_free(g->rsp);
	close_fd(&g->client);
	close_fd(&g->listener);
	close_fd(&g->wake);
	if (g->path[0])
		unlink(g->path);
	buf_fini(&g->xml);
	buf_fini(&g->tx);
	free(g);
}

const char *gdb_words(const struct gdb *g)
{
	return g->words;
}

const char *gdb_path(const struct gdb *g)
{
	return g->path[0] ? g->path : NULL;
}

bool gdb_waits(const struct gdb *g)
{
	return !g->nowait;
}

/* --- what the client asks for ------------------------------------------------------------------ */

static void on_send(void *o, const u8 *bytes, size_t n)
{
	struct gdb *g = o;

	/* Full, or no memory: flush() sends the client away. */
	if (g->tx.len + n > TX_MAX || buf_add(&g->tx, bytes, n) < 0)
		g->tx.len = TX_MAX + 1;
}

static void on_run(void *o, int step)
{
	struct gdb *g = o;

	g->step = step;
	g->held = false;
}

static void on_interrupt(void *o)
{
	struct gdb *g = o;

	g->asked = true;
	engine_stop(g->t.e, ENGINE_DEBUG);
}

static void on_detach(void *o)
{
	struct gdb *g = o;

	target_clear(&g->t);
	g->step = -1;
	g->held = false;
}

static void on_kill(void *o)
{
	struct gdb *g = o;

	g->held = false;
	g->kill(g->opaque);
}

static void stat_line(void *o, const char *name, u64 val)
{
	rsp_say(o, "%-24s %llu\n", name, (unsigned long long)val);
}

static const char help[] = "stats           counters of the machine\n"
			   "digest          a hash of RAM, vCPUs and devices\n"
			   "time            guest time\n"
			   "translate ADDR  the physical address of a linear one\n";

static void on_monitor(void *o, struct rsp *r, const char *words)
{
	struct gdb *g = o;
	char digest[MACHINE_DIGEST_LEN + 1];
	struct err e = { 0 };
	u64 addr;
	gpa_t gpa;
	char *end;

	if (!strcmp(words, "stats")) {
		machine_stats(g->t.m, stat_line, r);
	} else if (!strcmp(words, "digest")) {
		if (machine_digest(g->t.m, &e, digest) < 0)
			rsp_say(r, "%s\n", e.msg);
		else
			rsp_say(r, "%s\n", digest);
	} else if (!strcmp(words, "time")) {
		rsp_say(r, "%.9f s\n", (double)machine_now(g->t.m) / 1e9);
	} else if (!strncmp(words, "translate ", 10)) {
		addr = strtoull(words + 10, &end, 0);
		if (*end || end == words + 10)
			rsp_say(r, "translate takes a number\n");
		else if (gdb_translate(engine_cpu(g->t.e, g->last.cpu), g->t.mem, addr, &gpa) < 0)
			rsp_say(r, "nothing is mapped there\n");
		else
			rsp_say(r, "0x%llx\n", (unsigned long long)gpa);
	} else {
		rsp_say(r, "%s", help);
	}
}

#define TARGET(g) (&((struct gdb *)(g))->t)

static unsigned on_reg_size(void *o, unsigned reg)
{
	return target_reg_size(TARGET(o), reg);
}

static int on_reg_get(void *o, unsigned cpu, unsigned reg, u8 *ret)
{
	return target_reg_get(TARGET(o), cpu, reg, ret);
}

static int on_reg_set(void *o, unsigned cpu, unsigned reg, const u8 *val)
{
	return target_reg_set(TARGET(o), cpu, reg, val);
}

static int on_mem_read(void *o, unsigned cpu, u64 addr, u8 *ret, size_t len)
{
	return target_mem_read(TARGET(o), cpu, addr, ret, len);
}

static int on_mem_write(void *o, unsigned cpu, u64 addr, const u8 *val, size_t len)
{
	return target_mem_write(TARGET(o), cpu, addr, val, len);
}

static int on_insert(void *o, enum rsp_break kind, u64 addr, u64 len)
{
	return target_insert(TARGET(o), kind, addr, len);
}

static int on_remove(void *o, enum rsp_break kind, u64 addr, u64 len)
{
	return target_remove(TARGET(o), kind, addr, len);
}

static void on_describe(void *o, unsigned cpu, char *ret, size_t size)
{
	target_describe_cpu(TARGET(o), cpu, ret, size);
}

static const struct rsp_ops ops = {
	.reg_size = on_reg_size,
	.reg_get = on_reg_get,
	.reg_set = on_reg_set,
	.mem_read = on_mem_read,
	.mem_write = on_mem_write,
	.insert = on_insert,
	.remove = on_remove,
	.describe = on_describe,
	.monitor = on_monitor,
	.run = on_run,
	.interrupt = on_interrupt,
	.detach = on_detach,
	.kill = on_kill,
	.send = on_send,
};

/* --- the client -------------------------------------------------------------------------------- */

/* What the gate waits for while the vCPUs run. */
static void watch(struct gdb *g)
{
	u32 events = EPOLLIN | EPOLLRDHUP | (g->tx.len ? EPOLLOUT : 0);

	/* A packet that may only come later: it waits here, and what follows it in the socket. */
	if (g->n_rx == sizeof(g->rx))
		events &= ~(u32)EPOLLIN;
	gate_watch_events(g->gate, &g->watch, events);
}

static void on_ready(void *opaque, u32 events);

static void watch_fd(struct gdb *g, int fd)
{
	if (!g->gate)
		return;
	gate_unwatch(g->gate, &g->watch);
	g->watch.fn = on_ready;
	g->watch.opaque = g;
	/* A socket that epoll takes: only memory can lack, and then the debugger is served when he stops. */
	if (fd >= 0 && gate_watch(g->gate, &g->watch, fd, EPOLLIN) < 0)
		g->watch.active = false;
}

/* The client is gone, with his breakpoints; the vCPUs run on. */
static void hang_up(struct gdb *g)
{
	if (g->client < 0)
		return;
	watch_fd(g, g->listener);
	close_fd(&g->client);
	rsp_free(g->rsp);
	g->rsp = NULL;
	g->n_rx = g->tx.len = 0;
	g->step = -1;
	if (g->held) {
		target_clear(&g->t);
		g->held = false;
	} else { /* running vCPUs stop for a moment: what they look for changes */
		g->asked = true;
		engine_stop(g->t.e, ENGINE_DEBUG);
	}
}

static void flush(struct gdb *g)
{
	size_t done = 0;
	ssize_t n;

	if (g->client < 0)
		return;
	while (g->tx.len <= TX_MAX && done < g->tx.len) {
		n = send(g->client, g->tx.data + done, g->tx.len - done, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			hang_up(g);
			return;
		}
		done += (size_t)n;
	}
	if (g->tx.len > TX_MAX) {
		hang_up(g);
		return;
	}
	memmove(g->tx.data, g->tx.data + done, g->tx.len - done);
	g->tx.len -= done;
}

static void take(struct gdb *g)
{
	size_t n = rsp_input(g->rsp, g->rx, g->n_rx);

	memmove(g->rx, g->rx + n, g->n_rx - n);
	g->n_rx -= n;
}

/* What the client has sent. False: he is gone. */
static bool receive(struct gdb *g)
{
	ssize_t n;

	if (g->n_rx == sizeof(g->rx))
		return true;
	n = recv(g->client, g->rx + g->n_rx, sizeof(g->rx) - g->n_rx, 0);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	g->n_rx += (size_t)n;
	take(g);
	return n > 0;
}

static void greet(struct gdb *g)
{
	struct rsp_cfg rc = { .ops = &ops,
			      .opaque = g,
			      .cpus = g->t.cpus,
			      .xml = (const char *)g->xml.data,
			      .expedite = gdb_expedite,
			      .running = !g->held };

	g->client = accept4(g->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (g->client < 0)
		return;
	if (rsp_new(&rc, &g->last, &g->rsp) < 0) {
		close_fd(&g->client);
		return;
	}
	watch_fd(g, g->client);
	/* Whoever comes wants to look. */
	if (!g->held) {
		g->asked = true;
		engine_stop(g->t.e, ENGINE_DEBUG);
	}
}

/* From the gate, while the vCPUs run. */
static void on_ready(void *opaque, u32 events)
{
	struct gdb *g = opaque;

	if (g->client < 0) {
		greet(g);
		return;
	}
	/* A half-closed connection is no connection: nobody would hear the answer. */
	if ((events & (EPOLLERR | EPOLLHUP)) || !receive(g))
		hang_up(g);
	flush(g);
	if (g->client >= 0)
		watch(g);
}

/* --- the machine ------------------------------------------------------------------------------ */

int gdb_begin(struct gdb *g, struct machine *m, struct gate *gate, void (*kill)(void *opaque),
	      void *opaque)
{
	int r;

	if (!g)
		return 0;
	r = target_init(&g->t, m);
	if (r < 0)
		return r;
	g->xml.len = 0;
	r = target_describe(&g->t, &g->xml);
	if (r < 0)
		return r;
	g->bound = true;
	g->gate = gate;
	g->kill = kill;
	g->opaque = opaque;
	/* After a reset the client goes on with the new machine, from its beginning. */
	g->held = !g->nowait || g->client >= 0;
	g->last = (struct rsp_stop){ .what = RSP_ON_SIGNAL, .signal = SIGNAL_TRAP };
	watch_fd(g, g->client >= 0 ? g->client : g->listener);
	if (g->rsp) {
		rsp_stopped(g->rsp, &g->last);
		flush(g);
	}
	return 0;
}

void gdb_end(struct gdb *g)
{
	if (!g || !g->bound)
		return;
	gate_unwatch(g->gate, &g->watch);
	g->gate = NULL;
	g->bound = false;
}

bool gdb_holds(struct gdb *g)
{
	/* A stop that something else was faster than. */
	if (g && g->bound && g->asked)
		gdb_stopped(g, ENGINE_DEBUG);
	return g && g->bound && g->held;
}

/* Waits for the client, or to be woken. */
static void wait_client(struct gdb *g)
{
	struct pollfd p[] = {
		{ .fd = g->wake, .events = POLLIN },
		{ .fd = g->client >= 0 ? g->client : g->listener,
		  .events = (short)(POLLIN | (g->tx.len ? POLLOUT : 0)) },
	};
	u64 x;

	if (poll(p, ARRAY_LEN(p), -1) < 0)
		return;
	if (p[0].revents && read(g->wake, &x, sizeof(x)) < 0) /* somebody else took it: as good */
		return;
	if (!p[1].revents)
		return;
	if (g->client < 0)
		greet(g);
	else if (!receive(g))
		hang_up(g);
}

void gdb_serve(struct gdb *g)
{
	/* What came before it could be answered. */
	if (g->rsp && g->n_rx)
		take(g);
	if (g->held)
		wait_client(g);
	flush(g);
	if (!g->held && !g->ended && target_arm(&g->t, g->step) < 0) {
		/* The engine does not take it after all: they stand still again, at once. */
		g->held = true;
		rsp_stopped(g->rsp, &g->last);
		flush(g);
	}
	if (g->client >= 0)
		watch(g);
}

void gdb_wake(struct gdb *g)
{
	u64 one = 1;

	if (g && write(g->wake, &one, sizeof(one)) < 0) /* full: it will return anyway */
		return;
}

static void tell(struct gdb *g, const struct rsp_stop *s)
{
	g->last = *s;
	g->held = true;
	rsp_stopped(g->rsp, s);
	flush(g);
}

bool gdb_stopped(struct gdb *g, enum engine_exit why)
{
	struct rsp_stop s = { .what = RSP_ON_SIGNAL,
			      .signal = SIGNAL_INT,
			      .cpu = g ? g->last.cpu : 0 };

	if (!g || !g->bound || (why != ENGINE_DEBUG && g->client < 0))
		return false;
	if (why == ENGINE_TRIPLE || why == ENGINE_DEADLOCK) {
		s.signal = why == ENGINE_TRIPLE ? SIGNAL_SEGV : SIGNAL_INT;
		g->ended = true;
		tell(g, &s);
		return true;
	}
	if (why != ENGINE_DEBUG)
		return false;
	if (g->client < 0) { /* he is gone */
		g->asked = false;
		target_clear(&g->t);
		return true;
	}
	if (g->asked) {
		g->asked = false;
		tell(g, &s);
	} else if (target_event(&g->t, &s)) {
		tell(g, &s);
	}
	return true;
}

void gdb_exited(struct gdb *g, int status)
{
	if (!g || !g->rsp)
		return;
	rsp_exited(g->rsp, (u8)status);
	flush(g);
}
