/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse_rig.h - a client of the file server in a test, and the directory that it is given
 *
 * Each case gets a fresh directory `top` with `in/` (shared) beside `secret` (not).
 */
#ifndef ORR_TESTS_DEV_FUSE_RIG_H
#define ORR_TESTS_DEV_FUSE_RIG_H

#include "base/compiler.h"
#include "host/fuse.h"

#include <linux/fuse.h>
#include <stdint.h>

#define WINDOW (8u << 20)
#define PAGE 4096u

extern char top[64];
extern u64 now_ns; /* the guest's time; each look at it takes a microsecond */

struct client {
	struct fuse *f;
	u8 *window;
	u8 reply[1 << 16];
	u32 uid;
	u64 unique;
	struct fuse_req r;
	struct iovec in[2]; /* of the last call's reply */
};

/* cmocka's fixtures. */
int fuse_rig_up(void **state);
int fuse_rig_down(void **state);
/* A path in the shared directory; static storage, four at a time. */
const char *shared(const char *name);
void fuse_put_file(const char *name, const char *text);

/* A server with @cfg (its root is set here) that has had its INIT; and its end. */
void client_up(struct client *c, struct fuse_cfg cfg);
void client_down(struct client *c);
/* INIT with @flags offered. Returns the error. */
s32 client_start(struct client *c, u32 flags);

/* A request of three parts, each in a piece of its own that is split once more. */
int client_call_raw(struct client *c, u32 op, u64 node, const void *arg, size_t n, const void *more,
		    size_t m);
/* One that is answered, with a name behind @arg; returns the error. */
s32 client_call(struct client *c, u32 op, u64 node, const void *arg, size_t n, const char *name);
s32 client_error(const struct client *c);
const void *client_body(const struct client *c);
size_t client_body_len(const struct client *c);

u64 client_look(struct client *c, u64 dir, const char *name);
s32 client_open(struct client *c, u64 node, u32 flags, u64 *ret_fh);
u64 client_nodes(struct client *c);
void client_forget(struct client *c, u64 node, u64 n);
s32 client_map(struct client *c, u64 node, u64 fh, u64 off, u64 len, u64 foff, u64 flags);
/* One range, or with @len2 two. */
s32 client_unmap(struct client *c, u64 off, u64 len, u64 off2, u64 len2);

#endif
