/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox_priv.h - the parts of the sandbox
 *
 *	sandbox.c        stages, threads, what is said of a forbidden call
 *	sandbox_calls.c  which system calls which thread may make
 *	sandbox_files.c  which files may still be opened
 *	sandbox_root.c   the same for kernels without Landlock
 */
#ifndef ORR_VM_SANDBOX_PRIV_H
#define ORR_VM_SANDBOX_PRIV_H

#include "base/thread.h"
#include "vm/sandbox.h"

struct sock_filter;

/* The filter of one kind of thread, as the kernel takes it. */
struct sandbox_filter {
	struct sock_filter *insn; /* owned; NULL: none */
	unsigned short n;
	unsigned calls; /* how many system calls it knows */
};

/*
 * Makes the filter of @role in a process that uses @uses, a mask of enum sandbox_use. What is not
 * allowed raises SIGSYS. 0, or a negative errno.
 */
int sandbox_filter_new(enum thread_role role, u32 uses, struct sandbox_filter *ret);
void sandbox_filter_fini(struct sandbox_filter *f);

/*
 * A Landlock ruleset: a descriptor that a thread restricts itself by, never again to open what
 * @paths do not name. @net: TCP connections may still be made. -ENOSYS, -EOPNOTSUPP: this kernel has
 * no Landlock, or too old a one for what is asked.
 */
int sandbox_files_new(const struct sandbox_path *paths, unsigned n, bool net);
/* Of this thread, for good. 0 or a negative errno. */
int sandbox_files_enter(int ruleset);

/*
 * While the process has one thread: a mount namespace, in which @paths, whose descriptors are replaced in
 * place, will be all there is. A negative errno: that cannot be had (-EPERM: it takes root), and nothing that
 * matters has changed.
 */
int sandbox_root_new(const struct sandbox_path *paths, unsigned n);
/* For the whole process and for good. 0 or a negative errno. */
int sandbox_root_enter(void);

#endif
