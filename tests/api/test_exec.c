// SPDX-License-Identifier: Apache-2.0
/*
 * test_exec.c - commands in running guests, through the installed header and library only
 *
 * One Linux guest for all that does not end it.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include <orrery/orrery.h>

#define WAIT_MS 100000 /* for a guest to boot beside other tests */
#define ARGV(...) ((const char *const[]){ __VA_ARGS__, NULL })

static orr_vm *vm;

static orr_vm *linux_vm(const char *option, const char *value)
{
	orr_vm *v = orr_vm_new();

	assert_non_null(v);
	assert_int_equal(orr_vm_set(v, "hidden", NULL), 0);
	assert_int_equal(orr_vm_set(v, option, value), 0);
	if (strcmp(option, "initrd") != 0)
		assert_int_equal(orr_vm_set_command(v, ARGV("sleep", "100000")), 0);
	if (orr_vm_start(v) < 0)
		fail_msg("start: %s", orr_vm_error(v));
	return v;
}

static struct orr_exec command(const char *const *argv)
{
	struct orr_exec x = ORR_EXEC_INIT;

	x.argv = argv;
	x.wait_ms = WAIT_MS;
	return x;
}

/* Runs @x with its output in a temporary file, of which the bytes are in @ret. */
static int run(orr_vm *v, struct orr_exec x, int *status, char *ret, size_t size)
{
	FILE *f = tmpfile();
	size_t n;
	int r;

	assert_non_null(f);
	x.out = fileno(f);
	r = orr_vm_exec(v, &x, status);
	rewind(f);
	n = fread(ret, 1, size - 1, f);
	ret[n] = 0;
	fclose(f);
	return r;
}

static void expect_words(const char *words)
{
	if (!strstr(orr_vm_error(vm), words))
		fail_msg("\"%s\" is not in \"%s\"", words, orr_vm_error(vm));
}

static void status_and_output(void **state)
{
	struct orr_exec x = command(ARGV("sh", "-c", "echo $A in $PWD; echo no >&2; exit 7"));
	char out[200];
	int status = -1;

	x.env = ARGV("A=hello");
	x.cwd = "/proc";
	if (run(vm, x, &status, out, sizeof(out)) != 0)
		fail_msg("%s", orr_vm_error(vm));
	assert_int_equal(status, 7);
	assert_string_equal(out, "hello in /proc\n");
	x = command(ARGV("sh", "-c", "kill -9 $$"));
	assert_int_equal(run(vm, x, &status, out, sizeof(out)), 0);
	assert_int_equal(status, 128 + SIGKILL);
	assert_string_equal(out, "");
	x = command(ARGV("true"));
	assert_int_equal(orr_vm_exec(vm, &x, NULL), 0);
}

static void refusals(void **state)
{
	struct orr_exec x = command(ARGV("no-such-program"));
	static char big[200000];
	int status = 55;

	assert_int_equal(orr_vm_exec(vm, &x, &status), -ENOENT);
	expect_words("no-such-program");
	x.argv = ARGV("/proc");
	assert_int_equal(orr_vm_exec(vm, &x, &status), -ENOEXEC);
	x.argv = NULL;
	assert_int_equal(orr_vm_exec(vm, &x, &status), -EINVAL);
	x.argv = ARGV("true");
	x.cwd = "tmp";
	assert_int_equal(orr_vm_exec(vm, &x, &status), -EINVAL);
	expect_words("tmp");
	x.cwd = NULL;
	x.env = ARGV("A");
	assert_int_equal(orr_vm_exec(vm, &x, &status), -EINVAL);
	memset(big, 'x', sizeof(big) - 1);
	x.env = NULL;
	x.argv = ARGV("true", big);
	assert_int_equal(orr_vm_exec(vm, &x, &status), -E2BIG);
	x = (struct orr_exec){ .argv = ARGV("true") };
	assert_int_equal(orr_vm_exec(vm, &x, &status), -EINVAL);
	expect_words("ORR_EXEC_INIT");
	assert_int_equal(status, 55);
}

#define INPUT 300000

static void *write_input(void *opaque)
{
	int fd = *(int *)opaque;
	char line[100];

	memset(line, 'i', sizeof(line));
	for (size_t n = 0; n < INPUT; n += sizeof(line))
		assert_int_equal(write(fd, line, sizeof(line)), sizeof(line));
	close(fd);
	return NULL;
}

static void input(void **state)
{
	struct orr_exec x = command(ARGV("wc", "-c"));
	int p[2], status;
	pthread_t t;
	char out[40];

	assert_int_equal(pipe(p), 0);
	x.in = p[0];
	assert_int_equal(pthread_create(&t, NULL, write_input, &p[1]), 0);
	assert_int_equal(run(vm, x, &status, out, sizeof(out)), 0);
	pthread_join(t, NULL);
	close(p[0]);
	assert_int_equal(atoi(out), INPUT);
	x.in = -1;
	assert_int_equal(run(vm, x, &status, out, sizeof(out)), 0);
	assert_int_equal(atoi(out), 0);
}

/* The one waits for what the other makes. */
static void *first(void *opaque)
{
	struct orr_exec x = command(ARGV(
		"sh", "-c", "mkdir /tmp/here; while ! [ -e /tmp/there ]; do sleep 0.05; done"));
	int status = -1;

	x.timeout_ms = WAIT_MS;
	return (void *)(size_t)(orr_vm_exec(vm, &x, &status) == 0 && status == 0);
}

