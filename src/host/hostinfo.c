// SPDX-License-Identifier: Apache-2.0
/*
 * hostinfo.c - what this host has and lets this process do: facts, without a judgement
 *
 * How it works (limits of CPU time)
 * /proc/self/cgroup says where in each hierarchy this process is, /proc/self/mountinfo where that
 * hierarchy is mounted and which part of it. A limit of any group on the way up counts, so the tightest
 * is looked for: cpu.max in version 2, cpu.cfs_quota_us and cpu.cfs_period_us in version 1. Above the
 * mount (in a container, the host's part) there may be tighter ones, which nobody in here can see.
 */
#include "host/hostinfo.h"

#include "host/cpulist.h"
#include "host/hostfile.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TEXT 16384u
#define PATH 1024u
#define LEVELS_MAX 64u /* of groups in groups */

/* --- cgroups --------------------------------------------------------------------------------- */

/* Whether @word is one of the words of @list, which @sep separates. */
static bool has_word(const char *list, char sep, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; p; p = strchr(p, sep)) {
		p += *p == sep;
		if (!strncmp(p, word, n) && (!p[n] || p[n] == sep))
			return true;
	}
	return false;
}

/* This process's group in version 2 (@v1 NULL) or in the hierarchy of controller @v1. */
static bool group_of(const char *root, const char *v1, char ret[PATH])
{
	char text[TEXT], *p = text;

	if (hostfile_text(text, sizeof(text), root, "/proc/self/cgroup") <= 0)
		return false;
	/* "0::/a/b", "4:cpu,cpuacct:/a/b" */
	for (char *line; (line = strsep(&p, "\n"));) {
		char *controllers = strchr(line, ':'), *path;

		path = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!path || path[1] != '/')
			continue;
		*path++ = 0;
		controllers++;
		if (v1 ? has_word(controllers, ',', v1) : !strncmp(line, "0:", 2)) {
			snprintf(ret, PATH, "%s", path);
			return true;
		}
	}
	return false;
}

/* Where that hierarchy is mounted, and from which of its groups on. */
static bool mount_of(const char *root, const char *v1, char ret_at[PATH], char ret_from[PATH])
{
	char text[8 * TEXT], *p = text;

	if (hostfile_text(text, sizeof(text), root, "/proc/self/mountinfo") <= 0)
		return false;
	/* proc(5): "36 35 98:0 /from /at options ... - type source options" */
	for (char *line; (line = strsep(&p, "\n"));) {
		char *tail = strstr(line, " - "), type[32], options[PATH];
		char at[PATH], from[PATH];

		if (!tail || sscanf(line, "%*s %*s %*s %1023s %1023s", from, at) != 2 ||
		    sscanf(tail, " - %31s %*s %1023s", type, options) != 2)
			continue;
		if (v1 ? strcmp(type, "cgroup") != 0 || !has_word(options, ',', v1)
		       : strcmp(type, "cgroup2") != 0)
			continue;
		memcpy(ret_at, at, PATH);
		memcpy(ret_from, from, PATH);
		return true;
	}
	return false;
}

static void limit_here(const char *root, const char *dir, bool v2, struct host_cgroup *c)
{
	unsigned long long quota = 0, period = 0;
	char text[64];

	if (v2) {
		/* "max 100000", "150000 100000" */
		if (hostfile_text(text, sizeof(text), root, "%s/cpu.max", dir) <= 0 ||
		    sscanf(text, "%llu %llu", &quota, &period) != 2)
			return;
	} else {
		/* -1: no limit */
		quota = hostfile_u64(0, root, "%s/cpu.cfs_quota_us", dir);
		period = hostfile_u64(0, root, "%s/cpu.cfs_period_us", dir);
	}
	if (!quota || !period ||
	    (c->quota_us &&
	     (double)quota / (double)period >= (double)c->quota_us / (double)c->period_us))
		return;
	c->quota_us = quota;
	c->period_us = period;
	snprintf(c->limit, sizeof(c->limit), "%.200s/%s", dir, v2 ? "cpu.max" : "cpu.cfs_quota_us");
}

/* From the group of this process up to the mount. */
static void limits(const char *root, const char *v1, struct host_cgroup *c)
{
	char group[PATH], at[PATH], from[PATH], dir[2 * PATH];
	size_t skip;

	if (!group_of(root, v1, group) || !mount_of(root, v1, at, from))
		return;
	skip = strcmp(from, "/") ? strlen(from) : 0;
	/* A group outside of what is mounted: only the mount itself can be asked. */
	if (strncmp(group, from, skip) != 0 || (skip && group[skip] && group[skip] != '/') ||
	    strstr(group, "/.."))
		group[skip = 0] = 0;
	snprintf(dir, sizeof(dir), "%s%s", at, group + skip);
	for (unsigned i = 0; i < LEVELS_MAX; i++) {
		char *slash = strrchr(dir, '/');

		limit_here(root, dir, !v1, c);
		if (strlen(dir) <= strlen(at) || !slash)
			return;
		*slash = 0;
	}
}

void host_cgroup_read(const char *root, struct host_cgroup *ret)
{
	struct host_cgroup c = { 0 };
	char at[PATH], from[PATH];

	if (mount_of(root, NULL, at, from)) {
		hostfile_text(c.controllers, sizeof(c.controllers), root, "%s/cgroup.controllers",
			      at);
		c.version = 2;
	}
	/* A hybrid host has both, and version 1 has the controllers that matter. */
	if (mount_of(root, "cpu", at, from))
		c.version = 1;
	limits(root, NULL, &c);
	limits(root, "cpu", &c);
	*ret = c;
}

