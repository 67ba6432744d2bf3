// SPDX-License-Identifier: Apache-2.0
/*
 * test_virtio_blk.c - the block device, driven by its registers and queues
 *
 * The host's I/O functions are replaced by ones that count, and fail when they are told to.
 */
#include "dev/virtio_blk.h"

#include "../virtio/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <cmocka.h>

#define SIZE (1u << 20)
#define SECTORS (SIZE / 512)
#define MS 1000000ull
#define ALL (UINT64_MAX & ~BIT(VIRTIO_F_RING_PACKED) & ~BIT(VIRTIO_F_ACCESS_PLATFORM))

/* --- the host --------------------------------------------------------------------------------- */

static struct {
	unsigned writes, syncs, at_sync; /* writes before the last sync */
	int fail_in;			 /* the n-th call from now on fails; 0: none */
} host;

static bool fails(void)
{
	if (!host.fail_in || --host.fail_in)
		return false;
	errno = EIO;
	return true;
}

ssize_t preadv(int fd, const struct iovec *iov, int n, off_t off)
{
	return fails() ? -1 : syscall(SYS_preadv, fd, iov, n, off, 0);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
	__atomic_fetch_add(&host.writes, 1, __ATOMIC_RELAXED);
	return fails() ? -1 : syscall(SYS_pwritev, fd, iov, n, off, 0);
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	__atomic_fetch_add(&host.writes, 1, __ATOMIC_RELAXED);
	return fails() ? -1 : (int)syscall(SYS_fallocate, fd, mode, off, len);
}

int fdatasync(int fd)
{
	__atomic_fetch_add(&host.syncs, 1, __ATOMIC_RELAXED);
	host.at_sync = host.writes;
	return fails() ? -1 : (int)syscall(SYS_fdatasync, fd);
}

/* --- the rig ---------------------------------------------------------------------------------- */

struct rig {
	struct vdrv d;
	struct disk *disk;
	struct virtio_blk_stats stats;
	char path[64];
	unsigned failures;
	int last_error;
	struct gate *g;
};

static void on_failed(void *opaque, const char *what, u64 off, int err)
{
	struct rig *r = opaque;

	r->failures++;
	r->last_error = err;
}

static void on_kick(void *opaque)
{
}

struct how {
	unsigned queues;
	enum disk_mode mode;
	struct throttle iops, bps;
	bool real;   /* the real clock, with workers */
	u64 without; /* features that the driver does not take */
};

static void make_file(struct rig *r)
{
	u8 *b = malloc(SIZE);
	int fd;

	snprintf(r->path, sizeof(r->path), "/tmp/orrery-blk-XXXXXX");
	fd = mkstemp(r->path);
	assert_true(fd >= 0 && b);
	for (u32 i = 0; i < SIZE; i++)
		b[i] = (u8)(i / 512 * 3 + i);
	assert_int_equal(write(fd, b, SIZE), SIZE);
	close(fd);
	free(b);
}

static void start(struct rig *r, const struct how *h)
{
	vdrv_start(&r->d, ALL & ~h->without, h->queues ? h->queues : 1, 64);
}

static void up(struct rig *r, const struct how *h)
{
	struct gate_cfg gc = { .kick = on_kick };
	struct virtio_blk_cfg c = { .queues = h->queues ? h->queues : 1,
				    .serial = "a-serial-of-20-chars",
				    .iops = h->iops,
				    .bps = h->bps,
				    .stats = &r->stats,
				    .failed = on_failed,
				    .opaque = r };
	struct disk_cfg dc = { .opt = "disk", .path = r->path, .mode = h->mode };
	struct err e;
	struct vdev *v;

	memset(r, 0, sizeof(*r));
	memset(&host, 0, sizeof(host));
	make_file(r);
	assert_int_equal(disk_open(&dc, &e, &r->disk), 0);
	vdrv_up(&r->d);
	if (h->real) {
		assert_int_equal(gate_new(&gc, &r->g), 0);
		r->d.env.exact = false;
		r->d.env.gate = r->g;
	}
	assert_int_equal(throttle_check(&c.iops, "disk", "iops", &e), 0);
	assert_int_equal(throttle_check(&c.bps, "disk", "bps", &e), 0);
	c.disk = r->disk;
	assert_int_equal(virtio_blk_new(&r->d.env, &c, &v), 0);
	vdrv_attach(&r->d, v);
	start(r, h);
}

static void down(struct rig *r)
{
	vdrv_down(&r->d);
	if (r->g)
		gate_free(r->g);
	disk_free(r->disk);
	unlink(r->path);
}

