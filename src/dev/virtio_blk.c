// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_blk.c - block device (virtio 1.2, 5.2)
 *
 * How it works
 * A request is a chain: a header of 16 bytes, data, and as the very last writable byte the status
 * (5.2.6). It is parsed and checked on the VM's thread when the driver notifies, against the
 * disk's size before anything is done; the work is a job. All queues feed the same jobs.
 *
 * On its way a request may be held twice, both times in guest time:
 *	HELD	by the throttle, until its tokens are there. In order of arrival.
 *	BARRIER	a FLUSH waits until every write that came before it, through whichever queue, held
 *		or at work, has ended. The specification asks for less, only what the driver has
 *		seen completed (5.2.6.2); but a driver that sends both at once, as several queues
 *		make likely, means this.
 * Writes are counted by the FLUSH that has to wait for them: those that came since the last one
 * belong to the next. A FLUSH begins when its own count and those of all before it are zero, so
 * it costs nothing per write but a number, and writes that come later cannot starve it.
 *
 * Write-through (5.2.6.2): a driver that did not accept FLUSH, or that turned the cache off by the
 * writeback field, has each write flushed before it completes.
 *
 * Failures. What the driver asks for that is not on the disk, or not whole sectors, is answered
 * with IOERR, an unknown type or flag with UNSUPP (5.2.6.2). The host's errors are IOERR too, and
 * counted and said. A read that failed leaves zeros, not the half that it got. Only a request
 * without a byte for its status cannot be answered, and breaks the device.
 *
 * Latency model: a fast SSD. Bytes of all requests pass one after the other.
 */
#include "dev/virtio_blk.h"

#include "virtio/job.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE VDEV_QUEUE_SIZE
#define WORKERS_MIN 4u /* requests of one queue pass each other too */
#define WORKERS_MAX 16u
#define RANGES_MAX 64u
/* Zeros that are not to be holes may have to be written: 32 MiB at a time. */
#define ZERO_SECTORS_MAX 65536u
#define DISCARD_SECTORS_MAX (1u << 30)
#define PHYSICAL_EXP 3u /* 4 KiB, the page of a host's file */
#define HEADS 16u
#define TRACK 63u

static const struct vpace pace_read = { .base_ns = 8000, .ps_per_byte = 300 };
static const struct vpace pace_write = { .base_ns = 8000, .ps_per_byte = 400 };
static const struct vpace pace_flush = { .base_ns = 30000 };
static const struct vpace pace_other = { .base_ns = 8000 };

struct blk_st {
	struct virtio_blk_config config;
	u64 busy;
	u64 iops_full, bps_full; /* throttle_take */
};

struct range {
	u64 off, len;
	bool unmap;
};

struct blk_req {
	struct vjob job;
	struct gtimer timer;
	struct virtio_blk *b;
	struct vq_chain *c;
	struct blk_req *next, *prev; /* while HELD or BARRIER */
	struct range *range;	     /* owned; of DISCARD and WRITE_ZEROES */
	unsigned n_range;
	u32 type;
	u64 off, len; /* bytes, of IN and OUT */
	u64 barrier;  /* the number of the FLUSH that waits for this write; of a FLUSH, its own */
	u32 left;     /* of a FLUSH: writes of its own that have not ended */
	bool through; /* flush before completion */
	bool filled;  /* all of the data part was written */
	u8 status;
	int err;
};

struct virtio_blk {
	struct virtio_blk_cfg cfg;
	struct blk_st st;
	struct vdev *v;
	struct vjobs *jobs;
	u64 sectors;
	struct blk_req held, flushes; /* rings, in order of arrival */
	u64 barrier;		      /* number of the next FLUSH */
	u32 open;		      /* writes that it will have to wait for */
	bool stopping;
	struct virtio_blk_stats none; /* where nobody wants them */
};

