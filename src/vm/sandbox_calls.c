// SPDX-License-Identifier: Apache-2.0
/*
 * sandbox_calls.c - which system calls which thread may make
 *
 * How it works
 * One table. A row is a system call, what must be true of its arguments, and for whom it is: a kind
 * of thread, or something that the VM was asked to do (enum sandbox_use). A thread's filter has the
 * rows of its kind, and of those uses that it takes part in. So a VM without --share cannot open a
 * file at all, and one without --net user has no way to make an IP socket. A call with several rows
 * is allowed if one of them holds. What has no row raises SIGSYS.
 *
 * A thread begins with the filter of the one that started it and adds its own: both must allow a
 * call. So what a worker may, whoever starts workers may as well; the rows of threads that start
 * others also hold what it takes to enter a sandbox, which can only take more away.
 *
 * Calls without conditions on their arguments cost next to nothing: since 5.11 Linux keeps a bitmap
 * of them and runs no filter (kernel/seccomp.c). The rest is found by a binary search.
 */
#include "vm/sandbox_priv.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define FILTER_MAX 4096u /* instructions: BPF_MAXINSNS */
#define TREE 2u		 /* SCMP_FLTATR_CTL_OPTIMIZE: a binary tree of the call numbers */
#define SOCK_KIND 0xfu	 /* of socket(2)'s type, without its flags: linux/net.h */

/* Beside those of enum sandbox_use. */
#define ALWAYS (1u << 24)
#define WAITS (1u << 25)   /* for input, and what a terminal takes */
#define DEVICES (1u << 26) /* runs device models; starts threads */

/* An argument, by its number: these bits of it have this value. */
#define ARG(i, mask, val)                                                                          \
	{                                                                                          \
		(i), SCMP_CMP_MASKED_EQ, (mask), (val)                                             \
	}
#define INT(i, val) ARG(i, 0xffffffffu, (u32)(val))

/* What an open(2) that changes nothing leaves out. */
#define CHANGES (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND)
#define THREAD_FLAGS (CLONE_VM | CLONE_SIGHAND | CLONE_THREAD)

struct call {
	int nr;
	u32 who; /* any of these */
	struct scmp_arg_cmp arg[2];
	unsigned n_arg;
	int error; /* not 0: this errno, and the process lives */
};

