/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memmap.c - guest RAM of the x86 board: regions by NUMA node, and the E820 map of them
 *
 * RAM is laid down node after node from address 0. What would fall into the gap continues at
 * 4 GiB, so that no byte of the configured size is lost to it; 384 KiB below 1 MiB are lost to
 * the video and firmware area, as on a PC.
 */
#include "board/x86/memmap.h"

#include "board/x86/layout.h"

#include <errno.h>

_Static_assert(TOPO_NODES_MAX + 2 <= MEM_REGIONS_MAX,
	       "every node, the split at the gap, and a window of the devices fit");

int x86_mem_layout(const struct topo *t, u64 mem, struct err *e,
		   struct mem_region ret[MEM_REGIONS_MAX], unsigned *ret_n)
{
	gpa_t at = 0;
	unsigned n = 0;

	if (mem < X86_MEM_MIN || mem > X86_MEM_MAX || mem % GUEST_PAGE_SIZE)
		return err_set(
			e, -EINVAL,
			"%llu bytes of memory: a VM has 16 MiB to 32 TiB in whole pages of 4 KiB",
			(unsigned long long)mem);
	if (t->nexplicit && topo_mem_sum(t) != mem)
		return err_set(e, -EINVAL, "the NUMA nodes' memory does not add up to the VM's");
	for (u32 node = 0; node < t->nodes; node++) {
		u64 left = topo_node_mem(t, node, mem);

		while (left) {
			u64 len = left;

			if (at == X86_GAP_BASE)
				at = X86_GAP_END;
			if (at < X86_GAP_BASE)
				len = MIN(left, X86_GAP_BASE - at);
			ret[n++] = (struct mem_region){ .base = at, .size = len, .node = node };
			at += len;
			left -= len;
		}
	}
	*ret_n = n;
	return 0;
}

gpa_t x86_low_ram_end(const struct mem_region *regions, unsigned n)
{
	gpa_t end = 0;

	for (unsigned i = 0; i < n && regions[i].base < X86_GAP_BASE; i++)
		end = regions[i].base + regions[i].size;
	return end;
}

unsigned x86_e820_map(const struct mem_region *regions, unsigned n,
		      struct x86_e820 ret[X86_E820_MAX])
{
	gpa_t low = x86_low_ram_end(regions, n);
	gpa_t high = n ? regions[n - 1].base + regions[n - 1].size : 0;
	const struct x86_e820 map[] = {
		{ 0, X86_LOWMEM_END, X86_E820_RAM },
		{ X86_LOWMEM_END, X86_VGA_BASE - X86_LOWMEM_END, X86_E820_RESERVED },
		/* Type 3: the tables are data, the guest may reuse the pages when done. */
		{ X86_ACPI_BASE, X86_ACPI_END - X86_ACPI_BASE, X86_E820_ACPI },
		{ X86_MPTABLE_BASE, X86_MPTABLE_END - X86_MPTABLE_BASE, X86_E820_RESERVED },
		{ X86_HIMEM_BASE, low - X86_HIMEM_BASE, X86_E820_RAM },
		{ X86_GAP_END, high > X86_GAP_END ? high - X86_GAP_END : 0, X86_E820_RAM },
	};
	unsigned k = 0;

	for (unsigned i = 0; i < ARRAY_LEN(map); i++)
		if (map[i].size)
			ret[k++] = map[i];
	return k;
}
