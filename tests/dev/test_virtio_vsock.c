// SPDX-License-Identifier: Apache-2.0
/*
 * test_virtio_vsock.c - the socket device, packet by packet: connections, their ends, strays, resets
 */
#include "vsock_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#define PORT 1234u
#define PLENTY (256u << 10)

static int answers[8];
static unsigned n_answers;

static void on_answer(struct vsock_call *c, int r)
{
	assert_null(c->conn);
	assert_true(n_answers < ARRAY_LEN(answers));
	answers[n_answers++] = r;
}

/* --- connecting ------------------------------------------------------------------------------- */

static void identity(void **s)
{
	struct virtio_vsock_cfg bad = { .cid = 2 };
	struct virtio_vsock *v;
	struct vdev *d;
	struct rig r;

	rig_up(&r);
	assert_int_equal(vdrv_rd(&r.d, VIRTIO_MMIO_DEVICE_ID), 19);
	assert_int_equal(vdrv_rd(&r.d, VIRTIO_MMIO_CONFIG), RIG_CID);
	assert_int_equal(vdrv_rd(&r.d, VIRTIO_MMIO_CONFIG + 4), 0);
	assert_true(vdrv_features(&r.d) & BIT(VIRTIO_F_VERSION_1));
	for (u32 cid = 0; cid <= VSOCK_CID_HOST; cid++) {
		bad.cid = cid;
		assert_int_equal(virtio_vsock_new(&bad, &r.d.env, &v, &d), -EINVAL);
	}
	bad.cid = UINT32_MAX;
	assert_int_equal(virtio_vsock_new(&bad, &r.d.env, &v, &d), -EINVAL);
	rig_down(&r);
}

/* One REQUEST, with an interrupt, when there is a buffer for it; then bytes both ways. */
static void host_connects(void **s)
{
	struct vsock_call call = { .answered = on_answer };
	struct packet k;
	struct peer p;
	struct rig r;
	char buf[16];
	int fd;

	n_answers = 0;
	rig_up(&r);
	fd = rig_call(&r, PORT, &call, NULL);
	assert_int_equal(write(fd, "early", 5), 5);
	rig_host(&r);
	assert_false(rig_take(&r, &k)); /* no buffer yet */
	assert_false(r.d.irq);
	rig_give(&r, 8, RIG_BUF);
	assert_true(r.d.irq);
	rig_expect(&r, OP_REQUEST, &k);
	assert_int_equal(k.h.dst_port, PORT);
	rig_host(&r);
	assert_false(rig_take(&r, &k)); /* not a second one, and no data before the answer */
	assert_int_equal(n_answers, 0);

	p = (struct peer){ k.h.src_port, PORT, PLENTY, 0 };
	rig_send(&r, &p, OP_RESPONSE, 0, NULL, 0);
	assert_int_equal(n_answers, 1);
	assert_int_equal(answers[0], 0);
	rig_host(&r);
	rig_expect(&r, OP_RW, &k);
	assert_int_equal(k.h.len, 5);
	assert_memory_equal(k.data, "early", 5);
	rig_send(&r, &p, OP_RW, 0, "reply", 5);
	rig_read(fd, buf, 5);
	assert_memory_equal(buf, "reply", 5);
	assert_int_equal(virtio_vsock_stats(r.s)->opened, 1);
	close(fd);
	rig_down(&r);
}

/* Asked for before the guest has a driver: it comes when the driver does, and after its reset. */
static void before_the_driver(void **s)
{
	struct vsock_call call = { .answered = on_answer };
	struct packet k;
	struct peer p;
	struct rig r;
	int fd;

	n_answers = 0;
	rig_cold(&r);
	fd = rig_call(&r, PORT, &call, NULL);
	rig_start(&r);
	rig_give(&r, 4, RIG_BUF);
	rig_expect(&r, OP_REQUEST, &k);
	/* The driver is taken away before it answered. */
	rig_start(&r);
	rig_give(&r, 4, RIG_BUF);
	rig_expect(&r, OP_REQUEST, &k);
	p = (struct peer){ k.h.src_port, PORT, PLENTY, 0 };
	rig_send(&r, &p, OP_RESPONSE, 0, NULL, 0);
	assert_int_equal(n_answers, 1);
	close(fd);
	rig_down(&r);
}

