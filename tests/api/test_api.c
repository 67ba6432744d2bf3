// SPDX-License-Identifier: Apache-2.0
/*
 * test_api.c - virtual machines in this process, through the installed header and library only
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include <orrery/orrery.h>

#define LOAD 0x200000u

static char spin_path[64], exit_path[64], idle_path[64];

/* A Multiboot image with load addresses (flag 16), and code in 32-bit mode behind the header. */
static void write_guest(char path[64], const void *code, size_t len)
{
	uint32_t head[8] = { 0x1badb002,    0x10000,	0u - 0x1badb002 - 0x10000,
			     LOAD,	    LOAD,	LOAD + 0x1000,
			     LOAD + 0x2000, LOAD + 0x20 };
	unsigned char image[0x1000] = { 0 };
	int fd;

	snprintf(path, 64, "/tmp/orrery-api-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	memcpy(image, head, sizeof(head));
	memcpy(image + sizeof(head), code, len);
	assert_int_equal(write(fd, image, sizeof(image)), sizeof(image));
	close(fd);
}

static int make_guests(void **state)
{
	write_guest(spin_path, "\xeb\xfe", 2);
	write_guest(exit_path, "\xb0\x15\xe6\xf4", 4); /* mov al, 21; out 0xf4, al: status 43 */
	write_guest(idle_path, "\xfb\xf4\xeb\xfd", 4); /* sti; hlt: nothing will ever wake it */
	return 0;
}

static int remove_guests(void **state)
{
	unlink(spin_path);
	unlink(exit_path);
	unlink(idle_path);
	return 0;
}

static orr_vm *new_vm(const char *kernel)
{
	orr_vm *vm = orr_vm_new();

	assert_non_null(vm);
	assert_int_equal(orr_vm_set(vm, "kernel", kernel), 0);
	assert_int_equal(orr_vm_set(vm, "mem", "32M"), 0);
	assert_int_equal(orr_vm_set(vm, "debug-exit", "0xf4"), 0);
	assert_int_equal(orr_vm_set(vm, "hidden", NULL), 0);
	assert_int_equal(orr_vm_state(vm), ORR_CREATED);
	return vm;
}

static void expect_words(orr_vm *vm, const char *words)
{
	if (!strstr(orr_vm_error(vm), words))
		fail_msg("\"%s\" is not in \"%s\"", words, orr_vm_error(vm));
}

static void options(void **state)
{
	static const char *const good[][2] = {
		{ "cpus", "2" },
		{ "topology", "1n1l2c1t" },
		{ "seed", "7" },
		{ "clock", "virtual" },
		{ "append", "a" },
		{ "append", "b" },
		{ "env", "A=1" },
		{ "rng", NULL },
		{ "disk", "size=1M" },
		{ "balloon", "16M" },
		{ "timeout", "2.5" },
		{ "on-reset", "restart" },
		{ "rtc-base", "12345" },
		{ "verbose", NULL },
		{ "include", "/etc/passwd:/x" },
	};
	static const char *const bad[][3] = {
		{ "no-such", "1", "no-such" },
		{ "tty", NULL, "no option" },
		{ "cpus", "0", "cpus" },
		{ "cpus", "x", "cpus" },
		{ "cpus", NULL, "takes a value" },
		{ "digest", "1", "takes no value" },
		{ "mem", "lots", "mem" },
		{ "clock", "sun", "sun" },
		{ "env", "A", "NAME=VALUE" },
		{ "include", ":", "FILE" },
		{ "disk", NULL, "takes a value" },
		{ "name", "a/b", "name" },
		{ "code-cache", "1", "1M" },
		{ "rng", "5", "takes no value" },
		{ "debug-exit", "0", "debug-exit" },
	};
	orr_vm *vm = new_vm(exit_path);

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (orr_vm_set(vm, good[i][0], good[i][1]) != 0)
			fail_msg("%s: %s", good[i][0], orr_vm_error(vm));
	assert_string_equal(orr_vm_error(vm), "");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_true(orr_vm_set(vm, bad[i][0], bad[i][1]) < 0);
		expect_words(vm, bad[i][2]);
	}
	assert_int_equal(orr_vm_set_command(vm, (const char *const[]){ NULL }), -EINVAL);
	orr_vm_free(vm);
	orr_vm_free(NULL);
	assert_non_null(strchr(orr_version(), '.'));
}

