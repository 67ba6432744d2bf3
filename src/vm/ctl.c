// SPDX-License-Identifier: Apache-2.0
/*
 * ctl.c - the socket by which other processes of the user reach a running VM
 *
 * How it works
 * The protocol is in ctl.h. Everything here runs on the I/O thread, out of a gate of its own, until
 * session_end has ended that thread, and then on the caller's of ctl_free. Nothing waits: a client
 * that does not read its answers is dropped.
 *
 * A request is *parsed* into an order and what else it needs (struct request), without looking at
 * the VM; then it is answered at once, or the order is given. While an order is under way its client
 * only can hang up. An order cannot be taken back once it is begun, so a client that is gone then
 * stays, without a descriptor, until it is done.
 */
#include "vm/ctl.h"

#include "base/hosttime.h"
#include "host/rundir.h"
#include "host/unixsock.h"
#include "vm/vsock.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_MAX 256u
#define ACCEPT_MAX 16u /* in one dispatch */
#define COMMAND_MAX 256u

enum request_kind { REQUEST_BAD, REQUEST_HELLO, REQUEST_ORDER };

struct request {
	enum request_kind kind;
	enum order_op op;
	u64 arg;
	const char *why; /* REQUEST_BAD */
};

struct client {
	struct ctl *ctl;
	struct client *next;
	int fd; /* -1: gone; freed when the order is done */
	struct gate_watch watch;
	char in[CTL_LINE];
	size_t n;
	struct order order;
	bool busy; /* with the order */
	int result;
	json_t *stats;	       /* of ORDER_STATS */
	struct gate_post post; /* the order is done */
	int theirs;	       /* the client's end of the connection it asked for; -1: none */
};

struct ctl {
	struct ctl_cfg cfg;
	struct gate *gate;
	struct rundir_entry entry;
	struct gate_watch watch;
	struct gate_post begin;
	struct client *clients;
	unsigned n_clients;
	char command[COMMAND_MAX];
	u64 begun_ms;
};

int ctl_check_name(const char *name, struct err *e)
{
	if (!rundir_name_ok(name) || strspn(name, "0123456789") == strlen(name))
		return err_set(e, -EINVAL,
			       "--name %.80s: a name has up to %u letters, digits, '.', '_' or "
			       "'-', begins with a letter or digit, and is no number",
			       name, RUNDIR_NAME_MAX);
	return 0;
}

/* --- requests --------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	enum order_op op;
	const char *arg; /* a number that it needs; NULL: none */
	u64 max;
	s64 absent; /* what it is if it is absent; -1: it must be there */
	u64 unit;
	const char *why;
} requests[] = {
	{ .name = "pause", .op = ORDER_PAUSE },
	{ .name = "resume", .op = ORDER_RESUME },
	{ .name = "reset", .op = ORDER_RESET },
	{ .name = "stats", .op = ORDER_STATS },
	{ .name = "stop",
	  .op = ORDER_STOP,
	  .arg = "timeout_ms",
	  .max = 86400000,
	  .absent = CTL_STOP_MS,
	  .unit = 1000000,
	  .why = "\"timeout_ms\" must be a number from 0 to 86400000" },
	{ .name = "balloon",
	  .op = ORDER_BALLOON,
	  .arg = "bytes",
	  .max = INT64_MAX,
	  .absent = -1,
	  .unit = 1,
	  .why = "\"bytes\" must be a number from 0 on" },
	{ .name = "connect",
	  .op = ORDER_CONNECT,
	  .arg = "port",
	  .max = UINT32_MAX,
	  .absent = -1,
	  .unit = 1,
	  .why = "\"port\" must be a number from 0 to 4294967295" },
};

static struct request bad(const char *why)
{
	return (struct request){ .kind = REQUEST_BAD, .why = why };
}

