/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem.c - guest RAM: regions, NUMA layout, and the one door from a guest address to host memory
 *
 * How it works
 * Each region is one private anonymous mapping without reservation: a guest may be given more RAM
 * than the host has, and a page costs nothing until it is touched. The host address of a region is
 * congruent to its guest address modulo 2 MiB, so that the host can back it with huge pages. That
 * is asked for only while all of the guest's RAM would fit comfortably: a huge page for each
 * sparse touch of a 64 GiB guest would otherwise turn "untouched" into "touched".
 *
 * Regions are looked up by bisection and nothing is remembered between look-ups, so readers on
 * several threads share no mutable state.
 *
 * The digest asks /proc/self/pagemap which pages exist (present or swapped). Where that file
 * cannot be read it reads everything, which is slow but gives the same answer, because a page of
 * zeros and a page that does not exist hash alike. It is opened with the memory, because a process
 * that runs a guest opens no files (vm/sandbox). The descriptor tells of the process that opened it,
 * so a child needs one of its own.
 */
#include "mem/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#define HUGE_SIZE (2ull << 20)
#define PAGEMAP_PRESENT BIT(63) /* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_SWAPPED BIT(62)
#define PAGEMAP_BATCH 4096

struct mem {
	bool keep; /* mem_keep */
	unsigned n;
	struct mem_region r[MEM_REGIONS_MAX];
	u8 *host[MEM_REGIONS_MAX]; /* owned mappings, NULL until made */
	u64 size;
	int pagemap; /* -1: none */
	pid_t owner; /* the process that @pagemap tells of */
	void (*written)(void *opaque, gpa_t gpa, size_t len);
	void *written_opaque;
};

static int check_regions(const struct mem_region *r, unsigned n, struct err *e, u64 *ret_size)
{
	u64 size = 0;

	if (!n || n > MEM_REGIONS_MAX)
		return err_set(e, -EINVAL, "guest memory has %u regions, 1 to %u are possible", n,
			       MEM_REGIONS_MAX);
	for (unsigned i = 0; i < n; i++) {
		u64 end = r[i].base + r[i].size;

		if (!r[i].size || ((r[i].base | r[i].size) & (GUEST_PAGE_SIZE - 1)) ||
		    end < r[i].base || r[i].size > SIZE_MAX - HUGE_SIZE)
			return err_set(e, -EINVAL,
				       "guest memory region %u (0x%" PRIx64 ", size 0x%" PRIx64
				       ") is empty, not page aligned or too large",
				       i, r[i].base, r[i].size);
		if (i && r[i].base < r[i - 1].base + r[i - 1].size)
			return err_set(e, -EINVAL, "guest memory region %u overlaps the one before",
				       i);
		size += r[i].window ? 0 : r[i].size;
	}
	*ret_size = size;
	return 0;
}

/*
 * An own descriptor of this process's pagemap, or -1. It is opened once for the process: a VM that
 * is reset needs one when the process may not open files any more. pagemap counts in host pages; on
 * a host with larger ones everything is read.
 */
static int open_pagemap(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static int first = -1;
	static pid_t owner; /* of @first: a child has pages of its own */
	int fd;

	if (sysconf(_SC_PAGESIZE) != (long)GUEST_PAGE_SIZE)
		return -1;
	pthread_mutex_lock(&lock);
	if (first >= 0 && owner != getpid()) {
		close(first);
		first = -1;
	}
	if (first < 0)
		first = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	owner = getpid();
	fd = first < 0 ? -1 : fcntl(first, F_DUPFD_CLOEXEC, 0);
	pthread_mutex_unlock(&lock);
	return fd;
}

/* Maps @r at a host address congruent to its guest address modulo the huge-page size. */
static int map_region(const struct mem_region *r, bool huge, u8 **ret_host)
{
	size_t len = r->size, span = len + HUGE_SIZE;
	u8 *raw, *p;

	raw = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		   -1, 0);
	if (raw == MAP_FAILED)
		return -errno;
	p = raw + ((r->base - (uintptr_t)raw) & (HUGE_SIZE - 1));
	if (p != raw)
		munmap(raw, (size_t)(p - raw));
	if (p + len != raw + span)
		munmap(p + len, (size_t)(raw + span - (p + len)));
	/* Only advice: a host without huge pages is merely slower. */
	madvise(p, len, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	*ret_host = p;
	return 0;
}

static bool fits_in_huge_pages(u64 size)
{
	long pages = sysconf(_SC_PHYS_PAGES), psize = sysconf(_SC_PAGESIZE);

	return pages > 0 && psize > 0 && size <= (u64)pages * (u64)psize / 4;
}

