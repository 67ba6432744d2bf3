// SPDX-License-Identifier: Apache-2.0
/*
 * test_virtio_net.c - the network device, driven by its registers and queues
 */
#include "net_rig.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* --- sending ---------------------------------------------------------------------------------- */

static void sends(void **s)
{
	struct rig *r = net_up(ALL);
	u8 f[1000];
	struct virtio_net_hdr_v1 h = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
				       .csum_start = 100,
				       .csum_offset = 6 };
	u32 got;

	for (size_t i = 0; i < sizeof(f); i++)
		f[i] = (u8)(i * 7);
	/* The header in three pieces, the frame in two, all in an indirect table. */
	gpa_t at = vdrv_put(&r->d, &h, HDR), data = vdrv_put(&r->d, f, sizeof(f));
	struct vdrv_seg seg[] = { { at, 1, false },
				  { at + 1, 10, false },
				  { at + 11, 1, false },
				  { data, 13, false },
				  { data + 13, sizeof(f) - 13, false } };
	vdrv_add_indirect(&r->d, TX, seg, 5);
	vdrv_notify(&r->d, TX);
	assert_true(vdrv_used(&r->d, TX, NULL, &got));
	assert_int_equal(got, 0);
	assert_int_equal(r->w.sent, 1);
	assert_int_equal(r->w.batches, 1);
	assert_int_equal(r->w.len[0], sizeof(f));
	assert_memory_equal(r->w.data[0], f, sizeof(f));
	assert_true(r->w.o[0].partial);
	assert_int_equal(r->w.o[0].csum_start, 100);
	assert_int_equal(r->w.o[0].csum_offset, 6);
	assert_int_equal(r->stats.tx_bytes, sizeof(f));
	net_down(r);
}

/* Headers that make no sense lose their frame; the device and its queue go on. */
static void bad_headers(void **s)
{
	static const struct virtio_net_hdr_v1 bad[] = {
		{ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 99, .csum_offset = 0 },
		{ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 65535, .csum_offset = 65535 },
		{ .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 10 },
		{ .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		  .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		  .csum_start = 34,
		  .csum_offset = 16 },
		{ .gso_type = VIRTIO_NET_HDR_GSO_UDP, .gso_size = 100 },
		{ .gso_type = 77, .gso_size = 100 },
	};
	struct rig *r = net_up(ALL);
	u8 f[100] = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		net_send(r, TX, &bad[i], f, sizeof(f));
	net_send(r, TX, &no_hdr, f, 13);
	assert_int_equal(r->w.sent, 0);
	assert_int_equal(r->stats.tx_dropped, ARRAY_LEN(bad) + 1);
	for (size_t i = 0; i < ARRAY_LEN(bad) + 1; i++)
		assert_true(vdrv_used(&r->d, TX, NULL, NULL));
	net_send(r, TX, &no_hdr, f, 14);
	assert_int_equal(r->w.sent, 1);
	assert_false(vdrv_needs_reset(&r->d));
	net_down(r);
	/* Not negotiated: a partial checksum makes no sense either. */
	r = net_up(0);
	const struct virtio_net_hdr_v1 h = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM };
	net_send(r, TX, &h, f, sizeof(f));
	assert_int_equal(r->stats.tx_dropped, 1);
	net_down(r);
}

/* What the back end refuses stays in the ring, in order. */
static void refusal(void **s)
{
	struct rig *r = net_up(ALL);
	u8 f[60] = { 0 };

	r->w.refuse = true;
	for (u8 i = 0; i < 5; i++) {
		f[20] = i;
		net_send(r, TX, &no_hdr, f, sizeof(f));
	}
	assert_false(vdrv_used(&r->d, TX, NULL, NULL));
	r->w.n.peer.ready(r->w.n.peer.opaque); /* too early */
	assert_false(vdrv_used(&r->d, TX, NULL, NULL));
	r->w.refuse = false;
	r->w.n.peer.ready(r->w.n.peer.opaque);
	assert_int_equal(r->w.sent, 5);
	for (u8 i = 0; i < 5; i++) {
		assert_true(vdrv_used(&r->d, TX, NULL, NULL));
		assert_int_equal(r->w.data[i][20], i);
	}
	assert_int_equal(r->stats.tx_frames, 5);
	assert_true(r->d.irq);
	/* A reset while refused: nothing is sent later. */
	r->w.refuse = true;
	net_send(r, TX, &no_hdr, f, sizeof(f));
	vdrv_wr(&r->d, VIRTIO_MMIO_STATUS, 0);
	r->w.refuse = false;
	r->w.n.peer.ready(r->w.n.peer.opaque);
	assert_int_equal(r->w.sent, 5);
	assert_true(r->w.stops > 0);
	net_down(r);
}

