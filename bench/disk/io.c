// SPDX-License-Identifier: Apache-2.0
/*
 * io.c - disk I/O for a guest: sequential and random, direct, one request at a time and many
 *
 * usage: io /dev/vda
 *
 * Each piece of work writes "@ NAME GROUP" before and "! NAME CHECKSUM 0" behind (bench/common.py).
 * The checksum is over what was read, so it says that both monitors served the same bytes.
 */
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DISK (128ull << 20)
#define BIG (256u << 10)
#define PAGE 4096u
#define DEPTH 32u

static int fd;
static unsigned char *buf;
static uint64_t sum, seed;

static uint64_t rnd(void)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return seed >> 33;
}

static void check(long got, long want)
{
	if (got == want)
		return;
	dprintf(1, "io: %ld of %ld bytes\n", got, want);
	exit(1);
}

static void add(const unsigned char *p)
{
	sum = sum * 31 + p[rnd() % PAGE];
}

static void sequential(int write, unsigned len)
{
	for (uint64_t at = 0; at < DISK; at += len) {
		if (write) {
			memset(buf, (int)(at / len), PAGE);
			check(pwrite(fd, buf, len, (off_t)at), len);
		} else {
			check(pread(fd, buf, len, (off_t)at), len);
			add(buf);
		}
	}
}

static void random_pages(int write, unsigned n)
{
	while (n--) {
		off_t at = (off_t)(rnd() % (DISK / PAGE) * PAGE);

		if (write)
			check(pwrite(fd, buf, PAGE, at), PAGE);
		else
			check(pread(fd, buf, PAGE, at), PAGE);
		add(buf);
	}
}

/* DEPTH requests under way. */
static void deep(int write, unsigned rounds)
{
	struct iocb cb[DEPTH], *list[DEPTH];
	struct io_event ev[DEPTH];
	aio_context_t ctx = 0;

	check(syscall(SYS_io_setup, DEPTH, &ctx), 0);
	while (rounds--) {
		memset(cb, 0, sizeof(cb));
		for (unsigned i = 0; i < DEPTH; i++) {
			cb[i].aio_fildes = (uint32_t)fd;
			cb[i].aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
			cb[i].aio_buf = (uintptr_t)(buf + i * PAGE);
			cb[i].aio_nbytes = PAGE;
			cb[i].aio_offset = (int64_t)(rnd() % (DISK / PAGE) * PAGE);
			list[i] = &cb[i];
		}
		check(syscall(SYS_io_submit, ctx, DEPTH, list), DEPTH);
		check(syscall(SYS_io_getevents, ctx, DEPTH, DEPTH, ev, NULL), DEPTH);
		for (unsigned i = 0; i < DEPTH; i++)
			check((long)ev[i].res, PAGE);
		add(buf);
	}
	syscall(SYS_io_destroy, ctx);
}

static void flushes(unsigned n)
{
	while (n--) {
		random_pages(1, 4);
		check(fdatasync(fd), 0);
	}
}

static void work(const char *name, int kind, int write, unsigned n)
{
	sum = 0;
	seed = 1;
	memset(buf, 0x11, BIG);
	dprintf(1, "@ %s disk\n", name);
	switch (kind) {
	case 0:
		sequential(write, n);
		break;
	case 1:
		random_pages(write, n);
		break;
	case 2:
		deep(write, n);
		break;
	default:
		flushes(n);
	}
	dprintf(1, "! %s %016llx 0\n", name, (unsigned long long)sum);
}

int main(int argc, char **argv)
{
	fd = open(argv[1], O_RDWR | O_DIRECT);
	if (fd < 0 || posix_memalign((void **)&buf, PAGE, BIG)) {
		dprintf(1, "io: no %s\n", argv[1]);
		return 1;
	}
	/* The host's cache is warm, and both monitors' first steps are made. */
	sequential(0, BIG);
	work("read-256k", 0, 0, BIG);
	work("write-256k", 0, 1, BIG);
	work("read-16k", 0, 0, 16u << 10);
	work("randread-4k", 1, 0, 8000);
	work("randwrite-4k", 1, 1, 8000);
	work("randread-4k-x32", 2, 0, 500);
	work("randwrite-4k-x32", 2, 1, 500);
	work("write-flush", 3, 1, 300);
	dprintf(1, "$\n");
	return 0;
}
