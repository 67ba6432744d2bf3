/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rig.h - a machine of a few pages under the KVM engine, without a board
 */
#ifndef ORR_TESTS_KVM_RIG_H
#define ORR_TESTS_KVM_RIG_H

#include "base/gclock.h"
#include "bus/bus.h"
#include "cpu/kvm/kvm.h"
#include "mem/mem.h"

#define RIG_CODE 0x1000u
#define RIG_STACK 0x7000u
#define RIG_DATA 0x8000u
#define RIG_GDT 0x500u
#define RIG_IDT 0x600u
#define RIG_MEM 0x100000u
#define RIG_PORT 0x500u
#define RIG_MMIO 0xd0000000u
#define RIG_REPORTS 64u
#define RIG_CPUS_MAX 64u
#define RIG_IN 0x44332211u /* what reading the port at +12 and MMIO at +16 gives */

struct rig_report {
	u64 off, val;
	unsigned size, cpu;
};

struct rig {
	struct mem *mem;
	struct bus *bus;
	struct kvm *kvm;
	struct engine e;
	struct x86_cpuids *cpuids;
	/* Under the device lock */
	struct rig_report port[RIG_REPORTS], mmio[RIG_REPORTS];
	unsigned n_port, n_mmio, reads;
	void (*on_report)(struct rig *r, u32 val); /* a write to RIG_PORT */
	struct gtimer watchdog;
	bool late; /* the last run was ended by it */
};

#define GUEST(name)                                                                                \
	extern const u8 guest_##name[], guest_##name##_end[];                                      \
	static inline void load_##name(struct rig *r)                                              \
	{                                                                                          \
		rig_load(r, guest_##name, (size_t)(guest_##name##_end - guest_##name));            \
	}

/* Whether there is a KVM to test; if not, says so. */
bool rig_has_kvm(void);
/* Whether it is a real one; if not, says that a test is skipped, and why. */
bool rig_is_real(void);
/* @n vCPUs: number 0 in flat 32-bit mode at RIG_CODE, the others wait for a SIPI. 0 or -errno. */
int rig_new(struct rig *r, unsigned n, struct err *e);
/* The same with APIC ids of the test's choice, in x2APIC mode from the start. */
int rig_new_x2apic(struct rig *r, unsigned n, const u32 *ids, struct err *e);
/* Interrupt @vector goes to @offset in the code. */
void rig_gate(struct rig *r, u8 vector, size_t offset);
void rig_free(struct rig *r);
void rig_load(struct rig *r, const u8 *code, size_t len);
/* Puts vCPU @cpu at RIG_CODE too. */
void rig_start(struct rig *r, unsigned cpu);
u32 rig_peek(struct rig *r, gpa_t at);
/* Runs, for 10 s of guest time at most: then ENGINE_STOPPED, and @late is set. */
enum engine_exit rig_run(struct rig *r, void (*poll)(void *opaque), void *opaque);
/*
 * Whether the run ended with @want. If KVM could not execute an instruction, says that the test is
 * skipped and why, and returns false; another end fails the test.
 */
bool rig_runs(struct rig *r, enum engine_exit want);
/* For a poll callback: stops the engine that @opaque, a struct rig, has. */
void rig_stop(void *opaque);

#endif
