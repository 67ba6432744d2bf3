// SPDX-License-Identifier: Apache-2.0
/*
 * test_virtio_console.c - the console device, driven by its registers and queues
 */
#include "dev/virtio_console.h"

#include "../virtio/driver.h"

#include <linux/virtio_console.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define CONTROL_RX 2
#define CONTROL_TX 3

struct seen {
	struct vdrv d;
	struct virtio_console *c;
	u8 out[65536];
	size_t n;
	unsigned port, rooms, overs;
	const u8 *give; /* what rx_space hands over */
	size_t left;
};

static void on_tx(void *opaque, unsigned port, const u8 *bytes, size_t n)
{
	struct seen *s = opaque;

	assert_true(s->n + n <= sizeof(s->out));
	memcpy(s->out + s->n, bytes, n);
	s->n += n;
	s->port = port;
}

static void on_tx_over(void *opaque, unsigned port)
{
	((struct seen *)opaque)->overs++;
}

static void on_rx_space(void *opaque, unsigned port)
{
	struct seen *s = opaque;
	size_t k;

	s->rooms++;
	if (!s->left || !s->c)
		return;
	k = virtio_console_rx(s->c, port, s->give, s->left);
	s->give += k;
	s->left -= k;
}

static const struct virtio_console_ops ops = { on_tx, on_tx_over, on_rx_space };
static const char *const names[] = { "first", "second", NULL };

static void up(struct seen *s, const char *const *ports, bool exact)
{
	struct virtio_console_cfg cfg = {
		.ports = ports, .rows = 24, .cols = 80, .ops = &ops, .opaque = s
	};
	struct vdev *v;

	memset(s, 0, sizeof(*s));
	vdrv_up(&s->d);
	s->d.env.exact = exact;
	assert_int_equal(virtio_console_new(&s->d.env, &cfg, &s->c, &v), 0);
	vdrv_attach(&s->d, v);
	vdrv_start(&s->d, UINT64_MAX, ports ? 6 : 2, 16);
}

static void send(struct seen *s, unsigned q, const void *data, u32 len)
{
	struct vdrv_seg seg = { vdrv_put(&s->d, data, len), len, false };

	vdrv_add(&s->d, q, &seg, 1);
	vdrv_notify(&s->d, q);
}

static void control(struct seen *s, u32 id, u16 event, u16 value)
{
	struct virtio_console_control m = { id, event, value };

	send(s, CONTROL_TX, &m, sizeof(m));
}

/* Buffers of @len bytes for queue @q; returns the first's address (they follow each other). */
static gpa_t offer(struct seen *s, unsigned q, u32 len, unsigned n)
{
	gpa_t first = 0;

	for (unsigned i = 0; i < n; i++) {
		struct vdrv_seg seg = { vdrv_alloc(&s->d, len, 1), len, true };

		first = i ? first : seg.gpa;
		vdrv_add(&s->d, q, &seg, 1);
	}
	vdrv_notify(&s->d, q);
	return first;
}

static void expect_control(struct seen *s, gpa_t at, u32 id, u16 event, u16 value, const char *name)
{
	struct virtio_console_control m;
	char text[32] = "";
	u32 len;

	assert_true(vdrv_used(&s->d, CONTROL_RX, NULL, &len));
	assert_int_equal(len, sizeof(m) + strlen(name));
	assert_int_equal(mem_read(s->d.mem, at, &m, sizeof(m)), 0);
	assert_int_equal(m.id, id);
	assert_int_equal(m.event, event);
	assert_int_equal(m.value, value);
	assert_int_equal(mem_read(s->d.mem, at + sizeof(m), text, strlen(name)), 0);
	assert_string_equal(text, name);
}

