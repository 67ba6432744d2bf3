/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_uart.c - 16550A by its registers
 */
#include "dev/uart16550.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "testclock.h"

static struct {
	struct testclock clk;
	struct uart *u;
	bool line;
	unsigned edges;
	u8 out[65536];
	size_t out_n;
	unsigned spaces;
} t;

static void on_irq(void *o, unsigned input, bool level)
{
	t.edges += level && !t.line;
	t.line = level;
}

static void on_tx(void *o, const u8 *b, size_t n)
{
	assert_true(t.out_n + n <= sizeof(t.out));
	memcpy(t.out + t.out_n, b, n);
	t.out_n += n;
}

static void on_space(void *o)
{
	t.spaces++;
}

static u8 rd(unsigned r)
{
	return (u8)uart_bus_ops.read(t.u, r, 1, 0);
}

static void wr(unsigned r, u8 v)
{
	uart_bus_ops.write(t.u, r, 1, v, 0);
}

static int setup(void **s)
{
	struct uart_cfg cfg = {
		.clk = &t.clk.g, .irq = { on_irq, NULL, 4 }, .tx = on_tx, .rx_space = on_space
	};

	memset(&t, 0, sizeof(t));
	testclock_init(&t.clk);
	return uart_new(&cfg, &t.u);
}

static int teardown(void **s)
{
	uart_free(t.u);
	gclock_fini(&t.clk.g);
	return 0;
}

/* What a driver that probes for the exact type looks at. */
static void identification(void **s)
{
	wr(1, 0xff);
	assert_int_equal(rd(1), 0x0f);
	wr(1, 0);
	for (unsigned v = 0; v < 256; v++) {
		wr(7, (u8)v);
		assert_int_equal(rd(7), v);
	}
	assert_int_equal(rd(2), 0x01);
	wr(2, 0xc1);
	assert_int_equal(rd(2), 0xc1); /* FIFO bits: a 16550A */
	wr(2, 0x21);
	assert_int_equal(rd(2), 0xc1); /* bit 5 stays clear: not a 16750 */
	wr(2, 0xc0);		       /* ignored without the enable bit, which switches it off */
	assert_int_equal(rd(2), 0x01);
	wr(4, 0x1a); /* loopback: RTS and OUT2 come back as CTS and DCD */
	assert_int_equal(rd(6) & 0xf0, 0x90);
	wr(4, 0xff);
	assert_int_equal(rd(4), 0x1f);
	wr(4, 0);
	assert_int_equal(rd(6) & 0xf0, 0xb0);
	wr(3, 0x83);
	wr(0, 0x34);
	wr(1, 0x12);
	assert_int_equal(rd(0), 0x34);
	assert_int_equal(rd(1), 0x12);
	wr(3, 0x03);
	assert_int_equal(rd(1), 0);
	assert_int_equal(rd(5), 0x60);
	wr(5, 0xff);
	wr(6, 0xff);
	assert_int_equal(rd(5), 0x60);
	assert_int_equal(t.edges, 0);
}

static void polled_output(void **s)
{
	for (unsigned i = 0; i < 5000; i++) {
		assert_int_equal(rd(5) & 0x60, 0x60);
		wr(0, (u8)i);
	}
	assert_int_equal(t.out_n, 5000);
	for (unsigned i = 0; i < 5000; i++)
		assert_int_equal(t.out[i], (u8)i);
	assert_int_equal(t.edges, 0);
}

static void thre_interrupt(void **s)
{
	wr(4, 0x08);
	wr(1, 0x02); /* enabling with an empty register interrupts */
	assert_true(t.line);
	assert_int_equal(rd(2), 0x02);
	assert_false(t.line); /* reading IIR acknowledged it */
	assert_int_equal(rd(2), 0x01);
	wr(1, 0);
	wr(1, 0x02); /* and again: drivers test for this */
	assert_int_equal(rd(2), 0x02);
	wr(0, 'x');
	assert_true(t.line); /* it is empty once more */
	assert_int_equal(rd(2), 0x02);
	wr(4, 0); /* OUT2 gates the line, not the cause */
	wr(0, 'y');
	assert_false(t.line);
	assert_int_equal(rd(2), 0x02);
}

/* A driver with endless output: its handler must come to an end, and all output go out. */
static void irq_driven_output(void **s)
{
	unsigned interrupts = 0, worst = 0;
	size_t left = 60000;

	wr(2, 0xc1);
	wr(4, 0x08);
	wr(1, 0x02);
	while (left) {
		unsigned rounds = 0;

		while (t.line) {
			assert_int_equal(rd(2) & 0x0f, 0x02);
			for (unsigned i = 0; i < 16 && left; i++, left--)
				wr(0, (u8)left);
			if (!left)
				wr(1, 0);
			rounds++;
			assert_true(rounds < 256);
		}
		worst = MAX(worst, rounds);
		interrupts++;
		testclock_by(&t.clk, 1000000);
	}
	assert_int_equal(t.out_n, 60000);
	assert_true(interrupts > 1 && interrupts < 100);
	assert_true(worst > 1);
}

static void receive_triggers(void **s)
{
	static const u8 trigger[4] = { 1, 4, 8, 14 };

	wr(4, 0x08);
	wr(1, 0x01);
	for (unsigned k = 0; k < 4; k++) {
		wr(2, (u8)(k << 6 | 0x07));
		for (unsigned i = 0; i < 16; i++) {
			u8 b = (u8)i;
			assert_int_equal(uart_rx(t.u, &b, 1), 1);
			assert_int_equal(t.line, i + 1 >= trigger[k]);
		}
		assert_int_equal(uart_rx(t.u, (u8 *)"z", 1), 0);
		for (unsigned i = 0; i < 16; i++) {
			assert_int_equal(rd(2), 16 - i >= trigger[k] ? 0xc4 : 0xc1);
			assert_int_equal(rd(5), 0x61);
			assert_int_equal(rd(0), i);
		}
		assert_int_equal(rd(5), 0x60);
		assert_false(t.line);
	}
}

