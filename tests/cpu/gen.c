/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen.c - random user-mode instruction sequences and the states they start from
 *
 * How it works
 * Instructions are drawn as bytes: opcode map, prefixes, opcode, ModRM, displacement and
 * immediate, each with a bias towards what reaches memory that exists. The decoder then says
 * whether the bytes are an instruction of the CPU model under test; the others are thrown away.
 * So every encoding of every instruction can come up, also the redundant ones that an encoder
 * would never produce. (A table of templates was rejected: it tests the forms its author thought
 * of.) A few shapes that bytes alone would hit too rarely have makers of their own: special.c.
 *
 * Half of the sequences are plain: branches go forward. The others have control flow as programs
 * have it, loops with an end, calls, indirect branches, code that changes (gen_flow.c), and more of
 * the instructions that set, keep and read flags. Displacements are filled in by layout.c.
 */
#include "gen_priv.h"

#include <string.h>

#include <Zydis/Zydis.h>

static u64 mix(u64 x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

u64 rnd(struct rng *g)
{
	g->s += 0x9e3779b97f4a7c15ull;
	return mix(g->s);
}

u32 rnd_below(struct rng *g, u32 n)
{
	return (u32)((rnd(g) >> 32) * n >> 32);
}

bool rnd_pct(struct rng *g, u32 percent)
{
	return rnd_below(g, 100) < percent;
}

/* --- values ---------------------------------------------------------------------------------- */

u64 rnd_pointer(struct rng *g)
{
	static const u64 ends[] = {
		DIFF_DATA,	  DIFF_DATA + 0x1000, DIFF_DATA + 0x2000,   DIFF_RO,
		DIFF_RO + 0x1000, DIFF_ISLAND,	      DIFF_ISLAND + 0x1000, DIFF_STACK + 0x2000
	};
	u64 p;

	if (g->calm)
		return DIFF_DATA + 0x800 + (rnd_below(g, 0x2c00) & ~15u);
	switch (rnd_below(g, 8)) {
	case 0:
		p = ends[rnd_below(g, ARRAY_LEN(ends))] + rnd_below(g, 64) - 32;
		break;
	case 1:
		p = DIFF_RO + rnd_below(g, 0xf00);
		break;
	case 2:
		p = DIFF_ISLAND + rnd_below(g, 0x1000);
		break;
	default:
		p = DIFF_DATA + 0x100 + rnd_below(g, 0x3e00);
		break;
	}
	if (rnd_pct(g, 70))
		p &= ~15ull;
	return p;
}

u64 rnd_value(struct rng *g)
{
	static const u64 edge[] = { 0,
				    1,
				    0x7f,
				    0x80,
				    0xff,
				    0x100,
				    0x7fff,
				    0x8000,
				    0xffff,
				    0x7fffffff,
				    0x80000000,
				    0xffffffff,
				    1ull << 32,
				    INT64_MAX,
				    1ull << 63,
				    UINT64_MAX,
				    0x5555555555555555ull };

	switch (rnd_below(g, 10)) {
	case 0:
	case 1:
		return rnd_below(g, 64);
	case 2:
		return (u64) - (s64)rnd_below(g, 256);
	case 3:
	case 4:
		return edge[rnd_below(g, ARRAY_LEN(edge))];
	case 5:
		return edge[rnd_below(g, ARRAY_LEN(edge))] + rnd_below(g, 5) - 2;
	case 6:
		return rnd(g) >> rnd_below(g, 64);
	case 7:
		return 1ull << rnd_below(g, 64);
	default:
		return rnd(g);
	}
}

static u32 rnd_f32(struct rng *g)
{
	static const u32 special[] = { 0,	   0x80000000, 0x3f800000, 0xbf800000, 0x7f800000,
				       0xff800000, 0x7fc00000, 0x7f800001, 0xffc12345, 1,
				       0x007fffff, 0x00800000, 0x7f7fffff, 0x4f000000, 0x40200000,
				       0x5f000000, 0x3f000000, 0xcf000000 };

	if (rnd_pct(g, 50))
		return special[rnd_below(g, ARRAY_LEN(special))];
	/* a number of ordinary size, so that arithmetic does not always overflow */
	return (u32)(rnd(g) & 0x807fffff) | (u32)(127 - 12 + rnd_below(g, 24)) << 23;
}

static u64 rnd_f64(struct rng *g)
{
	static const u64 special[] = { 0,
				       1ull << 63,
				       0x3ff0000000000000ull,
				       0xbff0000000000000ull,
				       0x7ff0000000000000ull,
				       0xfff0000000000000ull,
				       0x7ff8000000000000ull,
				       0x7ff0000000000001ull,
				       1,
				       0x000fffffffffffffull,
				       0x0010000000000000ull,
				       0x7fefffffffffffffull,
				       0x41e0000000000000ull,
				       0x43e0000000000000ull,
				       0xc1e0000000000000ull,
				       0x3fe0000000000000ull };

	if (rnd_pct(g, 50))
		return special[rnd_below(g, ARRAY_LEN(special))];
	return (rnd(g) & 0x800fffffffffffffull) | (u64)(1023 - 12 + rnd_below(g, 24)) << 52;
}

static void rnd_f80(struct rng *g, u8 *p)
{
	u64 m = rnd(g);
	u16 e;

	switch (rnd_below(g, 8)) {
	case 0: /* zero, denormal, pseudo-denormal, with either sign */
		e = 0;
		m = rnd_pct(g, 50) ? 0 : m;
		break;
	case 1: /* infinity, NaN, or an MMX value */
		e = 0x7fff;
		m = rnd_pct(g, 50) ? 1ull << 63 : m;
		break;
	case 2: /* anything, unnormals too */
		e = (u16)rnd(g);
		break;
	default:
		e = (u16)(0x3fff - 20 + rnd_below(g, 84));
		m |= 1ull << 63;
		break;
	}
	if (rnd_pct(g, 30))
		e |= 0x8000;
	memcpy(p, &m, 8);
	memcpy(p + 8, &e, 2);
}

void rnd_block(struct rng *g, u8 *p16)
{
	u64 v[2];
	u32 f[4];

	switch (rnd_below(g, 5)) {
	case 0:
		for (unsigned i = 0; i < 4; i++)
			f[i] = rnd_f32(g);
		memcpy(p16, f, 16);
		return;
	case 1:
		v[0] = rnd_f64(g);
		v[1] = rnd_f64(g);
		break;
	case 2:
		rnd_f80(g, p16);
		return;
	case 3:
		v[0] = rnd_pct(g, 50) ? rnd_pointer(g) : rnd_value(g);
		v[1] = rnd_value(g);
		break;
	default:
		v[0] = rnd(g);
		v[1] = rnd(g);
		break;
	}
	memcpy(p16, v, 16);
}

/* --- the initial state ------------------------------------------------------------------------ */

/* Registers kept small by preference: they are drawn as index registers and counts. */
static bool small_reg(unsigned r)
{
	return r == X86_RAX || r == X86_RCX || r == X86_RDX || r == 9 || r == 13;
}

static void init_fx(struct rng *g, struct diff_fx *x)
{
	x->fcw = 0x37f;
	if (rnd_pct(g, 20))
		x->fcw = (u16)((rnd(g) & 0x0f3f) | 0x40);
	else if (rnd_pct(g, 10))
		x->fcw &= (u16) ~(1u << rnd_below(g, 6));
	x->fsw = 0;
	if (rnd_pct(g, 70))
		x->fsw = (u16)((rnd(g) & 0x7800) | (rnd(g) & 0x0700));
	/* Sticky exceptions, seldom unmasked ones: those make every waiting instruction #MF. */
	if (rnd_pct(g, 15))
		x->fsw |= rnd(g) & 0x7f;
	if (rnd_pct(g, 80))
		x->fsw &= (u16) ~(~x->fcw & 0x3f);
	if (x->fsw & ~x->fcw & 0x3f)
		x->fsw |= 0x8080; /* ES and B follow from the flags and the masks */
	x->ftw = rnd_pct(g, 30) ? 0 : rnd_pct(g, 30) ? 0xff : (u8)rnd(g);
	x->mxcsr = 0x1f80;
	if (rnd_pct(g, 15))
		x->mxcsr = (u32)rnd(g) & 0xffff;
	else if (rnd_pct(g, 20))
		x->mxcsr |= (u32)rnd(g) & 0xe07f; /* rounding, DAZ, FTZ, flags; all masked */
	x->mxcsr_mask = 0xffff;
	for (unsigned i = 0; i < 8; i++)
		rnd_f80(g, x->st[i]);
	for (unsigned i = 0; i < 16; i++)
		rnd_block(g, x->xmm[i]);
}

static void init_state(struct rng *g, struct diff_state *s)
{
	for (unsigned i = 0; i < 16; i++) {
		if (small_reg(i))
			s->r[i] = rnd_pct(g, 60) ? rnd_below(g, 64) : rnd_value(g);
		else
			s->r[i] = rnd_pct(g, 75) ? rnd_pointer(g) : rnd_value(g);
	}
	s->r[X86_RSP] = DIFF_STACK + 0x1000 + (rnd_below(g, 128) - 64) * 8;
	if (rnd_pct(g, 8))
		s->r[X86_RSP] = rnd_pct(g, 50) ? DIFF_STACK + rnd_below(g, 24)
					       : DIFF_STACK + 0x2000 - rnd_below(g, 24);
	else if (rnd_pct(g, 3))
		s->r[X86_RSP] = rnd_value(g);
	/* IF is always set at CPL 3; TF would trap at once. */
	s->rflags = (rnd(g) & (X86_ARITH | X86_ID)) | X86_IF | 2;
	if (rnd_pct(g, 25))
		s->rflags |= X86_DF;
	if (rnd_pct(g, 4))
		s->rflags |= X86_AC;
	if (rnd_pct(g, 2))
		s->rflags |= X86_NT;
	if (g->mode != DIFF_64) { /* what becomes of the upper halves is not defined */
		for (unsigned i = 0; i < 16; i++)
			s->r[i] = (u32)s->r[i] &
				  (g->mode == DIFF_16 && rnd_pct(g, 90) ? 0xffff : ~0u);
		s->r[X86_RSP] &= g->mode == DIFF_16 ? 0x1fff : ~0u;
	}
	/* WRFSBASE takes canonical addresses only. */
	s->fsbase = rnd_pct(g, 70) ? rnd_below(g, 4096) : (u64)((s64)rnd(g) >> 17);
	s->gsbase = rnd_pct(g, 70) ? rnd_below(g, 4096) & ~15u : (u64)((s64)rnd(g) >> 17);
	init_fx(g, &s->fx);
	if (!g->calm)
		return;
	s->r[X86_RSP] = g->mode == DIFF_16 ? 0x1000 : DIFF_STACK + 0x1000;
	s->rflags &= ~(u64)(X86_AC | X86_NT);
	s->fsbase &= 0xff0;
	s->gsbase &= 0xff0;
	s->fx.fcw |= 0x3f;
	s->fx.fsw &= (u16)~0x8080;
	s->fx.mxcsr |= 0x1f80;
}

static void random_image(struct rng *g, u8 *mem)
{
	u64 v;

	for (size_t i = 0; i < DIFF_MEM; i += 8) {
		v = rnd(g);
		memcpy(mem + i, &v, 8);
	}
	/* Runs of equal bytes, for REPE. */
	for (unsigned i = 0; i < 6; i++)
		memset(mem + rnd_below(g, DIFF_MEM - 256), (int)rnd(g), 16 + rnd_below(g, 240));
}

/* Making up all memory anew would cost more than running a sequence. */
static void init_mem(struct rng *g, u8 *mem)
{
	static u8 images[4][DIFF_MEM];
	static bool made[4];
	unsigned k = rnd_below(g, 4);

	if (!made[k]) {
		struct rng r = { .s = k + 1 };

		random_image(&r, images[k]);
		made[k] = true;
	}
	memcpy(mem, images[k], DIFF_MEM);
	for (unsigned i = 0; i < 128; i++)
		rnd_block(g, mem + rnd_below(g, DIFF_MEM / 16) * 16);
}

/* --- one instruction -------------------------------------------------------------------------- */

void enc_put(struct enc *e, u64 v, unsigned size)
{
	memcpy(e->b + e->n, &v, size);
	e->n += size;
}

static u8 rnd_base(struct rng *g)
{
	static const u8 good[] = { 3, 5, 6, 7, 4, 3, 6, 7 }; /* rbx rbp rsi rdi, r8+ with REX.B */

	return rnd_pct(g, 85) ? good[rnd_below(g, ARRAY_LEN(good))] : (u8)rnd_below(g, 8);
}

static u32 rnd_disp(struct rng *g, unsigned size)
{
	if (size == 1)
		return rnd_pct(g, 60) ? (rnd_below(g, 16) * 16 - 128) : (u32)rnd(g);
	if (rnd_pct(g, 4))
		return (u32)rnd(g);
	return (rnd_below(g, 128) - 64) * (rnd_pct(g, 60) ? 16 : 1);
}

/* The same with 16-bit addresses: all forms but the plain displacement have BX, BP, SI or DI. */
static void modrm16(struct rng *g, struct enc *e, unsigned mod, unsigned rm)
{
	enc_put(e, mod << 6 | rnd_below(g, 8) << 3 | rm, 1);
	if (mod == 0 && rm == 6)
		enc_put(e, rnd_pointer(g), 2);
	else if (mod == 1 || mod == 2)
		enc_put(e, rnd_disp(g, mod), mod);
}

/* ModRM with SIB and displacement. The first 8 immediate bytes behind are random too. */
void enc_modrm(struct rng *g, struct enc *e, bool want_reg)
{
	unsigned mod = want_reg ? 3 : rnd_below(g, 4);
	unsigned rm = mod == 3 ? rnd_below(g, 8) : rnd_base(g);
	unsigned base, index;

	if (g->mode == DIFF_16 && rnd_pct(g, 85)) {
		modrm16(g, e, mod, rnd_below(g, 8));
		return;
	}
	enc_put(e, mod << 6 | rnd_below(g, 8) << 3 | rm, 1);
	if (mod == 3)
		return;
	base = rm;
	if (rm == 4) {
		static const u8 idx[] = { 4, 4, 4, 1, 1, 0, 2, 5 };

		base = rnd_base(g);
		index = rnd_pct(g, 90) ? idx[rnd_below(g, ARRAY_LEN(idx))] : rnd_below(g, 8);
		enc_put(e, rnd_below(g, 4) << 6 | index << 3 | base, 1);
	}
	if (mod == 0 && base == 5)
		enc_put(e, rm == 4 || g->mode != DIFF_64 ? rnd_pointer(g) : rnd_disp(g, 4), 4);
	else if (mod)
		enc_put(e, rnd_disp(g, mod == 1 ? 1 : 4), mod == 1 ? 1 : 4);
}

static void put_prefixes(struct rng *g, struct enc *e, unsigned map)
{
	static const u8 seg[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };
	static const u8 mand[] = { 0x66, 0xf3, 0xf2 };

	if (rnd_pct(g, 6))
		enc_put(e, seg[rnd_below(g, ARRAY_LEN(seg))], 1);
	if (rnd_pct(g, 4))
		enc_put(e, 0x67, 1);
	if (!g->calm && rnd_pct(g, 5))
		enc_put(e, 0xf0, 1);
	if (rnd_pct(g, map ? 60 : 20))
		enc_put(e, mand[map ? rnd_below(g, 3) : rnd_pct(g, 20) ? rnd_below(g, 3) : 0], 1);
	if (rnd_pct(g, 3))
		enc_put(e, mand[rnd_below(g, 3)], 1);
	if (rnd_pct(g, 2))
		enc_put(e, seg[rnd_below(g, ARRAY_LEN(seg))], 1);
	if (g->mode == DIFF_64 && rnd_pct(g, 50)) {
		enc_put(e, 0x40 | rnd_below(g, 16), 1);
		if (rnd_pct(g, 1)) /* a REX that is not last counts for nothing */
			enc_put(e, 0x66, 1);
	}
}

static unsigned pick_map(struct rng *g)
{
	unsigned p = rnd_below(g, 100);

	return p < 50 ? 0 : p < 85 ? 1 : p < 94 ? 2 : 3;
}

static void put_opcode(struct rng *g, struct enc *e, unsigned map)
{
	static const u8 hot[] = { 0x80, 0x81, 0x83, 0xc0, 0xc1, 0xd0, 0xd1, 0xd2,
				  0xd3, 0xf6, 0xf7, 0xfe, 0xff, 0xc6, 0xc7, 0x8f };
	unsigned p = rnd_below(g, 100);

	if (map == 0) {
		if (p < 14)
			enc_put(e, 0xd8 + rnd_below(g, 8), 1);
		else if (p < 34)
			enc_put(e, hot[rnd_below(g, ARRAY_LEN(hot))], 1);
		else if (p < 50)
			enc_put(e, rnd_below(g, 0x40), 1);
		else
			enc_put(e, rnd_below(g, 256), 1);
		return;
	}
	enc_put(e, 0x0f, 1);
	if (map == 1) {
		enc_put(e, rnd_below(g, 256), 1);
	} else if (map == 2) {
		enc_put(e, 0x38, 1);
		enc_put(e, p < 10 ? 0xf0 + rnd_below(g, 2) : rnd_below(g, 0x42), 1);
	} else {
		static const u8 lo[] = { 0x08, 0x14, 0x20, 0x40, 0x60 };
		static const u8 len[] = { 8, 4, 3, 3, 4 };
		unsigned i = rnd_below(g, ARRAY_LEN(lo));

		enc_put(e, 0x3a, 1);
		enc_put(e, lo[i] + rnd_below(g, len[i]), 1);
	}
}

/* Immediates: mostly small counts and edges; random bytes behind are dropped by the decoder. */
static void put_tail(struct rng *g, struct enc *e)
{
	enc_put(e, rnd_pct(g, 50) ? rnd_value(g) : rnd(g), 8);
}

/* Opcodes that set, keep and read flags in their various ways. */
static void put_flag_opcode(struct rng *g, struct enc *e)
{
	static const u8 one[] = {
		0x80, 0x81, 0x83, 0xfe, 0xff, 0xfe, 0xff, 0xc0, 0xc1, 0xd0, 0xd1,
		0xd2, 0xd3, 0xd3, 0xf6, 0xf7, 0x84, 0x85, 0x88, 0x89, 0x8a, 0x8b,
		0x8d, 0x9c, 0x9d, 0x9e, 0x9f, 0xf5, 0xf8, 0xf9, 0x86, 0x87, 0x69,
		0x6b, 0xc6, 0xc7, 0x50, 0x58, 0x98, 0x99, 0x8f, 0x63, 0xf5, 0x9e
	};
	static const u8 two[] = { 0xa3, 0xab, 0xb3, 0xbb, 0xba, 0xa4, 0xa5, 0xac,
				  0xad, 0xaf, 0xb0, 0xb1, 0xb6, 0xb7, 0xbe, 0xbf,
				  0xc0, 0xc1, 0xbc, 0xbd, 0xc8, 0xb8, 0x2e, 0x2f };
	unsigned p = rnd_below(g, 100);

	if (p < 28) { /* ADD to CMP, twice as often ADC and SBB */
		enc_put(e, rnd_below(g, 8) << 3 | rnd_below(g, 6), 1);
	} else if (p < 36) {
		enc_put(e, (2 + rnd_below(g, 2)) << 3 | rnd_below(g, 6), 1);
	} else if (p < 66) {
		enc_put(e, one[rnd_below(g, ARRAY_LEN(one))], 1);
	} else {
		enc_put(e, 0x0f, 1);
		if (p < 76)
			enc_put(e, 0x90 | rnd_below(g, 16), 1);
		else if (p < 86)
			enc_put(e, 0x40 | rnd_below(g, 16), 1);
		else
			enc_put(e, two[rnd_below(g, ARRAY_LEN(two))], 1);
	}
}

static bool draw(struct rng *g, struct diff_insn *d, bool flags)
{
	struct enc e = { .n = 0 };
	unsigned map = flags ? 0 : pick_map(g);

	put_prefixes(g, &e, map);
	if (flags)
		put_flag_opcode(g, &e);
	else
		put_opcode(g, &e, map);
	enc_modrm(g, &e, rnd_pct(g, 25));
	put_tail(g, &e);
	gen_start(g, d);
	memcpy(d->b, e.b, MIN(e.n, 15u));
	d->len = d->ilen = (u8)MIN(e.n, 15u);
	return diff_classify(d) && gen_allowed(g, d);
}

static bool wanted(const struct diff_cfg *cfg, u16 mnemonic)
{
	if (!cfg->only)
		return true;
	for (const u16 *m = cfg->only; *m; m++) {
		if (*m == mnemonic)
			return true;
	}
	return false;
}

static void one(struct rng *g, const struct diff_cfg *cfg, struct diff_insn *d, bool flow)
{
	bool flags;

	if (!cfg->only) {
		if (diff_v3() && rnd_pct(g, 65)) {
			gen_avx(g, d);
			return;
		}
		if (flow && rnd_pct(g, 40)) {
			gen_flow(g, d);
			return;
		}
		if (rnd_pct(g, flow ? 12 : 22)) {
			gen_special(g, d);
			return;
		}
		flags = flow && rnd_pct(g, 65);
		while (!draw(g, d, flags))
			;
		return;
	}
	/* Only some mnemonics: fresh operands between them keep the pointers good. */
	if (rnd_pct(g, 30)) {
		gen_mov_imm(g, d);
		return;
	}
	for (unsigned i = 0; i < 200000; i++) {
		if (diff_v3() && rnd_pct(g, 50))
			gen_avx(g, d);
		else if (rnd_pct(g, 20))
			gen_special(g, d);
		else if (!draw(g, d, false))
			continue;
		if (wanted(cfg, d->mnemonic))
			return;
	}
	gen_mov_imm(g, d); /* the mnemonic is one we never make */
}

static void pick_base(struct rng *g, struct diff_seq *q)
{
	unsigned len = 0;
	u64 region = g->smc ? DIFF_SMC : DIFF_CODE;

	q->base = region + 0x100 + rnd_below(g, g->smc ? 0x80 : 0x800);
	for (unsigned i = 0; i < q->n; i++)
		len += q->insn[i].len;
	if (rnd_pct(g, 12)) { /* across the boundary of the two code pages */
		q->base =
			region + 0x1000 - rnd_below(g, rnd_pct(g, 50) ? 40 : MIN(len, 0xe00u) + 1);
	} else if (!g->smc && rnd_pct(g, 3)) { /* off the end, perhaps in an instruction */
		q->base = DIFF_CODE + 0x2000 - len + (rnd_pct(g, 50) ? rnd_below(g, 4) : 0);
		q->no_end = true;
	}
}

/* A subroutine at the end, that others call; it ends in RET. */
static void add_sub(struct rng *g, struct diff_seq *q)
{
	unsigned size = 2 + rnd_below(g, 4), calls = 1 + rnd_below(g, 3);

	if (q->n < size + 4)
		return;
	gen_sub(g, &q->insn[q->n - size], SUB_SKIP);
	q->insn[q->n - size].target = (s8)q->n;
	gen_sub(g, &q->insn[q->n - 1], SUB_RET);
	while (calls--) {
		struct diff_insn *d = &q->insn[rnd_below(g, q->n - size)];

		gen_sub(g, d, SUB_CALL);
		d->target = (s8)(q->n - size + 1);
	}
}

static u8 pick_mode(struct rng *g, const struct diff_cfg *cfg)
{
	unsigned p = rnd_below(g, 100);
	u8 mode = p < 82 ? DIFF_64 : p < 94 ? DIFF_32 : DIFF_16;

	return cfg->modes & 1 << mode ? mode : DIFF_64;
}

void diff_gen(struct diff_seq *q, const struct diff_cfg *cfg, u64 seed, u64 index)
{
	struct rng g = { .s = mix(mix(seed + 1) ^ index) };
	bool flow;
	u32 max;

	memset(q, 0, offsetof(struct diff_seq, mem));
	q->seed = seed;
	q->index = index;
	q->mode = g.mode = pick_mode(&g, cfg);
	flow = !cfg->only && rnd_pct(&g, 55);
	g.smc = flow && g.mode != DIFF_16 && rnd_pct(&g, 40);
	g.calm = flow && rnd_pct(&g, 65);
	q->tiers_only = g.mode == DIFF_64 && rnd_pct(&g, 15);
	init_state(&g, &q->init);
	init_mem(&g, q->mem);
	if (diff_v3())
		for (unsigned i = 0; i < 16; i++)
			rnd_block(&g, q->ymmh[i]);
	/* What loops is longer, or there would be little between the branches. */
	max = flow ? MIN(cfg->max_insns * 3, DIFF_INSNS_MAX - 2u) : cfg->max_insns;
	q->n = 1 + rnd_below(&g, max);
	for (unsigned i = 0; i < q->n; i++)
		one(&g, cfg, &q->insn[i], flow);
	if (flow && rnd_pct(&g, 40))
		add_sub(&g, q);
	else if (flow && rnd_pct(&g, 60))
		gen_loop(&g, q);
	gen_targets(&g, q);
	pick_base(&g, q);
	diff_layout(q);
}

void diff_gen_raw(struct diff_seq *q, const u8 *code, size_t len, u64 va)
{
	struct rng g = { .s = 42 };
	long off = diff_offset(va);

	memset(q, 0, sizeof(*q));
	random_image(&g, q->mem);
	for (unsigned i = 0; i < 16; i++)
		q->init.r[i] = DIFF_DATA + 0x100 * i;
	q->init.r[X86_RSP] = DIFF_STACK + 0x1000;
	q->init.rflags = X86_IF | 2;
	q->init.fx.fcw = 0x37f;
	q->init.fx.mxcsr = 0x1f80;
	q->base = va;
	diff_layout(q);
	BUG_IF(off < 0 || off + (long)len + 1 > DIFF_MEM);
	memcpy(q->mem + off, code, len);
	q->mem[off + (long)len] = 0xf4;
	q->va[0] = va + len;
}
