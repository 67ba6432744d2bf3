/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel.c - what a kernel file holds, where it goes in guest memory, and how it is entered
 *
 * How it works
 * A bzImage (Linux Documentation/arch/x86/boot.rst) is: boot sector and real-mode set-up code,
 * (setup_sects + 1) * 512 bytes, which nobody executes here; then the protected-mode part, which
 * is the kernel's own decompressor with the compressed ELF kernel (payload_offset) inside. The
 * payload is unpacked here and its ELF segments are loaded where it was linked, so the guest
 * starts in the kernel proper and never runs the decompressor. That skips the decompressor's
 * KASLR too: an unpacked kernel always runs at its linked address, which is what a deterministic
 * machine wants. A payload in a format unknown here is loaded with its decompressor, which is
 * entered at its own 64-bit entry point, 0x200 bytes in (boot.rst, "64-bit boot protocol").
 *
 * ELF files and Multiboot are in kernel_elf.c, the decompressors in payload.c.
 */
#include "image/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "image/kernel_priv.h"
#include "image/payload.h"

/* Offsets in the file, and of the same fields in boot_params (boot.rst, "The real-mode header"). */
enum {
	SETUP_SECTS = 0x1f1,
	SETUP_SYSSIZE = 0x1f4,
	SETUP_BOOT_FLAG = 0x1fe,
	SETUP_JUMP = 0x200,
	SETUP_MAGIC = 0x202,
	SETUP_VERSION = 0x206,
	SETUP_KERNEL_VERSION = 0x20e,
	SETUP_LOADFLAGS = 0x211,
	SETUP_INITRD_MAX = 0x22c,
	SETUP_ALIGNMENT = 0x230,
	SETUP_XLOADFLAGS = 0x236,
	SETUP_CMDLINE_SIZE = 0x238,
	SETUP_PAYLOAD_OFF = 0x248,
	SETUP_PAYLOAD_LEN = 0x24c,
	SETUP_PREF_ADDRESS = 0x258,
	SETUP_INIT_SIZE = 0x260,
	SETUP_LEN_2_15 = 0x26c, /* end of the header, protocol 2.15 */
};

#define SETUP_PROTO_XLOADFLAGS 0x20c
#define LOADFLAG_HIGH 1
#define XLF_KERNEL_64 1
#define BZIMAGE_ENTRY64 0x200
#define LINUX_MIN_GPA 0x100000 /* nothing of a modern Linux is loaded below 1 MiB */

const char *kernel_type_name(enum kernel_type t)
{
	static const char *const names[] = {
		[KERNEL_BZIMAGE] = "bzImage",
		[KERNEL_VMLINUX] = "ELF vmlinux",
		[KERNEL_PVH] = "PVH ELF",
		[KERNEL_MULTIBOOT] = "Multiboot",
	};

	BUG_IF((unsigned)t >= ARRAY_LEN(names));
	return names[t];
}

int kernel_add_seg(struct kernel_image *k, gpa_t gpa, const u8 *data, u64 filesz, u64 memsz,
		   struct err *e)
{
	u64 end;

	if (filesz > memsz)
		return err_set(e, -EINVAL, "a segment has more bytes in the file than in memory");
	if (__builtin_add_overflow(gpa, memsz, &end) || end > KERNEL_GPA_END)
		return err_set(e, -ENOEXEC,
			       "it wants to be loaded at physical address 0x%llx, above 4 GiB",
			       (unsigned long long)gpa);
	if (k->nseg == KERNEL_SEGS_MAX)
		return err_set(e, -ENOEXEC, "it has more than %d segments", KERNEL_SEGS_MAX);
	for (unsigned i = 0; i < k->nseg; i++)
		if (gpa < k->seg[i].gpa + k->seg[i].memsz && k->seg[i].gpa < end)
			return err_set(e, -EINVAL, "its segments overlap at 0x%llx",
				       (unsigned long long)MAX(gpa, k->seg[i].gpa));
	if (!k->nseg || gpa < k->mem_low)
		k->mem_low = gpa;
	k->mem_top = MAX(k->mem_top, end);
	k->seg[k->nseg++] = (struct kernel_seg){ gpa, data, filesz, memsz };
	return 0;
}

