/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h - the architectural state of one x86-64 logical processor
 *
 * How it works
 * The layout serves three users: the interpreter, the translator (which addresses fields at fixed
 * offsets from one register, so the hot ones come first), and the system semantics of this
 * directory, which reach memory only through struct x86_ops.
 *
 * Arithmetic flags live outside rflags, in the form that LAHF and SETO produce: `fl` holds
 * SF:ZF:0:AF:0:PF:1:CF as AH after LAHF, `of` is 0 or 1; the two bytes together are AX after
 * LAHF; SETO AL. `rflags` holds every other flag and has
 * the six arithmetic bits clear. x86_get_rflags/x86_set_rflags join and split them.
 *
 * Vector and x87 state is the legacy region of an XSAVE image, in hardware format, so that host
 * instructions load and store it. FIP, FDP and FOP always read as zero (docs/quirks.md).
 */
#ifndef ORR_ISA_X86_STATE_H
#define ORR_ISA_X86_STATE_H

#include "base/compiler.h"

enum x86_gpr {
	X86_RAX,
	X86_RCX,
	X86_RDX,
	X86_RBX,
	X86_RSP,
	X86_RBP,
	X86_RSI,
	X86_RDI,
	X86_R8,
	X86_R9,
	X86_R10,
	X86_R11,
	X86_R12,
	X86_R13,
	X86_R14,
	X86_R15,
	X86_GPRS,
	X86_ZERO = X86_GPRS, /* always 0: the absent base or index of an address */
	X86_BLOCK, /* linear address of the running block's start, for RIP-relative forms */
	X86_REGS,
};

enum x86_segreg { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_SEGS };

/* RFLAGS (SDM vol. 1, 3.4.3) */
#define X86_CF 0x0001u
#define X86_PF 0x0004u
#define X86_AF 0x0010u
#define X86_ZF 0x0040u
#define X86_SF 0x0080u
#define X86_TF 0x0100u
#define X86_IF 0x0200u
#define X86_DF 0x0400u
#define X86_OF 0x0800u
#define X86_IOPL 0x3000u
#define X86_NT 0x4000u
#define X86_RF 0x10000u
#define X86_VM 0x20000u
#define X86_AC 0x40000u
#define X86_VIF 0x80000u
#define X86_VIP 0x100000u
#define X86_ID 0x200000u
#define X86_ARITH (X86_CF | X86_PF | X86_AF | X86_ZF | X86_SF | X86_OF)

/* CR0, CR4, EFER (SDM vol. 3, 2.5 and 2.2.1) */
#define CR0_PE 0x1ull
#define CR0_MP 0x2ull
#define CR0_EM 0x4ull
#define CR0_TS 0x8ull
#define CR0_ET 0x10ull
#define CR0_NE 0x20ull
#define CR0_WP 0x10000ull
#define CR0_AM 0x40000ull
#define CR0_NW 0x20000000ull
#define CR0_CD 0x40000000ull
#define CR0_PG 0x80000000ull
#define CR4_VME 0x1ull
#define CR4_PVI 0x2ull
#define CR4_TSD 0x4ull
#define CR4_DE 0x8ull
#define CR4_PSE 0x10ull
#define CR4_PAE 0x20ull
#define CR4_MCE 0x40ull
#define CR4_PGE 0x80ull
#define CR4_PCE 0x100ull
#define CR4_OSFXSR 0x200ull
#define CR4_OSXMMEXCPT 0x400ull
#define CR4_UMIP 0x800ull
#define CR4_LA57 0x1000ull
#define CR4_FSGSBASE 0x10000ull
#define CR4_PCIDE 0x20000ull
#define CR4_OSXSAVE 0x40000ull
#define CR4_SMEP 0x100000ull
#define CR4_SMAP 0x200000ull
#define CR4_PKE 0x400000ull
#define XCR0_SSE 0x2ull
#define XCR0_AVX 0x4ull
#define EFER_SCE 0x1ull
#define EFER_LME 0x100ull
#define EFER_LMA 0x400ull
#define EFER_NX 0x800ull

