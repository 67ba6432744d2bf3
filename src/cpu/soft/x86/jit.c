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
#include <time.h>

#define HOT 48u /* executions until a block is translated */
/*
 * A segment of the cache: a sixteenth of it, between these. Emptying one stops the guest for as long as
 * it takes to drop its regions, some hundred nanoseconds each.
 */
#define SEGMENT_MIN (128u << 10)
#define SEGMENT_MAX (512u << 10)
_Static_assert(sizeof(((struct tr *)0)->buf) <= SEGMENT_MIN, "a region fits in an empty segment");

static void link_to(struct block_link *l, struct block *b, const void *code)
{
	l->to = b;
	l->to_code = code;
	l->next = b->incoming;
	l->prevp = &b->incoming;
	if (l->next)
		l->next->prevp = &l->next;
	b->incoming = l;
}

/*
 * A branch to another page, now at c.rip. A process switch makes the link one to a stranger; where
 * that happens again and again, looking the target up is cheaper.
 */
#define REMADE_MAX 8u

static void make_far_link(struct vcpu *v, struct block_link *l)
{
	u64 rip = v->c.rip, key = rip ^ v->jc_salt[rip >> 63];
	const struct jc_entry *e = &v->jc[jc_hash(rip)];

	if (!l->resolve) /* its region was dropped */
		return;
	if (e->key != key || !e->b->region)
		return;
	link_break(l);
	l->key = key;
	link_to(l, e->b, e->b->code);
	if (++l->made == REMADE_MAX)
		l->look_up = v->s->jit->look_up;
}

/*
 * The target is in the same page, so it is the same code for all who get here; unless it reaches
 * into the next page, which may be another one for others: that is looked up.
 */
static void make_link(struct vcpu *v, struct block_link *l)
{
	const struct jc_entry *e = &v->jc[jc_hash(v->c.rip)];
	struct block *b = e->b;

	if (!l->resolve) /* its region was dropped */
		return;
	if (l->to || e->key != (v->c.rip ^ v->jc_salt[v->c.rip >> 63]))
		return;
	if (b->gpa2)
		l->to_code = l->look_up;
	else if (b->region && b->gpa == l->gpa)
		link_to(l, b, b->near);
}

void link_break(struct block_link *l)
{
	if (!l->to)
		return;
	*l->prevp = l->next;
	if (l->next)
		l->next->prevp = l->prevp;
	l->to = NULL;
	l->to_code = l->resolve;
}

void jit_forget(struct jit *j, struct block *b)
{
	if (b->region)
		region_drop(j, b->region);
}

/* RIP = where @b begins in the page that it holds the address of. */
static void rip_to(struct vcpu *v, const struct block *b)
{
	v->c.rip += b->gpa & 0xfff;
	v->c.r[X86_BLOCK] = v->c.rip;
	v->cur = b;
}

static enum vcpu_exit reason(const struct jit_ret *r)
{
	const struct block *b = r->p;

	if (r->k == EXIT_GO)
		return VCPU_EXIT_UNKNOWN;
	if (r->k == EXIT_LINK || r->k == EXIT_FAR)
		return VCPU_EXIT_LINK;
	if (r->k == EXIT_BUDGET)
		return VCPU_EXIT_BUDGET;
	if (r->k >= EXIT_ONE)
		return VCPU_EXIT_ONE;
	return r->k + 1 == b->n ? VCPU_EXIT_LAST : VCPU_EXIT_SLOW;
}

/* Runs host code, with c.rip the address of the page, and what it leaves to the interpreter. */
static const struct op *run_code(struct vcpu *v, const void *code)
{
	s64 had = v->budget;
	struct jit_ret r = v->s->jit->enter(v, code);
	struct block *b = r.p;

	v->stat.translated += (u64)(had - v->budget);
	v->stat.exits[reason(&r)]++;
	if (r.k == EXIT_GO)
		return jump_to(v, v->c.rip);
	if (r.k == EXIT_FAR) {
		make_far_link(v, r.p);
		return jump_to(v, v->c.rip);
	}
	if (r.k == EXIT_LINK) {
		struct block_link *l = r.p;
		v->c.rip += l->gpa & 0xfff;
		make_link(v, l);
		return jump_to(v, v->c.rip);
	}
	rip_to(v, b);
	if (r.k == EXIT_BUDGET) {
		if (v->budget < b->n)
			return NULL;
		v->budget -= b->n;
		return b->fn0(v, b->ops);
	}
	if (r.k < EXIT_ONE)
		return block_fn(b, r.k)(v, &b->ops[r.k]);
	r.k -= EXIT_ONE;
	v->one[0] = b->ops[r.k];
	v->one[0].fn = block_fn(b, r.k);
	v->one[1].idx = (u8)(r.k + 1);
	return v->one[0].fn(v, v->one);
}

