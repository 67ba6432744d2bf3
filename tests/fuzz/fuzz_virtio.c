// SPDX-License-Identifier: Apache-2.0
/*
 * fuzz_virtio.c - libFuzzer entry: a hostile driver against queues, device core and registers
 *
 * The input is a program: register accesses, writes to guest memory, well-formed set-ups and
 * descriptors to get deeper, time. Two devices listen: virtio-rng, and one that reads and writes
 * every byte of every chain, keeps some for later, and checks what the queue promised it: that
 * each piece lies in guest RAM, that sums are right, that no more are under way than there are
 * descriptors.
 */
#include "dev/virtio_rng.h"
#include "virtio/job.h"
#include "virtio/mmio.h"

#include "input.h"

#include "../dev/testclock.h"

#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#define QUEUES 2u
#define RAM 0x40000u /* and as much behind a hole at FAR */
#define FAR 0x100000000ull
#define HELD 64u

struct eater {
	struct vdev *v;
	struct vjobs *jobs;
	struct vq_chain *held[HELD];
	unsigned n_held;
	u64 sum;
};

struct request {
	struct vjob job;
	struct vq_chain *c;
	struct eater *e;
};

static struct mem *ram;
static u8 config[40];

/* --- the device that eats everything ---------------------------------------------------------- */

static void check_pieces(const struct iovec *iov, unsigned n, u64 sum)
{
	for (unsigned i = 0; i < n; i++) {
		bool inside = false;

		for (unsigned k = 0; k < mem_region_count(ram); k++) {
			const struct mem_region *r = mem_region_get(ram, k);
			const u8 *base = mem_ptr(ram, r->base, r->size), *p = iov[i].iov_base;

			inside |= p >= base && p < base + r->size &&
				  iov[i].iov_len <= (size_t)(base + r->size - p);
		}
		BUG_IF(!inside || !iov[i].iov_len);
		sum -= iov[i].iov_len;
	}
	BUG_IF(sum);
}

static void eat(struct eater *e, struct vq_chain *c)
{
	u8 buf[256];
	size_t off = 0, n;

	while ((n = iov_read(c->out, c->n_out, off, buf, sizeof(buf))) && off < 65536) {
		for (size_t i = 0; i < n; i++)
			e->sum = e->sum * 31 + buf[i];
		off += n;
	}
	BUG_IF(vq_chain_read(c, 0, buf, MIN(c->out_len, (u32)sizeof(buf))) < 0);
	BUG_IF(vq_chain_write(c, 0, buf, MIN(c->in_len, (u32)sizeof(buf))) < 0);
}

static void on_done(struct vjob *j)
{
	struct request *r = container_of(j, struct request, job);
	struct vq *q = r->c->vq;

	if (j->aborted)
		vq_drop(q, r->c);
	else
		vq_push(q, r->c, r->c->in_len);
	vq_notify(q);
}

static void on_notify(void *dev, unsigned index)
{
	struct eater *e = dev;
	struct vq *q = vdev_queue(e->v, index);
	struct vq_chain *c;

	while (vq_pop(q, &c) > 0) {
		struct request *r = c->req;

		check_pieces(c->out, c->n_out, c->out_len);
		check_pieces(c->in, c->n_in, c->in_len);
		BUG_IF(vq_in_flight(q) > vq_size(q));
		eat(e, c);
		*r = (struct request){ .job.done = on_done, .c = c, .e = e };
		if ((c->out_len & 3) == 1 && e->n_held < HELD)
			e->held[e->n_held++] = c;
		else if ((c->out_len & 3) == 2)
			vjob_submit(e->jobs, &r->job, c->in_len);
		else
			vq_push(q, c, c->in_len / 2);
	}
	vq_notify(q);
}

static void give_back(struct eater *e, unsigned how)
{
	while (e->n_held) {
		struct vq_chain *c = e->held[--e->n_held];

		if (how & 1)
			vq_put(c->vq, c, UINT32_MAX);
		else
			vq_drop(c->vq, c);
		if (how & 2)
			vq_publish(c->vq);
	}
}

