// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_rng.c - entropy device (virtio 1.2, 5.4)
 *
 * How it works
 * One queue, no features, no configuration: the driver offers buffers, the device fills them. A
 * buffer gets at most FILL_MAX bytes; the specification allows to return fewer than there is room
 * for, and so a driver cannot make one request keep us for long.
 *
 * The bytes are the host's, or under the virtual clock SplitMix64 from the VM's seed: enough to
 * make a guest's generators start differently for each seed, and the same for the same.
 * A host that cannot give random bytes breaks the device. Zeros, or a short answer pretending to
 * be one, would be worse than none.
 */
#include "dev/virtio_rng.h"

#include "virtio/job.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define FILL_MAX 65536u

/* Getting a random byte takes about as long as from a hardware generator's FIFO. */
static const struct vpace pace = { .base_ns = 2000, .ps_per_byte = 2000 };

struct rng_st {
	u64 stream; /* state of the seeded generator */
	u64 busy;
};

struct virtio_rng {
	struct vdev *v;
	struct rng_st st;
	struct vjobs *jobs;
};

struct rng_req {
	struct vjob job;
	struct vq_chain *c;
	struct virtio_rng *r;
	u32 filled;
	bool failed;
};

static const struct field_desc fields[] = {
	DEV_FIELD(struct rng_st, stream),
	DEV_FIELD(struct rng_st, busy),
	DEV_FIELDS_END,
};

static u64 next_word(u64 *s)
{
	u64 z = (*s += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* Random bytes for part of a buffer. False: the host has none. */
static bool draw(struct virtio_rng *r, u8 *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		if (vdev_env(r->v)->exact) {
			u64 w = next_word(&r->st.stream);
			size_t n = MIN(len - done, sizeof(w));

			memcpy(buf + done, &w, n);
			done += n;
			continue;
		}
		ssize_t n = getrandom(buf + done, len - done, 0);

		if (n < 0 && errno != EINTR)
			return false;
		done += n > 0 ? (size_t)n : 0;
	}
	return true;
}

static void on_work(struct vjob *j)
{
	struct rng_req *q = container_of(j, struct rng_req, job);
	u32 len = MIN(q->c->in_len, FILL_MAX);
	u8 buf[512];

	while (q->filled < len && !q->failed) {
		size_t n = MIN(sizeof(buf), (size_t)(len - q->filled));

		q->failed = !draw(q->r, buf, n);
		if (!q->failed)
			q->filled += (u32)iov_write(q->c->in, q->c->n_in, q->filled, buf, n);
	}
}

static void on_done(struct vjob *j)
{
	struct rng_req *q = container_of(j, struct rng_req, job);
	struct vq *vq = vdev_queue(q->r->v, 0);

	if (j->aborted || q->failed) {
		if (q->failed)
			vdev_break(q->r->v, "the host has no random bytes");
		vq_drop(vq, q->c);
		return;
	}
	vq_push(vq, q->c, q->filled);
	vq_notify(vq);
}

static void on_notify(void *dev, unsigned index)
{
	struct virtio_rng *r = dev;
	struct vq *vq = vdev_queue(r->v, index);
	u64 now = gclock_now(vdev_env(r->v)->clk);
	struct vq_chain *c;

	while (vq_pop(vq, &c) > 0) {
		struct rng_req *q = c->req;

		q->job.work = on_work;
		q->job.done = on_done;
		q->c = c;
		q->r = r;
		vjob_submit(r->jobs, &q->job,
			    vpace_latency(&pace, &r->st.busy, now, MIN(c->in_len, FILL_MAX)));
	}
}

static void on_reset(void *dev)
{
	struct virtio_rng *r = dev;

	vjobs_abort(r->jobs, NULL, NULL);
	/* The stream goes on: a driver that resets the device is not to see the same bytes again. */
	r->st.busy = 0;
}

static void on_queue_stop(void *dev, unsigned index)
{
	vjobs_abort(((struct virtio_rng *)dev)->jobs, NULL, NULL);
}

static void *own_state(void *dev, unsigned i)
{
	return i ? NULL : &((struct virtio_rng *)dev)->st;
}

static void on_free(void *dev)
{
	struct virtio_rng *r = dev;

	vjobs_free(r->jobs);
	free(r);
}

static const struct vdev_ops ops = {
	.name = "virtio-rng",
	.id = VIRTIO_ID_RNG,
	.notify = on_notify,
	.queue_stop = on_queue_stop,
	.reset = on_reset,
	.free = on_free,
	.state = own_state,
	.fields = fields,
};

int virtio_rng_new(const struct vdev_env *env, struct vdev **ret)
{
	struct virtio_rng *r = calloc(1, sizeof(*r));
	struct vdev_cfg vc = {
		.ops = &ops, .dev = r, .env = env, .n_queues = 1, .req_size = sizeof(struct rng_req)
	};
	int rc;

	if (!r)
		return -ENOMEM;
	r->st.stream = env->seed;
	rc = vjobs_new(env, 0, &r->jobs);
	if (rc == 0)
		rc = vdev_new(&vc, &r->v);
	if (rc < 0) {
		on_free(r);
		return rc;
	}
	*ret = r->v;
	return 0;
}
