/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_str.c - string instructions
 *
 * How it works
 * A repeated instruction does one *chunk* a visit: elements up to the end of the page on either
 * side, and at most CHUNK bytes. If elements are left, RIP stays, so that interrupts, timers and
 * faults come between chunks with precise registers. A chunk costs one instruction of guest time,
 * plus one for every COST bytes, in every tier; a string instruction ends its block so that the
 * extra cost is seen at once.
 *
 * Flags of CMPS and SCAS are set when the instruction ends, not between chunks: a fault in a later
 * element leaves those from before the instruction (SDM vol. 2, REP), and as no string instruction
 * reads them, what an interrupt between chunks sees of them does not matter.
 *
 * Copies and fills go through host memory functions where the result is the same: forward, both
 * sides in RAM, and the destination not just behind the source (there the copy repeats a pattern).
 */
#include "cpu/soft/x86/ops.h"

#include "bus/bus.h"
#include "cpu/soft/soft_priv.h"

#include <string.h>

#define CHUNK 4096u
#define COST 64u

static u64 addr_mask(const struct vcpu *v, const struct op *op)
{
	if (op->flags & OPF_A16)
		return 0xffff;
	if ((op->flags & OPF_A32) || v->code_mode != CODE_64)
		return 0xffffffff;
	return ~0ull;
}

static void reg_add(struct vcpu *v, unsigned r, u64 mask, s64 d)
{
	u64 x = v->c.r[r] + (u64)d;

	v->c.r[r] = mask == 0xffff ? (v->c.r[r] & ~mask) | (x & mask) : x & mask;
}

static s64 step_of(const struct vcpu *v, unsigned n)
{
	return v->c.rflags & X86_DF ? -(s64)n : (s64)n;
}

static u64 src_addr(struct vcpu *v, const struct op *op, u64 mask, unsigned n)
{
	return seg_linear(v, op, op->seg, v->c.r[X86_RSI] & mask, n, false);
}

static u64 dst_addr(struct vcpu *v, const struct op *op, u64 mask, unsigned n, bool write)
{
	return seg_linear(v, op, v->code_mode == CODE_64 ? X86_SEGS : X86_ES,
			  v->c.r[X86_RDI] & mask, n, write);
}

/*
 * A repeated instruction with 32-bit addresses cuts RCX even if it does nothing or faults in its
 * first element; MOVS and STOS cut their pointers (@si, @di) then as well, the others do not. The
 * manual is silent, and Intel's processors do this.
 */
static attr_inline void rep_cut(struct vcpu *v, const struct op *op, bool si, bool di)
{
	if (likely(!(op->flags & OPF_A32)) || v->code_mode != CODE_64 || !(op->aux & STR_REP))
		return;
	v->c.r[X86_RCX] = (u32)v->c.r[X86_RCX];
	if (si)
		v->c.r[X86_RSI] = (u32)v->c.r[X86_RSI];
	if (di)
		v->c.r[X86_RDI] = (u32)v->c.r[X86_RDI];
}

/* Whole elements from @a to the end of its page (forward), or 1 if it straddles or goes down. */
static u64 fit(const struct vcpu *v, u64 a, unsigned n)
{
	if (v->c.rflags & X86_DF)
		return 1;
	return MAX((0x1000 - (a & 0xfff)) / n, 1ull);
}

/* Cuts @k elements so that neither side wraps or passes its segment's limit unchecked. */
static u64 seg_fit(struct vcpu *v, const struct op *op, u64 mask, u64 k, unsigned n)
{
	u64 room = mask - MAX(v->c.r[X86_RSI] & mask, v->c.r[X86_RDI] & mask);
	bool flat = v->c.seg[X86_ES].limit == 0xffffffff && v->c.seg[op->seg].limit == 0xffffffff;

	/* A limit in the way is rare: an element at a time finds it exactly. */
	return flat ? MAX(MIN(k, room / n), 1ull) : 1;
}

