// SPDX-License-Identifier: Apache-2.0
/*
 * fs_twin.c - random file operations on two directories at once, which must agree
 *
 * usage: fs_twin DIR MODEL SEED OPERATIONS
 *
 * Runs in a guest: DIR lies on the file system under test, MODEL on a tmpfs. Each operation is done
 * in both and must give the same result: status, errno, bytes, attributes. Some files stay open while
 * their names go. At the end, and now and then, both trees are compared as a whole. The last line
 * is "PASS n operations, m succeeded", or FAIL with the operation at which they parted.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define DATA_MAX 40000
#define FILE_MAX 200000
#define FDS 6
#define SIDES 2
#define NAMES 6

static const char *root[SIDES];
static uint64_t state;
static int fds[SIDES][FDS];
static char ours[SIDES][DATA_MAX], what[512];

static unsigned rnd(unsigned n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)(state >> 11) % n;
}

static void fail(const char *why)
{
	printf("FAIL %s: %s\n", what, why);
	exit(1);
}

/* A name up to three levels deep, of few: so that they meet. */
static void pick(char *ret)
{
	unsigned depth = 1 + rnd(3);

	*ret = 0;
	while (depth--)
		sprintf(ret + strlen(ret), "/%c", 'a' + (char)rnd(NAMES));
}

static const char *path(int side, const char *name)
{
	static char buf[4][600];
	static unsigned i;

	i = (i + 1) % 4;
	snprintf(buf[i], sizeof(buf[i]), "%s%s", root[side], name);
	return buf[i];
}

/* --- operations: each on one side ------------------------------------------------------------- */

struct op {
	int kind, slot;
	char a[64], b[64];
	unsigned n, flags;
	long off;
};

static long do_rename(int side, const struct op *o)
{
	static const unsigned flags[] = { 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE };

	return renameat2(AT_FDCWD, path(side, o->a), AT_FDCWD, path(side, o->b),
			 flags[o->flags % 4]);
}

static long do_open(int side, const struct op *o)
{
	static const int flags[] = { O_RDWR | O_CREAT,
				     O_RDWR | O_CREAT | O_EXCL,
				     O_RDWR | O_CREAT | O_TRUNC,
				     O_RDWR,
				     O_RDWR | O_CREAT | O_APPEND,
				     O_RDWR | O_NOFOLLOW,
				     O_WRONLY | O_CREAT,
				     O_RDWR | O_DIRECTORY };
	int *fd = &fds[side][o->slot];

	if (*fd >= 0)
		close(*fd);
	*fd = open(path(side, o->a), flags[o->flags % 8] | O_NONBLOCK, 0600 + o->n % 64);
	return *fd < 0 ? -1 : 0;
}

static long do_stat(int side, const struct op *o)
{
	struct stat sb;

	if (lstat(path(side, o->a), &sb) < 0)
		return -1;
	return (long)sb.st_mode + (S_ISDIR(sb.st_mode) ? 0 : sb.st_size * 131 + (long)sb.st_nlink);
}

static long do_times(int side, const struct op *o)
{
	struct timespec ts[2] = { { o->n, 5 }, { o->n + 1, 123456789 } };
	struct stat sb;

	if (utimensat(AT_FDCWD, path(side, o->a), ts, AT_SYMLINK_NOFOLLOW) < 0 ||
	    lstat(path(side, o->a), &sb) < 0)
		return -1;
	return sb.st_mtim.tv_sec + sb.st_mtim.tv_nsec;
}