static void receive_timeout(void **s)
{
	wr(4, 0x08);
	wr(3, 0x80);
	wr(0, 1); /* 115200 baud: four characters are 347222 ns */
	wr(3, 0x03);
	wr(2, 0xc7);
	wr(1, 0x01);
	uart_rx(t.u, (u8 *)"abc", 3);
	assert_false(t.line);
	testclock_by(&t.clk, 300000);
	uart_rx(t.u, (u8 *)"d", 1); /* starts it anew */
	testclock_by(&t.clk, 347221);
	assert_false(t.line);
	testclock_by(&t.clk, 1);
	assert_true(t.line);
	assert_int_equal(rd(2), 0xcc);
	assert_true(t.line); /* only reading data ends it */
	assert_int_equal(rd(0), 'a');
	assert_false(t.line);
	testclock_by(&t.clk, 400000);
	assert_int_equal(rd(2), 0xcc);
	while (rd(5) & 1)
		rd(0);
	assert_false(t.line);
	testclock_by(&t.clk, 10000000);
	assert_false(t.line);
}

static void priority_of_sources(void **s)
{
	wr(4, 0x08);
	wr(2, 0x01);
	wr(1, 0x0f);
	wr(4, 0x18); /* loopback changes CTS, DSR: modem status */
	wr(4, 0x08);
	assert_true(uart_rx_break(t.u));
	assert_int_equal(rd(2), 0xc6); /* line status */
	assert_int_equal(rd(5), 0xf1); /* break, FIFO error, data ready */
	assert_int_equal(rd(5), 0x61);
	assert_int_equal(rd(2), 0xc4); /* data */
	rd(0);
	assert_int_equal(rd(2), 0xc2); /* THR empty */
	assert_int_equal(rd(2), 0xc0); /* modem status */
	assert_int_not_equal(rd(6) & 0x0f, 0);
	assert_int_equal(rd(6) & 0x0f, 0);
	assert_int_equal(rd(2), 0xc1);
	assert_false(t.line);
}

static void loopback(void **s)
{
	wr(2, 0x01);
	wr(4, 0x1b);
	rd(6);
	assert_int_equal(uart_rx(t.u, (u8 *)"x", 1), 0); /* the line is cut off */
	for (unsigned i = 0; i < 17; i++)
		wr(0, (u8)(0x40 + i));
	assert_int_equal(t.out_n, 0);
	assert_int_equal(rd(5), 0x63); /* overrun, data */
	assert_int_equal(rd(5), 0x61);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(rd(0), 0x40 + i);
	wr(4, 0x1f); /* OUT1: RI rises, no delta */
	assert_int_equal(rd(6), 0xf0);
	wr(4, 0x1b); /* trailing edge */
	assert_int_equal(rd(6), 0xb4);
	wr(4, 0x08);
	testclock_by(&t.clk, 1000000);
	assert_true(t.spaces > 0); /* the host side may try again */
}

static void without_fifo(void **s)
{
	wr(4, 0x08);
	wr(1, 0x01);
	assert_int_equal(uart_rx(t.u, (u8 *)"ab", 2), 1);
	assert_int_equal(uart_rx(t.u, (u8 *)"b", 1), 0);
	assert_int_equal(rd(2), 0x04);
	assert_int_equal(rd(0), 'a');
	assert_false(t.line);
	assert_int_equal(uart_rx(t.u, (u8 *)"b", 1), 1);
	wr(2, 0x01); /* switching the FIFO on clears it */
	assert_int_equal(rd(5), 0x60);
}

static void announces_room(void **s)
{
	u8 buf[32];

	memset(buf, 'q', sizeof(buf));
	wr(2, 0x01);
	testclock_by(&t.clk, 1000000);
	t.spaces = 0;
	assert_int_equal(uart_rx(t.u, buf, sizeof(buf)), 16);
	for (unsigned i = 0; i < 16; i++)
		rd(0);
	assert_int_equal(t.spaces, 0); /* not inside the guest's loop */
	testclock_by(&t.clk, 1000000);
	assert_int_equal(t.spaces, 1);
	assert_int_equal(uart_rx(t.u, buf, 16), 16);
}

static void wide_access(void **s)
{
	uart_bus_ops.write(t.u, 0, 2, 0x0241, 0); /* THR, IER */
	assert_int_equal(t.out_n, 1);
	assert_int_equal(t.out[0], 'A');
	assert_int_equal(rd(1), 2);
	assert_int_equal(uart_bus_ops.read(t.u, 4, 4, 0), 0x00b06000);
}

static void saved_state(void **s)
{
	struct device d = uart_device(t.u);

	wr(2, 0x41);
	wr(4, 0x08);
	wr(1, 0x01);
	uart_rx(t.u, (u8 *)"a", 1);
	gclock_fini(&t.clk.g); /* the timers are gone, st is not */
	device_resume(&d);
	testclock_by(&t.clk, 20000000);
	assert_true(t.line);
	assert_int_equal(rd(2), 0xcc);
	device_reset(&d);
	assert_false(t.line);
	assert_int_equal(rd(5), 0x60);
	assert_int_equal(gclock_next(&t.clk.g), GCLOCK_NEVER);
	uart_free(NULL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(identification),	T(polled_output),    T(thre_interrupt),
		T(irq_driven_output),	T(receive_triggers), T(receive_timeout),
		T(priority_of_sources), T(loopback),	     T(without_fifo),
		T(announces_room),	T(wide_access),	     T(saved_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