static void refused(void **s)
{
	struct vsock_call call = { .answered = on_answer };
	struct packet k;
	struct peer p;
	struct rig r;
	int fd;

	n_answers = 0;
	rig_up(&r);
	rig_give(&r, 8, RIG_BUF);
	fd = rig_call(&r, PORT, &call, &p);
	rig_send(&r, &p, OP_RST, 0, NULL, 0);
	assert_int_equal(n_answers, 1);
	assert_int_equal(answers[0], -ECONNREFUSED);
	assert_true(rig_eof(fd));
	assert_false(rig_take(&r, &k)); /* no RST for an RST */
	assert_int_equal(virtio_vsock_stats(r.s)->conns, 0);
	close(fd);

	/* Given up: by the caller, and by the one who holds the other end. */
	fd = rig_call(&r, PORT, &call, &p);
	virtio_vsock_hang_up(&call);
	rig_expect(&r, OP_RST, &k);
	assert_int_equal(k.h.src_port, p.host_port);
	virtio_vsock_hang_up(&call);
	assert_int_equal(n_answers, 1);
	close(fd);
	fd = rig_call(&r, PORT, &call, &p);
	close(fd);
	rig_host(&r);
	rig_expect(&r, OP_RST, &k);
	assert_int_equal(n_answers, 2);
	assert_int_equal(answers[1], -ECONNRESET);
	assert_int_equal(virtio_vsock_stats(r.s)->conns, 0);

	/* And the end of the device. */
	fd = rig_call(&r, PORT, &call, &p);
	rig_down(&r);
	assert_int_equal(n_answers, 3);
	assert_int_equal(answers[2], -ECONNRESET);
	close(fd);
}

static void guest_connects(void **s)
{
	struct peer p = { 77, 5000, PLENTY, 0 };
	struct packet k;
	struct rig r;
	char buf[8];
	int pair[2];

	rig_up(&r);
	rig_give(&r, 8, RIG_BUF);
	rig_send(&r, &p, OP_REQUEST, 0, NULL, 0);
	assert_int_equal(r.asked, 1);
	assert_int_equal(r.port, 77);
	rig_expect(&r, OP_RST, &k);
	assert_int_equal(k.h.src_port, 77);
	assert_int_equal(k.h.dst_port, 5000);

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	r.give = pair[0];
	rig_send(&r, &p, OP_REQUEST, 0, NULL, 0);
	rig_expect(&r, OP_RESPONSE, &k);
	rig_send(&r, &p, OP_RW, 0, "abc", 3);
	rig_read(pair[1], buf, 3);
	assert_memory_equal(buf, "abc", 3);
	assert_int_equal(write(pair[1], "xyz", 3), 3);
	rig_host(&r);
	rig_expect(&r, OP_RW, &k);
	assert_memory_equal(k.data, "xyz", 3);
	/* The same ports once more: no second connection, and the first is over. */
	rig_send(&r, &p, OP_REQUEST, 0, NULL, 0);
	rig_expect(&r, OP_RST, &k);
	assert_int_equal(r.asked, 2);
	assert_true(rig_eof(pair[1]));
	close(pair[1]);
	rig_down(&r);
}

/* Whoever is answered may call again at once, and give up another call. */
struct again {
	struct vsock_call call, other;
	struct rig *r;
	int fd;
	unsigned n;
};

static void on_again(struct vsock_call *c, int r)
{
	struct again *a = container_of(c, struct again, call);

	if (a->n++ >= 3)
		return;
	virtio_vsock_hang_up(&a->other);
	a->fd = rig_call(a->r, PORT + a->n, &a->call, NULL);
}

/* One's RST and another's REQUEST, in any order; the latter's port on the host. */
static u32 end_and_beginning(struct rig *r, u32 ended, u32 begun)
{
	struct packet a, b, *rst;

	assert_true(rig_take(r, &a) && rig_take(r, &b));
	rst = a.h.op == OP_RST ? &a : &b;
	assert_int_equal(rst->h.op, OP_RST);
	assert_int_equal(rst->h.dst_port, ended);
	rst = rst == &a ? &b : &a;
	assert_int_equal(rst->h.op, OP_REQUEST);
	assert_int_equal(rst->h.dst_port, begun);
	return rst->h.src_port;
}

