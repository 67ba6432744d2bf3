/* SPDX-License-Identifier: Apache-2.0 */
/*
 * input.h - a fuzzer's input, taken piece by piece; behind its end there are zeros
 */
#ifndef ORR_TESTS_FUZZ_INPUT_H
#define ORR_TESTS_FUZZ_INPUT_H

#include "base/compiler.h"

struct input {
	const u8 *p;
	size_t left;
};

/* The next @n bytes (0..4), the lowest first. */
static inline u32 take(struct input *in, unsigned n)
{
	u32 v = 0;

	for (unsigned i = 0; i < n; i++) {
		u8 b = in->left ? *in->p : 0;

		in->p += in->left > 0;
		in->left -= in->left > 0;
		v |= (u32)b << (8 * i);
	}
	return v;
}

#endif
