/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_xsave.c - FXSAVE, XSAVE and their restores: images byte for byte, checks, precision
 */
#include "rig.h"

#include <stdlib.h>
#include <string.h>

#define AREA 0x20000u

static struct rig *xrig(void)
{
	struct rig *r = rig_new();
	struct x86_cpu *c = &r->c;

	c->cr4 |= CR4_OSFXSR | CR4_OSXSAVE;
	c->xcr0 = 7;
	c->x.fcw = 0x37e; /* invalid operation unmasked */
	c->x.fsw = 0x3800;
	c->x.ftw = 0x81;
	c->x.fop = 0x123; /* never shown */
	c->x.fip = c->x.fdp = 0xdeadbeef;
	c->x.mxcsr = 0x1fa0;
	for (int i = 0; i < 8; i++)
		memset(c->x.st[i], 0x10 + i, 16);
	for (int i = 0; i < 16; i++) {
		memset(c->x.xmm[i], 0x40 + i, 16);
		memset(c->x.ymmh[i], 0x80 + i, 16);
	}
	memset(r->mem + AREA, 0xcc, 1024);
	return r;
}

static bool area_is(const struct rig *r, unsigned off, unsigned len, u8 byte)
{
	for (unsigned i = 0; i < len; i++)
		if (r->mem[AREA + off + i] != byte)
			return false;
	return true;
}

static void check_legacy(const struct rig *r, unsigned vregs)
{
	assert_int_equal(rig_get(r, AREA, 4), 0x3800037e);
	assert_int_equal(rig_get(r, AREA + 4, 4), 0x81); /* FTW, reserved, FOP = 0 */
	assert_int_equal(rig_get(r, AREA + 8, 8), 0);
	assert_int_equal(rig_get(r, AREA + 16, 8), 0);
	for (unsigned i = 0; i < 8; i++) {
		assert_true(area_is(r, 32 + 16 * i, 10, (u8)(0x10 + i)));
		assert_true(area_is(r, 42 + 16 * i, 6, 0));
	}
	for (unsigned i = 0; i < vregs; i++)
		assert_true(area_is(r, 160 + 16 * i, 16, (u8)(0x40 + i)));
	assert_true(area_is(r, 160 + 16 * vregs, 352 - 16 * vregs, 0xcc));
}

static void test_fxsave(void **state)
{
	struct rig *r = xrig();

	assert_int_equal(x86_fxsave(&r->c, AREA, true), 0);
	check_legacy(r, 16);
	assert_int_equal(rig_get(r, AREA + 24, 4), 0x1fa0);
	assert_int_equal(rig_get(r, AREA + 28, 4), 0xffff);
	/* Eight registers outside 64-bit mode. */
	rig_prot32(r, 3);
	memset(r->mem + AREA, 0xcc, 1024);
	assert_int_equal(x86_fxsave(&r->c, AREA, false), 0);
	check_legacy(r, 8);
	assert_true(r->user_accesses > 0);
	assert_fault(r, x86_fxsave(&r->c, AREA + 8, false), X86_GP, 0);
	r->c.cr0 |= CR0_TS;
	assert_fault(r, x86_fxsave(&r->c, AREA, false), X86_NM, -1);
	r->c.cr0 ^= CR0_TS | CR0_EM;
	assert_fault(r, x86_fxrstor(&r->c, AREA, false), X86_NM, -1);
	free(r);
}

