/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.c - places a sequence in the code pages and prints it
 *
 * How it works
 * Which flags may be undefined before each instruction is a data-flow problem: the union over the
 * fall-through and the branches that arrive there, to a fixed point, since branches go back too.
 * Where such a flag would be read, CMP ESP, imm8 goes in front. It is done again after the
 * minimiser has taken an instruction out.
 */
#include "diff.h"

#include <inttypes.h>
#include <string.h>

#include <Zydis/Zydis.h>

#define NORM_LEN 3

static const u8 norm[NORM_LEN] = { 0x83, 0xfc, 0x10 }; /* cmp esp, 10h: defines all six flags */

const struct diff_region diff_regions[DIFF_REGIONS] = {
	{ DIFF_CODE, DIFF_CODE_PAGES, false, true, "code" },
	{ DIFF_DATA, 4, true, false, "data" },
	{ DIFF_RO, 1, false, false, "read-only" },
	{ DIFF_ISLAND, 1, true, false, "island" },
	{ DIFF_STACK, 2, true, false, "stack" },
	{ DIFF_SMC, 2, true, true, "writable code" },
	{ DIFF_FUEL, 1, true, false, "fuel" },
};

long diff_offset(u64 va)
{
	long off = 0;

	for (unsigned i = 0; i < DIFF_REGIONS; i++) {
		const struct diff_region *r = &diff_regions[i];

		if (va >= r->va && va < r->va + r->pages * 4096ull)
			return off + (long)(va - r->va);
		off += (long)r->pages * 4096;
	}
	return -1;
}

/* Flags of @q's instruction @i go on to others. True if that was news. */
static bool flow_one(struct diff_seq *q, unsigned i, u32 any, bool *need)
{
	const struct diff_insn *d = &q->insn[i];
	u32 in = q->undef_in[i], out, before;
	bool news = false;

	if (!q->tiers_only && (in & d->tested) && !need[i])
		need[i] = news = true;
	if (need[i])
		in = 0;
	out = (in & ~d->defined) | d->undefined;
	if (d->reaches && d->target >= 0 && d->target <= (s8)q->n) {
		before = q->undef_in[d->target];
		q->undef_in[d->target] |= out;
		news |= before != q->undef_in[d->target];
	}
	/* A RET or an indirect jump may come back behind a CALL from anywhere. */
	if (d->mnemonic == ZYDIS_MNEMONIC_CALL)
		out |= any;
	if (!d->stops) {
		before = q->undef_in[i + 1];
		q->undef_in[i + 1] |= out;
		news |= before != q->undef_in[i + 1];
	}
	return news;
}

/* Which flags may be undefined before each instruction, and who needs a CMP. */
static void flow(struct diff_seq *q, bool *need)
{
	u32 any = 0;
	bool news = true;

	memset(q->undef_in, 0, sizeof(q->undef_in));
	for (unsigned i = 0; i < q->n; i++)
		any |= q->insn[i].undefined;
	while (news) {
		news = false;
		for (unsigned i = 0; i < q->n; i++)
			news |= flow_one(q, i, any, need);
	}
}

u64 diff_cs_base(const struct diff_seq *q)
{
	return q->mode == DIFF_16 ? (q->base >= DIFF_SMC ? DIFF_SMC : DIFF_CODE) : 0;
}

static u64 region_end(const struct diff_seq *q)
{
	return (q->base & ~0xfffull) + (q->base & 0x1000 ? 1 : 2) * 4096ull;
}

/* Where the instruction's bytes begin, behind the CMP that it may need. */
static u64 body(const struct diff_seq *q, const bool *need, s8 i)
{
	return q->va[i] + (i < (s8)q->n && need[i] ? NORM_LEN : 0);
}

