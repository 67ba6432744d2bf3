/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_flow.c - control flow of random sequences, and code that changes
 *
 * How it works
 * A branch that may go back is guarded by fuel: a count in memory (DIFF_FUEL_COUNT). RCX is put
 * aside, the count is loaded; if it is zero the branch is passed over (JRCXZ), else it is one less
 * and the branch is executed. All of that leaves the flags alone, so conditions may come from
 * anywhere before, across several memory operands. So every loop ends, whatever its body does to
 * registers and flags, and its length is chosen in the initial memory.
 *
 * Code that changes: some instructions are made so that a byte of them can be overwritten with
 * something of the same length and the same effects on flags (diff_insn.patch_at); writers of
 * many kinds write there. They may come before or behind, in the same block or another one.
 */
#include "gen_priv.h"

#include <string.h>

/* [disp32] as ModRM and SIB, which 32-bit code reads the same way; @reg: field of the ModRM. */
static void absolute(struct diff_insn *d, unsigned reg, u64 at)
{
	gen_bytes(d, 0x2504 | reg << 3, 2);
	gen_bytes(d, at, 4);
}

static void wide(struct diff_insn *d)
{
	if (d->mode == DIFF_64)
		gen_bytes(d, 0x48, 1);
}

/* MOV between RCX and memory. */
static void rcx(struct diff_insn *d, bool store, u64 at)
{
	wide(d);
	gen_bytes(d, store ? 0x89 : 0x8b, 1);
	absolute(d, X86_RCX, at);
}

/* Returns where the displacement is that fuel_end fills in. */
static u8 fuel_begin(struct diff_insn *d)
{
	u8 at;

	rcx(d, true, DIFF_FUEL_RCX);
	rcx(d, false, DIFF_FUEL_COUNT);
	gen_bytes(d, 0xe3, 2); /* JRCXZ, JECXZ */
	at = (u8)(d->len - 1);
	wide(d);
	gen_bytes(d, 0xff498d, 3); /* LEA RCX, [RCX-1] */
	rcx(d, true, DIFF_FUEL_COUNT);
	rcx(d, false, DIFF_FUEL_RCX);
	return at;
}

static void fuel_end(struct diff_insn *d, u8 at)
{
	d->b[at] = (u8)(d->len - at - 1);
	rcx(d, false, DIFF_FUEL_RCX);
}

/* MOV r32, imm32 of the address of an instruction. Returns the register. */
static unsigned load_target(struct rng *g, struct diff_insn *d)
{
	static const u8 regs[] = { X86_RAX, X86_RDX, X86_RBX, X86_RSI, X86_RDI, 8, 11, 14 };
	unsigned r = regs[rnd_below(g, d->mode == DIFF_64 ? 8 : 5)];
	unsigned n = d->mode == DIFF_16 ? 2 : 4;

	if (r > 7)
		gen_bytes(d, 0x41, 1);
	gen_bytes(d, 0xb8 | (r & 7), 1);
	d->rel_at = d->len;
	d->rel_size = (u8)n;
	gen_bytes(d, 0, n);
	return r;
}

/* The branch of load_target, through the register, memory, or the stack. */
static void indirect(struct rng *g, struct diff_insn *d, unsigned r)
{
	unsigned rex = r > 7 ? 0x41 : 0, how = rnd_below(g, d->mode == DIFF_16 ? 2 : 3);
	bool call = rnd_pct(g, 30);
	u64 at = DIFF_FUEL + 128 + rnd_below(g, 8) * 64;

	if (how == 0 || (how == 1 && d->mode == DIFF_16 && call)) {
		gen_mark(d);
		if (rex)
			gen_bytes(d, rex, 1);
		gen_bytes(d, 0xc0ff | (call ? 2u : 4u) << 11 | (r & 7) << 8, 2);
	} else if (how == 1) {
		if (rex)
			gen_bytes(d, rex, 1);
		gen_bytes(d, 0x50 | (r & 7), 1); /* PUSH, RET */
		gen_mark(d);
		gen_bytes(d, 0xc3, 1);
	} else {
		if (d->mode == DIFF_64)
			gen_bytes(d, r > 7 ? 0x4c : 0x48, 1);
		gen_bytes(d, 0x89, 1);
		absolute(d, r & 7, at);
		gen_mark(d);
		gen_bytes(d, 0xff, 1);
		absolute(d, call ? 2 : 4, at);
	}
}

