/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msr.c - model-specific registers
 *
 * How it works
 * The list is what an Intel family-6 CPU with the features of our CPU models has, no more: an
 * unknown register is #GP on read and write, which Linux's *_safe accessors take as "not there".
 * Nothing is accepted and ignored if its effect could be observed: a control bit that we do not
 * implement cannot be set. A register that belongs to a CPUID feature exists with the feature.
 *
 * Specification: SDM vol. 4, chapter 2; vol. 3, 11.11 (MTRR), 11.12 (PAT).
 */
#include "isa/x86/sys_priv.h"

enum msr {
	MSR_TSC = 0x10,
	MSR_PLATFORM_ID = 0x17,
	MSR_APIC_BASE = 0x1b,
	MSR_FEATURE_CONTROL = 0x3a,
	MSR_TSC_ADJUST = 0x3b,
	MSR_SPEC_CTRL = 0x48,
	MSR_PRED_CMD = 0x49,
	MSR_BIOS_SIGN_ID = 0x8b,
	MSR_MTRRCAP = 0xfe,
	MSR_ARCH_CAPABILITIES = 0x10a,
	MSR_FLUSH_CMD = 0x10b,
	MSR_SYSENTER_CS = 0x174,
	MSR_SYSENTER_ESP = 0x175,
	MSR_SYSENTER_EIP = 0x176,
	MSR_MCG_CAP = 0x179,
	MSR_MCG_STATUS = 0x17a,
	MSR_MISC_ENABLE = 0x1a0,
	MSR_DEBUGCTL = 0x1d9,
	MSR_MTRR_PHYS = 0x200, /* base, mask, base, mask, ... */
	MSR_MTRR_FIX64K = 0x250,
	MSR_MTRR_FIX16K = 0x258,
	MSR_MTRR_FIX4K = 0x268,
	MSR_PAT = 0x277,
	MSR_MTRR_DEF_TYPE = 0x2ff,
	MSR_TSC_DEADLINE = 0x6e0,
	MSR_X2APIC = 0x800,
	MSR_EFER = 0xc0000080,
	MSR_STAR = 0xc0000081,
	MSR_LSTAR = 0xc0000082,
	MSR_CSTAR = 0xc0000083,
	MSR_FMASK = 0xc0000084,
	MSR_FS_BASE = 0xc0000100,
	MSR_GS_BASE = 0xc0000101,
	MSR_KERNEL_GS_BASE = 0xc0000102,
	MSR_TSC_AUX = 0xc0000103,
};

#define MTRRCAP_VALUE (X86_MTRR_VAR | BIT(8) /* fixed ranges */ | BIT(10) /* WC */)
#define SPEC_CTRL_IBRS BIT(0)
#define SPEC_CTRL_STIBP BIT(1)
#define SPEC_CTRL_SSBD BIT(2)

/*
 * This CPU executes one instruction after the other and predicts nothing, so it has none of the
 * flaws that these bits speak of; saying so lets a kernel leave out its workarounds.
 */
#define ARCH_CAPABILITIES                                                                          \
	(BIT(0)	   /* RDCL_NO: no rogue data cache load (Meltdown) */                              \
	 | BIT(3)  /* SKIP_L1DFL_VMENTRY: no L1 flush needed at VM entry */                        \
	 | BIT(4)  /* SSB_NO: no speculative store bypass */                                       \
	 | BIT(5)  /* MDS_NO: no microarchitectural data sampling */                               \
	 | BIT(6)  /* IF_PSCHANGE_MC_NO: no machine check on page size change */                   \
	 | BIT(8)  /* TAA_NO: no TSX asynchronous abort */                                         \
	 | BIT(13) /* SBDR_SSDP_NO: no shared buffer data read */                                  \
	 | BIT(14) /* FBSDP_NO: no fill buffer stale data propagation */                           \
	 | BIT(15) /* PSDP_NO: no primary stale data propagation */                                \
	 | BIT(20) /* BHI_NO: no branch history injection */                                       \
	 | BIT(24) /* PBRSB_NO: no post-barrier return stack prediction */                         \
	 | BIT(26) /* GDS_NO: no gather data sampling */                                           \
	 | BIT(27) /* RFDS_NO: no register file data sampling */                                   \
	 | BIT(62) /* ITS_NO: no indirect target selection */)
#define ARCH_CAP_IBRS_ALL BIT(1) /* IBRS may stay on; only with IA32_SPEC_CTRL */

static int gp0(struct x86_cpu *c)
{
	return x86_fault_err(c, X86_GP, 0);
}

/* --- features that bring registers ------------------------------------------------------------ */

static bool has_tsc_adjust(const struct x86_cpu *c)
{
	return x86_cpuid_bit(c, 7, 0, 1, 1);
}

static bool has_arch_capabilities(const struct x86_cpu *c)
{
	return x86_cpuid_bit(c, 7, 0, 3, 29);
}

