/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rig.c - one CPU on a flat megabyte, for tests of the system semantics
 */
#include "rig.h"

#include <stdlib.h>
#include <string.h>

static const struct x86_cpuid_entry rig_cpuid[] = {
	{ .leaf = 0, .eax = 0xd },
	{ .leaf = 1, .eax = 0x000306a9, .ecx = 1u << 26, .edx = 1u << 9 },
	{ .leaf = 7, .indexed = true, .ebx = 1u << 1, .edx = 1u << 26 | 1u << 29 },
	{ .leaf = 0xb, .subleaf = 0, .indexed = true, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 5 },
	{ .leaf = 0xd, .subleaf = 0, .indexed = true, .eax = 7, .ebx = 576, .ecx = 832 },
	{ .leaf = 0xd, .subleaf = 1, .indexed = true, .eax = 3 },
	{ .leaf = 0xd, .subleaf = 2, .indexed = true, .eax = 256, .ebx = 576 },
	{ .leaf = 0x40000000, .eax = 0x40000001, .ebx = 0x1234 },
	{ .leaf = 0x80000000, .eax = 0x80000001 },
	{ .leaf = 0x80000001, .edx = 1u << 11 | 1u << 20 | 1u << 27 | 1u << 29 },
};

static struct rig *rig_of(struct x86_cpu *c)
{
	return c->engine;
}

static int touch(struct x86_cpu *c, gva_t a, unsigned len, bool user, bool write)
{
	struct rig *r = rig_of(c);

	r->user_accesses += user;
	r->explicit_accesses += c->lin_explicit;
	if (x86_long_mode(c) && (u64)((s64)(a << 16) >> 16) != a)
		return x86_fault_err(c, X86_GP, 0);
	for (gva_t p = a & ~0xfffull; p <= ((a + len - 1) & ~0xfffull); p += 0x1000) {
		for (unsigned i = 0; i < ARRAY_LEN(r->absent); i++) {
			if (!r->absent[i] || r->absent[i] != p)
				continue;
			c->exc = (struct x86_exc){
				.vector = X86_PF_EXC,
				.has_err = true,
				.err = (write ? PFEC_W : 0) | (user ? PFEC_U : 0),
				.cr2 = MAX(a, p),
			};
			return X86_FAULT;
		}
	}
	return 0;
}

static int op_read(struct x86_cpu *c, gva_t a, unsigned size, bool user, u64 *ret)
{
	if (touch(c, a, size, user, false))
		return X86_FAULT;
	rig_of(c)->reads++;
	*ret = rig_get(rig_of(c), (u32)a, size);
	return 0;
}

static int op_write(struct x86_cpu *c, gva_t a, unsigned size, bool user, u64 v)
{
	if (touch(c, a, size, user, true))
		return X86_FAULT;
	rig_of(c)->writes++;
	rig_put(rig_of(c), (u32)a, size, v);
	return 0;
}

static int op_probe(struct x86_cpu *c, gva_t a, unsigned len, bool user)
{
	return touch(c, a, len, user, true);
}

static u64 op_phys_read(struct x86_cpu *c, gpa_t a, unsigned size)
{
	return a + size > RIG_MEM ? ~0ull : rig_get(rig_of(c), (u32)a, size);
}

static void op_phys_or(struct x86_cpu *c, gpa_t a, unsigned size, u64 bits)
{
	rig_put(rig_of(c), (u32)a, size, rig_get(rig_of(c), (u32)a, size) | bits);
}

static void op_flush_all(struct x86_cpu *c)
{
	rig_of(c)->flush_all++;
}

static void op_flush_nonglobal(struct x86_cpu *c)
{
	rig_of(c)->flush_nonglobal++;
}

static void op_flush_page(struct x86_cpu *c, gva_t a)
{
	rig_of(c)->flush_page++;
	rig_of(c)->flushed = a;
}

static void op_mode_changed(struct x86_cpu *c)
{
	rig_of(c)->mode_changed++;
}

static u64 op_tsc(struct x86_cpu *c)
{
	return rig_of(c)->tsc;
}

static int op_apic_rdmsr(struct x86_cpu *c, u32 msr, u64 *ret)
{
	if (msr == 0x8ff)
		return X86_FAULT;
	*ret = msr == 0x1b ? rig_of(c)->apic_base : msr == 0x6e0 ? rig_of(c)->deadline : msr;
	return 0;
}

