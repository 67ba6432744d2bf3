/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tlb.c - the software TLB and every access that misses it
 *
 * How it works
 * One direct-mapped table per privilege (enum tlb_kind). A tag is a linear page; the address of
 * the *last* byte of an access is compared, so that an access which straddles a page never hits.
 * An entry may be valid for reading only: the page is read-only, clean (the next write must set
 * the D bit), or holds decoded code.
 *
 * Invalidation has to be cheap, since Linux invalidates on every process switch: `used` lists the
 * slots in use, and global entries, which survive, have a list of their own. Pages of large mappings are entered as 4 KiB pieces;
 * INVLPG of one piece must drop them all, and `large2m`/`large1g` say (by hash) whether there
 * are any.
 *
 * Pages with decoded code: writes to them come here, drop the blocks they hit, and go on. If the
 * running block itself is hit, the instruction runs alone (see vcpu.h) so that the rest of the
 * stale block is not executed.
 *
 * Pages in which a debugger watches something have entries whose tags no access matches; what the tag
 * would be is the watched place's page. So they are walked no more often than without a debugger.
 */
#include "cpu/soft/x86/vcpu.h"

#include "cpu/soft/soft_priv.h"

#include <string.h>

#define PAGE_MASK (~0xfffull)

static enum tlb_kind kind_of(const struct vcpu *v, bool user, bool implicit)
{
	if (user)
		return TLB_USER;
	if (!implicit && (v->c.rflags & X86_AC))
		return TLB_KERNEL_AC;
	return TLB_KERNEL;
}

static unsigned hash2m(u64 a)
{
	return (a >> 21) & 63;
}

static unsigned hash1g(u64 a)
{
	return (a >> 30) & 63;
}

static void entry_clear(struct tlb *t, struct tlb_entry *e)
{
	e->rtag = e->wtag = TLB_NONE(e - t->e);
	e->meta &= TLB_LISTED(0) | TLB_LISTED(1);
}

/* --- pages in which a debugger watches something -------------------------------------------------- */

static u64 watched_page(const struct vcpu *v, const struct tlb_entry *e)
{
	return v->s->dbg.at[(e->meta >> TLB_WATCH_SHIFT) & (ENGINE_BREAKS_MAX - 1)].addr &
	       PAGE_MASK;
}

static bool watched(const struct vcpu *v, const struct tlb_entry *e, u64 a)
{
	return unlikely(e->meta & TLB_WATCHED) && watched_page(v, e) == (a & PAGE_MASK);
}

/* Whether @e is the translation of @a, for reading, for writing. */
static bool hit_rd(const struct vcpu *v, const struct tlb_entry *e, u64 a)
{
	return e->rtag == (a & PAGE_MASK) || watched(v, e, a);
}

static bool hit_wr(const struct vcpu *v, const struct tlb_entry *e, u64 a)
{
	return e->wtag == (a & PAGE_MASK) ||
	       (watched(v, e, a) && (e->meta & TLB_W) && !page_has_code(v->s, e->meta & PAGE_MASK));
}

static void entry_watch(const struct soft *s, struct tlb *t, struct tlb_entry *e)
{
	for (unsigned i = 0; i < s->dbg.n_at; i++) {
		if (s->dbg.at[i].kind == ENGINE_BREAK_EXEC ||
		    e->rtag != (s->dbg.at[i].addr & PAGE_MASK))
			continue;
		e->rtag = e->wtag = TLB_NONE(e - t->e);
		e->meta |= TLB_WATCHED | (u64)i << TLB_WATCH_SHIFT;
		return;
	}
}

static void entry_unwatch(const struct vcpu *v, struct tlb_entry *e)
{
	u64 page = watched_page(v, e);

	if (!(e->meta & TLB_WATCHED))
		return;
	if (hit_wr(v, e, page))
		e->wtag = page;
	e->rtag = page;
	e->meta &= ~(TLB_WATCHED | (u64)(ENGINE_BREAKS_MAX - 1) << TLB_WATCH_SHIFT);
}

