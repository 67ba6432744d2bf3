/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_template.h - disks with a file system on them, made once
 */
#ifndef ORR_VM_DISK_TEMPLATE_H
#define ORR_VM_DISK_TEMPLATE_H

#include "base/compiler.h"
#include "base/err.h"

/* A file system that a disk may have. */
struct disk_fs {
	const char *name;	    /* as mount(8) has it */
	const char *mkfs;	    /* the host's program that makes one */
	const char *package;	    /* of Debian, which has it */
	const char *const *args;    /* of it, before the device; NULL-terminated */
	const char *const *env;	    /* NAME=VALUE, NULL-terminated */
	const char *const *modules; /* that the guest's kernel needs, NULL-terminated */
	u64 least;		    /* bytes */
};

/* NULL if there is none of that name. */
const struct disk_fs *disk_fs_find(const char *name);

#define DISK_TEMPLATE_UNIT (1ull << 20) /* sizes are multiples of it */

/*
 * The file of @size bytes with an empty @fs on it, from the cache; if it is not there it is made
 * in a VM with @kernel (as struct vm_cfg has it; NULL: the default), and a line to @err_fd says so.
 * @opt begins messages. 0 and the owned path, or an error with message.
 */
int disk_template_get(const struct disk_fs *fs, u64 size, const char *kernel, const char *opt,
		      int err_fd, struct err *e, char **ret_path);

#endif
