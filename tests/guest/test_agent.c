// SPDX-License-Identifier: Apache-2.0
/*
 * test_agent.c - the guest's agent serves one connection, as a process of the host
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
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/wire.h"

#define SH(script) "exec=sh", "arg=sh", "arg=-c", "arg=" script
#define LINES(...)                                                                                 \
	(const char *const[])                                                                      \
	{                                                                                          \
		__VA_ARGS__, NULL                                                                  \
	}

/* Sends a spec of @lines in a request, then @in as the command's input. */
static const struct cmdport_outcome *ask(struct init_run *r, const char *const *lines,
					 const char *in)
{
	struct buf b = { 0 };

	assert_int_equal(buf_add(&b, NULL, 4), 0);
	assert_int_equal(buf_add(&b, WIRE_SPEC_MAGIC, sizeof(WIRE_SPEC_MAGIC)), 0);
	for (; *lines; lines++)
		assert_int_equal(buf_add(&b, *lines, strlen(*lines) + 1), 0);
	wire_put32(b.data, (u32)(b.len - 4));
	init_run_agent(r, b.data, b.len);
	buf_fini(&b);
	init_run_until(r, in, strlen(in), true, init_run_exited);
	init_run_finish(r);
	assert_true(init_run_exited(r));
	return cmdport_outcome(r->port);
}

static void runs(void **state)
{
	struct init_run r;
	const struct cmdport_outcome *o;

	/* Without a slash: found in the PATH that the request brings. */
	o = ask(&r,
		LINES(SH("cat; echo \"$A\" >&2; pwd; exit 5"), "env=A=b c", "cwd=/usr",
		      "env=PATH=/nowhere:/usr/bin:/bin"),
		"input\n");
	assert_int_equal(cmdport_status(o), 5);
	assert_string_equal((char *)r.out.data, "input\n/usr\n");
	assert_string_equal((char *)r.err.data, "b c\n");
	init_run_free(&r);

	o = ask(&r, LINES("exec=no-such-program", "arg=x", "env=PATH=/bin"), "");
	assert_int_equal(o->how, CMDPORT_NOT_STARTED);
	assert_int_equal(cmdport_status(o), 127);
	assert_non_null(strstr(o->words, "no-such-program"));
	init_run_free(&r);

	o = ask(&r, LINES("exec=/etc", "arg=x"), "");
	assert_int_equal(cmdport_status(o), 126);
	init_run_free(&r);
}

/* What is no request gets an answer, or the end; never a command. */
static void bad_requests(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		int value; /* errno in the EXIT frame */
	} table[] = {
		{ "\xff\xff\xff\xff", 4, E2BIG },
		{ "\0\0\0\0", 4, EINVAL },
		{ "\x04\0\0\0abcd", 8, EINVAL },
		{ "\x0e\0\0\0orrery-spec 1", 18, EINVAL }, /* nothing to run */
		{ "\x0e\0\0\0orrery-spec 2", 18, EINVAL },
		{ "\x16\0\0\0orrery-spec 1\0bogus=1", 26, EINVAL },
	};

	for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
		struct init_run r;
		const struct cmdport_outcome *o;

		init_run_agent(&r, table[i].bytes, table[i].len);
		init_run_until(&r, "", 0, false, init_run_exited);
		init_run_finish(&r);
		o = cmdport_outcome(r.port);
		assert_non_null(o);
		assert_int_equal(o->how, CMDPORT_NOT_STARTED);
		assert_int_equal(o->value, table[i].value);
		init_run_free(&r);
	}
}

/* A request that ends in the middle ends the agent's process too. */
static void cut_short(void **state)
{
	struct init_run r;
	int status;

	init_run_agent(&r, "\x20\0\0\0orr", 7);
	shutdown(r.fd, SHUT_WR);
	assert_int_equal(waitpid(r.pid, &status, 0), r.pid);
	assert_true(WIFEXITED(status));
	close(r.fd);
	cmdport_free(r.port);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs),
		cmocka_unit_test(bad_requests),
		cmocka_unit_test(cut_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
