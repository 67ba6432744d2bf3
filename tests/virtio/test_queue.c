// SPDX-License-Identifier: Apache-2.0
/*
 * test_queue.c - split rings against drivers that keep the rules, and drivers that break them
 */
#include "echo.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define ALL UINT64_MAX
#define NO_EVENT (~BIT(VIRTIO_RING_F_EVENT_IDX))
#define NO_INDIRECT (~BIT(VIRTIO_RING_F_INDIRECT_DESC))

struct rig {
	struct vdrv d;
	struct echo e;
};

static struct rig *up(u64 features, u16 size)
{
	static struct rig r;

	vdrv_up(&r.d);
	vdrv_attach(&r.d, echo_new(&r.e, &r.d.env));
	vdrv_start(&r.d, features & ~BIT(ECHO_REFUSED), 1, size);
	return &r;
}

static void down(struct rig *r)
{
	vdrv_down(&r->d);
	assert_int_equal(r->e.freed, 1);
}

static struct vq *queue(struct rig *r)
{
	return vdev_queue(r->e.v, 0);
}

/* One request and its answer; returns the id that came back. */
static u32 round_trip(struct rig *r, const struct vdrv_seg *seg, unsigned n, bool indirect)
{
	u32 id, len, sum = 0;
	u16 head = indirect ? vdrv_add_indirect(&r->d, 0, seg, n) : vdrv_add(&r->d, 0, seg, n);

	for (unsigned i = 0; i < n; i++)
		sum += seg[i].write ? seg[i].len : 0;
	vdrv_notify(&r->d, 0);
	assert_true(vdrv_used(&r->d, 0, &id, &len));
	assert_int_equal(id, head);
	assert_true(len <= sum);
	assert_false(vdrv_used(&r->d, 0, NULL, NULL));
	return len;
}

static void echoes(void **s)
{
	static const char text[] = "split over pieces of odd sizes";
	const u32 n = sizeof(text);

	for (unsigned indirect = 0; indirect < 2; indirect++) {
		struct rig *r = up(ALL, 16);
		gpa_t out = vdrv_put(&r->d, text, n), in = vdrv_put(&r->d, NULL, n);
		const struct vdrv_seg seg[] = {
			{ out, 1 },
			{ out + 1, 5 },
			{ out + 6, 0 },
			{ out + 6, n - 6 },
			{ in, 3, true },
			{ in + 3, 0, true },
			{ in + 3, n - 3, true },
		};
		char got[sizeof(text)];

		assert_int_equal(round_trip(r, seg, ARRAY_LEN(seg), indirect), n);
		assert_int_equal(mem_read(r->d.mem, in, got, n), 0);
		assert_memory_equal(got, text, n);
		assert_true(r->d.irq);
		vdrv_wr(&r->d, VIRTIO_MMIO_INTERRUPT_ACK, 1);
		assert_false(r->d.irq);
		down(r);
	}
}

/* A buffer from one region of RAM to the next is two pieces; one into a hole is an error. */
static void crosses_regions(void **s)
{
	struct rig *r = up(ALL, 16);
	const struct vdrv_seg seg[] = { { VDRV_TOUCHING - 10, 20 },
					{ VDRV_TOUCHING - 1000, 30, true } };
	struct vq_chain *c;

	assert_int_equal(mem_write(r->d.mem, VDRV_TOUCHING - 10, "0123456789abcdefghij", 20), 0);
	vdrv_add(&r->d, 0, seg, 2);
	assert_int_equal(vq_pop(queue(r), &c), 1);
	assert_int_equal(c->n_out, 2);
	assert_int_equal(c->out[0].iov_len, 10);
	assert_memory_equal(c->out[1].iov_base, "abcdefghij", 10);
	assert_int_equal(c->out_len, 20);
	assert_int_equal(c->in_len, 30);
	vq_push(queue(r), c, 0);
	down(r);
}