void tlb_watch(struct soft *s)
{
	for (unsigned i = 0; i < s->cfg.ncpus; i++)
		for (int k = 0; k < TLB_KINDS; k++)
			for (u32 j = 0; j < TLB_SIZE; j++)
				entry_watch(s, s->cpu[i]->tlbs[k], &s->cpu[i]->tlbs[k]->e[j]);
}

void tlb_unwatch(struct soft *s)
{
	for (unsigned i = 0; i < s->cfg.ncpus; i++)
		for (int k = 0; k < TLB_KINDS; k++)
			for (u32 j = 0; j < TLB_SIZE; j++)
				entry_unwatch(s->cpu[i], &s->cpu[i]->tlbs[k]->e[j]);
}

/* --- flushing ------------------------------------------------------------------------------------- */

static void list_flush(struct tlb *t, bool global, bool keep_global)
{
	for (u32 i = 0; i < t->n_used[global]; i++) {
		struct tlb_entry *e = &t->e[t->used[global][i]];
		if (!keep_global || !(e->meta & TLB_GLOBAL))
			entry_clear(t, e);
		e->meta &= ~TLB_LISTED(global);
	}
	t->n_used[global] = 0;
}

static void kind_flush(struct tlb *t, bool keep_global)
{
	list_flush(t, false, keep_global);
	if (!keep_global)
		list_flush(t, true, false);
	if (!t->n_used[true])
		t->large2m = t->large1g = 0;
}

void jc_flush(struct vcpu *v, unsigned half)
{
	v->gen[half]++;
	if ((v->gen[half] & 0xfff) == 0)
		memset(v->jc, 0, JC_SIZE * sizeof(*v->jc));
	if (v->itlb_n[half])
		memset(v->itlb[half], 0, sizeof(v->itlb[half]));
	v->itlb_n[half] = 0;
	if (half == 1)
		v->kernel_nonglobal = false;
	v->resume = NULL;
	vcpu_mode_changed(v);
}

void tlb_flush_all(struct vcpu *v)
{
	for (int k = 0; k < TLB_KINDS; k++)
		kind_flush(v->tlbs[k], false);
	jc_flush(v, 0);
	jc_flush(v, 1);
}

void tlb_flush_nonglobal(struct vcpu *v)
{
	for (int k = 0; k < TLB_KINDS; k++)
		kind_flush(v->tlbs[k], true);
	jc_flush(v, 0);
	if (v->kernel_nonglobal)
		jc_flush(v, 1);
}

/* It stays in `used`. */
static void entry_drop(struct tlb *t, struct tlb_entry *e)
{
	e->rtag = e->wtag = TLB_NONE(e - t->e);
	e->meta &= ~TLB_WATCHED;
}

/* Drops the pieces of large pages that @a may lie in. */
static void large_drop(const struct vcpu *v, struct tlb *t, bool global, u64 a)
{
	for (u32 i = 0; i < t->n_used[global]; i++) {
		struct tlb_entry *e = &t->e[t->used[global][i]];
		u64 none = TLB_NONE(e - t->e);
		u64 tag = e->rtag != none ? e->rtag : e->wtag;
		if (unlikely(e->meta & TLB_WATCHED))
			tag = watched_page(v, e);
		if (((e->meta & TLB_2M) && (tag >> 21) == (a >> 21)) ||
		    ((e->meta & TLB_1G) && (tag >> 30) == (a >> 30)))
			entry_drop(t, e);
	}
}

void tlb_flush_page(struct vcpu *v, u64 a)
{
	for (int k = 0; k < TLB_KINDS; k++) {
		struct tlb *t = v->tlbs[k];
		struct tlb_entry *e = &t->e[tlb_index(a)];
		if (((t->large2m >> hash2m(a)) & 1) || ((t->large1g >> hash1g(a)) & 1)) {
			large_drop(v, t, false, a);
			large_drop(v, t, true, a);
		}
		if (hit_rd(v, e, a) || e->wtag == (a & PAGE_MASK))
			entry_drop(t, e);
	}
	u32 h = (u32)(a >> 12) & 1023;
	if ((v->exec_bloom[h >> 6] >> (h & 63) & 1) || ((v->exec_2m >> hash2m(a)) & 1) ||
	    ((v->exec_1g >> hash1g(a)) & 1))
		jc_flush(v, a >> 63);
}