static void calls_from_answers(void **s)
{
	struct again a = { .call.answered = on_again };
	struct packet k;
	struct peer p;
	struct rig r;
	int fd[4], other;

	rig_up(&r);
	rig_give(&r, 16, RIG_BUF);
	a.r = &r;
	fd[0] = rig_call(&r, PORT, &a.call, &p);
	other = rig_call(&r, 99, &a.other, NULL);
	rig_expect(&r, OP_REQUEST, &k);
	/* Accepted, refused, and gone on the host. */
	p.alloc = PLENTY;
	rig_send(&r, &p, OP_RESPONSE, 0, NULL, 0);
	fd[1] = a.fd;
	p.host_port = end_and_beginning(&r, 99, PORT + 1);
	rig_send(&r, &(struct peer){ p.host_port, PORT + 1, 0, 0 }, OP_RST, 0, NULL, 0);
	fd[2] = a.fd;
	rig_expect(&r, OP_REQUEST, &k);
	close(fd[2]);
	rig_host(&r);
	fd[3] = a.fd;
	assert_int_equal(a.n, 3);
	end_and_beginning(&r, PORT + 2, PORT + 3);
	rig_down(&r); /* answers the last one */
	assert_int_equal(a.n, 4);
	close(fd[0]);
	close(fd[1]);
	close(fd[3]);
	close(other);
}

