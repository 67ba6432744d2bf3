/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apt.h - downloads a Debian package through apt, without root and without changing the system
 */
#ifndef ORR_IMAGE_APT_H
#define ORR_IMAGE_APT_H

#include "base/compiler.h"
#include "base/err.h"

/* Where progress goes, one line at a time and without newline; @line may be NULL. */
struct image_progress {
	void (*line)(void *opaque, const char *text);
	void *opaque;
};

void image_say(const struct image_progress *p, const char *fmt, ...) attr_printf(2, 3);

struct apt; /* a private apt configuration and its state, in one directory */

/* The real package behind a name. */
struct apt_package {
	char name[128], version[128];
	u64 download;  /* bytes to download; 0 if unknown */
	u64 installed; /* bytes unpacked; 0 if unknown */
};

/*
 * Prepares to run apt with all its state in the existing directory @dir, which the caller removes
 * afterwards. Uses the system's sources and keys (/etc/apt), and its package lists if they
 * are there and were refreshed within a day; otherwise it downloads lists into @dir.
 * Returns 0 and *ret (owned: apt_free), or -ENOENT if apt is not installed, or another error.
 */
int apt_new(const char *dir, const struct image_progress *p, struct err *e, struct apt **ret);
void apt_free(struct apt *a);

/* Whether @s is a package name, or name=version (Debian Policy 5.6.7, 5.6.12). */
bool apt_name_valid(const char *s);

/*
 * Finds the kernel package @name stands for: where it is a meta package, the one it depends on.
 * Returns 0 and *ret, -EINVAL for an impossible name, -ENOENT if apt knows no such package, or
 * -EIO if apt fails; the message has apt's last error line.
 */
int apt_resolve(struct apt *a, const char *name, struct err *e, struct apt_package *ret);

/*
 * Downloads and verifies @pkg. Returns 0 and the owned path of the .deb (inside the directory), or
 * -EIO, -ENOSPC.
 */
int apt_download(struct apt *a, const struct apt_package *pkg, struct err *e, char **ret_deb);

#endif
