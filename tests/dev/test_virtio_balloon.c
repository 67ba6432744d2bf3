// SPDX-License-Identifier: Apache-2.0
/*
 * test_virtio_balloon.c - the balloon, driven by its registers and queues
 */
#include "dev/virtio_balloon.h"

#include "../virtio/driver.h"

#include <linux/virtio_balloon.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#define SECOND 1000000000ull
#define STATS 2
#define REPORT 3
#define ACTUAL (VIRTIO_MMIO_CONFIG + 4)
#define POISON (VIRTIO_MMIO_CONFIG + 12)

static struct virtio_balloon *up(struct vdrv *d, u64 features, u64 poll_ns)
{
	struct virtio_balloon_cfg cfg = { .report = true, .poll_ns = poll_ns };
	struct virtio_balloon *b;
	struct vdev *v;
	bool stats = features & BIT(VIRTIO_BALLOON_F_STATS_VQ);

	vdrv_up(d);
	d->env.exact = true;
	assert_int_equal(virtio_balloon_new(&d->env, &cfg, &b, &v), 0);
	vdrv_attach(d, v);
	vdrv_start(d, features, 3u + stats, 16);
	return b;
}

static u8 byte_at(struct vdrv *d, gpa_t gpa)
{
	u8 b;

	assert_int_equal(mem_read(d->mem, gpa, &b, 1), 0);
	return b;
}

static bool resident(struct vdrv *d, gpa_t gpa)
{
	u8 vec = 0;

	assert_int_equal(mincore(mem_ptr(d->mem, gpa, 4096), 4096, &vec), 0);
	return vec & 1;
}

static void give(struct vdrv *d, unsigned q, const void *data, u32 len)
{
	struct vdrv_seg seg = { vdrv_put(d, data, len), len, false };

	vdrv_add(d, q, &seg, 1);
	vdrv_notify(d, q);
	testclock_by(&d->clk, 100000000);
}

/* The host's wish: pages in the configuration, a new generation, an interrupt. */
static void target(void **state)
{
	struct vdrv d;
	struct virtio_balloon *b = up(&d, UINT64_MAX, 0);
	struct virtio_balloon_info i;

	assert_int_equal(vdrv_rd(&d, VIRTIO_MMIO_DEVICE_ID), 5);
	assert_int_equal(vdrv_rd(&d, VIRTIO_MMIO_CONFIG), 0);
	virtio_balloon_target(b, 77);
	assert_int_equal(vdrv_rd(&d, VIRTIO_MMIO_CONFIG), 77);
	assert_int_equal(vdrv_rd(&d, VIRTIO_MMIO_CONFIG_GENERATION), 1);
	assert_int_equal(vdrv_rd(&d, VIRTIO_MMIO_INTERRUPT_STATUS) & 2, 2);
	virtio_balloon_target(b, 77);
	assert_int_equal(vdrv_rd(&d, VIRTIO_MMIO_CONFIG_GENERATION), 1);
	/* Two fields are the driver's, the rest is not; a reset forgets what was its. */
	vdrv_wr(&d, ACTUAL, 33);
	vdrv_wr(&d, VIRTIO_MMIO_CONFIG, 1);
	virtio_balloon_info(b, &i);
	assert_int_equal(i.actual, 33);
	assert_int_equal(i.target, 77);
	vdrv_wr(&d, VIRTIO_MMIO_STATUS, 0);
	virtio_balloon_info(b, &i);
	assert_int_equal(i.actual, 0);
	assert_int_equal(i.target, 77);
	vdrv_down(&d);
}

static void inflate(void **state)
{
	/* In no order; one twice; one across the end of RAM, one far away, the largest. */
	const u32 pages[] = { 0x203, 0x201, 0x202, 0x201, 0x4ff, 0x500, 0x80000, 0xffffffff };
	struct vdrv d;
	struct virtio_balloon *b = up(&d, UINT64_MAX, 0);
	struct virtio_balloon_info i;

	assert_int_equal(mem_fill(d.mem, 0x200000, 0x5a, 0x5000), 0);
	assert_int_equal(mem_fill(d.mem, 0x4ff000, 0x5a, 0x1000), 0);
	d.wrote = 0;
	give(&d, 0, pages, sizeof(pages));
	assert_int_equal(byte_at(&d, 0x200fff), 0x5a);
	for (gpa_t at = 0x201000; at < 0x204000; at += 0x1000) {
		assert_false(resident(&d, at));
		assert_int_equal(byte_at(&d, at), 0);
	}
	assert_int_equal(byte_at(&d, 0x204000), 0x5a);
	assert_int_equal(byte_at(&d, 0x4ff000), 0);
	/* The engine was told: code decoded there is gone. */
	assert_true(d.wrote >= 4 * 4096);
	virtio_balloon_info(b, &i);
	assert_int_equal(i.inflated, 8);
	assert_int_equal(i.bad, 3);
	give(&d, 1, pages, 8);
	virtio_balloon_info(b, &i);
	assert_int_equal(i.deflated, 2);
	/* No whole number, none at all. */
	give(&d, 0, pages, 3);
	give(&d, 0, pages, 7);
	virtio_balloon_info(b, &i);
	assert_int_equal(i.inflated, 9);
	assert_false(vdrv_needs_reset(&d));
	vdrv_down(&d);
}

