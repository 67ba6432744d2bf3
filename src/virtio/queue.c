// SPDX-License-Identifier: Apache-2.0
/*
 * queue.c - the device's side of a split virtqueue (virtio 1.2, 2.7)
 *
 * How it works
 * The driver owns three areas of guest memory: a table of descriptors, the available ring, into
 * which it puts heads of descriptor chains, and the used ring, into which we put them back. All
 * indices are 16 bits wide and run freely; their difference is what counts.
 *
 * Nothing the driver wrote is read twice: an index, a head and a descriptor are loaded once, and
 * the copy is checked and used. A chain is walked when it is popped and becomes host iovecs, so no
 * device ever sees a guest address. The walk ends after as many descriptors as the queue has
 * entries (2.7.5.3.1 forbids longer chains), which also ends cycles.
 *
 * A driver that breaks a rule breaks its device: the queue calls cfg.broken and answers "nothing
 * available" until it is reset. The alternative, to skip what is wrong, leaves a driver waiting
 * for a request that will never complete.
 *
 * Barriers. The driver may run on another host thread. Pairs:
 *	acquire load of avail.idx	-> the driver's write barrier before it stores the index
 *	release store of used.idx	-> the driver's read barrier after it loads the index
 *	full fence in vq_notify		-> the driver's full barrier between publishing used_event
 *					   (or flags) and looking at used.idx once more
 *	full fence in ask		-> the driver's full barrier between storing avail.idx and
 *					   looking at avail_event (or flags)
 * Without the full fences both sides may see the other's old value, and both go to sleep.
 *
 * Chains outlive a reset: each carries the queue's generation at the time it was popped, and one
 * with an old generation is released without a trace in the new rings.
 */
#include "virtio/queue.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#define DESC_LEN 16u
/* Every descriptor once, and every boundary between regions of RAM once. */
#define PIECES_MAX (VQ_SIZE_MAX + MEM_REGIONS_MAX)
#define PIECES_FIRST 8u

_Static_assert(sizeof(struct vring_desc) == DESC_LEN, "virtio 1.2, 2.7.5");
_Static_assert(sizeof(struct vring_used_elem) == 8, "virtio 1.2, 2.7.8");

/* 2.7.6, 2.7.8. The last member follows the ring. */
struct avail_ring {
	u16 flags, idx, ring[]; /* u16 used_event */
};

struct used_ring {
	u16 flags, idx;
	struct vring_used_elem ring[]; /* u16 avail_event */
};

struct vq {
	struct vq_cfg cfg;
	struct vq_st st;
	/* Host addresses of the areas while ready. */
	struct vring_desc *desc;
	struct avail_ring *avail;
	struct used_ring *used;
	u16 seen;	/* avail.idx when last read */
	u16 asked;	/* what avail_event holds */
	bool no_notify; /* what used.flags holds */
	bool limited;	/* to @left more chains; @cut: one more was asked for */
	bool cut;
	u32 left;
	u32 gen;
	struct vq_chain *spare; /* chains not in use */
	struct vq_chain **all;	/* owned; every chain there is */
	unsigned n_all;
};

/* --- guest memory ---------------------------------------------------------------------------- */

