/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seg.c - descriptors, segment register loads, and stacks
 *
 * Checks and error codes follow the pseudo-code of MOV, LLDT, LTR, LAR, LSL and VERR in SDM vol. 2;
 * descriptors are SDM vol. 3, 3.4.5 and 3.5.
 */
#include "isa/x86/sys_priv.h"

/* --- descriptors ------------------------------------------------------------------------------ */

/* The address of a descriptor of @len bytes, or X86_FAULT beyond the table's limit. */
static int desc_addr(struct x86_cpu *c, u16 sel, unsigned len, u8 vec, gva_t *ret)
{
	u32 off = sel & ~7u;
	u32 limit = c->gdtr.limit;
	u64 base = c->gdtr.base;

	if (sel & 4) {
		if (!(c->ldtr.attr & SEG_P))
			return x86_fault_err(c, vec, sel_err(sel));
		limit = c->ldtr.limit;
		base = c->ldtr.base;
	}
	if (off + len - 1 > limit)
		return x86_fault_err(c, vec, sel_err(sel));
	*ret = x86_lin(c, base + off);
	return 0;
}

int x86_desc_read(struct x86_cpu *c, u16 sel, u8 vec, struct x86_desc *ret)
{
	gva_t a;
	u64 v;

	if (desc_addr(c, sel, 8, vec, &a) || c->ops->lin_read(c, a, 8, false, &v))
		return X86_FAULT;
	*ret = (struct x86_desc){ .lo = (u32)v, .hi = (u32)(v >> 32), .addr = a };
	return 0;
}

int x86_desc_read_sys(struct x86_cpu *c, u16 sel, u8 vec, struct x86_desc *ret)
{
	struct x86_desc d;
	gva_t a;
	u64 v;

	if (!x86_long_mode(c))
		return x86_desc_read(c, sel, vec, ret);
	if (desc_addr(c, sel, 16, vec, &a) || x86_desc_read(c, sel, vec, &d) ||
	    c->ops->lin_read(c, x86_lin(c, a + 8), 8, false, &v))
		return X86_FAULT;
	/* The type field of the upper half must say "nothing" (SDM vol. 3, 3.5). */
	if ((v >> 32) & 0x1f00)
		return x86_fault_err(c, vec, sel_err(sel));
	d.base_hi = (u32)v;
	*ret = d;
	return 0;
}

void x86_desc_seg(const struct x86_desc *d, u16 sel, struct x86_seg *ret)
{
	u32 limit = (d->lo & 0xffff) | (d->hi & 0xf0000);

	if (d->hi & BIT(23))
		limit = limit << 12 | 0xfff;
	*ret = (struct x86_seg){
		.base = (d->lo >> 16) | (d->hi & 0xff) << 16 | (d->hi & 0xff000000) |
			(u64)d->base_hi << 32,
		.limit = limit,
		.sel = sel,
		.attr = (d->hi >> 8) & 0xf0ff,
	};
}

int x86_desc_touch(struct x86_cpu *c, const struct x86_desc *d)
{
	u8 access = (u8)(d->hi >> 8);

	if (access & TYPE_ACCESSED)
		return 0;
	return c->ops->lin_write(c, x86_lin(c, d->addr + 5), 1, false, access | TYPE_ACCESSED);
}

/* --- segment registers ------------------------------------------------------------------------ */

void x86_seg_real(struct x86_cpu *c, enum x86_segreg s, u16 sel)
{
	c->seg[s].sel = sel;
	c->seg[s].base = (u64)sel << 4;
	/* Real mode keeps limit and attributes ("unreal mode"); virtual-8086 mode fixes them. */
	if (x86_v86_mode(c)) {
		c->seg[s].limit = 0xffff;
		c->seg[s].attr = ATTR_V86;
	}
}

int x86_check_ss(struct x86_cpu *c, u16 sel, unsigned cpl, u8 vec, bool null_ok,
		 struct x86_seg *ret)
{
	struct x86_desc d;
	struct x86_seg s;

