/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_elf.c - kernels that are ELF files, and the Multiboot header
 *
 * How it works
 * Three kinds of ELF kernel exist here, and one file may be several of them, so they are tried in
 * this order:
 *
 *  1. Linux (ELF64, x86-64 only). It has no magic of its own. What every vmlinux does have is a
 *     note whose owner is "Linux" (the build salt, since 4.19) and the banner "Linux version N"
 *     that /proc/version shows; either one decides. This comes first because a vmlinux also has
 *     a PVH note, and its 64-bit entry saves it the 32-bit start-up.
 *  2. A note of owner "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY): the PVH entry point
 *     (Xen docs/misc/pvh.pandoc). Before Multiboot since it is an explicit statement in the
 *     program headers, where Multiboot is a magic number somewhere in the file.
 *  3. A Multiboot 1 header (Multiboot Specification 0.6.96, section 3.1): 12 or 32 bytes, aligned
 *     to 4, within the first 8 KiB. With flag 16 it says itself what to load where, and then the
 *     file need not be ELF.
 *
 * Segments are loaded at p_paddr. Every offset and size in the file is checked in 64 bits with
 * overflow detection before it is used; nothing is read through a struct, as nothing is aligned.
 */
#include "image/kernel.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "image/kernel_priv.h"

#define XEN_NOTE_PHYS32_ENTRY 18
#define MB_MAGIC 0x1badb002u
#define MB_SEARCH 8192u
#define MB_ADDRS BIT(16) /* the header has address fields */
#define MB_KNOWN 0x7u	 /* requirements we know: aligned modules, memory map, video */
#define MB_MUST_UNDERSTAND 0xffffu

/* The fields of an ELF header that matter, from either class. */
struct elf_file {
	const u8 *p;
	size_t len;
	bool is64;
	u16 type, machine, phentsize, phnum;
	u64 entry, phoff;
};

struct elf_seg {
	u32 type;
	u64 offset, vaddr, paddr, filesz, memsz, align;
};

