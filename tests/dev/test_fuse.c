// SPDX-License-Identifier: Apache-2.0
/*
 * test_fuse.c - the file server, by requests made by hand, on a tree of its own
 *
 * Each case gets a fresh directory with `in/` (shared) beside `secret` (not). The rules about DAX
 * windows, handles, short requests and confinement are those that other servers got wrong.
 */
#include "host/fuse.h"
#include "host/sigbus.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/fuse.h>
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

#define WINDOW (8u << 20)
#define PAGE 4096u

static char top[64];
static u64 now_ns;

struct client {
	struct fuse *f;
	u8 *window;
	u8 reply[1 << 16];
	u32 uid;
	u64 unique;
	struct fuse_req r;
	struct iovec in[2]; /* of the last call's reply */
};

/* --- a client --------------------------------------------------------------------------------- */

static u64 guest_now(void *opaque)
{
	return now_ns += 1000;
}

static int remove_one(const char *path, const struct stat *sb, int flag, struct FTW *ftw)
{
	return remove(path);
}

static int up(void **state)
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

static int down(void **state)
{
	return nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *at(const char *name)
{
	static char path[4][256];
	static unsigned i;

	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%s/in/%s", top, name);
	return path[i];
}

static void put_file(const char *name, const char *text)
{
	int fd = open(at(name), O_CREAT | O_TRUNC | O_WRONLY, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static s32 error_of(const struct client *c)
{
	struct fuse_out_header o;

	assert_true(c->r.written >= sizeof(o));
	memcpy(&o, c->reply, sizeof(o));
	assert_int_equal(o.len, c->r.written);
	assert_int_equal(o.unique, c->unique);
	return o.error;
}

/* A request of three parts, each in a piece of its own that is split once more. */
static int call_raw(struct client *c, u32 op, u64 node, const void *arg, size_t n, const void *more,
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

static s32 call(struct client *c, u32 op, u64 node, const void *arg, size_t n, const char *name)
{
	assert_int_equal(call_raw(c, op, node, arg, n, name, name ? strlen(name) + 1 : 0), 0);
	return c->r.written ? error_of(c) : 0;
}

static const void *body(const struct client *c)
{
	return c->reply + sizeof(struct fuse_out_header);
}

static size_t body_len(const struct client *c)
{
	return c->r.written - sizeof(struct fuse_out_header);
}

static s32 start(struct client *c, u32 flags)
{
	struct fuse_init_in in = {
		.major = 7, .minor = 38, .max_readahead = 1 << 20, .flags = flags
	};

	return call(c, FUSE_INIT, 0, &in, sizeof(in), NULL);
}

static void open_server(struct client *c, struct fuse_cfg cfg)
{
	char path[128];

	memset(c, 0, sizeof(*c));
	snprintf(path, sizeof(path), "%s/in", top);
	cfg.root = open(path, O_PATH | O_DIRECTORY);
	cfg.now = guest_now;
	cfg.fds = cfg.fds ? cfg.fds : 256;
	if (cfg.window_len) {
		c->window = mmap(NULL, cfg.window_len, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		cfg.window = c->window;
	}
	assert_int_equal(fuse_new(&cfg, &c->f), 0);
	assert_int_equal(start(c, UINT32_MAX), 0);
}

static void close_server(struct client *c)
{
	fuse_free(c->f);
	if (c->window)
		munmap(c->window, WINDOW);
}

static u64 look(struct client *c, u64 dir, const char *name)
{
	struct fuse_entry_out e;
	s32 r = call(c, FUSE_LOOKUP, dir, NULL, 0, name);

	assert_int_equal(r, 0);
	memcpy(&e, body(c), sizeof(e));
	return e.nodeid;
}

static s32 open_file(struct client *c, u64 node, u32 flags, u64 *ret_fh)
{
	struct fuse_open_in in = { .flags = flags };
	s32 r = call(c, FUSE_OPEN, node, &in, sizeof(in), NULL);

	if (r == 0)
		memcpy(ret_fh, body(c), sizeof(*ret_fh));
	return r;
}

static u64 nodes(struct client *c)
{
	struct fuse_stats st;

	fuse_get_stats(c->f, &st);
	return st.nodes;
}

static void forget(struct client *c, u64 node, u64 n)
{
	struct fuse_forget_in in = { .nlookup = n };

	assert_int_equal(call_raw(c, FUSE_FORGET, node, &in, sizeof(in), NULL, 0), 0);
	assert_int_equal(c->r.written, 0);
}

/* --- session ---------------------------------------------------------------------------------- */

static void session(void **state)
{
	struct fuse_init_in in = { .major = 8, .minor = 1 };
	struct fuse_init_out o;
	struct client c;

	open_server(&c, (struct fuse_cfg){ .cached = true });
	assert_int_equal(call(&c, FUSE_INIT, 0, &in, sizeof(in), NULL), 0);
	memcpy(&o, body(&c), sizeof(o));
	assert_int_equal(o.major, 7);
	in.major = 6;
	assert_int_equal(call(&c, FUSE_INIT, 0, &in, sizeof(in), NULL), -EPROTO);
	assert_int_equal(start(&c, FUSE_MAX_PAGES), 0);
	memcpy(&o, body(&c), sizeof(o));
	assert_int_equal(body_len(&c), 64);
	/* Only what the client offered. */
	assert_int_equal(o.flags, FUSE_MAX_PAGES);
	assert_int_equal(o.map_alignment, 0);
	assert_int_equal(o.max_pages * PAGE, o.max_write);
	put_file("a", "x");
	assert_true(look(&c, 1, "a") > 1);
	assert_int_equal(call(&c, FUSE_DESTROY, 0, NULL, 0, NULL), 0);
	assert_int_equal(call(&c, FUSE_LOOKUP, 1, NULL, 0, "a"), -EINVAL);
	assert_int_equal(start(&c, 0), 0);
	assert_int_equal(nodes(&c), 1);
	assert_int_equal(call(&c, 4242, 1, NULL, 0, NULL), -ENOSYS);
	assert_int_equal(call(&c, FUSE_IOCTL, 1, NULL, 0, NULL), -ENOTTY);
	close_server(&c);
}

/* Whatever is cut off is refused, and a request that cannot be answered is the caller's matter. */
static void truncated(void **state)
{
	static const u32 opcodes[] = {
		FUSE_LOOKUP,   FUSE_SETATTR,	 FUSE_SYMLINK, FUSE_MKNOD,	  FUSE_MKDIR,
		FUSE_UNLINK,   FUSE_RENAME,	 FUSE_LINK,    FUSE_OPEN,	  FUSE_READ,
		FUSE_WRITE,    FUSE_SETXATTR,	 FUSE_CREATE,  FUSE_GETLK,	  FUSE_SETLK,
		FUSE_ACCESS,   FUSE_FALLOCATE,	 FUSE_LSEEK,   FUSE_RENAME2,	  FUSE_GETXATTR,
		FUSE_READDIR,  FUSE_REMOVEXATTR, FUSE_RELEASE, FUSE_SETUPMAPPING, FUSE_FLUSH,
		FUSE_LISTXATTR
	};
	struct client c;
	struct fuse_in_header h = { .len = sizeof(h), .opcode = FUSE_GETATTR, .nodeid = 1 };
	struct iovec out = { &h, sizeof(h) }, in = { c.reply, 15 };
	struct fuse_req r = { .out = &out, .n_out = 1, .out_len = 39, .in = &in, .n_in = 1 };

	open_server(&c, (struct fuse_cfg){ .window_len = WINDOW });
	for (size_t i = 0; i < sizeof(opcodes) / sizeof(*opcodes); i++) {
		assert_int_equal(call(&c, opcodes[i], 1, NULL, 0, NULL), -EINVAL);
		assert_int_equal(call(&c, opcodes[i], 1, "\1", 1, NULL), -EINVAL);
	}
	out.iov_len = 39;
	assert_int_equal(fuse_serve(c.f, &r), -EPROTO);
	out.iov_len = r.out_len = 40;
	r.in_len = 15;
	assert_int_equal(fuse_serve(c.f, &r), -EPROTO);
	/* Room for the header but not for the attributes. */
	in.iov_len = r.in_len = 20;
	assert_int_equal(fuse_serve(c.f, &r), 0);
	assert_int_equal(((struct fuse_out_header *)c.reply)->error, -ENOBUFS);
	/* The length in the header is not believed. */
	h.len = UINT32_MAX;
	assert_int_equal(fuse_serve(c.f, &r), 0);
	h.len = 3;
	assert_int_equal(fuse_serve(c.f, &r), 0);
	assert_int_equal(((struct fuse_out_header *)c.reply)->error, -EINVAL);
	close_server(&c);
}

/* --- confinement ------------------------------------------------------------------------------ */

static void no_escape(void **state)
{
	static const char *const bad[] = { "..", ".", "", "a/b", "../secret", "/etc/passwd" };
	struct fuse_rename_in mv = { .newdir = 1 };
	struct fuse_create_in cr = { .flags = O_WRONLY | O_TRUNC, .mode = 0644 };
	struct fuse_setattr_in sa = { .valid = FATTR_SIZE | FATTR_MODE, .mode = 0777 };
	struct stat sb;
	struct client c;
	u64 link, fh = 0;

	open_server(&c, (struct fuse_cfg){ 0 });
	assert_int_equal(symlink("../secret", at("link")), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(call(&c, FUSE_LOOKUP, 1, NULL, 0, bad[i]), -EINVAL);
		assert_int_equal(call(&c, FUSE_UNLINK, 1, NULL, 0, bad[i]), -EINVAL);
		assert_int_equal(call(&c, FUSE_CREATE, 1, &cr, sizeof(cr), bad[i]), -EINVAL);
	}
	assert_int_equal(call_raw(&c, FUSE_RENAME, 1, &mv, sizeof(mv), "link\0../x", 10), 0);
	assert_int_equal(error_of(&c), -EINVAL);
	/* A link is itself, never what it points to. */
	link = look(&c, 1, "link");
	assert_int_equal(open_file(&c, link, O_RDONLY, &fh), -ELOOP);
	assert_int_equal(call(&c, FUSE_CREATE, 1, &cr, sizeof(cr), "link"), -ELOOP);
	assert_int_equal(call(&c, FUSE_LOOKUP, link, NULL, 0, "x"), -ENOTDIR);
	assert_true(call(&c, FUSE_SETATTR, link, &sa, sizeof(sa), NULL) < 0);
	snprintf((char *)c.reply, 100, "%s/secret", top);
	assert_int_equal(stat((char *)c.reply, &sb), 0);
	assert_int_equal(sb.st_size, 6);
	assert_int_equal(sb.st_mode & 0777, 0600);
	close_server(&c);
}

/* A directory replaced by a link on the host: the node goes on meaning the directory. */
static void swapped(void **state)
{
	struct client c;
	u64 dir;

	open_server(&c, (struct fuse_cfg){ 0 });
	assert_int_equal(mkdir(at("d"), 0755), 0);
	put_file("d/secret", "mine");
	dir = look(&c, 1, "d");
	assert_int_equal(rename(at("d"), at("gone")), 0);
	assert_int_equal(symlink("..", at("d")), 0);
	look(&c, dir, "secret");
	assert_int_equal(((const struct fuse_entry_out *)body(&c))->attr.size, 4);
	assert_int_equal(call(&c, FUSE_LOOKUP, look(&c, 1, "d"), NULL, 0, "secret"), -ENOTDIR);
	close_server(&c);
}

static void special_files(void **state)
{
	struct fuse_mknod_in dev = { .mode = S_IFBLK | 0666, .rdev = 0x801 };
	struct fuse_mknod_in fifo = { .mode = S_IFIFO | 0666 };
	struct client c;
	u64 fh;

	open_server(&c, (struct fuse_cfg){ 0 });
	assert_int_equal(call(&c, FUSE_MKNOD, 1, &dev, sizeof(dev), "sda"), -EPERM);
	assert_int_equal(call(&c, FUSE_MKNOD, 1, &fifo, sizeof(fifo), "fifo"), 0);
	/* Opening it would wait for a writer. */
	assert_int_equal(open_file(&c, look(&c, 1, "fifo"), O_RDONLY, &fh), -ENXIO);
	assert_int_equal(open_file(&c, 1, O_RDONLY, &fh), -EISDIR);
	close_server(&c);
}

static void read_only(void **state)
{
	struct fuse_mkdir_in mk = { .mode = 0755 };
	struct fuse_setattr_in sa = { .valid = FATTR_MODE, .mode = 0777 };
	struct fuse_create_in cr = { .flags = O_RDONLY, .mode = 0644 };
	struct fuse_setupmapping_in map = { .fh = UINT64_MAX, .len = PAGE, .flags = 1 };
	struct fuse_write_in wr = { .size = 1 };
	struct client c;
	u64 n;

	put_file("a", "text");
	open_server(&c, (struct fuse_cfg){ .ro = true, .window_len = WINDOW });
	n = look(&c, 1, "a");
	assert_int_equal(call(&c, FUSE_MKDIR, 1, &mk, sizeof(mk), "d"), -EROFS);
	assert_int_equal(call(&c, FUSE_SETATTR, n, &sa, sizeof(sa), NULL), -EROFS);
	assert_int_equal(call(&c, FUSE_CREATE, 1, &cr, sizeof(cr), "a"), -EROFS);
	assert_int_equal(call(&c, FUSE_UNLINK, 1, NULL, 0, "a"), -EROFS);
	assert_int_equal(open_file(&c, n, O_RDWR, &wr.fh), -EROFS);
	assert_int_equal(open_file(&c, n, O_RDONLY | O_TRUNC, &wr.fh), -EROFS);
	assert_int_equal(open_file(&c, n, O_RDONLY, &wr.fh), 0);
	assert_int_equal(call(&c, FUSE_WRITE, n, &wr, sizeof(wr), ""), -EROFS);
	assert_int_equal(call(&c, FUSE_SETUPMAPPING, n, &map, sizeof(map), NULL), -EROFS);
	map.flags = 2;
	assert_int_equal(call(&c, FUSE_SETUPMAPPING, n, &map, sizeof(map), NULL), 0);
	/* The memory can be written, the file is not. */
	c.window[0] = 'T';
	close_server(&c);
	open_server(&c, (struct fuse_cfg){ 0 });
	n = look(&c, 1, "a");
	assert_int_equal(((const struct fuse_entry_out *)body(&c))->attr.size, 4);
	struct fuse_read_in rd = { .size = 4 };

	assert_int_equal(open_file(&c, n, O_RDONLY, &rd.fh), 0);
	assert_int_equal(call(&c, FUSE_READ, n, &rd, sizeof(rd), NULL), 0);
	assert_memory_equal(body(&c), "text", 4);
	close_server(&c);
}

/* --- nodes and handles ------------------------------------------------------------------------ */

static void forgetting(void **state)
{
	struct {
		struct fuse_batch_forget_in h;
		struct fuse_forget_one one[2];
	} batch = { .h.count = UINT32_MAX };
	struct client c;
	u64 a, b;

	put_file("a", "");
	put_file("b", "");
	open_server(&c, (struct fuse_cfg){ 0 });
	a = look(&c, 1, "a");
	assert_int_equal(look(&c, 1, "a"), a);
	forget(&c, a, 1);
	assert_int_equal(nodes(&c), 2);
	/* More than there were is all of them, and no number comes again. */
	forget(&c, a, UINT64_MAX);
	assert_int_equal(nodes(&c), 1);
	assert_int_equal(call(&c, FUSE_GETATTR, a, "0123456789abcdef", 16, NULL), -ESTALE);
	forget(&c, 1, UINT64_MAX);
	forget(&c, 4711, 1);
	b = look(&c, 1, "b");
	assert_true(look(&c, 1, "a") != a);
	batch.one[0] = (struct fuse_forget_one){ look(&c, 1, "a"), 2 };
	batch.one[1] = (struct fuse_forget_one){ b, 1 };
	assert_int_equal(call_raw(&c, FUSE_BATCH_FORGET, 0, &batch, sizeof(batch), NULL, 0), 0);
	assert_int_equal(c.r.written, 0);
	assert_int_equal(nodes(&c), 1);
	close_server(&c);
}

/* More files than descriptors. */
static void eviction(void **state)
{
	struct fuse_stats st;
	struct client c;
	char name[16];
	u64 id[300];

	for (unsigned i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		put_file(name, name);
	}
	open_server(&c, (struct fuse_cfg){ .fds = 64 });
	for (unsigned i = 0; i < 300; i++) {
		s32 r;

		snprintf(name, sizeof(name), "f%u", i);
		r = call(&c, FUSE_LOOKUP, 1, NULL, 0, name);
		if (r == -ENFILE && i > 30) {
			print_message("skip: no file handles here; run as root on a local file "
				      "system\n");
			close_server(&c);
			skip();
		}
		assert_int_equal(r, 0);
		id[i] = ((const struct fuse_entry_out *)body(&c))->nodeid;
	}
	assert_int_equal(unlink(at("f7")), 0);
	for (unsigned i = 0; i < 300; i++) {
		struct fuse_read_in rd = { .size = 16 };
		struct fuse_release_in rel;
		s32 r = open_file(&c, id[i], O_RDONLY, &rd.fh);

		/* Gone while nobody held it. */
		assert_int_equal(r, i == 7 ? -ESTALE : 0);
		if (i == 7)
			continue;
		assert_int_equal(call(&c, FUSE_READ, id[i], &rd, sizeof(rd), NULL), 0);
		snprintf(name, sizeof(name), "f%u", i);
		assert_memory_equal(body(&c), name, strlen(name));
		assert_int_equal(look(&c, 1, name), id[i]);
		rel = (struct fuse_release_in){ .fh = rd.fh };
		assert_int_equal(call(&c, FUSE_RELEASE, id[i], &rel, sizeof(rel), NULL), 0);
		assert_int_equal(call(&c, FUSE_READ, id[i], &rd, sizeof(rd), NULL), -EBADF);
	}
	fuse_get_stats(c.f, &st);
	assert_true(st.evicted > 500 && st.reopened >= 250);
	close_server(&c);
}

static void handles(void **state)
{
	struct fuse_read_in rd = { .size = 16 };
	struct fuse_open_in od = { 0 };
	struct client c;
	u64 a, b, fh;

	put_file("a", "aa");
	put_file("b", "bb");
	open_server(&c, (struct fuse_cfg){ .fds = 64 });
	a = look(&c, 1, "a");
	b = look(&c, 1, "b");
	assert_int_equal(open_file(&c, a, O_RDONLY, &rd.fh), 0);
	/* Of another node, of a directory, invented. */
	assert_int_equal(call(&c, FUSE_READ, b, &rd, sizeof(rd), NULL), -EBADF);
	assert_int_equal(call(&c, FUSE_READDIR, a, &rd, sizeof(rd), NULL), -EBADF);
	assert_int_equal(call(&c, FUSE_OPENDIR, 1, &od, sizeof(od), NULL), 0);
	memcpy(&fh, body(&c), sizeof(fh));
	assert_int_equal(call(&c, FUSE_FSYNC, 1, &fh, 16, NULL), -EBADF);
	rd.fh ^= 1ull << 40;
	assert_int_equal(call(&c, FUSE_READ, a, &rd, sizeof(rd), NULL), -EBADF);
	/* As many as are allowed, no more, and reset closes them. */
	for (unsigned i = 0; i < 100; i++)
		if (open_file(&c, a, O_RDONLY, &fh) == -ENFILE)
			break;
	assert_int_equal(open_file(&c, a, O_RDONLY, &fh), -ENFILE);
	fuse_reset(c.f);
	assert_int_equal(start(&c, 0), 0);
	assert_int_equal(open_file(&c, look(&c, 1, "a"), O_RDONLY, &fh), 0);
	close_server(&c);
}

/* --- directories ------------------------------------------------------------------------------ */

/* Reads a directory in pieces of @size; names one behind the other, with '|'. */
static void list(struct client *c, u64 dir, u32 op, u32 size, char *ret)
{
	struct fuse_read_in rd = { .size = size };
	struct fuse_open_in od = { 0 };

	assert_int_equal(call(c, FUSE_OPENDIR, dir, &od, sizeof(od), NULL), 0);
	memcpy(&rd.fh, body(c), sizeof(rd.fh));
	*ret = 0;
	for (;;) {
		size_t skip = op == FUSE_READDIRPLUS ? sizeof(struct fuse_entry_out) : 0;
		size_t off = 0;

		assert_int_equal(call(c, op, dir, &rd, sizeof(rd), NULL), 0);
		assert_true(body_len(c) <= size);
		if (!body_len(c))
			break;
		while (off < body_len(c)) {
			struct fuse_dirent d;
			const u8 *p = (const u8 *)body(c) + off + skip;

			memcpy(&d, p, FUSE_NAME_OFFSET);
			strncat(ret, (const char *)p + FUSE_NAME_OFFSET, d.namelen);
			strcat(ret, "|");
			rd.offset = d.off;
			off += skip + FUSE_DIRENT_SIZE(&d);
		}
		assert_int_equal(off, body_len(c));
	}
	assert_int_equal(call(c, FUSE_RELEASEDIR, dir, &rd, 24, NULL), 0);
}

static void directories(void **state)
{
	char a[256], b[256];
	struct client c;

	put_file("zebra", "");
	put_file("ant", "");
	put_file("middle", "");
	assert_int_equal(mkdir(at("dir"), 0755), 0);
	open_server(&c, (struct fuse_cfg){ .exact = true });
	list(&c, 1, FUSE_READDIR, 4096, a);
	assert_string_equal(a, ".|..|ant|dir|middle|zebra|");
	list(&c, 1, FUSE_READDIR, 40, b);
	assert_string_equal(a, b);
	assert_int_equal(nodes(&c), 1);
	list(&c, 1, FUSE_READDIRPLUS, 400, b);
	assert_string_equal(a, b);
	assert_int_equal(nodes(&c), 5);
	close_server(&c);
}

/* Under cfg.exact nothing of the host's file system shows. */
static void exact(void **state)
{
	struct fuse_create_in cr = { .flags = O_RDWR, .mode = 0644 };
	struct fuse_entry_out e[2];
	struct client c;

	for (unsigned i = 0; i < 2; i++) {
		now_ns = 1000000000000000000;
		/* Other inode numbers the second time. */
		if (i)
			put_file("other", "");
		open_server(&c, (struct fuse_cfg){ .exact = true });
		assert_int_equal(call(&c, FUSE_CREATE, 1, &cr, sizeof(cr), "new"), 0);
		memcpy(&e[i], body(&c), sizeof(e[i]));
		assert_int_equal(e[i].attr.mtime, 1000000000);
		assert_int_equal(call(&c, FUSE_UNLINK, 1, NULL, 0, "new"), 0);
		close_server(&c);
	}
	assert_memory_equal(&e[0], &e[1], sizeof(e[0]));
}

/* --- locks ------------------------------------------------------------------------------------ */

static s32 lock(struct client *c, u64 node, u64 fh, u64 owner, u32 op, u32 type, u32 flags)
{
	struct fuse_lk_in in = { .fh = fh,
				 .owner = owner,
				 .lk = { .start = 10, .end = 19, .type = type },
				 .lk_flags = flags };

	return call(c, op, node, &in, sizeof(in), NULL);
}

static void locks(void **state)
{
	struct fuse_lk_out o;
	struct client c;
	u64 n, fh = 0, fh2 = 0;
	int fd;

	put_file("a", "0123456789");
	open_server(&c, (struct fuse_cfg){ 0 });
	n = look(&c, 1, "a");
	assert_int_equal(open_file(&c, n, O_RDWR, &fh), 0);
	assert_int_equal(open_file(&c, n, O_RDWR, &fh2), 0);
	assert_int_equal(lock(&c, n, fh, 1, FUSE_SETLK, F_WRLCK, 0), 0);
	assert_int_equal(lock(&c, n, fh, 1, FUSE_SETLK, F_WRLCK, 0), 0);
	assert_int_equal(lock(&c, n, fh, 2, FUSE_SETLK, F_RDLCK, 0), -EAGAIN);
	assert_int_equal(lock(&c, n, fh, 2, FUSE_GETLK, F_RDLCK, 0), 0);
	memcpy(&o, body(&c), sizeof(o));
	assert_int_equal(o.lk.type, F_WRLCK);
	assert_int_equal(o.lk.start, 10);
	assert_int_equal(o.lk.end, 19);
	/* To wait is the caller's to do. */
	assert_int_equal(lock(&c, n, fh, 2, FUSE_SETLKW, F_WRLCK, 0), 0);
	assert_true(c.r.blocked && !c.r.written);
	fuse_refuse(&c.r, -EINTR);
	assert_int_equal(c.r.written, 16);
	/* A close of the first owner's ends all of its locks. */
	struct fuse_flush_in fl = { .fh = fh, .lock_owner = 1 };

	assert_int_equal(call(&c, FUSE_FLUSH, n, &fl, sizeof(fl), NULL), 0);
	assert_int_equal(lock(&c, n, fh, 2, FUSE_SETLKW, F_WRLCK, 0), 0);
	assert_false(c.r.blocked);
	/* Against the host's. */
	fd = open(at("a"), O_RDWR);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	assert_int_equal(lock(&c, n, fh, 1, FUSE_SETLK, F_RDLCK, FUSE_LK_FLOCK), -EAGAIN);
	close(fd);
	assert_int_equal(lock(&c, n, fh, 1, FUSE_SETLK, F_WRLCK, FUSE_LK_FLOCK), 0);
	assert_int_equal(lock(&c, n, fh2, 1, FUSE_SETLK, F_WRLCK, FUSE_LK_FLOCK), -EAGAIN);
	assert_int_equal(lock(&c, n, fh, 1, FUSE_SETLK, 77, 0), -EINVAL);
	close_server(&c);
}

/* --- DAX -------------------------------------------------------------------------------------- */

static s32 map(struct client *c, u64 node, u64 fh, u64 off, u64 len, u64 foff, u64 flags)
{
	struct fuse_setupmapping_in in = {
		.fh = fh, .foffset = foff, .len = len, .flags = flags, .moffset = off
	};

	return call(c, FUSE_SETUPMAPPING, node, &in, sizeof(in), NULL);
}

static s32 unmap(struct client *c, u64 off, u64 len, u64 off2, u64 len2)
{
	struct {
		u32 count, pad;
		struct fuse_removemapping_one one[2];
	} in = { .count = len2 ? 2 : 1, .one = { { off, len }, { off2, len2 } } };

	/* The list follows the count without padding. */
	u8 raw[4 + sizeof(in.one)];

	memcpy(raw, &in.count, 4);
	memcpy(raw + 4, in.one, sizeof(in.one));
	return call(c, FUSE_REMOVEMAPPING, 0, raw, sizeof(raw), NULL);
}

static void dax(void **state)
{
	struct fuse_stats st;
	struct client c;
	char buf[8] = { 0 };
	u64 n, other, fh = 0;
	int fd;

	put_file("a", "0123");
	put_file("b", "b");
	assert_int_equal(truncate(at("a"), 4 * PAGE), 0);
	open_server(&c, (struct fuse_cfg){ .window_len = WINDOW });
	n = look(&c, 1, "a");
	other = look(&c, 1, "b");
	assert_int_equal(map(&c, n, -1, 1, PAGE, 0, 0), -EINVAL);
	assert_int_equal(map(&c, n, -1, 0, 0, 0, 0), -EINVAL);
	assert_int_equal(map(&c, n, -1, 0, 100, 0, 0), -EINVAL);
	assert_int_equal(map(&c, n, -1, 0, PAGE, 5, 0), -EINVAL);
	assert_int_equal(map(&c, n, -1, WINDOW, PAGE, 0, 0), -EINVAL);
	assert_int_equal(map(&c, n, -1, WINDOW - PAGE, 2 * PAGE, 0, 0), -EINVAL);
	assert_int_equal(map(&c, n, -1, -(u64)PAGE, 2 * PAGE, 0, 0), -EINVAL);
	assert_int_equal(map(&c, n, -1, 0, PAGE, -(u64)PAGE, 0), -EINVAL);
	assert_int_equal(map(&c, n, 4711, 0, PAGE, 0, 0), -EBADF);
	assert_int_equal(map(&c, 1, -1, 0, PAGE, 0, 0), -EINVAL);
	assert_int_equal(open_file(&c, other, O_RDONLY, &fh), 0);
	assert_int_equal(map(&c, n, fh, 0, PAGE, 0, 0), -EBADF);
	/* By node, for reading: the file shows; and the same range again, for writing. */
	assert_int_equal(map(&c, n, -1, PAGE, 2 * PAGE, 0, 2), 0);
	assert_int_equal(c.r.map_lo, PAGE);
	assert_int_equal(c.r.map_hi, 3 * PAGE);
	assert_memory_equal(c.window + PAGE, "0123", 4);
	assert_int_equal(map(&c, n, -1, 2 * PAGE, PAGE, 0, 2), -EEXIST);
	assert_int_equal(map(&c, n, -1, 0, 2 * PAGE, 0, 2), -EEXIST);
	assert_int_equal(map(&c, n, -1, PAGE, 2 * PAGE, 0, 3), 0);
	memcpy(c.window + PAGE, "WXYZ", 4);
	fd = open(at("a"), O_RDONLY);
	assert_int_equal(pread(fd, buf, 4, 0), 4);
	close(fd);
	assert_string_equal(buf, "WXYZ");
	/* Removal is exact, and the first failure ends a list. */
	assert_int_equal(unmap(&c, 2 * PAGE, PAGE, 0, 0), -ENOENT);
	assert_int_equal(unmap(&c, PAGE, PAGE, 0, 0), -EINVAL);
	assert_memory_equal(c.window + PAGE, "WXYZ", 4);
	assert_int_equal(unmap(&c, 0, PAGE, PAGE, 2 * PAGE), -ENOENT);
	assert_memory_equal(c.window + PAGE, "WXYZ", 4);
	assert_int_equal(map(&c, other, -1, 4 * PAGE, PAGE, 0, 2), 0);
	assert_int_equal(unmap(&c, PAGE, 2 * PAGE, 4 * PAGE, PAGE), 0);
	assert_int_equal(c.window[PAGE], 0);
	fuse_get_stats(c.f, &st);
	assert_int_equal(st.setups, 3);
	assert_int_equal(st.setup_bytes, 5 * PAGE);
	assert_int_equal(st.removes, 2);
	/* A reset leaves nothing mapped. */
	assert_int_equal(map(&c, n, -1, PAGE, PAGE, 0, 3), 0);
	fuse_reset(c.f);
	assert_int_equal(c.window[PAGE], 0);
	close_server(&c);
}

static void no_window(void **state)
{
	struct client c;

	put_file("a", "");
	open_server(&c, (struct fuse_cfg){ 0 });
	assert_int_equal(map(&c, look(&c, 1, "a"), -1, 0, PAGE, 0, 2), -ENOSYS);
	close_server(&c);
}

/* The host cuts a file that is mapped: zeros, not the end. */
static void cut(void **state)
{
	struct client c;
	u64 n;

	put_file("a", "0123");
	assert_int_equal(truncate(at("a"), 4 * PAGE), 0);
	open_server(&c, (struct fuse_cfg){ .window_len = WINDOW });
	assert_int_equal(sigbus_guard(c.window, WINDOW), 0);
	n = look(&c, 1, "a");
	assert_int_equal(map(&c, n, -1, 0, 4 * PAGE, 0, 3), 0);
	assert_int_equal(truncate(at("a"), 0), 0);
	assert_int_equal(*(volatile u8 *)(c.window + PAGE), 0);
	*(volatile u8 *)(c.window + 3 * PAGE) = 1;
	assert_int_equal(*(volatile u8 *)(c.window + 3 * PAGE), 1);
	sigbus_unguard(c.window);
	close_server(&c);
}

/* --- what root may ---------------------------------------------------------------------------- */

static void owners(void **state)
{
	struct fuse_mkdir_in mk = { .mode = 0700 };
	struct fuse_create_in cr = { .flags = O_RDWR, .mode = 06755 };
	struct fuse_write_in wr = { .size = 1, .write_flags = FUSE_WRITE_KILL_SUIDGID };
	struct stat sb;
	struct client c;
	u64 n;

	if (geteuid()) {
		print_message("skip: only root can act as others; run as root\n");
		skip();
	}
	open_server(&c, (struct fuse_cfg){ 0 });
	c.uid = 1234;
	assert_int_equal(call(&c, FUSE_MKDIR, 1, &mk, sizeof(mk), "d"), 0);
	assert_int_equal(call(&c, FUSE_CREATE, 1, &cr, sizeof(cr), "f"), 0);
	n = ((const struct fuse_entry_out *)body(&c))->nodeid;
	memcpy(&wr.fh, (const u8 *)body(&c) + sizeof(struct fuse_entry_out), 8);
	assert_int_equal(stat(at("d"), &sb), 0);
	assert_int_equal(sb.st_uid, 1234);
	assert_int_equal(sb.st_mode & 07777, 0700);
	assert_int_equal(stat(at("f"), &sb), 0);
	assert_int_equal(sb.st_uid, 1234);
	/* No mask of ours. */
	assert_int_equal(sb.st_mode & 07777, 06755);
	assert_int_equal(call_raw(&c, FUSE_WRITE, n, &wr, sizeof(wr), "x", 1), 0);
	assert_int_equal(error_of(&c), 0);
	assert_int_equal(stat(at("f"), &sb), 0);
	assert_int_equal(sb.st_mode & 07777, 0755);
	c.uid = 0;
	assert_int_equal(call(&c, FUSE_MKDIR, 1, &mk, sizeof(mk), "root"), 0);
	assert_int_equal(stat(at("root"), &sb), 0);
	assert_int_equal(sb.st_uid, 0);
	close_server(&c);
}

/* A file without a name, which gets one. */
static void nameless(void **state)
{
	struct fuse_create_in cr = { .flags = O_RDWR, .mode = 0640 };
	struct fuse_write_in wr = { .size = 4 };
	struct fuse_link_in ln = { 0 };
	struct stat sb;
	struct client c;
	s32 r;

	open_server(&c, (struct fuse_cfg){ 0 });
	r = call(&c, FUSE_TMPFILE, 1, &cr, sizeof(cr), "");
	if (r == -EOPNOTSUPP) {
		print_message("skip: /tmp has no O_TMPFILE; use another file system there\n");
		close_server(&c);
		skip();
	}
	assert_int_equal(r, 0);
	ln.oldnodeid = ((const struct fuse_entry_out *)body(&c))->nodeid;
	memcpy(&wr.fh, (const u8 *)body(&c) + sizeof(struct fuse_entry_out), 8);
	assert_int_equal(call_raw(&c, FUSE_WRITE, ln.oldnodeid, &wr, sizeof(wr), "text", 4), 0);
	assert_int_equal(error_of(&c), 0);
	assert_int_equal(call(&c, FUSE_LINK, 1, &ln, sizeof(ln), "named"), 0);
	assert_int_equal(stat(at("named"), &sb), 0);
	assert_int_equal(sb.st_size, 4);
	assert_int_equal(sb.st_mode & 07777, 0640);
	close_server(&c);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(session),	     CASE(truncated),	CASE(no_escape),  CASE(swapped),
		CASE(special_files), CASE(read_only),	CASE(forgetting), CASE(eviction),
		CASE(handles),	     CASE(directories), CASE(exact),	  CASE(locks),
		CASE(dax),	     CASE(no_window),	CASE(cut),	  CASE(owners),
		CASE(nameless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
