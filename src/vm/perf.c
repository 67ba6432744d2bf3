// SPDX-License-Identifier: Apache-2.0
/*
 * perf.c - a VM with host CPUs of its own (--perf), or on a limited number of them (--cpu-cap)
 *
 * How it works
 * Which thread is where depends on the engine:
 *
 *			vCPUs				the VM's thread		I/O, workers
 *	kvm		a CPU each, FIFO 1		service CPU, FIFO 2	service CPU
 *	soft		are the VM's thread		a CPU, FIFO 1		service CPU
 *	--cpu-cap	any of the CPUs that it got, at ordinary priority
 *
 * A virtual last-level cache is one of the host's, the memory of a virtual NUMA node on the host's node
 * (host/place.h). What the host or the user's rights do not give is warned of, if the run is
 * still worth something without (huge pages, real-time priority, a quiet host), and an error if it is not:
 * too few CPUs or caches, or others that have them.
 *
 * FIFO means that nothing ordinary takes the CPU from a vCPU. It would take it from the VM's own I/O as
 * well, so that has a CPU of its own, and the VM's thread of the kvm engine (timers, devices) goes first
 * there. The kernel keeps 5 % of a CPU for others (sched(7), sched_rt_runtime_us), so a guest that
 * spins locks up nothing.
 */
#include "vm/perf.h"

#include "base/thread.h"
#include "host/claim.h"
#include "host/hostfile.h"
#include "host/hostinfo.h"
#include "mem/mem_back.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PRIO_VCPU 1
#define PRIO_SERVICE 2
#define CAP_PERCENT 30u	 /* of the CPUs that may be used: --cpu-cap auto */
#define PRESENT_REST 20u /* at least a twentieth of free memory is left to the host */

struct perf {
	const struct perf_host *host;
	struct host_topo *topo;
	struct claim *claim;
	const char *option;
	int err_fd;
	bool kvm, fifo;
	u8 domain[PLACE_GROUPS_MAX];
	u64 nodes[TOPO_NODES_MAX]; /* of guest nodes */
	unsigned n_nodes;
	struct mem_backing backing; /* what has worked, for a machine after a reset */
	bool has_backing;
	bool warned;		/* of what KVM lacks: a reset need not repeat it */
	pthread_attr_t service; /* of threads that serve */
	bool has_service;
	/* The calling thread as it was. */
	bool moved;
	struct cpulist old_cpus;
	int old_policy;
	struct sched_param old_param;
};

static void warn(const struct perf *p, const char *fmt, ...) attr_printf(2, 3);

static void warn(const struct perf *p, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	dprintf(p->err_fd, "orrery: warning: %s: %s\n", p->option, text);
}

static void say_waiting(void *opaque, const char *who)
{
	const struct perf *p = opaque;

	dprintf(p->err_fd, "orrery: %s: waiting for CPUs that are taken by %s\n", p->option, who);
}

/* --- what is wanted -------------------------------------------------------------------------- */

/*
 * A budget for whom no number is better than another: three tenths of the host, but as many CPUs as there
 * are threads that execute vCPUs, if the host has them.
 */
static int auto_cap(const struct perf *p, const struct topo *t, struct err *e, u32 *ret)
{
	struct cpulist allowed;
	u32 n;
	int r = 0;

	if (p->host->allowed)
		allowed = *p->host->allowed;
	else
		r = cpulist_allowed(&allowed);
	if (r < 0)
		return err_sys(e, r, "%s: cannot learn which CPUs may be used", p->option);
	n = cpulist_count(&allowed);
	*ret = MAX((n * CAP_PERCENT + 99) / 100, MIN(p->kvm ? topo_cpus(t) : 1, n));
	return 0;
}

static struct place_want wanted(const struct vm_cfg *cfg, const struct topo *t, struct perf *p)
{
	struct place_want w = { .mode = cfg->perf == VM_PERF_CPUS   ? PLACE_CPUS
					: cfg->perf == VM_PERF_LLCS ? PLACE_LLCS
								    : PLACE_CAP,
				.groups = 1,
				.cores = 1,
				.threads = 1,
				.domains = 1,
				.domain = p->domain,
				.cap = cfg->cpu_cap };

	if (!p->kvm) /* one thread executes all vCPUs */
		return w;
	w.groups = t->llcs;
	w.cores = t->cores;
	w.threads = t->threads;
	w.domains = t->nodes;
	for (u32 g = 0; g < t->llcs; g++) {
		struct topo_place at;

		topo_place(t, g * t->cores * t->threads, &at);
		p->domain[g] = (u8)at.node;
	}
	return w;
}

static void set_nodes(struct perf *p, const struct topo *t)
{
	const struct place *pl = claim_place(p->claim);

	p->n_nodes = t->nodes;
	for (u32 i = 0; i < t->nodes; i++)
		p->nodes[i] = pl->nodes[p->kvm ? i : 0];
}

/* --- threads --------------------------------------------------------------------------------- */

static int confine_to(const struct perf *p, int cpu)
{
	struct cpulist l = { 0 };

	cpulist_add(&l, (unsigned)cpu);
	return p->host->confine(&l);
}

