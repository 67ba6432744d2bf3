/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpio.h - composes a file tree into a reproducible newc archive
 *
 * Paths are absolute guest paths. Missing parent directories are made (mode 0755), and a parent
 * that is a symbolic link *in the tree* is followed, so the tree never holds an entry below a
 * link. Adding what is already there identically is fine; a conflict is -EEXIST.
 */
#ifndef ORR_IMAGE_CPIO_H
#define ORR_IMAGE_CPIO_H

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

struct cpio;

int cpio_new(struct cpio **ret); /* 0 or -ENOMEM */
void cpio_free(struct cpio *c);

/* @mode: permission bits (07777). An existing directory, or link to be followed, is kept. */
int cpio_dir(struct cpio *c, const char *path, unsigned mode, struct err *e);
/* A file with a copy of @data. */
int cpio_file(struct cpio *c, const char *path, unsigned mode, const void *data, size_t len,
	      struct err *e);
/*
 * A file with the contents of the host's regular file @host, read by cpio_write. *ret_size is
 * what it adds to the archive's file data: its size, or 0 if it was there already.
 */
int cpio_host_file(struct cpio *c, const char *path, const char *host, struct err *e,
		   u64 *ret_size);
int cpio_symlink(struct cpio *c, const char *path, const char *target, struct err *e);
/* A device node; @mode with its type (S_IFCHR or S_IFBLK). */
int cpio_node(struct cpio *c, const char *path, unsigned mode, unsigned major, unsigned minor,
	      struct err *e);
/* Whether @path, its parents' links followed, is in the tree. */
bool cpio_has(struct cpio *c, const char *path);
/* Bytes that cpio_write would append, while no host file changes. */
u64 cpio_size(const struct cpio *c);

/* Appends the archive to @ret. A host file that has shrunk since is -EIO. */
int cpio_write(const struct cpio *c, struct err *e, struct buf *ret);

#endif
