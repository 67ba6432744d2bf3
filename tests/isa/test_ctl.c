/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ctl.c - segment loads and far control transfers (SDM vol. 2, each instruction's operation)
 */
#include "rig.h"

#include <stdlib.h>

/* --- segment registers ------------------------------------------------------------------------ */

struct load_case {
	u16 sel;
	int exc; /* 0: loads */
	u32 err;
};

static void check_loads(struct rig *r, enum x86_segreg s, const struct load_case *t, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct x86_seg before = r->c.seg[s];
		int ret = x86_load_seg(&r->c, s, t[i].sel);

		if (!t[i].exc) {
			assert_int_equal(ret, 0);
			assert_int_equal(r->c.seg[s].sel, t[i].sel);
			continue;
		}
		assert_int_equal(ret, X86_FAULT);
		assert_exc(r, t[i].exc, t[i].err);
		assert_memory_equal(&before, &r->c.seg[s], sizeof(before));
	}
}

static void test_load_data(void **state)
{
	static const struct load_case at0[] = {
		{ SEL_DATA0, 0, 0 },
		{ SEL_DATA3 | 3, 0, 0 },
		{ SEL_DATA0 | 3, X86_GP, SEL_DATA0 }, /* RPL > DPL */
		{ SEL_CODE0, 0, 0 },		      /* readable code */
		{ SEL_XO0, X86_GP, SEL_XO0 },
		{ SEL_CONF0 | 3, 0, 0 }, /* conforming: privilege does not count */
		{ SEL_RO0, 0, 0 },
		{ SEL_ABSENT, X86_NP, SEL_ABSENT },
		{ SEL_TSS, X86_GP, SEL_TSS },
		{ SEL_END, X86_GP, SEL_END },
		{ 0x1004, X86_GP, 0x1004 }, /* beyond the LDT */
		{ 0, 0, 0 },
		{ 3, 0, 0 },
	};
	static const struct load_case at3[] = {
		{ SEL_DATA3, 0, 0 },
		{ SEL_DATA0, X86_GP, SEL_DATA0 },
		{ SEL_CODE0, X86_GP, SEL_CODE0 },
		{ SEL_CONF0, 0, 0 },
	};
	struct rig *r = rig_new();

	rig_prot32(r, 0);
	check_loads(r, X86_DS, at0, ARRAY_LEN(at0));
	check_loads(r, X86_GS, at0, ARRAY_LEN(at0));
	rig_prot32(r, 3);
	check_loads(r, X86_ES, at3, ARRAY_LEN(at3));
	free(r);
}

static void test_load_ss(void **state)
{
	static const struct load_case at0[] = {
		{ SEL_DATA0, 0, 0 },
		{ SEL_DATA0 | 3, X86_GP, SEL_DATA0 },
		{ SEL_DATA3 | 3, X86_GP, SEL_DATA3 },
		{ SEL_RO0, X86_GP, SEL_RO0 },
		{ SEL_CODE0, X86_GP, SEL_CODE0 },
		{ SEL_ABSENT, X86_SS_EXC, SEL_ABSENT },
		{ SEL_END, X86_GP, SEL_END },
		{ 0, X86_GP, 0 },
	};
	static const struct load_case at0_64[] = { { 0, 0, 0 }, { 3, X86_GP, 0 } };
	static const struct load_case at3_64[] = { { 3, X86_GP, 0 }, { SEL_DATA3 | 3, 0, 0 } };
	struct rig *r = rig_new();

	rig_prot32(r, 0);
	check_loads(r, X86_SS, at0, ARRAY_LEN(at0));
	rig_long(r, 0);
	check_loads(r, X86_SS, at0_64, ARRAY_LEN(at0_64));
	assert_int_equal(r->c.cpl, 0);
	rig_long(r, 3);
	check_loads(r, X86_SS, at3_64, ARRAY_LEN(at3_64));
	assert_int_equal(r->c.cpl, 3);
	free(r);
}

