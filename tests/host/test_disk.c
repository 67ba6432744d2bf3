// SPDX-License-Identifier: Apache-2.0
/*
 * test_disk.c - what is behind a disk: files, private copies, empty ones, and what is wrong with them
 *
 * Works in $TMPDIR (/tmp). There a file system with reflinks changes what a private copy is: a
 * whole-guest test runs this program on btrfs too.
 */
#include "host/disk_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define SIZE (1u << 20)
#define SECTORS (SIZE / DISK_SECTOR)

static char dir[256];
static struct err err;

static const char *at(const char *name)
{
	static char path[2][512];
	static unsigned i;

	i ^= 1;
	snprintf(path[i], sizeof(path[i]), "%s/%s", dir, name);
	return path[i];
}

/* A file of @size bytes, each sector of it different. */
static const char *file(const char *name, u64 size)
{
	const char *path = at(name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0666);
	u8 *b = malloc(size + 1);

	assert_true(fd >= 0 && b);
	for (u64 i = 0; i < size; i++)
		b[i] = (u8)(i / DISK_SECTOR * 7 + i + 1);
	assert_int_equal(write(fd, b, size), size);
	free(b);
	close(fd);
	return path;
}

static int opened(const char *path, enum disk_mode mode, u64 size, struct disk **ret)
{
	struct disk_cfg c = { .opt = "--disk X", .path = path, .mode = mode, .size = size };

	memset(&err, 0, sizeof(err));
	return disk_open(&c, &err, ret);
}

static struct disk *open_ok(const char *path, enum disk_mode mode, u64 size)
{
	struct disk *d;

	if (opened(path, mode, size, &d) < 0)
		fail_msg("%s", err.msg);
	return d;
}

static void refused(const char *path, enum disk_mode mode, int r, const char *words)
{
	struct disk *d = NULL;

	assert_int_equal(opened(path, mode, 0, &d), r);
	assert_null(d);
	if (!strstr(err.msg, words) || strncmp(err.msg, "--disk X", 8) || strchr(err.msg, '\n'))
		fail_msg("no \"%s\" in: %s", words, err.msg);
}

static int rd(struct disk *d, u64 off, void *buf, size_t len)
{
	struct iovec v = { buf, len };

	return disk_read(d, off, &v, 1, 0, len);
}

static int wr(struct disk *d, u64 off, const void *buf, size_t len)
{
	struct iovec v = { (void *)buf, len };

	return disk_write(d, off, &v, 1, 0, len);
}

/* --- what cannot be a disk -------------------------------------------------------------------- */

static void bad_files(void **s)
{
	refused(at("missing"), DISK_RW, -ENOENT, "No such file");
	refused(dir, DISK_RW, -EISDIR, "a directory");
	refused(dir, DISK_RO, -EISDIR, "a directory");
	assert_int_equal(mkfifo(at("fifo"), 0666), 0);
	refused(at("fifo"), DISK_RO, -EINVAL, "neither a regular file nor a block device");
	refused("/dev/null", DISK_RW, -EINVAL, "neither");
	refused(file("empty", 0), DISK_RW, -EINVAL, "the file is empty");
	refused(file("odd", 1000), DISK_RW, -EINVAL, "1000 bytes is not a multiple of 512");
	refused(file("odd", 511), DISK_COW, -EINVAL, "511 bytes");
	assert_int_equal(chmod(file("locked", SIZE), 0), 0);
	if (geteuid() == 0)
		print_message("skip: root reads and writes every file; run as another user\n");
	else
		refused(at("locked"), DISK_RO, -EACCES, "Permission denied");
	assert_int_equal(chmod(at("locked"), 0444), 0);
	if (geteuid() != 0)
		refused(at("locked"), DISK_RW, -EACCES, "use ,ro or ,cow");
}

static void busy(void **s)
{
	const char *path = file("busy", SIZE);
	struct disk *a = open_ok(path, DISK_RW, 0), *b;

	refused(path, DISK_RW, -EBUSY, "in use as the disk of another VM");
	refused(path, DISK_RO, -EBUSY, "writes to it");
	refused(path, DISK_COW, -EBUSY, "writes to it");
	disk_free(a);
	a = open_ok(path, DISK_RO, 0);
	b = open_ok(path, DISK_RO, 0);
	refused(path, DISK_RW, -EBUSY, "in use");
	disk_free(b);
	disk_free(a);
	a = open_ok(path, DISK_COW, 0);
	b = open_ok(path, DISK_COW, 0);
	/* A clone does not need its original any more. */
	if (disk_kind(a) == DISK_OVERLAY)
		refused(path, DISK_RW, -EBUSY, "in use");
	disk_free(b);
	disk_free(a);
	disk_free(open_ok(path, DISK_RW, 0));
}

