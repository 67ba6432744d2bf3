// SPDX-License-Identifier: Apache-2.0
/*
 * api.c - virtual machines in somebody's own process (include/orrery/orrery.h)
 *
 * How it works
 * A handle holds a configuration and, once started, a thread that calls vm_run. What others ask of
 * the VM goes there as orders (vm/order.h): the asking thread waits until its order is done. The
 * session takes orders between the two calls of `attach`; `vm->session` says so, under the handle's
 * mutex, which the VM's thread takes before the session goes. So whoever holds it and finds a session
 * can give an order, and every order that was given is done before the session is freed.
 *
 * A VM that the host holds (cfg.hung) is given up: whoever waits gets an error, and the handle, the
 * thread and orders that it has begun stay as they are, since it may come back. Then, if the handle
 * was freed meanwhile, the thread frees it.
 *
 * The VM's thread takes no signal that is meant for the process: only those that its own
 * instructions cause.
 */
#include <orrery/orrery.h>

#include "base/hosttime.h"
#include "base/wire.h"
#include "vm/exec.h"
#include "vm/options.h"
#include "vm/session.h"
#include "vm/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* What must match is one list twice: an installed header cannot include ours. */
_Static_assert((int)ORR_CREATED == LIFE_CREATED && (int)ORR_RUNNING == LIFE_RUNNING &&
		       (int)ORR_PAUSED == LIFE_PAUSED && (int)ORR_STOPPING == LIFE_STOPPING &&
		       (int)ORR_STOPPED == LIFE_STOPPED && (int)ORR_FAILED == LIFE_FAILED &&
		       (int)ORR_INITIALIZING == LIFE_INITIALIZING,
	       "states");

struct orr_vm {
	struct vm_options config;
	struct life life;
	pthread_t thread;
	struct order first_stop; /* of who did not wait until it ran */
	int null_fd;		 /* stands for a standard error that is none; -1: not open */

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t cond;  /* any of it changed, or an order is done */
	bool started, joined;
	bool stop_asked; /* before there was a session */
	bool cancel;	 /* the same, atomic: what is prepared need not be */
	u64 stop_ns;
	bool over;     /* vm_run has returned, or the VM was given up */
	bool hung;     /* given up: why is in @hung_err */
	bool returned; /* the thread touches nothing any more */
	bool orphan;   /* nor does anybody else */
	struct err hung_err;
	struct session *session; /* takes orders */
	int rc;			 /* of vm_run */
	struct err err;
	struct vm_result result;
};

#define RETRY_NS 20000000u /* between two attempts to reach a guest that boots */

static _Thread_local struct err last;

const char *orr_version(void)
{
	return ORRERY_VERSION;
}

const char *orr_vm_error(orr_vm *vm)
{
	return last.msg;
}

static int fail(int r, const char *words)
{
	return err_set(&last, r, "%s", words);
}

/* --- the VM's thread -------------------------------------------------------------------------- */

static void on_changed(void *opaque, enum life_state from, enum life_state to)
{
	orr_vm *vm = opaque;

	pthread_mutex_lock(&vm->lock);
	pthread_cond_broadcast(&vm->cond);
	pthread_mutex_unlock(&vm->lock);
}

static void on_first_stop(struct order *o, int r)
{
}

static void on_attach(void *opaque, struct session *s)
{
	orr_vm *vm = opaque;

	pthread_mutex_lock(&vm->lock);
	vm->session = s;
	if (s && vm->stop_asked) {
		vm->first_stop = (struct order){
			.op = ORDER_STOP, .arg = vm->stop_ns, .fd = -1, .done = on_first_stop
		};
		session_give(s, &vm->first_stop);
	}
	pthread_mutex_unlock(&vm->lock);
}

static void on_hung(void *opaque, const char *words)
{
	orr_vm *vm = opaque;

	pthread_mutex_lock(&vm->lock);
	err_set(&vm->hung_err, -EIO, "%s", words);
	vm->hung = vm->over = true;
	pthread_cond_broadcast(&vm->cond);
	pthread_mutex_unlock(&vm->lock);
}