static int op_apic_wrmsr(struct x86_cpu *c, u32 msr, u64 v)
{
	if (msr == 0x8ff)
		return X86_FAULT;
	if (msr == 0x6e0)
		rig_of(c)->deadline = v;
	return 0;
}

static u64 op_cr8_read(struct x86_cpu *c)
{
	return rig_of(c)->cr8;
}

static void op_cr8_write(struct x86_cpu *c, u64 v)
{
	rig_of(c)->cr8 = v;
}

static const struct x86_ops rig_ops = {
	.lin_read = op_read,
	.lin_write = op_write,
	.lin_probe_write = op_probe,
	.phys_read = op_phys_read,
	.phys_or = op_phys_or,
	.tlb_flush_all = op_flush_all,
	.tlb_flush_nonglobal = op_flush_nonglobal,
	.tlb_flush_page = op_flush_page,
	.mode_changed = op_mode_changed,
	.tsc = op_tsc,
	.apic_rdmsr = op_apic_rdmsr,
	.apic_wrmsr = op_apic_wrmsr,
	.cr8_read = op_cr8_read,
	.cr8_write = op_cr8_write,
};

void rig_put(struct rig *r, u32 a, unsigned size, u64 v)
{
	for (unsigned i = 0; i < size; i++)
		r->mem[(a + i) % RIG_MEM] = (u8)(v >> (8 * i));
}

u64 rig_get(const struct rig *r, u32 a, unsigned size)
{
	u64 v = 0;

	for (unsigned i = 0; i < size; i++)
		v |= (u64)r->mem[(a + i) % RIG_MEM] << (8 * i);
	return v;
}

void rig_desc(struct rig *r, u16 sel, u32 base, u32 limit20, u8 access, u8 flags)
{
	u32 at = (sel & 4 ? RIG_LDT : RIG_GDT) + (sel & ~7u);

	rig_put(r, at, 4, (limit20 & 0xffff) | base << 16);
	rig_put(r, at + 4, 4,
		((base >> 16) & 0xff) | (u32)access << 8 | (limit20 & 0xf0000) | (u32)flags << 20 |
			(base & 0xff000000));
}

void rig_gate(struct rig *r, u8 vector, u16 sel, u64 off, u8 attr, u8 ist)
{
	bool lm = x86_long_mode(&r->c);
	u32 at = RIG_IDT + vector * (lm ? 16u : 8u);

	rig_put(r, at, 2, off);
	rig_put(r, at + 2, 2, sel);
	rig_put(r, at + 4, 1, ist);
	rig_put(r, at + 5, 1, attr);
	rig_put(r, at + 6, 2, off >> 16);
	if (lm) {
		rig_put(r, at + 8, 4, off >> 32);
		rig_put(r, at + 12, 4, 0);
	}
}

static void build_gdt(struct rig *r)
{
	rig_desc(r, SEL_CODE0, 0, 0xfffff, 0x9a, 0xc);
	rig_desc(r, SEL_DATA0, 0, 0xfffff, 0x92, 0xc);
	rig_desc(r, SEL_CODE3, 0, 0xfffff, 0xfa, 0xc);
	rig_desc(r, SEL_DATA3, 0, 0xfffff, 0xf2, 0xc);
	rig_desc(r, SEL_CODE0_64, 0, 0xfffff, 0x9a, 0xa);
	rig_desc(r, SEL_CODE3_64, 0, 0xfffff, 0xfa, 0xa);
	rig_desc(r, SEL_CONF0, 0, 0xfffff, 0x9e, 0xc);
	rig_desc(r, SEL_ABSENT, 0, 0xfffff, 0x12, 0xc);
	rig_desc(r, SEL_RO0, 0, 0xfffff, 0x90, 0xc);
	rig_desc(r, SEL_XO0, 0, 0xfffff, 0x98, 0xc);
	rig_desc(r, SEL_LD_CODE, 0, 0xfffff, 0x9a, 0xe);
	rig_desc(r, SEL_ABS_CODE, 0, 0xfffff, 0x1a, 0xc);
	rig_desc(r, SEL_DATA16, 0, 0xffff, 0x92, 0);
	rig_desc(r, SEL_CONF3, 0, 0xfffff, 0xfe, 0xc);
	rig_desc(r, SEL_TSS, RIG_TSS, 0x1fff, 0x89, 0);
	rig_desc(r, SEL_LDT, RIG_LDT, 0xff, 0x82, 0);
}

