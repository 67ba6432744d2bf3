/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_walk.c - page walks against an oracle that is written the long way
 *
 * Random page tables (fixed seed) in all paging modes, with random permissions, absent entries
 * and reserved bits, are walked with every kind of access. The oracle restates SDM vol. 3, 4.6
 * and 4.7 as a ladder of conditions.
 */
#include "rig.h"

#include <stdlib.h>
#include <string.h>

enum mode { M_4LEVEL, M_PAE, M_32, MODES };

struct entry {
	u32 at;
	u64 v;
	bool present, rsvd;
	bool is_pdpte; /* PAE top entry: no permissions, no accessed bit */
};

struct table {
	struct entry e[4];
	unsigned n, esize;
	u64 page_size, frame;
	gva_t a;
};

static u64 seed = 0x9e3779b97f4a7c15ull;

static u64 rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1dull >> 16;
}

static bool chance(unsigned one_in)
{
	return rnd() % one_in == 0;
}

/* P, W, U, A, D, G and NX, mostly permissive. */
static u64 random_bits(enum mode m)
{
	u64 v = 1;

	v |= chance(4) ? 0 : 2;
	v |= chance(3) ? 0 : 4;
	v |= chance(2) ? 0x20 : 0;
	v |= chance(2) ? 0x40 : 0;
	v |= chance(2) ? 0x100 : 0;
	v |= chance(2) ? 0x18 : 0; /* PWT, PCD */
	if (m != M_32 && chance(4))
		v |= BIT(63);
	return v;
}

static void spoil(struct entry *e, u64 reserved, u64 always_reserved)
{
	if (chance(12)) {
		e->v &= ~1ull;
	} else if (reserved && chance(10)) {
		u64 bit;

		do
			bit = BIT(rnd() % 64);
		while (!(bit & reserved));
		e->v |= bit;
	}
	e->present = e->v & 1;
	e->rsvd = (e->v & (reserved | always_reserved)) != 0;
}

static void build_4level(struct rig *r, struct table *t)
{
	unsigned leaf = (unsigned)(rnd() % 3); /* level of the leaf: 4K, 2M, 1G */
	u64 nx = r->c.efer & EFER_NX ? 0 : BIT(63);

	t->esize = 8;
	t->page_size = BIT(12 + 9 * leaf);
	t->a = (gva_t)((s64)(rnd() << 20) >> 16);
	t->frame = (rnd() & (BIT(46) - 1)) & ~(t->page_size - 1);
	r->c.cr3 = 0x10000 | (rnd() & 0x18);
	for (int level = 3; level >= (int)leaf; level--) {
		struct entry *e = &t->e[t->n++];
		u64 rsvd = 0x000fffffffffffffull & ~(BIT(46) - 1);

		e->at = 0x10000 + 0x1000 * (3 - (u32)level) +
			(u32)((t->a >> (12 + 9 * level)) & 511) * 8;
		e->v = random_bits(M_4LEVEL) | (u64)(0x10000 + 0x1000 * (4 - level));
		if (level == (int)leaf) {
			e->v = (e->v & ~0x000ffffffffff000ull) | t->frame | (leaf ? 0x80 : 0);
			if (leaf && chance(2))
				e->v |= BIT(12); /* PAT */
			if (leaf == 1)
				rsvd |= 0x1fe000;
			if (leaf == 2)
				rsvd |= 0x3fffe000;
		}
		if (level == 3)
			rsvd |= 0x80;
		if (chance(4))
			e->v |= (rnd() & 0x7ff) << 52; /* ignored bits 52-62 */
		spoil(e, rsvd, nx);
	}
}

static void build_pae(struct rig *r, struct table *t)
{
	unsigned leaf = (unsigned)(rnd() % 2);
	u64 nx = r->c.efer & EFER_NX ? 0 : BIT(63);
	struct entry *e = &t->e[t->n++];
	u64 high = 0x7fffffffffffffffull & ~(BIT(46) - 1);

	t->esize = 8;
	t->page_size = leaf ? BIT(21) : BIT(12);
	t->a = (u32)rnd();
	t->frame = (rnd() & (BIT(46) - 1)) & ~(t->page_size - 1);
	r->c.cr3 = 0x10020;
	e->at = 0x10020 + (u32)(t->a >> 30) * 8;
	e->v = 0x11001;
	e->is_pdpte = true;
	spoil(e, high | BIT(63) | 0x1e6, 0);
	for (int level = 1; level >= (int)leaf; level--) {
		u64 rsvd = high;

		e = &t->e[t->n++];
		e->at = 0x11000 + 0x1000 * (1 - (u32)level) +
			(u32)((t->a >> (12 + 9 * level)) & 511) * 8;
		e->v = random_bits(M_PAE) | 0x12000;
		if (level == (int)leaf) {
			e->v = (e->v & ~0x000ffffffffff000ull) | t->frame | (leaf ? 0x80 : 0);
			if (leaf && chance(2))
				e->v |= BIT(12); /* PAT */
			if (leaf)
				rsvd |= 0x1fe000;
		}
		spoil(e, rsvd, nx);
	}
}

