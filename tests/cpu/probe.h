/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.h - what tests ask of an engine: a digest of all vCPUs, a line of its statistics
 */
#ifndef ORR_TESTS_CPU_PROBE_H
#define ORR_TESTS_CPU_PROBE_H

#include "cpu/soft/soft.h"

#include <string.h>

#define PROBE_HASH 0xcbf29ce484222325ull /* FNV-1a, of nothing */

static inline void probe_hash(void *h, const void *p, size_t n)
{
	u64 *x = h;

	for (size_t i = 0; i < n; i++)
		*x = (*x ^ ((const u8 *)p)[i]) * 0x100000001b3ull;
}

static inline u64 probe_digest(struct soft *s)
{
	u64 h = PROBE_HASH;

	soft_digest(s, probe_hash, &h);
	return h;
}

struct probe_query {
	const char *name;
	u64 val;
};

static inline void probe_line(void *o, const char *name, u64 val)
{
	struct probe_query *q = o;

	if (!strcmp(q->name, name))
		q->val = val;
}

/* 0 if there is no such line. */
static inline u64 probe_stat(struct soft *s, const char *name)
{
	struct probe_query q = { .name = name };

	soft_stats(s, probe_line, &q);
	return q.val;
}

#endif
