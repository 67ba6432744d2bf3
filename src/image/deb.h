/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deb.h - takes the kernel out of a Debian kernel package
 */
#ifndef ORR_IMAGE_DEB_H
#define ORR_IMAGE_DEB_H

#include "base/compiler.h"
#include "base/err.h"

#define DEB_FIELD_MAX 128

/* What a package says about itself, and what was found in it. */
struct deb_info {
	char package[DEB_FIELD_MAX];
	char version[DEB_FIELD_MAX];
	char arch[DEB_FIELD_MAX];    /* Debian's name: "amd64" */
	char release[DEB_FIELD_MAX]; /* of the kernel: "6.12.117+deb12-amd64" */
	bool config;		     /* /boot/config-RELEASE was there */
	unsigned modules;	     /* files below lib/modules/RELEASE */
	u64 bytes;		     /* unpacked */
};

/*
 * Unpacks the kernel of package @deb into the existing, empty directory @dir: image, config, and
 * root/lib/modules/RELEASE/. Only directories and regular files are created, never outside @dir;
 * links and all other files of the package are passed over.
 * Returns 0 and *ret, or -EINVAL (damaged, no kernel package, more than one kernel, unsafe path),
 * -ENOEXEC (another architecture), -ENOSPC and other errors of the file system, with a message
 * that names the file. What was unpacked by then stays; the caller removes @dir.
 */
int deb_unpack_kernel(const char *deb, const char *dir, struct err *e, struct deb_info *ret);

/* Whether @s can be a kernel release: usable as a file name. */
bool deb_release_valid(const char *s);

#endif
