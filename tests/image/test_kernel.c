/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_kernel.c - kernel files: every format, every compression, every kind of damage
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "image/kcache.h"
#include "image/kernel.h"
#include "image/payload.h"
#include "kimage.h"

static const enum payload_format formats[] = { PAYLOAD_NONE, PAYLOAD_GZIP, PAYLOAD_XZ,
					       PAYLOAD_ZSTD, PAYLOAD_LZ4,  PAYLOAD_LZMA };

static struct kernel_image *parse(const struct buf *b, unsigned flags)
{
	struct kernel_image *k = NULL;
	struct err e = { 0 };
	int r = kernel_image_parse(b->data, b->len, "k", flags, &e, &k);

	if (r < 0)
		fail_msg("unexpected: %s", e.msg);
	return k;
}

/* The file must be refused with @code and a message that begins with its name and has @part. */
static void refuse(const struct buf *b, int code, const char *part)
{
	struct kernel_image *k = NULL;
	struct err e = { 0 };
	int r = kernel_image_parse(b->data, b->len, "k", 0, &e, &k);

	assert_null(k);
	if (r != code || strncmp(e.msg, "k: ", 3) || !strstr(e.msg, part) || strchr(e.msg, '\n'))
		fail_msg("wanted %d and '%s', got %d and '%s'", code, part, r, e.msg);
}

static void check_segment(const struct kernel_image *k, const struct buf *elf)
{
	assert_int_equal(k->nseg, 1);
	assert_int_equal(k->seg[0].gpa, 0x1000000);
	assert_int_equal(k->seg[0].filesz, 0x2000);
	assert_int_equal(k->seg[0].memsz, 0x3000);
	assert_memory_equal(k->seg[0].data, elf->data + 0x1000, 0x2000);
	assert_int_equal(k->mem_low, 0x1000000);
	assert_true(k->mem_top >= 0x1003000);
}

static void bzimage_unpacks(void **state)
{
	struct buf elf = kimage_elf(KIMAGE_LINUX);

	for (unsigned i = 0; i < ARRAY_LEN(formats); i++) {
		struct buf packed = kimage_pack(formats[i], &elf);
		struct buf bz = kimage_bzimage(&packed);
		struct kernel_image *k = parse(&bz, 0);

		assert_int_equal(k->type, KERNEL_BZIMAGE);
		assert_int_equal(k->entry_kind, KERNEL_ENTRY_LINUX64);
		assert_int_equal(k->entry, 0x1000010);
		assert_string_equal(k->payload, payload_name(formats[i]));
		assert_true(k->unpacked);
		check_segment(k, &elf);
		assert_string_equal(k->version, "6.99.1-test (me@here) #1 SMP");
		assert_int_equal(k->setup_len, 0x26c - 0x1f1);
		assert_memory_equal(k->setup, bz.data + 0x1f1, k->setup_len);
		assert_int_equal(k->init_size, 0x100000);
		assert_int_equal(k->mem_top, 0x1100000);
		assert_int_equal(k->cmdline_max, 2047);
		kernel_image_free(k);
		buf_fini(&bz);
		buf_fini(&packed);
	}
	buf_fini(&elf);
}

/* Several lz4 blocks, and enough data that a window slides. */
static void large_payload_unpacks(void **state)
{
	struct buf big = { 0 };

	for (u32 i = 0; i < 20u << 18; i++) {
		u32 v = i % 5000 ? i / 64 : i * 2654435761u;

		assert_int_equal(buf_add(&big, &v, 4), 0);
	}
	for (unsigned i = 1; i < ARRAY_LEN(formats); i++) {
		struct buf packed = { 0 };
		u8 *out = NULL;
		size_t n = 0;

		/* The small presets of the packers are slow on 20 MiB; two formats tell enough. */
		if (formats[i] != PAYLOAD_LZ4 && formats[i] != PAYLOAD_ZSTD)
			continue;
		packed = kimage_pack(formats[i], &big);
		assert_int_equal(payload_unpack(formats[i], packed.data, packed.len, big.len, NULL,
						&out, &n),
				 0);
		assert_int_equal(n, big.len);
		assert_memory_equal(out, big.data, n);
		free(out);
		assert_int_equal(payload_unpack(formats[i], packed.data, packed.len, big.len - 1,
						NULL, &out, &n),
				 -EFBIG);
		buf_fini(&packed);
	}
	buf_fini(&big);
}

