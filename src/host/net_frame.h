/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_frame.h - an Ethernet frame, and finishing what its sender left to the card
 */
#ifndef ORR_HOST_NET_FRAME_H
#define ORR_HOST_NET_FRAME_H

#include "base/compiler.h"
#include "base/iov.h"

#define NET_ETH_LEN 14u
#define NET_VLAN_LEN 4u
/* The largest frame: an IP packet of 65535 bytes behind an Ethernet header with a VLAN tag. */
#define NET_FRAME_MAX (65535u + NET_ETH_LEN + NET_VLAN_LEN)

enum net_gso { NET_GSO_NONE, NET_GSO_TCP4, NET_GSO_TCP6 };

/* What the sender left undone, or knows. Offsets are from the start of the frame. */
struct net_offload {
	bool partial; /* the 16 bits at csum_start + csum_offset are to get the sum from csum_start
		       * to the end, themselves included (they hold the pseudo header's) */
	bool valid;   /* checksums are known to be right */
	bool ecn;     /* gso: the first segment has CWR set, the others must not */
	enum net_gso gso; /* one large TCP segment, to be cut into gso_size bytes of payload */
	u16 gso_size, hdr_len, csum_start, csum_offset;
};

struct net_frame {
	const struct iovec *iov; /* from the destination address on, without FCS */
	unsigned n;
	size_t len; /* bytes in all pieces */
	struct net_offload o;
};

/*
 * Whether the frame has a sane length and its offload fields point into it. 0, or -EINVAL: to be
 * dropped. What passes is safe to give to all functions below.
 */
int net_frame_check(const struct net_frame *f) attr_nodiscard;

/*
 * The one's complement sum of bytes, as network-order 16-bit words, folded to 16 bits in the
 * machine's own order, continuing @sum. An odd last byte is padded by zero.
 */
u32 net_sum(const void *p, size_t len, u32 sum);

/* Fills in the checksum of a frame in one piece if it is partial. Checked before. */
void net_frame_fill(u8 *frame, size_t len, const struct net_offload *o);

/*
 * Makes plain frames, with complete checksums, of the one at @frame (@len bytes in one piece,
 * checked before; it is changed): as many as its gso_size asks for, or one. @emit gets each; it
 * borrows. With @whole a TCP segment over IPv4 is not cut, but finished as one large one.
 */
void net_frame_finish(u8 *frame, size_t len, const struct net_offload *o, bool whole,
		      void (*emit)(void *opaque, u8 *frame, size_t len), void *opaque);

/* The parts of a frame that a filter and a flow hash look at. */
#define NET_PEEK 96u			/* how much of the frame's start is enough */
bool net_is_group(const u8 *frame);	/* to several stations */
bool net_is_broadcast(const u8 *frame); /* to all */
/* Its VLAN, or -1 if it is not tagged. @len: bytes at @head. */
int net_vlan(const u8 *head, size_t len);
/* A hash of the flow, the same in both directions; 0 for what is not IP. */
u32 net_flow(const u8 *head, size_t len);

#endif
