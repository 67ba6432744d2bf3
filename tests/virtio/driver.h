/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver.h - a virtio driver in a test: guest memory, rings, registers
 *
 * It plays the guest for one device behind the MMIO transport, and can break every rule: helpers
 * write rings exactly as told. Steps that must succeed are asserted. The clock is turned by hand.
 */
#ifndef ORR_TESTS_VIRTIO_DRIVER_H
#define ORR_TESTS_VIRTIO_DRIVER_H

#include "virtio/mmio.h"
#include "virtio/vdev.h"

#include "../dev/testclock.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#define VDRV_QUEUES 8
#define VDRV_RAM (4u << 20)	/* region 0: 0 to 4 MiB */
#define VDRV_TOUCHING VDRV_RAM	/* region 1 follows at once, 1 MiB */
#define VDRV_FAR (1ull << 32)	/* region 2, 1 MiB, behind a hole */
#define VDRV_QUEUE_RESET 0x0c0u /* register QueueReset */

/* One descriptor of a request. */
struct vdrv_seg {
	gpa_t gpa;
	u32 len;
	bool write; /* for the device */
};

struct vdrv_ring {
	gpa_t desc, avail, used;
	u16 size;
	u16 next; /* next descriptor to use; they are used round and round */
	u16 avail_idx, used_idx;
};

struct vdrv {
	struct testclock clk;
	struct mem *mem;
	struct vdev_env env;
	struct vdev *v; /* owned, as below */
	struct virtio_mmio *m;
	struct vdrv_ring ring[VDRV_QUEUES];
	gpa_t heap;
	bool irq;	/* level of the line */
	unsigned rises; /* how often it rose */
	u64 wrote;	/* bytes that the engine was told of */
	/* Called when the line rises, if it is set. */
	void (*on_irq)(void *opaque);
	void *irq_opaque;
};

/* RAM, clock and @d->env (exact, seed 1, no gate): then make a device and attach it. */
void vdrv_up(struct vdrv *d);
void vdrv_attach(struct vdrv *d, struct vdev *v);
void vdrv_down(struct vdrv *d);

u32 vdrv_rd(struct vdrv *d, u32 reg);
void vdrv_wr(struct vdrv *d, u32 reg, u32 val);
u64 vdrv_features(struct vdrv *d); /* offered */
/* Reset to FEATURES_OK with @features & offered; returns whether it was accepted. */
bool vdrv_negotiate(struct vdrv *d, u64 features);
/* Sets up queue @q with rings of its own. */
void vdrv_queue(struct vdrv *d, unsigned q, u16 size);
void vdrv_set_addrs(struct vdrv *d, unsigned q);
void vdrv_ok(struct vdrv *d);
/* All of it: every queue with @size entries. */
void vdrv_start(struct vdrv *d, u64 features, unsigned queues, u16 size);
bool vdrv_needs_reset(struct vdrv *d);

gpa_t vdrv_alloc(struct vdrv *d, u32 len, u32 align);
/* A buffer in fresh memory holding @data (NULL: zeros). */
gpa_t vdrv_put(struct vdrv *d, const void *data, u32 len);

void vdrv_desc(struct vdrv *d, gpa_t table, u16 i, const struct vring_desc *desc);
/* Writes descriptors and makes the chain available; returns its head. No notification. */
u16 vdrv_add(struct vdrv *d, unsigned q, const struct vdrv_seg *seg, unsigned n);
/* The same through an indirect table. */
u16 vdrv_add_indirect(struct vdrv *d, unsigned q, const struct vdrv_seg *seg, unsigned n);
void vdrv_avail(struct vdrv *d, unsigned q, u16 head);
void vdrv_notify(struct vdrv *d, unsigned q);
/* Takes the next used entry. False: none. */
bool vdrv_used(struct vdrv *d, unsigned q, u32 *ret_id, u32 *ret_len);
u16 vdrv_used_idx(struct vdrv *d, unsigned q);
u16 vdrv_get16(struct vdrv *d, gpa_t gpa);
void vdrv_put16(struct vdrv *d, gpa_t gpa, u16 val);
gpa_t vdrv_used_event(struct vdrv *d, unsigned q);
gpa_t vdrv_avail_event(struct vdrv *d, unsigned q);

#endif
