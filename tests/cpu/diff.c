/* SPDX-License-Identifier: Apache-2.0 */
/*
 * diff.c - runs a sequence everywhere and compares
 *
 * How it works
 * The host's CPU and the interpreter must agree in what is architecturally defined. The translator
 * must agree with the interpreter in everything: undefined flags, the number of instructions,
 * accessed and dirty bits. It runs each sequence three times: with code that it has not seen; with
 * translated code and a warm TLB, so that accesses happen in host code; with translated code and an
 * empty TLB. Now and then (struct diff_effort) the mixed tiers run it until it is hot in the middle,
 * and interpreter and translator are stopped after many counts of instructions, where they must be
 * in the same state too.
 *
 * What is not compared with the host, and why:
 *  - RF: the hardware sets it in the image that a fault pushes; the engine's state is the one
 *    before the push;
 *  - flags that the manual leaves undefined (rules.c);
 *  - FIP, FDP, FOP: always zero in Orrery (docs/quirks.md);
 *  - the P bit of a page fault's error code above Linux's user addresses: shown as always set;
 *  - TOP, the tags and the order of the ST registers where an MMX store has faulted: Intel's CPUs
 *    enter MMX state before they touch memory, which a restart cannot tell;
 *  - how far behind an undefined opcode or 15 bytes of prefixes a processor reads (#PF of the
 *    fetch, or #UD or #GP; the host itself is not constant in this);
 *  - MASKMOVDQU and MASKMOVQ that fault: Intel's CPUs write the upper half first, and check the
 *    alignment of the halves under EFLAGS.AC (docs/quirks.md);
 *  - calls of 16-bit and 32-bit code that fault: processors push before they check the limit of CS;
 *  - which of several exceptions comes first where an operand of such code violates the segment's
 *    limit, an alignment and paging, or wraps around 4 GiB (SDM vol. 3, 5.3: it varies);
 *  - sequences that end between an FNSAVE or FXSAVE and the instructions that clear what it has
 *    stored of FIP, FDP and FOP (special.c), by a single-step trap or the end of the code;
 *  - sequences that loop for ever or that reach a system call (counted, a handful in a million);
 *  - sequences that overwrite their own code so that it becomes an instruction which the generator
 *    leaves out, or no longer clears FIP, FDP and FOP (counted too). The tiers must agree all the same;
 *  - repeated string instructions that overwrite themselves: processors store a good many elements
 *    before they look at what they execute;
 *  - x87 environments and images across the end of the user's half of the address space: processors
 *    load and store them in parts, and part of it is not mapped (#PF, or #GP or #SS, first);
 *  - the one page that this program has between the test's (native.c).
 */
#include "diff.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#define TASK_END ((1ull << 47) - 4096) /* Linux: the last user page is never mapped */
#define CODE_END (DIFF_CODE + DIFF_CODE_PAGES * 4096)
#define INSNS_MAX 1000000 /* of one run, REP iterations counted */

bool diff_v3(void)
{
	static int v3 = -1;

	if (v3 < 0) {
		const char *model = getenv("DIFF_MODEL");

		v3 = model && !strcmp(model, "v3");
	}
	return v3;
}

static bool native_twice; /* the host against itself, to test the test */
static bool all_flags;	  /* compare undefined flags too */

void diff_native_twice(bool on)
{
	native_twice = on;
}

void diff_all_flags(bool on)
{
	all_flags = on;
}

#define LOG 4096

struct cmp {
	const char *names[2]; /* who is compared */
	unsigned diffs;
	size_t len;
	char text[LOG]; /* a line a difference */
};

static void differ(struct cmp *c, const char *what, u64 native, u64 guest)
{
	c->diffs++;
	if (c->len < LOG - 128)
		c->len +=
			(size_t)snprintf(c->text + c->len, LOG - c->len,
					 "  differs: %-10s %s %016" PRIx64 "  %s %016" PRIx64 "\n",
					 what, c->names[0], native, c->names[1], guest);
}

static void same(struct cmp *c, const char *what, u64 native, u64 guest)
{
	if (native != guest)
		differ(c, what, native, guest);
}

/* The instruction that ended the sequence by a fault, or NULL. */
static const struct diff_insn *faulted(const struct diff_seq *q, u64 rip)
{
	for (unsigned i = 0; i < q->n; i++) {
		if (rip >= q->va[i] && rip < q->va[i + 1])
			return &q->insn[i];
	}
	return NULL;
}

