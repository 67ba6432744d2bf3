// SPDX-License-Identifier: Apache-2.0
/*
 * fuzz_vsock.c - libFuzzer entry: a hostile guest against the socket device
 *
 * The input is a program. Its steps send packets, good and bad, for a few pairs of ports; give
 * receive buffers of any size; act on the host's ends: connect, write, read, half-close, close; reset
 * and pause. After each, what the guest is given is checked: whole packets, inside the buffers, with
 * data that the host wrote and never more than the guest said it has room for.
 */
#include "dev/virtio_vsock.h"
#include "virtio/mmio.h"

#include "input.h"

#include "../dev/testclock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <linux/virtio_vsock.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RAM 0x100000u
#define SIZE 16u /* of each queue */
#define QUEUES 3u
#define CID 3u
#define HOSTS 8u
#define PORTS 4u
#define TX_AT 0x40000u
#define RX_AT 0x80000u
#define RX_STEP 0x2000u
#define HEAD ((u32)sizeof(struct virtio_vsock_hdr))
#define STEPS_MAX 400u

struct rig {
	struct testclock clk;
	struct gate *g;
	struct virtio_vsock *s;
	struct vdev *v;
	struct virtio_mmio *m;
	u16 avail[QUEUES], used;
	u32 rx_len[SIZE]; /* 0: not with the device */
	int host[HOSTS];  /* the other ends; -1 */
	struct vsock_call call[HOSTS];
	u32 ports[HOSTS]; /* the host's, of connections that the device told the guest of */
	unsigned n_ports;
	bool paused;
};

static struct mem *ram;

static void put(u64 gpa, const void *p, size_t n)
{
	BUG_IF(mem_write(ram, gpa, p, n) < 0);
}

static u64 ring(unsigned q, unsigned part)
{
	return 0x1000 + 0x4000 * q + 0x1000 * part;
}

static void wr(struct rig *r, u32 reg, u32 val)
{
	virtio_mmio_bus_ops.write(r->m, reg, 4, val, 0);
}

