/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_linux.c - what the 64-bit entry of Linux expects in memory
 *
 * The Linux/x86 boot protocol, "64-bit boot protocol": boot_params is zeroed, the setup header is
 * copied into it from the image and completed, the E820 map added. The page tables map the low
 * 4 GiB to themselves in 2 MiB pages (1 GiB pages would do with one table page less, but not every
 * CPU model has to have them); all that the kernel touches before it builds its own lies there.
 */
#include "board/x86/boot_priv.h"

#include "board/x86/layout.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOADER_UNDEFINED 0xffu /* type_of_loader: none with an assigned id */
#define VID_NORMAL 0xffffu
#define SETUP_MAGIC 0x53726448u /* "HdrS" */
#define BOOT_MAGIC 0xaa55u

#define PTE_P 0x1ull
#define PTE_W 0x2ull
#define PTE_PS 0x80ull

_Static_assert(offsetof(struct boot_params, hdr) == KERNEL_SETUP_OFF, "the header's place is ABI");
_Static_assert(sizeof(struct boot_params) == 4096, "boot_params is one page");
_Static_assert(X86_BOOTINFO_BASE + sizeof(struct boot_params) <= X86_ZEROPAGE_BASE, "no overlap");

static int write_page_tables(struct mem *m)
{
	enum { PAGES = 6, DIRS = 4 };
	u64 *t = calloc(PAGES, 4096);
	int rc;

	if (!t)
		return -ENOMEM;
	t[0] = (X86_PAGETABLE_BASE + 0x1000) | PTE_P | PTE_W;
	for (u64 i = 0; i < DIRS; i++)
		t[512 + i] = (X86_PAGETABLE_BASE + (2 + i) * 0x1000) | PTE_P | PTE_W;
	for (u64 i = 0; i < DIRS * 512ull; i++)
		t[1024 + i] = i << 21 | PTE_P | PTE_W | PTE_PS;
	rc = mem_write(m, X86_PAGETABLE_BASE, t, PAGES * 4096);
	free(t);
	return rc;
}

static void fill_header(struct setup_header *h, const struct x86_boot_in *in,
			const struct x86_boot *b, struct boot_params *bp)
{
	/* An ELF vmlinux has no header of its own; the kernel still looks at these. */
	h->boot_flag = BOOT_MAGIC;
	h->header = SETUP_MAGIC;
	h->type_of_loader = LOADER_UNDEFINED;
	h->loadflags |= LOADED_HIGH;
	/* KASLR_FLAG is the decompressor's to set, and CAN_USE_HEAP the 16-bit code's. */
	h->loadflags &= (u8) ~(KASLR_FLAG | CAN_USE_HEAP);
	h->vid_mode = VID_NORMAL;
	h->cmd_line_ptr = (u32)b->cmdline;
	h->ramdisk_image = (u32)b->initrd;
	h->ramdisk_size = (u32)(b->initrd ? in->initrd_size : 0);
	bp->ext_ramdisk_image = (u32)(b->initrd >> 32);
	bp->ext_ramdisk_size = (u32)((b->initrd ? in->initrd_size : 0) >> 32);
	h->setup_data = 0;
}

int boot_linux_info(const struct x86_boot_in *in, struct mem *m, struct x86_boot *b)
{
	struct boot_params *bp = calloc(1, sizeof(*bp));
	struct x86_e820 map[X86_E820_MAX];
	unsigned n = x86_e820_map(in->regions, in->nregions, map);
	size_t len = MIN((size_t)in->kernel->setup_len, sizeof(bp->hdr));
	int rc;

	if (!bp)
		return -ENOMEM;
	memcpy(&bp->hdr, in->kernel->setup, len);
	fill_header(&bp->hdr, in, b, bp);
	bp->acpi_rsdp_addr = X86_ACPI_BASE;
	for (unsigned i = 0; i < n; i++)
		bp->e820_table[i] = (struct boot_e820_entry){ .addr = map[i].base,
							      .size = map[i].size,
							      .type = map[i].type };
	bp->e820_entries = (u8)n;
	rc = mem_write(m, X86_ZEROPAGE_BASE, bp, sizeof(*bp));
	free(bp);
	if (rc == 0)
		rc = write_page_tables(m);
	if (rc < 0)
		return rc;
	b->info = X86_ZEROPAGE_BASE;
	return 0;
}
