// SPDX-License-Identifier: Apache-2.0
/*
 * remote.c - a running VM of another process, through its socket
 *
 * How it works
 * The protocol is in ctl.h. A monitor answers at once but to what it has to wait for itself; one that
 * is stopped (SIGSTOP), or is no monitor of ours, does not. So every request has a time, after which
 * its connection is of no use any more.
 */
#include "vm/remote.h"

#include "base/hosttime.h"
#include "host/rundir.h"
#include "host/unixsock.h"
#include "vm/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FOUND_MAX 1024u
#define HELLO_MS 1000  /* of a list that others are in */
#define ORDER_MS 10000 /* what needs the VM's thread only */
#define NEVER_MS -1    /* what needs the guest */

struct found {
	struct remote *vm;
	unsigned n, room;
};

static bool on_entry(void *opaque, const char *name, pid_t pid, int fd)
{
	struct found *f = opaque;
	struct remote r = { .fd = -1, .pid = pid };

	if (f->n == FOUND_MAX)
		return false;
	if (f->n == f->room) {
		unsigned room = f->room ? 2 * f->room : 16;
		struct remote *vm = realloc(f->vm, room * sizeof(*vm));

		if (!vm)
			return false;
		f->vm = vm;
		f->room = room;
	}
	r.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	snprintf(r.name, sizeof(r.name), "%s", name);
	if (r.fd >= 0)
		f->vm[f->n++] = r;
	return false;
}

static int by_pid(const void *a, const void *b)
{
	const struct remote *x = a, *y = b;

	return x->pid != y->pid ? (x->pid > y->pid) - (x->pid < y->pid) : strcmp(x->name, y->name);
}

/* All there are, connected. They are not asked while the directory is locked. */
static int find_all(struct found *f, struct err *e)
{
	int r = rundir_each(on_entry, f, e);

	if (f->n)
		qsort(f->vm, f->n, sizeof(*f->vm), by_pid);
	return r;
}

static void free_found(struct found *f)
{
	for (unsigned i = 0; i < f->n; i++)
		remote_close(&f->vm[i]);
	free(f->vm);
}

/* --- requests --------------------------------------------------------------------------------- */

static int lost(const struct remote *r, int code, struct err *e)
{
	if (code == -ETIMEDOUT)
		return err_set(
			e, code,
			"VM %s does not answer; it may wait for whoever reads its output, or "
			"be stopped itself",
			r->name);
	return err_sys(e, code, "lost the connection to VM %s", r->name);
}

/* 0 when there is something to read. */
static int wait_answer(const struct remote *r, s64 end)
{
	struct pollfd p = { .fd = r->fd, .events = POLLIN };
	s64 left = end < 0 ? -1 : MAX(end - (s64)host_ms(), (s64)0);
	int n = poll(&p, 1, (int)MIN(left, (s64)INT32_MAX));

	return n > 0 || (n < 0 && errno == EINTR) ? 0 : n < 0 ? -errno : -ETIMEDOUT;
}

/*
 * Sends @line and reads the answer: an object (owned) and perhaps a descriptor. @ms: -1: no limit.
 */
static int request(struct remote *r, const char *line, int ms, struct err *e, json_t **ret,
		   int *ret_fd)
{
	s64 end = ms < 0 ? -1 : (s64)host_ms() + ms;
	char *in = malloc(CTL_ANSWER);
	size_t n = 0;
	int fd = -1, rc = in ? unixsock_send(r->fd, line, strlen(line), -1) : -ENOMEM;

	while (rc == 0 && !memchr(in, '\n', n)) {
		int pass = -1;
		ssize_t k;

		rc = wait_answer(r, end);
		if (rc < 0)
			break;
		k = n < CTL_ANSWER ? unixsock_receive(r->fd, in + n, CTL_ANSWER - n, &pass)
				   : -EMSGSIZE;
		if (pass >= 0 && fd >= 0)
			close(pass);
		else if (pass >= 0)
			fd = pass;
		if (k <= 0)
			rc = k < 0 ? (int)k : -ECONNRESET;
		else
			n += (size_t)k;
	}
	*ret = rc == 0 ? json_loadb(in, n, 0, NULL) : NULL;
	if (rc == 0 && !*ret)
		rc = -EPROTO;
	free(in);
	if (rc < 0) {
		if (fd >= 0)
			close(fd);
		return lost(r, rc, e);
	}
	*ret_fd = fd;
	return 0;
}