/* A request as a driver lays it out; where its parts are. */
struct req {
	gpa_t hdr, data, status;
	u32 len;
};

/* @cut: bytes in the first piece of each part, 0: one piece. */
static struct req add(struct rig *r, unsigned q, u32 type, u64 sector, const void *data, u32 len,
		      u32 cut)
{
	struct virtio_blk_outhdr h = { .type = type, .sector = sector };
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	struct req v = { .hdr = vdrv_put(&r->d, &h, sizeof(h)),
			 .data = vdrv_put(&r->d, data, len ? len : 1),
			 .status = vdrv_put(&r->d, "\xff", 1),
			 .len = len };
	struct vdrv_seg s[6];
	unsigned n = 0;

	s[n++] = (struct vdrv_seg){ v.hdr, cut ? 7 : 16, false };
	if (cut)
		s[n++] = (struct vdrv_seg){ v.hdr + 7, 9, false };
	if (len && cut && cut < len) {
		s[n++] = (struct vdrv_seg){ v.data, cut, in };
		s[n++] = (struct vdrv_seg){ v.data + cut, len - cut, in };
	} else if (len) {
		s[n++] = (struct vdrv_seg){ v.data, len, in };
	}
	s[n++] = (struct vdrv_seg){ v.status, 1, true };
	if (cut & 1)
		vdrv_add_indirect(&r->d, q, s, n);
	else
		vdrv_add(&r->d, q, s, n);
	return v;
}

static u8 status_of(struct rig *r, const struct req *v)
{
	u8 s;

	assert_int_equal(mem_read(r->d.mem, v->status, &s, 1), 0);
	return s;
}

/* Does it, and waits for it. Returns its status; *ret_used is what the device said it wrote. */
static u8 finish(struct rig *r, unsigned q, const struct req *v, u32 *ret_used)
{
	u32 used = 0;

	vdrv_notify(&r->d, q);
	for (unsigned i = 0; r->g && vdrv_used_idx(&r->d, q) == r->d.ring[q].used_idx && i < 50;
	     i++) {
		struct pollfd p = { .fd = gate_fd(r->g), .events = POLLIN };

		poll(&p, 1, 10);
		gate_dispatch(r->g);
	}
	testclock_by(&r->d.clk, 100 * MS);
	assert_true(vdrv_used(&r->d, q, NULL, &used));
	if (ret_used)
		*ret_used = used;
	return status_of(r, v);
}

static u8 simple(struct rig *r, u32 type, u64 sector, void *data, u32 len, u32 cut)
{
	struct req v = add(r, 0, type, sector, data, len, cut);
	u8 s = finish(r, 0, &v, NULL);

	if (data && (type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID))
		assert_int_equal(mem_read(r->d.mem, v.data, data, len), 0);
	return s;
}

static u8 file_byte(struct rig *r, u64 at)
{
	int fd = open(r->path, O_RDONLY);
	u8 b = 0xff;

	assert_true(fd >= 0);
	if (pread(fd, &b, 1, (off_t)at) != 1)
		b = 0xff;
	close(fd);
	return b;
}

/* --- what the driver sees --------------------------------------------------------------------- */

#define CONFIG(r, member)                                                                          \
	((sizeof(((struct virtio_blk_config *)0)->member) < 4)                                     \
		 ? (u32)virtio_mmio_bus_ops.read(                                                  \
			   (r)->d.m, 0x100 + offsetof(struct virtio_blk_config, member),           \
			   sizeof(((struct virtio_blk_config *)0)->member), 0)                     \
		 : vdrv_rd(&(r)->d, 0x100 + offsetof(struct virtio_blk_config, member)))

