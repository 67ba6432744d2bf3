/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codebuf.c - memory for generated code, never writable and executable at the same address
 *
 * How it works
 * Shared anonymous memory, mapped twice. The alternative, one mapping whose protection is toggled,
 * needs two system calls for each piece of code and stops every other thread that runs code of the
 * same page. The second view is made with mremap from an old size of 0 (mremap(2)), which works for
 * shared memory only. A memory file (memfd) mapped twice would do as well, but perf takes its
 * mappings for files, and does not look up their addresses in /tmp/perf-PID.map.
 *
 * The executable view comes first, from mmap, and the other has PROT_EXEC taken away before it gets
 * PROT_WRITE. In this order no mapping gains PROT_EXEC later, which hardened processes may not do
 * (PR_SET_MDWE), and perf sees the one that counts.
 *
 * Both views have the same pages in a child process too. Code is only ever appended, and the bytes
 * behind `len` mean nothing to a child that has replaced the pages behind (codebuf_fork_child). To
 * forget code is to map other pages. So neither process changes what the other executes, and for
 * bytes that never ran the jump to them is all the synchronization that is needed (SDM vol. 3,
 * 8.1.3).
 */
#include "cpu/soft/x86/codebuf.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE ((size_t)4096)

static int map_error(void)
{
	return errno == EACCES || errno == EPERM ? -EPERM : -errno;
}

static void *reserve(size_t n)
{
	void *p = mmap(NULL, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Other pages from @from on, in both views. On failure nothing can be added. */
static int renew(struct codebuf *cb, size_t from)
{
	size_t n = cb->map - from;

	cb->cap = cb->len = from;
	if (!n)
		return 0;
	if (mmap(cb->rx + from, n, PROT_READ | PROT_EXEC,
		 MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
		return map_error();
	if (mremap(cb->rx + from, 0, n, MREMAP_MAYMOVE | MREMAP_FIXED, cb->rw + from) == MAP_FAILED)
		return map_error();
	if (mprotect(cb->rw + from, n, PROT_READ | PROT_WRITE) < 0)
		return map_error();
	cb->cap = cb->map;
	return 0;
}

int codebuf_init(struct codebuf *cb, size_t cap)
{
	int r = -ENOMEM;

	*cb = (struct codebuf){ .map = ALIGN_UP(cap, PAGE) };
	cb->rx = reserve(cb->map);
	cb->rw = reserve(cb->map);
	if (cb->rx && cb->rw)
		r = renew(cb, 0);
	if (r < 0)
		codebuf_fini(cb);
	return r;
}

void codebuf_fini(struct codebuf *cb)
{
	if (!cb)
		return;
	codebuf_seal(cb);
	if (cb->rx)
		munmap(cb->rx, cb->map);
	*cb = (struct codebuf){ 0 };
}

int codebuf_add(struct codebuf *cb, const void *code, size_t n, size_t align, const u8 **ret_code)
{
	size_t at = ALIGN_UP(cb->len, align);

	if (!cb->rw || n > cb->cap || at > cb->cap - n)
		return -ENOMEM;
	/* The gap is filled with INT3: a wild jump stops at once. */
	memset(cb->rw + cb->len, 0xcc, at - cb->len);
	memcpy(cb->rw + at, code, n);
	cb->len = at + n;
	*ret_code = cb->rx + at;
	return 0;
}

void codebuf_seal(struct codebuf *cb)
{
	if (cb->rw)
		munmap(cb->rw, cb->map);
	cb->rw = NULL;
}

void codebuf_truncate(struct codebuf *cb, size_t keep)
{
	BUG_IF(keep > cb->len || !cb->rw);
	/* Whoever cannot have new pages is told so by codebuf_add. */
	(void)renew(cb, ALIGN_UP(keep, PAGE));
}

int codebuf_fork_child(struct codebuf *cb)
{
	return cb->rw ? renew(cb, ALIGN_UP(cb->len, PAGE)) : 0;
}
