// SPDX-License-Identifier: Apache-2.0
/*
 * stress_threads.c - atomics, futexes, TLB shootdown and clocks among threads
 */
#include "stress.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define THREADS 6u

static void run_threads(void *(*fn)(void *))
{
	pthread_t t[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, fn, (void *)i), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
}

/* --- read-modify-write instructions of all sizes, also across cache lines and pages ------------
 */

#define ATOMIC_ROUNDS 3000u
#define SPLIT_EVERY 100u

static struct {
	_Atomic uint64_t add, cas, bits;
	unsigned __int128 wide __attribute__((aligned(16)));
	_Atomic uint8_t byte;
} at;
static char *split; /* 4 bytes before the end of a page */

static bool cas16(unsigned __int128 *p, unsigned __int128 *old, unsigned __int128 new)
{
	bool ok;
	uint64_t *o = (uint64_t *)old;

	__asm__ volatile("lock cmpxchg16b %1"
			 : "=@ccz"(ok), "+m"(*p), "+a"(o[0]), "+d"(o[1])
			 : "b"((uint64_t) new), "c"((uint64_t)(new >> 64))
			 : "memory");
	return ok;
}

static void *atomic_thread(void *arg)
{
	uint64_t me = (uintptr_t)arg, old;
	unsigned __int128 wide;

	for (unsigned i = 0; i < ATOMIC_ROUNDS; i++) {
		atomic_fetch_add(&at.add, me + 1);
		old = atomic_load(&at.cas);
		while (!atomic_compare_exchange_weak(&at.cas, &old, old * 3 + 1))
			;
		wide = *(volatile unsigned __int128 *)&at.wide;
		while (!cas16(&at.wide, &wide, wide + ((unsigned __int128)1 << 64 | 1)))
			;
		atomic_fetch_xor(&at.bits, 1ull << (me * 8 + i % 8));
		atomic_fetch_sub(&at.byte, 1);
		/* Slow on a real processor, which may even trap each. */
		if (i % SPLIT_EVERY == 0)
			__asm__ volatile("lock incq %0" : "+m"(*(uint64_t *)split)::"memory", "cc");
		if (i % 512 == 0)
			sched_yield();
	}
	return NULL;
}

uint64_t stress_atomics(void)
{
	char *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t total = (uint64_t)THREADS * ATOMIC_ROUNDS, want = 0, unaligned;

	CHECK(two != MAP_FAILED);
	if (two == MAP_FAILED)
		return 0;
	split = two + 4092;
	run_threads(atomic_thread);
	for (uint64_t i = 0; i < total; i++)
		want = want * 3 + 1;
	CHECK_EQ(at.add, (uint64_t)ATOMIC_ROUNDS * THREADS * (THREADS + 1) / 2);
	CHECK_EQ(at.cas, want);
	CHECK_EQ((uint64_t)at.wide, total);
	CHECK_EQ((uint64_t)(at.wide >> 64), total);
	CHECK_EQ(at.byte, (uint8_t)-total);
	__builtin_memcpy(&unaligned, split, sizeof(unaligned));
	CHECK_EQ(unaligned, total / SPLIT_EVERY);
	munmap(two, 8192);
	return stress_hash(0, &at, sizeof(at));
}

/* --- a bounded buffer: mutexes and condition variables, which are futexes ----------------------
 */

#define QUEUE_SLOTS 4u
#define QUEUE_ITEMS 1500u

static struct {
	pthread_mutex_t lock;
	pthread_cond_t filled, emptied;
	unsigned slot[QUEUE_SLOTS], head, tail, left;
	uint64_t sum;
} q = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.filled = PTHREAD_COND_INITIALIZER,
	.emptied = PTHREAD_COND_INITIALIZER,
	.left = QUEUE_ITEMS * THREADS / 2,
};

static void *queue_thread(void *arg)
{
	bool producer = (uintptr_t)arg % 2;

	pthread_mutex_lock(&q.lock);
	for (unsigned i = 0; producer && i < QUEUE_ITEMS; i++) {
		while (q.head - q.tail == QUEUE_SLOTS)
			pthread_cond_wait(&q.emptied, &q.lock);
		q.slot[q.head++ % QUEUE_SLOTS] = i;
		pthread_cond_signal(&q.filled);
	}
	while (!producer && q.left) {
		if (q.head == q.tail) {
			pthread_cond_wait(&q.filled, &q.lock);
			continue;
		}
		q.sum += q.slot[q.tail++ % QUEUE_SLOTS];
		if (!--q.left)
			pthread_cond_broadcast(&q.filled);
		pthread_cond_signal(&q.emptied);
	}
	pthread_mutex_unlock(&q.lock);
	return NULL;
}