static void chain_limits(void **s)
{
	struct rig *r = up(ALL, 16);
	gpa_t b = vdrv_put(&r->d, "abcd", 4);
	const struct vdrv_seg seg[] = { { b, 4 }, { b, 8, true } };
	struct vq_chain *c;
	char buf[8];
	u32 len;

	vdrv_add(&r->d, 0, seg, 2);
	assert_int_equal(vq_pop(queue(r), &c), 1);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(((u8 *)c->req)[i], 0);
	memset(c->req, 0xff, 64);
	assert_int_equal(vq_chain_read(c, 2, buf, 2), 0);
	assert_memory_equal(buf, "cd", 2);
	assert_true(vq_chain_read(c, 0, buf, 5) < 0);
	assert_true(vq_chain_read(c, 5, buf, 0) < 0);
	assert_true(vq_chain_read(c, 3, buf, SIZE_MAX) < 0);
	assert_true(vq_chain_write(c, SIZE_MAX, buf, 2) < 0);
	assert_true(vq_chain_write(c, 1, buf, 8) < 0);
	r->d.wrote = 0;
	assert_int_equal(vq_chain_write(c, 1, "xy", 2), 0);
	assert_int_equal(r->d.wrote, 2);
	/* More than there is room for is cut; the engine hears of each byte. */
	r->d.wrote = 0;
	vq_push(queue(r), c, 1000);
	assert_int_equal(r->d.wrote, 8 + 8 + 2); /* bytes, used entry, index */
	assert_true(vdrv_used(&r->d, 0, NULL, &len));
	assert_int_equal(len, 8);
	/* The next request does not see the last one's notes. */
	vdrv_add(&r->d, 0, seg, 2);
	assert_int_equal(vq_pop(queue(r), &c), 1);
	assert_int_equal(((u8 *)c->req)[0], 0);
	vq_push(queue(r), c, 0);
	down(r);
}

/* 16-bit indices wrap at 65536, with rings of every size, and both ways of notification. */
static void indices_wrap(void **s)
{
	static const u16 sizes[] = { 1, 2, 16, 256 };

	for (unsigned i = 0; i < 2 * ARRAY_LEN(sizes); i++) {
		struct rig *r = up(i & 1 ? ALL : NO_EVENT, sizes[i / 2]);
		struct vdrv_seg seg = { vdrv_put(&r->d, NULL, 4), 4, true };

		for (unsigned k = 0; k < 70000; k++) {
			u32 id;
			u16 head = vdrv_add(&r->d, 0, &seg, 1);

			vdrv_notify(&r->d, 0);
			if (!vdrv_used(&r->d, 0, &id, NULL) || id != head)
				fail_msg("size %u: request %u is lost", sizes[i / 2], k);
		}
		assert_false(vdrv_needs_reset(&r->d));
		down(r);
	}
}

/* --- drivers that break the rules -------------------------------------------------------------- */

enum breach {
	SELF_CYCLE,
	PAIR_CYCLE,
	TOO_LONG,
	NEXT_OUTSIDE,
	HEAD_OUTSIDE,
	INDEX_JUMP,
	OUT_BEHIND_IN,
	IN_HOLE,
	INTO_HOLE,
	BELOW_ZERO,
	AROUND_END,
	FOUR_GIB,
	INDIRECT_TWICE,
	INDIRECT_NEXT,
	INDIRECT_EMPTY,
	INDIRECT_ODD,
	INDIRECT_HOLE,
	INDIRECT_AROUND,
	INDIRECT_OUTSIDE,
	INDIRECT_CYCLE,
	BREACHES
};

#define IND VRING_DESC_F_INDIRECT
#define NXT VRING_DESC_F_NEXT
#define WR VRING_DESC_F_WRITE

