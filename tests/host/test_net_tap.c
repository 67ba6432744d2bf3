// SPDX-License-Identifier: Apache-2.0
/*
 * test_net_tap.c - the tap back end, with a socket in place of the interface
 *
 * A socket that keeps messages apart behaves as a tap's descriptor does. What the kernel would be
 * asked by ioctl(2) is remembered instead.
 */
#include "host/net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

#define HDR 12u

/* --- the host --------------------------------------------------------------------------------- */

static struct {
	int fd; /* the interface: what the back end opened is its other end */
	int tun;
	unsigned long offload;
	unsigned offloads;
	short flags;
	int hdr, refuse; /* TUNSETIFF fails with it */
} host = { .fd = -1 };

unsigned if_nametoindex(const char *name)
{
	return strncmp(name, "none", 4) ? 7 : 0;
}

int open(const char *path, int flags, ...)
{
	int pair[2];

	if (strcmp(path, "/dev/net/tun") != 0)
		return (int)syscall(SYS_openat, AT_FDCWD, path, flags, 0);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	host.fd = pair[0];
	host.tun = pair[1];
	return pair[1];
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	assert_int_equal(fd, host.tun);
	switch (request) {
	case TUNSETIFF:
		host.flags = ((struct ifreq *)arg)->ifr_flags;
		errno = host.refuse;
		return host.refuse ? -1 : 0;
	case TUNSETVNETHDRSZ:
		host.hdr = *(int *)arg;
		return 0;
	case TUNSETOFFLOAD:
		host.offload = (unsigned long)arg;
		host.offloads++;
		return 0;
	default:
		fail_msg("ioctl %lx", request);
		return -1;
	}
}

/* --- the card --------------------------------------------------------------------------------- */

struct rig {
	struct net *n;
	struct gate *g;
	bool full; /* the card has no room */
	unsigned got, ready, links;
	bool link;
	size_t len;
	struct net_offload o;
	u8 data[70000];
};

static int on_receive(void *opaque, const struct net_frame *f)
{
	struct rig *r = opaque;

	if (r->full)
		return -EAGAIN;
	r->got++;
	r->o = f->o;
	r->len = iov_read(f->iov, f->n, 0, r->data, sizeof(r->data));
	return 0;
}

static void on_received(void *opaque)
{
}

static void on_ready(void *opaque)
{
	((struct rig *)opaque)->ready++;
}

static void on_link(void *opaque, bool up)
{
	((struct rig *)opaque)->link = up;
	((struct rig *)opaque)->links++;
}

static void on_kick(void *opaque)
{
}

static void on_held(void *opaque, bool held)
{
}

static void pump(struct rig *r)
{
	struct pollfd p = { .fd = gate_fd(r->g), .events = POLLIN };

	for (unsigned i = 0; i < 1000 && poll(&p, 1, 0) > 0; i++)
		gate_dispatch(r->g);
	assert_int_equal(poll(&p, 1, 0), 0); /* nothing is reported for ever */
}

static struct rig *up(unsigned takes)
{
	struct gate_cfg gc = { .kick = on_kick, .held = on_held };
	struct rig *r = calloc(1, sizeof(*r));
	struct err e;

