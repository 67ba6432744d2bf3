// SPDX-License-Identifier: Apache-2.0
/*
 * netecho.c - a guest's program: sends frames through a packet socket and wants them back
 *
 * usage: netecho INTERFACE FRAMES | netecho udp PORT
 *
 * The interface is connected to an echo that exchanges the addresses. Prints how many bytes came
 * back right; status 1 if a frame did not. The other way of calling it is itself an echo, of
 * datagrams.
 */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define TYPE 0x88b5 /* IEEE 802: for local experiments */
#define WINDOW 32   /* frames on the way */
#define WAIT_MS 2000

static uint8_t own[ETH_ALEN], peer[ETH_ALEN] = { 2, 0, 0, 0, 0, 9 };

static size_t make(uint8_t *f, unsigned seq)
{
	size_t len = 60 + seq * 37 % 1440;

	memcpy(f, peer, ETH_ALEN);
	memcpy(f + ETH_ALEN, own, ETH_ALEN);
	f[12] = TYPE >> 8;
	f[13] = TYPE & 0xff;
	memcpy(f + 14, &seq, sizeof(seq));
	for (size_t i = 18; i < len; i++)
		f[i] = (uint8_t)(i * seq + (i >> 8));
	return len;
}

/* The next frame back. False: none, or a wrong one. */
static int check(int fd, unsigned seq, unsigned long *bytes)
{
	uint8_t want[2048], got[2048];
	size_t len = make(want, seq);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct sockaddr_ll from;
	socklen_t size = sizeof(from);
	ssize_t n;

	do {
		if (poll(&p, 1, WAIT_MS) <= 0)
			return 0;
		size = sizeof(from);
		n = recvfrom(fd, got, sizeof(got), 0, (struct sockaddr *)&from, &size);
	} while (n >= 0 && from.sll_pkttype == PACKET_OUTGOING);
	memcpy(want, own, ETH_ALEN);
	memcpy(want + ETH_ALEN, peer, ETH_ALEN);
	if (n != (ssize_t)len || memcmp(got, want, len) != 0)
		return 0;
	*bytes += len;
	return 1;
}

static int serve(int port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) }, from;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	static char buf[65536];

	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0)
		return 2;
	for (;;) {
		socklen_t size = sizeof(from);
		ssize_t n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &size);

		if (n < 0 || sendto(fd, buf, (size_t)n, 0, (struct sockaddr *)&from, size) != n)
			return 1;
	}
}

int main(int argc, char **argv)
{
	int fd = socket(AF_PACKET, SOCK_RAW, htons(TYPE));
	struct ifreq r = { 0 };
	struct sockaddr_ll sa = { .sll_family = AF_PACKET, .sll_protocol = htons(TYPE) };
	unsigned frames = argc == 3 ? (unsigned)atoi(argv[2]) : 0, sent = 0;
	unsigned long bytes = 0;
	uint8_t f[2048];

	if (argc == 3 && !strcmp(argv[1], "udp"))
		return serve(atoi(argv[2]));
	if (fd < 0 || !frames)
		return 2;
	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", argv[1]);
	sa.sll_ifindex = (int)if_nametoindex(argv[1]);
	if (ioctl(fd, SIOCGIFHWADDR, &r) < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		perror(argv[1]);
		return 2;
	}
	memcpy(own, r.ifr_hwaddr.sa_data, ETH_ALEN);
	for (unsigned i = 0; i < frames; i++) {
		for (; sent < frames && sent < i + WINDOW; sent++) {
			size_t len = make(f, sent);

			if (send(fd, f, len, 0) != (ssize_t)len) {
				perror("send");
				return 1;
			}
		}
		if (!check(fd, i, &bytes)) {
			printf("frame %u did not come back right\n", i);
			return 1;
		}
	}
	printf("%u frames, %lu bytes\n", frames, bytes);
	return 0;
}
