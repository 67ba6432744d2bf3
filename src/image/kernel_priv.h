/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_priv.h - what the kernel format readers share
 *
 * All of them fill a zeroed struct kernel_image and leave messages without the file's name, which
 * kernel_image_parse puts in front.
 */
#ifndef ORR_IMAGE_KERNEL_PRIV_H
#define ORR_IMAGE_KERNEL_PRIV_H

#include "image/kernel.h"

static inline u16 kernel_le16(const u8 *p)
{
	return (u16)(p[0] | p[1] << 8);
}

static inline u32 kernel_le32(const u8 *p)
{
	return kernel_le16(p) | (u32)kernel_le16(p + 2) << 16;
}

static inline u64 kernel_le64(const u8 *p)
{
	return kernel_le32(p) | (u64)kernel_le32(p + 4) << 32;
}

/* Adds a segment after checking its range. -ENOEXEC with a message if it cannot be loaded. */
int kernel_add_seg(struct kernel_image *k, gpa_t gpa, const u8 *data, u64 filesz, u64 memsz,
		   struct err *e);
/* Whether @gpa is a byte that some segment has in the file. */
bool kernel_in_segs(const struct kernel_image *k, gpa_t gpa);
/* Copies printable text up to a NUL, newline or @max bytes to k->version. */
void kernel_set_version(struct kernel_image *k, const u8 *p, size_t max);

/* An ELF file that is no bzImage payload: decides between Linux, PVH and Multiboot. */
int kernel_parse_elf(struct kernel_image *k, const u8 *p, size_t len, struct err *e);
/* The ELF file inside a bzImage: Linux beyond doubt. Adds the segments and sets the entry. */
int kernel_parse_elf_payload(struct kernel_image *k, const u8 *p, size_t len, struct err *e);
/*
 * A file with a Multiboot 1 header and its own address fields, whatever else it is. 0, -ENOENT
 * without a message if it has none, or an error.
 */
int kernel_parse_multiboot(struct kernel_image *k, const u8 *p, size_t len, struct err *e);

#endif