bool kernel_in_segs(const struct kernel_image *k, gpa_t gpa)
{
	for (unsigned i = 0; i < k->nseg; i++)
		if (gpa >= k->seg[i].gpa && gpa - k->seg[i].gpa < k->seg[i].filesz)
			return true;
	return false;
}

void kernel_set_version(struct kernel_image *k, const u8 *p, size_t max)
{
	size_t n = 0;

	while (n < max && n < sizeof(k->version) - 1 && p[n] >= ' ' && p[n] < 0x7f) {
		k->version[n] = (char)p[n];
		n++;
	}
	k->version[n] = 0;
}

static void setup_put(struct kernel_image *k, unsigned off, u64 val, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		k->setup[off - KERNEL_SETUP_OFF + i] = (u8)(val >> 8 * i);
}

/*
 * The setup header of an ELF vmlinux: Linux looks at boot_params.hdr whoever filled it. Limits
 * are those every 64-bit kernel since 2.6.30 has (arch/x86/boot/header.S).
 */
static void kernel_make_setup(struct kernel_image *k)
{
	k->init_size = k->mem_top - k->mem_low;
	k->initrd_addr_max = 0x7fffffff;
	k->cmdline_max = 2047;
	k->setup_len = SETUP_LEN_2_15 - KERNEL_SETUP_OFF;
	setup_put(k, SETUP_BOOT_FLAG, 0xaa55, 2);
	setup_put(k, SETUP_JUMP, 0xeb | (SETUP_LEN_2_15 - SETUP_MAGIC) << 8, 2);
	memcpy(&k->setup[SETUP_MAGIC - KERNEL_SETUP_OFF], "HdrS", 4);
	setup_put(k, SETUP_VERSION, 0x20f, 2);
	setup_put(k, SETUP_LOADFLAGS, LOADFLAG_HIGH, 1);
	setup_put(k, SETUP_INITRD_MAX, k->initrd_addr_max, 4);
	setup_put(k, SETUP_ALIGNMENT, 2 << 20, 4);
	setup_put(k, SETUP_XLOADFLAGS, XLF_KERNEL_64, 2);
	setup_put(k, SETUP_CMDLINE_SIZE, k->cmdline_max, 4);
	setup_put(k, SETUP_PREF_ADDRESS, k->mem_low, 8);
	setup_put(k, SETUP_INIT_SIZE, k->init_size, 4);
}

/* Whether Linux's own memory is plausible; an entry below 1 MiB would meet the boot tables. */
static int kernel_finish_linux(struct kernel_image *k, struct err *e)
{
	u64 top = k->mem_low + k->init_size;

	if (k->mem_low < LINUX_MIN_GPA)
		return err_set(e, -EINVAL, "a Linux kernel that wants to be loaded at 0x%llx",
			       (unsigned long long)k->mem_low);
	if (top > KERNEL_GPA_END)
		return err_set(e, -EINVAL, "its init_size of 0x%llx bytes reaches above 4 GiB",
			       (unsigned long long)k->init_size);
	k->mem_top = MAX(k->mem_top, top);
	return 0;
}

/* Reads the setup header and refuses kernels that have no 64-bit entry. */
static int bzimage_header(struct kernel_image *k, const u8 *p, size_t len, struct err *e)
{
	size_t setup = ((p[SETUP_SECTS] ? p[SETUP_SECTS] : 4) + 1) * 512u, end;
	unsigned version = kernel_le16(p + SETUP_VERSION);
	u32 kver;

	if (version < SETUP_PROTO_XLOADFLAGS ||
	    !(kernel_le16(p + SETUP_XLOADFLAGS) & XLF_KERNEL_64))
		return err_set(e, -ENOEXEC,
			       "a 32-bit or very old Linux kernel (boot protocol %u.%02u without a "
			       "64-bit entry); Orrery boots 64-bit Linux only",
			       version >> 8, version & 0xff);
	if (!(p[SETUP_LOADFLAGS] & LOADFLAG_HIGH))
		return err_set(e, -ENOEXEC, "a zImage, not a bzImage");
	if (setup > len)
		return err_set(e, -EINVAL, "truncated: the bzImage ends inside its set-up code");
	/* The second byte of the jump over the header is the header's length. */
	end = MIN((size_t)SETUP_MAGIC + p[SETUP_JUMP + 1], (size_t)KERNEL_SETUP_END);
	if (end < SETUP_INIT_SIZE + 4)
		return err_set(e, -EINVAL, "a damaged bzImage: its setup header is too short");
	k->setup_len = (unsigned)(end - KERNEL_SETUP_OFF);
	memcpy(k->setup, p + KERNEL_SETUP_OFF, k->setup_len);
	k->init_size = kernel_le32(p + SETUP_INIT_SIZE);
	k->initrd_addr_max = kernel_le32(p + SETUP_INITRD_MAX);
	k->cmdline_max = kernel_le32(p + SETUP_CMDLINE_SIZE);
	kver = kernel_le16(p + SETUP_KERNEL_VERSION);
	if (kver && kver + 0x200 < setup)
		kernel_set_version(k, p + 0x200 + kver, setup - 0x200 - kver);
	return 0;
}