int mem_new(const struct mem_region *regions, unsigned n, struct err *e, struct mem **ret_mem)
{
	struct mem *m;
	u64 size = 0;
	int r = check_regions(regions, n, e, &size);

	if (r < 0)
		return r;
	m = calloc(1, sizeof(*m));
	if (!m)
		return err_set(e, -ENOMEM, "out of memory");
	m->n = n;
	m->size = size;
	m->pagemap = open_pagemap();
	m->owner = getpid();
	memcpy(m->r, regions, n * sizeof(*regions));
	for (unsigned i = 0; i < n; i++) {
		r = map_region(&m->r[i], fits_in_huge_pages(size), &m->host[i]);
		if (r < 0) {
			err_sys(e, r,
				"cannot reserve %" PRIu64 " MiB of guest memory (is "
				"vm.overcommit_memory 2, or an address-space limit set?)",
				m->r[i].size >> 20);
			mem_free(m);
			return r;
		}
	}
	*ret_mem = m;
	return 0;
}

void mem_free(struct mem *m)
{
	if (!m)
		return;
	for (unsigned i = 0; i < m->n; i++)
		if (m->host[i])
			munmap(m->host[i], m->r[i].size);
	if (m->pagemap >= 0)
		close(m->pagemap);
	free(m);
}

unsigned mem_region_count(const struct mem *m)
{
	return m->n;
}

const struct mem_region *mem_region_get(const struct mem *m, unsigned i)
{
	BUG_IF(i >= m->n);
	return &m->r[i];
}

u64 mem_size(const struct mem *m)
{
	return m->size;
}

/* The region that holds @gpa, or n. */
static unsigned find(const struct mem *m, gpa_t gpa)
{
	unsigned lo = 0, hi = m->n;

	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;
		if (gpa - m->r[mid].base < m->r[mid].size)
			return mid;
		if (gpa < m->r[mid].base)
			hi = mid;
		else
			lo = mid + 1;
	}
	return m->n;
}

/* A range is RAM if contiguous regions cover it; nodes of a NUMA guest often touch. */
static int check_range(const struct mem *m, gpa_t gpa, size_t len)
{
	while (len) {
		unsigned i = find(m, gpa);
		u64 room;

		if (i == m->n)
			return -EFAULT;
		room = m->r[i].size - (gpa - m->r[i].base);
		if (len <= room)
			return 0;
		gpa += room;
		len -= room;
	}
	return 0;
}

/* The part of [@gpa, @gpa+@len) in the region of @gpa, which check_range has vouched for. */
static u8 *chunk(struct mem *m, gpa_t gpa, size_t len, size_t *ret_n)
{
	unsigned i = find(m, gpa);
	u64 off = gpa - m->r[i].base;

	*ret_n = MIN((u64)len, m->r[i].size - off);
	return m->host[i] + off;
}

int mem_read(struct mem *m, gpa_t gpa, void *dst, size_t len)
{
	u8 *d = dst;
	size_t n;

	if (check_range(m, gpa, len) < 0)
		return -EFAULT;
	for (; len; gpa += n, d += n, len -= n) {
		const u8 *p = chunk(m, gpa, len, &n);
		memcpy(d, p, n);
	}
	return 0;
}

int mem_write(struct mem *m, gpa_t gpa, const void *src, size_t len)
{
	const u8 *s = src;
	gpa_t at = gpa;
	size_t n, left;

	if (check_range(m, gpa, len) < 0)
		return -EFAULT;
	for (left = len; left; at += n, s += n, left -= n) {
		u8 *p = chunk(m, at, left, &n);
		memcpy(p, s, n);
	}
	if (len && m->written)
		m->written(m->written_opaque, gpa, len);
	return 0;
}

int mem_fill(struct mem *m, gpa_t gpa, u8 byte, size_t len)
{
	gpa_t at = gpa;
	size_t n, left;

	if (check_range(m, gpa, len) < 0)
		return -EFAULT;
	for (left = len; left; at += n, left -= n) {
		u8 *p = chunk(m, at, left, &n);
		memset(p, byte, n);
	}
	if (len && m->written)
		m->written(m->written_opaque, gpa, len);
	return 0;
}

static bool is_ram(const struct mem *m, gpa_t gpa, u64 len)
{
	while (len) {
		unsigned i = find(m, gpa);
		u64 room;

		if (i == m->n || m->r[i].window)
			return false;
		room = m->r[i].size - (gpa - m->r[i].base);
		if (len <= room)
			return true;
		gpa += room;
		len -= room;
	}
	return true;
}

