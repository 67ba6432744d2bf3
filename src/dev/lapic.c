/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lapic.c - the local APICs of all vCPUs of a VM (Intel SDM vol. 3, chapter 10)
 *
 * How it works
 * A vector is requested (IRR), in service (ISR), or both. The processor's priority is the higher
 * of the task priority and the class in service; a requested vector of a higher class is
 * deliverable. Engines ask "what is deliverable" before nearly every block, so the answer is kept
 * in pending[] and recomputed by lapic_update whenever IRR, ISR, TPR or the enable bit changed.
 *
 * Modes (SDM 10.12.5), by EN and EXTD of IA32_APIC_BASE:
 *
 *      disabled <--> xAPIC --> x2APIC --> disabled        anything else: #GP
 *
 * Entering "disabled" loses all state but the id. Disabled, the APIC accepts nothing and delivers
 * nothing. Software-disabled (SVR bit 8 clear) it takes no new fixed interrupts and all LVT
 * entries are masked, but INIT, NMI and start-up messages pass and what is in IRR stays
 * deliverable (SDM 10.4.7.2).
 *
 * Not offered: relocation of the MMIO page (#GP), an 8259 behind ExtINT, SMIs, the CMCI entry.
 */
#include "dev/lapic_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Version 0x14, highest LVT entry 5, EOI-broadcast suppression (SDM 10.4.8). */
#define VERSION (0x14u | (LVT_N - 1) << 16 | 1u << 24)

#define MSR_APIC_BASE 0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC 0x800u

#define ICR_DELIVERY_STATUS BIT(12)
/* 31:20, 17:16, 13; bit 12 is read-only in the manual's figure and so merely ignored. */
#define ICR_X2_RESERVED 0xfff32000ull

/* Bits that software can change in the LVT entries (SDM figure 10-8). */
static const u32 lvt_mask[LVT_N] = {
	[LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff,
	[LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,	[LVT_ERROR] = 0x100ff,
};

#define F(m) DEV_FIELD(struct lapic_st, m)
static const struct field_desc fields[] = {
	F(base),	 F(icr), F(irr),   F(isr),  F(tmr),	    F(timer_start),
	F(tsc_deadline), F(tpr), F(ldr),   F(dfr),  F(svr),	    F(esr),
	F(esr_new),	 F(lvt), F(tmict), F(tdcr), F(timer_first), DEV_FIELDS_END,
};
#undef F

/* --- priorities ------------------------------------------------------------------------------ */

static bool bit_get(const u64 *w, u8 v)
{
	return (w[v >> 6] >> (v & 63)) & 1;
}

static void bit_put(u64 *w, u8 v, bool on)
{
	w[v >> 6] = (w[v >> 6] & ~BIT(v & 63)) | (u64)on << (v & 63);
}

/* The highest vector in a set, or -1. */
static int highest(const u64 *w)
{
	for (int i = 3; i >= 0; i--)
		if (w[i])
			return 64 * i + 63 - __builtin_clzll(w[i]);
	return -1;
}

u32 lapic_ppr(const struct lapic *a)
{
	int isr = highest(a->st.isr);
	u32 serving = isr < 0 ? 0 : (u32)isr & 0xf0;

	return (a->st.tpr & 0xf0) >= serving ? a->st.tpr : serving; /* SDM 10.8.3.1 */
}

void lapic_update(struct lapic *a)
{
	struct lapics *l = a->l;
	int was = l->pending[a->index], v = -1;

	if (lapic_on(a)) {
		v = highest(a->st.irr);
		if (v >= 0 && ((u32)v & 0xf0) <= (lapic_ppr(a) & 0xf0))
			v = -1;
	}
	l->pending[a->index] = (s16)v;
	if (v >= 0 && v != was)
		l->cfg.cpu.irq(l->cfg.cpu.opaque, a->index);
}

bool lapic_fixed(struct lapic *a, u8 vector, bool level)
{
	if (!lapic_on(a) || !(a->st.svr & SVR_ENABLED))
		return false;
	if (vector < 16) {
		lapic_error(a, ESR_RECV_ILLEGAL);
		return false;
	}
	bit_put(a->st.tmr, vector, level);
	bit_put(a->st.irr, vector, true);
	lapic_update(a);
	return true;
}

void lapic_local(struct lapic *a, enum lapic_lvt n)
{
	u32 lvt = a->st.lvt[n];
	u32 dm = n == LVT_TIMER || n == LVT_ERROR ? DM_FIXED : (lvt >> 8) & 7;

	if ((lvt & LVT_MASKED) || !lapic_on(a))
		return;
	if (dm == DM_NMI)
		a->l->cfg.cpu.nmi(a->l->cfg.cpu.opaque, a->index);
	else if (dm == DM_FIXED && (lvt & 0xff) >= 16)
		lapic_fixed(a, (u8)lvt, false);
	else if (dm == DM_FIXED)
		a->st.esr_new |=
			ESR_RECV_ILLEGAL; /* not lapic_error: LVT_ERROR may be the culprit */
}

void lapic_error(struct lapic *a, u32 bits)
{
	a->st.esr_new |= bits;
	lapic_local(a, LVT_ERROR);
}

static void eoi(struct lapic *a)
{
	struct lapics *l = a->l;
	int v = highest(a->st.isr);

	if (v < 0)
		return;
	bit_put(a->st.isr, (u8)v, false);
	lapic_update(a);
	if (bit_get(a->st.tmr, (u8)v) && !(a->st.svr & SVR_NO_EOI_BROADCAST) && l->cfg.eoi)
		l->cfg.eoi(l->cfg.eoi_opaque, (u8)v);
}

/* --- registers ------------------------------------------------------------------------------- */

static u32 x2_ldr(u32 id)
{
	return (id >> 4) << 16 | 1u << (id & 0xf); /* SDM 10.12.10.2 */
}

static u32 set_word(const u64 *w, unsigned i)
{
	return (u32)(w[i / 2] >> (32 * (i & 1)));
}

/* 0, or -EPERM if there is no such register to read in the current mode. */
static int reg_read(struct lapic *a, unsigned reg, u32 *ret)
{
	const struct lapic_st *st = &a->st;
	bool x2 = lapic_x2(a);

	if (reg >= LAPIC_ISR && reg < LAPIC_TMR)
		*ret = set_word(st->isr, reg - LAPIC_ISR);
	else if (reg >= LAPIC_TMR && reg < LAPIC_IRR)
		*ret = set_word(st->tmr, reg - LAPIC_TMR);
	else if (reg >= LAPIC_IRR && reg < LAPIC_ESR)
		*ret = set_word(st->irr, reg - LAPIC_IRR);
	else if (reg >= LAPIC_LVT && reg < LAPIC_LVT + LVT_N)
		*ret = st->lvt[reg - LAPIC_LVT];
	else
		switch (reg) {
		case LAPIC_ID:
			*ret = x2 ? a->id : a->id << 24;
			break;
		case LAPIC_VERSION:
			*ret = VERSION;
			break;
		case LAPIC_TPR:
			*ret = st->tpr;
			break;
		case LAPIC_PPR:
			*ret = lapic_ppr(a);
			break;
		case LAPIC_LDR:
			*ret = st->ldr;
			break;
		case LAPIC_SVR:
			*ret = st->svr;
			break;
		case LAPIC_ESR:
			*ret = st->esr;
			break;
		case LAPIC_ICR:
			*ret = (u32)st->icr;
			break;
		case LAPIC_TMICT:
			*ret = st->tmict;
			break;
		case LAPIC_TMCCT:
			*ret = lapic_timer_count(a);
			break;
		case LAPIC_TDCR:
			*ret = st->tdcr;
			break;
		case LAPIC_APR:
		case LAPIC_RRD:
		case LAPIC_EOI:
			*ret = 0;
			return x2 ? -EPERM : 0;
		case LAPIC_DFR:
		case LAPIC_ICR2:
			*ret = reg == LAPIC_DFR ? st->dfr : (u32)(st->icr >> 32);
			return x2 ? -EPERM : 0;
		default:
			return -EPERM;
		}
	return 0;
}

static void write_svr(struct lapic *a, u32 val)
{
	a->st.svr = val & 0x11ff; /* no focus checking: bit 9 is reserved on current processors */
	if (a->st.svr & SVR_ENABLED)
		return;
	for (unsigned i = 0; i < LVT_N; i++)
		a->st.lvt[i] |= LVT_MASKED;
	lapic_timer_rearm(a);
}

static void write_lvt(struct lapic *a, enum lapic_lvt n, u32 val)
{
	val &= lvt_mask[n];
	if (!(a->st.svr & SVR_ENABLED))
		val |= LVT_MASKED;
	if (n == LVT_TIMER)
		lapic_timer_set_lvt(a, val);
	else
		a->st.lvt[n] = val;
}

/* Writes what both modes have. 0, or -EPERM if there is no such register to write. */
static int reg_write(struct lapic *a, unsigned reg, u32 val)
{
	if (reg >= LAPIC_LVT && reg < LAPIC_LVT + LVT_N) {
		write_lvt(a, (enum lapic_lvt)(reg - LAPIC_LVT), val);
		return 0;
	}
	switch (reg) {
	case LAPIC_TPR:
		a->st.tpr = val & 0xff;
		lapic_update(a);
		return 0;
	case LAPIC_EOI:
		eoi(a);
		return 0;
	case LAPIC_SVR:
		write_svr(a, val);
		return 0;
	case LAPIC_ESR:
		/* A write latches what was collected since the last one (SDM 10.5.3). */
		a->st.esr = a->st.esr_new;
		a->st.esr_new = 0;
		return 0;
	case LAPIC_TMICT:
		lapic_timer_set_count(a, val);
		return 0;
	case LAPIC_TDCR:
		lapic_timer_set_divide(a, val & 0xb);
		return 0;
	default:
		return -EPERM;
	}
}

static int xapic_write(struct lapic *a, unsigned reg, u32 val)
{
	switch (reg) {
	case LAPIC_LDR:
		a->st.ldr = val & 0xff000000;
		return 0;
	case LAPIC_DFR:
		a->st.dfr = val | 0x0fffffff;
		return 0;
	case LAPIC_ICR2:
		a->st.icr = (u64)(val & 0xff000000) << 32 | (u32)a->st.icr;
		return 0;
	case LAPIC_ICR:
		a->st.icr = (a->st.icr & ~0xffffffffull) | (val & 0xccfff);
		lapic_send_ipi(a, a->st.icr);
		return 0;
	case LAPIC_ID: /* read-only, as on processors since Nehalem, but no error */
		return 0;
	default:
		return reg_write(a, reg, val);
	}
}

/* Bits of an x2APIC register that may be set in a WRMSR; the rest must be zero (SDM 10.12.1.3). */
static u64 x2_allowed(unsigned reg)
{
	if (reg >= LAPIC_LVT && reg < LAPIC_LVT + LVT_N)
		return lvt_mask[reg - LAPIC_LVT] | ICR_DELIVERY_STATUS | BIT(14);
	switch (reg) {
	case LAPIC_TPR:
	case LAPIC_SELF_IPI:
		return 0xff;
	case LAPIC_SVR:
		return 0x13ff;
	case LAPIC_TMICT:
		return 0xffffffff;
	case LAPIC_TDCR:
		return 0xb;
	default:
		return 0; /* EOI, ESR: zero only */
	}
}

static int x2apic_write(struct lapic *a, unsigned reg, u64 val)
{
	if (reg == LAPIC_ICR) {
		if (val & ICR_X2_RESERVED)
			return -EPERM;
		a->st.icr = val & ~ICR_DELIVERY_STATUS;
		lapic_send_ipi(a, a->st.icr);
		return 0;
	}
	if (val & ~x2_allowed(reg))
		return -EPERM;
	if (reg == LAPIC_SELF_IPI) {
		if (val < 16)
			lapic_error(a, ESR_SEND_ILLEGAL);
		else
			lapic_fixed(a, (u8)val, false);
		return 0;
	}
	return reg_write(a, reg, (u32)val);
}

/* --- MMIO ------------------------------------------------------------------------------------- */

static struct lapic *mmio_apic(struct lapics *l, unsigned cpu)
{
	struct lapic *a = cpu < l->cfg.ncpus ? &l->cpu[cpu] : NULL;

	/* In x2APIC mode and disabled the page is not there (SDM 10.12.2). */
	return a && lapic_on(a) && !lapic_x2(a) ? a : NULL;
}

static u64 mmio_read(void *opaque, u64 off, unsigned size, unsigned cpu)
{
	struct lapic *a = mmio_apic(opaque, cpu);
	u32 val = 0;

	if (!a)
		return UINT64_MAX;
	if ((off & 15) + size > 4 && (off & 15))
		return 0; /* registers are the first four bytes of each 16 (SDM 10.4.1) */
	if (off >> 4 >= LAPIC_REGS || reg_read(a, (unsigned)(off >> 4), &val) < 0) {
		lapic_error(a, ESR_ILLEGAL_REG);
		return 0;
	}
	return val >> (8 * (off & 3));
}

static void mmio_write(void *opaque, u64 off, unsigned size, u64 val, unsigned cpu)
{
	struct lapic *a = mmio_apic(opaque, cpu);

	if (!a || size < 4 || (off & 15))
		return;
	if (off >> 4 >= LAPIC_REGS || xapic_write(a, (unsigned)(off >> 4), (u32)val) < 0)
		lapic_error(a, ESR_ILLEGAL_REG);
}

const struct bus_ops lapics_bus_ops = { .read = mmio_read, .write = mmio_write };

/* --- reset and modes -------------------------------------------------------------------------- */

/* After INIT or power-on: all but the id and IA32_APIC_BASE (SDM 10.4.7.1, 10.4.7.3). */
static void reset_registers(struct lapic *a)
{
	a->st = (struct lapic_st){ .base = a->st.base, .dfr = 0xffffffff, .svr = 0xff };
	for (unsigned i = 0; i < LVT_N; i++)
		a->st.lvt[i] = LVT_MASKED;
	if (lapic_x2(a))
		a->st.ldr = x2_ldr(a->id);
	lapic_timer_rearm(a);
	lapic_update(a);
}

static void set_base(struct lapic *a, u64 base)
{
	a->l->in_x2 -= lapic_x2(a);
	a->st.base = base;
	a->l->in_x2 += lapic_x2(a);
}

static int write_base(struct lapic *a, u64 val)
{
	u64 old = a->st.base, x2 = val & APIC_BASE_X2, en = val & APIC_BASE_EN;

	/* Reserved bits, or a relocation that is not offered. */
	if ((val & ~(APIC_BASE_BSP | APIC_BASE_X2 | APIC_BASE_EN)) != LAPIC_MMIO_BASE)
		return -EPERM;
	if (x2 && (!en || !(old & APIC_BASE_EN)))
		return -EPERM; /* invalid, or disabled -> x2APIC */
	if (!x2 && en && (old & APIC_BASE_X2))
		return -EPERM; /* x2APIC -> xAPIC */
	set_base(a, (val & ~APIC_BASE_BSP) | (old & APIC_BASE_BSP));
	if (!en && (old & APIC_BASE_EN)) {
		reset_registers(a);
	} else if (x2 && !(old & APIC_BASE_X2)) {
		a->st.ldr = x2_ldr(a->id);
		a->st.icr &= 0xffffffff; /* SDM 10.12.5.1 */
	}
	lapic_update(a);
	return 0;
}

static void power_on(struct lapic *a)
{
	const struct lapics_cfg *cfg = &a->l->cfg;
	u64 base = LAPIC_MMIO_BASE | APIC_BASE_EN;

	if (a->index == cfg->bsp)
		base |= APIC_BASE_BSP;
	if (cfg->start_x2apic)
		base |= APIC_BASE_X2;
	set_base(a, base);
	reset_registers(a);
}

/* --- what the engine asks -------------------------------------------------------------------- */

static int intc_pending(void *opaque, unsigned cpu)
{
	return ((struct lapics *)opaque)->pending[cpu];
}

static void intc_accept(void *opaque, unsigned cpu, int vector)
{
	struct lapic *a = &((struct lapics *)opaque)->cpu[cpu];

	if (vector < 0 || vector != a->l->pending[cpu])
		return;
	bit_put(a->st.irr, (u8)vector, false);
	bit_put(a->st.isr, (u8)vector, true);
	lapic_update(a);
}

static int intc_msr_read(void *opaque, unsigned cpu, u32 msr, u64 *ret_val)
{
	struct lapic *a = &((struct lapics *)opaque)->cpu[cpu];
	u32 val = 0;

	if (msr == MSR_APIC_BASE) {
		*ret_val = a->st.base;
	} else if (msr == MSR_TSC_DEADLINE) {
		*ret_val = lapic_timer_deadline(a);
	} else if (!lapic_x2(a) || msr < MSR_X2APIC || msr - MSR_X2APIC >= LAPIC_REGS) {
		return -EPERM;
	} else if (msr - MSR_X2APIC == LAPIC_ICR) {
		*ret_val = a->st.icr;
	} else {
		if (reg_read(a, msr - MSR_X2APIC, &val) < 0)
			return -EPERM;
		*ret_val = val;
	}
	return 0;
}

static int intc_msr_write(void *opaque, unsigned cpu, u32 msr, u64 val)
{
	struct lapic *a = &((struct lapics *)opaque)->cpu[cpu];

	if (msr == MSR_APIC_BASE)
		return write_base(a, val);
	if (msr == MSR_TSC_DEADLINE) {
		lapic_timer_set_deadline(a, val);
		return 0;
	}
	if (!lapic_x2(a) || msr < MSR_X2APIC || msr - MSR_X2APIC >= LAPIC_REGS)
		return -EPERM;
	return x2apic_write(a, msr - MSR_X2APIC, val);
}

static u64 intc_cr8_read(void *opaque, unsigned cpu)
{
	return ((struct lapics *)opaque)->cpu[cpu].st.tpr >> 4;
}

static void intc_cr8_write(void *opaque, unsigned cpu, u64 val)
{
	struct lapic *a = &((struct lapics *)opaque)->cpu[cpu];

	a->st.tpr = (u32)(val & 0xf) << 4;
	lapic_update(a);
}

static void intc_cpu_init(void *opaque, unsigned cpu)
{
	reset_registers(&((struct lapics *)opaque)->cpu[cpu]);
}

struct cpu_intc lapics_intc(struct lapics *l)
{
	return (struct cpu_intc){
		.pending = intc_pending,
		.accept = intc_accept,
		.msr_read = intc_msr_read,
		.msr_write = intc_msr_write,
		.cr8_read = intc_cr8_read,
		.cr8_write = intc_cr8_write,
		.cpu_init = intc_cpu_init,
		.opaque = l,
	};
}

void lapics_tsc_changed(struct lapics *l, unsigned cpu)
{
	lapic_timer_rearm(&l->cpu[cpu]);
}

void lapics_set_eoi(struct lapics *l, void (*fn)(void *opaque, u8 vector), void *opaque)
{
	l->cfg.eoi = fn;
	l->cfg.eoi_opaque = opaque;
}

/* --- device ---------------------------------------------------------------------------------- */

static void dev_reset(void *dev)
{
	struct lapics *l = dev;

	for (unsigned i = 0; i < l->cfg.ncpus; i++)
		power_on(&l->cpu[i]);
}

static void dev_resume(void *dev)
{
	struct lapics *l = dev;

	l->in_x2 = 0;
	for (unsigned i = 0; i < l->cfg.ncpus; i++) {
		struct lapic *a = &l->cpu[i];
		l->in_x2 += lapic_x2(a);
		lapic_timer_rearm(a);
		l->pending[i] = -1; /* so that the engine is told again */
		lapic_update(a);
	}
}

static void *dev_state(void *dev, unsigned i)
{
	struct lapics *l = dev;

	return i < l->cfg.ncpus ? &l->cpu[i].st : NULL;
}

static const struct device_ops device_ops = {
	.name = "lapic",
	.reset = dev_reset,
	.resume = dev_resume,
	.state = dev_state,
	.fields = fields,
};

struct device lapics_device(struct lapics *l)
{
	return (struct device){ &device_ops, l };
}

static int take_ids(struct lapics *l, const u32 *ids, struct err *e)
{
	u32 max = 0;

	for (unsigned i = 0; i < l->cfg.ncpus; i++)
		max = MAX(max, ids[i]);
	if (max > LAPIC_ID_MAX)
		return err_set(e, -EINVAL, "APIC id %u: at most %u is possible", max, LAPIC_ID_MAX);
	l->ids = max + 1;
	l->by_id = calloc(l->ids, sizeof(*l->by_id));
	if (!l->by_id)
		return err_set(e, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < l->cfg.ncpus; i++) {
		if (l->by_id[ids[i]])
			return err_set(e, -EINVAL, "APIC id %u is used twice", ids[i]);
		l->by_id[ids[i]] = (u16)(i + 1);
	}
	return 0;
}

int lapics_new(const struct lapics_cfg *cfg, struct err *e, struct lapics **ret_lapics)
{
	struct lapics *l;
	int r;

	if (!cfg->ncpus || cfg->ncpus > LAPIC_CPUS_MAX || cfg->bsp >= cfg->ncpus)
		return err_set(e, -EINVAL, "%u vCPUs: 1 to %u are possible", cfg->ncpus,
			       LAPIC_CPUS_MAX);
	l = calloc(1, sizeof(*l));
	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	l->cfg = *cfg;
	l->cfg.apic_ids = NULL;
	l->cpu = calloc(cfg->ncpus, sizeof(*l->cpu));
	l->pending = calloc(cfg->ncpus, sizeof(*l->pending));
	r = l->cpu && l->pending ? take_ids(l, cfg->apic_ids, e)
				 : err_set(e, -ENOMEM, "out of memory");
	if (r < 0) {
		lapics_free(l);
		return r;
	}
	for (unsigned i = 0; i < cfg->ncpus; i++) {
		l->cpu[i] = (struct lapic){ .l = l, .index = i, .id = cfg->apic_ids[i] };
		l->pending[i] = -1;
		lapic_timer_init(&l->cpu[i]);
	}
	dev_reset(l);
	*ret_lapics = l;
	return 0;
}

void lapics_free(struct lapics *l)
{
	if (!l)
		return;
	for (unsigned i = 0; l->cpu && i < l->cfg.ncpus; i++)
		if (l->cpu[i].l) /* not yet set up otherwise */
			gtimer_cancel(&l->cpu[i].timer);
	free(l->cpu);
	free(l->pending);
	free(l->by_id);
	free(l);
}