static bool has_ibrs(const struct x86_cpu *c)
{
	return x86_cpuid_bit(c, 7, 0, 3, 26);
}

/* Bits of IA32_SPEC_CTRL that the CPU model has; 0: no such register. */
static u64 spec_ctrl_mask(const struct x86_cpu *c)
{
	u64 m = 0;

	if (has_ibrs(c))
		m |= SPEC_CTRL_IBRS;
	if (x86_cpuid_bit(c, 7, 0, 3, 27))
		m |= SPEC_CTRL_STIBP;
	if (x86_cpuid_bit(c, 7, 0, 3, 31))
		m |= SPEC_CTRL_SSBD;
	return m;
}

static bool has_tsc_aux(const struct x86_cpu *c)
{
	return x86_cpuid_bit(c, 0x80000001, 0, 3, 27) || x86_cpuid_bit(c, 7, 0, 2, 22);
}

static bool is_apic_msr(u32 msr)
{
	return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE ||
	       (msr >= MSR_X2APIC && msr <= MSR_X2APIC + 0xff);
}

/* --- memory types (the emulated CPU has no caches; the registers only remember) --------------- */

static bool memtype_valid(u8 t)
{
	return t <= 6 && t != 2 && t != 3; /* UC, WC, WT, WP, WB */
}

static bool memtypes_valid(u64 v, bool pat)
{
	for (int i = 0; i < 8; i++, v >>= 8)
		if (!memtype_valid((u8)v) && !(pat && (u8)v == 7)) /* 7: UC-, PAT only */
			return false;
	return true;
}

/* The storage of a fixed-range MTRR, or NULL. */
static u64 *mtrr_fixed(struct x86_cpu *c, u32 msr)
{
	if (msr == MSR_MTRR_FIX64K)
		return &c->mtrr_fixed[0];
	if (msr >= MSR_MTRR_FIX16K && msr < MSR_MTRR_FIX16K + 2)
		return &c->mtrr_fixed[1 + msr - MSR_MTRR_FIX16K];
	if (msr >= MSR_MTRR_FIX4K && msr < MSR_MTRR_FIX4K + 8)
		return &c->mtrr_fixed[3 + msr - MSR_MTRR_FIX4K];
	return NULL;
}

/* The storage of a variable-range MTRR, or NULL. */
static u64 *mtrr_var(struct x86_cpu *c, u32 msr)
{
	u32 i = (msr - MSR_MTRR_PHYS) / 2;

	if (msr < MSR_MTRR_PHYS || i >= X86_MTRR_VAR)
		return NULL;
	return msr & 1 ? &c->mtrr_mask[i] : &c->mtrr_base[i];
}

static int mtrr_write(struct x86_cpu *c, u32 msr, u64 v)
{
	u64 *r;

	if (msr == MSR_MTRR_DEF_TYPE) {
		if ((v & ~0xcffull) || !memtype_valid((u8)v))
			return gp0(c);
		c->mtrr_def = v;
		return 0;
	}
	r = mtrr_fixed(c, msr);
	if (r) {
		if (!memtypes_valid(v, false))
			return gp0(c);
		*r = v;
		return 0;
	}
	r = mtrr_var(c, msr);
	if (!r || (v & ~(c->phys_mask | 0xfff)) || (v & (msr & 1 ? 0x7ff : 0xf00)) ||
	    (!(msr & 1) && !memtype_valid((u8)v)))
		return gp0(c);
	*r = v;
	return 0;
}

/* --- the time-stamp counter ------------------------------------------------------------------- */

/*
 * The local APIC knows the counter without IA32_TSC_ADJUST, so a deadline, which software gives
 * in adjusted ticks, is translated here. A deadline before the counter's own beginning is over.
 */
static u64 deadline_to_apic(const struct x86_cpu *c, u64 v)
{
	s64 adjust = (s64)c->tsc_adjust;
	u64 raw = v - c->tsc_adjust;

	if (v == 0)
		return 0; /* disarmed */
	if (adjust > 0 && v <= c->tsc_adjust)
		return 1;
	if (adjust < 0 && raw < v)
		return UINT64_MAX;
	return raw;
}

static u64 deadline_from_apic(const struct x86_cpu *c, u64 raw)
{
	return raw ? raw + c->tsc_adjust : 0;
}

static int apic_rdmsr(struct x86_cpu *c, u32 msr, u64 *ret)
{
	u64 v;

	if (c->ops->apic_rdmsr(c, msr, &v))
		return gp0(c);
	*ret = msr == MSR_TSC_DEADLINE ? deadline_from_apic(c, v) : v;
	return 0;
}

static int apic_wrmsr(struct x86_cpu *c, u32 msr, u64 v)
{
	if (msr == MSR_TSC_DEADLINE)
		v = deadline_to_apic(c, v);
	return c->ops->apic_wrmsr(c, msr, v) ? gp0(c) : 0;
}

