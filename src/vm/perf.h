/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf.h - a VM with host CPUs of its own (--perf), or on a limited number of them (--cpu-cap)
 */
#ifndef ORR_VM_PERF_H
#define ORR_VM_PERF_H

#include "vm/run.h"

struct cpulist;
struct mem;
struct mem_backing;
struct perf;

/* What of the host is looked at and changed: tests bring hosts of other shapes. */
struct perf_host {
	const char *root;	       /* of its /sys and /proc: "" */
	const struct cpulist *allowed; /* CPUs; NULL: what the kernel allows this thread */
	/* cpulist_confine and mem_back; of the calling thread: SCHED_FIFO. 0 or a negative errno. */
	int (*confine)(const struct cpulist *l);
	int (*fifo)(int prio);
	int (*back)(struct mem *m, const struct mem_backing *b, struct err *e);
};

/*
 * Finds the CPUs, takes their locks, and moves the calling thread there: the VM's, which must call
 * perf_free as well. What can be done without is warned of on cfg->err_fd. 0 and *ret (NULL if @cfg asks
 * for nothing); or a negative errno with a message.
 */
int perf_new(const struct vm_cfg *cfg, const struct topo *topo, bool kvm, struct err *e,
	     struct perf **ret);
/* The same on @host, which is borrowed; NULL: this one. */
int perf_new_on(const struct perf_host *host, const struct vm_cfg *cfg, const struct topo *topo,
		bool kvm, struct err *e, struct perf **ret);
/* The thread is where it was, and the CPUs are given back. NULL is legal, as in all that follow. */
void perf_free(struct perf *p);

/*
 * Guest RAM, right behind mem_new: huge pages, on the CPUs' nodes, present, and what of that cannot be had
 * is warned of. 0, or an error with message: then the RAM must not be used.
 */
int perf_back_mem(struct perf *p, struct mem *m, struct err *e);
/* Whether each vCPU has a host CPU that nobody else wants. */
bool perf_owns_cpus(const struct perf *p);
/* For struct kvm_cfg.thread_start, with the struct perf: vCPU @cpu's thread goes to its CPU. */
int perf_vcpu_thread(void *perf, unsigned cpu);
/* For kvm_cfg.warn, likewise. */
void perf_warn(void *perf, const char *words);

#endif
