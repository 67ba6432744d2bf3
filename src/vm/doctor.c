// SPDX-License-Identifier: Apache-2.0
/*
 * doctor.c - what Orrery can do on this host, and what each lack costs
 *
 * Each check is a function that learns one thing and adds one line. A lack is only what somebody could
 * do something about or must know of; everything has a cost in words, or is no lack.
 */
#include "vm/doctor.h"

#include "cpu/kvm/probe.h"
#include "cpu/soft/soft.h"
#include "host/claim.h"
#include "host/cpulock.h"
#include "host/hostfile.h"
#include "host/hostinfo.h"
#include "host/net.h"
#include "image/closure.h"
#include "image/initramfs.h"
#include "image/kcache.h"
#include "isa/x86/state.h"
#include "vm/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define SBIN "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin"

static struct doctor_check *add(struct doctor_report *r, const char *group, const char *name,
				enum doctor_state state, const char *fmt, ...) attr_printf(5, 6);

static struct doctor_check *add(struct doctor_report *r, const char *group, const char *name,
				enum doctor_state state, const char *fmt, ...)
{
	struct doctor_check *c = &r->check[r->n];
	va_list ap;

	BUG_IF(r->n == DOCTOR_CHECKS_MAX);
	r->n++;
	*c = (struct doctor_check){ .group = group, .name = name, .state = state };
	va_start(ap, fmt);
	vsnprintf(c->found, sizeof(c->found), fmt, ap);
	va_end(ap);
	return c;
}

/* What it costs, if it is a lack at all. */
static void cost(struct doctor_check *c, const char *fmt, ...) attr_printf(2, 3);

static void cost(struct doctor_check *c, const char *fmt, ...)
{
	va_list ap;

	if (c->state == DOCTOR_OK || c->state == DOCTOR_INFO)
		return;
	va_start(ap, fmt);
	vsnprintf(c->cost, sizeof(c->cost), fmt, ap);
	va_end(ap);
}

static enum doctor_state ok_if(bool good)
{
	return good ? DOCTOR_OK : DOCTOR_LACKS;
}

/* --- engines --------------------------------------------------------------------------------- */

static bool check_soft(struct doctor_report *r)
{
	static const char group[] = "engines", name[] = "built-in CPU";
	const char *lacks = soft_host_lacks(XCR0_AVX);
	int exec = host_exec_memory();
	struct doctor_check *c;

	if (!__builtin_cpu_supports("sse4.2")) {
		c = add(r, group, name, DOCTOR_FAILS, "this processor has no SSE4.2");
		cost(c,
		     "the built-in CPU executes the guest's instructions as the host's, and does "
		     "without none of x86-64-v2");
		return false;
	}
	if (exec < 0) {
		c = add(r, group, name, DOCTOR_FAILS, "generated code cannot be executed: %s",
			strerror(-exec));
		cost(c, "the built-in CPU does not run; a security module may forbid it (SELinux: "
			"execmem)");
		return false;
	}
	if (lacks) {
		c = add(r, group, name, DOCTOR_LACKS, "runs x86-64-v1 and x86-64-v2 guests; no %s",
			lacks);
		cost(c, "--cpu-model x86-64-v3 is refused");
	} else {
		add(r, group, name, DOCTOR_OK, "runs x86-64-v1, x86-64-v2 and x86-64-v3 guests");
	}
	return true;
}

static bool check_kvm(struct doctor_report *r)
{
	struct kvm_probe p;
	struct doctor_check *c;
	struct stat sb;

	kvm_probe(&p);
	c = add(r, "engines", "KVM", ok_if(p.verdict == KVM_VERDICT_GOOD), "%s", p.words);
	if (p.verdict == KVM_VERDICT_DENIED && stat("/dev/kvm", &sb) == 0)
		snprintf(c->found, sizeof(c->found),
			 "/dev/kvm is there, but not for this user (mode %03o, group %u)",
			 sb.st_mode & 0777u, (unsigned)sb.st_gid);
	cost(c, "--engine auto is soft: guests do not run at hardware speed, but they run the same "
		"everywhere");
	return p.verdict == KVM_VERDICT_GOOD;
}