static void build_32(struct rig *r, struct table *t)
{
	bool pse = r->c.cr4 & CR4_PSE;
	bool big = pse && chance(2);
	struct entry *e = &t->e[t->n++];

	t->esize = 4;
	t->page_size = big ? BIT(22) : BIT(12);
	t->a = (u32)rnd();
	r->c.cr3 = 0x10000;
	e->at = 0x10000 + (u32)(t->a >> 22) * 4;
	e->v = random_bits(M_32);
	if (big) {
		t->frame = (rnd() & 0xffffffffffull) & ~(BIT(22) - 1);
		e->v |= chance(2) ? BIT(12) : 0; /* PAT */
		e->v |= 0x80 | (t->frame & 0xffc00000) | (t->frame >> 32) << 13;
		spoil(e, BIT(21), 0);
		return;
	}
	/* Without CR4.PSE, bit 7 is ignored. */
	e->v |= 0x11000 | (!pse && chance(2) ? 0x80 : 0);
	spoil(e, 0, 0);
	e = &t->e[t->n++];
	t->frame = (u32)rnd() & ~0xfffu;
	e->at = 0x11000 + (u32)((t->a >> 12) & 1023) * 4;
	e->v = random_bits(M_32) | t->frame;
	spoil(e, 0, 0);
}

struct verdict {
	bool fault;
	u32 err;
	bool user, nx, writable_by_tables;
};

static struct verdict oracle(const struct rig *r, const struct table *t, enum x86_access acc,
			     bool user, bool implicit)
{
	const struct x86_cpu *c = &r->c;
	struct verdict v = { .user = true, .writable_by_tables = true };
	bool write = acc == X86_WRITE, fetch = acc == X86_EXEC;
	bool nx_on = (c->efer & EFER_NX) && (c->cr4 & CR4_PAE);
	u32 access = 0;

	if (write)
		access |= 2;
	if (user)
		access |= 4;
	if (fetch && ((c->cr4 & CR4_SMEP) || nx_on))
		access |= 16;
	for (unsigned i = 0; i < t->n; i++) {
		if (!t->e[i].present)
			return (struct verdict){ .fault = true, .err = access };
		if (t->e[i].rsvd)
			return (struct verdict){ .fault = true, .err = access | 9 };
		if (t->e[i].is_pdpte)
			continue;
		if (!(t->e[i].v & 2))
			v.writable_by_tables = false;
		if (!(t->e[i].v & 4))
			v.user = false;
		if (nx_on && (t->e[i].v >> 63))
			v.nx = true;
	}
	if (user) {
		if (!v.user)
			v.fault = true;
		if (write && !v.writable_by_tables)
			v.fault = true;
		if (fetch && v.nx)
			v.fault = true;
	} else if (fetch) {
		if (v.nx)
			v.fault = true;
		if (v.user && (c->cr4 & CR4_SMEP))
			v.fault = true;
	} else {
		if (v.user && (c->cr4 & CR4_SMAP)) {
			if (implicit)
				v.fault = true;
			if (!(c->rflags & X86_AC))
				v.fault = true;
		}
		if (write && !v.writable_by_tables && (c->cr0 & CR0_WP))
			v.fault = true;
	}
	if (v.fault)
		v.err = access | 1;
	return v;
}

static void check_success(struct rig *r, struct table *t, const struct verdict *v,
			  enum x86_access acc, bool user, const struct x86_walk *w)
{
	const struct entry *leaf = &t->e[t->n - 1];
	bool dirty = (leaf->v & 0x40) || acc == X86_WRITE;
	bool can_write = v->writable_by_tables || (!user && !(r->c.cr0 & CR0_WP));

	assert_int_equal(w->gpa, t->frame | (t->a & (t->page_size - 1)));
	assert_int_equal(w->page_size, t->page_size);
	assert_int_equal(w->user, v->user);
	assert_int_equal(w->exec, !v->nx);
	assert_int_equal(w->dirty, dirty);
	assert_int_equal(w->writable, dirty && can_write);
	assert_int_equal(w->global, (leaf->v & 0x100) && (r->c.cr4 & CR4_PGE));
	for (unsigned i = 0; i < t->n; i++) {
		u64 want = t->e[i].v | (t->e[i].is_pdpte ? 0 : 0x20);

		if (i == t->n - 1 && acc == X86_WRITE)
			want |= 0x40;
		assert_int_equal(rig_get(r, t->e[i].at, t->esize), want);
	}
}

