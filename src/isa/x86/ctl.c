/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl.c - far control transfers: JMP, CALL, RET, IRET, SYSCALL, SYSENTER and their returns
 *
 * How it works
 * Every function reads and checks first, pushes through a struct x86_stack that is not the CPU's
 * yet, and commits registers last, so that a fault leaves the instruction restartable. CPL is the
 * DPL of SS throughout; a transfer that changes CPL always loads SS.
 *
 * Not done (docs/quirks.md): hardware task switches. A far transfer to a TSS or a task gate is
 * #GP(selector), IRET with NT set outside long mode #GP(0).
 *
 * SYSCALL, SYSRET, SYSENTER and SYSEXIT are Intel's: SYSCALL only in 64-bit mode, SYSRET checks
 * RCX at privilege 0, SYSENTER works in compatibility mode.
 *
 * Specification: SDM vol. 2, each instruction's "Operation"; vol. 3, 5.8.
 */
#include "isa/x86/sys_priv.h"

static u64 opsize_mask(unsigned opsize)
{
	return opsize == 8 ? ~0ull : BIT(opsize * 8) - 1;
}

static bool seg_is_64(const struct x86_cpu *c, const struct x86_seg *cs)
{
	return x86_long_mode(c) && (cs->attr & SEG_L);
}

/* Reads @sel as a code segment, without privilege checks. Not present is the caller's. */
static int code_read(struct x86_cpu *c, u16 sel, struct x86_desc *ret_d, struct x86_seg *ret_s)
{
	if (sel_null(sel))
		return x86_fault_err(c, X86_GP, 0);
	if (x86_desc_read(c, sel, X86_GP, ret_d))
		return X86_FAULT;
	x86_desc_seg(ret_d, sel, ret_s);
	return 0;
}

/* L and D together mean nothing yet: reserved (SDM vol. 3, 5.2.1). */
static bool bad_long_code(const struct x86_cpu *c, const struct x86_seg *s)
{
	return x86_long_mode(c) && (s->attr & SEG_L) && (s->attr & SEG_DB);
}

/* #GP(0) if @rip cannot be executed in @cs. */
static int check_target(struct x86_cpu *c, const struct x86_seg *cs, u64 rip)
{
	if (seg_is_64(c, cs) ? x86_canonical(rip) : rip <= cs->limit)
		return 0;
	return x86_fault_err(c, X86_GP, 0);
}

static int check_present(struct x86_cpu *c, const struct x86_seg *s)
{
	return s->attr & SEG_P ? 0 : x86_fault_err(c, X86_NP, sel_err(s->sel));
}

/* Commits a checked code segment with privilege @cpl in its selector. */
static void set_cs(struct x86_cpu *c, const struct x86_seg *cs, unsigned cpl, u64 rip)
{
	c->seg[X86_CS] = *cs;
	c->seg[X86_CS].sel = (u16)((cs->sel & 0xfffc) | cpl);
	c->seg[X86_CS].attr |= TYPE_ACCESSED;
	c->rip = rip;
}

/* --- JMP and CALL ----------------------------------------------------------------------------- */

static int far_real(struct x86_cpu *c, u16 sel, u64 off, bool call, unsigned opsize, u64 next)
{
	struct x86_stack st;

	off &= opsize_mask(opsize);
	if (off > c->seg[X86_CS].limit)
		return x86_fault_err(c, X86_GP, 0);
	if (call) {
		x86_stack_cur(c, &st);
		if (x86_push(c, &st, opsize, c->seg[X86_CS].sel) || x86_push(c, &st, opsize, next))
			return X86_FAULT;
		c->r[X86_RSP] = x86_stack_rsp(c, &st);
	}
	x86_seg_real(c, X86_CS, sel);
	c->rip = off;
	x86_mode_sync(c);
	return 0;
}

