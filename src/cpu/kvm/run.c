// SPDX-License-Identifier: Apache-2.0
/*
 * run.c - threads of vCPUs: running them, and having them parked
 *
 * How it works
 * A run is a *round*. To begin one, the VM's thread raises the round's number; each vCPU's thread that
 * takes part loops in KVM_RUN until its `immediate_exit` is set, and then parks: it counts itself out
 * and waits for the next round. The VM's thread meanwhile sleeps until the next timer of the guest
 * clock, a kick, or a write that kvm_add_notify asked for, and ends the round by setting all
 * immediate_exits and sending each thread a signal.
 *
 * A kick must not be lost, wherever the vCPU is. immediate_exit is the state, the signal only
 * makes KVM look: set before KVM_RUN it returns at once, set during KVM_RUN the signal ends it, and it
 * is cleared only while all are parked. The signal is repeated until all are, which costs nothing in
 * the usual case and covers a host that loses one. A vCPU that was never started by the guest sits
 * in KVM_RUN as any other, so it parks as any other.
 *
 * A thread parks only when KVM_RUN says EINTR. So an access that a device has answered is completed
 * first (KVM_RUN does this before it looks at immediate_exit), and registers are those behind it.
 *
 * A guest that has halted for good (x86/halt.c) would keep the VM's thread asleep for ever. So that thread
 * wakes now and then, and if the guest has not wanted anything meanwhile it parks all vCPUs, looks, and
 * lets them go on: rarer and rarer, for a guest that only computes should not be disturbed.
 *
 * The obvious other way, stopping and creating threads for each pause, needs no rounds, but a pause
 * would cost a thread creation for each vCPU, and the placement of each would be lost.
 */
#include "base/hosttime.h"
#include "base/thread.h"
#include "cpu/kvm/call.h"
#include "cpu/kvm/kvm_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define KICK_AGAIN_NS 10000000 /* until a kick is repeated */
#define LOOK_FIRST_NS 2000000000u
#define LOOK_LAST_NS 32000000000u
#define EVENTS 32
#define EXIT_MEMORY_FAULT 39 /* KVM_EXIT_MEMORY_FAULT, Linux 6.8 */
#define NOTHING_HEALED UINT64_MAX

/* --- ending a round --------------------------------------------------------------------------- */

static void wake_vm_thread(struct kvm *k)
{
	u64 one = 1;

	if (write(k->wake_fd, &one, sizeof(one)) < 0) /* full: it is awake anyway */
		return;
}

