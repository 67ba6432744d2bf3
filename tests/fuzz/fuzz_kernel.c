/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_kernel.c - libFuzzer entry: any bytes as a kernel file, unpacked and packed
 */
#include "image/kernel.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);

int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	for (unsigned flags = 0; flags <= KERNEL_KEEP_PACKED; flags++) {
		struct kernel_image *k = NULL;
		struct err e = { 0 };
		volatile u8 sum = 0;

		if (kernel_image_parse(data, len, "fuzz", flags, &e, &k) < 0) {
			BUG_IF(k || e.code >= 0 || !e.msg[0]);
			continue;
		}
		/* Touch the ends of what a loader would copy. */
		for (unsigned i = 0; i < k->nseg; i++)
			if (k->seg[i].filesz)
				sum += k->seg[i].data[0] ^ k->seg[i].data[k->seg[i].filesz - 1];
		kernel_image_free(k);
	}
	return 0;
}