static void test_load_effects(void **state)
{
	struct rig *r = rig_new();

	rig_prot32(r, 0);
	rig_desc(r, SEL_FREE, 0x00abcdef, 0x12345, 0x92, 0xc);
	assert_int_equal(x86_load_seg(&r->c, X86_FS, SEL_FREE), 0);
	assert_int_equal(r->c.seg[X86_FS].limit, 0x12345fff);
	assert_int_equal(r->c.segbase[X86_FS], 0xabcdef);
	assert_int_equal(rig_get(r, RIG_GDT + SEL_FREE + 5, 1), 0x93); /* accessed */
	/* The whole descriptor must be inside the table's limit. */
	r->c.gdtr.limit = SEL_FREE + 6;
	assert_fault(r, x86_load_seg(&r->c, X86_FS, SEL_FREE), X86_GP, SEL_FREE);
	r->c.gdtr.limit = SEL_FREE + 7;
	assert_int_equal(x86_load_seg(&r->c, X86_FS, SEL_FREE), 0);
	/* A page fault on the table leaves everything. */
	r->absent[0] = RIG_GDT;
	assert_fault(r, x86_load_seg(&r->c, X86_FS, SEL_DATA0), X86_PF_EXC, 0);
	r->absent[0] = 0;
	/* In 64-bit mode DS has no base, FS has; a null FS clears it. */
	rig_long(r, 0);
	rig_desc(r, SEL_FREE, 0x00abcdef, 0x12345, 0x92, 0xc);
	assert_int_equal(x86_load_seg(&r->c, X86_DS, SEL_FREE), 0);
	assert_int_equal(x86_load_seg(&r->c, X86_FS, SEL_FREE), 0);
	assert_int_equal(r->c.segbase[X86_DS], 0);
	assert_int_equal(r->c.segbase[X86_FS], 0xabcdef);
	assert_int_equal(x86_load_seg(&r->c, X86_FS, 0), 0);
	assert_int_equal(r->c.segbase[X86_FS], 0);
	/* Real mode keeps limits; virtual-8086 mode sets them. */
	rig_real(r);
	r->c.seg[X86_DS].limit = 0xffffffff;
	assert_int_equal(x86_load_seg(&r->c, X86_DS, 0x1234), 0);
	assert_int_equal(r->c.segbase[X86_DS], 0x12340);
	assert_int_equal(r->c.seg[X86_DS].limit, 0xffffffff);
	free(r);
}

static void test_ldt_tr(void **state)
{
	struct rig *r = rig_new();

	assert_int_equal(x86_lldt(&r->c, SEL_LDT), 0);
	assert_int_equal(r->c.ldtr.base, RIG_LDT);
	rig_desc(r, 0x0c, 0x500, 0xff, 0xf2, 0x4);
	assert_int_equal(x86_load_seg(&r->c, X86_FS, 0x0f), 0);
	assert_int_equal(r->c.segbase[X86_FS], 0x500);
	assert_fault(r, x86_lldt(&r->c, SEL_TSS), X86_GP, SEL_TSS);
	assert_fault(r, x86_lldt(&r->c, 0x0c), X86_GP, 0x0c);
	assert_int_equal(x86_lldt(&r->c, 0), 0);
	assert_int_equal(r->c.ldtr.attr, 0);

	assert_fault(r, x86_ltr(&r->c, 0), X86_GP, 0);
	assert_fault(r, x86_ltr(&r->c, SEL_DATA0), X86_GP, SEL_DATA0);
	rig_put(r, RIG_GDT + SEL_TSS + 8, 4, 0xffff8000);
	assert_int_equal(x86_ltr(&r->c, SEL_TSS), 0);
	assert_int_equal(r->c.tr.base, 0xffff800000000000ull | RIG_TSS);
	assert_int_equal(rig_get(r, RIG_GDT + SEL_TSS + 5, 1), 0x8b);
	assert_fault(r, x86_ltr(&r->c, SEL_TSS), X86_GP, SEL_TSS); /* busy */
	rig_put(r, RIG_GDT + SEL_TSS + 5, 1, 0x09);
	assert_fault(r, x86_ltr(&r->c, SEL_TSS), X86_NP, SEL_TSS);
	/* The second half's type must be zero; both halves must be inside the limit. */
	rig_put(r, RIG_GDT + SEL_TSS + 5, 1, 0x89);
	rig_put(r, RIG_GDT + SEL_TSS + 13, 1, 0x09);
	assert_fault(r, x86_ltr(&r->c, SEL_TSS), X86_GP, SEL_TSS);
	r->c.gdtr.limit = SEL_TSS + 14;
	assert_fault(r, x86_ltr(&r->c, SEL_TSS), X86_GP, SEL_TSS);
	rig_long(r, 3);
	assert_fault(r, x86_ltr(&r->c, SEL_TSS), X86_GP, 0);
	rig_real(r);
	assert_fault(r, x86_ltr(&r->c, SEL_TSS), X86_UD, -1);
	free(r);
}