static void breaches(void **s)
{
	struct rig *r = net_up(ALL);
	struct vdrv_seg tiny = { 0x100000, 11, false }, in = { 0x100000, 100, true };
	u8 f[60] = { 0 };

	vdrv_add(&r->d, TX, &tiny, 1);
	vdrv_notify(&r->d, TX);
	assert_true(vdrv_needs_reset(&r->d));
	vdrv_start(&r->d, ALL, 3, 64);
	vdrv_add(&r->d, TX, &in, 1);
	vdrv_notify(&r->d, TX);
	assert_true(vdrv_needs_reset(&r->d));
	vdrv_start(&r->d, ALL, 3, 64);
	net_give(r, RX, 60);
	net_give(r, RX, 11);
	assert_int_equal(net_bring(r, f, sizeof(f), NULL), 0);
	assert_true(vdrv_needs_reset(&r->d));
	assert_int_equal(net_bring(r, f, sizeof(f), NULL), 0); /* dropped */
	vdrv_start(&r->d, ALL, 3, 64);
	vdrv_add(&r->d, RX, &tiny, 1);
	net_bring(r, f, sizeof(f), NULL);
	assert_true(vdrv_needs_reset(&r->d));
	vdrv_start(&r->d, ALL, 3, 64);
	vdrv_add(&r->d, CTRL, &tiny, 1);
	vdrv_notify(&r->d, CTRL);
	assert_true(vdrv_needs_reset(&r->d));
	vdrv_start(&r->d, ALL, 3, 64);
	net_send(r, TX, &no_hdr, f, sizeof(f));
	assert_int_equal(r->w.sent, 1);
	net_down(r);
}

/* --- receiving -------------------------------------------------------------------------------- */

static void merged(void **s)
{
	struct rig *r = net_up(ALL);
	u8 f[1000], got[1000];
	gpa_t b[4];
	u32 len;

	for (size_t i = 0; i < sizeof(f); i++)
		f[i] = (u8)(i * 3);
	for (unsigned i = 0; i < 4; i++)
		b[i] = net_give(r, RX, 400);
	assert_int_equal(net_bring(r, f, sizeof(f), &(struct net_offload){ .valid = true }), 0);
	struct virtio_net_hdr_v1 h = net_hdr_at(r, b[0]);
	assert_int_equal(h.num_buffers, 3);
	assert_int_equal(h.flags, VIRTIO_NET_HDR_F_DATA_VALID);
	assert_int_equal(h.gso_type, 0);
	static const u32 lens[] = { 400, 400, HDR + 1000 - 800 };
	for (unsigned i = 0, at = 0; i < 3; i++) {
		u32 off = i ? 0 : HDR;

		assert_true(vdrv_used(&r->d, RX, NULL, &len));
		assert_int_equal(len, lens[i]);
		assert_int_equal(mem_read(r->d.mem, b[i] + off, got + at, len - off), 0);
		at += len - off;
	}
	assert_false(vdrv_used(&r->d, RX, NULL, NULL));
	assert_memory_equal(got, f, sizeof(f));
	assert_true(r->d.irq);
	/* One buffer is left: the next frame of that size does not fit, a small one does. */
	assert_int_equal(net_bring(r, f, sizeof(f), NULL), -EAGAIN);
	assert_int_equal(net_bring(r, f, 388, NULL), 0);
	assert_int_equal(net_hdr_at(r, b[3]).num_buffers, 1);
	net_down(r);
}