static void statistics(void **state)
{
	u8 s[4 * 10] = { 4, 0, 1, 2, 3, 4, 0, 0, 0, 0, 200, 0, 9, [20] = 5, 0, 7, [30] = 9, 0, 8 };
	struct vdrv d;
	struct virtio_balloon *b = up(&d, UINT64_MAX, SECOND);
	struct virtio_balloon_info i;

	give(&d, STATS, s, sizeof(s) - 3); /* the last one is cut off */
	virtio_balloon_info(b, &i);
	assert_int_equal(i.stat[VIRTIO_BALLOON_S_MEMFREE], 0x04030201);
	assert_int_equal(i.stat[VIRTIO_BALLOON_S_MEMTOT], 7);
	assert_true(i.stat[9] == UINT64_MAX);
	/* The buffer is held until fresh ones are wanted. */
	assert_int_equal(vdrv_used_idx(&d, STATS), 0);
	testclock_by(&d.clk, SECOND);
	assert_int_equal(vdrv_used_idx(&d, STATS), 1);
	testclock_by(&d.clk, 10 * SECOND);
	assert_int_equal(vdrv_used_idx(&d, STATS), 1);
	/* Left there before DRIVER_OK, as Linux does, it is found at that. */
	struct vdrv_seg seg = { vdrv_put(&d, s, sizeof(s)), sizeof(s), false };

	assert_true(vdrv_negotiate(&d, UINT64_MAX));
	for (unsigned q = 0; q < 4; q++)
		vdrv_queue(&d, q, 16);
	vdrv_add(&d, STATS, &seg, 1);
	vdrv_notify(&d, STATS);
	vdrv_ok(&d);
	testclock_by(&d.clk, SECOND);
	assert_int_equal(vdrv_used_idx(&d, STATS), 1);
	/* Two at once: one comes back. */
	give(&d, STATS, s, sizeof(s));
	give(&d, STATS, s, sizeof(s));
	assert_int_equal(vdrv_used_idx(&d, STATS), 2);
	vdrv_wr(&d, VIRTIO_MMIO_STATUS, 0);
	testclock_by(&d.clk, 10 * SECOND);
	vdrv_down(&d);
}

static void report(struct vdrv *d, unsigned q, gpa_t gpa, u32 len)
{
	struct vdrv_seg seg = { gpa, len, true };

	vdrv_add(d, q, &seg, 1);
	vdrv_notify(d, q);
	testclock_by(&d->clk, 100000000);
}

/* Ranges, cut to whole pages; the queue moves up where there are no statistics. */
static void reporting(void **state)
{
	for (unsigned stats = 0; stats < 2; stats++) {
		u64 f = UINT64_MAX & ~(stats ? 0 : BIT(VIRTIO_BALLOON_F_STATS_VQ));
		struct vdrv d;
		struct virtio_balloon *b = up(&d, f, 0);
		struct virtio_balloon_info i;
		unsigned q = stats ? REPORT : REPORT - 1;

		assert_int_equal(mem_fill(d.mem, 0x200000, 0x5a, 0x10000), 0);
		report(&d, q, 0x201800, 0x3000);
		assert_int_equal(byte_at(&d, 0x201fff), 0x5a);
		assert_int_equal(byte_at(&d, 0x202000), 0);
		assert_int_equal(byte_at(&d, 0x203fff), 0);
		assert_int_equal(byte_at(&d, 0x204000), 0x5a);
		virtio_balloon_info(b, &i);
		assert_int_equal(i.reported, 0x3000);
		assert_int_equal(vdrv_used_idx(&d, q), 1);
		/* A driver that wants its poison back gets it. */
		vdrv_wr(&d, POISON, 0xaaaaaaaa);
		report(&d, q, 0x208000, 0x1000);
		assert_int_equal(byte_at(&d, 0x208000), 0x5a);
		assert_int_equal(vdrv_used_idx(&d, q), 2);
		vdrv_down(&d);
	}
}

static void releases(void **state)
{
	static const struct mem_region r[] = {
		{ .base = 0, .size = 0x4000 },
		{ .base = 0x4000, .size = 0x4000 },
		{ .base = 0x10000, .size = 0x4000, .window = true }
	};
	struct mem *m;

	assert_int_equal(mem_new(r, 3, NULL, &m), 0);
	assert_int_equal(mem_fill(m, 0, 1, 0x8000), 0);
	assert_int_equal(mem_release(m, 0x3000, 0x2000), 0); /* over the border of two */
	u8 *p = mem_ptr(m, 0x2000, 1);

	assert_int_equal(p[0xfff], 1);
	assert_int_equal(p[0x1000], 0);
	p = mem_ptr(m, 0x4000, 1);
	assert_int_equal(p[0xfff], 0);
	assert_int_equal(p[0x1000], 1);
	assert_true(mem_release(m, 0x7000, 0x2000) < 0);
	assert_true(mem_release(m, 0x10000, 0x1000) < 0); /* a window is not RAM */
	assert_true(mem_release(m, 0x1000, UINT64_MAX) < 0);
	assert_true(mem_release(m, UINT64_MAX, 2) < 0);
	assert_int_equal(mem_release(m, 0x5001, 0xffe), 0); /* no whole page in it */
	assert_int_equal(p[0x1000], 1);
	mem_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(target),     cmocka_unit_test(inflate),
		cmocka_unit_test(statistics), cmocka_unit_test(reporting),
		cmocka_unit_test(releases),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