static void list_protect(struct tlb *t, bool global, gpa_t gpa)
{
	for (u32 i = 0; i < t->n_used[global]; i++) {
		struct tlb_entry *e = &t->e[t->used[global][i]];
		if ((e->meta & PAGE_MASK) == gpa)
			e->wtag = TLB_NONE(e - t->e);
	}
}

void tlb_protect_code(struct soft *s, gpa_t gpa)
{
	for (unsigned i = 0; i < s->cfg.ncpus; i++) {
		struct vcpu *v = s->cpu[i];
		for (int k = 0; k < TLB_KINDS; k++) {
			list_protect(v->tlbs[k], false, gpa);
			list_protect(v->tlbs[k], true, gpa);
		}
	}
}

static void fill(struct vcpu *v, u64 a, enum tlb_kind kind, const struct x86_walk *w, bool write)
{
	struct tlb *t = v->tlbs[kind];
	u32 slot = tlb_index(a);
	struct tlb_entry *e = &t->e[slot];
	gpa_t page = w->gpa & PAGE_MASK;
	u8 *host = mem_ptr(v->s->cfg.mem, page, GUEST_PAGE_SIZE);

	if (!host)
		return;
	u64 listed = e->meta & (TLB_LISTED(0) | TLB_LISTED(1));
	if (!(listed & TLB_LISTED(w->global)))
		t->used[w->global][t->n_used[w->global]++] = (u16)slot;
	e->host = host;
	e->meta = page | (w->global ? TLB_GLOBAL : 0) | (w->page_size == 1ull << 21 ? TLB_2M : 0) |
		  (w->page_size == 1ull << 30 ? TLB_1G : 0) | listed | TLB_LISTED(w->global);
	bool writable = w->writable && (write || w->dirty);
	if (writable)
		e->meta |= TLB_W;
	if (w->page_size == 1ull << 21 || w->page_size == 1ull << 22)
		t->large2m |= 1ull << hash2m(a);
	if (w->page_size == 1ull << 22) { /* one 4 MiB page: two 2 MiB areas */
		e->meta |= TLB_1G;	  /* coarser than needed, never finer */
		t->large1g |= 1ull << hash1g(a);
	}
	if (w->page_size == 1ull << 30)
		t->large1g |= 1ull << hash1g(a);
	e->rtag = a & PAGE_MASK;
	e->wtag = writable && !page_has_code(v->s, page) ? a & PAGE_MASK : TLB_NONE(slot);
	if (unlikely(v->s->dbg.n_watch))
		entry_watch(v->s, t, e);
}

static int translate(struct vcpu *v, u64 a, bool write, bool user, bool implicit, gpa_t *ret)
{
	enum tlb_kind kind = kind_of(v, user, implicit);
	const struct tlb_entry *e = &v->tlbs[kind]->e[tlb_index(a)];
	struct x86_walk w;
	int r;

	/* A write that is here for the page's code alone is translated already. */
	if (write && hit_rd(v, e, a) && (e->meta & TLB_W)) {
		*ret = (e->meta & PAGE_MASK) | (a & 0xfff);
		return 0;
	}
	v->stat.tlb_miss++;
	r = x86_walk(&v->c, a, write ? X86_WRITE : X86_READ, user, implicit, &w);
	if (r)
		return r;
	fill(v, a, kind, &w, write);
	*ret = w.gpa;
	return 0;
}

void *tlb_enter(struct vcpu *v, u64 a, unsigned n, bool write)
{
	bool user = v->c.cpl == 3;
	gpa_t g;

	if (v->tlb == v->empty_tlb || (a & 0xfff) + n > GUEST_PAGE_SIZE ||
	    translate(v, a, write, user, false, &g))
		return NULL;
	return write ? tlb_wr(v, a, n) : tlb_rd(v, a, n);
}

enum lin_status { LIN_OK = 0, LIN_FAULT = X86_FAULT, LIN_ALONE = 3 };

/*
 * What #AC asks of an operand of @n bytes (SDM vol. 3, table 6-7): 10-byte x87 operands count as 8,
 * the x87 environment and state as 2 or 4 by operand size. 16-byte operands have checks of their
 * own, or none.
 */
