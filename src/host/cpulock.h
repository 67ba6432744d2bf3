/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpulock.h - who uses which CPUs and caches of this host: locks that are taken by agreement
 *
 * How it works
 * For each last-level cache and each CPU there is a file, and who uses it holds a lock of it (flock),
 * shared or for himself; the kernel drops it when the holder dies, however it dies. Files are made when
 * first wanted and never removed: removing one that somebody is about to lock would leave two locks of
 * one name. Nothing enforces what the locks say. They keep programs that ask from measuring each other.
 *
 * The directory is $ORRERY_LOCK_DIR, or orrery-cpus in /run/lock or else /tmp, whichever is there for
 * everybody: all users of a host must come to the same one. A file system of the network is refused: its
 * locks would be those of other hosts' CPUs too.
 */
#ifndef ORR_HOST_CPULOCK_H
#define ORR_HOST_CPULOCK_H

#include "base/err.h"

enum cpulock_kind { CPULOCK_LLC, CPULOCK_CPU };

#define CPULOCK_DIR_MAX 256u

/* Finds the directory, and makes it if @make. 0; -ENOENT (no message): there is none; or an error. */
int cpulock_dir(bool make, struct err *e, char ret[CPULOCK_DIR_MAX]);

/* Opens the file for LLC or CPU number @n, making it. A descriptor, or an error with message. */
int cpulock_open(const char *dir, enum cpulock_kind kind, unsigned n, struct err *e);

/* Whether a file of the directory is one, and which. */
bool cpulock_name(const char *file, enum cpulock_kind *ret_kind, unsigned *ret_n);

/* Why locks on a file system of this type (statfs(2)) would not do: its name; or NULL. */
const char *cpulock_refuses(long fs_type);

#endif
