/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kcache_fetch.c - makes a kernel cache entry out of a Debian package
 *
 * How it works
 * Everything happens in one .tmp-XXXXXX directory beside the entries, under the cache's lock:
 *
 *   apt/      apt's private state and the downloaded package (apt.c)
 *   entry/    what becomes the entry: image, config, metadata.json, modules/
 *   entry/root/lib/modules/RELEASE   where the package's modules are unpacked and depmod runs
 *
 * depmod is needed since Debian's packages carry no modules.dep: it is made on the machine where
 * the package is installed. Its tree then moves to entry/modules. At the end, entry/ is flushed
 * and renamed into place, exchanging places with an older one of the same release if there is
 * one. Whatever fails or kills the process before that leaves a .tmp directory only, which is
 * removed at once or by the next process that takes the lock.
 */
#include "image/kcache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/buf.h"
#include "base/path.h"
#include "image/child.h"
#include "image/deb.h"
#include "image/kcache_priv.h"
#include "image/kernel.h"

#define FETCH_PATH 4096

struct fetch {
	struct kcache cache; /* locked */
	const struct image_progress *say;
	struct err *e;
	const char *requested; /* the name to record, or NULL for a .deb file */
	char tmp[FETCH_PATH];  /* the work directory, "" before it exists */
	char entry[FETCH_PATH];
	struct kcache_entry ent;
};

/* "no space" is worth its own words wherever it comes from. */
static int fetch_explain(struct fetch *f, int r)
{
	if (f->e && (r == -ENOSPC || r == -EDQUOT) && !strstr(f->e->msg, "XDG_CACHE_HOME"))
		return err_set(f->e, r, "%s; free some space or point XDG_CACHE_HOME elsewhere",
			       f->e->msg);
	return r;
}

static int fetch_begin(struct fetch *f)
{
	int r = kcache_open(f->say, f->e, &f->cache);

	if (r < 0)
		return r;
	if (strlen(f->cache.dir) > FETCH_PATH / 2)
		return err_set(f->e, -ENAMETOOLONG, "the kernel cache's path is too long: %s",
			       f->cache.dir);
	snprintf(f->tmp, sizeof(f->tmp), "%s/" KCACHE_TMP "XXXXXX", f->cache.dir);
	if (!mkdtemp(f->tmp)) {
		r = -errno;
		f->tmp[0] = 0;
		return err_sys(f->e, r, "cannot write the kernel cache %s", f->cache.dir);
	}
	snprintf(f->entry, sizeof(f->entry), "%.4000s/entry", f->tmp);
	if (mkdir(f->entry, 0777) < 0)
		return err_sys(f->e, -errno, "cannot write the kernel cache %s", f->cache.dir);
	return 0;
}

static void fetch_end(struct fetch *f)
{
	if (f->tmp[0])
		path_remove_tree(f->tmp);
	kcache_close(&f->cache);
}

/* Adds the requested name to an entry's list. True if it was not there. */
static bool fetch_add_requested(struct kcache_entry *ent, const char *name)
{
	if (!name || strlen(name) >= KCACHE_NAME_MAX)
		return false;
	for (unsigned i = 0; i < ent->nrequested; i++)
		if (!strcmp(ent->requested[i], name))
			return false;
	if (ent->nrequested == KCACHE_REQUESTED_MAX)
		return false;
	strcpy(ent->requested[ent->nrequested++], name);
	return true;
}

/* If that package version is cached, notes the name it was asked for by and returns 1. */
static int fetch_cached(struct fetch *f, const char *package, const char *version)
{
	struct kcache_list l;
	char dir[FETCH_PATH];
	int r = kcache_list(f->e, &l);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < l.n && !r; i++) {
		struct kcache_entry *ent = &l.entry[i];

		if (strcmp(ent->package, package) || strcmp(ent->version, version))
			continue;
		f->ent = *ent;
		r = 1;
		if (fetch_add_requested(&f->ent, f->requested)) {
			snprintf(dir, sizeof(dir), "%.2048s/%s", f->cache.dir, ent->release);
			r = kcache_write_entry(dir, &f->ent, f->e);
			r = r < 0 ? r : 1;
		}
	}
	kcache_list_fini(&l);
	return r;
}

