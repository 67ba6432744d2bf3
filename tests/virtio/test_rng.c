// SPDX-License-Identifier: Apache-2.0
/*
 * test_rng.c - the entropy device, driven by its registers and queue
 */
#include "dev/virtio_rng.h"

#include "driver.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

#define BIG (1u << 20)

/* The host's generator, which may be out of order. */
static int host_fails; /* the errno of the calls from now on; 0: they succeed */
static unsigned interrupted;

ssize_t getrandom(void *buf, size_t len, unsigned flags)
{
	if (interrupted && interrupted--) {
		errno = EINTR;
		return -1;
	}
	if (host_fails) {
		errno = host_fails;
		return -1;
	}
	return syscall(SYS_getrandom, buf, len, flags);
}

static void up(struct vdrv *d, bool exact, u64 seed)
{
	struct vdev *v;

	vdrv_up(d);
	d->env.exact = exact;
	d->env.seed = seed;
	assert_int_equal(virtio_rng_new(&d->env, &v), 0);
	vdrv_attach(d, v);
	vdrv_start(d, UINT64_MAX, 1, 16);
}

static void draw(struct vdrv *d, u8 *out, u32 len)
{
	struct vdrv_seg seg = { vdrv_put(d, NULL, len), len, true };
	u32 got;

	vdrv_add(d, 0, &seg, 1);
	vdrv_notify(d, 0);
	testclock_by(&d->clk, 1000000);
	assert_true(vdrv_used(d, 0, NULL, &got));
	assert_int_equal(got, len);
	assert_int_equal(mem_read(d->mem, seg.gpa, out, len), 0);
}

static void seeded(void **s)
{
	u8 a[100], b[100], c[100], more[100];
	struct vdrv d;

	up(&d, true, 1);
	assert_int_equal(vdrv_rd(&d, VIRTIO_MMIO_DEVICE_ID), 4);
	draw(&d, a, sizeof(a));
	draw(&d, more, sizeof(more));
	assert_memory_not_equal(a, more, sizeof(a));
	/* A driver's reset does not wind it back. */
	vdrv_start(&d, UINT64_MAX, 1, 16);
	draw(&d, b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
	vdrv_down(&d);
	up(&d, true, 1);
	draw(&d, b, sizeof(b));
	vdrv_down(&d);
	up(&d, true, 2);
	draw(&d, c, sizeof(c));
	vdrv_down(&d);
	assert_memory_equal(a, b, sizeof(a));
	assert_memory_not_equal(a, c, sizeof(a));
}

static void hosts_own(void **s)
{
	u8 a[600], b[600];
	struct vdrv d;

	up(&d, false, 1);
	draw(&d, a, sizeof(a));
	draw(&d, b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
	vdrv_down(&d);
}

/* At its due time, neither memory nor ring changes before; a reset forgets what is under way. */
static void due_time(void **s)
{
	struct vdrv_seg seg = { 0x100000, 1000, true };
	struct vdrv d;
	u8 buf[1000] = { 0 }, zero[1000] = { 0 };

	up(&d, true, 1);
	vdrv_add(&d, 0, &seg, 1);
	vdrv_notify(&d, 0);
	testclock_to(&d.clk, 2000 + 2000 - 1);
	assert_int_equal(mem_read(d.mem, seg.gpa, buf, sizeof(buf)), 0);
	assert_memory_equal(buf, zero, sizeof(buf));
	assert_false(d.irq);
	testclock_to(&d.clk, 2000 + 2000);
	assert_true(d.irq);
	assert_int_equal(vdrv_used_idx(&d, 0), 1);

	vdrv_add(&d, 0, &seg, 1);
	vdrv_notify(&d, 0);
	vdrv_wr(&d, VIRTIO_MMIO_STATUS, 0);
	testclock_by(&d.clk, 1000000);
	assert_int_equal(vdrv_used_idx(&d, 0), 1);
	vdrv_start(&d, UINT64_MAX, 1, 16);
	vdrv_add(&d, 0, &seg, 1);
	vdrv_notify(&d, 0);
	vdrv_wr(&d, VIRTIO_MMIO_QUEUE_SEL, 0);
	vdrv_wr(&d, VDRV_QUEUE_RESET, 1);
	testclock_by(&d.clk, 1000000);
	assert_int_equal(vdrv_used_idx(&d, 0), 0);
	vdrv_down(&d);
}

static void odd_requests(void **s)
{
	struct vdrv d;
	u32 got;

	up(&d, true, 1);
	/* Too much at once, nothing, and something to read, which it does not. */
	const struct vdrv_seg seg[] = { { 0x100000, BIG, true } },
			      none[] = { { 0x1000, 4, false } };
	vdrv_add(&d, 0, seg, 1);
	vdrv_add(&d, 0, none, 1);
	vdrv_notify(&d, 0);
	testclock_by(&d.clk, 10000000);
	assert_true(vdrv_used(&d, 0, NULL, &got));
	assert_true(got > 0 && got <= 65536);
	assert_true(vdrv_used(&d, 0, NULL, &got));
	assert_int_equal(got, 0);
	assert_false(vdrv_needs_reset(&d));
	vdrv_down(&d);
}

/* Without entropy there is no answer: neither zeros nor bytes that were there before. */
static void no_entropy(void **s)
{
	struct vdrv_seg seg;
	struct vdrv d;
	u8 buf[600], again[600];

	up(&d, false, 1);
	memset(buf, 0x5a, sizeof(buf));
	seg = (struct vdrv_seg){ vdrv_put(&d, buf, sizeof(buf)), sizeof(buf), true };
	host_fails = EIO;
	vdrv_add(&d, 0, &seg, 1);
	vdrv_notify(&d, 0);
	host_fails = 0;
	assert_int_equal(vdrv_used_idx(&d, 0), 0);
	assert_true(vdrv_needs_reset(&d));
	assert_int_equal(mem_read(d.mem, seg.gpa, again, sizeof(again)), 0);
	assert_memory_equal(again, buf, sizeof(buf));
	/* A driver that resets it finds one that works, and a signal is no failure. */
	vdrv_start(&d, UINT64_MAX, 1, 16);
	interrupted = 3;
	draw(&d, buf, sizeof(buf));
	draw(&d, again, sizeof(again));
	assert_memory_not_equal(again, buf, sizeof(buf));
	vdrv_down(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(seeded),     cmocka_unit_test(hosts_own),
		cmocka_unit_test(due_time),   cmocka_unit_test(odd_requests),
		cmocka_unit_test(no_entropy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
