/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sys_priv.h - what the files of this directory share behind sys.h
 */
#ifndef ORR_ISA_X86_SYS_PRIV_H
#define ORR_ISA_X86_SYS_PRIV_H

#include "isa/x86/sys.h"

/* System descriptor types (SDM vol. 3, table 3-2) */
enum x86_systype {
	SYS_TSS16 = 1,
	SYS_LDT = 2,
	SYS_TSS16_BUSY = 3,
	SYS_CALL16 = 4,
	SYS_TASK = 5,
	SYS_INT16 = 6,
	SYS_TRAP16 = 7,
	SYS_TSS = 9,
	SYS_TSS_BUSY = 11,
	SYS_CALL = 12,
	SYS_INT = 14,
	SYS_TRAP = 15,
};

/* Type bits of code and data segments (SDM vol. 3, table 3-1) */
#define TYPE_ACCESSED 1u
#define TYPE_WRITABLE 2u   /* data */
#define TYPE_READABLE 2u   /* code */
#define TYPE_EXPDOWN 4u	   /* data */
#define TYPE_CONFORMING 4u /* code */
#define TYPE_CODE 8u

/* Attributes that SYSCALL and friends force, and those of real and virtual-8086 segments. */
#define ATTR_FLAT (SEG_P | SEG_S | SEG_G)
#define ATTR_DATA16 (SEG_P | SEG_S | TYPE_WRITABLE | TYPE_ACCESSED)
#define ATTR_CODE16 (SEG_P | SEG_S | TYPE_CODE | TYPE_READABLE | TYPE_ACCESSED)
#define ATTR_V86 (ATTR_DATA16 | SEG_DPL)

/* IA32_BIOS_SIGN_ID: the revision of the microcode is in the upper half. Ours never changes. */
#define X86_UCODE_REV (1ull << 32)
#define X86_PAT_RESET 0x0007040600070406ull
#define X86_MXCSR_MASK 0xffffu
#define X86_MXCSR_INIT 0x1f80u

/* A descriptor as it was read from the GDT or LDT at @addr. */
struct x86_desc {
	u32 lo, hi;
	u32 base_hi; /* bits 32-63 of the base: 16-byte system descriptors only */
	gva_t addr;
};

static inline bool x86_canonical(u64 a)
{
	return (u64)((s64)(a << 16) >> 16) == a;
}

static inline bool x86_real_mode(const struct x86_cpu *c)
{
	return !(c->cr0 & CR0_PE);
}

static inline bool x86_v86_mode(const struct x86_cpu *c)
{
	return (c->cr0 & CR0_PE) && (c->rflags & X86_VM);
}

static inline unsigned x86_iopl(const struct x86_cpu *c)
{
	return (c->rflags & X86_IOPL) >> 12;
}

static inline unsigned seg_dpl(const struct x86_seg *s)
{
	return (s->attr & SEG_DPL) >> SEG_DPL_SHIFT;
}

static inline bool seg_is_code(const struct x86_seg *s)
{
	return (s->attr & SEG_S) && (s->attr & TYPE_CODE);
}

static inline bool seg_is_conforming(const struct x86_seg *s)
{
	return seg_is_code(s) && (s->attr & TYPE_CONFORMING);
}

static inline bool seg_is_writable(const struct x86_seg *s)
{
	return (s->attr & SEG_S) && !(s->attr & TYPE_CODE) && (s->attr & TYPE_WRITABLE);
}

/* The selector part of an error code: RPL is not in it. */
static inline u32 sel_err(u16 sel)
{
	return sel & 0xfffcu;
}

static inline bool sel_null(u16 sel)
{
	return sel_err(sel) == 0;
}

/* Outside long mode linear addresses are 32 bits wide and wrap. */
static inline gva_t x86_lin(const struct x86_cpu *c, u64 a)
{
	return x86_long_mode(c) ? a : (u32)a;
}

/* state.c: recomputes what follows from the segments and tells the engine. */
void x86_mode_sync(struct x86_cpu *c);

/* cpuid.c: whether bit @bit of register @reg (0 eax .. 3 edx) is set in the CPU model. */
bool x86_cpuid_bit(const struct x86_cpu *c, u32 leaf, u32 subleaf, unsigned reg, unsigned bit);
const struct x86_cpuid_entry *x86_cpuid_find(const struct x86_cpu *c, u32 leaf, u32 subleaf);

/* walk.c: 0, or #GP(0) if a PAE page-directory-pointer entry under @cr3 has reserved bits set. */
int x86_check_pdptes(struct x86_cpu *c, u64 cr3);

/*
 * seg.c: reads the descriptor of @sel, which is not null. X86_FAULT: beyond the table's limit,
 * as exception @vec with the selector as error code, or a page fault.
 */
int x86_desc_read(struct x86_cpu *c, u16 sel, u8 vec, struct x86_desc *ret);
/* As x86_desc_read, for a 16-byte system descriptor in long mode, else an 8-byte one. */
int x86_desc_read_sys(struct x86_cpu *c, u16 sel, u8 vec, struct x86_desc *ret);
void x86_desc_seg(const struct x86_desc *d, u16 sel, struct x86_seg *ret);
/* Sets the accessed bit in memory if it is clear. */
int x86_desc_touch(struct x86_cpu *c, const struct x86_desc *d);
/*
 * Checks @sel as stack segment of privilege @cpl: all failures but "not present" (#SS) are
 * exception @vec. A null selector is legal with @null_ok.
 */
int x86_check_ss(struct x86_cpu *c, u16 sel, unsigned cpl, u8 vec, bool null_ok,
		 struct x86_seg *ret);
/* Leaving to privilege @cpl: data segments that it may not use become null (SDM vol. 2, RET). */
void x86_drop_segs(struct x86_cpu *c, unsigned cpl);
/* The state of a segment register after a load of @sel in real or virtual-8086 mode. */
void x86_seg_real(struct x86_cpu *c, enum x86_segreg s, u16 sel);

/*
 * A stack that is read or written before the registers that name it are committed.
 * @sp moves with each push and pop; the memory below it may have been written when a later push
 * faults, as on hardware.
 */
struct x86_stack {
	struct x86_seg ss;
	u64 sp;
	bool is64;
	bool user;  /* accesses have user privilege */
	u32 ss_err; /* error code of stack faults */
};

/* The current stack of the current mode. */
void x86_stack_cur(const struct x86_cpu *c, struct x86_stack *st);
int x86_push(struct x86_cpu *c, struct x86_stack *st, unsigned size, u64 v);
int x86_pop(struct x86_cpu *c, struct x86_stack *st, unsigned size, u64 *ret);
/* RSP after @sp on a stack of that width: a 16-bit stack keeps the upper bits of ESP. */
u64 x86_stack_rsp(const struct x86_cpu *c, const struct x86_stack *st);
/*
 * Stack of privilege @cpl from the TSS (SDM vol. 3, 7.2.1 and 8.7). In long mode @ist (1-7) selects
 * an interrupt stack, 0 RSPn, and SS becomes null.
 */
int x86_stack_tss(struct x86_cpu *c, unsigned cpl, unsigned ist, struct x86_stack *ret);

#endif
