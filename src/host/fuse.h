/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse.h - a file server for one directory, in the FUSE protocol (7.38)
 *
 * Requests and replies are byte strings in pieces; where they come from the server does not know.
 * The client is hostile: whatever it sends, it reaches nothing outside of the directory.
 */
#ifndef ORR_HOST_FUSE_H
#define ORR_HOST_FUSE_H

#include "base/compiler.h"

#include <sys/uio.h>

struct fuse;

struct fuse_cfg {
	int root; /* O_PATH descriptor of the directory; taken by a successful fuse_new */
	bool ro;  /* nothing in it is ever changed */
	/*
	 * Nobody else changes the tree: the client may keep names, attributes and data for a day
	 * and write when it likes. Else it asks again after a second.
	 */
	bool cached;
	/*
	 * What the client sees is a function of the tree and its own requests: names come sorted,
	 * files are numbered in the order in which they are seen, changed ones get the time @now,
	 * how the host's file system stores them is hidden. Requests come from one thread.
	 */
	bool exact;
	u64 (*now)(void *opaque); /* nanoseconds since 1970, for @exact */
	void *opaque;
	unsigned fds; /* descriptors that it may hold, 64 at least */
	/* Where SETUPMAPPING maps files: page-aligned memory that is the server's; len 0: nowhere. */
	u8 *window;
	u64 window_len;
};

/* 0, -ENOMEM, or the negative errno of what /proc/self/fd or the directory refused. */
int fuse_new(const struct fuse_cfg *cfg, struct fuse **ret);
/* No request may be under way. Unmaps the window's files. NULL is legal. */
void fuse_free(struct fuse *f);
/* As at first: forgets nodes, handles, locks and mappings. No request may be under way. */
void fuse_reset(struct fuse *f);

/* Both sides are borrowed; no piece is empty. */
struct fuse_req {
	const struct iovec *out; /* the request */
	unsigned n_out;
	size_t out_len;
	const struct iovec *in; /* room for the reply */
	unsigned n_in;
	size_t in_len;
	bool nowait; /* READ: of what is in memory only; else it is blocked */

	/* Results. */
	u32 written; /* bytes of the reply; 0: there is none */
	u64 map_lo;  /* what part of the window other memory lies in now */
	u64 map_hi;  /* exclusive; 0: nothing changed */
	u64 unique;  /* of the request, to interrupt it by */
	/* It would wait, for a lock or (nowait) the disk: to be served again; written is 0. */
	bool blocked;
};

/*
 * Serves one request; may block on the host's disks. From any thread, several at a time, unless
 * @exact. 0, or -EPROTO: no reply can be given, since there is no room or no header.
 */
int fuse_serve(struct fuse *f, struct fuse_req *r);
/* Answers a blocked request with @error (a negative errno) instead. */
void fuse_refuse(struct fuse_req *r, int error);

/* What a request is, without serving it; 0 if it has no header. */
struct fuse_peek {
	u32 opcode;
	u64 unique;
	u64 interrupts; /* FUSE_INTERRUPT: the unique number of the request to end; else 0 */
	u64 bytes;	/* of data that READ or WRITE moves */
};
void fuse_look(const struct fuse_req *r, struct fuse_peek *ret);

struct fuse_stats {
	u64 requests, failed; /* failed: answered with an error */
	u64 read_bytes, written_bytes;
	u64 nodes, handles;
	u64 setups, setup_bytes, removes;
	u64 evicted, reopened; /* descriptors closed for want of room, and opened again */
};
void fuse_get_stats(struct fuse *f, struct fuse_stats *ret);

#endif