static void test_inspect(void **state)
{
	struct rig *r = rig_new();
	u32 v = 0;

	assert_int_equal(x86_lar(&r->c, SEL_CODE0_64, &v), 1);
	assert_int_equal(v, 0x00af9a00);
	assert_int_equal(x86_lsl(&r->c, SEL_TSS, &v), 1);
	assert_int_equal(v, 0x1fff);
	assert_int_equal(x86_lar(&r->c, 0, &v), 0);
	assert_int_equal(x86_lar(&r->c, SEL_END, &v), 0);
	assert_int_equal(x86_lar(&r->c, SEL_DATA0 | 3, &v), 0);
	assert_int_equal(x86_lar(&r->c, SEL_CONF0 | 3, &v), 1);
	rig_put(r, RIG_GDT + SEL_FREE + 5, 1, 0x84); /* a 16-bit call gate: not in long mode */
	assert_int_equal(x86_lar(&r->c, SEL_FREE, &v), 0);
	assert_int_equal(x86_verr(&r->c, SEL_XO0, false), 0);
	assert_int_equal(x86_verr(&r->c, SEL_CODE0, false), 1);
	assert_int_equal(x86_verr(&r->c, SEL_CODE0, true), 0);
	assert_int_equal(x86_verr(&r->c, SEL_RO0, true), 0);
	assert_int_equal(x86_verr(&r->c, SEL_DATA0, true), 1);
	assert_int_equal(x86_verr(&r->c, SEL_TSS, false), 0);
	r->absent[0] = RIG_GDT;
	assert_int_equal(x86_verr(&r->c, SEL_DATA0, true), -X86_FAULT);
	assert_exc(r, X86_PF_EXC, 0);
	rig_prot32(r, 0);
	r->absent[0] = 0;
	assert_int_equal(x86_lar(&r->c, SEL_FREE, &v), 1);
	rig_real(r);
	assert_int_equal(x86_verr(&r->c, SEL_DATA0, true), -X86_FAULT);
	assert_exc(r, X86_UD, -1);
	free(r);
}

/* --- far transfers ---------------------------------------------------------------------------- */

static void test_jmp(void **state)
{
	struct rig *r = rig_new();

	assert_int_equal(x86_far_jmp(&r->c, SEL_CODE0, 0x1234, 4), 0);
	assert_int_equal(r->c.rip, 0x1234);
	assert_false(x86_code64(&r->c));
	assert_int_equal(x86_far_jmp(&r->c, SEL_CODE0_64, 0xffffffff00005678ull, 4), 0);
	assert_int_equal(r->c.rip, 0x5678);
	assert_fault(r, x86_far_jmp(&r->c, 0, 0, 4), X86_GP, 0);
	assert_fault(r, x86_far_jmp(&r->c, SEL_DATA0, 0, 4), X86_GP, SEL_DATA0);
	assert_fault(r, x86_far_jmp(&r->c, SEL_LD_CODE, 0, 4), X86_GP, SEL_LD_CODE);
	assert_fault(r, x86_far_jmp(&r->c, SEL_ABS_CODE, 0, 4), X86_NP, SEL_ABS_CODE);
	assert_fault(r, x86_far_jmp(&r->c, SEL_CODE3_64 | 3, 0, 4), X86_GP, SEL_CODE3_64);
	assert_fault(r, x86_far_jmp(&r->c, SEL_CONF3, 0, 4), X86_GP, SEL_CONF3);
	assert_fault(r, x86_far_jmp(&r->c, SEL_CODE0_64, 0x0000900000000000ull, 8), X86_GP, 0);
	assert_fault(r, x86_far_jmp(&r->c, SEL_TSS, 0, 4), X86_GP, SEL_TSS);
	rig_prot32(r, 3);
	/* Conforming code runs at the caller's privilege. */
	assert_int_equal(x86_far_jmp(&r->c, SEL_CONF0, 0x10, 4), 0);
	assert_int_equal(r->c.seg[X86_CS].sel, SEL_CONF0 | 3);
	assert_int_equal(r->c.cpl, 3);
	rig_desc(r, SEL_FREE, 0, 0xfff, 0xfa, 0x4);
	assert_fault(r, x86_far_jmp(&r->c, SEL_FREE | 3, 0x1000, 4), X86_GP, 0);
	assert_int_equal(x86_far_jmp(&r->c, SEL_FREE | 3, 0xfff, 4), 0);
	free(r);
}

