// SPDX-License-Identifier: Apache-2.0
/*
 * stress_main.c - runs the groups of checks and prints one line for each
 *
 * The same program runs on the host and in the guest. It checks itself, and what it prints, a hash
 * per group, must be the same in both: floating point in all rounding modes, for one, has no
 * simpler reference than the processor itself.
 *
 * usage: stress [GROUP...]
 */
#include "stress.h"

#include <stdio.h>
#include <string.h>

static _Atomic unsigned failures;

void stress_fail(const char *file, int line, const char *what, long long got, long long want)
{
	const char *base = strrchr(file, '/');

	/* A broken invariant in a loop would otherwise drown everything. */
	if (failures++ < 20)
		fprintf(stderr, "%s:%d: %s: got %lld (%#llx), expected %lld\n",
			base ? base + 1 : file, line, what, got, (unsigned long long)got, want);
}

uint64_t stress_hash(uint64_t h, const void *bytes, size_t n)
{
	const unsigned char *p = bytes;

	h = h ? h : 0xcbf29ce484222325u;
	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	return h;
}

static const struct {
	const char *name;
	uint64_t (*run)(void);
} groups[] = {
	{ "float", stress_float },	   { "modes", stress_modes },
	{ "preempt", stress_preempt },	   { "runs", stress_runs },
	{ "atomics", stress_atomics },	   { "condvar", stress_condvar },
	{ "shootdown", stress_shootdown }, { "clock", stress_clock },
	{ "faults", stress_faults },	   { "smc", stress_smc },
	{ "forks", stress_forks },	   { "ptrace", stress_ptrace },
};

static bool wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(name, argv[i]))
			return true;
	return argc < 2;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		unsigned before = failures;
		uint64_t value;

		if (!wanted(groups[i].name, argc, argv))
			continue;
		value = groups[i].run();
		printf("%s %016llx %s\n", groups[i].name, (unsigned long long)value,
		       failures == before ? "ok" : "FAILED");
	}
	return failures ? 1 : 0;
}
