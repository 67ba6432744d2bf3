// SPDX-License-Identifier: Apache-2.0
/*
 * test_virtio_fs.c - the file system device, driven by its registers and queues
 *
 * What requests mean is test_fuse.c's matter; here it is when they are answered, that both queues
 * are served, what waits for a lock, and what a driver's mistakes and resets do.
 */
#include "dev/virtio_fs.h"

#include "base/gate.h"

#include "../virtio/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define HIPRIO 0
#define REQUESTS 1
#define ROOM 4096u
#define LONG_NS 100000000u

static char top[64];

struct rig {
	struct vdrv d;
	struct fuse *server;
	u64 unique;
	gpa_t reply; /* of the last request */
	u64 node, fh;
};

static u64 now(void *opaque)
{
	return 1000000000;
}

static void up_with(struct rig *g, bool exact, struct gate *gate)
{
	struct fuse_cfg fc = { .exact = exact, .now = now, .fds = 256 };
	struct vdev *v;

	memset(g, 0, sizeof(*g));
	snprintf(top, sizeof(top), "/tmp/orrery-vfs.XXXXXX");
	assert_non_null(mkdtemp(top));
	fc.root = open(top, O_PATH | O_DIRECTORY);
	assert_int_equal(fuse_new(&fc, &g->server), 0);
	vdrv_up(&g->d);
	g->d.env.exact = exact;
	g->d.env.gate = gate;
	assert_int_equal(virtio_fs_new(&g->d.env, "tag", g->server, &v), 0);
	vdrv_attach(&g->d, v);
	vdrv_start(&g->d, UINT64_MAX, 2, 16);
}

static void up(struct rig *g, bool exact)
{
	up_with(g, exact, NULL);
}

static void down(struct rig *g)
{
	char path[80];

	vdrv_down(&g->d);
	fuse_free(g->server);
	snprintf(path, sizeof(path), "%s/f", top);
	unlink(path);
	rmdir(top);
}

/* Makes a request available and notifies. */
static void send(struct rig *g, unsigned q, u32 op, u64 node, const void *arg, u32 n)
{
	struct fuse_in_header h = {
		.len = (u32)sizeof(h) + n, .opcode = op, .unique = ++g->unique, .nodeid = node
	};
	struct vdrv_seg seg[3] = { { vdrv_put(&g->d, &h, sizeof(h)), sizeof(h), false } };
	unsigned k = 1;

	if (n)
		seg[k++] = (struct vdrv_seg){ vdrv_put(&g->d, arg, n), n, false };
	g->reply = vdrv_put(&g->d, NULL, ROOM);
	if (op != FUSE_FORGET && op != FUSE_INTERRUPT)
		seg[k++] = (struct vdrv_seg){ g->reply, ROOM, true };
	vdrv_add(&g->d, q, seg, k);
	vdrv_notify(&g->d, q);
}

static s32 error_at(struct rig *g, gpa_t reply)
{
	struct fuse_out_header o;

	assert_int_equal(mem_read(g->d.mem, reply, &o, sizeof(o)), 0);
	return o.error;
}

static s32 call(struct rig *g, u32 op, u64 node, const void *arg, u32 n, void *ret, u32 m)
{
	u32 len;

	send(g, REQUESTS, op, node, arg, n);
	testclock_by(&g->d.clk, LONG_NS);
	assert_true(vdrv_used(&g->d, REQUESTS, NULL, &len));
	if (ret && error_at(g, g->reply) == 0) {
		assert_true(len >= sizeof(struct fuse_out_header) + m);
		assert_int_equal(
			mem_read(g->d.mem, g->reply + sizeof(struct fuse_out_header), ret, m), 0);
	}
	return error_at(g, g->reply);
}

/* A session with one open file. */
static void begin(struct rig *g)
{
	struct fuse_init_in init = { .major = 7, .minor = 38, .flags = UINT32_MAX };
	struct {
		struct fuse_create_in in;
		char name[2];
	} attr_packed cr = { { .flags = O_RDWR, .mode = 0644 }, "f" };
	struct {
		struct fuse_entry_out e;
		struct fuse_open_out o;
	} made;

	assert_int_equal(call(g, FUSE_INIT, 0, &init, sizeof(init), NULL, 0), 0);
	assert_int_equal(call(g, FUSE_CREATE, 1, &cr, sizeof(cr), &made, sizeof(made)), 0);
	g->node = made.e.nodeid;
	g->fh = made.o.fh;
}

