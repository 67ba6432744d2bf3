/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_event.c - exception and interrupt delivery: frames byte for byte, error codes, table 6-5
 */
#include "rig.h"

#include <stdlib.h>
#include <string.h>

#define HANDLER64 0xffffffff81000123ull
#define GATE_INT 0x8e
#define GATE_TRAP 0x8f
#define GATE_INT_USER 0xee

static int deliver_exc(struct rig *r, u8 vector, s64 err)
{
	r->c.exc = (struct x86_exc){ .vector = vector, .has_err = err >= 0, .err = (u32)err };
	return x86_deliver(&r->c, X86_EV_EXC, 0, 0);
}

static void check_frame64(struct rig *r, u32 sp, u64 ss, u64 rsp, u64 flags, u64 cs, u64 rip)
{
	assert_int_equal(rig_get(r, sp, 8), rip);
	assert_int_equal(rig_get(r, sp + 8, 8), cs);
	assert_int_equal(rig_get(r, sp + 16, 8), flags);
	assert_int_equal(rig_get(r, sp + 24, 8), rsp);
	assert_int_equal(rig_get(r, sp + 32, 8), ss);
}

/* SDM vol. 3, 6.14.2: the stack is aligned to 16, SS:RSP is always pushed, SS stays. */
static void test_long_same_level(void **state)
{
	struct rig *r = rig_new();

	rig_gate(r, 32, SEL_CODE0_64, HANDLER64, GATE_INT, 0);
	r->c.r[X86_RSP] = RIG_STACK - 5;
	r->c.rip = 0xffffffff80000777ull;
	x86_put_rflags(&r->c, X86_IF | X86_CF | X86_OF | X86_TF | X86_NT | X86_AC);
	r->c.halted = true;
	assert_int_equal(x86_deliver(&r->c, X86_EV_INTR, 32, 0), 0);
	assert_int_equal(r->c.rip, HANDLER64);
	assert_int_equal(r->c.r[X86_RSP], RIG_STACK - 16 - 40);
	check_frame64(r, RIG_STACK - 56, SEL_DATA0, RIG_STACK - 5,
		      2 | X86_IF | X86_CF | X86_OF | X86_TF | X86_NT | X86_AC, SEL_CODE0_64,
		      0xffffffff80000777ull);
	/* AC stays in protected and long mode, TF, NT, RF go, IF by the gate. */
	assert_int_equal(x86_get_rflags(&r->c), 2 | X86_CF | X86_OF | X86_AC);
	assert_int_equal(r->c.seg[X86_SS].sel, SEL_DATA0);
	assert_false(r->c.halted);
	assert_int_equal(r->mode_changed, 2); /* reset and this */
	free(r);
}

/* From user mode: RSP0, null SS, CPL 0; error code; RF in the image of a fault. */
static void test_long_inner(void **state)
{
	struct rig *r = rig_new();

	rig_long(r, 3);
	rig_gate(r, X86_GP, SEL_CODE0_64, HANDLER64, GATE_TRAP, 0);
	x86_put_rflags(&r->c, X86_IF | X86_ZF);
	assert_int_equal(r->c.cpl, 3);
	assert_int_equal(deliver_exc(r, X86_GP, 0x1234), 0);
	assert_int_equal(r->c.r[X86_RSP], RIG_STACK0 - 48);
	assert_int_equal(rig_get(r, RIG_STACK0 - 48, 8), 0x1234);
	check_frame64(r, RIG_STACK0 - 40, SEL_DATA3 | 3, RIG_STACK, 2 | X86_IF | X86_ZF | X86_RF,
		      SEL_CODE3_64 | 3, 0x4000);
	assert_int_equal(r->c.cpl, 0);
	assert_int_equal(r->c.seg[X86_SS].sel, 0);
	assert_int_equal(r->c.seg[X86_CS].sel, SEL_CODE0_64);
	assert_int_equal(x86_get_rflags(&r->c), 2 | X86_IF | X86_ZF); /* a trap gate keeps IF */
	assert_int_equal(r->user_accesses, 0);
	free(r);
}

