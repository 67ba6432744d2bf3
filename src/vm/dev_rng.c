// SPDX-License-Identifier: Apache-2.0
/*
 * dev_rng.c - the option --rng
 *
 * Not on by default: RDRAND is the guest's entropy, and finding a device costs boot time.
 */
#include "dev/virtio_rng.h"
#include "vm/devices.h"

static int rng_parse(const char *text, struct err *e, void **ret)
{
	*ret = NULL;
	return 0;
}

static int rng_create(void *dev, const struct vdev_env *env, struct err *e, struct vdev **ret)
{
	int r = virtio_rng_new(env, ret);

	return r < 0 ? err_sys(e, r, "cannot create the entropy device") : 0;
}

static const char *const modules[] = { "virtio_rng", NULL };

const struct vm_dev_kind vm_dev_rng = {
	.name = "rng",
	.help = "an entropy device: random bytes of the host's, or of the seed's\n"
		"under the virtual clock; may be repeated",
	.modules = modules,
	.parse = rng_parse,
	.create = rng_create,
};
