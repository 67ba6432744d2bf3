// SPDX-License-Identifier: Apache-2.0
/*
 * disk_io.c - whole transfers between pieces of memory and one file
 *
 * readv(2) and its like may do less than they were asked for, at any byte; and take at most
 * IOV_MAX pieces. Here a transfer is done in as many steps as it takes, or fails: a read that
 * meets the file's end is -EIO, never a buffer that was filled in part and called good.
 */
#include "host/disk_priv.h"

#include "base/iov.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PIECES 64u
#define ZEROS 65536u

static int transfer(int fd, bool out, u64 off, const struct iovec *iov, unsigned n, size_t skip,
		    size_t len)
{
	struct iovec part[PIECES];

	while (len) {
		unsigned k = iov_slice(iov, n, skip, len, part, PIECES, NULL);
		ssize_t r;

		if (!k)
			return -EINVAL;
		r = out ? pwritev(fd, part, (int)k, (off_t)off)
			: preadv(fd, part, (int)k, (off_t)off);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			return -EIO;
		off += (u64)r;
		skip += (size_t)r;
		len -= (size_t)r;
	}
	return 0;
}

int disk_fd_read(int fd, u64 off, const struct iovec *iov, unsigned n, size_t skip, size_t len)
{
	return transfer(fd, false, off, iov, n, skip, len);
}

int disk_fd_write(int fd, u64 off, const struct iovec *iov, unsigned n, size_t skip, size_t len)
{
	return transfer(fd, true, off, iov, n, skip, len);
}

int disk_fd_write_zeros(int fd, u64 off, u64 len)
{
	static const u8 zeros[ZEROS];
	struct iovec iov[16];
	int r = 0;

	for (unsigned i = 0; i < ARRAY_LEN(iov); i++)
		iov[i] = (struct iovec){ (void *)zeros, ZEROS };
	while (r == 0 && len) {
		size_t n = (size_t)MIN(len, (u64)ARRAY_LEN(iov) * ZEROS);

		r = transfer(fd, true, off, iov, ARRAY_LEN(iov), 0, n);
		off += n;
		len -= n;
	}
	return r;
}

static int allocate(int fd, int mode, u64 off, u64 len)
{
	int r;

	do
		r = fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return 0;
	return errno == ENOSYS || errno == ENODEV || errno == ENOTTY ? -EOPNOTSUPP : -errno;
}

int disk_fd_punch(int fd, u64 off, u64 len)
{
	return len ? allocate(fd, FALLOC_FL_PUNCH_HOLE, off, len) : 0;
}

int disk_fd_zero(int fd, u64 off, u64 len, bool unmap)
{
	int r = len ? allocate(fd, unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE, off, len)
		    : 0;

	return r == -EOPNOTSUPP ? disk_fd_write_zeros(fd, off, len) : r;
}

/* For file systems without O_TMPFILE. */
static int temp_named(const char *dir)
{
	char *path;
	int fd;

	if (asprintf(&path, "%s/orrery-disk-XXXXXX", dir) < 0)
		return -ENOMEM;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		fd = -errno;
	else
		unlink(path);
	free(path);
	return fd;
}

static int temp_in(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	return errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL ? temp_named(dir) : -errno;
}

int disk_fd_temp(const char *dir)
{
	const char *chosen = getenv("TMPDIR");
	int fd;

	if (dir)
		return temp_in(dir);
	if (chosen && chosen[0] == '/')
		return temp_in(chosen);
	/* /tmp may be in memory: it is for small things. */
	fd = temp_in("/var/tmp");
	return fd >= 0 ? fd : temp_in("/tmp");
}