static void test_long_from_compat(void **state)
{
	struct rig *r = rig_new();

	rig_compat(r, 3);
	assert_false(x86_code64(&r->c));
	rig_gate(r, 0x80, SEL_CODE0_64, HANDLER64, GATE_INT_USER, 0);
	assert_int_equal(x86_deliver(&r->c, X86_EV_SOFT, 0x80, 0x4002), 0);
	check_frame64(r, RIG_STACK0 - 40, SEL_DATA3 | 3, RIG_STACK, 2, SEL_CODE3 | 3, 0x4002);
	assert_true(x86_code64(&r->c));
	free(r);
}

static void test_long_ist(void **state)
{
	struct rig *r = rig_new();

	rig_gate(r, X86_NMI, SEL_CODE0_64, HANDLER64, GATE_INT, 1);
	assert_int_equal(x86_deliver(&r->c, X86_EV_NMI, 0, 0), 0);
	check_frame64(r, RIG_IST1 - 40, SEL_DATA0, RIG_STACK, 2, SEL_CODE0_64, 0x4000);
	assert_int_equal(r->c.seg[X86_SS].sel, SEL_DATA0);
	assert_true(r->c.nmi_blocked);
	free(r);
}

static void test_page_fault_cr2(void **state)
{
	struct rig *r = rig_new();

	rig_gate(r, X86_PF_EXC, SEL_CODE0_64, HANDLER64, GATE_INT, 0);
	r->c.exc = (struct x86_exc){
		.vector = X86_PF_EXC, .has_err = true, .err = 6, .cr2 = 0x7fffdeadb000
	};
	assert_int_equal(x86_deliver(&r->c, X86_EV_EXC, 0, 0), 0);
	assert_int_equal(r->c.cr2, 0x7fffdeadb000);
	assert_int_equal(rig_get(r, (u32)r->c.r[X86_RSP], 8), 6);
	free(r);
}

/* #DB sets DR6 bits, clears DR7.GD, and does not push RF. INT1 sets nothing in DR6. */
static void test_debug(void **state)
{
	struct rig *r = rig_new();

	rig_gate(r, X86_DB, SEL_CODE0_64, HANDLER64, GATE_INT, 0);
	r->c.dr7 = 0x2401;
	r->c.exc = (struct x86_exc){ .vector = X86_DB, .dr6 = 0x4001 };
	assert_int_equal(x86_deliver(&r->c, X86_EV_EXC, 0, 0), 0);
	assert_int_equal(r->c.dr6, 0xffff4ff1);
	assert_int_equal(r->c.dr7, 0x401);
	assert_int_equal(rig_get(r, RIG_STACK - 40 + 16, 8), 2);
	r->c.dr6 = 0xffff0ff0;
	assert_int_equal(x86_deliver(&r->c, X86_EV_ICEBP, 0, 0x9999), 0);
	assert_int_equal(r->c.dr6, 0xffff0ff0);
	assert_int_equal(rig_get(r, (u32)r->c.r[X86_RSP], 8), 0x9999);
	free(r);
}

/* INT n: gate privilege; the fault belongs to the instruction and has EXT = 0. */
static void test_soft_privilege(void **state)
{
	struct rig *r = rig_new();

	rig_long(r, 3);
	rig_gate(r, 0x80, SEL_CODE0_64, HANDLER64, GATE_INT, 0);
	assert_fault(r, x86_deliver(&r->c, X86_EV_SOFT, 0x80, 0x4002), X86_GP, 0x80 * 8 + 2);
	assert_int_equal(r->c.rip, 0x4000);
	rig_gate(r, 0x80, SEL_CODE0_64, HANDLER64, 0x6e, 0);
	assert_fault(r, x86_deliver(&r->c, X86_EV_SOFT, 0x80, 0x4002), X86_NP, 0x80 * 8 + 2);
	assert_fault(r, x86_deliver(&r->c, X86_EV_SOFT, 0x81, 0x4002), X86_GP, 0x81 * 8 + 2);
	r->c.idtr.limit = 0x80 * 16 + 14;
	assert_fault(r, x86_deliver(&r->c, X86_EV_SOFT, 0x80, 0x4002), X86_GP, 0x80 * 8 + 2);
	free(r);
}

