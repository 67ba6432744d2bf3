// SPDX-License-Identifier: Apache-2.0
/*
 * ops.c - file operations in a shared directory, for a guest: metadata and data
 *
 * usage: ops DIR
 *
 * Each piece of work writes "@ NAME GROUP" before and "! NAME CHECKSUM 0" behind (bench/common.py).
 * Caches are dropped before what reads.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 1500
#define DATA (32u << 20)
#define BIG (128u << 10)
#define PAGE 4096u
#define RANDOM 2000

static char buf[BIG];
static uint64_t sum;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void name(char *ret, int i)
{
	sprintf(ret, "d%d/f%d", i % 10, i);
}

static void create(void)
{
	char n[32];

	for (int i = 0; i < 10; i++) {
		sprintf(n, "d%d", i);
		if (mkdir(n, 0755) < 0)
			die(n);
	}
	for (int i = 0; i < FILES; i++) {
		int fd;

		name(n, i);
		fd = open(n, O_CREAT | O_EXCL | O_WRONLY, 0644);
		if (fd < 0 || write(fd, n, strlen(n)) < 0 || close(fd) < 0)
			die(n);
	}
}

static void stats(void)
{
	struct stat sb;
	char n[32];

	for (int i = 0; i < FILES; i++) {
		name(n, i * 7 % FILES);
		if (stat(n, &sb) < 0)
			die(n);
		sum += (uint64_t)sb.st_size;
	}
}

static void absent(void)
{
	struct stat sb;
	char n[32];

	for (int i = 0; i < FILES; i++) {
		sprintf(n, "d%d/none%d", i % 10, i);
		sum += stat(n, &sb) < 0;
	}
}

static void list(void)
{
	char n[32];

	for (int k = 0; k < 3; k++)
		for (int i = 0; i < 10; i++) {
			DIR *d;
			struct dirent *ent;

			sprintf(n, "d%d", i);
			d = opendir(n);
			while (d && (ent = readdir(d)))
				sum += strlen(ent->d_name);
			if (d)
				closedir(d);
		}
}

static void read_small(void)
{
	char n[32];

	for (int i = 0; i < FILES; i++) {
		int fd;
		ssize_t got;

		name(n, i);
		fd = open(n, O_RDONLY);
		got = fd < 0 ? -1 : read(fd, buf, sizeof(buf));
		if (got <= 0)
			die(n);
		sum += (unsigned char)buf[got - 1];
		close(fd);
	}
}

static void renames(void)
{
	char a[32], b[40];

	for (int i = 0; i < FILES; i++) {
		name(a, i);
		sprintf(b, "%s.new", a);
		if (rename(a, b) < 0 || rename(b, a) < 0)
			die(a);
	}
}

static void unlinks(void)
{
	char n[32];

	for (int i = 0; i < FILES; i++) {
		name(n, i);
		if (unlink(n) < 0)
			die(n);
	}
	for (int i = 0; i < 10; i++) {
		sprintf(n, "d%d", i);
		if (rmdir(n) < 0)
			die(n);
	}
}

static void write_big(void)
{
	int fd = open("big", O_CREAT | O_TRUNC | O_WRONLY, 0644);

	for (unsigned at = 0; at < DATA; at += BIG) {
		memset(buf, (int)(at / BIG), sizeof(buf));
		if (write(fd, buf, BIG) != BIG)
			die("write");
	}
	if (fsync(fd) < 0 || close(fd) < 0)
		die("fsync");
}

static void read_big(void)
{
	int fd = open("big", O_RDONLY);

	for (unsigned at = 0; at < DATA; at += BIG) {
		if (read(fd, buf, BIG) != BIG)
			die("read");
		sum = sum * 31 + (unsigned char)buf[at % 1000];
	}
	close(fd);
}

static void read_random(void)
{
	int fd = open("big", O_RDONLY);
	uint64_t seed = 1;

	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	for (int i = 0; i < RANDOM; i++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		if (pread(fd, buf, PAGE, (off_t)((seed >> 33) % (DATA / PAGE) * PAGE)) != PAGE)
			die("pread");
		sum = sum * 31 + (unsigned char)buf[i % PAGE];
	}
	close(fd);
}

static void write_random(void)
{
	int fd = open("big", O_WRONLY);
	uint64_t seed = 1;

	for (int i = 0; i < RANDOM; i++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		if (pwrite(fd, buf, PAGE, (off_t)((seed >> 33) % (DATA / PAGE) * PAGE)) != PAGE)
			die("pwrite");
	}
	if (fsync(fd) < 0 || close(fd) < 0)
		die("fsync");
}

static const struct work {
	const char *name, *group;
	void (*run)(void);
	int cold;
} all[] = {
	{ "create", "metadata", create, 0 },	     { "stat", "metadata", stats, 1 },
	{ "stat-absent", "metadata", absent, 1 },    { "readdir", "metadata", list, 1 },
	{ "read-small", "metadata", read_small, 1 }, { "rename", "metadata", renames, 0 },
	{ "unlink", "metadata", unlinks, 0 },	     { "write-seq", "data", write_big, 0 },
	{ "read-seq", "data", read_big, 1 },	     { "read-4k", "data", read_random, 1 },
	{ "write-4k", "data", write_random, 1 },
};

int main(int argc, char **argv)
{
	if (argc != 2 || chdir(argv[1]) < 0)
		die("ops");
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (all[i].cold) {
			int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);

			sync();
			if (fd < 0 || write(fd, "3", 1) != 1)
				die("drop_caches");
			close(fd);
		}
		sum = 0;
		dprintf(1, "@ %s %s\n", all[i].name, all[i].group);
		all[i].run();
		dprintf(1, "! %s %llx 0\n", all[i].name, (unsigned long long)sum);
	}
	unlink("big");
	dprintf(1, "$\n");
	return 0;
}