static void release(orr_vm *vm)
{
	vm_options_fini(&vm->config);
	if (vm->null_fd >= 0)
		close(vm->null_fd);
	pthread_cond_destroy(&vm->cond);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

static void *vm_main(void *opaque)
{
	orr_vm *vm = opaque;
	bool orphan;
	int rc;

	pthread_setname_np(pthread_self(), "vm");
	rc = vm_run(&vm->config.cfg, &vm->err, &vm->result);
	pthread_mutex_lock(&vm->lock);
	vm->rc = rc;
	vm->over = vm->returned = true;
	orphan = vm->orphan;
	pthread_cond_broadcast(&vm->cond);
	pthread_mutex_unlock(&vm->lock);
	if (orphan)
		release(vm);
	return NULL;
}

/* --- begin and end ---------------------------------------------------------------------------- */

orr_vm *orr_vm_new(void)
{
	orr_vm *vm = calloc(1, sizeof(*vm));
	pthread_condattr_t ca;

	if (!vm)
		return NULL;
	vm_options_init(&vm->config, "");
	vm->null_fd = -1;
	vm->life = (struct life){ .state = LIFE_CREATED, .changed = on_changed, .opaque = vm };
	vm->config.cfg.life = &vm->life;
	vm->config.cfg.attach = on_attach;
	vm->config.cfg.hung = on_hung;
	vm->config.cfg.cancel = &vm->cancel;
	vm->config.cfg.opaque = vm;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&vm->cond, &ca);
	pthread_condattr_destroy(&ca);
	return vm;
}

/* Waits until the VM's thread is over. True: it may never be, and has the handle now. */
static bool left_behind(orr_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	while (!vm->over)
		pthread_cond_wait(&vm->cond, &vm->lock);
	vm->orphan = !vm->returned;
	if (vm->orphan)
		pthread_detach(vm->thread);
	pthread_mutex_unlock(&vm->lock);
	return vm->orphan;
}

void orr_vm_free(orr_vm *vm)
{
	if (!vm)
		return;
	if (vm->started && !vm->joined) {
		orr_vm_stop(vm, 0);
		if (left_behind(vm))
			return;
		pthread_join(vm->thread, NULL);
	}
	release(vm);
}

static int configurable(orr_vm *vm, const char *what)
{
	last = (struct err){ 0 };
	return vm->started ? life_refuse(life_now(&vm->life), what, &last) : 0;
}

int orr_vm_set(orr_vm *vm, const char *option, const char *value)
{
	int r = configurable(vm, "set an option");

	return r < 0 ? r : vm_options_set(&vm->config, option, value, &last);
}

int orr_vm_set_command(orr_vm *vm, const char *const *argv)
{
	int r = configurable(vm, "set the command");

	return r < 0 ? r : vm_options_command(&vm->config, argv, &last);
}

int orr_vm_set_streams(orr_vm *vm, int in, int out, int err)
{
	int r = configurable(vm, "set streams");

	if (r < 0)
		return r;
	vm->config.cfg.in_fd = in;
	vm->config.cfg.out_fd = out;
	vm->config.cfg.err_fd = err;
	return 0;
}

