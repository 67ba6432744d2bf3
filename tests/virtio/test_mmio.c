// SPDX-License-Identifier: Apache-2.0
/*
 * test_mmio.c - the registers of virtio-mmio and the rules of features and status
 */
#include "echo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define GOOD (UINT64_MAX & ~BIT(ECHO_REFUSED))
#define F_RING_RESET 40

struct rig {
	struct vdrv d;
	struct echo e;
};

static struct rig *up(void)
{
	static struct rig r;

	vdrv_up(&r.d);
	vdrv_attach(&r.d, echo_new(&r.e, &r.d.env));
	return &r;
}

static u64 read_any(struct rig *r, u64 off, unsigned size)
{
	return virtio_mmio_bus_ops.read(r->d.m, off, size, 0);
}

static void identity(void **s)
{
	struct rig *r = up();

	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_VERSION), 2);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_DEVICE_ID), 42);
	assert_int_equal(vdrv_features(&r->d),
			 BIT(ECHO_FEATURE) | BIT(ECHO_REFUSED) | BIT(VIRTIO_F_VERSION_1) |
				 BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_RING_F_INDIRECT_DESC) |
				 BIT(F_RING_RESET));
	/* There are 64 feature bits; a selector beyond them finds none. */
	vdrv_wr(&r->d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	vdrv_down(&r->d);
}

/* Registers take 32-bit accesses at their address; nothing else does anything (4.2.2.2). */
static void access_sizes(void **s)
{
	struct rig *r = up();

	for (unsigned size = 1; size <= 8; size *= 2) {
		for (u64 off = 0; off < VIRTIO_MMIO_CONFIG; off++) {
			if (size == 4 && off % 4 == 0)
				continue;
			assert_int_equal(read_any(r, off, size), 0);
			virtio_mmio_bus_ops.write(r->d.m, off, size, UINT64_MAX, 0);
		}
	}
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_STATUS), 0);
	assert_int_equal(r->e.resets, 0);
	vdrv_down(&r->d);
}

static void features(void **s)
{
	struct rig *r = up();

	assert_true(vdrv_negotiate(&r->d, GOOD));
	assert_true(vdev_has(r->e.v, ECHO_FEATURE));
	/* Frozen from then on. */
	vdrv_wr(&r->d, VIRTIO_MMIO_DRIVER_FEATURES, 0);
	assert_true(vdev_has(r->e.v, ECHO_FEATURE));
	/* Not without VERSION_1, not what was not offered, not what the device refuses. */
	assert_false(vdrv_negotiate(&r->d, GOOD & ~BIT(VIRTIO_F_VERSION_1)));
	assert_false(vdev_has(r->e.v, ECHO_FEATURE));
	assert_false(vdrv_negotiate(&r->d, UINT64_MAX));
	assert_true(vdrv_negotiate(&r->d, BIT(VIRTIO_F_VERSION_1)));
	vdrv_wr(&r->d, VIRTIO_MMIO_STATUS, 0);
	vdrv_wr(&r->d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	vdrv_wr(&r->d, VIRTIO_MMIO_DRIVER_FEATURES, UINT32_MAX);
	vdrv_wr(&r->d, VIRTIO_MMIO_STATUS, 11);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_STATUS), 3);
	/* A selector of 2 must not be taken for 0 or 1. */
	vdrv_wr(&r->d, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	vdrv_wr(&r->d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2);
	vdrv_wr(&r->d, VIRTIO_MMIO_DRIVER_FEATURES, UINT32_MAX);
	vdrv_wr(&r->d, VIRTIO_MMIO_STATUS, 11);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_STATUS), 11);
	vdrv_down(&r->d);
}

