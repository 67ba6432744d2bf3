// SPDX-License-Identifier: Apache-2.0
/*
 * test_fuse.c - the file server, by requests made by hand, on a tree of its own
 *
 * The rules about handles, short requests and confinement are those that other servers got wrong.
 */
#include "fuse_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

/* --- session ---------------------------------------------------------------------------------- */

static void session(void **state)
{
	struct fuse_init_in in = { .major = 8, .minor = 1 };
	struct fuse_init_out o;
	struct client c;

	client_up(&c, (struct fuse_cfg){ .cached = true });
	assert_int_equal(client_call(&c, FUSE_INIT, 0, &in, sizeof(in), NULL), 0);
	memcpy(&o, client_body(&c), sizeof(o));
	assert_int_equal(o.major, 7);
	in.major = 6;
	assert_int_equal(client_call(&c, FUSE_INIT, 0, &in, sizeof(in), NULL), -EPROTO);
	assert_int_equal(client_start(&c, FUSE_MAX_PAGES), 0);
	memcpy(&o, client_body(&c), sizeof(o));
	assert_int_equal(client_body_len(&c), 64);
	/* Only what the client offered. */
	assert_int_equal(o.flags, FUSE_MAX_PAGES);
	assert_int_equal(o.map_alignment, 0);
	assert_int_equal(o.max_pages * PAGE, o.max_write);
	fuse_put_file("a", "x");
	assert_true(client_look(&c, 1, "a") > 1);
	assert_int_equal(client_call(&c, FUSE_DESTROY, 0, NULL, 0, NULL), 0);
	assert_int_equal(client_call(&c, FUSE_LOOKUP, 1, NULL, 0, "a"), -EINVAL);
	assert_int_equal(client_start(&c, 0), 0);
	assert_int_equal(client_nodes(&c), 1);
	assert_int_equal(client_call(&c, 4242, 1, NULL, 0, NULL), -ENOSYS);
	assert_int_equal(client_call(&c, FUSE_IOCTL, 1, NULL, 0, NULL), -ENOTTY);
	client_down(&c);
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

	client_up(&c, (struct fuse_cfg){ .window_len = WINDOW });
	for (size_t i = 0; i < sizeof(opcodes) / sizeof(*opcodes); i++) {
		assert_int_equal(client_call(&c, opcodes[i], 1, NULL, 0, NULL), -EINVAL);
		assert_int_equal(client_call(&c, opcodes[i], 1, "\1", 1, NULL), -EINVAL);
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
	client_down(&c);
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

	client_up(&c, (struct fuse_cfg){ 0 });
	assert_int_equal(symlink("../secret", shared("link")), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(client_call(&c, FUSE_LOOKUP, 1, NULL, 0, bad[i]), -EINVAL);
		assert_int_equal(client_call(&c, FUSE_UNLINK, 1, NULL, 0, bad[i]), -EINVAL);
		assert_int_equal(client_call(&c, FUSE_CREATE, 1, &cr, sizeof(cr), bad[i]), -EINVAL);
	}
	assert_int_equal(client_call_raw(&c, FUSE_RENAME, 1, &mv, sizeof(mv), "link\0../x", 10), 0);
	assert_int_equal(client_error(&c), -EINVAL);
	/* A link is itself, never what it points to. */
	link = client_look(&c, 1, "link");
	assert_int_equal(client_open(&c, link, O_RDONLY, &fh), -ELOOP);
	assert_int_equal(client_call(&c, FUSE_CREATE, 1, &cr, sizeof(cr), "link"), -ELOOP);
	assert_int_equal(client_call(&c, FUSE_LOOKUP, link, NULL, 0, "x"), -ENOTDIR);
	assert_true(client_call(&c, FUSE_SETATTR, link, &sa, sizeof(sa), NULL) < 0);
	snprintf((char *)c.reply, 100, "%s/secret", top);
	assert_int_equal(stat((char *)c.reply, &sb), 0);
	assert_int_equal(sb.st_size, 6);
	assert_int_equal(sb.st_mode & 0777, 0600);
	client_down(&c);
}

/* A directory replaced by a link on the host: the node goes on meaning the directory. */
static void swapped(void **state)
{
	struct client c;
	u64 dir;

	client_up(&c, (struct fuse_cfg){ 0 });
	assert_int_equal(mkdir(shared("d"), 0755), 0);
	fuse_put_file("d/secret", "mine");
	dir = client_look(&c, 1, "d");
	assert_int_equal(rename(shared("d"), shared("gone")), 0);
	assert_int_equal(symlink("..", shared("d")), 0);
	client_look(&c, dir, "secret");
	assert_int_equal(((const struct fuse_entry_out *)client_body(&c))->attr.size, 4);
	assert_int_equal(client_call(&c, FUSE_LOOKUP, client_look(&c, 1, "d"), NULL, 0, "secret"),
			 -ENOTDIR);
	client_down(&c);
}

static void special_files(void **state)
{
	struct fuse_mknod_in dev = { .mode = S_IFBLK | 0666, .rdev = 0x801 };
	struct fuse_mknod_in fifo = { .mode = S_IFIFO | 0666 };
	struct client c;
	u64 fh;

	client_up(&c, (struct fuse_cfg){ 0 });
	assert_int_equal(client_call(&c, FUSE_MKNOD, 1, &dev, sizeof(dev), "sda"), -EPERM);
	assert_int_equal(client_call(&c, FUSE_MKNOD, 1, &fifo, sizeof(fifo), "fifo"), 0);
	/* Opening it would wait for a writer. */
	assert_int_equal(client_open(&c, client_look(&c, 1, "fifo"), O_RDONLY, &fh), -ENXIO);
	assert_int_equal(client_open(&c, 1, O_RDONLY, &fh), -EISDIR);
	client_down(&c);
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

	fuse_put_file("a", "text");
	client_up(&c, (struct fuse_cfg){ .ro = true, .window_len = WINDOW });
	n = client_look(&c, 1, "a");
	assert_int_equal(client_call(&c, FUSE_MKDIR, 1, &mk, sizeof(mk), "d"), -EROFS);
	assert_int_equal(client_call(&c, FUSE_SETATTR, n, &sa, sizeof(sa), NULL), -EROFS);
	assert_int_equal(client_call(&c, FUSE_CREATE, 1, &cr, sizeof(cr), "a"), -EROFS);
	assert_int_equal(client_call(&c, FUSE_UNLINK, 1, NULL, 0, "a"), -EROFS);
	assert_int_equal(client_open(&c, n, O_RDWR, &wr.fh), -EROFS);
	assert_int_equal(client_open(&c, n, O_RDONLY | O_TRUNC, &wr.fh), -EROFS);
	assert_int_equal(client_open(&c, n, O_RDONLY, &wr.fh), 0);
	assert_int_equal(client_call(&c, FUSE_WRITE, n, &wr, sizeof(wr), ""), -EROFS);
	assert_int_equal(client_call(&c, FUSE_SETUPMAPPING, n, &map, sizeof(map), NULL), -EROFS);
	map.flags = 2;
	assert_int_equal(client_call(&c, FUSE_SETUPMAPPING, n, &map, sizeof(map), NULL), 0);
	/* The memory can be written, the file is not. */
	c.window[0] = 'T';
	client_down(&c);
	client_up(&c, (struct fuse_cfg){ 0 });
	n = client_look(&c, 1, "a");
	assert_int_equal(((const struct fuse_entry_out *)client_body(&c))->attr.size, 4);
	struct fuse_read_in rd = { .size = 4 };

	assert_int_equal(client_open(&c, n, O_RDONLY, &rd.fh), 0);
	assert_int_equal(client_call(&c, FUSE_READ, n, &rd, sizeof(rd), NULL), 0);
	assert_memory_equal(client_body(&c), "text", 4);
	client_down(&c);
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

	fuse_put_file("a", "");
	fuse_put_file("b", "");
	client_up(&c, (struct fuse_cfg){ 0 });
	a = client_look(&c, 1, "a");
	assert_int_equal(client_look(&c, 1, "a"), a);
	client_forget(&c, a, 1);
	assert_int_equal(client_nodes(&c), 2);
	/* More than there were is all of them, and no number comes again. */
	client_forget(&c, a, UINT64_MAX);
	assert_int_equal(client_nodes(&c), 1);
	assert_int_equal(client_call(&c, FUSE_GETATTR, a, "0123456789abcdef", 16, NULL), -ESTALE);
	client_forget(&c, 1, UINT64_MAX);
	client_forget(&c, 4711, 1);
	b = client_look(&c, 1, "b");
	assert_true(client_look(&c, 1, "a") != a);
	batch.one[0] = (struct fuse_forget_one){ client_look(&c, 1, "a"), 2 };
	batch.one[1] = (struct fuse_forget_one){ b, 1 };
	assert_int_equal(client_call_raw(&c, FUSE_BATCH_FORGET, 0, &batch, sizeof(batch), NULL, 0),
			 0);
	assert_int_equal(c.r.written, 0);
	assert_int_equal(client_nodes(&c), 1);
	client_down(&c);
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
		fuse_put_file(name, name);
	}
	client_up(&c, (struct fuse_cfg){ .fds = 64 });
	for (unsigned i = 0; i < 300; i++) {
		s32 r;

		snprintf(name, sizeof(name), "f%u", i);
		r = client_call(&c, FUSE_LOOKUP, 1, NULL, 0, name);
		if (r == -ENFILE && i > 30) {
			print_message("skip: no file handles here; run as root on a local file "
				      "system\n");
			client_down(&c);
			skip();
		}
		assert_int_equal(r, 0);
		id[i] = ((const struct fuse_entry_out *)client_body(&c))->nodeid;
	}
	assert_int_equal(unlink(shared("f7")), 0);
	for (unsigned i = 0; i < 300; i++) {
		struct fuse_read_in rd = { .size = 16 };
		struct fuse_release_in rel;
		s32 r = client_open(&c, id[i], O_RDONLY, &rd.fh);

		/* Gone while nobody held it. */
		assert_int_equal(r, i == 7 ? -ESTALE : 0);
		if (i == 7)
			continue;
		assert_int_equal(client_call(&c, FUSE_READ, id[i], &rd, sizeof(rd), NULL), 0);
		snprintf(name, sizeof(name), "f%u", i);
		assert_memory_equal(client_body(&c), name, strlen(name));
		assert_int_equal(client_look(&c, 1, name), id[i]);
		rel = (struct fuse_release_in){ .fh = rd.fh };
		assert_int_equal(client_call(&c, FUSE_RELEASE, id[i], &rel, sizeof(rel), NULL), 0);
		assert_int_equal(client_call(&c, FUSE_READ, id[i], &rd, sizeof(rd), NULL), -EBADF);
	}
	fuse_get_stats(c.f, &st);
	assert_true(st.evicted > 500 && st.reopened >= 250);
	client_down(&c);
}