static const struct call table[] = {
	/* --- what all do: descriptors that they have, memory, locks, their end --- */
	{ SCMP_SYS(read), ALWAYS },
	{ SCMP_SYS(write), ALWAYS },
	{ SCMP_SYS(writev), ALWAYS }, /* libc's last words (assert, abort), ours too */
	{ SCMP_SYS(close), ALWAYS },
	{ SCMP_SYS(futex), ALWAYS },
	{ SCMP_SYS(sched_yield), ALWAYS },
	/* malloc, stacks, guest memory, windows. Nothing becomes executable. */
	{ SCMP_SYS(mmap), ALWAYS, { ARG(2, PROT_EXEC, 0) }, 1 },
	{ SCMP_SYS(mprotect), ALWAYS, { ARG(2, PROT_EXEC, 0) }, 1 },
	{ SCMP_SYS(munmap), ALWAYS },
	{ SCMP_SYS(mremap), ALWAYS },
	{ SCMP_SYS(madvise), ALWAYS },
	{ SCMP_SYS(brk), ALWAYS },
	/* glibc counts processors and memory, for the arenas of malloc and for qsort. */
	{ SCMP_SYS(sched_getaffinity), ALWAYS },
	{ SCMP_SYS(sysinfo), ALWAYS },
	/* The host's clocks, where the vDSO cannot read them. */
	{ SCMP_SYS(clock_gettime), ALWAYS },
	{ SCMP_SYS(gettimeofday), ALWAYS },
	{ SCMP_SYS(clock_nanosleep), ALWAYS },
	{ SCMP_SYS(getrandom), ALWAYS }, /* virtio-rng; malloc */
	{ SCMP_SYS(rt_sigreturn), ALWAYS },
	{ SCMP_SYS(rt_sigprocmask), ALWAYS },
	{ SCMP_SYS(rt_sigaction), ALWAYS }, /* handlers put back at the end; abort */
	{ SCMP_SYS(sigaltstack), ALWAYS },
	{ SCMP_SYS(getpid), ALWAYS },
	{ SCMP_SYS(gettid), ALWAYS },
	{ SCMP_SYS(getuid), ALWAYS }, /* who a client must be; faccessat in libc */
	{ SCMP_SYS(geteuid), ALWAYS },
	{ SCMP_SYS(getgid), ALWAYS },
	{ SCMP_SYS(getegid), ALWAYS },
	{ SCMP_SYS(prctl), ALWAYS, { INT(0, PR_SET_NAME) }, 1 },
	{ SCMP_SYS(exit), ALWAYS },
	{ SCMP_SYS(exit_group), ALWAYS },
	{ SCMP_SYS(restart_syscall), ALWAYS }, /* a wait that a stop signal interrupted */

	/* --- waiting for the host, and its terminal --- */
	{ SCMP_SYS(poll), WAITS },
	{ SCMP_SYS(ppoll), WAITS },
	{ SCMP_SYS(epoll_wait), WAITS },
	{ SCMP_SYS(epoll_pwait), WAITS },
	{ SCMP_SYS(epoll_pwait2), WAITS },
	{ SCMP_SYS(timerfd_settime), WAITS },
	{ SCMP_SYS(ioctl), WAITS, { INT(1, TCGETS) }, 1 },
	{ SCMP_SYS(ioctl), WAITS, { INT(1, TCSETS) }, 1 }, /* as it was before we came */
	{ SCMP_SYS(ioctl), WAITS, { INT(1, TCSETSW) }, 1 },
	{ SCMP_SYS(ioctl), WAITS, { INT(1, TIOCGWINSZ) }, 1 },

	/* --- device models, the gate --- */
	{ SCMP_SYS(epoll_create1), DEVICES },
	{ SCMP_SYS(epoll_ctl), DEVICES },
	{ SCMP_SYS(epoll_wait), DEVICES },
	{ SCMP_SYS(epoll_pwait), DEVICES },
	{ SCMP_SYS(epoll_pwait2), DEVICES },
	{ SCMP_SYS(eventfd2), DEVICES },
	{ SCMP_SYS(timerfd_create), DEVICES },
	{ SCMP_SYS(timerfd_settime), DEVICES },
	{ SCMP_SYS(timerfd_gettime), DEVICES },
	{ SCMP_SYS(signalfd4), DEVICES },
	{ SCMP_SYS(poll), DEVICES },
	{ SCMP_SYS(ppoll), DEVICES },
	{ SCMP_SYS(lseek), DEVICES },	/* stdio */
	{ SCMP_SYS(pread64), DEVICES }, /* /proc/self/pagemap, for the digest */
	{ SCMP_SYS(fstat), DEVICES },
	{ SCMP_SYS(newfstatat),
	  DEVICES,
	  { ARG(3, AT_EMPTY_PATH, AT_EMPTY_PATH) },
	  1 }, /* libc's fstat */
	{ SCMP_SYS(fcntl), DEVICES, { INT(1, F_GETFL) }, 1 },
	{ SCMP_SYS(fcntl), DEVICES, { INT(1, F_SETFL) }, 1 },
	{ SCMP_SYS(fcntl), DEVICES, { INT(1, F_GETFD) }, 1 },
	{ SCMP_SYS(fcntl), DEVICES, { INT(1, F_SETFD) }, 1 },
	{ SCMP_SYS(fcntl), DEVICES, { INT(1, F_DUPFD_CLOEXEC) }, 1 },
	/* Threads, not processes: glibc tries clone3, whose flags no filter can read, first. */
	{ SCMP_SYS(clone), DEVICES, { ARG(0, THREAD_FLAGS, THREAD_FLAGS) }, 1 },
	{ SCMP_SYS(clone3), DEVICES, .error = ENOSYS },
	{ SCMP_SYS(set_robust_list), DEVICES },
	{ SCMP_SYS(sched_setaffinity), DEVICES }, /* thread_attr: on the service CPUs */
	{ SCMP_SYS(rseq), DEVICES },
	/* For them to enter their own sandbox. */
	{ SCMP_SYS(seccomp), DEVICES },
	{ SCMP_SYS(landlock_restrict_self), DEVICES },
	{ SCMP_SYS(capset), DEVICES },
	{ SCMP_SYS(prctl), DEVICES, { INT(0, PR_SET_NO_NEW_PRIVS) }, 1 },

	/* --- the soft engine: more pages for code, never writable ones (codebuf.c) --- */
	{ SCMP_SYS(mmap),
	  SANDBOX_SOFT,
	  { ARG(2, PROT_EXEC | PROT_WRITE, PROT_EXEC), ARG(3, MAP_ANONYMOUS, MAP_ANONYMOUS) },
	  2 },

	/* --- the KVM engine: vCPUs, their state, interrupts, memory --- */
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_RUN) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_REGS) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_REGS) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_SREGS) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_SREGS) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_XSAVE) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_XSAVE) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_XSAVE2) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_XCRS) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_XCRS) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_MSRS) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_MSRS) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_LAPIC) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_LAPIC) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_MP_STATE) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_MP_STATE) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_VCPU_EVENTS) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_VCPU_EVENTS) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_DEBUGREGS) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_DEBUGREGS) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_GUEST_DEBUG) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_CPUID2) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_CLOCK) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_CLOCK) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_KVMCLOCK_CTRL) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_TSC_KHZ) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SIGNAL_MSI) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_GSI_ROUTING) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_IOEVENTFD) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_USER_MEMORY_REGION) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_DIRTY_LOG) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_STATS_FD) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_CHECK_EXTENSION) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_HAS_DEVICE_ATTR) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_DEVICE_ATTR) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_DEVICE_ATTR) }, 1 },
	/* A reset makes another machine, on a descriptor of /dev/kvm that is kept for it. */
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_API_VERSION) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_CREATE_VM) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_CREATE_VCPU) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_VCPU_MMAP_SIZE) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_GET_SUPPORTED_CPUID) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_ENABLE_CAP) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_TSS_ADDR) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_IDENTITY_MAP_ADDR) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_KVM, { INT(1, KVM_SET_BOOT_CPU_ID) }, 1 },

	/* --- threads and memory where --perf has them; for one that begins, and at the end --- */
	{ SCMP_SYS(sched_setaffinity), SANDBOX_PERF },
	{ SCMP_SYS(sched_setscheduler), SANDBOX_PERF },
	{ SCMP_SYS(mbind), SANDBOX_PERF },

	/* --- sockets that are connected already --- */
	{ SCMP_SYS(recvfrom), SANDBOX_STREAM },
	{ SCMP_SYS(recvmsg), SANDBOX_STREAM },
	{ SCMP_SYS(sendto), SANDBOX_STREAM },
	{ SCMP_SYS(sendmsg), SANDBOX_STREAM },
	{ SCMP_SYS(readv), SANDBOX_STREAM },
	{ SCMP_SYS(shutdown), SANDBOX_STREAM },
	{ SCMP_SYS(getsockopt), SANDBOX_STREAM },
	{ SCMP_SYS(setsockopt), SANDBOX_STREAM },

	/* --- clients of the control socket: who they are, a descriptor for them, its removal --- */
	{ SCMP_SYS(accept4), SANDBOX_CTL | SANDBOX_GDB },
	{ SCMP_SYS(epoll_ctl), SANDBOX_CTL },
	{ SCMP_SYS(socketpair), SANDBOX_CTL, { INT(0, AF_UNIX) }, 1 },
	{ SCMP_SYS(unlink), SANDBOX_CTL | SANDBOX_GDB },

	/* --- vsock: the guest's connections to DIR/vsock_N --- */
	{ SCMP_SYS(socket),
	  SANDBOX_UNIX_CONNECT,
	  { INT(0, AF_UNIX), ARG(1, SOCK_KIND, SOCK_STREAM) },
	  2 },
	{ SCMP_SYS(connect), SANDBOX_UNIX_CONNECT },

	/* --- libslirp: it ends the guest's connections in sockets of this process --- */
	{ SCMP_SYS(socket),
	  SANDBOX_NET_USER,
	  { INT(0, AF_INET), ARG(1, SOCK_KIND, SOCK_STREAM) },
	  2 },
	{ SCMP_SYS(socket),
	  SANDBOX_NET_USER,
	  { INT(0, AF_INET), ARG(1, SOCK_KIND, SOCK_DGRAM) },
	  2 },
	{ SCMP_SYS(socket),
	  SANDBOX_NET_USER,
	  { INT(0, AF_INET6), ARG(1, SOCK_KIND, SOCK_STREAM) },
	  2 },
	{ SCMP_SYS(socket),
	  SANDBOX_NET_USER,
	  { INT(0, AF_INET6), ARG(1, SOCK_KIND, SOCK_DGRAM) },
	  2 },
	/* A ping, where the host lets no ordinary socket send one: it tries this, and is refused. */
	{ SCMP_SYS(socket), SANDBOX_NET_USER, { ARG(1, SOCK_KIND, SOCK_RAW) }, 1, .error = EPERM },
	/* The number of an interface in resolv.conf: if_nametoindex(3). */
	{ SCMP_SYS(socket),
	  SANDBOX_NET_USER,
	  { INT(0, AF_UNIX), ARG(1, SOCK_KIND, SOCK_DGRAM) },
	  2 },
	{ SCMP_SYS(ioctl), SANDBOX_NET_USER, { INT(1, SIOCGIFINDEX) }, 1 },
	{ SCMP_SYS(bind), SANDBOX_NET_USER },
	{ SCMP_SYS(connect), SANDBOX_NET_USER },
	{ SCMP_SYS(listen), SANDBOX_NET_USER },
	{ SCMP_SYS(accept), SANDBOX_NET_USER },
	{ SCMP_SYS(accept4), SANDBOX_NET_USER },
	{ SCMP_SYS(getsockname), SANDBOX_NET_USER },
	{ SCMP_SYS(getpeername), SANDBOX_NET_USER },
	{ SCMP_SYS(ioctl), SANDBOX_NET_USER, { INT(1, FIONREAD) }, 1 },
	{ SCMP_SYS(ioctl), SANDBOX_NET_USER, { INT(1, FIONBIO) }, 1 },
	/* /etc/resolv.conf: whether it has changed, and what is in it. */
	{ SCMP_SYS(newfstatat), SANDBOX_NET_USER },
	{ SCMP_SYS(stat), SANDBOX_NET_USER },
	{ SCMP_SYS(openat), SANDBOX_NET_USER, { ARG(2, CHANGES, 0) }, 1 },

	/* --- a tap interface: a frame in pieces; which work its driver leaves undone --- */
	{ SCMP_SYS(ioctl), SANDBOX_NET_TAP, { INT(1, TUNSETOFFLOAD) }, 1 },

	/* --- disks that are open --- */
	{ SCMP_SYS(preadv), SANDBOX_DISK },
	{ SCMP_SYS(pwritev), SANDBOX_DISK },
	{ SCMP_SYS(pread64), SANDBOX_DISK },
	{ SCMP_SYS(pwrite64), SANDBOX_DISK },
	{ SCMP_SYS(fdatasync), SANDBOX_DISK },
	{ SCMP_SYS(fsync), SANDBOX_DISK },
	{ SCMP_SYS(fallocate), SANDBOX_DISK },
	{ SCMP_SYS(fstat), SANDBOX_DISK },
	{ SCMP_SYS(newfstatat), SANDBOX_DISK, { ARG(3, AT_EMPTY_PATH, AT_EMPTY_PATH) }, 1 },

	/* --- shares: names and data of what lies below them --- */
	{ SCMP_SYS(openat), SANDBOX_SHARE, { ARG(2, CHANGES, 0) }, 1 },
	{ SCMP_SYS(openat2), SANDBOX_SHARE }, /* O_PATH, one name, beneath (fuse_node.c) */
	{ SCMP_SYS(name_to_handle_at), SANDBOX_SHARE },
	{ SCMP_SYS(open_by_handle_at), SANDBOX_SHARE }, /* and Landlock judges what comes of it */
	{ SCMP_SYS(statx), SANDBOX_SHARE },
	{ SCMP_SYS(fstat), SANDBOX_SHARE },
	{ SCMP_SYS(newfstatat), SANDBOX_SHARE },
	{ SCMP_SYS(fstatfs), SANDBOX_SHARE },
	{ SCMP_SYS(readlinkat), SANDBOX_SHARE },
	{ SCMP_SYS(getdents64), SANDBOX_SHARE },
	{ SCMP_SYS(faccessat), SANDBOX_SHARE },
	{ SCMP_SYS(faccessat2), SANDBOX_SHARE },
	{ SCMP_SYS(pread64), SANDBOX_SHARE },
	{ SCMP_SYS(preadv), SANDBOX_SHARE },
	{ SCMP_SYS(preadv2), SANDBOX_SHARE },
	{ SCMP_SYS(lseek), SANDBOX_SHARE },
	{ SCMP_SYS(getxattr), SANDBOX_SHARE },
	{ SCMP_SYS(listxattr), SANDBOX_SHARE },
	{ SCMP_SYS(flock), SANDBOX_SHARE },
	{ SCMP_SYS(dup), SANDBOX_SHARE },
	{ SCMP_SYS(dup3), SANDBOX_SHARE },
	{ SCMP_SYS(fcntl), SANDBOX_SHARE, { INT(1, F_GETFL) }, 1 }, /* fdopendir */
	{ SCMP_SYS(fcntl), SANDBOX_SHARE, { INT(1, F_DUPFD_CLOEXEC) }, 1 },
	{ SCMP_SYS(fcntl), SANDBOX_SHARE, { INT(1, F_OFD_GETLK) }, 1 },
	{ SCMP_SYS(fcntl), SANDBOX_SHARE, { INT(1, F_OFD_SETLK) }, 1 },
	/* As whom: of this thread (fuse.c, prepare_thread). */
	{ SCMP_SYS(setfsuid), SANDBOX_SHARE },
	{ SCMP_SYS(setfsgid), SANDBOX_SHARE },
	{ SCMP_SYS(umask), SANDBOX_SHARE },
	{ SCMP_SYS(unshare), SANDBOX_SHARE, { INT(0, CLONE_FS) }, 1 },
	{ SCMP_SYS(prctl), SANDBOX_SHARE, { INT(0, PR_GET_SECUREBITS) }, 1 },
	{ SCMP_SYS(prctl), SANDBOX_SHARE, { INT(0, PR_SET_SECUREBITS) }, 1 },

	/* --- shares that may be changed --- */
	{ SCMP_SYS(openat), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(mkdirat), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(mknodat), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(symlinkat), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(linkat), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(unlinkat), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(renameat), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(renameat2), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(chmod), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(fchmodat), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(fchownat), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(utimensat), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(ftruncate), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(pwrite64), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(pwritev), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(pwritev2), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(fsync), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(fdatasync), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(syncfs), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(fallocate), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(copy_file_range), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(setxattr), SANDBOX_SHARE_WRITE },
	{ SCMP_SYS(removexattr), SANDBOX_SHARE_WRITE },
};

