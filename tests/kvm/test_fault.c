// SPDX-License-Identifier: Apache-2.0
/*
 * test_fault.c - each call of the host's KVM fails in turn
 *
 * The message must name the call, and nothing may stay behind: descriptors, threads and mappings are
 * counted.
 */
#include "rig.h"

#include "cpu/kvm/call.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

GUEST(off)

static unsigned count_dir(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Mappings of vCPU pages. */
static unsigned count_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, "kvm-vcpu") != NULL;
	fclose(f);
	return n;
}

/* A whole life of a machine. Returns whether it failed, with words in @ret. */
static bool life(char *ret, size_t size)
{
	struct rig r;
	struct err e = { 0 };
	bool failed;

	/* @ret is as long as the longest message. */
	BUG_IF(size < sizeof(e.msg));

	if (rig_new(&r, 2, &e) < 0) {
		memcpy(ret, e.msg, sizeof(e.msg));
		return true;
	}
	load_off(&r);
	failed = rig_run(&r, NULL, NULL) != ENGINE_POWEROFF;
	if (failed)
		snprintf(ret, size, "%s", r.e.ops->failure(r.e.o));
	rig_free(&r);
	return failed;
}

/* "KVM_CREATE_VM" is in the words, or "open(/dev/kvm)" as the node's name. */
static void check_words(const char *call, const char *words)
{
	char name[64];
	size_t n = strcspn(call, "(");

	if (strncmp(call, "KVM_", 4) == 0) {
		if (!strstr(words, call))
			fail_msg("%s failed: %s", call, words);
		return;
	}
	snprintf(name, sizeof(name), "%.*s", (int)n, call);
	if (!words[0])
		fail_msg("%s failed without a word", name);
}

static void test_each_call(void **state)
{
	unsigned fds, threads, maps, n = 0, tolerated = 0;
	char words[sizeof(((struct err *)0)->msg)];

	/* Once without a fault: what the C library keeps is kept now. */
	assert_false(life(words, sizeof(words)));
	fds = count_dir("/proc/self/fd");
	threads = count_dir("/proc/self/task");
	maps = count_maps();
	for (n = 1;; n++) {
		bool failed;

		words[0] = 0;
		kvm_calls_fail(n, EIO);
		failed = life(words, sizeof(words));
		const char *call = kvm_calls_failed();

		kvm_calls_fail(0, 0);
		if (!call)
			break; /* there is no nth call */
		if (failed)
			check_words(call, words);
		else
			tolerated++; /* questions whose answer is a better way, if there is one */
		assert_int_equal(count_dir("/proc/self/fd"), fds);
		assert_int_equal(count_maps(), maps);
		assert_int_equal(count_dir("/proc/self/task"), threads);
	}
	print_message("%u calls failed in turn, %u of them without harm\n", n - 1, tolerated);
	assert_true(n > 50);
	assert_true(tolerated < 20);
}

/* A signal in the middle of KVM_CREATE_VM is no failure. */
static void test_interrupted(void **state)
{
	char words[sizeof(((struct err *)0)->msg)];
	u64 at = 0;

	for (u64 n = 1; !at; n++) {
		kvm_calls_fail(n, EINTR);
		life(words, sizeof(words));
		if (!kvm_calls_failed())
			break;
		if (strcmp(kvm_calls_failed(), "KVM_CREATE_VM") == 0)
			at = n;
	}
	assert_true(at > 0);
	kvm_calls_fail(at, EINTR);
	assert_false(life(words, sizeof(words)));
	kvm_calls_fail(0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_call),
		cmocka_unit_test(test_interrupted),
	};

	return rig_has_kvm() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
