// SPDX-License-Identifier: Apache-2.0
/*
 * test_order.c - what a ring's index promises is there before the index is
 *
 * An x86 host keeps stores in order whatever the source says, so no run there shows a missing
 * acquire or release. This program and the queue are therefore built for ThreadSanitizer, which
 * judges by what the source says: memory that one thread writes and another reads without such a
 * pair in between is reported, and the program's status is not 0 then. The two threads here share
 * nothing but the rings.
 */
#include "virtio/queue.h"

#include <linux/virtio_ring.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SIZE 8u
#define ROUNDS 3000u
#define DESC 0x1000u
#define AVAIL 0x2000u
#define USED 0x3000u
#define DATA 0x4000u

/* The driver's view of the rings: virtio 1.2, 2.7.5, 2.7.6, 2.7.8. */
struct driver {
	struct vring_desc *desc;
	u16 *avail; /* flags, idx, ring */
	u16 *used_idx;
	u32 *used; /* id and length of each */
	u32 *question, *answer;
};

static void unexpected(void *opaque, unsigned index, const char *why)
{
	fail_msg("%s", why);
}

static void no_interrupt(void *opaque, unsigned index)
{
}

/* One request at a time; whatever it writes and reads is plain memory but for the two indices. */
static void *drive(void *opaque)
{
	const struct driver *d = opaque;
	unsigned wrong = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		u16 head = (u16)(2 * (i % (SIZE / 2)));
		const u32 *entry = &d->used[2 * (i % SIZE)];

		*d->question = i;
		d->desc[head] = (struct vring_desc){ DATA, 4, VRING_DESC_F_NEXT, (u16)(head + 1) };
		d->desc[head + 1] = (struct vring_desc){ DATA + 64, 4, VRING_DESC_F_WRITE, 0 };
		d->avail[2 + i % SIZE] = head;
		__atomic_store_n(&d->avail[1], (u16)(i + 1), __ATOMIC_RELEASE);
		while (__atomic_load_n(d->used_idx, __ATOMIC_ACQUIRE) != (u16)(i + 1))
			sched_yield();
		wrong += entry[0] != head || entry[1] != 4 || *d->answer != ~i;
	}
	return (void *)(uintptr_t)wrong;
}

static void serve(struct vq *q)
{
	for (unsigned done = 0; done < ROUNDS;) {
		struct vq_chain *c;

		if (vq_pop(q, &c) <= 0) {
			sched_yield();
			continue;
		}
		*(u32 *)c->in[0].iov_base = ~*(u32 *)c->out[0].iov_base;
		vq_push(q, c, 4);
		vq_notify(q);
		done++;
	}
}

static void both_ways(void **s)
{
	const struct mem_region region = { .base = 0, .size = 0x10000 };
	struct err e = { 0 };
	struct mem *m;
	struct vq *q;
	struct vq_cfg cfg = { .size_max = SIZE, .broken = unexpected, .interrupt = no_interrupt };
	struct driver d;
	pthread_t t;
	void *wrong;

	assert_int_equal(mem_new(&region, 1, &e, &m), 0);
	cfg.mem = m;
	assert_int_equal(vq_new(&cfg, &q), 0);
	vq_set_addr(q, VQ_DESC, false, DESC);
	vq_set_addr(q, VQ_DRIVER, false, AVAIL);
	vq_set_addr(q, VQ_DEVICE, false, USED);
	assert_int_equal(vq_enable(q, true, false), 0);
	d = (struct driver){ .desc = mem_ptr(m, DESC, 16 * SIZE),
			     .avail = mem_ptr(m, AVAIL, 6 + 2 * SIZE),
			     .used_idx = mem_ptr(m, USED + 2, 2),
			     .used = mem_ptr(m, USED + 4, 8 * SIZE),
			     .question = mem_ptr(m, DATA, 4),
			     .answer = mem_ptr(m, DATA + 64, 4) };
	assert_int_equal(pthread_create(&t, NULL, drive, &d), 0);
	serve(q);
	pthread_join(t, &wrong);
	assert_ptr_equal(wrong, NULL);
	vq_free(q);
	mem_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(both_ways) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
