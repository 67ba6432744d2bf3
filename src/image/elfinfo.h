/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elfinfo.h - the few facts of an ELF file that its loading depends on
 */
#ifndef ORR_IMAGE_ELFINFO_H
#define ORR_IMAGE_ELFINFO_H

#include "base/compiler.h"
#include "base/err.h"

/* All strings owned, NULL where the file does not say. */
struct elfinfo {
	unsigned class;	  /* ELFCLASS32, ELFCLASS64 */
	unsigned machine; /* EM_* */
	unsigned type;	  /* ET_* */
	char *interp;	  /* PT_INTERP */
	char *soname, *rpath, *runpath;
	bool nodeflib; /* DF_1_NODEFLIB */
	char **needed; /* DT_NEEDED, in order */
	size_t n_needed;
};

/*
 * Reads @path. 0; -ENOEXEC if it is no ELF file, or with a message if it is a broken one; or the
 * negative errno of opening it. The message of -ENOEXEC is empty (e->msg untouched) for a file
 * without the ELF magic.
 */
int elfinfo_read(const char *path, struct err *e, struct elfinfo *ret);
void elfinfo_fini(struct elfinfo *i);

#endif