static u32 rows_of(enum thread_role role, u32 uses)
{
	switch (role) {
	case THREAD_VM:
		return ALWAYS | WAITS | DEVICES | uses;
	case THREAD_VCPU: /* clients are served on the I/O thread */
		return ALWAYS | DEVICES | (uses & ~(u32)(SANDBOX_CTL | SANDBOX_GDB));
	case THREAD_WORKER:
		return ALWAYS | (uses & (SANDBOX_DISK | SANDBOX_SHARE | SANDBOX_SHARE_WRITE));
	default: /* the control socket's clients are served there */
		return ALWAYS | WAITS | (uses & (SANDBOX_CTL | SANDBOX_STREAM));
	}
}

static int add_rows(scmp_filter_ctx ctx, u32 rows, unsigned *ret_calls)
{
	const struct scmp_arg_cmp self = ARG(0, 0xffffffffu, (u32)getpid());
	unsigned n = 0;
	int last = -1, r;

	/* To ourselves: a kick of a vCPU's thread, abort. */
	r = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &self);
	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(table); i++) {
		const struct call *c = &table[i];

		if (!(c->who & rows))
			continue;
		r = seccomp_rule_add_array(
			ctx, c->error ? SCMP_ACT_ERRNO((u16)c->error) : SCMP_ACT_ALLOW, c->nr,
			c->n_arg, c->arg);
		/* It is allowed anyway, whatever its arguments. */
		if (r == -EEXIST)
			r = 0;
		n += c->nr != last;
		last = c->nr;
	}
	*ret_calls = n + 1;
	return r;
}

