/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_region.c - the translator: regions, blocks of a page that are translated together
 *
 * How it works
 *
 * A region starts from a hot block and takes in those that direct branches and calls' returns lead
 * to in the same page, if they have been executed often enough to matter. Each block is in one
 * region at most, and can be entered from outside. Between the blocks of a region jumps are plain
 * jumps, and flags that the next block overwrites are not kept.
 *
 * What an instruction does (needs it a way out? can it be translated at all?) shows when it is
 * translated. If it is not what the analysis took it for, that is noted and translation starts
 * over.
 */
#include "cpu/soft/x86/jit_priv.h"

#include "cpu/soft/soft_priv.h"
#include "cpu/soft/x86/ops.h"

#include <errno.h>
#include <stdlib.h>

/* --- choosing blocks --------------------------------------------------------------------- */

static bool wanted(const struct tr *t, const struct block *b)
{
	return b && b->mode == CODE_64 && !b->dead && !b->region && !b->refused &&
	       b->heat >= t->j->hot / 4 && t->n < REGION_BLOCKS && t->n_insn + b->n <= REGION_INSNS;
}

static int member_of(const struct tr *t, const struct block *b)
{
	for (unsigned i = 0; i < t->n; i++)
		if (t->m[i].b == b)
			return (int)i;
	return -1;
}

static const u8 *block_bytes(struct tr *t, const struct block *b)
{
	struct mem *mem = t->v->s->cfg.mem;
	unsigned n = 0x1000 - (unsigned)(b->gpa & 0xfff);

	if (!b->gpa2)
		return mem_ptr(mem, b->gpa, b->len);
	const u8 *first = mem_ptr(mem, b->gpa, n), *second = mem_ptr(mem, b->gpa2, b->len - n);
	if (!first || !second)
		return NULL;
	memcpy(t->straddle, first, n);
	memcpy(t->straddle + n, second, b->len - n);
	return t->straddle;
}

static bool decode(struct tr *t, struct member *m)
{
	const ZydisDecoder *dec = compiler_decoder(t->v->s->compiler);
	const u8 *bytes = block_bytes(t, m->b);

	if (!bytes)
		return false;
	for (unsigned k = 0; k < m->b->n; k++) {
		struct insn *x = &m->insn[k];
		unsigned ip = m->b->ops[k].ip;
		x->bytes = bytes + ip;
		x->exits = false;
		x->refused = !ZYAN_SUCCESS(
			ZydisDecoderDecodeFull(dec, bytes + ip, m->b->len - ip, &x->in, x->o));
	}
	return true;
}

/* Fills succ[] but for members. Returns the way of a call's return, or 0. */
static s64 find_ways(struct member *m)
{
	const struct block *b = m->b;
	unsigned k = b->n - 1u;
	const struct op *op = &b->ops[k];
	op_fn fn = block_fn(b, k);
	s64 next = op->ip + op->len;

	m->succ[0] = m->succ[1] = (struct succ){ .m = -1 };
	switch (m->insn[k].in.meta.category) {
	case ZYDIS_CATEGORY_COND_BR:
		if (fn != ops_jcc[op->aux & 15])
			return 0;
		m->succ[0] = (struct succ){ .used = true, .delta = next, .m = -1 };
		m->succ[1] = (struct succ){ .used = true, .delta = op->imm, .m = -1 };
		return 0;
	case ZYDIS_CATEGORY_CALL:
		if (fn == op_call)
			m->succ[0] = (struct succ){ .used = true, .delta = op->imm, .m = -1 };
		return next;
	case ZYDIS_CATEGORY_UNCOND_BR:
		if (fn == op_jmp)
			m->succ[0] = (struct succ){ .used = true, .delta = op->imm, .m = -1 };
		return 0;
	case ZYDIS_CATEGORY_RET:
		return 0;
	default:
		m->succ[0] = (struct succ){ .used = true, .delta = next, .m = -1 };
		return 0;
	}
}

/* The block at @delta from @b, if it is in the same page and worth having. */
static struct block *block_to(const struct tr *t, const struct block *b, s64 delta)
{
	s64 at = (s64)(b->gpa & 0xfff) + delta;

	if (at < 0 || at >= 0x1000)
		return NULL;
	return block_find(t->v->s, (b->gpa & ~0xfffull) + (u64)at, CODE_64);
}

static struct block *add(struct tr *t, struct block *b, struct block **ret_todo, unsigned *n_todo)
{
	struct member *m = &t->m[t->n];

	*m = (struct member){ .b = b, .insn = &t->insn[t->n_insn] };
	if (!decode(t, m))
		return NULL;
	t->n++;
	t->n_insn += b->n;
	s64 after_call = find_ways(m);
	if (b->gpa2) /* others of the page may have another page behind it: alone */
		return NULL;
	if (m->succ[1].used)
		ret_todo[(*n_todo)++] = block_to(t, b, m->succ[1].delta);
	if (after_call)
		return block_to(t, b, after_call);
	return m->succ[0].used ? block_to(t, b, m->succ[0].delta) : NULL;
}