static void unmerged(void **s)
{
	struct rig *r = net_up(ALL & ~BIT(VIRTIO_NET_F_MRG_RXBUF));
	u8 f[500] = { 0 };
	gpa_t b = net_give(r, RX, 400);
	u32 len;

	/* There will never be room for it in that buffer: lost, and the buffer stays. */
	assert_int_equal(net_bring(r, f, 389, NULL), 0);
	assert_int_equal(r->stats.rx_dropped, 1);
	assert_int_equal(net_bring(r, f, 388, NULL), 0);
	assert_true(vdrv_used(&r->d, RX, NULL, &len));
	assert_int_equal(len, 400);
	assert_int_equal(net_hdr_at(r, b).num_buffers, 1);
	net_down(r);
}

/* Without buffers the back end keeps the frame, and hears when there are some. */
static void no_room(void **s)
{
	struct rig *r = net_up(ALL);
	u8 f[100] = { 0 };

	/* With buffers no notification is asked for. */
	net_give(r, RX, 200);
	assert_int_equal(net_bring(r, f, sizeof(f), NULL), 0);
	assert_int_equal(r->w.rooms, 0);
	assert_int_equal(net_bring(r, f, sizeof(f), NULL), -EAGAIN);
	assert_int_equal(vdrv_get16(&r->d, vdrv_avail_event(&r->d, RX)), 1);
	net_give(r, RX, 200);
	vdrv_notify(&r->d, RX);
	assert_int_equal(r->w.rooms, 1);
	assert_int_equal(net_bring(r, f, sizeof(f), NULL), 0);
	/* A kick that nobody waits for. */
	vdrv_notify(&r->d, RX);
	assert_int_equal(r->w.rooms, 1);
	net_down(r);
}

/* A ring full of buffers that together are too small does not stop the back end for ever. */
static void too_small(void **s)
{
	struct rig *r = net_rig_new(NULL, 1);
	u8 f[1000] = { 0 };

	vdrv_start(&r->d, ALL, 3, 4);
	for (unsigned i = 0; i < 4; i++)
		net_give(r, RX, 100);
	assert_int_equal(net_bring(r, f, sizeof(f), NULL), 0);
	assert_int_equal(r->stats.rx_dropped, 1);
	assert_int_equal(net_bring(r, f, 388, NULL), 0);
	assert_int_equal(r->stats.rx_frames, 1);
	net_down(r);
}

static size_t tcp_frame(u8 *f, size_t payload, struct net_offload *o)
{
	size_t len = 54 + payload;

	memset(f, 0, len);
	net_ether(f, own_mac, 0x0800);
	f[14] = 0x45;
	f[23] = 6;
	f[46] = 0x50;
	for (size_t i = 54; i < len; i++)
		f[i] = (u8)i;
	*o = (struct net_offload){ .partial = true,
				   .gso = NET_GSO_TCP4,
				   .gso_size = 500,
				   .hdr_len = 54,
				   .csum_start = 34,
				   .csum_offset = 16 };
	return len;
}