static void bzimage_falls_back(void **state)
{
	struct buf elf = kimage_elf(KIMAGE_LINUX);
	struct buf bz = kimage_bzimage(&elf);
	struct kernel_image *k;

	/* Asked for, or because nobody knows the format. */
	for (int i = 0; i < 2; i++) {
		if (i)
			memcpy(bz.data + 3 * 512 + 0x2cc, "\x89LZO", 4);
		k = parse(&bz, i ? 0 : KERNEL_KEEP_PACKED);
		assert_false(k->unpacked);
		assert_string_equal(k->payload, i ? "lzo" : "none");
		assert_int_equal(k->entry, 0x1000200);
		assert_int_equal(k->nseg, 1);
		assert_int_equal(k->seg[0].gpa, 0x1000000);
		assert_int_equal(k->seg[0].filesz, bz.len - 3 * 512);
		assert_ptr_equal(k->seg[0].data, bz.data + 3 * 512);
		assert_int_equal(k->seg[0].data[0x200], 0xf4);
		assert_int_equal(k->mem_top, 0x1100000);
		kernel_image_free(k);
	}
	buf_fini(&bz);
	buf_fini(&elf);
}

static void bzimage_refused(void **state)
{
	struct buf elf = kimage_elf(KIMAGE_LINUX), packed = kimage_pack(PAYLOAD_ZSTD, &elf);
	struct buf bz = kimage_bzimage(&packed);
	size_t trailer = 3 * 512 + 0x2cc + packed.len - 4;

	kimage_put(&bz, 0x236, 0x7e, 2);
	refuse(&bz, -ENOEXEC, "32-bit");
	kimage_put(&bz, 0x236, 0x7f, 2);
	kimage_put(&bz, 0x206, 0x204, 2);
	refuse(&bz, -ENOEXEC, "protocol 2.04");
	kimage_put(&bz, 0x206, 0x20f, 2);
	kimage_put(&bz, 0x211, 0, 1);
	refuse(&bz, -ENOEXEC, "zImage");
	kimage_put(&bz, 0x211, 1, 1);
	kimage_put(&bz, 0x24c, 0xffffffff, 4);
	refuse(&bz, -EINVAL, "payload is outside");
	kimage_put(&bz, 0x24c, packed.len, 4);
	/* A decompression bomb is refused by its claim, and one that lies by its stream. */
	kimage_put(&bz, trailer, 0x70000000, 4);
	refuse(&bz, -EFBIG, "limit");
	kimage_put(&bz, trailer, elf.len - 1, 4);
	refuse(&bz, -EINVAL, "damaged");
	kimage_put(&bz, trailer, elf.len + 1, 4);
	refuse(&bz, -EINVAL, "damaged");
	kimage_put(&bz, trailer, 0, 4);
	refuse(&bz, -EINVAL, "empty");
	kimage_put(&bz, trailer, elf.len, 4);
	kimage_put(&bz, 0x260, 0xfffff000, 4);
	refuse(&bz, -EINVAL, "init_size");
	kimage_put(&bz, 0x260, 0x100000, 4);
	kernel_image_free(parse(&bz, 0));
	buf_fini(&bz);
	buf_fini(&packed);
	buf_fini(&elf);
}

static void vmlinux_boots_as_linux(void **state)
{
	static const unsigned kinds[] = { KIMAGE_LINUX, KIMAGE_LINUX_NOTE,
					  KIMAGE_LINUX | KIMAGE_HIGH,
					  KIMAGE_LINUX | KIMAGE_PVH | KIMAGE_MULTIBOOT };

	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		struct buf elf = kimage_elf(kinds[i]);
		struct kernel_image *k = parse(&elf, 0);

		assert_int_equal(k->type, KERNEL_VMLINUX);
		assert_int_equal(k->entry_kind, KERNEL_ENTRY_LINUX64);
		assert_int_equal(k->entry, 0x1000010);
		check_segment(k, &elf);
		/* The made-up header: HdrS, version 2.15, and 64-bit. */
		assert_int_equal(k->setup_len, 0x26c - 0x1f1);
		assert_memory_equal(k->setup + 0x202 - 0x1f1, "HdrS\x0f\x02", 6);
		assert_int_equal(k->setup[0x236 - 0x1f1] & 1, 1);
		assert_int_equal(k->init_size, 0x3000);
		if (kinds[i] & KIMAGE_LINUX)
			assert_string_equal(k->version, "6.99.1-test (me@here) #1");
		kernel_image_free(k);
		buf_fini(&elf);
	}
}

