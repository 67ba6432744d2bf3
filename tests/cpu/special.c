/* SPDX-License-Identifier: Apache-2.0 */
/*
 * special.c - shapes that random bytes would hit too seldom
 *
 * Each maker fills in one diff_insn, perhaps with set-up instructions before and clean-up behind
 * the one that is meant. diff_insn.at says where that one begins.
 */
#include "gen_priv.h"

#include <string.h>

#include <Zydis/Zydis.h>

void gen_bytes(struct diff_insn *d, u64 v, unsigned n)
{
	BUG_IF(d->len + n > DIFF_INSN_BYTES);
	memcpy(d->b + d->len, &v, n);
	d->len += (u8)n;
}

void gen_start(struct rng *g, struct diff_insn *d)
{
	memset(d, 0, sizeof(*d));
	d->target = -1;
	d->mode = g->mode;
}

void gen_mark(struct diff_insn *d)
{
	d->at = d->len;
}

void gen_finish(struct diff_insn *d)
{
	u8 len = d->len;

	diff_classify(d);
	d->len = len; /* what follows the instruction stays */
}

void gen_set32(struct diff_insn *d, unsigned reg, u32 v)
{
	if (d->mode == DIFF_16)
		gen_bytes(d, 0x66, 1);
	if (reg > 7)
		gen_bytes(d, 0x41, 1);
	gen_bytes(d, 0xb8 | (reg & 7), 1);
	gen_bytes(d, v, 4);
}

void gen_mov_imm(struct rng *g, struct diff_insn *d)
{
	unsigned r = rnd_below(g, g->mode == DIFF_64 ? 16 : 8);
	u64 v = rnd_pct(g, 60) ? rnd_pointer(g) : rnd_value(g);

	gen_start(g, d);
	if (r == X86_RSP && (g->calm || rnd_pct(g, 80)))
		r = X86_RSI;
	if (g->mode == DIFF_16 && rnd_pct(g, 70)) {
		gen_bytes(d, 0xb8 | r, 1);
		gen_bytes(d, v, 2);
	} else if (g->mode != DIFF_64) {
		gen_set32(d, r, g->mode == DIFF_16 ? (u32)v & 0xffff : (u32)v);
	} else {
		gen_bytes(d, 0x48 | r >> 3, 1);
		gen_bytes(d, 0xb8 | (r & 7), 1);
		gen_bytes(d, v, 8);
	}
	gen_finish(d);
}

/* What a string instruction is to start from. */
static void set32(struct diff_insn *d, unsigned reg, u32 v)
{
	gen_set32(d, reg, d->mode == DIFF_16 ? v & 0xffff : v);
}

static void make_string(struct rng *g, struct diff_insn *d)
{
	static const u8 ops[] = { 0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf };

	gen_start(g, d);
	if (g->calm || rnd_pct(g, 80))
		set32(d, X86_RCX,
		      g->calm	       ? rnd_below(g, 40)
		      : rnd_pct(g, 90) ? rnd_below(g, 300)
				       : (u32)rnd_value(g));
	if (g->calm || rnd_pct(g, 50))
		set32(d, X86_RDI, (u32)rnd_pointer(g));
	if (g->calm || rnd_pct(g, 50))
		set32(d, X86_RSI, (u32)rnd_pointer(g));
	if (rnd_pct(g, 30))
		gen_bytes(d, 0xfc | rnd_below(g, 2), 1); /* CLD, STD */
	gen_mark(d);
	if (rnd_pct(g, 8))
		gen_bytes(d, 0x64 | rnd_below(g, 2), 1);
	if (rnd_pct(g, 15))
		gen_bytes(d, 0x67, 1);
	if (rnd_pct(g, 25))
		gen_bytes(d, 0x66, 1);
	if (rnd_pct(g, 75))
		gen_bytes(d, 0xf2 | rnd_below(g, 2), 1);
	if (g->mode == DIFF_64 && rnd_pct(g, 30))
		gen_bytes(d, 0x48 | rnd_below(g, 8), 1);
	gen_bytes(d, ops[rnd_below(g, ARRAY_LEN(ops))], 1);
	gen_finish(d);
}

