/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kcache.c - kernels fetched from the distribution, and what --kernel means
 *
 * How it works
 * An entry is a directory that appears by rename, complete, and disappears by rename; so a reader
 * takes no lock and never sees half of one. Whoever changes the cache holds .lock (flock, dropped
 * by the kernel when its holder dies, however it dies). Work in progress is in .tmp-XXXXXX
 * directories. Only the holder of the lock creates them, so any that are there when the lock has
 * just been taken were left by a killed process and are removed. That makes `kill -9` harmless
 * without a journal, process ids or time-outs.
 *
 * An entry that a user removes or replaces while another process boots from it can fail that boot
 * with a missing file; nothing worse.
 */
#include "image/kcache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/path.h"
#include "image/deb.h"
#include "image/kcache_priv.h"

#define KCACHE_FORMAT 1
#define KCACHE_META_MAX 65536 /* bytes of metadata.json */

int kcache_dir(struct err *e, char **ret)
{
	const char *base = getenv("XDG_CACHE_HOME"), *home;
	struct passwd *pw;
	int n;

	/* XDG Base Directory Specification: relative paths are to be ignored. */
	if (base && base[0] == '/') {
		n = asprintf(ret, "%s/orrery/kernels", base);
	} else {
		home = getenv("HOME");
		if (!home || home[0] != '/') {
			pw = getpwuid(getuid());
			home = pw ? pw->pw_dir : NULL;
		}
		if (!home || home[0] != '/')
			return err_set(e, -ENOENT,
				       "no place for the kernel cache: neither XDG_CACHE_HOME nor "
				       "HOME is set");
		n = asprintf(ret, "%s/.cache/orrery/kernels", home);
	}
	return n < 0 ? err_set(e, -ENOMEM, "no memory") : 0;
}

/* Removes what killed processes left. The caller holds the lock. */
static void kcache_sweep_locked(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *ent;
	char *path;

	while (d && (ent = readdir(d))) {
		if (strncmp(ent->d_name, KCACHE_TMP, strlen(KCACHE_TMP)))
			continue;
		if (asprintf(&path, "%s/%s", dir, ent->d_name) < 0)
			break;
		path_remove_tree(path);
		free(path);
	}
	if (d)
		closedir(d);
}

int kcache_open(const struct image_progress *p, struct err *e, struct kcache *ret)
{
	struct kcache c = { .lock = -1 };
	char *path = NULL;
	int r = kcache_dir(e, &c.dir);

	if (r < 0)
		return r;
	r = path_make_dirs(c.dir);
	if (!r && access(c.dir, W_OK | X_OK) < 0)
		r = -errno;
	if (!r && asprintf(&path, "%s/" KCACHE_LOCK, c.dir) < 0)
		r = -ENOMEM;
	if (!r) {
		c.lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
		if (c.lock < 0)
			r = -errno;
	}
	free(path);
	if (!r && flock(c.lock, LOCK_EX | LOCK_NB) < 0) {
		image_say(p, "waiting for another process that changes the kernel cache");
		while (!r && flock(c.lock, LOCK_EX) < 0)
			if (errno != EINTR)
				r = -errno;
	}
	if (r < 0) {
		err_sys(e, r,
			"cannot write the kernel cache %s (XDG_CACHE_HOME chooses another place)",
			c.dir);
		kcache_close(&c);
		return r;
	}
	kcache_sweep_locked(c.dir);
	*ret = c;
	return 0;
}

void kcache_close(struct kcache *c)
{
	if (c->lock >= 0)
		close(c->lock);
	free(c->dir);
	*c = (struct kcache){ .lock = -1 };
}

