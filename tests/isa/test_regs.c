/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_regs.c - reset, control and debug registers, MSRs, CPUID, INVPCID, I/O permission
 */
#include "rig.h"

#include <stdlib.h>
#include <string.h>

/* --- reset, INIT, SIPI (SDM vol. 3, table 9-1) ------------------------------------------------ */

static void test_reset(void **state)
{
	struct rig *r = rig_new();
	struct x86_cpu *c = &r->c;

	memset(c->r, 0xff, sizeof(c->r));
	x86_reset(c);
	assert_int_equal(c->rip, 0xfff0);
	assert_int_equal(c->seg[X86_CS].base, 0xffff0000);
	assert_int_equal(c->segbase[X86_CS], 0xffff0000);
	assert_int_equal(c->cr0, 0x60000010);
	assert_int_equal(x86_get_rflags(c), 2);
	assert_int_equal(c->r[X86_RDX], 0x306a9);
	assert_int_equal(c->r[X86_RAX], 0);
	assert_int_equal(c->r[X86_ZERO], 0);
	assert_int_equal(c->dr6, 0xffff0ff0);
	assert_int_equal(c->dr7, 0x400);
	assert_int_equal(c->pat, 0x0007040600070406);
	assert_int_equal(c->x.mxcsr, 0x1f80);
	assert_int_equal(c->x.fcw, 0x40);
	assert_int_equal(c->xcr0, 1);
	assert_ptr_equal(c->engine, r);
	assert_true(r->flush_all > 0);
	free(r);
}

static void test_init_sipi(void **state)
{
	struct rig *r = rig_new();
	struct x86_cpu *c = &r->c;

	c->lstar = 0x1234;
	c->x.fcw = 0x37f;
	c->tsc_adjust = 5;
	c->xcr0 = 7;
	c->cr0 |= CR0_CD;
	c->halted = true;
	x86_sipi(c, 0x9a); /* not waiting: ignored */
	assert_int_equal(c->rip, 0x4000);
	x86_init_signal(c);
	assert_true(c->wait_sipi);
	assert_int_equal(c->cr0, CR0_CD | CR0_ET);
	assert_int_equal(c->efer, 0);
	assert_int_equal(c->lstar, 0x1234);
	assert_int_equal(c->x.fcw, 0x37f);
	assert_int_equal(c->tsc_adjust, 5);
	assert_int_equal(c->xcr0, 7);
	x86_sipi(c, 0x9a);
	assert_false(c->wait_sipi);
	assert_int_equal(c->seg[X86_CS].sel, 0x9a00);
	assert_int_equal(c->segbase[X86_CS], 0x9a000);
	assert_int_equal(c->rip, 0);
	assert_int_equal(c->cpl, 0);
	x86_sipi(c, 0x10);
	assert_int_equal(c->seg[X86_CS].sel, 0x9a00);
	free(r);
}

/* --- control registers ------------------------------------------------------------------------ */

static void test_cr0(void **state)
{
	struct rig *r = rig_new();
	struct x86_cpu *c = &r->c;
	u64 base = c->cr0, v;
	unsigned flushes;

	assert_fault(r, x86_cr_write(c, 0, base | BIT(32)), X86_GP, 0);
	assert_fault(r, x86_cr_write(c, 0, CR0_PG), X86_GP, 0);
	assert_fault(r, x86_cr_write(c, 0, base | CR0_NW), X86_GP, 0);
	assert_fault(r, x86_cr_write(c, 0, base & ~CR0_PG), X86_GP, 0); /* in 64-bit mode */
	assert_int_equal(x86_cr_write(c, 0, base | 0xffc0), 0);		/* ignored bits */
	assert_int_equal(c->cr0, base);
	flushes = r->flush_all;
	assert_int_equal(x86_cr_write(c, 0, base | CR0_TS), 0);
	assert_int_equal(r->flush_all, flushes);
	assert_int_equal(x86_cr_write(c, 0, (base | CR0_TS) & ~(CR0_WP | CR0_ET)), 0);
	assert_int_equal(r->flush_all, flushes + 1);
	assert_int_equal(x86_cr_read(c, 0, &v), 0);
	assert_int_equal(v, (base | CR0_TS) & ~CR0_WP); /* ET stays 1 */
	assert_fault(r, x86_cr_read(c, 1, &v), X86_UD, -1);
	assert_fault(r, x86_cr_write(c, 7, 0), X86_UD, -1);
	rig_long(r, 3);
	assert_fault(r, x86_cr_read(c, 0, &v), X86_GP, 0);
	assert_fault(r, x86_cr_write(c, 3, 0), X86_GP, 0);
	free(r);
}

