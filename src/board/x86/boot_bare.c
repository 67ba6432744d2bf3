/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_bare.c - what bare-metal images find in memory: PVH and Multiboot 1 information
 *
 * PVH: Xen's "x86/HVM direct boot ABI", start info version 1 with a memory map. Multiboot:
 * "Multiboot Specification 0.6.96", section 3.3. Both structures and what they point to are
 * written as one block at X86_BOOTINFO_BASE; the initrd, if any, is the only module. Types in both
 * memory maps are those of E820.
 */
#include "board/x86/boot_priv.h"

#include "board/x86/layout.h"

#include <errno.h>
#include <string.h>

#define PVH_MAGIC 0x336ec578u
#define PVH_VERSION 1u

struct pvh_module {
	u64 paddr, size, cmdline_paddr, reserved;
};

struct pvh_mem {
	u64 addr, size;
	u32 type, reserved;
};

struct pvh_block {
	struct {
		u32 magic, version, flags, nr_modules;
		u64 modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
		u32 memmap_entries, reserved;
	} info;
	struct pvh_module mod;
	struct pvh_mem map[X86_E820_MAX];
};

_Static_assert(offsetof(struct pvh_block, mod) == 56, "hvm_start_info has 56 bytes");

int boot_pvh_info(const struct x86_boot_in *in, struct mem *m, struct x86_boot *b)
{
	struct pvh_block p = { .info = { .magic = PVH_MAGIC, .version = PVH_VERSION } };
	struct x86_e820 map[X86_E820_MAX];
	unsigned n = x86_e820_map(in->regions, in->nregions, map);
	int rc;

	p.info.cmdline_paddr = b->cmdline;
	p.info.rsdp_paddr = X86_ACPI_BASE;
	p.info.memmap_paddr = X86_BOOTINFO_BASE + offsetof(struct pvh_block, map);
	p.info.memmap_entries = n;
	if (b->initrd) {
		p.info.nr_modules = 1;
		p.info.modlist_paddr = X86_BOOTINFO_BASE + offsetof(struct pvh_block, mod);
		p.mod.paddr = b->initrd;
		p.mod.size = in->initrd_size;
	}
	for (unsigned i = 0; i < n; i++)
		p.map[i] = (struct pvh_mem){ map[i].base, map[i].size, map[i].type, 0 };
	rc = mem_write(m, X86_BOOTINFO_BASE, &p, sizeof(p));
	if (rc < 0)
		return rc;
	b->info = X86_BOOTINFO_BASE;
	return 0;
}

enum {
	MBI_MEMORY = 1,
	MBI_CMDLINE = 4,
	MBI_MODS = 8,
	MBI_MMAP = 0x40,
	MBI_LOADER = 0x200,
};

struct mb_mmap {
	u32 size; /* of what follows */
	u64 addr, len;
	u32 type;
} attr_packed;

struct mb_block {
	struct {
		u32 flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr,
			syms[4], mmap_length, mmap_addr, drives_length, drives_addr, config_table,
			boot_loader_name, apm_table, vbe[4];
		u64 framebuffer_addr;
		u32 framebuffer[4];
	} attr_packed info;
	struct {
		u32 start, end, string, reserved;
	} mod;
	struct mb_mmap map[X86_E820_MAX];
	char loader[8];
} attr_packed;

_Static_assert(offsetof(struct mb_block, info.mmap_length) == 44, "Multiboot 3.3");
_Static_assert(offsetof(struct mb_block, info.framebuffer_addr) == 88, "Multiboot 3.3");

int boot_multiboot_info(const struct x86_boot_in *in, struct mem *m, struct x86_boot *b)
{
	struct mb_block p = { .loader = "orrery" };
	struct x86_e820 map[X86_E820_MAX];
	unsigned n = x86_e820_map(in->regions, in->nregions, map);
	int rc;

	p.info.flags = MBI_MEMORY | MBI_CMDLINE | MBI_MMAP | MBI_LOADER;
	p.info.mem_lower = X86_LOWMEM_END >> 10;
	p.info.mem_upper =
		(u32)((x86_low_ram_end(in->regions, in->nregions) - X86_HIMEM_BASE) >> 10);
	p.info.cmdline = (u32)b->cmdline;
	if (b->initrd) {
		p.info.flags |= MBI_MODS;
		p.info.mods_count = 1;
		p.info.mods_addr = X86_BOOTINFO_BASE + offsetof(struct mb_block, mod);
		p.mod.start = (u32)b->initrd;
		p.mod.end = (u32)(b->initrd + in->initrd_size);
		p.mod.string = (u32)b->cmdline;
	}
	p.info.mmap_length = (u32)(n * sizeof(p.map[0]));
	p.info.mmap_addr = X86_BOOTINFO_BASE + offsetof(struct mb_block, map);
	for (unsigned i = 0; i < n; i++)
		p.map[i] = (struct mb_mmap){ sizeof(p.map[0]) - sizeof(p.map[0].size), map[i].base,
					     map[i].size, map[i].type };
	p.info.boot_loader_name = X86_BOOTINFO_BASE + offsetof(struct mb_block, loader);
	rc = mem_write(m, X86_BOOTINFO_BASE, &p, sizeof(p));
	if (rc < 0)
		return rc;
	b->info = X86_BOOTINFO_BASE;
	return 0;
}
