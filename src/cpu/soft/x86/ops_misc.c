/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_misc.c - flags, decimal arithmetic, wide compare-exchange, and other rare user instructions
 */
#include "cpu/soft/x86/ops.h"

static u8 get_al(const struct vcpu *v)
{
	return (u8)v->c.r[X86_RAX];
}

static u8 get_ah(const struct vcpu *v)
{
	return (u8)(v->c.r[X86_RAX] >> 8);
}

/* SF, ZF, PF of an 8-bit result, with the given CF and AF; OF is left clear. */
static void flags_szp(struct vcpu *v, u8 r, bool cf, bool af)
{
	v->c.fl = (u8)((r & 0x80) | (r ? 0 : X86_ZF) | (__builtin_parity(r) ? 0 : X86_PF) |
		       (af ? X86_AF : 0) | (cf ? X86_CF : 0) | 2);
	v->c.of = 0;
}

/* SDM vol. 2: DAA, DAS. */
static void decimal_adjust(struct vcpu *v, bool sub)
{
	u8 old = get_al(v), al = old;
	bool cf = v->c.fl & X86_CF, af = v->c.fl & X86_AF, ncf = false;

	if ((al & 15) > 9 || af) {
		ncf = cf || (sub ? al < 6 : al > 0xf9);
		al = sub ? al - 6 : al + 6;
		af = true;
	}
	if (old > 0x99 || cf) {
		al = sub ? al - 0x60 : al + 0x60;
		ncf = true;
	}
	set_u8(v, 0, al);
	flags_szp(v, al, ncf, af);
}

static void ascii_adjust(struct vcpu *v, bool sub)
{
	u16 ax = (u16)v->c.r[X86_RAX];
	bool adj = (ax & 15) > 9 || (v->c.fl & X86_AF);

	if (adj)
		ax = sub ? ax - 0x106 : ax + 0x106;
	ax &= 0xff0f;
	set_u16(v, 0, ax);
	flags_szp(v, (u8)ax, adj, adj);
}

const struct op *op_misc(struct vcpu *v, const struct op *op)
{
	struct x86_cpu *c = &v->c;

	switch ((enum misc)op->aux) {
	case M_NOP:
	case M_FENCE: /* one thread runs all vCPUs: every order is already strong */
		break;
	case M_LAHF:
		set_u8(v, 1, c->fl);
		break;
	case M_SAHF:
		c->fl = (u8)((get_ah(v) & 0xd5) | 2);
		break;
	case M_CLC:
		c->fl &= (u8)~X86_CF;
		break;
	case M_STC:
		c->fl |= X86_CF;
		break;
	case M_CMC:
		c->fl ^= X86_CF;
		break;
	case M_CLD:
		c->rflags &= ~(u64)X86_DF;
		break;
	case M_STD:
		c->rflags |= X86_DF;
		break;
	case M_XLAT: {
		u64 off = c->r[X86_RBX] + get_al(v);
		if (op->flags & OPF_A16)
			off = (u16)off;
		else if ((op->flags & OPF_A32) || v->code_mode != CODE_64)
			off = (u32)off;
		set_u8(v, 0, ld_u8(v, op, seg_linear(v, op, op->seg, off, 1, false)));
		break;
	}
	case M_AAA:
	case M_AAS:
		ascii_adjust(v, op->aux == M_AAS);
		break;
	case M_AAM: {
		u8 al = get_al(v), d = (u8)op->imm;
		if (!d) {
			x86_fault(c, X86_DE);
			vcpu_raise(v, op);
		}
		set_u16(v, 0, (u16)((al / d) << 8 | al % d));
		flags_szp(v, al % d, false, false);
		break;
	}
	case M_AAD: {
		u8 al = (u8)(get_al(v) + get_ah(v) * (u8)op->imm);
		set_u16(v, 0, al);
		flags_szp(v, al, false, false);
		break;
	}
	case M_DAA:
	case M_DAS:
		decimal_adjust(v, op->aux == M_DAS);
		break;
	case M_SALC:
		set_u8(v, 0, c->fl & X86_CF ? 0xff : 0);
		break;
	}
	NEXT;
}

