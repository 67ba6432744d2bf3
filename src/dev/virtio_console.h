/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_console.h - console device (virtio 1.2, 5.3): one console, or several named ports
 */
#ifndef ORR_DEV_VIRTIO_CONSOLE_H
#define ORR_DEV_VIRTIO_CONSOLE_H

#include "virtio/vdev.h"

#define VIRTIO_CONSOLE_PORTS_MAX 16u
#define VIRTIO_CONSOLE_NAME_MAX 64u

struct virtio_console;

/* All on the VM's thread. Must not free the device. */
struct virtio_console_ops {
	/* The guest wrote. Bytes are valid during the call, which may wait: that is flow control. */
	void (*tx)(void *opaque, unsigned port, const u8 *bytes, size_t n);
	/*
	 * That was all for now, or for 50 us of guest time: what was gathered may be passed on.
	 * Follows every tx, some time later. NULL: nobody gathers.
	 */
	void (*tx_over)(void *opaque, unsigned port);
	/* virtio_console_rx may take more than before. */
	void (*rx_space)(void *opaque, unsigned port);
};

struct virtio_console_cfg {
	/*
	 * Names of ports, NULL-terminated, each shorter than VIRTIO_CONSOLE_NAME_MAX: the device
	 * has MULTIPORT, and ports that are byte streams. NULL: it is one console (hvc0), port 0,
	 * without MULTIPORT.
	 */
	const char *const *ports;
	u16 rows, cols; /* of the console; 0: unknown */
	const struct virtio_console_ops *ops;
	void *opaque;
};

/* The names are borrowed. 0, -EINVAL, -ENOMEM. The device lives as long as *ret_vdev. */
int virtio_console_new(const struct vdev_env *env, const struct virtio_console_cfg *cfg,
		       struct virtio_console **ret, struct vdev **ret_vdev);

/*
 * Gives bytes to the guest; returns how many it had room for. None to a port that it has not
 * opened: its driver would throw them away (5.3.6).
 */
size_t virtio_console_rx(struct virtio_console *c, unsigned port, const u8 *bytes, size_t n);
/* Whether the guest has @port open; a console without MULTIPORT is when its driver runs. */
bool virtio_console_open(const struct virtio_console *c, unsigned port);
/* The host's end of a named port is there (as after reset), or gone: reads in the guest end. */
void virtio_console_connect(struct virtio_console *c, unsigned port, bool there);
/* The console's size changed. */
void virtio_console_resize(struct virtio_console *c, u16 rows, u16 cols);

struct virtio_console_stats {
	u64 tx, rx; /* bytes of all ports */
};
struct virtio_console_stats virtio_console_stats(const struct virtio_console *c);

#endif
