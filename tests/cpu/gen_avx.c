/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_avx.c - instructions of x86-64-v3 for the generator
 *
 * As in gen.c, bytes are drawn and the decoder says what they are. VEX prefixes of both lengths,
 * with every field random, so that a reserved VEX.L, a VEX.vvvv that names nothing or a redundant
 * prefix comes up too: those must be #UD on both sides. Gathers get a set-up of their own: a random
 * vector of indices would reach memory never.
 */
#include "gen_priv.h"

#include <string.h>

#include <Zydis/Zydis.h>

static void put_vex(struct rng *g, struct enc *e, unsigned map)
{
	unsigned pp = rnd_pct(g, 60) ? 1 : rnd_below(g, 4);
	unsigned l = rnd_below(g, 2), w = rnd_pct(g, 25);
	unsigned vvvv = rnd_pct(g, 30) ? 15 : rnd_below(g, 16);
	/* Where these are clear outside 64-bit mode, LES and LDS begin. */
	bool legacy = g->mode != DIFF_64;

	if (rnd_pct(g, 4)) { /* #UD with VEX, but for segments and 67 */
		static const u8 pre[] = { 0x66, 0xf2, 0xf3, 0xf0, 0x40, 0x48, 0x64, 0x65, 0x67 };

		enc_put(e, pre[rnd_below(g, ARRAY_LEN(pre))], 1);
	}
	if (map == 1 && !w && rnd_pct(g, 50)) {
		enc_put(e, 0xc5, 1);
		enc_put(e, (legacy ? 0xc0 : rnd_below(g, 2) << 7) | vvvv << 3 | l << 2 | pp, 1);
		return;
	}
	enc_put(e, 0xc4, 1);
	enc_put(e, (legacy ? 0xc0 : 0) | (rnd_pct(g, 75) ? 0xe0 : rnd_below(g, 8) << 5) | map, 1);
	enc_put(e, w << 7 | vvvv << 3 | l << 2 | pp, 1);
}

static void put_legacy(struct rng *g, struct enc *e)
{
	/* TZCNT, LZCNT, MOVBE */
	bool movbe = rnd_pct(g, 40);

	if (rnd_pct(g, 25))
		enc_put(e, 0x66, 1);
	if (!movbe)
		enc_put(e, 0xf3, 1);
	if (g->mode == DIFF_64 && rnd_pct(g, 50))
		enc_put(e, 0x40 | rnd_below(g, 16), 1);
	enc_put(e, 0x0f, 1);
	if (movbe)
		enc_put(e, 0x38, 1);
	enc_put(e, (movbe ? 0xf0 : 0xbc) | rnd_below(g, 2), 1);
}

static void finish(struct rng *g, struct enc *e, struct diff_insn *d, unsigned at)
{
	gen_start(g, d);
	memcpy(d->b, e->b, e->n);
	d->at = (u8)at;
	d->len = (u8)e->n;
	d->ilen = (u8)(e->n - at);
}

/* Bytes behind a VEX prefix that are no instruction: #UD, however many are needed to see it. */
static bool is_undefined(const struct enc *e, u8 mode)
{
	static const struct {
		ZydisMachineMode mode;
		ZydisStackWidth width;
	} modes[] = {
		[DIFF_64] = { ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64 },
		[DIFF_32] = { ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32 },
		[DIFF_16] = { ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16 },
	};
	ZydisDecoder dec;
	ZydisDecodedInstruction in;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	ZyanStatus st;

	ZydisDecoderInit(&dec, modes[mode].mode, modes[mode].width);
	st = ZydisDecoderDecodeFull(&dec, e->b, MIN(e->n, 15u), &in, ops);
	return st == ZYDIS_STATUS_DECODING_ERROR || st == ZYDIS_STATUS_BAD_REGISTER ||
	       st == ZYDIS_STATUS_ILLEGAL_LOCK || st == ZYDIS_STATUS_ILLEGAL_LEGACY_PFX ||
	       st == ZYDIS_STATUS_ILLEGAL_REX;
}

static bool draw(struct rng *g, struct diff_insn *d)
{
	struct enc e = { .n = 0 };
	unsigned p = rnd_below(g, 100);
	unsigned map = p < 50 ? 1 : p < 85 ? 2 : 3;
	bool vex = !rnd_pct(g, 6);

	if (vex) {
		put_vex(g, &e, map);
		enc_put(&e, map == 2 && rnd_pct(g, 12) ? 0xf0 + rnd_below(g, 8) : rnd_below(g, 256),
			1);
	} else {
		put_legacy(g, &e);
	}
	enc_modrm(g, &e, rnd_pct(g, 40));
	enc_put(&e, rnd(g), 8);
	e.n = MIN(e.n, 15u);
	finish(g, &e, d, 0);
	if (diff_classify(d))
		return gen_allowed(g, d);
	return vex && rnd_pct(g, 1) && is_undefined(&e, g->mode);
}

/* VPSRLD or VPSRLQ dst, src, imm8 of 256 bits: small indices. */
static void put_shift(struct enc *e, unsigned reg, bool quad, unsigned k)
{
	enc_put(e, 0xc4, 1);
	enc_put(e, (reg > 7 ? 0xc0 : 0xe0) | 1, 1);
	enc_put(e, (~reg & 15) << 3 | 1 << 2 | 1, 1);
	enc_put(e, quad ? 0x73 : 0x72, 1);
	enc_put(e, 0xd0 | (reg & 7), 1);
	enc_put(e, k, 1);
}

/* MOV EBX, pointer; a shift of the indices; the gather with [RBX + index * scale]. */
static void make_gather(struct rng *g, struct diff_insn *d)
{
	struct enc e = { .n = 0 };
	unsigned regs = g->mode == DIFF_64 ? 16 : 8;
	unsigned index = rnd_below(g, regs), dst = rnd_below(g, regs), mask = rnd_below(g, 16), at;
	unsigned op = 0x90 + rnd_below(g, 4);
	bool quad = op & 1;

	enc_put(&e, 0xbb, 1);
	enc_put(&e, rnd_pointer(g), 4);
	if (rnd_pct(g, 95))
		put_shift(&e, index, quad, (quad ? 64 : 32) - rnd_below(g, 13));
	at = e.n;
	if (rnd_pct(g, 5))
		enc_put(&e, 0x67, 1);
	enc_put(&e, 0xc4, 1);
	enc_put(&e, (dst > 7 ? 0 : 0x80) | (index > 7 ? 0 : 0x40) | 0x20 | 2, 1);
	enc_put(&e, rnd_below(g, 2) << 7 | (~mask & 15) << 3 | rnd_below(g, 2) << 2 | 1, 1);
	enc_put(&e, op, 1);
	enc_put(&e, 0x44 | (dst & 7) << 3, 1);
	enc_put(&e, rnd_below(g, 4) << 6 | (index & 7) << 3 | 3, 1);
	enc_put(&e, rnd_below(g, 256), 1);
	finish(g, &e, d, at);
	diff_classify(d); /* two of the three registers alike: #UD */
}

void gen_avx(struct rng *g, struct diff_insn *d)
{
	/* There is none with addresses of 16 bits. */
	if (g->mode != DIFF_16 && rnd_pct(g, 4)) {
		make_gather(g, d);
		return;
	}
	while (!draw(g, d))
		;
}