static void make_indirect(struct rng *g, struct diff_insn *d, bool back)
{
	u8 fuel = 0, rel_at, rel_size;
	unsigned r;

	gen_start(g, d);
	if (back)
		fuel = fuel_begin(d);
	r = load_target(g, d);
	rel_at = d->rel_at;
	rel_size = d->rel_size;
	indirect(g, d, r);
	if (back)
		fuel_end(d, fuel);
	gen_finish(d);
	d->fix = FIX_ABS;
	d->rel_at = rel_at;
	d->rel_size = rel_size;
	d->reaches = true;
	d->back = back;
	d->stops &= !back;
}

/* Jcc, JMP, CALL, LOOPcc, JRCXZ to somewhere that may lie before. */
static void make_back(struct rng *g, struct diff_insn *d)
{
	u8 fuel;
	unsigned p = rnd_below(g, 100);

	gen_start(g, d);
	fuel = fuel_begin(d);
	gen_mark(d);
	if (p < 70) {
		gen_bytes(d, 0x800f | rnd_below(g, 16) << 8, 2);
		gen_bytes(d, 0, 4);
	} else if (p < 85) {
		gen_bytes(d, 0xe8 | rnd_below(g, 2), 1);
		gen_bytes(d, 0, 4);
	} else {
		gen_bytes(d, 0xe0 | rnd_below(g, 4), 2);
	}
	fuel_end(d, fuel);
	gen_finish(d);
	d->back = true;
	d->stops = false;
}

static void make_forward(struct rng *g, struct diff_insn *d)
{
	gen_start(g, d);
	if (rnd_pct(g, 15)) {
		gen_bytes(d, 0xe9 - rnd_below(g, 2), 1); /* JMP, CALL */
		gen_bytes(d, 0, d->mode == DIFF_16 ? 2 : 4);
	} else if (rnd_pct(g, 60)) {
		gen_bytes(d, 0x70 | rnd_below(g, 16), 2);
	} else {
		gen_bytes(d, 0x800f | rnd_below(g, 16) << 8, 2);
		gen_bytes(d, 0, d->mode == DIFF_16 ? 2 : 4);
	}
	gen_finish(d);
}

/* MOV EAX, imm32, whose last bytes are three other instructions. */
static void make_inner(struct rng *g, struct diff_insn *d)
{
	/* None that reads flags: nothing can be put before them. */
	static const u8 alu[] = { 0x01, 0x09, 0x21, 0x29, 0x31, 0x39 };
	static const u8 small[] = { 0x90, 0xf8, 0xf9, 0x9e, 0xfc, 0x98 };

	gen_start(g, d);
	gen_bytes(d, 0xb8, 1);
	gen_bytes(d, alu[rnd_below(g, ARRAY_LEN(alu))] | (0xc0 | rnd_below(g, 4) << 3) << 8, 2);
	if (d->mode != DIFF_16)
		gen_bytes(d, small[rnd_below(g, 6)] | small[rnd_below(g, 6)] << 8, 2);
	gen_finish(d);
	d->inner = true;
	d->undefined = X86_AF;
}

/* An instruction one byte of which may change. */
static void make_patched(struct rng *g, struct diff_insn *d)
{
	gen_start(g, d);
	if (rnd_pct(g, 50)) { /* any of ADD to CMP, by its opcode */
		gen_bytes(d, 0x3e, 1);
		gen_bytes(d, 0x01 | rnd_below(g, 8) << 3, 1);
		gen_bytes(d, 0xc0 | rnd_below(g, 4) << 3 | rnd_below(g, 4), 1);
		gen_finish(d);
		d->tested = X86_CF;
		d->defined = X86_ARITH & ~X86_AF;
		d->undefined = X86_AF;
		d->patch_at = 1;
		return;
	}
	if (rnd_pct(g, 50)) { /* MOV r32, imm32 */
		gen_bytes(d, 0xb8 | rnd_below(g, 4), 1);
	} else { /* ADD r32, imm32 */
		gen_bytes(d, 0xc081 | rnd_below(g, 4) << 8, 2);
	}
	d->patch_at = d->len;
	gen_bytes(d, rnd(g), 4);
	gen_finish(d);
}

/* Writes to a patched instruction's opcode: MOV byte [..], one that is as good. */
static void write_opcode(struct rng *g, struct diff_insn *d)
{
	gen_bytes(d, 0xc6, 1);
	absolute(d, 0, 0);
	d->rel_at = (u8)(d->len - 4);
	gen_bytes(d, 0x01 | rnd_below(g, 8) << 3, 1);
}

