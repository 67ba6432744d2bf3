/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_net.h - network device (virtio 1.2, 5.1)
 */
#ifndef ORR_DEV_VIRTIO_NET_H
#define ORR_DEV_VIRTIO_NET_H

#include "host/net.h"
#include "virtio/vdev.h"

#define VIRTIO_NET_PAIRS_MAX 8u
#define VIRTIO_NET_MTU_MIN 576u	  /* RFC 791 */
#define VIRTIO_NET_MTU_MAX 65520u /* the largest multiple of 4 below 64 KiB less a header */

/* What passed, from the guest's side. Refused and filtered frames are dropped ones. */
struct virtio_net_stats {
	u64 tx_frames, tx_bytes, tx_dropped;
	u64 rx_frames, rx_bytes, rx_dropped;
};

struct virtio_net_cfg {
	struct net *net; /* borrowed; outlives the device */
	u8 mac[6];
	u16 mtu;
	unsigned pairs;			/* of queues, 1..VIRTIO_NET_PAIRS_MAX */
	struct virtio_net_stats *stats; /* counted into; outlives the device; not NULL */
};

/* 0, -EINVAL, -ENOMEM, or what attaching the back end returned. */
int virtio_net_new(const struct virtio_net_cfg *cfg, const struct vdev_env *env, struct vdev **ret);

#endif
