// SPDX-License-Identifier: Apache-2.0
/*
 * test_hostinfo.c - limits, memory and rights of hosts that are made of files
 */
#include "host/hostinfo.h"

#include "base/path.h"
#include "fake_file.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char root[64];

static int setup(void **s)
{
	snprintf(root, sizeof(root), "/tmp/orrery-info-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **s)
{
	return path_remove_tree(root);
}

static void put(const char *name, const char *text)
{
	fake_file(root, text, "%s", name);
}

static struct host_cgroup cgroup(void)
{
	struct host_cgroup c;

	host_cgroup_read(root, &c);
	return c;
}

#define V2_MOUNT "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"

/* The tightest limit on the way up counts, whichever level has it. */
static void version2(void **s)
{
	struct host_cgroup c;

	put("/proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda rw\n" V2_MOUNT);
	put("/proc/self/cgroup", "0::/user.slice/ci.scope\n");
	put("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu memory\n");
	put("/sys/fs/cgroup/user.slice/ci.scope/cpu.max", "max 100000\n");
	c = cgroup();
	assert_int_equal(c.version, 2);
	assert_string_equal(c.controllers, "cpuset cpu memory");
	assert_int_equal(c.quota_us, 0);
	put("/sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n");
	c = cgroup();
	assert_int_equal(c.quota_us, 150000);
	assert_string_equal(c.limit, "/sys/fs/cgroup/user.slice/cpu.max");
	put("/sys/fs/cgroup/user.slice/ci.scope/cpu.max", "50000 50000\n");
	c = cgroup();
	assert_int_equal(c.quota_us, 50000);
	assert_int_equal(c.period_us, 50000);
	put("/sys/fs/cgroup/user.slice/ci.scope/cpu.max", "400000 50000\n");
	assert_int_equal(cgroup().quota_us, 150000);
	put("/sys/fs/cgroup/user.slice/cpu.max", "banana\n");
	put("/sys/fs/cgroup/user.slice/ci.scope/cpu.max", "5 0\n");
	assert_int_equal(cgroup().quota_us, 0);
}

/* In a container: a part of the hierarchy is mounted, with and without a namespace for it. */
static void container(void **s)
{
	put("/proc/self/mountinfo",
	    "30 24 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
	put("/proc/self/cgroup", "0::/docker/abc/inner\n");
	put("/sys/fs/cgroup/cpu.max", "100000 100000\n");
	put("/sys/fs/cgroup/inner/cpu.max", "20000 100000\n");
	assert_int_equal(cgroup().quota_us, 20000);
	put("/proc/self/mountinfo", V2_MOUNT);
	put("/proc/self/cgroup", "0::/\n");
	assert_int_equal(cgroup().quota_us, 100000);
	/* A group above what a namespace shows. */
	put("/proc/self/cgroup", "0::/../other\n");
	assert_int_equal(cgroup().quota_us, 100000);
	put("/proc/self/mountinfo",
	    "30 24 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
	put("/proc/self/cgroup", "0::/elsewhere\n");
	assert_int_equal(cgroup().quota_us, 100000);
}

static void version1(void **s)
{
	struct host_cgroup c;

	put("/proc/self/mountinfo",
	    "31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
	    "32 24 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
	    "33 24 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
	put("/proc/self/cgroup", "4:cpuset:/set\n3:cpu,cpuacct:/jobs\n0::/\n");
	put("/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "-1\n");
	put("/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us", "100000\n");
	c = cgroup();
	assert_int_equal(c.version, 1);
	assert_int_equal(c.quota_us, 0);
	put("/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "250000\n");
	c = cgroup();
	assert_int_equal(c.quota_us, 250000);
	assert_non_null(strstr(c.limit, "/jobs/cpu.cfs_quota_us"));
}

static void none(void **s)
{
	struct host_cgroup c = cgroup();
	struct host_memory m;
	char clock[HOST_CLOCK_MAX];

	assert_int_equal(c.version, 0);
	assert_int_equal(c.quota_us, 0);
	host_memory_read(root, &m);
	assert_int_equal(m.total, 0);
	assert_string_equal(m.thp, "");
	assert_false(host_has_cap(root, 12));
	assert_false(host_clock_by_tsc(root, clock));
	assert_string_equal(clock, "unknown");
	put("/sys/devices/system/clocksource/clocksource0/current_clocksource", "kvm-clock\n");
	assert_true(host_clock_by_tsc(root, clock));
	put("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
	assert_false(host_clock_by_tsc(root, clock));
	assert_string_equal(clock, "hpet");
}

static void memory(void **s)
{
	struct host_memory m;

	put("/proc/meminfo", "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    600 kB\n");
	put("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "10\n");
	put("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "7\n");
	put("/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "3\n");
	put("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
	host_memory_read(root, &m);
	assert_int_equal(m.total, 1000 << 10);
	assert_int_equal(m.available, 600 << 10);
	assert_int_equal(m.huge2, 10);
	assert_int_equal(m.huge2_free, 4);
	assert_int_equal(m.huge1g, 0);
	assert_string_equal(m.thp, "madvise");
	put("/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "9\n");
	put("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise never\n");
	host_memory_read(root, &m);
	assert_int_equal(m.huge2_free, 0);
	assert_string_equal(m.thp, "");
}

static void rights(void **s)
{
	put("/proc/self/status",
	    "Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t0000000000001000\n");
	assert_true(host_has_cap(root, 12));
	assert_false(host_has_cap(root, 23));
	assert_false(host_has_cap(root, 64));
}

/* On this machine: whatever they say, they say it and leave nothing behind. */
static void tried(void **s)
{
	char dir[128];
	int can;

	assert_int_equal(host_exec_memory(), 0); /* the tests of the CPU need it too */
	can = host_reflink(root);
	assert_true(can == 0 || can == 1 || can == -EOPNOTSUPP);
	snprintf(dir, sizeof(dir), "%s/not/there/yet", root);
	assert_int_equal(host_reflink(dir), can);
	assert_int_equal(rmdir(root), 0); /* it is empty */
	assert_int_equal(mkdir(root, 0700), 0);
	assert_true(host_io_uring() <= 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(version2, setup, teardown),
		cmocka_unit_test_setup_teardown(container, setup, teardown),
		cmocka_unit_test_setup_teardown(version1, setup, teardown),
		cmocka_unit_test_setup_teardown(none, setup, teardown),
		cmocka_unit_test_setup_teardown(memory, setup, teardown),
		cmocka_unit_test_setup_teardown(rights, setup, teardown),
		cmocka_unit_test_setup_teardown(tried, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