static int set_fifo(int prio)
{
	struct sched_param sp = { .sched_priority = prio };

	return sched_setscheduler(0, SCHED_FIFO, &sp) < 0 ? -errno : 0;
}

/* What the VM's thread starts the others with. */
static int make_service(struct perf *p, struct err *e)
{
	struct sched_param sp = { 0 };
	cpu_set_t *set = CPU_ALLOC(CPULIST_MAX);
	size_t size = CPU_ALLOC_SIZE(CPULIST_MAX);
	int r = set ? pthread_attr_init(&p->service) : ENOMEM;

	if (r == 0) {
		p->has_service = true;
		CPU_ZERO_S(size, set);
		CPU_SET_S((size_t)claim_place(p->claim)->service, size, set);
		r = pthread_attr_setaffinity_np(&p->service, size, set);
	}
	if (r == 0)
		r = pthread_attr_setinheritsched(&p->service, PTHREAD_EXPLICIT_SCHED);
	if (r == 0)
		r = pthread_attr_setschedpolicy(&p->service, SCHED_OTHER);
	if (r == 0)
		r = pthread_attr_setschedparam(&p->service, &sp);
	CPU_FREE(set);
	if (r)
		return err_sys(e, -r, "%s: cannot prepare threads", p->option);
	thread_set_attr(&p->service);
	return 0;
}

static int move_here(struct perf *p, struct err *e)
{
	const struct place *pl = claim_place(p->claim);
	int r = cpulist_allowed(&p->old_cpus);

	p->old_policy = sched_getscheduler(0);
	if (r == 0 && (p->old_policy < 0 || sched_getparam(0, &p->old_param) < 0))
		r = -errno;
	if (r == 0) {
		p->moved = true;
		r = pl->mode == PLACE_CAP ? p->host->confine(&pl->cpus)
					  : confine_to(p, p->kvm ? pl->service : pl->cpu[0]);
	}
	if (r < 0)
		return err_sys(e, r, "%s: cannot move to the CPUs chosen", p->option);
	if (pl->mode == PLACE_CAP)
		return 0;
	p->fifo = p->host->fifo(p->kvm ? PRIO_SERVICE : PRIO_VCPU) == 0;
	if (!p->fifo)
		warn(p, "no real-time priority, so other programs may interrupt vCPUs; it takes "
			"CAP_SYS_NICE, or a limit of RLIMIT_RTPRIO");
	return make_service(p, e);
}

int perf_vcpu_thread(void *perf, unsigned cpu)
{
	const struct perf *p = perf;
	const struct place *pl = claim_place(p->claim);
	int r;

	if (pl->mode == PLACE_CAP || cpu >= pl->n)
		return 0;
	r = confine_to(p, pl->cpu[cpu]);
	if (r == 0 && p->fifo)
		r = p->host->fifo(PRIO_VCPU);
	return r;
}

void perf_warn(void *perf, const char *words)
{
	struct perf *p = perf;

	if (!p->warned)
		warn(p, "%s", words);
	p->warned = true;
}

bool perf_owns_cpus(const struct perf *p)
{
	return p && claim_place(p->claim)->mode != PLACE_CAP;
}

/* --- memory ---------------------------------------------------------------------------------- */

static bool nodes_have_room(const struct perf *p, u64 need)
{
	u64 free = 0;

	for (u32 i = 0; i < p->topo->nnodes; i++)
		for (unsigned k = 0; k < p->n_nodes; k++)
			if (p->nodes[k] >> p->topo->node[i].id & 1) {
				free += p->topo->node[i].mem_free;
				break;
			}
	return need + need / PRESENT_REST <= free;
}

/*
 * Without the pool, the want of memory would not be an error but somebody's end, by the kernel's choice:
 * so presence and nodes are asked for only where there is room.
 */
static struct mem_backing without_pool(const struct perf *p, u64 size)
{
	struct mem_backing b = { .nodes = p->nodes,
				 .n_nodes = p->n_nodes,
				 .strict = nodes_have_room(p, size) };
	char info[4096];
	u64 avail;

	hostfile_text(info, sizeof(info), p->host->root, "/proc/meminfo");
	avail = hostfile_field(info, "MemAvailable", 0) << 10;
	b.present = size + avail / PRESENT_REST <= avail;
	return b;
}

int perf_back_mem(struct perf *p, struct mem *m, struct err *e)
{
	struct mem_backing b;
	struct err why = { 0 };
	int r;

	if (!perf_owns_cpus(p))
		return 0;
	b = (struct mem_backing){ .huge = true,
				  .present = true,
				  .nodes = p->nodes,
				  .n_nodes = p->n_nodes,
				  .strict = true };
	if (p->has_backing)
		b = p->backing; /* the sandbox no longer lets us look for another */
	r = p->host->back(m, &b, &why);
	if (r < 0 && r != -ENOTRECOVERABLE && !p->has_backing) {
		warn(p, "no huge pages for guest memory, which takes %llu of 2 MiB: %s",
		     (unsigned long long)mem_back_huge_pages(mem_region_get(m, 0),
							     mem_region_count(m)),
		     why.msg);
		b = without_pool(p, mem_size(m));
		r = p->host->back(m, &b, &why);
	}
	if (r == -ENOTRECOVERABLE)
		return err_set(e, r, "%s: %s", p->option, why.msg);
	if (r < 0)
		warn(p, "guest memory is wherever the kernel puts it: %s", why.msg);
	p->backing = b;
	p->has_backing = true;
	return 0;
}

