/* SPDX-License-Identifier: Apache-2.0 */
/*
 * closure.h - the host files a program needs to start: interpreters and shared libraries
 *
 * Follows what ld.so(8) does, without running the program. Libraries opened with dlopen(3) while
 * the program runs cannot be known.
 */
#ifndef ORR_IMAGE_CLOSURE_H
#define ORR_IMAGE_CLOSURE_H

#include "base/compiler.h"
#include "base/err.h"

struct closure_env {
	const char *path;	     /* PATH, for `#!/usr/bin/env NAME`; may be NULL */
	const char *ld_library_path; /* LD_LIBRARY_PATH; may be NULL */
};

/* What a file is to the guest's execve(2). */
enum closure_kind {
	CLOSURE_DATA,	/* neither ELF nor script */
	CLOSURE_ELF,	/* a program or library the guest's CPU can run */
	CLOSURE_SCRIPT, /* starts with #! */
	CLOSURE_ALIEN,	/* ELF for another machine, or not an object that can be loaded */
};

/* Paths as the program loader will ask for them: absolute, in the order found, no duplicates;
 * links are not resolved. */
struct closure {
	char **path; /* owned */
	size_t n;
};

/*
 * Adds to @c (zeroed by the caller, freed with closure_fini) all files that @prog needs besides
 * itself: nothing for data and static programs. *ret_kind says what @prog is.
 * A missing file is -ENOENT with a message that names it and who needs it; a broken ELF file
 * -ENOEXEC; an alien one adds nothing and is for the caller to judge.
 */
int closure_add(struct closure *c, const char *prog, const struct closure_env *env, struct err *e,
		enum closure_kind *ret_kind);
void closure_fini(struct closure *c);

/*
 * Searches the colon-separated @path for an executable regular file @name.
 * 0 and *ret_file (owned by the caller), -ENOENT, -ENOMEM.
 */
int closure_which(const char *path, const char *name, char **ret_file);

#endif
