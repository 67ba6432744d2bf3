// SPDX-License-Identifier: Apache-2.0
/*
 * test_calls.c - what the engine asks KVM for, and what it makes of a KVM that lacks something
 *
 * The linker leads the engine's ioctl(2) to a function here (--wrap), which is a KVM as the test wants it. So
 * hosts are shown that are not at hand, and this runs where there is no KVM at all.
 */
#include "cpu/kvm/caps.h"
#include "cpu/kvm/kvm_priv.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SYS 1000
#define VM 1001
#define VCPU 1002

int __wrap_ioctl(int fd, unsigned long request, unsigned long arg);

/* The host. */
static struct {
	int version;
	long lacks;  /* KVM_CAP_*; -1: nothing */
	int exits;   /* that can be switched off */
	int refuses; /* to switch any off: an errno */
	/* What was asked for. */
	unsigned n_checked;
	u64 disabled, halt_poll, x2apic;
	bool polls, split;
	struct kvm_lapic_state lapic;
	char warned[256];
} host;

static int refused(int error)
{
	errno = error;
	return -1;
}

static int enable(const struct kvm_enable_cap *c)
{
	switch (c->cap) {
	case KVM_CAP_X86_DISABLE_EXITS:
		if (host.refuses)
			return refused(host.refuses);
		host.disabled = c->args[0];
		return 0;
	case KVM_CAP_HALT_POLL:
		host.polls = true;
		host.halt_poll = c->args[0];
		return 0;
	case KVM_CAP_SPLIT_IRQCHIP:
		host.split = c->args[0] == 64;
		return 0;
	case KVM_CAP_X2APIC_API:
		host.x2apic = c->args[0];
		return 0;
	default:
		return refused(EINVAL);
	}
}

int __wrap_ioctl(int fd, unsigned long request, unsigned long arg)
{
	switch (request) {
	case KVM_GET_API_VERSION:
		return host.version;
	case KVM_CHECK_EXTENSION:
		host.n_checked++;
		if ((long)arg == host.lacks)
			return 0;
		return arg == KVM_CAP_X86_DISABLE_EXITS ? host.exits : 1;
	case KVM_ENABLE_CAP:
		assert_int_equal(fd, VM);
		return enable((const struct kvm_enable_cap *)arg);
	case KVM_SET_TSS_ADDR:
	case KVM_SET_IDENTITY_MAP_ADDR:
		assert_int_equal(fd, VM);
		return 0;
	case KVM_GET_LAPIC:
		memset((void *)arg, 0, sizeof(host.lapic));
		return 0;
	case KVM_SET_LAPIC:
		assert_int_equal(fd, VCPU);
		host.lapic = *(const struct kvm_lapic_state *)arg;
		return 0;
	default:
		return refused(ENOTTY);
	}
}

static void on_warn(void *opaque, const char *words)
{
	assert_ptr_equal(opaque, &host);
	snprintf(host.warned, sizeof(host.warned), "%s", words);
}

static int setup(void **s)
{
	memset(&host, 0, sizeof(host));
	host.version = 12;
	host.lacks = -1;
	host.exits = KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE |
		     KVM_X86_DISABLE_EXITS_MWAIT;
	return 0;
}

