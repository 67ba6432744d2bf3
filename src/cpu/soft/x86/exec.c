/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec.c - the loop around blocks: interrupts, exceptions, exact budgets, single steps
 *
 * How it works
 * Handlers run one into the next and come back here when a block is unknown, the budget runs
 * short, or something must be looked at. Each pass: deliver what is pending, look the block up,
 * run it whole, or the part that fits the budget. A fault or an access that must run alone comes
 * back by longjmp with the untouched state of before the instruction.
 *
 * `part` holds a copy of the ops to run when a block is not run whole, closed by an op that
 * returns here; `resume` remembers the block and the position, so that the rest needs no block
 * of its own.
 */
#include "cpu/soft/x86/vcpu.h"

#include "cpu/soft/soft_priv.h"
#include "cpu/soft/x86/jit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void vcpu_mode_changed(struct vcpu *v)
{
	struct x86_cpu *c = &v->c;
	bool user = c->cpl == 3;
	bool checks = (c->dr7 & 0xff) || (user && (c->rflags & X86_AC) && (c->cr0 & CR0_AM));

	v->code_mode = x86_code64(c) ? CODE_64 : c->seg[X86_CS].attr & SEG_DB ? CODE_32 : CODE_16;
	/* Segment bases are part of where a RIP leads, outside 64-bit mode. */
	if (v->code_mode != CODE_64 && v->legacy_cs_base != c->seg[X86_CS].base) {
		v->legacy_cs_base = c->seg[X86_CS].base;
		v->gen[0]++;
		v->gen[1]++;
		v->resume = NULL;
	}
	for (int h = 0; h < 2; h++)
		v->jc_salt[h] = (v->gen[h] & 0xfff) << 48 | (u64)(v->code_mode + 1) << 60 |
				(u64)user << 62 | (u64)h << 63;
	v->tlb = checks		      ? v->empty_tlb
		 : user		      ? v->tlbs[TLB_USER]->e
		 : c->rflags & X86_AC ? v->tlbs[TLB_KERNEL_AC]->e
				      : v->tlbs[TLB_KERNEL]->e;
	v->stepping = (c->rflags & X86_TF) || (c->dr7 & 0xff);
	v->sse_ok = !(c->cr0 & (CR0_EM | CR0_TS)) && (c->cr4 & CR4_OSFXSR);
	v->x87_ok = !(c->cr0 & (CR0_EM | CR0_TS));
}

attr_noreturn void vcpu_raise(struct vcpu *v, const struct op *op)
{
	v->c.rip = op_rip(v, op);
	v->budget += v->cur->n - op->idx;
	longjmp(v->env, LEAVE_EXC);
}

attr_noreturn void vcpu_alone(struct vcpu *v, const struct op *op)
{
	v->c.rip = op_rip(v, op);
	v->budget += v->cur->n - op->idx;
	v->resume = v->cur == &v->part_block ? v->part_of : v->cur;
	if (v->resume->dead)
		v->resume = NULL;
	v->resume_base = v->c.r[X86_BLOCK];
	v->resume_k = op->idx;
	v->resume_rip = v->c.rip;
	longjmp(v->env, LEAVE_ALONE);
}

attr_noreturn void vcpu_triple(struct vcpu *v, const struct op *op)
{
	v->budget += v->cur->n - op->idx;
	longjmp(v->env, LEAVE_TRIPLE);
}

/* The end of a partial run: the next instruction is at op->ip. */
static const struct op *op_part_end(struct vcpu *v, const struct op *op)
{
	v->c.rip = v->c.r[X86_BLOCK] + op->ip;
	if (!v->part_of->dead) {
		v->resume = v->part_of;
		v->resume_base = v->c.r[X86_BLOCK];
		v->resume_k = op->idx;
		v->resume_rip = v->c.rip;
	}
	return NULL;
}

static void run_ops(struct vcpu *v, const struct op *op)
{
	while (op)
		op = op->fn(v, op);
}

/* Runs ops [k, k + n) of @b, which starts at @base. */
static void run_part(struct vcpu *v, const struct block *b, u64 base, u32 k, u32 n)
{
	v->stat.part++;
	memcpy(v->part, b->ops + k, n * sizeof(struct op));
	if (k == 0)
		v->part[0].fn = b->fn0; /* not into host code */
	if (k + n <= b->n) {
		struct op *end = &v->part[n];
		const struct op *last = &b->ops[k + n - 1];
		/* Behind the block's last instruction stands its own fall-through, or nothing. */
		*end = (struct op){ .fn = op_part_end,
				    .ip = (u16)(last->ip + last->len),
				    .idx = (u8)(k + n) };
	}
	/* The part ends at k + n, so idx of its ops and cur->n agree for the refund. */
	v->part_block.gpa = b->gpa;
	v->part_block.gpa2 = b->gpa2;
	v->part_block.len = b->len;
	v->part_block.n = (u8)(k + n);
	v->part_of = b;
	v->cur = &v->part_block;
	v->budget -= n;
	v->c.r[X86_BLOCK] = base;
	v->resume = NULL;
	run_ops(v, v->part);
}