int mem_release(struct mem *m, gpa_t gpa, u64 len)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n;
	gpa_t at = ALIGN_UP(gpa, GUEST_PAGE_SIZE), end = (gpa + len) & ~(GUEST_PAGE_SIZE - 1);

	if (gpa + len < gpa || !is_ram(m, gpa, len))
		return -EFAULT;
	if (at < gpa || at >= end)
		return 0;
	if (m->written)
		m->written(m->written_opaque, at, end - at);
	for (u64 left = end - at; left; at += n, left -= n) {
		u8 *p = chunk(m, at, left, &n);

		/*
		 * The host drops private anonymous memory for zeros. What it cannot drop (its own
		 * pages are larger, or it has locked them) is cleared: the guest sees no difference.
		 */
		if (m->keep || (((uintptr_t)p | n) & (page - 1)) ||
		    madvise(p, n, MADV_DONTNEED) < 0)
			memset(p, 0, n);
	}
	return 0;
}

void mem_keep(struct mem *m)
{
	m->keep = true;
}

void *mem_ptr(struct mem *m, gpa_t gpa, size_t len)
{
	unsigned i = find(m, gpa);

	if (i == m->n || len > m->r[i].size - (gpa - m->r[i].base))
		return NULL;
	return m->host[i] + (gpa - m->r[i].base);
}

void *mem_span(struct mem *m, gpa_t gpa, size_t len, size_t *ret_len)
{
	if (find(m, gpa) == m->n)
		return NULL;
	return chunk(m, gpa, len, ret_len);
}

void mem_wrote(struct mem *m, gpa_t gpa, size_t len)
{
	if (len && m->written)
		m->written(m->written_opaque, gpa, len);
}

void mem_set_observer(struct mem *m, void (*written)(void *opaque, gpa_t gpa, size_t len),
		      void *opaque)
{
	m->written = written;
	m->written_opaque = opaque;
}

static bool page_is_zero(const u8 *p)
{
	u64 w[8];

	for (unsigned i = 0; i < GUEST_PAGE_SIZE; i += sizeof(w)) {
		memcpy(w, p + i, sizeof(w));
		if (w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7])
			return false;
	}
	return true;
}

static void digest_page(XXH3_state_t *h, gpa_t gpa, const u8 *p)
{
	u8 addr[8];

	if (page_is_zero(p))
		return;
	for (unsigned i = 0; i < 8; i++)
		addr[i] = (u8)(gpa >> (8 * i));
	XXH3_128bits_update(h, addr, sizeof(addr));
	XXH3_128bits_update(h, p, GUEST_PAGE_SIZE);
}

/* Digests region @i. @fd: pagemap, or -1. */
static void digest_region(struct mem *m, unsigned i, int fd, XXH3_state_t *h)
{
	u64 map[PAGEMAP_BATCH], pages = m->r[i].size / GUEST_PAGE_SIZE;

	for (u64 first = 0; first < pages; first += PAGEMAP_BATCH) {
		u64 n = MIN(pages - first, (u64)PAGEMAP_BATCH);
		u64 vpn = ((uintptr_t)m->host[i] / GUEST_PAGE_SIZE) + first;
		ssize_t got = -1;

		if (fd >= 0)
			got = pread(fd, map, n * sizeof(map[0]), (off_t)(vpn * sizeof(map[0])));
		for (u64 k = 0; k < n; k++) {
			u64 off = (first + k) * GUEST_PAGE_SIZE;
			/* What pagemap does not tell is read. */
			if (got >= (ssize_t)((k + 1) * sizeof(map[0])) &&
			    !(map[k] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)))
				continue;
			digest_page(h, m->r[i].base + off, m->host[i] + off);
		}
	}
}

int mem_digest(struct mem *m, struct err *e, struct mem_digest *ret)
{
	XXH3_state_t *h = XXH3_createState();
	XXH128_hash_t d;

	if (!h)
		return err_set(e, -ENOMEM, "out of memory");
	XXH3_128bits_reset(h);
	if (m->owner != getpid()) {
		if (m->pagemap >= 0)
			close(m->pagemap);
		m->pagemap = open_pagemap();
		m->owner = getpid();
	}
	for (unsigned i = 0; i < m->n; i++)
		if (!m->r[i].window)
			digest_region(m, i, m->pagemap, h);
	d = XXH3_128bits_digest(h);
	XXH3_freeState(h);
	*ret = (struct mem_digest){ .lo = d.low64, .hi = d.high64 };
	return 0;
}