/* To a code segment, at the same privilege. */
static int far_code(struct x86_cpu *c, const struct x86_desc *d, const struct x86_seg *cs, u64 off,
		    bool call, unsigned opsize, u64 next)
{
	unsigned dpl = seg_dpl(cs);
	struct x86_stack st;

	if (bad_long_code(c, cs) ||
	    (cs->attr & TYPE_CONFORMING ? dpl > c->cpl : (cs->sel & 3u) > c->cpl || dpl != c->cpl))
		return x86_fault_err(c, X86_GP, sel_err(cs->sel));
	if (check_present(c, cs))
		return X86_FAULT;
	off &= opsize_mask(opsize);
	if (check_target(c, cs, off))
		return X86_FAULT;
	if (call) {
		x86_stack_cur(c, &st);
		if (x86_push(c, &st, opsize, c->seg[X86_CS].sel) || x86_push(c, &st, opsize, next))
			return X86_FAULT;
	}
	if (x86_desc_touch(c, d))
		return X86_FAULT;
	if (call)
		c->r[X86_RSP] = x86_stack_rsp(c, &st);
	set_cs(c, cs, c->cpl, off);
	x86_mode_sync(c);
	return 0;
}

struct gate {
	u16 sel;
	u64 off;
	unsigned size;	 /* of what it pushes: 2, 4, 8 */
	unsigned params; /* stack words to copy */
};

/* Decodes and checks the call gate @d, reached through @sel. */
static int gate_read(struct x86_cpu *c, u16 sel, const struct x86_desc *d, struct gate *ret)
{
	unsigned type = (d->hi >> 8) & SEG_TYPE;
	unsigned dpl = (d->hi >> 13) & 3;
	struct x86_desc full;

	if (type != SYS_CALL && (type != SYS_CALL16 || x86_long_mode(c)))
		return x86_fault_err(c, X86_GP, sel_err(sel));
	if (dpl < c->cpl || dpl < (sel & 3u))
		return x86_fault_err(c, X86_GP, sel_err(sel));
	if (!(d->hi & BIT(15)))
		return x86_fault_err(c, X86_NP, sel_err(sel));
	ret->sel = (u16)(d->lo >> 16);
	ret->off = (d->lo & 0xffff) | (d->hi & 0xffff0000);
	ret->size = 4;
	ret->params = d->hi & 31;
	if (x86_long_mode(c)) {
		if (x86_desc_read_sys(c, sel, X86_GP, &full))
			return X86_FAULT;
		ret->off |= (u64)full.base_hi << 32;
		ret->size = 8;
		ret->params = 0;
	} else if (type == SYS_CALL16) {
		ret->off &= 0xffff;
		ret->size = 2;
	}
	return 0;
}

/* CALL through a gate to more privilege: a new stack with the old one's address and parameters. */
static int gate_inner(struct x86_cpu *c, const struct gate *g, const struct x86_desc *d,
		      const struct x86_seg *cs, u64 next)
{
	unsigned cpl = seg_dpl(cs);
	struct x86_stack st, old;
	u64 param[32];

	if (x86_stack_tss(c, cpl, 0, &st))
		return X86_FAULT;
	x86_stack_cur(c, &old);
	for (unsigned i = 0; i < g->params; i++)
		if (x86_pop(c, &old, g->size, &param[i]))
			return X86_FAULT;
	if (x86_push(c, &st, g->size, c->seg[X86_SS].sel) ||
	    x86_push(c, &st, g->size, c->r[X86_RSP]))
		return X86_FAULT;
	for (unsigned i = g->params; i-- > 0;)
		if (x86_push(c, &st, g->size, param[i]))
			return X86_FAULT;
	if (x86_push(c, &st, g->size, c->seg[X86_CS].sel) || x86_push(c, &st, g->size, next) ||
	    x86_desc_touch(c, d))
		return X86_FAULT;
	c->seg[X86_SS] = st.ss;
	c->r[X86_RSP] = x86_stack_rsp(c, &st);
	set_cs(c, cs, cpl, g->off);
	x86_mode_sync(c);
	return 0;
}