/*
 * While one instruction runs by itself the rest of the budget is out of reach, so that a branch
 * does not go straight into the next block.
 */
static void budget_hold(struct vcpu *v)
{
	v->held = v->budget - 1;
	v->start -= v->held;
	v->budget = 1;
}

static void budget_release(struct vcpu *v)
{
	v->start += v->held;
	v->budget += v->held;
	v->held = 0;
}

static void run_one(struct vcpu *v, const struct block *b, u64 base, u32 k)
{
	budget_hold(v);
	run_part(v, b, base, k, 1);
	budget_release(v);
}

/* Delivers c->exc; true if the hook wants the VM to stop instead. */
static int deliver_exc(struct vcpu *v)
{
	struct soft *s = v->s;

	v->stat.exc++;
	v->resume = NULL;
	v->c.shadow = 0;
	if (unlikely(s->exc_hook != NULL) && s->exc_hook(s->exc_opaque, &v->c)) {
		soft_stop(s, ENGINE_STOPPED);
		return 0;
	}
	v->budget--; /* so that a guest that only faults still uses time up */
	return x86_deliver(&v->c, X86_EV_EXC, v->c.exc.vector, 0);
}

/* Interrupts and NMIs that can be taken now. Returns as x86_deliver. */
static int take_events(struct vcpu *v)
{
	struct soft *s = v->s;
	struct x86_cpu *c = &v->c;

	if (unlikely(s->dbg.step >= 0)) /* they wait while a debugger steps */
		return 0;
	v->attn = false;
	if (c->wait_sipi)
		return 0;
	if (v->sti_at == vcpu_count(v) && !c->halted)
		c->shadow = 1;
	if (c->nmi_pending && !c->nmi_blocked && !c->shadow) {
		c->nmi_pending = false;
		v->resume = NULL;
		v->budget--;
		return x86_deliver(c, X86_EV_NMI, X86_NMI, 0);
	}
	if (!s->intc.pending)
		return 0;
	int vec = s->intc.pending(s->intc.opaque, c->index);
	if (vec < 0) {
		v->attn = c->nmi_pending;
		return 0;
	}
	if (!(c->rflags & X86_IF) || c->shadow) {
		v->attn = true;
		return 0;
	}
	s->intc.accept(s->intc.opaque, c->index, vec);
	v->stat.intr++;
	v->resume = NULL;
	v->attn = true; /* look again: more may be pending */
	v->budget--;
	return x86_deliver(c, X86_EV_INTR, (u8)vec, 0);
}

/* One instruction with everything that debugging and interrupt shadows ask for. */
static int step(struct vcpu *v, const struct block *b, u64 base, u32 k)
{
	struct x86_cpu *c = &v->c;
	bool tf = (c->rflags & X86_TF) != 0;
	u8 shadow = c->shadow;
	u64 dr6 = 0;

	if (unlikely(c->dr7 & 0xff) && !(c->rflags & X86_RF) && !shadow) {
		u64 lin = c->rip + (v->code_mode == CODE_64 ? 0 : c->seg[X86_CS].base);
		dr6 = x86_dr_match(c, lin, 1, X86_EXEC);
		if (dr6) {
			c->exc = (struct x86_exc){ .vector = X86_DB, .dr6 = dr6 };
			return deliver_exc(v);
		}
	}
	v->data_break = 0;
	v->no_trap = false; /* may be set by an instruction that was not run from here */
	u64 rf = c->rflags & X86_RF;
	run_one(v, b, base, k);
	c->rflags &= ~rf;
	if (shadow)
		c->shadow = 0;
	dr6 = v->data_break;
	if (tf && !v->no_trap)
		dr6 |= 1u << 14; /* BS */
	if (!dr6 || c->shadow)
		return 0;
	c->exc = (struct x86_exc){ .vector = X86_DB, .dr6 = dr6 };
	return deliver_exc(v);
}

