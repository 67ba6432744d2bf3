/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_vsock.h - socket device (virtio 1.2, 5.10): stream connections between guest and host
 *
 * Both ends of a connection are ordinary stream sockets. The guest's is one of AF_VSOCK; the
 * host's is a descriptor that somebody gave the device: one end of a socketpair or a Unix socket.
 * Everything here belongs to the VM's thread; another thread passes through the gate.
 */
#ifndef ORR_DEV_VIRTIO_VSOCK_H
#define ORR_DEV_VIRTIO_VSOCK_H

#include "virtio/vdev.h"

/* Context identifiers (5.10.4): 0, 1 and 2 (the host's) and 2^32 - 1 are not for guests. */
#define VSOCK_CID_HOST 2u
#define VSOCK_CID_GUEST_MIN 3u
#define VSOCK_CID_GUEST_MAX 0xfffffffeu

#define VSOCK_CONNS_MAX 4096u /* of one device; more are refused */

struct virtio_vsock;

struct virtio_vsock_cfg {
	u32 cid; /* VSOCK_CID_GUEST_MIN to _MAX */
	/*
	 * The guest asks for a connection to port @port of the host: a connected stream descriptor
	 * (taken by the device, which makes it non-blocking), or a negative errno: the guest is
	 * refused. Must not block. NULL: all are refused.
	 */
	int (*open)(void *opaque, u32 port);
	void *opaque;
};

/*
 * @env->gate may be NULL: then every connection is refused. 0, -EINVAL for a bad CID, -ENOMEM.
 * *ret_vsock is valid as long as *ret is.
 */
int virtio_vsock_new(const struct virtio_vsock_cfg *cfg, const struct vdev_env *env,
		     struct virtio_vsock **ret_vsock, struct vdev **ret);

struct vsock_conn;

/* A connection that the host asked for, until the guest has answered. Embedded by the caller. */
struct vsock_call {
	/*
	 * The guest's answer, once: 0, or -ECONNREFUSED; or -ECONNRESET if the device is freed. May
	 * be called before virtio_vsock_call returns only if that fails. NULL: nobody wants to know.
	 */
	void (*answered)(struct vsock_call *c, int r);
	struct vsock_conn *conn; /* the device's own; NULL when answered */
};

/*
 * Connects @fd (a stream descriptor; taken, also on failure) with port @port of the guest. The
 * other end of @fd can be used at once: what is written to it waits, also for a guest whose driver
 * does not run yet. @call may be NULL. 0; -EMFILE: too many connections; -ENOMEM; -ENOTSUP without
 * a gate; or the negative errno of epoll_ctl(2).
 */
int virtio_vsock_call(struct virtio_vsock *d, u32 port, int fd, struct vsock_call *call);
/* Nobody waits for the answer any more: the connection is given up. @call->answered is not called. */
void virtio_vsock_hang_up(struct vsock_call *call);

/*
 * The guest's connections are gone, as after its migration or a restored snapshot: they are closed
 * towards the host, and the guest is told by VIRTIO_VSOCK_EVENT_TRANSPORT_RESET (5.10.6.7).
 */
void virtio_vsock_transport_reset(struct virtio_vsock *d);

struct virtio_vsock_stats {
	u64 conns;		   /* under way now */
	u64 opened, refused;	   /* connections, by either side */
	u64 rx_packets, rx_bytes;  /* to the guest */
	u64 tx_packets, tx_bytes;  /* from the guest */
	u64 resets;		   /* RST sent */
	u64 credit_asked, stalled; /* CREDIT_REQUEST sent; times that data waited for credit */
	u64 strays;		   /* packets with a wrong source address, dropped */
};
const struct virtio_vsock_stats *virtio_vsock_stats(const struct virtio_vsock *d);

#endif
