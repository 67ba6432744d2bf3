// SPDX-License-Identifier: Apache-2.0
/*
 * dev_net.c - the option --net
 *
 * How it works
 * The first word is the network, what follows belongs to it or to the card. Each network of kind
 * `user` has addresses of its own, 10.0.N.0/24 with N from 2 on, in the order of the command line;
 * the guest's init sets them (src/guest/net.c), since stock kernels have no ip=dhcp. The card's
 * address is made from the VM's seed, so it is random where the seed is and fixed where that is.
 */
#include "base/values.h"
#include "dev/virtio_net.h"
#include "vm/devices.h"
#include "vm/sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORWARDS_MAX 64u
#define TEXT_MAX 160u
#define NETWORK 0x0a000200u /* 10.0.2.0 */
/* Where no wire is between us and the end of a connection, large segments cost less. */
#define MTU_PASST 65520u
/*
 * libslirp's TCP has windows of 64 KiB and no more. Two segments that nearly fill one wait for each
 * other: the receiver rounds its window down to whole segments, the sender waits for room for one,
 * and only its persist timer, five seconds later, ends that. Four to a window go on.
 */
#define MTU_USER 16384u
#define MTU_USER_MAX 32000u
#define MTU_ETHERNET 1500u

enum backend { USER, TAP, LOOPBACK, PASST, NONE };

/* Which options a network has. */
enum { O_FWD = 1, O_USER = 2, O_ADDR = 4 };

static const struct backend_info {
	const char *name;
	enum backend id;
	bool value, needs_value; /* NAME=VALUE */
	u16 mtu, mtu_max;
	unsigned options;
} backends[] = {
	{ "user", USER, false, false, MTU_USER, MTU_USER_MAX, O_FWD | O_USER },
	{ "tap", TAP, true, true, MTU_ETHERNET, VIRTIO_NET_MTU_MAX, O_ADDR },
	{ "loopback", LOOPBACK, false, false, MTU_ETHERNET, VIRTIO_NET_MTU_MAX, 0 },
	{ "passt", PASST, true, false, MTU_PASST, VIRTIO_NET_MTU_MAX, O_FWD },
	{ "none", NONE, false, false, MTU_ETHERNET, VIRTIO_NET_MTU_MAX, 0 },
};

struct net_dev {
	const struct backend_info *be;
	char opt[TEXT_MAX]; /* for messages */
	char value[108];    /* interface, or path of a socket */
	u16 mtu;
	unsigned pairs; /* 0: one per CPU */
	bool has_mac, restricted, ipv6;
	u8 mac[6];
	char ip[32], gw[16], dns[16]; /* empty: none */
	struct net_forward fwd[FORWARDS_MAX];
	char fwd_text[FORWARDS_MAX][TEXT_MAX];
	unsigned n_fwd;
	unsigned index;
	struct net *net; /* owned */
	struct virtio_net_stats stats;
};

/* --- the option's argument -------------------------------------------------------------------- */

static int parse_mac(const char *text, struct net_dev *d, struct err *e)
{
	unsigned b[6];
	int end = 0;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		   &end) != 6 ||
	    text[end] || end != 17)
		return err_set(e, -EINVAL, "--net %s: mac=%.40s: write it as 02:00:00:12:34:56",
			       d->opt, text);
	for (unsigned i = 0; i < 6; i++)
		d->mac[i] = (u8)b[i];
	if ((d->mac[0] & 1) || !memcmp(d->mac, "\0\0\0\0\0", 6))
		return err_set(e, -EINVAL,
			       "--net %s: mac=%s: a group's or no address; the first byte must be "
			       "even, as in 02:...",
			       d->opt, text);
	d->has_mac = true;
	return 0;
}

