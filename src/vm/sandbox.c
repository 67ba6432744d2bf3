// SPDX-License-Identifier: Apache-2.0
/*
 * sandbox.c - the process gives up what a running guest does not need
 *
 * How it works
 * While a VM is prepared the process is an ordinary one: it opens files, fetches kernels, starts
 * passt, looks at the terminal. Once everything is open and before the guest's first instruction it
 * goes through three stages, from which there is no way back:
 *
 *	1 privileges  no_new_privs: no program that is executed gains any. Capabilities are dropped,
 *	              but for those by which a share acts as the guest's users (root only), and
 *	              that of real-time priorities with --perf.
 *	2 files       Landlock: nothing is opened any more but what is below the shared directories,
 *	              /etc/resolv.conf for libslirp, and our own socket's removal; no TCP connection
 *	              is made without --net user.
 *	3 calls       seccomp: each kind of thread has a list of system calls (sandbox_calls.c).
 *
 * All three belong to a thread, and a thread inherits them from the one that starts it. A thread
 * may start before its VM's thread is through, and another kind needs less than that: so every
 * thread enters all stages itself, first of all (base/thread.h). To enter twice does no harm: the
 * two lists of capabilities, files and calls are intersected.
 *
 * What all threads need for that is made beforehand, where failures can still be told: filters as
 * the kernel takes them, rulesets, names of system calls. On the thread there are only a few system
 * calls, no memory is allocated, nothing is opened.
 *
 * A forbidden call raises SIGSYS in its thread. The handler says which call it was and ends the
 * process; without the handler (a thread that was taken over can replace it) the call fails all the
 * same. The alternative, to answer with an error, would let an intruder look around, and would
 * leave us to find our own mistakes by what they break.
 *
 * Speculation is left as it was (SECCOMP_FILTER_FLAG_SPEC_ALLOW). Linux before 5.16 otherwise takes
 * away store bypass from threads with a filter, of which translated code would pay a good part, and
 * the guest shares this process's memory whatever is done there.
 *
 * The kernel may lack Landlock (before 5.13, or not switched on), or have one that cannot move files
 * between directories (before 5.19): then stage 2 is a mount namespace (sandbox_root.c), entered by the VM's thread
 * for all. That takes root; for others it is left out, and they are warned if the guest makes the
 * monitor open files. Without seccomp nothing runs, unless --no-sandbox says that
 * it may. Under AddressSanitizer and ThreadSanitizer stages 2 and 3 are left out: their run-time
 * libraries start processes and read /proc.
 */
#include "vm/sandbox_priv.h"

#include "host/rundir.h"
#include "vm/devices.h"
#include "vm/run.h"
#include "vm/term.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <libgen.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <malloc.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#define NAMES_MAX 512 /* system call numbers with a name */
#define NAME_LEN 28
#define RESOLV_CONF "/etc/resolv.conf"

struct sandbox {
	u32 uses;
	struct sandbox_path path[SANDBOX_PATHS_MAX];
	unsigned n_paths;
	u64 caps; /* that are kept, by the VM's thread and those that it starts */
	struct sandbox_filter filter[THREAD_ROLES];
	int files, none; /* rulesets; negative: no Landlock */
	bool root;	 /* a mount namespace instead */
	bool entered;	 /* by the VM's thread */
	bool handler;	 /* @old_sys is what was there before ours */
	struct sigaction old_sys;
};

static const char *const role_name[] = { [THREAD_VM] = "VM's",
					 [THREAD_VCPU] = "vCPU's",
					 [THREAD_WORKER] = "worker's",
					 [THREAD_IO] = "I/O" };

/* Where a thread that begins finds it. */
static struct sandbox *current;
static int words_fd = -1; /* of the last words */
static char call_name[NAMES_MAX][NAME_LEN];
static _Thread_local enum thread_role my_role;

/* --- the last words --------------------------------------------------------------------------- */

/* For a signal handler: no libc but the system call. */
static void say(const char *const *words)
{
	struct iovec iov[16];
	int n = 0;

	for (; *words && n < (int)ARRAY_LEN(iov); words++)
		iov[n++] = (struct iovec){ (void *)(size_t)*words, strlen(*words) };
	if (writev(words_fd, iov, n) < 0) /* nobody listens */
		return;
}

