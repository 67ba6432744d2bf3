/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rig.h - a hostile driver that a fuzzer's input steers, against one virtio device
 *
 * The input is a program: set-ups that mostly work, descriptors that are nearly right, buffers,
 * notifications, any register, any memory, time. What is the device's own the fuzzer adds.
 */
#ifndef ORR_TESTS_FUZZ_RIG_H
#define ORR_TESTS_FUZZ_RIG_H

#include "virtio/mmio.h"

#include "input.h"

#include "../dev/testclock.h"

#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#define RIG_RAM 0x40000u
#define RIG_FAR 0x100000000ull /* as much again, behind a hole */
#define RIG_RINGS 0x1000u      /* queue i: descriptors at RIG_RINGS + i * RIG_STEP */
#define RIG_STEP 0x1000u
#define RIG_AVAIL 0x800u /* behind the descriptors */
#define RIG_USED 0xa00u
#define RIG_TABLE 0x20000u /* an indirect table, and data behind */

struct rig {
	struct input in;
	struct mem *mem;
	struct testclock clk;
	struct vdev_env env;
	struct vdev *v;
	struct virtio_mmio *m;
	unsigned queues;
};

static inline u32 rig_take(struct rig *r, unsigned n)
{
	return take(&r->in, n);
}

static inline void rig_wr(struct rig *r, u32 reg, u32 val)
{
	virtio_mmio_bus_ops.write(r->m, reg, 4, val, 0);
}

static inline void rig_put(struct rig *r, u64 at, const void *data, size_t len)
{
	if (mem_write(r->mem, at, data, len) < 0)
		return; /* a driver that misses RAM */
}

static inline void rig_start(struct rig *r)
{
	u32 how = rig_take(r, 1), features = rig_take(r, 1), size = 1u << (how & 5);

	rig_wr(r, VIRTIO_MMIO_STATUS, 0);
	if (mem_fill(r->mem, 0, 0, RIG_TABLE) < 0)
		return;
	rig_wr(r, VIRTIO_MMIO_STATUS, 3);
	rig_wr(r, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	rig_wr(r, VIRTIO_MMIO_DRIVER_FEATURES, how & 8 ? 0x101 : 1);
	rig_wr(r, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	rig_wr(r, VIRTIO_MMIO_DRIVER_FEATURES, (how & 0x10 ? 3u << 28 : 0) | features);
	rig_wr(r, VIRTIO_MMIO_STATUS, 11);
	for (unsigned q = 0; q < r->queues; q++) {
		u32 base = RIG_RINGS + q * RIG_STEP;

		rig_wr(r, VIRTIO_MMIO_QUEUE_SEL, q);
		rig_wr(r, VIRTIO_MMIO_QUEUE_NUM, size);
		rig_wr(r, VIRTIO_MMIO_QUEUE_DESC_LOW, base);
		rig_wr(r, VIRTIO_MMIO_QUEUE_AVAIL_LOW, base + RIG_AVAIL);
		rig_wr(r, VIRTIO_MMIO_QUEUE_USED_LOW, base + RIG_USED);
		rig_wr(r, VIRTIO_MMIO_QUEUE_READY, 1);
	}
	rig_wr(r, VIRTIO_MMIO_STATUS, 15);
}

/* One descriptor and its head made available, with data of the input in it. */
static inline void rig_request(struct rig *r)
{
	u32 b = rig_take(r, 1), q = rig_take(r, 1) % r->queues, n = rig_take(r, 1);
	u64 base = RIG_RINGS + q * RIG_STEP, avail = base + RIG_AVAIL;
	struct vring_desc d = { .addr = RIG_TABLE + 0x1000 + (b >> 4) * 0x101,
				.len = b & 1 ? n : 1 + (n & 31),
				.flags = b & 2 ? VRING_DESC_F_WRITE : 0 };
	u8 data[256];
	u16 idx, slot, head;

	if (b & 8)
		d.addr = (b & 0x10 ? RIG_FAR : 0) + RIG_RAM - 16; /* over the end */
	if ((b & 0xe0) == 0xe0)
		d.len = rig_take(r, 4);
	for (unsigned i = 0; i < MIN(d.len, 256u) && !(b & 2); i++)
		data[i] = (u8)rig_take(r, 1);
	if (!(b & 2))
		rig_put(r, d.addr, data, MIN(d.len, 256u));
	if (mem_read(r->mem, avail + 2, &idx, 2) < 0)
		return;
	head = (u16)(idx & 31);
	if (b & 4) {
		d.flags |= VRING_DESC_F_NEXT;
		d.next = (u16)((head + 1) & 31);
	}
	rig_put(r, base + 16u * head, &d, sizeof(d));
	for (u32 size = 1; size <= 32; size *= 2) {
		slot = (u16)(idx & (size - 1));
		rig_put(r, avail + 4 + 2u * slot, &head, 2);
	}
	idx++;
	rig_put(r, avail + 2, &idx, 2);
	rig_wr(r, VIRTIO_MMIO_QUEUE_NOTIFY, q);
}

static inline void rig_poke(struct rig *r)
{
	u32 b = rig_take(r, 1), off = rig_take(r, 2) & 0x1ff, size = 1u << (b & 3);

	if (b & 4)
		virtio_mmio_bus_ops.read(r->m, off, size, 0);
	else
		virtio_mmio_bus_ops.write(r->m, b & 8 ? off & 0x1fc : off, b & 8 ? 4 : size,
					  rig_take(r, b & 16 ? 1 : 4), 0);
}

static inline void rig_scribble(struct rig *r)
{
	u32 at = rig_take(r, 3) & (RIG_RAM - 1), n = rig_take(r, 1);
	u8 data[256];

	for (u32 i = 0; i < n; i++)
		data[i] = (u8)rig_take(r, 1);
	rig_put(r, at, data, n);
}

/* One step of the program; its first byte chose @what. */
static inline void rig_step(struct rig *r, u32 what)
{
	switch (what % 8) {
	case 0:
		rig_start(r);
		break;
	case 1:
	case 2:
	case 3:
	case 4:
		rig_request(r);
		break;
	case 5:
		rig_poke(r);
		break;
	case 6:
		rig_scribble(r);
		break;
	default:
		testclock_by(&r->clk, (u64)rig_take(r, 2) << 10);
	}
}

/* Before the device is made: memory (kept between runs), clock, environment. */
static inline void rig_init(struct rig *r, const u8 *data, size_t len)
{
	static const struct mem_region regions[] = { { .base = 0, .size = RIG_RAM },
						     { .base = RIG_FAR, .size = RIG_RAM } };
	static struct mem *ram;

	if (!ram)
		BUG_IF(mem_new(regions, ARRAY_LEN(regions), NULL, &ram) < 0);
	*r = (struct rig){ .in = { data, len }, .mem = ram };
	testclock_init(&r->clk);
	r->env = (struct vdev_env){ .mem = ram, .clk = &r->clk.g, .exact = true, .seed = 1 };
}

static inline void rig_attach(struct rig *r, struct vdev *v)
{
	struct irq_line irq = { 0 };

	r->v = v;
	r->queues = vdev_queues(v);
	BUG_IF(virtio_mmio_new(v, &irq, &r->m) < 0);
}

static inline void rig_fini(struct rig *r)
{
	virtio_mmio_free(r->m);
	vdev_free(r->v);
	gclock_fini(&r->clk.g);
}

#endif