/* "[ADDR:]PORT" or "[ADDR]:PORT", up to @end. */
static bool parse_endpoint(const char *text, size_t len, u32 *addr, u16 *port)
{
	char copy[64], *colon, *stop;
	struct in_addr a;
	unsigned long v;

	if (len >= sizeof(copy))
		return false;
	memcpy(copy, text, len);
	copy[len] = 0;
	colon = strrchr(copy, ':');
	if (colon) {
		*colon = 0;
		if (*copy && inet_pton(AF_INET, copy, &a) != 1)
			return false;
		if (*copy)
			*addr = ntohl(a.s_addr);
	}
	colon = colon ? colon + 1 : copy;
	if (*colon < '0' || *colon > '9')
		return false;
	v = strtoul(colon, &stop, 10);
	*port = (u16)v;
	return !*stop && v > 0 && v < 65536;
}

static int parse_forward(const char *text, struct net_dev *d, struct err *e)
{
	struct net_forward f = { .host_addr = INADDR_LOOPBACK };
	const char *p = text, *dash;

	if (d->n_fwd == FORWARDS_MAX)
		return err_set(e, -E2BIG, "--net %s: at most %u forwards", d->opt, FORWARDS_MAX);
	f.udp = !strncmp(p, "udp:", 4);
	if (!f.udp && strncmp(p, "tcp:", 4) != 0)
		goto bad;
	p += 4;
	dash = strchr(p, '-');
	if (!dash || !strchr(dash, ':') ||
	    !parse_endpoint(p, (size_t)(dash - p), &f.host_addr, &f.host_port) ||
	    !parse_endpoint(dash + 1, strlen(dash + 1), &f.guest_addr, &f.guest_port))
		goto bad;
	for (unsigned i = 0; i < d->n_fwd; i++)
		if (d->fwd[i].udp == f.udp && d->fwd[i].host_port == f.host_port &&
		    d->fwd[i].host_addr == f.host_addr)
			return err_set(
				e, -EINVAL,
				"--net %s: hostfwd=%s: the host's port %u is forwarded twice",
				d->opt, text, f.host_port);
	snprintf(d->fwd_text[d->n_fwd], TEXT_MAX, "%s", text);
	d->fwd[d->n_fwd++] = f;
	return 0;
bad:
	return err_set(e, -EINVAL,
		       "--net %s: hostfwd=%.80s: write it as tcp:[HOSTADDR:]HOSTPORT-[GUESTADDR]:"
		       "GUESTPORT, as in hostfwd=tcp:8080-:80 (or udp:)",
		       d->opt, text);
}

static int parse_addr(const char *key, const char *val, bool prefix, char *ret, size_t size,
		      const struct net_dev *d, struct err *e)
{
	char copy[32], *slash, *end = NULL;
	unsigned long bits = 0;
	struct in_addr a;

	snprintf(copy, sizeof(copy), "%s", val);
	slash = strchr(copy, '/');
	if (slash) {
		*slash = 0;
		bits = strtoul(slash + 1, &end, 10);
	}
	if (strlen(val) >= MIN(size, sizeof(copy)) || inet_pton(AF_INET, copy, &a) != 1 ||
	    (slash != NULL) != prefix || (slash && (!slash[1] || *end || !bits || bits > 31)))
		return err_set(e, -EINVAL, "--net %s: %s=%.40s: write it as %s", d->opt, key, val,
			       prefix ? "192.168.1.10/24" : "192.168.1.1");
	snprintf(ret, size, "%s", val);
	return 0;
}

static int parse_number(const char *key, const char *val, u64 min, u64 max, const struct net_dev *d,
			struct err *e, u64 *ret)
{
	char opt[TEXT_MAX + 32];

	snprintf(opt, sizeof(opt), "--net %s: %.16s", d->opt, key);
	return value_u64(opt, val, min, max, e, ret);
}

static int parse_flag(const char *key, const char *val, bool *ret, const struct net_dev *d,
		      struct err *e)
{
	if (val)
		return err_set(e, -EINVAL, "--net %s: %s takes no value", d->opt, key);
	*ret = true;
	return 0;
}