/* --- processors ------------------------------------------------------------------------------ */

static const char processors[] = "processors";

static const char *plural(u64 n)
{
	return n == 1 ? "" : "s";
}

static void check_topology(struct doctor_report *r, const struct host_topo *t)
{
	struct cpulist allowed;
	char text[128], size[48] = "";
	struct doctor_check *c;

	if (t->llc[0].size)
		snprintf(size, sizeof(size), " of %llu MiB",
			 (unsigned long long)t->llc[0].size >> 20);
	add(r, processors, "topology", DOCTOR_OK,
	    "%u package%s, %u NUMA node%s, %u last-level cache%s%s, %u core%s, %s", t->packages,
	    plural(t->packages), t->nnodes, plural(t->nnodes), t->nllcs, plural(t->nllcs), size,
	    t->cores, plural(t->cores), t->smt ? "SMT" : "no SMT");
	if (cpulist_allowed(&allowed) < 0)
		return;
	cpulist_and(&allowed, &t->online);
	c = add(r, processors, "allowed CPUs", ok_if(cpulist_count(&allowed) > 1), "%u of %u (%s)",
		cpulist_count(&allowed), cpulist_count(&t->online),
		cpulist_format(&allowed, text, sizeof(text)));
	cost(c, "no --perf, which takes a CPU for each vCPU and one to serve them");
}

static void check_quota(struct doctor_report *r, const struct host_cgroup *g)
{
	struct doctor_check *c;

	if (!g->quota_us) {
		add(r, processors, "CPU limit", DOCTOR_OK, "none by a cgroup that can be seen");
		return;
	}
	c = add(r, processors, "CPU limit", DOCTOR_LACKS, "%.2f CPUs by %s",
		(double)g->quota_us / (double)g->period_us, g->limit);
	cost(c, "all runs together are stopped for the rest of each %llu ms once that is used",
	     (unsigned long long)g->period_us / 1000);
}

static void check_realtime(struct doctor_report *r)
{
	struct rlimit rl = { 0 };
	bool cap = host_has_cap("", CAP_SYS_NICE);
	struct doctor_check *c;

	getrlimit(RLIMIT_RTPRIO, &rl);
	c = add(r, processors, "real-time priority", ok_if(host_can_fifo()),
		"%s CAP_SYS_NICE, RLIMIT_RTPRIO %llu", cap ? "has" : "no",
		(unsigned long long)rl.rlim_cur);
	cost(c, "with --perf, other programs may interrupt vCPUs");
}

static void check_clock(struct doctor_report *r)
{
	char clock[HOST_CLOCK_MAX];
	bool tsc = host_clock_by_tsc("", clock);
	struct doctor_check *c = add(r, processors, "clock source", ok_if(tsc), "%s", clock);

	cost(c, "the real clock is slow to read, and KVM guests do without theirs");
}

static void check_locks(struct doctor_report *r)
{
	char dir[CPULOCK_DIR_MAX];
	struct err e = { 0 };
	int rc = cpulock_dir(false, &e, dir);
	struct doctor_check *c;

	if (rc == 0)
		add(r, processors, "locks of CPUs", DOCTOR_OK, "in %s", dir);
	else if (rc == -ENOENT)
		add(r, processors, "locks of CPUs", DOCTOR_OK, "none was ever taken here");
	if (rc == 0 || rc == -ENOENT)
		return;
	c = add(r, processors, "locks of CPUs", DOCTOR_LACKS, "%s", e.msg);
	cost(c, "--perf and --cpu-cap are refused");
}

/* --- memory ---------------------------------------------------------------------------------- */