/* Fails early rather than after minutes of downloading. */
static int fetch_check_space(struct fetch *f, const struct apt_package *pkg)
{
	u64 need = pkg->download + pkg->installed, have;
	struct statvfs v;

	if (statvfs(f->tmp, &v) < 0 || !v.f_blocks)
		return 0;
	have = (u64)v.f_bavail * v.f_frsize;
	if (have >= need)
		return 0;
	return err_set(f->e, -ENOSPC,
		       "not enough space in %s for %s: %llu MB are needed, %llu MB are free; free "
		       "some or point XDG_CACHE_HOME elsewhere",
		       f->cache.dir, pkg->name, (unsigned long long)need / 1000000,
		       (unsigned long long)have / 1000000);
}

/* Downloads. 0 and the owned path of the package, 1 if the cache has it, or an error. */
static int fetch_download(struct fetch *f, char **ret_deb)
{
	struct apt_package pkg;
	char dir[FETCH_PATH];
	struct apt *apt = NULL;
	int r;

	snprintf(dir, sizeof(dir), "%.4000s/apt", f->tmp);
	if (mkdir(dir, 0777) < 0)
		return err_sys(f->e, -errno, "cannot create %s", dir);
	image_say(f->say, "looking for %s", f->requested);
	r = apt_new(dir, f->say, f->e, &apt);
	if (!r)
		r = apt_resolve(apt, f->requested, f->e, &pkg);
	if (!r)
		r = fetch_cached(f, pkg.name, pkg.version);
	if (!r)
		r = fetch_check_space(f, &pkg);
	if (!r)
		r = apt_download(apt, &pkg, f->e, ret_deb);
	apt_free(apt);
	return r;
}

/* Makes modules.dep and its kin in entry/root/lib/modules/RELEASE, then moves that tree. */
static int fetch_modules(struct fetch *f)
{
	char from[FETCH_PATH], to[FETCH_PATH], root[FETCH_PATH], usr[FETCH_PATH];
	static char base[] = "-b";
	char *argv[] = { NULL, base, root, f->ent.release, NULL };
	struct buf out = { 0 }, errs = { 0 };
	int r;

	snprintf(root, sizeof(root), "%.4000s/root", f->entry);
	snprintf(from, sizeof(from), "%.3000s/root/lib/modules/%s", f->entry, f->ent.release);
	snprintf(to, sizeof(to), "%.4000s/modules", f->entry);
	if (access(from, F_OK) < 0) {
		image_say(f->say, "the package has no modules");
		goto done;
	}
	argv[0] = child_find("depmod");
	if (!argv[0])
		return err_set(f->e, -ENOENT,
			       "depmod is not installed: it makes the list of a "
			       "kernel's modules; install the package kmod");
	/* Some builds of depmod look below usr/lib. */
	snprintf(usr, sizeof(usr), "%.4000s/usr", root);
	if (!mkdir(usr, 0777)) {
		snprintf(usr, sizeof(usr), "%.4000s/usr/lib", root);
		if (symlink("../lib", usr) < 0)
			image_say(f->say, "cannot create %s", usr);
	}
	image_say(f->say, "indexing the modules of %s", f->ent.release);
	r = child_run(argv, NULL, &out, &errs, f->e);
	if (r > 0)
		r = err_set(f->e, strstr((char *)errs.data, "No space") ? -ENOSPC : -EIO,
			    "depmod failed with status %d: %.*s", r,
			    (int)strcspn((char *)errs.data, "\n"), (char *)errs.data);
	if (!r && rename(from, to) < 0)
		r = err_sys(f->e, -errno, "cannot rename %s", from);
	if (!r) {
		/* depmod writes its files through stdio and misses some write errors. */
		snprintf(from, sizeof(from), "%.4000s/modules.dep.bin", to);
		if (access(from, R_OK) < 0)
			r = err_sys(f->e, -errno, "depmod made no module index for %s",
				    f->ent.release);
	}
	free(argv[0]);
	buf_fini(&out);
	buf_fini(&errs);
	if (r < 0)
		return r;
done:
	r = path_remove_tree(root);
	return r < 0 ? err_sys(f->e, r, "cannot remove %s", root) : 0;
}