static int parse_option(const char *key, const char *val, struct net_dev *d, struct err *e)
{
	unsigned has = d->be->options;
	u64 v;
	int r;

	if (!strcmp(key, "restrict") && (has & O_USER))
		return parse_flag(key, val, &d->restricted, d, e);
	if (!strcmp(key, "ipv6") && (has & O_USER))
		return parse_flag(key, val, &d->ipv6, d, e);
	if (val && !strcmp(key, "hostfwd") && (has & O_FWD))
		return parse_forward(val, d, e);
	if (val && !strcmp(key, "ip") && (has & O_ADDR))
		return parse_addr(key, val, true, d->ip, sizeof(d->ip), d, e);
	if (val && !strcmp(key, "gw") && (has & O_ADDR))
		return parse_addr(key, val, false, d->gw, sizeof(d->gw), d, e);
	if (val && !strcmp(key, "dns") && (has & O_ADDR))
		return parse_addr(key, val, false, d->dns, sizeof(d->dns), d, e);
	if (val && !strcmp(key, "mac"))
		return parse_mac(val, d, e);
	if (val && !strcmp(key, "mtu")) {
		r = parse_number(key, val, VIRTIO_NET_MTU_MIN, d->be->mtu_max, d, e, &v);
		d->mtu = r < 0 ? d->mtu : (u16)v;
		return r;
	}
	if (val && !strcmp(key, "queues")) {
		r = parse_number(key, val, 1, VIRTIO_NET_PAIRS_MAX, d, e, &v);
		d->pairs = r < 0 ? d->pairs : (unsigned)v;
		return r;
	}
	return err_set(e, -EINVAL,
		       "--net %s: %s: no such option here%s; options are mac=, mtu=, queues=%s%s%s",
		       d->opt, key, val ? "" : " (or its value is missing)",
		       has & O_FWD ? ", hostfwd=" : "", has & O_USER ? ", restrict, ipv6" : "",
		       has & O_ADDR ? ", ip=, gw=, dns=" : "");
}

static int parse_backend(const char *key, const char *val, struct net_dev *d, struct err *e)
{
	for (unsigned i = 0; i < ARRAY_LEN(backends); i++)
		if (!strcmp(key, backends[i].name))
			d->be = &backends[i];
	if (!d->be)
		return err_set(e, -EINVAL,
			       "--net %.40s: no such network; there are user, tap=INTERFACE, "
			       "loopback, passt[=SOCKET] and none",
			       key);
	snprintf(d->opt, sizeof(d->opt), "%.16s%s%.108s", key, val ? "=" : "", val ? val : "");
	if (val && !d->be->value)
		return err_set(e, -EINVAL, "--net %s: %s takes no value", d->opt, key);
	if (d->be->needs_value && (!val || !*val))
		return err_set(e, -EINVAL, "--net tap: which interface? --net tap=INTERFACE");
	if (val && strlen(val) >= sizeof(d->value))
		return err_set(e, -EINVAL, "--net %s: the value is too long", d->opt);
	snprintf(d->value, sizeof(d->value), "%s", val ? val : "");
	d->mtu = d->be->mtu;
	return 0;
}

static void net_dev_free(void *dev)
{
	struct net_dev *d = dev;

	if (!d)
		return;
	net_free(d->net);
	free(d);
}

static int net_parse(const char *text, struct err *e, void **ret)
{
	struct net_dev *d = calloc(1, sizeof(*d));
	char key[TEXT_MAX];
	const char *val;
	int r;

	if (!d)
		return err_set(e, -ENOMEM, "--net: out of memory");
	while ((r = value_piece("--net", &text, key, sizeof(key), e, &val)) > 0) {
		r = d->be ? parse_option(key, val, d, e) : parse_backend(key, val, d, e);
		if (r < 0)
			break;
	}
	if (r == 0 && !d->be)
		r = err_set(e, -EINVAL, "--net: which network? see orrery run --help");
	if (r == 0 && d->gw[0] && !d->ip[0])
		r = err_set(e, -EINVAL, "--net %s: gw= needs ip=", d->opt);
	if (r < 0) {
		net_dev_free(d);
		return r;
	}
	*ret = d;
	return 0;
}

/* --- the host's part -------------------------------------------------------------------------- */

