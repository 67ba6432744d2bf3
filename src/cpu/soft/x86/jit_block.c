/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_block.c - the translator: what every instruction is made of, and ways between blocks
 *
 * How it works
 *
 * Memory. A TLB probe inline; a miss, and every instruction the translator does not know, leaves
 * host code *before* the instruction, with precise state. There is no other slow path: faults,
 * devices and self-modifying code are the interpreter's, and so the two tiers cannot disagree
 * about them. An instruction in the middle of a block that the translator does not know is run by
 * the interpreter alone (EXIT_ONE), then host code goes on.
 *
 * Ways. Inside the region a jump is a jump. To other blocks of the page a link leads, an indirect
 * jump through memory that points at the target's code once there is any (the page's translation
 * is what it was, or we would not be running there). All else is looked up in the vCPU's cache of
 * blocks.
 *
 * Budget. A block begins by taking its instruction count from the budget; with too little left the
 * interpreter runs what is left. So turns end exactly where the interpreter ends them.
 */
#include "cpu/soft/x86/jit_priv.h"

#include "cpu/soft/soft_priv.h"

const s8 host_of[X86_GPRS] = {
	[X86_RAX] = 0,	   [X86_RCX] = 1,     [X86_RDX] = 2,  [X86_RBX] = 3,
	[X86_RSP] = G_RSP, [X86_RBP] = G_RBP, [X86_RSI] = 6,  [X86_RDI] = 7,
	[X86_R8] = 8,	   [X86_R9] = -1,     [X86_R10] = -1, [X86_R11] = -1,
	[X86_R12] = 12,	   [X86_R13] = 13,    [X86_R14] = 14, [X86_R15] = -1,
};

struct erm greg(unsigned g)
{
	return em(VC, (s32)(offsetof(struct vcpu, c.r) + g * 8));
}

u8 use(struct tr *t, unsigned g, u8 tmp)
{
	if (host_of[g] >= 0)
		return (u8)host_of[g];
	eload(&t->e, tmp, greg(g));
	return tmp;
}

void put(struct tr *t, unsigned g, u8 from)
{
	if (host_of[g] < 0)
		estore(&t->e, greg(g), from);
	else
		emov(&t->e, (u8)host_of[g], from);
}

/* --- leaving ----------------------------------------------------------------------------- */

static void budget_add(struct emit *e, s32 n)
{
	if (n)
		elea(e, EM_W, BUDGET, BUDGET, -1, 0, n);
}

/* The instruction may leave: if that was not known, translation starts over. */
static void may_exit(struct tr *t)
{
	struct insn *x = &t->m[t->cur].insn[t->k];

	if (!x->exits)
		t->surprise = x->exits = true;
}

/* The recipe for the ways out here, or -1: flags are in memory. */
static s16 rec_now(struct tr *t)
{
	if (t->fl != FL_RECIPE)
		return -1;
	if (t->n_recs && !memcmp(&t->recs[t->n_recs - 1], &t->rec, sizeof(t->rec)))
		return (s16)(t->n_recs - 1);
	t->recs[t->n_recs] = t->rec;
	return (s16)t->n_recs++;
}

static void exit_at(struct tr *t, u32 at, unsigned k, s16 rec, unsigned refund)
{
	BUG_IF(t->n_exits == ARRAY_LEN(t->exits));
	t->exits[t->n_exits++] = (struct exit_ref){
		.at = at, .m = (u16)t->cur, .k = (u16)k, .rec = rec, .refund = (u16)refund
	};
}

void leave_as(struct tr *t, int cc, unsigned code)
{
	u32 at = cc < 0 ? ejmp(&t->e) : ejcc(&t->e, (u8)cc);

	exit_at(t, at, code, rec_now(t), t->held);
}

void leave(struct tr *t, int cc)
{
	may_exit(t);
	leave_as(t, cc, t->k);
}

/* --- memory ------------------------------------------------------------------------------ */

static struct erm tlb_tag(bool write)
{
	return em(T1, write ? offsetof(struct tlb_entry, wtag) : offsetof(struct tlb_entry, rtag));
}