/* Exceptions (SDM vol. 3, table 6-1) */
enum x86_vector {
	X86_DE = 0,
	X86_DB = 1,
	X86_NMI = 2,
	X86_BP = 3,
	X86_OF_EXC = 4,
	X86_BR = 5,
	X86_UD = 6,
	X86_NM = 7,
	X86_DF_EXC = 8,
	X86_TS = 10,
	X86_NP = 11,
	X86_SS_EXC = 12,
	X86_GP = 13,
	X86_PF_EXC = 14,
	X86_MF = 16,
	X86_AC_EXC = 17,
	X86_MC = 18,
	X86_XM = 19,
};

/* Page-fault error code */
#define PFEC_P 0x1u
#define PFEC_W 0x2u
#define PFEC_U 0x4u
#define PFEC_RSVD 0x8u
#define PFEC_I 0x10u

/* Segment attributes, in the places they have in bits 40-55 of a descriptor. */
#define SEG_TYPE 0x000fu
#define SEG_S 0x0010u
#define SEG_DPL_SHIFT 5
#define SEG_DPL 0x0060u
#define SEG_P 0x0080u
#define SEG_AVL 0x1000u
#define SEG_L 0x2000u
#define SEG_DB 0x4000u
#define SEG_G 0x8000u

struct x86_seg {
	u64 base;
	u32 limit; /* bytes, granularity already applied */
	u16 sel;
	u16 attr; /* SEG_*; 0 (not present) for a null selector */
};

struct x86_dtr {
	u64 base;
	u16 limit;
};

/* The XSAVE image: legacy region, header, AVX component at its standard offset 576. */
struct x86_xstate {
	u16 fcw, fsw;
	u8 ftw; /* abridged: 1 = valid */
	u8 rsvd1;
	u16 fop;
	u64 fip, fdp;
	u32 mxcsr, mxcsr_mask;
	u8 st[8][16]; /* ST0.. in stack order, 10 bytes used */
	u8 xmm[16][16];
	u8 rsvd2[96];
	u64 xstate_bv, xcomp_bv; /* scratch of XSAVE-type instructions, not guest state */
	u8 rsvd3[48];
	u8 ymmh[16][16]; /* upper halves; zero while AVX is not offered */
} attr_aligned(64);

struct x86_exc {
	u8 vector;
	bool has_err;
	u32 err;
	u64 cr2; /* for #PF: becomes CR2 when the exception is delivered */
	u64 dr6; /* for #DB: bits to set in DR6 when delivered */
};

#define X86_MTRR_VAR 8

struct x86_cpuid_entry {
	u32 leaf, subleaf;
	bool indexed; /* subleaf is significant */
	u32 eax, ebx, ecx, edx;
};

struct x86_cpu;

/*
 * What the system semantics need from their surroundings. All linear accesses are *implicit
 * supervisor* accesses unless @user. They return 0, or X86_FAULT with cpu->exc filled in.
 * @size 1..8 bytes; values zero-extended.
 */
struct x86_ops {
	int (*lin_read)(struct x86_cpu *c, gva_t a, unsigned size, bool user, u64 *ret);
	int (*lin_write)(struct x86_cpu *c, gva_t a, unsigned size, bool user, u64 val);
	/* Checks that [a, a+len) can be written (as lin_write would), without writing. */
	int (*lin_probe_write)(struct x86_cpu *c, gva_t a, unsigned len, bool user);
	/* Page-table memory: 4 or 8 bytes, naturally aligned. Not RAM reads as all ones. */
	u64 (*phys_read)(struct x86_cpu *c, gpa_t a, unsigned size);
	/* Sets bits in a page-table entry that was read as @old (accessed, dirty). */
	void (*phys_or)(struct x86_cpu *c, gpa_t a, unsigned size, u64 bits);
	/* The address space or its permissions changed: CR0, CR3, CR4, EFER, CPL-independent. */
	void (*tlb_flush_all)(struct x86_cpu *c);
	void (*tlb_flush_nonglobal)(struct x86_cpu *c);
	void (*tlb_flush_page)(struct x86_cpu *c, gva_t a);
	/* CPL, CS.L, CS.D, SS.B, EFLAGS.AC, CR0/CR4/EFER bits changed: derived mode is stale. */
	void (*mode_changed)(struct x86_cpu *c);
	/* Guest time as TSC ticks before IA32_TSC_ADJUST. */
	u64 (*tsc)(struct x86_cpu *c);
	/* MSRs of the local interrupt controller (0x1B, 0x6E0, 0x800-0x8FF). 0 or X86_FAULT (#GP). */
	int (*apic_rdmsr)(struct x86_cpu *c, u32 msr, u64 *ret);
	int (*apic_wrmsr)(struct x86_cpu *c, u32 msr, u64 val);
	u64 (*cr8_read)(struct x86_cpu *c);
	void (*cr8_write)(struct x86_cpu *c, u64 v);
};

