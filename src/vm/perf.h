/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf.h - a VM with host CPUs of its own (--perf), or on a limited number of them (--cpu-cap)
 */
#ifndef ORR_VM_PERF_H
#define ORR_VM_PERF_H

#include "vm/run.h"

struct mem;
struct perf;

/*
 * Finds the CPUs, takes their locks, and moves the calling thread there: the VM's, which must call
 * perf_free as well. What can be done without is warned of on cfg->err_fd. 0 and *ret (NULL if @cfg asks
 * for nothing); or a negative errno with a message.
 */
int perf_new(const struct vm_cfg *cfg, const struct topo *topo, bool kvm, struct err *e,
	     struct perf **ret);
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

#endif