/* The order of non-digits: '~' before the end of the part, letters before all others. */
static int kcache_char_rank(const char *p, const char *end)
{
	if (p == end || (*p >= '0' && *p <= '9'))
		return 0;
	if (*p == '~')
		return -1;
	return (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ? *p : *p + 256;
}

static bool kcache_nondigit(const char *p, const char *end)
{
	return p < end && (*p < '0' || *p > '9');
}

/* deb-version(7), "Sorting algorithm": runs of non-digits and of digits by turns. */
static int kcache_part_cmp(const char *a, const char *enda, const char *b, const char *endb)
{
	while (a < enda || b < endb) {
		size_t na, nb;
		int d;

		while (kcache_nondigit(a, enda) || kcache_nondigit(b, endb)) {
			d = kcache_char_rank(a, enda) - kcache_char_rank(b, endb);
			if (d)
				return d;
			a += a < enda;
			b += b < endb;
		}
		while (a < enda && *a == '0')
			a++;
		while (b < endb && *b == '0')
			b++;
		na = MIN(strspn(a, "0123456789"), (size_t)(enda - a));
		nb = MIN(strspn(b, "0123456789"), (size_t)(endb - b));
		d = na != nb ? (na < nb ? -1 : 1) : strncmp(a, b, na);
		if (d)
			return d;
		a += na;
		b += nb;
	}
	return 0;
}

/* Splits "[epoch:]upstream[-revision]". */
static void kcache_version_split(const char *v, const char *part[3], const char *end[3])
{
	const char *colon = strchr(v, ':'), *dash = strrchr(v, '-'), *e = v + strlen(v);

	part[0] = v;
	end[0] = colon ? colon : v;
	part[1] = colon ? colon + 1 : v;
	end[1] = dash && dash >= part[1] ? dash : e;
	part[2] = end[1] < e ? end[1] + 1 : e;
	end[2] = e;
}

int kcache_version_cmp(const char *a, const char *b)
{
	const char *pa[3], *ea[3], *pb[3], *eb[3];

	kcache_version_split(a, pa, ea);
	kcache_version_split(b, pb, eb);
	for (int i = 0; i < 3; i++) {
		int d = kcache_part_cmp(pa[i], ea[i], pb[i], eb[i]);

		if (d)
			return d;
	}
	return 0;
}

static bool json_text(const json_t *o, const char *key, char *ret, size_t size)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s && s[0] && snprintf(ret, size, "%s", s) < (int)size;
}

/* Reads @path up to KCACHE_META_MAX bytes and parses it. */
static json_t *kcache_load_json(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct buf b = { 0 };
	json_t *o = NULL;

	if (fd < 0)
		return NULL;
	if (!buf_read_fd(&b, fd, KCACHE_META_MAX))
		o = json_loadb((char *)b.data, b.len, 0, NULL);
	buf_fini(&b);
	close(fd);
	return o;
}

int kcache_read_entry(const char *dir, const char *name, struct kcache_entry *ret)
{
	struct kcache_entry ent = { 0 };
	char path[4096];
	json_t *o, *req;
	bool ok;

	if (!deb_release_valid(name))
		return -EINVAL;
	snprintf(path, sizeof(path), "%s/%s/image", dir, name);
	if (access(path, F_OK) < 0)
		return -ENOENT;
	snprintf(path, sizeof(path), "%s/%s/modules/modules.dep", dir, name);
	ent.modules = !access(path, F_OK);
	snprintf(path, sizeof(path), "%s/%s/metadata.json", dir, name);
	o = kcache_load_json(path);
	ok = json_integer_value(json_object_get(o, "format")) == KCACHE_FORMAT &&
	     json_text(o, "release", ent.release, sizeof(ent.release)) &&
	     json_text(o, "package", ent.package, sizeof(ent.package)) &&
	     json_text(o, "version", ent.version, sizeof(ent.version)) &&
	     json_text(o, "arch", ent.arch, sizeof(ent.arch)) &&
	     json_text(o, "image_xxh128", ent.image_xxh128, sizeof(ent.image_xxh128)) &&
	     !strcmp(ent.release, name);
	ent.bytes = (u64)json_integer_value(json_object_get(o, "bytes"));
	ent.image_bytes = (u64)json_integer_value(json_object_get(o, "image_bytes"));
	ent.fetched = json_integer_value(json_object_get(o, "fetched"));
	req = json_object_get(o, "requested");
	for (size_t i = 0; ok && i < json_array_size(req) && i < KCACHE_REQUESTED_MAX; i++) {
		const char *s = json_string_value(json_array_get(req, i));

		if (s && strlen(s) < KCACHE_NAME_MAX)
			strcpy(ent.requested[ent.nrequested++], s);
	}
	json_decref(o);
	if (!ok)
		return -EINVAL;
	*ret = ent;
	return 0;
}

static json_t *kcache_entry_json(const struct kcache_entry *ent)
{
	json_t *req = json_array();

	for (unsigned i = 0; i < ent->nrequested; i++)
		json_array_append_new(req, json_string(ent->requested[i]));
	return json_pack("{s:i,s:s,s:s,s:s,s:s,s:o,s:I,s:s,s:I,s:I}", "format", KCACHE_FORMAT,
			 "release", ent->release, "package", ent->package, "version", ent->version,
			 "arch", ent->arch, "requested", req, "image_bytes",
			 (json_int_t)ent->image_bytes, "image_xxh128", ent->image_xxh128, "bytes",
			 (json_int_t)ent->bytes, "fetched", (json_int_t)ent->fetched);
}

