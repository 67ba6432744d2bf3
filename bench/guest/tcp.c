// SPDX-License-Identifier: Apache-2.0
/*
 * tcp.c - a guest's half of bench/net: sends, receives, or asks and waits
 *
 * usage: tcp send|recv|ping ADDRESS PORT COUNT
 *
 * The first byte to the server is the first letter of what is done, then COUNT as 8 bytes: bytes to
 * send or receive, or questions of one byte. Prints how many were done.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char buf[1 << 17];

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	uint64_t count, done = 0;
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	char head[9];

	if (argc != 5 || inet_pton(AF_INET, argv[2], &to.sin_addr) != 1)
		return 2;
	to.sin_port = htons((uint16_t)atoi(argv[3]));
	count = strtoull(argv[4], NULL, 10);
	head[0] = argv[1][0];
	memcpy(head + 1, &count, 8);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 || write(fd, head, 9) != 9) {
		perror("tcp");
		return 1;
	}
	while (done < count) {
		size_t n = count - done < sizeof(buf) ? count - done : sizeof(buf);
		ssize_t got = 1;

		if (head[0] == 's')
			got = write(fd, buf, n);
		else if (head[0] == 'p' && write(fd, buf, 1) != 1)
			return 1;
		else
			got = read(fd, buf, head[0] == 'p' ? 1 : n);
		if (got <= 0)
			return 1;
		done += (uint64_t)got;
	}
	/* The server has everything when it answers. */
	if (head[0] == 's' && read(fd, buf, 1) != 1)
		return 1;
	printf("%llu\n", (unsigned long long)done);
	return 0;
}