static void handles(void **state)
{
	struct fuse_read_in rd = { .size = 16 };
	struct fuse_open_in od = { 0 };
	struct client c;
	u64 a, b, fh;

	fuse_put_file("a", "aa");
	fuse_put_file("b", "bb");
	client_up(&c, (struct fuse_cfg){ .fds = 64 });
	a = client_look(&c, 1, "a");
	b = client_look(&c, 1, "b");
	assert_int_equal(client_open(&c, a, O_RDONLY, &rd.fh), 0);
	/* Of another node, of a directory, invented. */
	assert_int_equal(client_call(&c, FUSE_READ, b, &rd, sizeof(rd), NULL), -EBADF);
	assert_int_equal(client_call(&c, FUSE_READDIR, a, &rd, sizeof(rd), NULL), -EBADF);
	assert_int_equal(client_call(&c, FUSE_OPENDIR, 1, &od, sizeof(od), NULL), 0);
	memcpy(&fh, client_body(&c), sizeof(fh));
	assert_int_equal(client_call(&c, FUSE_FSYNC, 1, &fh, 16, NULL), -EBADF);
	rd.fh ^= 1ull << 40;
	assert_int_equal(client_call(&c, FUSE_READ, a, &rd, sizeof(rd), NULL), -EBADF);
	/* As many as are allowed, no more, and reset closes them. */
	for (unsigned i = 0; i < 100; i++)
		if (client_open(&c, a, O_RDONLY, &fh) == -ENFILE)
			break;
	assert_int_equal(client_open(&c, a, O_RDONLY, &fh), -ENFILE);
	fuse_reset(c.f);
	assert_int_equal(client_start(&c, 0), 0);
	assert_int_equal(client_open(&c, client_look(&c, 1, "a"), O_RDONLY, &fh), 0);
	client_down(&c);
}

