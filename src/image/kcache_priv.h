/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kcache_priv.h - what the kernel cache's files share: its directory, lock and metadata
 */
#ifndef ORR_IMAGE_KCACHE_PRIV_H
#define ORR_IMAGE_KCACHE_PRIV_H

#include "image/kcache.h"

/* Names that begin with a dot are no entries: the lock, and work in progress. */
#define KCACHE_LOCK ".lock"
#define KCACHE_TMP ".tmp-"

/* The cache, open for changes: its lock is held. */
struct kcache {
	char *dir; /* owned */
	int lock;  /* fd */
};

/*
 * Creates the directory if necessary, takes the lock (says so and waits if another process has
 * it) and removes leftovers. Returns 0 and *ret, or -EACCES and the like with a message.
 */
int kcache_open(const struct image_progress *p, struct err *e, struct kcache *ret);
void kcache_close(struct kcache *c);

/* Reads DIR/NAME/metadata.json. 0, or -ENOENT or -EINVAL if it is no complete entry. */
int kcache_read_entry(const char *dir, const char *name, struct kcache_entry *ret);
/* Writes metadata.json into @dir, by rename. */
int kcache_write_entry(const char *dir, const struct kcache_entry *ent, struct err *e);

#endif
