/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem.h - guest RAM: regions, NUMA layout, and the one door from a guest address to host memory
 *
 * Only this directory turns a guest-physical address into a pointer. Every access has a length
 * and a status. RAM is anonymous memory that costs nothing until it is touched.
 */
#ifndef ORR_MEM_MEM_H
#define ORR_MEM_MEM_H

#include "base/compiler.h"
#include "base/err.h"

#define GUEST_PAGE_SHIFT 12
#define GUEST_PAGE_SIZE 4096ull
#define MEM_REGIONS_MAX 64

struct mem; /* all RAM of a VM */

struct mem_region {
	gpa_t base; /* page aligned */
	u64 size;   /* bytes, a multiple of the page size, > 0 */
	u32 node;   /* NUMA node */
	/*
	 * Not RAM but room for shared memory of devices (virtio 1.2, 2.10), behind all RAM. Zeros,
	 * until a device maps a file over the host address that mem_ptr gives it (MAP_FIXED, then
	 * mem_wrote). Not part of the digest.
	 */
	bool window;
};

/*
 * Maps zeroed RAM for @n regions (ascending, disjoint). Returns 0 and *ret_mem (owned by the
 * caller), or -EINVAL, -ENOMEM with a message.
 */
int mem_new(const struct mem_region *regions, unsigned n, struct err *e, struct mem **ret_mem);
void mem_free(struct mem *m);

unsigned mem_region_count(const struct mem *m);
const struct mem_region *mem_region_get(const struct mem *m, unsigned i);
u64 mem_size(const struct mem *m); /* bytes of RAM in all regions, without windows */

/* 0, or -EFAULT if any byte of [@gpa, @gpa+@len) is not RAM; nothing is copied then. */
int mem_read(struct mem *m, gpa_t gpa, void *dst, size_t len) attr_nodiscard;
int mem_write(struct mem *m, gpa_t gpa, const void *src, size_t len) attr_nodiscard;
int mem_fill(struct mem *m, gpa_t gpa, u8 byte, size_t len) attr_nodiscard;

/*
 * The host address of [@gpa, @gpa+@len), or NULL if the range is not wholly inside one region.
 * Valid until mem_free. For engines (page-sized TLB fills) and for loaders; devices use
 * mem_read/mem_write or iovecs built by virtio.
 */
void *mem_ptr(struct mem *m, gpa_t gpa, size_t len);

/*
 * The host address of @gpa, and in *ret_len how many of the @len bytes from there on are contiguous
 * on the host (as many as the region of @gpa has); NULL if @gpa is not RAM. For buffers that cross
 * from one region to the next.
 */
void *mem_span(struct mem *m, gpa_t gpa, size_t len, size_t *ret_len);

/*
 * Writers other than the CPU (devices, loaders) go through mem_write, which tells the observer of
 * each page written, so that an engine can drop code it has decoded from it. At most one observer.
 */
void mem_set_observer(struct mem *m, void (*written)(void *opaque, gpa_t gpa, size_t len),
		      void *opaque);
/* Tells the observer of bytes that were written through mem_ptr or mem_span. On the VM's thread. */
void mem_wrote(struct mem *m, gpa_t gpa, size_t len);

/*
 * Gives the host back what is behind the whole pages of [@gpa, @gpa+@len), which read as zeros from
 * now on (the observer is told) and cost nothing until they are written. Their host address stays.
 * 0, or -EFAULT if any byte of the range is not RAM or is in a window; nothing is released then.
 */
int mem_release(struct mem *m, gpa_t gpa, u64 len) attr_nodiscard;
/* From now on mem_release clears, and gives nothing back. For RAM that is present to stay (mem_back.h). */
void mem_keep(struct mem *m);

/*
 * A digest of RAM contents: XXH3-128 over (address, page) of every page that is not all zero, in
 * address order. Pages never touched are not read.
 */
struct mem_digest {
	u64 lo, hi;
};
int mem_digest(struct mem *m, struct err *e, struct mem_digest *ret);

#endif