/* --- directories ------------------------------------------------------------------------------ */

/* Reads a directory in pieces of @size; names one behind the other, with '|'. */
static void list(struct client *c, u64 dir, u32 op, u32 size, char *ret)
{
	struct fuse_read_in rd = { .size = size };
	struct fuse_open_in od = { 0 };

	assert_int_equal(client_call(c, FUSE_OPENDIR, dir, &od, sizeof(od), NULL), 0);
	memcpy(&rd.fh, client_body(c), sizeof(rd.fh));
	*ret = 0;
	for (;;) {
		size_t skip = op == FUSE_READDIRPLUS ? sizeof(struct fuse_entry_out) : 0;
		size_t off = 0;

		assert_int_equal(client_call(c, op, dir, &rd, sizeof(rd), NULL), 0);
		assert_true(client_body_len(c) <= size);
		if (!client_body_len(c))
			break;
		while (off < client_body_len(c)) {
			struct fuse_dirent d;
			const u8 *p = (const u8 *)client_body(c) + off + skip;

			memcpy(&d, p, FUSE_NAME_OFFSET);
			strncat(ret, (const char *)p + FUSE_NAME_OFFSET, d.namelen);
			strcat(ret, "|");
			rd.offset = d.off;
			off += skip + FUSE_DIRENT_SIZE(&d);
		}
		assert_int_equal(off, client_body_len(c));
	}
	assert_int_equal(client_call(c, FUSE_RELEASEDIR, dir, &rd, 24, NULL), 0);
}