/* Flags that may be undefined where the sequence ended. */
static u32 undefined_at(const struct diff_seq *q, u64 rip)
{
	u32 all = 0;

	for (unsigned i = 0; i <= q->n; i++) {
		if (rip == q->va[i])
			return q->undef_in[i];
		if (i < q->n)
			all |= q->insn[i].undefined;
	}
	return all;
}

static void compare_gprs(struct cmp *c, const struct diff_seq *q, const struct diff_result *n,
			 const struct diff_result *g)
{
	static const char *const names[] = {
		"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"
	};
	u64 mask = ~(u64)X86_RF;

	for (unsigned i = 0; i < 16; i++)
		same(c, names[i], n->s.r[i], g->s.r[i]);
	/* INT3 is a trap: the hardware's RIP is behind it, the engine's hook sees its start. */
	if (n->vector != X86_BP || n->s.rip - g->s.rip > 15)
		same(c, "rip", n->s.rip, g->s.rip);
	if (!all_flags)
		mask &= ~(u64)undefined_at(q, n->s.rip);
	same(c, "rflags", n->s.rflags & mask, g->s.rflags & mask);
	same(c, "fsbase", n->s.fsbase, g->s.fsbase);
	same(c, "gsbase", n->s.gsbase, g->s.gsbase);
}

static void compare_fx(struct cmp *c, const struct diff_seq *q, const struct diff_result *n,
		       const struct diff_result *g)
{
	const struct diff_insn *last = faulted(q, n->s.rip);
	bool stack = !(last && last->mmx);
	u16 fsw_mask = stack ? 0xffff : (u16)~0x3800;
	const struct diff_fx *a = &n->s.fx;
	const struct diff_fx *b = &g->s.fx;
	char name[16];
	u64 x[2], y[2];

	same(c, "fcw", a->fcw, b->fcw);
	same(c, "fsw", a->fsw & fsw_mask, b->fsw & fsw_mask);
	if (stack)
		same(c, "ftw", a->ftw, b->ftw);
	same(c, "mxcsr", a->mxcsr, b->mxcsr);
	for (unsigned i = stack ? 0 : 8; i < 24; i++) {
		const u8 *p = i < 8 ? a->st[i] : a->xmm[i - 8];
		const u8 *r = i < 8 ? b->st[i] : b->xmm[i - 8];

		memset(x, 0, 16);
		memset(y, 0, 16);
		memcpy(x, p, i < 8 ? 10 : 16);
		memcpy(y, r, i < 8 ? 10 : 16);
		if (x[0] == y[0] && x[1] == y[1])
			continue;
		snprintf(name, sizeof(name), i < 8 ? "st%u" : "xmm%u", i < 8 ? i : i - 8);
		if (x[0] != y[0])
			differ(c, name, x[0], y[0]);
		if (x[1] != y[1])
			differ(c, name, x[1], y[1]);
	}
}

static void compare_ymm(struct cmp *c, const struct diff_result *n, const struct diff_result *g)
{
	char name[16];
	u64 x[2], y[2];

	if (!memcmp(n->ymmh, g->ymmh, sizeof(n->ymmh)))
		return;
	for (unsigned i = 0; i < 16; i++) {
		memcpy(x, n->ymmh[i], 16);
		memcpy(y, g->ymmh[i], 16);
		snprintf(name, sizeof(name), "ymm%u", i);
		same(c, name, x[0], y[0]);
		same(c, name, x[1], y[1]);
	}
}

static void compare_mem(struct cmp *c, const u8 *n, const u8 *g)
{
	unsigned shown = 0;

	if (!memcmp(n, g, DIFF_MEM))
		return;
	for (unsigned r = 0, off = 0; r < DIFF_REGIONS; r++) {
		for (unsigned i = 0; i < diff_regions[r].pages * 4096; i += 8, off += 8) {
			u64 a, b;
			char name[24];

			memcpy(&a, n + off, 8);
			memcpy(&b, g + off, 8);
			if (a == b || shown++ > 7)
				continue;
			snprintf(name, sizeof(name), "[%08" PRIx64 "]", diff_regions[r].va + i);
			differ(c, name, a, b);
		}
	}
}

