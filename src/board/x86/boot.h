/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot.h - put a kernel, its initrd and its command line into RAM, and the CPU at its entry
 */
#ifndef ORR_BOARD_X86_BOOT_H
#define ORR_BOARD_X86_BOOT_H

#include "base/err.h"
#include "board/topology.h"
#include "image/kernel.h"
#include "isa/x86/state.h"
#include "mem/mem.h"

struct x86_boot_in {
	const struct kernel_image *kernel; /* borrowed, as all here */
	const void *initrd;		   /* NULL: none. Multiboot and PVH get it as a module. */
	u64 initrd_size;
	const char *cmdline; /* the whole of it */
	const struct mem_region *regions;
	unsigned nregions;
};

/* How the boot processor starts. */
struct x86_boot {
	enum kernel_entry kind;
	gpa_t entry;
	gpa_t info;   /* boot_params, hvm_start_info or Multiboot info */
	gpa_t initrd; /* where the initrd went, or 0 */
	gpa_t cmdline;
};

/*
 * Writes kernel, initrd, command line and the entry protocol's structures into @m (the RAM of
 * @in->regions). The tables are x86_tables_write's. 0, or with a message: -E2BIG command line too
 * long, -ENOMEM kernel or initrd does not fit (the message itemises the sizes), -EINVAL.
 */
int x86_boot_load(const struct x86_boot_in *in, struct mem *m, struct err *e, struct x86_boot *ret);

/*
 * Puts @c, after x86_reset, into the state in which vCPU 0 enters the kernel, or (@b NULL) in
 * which the other vCPUs wait for a start-up IPI. The engine must be told (soft_cpu_changed).
 */
void x86_boot_cpu(struct x86_cpu *c, const struct x86_boot *b);

/* What memory a boot needs; all in bytes. */
struct x86_mem_need {
	u64 kernel;	     /* where the kernel's memory ends (kernel_image.mem_top) */
	u64 initrd;	     /* as loaded */
	u64 initrd_unpacked; /* contents; 0 if unknown: four times the initrd */
	u32 cpus;
};

/*
 * The least RAM with which a Linux guest boots and has some room to work, rounded up to 1 MiB.
 * The formula is in boot_mem.c.
 */
u64 x86_mem_floor(const struct x86_mem_need *n);

/*
 * Orrery's own part of the kernel command line (the rationale of each flag is in boot_cmdline.c);
 * the user's --append follows it. @verbose shows the boot on the console. Static storage.
 */
const char *x86_default_cmdline(bool verbose);

#endif
