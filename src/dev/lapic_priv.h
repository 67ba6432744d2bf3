/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lapic_priv.h - the local APIC's state and what its files share
 *
 * lapic.c: priorities, registers, MSRs. lapic_timer.c: the timer. lapic_msg.c: messages between
 * APICs and from devices.
 */
#ifndef ORR_DEV_LAPIC_PRIV_H
#define ORR_DEV_LAPIC_PRIV_H

#include "dev/lapic.h"

/* IA32_APIC_BASE (SDM 10.4.4, 10.12.1) */
#define APIC_BASE_BSP BIT(8)
#define APIC_BASE_X2 BIT(10)
#define APIC_BASE_EN BIT(11)

/* Register numbers: MMIO offset >> 4, MSR - 0x800 (SDM tables 10-1 and 10-6) */
enum lapic_reg {
	LAPIC_ID = 0x02,
	LAPIC_VERSION = 0x03,
	LAPIC_TPR = 0x08,
	LAPIC_APR = 0x09,
	LAPIC_PPR = 0x0a,
	LAPIC_EOI = 0x0b,
	LAPIC_RRD = 0x0c,
	LAPIC_LDR = 0x0d,
	LAPIC_DFR = 0x0e,
	LAPIC_SVR = 0x0f,
	LAPIC_ISR = 0x10, /* 8 registers each */
	LAPIC_TMR = 0x18,
	LAPIC_IRR = 0x20,
	LAPIC_ESR = 0x28,
	LAPIC_ICR = 0x30,
	LAPIC_ICR2 = 0x31,
	LAPIC_LVT = 0x32, /* timer, thermal, performance, LINT0, LINT1, error */
	LAPIC_TMICT = 0x38,
	LAPIC_TMCCT = 0x39,
	LAPIC_TDCR = 0x3e,
	LAPIC_SELF_IPI = 0x3f, /* x2APIC only */
	LAPIC_REGS = 0x40,
};

enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_N };

#define LVT_MASKED BIT(16)
#define LVT_TIMER_MODE(v) (((v) >> 17) & 3)
enum lapic_timer_mode { TIMER_ONESHOT, TIMER_PERIODIC, TIMER_DEADLINE };

#define SVR_ENABLED BIT(8)
#define SVR_NO_EOI_BROADCAST BIT(12)

#define ESR_SEND_ILLEGAL BIT(5)
#define ESR_RECV_ILLEGAL BIT(6)
#define ESR_ILLEGAL_REG BIT(7)

/* Delivery modes (SDM 10.6.1) */
enum lapic_dm { DM_FIXED, DM_LOWEST, DM_SMI, DM_RSVD, DM_NMI, DM_INIT, DM_STARTUP, DM_EXTINT };

/* Guest-visible state of one local APIC. */
struct lapic_st {
	u64 base; /* IA32_APIC_BASE */
	u64 icr;
	u64 irr[4], isr[4], tmr[4];
	u64 timer_start;  /* guest time at which the count was (re)started */
	u64 tsc_deadline; /* IA32_TSC_DEADLINE, 0 while disarmed */
	u32 tpr, ldr, dfr, svr;
	u32 esr, esr_new; /* latched by the last write; collected since */
	u32 lvt[LVT_N];
	u32 tmict, tdcr;
	u32 timer_first; /* count at timer_start; later periods count tmict. 0: not counting */
};

struct lapic {
	/* cfg */
	struct lapics *l;
	unsigned index;
	u32 id;
	/* st */
	struct lapic_st st;
	/* rt */
	struct gtimer timer;
};

struct lapics {
	struct lapics_cfg cfg; /* apic_ids is NULL here: the ids are in cpu[] */
	struct lapic *cpu;     /* owned */
	s16 *pending;	       /* owned; per CPU: the deliverable vector or -1, see lapic_update */
	u16 *by_id;	       /* owned; index + 1 of the CPU with this id, or 0 */
	u32 ids;	       /* entries in by_id */
	unsigned in_x2;	       /* how many are in x2APIC mode */
};

static inline bool lapic_on(const struct lapic *a)
{
	return (a->st.base & APIC_BASE_EN) != 0;
}

static inline bool lapic_x2(const struct lapic *a)
{
	return (a->st.base & APIC_BASE_X2) != 0;
}

/* Recomputes what is deliverable, and signals the CPU if that is news. After any change. */
void lapic_update(struct lapic *a);
u32 lapic_ppr(const struct lapic *a);
/* Accepts a fixed interrupt; false if the APIC is disabled or the vector illegal. */
bool lapic_fixed(struct lapic *a, u8 vector, bool level);
/* Records ESR bits and raises the error interrupt. */
void lapic_error(struct lapic *a, u32 bits);
/* Raises a local interrupt through its LVT entry, if it is not masked. */
void lapic_local(struct lapic *a, enum lapic_lvt n);

/* lapic_timer.c */
void lapic_timer_init(struct lapic *a);
void lapic_timer_rearm(struct lapic *a);	      /* rt from st */
void lapic_timer_set_count(struct lapic *a, u32 ict); /* TMICT */
u32 lapic_timer_count(const struct lapic *a);	      /* TMCCT */
void lapic_timer_set_lvt(struct lapic *a, u32 lvt);
void lapic_timer_set_divide(struct lapic *a, u32 tdcr);
void lapic_timer_set_deadline(struct lapic *a, u64 tsc); /* IA32_TSC_DEADLINE */
u64 lapic_timer_deadline(struct lapic *a);

/* lapic_msg.c */
/* Sends what @icr says, in the format of the sender's mode (destination in bits 63:56 or 63:32). */
void lapic_send_ipi(struct lapic *from, u64 icr);

#endif