static void compare_outcome(struct cmp *c, const struct diff_seq *q, const struct diff_result *n,
			    const struct diff_result *g)
{
	u32 mask = n->vector == X86_PF_EXC && n->cr2 >= TASK_END ? ~PFEC_P : ~0u;

	same(c, "outcome", n->end, g->end);
	if (n->vector == X86_PF_EXC && n->cr2 == CODE_END && n->s.rip + 15 >= CODE_END &&
	    (g->vector == X86_UD || g->vector == X86_GP))
		return;
	same(c, "vector", n->vector, g->vector);
	if (n->vector != g->vector)
		return;
	same(c, "error", n->err & mask, g->err & mask);
	same(c, "cr2", n->cr2, g->cr2);
}

/* Where processors differ in how an instruction faults. */
static bool faults_in_its_way(const struct diff_seq *q, const struct diff_result *n)
{
	const struct diff_insn *d = faulted(q, n->s.rip);

	return d && n->end == DIFF_EXC &&
	       (d->mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ||
		d->mnemonic == ZYDIS_MNEMONIC_MASKMOVQ ||
		(q->mode != DIFF_64 && d->mnemonic == ZYDIS_MNEMONIC_CALL));
}

static bool about_operand(const struct diff_result *r)
{
	return r->vector == X86_SS_EXC || r->vector == X86_GP || r->vector == X86_PF_EXC ||
	       r->vector == X86_AC_EXC;
}

/* x87 environments and images, which processors load and store in parts. */
static bool in_parts(u16 mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_FLDENV:
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
		return true;
	default:
		return false;
	}
}

/* One of them across the end of the user's half, where the last page is never mapped. */
static bool across_task_end(const struct diff_seq *q, const struct diff_result *n,
			    const struct diff_result *g)
{
	const struct diff_insn *d = faulted(q, n->s.rip);

	return d && in_parts(d->mnemonic) && n->s.rip == g->s.rip && n->vector == X86_PF_EXC &&
	       n->cr2 >= TASK_END && (g->vector == X86_GP || g->vector == X86_SS_EXC);
}

/* Operands of 16-bit and 32-bit code that violate more than one rule. */
static bool which_first(const struct diff_seq *q, const struct diff_result *n,
			const struct diff_result *g)
{
	return q->mode != DIFF_64 && n->vector != g->vector && about_operand(n) &&
	       about_operand(g) && n->s.rip == g->s.rip;
}

/* An instruction that stores FIP and FDP, with those behind it that clear them. */
static bool stores_pointers(u16 mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
		return true;
	default:
		return false;
	}
}

static bool ends_in_fsave(const struct diff_seq *q, const struct diff_result *n)
{
	const struct diff_insn *d = faulted(q, n->s.rip);

	/* At its own address it is the save that has faulted. */
	return d && n->s.rip > q->va[d - q->insn] && stores_pointers(d->mnemonic);
}

/* --- traces ----------------------------------------------------------------------------------- */

static struct diff_trace native, native2, interp, warm, other;
static struct cmp cmp; /* of the last check */

/* Arithmetic flags that a run continues with behind a fault: any, but the same for all runs. */
static u32 flags_behind(const struct diff_seq *q, unsigned stop)
{
	u64 x = (q->index + 1) * 0x9e3779b97f4a7c15ull + stop * 0xbf58476d1ce4e5b9ull;

	return (u32)(x >> 32) & X86_ARITH;
}

/*
 * Where the run continues behind this exception, or 0. Not behind a trap, nor where host and
 * engine are known to be in different states.
 */
static u64 next_rip(const struct diff_seq *q, const struct diff_result *r)
{
	const struct diff_insn *d = faulted(q, r->s.rip);

	if (r->end != DIFF_EXC || !d || r->vector == X86_DB || r->vector == X86_BP || d->mmx ||
	    ends_in_fsave(q, r) || faults_in_its_way(q, r))
		return 0;
	return q->va[d - q->insn + 1];
}

static void trace_native(const struct diff_seq *q, struct diff_trace *t)
{
	u64 rip;

	native_start(q);
	for (t->n = 0; t->n < DIFF_STOPS;) {
		struct diff_result *r = &t->r[t->n];

		native_go(q, r);
		memcpy(t->mem[t->n++], native_mem(), DIFF_MEM);
		rip = next_rip(q, r);
		if (!rip)
			return;
		native_resume(q, r, rip, flags_behind(q, t->n));
	}
}