static void status(void **s)
{
	struct rig *r = up();

	/* DRIVER_OK only behind FEATURES_OK; bits never go; NEEDS_RESET is not the driver's. */
	vdrv_wr(&r->d, VIRTIO_MMIO_STATUS, 0x40 | 0x20 | 7);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_STATUS), 3);
	assert_int_equal(r->e.started, 0);
	vdrv_wr(&r->d, VIRTIO_MMIO_STATUS, 1);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_STATUS), 3);
	/* A queue before FEATURES_OK is an error; notifications before DRIVER_OK are ignored. */
	vdrv_start(&r->d, GOOD, 1, 16);
	assert_int_equal(r->e.started, 1);
	vdrv_wr(&r->d, VIRTIO_MMIO_STATUS, 15);
	assert_int_equal(r->e.started, 1);
	assert_true(vdrv_negotiate(&r->d, GOOD));
	vdrv_queue(&r->d, 0, 16);
	vdrv_notify(&r->d, 0);
	assert_int_equal(r->e.notified[0], 0);
	vdrv_ok(&r->d);
	vdrv_notify(&r->d, 0);
	vdrv_notify(&r->d, 1); /* not ready */
	vdrv_notify(&r->d, 3); /* not there */
	vdrv_notify(&r->d, UINT32_MAX);
	assert_int_equal(r->e.notified[0], 1);
	assert_int_equal(r->e.notified[1], 0);
	vdrv_wr(&r->d, VIRTIO_MMIO_STATUS, 0);
	vdrv_wr(&r->d, VIRTIO_MMIO_STATUS, 3);
	vdrv_queue(&r->d, 0, 16);
	assert_true(vdrv_needs_reset(&r->d));
	vdrv_down(&r->d);
}

/* Reset leaves nothing: addresses, sizes, selectors, features, interrupts (case T5). */
static void full_reset(void **s)
{
	struct rig *r = up();
	struct vdrv_seg seg = { vdrv_put(&r->d, NULL, 4), 4, true };
	struct device own[VDEV_DEVICES];

	vdrv_start(&r->d, GOOD, 3, 16);
	vdrv_add(&r->d, 0, &seg, 1);
	vdrv_notify(&r->d, 0);
	assert_true(r->d.irq);
	vdrv_wr(&r->d, VIRTIO_MMIO_SHM_SEL, 1);
	vdrv_wr(&r->d, VIRTIO_MMIO_STATUS, 0);
	assert_false(r->d.irq);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_STATUS), 0);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_QUEUE_NUM_MAX), ECHO_MAX_SIZE);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_SHM_LEN_LOW), UINT32_MAX);
	assert_int_equal(vdev_driver_features(r->e.v), 0);
	for (unsigned q = 0; q < ECHO_QUEUES; q++) {
		const struct vq_st *st = vq_state(vdev_queue(r->e.v, q));
		const struct vq_st blank = { .size = (u16)vq_size_max(vdev_queue(r->e.v, q)),
					     .notify = 1 };

		assert_memory_equal(st, &blank, sizeof(blank));
	}
	/* The board's reset is at least as thorough. */
	vdev_devices(r->e.v, own);
	vdrv_start(&r->d, GOOD, 1, 16);
	vdev_config_changed(r->e.v);
	for (unsigned i = 0; i < VDEV_DEVICES; i++)
		device_reset(&own[i]);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_CONFIG_GENERATION), 0);
	assert_false(r->d.irq);
	vdrv_down(&r->d);
}