static unsigned ac_align(unsigned n)
{
	switch (n) {
	case 2:
	case 4:
	case 8:
		return n;
	case 10:
		return 8;
	case 14:
	case 94:
		return 2;
	case 28:
	case 108:
		return 4;
	default:
		return 1;
	}
}

/*
 * What comes before translation: both ends canonical, #AC, data breakpoints. Accesses that need
 * the last two come here because their TLB is always empty.
 */
static int check_data(struct vcpu *v, u64 a, unsigned n, bool write, bool user)
{
	if (x86_long_mode(&v->c) && unlikely(!canonical(a) || !canonical(a + n - 1)))
		return x86_fault_err(&v->c, X86_GP, 0);
	if (user && (v->c.rflags & X86_AC) && (v->c.cr0 & CR0_AM) && (a & (ac_align(n) - 1)))
		return x86_fault_err(&v->c, X86_AC_EXC, 0);
	if (unlikely(v->c.dr7 & 0xff))
		v->data_break |= x86_dr_match(&v->c, a, n, write ? X86_WRITE : X86_READ);
	if (unlikely(v->s->dbg.n_watch) && debug_watches(v->s, a, n, write)) {
		if (!v->alone && v->cur) /* so that it is the last that is executed */
			return LIN_ALONE;
		debug_stop_behind(v, a, n, write);
	}
	return 0;
}

static bool write_hits_running(struct vcpu *v, gpa_t g, unsigned n)
{
	return !v->alone && v->cur && block_overlaps(v->cur, g, n);
}

/* The largest naturally aligned power of two that an access of @n bytes at @g can begin with. */
static unsigned piece(gpa_t g, unsigned n)
{
	unsigned k = 8;

	while (k > n || (g & (k - 1)))
		k /= 2;
	return k;
}

/* One access inside a page. */
static int page_ld(struct vcpu *v, u64 a, unsigned n, bool user, bool implicit, u8 *dst)
{
	gpa_t g;
	struct tlb_entry *e = &v->tlbs[kind_of(v, user, implicit)]->e[tlb_index(a)];

	if (hit_rd(v, e, a)) {
		memcpy(dst, e->host + (a & 0xfff), n);
		return 0;
	}
	int r = translate(v, a, false, user, implicit, &g);
	if (r)
		return r;
	const u8 *p = mem_ptr(v->s->cfg.mem, g, n);
	if (p) {
		memcpy(dst, p, n);
		return 0;
	}
	if (!v->alone && v->cur)
		return LIN_ALONE;
	v->stat.io++;
	for (unsigned i = 0; i < n;) {
		unsigned k = piece(g + i, n - i);
		u64 x;
		bus_read(v->s->cfg.bus, BUS_MMIO, g + i, k, v->c.index, &x);
		memcpy(dst + i, &x, k);
		i += k;
	}
	return 0;
}

static int page_st(struct vcpu *v, u64 a, unsigned n, bool user, bool implicit, const u8 *src)
{
	gpa_t g;
	struct tlb_entry *e = &v->tlbs[kind_of(v, user, implicit)]->e[tlb_index(a)];

	if (hit_wr(v, e, a)) {
		memcpy(e->host + (a & 0xfff), src, n);
		return 0;
	}
	int r = translate(v, a, true, user, implicit, &g);
	if (r)
		return r;
	u8 *p = mem_ptr(v->s->cfg.mem, g, n);
	if (p) {
		if (page_has_code(v->s, g)) {
			if (write_hits_running(v, g, n))
				return LIN_ALONE;
			blocks_invalidate(v->s, g, n);
		}
		memcpy(p, src, n);
		return 0;
	}
	if (!v->alone && v->cur)
		return LIN_ALONE;
	v->stat.io++;
	for (unsigned i = 0; i < n;) {
		unsigned k = piece(g + i, n - i);
		u64 x = 0;
		memcpy(&x, src + i, k);
		bus_write(v->s->cfg.bus, BUS_MMIO, g + i, k, x, v->c.index);
		i += k;
	}
	return 0;
}