static const char *decimal(char ret[12], int val)
{
	unsigned v = (unsigned)val;
	char *p = ret + 11;

	*p = 0;
	do
		*--p = (char)('0' + v % 10);
	while (v /= 10);
	return p;
}

/* The thread stands behind the instruction that would have entered the kernel. */
static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	char number[12];
	int nr = info->si_syscall;
	const char *name =
		nr >= 0 && nr < NAMES_MAX && call_name[nr][0] ? call_name[nr] : "unknown";

	term_restore();
	say((const char *const[]){
		"orrery: sandbox: the ", role_name[my_role], " thread made the system call ", name,
		" (", decimal(number, nr),
		"), which no running guest needs, so Orrery ends here; this is a guest that broke "
		"out or a mistake in Orrery: please report it. --no-sandbox runs without the "
		"sandbox\n",
		NULL });
	_exit(VM_STATUS_FAILED);
}

static attr_noreturn void cannot(const char *what, int err)
{
	char number[12];

	term_restore();
	say((const char *const[]){ "orrery: sandbox: a thread cannot ", what, " (error ",
				   decimal(number, err),
				   "); --no-sandbox runs without the sandbox\n", NULL });
	_exit(VM_STATUS_FAILED);
}

static void name_calls(void)
{
	for (int nr = 0; nr < NAMES_MAX; nr++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, nr);

		if (name)
			snprintf(call_name[nr], NAME_LEN, "%s", name);
		free(name);
	}
}

/* --- the stages, on the thread that enters them ----------------------------------------------- */

/* A file's owner, and who may do what with it: nothing else of what root can do. */
#define CAPS_READ (BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_FOWNER) | BIT(CAP_SETUID) | BIT(CAP_SETGID))
#define CAPS_WRITE (BIT(CAP_DAC_OVERRIDE) | BIT(CAP_CHOWN) | BIT(CAP_FSETID) | BIT(CAP_SETFCAP))

/* capset(2) itself: libcap-ng opens files of /proc, and a worker may not any more. */
static int keep_caps(u64 keep)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	for (unsigned i = 0; i < ARRAY_LEN(data); i++)
		data[i].effective = data[i].permitted = (u32)(keep >> (32 * i));
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

static int stage_privileges(u64 caps)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return keep_caps(caps);
}

static int stage_calls(const struct sandbox_filter *f)
{
	struct sock_fprog prog = { .len = f->n, .filter = f->insn };

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &prog) <
	    0)
		return -errno;
	return 0;
}

static void enter(enum thread_role role)
{
	const struct sandbox *s = current;
	bool waits = role == THREAD_IO;
	int files = waits ? s->none : s->files, r;
	sigset_t sys;

	my_role = role;
	/* A signal that is blocked would kill without a word. */
	sigemptyset(&sys);
	sigaddset(&sys, SIGSYS);
	pthread_sigmask(SIG_UNBLOCK, &sys, NULL);
	r = stage_privileges(waits ? 0 : s->caps);
	if (r < 0)
		cannot("give up its privileges", -r);
	if (files >= 0) {
		r = sandbox_files_enter(files);
		if (r < 0)
			cannot("restrict itself by Landlock", -r);
	}
	if (s->filter[role].insn) {
		r = stage_calls(&s->filter[role]);
		if (r < 0)
			cannot("install its filter of system calls", -r);
	}
}

void sandbox_enter(struct sandbox *s)
{
	if (!s)
		return;
	int r = s->root ? sandbox_root_enter() : 0;

	if (r < 0)
		cannot("leave the host's files", -r);
	s->entered = true;
	enter(THREAD_VM);
}

/* --- beforehand ------------------------------------------------------------------------------- */

void sandbox_use(struct sandbox *s, u32 uses)
{
	s->uses |= uses;
}

void sandbox_path(struct sandbox *s, int fd, enum sandbox_access access)
{
	if (s->n_paths < SANDBOX_PATHS_MAX)
		s->path[s->n_paths++] = (struct sandbox_path){ fd, access };
}