static void large_segments(void **s)
{
	struct rig *r = net_up(ALL);
	u8 f[2000], got[600];
	struct net_offload o;
	size_t len = tcp_frame(f, 1200, &o);
	gpa_t b = net_give(r, RX, 1500);

	assert_int_equal(r->w.takes,
			 NET_TAKES_CSUM | NET_TAKES_TSO4 | NET_TAKES_TSO6 | NET_TAKES_ECN);
	assert_int_equal(net_bring(r, f, len, &o), 0);
	struct virtio_net_hdr_v1 h = net_hdr_at(r, b);
	assert_int_equal(h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
	assert_int_equal(h.gso_size, 500);
	assert_int_equal(h.hdr_len, 54);
	assert_int_equal(h.csum_start, 34);
	assert_int_equal(h.csum_offset, 16);
	net_down(r);

	/* A driver that takes none gets finished frames. */
	r = net_up(BIT(VIRTIO_NET_F_MRG_RXBUF));
	assert_int_equal(r->w.takes, 0);
	gpa_t three[3];
	for (unsigned i = 0; i < 3; i++)
		three[i] = net_give(r, RX, 600);
	assert_int_equal(net_bring(r, f, len, &o), 0);
	for (unsigned i = 0; i < 3; i++) {
		u32 n, want = HDR + 54 + (i < 2 ? 500 : 200);

		h = net_hdr_at(r, three[i]);
		assert_int_equal(h.flags, 0);
		assert_int_equal(h.gso_type, 0);
		assert_int_equal(h.num_buffers, 1);
		assert_true(vdrv_used(&r->d, RX, NULL, &n));
		assert_int_equal(n, want);
		assert_int_equal(mem_read(r->d.mem, three[i] + HDR, got, n - HDR), 0);
		assert_memory_equal(got + 54, f + 54 + 500 * i, n - HDR - 54);
		/* The IP header's sum, over itself, is zero's complement. */
		assert_int_equal(net_sum(got + 14, 20, 0), 0xffff);
	}
	/* That its checksum is good is nothing such a driver wants to hear either. */
	gpa_t b2 = net_give(r, RX, 600);
	assert_int_equal(net_bring(r, f, 100, &(struct net_offload){ .valid = true }), 0);
	assert_int_equal(net_hdr_at(r, b2).flags, 0);
	net_down(r);
}

/* A frame that needs no cutting, but whose checksum is not there yet: that must be said, or done. */
static void partial_sums(void **s)
{
	const struct net_offload o = { .partial = true, .csum_start = 34, .csum_offset = 6 };
	struct rig *r = net_up(ALL);
	u8 f[100] = { 0 }, got[100];
	struct virtio_net_hdr_v1 h;
	gpa_t b;

	f[70] = 0x12;
	b = net_give(r, RX, 200);
	assert_int_equal(net_bring(r, f, sizeof(f), &o), 0);
	h = net_hdr_at(r, b);
	assert_int_equal(h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_NONE);
	assert_int_equal(h.csum_start, 34);
	assert_int_equal(h.csum_offset, 6);
	assert_int_equal(h.num_buffers, 1);
	net_down(r);
	r = net_up(ALL & ~(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |
			   BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN)));
	b = net_give(r, RX, 200);
	assert_int_equal(net_bring(r, f, sizeof(f), &o), 0);
	assert_int_equal(net_hdr_at(r, b).flags, 0);
	assert_int_equal(mem_read(r->d.mem, b + HDR, got, sizeof(got)), 0);
	assert_int_equal(got[40] << 8 | got[41], 0xffff & ~0x1200);
	net_down(r);
}

/* The largest frame there is, both ways, through buffers of a page's third. */
static void largest_frame(void **s)
{
	static u8 f[NET_FRAME_MAX], got[NET_FRAME_MAX];
	struct net *loop;
	struct rig *r;
	gpa_t b[60];
	u32 len, at = 0;

	for (size_t i = 0; i < sizeof(f); i++)
		f[i] = (u8)(i * 7 + i / 251);
	net_ether(f, own_mac, 0x88b5);
	assert_int_equal(net_loop_new(&loop), 0);
	r = net_rig_new(loop, 1);
	vdrv_start(&r->d, ALL, 3, 64);
	for (unsigned i = 0; i < ARRAY_LEN(b); i++)
		b[i] = net_give(r, RX, 1365);
	net_send(r, TX, &no_hdr, f, sizeof(f));
	assert_int_equal(r->stats.tx_frames, 1);
	testclock_by(&r->d.clk, 1000000);
	assert_int_equal(net_hdr_at(r, b[0]).num_buffers, (HDR + sizeof(f) + 1364) / 1365);
	for (unsigned i = 0; vdrv_used(&r->d, RX, NULL, &len); i++) {
		u32 off = i ? 0 : HDR;

		assert_int_equal(mem_read(r->d.mem, b[i] + off, got + at, len - off), 0);
		at += len - off;
	}
	assert_int_equal(at, sizeof(f));
	assert_memory_equal(got + 12, f + 12, sizeof(f) - 12);
	net_down(r);
}

