// SPDX-License-Identifier: Apache-2.0
/*
 * net_tap.c - an existing tap interface of the host (Documentation/networking/tuntap.rst)
 *
 * How it works
 * The interface is somebody else's to make, connect and remove; here it is opened by name. Frames
 * are preceded by the same header as in virtio (linux/virtio_net.h, 12 bytes), so checksums and
 * segmentation are left to whoever is behind the interface, in both directions: TUNSETOFFLOAD
 * says what the card takes.
 *
 * Reading stops while the card has no buffers; the host's own queue then fills, and drops. A
 * refused write (a full queue) stops sending until the descriptor is writable.
 */
#include "host/net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define HDR_LEN ((int)sizeof(struct virtio_net_hdr_v1))
#define BATCH 64u
#define PIECES_MAX 1023u /* IOV_MAX, with the header */

struct tap {
	struct net n;
	struct gate *gate;
	struct gate_watch watch;
	int fd;
	bool started, refused, full; /* full: the card has no room for what is in frame */
	bool held;		     /* the gate, since frames may come at any time */
	size_t have;		     /* bytes in frame, header included; 0: none */
	u8 frame[HDR_LEN + NET_FRAME_MAX];
};

static struct tap *tap_of(struct net *n)
{
	return container_of(n, struct tap, n);
}

static void update_watch(struct tap *t)
{
	u32 events = 0;

	if (!t->gate)
		return;
	if (t->started)
		events = (t->full ? 0 : EPOLLIN) | (t->refused ? EPOLLOUT : 0);
	gate_watch_events(t->gate, &t->watch, events);
}

static void hold(struct tap *t, bool on)
{
	if (t->held == on || !t->gate)
		return;
	t->held = on;
	if (on)
		gate_hold(t->gate);
	else
		gate_release(t->gate);
}

/* --- to the card ------------------------------------------------------------------------------ */

static struct net_offload offload_of(const struct virtio_net_hdr_v1 *h)
{
	u8 type = h->gso_type & (u8)~VIRTIO_NET_HDR_GSO_ECN;
	struct net_offload o = { .partial = h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM,
				 .valid = h->flags & VIRTIO_NET_HDR_F_DATA_VALID,
				 .csum_start = h->csum_start,
				 .csum_offset = h->csum_offset };

	if (type == VIRTIO_NET_HDR_GSO_NONE)
		return o;
	o.gso = type == VIRTIO_NET_HDR_GSO_TCPV6 ? NET_GSO_TCP6 : NET_GSO_TCP4;
	o.ecn = h->gso_type & VIRTIO_NET_HDR_GSO_ECN;
	o.gso_size = h->gso_size;
	o.hdr_len = h->hdr_len;
	return o;
}

/* What is in t->frame. False: the card has no room. */
static bool deliver(struct tap *t)
{
	struct virtio_net_hdr_v1 h;
	struct iovec iov = { t->frame + HDR_LEN, t->have - (size_t)HDR_LEN };
	struct net_frame f = { .iov = &iov, .n = 1, .len = iov.iov_len };

	memcpy(&h, t->frame, sizeof(h));
	f.o = offload_of(&h);
	if (net_frame_check(&f) < 0)
		t->n.dropped++;
	else if (t->n.peer.receive(t->n.peer.opaque, &f) < 0)
		return false;
	t->have = 0;
	return true;
}

static void take(struct tap *t)
{
	t->full = t->have && !deliver(t);
	for (unsigned i = 0; i < BATCH && !t->full; i++) {
		ssize_t n = read(t->fd, t->frame, sizeof(t->frame));

		if (n <= HDR_LEN)
			break;
		t->have = (size_t)n;
		t->full = !deliver(t);
	}
}

static void on_ready(void *opaque, u32 events)
{
	struct tap *t = opaque;

	if (events & (EPOLLERR | EPOLLHUP)) { /* the interface was deleted */
		t->started = false;
		update_watch(t);
		hold(t, false);
		t->n.link = false;
		t->n.peer.link(t->n.peer.opaque, false);
		return;
	}
	if (events & EPOLLIN)
		take(t);
	t->n.peer.received(t->n.peer.opaque);
	if ((events & EPOLLOUT) && t->refused) {
		t->refused = false;
		t->n.peer.ready(t->n.peer.opaque);
	}
	update_watch(t);
}

static void tap_room(struct net *n)
{
	struct tap *t = tap_of(n);

	if (t->started)
		take(t);
	update_watch(t);
}

/* --- from the card ---------------------------------------------------------------------------- */

