// SPDX-License-Identifier: Apache-2.0
/*
 * test_virtio_blk.c - the block device, driven by its registers and queues
 */
#include "blk_rig.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

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

	blk_up(&r, &h);
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
	blk_down(&r);
	h = (struct how){ .mode = DISK_RO };
	blk_up(&r, &h);
	f = vdrv_features(&r.d);
	assert_true(f & BIT(VIRTIO_BLK_F_RO));
	assert_false(f & (BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_MQ)));
	blk_down(&r);
}

/* A byte pattern there and back, however the request is cut. */
static void read_write(void **s)
{
	static const u32 cuts[] = { 0, 1, 2, 511, 512, 513, 1000, 4095 };
	struct rig r;
	u8 a[4096], b[4096];

	blk_up(&r, &(struct how){ 0 });
	for (unsigned i = 0; i < ARRAY_LEN(cuts); i++) {
		u64 sector = 8 * i + 1;

		memset(a, (int)i + 0x40, sizeof(a));
		a[511] = (u8)i;
		assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_OUT, sector, a, sizeof(a), cuts[i]),
				 0);
		memset(b, 0, sizeof(b));
		assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_IN, sector, b, sizeof(b), cuts[7 - i]),
				 0);
		assert_memory_equal(a, b, sizeof(a));
	}
	assert_int_equal(blk_file_byte(&r, 512 + 511), 0);
	assert_int_equal(blk_file_byte(&r, 512 + 512), 0x40);
	/* Exactly the last sector. */
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_IN, SECTORS - 1, b, 512, 0), 0);
	assert_int_equal(b[5], (u8)((SECTORS - 1) * 3 + (SIZE - 512) + 5));
	assert_int_equal(r.stats.reads, 9);
	assert_int_equal(r.stats.writes, 8);
	assert_int_equal(r.stats.written_bytes, 8 * 4096);
	assert_int_equal(r.stats.refused, 0);
	assert_int_equal(r.failures, 0);
	blk_down(&r);
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

	blk_up(&r, &(struct how){ 0 });
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
	blk_down(&r);
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

	blk_up(&r, &(struct how){ 0 });
	before = blk_file_byte(&r, 0);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		for (u32 type = VIRTIO_BLK_T_IN; type <= VIRTIO_BLK_T_OUT; type++) {
			struct req v = blk_add(&r, 0, type, bad[i].sector, buf, bad[i].len, 0);
			u32 used;

			assert_int_equal(blk_finish(&r, 0, &v, &used), VIRTIO_BLK_S_IOERR);
			assert_int_equal(used, 1);
		}
	assert_int_equal(r.stats.refused, 2 * ARRAY_LEN(bad));
	assert_int_equal(r.failures, 0);
	assert_int_equal(blk_file_byte(&r, 0), before);
	assert_false(vdrv_needs_reset(&r.d));
	blk_down(&r);
}

static void odd_requests(void **s)
{
	struct rig r;
	struct vdrv_seg seg[2];
	struct req v;
	u8 st = 0xff;

	blk_up(&r, &(struct how){ 0 });
	for (u32 type = 2; type < 40; type++)
		if (type != VIRTIO_BLK_T_FLUSH && type != VIRTIO_BLK_T_GET_ID &&
		    type != VIRTIO_BLK_T_DISCARD && type != VIRTIO_BLK_T_WRITE_ZEROES)
			assert_int_equal(blk_simple(&r, type, 0, NULL, 512, 0),
					 VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(blk_simple(&r, 0x80000000, 0, NULL, 512, 0), VIRTIO_BLK_S_UNSUPP);
	/* A header of 15 bytes. */
	v.status = vdrv_put(&r.d, &st, 1);
	seg[0] = (struct vdrv_seg){ vdrv_put(&r.d, NULL, 16), 15, false };
	seg[1] = (struct vdrv_seg){ v.status, 1, true };
	vdrv_add(&r.d, 0, seg, 2);
	assert_int_equal(blk_finish(&r, 0, &v, NULL), VIRTIO_BLK_S_IOERR);
	/* None at all. */
	vdrv_add(&r.d, 0, seg + 1, 1);
	assert_int_equal(blk_finish(&r, 0, &v, NULL), VIRTIO_BLK_S_IOERR);
	/* No data: nothing to do. */
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_IN, 0, NULL, 0, 0), 0);
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_OUT, SECTORS, NULL, 0, 0), 0);
	/* No room for the status: nobody can be told. */
	vdrv_add(&r.d, 0, seg, 1);
	vdrv_notify(&r.d, 0);
	assert_true(vdrv_needs_reset(&r.d));
	blk_start(&r, &(struct how){ 0 });
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_IN, 0, NULL, 512, 0), 0);
	blk_down(&r);
}