/* A save that ends on an absent page writes nothing at all. */
static void test_precise(void **state)
{
	struct rig *r = xrig();
	struct x86_xstate before;

	r->absent[0] = AREA + 0x1000;
	memset(r->mem + AREA + 0xf00, 0xcc, 0x200);
	assert_fault(r, x86_fxsave(&r->c, AREA + 0xf00, true), X86_PF_EXC, PFEC_W);
	assert_true(area_is(r, 0xf00, 0x100, 0xcc));
	assert_fault(r, x86_xsave(&r->c, AREA + 0xd00, 7, X86_XSAVE, true), X86_PF_EXC, PFEC_W);
	assert_true(area_is(r, 0xf00, 0x100, 0xcc));
	assert_false(r->c.lin_explicit);
	/* A restore that does leaves the registers. */
	before = r->c.x;
	assert_fault(r, x86_fxrstor(&r->c, AREA + 0xf00, true), X86_PF_EXC, 0);
	assert_memory_equal(&before, &r->c.x, sizeof(before));
	memset(r->mem + AREA, 0, 1024);
	rig_put(r, AREA + 0xd00 + 512, 8, 7);
	memset(r->mem + AREA + 0xd00 + 520, 0, 56);
	assert_fault(r, x86_xrstor(&r->c, AREA + 0xd00, 7, true), X86_PF_EXC, 0);
	assert_memory_equal(&before, &r->c.x, sizeof(before));
	free(r);
}

static void test_fx_round_trip(void **state)
{
	struct rig *r = xrig();
	struct x86_xstate s;

	assert_int_equal(x86_fxsave(&r->c, AREA, true), 0);
	s = r->c.x;
	memset(&r->c.x, 0, sizeof(r->c.x));
	assert_int_equal(x86_fxrstor(&r->c, AREA, true), 0);
	assert_int_equal(r->c.x.fcw, s.fcw);
	assert_int_equal(r->c.x.fsw, s.fsw);
	assert_int_equal(r->c.x.ftw, s.ftw);
	assert_int_equal(r->c.x.mxcsr, s.mxcsr);
	assert_memory_equal(r->c.x.xmm, s.xmm, sizeof(s.xmm));
	for (int i = 0; i < 8; i++)
		assert_memory_equal(r->c.x.st[i], s.st[i], 10);
	/* Reserved MXCSR bits; then control and status words as hardware normalizes them. */
	rig_put(r, AREA + 24, 4, 0x10000);
	assert_fault(r, x86_fxrstor(&r->c, AREA, true), X86_GP, 0);
	rig_put(r, AREA + 24, 4, 0x1f80);
	rig_put(r, AREA, 4, 0x8080ffff);
	assert_int_equal(x86_fxrstor(&r->c, AREA, true), 0);
	assert_int_equal(r->c.x.fcw, 0x1f7f);
	assert_int_equal(r->c.x.fsw, 0);
	rig_put(r, AREA, 4, 0x00010000);
	assert_int_equal(x86_fxrstor(&r->c, AREA, true), 0);
	assert_int_equal(r->c.x.fcw, 0x0040);
	assert_int_equal(r->c.x.fsw, 0x8081);
	free(r);
}

