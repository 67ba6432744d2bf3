// SPDX-License-Identifier: Apache-2.0
/*
 * ldcache.c - reads glibc's /etc/ld.so.cache
 *
 * How it works
 * The format (glibc's sysdeps/generic/dl-cache.h) has no document of its own:
 *
 *	header  48 bytes: "glibc-ld.so.cache" "1.1", u32 nlibs, u32 len_strings, u8 flags, ...
 *	entry   24 bytes: s32 flags, u32 key, u32 value, u32 osversion, u64 hwcap
 *
 * key and value are offsets of NUL-terminated strings from the start of the header. A file made
 * for old readers too begins with "ld.so-1.7.0", a u32 count at 12 and 12-byte entries; the new
 * header follows at the next multiple of 8. Numbers are in host order.
 */
#include "image/ldcache.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define NEW_MAGIC "glibc-ld.so.cache1.1"
#define OLD_MAGIC "ld.so-1.7.0"
#define HEAD_LEN 48u
#define ENTRY_LEN 24u
#define OLD_HEAD_LEN 16u
#define OLD_ENTRY_LEN 12u
#define CACHE_MAX (64u << 20)

static u32 get32(const u8 *p)
{
	u32 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* Finds the header; leaves the cache empty if the file is not one we know. */
static void locate(struct ldcache *c)
{
	const u8 *d = c->raw.data;
	size_t len = c->raw.len, off = 0;

	if (len >= OLD_HEAD_LEN && !memcmp(d, OLD_MAGIC, sizeof(OLD_MAGIC) - 1))
		off = ALIGN_UP(OLD_HEAD_LEN + (size_t)get32(d + 12) * OLD_ENTRY_LEN, 8ul);
	if (len < off || len - off < HEAD_LEN ||
	    memcmp(d + off, NEW_MAGIC, sizeof(NEW_MAGIC) - 1) != 0)
		return;
	c->head = d + off;
	c->len = len - off;
	c->n = (u32)MIN((size_t)get32(c->head + 20), (c->len - HEAD_LEN) / ENTRY_LEN);
}

int ldcache_open(struct ldcache *c, const char *file)
{
	int fd, ret;

	*c = (struct ldcache){ 0 };
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ret = buf_read_fd(&c->raw, fd, CACHE_MAX);
	close(fd);
	if (!ret)
		locate(c);
	return ret == -ENOMEM ? ret : 0;
}

void ldcache_close(struct ldcache *c)
{
	buf_fini(&c->raw);
	*c = (struct ldcache){ 0 };
}

static const char *string_at(const struct ldcache *c, u32 off)
{
	if (off >= c->len || !memchr(c->head + off, 0, c->len - off))
		return NULL;
	return (const char *)c->head + off;
}

const char *ldcache_next(const struct ldcache *c, const char *name, u32 *pos)
{
	while (*pos < c->n) {
		const u8 *entry = c->head + HEAD_LEN + (size_t)(*pos)++ * ENTRY_LEN;
		const char *key = string_at(c, get32(entry + 4));
		const char *value = string_at(c, get32(entry + 8));

		if (key && value && !get32(entry + 16) && !get32(entry + 20) && !strcmp(key, name))
			return value;
	}
	return NULL;
}
