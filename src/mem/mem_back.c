// SPDX-License-Identifier: Apache-2.0
/*
 * mem_back.c - where guest RAM lies on the host: page size, NUMA node, presence
 *
 * How it works
 * mem_new has laid each region at a host address that is congruent to its guest address, so whole huge
 * pages of the guest are whole ones here. They are mapped anew from the pool in the same place; what is
 * left at the edges of a region stays small.
 *
 * mmap(2) reserves pages of the pool, but of any node: a page that is then demanded of a node that has
 * none kills the process (SIGBUS). So whoever asks for huge pages and nodes should ask for presence too:
 * then the want of a page is an error here, and everything goes back to what it was.
 */
#include "mem/mem_back.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HUGE (2ull << 20)
#define MAP_HUGE_2M                                                                                \
	(21 << 26) /* MAP_HUGE_2MB of linux/mman.h: log2 of the size at MAP_HUGE_SHIFT */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* The whole huge pages of a region. False: there are none. */
static bool huge_part(const struct mem_region *r, gpa_t *ret_at, u64 *ret_len)
{
	gpa_t at = ALIGN_UP(r->base, HUGE), end = ALIGN_DOWN(r->base + r->size, HUGE);

	if (r->window || at >= end)
		return false;
	*ret_at = at;
	*ret_len = end - at;
	return true;
}

u64 mem_back_huge_pages(const struct mem_region *r, unsigned n)
{
	u64 pages = 0, len;
	gpa_t at;

	for (unsigned i = 0; i < n; i++)
		if (huge_part(&r[i], &at, &len))
			pages += len / HUGE;
	return pages;
}

static int map_huge(struct mem *m, const struct mem_region *r)
{
	gpa_t at;
	u64 len;

	if (!huge_part(r, &at, &len))
		return 0;
	/* Without MAP_NORESERVE the pool must have them all now. */
	if (mmap(mem_ptr(m, at, len), len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB | MAP_HUGE_2M, -1,
		 0) == MAP_FAILED)
		return -errno;
	return 0;
}

/*
 * Whether the pool has @pages now. Learned by mapping them elsewhere: what is replaced is gone before the
 * pool is asked, and for that moment its addresses are anybody's.
 */
static int ask_pool(u64 pages)
{
	size_t len = pages * HUGE;
	void *p;

	if (!len)
		return 0;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2M, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	munmap(p, len);
	return 0;
}

/* Makes every region anew as mem_new does, whatever became of it; but huge pages are always wanted. */
static int back_to_small(struct mem *m)
{
	for (unsigned i = 0; i < mem_region_count(m); i++) {
		const struct mem_region *r = mem_region_get(m, i);
		void *p = mem_ptr(m, r->base, r->size);

		if (r->window)
			continue;
		if (mmap(p, r->size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
			 0) == MAP_FAILED)
			return -errno;
		madvise(p, r->size, MADV_HUGEPAGE);
	}
	return 0;
}

static int bind(struct mem *m, const struct mem_region *r, const struct mem_backing *b)
{
	u64 mask = r->node < b->n_nodes ? b->nodes[r->node] : 0;
	unsigned long bits[2] = { mask, 0 };
	int mode = b->strict ? MPOL_BIND : MPOL_PREFERRED;

	if (!mask || r->window)
		return 0;
	if (!b->strict) /* it takes one node only */
		bits[0] = mask & -mask;
	/* get_mempolicy(2), mbind(2): the last bit of the mask is not looked at. */
	if (syscall(SYS_mbind, mem_ptr(m, r->base, r->size), r->size, mode, bits, 65ul, 0u) == 0)
		return 0;
	return errno == ENOSYS ? 0 : -errno; /* a kernel without NUMA has one node */
}

/* Zeros that are read keep it zero: the guest's view does not change. */
static int make_present(struct mem *m, const struct mem_region *r)
{
	int e;

	if (r->window || madvise(mem_ptr(m, r->base, r->size), r->size, MADV_POPULATE_WRITE) == 0)
		return 0;
	e = errno;
	/* A host older than that touches pages one by one; they are there when the guest asks. */
	return e == EINVAL ? 0 : e == EFAULT ? -ENOMEM : -e;
}

int mem_back(struct mem *m, const struct mem_backing *b, struct err *e)
{
	unsigned n = mem_region_count(m), i;
	int r = b->huge ? ask_pool(mem_back_huge_pages(mem_region_get(m, 0), n)) : 0;

	for (i = 0; r == 0 && b->huge && i < n; i++)
		r = map_huge(m, mem_region_get(m, i));
	if (r < 0) {
		err_sys(e, r, "the host's pool of them is too small (sysctl vm.nr_hugepages)");
		goto fail;
	}
	for (i = 0; r == 0 && i < n; i++)
		r = bind(m, mem_region_get(m, i), b);
	if (r < 0) {
		err_sys(e, r, "guest memory cannot be bound to NUMA nodes");
		goto fail;
	}
	for (i = 0; r == 0 && b->present && i < n; i++)
		r = make_present(m, mem_region_get(m, i));
	if (r < 0) {
		err_sys(e, r,
			"the host has not enough memory for all of the guest's where it is "
			"wanted");
		goto fail;
	}
	if (b->huge || b->present)
		mem_keep(m);
	return 0;
fail:
	if (back_to_small(m) < 0)
		return err_set(e, -ENOTRECOVERABLE, "guest memory could not be mapped again");
	return r;
}