static int far_gate(struct x86_cpu *c, u16 sel, const struct x86_desc *gd, bool call, u64 next)
{
	struct x86_desc d;
	struct x86_seg cs;
	struct x86_stack st;
	struct gate g;
	unsigned dpl;
	bool inner;

	if (gate_read(c, sel, gd, &g) || code_read(c, g.sel, &d, &cs))
		return X86_FAULT;
	dpl = seg_dpl(&cs);
	inner = call && !seg_is_conforming(&cs) && dpl < c->cpl;
	if (!seg_is_code(&cs) || dpl > c->cpl ||
	    (!call && !seg_is_conforming(&cs) && dpl != c->cpl) ||
	    (x86_long_mode(c) && (cs.attr & (SEG_L | SEG_DB)) != SEG_L))
		return x86_fault_err(c, X86_GP, sel_err(g.sel));
	if (check_present(c, &cs) || check_target(c, &cs, g.off))
		return X86_FAULT;
	if (inner)
		return gate_inner(c, &g, &d, &cs, next);
	x86_stack_cur(c, &st);
	if (call) {
		/* A 64-bit gate pushes 64-bit words, also from compatibility mode. */
		st.is64 = x86_long_mode(c);
		if (x86_push(c, &st, g.size, c->seg[X86_CS].sel) || x86_push(c, &st, g.size, next))
			return X86_FAULT;
	}
	if (x86_desc_touch(c, &d))
		return X86_FAULT;
	if (call)
		c->r[X86_RSP] = x86_stack_rsp(c, &st);
	set_cs(c, &cs, c->cpl, g.off);
	x86_mode_sync(c);
	return 0;
}

static int far_transfer(struct x86_cpu *c, u16 sel, u64 off, bool call, unsigned opsize, u64 next)
{
	struct x86_desc d;
	struct x86_seg s;

	if (x86_real_mode(c) || x86_v86_mode(c))
		return far_real(c, sel, off, call, opsize, next);
	if (code_read(c, sel, &d, &s))
		return X86_FAULT;
	if (seg_is_code(&s))
		return far_code(c, &d, &s, off, call, opsize, next);
	if (s.attr & SEG_S)
		return x86_fault_err(c, X86_GP, sel_err(sel));
	return far_gate(c, sel, &d, call, next);
}

int x86_far_jmp(struct x86_cpu *c, u16 sel, u64 off, unsigned opsize)
{
	return far_transfer(c, sel, off, false, opsize, 0);
}

int x86_far_call(struct x86_cpu *c, u16 sel, u64 off, unsigned opsize, u64 next)
{
	return far_transfer(c, sel, off, true, opsize, next);
}

/* --- RET and IRET ----------------------------------------------------------------------------- */

/* What a return has read so far. */
struct ret_frame {
	u64 rip, cs, flags, rsp, ss;
	struct x86_desc d;
	struct x86_seg cseg, sseg;
};

/* The code segment that a return goes to: never more privileged than now. */
static int ret_code(struct x86_cpu *c, struct ret_frame *f)
{
	u16 sel = (u16)f->cs;
	unsigned rpl = sel & 3u;

	if (code_read(c, sel, &f->d, &f->cseg))
		return X86_FAULT;
	if (!seg_is_code(&f->cseg) || rpl < c->cpl || bad_long_code(c, &f->cseg) ||
	    (seg_is_conforming(&f->cseg) ? seg_dpl(&f->cseg) > rpl : seg_dpl(&f->cseg) != rpl))
		return x86_fault_err(c, X86_GP, sel_err(sel));
	return check_present(c, &f->cseg);
}

/* The stack segment of a return that loads one. */
static int ret_stack(struct x86_cpu *c, struct ret_frame *f)
{
	unsigned rpl = f->cs & 3u;
	u16 sel = (u16)f->ss;
	bool null_ok = seg_is_64(c, &f->cseg) && rpl != 3;

	return x86_check_ss(c, sel, rpl, X86_GP, null_ok, &f->sseg);
}

/* Commits a return that loads SS:RSP. */
static void ret_commit_stack(struct x86_cpu *c, const struct ret_frame *f, u64 rsp)
{
	struct x86_stack st = { .ss = f->sseg, .sp = rsp, .is64 = seg_is_64(c, &f->cseg) };
	unsigned cpl = f->cs & 3u;

	c->seg[X86_SS] = f->sseg;
	c->r[X86_RSP] = x86_stack_rsp(c, &st);
	set_cs(c, &f->cseg, cpl, f->rip);
	if (cpl > c->cpl)
		x86_drop_segs(c, cpl);
	x86_mode_sync(c);
}

