/* SPDX-License-Identifier: Apache-2.0 */
/*
 * i8042.h - keyboard controller without a keyboard: reset, A20, and polite answers
 */
#ifndef ORR_DEV_I8042_H
#define ORR_DEV_I8042_H

#include "base/compiler.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"

struct i8042;

struct i8042_cfg {
	struct irq_line irq;	     /* keyboard, IRQ 1 */
	void (*reset)(void *opaque); /* the guest pulled the CPU's reset line */
	void *opaque;
};

int i8042_new(const struct i8042_cfg *cfg, struct i8042 **ret); /* 0 or -ENOMEM */
void i8042_free(struct i8042 *k);

/* One byte each: data port 0x60, command port 0x64, system control ports A 0x92 and B 0x61. */
extern const struct bus_ops i8042_data_ops, i8042_cmd_ops, i8042_porta_ops, i8042_portb_ops;
/* Adds the four ports to @b. 0 or a negative errno of bus_add. */
int i8042_attach(struct i8042 *k, struct bus *b);
struct device i8042_device(struct i8042 *k);

#endif