static unsigned in_page(u64 a, unsigned n)
{
	return (a & 0xfff) + n > 0x1000 ? 0x1000 - (unsigned)(a & 0xfff) : n;
}

static int lin_ld_any(struct vcpu *v, u64 a, unsigned n, bool user, bool implicit, u8 *dst)
{
	int r = implicit ? 0 : check_data(v, a, n, false, user);
	unsigned k = in_page(a, n);

	if (!r)
		r = page_ld(v, a, k, user, implicit, dst);
	if (!r && k < n)
		r = page_ld(v, lin_add(v, a, k), n - k, user, implicit, dst + k);
	return r;
}

/* The second page is checked before the first is written: a straddling store is all or nothing. */
static int probe_wr(struct vcpu *v, u64 a, bool user, bool implicit)
{
	gpa_t g;
	struct tlb_entry *e = &v->tlbs[kind_of(v, user, implicit)]->e[tlb_index(a)];

	return hit_wr(v, e, a) ? 0 : translate(v, a, true, user, implicit, &g);
}

static int lin_st_any(struct vcpu *v, u64 a, unsigned n, bool user, bool implicit, const u8 *src)
{
	int r = implicit ? 0 : check_data(v, a, n, true, user);
	unsigned k = in_page(a, n);

	if (!r && k < n) {
		u64 b = lin_add(v, a, k);
		r = probe_wr(v, a, user, implicit);
		if (!r)
			r = probe_wr(v, b, user, implicit);
		if (!r && !v->alone && v->cur)
			r = LIN_ALONE; /* so that neither half can be refused after the other */
		if (!r)
			r = page_st(v, a, k, user, implicit, src);
		return r ? r : page_st(v, b, n - k, user, implicit, src + k);
	}
	return r ? r : page_st(v, a, n, user, implicit, src);
}

int lin_ld(struct vcpu *v, u64 a, unsigned n, bool user, bool implicit, u64 *ret)
{
	u64 x = 0;
	/* System semantics always run where devices may be touched: at a block's end. */
	const struct block *cur = v->cur;
	v->cur = NULL;
	int r = lin_ld_any(v, a, n, user, implicit, (u8 *)&x);
	v->cur = cur;
	if (r == 0)
		*ret = x;
	return r;
}

int lin_st(struct vcpu *v, u64 a, unsigned n, bool user, bool implicit, u64 val)
{
	const struct block *cur = v->cur;
	v->cur = NULL;
	int r = lin_st_any(v, a, n, user, implicit, (const u8 *)&val);
	v->cur = cur;
	return r;
}

attr_noreturn static void leave(struct vcpu *v, const struct op *op, int r)
{
	if (r == LIN_ALONE)
		vcpu_alone(v, op);
	/* A non-canonical address on the stack segment is #SS. */
	if (v->c.exc.vector == X86_GP && (op->flags & OPF_SS))
		v->c.exc.vector = X86_SS_EXC;
	vcpu_raise(v, op);
}

static bool is_user(const struct vcpu *v)
{
	return v->c.cpl == 3;
}

attr_noinline u64 mem_ld(struct vcpu *v, const struct op *op, u64 a, unsigned n)
{
	u64 x = 0;
	int r = lin_ld_any(v, a, n, is_user(v), false, (u8 *)&x);

	if (r)
		leave(v, op, r);
	return x;
}

attr_noinline void mem_st(struct vcpu *v, const struct op *op, u64 a, unsigned n, u64 val)
{
	int r = lin_st_any(v, a, n, is_user(v), false, (const u8 *)&val);

	if (r)
		leave(v, op, r);
}

