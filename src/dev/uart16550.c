/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uart16550.c - 16550A serial port (National Semiconductor PC16550D data sheet)
 *
 * How it works
 * Transmission takes no time: a byte is with the back end before the write returns, so LSR always
 * says "empty" and a polling console never waits. Interrupts need more care. If the "transmitter
 * holding register empty" interrupt came back at once forever, a driver that refills the FIFO in
 * its interrupt handler would never leave it (Linux gives up after 256 or 512 rounds with "too
 * much work for irq"). So after BURST bytes the next one is withheld for PAUSE_NS of guest time.
 * The first one after IER enables it always comes at once, because drivers test for that.
 *
 * For the same reason room in the receive FIFO is announced to the host side not on the read that
 * emptied it, but PAUSE_NS later: a large paste arrives in bounded pieces.
 *
 * The character time-out interrupt is the only thing that looks at the divisor: four characters at
 * the programmed rate (section 8.4.1 of the data sheet), at most TIMEOUT_MAX_NS.
 *
 * Interrupt sources in order of priority: line status, received data, time-out, THR empty, modem
 * status. On a PC the line is gated by MCR.OUT2, and in loopback mode OUT2 is forced off.
 */
#include "dev/uart16550.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum uart_reg {
	REG_DATA, /* RBR, THR; DLL with DLAB */
	REG_IER,  /* DLM with DLAB */
	REG_IIR,  /* FCR on write */
	REG_LCR,
	REG_MCR,
	REG_LSR,
	REG_MSR,
	REG_SCR,
};

#define IER_RDA 0x01
#define IER_THRE 0x02
#define IER_LINE 0x04
#define IER_MODEM 0x08

#define IIR_NONE 0x01
#define IIR_MODEM 0x00
#define IIR_THRE 0x02
#define IIR_RDA 0x04
#define IIR_LINE 0x06
#define IIR_TIMEOUT 0x0c
#define IIR_FIFO 0xc0

#define FCR_ENABLE 0x01
#define FCR_CLEAR_RX 0x02
#define LCR_DLAB 0x80

#define MCR_DTR 0x01
#define MCR_RTS 0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10

#define LSR_DR 0x01
#define LSR_OE 0x02
#define LSR_BI 0x10
#define LSR_TX_EMPTY 0x60 /* THRE and TEMT */
#define LSR_FIFO_ERR 0x80
#define LSR_ERRORS 0x1e

#define MSR_DCTS 0x01
#define MSR_TERI 0x04
#define MSR_CTS 0x10
#define MSR_DSR 0x20
#define MSR_RI 0x40
#define MSR_DCD 0x80

#define FIFO_SIZE 16
#define BURST 1024
#define PAUSE_NS 20000ull
#define TIMEOUT_MAX_NS 10000000ull
#define BASE_CLOCK 115200ull /* characters' bits per second at divisor 1 */

struct uart_st {
	u8 ier, fcr, lcr, mcr, msr, scr, dll, dlm;
	u8 lsr; /* OE only; the rest is computed */
	u8 rx[FIFO_SIZE];
	u8 rx_err[FIFO_SIZE]; /* LSR bits that belong to the character */
	u8 rx_head, rx_n;
	u8 thre_ip;	/* THR-empty interrupt is pending */
	u8 timeout_ip;	/* character time-out is pending */
	u16 burst;	/* bytes sent since the last pause */
	u64 thre_at;	/* when a withheld THR-empty interrupt comes, 0: none */
	u64 space_at;	/* when the host side hears about room, 0: not waiting */
	u64 timeout_at; /* when the character time-out strikes, 0: not running */
};

struct uart {
	struct uart_cfg cfg;
	struct uart_st st;
	struct gtimer thre_timer, space_timer, timeout_timer;
};

#define F(m) DEV_FIELD(struct uart_st, m)
static const struct field_desc fields[] = {
	F(ier),	  F(fcr),     F(lcr),	     F(mcr),	  F(msr),	 F(scr),	 F(dll),
	F(dlm),	  F(lsr),     F(rx),	     F(rx_err),	  F(rx_head),	 F(rx_n),	 F(thre_ip),
	F(burst), F(thre_at), F(timeout_ip), F(space_at), F(timeout_at), DEV_FIELDS_END,
};
#undef F

/* --- interrupts ------------------------------------------------------------------------------ */

