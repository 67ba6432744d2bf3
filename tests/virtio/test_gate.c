// SPDX-License-Identifier: Apache-2.0
/*
 * test_gate.c - posts, watches and holds: from the host into a VM's thread
 */
#include "base/gate.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <cmocka.h>

struct rig {
	struct gate *g;
	unsigned kicks;
	bool held;
	unsigned held_calls;
};

static void on_kick(void *o)
{
	__atomic_fetch_add(&((struct rig *)o)->kicks, 1, __ATOMIC_RELAXED);
}

static void on_held(void *o, bool held)
{
	struct rig *r = o;

	r->held = held;
	r->held_calls++;
}

static void up(struct rig *r)
{
	struct gate_cfg gc = { .kick = on_kick, .held = on_held, .opaque = r };

	memset(r, 0, sizeof(*r));
	assert_int_equal(gate_new(&gc, &r->g), 0);
}

struct item {
	struct gate_post p;
	struct rig *r;
	struct item *other; /* to post or take back from within */
	bool take_back, again;
	unsigned calls, at;
};

static unsigned clock_;

static void on_post(struct gate_post *p)
{
	struct item *i = container_of(p, struct item, p);

	i->calls++;
	i->at = ++clock_;
	if (i->other && i->take_back)
		assert_true(gate_unpost(i->r->g, &i->other->p));
	else if (i->other)
		gate_post(i->r->g, &i->other->p);
	if (i->again)
		gate_post(i->r->g, &i->p);
}

static void posts(void **s)
{
	struct rig r;
	struct item a = { .p = { on_post }, .r = &r }, b = a, c = a;

	up(&r);
	gate_post(r.g, &a.p);
	gate_post(r.g, &b.p);
	gate_post(r.g, &a.p);
	assert_int_equal(r.kicks, 3);
	assert_int_equal(a.calls, 0);
	gate_dispatch(r.g);
	assert_int_equal(a.calls, 1);
	assert_true(a.at < b.at);
	gate_dispatch(r.g);
	assert_int_equal(a.calls, 1);

	/* From within: the next dispatch's, so that nobody keeps the VM's thread here. */
	a.again = true;
	a.other = &c;
	gate_post(r.g, &a.p);
	gate_dispatch(r.g);
	assert_int_equal(a.calls, 2);
	assert_int_equal(c.calls, 0);
	gate_dispatch(r.g);
	assert_int_equal(a.calls, 3);
	assert_int_equal(c.calls, 1);
	assert_true(gate_unpost(r.g, &a.p));
	assert_false(gate_unpost(r.g, &a.p));

	/* Taken back while its batch is being called. */
	a.again = false;
	a.other = &b;
	a.take_back = true;
	b.calls = 0;
	gate_unpost(r.g, &c.p);
	gate_post(r.g, &a.p);
	gate_post(r.g, &b.p);
	gate_post(r.g, &c.p);
	gate_dispatch(r.g);
	assert_int_equal(b.calls, 0);
	assert_int_equal(c.calls, 2);
	/* The end of the list is right after the last was taken out. */
	gate_post(r.g, &a.p);
	gate_post(r.g, &b.p);
	assert_true(gate_unpost(r.g, &b.p));
	gate_post(r.g, &c.p);
	a.other = NULL;
	gate_dispatch(r.g);
	assert_int_equal(c.calls, 3);
	gate_free(r.g);
}

struct end {
	struct gate_watch w;
	struct rig *r;
	struct end *victim;
	int fd[2];
	unsigned calls;
	u32 events;
};

static void on_ready(void *o, u32 events)
{
	struct end *e = o;

	e->calls++;
	e->events = events;
	if (e->victim)
		gate_unwatch(e->r->g, &e->victim->w);
}