static int start_thread(orr_vm *vm)
{
	sigset_t most, old;
	int r;

	sigfillset(&most);
	/* Of a guest's exceptions, and of a file that was cut behind a mapping of it. */
	sigdelset(&most, SIGFPE);
	sigdelset(&most, SIGBUS);
	sigdelset(&most, SIGSEGV);
	sigdelset(&most, SIGILL);
	sigdelset(&most, SIGABRT);
	pthread_sigmask(SIG_SETMASK, &most, &old);
	r = -pthread_create(&vm->thread, NULL, vm_main, vm);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

/*
 * What Orrery says goes nowhere, if the caller wants none of it. Not to -1: glibc's dprintf(3) loses
 * 8 KiB for each line that it cannot write there.
 */
static int silence(orr_vm *vm)
{
	if (vm->config.cfg.err_fd >= 0)
		return 0;
	if (vm->null_fd < 0)
		vm->null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (vm->null_fd < 0)
		return err_sys(&last, -errno, "/dev/null");
	vm->config.cfg.err_fd = vm->null_fd;
	return 0;
}

int orr_vm_start(orr_vm *vm)
{
	int r = configurable(vm, "start");

	if (r == 0)
		r = vm_options_finish(&vm->config, &last);
	if (r == 0)
		r = silence(vm);
	if (r < 0)
		return r;
	pthread_mutex_lock(&vm->lock);
	r = start_thread(vm);
	vm->started = r == 0;
	while (r == 0 && !vm->over && life_now(&vm->life) <= LIFE_INITIALIZING)
		pthread_cond_wait(&vm->cond, &vm->lock);
	/* A state is told before vm_run has returned: why it failed is known then. */
	while (r == 0 && !vm->over && life_now(&vm->life) == LIFE_FAILED)
		pthread_cond_wait(&vm->cond, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
	if (r < 0)
		return err_sys(&last, r, "cannot start the VM's thread");
	if (life_now(&vm->life) == LIFE_FAILED) {
		last = vm->err;
		return vm->rc;
	}
	return 0;
}

enum orr_state orr_vm_state(orr_vm *vm)
{
	bool hung;

	pthread_mutex_lock(&vm->lock);
	hung = vm->hung;
	pthread_mutex_unlock(&vm->lock);
	return hung ? ORR_FAILED : (enum orr_state)life_now(&vm->life);
}

/* --- waiting ---------------------------------------------------------------------------------- */

/* Waits for a change, until @limit (NULL: for ever). False: the time is over. */
static bool wait_locked(orr_vm *vm, const struct timespec *limit)
{
	return limit ? pthread_cond_timedwait(&vm->cond, &vm->lock, limit) != ETIMEDOUT
		     : pthread_cond_wait(&vm->cond, &vm->lock) == 0;
}

static enum orr_end end_of(enum vm_end end)
{
	static const struct {
		enum vm_end from;
		enum orr_end to;
	} ends[] = {
		{ VM_END_COMMAND, ORR_END_COMMAND },   { VM_END_NOT_STARTED, ORR_END_NOT_STARTED },
		{ VM_END_POWEROFF, ORR_END_POWEROFF }, { VM_END_RESET, ORR_END_RESET },
		{ VM_END_PANIC, ORR_END_PANIC },       { VM_END_TRIPLE, ORR_END_TRIPLE },
		{ VM_END_HALTED, ORR_END_HALTED },     { VM_END_DEBUG_EXIT, ORR_END_DEBUG_EXIT },
		{ VM_END_TIMEOUT, ORR_END_TIMEOUT },   { VM_END_STOPPED, ORR_END_STOPPED },
		{ VM_END_OUTPUT, ORR_END_OUTPUT },     { VM_END_PROTOCOL, ORR_END_PROTOCOL },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ends); i++)
		if (ends[i].from == end)
			return ends[i].to;
	return ORR_END_OTHER;
}

/* As much as the caller's version of the struct has. */
static void give_result(const struct vm_result *v, struct orr_result *ret)
{
	struct orr_result r = { .size = ret->size,
				.end = end_of(v->end),
				.status = v->status,
				.run_ns = v->run_ns,
				.guest_ns = v->guest_ns };

	snprintf(r.digest, sizeof(r.digest), "%s", v->digest);
	snprintf(r.words, sizeof(r.words), "%s", v->words);
	memcpy(ret, &r, MIN(ret->size, sizeof(r)));
}

int orr_vm_wait(orr_vm *vm, int timeout_ms, struct orr_result *result)
{
	struct timespec limit = host_after((u64)MAX(timeout_ms, 0) * 1000000u);
	bool over, hung, join = false;

	last = (struct err){ 0 };
	if (!vm->started)
		return life_refuse(life_now(&vm->life), "wait", &last);
	pthread_mutex_lock(&vm->lock);
	while (!vm->over && wait_locked(vm, timeout_ms < 0 ? NULL : &limit))
		;
	over = vm->over;
	hung = vm->hung;
	if (over && !hung && !vm->joined)
		join = vm->joined = true;
	if (hung)
		last = vm->hung_err;
	pthread_mutex_unlock(&vm->lock);
	if (hung)
		return -EIO;
	if (!over)
		return fail(-ETIMEDOUT, "the VM has not ended yet");
	if (join)
		pthread_join(vm->thread, NULL);
	if (vm->rc < 0) {
		last = vm->err;
		return vm->rc;
	}
	if (result)
		give_result(&vm->result, result);
	return 0;
}

/* --- orders ----------------------------------------------------------------------------------- */

/* An order, and who waits for it. */
struct call {
	struct order o;
	orr_vm *vm;
	bool done;
	int r;
	struct vm_stat *stat;
	unsigned n_stats;
};

static void on_done(struct order *o, int r)
{
	struct call *c = container_of(o, struct call, o);
	orr_vm *vm = c->vm;

	pthread_mutex_lock(&vm->lock);
	c->r = r;
	c->done = true;
	pthread_cond_broadcast(&vm->cond);
	pthread_mutex_unlock(&vm->lock);
}

/* Until the order is done, or taken back, or will never be. True: it is the caller's again. */
static bool wait_call_locked(orr_vm *vm, struct call *c, const struct timespec *limit,
			     bool *ret_late)
{
	while (!c->done && !vm->hung) {
		if (wait_locked(vm, *ret_late ? NULL : limit) || *ret_late)
			continue;
		*ret_late = true;
		/* Without a session it is as good as done. */
		if (!c->done && vm->session && session_withdraw(vm->session, &c->o))
			return true;
	}
	return c->done || (vm->session && session_withdraw(vm->session, &c->o));
}

/* Gives the order and waits for it, until @limit (NULL: for ever). */
static int call(orr_vm *vm, struct call *arg, const char *what, const struct timespec *limit)
{
	struct call *c = malloc(sizeof(*c));
	bool late = false, ours, done;
	int r;

	if (!c)
		return fail(-ENOMEM, "out of memory");
	last = (struct err){ 0 };
	*c = *arg;
	c->vm = vm;
	c->o.done = on_done;
	pthread_mutex_lock(&vm->lock);
	if (!vm->session) {
		pthread_mutex_unlock(&vm->lock);
		free(c);
		return life_refuse(life_now(&vm->life), what, &last);
	}
	session_give(vm->session, &c->o);
	ours = wait_call_locked(vm, c, limit, &late);
	done = c->done;
	r = c->r;
	if (!done && vm->hung)
		last = vm->hung_err;
	pthread_mutex_unlock(&vm->lock);
	/* What the VM's thread has stays there. */
	if (!ours) {
		arg->stat = NULL;
		arg->o.fd = -1;
		return -EIO;
	}
	*arg = *c;
	free(c);
	if (!done && !late)
		return -EIO;
	if (late && (!done || r == -ECANCELED))
		return fail(-ETIMEDOUT, "the guest has not answered");
	if (r < 0)
		last = arg->o.err;
	return r;
}

int orr_vm_pause(orr_vm *vm)
{
	struct call c = { .o = { .op = ORDER_PAUSE, .fd = -1 } };

	return call(vm, &c, "pause", NULL);
}

int orr_vm_resume(orr_vm *vm)
{
	struct call c = { .o = { .op = ORDER_RESUME, .fd = -1 } };

	return call(vm, &c, "resume", NULL);
}

int orr_vm_reset(orr_vm *vm)
{
	struct call c = { .o = { .op = ORDER_RESET, .fd = -1 } };

	return call(vm, &c, "reset", NULL);
}

int orr_vm_balloon(orr_vm *vm, uint64_t bytes)
{
	struct call c = { .o = { .op = ORDER_BALLOON, .arg = bytes, .fd = -1 } };

	return call(vm, &c, "change its memory", NULL);
}

int orr_vm_stop(orr_vm *vm, uint32_t timeout_ms)
{
	struct call c = { .o = { .op = ORDER_STOP, .arg = timeout_ms * 1000000ull, .fd = -1 } };
	bool now;
	int r;

	last = (struct err){ 0 };
	if (!vm->started)
		return life_refuse(life_now(&vm->life), "stop", &last);
	pthread_mutex_lock(&vm->lock);
	vm->stop_asked = true;
	__atomic_store_n(&vm->cancel, true, __ATOMIC_RELEASE);
	vm->stop_ns = c.o.arg;
	now = vm->session != NULL;
	pthread_mutex_unlock(&vm->lock);
	if (!now)
		return 0;
	r = call(vm, &c, "stop", NULL);
	/* It has ended meanwhile: that is what was asked for. */
	return r == -ESHUTDOWN || r == -EBADFD ? 0 : r;
}

static void on_stat(struct order *o, const char *name, u64 val)
{
	struct call *c = container_of(o, struct call, o);

	if (c->n_stats == VM_STATS_MAX)
		return;
	snprintf(c->stat[c->n_stats].name, sizeof(c->stat[0].name), "%s", name);
	c->stat[c->n_stats++].val = val;
}

int orr_vm_stats(orr_vm *vm, void (*line)(void *opaque, const char *name, uint64_t value),
		 void *opaque)
{
	struct call c = { .o = { .op = ORDER_STATS, .stat = on_stat, .fd = -1 },
			  .stat = calloc(VM_STATS_MAX, sizeof(*c.stat)) };
	int r;

	if (!c.stat)
		return fail(-ENOMEM, "out of memory");
	r = call(vm, &c, "read statistics", NULL);
	for (unsigned i = 0; r >= 0 && i < c.n_stats; i++)
		line(opaque, c.stat[i].name, c.stat[i].val);
	free(c.stat);
	return r;
}

static int connect_until(orr_vm *vm, u32 port, const struct timespec *limit)
{
	struct call c = { .o = { .op = ORDER_CONNECT, .arg = port } };
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(&last, -errno, "no socket");
	c.o.fd = pair[0];
	r = call(vm, &c, "connect to the guest", limit);
	/* The device has it, unless it did not come so far. */
	if (c.o.fd >= 0)
		close(c.o.fd);
	if (r < 0)
		close(pair[1]);
	return r < 0 ? r : pair[1];
}

int orr_vm_connect(orr_vm *vm, uint32_t port, int timeout_ms)
{
	struct timespec limit = host_after((u64)MAX(timeout_ms, 0) * 1000000u);

	return connect_until(vm, port, timeout_ms < 0 ? NULL : &limit);
}

/* --- a command in the guest ------------------------------------------------------------------- */

/* What is passed on as it is. */
struct orr_exec_run;

struct wake {
	void (*fn)(void *opaque, orr_exec_run *run);
	void *opaque;
};

static void on_wake(void *opaque, struct exec *x)
{
	struct wake *w = opaque;

	w->fn(w->opaque, (orr_exec_run *)x);
}

void orr_exec_signal(orr_exec_run *run, int sig)
{
	exec_signal((struct exec *)run, sig < 0 ? 0 : (unsigned)sig);
}

void orr_exec_winsize(orr_exec_run *run, unsigned rows, unsigned cols)
{
	exec_winsize((struct exec *)run, rows, cols);
}

void orr_exec_cancel(orr_exec_run *run)
{
	exec_cancel((struct exec *)run);
}

static int check_exec(const struct orr_exec *a)
{
	/* A later version's is longer, and begins as this one. */
	if (a->size < sizeof(*a))
		return fail(-EINVAL, "struct orr_exec: begin with ORR_EXEC_INIT");
	if (a->wake_fd >= 0 && !a->wake)
		return fail(-EINVAL, "struct orr_exec: wake_fd without wake");
	return 0;
}

/* A guest that is there, with an agent, or will be. */
static int has_agent(orr_vm *vm)
{
	int r = 0;

	pthread_mutex_lock(&vm->lock);
	if (!vm->session)
		r = life_refuse(life_now(&vm->life), "run a command", &last);
	else if (!vm_has_vsock(&vm->config.devs))
		r = fail(-ENOTSUP, "the VM was started without vsock");
	else if (!session_init(vm->session))
		r = fail(-ENOTSUP, "the guest has an init of its own, or is not Linux: Orrery's "
				   "agent is not in it");
	pthread_mutex_unlock(&vm->lock);
	return r;
}

/* A connected socket, as soon as the agent listens; until @end. */
static int reach_agent(orr_vm *vm, u64 end)
{
	for (;;) {
		u64 now = host_ns();
		struct timespec limit = host_after(end > now ? end - now : 0);
		int fd = connect_until(vm, WIRE_AGENT_PORT, &limit);

		if (fd != -ECONNREFUSED || host_ns() >= end)
			return fd;
		nanosleep(&(struct timespec){ .tv_nsec = RETRY_NS }, NULL);
	}
}

int orr_vm_exec(orr_vm *vm, const struct orr_exec *exec, int *status)
{
	u64 begun = host_ns(), end = EXEC_FOREVER, reached;
	struct wake wake = { .fn = exec->wake, .opaque = exec->opaque };
	struct exec_cfg cfg = { .argv = exec->argv,
				.env = exec->env,
				.cwd = exec->cwd,
				.tty = exec->tty != 0,
				.rows = exec->rows,
				.cols = exec->cols,
				.in_fd = exec->in,
				.out_fd = exec->out,
				.err_fd = exec->err,
				.wake_fd = exec->wake_fd,
				.wake = on_wake,
				.opaque = &wake };
	struct exec *x = NULL;
	int fd = -1, got = 0, r;

	last = (struct err){ 0 };
	r = check_exec(exec);
	if (r == 0)
		r = exec_new(&cfg, &last, &x);
	if (r == 0)
		r = has_agent(vm);
	if (r == 0) {
		if (exec->timeout_ms >= 0)
			end = begun + (u64)exec->timeout_ms * 1000000u;
		reached = begun + (u64)MAX(exec->wait_ms, 0) * 1000000u;
		r = fd = reach_agent(vm, MIN(end, reached));
	}
	if (r >= 0)
		r = exec_run(x, fd, end, &last, &got);
	if (fd >= 0)
		close(fd);
	exec_free(x);
	if (r == 0 && status)
		*status = got;
	return r;
}