void probe(struct tr *t, unsigned n, bool write)
{
	struct emit *e = &t->e;

	_Static_assert(sizeof(struct tlb_entry) == 32, "index is shifted by 12 - 5");
	may_exit(t);
	if (t->j->bmi2) {
		erorx(e, T1, T0, 7);
	} else {
		emov(e, T1, T0);
		einsn(e, EM_W, 0xc1, 5, er(T1)); /* shr r11, 12 - 5 */
		e8(e, 7);
	}
	einsn(e, 0, 0x81, 4, er(T1)); /* and r11d, ... */
	e32(e, (TLB_SIZE - 1) << 5);
	einsn(e, EM_W, 0x03, T1, VCPU(tlb));
	einsn(e, EM_W, 0x2b, T0, tlb_tag(write));
	einsn(e, EM_W, 0x81, 7, er(T0)); /* cmp r10, 1000h - n */
	e32(e, 0x1000 - n);
	struct miss *m = &t->misses[t->n_misses++];
	BUG_IF(t->n_misses > ARRAY_LEN(t->misses));
	*m = (struct miss){ .at = ejcc(e, CC_A),
			    .m = (u16)t->cur,
			    .k = (u16)t->k,
			    .refund = (u16)t->held,
			    .rec = rec_now(t),
			    .run = -1,
			    .n = (u16)n,
			    .write = write };
	einsn(e, EM_W, 0x03, T0, em(T1, offsetof(struct tlb_entry, host)));
	m->back = e->n;
}

void lin_of(struct tr *t, u8 reg, s64 delta)
{
	s32 offset = (s32)(t->b->gpa & 0xfff);

	eload(&t->e, reg, VCPU(c.rip));
	if (delta + offset > INT32_MAX) { /* what branches can reach */
		elea(&t->e, EM_W, reg, reg, -1, 0, offset);
		offset = 0;
	}
	elea(&t->e, EM_W, reg, reg, -1, 0, (s32)(delta + offset));
}

void address_of(struct tr *t, const struct op *o)
{
	struct emit *e = &t->e;

	if (o->base == X86_BLOCK) {
		lin_of(t, T0, o->disp);
	} else {
		int b = o->base == X86_ZERO ? -1 : use(t, o->base, T0);
		int x = o->index == X86_ZERO ? -1 : use(t, o->index, T1);
		if (b < 0 && x < 0) {
			einsn(e, EM_W, 0xc7, 0, er(T0));
			e32(e, (u32)o->disp);
		} else {
			elea(e, EM_W, T0, b, x, o->scale, o->disp);
		}
	}
	if (o->seg != X86_SEGS)
		einsn(e, EM_W, 0x03, T0,
		      em(VC, (s32)(offsetof(struct vcpu, c.segbase) + o->seg * 8u)));
}

/* The operand is part of the current run: where it is. */
static bool run_operand(const struct tr *t, unsigned base, s32 disp, unsigned n, struct erm *ret)
{
	s32 off = t->run.delta + disp - t->run.lo;

	if (!t->run.on || base != t->run.base)
		return false;
	BUG_IF(off < 0 || (u32)off + n > t->run.span);
	*ret = em(T0, off);
	return true;
}

static void check_align(struct tr *t, u8 reg, unsigned align)
{
	einsn(&t->e, EM_REX, 0xf6, 0, er(reg)); /* test r10b, align - 1 */
	e8(&t->e, (u8)(align - 1));
	leave(t, CC_NE);
}

struct erm mem_operand(struct tr *t, const struct op *o, unsigned n, unsigned align, bool write)
{
	struct erm m = em(T0, 0);

	if (run_operand(t, o->base, o->disp, n, &m)) {
		/* The first access's alignment is checked, and says that of others. */
		u32 apart = (u32)(t->run.delta + o->disp - t->run.first);
		if (align > 1 && (align > t->run.align || (apart & (align - 1)))) {
			flags_drop(t);
			elea(&t->e, EM_W, T1, T0, -1, 0, m.disp);
			check_align(t, T1, align);
		}
		return m;
	}
	flags_drop(t);
	address_of(t, o);
	if (align > 1)
		check_align(t, T0, align);
	probe(t, n, write);
	return m;
}

struct erm stack_operand(struct tr *t, s32 off, unsigned n, bool write)
{
	struct erm m = em(T0, 0);

	if (run_operand(t, X86_RSP, off, n, &m))
		return m;
	flags_drop(t);
	elea(&t->e, EM_W, T0, G_RSP, -1, 0, off);
	probe(t, n, write);
	return m;
}

