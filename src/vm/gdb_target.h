/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdb_target.h - a machine under a debugger: its vCPUs' registers, memory, breakpoints, and why it stopped
 *
 * All on the VM's thread, while the machine is not running, unless said otherwise.
 */
#ifndef ORR_VM_GDB_TARGET_H
#define ORR_VM_GDB_TARGET_H

#include "base/buf.h"
#include "cpu/engine.h"
#include "mem/mem.h"
#include "vm/gdb_rsp.h"

struct machine;

#define TARGET_BREAKS_MAX 1024u

struct target_break {
	enum rsp_break kind;
	u64 addr, len;
	bool planted; /* an INT3 in memory: where, and what was there */
	u8 byte;
	gpa_t gpa;
};

struct target {
	struct machine *m; /* borrowed */
	struct engine e;
	struct mem *mem;
	unsigned cpus;
	/* The engine has debug registers only: what has no room there becomes an INT3 in memory. */
	bool plants;
	struct target_break brk[TARGET_BREAKS_MAX];
	unsigned n_brk;
	int step; /* as the last run was asked for */
};

/* Begins with no breakpoints. 0, or -ENOTSUP: the engine cannot be debugged. */
int target_init(struct target *t, struct machine *m);
/* Removes all breakpoints: the guest is as if there had been no debugger. */
void target_clear(struct target *t);
/* The vCPUs' description for GDB, with a 0 at its end. */
int target_describe(const struct target *t, struct buf *out);

/* Those of struct rsp_ops, with @o a struct target. */
unsigned target_reg_size(void *o, unsigned reg);
int target_reg_get(void *o, unsigned cpu, unsigned reg, u8 *ret);
int target_reg_set(void *o, unsigned cpu, unsigned reg, const u8 *val);
int target_mem_read(void *o, unsigned cpu, u64 addr, u8 *ret, size_t len);
int target_mem_write(void *o, unsigned cpu, u64 addr, const u8 *val, size_t len);
int target_insert(void *o, enum rsp_break kind, u64 addr, u64 len);
int target_remove(void *o, enum rsp_break kind, u64 addr, u64 len);
void target_describe_cpu(void *o, unsigned cpu, char *ret, size_t size);

/* Tells the engine about breakpoints and the step: then it can be run. 0 or a negative errno. */
int target_arm(struct target *t, int step);
/*
 * The engine came back with ENGINE_DEBUG because of what it was told. 0: the guest's own INT3, of which nobody is to
 * hear, has been seen to: run it again.
 */
int target_event(struct target *t, struct rsp_stop *ret);

#endif