static void serial(void **s)
{
	struct rig r;
	u8 id[32];

	blk_up(&r, &(struct how){ 0 });
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_GET_ID, 0, id, 20, 3), 0);
	assert_memory_equal(id, "a-serial-of-20-chars", 20);
	memset(id, 0xee, sizeof(id));
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_GET_ID, 0, id, 24, 0), 0);
	assert_memory_equal(id, "a-serial-of-20-chars\0\0\0", 24);
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_GET_ID, 0, id, 5, 0), 0);
	assert_memory_equal(id, "a-ser", 5);
	blk_down(&r);
}

static void read_only(void **s)
{
	struct virtio_blk_discard_write_zeroes g = { .num_sectors = 1 };
	struct rig r;
	u8 buf[512];

	blk_up(&r, &(struct how){ .mode = DISK_RO });
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_IN, 1, buf, 512, 0), 0);
	memset(buf, 0, 512);
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_OUT, 1, buf, 512, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_DISCARD, 0, &g, 16, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_WRITE_ZEROES, 0, &g, 16, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), 0);
	assert_int_equal(host.writes, 0);
	assert_int_equal(blk_file_byte(&r, 513), (u8)(3 + 513));
	blk_down(&r);
}

static void ranges_by(bool real)
{
	struct virtio_blk_discard_write_zeroes g[65] = { { 0 } };
	struct rig r;

	blk_up(&r, &(struct how){ .real = real });
	g[0] = (struct virtio_blk_discard_write_zeroes){ .sector = 8, .num_sectors = 8 };
	g[1] = (struct virtio_blk_discard_write_zeroes){ .sector = 32, .num_sectors = 1 };
	/* The list may be split anywhere. */
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_WRITE_ZEROES, 0, g, 32, 11), 0);
	assert_int_equal(blk_file_byte(&r, 8 * 512), 0);
	assert_int_equal(blk_file_byte(&r, 16 * 512 - 1), 0);
	assert_int_equal(blk_file_byte(&r, 16 * 512), (u8)(16 * 3 + 16 * 512));
	assert_int_equal(blk_file_byte(&r, 32 * 512 + 9), 0);
	assert_int_equal(blk_file_byte(&r, 33 * 512), (u8)(33 * 3 + 33 * 512));
	g[0] = (struct virtio_blk_discard_write_zeroes){ .sector = 64, .num_sectors = 64 };
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_DISCARD, 0, g, 16, 0), 0);
	assert_int_equal(blk_file_byte(&r, 64 * 512), 0);
	g[0].flags = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_WRITE_ZEROES, 0, g, 16, 0), 0);
	host.writes = 0;
	/* From here on nothing may be touched. */
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_DISCARD, 0, g, 16, 0), VIRTIO_BLK_S_UNSUPP);
	g[0].flags = 2;
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_WRITE_ZEROES, 0, g, 16, 0),
			 VIRTIO_BLK_S_UNSUPP);
	g[0] = (struct virtio_blk_discard_write_zeroes){ .sector = SECTORS, .num_sectors = 1 };
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_DISCARD, 0, g, 16, 0), VIRTIO_BLK_S_IOERR);
	g[0].sector = UINT64_MAX;
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_WRITE_ZEROES, 0, g, 16, 0),
			 VIRTIO_BLK_S_IOERR);
	g[0] = (struct virtio_blk_discard_write_zeroes){ .num_sectors = UINT32_MAX };
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_DISCARD, 0, g, 16, 0), VIRTIO_BLK_S_IOERR);
	/* A good one does not go before a bad one. */
	g[0] = (struct virtio_blk_discard_write_zeroes){ .sector = 1, .num_sectors = 1 };
	g[1] = (struct virtio_blk_discard_write_zeroes){ .sector = SECTORS, .num_sectors = 1 };
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_DISCARD, 0, g, 32, 0), VIRTIO_BLK_S_IOERR);
	for (u32 len = 0; len < 48; len++)
		if (len % 16 || !len)
			assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_DISCARD, 0, g, len, 0),
					 VIRTIO_BLK_S_IOERR);
	g[1].sector = 0;
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_DISCARD, 0, g, 65 * 16, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(host.writes, 0);
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_DISCARD, 0, g, 64 * 16, 0), 0);
	blk_down(&r);
}