/* Whatever is missing is named; nothing else is needed. */
static void test_capabilities(void **s)
{
	static const struct {
		int cap;
		const char *name;
	} some[] = {
		{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
		{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP" },
		{ KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD" },
		{ KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR" },
		{ KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK" },
		{ KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS" },
		{ KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE" },
		{ KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS" },
		{ KVM_CAP_XCRS, "KVM_CAP_XCRS" },
		{ KVM_CAP_XSAVE, "KVM_CAP_XSAVE" },
		{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
		{ KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP" },
		{ KVM_CAP_X2APIC_API, "KVM_CAP_X2APIC_API" },
		{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
	};
	struct err e = { 0 };

	assert_int_equal(kvm_caps_check(SYS, &e), 0);
	assert_true(host.n_checked >= ARRAY_LEN(some));
	for (unsigned i = 0; i < ARRAY_LEN(some); i++) {
		host.lacks = some[i].cap;
		assert_int_equal(kvm_caps_check(SYS, &e), -ENOTSUP);
		assert_non_null(strstr(e.msg, some[i].name));
	}
	host.lacks = KVM_CAP_IRQFD; /* not used (x86/irq.c) */
	assert_int_equal(kvm_caps_check(SYS, &e), 0);
	host.version = 11;
	assert_int_equal(kvm_caps_check(SYS, &e), -ENOTSUP);
	assert_non_null(strstr(e.msg, "version 11"));
}

static struct kvm machine(bool keep)
{
	static const u32 ids[] = { 0 };

	return (struct kvm){ .sys = SYS,
			     .vm = VM,
			     .cfg = { .ncpus = 1,
				      .apic_ids = ids,
				      .pins = 64,
				      .keep_cpus = keep,
				      .warn = on_warn,
				      .perf_opaque = &host } };
}

/* HLT and PAUSE stay in the guest as far as KVM lets them; the rest is warned of, not an error. */
static void test_keep_cpus(void **s)
{
	static const struct {
		int exits, refuses;
		u64 disabled;
		bool halts_inside;
		const char *words;
	} cases[] = {
		{ 0xf, 0, 6, true, "" },
		{ 0xf, EINVAL, 0, false, "HLT and PAUSE" },
		{ KVM_X86_DISABLE_EXITS_MWAIT, 0, 0, false, "HLT and PAUSE" },
		{ 0, 0, 0, false, "HLT and PAUSE" },
		{ KVM_X86_DISABLE_EXITS_HLT, 0, 2, true, "let PAUSE stay" },
		{ KVM_X86_DISABLE_EXITS_PAUSE, 0, 4, false, "let HLT stay" },
	};
	struct err e = { 0 };
	struct kvm k;

	assert_int_equal(KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE, 6);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		setup(s);
		host.exits = cases[i].exits;
		host.refuses = cases[i].refuses;
		k = machine(true);
		assert_int_equal(kvm_irqchip_new(&k, &e), 0);
		assert_int_equal(host.disabled, cases[i].disabled);
		assert_int_equal(k.halts_inside, cases[i].halts_inside);
		assert_non_null(strstr(host.warned, cases[i].words));
		assert_int_equal(host.warned[0] == 0, cases[i].words[0] == 0);
	}
	/* Others leave the guest, and nothing is said. */
	setup(s);
	k = machine(false);
	assert_int_equal(kvm_irqchip_new(&k, &e), 0);
	assert_int_equal(host.disabled, 0);
	assert_string_equal(host.warned, "");
}

/* The irqchip is split, with 32-bit ids; idle vCPUs spin only if that was not forbidden. */
static void test_irqchip(void **s)
{
	struct kvm k = machine(false);
	struct err e = { 0 };

	assert_int_equal(kvm_irqchip_new(&k, &e), 0);
	assert_true(host.split);
	assert_int_equal(host.x2apic, 3);
	assert_false(host.polls);
	k.cfg.halt_poll_set = true;
	assert_int_equal(kvm_irqchip_new(&k, &e), 0);
	assert_true(host.polls);
	assert_int_equal(host.halt_poll, 0);
	setup(s);
	host.lacks = KVM_CAP_HALT_POLL;
	assert_int_equal(kvm_irqchip_new(&k, &e), 0);
	assert_false(host.polls);
}

static u32 lvt(unsigned reg)
{
	u32 val;

	memcpy(&val, host.lapic.regs + reg, sizeof(val));
	return val;
}

/* As firmware leaves them: the boot CPU's LINT0 is an 8259's, LINT1 NMI; the others' are masked. */
static void test_lint(void **s)
{
	struct kvm k = machine(false);
	struct kvm_vcpu v = { .k = &k, .fd = VCPU };
	struct err e = { 0 };

	assert_int_equal(kvm_lapic_init(&v, &e), 0);
	assert_int_equal(lvt(0x350), 0x700);
	assert_int_equal(lvt(0x360), 0x400);
	v.index = 1;
	assert_int_equal(kvm_lapic_init(&v, &e), 0);
	assert_int_equal(lvt(0x350), 0x10700);
	assert_int_equal(lvt(0x360), 0x10400);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_capabilities, setup),
		cmocka_unit_test_setup(test_keep_cpus, setup),
		cmocka_unit_test_setup(test_irqchip, setup),
		cmocka_unit_test_setup(test_lint, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