/* The handler's code segment, each way it can be wrong; error codes without RPL. */
static void test_bad_code_segment(void **state)
{
	static const struct {
		u16 sel;
		u8 exc;
		u32 err;
	} t[] = {
		{ 0, X86_GP, 0 },
		{ 3, X86_GP, 0 },
		{ 0x1000, X86_GP, 0x1000 },
		{ SEL_DATA0, X86_GP, SEL_DATA0 },
		{ SEL_CODE0, X86_GP, SEL_CODE0 }, /* not a 64-bit segment */
		{ SEL_LD_CODE, X86_GP, SEL_LD_CODE },
		{ SEL_CODE3_64 | 3, X86_GP, SEL_CODE3_64 }, /* less privileged */
		{ 0x1c, X86_GP, 0x1c },			    /* LDT that is not loaded */
	};
	struct rig *r = rig_new();

	r->c.ldtr = (struct x86_seg){ 0 };
	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		rig_gate(r, 0x80, t[i].sel, HANDLER64, GATE_INT, 0);
		assert_fault(r, x86_deliver(&r->c, X86_EV_SOFT, 0x80, 0), t[i].exc, t[i].err);
	}
	/* Delivering an exception instead, the same fault carries EXT and is delivered. */
	rig_gate(r, X86_UD, SEL_DATA0, HANDLER64, GATE_INT, 0);
	rig_gate(r, X86_GP, SEL_CODE0_64, HANDLER64, GATE_INT, 0);
	assert_int_equal(deliver_exc(r, X86_UD, -1), 0);
	assert_int_equal(rig_get(r, (u32)r->c.r[X86_RSP], 8), SEL_DATA0 | 1);
	assert_int_equal(rig_get(r, (u32)r->c.r[X86_RSP] + 8, 8), 0x4000);
	free(r);
}

static void test_noncanonical_handler_and_stack(void **state)
{
	struct rig *r = rig_new();

	rig_gate(r, 0x80, SEL_CODE0_64, 0x0000900000000000ull, GATE_INT, 0);
	assert_fault(r, x86_deliver(&r->c, X86_EV_SOFT, 0x80, 0), X86_GP, 0);
	rig_gate(r, 0x80, SEL_CODE0_64, HANDLER64, GATE_INT, 0);
	r->c.r[X86_RSP] = 0x0000900000000000ull;
	assert_fault(r, x86_deliver(&r->c, X86_EV_SOFT, 0x80, 0), X86_SS_EXC, 0);
	/* The TSS too short for IST1: #TS with TR's selector. */
	r->c.r[X86_RSP] = RIG_STACK;
	rig_gate(r, 0x80, SEL_CODE0_64, HANDLER64, GATE_INT, 1);
	r->c.tr.limit = 36 + 6;
	assert_fault(r, x86_deliver(&r->c, X86_EV_SOFT, 0x80, 0), X86_TS, SEL_TSS);
	free(r);
}

/*
 * Table 6-5. First event, then the fault that its delivery raises: a page fault (its IDT entry's
 * page is away, done by a stack that faults) or a contributory one (a bad gate).
 */
static void test_double_fault_table(void **state)
{
	static const struct {
		u8 first;
		bool then_pf;
		u8 expect;
	} t[] = {
		{ X86_UD, false, X86_GP },	   { X86_UD, true, X86_PF_EXC },
		{ X86_DB, false, X86_GP },	   { X86_NM, true, X86_PF_EXC },
		{ X86_MF, false, X86_GP },	   { X86_AC_EXC, false, X86_GP },
		{ X86_XM, false, X86_GP },	   { X86_DE, false, X86_DF_EXC },
		{ X86_TS, false, X86_DF_EXC },	   { X86_NP, false, X86_DF_EXC },
		{ X86_SS_EXC, false, X86_DF_EXC }, { X86_DE, true, X86_PF_EXC },
		{ X86_NP, true, X86_PF_EXC },	   { X86_PF_EXC, false, X86_DF_EXC },
		{ X86_PF_EXC, true, X86_DF_EXC },
	};

	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		struct rig *r = rig_new();

		/* Good handlers, told apart by address, run on IST1. */
		for (u8 v = 0; v < 32; v++)
			rig_gate(r, v, SEL_CODE0_64, 0x5000 + v, GATE_INT, 1);
		if (t[i].then_pf) {
			/* The first one runs on the current stack, which is away. */
			rig_gate(r, t[i].first, SEL_CODE0_64, 0x6000, GATE_INT, 0);
			r->absent[0] = RIG_STACK - 0x1000;
		} else {
			rig_gate(r, t[i].first, SEL_DATA0, 0x6000, GATE_INT, 0);
		}
		r->c.exc = (struct x86_exc){
			.vector = t[i].first, .has_err = true, .err = 0, .cr2 = 0x1111
		};
		assert_int_equal(x86_deliver(&r->c, X86_EV_EXC, 0, 0), 0);
		assert_int_equal(r->c.rip, 0x5000 + t[i].expect);
		/* Every vector delivered here has an error code; #DF's is zero. */
		if (t[i].expect == X86_DF_EXC)
			assert_int_equal(rig_get(r, RIG_IST1 - 48, 8), 0);
		else if (t[i].expect == X86_PF_EXC)
			assert_int_equal(rig_get(r, RIG_IST1 - 48, 8), PFEC_W);
		else
			assert_int_equal(rig_get(r, RIG_IST1 - 48, 8), SEL_DATA0 | 1);
		assert_int_equal(rig_get(r, RIG_IST1 - 40, 8), 0x4000);
		if (t[i].then_pf)
			assert_in_range(r->c.cr2, RIG_STACK - 0x1000, RIG_STACK - 1);
		free(r);
	}
}