/* On the VM's thread and by workers: a type that only one of them knows would be another's read. */
static void ranges(void **s)
{
	ranges_by(false);
	ranges_by(true);
}

/* --- flush ------------------------------------------------------------------------------------ */

/* Two writes wait for tokens in queues 0 and 1, a FLUSH comes by queue 2: it is the last. */
static void flush_waits_for_all_queues(void **s)
{
	struct how h = { .queues = 4, .iops = { .rate = 10, .burst = 10 } };
	struct req w[12], f, later;
	struct rig r;
	u8 buf[512] = { 1 };

	blk_up(&r, &h);
	for (unsigned i = 0; i < 12; i++)
		w[i] = blk_add(&r, i & 1, VIRTIO_BLK_T_OUT, i, buf, 512, 0);
	vdrv_notify(&r.d, 0);
	vdrv_notify(&r.d, 1);
	f = blk_add(&r, 2, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0);
	vdrv_notify(&r.d, 2);
	/* It does not wait for what comes behind it. */
	later = blk_add(&r, 3, VIRTIO_BLK_T_OUT, 100, buf, 512, 0);
	vdrv_notify(&r.d, 3);
	testclock_by(&r.d.clk, 50 * MS);
	assert_int_equal(host.writes, 10);
	assert_int_equal(r.stats.delayed, 3);
	assert_int_equal(blk_status(&r, &f), 0xff);
	testclock_by(&r.d.clk, 100 * MS);
	assert_int_equal(host.writes, 11);
	assert_int_equal(blk_status(&r, &f), 0xff);
	assert_int_equal(host.syncs, 0);
	testclock_by(&r.d.clk, 100 * MS);
	assert_int_equal(blk_status(&r, &f), 0);
	assert_int_equal(host.syncs, 1);
	assert_int_equal(host.at_sync, 12);
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(blk_status(&r, &w[i]), 0);
	assert_int_equal(blk_status(&r, &later), 0xff);
	testclock_by(&r.d.clk, 100 * MS);
	assert_int_equal(blk_status(&r, &later), 0);
	blk_down(&r);
}

/* Several at once, each behind its own writes; one disappears with its queue. */
static void flushes_in_order(void **s)
{
	struct how h = { .queues = 4, .iops = { .rate = 10, .burst = 10 } };
	struct req f[3];
	struct rig r;
	u8 buf[512] = { 1 };

	blk_up(&r, &h);
	for (unsigned i = 0; i < 10; i++)
		blk_add(&r, 0, VIRTIO_BLK_T_OUT, i, buf, 512, 0);
	vdrv_notify(&r.d, 0);
	for (unsigned i = 0; i < 3; i++) {
		blk_add(&r, 0, VIRTIO_BLK_T_OUT, 20 + i, buf, 512, 0);
		vdrv_notify(&r.d, 0);
		f[i] = blk_add(&r, 1 + i, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0);
		vdrv_notify(&r.d, 1 + i);
	}
	vdrv_wr(&r.d, VIRTIO_MMIO_QUEUE_SEL, 2);
	vdrv_wr(&r.d, VDRV_QUEUE_RESET, 1);
	testclock_by(&r.d.clk, 110 * MS);
	assert_int_equal(blk_status(&r, &f[0]), 0);
	assert_int_equal(host.at_sync, 11);
	assert_int_equal(blk_status(&r, &f[2]), 0xff);
	/* The last one waits for the writes of the one that is gone as well. */
	testclock_by(&r.d.clk, 100 * MS);
	assert_int_equal(host.syncs, 1);
	testclock_by(&r.d.clk, 100 * MS);
	assert_int_equal(blk_status(&r, &f[1]), 0xff);
	assert_int_equal(blk_status(&r, &f[2]), 0);
	assert_int_equal(host.syncs, 2);
	assert_int_equal(host.at_sync, 13);
	blk_down(&r);
}