static int refused(const struct remote *r, const json_t *j, u32 port, struct err *e)
{
	static const struct {
		const char *code;
		int r;
	} codes[] = {
		{ "device", -ENOTSUP },
		{ "state", -EBADFD },
		{ "request", -EINVAL },
		{ "refused", -ECONNREFUSED },
	};
	const char *code = json_string_value(json_object_get(j, "code"));
	const char *words = json_string_value(json_object_get(j, "error"));
	int rc = -EIO;

	for (unsigned i = 0; code && i < ARRAY_LEN(codes); i++)
		if (!strcmp(code, codes[i].code))
			rc = codes[i].r;
	if (rc == -ECONNREFUSED)
		return err_set(e, rc, "VM %s: nobody listens on vsock port %u there", r->name,
			       port);
	return err_set(e, rc, "VM %s: %.200s", r->name, words ? words : "refused");
}

/* A request that is answered by ok and nothing else that matters; *ret (may be NULL) is owned. */
static int ask(struct remote *r, const char *line, int ms, struct err *e, json_t **ret)
{
	json_t *j;
	int fd, rc = request(r, line, ms, e, &j, &fd);

	if (rc < 0)
		return rc;
	if (fd >= 0)
		close(fd);
	if (!json_is_true(json_object_get(j, "ok")))
		rc = refused(r, j, 0, e);
	if (rc == 0 && ret)
		*ret = j;
	else
		json_decref(j);
	return rc;
}

static void copy(char *to, size_t size, json_t *j, const char *key)
{
	const char *text = json_string_value(json_object_get(j, key));

	snprintf(to, size, "%s", text ? text : "");
}

static u64 number(json_t *j, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(j, key));

	return v > 0 ? (u64)v : 0;
}

/* @info may be NULL. */
static int hello(struct remote *r, int ms, struct err *e, struct remote_info *info)
{
	int vsock, agent;
	json_t *j;
	int rc = ask(r, "{\"op\":\"hello\"}\n", ms, e, &j);

	if (rc < 0)
		return rc;
	rc = json_unpack(j, "{s:b, s:b}", "vsock", &vsock, "agent", &agent);
	if (rc < 0) {
		json_decref(j);
		return err_set(e, -EPROTO, "VM %s does not speak our protocol", r->name);
	}
	r->vsock = vsock;
	r->agent = agent;
	if (info) {
		info->answered = true;
		copy(info->state, sizeof(info->state), j, "state");
		copy(info->engine, sizeof(info->engine), j, "engine");
		copy(info->command, sizeof(info->command), j, "command");
		info->vcpus = (unsigned)number(j, "vcpus");
		info->mem = number(j, "memory");
		info->up_ms = number(j, "up_ms");
	}
	json_decref(j);
	return 0;
}

/* --- finding ---------------------------------------------------------------------------------- */

static void all_names(const struct found *f, char *ret, size_t size)
{
	size_t at = 0;

	ret[0] = 0;
	for (unsigned i = 0; i < f->n && at + 1 < size; i++)
		at += (size_t)snprintf(ret + at, size - at, "%s%s", i ? ", " : "", f->vm[i].name);
}

static struct remote *pick(struct found *f, const char *which)
{
	char number_text[24];

	for (unsigned i = 0; which && i < f->n; i++) {
		snprintf(number_text, sizeof(number_text), "%d", (int)f->vm[i].pid);
		if (!strcmp(which, f->vm[i].name) || !strcmp(which, number_text))
			return &f->vm[i];
	}
	return NULL;
}

/* The only one of them that has sockets. */
static struct remote *only_vsock(struct found *f)
{
	struct remote *one = NULL;

	for (unsigned i = 0; i < f->n; i++) {
		if (hello(&f->vm[i], HELLO_MS, NULL, NULL) < 0 || !f->vm[i].vsock)
			continue;
		if (one)
			return NULL;
		one = &f->vm[i];
	}
	return one;
}

static int choose(struct found *f, const char *which, bool vsock, struct err *e,
		  struct remote **ret)
{
	char names[512];

	if (!f->n)
		return err_set(e, -ENOENT, "no VM is running; `orrery run` starts one");
	all_names(f, names, sizeof(names));
	*ret = which ? pick(f, which) : f->n == 1 ? f->vm : vsock ? only_vsock(f) : NULL;
	if (!*ret && which)
		return err_set(e, -ENOENT, "--vm %.80s: no such VM; running: %s", which, names);
	if (!*ret)
		return err_set(e, -ENOTUNIQ,
			       "%u VMs are running: %s; say which one with --vm NAME|PID", f->n,
			       names);
	return 0;
}