/* Positions in the receive ring are 16 bits wide and wrap, also in the middle of a frame. */
static void receiving_wraps(void **s)
{
	for (unsigned n = 1; n <= 3; n++) { /* buffers a frame takes */
		struct rig *r = net_rig_new(NULL, 1);
		u8 f[250] = { 0 }, got[2];
		struct vdrv_seg seg[4];

		vdrv_start(&r->d, ALL, 3, 4);
		for (unsigned k = 0; k < 4; k++)
			seg[k] = (struct vdrv_seg){ vdrv_put(&r->d, NULL, 100), 100, true };
		for (u32 i = 0; i < 70000; i++) {
			f[20] = (u8)i;
			f[21] = (u8)(i >> 8);
			for (unsigned k = 0; k < n; k++)
				vdrv_add(&r->d, RX, &seg[k], 1);
			if (net_bring(r, f, 100 * n - 50, NULL) < 0)
				fail_msg("frame %u found no buffers", i);
			for (unsigned k = 0; k < n; k++)
				if (!vdrv_used(&r->d, RX, NULL, NULL))
					fail_msg("frame %u is lost", i);
			assert_int_equal(mem_read(r->d.mem, seg[0].gpa + HDR + 20, got, 2), 0);
			assert_memory_equal(got, f + 20, 2);
		}
		assert_int_equal(r->stats.rx_frames, 70000);
		assert_false(vdrv_needs_reset(&r->d));
		net_down(r);
	}
}

/* --- filter and control ----------------------------------------------------------------------- */

static bool passes(struct rig *r, const u8 *dst, int vlan)
{
	u64 before = r->stats.rx_frames;
	u8 f[64] = { 0 };

	net_ether(f, dst, vlan < 0 ? 0x0800 : 0x8100);
	f[15] = (u8)vlan;
	net_give(r, RX, 100);
	assert_int_equal(net_bring(r, f, sizeof(f), NULL), 0);
	return r->stats.rx_frames != before;
}

static void filter(void **s)
{
	static const u8 all[6] = { 255, 255, 255, 255, 255, 255 }, group[6] = { 1, 0, 94, 0, 0, 5 };
	static const u8 off, on = 1;
	struct rig *r = net_rig_new(NULL, 1);
	u8 table[8 + 6 * 3] = { 0 };

	vdrv_start(&r->d, ALL & ~BIT(VIRTIO_NET_F_CTRL_VLAN), 3, 256);
	assert_true(passes(r, other_mac, -1));
	assert_int_equal(
		net_command(r, CTRL, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1), 0);
	assert_false(passes(r, other_mac, -1));
	assert_false(passes(r, group, -1));
	assert_true(passes(r, own_mac, -1));
	assert_true(passes(r, all, -1));
	assert_int_equal(
		net_command(r, CTRL, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, &on, 1), 0);
	assert_true(passes(r, group, -1));
	net_command(r, CTRL, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, &off, 1);
	net_command(r, CTRL, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST, &on, 1);
	assert_false(passes(r, all, -1));
	net_command(r, CTRL, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLUNI, &on, 1);
	assert_true(passes(r, other_mac, -1));
	net_command(r, CTRL, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOUNI, &on, 1);
	assert_false(passes(r, own_mac, -1));
	net_command(r, CTRL, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOUNI, &off, 1);
	net_command(r, CTRL, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLUNI, &off, 1);

	/* Tables: one address of one station, two of groups. */
	table[0] = 1;
	memcpy(table + 4, other_mac, 6);
	table[10] = 2;
	memcpy(table + 20, group, 6);
	assert_int_equal(net_command(r, CTRL, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET,
				     table, sizeof(table)),
			 0);
	assert_true(passes(r, other_mac, -1));
	assert_true(passes(r, group, -1));
	/* Its own address is another now. */
	assert_int_equal(net_command(r, CTRL, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET,
				     "\2abcde", 6),
			 0);
	assert_false(passes(r, own_mac, -1));
	assert_true(passes(r, (const u8 *)"\2abcde", -1));
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_CONFIG) >> 8 & 0xff, 'a');
	net_down(r);
}