static void write_through(void **s)
{
	struct how h = { .without = BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE) };
	struct virtio_blk_discard_write_zeroes g = { .num_sectors = 1 };
	u32 wce = 0x100 + offsetof(struct virtio_blk_config, wce);
	struct rig r;
	u8 buf[512] = { 1 };

	blk_up(&r, &h);
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_OUT, 0, buf, 512, 0), 0);
	assert_int_equal(host.syncs, 1);
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_WRITE_ZEROES, 0, &g, 16, 0), 0);
	assert_int_equal(host.syncs, 2);
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_IN, 0, buf, 512, 0), 0);
	assert_int_equal(host.syncs, 2);
	/* The field does nothing where it was not negotiated. */
	virtio_mmio_bus_ops.write(r.d.m, wce, 1, 1, 0);
	assert_int_equal(CONFIG(&r, wce), 0);
	/* By the field, and back again. */
	blk_start(&r, &(struct how){ 0 });
	host.syncs = 0;
	assert_int_equal(CONFIG(&r, wce), 1);
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_OUT, 0, buf, 512, 0), 0);
	assert_int_equal(host.syncs, 0);
	virtio_mmio_bus_ops.write(r.d.m, wce, 1, 0, 0);
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_OUT, 0, buf, 512, 0), 0);
	assert_int_equal(host.syncs, 1);
	virtio_mmio_bus_ops.write(r.d.m, wce, 1, 0xff, 0);
	assert_int_equal(CONFIG(&r, wce), 1);
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_OUT, 0, buf, 512, 0), 0);
	assert_int_equal(host.syncs, 1);
	/* Nothing else of the configuration can be written. */
	vdrv_wr(&r.d, 0x100, 77);
	assert_int_equal(CONFIG(&r, capacity), SECTORS);
	blk_down(&r);
}

/* --- throttle, reset, failures ---------------------------------------------------------------- */

static void throttled(void **s)
{
	struct how h = { .bps = { .rate = 40960, .burst = 81920 } };
	struct req v[40];
	struct rig r;
	u8 buf[4096];

	blk_up(&r, &h);
	for (unsigned i = 0; i < 15; i++)
		v[i] = blk_add(&r, 0, VIRTIO_BLK_T_IN, i, NULL, 4096, 0);
	vdrv_notify(&r.d, 0);
	testclock_by(&r.d.clk, 10 * MS);
	for (unsigned i = 0; i < 15; i++)
		assert_int_equal(blk_status(&r, &v[i]), 0);
	for (unsigned i = 15; i < 35; i++)
		v[i] = blk_add(&r, 0, VIRTIO_BLK_T_IN, i, NULL, 4096, 0);
	vdrv_notify(&r.d, 0);
	testclock_by(&r.d.clk, 10 * MS);
	/* Five more were there; then ten a second. */
	assert_int_equal(blk_status(&r, &v[19]), 0);
	for (unsigned i = 20; i < 35; i++) {
		assert_int_equal(blk_status(&r, &v[i]), 0xff);
		testclock_by(&r.d.clk, 100 * MS);
		assert_int_equal(blk_status(&r, &v[i]), 0);
		assert_int_equal(mem_read(r.d.mem, v[i].data, buf, sizeof(buf)), 0);
		assert_int_equal(buf[1], (u8)(i * 3 + i * 512 + 1));
	}
	assert_int_equal(r.stats.delayed, 15);
	assert_int_equal(r.stats.refused + r.stats.failed, 0);
	/* Neither a FLUSH nor the serial number costs anything. */
	v[0] = blk_add(&r, 0, VIRTIO_BLK_T_IN, 0, NULL, 4096, 0);
	vdrv_notify(&r.d, 0);
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), 0);
	blk_down(&r);
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
		blk_up(&r, &h);
		for (unsigned again = 0; again < 4; again++) {
			for (unsigned i = 0; i < 4; i++)
				blk_add(&r, i & 1, VIRTIO_BLK_T_OUT, i, buf, 512, 0);
			blk_add(&r, 0, VIRTIO_BLK_T_DISCARD, 0, &g, 16, 0);
			blk_add(&r, 0, VIRTIO_BLK_T_WRITE_ZEROES, 0, &g, 16, 0);
			blk_add(&r, 1, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0);
			blk_add(&r, 1, VIRTIO_BLK_T_OUT, 0, buf, 512, 0);
			blk_add(&r, 1, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0);
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
				blk_start(&r, &h);
		}
		if (round == 0) {
			testclock_by(&r.d.clk, 10000 * MS);
			assert_int_equal(vq_in_flight(vdev_queue(r.d.v, 0)), 0);
			assert_int_equal(vq_in_flight(vdev_queue(r.d.v, 1)), 0);
		}
		blk_down(&r);
	}
}