static void console(void **state)
{
	struct virtio_console_config *cfg = NULL;
	struct vdrv_seg in;
	static struct seen s;
	u8 got[8];
	u32 len;

	up(&s, NULL, true);
	assert_int_equal(vdrv_rd(&s.d, VIRTIO_MMIO_DEVICE_ID), 3);
	assert_false(vdrv_features(&s.d) & BIT(VIRTIO_CONSOLE_F_MULTIPORT));
	assert_int_equal(vdrv_rd(&s.d, VIRTIO_MMIO_CONFIG), 24 << 16 | 80);
	/* Output takes its time, and is then whole and in order. */
	send(&s, 1, "ab", 2);
	send(&s, 1, "cd", 2);
	assert_int_equal(s.n, 0);
	testclock_by(&s.d.clk, 1000000);
	assert_int_equal(s.n, 4);
	assert_memory_equal(s.out, "abcd", 4);
	assert_true(vdrv_used(&s.d, 1, NULL, &len) && len == 0);
	/* Input: as much as there is room for; the rest when room comes. */
	assert_int_equal(virtio_console_rx(s.c, 0, (const u8 *)"xyz", 3), 0);
	s.give = (const u8 *)"xyz";
	s.left = 3;
	in = (struct vdrv_seg){ offer(&s, 0, 2, 1), 2, true };
	assert_int_equal(s.left, 1);
	assert_true(vdrv_used(&s.d, 0, NULL, &len) && len == 2);
	assert_int_equal(mem_read(s.d.mem, in.gpa, got, 2), 0);
	assert_memory_equal(got, "xy", 2);
	offer(&s, 0, 2, 1);
	assert_int_equal(s.left, 0);
	assert_true(vdrv_used(&s.d, 0, NULL, &len) && len == 1);
	/* A new size: the generation and an interrupt say so, once. */
	u32 gen = vdrv_rd(&s.d, VIRTIO_MMIO_CONFIG_GENERATION);

	vdrv_wr(&s.d, VIRTIO_MMIO_INTERRUPT_ACK, 3);
	virtio_console_resize(s.c, 50, 132);
	virtio_console_resize(s.c, 50, 132);
	assert_int_equal(vdrv_rd(&s.d, VIRTIO_MMIO_CONFIG_GENERATION), gen + 1);
	assert_int_equal(vdrv_rd(&s.d, VIRTIO_MMIO_INTERRUPT_STATUS) & 2, 2);
	assert_int_equal(vdrv_rd(&s.d, VIRTIO_MMIO_CONFIG), 50 << 16 | 132);
	/* Emergency output needs no driver. */
	vdrv_wr(&s.d, VIRTIO_MMIO_STATUS, 0);
	unsigned before = s.overs;

	vdrv_wr(&s.d, VIRTIO_MMIO_CONFIG + (u32)(uintptr_t)&cfg->emerg_wr, '!');
	assert_int_equal(s.n, 5);
	assert_int_equal(s.out[4], '!');
	assert_int_equal(s.overs, before + 1);
	assert_int_equal(vdrv_rd(&s.d, VIRTIO_MMIO_CONFIG), 50 << 16 | 132);
	vdrv_down(&s.d);
}