/* Into long mode and out of it (SDM vol. 3, 9.8.5). */
static void test_long_mode_switch(void **state)
{
	struct rig *r = rig_new();
	struct x86_cpu *c = &r->c;

	rig_prot32(r, 0);
	assert_int_equal(x86_wrmsr(c, 0xc0000080, EFER_LME), 0);
	assert_fault(r, x86_cr_write(c, 0, c->cr0 | CR0_PG), X86_GP, 0); /* no PAE */
	assert_int_equal(x86_cr_write(c, 4, CR4_PAE), 0);
	c->seg[X86_CS].attr |= SEG_L;
	assert_fault(r, x86_cr_write(c, 0, c->cr0 | CR0_PG), X86_GP, 0);
	c->seg[X86_CS].attr &= ~SEG_L;
	c->tr.attr = SEG_P | 3;
	assert_fault(r, x86_cr_write(c, 0, c->cr0 | CR0_PG), X86_GP, 0); /* 16-bit TSS */
	c->tr.attr = SEG_P | 11;
	assert_int_equal(x86_cr_write(c, 0, c->cr0 | CR0_PG), 0);
	assert_int_equal(c->efer, EFER_LME | EFER_LMA);
	assert_fault(r, x86_wrmsr(c, 0xc0000080, 0), X86_GP, 0); /* LME with PG */
	assert_fault(r, x86_cr_write(c, 4, 0), X86_GP, 0);	 /* PAE in long mode */
	assert_int_equal(x86_cr_write(c, 0, c->cr0 & ~CR0_PG), 0);
	assert_int_equal(c->efer, EFER_LME);
	free(r);
}

static void test_cr3_pcid(void **state)
{
	struct rig *r = rig_new();
	struct x86_cpu *c = &r->c;
	unsigned n;

	assert_fault(r, x86_cr_write(c, 3, BIT(46)), X86_GP, 0);
	assert_fault(r, x86_cr_write(c, 3, BIT(63)), X86_GP, 0);
	n = r->flush_nonglobal;
	assert_int_equal(x86_cr_write(c, 3, 0x10000), 0);
	assert_int_equal(r->flush_nonglobal, ++n);
	c->cr3 = 0x10001;
	assert_fault(r, x86_cr_write(c, 4, c->cr4 | CR4_PCIDE), X86_GP, 0);
	c->cr3 = 0x10000;
	assert_int_equal(x86_cr_write(c, 4, c->cr4 | CR4_PCIDE), 0);
	assert_int_equal(x86_cr_write(c, 3, 0x10005), 0);
	assert_int_equal(r->flush_nonglobal, ++n);
	/* Bit 63 keeps the translations of a PCID; the bit itself is not stored. */
	assert_int_equal(x86_cr_write(c, 3, BIT(63) | 0x20005), 0);
	assert_int_equal(c->cr3, 0x20005);
	assert_int_equal(r->flush_nonglobal, n);
	assert_int_equal(x86_cr_write(c, 3, BIT(63) | 0x20006), 0);
	assert_int_equal(r->flush_nonglobal, n + 1);
	rig_compat(r, 0);
	c->cr4 |= CR4_PCIDE;
	assert_fault(r, x86_cr_write(c, 0, c->cr0 & ~CR0_PG), X86_GP, 0);
	free(r);
}

static void test_cr4(void **state)
{
	static const u64 flushing[] = { CR4_PGE, CR4_SMEP, CR4_SMAP, CR4_PSE };
	struct rig *r = rig_new();
	struct x86_cpu *c = &r->c;

	assert_fault(r, x86_cr_write(c, 4, c->cr4 | CR4_LA57), X86_GP, 0);
	assert_fault(r, x86_cr_write(c, 4, c->cr4 | BIT(40)), X86_GP, 0);
	for (unsigned i = 0; i < ARRAY_LEN(flushing); i++) {
		unsigned n = r->flush_all;

		assert_int_equal(x86_cr_write(c, 4, c->cr4 ^ flushing[i]), 0);
		assert_int_equal(r->flush_all, n + 1);
	}
	rig_prot32(r, 0);
	assert_fault(r, x86_cr_write(c, 4, CR4_PCIDE), X86_GP, 0);
	free(r);
}

