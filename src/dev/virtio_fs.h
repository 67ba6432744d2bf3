/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_fs.h - file system device (virtio 1.2, 5.11)
 */
#ifndef ORR_DEV_VIRTIO_FS_H
#define ORR_DEV_VIRTIO_FS_H

#include "host/fuse.h"
#include "virtio/vdev.h"

#define VIRTIO_FS_TAG_MAX 36u

/*
 * @tag: at most VIRTIO_FS_TAG_MAX bytes. @server: borrowed; reset by a reset of the device. It was
 * made with @env->window, and with cfg.exact if @env->exact. 0, -EINVAL, -ENOMEM.
 */
int virtio_fs_new(const struct vdev_env *env, const char *tag, struct fuse *server,
		  struct vdev **ret);

#endif
