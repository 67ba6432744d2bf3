// SPDX-License-Identifier: Apache-2.0
/*
 * forbid.c - loaded before libc: a host on which no engine works
 *
 * Memory of one's own cannot be made executable, as under a security module, and there is no KVM.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int open(const char *path, int flags, ...);

void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	if ((prot & PROT_EXEC) && (flags & MAP_ANONYMOUS)) {
		errno = EACCES;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mmap, at, len, prot, flags, fd, off);
}

int open(const char *path, int flags, ...)
{
	va_list ap;
	int mode;

	if (!strcmp(path, "/dev/kvm")) {
		errno = ENOENT;
		return -1;
	}
	va_start(ap, flags);
	mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, int) : 0;
	va_end(ap);
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
