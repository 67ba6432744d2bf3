/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rtc.c - real-time clock and CMOS memory (Motorola MC146818A as in the PC/AT)
 *
 * How it works
 * The time is not kept, it is computed: a pair (Unix second, guest time of its start) says what
 * the clock shows at any guest time. Writing a time register makes a new pair. While the guest
 * holds the clock (SET in register B, or the divider chain in reset) the registers are plain
 * memory; letting go turns them into a new pair. The second then goes on where the divider chain
 * is; out of a divider reset the first update comes after half a second (data sheet, "Divider
 * control"), which is what Linux counts on when it sets the clock.
 *
 * The flags of register C are computed too: each access first collects what happened since the
 * last one. A timer is armed only for an event whose interrupt is enabled.
 *
 * The day of the week follows from the date; writing it changes nothing.
 * The update itself takes no time; UIP announces it 244 us ahead as the data sheet promises.
 * Out of reset the chip is as PC firmware leaves it: divider on, 24-hour BCD, periodic rate 6.
 */
#include "dev/rtc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum rtc_reg {
	REG_SEC,
	REG_SEC_ALARM,
	REG_MIN,
	REG_MIN_ALARM,
	REG_HOUR,
	REG_HOUR_ALARM,
	REG_WDAY,
	REG_MDAY,
	REG_MONTH,
	REG_YEAR,
	REG_A,
	REG_B,
	REG_C,
	REG_D,
	REG_CENTURY = 0x32,
};

#define A_UIP 0x80
#define A_DIVIDER(a) (((a) >> 4) & 7)
#define DIVIDER_RESET 6 /* 11x */
#define B_SET 0x80
#define B_PIE 0x40 /* PIE, AIE, UIE enable the flags of register C at the same bits */
#define B_AIE 0x20
#define B_UIE 0x10
#define B_BINARY 0x04
#define B_24H 0x02
#define C_IRQF 0x80
#define C_PF 0x40
#define C_AF 0x20
#define C_UF 0x10
#define C_FLAGS (C_PF | C_AF | C_UF)
#define D_VRT 0x80
#define HOUR_PM 0x80
#define ALARM_ANY 0xc0

#define SEC_NS 1000000000ll
#define UIP_NS 244000
#define DAY 86400

struct rtc_st {
	u8 ram[128]; /* index 0..9 and century: only while the clock is held */
	s64 sec;     /* Unix time that began ... */
	s64 sec_at;  /* ... at this guest time (ns; may lie before power-on) */
	u64 synced;  /* events up to this guest time are in register C */
	u8 index;
};

struct rtc {
	struct rtc_cfg cfg;
	struct rtc_st st;
	struct gtimer timer;
};

#define F(m) DEV_FIELD(struct rtc_st, m)
static const struct field_desc fields[] = {
	F(ram), F(sec), F(sec_at), F(synced), F(index), DEV_FIELDS_END,
};
#undef F

/* --- time ------------------------------------------------------------------------------------ */

static bool held(const struct rtc *r)
{
	return (r->st.ram[REG_B] & B_SET) || A_DIVIDER(r->st.ram[REG_A]) >= DIVIDER_RESET;
}

/* The Unix second that the clock shows at guest time @t, and how far into it @t is. */
static s64 second_at(const struct rtc *r, u64 t, s64 *ret_frac)
{
	s64 d = (s64)t - r->st.sec_at, q = d / SEC_NS, m = d % SEC_NS;

	if (m < 0) {
		m += SEC_NS;
		q--;
	}
	*ret_frac = m;
	return r->st.sec + q;
}

static u8 encode(const struct rtc *r, int v)
{
	return (u8)(r->st.ram[REG_B] & B_BINARY ? v : (v / 10 % 10) << 4 | v % 10);
}

static int decode(const struct rtc *r, u8 v)
{
	return r->st.ram[REG_B] & B_BINARY ? v : (v >> 4) * 10 + (v & 15);
}

