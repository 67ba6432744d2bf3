/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codebuf.c - memory for generated code, never writable and executable at the same address
 *
 * How it works
 * One memory file, mapped twice. The alternative, one mapping whose protection is toggled, needs
 * two system calls for each piece of code and stops every other thread that runs code of the same
 * page. The file is as long as the limit from the start: it is sparse, so a page exists only once
 * code was written to it.
 *
 * Code is written through one linear address and executed through another. For bytes that never
 * ran, the jump to them is enough; for bytes that replace code that ran, the processor must
 * serialize (SDM vol. 3, 8.1.3), which codebuf_truncate does with CPUID.
 */
#include "cpu/soft/x86/codebuf.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u /* Linux 6.3: the file may be mapped executable whatever the sysctl says */
#endif

static int memory_file(void)
{
	int fd = memfd_create("orrery-code", MFD_CLOEXEC | MFD_EXEC);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("orrery-code", MFD_CLOEXEC); /* a kernel before MFD_EXEC */
	return fd < 0 ? -errno : fd;
}

int codebuf_init(struct codebuf *cb, size_t cap)
{
	int fd, rc;
	void *rw, *rx;

	*cb = (struct codebuf){ 0 };
	cap = ALIGN_UP(cap, (size_t)4096);
	fd = memory_file();
	if (fd < 0)
		return fd;
	if (ftruncate(fd, (off_t)cap) < 0) {
		rc = -errno;
		goto out;
	}
	rw = mmap(NULL, cap, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (rw == MAP_FAILED) {
		rc = -errno;
		goto out;
	}
	rx = mmap(NULL, cap, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (rx == MAP_FAILED) {
		rc = errno == EACCES ? -EPERM : -errno;
		munmap(rw, cap);
		goto out;
	}
	cb->rw = rw;
	cb->rx = rx;
	cb->cap = cap;
	rc = 0;
out:
	close(fd);
	return rc;
}

void codebuf_fini(struct codebuf *cb)
{
	if (!cb || !cb->rw)
		return;
	munmap(cb->rx, cb->cap);
	munmap(cb->rw, cb->cap);
	*cb = (struct codebuf){ 0 };
}

int codebuf_add(struct codebuf *cb, const void *code, size_t n, size_t align, const u8 **ret_code)
{
	size_t at = ALIGN_UP(cb->len, align);

	if (n > cb->cap || at > cb->cap - n)
		return -ENOMEM;
	/* The gap is filled with INT3: a wild jump stops at once. */
	memset(cb->rw + cb->len, 0xcc, at - cb->len);
	memcpy(cb->rw + at, code, n);
	cb->len = at + n;
	*ret_code = cb->rx + at;
	return 0;
}

void codebuf_truncate(struct codebuf *cb, size_t keep)
{
	unsigned a, b, c, d;

	BUG_IF(keep > cb->len);
	memset(cb->rw + keep, 0xcc, cb->len - keep);
	cb->len = keep;
	__cpuid(0, a, b, c, d);
	(void)(a + b + c + d);
}