int vcpu_run(struct vcpu *v)
{
	struct soft *s = v->s;
	struct x86_cpu *c = &v->c;
	int r;

	r = setjmp(v->env);
	if (r)
		budget_release(v);
	switch (r) {
	case LEAVE_EXC:
		v->alone = false;
		v->cur = NULL;
		r = deliver_exc(v);
		if (r)
			return r;
		break;
	case LEAVE_ALONE:
		v->cur = NULL;
		v->alone = true;
		v->stat.alone++;
		break;
	case LEAVE_TRIPLE:
		v->alone = false;
		v->cur = NULL;
		return X86_SHUTDOWN;
	default:
		v->alone = false;
		break;
	}
	for (;;) {
		v->cur = NULL;
		if (s->dead)
			blocks_reap(s);
		if (unlikely(s->stop))
			return 0;
		if (unlikely(v->attn) && !v->alone) {
			r = take_events(v);
			if (r)
				return r;
		}
		if (v->budget <= 0 || v->end_turn || c->halted || c->wait_sipi)
			return 0;

		const struct block *b;
		u64 base = c->rip;
		u32 k = 0;
		if (v->resume && v->resume_rip == c->rip) {
			b = v->resume;
			base = v->resume_base;
			k = v->resume_k;
			if (k >= b->n) {
				b = NULL;
				k = 0;
				base = c->rip;
			}
		} else {
			b = NULL;
		}
		if (!b) {
			b = block_get(v);
			if (!b) {
				/* The fetch faulted: at RIP, before any instruction. */
				v->alone = false;
				r = deliver_exc(v);
				if (r)
					return r;
				continue;
			}
		}
		v->resume = NULL;
		if (unlikely(b->stops) && k == 0 && !v->alone && debug_stop_here(v))
			return 0;
		if (unlikely(v->stepping || c->shadow)) {
			v->alone = true;
			r = step(v, b, base, k);
			v->alone = false;
			if (r)
				return r;
		} else if (v->alone) {
			run_one(v, b, base, k);
			v->alone = false;
		} else if (k == 0 && v->budget >= b->n) {
			v->budget -= b->n;
			v->cur = b;
			c->r[X86_BLOCK] = base;
			run_ops(v, b->ops);
		} else {
			u32 n = (u32)MIN((s64)(b->n - k), v->budget);
			run_part(v, b, base, k, n);
		}
	}
}

/* --- struct x86_ops ---------------------------------------------------------------------- */

static int op_lin_read(struct x86_cpu *c, gva_t a, unsigned size, bool user, u64 *ret)
{
	return lin_ld(vcpu_of(c), a, size, user, !user && !c->lin_explicit, ret);
}

static int op_lin_write(struct x86_cpu *c, gva_t a, unsigned size, bool user, u64 val)
{
	return lin_st(vcpu_of(c), a, size, user, !user && !c->lin_explicit, val);
}

static int op_lin_probe_write(struct x86_cpu *c, gva_t a, unsigned len, bool user)
{
	for (u64 p = a & ~0xfffull; p < a + len; p += GUEST_PAGE_SIZE) {
		struct x86_walk w;
		int r = x86_walk(c, MAX(p, a), X86_WRITE, user, !user && !c->lin_explicit, &w);
		if (r)
			return r;
	}
	return 0;
}

static u64 op_phys_read(struct x86_cpu *c, gpa_t a, unsigned size)
{
	const void *p = mem_ptr(vcpu_of(c)->s->cfg.mem, a, size);

	if (!p)
		return ~0ull >> (64 - 8 * size);
	return size == 4 ? *(const u32 *)p : *(const u64 *)p;
}

static void op_phys_or(struct x86_cpu *c, gpa_t a, unsigned size, u64 bits)
{
	struct soft *s = vcpu_of(c)->s;
	void *p = mem_ptr(s->cfg.mem, a, size);

	if (!p)
		return;
	if (page_has_code(s, a))
		blocks_invalidate(s, a, size);
	if (size == 4)
		*(u32 *)p |= (u32)bits;
	else
		*(u64 *)p |= bits;
}

static void op_flush_all(struct x86_cpu *c)
{
	tlb_flush_all(vcpu_of(c));
}

static void op_flush_nonglobal(struct x86_cpu *c)
{
	tlb_flush_nonglobal(vcpu_of(c));
}

static void op_flush_page(struct x86_cpu *c, gva_t a)
{
	tlb_flush_page(vcpu_of(c), a);
}

static void op_mode_changed(struct x86_cpu *c)
{
	vcpu_mode_changed(vcpu_of(c));
}

