// SPDX-License-Identifier: Apache-2.0
/*
 * modules.c - the kernel modules to load for given names, in load order, decompressed
 *
 * How it works
 * depmod(8) makes modules.dep when a kernel package is installed, and modprobe and libkmod resolve
 * from that; here nothing is installed, so the graph is taken from where depmod takes it too: the
 * "depends=" and "softdep=" strings that the kernel's build puts into each module's .modinfo
 * section. Not through libkmod, whose builds differ in the compressions they read (Debian's has no
 * gzip), and which would unpack a second time what is unpacked here anyway. modules.order, made by
 * the build too, says where a module lies; only if a name is not in it (modules added later) is
 * the directory searched.
 *
 * Depth first, marking a module when it is first met, so that a cycle ends. A soft dependency
 * (modprobe.d(5)) is taken if it exists.
 *
 * The guest gets plain ELF objects: not every kernel decompresses modules
 * (CONFIG_MODULE_DECOMPRESS) and the host does it many times faster than an emulated guest.
 */
#include "image/modules.h"

#include <archive.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <gelf.h>
#include <libelf.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/filters.h"

#define MODULE_MAX (256u << 20) /* bytes, decompressed */
#define LIST_MAX (16u << 20)
#define MODULES_MAX 1024

static const char *const suffixes[] = { "", ".xz", ".zst", ".gz" };

struct resolver {
	const char *dir;
	struct err *e;
	struct buf order, builtin; /* the files, NUL-terminated */
	struct modules out;
	char *met[MODULES_MAX]; /* names already seen */
	size_t n_met;
};

void modules_fini(struct modules *m)
{
	for (size_t i = 0; i < m->n; i++) {
		free(m->mod[i].name);
		free(m->mod[i].file);
		buf_fini(&m->mod[i].data);
	}
	free(m->mod);
	*m = (struct modules){ 0 };
}

/* Whether the file name @file (@n bytes, to the end or a suffix) is the module @name. */
static bool is_module(const char *file, size_t n, const char *name)
{
	const char *base = memrchr(file, '/', n);
	size_t len = strlen(name);

	base = base ? base + 1 : file;
	n -= (size_t)(base - file);
	if (n < len + 3 || memcmp(base + len, ".ko", 3) != 0)
		return false;
	if (n > len + 3 && base[len + 3] != '.')
		return false;
	for (size_t i = 0; i < len; i++)
		if ((base[i] == '-' ? '_' : base[i]) != name[i])
			return false;
	return true;
}

/* The line of @list that names the module, its length in *ret_len, or NULL. */
static const char *find_line(const struct buf *list, const char *name, size_t *ret_len)
{
	for (const char *p = (const char *)list->data; *p;) {
		size_t n = strcspn(p, "\n");

		if (is_module(p, n, name)) {
			*ret_len = n;
			return p;
		}
		p += n + (p[n] != 0);
	}
	return NULL;
}

/* Reads a list file, which may be missing. */
static int read_list(const struct resolver *r, const char *file, struct buf *b)
{
	char path[PATH_MAX];
	int fd, ret = 0;

	snprintf(path, sizeof(path), "%s/%s", r->dir, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		ret = buf_read_fd(b, fd, LIST_MAX);
		close(fd);
	} else if (errno != ENOENT) {
		ret = -errno;
	}
	if (!ret)
		ret = buf_add(b, "", 1);
	return ret ? err_sys(r->e, ret, "cannot read %s", path) : 0;
}

/* Searches the directory tree. The first in name order wins. 1 if found, 0 if not. */
static int search_tree(const struct resolver *r, const char *name, char *path)
{
	char *roots[] = { (char *)r->dir, NULL };
	char best[PATH_MAX] = "";
	FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	FTSENT *ent;

	if (!fts)
		return -errno;
	while ((ent = fts_read(fts)))
		if (ent->fts_info == FTS_F && is_module(ent->fts_path, ent->fts_pathlen, name) &&
		    ent->fts_pathlen < PATH_MAX && (!best[0] || strcmp(ent->fts_path, best) < 0))
			strcpy(best, ent->fts_path);
	fts_close(fts);
	strcpy(path, best);
	return best[0] != 0;
}