static u8 encode_hour(const struct rtc *r, int h)
{
	if (r->st.ram[REG_B] & B_24H)
		return encode(r, h);
	return encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? HOUR_PM : 0);
}

static int decode_hour(const struct rtc *r, u8 v)
{
	int h;

	if (r->st.ram[REG_B] & B_24H)
		return decode(r, v);
	h = decode(r, v & (u8)~HOUR_PM) % 12;
	return v & HOUR_PM ? h + 12 : h;
}

static bool is_time_reg(unsigned reg)
{
	return reg == REG_SEC || reg == REG_MIN || reg == REG_HOUR || reg == REG_CENTURY ||
	       (reg >= REG_WDAY && reg <= REG_YEAR);
}

static s64 clamp(s64 sec)
{
	return sec < RTC_BASE_MIN ? RTC_BASE_MIN : sec > RTC_BASE_MAX ? RTC_BASE_MAX : sec;
}

/* Copies the time @sec into the registers. */
static void latch(struct rtc *r, s64 sec)
{
	time_t t = (time_t)clamp(sec);
	struct tm tm;

	gmtime_r(&t, &tm);
	r->st.ram[REG_SEC] = encode(r, tm.tm_sec);
	r->st.ram[REG_MIN] = encode(r, tm.tm_min);
	r->st.ram[REG_HOUR] = encode_hour(r, tm.tm_hour);
	r->st.ram[REG_WDAY] = encode(r, tm.tm_wday + 1);
	r->st.ram[REG_MDAY] = encode(r, tm.tm_mday);
	r->st.ram[REG_MONTH] = encode(r, tm.tm_mon + 1);
	r->st.ram[REG_YEAR] = encode(r, tm.tm_year % 100);
	r->st.ram[REG_CENTURY] = encode(r, (tm.tm_year + 1900) / 100);
}

/*
 * The time that the registers say. Nonsense (month 99) is normalized by the calendar, and what
 * leaves the clock's range is clamped: any bytes give some time.
 */
static s64 unlatch(const struct rtc *r)
{
	const u8 *m = r->st.ram;
	struct tm tm = {
		.tm_sec = decode(r, m[REG_SEC]),
		.tm_min = decode(r, m[REG_MIN]),
		.tm_hour = decode_hour(r, m[REG_HOUR]),
		.tm_mday = decode(r, m[REG_MDAY]),
		.tm_mon = decode(r, m[REG_MONTH]) - 1,
		.tm_year = decode(r, m[REG_CENTURY]) * 100 + decode(r, m[REG_YEAR]) - 1900,
	};

	return clamp(timegm(&tm));
}

/* The clock shows @sec from now on, @frac ns into the second. */
static void set_clock(struct rtc *r, s64 sec, s64 frac)
{
	r->st.sec = sec;
	r->st.sec_at = (s64)gclock_now(r->cfg.clk) - frac;
}

/* --- events ---------------------------------------------------------------------------------- */

static u64 period_ns(const struct rtc *r)
{
	unsigned rs = r->st.ram[REG_A] & 15;

	if (!rs || A_DIVIDER(r->st.ram[REG_A]) >= DIVIDER_RESET)
		return 0;
	/* Rates 1 and 2 are 256 and 128 Hz at the 32.768 kHz time base. */
	if (rs <= 2)
		rs += 7;
	return (1000000000ull << (rs - 1)) / 32768;
}

/* First guest time after @t at which a new second begins. */
static u64 next_second(const struct rtc *r, u64 t)
{
	s64 frac;

	second_at(r, t, &frac);
	return t + (u64)(SEC_NS - frac);
}

static bool alarm_field(u8 reg, int want, int have)
{
	return (reg & ALARM_ANY) == ALARM_ANY || want == have;
}

static bool alarm_valid(u8 reg, int v, int max)
{
	return (reg & ALARM_ANY) == ALARM_ANY || v <= max;
}

/*
 * Guest time of the first alarm after @t, or never. Since each field that is not "any" has a value
 * that comes, the walk is short: to the end of a minute, of an hour, of a day, and once more.
 */
