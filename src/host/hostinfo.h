/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostinfo.h - what this host has and lets this process do: facts, without a judgement
 *
 * Most of it is read below a directory that the caller names, so that tests bring their own hosts;
 * "" is this one. What cannot be learned is what a host without it would say.
 */
#ifndef ORR_HOST_HOSTINFO_H
#define ORR_HOST_HOSTINFO_H

#include "base/compiler.h"

struct host_cgroup {
	int version;		 /* of the hierarchy that limits CPU time: 2, 1, or 0: none */
	char controllers[256];	 /* version 2: those that it has here, separated by spaces */
	u64 quota_us, period_us; /* CPU time in each period; quota 0: no limit */
	char limit[256];	 /* the file that says so */
};

/* The tightest limit of CPU time on the way to the root (Documentation/admin-guide/cgroup-v2.rst). */
void host_cgroup_read(const char *root, struct host_cgroup *ret);

struct host_memory {
	u64 total, available;			    /* bytes */
	u64 huge2, huge2_free, huge1g, huge1g_free; /* pages of the pools */
	char thp[16]; /* "always", "madvise", "never"; "": not in this kernel */
};
void host_memory_read(const char *root, struct host_memory *ret);

#define HOST_CLOCK_MAX 64
/* Whether the kernel reads time from the time stamp counter; in @ret what it reads it from. */
bool host_clock_by_tsc(const char *root, char ret[HOST_CLOCK_MAX]);

/* Whether this process has capability number @cap (linux/capability.h) in its effective set. */
bool host_has_cap(const char *root, unsigned cap);
/* May it set SCHED_FIFO? By capability or RLIMIT_RTPRIO. */
bool host_can_fifo(void);

/*
 * Whether files in @dir (or, if it does not exist, in the nearest directory above) can share data
 * (FICLONE). 1, 0, or negative errno if it could not be tried.
 */
int host_reflink(const char *dir);
/* Whether this kernel has io_uring and lets this process use it. 0 or negative errno. */
int host_io_uring(void);
/* Whether generated code can be executed: shared memory, mapped once to write and once to execute. */
int host_exec_memory(void);

#endif
