// SPDX-License-Identifier: Apache-2.0
/*
 * test_sandbox.c - what is forbidden ends the process with a word, what is needed still works
 *
 * Each case is a child that enters the sandbox as one kind of thread and does one thing. What it
 * prints on the descriptor for last words, and how it ends, is judged here.
 */
#include "vm/sandbox.h"

#include "base/thread.h"
#include "dev/fuse_rig.h"
#include "vm/devices.h"
#include "vm/run.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#define FINE 7	 /* the child did what it was to do */
#define WRONG 99 /* it saw something else than it should */

/* --- a child ---------------------------------------------------------------------------------- */

struct place {
	const char *dir;
	enum sandbox_access access;
};

/* What a child is given. */
struct how {
	enum thread_role role;
	u32 uses;
	const struct place *place;
	unsigned n_places;
	int (*act)(const struct how *h); /* returns what the child exits with */
	long arg;
};

struct ended {
	int status; /* as waitpid has it */
	char said[1024];
};

/* Stands for the devices: names what the test wants named. */
static void fake_sandbox(void *dev, struct sandbox *s)
{
	const struct how *h = dev;

	sandbox_use(s, h->uses);
	for (unsigned i = 0; i < h->n_places; i++)
		sandbox_path(s, open(h->place[i].dir, O_PATH | O_CLOEXEC), h->place[i].access);
}

static const struct vm_dev_kind fake = { .name = "fake", .sandbox = fake_sandbox };

static attr_noreturn void child(const struct how *h, int words)
{
	struct vm_devs devs = { .dev = { { .kind = &fake, .dev = (void *)(size_t)h } }, .n = 1 };
	struct sandbox_cfg cfg = { .devs = &devs, .err_fd = words };
	struct sandbox *s;
	struct err e = { 0 };

	/* The fixtures of cmocka have handlers of their own. */
	signal(SIGSEGV, SIG_DFL);
	signal(SIGALRM, SIG_DFL);
	alarm(30);
	if (sandbox_new(&cfg, &e, &s) < 0) {
		dprintf(words, "%s", e.msg);
		_exit(WRONG);
	}
	thread_begin(h->role);
	_exit(h->act(h));
}

static struct ended run(const struct how *h)
{
	struct ended r = { 0 };
	size_t n = 0;
	int pipes[2];
	ssize_t got;
	pid_t pid;

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		child(h, pipes[1]);
	close(pipes[1]);
	while (n < sizeof(r.said) - 1 &&
	       (got = read(pipes[0], r.said + n, sizeof(r.said) - 1 - n)) > 0)
		n += (size_t)got;
	close(pipes[0]);
	assert_int_equal(waitpid(pid, &r.status, 0), pid);
	return r;
}

static void dies(const struct how *h, const char *call, const char *thread)
{
	struct ended r = run(h);

	if (!WIFEXITED(r.status) || WEXITSTATUS(r.status) != VM_STATUS_FAILED ||
	    !strstr(r.said, call) || !strstr(r.said, thread) || !strstr(r.said, "--no-sandbox"))
		fail_msg("%s by the %s thread: status %#x, said: %s", call, thread, r.status,
			 r.said);
	assert_non_null(strchr(r.said, '\n'));
	assert_ptr_equal(strchr(r.said, '\n')[1], 0);
}

static void works(const struct how *h, const char *what)
{
	struct ended r = run(h);

	if (!WIFEXITED(r.status) || WEXITSTATUS(r.status) != FINE)
		fail_msg("%s: status %#x, said: %s", what, r.status, r.said);
	assert_string_equal(r.said, "");
}

static bool left_out(void)
{
	if (SANITIZED) {
		print_message("skip: a sanitizer's build has no system call filter\n");
		return true;
	}
	if (!sandbox_seccomp()) {
		print_message("skip: no seccomp here; a kernel or container with it would do\n");
		return true;
	}
	return false;
}

/* --- forbidden to all ------------------------------------------------------------------------- */

static pid_t test_pid; /* a process that no child may signal */

