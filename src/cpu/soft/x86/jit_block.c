/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_block.c - the translator: one block, and what every instruction in it is made of
 *
 * How it works
 *
 * Memory. A TLB probe inline; a miss, and every instruction the translator does not know, leaves
 * host code *before* the instruction, with precise state, and the interpreter runs the rest of the
 * block. There is no other slow path: faults, devices and self-modifying code are the
 * interpreter's, and so the two tiers cannot disagree about them.
 *
 * Blocks. RIP is kept in memory, since one block may run at several linear addresses: each way
 * from block to block adds a constant to it. Direct branches inside a page go through a link that
 * points at the target's code once both are translated (the page's translation is what it was, or
 * we would not be running there). All others look the target up in the vCPU's block cache. A block
 * begins by taking its instruction count from the budget, so turns end exactly where the
 * interpreter ends them.
 */
#include "cpu/soft/x86/jit_priv.h"

#include "cpu/soft/soft_priv.h"

#define CODE_MAX 16384u /* of one block, before it is copied into place */

const s8 host_of[X86_GPRS] = {
	[X86_RAX] = 0,	   [X86_RCX] = 1,     [X86_RDX] = 2,  [X86_RBX] = 3,
	[X86_RSP] = G_RSP, [X86_RBP] = G_RBP, [X86_RSI] = 6,  [X86_RDI] = 7,
	[X86_R8] = 8,	   [X86_R9] = -1,     [X86_R10] = -1, [X86_R11] = -1,
	[X86_R12] = 12,	   [X86_R13] = 13,    [X86_R14] = 14, [X86_R15] = -1,
};

/* The handler of the instruction: the first op's own is aside while the block is watched. */
op_fn handler(const struct tr *t)
{
	return t->k ? t->b->ops[t->k].fn : t->b->fn0;
}

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

/* LAHF and SETO touch no flags. */
void flags_save(struct tr *t)
{
	if (t->fl != FL_HOST)
		return;
	emov(&t->e, T1, 0);
	e8(&t->e, 0x9f);			  /* lahf */
	ebytes(&t->e, "\x0f\x90\xc0", 3);	  /* seto al */
	einsn(&t->e, EM_66, 0x89, 0, VCPU(c.of)); /* mov [of], ax */
	emov(&t->e, 0, T1);
	t->fl = FL_BOTH;
}

void flags_load(struct tr *t)
{
	if (t->fl != FL_MEM)
		return;
	emov(&t->e, T1, 0);
	einsn(&t->e, EM_0F, 0xb7, 0, VCPU(c.of)); /* movzx eax, word [of] */
	ebytes(&t->e, "\x04\x7f\x9e", 3);	  /* add al, 7fh; sahf */
	emov(&t->e, 0, T1);
	t->fl = FL_BOTH;
}

void leave(struct tr *t, int cc)
{
	struct exit_ref *x = &t->exits[t->n_exits++];

	BUG_IF(t->n_exits > ARRAY_LEN(t->exits));
	x->k = (u8)t->k;
	x->at = cc < 0 ? ejmp(&t->e) : ejcc(&t->e, (u8)cc);
}

static struct erm tlb_tag(bool write)
{
	return em(T1, write ? offsetof(struct tlb_entry, wtag) : offsetof(struct tlb_entry, rtag));
}