/* Each block is followed by what it falls through to; branches' targets come when that ends. */
static bool choose(struct tr *t, struct block *b)
{
	struct block *todo[REGION_BLOCKS + 1];
	unsigned n_todo = 0;

	t->n = t->n_insn = 0;
	while (b || n_todo) {
		if (!b)
			b = todo[--n_todo];
		b = wanted(t, b) && member_of(t, b) < 0 ? add(t, b, todo, &n_todo) : NULL;
	}
	for (unsigned i = 0; i < t->n; i++) {
		for (unsigned s = 0; s < 2; s++) {
			struct succ *x = &t->m[i].succ[s];
			struct block *to = x->used ? block_to(t, t->m[i].b, x->delta) : NULL;
			if (to)
				x->m = member_of(t, to);
		}
	}
	return t->n != 0;
}

/* --- translating them -------------------------------------------------------------------- */

/* One instruction; one that cannot be translated is the interpreter's from now on. */
void translate_insn(struct tr *t)
{
	struct insn *x = &t->m[t->cur].insn[t->k];
	bool last = t->k + 1u == t->b->n;

	if ((int)t->k == t->m[t->cur].check && !t->checked)
		budget_check(t);
	t->checked = false;
	if (!t->out && !t->run.on)
		run_begin(t);
	if (!x->refused) {
		if (tr_insn(t, &x->in, x->o, x->bytes) && (!t->e.full || t->e.n > t->e.cap)) {
			recipe_check(t);
			run_end(t);
			return;
		}
		x->refused = t->surprise = true;
		t->e.full = false;
		return;
	}
	if (!last) {
		run_one_insn(t);
		return;
	}
	flags_save(t);
	t->fl = FL_MEM;
	leave(t, -1);
	t->ended = true;
}

/* False: once more, with what was learnt. */
static bool pass(struct tr *t)
{
	t->e = (struct emit){ .buf = t->buf, .cap = sizeof(t->buf) };
	t->n_exits = t->n_misses = t->n_recs = t->n_runs = t->n_edges = t->n_fixups = 0;
	t->r->n_links = 0;
	t->surprise = t->out = t->run.on = t->checked = false;
	analyse(t);
	for (t->cur = 0; t->cur < t->n; t->cur++) {
		t->b = t->m[t->cur].b;
		t->k = 0;
		t->ended = false;
		block_start(t);
		for (; t->k < t->b->n && !t->ended; t->k++) {
			t->m[t->cur].insn[t->k].at = t->e.n;
			translate_insn(t);
			if (t->surprise)
				return false;
			if (t->e.n > t->e.cap)
				return true;
		}
		if (!t->ended)
			edge(t, 0);
	}
	t->in_line = t->e.n;
	out_of_line(t);
	return !t->surprise;
}

static void publish(struct tr *t, const u8 *code)
{
	struct region *r = t->r;

	r->n = t->n;
	r->bytes = t->e.n;
	for (unsigned i = 0; i < t->n; i++) {
		struct member *m = &t->m[i];
		r->member[i] = m->b;
		m->b->region = r;
		m->b->code = code + m->far;
		m->b->near = code + m->near;
		block_hot(m->b);
	}
	for (unsigned i = 0; i < r->n_links; i++) {
		struct block_link *l = &r->link[i];
		l->resolve = code + t->resolve[i];
		l->look_up = l->gpa ? code + t->look_up[i] : t->j->exit_link;
		l->to_code = l->resolve;
	}
}

static size_t size_for(unsigned members)
{
	return sizeof(struct region) + LINKS_MAX(members) * sizeof(struct block_link);
}

size_t region_size(const struct region *r)
{
	return size_for(r->n);
}

static int translate(struct tr *t)
{
	const u8 *code;

	/* A block of which nothing can be translated is left alone. */
	t->r = calloc(1, size_for(t->n));
	if (!t->r)
		return -ENOMEM;
	t->x87 = t->xmm = t->ymm = false;
	while (!pass(t))
		;
	if (t->e.n > t->e.cap || (t->n == 1 && t->b->n == 1 && t->m[0].insn[0].refused)) {
		free(t->r);
		return -ENOENT;
	}
	if (code_place(t->j, t->r, t->buf, t->e.n, &code) < 0) {
		free(t->r);
		return -ENOMEM;
	}
	publish(t, code);
	if (t->j->dump)
		jit_dump(t, code, t->v->c.rip);
	if (t->j->map)
		jit_map(t, code, t->v->c.rip);
	t->j->st.regions++;
	t->j->st.translated += t->n;
	t->j->st.code_bytes += t->e.n;
	t->j->st.region_bytes += region_size(t->r);
	return 0;
}

int translate_region(struct jit *j, struct vcpu *v, struct block *b)
{
	struct tr *t = j->tr;
	int r;

	t->j = j;
	t->v = v;
	if (!choose(t, b))
		return -ENOENT;
	r = translate(t);
	if (r != -ENOENT || t->n == 1)
		return r;
	/* Too much: the one block. */
	t->n = 1;
	t->n_insn = b->n;
	t->m[0].succ[0].m = t->m[0].succ[1].m = -1;
	return translate(t);
}

void region_drop(struct jit *j, struct region *r)
{
	for (unsigned i = 0; i < r->n_links; i++) {
		link_break(&r->link[i]);
		r->link[i].resolve = NULL; /* none will be made again */
	}
	for (unsigned i = 0; i < r->n; i++) {
		while (r->member[i]->incoming)
			link_break(r->member[i]->incoming);
		block_cold(j, r->member[i]);
	}
	*r->prevp = r->next;
	if (r->next)
		r->next->prevp = r->prevp;
	r->next = j->dead;
	j->dead = r;
	j->st.code_bytes -= r->bytes;
}
