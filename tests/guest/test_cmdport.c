// SPDX-License-Identifier: Apache-2.0
/*
 * test_cmdport.c - the host's end of the command port against correct, wrong and random guests
 */
#include "vm/cmdport.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/wire.h"

struct seen {
	struct cmdport *port;
	size_t out, err, sent, messages, rooms;
	u8 last[WIRE_HEAD + WIRE_WINDOW]; /* the last thing sent */
	size_t n_last;
	char words[1024];
};

static void on_out(void *opaque, int fd, const u8 *data, size_t len)
{
	struct seen *s = opaque;

	assert_true(fd == 1 || fd == 2);
	*(fd == 1 ? &s->out : &s->err) += len;
}

static void on_message(void *opaque, const char *words)
{
	struct seen *s = opaque;

	s->messages++;
	snprintf(s->words, sizeof(s->words), "%s", words);
}

static void on_send(void *opaque, const u8 *data, size_t len)
{
	struct seen *s = opaque;

	assert_true(len >= WIRE_HEAD && len <= sizeof(s->last));
	assert_int_equal(wire_get16(data + 2), len - WIRE_HEAD);
	memcpy(s->last, data, len);
	s->n_last = len;
	s->sent += len;
}

static void on_room(void *opaque)
{
	((struct seen *)opaque)->rooms++;
}

static const struct cmdport_ops ops = {
	.out = on_out,
	.message = on_message,
	.send = on_send,
	.room = on_room,
};

static void begin(struct seen *s)
{
	memset(s, 0, sizeof(*s));
	assert_int_equal(cmdport_new(&ops, s, &s->port), 0);
}

static int feed(struct seen *s, unsigned type, const void *data, unsigned len)
{
	u8 frame[WIRE_HEAD + 8192];

	wire_head(frame, type, len);
	memcpy(frame + WIRE_HEAD, data, len);
	return cmdport_rx(s->port, frame, WIRE_HEAD + len);
}

#define HELLO_OK "ORCP\2\0\0\0"
#define READY_OK "\0\10\0\0" /* WIRE_WINDOW_TTY */
#define EXIT_7 "\0\0\0\0\7\0\0\0"

static void hello(struct seen *s)
{
	begin(s);
	assert_int_equal(feed(s, WIRE_HELLO, HELLO_OK, 8), 0);
	assert_int_equal(cmdport_state(s->port), CMDPORT_HELLO);
	assert_int_equal(cmdport_stdin(s->port, (const u8 *)"x", 1), 0);
	assert_int_equal(feed(s, WIRE_READY, READY_OK, 4), 0);
}

static int credit(struct seen *s, u32 n)
{
	u8 data[4];

	wire_put32(data, n);
	return feed(s, WIRE_CREDIT, data, 4);
}

static void test_byte_by_byte(void **state)
{
	static const char talk[] = "\1\0\10\0" HELLO_OK "\10\0\4\0" READY_OK "\3\0\0\0"
				   "\4\0\3\0abc"
				   "\5\0\1\0e"
				   "\4\0\0\0"
				   "\2\0\3\0hi\33"
				   "\7\0\10\0" EXIT_7;
	struct seen s;

	begin(&s);
	for (size_t i = 0; i < sizeof(talk) - 1; i++)
		assert_int_equal(cmdport_rx(s.port, (const u8 *)talk + i, 1), 0);
	assert_int_equal(s.out, 3);
	assert_int_equal(s.err, 1);
	assert_string_equal(s.words, "hi?");
	assert_int_equal(cmdport_state(s.port), CMDPORT_EXITED);
	assert_int_equal(cmdport_status(cmdport_outcome(s.port)), 7);
	cmdport_free(s.port);
}