/* The way every kernel's start-up goes: real mode, PE, far jump, 32-bit. */
static void test_enter_protected(void **state)
{
	struct rig *r = rig_new();

	rig_real(r);
	assert_int_equal(x86_far_jmp(&r->c, 0x2000, 0x30, 2), 0);
	assert_int_equal(r->c.segbase[X86_CS], 0x20000);
	r->c.gdtr = (struct x86_dtr){ RIG_GDT, SEL_END - 1 };
	assert_int_equal(x86_cr_write(&r->c, 0, CR0_PE), 0);
	assert_int_equal(r->c.cpl, 0);
	assert_int_equal(x86_far_jmp(&r->c, SEL_CODE0, 0x123456, 4), 0);
	assert_int_equal(r->c.rip, 0x123456);
	assert_true(r->c.seg[X86_CS].attr & SEG_DB);
	assert_int_equal(x86_load_seg(&r->c, X86_SS, SEL_DATA0), 0);
	free(r);
}

static void test_call_ret_same(void **state)
{
	struct rig *r = rig_new();

	assert_int_equal(x86_far_call(&r->c, SEL_CODE0_64, 0x1234, 8, 0xffffffff80001111ull), 0);
	assert_int_equal(r->c.r[X86_RSP], RIG_STACK - 16);
	assert_int_equal(rig_get(r, RIG_STACK - 16, 8), 0xffffffff80001111ull);
	assert_int_equal(rig_get(r, RIG_STACK - 8, 8), SEL_CODE0_64);
	assert_int_equal(x86_far_ret(&r->c, 8, 0), 0);
	assert_int_equal(r->c.rip, 0xffffffff80001111ull);
	assert_int_equal(r->c.r[X86_RSP], RIG_STACK);
	/* A faulting push changes nothing. */
	r->absent[0] = RIG_STACK - 0x1000;
	assert_fault(r, x86_far_call(&r->c, SEL_CODE0_64, 0x1234, 8, 1), X86_PF_EXC, PFEC_W);
	assert_int_equal(r->c.r[X86_RSP], RIG_STACK);
	assert_int_equal(r->c.rip, 0xffffffff80001111ull);
	free(r);
}

static void test_gate_64(void **state)
{
	struct rig *r = rig_new();

	rig_long(r, 3);
	rig_put(r, RIG_GDT + SEL_GATE, 8, 0x8000ec0000000000ull | (u64)SEL_CODE0_64 << 16 | 0x1111);
	rig_put(r, RIG_GDT + SEL_GATE + 8, 8, 0xffffffff);
	assert_int_equal(x86_far_call(&r->c, SEL_GATE | 3, 0x55, 4, 0x4007), 0);
	assert_int_equal(r->c.rip, 0xffffffff80001111ull);
	assert_int_equal(r->c.cpl, 0);
	assert_int_equal(r->c.r[X86_RSP], RIG_STACK0 - 32);
	assert_int_equal(rig_get(r, RIG_STACK0 - 32, 8), 0x4007);
	assert_int_equal(rig_get(r, RIG_STACK0 - 24, 8), SEL_CODE3_64 | 3);
	assert_int_equal(rig_get(r, RIG_STACK0 - 16, 8), RIG_STACK);
	assert_int_equal(rig_get(r, RIG_STACK0 - 8, 8), SEL_DATA3 | 3);
	/* And back: DS with DPL 0 is dropped, FS too, its unused base stays. */
	assert_int_equal(x86_load_seg(&r->c, X86_DS, SEL_DATA0), 0);
	assert_int_equal(x86_far_ret(&r->c, 8, 0), 0);
	assert_int_equal(r->c.cpl, 3);
	assert_int_equal(r->c.rip, 0x4007);
	assert_int_equal(r->c.r[X86_RSP], RIG_STACK);
	assert_int_equal(r->c.seg[X86_DS].sel, 0);
	assert_int_equal(r->c.seg[X86_ES].sel, SEL_DATA3 | 3);

	/* A jump may not gain privilege; the gate's own checks come first. */
	assert_fault(r, x86_far_jmp(&r->c, SEL_GATE | 3, 0, 4), X86_GP, SEL_CODE0_64);
	rig_put(r, RIG_GDT + SEL_GATE + 5, 1, 0x8c);
	assert_fault(r, x86_far_call(&r->c, SEL_GATE | 3, 0, 4, 0), X86_GP, SEL_GATE);
	rig_put(r, RIG_GDT + SEL_GATE + 5, 1, 0x6c);
	assert_fault(r, x86_far_call(&r->c, SEL_GATE | 3, 0, 4, 0), X86_NP, SEL_GATE);
	rig_put(r, RIG_GDT + SEL_GATE + 5, 1, 0xec);
	rig_put(r, RIG_GDT + SEL_GATE + 2, 2, SEL_CODE0); /* not 64-bit */
	assert_fault(r, x86_far_call(&r->c, SEL_GATE | 3, 0, 4, 0), X86_GP, SEL_CODE0);
	rig_put(r, RIG_GDT + SEL_GATE + 2, 2, SEL_LD_CODE);
	assert_fault(r, x86_far_call(&r->c, SEL_GATE | 3, 0, 4, 0), X86_GP, SEL_LD_CODE);
	free(r);
}