static void trace_guest(enum diff_tier tier, const struct diff_seq *q, bool cold,
			struct diff_trace *t)
{
	u64 rip;

	guest_start(tier, q, cold);
	for (t->n = 0; t->n < DIFF_STOPS;) {
		struct diff_result *r = &t->r[t->n];

		guest_go(tier, q, INSNS_MAX, r);
		guest_fetch_mem(tier, t->mem[t->n++]);
		rip = next_rip(q, r);
		if (!rip)
			return;
		guest_resume(tier, q, rip, flags_behind(q, t->n));
	}
}

/* Whether it ended in a way that can be compared with the host. */
static bool comparable(const struct diff_trace *t)
{
	enum diff_end end = t->r[t->n - 1].end;

	return end == DIFF_EXC;
}

/* Where it was when something differed. */
static void note(struct cmp *c, const struct diff_result *r, unsigned stop)
{
	if (c->diffs && c->len < LOG - 128)
		c->len += (size_t)snprintf(c->text + c->len, LOG - c->len,
					   "  at stop %u: exception %u, rip %" PRIx64
					   ", instructions %" PRIu64 "\n",
					   stop, r->vector, r->s.rip, r->insns);
}

static void with_host(struct cmp *c, const struct diff_seq *q, const struct diff_trace *n,
		      const struct diff_trace *g)
{
	for (unsigned i = 0; i < n->n && !c->diffs; i++) {
		if (i >= g->n) {
			differ(c, "stops", n->n, g->n);
			return;
		}
		if (ends_in_fsave(q, &n->r[i]) || faults_in_its_way(q, &n->r[i]) ||
		    which_first(q, &n->r[i], &g->r[i]) || across_task_end(q, &n->r[i], &g->r[i]) ||
		    (g->r[i].vector == X86_PF_EXC && native_owns(g->r[i].cr2)))
			return;
		compare_outcome(c, q, &n->r[i], &g->r[i]);
		compare_gprs(c, q, &n->r[i], &g->r[i]);
		compare_fx(c, q, &n->r[i], &g->r[i]);
		compare_ymm(c, &n->r[i], &g->r[i]);
		compare_mem(c, n->mem[i], g->mem[i]);
		note(c, &g->r[i], i);
	}
}

/* Two runs of the engine: the same in everything. */
static void same_result(struct cmp *c, const struct diff_result *a, const struct diff_result *b)
{
	static const struct diff_seq none;

	same(c, "outcome", a->end, b->end);
	same(c, "vector", a->vector, b->vector);
	same(c, "error", a->err, b->err);
	same(c, "cr2", a->cr2, b->cr2);
	same(c, "insns", a->insns, b->insns);
	if (memcmp(&a->s, &b->s, sizeof(a->s)) != 0) {
		bool was = all_flags;

		all_flags = true;
		compare_gprs(c, &none, a, b);
		compare_fx(c, &none, a, b);
		all_flags = was;
		same(c, "rip", a->s.rip, b->s.rip);
		if (!c->diffs)
			differ(c, "state", 0, 1);
	}
	compare_ymm(c, a, b);
	for (unsigned i = 0; i < DIFF_PTES_MAX; i++)
		same(c, "page table", a->ptes[i], b->ptes[i]);
}

static void with_tier(struct cmp *c, const struct diff_trace *a, const struct diff_trace *b)
{
	same(c, "stops", a->n, b->n);
	for (unsigned i = 0; i < MIN(a->n, b->n) && !c->diffs; i++) {
		same_result(c, &a->r[i], &b->r[i]);
		compare_mem(c, a->mem[i], b->mem[i]);
		note(c, &a->r[i], i);
	}
}

/* --- stopping at counts of instructions ------------------------------------------------------- */

/* A run that is stopped on the way. */
struct run {
	enum diff_tier tier;
	u64 done;	/* instructions of it */
	unsigned stops; /* exceptions */
	bool over;
	struct diff_result r;
};

static void run_start(struct run *r, const struct diff_seq *q)
{
	guest_start(r->tier, q, true);
	r->done = 0;
	r->stops = 0;
	r->over = false;
}

