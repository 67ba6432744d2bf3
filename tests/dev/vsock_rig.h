/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_rig.h - a driver of the socket device in a test, packet by packet, and the host's sockets
 */
#ifndef ORR_TESTS_DEV_VSOCK_RIG_H
#define ORR_TESTS_DEV_VSOCK_RIG_H

#include "base/gate.h"
#include "dev/virtio_vsock.h"

#include "../virtio/driver.h"

#include <linux/virtio_vsock.h>

#define RIG_CID 7u
#define RIG_QUEUE 256u
#define RIG_BUF 4096u	/* of a receive buffer */
#define RIG_TX 0x20000u /* room for a packet to send */

enum {
	OP_REQUEST = VIRTIO_VSOCK_OP_REQUEST,
	OP_RESPONSE = VIRTIO_VSOCK_OP_RESPONSE,
	OP_RST = VIRTIO_VSOCK_OP_RST,
	OP_SHUTDOWN = VIRTIO_VSOCK_OP_SHUTDOWN,
	OP_RW = VIRTIO_VSOCK_OP_RW,
	OP_UPDATE = VIRTIO_VSOCK_OP_CREDIT_UPDATE,
	OP_ASK = VIRTIO_VSOCK_OP_CREDIT_REQUEST,
};

struct rig {
	struct vdrv d;
	struct gate *g;
	struct virtio_vsock *s;
	gpa_t rx[RIG_QUEUE]; /* buffer of each descriptor */
	gpa_t heap, tx;
	u16 rx_next;
	unsigned asked; /* how often the guest asked for a port of the host */
	u32 port;	/* which */
	int give;	/* what it gets: a descriptor or a negative errno */
};

/* The guest's side of one connection. */
struct peer {
	u32 host_port, guest_port;
	u32 alloc, fwd; /* what it says in its packets */
};

struct packet {
	struct virtio_vsock_hdr h;
	u8 data[RIG_BUF];
};

/* A device that runs, without receive buffers. */
void rig_up(struct rig *r);
/* The same before the driver has come. */
void rig_cold(struct rig *r);
void rig_start(struct rig *r);
void rig_down(struct rig *r);

/* Adds @n receive buffers of @size and tells the device. */
void rig_give(struct rig *r, unsigned n, u32 size);
/* The next packet for the guest. False: none. */
bool rig_take(struct rig *r, struct packet *ret);
/* One that must be @op. */
void rig_expect(struct rig *r, unsigned op, struct packet *ret);
/* Sends a packet. @data may be NULL. */
void rig_send(struct rig *r, const struct peer *p, unsigned op, u32 flags, const void *data,
	      u32 len);
/* Sends any header with @len bytes behind it, in pieces of @piece bytes. */
void rig_send_raw(struct rig *r, const struct virtio_vsock_hdr *h, const void *data, u32 len,
		  u32 piece);
/* What the host's descriptors have to say, until nothing is left. */
void rig_host(struct rig *r);

/* The host connects with @port; returns its end. @p: the guest's, which has not answered. */
int rig_call(struct rig *r, u32 port, struct vsock_call *call, struct peer *p);
/* And the guest accepts, with room for @alloc bytes. */
int rig_connect(struct rig *r, u32 port, u32 alloc, struct peer *p);
/* Reads @len bytes from the host's end without waiting; fails if there are fewer. */
void rig_read(int fd, void *buf, size_t len);
/* Whether the host's end has reached its end. */
bool rig_eof(int fd);
bool rig_empty(int fd); /* nothing to read now, and no end */

#endif