static u64 next_alarm(const struct rtc *r, u64 t)
{
	const u8 *m = r->st.ram;
	int h = decode_hour(r, m[REG_HOUR_ALARM]), mi = decode(r, m[REG_MIN_ALARM]);
	int s = decode(r, m[REG_SEC_ALARM]);
	s64 frac, first = second_at(r, t, &frac) + 1, at = first;

	if (!alarm_valid(m[REG_HOUR_ALARM], h, 23) || !alarm_valid(m[REG_MIN_ALARM], mi, 59) ||
	    !alarm_valid(m[REG_SEC_ALARM], s, 59))
		return GCLOCK_NEVER;
	while (at < first + DAY) {
		if (!alarm_field(m[REG_HOUR_ALARM], h, (int)(at / 3600 % 24)))
			at += 3600 - at % 3600;
		else if (!alarm_field(m[REG_MIN_ALARM], mi, (int)(at / 60 % 60)))
			at += 60 - at % 60;
		else if (!alarm_field(m[REG_SEC_ALARM], s, (int)(at % 60)))
			at++;
		else
			return t + (u64)((at - first + 1) * SEC_NS - frac);
	}
	return GCLOCK_NEVER;
}

/* Collects into register C what happened after the last look, and drives the line. */
static void sync(struct rtc *r)
{
	u64 now = gclock_now(r->cfg.clk), p = period_ns(r), from = r->st.synced;
	u8 *c = &r->st.ram[REG_C];

	if (now > from) {
		if (p && now / p != from / p)
			*c |= C_PF;
		if (!held(r)) {
			if (next_second(r, from) <= now)
				*c |= C_UF;
			if (!(*c & C_AF) && next_alarm(r, from) <= now)
				*c |= C_AF;
		}
		r->st.synced = now;
	}
	*c &= C_FLAGS;
	if (*c & r->st.ram[REG_B])
		*c |= C_IRQF;
	irq_set(&r->cfg.irq, (*c & C_IRQF) != 0);
}

/* Arms for the next event that would interrupt. While one is pending none can. */
static void rearm(struct rtc *r)
{
	u64 now = r->st.synced, p = period_ns(r), at = GCLOCK_NEVER;
	u8 b = r->st.ram[REG_B];

	if (!(r->st.ram[REG_C] & C_IRQF)) {
		if ((b & B_PIE) && p)
			at = (now / p + 1) * p;
		if ((b & B_UIE) && !held(r))
			at = MIN(at, next_second(r, now));
		if ((b & B_AIE) && !held(r))
			at = MIN(at, next_alarm(r, now));
	}
	if (at == GCLOCK_NEVER)
		gtimer_cancel(&r->timer);
	else
		gtimer_arm(&r->timer, at);
}

static void fired(void *opaque)
{
	struct rtc *r = opaque;

	sync(r);
	rearm(r);
}

/* --- registers
 * ------------------------------------------------------------------------------------ */

static u8 reg_read(struct rtc *r, unsigned reg)
{
	u8 v = r->st.ram[reg];
	s64 frac, sec;

	if (is_time_reg(reg) && !held(r)) {
		sec = second_at(r, gclock_now(r->cfg.clk), &frac);
		latch(r, sec);
		return r->st.ram[reg];
	}
	switch (reg) {
	case REG_A:
		second_at(r, gclock_now(r->cfg.clk), &frac);
		return v | (!held(r) && frac >= SEC_NS - UIP_NS ? A_UIP : 0);
	case REG_C:
		sync(r);
		v = r->st.ram[REG_C];
		r->st.ram[REG_C] = 0;
		irq_set(&r->cfg.irq, false);
		rearm(r);
		return v;
	case REG_D:
		return D_VRT;
	default:
		return v;
	}
}