/* A 32-bit gate copies its parameters; RET n takes them off both stacks. */
static void test_gate_params(void **state)
{
	struct rig *r = rig_new();

	rig_prot32(r, 3);
	rig_put(r, RIG_GDT + SEL_GATE, 8, 0x0000ec0200001111ull | (u64)SEL_CODE0 << 16);
	r->c.r[X86_RSP] = RIG_STACK - 8;
	rig_put(r, RIG_STACK - 8, 8, 0x2222222211111111ull);
	assert_int_equal(x86_far_call(&r->c, SEL_GATE | 3, 0, 4, 0x4007), 0);
	assert_int_equal(r->c.r[X86_RSP], RIG_STACK0 - 24);
	assert_int_equal(rig_get(r, RIG_STACK0 - 24, 4), 0x4007);
	assert_int_equal(rig_get(r, RIG_STACK0 - 20, 4), SEL_CODE3 | 3);
	assert_int_equal(rig_get(r, RIG_STACK0 - 16, 4), 0x11111111);
	assert_int_equal(rig_get(r, RIG_STACK0 - 12, 4), 0x22222222);
	assert_int_equal(rig_get(r, RIG_STACK0 - 8, 4), RIG_STACK - 8);
	assert_int_equal(rig_get(r, RIG_STACK0 - 4, 4), SEL_DATA3 | 3);
	assert_int_equal(r->c.seg[X86_SS].sel, SEL_DATA0);
	assert_int_equal(x86_far_ret(&r->c, 4, 8), 0);
	assert_int_equal(r->c.r[X86_RSP], RIG_STACK);
	assert_int_equal(r->c.cpl, 3);
	free(r);
}

/* --- IRET ------------------------------------------------------------------------------------- */

static void put_iret64(struct rig *r, u64 rip, u64 cs, u64 flags, u64 rsp, u64 ss)
{
	u64 f[5] = { rip, cs, flags, rsp, ss };

	r->c.r[X86_RSP] = RIG_STACK - 40;
	for (u32 i = 0; i < 5; i++)
		rig_put(r, RIG_STACK - 40 + 8 * i, 8, f[i]);
}

static void test_iret_64(void **state)
{
	struct rig *r = rig_new();

	put_iret64(r, 0x7fff00001000, SEL_CODE3_64 | 3, 0x3ffeff, 0x7fff00002000, SEL_DATA3 | 3);
	r->c.nmi_blocked = true;
	assert_int_equal(x86_iret(&r->c, 8), 0);
	assert_int_equal(r->c.rip, 0x7fff00001000);
	assert_int_equal(r->c.r[X86_RSP], 0x7fff00002000);
	assert_int_equal(r->c.cpl, 3);
	assert_false(r->c.nmi_blocked);
	assert_int_equal(r->c.seg[X86_DS].sel, 0); /* DPL 0 */
	/* From privilege 0 everything but VM, VIF, VIP and the reserved bits. */
	assert_int_equal(x86_get_rflags(&r->c),
			 (0x3ffeff & ~(X86_VM | X86_VIF | X86_VIP) & ~0x8028u) | 2);
	rig_long(r, 0);
	r->c.rflags |= X86_NT;
	assert_fault(r, x86_iret(&r->c, 8), X86_GP, 0);
	/* Same privilege in 64-bit mode: SS:RSP are popped all the same; SS may be null. */
	rig_long(r, 0);
	put_iret64(r, 0x5000, SEL_CODE0_64, 2, 0x9008, 0);
	assert_int_equal(x86_iret(&r->c, 8), 0);
	assert_int_equal(r->c.r[X86_RSP], 0x9008);
	assert_int_equal(r->c.seg[X86_SS].sel, 0);
	assert_int_equal(r->c.cpl, 0);
	free(r);
}