/* An armed deadline keeps its value, which now means another moment. */
static void set_tsc_adjust(struct x86_cpu *c, u64 adjust)
{
	u64 deadline;
	bool armed = !apic_rdmsr(c, MSR_TSC_DEADLINE, &deadline) && deadline;

	c->tsc_adjust = adjust;
	if (armed)
		apic_wrmsr(c, MSR_TSC_DEADLINE, deadline);
}

/* --- read ------------------------------------------------------------------------------------- */

/* Registers that only exist with a CPUID feature. 1: read, 0: not one of them. */
static int feature_rdmsr(struct x86_cpu *c, u32 msr, u64 *ret)
{
	switch (msr) {
	case MSR_TSC_ADJUST:
		if (!has_tsc_adjust(c))
			return 0;
		*ret = c->tsc_adjust;
		return 1;
	case MSR_SPEC_CTRL:
		if (!spec_ctrl_mask(c))
			return 0;
		*ret = c->spec_ctrl;
		return 1;
	case MSR_ARCH_CAPABILITIES:
		if (!has_arch_capabilities(c))
			return 0;
		*ret = ARCH_CAPABILITIES | (has_ibrs(c) ? ARCH_CAP_IBRS_ALL : 0);
		return 1;
	case MSR_TSC_AUX:
		if (!has_tsc_aux(c))
			return 0;
		*ret = c->tsc_aux;
		return 1;
	default:
		return 0;
	}
}

/* Registers that are a field of the CPU with nothing to compute. */
static const u64 *plain_msr(struct x86_cpu *c, u32 msr)
{
	const u64 *r;

	switch (msr) {
	case MSR_BIOS_SIGN_ID:
		return &c->ucode_rev;
	case MSR_SYSENTER_CS:
		return &c->sysenter_cs;
	case MSR_SYSENTER_ESP:
		return &c->sysenter_esp;
	case MSR_SYSENTER_EIP:
		return &c->sysenter_eip;
	case MSR_MCG_STATUS:
		return &c->mcg_status;
	case MSR_MISC_ENABLE:
		return &c->misc_enable;
	case MSR_PAT:
		return &c->pat;
	case MSR_MTRR_DEF_TYPE:
		return &c->mtrr_def;
	case MSR_EFER:
		return &c->efer;
	case MSR_STAR:
		return &c->star;
	case MSR_LSTAR:
		return &c->lstar;
	case MSR_CSTAR:
		return &c->cstar;
	case MSR_FMASK:
		return &c->fmask;
	case MSR_FS_BASE:
		return &c->seg[X86_FS].base;
	case MSR_GS_BASE:
		return &c->seg[X86_GS].base;
	case MSR_KERNEL_GS_BASE:
		return &c->kernel_gs_base;
	default:
		r = mtrr_fixed(c, msr);
		return r ? r : mtrr_var(c, msr);
	}
}

int x86_rdmsr(struct x86_cpu *c, u32 msr, u64 *ret)
{
	const u64 *r;

	if (c->cpl)
		return gp0(c);
	if (is_apic_msr(msr))
		return apic_rdmsr(c, msr, ret);
	if (feature_rdmsr(c, msr, ret))
		return 0;
	r = plain_msr(c, msr);
	if (r) {
		*ret = *r;
		return 0;
	}
	switch (msr) {
	case MSR_TSC:
		*ret = c->ops->tsc(c) + c->tsc_adjust;
		return 0;
	case MSR_FEATURE_CONTROL:
		*ret = 1; /* locked, nothing enabled: no VMX, no SGX */
		return 0;
	case MSR_MTRRCAP:
		*ret = MTRRCAP_VALUE;
		return 0;
	case MSR_PLATFORM_ID:
	case MSR_MCG_CAP:  /* no machine-check banks, no MCG_CTL */
	case MSR_DEBUGCTL: /* no LBR, no BTF */
		*ret = 0;
		return 0;
	default:
		return gp0(c);
	}
}

/* --- write ------------------------------------------------------------------------------------ */

static int efer_write(struct x86_cpu *c, u64 v)
{
	u64 allowed = EFER_LMA;
	u64 changed;

	if (x86_cpuid_bit(c, 0x80000001, 0, 3, 11))
		allowed |= EFER_SCE;
	if (x86_cpuid_bit(c, 0x80000001, 0, 3, 20))
		allowed |= EFER_NX;
	if (x86_cpuid_bit(c, 0x80000001, 0, 3, 29))
		allowed |= EFER_LME;
	if (v & ~allowed)
		return gp0(c);
	v = (v & ~EFER_LMA) | (c->efer & EFER_LMA);
	changed = v ^ c->efer;
	if ((changed & EFER_LME) && (c->cr0 & CR0_PG))
		return gp0(c);
	c->efer = v;
	if (changed & (EFER_NX | EFER_LME))
		c->ops->tlb_flush_all(c);
	x86_mode_sync(c);
	return 0;
}

