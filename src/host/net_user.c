// SPDX-License-Identifier: Apache-2.0
/*
 * net_user.c - a network in user space: libslirp as DHCP and DNS server, router and NAT
 *
 * How it works
 * libslirp takes frames and hands out frames, and has host sockets of its own. It wants to be asked
 * which sockets to wait for (fill), and to be told what became of them (poll). A poll(2) over all
 * of them for each event would cost more with each connection; so they are in an epoll set of our
 * own, of which one descriptor is watched by the gate, and a fill only changes what differs from
 * the last one. Time is the host's monotonic clock, since so are the peers; one timerfd stands
 * for all of libslirp's timers.
 *
 * Large frames. libslirp has no header that says what is left to do, so checksums are filled in
 * here. A large TCP segment over IPv4 it takes as it is: it ends the connection itself and only
 * copies payload. For IPv6 it compares the packet with its MTU, so those are cut. In the other
 * direction a large MTU does the same (virtio_net tells the guest).
 *
 * The gate is held while there is a socket: only then can anything come that the guest has not
 * caused by itself just before. Answers of libslirp's own (ARP, DHCP) come within the call that
 * asks, at an exact time.
 *
 * Frames for which the card has no buffer are kept, up to a bound; while some are, sockets are not
 * read, so that TCP's own flow control holds the rest back.
 *
 * The library is loaded when the first such network is opened: with GLib, which it needs, it is a sixth
 * of what a monitor without networks has resident.
 */
#include "host/net.h"

#include "base/hosttime.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define LIBRARY "libslirp.so.0"
#define BATCH 64
#define KEPT_MAX (8u << 20) /* bytes */
#define TIMERS_MAX 4u
#define NEVER UINT64_MAX
#define NS_PER_MS 1000000ull
#define TIMER_SLACK (2 * NS_PER_MS) /* slirp counts in ms: nearer than that is the same time */

/* What is used of libslirp, by the names that its header gives them. */
#define LIBSLIRP(F)                                                                                \
	F(slirp_version_string)                                                                    \
	F(slirp_new)                                                                               \
	F(slirp_cleanup)                                                                           \
	F(slirp_input)                                                                             \
	F(slirp_pollfds_fill)                                                                      \
	F(slirp_pollfds_poll)                                                                      \
	F(slirp_add_hostfwd)

#define MEMBER(name) __typeof__(name) *name;
static struct libslirp {
	LIBSLIRP(MEMBER)
} lib; /* all NULL until it is loaded */

/* What epoll knows of a descriptor, by its number. */
struct sock {
	u32 armed; /* events asked of epoll */
	u32 ready; /* events it reported and slirp has not been told */
	u32 round; /* of fill in which slirp wanted it */
};

struct want {
	int fd;
	u32 events;
};

struct wants {
	struct want *w; /* owned */
	unsigned n, cap;
};

struct user_timer {
	SlirpTimerCb fn;
	void *opaque;
	u64 due; /* ns; NEVER: not armed */
	bool used;
};

struct kept {
	struct kept *next;
	size_t len;
	u8 data[];
};

struct user {
	struct net n;
	Slirp *slirp;
	struct gate *gate;
	int ep, timer; /* -1: not open */
	struct gate_watch on_ep, on_timer;
	struct sock *sock; /* owned, by descriptor */
	unsigned n_sock;
	struct wants now, before; /* of this fill and the last */
	u32 round;
	u64 armed; /* when the timerfd goes off */
	u64 due;   /* when slirp wants to be polled */
	struct user_timer timers[TIMERS_MAX];
	struct kept *first, **last;
	size_t kept;
	bool started, held;
	u8 frame[NET_FRAME_MAX];
};

static struct user *user_of(struct net *n)
{
	return container_of(n, struct user, n);
}

/* --- frames to the card ----------------------------------------------------------------------- */

static int deliver(struct user *u, const u8 *data, size_t len)
{
	struct iovec iov = { (void *)data, len };
	struct net_frame f = { .iov = &iov, .n = 1, .len = len, .o = { .valid = true } };

	return u->n.peer.receive(u->n.peer.opaque, &f);
}

