// SPDX-License-Identifier: Apache-2.0
/*
 * test_disk_overlay.c - overlays that last: what is found again, what is refused, what survives
 *
 * pwritev and fdatasync are replaced by ones that fail when told to, and that show the order in
 * which bitmap and data become durable.
 */
#include "host/disk_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

#define SIZE ((1u << 20) + 512)
#define DATA 8192u /* of a disk of that size */

static char dir[64], base[80], over[80];
static struct err err;

static struct {
	int fail_in;  /* the n-th call from now on fails */
	char log[64]; /* w: data, m: bitmap, s: sync */
	unsigned n;
} host;

static bool fails(char what)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	bool failed;

	pthread_mutex_lock(&lock);
	if (host.n < sizeof(host.log) - 1)
		host.log[host.n++] = what;
	failed = host.fail_in && !--host.fail_in;
	pthread_mutex_unlock(&lock);
	errno = failed ? EIO : errno;
	return failed;
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
	return fails(off < DATA ? 'm' : 'w') ? -1 : syscall(SYS_pwritev, fd, iov, n, off, 0);
}

int fdatasync(int fd)
{
	return fails('s') ? -1 : (int)syscall(SYS_fdatasync, fd);
}

static void forget_log(void)
{
	memset(&host, 0, sizeof(host));
}

static u8 base_byte(u64 at)
{
	return (u8)(at / 512 * 7 + at + 1);
}

static int up(void **state)
{
	int fd;

	snprintf(dir, sizeof(dir), "/tmp/orrery-overlay-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(base, sizeof(base), "%s/base", dir);
	snprintf(over, sizeof(over), "%s/over", dir);
	fd = open(base, O_RDWR | O_CREAT, 0666);
	for (u64 at = 0; at < SIZE; at += 512) {
		u8 b[512];

		for (unsigned i = 0; i < 512; i++)
			b[i] = base_byte(at + i);
		assert_int_equal(write(fd, b, 512), 512);
	}
	close(fd);
	forget_log();
	return 0;
}

static int down(void **state)
{
	char cmd[100];

	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	return system(cmd);
}

static int opened(struct disk **ret)
{
	struct disk_cfg c = { .opt = "--disk X", .path = base, .mode = DISK_COW, .overlay = over };

	memset(&err, 0, sizeof(err));
	return disk_open(&c, &err, ret);
}

static struct disk *open_ok(void)
{
	struct disk *d;

	if (opened(&d) < 0)
		fail_msg("%s", err.msg);
	return d;
}

static void refused(int r, const char *words)
{
	struct disk *d = NULL;

	assert_int_equal(opened(&d), r);
	assert_null(d);
	if (!strstr(err.msg, words) || strncmp(err.msg, "--disk X", 8) || strchr(err.msg, '\n'))
		fail_msg("no \"%s\" in: %s", words, err.msg);
}

static int wr(struct disk *d, u64 off, int fill, size_t len)
{
	u8 *b = malloc(len);
	struct iovec v = { b, len };
	int r;

	memset(b, fill, len);
	r = disk_write(d, off, &v, 1, 0, len);
	free(b);
	return r;
}

static u8 rd(struct disk *d, u64 at)
{
	u8 b[512];
	struct iovec v = { b, sizeof(b) };

	assert_int_equal(disk_read(d, at / 512 * 512, &v, 1, 0, sizeof(b)), 0);
	return b[at % 512];
}

static void poke(const char *path, u64 at, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY);

	assert_int_equal(pwrite(fd, data, len, (off_t)at), len);
	close(fd);
}

/* A copy of the overlay as it is on the disk now: what a host that dies would leave. */
static void crash(void)
{
	char cmd[300];

	snprintf(cmd, sizeof(cmd), "cp %s %s/left", over, dir);
	assert_int_equal(system(cmd), 0);
}

static void after_crash(void)
{
	char from[100];

	snprintf(from, sizeof(from), "%s/left", dir);
	assert_int_equal(rename(from, over), 0);
}

/* --- cases ------------------------------------------------------------------------------------ */