static void make_branch(struct rng *g, struct diff_insn *d)
{
	unsigned wide = g->mode == DIFF_16 ? 2 : 4;

	gen_start(g, d);
	switch (rnd_below(g, 6)) {
	case 0:
		gen_bytes(d, 0xe0 | rnd_below(g, 4), 1); /* LOOPNE, LOOPE, LOOP, JRCXZ */
		gen_bytes(d, 0, 1);
		break;
	case 1:
		gen_bytes(d, 0xe8 | rnd_below(g, 2), 1); /* CALL, JMP rel32 */
		gen_bytes(d, 0, wide);
		break;
	case 2:
		gen_bytes(d, 0x800f | rnd_below(g, 16) << 8, 2);
		gen_bytes(d, 0, wide);
		break;
	case 3:
		if (!g->calm) {
			gen_bytes(d, 0xc3, 1);
			break;
		}
		/* fall through */
	default:
		gen_bytes(d, 0x70 | rnd_below(g, 16), 1);
		gen_bytes(d, 0, 1);
		break;
	}
	gen_finish(d);
}

static void make_popf(struct rng *g, struct diff_insn *d)
{
	u32 f = (u32)rnd(g) & 0x7e4ed7;

	gen_start(g, d);
	if (rnd_pct(g, 3)) /* a single-step trap behind the next instruction */
		f |= X86_TF;
	if (g->calm)
		f &= X86_ARITH | X86_DF;
	else if (rnd_pct(g, 80))
		f &= ~(u32)X86_AC;
	gen_bytes(d, 0x68, 1); /* PUSH imm32 */
	gen_bytes(d, f, g->mode == DIFF_16 ? 2 : 4);
	gen_mark(d);
	gen_bytes(d, 0x9d, 1);
	gen_finish(d);
}

static void make_stack(struct rng *g, struct diff_insn *d)
{
	gen_start(g, d);
	if (!g->calm && rnd_pct(g, 20))
		gen_bytes(d, 0x66, 1);
	switch (g->calm ? rnd_below(g, 2) * 5 : rnd_below(g, 6)) {
	case 0:
		gen_bytes(d, 0x9c, 1); /* PUSHF */
		break;
	case 1:
		gen_bytes(d, 0xc8, 1); /* ENTER */
		gen_bytes(d, rnd_pct(g, 90) ? rnd_below(g, 256) : rnd(g), 2);
		gen_bytes(d, rnd_pct(g, 70) ? 0 : rnd_below(g, 40), 1);
		break;
	case 2:
		gen_bytes(d, 0xc9, 1); /* LEAVE */
		break;
	case 3:
		gen_bytes(d, rnd_pct(g, 50) ? 0x68 : 0x6a, 1); /* PUSH imm */
		gen_bytes(d, rnd_value(g),
			  d->b[d->len - 1] == 0x6a		      ? 1
			  : (d->b[0] == 0x66) != (g->mode == DIFF_16) ? 2
								      : 4);
		break;
	default:
		gen_bytes(d,
			  g->calm ? 0x50 | rnd_below(g, 2) << 3 | rnd_below(g, 4)
				  : 0x50 | rnd_below(g, 16),
			  1); /* PUSH, POP r64 */
		break;
	}
	gen_finish(d);
}

/* MOV of @size (2, 4 or 8; 8: sign-extended imm32) to the absolute address @to. */
static void store_imm(struct diff_insn *d, u64 to, u32 v, unsigned size)
{
	if (size == 8 && d->mode == DIFF_32) {
		store_imm(d, to, v, 4);
		store_imm(d, to + 4, 0, 4);
		return;
	}
	if (size == 2)
		gen_bytes(d, 0x66, 1);
	if (size == 8)
		gen_bytes(d, 0x48, 1);
	gen_bytes(d, 0x2504c7, 3);
	gen_bytes(d, to, 4);
	gen_bytes(d, v, size == 2 ? 2 : 4);
}

