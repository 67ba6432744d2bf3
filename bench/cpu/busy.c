// SPDX-License-Identifier: Apache-2.0
/*
 * busy.c - /init of a guest that keeps some of its CPUs busy for some guest time
 *
 * usage: busy BUSY SECONDS	(behind "--" on the kernel's command line)
 *
 * A process bound to each of the first BUSY CPUs computes until SECONDS of the guest's clock are
 * over; the others idle. Lines as in kernels.c: "@", "!", and "$" at the end; the "!" line has the
 * number of rounds all of them did together.
 */

#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MAX_BUSY 64
#define ROUND 20000 /* steps between two looks at the clock: some 0.1 ms */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void spin(unsigned int cpu, double end, volatile uint64_t *ret_rounds)
{
	uint64_t h = cpu + 1;
	uint64_t rounds = 0;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		_exit(1);
	while (now() < end) {
		for (unsigned int i = 0; i < ROUND; i++) {
			h = (h ^ i) * 0x9e3779b97f4a7c15ull;
			h ^= h >> 29;
			__asm__ volatile("" : "+r"(h));
		}
		rounds++;
	}
	*ret_rounds = rounds;
	_exit(0);
}

int main(int argc, char **argv)
{
	unsigned int busy = argc > 1 ? (unsigned int)atoi(argv[1]) : 1;
	double seconds = argc > 2 ? atof(argv[2]) : 1;
	uint64_t *rounds =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t sum = 0;
	double start;

	if (rounds == MAP_FAILED || busy > MAX_BUSY)
		return 1;
	dprintf(1, "@ busy cpu\n");
	tcdrain(1);
	start = now();
	for (unsigned int i = 0; i < busy; i++)
		if (!fork())
			spin(i, start + seconds, &rounds[i]);
	while (wait(NULL) > 0)
		;
	for (unsigned int i = 0; i < busy; i++)
		sum += rounds[i];
	dprintf(1, "! busy %llu 0\n$\n", (unsigned long long)sum);
	tcdrain(1);
	if (getpid() == 1)
		reboot(RB_AUTOBOOT);
	return 0;
}