static void test_triple_fault(void **state)
{
	struct rig *r = rig_new();

	/* No handler at all: #UD, then #GP, then #DF, then shutdown. */
	assert_int_equal(deliver_exc(r, X86_UD, -1), X86_SHUTDOWN);
	r->c.idtr.limit = 0;
	assert_int_equal(x86_deliver(&r->c, X86_EV_INTR, 13, 0), X86_SHUTDOWN);
	assert_int_equal(x86_deliver(&r->c, X86_EV_NMI, 0, 0), X86_SHUTDOWN);
	assert_int_equal(deliver_exc(r, X86_DF_EXC, 0), X86_SHUTDOWN);
	/* A software interrupt is not part of a chain. */
	assert_fault(r, x86_deliver(&r->c, X86_EV_SOFT, 3, 0), X86_GP, 3 * 8 + 2);
	rig_real(r);
	r->c.idtr.limit = 0;
	assert_int_equal(deliver_exc(r, X86_UD, -1), X86_SHUTDOWN);
	free(r);
}

/* An external interrupt with an exception's number is benign: a fault in it is not a #DF. */
static void test_interrupt_is_benign(void **state)
{
	struct rig *r = rig_new();

	rig_gate(r, X86_GP, SEL_CODE0_64, 0x5000, GATE_INT, 0);
	rig_gate(r, X86_NP, SEL_DATA0, 0x5001, GATE_INT, 0);
	assert_int_equal(x86_deliver(&r->c, X86_EV_INTR, X86_NP, 0), 0);
	assert_int_equal(r->c.rip, 0x5000);
	assert_int_equal(rig_get(r, (u32)r->c.r[X86_RSP], 8), SEL_DATA0 | 1);
	free(r);
}

static void test_prot_same_level(void **state)
{
	struct rig *r = rig_new();
	u32 sp = RIG_STACK - 16;

	rig_prot32(r, 0);
	rig_gate(r, X86_GP, SEL_CODE0, 0x00345678, GATE_INT, 0);
	x86_put_rflags(&r->c, X86_IF | X86_PF);
	assert_int_equal(deliver_exc(r, X86_GP, 0xabc0), 0);
	assert_int_equal(r->c.r[X86_RSP], sp);
	assert_int_equal(rig_get(r, sp, 4), 0xabc0);
	assert_int_equal(rig_get(r, sp + 4, 4), 0x4000);
	assert_int_equal(rig_get(r, sp + 8, 4), SEL_CODE0);
	assert_int_equal(rig_get(r, sp + 12, 4), 2 | X86_IF | X86_PF | X86_RF);
	assert_int_equal(r->c.rip, 0x345678);
	assert_int_equal(x86_get_rflags(&r->c), 2 | X86_PF);
	/* The accessed bit of the handler's segment was set in the table. */
	assert_int_equal(rig_get(r, RIG_GDT + SEL_CODE0 + 5, 1), 0x9b);
	free(r);
}

