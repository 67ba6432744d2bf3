// SPDX-License-Identifier: Apache-2.0
/*
 * net_frame.c - an Ethernet frame, and finishing what its sender left to the card
 *
 * How it works
 * A sender may leave two things to the card: the TCP or UDP checksum (RFC 1071, RFC 9293 3.1), of
 * which it has put the pseudo header's part in place, and cutting a large TCP segment into those
 * that fit the path (virtio 1.2, 5.1.6.2). Where the network behind the card wants finished frames
 * they are finished here.
 *
 * Frames come from a guest and their fields from a header beside them; both may lie. The check
 * looks at what later code relies on, once, and later code works on its own copy of the frame.
 * How many segments one frame becomes has a bound of ours: a tiny gso_size would make some
 * megabytes of one frame.
 *
 * Pseudo headers of cut segments are summed anew rather than corrected, so that it does not matter
 * which length the sender had put into the partial sum.
 */
#include "host/net_frame.h"

#include <errno.h>
#include <string.h>

#define ETH_IP4 0x0800u
#define ETH_IP6 0x86ddu
#define ETH_VLAN 0x8100u
#define ETH_QINQ 0x88a8u
#define PROTO_TCP 6u
#define PROTO_UDP 17u
#define IP4_LEN 20u
#define IP6_LEN 40u
#define TCP_LEN 20u
#define TCP_FIN 0x01u
#define TCP_PSH 0x08u
#define TCP_CWR 0x80u
/* Linux' smallest segment is 48 bytes: 65535 / 48 */
#define SEGMENTS_MAX 1366u

static u32 get16(const u8 *p)
{
	return (u32)p[0] << 8 | p[1];
}

static void put16(u8 *p, u32 v)
{
	p[0] = (u8)(v >> 8);
	p[1] = (u8)v;
}

static u32 get32(const u8 *p)
{
	return get16(p) << 16 | get16(p + 2);
}