void probe(struct tr *t, unsigned n, bool write)
{
	struct emit *e = &t->e;

	_Static_assert(sizeof(struct tlb_entry) == 32, "index is shifted by 12 - 5");
	emov(e, T1, T0); /* tlb_index */
	einsn(e, EM_W, 0xc1, 5, er(T1));
	e8(e, TLB_FOLD);
	einsn(e, EM_W, 0x33, T1, er(T0));
	einsn(e, EM_W, 0xc1, 5, er(T1)); /* shr r11, 12 - 5 */
	e8(e, 7);
	einsn(e, 0, 0x81, 4, er(T1)); /* and r11d, ... */
	e32(e, (TLB_SIZE - 1) << 5);
	einsn(e, EM_W, 0x03, T1, VCPU(tlb));
	einsn(e, EM_W, 0x2b, T0, tlb_tag(write));
	einsn(e, EM_W, 0x81, 7, er(T0)); /* cmp r10, 1000h - n */
	e32(e, 0x1000 - n);
	struct miss *m = &t->misses[t->n_misses++];
	BUG_IF(t->n_misses > ARRAY_LEN(t->misses));
	*m = (struct miss){ .at = ejcc(e, CC_A), .k = (u8)t->k, .n = (u16)n, .write = write };
	einsn(e, EM_W, 0x03, T0, em(T1, offsetof(struct tlb_entry, host)));
	m->back = e->n;
	t->fl = FL_MEM;
}