static int forbidden(const struct how *h)
{
	static const struct open_how plain;
	const char *file = "/etc/passwd";
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	switch (h->arg) {
	case SYS_openat:
		return open(file, O_RDONLY);
	case SYS_openat2:
		return (int)syscall(SYS_openat2, AT_FDCWD, file, &plain, sizeof(plain));
	case SYS_execve:
		return execl("/bin/true", "true", NULL);
	case SYS_clone:
		return (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	case SYS_socket:
		return socket(AF_PACKET, SOCK_RAW, 0);
	case SYS_mprotect:
		return mprotect(page, 4096, PROT_READ | PROT_EXEC);
	case SYS_mmap:
		page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		return page == MAP_FAILED;
	case SYS_tgkill:
		return (int)syscall(SYS_tgkill, test_pid, test_pid, 0);
	case SYS_ioctl: /* input for the terminal, as if its user had typed it */
		return ioctl(0, TIOCSTI, "x");
	case SYS_fcntl: /* whoever it names would get our signals */
		return fcntl(0, F_SETOWN, test_pid);
	case SYS_prctl:
		return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	default:
		return (int)syscall(h->arg, 0, 0, 0, 0, 0, 0);
	}
}

static const struct {
	enum thread_role role;
	const char *name;
} roles[] = { { THREAD_VM, "VM's" },
	      { THREAD_VCPU, "vCPU's" },
	      { THREAD_WORKER, "worker's" },
	      { THREAD_IO, "I/O" } };

static void test_forbidden(void **state)
{
	static const struct {
		long nr;
		const char *name;
	} calls[] = {
		{ SYS_openat, "openat (257)" },
		{ SYS_open, "open (2)" },
		{ SYS_openat2, "openat2" },
		{ SYS_execve, "execve" },
		{ SYS_execveat, "execveat" },
		{ SYS_clone, "clone" },
		{ SYS_fork, "fork" },
		{ SYS_vfork, "vfork" },
		{ SYS_socket, "socket" },
		{ SYS_connect, "connect" },
		{ SYS_ptrace, "ptrace" },
		{ SYS_process_vm_writev, "process_vm_writev" },
		{ SYS_mount, "mount" },
		{ SYS_umount2, "umount2" },
		{ SYS_pivot_root, "pivot_root" },
		{ SYS_chroot, "chroot" },
		{ SYS_setns, "setns" },
		{ SYS_unshare, "unshare" },
		{ SYS_setuid, "setuid" },
		{ SYS_kill, "kill" },
		{ SYS_tgkill, "tgkill" },
		{ SYS_bpf, "bpf" },
		{ SYS_perf_event_open, "perf_event_open" },
		{ SYS_io_uring_setup, "io_uring_setup" },
		{ SYS_userfaultfd, "userfaultfd" },
		{ SYS_keyctl, "keyctl" },
		{ SYS_init_module, "init_module" },
		{ SYS_memfd_create, "memfd_create" },
		{ SYS_mprotect, "mprotect" },
		{ SYS_pkey_mprotect, "pkey_mprotect" },
		{ SYS_mmap, "mmap" },
		{ SYS_ioctl, "ioctl" },
		{ SYS_prctl, "prctl" },
		{ SYS_fcntl, "fcntl" },
		{ 500, "unknown (500)" },
		{ SYS_unlink, "unlink" },
	};

	if (left_out())
		return;
	for (unsigned i = 0; i < ARRAY_LEN(roles); i++) {
		for (unsigned k = 0; k < ARRAY_LEN(calls); k++) {
			struct how h = { .role = roles[i].role,
					 .uses = SANDBOX_SOFT | SANDBOX_KVM | SANDBOX_DISK,
					 .act = forbidden,
					 .arg = calls[k].nr };

			dies(&h, calls[k].name, roles[i].name);
		}
	}
}

/* What one kind of thread may, and another may not. */
static int watch(const struct how *h)
{
	return epoll_create1(EPOLL_CLOEXEC) >= 0 ? FINE : WRONG;
}

static int sync_disk(const struct how *h)
{
	return fdatasync(0) < 0 && errno == EBADF ? WRONG : FINE;
}

static int map_code(const struct how *h)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? WRONG : FINE;
}

