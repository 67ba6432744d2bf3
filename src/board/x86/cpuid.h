/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpuid.h - CPU models of the x86 board: what CPUID says, which control bits exist, APIC ids
 */
#ifndef ORR_BOARD_X86_CPUID_H
#define ORR_BOARD_X86_CPUID_H

#include "board/topology.h"
#include "isa/x86/state.h"

#define X86_CPUID_ENTRIES_MAX 48

enum x86_model { X86_MODEL_V1, X86_MODEL_V2, X86_MODEL_V3, X86_MODELS };

struct x86_model_info {
	const char *name; /* "x86-64-v2" */
	u64 cr4_allowed, xcr0_allowed, phys_mask;
};

/* The APIC id of every vCPU: llc << (core bits + thread bits) | core << thread bits | thread. */
u32 x86_apic_id(const struct topo *t, u32 cpu);

/*
 * "x86-64-v1", "x86-64-v2", "x86-64-v3"; NULL or "" is the default, v2. -EINVAL with a message for
 * a name nobody knows, -ENOTSUP for host. Whether an engine can execute the model is its to say.
 */
int x86_model_parse(const char *name, struct err *e, enum x86_model *ret);
const struct x86_model_info *x86_model_get(enum x86_model m);

/* Fills the table of vCPU @cpu and returns the number of entries. @t is validated. */
unsigned x86_cpuid_build(enum x86_model m, const struct topo *t, u32 cpu,
			 struct x86_cpuid_entry ret[X86_CPUID_ENTRIES_MAX]);

/* The tables of all vCPUs, in the form that struct soft_cfg asks for. */
struct x86_cpuids;
int x86_cpuids_new(enum x86_model m, const struct topo *t,
		   struct x86_cpuids **ret); /* 0, -ENOMEM */
void x86_cpuids_free(struct x86_cpuids *c);
/* @opaque is the struct x86_cpuids; the table lives as long as it. */
const struct x86_cpuid_entry *x86_cpuids_get(void *opaque, unsigned cpu, unsigned *ret_n);

#endif