/* SplitMix64 of seed and index: random for a random seed, and always another for another card. */
static void make_mac(struct net_dev *d, u64 seed)
{
	u64 z = seed + 0x9e3779b97f4a7c15ull * (d->index + 0x6e6574u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	z ^= z >> 31;
	for (unsigned i = 0; i < 6; i++)
		d->mac[i] = (u8)(z >> (8 * i));
	d->mac[0] = (d->mac[0] & 0xfc) | 0x02; /* locally administered, of one station */
	/* Two of one VM differ for certain. */
	d->mac[5] = (u8)((d->mac[5] & 0xe0) | (d->index & 0x1f));
}

/* Two cards with one address: neither would work, and why would be hard to see. */
static int check_mac(const struct net_dev *d, const struct vm_devs *all, struct err *e)
{
	for (unsigned i = 0; all && i < all->n; i++) {
		const struct net_dev *x = all->dev[i].dev;

		if (all->dev[i].kind == &vm_dev_net && x != d && x->has_mac && d->has_mac &&
		    !memcmp(x->mac, d->mac, 6))
			return err_set(e, -EINVAL,
				       "--net %s: mac=%02x:%02x:%02x:%02x:%02x:%02x is given twice",
				       d->opt, d->mac[0], d->mac[1], d->mac[2], d->mac[3],
				       d->mac[4], d->mac[5]);
	}
	return 0;
}

static void text_of(char *ret, size_t size, u32 addr, const char *after)
{
	snprintf(ret, size, "%u.%u.%u.%u%s", addr >> 24, addr >> 16 & 255, addr >> 8 & 255,
		 addr & 255, after);
}

static int open_passt(struct net_dev *d, const char *opt, struct err *e)
{
	char spec[FORWARDS_MAX][64];
	const char *tcp[FORWARDS_MAX + 1], *udp[FORWARDS_MAX + 1];
	unsigned n_tcp = 0, n_udp = 0;
	char addr[16];
	struct net_passt_cfg pc = { .opt = opt,
				    .path = d->value[0] ? d->value : NULL,
				    .addr = addr,
				    .gw = d->gw,
				    .dns = d->dns,
				    .mtu = d->mtu,
				    .tcp = tcp,
				    .udp = udp };

	snprintf(addr, sizeof(addr), "%.*s", (int)strcspn(d->ip, "/"), d->ip);
	if (pc.path && d->n_fwd)
		return err_set(
			e, -EINVAL,
			"%s: a passt that runs already has its forwards from its own command "
			"line; leave out hostfwd=",
			opt);
	for (unsigned i = 0; i < d->n_fwd; i++) {
		const struct net_forward *f = &d->fwd[i];
		char host[16];

		text_of(host, sizeof(host), f->host_addr, "");
		snprintf(spec[i], sizeof(spec[i]), "%s/%u:%u", host, f->host_port, f->guest_port);
		if (f->udp)
			udp[n_udp++] = spec[i];
		else
			tcp[n_tcp++] = spec[i];
	}
	tcp[n_tcp] = udp[n_udp] = NULL;
	return net_passt_open(&pc, e, &d->net);
}

static int net_open(void *dev, const struct vm_dev_host *host, struct err *e)
{
	struct net_dev *d = dev;
	char opt[TEXT_MAX + 8];
	u32 network;

	d->index = host->index;
	network = NETWORK + (d->index << 8);
	if (check_mac(d, host->all, e) < 0)
		return -EINVAL;
	if (!d->has_mac)
		make_mac(d, host->seed);
	if (!d->pairs)
		d->pairs = MIN(host->cpus, VIRTIO_NET_PAIRS_MAX);
	snprintf(opt, sizeof(opt), "--net %s", d->opt);
	if (d->be->id == USER || d->be->id == PASST) {
		text_of(d->ip, sizeof(d->ip), network + 15, "/24");
		text_of(d->gw, sizeof(d->gw), network + 2, "");
		text_of(d->dns, sizeof(d->dns), network + 3, "");
	}
	switch (d->be->id) {
	case USER: {
		for (unsigned i = 0; i < d->n_fwd; i++)
			d->fwd[i].text = d->fwd_text[i];
		struct net_user_cfg uc = { .opt = opt,
					   .network = network,
					   .mtu = d->mtu,
					   .restricted = d->restricted,
					   .ipv6 = d->ipv6,
					   .fwd = d->fwd,
					   .n_fwd = d->n_fwd };
		return net_user_open(&uc, e, &d->net);
	}
	case TAP:
		return net_tap_open(opt, d->value, e, &d->net);
	case PASST:
		return open_passt(d, opt, e);
	case LOOPBACK:
	case NONE:
	default: {
		int r = d->be->id == LOOPBACK ? net_loop_new(&d->net) : net_none_new(&d->net);

		return r < 0 ? err_sys(e, r, "%s", opt) : 0;
	}
	}
}

static int net_guest(void *dev, struct buf *out)
{
	const struct net_dev *d = dev;
	char mac[18], metric[12];

	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", d->mac[0], d->mac[1], d->mac[2],
		 d->mac[3], d->mac[4], d->mac[5]);
	/* The first card has the way out, if several have one. */
	snprintf(metric, sizeof(metric), "%u", d->index);
	return vm_setup_line(out, (const char *const[]){ "net", mac, d->ip[0] ? d->ip : "-",
							 d->gw[0] ? d->gw : "-",
							 d->dns[0] ? d->dns : "-", metric, NULL });
}