static void queues(void **s)
{
	struct rig *r = up();
	static const u32 max[] = { ECHO_MAX_SIZE, 1024, 16, 0, 0 };

	for (unsigned q = 0; q < ARRAY_LEN(max); q++) {
		vdrv_wr(&r->d, VIRTIO_MMIO_QUEUE_SEL, q);
		assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_QUEUE_NUM_MAX), max[q]);
	}
	/* Everything at a queue that does not exist is dropped. */
	for (u32 sel = 3; sel; sel = sel < 0x80000000 ? sel * 2 : 0) {
		vdrv_wr(&r->d, VIRTIO_MMIO_QUEUE_SEL, sel);
		for (u32 reg = 0x38; reg <= 0xc0; reg += 4)
			if (reg != VIRTIO_MMIO_STATUS)
				vdrv_wr(&r->d, reg, 1);
		assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_QUEUE_READY), 0);
	}
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_STATUS), 0);
	/* A ready queue's settings are fixed. */
	vdrv_start(&r->d, GOOD, 3, 16);
	vdrv_wr(&r->d, VIRTIO_MMIO_QUEUE_SEL, 2);
	vdrv_wr(&r->d, VIRTIO_MMIO_QUEUE_NUM, 8);
	vdrv_wr(&r->d, VIRTIO_MMIO_QUEUE_DESC_LOW, 0xdead0);
	assert_int_equal(vq_size(vdev_queue(r->e.v, 2)), 16);
	assert_int_equal(vq_state(vdev_queue(r->e.v, 2))->desc, r->d.ring[2].desc);
	/* QueueReset: that queue alone; it reads 0 when done, and can be set up anew. */
	vdrv_wr(&r->d, VDRV_QUEUE_RESET, 1);
	assert_int_equal(vdrv_rd(&r->d, VDRV_QUEUE_RESET), 0);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_QUEUE_READY), 0);
	assert_int_equal(r->e.stops, 1);
	assert_true(vq_ready(vdev_queue(r->e.v, 1)));
	vdrv_queue(&r->d, 2, 8);
	assert_int_equal(vq_size(vdev_queue(r->e.v, 2)), 8);
	assert_int_equal(r->e.resets, 1); /* vdrv_start's */
	vdrv_down(&r->d);
}

static void many_queues(void **s)
{
	static const struct vdev_ops ops = { .name = "many", .id = 1, .notify = NULL };
	struct vdrv d;
	struct vdev_cfg vc = { .ops = &ops, .dev = &d, .env = &d.env, .n_queues = 64 };
	struct vdev_ops good = ops;
	struct vdev *v = NULL;

	vdrv_up(&d);
	assert_true(vdev_new(&vc, &v) < 0);
	good.notify = (void (*)(void *, unsigned))abort;
	vc.ops = &good;
	vc.n_queues = 65;
	assert_true(vdev_new(&vc, &v) < 0);
	vc.n_queues = 0;
	assert_true(vdev_new(&vc, &v) < 0);
	vc.n_queues = 64;
	assert_int_equal(vdev_new(&vc, &v), 0);
	vdrv_attach(&d, v);
	/* Selectors above 7 work like others. */
	for (unsigned q = 0; q < 64; q++) {
		vdrv_wr(&d, VIRTIO_MMIO_QUEUE_SEL, q);
		vdrv_wr(&d, VIRTIO_MMIO_QUEUE_NUM, 1u << (q % 9));
		vdrv_wr(&d, VIRTIO_MMIO_QUEUE_DESC_LOW, q * 4096);
		assert_int_equal(vq_state(vdev_queue(v, q))->size, 1u << (q % 9));
		assert_int_equal(vq_state(vdev_queue(v, q))->desc, q * 4096);
	}
	vdrv_down(&d);
}

static void config(void **s)
{
	struct rig *r = up();
	u32 gen;

	for (unsigned size = 1; size <= 8; size *= 2) {
		for (u64 off = 0; off < 0x100; off++) {
			u8 bytes[8] = { 0 };
			u64 want = 0;

			for (unsigned i = 0; i < size && off + i < sizeof(r->e.config); i++)
				bytes[i] = ((u8 *)&r->e.config)[off + i];
			memcpy(&want, bytes, size);
			assert_int_equal(read_any(r, 0x100 + off, size), want);
		}
	}
	virtio_mmio_bus_ops.write(r->d.m, 0x100 + offsetof(struct echo_config, writable), 2, 77, 0);
	assert_int_equal(r->e.config.writable, 77);
	/* Across the end: not even the part that fits. */
	virtio_mmio_bus_ops.write(r->d.m, 0x100 + sizeof(struct echo_config) - 4, 8, 77, 0);
	virtio_mmio_bus_ops.write(r->d.m, 0x1ff, 1, 77, 0);
	assert_int_equal(r->e.config_writes, 1);

	gen = vdrv_rd(&r->d, VIRTIO_MMIO_CONFIG_GENERATION);
	vdev_config_changed(r->e.v);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_CONFIG_GENERATION), gen + 1);
	assert_false(r->d.irq); /* nobody is there to hear it */
	vdrv_start(&r->d, GOOD, 1, 16);
	vdev_config_changed(r->e.v);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_INTERRUPT_STATUS), 2);
	assert_true(r->d.irq);
	vdrv_down(&r->d);
}

