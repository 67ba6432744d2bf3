// SPDX-License-Identifier: Apache-2.0
/*
 * test_net_frame.c - checksums and segmentation, against a slow and obvious second opinion
 */
#include "host/net_frame.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define TCP_FLAGS 0x99u /* CWR, ACK, PSH, FIN */
#define SEQ 0xfffffff0u /* wraps */
#define ID 0xfffeu

static u32 seed = 1;

static u8 next_byte(void)
{
	seed = seed * 1103515245u + 12345u;
	return (u8)(seed >> 16);
}

static u32 be16(const u8 *p)
{
	return (u32)p[0] << 8 | p[1];
}

static u32 be32(const u8 *p)
{
	return be16(p) << 16 | be16(p + 2);
}

/* RFC 1071, word by word, in network order; an odd byte is padded. */
static u32 slow_sum(const u8 *p, size_t len, u32 sum)
{
	for (size_t i = 0; i < len; i++)
		sum += i & 1 ? p[i] : (u32)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static u32 swap16(u32 v)
{
	return (v >> 8 | v << 8) & 0xffff;
}

static void sums(void **s)
{
	u8 buf[300];

	for (unsigned i = 0; i < 3000; i++) {
		size_t off = next_byte() % 8, len = next_byte() + next_byte() % 30;

		for (size_t k = 0; k < sizeof(buf); k++)
			buf[k] = i % 3 ? next_byte() : 0xff;
		assert_int_equal(swap16(net_sum(buf + off, len, 0)), slow_sum(buf + off, len, 0));
		assert_int_equal(swap16(net_sum(buf + off, len, 0x1234)),
				 slow_sum(buf + off, len, swap16(0x1234)));
	}
}

/* --- segmentation ----------------------------------------------------------------------------- */

struct shape {
	bool v6, vlan;
	unsigned ip_options, tcp_options; /* bytes */
	size_t payload;
	u16 gso;
};

struct result {
	const struct shape *sh;
	const u8 *payload;
	size_t at, frames, hdr;
};

static void put(u8 *p, u32 v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		p[i] = (u8)(v >> (8 * (n - 1 - i)));
}

/* Returns the length; *o describes it. The partial checksum is nonsense: it must not matter. */
static size_t build(u8 *f, const struct shape *sh, struct net_offload *o)
{
	u32 l3 = NET_ETH_LEN + (sh->vlan ? 4 : 0), ip = sh->v6 ? 40 : 20 + sh->ip_options;
	u32 l4 = l3 + ip, tcp = 20 + sh->tcp_options;
	size_t len = l4 + tcp + sh->payload;

	for (size_t i = 0; i < len; i++)
		f[i] = next_byte();
	if (sh->vlan)
		put(f + 12, 0x81000007, 4);
	put(f + l3 - 2, sh->v6 ? 0x86dd : 0x0800, 2);
	if (sh->v6) {
		f[l3] = 0x60;
		f[l3 + 6] = 6;
	} else {
		f[l3] = (u8)(0x40 | ip / 4);
		put(f + l3 + 4, ID, 2);
		f[l3 + 9] = 6;
	}
	put(f + l4 + 4, SEQ, 4);
	f[l4 + 12] = (u8)(tcp / 4 << 4);
	f[l4 + 13] = TCP_FLAGS;
	*o = (struct net_offload){ .partial = true,
				   .gso = sh->v6 ? NET_GSO_TCP6 : NET_GSO_TCP4,
				   .gso_size = sh->gso,
				   .csum_start = (u16)l4,
				   .csum_offset = 16 };
	return len;
}

static void judge(void *opaque, u8 *f, size_t len)
{
	struct result *r = opaque;
	const struct shape *sh = r->sh;
	u32 l3 = NET_ETH_LEN + (sh->vlan ? 4 : 0), l4 = l3 + (sh->v6 ? 40 : 20 + sh->ip_options);
	size_t hdr = l4 + 20 + sh->tcp_options, n = len - hdr;
	bool last = r->at + n == sh->payload;
	u32 sum = (u32)(len - l4) + 6;

	assert_true(n <= sh->gso && (n == sh->gso || last));
	assert_memory_equal(f + hdr, r->payload + r->at, n);
	assert_int_equal(be32(f + l4 + 4), SEQ + (u32)r->at);
	assert_int_equal(f[l4 + 13], 0x10 | (last ? 0x09 : 0) | (r->at ? 0 : 0x80));
	if (sh->v6) {
		assert_int_equal(be16(f + l3 + 4), len - l3 - 40);
		sum = slow_sum(f + l3 + 8, 32, sum);
	} else {
		assert_int_equal(be16(f + l3 + 2), len - l3);
		assert_int_equal(be16(f + l3 + 4), (ID + r->frames) & 0xffff);
		assert_int_equal(slow_sum(f + l3, l4 - l3, 0), 0xffff);
		sum = slow_sum(f + l3 + 12, 8, sum);
	}
	assert_int_equal(slow_sum(f + l4, len - l4, sum), 0xffff);
	r->at += n;
	r->frames++;
}

static void segments(void **s)
{
	static const struct shape shapes[] = {
		{ false, false, 0, 0, 4000, 1460 },   { false, true, 0, 12, 4380, 1460 },
		{ false, false, 8, 12, 65000, 1448 }, { true, false, 0, 12, 60001, 1428 },
		{ true, true, 0, 40, 3, 1000 },	      { false, false, 0, 0, 1000, 1000 },
		{ false, false, 0, 12, 3000, 50 },    { true, false, 0, 0, 1001, 1000 },
		{ false, false, 40, 40, 700, 48 },
	};
	u8 *f = malloc(NET_FRAME_MAX), *copy = malloc(NET_FRAME_MAX);

	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		const struct shape *sh = &shapes[i];
		struct net_offload o;
		size_t len = build(f, sh, &o), hdr = len - sh->payload;
		struct iovec iov[2] = { { f, 30 }, { f + 30, len - 30 } };
		struct net_frame nf = { .iov = iov, .n = 2, .len = len, .o = o };
		struct result r = { .sh = sh, .payload = copy + hdr };

		memcpy(copy, f, len);
		assert_int_equal(net_frame_check(&nf), 0);
		net_frame_finish(f, len, &o, false, judge, &r);
		assert_int_equal(r.at, sh->payload);
		assert_int_equal(r.frames, (sh->payload + sh->gso - 1) / sh->gso);
	}
	free(f);
	free(copy);
}