/*
 * FXSAVE, FNSTENV, FNSAVE, and zeros over FIP, FDP and FOP: Orrery does not keep those
 * (docs/quirks.md).
 */
static void make_fsave(struct rng *g, struct diff_insn *d)
{
	u64 to = DIFF_DATA + 0x100 + (rnd_below(g, 0x3c00) & ~15u);
	unsigned kind = rnd_below(g, 4);

	gen_start(g, d);
	if (kind == 0 && rnd_pct(g, 10))
		to += 8; /* #GP */
	if (kind == 1 && g->mode == DIFF_64)
		gen_bytes(d, 0x48, 1);
	gen_bytes(d, kind < 2 ? 0x04ae0f : kind == 2 ? 0x34d9 : 0x34dd, kind < 2 ? 3 : 2);
	gen_bytes(d, 0x25, 1);
	gen_bytes(d, to, 4);
	if (kind < 2) {
		store_imm(d, to + 6, 0, 2);
		store_imm(d, to + 8, 0, 8);
		store_imm(d, to + 16, 0, 8);
	} else { /* aligned, for the sake of AC */
		for (unsigned at = 12; at < 28; at += 4)
			store_imm(d, to + at, 0, 4);
	}
	gen_finish(d);
}

/* LDMXCSR, FLDCW or FXRSTOR of a plausible value. */
static void make_fpu_control(struct rng *g, struct diff_insn *d)
{
	u64 at = DIFF_DATA + 0x100 + (rnd_below(g, 0x3c00) & ~15u);
	unsigned kind = rnd_below(g, 3);
	u32 v = (u32)rnd(g) & 0xffff;

	gen_start(g, d);
	if (g->calm || rnd_pct(g, 60))
		v |= 0x1f80;
	if (kind == 0) {
		store_imm(d, at, v, 4);
		gen_mark(d);
		gen_bytes(d, 0x2514ae0f, 4); /* LDMXCSR */
	} else if (kind == 1) {
		store_imm(d, at, g->calm || rnd_pct(g, 60) ? v | 0x3f : v, 2);
		gen_mark(d);
		gen_bytes(d, 0x252cd9, 3); /* FLDCW */
	} else {
		store_imm(d, at + 24, v, 4);
		gen_mark(d);
		if (g->mode == DIFF_64 && rnd_pct(g, 50))
			gen_bytes(d, 0x48, 1);
		gen_bytes(d, 0x250cae0f, 4); /* FXRSTOR */
	}
	gen_bytes(d, at, 4);
	gen_finish(d);
}

/* A division that has a chance not to overflow. */
static void make_div(struct rng *g, struct diff_insn *d)
{
	bool idiv = rnd_pct(g, 50), wide = g->mode == DIFF_64 && rnd_pct(g, 50);

	gen_start(g, d);
	if (idiv) {
		if (wide)
			gen_bytes(d, 0x48, 1);
		gen_bytes(d, 0x99, 1); /* CDQ, CQO */
	} else {
		gen_bytes(d, 0xd231, 2); /* XOR EDX, EDX */
	}
	gen_mark(d);
	if (wide)
		gen_bytes(d, 0x48 | rnd_below(g, 2), 1);
	gen_bytes(d, rnd_pct(g, 20) ? 0xf6 : 0xf7, 1);
	gen_bytes(d, 0xc0 | (idiv ? 7 : 6) << 3 | rnd_below(g, 8), 1);
	gen_finish(d);
	d->undefined = X86_ARITH; /* the XOR's AF, the division's all */
}

static void make_cmpxchg8b(struct rng *g, struct diff_insn *d)
{
	gen_start(g, d);
	if (rnd_pct(g, 30))
		gen_bytes(d, 0xf0, 1);
	if (g->mode == DIFF_64 && rnd_pct(g, 50))
		gen_bytes(d, 0x48, 1);
	gen_bytes(d, 0xc70f, 2);
	gen_bytes(d, 0x0d, 1);
	gen_bytes(d, rnd_pointer(g), 4);
	gen_finish(d);
	d->rip_target = rnd_pointer(g);
}

