// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_balloon.c - memory balloon (virtio 1.2, 5.5)
 *
 * How it works
 * The device says how many pages of 4 KiB it wants (num_pages), the driver takes as many from its
 * own memory and names them: their host memory goes back at once. They read as zeros from then on,
 * whether or not the driver tells us before it uses them again, so MUST_TELL_HOST is not needed,
 * and a run's digest does not depend on what the host did with them. With DEFLATE_ON_OOM a guest
 * that is short of memory takes pages back by itself.
 *
 * Free page reporting: the driver names ranges that it has free, as device-writable buffers that
 * nobody writes; they go the same way. A driver that poisons free pages with something but zero
 * (PAGE_POISON) expects to find that again, so then nothing is released (5.5.6.6).
 *
 * Statistics: the driver leaves one buffer with us; giving it back asks for fresh ones. So the
 * buffer is held, and given back by a timer in guest time.
 *
 * The optional queues follow without gaps behind the first two (5.5.2), in their order, those that
 * the driver has not agreed to left out: that is how Linux numbers them.
 *
 * Page numbers are the driver's word only: what is not RAM is skipped and counted.
 */
#include "dev/virtio_balloon.h"

#include "virtio/job.h"

#include <errno.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#define Q_INFLATE 0u
#define Q_DEFLATE 1u
#define Q_MAX 4u
#define BATCH 1024u	  /* page numbers looked at together */
#define PAGES_MAX 262144u /* of one buffer: a gigabyte; drivers send 256 */
#define STAT_LEN 10u	  /* le16 tag, le64 val */
#define STATS_IN_BUFFER 64u

/* Taking a page from the host's tables; a page number is four bytes. */
static const struct vpace pace = { .base_ns = 2000, .ps_per_byte = 25000 };
static const struct vpace report_pace = { .base_ns = 2000, .ps_per_byte = 20 };

struct balloon_st {
	struct virtio_balloon_config config;
	u64 busy;
	u64 inflated, deflated, reported, bad, asked;
	u64 stat[BALLOON_STATS];
	u64 ask_at; /* guest time at which statistics are asked for; 0: not */
};

struct virtio_balloon {
	struct vdev *v;
	struct virtio_balloon_cfg cfg;
	struct balloon_st st;
	struct vjobs *jobs;
	struct vq_chain *stats; /* the driver's buffer, held */
	struct gtimer timer;
};

struct balloon_req {
	struct vjob job;
	struct vq_chain *c;
	struct virtio_balloon *b;
	unsigned queue;
};

static const struct field_desc fields[] = {
	DEV_FIELD(struct balloon_st, config),	DEV_FIELD(struct balloon_st, busy),
	DEV_FIELD(struct balloon_st, inflated), DEV_FIELD(struct balloon_st, deflated),
	DEV_FIELD(struct balloon_st, reported), DEV_FIELD(struct balloon_st, bad),
	DEV_FIELD(struct balloon_st, asked),	DEV_FIELD(struct balloon_st, stat),
	DEV_FIELD(struct balloon_st, ask_at),	DEV_FIELDS_END,
};

static bool has_stats(const struct virtio_balloon *b)
{
	return vdev_has(b->v, VIRTIO_BALLOON_F_STATS_VQ);
}

static bool is_stats(const struct virtio_balloon *b, unsigned queue)
{
	return has_stats(b) && queue == Q_DEFLATE + 1;
}

static bool is_report(const struct virtio_balloon *b, unsigned queue)
{
	return vdev_has(b->v, VIRTIO_BALLOON_F_REPORTING) && queue == Q_DEFLATE + 1u + has_stats(b);
}

/* --- pages ------------------------------------------------------------------------------------ */

static int by_number(const void *a, const void *b)
{
	u32 x = *(const u32 *)a, y = *(const u32 *)b;

	return x < y ? -1 : x > y;
}

/* Pages that follow each other go together: a call to the host for each would be slow. */
static void release(struct virtio_balloon *b, u32 *page, unsigned n)
{
	struct mem *m = vdev_env(b->v)->mem;

	qsort(page, n, sizeof(*page), by_number);
	for (unsigned i = 0, run; i < n; i += run) {
		u64 gpa = (u64)page[i] * BALLOON_PAGE;

		for (run = 1; i + run < n && page[i + run] == page[i] + run; run++)
			;
		if (mem_release(m, gpa, (u64)run * BALLOON_PAGE) == 0)
			continue;
		/* Not all of it is RAM: one by one. */
		for (unsigned k = 0; k < run; k++)
			if (mem_release(m, gpa + (u64)k * BALLOON_PAGE, BALLOON_PAGE) < 0)
				b->st.bad++;
	}
}

