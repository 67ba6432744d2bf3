// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_fs.c - file system device (virtio 1.2, 5.11)
 *
 * How it works
 * Queue 0 is for requests that must not wait behind others (FORGET, INTERRUPT), queue 1 for all
 * others. A chain is a FUSE request, device-readable, and room for its reply. The server
 * (host/fuse.h) knows the protocol; here requests are only given time and threads.
 *
 * Two kinds of jobs. What waits for a disk or moves much goes to workers, so that it overlaps with
 * the guest; look-ups and the like, reads of what the host has in memory, small writes, which all
 * take less than a thread's waking up, are done where the guest asks. Under the virtual clock both happen at their due time on the VM's thread anyway.
 *
 * A request that waits for a lock is *parked*: tried again every RETRY_NS of guest time, and each
 * time another request of the guest completes that may have released it is soon enough too. A
 * worker is never kept by it. INTERRUPT ends it with EINTR.
 *
 * A request without header or without room for a reply cannot be answered: the driver is broken.
 */
#include "dev/virtio_fs.h"

#include "virtio/job.h"

#include <errno.h>
#include <linux/fuse.h>
#include <linux/virtio_fs.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#define HIPRIO 0u
#define QUEUES 2u
#define QUEUE_SIZE 1024u
#define WORKERS 4u
#define RETRY_NS 1000000u
#define QUICK_BYTES 16384u

/* A fast local file system with its metadata in memory, 2 GB/s. */
static const struct vpace pace = { .base_ns = 4000, .ps_per_byte = 500 };

struct fs_st {
	struct virtio_fs_config config;
	u64 busy;
};

struct fs_req {
	struct vjob job;
	struct fuse_req fuse;
	struct vq_chain *c;
	struct virtio_fs *fs;
	struct fs_req *next; /* parked */
	int status;
};

struct virtio_fs {
	struct vdev *v;
	struct fs_st st;
	struct fuse *server;
	struct vjobs *quick, *slow;
	struct fs_req *parked; /* in order */
	struct gtimer retry;
};

static const struct field_desc fields[] = {
	DEV_FIELD(struct fs_st, config),
	DEV_FIELD(struct fs_st, busy),
	DEV_FIELDS_END,
};

/* --- requests --------------------------------------------------------------------------------- */

static void on_work(struct vjob *j)
{
	struct fs_req *r = container_of(j, struct fs_req, job);

	r->status = fuse_serve(r->fs->server, &r->fuse);
}

static void finish(struct fs_req *r)
{
	struct virtio_fs *fs = r->fs;
	struct vq *vq = r->c->vq;

	if (r->fuse.map_hi)
		mem_wrote(vdev_env(fs->v)->mem, vdev_env(fs->v)->window.base + r->fuse.map_lo,
			  r->fuse.map_hi - r->fuse.map_lo);
	if (r->status < 0) {
		vdev_break(fs->v, "a FUSE request without header or room for the reply");
		vq_drop(vq, r->c);
		return;
	}
	vq_push(vq, r->c, r->fuse.written);
	vq_notify(vq);
}

static void park(struct fs_req *r)
{
	struct fs_req **at = &r->fs->parked;

	while (*at)
		at = &(*at)->next;
	r->next = NULL;
	*at = r;
	if (r->fs->parked == r)
		gtimer_arm(&r->fs->retry, gclock_now(vdev_env(r->fs->v)->clk) + RETRY_NS);
}

/* What is not in the host's memory a worker waits for. */
static void read_disk(struct fs_req *r)
{
	r->fuse.nowait = false;
	vjob_submit(r->fs->slow, &r->job, 0);
}

static void on_done(struct vjob *j)
{
	struct fs_req *r = container_of(j, struct fs_req, job);

	if (j->aborted)
		vq_drop(r->c->vq, r->c);
	else if (r->fuse.blocked && r->fuse.nowait)
		read_disk(r);
	else if (r->fuse.blocked)
		park(r);
	else
		finish(r);
}

static void on_retry(void *opaque)
{
	struct virtio_fs *fs = opaque;
	struct fs_req *r = fs->parked, *next;

	fs->parked = NULL;
	for (; r; r = next) {
		next = r->next;
		/* Locks are tried, never waited for: this takes no time. */
		vjob_submit(fs->quick, &r->job, 0);
	}
}

/* INTERRUPT: the request that it names, if it waits. Others end by themselves. */
static void interrupt(struct virtio_fs *fs, u64 unique)
{
	for (struct fs_req **at = &fs->parked; *at; at = &(*at)->next) {
		struct fs_req *r = *at;

		if (r->fuse.unique != unique)
			continue;
		*at = r->next;
		fuse_refuse(&r->fuse, -EINTR);
		finish(r);
		return;
	}
}

static bool is_slow(const struct fuse_peek *p)
{
	switch (p->opcode) {
	case FUSE_WRITE:
		return p->bytes > QUICK_BYTES;
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_SYNCFS:
	case FUSE_FALLOCATE:
	case FUSE_COPY_FILE_RANGE:
		return true;
	default:
		return false;
	}
}