static void before_start(void **state)
{
	struct orr_result r = { .size = sizeof(r) };
	orr_vm *vm = new_vm(spin_path);

	assert_int_equal(orr_vm_pause(vm), -EBADFD);
	expect_words(vm, "created");
	assert_int_equal(orr_vm_resume(vm), -EBADFD);
	assert_int_equal(orr_vm_reset(vm), -EBADFD);
	assert_int_equal(orr_vm_stop(vm, 0), -EBADFD);
	assert_int_equal(orr_vm_balloon(vm, 1), -EBADFD);
	assert_int_equal(orr_vm_connect(vm, 5, 10), -EBADFD);
	assert_int_equal(orr_vm_wait(vm, 10, &r), -EBADFD);
	orr_vm_free(vm);
}

static void cannot_start(void **state)
{
	struct orr_result r = { .size = sizeof(r) };
	orr_vm *vm = new_vm("/nowhere/kernel");

	assert_int_equal(orr_vm_start(vm), -ENOENT);
	expect_words(vm, "/nowhere/kernel");
	assert_int_equal(orr_vm_state(vm), ORR_FAILED);
	assert_int_equal(orr_vm_wait(vm, -1, &r), -ENOENT);
	expect_words(vm, "/nowhere/kernel");
	assert_int_equal(orr_vm_start(vm), -EBADFD); /* once */
	assert_int_equal(orr_vm_set(vm, "mem", "64M"), -EBADFD);
	orr_vm_free(vm);
}

static void ends_by_itself(void **state)
{
	struct orr_result r = { .size = sizeof(r) };
	orr_vm *vm = new_vm(exit_path);

	assert_int_equal(orr_vm_set(vm, "digest", NULL), 0);
	assert_int_equal(orr_vm_start(vm), 0);
	assert_int_equal(orr_vm_wait(vm, 20000, &r), 0);
	assert_int_equal(r.end, ORR_END_DEBUG_EXIT);
	assert_int_equal(r.status, 43);
	assert_int_equal(strlen(r.digest), 32);
	assert_int_equal(orr_vm_state(vm), ORR_STOPPED);
	assert_int_equal(orr_vm_wait(vm, 0, &r), 0); /* again */
	assert_int_equal(orr_vm_pause(vm), -EBADFD);
	expect_words(vm, "stopped");
	assert_int_equal(orr_vm_stop(vm, 1000), 0); /* that is what was asked for */
	orr_vm_free(vm);

	vm = new_vm(idle_path);
	assert_int_equal(orr_vm_start(vm), 0);
	assert_int_equal(orr_vm_wait(vm, 20000, &r), 0);
	assert_int_equal(r.end, ORR_END_HALTED);
	assert_true(r.words[0]);
	orr_vm_free(vm);
}

/* A caller that was compiled with an older, shorter struct gets no more than it has room for. */
static void short_result(void **state)
{
	struct {
		struct orr_result r;
		char guard[8];
	} room;
	orr_vm *vm = new_vm(exit_path);

	memset(&room, 0x5a, sizeof(room));
	room.r.size = offsetof(struct orr_result, run_ns);
	assert_int_equal(orr_vm_start(vm), 0);
	assert_int_equal(orr_vm_wait(vm, -1, &room.r), 0);
	assert_int_equal(room.r.status, 43);
	assert_int_equal(room.r.run_ns, 0x5a5a5a5a5a5a5a5aull);
	assert_int_equal(room.guard[0], 0x5a);
	orr_vm_free(vm);
}

