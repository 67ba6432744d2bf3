// SPDX-License-Identifier: Apache-2.0
/*
 * sigbus.c - memory that files are mapped into, and that must survive their truncation
 *
 * How it works
 * An access behind the end of a mapped file raises SIGBUS in whoever made it: translated guest
 * code, a device, a worker. The handler maps a page of zeros there and the access is repeated. The
 * page stays detached from the file until the range is mapped anew. What is not in a guarded range
 * is no business of ours: the previous handler's, or the end.
 *
 * The table is read by the handler, so it is made of atomics: a length is stored last, and cleared
 * first.
 */
#include "host/sigbus.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define RANGES_MAX 32u
#define PAGE 4096u

static struct {
	_Atomic uintptr_t base;
	_Atomic u64 len; /* 0: unused */
} range[RANGES_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction previous;
static bool installed;

static bool guarded(uintptr_t at)
{
	for (unsigned i = 0; i < RANGES_MAX; i++) {
		u64 len = atomic_load_explicit(&range[i].len, memory_order_acquire);

		if (len && at - atomic_load_explicit(&range[i].base, memory_order_relaxed) < len)
			return true;
	}
	return false;
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)info->si_addr;
	int err = errno;
	bool healed =
		guarded(at) && mmap((void *)ALIGN_DOWN(at, PAGE), PAGE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;

	errno = err;
	if (healed)
		return;
	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(sig, info, context);
		return;
	}
	if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
		previous.sa_handler(sig);
		return;
	}
	/* The access is repeated, and ends the process as it would have. */
	signal(SIGBUS, SIG_DFL);
}

int sigbus_guard(void *base, u64 len)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	int r = -ENOSPC;

	sigemptyset(&sa.sa_mask);
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < RANGES_MAX && r < 0; i++) {
		if (atomic_load(&range[i].len))
			continue;
		atomic_store(&range[i].base, (uintptr_t)base);
		atomic_store_explicit(&range[i].len, len, memory_order_release);
		r = 0;
	}
	if (r == 0 && !installed)
		installed = sigaction(SIGBUS, &sa, &previous) == 0;
	pthread_mutex_unlock(&lock);
	return r;
}

void sigbus_unguard(void *base)
{
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < RANGES_MAX; i++)
		if (atomic_load(&range[i].len) && atomic_load(&range[i].base) == (uintptr_t)base)
			atomic_store(&range[i].len, 0);
	pthread_mutex_unlock(&lock);
}
