/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.h - runs one virtual machine from its configuration to its end
 */
#ifndef ORR_VM_RUN_H
#define ORR_VM_RUN_H

#include "base/err.h"
#include "board/topology.h"
#include "image/initramfs.h"
#include "vm/conlog.h"
#include "vm/life.h"
#include "vm/machine.h"

#define VM_MEM_DEFAULT (512ull << 20)
#define VM_RTC_BASE_DEFAULT 1767225600 /* 2026-01-01T00:00:00Z */
#define VM_STATS_MAX 256u

enum vm_engine { VM_ENGINE_AUTO, VM_ENGINE_SOFT, VM_ENGINE_KVM };
/* Host CPUs of one's own: none; whole last-level caches; CPUs alone. */
enum vm_perf { VM_PERF_OFF, VM_PERF_LLCS, VM_PERF_CPUS };
enum vm_clock { VM_CLOCK_AUTO, VM_CLOCK_VIRTUAL, VM_CLOCK_REAL };

/* Exit statuses that are Orrery's own; every other one is the command's or the guest's. */
enum {
	VM_STATUS_HALTED = 121, /* the guest ended, or stopped for ever, without a status */
	VM_STATUS_TRIPLE = 122,
	VM_STATUS_PANIC = 123,
	VM_STATUS_TIMEOUT = 124,
	VM_STATUS_FAILED = 125, /* Orrery could not do what was asked */
};

struct session;

/* All pointers are borrowed. Zero means the default, except where a field says otherwise. */
/* vm_cfg.cpu_cap: three tenths of the host's CPUs, or as many as there are vCPUs' threads. */
#define VM_CPU_CAP_AUTO UINT32_MAX

struct vm_cfg {
	enum vm_engine engine;
	enum vm_clock clock; /* AUTO: real for an interactive console, else virtual */
	bool has_seed;	     /* else 0, or a random one under the real clock */
	u64 seed;
	u32 mips;
	enum machine_tier tier;
	u64 code_cache;	       /* bytes */
	const char *code_dump; /* a file for translated code beside the guest's; NULL: none */
	bool perf_map;	       /* tell perf about translated code */
	const char *symbols;   /* a file with names for both (base/symbols.h); NULL: none */
	const char *cpu_model;
	const char *kernel;	 /* as kcache_resolve; NULL: "debian" */
	const char *initrd;	 /* a file; NULL: composed */
	const char *append;	 /* behind the default command line */
	u64 mem;		 /* bytes; 0: what is needed, at least VM_MEM_DEFAULT */
	const struct topo *topo; /* need not be validated; NULL: one CPU */

	const char *const *argv; /* the command, NULL-terminated; NULL: the console */
	const char *const *env;	 /* NAME=VALUE for it, NULL-terminated; may be NULL */
	const struct initramfs_include *include;
	size_t n_include;
	const char *const *modules; /* NULL-terminated; may be NULL */
	struct vm_devs *devs;	    /* opened by vm_run; NULL: none */
	bool serial_port;	    /* the command port stays on the serial port */
	bool virtio_cmdline;	    /* name them on the command line instead of in ACPI */

	enum vm_perf perf;
	u32 cpu_cap;	  /* at most so many host CPUs; 0: any; VM_CPU_CAP_AUTO; not with @perf */
	u64 perf_wait_ns; /* how long to wait for CPUs that others have */

	const char *name;    /* by which other processes find it (vm/ctl.h); NULL: its number */
	const char *console; /* a file for what the guest's console says; NULL: none */
	bool verbose;	     /* the kernel's messages on err_fd */
	bool interactive;    /* the command reads from a terminal */
	bool tty;	     /* the command gets a terminal */
	int in_fd, out_fd, err_fd;

	u64 timeout_ns; /* of host time while the guest runs; 0: none */
	bool has_rtc;
	s64 rtc_base;	/* Unix time; without: fixed, or the host's under the real clock */
	int debug_exit; /* port, or -1 */
	bool digest;
	/* The process gives up what the guest does not need, for good (vm/sandbox.h). */
	bool sandbox;
	const char *gdb;   /* where a debugger may come (vm/gdb.h); NULL: nowhere */
	bool restart;	   /* a reset begins anew, instead of ending the run */
	bool hidden;	   /* other processes do not find it (`orrery ps`) */
	bool no_signals;   /* SIGTERM and others are the caller's matter */
	struct life *life; /* CREATED; whoever wants to know. NULL: nobody */
	/*
	 * On the VM's thread: @s takes orders (vm/order.h) from now on; NULL: no longer. What comes
	 * behind its end is refused, but not behind this. NULL: nobody gives any.
	 */
	void (*attach)(void *opaque, struct session *s);
	/*
	 * On the I/O thread, once: the VM's end is overdue and the VM's thread, or a worker that it waits
	 * for, is held by the host: vm_run may never return, and all that it has stays in use. NULL:
	 * the process says so and ends.
	 */
	void (*hung)(void *opaque, const char *words);
	void *opaque;
	/* Atomic, any thread's: once it is true, a VM that does not run yet ends between two steps. */
	const bool *cancel;
};

/* How a run ended. */
enum vm_end {
	VM_END_COMMAND,	    /* the command ended: its status */
	VM_END_NOT_STARTED, /* the guest could not execute it */
	VM_END_POWEROFF,
	VM_END_RESET,
	VM_END_PANIC,
	VM_END_TRIPLE,
	VM_END_HALTED,	   /* no vCPU will ever execute again */
	VM_END_FAILED,	   /* the host's KVM failed */
	VM_END_DEBUG_EXIT, /* the guest wrote to the debug-exit port */
	VM_END_TIMEOUT,
	VM_END_SIGNAL,	 /* somebody ended us */
	VM_END_STOPPED,	 /* somebody asked for it: `orrery stop` */
	VM_END_USER,	 /* Ctrl-A X */
	VM_END_OUTPUT,	 /* our output cannot be written */
	VM_END_PROTOCOL, /* the guest broke the command port's protocol */
};

struct vm_stat {
	char name[32];
	u64 val;
};

struct vm_result {
	enum vm_end end;
	int status;		       /* what the process should exit with */
	char words[CONLOG_LINE + 256]; /* what happened, for a person; "": nothing to say */
	char tail[CONLOG_TAIL + 1];    /* the console's last lines, where they may explain it */
	char digest[MACHINE_DIGEST_LEN + 1];
	u64 prepare_ns, run_ns; /* of host time */
	u64 guest_ns;
	struct vm_stat stat[VM_STATS_MAX];
	unsigned n_stats;
};

/*
 * Prepares and runs a VM. Returns 0 and *ret when a guest has run, however it ended, or a negative
 * errno with a message. Writes to the three descriptors only; the terminal and all signal actions
 * are as before afterwards.
 */
int vm_run(const struct vm_cfg *cfg, struct err *e, struct vm_result *ret);

#endif