static void collect(void *opaque, const char *name, uint64_t value)
{
	if (!strcmp(name, "instructions"))
		*(uint64_t *)opaque = value;
}

static uint64_t instructions(orr_vm *vm)
{
	uint64_t n = UINT64_MAX;

	assert_int_equal(orr_vm_stats(vm, collect, &n), 0);
	assert_int_not_equal(n, UINT64_MAX);
	return n;
}

static void pauses(void **state)
{
	struct orr_result r = { .size = sizeof(r) };
	orr_vm *vm = new_vm(spin_path);
	uint64_t n;

	assert_int_equal(orr_vm_start(vm), 0);
	assert_int_equal(orr_vm_wait(vm, 20, &r), -ETIMEDOUT);
	assert_int_equal(orr_vm_resume(vm), -EBADFD);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(orr_vm_pause(vm), 0);
		assert_int_equal(orr_vm_state(vm), ORR_PAUSED);
		assert_int_equal(orr_vm_pause(vm), -EBADFD);
		expect_words(vm, "paused");
		n = instructions(vm);
		assert_int_equal(instructions(vm), n);
		assert_int_equal(orr_vm_balloon(vm, 1 << 20), -EBADFD);
		assert_int_equal(orr_vm_resume(vm), 0);
		assert_int_equal(orr_vm_state(vm), ORR_RUNNING);
		while (instructions(vm) == n)
			;
	}
	assert_int_equal(orr_vm_balloon(vm, 1 << 20), -ENOTSUP);
	assert_int_equal(orr_vm_connect(vm, 5, 100), -ENOTSUP);
	assert_int_equal(orr_vm_reset(vm), 0);
	assert_int_equal(orr_vm_pause(vm), 0);
	assert_int_equal(orr_vm_reset(vm), 0);
	assert_int_equal(orr_vm_state(vm), ORR_RUNNING);
	assert_int_equal(orr_vm_stop(vm, 0), 0);
	assert_int_equal(orr_vm_wait(vm, 5000, &r), 0);
	assert_int_equal(r.end, ORR_END_STOPPED);
	assert_int_equal(r.status, 143);
	orr_vm_free(vm);
}