static const struct {
	struct vring_desc d[4], table[4];
} breaches[BREACHES] = {
	[SELF_CYCLE] = { .d = { { 0x2000, 1, NXT, 0 } } },
	[PAIR_CYCLE] = { .d = { { 0x2000, 1, NXT, 1 }, { 0x2000, 1, NXT, 0 } } },
	[NEXT_OUTSIDE] = { .d = { { 0x2000, 1, NXT, 16 } } },
	[OUT_BEHIND_IN] = { .d = { { 0x2000, 1, WR | NXT, 1 }, { 0x2000, 1, 0, 0 } } },
	[IN_HOLE] = { .d = { { 0x80000000, 1, 0, 0 } } },
	[INTO_HOLE] = { .d = { { VDRV_TOUCHING + (1 << 20) - 4, 8, WR, 0 } } },
	[BELOW_ZERO] = { .d = { { (u64)-8, 4, 0, 0 } } },
	[AROUND_END] = { .d = { { (u64)-8, 16, 0, 0 } } },
	[FOUR_GIB] = { .d = { { 0x2000, 0xffffffff, 0, 0 } } },
	[INDIRECT_TWICE] = { .d = { { 0, 16, IND, 0 } }, .table = { { 0x2000, 16, IND, 0 } } },
	[INDIRECT_NEXT] = { .d = { { 0, 16, IND | NXT, 1 }, { 0x2000, 1, 0, 0 } },
			    .table = { { 0x2000, 1, 0, 0 } } },
	[INDIRECT_EMPTY] = { .d = { { 0, 0, IND, 0 } } },
	[INDIRECT_ODD] = { .d = { { 0, 24, IND, 0 } }, .table = { { 0x2000, 1, 0, 0 } } },
	[INDIRECT_HOLE] = { .d = { { 0x80000000, 16, IND, 0 } } },
	[INDIRECT_AROUND] = { .d = { { (u64)-16, 64, IND, 0 } } },
	[INDIRECT_OUTSIDE] = { .d = { { 0, 32, IND, 0 } }, .table = { { 0x2000, 1, NXT, 2 } } },
	[INDIRECT_CYCLE] = { .d = { { 0, 32, IND, 0 } },
			     .table = { { 0x2000, 1, NXT, 1 }, { 0x2000, 1, NXT, 0 } } },
};

static void breach(struct rig *r, enum breach b)
{
	struct vdrv_ring *g = &r->d.ring[0];
	gpa_t table = vdrv_alloc(&r->d, 64, 16);

	for (u16 i = 0; i < 4; i++) {
		struct vring_desc v = breaches[b].d[i];

		if ((v.flags & IND) && !v.addr)
			v.addr = table;
		vdrv_desc(&r->d, g->desc, i, &v);
		vdrv_desc(&r->d, table, i, &breaches[b].table[i]);
	}
	if (b == TOO_LONG) { /* an indirect table of more descriptors than the queue has */
		struct vring_desc ind = { vdrv_alloc(&r->d, 17 * 16, 16), 17 * 16, IND, 0 };

		for (u16 i = 0; i < 17; i++)
			vdrv_desc(
				&r->d, ind.addr, i,
				&(struct vring_desc){ 0x2000, 1, i < 16 ? NXT : 0, (u16)(i + 1) });
		vdrv_desc(&r->d, g->desc, 0, &ind);
	}
	vdrv_avail(&r->d, 0, b == HEAD_OUTSIDE ? 16 : 0);
	if (b == INDEX_JUMP)
		vdrv_put16(&r->d, g->avail + 2, 17);
	vdrv_notify(&r->d, 0);
}

static void breaches_break(void **s)
{
	for (enum breach b = 0; b < BREACHES; b++) {
		struct rig *r = up(ALL, 16);

		breach(r, b);
		if (!vdrv_needs_reset(&r->d) || !vdev_fault(r->e.v) || r->e.last_pop >= 0)
			fail_msg("breach %d went unnoticed", b);
		/* A configuration interrupt says so (2.1.2); nothing was used. */
		assert_int_equal(vdrv_rd(&r->d, VIRTIO_MMIO_INTERRUPT_STATUS), 2);
		assert_true(r->d.irq);
		assert_int_equal(vdrv_used_idx(&r->d, 0), 0);
		/* It stays broken, whatever the driver does but a reset. */
		r->e.notified[0] = 0;
		vdrv_notify(&r->d, 0);
		assert_int_equal(r->e.notified[0], 0);
		vdrv_wr(&r->d, VIRTIO_MMIO_STATUS, 15);
		assert_true(vdrv_needs_reset(&r->d));
		vdrv_start(&r->d, ALL & ~BIT(ECHO_REFUSED), 1, 16);
		assert_false(r->d.irq);
		gpa_t buf = vdrv_put(&r->d, NULL, 4);
		assert_int_equal(round_trip(r, &(struct vdrv_seg){ buf, 4, true }, 1, false), 0);
		down(r);
	}
}

