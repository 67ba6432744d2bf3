/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block.c - decoded blocks: found by guest-physical address, dropped when their page is written
 *
 * How it works
 * A block is in the VM's hash (by physical address and code mode) and in the list of each page it
 * overlaps (one; two if its only instruction straddles). Per-vCPU caches point at it by linear
 * address; `jc_rip` remembers where, so that dropping a block clears just those slots. They forget
 * a half of the address space when any translation that code was fetched through is flushed, so a
 * straddling block, which depends on two, can be in them, too. Which second page is behind the
 * first is checked when it is looked up here.
 *
 * Dropped blocks stay readable until the loop is between handlers (blocks_reap), because the
 * handler that caused the drop may be executing one of them.
 *
 * Their memory has a limit, against guests that make up code for ever. At the limit a new block sweeps
 * a piece of the hash, where a hand goes round as a clock's does, and drops the blocks there that have
 * not become host code; where all have, those too.
 */
#include "cpu/soft/x86/vcpu.h"

#include "cpu/soft/soft_priv.h"
#include "cpu/soft/x86/jit.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_MASK (~0xfffull)
/* One sweep ends with this much dropped, or this many chains looked at. */
#define SWEEP_BYTES (256u << 10)
#define SWEEP_CHAINS 4096u

static u32 hash_of(gpa_t gpa, unsigned mode)
{
	u64 h = (gpa ^ ((u64)mode << 60)) * 0x9e3779b97f4a7c15ull;

	return (u32)(h >> (64 - BLOCK_HASH_BITS));
}

bool page_has_code(const struct soft *s, gpa_t gpa)
{
	u64 i = gpa >> 12;

	return i < s->n_pages && s->page_code[i] != NULL;
}

bool block_overlaps(const struct block *b, gpa_t gpa, u64 len)
{
	u64 first = b->gpa2 ? 0x1000 - (b->gpa & 0xfff) : b->len;

	if (gpa < b->gpa + first && b->gpa < gpa + len)
		return true;
	return b->gpa2 && gpa < b->gpa2 + (b->len - first) && b->gpa2 < gpa + len;
}

/* Where @b keeps its place in the list of @page, one of its one or two. */
static struct block **next_in(struct block *b, gpa_t page)
{
	return (b->gpa & PAGE_MASK) == page ? &b->page_next : &b->page2_next;
}

static struct block ***prev_in(struct block *b, gpa_t page)
{
	return (b->gpa & PAGE_MASK) == page ? &b->page_prev : &b->page2_prev;
}

static void page_link(struct soft *s, gpa_t page, struct block *b)
{
	struct block **head = &s->page_code[page >> 12], *first = *head;

	if (!first)
		tlb_protect_code(s, page);
	*next_in(b, page) = first;
	if (first)
		*prev_in(first, page) = next_in(b, page);
	*prev_in(b, page) = head;
	*head = b;
}

static void page_unlink(gpa_t page, struct block *b)
{
	struct block *next = *next_in(b, page);

	**prev_in(b, page) = next;
	if (next)
		*prev_in(next, page) = *prev_in(b, page);
}

static void block_drop(struct soft *s, struct block *b)
{
	struct block **p = &s->hash[hash_of(b->gpa, b->mode)];

	while (*p != b)
		p = &(*p)->hash_next;
	*p = b->hash_next;
	page_unlink(b->gpa & PAGE_MASK, b);
	if (b->gpa2)
		page_unlink(b->gpa2, b);
	for (unsigned i = 0; i < s->cfg.ncpus; i++) {
		struct vcpu *v = s->cpu[i];
		/* All entries that it can be in, or the one. */
		u32 step = b->jc_many ? 1u << JC_FOLD : JC_SIZE;
		for (u32 j = jc_hash(b->jc_rip) & (step - 1); j < JC_SIZE; j += step)
			if (v->jc[j].b == b)
				v->jc[j] = (struct jc_entry){ 0 };
		if (v->resume == b)
			v->resume = NULL;
	}
	if (s->jit)
		jit_forget(s->jit, b);
	b->dead = true;
	b->hash_next = s->dead;
	s->dead = b;
}