static void bare_metal_boots(void **state)
{
	static const struct {
		unsigned flags;
		enum kernel_type type;
		gpa_t entry;
	} cases[] = {
		{ KIMAGE_PVH, KERNEL_PVH, 0x1000040 },
		{ KIMAGE_PVH | KIMAGE_ELF32, KERNEL_PVH, 0x1000040 },
		{ KIMAGE_PVH | KIMAGE_MULTIBOOT, KERNEL_PVH, 0x1000040 },
		{ KIMAGE_MULTIBOOT, KERNEL_MULTIBOOT, 0x1000010 },
		{ KIMAGE_MULTIBOOT | KIMAGE_ELF32, KERNEL_MULTIBOOT, 0x1000010 },
		{ KIMAGE_MULTIBOOT | KIMAGE_ELF32 | KIMAGE_HIGH, KERNEL_MULTIBOOT, 0x1000010 },
	};
	struct buf flat = kimage_multiboot_flat();
	struct kernel_image *k = parse(&flat, 0);

	assert_int_equal(k->type, KERNEL_MULTIBOOT);
	assert_int_equal(k->entry_kind, KERNEL_ENTRY_MULTIBOOT);
	assert_int_equal(k->entry, 0x100040);
	assert_int_equal(k->multiboot_flags, 0x10003);
	assert_int_equal(k->nseg, 1);
	assert_int_equal(k->seg[0].gpa, 0x100000);
	assert_ptr_equal(k->seg[0].data, flat.data + 16);
	assert_int_equal(k->seg[0].filesz, 0x100);
	assert_int_equal(k->seg[0].memsz, 0x4000);
	assert_int_equal(k->setup_len, 0);
	kernel_image_free(k);
	buf_fini(&flat);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct buf elf = kimage_elf(cases[i].flags);

		k = parse(&elf, 0);
		assert_int_equal(k->type, cases[i].type);
		assert_int_equal(k->entry, cases[i].entry);
		check_segment(k, &elf);
		kernel_image_free(k);
		buf_fini(&elf);
	}
}

static void elf_refused(void **state)
{
	struct buf b = kimage_elf(0);

	refuse(&b, -ENOEXEC, "ELF program");
	kimage_put(&b, offsetof(Elf64_Ehdr, e_machine), EM_AARCH64, 2);
	refuse(&b, -ENOEXEC, "arm64");
	kimage_put(&b, offsetof(Elf64_Ehdr, e_machine), EM_X86_64, 2);
	kimage_put(&b, offsetof(Elf64_Ehdr, e_type), ET_REL, 2);
	refuse(&b, -ENOEXEC, "object file");
	buf_fini(&b);

	b = kimage_elf(KIMAGE_LINUX | KIMAGE_ELF32);
	refuse(&b, -ENOEXEC, "32-bit x86");
	buf_fini(&b);

	b = kimage_elf(KIMAGE_LINUX);
	kimage_put(&b, sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_paddr), 0xffffffff, 8);
	refuse(&b, -ENOEXEC, "above 4 GiB");
	kimage_put(&b, sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_paddr), UINT64_MAX - 8, 8);
	refuse(&b, -ENOEXEC, "above 4 GiB");
	kimage_put(&b, sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_paddr), 0x1000, 8);
	kimage_put(&b, offsetof(Elf64_Ehdr, e_entry), 0x1010, 8);
	refuse(&b, -EINVAL, "0x1000");
	kimage_put(&b, sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_paddr), 0x1000000, 8);
	kimage_put(&b, offsetof(Elf64_Ehdr, e_entry), 0x1002000, 8);
	refuse(&b, -EINVAL, "entry point");
	kimage_put(&b, sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_memsz), 0x10, 8);
	refuse(&b, -EINVAL, "more bytes");
	kimage_put(&b, offsetof(Elf64_Ehdr, e_phoff), UINT64_MAX - 4, 8);
	refuse(&b, -EINVAL, "program headers");
	buf_fini(&b);

	b = kimage_elf(KIMAGE_MULTIBOOT);
	kimage_put(&b, 0x204, 8, 4);
	kimage_put(&b, 0x208, -(0x1badb002u + 8), 4);
	refuse(&b, -ENOEXEC, "unknown features");
	buf_fini(&b);
}

