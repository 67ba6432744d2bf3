/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vdev.h - a virtio device without its transport (virtio 1.2, chapters 2 and 3)
 *
 * The core keeps what all devices have in common: status, features, configuration space, queues
 * and the interrupt status. A device gives it a const table of operations and a state struct of
 * its own; a transport (virtio/mmio.h) gives it register accesses. Neither knows the other.
 *
 * Every function belongs to the VM's thread.
 */
#ifndef ORR_VIRTIO_VDEV_H
#define ORR_VIRTIO_VDEV_H

#include "base/gate.h"
#include "base/gclock.h"
#include "bus/device.h"
#include "mem/mem.h"
#include "virtio/queue.h"

#define VDEV_QUEUES_MAX 64u
#define VDEV_SHM_MAX 4u
#define VDEV_DEVICES 3u /* entries that vdev_devices fills */
#define VDEV_NAME 10u	/* "balloon99": with "-work" it is a thread's name */

struct vdev;

/* A shared memory region; len 0: none. */
struct vdev_shm {
	u64 base, len; /* guest address, bytes */
};

/* What a device gets of its VM. All borrowed; they outlive it. */
struct vdev_env {
	struct mem *mem;
	struct gclock *clk;
	struct gate *gate;    /* NULL: nothing enters from the host (tests) */
	char name[VDEV_NAME]; /* for people, as "disk0"; may be "" */
	/*
	 * The virtual clock: what the guest sees must be a function of its own doings. Completions
	 * come at a guest time from a latency model, random bytes from @seed (virtio/job.h).
	 */
	bool exact;
	u64 seed; /* of this device: another for each one of a VM */
	/*
	 * Guest memory of the device's own (vm_dev_kind.window), for vdev_cfg.shm; len 0: none. See
	 * mem_region.window for what may be done with it.
	 */
	struct vdev_shm window;
};

struct vdev_ops {
	const char *name; /* static storage, as "virtio-rng" */
	u32 id;		  /* virtio 1.2, chapter 5 */

	/* The driver wrote FEATURES_OK: may these be used together? 0, or negative to refuse. */
	int (*check)(void *dev, u64 features);
	/* DRIVER_OK: queues may be popped from now on. */
	void (*start)(void *dev);
	/* The driver notified queue @q (ready, device started and not broken). Never NULL. */
	void (*notify)(void *dev, unsigned q);
	/*
	 * Queue @q is about to be reset alone: give back or drop its chains. NULL: chains that are
	 * pushed later do no harm, and no worker holds any.
	 */
	void (*queue_stop)(void *dev, unsigned q);
	/* The driver wrote bytes [@off, @off+@len) of the configuration space. NULL: read-only. */
	void (*config_write)(void *dev, u32 off, const void *data, u32 len);
	/*
	 * Power-on and every reset: st = initial(cfg). What is under way ends here: jobs are
	 * aborted, chains dropped, timers cancelled. The core resets itself and the queues after.
	 */
	void (*reset)(void *dev);
	/* As in struct device_ops. */
	void (*pause)(void *dev);
	void (*resume)(void *dev);
	/* Frees the device: called by vdev_free, before queues go. */
	void (*free)(void *dev);
	/* The device's own saved struct and its fields (see bus/device.h). NULL: it has none. */
	void *(*state)(void *dev, unsigned i);
	const struct field_desc *fields;
};

struct vdev_cfg {
	const struct vdev_ops *ops; /* static storage */
	void *dev;		    /* the device: what ops get; taken by a successful vdev_new */
	const struct vdev_env *env; /* copied */
	u64 features;		    /* offered; VERSION_1, EVENT_IDX, INDIRECT_DESC, RING_RESET
				     * are added */
	unsigned n_queues;
	const u16 *queue_size; /* the largest size of each; NULL: VDEV_QUEUE_SIZE for all */
	size_t req_size;       /* bytes of vq_chain.req */
	/* The configuration space, in the device's st: read by the driver at any time. */
	const void *config;
	u32 config_len;
	struct vdev_shm shm[VDEV_SHM_MAX];
};

#define VDEV_QUEUE_SIZE 256u

/* 0, -EINVAL, -ENOMEM. On failure the caller still owns @cfg->dev. */
int vdev_new(const struct vdev_cfg *cfg, struct vdev **ret);
/* Frees the device too (ops->free). NULL is legal. */
void vdev_free(struct vdev *v);

/* --- for devices ----------------------------------------------------------------------------- */

const struct vdev_env *vdev_env(const struct vdev *v);
struct vq *vdev_queue(struct vdev *v, unsigned q);
/* Whether feature bit @bit was negotiated. False before FEATURES_OK. */
bool vdev_has(const struct vdev *v, unsigned bit);
bool vdev_started(const struct vdev *v); /* DRIVER_OK, and not broken */
/* As if the driver had notified: ops->notify, which under the real clock sees some chains at a time. */
void vdev_run_queue(struct vdev *v, u32 q);
/* The device changed its configuration space: new generation, and an interrupt if started. */
void vdev_config_changed(struct vdev *v);
/*
 * The driver broke the rules, or the host failed for good: DEVICE_NEEDS_RESET (2.1.2). @why is
 * static storage. Queues answer "nothing available" until the driver resets the device.
 */
void vdev_break(struct vdev *v, const char *why);
/* Why it is broken, or NULL. */
const char *vdev_fault(const struct vdev *v);

/* --- for transports -------------------------------------------------------------------------- */

/* Called when the interrupt status changed; the transport drives its line from it. */
void vdev_set_transport(struct vdev *v, void (*interrupt)(void *opaque, u8 isr), void *opaque);
const struct vdev_ops *vdev_ops(const struct vdev *v);
const char *vdev_name(const struct vdev *v);
unsigned vdev_queues(const struct vdev *v);
u64 vdev_features(const struct vdev *v); /* offered */
u64 vdev_driver_features(const struct vdev *v);
void vdev_set_driver_features(struct vdev *v, bool high, u32 half);
u8 vdev_status(const struct vdev *v);
void vdev_set_status(struct vdev *v, u8 val); /* 0: reset */
u8 vdev_isr(const struct vdev *v);
void vdev_ack(struct vdev *v, u8 bits);
u32 vdev_config_generation(const struct vdev *v);
void vdev_config_read(const struct vdev *v, u32 off, void *dst, u32 len); /* zeros behind the end */
void vdev_config_write(struct vdev *v, u32 off, const void *src, u32 len);
void vdev_notify_queue(struct vdev *v, u32 q);
void vdev_queue_enable(struct vdev *v, u32 q);
void vdev_queue_reset(struct vdev *v, u32 q);
/* Region @id; false if there is none. */
bool vdev_shm(const struct vdev *v, u32 id, struct vdev_shm *ret);

/* --- for the machine ------------------------------------------------------------------------- */

/* As devices for reset and digest: the core, its queues, the device's own state. */
void vdev_devices(struct vdev *v, struct device ret[VDEV_DEVICES]);

struct vdev_stats {
	u64 notified, interrupts, resets, broken;
};
struct vdev_stats vdev_stats(const struct vdev *v);

#endif