static void put32(u8 *p, u32 v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

/* --- checksums -------------------------------------------------------------------------------- */

static u32 fold(u64 s)
{
	s = (s & UINT32_MAX) + (s >> 32);
	s = (s & UINT32_MAX) + (s >> 32);
	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return (u32)((s & 0xffff) + (s >> 16));
}

/* RFC 1071: the sum may be taken in any order and in wider words, and in the machine's own order. */
u32 net_sum(const void *data, size_t len, u32 sum)
{
	const u8 *p = data;
	u64 a = sum, b = 0, w[4];

	for (; len >= sizeof(w); p += sizeof(w), len -= sizeof(w)) {
		memcpy(w, p, sizeof(w));
		a += (w[0] & UINT32_MAX) + (w[1] & UINT32_MAX) + (w[2] & UINT32_MAX) +
		     (w[3] & UINT32_MAX);
		b += (w[0] >> 32) + (w[1] >> 32) + (w[2] >> 32) + (w[3] >> 32);
	}
	memset(w, 0, sizeof(w));
	memcpy(w, p, len);
	for (unsigned i = 0; i < 4; i++)
		a += (w[i] & UINT32_MAX) + (w[i] >> 32);
	return fold((a & UINT32_MAX) + (a >> 32) + b);
}

static void store_sum(u8 *p, u32 sum)
{
	u16 v = (u16)~sum;

	memcpy(p, &v, sizeof(v));
}

void net_frame_fill(u8 *frame, size_t len, const struct net_offload *o)
{
	u8 *at = frame + o->csum_start + o->csum_offset;
	u32 sum;

	if (!o->partial)
		return;
	sum = net_sum(frame + o->csum_start, len - o->csum_start, 0);
	/* A UDP sum of 0 would mean that there is none (RFC 768); for TCP both zeros are equal. */
	store_sum(at, sum == 0xffff ? 0 : sum);
}

/* --- headers ---------------------------------------------------------------------------------- */

/* The network header: its offset and EtherType. False: it is not all there. */
static bool network(const u8 *head, size_t len, u32 *ret_off, u32 *ret_type)
{
	u32 off = NET_ETH_LEN, type;

	if (len < off)
		return false;
	type = get16(head + off - 2);
	if (type == ETH_VLAN || type == ETH_QINQ) {
		off += NET_VLAN_LEN;
		if (len < off)
			return false;
		type = get16(head + off - 2);
	}
	*ret_off = off;
	*ret_type = type;
	return true;
}

bool net_is_group(const u8 *frame)
{
	return frame[0] & 1;
}

bool net_is_broadcast(const u8 *frame)
{
	return get32(frame) == UINT32_MAX && get16(frame + 4) == 0xffff;
}

int net_vlan(const u8 *head, size_t len)
{
	if (len < NET_ETH_LEN + NET_VLAN_LEN || get16(head + 12) != ETH_VLAN)
		return -1;
	return (int)(get16(head + 14) & 0xfff);
}

u32 net_flow(const u8 *head, size_t len)
{
	u32 off, type, l4, proto, h;

	if (!network(head, len, &off, &type))
		return 0;
	if (type == ETH_IP4 && len >= off + IP4_LEN) {
		h = get32(head + off + 12) ^ get32(head + off + 16);
		proto = head[off + 9];
		l4 = off + (head[off] & 15u) * 4;
		if (get16(head + off + 6) & 0x3fff) /* a fragment: ports are in the first only */
			proto = 0;
	} else if (type == ETH_IP6 && len >= off + IP6_LEN) {
		h = 0;
		for (u32 i = 8; i < IP6_LEN; i += 4)
			h ^= get32(head + off + i);
		proto = head[off + 6];
		l4 = off + IP6_LEN;
	} else {
		return 0;
	}
	if ((proto == PROTO_TCP || proto == PROTO_UDP) && len >= l4 + 4)
		h ^= get16(head + l4) ^ get16(head + l4 + 2);
	/* Every bit of the input changes the low ones, which pick a slot. */
	h ^= proto ^ h >> 16;
	h = (h ^ h >> 8) * 0x9e3779b1u;
	h = (h ^ h >> 15) * 0x85ebca6bu;
	h ^= h >> 13;
	return h ? h : 1;
}

/* Where a large segment is to be cut. */
struct cut {
	u32 l3, l4, payload; /* offsets */
	bool v6;
};

static int find_cut(const u8 *head, size_t have, size_t len, const struct net_offload *o,
		    struct cut *ret)
{
	u32 l3, type, l4 = o->csum_start, doff;
	bool v6 = o->gso == NET_GSO_TCP6;

	if (!o->partial || o->csum_offset != 16 || !o->gso_size)
		return -EINVAL;
	if (!network(head, have, &l3, &type) || type != (v6 ? ETH_IP6 : ETH_IP4))
		return -EINVAL;
	/* With IPv6 other headers may lie between, and stay as they are in every segment. */
	if (have < l4 + TCP_LEN || l4 < l3 + (v6 ? IP6_LEN : IP4_LEN))
		return -EINVAL;
	if (!v6 && (l4 != l3 + (head[l3] & 15u) * 4 || head[l3 + 9] != PROTO_TCP))
		return -EINVAL;
	doff = (head[l4 + 12] >> 4) * 4u;
	if (doff < TCP_LEN || l4 + doff > len || len - l3 > 65535u + (v6 ? IP6_LEN : 0))
		return -EINVAL;
	*ret = (struct cut){ .l3 = l3, .l4 = l4, .payload = l4 + doff, .v6 = v6 };
	return (len - ret->payload) / o->gso_size < SEGMENTS_MAX ? 0 : -EINVAL;
}

int net_frame_check(const struct net_frame *f)
{
	const struct net_offload *o = &f->o;
	u8 head[512];
	size_t have;
	struct cut c;

	if (f->len < NET_ETH_LEN || f->len > NET_FRAME_MAX)
		return -EINVAL;
	if (o->partial && (size_t)o->csum_start + o->csum_offset + 2 > f->len)
		return -EINVAL;
	if (o->gso == NET_GSO_NONE)
		return 0;
	have = iov_read(f->iov, f->n, 0, head, MIN(sizeof(head), f->len));
	return find_cut(head, have, f->len, o, &c);
}

/* --- cutting ---------------------------------------------------------------------------------- */

static u32 pseudo(const u8 *ip, bool v6, u32 tcp_len)
{
	u8 tail[8] = { 0 };

	put32(tail, tcp_len);
	tail[7] = PROTO_TCP;
	return net_sum(tail, sizeof(tail), v6 ? net_sum(ip + 8, 32, 0) : net_sum(ip + 12, 8, 0));
}

/* Lengths and checksums of the TCP segment at @frame, @len bytes. */
static void finish_tcp(u8 *frame, size_t len, const struct cut *c)
{
	u8 *ip = frame + c->l3, *tcp = frame + c->l4;
	u32 sum;

	if (c->v6) {
		put16(ip + 4, (u32)(len - c->l3 - IP6_LEN));
	} else {
		put16(ip + 2, (u32)(len - c->l3));
		put16(ip + 10, 0);
		store_sum(ip + 10, net_sum(ip, c->l4 - c->l3, 0));
	}
	put16(tcp + 16, 0);
	sum = pseudo(ip, c->v6, (u32)(len - c->l4));
	store_sum(tcp + 16, net_sum(tcp, len - c->l4, sum));
}

void net_frame_finish(u8 *frame, size_t len, const struct net_offload *o, bool whole,
		      void (*emit)(void *opaque, u8 *frame, size_t len), void *opaque)
{
	u8 head[512];
	struct cut c;
	u32 seq, id = 0, flags;

	if (o->gso == NET_GSO_NONE) {
		net_frame_fill(frame, len, o);
		emit(opaque, frame, len);
		return;
	}
	/* The copy is not what was checked: the sender may have changed it in between. */
	if (find_cut(frame, MIN(len, sizeof(head)), len, o, &c) < 0 || c.payload > sizeof(head))
		return;
	if ((whole && !c.v6) || len - c.payload <= o->gso_size) {
		finish_tcp(frame, len, &c);
		emit(opaque, frame, len);
		return;
	}
	memcpy(head, frame, c.payload);
	seq = get32(head + c.l4 + 4);
	flags = head[c.l4 + 13];
	if (!c.v6)
		id = get16(head + c.l3 + 4);
	for (size_t at = c.payload, n; at < len; at += n) {
		/* Headers go in front of the payload where it is, over what was sent already. */
		u8 *p = frame + at - c.payload;
		bool first = at == c.payload, last;

		n = MIN(len - at, (size_t)o->gso_size);
		last = at + n == len;
		memcpy(p, head, c.payload);
		put32(p + c.l4 + 4, seq + (u32)(at - c.payload));
		p[c.l4 + 13] =
			(u8)(flags & ~((last ? 0 : TCP_FIN | TCP_PSH) | (first ? 0 : TCP_CWR)));
		if (!c.v6)
			put16(p + c.l3 + 4, id++ & 0xffff);
		finish_tcp(p, c.payload + n, &c);
		emit(opaque, p, c.payload + n);
	}
}
