/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_rig.h - a driver of the block device in a test, and the host's I/O functions
 *
 * preadv, pwritev, fallocate and fdatasync are replaced by ones that count, fail when they are
 * told to, and can be held, for a host that is slow.
 */
#ifndef ORR_TESTS_DEV_BLK_RIG_H
#define ORR_TESTS_DEV_BLK_RIG_H

#include "base/gate.h"
#include "dev/virtio_blk.h"

#include "../virtio/driver.h"

#include <linux/virtio_blk.h>
#include <pthread.h>

#define SIZE (1u << 20)
#define SECTORS (SIZE / 512)
#define MS 1000000ull

struct host {
	unsigned writes, syncs, at_sync; /* writes before the last sync */
	int fail_in;			 /* the n-th call from now on fails; 0: none */
	/* Calls of workers wait while @hold; @inside: how many of them; under @lock. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool hold;
	unsigned inside;
	pthread_t by; /* who made the last call */
};

extern struct host host;

struct rig {
	struct vdrv d;
	struct disk *disk;
	struct virtio_blk_stats stats;
	char path[64];
	unsigned failures;
	int last_error;
	struct gate *g;
};

struct how {
	unsigned queues;
	enum disk_mode mode;
	struct throttle iops, bps;
	bool real;   /* the real clock, with workers */
	u64 without; /* features that the driver does not take */
};

/* A request as a driver lays it out; where its parts are. */
struct req {
	gpa_t hdr, data, status;
	u32 len;
};

/* A device that runs, on a file of SIZE bytes of its own; the host is as at first. */
void blk_up(struct rig *r, const struct how *h);
void blk_down(struct rig *r);
/* Again, after a driver's reset. */
void blk_start(struct rig *r, const struct how *h);

/* Adds a request. @cut: bytes in the first piece of each part, 0: one piece. */
struct req blk_add(struct rig *r, unsigned q, u32 type, u64 sector, const void *data, u32 len,
		   u32 cut);
u8 blk_status(struct rig *r, const struct req *v);
/* Notifies, and waits for it. Returns its status; *ret_used is what the device said it wrote. */
u8 blk_finish(struct rig *r, unsigned q, const struct req *v, u32 *ret_used);
/* All of it; @data of a read is filled. */
u8 blk_simple(struct rig *r, u32 type, u64 sector, void *data, u32 len, u32 cut);
/* What the file has at @at. */
u8 blk_file_byte(struct rig *r, u64 at);

/* Calls of workers are held from now on, or let go. */
void host_hold(bool on);
/* Waits until @n of them are. */
void host_wait_inside(unsigned n);

#endif
