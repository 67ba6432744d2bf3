// SPDX-License-Identifier: Apache-2.0
/*
 * devices.c - the devices that a user adds to a VM
 *
 * A device's slot decides its address, its interrupt and the order in which a guest finds it, so
 * its name there (vda, eth0). The order is that of the table below, and within a kind that of the
 * command line: an option added elsewhere on it renames nothing.
 */
#include "vm/devices.h"

#include <errno.h>
#include <string.h>

const struct vm_dev_kind *const vm_dev_kinds[] = {
	&vm_dev_rng,	 &vm_dev_disk, &vm_dev_share, &vm_dev_hvc,
	&vm_dev_balloon, &vm_dev_net,  &vm_dev_vsock, NULL,
};

static unsigned rank(const struct vm_dev_kind *kind)
{
	unsigned i = 0;

	while (vm_dev_kinds[i] && vm_dev_kinds[i] != kind)
		i++;
	return i;
}

int vm_devs_add(struct vm_devs *d, const struct vm_dev_kind *kind, const char *text, struct err *e)
{
	unsigned at = 0, index = 0;
	void *dev;
	int r;

	for (; at < d->n && rank(d->dev[at].kind) <= rank(kind); at++)
		index += d->dev[at].kind == kind;
	if (kind->max && index == kind->max)
		return err_set(e, -EINVAL, "--%s: a VM has at most %u of them", kind->name,
			       kind->max);
	if (d->n == VM_DEVS_MAX)
		return err_set(e, -ENOSPC,
			       "--%s: the board has %u slots for virtio devices, and all are taken",
			       kind->name, VM_DEVS_MAX);
	r = kind->parse(text, e, &dev);
	if (r < 0)
		return r;
	memmove(&d->dev[at + 1], &d->dev[at], (d->n - at) * sizeof(d->dev[0]));
	d->dev[at] = (struct vm_dev){ .kind = kind, .dev = dev, .index = index };
	d->n++;
	return 0;
}

void vm_devs_fini(struct vm_devs *d)
{
	for (unsigned i = 0; i < d->n; i++)
		if (d->dev[i].kind->free)
			d->dev[i].kind->free(d->dev[i].dev);
	d->n = 0;
}

int vm_devs_open(struct vm_devs *d, const struct vm_dev_host *host, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < d->n; i++) {
		struct vm_dev_host h = *host;

		h.index = d->dev[i].index;
		h.all = d;
		if (d->dev[i].kind->open)
			r = d->dev[i].kind->open(d->dev[i].dev, &h, e);
	}
	return r;
}

bool vm_devs_root(const struct vm_devs *d)
{
	for (unsigned i = 0; i < d->n; i++)
		if (d->dev[i].kind->root && d->dev[i].kind->root(d->dev[i].dev))
			return true;
	return false;
}

static int add_module(const char *name, const char **list, size_t max, struct err *e)
{
	size_t n = 0;

	for (; list[n]; n++)
		if (!strcmp(list[n], name))
			return 0;
	if (n + 1 >= max)
		return err_set(e, -E2BIG, "too many kernel modules");
	list[n] = name;
	list[n + 1] = NULL;
	return 0;
}

int vm_devs_modules(const struct vm_devs *d, const char **ret, size_t max, struct err *e)
{
	int r = 0;

	ret[0] = NULL;
	/* Not for the command's port alone: prepare.c. */
	if (d->n && d->dev[0].kind != &vm_dev_port)
		r = add_module("virtio_mmio", ret, max, e);
	for (unsigned i = 0; i < d->n; i++) {
		const struct vm_dev_kind *k = d->dev[i].kind;

		for (const char *const *m = k->modules; r == 0 && m && *m; m++)
			r = add_module(*m, ret, max, e);
		for (const char *const *m = k->needs ? k->needs(d->dev[i].dev) : NULL;
		     r == 0 && m && *m; m++)
			r = add_module(*m, ret, max, e);
	}
	return r;
}

int vm_setup_line(struct buf *out, const char *const *words)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && words[i]; i++) {
		if (i)
			r = buf_add(out, "\t", 1);
		for (const char *p = words[i]; r == 0 && *p; p++)
			r = *p == '\t' || *p == '\n' || *p == '%'
				    ? buf_printf(out, "%%%02x", (u8)*p)
				    : buf_add(out, p, 1);
	}
	return r < 0 ? r : buf_add(out, "\n", 1);
}

int vm_devs_guest(const struct vm_devs *d, struct buf *out, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < d->n; i++)
		if (d->dev[i].kind->guest)
			r = d->dev[i].kind->guest(d->dev[i].dev, out);
	return r < 0 ? err_sys(e, r, "cannot describe the devices to the guest") : 0;
}
