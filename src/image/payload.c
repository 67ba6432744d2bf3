/* SPDX-License-Identifier: Apache-2.0 */
/*
 * payload.c - unpacks the compressed kernel inside a bzImage
 *
 * How it works
 * A bzImage carries an ELF kernel, compressed as a whole, and its own loader that would unpack it
 * inside the guest (Linux Documentation/arch/x86/boot.rst, payload_offset). Unpacking on the host
 * runs at native speed. The kernel's build appends the unpacked size, 32 bits little endian, to
 * every format that does not end with it anyway (scripts/Makefile.lib, size_append); so one
 * allocation of that size is made, and a stream that yields more or less is damaged. The size is
 * the file's claim: it is bounded by the caller, and pages that stay unwritten cost nothing.
 */
#include "image/payload.h"

#include <errno.h>
#include <limits.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define LZMA_MEMLIMIT (512ull << 20) /* xz -9 needs 65 MiB, the kernel's choice up to 130 */
#define LZ4_LEGACY_MAGIC 0x184c2102u
#define LZ4_LEGACY_BLOCK (8u << 20) /* unpacked bytes of every block but the last */

/*
 * The functions below unpack at most *len bytes to @out and set *len to what came out. They return
 * 0, -EINVAL or -ENOMEM, on failure with a static string in *why.
 */
static int payload_gzip(const u8 *p, size_t plen, u8 *out, size_t *len, const char **why)
{
	z_stream z = { 0 };
	int r;

	/* 31: a gzip wrapper, largest window. */
	if (inflateInit2(&z, 31) != Z_OK)
		return -ENOMEM;
	z.next_in = (u8 *)p;
	z.avail_in = (uInt)plen;
	z.next_out = out;
	z.avail_out = (uInt)*len;
	r = inflate(&z, Z_FINISH);
	*len = z.total_out;
	/* inflateEnd frees what msg may point to, but the messages themselves are static. */
	*why = z.msg ? z.msg : "unexpected end";
	inflateEnd(&z);
	if (r == Z_STREAM_END)
		return 0;
	return r == Z_MEM_ERROR ? -ENOMEM : -EINVAL;
}

static int payload_lzma(const u8 *p, size_t plen, u8 *out, size_t *len, const char **why)
{
	lzma_stream s = LZMA_STREAM_INIT;
	lzma_ret r;

	/* Both the .xz container (with the x86 filter the kernel uses) and the old .lzma. */
	r = lzma_auto_decoder(&s, LZMA_MEMLIMIT, 0);
	if (r == LZMA_OK) {
		s.next_in = p;
		s.avail_in = plen;
		s.next_out = out;
		s.avail_out = *len;
		do
			r = lzma_code(&s, LZMA_RUN);
		while (r == LZMA_OK && s.avail_in && s.avail_out);
		/*
		 * An .lzma end marker, or the index and footer of an .xz, follow the last byte of
		 * data: with the output full there may be input left to take.
		 */
		if (r == LZMA_OK)
			r = lzma_code(&s, LZMA_RUN);
		*len = s.total_out;
		lzma_end(&s);
	}
	if (r == LZMA_STREAM_END)
		return 0;
	*why = r == LZMA_OPTIONS_ERROR	  ? "it uses an unsupported filter"
	       : r == LZMA_MEMLIMIT_ERROR ? "its dictionary is too large"
					  : "corrupt data";
	return r == LZMA_MEM_ERROR ? -ENOMEM : -EINVAL;
}

static int payload_zstd(const u8 *p, size_t plen, u8 *out, size_t *len, const char **why)
{
	size_t n = ZSTD_findFrameCompressedSize(p, plen), r;

	if (ZSTD_isError(n)) {
		*why = ZSTD_getErrorName(n);
		return -EINVAL;
	}
	/* In one call, so that the output is the window and nothing else is allocated. */
	r = ZSTD_decompress(out, *len, p, n);
	if (ZSTD_isError(r)) {
		*why = ZSTD_getErrorName(r);
		return -EINVAL;
	}
	*len = r;
	return 0;
}

static u32 payload_le32(const u8 *p)
{
	return p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24;
}