static void test_kinds(void **state)
{
	struct how h = { .role = THREAD_VM, .uses = SANDBOX_SOFT | SANDBOX_DISK };

	if (left_out())
		return;
	h.act = watch;
	works(&h, "the VM's thread watches descriptors");
	h.role = THREAD_WORKER;
	dies(&h, "epoll_create1", "worker's");
	h.act = sync_disk;
	works(&h, "a worker writes a disk back");
	h.uses = SANDBOX_SOFT;
	dies(&h, "fdatasync", "worker's");
	h.act = map_code;
	dies(&h, "mmap", "worker's");
	h.role = THREAD_VM;
	works(&h, "the soft engine's thread has memory for code");
	h.uses = SANDBOX_KVM;
	dies(&h, "mmap", "VM's");
}

/* Our own bugs still end as they should. */
static int abort_here(const struct how *h)
{
	abort();
}

static void test_abort(void **state)
{
	struct how h = { .act = abort_here };

	if (left_out())
		return;
	for (unsigned i = 0; i < ARRAY_LEN(roles); i++) {
		struct ended r;

		h.role = roles[i].role;
		r = run(&h);
		assert_true(WIFSIGNALED(r.status));
		assert_int_equal(WTERMSIG(r.status), SIGABRT);
		assert_string_equal(r.said, "");
	}
}

/* --- the other doors to the kernel ------------------------------------------------------------ */

static int by_x32(const struct how *h)
{
	return (int)syscall(0x40000000 | SYS_getpid);
}

static int by_int80(const struct how *h)
{
	long r = 20; /* getpid of 32-bit code */

	__asm__ volatile("int $0x80" : "+a"(r) : : "memory", "r8", "r9", "r10", "r11");
	return (int)r;
}

static void test_other_abis(void **state)
{
	struct how h = { .role = THREAD_VM, .uses = SANDBOX_SOFT, .act = by_x32 };
	struct ended r;

	if (left_out())
		return;
	r = run(&h);
	assert_true(WIFSIGNALED(r.status));
	assert_int_equal(WTERMSIG(r.status), SIGSYS);
	h.act = by_int80;
	r = run(&h);
	/* SIGSEGV: a kernel without 32-bit code. */
	assert_true(WIFSIGNALED(r.status));
	assert_true(WTERMSIG(r.status) == SIGSYS || WTERMSIG(r.status) == SIGSEGV);
}

/* --- threads ---------------------------------------------------------------------------------- */

static void *disk_worker(void *opaque)
{
	sigset_t all;

	sigfillset(&all); /* as virtio/job.c has it */
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	thread_begin(THREAD_WORKER);
	free(malloc(1u << 20));
	if (opaque)
		epoll_create1(0);
	return (void *)1;
}

static int start_worker(const struct how *h)
{
	pthread_t t;
	void *r;

	if (pthread_create(&t, NULL, disk_worker, (void *)h->arg))
		return WRONG;
	pthread_join(t, &r);
	return r ? FINE : WRONG;
}

static void test_threads(void **state)
{
	struct how h = { .role = THREAD_VM, .uses = SANDBOX_SOFT, .act = start_worker };
	struct ended r;

	if (left_out())
		return;
	works(&h, "a worker starts behind the filter");
	h.role = THREAD_VCPU;
	works(&h, "one that a vCPU's thread starts");
	h.arg = 1;
	dies(&h, "epoll_create1", "worker's");
	/* pthread_create blocks all signals around its system call: this death is a silent one. */
	h.role = THREAD_WORKER;
	r = run(&h);
	assert_true(WIFSIGNALED(r.status));
	assert_int_equal(WTERMSIG(r.status), SIGSYS);
}

/* --- files ------------------------------------------------------------------------------------ */

struct tree {
	char top[64];
	char ro[80], rw[80]; /* shared */
	char out[80];	     /* beside them, not shared */
};

static void make_file(const char *dir, const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_true(fd >= 0 && write(fd, "text", 4) == 4);
	close(fd);
}