static void ports(void **state)
{
	static struct seen s;
	gpa_t at;
	u32 len;

	up(&s, names, true);
	assert_int_equal(vdrv_rd(&s.d, VIRTIO_MMIO_CONFIG + 4), 2);
	/* What the device owes waits for buffers: two of four at first. */
	control(&s, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	at = offer(&s, CONTROL_RX, 40, 1);
	expect_control(&s, at, 0, VIRTIO_CONSOLE_PORT_ADD, 1, "");
	at = offer(&s, CONTROL_RX, 40, 4);
	expect_control(&s, at, 1, VIRTIO_CONSOLE_PORT_ADD, 1, "");
	control(&s, 1, VIRTIO_CONSOLE_PORT_READY, 1);
	expect_control(&s, at + 40, 1, VIRTIO_CONSOLE_PORT_NAME, 1, "second");
	expect_control(&s, at + 80, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, "");
	/* Closed: nothing is lost to it. Open: room is announced. */
	offer(&s, 4, 8, 1);
	assert_int_equal(virtio_console_rx(s.c, 1, (const u8 *)"in", 2), 0);
	assert_int_equal(s.rooms, 0);
	control(&s, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	assert_int_equal(s.rooms, 1);
	assert_true(virtio_console_open(s.c, 1));
	assert_int_equal(virtio_console_rx(s.c, 1, (const u8 *)"in", 2), 2);
	assert_true(vdrv_used(&s.d, 4, NULL, &len) && len == 2);
	send(&s, 5, "out", 3);
	testclock_by(&s.d.clk, 1000000);
	assert_int_equal(s.port, 1);
	assert_memory_equal(s.out, "out", 3);
	/* Our end goes: the driver hears of it, and nothing is given. */
	virtio_console_connect(s.c, 1, false);
	expect_control(&s, at + 120, 1, VIRTIO_CONSOLE_PORT_OPEN, 0, "");
	offer(&s, 4, 8, 1);
	assert_int_equal(virtio_console_rx(s.c, 1, (const u8 *)"in", 2), 0);
	control(&s, 1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	assert_false(virtio_console_open(s.c, 1));
	assert_false(vdrv_needs_reset(&s.d));
	vdrv_down(&s.d);
}

/* Messages that mean nothing change nothing; a buffer that cannot hold ours breaks the device. */
static void nonsense(void **state)
{
	static struct seen s;

	up(&s, names, true);
	control(&s, 7, VIRTIO_CONSOLE_PORT_OPEN, 1);
	control(&s, 0xffffffff, VIRTIO_CONSOLE_PORT_READY, 1);
	control(&s, 0, 99, 1);
	control(&s, 0, VIRTIO_CONSOLE_RESIZE, 1);
	send(&s, CONTROL_TX, "short", 5);
	control(&s, 0, VIRTIO_CONSOLE_PORT_READY, 0);
	assert_false(virtio_console_open(s.c, 0));
	assert_false(vdrv_needs_reset(&s.d));
	control(&s, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	offer(&s, CONTROL_RX, 7, 1);
	assert_true(vdrv_needs_reset(&s.d));
	/* A new driver gets it all again, and the port is closed. */
	vdrv_start(&s.d, UINT64_MAX, 6, 16);
	assert_false(virtio_console_open(s.c, 1));
	control(&s, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	gpa_t at = offer(&s, CONTROL_RX, 40, 1);

	expect_control(&s, at, 0, VIRTIO_CONSOLE_PORT_ADD, 1, "");
	vdrv_down(&s.d);
}

/* Under way at a reset: neither output nor an answer comes. Too much at once breaks the device. */
static void resets(void **state)
{
	struct vdrv_seg huge[15];
	static struct seen s;

	up(&s, NULL, true);
	send(&s, 1, "lost", 4);
	vdrv_wr(&s.d, VIRTIO_MMIO_STATUS, 0);
	testclock_by(&s.d.clk, 1000000);
	assert_int_equal(s.n, 0);
	vdrv_start(&s.d, UINT64_MAX, 2, 16);
	send(&s, 1, "lost", 4);
	vdrv_wr(&s.d, VIRTIO_MMIO_QUEUE_SEL, 1);
	vdrv_wr(&s.d, VDRV_QUEUE_RESET, 1);
	testclock_by(&s.d.clk, 1000000);
	assert_int_equal(s.n, 0);
	vdrv_start(&s.d, UINT64_MAX, 2, 16);
	for (unsigned i = 0; i < ARRAY_LEN(huge); i++)
		huge[i] = (struct vdrv_seg){ 0, VDRV_RAM, false };
	vdrv_add(&s.d, 1, huge, ARRAY_LEN(huge));
	vdrv_notify(&s.d, 1);
	assert_true(vdrv_needs_reset(&s.d));
	vdrv_down(&s.d);
}

/* Without the virtual clock output is there at once, however many buffers wait. */
static void real_clock(void **state)
{
	static struct seen s;

	up(&s, NULL, false);
	for (unsigned i = 0; i < 15; i++) {
		struct vdrv_seg seg = { vdrv_put(&s.d, "0123456789", 10), 10, false };

		vdrv_add(&s.d, 1, &seg, 1);
	}
	vdrv_notify(&s.d, 1);
	assert_int_equal(s.n, 150);
	assert_int_equal(vdrv_used_idx(&s.d, 1), 15);
	/* One interrupt for all that came back, a little later. */
	assert_int_equal(s.d.rises, 0);
	assert_int_equal(s.overs, 0);
	testclock_by(&s.d.clk, 50000);
	assert_int_equal(s.d.rises, 1);
	assert_int_equal(s.overs, 1);
	/* Whoever gathers hears of the end before a reset takes the time away. */
	send(&s, 1, "x", 1);
	vdrv_wr(&s.d, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(s.overs, 2);
	testclock_by(&s.d.clk, 50000);
	assert_int_equal(s.overs, 2);
	vdrv_down(&s.d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(console), cmocka_unit_test(ports),	 cmocka_unit_test(nonsense),
		cmocka_unit_test(resets),  cmocka_unit_test(real_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
