/* SPDX-License-Identifier: Apache-2.0 */
/*
 * emit.h - x86-64 host instructions into a buffer
 *
 * Only what the translator needs. Overrunning the buffer sets `full`; the caller checks once at
 * the end. Registers are hardware numbers 0-15.
 */
#ifndef ORR_CPU_SOFT_X86_EMIT_H
#define ORR_CPU_SOFT_X86_EMIT_H

#include "base/compiler.h"

#include <string.h>

struct emit {
	u8 *buf;
	u32 n, cap;
	bool full;
};

/* An r/m operand: a register, or [reg + disp], or [reg + index + disp]. */
struct erm {
	bool mem, indexed;
	u8 reg, index;
	s32 disp;
};

enum emit_flags {
	EM_W = 1,     /* REX.W */
	EM_REX = 2,   /* some REX, for SPL..DIL */
	EM_NOREX = 4, /* AH..BH: none allowed */
	EM_66 = 8,
	EM_F2 = 16,
	EM_F3 = 32,
	EM_0F = 64,
	EM_0F38 = 128,
	EM_0F3A = 256,
};

static inline void e8(struct emit *e, u8 x)
{
	if (e->n < e->cap)
		e->buf[e->n] = x;
	else
		e->full = true;
	e->n++;
}

static inline void e32(struct emit *e, u32 x)
{
	for (int i = 0; i < 4; i++, x >>= 8)
		e8(e, (u8)x);
}

static inline void e64(struct emit *e, u64 x)
{
	e32(e, (u32)x);
	e32(e, (u32)(x >> 32));
}

static inline void ebytes(struct emit *e, const void *p, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		e8(e, ((const u8 *)p)[i]);
}

static inline struct erm er(u8 reg)
{
	return (struct erm){ .reg = reg };
}

static inline struct erm em(u8 base, s32 disp)
{
	return (struct erm){ .mem = true, .reg = base, .disp = disp };
}

static inline struct erm emx(u8 base, u8 index, s32 disp)
{
	return (struct erm){
		.mem = true, .indexed = true, .reg = base, .index = index, .disp = disp
	};
}

/* Prefixes, REX and opcode for @reg and the extension bits of @x (index) and @b (base or rm). */
static inline void eopc(struct emit *e, unsigned f, u8 opc, u8 reg, u8 x, u8 b)
{
	u8 rex = (u8)((f & EM_W ? 8 : 0) | (reg & 8 ? 4 : 0) | (x & 8 ? 2 : 0) | (b & 8 ? 1 : 0));

	if (f & EM_66)
		e8(e, 0x66);
	if (f & EM_F2)
		e8(e, 0xf2);
	if (f & EM_F3)
		e8(e, 0xf3);
	if (rex || (f & EM_REX)) {
		if (f & EM_NOREX)
			e->full = true; /* cannot be encoded: the block is refused */
		e8(e, 0x40 | rex);
	}
	if (f & (EM_0F | EM_0F38 | EM_0F3A))
		e8(e, 0x0f);
	if (f & EM_0F38)
		e8(e, 0x38);
	if (f & EM_0F3A)
		e8(e, 0x3a);
	e8(e, opc);
}

static inline void edisp(struct emit *e, u8 reg, u8 base, s32 disp)
{
	u8 r = (u8)((reg & 7) << 3), b = base & 7;
	u8 mod = disp == 0 && b != 5 ? 0 : disp == (s8)disp ? 1 : 2;

	e8(e, (u8)(mod << 6 | r | b));
	if (b == 4)
		e8(e, 0x24);
	if (mod == 1)
		e8(e, (u8)disp);
	else if (mod == 2)
		e32(e, (u32)disp);
}