static void keep(struct user *u, const u8 *data, size_t len)
{
	struct kept *k = u->kept + len <= KEPT_MAX ? malloc(sizeof(*k) + len) : NULL;

	if (!k) {
		u->n.dropped++;
		return;
	}
	k->next = NULL;
	k->len = len;
	memcpy(k->data, data, len);
	*u->last = k;
	u->last = &k->next;
	u->kept += len;
}

static void forget_first(struct user *u)
{
	struct kept *k = u->first;

	u->first = k->next;
	if (!u->first)
		u->last = &u->first;
	u->kept -= k->len;
	free(k);
}

static ssize_t on_packet(const void *data, size_t len, void *opaque)
{
	struct user *u = opaque;

	if (!u->started || len > NET_FRAME_MAX)
		u->n.dropped++;
	else if (u->first || deliver(u, data, len) < 0)
		keep(u, data, len);
	return (ssize_t)len;
}

/* --- which sockets to wait for ---------------------------------------------------------------- */

static struct sock *sock_of(struct user *u, int fd)
{
	if ((unsigned)fd >= u->n_sock) {
		unsigned n = ALIGN_UP((unsigned)fd + 1, 64u);
		struct sock *s = realloc(u->sock, n * sizeof(*s));

		if (!s)
			return NULL;
		memset(s + u->n_sock, 0, (n - u->n_sock) * sizeof(*s));
		u->sock = s;
		u->n_sock = n;
	}
	return &u->sock[fd];
}

/* A descriptor that was closed has left the set by itself; a new one may have its number. */
static void arm(struct user *u, int fd, struct sock *s, u32 events)
{
	struct epoll_event ev = { .events = events, .data.fd = fd };

	if (events == s->armed)
		return;
	if (!events)
		epoll_ctl(u->ep, EPOLL_CTL_DEL, fd, NULL);
	else if (epoll_ctl(u->ep, s->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev) < 0)
		epoll_ctl(u->ep, errno == EEXIST ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev);
	s->armed = events;
	s->ready &= events | EPOLLERR | EPOLLHUP;
}

static int on_add_poll(int fd, int events, void *opaque)
{
	struct user *u = opaque;
	struct wants *l = &u->now;
	u32 want = 0;

	if (!sock_of(u, fd))
		return -1; /* what slirp takes for "not polled" */
	want |= events & SLIRP_POLL_IN ? EPOLLIN : 0;
	want |= events & SLIRP_POLL_OUT ? EPOLLOUT : 0;
	want |= events & SLIRP_POLL_PRI ? EPOLLPRI : 0;
	if (l->n == l->cap) {
		unsigned cap = l->cap ? 2 * l->cap : 64;
		struct want *w = realloc(l->w, cap * sizeof(*w));

		if (!w)
			return -1;
		l->w = w;
		l->cap = cap;
	}
	l->w[l->n] = (struct want){ fd, want };
	return (int)l->n++;
}

static int on_get_revents(int i, void *opaque)
{
	struct user *u = opaque;
	u32 r;
	int events = 0;

	if (i < 0 || (unsigned)i >= u->now.n)
		return 0;
	r = u->sock[u->now.w[i].fd].ready;
	events |= r & EPOLLIN ? SLIRP_POLL_IN : 0;
	events |= r & EPOLLOUT ? SLIRP_POLL_OUT : 0;
	events |= r & EPOLLPRI ? SLIRP_POLL_PRI : 0;
	events |= r & EPOLLERR ? SLIRP_POLL_ERR : 0;
	events |= r & EPOLLHUP ? SLIRP_POLL_HUP : 0;
	return events;
}

static void on_register(int fd, void *opaque)
{
}

static void on_unregister(int fd, void *opaque)
{
	struct user *u = opaque;

	if ((unsigned)fd >= u->n_sock)
		return;
	arm(u, fd, &u->sock[fd], 0);
	u->sock[fd].ready = 0;
}

/* --- time ------------------------------------------------------------------------------------- */