static void others_are_recognized(void **state)
{
	struct buf b = { 0 };

	refuse(&b, -ENOEXEC, "empty");
	assert_int_equal(buf_add(&b, NULL, 4096), 0);
	refuse(&b, -ENOEXEC, "nothing known");
	memcpy(b.data + 0x38, "ARM\x64", 4);
	refuse(&b, -ENOEXEC, "arm64");
	memset(b.data, 0, 64);
	memcpy(b.data, "070701", 6);
	refuse(&b, -ENOEXEC, "--initrd");
	memcpy(b.data, "!<arch>\n", 8);
	refuse(&b, -ENOEXEC, "package");
	memcpy(b.data, "MZ", 2);
	refuse(&b, -ENOEXEC, "EFI");
	buf_fini(&b);
}

/* Cut anywhere, a kernel is refused; nothing is read beyond the end (the sanitizer looks). */
static void truncated_is_refused(void **state)
{
	struct buf elf = kimage_elf(KIMAGE_LINUX), flat = kimage_multiboot_flat();
	struct buf all[ARRAY_LEN(formats) + 2];
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_LEN(formats); i++) {
		struct buf packed = kimage_pack(formats[i], &elf);

		all[n++] = kimage_bzimage(&packed);
		buf_fini(&packed);
	}
	/* Without the notes at its end, which nothing needs to be there. */
	elf.len = 0x3000;
	all[n++] = elf;
	all[n++] = flat;
	for (unsigned i = 0; i < n; i++) {
		/* A bzImage may lack up to 15 bytes, the rounding of its length. */
		size_t end = all[i].len - (i < ARRAY_LEN(formats) ? 15 : 0);

		for (size_t len = 0; len < end; len += 1 + len / 61) {
			u8 *copy = malloc(len ? len : 1);
			struct kernel_image *k = NULL;
			struct err e = { 0 };

			memcpy(copy, all[i].data, len);
			assert_true(kernel_image_parse(copy, len, "k", 0, &e, &k) < 0);
			assert_null(k);
			assert_true(e.msg[0]);
			free(copy);
		}
		buf_fini(&all[i]);
	}
}

/* Damaged at random, a kernel is refused or taken, and every segment lies inside the buffers. */
static void damaged_is_contained(void **state)
{
	struct buf elf = kimage_elf(KIMAGE_LINUX | KIMAGE_PVH | KIMAGE_MULTIBOOT);
	struct buf bare = kimage_elf(KIMAGE_PVH | KIMAGE_MULTIBOOT), bz[ARRAY_LEN(formats)];
	struct buf *files[ARRAY_LEN(formats) + 3];
	struct buf flat = kimage_multiboot_flat();
	unsigned n = 0;
	u64 rnd = 1;

	for (unsigned i = 0; i < ARRAY_LEN(formats); i++) {
		struct buf packed = kimage_pack(formats[i], &elf);

		bz[i] = kimage_bzimage(&packed);
		buf_fini(&packed);
		files[n++] = &bz[i];
	}
	files[n++] = &elf;
	files[n++] = &bare;
	files[n++] = &flat;
	for (unsigned round = 0; round < 4000; round++) {
		struct buf *b = files[round % n];
		u8 *copy = malloc(b->len);
		struct kernel_image *k = NULL;

		memcpy(copy, b->data, b->len);
		for (unsigned i = 0; i < 1 + round % 7; i++) {
			rnd = rnd * 6364136223846793005u + 1442695040888963407u;
			/* Mostly in the headers, where it matters. */
			copy[(rnd >> 33) % (round & 1 ? b->len : MIN(b->len, (size_t)0x290))] =
				(u8)(rnd >> 24);
		}
		if (!kernel_image_parse(copy, b->len, "k", round & 8, NULL, &k)) {
			const u8 *base = k->out ? k->out : copy;
			size_t len = k->out ? k->nout : b->len;

			for (unsigned i = 0; i < k->nseg; i++) {
				assert_true(k->seg[i].data >= base);
				assert_true(k->seg[i].data + k->seg[i].filesz <= base + len);
				assert_true(k->seg[i].gpa + k->seg[i].memsz <= KERNEL_GPA_END);
			}
			assert_true(k->setup_len <= KERNEL_SETUP_MAX);
			kernel_image_free(k);
		}
		free(copy);
	}
	for (unsigned i = 0; i < n; i++)
		buf_fini(files[i]);
}