static void on_reset(void *dev)
{
	vjobs_abort(((struct eater *)dev)->jobs, NULL, NULL);
}

static void on_free(void *dev)
{
	vjobs_free(((struct eater *)dev)->jobs);
}

static void on_config(void *dev, u32 off, const void *data, u32 len)
{
	memcpy(config + off, data, len);
}

static const struct vdev_ops ops = {
	.name = "eater",
	.id = 42,
	.notify = on_notify,
	.config_write = on_config,
	.reset = on_reset,
	.free = on_free,
};

/* --- the driver ------------------------------------------------------------------------------- */

struct rig {
	struct testclock clk;
	struct vdev *v[2];
	struct virtio_mmio *m[2];
	struct eater e;
	struct virtio_mmio *at; /* whom the program talks to */
};

static void wr(struct rig *r, u32 reg, u32 val)
{
	virtio_mmio_bus_ops.write(r->at, reg, 4, val, 0);
}

/* Good rings for queue @q, one of them at times where it crosses a boundary or nothing is. */
static void set_up(struct rig *r, unsigned q, u32 how)
{
	u64 base = 0x1000 + 0x8000 * q;

	if ((how & 0x70) == 0x70)
		base = how & 0x80 ? RAM - 0x100 : FAR;
	wr(r, VIRTIO_MMIO_QUEUE_SEL, q);
	wr(r, VIRTIO_MMIO_QUEUE_NUM, 1u << (how & 15));
	wr(r, VIRTIO_MMIO_QUEUE_DESC_LOW, (u32)base);
	wr(r, VIRTIO_MMIO_QUEUE_DESC_HIGH, (u32)(base >> 32));
	wr(r, VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x5000 + 0x8000 * q);
	wr(r, VIRTIO_MMIO_QUEUE_USED_LOW, 0x6000 + 0x8000 * q);
	wr(r, VIRTIO_MMIO_QUEUE_READY, 1);
}