static void make_tree(struct tree *t)
{
	const struct {
		char *dir;
		const char *name;
	} dirs[] = { { t->ro, "ro" }, { t->rw, "rw" }, { t->out, "out" } };

	snprintf(t->top, sizeof(t->top), "/tmp/orrery-sandbox-XXXXXX");
	assert_non_null(mkdtemp(t->top));
	for (unsigned i = 0; i < ARRAY_LEN(dirs); i++) {
		snprintf(dirs[i].dir, 80, "%s/%s", t->top, dirs[i].name);
		assert_int_equal(mkdir(dirs[i].dir, 0755), 0);
		make_file(dirs[i].dir, "file");
	}
}

static void remove_tree(const struct tree *t)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", t->top);
	assert_int_equal(system(command), 0);
}

/* One operation on a path, and what must come of it. */
struct file_case {
	enum { OPEN_READ, OPEN_WRITE, CREATE, REMOVE, MKDIR, RENAME_OUT, RENAME_IN, LINK_IN } what;
	const char *path;
	int error; /* 0: succeeds */
};

static const struct tree *tree; /* for the children */

static int file_act(const struct how *h)
{
	const struct file_case *c = (const struct file_case *)h->arg;
	char path[160], other[160];
	int r = -1;

	snprintf(path, sizeof(path), "%s/%s", tree->top, c->path);
	snprintf(other, sizeof(other), "%s/rw/other", tree->top);
	switch (c->what) {
	case OPEN_READ:
		r = open(path, O_RDONLY | O_CLOEXEC);
		break;
	case OPEN_WRITE:
		r = open(path, O_RDWR | O_CLOEXEC);
		break;
	case CREATE:
		r = openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		break;
	case REMOVE:
		r = unlinkat(AT_FDCWD, path, 0);
		break;
	case MKDIR:
		r = mkdirat(AT_FDCWD, path, 0755);
		break;
	case RENAME_OUT:
		r = renameat(AT_FDCWD, other, AT_FDCWD, path);
		break;
	case RENAME_IN:
		r = renameat(AT_FDCWD, path, AT_FDCWD, other);
		break;
	case LINK_IN:
		r = linkat(AT_FDCWD, path, AT_FDCWD, other, 0);
		break;
	}
	if ((r < 0 ? errno : 0) == c->error)
		return FINE;
	return r < 0 ? errno : WRONG;
}

static void test_files(void **state)
{
	static const struct file_case cases[] = {
		{ OPEN_READ, "ro/file", 0 },
		{ OPEN_READ, "ro", 0 },
		{ OPEN_READ, "rw/file", 0 },
		{ OPEN_READ, "out/file", EACCES },
		{ OPEN_READ, "out", EACCES },
		{ OPEN_READ, "ro/../out/file", EACCES },
		{ OPEN_READ, "rw/link", EACCES },
		{ OPEN_READ, "../../etc/passwd", EACCES },
		{ OPEN_WRITE, "rw/file", 0 },
		{ OPEN_WRITE, "ro/file", EACCES },
		{ OPEN_WRITE, "out/file", EACCES },
		{ CREATE, "rw/new", 0 },
		{ CREATE, "ro/new", EACCES },
		{ CREATE, "out/new", EACCES },
		{ MKDIR, "rw/dir", 0 },
		{ MKDIR, "out/dir", EACCES },
		{ REMOVE, "ro/file", EACCES },
		{ REMOVE, "out/file", EACCES },
		{ RENAME_IN, "out/file", EACCES },
		{ LINK_IN, "out/file", EXDEV },
		{ RENAME_IN, "rw/dir", 0 },
		{ RENAME_OUT, "rw/dir", 0 },
		{ RENAME_IN, "rw/file", 0 },
		{ RENAME_OUT, "out/moved", EACCES },
		{ REMOVE, "rw/new", 0 },
	};
	struct tree t;
	struct place places[] = { { t.ro, SANDBOX_READ }, { t.rw, SANDBOX_CHANGE } };
	char link[96];

	if (left_out())
		return;
	if (sandbox_landlock() < 2) {
		print_message("skip: no Landlock, or a first one; a kernel from 5.19 on with "
			      "landlock in its lsm= would do\n");
		return;
	}
	make_tree(&t);
	tree = &t;
	snprintf(link, sizeof(link), "%s/link", t.rw);
	assert_int_equal(symlink("../out/file", link), 0);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct how h = { .role = i % 2 ? THREAD_VM : THREAD_WORKER,
				 .uses = SANDBOX_SHARE | SANDBOX_SHARE_WRITE,
				 .place = places,
				 .n_places = ARRAY_LEN(places),
				 .act = file_act,
				 .arg = (long)&cases[i] };

		works(&h, cases[i].path);
	}
	remove_tree(&t);
}

