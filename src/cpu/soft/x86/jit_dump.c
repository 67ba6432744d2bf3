/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_dump.c - what the translator made: guest code beside host code, and a map for perf
 *
 * How it works
 *
 * The dump has a paragraph for each region, written when it is translated: for each instruction
 * its linear address (as at that translation), its bytes' meaning, and the host instructions that
 * stand for it; then the code out of line. The map has a line for each block in the form that perf
 * reads from /tmp/perf-PID.map: host address, size, name. The name is the guest's, if its symbols are
 * known (--symbols). What is forgotten later is not taken back, since perf reads the map at the end:
 * where other code takes its place perf may choose the wrong line.
 */
#include "cpu/soft/x86/jit_priv.h"

#include "base/symbols.h"

#include <inttypes.h>
#include <stdio.h>

#define NAME_MAX_LEN 160

/* What code at @at is called. */
static const char *name_of(const struct jit *j, u64 at, char *buf)
{
	u64 off;
	const char *name = symbols_find(j->symbols, at, &off);

	if (name)
		snprintf(buf, NAME_MAX_LEN, "%s+0x%" PRIx64, name, off);
	else
		snprintf(buf, NAME_MAX_LEN, "guest_%" PRIx64, at);
	return buf;
}

static void print_insn(FILE *f, const ZydisFormatter *fmt, const ZydisDecodedInstruction *in,
		       const ZydisDecodedOperand *o, u64 at)
{
	char text[128];

	if (!ZYAN_SUCCESS(ZydisFormatterFormatInstruction(fmt, in, o, in->operand_count_visible,
							  text, sizeof(text), at, ZYAN_NULL)))
		snprintf(text, sizeof(text), "?");
	fputs(text, f);
}

static void host_lines(FILE *f, const ZydisFormatter *fmt, const ZydisDecoder *dec, const u8 *buf,
		       u32 from, u32 to)
{
	while (from < to) {
		ZydisDecodedInstruction in;
		ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(dec, buf + from, to - from, &in, o))) {
			fprintf(f, "%40s | %6x  .byte %02x\n", "", from, buf[from]);
			from++;
			continue;
		}
		fprintf(f, "%40s | %6x  ", "", from);
		print_insn(f, fmt, &in, o, from);
		fputc('\n', f);
		from += in.length;
	}
}

static void dump_member(FILE *f, const ZydisFormatter *fmt, const struct tr *t, unsigned i,
			u64 page)
{
	const struct member *m = &t->m[i];
	char name[NAME_MAX_LEN];
	static const char *const entry[] = { "not needed", "in memory", "in the host's" };

	fprintf(f, "block %016" PRIx64 " %s (%u instructions, flags %s)\n",
		page + (m->b->gpa & 0xfff), name_of(t->j, page + (m->b->gpa & 0xfff), name),
		m->b->n, entry[m->entry]);
	for (unsigned k = 0; k < m->b->n; k++) {
		const struct insn *x = &m->insn[k];
		u64 at = page + (m->b->gpa & 0xfff) + m->b->ops[k].ip;
		u32 to = k + 1u < m->b->n ? m->insn[k + 1].at
			 : i + 1 < t->n	  ? t->m[i + 1].label
					  : t->in_line;
		fprintf(f, "  %016" PRIx64 "  ", at);
		if (x->refused)
			fputs("(interpreted) ", f);
		print_insn(f, fmt, &x->in, x->o, at);
		fputc('\n', f);
		host_lines(f, fmt, &t->j->dec, t->buf, x->at, to);
	}
}

void jit_dump(const struct tr *t, const u8 *code, u64 rip)
{
	FILE *f = t->j->dump;
	ZydisFormatter fmt;
	u64 page = rip & ~0xfffull;

	ZydisFormatterInit(&fmt, ZYDIS_FORMATTER_STYLE_INTEL);
	fprintf(f, "region of %u blocks at host %p, %u bytes\n", t->n, (const void *)code, t->e.n);
	for (unsigned i = 0; i < t->n; i++)
		dump_member(f, &fmt, t, i, page);
	fputs("out of line\n", f);
	host_lines(f, &fmt, &t->j->dec, t->buf, t->in_line, t->e.n);
	fputc('\n', f);
	fflush(f);
}

void jit_map(const struct tr *t, const u8 *code, u64 rip)
{
	u64 page = rip & ~0xfffull;
	char name[NAME_MAX_LEN];

	for (unsigned i = 0; i < t->n; i++) {
		u32 to = i + 1 < t->n ? t->m[i + 1].label : t->in_line;
		fprintf(t->j->map, "%" PRIxPTR " %x %s\n", (uintptr_t)code + t->m[i].label,
			to - t->m[i].label, name_of(t->j, page + (t->m[i].b->gpa & 0xfff), name));
	}
	fprintf(t->j->map, "%" PRIxPTR " %x %s_out_of_line\n", (uintptr_t)code + t->in_line,
		t->e.n - t->in_line, name_of(t->j, rip, name));
	fflush(t->j->map);
}