/* With sockets, but without a driver in the guest: it never answers, and one may give up. */
static void connect_times_out(void **state)
{
	orr_vm *vm = new_vm(spin_path);

	assert_int_equal(orr_vm_set(vm, "vsock", NULL), 0);
	assert_int_equal(orr_vm_start(vm), 0);
	assert_int_equal(orr_vm_connect(vm, 5, 50), -ETIMEDOUT);
	assert_int_equal(orr_vm_pause(vm), 0);
	assert_int_equal(orr_vm_connect(vm, 5, 50), -EBADFD);
	orr_vm_free(vm); /* while it is paused */
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void stops_in_time(void **state)
{
	struct orr_result r = { .size = sizeof(r) };

	for (int forced = 0; forced < 2; forced++) {
		orr_vm *vm = new_vm(spin_path);
		double begun;

		assert_int_equal(orr_vm_start(vm), 0);
		begun = seconds();
		assert_int_equal(orr_vm_stop(vm, forced ? 0 : 300), 0);
		if (!forced)
			assert_int_equal(orr_vm_pause(vm), -EBADFD); /* it is about to end */
		assert_int_equal(orr_vm_wait(vm, 10000, &r), 0);
		assert_int_equal(r.end, ORR_END_STOPPED);
		if (seconds() - begun > 3 || (!forced && seconds() - begun < 0.3))
			fail_msg("it took %.3f s", seconds() - begun);
		orr_vm_free(vm);
	}
}

static void *stop_soon(void *opaque)
{
	while (orr_vm_state(opaque) == ORR_CREATED)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	nanosleep(&(struct timespec){ .tv_nsec = 200000000 }, NULL);
	assert_int_equal(orr_vm_stop(opaque, 10000), 0);
	return NULL;
}

/* A kernel that has to be fetched first, by a program that takes its time. */
static void stops_before_it_runs(void **state)
{
	char dir[] = "/tmp/orrery-api-XXXXXX", path[300], *old = getenv("PATH");
	struct orr_result r = { .size = sizeof(r) };
	orr_vm *vm = new_vm("debian");
	double begun = seconds();
	pthread_t t;
	FILE *f;

	assert_non_null(mkdtemp(dir));
	setenv("XDG_CACHE_HOME", dir, 1);
	snprintf(path, sizeof(path), "%s/apt-get", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "#!/bin/sh\nPATH=%s\nexec sleep 100\n", old);
	fchmod(fileno(f), 0755);
	fclose(f);
	snprintf(path, sizeof(path), "%s:%s", dir, old);
	old = strdup(old);
	setenv("PATH", path, 1);
	assert_int_equal(pthread_create(&t, NULL, stop_soon, vm), 0);
	if (orr_vm_start(vm) != 0)
		fail_msg("start: %s", orr_vm_error(vm));
	pthread_join(t, NULL);
	assert_int_equal(orr_vm_wait(vm, 20000, &r), 0);
	assert_int_equal(r.end, ORR_END_STOPPED);
	assert_int_equal(r.status, 143);
	assert_int_equal(orr_vm_state(vm), ORR_STOPPED);
	if (seconds() - begun > 20)
		fail_msg("it took %.1f s", seconds() - begun);
	orr_vm_free(vm);
	setenv("PATH", old, 1);
	unsetenv("XDG_CACHE_HOME");
	snprintf(path, sizeof(path), "rm -r %s", dir);
	assert_int_equal(system(path), 0);
	free(old);
}

static void *press(void *opaque)
{
	orr_vm *vm = opaque;
	unsigned n = 0;

	for (int i = 0; i < 100; i++)
		n += orr_vm_pause(vm) == 0 && orr_vm_resume(vm) == 0;
	return (void *)(size_t)n;
}

/* Several VMs, and several threads at each of them. */
static void many(void **state)
{
	enum { VMS = 3, THREADS = 3 };
	struct orr_result r = { .size = sizeof(r) };
	pthread_t t[VMS][THREADS];
	orr_vm *vm[VMS];

	for (int i = 0; i < VMS; i++) {
		vm[i] = new_vm(spin_path);
		assert_int_equal(orr_vm_start(vm[i]), 0);
		for (int k = 0; k < THREADS; k++)
			assert_int_equal(pthread_create(&t[i][k], NULL, press, vm[i]), 0);
	}
	for (int i = 0; i < VMS; i++) {
		size_t all = 0;

		for (int k = 0; k < THREADS; k++) {
			void *n;

			pthread_join(t[i][k], &n);
			all += (size_t)n;
		}
		assert_true(all > 0);
		assert_int_equal(orr_vm_stop(vm[i], 0), 0);
		assert_int_equal(orr_vm_wait(vm[i], 10000, &r), 0);
		orr_vm_free(vm[i]);
	}
}

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void nothing_is_left(void **state)
{
	int before;

	for (int i = 0; i < 12; i++) {
		orr_vm *vm = new_vm(i % 3 ? spin_path : "/nowhere");

		if (i == 3) /* what a process opens once is open now */
			before = open_fds();
		(void)!orr_vm_set(vm, "vsock", NULL);
		if (orr_vm_start(vm) == 0 && i % 2)
			assert_int_equal(orr_vm_pause(vm), 0);
		orr_vm_free(vm);
	}
	assert_int_equal(open_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options),
		cmocka_unit_test(before_start),
		cmocka_unit_test(cannot_start),
		cmocka_unit_test(ends_by_itself),
		cmocka_unit_test(short_result),
		cmocka_unit_test(pauses),
		cmocka_unit_test(connect_times_out),
		cmocka_unit_test(stops_in_time),
		cmocka_unit_test(stops_before_it_runs),
		cmocka_unit_test(many),
		cmocka_unit_test(nothing_is_left),
	};

	return cmocka_run_group_tests(tests, make_guests, remove_guests);
}