/* LZ4 legacy frame: magic, then blocks of {u32 packed size, bytes}, until the data end. */
static int payload_lz4(const u8 *p, size_t plen, u8 *out, size_t *len, const char **why)
{
	size_t in = 4, done = 0, max = *len;

	*why = "corrupt block";
	while (plen - in > 4 && done < max) {
		u32 n = payload_le32(p + in);
		int r;

		in += 4;
		if (n == LZ4_LEGACY_MAGIC) /* frames may be concatenated */
			continue;
		if (!n || n > plen - in || n > (u32)LZ4_compressBound(LZ4_LEGACY_BLOCK))
			return -EINVAL;
		r = LZ4_decompress_safe((const char *)p + in, (char *)out + done, (int)n,
					(int)MIN(max - done, (size_t)LZ4_LEGACY_BLOCK));
		if (r <= 0)
			return -EINVAL;
		done += (size_t)r;
		in += n;
	}
	*len = done;
	return 0;
}

static const struct {
	const char *name;
	/* NULL: not unpacked here */
	int (*fn)(const u8 *p, size_t plen, u8 *out, size_t *len, const char **why);
	u8 magic[6];
	u8 nmagic; /* 0: never detected by a magic */
} payload_formats[] = {
	/* clang-format off */
	[PAYLOAD_UNKNOWN] = { "unknown", NULL, { 0 }, 0 },
	[PAYLOAD_NONE] = { "none", NULL, { 0x7f, 'E', 'L', 'F' }, 4 },
	[PAYLOAD_GZIP] = { "gzip", payload_gzip, { 0x1f, 0x8b }, 2 },
	[PAYLOAD_XZ] = { "xz", payload_lzma, { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6 },
	[PAYLOAD_ZSTD] = { "zstd", payload_zstd, { 0x28, 0xb5, 0x2f, 0xfd }, 4 },
	[PAYLOAD_LZ4] = { "lz4", payload_lz4, { 0x02, 0x21, 0x4c, 0x18 }, 4 },
	[PAYLOAD_LZMA] = { "lzma", payload_lzma, { 0x5d, 0, 0 }, 3 },
	[PAYLOAD_BZIP2] = { "bzip2", NULL, { 'B', 'Z', 'h' }, 3 },
	[PAYLOAD_LZO] = { "lzo", NULL, { 0x89, 'L', 'Z', 'O' }, 4 },
	/* clang-format on */
};

enum payload_format payload_detect(const u8 *p, size_t len)
{
	for (unsigned i = 1; i < ARRAY_LEN(payload_formats); i++) {
		unsigned n = payload_formats[i].nmagic;

		if (len >= n && !memcmp(p, payload_formats[i].magic, n))
			return i;
	}
	return PAYLOAD_UNKNOWN;
}

const char *payload_name(enum payload_format f)
{
	return payload_formats[f].name;
}

bool payload_can_unpack(enum payload_format f)
{
	return payload_formats[f].fn != NULL;
}

size_t payload_size(const u8 *p, size_t len)
{
	return len < 16 ? 0 : payload_le32(p + len - 4);
}

int payload_unpack(enum payload_format f, const u8 *p, size_t len, size_t max, struct err *e,
		   u8 **ret_data, size_t *ret_len)
{
	const char *name = payload_name(f), *why = "corrupt data";
	size_t size, n;
	u8 *out;
	int r;

	BUG_IF(!payload_can_unpack(f));
	if (len < 16 || len > INT_MAX)
		return err_set(e, -EINVAL, "the %s payload has an impossible length, %zu bytes",
			       name, len);
	size = payload_size(p, len);
	if (size > max || size > INT_MAX)
		return err_set(e, -EFBIG,
			       "the %s payload claims to unpack to %zu MiB, the limit "
			       "is %zu MiB",
			       name, size >> 20, max >> 20);
	if (!size)
		return err_set(e, -EINVAL, "the %s payload claims to be empty", name);
	out = malloc(size);
	if (!out)
		return err_set(e, -ENOMEM, "no memory to unpack the %s payload (%zu MiB)", name,
			       size >> 20);
	n = size;
	/* zlib counts in 32 bits; len and size were bounded above. */
	r = payload_formats[f].fn(p, len, out, &n, &why);
	if (!r && n != size) {
		r = -EINVAL;
		why = "its length differs from the recorded one";
	}
	if (r < 0) {
		free(out);
		if (r == -ENOMEM)
			return err_set(e, r, "no memory to unpack the %s payload", name);
		return err_set(e, r, "the %s payload is damaged (%s)", name, why);
	}
	*ret_data = out;
	*ret_len = size;
	return 0;
}
