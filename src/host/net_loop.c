// SPDX-License-Identifier: Apache-2.0
/*
 * net_loop.c - networks that need no host: an echo at layer 2, and no cable at all
 *
 * How it works
 * The echo stands for a cable to a reflector. Frames pass one after the other at RATE, and each
 * comes back DELAY_NS of guest time after its last byte; under the virtual clock that is an exact
 * instruction, so runs with it stay exact. What is on the cable is bounded: a sender that is
 * faster waits. A frame that finds no buffer when it comes back is lost, as on a real card.
 *
 * Addresses are exchanged, so that a frame comes back as one for its sender. A group address is no
 * source: the echo then says it was itself.
 */
#include "host/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DELAY_NS 10000u
#define PS_PER_BYTE 800u /* 10 Gbit/s */
#define FRAMES_MAX 1024u
#define BYTES_MAX (4u << 20)

static const u8 own_address[6] = { 0x02, 0x6f, 0x72, 0x72, 0x00, 0x01 };

struct flying {
	struct flying *next;
	u64 due;
	struct net_offload o;
	size_t len;
	u8 data[];
};

struct loop {
	struct net n;
	struct gclock *clk;
	struct gtimer timer;
	struct flying *first, **last;
	unsigned frames;
	size_t bytes;
	u64 busy;     /* ps of guest time until which the cable is occupied */
	bool refused; /* a sender waits */
};

static struct loop *loop_of(struct net *n)
{
	return container_of(n, struct loop, n);
}

static void turn_around(u8 *frame)
{
	u8 dst[6];

	memcpy(dst, frame, 6);
	if (net_is_group(dst)) {
		memcpy(frame + 6, own_address, 6);
		return;
	}
	memcpy(frame, frame + 6, 6);
	memcpy(frame + 6, dst, 6);
}

static void take_first(struct loop *l)
{
	struct flying *x = l->first;

	l->first = x->next;
	if (!l->first)
		l->last = &l->first;
	l->frames--;
	l->bytes -= x->len;
	free(x);
}

static void on_timer(void *opaque)
{
	struct loop *l = opaque;
	u64 now = gclock_now(l->clk);

	while (l->first && l->first->due <= now) {
		struct flying *x = l->first;
		struct iovec iov = { x->data, x->len };
		struct net_frame f = { .iov = &iov, .n = 1, .len = x->len, .o = x->o };

		turn_around(x->data);
		if (l->n.peer.receive(l->n.peer.opaque, &f) < 0)
			l->n.dropped++;
		take_first(l);
	}
	l->n.peer.received(l->n.peer.opaque);
	if (l->first)
		gtimer_arm(&l->timer, l->first->due);
	if (l->refused) {
		l->refused = false;
		l->n.peer.ready(l->n.peer.opaque);
	}
}

static int loop_send(struct net *n, const struct net_frame *f)
{
	struct loop *l = loop_of(n);
	struct flying *x;

	if (l->frames == FRAMES_MAX || l->bytes + f->len > BYTES_MAX) {
		l->refused = true;
		return -EAGAIN;
	}
	x = malloc(sizeof(*x) + f->len);
	if (!x) {
		n->dropped++;
		return 0;
	}
	*x = (struct flying){ .o = f->o, .len = f->len };
	iov_read(f->iov, f->n, 0, x->data, f->len);
	l->busy = MAX(l->busy, gclock_now(l->clk) * 1000) + (u64)f->len * PS_PER_BYTE;
	x->due = l->busy / 1000 + DELAY_NS;
	*l->last = x;
	l->last = &x->next;
	l->frames++;
	l->bytes += f->len;
	if (!gtimer_armed(&l->timer))
		gtimer_arm(&l->timer, l->first->due);
	return 0;
}

static int loop_attach(struct net *n, struct gate *gate, struct gclock *clk)
{
	struct loop *l = loop_of(n);

	l->clk = clk;
	gtimer_init(&l->timer, clk, on_timer, l);
	return 0;
}

static void loop_stop(struct net *n)
{
	struct loop *l = loop_of(n);

	if (l->clk)
		gtimer_cancel(&l->timer);
	while (l->first)
		take_first(l);
	l->busy = 0;
	l->refused = false;
}

static void loop_free(struct net *n)
{
	while (loop_of(n)->first)
		take_first(loop_of(n));
	free(loop_of(n));
}

static const struct net_ops loop_ops = {
	.name = "loopback",
	.exact = true,
	.attach = loop_attach,
	.stop = loop_stop,
	.send = loop_send,
	.detach = loop_stop,
	.free = loop_free,
};

int net_loop_new(struct net **ret)
{
	struct loop *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->n = (struct net){ .ops = &loop_ops, .link = true };
	l->last = &l->first;
	*ret = &l->n;
	return 0;
}

/* --- no cable --------------------------------------------------------------------------------- */

static int none_send(struct net *n, const struct net_frame *f)
{
	n->dropped++;
	return 0;
}

static void none_free(struct net *n)
{
	free(n);
}

static const struct net_ops none_ops = {
	.name = "none",
	.exact = true,
	.send = none_send,
	.free = none_free,
};

int net_none_new(struct net **ret)
{
	struct net *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->ops = &none_ops;
	*ret = n;
	return 0;
}

void net_free(struct net *n)
{
	if (n)
		n->ops->free(n);
}