static void vlans(void **s)
{
	static const u8 off, id[2] = { 7, 0 }, large[2] = { 0, 0x10 };
	struct rig *r = net_up(ALL);

	assert_true(passes(r, own_mac, 7));
	net_command(r, CTRL, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1);
	assert_false(passes(r, own_mac, 7));
	assert_true(passes(r, own_mac, 0)); /* a priority */
	assert_int_equal(
		net_command(r, CTRL, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, id, 2), 0);
	assert_true(passes(r, own_mac, 7));
	assert_false(passes(r, own_mac, 8));
	assert_int_equal(
		net_command(r, CTRL, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_DEL, id, 2), 0);
	assert_false(passes(r, own_mac, 7));
	assert_int_equal(
		net_command(r, CTRL, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, large, 2), 1);
	net_down(r);
}

/* More addresses than there is room for: all pass. Counts that lie are refused. */
static void many_addresses(void **s)
{
	static const u8 off;
	struct rig *r = net_up(ALL);
	u8 *table = calloc(1, 8 + 600);

	net_command(r, CTRL, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1);
	table[0] = 100;
	assert_int_equal(net_command(r, CTRL, 1, 0, table, 8 + 600), 0);
	assert_true(passes(r, other_mac, -1));
	table[0] = 0;
	assert_int_equal(net_command(r, CTRL, 1, 0, table, 8), 0);
	assert_false(passes(r, other_mac, -1));
	memset(table, 0xff, 4);
	assert_int_equal(net_command(r, CTRL, 1, 0, table, 8 + 600), 1);
	memset(table, 0, 4);
	table[4] = 101;
	assert_int_equal(net_command(r, CTRL, 1, 0, table, 8 + 600), 1);
	assert_int_equal(net_command(r, CTRL, 1, 0, table, 3), 1);
	assert_false(passes(r, other_mac, -1));
	free(table);
	net_down(r);
}

static void bad_commands(void **s)
{
	static const u8 zero[8], offloads[8] = { 0x80 }; /* GUEST_TSO4 alone */
	struct rig *r = net_up(ALL);

	assert_int_equal(net_command(r, CTRL, 99, 0, zero, 1), 1);
	assert_int_equal(net_command(r, CTRL, VIRTIO_NET_CTRL_RX, 6, zero, 1), 1);
	assert_int_equal(net_command(r, CTRL, VIRTIO_NET_CTRL_RX, 0, zero, 0), 1);
	assert_int_equal(net_command(r, CTRL, VIRTIO_NET_CTRL_MAC, 1, zero, 5), 1);
	assert_int_equal(net_command(r, CTRL, VIRTIO_NET_CTRL_MAC, 2, zero, 6), 1);
	assert_int_equal(net_command(r, CTRL, VIRTIO_NET_CTRL_ANNOUNCE, 1, zero, 0), 1);
	assert_int_equal(net_command(r, CTRL, VIRTIO_NET_CTRL_MQ, 0, "\1", 2), 1); /* no MQ */
	assert_int_equal(net_command(r, CTRL, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, "\0\0\0\0\1", 8),
			 1);
	assert_int_equal(net_command(r, CTRL, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, zero, 8), 0);
	assert_int_equal(r->w.takes, 0);
	assert_int_equal(net_command(r, CTRL, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, offloads, 8), 0);
	assert_int_equal(r->w.takes, NET_TAKES_TSO4);
	assert_false(vdrv_needs_reset(&r->d));
	/* A reset forgets what was set. */
	vdrv_start(&r->d, ALL, 3, 64);
	assert_true(passes(r, other_mac, -1));
	net_down(r);
}

static u32 link_status(struct rig *r)
{
	return vdrv_rd(&r->d, VIRTIO_MMIO_CONFIG + 4) >> 16; /* behind the address */
}

