// SPDX-License-Identifier: Apache-2.0
/*
 * test_init.c - the guest's init runs commands on the host, over a socket, against cmdport
 *
 * The binary is the one that goes into the guest; only mounts, modules and power-off are left out.
 */
#include "init_port.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/wire.h"

#define SH(script) "exec=/bin/sh", "arg=sh", "arg=-c", "arg=" script
#define LINES(...)                                                                                 \
	(const char *const[])                                                                      \
	{                                                                                          \
		__VA_ARGS__, "env=PATH=/usr/bin:/bin", NULL                                        \
	}

/* Runs to the end, with @in as the command's input. */
static const struct cmdport_outcome *run(struct init_run *r, const char *const *lines,
					 const void *in, size_t len)
{
	init_run_start(r, lines);
	init_run_until(r, in, len, true, init_run_exited);
	init_run_finish(r);
	assert_true(init_run_exited(r));
	return cmdport_outcome(r->port);
}

static void test_exit_status(void **state)
{
	struct init_run r;
	const struct cmdport_outcome *o =
		run(&r, LINES(SH("echo out; echo err >&2; exit 7")), "", 0);

	assert_int_equal(o->how, CMDPORT_BY_EXIT);
	assert_int_equal(o->value, 7);
	assert_int_equal(cmdport_status(o), 7);
	assert_string_equal((char *)r.out.data, "out\n");
	assert_string_equal((char *)r.err.data, "err\n");
	init_run_free(&r);
}

static void test_killed(void **state)
{
	struct init_run r;
	const struct cmdport_outcome *o = run(&r, LINES(SH("echo last; kill -9 $$")), "", 0);

	assert_int_equal(o->how, CMDPORT_BY_SIGNAL);
	assert_int_equal(o->value, SIGKILL);
	assert_int_equal(cmdport_status(o), 137);
	assert_string_equal((char *)r.out.data, "last\n");
	init_run_free(&r);
}

static void test_not_started(void **state)
{
	struct init_run r;
	const struct cmdport_outcome *o =
		run(&r, LINES("exec=/no/such/program", "arg=x"), "ignored", 7);

	assert_int_equal(o->how, CMDPORT_NOT_STARTED);
	assert_int_equal(o->value, ENOENT);
	assert_int_equal(cmdport_status(o), 127);
	assert_non_null(strstr(o->words, "/no/such/program"));
	init_run_free(&r);

	o = run(&r, LINES("exec=/etc/passwd", "arg=x"), "", 0);
	assert_int_equal(o->value, EACCES);
	assert_int_equal(cmdport_status(o), 126);
	init_run_free(&r);
}

static void test_environment(void **state)
{
	struct init_run r;

	run(&r,
	    LINES(SH("pwd; echo \"$A\"; echo $#"), "arg=sh", "arg=a  b", "arg=", "arg=*",
		  "env=A=x=y\nz", "cwd=/usr"),
	    "", 0);
	assert_string_equal((char *)r.out.data, "/usr\nx=y\nz\n3\n");
	init_run_free(&r);
}

static u8 *noise(size_t len)
{
	u8 *p = malloc(len);
	u32 x = 2463534242u;

	assert_non_null(p);
	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		p[i] = (u8)x;
	}
	return p;
}

/* Every byte value, many windows long, there and back. */
static void test_binary_echo(void **state)
{
	struct init_run r;
	size_t len = 1000003;
	u8 *in = noise(len);
	const struct cmdport_outcome *o = run(&r, LINES("exec=/bin/cat", "arg=cat"), in, len);

	assert_int_equal(cmdport_status(o), 0);
	assert_int_equal(r.out.len, len);
	assert_memory_equal(r.out.data, in, len);
	free(in);
	init_run_free(&r);
}

/* The command reads slowly and in bits: no byte above the window is ever under way. */
static void test_slow_reader(void **state)
{
	struct init_run r;
	size_t len = 300000;
	u8 *in = noise(len);

	run(&r,
	    LINES(SH("head -c 3 | wc -c; sleep 0.05; dd bs=7 count=100 2>/dev/null | wc -c;"
		     " cat | wc -c")),
	    in, len);
	free(in);
	/* head may read ahead, but nothing is lost behind it. */
	assert_int_equal(memcmp(r.out.data, "3\n", 2), 0);
	assert_true(r.sent <= len + (len / 1000 + 2) * 16);
	init_run_free(&r);
}

/* Input that nobody reads must neither block the end nor be sent without limit. */
static void test_unread_input(void **state)
{
	struct init_run r;
	size_t len = 1000000;
	u8 *in = noise(len);
	const struct cmdport_outcome *o = run(&r, LINES(SH("sleep 0.1; echo done")), in, len);

	free(in);
	assert_int_equal(cmdport_status(o), 0);
	assert_string_equal((char *)r.out.data, "done\n");
	assert_true(r.sent < 128 * 1024); /* a pipe's buffer and a window */
	init_run_free(&r);
}

static void test_input_null(void **state)
{
	struct init_run r;

	run(&r, LINES(SH("wc -c; readlink /proc/self/fd/0"), "stdin=null"), "lost", 4);
	assert_string_equal((char *)r.out.data, "0\n/dev/null\n");
	init_run_free(&r);
}

static void test_large_output(void **state)
{
	struct init_run r;

	run(&r, LINES(SH("head -c 3000000 /dev/zero; head -c 70000 /dev/zero >&2")), "", 0);
	assert_int_equal(r.out.len, 3000000);
	assert_int_equal(r.err.len, 70000);
	init_run_free(&r);
}