static void test_window(void **state)
{
	static const u8 in[10000];
	struct seen s;
	size_t n, before;

	begin(&s);
	assert_int_equal(cmdport_stdin(s.port, in, sizeof(in)), 0);
	cmdport_free(s.port);

	hello(&s);
	n = cmdport_stdin(s.port, in, sizeof(in));
	assert_int_equal(n, WIRE_WINDOW_TTY - WIRE_RESERVE - WIRE_HEAD);
	assert_int_equal(cmdport_stdin(s.port, in, sizeof(in)), 0);
	assert_int_equal(cmdport_stdin_room(s.port), 0);
	/* The small frames have the reserve for themselves, and never more than that. */
	assert_int_equal(feed(&s, WIRE_STARTED, "", 0), 0);
	for (unsigned i = 0; i < 1000; i++) {
		cmdport_winsize(s.port, i, 80);
		cmdport_signal(s.port, i % 70);
	}
	assert_true(s.sent <= WIRE_WINDOW_TTY);
	/* What did not fit comes when there is room. */
	before = s.sent;
	assert_int_equal(credit(&s, (u32)s.sent), 0);
	assert_true(s.sent > before);
	assert_true(s.rooms > 0);
	assert_int_equal(credit(&s, (u32)(s.sent - before) + 1), -EPROTO);
	assert_int_equal(cmdport_state(s.port), CMDPORT_BROKEN);
	assert_true(cmdport_fault(s.port)[0] != 0);
	cmdport_free(s.port);
}

static void test_early_wishes(void **state)
{
	struct seen s;

	begin(&s);
	cmdport_signal(s.port, 15);
	cmdport_winsize(s.port, 24, 80);
	cmdport_stdin_eof(s.port);
	assert_int_equal(s.sent, 0);
	assert_int_equal(feed(&s, WIRE_HELLO, HELLO_OK, 8), 0);
	assert_int_equal(s.sent, 0);
	assert_int_equal(feed(&s, WIRE_READY, READY_OK, 4), 0);
	assert_int_equal(s.sent, WIRE_HEAD + WIRE_WINSIZE_LEN + WIRE_HEAD);
	assert_int_equal(feed(&s, WIRE_STARTED, "", 0), 0);
	assert_int_equal(s.last[0], WIRE_SIGNAL);
	assert_int_equal(s.last[WIRE_HEAD], 15);
	assert_int_equal(cmdport_stdin_room(s.port), 0);
	cmdport_free(s.port);
}

/* A second READY on a better stream: MOVED ends the first, and the window may be larger. */
static void test_move(void **state)
{
	static const u8 in[100000];
	struct seen s;
	u64 before;

	hello(&s);
	assert_int_equal(feed(&s, WIRE_STARTED, "", 0), 0);
	assert_true(cmdport_stdin(s.port, in, sizeof(in)) > 0);
	before = s.sent;
	assert_int_equal(cmdport_move(s.port), 0);
	assert_int_equal(s.sent, before + WIRE_HEAD);
	assert_int_equal(s.last[0], WIRE_MOVED);
	assert_int_equal(feed(&s, WIRE_READY, "\0\0\1\0", 4), 0);
	/* What was sent before is still to be acknowledged, MOVED is not. */
	assert_int_equal(credit(&s, (u32)before), 0);
	assert_int_equal(cmdport_stdin(s.port, in, sizeof(in)), WIRE_PAYLOAD_MAX);
	assert_int_equal(feed(&s, WIRE_READY, READY_OK, 4), -EPROTO);
	cmdport_free(s.port);

	/* Before the first READY there is nothing to close, and within a frame nothing to move. */
	begin(&s);
	assert_int_equal(feed(&s, WIRE_HELLO, HELLO_OK, 8), 0);
	assert_int_equal(cmdport_move(s.port), 0);
	assert_int_equal(s.sent, 0);
	assert_int_equal(cmdport_rx(s.port, (const u8 *)"\10\0", 2), 0);
	assert_int_equal(cmdport_move(s.port), -EPROTO);
	cmdport_free(s.port);

	/* Too small, too large: the window is ours to bound. */
	begin(&s);
	assert_int_equal(feed(&s, WIRE_HELLO, HELLO_OK, 8), 0);
	assert_int_equal(feed(&s, WIRE_READY, "\1\0\0\0", 4), -EPROTO);
	cmdport_free(s.port);
	begin(&s);
	assert_int_equal(feed(&s, WIRE_HELLO, HELLO_OK, 8), 0);
	assert_int_equal(feed(&s, WIRE_READY, "\377\377\377\377", 4), 0);
	for (unsigned i = 0; i < 10; i++)
		cmdport_stdin(s.port, in, sizeof(in));
	assert_true(s.sent <= WIRE_WINDOW);
	cmdport_free(s.port);
}