static const struct field_desc fields[] = {
	DEV_FIELD(struct blk_st, config),
	DEV_FIELD(struct blk_st, busy),
	DEV_FIELD(struct blk_st, iops_full),
	DEV_FIELD(struct blk_st, bps_full),
	DEV_FIELDS_END,
};

_Static_assert(sizeof(struct virtio_blk_outhdr) == 16, "virtio 1.2, 5.2.6");
_Static_assert(sizeof(struct virtio_blk_discard_write_zeroes) == 16, "virtio 1.2, 5.2.6");
_Static_assert(offsetof(struct virtio_blk_config, num_queues) == 34, "virtio 1.2, 5.2.4");

/* --- rings of requests ------------------------------------------------------------------------ */

static void ring_init(struct blk_req *head)
{
	head->next = head->prev = head;
}

static bool ring_empty(const struct blk_req *head)
{
	return head->next == head;
}

static void ring_add(struct blk_req *head, struct blk_req *r)
{
	r->prev = head->prev;
	r->next = head;
	r->prev->next = r;
	head->prev = r;
}

static void ring_remove(struct blk_req *r)
{
	r->prev->next = r->next;
	r->next->prev = r->prev;
	r->next = r->prev = NULL;
}

/* --- the work: on any thread ------------------------------------------------------------------ */

static int work_ranges(struct virtio_blk *b, const struct blk_req *r)
{
	int err = 0;

	for (unsigned i = 0; err == 0 && i < r->n_range; i++) {
		const struct range *g = &r->range[i];

		err = r->type == VIRTIO_BLK_T_DISCARD
			      ? disk_discard(b->cfg.disk, g->off, g->len)
			      : disk_zero(b->cfg.disk, g->off, g->len, g->unmap);
	}
	return err;
}

static void work_id(struct virtio_blk *b, struct blk_req *r)
{
	const struct vq_chain *c = r->c;

	/* Padded with zeros, and not terminated if it is as long as can be (5.2.6.1). */
	iov_fill(c->in, c->n_in, 0, 0, c->in_len - 1);
	iov_write(c->in, c->n_in, 0, b->cfg.serial,
		  MIN((size_t)(c->in_len - 1), strlen(b->cfg.serial)));
	r->filled = true;
}

static void on_work(struct vjob *j)
{
	struct blk_req *r = container_of(j, struct blk_req, job);
	struct virtio_blk *b = r->b;
	const struct vq_chain *c = r->c;

	switch (r->type) {
	case VIRTIO_BLK_T_IN:
		r->err = disk_read(b->cfg.disk, r->off, c->in, c->n_in, 0, (size_t)r->len);
		if (r->err < 0)
			iov_fill(c->in, c->n_in, 0, 0, (size_t)r->len);
		r->filled = true;
		break;
	case VIRTIO_BLK_T_OUT:
		r->err = disk_write(b->cfg.disk, r->off, c->out, c->n_out,
				    sizeof(struct virtio_blk_outhdr), (size_t)r->len);
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		r->err = work_ranges(b, r);
		break;
	case VIRTIO_BLK_T_FLUSH:
		r->err = disk_flush(b->cfg.disk);
		break;
	default:
		work_id(b, r);
	}
	if (r->err == 0 && r->through)
		r->err = disk_flush(b->cfg.disk);
}

/* --- the end of a request --------------------------------------------------------------------- */

static bool is_write(const struct blk_req *r)
{
	return r->type == VIRTIO_BLK_T_OUT || r->type == VIRTIO_BLK_T_DISCARD ||
	       r->type == VIRTIO_BLK_T_WRITE_ZEROES;
}

static const char *type_name(u32 type)
{
	switch (type) {
	case VIRTIO_BLK_T_IN:
		return "read";
	case VIRTIO_BLK_T_OUT:
		return "write";
	case VIRTIO_BLK_T_DISCARD:
		return "discard";
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return "write zeros";
	default:
		return "flush";
	}
}