static void end_up(struct end *e, struct rig *r)
{
	memset(e, 0, sizeof(*e));
	e->r = r;
	e->w.fn = on_ready;
	e->w.opaque = e;
	assert_int_equal(pipe2(e->fd, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(gate_watch(r->g, &e->w, e->fd[0], EPOLLIN), 0);
}

static bool waiting(struct rig *r)
{
	struct pollfd p = { .fd = gate_fd(r->g), .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void watches(void **s)
{
	struct rig r;
	struct end a, b;

	up(&r);
	end_up(&a, &r);
	end_up(&b, &r);
	assert_false(waiting(&r));
	assert_int_equal(write(a.fd[1], "x", 1), 1);
	assert_true(waiting(&r));
	gate_dispatch(r.g);
	gate_dispatch(r.g);
	assert_int_equal(a.calls, 2); /* level-triggered */
	assert_int_equal(b.calls, 0);
	gate_watch_events(r.g, &a.w, 0);
	assert_false(waiting(&r));
	/* Not even a hang-up, which epoll reports unasked. */
	close(a.fd[1]);
	assert_false(waiting(&r));
	gate_dispatch(r.g);
	assert_int_equal(a.calls, 2);
	gate_watch_events(r.g, &a.w, EPOLLIN);
	gate_dispatch(r.g);
	assert_int_equal(a.calls, 3);
	assert_true(a.events & EPOLLHUP);

	/* Whichever is called first removes the other, whose event is fetched already. */
	assert_int_equal(write(b.fd[1], "x", 1), 1);
	a.victim = &b;
	b.victim = &a;
	a.calls = b.calls = 0;
	gate_dispatch(r.g);
	assert_int_equal(a.calls + b.calls, 1);
	gate_unwatch(r.g, &a.w);
	gate_unwatch(r.g, &b.w);
	gate_unwatch(r.g, &b.w);
	assert_false(waiting(&r));
	/* A file is always ready: it cannot be watched, and the error says so. */
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_int_equal(gate_watch(r.g, &a.w, fd, EPOLLIN), -EPERM);
	assert_false(a.w.active);
	close(fd);
	close(a.fd[0]);
	close(b.fd[0]);
	close(b.fd[1]);
	gate_free(r.g);
}

static void holds(void **s)
{
	struct rig r;

	up(&r);
	gate_hold(r.g);
	gate_hold(r.g);
	assert_true(r.held && gate_held(r.g));
	gate_release(r.g);
	assert_true(r.held);
	gate_release(r.g);
	assert_false(r.held || gate_held(r.g));
	assert_int_equal(r.held_calls, 2);
	gate_free(r.g);
}

#define THREADS 4
#define POSTS 20000u

struct poster {
	pthread_t t;
	struct gate_post p;
	struct rig *r;
	unsigned calls;
};

static void on_flood(struct gate_post *p)
{
	container_of(p, struct poster, p)->calls++;
}

static void *flood(void *o)
{
	struct poster *p = o;

	for (unsigned i = 0; i < POSTS; i++)
		gate_post(p->r->g, &p->p);
	return NULL;
}

/* Every post is followed by a call; those in between may be one. */
static void from_threads(void **s)
{
	struct poster p[THREADS];
	struct rig r;

	up(&r);
	memset(p, 0, sizeof(p));
	for (unsigned i = 0; i < THREADS; i++) {
		p[i].r = &r;
		p[i].p.fn = on_flood;
		assert_int_equal(pthread_create(&p[i].t, NULL, flood, &p[i]), 0);
	}
	while (__atomic_load_n(&r.kicks, __ATOMIC_RELAXED) < THREADS * POSTS)
		gate_dispatch(r.g);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(p[i].t, NULL);
	gate_dispatch(r.g);
	for (unsigned i = 0; i < THREADS; i++) {
		assert_true(p[i].calls >= 1 && p[i].calls <= POSTS);
		assert_false(p[i].p.queued);
	}
	gate_free(r.g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(posts),
		cmocka_unit_test(watches),
		cmocka_unit_test(holds),
		cmocka_unit_test(from_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