static void run_to(struct run *r, const struct diff_seq *q, u64 insns)
{
	u64 rip;

	while (!r->over && r->done < insns) {
		guest_go(r->tier, q, insns - r->done, &r->r);
		r->done = r->r.insns;
		if (r->r.end == DIFF_LIMIT)
			return;
		rip = ++r->stops < DIFF_STOPS ? next_rip(q, &r->r) : 0;
		if (rip)
			guest_resume(r->tier, q, rip, flags_behind(q, r->stops));
		else
			r->over = true;
	}
}

static u64 next_random(u64 *s)
{
	*s = *s * 0x5851f42d4c957f2dull + 0x14057b7ef767814full;
	return *s >> 33;
}

/*
 * The interpreter goes from count to count; the translator goes on from where it is, or again from
 * the beginning.
 */
static void with_budgets(struct cmp *c, const struct diff_seq *q, const struct diff_effort *e)
{
	struct run a = { .tier = DIFF_INTERP }, b = { .tier = DIFF_JIT };
	u64 total = interp.r[interp.n - 1].insns, s = e->seed, at = 0;
	u64 step = total / e->budgets + 1;
	char what[32];

	run_start(&a, q);
	run_start(&b, q);
	while (!a.over && !c->diffs && at <= total) {
		at += 1 + next_random(&s) % (2 * step - 1);
		if (next_random(&s) & 1)
			run_start(&b, q);
		run_to(&a, q, at);
		run_to(&b, q, at);
		same_result(c, &a.r, &b.r);
		if (!guest_mem_equal(DIFF_INTERP, DIFF_JIT))
			differ(c, "memory", 0, 1);
	}
	if (c->diffs) {
		snprintf(what, sizeof(what), "at %" PRIu64, at);
		differ(c, what, a.done, b.done);
	}
}

/* --- code that a sequence has made of its own ------------------------------------------------- */

#define STEPS_MAX 20000u /* of a run that is looked at instruction by instruction */

/* Whether an instruction that was laid out begins at @rip. */
static bool laid_out(const struct diff_seq *q, const struct diff_insn *in, u64 rip)
{
	u64 va = in ? q->va[in - q->insn] : rip + 1;

	while (va < rip) {
		struct diff_insn d = { .mode = q->mode };

		memcpy(d.b, q->mem + diff_offset(va), 15);
		if (!diff_classify(&d))
			return false;
		va += d.ilen;
	}
	return va == rip;
}

static bool code_changed(const struct diff_seq *q)
{
	for (u64 va = q->va[0]; va < q->va[q->n]; va++) {
		if (guest_byte(DIFF_INTERP, diff_offset(va)) != q->mem[diff_offset(va)])
			return true;
	}
	return false;
}

/* Whether the code at @rip is not what was laid out there, and is nothing to compare with the host. */
static bool stray_at(const struct diff_seq *q, u64 rip)
{
	const struct diff_insn *in = faulted(q, rip);
	struct diff_insn d = { .mode = q->mode };
	long off = diff_offset(rip);
	bool changed = !laid_out(q, in, rip);

	if (!code_changed(q))
		return false;
	for (unsigned i = 0; off >= 0 && i < 15 && diff_offset(rip + i) == off + i; i++) {
		d.b[i] = guest_byte(DIFF_INTERP, off + i);
		changed |= d.b[i] != q->mem[off + i];
	}
	return changed && (!diff_comparable(&d) || (in && stores_pointers(in->mnemonic)));
}

/* MOVS and STOS of all sizes, with or without a prefix; MOVSD of SSE is no harm. */
static bool stores_string(u16 mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_MOVSB:
	case ZYDIS_MNEMONIC_MOVSW:
	case ZYDIS_MNEMONIC_MOVSD:
	case ZYDIS_MNEMONIC_MOVSQ:
	case ZYDIS_MNEMONIC_STOSB:
	case ZYDIS_MNEMONIC_STOSW:
	case ZYDIS_MNEMONIC_STOSD:
	case ZYDIS_MNEMONIC_STOSQ:
		return true;
	default:
		return false;
	}
}

