// SPDX-License-Identifier: Apache-2.0
/*
 * hang.c - loaded before libc: reading a disk's byte 4096000 never comes back, and says so first
 */
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

ssize_t preadv(int fd, const struct iovec *iov, int n, off_t at);

ssize_t preadv(int fd, const struct iovec *iov, int n, off_t at)
{
	if (at == 4096000)
		(void)!write(STDERR_FILENO, "held\n", 5);
	while (at == 4096000)
		nanosleep(&(struct timespec){ .tv_sec = 1000 }, NULL);
	return syscall(SYS_preadv, fd, iov, n, at, 0);
}
