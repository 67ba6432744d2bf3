/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_vsock_priv.h - what the two files of the socket device share
 *
 * virtio_vsock_conn.c holds connections: the host's descriptor, buffers, credit, what is to be told
 * the guest. virtio_vsock.c holds queues and packets. See the latter for how it works.
 */
#ifndef ORR_DEV_VIRTIO_VSOCK_PRIV_H
#define ORR_DEV_VIRTIO_VSOCK_PRIV_H

#include "base/gate.h"
#include "dev/virtio_vsock.h"

#include <linux/virtio_vsock.h>
#include <sys/queue.h>

/* What we promise to keep of a connection whose reader on the host is slow. */
#define VSOCK_BUF (128u << 10)
#define VSOCK_BUCKETS 1024u /* a power of two */
/* RSTs for connections that do not exist; while they fill the list the guest is not listened to. */
#define VSOCK_STRAY_RESETS 256u

enum vsock_state {
	VSOCK_WANTED,  /* the host asks; REQUEST has not been sent */
	VSOCK_ASKED,   /* REQUEST was sent; the guest has not answered */
	VSOCK_OPEN,    /* data flows */
	VSOCK_DYING,   /* RST waits to be sent; everything else is ignored */
	VSOCK_FLUSHED, /* over for the guest; what it sent last is still written to the host */
};

/* What is to be sent to the guest, in this order; bits of vsock_conn.pending. */
enum {
	VSOCK_SEND_RST = 1,
	VSOCK_SEND_REQUEST = 2,
	VSOCK_SEND_RESPONSE = 4,
	VSOCK_SEND_CREDIT = 8,
	VSOCK_ASK_CREDIT = 16,
	VSOCK_SEND_SHUTDOWN = 32, /* behind all data */
};

struct vsock_conn {
	struct virtio_vsock *d;
	TAILQ_ENTRY(vsock_conn) all, ready;
	struct vsock_conn *same; /* bucket */
	bool is_ready;		 /* in the list of those that have something to send */
	bool hashed;
	enum vsock_state state;
	u32 host_port, guest_port;
	struct vsock_call *call;

	u8 pending;
	u8 guest_shut; /* VIRTIO_VSOCK_SHUTDOWN_* that the guest has sent: it will not ... */
	u8 host_shut;  /* ... and that the host's end is to tell, or has told */

	/* From the host to the guest. */
	bool readable; /* there may be data, or the end of it, in @fd */
	bool eof;      /* there will be no more */
	bool asked;    /* for credit, since there last was some */
	u32 sent;      /* bytes, modulo 2^32 as all of these counts (5.10.6.3) */
	u32 peer_alloc, peer_fwd;

	/* From the guest to the host. */
	bool deaf; /* the host's end takes nothing any more: what comes is dropped */
	u32 received, forwarded;
	u32 told; /* @forwarded when the guest last heard of it */
	u8 *buf;  /* a ring of VSOCK_BUF bytes, once there was something to keep */
	u32 buf_at, buf_len;

	int fd; /* non-blocking; -1: closed */
	bool hung_up;
	struct gate_watch watch;
};

TAILQ_HEAD(vsock_list, vsock_conn);

/* Guest-visible; saved. */
struct vsock_st {
	struct virtio_vsock_config config;
	u32 open;	 /* connections that the guest knows of */
	u32 next_port;	 /* for the next connection of the host */
	u32 event;	 /* a transport reset waits for a buffer */
	u32 have_strays; /* entries of @strays, a ring */
	u32 stray_at;	 /* the first */
	u32 zero;
	struct vsock_stray {
		u64 from_cid; /* whose address the guest used for us */
		u32 host_port, guest_port;
		u32 type;
		u32 zero;
	} strays[VSOCK_STRAY_RESETS];
};

struct virtio_vsock {
	struct virtio_vsock_cfg cfg;
	struct vdev *v;
	struct gate *gate;
	struct vsock_st st;
	struct virtio_vsock_stats stat;
	bool paused;
	bool held;    /* the gate */
	bool stalled; /* the guest may have packets that have not been looked at */
	bool busy;    /* in vsock_service: what becomes ready will be seen to */
	struct vsock_list conns, ready;
	struct vsock_conn *bucket[VSOCK_BUCKETS];
};

struct vsock_conn *vsock_find(struct virtio_vsock *d, u32 host_port, u32 guest_port);
/* Takes @fd, also on failure. 0, -EMFILE, -ENOMEM, -ENOTSUP, or of epoll_ctl(2). */
int vsock_conn_new(struct virtio_vsock *d, u32 host_port, u32 guest_port, int fd,
		   enum vsock_state state, struct vsock_conn **ret);
/* Closes and frees, whatever its state; nothing is sent. */
void vsock_conn_free(struct vsock_conn *c);
/* The guest's side is over: frees it as soon as the host has what the guest sent. */
void vsock_conn_finish(struct vsock_conn *c);
/* Ends it by an RST to the guest. */
void vsock_conn_abort(struct vsock_conn *c);
/* The guest's answer to a REQUEST. */
void vsock_conn_answer(struct vsock_conn *c, int r);

/* Whether there is anything to send to the guest, and the list of those that have. */
bool vsock_conn_has_work(const struct vsock_conn *c);
void vsock_conn_ready(struct vsock_conn *c);
void vsock_conn_unready(struct vsock_conn *c);
/* Waits for what is of interest now: call it after every change. */
void vsock_conn_watch(struct vsock_conn *c);

/* Bytes that the guest has room for. */
u32 vsock_conn_credit(const struct vsock_conn *c);
/* Takes the guest's counters from a packet. */
void vsock_conn_credited(struct vsock_conn *c, u32 alloc, u32 fwd);
/* The header's fields that say how much room there is on our side. */
void vsock_conn_tell(struct vsock_conn *c, struct virtio_vsock_hdr *h);

/* @len bytes from the guest, at @off of @iov. Checked by the caller against vsock_conn_room. */
void vsock_conn_deliver(struct vsock_conn *c, const struct iovec *iov, unsigned n, size_t off,
			u32 len);
u32 vsock_conn_room(const struct vsock_conn *c);
/*
 * Reads up to @len bytes into @iov at @off. How many; 0: nothing now, or the end, which has been
 * noted.
 */
u32 vsock_conn_read(struct vsock_conn *c, const struct iovec *iov, unsigned n, size_t off, u32 len);
/* The guest sent SHUTDOWN. */
void vsock_conn_shut(struct vsock_conn *c, u32 flags);

/* virtio_vsock.c: moves packets both ways while there is something to move and room for it. */
void vsock_service(struct virtio_vsock *d);

#endif