void address_of(struct tr *t, const struct op *o)
{
	struct emit *e = &t->e;

	if (o->base == X86_BLOCK) {
		eload(e, T0, VCPU(c.rip));
		elea(e, EM_W, T0, T0, -1, 0, o->disp);
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

void mem_operand(struct tr *t, const struct op *o, unsigned n, bool write)
{
	flags_save(t);
	address_of(t, o);
	probe(t, n, write);
}

/* --- from block to block ----------------------------------------------------------------- */

void lookup(struct tr *t)
{
	struct emit *e = &t->e;

	_Static_assert(sizeof(struct jc_entry) == 16, "index is shifted by 4");
	eload(e, T0, VCPU(c.rip));
	emov(e, T1, T0);
	einsn(e, EM_W, 0xc1, 5, er(T1));
	e8(e, JC_BITS);
	einsn(e, 0, 0x33, T1, er(T0));
	einsn(e, 0, 0x81, 4, er(T1));
	e32(e, JC_SIZE - 1);
	einsn(e, 0, 0xc1, 4, er(T1));
	e8(e, 4);
	einsn(e, EM_W, 0x03, T1, VCPU(jc));
	einsn(e, EM_W, 0x33, T0, VCPU(jit_salt));
	einsn(e, EM_W, 0x3b, T0, em(T1, offsetof(struct jc_entry, key)));
	u32 miss = ejcc(e, CC_NE);
	eload(e, T1, em(T1, offsetof(struct jc_entry, b)));
	einsn(e, 0, 0xff, 4, em(T1, offsetof(struct block, code)));
	ehere(e, miss);
	einsn(e, 0, 0x33, T1, er(T1));
	einsn(e, 0, 0xff, 4, VCPU(jit_exit));
}

void go(struct tr *t, s64 delta)
{
	struct emit *e = &t->e;
	u64 page = t->b->gpa & 0xfff;
	bool near = (s64)page + delta >= 0 && (s64)page + delta < 0x1000;

	if (delta) {
		einsn(e, EM_W, 0x81, 0, VCPU(c.rip));
		e32(e, (u32)delta);
	}
	if (!near || t->n_links == 2) {
		lookup(t);
		return;
	}
	unsigned i = t->n_links++;
	eimm64(e, T1, (u64)(uintptr_t)&t->b->link[i].to_code);
	einsn(e, 0, 0xff, 4, em(T1, 0));
	t->lookup[i] = e->n;
	eimm64(e, T1, (u64)(uintptr_t)t->b);
	einsn(e, 0, 0xc7, 0, er(T0));
	e32(e, EXIT_LINK + i);
	einsn(e, 0, 0xff, 4, VCPU(jit_exit));
}

/* --- a whole block ----------------------------------------------------------------------- */

static void budget_check(struct tr *t, u32 *ret_body)
{
	struct emit *e = &t->e;

	einsn(e, EM_W, 0x83, 5, VCPU(budget)); /* sub [budget], n */
	e8(e, t->b->n);
	u32 ok = ejcc(e, CC_S ^ 1);
	einsn(e, EM_W, 0x83, 0, VCPU(budget));
	e8(e, t->b->n);
	einsn(e, 0, 0x33, T1, er(T1));
	einsn(e, 0, 0xff, 4, VCPU(jit_exit));
	ehere(e, ok);
	*ret_body = e->n;
}

/* T0 = the address again, T1 = what is wanted of it; if it cannot be had, leaves. */
static void misses(struct tr *t)
{
	struct emit *e = &t->e;

	for (unsigned i = 0; i < t->n_misses; i++) {
		const struct miss *m = &t->misses[i];
		ehere(e, m->at);
		einsn(e, EM_W, 0x03, T0, tlb_tag(m->write));
		einsn(e, 0, 0xc7, 0, er(T1));
		e32(e, m->n | (m->write ? MISS_WRITE : 0));
		einsn(e, 0, 0xff, 2, VCPU(jit_miss)); /* call */
		t->k = m->k;
		leave(t, CC_B);
		u32 back = ejmp(e), here = e->n;
		e->n = m->back;
		ehere(e, back);
		e->n = here;
	}
}

static void exits(struct tr *t)
{
	struct emit *e = &t->e;

	for (unsigned i = 0; i < t->n_exits; i++) {
		ehere(e, t->exits[i].at);
		u8 k = t->exits[i].k;
		/* Later exits of the same instruction share the code. */
		for (unsigned j = i + 1; j < t->n_exits; j++) {
			if (t->exits[j].k == k) {
				ehere(e, t->exits[j].at);
				t->exits[j] = t->exits[--t->n_exits];
				j--;
			}
		}
		eimm64(e, T1, (u64)(uintptr_t)t->b);
		einsn(e, 0, 0xc7, 0, er(T0));
		e32(e, k);
		einsn(e, 0, 0xff, 4, VCPU(jit_exit));
	}
}

static const u8 *block_bytes(struct vcpu *v, const struct block *b)
{
	return mem_ptr(v->s->cfg.mem, b->gpa, b->len);
}

/* Host code for @b. False if it begins with something that is not translated. */
bool translate_block(struct jit *j, struct vcpu *v, struct block *b)
{
	u8 buf[CODE_MAX];
	struct tr t = {
		.e = { .buf = buf, .cap = sizeof(buf) }, .j = j, .v = v, .b = b, .fl = FL_MEM
	};
	const u8 *bytes = block_bytes(v, b), *code;
	u32 body;

	if (!bytes)
		return false;
	budget_check(&t, &body);
	for (t.k = 0; t.k < b->n && !t.ended; t.k++) {
		ZydisDecodedInstruction in;
		ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
		const struct op *op = &b->ops[t.k];
		struct emit before = t.e;
		enum where fl = t.fl;
		unsigned nx = t.n_exits, nm = t.n_misses;
		bool xmm = t.xmm, x87 = t.x87;
		bool ok = ZYAN_SUCCESS(ZydisDecoderDecodeFull(&j->dec, bytes + op->ip,
							      b->len - op->ip, &in, o)) &&
			  tr_insn(&t, &in, o, bytes + op->ip);
		if (ok && !t.e.full)
			continue;
		/* Leave before it. */
		t.e = before;
		t.fl = fl;
		t.n_exits = nx;
		t.n_misses = nm;
		t.xmm = xmm;
		t.x87 = x87;
		t.ended = false;
		if (t.k == 0)
			return false;
		flags_save(&t);
		leave(&t, -1);
		t.ended = true;
		break;
	}
	if (!t.ended) {
		flags_save(&t);
		go(&t, b->len);
	}
	misses(&t);
	exits(&t);
	if (t.e.full)
		return false;
	if (codebuf_add(&j->cb, buf, t.e.n, 16, &code) < 0) {
		j->full = true;
		return false;
	}
	b->code = code;
	b->body = code + body;
	for (unsigned i = 0; i < t.n_links; i++) {
		b->link[i].resolve = code + t.lookup[i];
		b->link[i].to_code = b->link[i].resolve;
		b->link[i].from = b;
	}
	j->st.translated++;
	j->st.code_bytes += t.e.n;
	return true;
}
