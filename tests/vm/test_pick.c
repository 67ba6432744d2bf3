// SPDX-License-Identifier: Apache-2.0
/*
 * test_pick.c - which engine a configuration gets, with KVMs of every kind
 */
#include "vm/pick.h"

#include "cpu/kvm/probe.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct kvm_probe kvm;
static unsigned asked;

static void probe(struct kvm_probe *ret)
{
	asked++;
	*ret = kvm;
}

static bool picks_kvm(const struct vm_cfg *cfg, char words[PICK_WORDS])
{
	struct err e = { 0 };
	bool got = false;

	asked = 0;
	if (pick_engine(cfg, probe, &e, &got, words) < 0)
		fail_msg("%s", e.msg);
	return got;
}

static void measured(void **s)
{
	struct vm_cfg cfg = { 0 };
	char words[PICK_WORDS];

	for (int v = KVM_VERDICT_GOOD; v <= KVM_VERDICT_SLOW; v++) {
		kvm = (struct kvm_probe){ .verdict = (enum kvm_verdict)v, .words = "what it is" };
		assert_int_equal(picks_kvm(&cfg, words), v == KVM_VERDICT_GOOD);
		assert_non_null(strstr(words, "what it is"));
		assert_non_null(
			strstr(words, v == KVM_VERDICT_GOOD ? "engine kvm" : "engine soft"));
		assert_int_equal(asked, 1);
	}
}

/* What needs the built-in CPU gets it, without a look at KVM; and KVM asked for is an error then. */
static void exact(void **s)
{
	const struct {
		struct vm_cfg cfg;
		const char *option;
		bool never; /* KVM cannot do it */
	} cases[] = {
		{ { .clock = VM_CLOCK_VIRTUAL }, "--clock virtual", true },
		{ { .mips = 5 }, "--mips", true },
		{ { .tier = MACHINE_TIER_JIT }, "--tier", true },
		{ { .code_cache = 1 << 20 }, "--code-cache", true },
		{ { .code_dump = "x" }, "--code-dump", true },
		{ { .perf_map = true }, "--perf-map", true },
		{ { .has_seed = true }, "--seed", false },
		{ { .digest = true }, "--digest", false },
	};
	char words[PICK_WORDS];
	struct err e = { 0 };
	bool got = false;

	kvm = (struct kvm_probe){ .verdict = KVM_VERDICT_GOOD };
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct vm_cfg cfg = cases[i].cfg;
		int r;

		assert_false(picks_kvm(&cfg, words));
		assert_int_equal(asked, 0);
		assert_non_null(strstr(words, cases[i].option));
		cfg.engine = VM_ENGINE_KVM;
		r = pick_engine(&cfg, probe, &e, &got, words);
		assert_int_equal(r, cases[i].never ? -EINVAL : 0);
		if (r < 0)
			assert_non_null(strstr(e.msg, cases[i].option));
	}
}

static void named(void **s)
{
	struct vm_cfg cfg = { .engine = VM_ENGINE_SOFT };
	char words[PICK_WORDS];

	kvm = (struct kvm_probe){ .verdict = KVM_VERDICT_GOOD };
	assert_false(picks_kvm(&cfg, words));
	kvm.verdict = KVM_VERDICT_ABSENT;
	cfg.engine = VM_ENGINE_KVM;
	assert_true(picks_kvm(&cfg, words)); /* why it cannot is said where it is created */
	assert_int_equal(asked, 0);
	cfg = (struct vm_cfg){ .clock = VM_CLOCK_REAL };
	kvm.verdict = KVM_VERDICT_GOOD;
	assert_true(picks_kvm(&cfg, words));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(measured),
		cmocka_unit_test(exact),
		cmocka_unit_test(named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
