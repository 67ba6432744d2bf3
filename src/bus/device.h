/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.h - what every device offers to the VM besides its registers
 *
 * How it works
 * A device keeps what the guest can observe in one struct (`st`), or one per CPU, and describes
 * its fields in a table. Reset is `st = initial(cfg)`; a snapshot and the state digest walk the
 * table, so neither knows a device. Timers, lines and pointers (`rt`) are never saved: resume
 * rebuilds them from `st`.
 */
#ifndef ORR_BUS_DEVICE_H
#define ORR_BUS_DEVICE_H

#include "base/compiler.h"

/* One saved field. Its bytes must be a function of guest-visible state: no pointers, no padding. */
struct field_desc {
	const char *name; /* NULL ends a table */
	u32 offset, size; /* bytes */
};

#define DEV_FIELD(type, member)                                                                    \
	{                                                                                          \
#member, offsetof(type, member), sizeof(((type *)0)->member)                       \
	}
#define DEV_FIELDS_END                                                                             \
	{                                                                                          \
		NULL, 0, 0                                                                         \
	}

struct device_ops {
	const char *name; /* of the kind of device; static storage */
	/* st = initial(cfg), timers and lines follow. Power-on and system reset. */
	void (*reset)(void *dev);
	/* Nothing of the device may change until resume. NULL: it only acts when the guest does. */
	void (*pause)(void *dev);
	/* Rebuilds rt (timers, line levels) from st: after pause, after a restored snapshot. */
	void (*resume)(void *dev);
	/* The @i-th struct that @fields describes, or NULL behind the last. */
	void *(*state)(void *dev, unsigned i);
	const struct field_desc *fields;
};

struct device {
	const struct device_ops *ops;
	void *dev; /* borrowed */
};

void device_reset(const struct device *d);
void device_pause(const struct device *d);
void device_resume(const struct device *d);

/* Feeds the device's name and saved fields into a hash, in table order. */
void device_digest(const struct device *d, void (*add)(void *h, const void *p, size_t n), void *h);

#endif