/* To its immediate, by anything that writes 1 or 4 bytes. */
static void write_imm(struct rng *g, struct diff_insn *d)
{
	static const u32 ops[] = { 0x000088, 0x000089, 0x0000fe, 0x0000ff, 0x0010f6, 0x0010f7,
				   0x0018f6, 0x0018f7, 0x000000, 0x000001, 0x000010, 0x000029,
				   0x000031, 0x00c00f, 0x00c10f, 0x00b10f, 0x00940f, 0x00920f,
				   0x0000d0, 0x0008d1, 0x0018d3, 0x110ff3, 0x0010d9, 0x00c30f };
	u32 op = ops[rnd_below(g, ARRAY_LEN(ops))];
	unsigned n = (op & 0xff) == 0x0f ? 2 : op == 0x110ff3 ? 3 : 1;
	bool group = n == 1 && ((op & 0xff) >= 0xd0);
	unsigned reg = group ? op >> 11 & 7 : rnd_below(g, 4);

	gen_bytes(d, op, n);
	absolute(d, reg, 0);
	d->rel_at = (u8)(d->len - 4);
}

/* By four bytes of REP STOS. */
static void write_string(struct rng *g, struct diff_insn *d)
{
	gen_bytes(d, 0xbf, 1); /* MOV EDI, imm32 */
	d->rel_at = d->len;
	gen_bytes(d, 0, 4);
	gen_set32(d, X86_RCX, 4);
	gen_bytes(d, 0xfc, 1);
	gen_mark(d);
	gen_bytes(d, 0xaaf3, 2);
	gen_set32(d, X86_RDI, (u32)rnd_pointer(g)); /* or others go on writing there */
}

/*
 * What follows is executed only with one count of fuel: in one round of a loop, when the code that
 * it changes is translated and branched to directly. Returns where guard_end fills in.
 */
static u8 guard_begin(struct rng *g, struct diff_insn *d)
{
	u8 at;

	rcx(d, true, DIFF_FUEL_RCX);
	rcx(d, false, DIFF_FUEL_COUNT);
	wide(d);
	gen_bytes(d, 0x898d, 2); /* LEA RCX, [RCX - n] */
	gen_bytes(d, (u64) - (s64)rnd_below(g, 16), 4);
	gen_bytes(d, 0xe3, 2); /* JRCXZ */
	at = d->len;
	rcx(d, false, DIFF_FUEL_RCX);
	gen_bytes(d, 0xeb, 2); /* JMP behind it all */
	d->b[at - 1] = (u8)(d->len - at);
	at = d->len;
	rcx(d, false, DIFF_FUEL_RCX);
	return at;
}

static void make_writer(struct rng *g, struct diff_insn *d)
{
	unsigned p = rnd_below(g, 100);
	bool guard = rnd_pct(g, 60);
	u8 rel_at, skip = 0;

	gen_start(g, d);
	if (guard)
		skip = guard_begin(g, d);
	gen_mark(d);
	if (p < 40)
		write_opcode(g, d);
	else if (p < 88)
		write_imm(g, d);
	else
		write_string(g, d);
	rel_at = d->rel_at;
	gen_finish(d);
	if (guard) {
		d->b[skip - 1] = (u8)(d->len - skip);
		d->defined = 0;
	}
	d->fix = FIX_ABS;
	d->rel_at = rel_at;
	d->rel_size = 4;
	d->target_off = p < 40 ? 1 : 2; /* an opcode or an immediate; gen_targets finds one */
	d->reaches = false;
}

/* Reads and writes of data in a page with code. */
static void make_mixed(struct rng *g, struct diff_insn *d)
{
	static const u16 ops[] = { 0x01, 0x03, 0x11, 0x13, 0x31, 0x89, 0x8b, 0x39, 0x87, 0x29 };
	u64 at = DIFF_SMC + DIFF_MIXED + 64 + rnd_below(g, 0x3b0);

	gen_start(g, d);
	gen_bytes(d, ops[rnd_below(g, ARRAY_LEN(ops))], 1);
	absolute(d, rnd_below(g, 4), at);
	gen_finish(d);
}

