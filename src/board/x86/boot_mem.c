/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_mem.c - where the initrd goes, and how much memory a boot needs
 *
 * How it works
 * The initrd goes as high as it can, below the kernel's limit and the end of RAM under the gap:
 * out of the way of everything that grows up from the kernel. If the part of RAM below the gap is
 * too small and the kernel can take an initrd above 4 GiB (XLF_CAN_BE_LOADED_ABOVE_4G), it goes to
 * the top of high RAM.
 *
 * The floor. While Linux boots, these are in memory at once: the kernel, the archive, and what
 * is unpacked from it (the archive is freed afterwards). Unpacked files sit in a tmpfs whose
 * default size is half of memory, hence the factor of two. struct page takes 1/64 of RAM, hence
 * 64/63. Each vCPU has its per-CPU area, stacks and idle task (CPU_COST). WORKING_ROOM is for
 * the kernel's own tables and for a small userspace.
 *
 *   floor = ceil( (kernel + max(archive + unpacked, 2 * unpacked) + cpus * CPU_COST) * 64 / 63 )
 *           + WORKING_ROOM, rounded up to 1 MiB
 */
#include "board/x86/boot_priv.h"

#include "board/x86/layout.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <stddef.h>

#define MIB (1ull << 20)
#define CPU_COST (3 * MIB)
#define WORKING_ROOM (64 * MIB)
#define UNPACK_GUESS 4u

/* a + b, or the largest number. */
static u64 sat_add(u64 a, u64 b)
{
	return a + b < a ? UINT64_MAX : a + b;
}

u64 x86_mem_floor(const struct x86_mem_need *n)
{
	/* Sizes beyond any real one saturate instead of wrapping. */
	u64 cap = X86_MEM_MAX / 8;
	u64 initrd = MIN(n->initrd, cap), unpacked = MIN(n->initrd_unpacked, cap), sum;

	if (!unpacked)
		unpacked = UNPACK_GUESS * initrd;
	sum = MIN(n->kernel, cap) + MAX(initrd + unpacked, 2 * unpacked) + n->cpus * CPU_COST;
	return ALIGN_UP((sum * 64 + 62) / 63 + WORKING_ROOM, MIB);
}

static bool can_be_high(const struct kernel_image *k)
{
	size_t at = offsetof(struct setup_header, xloadflags);
	u16 flags;

	if (k->entry_kind != KERNEL_ENTRY_LINUX64 || k->setup_len < at + sizeof(flags))
		return false;
	flags = (u16)(k->setup[at] | k->setup[at + 1] << 8);
	return flags & XLF_CAN_BE_LOADED_ABOVE_4G;
}

static int does_not_fit(const struct x86_boot_in *in, u64 low, u64 limit, struct err *e)
{
	struct x86_mem_need need = { in->kernel->mem_top, in->initrd_size, 0, 1 };
	u64 ram = 0;

	for (unsigned i = 0; i < in->nregions; i++)
		ram += in->regions[i].size;
	return err_set(
		e, -ENOMEM,
		"the initrd does not fit into memory: the kernel occupies %llu MiB to %llu MiB "
		"(init_size %llu KiB), the initrd has %llu KiB, and must end below %llu MiB; the "
		"VM has %llu MiB of RAM, %llu MiB of it below the gap; --mem %lluM would do",
		(unsigned long long)in->kernel->mem_low >> 20,
		(unsigned long long)(in->kernel->mem_top + MIB - 1) >> 20,
		(unsigned long long)(in->kernel->init_size + 1023) >> 10,
		(unsigned long long)(in->initrd_size + 1023) >> 10,
		(unsigned long long)(limit >> 20), (unsigned long long)(ram >> 20),
		(unsigned long long)(low >> 20), (unsigned long long)(x86_mem_floor(&need) >> 20));
}

int boot_place_initrd(const struct x86_boot_in *in, struct err *e, gpa_t *ret)
{
	u64 low = x86_low_ram_end(in->regions, in->nregions), limit = low;
	u64 bottom = ALIGN_UP(MAX(in->kernel->mem_top, (u64)X86_HIMEM_BASE), GUEST_PAGE_SIZE);
	const struct mem_region *last = &in->regions[in->nregions - 1];

	if (!in->initrd || !in->initrd_size) {
		*ret = 0;
		return 0;
	}
	if (in->kernel->initrd_addr_max)
		limit = MIN(limit, sat_add(in->kernel->initrd_addr_max, 1));
	if (limit >= in->initrd_size) {
		gpa_t at = ALIGN_DOWN(limit - in->initrd_size, GUEST_PAGE_SIZE);

		if (at >= bottom) {
			*ret = at;
			return 0;
		}
	}
	if (last->base >= X86_GAP_END && can_be_high(in->kernel)) {
		u64 end = last->base + last->size;

		if (end - X86_GAP_END >= in->initrd_size) {
			*ret = ALIGN_DOWN(end - in->initrd_size, GUEST_PAGE_SIZE);
			return 0;
		}
	}
	return does_not_fit(in, low, limit, e);
}
