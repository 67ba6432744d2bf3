// SPDX-License-Identifier: Apache-2.0
/*
 * job.c - when a device's work is done, and when the guest sees it
 *
 * How it works
 * Under the virtual clock a job is a timer of guest time, and nothing happens before it fires. To
 * start the work on another thread at once, and only wait for it at the due time, would be faster
 * for slow back ends, but then guest memory would change at a moment of the host's choosing: a
 * guest that looks at a buffer too early, or is digested while a request is under way, would see
 * it. And what a request writes must be what the buffer held at one exact instruction.
 *
 * Under the real clock workers take jobs from a queue and put them into a list of finished ones;
 * one post brings the VM's thread to that list, however many there are. A job that is under way
 * holds the gate: an idle guest waits for it.
 *
 * Work that the host does not let return can neither be aborted nor waited for. What has begun when
 * is known for each thread, so that whoever wants to end the VM can find out (vjobs_longest).
 *
 * States of a job: IDLE (the owner's), TIMED (virtual clock), QUEUED, RUNNING, FINISHED. The last
 * three change under the lock.
 */
#include "virtio/job.h"

#include "base/hosttime.h"
#include "base/thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum state { IDLE, TIMED, QUEUED, RUNNING, FINISHED };

struct job_list {
	struct vjob *first, **last;
};

struct vjobs {
	struct vdev_env env;
	unsigned n_workers, started, under_way;
	struct vjob all; /* ring of those under way, in order of submission */
	pthread_t worker[VJOB_WORKERS_MAX];
	struct gate_post post;
	/* Atomic, of host_ns: since when each worker, and the VM's thread, is at work; 0: it is not. */
	u64 since[VJOB_WORKERS_MAX + 1];
	struct vjobs *next_jobs, **prev_jobs; /* in the list of all; under its lock */

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t work, settled;
	struct job_list queued, finished;
	unsigned running, begun;
	bool quit;
};

/* Of the process: whoever looks does not know the devices. */
static pthread_mutex_t every_lock = PTHREAD_MUTEX_INITIALIZER;
static struct vjobs *every;

static void list_init(struct job_list *l)
{
	l->first = NULL;
	l->last = &l->first;
}

static void list_add(struct job_list *l, struct vjob *j)
{
	j->link = NULL;
	*l->last = j;
	l->last = &j->link;
}

static struct vjob *list_take(struct job_list *l)
{
	struct vjob *j = l->first;

	if (!j)
		return NULL;
	l->first = j->link;
	if (!l->first)
		l->last = &l->first;
	return j;
}

static void list_remove(struct job_list *l, struct vjob *j)
{
	for (struct vjob **at = &l->first; *at; at = &(*at)->link) {
		if (*at != j)
			continue;
		*at = j->link;
		if (!*at)
			l->last = at;
		return;
	}
}

/* --- begin and end ---------------------------------------------------------------------------- */

static void begin(struct vjobs *s, struct vjob *j)
{
	BUG_IF(j->state != IDLE);
	j->jobs = s;
	j->aborted = false;
	j->prev = s->all.prev;
	j->next = &s->all;
	j->prev->next = j;
	s->all.prev = j;
	s->under_way++;
	if (!s->env.exact && s->env.gate)
		gate_hold(s->env.gate);
}

/* The job becomes its owner's again. */
static void end(struct vjob *j)
{
	struct vjobs *s = j->jobs;

	j->prev->next = j->next;
	j->next->prev = j->prev;
	j->state = IDLE;
	s->under_way--;
	if (!s->env.exact && s->env.gate)
		gate_release(s->env.gate);
	j->done(j);
}

/* @thread: a worker's number, or VJOB_WORKERS_MAX. */
static void do_work(struct vjobs *s, struct vjob *j, unsigned thread)
{
	__atomic_store_n(&s->since[thread], host_ns(), __ATOMIC_RELAXED);
	j->work(j);
	__atomic_store_n(&s->since[thread], 0, __ATOMIC_RELAXED);
}

static void on_timer(void *opaque)
{
	struct vjob *j = opaque;

	if (j->work)
		do_work(j->jobs, j, VJOB_WORKERS_MAX);
	end(j);
}

/* --- workers ---------------------------------------------------------------------------------- */

