/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sys.h - system semantics of x86-64: paging, segments, exceptions, control registers, MSRs
 *
 * Pure: all memory and time come through cpu->ops. Functions return 0, X86_FAULT (cpu->exc is to
 * be delivered, no other state changed unless said), or X86_SHUTDOWN. Unless said otherwise they
 * do not advance RIP; @next is the linear-independent RIP of the following instruction.
 * @opsize is 2, 4 or 8 bytes. Specification: Intel SDM volumes 2 and 3.
 */
#ifndef ORR_ISA_X86_SYS_H
#define ORR_ISA_X86_SYS_H

#include "isa/x86/state.h"

/* --- state ------------------------------------------------------------------------------- */

/* State after power-on (SDM vol. 3, table 9-1): CS:IP f000:fff0. Configuration fields stay. */
void x86_reset(struct x86_cpu *c);
/* State after INIT: as reset, but CR0.CD/NW, MSRs, x87/SSE state and TSC stay. Enters wait-SIPI. */
void x86_init_signal(struct x86_cpu *c);
/* Start-up IPI: real mode at vector << 12. Ignored unless waiting. */
void x86_sipi(struct x86_cpu *c, u8 vector);
/* Recomputes cpl and segbase from the segments. Call after filling state by hand. */
void x86_derive(struct x86_cpu *c);

/* --- paging (SDM vol. 3, chapter 4) --------------------------------------------------------- */

enum x86_access { X86_READ, X86_WRITE, X86_EXEC };

struct x86_walk {
	gpa_t gpa;     /* of the byte asked for */
	u64 page_size; /* 4 KiB, 2 MiB, 4 MiB or 1 GiB; 4 KiB when paging is off */
	bool writable; /* by the access's privilege, WP considered, AND already dirty */
	bool user;     /* U/S set at every level */
	bool exec;     /* NX clear at every level */
	bool global;
	bool dirty;
};

/*
 * Translates @a for @access; sets A (and D on write) in the page tables. @user: the access has
 * user privilege (CPL 3, not implicit supervisor). SMAP: a supervisor data access to a user page
 * faults if CR4.SMAP and not EFLAGS.AC, or always if @implicit. With paging off the identity.
 * 4-level, PAE and 32-bit (PSE) paging. Non-canonical: #GP(0) (the caller turns it into #SS for
 * stack accesses). X86_FAULT: #PF with error code and cr2.
 */
int x86_walk(struct x86_cpu *c, gva_t a, enum x86_access access, bool user, bool implicit,
	     struct x86_walk *ret);

/* --- segments and control transfer ---------------------------------------------------------- */

/* MOV/POP/LxS to ES, SS, DS, FS, GS in the current mode (real, virtual-8086, protected, long). */
int x86_load_seg(struct x86_cpu *c, enum x86_segreg s, u16 sel);
int x86_far_jmp(struct x86_cpu *c, u16 sel, u64 off, unsigned opsize);		  /* sets rip */
int x86_far_call(struct x86_cpu *c, u16 sel, u64 off, unsigned opsize, u64 next); /* sets rip */
int x86_far_ret(struct x86_cpu *c, unsigned opsize, u16 pop);			  /* sets rip */
int x86_iret(struct x86_cpu *c, unsigned opsize);				  /* sets rip */
int x86_syscall(struct x86_cpu *c, u64 next);					  /* sets rip */
int x86_sysret(struct x86_cpu *c, unsigned opsize);				  /* sets rip */
int x86_sysenter(struct x86_cpu *c);						  /* sets rip */
int x86_sysexit(struct x86_cpu *c, unsigned opsize);				  /* sets rip */
int x86_lldt(struct x86_cpu *c, u16 sel);
int x86_ltr(struct x86_cpu *c, u16 sel);
/* LAR, LSL, VERR, VERW: return 1 if the selector is accessible (ZF), 0 if not, -X86_FAULT. */
int x86_lar(struct x86_cpu *c, u16 sel, u32 *ret_attr);
int x86_lsl(struct x86_cpu *c, u16 sel, u32 *ret_limit);
int x86_verr(struct x86_cpu *c, u16 sel, bool write);