/* Without a look at the VM. */
static struct request parse(const char *line, size_t len)
{
	json_t *j = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL), *arg;
	const char *op = json_string_value(json_object_get(j, "op"));
	struct request r =
		bad("not a request: {\"op\": \"hello\", \"pause\", \"resume\", \"stop\", "
		    "\"reset\", \"balloon\", \"stats\" or \"connect\", ...}");

	if (op && !strcmp(op, "hello"))
		r.kind = REQUEST_HELLO;
	for (unsigned i = 0; op && i < ARRAY_LEN(requests); i++) {
		s64 val = requests[i].absent;

		if (strcmp(op, requests[i].name) != 0)
			continue;
		arg = requests[i].arg ? json_object_get(j, requests[i].arg) : NULL;
		if (arg)
			val = json_is_integer(arg) ? json_integer_value(arg) : -1;
		if (requests[i].arg && (val < 0 || (u64)val > requests[i].max))
			r = bad(requests[i].why);
		else
			r = (struct request){ .kind = REQUEST_ORDER,
					      .op = requests[i].op,
					      .arg = (u64)val * requests[i].unit };
		break;
	}
	json_decref(j);
	return r;
}

void ctl_parse_only(const char *line, size_t len, char ret[80])
{
	struct request r = parse(line, len);

	snprintf(ret, 80, "%d %d %llu %.40s", r.kind, r.op, (unsigned long long)r.arg,
		 r.why ? r.why : "");
}

/* --- answers ---------------------------------------------------------------------------------- */

/* Takes @j (NULL: no memory). False: the client is of no use any more. */
static bool answer(struct client *c, json_t *j, int pass)
{
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	size_t n = text ? strlen(text) : 0;
	bool ok = n && n < CTL_ANSWER;

	json_decref(j);
	if (ok) {
		text[n] = '\n'; /* the NUL's place */
		ok = !unixsock_send(c->fd, text, n + 1, pass);
	}
	free(text);
	return ok;
}

static bool refuse(struct client *c, const char *code, const char *words)
{
	return answer(
		c, json_pack("{s:b, s:s, s:s}", "ok", 0, "error", words ? words : "", "code", code),
		-1);
}

static bool hello(struct client *c)
{
	const struct ctl *ctl = c->ctl;
	const struct ctl_cfg *cfg = &ctl->cfg;
	bool vsock = vm_has_vsock(cfg->devs);

	return answer(c,
		      json_pack("{s:b, s:i, s:i, s:s?, s:b, s:b, s:s, s:s, s:i, s:I, s:I, s:s?}",
				"ok", 1, "version", CTL_VERSION, "pid", (int)getpid(), "name",
				cfg->name, "vsock", vsock, "agent", vsock && cfg->agent, "state",
				life_name(life_now(cfg->life)), "engine", cfg->engine, "vcpus",
				(int)cfg->vcpus, "memory", (json_int_t)cfg->mem, "up_ms",
				(json_int_t)(host_ms() - ctl->begun_ms), "command",
				ctl->command[0] ? ctl->command : NULL),
		      -1);
}

static const char *code_of(int r)
{
	switch (r) {
	case -ECONNREFUSED:
		return "refused";
	case -ENOTSUP:
		return "device";
	case -EBADFD:
		return "state";
	case -EINVAL:
		return "request";
	case -ESHUTDOWN:
		return "ended";
	default:
		return "host";
	}
}

/* --- clients ---------------------------------------------------------------------------------- */

static void free_client(struct client *c)
{
	json_decref(c->stats);
	free(c);
}

static void drop(struct client *c)
{
	struct ctl *ctl = c->ctl;

	for (struct client **at = &ctl->clients; *at; at = &(*at)->next) {
		if (*at == c) {
			*at = c->next;
			break;
		}
	}
	ctl->n_clients--;
	gate_unwatch(ctl->gate, &c->watch);
	if (c->theirs >= 0)
		close(c->theirs);
	close(c->fd);
	c->theirs = c->fd = -1;
	if (c->busy && !session_withdraw(ctl->cfg.session, &c->order))
		return; /* on_done frees it */
	if (c->busy && c->order.fd >= 0)
		close(c->order.fd);
	free_client(c);
}