static void shrinking(void **s)
{
	const char *path = file("shrinking", SIZE);
	struct disk *d = open_ok(path, DISK_RW, 0);
	u8 buf[4096];

	assert_int_equal(disk_check(d, &err), 0);
	assert_int_equal(truncate(path, SIZE / 2 + 100), 0);
	assert_int_equal(rd(d, 0, buf, sizeof(buf)), 0);
	assert_int_equal(rd(d, SIZE / 2, buf, sizeof(buf)), -EIO);
	assert_int_equal(rd(d, SIZE - 512, buf, 512), -EIO);
	/* A write would make it as long as it was, with a hole in it. */
	assert_int_equal(wr(d, SIZE - 512, buf, 512), -EIO);
	assert_int_equal(disk_zero(d, 0, 512, false), -EIO);
	assert_int_equal(disk_discard(d, 0, 512), -EIO);
	assert_int_equal(disk_flush(d), -EIO);
	assert_int_equal(disk_check(d, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "from 1048576 to 524388 bytes"));
	assert_int_equal(truncate(path, 2 * SIZE), 0);
	assert_int_equal(disk_check(d, &err), -EBUSY);
	assert_int_equal(disk_size(d), SIZE);
	disk_free(d);
	d = open_ok(file("shrinking", SIZE), DISK_COW, 0);
	if (disk_kind(d) == DISK_OVERLAY) {
		assert_int_equal(truncate(path, 4096), 0);
		assert_int_equal(rd(d, 8192, buf, 512), -EIO);
		/* A part of a cluster: the rest cannot be read. */
		assert_int_equal(wr(d, 8192, buf, 512), -EIO);
		assert_int_equal(wr(d, 8192, buf, 4096), 0);
		assert_int_equal(rd(d, 8192, buf, 4096), 0);
	}
	disk_free(d);
}

static void read_only(void **s)
{
	struct disk *d = open_ok(file("ro", SIZE), DISK_RO, 0);
	u8 buf[512];

	assert_true(disk_read_only(d));
	assert_false(disk_lasting(d));
	assert_int_equal(rd(d, SIZE - 512, buf, 512), 0);
	assert_int_equal(wr(d, 0, buf, 512), -EROFS);
	assert_int_equal(disk_zero(d, 0, 512, true), -EROFS);
	assert_int_equal(disk_discard(d, 0, 512), -EROFS);
	assert_int_equal(disk_flush(d), 0);
	disk_free(d);
}

/* A transfer that the host does in part is an error, not a shorter one. */
static void short_write(void **s)
{
	struct disk *d = open_ok(NULL, DISK_RW, SIZE);
	struct rlimit old, lim;
	u8 *buf = calloc(1, SIZE);

	assert_non_null(buf);
	memset(buf, 0x55, SIZE);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	lim = (struct rlimit){ SIZE / 2 + 100, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &lim), 0);
	assert_int_equal(wr(d, 0, buf, SIZE), -EFBIG);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(wr(d, 0, buf, SIZE), 0);
	disk_free(d);
	free(buf);
}

/* --- what a disk is --------------------------------------------------------------------------- */

struct model {
	struct disk *d;
	u8 *bytes;
	unsigned short seed[3];
};

static u32 below(struct model *m, u32 n)
{
	return (u32)nrand48(m->seed) % n;
}

/* Odd pieces that hold @len bytes behind @skip. */
static unsigned cut(struct model *m, u8 *buf, size_t skip, size_t len, struct iovec *v,
		    unsigned max)
{
	size_t left = skip + len;
	unsigned n = 0;

	while (left) {
		size_t k = n + 1 == max ? left : MIN(left, (size_t)(1 + below(m, 900)));

		v[n++] = (struct iovec){ buf, k };
		buf += k;
		left -= k;
	}
	return n;
}