/* Without a writable share the calls that change files are not there at all. */
static void test_read_only(void **state)
{
	static const struct file_case write = { OPEN_WRITE, "ro/file", 0 };
	static const struct file_case make = { MKDIR, "ro/dir", 0 };
	static const struct file_case read_one = { OPEN_READ, "ro/file", 0 };
	struct tree t;
	struct place place = { t.ro, SANDBOX_READ };
	struct how h = { .role = THREAD_WORKER,
			 .uses = SANDBOX_SHARE,
			 .place = &place,
			 .n_places = 1,
			 .act = file_act };

	if (left_out())
		return;
	make_tree(&t);
	tree = &t;
	h.arg = (long)&write;
	dies(&h, "openat", "worker's");
	h.arg = (long)&make;
	dies(&h, "mkdirat", "worker's");
	h.arg = (long)&read_one;
	works(&h, "reading");
	h.role = THREAD_IO;
	dies(&h, "openat", "I/O");
	h = (struct how){ .role = THREAD_WORKER,
			  .uses = SANDBOX_SHARE | SANDBOX_SHARE_WRITE,
			  .act = forbidden,
			  .arg = SYS_fcntl };
	dies(&h, "fcntl", "worker's");
	remove_tree(&t);
}

/*
 * A file server that has more files than descriptors, in a host that has forgotten where they are:
 * those opened by handle are refused, and a look-up by name helps.
 */
#define MANY 200

static struct {
	int ask[2], told[2];
} dropper;

static int many_files(const struct how *h)
{
	static struct client c;
	char name[16], byte = 0;
	u64 id[MANY], fh;

	client_up(&c, (struct fuse_cfg){ .fds = 64 });
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		if (client_call(&c, FUSE_LOOKUP, 1, NULL, 0, name))
			return ENFILE;
		id[i] = ((const struct fuse_entry_out *)client_body(&c))->nodeid;
	}
	if (write(dropper.ask[1], &byte, 1) != 1 || read(dropper.told[0], &byte, 1) != 1)
		return WRONG;
	for (unsigned i = 0; i < MANY; i++) {
		struct fuse_read_in rd = { .size = 16 };
		s32 r = client_open(&c, id[i], O_RDONLY, &fh);

		snprintf(name, sizeof(name), "f%u", i);
		if (r == -ESTALE && client_look(&c, 1, name) == id[i])
			r = client_open(&c, id[i], O_RDONLY, &fh);
		if (r)
			return -r;
		rd.fh = fh;
		if (client_call(&c, FUSE_READ, id[i], &rd, sizeof(rd), NULL) ||
		    memcmp(client_body(&c), name, strlen(name)) != 0)
			return WRONG;
		if (client_call(&c, FUSE_RELEASE, id[i], &(struct fuse_release_in){ .fh = fh },
				sizeof(struct fuse_release_in), NULL))
			return WRONG;
	}
	return FINE;
}

/* Makes the host forget names that nobody uses, once it is asked. */
static pid_t start_dropper(void)
{
	char byte;
	pid_t pid;
	int fd;

	assert_int_equal(pipe2(dropper.ask, O_CLOEXEC), 0);
	assert_int_equal(pipe2(dropper.told, O_CLOEXEC), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid)
		return pid;
	close(dropper.ask[1]);
	fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
	if (read(dropper.ask[0], &byte, 1) == 1 && fd >= 0 && write(fd, "2", 1) == 1)
		byte = 1;
	_exit(write(dropper.told[1], &byte, 1) != 1);
}