/* Stores a linear address, which must be canonical. */
static int write_canonical(struct x86_cpu *c, u64 *r, u64 v)
{
	if (!x86_canonical(v))
		return gp0(c);
	*r = v;
	return 0;
}

static int write_masked(struct x86_cpu *c, u64 *r, u64 v, u64 allowed)
{
	if (v & ~allowed)
		return gp0(c);
	*r = v;
	return 0;
}

/* Registers that only exist with a CPUID feature. */
static int feature_wrmsr(struct x86_cpu *c, u32 msr, u64 v)
{
	switch (msr) {
	case MSR_TSC_ADJUST:
		if (!has_tsc_adjust(c))
			return gp0(c);
		set_tsc_adjust(c, v);
		return 0;
	case MSR_SPEC_CTRL:
		if (!spec_ctrl_mask(c))
			return gp0(c);
		return write_masked(c, &c->spec_ctrl, v, spec_ctrl_mask(c));
	case MSR_PRED_CMD: /* IBPB: there are no predictions to forget */
		return has_ibrs(c) && !(v & ~1ull) ? 0 : gp0(c);
	case MSR_FLUSH_CMD: /* L1D_FLUSH: there is no cache */
		return x86_cpuid_bit(c, 7, 0, 3, 28) && !(v & ~1ull) ? 0 : gp0(c);
	case MSR_TSC_AUX:
		if (!has_tsc_aux(c))
			return gp0(c);
		return write_masked(c, &c->tsc_aux, v, 0xffffffff);
	default:
		return gp0(c);
	}
}

static int syscall_wrmsr(struct x86_cpu *c, u32 msr, u64 v)
{
	switch (msr) {
	case MSR_SYSENTER_CS:
		c->sysenter_cs = (u32)v;
		return 0;
	case MSR_SYSENTER_ESP:
		return write_canonical(c, &c->sysenter_esp, v);
	case MSR_SYSENTER_EIP:
		return write_canonical(c, &c->sysenter_eip, v);
	case MSR_EFER:
		return efer_write(c, v);
	case MSR_STAR:
		c->star = v;
		return 0;
	case MSR_LSTAR:
		return write_canonical(c, &c->lstar, v);
	case MSR_CSTAR:
		return write_canonical(c, &c->cstar, v);
	case MSR_FMASK:
		return write_masked(c, &c->fmask, v, 0xffffffff);
	case MSR_FS_BASE:
	case MSR_GS_BASE:
		if (write_canonical(c, &c->seg[msr == MSR_FS_BASE ? X86_FS : X86_GS].base, v))
			return X86_FAULT;
		x86_derive(c);
		return 0;
	default: /* MSR_KERNEL_GS_BASE */
		return write_canonical(c, &c->kernel_gs_base, v);
	}
}

int x86_wrmsr(struct x86_cpu *c, u32 msr, u64 v)
{
	if (c->cpl)
		return gp0(c);
	if (is_apic_msr(msr))
		return apic_wrmsr(c, msr, v);
	if (msr == MSR_MTRR_DEF_TYPE || mtrr_fixed(c, msr) || mtrr_var(c, msr))
		return mtrr_write(c, msr, v);
	switch (msr) {
	case MSR_TSC:
		/* IA32_TSC_ADJUST moves by as much as the counter does (SDM vol. 3, 17.17.3). */
		set_tsc_adjust(c, v - c->ops->tsc(c));
		return 0;
	case MSR_BIOS_SIGN_ID:
		c->ucode_rev = v; /* until the next CPUID.1 */
		return 0;
	case MSR_MCG_STATUS: /* software may only clear it */
	case MSR_DEBUGCTL:
		return v ? gp0(c) : 0;
	case MSR_MISC_ENABLE:
		/* Fast strings have no visible effect; the other switches are fixed. */
		if ((v ^ c->misc_enable) & ~BIT(0))
			return gp0(c);
		c->misc_enable = v;
		return 0;
	case MSR_PAT:
		if (!memtypes_valid(v, true))
			return gp0(c);
		c->pat = v;
		return 0;
	case MSR_SYSENTER_CS:
	case MSR_SYSENTER_ESP:
	case MSR_SYSENTER_EIP:
	case MSR_EFER:
	case MSR_STAR:
	case MSR_LSTAR:
	case MSR_CSTAR:
	case MSR_FMASK:
	case MSR_FS_BASE:
	case MSR_GS_BASE:
	case MSR_KERNEL_GS_BASE:
		return syscall_wrmsr(c, msr, v);
	default:
		return feature_wrmsr(c, msr, v);
	}
}
