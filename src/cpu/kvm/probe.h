/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.h - whether the host's KVM is the real thing: usable, and as fast as hardware
 */
#ifndef ORR_CPU_KVM_PROBE_H
#define ORR_CPU_KVM_PROBE_H

#include "base/compiler.h"

enum kvm_verdict {
	KVM_VERDICT_GOOD,   /* all there, and it executes at hardware speed */
	KVM_VERDICT_ABSENT, /* no /dev/kvm */
	KVM_VERDICT_DENIED, /* this user may not open it */
	KVM_VERDICT_LACKS,  /* a capability is missing: the engine cannot run */
	KVM_VERDICT_BROKEN, /* a call failed, or the guest did not do what it should */
	KVM_VERDICT_SLOW,   /* works, but is emulated: the soft engine is faster */
};

/* Below this many instructions a second no hardware is at work. */
#define KVM_HARDWARE_RATE 100000000ull

struct kvm_probe {
	enum kvm_verdict verdict;
	u64 rate;	 /* instructions a second; 0 unless GOOD or SLOW */
	char words[320]; /* one line without a full stop, for people */
};

/*
 * Opens /dev/kvm, checks what the engine needs, and runs a loop of a few ten thousand instructions
 * as a guest. Takes a few ms at most. Never fails: what goes wrong is the verdict.
 */
void kvm_probe(struct kvm_probe *ret);

#endif
