/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child.h - runs a helper program and keeps what it writes
 */
#ifndef ORR_IMAGE_CHILD_H
#define ORR_IMAGE_CHILD_H

#include "base/buf.h"
#include "base/err.h"

/*
 * Finds @name in PATH, then in /usr/sbin, /sbin, /usr/bin, /bin, which a user's PATH may lack.
 * Returns an owned absolute path, or NULL.
 */
char *child_find(const char *name);

/*
 * Runs @argv[0] (a path) in directory @cwd (NULL: the current one) with locale C and standard
 * input empty, waits for it, and appends what it wrote to @out and @errs (both NUL-terminated
 * behind their length; at most 16 MiB each, the rest is dropped). It dies with this thread.
 * Returns the exit status, 128 + signal, or a negative errno with a message if it could not run.
 */
int child_run(char *const argv[], const char *cwd, struct buf *out, struct buf *errs,
	      struct err *e);

/*
 * From now on children of this thread are killed once *@cancel (atomic; NULL: never) is true, and
 * child_run fails with -ECANCELED.
 */
void child_cancel(const bool *cancel);

#endif
