/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_run.c - what happens around a thunk: pending x87 exceptions, unmasked SSE exceptions
 *
 * How it works
 * SSE exceptions. While the guest masks all of them (every program that does not ask otherwise),
 * a thunk runs under the guest's MXCSR and nothing can trap. When some are unmasked the thunk
 * still runs under the guest's MXCSR, and a trap of the host becomes SIGFPE; the handler sends
 * the thunk to its resume point, which keeps the MXCSR flags that the processor has set, leaves
 * the destination alone and reports a fault. Running with everything masked and looking at the
 * flags afterwards is simpler, but wrong: a masked overflow or underflow sets other flags than an
 * unmasked one, a tiny exact result none at all, and an unmasked invalid operand keeps the other
 * elements of a vector from setting theirs (SDM vol. 1, 4.9.1.5, 11.5.2, 11.5.3).
 *
 * The guard says which code of this thread may trap. It is set only around a thunk that can, so
 * any other SIGFPE of the process goes to whoever had the signal before.
 *
 * x87 exceptions. The x87 unit reports an exception at the next waiting instruction. The check is
 * made here, before the guest's state is loaded into the host, so the host itself never traps.
 */
#include "cpu/soft/x86/vec_priv.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#define MXCSR_BITS 0xffffu /* the others are reserved; DAZ exists on every x86-64 CPU */
#define FSW_EXC 0x3fu	   /* IE DE ZE OE UE PE, in the places of their masks in FCW */

struct guard {
	const u8 *start, *end, *resume;
};

static _Thread_local struct guard guard;
static _Thread_local bool unblocked;
static struct sigaction previous;

static void on_sigfpe(int sig, siginfo_t *si, void *ctx)
{
	ucontext_t *uc = ctx;
	const u8 *rip = (const u8 *)uc->uc_mcontext.gregs[REG_RIP];

	if (guard.start && rip >= guard.start && rip < guard.end) {
		uc->uc_mcontext.gregs[REG_RIP] = (greg_t)guard.resume;
		return;
	}
	if (previous.sa_flags & SA_SIGINFO)
		previous.sa_sigaction(sig, si, ctx);
	else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN)
		previous.sa_handler(sig);
	else
		signal(SIGFPE, SIG_DFL); /* the instruction faults again and ends the process */
}

int vec_trap_init(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct sigaction sa = { .sa_sigaction = on_sigfpe, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	struct sigaction old;
	int rc = 0;

	sigemptyset(&sa.sa_mask);
	pthread_mutex_lock(&lock);
	if (sigaction(SIGFPE, NULL, &old) < 0) {
		rc = -errno;
	} else if (!(old.sa_flags & SA_SIGINFO) || old.sa_sigaction != on_sigfpe) {
		previous = old;
		if (sigaction(SIGFPE, &sa, NULL) < 0)
			rc = -errno;
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

/* A blocked signal that the processor raises ends the process, so it must not be blocked. */
static void unblock_sigfpe(void)
{
	sigset_t s;

	sigemptyset(&s);
	sigaddset(&s, SIGFPE);
	pthread_sigmask(SIG_UNBLOCK, &s, NULL);
	unblocked = true;
}

static int run_guarded(struct x86_cpu *c, void *mem, const struct vec_thunk *t)
{
	int rc;

	if (unlikely(!unblocked))
		unblock_sigfpe();
	guard = (struct guard){ (const u8 *)(uintptr_t)t->body, t->end, t->resume };
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	rc = t->body(c, mem);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	guard.start = NULL;
	if (rc)
		return x86_fault(c, c->cr4 & CR4_OSXMMEXCPT ? X86_XM : X86_UD);
	return 0;
}

int vec_run_unmasked(struct x86_cpu *c, void *mem, const struct vec_thunk *t)
{
	/* LDMXCSR of a reserved bit would fault the host; isa/x86 lets none in, a snapshot might.
	 */
	c->x.mxcsr &= MXCSR_BITS;
	return run_guarded(c, mem, t);
}

/*
 * Asked from flags and masks rather than from FSW.ES: the host derives ES from them as well when
 * it loads the image, so this is exactly when it would trap.
 */
static bool x87_pending(const struct x86_cpu *c)
{
	return (c->x.fsw & ~c->x.fcw & FSW_EXC) != 0;
}

/*
 * The pointers to the last instruction and operand are host addresses by now; the guest sees
 * zeros (docs/quirks.md). Layouts: SDM vol. 1, figures 8-9 and 8-12. Reserved halves of the
 * 32-bit image are all ones.
 */
static void scrub_env(u8 *env, enum vec_env kind)
{
	unsigned i;

	if (kind == VEC_ENV_16) {
		memset(env + 6, 0, 8);
	} else if (kind == VEC_ENV_32) {
		memset(env + 12, 0, 14);
		for (i = 2; i < 12; i += 4)
			memset(env + i, 0xff, 2);
		memset(env + 26, 0xff, 2);
	}
}

int vec_run_x87(struct x86_cpu *c, void *mem, const struct vec_thunk *t)
{
	u32 mask = c->x.mxcsr_mask;
	int rc;

	if (t->waits && unlikely(x87_pending(c)))
		return x86_fault(c, X86_MF);
	c->x.mxcsr &= MXCSR_BITS;
	rc = t->resume ? run_guarded(c, mem, t) : t->body(c, mem);
	c->x.fop = 0;
	c->x.fip = 0;
	c->x.fdp = 0;
	c->x.mxcsr_mask = mask; /* FXSAVE stored the host's */
	if (unlikely(t->env))
		scrub_env(mem, t->env);
	return rc;
}

int vec_ldmxcsr(struct x86_cpu *c, void *mem)
{
	u32 v;

	memcpy(&v, mem, 4);
	if (v & ~MXCSR_BITS)
		return x86_fault_err(c, X86_GP, 0);
	c->x.mxcsr = v;
	return 0;
}

int vec_stmxcsr(struct x86_cpu *c, void *mem)
{
	memcpy(mem, &c->x.mxcsr, 4);
	return 0;
}

int vec_fwait(struct x86_cpu *c, void *mem)
{
	return x87_pending(c) ? x86_fault(c, X86_MF) : 0;
}
