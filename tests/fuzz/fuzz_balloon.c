// SPDX-License-Identifier: Apache-2.0
/*
 * fuzz_balloon.c - libFuzzer entry: a hostile driver against virtio-balloon
 *
 * It may name any page, those of its own rings among them. Checked: what was counted is at most
 * what was named.
 */
#include "dev/virtio_balloon.h"

#include "rig.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);

int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	struct virtio_balloon_info i;
	struct virtio_balloon *b;
	struct rig r;
	struct vdev *v;

	rig_init(&r, data, len);
	u32 how = rig_take(&r, 1);
	struct virtio_balloon_cfg cfg = { .target = how >> 2,
					  .report = how & 1,
					  .poll_ns = how & 2 ? 1000000 : 0 };

	BUG_IF(virtio_balloon_new(&r.env, &cfg, &b, &v) < 0);
	rig_attach(&r, v);
	while (r.in.left) {
		u32 what = rig_take(&r, 1) % 9;

		if (what == 8)
			virtio_balloon_target(b, rig_take(&r, 2));
		else
			rig_step(&r, what);
	}
	virtio_balloon_info(b, &i);
	BUG_IF(i.bad > i.inflated + i.reported + len);
	rig_fini(&r);
	return 0;
}
