/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ldcache.h - reads glibc's /etc/ld.so.cache
 */
#ifndef ORR_IMAGE_LDCACHE_H
#define ORR_IMAGE_LDCACHE_H

#include "base/buf.h"
#include "base/compiler.h"

#define LDCACHE_FILE "/etc/ld.so.cache"

struct ldcache {
	struct buf raw;
	const u8 *head; /* the new-format header in @raw, NULL if there is none */
	size_t len;	/* bytes from @head */
	u32 n;
};

/* Reads @file. A missing or unknown one is an empty cache, as for ld.so. 0 or -ENOMEM. */
int ldcache_open(struct ldcache *c, const char *file);
void ldcache_close(struct ldcache *c);

/*
 * The path of the next entry for @name behind *pos (0 to begin), or NULL. Entries for a particular
 * CPU (glibc-hwcaps) are left out: the guest's CPU is not the host's. The string lives as long as
 * the cache.
 */
const char *ldcache_next(const struct ldcache *c, const char *name, u32 *pos);

#endif