static void on_whole(void *opaque, u8 *f, size_t len)
{
	struct result *r = opaque;
	struct shape sh = *r->sh;

	sh.gso = 65535;
	r->sh = &sh;
	judge(r, f, len);
}

/* One large segment with right lengths and sums. */
static void whole(void **s)
{
	static const struct shape sh = { false, false, 0, 12, 50000, 1448 };
	u8 *f = malloc(NET_FRAME_MAX), *copy = malloc(NET_FRAME_MAX);
	struct net_offload o;
	size_t len = build(f, &sh, &o);
	struct result r = { .sh = &sh, .payload = copy + len - sh.payload };

	memcpy(copy, f, len);
	net_frame_finish(f, len, &o, true, on_whole, &r);
	assert_int_equal(r.frames, 1);
	assert_int_equal(r.at, sh.payload);
	free(f);
	free(copy);
}

/* --- checksums of plain frames, and what is refused ------------------------------------------- */

static void on_any(void *opaque, u8 *f, size_t len)
{
	++*(unsigned *)opaque;
}

static void fill(void **s)
{
	u8 f[64] = { 0 };
	struct net_offload o = { .partial = true, .csum_start = 34, .csum_offset = 6 };
	unsigned n = 0;

	/* The sum is 0xffff: a UDP checksum of 0 would mean "none". */
	put(f + 34, 0xfffe, 2);
	put(f + 36, 0x0001, 2);
	net_frame_finish(f, sizeof(f), &o, false, on_any, &n);
	assert_int_equal(n, 1);
	assert_int_equal(be16(f + 40), 0xffff);
	/* An odd length. */
	memset(f, 0, sizeof(f));
	f[34] = 0x12;
	f[62] = 0x34;
	net_frame_fill(f, 63, &o);
	assert_int_equal(be16(f + 40), 0xffff & ~(0x1200 + 0x3400));
	/* Not asked for: nothing changes. */
	put(f + 40, 0xabcd, 2);
	o.partial = false;
	net_frame_fill(f, 63, &o);
	assert_int_equal(be16(f + 40), 0xabcd);
}