static void make_flags(struct rng *g, struct diff_insn *d)
{
	static const u8 ops[] = { 0x9f, 0x9e, 0x9c, 0xf5, 0xf8, 0xf9 };

	gen_start(g, d);
	if (rnd_pct(g, 25)) { /* SETcc r8, CMOVcc */
		gen_bytes(d, 0x0f | (rnd_pct(g, 50) ? 0x90 : 0x40) << 8 | rnd_below(g, 16) << 8, 2);
		gen_bytes(d, 0xc0 | rnd_below(g, 4) << 3 | rnd_below(g, 4), 1);
	} else if (rnd_pct(g, 30)) { /* INC, DEC; shifts by CL */
		gen_bytes(d, rnd_pct(g, 50) ? 0xff : 0xd3, 1);
		gen_bytes(d, 0xc0 | rnd_below(g, d->b[0] == 0xff ? 2 : 6) << 3 | rnd_below(g, 3),
			  1);
	} else {
		gen_bytes(d, ops[rnd_below(g, ARRAY_LEN(ops))], 1);
	}
	gen_finish(d);
}

void gen_flow(struct rng *g, struct diff_insn *d)
{
	unsigned p = rnd_below(g, 100);

	if (g->smc && p < 18)
		make_writer(g, d);
	else if (g->smc && p < 34)
		make_patched(g, d);
	else if (g->smc && p < 40)
		make_mixed(g, d);
	else if (p < 60)
		make_forward(g, d);
	else if (p < 78)
		g->mode == DIFF_16 ? make_forward(g, d) : make_back(g, d);
	else if (p < 84)
		make_indirect(g, d, g->mode != DIFF_16 && rnd_pct(g, 40));
	else if (p < 88)
		make_inner(g, d);
	else
		make_flags(g, d);
}

void gen_sub(struct rng *g, struct diff_insn *d, enum gen_sub what)
{
	gen_start(g, d);
	gen_bytes(d, what == SUB_CALL ? 0xe8 : what == SUB_SKIP ? 0xe9 : 0xc3, 1);
	if (what != SUB_RET)
		gen_bytes(d, 0, d->mode == DIFF_16 ? 2 : 4);
	gen_finish(d);
}

void gen_loop(struct rng *g, struct diff_seq *q)
{
	struct diff_insn *d = &q->insn[q->n - 1];

	if (q->n < 3 || g->mode == DIFF_16)
		return;
	gen_start(g, d);
	u8 fuel = fuel_begin(d);
	gen_mark(d);
	gen_bytes(d, 0xe9, 1);
	gen_bytes(d, 0, 4);
	fuel_end(d, fuel);
	gen_finish(d);
	d->back = true;
	d->stops = false;
	d->target = (s8)rnd_below(g, q->n / 2);
}

/* One to write to, of those that have what @d writes; or @d becomes a NOP. */
static void pick_patched(struct rng *g, struct diff_seq *q, struct diff_insn *d)
{
	unsigned k = rnd_below(g, q->n);

	for (unsigned i = 0; i < q->n; i++) {
		const struct diff_insn *p = &q->insn[(k + i) % q->n];

		if (!p->patch_at || (p->b[0] == 0x3e) != (d->target_off == 1))
			continue;
		d->target = (s8)(p - q->insn);
		d->target_off = p->patch_at;
		return;
	}
	gen_start(g, d);
	gen_bytes(d, 0x90, 1);
	gen_finish(d);
}

void gen_targets(struct rng *g, struct diff_seq *q)
{
	for (unsigned i = 0; i < q->n; i++) {
		struct diff_insn *d = &q->insn[i];

		if (d->fix == FIX_ABS && !d->reaches) {
			pick_patched(g, q, d);
			continue;
		}
		if (!d->reaches || d->target >= 0)
			continue;
		if (d->back && rnd_pct(g, 85))
			d->target = (s8)(i - rnd_below(g, MIN(i, 12u) + 1));
		else
			d->target = (s8)(i + 1 +
					 rnd_below(g, MIN(q->n - i, d->rel_size == 1 ? 4u : 9u)));
		d->target_off = d->target < (s8)q->n && q->insn[d->target].inner && rnd_pct(g, 60);
	}
	/* How often branches may go back: mostly a little, sometimes until code is hot. */
	u64 fuel = rnd_pct(g, 10) ? 60 + rnd_below(g, 100) : rnd_below(g, 24);

	memcpy(q->mem + diff_offset(DIFF_FUEL_COUNT), &fuel, 8);
}