/* A process left behind holds the pipe open, and even writes: the end is the command's. */
static void test_left_behind(void **state)
{
	struct init_run r;
	const struct cmdport_outcome *o;
	int left = 0;

	o = run(&r, LINES(SH("(exec sleep 30) & echo $!; exit 3")), "", 0);
	assert_int_equal(cmdport_status(o), 3);
	left = atoi((char *)r.out.data);
	assert_true(left > 1);
	kill(left, SIGKILL);
	init_run_free(&r);

	o = run(&r, LINES(SH("yes & echo $!; exit 4")), "", 0);
	assert_int_equal(cmdport_status(o), 4);
	init_run_free(&r);
}

static bool ready(struct init_run *r)
{
	return r->out.len >= 6 && !memcmp(r->out.data, "ready\n", 6);
}

static void test_signal(void **state)
{
	struct init_run r;

	/* Asked for before there is a command: delivered once there is. */
	init_run_start(&r,
		       LINES(SH("trap 'echo got; exit 5' INT; echo ready; while :; do sleep 0.01;"
				" done")));
	init_run_until(&r, "", 0, false, ready);
	cmdport_signal(r.port, SIGINT);
	init_run_until(&r, "", 0, false, init_run_exited);
	init_run_finish(&r);
	assert_string_equal((char *)r.out.data, "ready\ngot\n");
	assert_int_equal(cmdport_status(cmdport_outcome(r.port)), 5);
	init_run_free(&r);
}

static void test_tty(void **state)
{
	struct init_run r;
	const struct cmdport_outcome *o =
		run(&r,
		    LINES(SH("stty size; test -t 0 && test -t 1 && test -t 2 && echo tty >&2;"
			     " read a; echo \"<$a>\"; exit 9"),
			  "tty=24x80"),
		    "word\n", 5);

	assert_int_equal(cmdport_status(o), 9);
	assert_int_equal(r.err.len, 0);
	assert_non_null(strstr((char *)r.out.data, "24 80\r\n"));
	assert_non_null(strstr((char *)r.out.data, "tty\r\n"));
	assert_non_null(strstr((char *)r.out.data, "<word>\r\n"));
	init_run_free(&r);
}

/* All of a terminal's output arrives, though the kernel hands it over late. */
static void test_tty_last_output(void **state)
{
	for (int i = 0; i < 20; i++) {
		struct init_run r;

		run(&r, LINES(SH("head -c 5000 /dev/zero | tr '\\0' x; echo end"), "tty=24x80"), "",
		    0);
		assert_non_null(strstr((char *)r.out.data, "end\r\n"));
		init_run_free(&r);
	}
}

static void test_tty_resize(void **state)
{
	struct init_run r;

	init_run_start(&r, LINES(SH("stty -echo -onlcr; trap 'stty size; exit 0' WINCH; echo ready;"
				    " while :; do sleep 0.01; done"),
				 "tty=24x80"));
	init_run_until(&r, "", 0, false, ready);
	cmdport_winsize(r.port, 50, 132);
	init_run_until(&r, "", 0, false, init_run_exited);
	init_run_finish(&r);
	assert_string_equal((char *)r.out.data, "ready\n50 132\n");
	init_run_free(&r);
}

/* Nonsense from the host ends the command, not init. */
static void test_hostile_host(void **state)
{
	static const u8 bad[][8] = {
		{ 0, 0, 0, 0 },
		{ WIRE_STDIN, 0, 0xff, 0xff },
		{ WIRE_STDIN, 1, 1, 0, 'x' },
		{ WIRE_SIGNAL, 0, 2, 0, 1, 1 },
		{ WIRE_WINSIZE, 0, 1, 0, 1 },
		{ WIRE_HELLO, 0, 0, 0 },
		{ 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct init_run r;
		u8 data[512];

		init_run_start(&r, LINES(SH("echo ready; exec sleep 20")));
		init_run_until(&r, "", 0, false, ready);
		assert_int_equal(send(r.fd, bad[i], 8, MSG_NOSIGNAL), 8);
		while (read(r.fd, data, sizeof(data)) > 0)
			;
		init_run_finish(&r);
		init_run_free(&r);
	}
}

static void test_bad_spec(void **state)
{
	static const char *const specs[][3] = {
		{ "exec=/bin/true", NULL }, /* no argv[0] */
		{ "exec=/bin/true", "colour=red", NULL },
		{ "no equals sign", NULL },
		{ "exec=/bin/sh", "tty=80", NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
		struct init_run r;

		init_run_start(&r, specs[i]);
		init_run_until(&r, "", 0, false, init_run_exited);
		init_run_finish(&r);
		assert_false(init_run_exited(&r));
		assert_non_null(strstr((char *)r.words.data, "cannot use"));
		init_run_free(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exit_status),	cmocka_unit_test(test_killed),
		cmocka_unit_test(test_not_started),	cmocka_unit_test(test_environment),
		cmocka_unit_test(test_binary_echo),	cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_unread_input),	cmocka_unit_test(test_input_null),
		cmocka_unit_test(test_large_output),	cmocka_unit_test(test_left_behind),
		cmocka_unit_test(test_signal),		cmocka_unit_test(test_tty),
		cmocka_unit_test(test_tty_last_output), cmocka_unit_test(test_tty_resize),
		cmocka_unit_test(test_hostile_host),	cmocka_unit_test(test_bad_spec),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
