/* SPDX-License-Identifier: Apache-2.0 */
/*
 * symbols.c - names of code addresses, from a list as nm(1) prints it
 *
 * How it works
 * Names are in one string, one behind the other; entries hold their offsets in it, since it moves while
 * it grows. They are sorted once. Where several symbols share an address the first in the file counts.
 */
#include "base/symbols.h"

#include "base/buf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_LEN 127
#define FAR (1ull << 20)

struct entry {
	u64 addr;
	u64 name; /* offset */
};

struct symbols {
	struct buf names, list; /* of NUL-terminated names; of struct entry */
	size_t n;
};

static int by_addr(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->addr != y->addr)
		return x->addr < y->addr ? -1 : 1;
	return x->name < y->name ? -1 : 1;
}

static int add_line(struct symbols *s, const char *line)
{
	char name[NAME_MAX_LEN + 1], type;
	struct entry e;
	int r;

	if (sscanf(line, "%" SCNx64 " %c %127s", &e.addr, &type, name) != 3 || !e.addr ||
	    !strchr("tTwWi", type)) /* 0: what an unprivileged reader of kallsyms sees */
		return 0;
	e.name = s->names.len;
	r = buf_add(&s->names, name, strlen(name) + 1);
	if (r == 0)
		r = buf_add(&s->list, &e, sizeof(e));
	if (r == 0)
		s->n++;
	return r;
}

int symbols_load(const char *path, struct err *e, struct symbols **ret)
{
	struct symbols *s = calloc(1, sizeof(*s));
	FILE *f = fopen(path, "re");
	size_t room = 0;
	char *line = NULL;
	int r = 0;

	if (!s || !f) {
		r = s ? err_sys(e, -errno, "%s", path) : err_set(e, -ENOMEM, "out of memory");
		goto out;
	}
	while (r == 0 && getline(&line, &room, f) >= 0)
		r = add_line(s, line);
	if (r < 0)
		err_sys(e, r, "%s", path);
	else if (ferror(f))
		r = err_set(e, -EIO, "%s: cannot be read", path);
	else if (!s->n)
		r = err_set(
			e, -EINVAL,
			"%s: no line like \"ffffffff81000000 T name\"; make one with nm, or with "
			"'cat /proc/kallsyms' in the guest",
			path);
	if (r < 0)
		goto out;
	qsort(s->list.data, s->n, sizeof(struct entry), by_addr);
	*ret = s;
	s = NULL;
out:
	free(line);
	if (f)
		fclose(f);
	symbols_free(s);
	return r;
}

void symbols_free(struct symbols *s)
{
	if (!s)
		return;
	buf_fini(&s->names);
	buf_fini(&s->list);
	free(s);
}

const char *symbols_find(const struct symbols *s, u64 addr, u64 *ret_off)
{
	const struct entry *e = s ? (const void *)s->list.data : NULL;
	size_t from = 0, to = s ? s->n : 0;

	/* Entries before `from` are at or below @addr, those from `to` on are above. */
	while (from < to) {
		size_t mid = from + (to - from) / 2;
		if (e[mid].addr <= addr)
			from = mid + 1;
		else
			to = mid;
	}
	if (!from || addr - e[from - 1].addr >= FAR)
		return NULL;
	while (from > 1 && e[from - 2].addr == e[from - 1].addr)
		from--;
	*ret_off = addr - e[from - 1].addr;
	return (const char *)s->names.data + e[from - 1].name;
}
