// SPDX-License-Identifier: Apache-2.0
/*
 * test_job.c - jobs: at exact guest times under the virtual clock, by workers under the real one
 */
#include "virtio/job.h"

#include "../dev/testclock.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

struct rig {
	struct testclock clk;
	struct gate *g;
	struct vdev_env env;
	struct vjobs *jobs;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned kicks;
	bool held, open; /* open: jobs that wait at the barrier may go on */
};

struct item {
	struct vjob j;
	struct rig *r;
	u64 worked_at, done_at;
	unsigned worked, done, aborted;
	pthread_t by;
	bool barrier, again;
};

static void on_kick(void *o)
{
	struct rig *r = o;

	pthread_mutex_lock(&r->lock);
	r->kicks++;
	pthread_cond_broadcast(&r->cond);
	pthread_mutex_unlock(&r->lock);
}

static void on_held(void *o, bool held)
{
	((struct rig *)o)->held = held;
}

static void up(struct rig *r, bool exact, unsigned workers)
{
	struct gate_cfg gc = { .kick = on_kick, .held = on_held, .opaque = r };

	memset(r, 0, sizeof(*r));
	testclock_init(&r->clk);
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->cond, NULL);
	assert_int_equal(gate_new(&gc, &r->g), 0);
	r->env = (struct vdev_env){ .clk = &r->clk.g, .gate = r->g, .exact = exact };
	assert_int_equal(vjobs_new(&r->env, workers, &r->jobs), 0);
}

static void down(struct rig *r)
{
	vjobs_free(r->jobs);
	assert_false(gate_held(r->g));
	gate_free(r->g);
	gclock_fini(&r->clk.g);
	pthread_cond_destroy(&r->cond);
	pthread_mutex_destroy(&r->lock);
}

static void on_work(struct vjob *j)
{
	struct item *i = container_of(j, struct item, j);
	struct rig *r = i->r;

	pthread_mutex_lock(&r->lock);
	while (i->barrier && !r->open)
		pthread_cond_wait(&r->cond, &r->lock);
	pthread_mutex_unlock(&r->lock);
	i->worked++;
	i->worked_at = r->clk.now;
	i->by = pthread_self();
}

static void on_done(struct vjob *j)
{
	struct item *i = container_of(j, struct item, j);

	i->done++;
	i->done_at = i->r->clk.now;
	i->aborted += j->aborted;
	if (i->again) {
		i->again = false;
		vjob_submit(i->r->jobs, j, 100);
	}
}

static struct item item(struct rig *r)
{
	return (struct item){ .j = { .work = on_work, .done = on_done }, .r = r };
}

static void unlock_barrier(struct rig *r)
{
	pthread_mutex_lock(&r->lock);
	r->open = true;
	pthread_cond_broadcast(&r->cond);
	pthread_mutex_unlock(&r->lock);
}

/* Dispatches until @count jobs are left; a lost wake-up fails the test instead of hanging it. */
static void dispatch_until(struct rig *r, unsigned count)
{
	struct timespec limit;
	unsigned seen = 0;
	int err = 0;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 20;
	while (!err) {
		gate_dispatch(r->g);
		if (vjobs_under_way(r->jobs) <= count)
			return;
		pthread_mutex_lock(&r->lock);
		while (r->kicks == seen && !err)
			err = pthread_cond_timedwait(&r->cond, &r->lock, &limit);
		seen = r->kicks;
		pthread_mutex_unlock(&r->lock);
	}
	fail_msg("jobs did not come back");
}

static void exact_times(void **s)
{
	struct rig r;

	up(&r, true, 4);
	struct item a = item(&r), b = item(&r), c = item(&r);
	c.j.work = NULL;
	b.again = true;
	vjob_submit(r.jobs, &a.j, 500);
	vjob_submit(r.jobs, &b.j, 200);
	vjob_submit(r.jobs, &c.j, 0);
	assert_int_equal(c.done, 0);
	testclock_to(&r.clk, 199);
	assert_int_equal(c.done, 1);
	assert_int_equal(b.worked, 0);
	assert_int_equal(vjobs_under_way(r.jobs), 2);
	testclock_to(&r.clk, 1000);
	assert_int_equal(a.worked_at, 500);
	assert_int_equal(a.done_at, 500);
	assert_int_equal(b.done, 2);
	assert_int_equal(b.done_at, 300);
	/* On this thread, and the host had no part in it. */
	assert_true(pthread_equal(a.by, pthread_self()));
	assert_int_equal(r.kicks, 0);
	assert_false(r.held);
	down(&r);
}