int kcache_write_entry(const char *dir, const struct kcache_entry *ent, struct err *e)
{
	char path[4096], tmp[4096];
	json_t *o = kcache_entry_json(ent);
	int r = 0;

	snprintf(path, sizeof(path), "%s/metadata.json", dir);
	snprintf(tmp, sizeof(tmp), "%s/.metadata.json", dir);
	if (!o)
		return err_set(e, -ENOMEM, "no memory to write %s", path);
	errno = EIO; /* jansson keeps the file system's errno where there is one */
	if (json_dump_file(o, tmp, JSON_INDENT(2)) < 0 || rename(tmp, path) < 0)
		r = err_sys(e, -errno, "cannot write %s", path);
	json_decref(o);
	return r;
}

/* Newest package version first; then cloud kernels, which are made for VMs; then by name. */
static int kcache_order(const void *pa, const void *pb)
{
	const struct kcache_entry *a = pa, *b = pb;
	int d = kcache_version_cmp(b->version, a->version);

	if (!d)
		d = !strstr(a->release, "cloud") - !strstr(b->release, "cloud");
	return d ? d : strcmp(a->release, b->release);
}

static int kcache_list_dir(const char *dir, struct err *e, struct kcache_list *ret)
{
	struct kcache_list l = { 0 };
	struct dirent *ent;
	struct kcache_entry *p;
	DIR *d = opendir(dir);

	if (!d && errno != ENOENT)
		return err_sys(e, -errno, "cannot read the kernel cache %s", dir);
	while (d && (ent = readdir(d))) {
		if (ent->d_name[0] == '.')
			continue;
		p = reallocarray(l.entry, l.n + 1, sizeof(*p));
		if (!p) {
			closedir(d);
			free(l.entry);
			return err_set(e, -ENOMEM, "no memory");
		}
		l.entry = p;
		/* What is no complete entry is not ours, and not listed. */
		if (!kcache_read_entry(dir, ent->d_name, &p[l.n]))
			l.n++;
	}
	if (d)
		closedir(d);
	if (l.n)
		qsort(l.entry, l.n, sizeof(*l.entry), kcache_order);
	*ret = l;
	return 0;
}

int kcache_list(struct err *e, struct kcache_list *ret)
{
	char *dir = NULL;
	int r = kcache_dir(e, &dir);

	if (!r)
		r = kcache_list_dir(dir, e, ret);
	free(dir);
	return r;
}

void kcache_list_fini(struct kcache_list *l)
{
	free(l->entry);
	*l = (struct kcache_list){ 0 };
}

char *kcache_list_json(const struct kcache_list *l)
{
	json_t *a = json_array();
	char *s;

	for (unsigned i = 0; i < l->n; i++)
		json_array_append_new(a, kcache_entry_json(&l->entry[i]));
	s = json_dumps(a, JSON_INDENT(2));
	json_decref(a);
	return s;
}

static bool kcache_requested(const struct kcache_entry *ent, const char *name)
{
	for (unsigned i = 0; i < ent->nrequested; i++)
		if (!strcmp(ent->requested[i], name))
			return true;
	return !strcmp(ent->package, name);
}

/* A prefix that does not cut a number or a word. */
static bool kcache_prefix(const char *release, const char *spec)
{
	size_t n = strlen(spec);

	if (!n || strncmp(release, spec, n))
		return false;
	return !release[n] || strchr(".+-~_", release[n]);
}

/* The index of the entry @spec means, or -1. The list is newest first, so the first one counts. */
static int kcache_find(const struct kcache_list *l, const char *spec)
{
	if (!strcmp(spec, "debian"))
		spec = KCACHE_DEBIAN_PACKAGE;
	for (unsigned i = 0; i < l->n; i++)
		if (!strcmp(l->entry[i].release, spec))
			return (int)i;
	for (unsigned i = 0; i < l->n; i++)
		if (kcache_requested(&l->entry[i], spec) ||
		    kcache_prefix(l->entry[i].release, spec))
			return (int)i;
	return -1;
}

static int kcache_unknown(const char *spec, const struct kcache_list *l, struct err *e)
{
	char have[600] = "";
	size_t at = 0;

	for (unsigned i = 0; i < l->n && at < sizeof(have) - KCACHE_NAME_MAX - 8; i++)
		at += (size_t)snprintf(have + at, sizeof(have) - at, "%s%s", i ? ", " : "",
				       l->entry[i].release);
	return err_set(e, -ENOENT,
		       "unknown kernel '%s': it is no file and not in the cache (%s%s); "
		       "`orrery kernel fetch debian` or `orrery kernel fetch PACKAGE` gets one",
		       spec, l->n ? "which has " : "which is empty", have);
}

