/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kimage.c - builds small kernel files of every format for tests
 */
#include "kimage.h"

#include <elf.h>
#include <lz4.h>
#include <lz4hc.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define BASE 0x1000000ull
#define FILE_OFF 0x1000u
#define FILE_LEN 0x2000u

static void add(struct buf *b, const void *p, size_t n)
{
	BUG_IF(buf_add(b, p, n) < 0);
}

void kimage_put(struct buf *b, size_t off, u64 val, unsigned bytes)
{
	BUG_IF(off + bytes > b->len);
	for (unsigned i = 0; i < bytes; i++)
		b->data[off + i] = (u8)(val >> 8 * i);
}

static void add_note(struct buf *b, const char *owner, u32 type, u64 desc)
{
	u32 head[3] = { (u32)strlen(owner) + 1, 8, type };

	add(b, head, sizeof(head));
	add(b, owner, head[0]);
	BUG_IF(buf_pad(b, 4) < 0);
	add(b, &desc, 8);
}

static void put_phdr(struct buf *b, unsigned i, bool is32, const Elf64_Phdr *h)
{
	if (is32) {
		Elf32_Phdr s = { .p_type = h->p_type,
				 .p_offset = (u32)h->p_offset,
				 .p_vaddr = (u32)h->p_vaddr,
				 .p_paddr = (u32)h->p_paddr,
				 .p_filesz = (u32)h->p_filesz,
				 .p_memsz = (u32)h->p_memsz,
				 .p_align = 4 };

		memcpy(b->data + sizeof(Elf32_Ehdr) + i * sizeof(s), &s, sizeof(s));
	} else {
		memcpy(b->data + sizeof(Elf64_Ehdr) + i * sizeof(*h), h, sizeof(*h));
	}
}

static void put_ehdr(struct buf *b, bool is32, u64 entry)
{
	Elf64_Ehdr h = { .e_ident = "\177ELF\2\1\1",
			 .e_type = ET_EXEC,
			 .e_machine = EM_X86_64,
			 .e_version = 1,
			 .e_entry = entry,
			 .e_phoff = sizeof(h),
			 .e_ehsize = sizeof(h),
			 .e_phentsize = sizeof(Elf64_Phdr),
			 .e_phnum = 2 };
	Elf32_Ehdr s = { .e_ident = "\177ELF\1\1\1",
			 .e_type = ET_EXEC,
			 .e_machine = EM_386,
			 .e_version = 1,
			 .e_entry = (u32)entry,
			 .e_phoff = sizeof(s),
			 .e_ehsize = sizeof(s),
			 .e_phentsize = sizeof(Elf32_Phdr),
			 .e_phnum = 2 };

	if (is32)
		memcpy(b->data, &s, sizeof(s));
	else
		memcpy(b->data, &h, sizeof(h));
}

struct buf kimage_elf(unsigned flags)
{
	static const char banner[] = "Linux version %s\0Linux version 6.99.1-test (me@here) #1\n";
	bool is32 = flags & KIMAGE_ELF32;
	u64 virt = is32 ? 0xc0000000 : 0xffffffff80000000;
	u64 entry = BASE + 0x10 + (flags & KIMAGE_HIGH ? virt : 0);
	Elf64_Phdr load = { .p_type = PT_LOAD,
			    .p_offset = FILE_OFF,
			    .p_vaddr = virt + BASE,
			    .p_paddr = BASE,
			    .p_filesz = FILE_LEN,
			    .p_memsz = FILE_LEN + 0x1000,
			    .p_align = 0x1000 };
	Elf64_Phdr note = { .p_type = PT_NOTE, .p_offset = FILE_OFF + FILE_LEN, .p_align = 4 };
	struct buf b = { 0 };

	add(&b, NULL, FILE_OFF + FILE_LEN);
	put_ehdr(&b, is32, entry);
	if (flags & KIMAGE_MULTIBOOT) {
		kimage_put(&b, 0x200, 0x1badb002, 4);
		kimage_put(&b, 0x204, 3, 4);
		kimage_put(&b, 0x208, -(0x1badb002u + 3), 4);
	}
	memset(b.data + FILE_OFF, 0xf4, 64);
	/* Something to compress, and to tell one place from another. */
	for (unsigned i = 0x400; i < FILE_LEN; i += 4)
		kimage_put(&b, FILE_OFF + i, (i * 2654435761u) >> 12, 4);
	if (flags & KIMAGE_LINUX)
		memcpy(b.data + FILE_OFF + 0x100, banner, sizeof(banner));
	add_note(&b, "GNU", 3, 1);
	if (flags & KIMAGE_LINUX_NOTE)
		add_note(&b, "Linux", 0x100, 0);
	if (flags & KIMAGE_PVH)
		add_note(&b, "Xen", 18, BASE + 0x40);
	note.p_filesz = note.p_memsz = b.len - note.p_offset;
	put_phdr(&b, 0, is32, &load);
	put_phdr(&b, 1, is32, &note);
	return b;
}

struct buf kimage_multiboot_flat(void)
{
	static const u32 head[] = { 0x1badb002, 0x10003,  -(0x1badb002u + 0x10003),
				    0x100008,	0x100000, 0x100100,
				    0x104000,	0x100040 };
	struct buf b = { 0 };

