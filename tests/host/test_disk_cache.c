// SPDX-License-Identifier: Apache-2.0
/*
 * test_disk_cache.c - files that are made once, by several processes at a time
 */
#include "host/disk_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char root[64], dir[80];
static unsigned made;
static bool fail, wait_for_kill;
static char waited[64];

static int make(void *opaque, const char *path, struct err *e)
{
	int fd = open(path, O_WRONLY | O_APPEND);
	struct stat st;

	made++;
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size != 0)
		return err_set(e, -EIO, "not an empty file");
	if (write(fd, "contents", 8) != 8)
		return err_set(e, -EIO, "write");
	close(fd);
	while (wait_for_kill)
		pause();
	return fail ? err_set(e, -EIO, "as it was asked to") : 0;
}

static void waits(void *opaque, const char *who)
{
	snprintf(waited, sizeof(waited), "%s", who);
}

static int get(const char *key, unsigned wait_s, struct err *e)
{
	struct disk_cache_cfg c = {
		.dir = dir, .key = key, .make = make, .waits = waits, .wait_s = wait_s
	};
	char *path = NULL, text[16] = "";
	int r = disk_cache_get(&c, e, &path), fd;

	if (r < 0)
		return r;
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, text, sizeof(text)), 8);
	assert_string_equal(text, "contents");
	close(fd);
	free(path);
	return 0;
}

static bool there(const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return access(path, F_OK) == 0;
}

static void once(void **s)
{
	struct err e;

	made = 0;
	for (int i = 0; i < 3; i++)
		assert_int_equal(get("once", 1, &e), 0);
	assert_int_equal(made, 1);
	assert_false(there("once.tmp"));
}

static void failure_leaves_nothing(void **s)
{
	struct err e = { 0 };

	fail = true;
	assert_int_equal(get("failing", 1, &e), -EIO);
	assert_string_equal(e.msg, "as it was asked to");
	assert_false(there("failing"));
	assert_false(there("failing.tmp"));
	fail = false;
	assert_int_equal(get("failing", 1, &e), 0);
}

/* A maker that is killed leaves half a file, which the next one begins anew. */
static void killed(void **s)
{
	struct err e;
	int status;
	pid_t pid;

	wait_for_kill = true;
	pid = fork();
	if (pid == 0) {
		alarm(60);
		_exit(get("killed", 1, &e) != 0);
	}
	wait_for_kill = false;
	while (!there("killed.tmp"))
		sched_yield();
	/* While it makes it, we have no time to wait, and learn who it is. */
	while (get("killed", 0, &e) != -ETIMEDOUT)
		assert_false(there("killed"));
	snprintf(waited, sizeof(waited), "process %ld", (long)pid);
	assert_non_null(strstr(e.msg, waited));
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(get("killed", 10, &e), 0);
	assert_false(there("killed.tmp"));
}

/* Eight at once: one makes it. */
static void many(void **s)
{
	unsigned makers = 0;
	pid_t pid[8];
	int status;
	struct err e;

	for (int i = 0; i < 8; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			made = 0;
			_exit(get("many", 30, &e) < 0 ? 100 : (int)made);
		}
	}
	for (int i = 0; i < 8; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
		makers += (unsigned)WEXITSTATUS(status);
	}
	assert_int_equal(makers, 1);
}

static void no_place(void **s)
{
	struct disk_cache_cfg c = { .dir = "/proc/orrery/x", .key = "k", .make = make };
	struct err e = { 0 };
	char *path;

	assert_true(disk_cache_get(&c, &e, &path) < 0);
	assert_non_null(strstr(e.msg, "cannot write the cache /proc/orrery/x"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(once),	    cmocka_unit_test(failure_leaves_nothing),
		cmocka_unit_test(killed),   cmocka_unit_test(many),
		cmocka_unit_test(no_place),
	};
	char cmd[128];
	int r;

	snprintf(root, sizeof(root), "/tmp/orrery-cache-XXXXXX");
	if (!mkdtemp(root))
		return 1;
	snprintf(dir, sizeof(dir), "%s/a/b", root);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(cmd, sizeof(cmd), "rm -r %s", root);
	return system(cmd) != 0 ? 1 : r;
}
