// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_vsock.c - socket device (virtio 1.2, 5.10): queues and packets
 *
 * How it works
 * Three queues: packets to the guest (0, rx), packets from it (1, tx), events to it (2). A packet
 * is a header of 44 bytes and up to 64 KiB of data; both may lie across any number of descriptors.
 *
 * Packets from the guest are acted on at once, in order. What they need said in return is not a
 * queue of packets but bits and counters of a connection (virtio_vsock_conn.c), so it needs no
 * bound. The exception are RSTs for connections that do not exist: they wait in a list, and while
 * it is full nothing more is taken from the guest (5.10.6.1.2).
 *
 * Packets to the guest are made when there is a buffer for them, one connection after the other,
 * a packet each: one that has much to say, or a reader that is slow, does not hold up the others.
 * Data is read from the host's descriptor directly into the guest's buffer. All that can go goes
 * before the guest is interrupted, once.
 *
 * A packet that is shorter than its header, or longer than its buffers, breaks the device. One that
 * makes no sense for its connection ends the connection with an RST.
 *
 * There is no latency model: what comes through this device comes from outside the machine, so a
 * run that uses it is not a function of the guest alone. One that has it and does not use it is.
 * The gate is held as long as the device exists: a connection may come at any time.
 *
 * Connections are not part of the saved state, for their other halves are elsewhere. A restored
 * guest that had any is told that they are gone (5.10.6.7).
 */
#include "dev/virtio_vsock.h"

#include "dev/virtio_vsock_priv.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define Q_RX 0u
#define Q_TX 1u
#define Q_EVENT 2u
#define QUEUES 3u

#define F_STREAM 0 /* 5.10.3: VIRTIO_VSOCK_F_STREAM; older headers lack it */
#define HEAD ((u32)sizeof(struct virtio_vsock_hdr))
#define PACKET_MAX 65536u
#define PORT_FIRST 0x40000000u /* of the host's ends; far from ports that somebody listens on */

_Static_assert(sizeof(struct virtio_vsock_hdr) == 44, "virtio 1.2, 5.10.6");

static const struct field_desc fields[] = {
	DEV_FIELD(struct vsock_st, config),	 DEV_FIELD(struct vsock_st, open),
	DEV_FIELD(struct vsock_st, next_port),	 DEV_FIELD(struct vsock_st, event),
	DEV_FIELD(struct vsock_st, have_strays), DEV_FIELD(struct vsock_st, stray_at),
	DEV_FIELD(struct vsock_st, strays),	 DEV_FIELDS_END,
};

/* --- to the guest ----------------------------------------------------------------------------- */

static struct virtio_vsock_hdr header(const struct vsock_conn *c, u16 op)
{
	return (struct virtio_vsock_hdr){ .src_cid = VSOCK_CID_HOST,
					  .dst_cid = c->d->cfg.cid,
					  .src_port = c->host_port,
					  .dst_port = c->guest_port,
					  .type = VIRTIO_VSOCK_TYPE_STREAM,
					  .op = op };
}

static struct virtio_vsock_hdr stray_packet(struct virtio_vsock *d)
{
	const struct vsock_stray *s = &d->st.strays[d->st.stray_at];

	d->st.stray_at = (d->st.stray_at + 1) % VSOCK_STRAY_RESETS;
	d->st.have_strays--;
	d->stat.resets++;
	return (struct virtio_vsock_hdr){ .src_cid = s->from_cid,
					  .dst_cid = d->cfg.cid,
					  .src_port = s->host_port,
					  .dst_port = s->guest_port,
					  .type = (u16)s->type,
					  .op = VIRTIO_VSOCK_OP_RST };
}

/* An RST for a connection that does not exist. There is room: see take_packets. */
static void add_stray(struct virtio_vsock *d, const struct virtio_vsock_hdr *h)
{
	u32 at = (d->st.stray_at + d->st.have_strays++) % VSOCK_STRAY_RESETS;

	d->st.strays[at] = (struct vsock_stray){ .from_cid = h->dst_cid,
						 .host_port = h->dst_port,
						 .guest_port = h->src_port,
						 .type = h->type };
}