static u16 load16(const u16 *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void wrote_used(struct vq *q, const void *p, size_t len)
{
	mem_wrote(q->cfg.mem, q->st.device + (u64)((const u8 *)p - (const u8 *)q->used), len);
}

static void store_used16(struct vq *q, u16 *p, u16 val)
{
	__atomic_store_n(p, val, __ATOMIC_RELAXED);
	wrote_used(q, p, sizeof(*p));
}

static u16 *used_event(const struct vq *q)
{
	return &q->avail->ring[q->st.size];
}

static u16 *avail_event(const struct vq *q)
{
	return (u16 *)(void *)&q->used->ring[q->st.size];
}

static int broken(struct vq *q, const char *why)
{
	if (!q->st.broken) {
		q->st.broken = 1;
		q->cfg.broken(q->cfg.opaque, q->cfg.index, why);
	}
	return -EPROTO;
}

static bool usable(const struct vq *q)
{
	return q->st.ready && !q->st.broken;
}

/* --- chains ----------------------------------------------------------------------------------- */

static size_t chain_head_len(void)
{
	return ALIGN_UP(sizeof(struct vq_chain), (size_t)16);
}

static struct vq_chain *chain_get(struct vq *q)
{
	struct vq_chain *c = q->spare;

	if (c) {
		q->spare = c->next;
	} else {
		struct vq_chain **all = realloc(q->all, (q->n_all + 1) * sizeof(*all));

		if (!all)
			return NULL;
		q->all = all;
		c = calloc(1, chain_head_len() + q->cfg.req_size);
		if (!c)
			return NULL;
		c->vq = q;
		c->req = (u8 *)c + chain_head_len();
		q->all[q->n_all++] = c;
	}
	memset(c->req, 0, q->cfg.req_size);
	c->n_out = c->n_in = 0;
	c->out_len = c->in_len = 0;
	c->gen = q->gen;
	return c;
}

static void chain_release(struct vq *q, struct vq_chain *c)
{
	c->next = q->spare;
	q->spare = c;
}

/* While a chain is built, @out and @gpa are the whole arrays. */
static int chain_room(struct vq_chain *c)
{
	u32 cap = c->cap ? 2 * c->cap : PIECES_FIRST;
	struct iovec *iov;
	gpa_t *gpa;

	if (c->n_out + c->n_in < c->cap)
		return 0;
	iov = realloc(c->out, cap * sizeof(*iov));
	if (!iov)
		return -ENOMEM;
	c->out = iov;
	gpa = realloc(c->gpa, cap * sizeof(*gpa));
	if (!gpa)
		return -ENOMEM;
	c->gpa = gpa;
	c->cap = cap;
	return 0;
}

static int chain_add(struct vq *q, struct vq_chain *c, const struct vring_desc *d)
{
	bool in = d->flags & VRING_DESC_F_WRITE;
	u32 *sum = in ? &c->in_len : &c->out_len;
	size_t left = d->len, n;
	gpa_t at = d->addr;

	if (!in && c->n_in)
		return broken(q, "a device-readable descriptor behind a device-writable one");
	if (__builtin_add_overflow(*sum, d->len, sum))
		return broken(q, "a descriptor chain of 4 GiB or more");
	for (; left; at += n, left -= n) {
		void *p = mem_span(q->cfg.mem, at, left, &n);
		unsigned k = c->n_out + c->n_in;

		if (!p || at + n < at)
			return broken(q, "a descriptor that is not wholly in RAM");
		if (k == PIECES_MAX)
			return broken(q, "a descriptor chain of too many pieces");
		if (chain_room(c) < 0)
			return broken(q, "no host memory for a descriptor chain");
		c->out[k] = (struct iovec){ p, n };
		c->gpa[k] = at;
		c->n_in += in;
		c->n_out += !in;
	}
	return 0;
}

/* Where descriptors are read from: the queue's table, or an indirect one. */
struct table {
	const struct vring_desc *desc; /* NULL: not contiguous on the host */
	gpa_t gpa;
	u32 n;
	bool indirect;
};

static int table_indirect(struct vq *q, const struct vring_desc *d, struct table *t)
{
	if (!q->st.indirect)
		return broken(q, "an indirect descriptor, which was not negotiated");
	if (t->indirect)
		return broken(q, "an indirect descriptor in an indirect table");
	if (d->flags & VRING_DESC_F_NEXT)
		return broken(q, "an indirect descriptor with a next one");
	if (!d->len || d->len % DESC_LEN || d->addr + d->len < d->addr)
		return broken(q, "an indirect table of a bad size");
	*t = (struct table){ .desc = mem_ptr(q->cfg.mem, d->addr, d->len),
			     .gpa = d->addr,
			     .n = d->len / DESC_LEN,
			     .indirect = true };
	return 0;
}

static int table_read(struct vq *q, const struct table *t, u32 i, struct vring_desc *ret)
{
	if (i >= t->n)
		return broken(q, "a descriptor index outside its table");
	if (t->desc)
		memcpy(ret, &t->desc[i], DESC_LEN);
	else if (mem_read(q->cfg.mem, t->gpa + (u64)i * DESC_LEN, ret, DESC_LEN) < 0)
		return broken(q, "an indirect table that is not wholly in RAM");
	return 0;
}

static int chain_walk(struct vq *q, struct vq_chain *c)
{
	struct table t = { .desc = q->desc, .n = q->st.size };
	struct vring_desc d;
	u32 i = c->head;
	int r;

	for (unsigned count = 0;;) {
		r = table_read(q, &t, i, &d);
		if (r < 0)
			return r;
		if (d.flags & VRING_DESC_F_INDIRECT) {
			r = table_indirect(q, &d, &t);
			if (r < 0)
				return r;
			i = 0;
			continue;
		}
		if (++count > q->st.size)
			return broken(q, "a descriptor chain longer than the queue");
		r = chain_add(q, c, &d);
		if (r < 0)
			return r;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return 0;
		i = d.next;
	}
}

/* --- popping ---------------------------------------------------------------------------------- */

/* Reads avail.idx. 1: something is available; 0: nothing; or a protocol error. */
static int look(struct vq *q)
{
	u16 idx = __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE);

	if ((u16)(idx - q->st.last_avail) > q->st.size)
		return broken(q, "an available index that jumped by more than the queue's size");
	q->seen = idx;
	return idx != q->st.last_avail;
}