	if (sel_null(sel)) {
		if (!null_ok)
			return x86_fault_err(c, vec, 0);
		/* CPL is SS.DPL everywhere in this directory, so a null SS carries it as well. */
		*ret = (struct x86_seg){ .sel = sel, .attr = (u16)(cpl << SEG_DPL_SHIFT) };
		return 0;
	}
	if (x86_desc_read(c, sel, vec, &d))
		return X86_FAULT;
	x86_desc_seg(&d, sel, &s);
	if ((sel & 3u) != cpl || !seg_is_writable(&s) || seg_dpl(&s) != cpl)
		return x86_fault_err(c, vec, sel_err(sel));
	if (!(s.attr & SEG_P))
		return x86_fault_err(c, X86_SS_EXC, sel_err(sel));
	if (x86_desc_touch(c, &d))
		return X86_FAULT;
	s.attr |= TYPE_ACCESSED;
	*ret = s;
	return 0;
}

static int check_data(struct x86_cpu *c, u16 sel, struct x86_seg *ret)
{
	struct x86_desc d;
	struct x86_seg s;

	if (sel_null(sel)) {
		*ret = (struct x86_seg){ .sel = sel };
		return 0;
	}
	if (x86_desc_read(c, sel, X86_GP, &d))
		return X86_FAULT;
	x86_desc_seg(&d, sel, &s);
	if (!(s.attr & SEG_S) || (seg_is_code(&s) && !(s.attr & TYPE_READABLE)))
		return x86_fault_err(c, X86_GP, sel_err(sel));
	if (!seg_is_conforming(&s) && (seg_dpl(&s) < (sel & 3u) || seg_dpl(&s) < c->cpl))
		return x86_fault_err(c, X86_GP, sel_err(sel));
	if (!(s.attr & SEG_P))
		return x86_fault_err(c, X86_NP, sel_err(sel));
	if (x86_desc_touch(c, &d))
		return X86_FAULT;
	s.attr |= TYPE_ACCESSED;
	*ret = s;
	return 0;
}

int x86_load_seg(struct x86_cpu *c, enum x86_segreg s, u16 sel)
{
	struct x86_seg seg;

	if (x86_real_mode(c) || x86_v86_mode(c)) {
		x86_seg_real(c, s, sel);
		x86_derive(c);
		return 0;
	}
	if (s == X86_SS) {
		bool null_ok = x86_code64(c) && c->cpl != 3 && (sel & 3) == c->cpl;

		if (x86_check_ss(c, sel, c->cpl, X86_GP, null_ok, &seg))
			return X86_FAULT;
		c->seg[X86_SS] = seg;
		x86_mode_sync(c); /* SS.B may differ */
		return 0;
	}
	if (check_data(c, sel, &seg))
		return X86_FAULT;
	c->seg[s] = seg;
	x86_derive(c);
	return 0;
}

void x86_drop_segs(struct x86_cpu *c, unsigned cpl)
{
	static const u8 data[] = { X86_ES, X86_FS, X86_GS, X86_DS };

	for (unsigned i = 0; i < ARRAY_LEN(data); i++) {
		struct x86_seg *s = &c->seg[data[i]];

		/* A null segment stays as it is: in 64-bit mode its base may be in use (FS, GS). */
		if (!(s->attr & SEG_P) || seg_is_conforming(s) || seg_dpl(s) >= cpl)
			continue;
		s->sel = 0;
		s->attr = 0;
	}
}

/* --- LDTR, TR --------------------------------------------------------------------------------- */

static int sysreg_allowed(struct x86_cpu *c)
{
	if (x86_real_mode(c) || x86_v86_mode(c))
		return x86_fault(c, X86_UD);
	if (c->cpl)
		return x86_fault_err(c, X86_GP, 0);
	return 0;
}

int x86_lldt(struct x86_cpu *c, u16 sel)
{
	struct x86_desc d;
	struct x86_seg s;

	if (sysreg_allowed(c))
		return X86_FAULT;
	if (sel_null(sel)) {
		c->ldtr = (struct x86_seg){ .sel = sel };
		return 0;
	}
	if (sel & 4)
		return x86_fault_err(c, X86_GP, sel_err(sel));
	if (x86_desc_read_sys(c, sel, X86_GP, &d))
		return X86_FAULT;
	x86_desc_seg(&d, sel, &s);
	if ((s.attr & (SEG_S | SEG_TYPE)) != SYS_LDT || !x86_canonical(s.base))
		return x86_fault_err(c, X86_GP, sel_err(sel));
	if (!(s.attr & SEG_P))
		return x86_fault_err(c, X86_NP, sel_err(sel));
	c->ldtr = s;
	return 0;
}

