// SPDX-License-Identifier: Apache-2.0
/*
 * vdev.c - a virtio device without its transport (virtio 1.2, chapters 2 and 3)
 *
 * How it works
 * The status field (2.1) only ever gains bits, until a write of 0 resets everything. Two bits are
 * gates. FEATURES_OK is accepted only if the driver took a subset of what was offered, took
 * VERSION_1, and the device agrees; from then on features are frozen. DRIVER_OK is accepted only
 * behind FEATURES_OK; before it no queue is looked at and no interrupt is raised, so that a driver
 * that has not installed its handler yet does not see one it would disable as spurious.
 *
 * A broken device sets DEVICE_NEEDS_RESET, and tells a started driver by a configuration interrupt
 * (2.1.2). All its queues stop with it; nothing but a reset changes that.
 *
 * Interrupt status (4.2.2): bit 0 a used buffer, bit 1 a configuration change. The transport's
 * line follows whether it is zero.
 */
#include "virtio/vdev.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#define F_RING_RESET 40 /* 6: VIRTIO_F_RING_RESET; older headers lack it */
#define CORE_FEATURES                                                                              \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX) |                                  \
	 BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(F_RING_RESET))

/* More than a queue holds: a driver that waits for the device while it works never gets there. */
#define CHAINS_A_TURN (4 * VQ_SIZE_MAX)

_Static_assert(VDEV_QUEUES_MAX <= 64, "vdev.unfinished");

#define ISR_QUEUE 1u
#define ISR_CONFIG 2u

/* What a driver may set; NEEDS_RESET is ours. */
#define DRIVER_STATUS                                                                              \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK |        \
	 VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_FAILED)

struct vdev_st {
	u64 driver_features;
	u32 generation; /* of the configuration space */
	u8 status, isr;
};

struct vdev {
	struct vdev_cfg cfg;
	struct vdev_env env;
	struct vdev_st st;
	struct vq *q[VDEV_QUEUES_MAX];
	void (*interrupt)(void *opaque, u8 isr);
	void *interrupt_opaque;
	const char *fault;
	u64 unfinished; /* a bit for each queue to which the device must come back; see run_queue */
	struct gate_post post;
	struct device_ops own_ops;
	struct vdev_stats stat;
};

static const struct field_desc core_fields[] = {
	DEV_FIELD(struct vdev_st, driver_features),
	DEV_FIELD(struct vdev_st, generation),
	DEV_FIELD(struct vdev_st, status),
	DEV_FIELD(struct vdev_st, isr),
	DEV_FIELDS_END,
};

#define F(m) DEV_FIELD(struct vq_st, m)
static const struct field_desc queue_fields[] = {
	F(desc),   F(driver),	 F(device),    F(size),	     F(ready),
	F(broken), F(event_idx), F(indirect),  F(notify),    F(last_avail),
	F(used),   F(published), F(signalled), F(in_flight), DEV_FIELDS_END,
};
#undef F

/* --- interrupts and faults -------------------------------------------------------------------- */

static void set_isr(struct vdev *v, u8 isr)
{
	if (isr == v->st.isr)
		return;
	v->st.isr = isr;
	if (v->interrupt)
		v->interrupt(v->interrupt_opaque, isr);
}

static void raise_isr(struct vdev *v, u8 bit)
{
	v->stat.interrupts++;
	set_isr(v, v->st.isr | bit);
}

static bool driver_ok(const struct vdev *v)
{
	return v->st.status & VIRTIO_CONFIG_S_DRIVER_OK;
}

static void on_interrupt(void *opaque, unsigned index)
{
	struct vdev *v = opaque;

	if (driver_ok(v))
		raise_isr(v, ISR_QUEUE);
}

