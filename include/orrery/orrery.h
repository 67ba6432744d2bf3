/* SPDX-License-Identifier: Apache-2.0 */
/*
 * orrery.h - virtual machines in your own process
 *
 * A VM is configured, started, looked at and ended through one opaque handle. It runs on a thread of
 * its own and takes no signal, prints nothing and never ends the process. Functions that return int
 * return 0 or more, or a negative errno; then orr_vm_error says what failed, why, and what to do.
 * They may be called from any thread, but a handle is configured by one thread at a time.
 *
 * How a VM behaves, and what its options mean, is in orrery(1); a VM of a program is found by
 * `orrery ps` like any other, unless the option "hidden" is set.
 */
#ifndef ORRERY_ORRERY_H
#define ORRERY_ORRERY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ORR_API __attribute__((visibility("default")))

typedef struct orr_vm orr_vm;

/* What is allowed in which state: orr_vm_start in CREATED; the rest as its function says. */
enum orr_state {
	ORR_CREATED,
	ORR_INITIALIZING, /* kernel, devices and machine are made */
	ORR_RUNNING,
	ORR_PAUSED,   /* nothing of the guest changes */
	ORR_STOPPING, /* it was asked to end, or is over */
	ORR_STOPPED,  /* over: orr_vm_wait has the result */
	ORR_FAILED,   /* the host could not do it */
};

/* How it ended. Numbers do not change. */
enum orr_end {
	ORR_END_COMMAND = 0,	 /* the command ended: status */
	ORR_END_NOT_STARTED = 1, /* the guest could not execute it */
	ORR_END_POWEROFF = 2,
	ORR_END_RESET = 3,
	ORR_END_PANIC = 4,
	ORR_END_TRIPLE = 5, /* triple fault */
	ORR_END_HALTED = 6, /* no vCPU will ever execute again */
	ORR_END_DEBUG_EXIT = 7,
	ORR_END_TIMEOUT = 8,
	ORR_END_STOPPED = 9,   /* orr_vm_stop, `orrery stop` */
	ORR_END_OUTPUT = 10,   /* its output could not be written */
	ORR_END_PROTOCOL = 11, /* the guest's init spoke nonsense */
	ORR_END_OTHER = 99,
};

struct orr_result {
	size_t size; /* of this struct, set by the caller: later versions are longer */
	enum orr_end end;
	int status; /* what `orrery run` would exit with */
	uint64_t run_ns, guest_ns;
	char digest[40];  /* with the option "digest", else "" */
	char words[1024]; /* what happened, for a person; "": nothing to say */
};

/* A version such as "0.1.0". Static storage. */
ORR_API const char *orr_version(void);

/* NULL: out of memory. Nothing of the host is used until it is started. */
ORR_API orr_vm *orr_vm_new(void);
/*
 * Ends the VM at once if it runs, waits for that, and frees it; one that was given up (orr_vm_stop)
 * is freed when its thread comes back. NULL is legal.
 */
ORR_API void orr_vm_free(orr_vm *vm);
/*
 * Why the last function of this thread on @vm failed; "" if none has. Valid until the thread's next
 * call with any VM.
 */
ORR_API const char *orr_vm_error(orr_vm *vm);

/*
 * Sets an option of `orrery run`, named without its dashes: orr_vm_set(vm, "mem", "1G"). Options that
 * may be repeated add; those without a value take NULL. Options that belong to a terminal or to the
 * process (tty, interactive, stats, no-sandbox, perf, gdb, ...) are not there. Also: "hidden".
 * -EINVAL: no such one, or a bad value. Texts are copied.
 */
ORR_API int orr_vm_set(orr_vm *vm, const char *option, const char *value);
/* The command that the guest runs, NULL-terminated; copied. Without: its console. */
ORR_API int orr_vm_set_command(orr_vm *vm, const char *const *argv);
/*
 * Standard input, output and error of the command, or of the console, borrowed until the VM has ended;
 * -1, the default: none. Also what Orrery itself would say goes to @err.
 */
ORR_API int orr_vm_set_streams(orr_vm *vm, int in, int out, int err);

/* Returns when the guest executes, or has ended already. Once. */
ORR_API int orr_vm_start(orr_vm *vm);
ORR_API enum orr_state orr_vm_state(orr_vm *vm);
/*
 * Waits until the VM has ended, @timeout_ms at most (-1: for ever). 0 and *result (may be NULL);
 * -ETIMEDOUT; -EIO: it was given up (orr_vm_stop); or why it failed.
 */
ORR_API int orr_vm_wait(orr_vm *vm, int timeout_ms, struct orr_result *result);

