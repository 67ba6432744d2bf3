/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_balloon.h - memory balloon (virtio 1.2, 5.5)
 */
#ifndef ORR_DEV_VIRTIO_BALLOON_H
#define ORR_DEV_VIRTIO_BALLOON_H

#include "virtio/vdev.h"

#define BALLOON_PAGE 4096u
#define BALLOON_STATS 16u /* tags that are kept (5.5.6.4) */

struct virtio_balloon;

struct virtio_balloon_cfg {
	u32 target;  /* pages that the guest is to give back at first */
	bool report; /* VIRTIO_BALLOON_F_REPORTING: the guest tells of free pages by itself */
	u64 poll_ns; /* how often the guest is asked for statistics, in guest time; 0: never */
};

struct virtio_balloon_info {
	u32 target, actual;	 /* pages to be in the balloon; as the driver counts them */
	u64 inflated, deflated;	 /* pages since power-on */
	u64 reported;		 /* bytes of free pages */
	u64 bad;		 /* pages that are not RAM: skipped */
	u64 asked;		 /* times that statistics came */
	u64 stat[BALLOON_STATS]; /* by tag; UINT64_MAX: never given */
};

/* 0, -EINVAL, -ENOMEM. The device lives as long as *ret_vdev. */
int virtio_balloon_new(const struct vdev_env *env, const struct virtio_balloon_cfg *cfg,
		       struct virtio_balloon **ret, struct vdev **ret_vdev);
/* On the VM's thread: the driver is to have @pages in the balloon. */
void virtio_balloon_target(struct virtio_balloon *b, u32 pages);
void virtio_balloon_info(const struct virtio_balloon *b, struct virtio_balloon_info *ret);

#endif