static void config(void **s)
{
	struct how h = { .queues = 4 };
	struct rig r;
	u64 f;

	up(&r, &h);
	assert_int_equal(vdrv_rd(&r.d, VIRTIO_MMIO_DEVICE_ID), 2);
	assert_int_equal(CONFIG(&r, capacity), SECTORS);
	assert_int_equal(CONFIG(&r, seg_max), 254);
	assert_int_equal(CONFIG(&r, blk_size), 512);
	assert_int_equal(CONFIG(&r, physical_block_exp), 3);
	assert_int_equal(CONFIG(&r, num_queues), 4);
	assert_int_equal(CONFIG(&r, wce), 1);
	assert_int_equal(CONFIG(&r, geometry.heads), 16);
	assert_int_equal(CONFIG(&r, geometry.cylinders), SECTORS / 16 / 63);
	assert_int_equal(CONFIG(&r, max_discard_seg), 64);
	assert_int_equal(CONFIG(&r, max_write_zeroes_sectors), 65536);
	assert_int_equal(CONFIG(&r, write_zeroes_may_unmap), 1);
	f = vdrv_features(&r.d);
	assert_true(f & BIT(VIRTIO_BLK_F_FLUSH) && f & BIT(VIRTIO_BLK_F_MQ));
	assert_true(f & BIT(VIRTIO_BLK_F_DISCARD) && f & BIT(VIRTIO_BLK_F_WRITE_ZEROES));
	assert_false(f & BIT(VIRTIO_BLK_F_RO));
	down(&r);
	h = (struct how){ .mode = DISK_RO };
	up(&r, &h);
	f = vdrv_features(&r.d);
	assert_true(f & BIT(VIRTIO_BLK_F_RO));
	assert_false(f & (BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_MQ)));
	down(&r);
}

/* A byte pattern there and back, however the request is cut. */
static void read_write(void **s)
{
	static const u32 cuts[] = { 0, 1, 2, 511, 512, 513, 1000, 4095 };
	struct rig r;
	u8 a[4096], b[4096];

	up(&r, &(struct how){ 0 });
	for (unsigned i = 0; i < ARRAY_LEN(cuts); i++) {
		u64 sector = 8 * i + 1;

		memset(a, (int)i + 0x40, sizeof(a));
		a[511] = (u8)i;
		assert_int_equal(simple(&r, VIRTIO_BLK_T_OUT, sector, a, sizeof(a), cuts[i]), 0);
		memset(b, 0, sizeof(b));
		assert_int_equal(simple(&r, VIRTIO_BLK_T_IN, sector, b, sizeof(b), cuts[7 - i]), 0);
		assert_memory_equal(a, b, sizeof(a));
	}
	assert_int_equal(file_byte(&r, 512 + 511), 0);
	assert_int_equal(file_byte(&r, 512 + 512), 0x40);
	/* Exactly the last sector. */
	assert_int_equal(simple(&r, VIRTIO_BLK_T_IN, SECTORS - 1, b, 512, 0), 0);
	assert_int_equal(b[5], (u8)((SECTORS - 1) * 3 + (SIZE - 512) + 5));
	assert_int_equal(r.stats.reads, 9);
	assert_int_equal(r.stats.writes, 8);
	assert_int_equal(r.stats.written_bytes, 8 * 4096);
	assert_int_equal(r.stats.refused, 0);
	assert_int_equal(r.failures, 0);
	down(&r);
}

/* As many pieces as a queue has descriptors, of a few bytes each. */
static void many_pieces(void **s)
{
	struct virtio_blk_outhdr h = { .type = VIRTIO_BLK_T_IN, .sector = 3 };
	struct vdrv_seg seg[64];
	struct rig r;
	gpa_t hdr, data, status;
	u8 got[2048], st;
	u32 used;

	up(&r, &(struct how){ 0 });
	hdr = vdrv_put(&r.d, &h, 16);
	data = vdrv_put(&r.d, NULL, 8192);
	status = vdrv_put(&r.d, "\xff", 1);
	for (unsigned i = 0; i < 4; i++)
		seg[i] = (struct vdrv_seg){ hdr + 4 * i, 4, false };
	for (unsigned i = 0; i < 32; i++)
		seg[4 + i] = (struct vdrv_seg){ data + 100 * i, i < 31 ? 65 : 33, true };
	seg[36] = (struct vdrv_seg){ status, 1, true };
	vdrv_add(&r.d, 0, seg, 37);
	vdrv_notify(&r.d, 0);
	testclock_by(&r.d.clk, MS);
	assert_true(vdrv_used(&r.d, 0, NULL, &used));
	assert_int_equal(used, 2049);
	assert_int_equal(mem_read(r.d.mem, status, &st, 1), 0);
	assert_int_equal(st, 0);
	for (unsigned i = 0, n = 0; i < 32; n += seg[4 + i].len, i++)
		assert_int_equal(mem_read(r.d.mem, data + 100 * i, got + n, seg[4 + i].len), 0);
	for (unsigned i = 0; i < 2048; i++)
		assert_int_equal(got[i], (u8)((3 + i / 512) * 3 + 3 * 512 + i));
	down(&r);
}

