/* SPDX-License-Identifier: Apache-2.0 */
/*
 * modules.h - the kernel modules to load for given names, in load order, decompressed
 */
#ifndef ORR_IMAGE_MODULES_H
#define ORR_IMAGE_MODULES_H

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

struct module {
	char *name;	 /* as lsmod(8) shows it: '_', never '-' */
	char *file;	 /* below the modules directory, without compression suffix */
	struct buf data; /* the ELF object, decompressed */
};

/* In load order: each behind what it depends on. */
struct modules {
	struct module *mod; /* owned */
	size_t n;
};

/*
 * Resolves @names (NULL-terminated; '-' and '_' are the same) in @dir, a lib/modules/RELEASE
 * directory as in the kernel's package; it needs no modules.dep. Names that are built into the
 * kernel (modules.builtin) add nothing. -ENOENT with a message for an unknown name or a missing
 * dependency, -ENOEXEC for a module that is damaged.
 */
int modules_resolve(const char *dir, const char *const *names, struct err *e, struct modules *ret);
void modules_fini(struct modules *m);

#endif