#define X86_FAULT 1    /* cpu->exc holds the exception to deliver; nothing else changed */
#define X86_SHUTDOWN 2 /* triple fault */

struct x86_cpu {
	/* Hot: addressed by translated code. */
	u64 r[X86_REGS];
	u64 rip;
	u8 of, fl; /* in this order: one 16-bit store of AX */
	u8 cpl;	   /* derived: CS.RPL (SS.DPL) */
	u8 mode;   /* derived by the engine, see its mode bits */
	u32 pad0;
	u64 rflags;		   /* all but X86_ARITH; bit 1 set */
	u64 segbase[X86_SEGS + 2]; /* base to add per segment prefix; [X86_SEGS] is 0 */

	/* System state */
	struct x86_seg seg[X86_SEGS], ldtr, tr;
	struct x86_dtr gdtr, idtr;
	u64 cr0, cr2, cr3, cr4, efer, xcr0;
	u64 dr[4], dr6, dr7;
	u64 star, lstar, cstar, fmask, kernel_gs_base, tsc_aux;
	u64 sysenter_cs, sysenter_esp, sysenter_eip;
	u64 pat, misc_enable, tsc_adjust, spec_ctrl, mcg_status, mtrr_def;
	u64 mtrr_fixed[11], mtrr_base[X86_MTRR_VAR], mtrr_mask[X86_MTRR_VAR];
	u64 ucode_rev;

	/* Between instructions */
	bool halted;	  /* HLT until an interrupt */
	bool wait_sipi;	  /* after INIT */
	bool nmi_blocked; /* until IRET */
	bool nmi_pending;
	u8 shadow;	    /* 1: interrupts held off for one instruction (STI, MOV SS, POP SS) */
	struct x86_exc exc; /* the exception of the last X86_FAULT */
	/*
	 * Set while FXSAVE- and XSAVE-type instructions run: accesses of lin_* that are not @user are
	 * then explicit, so EFLAGS.AC opens user pages to them under SMAP. x86_walk honours it; an
	 * engine that answers from a TLB must too.
	 */
	bool lin_explicit;

	struct x86_xstate x;

	/* Configuration, fixed at creation */
	unsigned index;
	const struct x86_ops *ops;
	const struct x86_cpuid_entry *cpuid; /* borrowed, this vCPU's table */
	unsigned cpuid_n;
	u64 phys_mask;	 /* implemented physical address bits, e.g. (1 << 46) - 1 */
	u64 cr4_allowed; /* bits the CPU model implements */
	u64 xcr0_allowed;
	u64 tsc_khz;
	void *engine; /* the engine's own per-vCPU data */
};

static inline u64 x86_get_rflags(const struct x86_cpu *c)
{
	return c->rflags | (c->fl & (X86_SF | X86_ZF | X86_AF | X86_PF | X86_CF)) |
	       (c->of ? X86_OF : 0);
}

/* Splits @f; the caller has already decided which bits may change. */
static inline void x86_put_rflags(struct x86_cpu *c, u64 f)
{
	c->fl = (u8)((f & (X86_SF | X86_ZF | X86_AF | X86_PF | X86_CF)) | 2);
	c->of = (f & X86_OF) != 0;
	c->rflags = (f & ~(u64)X86_ARITH & 0x3f7fd7) | 2;
}

/* Records an exception and returns X86_FAULT. */
static inline int x86_fault(struct x86_cpu *c, u8 vector)
{
	c->exc = (struct x86_exc){ .vector = vector };
	return X86_FAULT;
}

static inline int x86_fault_err(struct x86_cpu *c, u8 vector, u32 err)
{
	c->exc = (struct x86_exc){ .vector = vector, .has_err = true, .err = err };
	return X86_FAULT;
}

static inline bool x86_long_mode(const struct x86_cpu *c)
{
	return (c->efer & EFER_LMA) != 0;
}

static inline bool x86_code64(const struct x86_cpu *c)
{
	return (c->efer & EFER_LMA) && (c->seg[X86_CS].attr & SEG_L);
}

#endif
