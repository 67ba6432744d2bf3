// SPDX-License-Identifier: Apache-2.0
/*
 * call.c - every call of the host's KVM goes through here
 */
#include "cpu/kvm/call.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>

/*
 * The test hook. While @fail_at is 0, which is always but in tests, a call costs one relaxed load
 * more: KVM_RUN is a call too, and threads must not share a counter for nothing.
 */
static struct {
	_Atomic u64 fail_at;
	_Atomic u64 made;
	_Atomic int error;
	_Atomic(const char *) failed;
} hook;

void kvm_calls_fail(u64 nth, int error)
{
	atomic_store(&hook.made, 0);
	atomic_store(&hook.error, error);
	atomic_store(&hook.failed, NULL);
	atomic_store(&hook.fail_at, nth);
}

u64 kvm_calls_made(void)
{
	return atomic_load(&hook.made);
}

const char *kvm_calls_failed(void)
{
	return atomic_load(&hook.failed);
}

int kvm_gate(const char *name)
{
	u64 at = atomic_load_explicit(&hook.fail_at, memory_order_relaxed);

	if (likely(!at) || atomic_fetch_add(&hook.made, 1) + 1 != at)
		return 0;
	atomic_store(&hook.failed, name);
	return -atomic_load(&hook.error);
}

int kvm_call(int fd, const char *name, unsigned long request, unsigned long arg)
{
	int r = kvm_gate(name);

	if (r < 0)
		return r;
	r = ioctl(fd, request, arg);
	return r < 0 ? -errno : r;
}

int kvm_try(struct err *e, int fd, const char *name, unsigned long request, unsigned long arg)
{
	int r = kvm_call(fd, name, request, arg);

	return r < 0 ? err_sys(e, r, "%s failed", name) : r;
}

/*
 * An own descriptor of @node, or a negative errno. The node is opened once for the process: a VM that
 * is reset is made anew when the process may open nothing any more (vm/sandbox).
 */
static int open_node(const char *node)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static const char *name;
	static int first = -1;
	int fd;

	pthread_mutex_lock(&lock);
	if (first >= 0 && strcmp(name, node) == 0) {
		fd = fcntl(first, F_DUPFD_CLOEXEC, 0);
	} else {
		fd = open(node, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && first < 0) {
			first = fcntl(fd, F_DUPFD_CLOEXEC, 0);
			name = node;
		}
	}
	fd = fd < 0 ? -errno : fd;
	pthread_mutex_unlock(&lock);
	return fd;
}

int kvm_open(const char *node, struct err *e)
{
	int fd = kvm_gate("open(/dev/kvm)");

	if (fd == 0)
		fd = open_node(node);
	if (fd == -ENOENT)
		return err_set(e, fd,
			       "there is no %s: the host has no hardware virtualization, or its "
			       "module (kvm-intel, kvm-amd) is not loaded",
			       node);
	if (fd == -EACCES || fd == -EPERM)
		return err_set(e, fd,
			       "this user may not open %s: usually the members of group kvm may",
			       node);
	if (fd < 0)
		return err_sys(e, fd, "cannot open %s", node);
	return fd;
}