void vdev_break(struct vdev *v, const char *why)
{
	if (v->st.status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	v->fault = why;
	v->stat.broken++;
	for (unsigned i = 0; i < v->cfg.n_queues; i++)
		vq_set_broken(v->q[i]);
	v->st.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (driver_ok(v))
		raise_isr(v, ISR_CONFIG);
}

static void on_broken(void *opaque, unsigned index, const char *why)
{
	vdev_break(opaque, why);
}

const char *vdev_fault(const struct vdev *v)
{
	return v->fault;
}

/* --- status and features ---------------------------------------------------------------------- */

static void core_reset(struct vdev *v)
{
	if (v->cfg.ops->reset)
		v->cfg.ops->reset(v->cfg.dev);
	for (unsigned i = 0; i < v->cfg.n_queues; i++)
		vq_reset(v->q[i]);
	v->fault = NULL;
	v->unfinished = 0;
	set_isr(v, 0);
	/* The generation survives: a driver that compares two reads must not be fooled. */
	v->st = (struct vdev_st){ .generation = v->st.generation };
}

static bool features_fit(const struct vdev *v)
{
	u64 f = v->st.driver_features;

	if ((f & ~v->cfg.features) || !(f & BIT(VIRTIO_F_VERSION_1)))
		return false;
	return !v->cfg.ops->check || v->cfg.ops->check(v->cfg.dev, f) == 0;
}

void vdev_set_status(struct vdev *v, u8 val)
{
	u8 old = v->st.status, new = val &DRIVER_STATUS &(u8)~old;

	if (!val) {
		v->stat.resets++;
		core_reset(v);
		return;
	}
	if ((new &VIRTIO_CONFIG_S_FEATURES_OK) && !features_fit(v))
		new &= (u8)~VIRTIO_CONFIG_S_FEATURES_OK;
	if (!((old | new) & VIRTIO_CONFIG_S_FEATURES_OK))
		new &= (u8)~VIRTIO_CONFIG_S_DRIVER_OK;
	v->st.status = old | new;
	if (!(new &VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	if (old & VIRTIO_CONFIG_S_NEEDS_RESET)
		raise_isr(v, ISR_CONFIG); /* it broke while it was set up */
	else if (v->cfg.ops->start)
		v->cfg.ops->start(v->cfg.dev);
}

void vdev_set_driver_features(struct vdev *v, bool high, u32 half)
{
	u64 *f = &v->st.driver_features;

	if (v->st.status & VIRTIO_CONFIG_S_FEATURES_OK)
		return;
	*f = high ? (*f & UINT32_MAX) | (u64)half << 32 : (*f & ~(u64)UINT32_MAX) | half;
}

bool vdev_has(const struct vdev *v, unsigned bit)
{
	return (v->st.status & VIRTIO_CONFIG_S_FEATURES_OK) && (v->st.driver_features & BIT(bit));
}

bool vdev_started(const struct vdev *v)
{
	return driver_ok(v) && !(v->st.status & VIRTIO_CONFIG_S_NEEDS_RESET);
}

u8 vdev_status(const struct vdev *v)
{
	return v->st.status;
}

u64 vdev_features(const struct vdev *v)
{
	return v->cfg.features;
}

u64 vdev_driver_features(const struct vdev *v)
{
	return v->st.driver_features;
}

u8 vdev_isr(const struct vdev *v)
{
	return v->st.isr;
}

void vdev_ack(struct vdev *v, u8 bits)
{
	set_isr(v, v->st.isr & (u8)~bits);
}

/* --- configuration space ---------------------------------------------------------------------- */

void vdev_config_changed(struct vdev *v)
{
	v->st.generation++;
	if (driver_ok(v))
		raise_isr(v, ISR_CONFIG);
}

u32 vdev_config_generation(const struct vdev *v)
{
	return v->st.generation;
}

void vdev_config_read(const struct vdev *v, u32 off, void *dst, u32 len)
{
	u32 have = off < v->cfg.config_len ? MIN(len, v->cfg.config_len - off) : 0;

	memset(dst, 0, len);
	if (have)
		memcpy(dst, (const u8 *)v->cfg.config + off, have);
}

void vdev_config_write(struct vdev *v, u32 off, const void *src, u32 len)
{
	if (!v->cfg.ops->config_write || off >= v->cfg.config_len || len > v->cfg.config_len - off)
		return;
	v->cfg.ops->config_write(v->cfg.dev, off, src, len);
}

bool vdev_shm(const struct vdev *v, u32 id, struct vdev_shm *ret)
{
	if (id >= VDEV_SHM_MAX || !v->cfg.shm[id].len)
		return false;
	*ret = v->cfg.shm[id];
	return true;
}

/* --- queues ----------------------------------------------------------------------------------- */

struct vq *vdev_queue(struct vdev *v, unsigned q)
{
	BUG_IF(q >= v->cfg.n_queues);
	return v->q[q];
}

unsigned vdev_queues(const struct vdev *v)
{
	return v->cfg.n_queues;
}

/*
 * Where vCPUs have threads of their own, one can fill the queue as fast as it is emptied on behalf
 * of another, which then never came back, nor did whoever waits for it: to pause the VM, or for the
 * devices' lock. So a turn ends after some chains, and the next one is the VM's thread's.
 */
void vdev_run_queue(struct vdev *v, u32 q)
{
	if (q >= v->cfg.n_queues || !vdev_started(v) || !vq_ready(v->q[q]))
		return;
	if (!v->env.exact && v->env.gate)
		vq_limit(v->q[q], CHAINS_A_TURN);
	v->cfg.ops->notify(v->cfg.dev, q);
	if (!vq_unlimit(v->q[q]))
		return;
	v->unfinished |= BIT(q);
	gate_post(v->env.gate, &v->post);
}

static void on_unfinished(struct gate_post *p)
{
	struct vdev *v = container_of(p, struct vdev, post);
	u64 todo = v->unfinished;

	v->unfinished = 0;
	for (unsigned q = 0; q < v->cfg.n_queues; q++)
		if (todo & BIT(q))
			vdev_run_queue(v, q);
}

void vdev_notify_queue(struct vdev *v, u32 q)
{
	if (q >= v->cfg.n_queues || !vdev_started(v) || !vq_ready(v->q[q]))
		return;
	v->stat.notified++;
	vdev_run_queue(v, q);
}

void vdev_queue_enable(struct vdev *v, u32 q)
{
	if (q >= v->cfg.n_queues)
		return;
	if (!(v->st.status & VIRTIO_CONFIG_S_FEATURES_OK)) {
		vdev_break(v, "a queue enabled before features were agreed on");
		return;
	}
	if (vq_enable(v->q[q], vdev_has(v, VIRTIO_RING_F_EVENT_IDX),
		      vdev_has(v, VIRTIO_RING_F_INDIRECT_DESC)) < 0)
		return; /* it told on_broken */
}

void vdev_queue_reset(struct vdev *v, u32 q)
{
	if (q >= v->cfg.n_queues)
		return;
	if (v->cfg.ops->queue_stop)
		v->cfg.ops->queue_stop(v->cfg.dev, q);
	vq_reset(v->q[q]);
	if (v->st.status & VIRTIO_CONFIG_S_NEEDS_RESET)
		vq_set_broken(v->q[q]);
}

/* --- as devices of the board ------------------------------------------------------------------ */

static void dev_reset(void *opaque)
{
	struct vdev *v = opaque;

	core_reset(v);
	v->st.generation = 0;
}

static void dev_pause(void *opaque)
{
	struct vdev *v = opaque;

	if (v->cfg.ops->pause)
		v->cfg.ops->pause(v->cfg.dev);
}

static void dev_resume(void *opaque)
{
	struct vdev *v = opaque;

	if (v->interrupt)
		v->interrupt(v->interrupt_opaque, v->st.isr);
	if (v->cfg.ops->resume)
		v->cfg.ops->resume(v->cfg.dev);
}

static void *core_state(void *opaque, unsigned i)
{
	struct vdev *v = opaque;

	return i ? NULL : &v->st;
}

static void *queue_state(void *opaque, unsigned i)
{
	struct vdev *v = opaque;

	return i < v->cfg.n_queues ? vq_state(v->q[i]) : NULL;
}

static void *own_state(void *opaque, unsigned i)
{
	struct vdev *v = opaque;

	return v->cfg.ops->state ? v->cfg.ops->state(v->cfg.dev, i) : NULL;
}

static void no_reset(void *opaque)
{
}

static const struct device_ops core_ops = {
	.name = "virtio",
	.reset = dev_reset,
	.pause = dev_pause,
	.resume = dev_resume,
	.state = core_state,
	.fields = core_fields,
};

static const struct device_ops queue_ops = {
	.name = "virtqueues",
	.reset = no_reset, /* with the core */
	.state = queue_state,
	.fields = queue_fields,
};

void vdev_devices(struct vdev *v, struct device ret[VDEV_DEVICES])
{
	ret[0] = (struct device){ &core_ops, v };
	ret[1] = (struct device){ &queue_ops, v };
	ret[2] = (struct device){ &v->own_ops, v };
}

/* --- the rest --------------------------------------------------------------------------------- */

const struct vdev_env *vdev_env(const struct vdev *v)
{
	return &v->env;
}

void vdev_set_transport(struct vdev *v, void (*interrupt)(void *opaque, u8 isr), void *opaque)
{
	v->interrupt = interrupt;
	v->interrupt_opaque = opaque;
}

const struct vdev_ops *vdev_ops(const struct vdev *v)
{
	return v->cfg.ops;
}

const char *vdev_name(const struct vdev *v)
{
	return v->cfg.ops->name;
}

struct vdev_stats vdev_stats(const struct vdev *v)
{
	return v->stat;
}

static int add_queues(struct vdev *v)
{
	for (unsigned i = 0; i < v->cfg.n_queues; i++) {
		struct vq_cfg qc = {
			.mem = v->env.mem,
			.index = i,
			.size_max = v->cfg.queue_size ? v->cfg.queue_size[i] : VDEV_QUEUE_SIZE,
			.req_size = v->cfg.req_size,
			.broken = on_broken,
			.interrupt = on_interrupt,
			.opaque = v,
		};
		int r = vq_new(&qc, &v->q[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

int vdev_new(const struct vdev_cfg *cfg, struct vdev **ret)
{
	struct vdev *v;
	int r;

	if (!cfg->ops || !cfg->ops->notify || !cfg->ops->id || !cfg->env || !cfg->n_queues ||
	    cfg->n_queues > VDEV_QUEUES_MAX)
		return -EINVAL;
	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	v->cfg = *cfg;
	v->env = *cfg->env;
	v->post.fn = on_unfinished;
	v->cfg.features |= CORE_FEATURES;
	v->own_ops = (struct device_ops){ .name = cfg->ops->name,
					  .reset = no_reset, /* with the core */
					  .state = own_state,
					  .fields = cfg->ops->fields };
	r = add_queues(v);
	if (r < 0) {
		v->cfg.dev = NULL;
		vdev_free(v);
		return r;
	}
	/* The table must not point to the caller's. */
	v->cfg.queue_size = NULL;
	v->cfg.env = &v->env;
	*ret = v;
	return 0;
}

void vdev_free(struct vdev *v)
{
	if (!v)
		return;
	if (v->env.gate)
		gate_unpost(v->env.gate, &v->post);
	if (v->cfg.dev && v->cfg.ops->free)
		v->cfg.ops->free(v->cfg.dev);
	for (unsigned i = 0; i < v->cfg.n_queues; i++)
		vq_free(v->q[i]);
	free(v);
}
