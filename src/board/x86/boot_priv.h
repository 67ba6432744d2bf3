/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_priv.h - shared by the files that implement the entry protocols
 */
#ifndef ORR_BOARD_X86_BOOT_PRIV_H
#define ORR_BOARD_X86_BOOT_PRIV_H

#include "board/x86/boot.h"
#include "board/x86/memmap.h"

/* boot_linux.c: boot_params, GDT and page tables. */
int boot_linux_info(const struct x86_boot_in *in, struct mem *m, struct x86_boot *b);

/* boot_bare.c: PVH and Multiboot information. */
int boot_pvh_info(const struct x86_boot_in *in, struct mem *m, struct x86_boot *b);
int boot_multiboot_info(const struct x86_boot_in *in, struct mem *m, struct x86_boot *b);

/* boot_mem.c: the gpa of the initrd, or -ENOMEM with the itemised message. */
int boot_place_initrd(const struct x86_boot_in *in, struct err *e, gpa_t *ret);

#endif