int remote_open(const char *which, bool vsock, struct err *e, struct remote *ret)
{
	struct found f = { 0 };
	struct remote *one = NULL;
	int r = find_all(&f, e);

	*ret = (struct remote){ .fd = -1 };
	if (r >= 0)
		r = choose(&f, which, vsock, e, &one);
	if (r >= 0)
		r = hello(one, ORDER_MS, e, NULL);
	if (r >= 0) {
		*ret = *one;
		one->fd = -1;
	}
	free_found(&f);
	return r;
}

void remote_close(struct remote *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
}

int remote_list(struct err *e, struct remote_info **ret)
{
	struct remote_info *list;
	struct found f = { 0 };
	int r = find_all(&f, e), n = 0;

	if (r < 0) {
		free_found(&f);
		return r;
	}
	list = calloc(f.n + 1, sizeof(*list));
	for (unsigned i = 0; list && i < f.n; i++) {
		struct remote_info *in = &list[n];

		*in = (struct remote_info){ .pid = f.vm[i].pid };
		snprintf(in->name, sizeof(in->name), "%s", f.vm[i].name);
		r = hello(&f.vm[i], HELLO_MS, NULL, in);
		/* One that ended while it was asked is no VM any more. */
		n += r == 0 || r == -ETIMEDOUT;
	}
	free_found(&f);
	if (!list)
		return err_set(e, -ENOMEM, "out of memory");
	*ret = list;
	return n;
}

/* --- what a VM can be asked ------------------------------------------------------------------- */

int remote_connect(struct remote *r, u32 port, struct err *e, int *ret_fd)
{
	char line[80];
	json_t *j;
	int fd, rc;

	snprintf(line, sizeof(line), "{\"op\":\"connect\",\"port\":%u}\n", port);
	rc = request(r, line, NEVER_MS, e, &j, &fd);
	if (rc < 0)
		return rc;
	if (json_is_true(json_object_get(j, "ok")) && fd >= 0) {
		*ret_fd = fd;
	} else {
		rc = refused(r, j, port, e);
		if (fd >= 0)
			close(fd);
	}
	json_decref(j);
	return rc;
}

int remote_order(struct remote *r, const char *op, unsigned limit_ms, struct err *e)
{
	char line[80];

	snprintf(line, sizeof(line), "{\"op\":\"%.40s\"}\n", op);
	return ask(r, line, (int)MIN(limit_ms, (unsigned)INT32_MAX), e, NULL);
}

int remote_balloon(struct remote *r, u64 bytes, struct err *e)
{
	char line[80];

	snprintf(line, sizeof(line), "{\"op\":\"balloon\",\"bytes\":%llu}\n",
		 (unsigned long long)bytes);
	return ask(r, line, ORDER_MS, e, NULL);
}

int remote_stats(struct remote *r, void (*line)(void *o, const char *name, u64 val), void *o,
		 struct err *e)
{
	json_t *j, *val;
	const char *name;
	int rc = ask(r, "{\"op\":\"stats\"}\n", ORDER_MS, e, &j);

	if (rc < 0)
		return rc;
	json_object_foreach(json_object_get(j, "stats"), name, val)
		line(o, name, (u64)json_integer_value(val));
	json_decref(j);
	return 0;
}

int remote_stop(struct remote *r, unsigned timeout_ms, struct err *e)
{
	const char *code;
	char line[80], byte;
	json_t *j;
	s64 end;
	int fd, rc;

	snprintf(line, sizeof(line), "{\"op\":\"stop\",\"timeout_ms\":%u}\n", timeout_ms);
	rc = request(r, line, ORDER_MS + (int)timeout_ms, NULL, &j, &fd);
	/* The monitor may have ended before it could say so: that is what was asked for. */
	if (rc == -ECONNRESET || rc == -EPIPE)
		return 0;
	if (rc < 0)
		return lost(r, rc, e);
	if (fd >= 0)
		close(fd);
	code = json_string_value(json_object_get(j, "code"));
	if (!json_is_true(json_object_get(j, "ok")) && (!code || strcmp(code, "ended") != 0))
		rc = refused(r, j, 0, e);
	json_decref(j);
	if (rc < 0)
		return rc;
	/* It closes the connection when the VM has ended. */
	end = (s64)host_ms() + timeout_ms + ORDER_MS;
	while ((rc = wait_answer(r, end)) == 0 && read(r->fd, &byte, 1) > 0)
		;
	return rc < 0 ? lost(r, rc, e) : 0;
}
