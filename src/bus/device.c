/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.c - what every device offers to the VM besides its registers
 */
#include "bus/device.h"

#include <string.h>

void device_reset(const struct device *d)
{
	d->ops->reset(d->dev);
}

void device_pause(const struct device *d)
{
	if (d->ops->pause)
		d->ops->pause(d->dev);
}

void device_resume(const struct device *d)
{
	if (d->ops->resume)
		d->ops->resume(d->dev);
}

void device_digest(const struct device *d, void (*add)(void *h, const void *p, size_t n), void *h)
{
	const u8 *st;

	add(h, d->ops->name, strlen(d->ops->name) + 1);
	for (unsigned i = 0; (st = d->ops->state(d->dev, i)); i++)
		for (const struct field_desc *f = d->ops->fields; f->name; f++)
			add(h, st + f->offset, f->size);
}
