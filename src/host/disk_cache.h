/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_cache.h - files that are made once and read many times
 */
#ifndef ORR_HOST_DISK_CACHE_H
#define ORR_HOST_DISK_CACHE_H

#include "base/compiler.h"
#include "base/err.h"

struct disk_cache_cfg {
	const char *dir; /* made if it is not there */
	const char
		*key; /* the file's name, without a slash; says all that its contents depend on */
	/*
	 * Makes the file's contents in @path, which exists and is empty. Called if there is no such
	 * file yet, at most by one process at a time. 0, or an error with message.
	 */
	int (*make)(void *opaque, const char *path, struct err *e);
	/* Another process makes it, and we wait; @who names that process. May be NULL. */
	void (*waits)(void *opaque, const char *who);
	void *opaque;
	unsigned wait_s; /* for how long, at most */
};

/* 0 and the owned path of a complete file, or an error with message. */
int disk_cache_get(const struct disk_cache_cfg *cfg, struct err *e, char **ret_path);

#endif