static void test_prot_inner(void **state)
{
	struct rig *r = rig_new();
	u32 sp = RIG_STACK0 - 20;

	rig_prot32(r, 3);
	rig_gate(r, 0x80, SEL_CODE0, 0x345678, 0xef, 0);
	x86_put_rflags(&r->c, X86_IF);
	assert_int_equal(x86_deliver(&r->c, X86_EV_SOFT, 0x80, 0x4002), 0);
	assert_int_equal(r->c.r[X86_RSP], sp);
	assert_int_equal(rig_get(r, sp, 4), 0x4002);
	assert_int_equal(rig_get(r, sp + 4, 4), SEL_CODE3 | 3);
	assert_int_equal(rig_get(r, sp + 8, 4), 2 | X86_IF);
	assert_int_equal(rig_get(r, sp + 12, 4), RIG_STACK);
	assert_int_equal(rig_get(r, sp + 16, 4), SEL_DATA3 | 3);
	assert_int_equal(r->c.seg[X86_SS].sel, SEL_DATA0);
	assert_int_equal(r->c.cpl, 0);
	/* Data segments stay, they are only dropped on the way out. */
	assert_int_equal(r->c.seg[X86_DS].sel, SEL_DATA3 | 3);
	free(r);
}

/* New SS from the TSS: #TS with its selector, not present #SS. */
static void test_prot_bad_stack(void **state)
{
	static const struct {
		u16 ss;
		u8 exc;
		u32 err;
	} t[] = {
		{ 0, X86_TS, 0 },
		{ 0x1000, X86_TS, 0x1000 },
		{ SEL_DATA0 | 3, X86_TS, SEL_DATA0 },
		{ SEL_DATA3, X86_TS, SEL_DATA3 },
		{ SEL_RO0, X86_TS, SEL_RO0 },
		{ SEL_CODE0, X86_TS, SEL_CODE0 },
		{ SEL_ABSENT, X86_SS_EXC, SEL_ABSENT },
	};
	struct rig *r = rig_new();

	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		rig_prot32(r, 3);
		rig_gate(r, 0x80, SEL_CODE0, 0x345678, 0xef, 0);
		rig_put(r, RIG_TSS + 8, 4, t[i].ss);
		assert_fault(r, x86_deliver(&r->c, X86_EV_SOFT, 0x80, 0), t[i].exc, t[i].err);
		assert_int_equal(r->c.cpl, 3);
		assert_int_equal(r->c.r[X86_RSP], RIG_STACK);
	}
	/* Too little room on the new stack: its selector is the error code. */
	rig_prot32(r, 3);
	rig_put(r, RIG_TSS + 4, 4, 8);
	rig_desc(r, SEL_FREE, 0, 0xfff, 0x92, 0x4);
	rig_put(r, RIG_TSS + 8, 4, SEL_FREE);
	assert_fault(r, x86_deliver(&r->c, X86_EV_SOFT, 0x80, 0), X86_SS_EXC, SEL_FREE);
	free(r);
}

static void test_prot_16bit_gate(void **state)
{
	struct rig *r = rig_new();

	rig_prot32(r, 0);
	rig_gate(r, X86_GP, SEL_CODE0, 0xffff5678, 0x86, 0);
	assert_int_equal(deliver_exc(r, X86_GP, 0x10), 0);
	assert_int_equal(r->c.r[X86_RSP], RIG_STACK - 8);
	assert_int_equal(rig_get(r, RIG_STACK - 8, 2), 0x10);
	assert_int_equal(rig_get(r, RIG_STACK - 6, 2), 0x4000);
	assert_int_equal(r->c.rip, 0x5678);
	/* A task gate is refused. */
	rig_gate(r, 0x80, SEL_TSS, 0, 0xe5, 0);
	assert_fault(r, x86_deliver(&r->c, X86_EV_SOFT, 0x80, 0), X86_GP, 0x402);
	free(r);
}