/* --- the whole ------------------------------------------------------------------------------- */

static void warn_place(const struct perf *p)
{
	const struct place *pl = claim_place(p->claim);

	if (pl->domain_split)
		warn(p,
		     "a NUMA node of the guest is spread over several of this host's, because none "
		     "has enough last-level caches free");
	if (pl->domains_meet)
		warn(p, "NUMA nodes of the guest are on the same one of this host");
	if (pl->cores_differ)
		warn(p, "threads of one core in the guest are not threads of one core here, or the "
			"reverse");
}

/* A host that does other things disturbs, whatever locks say. */
static void warn_host(const struct perf *p, u32 vcpus)
{
	char text[8192], clock[HOST_CLOCK_MAX];
	u64 running;

	if (hostfile_text(text, sizeof(text), p->host->root, "/proc/loadavg") > 0) {
		const char *four = text;

		/* "0.5 0.4 0.3 2/345 678": running (this one too) / all */
		for (unsigned i = 0; four && i < 3; i++)
			four = strchr(four + 1, ' ');
		running = four ? strtoull(four, NULL, 10) : 1;
		if (running > 1 && (running - 1) * 2 > vcpus)
			warn(p, "%llu other threads are running on this host just now",
			     (unsigned long long)running - 1);
	}
	if (p->kvm && !host_clock_by_tsc(p->host->root, clock))
		warn(p, "this host's clock source is %s: its time stamp counter is not stable",
		     clock);
}

static void say(const struct perf *p)
{
	const struct place *pl = claim_place(p->claim);
	struct cpulist vcpus = pl->cpus;
	char cpus[256], llcs[128];

	if (pl->service >= 0)
		cpulist_del(&vcpus, (unsigned)pl->service);
	cpulist_format(&vcpus, cpus, sizeof(cpus));
	cpulist_format(&pl->llcs, llcs, sizeof(llcs));
	if (pl->mode == PLACE_CAP)
		dprintf(p->err_fd, "orrery: %s: on CPUs %s\n", p->option, cpus);
	else
		dprintf(p->err_fd,
			"orrery: %s: vCPUs on CPUs %s, all else on CPU %d, last-level caches %s %s\n",
			p->option, cpus, pl->service, llcs,
			pl->mode == PLACE_LLCS ? "taken" : "shared");
}

static const struct perf_host this_host = {
	.root = "", .confine = cpulist_confine, .fifo = set_fifo, .back = mem_back
};

int perf_new(const struct vm_cfg *cfg, const struct topo *topo, bool kvm, struct err *e,
	     struct perf **ret)
{
	return perf_new_on(NULL, cfg, topo, kvm, e, ret);
}

int perf_new_on(const struct perf_host *host, const struct vm_cfg *cfg, const struct topo *topo,
		bool kvm, struct err *e, struct perf **ret)
{
	struct claim_cfg cc = { .wait_ns = cfg->perf_wait_ns, .waits = say_waiting };
	struct perf *p;
	int r;

	*ret = NULL;
	if (cfg->perf == VM_PERF_OFF && !cfg->cpu_cap)
		return 0;
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	p->host = host ? host : &this_host;
	p->option = cfg->perf == VM_PERF_OFF ? "--cpu-cap" : "--perf";
	p->err_fd = cfg->err_fd;
	p->kvm = kvm;
	r = host_topo_read(p->host->root, e, &p->topo);
	if (r == 0) {
		cc.topo = p->topo;
		cc.allowed = p->host->allowed;
		cc.want = wanted(cfg, topo, p);
	}
	if (r == 0 && cfg->cpu_cap == VM_CPU_CAP_AUTO)
		r = auto_cap(p, topo, e, &cc.want.cap);
	if (r == 0) {
		cc.option = p->option;
		cc.opaque = p;
		r = claim_new(&cc, e, &p->claim);
	}
	if (r == 0)
		r = move_here(p, e);
	if (r < 0) {
		perf_free(p);
		return r;
	}
	set_nodes(p, topo);
	warn_place(p);
	if (perf_owns_cpus(p))
		warn_host(p, kvm ? topo_cpus(topo) : 1);
	if (cfg->verbose)
		say(p);
	*ret = p;
	return 0;
}

void perf_free(struct perf *p)
{
	if (!p)
		return;
	if (p->moved) {
		/* Best effort: what is left of this thread's life is the report of how the guest ended. */
		if (sched_setscheduler(0, p->old_policy, &p->old_param) < 0 ||
		    p->host->confine(&p->old_cpus) < 0)
			errno = 0;
	}
	if (p->has_service) {
		thread_set_attr(NULL);
		pthread_attr_destroy(&p->service);
	}
	claim_free(p->claim);
	host_topo_free(p->topo);
	free(p);
}
