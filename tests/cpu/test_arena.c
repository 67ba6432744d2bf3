/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_arena.c - a guest that makes up more vector instructions than the thunks' arena holds
 *
 * How it works
 * Pages full of comparisons and shuffles, each with other registers and another immediate: every
 * one needs a thunk of its own. When the arena is full the engine drops all blocks and thunks and
 * goes on. The host runs the same code, so the results before, at and behind the flush are known.
 */
#include "diff.h"

#include <errno.h>
#include <string.h>

#define KINDS 4
#define PER_KIND (16u * 16 * 256)
#define INSN 6 /* bytes */
#define BATCH 1300u

/* Instruction number @n: prefix, REX, opcode, ModRM, immediate. */
static void put_insn(u8 *p, u32 n)
{
	static const u8 prefix[KINDS] = { 0x66, 0x3e, 0x66, 0x3e };
	static const u8 opcode[KINDS] = { 0xc2, 0xc2, 0x70, 0xc6 };
	u32 kind = n / PER_KIND, reg = n >> 8 & 15, rm = n >> 12 & 15;

	p[0] = prefix[kind];
	p[1] = (u8)(0x40 | (reg > 7) << 2 | (rm > 7));
	p[2] = 0x0f;
	p[3] = opcode[kind]; /* CMPPD, CMPPS, PSHUFD, SHUFPS */
	p[4] = (u8)(0xc0 | (reg & 7) << 3 | (rm & 7));
	p[5] = (u8)n;
}

static bool run_batch(u32 first)
{
	static struct diff_seq q;
	static const struct diff_effort effort = { .native = true };
	static u8 code[BATCH * INSN];
	u32 n = MIN(BATCH, KINDS * PER_KIND - first);

	for (u32 i = 0; i < n; i++)
		put_insn(code + i * INSN, first + i);
	diff_gen_raw(&q, code, n * INSN, DIFF_CODE);
	for (unsigned i = 0; i < sizeof(q.init.fx.xmm); i++)
		((u8 *)q.init.fx.xmm)[i] = (u8)(i * 7 + first);
	if (diff_check(&q, &effort, stderr))
		return true;
	fprintf(stderr, "instructions %u to %u differ\n", first, first + n - 1);
	return false;
}

int main(void)
{
	int ret = guest_open();

	if (!ret)
		ret = native_open();
	if (ret == -ENOSYS) {
		printf("SKIP: this host's kernel does not enable the FSGSBASE instructions for user "
		       "programs; Linux 5.9 or newer on a CPU with FSGSBASE would un-skip it\n");
		return 77;
	}
	if (ret) {
		fprintf(stderr, "cannot set up the runners: %s\n", strerror(-ret));
		return 1;
	}
	for (u32 at = 0; at < KINDS * PER_KIND && !ret; at += BATCH)
		ret = run_batch(at) ? 0 : 1;
	for (unsigned i = 0; i < 3 && !ret; i++) /* and what was dropped, again */
		ret = run_batch(i * BATCH) ? 0 : 1;
	printf("%llu thunks live, %llu flushes\n",
	       (unsigned long long)guest_stat(DIFF_JIT, "thunks"),
	       (unsigned long long)guest_stat(DIFF_JIT, "thunk_flushes"));
	if (!ret && !guest_stat(DIFF_JIT, "thunk_flushes")) {
		fprintf(stderr, "the arena was never full: this test tests nothing\n");
		ret = 1;
	}
	guest_close();
	native_close();
	return ret;
}