static bool fifo_on(const struct uart *u)
{
	return (u->st.fcr & FCR_ENABLE) != 0;
}

static u8 rx_room(const struct uart *u)
{
	u8 cap = fifo_on(u) ? FIFO_SIZE : 1;

	return u->st.rx_n < cap ? cap - u->st.rx_n : 0;
}

static u8 rx_trigger(const struct uart *u)
{
	static const u8 level[4] = { 1, 4, 8, 14 };

	return fifo_on(u) ? level[u->st.fcr >> 6] : 1;
}

static u8 lsr(const struct uart *u)
{
	const struct uart_st *st = &u->st;
	u8 v = LSR_TX_EMPTY | st->lsr;

	if (!st->rx_n)
		return v;
	v |= LSR_DR | st->rx_err[st->rx_head];
	for (unsigned i = 0; fifo_on(u) && i < st->rx_n; i++)
		if (st->rx_err[(st->rx_head + i) % FIFO_SIZE])
			v |= LSR_FIFO_ERR;
	return v;
}

static u8 iir(const struct uart *u)
{
	const struct uart_st *st = &u->st;

	if ((st->ier & IER_LINE) && (lsr(u) & LSR_ERRORS))
		return IIR_LINE;
	if ((st->ier & IER_RDA) && st->rx_n >= rx_trigger(u))
		return IIR_RDA;
	if ((st->ier & IER_RDA) && st->timeout_ip)
		return IIR_TIMEOUT;
	if ((st->ier & IER_THRE) && st->thre_ip)
		return IIR_THRE;
	if ((st->ier & IER_MODEM) && (st->msr & 0x0f))
		return IIR_MODEM;
	return IIR_NONE;
}

