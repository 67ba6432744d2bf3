/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm_priv.h - the engine's own data
 *
 * Locks, in this order: `dev`, the device lock, held while a device, a timer or the poll callback
 * runs; `lock`, a leaf, which guards who runs.
 */
#ifndef ORR_CPU_KVM_KVM_PRIV_H
#define ORR_CPU_KVM_KVM_PRIV_H

#include "base/gclock.h"
#include "cpu/kvm/kvm.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#define KVM_EXITS 48u /* exit reasons that are counted one by one */

/* Wakes a vCPU's thread out of KVM_RUN; nobody else in the process uses it. */
#define KVM_KICK_SIGNAL (SIGRTMIN + 1)

struct kvm_vcpu {
	struct kvm *k;
	unsigned index;
	u32 apic_id;
	int fd;	      /* -1 until created */
	int stats_fd; /* -1: this kernel has none */
	struct kvm_run *run;
	pthread_t thread;
	bool started;

	/* While parked, the VM's thread's. */
	struct x86_cpu c;
	bool fetched; /* @c is what KVM has */
	bool changed; /* @c is to be given to KVM */
	bool fresh;   /* since power-on or reset: events that KVM has pending go too */
	struct kvm_lapic_state lapic0; /* as created */

	bool in_round;	/* under k->lock: runs, or is about to */
	u64 round;	/* its thread's: the last it took part in */
	bool debug_hit; /* under the device lock */
	struct kvm_debug_exit_arch debug;
	gpa_t healed; /* its thread's: a page that was replaced, until KVM_RUN has gone on */
	u64 exits[KVM_EXITS + 1]; /* its thread's own; the last: others */
};

struct kvm_notify {
	int fd;
	gpa_t gpa;
	u32 val;
	void (*fn)(void *opaque, u32 val);
	void *opaque;
};

struct kvm {
	struct kvm_cfg cfg;
	int sys, vm; /* -1 until opened */
	size_t run_len, xsave_len;
	struct kvm_vcpu *cpu;
	u32 tsc_khz;
	bool tsc_offset, memory_fault;
	bool halts_inside; /* HLT does not leave the guest */
	struct x86_ops ops;

	/* Guest time: host ns minus @base while it runs, @stood while not. */
	struct gclock clk;
	_Atomic u64 base;
	_Atomic u64 stood;
	_Atomic bool running;
	bool ran; /* at least once */
	u64 stood_tsc;
	struct kvm_clock_data kvmclock;

	pthread_mutex_t dev;
	bool dev_made;
	bool stop; /* under dev, with the next three */
	enum engine_exit why;
	char failure[256];
	u64 waits_until; /* guest time until which the VM's thread sleeps */
	u64 look_at,
		look_ns; /* guest time of the next look for a dead guest, and how long until it was */
	u64 looked;	 /* kvm_guest_exits at the last one */
	pthread_t vm_thread;

	pthread_mutex_t lock;
	pthread_cond_t go, parked;
	bool lock_made;
	u64 round;
	unsigned n_running;
	bool quit;

	_Atomic int kicked;
	int wake_fd, epoll; /* -1 until opened */
	struct kvm_notify **notify;
	unsigned n_notify;

	/* Interrupts, under dev */
	struct {
		u64 addr;
		u32 data;
	} route[KVM_PINS_MAX];
	bool routes_stale;
	void (*eoi)(void *opaque, u8 vector);
	void *eoi_opaque;

	bool dirty_log;
	struct engine_debug debug;
	struct engine_debug_event event;
	u64 kicks;
	_Atomic u64 msis;
};

/* Under the device lock: the run ends with @why, unless something else has ended it before. */
void kvm_stop(struct kvm *k, enum engine_exit why);
/* The same with ENGINE_FAILED and words. */
void kvm_fail(struct kvm *k, const char *fmt, ...) attr_printf(2, 3);

/* --- run.c */
int kvm_threads_start(struct kvm *k, struct err *e);
void kvm_threads_join(struct kvm *k);
enum engine_exit kvm_run_vm(struct kvm *k, void (*poll)(void *opaque), void *opaque);
void kvm_kick(struct kvm *k);

/* --- exit.c */
/* What a vCPU's thread does about the exit in v->run. */
void kvm_handle_exit(struct kvm_vcpu *v);

/* --- clock.c */
int kvm_clock_init(struct kvm *k, struct err *e);
u64 kvm_now(void *k);
/* The guest's time stands still from kvm_clock_stand to kvm_clock_go. All vCPUs are parked. */
int kvm_clock_go(struct kvm *k, struct err *e);
int kvm_clock_stand(struct kvm *k, struct err *e);

/* --- slots.c */
int kvm_slots_set(struct kvm *k, struct err *e);

/* --- x86/irq.c */
int kvm_irqchip_new(struct kvm *k, struct err *e);
/* LINT pins and the mode of a vCPU's local APIC as firmware leaves them. */
int kvm_lapic_init(struct kvm_vcpu *v, struct err *e);

/* --- x86/cpuid.c */
int kvm_cpuid_set(struct kvm *k, struct err *e);

/* --- x86/state.c */
int kvm_state_get(struct kvm_vcpu *v, struct err *e);
int kvm_state_set(struct kvm_vcpu *v, struct err *e);

/* --- x86/halt.c */
/* Whether no vCPU will ever execute anything again. All are parked, the device lock is held. */
bool kvm_halted_for_good(const struct kvm *k);

/* --- debug.c */
int kvm_debug_set(struct kvm *k, const struct engine_debug *d);
/* Under the device lock: what a vCPU with debug_hit met, as an event. */
struct engine_debug_event kvm_debug_decode(const struct kvm_vcpu *v);

/* --- stats.c */
/* Opens the kernel's counters of a vCPU, where it has them. */
void kvm_stats_open(struct kvm_vcpu *v);
static inline void kvm_count_exit(struct kvm_vcpu *v, u32 reason)
{
	u64 *n = &v->exits[MIN(reason, KVM_EXITS)];

	/* One writer; whoever asks a running machine for its counters reads. */
	__atomic_store_n(n, *n + 1, __ATOMIC_RELAXED);
}
/* How often the guest has wanted something of us: all exits but those that were made to happen. */
u64 kvm_guest_exits(const struct kvm *k);
void kvm_stats(struct kvm *k, void (*line)(void *l, const char *name, u64 val), void *l);

#endif