static void directories(void **state)
{
	char a[256], b[256];
	struct client c;

	fuse_put_file("zebra", "");
	fuse_put_file("ant", "");
	fuse_put_file("middle", "");
	assert_int_equal(mkdir(shared("dir"), 0755), 0);
	client_up(&c, (struct fuse_cfg){ .exact = true });
	list(&c, 1, FUSE_READDIR, 4096, a);
	assert_string_equal(a, ".|..|ant|dir|middle|zebra|");
	list(&c, 1, FUSE_READDIR, 40, b);
	assert_string_equal(a, b);
	assert_int_equal(client_nodes(&c), 1);
	list(&c, 1, FUSE_READDIRPLUS, 400, b);
	assert_string_equal(a, b);
	assert_int_equal(client_nodes(&c), 5);
	client_down(&c);
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
			fuse_put_file("other", "");
		client_up(&c, (struct fuse_cfg){ .exact = true });
		assert_int_equal(client_call(&c, FUSE_CREATE, 1, &cr, sizeof(cr), "new"), 0);
		memcpy(&e[i], client_body(&c), sizeof(e[i]));
		assert_int_equal(e[i].attr.mtime, 1000000000);
		assert_int_equal(client_call(&c, FUSE_UNLINK, 1, NULL, 0, "new"), 0);
		client_down(&c);
	}
	assert_memory_equal(&e[0], &e[1], sizeof(e[0]));
}