/* Behind an instruction that host code left to the interpreter. */
static const struct op *op_resume(struct vcpu *v, const struct op *op)
{
	const struct block *b = v->cur;

	if (!b->region) { /* it wrote to the code */
		const struct op *next = &b->ops[op->idx];
		return next->fn(v, next);
	}
	v->c.rip = v->c.r[X86_BLOCK] - (b->gpa & 0xfff);
	return run_code(v, v->jit_resume);
}

/* The first op of a translated block. */
static const struct op *op_jit(struct vcpu *v, const struct op *op)
{
	const struct block *b = v->cur;

	v->budget += b->n; /* host code takes it itself */
	v->jit_salt = v->jc_salt[v->c.rip >> 63];
	v->c.rip -= b->gpa & 0xfff;
	return run_code(v, b->near);
}

/* The first op of a block that may become hot. */
static const struct op *op_warm(struct vcpu *v, const struct op *op)
{
	struct block *b = (struct block *)v->cur;
	struct jit *j = v->s->jit;

	if (++b->heat < j->hot)
		return b->fn0(v, op);
	switch (translate_region(j, v, b)) {
	case 0:
		return op_jit(v, op);
	case -ENOMEM:
		b->heat = 0;
		return b->fn0(v, op);
	default:
		b->ops[0].fn = b->fn0;
		b->refused = true;
		j->st.refused++;
		return b->fn0(v, op);
	}
}

void block_hot(struct block *b)
{
	b->ops[0].fn = op_jit;
}

void block_cold(struct jit *j, struct block *b)
{
	b->region = NULL;
	b->code = j->exit_next;
	b->near = NULL;
	b->heat = 0;
	b->ops[0].fn = op_warm;
}

void jit_watch(struct jit *j, struct block *b)
{
	b->code = j->exit_next;
	if (b->mode == CODE_64)
		block_cold(j, b);
}

/* --- room for code ------------------------------------------------------------------------ */

/* Of this thread: what others do meanwhile is not in it. */
static u64 thread_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

/* The decoded blocks stay, and get hot again if they are still used. */
static void evict(struct jit *j, struct segment *s)
{
	u64 from = thread_ns();

	while (s->regions) {
		j->st.evicted++;
		region_drop(j, s->regions);
	}
	jit_reap(j);
	j->st.code_held -= s->cb.len;
	codebuf_fini(&s->cb);
	j->st.evictions++;
	j->st.evict_ns_max = MAX(j->st.evict_ns_max, thread_ns() - from);
}

/* The next segment of the ring is the one to fill. */
static int segment_open(struct jit *j)
{
	unsigned next = (j->cur + 1) % j->n_segs;

	codebuf_seal(&j->seg[j->cur].cb);
	if (j->seg[next].cb.rx)
		evict(j, &j->seg[next]);
	j->cur = next;
	return codebuf_init(&j->seg[next].cb, j->seg_bytes);
}

int code_place(struct jit *j, struct region *r, const void *code, size_t n, const u8 **ret_code)
{
	struct segment *s = &j->seg[j->cur];
	size_t had = s->cb.len;

	if (codebuf_add(&s->cb, code, n, 16, ret_code) < 0) {
		if (segment_open(j) < 0)
			return -ENOMEM;
		s = &j->seg[j->cur];
		had = 0;
		if (codebuf_add(&s->cb, code, n, 16, ret_code) < 0)
			return -ENOMEM;
	}
	j->st.code_held += s->cb.len - had;
	r->next = s->regions;
	r->prevp = &s->regions;
	if (r->next)
		r->next->prevp = &r->next;
	s->regions = r;
	return 0;
}

void jit_reap(struct jit *j)
{
	while (j->dead) {
		struct region *r = j->dead;
		j->dead = r->next;
		j->st.region_bytes -= region_size(r);
		free(r);
	}
}

void jit_fork_child(struct jit *j)
{
	/* What follows goes to another segment: the parent may still be filling this one. */
	codebuf_seal(&j->seg[j->cur].cb);
	j->dump = j->map = NULL;
}

/* --- the way in and out ------------------------------------------------------------------ */

