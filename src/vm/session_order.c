// SPDX-License-Identifier: Apache-2.0
/*
 * session_order.c - what others ask of a running VM: orders, the pause, the request to end
 *
 * How it works
 * Orders come from any thread into a queue; the VM's thread takes them in its poll callback, one
 * after the other. Most are done at once. A pause and a reset need the machine's run to come back
 * first, so nothing behind them is taken until they are done: whoever pauses and resumes at once
 * gets both, in this order. A connection waits for the guest.
 *
 * While the VM is paused its thread waits for a kick and looks at two things only: what ends the
 * VM (io.h) and orders. The gate is not dispatched: what back ends bring, and what workers have
 * finished, waits there; the I/O thread waits for the gate once at most (io_watch_again).
 *
 * The request to end goes where it is understood: to our init on the command port, if it is there
 * or will be; else the power button is pressed. The deadline is the I/O thread's: it counts also
 * while this thread waits for a slow reader of the guest's output.
 */
#include "vm/session_priv.h"

#include "vm/balloon.h"
#include "vm/vsock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What init gets for itself behind the command's grace: to unmount and to report. */
#define INIT_NS 1000000000ull

/* --- from any thread -------------------------------------------------------------------------- */

static void kick_locked(struct session *s)
{
	if (s->m)
		machine_kick(s->m);
	s->kicked = true;
	pthread_cond_signal(&s->cond);
	gdb_wake(s->cfg.gdb);
}

void session_give(struct session *s, struct order *o)
{
	bool closed;

	o->next = NULL;
	o->withdrawn = false;
	o->session = s;
	o->err = (struct err){ 0 };
	o->call = (struct vsock_call){ 0 };
	pthread_mutex_lock(&s->lock);
	closed = s->closed;
	if (!closed) {
		o->state = ORDER_QUEUED;
		*s->tail = o;
		s->tail = &o->next;
		/* Also where the VM's thread waits for a reader and takes no orders. */
		if (o->op == ORDER_STOP)
			io_deadline(s->io, o->arg);
		kick_locked(s);
	}
	pthread_mutex_unlock(&s->lock);
	if (closed) {
		o->state = ORDER_IDLE;
		o->done(o, err_set(&o->err, -ESHUTDOWN, "the VM has ended"));
	}
}

bool session_withdraw(struct session *s, struct order *o)
{
	bool was = false;

	pthread_mutex_lock(&s->lock);
	for (struct order **at = &s->queue; *at && !was; at = &(*at)->next) {
		if (*at != o)
			continue;
		was = true;
		*at = o->next;
		if (!*at)
			s->tail = at;
		o->state = ORDER_IDLE;
		break;
	}
	if (!was && o->state == ORDER_BEGUN) {
		o->withdrawn = s->withdrawn = true;
		kick_locked(s);
	}
	pthread_mutex_unlock(&s->lock);
	return was;
}

/* --- on the VM's thread ----------------------------------------------------------------------- */

static struct order *take(struct session *s)
{
	struct order *o;

	pthread_mutex_lock(&s->lock);
	o = s->queue;
	if (o) {
		s->queue = o->next;
		if (!s->queue)
			s->tail = &s->queue;
		o->state = ORDER_BEGUN;
		o->next = s->begun;
		s->begun = o;
	}
	pthread_mutex_unlock(&s->lock);
	return o;
}

void session_finish(struct session *s, struct order *o, int r)
{
	pthread_mutex_lock(&s->lock);
	for (struct order **at = &s->begun; *at; at = &(*at)->next) {
		if (*at == o) {
			*at = o->next;
			break;
		}
	}
	o->state = ORDER_IDLE;
	pthread_mutex_unlock(&s->lock);
	if (s->pausing == o)
		s->pausing = NULL;
	if (s->resuming == o)
		s->resuming = NULL;
	if (s->resetting == o)
		s->resetting = NULL;
	o->done(o, r);
}

static void on_answered(struct vsock_call *call, int r)
{
	struct order *o = container_of(call, struct order, call);

	if (r == -ECONNREFUSED)
		err_set(&o->err, r, "nobody listens on vsock port %u in the guest", (u32)o->arg);
	else if (r < 0)
		r = err_set(&o->err, -ESHUTDOWN, "the VM has ended");
	session_finish(o->session, o, r);
}

/* 1: it goes on. */
static int connect_guest(struct session *s, struct order *o)
{
	struct virtio_vsock *dev = vm_vsock(s->cfg.devs);
	int r;

	if (!dev)
		return err_set(&o->err, -ENOTSUP, "the VM was started without --vsock");
	o->call = (struct vsock_call){ .answered = on_answered };
	r = virtio_vsock_call(dev, (u32)o->arg, o->fd, &o->call);
	o->fd = -1;
	return r < 0 ? err_sys(&o->err, r, "no connection to the guest") : 1;
}

static void on_stat(void *opaque, const char *name, u64 val)
{
	struct order *o = opaque;

	o->stat(o, name, val);
}

/* --- the request to end ----------------------------------------------------------------------- */

static u32 grace_ms(const struct session *s)
{
	u64 ns = s->ask_ns > 2 * INIT_NS ? s->ask_ns - INIT_NS : s->ask_ns / 2;

	return (u32)MIN(ns / 1000000, (u64)UINT32_MAX);
}