/* Checks that the image is one this machine can boot, and takes its hash. */
static int fetch_check_image(struct fetch *f)
{
	struct kernel_image *k;
	char path[FETCH_PATH], unpacked[FETCH_PATH];
	struct buf b = { 0 };
	XXH128_hash_t h;
	int fd, r;

	snprintf(path, sizeof(path), "%.4000s/image", f->entry);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(f->e, -errno, "cannot open %s", path);
	r = buf_read_fd(&b, fd, KERNEL_FILE_MAX);
	close(fd);
	if (r < 0) {
		buf_fini(&b);
		return err_sys(f->e, r, "cannot read %s", path);
	}
	r = kernel_image_parse(b.data, b.len, f->ent.release, 0, f->e, &k);
	if (!r) {
		snprintf(unpacked, sizeof(unpacked), "%.4000s/unpacked", f->entry);
		kernel_image_keep(k, path, unpacked);
		kernel_image_free(k);
		h = XXH3_128bits(b.data, b.len);
		snprintf(f->ent.image_xxh128, sizeof(f->ent.image_xxh128), "%016llx%016llx",
			 (unsigned long long)h.high64, (unsigned long long)h.low64);
		f->ent.image_bytes = b.len;
	}
	buf_fini(&b);
	return r;
}

/* Flushes entry/ and puts it in place. */
static int fetch_commit(struct fetch *f)
{
	char to[FETCH_PATH];
	int fd, r = 0;

	snprintf(to, sizeof(to), "%.2048s/%s", f->cache.dir, f->ent.release);
	/* Otherwise a power failure could leave the entry's name with empty files. */
	fd = open(f->entry, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || syncfs(fd) < 0)
		r = -errno;
	if (fd >= 0)
		close(fd);
	/*
	 * An older build of the same release ends up in the work directory. Not every file system
	 * can exchange; then there is a moment without the entry.
	 */
	if (!r && renameat2(AT_FDCWD, f->entry, AT_FDCWD, to, RENAME_NOREPLACE) < 0) {
		char old[FETCH_PATH];

		snprintf(old, sizeof(old), "%.4000s/old", f->tmp);
		if (renameat2(AT_FDCWD, f->entry, AT_FDCWD, to, RENAME_EXCHANGE) < 0 &&
		    ((rename(to, old) < 0 && errno != ENOENT) || rename(f->entry, to) < 0))
			r = -errno;
	}
	return r < 0 ? err_sys(f->e, r, "cannot put %s in place", to) : 0;
}

static int fetch_store(struct fetch *f, const char *deb)
{
	struct deb_info info;
	int r;

	image_say(f->say, "unpacking the kernel");
	r = deb_unpack_kernel(deb, f->entry, f->e, &info);
	if (r < 0)
		return r;
	/* A package made by hand may be the build of an entry that is there: its bytes count. */
	strcpy(f->ent.release, info.release);
	strcpy(f->ent.package, info.package);
	strcpy(f->ent.version, info.version);
	strcpy(f->ent.arch, "x86_64");
	f->ent.bytes = info.bytes;
	f->ent.fetched = time(NULL);
	fetch_add_requested(&f->ent, f->requested);
	r = fetch_check_image(f);
	if (!r)
		r = fetch_modules(f);
	if (!r)
		r = kcache_write_entry(f->entry, &f->ent, f->e);
	if (!r)
		r = fetch_commit(f);
	return r;
}

int kcache_fetch(const char *spec, const struct image_progress *p, struct err *e,
		 char **ret_release)
{
	struct fetch f = { .say = p, .e = e, .cache.lock = -1 };
	size_t n = strlen(spec);
	char *deb = NULL, *release = NULL;
	int r;

	if (n > 4 && !strcmp(spec + n - 4, ".deb"))
		deb = strdup(spec);
	else
		f.requested = strcmp(spec, "debian") ? spec : KCACHE_DEBIAN_PACKAGE;
	if (f.requested && !apt_name_valid(f.requested))
		return err_set(e, -EINVAL,
			       "'%s' is no package name (nor 'debian', nor a .deb file)", spec);
	r = f.requested || deb ? fetch_begin(&f) : err_set(e, -ENOMEM, "no memory");
	if (!r && !deb)
		r = fetch_download(&f, &deb);
	if (!r)
		r = fetch_store(&f, deb);
	else if (r > 0)
		image_say(p, "%s %s is in the cache already", f.ent.package, f.ent.version);
	if (r >= 0) {
		release = strdup(f.ent.release);
		r = release ? 0 : err_set(e, -ENOMEM, "no memory");
	}
	r = fetch_explain(&f, r);
	fetch_end(&f);
	free(deb);
	if (!r)
		*ret_release = release;
	return r;
}
