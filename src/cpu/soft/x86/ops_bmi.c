/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_bmi.c - BMI1, BMI2, LZCNT and MOVBE: integer instructions of x86-64-v3
 *
 * As in ops_alu.c, what changes flags is executed by the host, also for those that the manual leaves
 * undefined. Only a CPU model that the host can carry offers these (vec_host_lacks).
 */
#include "cpu/soft/x86/ops.h"

/* The VEX-encoded ones do not exist in real and virtual-8086 mode (SDM vol. 2, 2.7.13). */
static attr_inline void need_vex(struct vcpu *v, const struct op *op)
{
	if (unlikely(!(v->c.cr0 & CR0_PE) || (v->c.rflags & X86_VM)))
		raise_ud(v, op);
}

static attr_inline void set_reg(struct vcpu *v, u8 off, unsigned n, u64 x)
{
	if (n == 8)
		set_u64(v, off, x);
	else if (n == 4)
		set_u32(v, off, (u32)x);
	else
		set_u16(v, off, (u16)x);
}

/* The old flags first, for the sake of those that an instruction leaves alone. */
#define OLD "movzwl %[f], %%eax\n\taddb $0x7f, %%al\n\tsahf\n\t"
#define SAVE "\n\tlahf\n\tseto %%al"
#define FLAGS [f] "m"(*(const u16 *)(const void *)&v->c.of)

/* --- two sources or one, flags: aux bytes ------------------------------------------------------ */

/* d = insn(m, y), as "insn y, m, d" of the assembler. */
#define BMI3(insn, d, m, y)                                                                        \
	__asm__(OLD insn " %[b], %[a], %[x]" SAVE                                                  \
		: [x] "=&r"(d), "=&a"(ax)                                                          \
		: [a] "r"(m), [b] "r"(y), FLAGS                                                    \
		: "cc")
#define BMI2(insn, d, m)                                                                           \
	__asm__(OLD insn " %[a], %[x]" SAVE : [x] "=&r"(d), "=&a"(ax) : [a] "r"(m), FLAGS : "cc")

#define DEF_BMI3(name, insn)                                                                       \
	const struct op *op_##name(struct vcpu *v, const struct op *op)                            \
	{                                                                                          \
		unsigned n = op->aux;                                                              \
		u64 m, y, d;                                                                       \
		u32 ax;                                                                            \
		need_vex(v, op);                                                                   \
		m = rm_read(v, op, n);                                                             \
		y = v->c.r[op->imm];                                                               \
		if (n == 8) {                                                                      \
			BMI3(insn "q", d, m, y);                                                   \
		} else {                                                                           \
			u32 d4;                                                                    \
			BMI3(insn "l", d4, (u32)m, (u32)y);                                        \
			d = d4;                                                                    \
		}                                                                                  \
		put_flags(v, ax);                                                                  \
		v->c.r[op->src / 8] = d;                                                           \
		NEXT;                                                                              \
	}
DEF_BMI3(bextr, "bextr")
DEF_BMI3(bzhi, "bzhi")

/* The destination is VEX.vvvv. */
#define DEF_BLS(name, insn)                                                                        \
	const struct op *op_##name(struct vcpu *v, const struct op *op)                            \
	{                                                                                          \
		u64 m, d;                                                                          \
		u32 ax;                                                                            \
		need_vex(v, op);                                                                   \
		m = rm_read(v, op, op->aux);                                                       \
		if (op->aux == 8) {                                                                \
			BMI2(insn "q", d, m);                                                      \
		} else {                                                                           \
			u32 d4;                                                                    \
			BMI2(insn "l", d4, (u32)m);                                                \
			d = d4;                                                                    \
		}                                                                                  \
		put_flags(v, ax);                                                                  \
		v->c.r[op->src / 8] = d;                                                           \
		NEXT;                                                                              \
	}
DEF_BLS(blsi, "blsi")
DEF_BLS(blsmsk, "blsmsk")
DEF_BLS(blsr, "blsr")

const struct op *op_andn(struct vcpu *v, const struct op *op)
{
	u64 m, y, d;
	u32 ax;

	need_vex(v, op);
	m = rm_read(v, op, op->aux);
	y = v->c.r[op->imm];
	if (op->aux == 8) {
		BMI3("andnq", d, y, m);
	} else {
		u32 d4;

		BMI3("andnl", d4, (u32)y, (u32)m);
		d = d4;
	}
	put_flags(v, ax);
	v->c.r[op->src / 8] = d;
	NEXT;
}

/* --- no flags --------------------------------------------------------------------------------- */

