/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpuid.c - CPUID from the CPU model's table, with the bits that mirror state filled in
 *
 * A leaf above the highest one of its range answers as Intel CPUs do, with the data of the
 * highest basic leaf (SDM vol. 2, CPUID); a leaf or subleaf inside the range that the table does
 * not have answers with zeros. The hypervisor range 40000000H is answered only from the table.
 */
#include "isa/x86/sys_priv.h"

enum { EAX, EBX, ECX, EDX };

const struct x86_cpuid_entry *x86_cpuid_find(const struct x86_cpu *c, u32 leaf, u32 subleaf)
{
	for (unsigned i = 0; i < c->cpuid_n; i++) {
		const struct x86_cpuid_entry *e = &c->cpuid[i];

		if (e->leaf == leaf && (!e->indexed || e->subleaf == subleaf))
			return e;
	}
	return NULL;
}

bool x86_cpuid_bit(const struct x86_cpu *c, u32 leaf, u32 subleaf, unsigned reg, unsigned bit)
{
	const struct x86_cpuid_entry *e = x86_cpuid_find(c, leaf, subleaf);
	u32 v;

	if (!e)
		return false;
	v = reg == EAX ? e->eax : reg == EBX ? e->ebx : reg == ECX ? e->ecx : e->edx;
	return (v >> bit) & 1;
}

/* The leaf whose data answers for @leaf. */
static u32 effective_leaf(const struct x86_cpu *c, u32 leaf)
{
	const struct x86_cpuid_entry *basic = x86_cpuid_find(c, 0, 0);
	const struct x86_cpuid_entry *ext = x86_cpuid_find(c, 0x80000000, 0);
	u32 max_basic = basic ? basic->eax : 0;
	u32 max_ext = ext ? ext->eax : 0;

	if (leaf >= 0x80000000)
		return leaf <= max_ext ? leaf : max_basic;
	if (leaf >= 0x40000000 && leaf < 0x50000000)
		return leaf;
	return leaf <= max_basic ? leaf : max_basic;
}

/* Bytes of an XSAVE area with the components @bits, compacted or at their fixed offsets. */
static u32 xsave_size(const struct x86_cpu *c, u64 bits, bool compact)
{
	u32 size = 576; /* legacy region and header */

	for (u32 i = 2; i < 63; i++) {
		const struct x86_cpuid_entry *e;

		if (!(bits & BIT(i)))
			continue;
		e = x86_cpuid_find(c, 0xd, i);
		if (!e)
			continue;
		if (!compact) {
			size = MAX(size, e->ebx + e->eax);
			continue;
		}
		if (e->ecx & 2)
			size = ALIGN_UP(size, 64u);
		size += e->eax;
	}
	return size;
}

static void leaf_1(struct x86_cpu *c, u32 out[4])
{
	u64 apic_base;

	out[ECX] &= ~(u32)BIT(27);
	if (c->cr4 & CR4_OSXSAVE)
		out[ECX] |= BIT(27);
	/* The APIC flag follows IA32_APIC_BASE.EN (SDM vol. 3, 10.4.3). */
	if ((out[EDX] & BIT(9)) && c->ops->apic_rdmsr && !c->ops->apic_rdmsr(c, 0x1b, &apic_base) &&
	    !(apic_base & BIT(11)))
		out[EDX] &= ~(u32)BIT(9);
	/* This is how software reads the microcode revision (SDM vol. 3, 9.11.7.1). */
	c->ucode_rev = X86_UCODE_REV;
}

void x86_cpuid(struct x86_cpu *c, u32 leaf, u32 subleaf, u32 out[4])
{
	u32 real = effective_leaf(c, leaf);
	const struct x86_cpuid_entry *e = x86_cpuid_find(c, real, subleaf);

	out[EAX] = e ? e->eax : 0;
	out[EBX] = e ? e->ebx : 0;
	out[ECX] = e ? e->ecx : 0;
	out[EDX] = e ? e->edx : 0;
	switch (real) {
	case 1:
		leaf_1(c, out);
		break;
	case 7:
		if (subleaf == 0) {
			out[ECX] &= ~(u32)BIT(4);
			if (c->cr4 & CR4_PKE)
				out[ECX] |= BIT(4); /* OSPKE */
		}
		break;
	case 0xb:
	case 0x1f:
		/* Past the last level: the input subleaf and the x2APIC ID are still returned. */
		if (!e) {
			e = x86_cpuid_find(c, real, 0);
			if (e) {
				out[ECX] = subleaf & 0xff;
				out[EDX] = e->edx;
			}
		}
		break;
	case 0xd:
		if (subleaf == 0 && e)
			out[EBX] = xsave_size(c, c->xcr0, false);
		else if (subleaf == 1 && (out[EAX] & 0xa)) /* XSAVEC or XSAVES */
			out[EBX] = xsave_size(c, c->xcr0, true);
		break;
	default:
		break;
	}
}