static void test_by_handle(void **state)
{
	char dir[80];
	struct place place = { dir, SANDBOX_CHANGE };
	struct how h = { .role = THREAD_VM,
			 .uses = SANDBOX_SHARE | SANDBOX_SHARE_WRITE,
			 .place = &place,
			 .n_places = 1,
			 .act = many_files };
	struct ended r;
	char name[16];
	pid_t helper;

	if (left_out())
		return;
	if (access("/proc/sys/vm/drop_caches", W_OK) < 0) {
		print_message("skip: only root can make the host forget names\n");
		return;
	}
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		fuse_put_file(name, name);
	}
	snprintf(dir, sizeof(dir), "%s", shared("."));
	sync();
	helper = start_dropper();
	r = run(&h);
	for (unsigned i = 0; i < 2; i++) {
		close(dropper.ask[i]);
		close(dropper.told[i]);
	}
	waitpid(helper, NULL, 0);
	if (WIFEXITED(r.status) && WEXITSTATUS(r.status) == ENFILE) {
		print_message("skip: no file handles here; run as root on a local file system\n");
		return;
	}
	if (!WIFEXITED(r.status) || WEXITSTATUS(r.status) != FINE)
		fail_msg("status %#x, said: %s", r.status, r.said);
}

/* --- networks --------------------------------------------------------------------------------- */

static int make_socket(const struct how *h)
{
	int fd = socket((int)(h->arg >> 16), (int)(h->arg & 0xffff), 0);

	return fd >= 0 ? FINE : errno;
}

#define SOCKET(family, type) ((long)(family) << 16 | (type))

static void test_networks(void **state)
{
	struct how h = { .role = THREAD_VM, .uses = SANDBOX_NET_USER, .act = make_socket };
	struct ended r;

	if (left_out())
		return;
	h.arg = SOCKET(AF_INET, SOCK_STREAM | SOCK_CLOEXEC);
	works(&h, "TCP by libslirp");
	h.arg = SOCKET(AF_INET6, SOCK_DGRAM);
	works(&h, "UDP by libslirp");
	h.arg = SOCKET(AF_INET, SOCK_RAW);
	r = run(&h);
	assert_true(WIFEXITED(r.status));
	assert_int_equal(WEXITSTATUS(r.status), EPERM);
	h.arg = SOCKET(AF_PACKET, SOCK_DGRAM);
	dies(&h, "socket", "VM's");
	h.arg = SOCKET(AF_UNIX, SOCK_STREAM);
	dies(&h, "socket", "VM's");
	h.uses = SANDBOX_UNIX_CONNECT;
	works(&h, "vsock's sockets of this host");
	h.arg = SOCKET(AF_INET, SOCK_STREAM);
	dies(&h, "socket", "VM's");
	h.uses = SANDBOX_CTL | SANDBOX_STREAM;
	dies(&h, "socket", "VM's");
}

/* --- failures --------------------------------------------------------------------------------- */

/* A sandbox that is given back before it is entered leaves nothing. */
static void test_given_back(void **state)
{
	struct sandbox_cfg cfg = { .uses = SANDBOX_SOFT, .err_fd = 2 };
	struct sigaction before, after;
	struct sandbox *s;
	struct err e;
	int fd;

	if (left_out())
		return;
	sigaction(SIGSYS, NULL, &before);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(sandbox_new(&cfg, &e, &s), 0);
		sandbox_free(s);
	}
	sigaction(SIGSYS, NULL, &after);
	assert_ptr_equal(before.sa_sigaction, after.sa_sigaction);
	thread_begin(THREAD_VM); /* nothing any more */
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_in_range(fd, 3, 20);
	close(fd);
	sandbox_enter(NULL);
	sandbox_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forbidden),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_other_abis),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_networks),
		cmocka_unit_test(test_given_back),
		cmocka_unit_test(test_abort),
		cmocka_unit_test_setup_teardown(test_by_handle, fuse_rig_up, fuse_rig_down),
	};

	test_pid = getpid();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
