/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kimage.h - builds small kernel files of every format for tests
 *
 * They are what the formats' specifications ask for, byte by byte, with a few bytes of code
 * inside. All return a buffer that the caller frees with buf_fini; failure aborts the test.
 */
#ifndef ORR_TESTS_IMAGE_KIMAGE_H
#define ORR_TESTS_IMAGE_KIMAGE_H

#include "base/buf.h"
#include "image/payload.h"

enum {
	KIMAGE_ELF32 = 1, /* class 32, machine i386 */
	KIMAGE_LINUX = 2, /* the banner "Linux version 6.99.1-test ..." */
	KIMAGE_LINUX_NOTE = 4,
	KIMAGE_PVH = 8,	       /* PHYS32_ENTRY note, entry 0x1000040 */
	KIMAGE_MULTIBOOT = 16, /* header without address fields */
	KIMAGE_HIGH = 32,      /* e_entry is a virtual address */
};

/* One segment of 0x2000 bytes in the file, 0x3000 in memory, at 16 MiB; entry 0x1000010. */
struct buf kimage_elf(unsigned flags);
/* A flat file whose Multiboot header has address fields: loaded at 1 MiB, entry 0x100020. */
struct buf kimage_multiboot_flat(void);
/* Compresses as the kernel's build does, with the size at the end. */
struct buf kimage_pack(enum payload_format f, const struct buf *b);
/* A bzImage around @payload. */
struct buf kimage_bzimage(const struct buf *payload);
/* Stores little endian at @off. */
void kimage_put(struct buf *b, size_t off, u64 val, unsigned bytes);

#endif