static void free_req(struct blk_req *r)
{
	free(r->range);
	r->range = NULL;
}

/* Without a trace: the device or the queue is being reset. */
static void drop(struct blk_req *r)
{
	free_req(r);
	vq_drop(r->c->vq, r->c);
}

static void count_failure(struct virtio_blk *b, const struct blk_req *r)
{
	struct virtio_blk_stats *s = b->cfg.stats;

	s->failed++;
	if (b->cfg.failed)
		b->cfg.failed(b->cfg.opaque, type_name(r->type),
			      r->n_range ? r->range[0].off : r->off, r->err);
}

static void complete(struct blk_req *r)
{
	struct virtio_blk *b = r->b;
	struct vq_chain *c = r->c;
	struct vq *q = c->vq;

	if (r->err < 0) {
		r->status = VIRTIO_BLK_S_IOERR;
		count_failure(b, r);
	} else if (r->type == VIRTIO_BLK_T_IN) {
		b->cfg.stats->read_bytes += r->len;
	} else if (r->type == VIRTIO_BLK_T_OUT) {
		b->cfg.stats->written_bytes += r->len;
	}
	/* The status is the last byte, wherever the pieces are cut: in_len was checked. */
	BUG_IF(vq_chain_write(c, c->in_len - 1, &r->status, 1) < 0);
	free_req(r);
	vq_push(q, c, r->filled ? c->in_len : 1);
	vq_notify(q);
}

static void flushes_go_on(struct virtio_blk *b);

/* A write has ended, whether it succeeded or not. */
static void write_ended(struct virtio_blk *b, u64 barrier)
{
	struct blk_req *f = b->flushes.next;

	/* Its own FLUSH, or if that was dropped the next: who waits for that waits for both. */
	while (f != &b->flushes && f->barrier < barrier)
		f = f->next;
	if (f == &b->flushes)
		b->open--;
	else
		f->left--;
	flushes_go_on(b);
}

static void on_done(struct vjob *j)
{
	struct blk_req *r = container_of(j, struct blk_req, job);
	struct virtio_blk *b = r->b;
	bool counted = is_write(r) && r->status == VIRTIO_BLK_S_OK;
	u64 barrier = r->barrier;

	if (j->aborted)
		drop(r);
	else
		complete(r);
	if (counted)
		write_ended(b, barrier);
}

/* --- the way of a request --------------------------------------------------------------------- */

static void start(struct blk_req *r)
{
	struct virtio_blk *b = r->b;
	const struct vpace *pace = r->type == VIRTIO_BLK_T_IN	   ? &pace_read
				   : r->type == VIRTIO_BLK_T_OUT   ? &pace_write
				   : r->type == VIRTIO_BLK_T_FLUSH ? &pace_flush
								   : &pace_other;
	u64 now = gclock_now(vdev_env(b->v)->clk);

	r->job.work = r->status == VIRTIO_BLK_S_OK ? on_work : NULL;
	r->job.done = on_done;
	vjob_submit(b->jobs, &r->job, vpace_latency(pace, &b->st.busy, now, r->len));
}

/* Begins every FLUSH that has nothing to wait for any more. */
static void flushes_go_on(struct virtio_blk *b)
{
	while (!b->stopping && !ring_empty(&b->flushes) && !b->flushes.next->left) {
		struct blk_req *f = b->flushes.next;

		ring_remove(f);
		start(f);
	}
}

static void on_tokens(void *opaque)
{
	struct blk_req *r = opaque;

	ring_remove(r);
	start(r);
}

static void begin_flush(struct blk_req *r)
{
	struct virtio_blk *b = r->b;

	r->barrier = b->barrier++;
	r->left = b->open;
	b->open = 0;
	ring_add(&b->flushes, r);
	flushes_go_on(b);
}

