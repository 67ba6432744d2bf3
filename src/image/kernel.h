/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel.h - what a kernel file holds, where it goes in guest memory, and how it is entered
 *
 * Parsing touches no guest memory: the result is a list of segments that a board copies into RAM,
 * an entry point, and the fields the boot protocols need. Files are hostile input.
 */
#ifndef ORR_IMAGE_KERNEL_H
#define ORR_IMAGE_KERNEL_H

#include "base/compiler.h"
#include "base/err.h"

#define KERNEL_FILE_MAX (1ull << 30) /* bytes of a kernel file, and of an unpacked payload */
#define KERNEL_GPA_END (1ull << 32)  /* every segment ends at or below */
#define KERNEL_SEGS_MAX 32	     /* loadable segments */
#define KERNEL_SETUP_OFF 0x1f1u	     /* of the setup header in a bzImage and in boot_params */
#define KERNEL_SETUP_END 0x290u	     /* boot_params has other fields from here on */
#define KERNEL_SETUP_MAX (KERNEL_SETUP_END - KERNEL_SETUP_OFF)

/* What the file is. */
enum kernel_type {
	KERNEL_BZIMAGE,	  /* Linux, with its setup header; the payload unpacked or not */
	KERNEL_VMLINUX,	  /* Linux as an x86-64 ELF file */
	KERNEL_PVH,	  /* any other ELF with the PHYS32_ENTRY note */
	KERNEL_MULTIBOOT, /* any other file with a Multiboot 1 header */
};

/* How the CPU enters it: the machine state each protocol asks for is the board's business. */
enum kernel_entry {
	KERNEL_ENTRY_LINUX64,	/* long mode, RSI = boot_params (Linux boot protocol, 64-bit) */
	KERNEL_ENTRY_PVH,	/* 32-bit protected mode, EBX = hvm_start_info */
	KERNEL_ENTRY_MULTIBOOT, /* 32-bit protected mode, EAX = 0x2BADB002, EBX = info */
};

struct kernel_seg {
	gpa_t gpa;	/* physical load address, any alignment */
	const u8 *data; /* borrowed from the image, until it is put away or freed */
	u64 filesz;	/* bytes to copy; may be 0 */
	u64 memsz;	/* bytes in memory, >= filesz; the rest is to be zero */
};

struct kernel_image {
	enum kernel_type type;
	enum kernel_entry entry_kind;
	gpa_t entry; /* inside a segment */
	struct kernel_seg seg[KERNEL_SEGS_MAX];
	unsigned nseg;
	gpa_t mem_low; /* the lowest segment address */
	gpa_t mem_top; /* end of the memory the kernel needs before it reads its memory map */

	/*
	 * Linux only (setup_len 0 otherwise): what boot_params holds from offset KERNEL_SETUP_OFF
	 * on. Copied from a bzImage; made up for an ELF vmlinux, which has none.
	 */
	u8 setup[KERNEL_SETUP_MAX];
	unsigned setup_len;
	u64 init_size;	     /* bytes of memory Linux needs from its first segment on */
	u64 initrd_addr_max; /* the highest address an initrd's last byte may have */
	u32 cmdline_max;     /* bytes of command line without NUL */
	char version[256];   /* "6.12.117+deb12-amd64 (...) #1 ...", or "" if unknown */

	/* KERNEL_BZIMAGE only. */
	const char *payload; /* static name of the compression: "gzip", "xz", ..., "unknown" */
	bool unpacked;	     /* the segments are the ELF kernel's, not the bzImage's own loader */

	u32 multiboot_flags; /* KERNEL_MULTIBOOT only: the header's flags */

	u8 *file; /* owned, or NULL if the caller keeps the bytes, or nobody needs them */
	u8 *out;  /* owned: the unpacked payload, or NULL */
	size_t nfile, nout;
	bool out_mapped; /* out is a mapping of the file with the payload */
	unsigned flags;	 /* it was opened with */
	/* To take it out again: of the file and of its unpacked payload; -1: there is none. */
	int fd, out_fd;
};

enum {
	KERNEL_KEEP_PACKED = 1, /* do not unpack a bzImage: enter its own 64-bit entry point */
};

/*
 * Reads and parses the kernel file @path. Returns 0 and *ret (owned: kernel_image_free), or
 * -ENOENT and the like from opening it, -EFBIG, -ENOMEM, -ENOEXEC for a file that is no kernel
 * this machine can boot, -EINVAL for a damaged one; always with a message that names the file.
 */
int kernel_image_open(const char *path, struct err *e, struct kernel_image **ret);
/*
 * The same, with the unpacked payload kept in the file @unpacked (absolute) for the next time. It counts only
 * if it is as long as the payload says and as old as @path to the nanosecond, so that a kernel
 * which was replaced is unpacked anew.
 */
int kernel_image_open_kept(const char *path, const char *unpacked, struct err *e,
			   struct kernel_image **ret);
/*
 * Keeps what was unpacked of the file @path for that. Best effort: the directory may be another
 * user's, the disk full, the file system without O_TMPFILE, or @k without a payload to unpack.
 */
void kernel_image_keep(const struct kernel_image *k, const char *path, const char *unpacked);
int kernel_image_open_flags(const char *path, unsigned flags, struct err *e,
			    struct kernel_image **ret);

/* The same from memory. Borrows @data for the life of the image; @name is for messages only. */
int kernel_image_parse(const void *data, size_t len, const char *name, unsigned flags,
		       struct err *e, struct kernel_image **ret);

void kernel_image_free(struct kernel_image *k);

/*
 * A running guest has its kernel; the bytes here are only wanted again for a reset. Put away, an image
 * that came from a file keeps all but its segments' data; taken out, it is read and unpacked again
 * from the same open file. Either may be called in any state. kernel_image_take_out returns 0, or
 * a negative errno with a message: -EINVAL if the file is not what it was.
 */
void kernel_image_put_away(struct kernel_image *k);
int kernel_image_take_out(struct kernel_image *k, struct err *e);

/* "bzImage", "ELF vmlinux", ... */
const char *kernel_type_name(enum kernel_type t);

#endif