/* Names that are not there: an answer that may be remembered, as long as others may. */
static void absent(void **state)
{
	struct fuse_entry_out e;
	struct fuse_getxattr_in x = { .size = 16 };
	struct client c;
	u64 n;

	fuse_put_file("a", "");
	for (unsigned cached = 0; cached < 2; cached++) {
		client_up(&c, (struct fuse_cfg){ .cached = cached });
		assert_int_equal(client_call(&c, FUSE_LOOKUP, 1, NULL, 0, "b"), 0);
		memcpy(&e, client_body(&c), sizeof(e));
		assert_int_equal(e.nodeid, 0);
		assert_int_equal(e.entry_valid, cached ? 86400 : 1);
		n = client_look(&c, 1, "a");
		memcpy(&e, client_body(&c), sizeof(e));
		assert_int_equal(e.entry_valid, cached ? 86400 : 1);
		assert_int_equal(e.attr_valid, cached ? 86400 : 1);
		assert_int_equal(client_nodes(&c), 2);
		/* An attribute that is not there, in Linux's number for it. */
		assert_int_equal(client_call(&c, FUSE_GETXATTR, n, &x, sizeof(x), "user.none"),
				 -ENODATA);
		assert_int_equal(
			client_call(&c, FUSE_GETXATTR, n, &x, sizeof(x), "security.capability"),
			-ENODATA);
		client_down(&c);
	}
}

/* --- locks ------------------------------------------------------------------------------------ */

static s32 lock(struct client *c, u64 node, u64 fh, u64 owner, u32 op, u32 type, u32 flags)
{
	struct fuse_lk_in in = { .fh = fh,
				 .owner = owner,
				 .lk = { .start = 10, .end = 19, .type = type },
				 .lk_flags = flags };

	return client_call(c, op, node, &in, sizeof(in), NULL);
}

static void locks(void **state)
{
	struct fuse_lk_out o;
	struct client c;
	u64 n, fh = 0, fh2 = 0;
	int fd;

	fuse_put_file("a", "0123456789");
	client_up(&c, (struct fuse_cfg){ 0 });
	n = client_look(&c, 1, "a");
	assert_int_equal(client_open(&c, n, O_RDWR, &fh), 0);
	assert_int_equal(client_open(&c, n, O_RDWR, &fh2), 0);
	assert_int_equal(lock(&c, n, fh, 1, FUSE_SETLK, F_WRLCK, 0), 0);
	assert_int_equal(lock(&c, n, fh, 1, FUSE_SETLK, F_WRLCK, 0), 0);
	assert_int_equal(lock(&c, n, fh, 2, FUSE_SETLK, F_RDLCK, 0), -EAGAIN);
	assert_int_equal(lock(&c, n, fh, 2, FUSE_GETLK, F_RDLCK, 0), 0);
	memcpy(&o, client_body(&c), sizeof(o));
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

	assert_int_equal(client_call(&c, FUSE_FLUSH, n, &fl, sizeof(fl), NULL), 0);
	assert_int_equal(lock(&c, n, fh, 2, FUSE_SETLKW, F_WRLCK, 0), 0);
	assert_false(c.r.blocked);
	/* Against the host's. */
	fd = open(shared("a"), O_RDWR);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	assert_int_equal(lock(&c, n, fh, 1, FUSE_SETLK, F_RDLCK, FUSE_LK_FLOCK), -EAGAIN);
	close(fd);
	assert_int_equal(lock(&c, n, fh, 1, FUSE_SETLK, F_WRLCK, FUSE_LK_FLOCK), 0);
	assert_int_equal(lock(&c, n, fh2, 1, FUSE_SETLK, F_WRLCK, FUSE_LK_FLOCK), -EAGAIN);
	assert_int_equal(lock(&c, n, fh, 1, FUSE_SETLK, 77, 0), -EINVAL);
	client_down(&c);
}