/* Before instruction k. */
void run_begin(struct tr *t)
{
	struct run *r = &t->run;

	if (!run_plan(t, r) || t->n_runs == ARRAY_LEN(t->runs))
		return;
	flags_drop(t);
	r->m = (u16)t->cur;
	r->fl = t->fl;
	r->rec = t->rec;
	r->held = t->held;
	u8 base = use(t, r->base, T0);
	if (r->align > 1 && (r->first & (r->align - 1)))
		elea(&t->e, EM_W, T1, base, -1, 0, r->first);
	if (r->align > 1)
		check_align(t, r->first & (r->align - 1) ? T1 : base, r->align);
	elea(&t->e, EM_W, T0, base, -1, 0, r->lo);
	probe(t, r->span, r->write);
	t->misses[t->n_misses - 1].run = (s16)t->n_runs;
	r->on = true;
}

/* Behind instruction k. */
void run_end(struct tr *t)
{
	struct run *r = &t->run;

	if (!r->on)
		return;
	run_step(t);
	if (t->k < r->to)
		return;
	r->on = false;
	r->fl_end = t->fl;
	r->back = t->e.n;
	r->ended = t->ended;
	t->runs[t->n_runs++] = *r;
}

/* --- from block to block ----------------------------------------------------------------- */

/* As jc_hash, times the size of an entry. */
void emit_lookup(struct emit *e)
{
	s32 jc = (s32)offsetof(struct vcpu, jc);

	_Static_assert(sizeof(struct jc_entry) == 16, "index is shifted by 4");
	emov(e, T1, T0);
	einsn(e, EM_W, 0xc1, 5, er(T1));
	e8(e, JC_FOLD);
	einsn(e, 0, 0x33, T1, er(T0));
	einsn(e, 0, 0xc1, 4, er(T1));
	e8(e, 4);
	einsn(e, 0, 0x81, 4, er(T1));
	e32(e, (JC_SIZE - 1) << 4);
	einsn(e, EM_W, 0x33, T0, VCPU(jit_salt));
	einsn(e, EM_W, 0x3b, T0, emx(VC, T1, jc + (s32)offsetof(struct jc_entry, key)));
	u32 miss = ejcc(e, CC_NE);
	eload(e, T1, emx(VC, T1, jc + (s32)offsetof(struct jc_entry, b)));
	einsn(e, 0, 0xff, 4, em(T1, offsetof(struct block, code)));
	ehere(e, miss);
	einsn(e, 0, 0xff, 4, VCPU(jit_next));
}

static void jump_to_member(struct tr *t, u32 at, unsigned m)
{
	BUG_IF(t->n_fixups == ARRAY_LEN(t->fixups));
	t->fixups[t->n_fixups++] = (struct fixup){ .at = at, .m = (u16)m };
}

static void jump_to_tail(struct tr *t, unsigned m)
{
	BUG_IF(t->n_fixups == ARRAY_LEN(t->fixups));
	t->fixups[t->n_fixups++] = (struct fixup){ .at = ejmp(&t->e), .m = (u16)m, .tail = true };
	t->m[m].tail_used = true;
}

/* What the current block gives back of the budget on the way to @s. */
static s32 refund(const struct tr *t, const struct succ *s)
{
	return (s32)t->held - (s->m < 0 ? 0 : (s32)t->m[s->m].in);
}

/* To another page: by the link if it is for this translation, else by look-up. */
static void edge_off_page(struct tr *t, const struct succ *s)
{
	struct emit *e = &t->e;
	unsigned i = t->r->n_links++;
	struct block_link *l = &t->r->link[i];

	l->gpa = 0;
	lin_of(t, T0, s->delta);
	eimm64(e, T1, (u64)(uintptr_t)l);
	einsn(e, EM_W, 0x33, T0, VCPU(jit_salt));
	einsn(e, EM_W, 0x3b, T0, em(T1, offsetof(struct block_link, key)));
	u32 other = ejcc(e, CC_NE);
	einsn(e, 0, 0xff, 4, em(T1, offsetof(struct block_link, to_code)));
	ehere(e, other);
	t->resolve[i] = e->n;
	einsn(e, EM_W, 0x33, T0, VCPU(jit_salt));
	einsn(e, 0, 0xff, 4, em(T1, offsetof(struct block_link, look_up)));
}