static void update_irq(struct uart *u)
{
	bool gate = (u->st.mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;

	irq_set(&u->cfg.irq, gate && iir(u) != IIR_NONE);
}

/* Sets or (@ns 0) clears a saved alarm and its timer. */
static void alarm_set(struct uart *u, struct gtimer *t, u64 *at, u64 ns)
{
	*at = ns ? gclock_now(u->cfg.clk) + ns : 0;
	if (ns)
		gtimer_arm(t, *at);
	else
		gtimer_cancel(t);
}

static void thre_fired(void *opaque)
{
	struct uart *u = opaque;

	u->st.thre_at = 0;
	u->st.thre_ip = 1;
	update_irq(u);
}

static void space_fired(void *opaque)
{
	struct uart *u = opaque;

	u->st.space_at = 0;
	if (u->cfg.rx_space)
		u->cfg.rx_space(u->cfg.opaque);
}

static void timeout_fired(void *opaque)
{
	struct uart *u = opaque;

	u->st.timeout_at = 0;
	u->st.timeout_ip = u->st.rx_n > 0;
	update_irq(u);
}

/* The receiver was read or fed: the character time-out starts anew (data sheet 8.4.1). */
static void restart_timeout(struct uart *u)
{
	u64 div = MAX((u64)u->st.dlm << 8 | u->st.dll, 1ull);
	u64 ns = MIN(4 * 10 * div * 1000000000ull / BASE_CLOCK, TIMEOUT_MAX_NS);
	bool wanted = fifo_on(u) && u->st.rx_n && (u->st.ier & IER_RDA);

	u->st.timeout_ip = 0;
	alarm_set(u, &u->timeout_timer, &u->st.timeout_at, wanted ? ns : 0);
}

/* --- data ------------------------------------------------------------------------------------ */

static void rx_put(struct uart *u, u8 byte, u8 err)
{
	struct uart_st *st = &u->st;
	unsigned i = (st->rx_head + st->rx_n) % FIFO_SIZE;

	if (!rx_room(u)) {
		st->lsr |= LSR_OE;
		/* Without FIFO the newer character replaces the one not read (data sheet 8.3). */
		if (!fifo_on(u))
			st->rx[st->rx_head] = byte;
		return;
	}
	st->rx[i] = byte;
	st->rx_err[i] = err;
	st->rx_n++;
}

static void announce_space(struct uart *u)
{
	if (!u->st.space_at && u->cfg.rx_space)
		alarm_set(u, &u->space_timer, &u->st.space_at, PAUSE_NS);
}

static u8 rx_get(struct uart *u)
{
	struct uart_st *st = &u->st;
	u8 byte;

	if (!st->rx_n)
		return st->rx[(st->rx_head + FIFO_SIZE - 1) % FIFO_SIZE]; /* the last one again */
	byte = st->rx[st->rx_head];
	st->rx_head = (st->rx_head + 1) % FIFO_SIZE;
	st->rx_n--;
	restart_timeout(u);
	if (!st->rx_n)
		announce_space(u);
	update_irq(u);
	return byte;
}

static void rx_clear(struct uart *u)
{
	u->st.rx_head = u->st.rx_n = 0;
	restart_timeout(u);
	announce_space(u);
}

static void transmit(struct uart *u, u8 byte)
{
	struct uart_st *st = &u->st;

	st->thre_ip = 0;
	update_irq(u); /* the line falls with the write, so the next request is an edge */
	if (st->mcr & MCR_LOOP) {
		rx_put(u, byte, 0);
		restart_timeout(u);
	} else if (u->cfg.tx) {
		u->cfg.tx(u->cfg.opaque, &byte, 1);
	}
	if (!st->thre_at && ++st->burst >= BURST) {
		st->burst = 0;
		alarm_set(u, &u->thre_timer, &st->thre_at, PAUSE_NS);
	}
	if (!st->thre_at)
		st->thre_ip = 1;
	update_irq(u);
}

size_t uart_rx(struct uart *u, const u8 *bytes, size_t n)
{
	size_t room = u->st.mcr & MCR_LOOP ? 0 : rx_room(u);
	size_t take = MIN(n, room);

	for (size_t i = 0; i < take; i++)
		rx_put(u, bytes[i], 0);
	if (take) {
		restart_timeout(u);
		update_irq(u);
	}
	return take;
}

bool uart_rx_listening(const struct uart *u)
{
	return (u->st.ier & IER_RDA) != 0;
}

bool uart_rx_break(struct uart *u)
{
	if ((u->st.mcr & MCR_LOOP) || !rx_room(u))
		return false;
	rx_put(u, 0, LSR_BI);
	restart_timeout(u);
	update_irq(u);
	return true;
}

/* --- registers ------------------------------------------------------------------------------- */

/* Modem status inputs: a terminal that is always ready, or in loopback mode our own outputs. */
static void update_modem(struct uart *u)
{
	u8 mcr = u->st.mcr, old = u->st.msr, in = MSR_CTS | MSR_DSR | MSR_DCD, changed;

	if (mcr & MCR_LOOP) {
		in = mcr & MCR_RTS ? MSR_CTS : 0;
		in |= mcr & MCR_DTR ? MSR_DSR : 0;
		in |= mcr & MCR_OUT1 ? MSR_RI : 0;
		in |= mcr & MCR_OUT2 ? MSR_DCD : 0;
	}
	changed = (old ^ in) >> 4;
	if (in & MSR_RI)
		changed &= (u8)~MSR_TERI; /* only the trailing edge counts */
	u->st.msr = in | (old & 0x0f) | (changed & 0x0f);
}

static void write_ier(struct uart *u, u8 val)
{
	u8 old = u->st.ier;

	u->st.ier = val & 0x0f;
	if ((u->st.ier & ~old) & IER_THRE)
		u->st.thre_ip = 1;
	if ((u->st.ier ^ old) & IER_RDA)
		restart_timeout(u);
	if ((u->st.ier & ~old) & IER_RDA)
		announce_space(u);
	update_irq(u);
}

static void write_fcr(struct uart *u, u8 val)
{
	bool toggled = ((val ^ u->st.fcr) & FCR_ENABLE) != 0;

	/* Other bits count only together with the enable bit (data sheet 8.5). */
	u->st.fcr = val & FCR_ENABLE ? val & 0xc9 : 0;
	if (toggled || ((val & FCR_ENABLE) && (val & FCR_CLEAR_RX)))
		rx_clear(u);
	update_irq(u);
}

static void write_mcr(struct uart *u, u8 val)
{
	bool left_loop = (u->st.mcr & MCR_LOOP) && !(val & MCR_LOOP);

	u->st.mcr = val & 0x1f;
	update_modem(u);
	if (left_loop)
		announce_space(u); /* uart_rx answered 0 meanwhile */
	update_irq(u);
}

static u8 reg_read(struct uart *u, unsigned reg)
{
	struct uart_st *st = &u->st;
	u8 v;

	switch (reg) {
	case REG_DATA:
		return st->lcr & LCR_DLAB ? st->dll : rx_get(u);
	case REG_IER:
		return st->lcr & LCR_DLAB ? st->dlm : st->ier;
	case REG_IIR:
		v = iir(u);
		if (v == IIR_THRE)
			st->thre_ip = 0; /* reading it as the source acknowledges it */
		update_irq(u);
		return v | (fifo_on(u) ? IIR_FIFO : 0);
	case REG_LCR:
		return st->lcr;
	case REG_MCR:
		return st->mcr;
	case REG_LSR:
		v = lsr(u);
		st->lsr = 0;
		if (st->rx_n)
			st->rx_err[st->rx_head] = 0;
		update_irq(u);
		return v;
	case REG_MSR:
		v = st->msr;
		st->msr &= 0xf0;
		update_irq(u);
		return v;
	default:
		return st->scr;
	}
}

static void reg_write(struct uart *u, unsigned reg, u8 val)
{
	struct uart_st *st = &u->st;

	switch (reg) {
	case REG_DATA:
		if (st->lcr & LCR_DLAB)
			st->dll = val;
		else
			transmit(u, val);
		break;
	case REG_IER:
		if (st->lcr & LCR_DLAB)
			st->dlm = val;
		else
			write_ier(u, val);
		break;
	case REG_IIR:
		write_fcr(u, val);
		break;
	case REG_LCR:
		st->lcr = val;
		break;
	case REG_MCR:
		write_mcr(u, val);
		break;
	case REG_SCR:
		st->scr = val;
		break;
	default: /* LSR and MSR are for reading ("factory testing" aside) */
		break;
	}
}

/* Wider accesses are what an 8-bit device on ISA sees of them: one byte after the other. */
static u64 bus_rd(void *opaque, u64 off, unsigned size, unsigned cpu)
{
	u64 v = 0;

	for (unsigned i = 0; i < size; i++)
		v |= (u64)reg_read(opaque, (unsigned)(off + i) & 7) << (8 * i);
	return v;
}

static void bus_wr(void *opaque, u64 off, unsigned size, u64 val, unsigned cpu)
{
	for (unsigned i = 0; i < size; i++)
		reg_write(opaque, (unsigned)(off + i) & 7, (u8)(val >> (8 * i)));
}

const struct bus_ops uart_bus_ops = { .read = bus_rd, .write = bus_wr };

/* --- device ---------------------------------------------------------------------------------- */

static void cancel_timers(struct uart *u)
{
	gtimer_cancel(&u->thre_timer);
	gtimer_cancel(&u->space_timer);
	gtimer_cancel(&u->timeout_timer);
}

static void dev_resume(void *dev)
{
	struct uart *u = dev;

	cancel_timers(u);
	if (u->st.thre_at)
		gtimer_arm(&u->thre_timer, u->st.thre_at);
	if (u->st.space_at)
		gtimer_arm(&u->space_timer, u->st.space_at);
	if (u->st.timeout_at)
		gtimer_arm(&u->timeout_timer, u->st.timeout_at);
	update_irq(u);
}

static void dev_reset(void *dev)
{
	struct uart *u = dev;

	/* 9600 baud as firmware leaves it; the data sheet has the divisor undefined. */
	u->st = (struct uart_st){ .dll = 12, .msr = MSR_CTS | MSR_DSR | MSR_DCD };
	dev_resume(u);
}

static void *dev_state(void *dev, unsigned i)
{
	return i ? NULL : &((struct uart *)dev)->st;
}

static const struct device_ops device_ops = {
	.name = "uart16550",
	.reset = dev_reset,
	.resume = dev_resume,
	.state = dev_state,
	.fields = fields,
};

struct device uart_device(struct uart *u)
{
	return (struct device){ &device_ops, u };
}

int uart_new(const struct uart_cfg *cfg, struct uart **ret)
{
	struct uart *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	u->cfg = *cfg;
	gtimer_init(&u->thre_timer, cfg->clk, thre_fired, u);
	gtimer_init(&u->space_timer, cfg->clk, space_fired, u);
	gtimer_init(&u->timeout_timer, cfg->clk, timeout_fired, u);
	dev_reset(u);
	*ret = u;
	return 0;
}

void uart_free(struct uart *u)
{
	if (!u)
		return;
	cancel_timers(u);
	free(u);
}