/* libseccomp 2.5 writes programs to descriptors only. */
static int export(scmp_filter_ctx ctx, struct sandbox_filter *ret)
{
	int fd = memfd_create("orrery-filter", MFD_CLOEXEC), r;
	struct sock_filter *insn = NULL;
	off_t len;

	if (fd < 0)
		return -errno;
	r = seccomp_export_bpf(ctx, fd);
	len = r == 0 ? lseek(fd, 0, SEEK_END) : 0;
	if (r == 0 && (len <= 0 || (size_t)len > FILTER_MAX * sizeof(*insn)))
		r = -E2BIG;
	if (r == 0) {
		insn = malloc((size_t)len);
		r = insn ? 0 : -ENOMEM;
	}
	if (r == 0 && pread(fd, insn, (size_t)len, 0) != len)
		r = -EIO;
	close(fd);
	if (r < 0) {
		free(insn);
		return r;
	}
	ret->insn = insn;
	ret->n = (unsigned short)((size_t)len / sizeof(*insn));
	return 0;
}

int sandbox_filter_new(enum thread_role role, u32 uses, struct sandbox_filter *ret)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
	unsigned calls = 0;
	int r;

	if (!ctx)
		return -ENOMEM;
	/* The other ways into the kernel, of 32-bit code and x32: nothing of ours goes there. */
	r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	/* An older library has no tree: a list does as well, and costs a little more. */
	(void)!seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, TREE);
	if (r == 0)
		r = add_rows(ctx, rows_of(role, uses), &calls);
	if (r == 0)
		r = export(ctx, ret);
	if (r == 0)
		ret->calls = calls;
	seccomp_release(ctx);
	return r;
}

void sandbox_filter_fini(struct sandbox_filter *f)
{
	free(f->insn);
	*f = (struct sandbox_filter){ 0 };
}
