/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flocks.h - who holds which lock: what the kernel says of flock(2)
 */
#ifndef ORR_HOST_FLOCKS_H
#define ORR_HOST_FLOCKS_H

#include "base/compiler.h"

#include <sys/types.h>

struct flocks; /* all locks of one moment */

struct flock_holder {
	pid_t pid;
	bool exclusive;
	bool waits; /* holds nothing yet */
};

/* Reads @root/proc/locks (@root "": this host). NULL: no memory. A missing file is an empty list. */
struct flocks *flocks_read(const char *root);
void flocks_free(struct flocks *f);

/*
 * The holders of the file that @fd is, and those that wait: at most @max of them in @ret. Returns how
 * many. Processes that this one cannot see (of other containers) are not among them.
 */
unsigned flocks_of(const struct flocks *f, int fd, struct flock_holder *ret, unsigned max);

/*
 * What process @pid is, as a person knows it: the beginning of its command line, without anything that
 * would disturb a terminal, or "?". Returns @ret.
 */
char *flocks_command(pid_t pid, char *ret, size_t size);

#endif