static void edge_out(struct tr *t, const struct succ *s)
{
	struct emit *e = &t->e;
	s64 page = (s64)(t->b->gpa & 0xfff) + s->delta;

	if (page < 0 || page >= 0x1000) {
		edge_off_page(t, s);
		return;
	}
	unsigned i = t->r->n_links++;
	struct block_link *l = &t->r->link[i];
	l->gpa = (t->b->gpa & ~0xfffull) + (u64)page;
	eimm64(e, T1, (u64)(uintptr_t)&l->to_code);
	einsn(e, 0, 0xff, 4, em(T1, 0));
	t->resolve[i] = e->n;
	eimm64(e, T1, (u64)(uintptr_t)l);
	einsn(e, 0, 0xc7, 0, er(T0));
	e32(e, EXIT_LINK);
	einsn(e, 0, 0xff, 4, VCPU(jit_exit));
	t->look_up[i] = e->n;
	lin_of(t, T0, s->delta);
	einsn(e, 0, 0xff, 4, VCPU(jit_lookup));
}

void edge(struct tr *t, unsigned i)
{
	const struct succ *s = &t->m[t->cur].succ[i];
	const struct member *to = s->m < 0 ? NULL : &t->m[s->m];

	if (!to || to->entry == IN_MEM)
		flags_save(t);
	else if (to->entry == IN_HOST)
		flags_load(t);
	budget_add(&t->e, refund(t, s));
	if (!to)
		edge_out(t, s);
	else if (t->out || (unsigned)s->m != t->cur + 1)
		jump_to_member(t, ejmp(&t->e), (unsigned)s->m);
}

void branch(struct tr *t, u8 cc)
{
	const struct member *m = &t->m[t->cur];

	flags_load(t);
	for (unsigned i = 0; i < 2; i++)
		if (m->succ[i].m >= 0 && t->m[m->succ[i].m].entry == IN_MEM)
			flags_save(t);
	u32 at = ejcc(&t->e, cc);
	if (m->succ[1].m >= 0 && !refund(t, &m->succ[1])) {
		jump_to_member(t, at, (unsigned)m->succ[1].m);
	} else {
		t->edges[t->n_edges++] = (struct edge){
			.at = at, .m = (u16)t->cur, .s = 1, .fl = t->fl, .rec = t->rec
		};
	}
	edge(t, 0);
}

/* --- a block, and what does not stand in line ---------------------------------------------- */

static void budget_take(struct tr *t, unsigned n, unsigned code)
{
	struct emit *e = &t->e;

	einsn(e, EM_W, 0x83, 5, er(BUDGET)); /* sub r15, n */
	e8(e, (u8)n);
	exit_at(t, ejcc(e, CC_S), code, rec_now(t), t->held + n);
}
_Static_assert(TAKE_MAX < 128 && BLOCK_OPS < TAKE_MAX, "fits a signed byte");

void budget_check(struct tr *t)
{
	flags_drop(t);
	budget_take(t, t->m[t->cur].take, t->k);
	t->held = t->m[t->cur].take;
}

void block_start(struct tr *t)
{
	struct member *m = &t->m[t->cur];

	m->label = t->e.n;
	t->fl = m->entry == IN_HOST ? FL_HOST : FL_MEM;
	t->rec.kind = REC_NONE;
	t->held = m->in - m->b->n;
}

void run_one_insn(struct tr *t)
{
	struct emit *e = &t->e;

	may_exit(t);
	flags_save(t);
	t->fl = FL_MEM;
	ebytes(e, "\x4c\x8d\x1d", 3); /* lea r11, [rip + ...] */
	e32(e, 0);
	u32 at = e->n - 4;
	estore(e, VCPU(jit_resume), T1);
	leave_as(t, -1, EXIT_ONE + t->k);
	ehere(e, at);
	budget_add(e, -(s32)t->held);
	need_live(t, t->k + 1);
}

/* T0 = the address again, T1 = what is wanted of it; if it cannot be had, leaves. */
static void misses(struct tr *t)
{
	struct emit *e = &t->e;

	for (unsigned i = 0; i < t->n_misses; i++) {
		const struct miss *m = &t->misses[i];
		t->cur = m->m;
		ehere(e, m->at);
		einsn(e, EM_W, 0x03, T0, tlb_tag(m->write));
		einsn(e, 0, 0xc7, 0, er(T1));
		e32(e, m->n | (m->write ? MISS_WRITE : 0));
		ecall_glue(e, (s32)offsetof(struct vcpu, jit_miss));
		u32 no = ejcc(e, CC_B);
		if (m->run < 0)
			exit_at(t, no, m->k, m->rec, m->refund);
		else
			eto(e, no, t->runs[m->run].slow);
		eto(e, ejmp(e), m->back);
	}
}

