// SPDX-License-Identifier: Apache-2.0
/*
 * init_port.c - runs the real guest init as a process of the host, with a cmdport at its other end
 */
#include "init_port.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/wire.h"

#define SILENCE_MS 20000 /* a hang fails the test */

static void on_out(void *opaque, int fd, const u8 *data, size_t len)
{
	struct init_run *r = opaque;

	assert_int_equal(buf_add(fd == 1 ? &r->out : &r->err, data, len), 0);
}

static void on_message(void *opaque, const char *words)
{
	struct init_run *r = opaque;

	assert_int_equal(buf_printf(&r->words, "%s\n", words), 0);
}

static void on_send(void *opaque, const u8 *data, size_t len)
{
	struct init_run *r = opaque;

	/* The protocol's promise: this never blocks. */
	ssize_t n = send(r->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno == EPIPE)
		return;
	assert_int_equal(n, len);
	r->sent += len;
}

static const struct cmdport_ops ops = { .out = on_out, .message = on_message, .send = on_send };

void init_run_start(struct init_run *r, const char *const *lines)
{
	const char *init = getenv("GUEST_INIT");
	int pair[2], spec = memfd_create("spec", 0);
	char port[16], file[32];
	struct buf b = { 0 };

	assert_non_null(init);
	*r = (struct init_run){ 0 };
	assert_int_equal(cmdport_new(&ops, r, &r->port), 0);
	assert_int_equal(buf_add(&b, WIRE_SPEC_MAGIC, sizeof(WIRE_SPEC_MAGIC)), 0);
	for (; *lines; lines++)
		assert_int_equal(buf_add(&b, *lines, strlen(*lines) + 1), 0);
	assert_int_equal(write(spec, b.data, b.len), b.len);
	buf_fini(&b);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	r->fd = pair[0];
	r->pid = fork();
	if (!r->pid) {
		close(pair[0]);
		snprintf(port, sizeof(port), "%d", pair[1]);
		snprintf(file, sizeof(file), "/proc/self/fd/%d", spec);
		execl(init, "init", "--port", port, "--spec", file, NULL);
		_exit(99);
	}
	close(pair[1]);
	close(spec);
}

void init_run_agent(struct init_run *r, const void *request, size_t len)
{
	const char *init = getenv("GUEST_INIT");
	char port[16];
	int pair[2];

	assert_non_null(init);
	*r = (struct init_run){ 0 };
	assert_int_equal(cmdport_new(&ops, r, &r->port), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	r->fd = pair[0];
	r->pid = fork();
	if (!r->pid) {
		close(pair[0]);
		snprintf(port, sizeof(port), "%d", pair[1]);
		execl(init, "init", "--agent", port, NULL);
		_exit(99);
	}
	close(pair[1]);
	assert_int_equal(write(r->fd, request, len), len);
}

void init_run_until(struct init_run *r, const void *in, size_t len, bool eof,
		    bool (*done)(struct init_run *r))
{
	const u8 *p = in;
	u8 data[3001]; /* odd, so that frames are cut everywhere */

	while (!r->gone && !done(r)) {
		struct pollfd pfd = { .fd = r->fd, .events = POLLIN };
		size_t k = cmdport_stdin(r->port, p, len);
		ssize_t n;

		p += k;
		len -= k;
		if (!len && eof) {
			cmdport_stdin_eof(r->port);
			eof = false;
		}
		assert_int_equal(poll(&pfd, 1, SILENCE_MS), 1);
		n = read(r->fd, data, sizeof(data));
		if (n <= 0) {
			r->gone = true;
			break;
		}
		r->received += (u64)n;
		if (cmdport_rx(r->port, data, (size_t)n) < 0)
			fail_msg("%s", cmdport_fault(r->port));
	}
}

bool init_run_exited(struct init_run *r)
{
	return cmdport_state(r->port) == CMDPORT_EXITED;
}

void init_run_finish(struct init_run *r)
{
	struct buf *texts[] = { &r->out, &r->err, &r->words };
	int status;

	close(r->fd);
	assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
	assert_true(WIFEXITED(status));
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_int_equal(buf_add(texts[i], "", 1), 0);
		texts[i]->len--;
	}
}

void init_run_free(struct init_run *r)
{
	cmdport_free(r->port);
	buf_fini(&r->out);
	buf_fini(&r->err);
	buf_fini(&r->words);
}