static void on_notify(void *dev, unsigned index)
{
	struct virtio_fs *fs = dev;
	struct vq *vq = vdev_queue(fs->v, index);
	u64 now = gclock_now(vdev_env(fs->v)->clk);
	struct vq_chain *c;

	while (vq_pop(vq, &c) > 0) {
		struct fs_req *r = c->req;
		struct fuse_peek p;

		r->job.work = on_work;
		r->job.done = on_done;
		r->c = c;
		r->fs = fs;
		r->fuse = (struct fuse_req){ .out = c->out,
					     .n_out = c->n_out,
					     .out_len = c->out_len,
					     .in = c->in,
					     .n_in = c->n_in,
					     .in_len = c->in_len };
		fuse_look(&r->fuse, &p);
		if (p.opcode == FUSE_INTERRUPT)
			interrupt(fs, p.interrupts);
		/* At a due time it would come late for being tried twice. */
		r->fuse.nowait = p.opcode == FUSE_READ && !vdev_env(fs->v)->exact;
		vjob_submit(is_slow(&p) ? fs->slow : fs->quick, &r->job,
			    vpace_latency(&pace, &fs->st.busy, now, p.bytes));
	}
}

/* --- reset ------------------------------------------------------------------------------------ */

static bool of_queue(const struct vjob *j, void *arg)
{
	return container_of(j, const struct fs_req, job)->c->vq == arg;
}

static void drop_parked(struct virtio_fs *fs, const struct vq *vq)
{
	struct fs_req **at = &fs->parked;

	while (*at) {
		struct fs_req *r = *at;

		if (vq && r->c->vq != vq) {
			at = &r->next;
			continue;
		}
		*at = r->next;
		vq_drop(r->c->vq, r->c);
	}
	if (!fs->parked)
		gtimer_cancel(&fs->retry);
}

static void on_reset(void *dev)
{
	struct virtio_fs *fs = dev;

	vjobs_abort(fs->quick, NULL, NULL);
	vjobs_abort(fs->slow, NULL, NULL);
	drop_parked(fs, NULL);
	fuse_reset(fs->server);
	if (vdev_env(fs->v)->window.len)
		mem_wrote(vdev_env(fs->v)->mem, vdev_env(fs->v)->window.base,
			  vdev_env(fs->v)->window.len);
	fs->st.busy = 0;
}

static void on_queue_stop(void *dev, unsigned index)
{
	struct virtio_fs *fs = dev;
	struct vq *vq = vdev_queue(fs->v, index);

	vjobs_abort(fs->quick, of_queue, vq);
	vjobs_abort(fs->slow, of_queue, vq);
	drop_parked(fs, vq);
}

static void on_pause(void *dev)
{
	vjobs_settle(((struct virtio_fs *)dev)->slow);
}

static void *own_state(void *dev, unsigned i)
{
	return i ? NULL : &((struct virtio_fs *)dev)->st;
}

static void on_free(void *dev)
{
	struct virtio_fs *fs = dev;

	vjobs_free(fs->quick);
	vjobs_free(fs->slow);
	if (fs->retry.clk)
		drop_parked(fs, NULL);
	/* What it has mapped is in guest memory, which goes before the server does. */
	if (fs->server)
		fuse_reset(fs->server);
	free(fs);
}

static const struct vdev_ops ops = {
	.name = "virtio-fs",
	.id = VIRTIO_ID_FS,
	.notify = on_notify,
	.queue_stop = on_queue_stop,
	.reset = on_reset,
	.pause = on_pause,
	.free = on_free,
	.state = own_state,
	.fields = fields,
};

int virtio_fs_new(const struct vdev_env *env, const char *tag, struct fuse *server,
		  struct vdev **ret)
{
	static const u16 sizes[QUEUES] = { QUEUE_SIZE, QUEUE_SIZE };
	struct virtio_fs *fs = calloc(1, sizeof(*fs));
	struct vdev_cfg vc = {
		.ops = &ops,
		.dev = fs,
		.env = env,
		.n_queues = QUEUES,
		.queue_size = sizes,
		.req_size = sizeof(struct fs_req),
		.config_len = sizeof(struct virtio_fs_config),
		.shm = { [VIRTIO_FS_SHMCAP_ID_CACHE] = env->window },
	};
	int r;

	_Static_assert(VIRTIO_FS_TAG_MAX == sizeof(fs->st.config.tag), "5.11.4");
	if (!fs)
		return -ENOMEM;
	vc.config = &fs->st.config;
	r = strlen(tag) > VIRTIO_FS_TAG_MAX ? -EINVAL : 0;
	if (r == 0) {
		memcpy(fs->st.config.tag, tag, strlen(tag));
		fs->st.config.num_request_queues = QUEUES - 1;
		fs->server = server;
		r = vjobs_new(env, 0, &fs->quick);
	}
	if (r == 0)
		r = vjobs_new(env, WORKERS, &fs->slow);
	if (r == 0)
		r = vdev_new(&vc, &fs->v);
	if (r < 0) {
		on_free(fs);
		return r;
	}
	gtimer_init(&fs->retry, env->clk, on_retry, fs);
	*ret = fs->v;
	return 0;
}