static void test_from_v86(void **state)
{
	struct rig *r = rig_new();
	u32 sp = RIG_STACK0 - 36;

	rig_v86(r, 3);
	rig_gate(r, 0x21, SEL_CODE0, 0x345678, GATE_INT_USER, 0);
	assert_int_equal(x86_deliver(&r->c, X86_EV_SOFT, 0x21, 0x102), 0);
	assert_int_equal(r->c.r[X86_RSP], sp);
	assert_int_equal(rig_get(r, sp, 4), 0x102);
	assert_int_equal(rig_get(r, sp + 4, 4), 0x501);
	assert_int_equal(rig_get(r, sp + 8, 4), 2 | X86_VM | X86_IOPL);
	assert_int_equal(rig_get(r, sp + 12, 4), 0x1000);
	assert_int_equal(rig_get(r, sp + 16, 4), 0x502);
	assert_int_equal(rig_get(r, sp + 20, 4), 0x500); /* ES, DS, FS, GS */
	assert_int_equal(rig_get(r, sp + 24, 4), 0x503);
	assert_int_equal(rig_get(r, sp + 28, 4), 0x504);
	assert_int_equal(rig_get(r, sp + 32, 4), 0x505);
	assert_int_equal(r->c.seg[X86_DS].attr, 0);
	assert_int_equal(r->c.cpl, 0);
	/* And back: IRETD restores all of it. */
	assert_int_equal(x86_iret(&r->c, 4), 0);
	assert_int_equal(r->c.rip, 0x102);
	assert_int_equal(r->c.cpl, 3);
	assert_int_equal(r->c.seg[X86_GS].base, 0x5050);
	assert_int_equal(r->c.seg[X86_GS].attr, 0xf3);
	assert_int_equal(x86_get_rflags(&r->c), 2 | X86_VM | X86_IOPL);
	assert_int_equal(r->c.r[X86_RSP], 0x1000);
	/* INT n needs IOPL 3; the handler must be at privilege 0. */
	rig_v86(r, 0);
	assert_fault(r, x86_deliver(&r->c, X86_EV_SOFT, 0x21, 0x102), X86_GP, 0);
	rig_v86(r, 3);
	rig_gate(r, 0x21, SEL_CONF0, 0x345678, GATE_INT_USER, 0);
	assert_fault(r, x86_deliver(&r->c, X86_EV_SOFT, 0x21, 0x102), X86_GP, SEL_CONF0);
	free(r);
}

static void test_real(void **state)
{
	struct rig *r = rig_new();

	rig_real(r);
	rig_put(r, 0x21 * 4, 4, 0x12345678);
	x86_put_rflags(&r->c, X86_IF | X86_TF | X86_AC | X86_CF);
	assert_int_equal(x86_deliver(&r->c, X86_EV_SOFT, 0x21, 0x102), 0);
	assert_int_equal(r->c.rip, 0x5678);
	assert_int_equal(r->c.seg[X86_CS].sel, 0x1234);
	assert_int_equal(r->c.segbase[X86_CS], 0x12340);
	assert_int_equal(r->c.r[X86_RSP], 0xffa);
	assert_int_equal(rig_get(r, 0x5ffa, 2), 0x102);
	assert_int_equal(rig_get(r, 0x5ffc, 2), 0x400);
	assert_int_equal(rig_get(r, 0x5ffe, 2), 2 | X86_IF | X86_TF | X86_CF);
	assert_int_equal(x86_get_rflags(&r->c), 2 | X86_CF);
	/* No error code in real mode; SP wraps at 64 KiB and leaves the upper half alone. */
	r->c.r[X86_RSP] = 0xabcd0000;
	rig_put(r, X86_GP * 4, 4, 0x00500060);
	assert_int_equal(deliver_exc(r, X86_GP, 0x55), 0);
	assert_int_equal(r->c.r[X86_RSP], 0xabcdfffa);
	assert_int_equal(r->c.rip, 0x60);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_long_same_level),
		cmocka_unit_test(test_long_inner),
		cmocka_unit_test(test_long_from_compat),
		cmocka_unit_test(test_long_ist),
		cmocka_unit_test(test_page_fault_cr2),
		cmocka_unit_test(test_debug),
		cmocka_unit_test(test_soft_privilege),
		cmocka_unit_test(test_bad_code_segment),
		cmocka_unit_test(test_noncanonical_handler_and_stack),
		cmocka_unit_test(test_double_fault_table),
		cmocka_unit_test(test_triple_fault),
		cmocka_unit_test(test_interrupt_is_benign),
		cmocka_unit_test(test_prot_same_level),
		cmocka_unit_test(test_prot_inner),
		cmocka_unit_test(test_prot_bad_stack),
		cmocka_unit_test(test_prot_16bit_gate),
		cmocka_unit_test(test_from_v86),
		cmocka_unit_test(test_real),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
