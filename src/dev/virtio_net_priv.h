/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_net_priv.h - the network device's own struct, shared by its two files
 */
#ifndef ORR_DEV_VIRTIO_NET_PRIV_H
#define ORR_DEV_VIRTIO_NET_PRIV_H

#include "dev/virtio_net.h"

#include <linux/virtio_net.h>

#define NET_MACS_MAX 64u
#define NET_STEER 256u

/* Of struct virtio_net_config, what we have: 5.1.4. */
struct net_config {
	u8 mac[6];
	u16 status, max_pairs, mtu;
} attr_packed;

struct net_st {
	struct net_config config;
	u16 pairs;    /* in use: 5.1.6.5.5 */
	u64 offloads; /* which the driver takes now: 5.1.6.5.6 */
	/* The receive filter: 5.1.6.5.1 to .3. */
	u8 promisc, allmulti, alluni, nomulti, nouni, nobcast;
	u8 many_uni, many_multi; /* more addresses than fit: all of that kind pass */
	u16 n_uni, n_multi;
	u8 uni[NET_MACS_MAX][6], multi[NET_MACS_MAX][6];
	u8 vlan[4096 / 8];
	u8 steer[NET_STEER]; /* flow hash -> pair + 1; 0: unknown */
};

struct virtio_net {
	struct vdev *v;
	struct virtio_net_cfg cfg;
	struct net_st st;
	bool started, paused;
	bool missed;			   /* something had to wait because of the pause */
	bool short_of_buffers;		   /* the back end waits for some */
	u8 rx_dirty[VIRTIO_NET_PAIRS_MAX]; /* buffers pushed and not yet notified of */
};

/* The control queue has something. */
void virtio_net_control(struct virtio_net *n, struct vq *q);
/* Initial filter and offloads, for reset. */
void virtio_net_filter_reset(struct virtio_net *n);
/* Whether a frame, of which @head has @len bytes, is one for the driver. */
bool virtio_net_wants(const struct virtio_net *n, const u8 *head, size_t len);
/* The driver takes other offloads, or begins: tells the back end. */
void virtio_net_takes(struct virtio_net *n);

#endif