static void lasts(void **state)
{
	struct disk *d = open_ok();
	struct stat st;

	assert_true(disk_lasting(d));
	assert_int_equal(disk_kind(d), DISK_OVERLAY);
	assert_int_equal(disk_size(d), SIZE);
	assert_int_equal(rd(d, 5000), base_byte(5000));
	assert_int_equal(wr(d, 512, 0xaa, 512), 0);
	assert_int_equal(wr(d, 65536, 0xbb, 8192), 0);
	assert_int_equal(wr(d, SIZE - 512, 0xcc, 512), 0);
	assert_int_equal(disk_zero(d, 8192, 4096, true), 0);
	disk_free(d);
	for (unsigned i = 0; i < 2; i++) {
		d = open_ok();
		assert_int_equal(rd(d, 0), base_byte(0));
		assert_int_equal(rd(d, 600), 0xaa);
		assert_int_equal(rd(d, 1024), base_byte(1024)); /* of the same cluster */
		assert_int_equal(rd(d, 65536 + 8191), 0xbb);
		assert_int_equal(rd(d, 65536 + 8192), base_byte(65536 + 8192));
		assert_int_equal(rd(d, SIZE - 1), 0xcc);
		assert_int_equal(rd(d, 8192), 0);
		assert_int_equal(rd(d, 12288), base_byte(12288));
		disk_free(d);
	}
	/* Little room, and the original is as it was. */
	assert_int_equal(stat(over, &st), 0);
	assert_in_range(st.st_blocks, 1, 200);
	struct disk_cfg c = { .opt = "x", .path = base, .mode = DISK_RO };
	assert_int_equal(disk_open(&c, &err, &d), 0);
	for (u64 at = 0; at < SIZE; at += 499)
		assert_int_equal(rd(d, at), base_byte(at));
	disk_free(d);
}

/* Data first, then the bits that point to it, each durable; and nothing where nothing is new. */
static void order(void **state)
{
	struct disk *d = open_ok();

	forget_log();
	assert_int_equal(wr(d, 4096, 1, 4096), 0);
	assert_int_equal(disk_flush(d), 0);
	assert_string_equal(host.log, "wsms");
	forget_log();
	assert_int_equal(wr(d, 4096, 2, 4096), 0);
	assert_int_equal(disk_flush(d), 0);
	assert_string_equal(host.log, "ws");
	forget_log();
	disk_free(d); /* what was flushed is not flushed again, but for the sync */
	assert_string_equal(host.log, "s");
}

/* What was flushed is there, what was not is the original's: never zeros, never half. */
static void host_dies(void **state)
{
	struct disk *d = open_ok();

	assert_int_equal(wr(d, 0, 1, 4096), 0);
	assert_int_equal(disk_flush(d), 0);
	assert_int_equal(wr(d, 8192, 2, 4096), 0);
	assert_int_equal(wr(d, 20000 / 512 * 512, 3, 512), 0);
	crash();
	disk_free(d);
	after_crash();
	d = open_ok();
	assert_int_equal(rd(d, 100), 1);
	assert_int_equal(rd(d, 8192), base_byte(8192));
	assert_int_equal(rd(d, 20000), base_byte(20000));
	/* And the disk goes on from there. */
	assert_int_equal(wr(d, 8192, 4, 4096), 0);
	disk_free(d);
	d = open_ok();
	assert_int_equal(rd(d, 8192), 4);
	disk_free(d);
}

/* Each call of the host fails in turn: an error, and what a later flush says is true. */
static void host_fails(void **state)
{
	for (int n = 1; n <= 4; n++) {
		struct disk *d = open_ok();
		int r;

		forget_log();
		host.fail_in = n;
		r = wr(d, 4096u * (unsigned)n, n, 4096);
		r = r < 0 ? r : disk_flush(d);
		assert_int_equal(r, -EIO);
		host.fail_in = 0;
		assert_int_equal(wr(d, 4096u * (unsigned)n, n, 4096), 0);
		assert_int_equal(disk_flush(d), 0);
		crash();
		disk_free(d);
		after_crash();
		d = open_ok();
		for (int k = 1; k <= n; k++)
			assert_int_equal(rd(d, 4096u * (unsigned)k + 7), k);
		disk_free(d);
	}
}

static void in_use(void **state)
{
	struct disk *d = open_ok(), *other;
	struct disk_cfg c = { .opt = "y", .path = base, .mode = DISK_RW };
	char keep[80];

	refused(-EBUSY, "in use");
	/* Nor may anybody write to the original; another overlay of it is in order. */
	assert_int_equal(disk_open(&c, &err, &other), -EBUSY);
	memcpy(keep, over, sizeof(keep));
	snprintf(over, sizeof(over), "%s/second", dir);
	other = open_ok();
	assert_int_equal(wr(other, 0, 9, 4096), 0);
	assert_int_equal(rd(d, 0), base_byte(0));
	disk_free(other);
	memcpy(over, base, sizeof(over));
	refused(-EBUSY, "in use"); /* the original itself */
	memcpy(over, keep, sizeof(keep));
	disk_free(d);
}