#define GLUE_BYTES 4096

static const u8 callee_saved[] = { 3, 5, 12, 13, 14, 15 };

/* RDI: the vcpu, RSI: the code. */
static void emit_enter(struct emit *e)
{
	for (unsigned i = 0; i < ARRAY_LEN(callee_saved); i++)
		eopc(e, 0, 0x50 | (callee_saved[i] & 7), 0, 0, callee_saved[i]);
	estore(e, em(7, offsetof(struct vcpu, host_rsp)), VC);
	emov(e, VC, 7);
	emov(e, T1, 6);
	eload(e, BUDGET, VCPU(budget));
	einsn(e, EM_0F, 0xb6, 0, VCPU(c.of)); /* flags as PUSHF stores them, with IF */
	einsn(e, 0, 0xc1, 4, er(0));
	e8(e, 11);
	einsn(e, EM_0F, 0xb6, 1, VCPU(c.fl));
	elea(e, 0, 0, 0, 1, 0, 0x202 - 2); /* bit 1 is in fl */
	estore(e, FLAGS_SLOT, 0);
	for (unsigned g = 0; g < X86_GPRS; g++)
		if (host_of[g] >= 0)
			eload(e, (u8)host_of[g], greg(g));
	einsn(e, 0, 0xff, 4, er(T1));
}

/* What translated code calls on a miss: @info is the size, and MISS_WRITE. */
static void *fill(struct vcpu *v, u64 a, u32 info)
{
	void *p = tlb_enter(v, a, info & (MISS_WRITE - 1), (info & MISS_WRITE) != 0);

	/* The page walk set a bit in what is code as well: perhaps the code that called. */
	return v->s->dead ? NULL : p;
}

/*
 * Called with RSP 16 below the vcpu. C may change the caller-saved registers, XMM ones too; those
 * of the guest wait in its saved state. T0 = the pointer; CF: there is none.
 */
static void emit_miss(struct emit *e, bool avx)
{
	static const u8 saved[] = { X86_RAX, X86_RCX, X86_RDX, X86_RSI, X86_RSP, X86_R8 };

	estore(e, em(VC, 16 + (s32)(offsetof(struct vcpu, c.r) + X86_RDI * 8)), 7);
	elea(e, EM_W, 7, VC, -1, 0, 16);
	for (unsigned i = 0; i < ARRAY_LEN(saved); i++)
		estore(e, em(7, greg(saved[i]).disp), (u8)host_of[saved[i]]);
	emit_live_save(e, 7, avx);
	eload(e, VC, em(7, offsetof(struct vcpu, host_rsp)));
	e8(e, 0x57); /* push rdi: aligns the stack to 16 bytes */
	emov(e, 6, T0);
	einsn(e, 0, 0x8b, 2, er(T1));
	eimm64(e, 0, (u64)(uintptr_t)fill);
	einsn(e, 0, 0xff, 2, er(0)); /* call */
	e8(e, 0x5f);		     /* pop rdi */
	elea(e, EM_W, VC, 7, -1, 0, -16);
	emov(e, T0, 0);
	emit_live_load(e, 7, avx);
	for (unsigned i = 0; i < ARRAY_LEN(saved); i++)
		eload(e, (u8)host_of[saved[i]], em(7, greg(saved[i]).disp));
	eload(e, 7, em(7, greg(X86_RDI).disp));
	einsn(e, EM_W, 0x83, 7, er(T0)); /* cmp r10, 1 */
	e8(e, 1);
	e8(e, 0xc3);
}

static void emit_exit(struct emit *e, bool avx)
{
	for (unsigned g = 0; g < X86_GPRS; g++)
		if (host_of[g] >= 0)
			estore(e, greg(g), (u8)host_of[g]);
	estore(e, VCPU(budget), BUDGET);
	einsn(e, 0, 0x8b, 0, FLAGS_SLOT);
	einsn(e, 0, 0x88, 0, VCPU(c.fl)); /* mov [fl], al */
	einsn(e, 0, 0xc1, 5, er(0));	  /* shr eax, 11 */
	e8(e, 11);
	einsn(e, 0, 0x83, 4, er(0)); /* and eax, 1 */
	e8(e, 1);
	einsn(e, 0, 0x88, 0, VCPU(c.of));
	emit_vec_store(e, avx);
	emov(e, 0, T1);
	emov(e, 2, T0);
	eload(e, VC, VCPU(host_rsp));
	for (unsigned i = ARRAY_LEN(callee_saved); i-- > 0;)
		eopc(e, 0, 0x58 | (callee_saved[i] & 7), 0, 0, callee_saved[i]);
	e8(e, 0xc3);
}