static void indirect_needs_negotiation(void **s)
{
	struct rig *r = up(NO_INDIRECT, 16);
	gpa_t buf = vdrv_put(&r->d, NULL, 4);

	vdrv_add_indirect(&r->d, 0, &(struct vdrv_seg){ buf, 4, true }, 1);
	vdrv_notify(&r->d, 0);
	assert_true(vdrv_needs_reset(&r->d));
	down(r);
}

/* An indirect table from one region to the next is not contiguous on the host. */
static void indirect_across_regions(void **s)
{
	struct rig *r = up(ALL, 16);
	gpa_t buf = vdrv_put(&r->d, "xyz", 3), table = VDRV_TOUCHING - 24;
	struct vring_desc ind = { table, 3 * 16, IND, 0 };
	struct vq_chain *c;

	vdrv_desc(&r->d, table, 0, &(struct vring_desc){ buf, 1, NXT, 1 });
	vdrv_desc(&r->d, table, 1, &(struct vring_desc){ buf + 1, 1, NXT, 2 });
	vdrv_desc(&r->d, table, 2, &(struct vring_desc){ buf + 2, 1, 0, 0 });
	vdrv_desc(&r->d, r->d.ring[0].desc, 0, &ind);
	vdrv_avail(&r->d, 0, 0);
	assert_int_equal(vq_pop(queue(r), &c), 1);
	assert_int_equal(c->n_out, 3);
	assert_memory_equal(c->out[2].iov_base, "z", 1);
	vq_push(queue(r), c, 0);
	down(r);
}

/* The same buffers again and again, without waiting: no more chains than descriptors. */
static void flood(void **s)
{
	struct rig *r = up(ALL, 16);
	struct vdrv_seg seg = { vdrv_put(&r->d, NULL, 4), 4, true };

	r->e.hold = true;
	for (unsigned i = 0; i < 16; i++)
		vdrv_add(&r->d, 0, &seg, 1);
	vdrv_notify(&r->d, 0);
	assert_int_equal(vq_in_flight(queue(r)), 16);
	assert_false(vdrv_needs_reset(&r->d));
	vdrv_add(&r->d, 0, &seg, 1);
	vdrv_notify(&r->d, 0);
	assert_true(vdrv_needs_reset(&r->d));
	/* What is held may still be given back; it goes nowhere. */
	for (unsigned i = 0; i < r->e.n_held; i++)
		vq_push(queue(r), r->e.held[i], 4);
	assert_int_equal(vdrv_used_idx(&r->d, 0), 0);
	assert_int_equal(vq_in_flight(queue(r)), 0);
	down(r);
}

/* --- notifications and interrupts -------------------------------------------------------------- */

static void suppressed_by_flag(void **s)
{
	struct rig *r = up(NO_EVENT, 16);
	gpa_t buf = vdrv_put(&r->d, NULL, 4), guard = r->d.ring[0].used + 4 + 8 * 16;
	struct vdrv_seg seg = { buf, 4, true };

	vdrv_put16(&r->d, guard, 0xabcd);
	vdrv_put16(&r->d, r->d.ring[0].avail, VRING_AVAIL_F_NO_INTERRUPT);
	round_trip(r, &seg, 1, false);
	assert_false(r->d.irq);
	vdrv_put16(&r->d, r->d.ring[0].avail, 0);
	round_trip(r, &seg, 1, false);
	assert_true(r->d.irq);
	/* Without EVENT_IDX nothing is written where avail_event would be. */
	assert_int_equal(vdrv_get16(&r->d, guard), 0xabcd);

	vq_notifications(queue(r), false);
	assert_int_equal(vdrv_get16(&r->d, r->d.ring[0].used), VRING_USED_F_NO_NOTIFY);
	round_trip(r, &seg, 1, false);
	assert_int_equal(vdrv_get16(&r->d, r->d.ring[0].used), VRING_USED_F_NO_NOTIFY);
	vq_notifications(queue(r), true);
	assert_int_equal(vdrv_get16(&r->d, r->d.ring[0].used), 0);
	down(r);
}