/* PAE paging checks its four top entries when it is turned on and at each CR3 load. */
static void test_pae_pdptes(void **state)
{
	struct rig *r = rig_new();
	struct x86_cpu *c = &r->c;

	rig_prot32(r, 0);
	c->cr4 = CR4_PAE;
	c->cr3 = 0x10000;
	rig_put(r, 0x10018, 8, 0x11001 | 2);
	assert_fault(r, x86_cr_write(c, 0, c->cr0 | CR0_PG), X86_GP, 0);
	rig_put(r, 0x10018, 8, 0x11000 | 2); /* not present: nothing to check */
	assert_int_equal(x86_cr_write(c, 0, c->cr0 | CR0_PG), 0);
	rig_put(r, 0x12000, 8, BIT(50) | 1);
	assert_fault(r, x86_cr_write(c, 3, 0x12000), X86_GP, 0);
	assert_int_equal(c->cr3, 0x10000);
	free(r);
}

static void test_cr8(void **state)
{
	struct rig *r = rig_new();
	u64 v;

	assert_int_equal(x86_cr_write(&r->c, 8, 9), 0);
	assert_int_equal(x86_cr_read(&r->c, 8, &v), 0);
	assert_int_equal(v, 9);
	assert_fault(r, x86_cr_write(&r->c, 8, 16), X86_GP, 0);
	free(r);
}

static void test_xsetbv(void **state)
{
	struct rig *r = rig_new();
	struct x86_cpu *c = &r->c;

	assert_fault(r, x86_xsetbv(c, 0, 3), X86_UD, -1);
	c->cr4 |= CR4_OSXSAVE;
	assert_int_equal(x86_xsetbv(c, 0, 7), 0);
	assert_fault(r, x86_xsetbv(c, 0, 2), X86_GP, 0);
	assert_fault(r, x86_xsetbv(c, 0, 5), X86_GP, 0);
	assert_fault(r, x86_xsetbv(c, 0, 15), X86_GP, 0);
	assert_fault(r, x86_xsetbv(c, 1, 1), X86_GP, 0);
	assert_int_equal(c->xcr0, 7);
	rig_long(r, 3);
	c->cr4 |= CR4_OSXSAVE;
	assert_fault(r, x86_xsetbv(c, 0, 3), X86_GP, 0);
	free(r);
}

static void test_invpcid(void **state)
{
	struct rig *r = rig_new();
	struct x86_cpu *c = &r->c;
	unsigned n = r->flush_all, g = r->flush_nonglobal;

	assert_fault(r, x86_invpcid(c, 4, 0, 0), X86_GP, 0);
	assert_fault(r, x86_invpcid(c, 0, 1, 0), X86_GP, 0); /* PCID without CR4.PCIDE */
	c->cr4 |= CR4_PCIDE;
	c->cr3 = 0x10005;
	assert_fault(r, x86_invpcid(c, 0, 0x1005, 0), X86_GP, 0);
	assert_fault(r, x86_invpcid(c, 0, 5, 0x0000800000000000), X86_GP, 0);
	assert_int_equal(x86_invpcid(c, 0, 5, 0x123456), 0);
	assert_int_equal(r->flush_page, 1);
	assert_int_equal(r->flushed, 0x123456);
	assert_int_equal(x86_invpcid(c, 0, 6, 0x123456), 0); /* nothing of PCID 6 is held */
	assert_int_equal(x86_invpcid(c, 1, 6, 0), 0);
	assert_int_equal(r->flush_page, 1);
	assert_int_equal(r->flush_nonglobal, g);
	assert_int_equal(x86_invpcid(c, 1, 5, 0), 0);
	assert_int_equal(x86_invpcid(c, 3, ~0ull, 0), 0);
	assert_int_equal(r->flush_nonglobal, g + 2);
	assert_int_equal(x86_invpcid(c, 2, 0, 0), 0);
	assert_int_equal(r->flush_all, n + 1);
	free(r);
}

/* --- debug registers -------------------------------------------------------------------------- */

