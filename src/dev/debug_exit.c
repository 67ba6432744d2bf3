/* SPDX-License-Identifier: Apache-2.0 */
/*
 * debug_exit.c - a port through which a bare-metal guest ends the run with a status
 *
 * A write of @val to the first port, 1, 2 or 4 bytes wide, ends the run with (@val << 1) | 1, so
 * that no value can be taken for the success of a run that ended in another way. This is the
 * convention that kernel test suites know as isa-debug-exit.
 */
#include "dev/debug_exit.h"

#include <errno.h>
#include <stdlib.h>

struct debug_exit_st {
	u32 val; /* the last one written */
};

struct debug_exit {
	struct debug_exit_cfg cfg;
	struct debug_exit_st st;
};

static const struct field_desc fields[] = {
	DEV_FIELD(struct debug_exit_st, val),
	DEV_FIELDS_END,
};

static u64 bus_rd(void *opaque, u64 off, unsigned size, unsigned cpu)
{
	return 0;
}

static void bus_wr(void *opaque, u64 off, unsigned size, u64 val, unsigned cpu)
{
	struct debug_exit *d = opaque;

	if (off)
		return;
	d->st.val = (u32)val;
	if (d->cfg.exit)
		d->cfg.exit(d->cfg.opaque, d->st.val << 1 | 1);
}

const struct bus_ops debug_exit_bus_ops = { .read = bus_rd, .write = bus_wr };

static void dev_reset(void *dev)
{
	((struct debug_exit *)dev)->st = (struct debug_exit_st){ 0 };
}

static void *dev_state(void *dev, unsigned i)
{
	return i ? NULL : &((struct debug_exit *)dev)->st;
}

static const struct device_ops device_ops = {
	.name = "debug_exit",
	.reset = dev_reset,
	.state = dev_state,
	.fields = fields,
};

struct device debug_exit_device(struct debug_exit *d)
{
	return (struct device){ &device_ops, d };
}

int debug_exit_new(const struct debug_exit_cfg *cfg, struct debug_exit **ret)
{
	struct debug_exit *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->cfg = *cfg;
	*ret = d;
	return 0;
}

void debug_exit_free(struct debug_exit *d)
{
	free(d);
}
