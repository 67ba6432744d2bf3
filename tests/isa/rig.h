/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rig.h - one CPU on a flat megabyte, for tests of the system semantics
 *
 * Linear address A is byte A modulo 1 MiB; pages listed in @absent fault, as do non-canonical
 * addresses in long mode. Page-table memory is the same array. Every callback is counted.
 */
#ifndef ORR_TESTS_ISA_RIG_H
#define ORR_TESTS_ISA_RIG_H

#include "isa/x86/sys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define RIG_MEM 0x100000u
#define RIG_GDT 0x1000u
#define RIG_LDT 0x1800u
#define RIG_IDT 0x2000u
#define RIG_TSS 0x3000u
#define RIG_STACK0 0x8000u /* top of the privilege 0 stack, from the TSS */
#define RIG_IST1 0xa000u
#define RIG_STACK 0xc000u /* top of the current stack */

/* GDT of the rig. Selector = index * 8. */
enum rig_sel {
	SEL_CODE0 = 0x08, /* 32-bit code, DPL 0 */
	SEL_DATA0 = 0x10,
	SEL_CODE3 = 0x18, /* 32-bit code, DPL 3 */
	SEL_DATA3 = 0x20,
	SEL_CODE0_64 = 0x28,
	SEL_CODE3_64 = 0x30,
	SEL_CONF0 = 0x38,   /* conforming 32-bit code, DPL 0 */
	SEL_ABSENT = 0x40,  /* data, DPL 0, P = 0 */
	SEL_RO0 = 0x48,	    /* read-only data */
	SEL_XO0 = 0x50,	    /* execute-only code */
	SEL_LD_CODE = 0x58, /* code with L and D */
	SEL_ABS_CODE = 0x60,
	SEL_DATA16 = 0x68, /* 16-bit data, DPL 0 */
	SEL_CONF3 = 0x70,
	SEL_TSS = 0x80,	 /* two slots */
	SEL_LDT = 0x90,	 /* two slots */
	SEL_GATE = 0xa0, /* two slots */
	SEL_FREE = 0xb0, /* two slots, for tests */
	SEL_END = 0xc0,
};

struct rig {
	struct x86_cpu c;
	u8 mem[RIG_MEM];
	gva_t absent[4]; /* page addresses that fault; 0: none */
	u64 tsc, cr8, apic_base, deadline;
	unsigned flush_all, flush_nonglobal, flush_page, mode_changed;
	gva_t flushed;
	unsigned reads, writes, user_accesses, explicit_accesses;
};

/* A CPU in long mode, CPL 0, with GDT, IDT, TSS and stacks; a fresh rig each call. Free with
 * free(). */
struct rig *rig_new(void);
/* Mode switches by hand: CS, SS and the control registers. */
void rig_real(struct rig *r);
void rig_prot32(struct rig *r, unsigned cpl);
void rig_long(struct rig *r, unsigned cpl);
void rig_compat(struct rig *r, unsigned cpl);
void rig_v86(struct rig *r, unsigned iopl);

void rig_put(struct rig *r, u32 a, unsigned size, u64 v);
u64 rig_get(const struct rig *r, u32 a, unsigned size);
/* A code or data descriptor: @access is byte 5, @flags G:D:L:AVL. */
void rig_desc(struct rig *r, u16 sel, u32 base, u32 limit20, u8 access, u8 flags);
/* IDT gates: 8 bytes, or 16 in long mode. @attr: P, DPL and type; @ist for long mode. */
void rig_gate(struct rig *r, u8 vector, u16 sel, u64 off, u8 attr, u8 ist);

/* The last X86_FAULT was @vector, with error code @err (-1: none). */
#define assert_exc(r, vec, e)                                                                      \
	do {                                                                                       \
		assert_int_equal((r)->c.exc.vector, vec);                                          \
		assert_int_equal((r)->c.exc.has_err ? (s64)(r)->c.exc.err : -1, (s64)(e));         \
	} while (0)
#define assert_fault(r, call, vec, e)                                                              \
	do {                                                                                       \
		assert_int_equal(call, X86_FAULT);                                                 \
		assert_exc(r, vec, e);                                                             \
	} while (0)

#endif