static void test_debug_regs(void **state)
{
	struct rig *r = rig_new();
	struct x86_cpu *c = &r->c;
	u64 v;

	assert_int_equal(x86_dr_write(c, 0, 0xffff800012345678ull), 0);
	assert_int_equal(x86_dr_write(c, 6, 0xffffffff), 0);
	assert_int_equal(c->dr6, 0xffffefff);	    /* bit 12 reads 0 */
	assert_int_equal(x86_dr_write(c, 4, 0), 0); /* alias of 6 */
	assert_int_equal(c->dr6, 0xffff0ff0);
	assert_int_equal(x86_dr_write(c, 5, 0x1), 0);
	assert_int_equal(x86_dr_read(c, 7, &v), 0);
	assert_int_equal(v, 0x401);
	assert_fault(r, x86_dr_write(c, 7, BIT(32)), X86_GP, 0);
	assert_fault(r, x86_dr_write(c, 6, BIT(32)), X86_GP, 0);
	c->cr4 |= CR4_DE;
	assert_fault(r, x86_dr_read(c, 4, &v), X86_UD, -1);
	assert_int_equal(x86_dr_write(c, 7, 0x2000), 0);
	assert_fault(r, x86_dr_read(c, 0, &v), X86_DB, -1);
	assert_int_equal(c->exc.dr6, 0x2000);
	rig_long(r, 3);
	assert_fault(r, x86_dr_read(c, 0, &v), X86_GP, 0);
	free(r);
}

static void test_debug_match(void **state)
{
	struct rig *r = rig_new();
	struct x86_cpu *c = &r->c;

	assert_false(x86_dr7_any(c));
	c->dr[0] = 0x1000;		  /* execute */
	c->dr[1] = 0x2003;		  /* write, 4 bytes: 0x2000-0x2003 */
	c->dr[2] = 0xfffffffffffffff8ull; /* read or write, 8 bytes */
	c->dr[3] = 0x60;		  /* I/O, 1 byte */
	c->dr7 = 0x400 | 0xd5 | 0xdull << 20 | 0xbull << 24 | 0x2ull << 28;
	assert_true(x86_dr7_any(c));
	assert_int_equal(x86_dr_match(c, 0x1000, 1, X86_EXEC), 1);
	assert_int_equal(x86_dr_match(c, 0xfff, 4, X86_EXEC), 0);
	assert_int_equal(x86_dr_match(c, 0x1fff, 1, X86_WRITE), 0);
	assert_int_equal(x86_dr_match(c, 0x1fff, 2, X86_WRITE), 2);
	assert_int_equal(x86_dr_match(c, 0x2003, 1, X86_WRITE), 2);
	assert_int_equal(x86_dr_match(c, 0x2003, 1, X86_READ), 0);
	assert_int_equal(x86_dr_match(c, 0x2004, 8, X86_WRITE), 0);
	assert_int_equal(x86_dr_match(c, 0xffffffffffffffffull, 1, X86_READ), 4);
	assert_int_equal(x86_dr_match(c, 0, 1, X86_READ), 0);
	assert_int_equal(x86_dr_match_io(c, 0x60, 1), 0);
	c->cr4 |= CR4_DE;
	assert_int_equal(x86_dr_match_io(c, 0x60, 1), 8);
	assert_int_equal(x86_dr_match_io(c, 0x5f, 2), 8);
	assert_int_equal(x86_dr_match_io(c, 0x61, 1), 0);
	free(r);
}

/* --- MSRs ------------------------------------------------------------------------------------- */