static void step(struct model *m)
{
	static u8 buf[SIZE + 64];
	static struct iovec v[1500];
	u32 sector = below(m, SECTORS), op = below(m, 10);
	u32 n = below(m, 8) ? 1 + below(m, 40) : 1 + below(m, SECTORS);
	u64 off = (u64)sector * DISK_SECTOR, len = (u64)MIN(n, SECTORS - sector) * DISK_SECTOR;
	size_t skip = below(m, 64);
	unsigned pieces = cut(m, buf, skip, len, v, ARRAY_LEN(v));

	if (op < 5) {
		u32 x = (u32)nrand48(m->seed);

		for (u64 i = 0; i < len; i++)
			buf[skip + i] = (u8)((x = x * 1664525 + 1013904223) >> 24);
		memcpy(m->bytes + off, buf + skip, len);
		assert_int_equal(disk_write(m->d, off, v, pieces, skip, len), 0);
	} else if (op < 7) {
		memset(m->bytes + off, 0, len);
		assert_int_equal(disk_zero(m->d, off, len, op & 1), 0);
	} else if (op == 7) {
		/* What a discard leaves may be either; make it known again. */
		assert_int_equal(disk_discard(m->d, off, len), 0);
		assert_int_equal(rd(m->d, off, m->bytes + off, len), 0);
	} else {
		memset(buf, 0xee, skip + len + 1);
		assert_int_equal(disk_read(m->d, off, v, pieces, skip, len), 0);
		assert_memory_equal(buf + skip, m->bytes + off, len);
		for (size_t i = 0; i < skip; i++)
			assert_int_equal(buf[i], 0xee);
		assert_int_equal(buf[skip + len], 0xee);
	}
	if (below(m, 50) == 0)
		assert_int_equal(disk_flush(m->d), 0);
}

static void random_operations(struct disk *d, u16 seed)
{
	struct model m = { .d = d, .bytes = malloc(SIZE), .seed = { seed, 2, 3 } };
	u8 *all = malloc(SIZE);

	assert_true(m.bytes && all);
	assert_int_equal(disk_size(d), SIZE);
	assert_int_equal(rd(d, 0, m.bytes, SIZE), 0);
	for (unsigned i = 0; i < 600; i++)
		step(&m);
	assert_int_equal(rd(d, 0, all, SIZE), 0);
	assert_memory_equal(all, m.bytes, SIZE);
	free(m.bytes);
	free(all);
}

static void model_file(void **s)
{
	const char *path = file("model", SIZE);
	u8 *a = malloc(SIZE), *b = malloc(SIZE);
	struct disk *d = open_ok(path, DISK_RW, 0);

	assert_true(disk_lasting(d));
	assert_int_equal(disk_kind(d), DISK_FILE);
	random_operations(d, 1);
	assert_int_equal(rd(d, 0, a, SIZE), 0);
	disk_free(d);
	/* It lasts. */
	d = open_ok(path, DISK_RO, 0);
	assert_int_equal(rd(d, 0, b, SIZE), 0);
	assert_memory_equal(a, b, SIZE);
	disk_free(d);
	free(a);
	free(b);
}

static void model_sparse(void **s)
{
	struct disk *d = open_ok(NULL, DISK_RW, SIZE);
	u8 buf[4096], zero[4096] = { 0 };

	assert_int_equal(disk_kind(d), DISK_SPARSE);
	assert_false(disk_lasting(d));
	assert_int_equal(rd(d, SIZE - 4096, buf, 4096), 0);
	assert_memory_equal(buf, zero, 4096);
	random_operations(d, 2);
	disk_free(d);
}

static void model_copy(void **s)
{
	u8 *before = malloc(SIZE), *after = malloc(SIZE);
	const char *path = file("base", SIZE);
	struct disk *base = open_ok(path, DISK_RO, 0), *a, *b;

	assert_true(before && after);
	assert_int_equal(rd(base, 0, before, SIZE), 0);
	a = open_ok(path, DISK_COW, 0);
	b = open_ok(path, DISK_COW, 0);
	random_operations(a, 3);
	/* Neither the original nor another copy has seen anything of it. */
	assert_int_equal(rd(b, 0, after, SIZE), 0);
	assert_memory_equal(before, after, SIZE);
	random_operations(b, 4);
	assert_int_equal(rd(base, 0, after, SIZE), 0);
	assert_memory_equal(before, after, SIZE);
	disk_free(a);
	disk_free(b);
	disk_free(base);
	free(before);
	free(after);
}

/* An overlay of our own also where the file system has reflinks; its last cluster is short. */
static void model_overlay(void **s)
{
	const char *path = file("overlaid", SIZE);
	struct disk d = { .kind = DISK_OVERLAY, .size = SIZE, .fd = open(path, O_RDONLY) };
	u8 buf[4096], want[4096], small[1536];
	int fd;

	assert_int_equal(disk_overlay_new(d.fd, SIZE, &d.top), 0);
	random_operations(&d, 5);
	disk_overlay_free(d.top);
	close(d.fd);
	fd = open(file("small", 4096 + 1536), O_RDONLY);
	d = (struct disk){ .kind = DISK_OVERLAY, .size = 4096 + 1536, .fd = fd };
	assert_int_equal(disk_overlay_new(fd, d.size, &d.top), 0);
	assert_int_equal(pread(fd, want, 1536, 4096), 1536);
	memset(want + 512, 0x77, 512);
	assert_int_equal(wr(&d, 4096 + 512, want + 512, 512), 0);
	assert_int_equal(rd(&d, 4096, buf, 1536), 0);
	assert_memory_equal(buf, want, 1536);
	memset(small, 1, sizeof(small));
	assert_int_equal(wr(&d, 4096, small, 1536), 0);
	assert_int_equal(disk_zero(&d, 4096 + 512, 1024, true), 0);
	assert_int_equal(disk_discard(&d, 4096, 1536), 0);
	assert_int_equal(rd(&d, 0, buf, 4096), 0);
	disk_overlay_free(d.top);
	close(fd);
}