attr_noinline void *mem_ref(struct vcpu *v, const struct op *op, u64 a, unsigned n, bool write)
{
	bool user = is_user(v);
	int r = 0;

	BUG_IF(n > sizeof(v->bounce));
	r = check_data(v, a, n, write, user);
	if (r)
		leave(v, op, r);
	if (in_page(a, n) == n) {
		struct tlb_entry *e = &v->tlbs[kind_of(v, user, false)]->e[tlb_index(a)];
		if (write ? hit_wr(v, e, a) : hit_rd(v, e, a))
			return e->host + (a & 0xfff);
		gpa_t g;
		r = translate(v, a, write, user, false, &g);
		if (r)
			leave(v, op, r);
		u8 *p = mem_ptr(v->s->cfg.mem, g, n);
		if (p) {
			if (write && page_has_code(v->s, g)) {
				if (write_hits_running(v, g, n))
					leave(v, op, LIN_ALONE);
				blocks_invalidate(v->s, g, n);
			}
			return p;
		}
	}
	/* Straddling pages, or a device. */
	if (n > 10 && in_page(a, n) < n && ac_align(n) > 1 &&
	    in_page(a, ac_align(n)) == ac_align(n)) {
		/* Of x87 images processors touch the first word, then the last byte: CR2 tells. */
		gpa_t g;
		r = translate(v, a, write, user, false, &g);
		if (!r)
			r = translate(v, lin_add(v, a, n - 1), write, user, false, &g);
		if (r)
			leave(v, op, r);
	}
	if (write) {
		r = probe_wr(v, a, user, false);
		if (!r && in_page(a, n) < n)
			r = probe_wr(v, lin_add(v, a, in_page(a, n)), user, false);
		if (!r && !v->alone)
			r = LIN_ALONE;
		if (r)
			leave(v, op, r);
	}
	unsigned k = in_page(a, n);
	r = page_ld(v, a, k, user, false, v->bounce);
	if (!r && k < n)
		r = page_ld(v, lin_add(v, a, k), n - k, user, false, v->bounce + k);
	if (r)
		leave(v, op, r);
	v->bounce_addr = a;
	v->bounce_len = n;
	return v->bounce;
}

attr_noinline void mem_commit_slow(struct vcpu *v, const struct op *op)
{
	u64 a = v->bounce_addr;
	unsigned n = v->bounce_len, k = in_page(a, n);
	int r = page_st(v, a, k, is_user(v), false, v->bounce);

	if (!r && k < n)
		r = page_st(v, lin_add(v, a, k), n - k, is_user(v), false, v->bounce + k);
	if (r)
		leave(v, op, r);
}

/* The entry of the page of @a, or the empty one where it belongs. */
static struct itlb_entry *itlb_find(struct vcpu *v, u64 a)
{
	unsigned half = a >> 63;
	/* +1: page 0 with salt 0 must not match an empty entry. */
	u64 key = ((a & PAGE_MASK) ^ v->jc_salt[half]) + 1;
	u32 i = (u32)((a >> 12) ^ (a >> 21)) & (ITLB_SIZE - 1);

	while (v->itlb[half][i].key && v->itlb[half][i].key != key)
		i = (i + 1) & (ITLB_SIZE - 1);
	return &v->itlb[half][i];
}

static void itlb_enter(struct vcpu *v, u64 a, const struct x86_walk *w)
{
	unsigned half = a >> 63;
	u32 h = (u32)(a >> 12) & 1023;

	if (v->itlb_n[half] >= ITLB_SIZE / 4 * 3)
		jc_flush(v, half);
	struct itlb_entry *e = itlb_find(v, a);
	e->key = ((a & PAGE_MASK) ^ v->jc_salt[half]) + 1;
	e->gpa = w->gpa & PAGE_MASK;
	v->itlb_n[half]++;
	if (half && !w->global)
		v->kernel_nonglobal = true;
	v->exec_bloom[h >> 6] |= 1ull << (h & 63);
	/* One piece of a large page is invalidated by INVLPG of any other piece. */
	if (w->page_size == 1ull << 30)
		v->exec_1g |= 1ull << hash1g(a);
	else if (w->page_size == 1ull << 22)
		v->exec_2m = ~0ull;
	else if (w->page_size == 1ull << 21)
		v->exec_2m |= 1ull << hash2m(a);
}

int vcpu_fetch(struct vcpu *v, u64 a, gpa_t *ret)
{
	const struct itlb_entry *e = itlb_find(v, a);
	struct x86_walk w;

	if (e->key) {
		*ret = e->gpa | (a & 0xfff);
		return 0;
	}
	int r = x86_walk(&v->c, a, X86_EXEC, is_user(v), false, &w);
	if (r)
		return r;
	itlb_enter(v, a, &w);
	*ret = w.gpa;
	return 0;
}