/* An interrupt comes when used.idx passes used_event, and only then (2.7.7.2), also at the wrap. */
static void suppressed_by_event(void **s)
{
	struct rig *r = up(ALL, 16);
	struct vdrv_seg seg = { vdrv_put(&r->d, NULL, 4), 4, true };

	for (unsigned i = 0; i < 65534; i++)
		round_trip(r, &seg, 1, false);
	r->d.rises = 0;
	vdrv_wr(&r->d, VIRTIO_MMIO_INTERRUPT_ACK, 3);
	vdrv_put16(&r->d, vdrv_used_event(&r->d, 0), 0); /* the entry at index 0: the third */
	for (unsigned i = 0; i < 4; i++) {
		round_trip(r, &seg, 1, false);
		assert_int_equal(r->d.rises, i < 2 ? 0 : 1);
		vdrv_wr(&r->d, VIRTIO_MMIO_INTERRUPT_ACK, 3);
	}
	/* One interrupt for a batch that jumps over the event; avail_event follows. */
	vdrv_put16(&r->d, vdrv_used_event(&r->d, 0), 4);
	for (unsigned i = 0; i < 5; i++)
		vdrv_add(&r->d, 0, &seg, 1);
	vdrv_notify(&r->d, 0);
	assert_int_equal(r->d.rises, 2);
	assert_int_equal(vdrv_get16(&r->d, vdrv_avail_event(&r->d, 0)), r->d.ring[0].avail_idx);
	down(r);
}

/* After each pop that finds nothing, the driver is asked to notify of exactly the next chain. */
static void asks_again(void **s)
{
	struct rig *r = up(ALL, 16);
	struct vdrv_seg seg = { vdrv_put(&r->d, NULL, 4), 4, true };
	struct vq_chain *c;

	vq_notifications(queue(r), false);
	round_trip(r, &seg, 1, false);
	assert_int_equal(vdrv_get16(&r->d, vdrv_avail_event(&r->d, 0)), 0);
	vq_notifications(queue(r), true);
	assert_int_equal(vdrv_get16(&r->d, vdrv_avail_event(&r->d, 0)), 1);
	vdrv_add(&r->d, 0, &seg, 1);
	vdrv_add(&r->d, 0, &seg, 1);
	assert_int_equal(vq_available(queue(r)), 2);
	assert_int_equal(vq_pop(queue(r), &c), 1);
	vq_unpop(queue(r), c);
	assert_int_equal(vq_available(queue(r)), 2);
	assert_int_equal(vq_in_flight(queue(r)), 0);
	assert_int_equal(vq_pop(queue(r), &c), 1);
	assert_int_equal(c->at, 1);
	vq_push(queue(r), c, 0);
	assert_int_equal(vq_pop(queue(r), &c), 1);
	vq_push(queue(r), c, 0);
	assert_int_equal(vq_pop(queue(r), &c), 0);
	assert_int_equal(vdrv_get16(&r->d, vdrv_avail_event(&r->d, 0)), 3);
	down(r);
}

/* Buffers that belong together appear together. */
static void publishes_at_once(void **s)
{
	struct rig *r = up(ALL, 16);
	struct vdrv_seg seg = { vdrv_put(&r->d, NULL, 4), 4, true };
	struct vq_chain *c[3];

	for (unsigned i = 0; i < 3; i++)
		vdrv_add(&r->d, 0, &seg, 1);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(vq_pop(queue(r), &c[i]), 1);
	for (unsigned i = 0; i < 3; i++)
		vq_put(queue(r), c[i], i + 1);
	assert_int_equal(vdrv_used_idx(&r->d, 0), 0);
	vq_publish(queue(r));
	assert_int_equal(vdrv_used_idx(&r->d, 0), 3);
	assert_false(r->d.irq);
	vq_notify(queue(r));
	assert_true(r->d.irq);
	down(r);
}

/* --- resets with requests under way ------------------------------------------------------------ */