static void ask(struct session *s)
{
	u8 frame[WIRE_HEAD + WIRE_SHUTDOWN_LEN];

	s->ask_wait = false;
	if (s->port) {
		cmdport_shutdown(s->port, grace_ms(s));
		return;
	}
	if (!s->cfg.init) {
		machine_power_button(s->m);
		return;
	}
	if (!machine_rx_listening(s->m, MACHINE_CMDPORT)) {
		s->ask_wait = true;
		return;
	}
	wire_head(frame, WIRE_SHUTDOWN, WIRE_SHUTDOWN_LEN);
	wire_put32(frame + WIRE_HEAD, grace_ms(s));
	machine_rx(s->m, MACHINE_CMDPORT, frame, sizeof(frame));
}

void session_ask_again(struct session *s)
{
	if (s->ask_wait && s->m)
		ask(s);
}

/* 0, or 1: a paused guest goes on first, and is asked then. */
static int stop_order(struct session *s, struct order *o)
{
	enum life_state now = life_now(s->cfg.life);

	if (!o->arg) {
		session_stop_for(s, SESSION_STOPPED);
		return 0;
	}
	if (s->ask_ns) /* twice is as good as once, but with the new deadline */
		return 0;
	s->ask_ns = o->arg;
	if (now == LIFE_RUNNING) {
		life_set(s->cfg.life, LIFE_STOPPING);
		ask(s);
	}
	return 0;
}

u64 session_asked(const struct session *s)
{
	return s->ask_ns;
}

bool session_reset_asked(const struct session *s)
{
	return s->resetting != NULL;
}

/* --- orders ----------------------------------------------------------------------------------- */

static const struct {
	u32 states; /* bit n: in enum life_state n it is allowed */
	const char *what;
} rules[] = {
	[ORDER_PAUSE] = { BIT(LIFE_RUNNING), "pause" },
	[ORDER_RESUME] = { BIT(LIFE_PAUSED), "resume" },
	[ORDER_STOP] = { UINT32_MAX, "stop" },
	[ORDER_RESET] = { BIT(LIFE_RUNNING) | BIT(LIFE_PAUSED), "reset" },
	[ORDER_BALLOON] = { BIT(LIFE_RUNNING), "change its memory" },
	[ORDER_STATS] = { UINT32_MAX, "read statistics" },
	[ORDER_CONNECT] = { BIT(LIFE_RUNNING) | BIT(LIFE_STOPPING), "connect to the guest" },
};

/* 0 or negative: done. 1: it will be. */
static int begin(struct session *s, struct order *o)
{
	enum life_state now = life_now(s->cfg.life);

	if (!(rules[o->op].states & BIT(now)))
		return life_refuse(now, rules[o->op].what, &o->err);
	switch (o->op) {
	case ORDER_PAUSE:
		s->pausing = o;
		machine_stop(s->m);
		return 1;
	case ORDER_RESUME:
		s->resuming = o;
		return 1;
	case ORDER_RESET:
		s->resetting = o;
		machine_stop(s->m);
		return 1;
	case ORDER_STOP:
		return stop_order(s, o);
	case ORDER_BALLOON:
		return vm_balloon_keep(s->cfg.devs, o->arg, &o->err);
	case ORDER_STATS:
		machine_stats(s->m, on_stat, o);
		return 0;
	case ORDER_CONNECT:
		return connect_guest(s, o);
	}
	return -EINVAL;
}

/* Connections that nobody waits for any more. */
static void give_up(struct session *s)
{
	struct order *o, *next;
	bool some;

	pthread_mutex_lock(&s->lock);
	some = s->withdrawn;
	s->withdrawn = false;
	pthread_mutex_unlock(&s->lock);
	/* Only this thread changes the list. */
	for (o = some ? s->begun : NULL; o; o = next) {
		bool withdrawn;

		next = o->next;
		pthread_mutex_lock(&s->lock);
		withdrawn = o->withdrawn;
		pthread_mutex_unlock(&s->lock);
		if (!withdrawn || o->op != ORDER_CONNECT)
			continue;
		virtio_vsock_hang_up(&o->call);
		session_finish(s, o, err_set(&o->err, -ECANCELED, "given up"));
	}
}

void session_take_orders(struct session *s)
{
	struct order *o;
	int r;

	give_up(s);
	while (!s->pausing && !s->resuming && !s->resetting && (o = take(s))) {
		r = begin(s, o);
		if (r <= 0)
			session_finish(s, o, r);
	}
}

void session_end_orders(struct session *s)
{
	struct order *o;

	pthread_mutex_lock(&s->lock);
	s->closed = true;
	pthread_mutex_unlock(&s->lock);
	while ((o = s->begun) || (o = take(s))) {
		virtio_vsock_hang_up(&o->call);
		session_finish(s, o, err_set(&o->err, -ESHUTDOWN, "the VM has ended"));
	}
}

/* --- the pause -------------------------------------------------------------------------------- */

static void wait_kick(struct session *s)
{
	pthread_mutex_lock(&s->lock);
	while (!s->kicked)
		pthread_cond_wait(&s->cond, &s->lock);
	s->kicked = false;
	pthread_mutex_unlock(&s->lock);
}

void session_paused(struct session *s)
{
	session_flush(s);
	machine_pause(s->m);
	life_set(s->cfg.life, LIFE_PAUSED);
	session_finish(s, s->pausing, 0);
	/* What was given before, nobody kicks for any more. */
	session_take_orders(s);
	while (s->why == SESSION_RUNS && !s->resuming && !s->resetting && !s->ask_ns) {
		wait_kick(s);
		session_take_events(s);
		session_take_orders(s);
		session_flush(s);
	}
	if (s->why != SESSION_RUNS || s->resetting)
		return;
	machine_resume(s->m);
	life_set(s->cfg.life, LIFE_RUNNING);
	if (s->resuming)
		session_finish(s, s->resuming, 0);
	if (s->ask_ns) {
		life_set(s->cfg.life, LIFE_STOPPING);
		ask(s);
	}
}