static void start(struct rig *r)
{
	wr(r, VIRTIO_MMIO_STATUS, 0);
	BUG_IF(mem_fill(ram, 0, 0, 0x10000) < 0);
	memset(r->avail, 0, sizeof(r->avail));
	memset(r->rx_len, 0, sizeof(r->rx_len));
	r->used = 0;
	r->n_ports = 0;
	wr(r, VIRTIO_MMIO_STATUS, 3);
	wr(r, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	wr(r, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	wr(r, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	wr(r, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	wr(r, VIRTIO_MMIO_STATUS, 11);
	for (unsigned q = 0; q < QUEUES; q++) {
		wr(r, VIRTIO_MMIO_QUEUE_SEL, q);
		wr(r, VIRTIO_MMIO_QUEUE_NUM, SIZE);
		wr(r, VIRTIO_MMIO_QUEUE_DESC_LOW, (u32)ring(q, 0));
		wr(r, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (u32)ring(q, 1));
		wr(r, VIRTIO_MMIO_QUEUE_USED_LOW, (u32)ring(q, 2));
		wr(r, VIRTIO_MMIO_QUEUE_READY, 1);
	}
	wr(r, VIRTIO_MMIO_STATUS, 15);
}

/* One chain at descriptor @at: @len bytes at @gpa, in two pieces if @split is inside. */
static void offer(struct rig *r, unsigned q, u16 at, u64 gpa, u32 len, u32 split, bool in)
{
	u16 head = at, idx = r->avail[q];
	struct vring_desc d = { .addr = gpa, .len = len, .flags = in ? VRING_DESC_F_WRITE : 0 };

	if (split && split < len) {
		struct vring_desc second = d;

		d.len = split;
		d.flags |= VRING_DESC_F_NEXT;
		d.next = at + SIZE / 2;
		second.addr += split;
		second.len -= split;
		put(ring(q, 0) + 16 * (at + SIZE / 2), &second, sizeof(second));
	}
	put(ring(q, 0) + 16 * at, &d, sizeof(d));
	put(ring(q, 1) + 4 + 2 * (idx % SIZE), &head, 2);
	r->avail[q] = ++idx;
	put(ring(q, 1) + 2, &idx, 2);
	wr(r, VIRTIO_MMIO_QUEUE_NOTIFY, q);
}

static u32 some_port(struct rig *r, u32 b)
{
	return (b & 8) && r->n_ports ? r->ports[b % r->n_ports] : 100 + b % PORTS;
}

static void send_packet(struct rig *r, struct input *in)
{
	static u8 data[8192];
	u32 b = take(in, 1), len = take(in, 2) & 0x1fff, odd = take(in, 1);
	struct virtio_vsock_hdr h = {
		.src_cid = odd == 1 ? 9 : CID,
		.dst_cid = odd == 2 ? 9 : VSOCK_CID_HOST,
		.src_port = 200 + (b >> 4) % PORTS,
		.dst_port = some_port(r, b),
		.type = odd == 3 ? 2 : VIRTIO_VSOCK_TYPE_STREAM,
		.op = (u16)(take(in, 1) % 10),
		.flags = take(in, 1) & 7,
		.buf_alloc = odd & 0x10 ? take(in, 4) : 4000,
		.fwd_cnt = odd & 0x20 ? take(in, 4) : take(in, 1),
	};
	u32 total = HEAD + len;

	h.len = odd & 0x40 ? take(in, 4) : len;
	if (odd & 0x80)
		total = take(in, 1); /* a header cut short, perhaps */
	put(TX_AT, &h, HEAD);
	put(TX_AT + HEAD, data, len);
	offer(r, 1, 0, TX_AT, total, take(in, 1), false);
}

static int new_pair(struct rig *r, unsigned i)
{
	int pair[2], small = 2048;

	if (r->host[i] >= 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -1;
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	r->host[i] = pair[1];
	return pair[0];
}

static int on_open(void *opaque, u32 port)
{
	int fd = new_pair(opaque, port % HOSTS);

	return fd < 0 ? -ECONNREFUSED : fd;
}

static void on_answer(struct vsock_call *c, int r)
{
	BUG_IF(c->conn);
}

static void hang_up(struct rig *r, unsigned i)
{
	virtio_vsock_hang_up(&r->call[i]);
	if (r->host[i] >= 0)
		close(r->host[i]);
	r->host[i] = -1;
}

static void host_acts(struct rig *r, struct input *in)
{
	static u8 buf[16384];
	u32 b = take(in, 1), i = b % HOSTS;
	int fd;

	switch (b >> 4) {
	case 0:
	case 1:
		fd = r->call[i].conn ? -1 : new_pair(r, i);
		r->call[i].answered = on_answer;
		if (fd >= 0 && virtio_vsock_call(r->s, 200 + i % PORTS, fd, &r->call[i]) < 0)
			hang_up(r, i);
		break;
	case 2:
		hang_up(r, i);
		break;
	case 3:
		if (r->host[i] >= 0)
			shutdown(r->host[i], SHUT_WR);
		break;
	case 4:
		if (r->host[i] >= 0)
			shutdown(r->host[i], SHUT_RD);
		break;
	case 5:
	case 6:
	case 7:
		if (r->host[i] >= 0 && read(r->host[i], buf, take(in, 2) & 0x3fff) < 0)
			return;
		break;
	default:
		/* What comes out must be what went in: this byte and no other. */
		memset(buf, 0xa5, sizeof(buf));
		if (r->host[i] >= 0 &&
		    send(r->host[i], buf, take(in, 2) & 0x3fff, MSG_NOSIGNAL) < 0)
			return;
	}
}

static void dispatch(struct rig *r)
{
	struct pollfd p = { .fd = gate_fd(r->g), .events = POLLIN };
	unsigned n = 0;

	while (poll(&p, 1, 0) > 0) {
		gate_dispatch(r->g);
		BUG_IF(++n > 10000); /* something is reported for ever */
	}
}

static void give_buffer(struct rig *r, struct input *in)
{
	u32 b = take(in, 1), len = b & 0x80 ? HEAD + (b & 3) : HEAD + 1 + (b << 5);
	u16 at = (u16)(b % (SIZE / 2));

	if (r->rx_len[at])
		return; /* it is the device's */

	r->rx_len[at] = len;
	offer(r, 0, at, RX_AT + (u64)at * RX_STEP, len, b & 0x40 ? 20 : 0, true);
}

/* What the guest was given since the last look. */
static void check(struct rig *r)
{
	u16 idx;

	BUG_IF(mem_read(ram, ring(0, 2) + 2, &idx, 2) < 0);
	BUG_IF((u16)(idx - r->used) > SIZE);
	for (; r->used != idx; r->used++) {
		struct vring_used_elem e;
		struct virtio_vsock_hdr h;
		u8 byte;

		BUG_IF(mem_read(ram, ring(0, 2) + 4 + 8 * (r->used % SIZE), &e, 8) < 0);
		BUG_IF(e.id >= SIZE);
		if (!e.len) {
			r->rx_len[e.id] = 0;
			continue; /* the buffer was too small, and the device is broken */
		}
		BUG_IF(e.len < HEAD || e.len > r->rx_len[e.id]);
		BUG_IF(mem_read(ram, RX_AT + (u64)e.id * RX_STEP, &h, HEAD) < 0);
		r->rx_len[e.id] = 0;
		BUG_IF(h.len != e.len - HEAD || h.dst_cid != CID);
		BUG_IF(h.len && h.op != VIRTIO_VSOCK_OP_RW);
		BUG_IF(h.op == VIRTIO_VSOCK_OP_RW && !h.len);
		for (u32 i = 0; i < h.len; i++) {
			BUG_IF(mem_read(ram, RX_AT + (u64)e.id * RX_STEP + HEAD + i, &byte, 1) < 0);
			BUG_IF(byte != 0xa5);
		}
		if (h.op == VIRTIO_VSOCK_OP_REQUEST && r->n_ports < HOSTS)
			r->ports[r->n_ports++] = h.src_port;
	}
}

static void set_paused(struct rig *r, bool paused)
{
	struct device dev[VDEV_DEVICES];

	if (r->paused == paused)
		return;
	vdev_devices(r->v, dev);
	if (paused)
		device_pause(&dev[0]);
	else
		device_resume(&dev[0]);
	r->paused = paused;
}

static void rest(struct rig *r, struct input *in)
{
	u32 b = take(in, 1);

	if (b < 8)
		start(r);
	else if (b < 16)
		virtio_vsock_transport_reset(r->s);
	else if (b < 24)
		set_paused(r, true);
	else if (b < 64)
		set_paused(r, false);
	else if (b < 80)
		offer(r, 2, (u16)(b & 7), TX_AT, b & 15, 0, true);
	else
		dispatch(r);
}

static void run(struct rig *r, struct input *in)
{
	start(r);
	for (unsigned n = 0; in->left && n < STEPS_MAX; n++) {
		switch (take(in, 1) % 8) {
		case 0:
		case 1:
		case 2:
			send_packet(r, in);
			break;
		case 3:
		case 4:
			give_buffer(r, in);
			break;
		case 5:
		case 6:
			host_acts(r, in);
			break;
		default:
			rest(r, in);
		}
		check(r);
	}
	set_paused(r, false);
	dispatch(r);
	check(r);
}

static void on_kick(void *opaque)
{
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);

int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	static const struct mem_region region = { .base = 0, .size = RAM };
	struct input in = { data, len };
	struct rig r = { 0 };
	struct gate_cfg gc = { .kick = on_kick };
	struct virtio_vsock_cfg vc = { .cid = CID, .open = on_open, .opaque = &r };
	struct irq_line irq = { 0 };
	struct vdev_env env;

	if (!ram)
		BUG_IF(mem_new(&region, 1, NULL, &ram) < 0);
	testclock_init(&r.clk);
	BUG_IF(gate_new(&gc, &r.g) < 0);
	env = (struct vdev_env){ .mem = ram, .clk = &r.clk.g, .gate = r.g, .seed = 1 };
	BUG_IF(virtio_vsock_new(&vc, &env, &r.s, &r.v) < 0);
	BUG_IF(virtio_mmio_new(r.v, &irq, &r.m) < 0);
	for (unsigned i = 0; i < HOSTS; i++)
		r.host[i] = -1;
	run(&r, &in);
	for (unsigned i = 0; i < HOSTS; i++)
		hang_up(&r, i);
	virtio_mmio_free(r.m);
	vdev_free(r.v);
	gate_free(r.g);
	gclock_fini(&r.clk.g);
	return 0;
}
