// SPDX-License-Identifier: Apache-2.0
/*
 * pick.c - which engine a VM gets
 *
 * How it works
 * KVM is faster, the built-in CPU exact. So `auto` means KVM where it executes at hardware speed, unless
 * something was asked for that only an exact run gives: the virtual clock, a seed, a digest, a rate or
 * tier of the built-in CPU, its traces. That KVM's node can be opened says little: there are
 * emulations that run a small guest slowly and a kernel not at all, so it is measured every time, in a
 * few ms. Nothing is remembered between runs: what a host's KVM can do changes with the module, the user,
 * the container.
 */
#include "vm/pick.h"

#include "cpu/kvm/probe.h"

#include <errno.h>
#include <stdio.h>

/* The first thing that only the built-in CPU does, or NULL. */
static const char *soft_only(const struct vm_cfg *c)
{
	return c->clock == VM_CLOCK_VIRTUAL  ? "--clock virtual"
	       : c->mips		     ? "--mips"
	       : c->tier != MACHINE_TIER_MIX ? "--tier"
	       : c->code_cache		     ? "--code-cache"
	       : c->code_dump		     ? "--code-dump"
	       : c->perf_map		     ? "--perf-map"
					     : NULL;
}

/* What KVM can do too, but to no purpose. */
static const char *wants_exact(const struct vm_cfg *c)
{
	return c->has_seed ? "--seed" : c->digest ? "--digest" : NULL;
}

int pick_engine(const struct vm_cfg *cfg, pick_probe_fn *probe, struct err *e, bool *ret_kvm,
		char ret_words[PICK_WORDS])
{
	const char *soft = soft_only(cfg), *exact = wants_exact(cfg);
	struct kvm_probe p;

	if (cfg->engine == VM_ENGINE_KVM && soft)
		return err_set(
			e, -EINVAL,
			"--engine kvm cannot do %s: only the built-in CPU counts and translates "
			"instructions; leave one of the two out",
			soft);
	*ret_kvm = cfg->engine == VM_ENGINE_KVM;
	if (cfg->engine != VM_ENGINE_AUTO) {
		snprintf(ret_words, PICK_WORDS, "engine %s, as asked for",
			 *ret_kvm ? "kvm" : "soft");
		return 0;
	}
	if (soft || exact) {
		snprintf(ret_words, PICK_WORDS, "engine soft: %s needs it", soft ? soft : exact);
		return 0;
	}
	probe(&p);
	*ret_kvm = p.verdict == KVM_VERDICT_GOOD;
	snprintf(ret_words, PICK_WORDS, "engine %s: %s", *ret_kvm ? "kvm" : "soft", p.words);
	return 0;
}