uint64_t stress_condvar(void)
{
	run_threads(queue_thread);
	CHECK_EQ(q.sum, (uint64_t)THREADS / 2 * QUEUE_ITEMS * (QUEUE_ITEMS - 1) / 2);
	CHECK_EQ(q.head, q.tail);
	return q.sum;
}

/* --- no CPU writes through a translation that another one has taken away -----------------------
 */

#define SHOOT_ROUNDS 60u

static volatile uint64_t *shoot_page;
static atomic_bool shoot_over;
static _Atomic unsigned shoot_faults;
static __thread sigjmp_buf shoot_back;
static __thread bool shoot_armed;

static void on_shoot(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (!shoot_armed || info->si_addr < (void *)shoot_page ||
	    info->si_addr >= (void *)(shoot_page + 512)) {
		signal(sig, SIG_DFL);
		return;
	}
	shoot_faults++;
	siglongjmp(shoot_back, 1);
}

static void *shoot_thread(void *arg)
{
	uintptr_t me = (uintptr_t)arg;

	if (sigsetjmp(shoot_back, 1))
		sched_yield();
	shoot_armed = true;
	while (!shoot_over)
		shoot_page[me]++;
	return NULL;
}

/*
 * Takes the page from the writers, by protection or by another page in its place, and watches it
 * through a second mapping: nothing may change any more.
 */
static void shoot_once(void *page, int fd, const volatile uint64_t *alias, bool replace)
{
	uint64_t seen[3];

	usleep(100);
	if (replace)
		CHECK(mmap(page, 4096, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page);
	else
		CHECK_EQ(mprotect(page, 4096, PROT_READ), 0);
	for (unsigned i = 0; i < 3; i++)
		seen[i] = alias[i];
	usleep(100);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(alias[i], seen[i]);
	if (replace)
		CHECK(mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
		      page);
	else
		CHECK_EQ(mprotect(page, 4096, PROT_READ | PROT_WRITE), 0);
}

uint64_t stress_shootdown(void)
{
	struct sigaction act = { .sa_sigaction = on_shoot, .sa_flags = SA_SIGINFO }, old;
	int fd = memfd_create("page", 0);
	const volatile uint64_t *alias;
	pthread_t t[3];
	void *page;

	CHECK_EQ(ftruncate(fd, 4096), 0);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	alias = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(page != MAP_FAILED && alias != MAP_FAILED);
	if (page == MAP_FAILED || alias == MAP_FAILED)
		return 0;
	shoot_page = page;
	sigaction(SIGSEGV, &act, &old);
	for (uintptr_t i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, shoot_thread, (void *)i), 0);
	for (unsigned r = 0; r < SHOOT_ROUNDS; r++)
		shoot_once(page, fd, alias, r % 3 == 0);
	shoot_over = true;
	for (unsigned i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	CHECK(shoot_faults > 0);
	sigaction(SIGSEGV, &old, NULL);
	munmap((void *)alias, 4096);
	munmap(page, 4096);
	close(fd);
	return SHOOT_ROUNDS;
}

/* --- time never runs backwards, neither on one CPU nor from one to another ---------------------
 */

#define CLOCK_ROUNDS 3000u

static _Atomic uint64_t latest, latest_tsc;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t rdtsc_ordered(void)
{
	uint32_t lo, hi;

	__asm__ volatile("lfence; rdtsc; lfence" : "=a"(lo), "=d"(hi)::"memory");
	return (uint64_t)hi << 32 | lo;
}

/* What was read must not be less than what anybody had published before it was read. */
static void forwards(_Atomic uint64_t *last, uint64_t (*read)(void))
{
	uint64_t before = atomic_load(last), now = read();

	if (now < before)
		CHECK_EQ(now, before);
	while (now > before && !atomic_compare_exchange_weak(last, &before, now))
		;
}

static void *clock_thread(void *arg)
{
	int cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
	cpu_set_t set;

	for (unsigned i = 0; i < CLOCK_ROUNDS; i++) {
		forwards(&latest, now_ns);
		forwards(&latest_tsc, rdtsc_ordered);
		if (i % 100 == 0 && cpus > 1) {
			CPU_ZERO(&set);
			CPU_SET(((uintptr_t)arg + i / 100) % (unsigned)cpus, &set);
			CHECK_EQ(sched_setaffinity(0, sizeof(set), &set), 0);
		}
	}
	return NULL;
}

uint64_t stress_clock(void)
{
	run_threads(clock_thread);
	return CLOCK_ROUNDS;
}