static void test_xsave_forms(void **state)
{
	struct rig *r = xrig();

	/* XSTATE_BV: bits outside RFBM stay, those inside say what is in use. */
	rig_put(r, AREA + 512, 8, 0x8000000000000004ull);
	assert_int_equal(x86_xsave(&r->c, AREA, 3, X86_XSAVE, true), 0);
	check_legacy(r, 16);
	assert_int_equal(rig_get(r, AREA + 512, 8), 0x8000000000000007ull);
	assert_true(area_is(r, 520, 56, 0xcc)); /* the rest of the header is not touched */
	assert_true(area_is(r, 576, 256, 0xcc));
	assert_int_equal(x86_xsave(&r->c, AREA, ~0ull, X86_XSAVE, true), 0);
	for (unsigned i = 0; i < 16; i++)
		assert_true(area_is(r, 576 + 16 * i, 16, (u8)(0x80 + i)));

	/* MXCSR goes with AVX as well; without either it stays. */
	memset(r->mem + AREA, 0xcc, 1024);
	assert_int_equal(x86_xsave(&r->c, AREA, 4, X86_XSAVE, true), 0);
	assert_true(area_is(r, 0, 24, 0xcc));
	assert_int_equal(rig_get(r, AREA + 24, 8), 0x0000ffff00001fa0ull);
	assert_true(area_is(r, 32, 480, 0xcc));
	memset(r->mem + AREA, 0xcc, 1024);
	assert_int_equal(x86_xsave(&r->c, AREA, 1, X86_XSAVE, true), 0);
	assert_true(area_is(r, 24, 8, 0xcc));

	/* XSAVEOPT leaves out what is in its initial configuration, XSAVE writes it. */
	memset(r->c.x.ymmh, 0, sizeof(r->c.x.ymmh));
	memset(r->mem + AREA, 0xcc, 1024);
	rig_put(r, AREA + 512, 8, 7);
	assert_int_equal(x86_xsave(&r->c, AREA, 7, X86_XSAVEOPT, true), 0);
	assert_int_equal(rig_get(r, AREA + 512, 8), 3);
	assert_true(area_is(r, 576, 256, 0xcc));
	assert_int_equal(x86_xsave(&r->c, AREA, 7, X86_XSAVE, true), 0);
	assert_int_equal(rig_get(r, AREA + 512, 8), 3);
	assert_true(area_is(r, 576, 256, 0));

	/* MXCSR alone puts SSE in use. */
	memset(r->c.x.xmm, 0, sizeof(r->c.x.xmm));
	assert_int_equal(x86_xsave(&r->c, AREA, 2, X86_XSAVE, true), 0);
	assert_int_equal(rig_get(r, AREA + 512, 8), 3);
	r->c.x.mxcsr = 0x1f80;
	assert_int_equal(x86_xsave(&r->c, AREA, 2, X86_XSAVE, true), 0);
	assert_int_equal(rig_get(r, AREA + 512, 8), 1);
	r->c.x.mxcsr = 0x1fa0;

	/* XSAVEC writes both words of the header. */
	memset(r->mem + AREA, 0xcc, 1024);
	assert_int_equal(x86_xsave(&r->c, AREA, 7, X86_XSAVEC, true), 0);
	assert_int_equal(rig_get(r, AREA + 512, 8), 3);
	assert_int_equal(rig_get(r, AREA + 520, 8), BIT(63) | 7);
	free(r);
}

static void test_xsave_checks(void **state)
{
	struct rig *r = xrig();
	struct x86_cpu *c = &r->c;

	assert_fault(r, x86_xsave(c, AREA + 16, 7, X86_XSAVE, true), X86_GP, 0);
	c->cr0 |= CR0_TS;
	assert_fault(r, x86_xsave(c, AREA, 7, X86_XSAVE, true), X86_NM, -1);
	c->cr4 &= ~CR4_OSXSAVE;
	assert_fault(r, x86_xsave(c, AREA, 7, X86_XSAVE, true), X86_UD, -1);
	assert_fault(r, x86_xrstor(c, AREA, 7, true), X86_UD, -1);
	free(r);
}

