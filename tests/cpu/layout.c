/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.c - places a sequence in the code pages and prints it
 *
 * How it works
 * Branches go forward only, so one pass in order knows, before each instruction, which flags may
 * be undefined: the union over the fall-through and the branches that arrive there. Where such a
 * flag would be read, CMP ESP, imm8 goes in front. The pass is repeated after the minimiser has
 * taken an instruction out.
 */
#include "diff.h"

#include <inttypes.h>
#include <string.h>

#include <Zydis/Zydis.h>

static const u8 norm[] = { 0x83, 0xfc, 0x10 }; /* cmp esp, 0x10: defines all six flags */

const struct diff_region diff_regions[DIFF_REGIONS] = {
	{ DIFF_CODE, DIFF_CODE_PAGES, false, true, "code" },
	{ DIFF_DATA, 4, true, false, "data" },
	{ DIFF_RO, 1, false, false, "read-only" },
	{ DIFF_ISLAND, 1, true, false, "island" },
	{ DIFF_STACK, 2, true, false, "stack" },
	{ DIFF_SMC, 1, true, true, "writable code" },
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

/* Which flags may be undefined before each instruction, and who needs a CMP. */
static void flow(struct diff_seq *q, bool *need)
{
	u32 any = 0, out;

	memset(q->undef_in, 0, sizeof(q->undef_in));
	for (unsigned i = 0; i < q->n; i++)
		any |= q->insn[i].undefined;
	for (unsigned i = 0; i < q->n; i++) {
		const struct diff_insn *d = &q->insn[i];
		u32 in = q->undef_in[i];

		need[i] = (in & d->tested) != 0;
		if (need[i])
			in = 0;
		out = (in & ~d->defined) | d->undefined;
		if (d->target > 0 && d->target <= (s8)q->n)
			q->undef_in[d->target] |= out;
		/* A RET or an indirect jump may come back behind a CALL from anywhere. */
		if (d->mnemonic == ZYDIS_MNEMONIC_CALL)
			out |= any;
		if (!d->stops)
			q->undef_in[i + 1] |= out;
	}
}

static void resolve(struct diff_seq *q, unsigned i, u8 *code, u64 va)
{
	const struct diff_insn *d = &q->insn[i];
	u64 end = va + d->at + d->ilen;
	u64 to = d->rip_rel ? d->rip_target : q->va[d->target];
	u32 rel = (u32)(to - end);

	if (d->rel_size == 1 && (s32)rel > 127)
		rel = 0;
	memcpy(code + d->rel_at, &rel, d->rel_size);
}

void diff_layout(struct diff_seq *q)
{
	bool need[DIFF_INSNS_MAX + 1] = { false };
	u8 *pages = q->mem; /* the code region is the first */
	u64 va = q->base;

	memset(pages, 0xf4, DIFF_CODE_PAGES * 4096);
	flow(q, need);
	for (unsigned i = 0; i < q->n; i++) {
		q->va[i] = va;
		va += (need[i] ? sizeof(norm) : 0) + q->insn[i].len;
	}
	q->va[q->n] = va;
	for (unsigned i = 0; i < q->n; i++) {
		u8 code[DIFF_INSN_BYTES];
		u64 at = q->va[i];
		size_t room;

		if (need[i]) {
			if (at + sizeof(norm) > DIFF_CODE + DIFF_CODE_PAGES * 4096)
				break; /* what reads undefined flags is left out: HLT */
			memcpy(pages + (at - DIFF_CODE), norm, sizeof(norm));
			at += sizeof(norm);
		}
		memcpy(code, q->insn[i].b, q->insn[i].len);
		if (q->insn[i].rel_at)
			resolve(q, i, code, at);
		if (at >= DIFF_CODE + DIFF_CODE_PAGES * 4096)
			break;
		room = DIFF_CODE + DIFF_CODE_PAGES * 4096 - at;
		memcpy(pages + (at - DIFF_CODE), code, MIN(room, (size_t)q->insn[i].len));
	}
	q->init.rip = q->base;
}

/* --- printing --------------------------------------------------------------------------------- */

static void print_code(const struct diff_seq *q, FILE *out)
{
	ZydisDisassembledInstruction dis;
	u64 va = q->base;
	u64 end = MAX(q->va[q->n], q->va[0]);

	while (va < end) {
		long off = diff_offset(va);
		size_t room = off < 0 ? 0 : MIN((size_t)15, (size_t)(DIFF_MEM - off));
		bool ok =
			off >= 0 &&
			ZYAN_SUCCESS(ZydisDisassembleIntel(q->compat ? ZYDIS_MACHINE_MODE_LEGACY_32
								     : ZYDIS_MACHINE_MODE_LONG_64,
							   va, q->mem + off, room, &dis));

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