static void files_that_cannot_be_read(void **state)
{
	static const struct {
		const char *path;
		int code;
		const char *part;
	} cases[] = {
		{ "/nonexistent/kernel", -ENOENT, "No such file" },
		{ "/", -EISDIR, "directory" },
		{ "/dev/null", -ENOEXEC, "regular file" },
		{ "/proc/self/cmdline", -ENOEXEC, "not a kernel" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct kernel_image *k = NULL;
		struct err e = { 0 };

		assert_int_equal(kernel_image_open(cases[i].path, &e, &k), cases[i].code);
		assert_non_null(strstr(e.msg, cases[i].path));
		assert_non_null(strstr(e.msg, cases[i].part));
	}
}

/* What a running guest does not need, and a reset does: the same again, or an error. */
static void put_away_and_taken_out(void **state)
{
	struct buf elf = kimage_elf(KIMAGE_LINUX), bz = kimage_bzimage(&elf);
	const struct buf *files[] = { &elf, &bz };

	for (unsigned i = 0; i < ARRAY_LEN(files); i++) {
		char path[] = "/tmp/orrery-test-kernel-XXXXXX";
		int fd = mkstemp(path);
		struct kernel_image *k = NULL;
		struct err e = { 0 };
		u8 *copy;

		assert_true(fd >= 0);
		assert_int_equal(write(fd, files[i]->data, files[i]->len), files[i]->len);
		assert_int_equal(kernel_image_open(path, &e, &k), 0);
		assert_int_equal(unlink(path), 0);
		assert_true(k->nseg > 0 && k->seg[0].filesz > 0);
		copy = malloc(k->seg[0].filesz);
		memcpy(copy, k->seg[0].data, k->seg[0].filesz);
		assert_int_equal(kernel_image_take_out(k, &e), 0);
		for (unsigned round = 0; round < 2; round++) {
			kernel_image_put_away(k);
			kernel_image_put_away(k);
			assert_null(k->seg[0].data);
			assert_null(k->file);
			assert_null(k->out);
			assert_int_equal(kernel_image_take_out(k, &e), 0);
			assert_memory_equal(k->seg[0].data, copy, k->seg[0].filesz);
		}
		kernel_image_put_away(k);
		assert_int_equal(ftruncate(fd, 100), 0);
		assert_true(kernel_image_take_out(k, &e) < 0);
		assert_true(e.msg[0] != 0);
		assert_null(k->file);
		kernel_image_free(k);
		close(fd);
		free(copy);
	}
	buf_fini(&bz);
	buf_fini(&elf);
}

/* The unpacked kernel beside a file is used as long as it is that file's. */
static void unpacked_is_kept(void **state)
{
	struct buf elf = kimage_elf(KIMAGE_LINUX), packed = kimage_pack(PAYLOAD_LZ4, &elf);
	struct buf bz = kimage_bzimage(&packed);
	char dir[] = "/tmp/orrery-test-kernel-XXXXXX", path[64], kept[64];
	static const u8 damage[16];
	struct kernel_image *k = NULL;
	struct timespec then[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	struct err e = { 0 };
	struct stat st;
	u8 *copy;
	int fd;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/image", dir);
	snprintf(kept, sizeof(kept), "%s/unpacked", dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, bz.data, bz.len), bz.len);
	close(fd);

	assert_int_equal(kernel_image_open_kept(path, kept, &e, &k), 0);
	assert_false(k->out_mapped);
	copy = malloc(k->seg[0].filesz);
	memcpy(copy, k->seg[0].data, k->seg[0].filesz);
	kernel_image_free(k);

	assert_int_equal(kernel_image_open_kept(path, kept, &e, &k), 0);
	assert_true(k->out_mapped && k->unpacked);
	assert_memory_equal(k->seg[0].data, copy, k->seg[0].filesz);
	unlink(kept); /* a guest that runs keeps what it was started from */
	kernel_image_put_away(k);
	assert_int_equal(kernel_image_take_out(k, &e), 0);
	assert_true(k->out_mapped);
	assert_memory_equal(k->seg[0].data, copy, k->seg[0].filesz);
	kernel_image_free(k);

	/* Of another file by now. */
	assert_int_equal(kernel_image_open_kept(path, kept, &e, &k), 0);
	kernel_image_free(k);
	assert_int_equal(utimensat(AT_FDCWD, path, then, 0), 0);
	assert_int_equal(kernel_image_open_kept(path, kept, &e, &k), 0);
	assert_false(k->out_mapped);
	kernel_image_free(k);
	assert_int_equal(stat(kept, &st), 0);
	assert_int_equal(st.st_mtim.tv_sec, 1);

	/* Shorter than it was; and no ELF file any more, although as old and long. */
	assert_int_equal(truncate(kept, st.st_size - 1), 0);
	assert_int_equal(utimensat(AT_FDCWD, kept, then, 0), 0);
	assert_int_equal(kernel_image_open_kept(path, kept, &e, &k), 0);
	assert_false(k->out_mapped);
	kernel_image_free(k);
	fd = open(kept, O_WRONLY);
	assert_int_equal(pwrite(fd, damage, sizeof(damage), 0), sizeof(damage));
	assert_int_equal(futimens(fd, then), 0);
	close(fd);
	assert_int_equal(kernel_image_open_kept(path, kept, &e, &k), 0);
	assert_false(k->out_mapped);
	assert_memory_equal(k->seg[0].data, copy, k->seg[0].filesz);
	kernel_image_free(k);

	free(copy);
	buf_fini(&bz);
	buf_fini(&packed);
	buf_fini(&elf);
	assert_int_equal(path_remove_tree(dir), 0);
}

static void cached_kernels_parse(void **state)
{
	struct kcache_list l = { 0 };
	struct err e = { 0 };

	assert_int_equal(kcache_list(&e, &l), 0);
	if (!l.n) {
		print_message(
			"skipped: no kernel is cached; `orrery kernel fetch debian` gets one\n");
		skip();
	}
	for (unsigned i = 0; i < l.n; i++) {
		struct kcache_kernel f = { 0 };
		struct kernel_image *k = NULL;

		assert_int_equal(kcache_resolve(l.entry[i].release, NULL, &e, &f), 0);
		if (kernel_image_open(f.image, &e, &k) < 0)
			fail_msg("%s", e.msg);
		assert_true(k->unpacked);
		assert_int_equal(strncmp(k->version, f.release, strlen(f.release)), 0);
		assert_true(k->nseg >= 2 && k->nout > 16 << 20);
		kernel_image_free(k);
		kcache_kernel_fini(&f);
	}
	kcache_list_fini(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bzimage_unpacks),
		cmocka_unit_test(large_payload_unpacks),
		cmocka_unit_test(bzimage_falls_back),
		cmocka_unit_test(bzimage_refused),
		cmocka_unit_test(vmlinux_boots_as_linux),
		cmocka_unit_test(bare_metal_boots),
		cmocka_unit_test(elf_refused),
		cmocka_unit_test(others_are_recognized),
		cmocka_unit_test(truncated_is_refused),
		cmocka_unit_test(damaged_is_contained),
		cmocka_unit_test(files_that_cannot_be_read),
		cmocka_unit_test(put_away_and_taken_out),
		cmocka_unit_test(unpacked_is_kept),
		cmocka_unit_test(cached_kernels_parse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
