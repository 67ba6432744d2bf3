/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lapic_msg.c - interrupt messages: IPIs, MSIs, and who accepts them (SDM 10.6, 10.11, 10.12.10)
 *
 * How it works
 * A message has a destination, which each receiver compares with itself by its own mode:
 *
 *                physical                         logical
 *   xAPIC        8-bit id; 0xFF is everybody      flat: LDR & dest; cluster: same high nibble
 *                                                 and LDR & dest in the low one; 0xFF everybody
 *   x2APIC       32-bit id; 0xFFFFFFFF everybody  same LDR[31:16], LDR & dest in [15:0]
 *
 * The width of the sender's destination field says which value means everybody. With the extended
 * destination of messages from devices (15 bits), 0xFF is CPU 255 to an x2APIC and everybody to an
 * xAPIC, as under KVM with the broadcast quirk disabled.
 *
 * Lowest priority is decided without hidden state, so that it repeats exactly: among the receivers
 * of lowest processor priority the vector picks one.
 */
#include "dev/lapic_priv.h"

enum dest_width { DEST_8, DEST_15, DEST_32 };

struct message {
	u32 dest;
	enum dest_width width;
	bool logical;
	bool level; /* trigger mode */
	u8 vector;
	u8 dm; /* enum lapic_dm */
};

static bool is_broadcast(const struct lapic *a, const struct message *m)
{
	switch (m->width) {
	case DEST_32:
		return m->dest == UINT32_MAX;
	case DEST_15:
		return m->dest == 0xff && !lapic_x2(a);
	default:
		return m->dest == 0xff;
	}
}

static bool matches(const struct lapic *a, const struct message *m)
{
	u32 ldr = a->st.ldr;

	if (!lapic_on(a))
		return false;
	if (is_broadcast(a, m))
		return true;
	if (!m->logical)
		return m->dest == a->id; /* an xAPIC with an id above 254 cannot be addressed */
	if (lapic_x2(a))
		return (m->dest >> 16) == (ldr >> 16) && (m->dest & ldr & 0xffff);
	if (m->dest > 0xff)
		return false;
	if ((a->st.dfr >> 28) == 0xf)
		return (m->dest & (ldr >> 24)) != 0;
	if ((a->st.dfr >> 28) == 0)
		return (m->dest >> 4) == (ldr >> 28) && (m->dest & (ldr >> 24) & 0xf);
	return false;
}

/* Returns whether the APIC took it. */
static bool deliver(struct lapic *a, const struct message *m)
{
	const struct cpu_signals *s = &a->l->cfg.cpu;

	switch (m->dm) {
	case DM_FIXED:
	case DM_LOWEST:
		return lapic_fixed(a, m->vector, m->level);
	case DM_NMI:
		s->nmi(s->opaque, a->index);
		return true;
	case DM_INIT:
		s->init(s->opaque, a->index);
		return true;
	case DM_STARTUP:
		s->sipi(s->opaque, a->index, m->vector);
		return true;
	default:
		return false; /* no SMM, no 8259 behind ExtINT, reserved */
	}
}

/*
 * The CPUs that a message may concern, in ascending order: either all, or the few that the ids
 * name. A scan of 252 states for each IPI costs more than the rest of the IPI.
 */
struct candidates {
	struct lapics *l;
	const struct message *m;
	u32 next, end; /* CPU indices, or ids */
	bool by_id;
};

static struct candidates candidates(struct lapics *l, const struct message *m)
{
	struct candidates c = { .l = l, .m = m, .end = l->cfg.ncpus };
	bool bcast = m->dest == (m->width == DEST_32 ? UINT32_MAX : 0xffu);

	if (bcast)
		return c;
	if (!m->logical) {
		c.by_id = true;
		c.next = m->dest;
		c.end = m->dest < l->ids ? m->dest + 1 : m->dest;
	} else if (l->in_x2 == l->cfg.ncpus) {
		/* x2APIC logical ids are computed from the ids: cluster, bit (SDM 10.12.10.2). */
		c.by_id = true;
		c.next = MIN((m->dest >> 16) << 4, l->ids);
		c.end = MIN(c.next + 16, l->ids);
	}
	return c;
}

