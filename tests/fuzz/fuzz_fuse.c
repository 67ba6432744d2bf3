// SPDX-License-Identifier: Apache-2.0
/*
 * fuzz_fuse.c - libFuzzer entry: a hostile client against the file server
 *
 * The input is a program of requests: an opcode, a node, handle and name among those known so far,
 * and raw bytes for the rest. The tree is a temporary directory `in/` beside `out/`, full of links
 * that lead there; whatever was requested, `out/` must be as it was, and no reply may be longer than
 * its room. Times, modes and sizes of what is inside are the client's to ruin.
 */
#include "base/iov.h"
#include "base/path.h"
#include "host/fuse.h"
#include "host/sigbus.h"

#include "input.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define WINDOW (1u << 20)
#define REQUESTS_MAX 64u
#define KNOWN 16u
#define MARK "untouched"
#define SIZE_MAX_SET (1u << 20) /* a sparse file of exabytes helps nobody */

static char top[64];
static u8 *window;
static u64 clock_ns;

static u64 guest_now(void *opaque)
{
	return clock_ns += 1000;
}

static const char *at(const char *name)
{
	static char path[2][128];
	static unsigned i;

	i ^= 1;
	snprintf(path[i], sizeof(path[i]), "%s/%s", top, name);
	return path[i];
}

static void clean_up(void)
{
	path_remove_tree(top);
}

