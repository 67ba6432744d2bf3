/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_bus.c - I/O ranges, and the saved-field table of a device
 */
#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct {
	void *opaque;
	u64 off, val;
	unsigned size, cpu, n;
} last;

static u64 rd(void *o, u64 off, unsigned size, unsigned cpu)
{
	last.opaque = o;
	last.off = off;
	last.size = size;
	last.cpu = cpu;
	last.n++;
	return UINT64_MAX; /* more than asked for: the bus cuts it */
}

static void wr(void *o, u64 off, unsigned size, u64 val, unsigned cpu)
{
	rd(o, off, size, cpu);
	last.val = val;
}

static const struct bus_ops ops = { rd, wr };
static int tags[64];

static int setup(void **s)
{
	struct bus *b;

	memset(&last, 0, sizeof(last));
	if (bus_new(&b) < 0)
		return -1;
	*s = b;
	return 0;
}

static int teardown(void **s)
{
	bus_free(*s);
	bus_free(NULL);
	return 0;
}

static void routes(void **s)
{
	struct bus *b = *s;
	u64 v;

	assert_false(bus_read(b, BUS_MMIO, 0x1000, 4, 0, &v)); /* an empty bus */
	assert_int_equal(v, 0xffffffff);
	/* Added in no order. */
	assert_int_equal(bus_add(b, BUS_MMIO, 0x3000, 0x100, &ops, &tags[3], "c"), 0);
	assert_int_equal(bus_add(b, BUS_MMIO, 0x1000, 0x100, &ops, &tags[1], "a"), 0);
	assert_int_equal(bus_add(b, BUS_MMIO, 0x1100, 0x100, &ops, &tags[2], "b"), 0);
	assert_int_equal(bus_add(b, BUS_PIO, 0x1000, 4, &ops, &tags[4], "p"), 0);
	assert_true(bus_read(b, BUS_MMIO, 0x10ff, 1, 7, &v));
	assert_ptr_equal(last.opaque, &tags[1]);
	assert_int_equal(last.off, 0xff);
	assert_int_equal(last.cpu, 7);
	assert_int_equal(v, 0xff);
	assert_true(bus_read(b, BUS_MMIO, 0x1100, 8, 0, &v));
	assert_ptr_equal(last.opaque, &tags[2]);
	assert_true(v == UINT64_MAX);
	assert_true(bus_write(b, BUS_MMIO, 0x3004, 2, 0x12345678, 0));
	assert_ptr_equal(last.opaque, &tags[3]);
	assert_int_equal(last.val, 0x5678);
	assert_true(bus_write(b, BUS_PIO, 0x1003, 1, 5, 0));
	assert_ptr_equal(last.opaque, &tags[4]);
	/* Misses: gaps, ends, an access that leaves its range. */
	last.n = 0;
	assert_false(bus_read(b, BUS_MMIO, 0xfff, 1, 0, &v));
	assert_false(bus_read(b, BUS_MMIO, 0x1200, 2, 0, &v));
	assert_int_equal(v, 0xffff);
	assert_false(bus_read(b, BUS_MMIO, 0x30fd, 4, 0, &v));
	assert_false(bus_read(b, BUS_MMIO, 0x10fd, 4, 0, &v)); /* even into a neighbour */
	assert_false(bus_write(b, BUS_PIO, 0x1004, 1, 0, 0));
	assert_false(bus_write(b, BUS_MMIO, UINT64_MAX, 8, 0, 0));
	assert_int_equal(last.n, 0);
}

