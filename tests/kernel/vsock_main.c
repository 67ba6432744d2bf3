// SPDX-License-Identifier: Apache-2.0
/*
 * vsock_main.c - the guest's side of the vsock tests: a static program
 *
 *	vsock digest PORT		accepts one connection after the other: reads to the end, then
 *					answers "BYTES SUM" and closes
 *	vsock ask PORT WORDS		sends WORDS to the host, ends that direction, prints the answer
 *	vsock many serve|call PORT N BYTES
 *					N connections at once, checked bytes both ways on each
 *	vsock pump PORT BYTES		accepts, sends BYTES, reads to the end
 *	vsock pong PORT			accepts, sends back what comes
 *
 * In "many" the one who connects says which connection it is by 4 bytes. Number 0 is stalled: the
 * guest neither reads nor writes it until all others are done.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define PATTERN 65536u
#define STEP 97u /* how far the patterns of two connections are apart */

static uint8_t pattern[2 * PATTERN];

struct conn {
	int fd;
	uint32_t id;
	unsigned id_bytes; /* received of it */
	unsigned sent, got;
	int ended;
};

static void die(const char *what)
{
	fprintf(stderr, "vsock: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_vsock(int type)
{
	int fd = socket(AF_VSOCK, SOCK_STREAM | type, 0);

	if (fd < 0)
		die("socket");
	return fd;
}

static int serve_on(unsigned port, int type)
{
	struct sockaddr_vm a = { .svm_family = AF_VSOCK,
				 .svm_cid = VMADDR_CID_ANY,
				 .svm_port = port };
	int fd = open_vsock(type);

	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 1024) < 0)
		die("listen");
	printf("listening\n");
	fflush(stdout);
	return fd;
}

static int call_host(unsigned port)
{
	struct sockaddr_vm a = { .svm_family = AF_VSOCK,
				 .svm_cid = VMADDR_CID_HOST,
				 .svm_port = port };
	int fd = open_vsock(0);

	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die("connect");
	return fd;
}

static void write_all(int fd, const void *p, size_t n)
{
	while (n) {
		ssize_t k = write(fd, p, n);

		if (k <= 0)
			die("write");
		p = (const char *)p + k;
		n -= (size_t)k;
	}
}

/* --- one at a time ---------------------------------------------------------------------------- */

static void digest(unsigned port)
{
	static uint8_t buf[65536];
	int lfd = serve_on(port, 0);

	for (;;) {
		int fd = accept(lfd, NULL, NULL);
		unsigned long long bytes = 0, sum = 0;
		char line[64];
		ssize_t n;

		if (fd < 0)
			die("accept");
		while ((n = read(fd, buf, sizeof(buf))) > 0) {
			for (ssize_t i = 0; i < n; i++)
				sum = (sum * 31 + buf[i]) & 0xffffffff;
			bytes += (unsigned long long)n;
		}
		n = snprintf(line, sizeof(line), "%llu %llu\n", bytes, sum);
		/* Who closed both directions does not want to know. */
		(void)!send(fd, line, (size_t)n, MSG_NOSIGNAL);
		close(fd);
	}
}

static int ask(unsigned port, const char *words)
{
	int fd = call_host(port);
	char buf[4096];
	ssize_t n;

	write_all(fd, words, strlen(words));
	if (shutdown(fd, SHUT_WR) < 0)
		die("shutdown");
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		write_all(1, buf, (size_t)n);
	if (n < 0)
		die("read");
	return 0;
}

static int pump(unsigned port, unsigned long long bytes)
{
	static uint8_t buf[65536];
	int lfd = serve_on(port, 0), fd = accept(lfd, NULL, NULL);

	if (fd < 0)
		die("accept");
	for (; bytes; bytes -= bytes < sizeof(buf) ? bytes : sizeof(buf))
		write_all(fd, buf, bytes < sizeof(buf) ? bytes : sizeof(buf));
	shutdown(fd, SHUT_WR);
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	close(fd);
	return 0;
}

static int pong(unsigned port)
{
	static uint8_t buf[65536];
	int lfd = serve_on(port, 0), fd = accept(lfd, NULL, NULL);
	ssize_t n;

	if (fd < 0)
		die("accept");
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		write_all(fd, buf, (size_t)n);
	return 0;
}

/* --- many ------------------------------------------------------------------------------------- */

static void make_pattern(void)
{
	uint32_t x = 2463534242u;

	for (unsigned i = 0; i < PATTERN; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		pattern[i] = pattern[i + PATTERN] = (uint8_t)x;
	}
}

/* What connection @id carries at @at; the same both ways. */
static const uint8_t *expected(uint32_t id, unsigned at)
{
	return pattern + (id * STEP + at) % PATTERN;
}

static void wait_for(int ep, struct conn *c, int op, unsigned bytes, int stalled)
{
	struct epoll_event ev = { .data.ptr = c };

	if (!stalled)
		ev.events = (c->ended ? 0 : EPOLLIN) |
			    (c->id_bytes == 4 && c->sent < bytes ? EPOLLOUT : 0);
	if (epoll_ctl(ep, op, c->fd, &ev) < 0)
		die("epoll_ctl");
}

