// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_net.c - network device (virtio 1.2, 5.1)
 *
 * How it works
 * Pairs of queues, receiving (even) and transmitting (odd), and one for control. A buffer is a
 * header of 12 bytes, which says what the sender left undone (checksum, segmentation), and a frame.
 *
 * Transmit. The frame goes to the back end (host/net.h) where the driver notifies, and its buffer
 * back at once: the card has a queue of its own. If the back end refuses, the buffer goes back into
 * the ring, and the queue stands until the back end is ready. A header that makes no sense loses
 * its frame, not the device: a guest's user can send one through a raw socket. A buffer without
 * room for a header is the driver's fault and breaks the device.
 *
 * Receive. The frame is spread over as many buffers as it needs if those may be merged, and all
 * of them appear at once (5.1.6.4); otherwise one must hold it. Without buffers the back end
 * keeps the frame, and we ask the driver to notify, which otherwise it need not.
 *
 * Back ends may bring frames that the driver has not agreed to (an echo of its own large segments):
 * those are finished here, in software.
 *
 * Steering (5.1.6.5.5.1): a flow is received on the pair on which it was last sent, by a small
 * table of hashes. All pairs belong to one thread; they are for the guest, which wants one per CPU.
 */
#include "dev/virtio_net.h"

#include "dev/virtio_net_priv.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#define HDR_LEN 12u
#define QUEUE_SIZE 256u
/* A frame in buffers of 256 bytes. Smaller ones cannot take the largest frames. */
#define MERGE_MAX 256u

#define FEATURES                                                                                   \
	(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_MTU) |           \
	 BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) |     \
	 BIT(VIRTIO_NET_F_GUEST_ECN) | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) | \
	 BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_STATUS) |     \
	 BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_VLAN) |     \
	 BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) | BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) |                      \
	 BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))
#define GUEST_OFFLOADS                                                                             \
	(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |                             \
	 BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN))

_Static_assert(sizeof(struct virtio_net_hdr_v1) == HDR_LEN, "virtio 1.2, 5.1.6");
_Static_assert(sizeof(struct net_config) == offsetof(struct virtio_net_config, speed),
	       "virtio 1.2, 5.1.4");

#define F(m) DEV_FIELD(struct net_st, m)
static const struct field_desc fields[] = {
	F(config),  F(pairs), F(offloads), F(promisc),	F(allmulti),   F(alluni),
	F(nomulti), F(nouni), F(nobcast),  F(many_uni), F(many_multi), F(n_uni),
	F(n_multi), F(uni),   F(multi),	   F(vlan),	F(steer),      DEV_FIELDS_END,
};
#undef F

static struct vq *rx_queue(struct virtio_net *n, unsigned pair)
{
	return vdev_queue(n->v, 2 * pair);
}

static struct vq *tx_queue(struct virtio_net *n, unsigned pair)
{
	return vdev_queue(n->v, 2 * pair + 1);
}

/* 5.1.2: behind all pairs there may be, or without MQ behind the first. */
static unsigned control_index(const struct virtio_net *n)
{
	return vdev_has(n->v, VIRTIO_NET_F_MQ) ? 2 * n->cfg.pairs : 2;
}

static u64 guest_offloads(const struct virtio_net *n, unsigned bit)
{
	return n->st.offloads & BIT(bit);
}

/* --- receive ---------------------------------------------------------------------------------- */

static struct virtio_net_hdr_v1 header_of(const struct net_offload *o, unsigned buffers)
{
	struct virtio_net_hdr_v1 h = { .num_buffers = (u16)buffers };

	if (o->partial) {
		h.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		h.csum_start = o->csum_start;
		h.csum_offset = o->csum_offset;
	} else if (o->valid) {
		h.flags = VIRTIO_NET_HDR_F_DATA_VALID;
	}
	if (o->gso != NET_GSO_NONE) {
		h.gso_type = o->gso == NET_GSO_TCP4 ? VIRTIO_NET_HDR_GSO_TCPV4
						    : VIRTIO_NET_HDR_GSO_TCPV6;
		h.gso_type |= o->ecn ? VIRTIO_NET_HDR_GSO_ECN : 0;
		h.gso_size = o->gso_size;
		h.hdr_len = o->hdr_len;
	}
	return h;
}

