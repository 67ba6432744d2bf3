/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kcache.h - kernels fetched from the distribution, and what --kernel means
 *
 * The cache is $XDG_CACHE_HOME/orrery/kernels, by default ~/.cache/orrery/kernels, with a
 * directory for each kernel release:
 *
 *   image          the kernel file
 *   unpacked       the ELF kernel inside it, where it could be kept (kernel_image_keep)
 *   config         its build configuration, where the package has one
 *   modules/       its module tree with modules.dep: a directory for kmod_new(), where present
 *   metadata.json  { format, release, package, version, arch, requested: [...],
 *                    image_bytes, image_xxh128, bytes, fetched }
 */
#ifndef ORR_IMAGE_KCACHE_H
#define ORR_IMAGE_KCACHE_H

#include "base/compiler.h"
#include "base/err.h"
#include "image/apt.h"

#define KCACHE_NAME_MAX 128
#define KCACHE_REQUESTED_MAX 8
#define KCACHE_DEBIAN_PACKAGE "linux-image-cloud-amd64" /* what "debian" stands for */

struct kcache_entry {
	char release[KCACHE_NAME_MAX];
	char package[KCACHE_NAME_MAX];
	char version[KCACHE_NAME_MAX]; /* of the package */
	char arch[16];		       /* "x86_64" */
	char image_xxh128[33];
	char requested[KCACHE_REQUESTED_MAX][KCACHE_NAME_MAX]; /* the names it was fetched by */
	unsigned nrequested;
	u64 bytes; /* of all its files */
	u64 image_bytes;
	s64 fetched; /* seconds since 1970 */
	bool modules;
};

struct kcache_list {
	struct kcache_entry *entry; /* owned; newest package version first */
	unsigned n;
};

/* A kernel to boot. Paths are owned: kcache_kernel_fini. */
struct kcache_kernel {
	char *image;
	char *unpacked; /* where its unpacked payload may be kept; NULL: nowhere */
	char *modules;	/* the directory that holds modules.dep; NULL: none */
	char *release;	/* NULL for a plain file */
};

/* The cache directory, which may not exist yet. 0 and an owned path, -ENOENT or -ENOMEM. */
int kcache_dir(struct err *e, char **ret);

/* All complete entries. An absent cache is an empty list. */
int kcache_list(struct err *e, struct kcache_list *ret);
void kcache_list_fini(struct kcache_list *l);
/* The list as JSON text (owned), or NULL without memory. */
char *kcache_list_json(const struct kcache_list *l);

/*
 * What --kernel @spec means: a file, if it has a slash or exists, with the modules in `modules/`
 * beside it, if modules.dep is there (so has an entry's image); else a cached release; a prefix
 * of one that ends where a component does ("6.12", not "6.1"), the newest of several; a cached
 * package; or "debian", which is the newest cached kernel of Debian's linux-image-cloud-amd64,
 * fetched now if there is none.
 * Returns 0 and *ret, -ENOENT with a message that lists what there is, or the error of a fetch.
 */
int kcache_resolve(const char *spec, const struct image_progress *p, struct err *e,
		   struct kcache_kernel *ret);
void kcache_kernel_fini(struct kcache_kernel *k);

/*
 * Fetches @spec: "debian", a package name, name=version, or the path of a .deb file. A version
 * that is cached already is not downloaded again. Returns 0 and the owned release, or
 * -EINVAL, -ENOENT, -EIO, -EACCES, -EROFS, -ENOSPC and the like, and then leaves nothing behind.
 */
int kcache_fetch(const char *spec, const struct image_progress *p, struct err *e,
		 char **ret_release);

/*
 * Removes all entries but the newest @keep, and what killed fetches left. Returns how many
 * entries were removed, or a negative errno.
 */
int kcache_clean(unsigned keep, const struct image_progress *p, struct err *e);

/* Debian's order of package versions (deb-version(7)): < 0, 0, > 0. */
int kcache_version_cmp(const char *a, const char *b);

#endif