static int kcache_make_kernel(const struct kcache_entry *ent, struct err *e,
			      struct kcache_kernel *ret)
{
	struct kcache_kernel k = { 0 };
	char *dir = NULL;
	int r = kcache_dir(e, &dir);

	if (r < 0)
		return r;
	k.release = strdup(ent->release);
	if (asprintf(&k.image, "%s/%s/image", dir, ent->release) < 0)
		k.image = NULL;
	if (asprintf(&k.unpacked, "%s/%s/unpacked", dir, ent->release) < 0)
		k.unpacked = NULL;
	if (ent->modules && asprintf(&k.modules, "%s/%s/modules", dir, ent->release) < 0)
		k.modules = NULL;
	free(dir);
	if (!k.release || !k.image || !k.unpacked || (ent->modules && !k.modules)) {
		kcache_kernel_fini(&k);
		return err_set(e, -ENOMEM, "no memory");
	}
	*ret = k;
	return 0;
}

/*
 * A file may be that of an entry of the cache, or of a directory arranged like one: its modules
 * lie beside it. Where they do not, the kernel has what it needs built in, or is not Linux.
 */
static char *kcache_beside(const char *file)
{
	char *real = realpath(file, NULL), *dir = NULL, *list = NULL;

	if (!real)
		return NULL;
	*strrchr(real, '/') = 0;
	if (asprintf(&dir, "%s/modules", real) < 0)
		dir = NULL;
	if (!dir || asprintf(&list, "%s/modules.dep", dir) < 0)
		list = NULL;
	if (!list || access(list, R_OK) < 0) {
		free(dir);
		dir = NULL;
	}
	free(list);
	free(real);
	return dir;
}

int kcache_resolve(const char *spec, const struct image_progress *p, struct err *e,
		   struct kcache_kernel *ret)
{
	struct kcache_list l = { 0 };
	char *release = NULL;
	int r, i;

	if (strchr(spec, '/') || access(spec, F_OK) == 0) {
		char *image = strdup(spec);

		if (!image)
			return err_set(e, -ENOMEM, "no memory");
		*ret = (struct kcache_kernel){ .image = image, .modules = kcache_beside(image) };
		return 0;
	}
	r = kcache_list(e, &l);
	if (r < 0)
		return r;
	i = kcache_find(&l, spec);
	if (i < 0 && !strcmp(spec, "debian")) {
		image_say(p, "no Debian kernel is cached yet: fetching the newest");
		r = kcache_fetch("debian", p, e, &release);
		kcache_list_fini(&l);
		if (!r)
			r = kcache_list(e, &l);
		if (!r)
			i = kcache_find(&l, release);
		free(release);
	}
	if (!r)
		r = i < 0 ? kcache_unknown(spec, &l, e) : kcache_make_kernel(&l.entry[i], e, ret);
	kcache_list_fini(&l);
	return r;
}

void kcache_kernel_fini(struct kcache_kernel *k)
{
	free(k->image);
	free(k->unpacked);
	free(k->modules);
	free(k->release);
	*k = (struct kcache_kernel){ 0 };
}

/* Removes one entry: first out of sight in one step, then for good. The caller has the lock. */
static int kcache_drop_locked(const struct kcache *c, const char *name, struct err *e)
{
	char from[4096], to[4096];
	int r;

	snprintf(from, sizeof(from), "%s/%s", c->dir, name);
	snprintf(to, sizeof(to), "%s/" KCACHE_TMP "old-%s", c->dir, name);
	if (rename(from, to) < 0)
		return err_sys(e, -errno, "cannot remove %s", from);
	r = path_remove_tree(to);
	return r < 0 ? err_sys(e, r, "cannot remove %s", to) : 0;
}

int kcache_clean(unsigned keep, const struct image_progress *p, struct err *e)
{
	struct kcache_list l = { 0 };
	struct kcache c;
	char *dir = NULL;
	int r = kcache_dir(e, &dir), n = 0;

	if (r < 0)
		return r;
	/* An absent cache is clean; opening would create it. */
	r = access(dir, F_OK);
	free(dir);
	if (r < 0)
		return 0;
	r = kcache_open(p, e, &c);
	if (r < 0)
		return r;
	r = kcache_list_dir(c.dir, e, &l);
	for (unsigned i = keep; !r && i < l.n; i++) {
		r = kcache_drop_locked(&c, l.entry[i].release, e);
		if (!r) {
			image_say(p, "removed %s", l.entry[i].release);
			n++;
		}
	}
	kcache_list_fini(&l);
	kcache_close(&c);
	return r < 0 ? r : n;
}