/* Every byte of the header, and every length, is checked; bits may say what they like. */
static void hostile(void **state)
{
	struct disk *d = open_ok(), *dummy;
	u8 head[40], all[4096];
	int fd;

	assert_int_equal(wr(d, 4096, 5, 4096), 0);
	disk_free(d);
	fd = open(over, O_RDONLY);
	assert_int_equal(read(fd, head, sizeof(head)), sizeof(head));
	close(fd);
	for (unsigned i = 0; i < sizeof(head); i++) {
		u8 bad = head[i] ^ (u8)(1u << (i % 8));

		poke(over, i, &bad, 1);
		assert_int_equal(opened(&dummy), -EINVAL);
		assert_null(strchr(err.msg, '\n'));
		poke(over, i, &head[i], 1);
	}
	poke(over, 0, "QFI\xfb", 4);
	refused(-EINVAL, "no overlay");
	poke(over, 0, head, sizeof(head));
	/* Bits for clusters that were never written, and for ones that there are not. */
	memset(all, 0xff, sizeof(all));
	poke(over, 4096, all, sizeof(all));
	d = open_ok();
	assert_int_equal(rd(d, 4096), 5);
	assert_int_equal(rd(d, 0), 0);
	assert_int_equal(rd(d, SIZE - 1), 0);
	assert_int_equal(wr(d, SIZE - 512, 6, 512), 0);
	disk_free(d);
	assert_int_equal(truncate(over, DATA + SIZE - 1), 0);
	refused(-EINVAL, "damaged");
	assert_int_equal(truncate(over, DATA + SIZE + 1), 0);
	refused(-EINVAL, "damaged");
	assert_int_equal(truncate(over, 5000), 0);
	refused(-EINVAL, "damaged");
	assert_int_equal(truncate(over, 100), 0);
	d = open_ok(); /* was being made: nothing was in it */
	assert_int_equal(rd(d, 4096), base_byte(4096));
	disk_free(d);
	assert_int_equal(truncate(over, 39), 0);
	refused(-EINVAL, "no overlay");
	/* Cut while it is in use. */
	assert_int_equal(unlink(over), 0);
	d = open_ok();
	assert_int_equal(wr(d, 4096, 5, 4096), 0);
	assert_int_equal(truncate(over, DATA), 0);
	assert_int_equal(disk_flush(d), -EIO);
	disk_free(d);
}

/* Of another original, or one that is not what it was. */
static void strangers(void **state)
{
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1000000000 } };
	struct disk *d = open_ok();
	char path[80];

	assert_int_equal(wr(d, 0, 1, 4096), 0);
	disk_free(d);
	assert_int_equal(truncate(base, SIZE + 512), 0);
	refused(-EINVAL, "a disk of 1049088 bytes");
	assert_int_equal(truncate(base, SIZE), 0);
	refused(-EINVAL, "has changed");
	assert_int_equal(utimensat(AT_FDCWD, base, ts, 0), 0);
	refused(-EINVAL, "has changed");
	memcpy(path, over, sizeof(path));
	snprintf(over, sizeof(over), "%s/none/over", dir);
	refused(-ENOENT, "No such file");
	snprintf(over, sizeof(over), "%s", dir);
	refused(-EISDIR, "directory");
	snprintf(over, sizeof(over), "/dev/null");
	refused(-EINVAL, "not a regular file");
}

#define THREADS 3u

struct writer {
	pthread_t id;
	struct disk *d;
	unsigned index, failed;
};

/* Its own of every three sectors, so that clusters are shared; and a flush now and then. */
static void *write_and_flush(void *opaque)
{
	struct writer *w = opaque;

	for (u32 i = w->index; i < SIZE / 512; i += THREADS) {
		w->failed += wr(w->d, (u64)i * 512, (int)(i % 250) + 1, 512) != 0;
		if (i % 31 == 0)
			w->failed += disk_flush(w->d) != 0;
	}
	return NULL;
}

/* No bit is lost between a flush that takes the marks and a write that sets them. */
static void threads(void **state)
{
	struct writer w[THREADS];
	struct disk *d = open_ok();

	for (unsigned i = 0; i < THREADS; i++) {
		w[i] = (struct writer){ .d = d, .index = i };
		assert_int_equal(pthread_create(&w[i].id, NULL, write_and_flush, &w[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(w[i].id, NULL);
		assert_int_equal(w[i].failed, 0);
	}
	assert_int_equal(disk_flush(d), 0);
	crash();
	disk_free(d);
	after_crash();
	d = open_ok();
	for (u32 i = 0; i < SIZE / 512; i++)
		assert_int_equal(rd(d, (u64)i * 512 + i % 512), i % 250 + 1);
	disk_free(d);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(lasts),  CASE(order),   CASE(host_dies), CASE(host_fails),
		CASE(in_use), CASE(hostile), CASE(strangers), CASE(threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