static void link_changes(void **s)
{
	struct rig *r = net_up(ALL);
	u32 gen = vdrv_rd(&r->d, VIRTIO_MMIO_CONFIG_GENERATION);

	assert_int_equal(link_status(r), VIRTIO_NET_S_LINK_UP);
	r->w.n.peer.link(r->w.n.peer.opaque, true); /* it is */
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_CONFIG_GENERATION), gen);
	r->w.n.peer.link(r->w.n.peer.opaque, false);
	assert_int_not_equal(vdrv_rd(&r->d, VIRTIO_MMIO_CONFIG_GENERATION), gen);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_INTERRUPT_STATUS), 2);
	assert_int_equal(link_status(r), 0);
	r->w.n.peer.link(r->w.n.peer.opaque, true);
	assert_int_equal(link_status(r), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	assert_int_equal(net_command(r, CTRL, VIRTIO_NET_CTRL_ANNOUNCE, 0, NULL, 0), 0);
	assert_int_equal(link_status(r), VIRTIO_NET_S_LINK_UP);
	net_down(r);
}

static void depends(void **s)
{
	struct rig *r = net_rig_new(NULL, 2);
	const u64 v1 = BIT(VIRTIO_F_VERSION_1);

	assert_false(vdrv_negotiate(&r->d, v1 | BIT(VIRTIO_NET_F_GUEST_TSO4)));
	assert_false(vdrv_negotiate(&r->d, v1 | BIT(VIRTIO_NET_F_HOST_TSO6)));
	assert_false(vdrv_negotiate(&r->d, v1 | BIT(VIRTIO_NET_F_MQ)));
	assert_false(vdrv_negotiate(&r->d, v1 | BIT(VIRTIO_NET_F_CTRL_VLAN)));
	assert_false(
		vdrv_negotiate(&r->d, v1 | BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_ECN)));
	assert_true(vdrv_negotiate(&r->d, v1 | BIT(VIRTIO_NET_F_CSUM) |
						  BIT(VIRTIO_NET_F_HOST_TSO4) |
						  BIT(VIRTIO_NET_F_HOST_ECN)));
	net_down(r);
}

/* --- several pairs ---------------------------------------------------------------------------- */

static void pairs(void **s)
{
	struct rig *r = net_rig_new(NULL, 3);
	u8 f[100] = { 0 };
	u32 len;

	vdrv_start(&r->d, ALL, 7, 64);
	assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_CONFIG + 8) & 0xffff, 3);
	net_ether(f, own_mac, 0x0800);
	f[14] = 0x45;
	f[23] = 6;
	f[26] = 10;
	/* Only the first is in use yet. */
	net_send(r, 3, &no_hdr, f, sizeof(f));
	assert_int_equal(r->w.sent, 0);
	assert_int_equal(net_command(r, 6, VIRTIO_NET_CTRL_MQ, 0, "\4", 2), 1);
	assert_int_equal(net_command(r, 6, VIRTIO_NET_CTRL_MQ, 0, "\0", 2), 1);
	assert_int_equal(net_command(r, 6, VIRTIO_NET_CTRL_MQ, 0, "\3", 2), 0);
	vdrv_notify(&r->d, 3);
	assert_int_equal(r->w.sent, 1);
	/* The flow comes back, addresses exchanged, on its pair; others on the first. */
	net_give(r, 2, 200);
	net_give(r, 0, 200);
	f[30] = 10;
	f[26] = 0;
	assert_int_equal(net_bring(r, f, sizeof(f), NULL), 0);
	assert_true(vdrv_used(&r->d, 2, NULL, &len));
	f[26] = 99;
	assert_int_equal(net_bring(r, f, sizeof(f), NULL), 0);
	assert_true(vdrv_used(&r->d, 0, NULL, &len));
	net_down(r);
	/* Without MQ the control queue is the third. */
	r = net_rig_new(NULL, 3);
	vdrv_start(&r->d, ALL & ~BIT(VIRTIO_NET_F_MQ), 3, 64);
	assert_int_equal(net_command(r, CTRL, VIRTIO_NET_CTRL_RX, 0, "", 1), 0);
	net_down(r);
}

/* --- the echo --------------------------------------------------------------------------------- */

