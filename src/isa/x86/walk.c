/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk.c - linear to physical translation (SDM vol. 3, chapter 4)
 *
 * How it works
 * One loop serves the three paging modes; they differ in the number of levels, the width of an
 * entry, which levels may map a page, and the reserved bits. Permissions accumulate downwards.
 * Accessed and dirty bits are set only when the whole walk has succeeded: a faulting walk leaves
 * the tables as they were, which the manual allows and which makes runs easier to compare.
 *
 * PAE: the four page-directory-pointer entries are read from memory at each walk instead of being
 * latched at a load of CR3. Software must reload CR3 after changing them in either case.
 */
#include "isa/x86/sys_priv.h"

#define PTE_P 0x1ull
#define PTE_W 0x2ull
#define PTE_U 0x4ull
#define PTE_A 0x20ull
#define PTE_D 0x40ull
#define PTE_PS 0x80ull
#define PTE_G 0x100ull
#define PTE_NX BIT(63)
#define PTE_ADDR 0x000ffffffffff000ull /* bits 12-51 */

enum paging { PAGING_32, PAGING_PAE, PAGING_4LEVEL };

struct step {
	gpa_t at;
	u64 pte;
};

struct walk {
	struct x86_cpu *c;
	gva_t a;
	enum paging mode;
	unsigned esize;
	struct step step[4]; /* entries that carry an accessed bit, outermost first */
	unsigned n;
	u64 frame; /* physical base of the page */
	u64 page_size;
	bool w, u, nx;
};

static enum paging paging_mode(const struct x86_cpu *c)
{
	if (x86_long_mode(c))
		return PAGING_4LEVEL;
	return c->cr4 & CR4_PAE ? PAGING_PAE : PAGING_32;
}

static int page_fault(struct x86_cpu *c, gva_t a, u32 err, enum x86_access access, bool user)
{
	if (access == X86_WRITE)
		err |= PFEC_W;
	if (user)
		err |= PFEC_U;
	/* I/D is reported only where a fetch can fault by itself (SDM vol. 3, 4.7). */
	if (access == X86_EXEC &&
	    ((c->cr4 & CR4_SMEP) || ((c->cr4 & CR4_PAE) && (c->efer & EFER_NX))))
		err |= PFEC_I;
	c->exc = (struct x86_exc){ .vector = X86_PF_EXC, .has_err = true, .err = err, .cr2 = a };
	return X86_FAULT;
}

/* Bits of a present entry that must be zero. @shift: of the page it maps, or 0 for a table. */
static u64 reserved_bits(const struct walk *k, unsigned level, unsigned shift, u64 pte)
{
	const struct x86_cpu *c = k->c;
	u64 r;

	if (k->mode == PAGING_32) {
		/* PSE-36: bits 13-20 are address bits 32-39, bit 21 is reserved. */
		if (shift != 22)
			return 0;
		r = BIT(21);
		if (((pte >> 13) & 0xff) << 32 & ~c->phys_mask)
			r |= 0xffull << 13;
		return r;
	}
	r = PTE_ADDR & ~c->phys_mask;
	if (k->mode == PAGING_PAE)
		r |= 0x7ffull << 52;
	if (!(c->efer & EFER_NX))
		r |= PTE_NX;
	if (shift > 12)
		r |= (BIT(shift) - 1) & ~0x1fffull; /* below the frame, but for PAT in bit 12 */
	if (level == 3)
		r |= PTE_PS; /* no 512 GiB pages */
	return r;
}

/* PAE: bits 1-2, 5-8 and everything above the physical address are reserved in a PDPTE. */
static u64 pdpte_reserved(const struct x86_cpu *c)
{
	return 0x1e6ull | (~c->phys_mask & ~0xfffull);
}

int x86_check_pdptes(struct x86_cpu *c, u64 cr3)
{
	for (unsigned i = 0; i < 4; i++) {
		u64 e = c->ops->phys_read(c, (cr3 & 0xffffffe0ull) + 8ull * i, 8);

		if ((e & PTE_P) && (e & pdpte_reserved(c)))
			return x86_fault_err(c, X86_GP, 0);
	}
	return 0;
}

/* The table at which the loop starts, and its level. 0, or the error code of a page fault + 1. */
static int walk_root(struct walk *k, gpa_t *ret_table, unsigned *ret_level)
{
	struct x86_cpu *c = k->c;
	u64 e;

	switch (k->mode) {
	case PAGING_4LEVEL:
		*ret_table = c->cr3 & PTE_ADDR & c->phys_mask;
		*ret_level = 3;
		return 0;
	case PAGING_32:
		*ret_table = c->cr3 & 0xfffff000ull;
		*ret_level = 1;
		return 0;
	case PAGING_PAE:
		break;
	}
	e = c->ops->phys_read(c, (c->cr3 & 0xffffffe0ull) + ((k->a >> 30) & 3) * 8, 8);
	if (!(e & PTE_P))
		return 1;
	if (e & pdpte_reserved(c))
		return 1 + (PFEC_P | PFEC_RSVD);
	*ret_table = e & PTE_ADDR;
	*ret_level = 1;
	return 0;
}