static void ask_to_park(struct kvm *k)
{
	for (unsigned i = 0; i < k->cfg.ncpus; i++)
		__atomic_store_n(&k->cpu[i].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
}

void kvm_stop(struct kvm *k, enum engine_exit why)
{
	if (k->stop && !engine_outweighs(why, k->why))
		return;
	k->stop = true;
	k->why = why;
	/* The vCPU whose access this is parks behind it; the VM's thread sees to the others. */
	ask_to_park(k);
	if (!pthread_equal(pthread_self(), k->vm_thread))
		wake_vm_thread(k);
}

void kvm_fail(struct kvm *k, const char *fmt, ...)
{
	va_list ap;

	if (!k->stop || k->why != ENGINE_FAILED) {
		va_start(ap, fmt);
		vsnprintf(k->failure, sizeof(k->failure), fmt, ap);
		va_end(ap);
	}
	kvm_stop(k, ENGINE_FAILED);
	k->why = ENGINE_FAILED;
}

static void park_all(struct kvm *k)
{
	struct timespec again;

	ask_to_park(k);
	pthread_mutex_lock(&k->lock);
	while (k->n_running) {
		for (unsigned i = 0; i < k->cfg.ncpus; i++)
			if (k->cpu[i].in_round)
				pthread_kill(k->cpu[i].thread, KVM_KICK_SIGNAL);
		again = host_after(KICK_AGAIN_NS);
		while (k->n_running &&
		       pthread_cond_timedwait(&k->parked, &k->lock, &again) != ETIMEDOUT)
			;
	}
	pthread_mutex_unlock(&k->lock);
}

/* --- a vCPU's thread -------------------------------------------------------------------------- */

static bool asked_to_park(const struct kvm_vcpu *v)
{
	return __atomic_load_n(&v->run->immediate_exit, __ATOMIC_SEQ_CST) != 0;
}

static bool wait_for_round(struct kvm_vcpu *v)
{
	struct kvm *k = v->k;
	bool runs;

	pthread_mutex_lock(&k->lock);
	while (!k->quit && !(v->in_round && v->round != k->round))
		pthread_cond_wait(&k->go, &k->lock);
	v->round = k->round;
	runs = !k->quit;
	pthread_mutex_unlock(&k->lock);
	return runs;
}

static void park(struct kvm_vcpu *v)
{
	struct kvm *k = v->k;

	pthread_mutex_lock(&k->lock);
	v->in_round = false;
	if (!--k->n_running)
		pthread_cond_signal(&k->parked);
	pthread_mutex_unlock(&k->lock);
}

static void fail_run(struct kvm_vcpu *v, const char *what, int r)
{
	struct kvm *k = v->k;

	pthread_mutex_lock(&k->dev);
	kvm_fail(k, "%s failed on vCPU %u: %s", what, v->index, strerror(-r));
	pthread_mutex_unlock(&k->dev);
}

/*
 * A page of a device's own memory whose file was truncated (host/sigbus.h): KVM says EFAULT where a
 * program gets SIGBUS. Hosts since Linux 6.8 say which page it is; to touch it is to have it replaced. Where
 * that does not help, or the host does not say, the run ends.
 */
static bool heal(struct kvm_vcpu *v)
{
	gpa_t gpa;
	const volatile u8 *p;

	if (v->run->exit_reason != EXIT_MEMORY_FAULT)
		return false;
	/* struct { u64 flags, gpa, size; } of exit reason 39 (api.rst, 5); not in older headers. */
	memcpy(&gpa, v->run->padding + sizeof(u64), sizeof(gpa));
	p = gpa == v->healed ? NULL : mem_ptr(v->k->cfg.mem, gpa, 1);
	if (!p)
		return false;
	v->healed = gpa;
	v->run->exit_reason = KVM_EXIT_UNKNOWN;
	(void)*p;
	return true;
}

static void run_round(struct kvm_vcpu *v)
{
	for (;;) {
		int r = KVM_CALL(v->fd, KVM_RUN, 0);

		/* EAGAIN: a vCPU that waits for its start-up IPI was woken for another reason. */
		if (r == -EINTR || r == -EAGAIN) {
			kvm_count_exit(v, KVM_EXIT_INTR);
			v->healed = NOTHING_HEALED;
			if (asked_to_park(v))
				return;
			continue;
		}
		if (r < 0) {
			if (r == -EFAULT && heal(v))
				continue;
			fail_run(v, "KVM_RUN", r);
			return;
		}
		v->healed = NOTHING_HEALED;
		kvm_count_exit(v, v->run->exit_reason);
		kvm_handle_exit(v);
	}
}

static void mask_signals(void)
{
	static const int mine[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP };
	sigset_t set;

	sigfillset(&set);
	sigdelset(&set, KVM_KICK_SIGNAL);
	for (unsigned i = 0; i < ARRAY_LEN(mine); i++)
		sigdelset(&set, mine[i]);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static void *vcpu_main(void *opaque)
{
	struct kvm_vcpu *v = opaque;
	struct kvm *k = v->k;
	bool begun = false;
	char name[16];

	v->healed = NOTHING_HEALED;
	snprintf(name, sizeof(name), "vcpu-%u", v->index);
	pthread_setname_np(pthread_self(), name);
	mask_signals();
	while (wait_for_round(v)) {
		int r = 0;

		/* As late as this, because creating a VM needs what running one does not. */
		if (!begun && k->cfg.thread_start)
			r = k->cfg.thread_start(k->cfg.perf_opaque, v->index);
		if (!begun)
			thread_begin(THREAD_VCPU);
		begun = true;
		if (r < 0)
			fail_run(v, "placing the thread", r);
		else
			run_round(v);
		park(v);
	}
	return NULL;
}

static void on_kick_signal(int sig)
{
}

int kvm_threads_start(struct kvm *k, struct err *e)
{
	struct sigaction sa = { .sa_handler = on_kick_signal };
	int r;

	if (sigaction(KVM_KICK_SIGNAL, &sa, NULL) < 0)
		return err_sys(e, -errno, "cannot handle signal %d", KVM_KICK_SIGNAL);
	for (unsigned i = 0; i < k->cfg.ncpus; i++) {
		struct kvm_vcpu *v = &k->cpu[i];

		r = kvm_gate("pthread_create");
		if (r == 0)
			r = -pthread_create(&v->thread, NULL, vcpu_main, v);
		if (r < 0)
			return err_sys(e, r, "cannot start the thread of vCPU %u", i);
		v->started = true;
	}
	return 0;
}

void kvm_threads_join(struct kvm *k)
{
	if (!k->lock_made)
		return;
	pthread_mutex_lock(&k->lock);
	k->quit = true;
	pthread_mutex_unlock(&k->lock);
	/* All want the lock as soon as they wake. */
	pthread_cond_broadcast(&k->go);
	for (unsigned i = 0; i < k->cfg.ncpus; i++)
		if (k->cpu[i].started)
			pthread_join(k->cpu[i].thread, NULL);
}

/* --- the VM's thread -------------------------------------------------------------------------- */

void kvm_kick(struct kvm *k)
{
	if (!atomic_exchange(&k->kicked, 1))
		wake_vm_thread(k);
}

static void begin_round(struct kvm *k)
{
	pthread_mutex_lock(&k->lock);
	k->round++;
	for (unsigned i = 0; i < k->cfg.ncpus; i++) {
		struct kvm_vcpu *v = &k->cpu[i];

		v->fetched = false;
		v->in_round = k->debug.step < 0 || k->debug.step == (int)i;
		k->n_running += v->in_round;
		/* All are parked; a stop that comes from now on sets it again. */
		__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	}
	pthread_mutex_unlock(&k->lock);
	pthread_cond_broadcast(&k->go);
}

/* Sleeps until guest time @until, a kick, or a notification; takes the notifications. */
static void sleep_until(struct kvm *k, u64 until)
{
	struct epoll_event ev[EVENTS];
	struct timespec ts, *tp = NULL;
	u64 now = kvm_now(k), count;
	int n;

	if (until != GCLOCK_NEVER) {
		u64 ns = until > now ? until - now : 0;

		ts = (struct timespec){ .tv_sec = (time_t)(ns / 1000000000u),
					.tv_nsec = (long)(ns % 1000000000u) };
		tp = &ts;
	}
	n = epoll_pwait2(k->epoll, ev, EVENTS, tp, NULL);
	for (int i = 0; i < n; i++) {
		struct kvm_notify *nt = ev[i].data.ptr;
		int fd = nt ? nt->fd : k->wake_fd;

		if (read(fd, &count, sizeof(count)) < 0 || !nt)
			continue;
		pthread_mutex_lock(&k->dev);
		if (!k->stop)
			nt->fn(nt->opaque, nt->val);
		pthread_mutex_unlock(&k->dev);
	}
}

/* The time for the next look. Where HLT does not leave the guest there is nothing to be seen. */
static void look_later(struct kvm *k, u64 ns)
{
	k->look_ns = ns;
	k->look_at = k->halts_inside ? GCLOCK_NEVER : kvm_now(k) + ns;
}

static void look(struct kvm *k)
{
	u64 exits = kvm_guest_exits(k);
	bool stop;

	if (exits != k->looked || k->debug.step >= 0) {
		k->looked = exits;
		look_later(k, LOOK_FIRST_NS);
		return;
	}
	park_all(k);
	pthread_mutex_lock(&k->dev);
	if (!k->stop && kvm_halted_for_good(k))
		kvm_stop(k, ENGINE_DEADLOCK);
	stop = k->stop;
	pthread_mutex_unlock(&k->dev);
	if (!stop)
		begin_round(k);
	look_later(k, MIN(2 * k->look_ns, (u64)LOOK_LAST_NS));
}

static void loop(struct kvm *k, void (*poll)(void *opaque), void *opaque)
{
	for (;;) {
		u64 next;

		pthread_mutex_lock(&k->dev);
		k->waits_until = 0;
		if (!k->stop)
			gclock_run(&k->clk, kvm_now(k));
		if (!k->stop && atomic_exchange(&k->kicked, 0)) {
			k->kicks++;
			if (poll)
				poll(opaque);
		}
		next = k->waits_until = MIN(gclock_next(&k->clk), k->look_at);
		bool stop = k->stop;
		pthread_mutex_unlock(&k->dev);
		if (stop)
			return;
		if (kvm_now(k) >= k->look_at)
			look(k);
		else
			sleep_until(k, next);
	}
}

static int give_state(struct kvm *k, struct err *e)
{
	for (unsigned i = 0; i < k->cfg.ncpus; i++) {
		struct kvm_vcpu *v = &k->cpu[i];
		int r = v->changed ? kvm_state_set(v, e) : 0;

		if (r < 0)
			return r;
		v->changed = v->fresh = false;
	}
	return 0;
}

/* What a vCPU met while another ended the round; whoever debugs has not heard of it yet. */
static bool debug_left(struct kvm *k)
{
	for (unsigned i = 0; i < k->cfg.ncpus; i++) {
		if (!k->cpu[i].debug_hit)
			continue;
		k->event = kvm_debug_decode(&k->cpu[i]);
		k->cpu[i].debug_hit = false;
		return true;
	}
	return false;
}

enum engine_exit kvm_run_vm(struct kvm *k, void (*poll)(void *opaque), void *opaque)
{
	struct err e = { 0 };

	if (k->failure[0])
		return ENGINE_FAILED; /* for good: its state is not known */
	k->stop = false;
	k->vm_thread = pthread_self();
	if (debug_left(k))
		return ENGINE_DEBUG;
	if (give_state(k, &e) < 0 || kvm_clock_go(k, &e) < 0) {
		snprintf(k->failure, sizeof(k->failure), "%.250s", e.msg);
		return ENGINE_FAILED;
	}
	look_later(k, LOOK_FIRST_NS);
	begin_round(k);
	loop(k, poll, opaque);
	park_all(k);
	if (kvm_clock_stand(k, &e) < 0) {
		snprintf(k->failure, sizeof(k->failure), "%.250s", e.msg);
		return ENGINE_FAILED;
	}
	return k->why;
}
