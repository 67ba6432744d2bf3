/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event.c - delivery of exceptions and interrupts (SDM vol. 3, chapter 6)
 *
 * How it works
 * One attempt to deliver an event either commits everything or leaves the CPU as it was, with a
 * fault in cpu->exc. x86_deliver loops: table 6-5 says whether the fault replaces the event (it
 * is delivered next, with the same return address), turns into #DF, or shuts the CPU down. The
 * loop ends because delivery raises contributory and page faults only, and each turn moves up:
 * benign, contributory, page fault, #DF, shutdown.
 *
 * A fault during a software interrupt belongs to the instruction and goes back to the caller.
 * Task gates are not done (docs/quirks.md): #GP(vector).
 */
#include "isa/x86/sys_priv.h"

struct event {
	u8 vector;
	bool soft;    /* gate privilege is checked */
	bool has_err; /* an error code is pushed in protected mode */
	u32 err;
	u64 rip;    /* to push */
	u64 rflags; /* to push */
};

/* Error code of a fault that concerns IDT entry @vector. */
static u32 idt_err(u8 vector)
{
	return vector * 8u + 2;
}

static int idt_fault(struct x86_cpu *c, const struct event *ev, u8 exc)
{
	return x86_fault_err(c, exc, idt_err(ev->vector));
}

/* --- real mode -------------------------------------------------------------------------------- */

static int deliver_real(struct x86_cpu *c, const struct event *ev)
{
	struct x86_stack st;
	u64 entry;

	if (ev->vector * 4u + 3 > c->idtr.limit)
		return idt_fault(c, ev, X86_GP);
	if (c->ops->lin_read(c, x86_lin(c, c->idtr.base + ev->vector * 4u), 4, false, &entry))
		return X86_FAULT;
	x86_stack_cur(c, &st);
	if (x86_push(c, &st, 2, ev->rflags) || x86_push(c, &st, 2, c->seg[X86_CS].sel) ||
	    x86_push(c, &st, 2, ev->rip))
		return X86_FAULT;
	c->r[X86_RSP] = x86_stack_rsp(c, &st);
	x86_put_rflags(c, x86_get_rflags(c) & ~(u64)(X86_IF | X86_TF | X86_AC | X86_RF));
	x86_seg_real(c, X86_CS, (u16)(entry >> 16));
	c->rip = entry & 0xffff;
	return 0;
}

/* --- gates ------------------------------------------------------------------------------------ */

struct idt_gate {
	u64 off;
	u16 sel;
	unsigned size; /* of each word pushed: 2, 4, 8 */
	unsigned ist;
	bool intr; /* interrupt gate: clears IF */
	struct x86_desc d;
	struct x86_seg cs;
	bool inner;
	unsigned cpl; /* in the handler */
};

static int gate_code(struct x86_cpu *c, struct idt_gate *g)
{
	unsigned dpl;

	if (sel_null(g->sel))
		return x86_fault_err(c, X86_GP, 0);
	if (x86_desc_read(c, g->sel, X86_GP, &g->d))
		return X86_FAULT;
	x86_desc_seg(&g->d, g->sel, &g->cs);
	dpl = seg_dpl(&g->cs);
	if (!seg_is_code(&g->cs) || dpl > c->cpl ||
	    (x86_long_mode(c) && (g->cs.attr & (SEG_L | SEG_DB)) != SEG_L))
		return x86_fault_err(c, X86_GP, sel_err(g->sel));
	if (!(g->cs.attr & SEG_P))
		return x86_fault_err(c, X86_NP, sel_err(g->sel));
	g->inner = !seg_is_conforming(&g->cs) && dpl < c->cpl;
	g->cpl = g->inner ? dpl : c->cpl;
	/* Virtual-8086 mode is left to privilege 0 only. */
	if (x86_v86_mode(c) && (!g->inner || g->cpl != 0))
		return x86_fault_err(c, X86_GP, sel_err(g->sel));
	return 0;
}