/* opcode /r */
static inline void einsn(struct emit *e, unsigned f, u8 opc, u8 reg, struct erm m)
{
	eopc(e, f, opc, reg, m.index, m.reg);
	if (m.indexed) {
		e8(e, (u8)(0x80 | (reg & 7) << 3 | 4));
		e8(e, (u8)((m.index & 7) << 3 | (m.reg & 7)));
		e32(e, (u32)m.disp);
	} else if (m.mem) {
		edisp(e, reg, m.reg, m.disp);
	} else {
		e8(e, (u8)(0xc0 | (reg & 7) << 3 | (m.reg & 7)));
	}
}

/* RORX dst, src, n (64 bits): changes no flags. */
static inline void erorx(struct emit *e, u8 dst, u8 src, u8 n)
{
	e8(e, 0xc4); /* VEX.LZ.F2.0F3A.W1 F0 /r ib */
	e8(e, (u8)((dst & 8 ? 0 : 0x80) | 0x40 | (src & 8 ? 0 : 0x20) | 3));
	e8(e, 0xfb);
	e8(e, 0xf0);
	e8(e, (u8)(0xc0 | (dst & 7) << 3 | (src & 7)));
	e8(e, n);
}

/* LEA dst, [base + index << scale + disp]; base or index may be -1. */
static inline void elea(struct emit *e, unsigned f, u8 dst, int base, int index, u8 scale, s32 disp)
{
	if (index < 0 && base >= 0) {
		einsn(e, f, 0x8d, dst, em((u8)base, disp));
		return;
	}
	eopc(e, f, 0x8d, dst, index < 0 ? 0 : (u8)index, base < 0 ? 0 : (u8)base);
	u8 r = (u8)((dst & 7) << 3), ix = index < 0 ? 4 : (u8)(index & 7);
	if (base < 0) {
		e8(e, r | 4);
		e8(e, (u8)(scale << 6 | ix << 3 | 5));
		e32(e, (u32)disp);
		return;
	}
	u8 mod = disp == 0 && (base & 7) != 5 ? 0 : disp == (s8)disp ? 1 : 2;
	e8(e, (u8)(mod << 6 | r | 4));
	e8(e, (u8)(scale << 6 | ix << 3 | (base & 7)));
	if (mod == 1)
		e8(e, (u8)disp);
	else if (mod == 2)
		e32(e, (u32)disp);
}

static inline void emov(struct emit *e, u8 dst, u8 src)
{
	if (dst != src)
		einsn(e, EM_W, 0x8b, dst, er(src));
}

static inline void eload(struct emit *e, u8 dst, struct erm m)
{
	einsn(e, EM_W, 0x8b, dst, m);
}

static inline void estore(struct emit *e, struct erm m, u8 src)
{
	einsn(e, EM_W, 0x89, src, m);
}

static inline void eimm64(struct emit *e, u8 dst, u64 x)
{
	e8(e, (u8)(0x48 | (dst & 8 ? 1 : 0)));
	e8(e, (u8)(0xb8 | (dst & 7)));
	e64(e, x);
}

/* Jcc rel32 to be filled in: returns the place of the displacement. */
static inline u32 ejcc(struct emit *e, u8 cc)
{
	e8(e, 0x0f);
	e8(e, 0x80 | cc);
	e32(e, 0);
	return e->n - 4;
}

static inline u32 ejmp(struct emit *e)
{
	e8(e, 0xe9);
	e32(e, 0);
	return e->n - 4;
}

/* Calls what [RSP + off] points at, with the 8 bytes below RSP left alone. */
static inline void ecall_glue(struct emit *e, s32 off)
{
	elea(e, EM_W, 4, 4, -1, 0, -8);
	einsn(e, 0, 0xff, 2, em(4, off + 8));
	elea(e, EM_W, 4, 4, -1, 0, 8);
}

/* Lets the jump at @at lead to @to. */
static inline void eto(struct emit *e, u32 at, u32 to)
{
	u32 d = to - (at + 4);

	if (at + 4 <= e->cap)
		memcpy(e->buf + at, &d, 4);
}

/* Lets the jump at @at lead here. */
static inline void ehere(struct emit *e, u32 at)
{
	eto(e, at, e->n);
}

#endif