static void take(struct conn *c, unsigned bytes)
{
	static uint8_t buf[16384];
	ssize_t n;

	if (c->id_bytes < 4) {
		n = read(c->fd, (char *)&c->id + c->id_bytes, 4 - c->id_bytes);
		if (n <= 0 && errno != EAGAIN)
			die("read of a number");
		c->id_bytes += n > 0 ? (unsigned)n : 0;
		return;
	}
	n = read(c->fd, buf, sizeof(buf));
	if (n < 0 && errno != EAGAIN)
		die("read");
	if (n == 0) {
		if (c->got != bytes) {
			fprintf(stderr, "vsock: connection %u ended at %u\n", c->id, c->got);
			exit(1);
		}
		c->ended = 1;
	}
	for (ssize_t at = 0; at < n;) {
		unsigned k = (c->id * STEP + c->got) % PATTERN;
		size_t run = (size_t)(n - at) < PATTERN - k ? (size_t)(n - at) : PATTERN - k;

		if (memcmp(buf + at, expected(c->id, c->got), run) != 0) {
			fprintf(stderr, "vsock: connection %u: wrong bytes at %u\n", c->id, c->got);
			exit(1);
		}
		c->got += (unsigned)run;
		at += (ssize_t)run;
	}
}

static void give(struct conn *c, unsigned bytes)
{
	unsigned n = bytes - c->sent < 16384 ? bytes - c->sent : 16384;
	ssize_t k = write(c->fd, expected(c->id, c->sent), n);

	if (k < 0 && errno != EAGAIN)
		die("write");
	c->sent += k > 0 ? (unsigned)k : 0;
	if (c->sent == bytes)
		shutdown(c->fd, SHUT_WR);
}

static struct conn *open_conns(int serves, unsigned port, unsigned n)
{
	struct conn *c = calloc(n, sizeof(*c));
	int lfd = serves ? serve_on(port, 0) : -1;

	if (!c)
		die("calloc");
	for (unsigned i = 0; i < n; i++) {
		c[i].fd = serves ? accept(lfd, NULL, NULL) : call_host(port);
		if (c[i].fd < 0)
			die("accept");
		if (!serves) {
			c[i].id = i;
			write_all(c[i].fd, &c[i].id, 4);
			c[i].id_bytes = 4;
		}
	}
	for (unsigned i = 0; i < n; i++)
		fcntl(c[i].fd, F_SETFL, O_NONBLOCK);
	return c;
}

static int many(int serves, unsigned port, unsigned n, unsigned bytes)
{
	struct rlimit lim = { n + 64, n + 64 };
	struct conn *all, *stalled = NULL;
	struct epoll_event ev[64];
	int ep = epoll_create1(0);
	unsigned done = 0;

	setrlimit(RLIMIT_NOFILE, &lim);
	make_pattern();
	all = open_conns(serves, port, n);
	for (unsigned i = 0; i < n; i++)
		wait_for(ep, &all[i], EPOLL_CTL_ADD, bytes, 0);
	while (done < n) {
		int k = epoll_wait(ep, ev, 64, -1);

		for (int i = 0; i < k; i++) {
			struct conn *c = ev[i].data.ptr;
			int was = c->ended && c->sent == bytes;

			if (c->id_bytes == 4 && !c->id && done + 1 < n) {
				stalled = c;
				wait_for(ep, c, EPOLL_CTL_MOD, bytes, 1);
				continue;
			}
			if (ev[i].events & EPOLLIN)
				take(c, bytes);
			if ((ev[i].events & EPOLLOUT) && c->sent < bytes)
				give(c, bytes);
			if (c->ended && c->sent == bytes && !was) {
				done++;
				epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL);
				close(c->fd);
			} else {
				wait_for(ep, c, EPOLL_CTL_MOD, bytes, 0);
			}
			if (done + 1 == n && stalled) {
				wait_for(ep, stalled, EPOLL_CTL_MOD, bytes, 0);
				stalled = NULL;
			}
		}
	}
	printf("%u connections, %u bytes both ways on each\n", done, bytes);
	fflush(stdout);
	/* The VM ends with us: not before the host has taken everything. */
	while (read(0, &ev, sizeof(ev)) > 0)
		;
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";
	unsigned port = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;

	if (!strcmp(what, "digest"))
		digest(port);
	if (!strcmp(what, "ask") && argc == 4)
		return ask(port, argv[3]);
	if (!strcmp(what, "pump") && argc == 4)
		return pump(port, strtoull(argv[3], NULL, 10));
	if (!strcmp(what, "pong"))
		return pong(port);
	if (!strcmp(what, "many") && argc == 6)
		return many(!strcmp(argv[2], "serve"), (unsigned)atoi(argv[3]),
			    (unsigned)atoi(argv[4]), (unsigned)atoi(argv[5]));
	fprintf(stderr, "vsock: what?\n");
	return 2;
}