static const char *elf_machine_name(u16 m)
{
	static const struct {
		u16 machine;
		const char *name;
	} names[] = {
		{ EM_SPARC, "SPARC" },	  { EM_386, "32-bit x86" },   { EM_MIPS, "MIPS" },
		{ EM_PPC, "PowerPC" },	  { EM_PPC64, "PowerPC 64" }, { EM_S390, "s390" },
		{ EM_ARM, "32-bit ARM" }, { EM_SPARCV9, "SPARC 64" }, { EM_AARCH64, "arm64" },
		{ EM_RISCV, "RISC-V" },	  { EM_X86_64, "x86-64" },    { 258, "LoongArch" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (names[i].machine == m)
			return names[i].name;
	return "an unknown architecture";
}

static int elf_open(struct elf_file *f, const u8 *p, size_t len, struct err *e)
{
	bool is64;

	if (len < sizeof(Elf32_Ehdr))
		return err_set(e, -EINVAL, "truncated: an ELF file of only %zu bytes", len);
	if (p[EI_DATA] == ELFDATA2MSB)
		return err_set(e, -ENOEXEC, "an ELF file for %s, not x86-64",
			       elf_machine_name((u16)(p[18] << 8 | p[19])));
	is64 = p[EI_CLASS] == ELFCLASS64;
	if (p[EI_DATA] != ELFDATA2LSB || (!is64 && p[EI_CLASS] != ELFCLASS32))
		return err_set(e, -EINVAL, "a damaged ELF file: impossible class or byte order");
	if (is64 && len < sizeof(Elf64_Ehdr))
		return err_set(e, -EINVAL, "truncated: an ELF file of only %zu bytes", len);
	*f = (struct elf_file){
		.p = p,
		.len = len,
		.is64 = is64,
		.type = kernel_le16(p + 16),
		.machine = kernel_le16(p + 18),
		.entry = is64 ? kernel_le64(p + 24) : kernel_le32(p + 24),
		.phoff = is64 ? kernel_le64(p + 32) : kernel_le32(p + 28),
		.phentsize = kernel_le16(p + (is64 ? 54 : 42)),
		.phnum = kernel_le16(p + (is64 ? 56 : 44)),
	};
	if (f->machine != EM_X86_64 && f->machine != EM_386)
		return err_set(e, -ENOEXEC, "an ELF file for %s, not x86-64",
			       elf_machine_name(f->machine));
	if (f->type != ET_EXEC && f->type != ET_DYN)
		return err_set(e, -ENOEXEC, "an ELF %s, not a kernel",
			       f->type == ET_REL    ? "object file or module"
			       : f->type == ET_CORE ? "core dump"
						    : "file of unknown type");
	if (f->phnum && f->phentsize < (is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
		return err_set(e, -EINVAL, "a damaged ELF file: impossible program header size");
	if (f->phoff > len || (u64)f->phnum * f->phentsize > len - f->phoff)
		return err_set(e, -EINVAL,
			       "truncated: the ELF program headers are outside the file");
	return 0;
}

/* @i < f->phnum; elf_open has checked that all of them are inside the file. */
static struct elf_seg elf_seg(const struct elf_file *f, unsigned i)
{
	const u8 *h = f->p + f->phoff + (size_t)i * f->phentsize;

	if (f->is64)
		return (struct elf_seg){
			.type = kernel_le32(h),
			.offset = kernel_le64(h + 8),
			.vaddr = kernel_le64(h + 16),
			.paddr = kernel_le64(h + 24),
			.filesz = kernel_le64(h + 32),
			.memsz = kernel_le64(h + 40),
			.align = kernel_le64(h + 48),
		};
	return (struct elf_seg){
		.type = kernel_le32(h),
		.offset = kernel_le32(h + 4),
		.vaddr = kernel_le32(h + 8),
		.paddr = kernel_le32(h + 12),
		.filesz = kernel_le32(h + 16),
		.memsz = kernel_le32(h + 20),
		.align = kernel_le32(h + 28),
	};
}

/* Whether the segment's bytes are all in the file. */
static bool elf_seg_inside(const struct elf_file *f, const struct elf_seg *s)
{
	return s->offset <= f->len && s->filesz <= f->len - s->offset;
}

/*
 * Finds a note (gABI, "Note Section") by owner, and by type if @type is not 0, in the PT_NOTE
 * segments. Returns its descriptor, possibly empty, or NULL. Damaged notes end their segment.
 */
static const u8 *elf_note(const struct elf_file *f, const char *owner, u32 type, size_t *ret_len)
{
	size_t nowner = strlen(owner) + 1;

	for (unsigned i = 0; i < f->phnum; i++) {
		struct elf_seg s = elf_seg(f, i);
		size_t align = s.align == 8 ? 8 : 4;
		u64 at = 0;

		if (s.type != PT_NOTE || !elf_seg_inside(f, &s))
			continue;
		while (at < s.filesz && s.filesz - at >= 12) {
			const u8 *n = f->p + s.offset + at;
			u64 nsz = kernel_le32(n), dsz = kernel_le32(n + 4);
			u64 desc = ALIGN_UP(12 + nsz, align), left = s.filesz - at;

			/* Sizes are 32 bits wide: the sums cannot wrap in 64. */
			if (desc + dsz > left)
				break;
			if (nsz == nowner && !memcmp(n + 12, owner, nowner) &&
			    (!type || kernel_le32(n + 8) == type)) {
				*ret_len = dsz;
				return n + desc;
			}
			at += ALIGN_UP(desc + dsz, align);
		}
	}
	return NULL;
}

/* Finds "Linux version N..." in a loadable segment; the text goes to k->version. */
static bool elf_linux_banner(struct kernel_image *k, const struct elf_file *f)
{
	static const char banner[] = "Linux version ";

	for (unsigned i = 0; i < f->phnum; i++) {
		struct elf_seg s = elf_seg(f, i);
		const u8 *p, *end, *hit;

		if (s.type != PT_LOAD || !elf_seg_inside(f, &s))
			continue;
		p = f->p + s.offset;
		end = p + s.filesz;
		while ((hit = memmem(p, (size_t)(end - p), banner, sizeof(banner) - 1))) {
			p = hit + sizeof(banner) - 1;
			/* A digit, since "Linux version %s" is in every kernel as well. */
			if (p < end && *p >= '0' && *p <= '9') {
				kernel_set_version(k, p, (size_t)(end - p));
				return true;
			}
		}
	}
	return false;
}

static int elf_load(struct kernel_image *k, const struct elf_file *f, struct err *e)
{
	for (unsigned i = 0; i < f->phnum; i++) {
		struct elf_seg s = elf_seg(f, i);
		int r;

		if (s.type != PT_LOAD || !s.memsz)
			continue;
		if (!elf_seg_inside(f, &s))
			return err_set(e, -EINVAL,
				       "truncated: ELF segment %u ends at byte %llu of %zu", i,
				       (unsigned long long)(s.offset + s.filesz), f->len);
		r = kernel_add_seg(k, s.paddr, f->p + s.offset, s.filesz, s.memsz, e);
		if (r < 0)
			return r;
	}
	if (!k->nseg)
		return err_set(e, -ENOEXEC, "an ELF file without anything to load");
	return 0;
}

/*
 * The physical entry point. e_entry of vmlinux is physical already, and so it should be in any
 * kernel that is entered without paging; but kernels linked for the higher half often give the
 * virtual address, which is translated through the segment that holds it, as GRUB does.
 */
static int elf_entry(struct kernel_image *k, const struct elf_file *f, bool virt_first,
		     struct err *e)
{
	if (!virt_first && kernel_in_segs(k, f->entry)) {
		k->entry = f->entry;
		return 0;
	}
	for (unsigned i = 0; i < f->phnum; i++) {
		struct elf_seg s = elf_seg(f, i);

		if (s.type != PT_LOAD || f->entry < s.vaddr || f->entry - s.vaddr >= s.filesz)
			continue;
		k->entry = s.paddr + (f->entry - s.vaddr);
		return 0;
	}
	if (kernel_in_segs(k, f->entry)) {
		k->entry = f->entry;
		return 0;
	}
	return err_set(e, -EINVAL, "the ELF entry point 0x%llx is outside all segments",
		       (unsigned long long)f->entry);
}

int kernel_parse_elf_payload(struct kernel_image *k, const u8 *p, size_t len, struct err *e)
{
	struct elf_file f;
	int r = elf_open(&f, p, len, e);

	if (r < 0)
		return r;
	if (!f.is64 || f.machine != EM_X86_64)
		return err_set(e, -ENOEXEC, "a 32-bit x86 kernel; Orrery boots 64-bit Linux only");
	k->entry_kind = KERNEL_ENTRY_LINUX64;
	r = elf_load(k, &f, e);
	return r < 0 ? r : elf_entry(k, &f, false, e);
}

static int elf_pvh(struct kernel_image *k, const struct elf_file *f, const u8 *desc, size_t len,
		   struct err *e)
{
	int r;

	if (len != 4 && len != 8)
		return err_set(e, -EINVAL, "the PVH note has %zu bytes instead of 4 or 8", len);
	k->type = KERNEL_PVH;
	k->entry_kind = KERNEL_ENTRY_PVH;
	k->entry = len == 8 ? kernel_le64(desc) : kernel_le32(desc);
	r = elf_load(k, f, e);
	if (r < 0)
		return r;
	if (!kernel_in_segs(k, k->entry))
		return err_set(e, -EINVAL, "the PVH entry point 0x%llx is outside all segments",
			       (unsigned long long)k->entry);
	return 0;
}

/* The offset of a valid Multiboot 1 header, or -1. */
static long mb_find(const u8 *p, size_t len)
{
	size_t end = MIN(len, (size_t)MB_SEARCH);

	for (size_t at = 0; at + 12 <= end; at += 4)
		if (kernel_le32(p + at) == MB_MAGIC &&
		    (u32)(MB_MAGIC + kernel_le32(p + at + 4) + kernel_le32(p + at + 8)) == 0)
			return (long)at;
	return -1;
}

/* Multiboot Specification 3.1.3: the address fields say what to load where. */
static int mb_load_addrs(struct kernel_image *k, const u8 *p, size_t len, size_t at, struct err *e)
{
	u32 hdr, load, load_end, bss_end, back;
	u64 off, filesz, memsz;
	int r;

	if (len - at < 32)
		return err_set(e, -EINVAL, "truncated: the Multiboot header is cut off");
	hdr = kernel_le32(p + at + 12);
	load = kernel_le32(p + at + 16);
	load_end = kernel_le32(p + at + 20);
	bss_end = kernel_le32(p + at + 24);
	back = hdr - load; /* the header's distance from the first byte loaded */
	if (hdr < load || back > at)
		return err_set(e, -EINVAL, "the Multiboot header's load address precedes the file");
	off = at - back;
	if (load_end && load_end < load)
		return err_set(e, -EINVAL, "the Multiboot header's load range is negative");
	filesz = load_end ? load_end - load : len - off;
	if (filesz > len - off)
		return err_set(
			e, -EINVAL,
			"truncated: the Multiboot header wants %llu bytes, the file has %llu",
			(unsigned long long)filesz, (unsigned long long)(len - off));
	memsz = bss_end > load && bss_end - load > filesz ? bss_end - load : filesz;
	r = kernel_add_seg(k, load, p + off, filesz, memsz, e);
	if (r < 0)
		return r;
	k->entry = kernel_le32(p + at + 28);
	if (!kernel_in_segs(k, k->entry))
		return err_set(e, -EINVAL,
			       "the Multiboot entry point 0x%llx is not in what is loaded",
			       (unsigned long long)k->entry);
	return 0;
}

static int mb_begin(struct kernel_image *k, u32 flags, struct err *e)
{
	u32 unknown = flags & MB_MUST_UNDERSTAND & ~MB_KNOWN;

	/* 3.1.2: bits 0 to 15 are requirements; a loader that does not know one must fail. */
	if (unknown)
		return err_set(e, -ENOEXEC, "its Multiboot header requires unknown features (0x%x)",
			       unknown);
	k->type = KERNEL_MULTIBOOT;
	k->entry_kind = KERNEL_ENTRY_MULTIBOOT;
	k->multiboot_flags = flags;
	return 0;
}

int kernel_parse_multiboot(struct kernel_image *k, const u8 *p, size_t len, struct err *e)
{
	long at = mb_find(p, len);
	u32 flags;
	int r;

	if (at < 0)
		return -ENOENT;
	flags = kernel_le32(p + at + 4);
	if (!(flags & MB_ADDRS))
		return err_set(
			e, -ENOEXEC,
			"it has a Multiboot header, but is no ELF file and gives no addresses");
	r = mb_begin(k, flags, e);
	return r < 0 ? r : mb_load_addrs(k, p, len, (size_t)at, e);
}

static int elf_multiboot(struct kernel_image *k, const struct elf_file *f, size_t at, struct err *e)
{
	u32 flags = kernel_le32(f->p + at + 4);
	int r = mb_begin(k, flags, e);

	if (r < 0)
		return r;
	if (flags & MB_ADDRS)
		return mb_load_addrs(k, f->p, f->len, at, e);
	r = elf_load(k, f, e);
	return r < 0 ? r : elf_entry(k, f, true, e);
}

int kernel_parse_elf(struct kernel_image *k, const u8 *p, size_t len, struct err *e)
{
	struct elf_file f;
	const u8 *desc;
	size_t ndesc;
	bool banner;
	long mb;
	int r = elf_open(&f, p, len, e);

	if (r < 0)
		return r;
	/* Both questions are asked: the banner gives the version as well. */
	banner = elf_linux_banner(k, &f);
	if (elf_note(&f, "Linux", 0, &ndesc) || banner) {
		k->type = KERNEL_VMLINUX;
		return kernel_parse_elf_payload(k, p, len, e);
	}
	desc = elf_note(&f, "Xen", XEN_NOTE_PHYS32_ENTRY, &ndesc);
	if (desc)
		return elf_pvh(k, &f, desc, ndesc, e);
	mb = mb_find(p, len);
	if (mb >= 0)
		return elf_multiboot(k, &f, (size_t)mb, e);
	return err_set(e, -ENOEXEC,
		       "an ELF program, not a kernel: it has no Linux version, no PVH note and no "
		       "Multiboot header");
}