/*
 * MASKMOVDQU, MASKMOVQ: to where all 16 bytes are, or with a mask of ones. (Whether bytes that are
 * masked out may fault is the CPU's choice.)
 */
static void make_maskmov(struct rng *g, struct diff_insn *d)
{
	unsigned mask = rnd_below(g, 8);
	bool mmx = rnd_pct(g, 30);

	gen_start(g, d);
	if (g->calm || rnd_pct(g, 70)) {
		set32(d, X86_RDI, (u32)(DIFF_DATA + rnd_below(g, 0x3ff0)));
	} else {
		set32(d, X86_RDI, (u32)rnd_pointer(g));
		if (!mmx)
			gen_bytes(d, 0x66, 1);
		gen_bytes(d, 0xc0760f | mask << 16 | mask << 19, 3); /* PCMPEQD */
	}
	gen_mark(d);
	if (!mmx)
		gen_bytes(d, 0x66, 1);
	gen_bytes(d, 0xc0f70f | mask << 16 | rnd_below(g, 8) << 19, 3);
	gen_finish(d);
	d->mmx = mmx;
}

static u32 selector(struct rng *g, bool null_too)
{
	static const u16 sel[] = { DIFF_SS, DIFF_SS, DIFF_SS, 0x28,   DIFF_CS, DIFF_CS32,
				   0x10,    0x1b,    0x1000,  0x8003, 0x0,     0x3 };

	return sel[rnd_below(g, ARRAY_LEN(sel) - (null_too ? 0 : 2))];
}

/* RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE. */
static void make_base(struct rng *g, struct diff_insn *d)
{
	unsigned reg = rnd_below(g, 16);

	gen_start(g, d);
	if (reg == X86_RSP)
		reg = X86_RAX;
	if (rnd_pct(g, 60))
		gen_set32(d, reg, (u32)rnd_pointer(g));
	gen_mark(d);
	gen_bytes(d, 0xf3, 1);
	gen_bytes(d, 0x40 | rnd_below(g, 2) << 3 | reg >> 3, 1);
	gen_bytes(d, 0xae0f, 2);
	gen_bytes(d, 0xc0 | rnd_below(g, 4) << 3 | (reg & 7), 1);
	gen_finish(d);
}

/*
 * MOV and POP to segment registers, LFS, LGS. A null selector in FS or GS clears the base on some
 * CPUs and not on others.
 */
static void make_segment(struct rng *g, struct diff_insn *d)
{
	static const u8 regs[] = { X86_ES, X86_DS, X86_SS, X86_FS, X86_GS };
	u8 reg = regs[rnd_below(g, ARRAY_LEN(regs))];
	u64 at = DIFF_DATA + 0x100 + (rnd_below(g, 0x3c00) & ~15u);
	u32 sel = selector(g, reg != X86_FS && reg != X86_GS);

	if (g->mode == DIFF_64 && rnd_pct(g, 40)) {
		make_base(g, d);
		return;
	}
	gen_start(g, d);
	if (reg >= X86_FS && rnd_pct(g, 30)) {
		store_imm(d, at, (u32)rnd_value(g), 4);
		store_imm(d, at + 4, sel, 2);
		gen_mark(d);
		gen_bytes(d, reg == X86_FS ? 0xb40f : 0xb50f, 2); /* LFS, LGS */
		gen_bytes(d, 0x2504 | (X86_RAX + rnd_below(g, 4)) << 3, 2);
		gen_bytes(d, at, 4);
	} else if (reg >= X86_FS && rnd_pct(g, 30)) {
		gen_bytes(d, 0x68, 1);
		gen_bytes(d, sel, 4);
		gen_mark(d);
		gen_bytes(d, reg == X86_FS ? 0xa10f : 0xa90f, 2); /* POP */
	} else {
		set32(d, X86_RAX, sel | (u32)rnd(g) << 16);
		gen_mark(d);
		gen_bytes(d, 0xc08e | reg << 11, 2);
	}
	gen_finish(d);
}