/* Maps the payload that k->out_fd has, if it is of @len bytes. */
static bool map_unpacked(struct kernel_image *k, size_t len)
{
	struct stat st;
	void *p;

	if (k->out_fd < 0 || fstat(k->out_fd, &st) < 0 || !len || (u64)st.st_size != len)
		return false;
	p = mmap(NULL, len, PROT_READ, MAP_PRIVATE, k->out_fd, 0);
	if (p == MAP_FAILED)
		return false;
	k->out = p;
	k->nout = len;
	k->out_mapped = true;
	return true;
}

static int bzimage_unpack(struct kernel_image *k, const u8 *p, size_t len, enum payload_format f,
			  struct err *e)
{
	int r;

	if (f != PAYLOAD_NONE) {
		if (!map_unpacked(k, payload_size(p, len))) {
			r = payload_unpack(f, p, len, KERNEL_FILE_MAX, e, &k->out, &k->nout);
			if (r < 0)
				return r;
		}
		p = k->out;
		len = k->nout;
		if (len < 4 || memcmp(p, "\177ELF", 4))
			return err_set(e, -EINVAL,
				       "a damaged bzImage: its %s payload is no ELF file",
				       payload_name(f));
	}
	k->unpacked = true;
	r = kernel_parse_elf_payload(k, p, len, e);
	if (r < 0)
		err_prefix(e, "the kernel inside the bzImage");
	return r;
}

static int bzimage_parse(struct kernel_image *k, const u8 *p, size_t len, unsigned flags,
			 struct err *e)
{
	u64 setup, sys, off, n, pref;
	enum payload_format f;
	int r;

	if (len < KERNEL_SETUP_END)
		return err_set(e, -EINVAL, "truncated: the bzImage ends inside its header");
	k->type = KERNEL_BZIMAGE;
	r = bzimage_header(k, p, len, e);
	if (r < 0)
		return r;
	setup = ((p[SETUP_SECTS] ? p[SETUP_SECTS] : 4) + 1) * 512u;
	sys = kernel_le32(p + SETUP_SYSSIZE) * 16ull;
	/* syssize is rounded up to 16; a signature may follow it. */
	if (len - setup + 15 < sys)
		return err_set(e, -EINVAL, "truncated: the bzImage has %llu of %llu bytes",
			       (unsigned long long)len, (unsigned long long)(setup + sys));
	sys = MIN(sys, (u64)len - setup);
	off = kernel_le32(p + SETUP_PAYLOAD_OFF);
	n = kernel_le32(p + SETUP_PAYLOAD_LEN);
	if (off > sys || n > sys - off || n < 4)
		return err_set(e, -EINVAL, "a damaged bzImage: its payload is outside the file");
	f = payload_detect(p + setup + off, n);
	k->payload = payload_name(f);
	if (!(flags & KERNEL_KEEP_PACKED) && (f == PAYLOAD_NONE || payload_can_unpack(f))) {
		r = bzimage_unpack(k, p + setup + off, n, f, e);
	} else {
		pref = kernel_le64(p + SETUP_PREF_ADDRESS);
		k->entry_kind = KERNEL_ENTRY_LINUX64;
		k->entry = pref + BZIMAGE_ENTRY64;
		if (sys <= BZIMAGE_ENTRY64)
			return err_set(e, -EINVAL, "a damaged bzImage: no 64-bit entry point");
		r = kernel_add_seg(k, pref, p + setup, sys, sys, e);
	}
	return r < 0 ? r : kernel_finish_linux(k, e);
}