static long do_map(int side, const struct op *o)
{
	int fd = fds[side][o->slot];
	struct stat sb;
	char *p;

	if (fd < 0 || fstat(fd, &sb) < 0 || !S_ISREG(sb.st_mode) || !sb.st_size ||
	    (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR)
		return 0;
	p = mmap(NULL, (size_t)sb.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -1;
	p[o->off % sb.st_size] ^= (char)o->n;
	if (o->flags & 1)
		msync(p, (size_t)sb.st_size, MS_SYNC);
	munmap(p, (size_t)sb.st_size);
	return 0;
}

static long do_fallocate(int side, const struct op *o)
{
	static const int mode[] = { 0, FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE };

	return fallocate(fds[side][o->slot], mode[o->flags % 3], o->off % FILE_MAX, 1 + o->n);
}

static long do_copy(int side, const struct op *o)
{
	loff_t from = 0, to = o->off % FILE_MAX;

	if (o->slot == 0)
		return 0;
	return copy_file_range(fds[side][0], &from, fds[side][o->slot], &to, o->n, 0);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static long do_list(int side, const struct op *o)
{
	char *names[64];
	long sum = 0;
	int n = 0;
	DIR *d = opendir(path(side, o->a));
	struct dirent *ent;

	if (!d)
		return -1;
	while ((ent = readdir(d)) && n < 64)
		names[n++] = strdup(ent->d_name);
	closedir(d);
	qsort(names, (size_t)n, sizeof(*names), by_name);
	for (int i = 0; i < n; i++) {
		for (const char *p = names[i]; *p; p++)
			sum = sum * 31 + *p;
		sum = sum * 31 + i;
		free(names[i]);
	}
	return sum & INT64_MAX;
}

static long run(int side, const struct op *o)
{
	int fd = fds[side][o->slot];

	switch (o->kind) {
	case 0 ... 3:
		return do_open(side, o);
	case 4 ... 7:
		return pwrite(fd, ours[0] + o->flags % 64, o->n, o->off % FILE_MAX);
	case 8 ... 10:
		memset(ours[1], 0, sizeof(ours[1]));
		return pread(fd, ours[1], o->n, o->off % FILE_MAX);
	case 11:
		return ftruncate(fd, o->off % FILE_MAX);
	case 12:
		return truncate(path(side, o->a), o->off % FILE_MAX);
	case 13 ... 14:
		return unlink(path(side, o->a));
	case 15 ... 16:
		return mkdir(path(side, o->a), 0700 + o->n % 64);
	case 17:
		return rmdir(path(side, o->a));
	case 18 ... 20:
		return do_rename(side, o);
	case 21:
		return link(path(side, o->a), path(side, o->b));
	case 22:
		return symlink(o->b + 1, path(side, o->a));
	case 23:
		memset(ours[1], 0, 100);
		return readlink(path(side, o->a), ours[1], 100);
	case 24:
		return chmod(path(side, o->a), o->n & 07777);
	case 25 ... 26:
		return do_stat(side, o);
	case 27:
		return do_times(side, o);
	case 28:
		return do_map(side, o);
	case 29:
		return do_fallocate(side, o);
	case 30:
		return do_copy(side, o);
	case 31:
		return do_list(side, o);
	case 32:
		return o->flags & 1 ? fsync(fd) : fdatasync(fd);
	case 33:
		return lchown(path(side, o->a), o->n & 3, o->flags & 3);
	default:
		return mknod(path(side, o->a), S_IFIFO | 0640, 0);
	}
}

/* --- whole trees ------------------------------------------------------------------------------ */

static uint64_t hash_file(const char *name, uint64_t h)
{
	int fd = open(name, O_RDONLY);
	ssize_t n = 0;

	while (fd >= 0 && (n = read(fd, ours[1], sizeof(ours[1]))) > 0)
		for (ssize_t i = 0; i < n; i++)
			h = (h ^ (unsigned char)ours[1][i]) * 0x100000001b3;
	if (fd < 0 || n < 0)
		fail("a file cannot be read");
	close(fd);
	return h;
}

static uint64_t hash_tree(const char *dir, uint64_t h)
{
	char *names[64], child[600];
	int n = 0;
	DIR *d = opendir(dir);
	struct dirent *ent;
	struct stat sb;

	if (!d)
		fail("a directory cannot be read");
	while ((ent = readdir(d)) && n < 64)
		if (strcmp(ent->d_name, ".") && strcmp(ent->d_name, ".."))
			names[n++] = strdup(ent->d_name);
	closedir(d);
	qsort(names, (size_t)n, sizeof(*names), by_name);
	for (int i = 0; i < n; i++) {
		snprintf(child, sizeof(child), "%.590s/%s", dir, names[i]);
		if (lstat(child, &sb) < 0)
			fail("a name that was listed is not there");
		h = (h ^ sb.st_mode ^ (uint64_t)sb.st_uid << 20 ^ (uint64_t)sb.st_gid << 24 ^
		     (uint64_t)(unsigned char)*names[i] << 40) *
		    0x100000001b3;
		if (!S_ISDIR(sb.st_mode))
			h = (h ^ (uint64_t)sb.st_size ^ sb.st_nlink << 32) * 0x100000001b3;
		if (S_ISREG(sb.st_mode))
			h = hash_file(child, h);
		if (S_ISDIR(sb.st_mode))
			h = hash_tree(child, h);
		free(names[i]);
	}
	return h;
}

/* For whoever looks into a failure. */
static void show_tree(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *ent;
	struct stat sb;
	char child[600];

	while (d && (ent = readdir(d))) {
		snprintf(child, sizeof(child), "%.340s/%s", dir, ent->d_name);
		if (!strcmp(ent->d_name, ".") || !strcmp(ent->d_name, "..") ||
		    lstat(child, &sb) < 0)
			continue;
		printf("%s %o %u:%u size %ld links %lu sum %lx\n", child, sb.st_mode, sb.st_uid,
		       sb.st_gid, (long)sb.st_size, (unsigned long)sb.st_nlink,
		       S_ISREG(sb.st_mode) ? (unsigned long)hash_file(child, 1) : 0);
		if (S_ISDIR(sb.st_mode))
			show_tree(child);
	}
	if (d)
		closedir(d);
}

static void compare_trees(void)
{
	if (hash_tree(root[0], 1) == hash_tree(root[1], 1))
		return;
	show_tree(root[0]);
	show_tree(root[1]);
	fail("the trees differ");
}

static int both(unsigned i)
{
	struct op o = { .kind = (int)rnd(35),
			.slot = (int)rnd(FDS),
			.n = rnd(DATA_MAX - 64),
			.flags = rnd(1000),
			.off = (long)rnd(FILE_MAX) };
	static char seen[DATA_MAX];
	long r[SIDES];
	int err[SIDES];

	pick(o.a);
	pick(o.b);
	if (rnd(3))
		o.n %= 600;
	for (int s = 0; s < SIDES; s++) {
		errno = 0;
		r[s] = run(s, &o);
		err[s] = r[s] < 0 ? errno : 0;
		if (s == 0)
			memcpy(seen, ours[1], sizeof(seen));
	}
	snprintf(what, sizeof(what), "operation %u: kind %d slot %d %s %s n %u flags %u off %ld", i,
		 o.kind, o.slot, o.a, o.b, o.n, o.flags, o.off);
	if (r[0] != r[1] || err[0] != err[1]) {
		printf("%s: %ld (%s), model %ld (%s)\n", what, r[0], strerror(err[0]), r[1],
		       strerror(err[1]));
		fail("results differ");
	}
	if (((o.kind >= 8 && o.kind <= 10) || o.kind == 23) && memcmp(seen, ours[1], sizeof(seen)))
		fail("bytes differ");
	return r[0] >= 0;
}

int main(int argc, char **argv)
{
	unsigned n, good = 0;

	if (argc != 5)
		return 2;
	root[0] = argv[1];
	root[1] = argv[2];
	state = strtoull(argv[3], NULL, 0) * 0x9e3779b97f4a7c15 + 1;
	n = (unsigned)atoi(argv[4]);
	umask(0);
	for (int s = 0; s < SIDES; s++)
		for (int i = 0; i < FDS; i++)
			fds[s][i] = -1;
	for (size_t i = 0; i < sizeof(ours[0]); i++)
		ours[0][i] = (char)rnd(256);
	for (unsigned i = 0; i < n; i++) {
		good += (unsigned)both(i);
		if (i % 500 == 499)
			compare_trees();
	}
	compare_trees();
	printf("PASS %u operations, %u succeeded\n", n, good);
	return 0;
}
