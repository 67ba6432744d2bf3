// SPDX-License-Identifier: Apache-2.0
/*
 * fuzz_net.c - libFuzzer entry: hostile frames, headers and commands against the network device
 *
 * The input is a program for a driver, which sends, gives buffers, commands, resets and scribbles
 * over guest memory, and for a back end, which finishes every frame in both ways and checks what
 * becomes of it, refuses some, brings others back (also with offload fields of its own), and
 * pulls the cable. A second device has the real echo. That the rings themselves are safe is
 * fuzz_virtio's matter.
 */
#include "dev/virtio_net.h"
#include "virtio/mmio.h"

#include "input.h"

#include "../dev/testclock.h"

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#define PAIRS 2u
#define QUEUES (2 * PAIRS + 1)
#define SIZE 32u
#define RAM 0x100000u
#define RINGS 0x1000u	 /* 0x1000 for each queue */
#define BUFFERS 0x10000u /* and behind it, everything may be one */

struct rig {
	struct testclock clk;
	struct net wire, *loop;
	struct vdev *v[2];
	struct virtio_mmio *m[2];
	struct virtio_net_stats stats[2];
	unsigned at; /* which device the driver talks to */
	u16 avail[2][QUEUES], next[2][QUEUES];
	u8 refuse, *last; /* the last frame sent; owned */
	size_t last_len;
	struct net_offload last_o;
	u64 emitted;
};

static struct mem *ram;
static struct rig *rig;

/* --- the back end ----------------------------------------------------------------------------- */

static void on_finished(void *opaque, u8 *frame, size_t len)
{
	volatile u8 sum = 0;

	BUG_IF(len < NET_ETH_LEN || len > NET_FRAME_MAX);
	for (size_t i = 0; i < len; i += 61)
		sum += frame[i];
	sum += frame[len - 1];
	++*(u64 *)opaque;
}

static void finish(struct rig *r, const struct net_frame *f, bool whole)
{
	u8 *copy = malloc(f->len);
	u64 n = 0;

	iov_read(f->iov, f->n, 0, copy, f->len);
	net_frame_finish(copy, f->len, &f->o, whole, on_finished, &n);
	BUG_IF(n > 1366 || (f->o.gso == NET_GSO_NONE && n != 1));
	r->emitted += n;
	free(copy);
}

static int wire_send(struct net *n, const struct net_frame *f)
{
	struct rig *r = rig;

	BUG_IF(f->len < NET_ETH_LEN || f->len > NET_FRAME_MAX);
	BUG_IF(iov_size(f->iov, f->n) != f->len);
	if (r->refuse & 1) {
		r->refuse >>= 1;
		return -EAGAIN;
	}
	finish(r, f, false);
	finish(r, f, true);
	free(r->last);
	r->last = malloc(f->len);
	r->last_len = iov_read(f->iov, f->n, 0, r->last, f->len);
	r->last_o = f->o;
	return 0;
}

static const struct net_ops wire_ops = { .name = "wire", .send = wire_send };

static void bring(struct rig *r, struct input *in)
{
	u32 how = take(in, 1);
	u8 frame[2048];
	struct iovec iov[2] = { { frame, 20 } };
	struct net_frame f = { .iov = iov, .n = 2 };

	if ((how & 1) && r->last) {
		iov[0] = (struct iovec){ r->last, r->last_len };
		f = (struct net_frame){ .iov = iov, .n = 1, .len = r->last_len, .o = r->last_o };
	} else {
		f.len = 20 + take(in, 2) % (sizeof(frame) - 20);
		for (size_t i = 0; i < f.len; i++)
			frame[i] = i < 64 ? (u8)take(in, 1) : (u8)i;
		iov[1] = (struct iovec){ frame + 20, f.len - 20 };
	}
	if (how & 2) {
		f.o.partial = how & 4;
		f.o.valid = how & 8;
		f.o.ecn = how & 16;
		f.o.gso = (enum net_gso)((how >> 5) % 3);
		f.o.gso_size = (u16)take(in, 2);
		f.o.csum_start = (u16)take(in, 1);
		f.o.csum_offset = (u16)take(in, 1);
	}
	if (net_frame_check(&f) == 0)
		r->wire.peer.receive(r->wire.peer.opaque, &f);
	if (how & 128)
		r->wire.peer.received(r->wire.peer.opaque);
}

/* --- the driver ------------------------------------------------------------------------------- */

