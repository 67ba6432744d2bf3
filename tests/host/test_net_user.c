// SPDX-License-Identifier: Apache-2.0
/*
 * test_net_user.c - the network in user space, frame by frame, against sockets of this host
 *
 * The test is the card and, in a few lines, the guest's TCP: it makes segments by hand and expects
 * the next byte of each direction. What libslirp does is its own; that its sockets are waited for,
 * read, written and closed when they should be is ours, and shows here as a connection that stalls,
 * loses its end, or answers for ever.
 */
#include "host/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#define NETWORK 0x0a000200u /* 10.0.2.0 */
#define GATEWAY (NETWORK + 2)
#define GUEST (NETWORK + 15)
#define KEPT 512u
#define IP 14u
#define L4 34u
#define FIN 1u
#define SYN 2u
#define RST 4u
#define PSH 8u
#define ACK 16u

static const u8 guest_mac[6] = { 2, 0, 0, 0, 0, 1 };

struct frame {
	size_t len;
	u8 b[2048];
};

struct rig {
	struct net *n;
	struct gate *g;
	struct frame f[KEPT];
	unsigned have, taken;
	u8 gateway_mac[6];
};

/* A connection, as the guest sees it. */
struct tcp {
	u16 port, peer_port;
	u32 peer, seq, ack, window;
	u8 flags; /* of the last segment taken, and its data */
	const u8 *data;
	size_t len;
};

/* --- bytes ------------------------------------------------------------------------------------ */

static void put16(u8 *p, unsigned v)
{
	p[0] = (u8)(v >> 8);
	p[1] = (u8)v;
}