/* What a file that is no kernel seems to be, for the message. */
static const char *kernel_recognize(const u8 *p, size_t len)
{
	static const struct {
		u16 off;
		u8 n;
		const char *magic, *what;
	} known[] = {
		{ 0x38, 4, "ARM\x64", "an arm64 kernel image, not x86-64" },
		{ 0x30, 8, "RISCV\0\0\0", "a RISC-V kernel image, not x86-64" },
		{ 0, 8, "!<arch>\n",
		  "a Debian package or other ar archive (see: orrery kernel "
		  "fetch)" },
		{ 0, 6, "070701", "a cpio archive: an initramfs belongs to --initrd" },
		{ 0, 6, "070702", "a cpio archive: an initramfs belongs to --initrd" },
		{ 0, 2, "\x1f\x8b", "gzip data: unpack it first, if it is a kernel" },
		{ 0, 6,
		  "\xfd"
		  "7zXZ",
		  "xz data: unpack it first, if it is a kernel" },
		{ 0, 4, "\x28\xb5\x2f\xfd", "zstd data: unpack it first, if it is a kernel" },
		{ 0, 4, "\x02\x21\x4c\x18", "lz4 data: unpack it first, if it is a kernel" },
		{ 0, 3, "BZh", "bzip2 data: unpack it first, if it is a kernel" },
		{ 0, 2, "MZ", "an EFI or DOS program, not a Linux kernel for x86-64" },
		{ 0, 2, "#!", "a script" },
		{ 0, 4, "QFI\xfb", "a qcow2 disk image" },
		{ 0x1fe, 2, "\x55\xaa", "a disk image or a boot sector" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(known); i++)
		if (len >= (size_t)known[i].off + known[i].n &&
		    !memcmp(p + known[i].off, known[i].magic, known[i].n))
			return known[i].what;
	return "nothing known";
}

static int kernel_parse_any(struct kernel_image *k, const u8 *p, size_t len, unsigned flags,
			    struct err *e)
{
	int r;

	if (!len)
		return err_set(e, -ENOEXEC, "not a kernel: the file is empty");
	if (len > KERNEL_FILE_MAX)
		return err_set(e, -EFBIG, "too large for a kernel (over %llu MiB)",
			       KERNEL_FILE_MAX >> 20);
	if (len >= SETUP_VERSION && !memcmp(p + SETUP_MAGIC, "HdrS", 4) &&
	    kernel_le16(p + SETUP_BOOT_FLAG) == 0xaa55)
		return bzimage_parse(k, p, len, flags, e);
	if (len >= 4 && !memcmp(p, "\177ELF", 4)) {
		r = kernel_parse_elf(k, p, len, e);
		if (r < 0 || k->type != KERNEL_VMLINUX)
			return r;
		kernel_make_setup(k);
		return kernel_finish_linux(k, e);
	}
	r = kernel_parse_multiboot(k, p, len, e);
	if (r != -ENOENT)
		return r;
	return err_set(e, -ENOEXEC, "not a kernel: it looks like %s", kernel_recognize(p, len));
}

/* @out_fd: of the unpacked payload, or -1; the image does not take it. */
static int kernel_parse(const void *data, size_t len, int out_fd, const char *name, unsigned flags,
			struct err *e, struct kernel_image **ret)
{
	struct kernel_image *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return err_set(e, -ENOMEM, "%s: no memory", name);
	k->fd = -1;
	k->out_fd = out_fd;
	r = kernel_parse_any(k, data, len, flags, e);
	k->out_fd = -1;
	if (r < 0) {
		kernel_image_free(k);
		err_prefix(e, "%s", name);
		return r;
	}
	*ret = k;
	return 0;
}

int kernel_image_parse(const void *data, size_t len, const char *name, unsigned flags,
		       struct err *e, struct kernel_image **ret)
{
	return kernel_parse(data, len, -1, name, flags, e, ret);
}

/* Opens the regular file @path. Returns its descriptor and its size, or an error. */
static int kernel_open_file(const char *path, struct err *e, size_t *ret_len)
{
	struct stat st;
	int r, fd;

	/* O_NONBLOCK, so that a FIFO is refused below instead of waited for. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_sys(e, -errno, "cannot open the kernel %s", path);
	r = fstat(fd, &st);
	if (r < 0)
		r = err_sys(e, -errno, "cannot read the kernel %s", path);
	else if (!S_ISREG(st.st_mode))
		r = err_set(e, S_ISDIR(st.st_mode) ? -EISDIR : -ENOEXEC,
			    "%s is not a kernel: it is %s", path,
			    S_ISDIR(st.st_mode) ? "a directory" : "no regular file");
	else if ((u64)st.st_size > KERNEL_FILE_MAX)
		r = err_set(e, -EFBIG, "%s: too large for a kernel (%lld MiB, the limit is %llu)",
			    path, (long long)st.st_size >> 20, KERNEL_FILE_MAX >> 20);
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret_len = (size_t)st.st_size;
	return fd;
}

/*
 * Parses @len bytes of @fd with the unpacked payload in @out_fd; takes neither. The file is mapped:
 * only its header is looked at. Returns 1 and *ret, or 0 if that payload is not the file's, or damaged.
 */
static int kernel_read_kept(int fd, size_t len, int out_fd, const char *name, struct err *e,
			    struct kernel_image **ret)
{
	void *p = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
	struct kernel_image *k = NULL;
	int r;

	if (p == MAP_FAILED)
		return 0;
	r = kernel_parse(p, len, out_fd, name, 0, e, &k);
	munmap(p, len);
	if (r < 0)
		return 0;
	if (!k->out_mapped) {
		kernel_image_free(k);
		return 0;
	}
	k->nfile = len;
	*ret = k;
	return 1;
}

/* Reads and parses @len bytes of @fd, which the image does not take. */
static int kernel_read(int fd, size_t len, const char *name, unsigned flags, struct err *e,
		       struct kernel_image **ret)
{
	u8 *data = malloc(len + 1);
	struct kernel_image *k;
	size_t got = 0;
	int r = 0;

	if (!data)
		return err_set(e, -ENOMEM, "no memory to read the kernel %s", name);
	while (!r && got < len) {
		ssize_t n = pread(fd, data + got, len - got, (off_t)got);

		if (n == 0)
			break; /* it shrank meanwhile: the parser sees a short file */
		if (n < 0 && errno != EINTR)
			r = err_sys(e, -errno, "cannot read the kernel %s", name);
		else if (n > 0)
			got += (size_t)n;
	}
	if (r == 0)
		r = kernel_image_parse(data, got, name, flags, e, &k);
	if (r < 0) {
		free(data);
		return r;
	}
	k->file = data;
	k->nfile = len;
	if (k->out) {
		/* Every segment is in the unpacked payload; the packed bytes are done with. */
		free(data);
		k->file = NULL;
	}
	*ret = k;
	return 0;
}

int kernel_image_open_flags(const char *path, unsigned flags, struct err *e,
			    struct kernel_image **ret)
{
	size_t len = 0;
	int fd = kernel_open_file(path, e, &len), r;

	if (fd < 0)
		return fd;
	r = kernel_read(fd, len, path, flags, e, ret);
	if (r < 0) {
		close(fd);
		return r;
	}
	(*ret)->fd = fd;
	(*ret)->flags = flags;
	return 0;
}

int kernel_image_open(const char *path, struct err *e, struct kernel_image **ret)
{
	return kernel_image_open_flags(path, 0, e, ret);
}

/* Opens @unpacked if it was made of the file @of, or returns -1. */
static int open_unpacked(const char *unpacked, int of)
{
	int fd = open(unpacked, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st, file;

	if (fd >= 0 && (fstat(fd, &st) < 0 || fstat(of, &file) < 0 || !S_ISREG(st.st_mode) ||
			st.st_mtim.tv_sec != file.st_mtim.tv_sec ||
			st.st_mtim.tv_nsec != file.st_mtim.tv_nsec)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/*
 * It has no name before it is whole, so that nobody sees half of it and nothing is left of a killed
 * process. Synced, as zeros after a power failure would look whole.
 */
void kernel_image_keep(const struct kernel_image *k, const char *path, const char *unpacked)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT } };
	char *dir = strdup(unpacked), self[32];
	struct stat file;
	int fd = -1;

	if (dir && k->out && !k->out_mapped && stat(path, &file) == 0) {
		times[1] = file.st_mtim;
		*strrchr(dir, '/') = 0;
		fd = open(dir, O_WRONLY | O_TMPFILE | O_CLOEXEC, 0644);
	}
	free(dir);
	if (fd < 0)
		return;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (buf_write_fd(fd, k->out, k->nout) == 0 && futimens(fd, times) == 0 &&
	    fdatasync(fd) == 0) {
		unlink(unpacked);
		linkat(AT_FDCWD, self, AT_FDCWD, unpacked, AT_SYMLINK_FOLLOW);
	}
	close(fd);
}

int kernel_image_open_kept(const char *path, const char *unpacked, struct err *e,
			   struct kernel_image **ret)
{
	size_t len = 0;
	int fd = kernel_open_file(path, e, &len), out_fd, r = 0;

	if (fd < 0)
		return fd;
	out_fd = open_unpacked(unpacked, fd);
	if (out_fd >= 0) {
		r = kernel_read_kept(fd, len, out_fd, path, e, ret);
		if (r == 0) {
			close(out_fd);
			out_fd = -1;
		}
	}
	if (r == 0) {
		r = kernel_read(fd, len, path, 0, e, ret);
		if (r == 0)
			kernel_image_keep(*ret, path, unpacked);
	}
	if (r < 0) {
		close(fd);
		return r;
	}
	(*ret)->fd = fd;
	(*ret)->out_fd = out_fd;
	return 0;
}

static void drop_bytes(struct kernel_image *k)
{
	free(k->file);
	if (k->out_mapped)
		munmap(k->out, k->nout);
	else
		free(k->out);
	k->file = k->out = NULL;
	k->out_mapped = false;
}

void kernel_image_put_away(struct kernel_image *k)
{
	if (k->fd < 0)
		return;
	drop_bytes(k);
	for (unsigned i = 0; i < k->nseg; i++)
		k->seg[i].data = NULL;
}

static bool same_layout(const struct kernel_image *a, const struct kernel_image *b)
{
	if (a->type != b->type || a->entry != b->entry || a->nseg != b->nseg ||
	    a->setup_len != b->setup_len || memcmp(a->setup, b->setup, a->setup_len) != 0)
		return false;
	for (unsigned i = 0; i < a->nseg; i++)
		if (a->seg[i].gpa != b->seg[i].gpa || a->seg[i].filesz != b->seg[i].filesz ||
		    a->seg[i].memsz != b->seg[i].memsz)
			return false;
	return true;
}

int kernel_image_take_out(struct kernel_image *k, struct err *e)
{
	struct kernel_image *n;
	int r;

	if (k->fd < 0 || k->file || k->out)
		return 0;
	r = 0;
	if (k->out_fd >= 0)
		r = kernel_read_kept(k->fd, k->nfile, k->out_fd, "the kernel", e, &n);
	if (r == 0)
		r = kernel_read(k->fd, k->nfile, "the kernel", k->flags, e, &n);
	if (r < 0)
		return r;
	r = 0;
	/* RAM and tables were laid out for the one that was there. */
	if (same_layout(k, n)) {
		memcpy(k->seg, n->seg, sizeof(k->seg));
		k->file = n->file;
		k->out = n->out;
		k->nout = n->nout;
		k->out_mapped = n->out_mapped;
		n->file = n->out = NULL;
	} else {
		r = err_set(e, -EINVAL,
			    "the kernel's file has changed since the guest was started");
	}
	kernel_image_free(n);
	return r;
}

void kernel_image_free(struct kernel_image *k)
{
	if (!k)
		return;
	if (k->fd >= 0)
		close(k->fd);
	if (k->out_fd >= 0)
		close(k->out_fd);
	drop_bytes(k);
	free(k);
}