static void test_msr_unknown(void **state)
{
	/* Registers that Linux probes for and must not find here. */
	static const u32 absent[] = {
		0x0,	    0x1,	0x2a,	    0x33,	0x34,	    0x4e,	0x4f,
		0x79,	    0x9b,	0xc1,	    0xce,	0xcf,	    0xe7,	0xe8,
		0x122,	    0x123,	0x140,	    0x17b,	0x186,	    0x198,	0x19c,
		0x1a2,	    0x1ad,	0x1b0,	    0x1c4,	0x1c9,	    0x1fc,	0x210,
		0x21f,	    0x251,	0x25a,	    0x267,	0x270,	    0x345,	0x38d,
		0x38f,	    0x400,	0x480,	    0x600,	0x606,	    0x770,	0x7ff,
		0x8ff,	    0x900,	0xda0,	    0xc0000085, 0xc0000104, 0xc0010015, 0xc001001f,
		0xc0010131, 0xc0011029, 0x40000000, 0x4b564d00, 0xffffffff,
	};
	struct rig *r = rig_new();
	u64 v = 77;

	for (unsigned i = 0; i < ARRAY_LEN(absent); i++) {
		assert_fault(r, x86_rdmsr(&r->c, absent[i], &v), X86_GP, 0);
		assert_int_equal(v, 77);
		assert_fault(r, x86_wrmsr(&r->c, absent[i], 0), X86_GP, 0);
	}
	rig_long(r, 3);
	assert_fault(r, x86_rdmsr(&r->c, 0x10, &v), X86_GP, 0);
	assert_fault(r, x86_wrmsr(&r->c, 0x10, 0), X86_GP, 0);
	free(r);
}

struct msr_case {
	u32 msr;
	u64 good, bad; /* a value that is kept, and one that is #GP; 0 as @bad: none */
};

static void test_msr_values(void **state)
{
	static const struct msr_case t[] = {
		{ 0x3b, 0x123456789abcdef0, 0 },
		{ 0x48, 1, 2 }, /* the rig's model has IBRS, not STIBP */
		{ 0x174, 0x10, 0 },
		{ 0x175, 0xffffffff82000000, 0x0000800000000000 },
		{ 0x176, 0xffffffff82000000, 0x0000800000000000 },
		{ 0x17a, 0, 1 },
		{ 0x1d9, 0, 1 },
		{ 0x200, 0x80000006, 0x80000002 },
		{ 0x201, 0x3fff80000800, 0x400000000800 },
		{ 0x20f, 0x800, 0x801 },
		{ 0x250, 0x0606060606060606, 0x0306060606060606 },
		{ 0x259, 0x0101010101010101, 0x0700000000000000 },
		{ 0x26f, 0x0505050505050505, 0x0000000000000008 },
		{ 0x277, 0x0007040600070106, 0x0007040600070206 },
		{ 0x2ff, 0xc06, 0x1c06 },
		{ 0x2ff, 0x806, 0x803 },
		{ 0xc0000080, EFER_LME | EFER_LMA | EFER_SCE | EFER_NX, BIT(12) },
		{ 0xc0000081, 0x0023001000000000, 0 },
		{ 0xc0000082, 0xffffffff81000000, 0x0000800000000000 },
		{ 0xc0000083, 0xffffffff81000000, 0x0000800000000000 },
		{ 0xc0000084, 0x47700, BIT(32) },
		{ 0xc0000100, 0x7ffff7d8b740, 0x0000800000000000 },
		{ 0xc0000101, 0xffff888000000000, 0x0000800000000000 },
		{ 0xc0000102, 0xffff888000000000, 0x0000800000000000 },
		{ 0xc0000103, 0xffffffff, BIT(32) },
	};
	struct rig *r = rig_new();

	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		u64 v = ~t[i].good;

		assert_int_equal(x86_wrmsr(&r->c, t[i].msr, t[i].good), 0);
		if (t[i].bad)
			assert_fault(r, x86_wrmsr(&r->c, t[i].msr, t[i].bad), X86_GP, 0);
		assert_int_equal(x86_rdmsr(&r->c, t[i].msr, &v), 0);
		assert_int_equal(v, t[i].good);
	}
	assert_int_equal(r->c.segbase[X86_FS], 0x7ffff7d8b740);
	assert_int_equal(r->c.segbase[X86_GS], 0xffff888000000000);
	free(r);
}