/*
 * Pops buffers for @len bytes. Returns how many; 0: there are not enough now, and all are back in
 * the ring; -EMSGSIZE: there never will be.
 */
static int take_buffers(struct virtio_net *n, struct vq *q, size_t len, struct vq_chain **c)
{
	unsigned max = vdev_has(n->v, VIRTIO_NET_F_MRG_RXBUF) ? MERGE_MAX : 1, k = 0;
	size_t room = 0;
	bool dry = false;

	while (room < len && k < max) {
		if (vq_pop(q, &c[k]) <= 0) {
			dry = true;
			break;
		}
		room += c[k]->in_len;
		k++;
		/* 5.1.6.3.1: the header is never split from its buffer. */
		if (c[k - 1]->in_len < HDR_LEN || c[k - 1]->n_out) {
			vdev_break(n->v, "a receive buffer that cannot hold a header");
			while (k)
				vq_drop(q, c[--k]);
			return -EMSGSIZE;
		}
	}
	if (room >= len)
		return (int)k;
	/* A ring that is wholly available and still too small will not get better. */
	dry = dry && k < vq_size(q);
	while (k)
		vq_unpop(q, c[--k]);
	return dry ? 0 : -EMSGSIZE;
}

/* Copies @len bytes of the frame from @from on to the buffer. */
static void copy_in(struct vq_chain *c, size_t off, const struct net_frame *f, size_t from,
		    size_t len)
{
	for (unsigned i = 0; i < f->n && len; i++) {
		size_t have = f->iov[i].iov_len, k;

		if (from >= have) {
			from -= have;
			continue;
		}
		k = MIN(len, have - from);
		iov_write(c->in, c->n_in, off, (const u8 *)f->iov[i].iov_base + from, k);
		off += k;
		len -= k;
		from = 0;
	}
}

static int put_frame(struct virtio_net *n, unsigned pair, const struct net_frame *f)
{
	struct vq *q = rx_queue(n, pair);
	struct vq_chain *c[MERGE_MAX];
	int k = take_buffers(n, q, HDR_LEN + f->len, c);
	size_t done = 0;

	if (k == 0) {
		/* Ask to be told; the driver may have been quicker. */
		vq_notifications(q, true);
		if (vq_available(q))
			k = take_buffers(n, q, HDR_LEN + f->len, c);
	}
	if (k == 0) {
		n->short_of_buffers = true;
		return -EAGAIN;
	}
	if (k < 0) {
		n->cfg.stats->rx_dropped++;
		return 0;
	}
	struct virtio_net_hdr_v1 h = header_of(&f->o, (unsigned)k);

	for (int i = 0; i < k; i++) {
		size_t off = i ? 0 : HDR_LEN, len = MIN(c[i]->in_len - off, f->len - done);

		if (!i)
			iov_write(c[i]->in, c[i]->n_in, 0, &h, HDR_LEN);
		copy_in(c[i], off, f, done, len);
		done += len;
		vq_put(q, c[i], (u32)(off + len));
	}
	vq_publish(q);
	n->rx_dirty[pair] = 1;
	n->cfg.stats->rx_frames++;
	n->cfg.stats->rx_bytes += f->len;
	return 0;
}

static unsigned pair_of(const struct virtio_net *n, const u8 *head, size_t len)
{
	unsigned pair;

	if (n->st.pairs == 1)
		return 0;
	pair = n->st.steer[net_flow(head, len) % NET_STEER];
	return pair && pair <= n->st.pairs ? pair - 1 : 0;
}

static bool driver_takes(const struct virtio_net *n, const struct net_offload *o)
{
	if (o->partial && !guest_offloads(n, VIRTIO_NET_F_GUEST_CSUM))
		return false;
	if (o->gso == NET_GSO_NONE)
		return true;
	return guest_offloads(n, o->gso == NET_GSO_TCP4 ? VIRTIO_NET_F_GUEST_TSO4
							: VIRTIO_NET_F_GUEST_TSO6) &&
	       (!o->ecn || guest_offloads(n, VIRTIO_NET_F_GUEST_ECN));
}

struct finishing {
	struct virtio_net *n;
	unsigned pair;
	int r; /* of the first; what follows and finds no room is lost */
	bool begun;
};