static void take_pending(struct vsock_conn *c, u8 bit, u16 op, struct virtio_vsock_hdr *h)
{
	c->pending &= (u8)~bit;
	*h = header(c, op);
	if (op != VIRTIO_VSOCK_OP_RST)
		vsock_conn_tell(c, h);
}

/* A packet without data, if one is due. */
static bool control_packet(struct vsock_conn *c, struct virtio_vsock_hdr *h)
{
	if (c->pending & VSOCK_SEND_RST) {
		take_pending(c, VSOCK_SEND_RST, VIRTIO_VSOCK_OP_RST, h);
		c->d->stat.resets++;
		vsock_conn_free(c);
	} else if (c->pending & VSOCK_SEND_REQUEST) {
		take_pending(c, VSOCK_SEND_REQUEST, VIRTIO_VSOCK_OP_REQUEST, h);
		c->state = VSOCK_ASKED;
	} else if (c->pending & VSOCK_SEND_RESPONSE) {
		take_pending(c, VSOCK_SEND_RESPONSE, VIRTIO_VSOCK_OP_RESPONSE, h);
	} else if (c->pending & VSOCK_SEND_SHUTDOWN) {
		take_pending(c, VSOCK_SEND_SHUTDOWN, VIRTIO_VSOCK_OP_SHUTDOWN, h);
		h->flags = c->host_shut;
	} else if (c->pending & VSOCK_ASK_CREDIT) {
		take_pending(c, VSOCK_ASK_CREDIT, VIRTIO_VSOCK_OP_CREDIT_REQUEST, h);
		c->d->stat.credit_asked++;
	} else {
		return false;
	}
	return true;
}

/* Data, if there is some and the guest has room; else news of our room, if it is due. */
static bool data_packet(struct vsock_conn *c, struct vq_chain *chain, struct virtio_vsock_hdr *h)
{
	u32 max = MIN(chain->in_len - HEAD, PACKET_MAX), credit = vsock_conn_credit(c), n;

	if (c->state == VSOCK_OPEN && c->readable && credit) {
		n = vsock_conn_read(c, chain->in, chain->n_in, HEAD, MIN(max, credit));
		if (n) {
			*h = header(c, VIRTIO_VSOCK_OP_RW);
			h->len = n;
			vsock_conn_tell(c, h);
			c->d->stat.rx_bytes += n;
			return true;
		}
		if (control_packet(c, h)) /* it was the end */
			return true;
	}
	if (c->pending & VSOCK_SEND_CREDIT) {
		take_pending(c, VSOCK_SEND_CREDIT, VIRTIO_VSOCK_OP_CREDIT_UPDATE, h);
		return true;
	}
	return false;
}

/* The next packet for @chain. False: there was none after all. */
static bool next_packet(struct virtio_vsock *d, struct vq_chain *chain, struct virtio_vsock_hdr *h)
{
	struct vsock_conn *c;
	bool dying;

	if (d->st.have_strays) {
		*h = stray_packet(d);
		return true;
	}
	c = TAILQ_FIRST(&d->ready);
	dying = c->pending & VSOCK_SEND_RST;
	if (control_packet(c, h)) {
		if (dying)
			return true; /* and it is freed */
	} else if (!data_packet(c, chain, h)) {
		vsock_conn_unready(c);
		return false;
	}
	/* To the end of the list, or out of it. */
	vsock_conn_unready(c);
	vsock_conn_ready(c);
	vsock_conn_watch(c);
	return true;
}

static void give_packets(struct virtio_vsock *d)
{
	struct vq *q = vdev_queue(d->v, Q_RX);
	struct virtio_vsock_hdr h;
	struct vq_chain *chain;

	/* Each round uses up a buffer, or takes a connection from the list. */
	while ((d->st.have_strays || !TAILQ_EMPTY(&d->ready)) && vq_pop(q, &chain) > 0) {
		if (chain->in_len <= HEAD) {
			vq_push(q, chain, 0);
			vdev_break(d->v, "a receive buffer that has no room for data");
			return;
		}
		if (!next_packet(d, chain, &h)) {
			vq_unpop(q, chain);
			continue;
		}
		iov_write(chain->in, chain->n_in, 0, &h, HEAD);
		vq_push(q, chain, HEAD + h.len);
		d->stat.rx_packets++;
	}
	vq_notify(q);
}