static void stale_chains(void **s)
{
	for (unsigned how = 0; how < 3; how++) {
		struct rig *r = up(ALL, 16);
		struct vdrv_seg seg = { vdrv_put(&r->d, NULL, 4), 4, true };

		r->e.hold = true;
		for (unsigned i = 0; i < 8; i++)
			vdrv_add(&r->d, 0, &seg, 1);
		vdrv_notify(&r->d, 0);
		vdrv_wr(&r->d, VIRTIO_MMIO_QUEUE_SEL, 0);
		if (how == 0)
			vdrv_wr(&r->d, VIRTIO_MMIO_STATUS, 0);
		else if (how == 1)
			vdrv_wr(&r->d, VDRV_QUEUE_RESET, 1);
		else
			vdrv_wr(&r->d, VIRTIO_MMIO_QUEUE_READY, 0);
		assert_int_equal(r->e.stops, how != 0);
		if (how == 0)
			vdrv_start(&r->d, ALL & ~BIT(ECHO_REFUSED), 1, 16);
		else
			vdrv_queue(&r->d, 0, 16);
		assert_int_equal(vq_in_flight(queue(r)), 0);
		/* Their memory is still there; the new ring does not hear of them. */
		for (unsigned i = 0; i < 6; i++) {
			assert_true(vq_chain_stale(r->e.held[i]));
			iov_fill(r->e.held[i]->in, r->e.held[i]->n_in, 0, 1, 4);
			if (i & 1)
				vq_push(queue(r), r->e.held[i], 4);
			else
				vq_drop(queue(r), r->e.held[i]);
		}
		vq_unpop(queue(r), r->e.held[6]); /* the eighth is never given back */
		vq_notify(queue(r));
		assert_int_equal(vdrv_used_idx(&r->d, 0), 0);
		assert_false(r->d.irq);
		r->e.hold = false;
		round_trip(r, &seg, 1, false);
		down(r);
	}
}