/*
 * A visit to a repeated instruction is over: @done elements of @n bytes.
 *
 * Inlined, not for speed: the jump to the next block must be a jump. Left to itself the compiler
 * may give a copy of this function a seventh argument, on the stack; then it is called, each visit
 * leaves a frame behind until the turn ends, and a long turn of string instructions overflows the
 * host's stack.
 */
static attr_inline const struct op *rep_end(struct vcpu *v, const struct op *op, u64 mask, u64 done,
					    unsigned n, bool stop)
{
	u64 next = next_rip(v, op), self = op_rip(v, op);

	if (v->code_mode != CODE_64) {
		next = (u32)next;
		self = (u32)self;
	}
	reg_add(v, X86_RCX, mask, -(s64)done);
	v->budget -= (s64)(done * n / COST);
	bool more = !stop && (v->c.r[X86_RCX] & mask);
	return jump_checked(v, more ? self : next);
}

static u64 ld_elem(struct vcpu *v, const struct op *op, u64 a, unsigned n)
{
	return n == 1	? ld_u8(v, op, a)
	       : n == 2 ? ld_u16(v, op, a)
	       : n == 4 ? ld_u32(v, op, a)
			: ld_u64(v, op, a);
}

static void st_elem(struct vcpu *v, const struct op *op, u64 a, unsigned n, u64 x)
{
	if (n == 1)
		st_u8(v, op, a, (u8)x);
	else if (n == 2)
		st_u16(v, op, a, (u16)x);
	else if (n == 4)
		st_u32(v, op, a, (u32)x);
	else
		st_u64(v, op, a, x);
}

static const struct op *done_once(struct vcpu *v, const struct op *op)
{
	u64 next = next_rip(v, op);

	return jump_checked(v, v->code_mode == CODE_64 ? next : (u32)next);
}

const struct op *op_movs(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux & ~STR_REP;
	u64 m = addr_mask(v, op), k = 1;
	s64 d = step_of(v, n);

	rep_cut(v, op, true, true);
	if ((op->aux & STR_REP) && !(v->c.r[X86_RCX] & m))
		return done_once(v, op);
	u64 s = src_addr(v, op, m, n), t = dst_addr(v, op, m, n, true);
	if ((op->aux & STR_REP) && !v->stepping) {
		k = MIN(v->c.r[X86_RCX] & m, MIN(fit(v, s, n), fit(v, t, n)));
		if (v->code_mode != CODE_64)
			k = seg_fit(v, op, m, k, n);
	}
	void *ps = k > 1 ? tlb_rd(v, s, (unsigned)(k * n)) : NULL;
	void *pt = k > 1 ? tlb_wr(v, t, (unsigned)(k * n)) : NULL;
	if (ps && pt && ((u8 *)pt <= (u8 *)ps || (u8 *)pt >= (u8 *)ps + k * n)) {
		memmove(pt, ps, k * n);
	} else {
		/* One element: it may fault, straddle, touch a device, or fill the TLB. */
		k = 1;
		st_elem(v, op, t, n, ld_elem(v, op, s, n));
	}
	reg_add(v, X86_RSI, m, d * (s64)k);
	reg_add(v, X86_RDI, m, d * (s64)k);
	return op->aux & STR_REP ? rep_end(v, op, m, k, n, false) : done_once(v, op);
}

/*
 * Not inlined: a handler that had the address of a local variable taken would call the next one
 * instead of jumping to it (see rep_end).
 */
static attr_noinline void fill(u8 *p, u64 x, unsigned n, u64 k)
{
	switch (n) {
	case 2:
		for (u64 i = 0; i < k; i++)
			memcpy(p + i * 2, &x, 2);
		break;
	case 4:
		for (u64 i = 0; i < k; i++)
			memcpy(p + i * 4, &x, 4);
		break;
	default:
		for (u64 i = 0; i < k; i++)
			memcpy(p + i * 8, &x, 8);
		break;
	}
}

