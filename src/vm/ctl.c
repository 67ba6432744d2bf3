// SPDX-License-Identifier: Apache-2.0
/*
 * ctl.c - the socket by which other processes of the user reach a running VM
 *
 * The protocol is in ctl.h. Everything enters through the gate, so requests are served between two
 * turns of the guest. Nothing here waits: a client that does not read its answers is dropped.
 */
#include "vm/ctl.h"

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

struct client {
	struct ctl *ctl;
	struct client *next;
	int fd;
	struct gate_watch watch;
	char in[CTL_LINE];
	size_t n;
	struct vsock_call call; /* under way while call.conn is set */
	int theirs;		/* the client's end of the connection it asked for; -1: none */
};

struct ctl {
	struct ctl_cfg cfg;
	struct rundir_entry entry;
	struct gate_watch watch;
	struct client *clients;
	unsigned n_clients;
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
	virtio_vsock_hang_up(&c->call);
	gate_unwatch(ctl->cfg.gate, &c->watch);
	if (c->theirs >= 0)
		close(c->theirs);
	close(c->fd);
	free(c);
}

/* --- answers ---------------------------------------------------------------------------------- */

/* Takes @j (NULL: no memory). False: the client is of no use any more. */
static bool answer(struct client *c, json_t *j, int pass)
{
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	char line[CTL_LINE];
	int n = text ? snprintf(line, sizeof(line), "%s\n", text) : -1;

	json_decref(j);
	free(text);
	return n > 0 && (size_t)n < sizeof(line) && !unixsock_send(c->fd, line, (size_t)n, pass);
}

static bool refuse(struct client *c, const char *code, const char *words)
{
	return answer(
		c, json_pack("{s:b, s:s, s:s}", "ok", 0, "error", words ? words : "", "code", code),
		-1);
}

static bool hello(struct client *c)
{
	const struct ctl_cfg *cfg = &c->ctl->cfg;
	bool vsock = vm_vsock(cfg->devs) != NULL;

	return answer(c,
		      json_pack("{s:b, s:i, s:i, s:s?, s:b, s:b}", "ok", 1, "version", CTL_VERSION,
				"pid", (int)getpid(), "name", cfg->name, "vsock", vsock, "agent",
				vsock && cfg->agent),
		      -1);
}

/* The guest's answer. */
static void on_answered(struct vsock_call *call, int r)
{
	struct client *c = container_of(call, struct client, call);
	bool ok;

	if (r == 0)
		ok = answer(c, json_pack("{s:b}", "ok", 1), c->theirs);
	else if (r == -ECONNREFUSED)
		ok = refuse(c, "refused", "nobody listens on this port in the guest");
	else
		ok = refuse(c, "host", "the VM has ended");
	close(c->theirs);
	c->theirs = -1;
	if (ok)
		gate_watch_events(c->ctl->cfg.gate, &c->watch, EPOLLIN);
	else
		drop(c);
}

static bool connect_guest(struct client *c, json_t *request)
{
	struct virtio_vsock *dev = vm_vsock(c->ctl->cfg.devs);
	json_int_t port = -1;
	int pair[2], r;

	if (json_unpack(request, "{s:I}", "port", &port) < 0 || port < 0 || port > UINT32_MAX)
		return refuse(c, "request", "\"port\" must be a number from 0 to 4294967295");
	if (!dev)
		return refuse(c, "vsock", "the VM was started without --vsock");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return refuse(c, "host", strerror(errno));
	c->call = (struct vsock_call){ .answered = on_answered };
	r = virtio_vsock_call(dev, (u32)port, pair[0], &c->call);
	if (r < 0) {
		close(pair[1]);
		return refuse(c, "host", strerror(-r));
	}
	c->theirs = pair[1];
	/* One request at a time; that the client goes away is still noticed. */
	gate_watch_events(c->ctl->cfg.gate, &c->watch, EPOLLHUP);
	return true;
}

/* --- requests --------------------------------------------------------------------------------- */

static bool serve(struct client *c, const char *line, size_t len)
{
	json_t *j = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	const char *op = json_string_value(json_object_get(j, "op"));
	bool ok;

	if (op && !strcmp(op, "hello"))
		ok = hello(c);
	else if (op && !strcmp(op, "connect"))
		ok = connect_guest(c, j);
	else
		ok = refuse(c, "request", "not a request: {\"op\": \"hello\" or \"connect\", ...}");
	json_decref(j);
	return ok;
}

static void on_client(void *opaque, u32 events)
{
	struct client *c = opaque;
	ssize_t n = 0;
	char *end;

	if (c->call.conn) { /* only a hang-up is waited for */
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

static void add_client(struct ctl *ctl, int fd)
{
	struct client *c = NULL;
	pid_t pid;
	uid_t uid;

	if (ctl->n_clients < CLIENTS_MAX && unixsock_peer(fd, &pid, &uid) == 0 &&
	    (uid == geteuid() || uid == 0))
		c = calloc(1, sizeof(*c));
	if (!c) {
		close(fd);
		return;
	}
	*c = (struct client){
		.ctl = ctl, .fd = fd, .theirs = -1, .watch = { .fn = on_client, .opaque = c }
	};
	if (gate_watch(ctl->cfg.gate, &c->watch, fd, EPOLLIN) < 0) {
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

int ctl_new(const struct ctl_cfg *cfg, struct err *e, struct ctl **ret)
{
	struct ctl *ctl = calloc(1, sizeof(*ctl));
	char pid[24];
	int r;

	if (!ctl)
		return err_set(e, -ENOMEM, "out of memory");
	ctl->cfg = *cfg;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	r = rundir_enter(cfg->name ? cfg->name : pid, e, &ctl->entry);
	if (r < 0) {
		free(ctl);
		return r;
	}
	ctl->watch = (struct gate_watch){ .fn = on_listen, .opaque = ctl };
	r = gate_watch(cfg->gate, &ctl->watch, ctl->entry.fd, EPOLLIN);
	if (r < 0) {
		ctl_free(ctl);
		return err_sys(e, r, "cannot wait for clients");
	}
	*ret = ctl;
	return 0;
}

void ctl_free(struct ctl *c)
{
	if (!c)
		return;
	while (c->clients)
		drop(c->clients);
	gate_unwatch(c->cfg.gate, &c->watch);
	rundir_leave(&c->entry);
	free(c);
}
