// SPDX-License-Identifier: Apache-2.0
/*
 * blk_rig.c - a driver of the block device in a test, and the host's I/O functions
 */
#include "blk_rig.h"

#include <errno.h>
#include <fcntl.h>
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

#define ALL (UINT64_MAX & ~BIT(VIRTIO_F_RING_PACKED) & ~BIT(VIRTIO_F_ACCESS_PLATFORM))

/* --- the host --------------------------------------------------------------------------------- */

struct host host = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

void host_hold(bool on)
{
	pthread_mutex_lock(&host.lock);
	host.hold = on;
	pthread_cond_broadcast(&host.changed);
	pthread_mutex_unlock(&host.lock);
}

void host_wait_inside(unsigned n)
{
	pthread_mutex_lock(&host.lock);
	while (host.inside < n)
		pthread_cond_wait(&host.changed, &host.lock);
	pthread_mutex_unlock(&host.lock);
}

static void enter(void)
{
	pthread_mutex_lock(&host.lock);
	host.by = pthread_self();
	host.inside++;
	pthread_cond_broadcast(&host.changed);
	while (host.hold)
		pthread_cond_wait(&host.changed, &host.lock);
	host.inside--;
	pthread_mutex_unlock(&host.lock);
}

static bool fails(void)
{
	enter();
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

static void on_failed(void *opaque, const char *what, u64 off, int err)
{
	struct rig *r = opaque;

	r->failures++;
	r->last_error = err;
}

static void on_kick(void *opaque)
{
}

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

void blk_start(struct rig *r, const struct how *h)
{
	vdrv_start(&r->d, ALL & ~h->without, h->queues ? h->queues : 1, 64);
}

void blk_up(struct rig *r, const struct how *h)
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
	host.writes = host.syncs = host.at_sync = 0;
	host.fail_in = 0;
	host.hold = false;
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
	blk_start(r, h);
}

void blk_down(struct rig *r)
{
	vdrv_down(&r->d);
	if (r->g)
		gate_free(r->g);
	disk_free(r->disk);
	unlink(r->path);
}

struct req blk_add(struct rig *r, unsigned q, u32 type, u64 sector, const void *data, u32 len,
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

u8 blk_status(struct rig *r, const struct req *v)
{
	u8 s;

	assert_int_equal(mem_read(r->d.mem, v->status, &s, 1), 0);
	return s;
}

u8 blk_finish(struct rig *r, unsigned q, const struct req *v, u32 *ret_used)
{
	u32 used = 0;

	vdrv_notify(&r->d, q);
	for (unsigned i = 0; r->g && vdrv_used_idx(&r->d, q) == r->d.ring[q].used_idx && i < 2000;
	     i++) {
		struct pollfd p = { .fd = gate_fd(r->g), .events = POLLIN };

		poll(&p, 1, 10);
		gate_dispatch(r->g);
	}
	testclock_by(&r->d.clk, 100 * MS);
	assert_true(vdrv_used(&r->d, q, NULL, &used));
	if (ret_used)
		*ret_used = used;
	return blk_status(r, v);
}

u8 blk_simple(struct rig *r, u32 type, u64 sector, void *data, u32 len, u32 cut)
{
	struct req v = blk_add(r, 0, type, sector, data, len, cut);
	u8 s = blk_finish(r, 0, &v, NULL);

	if (data && (type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID))
		assert_int_equal(mem_read(r->d.mem, v.data, data, len), 0);
	return s;
}

u8 blk_file_byte(struct rig *r, u64 at)
{
	int fd = open(r->path, O_RDONLY);
	u8 b = 0xff;

	assert_true(fd >= 0);
	if (pread(fd, &b, 1, (off_t)at) != 1)
		b = 0xff;
	close(fd);
	return b;
}