const struct op *op_stos(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux & ~STR_REP;
	u64 m = addr_mask(v, op), k = 1, x = v->c.r[X86_RAX];
	s64 d = step_of(v, n);

	rep_cut(v, op, false, true);
	if ((op->aux & STR_REP) && !(v->c.r[X86_RCX] & m))
		return done_once(v, op);
	u64 t = dst_addr(v, op, m, n, true);
	if ((op->aux & STR_REP) && !v->stepping) {
		k = MIN(v->c.r[X86_RCX] & m, fit(v, t, n));
		if (v->code_mode != CODE_64)
			k = seg_fit(v, op, m, k, n);
	}
	u8 *p = k > 1 ? tlb_wr(v, t, (unsigned)(k * n)) : NULL;
	if (p && (n == 1 || x == 0)) {
		memset(p, (u8)x, k * n);
	} else if (p) {
		fill(p, x, n, k);
	} else {
		k = 1;
		st_elem(v, op, t, n, x);
	}
	reg_add(v, X86_RDI, m, d * (s64)k);
	return op->aux & STR_REP ? rep_end(v, op, m, k, n, false) : done_once(v, op);
}

const struct op *op_lods(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux & ~STR_REP;
	u64 m = addr_mask(v, op);

	rep_cut(v, op, false, false);
	if ((op->aux & STR_REP) && !(v->c.r[X86_RCX] & m))
		return done_once(v, op);
	u64 x = ld_elem(v, op, src_addr(v, op, m, n), n);
	if (n == 1)
		set_u8(v, 0, (u8)x);
	else if (n == 2)
		set_u16(v, 0, (u16)x);
	else
		v->c.r[X86_RAX] = x;
	reg_add(v, X86_RSI, m, step_of(v, n));
	return op->aux & STR_REP ? rep_end(v, op, m, 1, n, false) : done_once(v, op);
}

/* Flags of @a - @b at @n bytes. */
static void set_cmp_flags(struct vcpu *v, u64 a, u64 b, unsigned n)
{
	u32 ax;
	unsigned sh = 64 - 8 * n;

	/* At the top of a 64-bit word ZF, SF, CF and OF come out as at @n bytes. */
	u64 x = a << sh, y = b << sh;
	__asm__("cmpq %[y], %[x]\n\tlahf\n\tseto %%al" : "=&a"(ax) : [x] "r"(x), [y] "r"(y) : "cc");
	/* PF and AF are those of the lowest byte. */
	u32 lo;
	__asm__("cmpb %b[y], %b[x]\n\tlahf\n\tseto %%al"
		: "=&a"(lo)
		: [x] "q"(a), [y] "q"(b)
		: "cc");
	u32 pa = (X86_PF | X86_AF) << 8;
	put_flags(v, (ax & ~pa) | (lo & pa));
}

#define SCAN_MAX 64u /* elements a visit */

static attr_inline u64 cut(u64 x, unsigned n)
{
	return n == 8 ? x : x & ((1ull << (8 * n)) - 1);
}

/*
 * How many elements a visit may look at, of @left. Outside 64-bit mode a segment's limit may lie in
 * between, and what raises must be the first element of its visit.
 */
static u64 scan_fit(const struct vcpu *v, u64 left, u64 off, u64 mask, unsigned sg, unsigned n)
{
	u64 top = MIN((u64)v->c.seg[sg].limit, mask);

	if (v->code_mode == CODE_64)
		return left;
	if ((v->c.rflags & X86_DF) || (off & mask) > top)
		return 1;
	return MAX(MIN(left, (top - (off & mask) + 1) / n), 1ull);
}