/* --- memory ---------------------------------------------------------------------------------- */

static u64 pool(const char *root, unsigned kb, const char *what)
{
	return hostfile_u64(0, root, "/sys/kernel/mm/hugepages/hugepages-%ukB/%s", kb, what);
}

void host_memory_read(const char *root, struct host_memory *ret)
{
	struct host_memory m = { .huge2 = pool(root, 2048, "nr_hugepages"),
				 .huge2_free = pool(root, 2048, "free_hugepages"),
				 .huge1g = pool(root, 1048576, "nr_hugepages"),
				 .huge1g_free = pool(root, 1048576, "free_hugepages") };
	char text[TEXT], *open, *close;

	/* What is reserved for mappings that exist is free no more. */
	m.huge2_free -= MIN(m.huge2_free, pool(root, 2048, "resv_hugepages"));
	m.huge1g_free -= MIN(m.huge1g_free, pool(root, 1048576, "resv_hugepages"));
	hostfile_text(text, sizeof(text), root, "/proc/meminfo");
	m.total = hostfile_field(text, "MemTotal", 0) << 10;
	m.available = hostfile_field(text, "MemAvailable", 0) << 10;
	/* "always [madvise] never" */
	hostfile_text(text, sizeof(text), root, "/sys/kernel/mm/transparent_hugepage/enabled");
	open = strchr(text, '[');
	close = open ? strchr(open, ']') : NULL;
	if (close)
		snprintf(m.thp, sizeof(m.thp), "%.*s", (int)MIN(close - open - 1, 15), open + 1);
	*ret = m;
}

bool host_clock_by_tsc(const char *root, char ret[HOST_CLOCK_MAX])
{
	/* Hypervisors' pages say how to read it; Linux takes these where it is stable only. */
	static const char *const by_tsc[] = { "tsc", "kvm-clock", "hyperv_clocksource_tsc_page" };

	if (hostfile_text(ret, HOST_CLOCK_MAX, root,
			  "/sys/devices/system/clocksource/clocksource0/current_clocksource") <= 0)
		snprintf(ret, HOST_CLOCK_MAX, "unknown");
	for (unsigned i = 0; i < ARRAY_LEN(by_tsc); i++)
		if (!strcmp(ret, by_tsc[i]))
			return true;
	return false;
}

/* --- rights ---------------------------------------------------------------------------------- */

bool host_has_cap(const char *root, unsigned cap)
{
	char text[TEXT], *p;

	hostfile_text(text, sizeof(text), root, "/proc/self/status");
	p = strstr(text, "\nCapEff:");
	return p && cap < 64 && strtoull(p + strlen("\nCapEff:"), NULL, 16) >> cap & 1;
}

bool host_can_fifo(void)
{
	struct rlimit rl;

	return host_has_cap("", CAP_SYS_NICE) ||
	       (getrlimit(RLIMIT_RTPRIO, &rl) == 0 && rl.rlim_cur >= 2);
}

/* --- what can only be tried ------------------------------------------------------------------ */

/* A file without a name in @dir, or in the nearest directory above that is there. */
static int temporary(const char *dir)
{
	char path[4096];
	int fd;

	if ((size_t)snprintf(path, sizeof(path), "%s", dir) >= sizeof(path))
		return -ENAMETOOLONG;
	for (;;) {
		char *slash = strrchr(path, '/');

		fd = open(path[0] ? path : "/", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (fd >= 0 || errno != ENOENT || !slash)
			return fd >= 0 ? fd : -errno;
		*slash = 0;
	}
}

int host_reflink(const char *dir)
{
	char block[4096] = { 1 };
	int a = temporary(dir), b = a < 0 ? a : temporary(dir), r;

	if (b < 0)
		r = b;
	else if (write(a, block, sizeof(block)) != (ssize_t)sizeof(block))
		r = -EIO;
	else
		r = ioctl(b, FICLONE, a) == 0;
	if (a >= 0)
		close(a);
	if (b >= 0)
		close(b);
	return r;
}

int host_io_uring(void)
{
	struct io_uring_params p = { 0 };
	long fd = syscall(SYS_io_uring_setup, 1u, &p);

	if (fd < 0)
		return -errno;
	close((int)fd);
	return 0;
}

int host_exec_memory(void)
{
	static const u8 ret_42[] = { 0xb8, 42, 0, 0, 0, 0xc3 }; /* MOV EAX, 42; RET */
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *x = mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1, 0), *w;
	int (*fn)(void), r = 0;

	if (x == MAP_FAILED)
		return -errno;
	w = mremap(x, 0, page, MREMAP_MAYMOVE); /* a second view of it */
	if (w == MAP_FAILED || mprotect(w, page, PROT_READ | PROT_WRITE) < 0) {
		r = -errno;
	} else {
		memcpy(w, ret_42, sizeof(ret_42));
		memcpy(&fn, &x, sizeof(fn)); /* ISO C has no cast for it */
		r = fn() == 42 ? 0 : -EIO;
	}
	if (w != MAP_FAILED)
		munmap(w, page);
	munmap(x, page);
	return r;
}