/* Checked, and to be done. */
static void begin(struct blk_req *r)
{
	struct virtio_blk *b = r->b;
	u64 now = gclock_now(vdev_env(b->v)->clk), at, due;

	if (is_write(r)) {
		r->barrier = b->barrier;
		r->through = vdev_has(b->v, VIRTIO_BLK_F_CONFIG_WCE)
				     ? !b->st.config.wce
				     : !vdev_has(b->v, VIRTIO_BLK_F_FLUSH);
		b->open++;
	}
	if (r->type == VIRTIO_BLK_T_FLUSH) {
		begin_flush(r);
		return;
	}
	if (r->type == VIRTIO_BLK_T_GET_ID) {
		start(r);
		return;
	}
	at = throttle_take(&b->cfg.iops, &b->st.iops_full, now, 1);
	due = MAX(at, throttle_take(&b->cfg.bps, &b->st.bps_full, now, r->len));
	/* Nothing overtakes what is held, even where rounding would allow it. */
	if (due <= now && ring_empty(&b->held)) {
		start(r);
		return;
	}
	b->cfg.stats->delayed++;
	ring_add(&b->held, r);
	gtimer_init(&r->timer, vdev_env(b->v)->clk, on_tokens, r);
	gtimer_arm(&r->timer, due);
}

/* --- parsing ---------------------------------------------------------------------------------- */

/* Whether @n sectors from @sector on are on the disk: no sum that could wrap. */
static bool on_disk(const struct virtio_blk *b, u64 sector, u64 n)
{
	return sector <= b->sectors && n <= b->sectors - sector;
}

static u8 parse_data(struct virtio_blk *b, struct blk_req *r, u64 sector)
{
	bool in = r->type == VIRTIO_BLK_T_IN;
	u64 len = in ? r->c->in_len - 1 : r->c->out_len - sizeof(struct virtio_blk_outhdr);

	if (len % DISK_SECTOR || !on_disk(b, sector, len / DISK_SECTOR))
		return VIRTIO_BLK_S_IOERR;
	if (!in && disk_read_only(b->cfg.disk))
		return VIRTIO_BLK_S_IOERR;
	r->off = sector * DISK_SECTOR;
	r->len = len;
	return VIRTIO_BLK_S_OK;
}

/* One entry of the list of a DISCARD or WRITE_ZEROES (5.2.6.2). */
static u8 parse_range(struct virtio_blk *b, u32 type,
		      const struct virtio_blk_discard_write_zeroes *d, struct range *ret)
{
	bool discard = type == VIRTIO_BLK_T_DISCARD;
	u32 known = discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

	if (d->flags & ~known)
		return VIRTIO_BLK_S_UNSUPP;
	if (d->num_sectors > (discard ? DISCARD_SECTORS_MAX : ZERO_SECTORS_MAX) ||
	    !on_disk(b, d->sector, d->num_sectors))
		return VIRTIO_BLK_S_IOERR;
	*ret = (struct range){ .off = d->sector * DISK_SECTOR,
			       .len = (u64)d->num_sectors * DISK_SECTOR,
			       .unmap = d->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP };
	return VIRTIO_BLK_S_OK;
}

static u8 parse_ranges(struct virtio_blk *b, struct blk_req *r)
{
	size_t off = sizeof(struct virtio_blk_outhdr), len = r->c->out_len - off;
	struct virtio_blk_discard_write_zeroes d;
	u8 status = VIRTIO_BLK_S_OK;

	if (disk_read_only(b->cfg.disk) || !len || len % sizeof(d) || len / sizeof(d) > RANGES_MAX)
		return VIRTIO_BLK_S_IOERR;
	r->n_range = (unsigned)(len / sizeof(d));
	r->range = calloc(r->n_range, sizeof(*r->range));
	if (!r->range)
		return VIRTIO_BLK_S_IOERR;
	for (unsigned i = 0; status == VIRTIO_BLK_S_OK && i < r->n_range; i++) {
		if (vq_chain_read(r->c, off + i * sizeof(d), &d, sizeof(d)) < 0)
			return VIRTIO_BLK_S_IOERR;
		status = parse_range(b, r->type, &d, &r->range[i]);
	}
	return status;
}