static void give_event(struct virtio_vsock *d)
{
	const struct virtio_vsock_event ev = { .id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET };
	struct vq *q = vdev_queue(d->v, Q_EVENT);
	struct vq_chain *chain;

	if (!d->st.event || !vdev_started(d->v) || vq_pop(q, &chain) <= 0)
		return;
	if (vq_chain_write(chain, 0, &ev, sizeof(ev)) < 0) {
		vq_push(q, chain, 0);
		vdev_break(d->v, "an event buffer that is too small");
		return;
	}
	d->st.event = 0;
	vq_push(q, chain, sizeof(ev));
	vq_notify(q);
}

/* --- from the guest --------------------------------------------------------------------------- */

/* The guest asks for a connection with port @h->dst_port of the host. */
static void on_request(struct virtio_vsock *d, const struct virtio_vsock_hdr *h)
{
	int fd = d->cfg.open && d->gate ? d->cfg.open(d->cfg.opaque, h->dst_port) : -ECONNREFUSED;
	struct vsock_conn *c;

	if (fd < 0 || vsock_conn_new(d, h->dst_port, h->src_port, fd, VSOCK_OPEN, &c) < 0) {
		d->stat.refused++;
		add_stray(d, h);
		return;
	}
	d->stat.opened++;
	vsock_conn_credited(c, h->buf_alloc, 0);
	c->pending |= VSOCK_SEND_RESPONSE;
	vsock_conn_ready(c);
}

static void on_response(struct vsock_conn *c)
{
	if (c->state != VSOCK_ASKED) {
		vsock_conn_abort(c);
		return;
	}
	c->state = VSOCK_OPEN;
	c->d->stat.opened++;
	vsock_conn_watch(c);
	vsock_conn_answer(c, 0);
}

/* No RST is answered by another. */
static void on_reset(struct vsock_conn *c)
{
	if (c->state == VSOCK_OPEN) {
		vsock_conn_finish(c);
		return;
	}
	if (c->state == VSOCK_ASKED)
		c->d->stat.refused++;
	vsock_conn_answer(c, -ECONNREFUSED);
	vsock_conn_free(c);
}

static void on_data(struct vsock_conn *c, const struct virtio_vsock_hdr *h, struct vq_chain *chain)
{
	if ((c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND) || h->len > vsock_conn_room(c)) {
		vsock_conn_abort(c);
		return;
	}
	c->d->stat.tx_bytes += h->len;
	vsock_conn_deliver(c, chain->out, chain->n_out, HEAD, h->len);
}

static void on_shutdown(struct vsock_conn *c, const struct virtio_vsock_hdr *h)
{
	const u8 both = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND;

	vsock_conn_shut(c, h->flags);
	if (c->guest_shut != both)
		return;
	/* 5.10.6.5: the guest waits for this before it uses its port again. */
	add_stray(c->d, h);
	vsock_conn_finish(c);
}

static void on_packet_of(struct vsock_conn *c, const struct virtio_vsock_hdr *h,
			 struct vq_chain *chain)
{
	if (h->op == VIRTIO_VSOCK_OP_RST) {
		on_reset(c);
		return;
	}
	if (c->state == VSOCK_DYING)
		return;
	if (h->op != VIRTIO_VSOCK_OP_RESPONSE && c->state != VSOCK_OPEN) {
		vsock_conn_abort(c);
		return;
	}
	vsock_conn_credited(c, h->buf_alloc, h->fwd_cnt);
	switch (h->op) {
	case VIRTIO_VSOCK_OP_RESPONSE:
		on_response(c);
		return; /* @c may be gone */
	case VIRTIO_VSOCK_OP_RW:
		on_data(c, h, chain);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		on_shutdown(c, h);
		return;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		c->pending |= VSOCK_SEND_CREDIT;
		break;
	default: /* a second REQUEST, or an unknown operation */
		vsock_conn_abort(c);
		return;
	}
	vsock_conn_ready(c);
}