static void on_finished(void *opaque, u8 *frame, size_t len)
{
	struct finishing *x = opaque;
	struct iovec iov = { frame, len };
	struct net_frame f = { .iov = &iov, .n = 1, .len = len };
	int r = put_frame(x->n, x->pair, &f);

	if (!x->begun)
		x->r = r;
	else if (r < 0)
		x->n->cfg.stats->rx_dropped++;
	x->begun = true;
}

/* A frame that the driver does not take as it is. */
static int put_finished(struct virtio_net *n, unsigned pair, const struct net_frame *f)
{
	struct finishing x = { .n = n, .pair = pair };
	u8 *copy = malloc(f->len);

	if (!copy) {
		n->cfg.stats->rx_dropped++;
		return 0;
	}
	iov_read(f->iov, f->n, 0, copy, f->len);
	net_frame_finish(copy, f->len, &f->o, false, on_finished, &x);
	free(copy);
	return x.r;
}

static int on_receive(void *opaque, const struct net_frame *f)
{
	struct virtio_net *n = opaque;
	u8 head[NET_PEEK];
	struct net_frame plain;
	size_t len;
	unsigned pair;

	if (!n->started || !vdev_started(n->v) || f->len > NET_FRAME_MAX) {
		n->cfg.stats->rx_dropped++;
		return 0;
	}
	if (n->paused) {
		n->missed = n->short_of_buffers = true;
		return -EAGAIN;
	}
	len = iov_read(f->iov, f->n, 0, head, sizeof(head));
	if (!virtio_net_wants(n, head, len)) {
		n->cfg.stats->rx_dropped++;
		return 0;
	}
	pair = pair_of(n, head, len);
	if (!driver_takes(n, &f->o))
		return put_finished(n, pair, f);
	if (!guest_offloads(n, VIRTIO_NET_F_GUEST_CSUM) && f->o.valid) {
		plain = *f;
		plain.o.valid = false;
		return put_frame(n, pair, &plain);
	}
	return put_frame(n, pair, f);
}

static void on_received(void *opaque)
{
	struct virtio_net *n = opaque;

	for (unsigned i = 0; i < n->cfg.pairs; i++) {
		if (!n->rx_dirty[i])
			continue;
		n->rx_dirty[i] = 0;
		vq_notify(rx_queue(n, i));
	}
}

static void more_room(struct virtio_net *n)
{
	struct net *net = n->cfg.net;

	if (!n->short_of_buffers || n->paused)
		return;
	n->short_of_buffers = false;
	for (unsigned i = 0; i < n->cfg.pairs; i++)
		vq_notifications(rx_queue(n, i), false);
	if (net->ops->room)
		net->ops->room(net);
	on_received(n);
}

/* --- transmit --------------------------------------------------------------------------------- */

/* 5.1.6.2. False: the header makes no sense. */
static bool offload_of(const struct virtio_net *n, const struct virtio_net_hdr_v1 *h,
		       struct net_offload *ret)
{
	u8 type = h->gso_type & (u8)~VIRTIO_NET_HDR_GSO_ECN;
	struct net_offload o = { 0 };

	if (h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		if (!vdev_has(n->v, VIRTIO_NET_F_CSUM))
			return false;
		o.partial = true;
		o.csum_start = h->csum_start;
		o.csum_offset = h->csum_offset;
	}
	if (type == VIRTIO_NET_HDR_GSO_TCPV4 && vdev_has(n->v, VIRTIO_NET_F_HOST_TSO4))
		o.gso = NET_GSO_TCP4;
	else if (type == VIRTIO_NET_HDR_GSO_TCPV6 && vdev_has(n->v, VIRTIO_NET_F_HOST_TSO6))
		o.gso = NET_GSO_TCP6;
	else if (type != VIRTIO_NET_HDR_GSO_NONE)
		return false;
	if (o.gso != NET_GSO_NONE) {
		o.ecn = h->gso_type & VIRTIO_NET_HDR_GSO_ECN;
		o.gso_size = h->gso_size;
		o.hdr_len = h->hdr_len;
	}
	*ret = o;
	return true;
}