/* On the I/O thread again. */
static void on_done(struct gate_post *p)
{
	struct client *c = container_of(p, struct client, post);
	int pass = c->theirs;
	bool ok;

	c->busy = false;
	if (c->order.fd >= 0)
		close(c->order.fd);
	if (c->fd < 0) {
		free_client(c);
		return;
	}
	if (c->result < 0) {
		ok = refuse(c, code_of(c->result), c->order.err.msg);
	} else if (c->order.op == ORDER_STATS) {
		ok = answer(c, json_pack("{s:b, s:o}", "ok", 1, "stats", c->stats), -1);
		c->stats = NULL;
	} else {
		ok = answer(c, json_pack("{s:b}", "ok", 1), pass);
	}
	if (pass >= 0)
		close(pass);
	c->theirs = -1;
	if (ok)
		gate_watch_events(c->ctl->gate, &c->watch, EPOLLIN);
	else
		drop(c);
}

/* On the VM's thread. */
static void on_order(struct order *o, int r)
{
	struct client *c = container_of(o, struct client, order);

	c->result = r;
	gate_post(c->ctl->gate, &c->post);
}

/* On the VM's thread, which has the client's order. */
static void on_stat(struct order *o, const char *name, u64 val)
{
	struct client *c = container_of(o, struct client, order);

	json_object_set_new(c->stats, name, json_integer((json_int_t)val));
}

static bool give(struct client *c, const struct request *r)
{
	int pair[2] = { -1, -1 };

	if (r->op == ORDER_CONNECT && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return refuse(c, "host", strerror(errno));
	if (r->op == ORDER_STATS) {
		json_decref(c->stats);
		c->stats = json_object();
	}
	c->order = (struct order){
		.op = r->op, .arg = r->arg, .fd = pair[0], .stat = on_stat, .done = on_order
	};
	c->theirs = pair[1];
	c->busy = true;
	/* One request at a time; that the client goes away is still noticed. */
	gate_watch_events(c->ctl->gate, &c->watch, EPOLLHUP);
	session_give(c->ctl->cfg.session, &c->order);
	return true;
}

static bool serve(struct client *c, const char *line, size_t len)
{
	struct request r = parse(line, len);

	switch (r.kind) {
	case REQUEST_HELLO:
		return hello(c);
	case REQUEST_ORDER:
		return give(c, &r);
	default:
		return refuse(c, "request", r.why);
	}
}

static void on_client(void *opaque, u32 events)
{
	struct client *c = opaque;
	ssize_t n = 0;
	char *end;

	if (c->busy) { /* only a hang-up is waited for */
		drop(c);
		return;
	}
	if (c->n < sizeof(c->in))
		n = recv(c->fd, c->in + c->n, sizeof(c->in) - c->n, MSG_DONTWAIT);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		drop(c);
		return;
	}
	c->n += (size_t)n;
	end = memchr(c->in, '\n', c->n);
	if (!end && c->n < sizeof(c->in))
		return;
	/* More than a line at once, or a line that is too long, is no client of ours. */
	if (!end || end + 1 != c->in + c->n) {
		refuse(c, "request", "one line at a time, and none so long");
		drop(c);
		return;
	}
	c->n = 0;
	if (!serve(c, c->in, (size_t)(end - c->in)))
		drop(c);
}

/*
 * Makes room. A crowd that came and stays must not keep others out, who may want to end the VM; but
 * one that waits for its end would take a lost connection for it.
 */
static void drop_oldest(struct ctl *ctl)
{
	struct client *oldest = NULL;

	for (struct client *c = ctl->clients; c; c = c->next)
		if (c->order.op != ORDER_STOP)
			oldest = c;
	if (oldest)
		drop(oldest);
}