static void configuration(void **state)
{
	struct rig g;
	char tag[4] = { 0 };

	up(&g, true);
	assert_int_equal(vdrv_rd(&g.d, VIRTIO_MMIO_DEVICE_ID), 26);
	for (unsigned i = 0; i < 3; i++)
		tag[i] = (char)(vdrv_rd(&g.d, VIRTIO_MMIO_CONFIG) >> (8 * i));
	assert_string_equal(tag, "tag");
	assert_int_equal(vdrv_rd(&g.d, VIRTIO_MMIO_CONFIG + 36), 1);
	down(&g);
}

static void answers(void **state)
{
	for (unsigned exact = 0; exact < 2; exact++) {
		struct fuse_forget_in forget = { .nlookup = 1 };
		struct fuse_stats st;
		struct rig g;

		up(&g, exact);
		begin(&g);
		/* Not before its time under the virtual clock. */
		send(&g, REQUESTS, FUSE_GETATTR, 1, "0123456789abcdef", 16);
		assert_int_equal(vdrv_used(&g.d, REQUESTS, NULL, NULL), !exact);
		testclock_by(&g.d.clk, LONG_NS);
		assert_int_equal(error_at(&g, g.reply), 0);
		if (exact)
			assert_true(vdrv_used(&g.d, REQUESTS, NULL, NULL));
		send(&g, HIPRIO, FUSE_FORGET, g.node, &forget, sizeof(forget));
		testclock_by(&g.d.clk, LONG_NS);
		assert_true(vdrv_used(&g.d, HIPRIO, NULL, NULL));
		/* Still open. */
		fuse_get_stats(g.server, &st);
		assert_int_equal(st.nodes, 2);
		vdrv_start(&g.d, UINT64_MAX, 2, 16);
		fuse_get_stats(g.server, &st);
		assert_int_equal(st.nodes, 1);
		assert_int_equal(st.handles, 0);
		down(&g);
	}
}

static struct fuse_lk_in lock(const struct rig *g, u64 owner, u32 type)
{
	return (struct fuse_lk_in){ .fh = g->fh,
				    .owner = owner,
				    .lk = { .end = INT64_MAX, .type = type } };
}

static void waiting(void **state)
{
	struct fuse_interrupt_in intr;
	struct fuse_lk_in a, b;
	struct rig g;
	gpa_t first, second;

	up(&g, true);
	begin(&g);
	a = lock(&g, 1, F_WRLCK);
	assert_int_equal(call(&g, FUSE_SETLKW, g.node, &a, sizeof(a), NULL, 0), 0);
	b = lock(&g, 2, F_WRLCK);
	send(&g, REQUESTS, FUSE_SETLKW, g.node, &b, sizeof(b));
	first = g.reply;
	b = lock(&g, 3, F_WRLCK);
	send(&g, REQUESTS, FUSE_SETLKW, g.node, &b, sizeof(b));
	second = g.reply;
	intr.unique = g.unique;
	testclock_by(&g.d.clk, LONG_NS);
	assert_false(vdrv_used(&g.d, REQUESTS, NULL, NULL));
	/* Others pass. */
	assert_int_equal(call(&g, FUSE_GETATTR, 1, "0123456789abcdef", 16, NULL, 0), 0);
	/* One is interrupted, the other gets the lock when it is free. */
	send(&g, HIPRIO, FUSE_INTERRUPT, 0, &intr, sizeof(intr));
	testclock_by(&g.d.clk, LONG_NS);
	assert_true(vdrv_used(&g.d, REQUESTS, NULL, NULL));
	assert_int_equal(error_at(&g, second), -EINTR);
	a.lk.type = F_UNLCK;
	assert_int_equal(call(&g, FUSE_SETLK, g.node, &a, sizeof(a), NULL, 0), 0);
	testclock_by(&g.d.clk, LONG_NS);
	assert_true(vdrv_used(&g.d, REQUESTS, NULL, NULL));
	assert_int_equal(error_at(&g, first), 0);
	/* A reset while one waits. */
	b = lock(&g, 9, F_WRLCK);
	send(&g, REQUESTS, FUSE_SETLKW, g.node, &b, sizeof(b));
	testclock_by(&g.d.clk, LONG_NS);
	vdrv_start(&g.d, UINT64_MAX, 2, 16);
	testclock_by(&g.d.clk, LONG_NS);
	begin(&g);
	down(&g);
}

