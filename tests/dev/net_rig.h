/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_rig.h - a driver of the network device in a test, and the other end of its cable
 *
 * One end is the driver of tests/virtio, the other a back end that remembers what was sent, may
 * refuse it, and brings frames when told to; or the real echo.
 */
#ifndef ORR_TESTS_DEV_NET_RIG_H
#define ORR_TESTS_DEV_NET_RIG_H

#include "dev/virtio_net.h"

#include "../virtio/driver.h"

#include <linux/virtio_net.h>

#define RX 0u
#define TX 1u
#define CTRL 2u
#define HDR 12u
#define ALL UINT64_MAX
#define KEPT 64u

extern const u8 own_mac[6], other_mac[6];
extern const struct virtio_net_hdr_v1 no_hdr;

struct wire {
	struct net n;
	bool refuse;
	unsigned sent, batches, rooms, starts, stops, takes;
	struct net_offload o[KEPT];
	u8 data[KEPT][2048];
	size_t len[KEPT];
};

struct rig {
	struct vdrv d;
	struct wire w;
	struct net *loop; /* owned; instead of @w */
	struct virtio_net_stats stats;
	u16 hdr_num;
};

/* @net NULL: the back end that remembers; else it is taken. Not started. */
struct rig *net_rig_new(struct net *net, unsigned pairs);
/* One that runs, with a pair and 64 entries a queue. */
struct rig *net_up(u64 features);
void net_down(struct rig *r);

/* A buffer of @len bytes for receiving. */
gpa_t net_give(struct rig *r, unsigned q, u32 len);
void net_send(struct rig *r, unsigned q, const struct virtio_net_hdr_v1 *h, const void *frame,
	      u32 len);
/* Writes an Ethernet header to @f, from other_mac. */
void net_ether(u8 *f, const u8 *dst, u32 type);
/* The back end brings a frame. */
int net_bring(struct rig *r, const void *data, size_t len, const struct net_offload *o);
struct virtio_net_hdr_v1 net_hdr_at(struct rig *r, gpa_t gpa);
/* A command by queue @q; returns the device's answer. */
int net_command(struct rig *r, unsigned q, u8 class, u8 cmd, const void *data, u32 len);

#endif
