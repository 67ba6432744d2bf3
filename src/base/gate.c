// SPDX-License-Identifier: Apache-2.0
/*
 * gate.c - the one way from the host's world into a VM's thread: posts and an epoll set
 *
 * How it works
 * Posts are a list under a mutex; dispatch takes the whole list at once, so a callback that posts
 * again cannot keep the VM's thread here. A post that is taken back while its batch is being
 * called must still be found: the batch stays in a list of the gate.
 *
 * A watch that is removed during a dispatch may have an event in the batch already fetched from
 * epoll. Its place in the batch is cleared, because its owner may free it at once.
 *
 * A watch without events leaves the epoll set: EPOLLERR and EPOLLHUP cannot be masked, and a
 * peer that has hung up would otherwise wake the waiting thread without end.
 */
#include "base/gate.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH 64

struct gate {
	struct gate_cfg cfg;
	int epoll;
	unsigned holds;
	struct gate_watch *watches;
	struct epoll_event batch[BATCH]; /* fetched; the entries not yet called */
	int n_batch;

	pthread_mutex_t lock; /* of what follows, and of gate_post.next and .queued */
	struct gate_post *first, **last;
	struct gate_post *taken; /* the batch that dispatch is calling */
};

int gate_new(const struct gate_cfg *cfg, struct gate **ret)
{
	struct gate *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return -ENOMEM;
	g->cfg = *cfg;
	g->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (g->epoll < 0) {
		r = -errno;
		free(g);
		return r;
	}
	pthread_mutex_init(&g->lock, NULL);
	g->last = &g->first;
	*ret = g;
	return 0;
}

void gate_free(struct gate *g)
{
	if (!g)
		return;
	for (struct gate_watch *w = g->watches; w; w = w->next)
		w->active = false;
	close(g->epoll);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

/* --- posts ------------------------------------------------------------------------------------ */

void gate_post(struct gate *g, struct gate_post *p)
{
	pthread_mutex_lock(&g->lock);
	if (!p->queued) {
		p->queued = true;
		p->next = NULL;
		*g->last = p;
		g->last = &p->next;
	}
	pthread_mutex_unlock(&g->lock);
	g->cfg.kick(g->cfg.opaque);
}

/* Takes @p out of @list; *tail is the list's end, where there is one to maintain. */
static bool unlink_post(struct gate_post **list, struct gate_post *p, struct gate_post ***tail)
{
	for (struct gate_post **at = list; *at; at = &(*at)->next) {
		if (*at != p)
			continue;
		*at = p->next;
		if (tail && !*at)
			*tail = at;
		p->queued = false;
		return true;
	}
	return false;
}

bool gate_unpost(struct gate *g, struct gate_post *p)
{
	bool was;

	pthread_mutex_lock(&g->lock);
	was = p->queued && (unlink_post(&g->first, p, &g->last) || unlink_post(&g->taken, p, NULL));
	pthread_mutex_unlock(&g->lock);
	return was;
}

static void dispatch_posts(struct gate *g)
{
	struct gate_post *p;

	pthread_mutex_lock(&g->lock);
	g->taken = g->first;
	g->first = NULL;
	g->last = &g->first;
	while ((p = g->taken)) {
		g->taken = p->next;
		p->queued = false;
		pthread_mutex_unlock(&g->lock);
		p->fn(p);
		pthread_mutex_lock(&g->lock);
	}
	pthread_mutex_unlock(&g->lock);
}

/* --- watches ---------------------------------------------------------------------------------- */

static int control(struct gate *g, struct gate_watch *w, u32 old, u32 new)
{
	struct epoll_event ev = { .events = new, .data.ptr = w };
	int op = !old ? EPOLL_CTL_ADD : new ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;

	if (!old && !new)
		return 0;
	return epoll_ctl(g->epoll, op, w->fd, &ev) < 0 ? -errno : 0;
}

int gate_watch(struct gate *g, struct gate_watch *w, int fd, u32 events)
{
	int r;

	BUG_IF(w->active);
	w->fd = fd;
	r = control(g, w, 0, events);
	if (r < 0)
		return r;
	w->events = events;
	w->active = true;
	w->next = g->watches;
	g->watches = w;
	return 0;
}

void gate_watch_events(struct gate *g, struct gate_watch *w, u32 events)
{
	if (!w->active || w->events == events)
		return;
	/* Only an fd that its owner closed makes this fail. */
	BUG_IF(control(g, w, w->events, events) < 0);
	w->events = events;
}

void gate_unwatch(struct gate *g, struct gate_watch *w)
{
	if (!w->active)
		return;
	gate_watch_events(g, w, 0);
	for (struct gate_watch **at = &g->watches; *at; at = &(*at)->next) {
		if (*at == w) {
			*at = w->next;
			break;
		}
	}
	for (int i = 0; i < g->n_batch; i++)
		if (g->batch[i].data.ptr == w)
			g->batch[i].data.ptr = NULL;
	w->active = false;
}

static void dispatch_watches(struct gate *g)
{
	int n = epoll_wait(g->epoll, g->batch, BATCH, 0);

	g->n_batch = MAX(n, 0);
	for (int i = 0; i < g->n_batch; i++) {
		struct gate_watch *w = g->batch[i].data.ptr;

		if (!w || !w->events)
			continue;
		g->batch[i].data.ptr = NULL;
		w->fn(w->opaque, g->batch[i].events);
	}
	g->n_batch = 0;
}

int gate_fd(const struct gate *g)
{
	return g->epoll;
}

void gate_dispatch(struct gate *g)
{
	dispatch_posts(g);
	if (g->watches)
		dispatch_watches(g);
}

/* --- holding ---------------------------------------------------------------------------------- */

void gate_hold(struct gate *g)
{
	if (!g->holds++ && g->cfg.held)
		g->cfg.held(g->cfg.opaque, true);
}

void gate_release(struct gate *g)
{
	BUG_IF(!g->holds);
	if (!--g->holds && g->cfg.held)
		g->cfg.held(g->cfg.opaque, false);
}

bool gate_held(const struct gate *g)
{
	return g->holds != 0;
}
