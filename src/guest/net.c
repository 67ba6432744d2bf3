// SPDX-License-Identifier: Apache-2.0
/*
 * net.c - configures a network card of the guest
 *
 * How it works
 * The host names the card by its address: which ethN it became is the kernel's business. Addresses
 * are set by ioctl, as ifconfig(8) does; netlink would take more code for the same. A route has the
 * card's number as metric, so that of several ways out the first is taken.
 *
 * A card whose carrier is not up yet drops what is sent, and the first packet would be repeated
 * only after a second: so that is waited for, briefly.
 */
#include "guest.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CARRIER_TRIES 100
#define CARRIER_NS 500000L /* between two */

/* One line of sysfs, without its end. */
static bool sysfs_line(const char *card, const char *file, char *ret, size_t size)
{
	char path[128];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "/sys/class/net/%s/%s", card, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, ret, size - 1);
		close(fd);
	}
	ret[n > 0 ? n : 0] = 0;
	ret[strcspn(ret, "\n")] = 0;
	return n > 0;
}

static int find_card(const char *mac, char *ret, size_t size)
{
	DIR *d = opendir("/sys/class/net");
	struct dirent *ent;
	char line[32];
	int r = -ENODEV;

	while (r < 0 && d && (ent = readdir(d))) {
		if (ent->d_name[0] == '.' || strlen(ent->d_name) >= size ||
		    !sysfs_line(ent->d_name, "address", line, sizeof(line)) || strcmp(line, mac))
			continue;
		memcpy(ret, ent->d_name, strlen(ent->d_name) + 1);
		r = 0;
	}
	if (d)
		closedir(d);
	return r;
}

static void await_carrier(const char *card)
{
	struct timespec t = { .tv_nsec = CARRIER_NS };
	char line[8];

	for (int i = 0; i < CARRIER_TRIES; i++) {
		if (!sysfs_line(card, "carrier", line, sizeof(line)) || line[0] == '1')
			return;
		nanosleep(&t, NULL);
	}
}

static bool set_in(struct sockaddr *sa, const char *text)
{
	struct sockaddr_in in = { .sin_family = AF_INET };

	if (text && inet_pton(AF_INET, text, &in.sin_addr) != 1)
		return false;
	memcpy(sa, &in, sizeof(in));
	return true;
}

static int set_address(int fd, struct ifreq *ifr, char *addr)
{
	char *slash = strchr(addr, '/');
	int bits = slash ? atoi(slash + 1) : 0;
	struct sockaddr_in mask = { .sin_family = AF_INET };

	if (!slash || bits < 1 || bits > 32)
		return -EINVAL;
	*slash = 0;
	if (!set_in(&ifr->ifr_addr, addr))
		return -EINVAL;
	if (ioctl(fd, SIOCSIFADDR, ifr) < 0)
		return -errno;
	mask.sin_addr.s_addr = htonl(~0u << (32 - bits));
	memcpy(&ifr->ifr_netmask, &mask, sizeof(mask));
	return ioctl(fd, SIOCSIFNETMASK, ifr) < 0 ? -errno : 0;
}

static int set_up(int fd, struct ifreq *ifr)
{
	if (ioctl(fd, SIOCGIFFLAGS, ifr) < 0)
		return -errno;
	ifr->ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, ifr) < 0 ? -errno : 0;
}

static int set_gateway(int fd, char *card, const char *gw, int metric)
{
	struct rtentry rt = { .rt_flags = RTF_UP | RTF_GATEWAY,
			      .rt_metric = (short)(metric + 1), /* as route(8) has it: one more */
			      .rt_dev = card };

	if (!set_in(&rt.rt_gateway, gw) || !set_in(&rt.rt_dst, NULL) ||
	    !set_in(&rt.rt_genmask, NULL))
		return -EINVAL;
	return ioctl(fd, SIOCADDRT, &rt) < 0 ? -errno : 0;
}

/* Adds a line; a file that came with the initramfs is somebody's wish and stays as it is. */
static int add_dns(const char *dns, int metric)
{
	int fd, flags = O_WRONLY | O_CREAT | O_CLOEXEC | (metric ? O_APPEND : O_EXCL);
	char line[64];
	int n = snprintf(line, sizeof(line), "nameserver %s\n", dns), r = 0;

	setup_mkdirs("/etc");
	fd = open("/etc/resolv.conf", flags, 0644);
	if (fd < 0)
		return errno == EEXIST ? 0 : -errno;
	if (write(fd, line, (size_t)n) != n)
		r = -EIO;
	close(fd);
	return r;
}

static bool given(const char *word)
{
	return strcmp(word, "-") != 0;
}

int setup_net(char **w)
{
	struct ifreq ifr = { 0 };
	int fd, r = find_card(w[0], ifr.ifr_name, sizeof(ifr.ifr_name)), metric = atoi(w[4]);
	char card[IFNAMSIZ];

	if (r < 0)
		return r;
	memcpy(card, ifr.ifr_name, sizeof(card));
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	r = set_up(fd, &ifr);
	if (!r && given(w[1]))
		r = set_address(fd, &ifr, w[1]);
	if (!r)
		await_carrier(card);
	if (!r && given(w[2]))
		r = set_gateway(fd, card, w[2], metric);
	if (!r && given(w[3]))
		r = add_dns(w[3], metric);
	close(fd);
	return r;
}
