/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h - the process gives up what a running guest does not need
 */
#ifndef ORR_VM_SANDBOX_H
#define ORR_VM_SANDBOX_H

#include "base/err.h"

struct sandbox;
struct vm_devs;

/* What a VM does while its guest runs: each brings the system calls that it takes. */
enum sandbox_use {
	SANDBOX_SOFT = 1 << 0,		/* translated code */
	SANDBOX_KVM = 1 << 1,		/* ioctls of /dev/kvm's descriptors */
	SANDBOX_CTL = 1 << 2,		/* clients of the control socket */
	SANDBOX_GDB = 1 << 3,		/* a debugger */
	SANDBOX_DISK = 1 << 4,		/* disk images that are open */
	SANDBOX_SHARE = 1 << 5,		/* reading a shared directory */
	SANDBOX_SHARE_WRITE = 1 << 6,	/* changing one */
	SANDBOX_NET_USER = 1 << 7,	/* libslirp: sockets of its own */
	SANDBOX_NET_TAP = 1 << 8,	/* frames by a descriptor that is open */
	SANDBOX_STREAM = 1 << 9,	/* a socket that is connected */
	SANDBOX_UNIX_CONNECT = 1 << 10, /* vsock: connections to sockets of this host */
	SANDBOX_PERF = 1 << 11,		/* threads and memory on chosen CPUs and nodes */
};

enum sandbox_access {
	SANDBOX_READ,	/* a directory with all that is below it, or a file */
	SANDBOX_CHANGE, /* a directory: and create, change, remove below it */
	SANDBOX_REMOVE, /* a directory: remove files from it, no more */
	SANDBOX_REACH,	/* a directory: connect to sockets in it, no more */
};

#define SANDBOX_PATHS_MAX 48u

struct sandbox_path {
	int fd; /* O_PATH will do */
	enum sandbox_access access;
};

/* What the devices say for themselves (struct vm_dev_kind.sandbox), before anything is entered. */
void sandbox_use(struct sandbox *s, u32 uses);
/* Borrows @fd until sandbox_new has returned. More than SANDBOX_PATHS_MAX cannot be opened. */
void sandbox_path(struct sandbox *s, int fd, enum sandbox_access access);

struct sandbox_cfg {
	u32 uses;
	const struct vm_devs *devs; /* open, their devices not created yet; NULL: none */
	const char *leaves;	    /* a file that is removed in the end; NULL: none */
	int err_fd;		    /* borrowed, for good: what ends the process is said there */
	bool verbose;		    /* say what is entered */
};

/*
 * Prepares the sandbox, and from now on threads enter it as they begin (thread_begin). One for a
 * process. 0, or an error with message.
 */
int sandbox_new(const struct sandbox_cfg *cfg, struct err *e, struct sandbox **ret);
/* Threads that begin from now on enter none. What has been entered stays. NULL is legal. */
void sandbox_free(struct sandbox *s);

/*
 * The calling thread becomes THREAD_VM: behind this nothing is opened but what the devices named,
 * no program is started, and a system call that is not foreseen ends the process. NULL is legal: nothing is given up.
 */
void sandbox_enter(struct sandbox *s);

/* Version of this kernel's Landlock, 0 if it has none or it is switched off. */
int sandbox_landlock(void);
/* Whether this kernel takes system call filters: else sandbox_new fails. */
bool sandbox_seccomp(void);

#endif