int x86_ltr(struct x86_cpu *c, u16 sel)
{
	struct x86_desc d;
	struct x86_seg s;
	unsigned type;

	if (sysreg_allowed(c))
		return X86_FAULT;
	if (sel_null(sel))
		return x86_fault_err(c, X86_GP, 0);
	if (sel & 4)
		return x86_fault_err(c, X86_GP, sel_err(sel));
	if (x86_desc_read_sys(c, sel, X86_GP, &d))
		return X86_FAULT;
	x86_desc_seg(&d, sel, &s);
	type = s.attr & (SEG_S | SEG_TYPE);
	if (type != SYS_TSS && (type != SYS_TSS16 || x86_long_mode(c)))
		return x86_fault_err(c, X86_GP, sel_err(sel));
	if (!x86_canonical(s.base))
		return x86_fault_err(c, X86_GP, sel_err(sel));
	if (!(s.attr & SEG_P))
		return x86_fault_err(c, X86_NP, sel_err(sel));
	/* Busy, in the table and in the register. */
	if (c->ops->lin_write(c, x86_lin(c, d.addr + 5), 1, false, ((d.hi >> 8) & 0xff) | 2))
		return X86_FAULT;
	s.attr |= 2;
	c->tr = s;
	return 0;
}

/* --- LAR, LSL, VERR, VERW --------------------------------------------------------------------- */

/*
 * Reads @sel for inspection. 1 and the descriptor, 0 if it cannot be had, -X86_FAULT.
 * @sys: the system types that are visible, as a bit mask.
 */
static int inspect(struct x86_cpu *c, u16 sel, u32 sys, struct x86_desc *ret_d,
		   struct x86_seg *ret_s)
{
	unsigned type;
	gva_t a;

	if (x86_real_mode(c) || x86_v86_mode(c)) {
		x86_fault(c, X86_UD);
		return -X86_FAULT;
	}
	if (sel_null(sel) || desc_addr(c, sel, 8, X86_GP, &a))
		return 0;
	if (x86_desc_read(c, sel, X86_GP, ret_d))
		return -X86_FAULT; /* a page fault: the limit has been checked */
	x86_desc_seg(ret_d, sel, ret_s);
	type = ret_s->attr & SEG_TYPE;
	if (!(ret_s->attr & SEG_S) && !(sys & BIT(type)))
		return 0;
	if (!seg_is_conforming(ret_s) && (seg_dpl(ret_s) < c->cpl || seg_dpl(ret_s) < (sel & 3u)))
		return 0;
	return 1;
}

int x86_lar(struct x86_cpu *c, u16 sel, u32 *ret_attr)
{
	u32 sys = BIT(SYS_LDT) | BIT(SYS_TSS) | BIT(SYS_TSS_BUSY) | BIT(SYS_CALL);
	struct x86_desc d;
	struct x86_seg s;
	int r;

	if (!x86_long_mode(c))
		sys |= BIT(SYS_TSS16) | BIT(SYS_TSS16_BUSY) | BIT(SYS_CALL16) | BIT(SYS_TASK);
	r = inspect(c, sel, sys, &d, &s);
	if (r == 1)
		*ret_attr = d.hi & 0x00ffff00;
	return r;
}

int x86_lsl(struct x86_cpu *c, u16 sel, u32 *ret_limit)
{
	u32 sys = BIT(SYS_LDT) | BIT(SYS_TSS) | BIT(SYS_TSS_BUSY);
	struct x86_desc d;
	struct x86_seg s;
	int r;

	if (!x86_long_mode(c))
		sys |= BIT(SYS_TSS16) | BIT(SYS_TSS16_BUSY);
	r = inspect(c, sel, sys, &d, &s);
	if (r == 1)
		*ret_limit = s.limit;
	return r;
}

int x86_verr(struct x86_cpu *c, u16 sel, bool write)
{
	struct x86_desc d;
	struct x86_seg s;
	int r = inspect(c, sel, 0, &d, &s);

	if (r != 1)
		return r;
	if (write)
		return seg_is_writable(&s);
	return !seg_is_code(&s) || (s.attr & TYPE_READABLE);
}