/* Executes one instruction of the interpreter at @rip. Returns whether it stores a string over itself. */
static bool step_overwrites(const struct diff_seq *q, u64 rip, struct diff_result *r)
{
	struct diff_insn d = { .mode = q->mode };
	long off = diff_offset(rip);
	unsigned n = 0;
	bool changed = false;

	while (off >= 0 && n < 15 && diff_offset(rip + n) == off + n) {
		d.b[n] = guest_byte(DIFF_INTERP, off + n);
		n++;
	}
	guest_go(DIFF_INTERP, q, 1, r);
	if (!n || !diff_classify(&d) || !stores_string(d.mnemonic))
		return false;
	for (unsigned i = 0; i < MIN(n, d.ilen); i++)
		changed |= guest_byte(DIFF_INTERP, off + i) != d.b[i];
	return changed;
}

/* Whether the interpreter comes to such code. */
static bool strays(const struct diff_seq *q)
{
	struct diff_result r;
	u64 rip = q->init.rip;
	unsigned stops = 0;

	guest_start(DIFF_INTERP, q, true);
	for (unsigned i = 0; i < STEPS_MAX && rip && stops < DIFF_STOPS; i++) {
		if (stray_at(q, rip) || step_overwrites(q, rip, &r))
			return true;
		rip = r.s.rip;
		if (r.end == DIFF_LIMIT)
			continue;
		rip = next_rip(q, &r);
		if (rip)
			guest_resume(DIFF_INTERP, q, rip, flags_behind(q, ++stops));
	}
	return false;
}

/* --- all of it -------------------------------------------------------------------------------- */

struct diff_effort diff_effort_of(const struct diff_seq *q)
{
	u64 x = (q->seed * 31 + q->index) * 0x9e3779b97f4a7c15ull >> 32;

	return (struct diff_effort){
		.native = !q->tiers_only,
		.hot = x % 64 == 0  ? 60
		       : x % 8 == 1 ? 2
				    : 0,
		.budgets = x % 4 == 2	  ? 12
			   : x % 128 == 3 ? 200
					  : 0,
		.seed = x,
	};
}

const struct diff_trace *diff_last(void)
{
	return native.n ? &native : &interp;
}

static bool tiers_agree(const struct diff_seq *q, const struct diff_effort *e)
{
	/* What is in the TLB decides how far one visit to a repeated string instruction gets. */
	trace_guest(DIFF_INTERP, q, false, &warm);
	cmp.names[0] = "interpreter";
	cmp.names[1] = "translator";
	for (unsigned i = 0; i < 3 && !cmp.diffs; i++) {
		trace_guest(DIFF_JIT, q, i != 1, &other);
		with_tier(&cmp, i == 1 ? &warm : &interp, &other);
	}
	if (interp.r[interp.n - 1].end == DIFF_LIMIT)
		return cmp.diffs == 0;
	if (e->budgets && !cmp.diffs)
		with_budgets(&cmp, q, e);
	cmp.names[1] = "mix";
	for (unsigned i = 0; i < e->hot && !cmp.diffs; i++) {
		trace_guest(DIFF_MIX, q, i == 0, &other);
		with_tier(&cmp, i ? &warm : &interp, &other);
	}
	return cmp.diffs == 0;
}

static void forget(void)
{
	memset(&cmp, 0, offsetof(struct cmp, text) + 1);
}

bool diff_check(const struct diff_seq *q, const struct diff_effort *e, FILE *out)
{
	bool same = true;

	forget();
	native.n = 0;
	if (native_twice) {
		trace_native(q, &native);
		if (!comparable(&native))
			return true;
		trace_native(q, &native2);
		cmp.names[0] = cmp.names[1] = "native";
		with_host(&cmp, q, &native, &native2);
	} else {
		trace_guest(DIFF_INTERP, q, true, &interp);
		/* What does not end would take the host's CPU for ever too. */
		if (e->native && comparable(&interp)) {
			trace_native(q, &native);
			cmp.names[0] = "native";
			cmp.names[1] = "interpreter";
			if (comparable(&native))
				with_host(&cmp, q, &native, &interp);
			native.strayed = cmp.diffs && strays(q);
			if (native.strayed) {
				forget();
				trace_guest(DIFF_INTERP, q, true, &interp);
			}
		}
		if (!cmp.diffs)
			tiers_agree(q, e);
	}
	same = cmp.diffs == 0;
	if (out)
		fputs(cmp.text, out);
	return same;
}

bool diff_check_result(const struct diff_seq *q, FILE *out, struct diff_result *ret_native)
{
	const struct diff_effort e = { .native = true, .hot = 2 };
	bool ok = diff_check(q, &e, out);

	*ret_native = diff_last()->r[0];
	return ok;
}