static void resolve(const struct diff_seq *q, const struct diff_insn *d, const bool *need, u8 *code,
		    u64 va)
{
	u64 to = d->fix == FIX_RIP ? d->rip_target
		 : d->target_off   ? body(q, need, d->target) + d->target_off
				   : q->va[d->target];
	u32 rel = (u32)(to - (va + d->rel_end));

	if (d->fix == FIX_ABS)
		rel = (u32)(to - (d->reaches	       ? diff_cs_base(q)
				  : q->mode == DIFF_16 ? DIFF_DATA
						       : 0));
	else if (d->rel_size == 1 && ((s32)rel > 127 || (s32)rel < -128))
		rel = 0;
	memcpy(code + d->rel_at, &rel, d->rel_size);
}

void diff_layout(struct diff_seq *q)
{
	bool need[DIFF_INSNS_MAX + 1] = { false };
	u8 *pages = q->mem; /* the code region is the first */
	u64 va = q->base, end = region_end(q);
	u64 start = end - 2 * 4096;

	if (q->base >= DIFF_SMC)
		pages += diff_offset(DIFF_SMC);
	memset(pages, 0xf4, q->base >= DIFF_SMC ? DIFF_MIXED : DIFF_CODE_PAGES * 4096);
	flow(q, need);
	for (unsigned i = 0; i < q->n; i++) {
		q->va[i] = va;
		va += (need[i] ? NORM_LEN : 0) + q->insn[i].len;
	}
	q->va[q->n] = va;
	if (va < end)
		pages[va - start] = 0xf4;
	for (unsigned i = 0; i < q->n; i++) {
		u8 code[DIFF_INSN_BYTES];
		u64 at = body(q, need, (s8)i);

		if (need[i]) {
			if (at > end)
				break; /* what reads undefined flags is left out: HLT */
			memcpy(pages + (q->va[i] - start), norm, NORM_LEN);
		}
		memcpy(code, q->insn[i].b, q->insn[i].len);
		if (q->insn[i].fix)
			resolve(q, &q->insn[i], need, code, at);
		if (at >= end)
			break;
		memcpy(pages + (at - start), code, MIN((size_t)(end - at), (size_t)q->insn[i].len));
	}
	q->init.rip = q->base;
}

/* --- printing --------------------------------------------------------------------------------- */

static void print_code(const struct diff_seq *q, FILE *out)
{
	static const ZydisMachineMode modes[] = { [DIFF_64] = ZYDIS_MACHINE_MODE_LONG_64,
						  [DIFF_32] = ZYDIS_MACHINE_MODE_LEGACY_32,
						  [DIFF_16] = ZYDIS_MACHINE_MODE_LEGACY_16 };
	ZydisDisassembledInstruction dis;
	u64 va = q->base;
	u64 end = MAX(q->va[q->n], q->va[0]);

	while (va < end) {
		long off = diff_offset(va);
		size_t room = off < 0 ? 0 : MIN((size_t)15, (size_t)(DIFF_MEM - off));
		bool ok = off >= 0 && ZYAN_SUCCESS(ZydisDisassembleIntel(modes[q->mode], va,
									 q->mem + off, room, &dis));

		if (off < 0)
			break;
		fprintf(out, "  %08" PRIx64 "  ", va);
		for (unsigned i = 0; i < (ok ? dis.info.length : 1u); i++)
			fprintf(out, "%02x", q->mem[off + i]);
		fprintf(out, "  %s\n", ok ? dis.text : "(no instruction)");
		va += ok ? dis.info.length : 1;
	}
}

void diff_print(const struct diff_seq *q, FILE *out)
{
	static const char *const names[] = {
		"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"
	};
	const struct diff_fx *x = &q->init.fx;

	fprintf(out, "sequence %" PRIu64 " of seed %" PRIu64 "\n", q->index, q->seed);
	for (unsigned i = 0; i < 16; i++)
		fprintf(out, "  %-3s %016" PRIx64 "%s", names[i], q->init.r[i],
			i % 4 == 3 ? "\n" : "");
	fprintf(out, "  rflags %" PRIx64 " fs %" PRIx64 " gs %" PRIx64, q->init.rflags,
		q->init.fsbase, q->init.gsbase);
	fprintf(out, " fcw %x fsw %x ftw %x mxcsr %x\n", x->fcw, x->fsw, x->ftw, x->mxcsr);
	print_code(q, out);
}
