/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus.c - MMIO and port-I/O ranges: a sorted array with the last hit remembered
 */
#include "bus/bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIO_PORTS 0x10000ull

struct bus_range {
	u64 base, last; /* inclusive, so that a range may end at 2^64 - 1 */
	const struct bus_ops *ops;
	void *opaque;
	const char *name;
};

struct bus_space {
	struct bus_range *r; /* owned, ascending and disjoint */
	unsigned n, cap;
	unsigned hit; /* index of the last hit: a guest polls one device at a time */
};

struct bus {
	struct bus_space space[BUS_KINDS];
};

int bus_new(struct bus **ret_bus)
{
	struct bus *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	*ret_bus = b;
	return 0;
}

void bus_free(struct bus *b)
{
	if (!b)
		return;
	for (unsigned k = 0; k < BUS_KINDS; k++)
		free(b->space[k].r);
	free(b);
}

/* Index of the first range whose last address is >= @addr, or n. */
static unsigned lower(const struct bus_space *s, u64 addr)
{
	unsigned lo = 0, hi = s->n;

	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;
		if (s->r[mid].last < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int bus_add(struct bus *b, enum bus_kind kind, u64 base, u64 len, const struct bus_ops *ops,
	    void *opaque, const char *name)
{
	struct bus_space *s;
	u64 last = base + (len - 1);
	unsigned i;

	if ((unsigned)kind >= BUS_KINDS || !len || last < base || !ops || !ops->read || !ops->write)
		return -EINVAL;
	if (kind == BUS_PIO && last >= PIO_PORTS)
		return -EINVAL;
	s = &b->space[kind];
	i = lower(s, base);
	if (i < s->n && s->r[i].base <= last)
		return -EEXIST;
	if (s->n == s->cap) {
		unsigned cap = s->cap ? 2 * s->cap : 16;
		struct bus_range *r = realloc(s->r, cap * sizeof(*r));
		if (!r)
			return -ENOMEM;
		s->r = r;
		s->cap = cap;
	}
	memmove(&s->r[i + 1], &s->r[i], (s->n - i) * sizeof(*s->r));
	s->r[i] = (struct bus_range){ base, last, ops, opaque, name };
	s->n++;
	s->hit = i;
	return 0;
}

static struct bus_range *find(struct bus *b, enum bus_kind kind, u64 addr, unsigned size)
{
	struct bus_space *s = &b->space[kind];
	unsigned i = s->hit;

	if (i >= s->n || addr < s->r[i].base || addr > s->r[i].last) {
		i = lower(s, addr);
		if (i == s->n || addr < s->r[i].base)
			return NULL;
		s->hit = i;
	}
	return s->r[i].last - addr >= size - 1 ? &s->r[i] : NULL;
}

static u64 ones(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (1ull << (8 * size)) - 1;
}

bool bus_read(struct bus *b, enum bus_kind kind, u64 addr, unsigned size, unsigned cpu,
	      u64 *ret_val)
{
	struct bus_range *r = find(b, kind, addr, size);

	if (!r) {
		*ret_val = ones(size);
		return false;
	}
	*ret_val = r->ops->read(r->opaque, addr - r->base, size, cpu) & ones(size);
	return true;
}

bool bus_write(struct bus *b, enum bus_kind kind, u64 addr, unsigned size, u64 val, unsigned cpu)
{
	struct bus_range *r = find(b, kind, addr, size);

	if (!r)
		return false;
	r->ops->write(r->opaque, addr - r->base, size, val & ones(size), cpu);
	return true;
}