static int emit_glue(struct jit *j)
{
	u8 buf[GLUE_BYTES];
	struct emit e = { .buf = buf, .cap = sizeof(buf) };
	const u8 *code;

	emit_enter(&e);
	u32 out = e.n;
	emit_exit(&e, j->avx);
	u32 xmm = e.n;
	emit_xmm_load(&e);
	u32 ymm = e.n;
	if (j->avx)
		emit_ymm_load(&e);
	u32 x87 = e.n;
	emit_x87_load(&e);
	u32 miss = e.n;
	emit_miss(&e, j->avx);
	u32 look_up = e.n;
	emit_lookup(&e);
	u32 link = e.n;
	estore(&e, VCPU(c.rip), T0);
	einsn(&e, 0, 0xc7, 0, er(T0));
	e32(&e, EXIT_FAR);
	einsn(&e, 0, 0xff, 4, VCPU(jit_exit));
	u32 next = e.n;
	einsn(&e, EM_W, 0x33, T0, VCPU(jit_salt));
	estore(&e, VCPU(c.rip), T0);
	einsn(&e, 0, 0xc7, 0, er(T0));
	e32(&e, EXIT_GO);
	einsn(&e, 0, 0xff, 4, VCPU(jit_exit));
	BUG_IF(e.full);
	if (codebuf_add(&j->glue, buf, e.n, 16, &code) < 0)
		return -ENOMEM;
	memcpy(&j->enter, &code, sizeof(code));
	j->exit = code + out;
	j->xmm_load = code + xmm;
	j->ymm_load = code + ymm;
	j->x87_load = code + x87;
	j->miss = code + miss;
	j->exit_link = code + link;
	j->exit_next = code + next;
	j->look_up = code + look_up;
	return 0;
}

int jit_new(size_t code_max, bool eager, struct jit **ret)
{
	struct jit *j = calloc(1, sizeof(*j));
	int r;

	if (!j)
		return -ENOMEM;
	j->hot = eager ? 1 : HOT;
	j->bmi2 = __builtin_cpu_supports("bmi2");
	j->avx = __builtin_cpu_supports("avx");
	j->tr = calloc(1, sizeof(*j->tr));
	if (!j->tr) {
		jit_free(j);
		return -ENOMEM;
	}
	j->seg_bytes = MIN(MAX(code_max / 16, (size_t)SEGMENT_MIN), (size_t)SEGMENT_MAX);
	j->n_segs = (unsigned)MAX(code_max / j->seg_bytes, (size_t)2);
	j->seg = calloc(j->n_segs, sizeof(*j->seg));
	r = j->seg ? codebuf_init(&j->glue, GLUE_BYTES) : -ENOMEM;
	if (r == 0)
		r = emit_glue(j);
	if (r == 0) /* if the host forbids it, now is the time to know */
		r = codebuf_init(&j->seg[0].cb, j->seg_bytes);
	if (r < 0) {
		jit_free(j);
		return r;
	}
	ZydisDecoderInit(&j->dec, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	*ret = j;
	return 0;
}

void jit_free(struct jit *j)
{
	if (!j)
		return;
	for (unsigned i = 0; j->seg && i < j->n_segs; i++)
		codebuf_fini(&j->seg[i].cb);
	free(j->seg);
	codebuf_fini(&j->glue);
	free(j->tr);
	free(j);
}

void jit_trace(struct jit *j, FILE *dump, FILE *perf_map, const struct symbols *symbols)
{
	j->symbols = symbols;
	j->dump = dump;
	j->map = perf_map;
}

struct jit_stats jit_stats(const struct jit *j)
{
	struct jit_stats st = j->st;

	st.other_bytes = sizeof(*j) + sizeof(*j->tr) + j->n_segs * sizeof(*j->seg) + j->glue.len;
	return st;
}

void jit_attach(const struct jit *j, struct vcpu *v)
{
	v->jit_exit = j->exit;
	v->jit_xmm = j->xmm_load;
	v->jit_ymm = j->ymm_load;
	v->jit_x87 = j->x87_load;
	v->jit_miss = j->miss;
	v->jit_next = j->exit_next;
	v->jit_lookup = j->look_up;
	v->one[1].fn = op_resume;
	v->host_mxcsr = 0x1f80; /* the ABI's initial value: nothing here changes it */
}