static bool maps_page(const struct walk *k, unsigned level, u64 pte)
{
	if (level == 0)
		return true;
	if (!(pte & PTE_PS))
		return false;
	if (k->mode == PAGING_32)
		return k->c->cr4 & CR4_PSE;
	return level <= 2; /* 2 MiB, and 1 GiB, which every CPU model here has */
}

/* Follows the tables. 0, or the P/RSVD part of the error code + 1. */
static int walk_tables(struct walk *k)
{
	unsigned bits = k->mode == PAGING_32 ? 10 : 9;
	unsigned level;
	gpa_t table;
	int r = walk_root(k, &table, &level);

	if (r)
		return r;
	k->esize = k->mode == PAGING_32 ? 4 : 8;
	k->w = k->u = true;
	for (;; level--) {
		unsigned shift = 12 + bits * level;
		gpa_t at = table + ((k->a >> shift) & (BIT(bits) - 1)) * k->esize;
		u64 pte = k->c->ops->phys_read(k->c, at, k->esize);
		bool leaf;

		if (!(pte & PTE_P))
			return 1;
		leaf = maps_page(k, level, pte);
		if (pte & reserved_bits(k, level, leaf && level ? shift : 0, pte))
			return 1 + (PFEC_P | PFEC_RSVD);
		k->step[k->n++] = (struct step){ at, pte };
		k->w &= (pte & PTE_W) != 0;
		k->u &= (pte & PTE_U) != 0;
		if (k->mode != PAGING_32)
			k->nx |= (pte & PTE_NX) != 0;
		if (!leaf) {
			table = pte & (k->mode == PAGING_32 ? 0xfffff000ull : PTE_ADDR);
			continue;
		}
		k->page_size = BIT(shift);
		if (k->mode != PAGING_32)
			k->frame = pte & PTE_ADDR & ~(k->page_size - 1);
		else if (level)
			k->frame = (pte & 0xffc00000ull) | ((pte >> 13) & 0xff) << 32;
		else
			k->frame = pte & 0xfffff000ull;
		return 0;
	}
}

/* Access rights (SDM vol. 3, 4.6.1). */
static bool permitted(const struct walk *k, enum x86_access access, bool user, bool implicit)
{
	const struct x86_cpu *c = k->c;

	if (access == X86_EXEC) {
		if (k->nx)
			return false;
		return user ? k->u : !(k->u && (c->cr4 & CR4_SMEP));
	}
	if (user)
		return k->u && (access == X86_READ || k->w);
	if (k->u && (c->cr4 & CR4_SMAP) && (implicit || !(c->rflags & X86_AC)))
		return false;
	return access == X86_READ || k->w || !(c->cr0 & CR0_WP);
}

static void set_accessed(struct walk *k, bool write)
{
	for (unsigned i = 0; i < k->n; i++) {
		u64 want = PTE_A;

		if (i == k->n - 1 && write)
			want |= PTE_D;
		want &= ~k->step[i].pte;
		if (!want)
			continue;
		k->c->ops->phys_or(k->c, k->step[i].at, k->esize, want);
		k->step[i].pte |= want;
	}
}

int x86_walk(struct x86_cpu *c, gva_t a, enum x86_access access, bool user, bool implicit,
	     struct x86_walk *ret)
{
	struct walk k = { .c = c, .a = x86_lin(c, a), .mode = paging_mode(c) };
	u64 pte;
	int r;

	if (!(c->cr0 & CR0_PG)) {
		*ret = (struct x86_walk){ .gpa = k.a,
					  .page_size = 4096,
					  .writable = true,
					  .user = true,
					  .exec = true,
					  .dirty = true };
		return 0;
	}
	if (k.mode == PAGING_4LEVEL && !x86_canonical(a))
		return x86_fault_err(c, X86_GP, 0);
	/* FXSAVE and XSAVE from the kernel are explicit accesses, though they come this way. */
	if (c->lin_explicit)
		implicit = false;
	r = walk_tables(&k);
	if (r)
		return page_fault(c, k.a, (u32)r - 1, access, user);
	if (!permitted(&k, access, user, implicit))
		return page_fault(c, k.a, PFEC_P, access, user);
	set_accessed(&k, access == X86_WRITE);
	pte = k.step[k.n - 1].pte;
	*ret = (struct x86_walk){
		.gpa = k.frame | (k.a & (k.page_size - 1)),
		.page_size = k.page_size,
		.writable = (pte & PTE_D) && (k.w || (!user && !(c->cr0 & CR0_WP))),
		.user = k.u,
		.exec = !k.nx,
		.global = (pte & PTE_G) && (c->cr4 & CR4_PGE),
		.dirty = (pte & PTE_D) != 0,
	};
	return 0;
}