static void echo(void **s)
{
	struct net *loop;
	struct rig *r;
	u8 f[1250], got[1250];
	u32 len;

	assert_int_equal(net_loop_new(&loop), 0);
	r = net_rig_new(loop, 1);
	vdrv_start(&r->d, ALL, 3, 64);
	for (size_t i = 0; i < sizeof(f); i++)
		f[i] = (u8)i;
	net_ether(f, own_mac, 0x88b5);
	gpa_t b = net_give(r, RX, 1500), b2 = net_give(r, RX, 1500);
	net_send(r, TX, &no_hdr, f, sizeof(f));
	memset(f, 0xff, 6);
	net_send(r, TX, &no_hdr, f, sizeof(f));
	/* 1250 bytes take 1 µs, and then 10. */
	testclock_to(&r->d.clk, 10999);
	assert_false(vdrv_used(&r->d, RX, NULL, NULL));
	testclock_to(&r->d.clk, 11000);
	assert_true(vdrv_used(&r->d, RX, NULL, &len));
	assert_int_equal(len, HDR + sizeof(f));
	assert_false(vdrv_used(&r->d, RX, NULL, NULL));
	assert_int_equal(mem_read(r->d.mem, b + HDR, got, sizeof(got)), 0);
	assert_memory_equal(got, other_mac, 6);
	assert_memory_equal(got + 6, own_mac, 6);
	assert_memory_equal(got + 12, f + 12, sizeof(f) - 12);
	testclock_to(&r->d.clk, 12000);
	assert_true(vdrv_used(&r->d, RX, NULL, NULL));
	assert_int_equal(mem_read(r->d.mem, b2 + HDR, got, sizeof(got)), 0);
	assert_memory_equal(got, f, 6); /* to all, still */
	assert_int_equal(got[6] & 1, 0);
	/* A reset forgets what is on the way. */
	net_give(r, RX, 1500);
	net_send(r, TX, &no_hdr, f, sizeof(f));
	vdrv_start(&r->d, ALL, 3, 64);
	net_give(r, RX, 1500);
	testclock_by(&r->d.clk, 1000000);
	assert_false(vdrv_used(&r->d, RX, NULL, NULL));
	net_down(r);
}

/* More than the echo keeps: the ring waits, and nothing is lost but for want of buffers. */
static void echo_full(void **s)
{
	struct net *loop;
	struct rig *r;
	u8 f[14] = { 2 };
	struct vdrv_seg seg;
	u8 buf[HDR + 14] = { 0 };

	assert_int_equal(net_loop_new(&loop), 0);
	r = net_rig_new(loop, 1);
	vdrv_start(&r->d, ALL, 3, 256);
	memcpy(buf + HDR, f, sizeof(f));
	seg = (struct vdrv_seg){ vdrv_put(&r->d, buf, sizeof(buf)), sizeof(buf), false };
	for (unsigned i = 0; i < 8; i++) {
		for (unsigned k = 0; k < 255; k++)
			vdrv_add(&r->d, TX, &seg, 1);
		vdrv_notify(&r->d, TX);
		while (vdrv_used(&r->d, TX, NULL, NULL))
			;
		if (r->stats.tx_frames < 255 * (i + 1))
			break;
	}
	assert_int_equal(r->stats.tx_frames, 1024);
	testclock_by(&r->d.clk, 10000000);
	assert_true(r->stats.tx_frames > 1024);
	assert_int_equal(loop->dropped, r->stats.tx_frames);
	net_down(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sends),	   cmocka_unit_test(bad_headers),
		cmocka_unit_test(refusal),	   cmocka_unit_test(breaches),
		cmocka_unit_test(merged),	   cmocka_unit_test(unmerged),
		cmocka_unit_test(no_room),	   cmocka_unit_test(too_small),
		cmocka_unit_test(large_segments),  cmocka_unit_test(filter),
		cmocka_unit_test(partial_sums),	   cmocka_unit_test(largest_frame),
		cmocka_unit_test(receiving_wraps), cmocka_unit_test(vlans),
		cmocka_unit_test(many_addresses),  cmocka_unit_test(bad_commands),
		cmocka_unit_test(link_changes),	   cmocka_unit_test(depends),
		cmocka_unit_test(pairs),	   cmocka_unit_test(echo),
		cmocka_unit_test(echo_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