static void bad_ranges(void **s)
{
	static const struct {
		u64 sector;
		u32 len;
	} bad[] = {
		{ SECTORS, 512 },
		{ SECTORS - 1, 1024 },
		{ UINT64_MAX, 512 },
		{ UINT64_MAX / 512 + 1, 512 },
		{ BIT(55), 512 },
		{ BIT(63), 1024 },
		{ 0, 511 },
		{ 0, 513 },
		{ 0, 1 },
		{ SECTORS + 1, 0 },
	};
	struct rig r;
	u8 buf[2048] = { 0xaa };
	u8 before;

	up(&r, &(struct how){ 0 });
	before = file_byte(&r, 0);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		for (u32 type = VIRTIO_BLK_T_IN; type <= VIRTIO_BLK_T_OUT; type++) {
			struct req v = add(&r, 0, type, bad[i].sector, buf, bad[i].len, 0);
			u32 used;

			assert_int_equal(finish(&r, 0, &v, &used), VIRTIO_BLK_S_IOERR);
			assert_int_equal(used, 1);
		}
	assert_int_equal(r.stats.refused, 2 * ARRAY_LEN(bad));
	assert_int_equal(r.failures, 0);
	assert_int_equal(file_byte(&r, 0), before);
	assert_false(vdrv_needs_reset(&r.d));
	down(&r);
}

