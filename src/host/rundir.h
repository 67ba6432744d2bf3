/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rundir.h - a user's private directory of sockets by which running programs are reached
 *
 * $XDG_RUNTIME_DIR/orrery, or /run/orrery-UID, or, where that cannot be made, /tmp/orrery-UID. It
 * belongs to the user and has mode 0700; one that does not is refused. An entry is a listening
 * socket NAME.sock. The entry of a process that has ended is removed by whoever notices.
 */
#ifndef ORR_HOST_RUNDIR_H
#define ORR_HOST_RUNDIR_H

#include "base/err.h"

#include <sys/types.h>

#define RUNDIR_NAME_MAX 32u

/* Letters, digits, '.', '_' and '-', not beginning with the last two or '.'. */
bool rundir_name_ok(const char *name);

struct rundir_entry {
	char path[108]; /* of the socket; "": none */
	int fd;		/* listening, non-blocking */
};

/*
 * Makes the entry @name. 0; -EEXIST: a running process has it; or another error. The message names
 * the directory. @ret->fd is owned.
 */
int rundir_enter(const char *name, struct err *e, struct rundir_entry *ret);
/* Removes the entry. Legal on a zeroed one. */
void rundir_leave(struct rundir_entry *r);

/* The directory, made if need be: an owned O_PATH descriptor, or an error with message. */
int rundir_open(struct err *e);

/*
 * Calls @each with every entry whose process lives: its name, process, and a connected blocking
 * descriptor, which is taken by the one that returns true, the last. 0,
 * 1 if @each returned true, or an error with message; no directory is no error.
 */
int rundir_each(bool (*each)(void *opaque, const char *name, pid_t pid, int fd), void *opaque,
		struct err *e);

#endif