static void on_packet(struct virtio_vsock *d, struct vq_chain *chain)
{
	struct virtio_vsock_hdr h;
	struct vsock_conn *c = NULL;

	if (vq_chain_read(chain, 0, &h, HEAD) < 0) {
		vdev_break(d->v, "a packet shorter than its header");
		return;
	}
	if (h.len > chain->out_len - HEAD) {
		vdev_break(d->v, "a packet longer than its buffers");
		return;
	}
	d->stat.tx_packets++;
	if (h.src_cid != d->cfg.cid) { /* 5.10.6: not the guest's own address */
		d->stat.strays++;
		return;
	}
	if (h.type == VIRTIO_VSOCK_TYPE_STREAM && h.dst_cid == VSOCK_CID_HOST)
		c = vsock_find(d, h.dst_port, h.src_port);
	if (c)
		on_packet_of(c, &h, chain);
	else if (h.op == VIRTIO_VSOCK_OP_REQUEST && h.type == VIRTIO_VSOCK_TYPE_STREAM &&
		 h.dst_cid == VSOCK_CID_HOST)
		on_request(d, &h);
	else if (h.op != VIRTIO_VSOCK_OP_RST)
		add_stray(d, &h);
}

static void take_packets(struct virtio_vsock *d)
{
	struct vq *q = vdev_queue(d->v, Q_TX);
	struct vq_chain *chain;

	/* A packet adds one RST at most. */
	while (d->st.have_strays < VSOCK_STRAY_RESETS && vq_pop(q, &chain) > 0) {
		on_packet(d, chain);
		vq_push(q, chain, 0);
	}
	d->stalled = d->st.have_strays == VSOCK_STRAY_RESETS;
	vq_notify(q);
}

void vsock_service(struct virtio_vsock *d)
{
	if (d->busy || d->paused || !vdev_started(d->v))
		return;
	d->busy = true;
	do {
		if (d->stalled)
			take_packets(d);
		give_packets(d);
		/* Giving made room for more answers, as many as there were buffers. */
	} while (d->stalled && d->st.have_strays < VSOCK_STRAY_RESETS);
	d->busy = false;
}

static void on_notify(void *dev, unsigned q)
{
	struct virtio_vsock *d = dev;

	if (q == Q_EVENT) {
		give_event(d);
		return;
	}
	if (q == Q_TX)
		d->stalled = true; /* that is: it has something */
	vsock_service(d);
}

/* --- from the host ---------------------------------------------------------------------------- */

int virtio_vsock_call(struct virtio_vsock *d, u32 port, int fd, struct vsock_call *call)
{
	struct vsock_conn *c;
	int r;

	/* There are fewer connections than ports. */
	while (vsock_find(d, d->st.next_port, port))
		d->st.next_port = MAX(d->st.next_port + 1, PORT_FIRST);
	r = vsock_conn_new(d, d->st.next_port, port, fd, VSOCK_WANTED, &c);
	if (r < 0)
		return r;
	d->st.next_port = MAX(d->st.next_port + 1, PORT_FIRST);
	c->call = call;
	if (call)
		call->conn = c;
	c->pending = VSOCK_SEND_REQUEST;
	vsock_conn_ready(c);
	vsock_service(d);
	return 0;
}

void virtio_vsock_hang_up(struct vsock_call *call)
{
	struct vsock_conn *c = call->conn;
	struct virtio_vsock *d;

	if (!c)
		return;
	d = c->d;
	call->conn = NULL;
	c->call = NULL;
	if (c->state == VSOCK_WANTED)
		vsock_conn_free(c);
	else
		vsock_conn_abort(c);
	vsock_service(d);
}

/* --- reset, pause, resume --------------------------------------------------------------------- */