const struct op *op_scas(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux & ~STR_REP;
	u64 m = addr_mask(v, op), k = 0, left = v->c.r[X86_RCX] & m;
	u64 x, acc = cut(v->c.r[X86_RAX], n);
	bool rep = op->aux & STR_REP, until = op->flags & OPF_REPNE, stop;

	rep_cut(v, op, false, false);
	if (rep && !left)
		return done_once(v, op);
	if (!rep || v->stepping)
		left = 1;
	left = scan_fit(v, left, v->c.r[X86_RDI], m, X86_ES, n);
	do {
		u64 t = dst_addr(v, op, m, n, false);
		if (k && !tlb_rd(v, t, n))
			break; /* what may fault comes first in the next visit */
		x = ld_elem(v, op, t, n);
		reg_add(v, X86_RDI, m, step_of(v, n));
		k++;
		stop = (acc == x) == until;
	} while (!stop && k < SCAN_MAX && k < left);
	if (!rep || stop || k == (v->c.r[X86_RCX] & m))
		set_cmp_flags(v, acc, x, n);
	return rep ? rep_end(v, op, m, k, n, stop) : done_once(v, op);
}

/* The second operand, ES:[rDI], is read first: seen when both would fault. */
const struct op *op_cmps(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux & ~STR_REP;
	u64 m = addr_mask(v, op), k = 0, left = v->c.r[X86_RCX] & m;
	u64 a, b;
	bool rep = op->aux & STR_REP, until = op->flags & OPF_REPNE, stop;

	rep_cut(v, op, false, false);
	if (rep && !left)
		return done_once(v, op);
	if (!rep || v->stepping)
		left = 1;
	left = scan_fit(v, left, v->c.r[X86_RDI], m, X86_ES, n);
	if (v->code_mode != CODE_64)
		left = scan_fit(v, left, v->c.r[X86_RSI], m, op->seg, n);
	do {
		u64 t = dst_addr(v, op, m, n, false);
		if (k && !tlb_rd(v, t, n))
			break;
		b = ld_elem(v, op, t, n);
		u64 s = src_addr(v, op, m, n);
		if (k && !tlb_rd(v, s, n))
			break;
		a = ld_elem(v, op, s, n);
		reg_add(v, X86_RSI, m, step_of(v, n));
		reg_add(v, X86_RDI, m, step_of(v, n));
		k++;
		stop = (a == b) == until;
	} while (!stop && k < SCAN_MAX && k < left);
	if (!rep || stop || k == (v->c.r[X86_RCX] & m))
		set_cmp_flags(v, a, b, n);
	return rep ? rep_end(v, op, m, k, n, stop) : done_once(v, op);
}

/* Not inlined, as fill. */
static attr_noinline u64 port_read(struct vcpu *v, unsigned n)
{
	u64 x;

	bus_read(v->s->cfg.bus, BUS_PIO, (u16)v->c.r[X86_RDX], n, v->c.index, &x);
	return x;
}

const struct op *op_ins(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux & ~STR_REP;
	u64 m = addr_mask(v, op);

	if (x86_io_check(&v->c, (u16)v->c.r[X86_RDX], n))
		vcpu_raise(v, op);
	rep_cut(v, op, false, false);
	if ((op->aux & STR_REP) && !(v->c.r[X86_RCX] & m))
		return done_once(v, op);
	u64 t = dst_addr(v, op, m, n, true);
	mem_ref(v, op, t, n, true); /* a fault comes before the port is read */
	st_elem(v, op, t, n, port_read(v, n));
	reg_add(v, X86_RDI, m, step_of(v, n));
	return op->aux & STR_REP ? rep_end(v, op, m, 1, n, false) : done_once(v, op);
}

const struct op *op_outs(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux & ~STR_REP;
	u64 m = addr_mask(v, op);

	if (x86_io_check(&v->c, (u16)v->c.r[X86_RDX], n))
		vcpu_raise(v, op);
	rep_cut(v, op, false, false);
	if ((op->aux & STR_REP) && !(v->c.r[X86_RCX] & m))
		return done_once(v, op);
	u64 x = ld_elem(v, op, src_addr(v, op, m, n), n);
	bus_write(v->s->cfg.bus, BUS_PIO, (u16)v->c.r[X86_RDX], n, x, v->c.index);
	reg_add(v, X86_RSI, m, step_of(v, n));
	return op->aux & STR_REP ? rep_end(v, op, m, 1, n, false) : done_once(v, op);
}