static void start(struct rig *r, struct input *in)
{
	u32 how = take(in, 1);

	wr(r, VIRTIO_MMIO_STATUS, 0);
	if (mem_fill(ram, 0, 0, how & 8 ? RAM : 0x11000) < 0)
		return;
	wr(r, VIRTIO_MMIO_STATUS, 3);
	wr(r, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	wr(r, VIRTIO_MMIO_DRIVER_FEATURES, 1 | (how & 1 ? 1u << 8 : 0));
	wr(r, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	wr(r, VIRTIO_MMIO_DRIVER_FEATURES, (how & 2 ? 1u << 28 : 0) | (how & 4 ? 1u << 29 : 0));
	wr(r, VIRTIO_MMIO_STATUS, 11);
	for (unsigned q = 0; q < QUEUES; q++)
		set_up(r, q, take(in, 1));
	wr(r, VIRTIO_MMIO_STATUS, 15);
}

/* A descriptor of queue @q, or of an indirect table at 0x20000, near the right. */
static void descriptor(struct input *in)
{
	u32 b = take(in, 1), addr = take(in, 2), len = take(in, 2);
	struct vring_desc d = {
		.addr = b & 1	? RAM - 64 + (addr & 127)
			: b & 2 ? FAR + addr
				: addr * 4,
		.len = b & 4 ? len : len & 63,
		.flags = (u16)((b >> 3) & 7),
		.next = (u16)(take(in, 1) & 31),
	};
	u32 slot = take(in, 1);

	if (d.flags & VRING_DESC_F_INDIRECT) {
		d.addr = slot & 0x80 ? d.addr : 0x20000;
		d.len = slot & 0x40 ? d.len : 16 * (1 + (d.len & 31));
	}
	u64 table = b & 0x80 ? 0x20000 : 0x1000 + (b & 0x40 ? 0x8000 : 0);
	if (mem_write(ram, table + 16 * (slot & 31), &d, sizeof(d)) < 0)
		return;
}

static void available(struct rig *r, struct input *in)
{
	u32 b = take(in, 1), q = b & 1;
	u64 avail = 0x5000 + 0x8000 * q;
	u16 idx, head = (u16)((b >> 1) & 31), n;

	if (mem_read(ram, avail + 2, &idx, 2) < 0)
		return;
	n = (u16)(idx + 1);
	for (u32 size = 1; size <= 1024; size *= 2) /* whatever the ring's size is */
		if (mem_write(ram, avail + 4 + 2 * (idx & (size - 1)), &head, 2) < 0)
			return;
	if (mem_write(ram, avail + 2, &n, 2) < 0)
		return;
	if (b & 0x80)
		wr(r, VIRTIO_MMIO_QUEUE_NOTIFY, q);
}

static void poke(struct rig *r, struct input *in)
{
	u32 b = take(in, 1), off = take(in, 2) & 0x1ff;
	unsigned size = 1u << (b & 3);
	u64 val = take(in, b & 4 ? 1 : 4);

	if (b & 8)
		off &= 0xfc;
	if (b & 16)
		size = 4;
	if (b & 32)
		virtio_mmio_bus_ops.read(r->at, off, size, 0);
	else
		virtio_mmio_bus_ops.write(r->at, off, size, val, 0);
}

static void scribble(struct input *in)
{
	u32 addr = take(in, 3) & (RAM - 1);
	u8 n = (u8)take(in, 1), buf[256];

	for (unsigned i = 0; i < n; i++)
		buf[i] = (u8)take(in, 1);
	if (mem_write(ram, addr, buf, n) < 0)
		return;
}

static void device_acts(struct rig *r, struct input *in)
{
	u32 b = take(in, 1);
	struct vq *q = vdev_queue(r->v[1], b & 1);
	struct vq_chain *c;

	if (b & 2)
		vdev_config_changed(r->v[1]);
	if (b & 4)
		vq_notifications(q, b & 8);
	if ((b & 0x10) && vq_available(q) && vq_pop(q, &c) > 0)
		vq_unpop(q, c);
	if (b & 0x20)
		give_back(&r->e, b >> 6);
	vq_notify(q);
}

static void run(struct rig *r, struct input *in)
{
	/* The input is what bounds this. */
	while (in->left) {
		switch (take(in, 1) % 10) {
		case 0:
			start(r, in);
			break;
		case 1:
		case 2:
			descriptor(in);
			break;
		case 3:
		case 4:
			available(r, in);
			break;
		case 5:
			poke(r, in);
			break;
		case 6:
			scribble(in);
			break;
		case 7:
			testclock_by(&r->clk, take(in, 2));
			break;
		case 8:
			device_acts(r, in);
			break;
		default:
			r->at = r->m[take(in, 1) & 1];
		}
	}
}

static void new_devices(struct rig *r)
{
	struct vdev_env env = { .mem = ram, .clk = &r->clk.g, .exact = true, .seed = 1 };
	struct irq_line irq = { 0 };
	struct vdev_cfg vc = { .ops = &ops,
			       .dev = &r->e,
			       .env = &env,
			       .n_queues = QUEUES,
			       .req_size = sizeof(struct request),
			       .config = config,
			       .config_len = sizeof(config) };

	BUG_IF(virtio_rng_new(&env, &r->v[0]) < 0);
	BUG_IF(vjobs_new(&env, 0, &r->e.jobs) < 0);
	BUG_IF(vdev_new(&vc, &r->v[1]) < 0);
	r->e.v = r->v[1];
	for (unsigned i = 0; i < 2; i++)
		BUG_IF(virtio_mmio_new(r->v[i], &irq, &r->m[i]) < 0);
	r->at = r->m[1];
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);

int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	static const struct mem_region regions[] = { { .base = 0, .size = RAM },
						     { .base = FAR, .size = RAM } };
	struct input in = { data, len };
	struct rig r = { 0 };

	if (!ram)
		BUG_IF(mem_new(regions, ARRAY_LEN(regions), NULL, &ram) < 0);
	testclock_init(&r.clk);
	new_devices(&r);
	run(&r, &in);
	for (unsigned i = 0; i < 2; i++) {
		virtio_mmio_free(r.m[i]);
		vdev_free(r.v[i]);
	}
	gclock_fini(&r.clk.g);
	return 0;
}