static void test_iret_errors(void **state)
{
	static const struct {
		u64 rip, cs, ss;
		u8 exc;
		u32 err;
	} t[] = {
		{ 0x1000, 0, SEL_DATA3 | 3, X86_GP, 0 },
		{ 0x1000, SEL_DATA3 | 3, SEL_DATA3 | 3, X86_GP, SEL_DATA3 },
		{ 0x1000, SEL_CODE3_64, SEL_DATA0, X86_GP, SEL_CODE3_64 }, /* DPL != RPL */
		{ 0x1000, SEL_LD_CODE, SEL_DATA0, X86_GP, SEL_LD_CODE },
		{ 0x1000, SEL_ABS_CODE, SEL_DATA0, X86_NP, SEL_ABS_CODE },
		{ 0x1000, SEL_CODE3_64 | 3, 0, X86_GP, 0 }, /* null SS at privilege 3 */
		{ 0x1000, SEL_CODE3_64 | 3, SEL_DATA0, X86_GP, SEL_DATA0 },
		{ 0x1000, SEL_CODE0, 0, X86_GP, 0 }, /* null SS for 32-bit code */
		{ 0x1000, SEL_CODE0_64, SEL_ABSENT, X86_SS_EXC, SEL_ABSENT },
		{ 0x0000800000000000, SEL_CODE3_64 | 3, SEL_DATA3 | 3, X86_GP, 0 },
		{ 0x100000000, SEL_CODE3 | 3, SEL_DATA3 | 3, X86_GP, 0 }, /* beyond the limit */
	};
	struct rig *r = rig_new();

	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		put_iret64(r, t[i].rip, t[i].cs, 2, 0x9000, t[i].ss);
		assert_fault(r, x86_iret(&r->c, 8), t[i].exc, t[i].err);
		assert_int_equal(r->c.cpl, 0);
		assert_int_equal(r->c.rip, 0x4000);
		assert_int_equal(r->c.r[X86_RSP], RIG_STACK - 40);
	}
	rig_long(r, 3);
	put_iret64(r, 0x1000, SEL_CODE0_64, 2, 0x9000, SEL_DATA0);
	assert_fault(r, x86_iret(&r->c, 8), X86_GP, SEL_CODE0_64);
	free(r);
}

/* IRETQ to 32-bit code with a 16-bit stack loads SP only. */
static void test_iret_16bit_stack(void **state)
{
	struct rig *r = rig_new();

	put_iret64(r, 0x1000, SEL_CODE0, 2, 0x9abc1234, SEL_DATA16);
	r->c.r[X86_RSP] = RIG_STACK - 40;
	assert_int_equal(x86_iret(&r->c, 8), 0);
	assert_int_equal(r->c.r[X86_RSP], ((RIG_STACK - 40) & ~0xffffu) | 0x1234);
	free(r);
}

static void test_iret_32_same(void **state)
{
	struct rig *r = rig_new();

	rig_prot32(r, 3);
	r->c.r[X86_RSP] = RIG_STACK - 12;
	rig_put(r, RIG_STACK - 12, 4, 0x7000);
	rig_put(r, RIG_STACK - 8, 4, SEL_CODE3 | 3);
	rig_put(r, RIG_STACK - 4, 4, 0xffffffff & ~X86_NT);
	assert_int_equal(x86_iret(&r->c, 4), 0);
	assert_int_equal(r->c.r[X86_RSP], RIG_STACK);
	/* Privilege 3 with IOPL 0 changes neither IF nor IOPL nor VM. */
	assert_int_equal(x86_get_rflags(&r->c),
			 2 | X86_ARITH | X86_TF | X86_DF | X86_RF | X86_AC | X86_ID);
	assert_int_equal(r->user_accesses, 3);
	free(r);
}