static void set_timerfd(struct user *u)
{
	struct itimerspec when = { 0 };
	u64 due = u->due;

	for (unsigned i = 0; i < TIMERS_MAX; i++)
		if (u->timers[i].used)
			due = MIN(due, u->timers[i].due);
	/* One that goes off too early does no harm, and is cheaper than setting it each time. */
	if (due == NEVER || (u->armed != NEVER && u->armed <= due + TIMER_SLACK))
		return;
	u->armed = due;
	when.it_value.tv_sec = (time_t)(due / 1000000000u);
	when.it_value.tv_nsec = (long)(due % 1000000000u);
	timerfd_settime(u->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static int64_t on_clock(void *opaque)
{
	return (int64_t)host_ns();
}

static void *on_timer_new(SlirpTimerCb fn, void *cb_opaque, void *opaque)
{
	struct user *u = opaque;

	for (unsigned i = 0; i < TIMERS_MAX; i++) {
		if (u->timers[i].used)
			continue;
		u->timers[i] = (struct user_timer){ fn, cb_opaque, NEVER, true };
		return &u->timers[i];
	}
	return NULL;
}

static void on_timer_free(void *timer, void *opaque)
{
	if (timer)
		*(struct user_timer *)timer = (struct user_timer){ .due = NEVER };
}

static void on_timer_mod(void *timer, int64_t ms, void *opaque)
{
	if (timer)
		((struct user_timer *)timer)->due = (u64)ms * NS_PER_MS;
}

static void on_guest_error(const char *msg, void *opaque)
{
}

static void on_notify(void *opaque)
{
}

static const SlirpCb callbacks = {
	.send_packet = on_packet,
	.guest_error = on_guest_error,
	.clock_get_ns = on_clock,
	.timer_new = on_timer_new,
	.timer_free = on_timer_free,
	.timer_mod = on_timer_mod,
	.register_poll_fd = on_register,
	.unregister_poll_fd = on_unregister,
	.notify = on_notify,
};

/* --- the turn of events ----------------------------------------------------------------------- */

static void update_hold(struct user *u)
{
	bool want = u->gate && u->started && u->now.n;

	if (want == u->held)
		return;
	u->held = want;
	if (want)
		gate_hold(u->gate);
	else
		gate_release(u->gate);
}

/* Asks slirp what it waits for. After everything that may have changed it. */
static void refresh(struct user *u)
{
	struct wants old = u->before;
	u32 timeout = UINT32_MAX;
	struct sock *s;

	u->before = u->now;
	u->now = old;
	u->now.n = 0;
	u->round++;
	lib.slirp_pollfds_fill(u->slirp, &timeout, on_add_poll, u);
	for (unsigned i = 0; i < u->now.n; i++) {
		const struct want *w = &u->now.w[i];

		s = &u->sock[w->fd];
		s->round = u->round;
		arm(u, w->fd, s, w->events);
	}
	for (unsigned i = 0; i < u->before.n; i++) {
		s = &u->sock[u->before.w[i].fd];
		if (s->round != u->round)
			arm(u, u->before.w[i].fd, s, 0);
	}
	u->due = timeout == UINT32_MAX ? NEVER : host_ns() + timeout * NS_PER_MS;
	set_timerfd(u);
	update_hold(u);
}

static void tell_slirp(struct user *u)
{
	lib.slirp_pollfds_poll(u->slirp, 0, on_get_revents, u);
	for (unsigned i = 0; i < u->now.n; i++)
		u->sock[u->now.w[i].fd].ready = 0;
	refresh(u);
}

/* Tells slirp which sockets are ready, if any are. */
static void pump(struct user *u)
{
	struct epoll_event ev[BATCH];
	int n = u->first ? 0 : epoll_wait(u->ep, ev, BATCH, 0);

	for (int i = 0; i < n; i++)
		u->sock[ev[i].data.fd].ready = ev[i].events;
	if (n > 0)
		tell_slirp(u);
}

static void on_sockets(void *opaque, u32 events)
{
	struct user *u = opaque;

	pump(u);
	u->n.peer.received(u->n.peer.opaque);
	/* Kept frames: nothing is read until there is room. */
	if (u->first)
		gate_watch_events(u->gate, &u->on_ep, 0);
}

static void on_time(void *opaque, u32 events)
{
	struct user *u = opaque;
	u64 count, now = host_ns();

	if (read(u->timer, &count, sizeof(count)) < 0)
		return;
	u->armed = NEVER;
	for (unsigned i = 0; i < TIMERS_MAX; i++) {
		struct user_timer *t = &u->timers[i];

		if (!t->used || t->due > now)
			continue;
		t->due = NEVER;
		t->fn(t->opaque);
	}
	tell_slirp(u);
	u->n.peer.received(u->n.peer.opaque);
}

/* --- operations ------------------------------------------------------------------------------- */

static void on_finished(void *opaque, u8 *frame, size_t len)
{
	lib.slirp_input(((struct user *)opaque)->slirp, frame, (int)len);
}

static int user_send(struct net *n, const struct net_frame *f)
{
	struct user *u = user_of(n);

	iov_read(f->iov, f->n, 0, u->frame, f->len);
	net_frame_finish(u->frame, f->len, &f->o, true, on_finished, u);
	return 0;
}

/* What the guest sent may have made room in windows, and sockets be ready at once. */
static void user_sent(struct net *n)
{
	struct user *u = user_of(n);

	refresh(u);
	pump(u);
}

static void user_room(struct net *n)
{
	struct user *u = user_of(n);

	while (u->first && deliver(u, u->first->data, u->first->len) == 0)
		forget_first(u);
	if (!u->first && u->gate)
		gate_watch_events(u->gate, &u->on_ep, EPOLLIN);
}

static void user_start(struct net *n, unsigned takes)
{
	struct user *u = user_of(n);

	u->started = true;
	if (u->gate)
		gate_watch_events(u->gate, &u->on_ep, EPOLLIN);
	refresh(u);
}

static void user_stop(struct net *n)
{
	struct user *u = user_of(n);

	u->started = false;
	while (u->first)
		forget_first(u);
	if (u->gate)
		gate_watch_events(u->gate, &u->on_ep, 0);
	update_hold(u);
}

static int user_attach(struct net *n, struct gate *gate, struct gclock *clk)
{
	struct user *u = user_of(n);
	int r;

	if (!gate)
		return 0;
	u->on_ep = (struct gate_watch){ .fn = on_sockets, .opaque = u };
	u->on_timer = (struct gate_watch){ .fn = on_time, .opaque = u };
	r = gate_watch(gate, &u->on_ep, u->ep, 0);
	if (r == 0)
		r = gate_watch(gate, &u->on_timer, u->timer, EPOLLIN);
	u->gate = gate;
	return r;
}

static void user_detach(struct net *n)
{
	struct user *u = user_of(n);

	user_stop(n);
	if (!u->gate)
		return;
	gate_unwatch(u->gate, &u->on_ep);
	gate_unwatch(u->gate, &u->on_timer);
	u->gate = NULL;
}

static void user_free(struct net *n)
{
	struct user *u = user_of(n);

	if (u->slirp)
		lib.slirp_cleanup(u->slirp);
	while (u->first)
		forget_first(u);
	if (u->ep >= 0)
		close(u->ep);
	if (u->timer >= 0)
		close(u->timer);
	free(u->sock);
	free(u->now.w);
	free(u->before.w);
	free(u);
}

static const struct net_ops user_ops = {
	.name = "user",
	.attach = user_attach,
	.start = user_start,
	.stop = user_stop,
	.send = user_send,
	.sent = user_sent,
	.room = user_room,
	.detach = user_detach,
	.free = user_free,
};

/* --- opening ---------------------------------------------------------------------------------- */

static struct in_addr in_addr(u32 a)
{
	return (struct in_addr){ .s_addr = htonl(a) };
}

/*
 * slirp lets one caller wait to be accepted, and the host makes others try again after a second.
 * They come to the VM's thread, which may have something else to do.
 */
static int queue_callers(int fd, int events, void *opaque)
{
	socklen_t len = sizeof(int);
	int listens = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens)
		(void)!listen(fd, SOMAXCONN);
	return -1; /* not polled */
}

static int add_forward(struct user *u, const struct net_user_cfg *cfg, const struct net_forward *f,
		       struct err *e)
{
	u32 guest = f->guest_addr ? f->guest_addr : cfg->network + 15;
	int r;

	errno = 0;
	if (lib.slirp_add_hostfwd(u->slirp, f->udp, in_addr(f->host_addr), f->host_port,
				  in_addr(guest), f->guest_port) == 0)
		return 0;
	r = errno ? -errno : -EINVAL;
	if (r == -EADDRINUSE)
		return err_set(
			e, r,
			"%s: hostfwd=%s: the host's port %u is in use; choose another, or end "
			"what listens there",
			cfg->opt, f->text, f->host_port);
	if (r == -EACCES)
		return err_set(e, r,
			       "%s: hostfwd=%s: not permitted to listen on port %u of the host; "
			       "choose one from 1024 on",
			       cfg->opt, f->text, f->host_port);
	if (r == -EADDRNOTAVAIL)
		return err_set(e, r, "%s: hostfwd=%s: the host has no such address", cfg->opt,
			       f->text);
	return err_sys(e, r, "%s: hostfwd=%s: cannot listen on the host's port %u", cfg->opt,
		       f->text, f->host_port);
}

/* Fills lib, once in a process. */
static int load_slirp_locked(const char *opt, struct err *e)
{
#define NAME(name) { #name, (void **)&found.name },
	struct libslirp found;
	const struct {
		const char *name;
		void **to;
	} names[] = { LIBSLIRP(NAME) };
	void *h;

	if (lib.slirp_new)
		return 0;
	h = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!h)
		return err_set(e, -ENOENT, "%s: %s; the package libslirp0 has it", opt, dlerror());
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		*names[i].to = dlsym(h, names[i].name);
		if (!*names[i].to) {
			err_set(e, -ENOENT, "%s: %s is too old: it has no %s", opt, LIBRARY,
				names[i].name);
			dlclose(h);
			return -ENOENT;
		}
	}
	lib = found;
	return 0;
}

