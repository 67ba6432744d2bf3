// SPDX-License-Identifier: Apache-2.0
/*
 * dev_hvc.c - the option --hvc, and the data port of a command
 *
 * How it works
 * Two kinds of devices that differ in what the guest finds: a console (hvc0) with a size, or a
 * byte stream with a name, over which the guest's init continues the conversation of base/wire.h.
 * The port is not an option but added by prepare.c, behind all other devices, so that it renames
 * none; without a free slot or a driver the conversation stays on the serial port.
 *
 * What the guest says before a session has attached itself goes nowhere.
 */
#include "vm/vcon.h"

#include <errno.h>
#include <stdlib.h>

#include "base/wire.h"

struct vcon {
	const char *const *names;
	const struct virtio_console_ops *ops;
	void *opaque;
	u16 rows, cols;
	struct virtio_console *dev; /* the machine's, once it is created */
};

static int parse(const char *const *names, struct err *e, void **ret)
{
	struct vcon *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->names = names;
	*ret = c;
	return 0;
}

static int hvc_parse(const char *text, struct err *e, void **ret)
{
	return parse(NULL, e, ret);
}

static int port_parse(const char *text, struct err *e, void **ret)
{
	static const char *const names[] = { WIRE_PORT_NAME, NULL };

	return parse(names, e, ret);
}

static void on_tx(void *opaque, unsigned port, const u8 *bytes, size_t n)
{
	struct vcon *c = opaque;

	if (c->ops)
		c->ops->tx(c->opaque, port, bytes, n);
}

static void on_tx_over(void *opaque, unsigned port)
{
	struct vcon *c = opaque;

	if (c->ops && c->ops->tx_over)
		c->ops->tx_over(c->opaque, port);
}

static void on_rx_space(void *opaque, unsigned port)
{
	struct vcon *c = opaque;

	if (c->ops && c->dev)
		c->ops->rx_space(c->opaque, port);
}

static const struct virtio_console_ops ops = { .tx = on_tx,
					       .tx_over = on_tx_over,
					       .rx_space = on_rx_space };

static int vcon_create(void *dev, const struct vdev_env *env, struct err *e, struct vdev **ret)
{
	struct vcon *c = dev;
	struct virtio_console_cfg cfg = {
		.ports = c->names, .rows = c->rows, .cols = c->cols, .ops = &ops, .opaque = c
	};
	int r = virtio_console_new(env, &cfg, &c->dev, ret);

	return r < 0 ? err_sys(e, r, "cannot create the virtio console") : 0;
}

static void hvc_stats(void *dev, void (*line)(void *o, const char *name, u64 val), void *o)
{
	struct virtio_console_stats s = virtio_console_stats(((struct vcon *)dev)->dev);

	line(o, "hvc_bytes_out", s.tx);
	line(o, "hvc_bytes_in", s.rx);
}

static void port_stats(void *dev, void (*line)(void *o, const char *name, u64 val), void *o)
{
	struct virtio_console_stats s = virtio_console_stats(((struct vcon *)dev)->dev);

	line(o, "port_bytes_out", s.tx);
	line(o, "port_bytes_in", s.rx);
}

static const char *const modules[] = { "virtio_console", NULL };

const struct vm_dev_kind vm_dev_hvc = {
	.name = "hvc",
	.help = "a virtio console, hvc0, instead of the serial one: faster, and it\n"
		"knows the terminal's size",
	.max = 1,
	.modules = modules,
	.parse = hvc_parse,
	.create = vcon_create,
	.stats = hvc_stats,
	.free = free,
};

const struct vm_dev_kind vm_dev_port = {
	.name = "command-port",
	.max = 1, /* its modules are loaded when they are wanted: prepare.c */
	.parse = port_parse,
	.create = vcon_create,
	.stats = port_stats,
	.free = free,
};

struct vcon *vcon_of(const struct vm_devs *d, const struct vm_dev_kind *kind)
{
	for (unsigned i = 0; d && i < d->n; i++)
		if (d->dev[i].kind == kind)
			return d->dev[i].dev;
	return NULL;
}

void vcon_attach(struct vcon *c, const struct virtio_console_ops *o, void *opaque)
{
	if (!c)
		return;
	c->ops = o;
	c->opaque = opaque;
}

void vcon_resize(struct vcon *c, unsigned rows, unsigned cols)
{
	if (!c)
		return;
	c->rows = (u16)MIN(rows, 0xffffu);
	c->cols = (u16)MIN(cols, 0xffffu);
	if (c->dev)
		virtio_console_resize(c->dev, c->rows, c->cols);
}

size_t vcon_rx(struct vcon *c, const u8 *bytes, size_t n)
{
	return c->dev ? virtio_console_rx(c->dev, 0, bytes, n) : 0;
}