static int ret_real(struct x86_cpu *c, unsigned opsize, u16 pop)
{
	struct x86_stack st;
	u64 rip, cs;

	x86_stack_cur(c, &st);
	if (x86_pop(c, &st, opsize, &rip) || x86_pop(c, &st, opsize, &cs))
		return X86_FAULT;
	if (rip > c->seg[X86_CS].limit)
		return x86_fault_err(c, X86_GP, 0);
	st.sp += pop;
	c->r[X86_RSP] = x86_stack_rsp(c, &st);
	x86_seg_real(c, X86_CS, (u16)cs);
	c->rip = rip;
	x86_mode_sync(c);
	return 0;
}

/*
 * The frame of a far return: RIP, CS, and with @flags those. Processors read from the top down, as
 * CR2 of a page fault shows.
 */
static int pop_frame(struct x86_cpu *c, struct x86_stack *st, unsigned opsize, struct ret_frame *f,
		     bool flags)
{
	u64 *const slot[] = { &f->rip, &f->cs, &f->flags };
	unsigned n = flags ? 3 : 2;
	u64 base = st->sp, end = 0;

	for (unsigned i = n; i-- > 0;) {
		st->sp = base + (u64)i * opsize;
		if (x86_pop(c, st, opsize, slot[i]))
			return X86_FAULT;
		if (i == n - 1)
			end = st->sp;
	}
	st->sp = end;
	return 0;
}

int x86_far_ret(struct x86_cpu *c, unsigned opsize, u16 pop)
{
	struct ret_frame f = { 0 };
	struct x86_stack st;

	if (x86_real_mode(c) || x86_v86_mode(c))
		return ret_real(c, opsize, pop);
	x86_stack_cur(c, &st);
	if (pop_frame(c, &st, opsize, &f, false) || ret_code(c, &f))
		return X86_FAULT;
	st.sp += pop;
	if ((f.cs & 3) == c->cpl) {
		if (check_target(c, &f.cseg, f.rip) || x86_desc_touch(c, &f.d))
			return X86_FAULT;
		c->r[X86_RSP] = x86_stack_rsp(c, &st);
		set_cs(c, &f.cseg, c->cpl, f.rip);
		x86_mode_sync(c);
		return 0;
	}
	if (x86_pop(c, &st, opsize, &f.rsp) || x86_pop(c, &st, opsize, &f.ss) || ret_stack(c, &f) ||
	    check_target(c, &f.cseg, f.rip) || x86_desc_touch(c, &f.d))
		return X86_FAULT;
	/* The parameters are on both stacks. */
	ret_commit_stack(c, &f, f.rsp + pop);
	return 0;
}

/* Flags that POPF and IRET may change at the current privilege. */
static u64 flags_mask(const struct x86_cpu *c, unsigned opsize)
{
	u64 m = X86_ARITH | X86_TF | X86_DF | X86_NT;

	if (opsize > 2)
		m |= X86_AC | X86_ID;
	if (c->cpl <= x86_iopl(c))
		m |= X86_IF;
	if (c->cpl == 0)
		m |= X86_IOPL;
	return m;
}

static void merge_flags(struct x86_cpu *c, u64 v, u64 mask)
{
	x86_put_rflags(c, (x86_get_rflags(c) & ~mask) | (v & mask));
}

int x86_popf(struct x86_cpu *c, u64 v, unsigned opsize)
{
	u64 before = c->rflags;
	u64 mask = flags_mask(c, opsize);

	if (x86_v86_mode(c)) {
		if (x86_iopl(c) != 3)
			return x86_fault_err(c, X86_GP, 0);
		mask &= ~(u64)X86_IOPL;
	}
	merge_flags(c, v & ~(u64)X86_RF, mask | X86_RF);
	if ((before ^ c->rflags) & (X86_AC | X86_TF))
		x86_mode_sync(c);
	return 0;
}