static void rejects(void **s)
{
	static const struct bus_ops half = { rd, NULL };
	struct bus *b = *s;
	u64 v;

	assert_int_equal(bus_add(b, BUS_MMIO, 0x1000, 0x100, &ops, NULL, "a"), 0);
	assert_int_equal(bus_add(b, BUS_MMIO, 0x10ff, 1, &ops, NULL, "x"), -EEXIST);
	assert_int_equal(bus_add(b, BUS_MMIO, 0xfff, 2, &ops, NULL, "x"), -EEXIST);
	assert_int_equal(bus_add(b, BUS_MMIO, 0, 0x10000, &ops, NULL, "x"), -EEXIST);
	assert_int_equal(bus_add(b, BUS_MMIO, 0x5000, 0, &ops, NULL, "x"), -EINVAL);
	assert_int_equal(bus_add(b, BUS_MMIO, UINT64_MAX, 2, &ops, NULL, "x"), -EINVAL);
	assert_int_equal(bus_add(b, BUS_PIO, 0xffff, 2, &ops, NULL, "x"), -EINVAL);
	assert_int_equal(bus_add(b, BUS_KINDS, 0, 2, &ops, NULL, "x"), -EINVAL);
	assert_int_equal(bus_add(b, BUS_MMIO, 0x5000, 2, &half, NULL, "x"), -EINVAL);
	assert_int_equal(bus_add(b, BUS_MMIO, 0x5000, 2, NULL, NULL, "x"), -EINVAL);
	assert_int_equal(bus_add(b, BUS_MMIO, UINT64_MAX, 1, &ops, NULL, "top"), 0);
	assert_true(bus_read(b, BUS_MMIO, UINT64_MAX, 1, 0, &v));
	assert_int_equal(bus_add(b, BUS_PIO, 0xffff, 1, &ops, NULL, "top"), 0);
}

/* Against a plain table, with the last-hit memory in between. */
static void many_ranges(void **s)
{
	struct bus *b = *s;
	u32 x = 1;
	u64 v;

	for (unsigned i = 0; i < 64; i++) {
		unsigned k = i * 37 % 64;
		assert_int_equal(bus_add(b, BUS_MMIO, k * 0x100, 0x80, &ops, &tags[k], "r"), 0);
	}
	for (unsigned i = 0; i < 20000; i++) {
		u64 a;

		x = x * 1664525 + 1013904223;
		a = (x >> 8) % (65 * 0x100);
		assert_int_equal(bus_read(b, BUS_MMIO, a, 1, 0, &v),
				 a < 64 * 0x100 && a % 0x100 < 0x80);
		if (a < 64 * 0x100 && a % 0x100 < 0x80) {
			assert_ptr_equal(last.opaque, &tags[a / 0x100]);
			assert_int_equal(last.off, a % 0x100);
		}
	}
}

struct st {
	u8 a;
	u32 b; /* padding before it must not count */
};

static struct st sts[2];
static unsigned resets;

static void *dev_state(void *dev, unsigned i)
{
	return i < 2 ? &sts[i] : NULL;
}

static void dev_reset(void *dev)
{
	resets++;
}

static void collect(void *o, const void *p, size_t n)
{
	u8 **at = o;

	memcpy(*at, p, n);
	*at += n;
}

static void field_table(void **s)
{
	static const struct field_desc fields[] = { DEV_FIELD(struct st, a),
						    DEV_FIELD(struct st, b), DEV_FIELDS_END };
	static const struct device_ops dops = {
		.name = "t", .reset = dev_reset, .state = dev_state, .fields = fields
	};
	const struct device d = { &dops, NULL };
	u8 out[64], *at = out;

	memset(sts, 0xff, sizeof(sts));
	sts[0].a = 1;
	sts[0].b = 0x04030201;
	sts[1].a = 2;
	sts[1].b = 0x08070605;
	device_digest(&d, collect, &at);
	assert_int_equal(at - out, 2 + 5 + 5);
	assert_memory_equal(out, "t\0\1\1\2\3\4\2\5\6\7\10", 12);
	device_pause(&d); /* no such operation: nothing to do */
	device_resume(&d);
	device_reset(&d);
	assert_int_equal(resets, 1);
}

static void unconnected_line(void **s)
{
	struct irq_line l = { 0 };

	irq_set(&l, true); /* legal and silent */
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(routes), T(rejects), T(many_ranges), T(field_table), T(unconnected_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