/* The line is level: it falls when all causes are acknowledged, not before. */
static void interrupts(void **s)
{
	struct rig *r = up();
	struct vdrv_seg seg = { vdrv_put(&r->d, NULL, 4), 4, true };

	vdrv_start(&r->d, GOOD & ~BIT(VIRTIO_RING_F_EVENT_IDX), 1, 16);
	vdrv_add(&r->d, 0, &seg, 1);
	vdrv_notify(&r->d, 0);
	vdev_config_changed(r->e.v);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_INTERRUPT_STATUS), 3);
	vdrv_wr(&r->d, VIRTIO_MMIO_INTERRUPT_ACK, 1);
	assert_true(r->d.irq);
	vdrv_wr(&r->d, VIRTIO_MMIO_INTERRUPT_ACK, 0xfffffffd);
	assert_true(r->d.irq);
	vdrv_wr(&r->d, VIRTIO_MMIO_INTERRUPT_ACK, 2);
	assert_false(r->d.irq);
	/* A second request raises it again: not only the first is heard. */
	vdrv_add(&r->d, 0, &seg, 1);
	vdrv_notify(&r->d, 0);
	assert_int_equal(r->d.rises, 2);
	vdrv_down(&r->d);
}

static void shared_memory(void **s)
{
	struct rig *r = up();

	for (u32 id = 0; id < 6; id++) {
		vdrv_wr(&r->d, VIRTIO_MMIO_SHM_SEL, id);
		assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_SHM_LEN_LOW),
				 id == 1 ? 0x200000 : UINT32_MAX);
		assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_SHM_LEN_HIGH),
				 id == 1 ? 0 : UINT32_MAX);
		assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_SHM_BASE_LOW),
				 id == 1 ? 0x56789000 : UINT32_MAX);
		assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_SHM_BASE_HIGH),
				 id == 1 ? 0x1234 : UINT32_MAX);
	}
	vdrv_down(&r->d);
}

static void add(void *h, const void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		*(u64 *)h = (*(u64 *)h ^ ((const u8 *)p)[i]) * 0x100000001b3ull;
}

static u64 digest(struct rig *r)
{
	struct device own[VDEV_DEVICES], m = virtio_mmio_device(r->d.m);
	u64 h = 0;

	vdev_devices(r->e.v, own);
	device_digest(&m, add, &h);
	for (unsigned i = 0; i < VDEV_DEVICES; i++)
		if (own[i].ops->state(own[i].dev, 0))
			device_digest(&own[i], add, &h);
	return h;
}

/* Random writes by a guest: same seed, same state; and the monitor stands (run under ASan too). */
static u64 garbage(u64 seed)
{
	static const u64 status[] = { 0, 1, 3, 11, 15, 15, 15, 0x8f };
	struct rig *r = up();
	u64 h;

	vdrv_start(&r->d, GOOD, 3, 16);
	for (unsigned i = 0; i < 200000; i++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		u64 off = (seed >> 20) & 0x1ff, val = seed >> 33;
		unsigned size = 1u << ((seed >> 60) & 3);

		if ((seed >> 50) & 3) {
			off &= 0xfc;
			size = 4;
			val &= (seed >> 52) & 1 ? 0xff : 0xffff;
		}
		if (off == VIRTIO_MMIO_STATUS)
			val = status[val & 7];
		if ((seed >> 55) & 1)
			virtio_mmio_bus_ops.write(r->d.m, off, size, val, 0);
		else
			read_any(r, off, size);
	}
	h = digest(r);
	vdrv_down(&r->d);
	return h;
}

