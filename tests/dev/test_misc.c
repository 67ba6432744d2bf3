/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_misc.c - i8042, ACPI power management and debug exit, through a bus
 */
#include "dev/acpi_pm.h"
#include "dev/debug_exit.h"
#include "dev/i8042.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct {
	struct bus *b;
	struct i8042 *k;
	struct acpi_pm *p;
	struct debug_exit *d;
	unsigned resets, poweroffs, exits;
	u32 code;
	bool line;
} t;

static void on_reset(void *o)
{
	t.resets++;
}

static void on_poweroff(void *o)
{
	t.poweroffs++;
}

static void on_exit_code(void *o, u32 code)
{
	t.exits++;
	t.code = code;
}

static void on_irq(void *o, unsigned input, bool level)
{
	t.line = level;
}

static int setup(void **s)
{
	struct i8042_cfg kc = { .irq = { on_irq, NULL, 1 }, .reset = on_reset };
	struct acpi_pm_cfg pc = { .poweroff = on_poweroff, .reset = on_reset };
	struct debug_exit_cfg dc = { .exit = on_exit_code };

	memset(&t, 0, sizeof(t));
	assert_int_equal(bus_new(&t.b), 0);
	assert_int_equal(i8042_new(&kc, &t.k), 0);
	assert_int_equal(acpi_pm_new(&pc, &t.p), 0);
	assert_int_equal(debug_exit_new(&dc, &t.d), 0);
	assert_int_equal(i8042_attach(t.k, t.b), 0);
	assert_int_equal(
		bus_add(t.b, BUS_PIO, ACPI_PM_PORT, ACPI_PM_PORTS, &acpi_pm_bus_ops, t.p, "acpi"),
		0);
	assert_int_equal(
		bus_add(t.b, BUS_PIO, 0xf4, DEBUG_EXIT_PORTS, &debug_exit_bus_ops, t.d, "exit"), 0);
	return 0;
}

static int teardown(void **s)
{
	bus_free(t.b);
	i8042_free(t.k);
	acpi_pm_free(t.p);
	debug_exit_free(t.d);
	return 0;
}

static u8 in(u16 port)
{
	u64 v;

	assert_true(bus_read(t.b, BUS_PIO, port, 1, 0, &v));
	return (u8)v;
}

static void out(u16 port, u32 v)
{
	assert_true(bus_write(t.b, BUS_PIO, port, 1, v, 0));
}

static void i8042_probe(void **s)
{
	assert_int_equal(in(0x64) & 1, 0); /* nothing to flush */
	out(0x64, 0xaa);
	assert_int_equal(in(0x64) & 5, 5);
	assert_int_equal(in(0x60), 0x55);
	assert_int_equal(in(0x64) & 1, 0);
	out(0x64, 0x20);
	assert_int_equal(in(0x60), 0x74);
	out(0x64, 0x60);
	out(0x60, 0x45);
	out(0x64, 0x20);
	assert_true(t.line); /* interrupts are on now */
	assert_int_equal(in(0x60), 0x45);
	assert_false(t.line);
	out(0x64, 0xab);
	assert_int_equal(in(0x60), 1);
	out(0x64, 0xa9);
	assert_int_equal(in(0x60), 1);
	out(0x64, 0xd3); /* answered, but not as an auxiliary byte */
	out(0x60, 0x5a);
	assert_int_equal(in(0x64) & 0x21, 0x01);
	assert_int_equal(in(0x60), 0x5a);
	out(0x60, 0xf2); /* identify: nobody there */
	assert_int_equal(in(0x64) & 0x41, 0x41);
	assert_true(t.line);
	assert_int_equal(in(0x60), 0xfe);
	assert_int_equal(in(0x64) & 0x41, 0);
	out(0x64, 0xd0);
	assert_int_equal(in(0x60) & 3, 3);
	out(0x64, 0x3f);
	in(0x60);
	out(0x64, 0x7f);
	out(0x60, 0x99);
	out(0x64, 0x3f);
	assert_int_equal(in(0x60), 0x99);
	assert_int_equal(t.resets, 0);
}

static void i8042_resets(void **s)
{
	out(0x64, 0xff); /* pulses nothing */
	assert_int_equal(t.resets, 0);
	out(0x64, 0xfe);
	assert_int_equal(t.resets, 1);
	out(0x64, 0xd1);
	out(0x60, 0xdf);
	assert_int_equal(t.resets, 1);
	out(0x64, 0xd1);
	out(0x60, 0xde);
	assert_int_equal(t.resets, 2);
	assert_int_equal(in(0x92), 2);
	out(0x92, 3);
	assert_int_equal(t.resets, 3);
	out(0x92, 3); /* no edge */
	assert_int_equal(t.resets, 3);
	out(0x61, 0xff);
	assert_int_equal(in(0x61) & 0xcf, 0x0f); /* no NMI reason */
	assert_int_equal((in(0x61) ^ in(0x61)) & 0x10, 0x10);
}

static void acpi(void **s)
{
	assert_int_equal(in(0x601), 0);
	out(0x600, 5 << 2);
	assert_int_equal(t.poweroffs, 0);
	assert_int_equal(in(0x600), 5 << 2);
	out(0x600, 1 << 2 | 0x20); /* a type that does not exist */
	assert_int_equal(t.poweroffs, 0);
	out(0x600, 5 << 2 | 0x20);
	assert_int_equal(t.poweroffs, 1);
	out(0x601, 0x80);
	out(0x604, 0);
	out(0x604, 0xff);
	assert_int_equal(t.resets, 0);
	out(0x604, 1);
	assert_int_equal(t.resets, 1);
	out(0x607, 1);
	assert_true(bus_write(t.b, BUS_PIO, 0x603, 2, 0x0100, 0)); /* lane of 0x604 */
	assert_int_equal(t.resets, 2);
}

static void debug_exit_codes(void **s)
{
	out(0xf4, 0);
	assert_int_equal(t.code, 1);
	out(0xf4, 0x10);
	assert_int_equal(t.code, 0x21);
	assert_true(bus_write(t.b, BUS_PIO, 0xf4, 2, 0x1234, 0));
	assert_int_equal(t.code, 0x2469);
	assert_true(bus_write(t.b, BUS_PIO, 0xf4, 4, 0x80000001, 0));
	assert_int_equal(t.code, 3);
	out(0xf5, 7); /* not the register */
	assert_int_equal(t.exits, 4);
	assert_int_equal(in(0xf4), 0);
}

static void resets_and_tables(void **s)
{
	struct device d[3] = { i8042_device(t.k), acpi_pm_device(t.p), debug_exit_device(t.d) };

	out(0x64, 0x60);
	out(0x60, 0xff);
	out(0x60, 0xff);
	assert_true(t.line);
	for (unsigned i = 0; i < 3; i++) {
		device_pause(&d[i]);
		device_resume(&d[i]);
		device_reset(&d[i]);
		assert_non_null(d[i].ops->state(d[i].dev, 0));
		assert_null(d[i].ops->state(d[i].dev, 1));
	}
	assert_false(t.line);
	assert_int_equal(in(0x64) & 1, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(i8042_probe), T(i8042_resets), T(acpi), T(debug_exit_codes), T(resets_and_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