static int net_create(void *dev, const struct vdev_env *env, struct err *e, struct vdev **ret)
{
	struct net_dev *d = dev;
	struct virtio_net_cfg nc = {
		.net = d->net, .mtu = d->mtu, .pairs = d->pairs, .stats = &d->stats
	};
	int r;

	memcpy(nc.mac, d->mac, sizeof(nc.mac));
	r = virtio_net_new(&nc, env, ret);
	return r < 0 ? err_sys(e, r, "--net %s: cannot create the network card", d->opt) : 0;
}

static void net_stats(void *dev, void (*line)(void *o, const char *name, u64 val), void *o)
{
	const struct net_dev *d = dev;
	const struct virtio_net_stats *s = &d->stats;
	const struct {
		const char *name;
		u64 val;
	} list[] = {
		{ "tx_frames", s->tx_frames },	 { "tx_bytes", s->tx_bytes },
		{ "tx_dropped", s->tx_dropped }, { "rx_frames", s->rx_frames },
		{ "rx_bytes", s->rx_bytes },	 { "rx_dropped", s->rx_dropped },
		{ "lost", d->net->dropped },
	};
	char name[32];

	for (unsigned i = 0; i < ARRAY_LEN(list); i++) {
		snprintf(name, sizeof(name), "net%u_%s", d->index, list[i].name);
		line(o, name, list[i].val);
	}
}

static const char *const modules[] = { "virtio_net", NULL };

static void net_sandbox(void *dev, struct sandbox *s)
{
	static const u32 uses[] = { [USER] = SANDBOX_NET_USER | SANDBOX_STREAM,
				    [TAP] = SANDBOX_NET_TAP,
				    [LOOPBACK] = 0,
				    [PASST] = SANDBOX_STREAM,
				    [NONE] = 0 };

	sandbox_use(s, uses[((struct net_dev *)dev)->be->id]);
}

const struct vm_dev_kind vm_dev_net = {
	.name = "net",
	.arg = "NETWORK[,OPTION]...",
	.help = "a network card, and what it is connected to; may be repeated:\n"
		"  user              a network in user space: the guest is 10.0.2.15,\n"
		"                    the host 10.0.2.2, with DHCP, DNS and NAT; options\n"
		"                    hostfwd=tcp:[ADDR:]PORT-:PORT (or udp:), restrict,\n"
		"                    ipv6\n"
		"  tap=INTERFACE     a tap interface; options ip=ADDR/BITS, gw=, dns=\n"
		"  loopback          an echo at layer 2, the same in every run\n"
		"  passt[=SOCKET]    as user, by the program passt; option hostfwd=\n"
		"  none              no cable\n"
		"options of all: mac=, mtu=, queues=N (default: one per vCPU)",
	.modules = modules,
	.parse = net_parse,
	.open = net_open,
	.guest = net_guest,
	.sandbox = net_sandbox,
	.create = net_create,
	.stats = net_stats,
	.free = net_dev_free,
};