static struct lapic *next_match(struct candidates *c)
{
	while (c->next < c->end) {
		u32 i = c->next++;

		if (c->by_id) {
			if (!c->l->by_id[i])
				continue;
			i = c->l->by_id[i] - 1u;
		}
		if (matches(&c->l->cpu[i], c->m))
			return &c->l->cpu[i];
	}
	return NULL;
}

/* Lowest priority: the receivers of the lowest class, then the vector modulo their number. */
static struct lapic *arbitrate(struct lapics *l, const struct message *m)
{
	struct candidates c = candidates(l, m);
	struct lapic *a;
	u32 best = UINT32_MAX, n = 0, k;

	while ((a = next_match(&c))) {
		u32 p = lapic_ppr(a) >> 4;

		if (!(a->st.svr & SVR_ENABLED))
			continue;
		if (p < best) {
			best = p;
			n = 0;
		}
		n += p == best;
	}
	if (!n)
		return NULL;
	k = m->vector % n;
	c = candidates(l, m);
	while ((a = next_match(&c)))
		if ((a->st.svr & SVR_ENABLED) && lapic_ppr(a) >> 4 == best && k-- == 0)
			return a;
	return NULL;
}

static unsigned send(struct lapics *l, const struct message *m)
{
	struct candidates c;
	struct lapic *a;
	unsigned n = 0;

	if (m->dm == DM_LOWEST) {
		a = arbitrate(l, m);
		return a && deliver(a, m);
	}
	c = candidates(l, m);
	while ((a = next_match(&c)))
		n += deliver(a, m);
	return n;
}

/* Shorthands (SDM 10.6.1, table 10-3): self and all-including-self only with fixed delivery. */
static void send_shorthand(struct lapic *from, const struct message *m, unsigned sh)
{
	struct lapics *l = from->l;

	if (sh != 3 && m->dm != DM_FIXED)
		return;
	for (unsigned i = 0; i < l->cfg.ncpus; i++) {
		struct lapic *a = &l->cpu[i];
		if (sh == 1 ? a != from : (sh == 3 && a == from))
			continue;
		if (!lapic_on(a))
			continue;
		/* Lowest priority to everybody else is model specific: one CPU takes it. */
		if (deliver(a, m) && m->dm == DM_LOWEST)
			break;
	}
}

void lapic_send_ipi(struct lapic *from, u64 icr)
{
	unsigned sh = (icr >> 18) & 3;
	struct message m = {
		.dest = lapic_x2(from) ? (u32)(icr >> 32) : (u32)(icr >> 56),
		.width = lapic_x2(from) ? DEST_32 : DEST_8,
		.logical = (icr & BIT(11)) != 0,
		.vector = (u8)icr,
		.dm = (icr >> 8) & 7,
	};

	/* INIT level de-assert only mattered to the bus of the P6 family (SDM 10.4.7.4). */
	if (m.dm == DM_INIT && !(icr & BIT(14)) && (icr & BIT(15)))
		return;
	/* IPIs are edge triggered whatever bit 15 says (SDM 10.6.1). */
	if ((m.dm == DM_FIXED || m.dm == DM_LOWEST) && m.vector < 16) {
		lapic_error(from, ESR_SEND_ILLEGAL);
		return;
	}
	if (sh)
		send_shorthand(from, &m, sh);
	else
		send(from->l, &m);
}

unsigned lapics_msi(struct lapics *l, u64 addr, u32 data)
{
	u32 ext = (addr >> 5) & 0x7f;
	struct message m = {
		.dest = ((addr >> 12) & 0xff) | ext << 8,
		.width = DEST_15,
		.logical = (addr & BIT(2)) != 0,
		.level = (data & BIT(15)) != 0,
		.vector = (u8)data,
		.dm = (data >> 8) & 7,
	};

	if ((addr & ~0xfffffull) != LAPIC_MMIO_BASE)
		return 0;
	if (m.level && !(data & BIT(14)))
		return 0; /* level de-assert */
	if (m.dm == DM_STARTUP)
		return 0; /* reserved for devices (SDM 10.11.2) */
	/* Redirection hint: one of the destinations, the one of lowest priority (SDM 10.11.1). */
	if ((addr & BIT(3)) && m.logical && m.dm == DM_FIXED)
		m.dm = DM_LOWEST;
	return send(l, &m);
}