static void host_failures_by(bool real)
{
	struct virtio_blk_discard_write_zeroes g = { .sector = 9, .num_sectors = 1 };
	struct rig r;
	u8 buf[4096], zero[4096] = { 0 };

	blk_up(&r, &(struct how){ .real = real });
	/* Each kind of request fails alone: those before and behind it do what they should. */
	for (int n = 1; n <= 6; n++) {
		u8 st[5];

		host.fail_in = n;
		memset(buf, n, sizeof(buf));
		st[0] = blk_simple(&r, VIRTIO_BLK_T_OUT, 0, buf, sizeof(buf), 0);
		st[1] = blk_simple(&r, VIRTIO_BLK_T_IN, 0, buf, sizeof(buf), 0);
		if (n == 2)
			assert_memory_equal(buf, zero, sizeof(buf));
		st[2] = blk_simple(&r, VIRTIO_BLK_T_WRITE_ZEROES, 0, &g, 16, 0);
		st[3] = blk_simple(&r, VIRTIO_BLK_T_DISCARD, 0, &g, 16, 0);
		st[4] = blk_simple(&r, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0);
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
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_IN, SECTORS / 2, buf, 4096, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_memory_equal(buf, zero, sizeof(buf));
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_OUT, SECTORS - 1, buf, 512, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), VIRTIO_BLK_S_IOERR);
	assert_false(vdrv_needs_reset(&r.d));
	blk_down(&r);
}

static void host_failures(void **s)
{
	host_failures_by(false);
	host_failures_by(true);
}

/* Workers: four queues of requests, each sector written and read back. */
static void real_clock(void **s)
{
	struct how h = { .queues = 4, .real = true };
	struct rig r;
	u8 buf[512];

	blk_up(&r, &h);
	for (unsigned i = 0; i < 200; i++) {
		struct req v;

		memset(buf, (int)i, sizeof(buf));
		v = blk_add(&r, i % 4, VIRTIO_BLK_T_OUT, i, buf, 512, 0);
		assert_int_equal(blk_finish(&r, i % 4, &v, NULL), 0);
		v = blk_add(&r, (i + 1) % 4, VIRTIO_BLK_T_IN, i, NULL, 512, i % 3);
		assert_int_equal(blk_finish(&r, (i + 1) % 4, &v, NULL), 0);
		assert_int_equal(mem_read(r.d.mem, v.data, buf, 512), 0);
		assert_int_equal(buf[500], (u8)i);
	}
	assert_false(gate_held(r.g));
	blk_down(&r);
}

/* A host that takes its time holds up its request, not the VM's thread, and not other requests. */
static void slow_host(void **s)
{
	struct how h = { .queues = 2, .real = true };
	struct rig r;
	struct req v;
	u8 id[20], buf[512];

	blk_up(&r, &h);
	host_hold(true);
	v = blk_add(&r, 1, VIRTIO_BLK_T_IN, 7, NULL, 512, 0);
	vdrv_notify(&r.d, 1);
	host_wait_inside(1);
	assert_false(pthread_equal(host.by, pthread_self()));
	assert_int_equal(blk_status(&r, &v), 0xff);
	assert_true(gate_held(r.g)); /* an idle guest waits for it */
	assert_int_equal(blk_simple(&r, VIRTIO_BLK_T_GET_ID, 0, id, 20, 0), 0);
	assert_int_equal(blk_status(&r, &v), 0xff);
	host_hold(false);
	assert_int_equal(blk_finish(&r, 1, &v, NULL), 0);
	assert_int_equal(mem_read(r.d.mem, v.data, buf, 512), 0);
	assert_int_equal(buf[9], (u8)(7 * 3 + 7 * 512 + 9));
	assert_false(gate_held(r.g));
	blk_down(&r);
}