/* --- stacks ----------------------------------------------------------------------------------- */

static u64 stack_mask(const struct x86_stack *st)
{
	if (st->is64)
		return ~0ull;
	return st->ss.attr & SEG_DB ? 0xffffffffull : 0xffffull;
}

static int stack_addr(struct x86_cpu *c, const struct x86_stack *st, u64 off, unsigned size,
		      gva_t *ret)
{
	bool ok;

	if (st->is64) {
		ok = x86_canonical(off) && x86_canonical(off + size - 1);
	} else {
		u64 last = off + size - 1;

		if ((st->ss.attr & (TYPE_CODE | TYPE_EXPDOWN)) == TYPE_EXPDOWN)
			ok = off > st->ss.limit && last <= stack_mask(st);
		else
			ok = last <= st->ss.limit;
	}
	if (!ok)
		return x86_fault_err(c, X86_SS_EXC, st->ss_err);
	*ret = st->is64 ? off : (u32)(st->ss.base + off);
	return 0;
}

void x86_stack_cur(const struct x86_cpu *c, struct x86_stack *st)
{
	*st = (struct x86_stack){ .ss = c->seg[X86_SS],
				  .sp = c->r[X86_RSP],
				  .is64 = x86_code64(c),
				  .user = c->cpl == 3 };
}

int x86_push(struct x86_cpu *c, struct x86_stack *st, unsigned size, u64 v)
{
	u64 sp = (st->sp - size) & stack_mask(st);
	gva_t a;

	if (stack_addr(c, st, sp, size, &a) || c->ops->lin_write(c, a, size, st->user, v))
		return X86_FAULT;
	st->sp = sp;
	return 0;
}

int x86_pop(struct x86_cpu *c, struct x86_stack *st, unsigned size, u64 *ret)
{
	u64 sp = st->sp & stack_mask(st);
	gva_t a;

	if (stack_addr(c, st, sp, size, &a) || c->ops->lin_read(c, a, size, st->user, ret))
		return X86_FAULT;
	st->sp = (sp + size) & stack_mask(st);
	return 0;
}

u64 x86_stack_rsp(const struct x86_cpu *c, const struct x86_stack *st)
{
	u64 mask = stack_mask(st);

	if (mask == 0xffff)
		return (c->r[X86_RSP] & ~mask) | (st->sp & mask);
	return st->sp & mask;
}

/* A field of the TSS; beyond its limit #TS with TR's selector. */
static int tss_read(struct x86_cpu *c, u32 off, unsigned size, u64 *ret)
{
	if (!(c->tr.attr & SEG_P) || off + size - 1 > c->tr.limit)
		return x86_fault_err(c, X86_TS, sel_err(c->tr.sel));
	return c->ops->lin_read(c, x86_lin(c, c->tr.base + off), size, false, ret);
}

int x86_stack_tss(struct x86_cpu *c, unsigned cpl, unsigned ist, struct x86_stack *ret)
{
	struct x86_stack st = { .user = cpl == 3 };
	unsigned type = c->tr.attr & SEG_TYPE;
	u64 sp, ss;

	if (x86_long_mode(c)) {
		/* RSP0 is at 4, IST1 at 36 (SDM vol. 3, figure 8-11). */
		if (tss_read(c, ist ? 36 + 8 * (ist - 1) : 4 + 8 * cpl, 8, &sp))
			return X86_FAULT;
		st.is64 = true;
		st.sp = sp;
		st.ss = (struct x86_seg){ .sel = (u16)cpl, .attr = (u16)(cpl << SEG_DPL_SHIFT) };
		*ret = st;
		return 0;
	}
	if (type == SYS_TSS || type == SYS_TSS_BUSY) {
		if (tss_read(c, 8 + 8 * cpl, 2, &ss) || tss_read(c, 4 + 8 * cpl, 4, &sp))
			return X86_FAULT;
	} else {
		if (tss_read(c, 4 + 4 * cpl, 2, &ss) || tss_read(c, 2 + 4 * cpl, 2, &sp))
			return X86_FAULT;
	}
	if (x86_check_ss(c, (u16)ss, cpl, X86_TS, false, &st.ss))
		return X86_FAULT;
	st.sp = sp;
	st.ss_err = sel_err((u16)ss);
	*ret = st;
	return 0;
}
