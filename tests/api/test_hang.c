// SPDX-License-Identifier: Apache-2.0
/*
 * test_hang.c - a VM whose disk's file system does not answer ends all the same
 *
 * preadv(2) of this program, and so of the library, waits while `held` says so: as it does on a
 * network file system whose server is gone.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include <orrery/orrery.h>

#define WAIT_MS 100000 /* for a guest to boot beside other tests */
#define ARGV(...) ((const char *const[]){ __VA_ARGS__, NULL })

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static bool held;
static unsigned waiting;
static char disk[] = "/tmp/orrery-hang-XXXXXX";

ssize_t preadv(int fd, const struct iovec *iov, int n, off_t at);

ssize_t preadv(int fd, const struct iovec *iov, int n, off_t at)
{
	pthread_mutex_lock(&lock);
	waiting++;
	pthread_cond_broadcast(&cond);
	while (held)
		pthread_cond_wait(&cond, &lock);
	waiting--;
	pthread_mutex_unlock(&lock);
	return syscall(SYS_preadv, fd, iov, n, at, 0);
}

static void hold(bool val)
{
	pthread_mutex_lock(&lock);
	held = val;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static unsigned entries(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* What has not been read before. It ends with the VM. */
static void *read_disk(void *opaque)
{
	struct orr_exec x = ORR_EXEC_INIT;

	x.argv = ARGV("dd", "if=/dev/vda", "bs=4096", "skip=1000", "count=1");
	x.wait_ms = WAIT_MS;
	orr_vm_exec(opaque, &x, NULL);
	return NULL;
}

static orr_vm *start(const char *clock, pthread_t *reader)
{
	struct orr_exec x = ORR_EXEC_INIT;
	orr_vm *vm = orr_vm_new();

	assert_non_null(vm);
	assert_int_equal(orr_vm_set(vm, "hidden", NULL), 0);
	assert_int_equal(orr_vm_set(vm, "vsock", NULL), 0);
	assert_int_equal(orr_vm_set(vm, "clock", clock), 0);
	assert_int_equal(orr_vm_set(vm, "disk", disk), 0);
	assert_int_equal(orr_vm_set_command(vm, ARGV("sleep", "100000")), 0);
	if (orr_vm_start(vm) < 0)
		fail_msg("start: %s", orr_vm_error(vm));
	x.argv = ARGV("sh", "-c", "until [ -b /dev/vda ]; do sleep 0.1; done");
	x.wait_ms = WAIT_MS;
	assert_int_equal(orr_vm_exec(vm, &x, NULL), 0);
	hold(true);
	assert_int_equal(pthread_create(reader, NULL, read_disk, vm), 0);
	pthread_mutex_lock(&lock);
	while (!waiting)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
	return vm;
}

static void expect_words(orr_vm *vm, const char *words)
{
	if (!strstr(orr_vm_error(vm), words))
		fail_msg("\"%s\" is not in \"%s\"", words, orr_vm_error(vm));
}

static void stop(const char *clock, const char *who)
{
	pthread_t reader;
	orr_vm *vm = start(clock, &reader);
	double begun = seconds();
	int r;

	r = orr_vm_stop(vm, 0);
	assert_true(r == 0 || r == -EIO);
	assert_int_equal(orr_vm_wait(vm, WAIT_MS, NULL), -EIO);
	expect_words(vm, who);
	expect_words(vm, "disk0");
	if (seconds() - begun > 15)
		fail_msg("it took %.1f s", seconds() - begun);
	assert_int_equal(orr_vm_state(vm), ORR_FAILED);
	assert_true(orr_vm_pause(vm) < 0);
	assert_int_equal(orr_vm_wait(vm, 0, NULL), -EIO);
	/* Once it can go on, it ends in order, also without its handle. */
	if (!strcmp(clock, "real")) {
		hold(false);
		pthread_join(reader, NULL);
		orr_vm_free(vm);
	} else {
		/* The reader has nothing but its socket by now. */
		orr_vm_free(vm);
		hold(false);
		pthread_join(reader, NULL);
	}
	for (int i = 0; entries("/proc/self/task") > 3 && i < 1000; i++)
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	assert_int_equal(entries("/proc/self/task"), 3); /* with . and .. */
}

static void worker(void **state)
{
	stop("real", "a worker");
}

static void vm_thread(void **state)
{
	stop("virtual", "a request");
}

/* Nobody waits for it before: an answer that comes late is in time. */
static void late_is_in_time(void **state)
{
	struct orr_result r = { .size = sizeof(r) };
	pthread_t reader;
	orr_vm *vm = start("real", &reader);

	nanosleep(&(struct timespec){ .tv_sec = 6 }, NULL);
	assert_int_equal(orr_vm_state(vm), ORR_RUNNING);
	hold(false);
	assert_int_equal(orr_vm_stop(vm, 0), 0);
	assert_int_equal(orr_vm_wait(vm, WAIT_MS, &r), 0);
	assert_int_equal(r.end, ORR_END_STOPPED);
	pthread_join(reader, NULL);
	orr_vm_free(vm);
}

static int begin(void **state)
{
	int fd = mkstemp(disk);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 16 << 20), 0);
	close(fd);
	return 0;
}

static int end(void **state)
{
	unlink(disk);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(worker),
		cmocka_unit_test(vm_thread),
		cmocka_unit_test(late_is_in_time),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
