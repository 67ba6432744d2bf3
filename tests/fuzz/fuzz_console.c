// SPDX-License-Identifier: Apache-2.0
/*
 * fuzz_console.c - libFuzzer entry: a hostile driver against virtio-console, both kinds of it
 *
 * The host's end gives input, closes, opens and resizes at the program's word. Checked: output
 * lies in guest RAM, and no input is taken for a port that the guest has not opened.
 */
#include "dev/virtio_console.h"

#include "rig.h"

struct host {
	struct rig r;
	struct virtio_console *c;
	unsigned ports;
	u64 sum;
};

static void on_tx(void *opaque, unsigned port, const u8 *bytes, size_t n)
{
	struct host *h = opaque;

	BUG_IF(port >= h->ports || !n);
	for (size_t i = 0; i < n; i++)
		h->sum = h->sum * 31 + bytes[i];
}

static void on_rx_space(void *opaque, unsigned port)
{
	struct host *h = opaque;

	BUG_IF(port >= h->ports);
	if (h->c && (h->sum & 1))
		virtio_console_rx(h->c, port, (const u8 *)"input", 5);
}

static const struct virtio_console_ops ops = { .tx = on_tx, .rx_space = on_rx_space };

static void host_acts(struct host *h)
{
	static const u8 bytes[300];
	u32 b = rig_take(&h->r, 1);
	unsigned port = (b >> 3) % h->ports;
	bool open;
	size_t n;

	switch (b & 3) {
	case 0:
		open = virtio_console_open(h->c, port);
		n = virtio_console_rx(h->c, port, bytes, 1u + b);
		BUG_IF(n > 1u + b || (n && !open));
		break;
	case 1:
		virtio_console_connect(h->c, port, b & 4);
		break;
	default:
		virtio_console_resize(h->c, (u16)b, (u16)(b * 3));
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);

int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	static const char *const names[] = { "one", "two", NULL };
	struct virtio_console_cfg cfg = { .rows = 24, .cols = 80, .ops = &ops };
	struct host h = { 0 };
	struct vdev *v;

	rig_init(&h.r, data, len);
	cfg.opaque = &h;
	cfg.ports = rig_take(&h.r, 1) & 1 ? names : NULL;
	h.ports = cfg.ports ? 2 : 1;
	BUG_IF(virtio_console_new(&h.r.env, &cfg, &h.c, &v) < 0);
	rig_attach(&h.r, v);
	while (h.r.in.left) {
		u32 what = rig_take(&h.r, 1);

		if (what % 10 >= 8)
			host_acts(&h);
		else
			rig_step(&h.r, what % 10);
	}
	rig_fini(&h.r);
	return 0;
}
