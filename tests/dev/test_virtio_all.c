// SPDX-License-Identifier: Apache-2.0
/*
 * test_virtio_all.c - what every virtio device must do alike, asked of each of them
 *
 * The transport and the core have tests with a device of their own (tests/virtio); here it is that
 * none of the real ones goes around them.
 */
#include "base/gate.h"
#include "dev/virtio_balloon.h"
#include "dev/virtio_blk.h"
#include "dev/virtio_console.h"
#include "dev/virtio_fs.h"
#include "dev/virtio_net.h"
#include "dev/virtio_rng.h"
#include "dev/virtio_vsock.h"

#include "../virtio/driver.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

struct rig {
	struct vdrv d;
	struct gate *g;
	struct disk *disk;
	struct net *net;
	struct fuse *fuse;
};

static void on_kick(void *o)
{
}

static void on_tx(void *o, unsigned port, const u8 *bytes, size_t n)
{
}

static void on_room(void *o, unsigned port)
{
}

static int on_open(void *o, u32 port)
{
	return -1;
}

static u64 now(void *o)
{
	return 0;
}

static struct vdev *new_rng(struct rig *r)
{
	struct vdev *v;

	assert_int_equal(virtio_rng_new(&r->d.env, &v), 0);
	return v;
}

static struct vdev *new_blk(struct rig *r)
{
	struct disk_cfg dc = { .opt = "disk", .size = 1 << 20 };
	struct virtio_blk_cfg c = { .queues = 1, .serial = "x" };
	struct err e;
	struct vdev *v;

	assert_int_equal(disk_open(&dc, &e, &r->disk), 0);
	c.disk = r->disk;
	assert_int_equal(virtio_blk_new(&r->d.env, &c, &v), 0);
	return v;
}

static struct vdev *new_net(struct rig *r)
{
	static struct virtio_net_stats stats;
	struct virtio_net_cfg c = { .mtu = 1500, .pairs = 1, .stats = &stats };
	struct vdev *v;

	assert_int_equal(net_none_new(&r->net), 0);
	c.net = r->net;
	assert_int_equal(virtio_net_new(&c, &r->d.env, &v), 0);
	return v;
}

static struct vdev *new_console(struct rig *r)
{
	static const struct virtio_console_ops ops = { .tx = on_tx, .rx_space = on_room };
	struct virtio_console_cfg c = { .rows = 25, .cols = 80, .ops = &ops };
	struct virtio_console *con;
	struct vdev *v;

	assert_int_equal(virtio_console_new(&r->d.env, &c, &con, &v), 0);
	return v;
}

static struct vdev *new_balloon(struct rig *r)
{
	struct virtio_balloon_cfg c = { .report = true };
	struct virtio_balloon *b;
	struct vdev *v;

	assert_int_equal(virtio_balloon_new(&r->d.env, &c, &b, &v), 0);
	return v;
}

static struct vdev *new_fs(struct rig *r)
{
	struct fuse_cfg c = { .exact = true, .now = now, .fds = 64 };
	struct vdev *v;

	c.root = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(fuse_new(&c, &r->fuse), 0);
	assert_int_equal(virtio_fs_new(&r->d.env, "tag", r->fuse, &v), 0);
	return v;
}

static struct vdev *new_vsock(struct rig *r)
{
	struct gate_cfg gc = { .kick = on_kick };
	struct virtio_vsock_cfg c = { .cid = 3, .open = on_open };
	struct virtio_vsock *s;
	struct vdev *v;

	assert_int_equal(gate_new(&gc, &r->g), 0);
	r->d.env.gate = r->g;
	assert_int_equal(virtio_vsock_new(&c, &r->d.env, &s, &v), 0);
	return v;
}

static const struct {
	const char *name;
	struct vdev *(*make)(struct rig *r);
	unsigned queues;
} devices[] = {
	{ "rng", new_rng, 1 },	       { "blk", new_blk, 1 }, { "net", new_net, 3 },
	{ "console", new_console, 2 }, { "fs", new_fs, 2 },   { "vsock", new_vsock, 3 },
	{ "balloon", new_balloon, 4 },
};

static void up(struct rig *r, unsigned i)
{
	memset(r, 0, sizeof(*r));
	vdrv_up(&r->d);
	vdrv_attach(&r->d, devices[i].make(r));
}

static void down(struct rig *r)
{
	vdrv_down(&r->d);
	fuse_free(r->fuse);
	net_free(r->net);
	disk_free(r->disk);
	if (r->g)
		gate_free(r->g);
}

/* VERSION_1, without which a driver goes away, and what makes rings cheap. */
static void features(void **s)
{
	const u64 want = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX) |
			 BIT(VIRTIO_RING_F_INDIRECT_DESC);

	for (unsigned i = 0; i < ARRAY_LEN(devices); i++) {
		struct rig r;

		up(&r, i);
		if ((vdrv_features(&r.d) & want) != want)
			fail_msg("%s offers %llx", devices[i].name,
				 (unsigned long long)vdrv_features(&r.d));
		assert_false(vdrv_negotiate(&r.d, UINT64_MAX & ~BIT(VIRTIO_F_VERSION_1)));
		assert_true(vdrv_negotiate(&r.d, UINT64_MAX));
		down(&r);
	}
}

/* A cycle of descriptors, or a buffer that is nowhere, in each queue: at most a reset is needed. */
static void breaks_alone(void **s)
{
	for (unsigned i = 0; i < ARRAY_LEN(devices); i++) {
		for (unsigned q = 0; q < devices[i].queues; q++) {
			struct vring_desc loop = { 0x2000, 1, VRING_DESC_F_NEXT, 0 };
			struct rig r;

			up(&r, i);
			vdrv_start(&r.d, UINT64_MAX, devices[i].queues, 16);
			vdrv_desc(&r.d, r.d.ring[q].desc, 0, &loop);
			vdrv_avail(&r.d, q, 0);
			vdrv_notify(&r.d, q);
			testclock_by(&r.d.clk, 1000000000);
			assert_int_equal(vdrv_used_idx(&r.d, q), 0);
			vdrv_start(&r.d, UINT64_MAX, devices[i].queues, 16);
			assert_false(vdrv_needs_reset(&r.d));
			loop = (struct vring_desc){ 0x80000000, 4096, 0, 0 };
			vdrv_desc(&r.d, r.d.ring[q].desc, 0, &loop);
			vdrv_avail(&r.d, q, 0);
			vdrv_notify(&r.d, q);
			testclock_by(&r.d.clk, 1000000000);
			assert_int_equal(vdrv_used_idx(&r.d, q), 0);
			/* Whatever it did, a reset heals it. */
			vdrv_start(&r.d, UINT64_MAX, devices[i].queues, 16);
			assert_false(vdrv_needs_reset(&r.d));
			down(&r);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(features),
		cmocka_unit_test(breaks_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