static void *worker(void *opaque)
{
	struct vjobs *s = opaque;
	struct vjob *j;
	char name[VDEV_NAME + 5];
	unsigned me;

	snprintf(name, sizeof(name), "%s-work", s->env.name[0] ? s->env.name : "device");
	pthread_setname_np(pthread_self(), name);
	thread_begin(THREAD_WORKER);
	pthread_mutex_lock(&s->lock);
	me = s->begun++;
	while (!s->quit) {
		j = list_take(&s->queued);
		if (!j) {
			pthread_cond_wait(&s->work, &s->lock);
			continue;
		}
		j->state = RUNNING;
		s->running++;
		pthread_mutex_unlock(&s->lock);
		do_work(s, j, me);
		pthread_mutex_lock(&s->lock);
		j->state = FINISHED;
		s->running--;
		list_add(&s->finished, j);
		pthread_cond_broadcast(&s->settled);
		pthread_mutex_unlock(&s->lock);
		gate_post(s->env.gate, &s->post);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static void on_finished(struct gate_post *p)
{
	struct vjobs *s = container_of(p, struct vjobs, post);
	struct vjob *j;

	for (;;) {
		pthread_mutex_lock(&s->lock);
		j = list_take(&s->finished);
		pthread_mutex_unlock(&s->lock);
		if (!j)
			return;
		end(j);
	}
}

/* One more thread, unless there are enough; signals are the VM's and the I/O thread's matter. */
static void start_worker(struct vjobs *s)
{
	sigset_t all, old;

	if (s->started == s->n_workers || s->started >= s->under_way)
		return;
	sigfillset(&all);
	/* Of a chain in a window whose file was truncated: host/sigbus.h. */
	sigdelset(&all, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&s->worker[s->started], thread_attr(), worker, s) == 0)
		s->started++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void vjob_submit(struct vjobs *s, struct vjob *j, u64 latency)
{
	begin(s, j);
	if (s->env.exact) {
		j->state = TIMED;
		gtimer_init(&j->timer, s->env.clk, on_timer, j);
		gtimer_arm(&j->timer, gclock_now(s->env.clk) + latency);
		return;
	}
	if (j->work && s->env.gate)
		start_worker(s);
	if (!j->work || !s->started) {
		if (j->work)
			do_work(s, j, VJOB_WORKERS_MAX);
		end(j);
		return;
	}
	pthread_mutex_lock(&s->lock);
	j->state = QUEUED;
	list_add(&s->queued, j);
	pthread_cond_signal(&s->work);
	pthread_mutex_unlock(&s->lock);
}

/* --- abort ------------------------------------------------------------------------------------ */

/* Takes @j back from wherever it is; a running one is waited for. */
static void take_back(struct vjobs *s, struct vjob *j)
{
	if (s->env.exact) {
		gtimer_cancel(&j->timer);
		return;
	}
	pthread_mutex_lock(&s->lock);
	while (j->state == RUNNING)
		pthread_cond_wait(&s->settled, &s->lock);
	list_remove(j->state == QUEUED ? &s->queued : &s->finished, j);
	pthread_mutex_unlock(&s->lock);
}

void vjobs_abort(struct vjobs *s, bool (*match)(const struct vjob *j, void *arg), void *arg)
{
	struct vjob *last = s->all.prev, *j, *next;
	bool more = last != &s->all;

	/* What done submits anew goes behind @last and is left alone. */
	for (j = s->all.next; more; j = next) {
		next = j->next;
		more = j != last;
		if (match && !match(j, arg))
			continue;
		take_back(s, j);
		j->aborted = true;
		end(j);
	}
}

void vjobs_settle(struct vjobs *s)
{
	pthread_mutex_lock(&s->lock);
	while (s->queued.first || s->running)
		pthread_cond_wait(&s->settled, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

unsigned vjobs_under_way(const struct vjobs *s)
{
	return s->under_way;
}

u64 vjobs_longest(const struct gate *g, char ret_name[VDEV_NAME], bool *ret_worker)
{
	u64 now = host_ns(), longest = 0, since;

	pthread_mutex_lock(&every_lock);
	for (struct vjobs *s = every; s; s = s->next_jobs) {
		for (unsigned i = 0; s->env.gate == g && i <= VJOB_WORKERS_MAX; i++) {
			since = __atomic_load_n(&s->since[i], __ATOMIC_RELAXED);
			if (!since || since >= now || now - since <= longest)
				continue;
			longest = now - since;
			memcpy(ret_name, s->env.name, VDEV_NAME);
			*ret_worker = i < VJOB_WORKERS_MAX;
		}
	}
	pthread_mutex_unlock(&every_lock);
	return longest;
}

static void enlist(struct vjobs *s)
{
	pthread_mutex_lock(&every_lock);
	s->next_jobs = every;
	s->prev_jobs = &every;
	if (every)
		every->prev_jobs = &s->next_jobs;
	every = s;
	pthread_mutex_unlock(&every_lock);
}

static void delist(struct vjobs *s)
{
	pthread_mutex_lock(&every_lock);
	*s->prev_jobs = s->next_jobs;
	if (s->next_jobs)
		s->next_jobs->prev_jobs = s->prev_jobs;
	pthread_mutex_unlock(&every_lock);
}

int vjobs_new(const struct vdev_env *env, unsigned workers, struct vjobs **ret)
{
	struct vjobs *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->env = *env;
	s->n_workers = MIN(workers, VJOB_WORKERS_MAX);
	s->all.next = s->all.prev = &s->all;
	s->post.fn = on_finished;
	list_init(&s->queued);
	list_init(&s->finished);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->work, NULL);
	pthread_cond_init(&s->settled, NULL);
	enlist(s);
	*ret = s;
	return 0;
}

void vjobs_free(struct vjobs *s)
{
	if (!s)
		return;
	while (s->under_way)
		vjobs_abort(s, NULL, NULL);
	pthread_mutex_lock(&s->lock);
	s->quit = true;
	pthread_cond_broadcast(&s->work);
	pthread_mutex_unlock(&s->lock);
	for (unsigned i = 0; i < s->started; i++)
		pthread_join(s->worker[i], NULL);
	delist(s);
	if (s->env.gate)
		gate_unpost(s->env.gate, &s->post);
	pthread_cond_destroy(&s->work);
	pthread_cond_destroy(&s->settled);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* --- latency ---------------------------------------------------------------------------------- */

u64 vpace_latency(const struct vpace *p, u64 *busy, u64 now, u64 bytes)
{
	u64 start = MAX(now, *busy), ps;

	if (__builtin_mul_overflow(bytes, (u64)p->ps_per_byte, &ps))
		ps = UINT64_MAX;
	*busy = start + ps / 1000;
	return *busy - now + p->base_ns;
}
