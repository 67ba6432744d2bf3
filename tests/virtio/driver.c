// SPDX-License-Identifier: Apache-2.0
/*
 * driver.c - a virtio driver in a test: guest memory, rings, registers
 */
#include "driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void on_line(void *o, unsigned input, bool level)
{
	struct vdrv *d = o;

	bool rose = level && !d->irq;

	d->rises += rose;
	d->irq = level;
	if (rose && d->on_irq)
		d->on_irq(d->irq_opaque);
}

static void on_wrote(void *o, gpa_t gpa, size_t len)
{
	((struct vdrv *)o)->wrote += len;
}

void vdrv_up(struct vdrv *d)
{
	const struct mem_region r[] = {
		{ .base = 0, .size = VDRV_RAM },
		{ .base = VDRV_TOUCHING, .size = 1 << 20, .node = 1 },
		{ .base = VDRV_FAR, .size = 1 << 20 },
	};

	memset(d, 0, sizeof(*d));
	testclock_init(&d->clk);
	assert_int_equal(mem_new(r, ARRAY_LEN(r), NULL, &d->mem), 0);
	d->env = (struct vdev_env){ .mem = d->mem, .clk = &d->clk.g, .exact = true, .seed = 1 };
	d->heap = 0x1000;
}

void vdrv_attach(struct vdrv *d, struct vdev *v)
{
	struct irq_line irq = { .set = on_line, .opaque = d };

	d->v = v;
	assert_int_equal(virtio_mmio_new(v, &irq, &d->m), 0);
	mem_set_observer(d->mem, on_wrote, d);
}

void vdrv_down(struct vdrv *d)
{
	virtio_mmio_free(d->m);
	vdev_free(d->v);
	mem_free(d->mem);
	gclock_fini(&d->clk.g);
}

/* --- registers -------------------------------------------------------------------------------- */

u32 vdrv_rd(struct vdrv *d, u32 reg)
{
	return (u32)virtio_mmio_bus_ops.read(d->m, reg, 4, 0);
}

void vdrv_wr(struct vdrv *d, u32 reg, u32 val)
{
	virtio_mmio_bus_ops.write(d->m, reg, 4, val, 0);
}