/* Returns when all vCPUs are parked and nothing of the guest changes any more. RUNNING only. */
ORR_API int orr_vm_pause(orr_vm *vm);
ORR_API int orr_vm_resume(orr_vm *vm); /* PAUSED only */
/* Begins the guest anew, as a reset button does. RUNNING or PAUSED. */
ORR_API int orr_vm_reset(orr_vm *vm);
/*
 * Asks the guest to end; after @timeout_ms it is ended. 0: at once. Does not wait (orr_vm_wait does).
 * Legal in every state once it is started; in CREATED -EBADFD. One that is still made ends between
 * two steps of that, or while it downloads a kernel; what unpacks it, and what fills a disk's
 * template, is not cut short.
 *
 * If the host's file system holds a worker of the VM, or its thread, for five seconds after it should
 * have ended, it is given up: its state is FAILED, waiting for it and asking for anything is -EIO, and
 * orr_vm_error says which device's it is. Its threads, memory and descriptors stay in use until the
 * host lets them go, if ever; the streams of orr_vm_set_streams are not written to any more.
 */
ORR_API int orr_vm_stop(orr_vm *vm, uint32_t timeout_ms);
/* How much memory the guest is to keep. With the option "balloon". RUNNING only. */
ORR_API int orr_vm_balloon(orr_vm *vm, uint64_t bytes);
/* Calls @line for each counter. Not before it runs. */
ORR_API int orr_vm_stats(orr_vm *vm, void (*line)(void *opaque, const char *name, uint64_t value),
			 void *opaque);
/*
 * A connected stream socket to vsock port @port of the guest, owned by the caller. With the option
 * "vsock". -ECONNREFUSED: nobody listens there; -ETIMEDOUT: the guest has not answered.
 */
ORR_API int orr_vm_connect(orr_vm *vm, uint32_t port, int timeout_ms);

/* --- a command in a guest that runs already, as `orrery exec` has it --- */

typedef struct orr_exec_run orr_exec_run; /* one that runs, for the time of a call of `wake` */

/* Begin with ORR_EXEC_INIT. All is borrowed until orr_vm_exec returns. */
struct orr_exec {
	size_t size; /* of this struct: later versions are longer */
	/* NULL-terminated. Without a '/' in it the program is looked for in the guest's PATH. */
	const char *const *argv;
	const char *const
		*env;	     /* NAME=VALUE, NULL-terminated, beside the guest's own; may be NULL */
	const char *cwd;     /* absolute; NULL: that of the VM's own command */
	int in, out, err;    /* the command's standard streams; -1: none */
	int tty;	     /* not 0: it gets a terminal, whose output is all @out's */
	unsigned rows, cols; /* of that; 0: unknown */
	int timeout_ms;	     /* for all of it; -1: no limit */
	int wait_ms;	     /* of this, for a guest that still boots */
	/*
	 * To reach the command while it runs: whenever @wake_fd (-1: none) is readable, @wake is called
	 * in the thread of orr_vm_exec. It reads there, and may call the functions below.
	 */
	int wake_fd;
	void (*wake)(void *opaque, orr_exec_run *run);
	void *opaque;
};

#define ORR_EXEC_INIT                                                                              \
	{                                                                                          \
		.size = sizeof(struct orr_exec), .in = -1, .out = -1, .err = -1, .timeout_ms = -1, \
		.wait_ms = 10000, .wake_fd = -1                                                    \
	}

/*
 * Runs a command of the guest's as root and waits until it has ended. With the option "vsock", and a
 * guest that has Orrery's init (no "initrd"); any number at once, each in a thread of its own.
 *
 * 0 and the exit status in *status (may be NULL), 128 + N if signal N killed it. -ENOENT, -ENOEXEC:
 * the guest has no such program, or could not execute it; -EINVAL; -E2BIG; -ENOTSUP: a guest without
 * sockets or agent; -EBADFD: it is paused, or does not run; -ECONNREFUSED or
 * -ETIMEDOUT: it has not booted within @wait_ms; -ETIMEDOUT: nor ended within @timeout_ms; -ECANCELED:
 * orr_exec_cancel; -ECONNRESET or -ESHUTDOWN: the VM has ended, or its agent; -EPIPE, ...: what writing
 * to @out said; -EPROTO: the agent spoke nonsense. A command that still runs then gets SIGHUP.
 */
ORR_API int orr_vm_exec(orr_vm *vm, const struct orr_exec *exec, int *status);
/* Sends signal @sig (1 to 64) to the command's process group. */
ORR_API void orr_exec_signal(orr_exec_run *run, int sig);
ORR_API void orr_exec_winsize(orr_exec_run *run, unsigned rows, unsigned cols);
/* orr_vm_exec returns soon, with -ECANCELED. */
ORR_API void orr_exec_cancel(orr_exec_run *run);

#ifdef __cplusplus
}
#endif

#endif