struct rig *rig_new(void)
{
	struct rig *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	r->apic_base = 0xfee00900;
	r->c.engine = r;
	r->c.ops = &rig_ops;
	r->c.cpuid = rig_cpuid;
	r->c.cpuid_n = ARRAY_LEN(rig_cpuid);
	r->c.phys_mask = BIT(46) - 1;
	r->c.cr4_allowed = CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE |
			   CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE |
			   CR4_SMEP | CR4_SMAP;
	r->c.xcr0_allowed = 7;
	r->c.tsc_khz = 1000000;
	x86_reset(&r->c);
	build_gdt(r);
	r->c.gdtr = (struct x86_dtr){ RIG_GDT, SEL_END - 1 };
	r->c.idtr = (struct x86_dtr){ RIG_IDT, 0xfff };
	rig_long(r, 0);
	return r;
}

/* A segment as if loaded from the GDT. */
static void seg_from_gdt(struct rig *r, enum x86_segreg s, u16 sel)
{
	u32 at = RIG_GDT + (sel & ~7u);
	u32 lo = (u32)rig_get(r, at, 4), hi = (u32)rig_get(r, at + 4, 4);
	u32 limit = (lo & 0xffff) | (hi & 0xf0000);

	r->c.seg[s] = (struct x86_seg){
		.sel = sel,
		.base = lo >> 16 | (hi & 0xff) << 16 | (hi & 0xff000000),
		.limit = hi & 0x800000 ? limit << 12 | 0xfff : limit,
		.attr = ((hi >> 8) & 0xf0ff) | 1,
	};
}

static void flat_mode(struct rig *r, u16 cs, u16 ss)
{
	r->c.rflags = 2;
	r->c.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP;
	r->c.cr4 = 0;
	r->c.efer = 0;
	seg_from_gdt(r, X86_CS, cs);
	seg_from_gdt(r, X86_SS, ss);
	seg_from_gdt(r, X86_DS, ss);
	seg_from_gdt(r, X86_ES, ss);
	r->c.seg[X86_FS] = r->c.seg[X86_GS] = (struct x86_seg){ 0 };
	r->c.tr = (struct x86_seg){ RIG_TSS, 0x1fff, SEL_TSS, 0x8b };
	r->c.r[X86_RSP] = RIG_STACK;
	r->c.rip = 0x4000;
}

void rig_prot32(struct rig *r, unsigned cpl)
{
	flat_mode(r, cpl ? SEL_CODE3 | 3 : SEL_CODE0, cpl ? SEL_DATA3 | 3 : SEL_DATA0);
	rig_put(r, RIG_TSS + 4, 4, RIG_STACK0);
	rig_put(r, RIG_TSS + 8, 4, SEL_DATA0);
	x86_derive(&r->c);
}

static void long_mode(struct rig *r)
{
	r->c.cr0 |= CR0_PG;
	r->c.cr4 = CR4_PAE;
	r->c.efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NX;
	rig_put(r, RIG_TSS + 4, 8, RIG_STACK0);
	rig_put(r, RIG_TSS + 36, 8, RIG_IST1);
	x86_derive(&r->c);
}

void rig_long(struct rig *r, unsigned cpl)
{
	flat_mode(r, cpl ? SEL_CODE3_64 | 3 : SEL_CODE0_64, cpl ? SEL_DATA3 | 3 : SEL_DATA0);
	long_mode(r);
}

void rig_compat(struct rig *r, unsigned cpl)
{
	flat_mode(r, cpl ? SEL_CODE3 | 3 : SEL_CODE0, cpl ? SEL_DATA3 | 3 : SEL_DATA0);
	long_mode(r);
}

void rig_real(struct rig *r)
{
	x86_reset(&r->c);
	r->c.idtr = (struct x86_dtr){ 0, 0x3ff };
	r->c.seg[X86_CS] = (struct x86_seg){ 0x4000, 0xffff, 0x400, 0x9b };
	r->c.seg[X86_SS] = (struct x86_seg){ 0x5000, 0xffff, 0x500, 0x93 };
	r->c.r[X86_RSP] = 0x1000;
	r->c.rip = 0x100;
	x86_derive(&r->c);
}

void rig_v86(struct rig *r, unsigned iopl)
{
	rig_prot32(r, 3);
	r->c.rflags = 2 | X86_VM | iopl << 12;
	for (int s = 0; s < X86_SEGS; s++) {
		u16 sel = (u16)(0x500 + s);

		r->c.seg[s] = (struct x86_seg){ (u64)sel << 4, 0xffff, sel, 0xf3 };
	}
	r->c.r[X86_RSP] = 0x1000;
	r->c.rip = 0x100;
	x86_derive(&r->c);
}
