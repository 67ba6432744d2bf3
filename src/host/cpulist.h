/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpulist.h - sets of host CPUs, and the text "0-3,8" that the kernel writes them as
 */
#ifndef ORR_HOST_CPULIST_H
#define ORR_HOST_CPULIST_H

#include "base/compiler.h"

#define CPULIST_MAX 4096u /* CPUs with a higher number are not used */
#define CPULIST_WORDS (CPULIST_MAX / 64)
#define CPULIST_NONE CPULIST_MAX

struct cpulist {
	u64 w[CPULIST_WORDS];
};

static inline bool cpulist_has(const struct cpulist *l, unsigned cpu)
{
	return cpu < CPULIST_MAX && (l->w[cpu / 64] >> (cpu % 64) & 1);
}

/* What is not below CPULIST_MAX is left out. */
static inline void cpulist_add(struct cpulist *l, unsigned cpu)
{
	if (cpu < CPULIST_MAX)
		l->w[cpu / 64] |= BIT(cpu % 64);
}

static inline void cpulist_del(struct cpulist *l, unsigned cpu)
{
	if (cpu < CPULIST_MAX)
		l->w[cpu / 64] &= ~BIT(cpu % 64);
}

/* The first member that is >= @from, or CPULIST_NONE. */
unsigned cpulist_next(const struct cpulist *l, unsigned from);
#define cpulist_each(l, cpu)                                                                       \
	for (unsigned cpu = cpulist_next(l, 0); cpu < CPULIST_MAX; cpu = cpulist_next(l, cpu + 1))

unsigned cpulist_count(const struct cpulist *l);
void cpulist_and(struct cpulist *l, const struct cpulist *other);
void cpulist_or(struct cpulist *l, const struct cpulist *other);
void cpulist_sub(struct cpulist *l, const struct cpulist *other);

/*
 * Reads the kernel's form (Documentation/admin-guide/cputopology.rst): ranges and numbers separated by
 * commas, a newline behind them. An empty text is an empty set. 0, or -EINVAL for anything else, with
 * ranges that run backwards and numbers from CPULIST_MAX on among it.
 */
int cpulist_parse(const char *text, struct cpulist *ret);

/* Writes that form and a NUL, cut with "..." if it does not fit into @size (>= 8). Returns @ret. */
char *cpulist_format(const struct cpulist *l, char *ret, size_t size);

/* The CPUs that the calling thread may use (sched_getaffinity). 0 or negative errno. */
int cpulist_allowed(struct cpulist *ret);
/* Lets the calling thread, and threads that it creates, use these only. 0 or negative errno. */
int cpulist_confine(const struct cpulist *l);

#endif