/*
 * Asks the driver to notify of the next chain. Returns whether it may have missed that, and the
 * ring must be looked at once more.
 */
static bool ask(struct vq *q)
{
	if (q->st.event_idx) {
		if (q->asked == q->st.last_avail)
			return false;
		q->asked = q->st.last_avail;
		store_used16(q, avail_event(q), q->asked);
	} else {
		if (!q->no_notify)
			return false;
		q->no_notify = false;
		store_used16(q, &q->used->flags, 0);
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return true;
}

int vq_pop(struct vq *q, struct vq_chain **ret)
{
	struct vq_chain *c;
	int r = 1;

	if (!usable(q))
		return 0;
	if (q->limited && !q->left) {
		q->cut = true;
		return 0;
	}
	if (q->seen == q->st.last_avail)
		r = look(q);
	if (r == 0 && q->st.notify && ask(q))
		r = look(q);
	if (r <= 0)
		return r;
	if (q->st.in_flight >= q->st.size)
		return broken(q, "more chains available than there are descriptors");
	c = chain_get(q);
	if (!c)
		return broken(q, "no host memory for a descriptor chain");
	c->at = q->st.last_avail;
	c->head = load16(&q->avail->ring[c->at & (q->st.size - 1)]);
	r = chain_walk(q, c);
	if (r < 0) {
		chain_release(q, c);
		return r;
	}
	c->in = c->n_in ? c->out + c->n_out : NULL;
	q->st.last_avail++;
	q->st.in_flight++;
	q->left -= q->limited;
	*ret = c;
	return 1;
}

void vq_unpop(struct vq *q, struct vq_chain *c)
{
	if (c->gen == q->gen) {
		BUG_IF(c->at != (u16)(q->st.last_avail - 1));
		q->st.last_avail--;
		q->st.in_flight--;
		q->left += q->limited;
	}
	chain_release(q, c);
}

void vq_limit(struct vq *q, u32 chains)
{
	q->limited = true;
	q->left = chains;
	q->cut = false;
}

bool vq_unlimit(struct vq *q)
{
	bool cut = q->limited && q->cut;

	q->limited = q->cut = false;
	return cut;
}

void vq_drop(struct vq *q, struct vq_chain *c)
{
	if (c->gen == q->gen)
		q->st.in_flight--;
	chain_release(q, c);
}

unsigned vq_available(struct vq *q)
{
	if (!usable(q) || look(q) < 0)
		return 0;
	return (u16)(q->seen - q->st.last_avail);
}

void vq_notifications(struct vq *q, bool on)
{
	if (q->st.notify == on)
		return;
	q->st.notify = on;
	if (!usable(q))
		return;
	if (on) {
		ask(q);
	} else if (!q->st.event_idx) {
		/* With EVENT_IDX it is enough not to move avail_event. */
		q->no_notify = true;
		store_used16(q, &q->used->flags, VRING_USED_F_NO_NOTIFY);
	}
}

/* --- pushing ---------------------------------------------------------------------------------- */

/* Bytes [@off, @off+@len) of the device-writable part were written. */
static void wrote_in(struct vq_chain *c, u64 off, u64 len)
{
	for (unsigned i = 0; i < c->n_in && len; i++) {
		u64 k, n = c->in[i].iov_len;

		if (off >= n) {
			off -= n;
			continue;
		}
		k = MIN(len, n - off);
		mem_wrote(c->vq->cfg.mem, c->gpa[c->n_out + i] + off, k);
		len -= k;
		off = 0;
	}
}

void vq_put(struct vq *q, struct vq_chain *c, u32 written)
{
	u16 at = q->st.used & (q->st.size - 1);

	if (c->gen != q->gen) {
		chain_release(q, c);
		return;
	}
	written = MIN(written, c->in_len);
	wrote_in(c, 0, written);
	if (usable(q)) {
		q->used->ring[at].id = c->head;
		q->used->ring[at].len = written;
		wrote_used(q, &q->used->ring[at], sizeof(q->used->ring[at]));
		q->st.used++;
	}
	q->st.in_flight--;
	chain_release(q, c);
}

void vq_publish(struct vq *q)
{
	if (!usable(q) || q->st.used == q->st.published)
		return;
	q->st.published = q->st.used;
	__atomic_store_n(&q->used->idx, q->st.published, __ATOMIC_RELEASE);
	wrote_used(q, &q->used->idx, sizeof(q->used->idx));
}

void vq_push(struct vq *q, struct vq_chain *c, u32 written)
{
	vq_put(q, c, written);
	vq_publish(q);
}

void vq_notify(struct vq *q)
{
	u16 new = q->st.published, old = q->st.signalled;
	bool wanted;

	if (!usable(q) || new == old)
		return;
	q->st.signalled = new;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (q->st.event_idx) /* 2.7.7.2: did the index pass used_event? */
		wanted = (u16)(new - load16(used_event(q)) - 1) < (u16)(new - old);
	else
		wanted = !(load16(&q->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	if (wanted)
		q->cfg.interrupt(q->cfg.opaque, q->cfg.index);
}

/* --- copying ---------------------------------------------------------------------------------- */

int vq_chain_read(const struct vq_chain *c, size_t off, void *dst, size_t len)
{
	if (off > c->out_len || len > c->out_len - off)
		return -EMSGSIZE;
	iov_read(c->out, c->n_out, off, dst, len);
	return 0;
}

int vq_chain_write(struct vq_chain *c, size_t off, const void *src, size_t len)
{
	if (off > c->in_len || len > c->in_len - off)
		return -EMSGSIZE;
	iov_write(c->in, c->n_in, off, src, len);
	wrote_in(c, off, len);
	return 0;
}

bool vq_chain_stale(const struct vq_chain *c)
{
	return c->gen != c->vq->gen;
}

/* --- set-up ----------------------------------------------------------------------------------- */

void vq_set_size(struct vq *q, u32 size)
{
	/* What is too large becomes 0, which vq_enable refuses. */
	if (!q->st.ready)
		q->st.size = size <= q->cfg.size_max ? (u16)size : 0;
}

void vq_set_addr(struct vq *q, enum vq_area area, bool high, u32 half)
{
	u64 *p = area == VQ_DESC ? &q->st.desc : area == VQ_DRIVER ? &q->st.driver : &q->st.device;

	if (q->st.ready)
		return;
	*p = high ? (*p & UINT32_MAX) | (u64)half << 32 : (*p & ~(u64)UINT32_MAX) | half;
}

int vq_enable(struct vq *q, bool event_idx, bool indirect)
{
	u64 n = q->st.size;

	if (q->st.ready || q->st.broken)
		return 0;
	if (!n || (n & (n - 1))) {
		broken(q, "a queue size that is no power of two, or too large");
		return -EINVAL;
	}
	if (q->st.desc % 16 || q->st.driver % 2 || q->st.device % 4) {
		broken(q, "a ring that is not aligned");
		return -EINVAL;
	}
	q->desc = mem_ptr(q->cfg.mem, q->st.desc, DESC_LEN * n);
	q->avail = mem_ptr(q->cfg.mem, q->st.driver, 6 + 2 * n);
	q->used = mem_ptr(q->cfg.mem, q->st.device, 6 + 8 * n);
	if (!q->desc || !q->avail || !q->used) {
		broken(q, "a ring that is not in one piece of RAM");
		return -EINVAL;
	}
	q->st.ready = 1;
	q->st.event_idx = event_idx;
	q->st.indirect = indirect;
	q->st.notify = 1;
	q->seen = q->st.last_avail;
	/* The driver zeroed the used ring: it notifies of the first chain, either way. */
	q->asked = 0;
	q->no_notify = false;
	return 0;
}

void vq_reset(struct vq *q)
{
	q->st = (struct vq_st){ .size = (u16)q->cfg.size_max, .notify = 1 };
	q->desc = NULL;
	q->avail = NULL;
	q->used = NULL;
	q->seen = q->asked = 0;
	q->no_notify = false;
	q->gen++;
}

void vq_set_broken(struct vq *q)
{
	q->st.broken = 1;
}

bool vq_ready(const struct vq *q)
{
	return usable(q);
}

unsigned vq_size(const struct vq *q)
{
	return q->st.ready ? q->st.size : 0;
}

unsigned vq_size_max(const struct vq *q)
{
	return q->cfg.size_max;
}

unsigned vq_in_flight(const struct vq *q)
{
	return q->st.in_flight;
}

unsigned vq_index(const struct vq *q)
{
	return q->cfg.index;
}

u32 vq_generation(const struct vq *q)
{
	return q->gen;
}

struct vq_st *vq_state(struct vq *q)
{
	return &q->st;
}

int vq_new(const struct vq_cfg *cfg, struct vq **ret)
{
	struct vq *q;

	if (!cfg->size_max || cfg->size_max > VQ_SIZE_MAX ||
	    (cfg->size_max & (cfg->size_max - 1)) || !cfg->broken || !cfg->interrupt)
		return -EINVAL;
	q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	q->cfg = *cfg;
	vq_reset(q);
	*ret = q;
	return 0;
}

void vq_free(struct vq *q)
{
	if (!q)
		return;
	for (unsigned i = 0; i < q->n_all; i++) {
		free(q->all[i]->out);
		free(q->all[i]->gpa);
		free(q->all[i]);
	}
	free(q->all);
	free(q);
}