static void odd_requests(void **s)
{
	struct rig r;
	struct vdrv_seg seg[2];
	struct req v;
	u8 st = 0xff;

	up(&r, &(struct how){ 0 });
	for (u32 type = 2; type < 40; type++)
		if (type != VIRTIO_BLK_T_FLUSH && type != VIRTIO_BLK_T_GET_ID &&
		    type != VIRTIO_BLK_T_DISCARD && type != VIRTIO_BLK_T_WRITE_ZEROES)
			assert_int_equal(simple(&r, type, 0, NULL, 512, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(simple(&r, 0x80000000, 0, NULL, 512, 0), VIRTIO_BLK_S_UNSUPP);
	/* A header of 15 bytes. */
	v.status = vdrv_put(&r.d, &st, 1);
	seg[0] = (struct vdrv_seg){ vdrv_put(&r.d, NULL, 16), 15, false };
	seg[1] = (struct vdrv_seg){ v.status, 1, true };
	vdrv_add(&r.d, 0, seg, 2);
	assert_int_equal(finish(&r, 0, &v, NULL), VIRTIO_BLK_S_IOERR);
	/* None at all. */
	vdrv_add(&r.d, 0, seg + 1, 1);
	assert_int_equal(finish(&r, 0, &v, NULL), VIRTIO_BLK_S_IOERR);
	/* No data: nothing to do. */
	assert_int_equal(simple(&r, VIRTIO_BLK_T_IN, 0, NULL, 0, 0), 0);
	assert_int_equal(simple(&r, VIRTIO_BLK_T_OUT, SECTORS, NULL, 0, 0), 0);
	/* No room for the status: nobody can be told. */
	vdrv_add(&r.d, 0, seg, 1);
	vdrv_notify(&r.d, 0);
	assert_true(vdrv_needs_reset(&r.d));
	start(&r, &(struct how){ 0 });
	assert_int_equal(simple(&r, VIRTIO_BLK_T_IN, 0, NULL, 512, 0), 0);
	down(&r);
}

static void serial(void **s)
{
	struct rig r;
	u8 id[32];

	up(&r, &(struct how){ 0 });
	assert_int_equal(simple(&r, VIRTIO_BLK_T_GET_ID, 0, id, 20, 3), 0);
	assert_memory_equal(id, "a-serial-of-20-chars", 20);
	memset(id, 0xee, sizeof(id));
	assert_int_equal(simple(&r, VIRTIO_BLK_T_GET_ID, 0, id, 24, 0), 0);
	assert_memory_equal(id, "a-serial-of-20-chars\0\0\0", 24);
	assert_int_equal(simple(&r, VIRTIO_BLK_T_GET_ID, 0, id, 5, 0), 0);
	assert_memory_equal(id, "a-ser", 5);
	down(&r);
}

static void read_only(void **s)
{
	struct virtio_blk_discard_write_zeroes g = { .num_sectors = 1 };
	struct rig r;
	u8 buf[512];

	up(&r, &(struct how){ .mode = DISK_RO });
	assert_int_equal(simple(&r, VIRTIO_BLK_T_IN, 1, buf, 512, 0), 0);
	memset(buf, 0, 512);
	assert_int_equal(simple(&r, VIRTIO_BLK_T_OUT, 1, buf, 512, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple(&r, VIRTIO_BLK_T_DISCARD, 0, &g, 16, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple(&r, VIRTIO_BLK_T_WRITE_ZEROES, 0, &g, 16, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple(&r, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), 0);
	assert_int_equal(host.writes, 0);
	assert_int_equal(file_byte(&r, 513), (u8)(3 + 513));
	down(&r);
}

static void ranges(void **s)
{
	struct virtio_blk_discard_write_zeroes g[65] = { { 0 } };
	struct rig r;

	up(&r, &(struct how){ 0 });
	g[0] = (struct virtio_blk_discard_write_zeroes){ .sector = 8, .num_sectors = 8 };
	g[1] = (struct virtio_blk_discard_write_zeroes){ .sector = 32, .num_sectors = 1 };
	/* The list may be split anywhere. */
	assert_int_equal(simple(&r, VIRTIO_BLK_T_WRITE_ZEROES, 0, g, 32, 11), 0);
	assert_int_equal(file_byte(&r, 8 * 512), 0);
	assert_int_equal(file_byte(&r, 16 * 512 - 1), 0);
	assert_int_equal(file_byte(&r, 16 * 512), (u8)(16 * 3 + 16 * 512));
	assert_int_equal(file_byte(&r, 32 * 512 + 9), 0);
	assert_int_equal(file_byte(&r, 33 * 512), (u8)(33 * 3 + 33 * 512));
	g[0] = (struct virtio_blk_discard_write_zeroes){ .sector = 64, .num_sectors = 64 };
	assert_int_equal(simple(&r, VIRTIO_BLK_T_DISCARD, 0, g, 16, 0), 0);
	assert_int_equal(file_byte(&r, 64 * 512), 0);
	g[0].flags = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	assert_int_equal(simple(&r, VIRTIO_BLK_T_WRITE_ZEROES, 0, g, 16, 0), 0);
	host.writes = 0;
	/* From here on nothing may be touched. */
	assert_int_equal(simple(&r, VIRTIO_BLK_T_DISCARD, 0, g, 16, 0), VIRTIO_BLK_S_UNSUPP);
	g[0].flags = 2;
	assert_int_equal(simple(&r, VIRTIO_BLK_T_WRITE_ZEROES, 0, g, 16, 0), VIRTIO_BLK_S_UNSUPP);
	g[0] = (struct virtio_blk_discard_write_zeroes){ .sector = SECTORS, .num_sectors = 1 };
	assert_int_equal(simple(&r, VIRTIO_BLK_T_DISCARD, 0, g, 16, 0), VIRTIO_BLK_S_IOERR);
	g[0].sector = UINT64_MAX;
	assert_int_equal(simple(&r, VIRTIO_BLK_T_WRITE_ZEROES, 0, g, 16, 0), VIRTIO_BLK_S_IOERR);
	g[0] = (struct virtio_blk_discard_write_zeroes){ .num_sectors = UINT32_MAX };
	assert_int_equal(simple(&r, VIRTIO_BLK_T_DISCARD, 0, g, 16, 0), VIRTIO_BLK_S_IOERR);
	/* A good one does not go before a bad one. */
	g[0] = (struct virtio_blk_discard_write_zeroes){ .sector = 1, .num_sectors = 1 };
	g[1] = (struct virtio_blk_discard_write_zeroes){ .sector = SECTORS, .num_sectors = 1 };
	assert_int_equal(simple(&r, VIRTIO_BLK_T_DISCARD, 0, g, 32, 0), VIRTIO_BLK_S_IOERR);
	for (u32 len = 0; len < 48; len++)
		if (len % 16 || !len)
			assert_int_equal(simple(&r, VIRTIO_BLK_T_DISCARD, 0, g, len, 0),
					 VIRTIO_BLK_S_IOERR);
	g[1].sector = 0;
	assert_int_equal(simple(&r, VIRTIO_BLK_T_DISCARD, 0, g, 65 * 16, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(host.writes, 0);
	assert_int_equal(simple(&r, VIRTIO_BLK_T_DISCARD, 0, g, 64 * 16, 0), 0);
	down(&r);
}

/* --- flush ------------------------------------------------------------------------------------ */

/* Two writes wait for tokens in queues 0 and 1, a FLUSH comes by queue 2: it is the last. */
static void flush_waits_for_all_queues(void **s)
{
	struct how h = { .queues = 4, .iops = { .rate = 10, .burst = 10 } };
	struct req w[12], f, later;
	struct rig r;
	u8 buf[512] = { 1 };

	up(&r, &h);
	for (unsigned i = 0; i < 12; i++)
		w[i] = add(&r, i & 1, VIRTIO_BLK_T_OUT, i, buf, 512, 0);
	vdrv_notify(&r.d, 0);
	vdrv_notify(&r.d, 1);
	f = add(&r, 2, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0);
	vdrv_notify(&r.d, 2);
	/* It does not wait for what comes behind it. */
	later = add(&r, 3, VIRTIO_BLK_T_OUT, 100, buf, 512, 0);
	vdrv_notify(&r.d, 3);
	testclock_by(&r.d.clk, 50 * MS);
	assert_int_equal(host.writes, 10);
	assert_int_equal(r.stats.delayed, 3);
	assert_int_equal(status_of(&r, &f), 0xff);
	testclock_by(&r.d.clk, 100 * MS);
	assert_int_equal(host.writes, 11);
	assert_int_equal(status_of(&r, &f), 0xff);
	assert_int_equal(host.syncs, 0);
	testclock_by(&r.d.clk, 100 * MS);
	assert_int_equal(status_of(&r, &f), 0);
	assert_int_equal(host.syncs, 1);
	assert_int_equal(host.at_sync, 12);
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(status_of(&r, &w[i]), 0);
	assert_int_equal(status_of(&r, &later), 0xff);
	testclock_by(&r.d.clk, 100 * MS);
	assert_int_equal(status_of(&r, &later), 0);
	down(&r);
}

/* Several at once, each behind its own writes; one disappears with its queue. */
static void flushes_in_order(void **s)
{
	struct how h = { .queues = 4, .iops = { .rate = 10, .burst = 10 } };
	struct req f[3];
	struct rig r;
	u8 buf[512] = { 1 };

	up(&r, &h);
	for (unsigned i = 0; i < 10; i++)
		add(&r, 0, VIRTIO_BLK_T_OUT, i, buf, 512, 0);
	vdrv_notify(&r.d, 0);
	for (unsigned i = 0; i < 3; i++) {
		add(&r, 0, VIRTIO_BLK_T_OUT, 20 + i, buf, 512, 0);
		vdrv_notify(&r.d, 0);
		f[i] = add(&r, 1 + i, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0);
		vdrv_notify(&r.d, 1 + i);
	}
	vdrv_wr(&r.d, VIRTIO_MMIO_QUEUE_SEL, 2);
	vdrv_wr(&r.d, VDRV_QUEUE_RESET, 1);
	testclock_by(&r.d.clk, 110 * MS);
	assert_int_equal(status_of(&r, &f[0]), 0);
	assert_int_equal(host.at_sync, 11);
	assert_int_equal(status_of(&r, &f[2]), 0xff);
	/* The last one waits for the writes of the one that is gone as well. */
	testclock_by(&r.d.clk, 100 * MS);
	assert_int_equal(host.syncs, 1);
	testclock_by(&r.d.clk, 100 * MS);
	assert_int_equal(status_of(&r, &f[1]), 0xff);
	assert_int_equal(status_of(&r, &f[2]), 0);
	assert_int_equal(host.syncs, 2);
	assert_int_equal(host.at_sync, 13);
	down(&r);
}

static void write_through(void **s)
{
	struct how h = { .without = BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE) };
	struct virtio_blk_discard_write_zeroes g = { .num_sectors = 1 };
	u32 wce = 0x100 + offsetof(struct virtio_blk_config, wce);
	struct rig r;
	u8 buf[512] = { 1 };

	up(&r, &h);
	assert_int_equal(simple(&r, VIRTIO_BLK_T_OUT, 0, buf, 512, 0), 0);
	assert_int_equal(host.syncs, 1);
	assert_int_equal(simple(&r, VIRTIO_BLK_T_WRITE_ZEROES, 0, &g, 16, 0), 0);
	assert_int_equal(host.syncs, 2);
	assert_int_equal(simple(&r, VIRTIO_BLK_T_IN, 0, buf, 512, 0), 0);
	assert_int_equal(host.syncs, 2);
	/* The field does nothing where it was not negotiated. */
	virtio_mmio_bus_ops.write(r.d.m, wce, 1, 1, 0);
	assert_int_equal(CONFIG(&r, wce), 0);
	/* By the field, and back again. */
	start(&r, &(struct how){ 0 });
	host.syncs = 0;
	assert_int_equal(CONFIG(&r, wce), 1);
	assert_int_equal(simple(&r, VIRTIO_BLK_T_OUT, 0, buf, 512, 0), 0);
	assert_int_equal(host.syncs, 0);
	virtio_mmio_bus_ops.write(r.d.m, wce, 1, 0, 0);
	assert_int_equal(simple(&r, VIRTIO_BLK_T_OUT, 0, buf, 512, 0), 0);
	assert_int_equal(host.syncs, 1);
	virtio_mmio_bus_ops.write(r.d.m, wce, 1, 0xff, 0);
	assert_int_equal(CONFIG(&r, wce), 1);
	assert_int_equal(simple(&r, VIRTIO_BLK_T_OUT, 0, buf, 512, 0), 0);
	assert_int_equal(host.syncs, 1);
	/* Nothing else of the configuration can be written. */
	vdrv_wr(&r.d, 0x100, 77);
	assert_int_equal(CONFIG(&r, capacity), SECTORS);
	down(&r);
}

/* --- throttle, reset, failures ---------------------------------------------------------------- */

static void throttled(void **s)
{
	struct how h = { .bps = { .rate = 40960, .burst = 81920 } };
	struct req v[40];
	struct rig r;
	u8 buf[4096];

	up(&r, &h);
	for (unsigned i = 0; i < 15; i++)
		v[i] = add(&r, 0, VIRTIO_BLK_T_IN, i, NULL, 4096, 0);
	vdrv_notify(&r.d, 0);
	testclock_by(&r.d.clk, 10 * MS);
	for (unsigned i = 0; i < 15; i++)
		assert_int_equal(status_of(&r, &v[i]), 0);
	for (unsigned i = 15; i < 35; i++)
		v[i] = add(&r, 0, VIRTIO_BLK_T_IN, i, NULL, 4096, 0);
	vdrv_notify(&r.d, 0);
	testclock_by(&r.d.clk, 10 * MS);
	/* Five more were there; then ten a second. */
	assert_int_equal(status_of(&r, &v[19]), 0);
	for (unsigned i = 20; i < 35; i++) {
		assert_int_equal(status_of(&r, &v[i]), 0xff);
		testclock_by(&r.d.clk, 100 * MS);
		assert_int_equal(status_of(&r, &v[i]), 0);
		assert_int_equal(mem_read(r.d.mem, v[i].data, buf, sizeof(buf)), 0);
		assert_int_equal(buf[1], (u8)(i * 3 + i * 512 + 1));
	}
	assert_int_equal(r.stats.delayed, 15);
	assert_int_equal(r.stats.refused + r.stats.failed, 0);
	/* Neither a FLUSH nor the serial number costs anything. */
	v[0] = add(&r, 0, VIRTIO_BLK_T_IN, 0, NULL, 4096, 0);
	vdrv_notify(&r.d, 0);
	assert_int_equal(simple(&r, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), 0);
	down(&r);
}

/* Requests in every state when the driver resets the device, and when the VM ends. */
static void reset_under_way(void **s)
{
	struct how h = { .queues = 2, .iops = { .rate = 4, .burst = 4 } };
	struct virtio_blk_discard_write_zeroes g = { .num_sectors = 1 };
	struct rig r;
	u8 buf[512] = { 1 };

	for (unsigned round = 0; round < 3; round++) {
		h.real = round == 2;
		up(&r, &h);
		for (unsigned again = 0; again < 4; again++) {
			for (unsigned i = 0; i < 4; i++)
				add(&r, i & 1, VIRTIO_BLK_T_OUT, i, buf, 512, 0);
			add(&r, 0, VIRTIO_BLK_T_DISCARD, 0, &g, 16, 0);
			add(&r, 0, VIRTIO_BLK_T_WRITE_ZEROES, 0, &g, 16, 0);
			add(&r, 1, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0);
			add(&r, 1, VIRTIO_BLK_T_OUT, 0, buf, 512, 0);
			add(&r, 1, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0);
			vdrv_notify(&r.d, again & 1);
			vdrv_notify(&r.d, ~again & 1);
			if (again & 2)
				testclock_by(&r.d.clk, 9000);
			if (round == 1) {
				vdrv_wr(&r.d, VIRTIO_MMIO_QUEUE_SEL, again & 1);
				vdrv_wr(&r.d, VDRV_QUEUE_RESET, 1);
				testclock_by(&r.d.clk, 1000 * MS);
			}
			if (again < 3)
				start(&r, &h);
		}
		if (round == 0) {
			testclock_by(&r.d.clk, 10000 * MS);
			assert_int_equal(vq_in_flight(vdev_queue(r.d.v, 0)), 0);
			assert_int_equal(vq_in_flight(vdev_queue(r.d.v, 1)), 0);
		}
		down(&r);
	}
}

static void host_failures(void **s)
{
	struct virtio_blk_discard_write_zeroes g = { .sector = 9, .num_sectors = 1 };
	struct rig r;
	u8 buf[4096], zero[4096] = { 0 };

	up(&r, &(struct how){ 0 });
	/* Each kind of request fails alone: those before and behind it do what they should. */
	for (int n = 1; n <= 6; n++) {
		u8 st[5];

		host.fail_in = n;
		memset(buf, n, sizeof(buf));
		st[0] = simple(&r, VIRTIO_BLK_T_OUT, 0, buf, sizeof(buf), 0);
		st[1] = simple(&r, VIRTIO_BLK_T_IN, 0, buf, sizeof(buf), 0);
		if (n == 2)
			assert_memory_equal(buf, zero, sizeof(buf));
		st[2] = simple(&r, VIRTIO_BLK_T_WRITE_ZEROES, 0, &g, 16, 0);
		st[3] = simple(&r, VIRTIO_BLK_T_DISCARD, 0, &g, 16, 0);
		st[4] = simple(&r, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0);
		for (int i = 0; i < 5; i++)
			assert_int_equal(st[i], i + 1 == n ? VIRTIO_BLK_S_IOERR : 0);
		host.fail_in = 0;
	}
	assert_int_equal(r.failures, 5);
	assert_int_equal(r.stats.failed, 5);
	assert_int_equal(r.last_error, -EIO);
	/* A file that became shorter. */
	assert_int_equal(truncate(r.path, SIZE / 2 + 512), 0);
	memset(buf, 0xee, sizeof(buf));
	assert_int_equal(simple(&r, VIRTIO_BLK_T_IN, SECTORS / 2, buf, 4096, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_memory_equal(buf, zero, sizeof(buf));
	assert_int_equal(simple(&r, VIRTIO_BLK_T_OUT, SECTORS - 1, buf, 512, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple(&r, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), VIRTIO_BLK_S_IOERR);
	assert_false(vdrv_needs_reset(&r.d));
	down(&r);
}

/* Workers: four queues of requests, each sector written and read back. */
static void real_clock(void **s)
{
	struct how h = { .queues = 4, .real = true };
	struct rig r;
	u8 buf[512];

	up(&r, &h);
	for (unsigned i = 0; i < 200; i++) {
		struct req v;

		memset(buf, (int)i, sizeof(buf));
		v = add(&r, i % 4, VIRTIO_BLK_T_OUT, i, buf, 512, 0);
		assert_int_equal(finish(&r, i % 4, &v, NULL), 0);
		v = add(&r, (i + 1) % 4, VIRTIO_BLK_T_IN, i, NULL, 512, i % 3);
		assert_int_equal(finish(&r, (i + 1) % 4, &v, NULL), 0);
		assert_int_equal(mem_read(r.d.mem, v.data, buf, 512), 0);
		assert_int_equal(buf[500], (u8)i);
	}
	assert_false(gate_held(r.g));
	down(&r);
}

/* Memory changes when the request completes, and not before. */
static void due_time(void **s)
{
	struct rig r;
	struct req v;
	u8 before[512], now[512];

	up(&r, &(struct how){ 0 });
	v = add(&r, 0, VIRTIO_BLK_T_IN, 4, NULL, 512, 0);
	assert_int_equal(mem_read(r.d.mem, v.data, before, 512), 0);
	vdrv_notify(&r.d, 0);
	testclock_by(&r.d.clk, 8000 + 153 - 1);
	assert_int_equal(mem_read(r.d.mem, v.data, now, 512), 0);
	assert_memory_equal(before, now, 512);
	assert_int_equal(status_of(&r, &v), 0xff);
	testclock_by(&r.d.clk, 1);
	assert_int_equal(status_of(&r, &v), 0);
	down(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(config),
		cmocka_unit_test(read_write),
		cmocka_unit_test(many_pieces),
		cmocka_unit_test(bad_ranges),
		cmocka_unit_test(odd_requests),
		cmocka_unit_test(serial),
		cmocka_unit_test(read_only),
		cmocka_unit_test(ranges),
		cmocka_unit_test(flush_waits_for_all_queues),
		cmocka_unit_test(flushes_in_order),
		cmocka_unit_test(write_through),
		cmocka_unit_test(throttled),
		cmocka_unit_test(reset_under_way),
		cmocka_unit_test(host_failures),
		cmocka_unit_test(real_clock),
		cmocka_unit_test(due_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
