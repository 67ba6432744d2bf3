// SPDX-License-Identifier: Apache-2.0
/*
 * test_sandbox_root.c - what is left of the host's files in a mount namespace, for kernels without Landlock
 *
 * That a VM does all its work in there is in tests/cli/test_sandbox.py.
 */
#include "vm/sandbox_priv.h"

#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define NO_RIGHT 99 /* the child's word for: this takes root */

static char top[64];

static void make(const char *name, bool dir)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", top, name);
	if (dir) {
		assert_int_equal(mkdir(path, 0755), 0);
		return;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_true(fd >= 0 && write(fd, "text", 4) == 4);
	close(fd);
}

static int setup(void **s)
{
	static const char *const dirs[] = { "rw", "rw/deep", "ro", "out" };
	static const char *const files[] = { "rw/file", "rw/deep/file", "ro/file", "out/file",
					     "conf" };

	snprintf(top, sizeof(top), "/tmp/orrery-root-XXXXXX");
	assert_non_null(mkdtemp(top));
	for (unsigned i = 0; i < ARRAY_LEN(dirs); i++)
		make(dirs[i], true);
	for (unsigned i = 0; i < ARRAY_LEN(files); i++)
		make(files[i], false);
	return 0;
}

static int teardown(void **s)
{
	return path_remove_tree(top);
}

static int open_place(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", top, name);
	return open(path, O_PATH | O_CLOEXEC);
}

/* What open(2) of a name, below @top or absolute, says: 0 or the error. */
static int opens(const char *name, int flags)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s%s%s", name[0] == '/' ? "" : top, name[0] == '/' ? "" : "/",
		 name);
	fd = open(path, flags | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

/* Whether @name from the directory @fd leads nowhere. */
static bool nowhere(int fd, const char *name)
{
	return openat(fd, name, O_RDONLY | O_CLOEXEC) < 0 && errno == ENOENT;
}

/* In a child: the number of the first thing that is not as it should be, or 0. */
static int inside(const char *const *names, unsigned n, const enum sandbox_access *how)
{
	struct sandbox_path p[4];
	char self[32];
	int r;

	for (unsigned i = 0; i < n; i++)
		p[i] = (struct sandbox_path){ open_place(names[i]), how[i] };
	r = sandbox_root_new(p, n);
	if (r == -EPERM)
		return NO_RIGHT;
	if (r < 0)
		return 1;
	/* Until it is entered, all is as before. */
	if (opens("out/file", O_RDONLY) || opens("/etc/passwd", O_RDONLY))
		return 2;
	if (sandbox_root_enter() < 0)
		return 3;
	if (opens("out/file", O_RDONLY) != ENOENT || opens("/etc/passwd", O_RDONLY) != ENOENT)
		return 4;
	if (opens("rw/file", O_RDWR) || opens("rw/new", O_RDWR | O_CREAT) ||
	    opens("rw/deep/file", O_RDWR))
		return 5;
	if (opens("ro/file", O_RDONLY) || opens("ro/file", O_RDWR) != EROFS ||
	    opens("ro/new", O_RDWR | O_CREAT) != EROFS)
		return 6;
	if (opens("conf", O_RDONLY) || opens("conf", O_RDWR) != EROFS)
		return 7;
	if (opens("new", O_RDWR | O_CREAT) != EROFS || opens("/new", O_RDWR | O_CREAT) != EROFS)
		return 8;
	/* Their descriptors are still good, and lead nowhere above. */
	if (openat(p[0].fd, "file", O_RDWR | O_CLOEXEC) < 0 || !nowhere(p[0].fd, "../out/file") ||
	    !nowhere(p[0].fd, "../../../../../etc/passwd"))
		return 9;
	if (openat(p[1].fd, "file", O_RDWR | O_CLOEXEC) >= 0 || errno != EROFS ||
	    !nowhere(p[1].fd, "../out/file"))
		return 10;
	/* How a descriptor is opened again. */
	snprintf(self, sizeof(self), "/proc/self/fd/%d", p[2].fd);
	if (opens(self, O_RDONLY))
		return 11;
	return 0;
}

static int in_child(const char *const *names, unsigned n, const enum sandbox_access *how)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid)
		_exit(inside(names, n, how));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_places(void **s)
{
	static const char *const names[] = { "rw", "ro", "conf", "rw/deep" };
	static const enum sandbox_access how[] = { SANDBOX_CHANGE, SANDBOX_READ, SANDBOX_READ,
						   SANDBOX_REMOVE };
	char path[128];
	int r = in_child(names, 4, how);

	if (r == NO_RIGHT) {
		print_message("skip: a mount namespace takes CAP_SYS_ADMIN; run it as root\n");
		skip();
	}
	assert_int_equal(r, 0);
	/* What was written is the host's, and nothing was mounted here. */
	snprintf(path, sizeof(path), "%s/rw/new", top);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(opens("out/file", O_RDWR), 0);
}

/* A place that was moved after it was opened is not taken for another one. */
static void test_moved(void **s)
{
	struct sandbox_path p = { open_place("rw"), SANDBOX_CHANGE };
	char from[128], to[128];
	int status;
	pid_t pid;

	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		snprintf(from, sizeof(from), "%s/rw", top);
		snprintf(to, sizeof(to), "%s/gone", top);
		(void)!rename(from, to);
		path_remove_tree(to);
		_exit(sandbox_root_new(&p, 1) < 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	close(p.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_places, setup, teardown),
		cmocka_unit_test_setup_teardown(test_moved, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