static void bad_set_up(void **s)
{
	static const struct {
		u16 size;
		s64 desc, avail, used; /* offsets from good places */
	} bad[] = {
		{ 0 },
		{ 3 },
		{ 512 },
		{ 65535 },
		{ 16, 8, 0, 0 },
		{ 16, 0, 1, 0 },
		{ 16, 0, 0, 2 },
		{ 16, 0x80000000, 0, 0 },
		{ 16, 0, 0x80000000, 0 },
		{ 16, 0, 0, 0x80000000 },
		{ 16, -0x2000, 0, 0 },
		{ 16, (1 << 20) + VDRV_TOUCHING - 0x1000 - 128 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct rig *r = up(ALL, 16);
		struct vdrv_ring *g = &r->d.ring[0];

		assert_int_equal(g->desc, 0x1000);
		assert_true(vdrv_negotiate(&r->d, ALL & ~BIT(ECHO_REFUSED)));
		g->size = bad[i].size;
		g->desc += (u64)bad[i].desc;
		g->avail += (u64)bad[i].avail;
		g->used += (u64)bad[i].used;
		vdrv_set_addrs(&r->d, 0);
		vdrv_wr(&r->d, VIRTIO_MMIO_QUEUE_READY, 1);
		if (vdrv_rd(&r->d, VIRTIO_MMIO_QUEUE_READY) || !vdrv_needs_reset(&r->d))
			fail_msg("bad set-up %u was accepted", i);
		/* No interrupt before DRIVER_OK, but then. */
		assert_false(r->d.irq);
		vdrv_ok(&r->d);
		assert_true(r->d.irq);
		vdrv_notify(&r->d, 0);
		assert_int_equal(r->e.notified[0], 0);
		assert_int_equal(r->e.started, 1); /* by up(), not again */
		down(r);
	}
}

/* The driver adds a chain just when the device asks for a notification: it cannot know yet. */
struct sneak {
	struct rig *r;
	gpa_t when;
	struct vdrv_seg seg;
	unsigned times;
};

static void on_sneak(void *o, gpa_t gpa, size_t len)
{
	struct sneak *k = o;

	if (gpa == k->when && k->times) {
		k->times--;
		vdrv_add(&k->r->d, 0, &k->seg, 1);
	}
}

static void looks_again(void **s)
{
	for (unsigned i = 0; i < 2; i++) {
		struct rig *r = up(i ? ALL : NO_EVENT, 16);
		struct sneak k = {
			r, i ? vdrv_avail_event(&r->d, 0) : r->d.ring[0].used, { 0 }, 1
		};
		struct vq_chain *c;

		k.seg = (struct vdrv_seg){ vdrv_put(&r->d, NULL, 4), 4, true };
		round_trip(r, &k.seg, 1, false);
		vq_notifications(queue(r), false);
		round_trip(r, &k.seg, 1, false);
		vq_state(queue(r))->notify = 1; /* as if it had never been off: vq_pop asks */
		mem_set_observer(r->d.mem, on_sneak, &k);
		assert_int_equal(vq_pop(queue(r), &c), 1);
		assert_int_equal(k.times, 0);
		vq_push(queue(r), c, 0);
		down(r);
	}
}

/* --- a driver on another thread ---------------------------------------------------------------- */

/*
 * Stores that miss every cache. On x86 stores become visible in order, so one that follows waits
 * for these in the CPU's store buffer while later loads pass it: a missing fence, of which there
 * is otherwise a trace once in a million times, shows at once.
 */
static void slow_stores(void)
{
	enum { LINES = 32, LINE = 64 };
	static u8 cold[LINES * LINE];

	for (unsigned i = 0; i < LINES; i++)
		__builtin_ia32_clflush(&cold[i * LINE]);
	for (unsigned i = 0; i < LINES; i++)
		*(volatile u8 *)&cold[i * LINE] = (u8)i;
}

struct race {
	struct rig *r;
	pthread_mutex_t lock;
	pthread_cond_t kicked;
	bool kick;
};

/* The driver: one buffer at a time, and a kick only if avail_event asks for it. */
static void *race_driver(void *o)
{
	struct race *x = o;
	struct vdrv *d = &x->r->d;
	u16 *avail = mem_ptr(d->mem, d->ring[0].avail, 2);
	u16 *used = mem_ptr(d->mem, d->ring[0].used, 2);
	u16 *used_event = mem_ptr(d->mem, vdrv_used_event(d, 0), 2);
	u16 *avail_event = mem_ptr(d->mem, vdrv_avail_event(d, 0), 2);

	for (u16 i = 0, n = 0; n < UINT16_MAX; i++, n++) {
		__atomic_store_n(used_event, i, __ATOMIC_RELAXED);
		avail[2 + (i & 15)] = 0;
		__atomic_store_n(&avail[1], (u16)(i + 1), __ATOMIC_RELEASE);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (__atomic_load_n(avail_event, __ATOMIC_RELAXED) == i) {
			pthread_mutex_lock(&x->lock);
			x->kick = true;
			pthread_cond_signal(&x->kicked);
			pthread_mutex_unlock(&x->lock);
		}
		for (unsigned k = 1; __atomic_load_n(&used[1], __ATOMIC_ACQUIRE) == i; k++)
			if (k % 1024 == 0)
				sched_yield();
	}
	return NULL;
}

/* Nothing is stranded between "the ring is empty" and "tell me about the next". */
static void no_lost_kicks(void **s)
{
	struct rig *r = up(ALL, 16);
	struct race x = { .r = r,
			  .lock = PTHREAD_MUTEX_INITIALIZER,
			  .kicked = PTHREAD_COND_INITIALIZER };
	struct vring_desc desc = { vdrv_put(&r->d, NULL, 4), 4, WR, 0 };
	struct vq_chain *c;
	unsigned done = 0;
	pthread_t t;

	vdrv_desc(&r->d, r->d.ring[0].desc, 0, &desc);
	assert_int_equal(pthread_create(&t, NULL, race_driver, &x), 0);
	while (done < UINT16_MAX) {
		struct timespec limit;
		int err = 0;

		while (vq_pop(queue(r), &c) > 0) {
			vq_push(queue(r), c, 4);
			done++;
			slow_stores();
			/* So that the next look at the ring meets the driver at all points. */
			for (volatile unsigned k = 0; k < (done * 7919u >> 4) % 300; k++)
				;
		}
		vq_notify(queue(r));
		vdev_ack(r->e.v, 3);
		if (done == UINT16_MAX)
			break;
		clock_gettime(CLOCK_REALTIME, &limit);
		limit.tv_sec += 20;
		pthread_mutex_lock(&x.lock);
		while (!x.kick && !err)
			err = pthread_cond_timedwait(&x.kicked, &x.lock, &limit);
		x.kick = false;
		pthread_mutex_unlock(&x.lock);
		if (err)
			fail_msg("request %u is stranded", done);
	}
	pthread_join(t, NULL);
	assert_false(vdrv_needs_reset(&r->d));
	down(r);
}

/* The driver: looks for used buffers, and sleeps until the interrupt when there are none. */
struct sleeper {
	struct rig *r;
	pthread_mutex_t lock;
	pthread_cond_t woken;
	unsigned irqs;	/* under the lock */
	unsigned slept; /* the driver's own */
	bool stranded, done;
};

static void on_irq(void *o)
{
	struct sleeper *x = o;

	pthread_mutex_lock(&x->lock);
	x->irqs++;
	pthread_cond_signal(&x->woken);
	pthread_mutex_unlock(&x->lock);
}

/* Until used.idx has left @i. Not knowing whether an interrupt is under way is the point. */
static bool sleep_until_used(struct sleeper *x, const u16 *used_idx, u16 i, unsigned seen)
{
	struct timespec limit;
	int err = 0;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 20;
	pthread_mutex_lock(&x->lock);
	while (x->irqs == seen && !err)
		err = pthread_cond_timedwait(&x->woken, &x->lock, &limit);
	pthread_mutex_unlock(&x->lock);
	x->slept++;
	return __atomic_load_n(used_idx, __ATOMIC_ACQUIRE) != i;
}

static void *sleeping_driver(void *o)
{
	struct sleeper *x = o;
	struct vdrv *d = &x->r->d;
	u16 *avail = mem_ptr(d->mem, d->ring[0].avail, 2);
	u16 *used = mem_ptr(d->mem, d->ring[0].used, 2);
	u16 *used_event = mem_ptr(d->mem, vdrv_used_event(d, 0), 2);

	for (u16 i = 0, n = 0; n < UINT16_MAX && !x->stranded; i++, n++) {
		unsigned seen;

		avail[2 + (i & 15)] = 0;
		__atomic_store_n(&avail[1], (u16)(i + 1), __ATOMIC_RELEASE);
		/* So that the question meets the device at all points. */
		for (volatile unsigned k = 0; k < (n * 7919u >> 4) % 200; k++)
			;
		pthread_mutex_lock(&x->lock);
		seen = x->irqs;
		pthread_mutex_unlock(&x->lock);
		__atomic_store_n(used_event, i, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		while (__atomic_load_n(&used[1], __ATOMIC_ACQUIRE) == i && !x->stranded)
			x->stranded = !sleep_until_used(x, &used[1], i, seen);
	}
	__atomic_store_n(&x->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* No driver sleeps on a buffer that is used: it sees the index, or we see its wish (2.7.7.2). */
static void no_lost_interrupts(void **s)
{
	struct rig *r = up(ALL, 16);
	struct sleeper x = { .r = r,
			     .lock = PTHREAD_MUTEX_INITIALIZER,
			     .woken = PTHREAD_COND_INITIALIZER };
	struct vring_desc desc = { vdrv_put(&r->d, NULL, 4), 4, WR, 0 };
	struct vq_chain *c;
	pthread_t t;

	vdrv_desc(&r->d, r->d.ring[0].desc, 0, &desc);
	r->d.on_irq = on_irq;
	r->d.irq_opaque = &x;
	assert_int_equal(pthread_create(&t, NULL, sleeping_driver, &x), 0);
	for (unsigned k = 1; !__atomic_load_n(&x.done, __ATOMIC_ACQUIRE); k++) {
		if (vq_pop(queue(r), &c) > 0) {
			slow_stores();
			vq_push(queue(r), c, 4);
			vq_notify(queue(r));
			vdev_ack(r->e.v, 3);
		} else if (k % 1024 == 0) {
			sched_yield();
		}
	}
	pthread_join(t, NULL);
	if (x.stranded)
		fail_msg("a used buffer was not told of");
	assert_false(vdrv_needs_reset(&r->d));
	down(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(echoes),
		cmocka_unit_test(crosses_regions),
		cmocka_unit_test(chain_limits),
		cmocka_unit_test(indices_wrap),
		cmocka_unit_test(breaches_break),
		cmocka_unit_test(indirect_needs_negotiation),
		cmocka_unit_test(indirect_across_regions),
		cmocka_unit_test(flood),
		cmocka_unit_test(suppressed_by_flag),
		cmocka_unit_test(suppressed_by_event),
		cmocka_unit_test(asks_again),
		cmocka_unit_test(publishes_at_once),
		cmocka_unit_test(stale_chains),
		cmocka_unit_test(bad_set_up),
		cmocka_unit_test(looks_again),
		cmocka_unit_test(no_lost_kicks),
		cmocka_unit_test(no_lost_interrupts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
