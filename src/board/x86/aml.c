/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aml.c - a small encoder of ACPI machine language
 *
 * How it works
 * Code is appended in order. A block's PkgLength (ACPI 6.3, 20.2.4) precedes its contents and has
 * 1 to 4 bytes that count themselves, so it is not known until the block ends: then room is made
 * at the mark and the contents move up. Tables are a few KiB; the moves cost nothing that matters.
 */
#include "board/x86/aml.h"

#include <errno.h>
#include <string.h>

enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_DUAL_NAME = 0x2e,
	OP_EXT = 0x5b,
	OP_EXT_DEVICE = 0x82,
	OP_NOTIFY = 0x86,
};

static void put(struct aml *a, const void *p, size_t n)
{
	if (a->rc == 0)
		a->rc = buf_add(a->out, p, n);
}

static void put_byte(struct aml *a, u8 v)
{
	put(a, &v, 1);
}

/* Little-endian, as every host this runs on. */
static void put_le(struct aml *a, u64 v, unsigned n)
{
	put(a, &v, n);
}

static void put_seg(struct aml *a, const char *name, size_t n)
{
	char seg[4] = { '_', '_', '_', '_' };

	if (n == 0 || n > 4) {
		a->rc = a->rc ? a->rc : -EINVAL;
		return;
	}
	memcpy(seg, name, n);
	put(a, seg, 4);
}

/* A name of one or two segments, with an optional root prefix (20.2.2). */
static void put_path(struct aml *a, const char *path)
{
	const char *dot = strchr(path, '.');

	if (*path == '\\')
		put_byte(a, (u8)*path++);
	if (!dot) {
		put_seg(a, path, strlen(path));
		return;
	}
	put_byte(a, OP_DUAL_NAME);
	put_seg(a, path, (size_t)(dot - path));
	put_seg(a, dot + 1, strlen(dot + 1));
}

static void put_int(struct aml *a, u64 v)
{
	if (v <= 1) {
		put_byte(a, v ? OP_ONE : OP_ZERO);
	} else if (v <= UINT8_MAX) {
		put_byte(a, OP_BYTE);
		put_le(a, v, 1);
	} else if (v <= UINT16_MAX) {
		put_byte(a, OP_WORD);
		put_le(a, v, 2);
	} else if (v <= UINT32_MAX) {
		put_byte(a, OP_DWORD);
		put_le(a, v, 4);
	} else {
		put_byte(a, OP_QWORD);
		put_le(a, v, 8);
	}
}

/* Inserts @n bytes at @at. */
static void insert(struct aml *a, size_t at, const u8 *p, size_t n)
{
	if (a->rc)
		return;
	a->rc = buf_add(a->out, NULL, n);
	if (a->rc)
		return;
	memmove(a->out->data + at + n, a->out->data + at, a->out->len - n - at);
	memcpy(a->out->data + at, p, n);
}

/* Puts the PkgLength of everything from @mark on in front of it. */
void aml_end(struct aml *a, size_t mark)
{
	u8 enc[4];
	size_t len = a->rc ? 0 : a->out->len - mark;
	size_t n = len + 1 < 0x40 ? 1 : len + 2 < 0x1000 ? 2 : len + 3 < 0x100000 ? 3 : 4;

	len += n;
	if (len >= 0x10000000) {
		a->rc = a->rc ? a->rc : -EINVAL;
		return;
	}
	if (n == 1) {
		enc[0] = (u8)len;
	} else {
		enc[0] = (u8)((n - 1) << 6 | (len & 0xf));
		for (size_t i = 1; i < n; i++)
			enc[i] = (u8)(len >> (4 + 8 * (i - 1)));
	}
	insert(a, mark, enc, n);
}

size_t aml_scope_begin(struct aml *a, const char *path)
{
	size_t mark;

	put_byte(a, OP_SCOPE);
	mark = a->out->len;
	put_path(a, path);
	return mark;
}