static void exact_abort(void **s)
{
	struct rig r;

	up(&r, true, 0);
	struct item a = item(&r), b = item(&r);
	a.again = true;
	vjob_submit(r.jobs, &a.j, 10);
	vjob_submit(r.jobs, &b.j, 20);
	vjobs_abort(r.jobs, NULL, NULL);
	/* What done began anew is not aborted with the rest. */
	assert_int_equal(a.done + b.done, 2);
	assert_int_equal(a.aborted + b.aborted, 2);
	assert_int_equal(a.worked + b.worked, 0);
	assert_int_equal(vjobs_under_way(r.jobs), 1);
	testclock_to(&r.clk, 1000);
	assert_int_equal(a.worked, 1);
	assert_int_equal(a.aborted, 1);
	vjob_submit(r.jobs, &b.j, 20);
	down(&r); /* frees with a job under way */
	assert_int_equal(b.aborted, 2);
}

static void inline_without_workers(void **s)
{
	struct rig r;

	up(&r, false, 0);
	struct item a = item(&r);
	vjob_submit(r.jobs, &a.j, 1000000);
	assert_int_equal(a.done, 1);
	assert_int_equal(a.worked, 1);
	down(&r);
}

static void by_workers(void **s)
{
	enum { N = 500 };
	static struct item it[N];
	struct rig r;

	for (unsigned round = 0; round < 20; round++) {
		up(&r, false, 3);
		for (unsigned i = 0; i < N; i++) {
			it[i] = item(&r);
			vjob_submit(r.jobs, &it[i].j, 0);
			assert_true(r.held);
			assert_int_equal(it[i].done, 0);
		}
		dispatch_until(&r, 0);
		assert_false(r.held);
		for (unsigned i = 0; i < N; i++) {
			assert_int_equal(it[i].done, 1);
			assert_int_equal(it[i].worked, 1);
			assert_int_equal(it[i].aborted, 0);
			assert_false(pthread_equal(it[i].by, pthread_self()));
		}
		down(&r);
	}
}

static bool is(const struct vjob *j, void *arg)
{
	return j == arg;
}

/* One running, two waiting for the only worker: each kind is aborted in its way. */
static void abort_by_workers(void **s)
{
	struct rig r;

	up(&r, false, 1);
	struct item a = item(&r), b = item(&r), c = item(&r);
	a.barrier = true;
	vjob_submit(r.jobs, &a.j, 0);
	vjob_submit(r.jobs, &b.j, 0);
	vjob_submit(r.jobs, &c.j, 0);
	vjobs_abort(r.jobs, is, &b.j); /* waits: taken back at once */
	assert_int_equal(b.aborted, 1);
	assert_int_equal(b.worked, 0);
	assert_int_equal(a.done + c.done, 0);
	unlock_barrier(&r);
	vjobs_abort(r.jobs, is, &a.j); /* runs, or is finished: waited for */
	assert_int_equal(a.aborted, 1);
	assert_true(a.worked <= 1);
	dispatch_until(&r, 0);
	assert_int_equal(c.done, 1);
	assert_int_equal(c.aborted, 0);
	down(&r);
}

static void abort_races(void **s)
{
	enum { N = 64 };
	static struct item it[N];
	struct rig r;

	for (unsigned round = 0; round < 200; round++) {
		up(&r, false, 2);
		for (unsigned i = 0; i < N; i++) {
			it[i] = item(&r);
			vjob_submit(r.jobs, &it[i].j, 0);
		}
		if (round & 1)
			vjobs_settle(r.jobs);
		if (round & 2)
			gate_dispatch(r.g);
		vjobs_abort(r.jobs, NULL, NULL);
		assert_int_equal(vjobs_under_way(r.jobs), 0);
		for (unsigned i = 0; i < N; i++) {
			assert_int_equal(it[i].done, 1);
			if (round & 1)
				assert_int_equal(it[i].worked, 1);
		}
		gate_dispatch(r.g);
		down(&r);
	}
}

static void latency(void **s)
{
	static const struct vpace p = { .base_ns = 1000, .ps_per_byte = 500 };
	u64 busy = 0;

	assert_int_equal(vpace_latency(&p, &busy, 100, 4096), 1000 + 2048);
	assert_int_equal(busy, 100 + 2048);
	/* A second one at the same time queues behind the first one's bytes, not its base. */
	assert_int_equal(vpace_latency(&p, &busy, 100, 4096), 1000 + 2 * 2048);
	assert_int_equal(vpace_latency(&p, &busy, 1000000, 0), 1000);
	assert_true(vpace_latency(&p, &busy, 1000000, UINT64_MAX) > 1000000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exact_times),
		cmocka_unit_test(exact_abort),
		cmocka_unit_test(inline_without_workers),
		cmocka_unit_test(by_workers),
		cmocka_unit_test(abort_by_workers),
		cmocka_unit_test(abort_races),
		cmocka_unit_test(latency),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