/* The chain without its header. True if the frame is one; -EAGAIN in *ret_r: not now. */
static void send_frame(struct virtio_net *n, unsigned pair, const struct vq_chain *c, int *ret_r)
{
	struct virtio_net_hdr_v1 h;
	/* Slicing off the header leaves at most as many pieces as there were. */
	struct iovec few[64], *iov = few;
	struct net_frame f;
	u8 head[NET_PEEK];
	size_t got;

	*ret_r = 0;
	if (vq_chain_read(c, 0, &h, HDR_LEN) < 0 || c->n_in) {
		vdev_break(n->v, "a frame to send without a header, or to be written");
		return;
	}
	if (c->n_out > ARRAY_LEN(few))
		iov = malloc(c->n_out * sizeof(*iov));
	f = (struct net_frame){ .iov = iov, .len = c->out_len - HDR_LEN };
	if (!iov || f.len > NET_FRAME_MAX || !offload_of(n, &h, &f.o))
		goto drop;
	f.n = iov_slice(c->out, c->n_out, HDR_LEN, f.len, iov, c->n_out, NULL);
	if (net_frame_check(&f) < 0)
		goto drop;
	if (n->st.pairs > 1) {
		got = iov_read(f.iov, f.n, 0, head, sizeof(head));
		n->st.steer[net_flow(head, got) % NET_STEER] = (u8)(pair + 1);
	}
	*ret_r = n->cfg.net->ops->send(n->cfg.net, &f);
	if (!*ret_r) {
		n->cfg.stats->tx_frames++;
		n->cfg.stats->tx_bytes += f.len;
	}
	goto out;
drop:
	n->cfg.stats->tx_dropped++;
out:
	if (iov != few)
		free(iov);
}

static void transmit(struct virtio_net *n, unsigned pair)
{
	struct vq *q = tx_queue(n, pair);
	struct vq_chain *c;
	int r = 0;

	n->missed |= n->paused;
	if (pair >= n->st.pairs || n->paused)
		return;
	while (r == 0 && vq_pop(q, &c) > 0) {
		send_frame(n, pair, c, &r);
		if (r == -EAGAIN)
			vq_unpop(q, c);
		else
			vq_push(q, c, 0);
	}
	vq_notify(q);
}

static void sent(struct virtio_net *n)
{
	if (n->cfg.net->ops->sent)
		n->cfg.net->ops->sent(n->cfg.net);
	on_received(n);
}

static void on_ready(void *opaque)
{
	struct virtio_net *n = opaque;

	if (!n->started || !vdev_started(n->v))
		return;
	for (unsigned i = 0; i < n->st.pairs; i++)
		vdev_run_queue(n->v, 2 * i + 1);
}

static void on_notify(void *dev, unsigned index)
{
	struct virtio_net *n = dev;

	if (index == control_index(n)) {
		virtio_net_control(n, vdev_queue(n->v, index));
	} else if (index & 1) {
		transmit(n, index / 2);
		sent(n);
	} else {
		more_room(n);
	}
}

/* --- link ------------------------------------------------------------------------------------- */

/* Back after an interruption, the network must learn where the guest is: 5.1.6.5.4. */
static void on_link(void *opaque, bool up)
{
	struct virtio_net *n = opaque;
	u16 status = up ? VIRTIO_NET_S_LINK_UP : 0;

	if ((n->st.config.status & VIRTIO_NET_S_LINK_UP) == status)
		return;
	if (up && vdev_has(n->v, VIRTIO_NET_F_GUEST_ANNOUNCE))
		status |= VIRTIO_NET_S_ANNOUNCE;
	n->st.config.status = status;
	vdev_config_changed(n->v);
}

/* --- life ------------------------------------------------------------------------------------- */

/* 5.1.3.1: what depends on what. */
static int on_check(void *dev, u64 f)
{
	static const u8 needs[][2] = {
		{ VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_CSUM },
		{ VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_CSUM },
		{ VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_CSUM },
		{ VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_CSUM },
		{ VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_NET_F_CTRL_VLAN, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_NET_F_CTRL_RX_EXTRA, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_NET_F_GUEST_ANNOUNCE, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_NET_F_MQ, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_NET_F_CTRL_MAC_ADDR, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, VIRTIO_NET_F_CTRL_VQ },
	};

	for (unsigned i = 0; i < ARRAY_LEN(needs); i++)
		if ((f & BIT(needs[i][0])) && !(f & BIT(needs[i][1])))
			return -EINVAL;
	if ((f & BIT(VIRTIO_NET_F_GUEST_ECN)) &&
	    !(f & (BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6))))
		return -EINVAL;
	if ((f & BIT(VIRTIO_NET_F_HOST_ECN)) &&
	    !(f & (BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6))))
		return -EINVAL;
	return 0;
}