static void add_client(struct ctl *ctl, int fd)
{
	struct client *c = NULL;
	pid_t pid;
	uid_t uid;

	if (ctl->n_clients == CLIENTS_MAX)
		drop_oldest(ctl);
	if (ctl->n_clients < CLIENTS_MAX && unixsock_peer(fd, &pid, &uid) == 0 &&
	    (uid == geteuid() || uid == 0))
		c = calloc(1, sizeof(*c));
	if (!c) {
		close(fd);
		return;
	}
	*c = (struct client){ .ctl = ctl,
			      .fd = fd,
			      .theirs = -1,
			      .post = { .fn = on_done },
			      .watch = { .fn = on_client, .opaque = c } };
	if (gate_watch(ctl->gate, &c->watch, fd, EPOLLIN) < 0) {
		close(fd);
		free(c);
		return;
	}
	c->next = ctl->clients;
	ctl->clients = c;
	ctl->n_clients++;
}

static void on_listen(void *opaque, u32 events)
{
	struct ctl *ctl = opaque;

	for (unsigned i = 0; i < ACCEPT_MAX; i++) {
		int fd = accept4(ctl->entry.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			break;
		add_client(ctl, fd);
	}
}

/* --- begin and end ---------------------------------------------------------------------------- */

static void on_begin(struct gate_post *p)
{
	struct ctl *ctl = container_of(p, struct ctl, begin);

	/* If the host has no room for one more, nobody can connect: as if there were no socket. */
	(void)gate_watch(ctl->gate, &ctl->watch, ctl->entry.fd, EPOLLIN);
}

/* The words with spaces between them; what JSON or a terminal would not like becomes '?'. */
static void set_command(struct ctl *ctl)
{
	size_t n = 0;

	for (const char *const *a = ctl->cfg.argv; a && *a; a++) {
		for (const char *p = *a; *p && n + 2 < COMMAND_MAX; p++)
			ctl->command[n++] = *p < ' ' || *p > '~' ? '?' : *p;
		if (a[1] && n + 2 < COMMAND_MAX)
			ctl->command[n++] = ' ';
	}
}

/* One process may run several VMs (include/orrery): PID, PID-2, PID-3, ... */
static int enter(struct ctl *ctl, struct err *e)
{
	char name[RUNDIR_NAME_MAX + 1];
	int r = -EEXIST;

	if (ctl->cfg.name)
		return rundir_enter(ctl->cfg.name, e, &ctl->entry);
	for (unsigned i = 1; r == -EEXIST && i < 1000; i++) {
		if (i == 1)
			snprintf(name, sizeof(name), "%d", (int)getpid());
		else
			snprintf(name, sizeof(name), "%d-%u", (int)getpid(), i);
		r = rundir_enter(name, e, &ctl->entry);
	}
	return r;
}

int ctl_new(const struct ctl_cfg *cfg, struct err *e, struct ctl **ret)
{
	struct ctl *ctl = calloc(1, sizeof(*ctl));
	int r;

	if (!ctl)
		return err_set(e, -ENOMEM, "out of memory");
	ctl->cfg = *cfg;
	ctl->gate = session_io_gate(cfg->session);
	ctl->begun_ms = host_ms();
	/* Before the sandbox: it reads a file of random bytes, once. */
	json_object_seed(0);
	set_command(ctl);
	r = enter(ctl, e);
	if (r < 0) {
		free(ctl);
		return r;
	}
	ctl->watch = (struct gate_watch){ .fn = on_listen, .opaque = ctl };
	ctl->begin = (struct gate_post){ .fn = on_begin };
	/* Watches are the I/O thread's. */
	gate_post(ctl->gate, &ctl->begin);
	*ret = ctl;
	return 0;
}

void ctl_hang_up(struct ctl *c)
{
	if (!c)
		return;
	for (struct client *k = c->clients; k; k = k->next)
		shutdown(k->fd, SHUT_RDWR);
	/* Nobody gets in any more: who tries removes the entry. */
	shutdown(c->entry.fd, SHUT_RDWR);
}

void ctl_free(struct ctl *c)
{
	if (!c)
		return;
	gate_unpost(c->gate, &c->begin);
	gate_unwatch(c->gate, &c->watch);
	/* First the answers to what was under way, then the end. */
	gate_dispatch(c->gate);
	while (c->clients)
		drop(c->clients);
	/* A client that was dropped with an order: it ended at once, the session being closed. */
	gate_dispatch(c->gate);
	rundir_leave(&c->entry);
	free(c);
}