/* Each owner costs a descriptor: the client has a part of those only, and gets it back. */
static void lock_owners(void **state)
{
	enum { FDS = 64, MAX = FDS / 8 };
	struct fuse_flush_in fl = { .lock_owner = 1 };
	struct client c;
	u64 n, fh = 0;

	fuse_put_file("a", "0123456789");
	client_up(&c, (struct fuse_cfg){ .fds = FDS });
	n = client_look(&c, 1, "a");
	assert_int_equal(client_open(&c, n, O_RDWR, &fh), 0);
	for (u64 owner = 1; owner <= MAX; owner++)
		assert_int_equal(lock(&c, n, fh, owner, FUSE_SETLK, F_RDLCK, 0), 0);
	assert_int_equal(lock(&c, n, fh, MAX + 1, FUSE_SETLK, F_RDLCK, 0), -ENOLCK);
	assert_int_equal(lock(&c, n, fh, MAX, FUSE_SETLK, F_RDLCK, 0), 0);
	fl.fh = fh;
	assert_int_equal(client_call(&c, FUSE_FLUSH, n, &fl, sizeof(fl), NULL), 0);
	assert_int_equal(lock(&c, n, fh, MAX + 1, FUSE_SETLK, F_RDLCK, 0), 0);
	client_down(&c);
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
	client_up(&c, (struct fuse_cfg){ 0 });
	c.uid = 1234;
	assert_int_equal(client_call(&c, FUSE_MKDIR, 1, &mk, sizeof(mk), "d"), 0);
	assert_int_equal(client_call(&c, FUSE_CREATE, 1, &cr, sizeof(cr), "f"), 0);
	n = ((const struct fuse_entry_out *)client_body(&c))->nodeid;
	memcpy(&wr.fh, (const u8 *)client_body(&c) + sizeof(struct fuse_entry_out), 8);
	assert_int_equal(stat(shared("d"), &sb), 0);
	assert_int_equal(sb.st_uid, 1234);
	assert_int_equal(sb.st_mode & 07777, 0700);
	assert_int_equal(stat(shared("f"), &sb), 0);
	assert_int_equal(sb.st_uid, 1234);
	/* No mask of ours. */
	assert_int_equal(sb.st_mode & 07777, 06755);
	assert_int_equal(client_call_raw(&c, FUSE_WRITE, n, &wr, sizeof(wr), "x", 1), 0);
	assert_int_equal(client_error(&c), 0);
	assert_int_equal(stat(shared("f"), &sb), 0);
	assert_int_equal(sb.st_mode & 07777, 0755);
	c.uid = 0;
	assert_int_equal(client_call(&c, FUSE_MKDIR, 1, &mk, sizeof(mk), "root"), 0);
	assert_int_equal(stat(shared("root"), &sb), 0);
	assert_int_equal(sb.st_uid, 0);
	client_down(&c);
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

	client_up(&c, (struct fuse_cfg){ 0 });
	r = client_call(&c, FUSE_TMPFILE, 1, &cr, sizeof(cr), "");
	if (r == -EOPNOTSUPP) {
		print_message("skip: /tmp has no O_TMPFILE; use another file system there\n");
		client_down(&c);
		skip();
	}
	assert_int_equal(r, 0);
	ln.oldnodeid = ((const struct fuse_entry_out *)client_body(&c))->nodeid;
	memcpy(&wr.fh, (const u8 *)client_body(&c) + sizeof(struct fuse_entry_out), 8);
	assert_int_equal(client_call_raw(&c, FUSE_WRITE, ln.oldnodeid, &wr, sizeof(wr), "text", 4),
			 0);
	assert_int_equal(client_error(&c), 0);
	assert_int_equal(client_call(&c, FUSE_LINK, 1, &ln, sizeof(ln), "named"), 0);
	assert_int_equal(stat(shared("named"), &sb), 0);
	assert_int_equal(sb.st_size, 4);
	assert_int_equal(sb.st_mode & 07777, 0640);
	client_down(&c);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fuse_rig_up, fuse_rig_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(session),	     CASE(truncated),	CASE(no_escape),  CASE(swapped),
		CASE(special_files), CASE(read_only),	CASE(forgetting), CASE(eviction),
		CASE(handles),	     CASE(directories), CASE(exact),	  CASE(absent),
		CASE(locks),	     CASE(lock_owners), CASE(owners),	  CASE(nameless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
