// SPDX-License-Identifier: Apache-2.0
/*
 * fuse_rig.c - a client of the file server in a test, and the directory that it is given
 */
#include "fuse_rig.h"

#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

char top[64];
u64 now_ns;

/* --- a client --------------------------------------------------------------------------------- */

static u64 guest_now(void *opaque)
{
	return now_ns += 1000;
}

int fuse_rig_up(void **state)
{
	char path[128];
	int fd;

	snprintf(top, sizeof(top), "/tmp/orrery-fuse.XXXXXX");
	assert_non_null(mkdtemp(top));
	snprintf(path, sizeof(path), "%s/in", top);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/secret", top);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, "secret", 6), 6);
	close(fd);
	now_ns = 1000000000000000000;
	return 0;
}

int fuse_rig_down(void **state)
{
	return path_remove_tree(top);
}

const char *shared(const char *name)
{
	static char path[4][256];
	static unsigned i;

	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%s/in/%s", top, name);
	return path[i];
}

void fuse_put_file(const char *name, const char *text)
{
	int fd = open(shared(name), O_CREAT | O_TRUNC | O_WRONLY, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

s32 client_error(const struct client *c)
{
	struct fuse_out_header o;

	assert_true(c->r.written >= sizeof(o));
	memcpy(&o, c->reply, sizeof(o));
	assert_int_equal(o.len, c->r.written);
	assert_int_equal(o.unique, c->unique);
	return o.error;
}

int client_call_raw(struct client *c, u32 op, u64 node, const void *arg, size_t n, const void *more,
		    size_t m)
{
	struct fuse_in_header h = { .len = (u32)(sizeof(h) + n + m),
				    .opcode = op,
				    .unique = ++c->unique,
				    .nodeid = node,
				    .uid = c->uid };
	struct iovec out[4] = { { &h, 13 },
				{ (u8 *)&h + 13, sizeof(h) - 13 },
				{ (void *)arg, n },
				{ (void *)more, m } };

	c->in[0] = (struct iovec){ c->reply, 7 };
	c->in[1] = (struct iovec){ c->reply + 7, sizeof(c->reply) - 7 };
	memset(c->reply, 0xee, 64);
	c->r = (struct fuse_req){ .out = out,
				  .n_out = 4,
				  .out_len = h.len,
				  .in = c->in,
				  .n_in = 2,
				  .in_len = sizeof(c->reply) };
	return fuse_serve(c->f, &c->r);
}

s32 client_call(struct client *c, u32 op, u64 node, const void *arg, size_t n, const char *name)
{
	assert_int_equal(client_call_raw(c, op, node, arg, n, name, name ? strlen(name) + 1 : 0),
			 0);
	return c->r.written ? client_error(c) : 0;
}

const void *client_body(const struct client *c)
{
	return c->reply + sizeof(struct fuse_out_header);
}

size_t client_body_len(const struct client *c)
{
	return c->r.written - sizeof(struct fuse_out_header);
}

s32 client_start(struct client *c, u32 flags)
{
	struct fuse_init_in in = {
		.major = 7, .minor = 38, .max_readahead = 1 << 20, .flags = flags
	};

	return client_call(c, FUSE_INIT, 0, &in, sizeof(in), NULL);
}

void client_up(struct client *c, struct fuse_cfg cfg)
{
	char path[128];

	memset(c, 0, sizeof(*c));
	snprintf(path, sizeof(path), "%s/in", top);
	cfg.root = open(path, O_PATH | O_DIRECTORY);
	cfg.now = guest_now;
	cfg.fds = cfg.fds ? cfg.fds : 256;
	if (cfg.window_len) {
		c->window = mmap(NULL, cfg.window_len, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		cfg.window = c->window;
	}
	assert_int_equal(fuse_new(&cfg, &c->f), 0);
	assert_int_equal(client_start(c, UINT32_MAX), 0);
}

void client_down(struct client *c)
{
	fuse_free(c->f);
	if (c->window)
		munmap(c->window, WINDOW);
}

u64 client_look(struct client *c, u64 dir, const char *name)
{
	struct fuse_entry_out e;
	s32 r = client_call(c, FUSE_LOOKUP, dir, NULL, 0, name);

	assert_int_equal(r, 0);
	memcpy(&e, client_body(c), sizeof(e));
	return e.nodeid;
}

s32 client_open(struct client *c, u64 node, u32 flags, u64 *ret_fh)
{
	struct fuse_open_in in = { .flags = flags };
	s32 r = client_call(c, FUSE_OPEN, node, &in, sizeof(in), NULL);

	if (r == 0)
		memcpy(ret_fh, client_body(c), sizeof(*ret_fh));
	return r;
}

u64 client_nodes(struct client *c)
{
	struct fuse_stats st;

	fuse_get_stats(c->f, &st);
	return st.nodes;
}

void client_forget(struct client *c, u64 node, u64 n)
{
	struct fuse_forget_in in = { .nlookup = n };

	assert_int_equal(client_call_raw(c, FUSE_FORGET, node, &in, sizeof(in), NULL, 0), 0);
	assert_int_equal(c->r.written, 0);
}

s32 client_map(struct client *c, u64 node, u64 fh, u64 off, u64 len, u64 foff, u64 flags)
{
	struct fuse_setupmapping_in in = {
		.fh = fh, .foffset = foff, .len = len, .flags = flags, .moffset = off
	};

	return client_call(c, FUSE_SETUPMAPPING, node, &in, sizeof(in), NULL);
}

s32 client_unmap(struct client *c, u64 off, u64 len, u64 off2, u64 len2)
{
	struct {
		u32 count, pad;
		struct fuse_removemapping_one one[2];
	} in = { .count = len2 ? 2 : 1, .one = { { off, len }, { off2, len2 } } };

	/* The list follows the count without padding. */
	u8 raw[4 + sizeof(in.one)];

	memcpy(raw, &in.count, 4);
	memcpy(raw + 4, in.one, sizeof(in.one));
	return client_call(c, FUSE_REMOVEMAPPING, 0, raw, sizeof(raw), NULL);
}