	add(&b, "garbage before..", 16); /* not loaded */
	add(&b, NULL, 8);
	add(&b, head, sizeof(head));
	add(&b, NULL, 0x100 - 8 - sizeof(head));
	memset(b.data + 16 + 0x40, 0xf4, 16);
	return b;
}

static void pack_xz(const struct buf *in, struct buf *out)
{
	lzma_options_lzma lz;
	lzma_filter chain[] = { { LZMA_FILTER_X86, NULL },
				{ LZMA_FILTER_LZMA2, &lz },
				{ LZMA_VLI_UNKNOWN, NULL } };
	size_t pos = 0;

	BUG_IF(lzma_lzma_preset(&lz, 6));
	BUG_IF(lzma_stream_buffer_encode(chain, LZMA_CHECK_CRC32, NULL, in->data, in->len,
					 out->data, &pos, out->cap) != LZMA_OK);
	out->len = pos;
}

static void pack_lzma(const struct buf *in, struct buf *out)
{
	lzma_stream s = LZMA_STREAM_INIT;
	lzma_options_lzma lz;

	BUG_IF(lzma_lzma_preset(&lz, 6));
	BUG_IF(lzma_alone_encoder(&s, &lz) != LZMA_OK);
	s.next_in = in->data;
	s.avail_in = in->len;
	s.next_out = out->data;
	s.avail_out = out->cap;
	BUG_IF(lzma_code(&s, LZMA_FINISH) != LZMA_STREAM_END);
	out->len = s.total_out;
	lzma_end(&s);
}

static void pack_gzip(const struct buf *in, struct buf *out)
{
	z_stream z = { .next_in = in->data,
		       .avail_in = (uInt)in->len,
		       .next_out = out->data,
		       .avail_out = (uInt)out->cap };

	BUG_IF(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) != Z_OK);
	BUG_IF(deflate(&z, Z_FINISH) != Z_STREAM_END);
	out->len = z.total_out;
	deflateEnd(&z);
}

static void pack_lz4(const struct buf *in, struct buf *out)
{
	const size_t block = 8u << 20;

	add(out, "\x02\x21\x4c\x18", 4);
	for (size_t at = 0; at < in->len; at += block) {
		size_t mark = out->len, n = MIN(in->len - at, block);
		int r;

		add(out, NULL, 4);
		BUG_IF(buf_reserve(out, (size_t)LZ4_compressBound((int)n)) < 0);
		r = LZ4_compress_HC((char *)in->data + at, (char *)out->data + out->len, (int)n,
				    (int)(out->cap - out->len), 9);
		BUG_IF(r <= 0);
		out->len += (size_t)r;
		kimage_put(out, mark, (u64)r, 4);
	}
}

struct buf kimage_pack(enum payload_format f, const struct buf *b)
{
	struct buf out = { 0 };
	u32 size = (u32)b->len;

	BUG_IF(buf_reserve(&out, b->len * 2 + 4096) < 0);
	switch (f) {
	case PAYLOAD_GZIP:
		pack_gzip(b, &out);
		return out; /* ends with its size by nature */
	case PAYLOAD_XZ:
		pack_xz(b, &out);
		break;
	case PAYLOAD_LZMA:
		pack_lzma(b, &out);
		break;
	case PAYLOAD_ZSTD:
		out.len = ZSTD_compress(out.data, out.cap, b->data, b->len, 19);
		BUG_IF(ZSTD_isError(out.len));
		break;
	case PAYLOAD_LZ4:
		pack_lz4(b, &out);
		break;
	default:
		add(&out, b->data, b->len);
		return out;
	}
	add(&out, &size, 4);
	return out;
}

struct buf kimage_bzimage(const struct buf *payload)
{
	const unsigned setup = 3 * 512, stub = 0x2cc;
	struct buf b = { 0 };

	add(&b, NULL, setup + stub);
	memset(b.data + setup + 0x200, 0xf4, 16); /* the 64-bit entry */
	add(&b, payload->data, payload->len);
	BUG_IF(buf_pad(&b, 16) < 0);
	kimage_put(&b, 0x1f1, 2, 1);
	kimage_put(&b, 0x1f4, (b.len - setup) / 16, 4);
	kimage_put(&b, 0x1fe, 0xaa55, 2);
	kimage_put(&b, 0x200, 0x6aeb, 2);
	memcpy(b.data + 0x202, "HdrS", 4);
	kimage_put(&b, 0x206, 0x20f, 2);
	kimage_put(&b, 0x20e, 0x400 - 0x200, 2);
	memcpy(b.data + 0x400, "6.99.1-test (me@here) #1 SMP", 29);
	kimage_put(&b, 0x211, 1, 1);
	kimage_put(&b, 0x22c, 0x7fffffff, 4);
	kimage_put(&b, 0x230, 0x200000, 4);
	kimage_put(&b, 0x234, 1, 1);
	kimage_put(&b, 0x236, 0x7f, 2);
	kimage_put(&b, 0x238, 2047, 4);
	kimage_put(&b, 0x248, stub, 4);
	kimage_put(&b, 0x24c, payload->len, 4);
	kimage_put(&b, 0x258, BASE, 8);
	kimage_put(&b, 0x260, 0x100000, 4);
	return b;
}
