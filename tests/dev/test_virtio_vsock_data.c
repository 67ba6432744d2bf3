// SPDX-License-Identifier: Apache-2.0
/*
 * test_virtio_vsock_data.c - the socket device, packet by packet: data and credit
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
#define BIG 200000u
#define PLENTY (256u << 10)

static u8 *noise(size_t len)
{
	u8 *p = malloc(len);
	u32 x = 2463534242u;

	assert_non_null(p);
	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		p[i] = (u8)x;
	}
	return p;
}

/* Much more than a buffer, a socket or the credit holds, through a driver that is slow to refill. */
static void much_to_the_guest(void **s)
{
	u8 *data = noise(BIG), *got = malloc(BIG);
	size_t written = 0, received = 0;
	struct packet k;
	struct peer p;
	struct rig r;
	int fd;

	assert_non_null(got);
	rig_up(&r);
	rig_give(&r, 3, RIG_BUF);
	fd = rig_connect(&r, PORT, 20000, &p);
	for (unsigned round = 0; received < BIG && round < 10000; round++) {
		ssize_t n = write(fd, data + written, BIG - written);

		written += n > 0 ? (size_t)n : 0;
		rig_host(&r);
		while (rig_take(&r, &k)) {
			if (k.h.op == OP_ASK) {
				rig_send(&r, &p, OP_UPDATE, 0, NULL, 0);
				continue;
			}
			assert_int_equal(k.h.op, OP_RW);
			assert_true(received + k.h.len <= BIG);
			memcpy(got + received, k.data, k.h.len);
			received += k.h.len;
			assert_true((u32)received - p.fwd <= p.alloc);
		}
		if (round % 5 == 4) {
			p.fwd = (u32)received;
			rig_send(&r, &p, OP_UPDATE, 0, NULL, 0);
		}
		rig_give(&r, 1 + round % 3, RIG_BUF);
	}
	assert_int_equal(received, BIG);
	assert_memory_equal(got, data, BIG);
	close(fd);
	free(data);
	free(got);
	rig_down(&r);
}

/* The host's reader is slow: nothing is lost, nothing is sent beyond the room, and it ends. */
static void much_to_the_host(void **s)
{
	u8 *data = noise(4 * BIG), *got = malloc(4 * BIG);
	u32 sent = 0, alloc = 0, fwd = 0, stuck = 0;
	size_t received = 0;
	struct packet k;
	struct peer p;
	struct rig r;
	int fd;

	assert_non_null(got);
	rig_up(&r);
	rig_give(&r, 8, RIG_BUF);
	fd = rig_connect(&r, PORT, PLENTY, &p);
	rig_send(&r, &p, OP_ASK, 0, NULL, 0);
	rig_expect(&r, OP_UPDATE, &k);
	alloc = k.h.buf_alloc;
	fwd = k.h.fwd_cnt;
	assert_int_equal(fwd, 0);
	while (received < 4 * BIG) {
		u32 n = MIN(MIN(alloc - (sent - fwd), 30000u), 4 * BIG - sent);

		if (n)
			rig_send(&r, &p, OP_RW, 0, data + sent, n);
		sent += n;
		if (!n) { /* only news of room help now, and reading brings them */
			ssize_t got_n = read(fd, got + received, 4 * BIG - received);

			assert_true(got_n > 0);
			received += (size_t)got_n;
			rig_host(&r);
			stuck++;
		}
		while (rig_take(&r, &k)) {
			assert_int_equal(k.h.op, OP_UPDATE);
			assert_true(k.h.fwd_cnt - fwd <= sent - fwd);
			fwd = k.h.fwd_cnt;
			rig_give(&r, 1, RIG_BUF);
		}
		assert_true(stuck < 10000);
	}
	assert_memory_equal(got, data, 4 * BIG);
	close(fd);
	free(data);
	free(got);
	rig_down(&r);
}

/* More than there is room for ends the connection; what was in order is delivered. */
static void beyond_the_room(void **s)
{
	static u8 chunk[65536];
	struct packet k = { 0 };
	struct peer p;
	struct rig r;
	unsigned n;
	int fd;

	rig_up(&r);
	rig_give(&r, 64, RIG_BUF);
	fd = rig_connect(&r, PORT, PLENTY, &p);
	for (n = 0; n < 100 && k.h.op != OP_RST; n++) {
		rig_send(&r, &p, OP_RW, 0, chunk, sizeof(chunk));
		while (rig_take(&r, &k) && k.h.op != OP_RST)
			;
	}
	assert_int_equal(k.h.op, OP_RST);
	assert_true(n < 100);
	rig_send(&r, &p, OP_RW, 0, chunk, 10); /* it is over */
	rig_expect(&r, OP_RST, &k);
	close(fd);
	rig_down(&r);
}