/* A buffer taken for bytes that are not there goes back into the ring. */
static void buffers_go_back(void **s)
{
	static u8 data[RIG_BUF];
	const u32 full = RIG_BUF - sizeof(struct virtio_vsock_hdr);
	struct packet k;
	struct peer p;
	struct rig r;
	struct vq *rx;
	int fd;

	rig_up(&r);
	rx = vdev_queue(r.d.v, 0);
	rig_give(&r, 10, RIG_BUF);
	fd = rig_connect(&r, PORT, PLENTY, &p);
	assert_int_equal(vq_available(rx), 9);
	/* As much as a buffer holds: it is looked for more. */
	assert_int_equal(write(fd, data, full), full);
	rig_host(&r);
	rig_expect(&r, OP_RW, &k);
	assert_int_equal(k.h.len, full);
	assert_int_equal(vq_available(rx), 8);
	assert_int_equal(vq_in_flight(rx), 0);
	/* Fewer, and then the end. */
	assert_int_equal(write(fd, data, 7), 7);
	rig_host(&r);
	rig_expect(&r, OP_RW, &k);
	assert_int_equal(vq_available(rx), 7);
	shutdown(fd, SHUT_WR);
	rig_host(&r);
	rig_expect(&r, OP_SHUTDOWN, &k);
	assert_false(rig_take(&r, &k));
	assert_int_equal(vq_available(rx), 6);
	assert_int_equal(vq_in_flight(rx), 0);
	close(fd);
	rig_down(&r);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void half_close_by_the_host(void **s)
{
	struct packet k;
	struct peer p;
	struct rig r;
	char buf[8];
	int fd;

	rig_up(&r);
	rig_give(&r, 16, RIG_BUF);
	fd = rig_connect(&r, PORT, PLENTY, &p);
	assert_int_equal(write(fd, "last", 4), 4);
	shutdown(fd, SHUT_WR);
	rig_host(&r);
	rig_expect(&r, OP_RW, &k);
	rig_expect(&r, OP_SHUTDOWN, &k);
	assert_int_equal(k.h.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	assert_false(rig_take(&r, &k));
	/* The other direction lives on. */
	rig_send(&r, &p, OP_RW, 0, "answer", 6);
	rig_read(fd, buf, 6);
	assert_true(rig_empty(fd));
	/* The host's end goes altogether. */
	close(fd);
	rig_host(&r);
	rig_expect(&r, OP_SHUTDOWN, &k);
	assert_int_equal(k.h.flags, 3);
	/* What is still under way is dropped, not answered by an RST that would cut off more. */
	rig_send(&r, &p, OP_RW, 0, "late", 4);
	assert_false(rig_take(&r, &k));
	rig_send(&r, &p, OP_RST, 0, NULL, 0);
	assert_int_equal(virtio_vsock_stats(r.s)->conns, 0);
	rig_down(&r);
}

static void half_close_by_the_guest(void **s)
{
	struct packet k;
	struct peer p;
	struct rig r;
	char buf[8];
	int fd;

	rig_up(&r);
	rig_give(&r, 16, RIG_BUF);
	fd = rig_connect(&r, PORT, PLENTY, &p);
	rig_send(&r, &p, OP_RW, 0, "last", 4);
	rig_send(&r, &p, OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND, NULL, 0);
	rig_send(&r, &p, OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND, NULL, 0);
	rig_read(fd, buf, 4);
	assert_true(rig_eof(fd));
	assert_false(rig_take(&r, &k));
	assert_int_equal(write(fd, "more", 4), 4);
	rig_host(&r);
	rig_expect(&r, OP_RW, &k);
	assert_memory_equal(k.data, "more", 4);
	/* Data behind its end is an error. */
	rig_send(&r, &p, OP_RW, 0, "x", 1);
	rig_expect(&r, OP_RST, &k);
	close(fd);

	/* It will not receive: whoever writes on the host learns it, and can still read. */
	fd = rig_connect(&r, PORT, PLENTY, &p);
	rig_send(&r, &p, OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_RCV, NULL, 0);
	assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	rig_send(&r, &p, OP_RW, 0, "abc", 3);
	rig_read(fd, buf, 3);
	close(fd);
	rig_host(&r);
	rig_expect(&r, OP_SHUTDOWN, &k);
	assert_int_equal(k.h.flags, 3);
	rig_down(&r);
}

/* The guest closes: an RST at once, and the host gets everything, however slow it reads. */
static void close_by_the_guest(void **s)
{
	static u8 chunk[30000], got[30000];
	const unsigned ops[] = { OP_SHUTDOWN, OP_RST };
	unsigned sent, received;
	struct packet k;
	struct peer p;
	struct rig r;
	int fd, small = 4096;

	rig_up(&r);
	for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
		rig_give(&r, 16, RIG_BUF);
		fd = rig_connect(&r, PORT, PLENTY, &p);
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
		for (sent = 0; sent < 120000; sent += sizeof(chunk)) {
			memset(chunk, (int)(sent / sizeof(chunk)), sizeof(chunk));
			rig_send(&r, &p, OP_RW, 0, chunk, sizeof(chunk));
		}
		while (rig_take(&r, &k))
			assert_int_equal(k.h.op, OP_UPDATE);
		rig_send(&r, &p, ops[i], 3, NULL, 0);
		if (ops[i] == OP_SHUTDOWN)
			rig_expect(&r, OP_RST, &k);
		assert_false(rig_take(&r, &k));
		for (received = 0; received < sent; received += sizeof(got)) {
			for (unsigned at = 0; at < sizeof(got);) {
				ssize_t n = read(fd, got + at, sizeof(got) - at);

				if (n < 0 && errno == EAGAIN) {
					rig_host(&r);
					continue;
				}
				assert_true(n > 0);
				at += (unsigned)n;
			}
			memset(chunk, (int)(received / sizeof(chunk)), sizeof(chunk));
			assert_memory_equal(got, chunk, sizeof(got));
		}
		rig_host(&r);
		assert_true(rig_eof(fd));
		assert_int_equal(virtio_vsock_stats(r.s)->conns, 0);
		close(fd);
	}
	rig_down(&r);
}

/* --- what is none of ours --------------------------------------------------------------------- */

static void strays(void **s)
{
	struct virtio_vsock_hdr h = { .src_cid = RIG_CID,
				      .dst_cid = VSOCK_CID_HOST,
				      .src_port = 11,
				      .dst_port = 22,
				      .type = VIRTIO_VSOCK_TYPE_STREAM,
				      .op = OP_RW };
	struct packet k;
	struct rig r;

	rig_up(&r);
	rig_give(&r, 64, RIG_BUF);
	for (unsigned op = 0; op < 12; op++) {
		h.op = (u16)op;
		rig_send_raw(&r, &h, NULL, 0, RIG_TX);
		if (op == OP_RST) {
			assert_false(rig_take(&r, &k));
			continue;
		}
		rig_expect(&r, OP_RST, &k);
		assert_int_equal(k.h.src_cid, VSOCK_CID_HOST);
		assert_int_equal(k.h.src_port, 22);
		assert_int_equal(k.h.dst_port, 11);
		assert_int_equal(k.h.type, VIRTIO_VSOCK_TYPE_STREAM);
		assert_false(rig_take(&r, &k));
	}
	/* Another kind of socket, and another host: refused as what they were. */
	h.op = OP_REQUEST;
	h.type = 2;
	rig_send_raw(&r, &h, NULL, 0, RIG_TX);
	rig_expect(&r, OP_RST, &k);
	assert_int_equal(k.h.type, 2);
	h.type = VIRTIO_VSOCK_TYPE_STREAM;
	h.dst_cid = 99;
	rig_send_raw(&r, &h, NULL, 0, RIG_TX);
	rig_expect(&r, OP_RST, &k);
	assert_int_equal(k.h.src_cid, 99);
	assert_int_equal(r.asked, 1); /* the one for us */
	/* Not the guest's own address: not answered at all. */
	h.dst_cid = VSOCK_CID_HOST;
	h.src_cid = RIG_CID + 1;
	rig_send_raw(&r, &h, NULL, 0, RIG_TX);
	assert_false(rig_take(&r, &k));
	assert_int_equal(virtio_vsock_stats(r.s)->strays, 1);
	rig_down(&r);
}

/* Answers wait for buffers; meanwhile the guest is not listened to, so they cannot pile up. */
static void answers_are_bounded(void **s)
{
	struct virtio_vsock_hdr h = { .src_cid = RIG_CID,
				      .dst_cid = VSOCK_CID_HOST,
				      .type = VIRTIO_VSOCK_TYPE_STREAM,
				      .op = OP_RW };
	struct vdrv_seg seg = { 0, sizeof(h), false };
	unsigned taken = 0, sent = 0, got = 0;
	struct packet k;
	struct rig r;

	rig_up(&r);
	seg.gpa = r.tx;
	for (unsigned i = 0; i < 8; i++) {
		for (unsigned n = 0; n < 100 && sent - taken < RIG_QUEUE; n++) {
			h.src_port = sent++;
			assert_int_equal(mem_write(r.d.mem, r.tx, &h, sizeof(h)), 0);
			vdrv_add(&r.d, 1, &seg, 1);
			if (n % 3 == 0)
				vdrv_notify(&r.d, 1);
		}
		vdrv_notify(&r.d, 1);
		while (vdrv_used(&r.d, 1, NULL, NULL))
			taken++;
	}
	assert_int_equal(taken, 256);
	assert_int_equal(sent, taken + RIG_QUEUE);
	while (got < sent) {
		unsigned before = got;

		rig_give(&r, 100, RIG_BUF);
		while (rig_take(&r, &k)) {
			assert_int_equal(k.h.op, OP_RST);
			got++;
		}
		assert_true(got > before);
	}
	while (vdrv_used(&r.d, 1, NULL, NULL))
		taken++;
	assert_int_equal(taken, sent);
	rig_down(&r);
}

static void bad_packets(void **s)
{
	struct virtio_vsock_hdr h = { .src_cid = RIG_CID,
				      .dst_cid = VSOCK_CID_HOST,
				      .type = VIRTIO_VSOCK_TYPE_STREAM,
				      .op = OP_RW,
				      .len = 100 };
	struct vdrv_seg seg = { 0, sizeof(h) - 1, false };
	struct rig r;

	rig_up(&r);
	seg.gpa = r.tx;
	vdrv_add(&r.d, 1, &seg, 1);
	vdrv_notify(&r.d, 1);
	assert_true(vdrv_needs_reset(&r.d));
	rig_start(&r);
	assert_false(vdrv_needs_reset(&r.d));
	rig_send_raw(&r, &h, NULL, 99, RIG_TX);
	assert_true(vdrv_needs_reset(&r.d));
	rig_start(&r);
	h.len = UINT32_MAX;
	rig_send_raw(&r, &h, NULL, 99, RIG_TX);
	assert_true(vdrv_needs_reset(&r.d));
	/* Longer buffers than the packet are in order. */
	rig_start(&r);
	h.len = 5;
	rig_send_raw(&r, &h, NULL, 99, RIG_TX);
	assert_false(vdrv_needs_reset(&r.d));
	/* A receive buffer that holds a header and nothing else. */
	rig_give(&r, 1, sizeof(h));
	assert_true(vdrv_needs_reset(&r.d));
	rig_down(&r);
}

/* A packet in pieces of any size, as 5.10.6.4 and 2.7.4 allow. */
static void split_packets(void **s)
{
	const u32 pieces[] = { 1, 3, 7, 43, 44, 45, 50 };
	struct virtio_vsock_hdr h = { .src_cid = RIG_CID,
				      .dst_cid = VSOCK_CID_HOST,
				      .src_port = PORT,
				      .type = VIRTIO_VSOCK_TYPE_STREAM,
				      .op = OP_RW,
				      .buf_alloc = PLENTY };
	struct packet k;
	struct peer p;
	struct rig r;
	char buf[16];
	int fd;

	rig_up(&r);
	rig_give(&r, 16, RIG_BUF);
	fd = rig_connect(&r, PORT, PLENTY, &p);
	h.dst_port = p.host_port;
	h.len = 10;
	for (unsigned i = 0; i < ARRAY_LEN(pieces); i++) {
		rig_send_raw(&r, &h, "0123456789", 10, pieces[i]);
		rig_read(fd, buf, 10);
		assert_memory_equal(buf, "0123456789", 10);
	}
	assert_false(rig_take(&r, &k));
	close(fd);
	rig_down(&r);
}

/* --- many, and resets ------------------------------------------------------------------------- */

#define MANY 1000u

/* Each gets its turn, whatever the others do; one takes nothing at all. */
static void thousand(void **s)
{
	static int fd[MANY];
	static struct peer p[MANY];
	static u32 got[MANY];
	static u8 data[10000];
	struct rlimit lim;
	unsigned done = 0;
	struct packet k;
	struct rig r;

	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	if (lim.rlim_cur < 2 * MANY + 50) {
		print_message("skip: %lu open files are too few; raise the hard limit\n",
			      (unsigned long)lim.rlim_cur);
		skip();
	}
	rig_up(&r);
	for (unsigned i = 0; i < MANY; i++) {
		rig_give(&r, 1, RIG_BUF);
		fd[i] = rig_connect(&r, PORT + i, i == 500 ? 0 : 4000, &p[i]);
		assert_int_equal(write(fd[i], data, sizeof(data)), sizeof(data));
		got[i] = 0;
	}
	assert_int_equal(virtio_vsock_stats(r.s)->conns, MANY);
	rig_host(&r);
	for (unsigned round = 0; done < MANY - 1 && round < 100000; round++) {
		rig_give(&r, 50, RIG_BUF);
		while (rig_take(&r, &k)) {
			u32 i = k.h.dst_port - PORT;

			assert_true(i < MANY);
			if (k.h.op == OP_ASK)
				continue;
			assert_int_equal(k.h.op, OP_RW);
			got[i] += k.h.len;
			assert_true(got[i] - p[i].fwd <= p[i].alloc);
			p[i].fwd = got[i];
			rig_send(&r, &p[i], OP_UPDATE, 0, NULL, 0);
			done += got[i] == sizeof(data);
		}
		rig_host(&r);
	}
	assert_int_equal(done, MANY - 1);
	assert_int_equal(got[500], 0);
	for (unsigned i = 0; i < MANY; i++)
		close(fd[i]);
	rig_host(&r);
	rig_down(&r);
}

/* No more than VSOCK_CONNS_MAX; the next is refused, not forgotten. */
static void too_many(void **s)
{
	struct peer p = { 77, 0, 0, 0 };
	struct packet k;
	struct rig r;
	unsigned n;

	rig_up(&r);
	for (n = 0; n < VSOCK_CONNS_MAX + 1; n++) {
		p.guest_port = n;
		r.give = open("/dev/null", O_RDWR);
		if (r.give < 0)
			break;
		close(r.give); /* epoll(7) takes no /dev/null */
		r.give = dup(gate_fd(r.g));
		if (r.give < 0)
			break;
		rig_give(&r, 1, RIG_BUF);
		rig_send(&r, &p, OP_REQUEST, 0, NULL, 0);
		assert_true(rig_take(&r, &k));
		if (k.h.op != OP_RESPONSE)
			break;
	}
	assert_int_equal(virtio_vsock_stats(r.s)->conns, n);
	assert_true(n <= VSOCK_CONNS_MAX);
	rig_down(&r);
}

static void resets(void **s)
{
	struct packet k;
	struct peer p;
	struct rig r;
	gpa_t ev;
	u32 len, id;
	int fd;

	rig_up(&r);
	rig_give(&r, 8, RIG_BUF);
	fd = rig_connect(&r, PORT, PLENTY, &p);
	rig_send(&r, &p, OP_RW, 0, "abc", 3);
	rig_start(&r); /* a driver's reset: its connections are gone */
	assert_int_equal(virtio_vsock_stats(r.s)->conns, 0);
	rig_read(fd, &(u8[3]){ 0 }, 3);
	assert_true(rig_eof(fd));
	close(fd);

	/* The transport's: the guest is told, as soon as it listens. */
	rig_give(&r, 8, RIG_BUF);
	fd = rig_connect(&r, PORT, PLENTY, &p);
	virtio_vsock_transport_reset(r.s);
	assert_true(rig_eof(fd));
	close(fd);
	ev = vdrv_put(&r.d, "\xff\xff\xff\xff", 4);
	vdrv_add(&r.d, 2, &(struct vdrv_seg){ ev, 4, true }, 1);
	vdrv_notify(&r.d, 2);
	assert_true(vdrv_used(&r.d, 2, NULL, &len));
	assert_int_equal(len, 4);
	assert_int_equal(mem_read(r.d.mem, ev, &id, 4), 0);
	assert_int_equal(id, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	assert_false(rig_take(&r, &k));
	/* One is enough. */
	vdrv_add(&r.d, 2, &(struct vdrv_seg){ ev, 4, true }, 1);
	vdrv_notify(&r.d, 2);
	assert_false(vdrv_used(&r.d, 2, NULL, &len));
	rig_down(&r);
}

/* While it is paused nothing changes; afterwards everything goes on. */
static void pause_resume(void **s)
{
	struct device dev[VDEV_DEVICES];
	struct packet k;
	struct peer p;
	struct rig r;
	int fd;

	rig_up(&r);
	rig_give(&r, 8, RIG_BUF);
	fd = rig_connect(&r, PORT, PLENTY, &p);
	vdev_devices(r.d.v, dev);
	device_pause(&dev[0]);
	assert_int_equal(write(fd, "abc", 3), 3);
	rig_host(&r);
	assert_false(rig_take(&r, &k));
	device_resume(&dev[0]);
	rig_host(&r);
	rig_expect(&r, OP_RW, &k);
	assert_memory_equal(k.data, "abc", 3);
	close(fd);
	rig_down(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identity),
		cmocka_unit_test(host_connects),
		cmocka_unit_test(before_the_driver),
		cmocka_unit_test(refused),
		cmocka_unit_test(guest_connects),
		cmocka_unit_test(calls_from_answers),
		cmocka_unit_test(buffers_go_back),
		cmocka_unit_test(half_close_by_the_host),
		cmocka_unit_test(half_close_by_the_guest),
		cmocka_unit_test(close_by_the_guest),
		cmocka_unit_test(strays),
		cmocka_unit_test(answers_are_bounded),
		cmocka_unit_test(bad_packets),
		cmocka_unit_test(split_packets),
		cmocka_unit_test(thousand),
		cmocka_unit_test(too_many),
		cmocka_unit_test(resets),
		cmocka_unit_test(pause_resume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