static int iret_real(struct x86_cpu *c, unsigned opsize)
{
	u64 mask = flags_mask(c, opsize) | X86_RF;
	struct x86_stack st;
	u64 rip, cs, flags;

	if (x86_v86_mode(c)) {
		if (x86_iopl(c) != 3)
			return x86_fault_err(c, X86_GP, 0);
		mask &= ~(u64)X86_IOPL;
	}
	x86_stack_cur(c, &st);
	if (x86_pop(c, &st, opsize, &rip) || x86_pop(c, &st, opsize, &cs) ||
	    x86_pop(c, &st, opsize, &flags))
		return X86_FAULT;
	if (rip > c->seg[X86_CS].limit)
		return x86_fault_err(c, X86_GP, 0);
	if (opsize == 2)
		mask &= 0xffff;
	c->r[X86_RSP] = x86_stack_rsp(c, &st);
	merge_flags(c, flags, mask);
	x86_seg_real(c, X86_CS, (u16)cs);
	c->rip = rip;
	x86_mode_sync(c);
	return 0;
}

/* To virtual-8086 mode: the stack holds nine doublewords, three are already in @f. */
static int iret_to_v86(struct x86_cpu *c, struct x86_stack *st, const struct ret_frame *f)
{
	static const u8 order[] = { X86_ES, X86_DS, X86_FS, X86_GS };
	u64 sel[ARRAY_LEN(order)];
	u64 rsp, ss;

	if (x86_pop(c, st, 4, &rsp) || x86_pop(c, st, 4, &ss))
		return X86_FAULT;
	for (unsigned i = 0; i < ARRAY_LEN(order); i++)
		if (x86_pop(c, st, 4, &sel[i]))
			return X86_FAULT;
	if (f->rip > 0xffff)
		return x86_fault_err(c, X86_GP, 0);
	x86_put_rflags(c, f->flags);
	x86_seg_real(c, X86_CS, (u16)f->cs);
	x86_seg_real(c, X86_SS, (u16)ss);
	for (unsigned i = 0; i < ARRAY_LEN(order); i++)
		x86_seg_real(c, order[i], (u16)sel[i]);
	c->rip = f->rip;
	c->r[X86_RSP] = rsp;
	x86_mode_sync(c);
	return 0;
}

static int iret_prot(struct x86_cpu *c, unsigned opsize)
{
	u64 mask = flags_mask(c, opsize) | X86_RF;
	struct ret_frame f = { 0 };
	struct x86_stack st;

	if (c->rflags & X86_NT)
		return x86_fault_err(c, X86_GP, 0);
	x86_stack_cur(c, &st);
	if (pop_frame(c, &st, opsize, &f, true))
		return X86_FAULT;
	if (opsize == 4 && (f.flags & X86_VM) && c->cpl == 0 && !x86_long_mode(c))
		return iret_to_v86(c, &st, &f);
	if (ret_code(c, &f))
		return X86_FAULT;
	if (opsize == 2)
		mask &= 0xffff;
	if ((f.cs & 3) == c->cpl && !x86_code64(c)) {
		if (check_target(c, &f.cseg, f.rip) || x86_desc_touch(c, &f.d))
			return X86_FAULT;
		c->r[X86_RSP] = x86_stack_rsp(c, &st);
		merge_flags(c, f.flags, mask);
		set_cs(c, &f.cseg, c->cpl, f.rip);
		x86_mode_sync(c);
		return 0;
	}
	/* 64-bit mode always pops SS:RSP. */
	if (x86_pop(c, &st, opsize, &f.rsp) || x86_pop(c, &st, opsize, &f.ss) || ret_stack(c, &f) ||
	    check_target(c, &f.cseg, f.rip) || x86_desc_touch(c, &f.d))
		return X86_FAULT;
	merge_flags(c, f.flags, mask);
	ret_commit_stack(c, &f, f.rsp);
	return 0;
}

int x86_iret(struct x86_cpu *c, unsigned opsize)
{
	/* Even an IRET that faults lets NMIs in again (SDM vol. 3, 6.7.1). */
	c->nmi_blocked = false;
	if (x86_real_mode(c) || x86_v86_mode(c))
		return iret_real(c, opsize);
	return iret_prot(c, opsize);
}

