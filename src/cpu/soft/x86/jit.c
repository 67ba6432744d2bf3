/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit.c - the translator: hot blocks of 64-bit guest code as host code
 *
 * How it works
 *
 * A block counts its executions; when it is hot, translate_block (jit_block.c) makes host code of
 * it, and its first op becomes op_jit, which enters that code. What host code looks like is in
 * jit_priv.h. It comes back with the instruction to go on at, or with a link to make.
 */
#include "cpu/soft/x86/jit_priv.h"

#include "cpu/soft/soft_priv.h"

#include <errno.h>
#include <stdlib.h>

#define HOT 48u /* executions until a block is translated */

static void make_link(struct vcpu *v, struct block *b, unsigned i)
{
	struct block_link *l = &b->link[i];
	u64 rip = v->c.rip;
	const struct jc_entry *e = &v->jc[jc_hash(rip)];

	if (b->dead || l->to || e->key != (rip ^ v->jc_salt[rip >> 63]) || !e->b->body)
		return;
	/* The branch was emitted as one inside the page; the target must be the same page's. */
	if ((e->b->gpa ^ b->gpa) >> 12)
		return;
	l->to = e->b;
	l->to_code = e->b->code;
	l->next = e->b->incoming;
	l->prevp = &e->b->incoming;
	if (l->next)
		l->next->prevp = &l->next;
	e->b->incoming = l;
}

static void unlink_one(struct block_link *l)
{
	if (!l->to)
		return;
	*l->prevp = l->next;
	if (l->next)
		l->next->prevp = l->prevp;
	l->to = NULL;
	l->to_code = l->resolve;
}

void jit_forget(struct block *b)
{
	unlink_one(&b->link[0]);
	unlink_one(&b->link[1]);
	while (b->incoming)
		unlink_one(b->incoming);
}

/* The first op of a translated block. */
static const struct op *op_jit(struct vcpu *v, const struct op *op)
{
	struct jit *j = v->s->jit;

	v->jit_salt = v->jc_salt[v->c.rip >> 63];
	struct jit_ret r = j->enter(v, v->cur->body);
	if (!r.b)
		return jump_to(v, v->c.rip);
	if (r.k >= EXIT_LINK) {
		make_link(v, r.b, (unsigned)(r.k - EXIT_LINK));
		return jump_to(v, v->c.rip);
	}
	v->cur = r.b;
	v->c.r[X86_BLOCK] = v->c.rip;
	const struct op *o = &r.b->ops[r.k];
	return r.k == 0 ? r.b->fn0(v, o) : o->fn(v, o);
}

/* The first op of a block that may become hot. */
static const struct op *op_warm(struct vcpu *v, const struct op *op)
{
	struct block *b = (struct block *)v->cur;
	struct jit *j = v->s->jit;

	if (++b->heat < j->hot)
		return b->fn0(v, op);
	if (translate_block(j, v, b)) {
		b->ops[0].fn = op_jit;
		return op_jit(v, op);
	}
	if (!j->full) {
		b->ops[0].fn = b->fn0;
		j->st.refused++;
	}
	return b->fn0(v, op);
}

void jit_watch(struct jit *j, struct block *b)
{
	b->fn0 = b->ops[0].fn;
	b->code = j->exit_next;
	b->body = NULL;
	if (b->mode == CODE_64 && !b->gpa2)
		b->ops[0].fn = op_warm;
}

/* --- the way in and out ------------------------------------------------------------------ */

static const u8 callee_saved[] = { 3, 5, 12, 13, 14, 15 };

static void emit_enter(struct emit *e)
{
	for (unsigned i = 0; i < ARRAY_LEN(callee_saved); i++)
		eopc(e, 0, 0x50 | (callee_saved[i] & 7), 0, 0, callee_saved[i]);
	emov(e, VC, 7); /* rdi: the vcpu */
	emov(e, T1, 6); /* rsi: the code */
	for (unsigned g = 0; g < X86_GPRS; g++)
		if (host_of[g] >= 0)
			eload(e, (u8)host_of[g], greg(g));
	einsn(e, 0, 0xff, 4, er(T1));
}

/* What translated code calls on a miss: @info is the size, and MISS_WRITE. */
static void *fill(struct vcpu *v, u64 a, u32 info)
{
	return tlb_enter(v, a, info & (MISS_WRITE - 1), (info & MISS_WRITE) != 0);
}