static int load_slirp(const char *opt, struct err *e)
{
	/* VMs of a program (include/orrery) may be made on several threads at once. */
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int r;

	pthread_mutex_lock(&lock);
	r = load_slirp_locked(opt, e);
	pthread_mutex_unlock(&lock);
	return r;
}

const char *net_user_version(void)
{
	struct err e;

	return load_slirp("", &e) == 0 ? lib.slirp_version_string() : NULL;
}

static int new_slirp(struct user *u, const struct net_user_cfg *cfg)
{
	SlirpConfig sc = {
		.version = 1,
		.restricted = cfg->restricted,
		.in_enabled = true,
		.vnetwork = in_addr(cfg->network),
		.vnetmask = in_addr(0xffffff00u),
		.vhost = in_addr(cfg->network + 2),
		.vnameserver = in_addr(cfg->network + 3),
		.vdhcp_start = in_addr(cfg->network + 15),
		.in6_enabled = cfg->ipv6,
		.vprefix_len = 64,
		.vhostname = "orrery",
		.if_mtu = cfg->mtu,
		.if_mru = cfg->mtu,
	};
	/* fec0:NET::/64, as with others who use this library; the third byte tells networks apart. */
	static const u8 prefix[16] = { 0xfe, 0xc0 };

	memcpy(&sc.vprefix_addr6, prefix, sizeof(prefix));
	sc.vprefix_addr6.s6_addr[7] = (u8)(cfg->network >> 8) - 2;
	sc.vhost6 = sc.vnameserver6 = sc.vprefix_addr6;
	sc.vhost6.s6_addr[15] = 2;
	sc.vnameserver6.s6_addr[15] = 3;
	u->slirp = lib.slirp_new(&sc, &callbacks, u);
	return u->slirp ? 0 : -ENOMEM;
}

int net_user_open(const struct net_user_cfg *cfg, struct err *e, struct net **ret)
{
	struct user *u = calloc(1, sizeof(*u));
	u32 timeout = UINT32_MAX;
	int r;

	if (!u)
		return err_set(e, -ENOMEM, "%s: out of memory", cfg->opt);
	r = load_slirp(cfg->opt, e);
	if (r < 0) {
		free(u);
		return r;
	}
	u->n = (struct net){ .ops = &user_ops, .link = true };
	u->last = &u->first;
	u->armed = u->due = NEVER;
	u->ep = epoll_create1(EPOLL_CLOEXEC);
	u->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	r = u->ep < 0 || u->timer < 0 ? -errno : new_slirp(u, cfg);
	if (r < 0)
		err_sys(e, r, "%s: cannot set up the user network", cfg->opt);
	for (unsigned i = 0; r == 0 && i < cfg->n_fwd; i++)
		r = add_forward(u, cfg, &cfg->fwd[i], e);
	if (r == 0)
		lib.slirp_pollfds_fill(u->slirp, &timeout, queue_callers, u);
	if (r < 0) {
		user_free(&u->n);
		return r;
	}
	*ret = &u->n;
	return 0;
}