/* Finds the module's file on the host. 1 if found (@path, PATH_MAX bytes), 0 if not. */
static int locate(const struct resolver *r, const char *name, char *path)
{
	size_t n;
	const char *line = find_line(&r->order, name, &n);

	for (size_t i = 0; line && i < ARRAY_LEN(suffixes); i++)
		if (snprintf(path, PATH_MAX, "%s/%.*s%s", r->dir, (int)n, line, suffixes[i]) <
			    PATH_MAX &&
		    !access(path, F_OK))
			return 1;
	return search_tree(r, name, path);
}

/* Appends the decompressed contents of @path: libarchive's raw format. */
static int unpack(const char *path, struct err *e, struct buf *b)
{
	struct archive *a = archive_read_new();
	struct archive_entry *entry;
	la_ssize_t n = 0;
	int ret = -ENOMEM;

	if (!a || filters_add(a) < ARCHIVE_WARN ||
	    archive_read_support_format_raw(a) < ARCHIVE_WARN)
		goto out;
	ret = -ENOEXEC;
	if (archive_read_open_filename(a, path, 65536) != ARCHIVE_OK ||
	    archive_read_next_header(a, &entry) != ARCHIVE_OK)
		goto out;
	do {
		ret = buf_reserve(b, 65536);
		if (ret)
			break;
		n = archive_read_data(a, b->data + b->len, b->cap - b->len);
		b->len += n > 0 ? (size_t)n : 0;
	} while (n > 0 && b->len <= MODULE_MAX);
	if (!ret && (n != 0 || b->len < 4 || memcmp(b->data, "\177ELF", 4) != 0))
		ret = -ENOEXEC;
out:
	if (ret == -ENOEXEC)
		err_set(e, ret, "the kernel module %s is damaged%s%s", path,
			a && archive_error_string(a) ? ": " : "",
			a && archive_error_string(a) ? archive_error_string(a) : "");
	else if (ret)
		err_sys(e, ret, "cannot read the kernel module %s", path);
	archive_read_free(a);
	return ret;
}

/* Appends a module. Takes @data, also on failure. */
static int append(struct resolver *r, const char *name, const char *path, struct buf *data)
{
	struct module *more, m = { .data = *data };
	const char *file = path + strlen(r->dir);

	*data = (struct buf){ 0 };
	file += strspn(file, "/");
	m.name = strdup(name);
	m.file = strndup(file, (size_t)(strstr(file, ".ko") - file) + 3);
	more = realloc(r->out.mod, (r->out.n + 1) * sizeof(*more));
	if (more)
		r->out.mod = more;
	if (!m.name || !m.file || !more) {
		free(m.name);
		free(m.file);
		buf_fini(&m.data);
		return -ENOMEM;
	}
	more[r->out.n++] = m;
	return 0;
}

/* Copies section .modinfo (KEY=VALUE strings) of the module @data into @info, with a NUL behind. */
static int read_info(const struct buf *data, struct buf *info)
{
	Elf *elf;
	Elf_Scn *scn = NULL;
	Elf_Data *d = NULL;
	GElf_Shdr sh;
	size_t names;
	int ret = -ENOEXEC;

	elf_version(EV_CURRENT);
	elf = elf_memory((char *)data->data, data->len);
	if (elf && elf_getshdrstrndx(elf, &names) >= 0) {
		while ((scn = elf_nextscn(elf, scn))) {
			const char *name =
				gelf_getshdr(scn, &sh) ? elf_strptr(elf, names, sh.sh_name) : NULL;

			if (name && !strcmp(name, ".modinfo"))
				break;
		}
		d = scn ? elf_getdata(scn, NULL) : NULL;
	}
	if (d && d->d_buf)
		ret = buf_add(info, d->d_buf, d->d_size);
	if (!ret)
		ret = buf_add(info, "", 1);
	elf_end(elf);
	return ret;
}

static int resolve(struct resolver *r, const char *given, const char *needed_by, bool soft);

/* Resolves the names in @list, separated by @sep. */
static int resolve_list(struct resolver *r, const char *list, const char *sep,
			const char *needed_by, bool soft)
{
	char *copy = strdup(list), *save;
	int ret = copy ? 0 : -ENOMEM;

	for (char *w = copy ? strtok_r(copy, sep, &save) : NULL; !ret && w;
	     w = strtok_r(NULL, sep, &save))
		ret = resolve(r, w, needed_by, soft);
	free(copy);
	return ret;
}