/* The guest forgets its connections; what it asked for and what the host asked for stays. */
static void forget(struct virtio_vsock *d)
{
	struct vsock_conn *c, *next;

	for (c = TAILQ_FIRST(&d->conns); c; c = next) {
		next = TAILQ_NEXT(c, all);
		if (c->state == VSOCK_OPEN) {
			vsock_conn_finish(c);
		} else if (c->state == VSOCK_DYING) {
			vsock_conn_free(c);
		} else if (c->state == VSOCK_ASKED) {
			c->state = VSOCK_WANTED;
			c->pending = VSOCK_SEND_REQUEST;
			vsock_conn_ready(c);
		}
	}
	d->st.have_strays = 0;
}

void virtio_vsock_transport_reset(struct virtio_vsock *d)
{
	forget(d);
	d->st.event = 1;
	give_event(d);
	vsock_service(d);
}

static void on_start(void *dev)
{
	struct virtio_vsock *d = dev;

	d->stalled = true; /* packets may wait already */
	vsock_service(d);
}

static void on_device_reset(void *dev)
{
	struct virtio_vsock *d = dev;

	forget(d);
	d->stalled = false;
	d->st = (struct vsock_st){ .config.guest_cid = d->cfg.cid, .next_port = d->st.next_port };
}

static void on_pause(void *dev)
{
	((struct virtio_vsock *)dev)->paused = true;
}

static u32 count_open(struct virtio_vsock *d)
{
	struct vsock_conn *c;
	u32 n = 0;

	for (c = TAILQ_FIRST(&d->conns); c; c = TAILQ_NEXT(c, all))
		n += c->state == VSOCK_ASKED || c->state == VSOCK_OPEN;
	return n;
}

static void on_resume(void *dev)
{
	struct virtio_vsock *d = dev;
	struct vsock_conn *c;

	d->paused = false;
	/* A look at the queues would find what the driver has not announced yet. */
	if (!d->st.open && TAILQ_EMPTY(&d->conns))
		return;
	if (d->st.open > count_open(d)) {
		virtio_vsock_transport_reset(d);
		return;
	}
	for (c = TAILQ_FIRST(&d->conns); c; c = TAILQ_NEXT(c, all))
		vsock_conn_watch(c);
	d->stalled = true;
	vsock_service(d);
}

static void *own_state(void *dev, unsigned i)
{
	struct virtio_vsock *d = dev;

	d->st.open = count_open(d);
	return i ? NULL : &d->st;
}

static void on_free(void *dev)
{
	struct virtio_vsock *d = dev;

	while (!TAILQ_EMPTY(&d->conns))
		vsock_conn_free(TAILQ_FIRST(&d->conns));
	if (d->held)
		gate_release(d->gate);
	free(d);
}

static const struct vdev_ops ops = {
	.name = "virtio-vsock",
	.id = VIRTIO_ID_VSOCK,
	.start = on_start,
	.notify = on_notify,
	.reset = on_device_reset,
	.pause = on_pause,
	.resume = on_resume,
	.free = on_free,
	.state = own_state,
	.fields = fields,
};

const struct virtio_vsock_stats *virtio_vsock_stats(const struct virtio_vsock *d)
{
	return &d->stat;
}

int virtio_vsock_new(const struct virtio_vsock_cfg *cfg, const struct vdev_env *env,
		     struct virtio_vsock **ret_vsock, struct vdev **ret)
{
	struct virtio_vsock *d;
	struct vdev_cfg vc = { .ops = &ops,
			       .env = env,
			       .features = BIT(F_STREAM),
			       .n_queues = QUEUES,
			       .config_len = sizeof(d->st.config) };
	int r;

	if (cfg->cid < VSOCK_CID_GUEST_MIN || cfg->cid > VSOCK_CID_GUEST_MAX)
		return -EINVAL;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->cfg = *cfg;
	d->gate = env->gate;
	d->st.config.guest_cid = cfg->cid;
	d->st.next_port = PORT_FIRST;
	TAILQ_INIT(&d->conns);
	TAILQ_INIT(&d->ready);
	vc.dev = d;
	vc.config = &d->st.config;
	r = vdev_new(&vc, &d->v);
	if (r < 0) {
		free(d);
		return r;
	}
	if (d->gate) {
		gate_hold(d->gate);
		d->held = true;
	}
	*ret_vsock = d;
	*ret = d->v;
	return 0;
}
