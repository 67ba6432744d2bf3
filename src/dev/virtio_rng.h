/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_rng.h - entropy device (virtio 1.2, 5.4)
 */
#ifndef ORR_DEV_VIRTIO_RNG_H
#define ORR_DEV_VIRTIO_RNG_H

#include "virtio/vdev.h"

/* Random bytes of the host, or under the virtual clock a function of @env->seed. 0 or -ENOMEM. */
int virtio_rng_new(const struct vdev_env *env, struct vdev **ret);

#endif
