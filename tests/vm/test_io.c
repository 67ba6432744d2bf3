// SPDX-License-Identifier: Apache-2.0
/*
 * test_io.c - the I/O thread and the gate: a ready descriptor reaches the engine's thread once
 */
#include "vm/io.h"

#include "base/gate.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

struct rig {
	struct gate *g;
	struct io *io;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned kicks;
	struct gate_watch w;
	int fd[2];
	unsigned calls;
};

static void on_kick(void *o)
{
	struct rig *r = o;

	pthread_mutex_lock(&r->lock);
	r->kicks++;
	pthread_cond_broadcast(&r->cond);
	pthread_mutex_unlock(&r->lock);
}

static void on_ready(void *o, u32 events)
{
	struct rig *r = o;
	char c;

	assert_int_equal(read(r->fd[0], &c, 1), 1);
	r->calls++;
}

/* Waits for kick number @n; fails after @ms. */
static bool kicked(struct rig *r, unsigned n, long ms)
{
	struct timespec limit;
	int err = 0;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_nsec += ms * 1000000;
	limit.tv_sec += limit.tv_nsec / 1000000000;
	limit.tv_nsec %= 1000000000;
	pthread_mutex_lock(&r->lock);
	while (r->kicks < n && !err)
		err = pthread_cond_timedwait(&r->cond, &r->lock, &limit);
	pthread_mutex_unlock(&r->lock);
	return !err;
}

static void watches(void **s)
{
	static struct rig r;
	struct gate_cfg gc = { .kick = on_kick, .opaque = &r };
	struct io_cfg ic = { .in_fd = -1, .kick = on_kick, .opaque = &r };
	struct err e = { 0 };

	pthread_mutex_init(&r.lock, NULL);
	pthread_cond_init(&r.cond, NULL);
	assert_int_equal(pipe2(r.fd, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(gate_new(&gc, &r.g), 0);
	ic.watch_fd = gate_fd(r.g);
	assert_int_equal(io_start(&ic, &e, &r.io), 0);
	/* Watched only now, while the thread waits already. */
	r.w.fn = on_ready;
	r.w.opaque = &r;
	assert_int_equal(gate_watch(r.g, &r.w, r.fd[0], EPOLLIN), 0);
	for (unsigned i = 1; i <= 100; i++) {
		assert_int_equal(write(r.fd[1], "x", 1), 1);
		assert_true(kicked(&r, i, 20000));
		/* Until the engine has been there, it is not told again: no spinning thread. */
		if (i == 1)
			assert_false(kicked(&r, i + 1, 50));
		gate_dispatch(r.g);
		assert_int_equal(r.calls, i);
		io_watch_again(r.io);
	}
	/* Still ready behind a dispatch: told again. */
	assert_int_equal(write(r.fd[1], "xy", 2), 2);
	assert_true(kicked(&r, 101, 20000));
	gate_dispatch(r.g);
	io_watch_again(r.io);
	assert_true(kicked(&r, 102, 20000));
	gate_dispatch(r.g);
	assert_int_equal(r.calls, 102);
	gate_unwatch(r.g, &r.w);
	io_watch_again(r.io);
	io_stop(r.io);
	gate_free(r.g);
	close(r.fd[0]);
	close(r.fd[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(watches) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