bool sandbox_seccomp(void)
{
	u32 action = SECCOMP_RET_TRAP;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

/*
 * libslirp reads it again when it has changed. Who writes it replaces the file rather than its
 * contents, and a rule is for the file: so where it is a link to a directory of its own, as those
 * that maintain it have it, all of that directory may be read.
 */
static int open_resolver(int ret[2])
{
	char real[PATH_MAX], *slash;
	int n = 0;

	ret[n] = open(RESOLV_CONF, O_PATH | O_CLOEXEC);
	n += ret[n] >= 0;
	if (!realpath(RESOLV_CONF, real))
		return n;
	slash = strrchr(real, '/');
	*slash = 0;
	if (strcmp(real, "/etc") && real[0]) {
		ret[n] = open(real, O_PATH | O_DIRECTORY | O_CLOEXEC);
		n += ret[n] >= 0;
	}
	return n;
}

/* A file is removed from its directory: that is what there are rules for. */
static int open_dir_of(const char *path)
{
	char dir[PATH_MAX];

	snprintf(dir, sizeof(dir), "%s", path);
	return open(dirname(dir), O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* What opens files while the guest runs. */
#define OPENS (SANDBOX_SHARE | SANDBOX_SHARE_WRITE | SANDBOX_NET_USER)

static void without_landlock(struct sandbox *s, int err_fd)
{
	s->root = sandbox_root_new(s->path, s->n_paths) == 0;
	if (!s->root && (s->uses & OPENS))
		dprintf(err_fd,
			"orrery: warning: sandbox: a guest that breaks out can open whatever this user "
			"can: this kernel has no Landlock, or too old a one, and the other way takes "
			"root\n");
}

static int make_rulesets(struct sandbox *s, const struct sandbox_cfg *cfg, struct err *e)
{
	int fd[4], n = 0, r;

	if (s->uses & SANDBOX_NET_USER)
		n = open_resolver(fd);
	for (int i = 0; i < n; i++)
		sandbox_path(s, fd[i], SANDBOX_READ);
	if (s->uses & SANDBOX_CTL) {
		fd[n] = rundir_open(e);
		if (fd[n] >= 0)
			sandbox_path(s, fd[n++], SANDBOX_REMOVE);
	}
	if (cfg->leaves) {
		fd[n] = open_dir_of(cfg->leaves);
		if (fd[n] >= 0)
			sandbox_path(s, fd[n++], SANDBOX_REMOVE);
	}
	r = s->files = sandbox_files_new(s->path, s->n_paths, s->uses & SANDBOX_NET_USER);
	if (r >= 0)
		r = s->none = sandbox_files_new(NULL, 0, false);
	if (r == -ENOSYS || r == -EOPNOTSUPP) {
		without_landlock(s, cfg->err_fd);
		r = 0;
	}
	while (n)
		close(fd[--n]);
	return r < 0 ? err_sys(e, r, "sandbox: cannot make a Landlock ruleset") : 0;
}

static int make_filters(struct sandbox *s, struct err *e)
{
	for (int i = 0; i < THREAD_ROLES; i++) {
		int r;

		if (i == THREAD_VCPU && !(s->uses & SANDBOX_KVM))
			continue;
		r = sandbox_filter_new((enum thread_role)i, s->uses, &s->filter[i]);
		if (r < 0)
			return err_sys(e, r, "sandbox: cannot make a filter of system calls");
	}
	return 0;
}

/*
 * A share acts as the guest's users: as root only. That the change of users leaves capabilities
 * alone takes one more capability, which is used now (fuse.c does it where there is no sandbox).
 */
static void choose_caps(struct sandbox *s)
{
	int bits = prctl(PR_GET_SECUREBITS);

	/* The vCPUs of a VM that is reset are new threads, and get their priority then. */
	if (s->uses & SANDBOX_PERF)
		s->caps |= BIT(CAP_SYS_NICE);
	if (geteuid() || !(s->uses & SANDBOX_SHARE))
		return;
	s->caps |= CAPS_READ | (s->uses & SANDBOX_SHARE_WRITE ? CAPS_WRITE : 0);
	if (bits >= 0)
		(void)!prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP);
}

/* Of those that are there at all: a container may have taken some. */
static int bound_caps(struct sandbox *s)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &head, data) < 0)
		return -errno;
	s->caps &= data[0].permitted | (u64)data[1].permitted << 32;
	return 0;
}