/* The page numbers of a buffer; a rest of less than one is not looked at. */
static void take_pages(struct virtio_balloon *b, const struct vq_chain *c, bool inflate)
{
	u32 left = MIN(c->out_len / 4, PAGES_MAX), page[BATCH];
	size_t off = 0;

	while (left) {
		u32 n = MIN(left, BATCH);

		if (vq_chain_read(c, off, page, n * sizeof(*page)) < 0)
			return;
		if (inflate) {
			b->st.inflated += n;
			release(b, page, n);
		} else {
			b->st.deflated += n;
		}
		off += n * sizeof(*page);
		left -= n;
	}
}

static void take_report(struct virtio_balloon *b, const struct vq_chain *c)
{
	if (vdev_has(b->v, VIRTIO_BALLOON_F_PAGE_POISON) && b->st.config.poison_val)
		return;
	for (unsigned i = 0; i < c->n_in; i++) {
		if (mem_release(vdev_env(b->v)->mem, vq_chain_in_gpa(c, i), c->in[i].iov_len) < 0)
			b->st.bad++;
		else
			b->st.reported += c->in[i].iov_len;
	}
}

static void on_done(struct vjob *j)
{
	struct balloon_req *r = container_of(j, struct balloon_req, job);
	struct virtio_balloon *b = r->b;
	struct vq *q = vdev_queue(b->v, r->queue);

	if (j->aborted) {
		vq_drop(q, r->c);
		return;
	}
	if (is_report(b, r->queue))
		take_report(b, r->c);
	else
		take_pages(b, r->c, r->queue == Q_INFLATE);
	vq_push(q, r->c, 0);
	vq_notify(q);
}

/* --- statistics (5.5.6.3) --------------------------------------------------------------------- */

static void arm(struct virtio_balloon *b)
{
	if (b->st.ask_at)
		gtimer_arm(&b->timer, b->st.ask_at);
	else
		gtimer_cancel(&b->timer);
}

static void on_timer(void *opaque)
{
	struct virtio_balloon *b = opaque;
	struct vq_chain *c = b->stats;

	b->st.ask_at = 0;
	b->stats = NULL;
	if (!c)
		return;
	vq_push(c->vq, c, 0);
	vq_notify(c->vq);
}

static void take_stats(struct virtio_balloon *b, struct vq *q)
{
	struct vq_chain *c;
	u8 s[STAT_LEN];

	while (vq_pop(q, &c) > 0) {
		for (unsigned i = 0; i < STATS_IN_BUFFER; i++) {
			u16 tag;

			if (vq_chain_read(c, (size_t)i * STAT_LEN, s, sizeof(s)) < 0)
				break;
			memcpy(&tag, s, sizeof(tag));
			if (tag < BALLOON_STATS)
				memcpy(&b->st.stat[tag], s + 2, 8);
		}
		b->st.asked++;
		/* There is to be one buffer; another takes its place. */
		if (b->stats)
			vq_push(q, b->stats, 0);
		b->stats = c;
	}
	vq_notify(q);
	if (b->stats && b->cfg.poll_ns && !b->st.ask_at)
		b->st.ask_at = gclock_now(vdev_env(b->v)->clk) + b->cfg.poll_ns;
	arm(b);
}

/* --- device ----------------------------------------------------------------------------------- */

static void on_notify(void *dev, unsigned queue)
{
	struct virtio_balloon *b = dev;
	struct vq *q = vdev_queue(b->v, queue);
	bool report = is_report(b, queue);
	u64 now = gclock_now(vdev_env(b->v)->clk);
	struct vq_chain *c;

	if (is_stats(b, queue)) {
		take_stats(b, q);
		return;
	}
	if (queue > Q_DEFLATE && !report)
		return;
	while (vq_pop(q, &c) > 0) {
		struct balloon_req *r = c->req;

		*r = (struct balloon_req){ .job.done = on_done, .c = c, .b = b, .queue = queue };
		vjob_submit(b->jobs, &r->job,
			    vpace_latency(report ? &report_pace : &pace, &b->st.busy, now,
					  report ? c->in_len : c->out_len));
	}
}

/* Linux leaves its buffer for statistics, and notifies, before DRIVER_OK. */
static void on_start(void *dev)
{
	struct virtio_balloon *b = dev;

	if (has_stats(b))
		vdev_run_queue(b->v, Q_DEFLATE + 1);
}