static u64 op_tsc(struct x86_cpu *c)
{
	u64 ns = soft_now(vcpu_of(c)->s);

	return c->tsc_khz == 1000000 ? ns : (u64)((u128)ns * c->tsc_khz / 1000000);
}

static int op_apic_rdmsr(struct x86_cpu *c, u32 msr, u64 *ret)
{
	const struct cpu_intc *i = &vcpu_of(c)->s->intc;

	if (!i->msr_read || i->msr_read(i->opaque, c->index, msr, ret) < 0)
		return x86_fault_err(c, X86_GP, 0);
	return 0;
}

static int op_apic_wrmsr(struct x86_cpu *c, u32 msr, u64 val)
{
	const struct cpu_intc *i = &vcpu_of(c)->s->intc;

	if (!i->msr_write || i->msr_write(i->opaque, c->index, msr, val) < 0)
		return x86_fault_err(c, X86_GP, 0);
	return 0;
}

static u64 op_cr8_read(struct x86_cpu *c)
{
	const struct cpu_intc *i = &vcpu_of(c)->s->intc;

	return i->cr8_read ? i->cr8_read(i->opaque, c->index) : 0;
}

static void op_cr8_write(struct x86_cpu *c, u64 val)
{
	const struct cpu_intc *i = &vcpu_of(c)->s->intc;

	if (i->cr8_write)
		i->cr8_write(i->opaque, c->index, val);
}

const struct x86_ops vcpu_x86_ops = {
	.lin_read = op_lin_read,
	.lin_write = op_lin_write,
	.lin_probe_write = op_lin_probe_write,
	.phys_read = op_phys_read,
	.phys_or = op_phys_or,
	.tlb_flush_all = op_flush_all,
	.tlb_flush_nonglobal = op_flush_nonglobal,
	.tlb_flush_page = op_flush_page,
	.mode_changed = op_mode_changed,
	.tsc = op_tsc,
	.apic_rdmsr = op_apic_rdmsr,
	.apic_wrmsr = op_apic_wrmsr,
	.cr8_read = op_cr8_read,
	.cr8_write = op_cr8_write,
};

/* Frames of signal handlers, with all the vector state that a kernel saves in them. */
#define SIGNAL_ROOM (32u << 10)

struct vcpu *vcpu_alloc(void)
{
	size_t bytes = ALIGN_UP(SIGNAL_ROOM + sizeof(struct vcpu), (size_t)64);
	u8 *p = aligned_alloc(64, bytes);

	if (!p)
		return NULL;
	memset(p + SIGNAL_ROOM, 0, bytes - SIGNAL_ROOM);
	return (struct vcpu *)(void *)(p + SIGNAL_ROOM);
}

int vcpu_setup(struct vcpu *v, struct soft *s, unsigned index)
{
	v->s = s;
	v->empty_tlb = calloc(TLB_SIZE, sizeof(*v->empty_tlb));
	if (!v->empty_tlb)
		return -ENOMEM;
	for (u32 i = 0; i < TLB_SIZE; i++)
		v->empty_tlb[i].rtag = v->empty_tlb[i].wtag = TLB_NONE(i);
	for (int k = 0; k < TLB_KINDS; k++) {
		v->tlbs[k] = calloc(1, sizeof(*v->tlbs[k]));
		if (!v->tlbs[k])
			return -ENOMEM;
		for (u32 i = 0; i < TLB_SIZE; i++)
			v->tlbs[k]->e[i].rtag = v->tlbs[k]->e[i].wtag = TLB_NONE(i);
	}
	if (s->jit)
		jit_attach(s->jit, v);
	v->c.index = index;
	v->c.ops = &vcpu_x86_ops;
	v->c.engine = v;
	v->c.phys_mask = s->cfg.phys_mask;
	v->c.cr4_allowed = s->cfg.cr4_allowed;
	v->c.xcr0_allowed = s->cfg.xcr0_allowed;
	v->c.tsc_khz = s->cfg.tsc_khz;
	if (s->cfg.cpuid)
		v->c.cpuid = s->cfg.cpuid(s->cfg.cpuid_opaque, index, &v->c.cpuid_n);
	x86_reset(&v->c);
	v->c.wait_sipi = index != 0;
	vcpu_mode_changed(v);
	return 0;
}

void vcpu_free(struct vcpu *v)
{
	if (!v)
		return;
	for (int k = 0; k < TLB_KINDS; k++)
		free(v->tlbs[k]);
	free(v->empty_tlb);
	free((u8 *)v - SIGNAL_ROOM);
}