/* One "softdep" value: "pre: a b post: c". @post: which half. */
static int resolve_soft(struct resolver *r, const char *value, const char *needed_by, bool post)
{
	const char *pre_at = strstr(value, "pre:"), *post_at = strstr(value, "post:");
	const char *at = post ? post_at : pre_at;
	char half[1024];

	if (!at)
		return 0;
	at += post ? 5 : 4;
	snprintf(half, sizeof(half), "%s", at);
	half[strcspn(half, ":")] = 0;
	if (!post && post_at > at)
		half[MIN((size_t)(post_at - at), sizeof(half) - 1)] = 0;
	return resolve_list(r, half, " \t", needed_by, true);
}

/* Goes through the module's strings and resolves what is to come before (or, @post, after) it. */
static int resolve_deps(struct resolver *r, const struct buf *info, const char *name, bool post)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < info->len;) {
		const char *s = (const char *)info->data + i;

		i += strlen(s) + 1;
		if (!post && !strncmp(s, "depends=", 8))
			ret = resolve_list(r, s + 8, ",", name, false);
		else if (!strncmp(s, "softdep=", 8))
			ret = resolve_soft(r, s + 8, name, post);
	}
	return ret;
}

static int load(struct resolver *r, const char *name, const char *path)
{
	struct buf data = { 0 }, info = { 0 };
	int ret;

	ret = unpack(path, r->e, &data);
	if (!ret) {
		ret = read_info(&data, &info);
		if (ret == -ENOEXEC)
			err_set(r->e, ret, "the kernel module %s is damaged: no .modinfo", path);
	}
	if (!ret)
		ret = resolve_deps(r, &info, name, false);
	if (!ret)
		ret = append(r, name, path, &data);
	if (!ret)
		ret = resolve_deps(r, &info, name, true);
	buf_fini(&data);
	buf_fini(&info);
	return ret;
}

/* @needed_by: a module, or NULL for a name the caller gave. @soft: it may be missing. */
static int resolve(struct resolver *r, const char *given, const char *needed_by, bool soft)
{
	char path[PATH_MAX];
	char name[128];
	size_t n;
	int ret;

	if (snprintf(name, sizeof(name), "%s", given) >= (int)sizeof(name) || !name[0])
		return err_set(r->e, -EINVAL, "\"%.40s\" is no name of a kernel module", given);
	for (char *p = name; *p; p++)
		*p = *p == '-' ? '_' : *p;
	for (size_t i = 0; i < r->n_met; i++)
		if (!strcmp(r->met[i], name))
			return 0;
	if (r->n_met == MODULES_MAX)
		return err_set(r->e, -E2BIG, "more than %d kernel modules", MODULES_MAX);
	r->met[r->n_met] = strdup(name);
	if (!r->met[r->n_met])
		return -ENOMEM;
	r->n_met++;
	if (find_line(&r->builtin, name, &n))
		return 0;
	ret = locate(r, name, path);
	if (ret > 0)
		return load(r, name, path);
	if (ret == 0 && soft)
		return 0;
	if (ret < 0)
		return err_sys(r->e, ret, "cannot search %s", r->dir);
	return err_set(r->e, -ENOENT, "there is no kernel module %s%s%s in %s", name,
		       needed_by ? ", needed by " : "", needed_by ? needed_by : "", r->dir);
}

int modules_resolve(const char *dir, const char *const *names, struct err *e,
		    struct modules *ret_mod)
{
	struct resolver r = { .dir = dir, .e = e };
	int ret;

	if (access(dir, R_OK | X_OK) < 0)
		return err_sys(e, -errno, "cannot read the kernel's modules in %s", dir);
	ret = read_list(&r, "modules.order", &r.order);
	if (!ret)
		ret = read_list(&r, "modules.builtin", &r.builtin);
	for (; !ret && *names; names++)
		ret = resolve(&r, *names, NULL, false);
	if (ret == -ENOMEM)
		err_sys(e, ret, "cannot resolve kernel modules");
	if (ret)
		modules_fini(&r.out);
	else
		*ret_mod = r.out;
	while (r.n_met)
		free(r.met[--r.n_met]);
	buf_fini(&r.order);
	buf_fini(&r.builtin);
	return ret;
}