static void put32(u8 *p, u32 v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

static u32 get16(const u8 *p)
{
	return (u32)p[0] << 8 | p[1];
}

static u32 get32(const u8 *p)
{
	return get16(p) << 16 | get16(p + 2);
}

static u32 sum(const u8 *p, size_t len, u32 s)
{
	for (size_t i = 0; i < len; i++)
		s += i & 1 ? p[i] : (u32)p[i] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

/* --- the card --------------------------------------------------------------------------------- */

static int on_receive(void *o, const struct net_frame *f)
{
	struct rig *r = o;
	struct frame *k;

	if (r->have == KEPT)
		return -EAGAIN;
	k = &r->f[r->have++];
	assert_true(f->len <= sizeof(k->b));
	k->len = iov_read(f->iov, f->n, 0, k->b, sizeof(k->b));
	return 0;
}

static void on_any(void *o)
{
}

static void on_link(void *o, bool link)
{
}

static void on_held(void *o, bool held)
{
}

static void send_frame(struct rig *r, u8 *f, size_t len)
{
	struct iovec iov = { f, len };
	struct net_frame nf = { .iov = &iov, .n = 1, .len = len };

	assert_int_equal(r->n->ops->send(r->n, &nf), 0);
	r->n->ops->sent(r->n);
}

/* The next frame that is not taken yet, or NULL. Waits for it if told to. */
static const struct frame *next_frame(struct rig *r, bool wait)
{
	struct pollfd p = { .fd = gate_fd(r->g), .events = POLLIN };

	while (r->taken == r->have) {
		r->taken = r->have = 0;
		if (poll(&p, 1, wait ? 20000 : 0) == 0) {
			if (wait)
				fail_msg("nothing comes");
			return NULL;
		}
		gate_dispatch(r->g);
		if (r->have == 0 && !wait)
			return NULL;
	}
	return &r->f[r->taken++];
}

/* Looks after the host's sockets until none has anything to say. */
static void pump(struct rig *r)
{
	struct pollfd p = { .fd = gate_fd(r->g), .events = POLLIN };

	for (unsigned i = 0; i < 1000 && poll(&p, 1, 0) > 0; i++)
		gate_dispatch(r->g);
	assert_int_equal(poll(&p, 1, 0), 0); /* nothing is reported for ever */
}

static void down(struct rig *r)
{
	r->n->ops->detach(r->n);
	assert_false(gate_held(r->g));
	gate_dispatch(r->g);
	gate_free(r->g);
	net_free(r->n);
	free(r);
}

static struct rig *up(const struct net_forward *fwd, unsigned n_fwd)
{
	struct net_user_cfg cfg = {
		.opt = "--net user", .network = NETWORK, .mtu = 1500, .fwd = fwd, .n_fwd = n_fwd
	};
	struct gate_cfg gc = { .kick = on_any, .held = on_held };
	struct rig *r = calloc(1, sizeof(*r));
	u8 arp[42] = { 255, 255, 255, 255, 255, 255, [12] = 8, 6, 0, 1, 8, 0, 6, 4, 0, 1 };
	const struct frame *f;
	struct err e;

	if (net_user_open(&cfg, &e, &r->n) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(gate_new(&gc, &r->g), 0);
	r->n->peer = (struct net_peer){ on_receive, on_any, on_any, on_link, r };
	assert_int_equal(r->n->ops->attach(r->n, r->g, NULL), 0);
	r->n->ops->start(r->n, 0);
	memcpy(arp + 6, guest_mac, 6);
	memcpy(arp + 22, guest_mac, 6);
	put32(arp + 28, GUEST);
	put32(arp + 38, GATEWAY);
	send_frame(r, arp, sizeof(arp));
	f = next_frame(r, true);
	assert_int_equal(get16(f->b + 20), 2); /* a reply */
	memcpy(r->gateway_mac, f->b + 22, 6);
	return r;
}

/* Headers below the fourth layer, for @len bytes that are there already, and their checksum. */
static void send_ip(struct rig *r, u8 *f, u32 dst, u8 proto, size_t len, size_t sum_at)
{
	memcpy(f, r->gateway_mac, 6);
	memcpy(f + 6, guest_mac, 6);
	put16(f + 12, 0x0800);
	memset(f + IP, 0, 20);
	f[IP] = 0x45;
	put16(f + IP + 2, (unsigned)(20 + len));
	f[IP + 8] = 64;
	f[IP + 9] = proto;
	put32(f + IP + 12, GUEST);
	put32(f + IP + 16, dst);
	put16(f + IP + 10, 0xffff & ~sum(f + IP, 20, 0));
	put16(f + L4 + sum_at, 0);
	put16(f + L4 + sum_at,
	      0xffff & ~sum(f + L4, len,
			    proto == IPPROTO_ICMP ? 0 : sum(f + IP + 12, 8, proto + (u32)len)));
	send_frame(r, f, L4 + len);
}

/* --- TCP, the guest's side -------------------------------------------------------------------- */

static void tcp_send(struct rig *r, struct tcp *c, u8 flags, const void *data, size_t len)
{
	u8 f[2048];

	memset(f + L4, 0, 20);
	put16(f + L4, c->port);
	put16(f + L4 + 2, c->peer_port);
	put32(f + L4 + 4, c->seq);
	put32(f + L4 + 8, flags & ACK ? c->ack : 0);
	f[L4 + 12] = 0x50;
	f[L4 + 13] = flags;
	put16(f + L4 + 14, 60000);
	if (len)
		memcpy(f + L4 + 20, data, len);
	send_ip(r, f, c->peer, IPPROTO_TCP, 20 + len, 16);
	c->seq += (u32)len + (flags & (SYN | FIN) ? 1 : 0);
}

/* Takes in a segment; checks that it is whole and the next one. */
static void tcp_take(struct tcp *c, const struct frame *f)
{
	const u8 *t = f->b + L4;
	size_t total = get16(f->b + IP + 2), head;

	assert_true(total + IP <= f->len);
	assert_int_equal(sum(f->b + IP, 20, 0), 0xffff);
	assert_int_equal(sum(t, total - 20, sum(f->b + IP + 12, 8, IPPROTO_TCP + (u32)total - 20)),
			 0xffff);
	assert_int_equal(get32(f->b + IP + 12), c->peer);
	assert_int_equal(get16(t), c->peer_port);
	assert_int_equal(get16(t + 2), c->port);
	head = (size_t)(t[12] >> 4) * 4;
	c->flags = t[13];
	c->data = t + head;
	c->len = total - 20 - head;
	c->window = get16(t + 14);
	if (c->flags & SYN)
		c->ack = get32(t + 4);
	if (!(c->flags & RST))
		assert_int_equal(get32(t + 4), c->ack);
	c->ack += (u32)c->len + (c->flags & (SYN | FIN) ? 1 : 0);
}

static bool is_for(const struct frame *f, const struct tcp *c)
{
	return f->len >= L4 + 20 && get16(f->b + 12) == 0x0800 && f->b[IP + 9] == IPPROTO_TCP &&
	       get16(f->b + L4 + 2) == c->port;
}

/* The next segment of @c; false: none, unless it is waited for. Other frames are lost. */
static bool tcp_next(struct rig *r, struct tcp *c, bool wait)
{
	const struct frame *f;

	do {
		f = next_frame(r, wait);
	} while (f && !is_for(f, c));
	if (f)
		tcp_take(c, f);
	return f;
}

static struct tcp tcp_connect(struct rig *r, u16 port, u16 peer_port)
{
	struct tcp c = {
		.port = port, .peer_port = peer_port, .peer = GATEWAY, .seq = 4000000000u
	};

	tcp_send(r, &c, SYN, NULL, 0);
	tcp_next(r, &c, true);
	assert_int_equal(c.flags, SYN | ACK);
	tcp_send(r, &c, ACK, NULL, 0);
	return c;
}

/* --- the host's side -------------------------------------------------------------------------- */

static int listen_on(u32 addr, int type, u16 *ret_port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(addr) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	a.sin_port = htons(*ret_port);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*ret_port = ntohs(a.sin_port);
	return fd;
}

static int connect_to(u32 addr, u16 port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(addr) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_port = htons(port);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static void read_all(int fd, void *buf, size_t len)
{
	assert_int_equal(recv(fd, buf, len, MSG_WAITALL), len);
}

/* --- cases ------------------------------------------------------------------------------------ */

/* Nobody listens: an answer at once, not silence. */
static void refused(void **s)
{
	struct rig *r = up(NULL, 0);
	struct tcp c = { .port = 1000, .peer = GATEWAY, .seq = 77 };
	int fd = listen_on(INADDR_LOOPBACK, SOCK_STREAM, &c.peer_port);

	close(fd);
	tcp_send(r, &c, SYN, NULL, 0);
	tcp_next(r, &c, true);
	assert_int_equal(c.flags & RST, RST);
	pump(r);
	down(r);
}

/* Bytes both ways, in sequence; an acknowledgement is not answered; each end is told of alone. */
static void talks(void **s)
{
	struct rig *r = up(NULL, 0);
	u16 port = 0;
	int l = listen_on(INADDR_LOOPBACK, SOCK_STREAM, &port), fd;
	struct tcp c = tcp_connect(r, 1001, port), old;
	char buf[16];

	fd = accept(l, NULL, NULL);
	tcp_send(r, &c, ACK | PSH, "question", 8);
	read_all(fd, buf, 8);
	assert_memory_equal(buf, "question", 8);
	pump(r);
	while (tcp_next(r, &c, false))
		assert_int_equal(c.len, 0);
	/* Sent again, as if the acknowledgement were lost: delivered once, acknowledged again. */
	old = c;
	c.seq -= 8;
	tcp_send(r, &c, ACK | PSH, "question", 8);
	tcp_next(r, &c, true);
	assert_int_equal(c.ack, old.ack);
	assert_int_equal(recv(fd, buf, 8, MSG_DONTWAIT), -1);
	/* And an answer, in two writes. */
	assert_int_equal(write(fd, "ans", 3), 3);
	tcp_next(r, &c, true);
	assert_int_equal(c.len, 3);
	assert_memory_equal(c.data, "ans", 3);
	tcp_send(r, &c, ACK, NULL, 0);
	assert_int_equal(write(fd, "wer", 3), 3);
	tcp_next(r, &c, true);
	assert_memory_equal(c.data, "wer", 3);
	tcp_send(r, &c, ACK, NULL, 0);
	pump(r);
	assert_false(tcp_next(r, &c, false));
	/* The host ends its half behind its last bytes; the guest's goes on, and ends with data. */
	assert_int_equal(write(fd, "bye", 3), 3);
	shutdown(fd, SHUT_WR);
	for (size_t got = 0; !(c.flags & FIN); got += c.len) {
		assert_true(got <= 3);
		tcp_next(r, &c, true);
	}
	tcp_send(r, &c, ACK, NULL, 0);
	tcp_send(r, &c, ACK | PSH | FIN, "last", 4);
	read_all(fd, buf, 4);
	assert_memory_equal(buf, "last", 4);
	pump(r);
	assert_int_equal(recv(fd, buf, 1, 0), 0);
	close(fd);
	close(l);
	down(r);
}

/* A host that does not read: the window closes, no byte is lost, and it opens again. */
static void slow_reader(void **s)
{
	enum { TOTAL = 400000, PIECE = 1400, READ = 50000 };
	struct rig *r = up(NULL, 0);
	u8 *data = malloc(TOTAL), *got = malloc(TOTAL);
	u16 port = 0;
	int l = listen_on(INADDR_LOOPBACK, SOCK_STREAM, &port), fd, small = 8192;
	struct tcp c;
	u32 base, acked = 0, at = 0;
	size_t received = 0;

	setsockopt(l, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	for (u32 i = 0; i < TOTAL; i++)
		data[i] = (u8)(i * 7 + i / 256 * 3);
	c = tcp_connect(r, 1002, port);
	base = c.seq;
	fd = accept(l, NULL, NULL);
	for (unsigned i = 0; received < TOTAL; i++) {
		const struct frame *f;

		assert_true(i < 100000);
		while (at < TOTAL && at - acked + PIECE <= c.window) {
			u32 n = MIN(TOTAL - at, (u32)PIECE);

			tcp_send(r, &c, ACK, data + at, n);
			at += n;
		}
		pump(r);
		while ((f = next_frame(r, false))) {
			if (!is_for(f, &c))
				continue;
			tcp_take(&c, f);
			acked = get32(f->b + L4 + 8) - base;
			assert_true(acked <= at);
		}
		/* Only when nothing more can be sent. */
		if (at == TOTAL || at - acked + PIECE > c.window) {
			ssize_t n = recv(fd, got + received, MIN((size_t)READ, TOTAL - received),
					 MSG_DONTWAIT);

			received += n > 0 ? (size_t)n : 0;
		}
	}
	assert_memory_equal(got, data, TOTAL);
	close(fd);
	close(l);
	free(data);
	free(got);
	down(r);
}

/* Connections from outside: several at once to one port, one refused by the guest. */
static void from_outside(void **s)
{
	enum { N = 6 };
	struct net_forward fwd = { .host_addr = INADDR_LOOPBACK, .guest_port = 80, .text = "x" };
	struct tcp c[N] = { 0 };
	struct rig *r;
	int fd[N], l;
	char buf[8];

	l = listen_on(INADDR_LOOPBACK, SOCK_STREAM, &fwd.host_port);
	close(l);
	r = up(&fwd, 1);
	for (unsigned i = 0; i < N; i++)
		fd[i] = connect_to(INADDR_LOOPBACK, fwd.host_port);
	for (unsigned i = 0; i < N; i++) {
		const struct frame *f;

		c[i] = (struct tcp){ .port = 80, .peer = GATEWAY, .seq = 1000 * i };
		while (!is_for(f = next_frame(r, true), &c[i]))
			;
		c[i].peer_port = (u16)get16(f->b + L4);
		tcp_take(&c[i], f);
		assert_int_equal(c[i].flags, SYN);
		for (unsigned k = 0; k < i; k++)
			assert_int_not_equal(c[k].peer_port, c[i].peer_port);
	}
	/* The guest refuses the first: its caller learns it, nobody else does. */
	tcp_send(r, &c[0], RST | ACK, NULL, 0);
	pump(r);
	assert_true(recv(fd[0], buf, 1, 0) <= 0);
	for (unsigned i = 1; i < N; i++) {
		tcp_send(r, &c[i], SYN | ACK, NULL, 0);
		tcp_next(r, &c[i], true);
		assert_int_equal(c[i].flags & (SYN | ACK | RST), ACK);
	}
	for (unsigned i = N - 1; i; i--) {
		buf[0] = (char)('a' + i);
		assert_int_equal(write(fd[i], buf, 1), 1);
		do {
			tcp_next(r, &c[i], true);
		} while (!c[i].len);
		assert_int_equal(c[i].data[0], 'a' + i);
		tcp_send(r, &c[i], ACK | PSH, c[i].data, 1);
		read_all(fd[i], buf + 1, 1);
		assert_int_equal(buf[1], 'a' + i);
	}
	for (unsigned i = 0; i < N; i++)
		close(fd[i]);
	down(r);
}

/* A forward is an address, a port and a protocol: any of them may be another. */
static void forwards(void **s)
{
	struct net_forward fwd[] = {
		{ .host_addr = INADDR_LOOPBACK, .guest_port = 80, .text = "tcp" },
		{ .udp = true, .host_addr = INADDR_LOOPBACK, .guest_port = 81, .text = "udp" },
		{ .host_addr = INADDR_LOOPBACK + 1, .guest_port = 82, .text = "other" },
		{ .host_addr = INADDR_LOOPBACK + 1, .guest_port = 83, .text = "again" },
	};
	struct net_user_cfg cfg = {
		.opt = "--net user", .network = NETWORK, .mtu = 1500, .fwd = fwd, .n_fwd = 4
	};
	u16 port = 0;
	int fd = listen_on(INADDR_LOOPBACK, SOCK_STREAM, &port);
	struct net *n = NULL;
	struct rig *r;
	struct err e;

	close(fd);
	for (unsigned i = 0; i < 4; i++)
		fwd[i].host_port = port;
	assert_int_equal(net_user_open(&cfg, &e, &n), -EADDRINUSE);
	assert_non_null(strstr(e.msg, "hostfwd=again"));
	assert_null(n);
	r = up(fwd, 3);
	for (unsigned i = 0; i < 3; i += 2) {
		struct tcp c = { .port = (u16)(80 + i) };

		fd = connect_to(INADDR_LOOPBACK + i / 2, port);
		while (!is_for(next_frame(r, true), &c))
			;
		close(fd);
	}
	down(r);
}

/* Datagrams: the answer comes from whom was asked. */
static void datagrams(void **s)
{
	struct rig *r = up(NULL, 0);
	u16 port[2] = { 0 };
	int fd[2];
	u8 f[128];

	for (unsigned i = 0; i < 2; i++)
		fd[i] = listen_on(INADDR_LOOPBACK, SOCK_DGRAM, &port[i]);
	for (unsigned i = 0; i < 2; i++) {
		struct sockaddr_in a;
		socklen_t len = sizeof(a);
		const struct frame *got;
		char buf[16];

		put16(f + L4, 2000);
		put16(f + L4 + 2, port[i]);
		put16(f + L4 + 4, 8 + 4);
		memcpy(f + L4 + 8, i ? "two?" : "one?", 4);
		send_ip(r, f, GATEWAY, IPPROTO_UDP, 12, 6);
		assert_int_equal(recvfrom(fd[i], buf, sizeof(buf), 0, (struct sockaddr *)&a, &len),
				 4);
		assert_int_equal(sendto(fd[i], i ? "2" : "1", 1, 0, (struct sockaddr *)&a, len), 1);
		do {
			got = next_frame(r, true);
		} while (got->b[IP + 9] != IPPROTO_UDP);
		assert_int_equal(get32(got->b + IP + 12), GATEWAY);
		assert_int_equal(get16(got->b + L4), port[i]);
		assert_int_equal(get16(got->b + L4 + 2), 2000);
		assert_int_equal(got->b[L4 + 8], i ? '2' : '1');
	}
	close(fd[0]);
	close(fd[1]);
	down(r);
}

/* An echo of the gateway has the number, sequence and bytes of its question. */
static void ping(void **s)
{
	struct rig *r = up(NULL, 0);
	const struct frame *got;
	u8 f[128] = { 0 };

	f[L4] = 8;
	f[L4 + 1] = 0;
	put16(f + L4 + 4, 0x1234);
	put16(f + L4 + 6, 7);
	memcpy(f + L4 + 8, "payload", 7);
	send_ip(r, f, GATEWAY, IPPROTO_ICMP, 15, 2);
	got = next_frame(r, true);
	assert_int_equal(got->b[IP + 9], IPPROTO_ICMP);
	assert_int_equal(got->b[L4], 0);
	assert_int_equal(get16(got->b + L4 + 4), 0x1234);
	assert_int_equal(get16(got->b + L4 + 6), 7);
	assert_memory_equal(got->b + L4 + 8, "payload", 7);
	assert_int_equal(sum(got->b + L4, 15, 0), 0xffff);
	down(r);
}

/* A card without room: nothing is lost, and the host's sockets are not read on and on. */
static void no_room(void **s)
{
	enum { N = 40000 };
	struct rig *r = up(NULL, 0);
	u16 port = 0;
	int l = listen_on(INADDR_LOOPBACK, SOCK_STREAM, &port), fd;
	struct tcp c = tcp_connect(r, 1003, port);
	static u8 data[N];
	size_t got = 0;

	fd = accept(l, NULL, NULL);
	for (unsigned i = 0; i < N; i++)
		data[i] = (u8)(i * 3 + i / 256);
	assert_int_equal(write(fd, data, N), N);
	r->have = r->taken = KEPT;
	pump(r); /* which must end, although the socket has more */
	r->have = r->taken = 0;
	r->n->ops->room(r->n);
	while (got < N) {
		tcp_next(r, &c, true);
		assert_true(got + c.len <= N);
		assert_memory_equal(c.data, data + got, c.len);
		got += c.len;
		tcp_send(r, &c, ACK, NULL, 0);
	}
	close(fd);
	close(l);
	down(r);
}

/* The card goes while bytes are under way, and comes back: nothing of the old ones reaches it. */
static void stops(void **s)
{
	struct rig *r = up(NULL, 0);
	u16 port = 0;
	int l = listen_on(INADDR_LOOPBACK, SOCK_STREAM, &port), fd;
	struct tcp c = tcp_connect(r, 1004, port);

	fd = accept(l, NULL, NULL);
	assert_true(gate_held(r->g)); /* an idle guest waits for the connection */
	r->n->ops->stop(r->n);
	assert_false(gate_held(r->g));
	r->have = r->taken = 0;
	assert_int_equal(write(fd, "late", 4), 4);
	pump(r);
	assert_int_equal(r->have, 0);
	r->n->ops->start(r->n, 0);
	tcp_next(r, &c, true);
	assert_memory_equal(c.data, "late", 4);
	/* Gone for good, with more to come. */
	assert_int_equal(write(fd, "more", 4), 4);
	r->have = r->taken = 0;
	r->n->ops->detach(r->n);
	gate_dispatch(r->g);
	assert_int_equal(r->have, 0);
	close(fd);
	close(l);
	gate_free(r->g);
	net_free(r->n);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused),     cmocka_unit_test(talks),
		cmocka_unit_test(slow_reader), cmocka_unit_test(from_outside),
		cmocka_unit_test(forwards),    cmocka_unit_test(datagrams),
		cmocka_unit_test(ping),	       cmocka_unit_test(no_room),
		cmocka_unit_test(stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
