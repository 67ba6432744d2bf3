/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lapic_timer.c - the local APIC's timer (SDM 10.5.4)
 *
 * How it works
 * Nothing counts. A running count is a start time and a first count; the current count and the
 * next expiry are arithmetic on guest time. A host-side timer is armed only while an expiry would
 * raise an interrupt, so a masked periodic timer does not keep an idle guest from jumping to its
 * next real event (or a dead one from being recognized as dead).
 *
 * The divider and the one-shot/periodic mode may change while counting: the count goes on from
 * where it is, at the new rate. Changing to or from TSC-deadline mode stops everything.
 */
#include "dev/lapic_priv.h"

static u32 mode(const struct lapic *a)
{
	return LVT_TIMER_MODE(a->st.lvt[LVT_TIMER]);
}

static bool masked(const struct lapic *a)
{
	return (a->st.lvt[LVT_TIMER] & LVT_MASKED) != 0;
}

/* Nanoseconds per count. TDCR bits 3, 1, 0: divide by 2, 4 .. 128, and 111 by 1. */
static u64 count_ns(const struct lapic *a)
{
	u32 d = (a->st.tdcr & 3) | ((a->st.tdcr >> 1) & 4);

	return (u64)LAPIC_TICK_NS << ((d + 1) & 7);
}

static u64 now(const struct lapic *a)
{
	return gclock_now(a->l->cfg.clk);
}

static u64 deadline_ns(const struct lapic *a)
{
	const struct lapics_cfg *cfg = &a->l->cfg;

	if (!cfg->tsc_to_ns)
		return a->st.tsc_deadline;
	return cfg->tsc_to_ns(cfg->tsc_opaque, a->index, a->st.tsc_deadline);
}

u32 lapic_timer_count(const struct lapic *a)
{
	u64 gone;

	if (!a->st.timer_first || mode(a) > TIMER_PERIODIC)
		return 0;
	gone = (now(a) - a->st.timer_start) / count_ns(a);
	if (gone < a->st.timer_first)
		return a->st.timer_first - (u32)gone;
	if (mode(a) == TIMER_ONESHOT || !a->st.tmict)
		return 0;
	return a->st.tmict - (u32)((gone - a->st.timer_first) % a->st.tmict);
}

/* The first expiry of the count after @t, or never. */
static u64 next_expiry(const struct lapic *a, u64 t)
{
	u64 first, period;

	if (!a->st.timer_first)
		return GCLOCK_NEVER;
	first = a->st.timer_start + a->st.timer_first * count_ns(a);
	if (first > t)
		return first;
	period = a->st.tmict * count_ns(a);
	if (mode(a) != TIMER_PERIODIC || !period)
		return GCLOCK_NEVER;
	return first + ((t - first) / period + 1) * period;
}

static void rearm_after(struct lapic *a, u64 t)
{
	u64 at = GCLOCK_NEVER;

	if (!masked(a) && lapic_on(a)) {
		if (mode(a) == TIMER_DEADLINE)
			at = a->st.tsc_deadline ? deadline_ns(a) : GCLOCK_NEVER;
		else if (mode(a) <= TIMER_PERIODIC)
			at = next_expiry(a, t);
	}
	if (at == GCLOCK_NEVER)
		gtimer_cancel(&a->timer);
	else
		gtimer_arm(&a->timer, at);
}

void lapic_timer_rearm(struct lapic *a)
{
	rearm_after(a, now(a));
}

static void expired(void *opaque)
{
	struct lapic *a = opaque;
	/* Missed periods (the clock may jump over several) are one interrupt, as on hardware. */
	u64 t = MAX(now(a), a->timer.deadline);

	if (mode(a) == TIMER_DEADLINE)
		a->st.tsc_deadline = 0;
	lapic_local(a, LVT_TIMER);
	rearm_after(a, t);
}

void lapic_timer_init(struct lapic *a)
{
	gtimer_init(&a->timer, a->l->cfg.clk, expired, a);
}

void lapic_timer_set_count(struct lapic *a, u32 ict)
{
	if (mode(a) == TIMER_DEADLINE)
		return; /* SDM 10.5.4.1: writes are ignored */
	a->st.tmict = a->st.timer_first = ict;
	a->st.timer_start = now(a);
	lapic_timer_rearm(a);
}

/* Makes the current count the first one of a count that starts now. */
static void rebase(struct lapic *a)
{
	a->st.timer_first = lapic_timer_count(a);
	a->st.timer_start = now(a);
}

/* A deadline that passes while masked is lost: nothing was armed to notice it. */
static void drop_missed_deadline(struct lapic *a)
{
	if (a->st.tsc_deadline && !gtimer_armed(&a->timer) && deadline_ns(a) <= now(a))
		a->st.tsc_deadline = 0;
}

void lapic_timer_set_lvt(struct lapic *a, u32 lvt)
{
	u32 from = mode(a), to = LVT_TIMER_MODE(lvt);

	drop_missed_deadline(a);
	if (from != to) {
		rebase(a);
		if (from == TIMER_DEADLINE || to == TIMER_DEADLINE) {
			a->st.timer_first = a->st.tmict = 0;
			a->st.tsc_deadline = 0;
		}
	}
	a->st.lvt[LVT_TIMER] = lvt;
	lapic_timer_rearm(a);
}

void lapic_timer_set_divide(struct lapic *a, u32 tdcr)
{
	rebase(a);
	a->st.tdcr = tdcr;
	lapic_timer_rearm(a);
}

void lapic_timer_set_deadline(struct lapic *a, u64 tsc)
{
	if (mode(a) != TIMER_DEADLINE || !lapic_on(a))
		return;
	a->st.tsc_deadline = tsc;
	if (tsc && !masked(a) && deadline_ns(a) <= now(a)) {
		/* Already there: at once, not when the engine next looks at its timers. */
		a->st.tsc_deadline = 0;
		lapic_local(a, LVT_TIMER);
	}
	lapic_timer_rearm(a);
}

u64 lapic_timer_deadline(struct lapic *a)
{
	drop_missed_deadline(a);
	return a->st.tsc_deadline;
}