const struct op *op_cmpxchg8b(struct vcpu *v, const struct op *op)
{
	u64 a = ea(v, op, 8, true), *p = rmw(v, op, a, 8), old = *p;
	u64 want = (u64)(u32)v->c.r[X86_RDX] << 32 | (u32)v->c.r[X86_RAX];

	if (old == want) {
		*p = (u64)(u32)v->c.r[X86_RCX] << 32 | (u32)v->c.r[X86_RBX];
		mem_commit(v, op, p);
		v->c.fl |= X86_ZF;
	} else {
		mem_commit(v, op, p);
		v->c.fl &= (u8)~X86_ZF;
		v->c.r[X86_RAX] = (u32)old;
		v->c.r[X86_RDX] = old >> 32;
	}
	NEXT;
}

const struct op *op_cmpxchg16b(struct vcpu *v, const struct op *op)
{
	u64 a = ea(v, op, 16, true), *p;

	if (a & 15)
		raise_gp0(v, op);
	p = rmw(v, op, a, 16);
	if (p[0] == v->c.r[X86_RAX] && p[1] == v->c.r[X86_RDX]) {
		p[0] = v->c.r[X86_RBX];
		p[1] = v->c.r[X86_RCX];
		mem_commit(v, op, p);
		v->c.fl |= X86_ZF;
	} else {
		u64 lo = p[0], hi = p[1];
		mem_commit(v, op, p);
		v->c.fl &= (u8)~X86_ZF;
		v->c.r[X86_RAX] = lo;
		v->c.r[X86_RDX] = hi;
	}
	NEXT;
}

/* BOUND (not in 64-bit mode): index in src, bounds at memory. */
const struct op *op_bound(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux;
	u64 a = ea(v, op, 2 * n, false);
	s64 lo, hi, i;

	if (n == 2) {
		i = (s16)REG(u16, op->src);
		lo = (s16)ld_u16(v, op, a);
		hi = (s16)ld_u16(v, op, (u32)(a + 2));
	} else {
		i = (s32)REG(u32, op->src);
		lo = (s32)ld_u32(v, op, a);
		hi = (s32)ld_u32(v, op, (u32)(a + 4));
	}
	if (i < lo || i > hi) {
		x86_fault(&v->c, X86_BR);
		vcpu_raise(v, op);
	}
	NEXT;
}

/* LDS, LES, LFS, LGS, LSS: offset of aux bytes to src, selector to segment imm. */
const struct op *op_lxs(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux;
	u64 a = ea(v, op, n + 2, false), next = next_rip(v, op);
	u64 off = n == 2 ? ld_u16(v, op, a) : n == 4 ? ld_u32(v, op, a) : ld_u64(v, op, a);
	u16 sel = ld_u16(v, op, lin_add(v, a, n));

	if (x86_load_seg(&v->c, (enum x86_segreg)op->imm, sel))
		vcpu_raise(v, op);
	if (n == 2)
		set_u16(v, op->src, (u16)off);
	else
		v->c.r[op->src / 8] = off;
	vcpu_mode_changed(v);
	if (v->code_mode != CODE_64)
		next = (u32)next;
	return jump_checked(v, next);
}

/* MOV between rAX and a 64-bit offset, where it does not fit a displacement. */
const struct op *op_movabs(struct vcpu *v, const struct op *op)
{
	u64 a = (u64)op->imm + v->c.segbase[op->seg];
	unsigned n = op->aux & 15;

	if (op->aux & 16) {
		u64 x = v->c.r[X86_RAX];
		if (n == 1)
			st_u8(v, op, a, (u8)x);
		else if (n == 2)
			st_u16(v, op, a, (u16)x);
		else if (n == 4)
			st_u32(v, op, a, (u32)x);
		else
			st_u64(v, op, a, x);
	} else {
		if (n == 1)
			set_u8(v, 0, ld_u8(v, op, a));
		else if (n == 2)
			set_u16(v, 0, ld_u16(v, op, a));
		else if (n == 4)
			set_u32(v, 0, ld_u32(v, op, a));
		else
			set_u64(v, 0, ld_u64(v, op, a));
	}
	NEXT;
}