/* Whether this process' first thread, which runs the test, sleeps. */
static bool main_sleeps(void)
{
	char text[512] = "";
	FILE *f = fopen("/proc/self/stat", "r");
	char *state;

	assert_non_null(f);
	assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
	fclose(f);
	state = strrchr(text, ')');
	return state && state[2] == 'S';
}

static bool gone;

/* Lets the host's calls go when the test waits for them, or did not wait. */
static void *let_go(void *unused)
{
	while (!main_sleeps() && !__atomic_load_n(&gone, __ATOMIC_ACQUIRE))
		sched_yield();
	host_hold(false);
	return NULL;
}

/* The end of the VM waits for workers: they write to the memory that is about to go. */
static void ends_under_way(void **s)
{
	struct how h = { .real = true };
	unsigned inside;
	struct rig r;
	pthread_t t;

	for (unsigned i = 0; i < 20; i++) {
		blk_up(&r, &h);
		host_hold(true);
		for (unsigned k = 0; k < 3; k++)
			blk_add(&r, 0, k ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, k, NULL, 4096, 0);
		vdrv_notify(&r.d, 0);
		host_wait_inside(2);
		gone = false;
		assert_int_equal(pthread_create(&t, NULL, let_go, NULL), 0);
		blk_down(&r);
		pthread_mutex_lock(&host.lock);
		inside = host.inside;
		pthread_mutex_unlock(&host.lock);
		__atomic_store_n(&gone, true, __ATOMIC_RELEASE);
		pthread_join(t, NULL);
		assert_int_equal(inside, 0);
	}
}

/* Two VMs in one process: what one's host finishes does not complete another's request. */
static void two_vms(void **s)
{
	struct rig r[2];
	struct req v[2];
	u8 buf[512] = { 0 };

	for (unsigned real = 0; real < 2; real++) {
		for (unsigned i = 0; i < 2; i++)
			blk_up(&r[i], &(struct how){ .real = real });
		for (unsigned i = 0; i < 2; i++) {
			memset(buf, 0x10 + (int)i, sizeof(buf));
			v[i] = blk_add(&r[i], 0, VIRTIO_BLK_T_OUT, 3, buf, 512, 0);
		}
		vdrv_notify(&r[1].d, 0);
		assert_int_equal(blk_finish(&r[0], 0, &v[0], NULL), 0);
		assert_int_equal(r[1].stats.written_bytes, 0);
		assert_int_equal(blk_status(&r[1], &v[1]), 0xff);
		assert_int_equal(blk_finish(&r[1], 0, &v[1], NULL), 0);
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(blk_file_byte(&r[i], 3 * 512), 0x10 + i);
			assert_int_equal(r[i].d.rises, 1);
			blk_down(&r[i]);
		}
	}
}

/* Memory changes when the request completes, and not before. */
static void due_time(void **s)
{
	struct rig r;
	struct req v;
	u8 before[512], now[512];

	blk_up(&r, &(struct how){ 0 });
	v = blk_add(&r, 0, VIRTIO_BLK_T_IN, 4, NULL, 512, 0);
	assert_int_equal(mem_read(r.d.mem, v.data, before, 512), 0);
	vdrv_notify(&r.d, 0);
	testclock_by(&r.d.clk, 8000 + 153 - 1);
	assert_int_equal(mem_read(r.d.mem, v.data, now, 512), 0);
	assert_memory_equal(before, now, 512);
	assert_int_equal(blk_status(&r, &v), 0xff);
	testclock_by(&r.d.clk, 1);
	assert_int_equal(blk_status(&r, &v), 0);
	blk_down(&r);
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
		cmocka_unit_test(slow_host),
		cmocka_unit_test(ends_under_way),
		cmocka_unit_test(two_vms),
		cmocka_unit_test(due_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