static void test_real_transfers(void **state)
{
	struct rig *r = rig_new();

	rig_real(r);
	assert_int_equal(x86_far_call(&r->c, 0x1234, 0x10, 2, 0x105), 0);
	assert_int_equal(r->c.r[X86_RSP], 0xffc);
	assert_int_equal(rig_get(r, 0x5ffc, 4), 0x04000105);
	assert_int_equal(r->c.segbase[X86_CS], 0x12340);
	assert_int_equal(x86_far_ret(&r->c, 2, 6), 0);
	assert_int_equal(r->c.r[X86_RSP], 0x1006);
	assert_int_equal(r->c.rip, 0x105);
	rig_put(r, 0x6006, 2, 0x200);
	rig_put(r, 0x6008, 2, 0x300);
	rig_put(r, 0x600a, 2, 0xffff);
	assert_int_equal(x86_iret(&r->c, 2), 0);
	assert_int_equal(r->c.rip, 0x200);
	assert_int_equal(r->c.segbase[X86_CS], 0x3000);
	assert_int_equal(x86_get_rflags(&r->c), 0x7fd7);
	rig_v86(r, 2);
	assert_fault(r, x86_iret(&r->c, 2), X86_GP, 0);
	assert_fault(r, x86_popf(&r->c, 0, 2), X86_GP, 0);
	free(r);
}

/* --- SYSCALL, SYSENTER, POPF ------------------------------------------------------------------ */

static void test_syscall(void **state)
{
	struct rig *r = rig_new();

	rig_long(r, 3);
	r->c.star = 0x0023001000000000ull;
	r->c.lstar = 0xffffffff81000000ull;
	r->c.fmask = X86_IF | X86_TF | X86_DF | X86_CF;
	x86_put_rflags(&r->c, X86_IF | X86_CF | X86_ZF | X86_RF);
	assert_int_equal(x86_syscall(&r->c, 0x4002), 0);
	assert_int_equal(r->c.rip, 0xffffffff81000000ull);
	assert_int_equal(r->c.r[X86_RCX], 0x4002);
	assert_int_equal(r->c.r[X86_R11], 2 | X86_IF | X86_CF | X86_ZF);
	assert_int_equal(x86_get_rflags(&r->c), 2 | X86_ZF);
	assert_int_equal(r->c.seg[X86_CS].sel, 0x10);
	assert_int_equal(r->c.seg[X86_CS].attr, 0xa09b);
	assert_int_equal(r->c.seg[X86_SS].sel, 0x18);
	assert_int_equal(r->c.seg[X86_SS].attr, 0xc093);
	assert_int_equal(r->c.cpl, 0);
	assert_int_equal(r->c.r[X86_RSP], RIG_STACK);

	r->c.r[X86_R11] = ~0ull;
	assert_int_equal(x86_sysret(&r->c, 8), 0);
	assert_int_equal(r->c.rip, 0x4002);
	assert_int_equal(r->c.seg[X86_CS].sel, 0x33);
	assert_int_equal(r->c.seg[X86_CS].attr, 0xa0fb);
	assert_int_equal(r->c.seg[X86_SS].sel, 0x2b);
	assert_int_equal(r->c.seg[X86_SS].attr, 0xc0f3);
	assert_int_equal(r->c.cpl, 3);
	assert_int_equal(x86_get_rflags(&r->c), 0x3c7fd7);
	assert_fault(r, x86_sysret(&r->c, 8), X86_GP, 0);

	rig_long(r, 0);
	r->c.r[X86_RCX] = 0x0000800000000000ull;
	assert_fault(r, x86_sysret(&r->c, 8), X86_GP, 0);
	assert_int_equal(r->c.cpl, 0);
	assert_int_equal(x86_sysret(&r->c, 4), 0);
	assert_int_equal(r->c.rip, 0);
	assert_int_equal(r->c.seg[X86_CS].sel, 0x23);
	assert_int_equal(r->c.seg[X86_CS].attr, 0xc0fb);
	assert_false(x86_code64(&r->c));
	/* Intel: no SYSCALL outside 64-bit mode, none without SCE. */
	assert_fault(r, x86_syscall(&r->c, 0), X86_UD, -1);
	rig_long(r, 3);
	r->c.efer &= ~EFER_SCE;
	assert_fault(r, x86_syscall(&r->c, 0), X86_UD, -1);
	free(r);
}