size_t aml_method_begin(struct aml *a, const char *name, unsigned args)
{
	size_t mark;

	put_byte(a, OP_METHOD);
	mark = a->out->len;
	put_path(a, name);
	put_byte(a, (u8)(args & 7)); /* MethodFlags (20.2.5.2): not serialized, level 0 */
	return mark;
}

void aml_notify(struct aml *a, const char *path, u8 value)
{
	put_byte(a, OP_NOTIFY);
	put_path(a, path);
	put_int(a, value);
}

size_t aml_device_begin(struct aml *a, const char *name)
{
	size_t mark;

	put_byte(a, OP_EXT);
	put_byte(a, OP_EXT_DEVICE);
	mark = a->out->len;
	put_path(a, name);
	return mark;
}

size_t aml_crs_begin(struct aml *a)
{
	put_byte(a, OP_NAME);
	put_path(a, "_CRS");
	put_byte(a, OP_BUFFER);
	return a->out->len;
}

void aml_crs_end(struct aml *a, size_t mark)
{
	struct buf size = { 0 };
	struct aml s = { .out = &size };

	/* End tag; a checksum of zero means none (6.4.2.9). */
	put_byte(a, 0x79);
	put_byte(a, 0);
	if (a->rc == 0) {
		put_int(&s, a->out->len - mark);
		a->rc = s.rc;
	}
	if (a->rc == 0)
		insert(a, mark, size.data, size.len);
	buf_fini(&size);
	aml_end(a, mark);
}

void aml_name_int(struct aml *a, const char *name, u64 v)
{
	put_byte(a, OP_NAME);
	put_path(a, name);
	put_int(a, v);
}

void aml_name_string(struct aml *a, const char *name, const char *s)
{
	put_byte(a, OP_NAME);
	put_path(a, name);
	put_byte(a, OP_STRING);
	put(a, s, strlen(s) + 1);
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Three letters of 5 bits and four hex digits, big-endian (19.6.36). */
void aml_name_eisaid(struct aml *a, const char *name, const char *id)
{
	u32 v = 0;
	bool ok = strlen(id) == 7;

	for (unsigned i = 0; ok && i < 7; i++) {
		int d = i < 3 ? id[i] - '@' : hex_digit(id[i]);

		ok = d >= 0 && d < 32;
		v = v << (i < 3 ? 5 : 4) | (u32)(d & 31);
	}
	if (!ok) {
		a->rc = a->rc ? a->rc : -EINVAL;
		return;
	}
	aml_name_int(a, name, __builtin_bswap32(v));
}

void aml_name_package(struct aml *a, const char *name, const u64 *v, unsigned n)
{
	size_t mark;

	if (n > 16) {
		a->rc = a->rc ? a->rc : -EINVAL;
		return;
	}
	put_byte(a, OP_NAME);
	put_path(a, name);
	put_byte(a, OP_PACKAGE);
	mark = a->out->len;
	put_byte(a, (u8)n);
	for (unsigned i = 0; i < n; i++)
		put_int(a, v[i]);
	aml_end(a, mark);
}

/* I/O port descriptor: 16-bit decode, minimum = maximum = @base, alignment 1 (6.4.2.5). */
void aml_res_io(struct aml *a, u16 base, u8 len)
{
	put_byte(a, 0x47);
	put_byte(a, 1);
	put_le(a, base, 2);
	put_le(a, base, 2);
	put_byte(a, 1);
	put_byte(a, len);
}

/* 32-bit fixed memory range, read/write (6.4.3.4). */
void aml_res_mem32(struct aml *a, u32 base, u32 len)
{
	put_byte(a, 0x86);
	put_le(a, 9, 2);
	put_byte(a, 1);
	put_le(a, base, 4);
	put_le(a, len, 4);
}

/* Extended interrupt, consumer, one line (6.4.3.6); bit 1 set is edge-triggered. */
void aml_res_irq(struct aml *a, u32 gsi, bool level)
{
	put_byte(a, 0x89);
	put_le(a, 6, 2);
	put_byte(a, (u8)(1 | (level ? 0 : 2)));
	put_byte(a, 1);
	put_le(a, gsi, 4);
}