static void one_walk(struct rig *r, enum mode m, unsigned *faults)
{
	struct table t = { 0 };
	enum x86_access acc = (enum x86_access)(rnd() % 3);
	bool user = chance(2), implicit = !user && chance(2);
	struct x86_walk w;
	struct verdict v;
	int ret;

	r->c.cr0 = CR0_PE | CR0_PG | (chance(2) ? CR0_WP : 0);
	r->c.cr4 = (chance(2) ? CR4_SMEP : 0) | (chance(2) ? CR4_SMAP : 0) |
		   (chance(2) ? CR4_PGE : 0) | (chance(2) ? CR4_PSE : 0) |
		   (m == M_32 ? 0 : CR4_PAE);
	r->c.efer = (chance(3) ? 0 : EFER_NX) | (m == M_4LEVEL ? EFER_LME | EFER_LMA : 0);
	r->c.rflags = 2 | (chance(2) ? X86_AC : 0);
	if (m == M_4LEVEL)
		build_4level(r, &t);
	else if (m == M_PAE)
		build_pae(r, &t);
	else
		build_32(r, &t);
	for (unsigned i = 0; i < t.n; i++)
		rig_put(r, t.e[i].at, t.esize, t.e[i].v);

	v = oracle(r, &t, acc, user, implicit);
	ret = x86_walk(&r->c, t.a, acc, user, implicit, &w);
	assert_int_equal(ret, v.fault ? X86_FAULT : 0);
	if (!v.fault) {
		check_success(r, &t, &v, acc, user, &w);
		return;
	}
	(*faults)++;
	assert_exc(r, X86_PF_EXC, v.err);
	assert_int_equal(r->c.exc.cr2, t.a);
	for (unsigned i = 0; i < t.n; i++)
		assert_int_equal(rig_get(r, t.e[i].at, t.esize), t.e[i].v);
}

static void matrix(enum mode m)
{
	struct rig *r = rig_new();
	unsigned faults = 0, total = 40000;

	for (unsigned i = 0; i < total; i++)
		one_walk(r, m, &faults);
	/* The generator must make both outcomes common, or the test says little. */
	assert_in_range(faults, total / 5, total * 4 / 5);
	free(r);
}

static void test_4level(void **state)
{
	matrix(M_4LEVEL);
}

static void test_pae(void **state)
{
	matrix(M_PAE);
}

static void test_32bit(void **state)
{
	matrix(M_32);
}

static void test_off_and_canonical(void **state)
{
	struct rig *r = rig_new();
	struct x86_walk w;

	assert_fault(r, x86_walk(&r->c, 0x0000800000000000ull, X86_READ, false, false, &w), X86_GP,
		     0);
	assert_fault(r, x86_walk(&r->c, 0xffff7fffffffffffull, X86_EXEC, true, false, &w), X86_GP,
		     0);
	rig_prot32(r, 3);
	r->c.cr4 = CR4_SMAP | CR4_SMEP;
	assert_int_equal(x86_walk(&r->c, 0x1234567890ull, X86_WRITE, true, false, &w), 0);
	assert_int_equal(w.gpa, 0x34567890);
	assert_true(w.writable && w.user && w.exec && w.dirty && !w.global);
	free(r);
}

/* A page table that is not RAM reads as all ones: reserved bits, never a crash. */
static void test_table_outside_ram(void **state)
{
	struct rig *r = rig_new();
	struct x86_walk w;

	r->c.cr3 = 0x3ffffffff000ull;
	assert_fault(r, x86_walk(&r->c, 0x1000, X86_WRITE, true, false, &w), X86_PF_EXC,
		     PFEC_P | PFEC_RSVD | PFEC_W | PFEC_U);
	free(r);
}

/* PSE-36: frame bits above the implemented physical address are reserved. */
static void test_pse36_width(void **state)
{
	struct rig *r = rig_new();
	struct x86_walk w;

	rig_prot32(r, 0);
	r->c.cr0 |= CR0_PG;
	r->c.cr4 = CR4_PSE;
	r->c.phys_mask = BIT(36) - 1;
	r->c.cr3 = 0x10000;
	rig_put(r, 0x10000, 4, 0x83 | 0xfu << 13);
	assert_int_equal(x86_walk(&r->c, 0x123456, X86_READ, false, false, &w), 0);
	assert_int_equal(w.gpa, 0xf00123456ull);
	rig_put(r, 0x10000, 4, 0x83 | 0x10u << 13);
	assert_fault(r, x86_walk(&r->c, 0x123456, X86_READ, false, false, &w), X86_PF_EXC,
		     PFEC_P | PFEC_RSVD);
	free(r);
}

static void test_explicit_xsave_access(void **state)
{
	struct rig *r = rig_new();
	struct x86_walk w;

	r->c.cr4 = CR4_PAE | CR4_SMAP;
	r->c.cr3 = 0x10000;
	rig_put(r, 0x10000, 8, 0x11007);
	rig_put(r, 0x11000, 8, 0x87);
	r->c.rflags = 2 | X86_AC;
	assert_fault(r, x86_walk(&r->c, 0x1000, X86_WRITE, false, true, &w), X86_PF_EXC,
		     PFEC_P | PFEC_W);
	r->c.lin_explicit = true;
	assert_int_equal(x86_walk(&r->c, 0x1000, X86_WRITE, false, true, &w), 0);
	r->c.rflags = 2;
	assert_fault(r, x86_walk(&r->c, 0x1000, X86_WRITE, false, true, &w), X86_PF_EXC,
		     PFEC_P | PFEC_W);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_4level),
		cmocka_unit_test(test_pae),
		cmocka_unit_test(test_32bit),
		cmocka_unit_test(test_off_and_canonical),
		cmocka_unit_test(test_table_outside_ram),
		cmocka_unit_test(test_pse36_width),
		cmocka_unit_test(test_explicit_xsave_access),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