	memset(&host, 0, sizeof(host));
	if (net_tap_open("--net tap", "tap0", &e, &r->n) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(gate_new(&gc, &r->g), 0);
	r->n->peer = (struct net_peer){ on_receive, on_received, on_ready, on_link, r };
	assert_int_equal(r->n->ops->attach(r->n, r->g, NULL), 0);
	r->n->ops->start(r->n, takes);
	return r;
}

static void down(struct rig *r)
{
	r->n->ops->detach(r->n);
	assert_false(gate_held(r->g));
	gate_dispatch(r->g);
	gate_free(r->g);
	net_free(r->n);
	if (host.fd >= 0)
		close(host.fd);
	free(r);
}

static int send_frame(struct rig *r, const void *data, size_t len, const struct net_offload *o)
{
	struct iovec iov[2] = { { (void *)(size_t)data, 3 }, { (u8 *)(size_t)data + 3, len - 3 } };
	struct net_frame f = { .iov = iov, .n = 2, .len = len };

	if (o)
		f.o = *o;
	return r->n->ops->send(r->n, &f);
}

/* --- cases ------------------------------------------------------------------------------------ */

/* Whoever is behind the interface may leave undone what the card takes, and nothing else. */
static void offloads(void **s)
{
	struct rig *r = up(0);

	assert_int_equal(host.flags, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	assert_int_equal(host.hdr, HDR);
	assert_int_equal(host.offloads, 1);
	assert_int_equal(host.offload, 0);
	/* The driver changes its mind, or is another one. */
	r->n->ops->start(r->n, NET_TAKES_CSUM | NET_TAKES_TSO4 | NET_TAKES_ECN);
	assert_int_equal(host.offload, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO_ECN);
	r->n->ops->stop(r->n);
	r->n->ops->start(r->n, NET_TAKES_CSUM | NET_TAKES_TSO6);
	assert_int_equal(host.offload, TUN_F_CSUM | TUN_F_TSO6);
	assert_true(gate_held(r->g));
	down(r);
}

/* The header is 12 bytes both ways, and says what is undone. */
static void both_ways(void **s)
{
	const struct net_offload o = { .partial = true,
				       .gso = NET_GSO_TCP4,
				       .gso_size = 500,
				       .hdr_len = 54,
				       .csum_start = 34,
				       .csum_offset = 16 };
	struct rig *r = up(NET_TAKES_CSUM | NET_TAKES_TSO4);
	u8 f[HDR + 1000] = { 0 }, got[HDR + 1000];
	struct virtio_net_hdr_v1 h;

	for (size_t i = HDR + 54; i < sizeof(f); i++)
		f[i] = (u8)(i * 5);
	f[HDR + 12] = 8;
	f[HDR + 14] = 0x45;
	f[HDR + 23] = 6;
	f[HDR + 46] = 0x50;
	assert_int_equal(send_frame(r, f + HDR, 1000, &o), 0);
	assert_int_equal(recv(host.fd, got, sizeof(got), 0), sizeof(got));
	memcpy(&h, got, HDR);
	assert_int_equal(h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
	assert_int_equal(h.gso_size, 500);
	assert_int_equal(h.hdr_len, 54);
	assert_int_equal(h.csum_start, 34);
	assert_int_equal(h.csum_offset, 16);
	assert_memory_equal(got + HDR, f + HDR, 1000);
	/* And back as it came. */
	assert_int_equal(send(host.fd, got, sizeof(got), 0), sizeof(got));
	pump(r);
	assert_int_equal(r->got, 1);
	assert_int_equal(r->len, 1000);
	assert_memory_equal(r->data, f + HDR, 1000);
	assert_true(r->o.partial);
	assert_int_equal(r->o.gso, NET_GSO_TCP4);
	assert_int_equal(r->o.gso_size, 500);
	/* A header that points out of its frame, and a message that is no more than one. */
	h.csum_start = 2000;
	memcpy(got, &h, HDR);
	assert_int_equal(send(host.fd, got, sizeof(got), 0), sizeof(got));
	assert_int_equal(send(host.fd, got, HDR, 0), HDR);
	memset(got, 0, HDR);
	assert_int_equal(send(host.fd, got, HDR + 60, 0), HDR + 60);
	pump(r);
	pump(r);
	assert_int_equal(r->got, 2);
	assert_int_equal(r->n->dropped, 1);
	down(r);
}

/* Without room on either side frames wait where they are, and none is lost or twice there. */
static void waits(void **s)
{
	struct rig *r = up(0);
	u8 f[HDR + 60] = { 0 };
	unsigned n;

	r->full = true;
	for (u8 i = 0; i < 5; i++) {
		f[HDR + 20] = i;
		assert_int_equal(send(host.fd, f, sizeof(f), 0), sizeof(f));
	}
	pump(r);
	assert_int_equal(r->got, 0);
	r->full = false;
	r->n->ops->room(r->n);
	assert_int_equal(r->got, 5);
	assert_int_equal(r->data[20], 4);
	/* The host's queue is full: refused, and ready when it has been read. */
	for (n = 0; n < 100000; n++)
		if (send_frame(r, f + HDR, 60, NULL) < 0)
			break;
	assert_in_range(n, 1, 99999);
	pump(r);
	assert_int_equal(r->ready, 0);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(recv(host.fd, f, sizeof(f), MSG_DONTWAIT), sizeof(f));
	assert_int_equal(recv(host.fd, f, sizeof(f), MSG_DONTWAIT), -1);
	pump(r);
	assert_int_equal(r->ready, 1);
	assert_int_equal(send_frame(r, f + HDR, 60, NULL), 0);
	down(r);
}

/* The interface is deleted: the cable is out, and nobody waits for frames any more. */
static void deleted(void **s)
{
	struct rig *r = up(0);
	u8 f[60] = { 0 };

	assert_true(gate_held(r->g));
	close(host.fd);
	host.fd = -1;
	pump(r);
	assert_int_equal(r->links, 1);
	assert_false(r->link);
	assert_false(gate_held(r->g));
	assert_int_equal(send_frame(r, f, sizeof(f), NULL), 0);
	assert_int_equal(r->n->dropped, 1);
	r->n->ops->stop(r->n);
	r->n->ops->start(r->n, 0); /* a driver comes back; the interface does not */
	assert_false(gate_held(r->g));
	pump(r);
	down(r);
}

/* The card stops while a frame waits for room: the next driver does not get it. */
static void stops(void **s)
{
	struct rig *r = up(0);
	u8 f[HDR + 60] = { 0 };

	r->full = true;
	assert_int_equal(send(host.fd, f, sizeof(f), 0), sizeof(f));
	pump(r);
	r->n->ops->stop(r->n);
	r->full = false;
	assert_false(gate_held(r->g));
	pump(r);
	r->n->ops->start(r->n, 0);
	pump(r);
	assert_int_equal(r->got, 0);
	assert_int_equal(send(host.fd, f, sizeof(f), 0), sizeof(f));
	/* Gone for good: what comes now reaches nobody. */
	r->n->ops->detach(r->n);
	gate_dispatch(r->g);
	assert_int_equal(r->got, 0);
	down(r);
}

static void refusals(void **s)
{
	const struct {
		const char *name;
		int code;
		const char *words;
	} bad[] = {
		{ "none0", 0, "there is no interface none0" },
		{ "", 0, "is no name" },
		{ "a-name-of-more-than-15", 0, "is no name" },
		{ "tap%d", 0, "is no name" },
		{ "tap0", EPERM, "not permitted" },
		{ "tap0", EBUSY, "in use" },
		{ "tap0", EINVAL, "not a tap interface" },
		{ "tap0", EIO, "cannot use the interface" },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct net *n = NULL;
		struct err e;

		host.refuse = bad[i].code;
		assert_true(net_tap_open("--net tap", bad[i].name, &e, &n) < 0);
		assert_null(n);
		if (!strstr(e.msg, bad[i].words) || strchr(e.msg, '\n'))
			fail_msg("no \"%s\" in: %s", bad[i].words, e.msg);
		if (!bad[i].code)
			continue;
		assert_int_equal(fcntl(host.tun, F_GETFD), -1); /* closed */
		close(host.fd);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(offloads), cmocka_unit_test(both_ways), cmocka_unit_test(waits),
		cmocka_unit_test(deleted),  cmocka_unit_test(stops),	 cmocka_unit_test(refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