u64 vdrv_features(struct vdrv *d)
{
	u64 f;

	vdrv_wr(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	f = (u64)vdrv_rd(d, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
	vdrv_wr(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	return f | vdrv_rd(d, VIRTIO_MMIO_DEVICE_FEATURES);
}

static void add_status(struct vdrv *d, u32 bits)
{
	vdrv_wr(d, VIRTIO_MMIO_STATUS, vdrv_rd(d, VIRTIO_MMIO_STATUS) | bits);
}

bool vdrv_negotiate(struct vdrv *d, u64 features)
{
	vdrv_wr(d, VIRTIO_MMIO_STATUS, 0);
	add_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	add_status(d, VIRTIO_CONFIG_S_DRIVER);
	features &= vdrv_features(d);
	vdrv_wr(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	vdrv_wr(d, VIRTIO_MMIO_DRIVER_FEATURES, (u32)(features >> 32));
	vdrv_wr(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	vdrv_wr(d, VIRTIO_MMIO_DRIVER_FEATURES, (u32)features);
	add_status(d, VIRTIO_CONFIG_S_FEATURES_OK);
	return vdrv_rd(d, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK;
}

void vdrv_set_addrs(struct vdrv *d, unsigned q)
{
	const struct vdrv_ring *r = &d->ring[q];

	vdrv_wr(d, VIRTIO_MMIO_QUEUE_SEL, q);
	vdrv_wr(d, VIRTIO_MMIO_QUEUE_NUM, r->size);
	vdrv_wr(d, VIRTIO_MMIO_QUEUE_DESC_LOW, (u32)r->desc);
	vdrv_wr(d, VIRTIO_MMIO_QUEUE_DESC_HIGH, (u32)(r->desc >> 32));
	vdrv_wr(d, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (u32)r->avail);
	vdrv_wr(d, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, (u32)(r->avail >> 32));
	vdrv_wr(d, VIRTIO_MMIO_QUEUE_USED_LOW, (u32)r->used);
	vdrv_wr(d, VIRTIO_MMIO_QUEUE_USED_HIGH, (u32)(r->used >> 32));
}

void vdrv_queue(struct vdrv *d, unsigned q, u16 size)
{
	struct vdrv_ring *r = &d->ring[q];

	*r = (struct vdrv_ring){ .size = size };
	r->desc = vdrv_alloc(d, 16u * size, 16);
	r->avail = vdrv_alloc(d, 6u + 2u * size, 2);
	r->used = vdrv_alloc(d, 6u + 8u * size, 4);
	vdrv_set_addrs(d, q);
	vdrv_wr(d, VIRTIO_MMIO_QUEUE_READY, 1);
}

void vdrv_ok(struct vdrv *d)
{
	add_status(d, VIRTIO_CONFIG_S_DRIVER_OK);
}

void vdrv_start(struct vdrv *d, u64 features, unsigned queues, u16 size)
{
	assert_true(vdrv_negotiate(d, features | BIT(VIRTIO_F_VERSION_1)));
	for (unsigned q = 0; q < queues; q++)
		vdrv_queue(d, q, size);
	vdrv_ok(d);
	assert_int_equal(vdrv_rd(d, VIRTIO_MMIO_STATUS), 15);
}

bool vdrv_needs_reset(struct vdrv *d)
{
	return vdrv_rd(d, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* --- memory ----------------------------------------------------------------------------------- */

gpa_t vdrv_alloc(struct vdrv *d, u32 len, u32 align)
{
	gpa_t at = ALIGN_UP(d->heap, (u64)align);

	d->heap = at + len;
	assert_true(d->heap <= VDRV_RAM);
	return at;
}

gpa_t vdrv_put(struct vdrv *d, const void *data, u32 len)
{
	gpa_t at = vdrv_alloc(d, len, 1);

	if (data)
		assert_int_equal(mem_write(d->mem, at, data, len), 0);
	return at;
}

u16 vdrv_get16(struct vdrv *d, gpa_t gpa)
{
	u16 v;

	assert_int_equal(mem_read(d->mem, gpa, &v, sizeof(v)), 0);
	return v;
}

void vdrv_put16(struct vdrv *d, gpa_t gpa, u16 val)
{
	assert_int_equal(mem_write(d->mem, gpa, &val, sizeof(val)), 0);
}

/* --- rings ------------------------------------------------------------------------------------ */

void vdrv_desc(struct vdrv *d, gpa_t table, u16 i, const struct vring_desc *desc)
{
	assert_int_equal(mem_write(d->mem, table + 16u * i, desc, sizeof(*desc)), 0);
}

void vdrv_avail(struct vdrv *d, unsigned q, u16 head)
{
	struct vdrv_ring *r = &d->ring[q];

	vdrv_put16(d, r->avail + 4 + 2u * (r->avail_idx & (r->size - 1)), head);
	vdrv_put16(d, r->avail + 2, ++r->avail_idx);
}

u16 vdrv_add(struct vdrv *d, unsigned q, const struct vdrv_seg *seg, unsigned n)
{
	struct vdrv_ring *r = &d->ring[q];
	u16 head = r->next;

	for (unsigned i = 0; i < n; i++) {
		u16 at = r->next, next = (u16)((at + 1) % r->size);
		struct vring_desc v = { .addr = seg[i].gpa,
					.len = seg[i].len,
					.flags = (u16)((seg[i].write ? VRING_DESC_F_WRITE : 0) |
						       (i + 1 < n ? VRING_DESC_F_NEXT : 0)),
					.next = next };

		vdrv_desc(d, r->desc, at, &v);
		r->next = next;
	}
	vdrv_avail(d, q, head);
	return head;
}

u16 vdrv_add_indirect(struct vdrv *d, unsigned q, const struct vdrv_seg *seg, unsigned n)
{
	struct vdrv_ring *r = &d->ring[q];
	gpa_t table = vdrv_alloc(d, 16 * n, 1);
	struct vring_desc in = { .addr = table, .len = 16 * n, .flags = VRING_DESC_F_INDIRECT };
	u16 head = r->next;

	for (unsigned i = 0; i < n; i++) {
		struct vring_desc v = { .addr = seg[i].gpa,
					.len = seg[i].len,
					.flags = (u16)((seg[i].write ? VRING_DESC_F_WRITE : 0) |
						       (i + 1 < n ? VRING_DESC_F_NEXT : 0)),
					.next = (u16)(i + 1) };

		vdrv_desc(d, table, (u16)i, &v);
	}
	vdrv_desc(d, r->desc, head, &in);
	r->next = (u16)((head + 1) % r->size);
	vdrv_avail(d, q, head);
	return head;
}

void vdrv_notify(struct vdrv *d, unsigned q)
{
	vdrv_wr(d, VIRTIO_MMIO_QUEUE_NOTIFY, q);
}

u16 vdrv_used_idx(struct vdrv *d, unsigned q)
{
	return vdrv_get16(d, d->ring[q].used + 2);
}

bool vdrv_used(struct vdrv *d, unsigned q, u32 *ret_id, u32 *ret_len)
{
	struct vdrv_ring *r = &d->ring[q];
	struct vring_used_elem e;

	if (vdrv_used_idx(d, q) == r->used_idx)
		return false;
	assert_int_equal(
		mem_read(d->mem, r->used + 4 + 8u * (r->used_idx & (r->size - 1)), &e, sizeof(e)),
		0);
	r->used_idx++;
	if (ret_id)
		*ret_id = e.id;
	if (ret_len)
		*ret_len = e.len;
	return true;
}

gpa_t vdrv_used_event(struct vdrv *d, unsigned q)
{
	return d->ring[q].avail + 4 + 2u * d->ring[q].size;
}

gpa_t vdrv_avail_event(struct vdrv *d, unsigned q)
{
	return d->ring[q].used + 4 + 8u * d->ring[q].size;
}
