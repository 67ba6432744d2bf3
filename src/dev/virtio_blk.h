/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_blk.h - block device (virtio 1.2, 5.2)
 */
#ifndef ORR_DEV_VIRTIO_BLK_H
#define ORR_DEV_VIRTIO_BLK_H

#include "host/disk.h"
#include "host/throttle.h"
#include "virtio/vdev.h"

#define VIRTIO_BLK_SERIAL_LEN 20u

/* Requests by kind, and what became of them. */
struct virtio_blk_stats {
	u64 reads, writes, flushes, discards, zeroes, ids;
	u64 read_bytes, written_bytes;
	u64 delayed; /* by the throttle */
	u64 refused; /* the driver's fault: a range that is not on the disk, and the like */
	u64 failed;  /* the host's fault */
};

struct virtio_blk_cfg {
	struct disk *disk; /* borrowed; outlives the device */
	unsigned queues;   /* 1..VDEV_QUEUES_MAX */
	char serial[VIRTIO_BLK_SERIAL_LEN + 1];
	struct throttle iops, bps;	/* checked */
	struct virtio_blk_stats *stats; /* borrowed, counted up; may be NULL */
	/* The host could not do @what at byte @off: the guest has got an I/O error. May be NULL. */
	void (*failed)(void *opaque, const char *what, u64 off, int err);
	void *opaque;
};

/* 0, -EINVAL or -ENOMEM. */
int virtio_blk_new(const struct vdev_env *env, const struct virtio_blk_cfg *cfg, struct vdev **ret);

#endif
