// SPDX-License-Identifier: Apache-2.0
/*
 * test_fuse_dax.c - the file server's windows: mapping files, and what must not be mapped
 */
#include "fuse_rig.h"

#include "host/sigbus.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static void dax(void **state)
{
	struct fuse_stats st;
	struct client c;
	char buf[8] = { 0 };
	u64 n, other, fh = 0;
	int fd;

	fuse_put_file("a", "0123");
	fuse_put_file("b", "b");
	assert_int_equal(truncate(shared("a"), 4 * PAGE), 0);
	client_up(&c, (struct fuse_cfg){ .window_len = WINDOW });
	n = client_look(&c, 1, "a");
	other = client_look(&c, 1, "b");
	assert_int_equal(client_map(&c, n, -1, 1, PAGE, 0, 0), -EINVAL);
	assert_int_equal(client_map(&c, n, -1, 0, 0, 0, 0), -EINVAL);
	assert_int_equal(client_map(&c, n, -1, 0, 100, 0, 0), -EINVAL);
	assert_int_equal(client_map(&c, n, -1, 0, PAGE, 5, 0), -EINVAL);
	assert_int_equal(client_map(&c, n, -1, WINDOW, PAGE, 0, 0), -EINVAL);
	assert_int_equal(client_map(&c, n, -1, WINDOW - PAGE, 2 * PAGE, 0, 0), -EINVAL);
	assert_int_equal(client_map(&c, n, -1, -(u64)PAGE, 2 * PAGE, 0, 0), -EINVAL);
	assert_int_equal(client_map(&c, n, -1, 0, PAGE, -(u64)PAGE, 0), -EINVAL);
	assert_int_equal(client_map(&c, n, 4711, 0, PAGE, 0, 0), -EBADF);
	assert_int_equal(client_map(&c, 1, -1, 0, PAGE, 0, 0), -EINVAL);
	assert_int_equal(client_open(&c, other, O_RDONLY, &fh), 0);
	assert_int_equal(client_map(&c, n, fh, 0, PAGE, 0, 0), -EBADF);
	/* By node, for reading: the file shows; and the same range again, for writing. */
	assert_int_equal(client_map(&c, n, -1, PAGE, 2 * PAGE, 0, 2), 0);
	assert_int_equal(c.r.map_lo, PAGE);
	assert_int_equal(c.r.map_hi, 3 * PAGE);
	assert_memory_equal(c.window + PAGE, "0123", 4);
	assert_int_equal(client_map(&c, n, -1, 2 * PAGE, PAGE, 0, 2), -EEXIST);
	assert_int_equal(client_map(&c, n, -1, 0, 2 * PAGE, 0, 2), -EEXIST);
	assert_int_equal(client_map(&c, n, -1, PAGE, 2 * PAGE, 0, 3), 0);
	memcpy(c.window + PAGE, "WXYZ", 4);
	fd = open(shared("a"), O_RDONLY);
	assert_int_equal(pread(fd, buf, 4, 0), 4);
	close(fd);
	assert_string_equal(buf, "WXYZ");
	/* Removal is exact, and the first failure ends a list. */
	assert_int_equal(client_unmap(&c, 2 * PAGE, PAGE, 0, 0), -ENOENT);
	assert_int_equal(client_unmap(&c, PAGE, PAGE, 0, 0), -EINVAL);
	assert_memory_equal(c.window + PAGE, "WXYZ", 4);
	assert_int_equal(client_unmap(&c, 0, PAGE, PAGE, 2 * PAGE), -ENOENT);
	assert_memory_equal(c.window + PAGE, "WXYZ", 4);
	assert_int_equal(client_map(&c, other, -1, 4 * PAGE, PAGE, 0, 2), 0);
	assert_int_equal(client_unmap(&c, PAGE, 2 * PAGE, 4 * PAGE, PAGE), 0);
	assert_int_equal(c.window[PAGE], 0);
	fuse_get_stats(c.f, &st);
	assert_int_equal(st.setups, 3);
	assert_int_equal(st.setup_bytes, 5 * PAGE);
	assert_int_equal(st.removes, 2);
	/* A reset leaves nothing mapped. */
	assert_int_equal(client_map(&c, n, -1, PAGE, PAGE, 0, 3), 0);
	fuse_reset(c.f);
	assert_int_equal(c.window[PAGE], 0);
	client_down(&c);
}

static void no_window(void **state)
{
	struct client c;

	fuse_put_file("a", "");
	client_up(&c, (struct fuse_cfg){ 0 });
	assert_int_equal(client_map(&c, client_look(&c, 1, "a"), -1, 0, PAGE, 0, 2), -ENOSYS);
	client_down(&c);
}

