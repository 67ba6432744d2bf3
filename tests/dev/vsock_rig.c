// SPDX-License-Identifier: Apache-2.0
/*
 * vsock_rig.c - a driver of the socket device in a test
 */
#include "vsock_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#define HEAD ((u32)sizeof(struct virtio_vsock_hdr))
#define PIECES_MAX 64u

static void on_kick(void *o)
{
}

static int on_open(void *opaque, u32 port)
{
	struct rig *r = opaque;

	r->asked++;
	r->port = port;
	return r->give;
}

void rig_cold(struct rig *r)
{
	struct gate_cfg gc = { .kick = on_kick };
	struct virtio_vsock_cfg vc = { .cid = RIG_CID, .open = on_open, .opaque = r };
	struct vdev *v;

	memset(r, 0, sizeof(*r));
	r->give = -ECONNREFUSED;
	vdrv_up(&r->d);
	assert_int_equal(gate_new(&gc, &r->g), 0);
	r->d.env.gate = r->g;
	assert_int_equal(virtio_vsock_new(&vc, &r->d.env, &r->s, &v), 0);
	assert_true(gate_held(r->g));
	vdrv_attach(&r->d, v);
}

void rig_start(struct rig *r)
{
	vdrv_start(&r->d, UINT64_MAX, 3, RIG_QUEUE);
	if (!r->tx)
		r->tx = vdrv_alloc(&r->d, RIG_TX, 16);
	if (!r->heap)
		r->heap = vdrv_alloc(&r->d, RIG_QUEUE * RIG_BUF, 16);
	r->rx_next = 0;
}

void rig_up(struct rig *r)
{
	rig_cold(r);
	rig_start(r);
}

void rig_down(struct rig *r)
{
	vdrv_down(&r->d);
	assert_false(gate_held(r->g));
	gate_free(r->g);
}

void rig_give(struct rig *r, unsigned n, u32 size)
{
	for (unsigned i = 0; i < n; i++) {
		gpa_t at = r->heap + (gpa_t)(r->rx_next++ % RIG_QUEUE) * RIG_BUF;
		struct vdrv_seg seg[2] = { { at, MIN(size, 20u), true },
					   { at + 20, size > 20 ? size - 20 : 0, true } };
		/* The header lies across two descriptors in every other buffer. */
		bool split = (i & 1) && size > 20 && n <= RIG_QUEUE / 2;
		struct vdrv_seg whole = { at, size, true };
		u16 head = vdrv_add(&r->d, 0, split ? seg : &whole, split ? 2 : 1);

		r->rx[head] = at;
	}
	vdrv_notify(&r->d, 0);
}

bool rig_take(struct rig *r, struct packet *ret)
{
	u32 id, len;

	if (!vdrv_used(&r->d, 0, &id, &len))
		return false;
	assert_in_range(len, HEAD, RIG_BUF);
	assert_int_equal(mem_read(r->d.mem, r->rx[id], &ret->h, HEAD), 0);
	assert_int_equal(len, HEAD + ret->h.len);
	assert_int_equal(mem_read(r->d.mem, r->rx[id] + HEAD, ret->data, ret->h.len), 0);
	assert_int_equal(ret->h.dst_cid, RIG_CID);
	return true;
}

void rig_expect(struct rig *r, unsigned op, struct packet *ret)
{
	assert_true(rig_take(r, ret));
	assert_int_equal(ret->h.op, op);
}

void rig_send_raw(struct rig *r, const struct virtio_vsock_hdr *h, const void *data, u32 len,
		  u32 piece)
{
	struct vdrv_seg seg[PIECES_MAX];
	unsigned n = 0;
	u32 id, used;

	assert_int_equal(mem_write(r->d.mem, r->tx, h, HEAD), 0);
	if (data)
		assert_int_equal(mem_write(r->d.mem, r->tx + HEAD, data, len), 0);
	for (u32 at = 0; at < HEAD + len; at += piece) {
		assert_true(n < PIECES_MAX);
		seg[n++] = (struct vdrv_seg){ r->tx + at, MIN(piece, HEAD + len - at), false };
	}
	vdrv_add(&r->d, 1, seg, n);
	vdrv_notify(&r->d, 1);
	while (vdrv_used(&r->d, 1, &id, &used))
		assert_int_equal(used, 0);
}

void rig_send(struct rig *r, const struct peer *p, unsigned op, u32 flags, const void *data,
	      u32 len)
{
	struct virtio_vsock_hdr h = { .src_cid = RIG_CID,
				      .dst_cid = VSOCK_CID_HOST,
				      .src_port = p->guest_port,
				      .dst_port = p->host_port,
				      .len = len,
				      .type = VIRTIO_VSOCK_TYPE_STREAM,
				      .op = (u16)op,
				      .flags = flags,
				      .buf_alloc = p->alloc,
				      .fwd_cnt = p->fwd };

	rig_send_raw(r, &h, data, len, RIG_TX);
}

void rig_host(struct rig *r)
{
	struct pollfd p = { .fd = gate_fd(r->g), .events = POLLIN };

	for (unsigned i = 0; i < 100000 && poll(&p, 1, 0) > 0; i++)
		gate_dispatch(r->g);
	assert_int_equal(poll(&p, 1, 0), 0); /* nothing is reported for ever */
}

int rig_call(struct rig *r, u32 port, struct vsock_call *call, struct peer *p)
{
	struct packet k;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	fcntl(pair[1], F_SETFL, O_NONBLOCK);
	assert_int_equal(virtio_vsock_call(r->s, port, pair[0], call), 0);
	if (p) {
		rig_expect(r, OP_REQUEST, &k);
		assert_int_equal(k.h.dst_port, port);
		assert_int_equal(k.h.src_cid, VSOCK_CID_HOST);
		assert_int_equal(k.h.type, VIRTIO_VSOCK_TYPE_STREAM);
		assert_true(k.h.buf_alloc);
		*p = (struct peer){ .host_port = k.h.src_port, .guest_port = port };
	}
	return pair[1];
}

int rig_connect(struct rig *r, u32 port, u32 alloc, struct peer *p)
{
	int fd = rig_call(r, port, NULL, p);

	p->alloc = alloc;
	rig_send(r, p, OP_RESPONSE, 0, NULL, 0);
	return fd;
}

void rig_read(int fd, void *buf, size_t len)
{
	while (len) {
		ssize_t n = read(fd, buf, len);

		assert_true(n > 0);
		buf = (u8 *)buf + n;
		len -= (size_t)n;
	}
}

bool rig_eof(int fd)
{
	u8 byte;

	return read(fd, &byte, 1) == 0;
}

bool rig_empty(int fd)
{
	u8 byte;

	return read(fd, &byte, 1) < 0 && errno == EAGAIN;
}
