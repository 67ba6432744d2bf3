/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_random.c - random state, random tables, random calls
 *
 * Two promises hold for any input: a fault leaves the CPU as it was, but for what sys.h names;
 * and delivery of an event always ends, in a handler or in shutdown. Sanitizers watch the rest.
 */
#include "rig.h"

#include <stdlib.h>
#include <string.h>

static u64 seed = 0x123456789abcdefull;

static u64 rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1dull >> 8;
}

static u16 random_sel(void)
{
	return rnd() % 16 ? (u16)(rnd() % SEL_END) : (u16)rnd();
}

static u64 random_addr(void)
{
	switch (rnd() % 4) {
	case 0:
		return RIG_STACK - rnd() % 128;
	case 1:
		return (u64)((s64)(rnd() << 17) >> 16);
	case 2:
		return rnd() << 8 ^ rnd();
	default:
		return (u32)rnd();
	}
}

static void random_state(struct rig *r)
{
	struct x86_cpu *c = &r->c;

	switch (rnd() % 6) {
	case 0:
		rig_real(r);
		break;
	case 1:
		rig_prot32(r, rnd() & 1 ? 3 : 0);
		break;
	case 2:
		rig_v86(r, (unsigned)(rnd() & 3));
		break;
	case 3:
		rig_compat(r, rnd() & 1 ? 3 : 0);
		break;
	default:
		rig_long(r, rnd() & 1 ? 3 : 0);
		break;
	}
	/* Half-plausible descriptors, gates and stack words. */
	for (unsigned i = 0; i < 8; i++) {
		rig_put(r, RIG_GDT + (u32)(rnd() % SEL_END), 1, rnd());
		rig_put(r, RIG_GDT + (u32)(rnd() % (SEL_END / 8)) * 8 + 5, 1, rnd());
		rig_put(r, RIG_TSS + (u32)(rnd() % 128), 1, rnd());
	}
	for (u32 i = 0; i < 64; i += 4)
		rig_put(r, RIG_STACK + i, 4, rnd() % 3 ? random_sel() : rnd());
	for (u8 v = 0; v < 32; v++)
		rig_gate(r, v, random_sel(), random_addr(),
			 (u8)(rnd() % 4 ? 0x8e | (rnd() & 0x61) : rnd()), rnd() % 4 ? 0 : 1);
	for (int i = 0; i < X86_GPRS; i++)
		c->r[i] = i == X86_RSP && rnd() % 4 ? RIG_STACK + rnd() % 16 : random_addr();
	c->seg[X86_SS].limit = rnd() % 4 ? c->seg[X86_SS].limit : (u32)(rnd() % 0x10000);
	c->gdtr.limit = (u16)(rnd() % 4 ? SEL_END - 1 : rnd() % SEL_END);
	x86_put_rflags(c, x86_get_rflags(c) ^ (rnd() & (X86_NT | X86_IOPL | X86_AC | X86_ARITH)));
	c->sysenter_cs = random_sel();
	c->star = rnd() << 8;
	c->lstar = (u64)((s64)(rnd() << 17) >> 16);
	memset(r->absent, 0, sizeof(r->absent));
	if (rnd() % 4 == 0)
		r->absent[0] = (rnd() % 16) << 12;
	x86_derive(c);
}

static int random_call(struct x86_cpu *c)
{
	static const unsigned sizes[] = { 2, 4, 8 };
	unsigned op = sizes[rnd() % (x86_code64(c) ? 3 : 2)];
	u32 out;
	u64 v;

	switch (rnd() % 20) {
	case 0:
		return x86_load_seg(c, X86_SS, random_sel());
	case 1:
		return x86_load_seg(c, rnd() & 1 ? X86_DS : X86_FS, random_sel());
	case 2:
		return x86_far_jmp(c, random_sel(), random_addr(), op);
	case 3:
	case 4:
		return x86_far_call(c, random_sel(), random_addr(), op, random_addr());
	case 5:
	case 6:
		return x86_far_ret(c, op, (u16)(rnd() % 3 ? 0 : rnd()));
	case 7:
	case 8:
		return x86_iret(c, op);
	case 9:
		return x86_syscall(c, random_addr());
	case 10:
		return x86_sysret(c, op == 8 ? 8 : 4);
	case 11:
		return rnd() & 1 ? x86_sysenter(c) : x86_sysexit(c, op == 8 ? 8 : 4);
	case 12:
		return rnd() & 1 ? x86_lldt(c, random_sel()) : x86_ltr(c, random_sel());
	case 13:
		return -MIN(x86_lar(c, random_sel(), &out), 0);
	case 14:
		return x86_cr_write(c, (unsigned)(rnd() % 9), BIT(rnd() % 64) ^ c->cr0);
	case 15:
		return x86_cr_write(c, 4, c->cr4 ^ BIT(rnd() % 24));
	case 16:
		return x86_wrmsr(c, (u32)(rnd() % 0x400), random_addr());
	case 17:
		return x86_wrmsr(c, 0xc0000080 + (u32)(rnd() % 8), random_addr());
	case 18:
		return x86_rdmsr(c, (u32)(rnd() & 1 ? rnd() : rnd() % 0x900), &v);
	default:
		return rnd() & 1 ? x86_xrstor(c, random_addr() & ~63ull, rnd(), true)
				 : x86_fxrstor(c, random_addr() & ~15ull, true);
	}
}

static void test_faults_change_nothing(void **state)
{
	struct rig *r = rig_new();
	struct x86_cpu before;
	unsigned faults = 0;

	for (unsigned i = 0; i < 60000; i++) {
		int ret;

		random_state(r);
		before = r->c;
		ret = random_call(&r->c);
		assert_in_range(ret, 0, 1);
		if (ret == 0) {
			assert_in_range(r->c.cpl, 0, 3);
			continue;
		}
		faults++;
		before.exc = r->c.exc;
		before.nmi_blocked = r->c.nmi_blocked;
		assert_memory_equal(&before, &r->c, sizeof(before));
	}
	assert_in_range(faults, 10000, 50000);
	free(r);
}

static void test_delivery_ends(void **state)
{
	struct rig *r = rig_new();
	unsigned down = 0, done = 0;

	for (unsigned i = 0; i < 40000; i++) {
		enum x86_event kind = (enum x86_event)(rnd() % 5);
		struct x86_cpu before;
		int ret;

		random_state(r);
		r->c.exc = (struct x86_exc){ .vector = (u8)(rnd() % 20),
					     .has_err = rnd() & 1,
					     .err = (u32)rnd() & 0xffff };
		before = r->c;
		ret = x86_deliver(&r->c, kind, (u8)(rnd() % 40), 0x4002);
		if (kind == X86_EV_SOFT) {
			assert_in_range(ret, 0, 1);
		} else {
			assert_true(ret == 0 || ret == X86_SHUTDOWN);
			down += ret == X86_SHUTDOWN;
			done += ret == 0;
		}
		if (ret == 0)
			continue;
		/* Shutdown leaves the state of the first event's moment to look at. */
		assert_int_equal(r->c.rip, before.rip);
		assert_memory_equal(r->c.seg, before.seg, sizeof(before.seg));
		assert_memory_equal(r->c.r, before.r, sizeof(before.r));
		assert_int_equal(x86_get_rflags(&r->c), x86_get_rflags(&before));
	}
	assert_true(down > 1000 && done > 1000);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults_change_nothing),
		cmocka_unit_test(test_delivery_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