static void on_kick(void *opaque)
{
}

/* Workers write while the session ends, or begins anew: what they hold stays until they are done. */
static void ends_under_way(void **state)
{
	for (unsigned i = 0; i < 40; i++) {
		struct gate_cfg gc = { .kick = on_kick };
		struct fuse_init_in init = { .major = 7, .minor = 38, .flags = UINT32_MAX };
		struct fuse_write_in wr = { .size = 100000 };
		static u8 body[sizeof(wr) + 100000];
		struct fuse_stats st;
		struct gate *gate;
		struct rig g;

		/* The device learns of its gate when it is made. */
		assert_int_equal(gate_new(&gc, &gate), 0);
		up_with(&g, false, gate);
		begin(&g);
		wr.fh = g.fh;
		memcpy(body, &wr, sizeof(wr));
		memset(body + sizeof(wr), 0x77, wr.size);
		for (unsigned k = 0; k < 3; k++)
			send(&g, REQUESTS, FUSE_WRITE, g.node, body, sizeof(body));
		if (i & 1)
			send(&g, REQUESTS, FUSE_DESTROY, 0, NULL, 0);
		else
			send(&g, REQUESTS, FUSE_INIT, 0, &init, sizeof(init));
		for (unsigned n = 0, tries = 0; n < 4; n += vdrv_used(&g.d, REQUESTS, NULL, NULL)) {
			poll(NULL, 0, 1); /* posts have no descriptor */
			gate_dispatch(gate);
			assert_true(tries++ < 20000);
		}
		fuse_get_stats(g.server, &st);
		assert_int_equal(st.nodes, 1);
		assert_int_equal(st.handles, 0);
		send(&g, REQUESTS, FUSE_GETATTR, 1, "0123456789abcdef", 16);
		assert_true(vdrv_used(&g.d, REQUESTS, NULL, NULL));
		assert_int_equal(error_at(&g, g.reply), i & 1 ? -EINVAL : 0);
		down(&g);
		assert_false(gate_held(gate));
		gate_free(gate);
	}
}

static void broken(void **state)
{
	struct rig g;
	struct fuse_in_header h = { .len = sizeof(h), .opcode = FUSE_GETATTR, .nodeid = 1 };
	struct vdrv_seg seg;

	up(&g, true);
	begin(&g);
	/* No header; then a header, but nowhere to answer. */
	for (u32 len = 8; len <= sizeof(h); len += sizeof(h) - 8) {
		seg = (struct vdrv_seg){ vdrv_put(&g.d, &h, sizeof(h)), len, false };
		vdrv_add(&g.d, REQUESTS, &seg, 1);
		vdrv_notify(&g.d, REQUESTS);
		testclock_by(&g.d.clk, LONG_NS);
		assert_true(vdrv_needs_reset(&g.d));
		vdrv_start(&g.d, UINT64_MAX, 2, 16);
		assert_false(vdrv_needs_reset(&g.d));
		begin(&g);
	}
	/* Reset with requests under way. */
	send(&g, REQUESTS, FUSE_GETATTR, 1, "0123456789abcdef", 16);
	send(&g, HIPRIO, FUSE_FORGET, g.node, "01234567", 8);
	vdrv_start(&g.d, UINT64_MAX, 2, 16);
	testclock_by(&g.d.clk, LONG_NS);
	assert_int_equal(vdrv_used_idx(&g.d, REQUESTS), 0);
	begin(&g);
	down(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(configuration), cmocka_unit_test(answers),
		cmocka_unit_test(waiting),	 cmocka_unit_test(ends_under_way),
		cmocka_unit_test(broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
