/* SPDX-License-Identifier: Apache-2.0 */
/*
 * diff_min.c - makes a sequence that fails smaller
 *
 * How it works
 * Instructions are taken out one by one, as long as the rest still fails; then ranges of the
 * initial state become plain, so that the reader sees what matters. Who asks says what failing is:
 * a finding that crashes the program is tried in a child.
 */
#include "diff.h"

#include <string.h>

/* False: instruction @k cannot go, since another one writes into it. */
static bool without(struct diff_seq *q, unsigned k)
{
	for (unsigned i = 0; i < q->n; i++) {
		if (i != k && q->insn[i].fix == FIX_ABS && !q->insn[i].reaches &&
		    q->insn[i].target == (s8)k)
			return false;
	}
	memmove(&q->insn[k], &q->insn[k + 1], (q->n - k - 1) * sizeof(q->insn[0]));
	q->n--;
	for (unsigned i = 0; i < q->n; i++) {
		struct diff_insn *d = &q->insn[i];

		if (d->target == (s8)k)
			d->target_off = 0;
		if (d->target > (s8)k)
			d->target--;
		if (d->reaches && !d->back && d->target <= (s8)i)
			d->target = (s8)(i + 1);
	}
	diff_layout(q);
	return true;
}

static bool fewer_insns(struct diff_seq *q, bool (*fails)(void *, const struct diff_seq *),
			void *opaque)
{
	static struct diff_seq try;
	bool any = false;

	for (unsigned k = q->n; k-- > 0 && q->n > 1;) {
		memcpy(&try, q, sizeof(try));
		if (!without(&try, k) || !fails(opaque, &try))
			continue;
		memcpy(q, &try, sizeof(*q));
		any = true;
	}
	return any;
}

/* Registers that do not matter become zero. */
static void plain_state(struct diff_seq *q, bool (*fails)(void *, const struct diff_seq *),
			void *opaque)
{
	static struct diff_seq try;

	for (unsigned i = 0; i < 16; i++) {
		memcpy(&try, q, sizeof(try));
		try.init.r[i] = i == X86_RSP ? DIFF_STACK + 0x1000 : 0;
		if (try.init.r[i] != q->init.r[i] && fails(opaque, &try))
			memcpy(q, &try, sizeof(*q));
	}
	memcpy(&try, q, sizeof(try));
	memset(try.init.fx.xmm, 0, sizeof(try.init.fx.xmm));
	memset(try.init.fx.st, 0, sizeof(try.init.fx.st));
	try.init.fx.fcw = 0x37f;
	try.init.fx.fsw = 0;
	try.init.fx.ftw = 0;
	try.init.fx.mxcsr = 0x1f80;
	if (fails(opaque, &try))
		memcpy(q, &try, sizeof(*q));
	memcpy(&try, q, sizeof(try));
	try.init.rflags = X86_IF | 2;
	try.init.fsbase = try.init.gsbase = 0;
	if (fails(opaque, &try))
		memcpy(q, &try, sizeof(*q));
}

void diff_minimise(struct diff_seq *q, bool (*fails)(void *opaque, const struct diff_seq *q),
		   void *opaque)
{
	while (fewer_insns(q, fails, opaque))
		;
	plain_state(q, fails, opaque);
	while (fewer_insns(q, fails, opaque))
		;
}