static int tap_send(struct net *n, const struct net_frame *f)
{
	struct tap *t = tap_of(n);
	const struct net_offload *o = &f->o;
	struct virtio_net_hdr_v1 h = { .flags = o->partial ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0,
				       .csum_start = o->csum_start,
				       .csum_offset = o->csum_offset };
	struct iovec iov[PIECES_MAX + 1];

	if (f->n > PIECES_MAX || !t->started) {
		n->dropped++;
		return 0;
	}
	if (o->gso != NET_GSO_NONE) {
		h.gso_type = o->gso == NET_GSO_TCP4 ? VIRTIO_NET_HDR_GSO_TCPV4
						    : VIRTIO_NET_HDR_GSO_TCPV6;
		h.gso_type |= o->ecn ? VIRTIO_NET_HDR_GSO_ECN : 0;
		h.gso_size = o->gso_size;
		h.hdr_len = o->hdr_len;
	}
	iov[0] = (struct iovec){ &h, sizeof(h) };
	memcpy(iov + 1, f->iov, f->n * sizeof(*iov));
	if (writev(t->fd, iov, (int)f->n + 1) >= 0)
		return 0;
	if (errno == EAGAIN && t->gate) {
		t->refused = true;
		update_watch(t);
		return -EAGAIN;
	}
	n->dropped++; /* the interface is down, or refuses this frame */
	return 0;
}

/* --- life ------------------------------------------------------------------------------------- */

static void tap_start(struct net *n, unsigned takes)
{
	struct tap *t = tap_of(n);
	unsigned long off = 0;

	off |= takes & NET_TAKES_CSUM ? TUN_F_CSUM : 0;
	off |= takes & NET_TAKES_TSO4 ? TUN_F_TSO4 : 0;
	off |= takes & NET_TAKES_TSO6 ? TUN_F_TSO6 : 0;
	off |= takes & NET_TAKES_ECN ? TUN_F_TSO_ECN : 0;
	/* Refused, frames come plain, which every card takes. */
	ioctl(t->fd, TUNSETOFFLOAD, off);
	if (!t->started && n->link && t->gate) {
		t->started = true;
		hold(t, true);
	}
	update_watch(t);
}

static void tap_stop(struct net *n)
{
	struct tap *t = tap_of(n);

	hold(t, false);
	t->started = t->refused = t->full = false;
	t->have = 0;
	update_watch(t);
}

static int tap_attach(struct net *n, struct gate *gate, struct gclock *clk)
{
	struct tap *t = tap_of(n);
	int r;

	if (!gate)
		return 0;
	t->watch = (struct gate_watch){ .fn = on_ready, .opaque = t };
	r = gate_watch(gate, &t->watch, t->fd, 0);
	if (r == 0)
		t->gate = gate;
	return r;
}

static void tap_detach(struct net *n)
{
	struct tap *t = tap_of(n);

	tap_stop(n);
	if (t->gate)
		gate_unwatch(t->gate, &t->watch);
	t->gate = NULL;
}

static void tap_free(struct net *n)
{
	struct tap *t = tap_of(n);

	if (t->fd >= 0)
		close(t->fd);
	free(t);
}

static const struct net_ops tap_ops = {
	.name = "tap",
	.attach = tap_attach,
	.start = tap_start,
	.stop = tap_stop,
	.send = tap_send,
	.room = tap_room,
	.detach = tap_detach,
	.free = tap_free,
};

/* --- opening ---------------------------------------------------------------------------------- */

static int cannot_set(const char *opt, const char *name, int code, struct err *e)
{
	switch (code) {
	case -EPERM:
		return err_set(
			e, code,
			"%s: not permitted to use the interface %s; make it yours: ip tuntap "
			"add dev %s mode tap user $USER",
			opt, name, name);
	case -EBUSY:
		return err_set(e, code,
			       "%s: the interface %s is in use by another process, or by another "
			       "--net",
			       opt, name);
	case -EINVAL:
		return err_set(e, code,
			       "%s: %s is not a tap interface, or one of several queues; make one: "
			       "ip tuntap add dev NAME mode tap user $USER",
			       opt, name);
	default:
		return err_sys(e, code, "%s: cannot use the interface %s", opt, name);
	}
}

static int open_tap(struct tap *t, const char *opt, const char *name, struct err *e)
{
	struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int len = HDR_LEN;

	if (!*name || strlen(name) >= sizeof(r.ifr_name) || strchr(name, '%'))
		return err_set(e, -EINVAL, "%s: '%s' is no name of an interface", opt, name);
	/* The kernel would make one that nothing is connected to. */
	if (!if_nametoindex(name))
		return err_set(
			e, -ENODEV,
			"%s: there is no interface %s; make it: ip tuntap add dev %s mode tap "
			"user $USER && ip link set %s up",
			opt, name, name, name);
	t->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (t->fd < 0)
		return err_sys(e, -errno,
			       "%s: cannot open /dev/net/tun (its owner must let you read and "
			       "write it, and the host have the module tun)",
			       opt);
	memcpy(r.ifr_name, name, strlen(name));
	if (ioctl(t->fd, TUNSETIFF, &r) < 0)
		return cannot_set(opt, name, -errno, e);
	if (ioctl(t->fd, TUNSETVNETHDRSZ, &len) < 0)
		return err_sys(e, -errno, "%s: %s cannot carry headers of %d bytes", opt, name,
			       HDR_LEN);
	return 0;
}

int net_tap_open(const char *opt, const char *ifname, struct err *e, struct net **ret)
{
	struct tap *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return err_set(e, -ENOMEM, "%s: out of memory", opt);
	t->n = (struct net){ .ops = &tap_ops, .link = true };
	t->fd = -1;
	r = open_tap(t, opt, ifname, e);
	if (r < 0) {
		tap_free(&t->n);
		return r;
	}
	*ret = &t->n;
	return 0;
}