static void on_start(void *dev)
{
	struct virtio_net *n = dev;

	n->started = true;
	n->st.offloads = vdev_driver_features(n->v) & GUEST_OFFLOADS;
	for (unsigned i = 0; i < n->cfg.pairs; i++)
		vq_notifications(rx_queue(n, i), false);
	virtio_net_takes(n);
}

static void stop_net(struct virtio_net *n)
{
	if (n->cfg.net->ops->stop)
		n->cfg.net->ops->stop(n->cfg.net);
	n->started = false;
	n->short_of_buffers = false;
	memset(n->rx_dirty, 0, sizeof(n->rx_dirty));
}

static void on_reset(void *dev)
{
	struct virtio_net *n = dev;

	stop_net(n);
	virtio_net_filter_reset(n);
	memcpy(n->st.config.mac, n->cfg.mac, 6);
	n->st.config.status = n->cfg.net->link ? VIRTIO_NET_S_LINK_UP : 0;
	n->st.config.mtu = n->cfg.mtu;
	n->st.config.max_pairs = (u16)n->cfg.pairs;
}

/* A queue that comes back has notifications on; the next frame without a buffer needs them. */
static void on_queue_stop(void *dev, unsigned index)
{
	struct virtio_net *n = dev;

	if (index / 2 < VIRTIO_NET_PAIRS_MAX && !(index & 1))
		n->rx_dirty[index / 2] = 0;
}

static void on_pause(void *dev)
{
	((struct virtio_net *)dev)->paused = true;
}

static void on_resume(void *dev)
{
	struct virtio_net *n = dev;

	n->paused = false;
	/*
	 * Else nothing: a look at the queues finds what the driver has put there and not announced yet,
	 * and a guest that was paused would see it go sooner than one that was not.
	 */
	if (!n->missed)
		return;
	n->missed = false;
	more_room(n);
	on_ready(n);
}

static void *own_state(void *dev, unsigned i)
{
	return i ? NULL : &((struct virtio_net *)dev)->st;
}

static void on_free(void *dev)
{
	struct virtio_net *n = dev;

	stop_net(n);
	if (n->cfg.net->ops->detach)
		n->cfg.net->ops->detach(n->cfg.net);
	n->cfg.net->peer = (struct net_peer){ 0 };
	free(n);
}

static const struct vdev_ops ops = {
	.name = "virtio-net",
	.id = VIRTIO_ID_NET,
	.check = on_check,
	.start = on_start,
	.notify = on_notify,
	.queue_stop = on_queue_stop,
	.reset = on_reset,
	.pause = on_pause,
	.resume = on_resume,
	.free = on_free,
	.state = own_state,
	.fields = fields,
};

int virtio_net_new(const struct virtio_net_cfg *cfg, const struct vdev_env *env, struct vdev **ret)
{
	struct virtio_net *n;
	struct vdev_cfg vc = { .ops = &ops, .env = env, .features = FEATURES };
	int r;

	if (!cfg->net || !cfg->stats || !cfg->pairs || cfg->pairs > VIRTIO_NET_PAIRS_MAX)
		return -EINVAL;
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->cfg = *cfg;
	vc.dev = n;
	vc.features |= cfg->pairs > 1 ? BIT(VIRTIO_NET_F_MQ) : 0;
	vc.n_queues = 2 * cfg->pairs + 1;
	vc.config = &n->st.config;
	vc.config_len = sizeof(n->st.config);
	cfg->net->peer = (struct net_peer){ .receive = on_receive,
					    .received = on_received,
					    .ready = on_ready,
					    .link = on_link,
					    .opaque = n };
	r = vdev_new(&vc, &n->v);
	if (r < 0) {
		free(n);
		return r;
	}
	on_reset(n);
	r = cfg->net->ops->attach ? cfg->net->ops->attach(cfg->net, env->gate, env->clk) : 0;
	if (r < 0) {
		vdev_free(n->v);
		return r;
	}
	*ret = n->v;
	return 0;
}