static int check(u8 *f, size_t len, const struct net_offload *o)
{
	struct iovec iov = { f, len };
	struct net_frame nf = { .iov = &iov, .n = 1, .len = len, .o = *o };

	return net_frame_check(&nf);
}

static void refused(void **s)
{
	static const struct shape sh = { false, false, 0, 0, 4000, 1000 };
	u8 *f = calloc(1, NET_FRAME_MAX + 1);
	struct net_offload o, plain = { 0 }, bad;
	size_t len = build(f, &sh, &o);

	assert_int_equal(check(f, 13, &plain), -EINVAL);
	assert_int_equal(check(f, 14, &plain), 0);
	assert_int_equal(check(f, NET_FRAME_MAX, &plain), 0);
	assert_int_equal(check(f, NET_FRAME_MAX + 1, &plain), -EINVAL);
	plain = (struct net_offload){ .partial = true, .csum_start = 60, .csum_offset = 2 };
	assert_int_equal(check(f, 64, &plain), 0);
	assert_int_equal(check(f, 63, &plain), -EINVAL);
	plain.csum_start = plain.csum_offset = 0xffff;
	assert_int_equal(check(f, 64, &plain), -EINVAL);

	assert_int_equal(check(f, len, &o), 0);
	bad = o, bad.partial = false;
	assert_int_equal(check(f, len, &bad), -EINVAL);
	bad = o, bad.gso_size = 0;
	assert_int_equal(check(f, len, &bad), -EINVAL);
	bad = o, bad.gso_size = 2; /* 2000 segments */
	assert_int_equal(check(f, len, &bad), -EINVAL);
	bad = o, bad.csum_start = 33;
	assert_int_equal(check(f, len, &bad), -EINVAL);
	bad = o, bad.csum_offset = 6;
	assert_int_equal(check(f, len, &bad), -EINVAL);
	bad = o, bad.gso = NET_GSO_TCP6;
	assert_int_equal(check(f, len, &bad), -EINVAL);
	assert_int_equal(check(f, 50, &o), -EINVAL);
	f[34 + 12] = 0x40; /* a TCP header of 16 bytes */
	assert_int_equal(check(f, len, &o), -EINVAL);
	f[34 + 12] = 0x50;
	f[14 + 9] = 17; /* UDP */
	assert_int_equal(check(f, len, &o), -EINVAL);

	/* Changed between check and use: nothing comes of it. */
	unsigned n = 0;
	net_frame_finish(f, len, &o, false, on_any, &n);
	assert_int_equal(n, 0);
	free(f);
}

static void flows(void **s)
{
	static const struct shape sh = { false, false, 0, 0, 10, 1000 }, sh6 = { .v6 = true };
	u8 f[256], g[256];
	struct net_offload o;
	size_t len = build(f, &sh, &o);

	memcpy(g, f, len);
	memcpy(g + 26, f + 30, 4);
	memcpy(g + 30, f + 26, 4);
	memcpy(g + 34, f + 36, 2);
	memcpy(g + 36, f + 34, 2);
	put(f + 20, 0x4000, 2); /* don't fragment */
	put(g + 20, 0, 2);
	assert_int_equal(net_flow(f, len), net_flow(g, len));
	g[35] ^= 1;
	assert_int_not_equal(net_flow(f, len), net_flow(g, len));
	len = build(f, &sh6, &o);
	assert_int_not_equal(net_flow(f, len), 0);
	assert_int_equal(net_flow(f, 50), 0);
	put(f + 12, 0x0806, 2);
	assert_int_equal(net_flow(f, len), 0);
	put(f + 12, 0x81002123, 4);
	assert_int_equal(net_vlan(f, len), 0x123);
	assert_int_equal(net_vlan(f, 17), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums), cmocka_unit_test(segments), cmocka_unit_test(whole),
		cmocka_unit_test(fill), cmocka_unit_test(refused),  cmocka_unit_test(flows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