static void wr(struct rig *r, u32 reg, u32 val)
{
	virtio_mmio_bus_ops.write(r->m[r->at], reg, 4, val, 0);
}

static u64 ring(unsigned q)
{
	return RINGS + 0x1000 * (rig->at * QUEUES + q);
}

static void write_ram(u64 at, const void *p, size_t len)
{
	if (at + len <= RAM && mem_write(ram, at, p, len) < 0)
		return;
}

static void start(struct rig *r, struct input *in)
{
	u32 low = take(in, 4);

	wr(r, VIRTIO_MMIO_STATUS, 0);
	for (unsigned q = 0; q < QUEUES; q++) {
		if (mem_fill(ram, ring(q), 0, 0x1000) < 0)
			return;
		r->avail[r->at][q] = r->next[r->at][q] = 0;
	}
	wr(r, VIRTIO_MMIO_STATUS, 3);
	wr(r, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	wr(r, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	wr(r, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	/* Mostly all, less what the input says. */
	wr(r, VIRTIO_MMIO_DRIVER_FEATURES, (u32)vdev_features(r->v[r->at]) & ~(low & low >> 16));
	wr(r, VIRTIO_MMIO_STATUS, 11);
	for (unsigned q = 0; q < QUEUES; q++) {
		wr(r, VIRTIO_MMIO_QUEUE_SEL, q);
		wr(r, VIRTIO_MMIO_QUEUE_NUM, SIZE);
		wr(r, VIRTIO_MMIO_QUEUE_DESC_LOW, (u32)ring(q));
		wr(r, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (u32)ring(q) + 0x400);
		wr(r, VIRTIO_MMIO_QUEUE_USED_LOW, (u32)ring(q) + 0x800);
		wr(r, VIRTIO_MMIO_QUEUE_READY, 1);
	}
	wr(r, VIRTIO_MMIO_STATUS, 15);
}

static void describe(struct rig *r, unsigned q, u64 addr, u32 len, bool write, bool more)
{
	u16 *next = &r->next[r->at][q];
	struct vring_desc d = { .addr = addr,
				.len = len,
				.flags = (u16)((write ? VRING_DESC_F_WRITE : 0) |
					       (more ? VRING_DESC_F_NEXT : 0)),
				.next = (u16)((*next + 1) % SIZE) };

	write_ram(ring(q) + 16 * *next, &d, sizeof(d));
	*next = d.next;
}

static void publish(struct rig *r, unsigned q, u16 head)
{
	u16 *avail = &r->avail[r->at][q];

	write_ram(ring(q) + 0x404 + 2 * (*avail % SIZE), &head, 2);
	++*avail;
	write_ram(ring(q) + 0x402, avail, 2);
}

/* A chain of pieces: lengths from the input, memory that overlaps at will. */
static void chain(struct rig *r, struct input *in, unsigned q, u64 first, u32 first_len)
{
	u16 head = r->next[r->at][q];
	unsigned n = take(in, 1) % 6;
	bool write = q % 2 == 0 && q != 2 * PAIRS;

	if (first_len)
		describe(r, q, first, first_len, false, n || q == 2 * PAIRS);
	for (unsigned i = 0; i < n; i++) {
		u32 b = take(in, 1), len = b & 1 ? take(in, 2) : b;

		describe(r, q, BUFFERS + take(in, 1) * 0x800, len, b == 0xfe ? !write : write,
			 i + 1 < n || q == 2 * PAIRS);
	}
	if (q == 2 * PAIRS)
		describe(r, q, BUFFERS, take(in, 1) & 1, true, false);
	if (first_len || n)
		publish(r, q, head);
}

/* A frame that is nearly right: header, Ethernet, IP and TCP with some bytes wrong. */
static void send(struct rig *r, struct input *in)
{
	u8 buf[12 + 14 + 40 + 60] = { 0 };
	struct virtio_net_hdr_v1 h = { .flags = 1, .gso_size = 100 };
	bool v6 = take(in, 1) & 1;
	u32 l4 = v6 ? 54 : 34, how = take(in, 1);

	h.gso_type = how & 1 ? VIRTIO_NET_HDR_GSO_NONE
		     : v6    ? VIRTIO_NET_HDR_GSO_TCPV6
			     : VIRTIO_NET_HDR_GSO_TCPV4;
	h.csum_start = (u16)l4;
	h.csum_offset = 16;
	memcpy(buf, &h, sizeof(h));
	memcpy(buf + 12 + 12, v6 ? "\x86\xdd" : "\x08\x00", 2);
	buf[12 + 14] = v6 ? 0x60 : 0x45;
	buf[12 + 14 + (v6 ? 6 : 9)] = 6;
	buf[12 + l4 + 12] = 0x50;
	for (u32 n = how >> 5; n; n--) {
		u32 at = take(in, 1) % sizeof(buf);

		buf[at] = (u8)take(in, 1);
	}
	write_ram(BUFFERS - 0x400, buf, sizeof(buf));
	chain(r, in, how & 2 ? 1 : 3, BUFFERS - 0x400, how & 4 ? 12 + l4 + 20 : take(in, 1));
	wr(r, VIRTIO_MMIO_QUEUE_NOTIFY, how & 2 ? 1 : 3);
}

static void command(struct rig *r, struct input *in)
{
	u8 buf[64];
	u32 n = 2 + take(in, 1) % (sizeof(buf) - 2);

	for (u32 i = 0; i < n; i++)
		buf[i] = (u8)take(in, 1);
	buf[0] %= 7;
	buf[1] %= 7;
	write_ram(BUFFERS - 0x800, buf, n);
	chain(r, in, 2 * PAIRS, BUFFERS - 0x800, n);
	wr(r, VIRTIO_MMIO_QUEUE_NOTIFY, 2 * PAIRS);
}

static void others(struct rig *r, struct input *in)
{
	u32 b = take(in, 1), v = take(in, 3);

	switch (b % 8) {
	case 0:
		wr(r, VIRTIO_MMIO_QUEUE_SEL, v % QUEUES);
		wr(r, 0x0c0, 1); /* QueueReset */
		break;
	case 1:
		r->wire.peer.link(r->wire.peer.opaque, v & 1);
		break;
	case 2:
		r->refuse = (u8)v;
		r->wire.peer.ready(r->wire.peer.opaque);
		break;
	case 3:
		wr(r, VIRTIO_MMIO_QUEUE_NOTIFY, v % QUEUES);
		break;
	case 4:
		vdev_ops(r->v[0])->pause(r->wire.peer.opaque);
		break;
	case 5:
		vdev_ops(r->v[0])->resume(r->wire.peer.opaque);
		break;
	case 6:
		r->at = v & 1;
		break;
	default:
		write_ram(v & (RAM - 1), &b, 1);
		break;
	}
}

static void run(struct rig *r, struct input *in)
{
	/* The input is what bounds this. */
	while (in->left) {
		switch (take(in, 1) % 8) {
		case 0:
			start(r, in);
			break;
		case 1:
		case 2:
			send(r, in);
			break;
		case 3:
			chain(r, in, take(in, 1) & 1 ? 0 : 2, 0, 0);
			break;
		case 4:
			command(r, in);
			break;
		case 5:
			bring(r, in);
			break;
		case 6:
			testclock_by(&r->clk, take(in, 2));
			break;
		default:
			others(r, in);
			break;
		}
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);

int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	static const struct mem_region regions[] = { { .base = 0, .size = RAM } };
	struct input in = { data, len };
	struct rig r = { .wire = { .ops = &wire_ops, .link = true } };
	struct irq_line irq = { 0 };

	if (!ram)
		BUG_IF(mem_new(regions, ARRAY_LEN(regions), NULL, &ram) < 0);
	rig = &r;
	testclock_init(&r.clk);
	BUG_IF(net_loop_new(&r.loop) < 0);
	struct vdev_env env = { .mem = ram, .clk = &r.clk.g, .exact = true, .seed = 1 };
	for (unsigned i = 0; i < 2; i++) {
		struct virtio_net_cfg cfg = { .net = i ? r.loop : &r.wire,
					      .mtu = 1500,
					      .mac = { 2 },
					      .pairs = PAIRS,
					      .stats = &r.stats[i] };

		BUG_IF(virtio_net_new(&cfg, &env, &r.v[i]) < 0);
		BUG_IF(virtio_mmio_new(r.v[i], &irq, &r.m[i]) < 0);
	}
	struct input first = { 0 };
	for (r.at = 2; r.at--;)
		start(&r, &first);
	r.at = 0;
	run(&r, &in);
	for (unsigned i = 0; i < 2; i++) {
		virtio_mmio_free(r.m[i]);
		vdev_free(r.v[i]);
	}
	net_free(r.loop);
	free(r.last);
	gclock_fini(&r.clk.g);
	return 0;
}