/* Reads and checks the IDT entry, then the code segment that it names. */
static int gate_read(struct x86_cpu *c, const struct event *ev, struct idt_gate *ret)
{
	struct idt_gate g = { 0 };
	unsigned esize = x86_long_mode(c) ? 16 : 8;
	gva_t at = x86_lin(c, c->idtr.base + (u64)ev->vector * esize);
	unsigned type;
	u64 lo, hi = 0;

	if (ev->vector * esize + esize - 1 > c->idtr.limit)
		return idt_fault(c, ev, X86_GP);
	if (c->ops->lin_read(c, at, 8, false, &lo) ||
	    (esize == 16 && c->ops->lin_read(c, x86_lin(c, at + 8), 8, false, &hi)))
		return X86_FAULT;
	type = (lo >> 40) & 0x1f;
	if (type != SYS_INT && type != SYS_TRAP &&
	    (x86_long_mode(c) || (type != SYS_INT16 && type != SYS_TRAP16)))
		return idt_fault(c, ev, X86_GP);
	if (ev->soft && ((lo >> 45) & 3) < c->cpl)
		return idt_fault(c, ev, X86_GP);
	if (!(lo & BIT(47)))
		return idt_fault(c, ev, X86_NP);
	g.sel = (u16)(lo >> 16);
	g.off = (lo & 0xffff) | ((lo >> 32) & 0xffff0000) | (hi & 0xffffffff) << 32;
	g.intr = !(type & 1);
	g.size = esize == 16 ? 8 : type & 8 ? 4 : 2;
	if (esize == 16)
		g.ist = (lo >> 32) & 7;
	if (g.size == 2)
		g.off &= 0xffff;
	if (gate_code(c, &g))
		return X86_FAULT;
	*ret = g;
	return 0;
}

/* Picks the stack on which the frame goes. */
static int gate_stack(struct x86_cpu *c, const struct idt_gate *g, struct x86_stack *st)
{
	if (x86_long_mode(c)) {
		if (g->inner || g->ist) {
			if (x86_stack_tss(c, g->cpl, g->ist, st))
				return X86_FAULT;
			/* An IST stack at the same privilege keeps SS (SDM vol. 3, 6.14.4). */
			if (!g->inner)
				st->ss = c->seg[X86_SS];
		} else {
			x86_stack_cur(c, st);
			st->is64 = true;
		}
		st->sp &= ~15ull;
		return 0;
	}
	if (g->inner)
		return x86_stack_tss(c, g->cpl, 0, st);
	x86_stack_cur(c, st);
	return 0;
}

static int push_frame(struct x86_cpu *c, const struct event *ev, const struct idt_gate *g,
		      struct x86_stack *st)
{
	static const u8 v86[] = { X86_GS, X86_FS, X86_DS, X86_ES };

	if (x86_v86_mode(c))
		for (unsigned i = 0; i < ARRAY_LEN(v86); i++)
			if (x86_push(c, st, g->size, c->seg[v86[i]].sel))
				return X86_FAULT;
	if (g->inner || x86_long_mode(c))
		if (x86_push(c, st, g->size, c->seg[X86_SS].sel) ||
		    x86_push(c, st, g->size, c->r[X86_RSP]))
			return X86_FAULT;
	if (x86_push(c, st, g->size, ev->rflags) || x86_push(c, st, g->size, c->seg[X86_CS].sel) ||
	    x86_push(c, st, g->size, ev->rip))
		return X86_FAULT;
	if (ev->has_err && x86_push(c, st, g->size, ev->err))
		return X86_FAULT;
	return 0;
}

static int deliver_prot(struct x86_cpu *c, const struct event *ev)
{
	static const u8 data[] = { X86_ES, X86_DS, X86_FS, X86_GS };
	u64 clear = X86_TF | X86_NT | X86_RF | X86_VM;
	bool from_v86 = x86_v86_mode(c);
	struct x86_stack st;
	struct idt_gate g;

	if (gate_read(c, ev, &g) || gate_stack(c, &g, &st))
		return X86_FAULT;
	if (x86_long_mode(c) ? !x86_canonical(g.off) : g.off > g.cs.limit)
		return x86_fault_err(c, X86_GP, 0);
	if (push_frame(c, ev, &g, &st) || x86_desc_touch(c, &g.d))
		return X86_FAULT;

	if (g.intr)
		clear |= X86_IF;
	x86_put_rflags(c, x86_get_rflags(c) & ~clear);
	if (from_v86)
		for (unsigned i = 0; i < ARRAY_LEN(data); i++)
			c->seg[data[i]] = (struct x86_seg){ 0 };
	c->seg[X86_SS] = st.ss;
	c->r[X86_RSP] = x86_stack_rsp(c, &st);
	c->seg[X86_CS] = g.cs;
	c->seg[X86_CS].sel = (u16)((g.sel & 0xfffc) | g.cpl);
	c->seg[X86_CS].attr |= TYPE_ACCESSED;
	c->rip = g.off;
	return 0;
}