/* The host cuts a file that is mapped: zeros, not the end. */
static void cut(void **state)
{
	struct client c;
	u64 n;

	fuse_put_file("a", "0123");
	assert_int_equal(truncate(shared("a"), 4 * PAGE), 0);
	client_up(&c, (struct fuse_cfg){ .window_len = WINDOW });
	assert_int_equal(sigbus_guard(c.window, WINDOW), 0);
	n = client_look(&c, 1, "a");
	assert_int_equal(client_map(&c, n, -1, 0, 4 * PAGE, 0, 3), 0);
	assert_int_equal(truncate(shared("a"), 0), 0);
	assert_int_equal(*(volatile u8 *)(c.window + PAGE), 0);
	*(volatile u8 *)(c.window + 3 * PAGE) = 1;
	assert_int_equal(*(volatile u8 *)(c.window + 3 * PAGE), 1);
	sigbus_unguard(c.window);
	client_down(&c);
}

/* Its own code runs from there: whoever decoded it must hear when a session takes the files away. */
static void sessions_end(void **state)
{
	struct client c;
	u64 n;

	fuse_put_file("a", "0123");
	client_up(&c, (struct fuse_cfg){ .window_len = WINDOW });
	for (unsigned i = 0; i < 2; i++) {
		n = client_look(&c, 1, "a");
		assert_int_equal(client_map(&c, n, -1, PAGE, PAGE, 0, 2), 0);
		assert_int_equal(c.window[PAGE], '0');
		if (i)
			assert_int_equal(client_start(&c, UINT32_MAX), 0);
		else
			assert_int_equal(client_call(&c, FUSE_DESTROY, 0, NULL, 0, NULL), 0);
		assert_int_equal(c.r.map_lo, 0);
		assert_int_equal(c.r.map_hi, WINDOW);
		assert_int_equal(c.window[PAGE], 0);
		assert_int_equal(client_start(&c, UINT32_MAX), 0);
		assert_int_equal(c.r.map_hi, 0); /* nothing was there */
	}
	client_down(&c);
}

/* What INIT says of alignment: log2 of a page, 16 bits at 30, in a body of 64 bytes. */
static void alignment(void **state)
{
	for (unsigned window = 0; window < 2; window++) {
		struct client c;
		u16 align;
		u32 flags;

		client_up(&c, (struct fuse_cfg){ .window_len = window ? WINDOW : 0 });
		assert_int_equal(client_start(&c, FUSE_MAP_ALIGNMENT), 0);
		assert_int_equal(client_body_len(&c), 64);
		memcpy(&align, (const u8 *)client_body(&c) + 30, 2);
		memcpy(&flags, (const u8 *)client_body(&c) + 12, 4);
		assert_int_equal(align, window ? 12 : 0);
		assert_int_equal(flags, window ? FUSE_MAP_ALIGNMENT : 0);
		client_down(&c);
	}
}

static unsigned lines_of(const char *path)
{
	FILE *f = fopen(path, "r");
	unsigned n = 0;

	assert_non_null(f);
	for (int c; (c = getc(f)) != EOF;)
		n += c == '\n';
	fclose(f);
	return n;
}