static void test_sysenter(void **state)
{
	struct rig *r = rig_new();

	rig_compat(r, 3);
	assert_fault(r, x86_sysenter(&r->c), X86_GP, 0);
	r->c.sysenter_cs = 0x10;
	r->c.sysenter_esp = 0xffffffff82000000ull;
	r->c.sysenter_eip = 0xffffffff81000000ull;
	x86_put_rflags(&r->c, X86_IF | X86_CF);
	assert_int_equal(x86_sysenter(&r->c), 0);
	assert_int_equal(r->c.rip, 0xffffffff81000000ull);
	assert_int_equal(r->c.r[X86_RSP], 0xffffffff82000000ull);
	assert_int_equal(x86_get_rflags(&r->c), 2 | X86_CF);
	assert_true(x86_code64(&r->c));
	assert_int_equal(r->c.seg[X86_SS].sel, 0x18);
	assert_int_equal(r->c.cpl, 0);
	r->c.r[X86_RCX] = 0x7fff0000;
	r->c.r[X86_RDX] = 0x1000;
	assert_int_equal(x86_sysexit(&r->c, 4), 0);
	assert_int_equal(r->c.seg[X86_CS].sel, 0x23);
	assert_int_equal(r->c.seg[X86_SS].sel, 0x2b);
	assert_int_equal(r->c.rip, 0x1000);
	assert_false(x86_code64(&r->c));
	assert_fault(r, x86_sysexit(&r->c, 4), X86_GP, 0);
	rig_long(r, 0);
	r->c.r[X86_RDX] = 0x0000800000000000ull;
	assert_fault(r, x86_sysexit(&r->c, 8), X86_GP, 0);
	r->c.r[X86_RDX] = 0x7000;
	assert_int_equal(x86_sysexit(&r->c, 8), 0);
	assert_int_equal(r->c.seg[X86_CS].sel, 0x33);
	assert_int_equal(r->c.seg[X86_SS].sel, 0x3b);
	rig_real(r);
	assert_fault(r, x86_sysenter(&r->c), X86_GP, 0);
	free(r);
}

static void test_popf(void **state)
{
	struct rig *r = rig_new();
	u64 user = X86_ARITH | X86_TF | X86_DF | X86_NT | X86_AC | X86_ID;

	rig_long(r, 3);
	assert_int_equal(x86_popf(&r->c, ~0ull, 8), 0);
	assert_int_equal(x86_get_rflags(&r->c), 2 | user);
	r->c.rflags = 2 | X86_IOPL;
	assert_int_equal(x86_popf(&r->c, X86_IF, 2), 0);
	assert_int_equal(x86_get_rflags(&r->c), 2 | X86_IOPL | X86_IF);
	rig_long(r, 0);
	r->c.rflags = 2 | X86_RF | X86_AC;
	assert_int_equal(x86_popf(&r->c, 0xffff, 2), 0);
	assert_int_equal(x86_get_rflags(&r->c),
			 2 | X86_ARITH | X86_TF | X86_DF | X86_NT | X86_AC | X86_IF | X86_IOPL);
	assert_int_equal(x86_popf(&r->c, 0, 8), 0);
	assert_int_equal(x86_get_rflags(&r->c), 2);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_load_data),	 cmocka_unit_test(test_load_ss),
		cmocka_unit_test(test_load_effects),	 cmocka_unit_test(test_ldt_tr),
		cmocka_unit_test(test_inspect),		 cmocka_unit_test(test_jmp),
		cmocka_unit_test(test_enter_protected),	 cmocka_unit_test(test_call_ret_same),
		cmocka_unit_test(test_gate_64),		 cmocka_unit_test(test_gate_params),
		cmocka_unit_test(test_iret_64),		 cmocka_unit_test(test_iret_errors),
		cmocka_unit_test(test_iret_16bit_stack), cmocka_unit_test(test_iret_32_same),
		cmocka_unit_test(test_real_transfers),	 cmocka_unit_test(test_syscall),
		cmocka_unit_test(test_sysenter),	 cmocka_unit_test(test_popf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