/* LAR, LSL, VERR, VERW. */
static void make_selector_test(struct rng *g, struct diff_insn *d)
{
	unsigned op = rnd_below(g, 4), reg = rnd_below(g, 8);

	gen_start(g, d);
	set32(d, X86_RCX, selector(g, true));
	gen_mark(d);
	if (op < 2)
		gen_bytes(d, 0xc1020f | op << 8 | reg << 19, 3);
	else
		gen_bytes(d, 0xc1000f | (op == 2 ? 4 : 5) << 19, 3);
	gen_finish(d);
	d->defined = X86_ZF;
}

/* Encodings that are #UD in 64-bit mode, and an instruction longer than 15 bytes (#GP). */
static void make_invalid(struct rng *g, struct diff_insn *d)
{
	static const u8 one[] = { 0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37,
				  0x3f, 0x60, 0x61, 0x82, 0x9a, 0xce, 0xd4, 0xd5, 0xd6, 0xea };
	static const u8 two[] = { 0x04, 0x0a, 0x0b, 0x0c, 0x25, 0x27, 0x36, 0x39, 0x3b, 0x3d,
				  0x3e, 0x3f, 0x7a, 0x7b, 0xa6, 0xa7, 0xaa, 0xb9, 0xff };

	gen_start(g, d);
	switch (rnd_below(g, 5)) {
	case 0:
		gen_bytes(d, one[rnd_below(g, ARRAY_LEN(one))], 1);
		gen_bytes(d, rnd(g), 8);
		break;
	case 1:
		gen_bytes(d, 0x0f | (u64)two[rnd_below(g, ARRAY_LEN(two))] << 8, 2);
		gen_bytes(d, 0xc0, 1);
		break;
	case 2: /* LOCK where it is not allowed: register destination, or no write */
		gen_bytes(d, 0xf0, 1);
		gen_bytes(d, rnd_pct(g, 50) ? 0xc001 : 0x0003, 2);
		break;
	case 3: /* 14 or 15 prefixes: 15 bytes are legal, 16 are not */
		for (unsigned n = 14 + rnd_below(g, 2); n; n--)
			gen_bytes(d, 0x66, 1);
		gen_bytes(d, 0x90, 1);
		break;
	default: /* LEA of a register; CMPXCHG8B of a register is RDRAND's place, so not here */
		gen_bytes(d, 0xc08d | rnd_below(g, 64) << 8, 2);
		break;
	}
	d->ilen = d->len;
}

void gen_special(struct rng *g, struct diff_insn *d)
{
	static void (*const makers[])(struct rng *, struct diff_insn *) = {
		gen_mov_imm,	    gen_mov_imm, gen_mov_imm,	 gen_mov_imm,  gen_mov_imm,
		gen_mov_imm,	    gen_mov_imm, make_string,	 make_string,  make_string,
		make_string,	    make_branch, make_branch,	 make_branch,  make_branch,
		make_popf,	    make_stack,	 make_stack,	 make_stack,   make_div,
		make_fpu_control,   make_fsave,	 make_cmpxchg8b, make_maskmov, make_segment,
		make_selector_test,
	};
	/* The last ones name addresses that 16-bit code does not reach, or the host's selectors. */
	unsigned n = ARRAY_LEN(makers) - (g->mode == DIFF_16 ? 6 : 0);
	/* Divisions overflow, selectors are bad. */
	static const u8 calm[] = { 0, 0, 7, 11, 15, 16, 16, 20, 22, 23 };

	if (!g->calm && g->mode == DIFF_64 && rnd_pct(g, 1)) {
		make_invalid(g, d);
		return;
	}
	n = g->calm && g->mode != DIFF_16 ? calm[rnd_below(g, ARRAY_LEN(calm))] : rnd_below(g, n);
	makers[n](g, d);
}
