/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus.h - MMIO and port-I/O ranges
 *
 * A bus is an ordered set of disjoint ranges. An access that hits no range reads as all ones and
 * drops writes, as on a PC; the caller is told.
 */
#ifndef ORR_BUS_BUS_H
#define ORR_BUS_BUS_H

#include "base/compiler.h"
#include "base/err.h"

enum bus_kind { BUS_MMIO, BUS_PIO, BUS_KINDS };

/*
 * Register access of one range. @off is relative to the range, @size is 1, 2, 4 or 8 and the
 * access does not leave the range. Reads return the value zero-extended.
 * @cpu is the index of the vCPU that accesses (devices with per-CPU registers need it).
 */
struct bus_ops {
	u64 (*read)(void *opaque, u64 off, unsigned size, unsigned cpu);
	void (*write)(void *opaque, u64 off, unsigned size, u64 val, unsigned cpu);
};

struct bus;

int bus_new(struct bus **ret_bus); /* 0 or -ENOMEM */
void bus_free(struct bus *b);

/* Adds [@base, @base+@len). @name (static storage) is for traces. 0, -EINVAL, -ENOMEM, -EEXIST. */
int bus_add(struct bus *b, enum bus_kind kind, u64 base, u64 len, const struct bus_ops *ops,
	    void *opaque, const char *name);

/*
 * Returns whether a device answered. On a miss *ret_val is all ones of @size. An access that
 * straddles the end of a range is a miss.
 */
bool bus_read(struct bus *b, enum bus_kind kind, u64 addr, unsigned size, unsigned cpu,
	      u64 *ret_val);
bool bus_write(struct bus *b, enum bus_kind kind, u64 addr, unsigned size, u64 val, unsigned cpu);

#endif