static void survives_garbage(void **s)
{
	assert_true(garbage(1) == garbage(1));
	assert_true(garbage(1) != garbage(2));
}

/* --- a driver that never stops ----------------------------------------------------------------- */

/* For each answer there is another request at once, as a vCPU on another thread could have it. */
struct flood {
	gpa_t used_idx;
	u16 *avail_idx;
	unsigned left;
};

static void on_answer(void *opaque, gpa_t gpa, size_t len)
{
	struct flood *f = opaque;

	if (gpa != f->used_idx || !f->left)
		return;
	f->left--;
	++*f->avail_idx;
}

static void on_kick(void *opaque)
{
	++*(unsigned *)opaque;
}

static void turns_end(void **s)
{
	enum { TURN = 4 * VQ_SIZE_MAX, ALL = 2 * TURN + 10 };
	struct vring_desc desc = { .len = 4, .flags = VRING_DESC_F_WRITE };
	static struct rig r;
	struct flood f = { 0 };
	unsigned kicks = 0;
	struct gate_cfg gc = { .kick = on_kick, .opaque = &kicks };
	struct gate *g;

	assert_int_equal(gate_new(&gc, &g), 0);
	vdrv_up(&r.d);
	r.d.env.exact = false;
	r.d.env.gate = g;
	vdrv_attach(&r.d, echo_new(&r.e, &r.d.env));
	vdrv_start(&r.d, GOOD, 1, 16);
	desc.addr = vdrv_put(&r.d, NULL, 4);
	vdrv_desc(&r.d, r.d.ring[0].desc, 0, &desc);
	f.used_idx = r.d.ring[0].used + 2;
	f.avail_idx = mem_ptr(r.d.mem, r.d.ring[0].avail + 2, 2);
	mem_set_observer(r.d.mem, on_answer, &f);
	f.left = ALL - 1;
	*f.avail_idx = 1;
	/* The write to the register returns, and the rest is done in turns. */
	vdrv_notify(&r.d, 0);
	assert_int_equal(vdrv_used_idx(&r.d, 0), TURN);
	assert_int_equal(kicks, 1);
	gate_dispatch(g);
	assert_int_equal(vdrv_used_idx(&r.d, 0), 2 * TURN);
	gate_dispatch(g);
	assert_int_equal(vdrv_used_idx(&r.d, 0), ALL);
	assert_int_equal(kicks, 2);
	gate_dispatch(g);
	assert_int_equal(r.e.notified[0], 3);
	/* A reset ends it, and so does the device's end. */
	f.left = ALL;
	++*f.avail_idx;
	vdrv_notify(&r.d, 0);
	vdrv_wr(&r.d, VIRTIO_MMIO_STATUS, 0);
	gate_dispatch(g);
	assert_int_equal(r.e.notified[0], 4);
	vdrv_start(&r.d, GOOD, 1, 16);
	mem_set_observer(r.d.mem, on_answer, &f);
	f.used_idx = r.d.ring[0].used + 2;
	f.avail_idx = mem_ptr(r.d.mem, r.d.ring[0].avail + 2, 2);
	f.left = ALL;
	vdrv_desc(&r.d, r.d.ring[0].desc, 0, &desc);
	*f.avail_idx = 1;
	vdrv_notify(&r.d, 0);
	assert_int_equal(r.e.notified[0], 5);
	vdrv_down(&r.d);
	gate_dispatch(g);
	gate_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identity),	    cmocka_unit_test(access_sizes),
		cmocka_unit_test(features),	    cmocka_unit_test(status),
		cmocka_unit_test(full_reset),	    cmocka_unit_test(queues),
		cmocka_unit_test(many_queues),	    cmocka_unit_test(config),
		cmocka_unit_test(interrupts),	    cmocka_unit_test(shared_memory),
		cmocka_unit_test(survives_garbage), cmocka_unit_test(turns_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
