/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gclock.c - guest time and the timers that fire in it (a binary heap)
 */
#include "base/gclock.h"

#include <stdlib.h>

static bool before(const struct gtimer *a, const struct gtimer *b)
{
	return a->deadline != b->deadline ? a->deadline < b->deadline : a->seq < b->seq;
}

static void place(struct gclock *c, u32 i, struct gtimer *t)
{
	c->heap[i] = t;
	t->slot = i + 1;
}

static void sift_up(struct gclock *c, u32 i, struct gtimer *t)
{
	while (i > 0 && before(t, c->heap[(i - 1) / 2])) {
		place(c, i, c->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	place(c, i, t);
}

static void sift_down(struct gclock *c, u32 i, struct gtimer *t)
{
	for (;;) {
		u32 k = 2 * i + 1;
		if (k >= c->n)
			break;
		if (k + 1 < c->n && before(c->heap[k + 1], c->heap[k]))
			k++;
		if (!before(c->heap[k], t))
			break;
		place(c, i, c->heap[k]);
		i = k;
	}
	place(c, i, t);
}

void gclock_init(struct gclock *c, u64 (*read)(void *), void (*sooner)(void *, u64), void *opaque)
{
	*c = (struct gclock){ .read = read, .sooner = sooner, .opaque = opaque };
}

void gclock_fini(struct gclock *c)
{
	for (u32 i = 0; i < c->n; i++)
		c->heap[i]->slot = 0;
	free(c->heap);
	c->heap = NULL;
	c->n = c->cap = 0;
}

u64 gclock_next(const struct gclock *c)
{
	return c->n ? c->heap[0]->deadline : GCLOCK_NEVER;
}

unsigned gclock_run(struct gclock *c, u64 now)
{
	unsigned fired = 0;

	while (c->n && c->heap[0]->deadline <= now) {
		struct gtimer *t = c->heap[0];
		gtimer_cancel(t);
		fired++;
		t->fn(t->opaque);
	}
	return fired;
}

void gtimer_init(struct gtimer *t, struct gclock *c, void (*fn)(void *), void *opaque)
{
	*t = (struct gtimer){ .fn = fn, .opaque = opaque, .clk = c };
}

void gtimer_cancel(struct gtimer *t)
{
	struct gclock *c = t->clk;
	u32 i = t->slot - 1;

	if (!t->slot)
		return;
	t->slot = 0;
	struct gtimer *last = c->heap[--c->n];
	if (last == t)
		return;
	if (i > 0 && before(last, c->heap[(i - 1) / 2]))
		sift_up(c, i, last);
	else
		sift_down(c, i, last);
}

void gtimer_arm(struct gtimer *t, u64 deadline)
{
	struct gclock *c = t->clk;
	u64 first = gclock_next(c);

	gtimer_cancel(t);
	if (c->n == c->cap) {
		u32 cap = c->cap ? 2 * c->cap : 64;
		struct gtimer **h = realloc(c->heap, cap * sizeof(*h));
		/* One pointer per timer of a VM that already stands: no way to report, none to go on. */
		BUG_IF(!h);
		c->heap = h;
		c->cap = cap;
	}
	t->deadline = deadline;
	t->seq = c->seq++;
	c->n++;
	sift_up(c, c->n - 1, t);
	if (deadline < first && c->sooner)
		c->sooner(c->opaque, deadline);
}