/* The driver may write two fields: how many pages it has given, and its poison (5.5.4). */
static void on_config_write(void *dev, u32 off, const void *data, u32 len)
{
	struct virtio_balloon *b = dev;

	if (off == offsetof(struct virtio_balloon_config, actual) && len == 4)
		memcpy(&b->st.config.actual, data, 4);
	if (off == offsetof(struct virtio_balloon_config, poison_val) && len == 4)
		memcpy(&b->st.config.poison_val, data, 4);
}

static void drop_stats(struct virtio_balloon *b)
{
	if (b->stats)
		vq_drop(b->stats->vq, b->stats);
	b->stats = NULL;
	b->st.ask_at = 0;
	gtimer_cancel(&b->timer);
}

static bool of_queue(const struct vjob *j, void *arg)
{
	return container_of(j, struct balloon_req, job)->queue == *(const unsigned *)arg;
}

static void on_queue_stop(void *dev, unsigned queue)
{
	struct virtio_balloon *b = dev;

	vjobs_abort(b->jobs, of_queue, &queue);
	if (is_stats(b, queue))
		drop_stats(b);
}

static void on_reset(void *dev)
{
	struct virtio_balloon *b = dev;
	u32 target = b->st.config.num_pages;

	vjobs_abort(b->jobs, NULL, NULL);
	drop_stats(b);
	/* What the host wants and what has happened outlive a driver. */
	b->st.config = (struct virtio_balloon_config){ .num_pages = target };
	b->st.busy = 0;
}

static void on_resume(void *dev)
{
	struct virtio_balloon *b = dev;

	/* One that is armed keeps its place among its equals: a pause changes no order. */
	if (!gtimer_armed(&b->timer) || b->timer.deadline != b->st.ask_at)
		arm(b);
}

static void *own_state(void *dev, unsigned i)
{
	return i ? NULL : &((struct virtio_balloon *)dev)->st;
}

static void on_free(void *dev)
{
	struct virtio_balloon *b = dev;

	gtimer_cancel(&b->timer);
	vjobs_free(b->jobs);
	free(b);
}

static const struct vdev_ops ops = {
	.name = "virtio-balloon",
	.id = VIRTIO_ID_BALLOON,
	.start = on_start,
	.notify = on_notify,
	.queue_stop = on_queue_stop,
	.config_write = on_config_write,
	.reset = on_reset,
	.resume = on_resume,
	.free = on_free,
	.state = own_state,
	.fields = fields,
};

void virtio_balloon_target(struct virtio_balloon *b, u32 pages)
{
	if (b->st.config.num_pages == pages)
		return;
	b->st.config.num_pages = pages;
	vdev_config_changed(b->v);
}

void virtio_balloon_info(const struct virtio_balloon *b, struct virtio_balloon_info *ret)
{
	const struct balloon_st *s = &b->st;

	*ret = (struct virtio_balloon_info){ .target = s->config.num_pages,
					     .actual = s->config.actual,
					     .inflated = s->inflated,
					     .deflated = s->deflated,
					     .reported = s->reported,
					     .bad = s->bad,
					     .asked = s->asked };
	memcpy(ret->stat, s->stat, sizeof(ret->stat));
}

int virtio_balloon_new(const struct vdev_env *env, const struct virtio_balloon_cfg *cfg,
		       struct virtio_balloon **ret, struct vdev **ret_vdev)
{
	struct virtio_balloon *b = calloc(1, sizeof(*b));
	struct vdev_cfg vc = {
		.ops = &ops,
		.dev = b,
		.env = env,
		.features = BIT(VIRTIO_BALLOON_F_STATS_VQ) | BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) |
			    BIT(VIRTIO_BALLOON_F_PAGE_POISON) |
			    (cfg->report ? BIT(VIRTIO_BALLOON_F_REPORTING) : 0),
		.n_queues = Q_MAX - !cfg->report,
		.req_size = sizeof(struct balloon_req),
		.config_len = sizeof(struct virtio_balloon_config),
	};
	int r;

	if (!b)
		return -ENOMEM;
	b->cfg = *cfg;
	b->st.config.num_pages = cfg->target;
	memset(b->st.stat, 0xff, sizeof(b->st.stat));
	vc.config = &b->st.config;
	gtimer_init(&b->timer, env->clk, on_timer, b);
	r = vjobs_new(env, 0, &b->jobs);
	if (r == 0)
		r = vdev_new(&vc, &b->v);
	if (r < 0) {
		on_free(b);
		return r;
	}
	*ret = b;
	*ret_vdev = b->v;
	return 0;
}