#define DEF_DEPOSIT(name, insn)                                                                    \
	const struct op *op_##name(struct vcpu *v, const struct op *op)                            \
	{                                                                                          \
		u64 m, y, d;                                                                       \
		need_vex(v, op);                                                                   \
		m = rm_read(v, op, op->aux);                                                       \
		y = v->c.r[op->imm];                                                               \
		if (op->aux != 8) { /* the upper half takes no part */                             \
			m = (u32)m;                                                                \
			y = (u32)y;                                                                \
		}                                                                                  \
		__asm__(insn " %[m], %[y], %[d]" : [d] "=r"(d) : [y] "r"(y), [m] "r"(m));          \
		v->c.r[op->src / 8] = d;                                                           \
		NEXT;                                                                              \
	}
DEF_DEPOSIT(pdep, "pdepq")
DEF_DEPOSIT(pext, "pextq")

/* Both halves; where they go to one register the upper wins (SDM vol. 2, MULX). */
const struct op *op_mulx(struct vcpu *v, const struct op *op)
{
	u64 m, lo, hi;

	need_vex(v, op);
	m = rm_read(v, op, op->aux);
	if (op->aux == 8) {
		u128 r = (u128)m * v->c.r[X86_RDX];

		lo = (u64)r;
		hi = (u64)(r >> 64);
	} else {
		u64 r = (u64)(u32)m * (u32)v->c.r[X86_RDX];

		lo = (u32)r;
		hi = r >> 32;
	}
	v->c.r[op->imm] = lo;
	v->c.r[op->src / 8] = hi;
	NEXT;
}

const struct op *op_rorx(struct vcpu *v, const struct op *op)
{
	unsigned bits = op->aux * 8u, k = (unsigned)op->imm & (bits - 1);
	u64 m;

	need_vex(v, op);
	m = rm_read(v, op, op->aux);
	if (k)
		m = m >> k | m << (bits - k);
	v->c.r[op->src / 8] = bits == 64 ? m : (u32)m;
	NEXT;
}

const struct op *op_sarx(struct vcpu *v, const struct op *op)
{
	unsigned k;
	u64 m;

	need_vex(v, op);
	m = rm_read(v, op, op->aux);
	k = (unsigned)v->c.r[op->imm] & (op->aux * 8u - 1);
	v->c.r[op->src / 8] = op->aux == 8 ? (u64)((s64)m >> k) : (u32)((s32)(u32)m >> k);
	NEXT;
}

const struct op *op_shlx(struct vcpu *v, const struct op *op)
{
	unsigned k;
	u64 m;

	need_vex(v, op);
	m = rm_read(v, op, op->aux);
	k = (unsigned)v->c.r[op->imm] & (op->aux * 8u - 1);
	v->c.r[op->src / 8] = op->aux == 8 ? m << k : (u32)(m << k);
	NEXT;
}

const struct op *op_shrx(struct vcpu *v, const struct op *op)
{
	unsigned k;
	u64 m;

	need_vex(v, op);
	m = rm_read(v, op, op->aux);
	k = (unsigned)v->c.r[op->imm] & (op->aux * 8u - 1);
	v->c.r[op->src / 8] = m >> k; /* m has no more bits than the operand */
	NEXT;
}

/* --- not VEX-encoded -------------------------------------------------------------------------- */

#define COUNT_ASM(insn, T, d, m)                                                                   \
	__asm__(OLD insn " %[a], %[x]" SAVE : [x] "=&r"(d), "=&a"(ax) : [a] "r"((T)m), FLAGS : "cc")
#define DEF_COUNT(name)                                                                            \
	const struct op *op_##name(struct vcpu *v, const struct op *op)                            \
	{                                                                                          \
		unsigned n = op->aux;                                                              \
		u64 m = rm_read(v, op, n), d;                                                      \
		u16 d2;                                                                            \
		u32 d4, ax;                                                                        \
		if (n == 8) {                                                                      \
			COUNT_ASM(#name "q", u64, d, m);                                           \
		} else if (n == 4) {                                                               \
			COUNT_ASM(#name "l", u32, d4, m);                                          \
			d = d4;                                                                    \
		} else {                                                                           \
			COUNT_ASM(#name "w", u16, d2, m);                                          \
			d = d2;                                                                    \
		}                                                                                  \
		put_flags(v, ax);                                                                  \
		set_reg(v, op->src, n, d);                                                         \
		NEXT;                                                                              \
	}
DEF_COUNT(lzcnt)
DEF_COUNT(tzcnt)

static u64 swap(u64 x, unsigned n)
{
	return n == 8	? __builtin_bswap64(x)
	       : n == 4 ? __builtin_bswap32((u32)x)
			: __builtin_bswap16((u16)x);
}

const struct op *op_movbe_load(struct vcpu *v, const struct op *op)
{
	set_reg(v, op->src, op->aux, swap(rm_read(v, op, op->aux), op->aux));
	NEXT;
}

const struct op *op_movbe_store(struct vcpu *v, const struct op *op)
{
	rm_write(v, op, op->aux, swap(v->c.r[op->src / 8], op->aux));
	NEXT;
}