static u8 parse(struct virtio_blk *b, struct blk_req *r)
{
	struct virtio_blk_stats *s = b->cfg.stats;
	struct virtio_blk_outhdr h;

	if (vq_chain_read(r->c, 0, &h, sizeof(h)) < 0)
		return VIRTIO_BLK_S_IOERR;
	r->type = h.type;
	switch (h.type) {
	case VIRTIO_BLK_T_IN:
		s->reads++;
		return parse_data(b, r, h.sector);
	case VIRTIO_BLK_T_OUT:
		s->writes++;
		return parse_data(b, r, h.sector);
	case VIRTIO_BLK_T_FLUSH:
		s->flushes++;
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_GET_ID:
		s->ids++;
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_DISCARD:
		s->discards++;
		return parse_ranges(b, r);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		s->zeroes++;
		return parse_ranges(b, r);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

static void on_notify(void *dev, unsigned index)
{
	struct virtio_blk *b = dev;
	struct vq *q = vdev_queue(b->v, index);
	struct vq_chain *c;

	while (vq_pop(q, &c) > 0) {
		struct blk_req *r = c->req;

		r->b = b;
		r->c = c;
		if (!c->in_len) {
			vq_drop(q, c);
			vdev_break(b->v, "a block request without room for its status");
			return;
		}
		r->status = parse(b, r);
		if (r->status == VIRTIO_BLK_S_OK) {
			begin(r);
			continue;
		}
		b->cfg.stats->refused++;
		r->len = 0;
		start(r);
	}
}

/* --- reset, pause, configuration -------------------------------------------------------------- */

static bool of_queue(const struct vjob *j, void *q)
{
	return container_of(j, struct blk_req, job)->c->vq == q;
}

/* Drops what waits, of queue @q or (NULL) of all. */
static void drop_waiting(struct virtio_blk *b, const struct vq *q)
{
	struct blk_req *r, *next;

	for (r = b->held.next; r != &b->held; r = next) {
		bool write = is_write(r);
		u64 barrier = r->barrier;

		next = r->next;
		if (q && r->c->vq != q)
			continue;
		gtimer_cancel(&r->timer);
		ring_remove(r);
		drop(r);
		if (write)
			write_ended(b, barrier);
	}
	for (r = b->flushes.next; r != &b->flushes; r = next) {
		next = r->next;
		if (q && r->c->vq != q)
			continue;
		/* Its writes become those of the next, which waits for all before it. */
		if (next == &b->flushes)
			b->open += r->left;
		else
			next->left += r->left;
		ring_remove(r);
		drop(r);
	}
}

static void on_queue_stop(void *dev, unsigned index)
{
	struct virtio_blk *b = dev;
	struct vq *q = vdev_queue(b->v, index);

	b->stopping = true;
	drop_waiting(b, q);
	vjobs_abort(b->jobs, of_queue, q);
	b->stopping = false;
	flushes_go_on(b);
}

static void initial_config(struct virtio_blk *b)
{
	struct virtio_blk_config *c = &b->st.config;
	u64 cylinders = b->sectors / (HEADS * TRACK);

	*c = (struct virtio_blk_config){
		.capacity = b->sectors,
		/* A chain is no longer than its queue: header and status are two of it (2.7.5.3.1). */
		.seg_max = QUEUE_SIZE - 2,
		.geometry = { .cylinders = (u16)MIN(cylinders, (u64)UINT16_MAX),
			      .heads = HEADS,
			      .sectors = TRACK },
		.blk_size = DISK_SECTOR,
		.physical_block_exp = PHYSICAL_EXP,
		.min_io_size = 1u << PHYSICAL_EXP,
		.wce = 1,
		.num_queues = (u16)b->cfg.queues,
		.max_discard_sectors = DISCARD_SECTORS_MAX,
		.max_discard_seg = RANGES_MAX,
		.discard_sector_alignment = 1u << PHYSICAL_EXP,
		.max_write_zeroes_sectors = ZERO_SECTORS_MAX,
		.max_write_zeroes_seg = RANGES_MAX,
		.write_zeroes_may_unmap = 1,
	};
}

static void on_reset(void *dev)
{
	struct virtio_blk *b = dev;

	b->stopping = true;
	drop_waiting(b, NULL);
	vjobs_abort(b->jobs, NULL, NULL);
	b->stopping = false;
	b->open = 0;
	b->barrier = 0;
	memset(&b->st, 0, sizeof(b->st));
	initial_config(b);
}

/* Whether there is a cache to flush is what the driver says it knows of (5.2.5.2). */
static int on_check(void *dev, u64 features)
{
	struct virtio_blk *b = dev;

	b->st.config.wce = !!(features & BIT(VIRTIO_BLK_F_FLUSH));
	return 0;
}

static void on_config_write(void *dev, u32 off, const void *data, u32 len)
{
	struct virtio_blk *b = dev;
	u32 at = offsetof(struct virtio_blk_config, wce);

	if (vdev_has(b->v, VIRTIO_BLK_F_CONFIG_WCE) && off <= at && at - off < len)
		b->st.config.wce = ((const u8 *)data)[at - off] & 1;
}

static void on_pause(void *dev)
{
	vjobs_settle(((struct virtio_blk *)dev)->jobs);
}

static void *own_state(void *dev, unsigned i)
{
	return i ? NULL : &((struct virtio_blk *)dev)->st;
}

static void on_free(void *dev)
{
	struct virtio_blk *b = dev;

	b->stopping = true;
	if (b->v)
		drop_waiting(b, NULL);
	vjobs_free(b->jobs);
	free(b);
}

static const struct vdev_ops ops = {
	.name = "virtio-blk",
	.id = VIRTIO_ID_BLOCK,
	.check = on_check,
	.notify = on_notify,
	.queue_stop = on_queue_stop,
	.config_write = on_config_write,
	.reset = on_reset,
	.pause = on_pause,
	.free = on_free,
	.state = own_state,
	.fields = fields,
};

static u64 offered(const struct virtio_blk_cfg *cfg)
{
	u64 f = BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_GEOMETRY) |
		BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_TOPOLOGY);

	if (cfg->queues > 1)
		f |= BIT(VIRTIO_BLK_F_MQ);
	if (disk_read_only(cfg->disk))
		return f | BIT(VIRTIO_BLK_F_RO);
	return f | BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE) |
	       BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES);
}

int virtio_blk_new(const struct vdev_env *env, const struct virtio_blk_cfg *cfg, struct vdev **ret)
{
	struct virtio_blk *b;
	struct vdev_cfg vc = { .ops = &ops,
			       .env = env,
			       .features = offered(cfg),
			       .n_queues = cfg->queues,
			       .req_size = sizeof(struct blk_req) };
	int r;

	if (!cfg->queues || cfg->queues > VDEV_QUEUES_MAX)
		return -EINVAL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->cfg = *cfg;
	if (!b->cfg.stats)
		b->cfg.stats = &b->none;
	b->sectors = disk_size(cfg->disk) / DISK_SECTOR;
	ring_init(&b->held);
	ring_init(&b->flushes);
	initial_config(b);
	vc.dev = b;
	vc.config = &b->st.config;
	vc.config_len = sizeof(b->st.config);
	r = vjobs_new(env, MIN(MAX(cfg->queues, WORKERS_MIN), WORKERS_MAX), &b->jobs);
	if (r == 0)
		r = vdev_new(&vc, &b->v);
	if (r < 0) {
		on_free(b);
		return r;
	}
	*ret = b->v;
	return 0;
}
