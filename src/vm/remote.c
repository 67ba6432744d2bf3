// SPDX-License-Identifier: Apache-2.0
/*
 * remote.c - a running VM of another process, through its socket
 */
#include "vm/remote.h"

#include "host/rundir.h"
#include "host/unixsock.h"
#include "vm/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct search {
	const char *which;
	struct remote *found;
	unsigned n;	 /* how many there are */
	char names[512]; /* of all of them, for a message */
};

static void note_name(struct search *s, const char *name)
{
	size_t at = strlen(s->names);

	snprintf(s->names + at, sizeof(s->names) - at, "%s%s", at ? ", " : "", name);
}

static bool on_entry(void *opaque, const char *name, pid_t pid, int fd)
{
	struct search *s = opaque;
	char number[24];

	snprintf(number, sizeof(number), "%d", (int)pid);
	s->n++;
	note_name(s, name);
	if (s->which && strcmp(s->which, name) != 0 && strcmp(s->which, number) != 0)
		return false;
	/* Without a name the search goes on: there may be another. */
	if (!s->which && s->n > 1)
		return false;
	if (s->found->fd >= 0)
		close(s->found->fd);
	s->found->fd = s->which ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	s->found->pid = pid;
	snprintf(s->found->name, sizeof(s->found->name), "%s", name);
	return s->which != NULL;
}

static int search_result(const struct search *s, struct err *e)
{
	if (!s->n)
		return err_set(e, -ENOENT,
			       "no VM is running that can be reached; `orrery run --vsock` or "
			       "--name makes one that can");
	if (!s->which && s->n > 1)
		return err_set(e, -ENOTUNIQ,
			       "%u VMs are running: %s; say which one with --vm NAME|PID", s->n,
			       s->names);
	if (s->found->fd < 0 && s->which)
		return err_set(e, -ENOENT, "--vm %.80s: no such VM; running: %s", s->which,
			       s->names);
	return s->found->fd < 0 ? err_sys(e, -EMFILE, "cannot reach the VM") : 0;
}

/* --- requests --------------------------------------------------------------------------------- */

static int lost(const struct remote *r, int code, struct err *e)
{
	return err_sys(e, code, "lost the connection to VM %s", r->name);
}

/* Sends @line and reads the answer: an object (owned) and perhaps a descriptor. */
static int request(struct remote *r, const char *line, struct err *e, json_t **ret, int *ret_fd)
{
	char in[CTL_LINE];
	size_t n = 0;
	int fd = -1, rc = unixsock_send(r->fd, line, strlen(line), -1);

	while (rc == 0 && !memchr(in, '\n', n)) {
		int pass = -1;
		ssize_t k = n < sizeof(in) ? unixsock_receive(r->fd, in + n, sizeof(in) - n, &pass)
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
	const char *code = json_string_value(json_object_get(j, "code"));
	const char *words = json_string_value(json_object_get(j, "error"));

	code = code ? code : "";
	if (!strcmp(code, "refused"))
		return err_set(e, -ECONNREFUSED, "VM %s: nobody listens on vsock port %u there",
			       r->name, port);
	if (!strcmp(code, "vsock"))
		return err_set(e, -ENOTSUP,
			       "VM %s has no socket device; start it with `orrery run --vsock`",
			       r->name);
	return err_set(e, -EIO, "VM %s: %.200s", r->name, words ? words : "refused");
}

static int hello(struct remote *r, struct err *e)
{
	json_t *j;
	int fd, vsock, agent, rc = request(r, "{\"op\":\"hello\"}\n", e, &j, &fd);

	if (rc < 0)
		return rc;
	if (fd >= 0)
		close(fd);
	rc = json_unpack(j, "{s:b, s:b}", "vsock", &vsock, "agent", &agent);
	json_decref(j);
	if (rc < 0)
		return err_set(e, -EPROTO, "VM %s does not speak our protocol", r->name);
	r->vsock = vsock;
	r->agent = agent;
	return 0;
}

int remote_open(const char *which, struct err *e, struct remote *ret)
{
	struct search s = { .which = which, .found = ret };
	int r;

	*ret = (struct remote){ .fd = -1 };
	r = rundir_each(on_entry, &s, e);
	if (r >= 0)
		r = search_result(&s, e);
	if (r >= 0)
		r = hello(ret, e);
	if (r < 0)
		remote_close(ret);
	return r;
}

void remote_close(struct remote *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
}

int remote_connect(struct remote *r, u32 port, struct err *e, int *ret_fd)
{
	char line[80];
	json_t *j;
	int fd, rc;

	snprintf(line, sizeof(line), "{\"op\":\"connect\",\"port\":%u}\n", port);
	rc = request(r, line, e, &j, &fd);
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
