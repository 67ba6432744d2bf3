// SPDX-License-Identifier: Apache-2.0
/*
 * mmio.c - the virtio-mmio transport, version 2 (virtio 1.2, 4.2)
 *
 * How it works
 * A window of 32-bit registers, then the configuration space. Registers take aligned 32-bit
 * accesses only (4.2.2.2); anything else reads as zero and writes nothing. The configuration
 * space takes any width. Selectors are the transport's state, all else is the device core's.
 *
 * The interrupt line is level-triggered and follows "interrupt status is not zero", so that an
 * event between a driver's reading of the status and its acknowledgement is not lost.
 *
 * A queue reset (4.2.2.1, QueueReset) is finished before the write returns: whoever polls the
 * register reads 0. Writing 0 to QueueReady does the same; the specification leaves open what
 * becomes of buffers then, and to forget them is the only answer that leaves no dangling ones.
 *
 * Writing 0 to Status resets the selectors too: a driver that takes over must find what power-on
 * would have left.
 */
#include "virtio/mmio.h"

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC 0x74726976u  /* "virt" */
#define VENDOR 0x5952524fu /* "ORRY" */
#define VERSION 2u
#define REG_QUEUE_RESET 0x0c0u /* younger than the header */
#define SHM_NONE UINT64_MAX    /* 4.2.2: length and base of a region that does not exist */

struct mmio_st {
	u32 device_sel, driver_sel, queue_sel, shm_sel;
};

struct virtio_mmio {
	struct vdev *v;
	struct irq_line irq;
	struct mmio_st st;
};

static const struct field_desc fields[] = {
	DEV_FIELD(struct mmio_st, device_sel),
	DEV_FIELD(struct mmio_st, driver_sel),
	DEV_FIELD(struct mmio_st, queue_sel),
	DEV_FIELD(struct mmio_st, shm_sel),
	DEV_FIELDS_END,
};

/* The selected queue, or NULL: selectors come from the guest. */
static struct vq *queue(const struct virtio_mmio *m)
{
	return m->st.queue_sel < vdev_queues(m->v) ? vdev_queue(m->v, m->st.queue_sel) : NULL;
}

static u32 half(u64 val, bool high)
{
	return (u32)(high ? val >> 32 : val);
}

static u32 shm(const struct virtio_mmio *m, bool base, bool high)
{
	struct vdev_shm s;

	if (!vdev_shm(m->v, m->st.shm_sel, &s))
		s = (struct vdev_shm){ SHM_NONE, SHM_NONE };
	return half(base ? s.base : s.len, high);
}

static u32 reg_read(const struct virtio_mmio *m, u32 reg)
{
	struct vq *q = queue(m);

	switch (reg) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return vdev_ops(m->v)->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return m->st.device_sel < 2 ? half(vdev_features(m->v), m->st.device_sel) : 0;
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return q ? vq_size_max(q) : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return q ? vq_state(q)->ready : 0;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return vdev_isr(m->v);
	case VIRTIO_MMIO_STATUS:
		return vdev_status(m->v);
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
		return shm(m, false, reg == VIRTIO_MMIO_SHM_LEN_HIGH);
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return shm(m, true, reg == VIRTIO_MMIO_SHM_BASE_HIGH);
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return vdev_config_generation(m->v);
	default: /* write-only ones, QueueReset, and what does not exist */
		return 0;
	}
}

static void set_addr(struct virtio_mmio *m, enum vq_area area, bool high, u32 val)
{
	struct vq *q = queue(m);

	if (q)
		vq_set_addr(q, area, high, val);
}

static void set_ready(struct virtio_mmio *m, bool ready)
{
	struct vq *q = queue(m);

	if (q && ready)
		vdev_queue_enable(m->v, m->st.queue_sel);
	else if (q && vq_state(q)->ready)
		vdev_queue_reset(m->v, m->st.queue_sel);
}

static void set_status(struct virtio_mmio *m, u32 val)
{
	vdev_set_status(m->v, (u8)val);
	if (!(u8)val)
		m->st = (struct mmio_st){ 0 };
}

static void reg_write(struct virtio_mmio *m, u32 reg, u32 val)
{
	struct vq *q = queue(m);

	switch (reg) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		m->st.device_sel = val;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		if (m->st.driver_sel < 2)
			vdev_set_driver_features(m->v, m->st.driver_sel, val);
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		m->st.driver_sel = val;
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		m->st.queue_sel = val;
		break;
	case VIRTIO_MMIO_QUEUE_NUM:
		if (q)
			vq_set_size(q, val);
		break;
	case VIRTIO_MMIO_QUEUE_READY:
		set_ready(m, val & 1);
		break;
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		vdev_notify_queue(m->v, val);
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		vdev_ack(m->v, (u8)val);
		break;
	case VIRTIO_MMIO_STATUS:
		set_status(m, val);
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_addr(m, VQ_DESC, reg == VIRTIO_MMIO_QUEUE_DESC_HIGH, val);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_addr(m, VQ_DRIVER, reg == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, val);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		set_addr(m, VQ_DEVICE, reg == VIRTIO_MMIO_QUEUE_USED_HIGH, val);
		break;
	case VIRTIO_MMIO_SHM_SEL:
		m->st.shm_sel = val;
		break;
	case REG_QUEUE_RESET:
		if (val & 1)
			vdev_queue_reset(m->v, m->st.queue_sel);
		break;
	default:
		break;
	}
}

static u64 mmio_read(void *opaque, u64 off, unsigned size, unsigned cpu)
{
	struct virtio_mmio *m = opaque;
	u64 val = 0;

	if (off >= VIRTIO_MMIO_CONFIG)
		vdev_config_read(m->v, (u32)off - VIRTIO_MMIO_CONFIG, &val, size);
	else if (size == 4 && off % 4 == 0)
		val = reg_read(m, (u32)off);
	return val;
}

static void mmio_write(void *opaque, u64 off, unsigned size, u64 val, unsigned cpu)
{
	struct virtio_mmio *m = opaque;

	if (off >= VIRTIO_MMIO_CONFIG)
		vdev_config_write(m->v, (u32)off - VIRTIO_MMIO_CONFIG, &val, size);
	else if (size == 4 && off % 4 == 0)
		reg_write(m, (u32)off, (u32)val);
}

const struct bus_ops virtio_mmio_bus_ops = { .read = mmio_read, .write = mmio_write };

/* --- the rest --------------------------------------------------------------------------------- */

static void on_interrupt(void *opaque, u8 isr)
{
	struct virtio_mmio *m = opaque;

	irq_set(&m->irq, isr != 0);
}

static void dev_reset(void *opaque)
{
	((struct virtio_mmio *)opaque)->st = (struct mmio_st){ 0 };
}

static void *dev_state(void *opaque, unsigned i)
{
	return i ? NULL : &((struct virtio_mmio *)opaque)->st;
}

static const struct device_ops device_ops = {
	.name = "virtio-mmio",
	.reset = dev_reset,
	.state = dev_state,
	.fields = fields,
};

struct device virtio_mmio_device(struct virtio_mmio *m)
{
	return (struct device){ &device_ops, m };
}

int virtio_mmio_new(struct vdev *v, const struct irq_line *irq, struct virtio_mmio **ret)
{
	struct virtio_mmio *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->v = v;
	m->irq = *irq;
	vdev_set_transport(v, on_interrupt, m);
	*ret = m;
	return 0;
}

void virtio_mmio_free(struct virtio_mmio *m)
{
	if (!m)
		return;
	/* The device outlives its registers: it may still speak while it ends. */
	vdev_set_transport(m->v, NULL, NULL);
	free(m);
}