/* --- SYSCALL, SYSENTER ------------------------------------------------------------------------ */

/* Flat segments as these instructions load them, without looking at any table. */
static void flat_segs(struct x86_cpu *c, u16 cs, u16 ss, bool code64)
{
	u16 dpl = (u16)((cs & 3) << SEG_DPL_SHIFT);

	c->seg[X86_CS] = (struct x86_seg){
		.sel = cs,
		.limit = 0xffffffff,
		.attr = ATTR_FLAT | dpl | TYPE_CODE | TYPE_READABLE | TYPE_ACCESSED |
			(code64 ? SEG_L : SEG_DB),
	};
	c->seg[X86_SS] = (struct x86_seg){
		.sel = ss,
		.limit = 0xffffffff,
		.attr = ATTR_FLAT | dpl | TYPE_WRITABLE | TYPE_ACCESSED | SEG_DB,
	};
}

int x86_syscall(struct x86_cpu *c, u64 next)
{
	u16 sel = (u16)(c->star >> 32);

	if (!x86_code64(c) || !(c->efer & EFER_SCE))
		return x86_fault(c, X86_UD);
	c->r[X86_RCX] = next;
	c->r[X86_R11] = x86_get_rflags(c) & ~(u64)X86_RF;
	c->rip = c->lstar;
	x86_put_rflags(c, x86_get_rflags(c) & ~c->fmask & ~(u64)X86_RF);
	flat_segs(c, sel & 0xfffc, (u16)((sel & 0xfffc) + 8), true);
	x86_mode_sync(c);
	return 0;
}

int x86_sysret(struct x86_cpu *c, unsigned opsize)
{
	u16 sel = (u16)(c->star >> 48);
	bool to64 = opsize == 8;
	u16 cs = (u16)((to64 ? sel + 16 : sel) | 3);

	if (!x86_code64(c) || !(c->efer & EFER_SCE))
		return x86_fault(c, X86_UD);
	if (c->cpl || (to64 && !x86_canonical(c->r[X86_RCX])))
		return x86_fault_err(c, X86_GP, 0);
	c->rip = to64 ? c->r[X86_RCX] : (u32)c->r[X86_RCX];
	/* RF, VM and the reserved bits do not come back from R11. */
	x86_put_rflags(c, c->r[X86_R11] & 0x3c7fd7);
	flat_segs(c, cs, (u16)((sel + 8) | 3), to64);
	x86_mode_sync(c);
	return 0;
}

int x86_sysenter(struct x86_cpu *c)
{
	u16 cs = (u16)c->sysenter_cs & 0xfffc;
	bool lm = x86_long_mode(c);

	if (x86_real_mode(c) || !cs)
		return x86_fault_err(c, X86_GP, 0);
	x86_put_rflags(c, x86_get_rflags(c) & ~(u64)(X86_VM | X86_IF | X86_RF));
	c->r[X86_RSP] = lm ? c->sysenter_esp : (u32)c->sysenter_esp;
	c->rip = lm ? c->sysenter_eip : (u32)c->sysenter_eip;
	flat_segs(c, cs, (u16)(cs + 8), lm);
	x86_mode_sync(c);
	return 0;
}

int x86_sysexit(struct x86_cpu *c, unsigned opsize)
{
	u16 base = (u16)c->sysenter_cs & 0xfffc;
	bool to64 = opsize == 8;
	u16 cs = (u16)((base + (to64 ? 32 : 16)) | 3);

	if (x86_real_mode(c) || c->cpl || !base)
		return x86_fault_err(c, X86_GP, 0);
	if (to64 && (!x86_canonical(c->r[X86_RCX]) || !x86_canonical(c->r[X86_RDX])))
		return x86_fault_err(c, X86_GP, 0);
	c->r[X86_RSP] = to64 ? c->r[X86_RCX] : (u32)c->r[X86_RCX];
	c->rip = to64 ? c->r[X86_RDX] : (u32)c->r[X86_RDX];
	flat_segs(c, cs, (u16)(cs + 8), to64);
	x86_mode_sync(c);
	return 0;
}