/* One question when credit ends, no storm of them; news that cannot be are not believed. */
static void credit_from_the_guest(void **s)
{
	static u8 data[20000];
	struct packet k;
	struct peer p;
	struct rig r;
	int fd;

	rig_up(&r);
	rig_give(&r, 100, RIG_BUF);
	fd = rig_connect(&r, PORT, 1000, &p);
	assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
	rig_host(&r);
	rig_expect(&r, OP_RW, &k);
	assert_int_equal(k.h.len, 1000);
	rig_expect(&r, OP_ASK, &k);
	assert_false(rig_take(&r, &k));
	for (unsigned i = 0; i < 5; i++) {
		rig_send(&r, &p, OP_UPDATE, 0, NULL, 0); /* still none */
		rig_host(&r);
		assert_false(rig_take(&r, &k));
	}
	/* More forwarded than was sent: the difference would be nearly 4 GiB. */
	p.fwd = 2000;
	rig_send(&r, &p, OP_UPDATE, 0, NULL, 0);
	assert_false(rig_take(&r, &k));
	p.fwd = 600;
	rig_send(&r, &p, OP_UPDATE, 0, NULL, 0);
	rig_expect(&r, OP_RW, &k);
	assert_int_equal(k.h.len, 600);
	rig_expect(&r, OP_ASK, &k);
	/* Backwards: ignored. A smaller window than what is under way: none, not 4 GiB. */
	p.fwd = 100;
	p.alloc = 500;
	rig_send(&r, &p, OP_UPDATE, 0, NULL, 0);
	assert_false(rig_take(&r, &k));
	p.fwd = 1600;
	rig_send(&r, &p, OP_UPDATE, 0, NULL, 0);
	rig_expect(&r, OP_RW, &k);
	assert_int_equal(k.h.len, 500);
	rig_expect(&r, OP_ASK, &k);
	/* Any packet brings it. */
	p.fwd = 2100;
	p.alloc = PLENTY;
	rig_send(&r, &p, OP_RW, 0, "x", 1);
	for (u32 left = sizeof(data) - 2100; left; left -= k.h.len) {
		rig_expect(&r, OP_RW, &k);
		assert_true(k.h.len <= left);
	}
	close(fd);
	rig_down(&r);
}

/* All that can go goes with one interrupt. */
static void one_interrupt(void **s)
{
	static u8 data[100000];
	struct packet k;
	struct peer p;
	struct rig r;
	unsigned before, n = 0;
	int fd;

	rig_up(&r);
	rig_give(&r, 1, RIG_BUF);
	fd = rig_connect(&r, PORT, PLENTY, &p);
	rig_give(&r, 60, RIG_BUF);
	vdrv_wr(&r.d, VIRTIO_MMIO_INTERRUPT_ACK, 3);
	vdrv_put16(&r.d, vdrv_used_event(&r.d, 0), vdrv_used_idx(&r.d, 0));
	before = r.d.rises;
	assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
	rig_host(&r);
	assert_int_equal(r.d.rises, before + 1);
	while (rig_take(&r, &k))
		n += k.h.len;
	assert_int_equal(n, sizeof(data));
	close(fd);
	rig_down(&r);
}

/* The device's end: one that blocks, the last number there is, one that cannot be waited for. */
static void odd_descriptors(void **s)
{
	static u8 chunk[30000];
	struct peer p = { 77, 5000, PLENTY, 0 };
	struct rlimit lim;
	struct packet k;
	struct rig r;
	int pair[2], small = 4096;
	ssize_t n;

	rig_up(&r);
	rig_give(&r, 32, RIG_BUF);
	getrlimit(RLIMIT_NOFILE, &lim);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	r.give = fcntl(pair[0], F_DUPFD_CLOEXEC, (int)MIN(lim.rlim_cur, (rlim_t)1 << 16) - 1);
	assert_true(r.give > pair[1]);
	close(pair[0]);
	rig_send(&r, &p, OP_REQUEST, 0, NULL, 0);
	rig_expect(&r, OP_RESPONSE, &k);
	/* Would it wait for the reader here, this would never end. */
	for (unsigned i = 0; i < 4; i++)
		rig_send(&r, &p, OP_RW, 0, chunk, sizeof(chunk));
	for (size_t got = 0; got < 4 * sizeof(chunk); got += (size_t)n) {
		n = recv(pair[1], chunk, sizeof(chunk), MSG_DONTWAIT);
		assert_true(n > 0);
		rig_host(&r);
	}
	close(pair[1]);
	rig_host(&r);
	while (rig_take(&r, &k))
		;
	p.guest_port++;
	r.give = open("/dev/null", O_RDWR | O_CLOEXEC);
	rig_send(&r, &p, OP_REQUEST, 0, NULL, 0);
	rig_expect(&r, OP_RST, &k);
	assert_int_equal(fcntl(r.give, F_GETFD), -1); /* taken, and closed */
	rig_down(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(much_to_the_guest), cmocka_unit_test(much_to_the_host),
		cmocka_unit_test(beyond_the_room),   cmocka_unit_test(credit_from_the_guest),
		cmocka_unit_test(one_interrupt),     cmocka_unit_test(odd_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