static void test_xrstor(void **state)
{
	struct rig *r = xrig();
	struct x86_cpu *c = &r->c;
	struct x86_xstate s = c->x;

	memset(r->mem + AREA, 0, 1024);
	assert_int_equal(x86_xsave(c, AREA, 7, X86_XSAVE, true), 0);
	memset(&c->x, 0x55, sizeof(c->x));
	assert_int_equal(x86_xrstor(c, AREA, 7, true), 0);
	assert_memory_equal(c->x.xmm, s.xmm, sizeof(s.xmm));
	assert_memory_equal(c->x.ymmh, s.ymmh, sizeof(s.ymmh));
	assert_int_equal(c->x.mxcsr, s.mxcsr);
	assert_int_equal(c->x.ftw, s.ftw);
	assert_int_equal(c->x.fip, 0);

	/* Not asked for: stays. Absent from XSTATE_BV: initial; but MXCSR is still loaded. */
	rig_put(r, AREA + 512, 8, 0);
	assert_int_equal(x86_xrstor(c, AREA, 3, true), 0);
	assert_int_equal(c->x.fcw, 0x37f);
	assert_int_equal(c->x.ftw, 0);
	assert_int_equal(c->x.xmm[15][0], 0);
	assert_int_equal(c->x.mxcsr, 0x1fa0);
	assert_memory_equal(c->x.ymmh, s.ymmh, sizeof(s.ymmh));
	assert_int_equal(x86_xrstor(c, AREA, 4, true), 0);
	assert_int_equal(c->x.ymmh[3][3], 0);

	/* The compacted form restores what XSAVEC made; MXCSR goes with SSE. */
	c->x = s;
	memset(r->mem + AREA, 0, 1024);
	assert_int_equal(x86_xsave(c, AREA, 7, X86_XSAVEC, true), 0);
	memset(&c->x, 0x55, sizeof(c->x));
	assert_int_equal(x86_xrstor(c, AREA, 7, true), 0);
	assert_memory_equal(c->x.xmm, s.xmm, sizeof(s.xmm));
	assert_memory_equal(c->x.ymmh, s.ymmh, sizeof(s.ymmh));
	assert_int_equal(c->x.mxcsr, s.mxcsr);
	rig_put(r, AREA + 512, 8, 0);
	assert_int_equal(x86_xrstor(c, AREA, 7, true), 0);
	assert_int_equal(c->x.mxcsr, 0x1f80);
	free(r);
}

/* SDM vol. 1, 13.8: what a header may not say. Nothing is loaded then. */
static void test_xrstor_header(void **state)
{
	static const struct {
		u64 bv, comp;
		unsigned dirty; /* offset in the header of a byte that must be 0, or 0 */
		u64 mxcsr;
	} bad[] = {
		{ 8, 0, 0, 0x1f80 }, /* not in XCR0 */
		{ 7, 7, 0, 0x1f80 }, /* XCOMP_BV in standard form */
		{ 7, 0, 16, 0x1f80 },
		{ 7, 0, 23, 0x1f80 },
		{ 7, BIT(63) | 3, 0, 0x1f80 }, /* more than XCOMP_BV */
		{ 7, BIT(63) | 15, 0, 0x1f80 },
		{ 3, BIT(63) | 3, 63, 0x1f80 },
		{ 7, 0, 0, 0x10000 },
		{ 0, 0, 0, 0x10000 },
	};
	struct rig *r = xrig();
	struct x86_xstate before = r->c.x;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		memset(r->mem + AREA, 0, 1024);
		rig_put(r, AREA + 24, 4, bad[i].mxcsr);
		rig_put(r, AREA + 512, 8, bad[i].bv);
		rig_put(r, AREA + 520, 8, bad[i].comp);
		if (bad[i].dirty)
			rig_put(r, AREA + 512 + bad[i].dirty, 1, 1);
		assert_fault(r, x86_xrstor(&r->c, AREA, 7, true), X86_GP, 0);
		assert_memory_equal(&before, &r->c.x, sizeof(before));
	}
	/* Byte 24 of the header does not matter in the standard form. */
	memset(r->mem + AREA, 0, 1024);
	rig_put(r, AREA + 24, 4, 0x1f80);
	rig_put(r, AREA + 512 + 24, 1, 1);
	assert_int_equal(x86_xrstor(&r->c, AREA, 7, true), 0);
	free(r);
}

/* A kernel's XSAVE into user memory is an explicit access for SMAP. */
static void test_explicit(void **state)
{
	struct rig *r = xrig();

	assert_int_equal(x86_xsave(&r->c, AREA, 7, X86_XSAVE, true), 0);
	assert_true(r->explicit_accesses > 0);
	assert_int_equal(r->user_accesses, 0);
	assert_false(r->c.lin_explicit);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fxsave),	      cmocka_unit_test(test_precise),
		cmocka_unit_test(test_fx_round_trip), cmocka_unit_test(test_xsave_forms),
		cmocka_unit_test(test_xsave_checks),  cmocka_unit_test(test_xrstor),
		cmocka_unit_test(test_xrstor_header), cmocka_unit_test(test_explicit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