static void say_sandbox(const struct sandbox *s, int fd)
{
	char files[64] = "not restricted (this kernel has no Landlock, or too old a one)";

	if (SANITIZED) {
		dprintf(fd,
			"orrery: sandbox: of a sanitizer's build it has the first stage only\n");
		return;
	}
	if (s->files >= 0)
		snprintf(files, sizeof(files), "%u places (Landlock %d)", s->n_paths,
			 sandbox_landlock());
	else if (s->root)
		snprintf(files, sizeof(files), "%u places (a mount namespace)", s->n_paths);
	dprintf(fd,
		"orrery: sandbox: capabilities kept %#llx; files: %s; system calls: VM %u, workers %u, "
		"I/O %u\n",
		(unsigned long long)s->caps, files, s->filter[THREAD_VM].calls,
		s->filter[THREAD_WORKER].calls, s->filter[THREAD_IO].calls);
}

/*
 * Files that libraries read at the first use of something: /etc/localtime, even by gmtime(3), of
 * which the RTC is made; /dev/urandom for the hashes of JSON objects.
 */
static void warm_libraries(void)
{
	tzset();
	json_object_seed(0);
}

static int make(struct sandbox *s, const struct sandbox_cfg *cfg, struct err *e)
{
	struct sigaction sa = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };
	int r;

	for (unsigned i = 0; cfg->devs && i < cfg->devs->n; i++)
		if (cfg->devs->dev[i].kind->sandbox)
			cfg->devs->dev[i].kind->sandbox(cfg->devs->dev[i].dev, s);
	choose_caps(s);
	r = bound_caps(s);
	if (r < 0)
		return err_sys(e, r, "sandbox: cannot read the capabilities");
	if (!SANITIZED && !sandbox_seccomp())
		return err_set(e, -ENOSYS,
			       "sandbox: this kernel has no seccomp, or the container we are in "
			       "does not let us use it; --no-sandbox runs without a sandbox");
	if (!SANITIZED)
		r = make_rulesets(s, cfg, e);
	if (!SANITIZED && r == 0)
		r = make_filters(s, e);
	if (r < 0)
		return r;
	words_fd = cfg->err_fd;
	name_calls();
	warm_libraries();
	sigemptyset(&sa.sa_mask);
	if (sigaction(SIGSYS, &sa, &s->old_sys) < 0)
		return err_sys(e, -errno, "sandbox: cannot handle SIGSYS");
	s->handler = true;
	return 0;
}

int sandbox_new(const struct sandbox_cfg *cfg, struct err *e, struct sandbox **ret)
{
	struct sandbox *s = calloc(1, sizeof(*s));
	int r;

	BUG_IF(current);
	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->files = s->none = -1;
	s->uses = cfg->uses;
	r = make(s, cfg, e);
	if (r < 0) {
		sandbox_free(s);
		return r;
	}
	if (cfg->verbose)
		say_sandbox(s, cfg->err_fd);
	/*
	 * Before it shrinks an arena of a thread's own, glibc's malloc asks a file whether memory is
	 * overcommitted (check_may_shrink_heap). Where all threads share the first there is no other.
	 */
	mallopt(M_ARENA_MAX, 1);
	current = s;
	thread_on_begin(enter);
	*ret = s;
	return 0;
}

void sandbox_free(struct sandbox *s)
{
	if (!s)
		return;
	thread_on_begin(NULL);
	current = NULL;
	/* What was entered stays, and so does the handler. */
	if (s->handler && !s->entered)
		sigaction(SIGSYS, &s->old_sys, NULL);
	for (int i = 0; i < THREAD_ROLES; i++)
		sandbox_filter_fini(&s->filter[i]);
	if (s->files >= 0)
		close(s->files);
	if (s->none >= 0)
		close(s->none);
	free(s);
}