/* --- table 6-5 -------------------------------------------------------------------------------- */

enum exc_class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum exc_class exc_class(u8 vector)
{
	switch (vector) {
	case X86_DE:
	case X86_TS:
	case X86_NP:
	case X86_SS_EXC:
	case X86_GP:
		return CONTRIBUTORY;
	case X86_PF_EXC:
		return PAGE_FAULT;
	case X86_DF_EXC:
		return DOUBLE_FAULT;
	default:
		return BENIGN;
	}
}

/* What is to be delivered after @first could not be, because of @second. */
static int combine(u8 first, u8 second, u8 *ret)
{
	enum exc_class a = exc_class(first), b = exc_class(second);

	if (a == DOUBLE_FAULT)
		return X86_SHUTDOWN;
	if ((a == CONTRIBUTORY && b == CONTRIBUTORY) || (a == PAGE_FAULT && b != BENIGN))
		*ret = X86_DF_EXC;
	else
		*ret = second;
	return 0;
}

/* CR2 and DR6 tell about an exception as soon as it is recognized. */
static void note_exception(struct x86_cpu *c)
{
	if (c->exc.vector == X86_PF_EXC)
		c->cr2 = c->exc.cr2;
	if (c->exc.vector == X86_DB) {
		c->dr6 |= c->exc.dr6;
		c->dr7 &= ~0x2000ull; /* GD */
	}
}

/* Fault-class exceptions push RF = 1, so that the instruction is not stopped twice (vol.
 * 3, 17.3.1.1). */
static bool pushes_rf(u8 vector)
{
	switch (vector) {
	case X86_DB:
	case X86_NMI:
	case X86_BP:
	case X86_OF_EXC:
	case X86_DF_EXC:
	case X86_MC:
		return false;
	default:
		return true;
	}
}

static int attempt(struct x86_cpu *c, const struct event *ev)
{
	int r = x86_real_mode(c) ? deliver_real(c, ev) : deliver_prot(c, ev);

	if (r == 0)
		x86_mode_sync(c);
	return r;
}

/* Delivers c->exc; @outer is the event whose delivery raised it, or NULL. */
static int deliver_exception(struct x86_cpu *c, const struct event *outer)
{
	bool nested = outer != NULL;
	u8 vector = nested ? outer->vector : c->exc.vector;
	/* An external interrupt is benign whatever its number; an exception vector is not. */
	bool benign = nested;

	for (;;) {
		struct event ev = { .rip = c->rip, .rflags = x86_get_rflags(c) };
		u8 next = c->exc.vector;

		note_exception(c);
		if (nested) {
			if (!benign && combine(vector, c->exc.vector, &next))
				return X86_SHUTDOWN;
			/* Faults met while delivering something else carry EXT (vol. 3, 6.13). */
			if (c->exc.has_err && c->exc.vector != X86_PF_EXC &&
			    c->exc.vector != X86_AC_EXC)
				c->exc.err |= 1;
			if (next == X86_DF_EXC)
				x86_fault_err(c, X86_DF_EXC, 0);
		}
		vector = next;
		ev.vector = vector;
		ev.has_err = c->exc.has_err;
		ev.err = c->exc.err;
		if (pushes_rf(vector))
			ev.rflags |= X86_RF;
		if (attempt(c, &ev) == 0)
			return 0;
		nested = true;
		benign = false;
	}
}

int x86_deliver(struct x86_cpu *c, enum x86_event kind, u8 vector, u64 next)
{
	struct event ev = { .vector = vector, .rip = c->rip, .rflags = x86_get_rflags(c) };

	c->halted = false;
	c->shadow = 0;
	switch (kind) {
	case X86_EV_EXC:
		return deliver_exception(c, NULL);
	case X86_EV_SOFT:
		/* INT n (but not INT3, INTO) is IOPL-sensitive in virtual-8086 mode. */
		if (x86_v86_mode(c) && x86_iopl(c) < 3 && vector != X86_BP && vector != X86_OF_EXC)
			return x86_fault_err(c, X86_GP, 0);
		ev.soft = true;
		ev.rip = next;
		return attempt(c, &ev);
	case X86_EV_NMI:
		ev.vector = X86_NMI;
		c->nmi_blocked = true;
		break;
	case X86_EV_ICEBP:
		ev.vector = X86_DB;
		ev.rip = next;
		break;
	case X86_EV_INTR:
		break;
	}
	if (attempt(c, &ev) == 0)
		return 0;
	return deliver_exception(c, &ev);
}