/* --- interrupts and exceptions (SDM vol. 3, chapter 6) -------------------------------------- */

enum x86_event {
	X86_EV_EXC,  /* a fault or trap of the processor; pushes c->exc.err if has_err */
	X86_EV_INTR, /* an external interrupt */
	X86_EV_NMI,
	X86_EV_SOFT, /* INT n, INT3, INTO: gate DPL is checked, RIP to push is @next */
	X86_EV_ICEBP,
};

/*
 * Delivers through the IDT/IVT of the current mode. For X86_EV_EXC the event is c->exc (vector in
 * it); else @vector. Pushes RIP (X86_EV_SOFT, ICEBP: @next). Faults during delivery become #DF or
 * shutdown (table 6-5) inside: the result is 0, X86_FAULT only for X86_EV_SOFT privilege checks
 * (the caller delivers that one in turn), or X86_SHUTDOWN. Ends HLT.
 */
int x86_deliver(struct x86_cpu *c, enum x86_event ev, u8 vector, u64 next);

/* --- registers ------------------------------------------------------------------------------- */

int x86_cr_read(struct x86_cpu *c, unsigned n, u64 *ret);
int x86_cr_write(struct x86_cpu *c, unsigned n, u64 v);
int x86_dr_read(struct x86_cpu *c, unsigned n, u64 *ret);
int x86_dr_write(struct x86_cpu *c, unsigned n, u64 v);
/*
 * Breakpoint matching for the engine. x86_dr7_any: a breakpoint is enabled. x86_dr_match: bits
 * 0-3 for DR6 of the enabled breakpoints that an access of @len bytes at @a hits; an instruction
 * breakpoint matches the first byte only (@len is ignored). x86_dr_match_io: the same for I/O.
 */
bool x86_dr7_any(const struct x86_cpu *c);
u64 x86_dr_match(const struct x86_cpu *c, gva_t a, unsigned len, enum x86_access access);
u64 x86_dr_match_io(const struct x86_cpu *c, u16 port, unsigned size);
int x86_rdmsr(struct x86_cpu *c, u32 msr, u64 *ret);
int x86_wrmsr(struct x86_cpu *c, u32 msr, u64 v);
int x86_xsetbv(struct x86_cpu *c, u32 n, u64 v);
/* POPF/IRET at the current CPL and IOPL: merges the bits that may change. opsize 2, 4, 8. */
int x86_popf(struct x86_cpu *c, u64 v, unsigned opsize);
/* 0 if IN/OUT is allowed here (CPL <= IOPL or the TSS bitmap), else X86_FAULT #GP(0). */
int x86_io_check(struct x86_cpu *c, u16 port, unsigned size);
/* CPUID by table, with the bits that mirror state (OSXSAVE, XCR0 sizes, APIC enable) filled in. */
void x86_cpuid(struct x86_cpu *c, u32 leaf, u32 subleaf, u32 out[4]);
/* INVPCID type 0-3 with the descriptor's two words. */
int x86_invpcid(struct x86_cpu *c, u64 type, u64 lo, u64 hi);

/* --- state images in memory ----------------------------------------------------------------- */

enum x86_xsave_kind { X86_XSAVE, X86_XSAVEOPT, X86_XSAVEC };
/*
 * FXSAVE, FXRSTOR, XSAVE (all kinds) and XRSTOR at linear address @a of the current privilege; @rex_w selects the
 * 64-bit form. They check CR0.TS/EM, CR4, alignment, reserved bits.
 */
int x86_fxsave(struct x86_cpu *c, gva_t a, bool rex_w);
int x86_fxrstor(struct x86_cpu *c, gva_t a, bool rex_w);
int x86_xsave(struct x86_cpu *c, gva_t a, u64 rfbm, enum x86_xsave_kind kind, bool rex_w);
int x86_xrstor(struct x86_cpu *c, gva_t a, u64 rfbm, bool rex_w);

#endif