static unsigned open_files(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Mappings that are refused, whoever refuses them, leave neither memory nor descriptors behind. */
static void refusals_leave_nothing(void **state)
{
	unsigned maps, files;
	struct client c;
	u64 n, d, fh = 0;

	fuse_put_file("a", "0123");
	assert_int_equal(mkdir(shared("d"), 0755), 0);
	client_up(&c, (struct fuse_cfg){ .window_len = WINDOW });
	n = client_look(&c, 1, "a");
	assert_int_equal(client_open(&c, n, O_WRONLY, &fh), 0);
	assert_int_equal(client_map(&c, n, -1, 0, PAGE, 0, 2), 0);
	d = client_look(&c, 1, "d");
	maps = lines_of("/proc/self/maps");
	files = open_files();
	for (unsigned i = 0; i < 300; i++) {
		u64 far = 4 * PAGE * (1 + i);

		/* The host refuses: a descriptor that only writes. */
		assert_int_equal(client_map(&c, n, fh, far, PAGE, 0, 2), -EACCES);
		assert_int_equal(client_map(&c, n, -1, 0, 2 * PAGE, 0, 2), -EEXIST);
		assert_int_equal(client_map(&c, d, -1, far, PAGE, 0, 2), -EINVAL);
		assert_int_equal(c.window[far], 0);
	}
	/* The range that a refused one replaced holds zeros, and can be mapped anew. */
	assert_int_equal(client_map(&c, n, fh, 0, PAGE, 0, 2), -EACCES);
	assert_int_equal(c.window[0], 0);
	assert_int_equal(c.r.map_hi, PAGE);
	assert_int_equal(client_map(&c, n, -1, 0, PAGE, 0, 2), 0);
	assert_int_equal(open_files(), files);
	assert_in_range(lines_of("/proc/self/maps"), 1, maps + 4);
	client_down(&c);
}

/* A file replaced on the host: a node goes on meaning the one that was looked up, also when mapped. */
static void replaced(void **state)
{
	struct fuse_read_in rd = { .size = 8 };
	struct client c;
	u64 n;

	fuse_put_file("a", "old");
	fuse_put_file("b", "new");
	client_up(&c, (struct fuse_cfg){ .window_len = WINDOW });
	n = client_look(&c, 1, "a");
	assert_int_equal(rename(shared("b"), shared("a")), 0);
	assert_int_equal(client_map(&c, n, -1, 0, PAGE, 0, 2), 0);
	assert_memory_equal(c.window, "old", 3);
	assert_int_equal(client_open(&c, n, O_RDONLY, &rd.fh), 0);
	assert_int_equal(client_call(&c, FUSE_READ, n, &rd, sizeof(rd), NULL), 0);
	assert_memory_equal(client_body(&c), "old", 3);
	assert_int_not_equal(client_look(&c, 1, "a"), n);
	/* And one that became a link. */
	assert_int_equal(unlink(shared("a")), 0);
	assert_int_equal(symlink("../secret", shared("a")), 0);
	assert_int_equal(client_map(&c, n, -1, PAGE, PAGE, 0, 2), 0);
	assert_memory_equal(c.window + PAGE, "old", 3);
	assert_int_equal(client_map(&c, client_look(&c, 1, "a"), -1, 2 * PAGE, PAGE, 0, 2),
			 -EINVAL);
	client_down(&c);
}

/* Each share has a window of its own: the same offsets, other files. */
static void two_windows(void **state)
{
	struct client a, b;

	fuse_put_file("a", "aaaa");
	fuse_put_file("b", "bbbb");
	client_up(&a, (struct fuse_cfg){ .window_len = WINDOW });
	client_up(&b, (struct fuse_cfg){ .window_len = WINDOW });
	assert_int_equal(client_map(&a, client_look(&a, 1, "a"), -1, 0, PAGE, 0, 2), 0);
	assert_int_equal(client_map(&b, client_look(&b, 1, "b"), -1, 0, PAGE, 0, 2), 0);
	assert_memory_equal(a.window, "aaaa", 4);
	assert_memory_equal(b.window, "bbbb", 4);
	/* Two files in one window. */
	assert_int_equal(client_map(&a, client_look(&a, 1, "b"), -1, PAGE, PAGE, 0, 2), 0);
	assert_memory_equal(a.window, "aaaa", 4);
	assert_memory_equal(a.window + PAGE, "bbbb", 4);
	client_down(&b);
	assert_memory_equal(a.window, "aaaa", 4);
	client_down(&a);
}

#define ROUNDS 3000u
#define RANGE 8u /* pages that both want */

struct mapper {
	struct client c; /* of the same server, with a reply of its own */
	pthread_t t;
	u64 node;
	char fill;
	unsigned won, lost, bad;
};

static void *map_and_look(void *o)
{
	struct mapper *m = o;
	u32 x = (u32)m->fill;

	for (unsigned i = 0; i < ROUNDS; i++) {
		u64 at, n;
		s32 r;

		x = x * 1103515245u + 12345u;
		/* Never the other's very range, which may be mapped again. */
		at = (x >> 20 & (RANGE - 2)) + (m->fill & 1);
		n = 1 + (x >> 8) % (RANGE - at);
		r = client_map(&m->c, m->node, -1, at * PAGE, n * PAGE, 0, 2);
		m->lost += r == -EEXIST;
		m->bad += r && r != -EEXIST;
		if (r)
			continue;
		m->won++;
		for (u64 k = at; k < at + n; k++)
			m->bad += *(volatile char *)&m->c.window[k * PAGE + 7] != m->fill;
		m->bad += client_unmap(&m->c, at * PAGE, n * PAGE, 0, 0) != 0;
	}
	return NULL;
}

/* Two requests for overlapping ranges at once: one gets it, and nobody maps over what it has. */
static void races(void **state)
{
	static struct mapper m[2];
	static char text[RANGE * PAGE + 1];

	for (unsigned i = 0; i < 2; i++) {
		const char *name = i ? "b" : "a";

		m[i] = (struct mapper){ .fill = (char)('A' + i) };
		memset(text, m[i].fill, sizeof(text) - 1);
		fuse_put_file(name, text);
		if (!i)
			client_up(&m[i].c, (struct fuse_cfg){ .window_len = WINDOW });
		m[i].c.f = m[0].c.f;
		m[i].c.window = m[0].c.window;
		m[i].node = client_look(&m[i].c, 1, name);
	}
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&m[i].t, NULL, map_and_look, &m[i]), 0);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(m[i].t, NULL);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(m[i].bad, 0);
		assert_int_equal(m[i].won + m[i].lost, ROUNDS);
		assert_true(m[i].won > 0);
	}
	client_down(&m[0].c);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fuse_rig_up, fuse_rig_down)

int main(void)
{
	const struct CMUnitTest tests[] = { CASE(dax),	     CASE(no_window),
					    CASE(cut),	     CASE(sessions_end),
					    CASE(alignment), CASE(refusals_leave_nothing),
					    CASE(replaced),  CASE(two_windows),
					    CASE(races) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