void blocks_invalidate(struct soft *s, gpa_t gpa, u64 len)
{

	if (!len)
		return;
	for (u64 page = gpa >> 12; page <= (gpa + len - 1) >> 12 && page < s->n_pages; page++) {
		struct block *b = s->page_code[page], *next;
		for (; b; b = next) {
			next = *next_in(b, page << 12);
			if (!block_overlaps(b, gpa, len))
				continue;
			block_drop(s, b);
			s->stat.invalidated++;
		}
	}
}

void blocks_reap(struct soft *s)
{
	while (s->dead) {
		struct block *b = s->dead;
		s->dead = b->hash_next;
		s->block_bytes -= b->bytes;
		free(b);
		s->n_blocks--;
	}
	if (s->jit)
		jit_reap(s->jit);
}

void blocks_flush_all(struct soft *s)
{
	for (u32 h = 0; h < 1u << BLOCK_HASH_BITS; h++)
		while (s->hash[h])
			block_drop(s, s->hash[h]);
	blocks_reap(s);
}

void blocks_drop_over(struct soft *s, const u64 *offsets)
{
	for (u32 h = 0; h < 1u << BLOCK_HASH_BITS; h++) {
		struct block *b = s->hash[h], *next;
		for (; b; b = next) {
			bool over = false;
			next = b->hash_next;
			for (u64 a = b->gpa; a < b->gpa + b->len && !over; a++)
				over = offsets[(a & 0xfff) >> 6] >> (a & 63) & 1;
			if (over)
				block_drop(s, b);
		}
	}
	blocks_reap(s);
}

/* Drops blocks of @n chains from @first on. @all: those that are host code too. */
static u64 sweep(struct soft *s, u32 first, u32 *n, bool all)
{
	u64 bytes = 0;
	u32 i;

	for (i = 0; i < *n && bytes < SWEEP_BYTES; i++) {
		struct block *b = s->hash[(first + i) & (BIT(BLOCK_HASH_BITS) - 1)], *next;
		for (; b; b = next) {
			next = b->hash_next;
			if (b->region && !all)
				continue;
			bytes += b->bytes;
			block_drop(s, b);
			s->stat.swept++;
		}
	}
	*n = i;
	return bytes;
}

/* Called between handlers. */
static void make_room(struct soft *s)
{
	u32 n = SWEEP_CHAINS;

	if (!sweep(s, s->sweep_hand, &n, false))
		sweep(s, s->sweep_hand, &n, true);
	s->sweep_hand += n;
	blocks_reap(s);
}

/* A block does not go past a place where a debugger wants to stop. */
static void cut_for_debugger(const struct soft *s, gpa_t g, struct op *ops, unsigned *n,
			     unsigned *len, unsigned *nops)
{
	unsigned k = debug_block_end(s, g, ops, *n);

	if (k == *n)
		return;
	*n = k;
	*len = ops[k].ip;
	*nops = k + 1;
	op_fallthrough(&ops[k], &ops[k - 1]);
}

/* The bytes at RIP that lie in its page, then those of the next page if they are needed. */
static struct block *block_make(struct vcpu *v, gpa_t g)
{
	struct soft *s = v->s;
	struct op ops[BLOCK_OPS + 2];
	unsigned avail = 0x1000 - (unsigned)(g & 0xfff), len, nops, n;
	u8 buf[16];
	const u8 *code = mem_ptr(s->cfg.mem, g, avail);
	gpa_t g2 = 0;