static void check_memory(struct doctor_report *r)
{
	static const char group[] = "memory";
	struct host_memory m;
	struct rlimit rl = { 0 };
	struct doctor_check *c;

	host_memory_read("", &m);
	c = add(r, group, "free", ok_if(m.available >= 1ull << 30), "%llu of %llu MiB",
		(unsigned long long)m.available >> 20, (unsigned long long)m.total >> 20);
	cost(c, "a guest has 512 MiB unless --mem says otherwise, and uses what it touches");
	c = add(r, group, "huge pages", ok_if(m.huge2_free > 0),
		"%llu of %llu of 2 MiB free, %llu of %llu of 1 GiB",
		(unsigned long long)m.huge2_free, (unsigned long long)m.huge2,
		(unsigned long long)m.huge1g_free, (unsigned long long)m.huge1g);
	cost(c,
	     "--perf does without (sysctl vm.nr_hugepages; a guest of 512 MiB takes 256 of 2 MiB)");
	c = add(r, group, "transparent ones", ok_if(m.thp[0] && strcmp(m.thp, "never") != 0), "%s",
		m.thp[0] ? m.thp : "not in this kernel");
	cost(c, "guests that touch much memory are slower");
	getrlimit(RLIMIT_MEMLOCK, &rl);
	if (rl.rlim_cur == RLIM_INFINITY)
		add(r, group, "locked memory", DOCTOR_INFO, "unlimited; Orrery locks none");
	else
		add(r, group, "locked memory", DOCTOR_INFO, "%llu KiB; Orrery locks none",
		    (unsigned long long)rl.rlim_cur >> 10);
}

/* --- isolation ------------------------------------------------------------------------------- */

static void check_isolation(struct doctor_report *r, const struct host_cgroup *g)
{
	static const char group[] = "isolation";
	int landlock = sandbox_landlock();
	struct doctor_check *c;

	c = add(r, group, "system call filters", ok_if(sandbox_seccomp()), "seccomp %s",
		sandbox_seccomp() ? "filters a running monitor" : "is not in this kernel");
	cost(c, "runs need --no-sandbox");
	if (landlock)
		c = add(r, group, "Landlock", DOCTOR_OK, "version %d", landlock);
	else
		c = add(r, group, "Landlock", DOCTOR_LACKS, "not in this kernel, or switched off");
	cost(c, "a guest that breaks out of a run with shares or a network could read this user's "
		"files");
	if (g->version == 2)
		c = add(r, group, "cgroups", DOCTOR_OK, "version 2 (%s)", g->controllers);
	else
		c = add(r, group, "cgroups", DOCTOR_LACKS, "%s",
			g->version ? "version 1" : "none that can be seen");
	cost(c, "no limits for groups of runs by version 2's controllers");
}

/* --- storage --------------------------------------------------------------------------------- */

static const char storage[] = "storage";

static void check_reflink(struct doctor_report *r, const char *name, const char *dir)
{
	int can = host_reflink(dir);
	struct doctor_check *c;

	if (can < 0)
		c = add(r, storage, name, DOCTOR_LACKS, "reflinks cannot be tried in %.200s: %s",
			dir, strerror(-can));
	else
		c = add(r, storage, name, ok_if(can), "%s in %.200s",
			can ? "reflinks" : "no reflinks", dir);
	cost(c,
	     "private copies of disks there are overlays instead of clones (btrfs and XFS clone)");
}

static void check_storage(struct doctor_report *r)
{
	char *cache = NULL, cwd[PATH_MAX];
	struct kcache_list l = { 0 };
	struct err e = { 0 };
	struct doctor_check *c;
	int uring = host_io_uring();

	if (kcache_dir(&e, &cache) < 0 || kcache_list(&e, &l) < 0)
		c = add(r, storage, "kernels", DOCTOR_LACKS, "%s", e.msg);
	else if (l.n)
		c = add(r, storage, "kernels", DOCTOR_OK, "%u in %.200s, the newest %.100s", l.n,
			cache, l.entry[0].release);
	else
		c = add(r, storage, "kernels", DOCTOR_LACKS, "none in %.200s", cache);
	cost(c, "the first run fetches one, by apt and over the network (orrery kernel fetch)");
	if (cache)
		check_reflink(r, "cache", cache);
	if (getcwd(cwd, sizeof(cwd)))
		check_reflink(r, "this directory", cwd);
	if (uring < 0)
		add(r, storage, "io_uring", DOCTOR_INFO, "%s; disks use threads", strerror(-uring));
	else
		add(r, storage, "io_uring", DOCTOR_INFO, "there; disks use threads");
	kcache_list_fini(&l);
	free(cache);
}

