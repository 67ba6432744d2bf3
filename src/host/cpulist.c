// SPDX-License-Identifier: Apache-2.0
/*
 * cpulist.c - sets of host CPUs, and the text "0-3,8" that the kernel writes them as
 */
#include "host/cpulist.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

_Static_assert(CPULIST_MAX % 64 == 0, "whole words");

unsigned cpulist_next(const struct cpulist *l, unsigned from)
{
	for (unsigned i = from / 64; i < CPULIST_WORDS; i++) {
		u64 w = l->w[i];

		if (i == from / 64)
			w &= ~0ull << (from % 64);
		if (w)
			return i * 64 + (unsigned)__builtin_ctzll(w);
	}
	return CPULIST_NONE;
}

unsigned cpulist_count(const struct cpulist *l)
{
	unsigned n = 0;

	for (unsigned i = 0; i < CPULIST_WORDS; i++)
		n += (unsigned)__builtin_popcountll(l->w[i]);
	return n;
}

void cpulist_and(struct cpulist *l, const struct cpulist *other)
{
	for (unsigned i = 0; i < CPULIST_WORDS; i++)
		l->w[i] &= other->w[i];
}

void cpulist_or(struct cpulist *l, const struct cpulist *other)
{
	for (unsigned i = 0; i < CPULIST_WORDS; i++)
		l->w[i] |= other->w[i];
}

void cpulist_sub(struct cpulist *l, const struct cpulist *other)
{
	for (unsigned i = 0; i < CPULIST_WORDS; i++)
		l->w[i] &= ~other->w[i];
}

/* A number at **p, which is advanced. CPULIST_NONE: there is none, or it is too large. */
static unsigned number(const char **p)
{
	unsigned n = 0;

	if (**p < '0' || **p > '9')
		return CPULIST_NONE;
	for (; **p >= '0' && **p <= '9'; (*p)++)
		n = MIN(n * 10 + (unsigned)(**p - '0'), CPULIST_MAX);
	return n;
}

int cpulist_parse(const char *text, struct cpulist *ret)
{
	struct cpulist l = { 0 };
	const char *p = text;

	while (*p && *p != '\n') {
		unsigned a = number(&p), b = a;

		if (*p == '-') {
			p++;
			b = number(&p);
		}
		if (a >= CPULIST_MAX || b >= CPULIST_MAX || b < a)
			return -EINVAL;
		for (; a <= b; a++)
			cpulist_add(&l, a);
		if (*p == ',' && p[1] >= '0' && p[1] <= '9')
			p++;
		else if (*p && *p != '\n')
			return -EINVAL;
	}
	if (*p && p[1])
		return -EINVAL;
	*ret = l;
	return 0;
}

char *cpulist_format(const struct cpulist *l, char *ret, size_t size)
{
	size_t at = 0;

	ret[0] = 0;
	for (unsigned a = cpulist_next(l, 0), b; a < CPULIST_MAX; a = cpulist_next(l, b + 1)) {
		char piece[32];
		int n;

		for (b = a; cpulist_has(l, b + 1);)
			b++;
		n = a == b ? snprintf(piece, sizeof(piece), "%s%u", at ? "," : "", a)
			   : snprintf(piece, sizeof(piece), "%s%u-%u", at ? "," : "", a, b);
		/* Room for the mark that says there is more. */
		if (at + (size_t)n + sizeof(",...") > size) {
			snprintf(ret + at, size - at, "%s...", at ? "," : "");
			break;
		}
		memcpy(ret + at, piece, (size_t)n + 1);
		at += (size_t)n;
	}
	return ret;
}

int cpulist_allowed(struct cpulist *ret)
{
	cpu_set_t set[CPULIST_MAX / CPU_SETSIZE];
	struct cpulist l = { 0 };

	_Static_assert(sizeof(set) * 8 == CPULIST_MAX, "all CPUs");
	memset(set, 0, sizeof(set));
	if (sched_getaffinity(0, sizeof(set), set) < 0)
		return -errno;
	for (unsigned i = 0; i < CPULIST_MAX; i++)
		if (CPU_ISSET_S(i, sizeof(set), set))
			cpulist_add(&l, i);
	*ret = l;
	return 0;
}

int cpulist_confine(const struct cpulist *l)
{
	cpu_set_t set[CPULIST_MAX / CPU_SETSIZE];

	memset(set, 0, sizeof(set));
	cpulist_each(l, cpu) CPU_SET_S(cpu, sizeof(set), set);
	return sched_setaffinity(0, sizeof(set), set) < 0 ? -errno : 0;
}
