/* SPDX-License-Identifier: Apache-2.0 */
/*
 * debug_exit.h - a port through which a bare-metal guest ends the run with a status
 */
#ifndef ORR_DEV_DEBUG_EXIT_H
#define ORR_DEV_DEBUG_EXIT_H

#include "base/compiler.h"
#include "bus/bus.h"
#include "bus/device.h"

#define DEBUG_EXIT_PORTS 4u

struct debug_exit;

struct debug_exit_cfg {
	/* A write of @val to the first port gives @code = (@val << 1) | 1, never 0. */
	void (*exit)(void *opaque, u32 code);
	void *opaque;
};

int debug_exit_new(const struct debug_exit_cfg *cfg, struct debug_exit **ret); /* 0 or -ENOMEM */
void debug_exit_free(struct debug_exit *d);

extern const struct bus_ops debug_exit_bus_ops; /* for a range of DEBUG_EXIT_PORTS */
struct device debug_exit_device(struct debug_exit *d);

#endif