	if (!code) {
		/* Execution outside RAM: what a fetch from a device reads is not defined. #UD. */
		x86_fault(&v->c, X86_UD);
		return NULL;
	}
	n = compile_block(v, code, avail, ops, &len, &nops);
	if (n == 0) {
		u64 lin = lin_add(
			v, v->c.rip + (v->code_mode == CODE_64 ? 0 : v->c.seg[X86_CS].base), avail);
		if (vcpu_fetch(v, lin, &g2))
			return NULL;
		const u8 *more = mem_ptr(s->cfg.mem, g2, 16);
		if (!more) {
			x86_fault(&v->c, X86_UD);
			return NULL;
		}
		memcpy(buf, code, avail);
		memcpy(buf + avail, more, 16 - avail);
		n = compile_block(v, buf, 16, ops, &len, &nops);
		BUG_IF(n == 0);
		/* Only the straddling instruction, whatever else was decoded. */
		if (n > 1) {
			n = 1;
			len = ops[0].len;
			nops = 1;
		}
		if (nops == 1)
			op_fallthrough(&ops[nops++], &ops[0]);
	}

	if (unlikely(s->dbg.n_exec) && !g2)
		cut_for_debugger(s, g, ops, &n, &len, &nops);

	u32 bytes = (u32)(sizeof(struct block) + nops * sizeof(struct op));
	if (s->block_bytes >= s->block_max)
		make_room(s);
	struct block *b = malloc(bytes);
	if (!b) { /* make room by forgetting everything; if that does not help, we cannot go on */
		blocks_flush_all(s);
		b = malloc(bytes);
		BUG_IF(!b);
	}
	*b = (struct block){ .gpa = g,
			     .gpa2 = g2,
			     .len = (u16)len,
			     .n = (u8)n,
			     .mode = v->code_mode,
			     .bytes = bytes };
	s->block_bytes += bytes;
	memcpy(b->ops, ops, nops * sizeof(struct op));
	s->n_blocks++;
	s->stat.blocks++;
	s->stat.decoded += n;

	b->fn0 = b->ops[0].fn;
	if (s->jit)
		jit_watch(s->jit, b);
	if (unlikely(s->dbg.n_exec) && debug_stops_at(s, g)) {
		b->stops = b->refused = true;
		b->ops[0].fn = op_break;
	}

	struct block **h = &s->hash[hash_of(g, b->mode)];
	b->hash_next = *h;
	*h = b;
	page_link(s, g & PAGE_MASK, b);
	if (g2)
		page_link(s, g2, b);
	return b;
}

struct block *block_find(const struct soft *s, gpa_t gpa, enum code_mode mode)
{
	struct block *b = s->hash[hash_of(gpa, mode)];

	while (b && (b->gpa != gpa || b->mode != mode || b->gpa2))
		b = b->hash_next;
	return b;
}

struct block *block_get(struct vcpu *v)
{
	struct soft *s = v->s;
	u64 rip = v->c.rip;
	u64 lin = v->code_mode == CODE_64 ? rip : (u32)(rip + v->c.seg[X86_CS].base);
	struct jc_entry *e = &v->jc[jc_hash(rip)];
	u64 key = rip ^ v->jc_salt[rip >> 63];
	gpa_t g, g2;

	if (e->key == key && e->b)
		return e->b;
	v->stat.jc_miss++;
	if (vcpu_fetch(v, lin, &g))
		return NULL;
	struct block *b = s->hash[hash_of(g, v->code_mode)];
	for (; b; b = b->hash_next) {
		if (b->gpa != g || b->mode != v->code_mode)
			continue;
		if (!b->gpa2)
			break;
		if (vcpu_fetch(v, lin_add(v, lin, 0x1000 - (lin & 0xfff)), &g2))
			return NULL;
		if (g2 == b->gpa2)
			break;
	}
	if (!b)
		b = block_make(v, g);
	if (!b)
		return NULL;
	if (b->jc_rip && b->jc_rip != rip)
		b->jc_many = true;
	b->jc_rip = rip;
	/* The fetch may have flushed, and so changed the salt. */
	*e = (struct jc_entry){ .key = rip ^ v->jc_salt[rip >> 63], .b = b };
	return b;
}