static void test_violations(void **state)
{
	static const struct {
		bool greeted;
		unsigned type, len;
		const char *data;
	} bad[] = {
		{ false, WIRE_STDOUT, 1, "x" },
		{ false, WIRE_HELLO, 8, "ORCQ\2\0\0\0" },
		{ false, WIRE_HELLO, 8, "ORCP\1\0\0\10" },
		{ false, WIRE_READY, 4, READY_OK },
		{ true, WIRE_READY, 4, READY_OK }, /* twice, and it has not moved */
		{ false, WIRE_HELLO, 4, "ORCP" },
		{ true, WIRE_HELLO, 8, HELLO_OK },
		{ true, WIRE_STDOUT, 1, "x" }, /* before STARTED */
		{ true, WIRE_CREDIT, 4, "\1\0\0\0" },
		{ true, WIRE_CREDIT, 3, "\0\0\0" },
		{ true, WIRE_EXIT, 7, "\0\0\0\0\0\0\0" },
		{ true, WIRE_EXIT, 8, "\3\0\0\0\0\0\0\0" },
		{ true, WIRE_EXIT, 8, "\0\0\0\0\0\1\0\0" },
		{ true, WIRE_EXIT, 8, "\1\0\0\0\0\0\0\0" },
		{ true, WIRE_STDIN, 1, "x" },
		{ true, 0, 0, "" },
		{ true, WIRE_STARTED, 1, "x" },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct seen s;

		if (bad[i].greeted)
			hello(&s);
		else
			begin(&s);
		assert_int_equal(feed(&s, bad[i].type, bad[i].data, bad[i].len), -EPROTO);
		assert_int_equal(cmdport_state(s.port), CMDPORT_BROKEN);
		assert_null(cmdport_outcome(s.port));
		/* It stays broken and silent. */
		assert_int_equal(feed(&s, WIRE_EXIT, EXIT_7, 8), -EPROTO);
		assert_int_equal(cmdport_stdin(s.port, (const u8 *)"x", 1), 0);
		cmdport_free(s.port);
	}
}

static void test_after_exit(void **state)
{
	struct seen s;

	hello(&s);
	assert_int_equal(feed(&s, WIRE_EXIT, EXIT_7, 8), 0);
	assert_int_equal(cmdport_stdin(s.port, (const u8 *)"x", 1), 0);
	cmdport_stdin_eof(s.port);
	assert_int_equal(s.sent, 0);
	assert_int_equal(feed(&s, WIRE_STDOUT, "x", 1), -EPROTO);
	assert_int_equal(s.out, 0);
	cmdport_free(s.port);
}

/* Random bytes, mostly behind plausible headers, never do worse than break the port. */
static void test_random_guests(void **state)
{
	u64 x = 88172645463325252ull;

	for (unsigned round = 0; round < 20000; round++) {
		struct seen s;
		u8 data[64];

		hello(&s);
		for (unsigned step = 0; step < 16; step++) {
			size_t n = 1 + x % sizeof(data);

			for (size_t i = 0; i < sizeof(data); i++) {
				x ^= x << 13;
				x ^= x >> 7;
				x ^= x << 17;
				data[i] = (u8)(x >> 32);
			}
			if (round & 1) {
				data[0] = 1 + data[0] % 8;
				data[1] = 0;
				data[3] &= 1;
			}
			if (cmdport_rx(s.port, data, n) < 0)
				break;
			cmdport_stdin(s.port, data, sizeof(data));
		}
		assert_true(s.sent <= 16 * WIRE_WINDOW);
		cmdport_free(s.port);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_byte_by_byte),  cmocka_unit_test(test_window),
		cmocka_unit_test(test_early_wishes),  cmocka_unit_test(test_move),
		cmocka_unit_test(test_violations),    cmocka_unit_test(test_after_exit),
		cmocka_unit_test(test_random_guests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