/* Ways in: for those who know the page (near), or only RIP ^ jit_salt, in T0 (far). */
static void ways_in(struct tr *t)
{
	struct emit *e = &t->e;

	for (t->cur = 0; t->cur < t->n; t->cur++) {
		struct member *m = &t->m[t->cur];
		t->b = m->b;
		t->k = 0;
		m->far = e->n;
		einsn(e, EM_W, 0x33, T0, VCPU(jit_salt));
		einsn(e, EM_W, 0x81, 5, er(T0));
		e32(e, (u32)(m->b->gpa & 0xfff));
		estore(e, VCPU(c.rip), T0);
		m->near = e->n;
		t->fl = FL_MEM;
		t->held = 0;
		need_live(t, EXIT_BUDGET);
		budget_take(t, m->in, EXIT_BUDGET);
		if (m->entry == IN_HOST)
			flags_load(t);
		jump_to_member(t, ejmp(e), t->cur);
	}
}

static void exits(struct tr *t)
{
	struct emit *e = &t->e;

	for (unsigned i = 0; i < t->n_exits; i++) {
		const struct exit_ref x = t->exits[i];
		ehere(e, x.at);
		/* Later exits of the same kind share the code. */
		for (unsigned j = i + 1; j < t->n_exits; j++) {
			struct exit_ref *y = &t->exits[j];
			if (y->k == x.k && y->m == x.m && y->rec == x.rec &&
			    y->refund == x.refund) {
				ehere(e, y->at);
				*y = t->exits[--t->n_exits];
				j--;
			}
		}
		exit_flags(t, x.rec);
		budget_add(e, x.refund);
		einsn(e, 0, 0xc7, 0, er(T0));
		e32(e, x.k);
		jump_to_tail(t, x.m);
	}
}

static void tails(struct tr *t)
{
	struct emit *e = &t->e;

	for (unsigned i = 0; i < t->n; i++) {
		if (!t->m[i].tail_used)
			continue;
		t->m[i].tail = e->n;
		eimm64(e, T1, (u64)(uintptr_t)t->m[i].b);
		einsn(e, 0, 0xff, 4, VCPU(jit_exit));
	}
}

/* Flags where they are after the run in line. */
static void flags_as(struct tr *t, enum where fl)
{
	if (fl == FL_HOST || fl == FL_BOTH)
		flags_load(t);
	if (fl == FL_MEM || fl == FL_BOTH)
		flags_save(t);
}

/* The versions of runs in which each access is probed for. */
static void slow_runs(struct tr *t)
{
	for (unsigned i = 0; i < t->n_runs && !t->surprise; i++) {
		struct run *r = &t->runs[i];
		t->cur = r->m;
		t->b = t->m[r->m].b;
		t->fl = r->fl;
		t->rec = r->rec;
		t->held = r->held;
		t->ended = false;
		t->checked = true; /* in line */
		r->slow = t->e.n;
		for (t->k = r->from; t->k <= r->to && !t->surprise; t->k++)
			translate_insn(t);
		if (t->ended || t->surprise)
			continue;
		flags_as(t, r->fl_end);
		eto(&t->e, ejmp(&t->e), r->back);
	}
}

void out_of_line(struct tr *t)
{
	struct emit *e = &t->e;

	t->out = true;
	slow_runs(t);

	for (unsigned i = 0; i < t->n_edges; i++) {
		const struct edge *x = &t->edges[i];
		ehere(e, x->at);
		t->cur = x->m;
		t->b = t->m[x->m].b;
		t->fl = x->fl;
		t->rec = x->rec;
		t->held = t->m[x->m].take;
		edge(t, x->s);
	}
	ways_in(t);
	misses(t);
	exits(t);
	tails(t);
	for (unsigned i = 0; i < t->n_fixups; i++) {
		const struct fixup *f = &t->fixups[i];
		eto(e, f->at, f->tail ? t->m[f->m].tail : t->m[f->m].label);
	}
}