static void test_msr_special(void **state)
{
	struct rig *r = rig_new();
	struct x86_cpu *c = &r->c;
	u32 out[4];
	u64 v;

	/* The counter and its adjustment move together (SDM vol. 3, 17.17.3). */
	r->tsc = 1000;
	assert_int_equal(x86_wrmsr(c, 0x10, 5000), 0);
	r->tsc = 1010;
	assert_int_equal(x86_rdmsr(c, 0x10, &v), 0);
	assert_int_equal(v, 5010);
	assert_int_equal(x86_rdmsr(c, 0x3b, &v), 0);
	assert_int_equal(v, 4000);
	assert_int_equal(x86_wrmsr(c, 0x3b, 0), 0);
	assert_int_equal(x86_rdmsr(c, 0x10, &v), 0);
	assert_int_equal(v, 1010);

	/* Read-only registers. */
	assert_int_equal(x86_rdmsr(c, 0x3a, &v), 0);
	assert_int_equal(v, 1);
	assert_fault(r, x86_wrmsr(c, 0x3a, 1), X86_GP, 0);
	assert_int_equal(x86_rdmsr(c, 0xfe, &v), 0);
	assert_int_equal(v, 0x508);
	assert_fault(r, x86_wrmsr(c, 0xfe, 0x508), X86_GP, 0);
	assert_int_equal(x86_rdmsr(c, 0x10a, &v), 0);
	assert_int_equal(v & 3, 3); /* RDCL_NO, IBRS_ALL */
	assert_fault(r, x86_wrmsr(c, 0x10a, v), X86_GP, 0);
	assert_int_equal(x86_rdmsr(c, 0x1a0, &v), 0);
	assert_int_equal(x86_wrmsr(c, 0x1a0, v ^ 1), 0);
	assert_fault(r, x86_wrmsr(c, 0x1a0, v ^ BIT(34)), X86_GP, 0);
	/* Commands: write only. */
	assert_int_equal(x86_wrmsr(c, 0x49, 1), 0);
	assert_fault(r, x86_wrmsr(c, 0x49, 2), X86_GP, 0);
	assert_fault(r, x86_rdmsr(c, 0x49, &v), X86_GP, 0);
	assert_fault(r, x86_wrmsr(c, 0x10b, 1), X86_GP, 0); /* not in the model */
	/* The microcode revision appears with CPUID. */
	assert_int_equal(x86_wrmsr(c, 0x8b, 0), 0);
	x86_cpuid(c, 1, 0, out);
	assert_int_equal(x86_rdmsr(c, 0x8b, &v), 0);
	assert_int_equal(v, BIT(32));
	/* The APIC's registers go to the APIC. */
	assert_int_equal(x86_rdmsr(c, 0x832, &v), 0);
	assert_int_equal(v, 0x832);
	assert_int_equal(x86_wrmsr(c, 0x6e0, 0x99), 0);
	assert_int_equal(r->deadline, 0x99);
	/* EFER.LMA cannot be written, NX changes translations. */
	unsigned n = r->flush_all;
	assert_int_equal(x86_wrmsr(c, 0xc0000080, EFER_LME), 0);
	assert_int_equal(c->efer, EFER_LME | EFER_LMA);
	assert_int_equal(r->flush_all, n + 1);
	free(r);
}

/* The APIC counts without IA32_TSC_ADJUST; deadlines are translated on the way, also armed ones. */
static void test_deadline_adjust(void **state)
{
	struct rig *r = rig_new();
	struct x86_cpu *c = &r->c;
	u64 v;

	assert_int_equal(x86_wrmsr(c, 0x3b, 1000), 0);
	assert_int_equal(x86_wrmsr(c, 0x6e0, 5000), 0);
	assert_int_equal(r->deadline, 4000);
	assert_int_equal(x86_rdmsr(c, 0x6e0, &v), 0);
	assert_int_equal(v, 5000);
	assert_int_equal(x86_wrmsr(c, 0x3b, (u64)-1000), 0);
	assert_int_equal(r->deadline, 6000);
	assert_int_equal(x86_wrmsr(c, 0x6e0, ~0ull), 0);
	assert_int_equal(r->deadline, ~0ull);
	assert_int_equal(x86_wrmsr(c, 0x6e0, 0), 0);
	assert_int_equal(r->deadline, 0);
	assert_int_equal(x86_wrmsr(c, 0x3b, 1000), 0);
	assert_int_equal(r->deadline, 0);
	assert_int_equal(x86_wrmsr(c, 0x6e0, 1), 0); /* long past, not far ahead */
	assert_int_equal(r->deadline, 1);
	free(r);
}

/* --- CPUID ------------------------------------------------------------------------------------ */