/* --- network --------------------------------------------------------------------------------- */

static void check_network(struct doctor_report *r)
{
	static const char group[] = "network";
	bool admin = host_has_cap("", CAP_NET_ADMIN);
	const char *slirp = net_user_version();
	char *passt = NULL;
	struct doctor_check *c;
	int tun;

	c = add(r, group, "--net user", ok_if(slirp), "%s%s", slirp ? "libslirp " : "no libslirp",
		slirp ? slirp : "");
	cost(c, "--net user is refused; the package libslirp0 has it");
	closure_which(getenv("PATH"), "passt", &passt);
	c = add(r, group, "--net passt", ok_if(passt), "%s",
		passt ? passt : "passt is not installed");
	cost(c, "--net passt is refused; --net user does the same, slower");
	free(passt);
	tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	c = add(r, group, "--net tap", ok_if(tun >= 0), "/dev/net/tun%s%s, %s CAP_NET_ADMIN",
		tun < 0 ? ": " : "", tun < 0 ? strerror(errno) : "", admin ? "with" : "without");
	if (tun >= 0 && !admin)
		c->state = DOCTOR_LACKS;
	cost(c, tun < 0 ? "--net tap is refused"
			: "--net tap takes interfaces that were made for this user only");
	if (tun >= 0)
		close(tun);
	add(r, group, "vhost", DOCTOR_INFO, "not used: cards and sockets are this process's");
}

/* --- programs that runs call ----------------------------------------------------------------- */

static void check_programs(struct doctor_report *r)
{
	static const char group[] = "programs";
	static const struct {
		const char *name, *package, *cost;
	} programs[] = {
		{ "mkfs.ext4", "e2fsprogs", "--disk fs=ext4 is refused" },
		{ "mkfs.btrfs", "btrfs-progs", "--disk fs=btrfs is refused" },
		{ "apt-get", "apt", "orrery kernel fetch is refused; --kernel FILE boots any" },
	};
	struct doctor_check *c;

	c = add(r, group, "busybox", ok_if(access(INITRAMFS_BUSYBOX, X_OK) == 0), "%s%s",
		INITRAMFS_BUSYBOX,
		access(INITRAMFS_BUSYBOX, X_OK) ? " is missing (package busybox-static)" : "");
	cost(c, "guests need their own --initrd: no commands of this host");
	for (unsigned i = 0; i < ARRAY_LEN(programs); i++) {
		char *file = NULL;

		closure_which(SBIN, programs[i].name, &file);
		c = file ? add(r, group, programs[i].name, DOCTOR_OK, "%s", file)
			 : add(r, group, programs[i].name, DOCTOR_LACKS,
			       "not installed (package %s)", programs[i].package);
		cost(c, "%s", programs[i].cost);
		free(file);
	}
}

void doctor_examine(struct doctor_report *ret)
{
	struct host_topo *t = NULL;
	struct host_cgroup g;
	struct err e = { 0 };
	bool soft, kvm;

	memset(ret, 0, sizeof(*ret));
	soft = check_soft(ret);
	kvm = check_kvm(ret);
	ret->can_run = soft || kvm;
	host_cgroup_read("", &g);
	if (host_topo_read("", &e, &t) == 0)
		check_topology(ret, t);
	else
		cost(add(ret, processors, "topology", DOCTOR_LACKS, "%s", e.msg),
		     "--perf and --cpu-cap are refused");
	host_topo_free(t);
	check_quota(ret, &g);
	check_realtime(ret);
	check_clock(ret);
	check_locks(ret);
	check_memory(ret);
	check_isolation(ret, &g);
	check_storage(ret);
	check_network(ret);
	check_programs(ret);
}