/* Registers A and B decide whether the clock is held: take hold or let go as they change. */
static void write_control(struct rtc *r, unsigned reg, u8 val)
{
	bool was = held(r), was_reset = A_DIVIDER(r->st.ram[REG_A]) >= DIVIDER_RESET;
	s64 frac, sec = second_at(r, gclock_now(r->cfg.clk), &frac);

	if (!was)
		latch(r, sec);
	r->st.ram[reg] = val;
	if (held(r)) {
		if (reg == REG_B)
			r->st.ram[REG_B] &= (u8)~B_UIE; /* SET clears UIE (data sheet) */
		return;
	}
	/* Never held: the data mode may have changed and what latch left is stale, the pair is not.
	 */
	if (was)
		set_clock(r, unlatch(r), was_reset ? SEC_NS / 2 : frac);
}

static void reg_write(struct rtc *r, unsigned reg, u8 val)
{
	s64 frac, sec;

	sync(r);
	if (is_time_reg(reg)) {
		if (!held(r)) {
			sec = second_at(r, gclock_now(r->cfg.clk), &frac);
			latch(r, sec);
			r->st.ram[reg] = val;
			set_clock(r, unlatch(r), frac);
		} else {
			r->st.ram[reg] = val;
		}
	} else if (reg == REG_A) {
		write_control(r, REG_A, val & (u8)~A_UIP);
	} else if (reg == REG_B) {
		write_control(r, REG_B, val);
	} else if (reg != REG_C && reg != REG_D) {
		r->st.ram[reg] = val;
	}
	sync(r);
	rearm(r);
}

/* A wider access is one byte after the other, as ISA splits it. */
static u64 bus_rd(void *opaque, u64 off, unsigned size, unsigned cpu)
{
	struct rtc *r = opaque;
	u64 v = 0;

	for (unsigned i = 0; i < size; i++)
		v |= (u64)((off + i) & 1 ? reg_read(r, r->st.index) : r->st.index) << (8 * i);
	return v;
}

static void bus_wr(void *opaque, u64 off, unsigned size, u64 val, unsigned cpu)
{
	struct rtc *r = opaque;

	for (unsigned i = 0; i < size; i++, val >>= 8) {
		if ((off + i) & 1)
			reg_write(r, r->st.index, (u8)val);
		else
			r->st.index =
				val & 0x7f; /* bit 7 masks NMIs that a PC has and we have not */
	}
}

const struct bus_ops rtc_bus_ops = { .read = bus_rd, .write = bus_wr };

/* --- device
 * ---------------------------------------------------------------------------------------- */

static void dev_resume(void *dev)
{
	struct rtc *r = dev;

	sync(r);
	rearm(r);
}

/* A battery keeps time and memory through a reset; the RESET pin clears enables and flags. */
static void dev_reset(void *dev)
{
	struct rtc *r = dev;

	sync(r);
	if (held(r))
		set_clock(r, unlatch(r), 0);
	r->st.ram[REG_A] = 0x26;
	r->st.ram[REG_B] = B_24H;
	r->st.ram[REG_C] = 0;
	r->st.index = 0;
	dev_resume(r);
}

static void *dev_state(void *dev, unsigned i)
{
	return i ? NULL : &((struct rtc *)dev)->st;
}

static const struct device_ops device_ops = {
	.name = "rtc",
	.reset = dev_reset,
	.resume = dev_resume,
	.state = dev_state,
	.fields = fields,
};

struct device rtc_device(struct rtc *r)
{
	return (struct device){ &device_ops, r };
}

int rtc_new(const struct rtc_cfg *cfg, struct rtc **ret)
{
	struct rtc *r;

	if (cfg->base < RTC_BASE_MIN || cfg->base > RTC_BASE_MAX)
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->cfg = *cfg;
	gtimer_init(&r->timer, cfg->clk, fired, r);
	r->st.sec = cfg->base;
	r->st.synced = gclock_now(cfg->clk);
	dev_reset(r);
	*ret = r;
	return 0;
}

void rtc_free(struct rtc *r)
{
	if (!r)
		return;
	gtimer_cancel(&r->timer);
	free(r);
}