/* What a discard gives back, the file system gets. */
static void room(void **s)
{
	const char *path = file("room", SIZE);
	struct disk *d = open_ok(path, DISK_RW, 0);
	struct stat full, holes, zeros;

	assert_int_equal(disk_flush(d), 0);
	stat(path, &full);
	assert_int_equal(disk_discard(d, SIZE / 4, SIZE / 4), 0);
	assert_int_equal(disk_zero(d, SIZE / 2, SIZE / 4, true), 0);
	stat(path, &holes);
	assert_int_equal(holes.st_size, SIZE);
	assert_true(holes.st_blocks <= full.st_blocks - (blkcnt_t)(SIZE / 2 / 512) + 64);
	/* Not to be unmapped: the room is taken again. */
	assert_int_equal(disk_zero(d, SIZE / 4, SIZE / 2, false), 0);
	assert_int_equal(disk_flush(d), 0);
	stat(path, &zeros);
	assert_true(zeros.st_blocks >= full.st_blocks - 64);
	disk_free(d);
}

static void reflink(void **s)
{
	struct disk *d = open_ok(file("linked", SIZE), DISK_COW, 0);
	bool linked = disk_kind(d) == DISK_REFLINK;

	disk_free(d);
	if (getenv("ORRERY_TEST_REFLINK"))
		assert_true(linked);
	else if (!linked)
		print_message("skip: no reflinks in %s; TMPDIR on btrfs or XFS has them\n", dir);
}

/* --- several threads -------------------------------------------------------------------------- */

#define THREADS 4u

struct thread {
	pthread_t id;
	struct disk *d;
	unsigned index;
	int failed;
};

/* Its own of every four sectors: two threads write to one cluster at the same time. */
static void *write_sectors(void *opaque)
{
	struct thread *t = opaque;
	u8 buf[512];

	for (u32 i = t->index; i < SECTORS; i += THREADS) {
		memset(buf, (int)(i * 5 + 1), sizeof(buf));
		t->failed |= wr(t->d, (u64)i * 512, buf, 512);
		t->failed |= rd(t->d, (u64)i * 512, buf, 512);
		t->failed |= buf[511] != (u8)(i * 5 + 1);
	}
	return NULL;
}

static void threads(void **s)
{
	const char *path = file("shared", SIZE);
	struct disk d = { .kind = DISK_OVERLAY, .size = SIZE, .fd = open(path, O_RDONLY) };
	struct thread t[THREADS];
	u8 buf[512];

	for (unsigned round = 0; round < 4; round++) {
		assert_int_equal(disk_overlay_new(d.fd, SIZE, &d.top), 0);
		for (unsigned i = 0; i < THREADS; i++) {
			t[i] = (struct thread){ .d = &d, .index = i };
			assert_int_equal(pthread_create(&t[i].id, NULL, write_sectors, &t[i]), 0);
		}
		for (unsigned i = 0; i < THREADS; i++) {
			pthread_join(t[i].id, NULL);
			assert_int_equal(t[i].failed, 0);
		}
		for (u32 i = 0; i < SECTORS; i++) {
			assert_int_equal(rd(&d, (u64)i * 512, buf, 512), 0);
			assert_int_equal(buf[0], (u8)(i * 5 + 1));
			assert_int_equal(buf[511], (u8)(i * 5 + 1));
		}
		disk_overlay_free(d.top);
	}
	close(d.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_files),	 cmocka_unit_test(busy),
		cmocka_unit_test(shrinking),	 cmocka_unit_test(read_only),
		cmocka_unit_test(short_write),	 cmocka_unit_test(model_file),
		cmocka_unit_test(model_sparse),	 cmocka_unit_test(model_copy),
		cmocka_unit_test(model_overlay), cmocka_unit_test(room),
		cmocka_unit_test(reflink),	 cmocka_unit_test(threads),
	};
	const char *tmp = getenv("TMPDIR");
	char cmd[300];
	int r;

	snprintf(dir, sizeof(dir), "%.200s/orrery-disk-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		return 1;
	r = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	return system(cmd) != 0 ? 1 : r;
}