static void put_file(const char *name, const char *text)
{
	int fd = open(at(name), O_CREAT | O_TRUNC | O_WRONLY | O_NOFOLLOW, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		abort();
	close(fd);
}

/*
 * In memory where there is such a place: on a disk SYNCFS, which a client may send as it likes, is
 * nearly all that the time goes into.
 */
static void make_top(void)
{
	snprintf(top, sizeof(top), "/dev/shm/orrery-fuzz-fuse.XXXXXX");
	if (mkdtemp(top))
		return;
	snprintf(top, sizeof(top), "/tmp/orrery-fuzz-fuse.XXXXXX");
	if (!mkdtemp(top))
		abort();
}

static void start(void)
{
	make_top();
	if (mkdir(at("out"), 0755) < 0)
		abort();
	put_file("out/mark", MARK);
	window = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (window == MAP_FAILED || sigbus_guard(window, WINDOW) < 0)
		abort();
	atexit(clean_up);
}

static void make_tree(void)
{
	path_remove_tree(at("in"));
	if (mkdir(at("in"), 0755) < 0 || mkdir(at("in/d"), 0755) < 0 ||
	    mkdir(at("in/d/e"), 0755) < 0 || symlink("../out", at("in/l")) < 0 ||
	    symlink("../../out/mark", at("in/d/m")) < 0)
		abort();
	put_file("in/f", "some text");
	put_file("in/d/g", "");
}

/* What lies beside the shared directory is as it was. */
static void check_outside(void)
{
	struct stat sb;
	char buf[32] = { 0 };
	int fd = open(at("out/mark"), O_RDONLY | O_NOFOLLOW);

	if (fd < 0 || read(fd, buf, sizeof(buf) - 1) < 0 || strcmp(buf, MARK) ||
	    fstat(fd, &sb) < 0 || (sb.st_mode & 07777) != 0644 || sb.st_nlink != 1 ||
	    stat(at("out"), &sb) < 0 || sb.st_nlink != 2)
		abort();
	close(fd);
}

static const char *const names[] = { "f",  "d", "l", "m",   "e",	   "g",		 "new",
				     "..", ".", "",  "d/g", "../out/mark", "/etc/passwd" };

/* Builds the body of a request that has a chance of being understood. */
static size_t make_body(struct input *in, u8 *body, size_t size, const u64 *fh, u32 op)
{
	size_t n = 0, raw = take(in, 1) % 72;
	u64 h = fh[take(in, 1) % KNOWN];

	/* Handles lead nearly every body that has one. */
	if (take(in, 1) & 1) {
		memcpy(body, &h, sizeof(h));
		n = sizeof(h);
	}
	for (size_t i = 0; i < raw; i++)
		body[n++] = (u8)take(in, 1);
	if (op == FUSE_SETATTR && n > 24)
		memset(body + 20, 0, 4);
	if ((op == FUSE_FALLOCATE || op == FUSE_COPY_FILE_RANGE || op == FUSE_WRITE) && n > 24)
		memset(body + 11, 0, 5), memset(body + 19, 0, 5);
	for (unsigned i = take(in, 1) % 3; i; i--) {
		const char *name = names[take(in, 1) % ARRAY_LEN(names)];

		if (n + strlen(name) + 1 > size)
			break;
		memcpy(body + n, name, strlen(name) + 1);
		n += strlen(name) + 1;
	}
	return n;
}

static void learn(const struct fuse_req *r, u32 op, const u8 *reply, u64 *node, u64 *fh, unsigned i)
{
	u64 v;

	if (r->written < sizeof(struct fuse_out_header) + sizeof(v))
		return;
	memcpy(&v, reply + sizeof(struct fuse_out_header), sizeof(v));
	if (op == FUSE_OPEN || op == FUSE_OPENDIR)
		fh[i % KNOWN] = v;
	else if (op == FUSE_LOOKUP || op == FUSE_CREATE || op == FUSE_MKDIR || op == FUSE_MKNOD)
		node[i % KNOWN] = v;
	if (op == FUSE_CREATE && r->written >= sizeof(struct fuse_out_header) +
						       sizeof(struct fuse_entry_out) + sizeof(v))
		memcpy(&fh[i % KNOWN],
		       reply + sizeof(struct fuse_out_header) + sizeof(struct fuse_entry_out),
		       sizeof(v));
}

static void one_request(struct fuse *f, struct input *in, u64 *node, u64 *fh, unsigned i)
{
	static u8 reply[8192 + 16];
	u8 body[256];
	u32 op = take(in, 1) % 56, cut = take(in, 1);
	struct fuse_in_header h = { .opcode = op,
				    .unique = i,
				    .nodeid = node[take(in, 1) % KNOWN] };
	size_t n = make_body(in, body, sizeof(body), fh, op), room = take(in, 2) % 8192;
	struct iovec out[2] = { { &h, sizeof(h) }, { body, n } };
	struct iovec in_iov[2] = { { reply, room / 2 }, { reply + room / 2, room - room / 2 } };
	struct fuse_req r = { .out = out, .n_out = n ? 2 : 1, .in = in_iov, .n_in = 2 };

	h.len = (u32)(sizeof(h) + n);
	if (cut > 250)
		h.len = take(in, 4);
	r.out_len = sizeof(h) + n;
	r.in_len = room;
	memset(reply + room, 0xa5, 16);
	if (fuse_serve(f, &r) == 0 && r.written > room)
		abort();
	for (unsigned k = 0; k < 16; k++)
		if (reply[room + k] != 0xa5)
			abort();
	learn(&r, op, reply, node, fh, i);
	for (u64 at = r.map_lo; at < r.map_hi; at += 4096)
		window[at] = (u8)i;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input in = { data, size };
	u64 node[KNOWN] = { 1, 2, 3, 4, 5, 6, 7 }, fh[KNOWN] = { UINT64_MAX };
	struct fuse_init_in init = { .major = 7, .minor = 38, .flags = UINT32_MAX };
	struct fuse_in_header h = { .len = sizeof(h) + sizeof(init), .opcode = FUSE_INIT };
	u8 reply[80], flags = (u8)take(&in, 1);
	struct iovec out[2] = { { &h, sizeof(h) }, { &init, sizeof(init) } };
	struct iovec room = { reply, sizeof(reply) };
	struct fuse_req r = { .out = out,
			      .n_out = 2,
			      .out_len = h.len,
			      .in = &room,
			      .n_in = 1,
			      .in_len = sizeof(reply) };
	struct fuse_cfg cfg = { .ro = flags & 1,
				.cached = flags & 2,
				.exact = flags & 4,
				.now = guest_now,
				.fds = flags & 8 ? 64 : 256,
				.window = window,
				.window_len = WINDOW };
	struct fuse *f;

	if (!window)
		start();
	cfg.window = window;
	make_tree();
	cfg.root = open(at("in"), O_PATH | O_DIRECTORY);
	if (fuse_new(&cfg, &f) < 0 || fuse_serve(f, &r) < 0)
		abort();
	for (unsigned i = 0; in.left && i < REQUESTS_MAX; i++)
		one_request(f, &in, node, fh, i);
	fuse_free(f);
	check_outside();
	return 0;
}
