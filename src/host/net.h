/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.h - what is at the other end of a network card's cable
 *
 * A back end takes Ethernet frames and brings others. It knows neither virtio nor a guest: it has
 * a *peer*, the card. Frames carry what a card may leave undone (net_offload); a back end accepts
 * every combination that net_frame_check lets pass, and may bring whatever it was told at start
 * that the peer takes.
 *
 * Everything here belongs to one thread, that of the gate and the clock.
 */
#ifndef ORR_HOST_NET_H
#define ORR_HOST_NET_H

#include "base/err.h"
#include "base/gate.h"
#include "base/gclock.h"
#include "host/net_frame.h"

struct net;

/* The card. */
struct net_peer {
	/*
	 * A frame has come; it is borrowed. 0: taken, or dropped for good; -EAGAIN: there is no
	 * room now, net_ops.room will be called.
	 */
	int (*receive)(void *opaque, const struct net_frame *f);
	/* That was all for now: the time to interrupt somebody. */
	void (*received)(void *opaque);
	/* What send refused may be sent again. */
	void (*ready)(void *opaque);
	/* The cable was pulled, or is back. */
	void (*link)(void *opaque, bool up);
	void *opaque;
};

enum net_takes { NET_TAKES_CSUM = 1, NET_TAKES_TSO4 = 2, NET_TAKES_TSO6 = 4, NET_TAKES_ECN = 8 };

struct net_ops {
	const char *name; /* static storage */
	/* Frames come and go at times that the clock alone decides: no gate, no host. */
	bool exact;
	/*
	 * A card is there. @gate may be NULL: nothing can come from the host. 0 or a negative errno.
	 * Called once, before all that follows.
	 */
	int (*attach)(struct net *n, struct gate *gate, struct gclock *clk);
	/*
	 * The card wants frames, with enum net_takes @takes. Also called while it is started, when
	 * that changes. NULL: nothing to do; so for each one below but send.
	 */
	void (*start)(struct net *n, unsigned takes);
	/* It wants no more: what is on its way is forgotten. Legal when not started. */
	void (*stop)(struct net *n);
	/* 0: taken, or dropped; -EAGAIN: not now, peer.ready will be called. */
	int (*send)(struct net *n, const struct net_frame *f);
	/* Nothing more to send for now. */
	void (*sent)(struct net *n);
	/* The card has room for frames again. */
	void (*room)(struct net *n);
	/* The gate is about to go: the opposite of attach. */
	void (*detach)(struct net *n);
	void (*free)(struct net *n);
};

/* The head of every back end's own struct. */
struct net {
	const struct net_ops *ops;
	struct net_peer peer; /* set by whoever attaches it */
	bool link;	      /* the cable is in */
	u64 dropped;	      /* frames that it could not keep or not read */
};

/* Legal for NULL. */
void net_free(struct net *n);

/* A card with no cable in it. 0 or -ENOMEM. */
int net_none_new(struct net **ret);

/*
 * An echo at layer 2: each frame comes back after a stated time, with its addresses exchanged (a
 * group address stays where it is, and the echo's own is the source). 0 or -ENOMEM.
 */
int net_loop_new(struct net **ret);

/* An existing tap interface. 0, or an error with message that begins with @opt. */
int net_tap_open(const char *opt, const char *ifname, struct err *e, struct net **ret);

/*
 * passt: a process of its own that carries the guest's connections. @path: the socket of one that
 * runs; NULL: starts one. 0, or an error with message.
 */
struct net_passt_cfg {
	const char *opt;	     /* for messages */
	const char *path;	     /* or NULL */
	const char *addr, *gw, *dns; /* what a started one tells and forwards; prefix length 24 */
	u16 mtu;
	const char *const *tcp, *const *udp; /* its own -t and -u, NULL-terminated; NULL: none */
};
int net_passt_open(const struct net_passt_cfg *cfg, struct err *e, struct net **ret);

/* A network in user space: DHCP, DNS, NAT. Addresses are in host byte order. */
struct net_forward {
	bool udp;
	u32 host_addr, guest_addr; /* guest 0: the guest's own */
	u16 host_port, guest_port;
	const char *text; /* as the user wrote it, for messages */
};

struct net_user_cfg {
	const char *opt; /* for messages */
	u32 network;	 /* of 24 bits: .2 is the gateway and the host, .3 DNS, .15 the guest */
	u16 mtu;
	bool restricted; /* only forwards: the guest reaches nothing by itself */
	bool ipv6;
	const struct net_forward *fwd;
	unsigned n_fwd;
};
/* Listens on forwarded ports at once. 0, or an error with message. */
int net_user_open(const struct net_user_cfg *cfg, struct err *e, struct net **ret);
/* The version of the library that does it; static. NULL: it is not installed. */
const char *net_user_version(void);

#endif
