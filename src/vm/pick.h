/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pick.h - which engine a VM gets
 */
#ifndef ORR_VM_PICK_H
#define ORR_VM_PICK_H

#include "vm/run.h"

#define PICK_WORDS 400

/* What a KVM is like; kvm_probe (cpu/kvm/probe.h) or a test's own. */
struct kvm_probe;
typedef void pick_probe_fn(struct kvm_probe *ret);

/*
 * Decides by @cfg, and for VM_ENGINE_AUTO by what @probe says, which is asked only if it matters. 0, *ret_kvm
 * and in @ret_words one line that says why; or -EINVAL with a message if @cfg asks for KVM and for
 * something that only the built-in CPU does.
 */
int pick_engine(const struct vm_cfg *cfg, pick_probe_fn *probe, struct err *e, bool *ret_kvm,
		char ret_words[PICK_WORDS]);

#endif
