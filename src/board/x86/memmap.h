/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memmap.h - guest RAM of the x86 board: regions by NUMA node, and the E820 map of them
 */
#ifndef ORR_BOARD_X86_MEMMAP_H
#define ORR_BOARD_X86_MEMMAP_H

#include "board/topology.h"
#include "mem/mem.h"

#define X86_E820_RAM 1u
#define X86_E820_RESERVED 2u
#define X86_E820_ACPI 3u
#define X86_E820_MAX 16u
#define X86_MEM_MIN (16ull << 20)
#define X86_MEM_MAX (1ull << 45) /* below the 46 physical address bits, behind the gap */

struct x86_e820 {
	u64 base, size;
	u32 type;
};

/*
 * Splits @mem bytes of RAM (a multiple of 4 KiB) over the nodes of @t (validated): ascending from
 * 0, stepping over the gap at 3 GiB; the node across the gap gets two regions. 0 and the number
 * of regions in *ret_n, or -EINVAL with a message.
 */
int x86_mem_layout(const struct topo *t, u64 mem, struct err *e,
		   struct mem_region ret[MEM_REGIONS_MAX], unsigned *ret_n);

/* The E820 map of that RAM, whatever the nodes. Returns the number of entries. */
unsigned x86_e820_map(const struct mem_region *regions, unsigned n,
		      struct x86_e820 ret[X86_E820_MAX]);

/* End of the RAM below the gap. */
gpa_t x86_low_ram_end(const struct mem_region *regions, unsigned n);

#endif
