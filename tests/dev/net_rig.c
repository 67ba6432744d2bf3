// SPDX-License-Identifier: Apache-2.0
/*
 * net_rig.c - a driver of the network device in a test, and the other end of its cable
 */
#include "net_rig.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

const u8 own_mac[6] = { 2, 0, 0, 0, 0, 1 }, other_mac[6] = { 2, 0, 0, 0, 0, 2 };
const struct virtio_net_hdr_v1 no_hdr;

/* --- the other end ---------------------------------------------------------------------------- */

static int wire_send(struct net *n, const struct net_frame *f)
{
	struct wire *w = container_of(n, struct wire, n);

	if (w->refuse)
		return -EAGAIN;
	assert_true(w->sent < KEPT);
	w->len[w->sent] = f->len;
	w->o[w->sent] = f->o;
	iov_read(f->iov, f->n, 0, w->data[w->sent], sizeof(w->data[0]));
	w->sent++;
	return 0;
}

static void wire_start(struct net *n, unsigned takes)
{
	container_of(n, struct wire, n)->takes = takes;
	container_of(n, struct wire, n)->starts++;
}

static void wire_stop(struct net *n)
{
	container_of(n, struct wire, n)->stops++;
}

static void wire_sent(struct net *n)
{
	container_of(n, struct wire, n)->batches++;
}

static void wire_room(struct net *n)
{
	container_of(n, struct wire, n)->rooms++;
}

static const struct net_ops wire_ops = {
	.name = "wire",
	.start = wire_start,
	.stop = wire_stop,
	.send = wire_send,
	.sent = wire_sent,
	.room = wire_room,
};

/* --- the rig ---------------------------------------------------------------------------------- */

struct rig *net_rig_new(struct net *net, unsigned pairs)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct virtio_net_cfg cfg = { .mtu = 1500, .pairs = pairs };
	struct vdev *v;

	r->w.n = (struct net){ .ops = &wire_ops, .link = true };
	r->loop = net;
	cfg.net = net ? net : &r->w.n;
	cfg.stats = &r->stats;
	memcpy(cfg.mac, own_mac, 6);
	vdrv_up(&r->d);
	assert_int_equal(virtio_net_new(&cfg, &r->d.env, &v), 0);
	vdrv_attach(&r->d, v);
	return r;
}

struct rig *net_up(u64 features)
{
	struct rig *r = net_rig_new(NULL, 1);

	vdrv_start(&r->d, features, 3, 64);
	return r;
}

void net_down(struct rig *r)
{
	vdrv_down(&r->d);
	net_free(r->loop);
	free(r);
}

gpa_t net_give(struct rig *r, unsigned q, u32 len)
{
	struct vdrv_seg seg = { vdrv_put(&r->d, NULL, len), len, true };

	vdrv_add(&r->d, q, &seg, 1);
	return seg.gpa;
}

void net_send(struct rig *r, unsigned q, const struct virtio_net_hdr_v1 *h, const void *frame,
	      u32 len)
{
	struct vdrv_seg seg[] = { { vdrv_put(&r->d, h, HDR), HDR, false },
				  { vdrv_put(&r->d, frame, len), len, false } };

	vdrv_add(&r->d, q, seg, 2);
	vdrv_notify(&r->d, q);
}

void net_ether(u8 *f, const u8 *dst, u32 type)
{
	memcpy(f, dst, 6);
	memcpy(f + 6, other_mac, 6);
	f[12] = (u8)(type >> 8);
	f[13] = (u8)type;
}

int net_bring(struct rig *r, const void *data, size_t len, const struct net_offload *o)
{
	/* In two pieces, cut at an odd place. */
	struct iovec iov[2] = { { (void *)(size_t)data, MIN(len, (size_t)11) },
				{ (u8 *)(size_t)data + MIN(len, (size_t)11),
				  len - MIN(len, (size_t)11) } };
	struct net_frame f = { .iov = iov, .n = 2, .len = len };
	int rc;

	if (o)
		f.o = *o;
	rc = r->w.n.peer.receive(r->w.n.peer.opaque, &f);
	r->w.n.peer.received(r->w.n.peer.opaque);
	return rc;
}

struct virtio_net_hdr_v1 net_hdr_at(struct rig *r, gpa_t gpa)
{
	struct virtio_net_hdr_v1 h;

	assert_int_equal(mem_read(r->d.mem, gpa, &h, HDR), 0);
	return h;
}

int net_command(struct rig *r, unsigned q, u8 class, u8 cmd, const void *data, u32 len)
{
	u8 head[2] = { class, cmd }, ack = 0xee;
	struct vdrv_seg seg[] = { { vdrv_put(&r->d, head, 1), 1, false },
				  { vdrv_put(&r->d, head + 1, 1), 1, false },
				  { vdrv_put(&r->d, data, len), len, false },
				  { vdrv_put(&r->d, &ack, 1), 1, true } };
	u32 got;

	if (!len)
		seg[2] = seg[3];
	vdrv_add(&r->d, q, seg, len ? 4 : 3);
	vdrv_notify(&r->d, q);
	assert_true(vdrv_used(&r->d, q, NULL, &got));
	assert_int_equal(got, 1);
	assert_int_equal(mem_read(r->d.mem, seg[3].gpa, &ack, 1), 0);
	return ack;
}