static void two_at_once(void **state)
{
	struct orr_exec x = command(ARGV(
		"sh", "-c", "while ! [ -e /tmp/here ]; do sleep 0.05; done; mkdir /tmp/there"));
	pthread_t t;
	void *good;
	int status = -1;

	x.timeout_ms = WAIT_MS;
	assert_int_equal(pthread_create(&t, NULL, first, NULL), 0);
	assert_int_equal(orr_vm_exec(vm, &x, &status), 0);
	assert_int_equal(status, 0);
	pthread_join(t, &good);
	assert_non_null(good);
}

/* What the caller's bytes make of the command: 's' a signal, 'w' its window, 'c' its end. */
static void on_byte(void *opaque, orr_exec_run *r)
{
	char c = 0;

	assert_int_equal(read(*(int *)opaque, &c, 1), 1);
	if (c == 's')
		orr_exec_signal(r, SIGTERM);
	else if (c == 'w')
		orr_exec_winsize(r, 33, 111);
	else
		orr_exec_cancel(r);
}

static void wakes(void **state)
{
	struct orr_exec x = command(ARGV("sh", "-c", "trap 'exit 9' TERM; sleep 1000 & wait"));
	int p[2], status = -1;
	char out[100];

	assert_int_equal(pipe(p), 0);
	x.wake = on_byte;
	x.opaque = &p[0];
	x.wake_fd = p[0];
	/* A signal that comes before the trap is set ends it as well. */
	assert_int_equal(write(p[1], "s", 1), 1);
	assert_int_equal(orr_vm_exec(vm, &x, &status), 0);
	assert_true(status == 9 || status == 128 + SIGTERM);
	x.argv = ARGV("sleep", "1000");
	assert_int_equal(write(p[1], "c", 1), 1);
	assert_int_equal(orr_vm_exec(vm, &x, &status), -ECANCELED);
	x.argv = ARGV("sh", "-c",
		      "until stty size | grep -q '33 111'; do sleep 0.1; done; stty size");
	x.tty = 1;
	x.rows = 24;
	x.cols = 80;
	x.timeout_ms = WAIT_MS;
	assert_int_equal(write(p[1], "w", 1), 1);
	assert_int_equal(run(vm, x, &status, out, sizeof(out)), 0);
	assert_string_equal(out, "33 111\r\n");
	close(p[0]);
	close(p[1]);
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void time_out(void **state)
{
	struct orr_exec x = command(ARGV("sleep", "1000"));
	double begun = seconds();
	int p[2], status = 55;

	x.timeout_ms = 300;
	assert_int_equal(orr_vm_exec(vm, &x, &status), -ETIMEDOUT);
	expect_words("sleep");
	/* Output that nobody takes does not make it longer. */
	assert_int_equal(pipe(p), 0);
	x.argv = ARGV("yes");
	x.out = p[1];
	x.timeout_ms = 1000;
	assert_int_equal(orr_vm_exec(vm, &x, &status), -ETIMEDOUT);
	if (seconds() - begun > 20)
		fail_msg("it took %.1f s", seconds() - begun);
	/* Nobody reads: an error, and no signal for this process. */
	close(p[0]);
	x.timeout_ms = WAIT_MS;
	assert_int_equal(orr_vm_exec(vm, &x, &status), -EPIPE);
	close(p[1]);
	assert_int_equal(orr_vm_pause(vm), 0);
	assert_int_equal(orr_vm_exec(vm, &x, &status), -EBADFD);
	expect_words("paused");
	assert_int_equal(orr_vm_resume(vm), 0);
	assert_int_equal(status, 55);
}

static void without_agent(void **state)
{
	struct orr_exec x = command(ARGV("true"));
	char path[] = "/tmp/orrery-initrd-XXXXXX";
	int fd = mkstemp(path);
	orr_vm *v;

	v = linux_vm("rng", NULL);
	assert_int_equal(orr_vm_exec(v, &x, NULL), -ENOTSUP);
	orr_vm_free(v);
	v = orr_vm_new();
	assert_int_equal(orr_vm_exec(v, &x, NULL), -EBADFD);
	orr_vm_free(v);
	assert_int_equal(write(fd, "070701", 6), 6);
	close(fd);
	v = orr_vm_new();
	assert_int_equal(orr_vm_set(v, "vsock", NULL), 0);
	assert_int_equal(orr_vm_set(v, "hidden", NULL), 0);
	assert_int_equal(orr_vm_set(v, "initrd", path), 0);
	assert_int_equal(orr_vm_start(v), 0);
	assert_int_equal(orr_vm_exec(v, &x, NULL), -ENOTSUP);
	expect_words("init of its own");
	orr_vm_free(v);
	unlink(path);
}

static void *stop_soon(void *opaque)
{
	nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);
	orr_vm_stop(opaque, 0);
	return NULL;
}

/* The last test: the VM ends while a command runs there, and one is about to. */
static void dies_meanwhile(void **state)
{
	struct orr_exec x = command(ARGV("sleep", "1000"));
	pthread_t t;
	int r;

	assert_int_equal(pthread_create(&t, NULL, stop_soon, vm), 0);
	r = orr_vm_exec(vm, &x, NULL);
	if (r != -ECONNRESET && r != -ESHUTDOWN)
		fail_msg("%d: %s", r, orr_vm_error(vm));
	pthread_join(t, NULL);
	assert_int_equal(orr_vm_wait(vm, WAIT_MS, NULL), 0);
	assert_int_equal(orr_vm_exec(vm, &x, NULL), -EBADFD);
}

static int begin(void **state)
{
	vm = linux_vm("vsock", NULL);
	return 0;
}

static int end(void **state)
{
	orr_vm_free(vm);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(status_and_output),
		cmocka_unit_test(refusals),
		cmocka_unit_test(input),
		cmocka_unit_test(two_at_once),
		cmocka_unit_test(wakes),
		cmocka_unit_test(time_out),
		cmocka_unit_test(without_agent),
		cmocka_unit_test(dies_meanwhile),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