static void test_cpuid(void **state)
{
	struct rig *r = rig_new();
	struct x86_cpu *c = &r->c;
	u32 a[4], b[4];

	x86_cpuid(c, 1, 0, a);
	assert_int_equal(a[0], 0x306a9);
	assert_int_equal(a[2] & BIT(27), 0);
	assert_int_equal(a[3] & BIT(9), BIT(9));
	c->cr4 |= CR4_OSXSAVE;
	r->apic_base = 0xfee00000;
	x86_cpuid(c, 1, 0, a);
	assert_int_equal(a[2] & BIT(27), BIT(27));
	assert_int_equal(a[3] & BIT(9), 0);
	/* Out of range: the highest basic leaf; inside but not there: zeros. */
	x86_cpuid(c, 0xd, 0, a);
	x86_cpuid(c, 0x20, 0, b);
	assert_memory_equal(a, b, sizeof(a));
	x86_cpuid(c, 0x80000009, 0, b);
	assert_memory_equal(a, b, sizeof(a));
	x86_cpuid(c, 5, 0, a);
	assert_int_equal(a[0] | a[1] | a[2] | a[3], 0);
	x86_cpuid(c, 0x40000000, 0, a);
	assert_int_equal(a[1], 0x1234);
	/* XSAVE area size follows XCR0. */
	x86_cpuid(c, 0xd, 0, a);
	assert_int_equal(a[1], 576);
	c->xcr0 = 7;
	x86_cpuid(c, 0xd, 0, a);
	assert_int_equal(a[1], 832);
	x86_cpuid(c, 0xd, 1, a);
	assert_int_equal(a[1], 832);
	/* Topology leaf past its last level. */
	x86_cpuid(c, 0xb, 9, a);
	assert_int_equal(a[0] | a[1], 0);
	assert_int_equal(a[2], 9);
	assert_int_equal(a[3], 5);
	free(r);
}

/* --- I/O permission (SDM vol. 1, 19.5.2) ------------------------------------------------------ */

static void test_io_check(void **state)
{
	struct rig *r = rig_new();
	struct x86_cpu *c = &r->c;

	assert_int_equal(x86_io_check(c, 0x60, 4), 0); /* privilege 0 */
	rig_long(r, 3);
	rig_put(r, RIG_TSS + 102, 2, 104);
	memset(r->mem + RIG_TSS + 104, 0xff, 8193);
	rig_put(r, RIG_TSS + 104 + 0x60 / 8, 1, 0xf0); /* ports 0x60-0x63 allowed */
	assert_int_equal(x86_io_check(c, 0x60, 4), 0);
	assert_int_equal(x86_io_check(c, 0x63, 1), 0);
	assert_fault(r, x86_io_check(c, 0x61, 4), X86_GP, 0);
	assert_fault(r, x86_io_check(c, 0x64, 1), X86_GP, 0);
	/* Two bytes are always read: the byte after the last must be inside the limit. */
	c->tr.limit = 104 + 12;
	assert_fault(r, x86_io_check(c, 0x60, 1), X86_GP, 0);
	c->tr.limit = 104 + 13;
	assert_int_equal(x86_io_check(c, 0x60, 1), 0);
	c->rflags |= X86_IOPL;
	assert_int_equal(x86_io_check(c, 0x64, 1), 0);
	/* Virtual-8086 mode asks the bitmap whatever IOPL says; a 16-bit TSS has none. */
	rig_v86(r, 3);
	assert_fault(r, x86_io_check(c, 0x64, 1), X86_GP, 0);
	assert_int_equal(x86_io_check(c, 0x60, 1), 0);
	c->tr.attr = SEG_P | 3;
	assert_fault(r, x86_io_check(c, 0x60, 1), X86_GP, 0);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reset),	    cmocka_unit_test(test_init_sipi),
		cmocka_unit_test(test_cr0),	    cmocka_unit_test(test_long_mode_switch),
		cmocka_unit_test(test_cr3_pcid),    cmocka_unit_test(test_cr4),
		cmocka_unit_test(test_pae_pdptes),  cmocka_unit_test(test_cr8),
		cmocka_unit_test(test_xsetbv),	    cmocka_unit_test(test_invpcid),
		cmocka_unit_test(test_debug_regs),  cmocka_unit_test(test_debug_match),
		cmocka_unit_test(test_msr_unknown), cmocka_unit_test(test_msr_values),
		cmocka_unit_test(test_msr_special), cmocka_unit_test(test_deadline_adjust),
		cmocka_unit_test(test_cpuid),	    cmocka_unit_test(test_io_check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