/* C may change the caller-saved registers, XMM ones too. CF: no pointer. */
static void emit_miss(struct emit *e)
{
	static const u8 saved[] = { 0, 1, 2, 6, 7, 8, 9 };

	for (unsigned i = 0; i < ARRAY_LEN(saved); i++)
		eopc(e, 0, 0x50 | (saved[i] & 7), 0, 0, saved[i]);
	elea(e, EM_W, 4, 4, -1, 0, -8); /* aligns the stack to 16 bytes */
	einsn(e, 0, 0x80, 7, VCPU(xmm_live));
	e8(e, 0);
	u32 dead = ejcc(e, CC_E);
	for (unsigned i = 0; i < 16; i++)
		einsn(e, EM_0F, 0x29, (u8)i, xmm_slot(i));
	ehere(e, dead);
	emov(e, 7, VC);
	emov(e, 6, T0);
	einsn(e, 0, 0x8b, 2, er(T1));
	eimm64(e, 0, (u64)(uintptr_t)fill);
	einsn(e, 0, 0xff, 2, er(0)); /* call */
	emov(e, T0, 0);
	einsn(e, 0, 0x80, 7, VCPU(xmm_live));
	e8(e, 0);
	dead = ejcc(e, CC_E);
	for (unsigned i = 0; i < 16; i++)
		einsn(e, EM_0F, 0x28, (u8)i, xmm_slot(i));
	ehere(e, dead);
	elea(e, EM_W, 4, 4, -1, 0, 8);
	for (unsigned i = ARRAY_LEN(saved); i-- > 0;)
		eopc(e, 0, 0x58 | (saved[i] & 7), 0, 0, saved[i]);
	einsn(e, EM_W, 0x83, 7, er(T0)); /* cmp r10, 1 */
	e8(e, 1);
	e8(e, 0xc3);
}

static void emit_exit(struct emit *e)
{
	for (unsigned g = 0; g < X86_GPRS; g++)
		if (host_of[g] >= 0)
			estore(e, greg(g), (u8)host_of[g]);
	emit_vec_store(e);
	emov(e, 0, T1);
	emov(e, 2, T0);
	for (unsigned i = ARRAY_LEN(callee_saved); i-- > 0;)
		eopc(e, 0, 0x58 | (callee_saved[i] & 7), 0, 0, callee_saved[i]);
	e8(e, 0xc3);
}

static int emit_glue(struct jit *j)
{
	u8 buf[2048];
	struct emit e = { .buf = buf, .cap = sizeof(buf) };
	const u8 *code;

	emit_enter(&e);
	u32 out = e.n;
	emit_exit(&e);
	u32 xmm = e.n;
	emit_xmm_load(&e);
	u32 x87 = e.n;
	emit_x87_load(&e);
	u32 miss = e.n;
	emit_miss(&e);
	u32 next = e.n;
	einsn(&e, 0, 0x33, T1, er(T1));
	einsn(&e, 0, 0xff, 4, VCPU(jit_exit));
	BUG_IF(e.full);
	if (codebuf_add(&j->cb, buf, e.n, 16, &code) < 0)
		return -ENOMEM;
	memcpy(&j->enter, &code, sizeof(code));
	j->exit = code + out;
	j->xmm_load = code + xmm;
	j->x87_load = code + x87;
	j->miss = code + miss;
	j->exit_next = code + next;
	j->glue = j->cb.len;
	return 0;
}

int jit_new(size_t code_max, bool eager, struct jit **ret)
{
	struct jit *j = calloc(1, sizeof(*j));
	int r;

	if (!j)
		return -ENOMEM;
	j->hot = eager ? 1 : HOT;
	r = codebuf_init(&j->cb, code_max);
	if (r == 0)
		r = emit_glue(j);
	if (r < 0) {
		jit_free(j);
		return r;
	}
	ZydisDecoderInit(&j->dec, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisDecoderEnableMode(&j->dec, ZYDIS_DECODER_MODE_LZCNT, ZYAN_FALSE);
	ZydisDecoderEnableMode(&j->dec, ZYDIS_DECODER_MODE_TZCNT, ZYAN_FALSE);
	*ret = j;
	return 0;
}

void jit_free(struct jit *j)
{
	if (!j)
		return;
	codebuf_fini(&j->cb);
	free(j);
}

bool jit_full(const struct jit *j)
{
	return j->full;
}

void jit_reset(struct jit *j)
{
	codebuf_truncate(&j->cb, j->glue);
	j->full = false;
	j->st.flushes++;
}

struct jit_stats jit_stats(const struct jit *j)
{
	return j->st;
}

void jit_attach(const struct jit *j, struct vcpu *v)
{
	v->jit_exit = j->exit;
	v->jit_xmm = j->xmm_load;
	v->jit_x87 = j->x87_load;
	v->jit_miss = j->miss;
	v->host_mxcsr = 0x1f80; /* the ABI's initial value: nothing here changes it */
}
