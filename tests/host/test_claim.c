// SPDX-License-Identifier: Apache-2.0
/*
 * test_claim.c - processes that want the same CPUs, on hosts that are made up
 */
#include "base/path.h"
#include "host/claim.h"

#include "host/cpulock.h"
#include "host/flocks.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[64];
static struct host_topo *host;
static const u8 domain[PLACE_GROUPS_MAX];

/* Four caches of four CPUs, on two nodes. */
static int setup(void **s)
{
	snprintf(dir, sizeof(dir), "/tmp/orrery-claim-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	setenv("ORRERY_LOCK_DIR", dir, 1);
	host = calloc(1, sizeof(*host));
	host->nllcs = 4;
	host->nnodes = 2;
	host->cores = 16;
	host->llc = calloc(4, sizeof(*host->llc));
	host->node = calloc(2, sizeof(*host->node));
	host->distance = calloc(4, sizeof(*host->distance));
	for (u32 i = 0; i < 4; i++)
		host->distance[i] = i % 3 ? 20 : 10;
	for (u32 cpu = 0; cpu < 16; cpu++) {
		cpulist_add(&host->online, cpu);
		host->core_of[cpu] = cpu;
		host->llc_of[cpu] = cpu / 4;
		cpulist_add(&host->llc[cpu / 4].cpus, cpu);
		host->llc[cpu / 4].node = cpu / 8;
		host->node[cpu / 8].id = cpu / 8;
	}
	return 0;
}

static int teardown(void **s)
{
	host_topo_free(host);
	unsetenv("ORRERY_LOCK_DIR");
	return path_remove_tree(dir);
}

static struct claim_cfg want(enum place_mode mode, u32 groups, u32 cores)
{
	return (struct claim_cfg){ .topo = host,
				   .allowed = &host->online,
				   .option = "--perf",
				   .want = { .mode = mode,
					     .groups = groups,
					     .cores = cores,
					     .threads = 1,
					     .domains = 1,
					     .domain = domain,
					     .cap = cores } };
}

static struct claim *claim(struct claim_cfg cfg)
{
	struct err e = { 0 };
	struct claim *c = NULL;

	if (claim_new(&cfg, &e, &c) < 0)
		fail_msg("%s", e.msg);
	return c;
}

static const char *cpus(const struct claim *c)
{
	static char text[64];

	return cpulist_format(&claim_place(c)->cpus, text, sizeof(text));
}

/* Descriptors that are open, to see leaks. */
static unsigned open_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Whole caches exclude everybody; single CPUs exclude each other; caps share. */
static void kinds(void **s)
{
	unsigned before = open_fds();
	struct claim *a = claim(want(PLACE_LLCS, 1, 3)), *b, *c, *d;
	struct claim_cfg cfg = want(PLACE_LLCS, 2, 4);
	struct err e = { 0 };
	struct claim *none = NULL;

	assert_string_equal(cpus(a), "0-3");
	b = claim(want(PLACE_CPUS, 1, 2));
	assert_string_equal(cpus(b), "4-6");
	c = claim(want(PLACE_CAP, 1, 3)); /* with those who share already */
	assert_string_equal(cpus(c), "7-9");
	d = claim(want(PLACE_CAP, 1, 3));
	assert_string_equal(cpus(d), "8,10-11");
	assert_int_equal(claim_new(&cfg, &e, &none), -EBUSY);
	assert_null(none);
	cfg = want(PLACE_LLCS, 1, 3);
	none = claim(cfg);
	assert_string_equal(cpus(none), "12-15");
	claim_free(none);
	claim_free(a);
	claim_free(b);
	claim_free(c);
	claim_free(d);
	a = claim(want(PLACE_LLCS, 3, 4));
	assert_int_equal(claim_place(a)->service_llc, 3);
	claim_free(a);
	claim_free(NULL);
	assert_int_equal(open_fds(), before);
}

static void impossible(void **s)
{
	struct claim_cfg cfg = want(PLACE_LLCS, 5, 1);
	struct err e = { 0 };
	struct claim *c = NULL;

	cfg.wait_ns = UINT64_MAX / 4; /* is not waited for */
	assert_int_equal(claim_new(&cfg, &e, &c), -ENOSPC);
	assert_string_equal(e.msg,
			    "--perf cannot work on this host: 5 last-level caches are wanted, "
			    "each with 1 CPUs, and 4 can be had");
	cfg = want(PLACE_CAP, 1, 17);
	cfg.option = "--cpu-cap 17";
	assert_int_equal(claim_new(&cfg, &e, &c), -ENOSPC);
	assert_string_equal(e.msg,
			    "--cpu-cap 17 cannot work on this host: 17 CPUs are wanted, and 16 "
			    "can be had");
}

/* A child that claims, says so, and stays. */
static pid_t holder(struct claim_cfg cfg)
{
	int p[2];
	pid_t pid;
	char byte;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct err e = { 0 };
		struct claim *c;

		if (claim_new(&cfg, &e, &c) < 0 || write(p[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(p[1]);
	assert_int_equal(read(p[0], &byte, 1), 1);
	close(p[0]);
	return pid;
}

static unsigned waited;
static pid_t to_kill;

static void kill_it(void *opaque, const char *who)
{
	char text[64];

	snprintf(text, sizeof(text), "process %d (", (int)to_kill);
	assert_non_null(strstr(who, text));
	waited++;
	kill(to_kill, SIGKILL);
}

/* The message names who has it; killed, it has it no more. */
static void contention(void **s)
{
	struct claim_cfg cfg = want(PLACE_LLCS, 2, 4);
	struct claim *c = NULL;
	struct err e = { 0 };
	char text[64];

	to_kill = holder(want(PLACE_CPUS, 3, 2));
	assert_int_equal(claim_new(&cfg, &e, &c), -EBUSY);
	snprintf(text, sizeof(text), "taken by process %d (", (int)to_kill);
	assert_non_null(strstr(e.msg, text));
	assert_non_null(strstr(e.msg, "test_host_claim"));
	assert_non_null(strstr(e.msg, "--perf-wait"));

	cfg.wait_ns = 300000000; /* not for ever */
	assert_int_equal(claim_new(&cfg, &e, &c), -EBUSY);
	cfg.wait_ns = 60000000000;
	cfg.waits = kill_it;
	waited = 0;
	assert_int_equal(claim_new(&cfg, &e, &c), 0);
	assert_int_equal(waited, 1);
	claim_free(c);
	waitpid(to_kill, NULL, 0);
}

/* A lock of this very process, through another descriptor, counts like others'. */
static void own_lock(void **s)
{
	struct err e = { 0 };
	int fd = cpulock_open(dir, CPULOCK_LLC, 0, &e);
	struct claim *c;

	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	c = claim(want(PLACE_LLCS, 3, 3));
	assert_string_equal(cpus(c), "4-10,12-14");
	claim_free(c);
	assert_int_equal(flock(fd, LOCK_SH), 0);
	c = claim(want(PLACE_LLCS, 3, 4)); /* the service CPU may share */
	assert_int_equal(claim_place(c)->service, 0);
	claim_free(c);
	close(fd);
}

/* --- many at once ---------------------------------------------------------------------------- */

struct board {
	int users[16], owners[16], llc_owner[4];
	int bad, got, lost;
};

static void enter(struct board *b, const struct place *p, int by)
{
	cpulist_each(&p->cpus, cpu)
	{
		int *n = p->mode == PLACE_CAP ? &b->users[cpu] : &b->owners[cpu];

		__atomic_add_fetch(n, by, __ATOMIC_SEQ_CST);
	}
	if (p->mode == PLACE_LLCS)
		cpulist_each(&p->llcs, llc)
			__atomic_add_fetch(&b->llc_owner[llc], by, __ATOMIC_SEQ_CST);
}

static void look_around(struct board *b, const struct place *p)
{
	cpulist_each(&p->cpus, cpu)
	{
		int owners = __atomic_load_n(&b->owners[cpu], __ATOMIC_SEQ_CST);
		int users = __atomic_load_n(&b->users[cpu], __ATOMIC_SEQ_CST);
		int llc = __atomic_load_n(&b->llc_owner[cpu / 4], __ATOMIC_SEQ_CST);
		bool mine = p->mode == PLACE_LLCS && cpulist_has(&p->llcs, cpu / 4);

		if (owners != (p->mode != PLACE_CAP) || (p->mode != PLACE_CAP && users) ||
		    llc != mine)
			__atomic_add_fetch(&b->bad, 1, __ATOMIC_SEQ_CST);
	}
}

static void worker(struct board *b, u32 seed)
{
	for (unsigned i = 0; i < 60; i++) {
		struct claim_cfg cfg;
		struct err e = { 0 };
		struct claim *c;
		int r;

		seed = seed * 1664525u + 1013904223u;
		cfg = want((enum place_mode)(seed >> 8) % 3, 1 + (seed >> 16) % 2,
			   1 + (seed >> 24) % 3);
		cfg.wait_ns = seed >> 30 ? 0 : 50000000;
		r = claim_new(&cfg, &e, &c);
		if (r == -EBUSY) {
			__atomic_add_fetch(&b->lost, 1, __ATOMIC_SEQ_CST);
			continue;
		}
		if (r < 0)
			_exit(2);
		enter(b, claim_place(c), 1);
		for (unsigned k = 0; k < 20; k++) {
			look_around(b, claim_place(c));
			sched_yield();
		}
		enter(b, claim_place(c), -1);
		claim_free(c);
		__atomic_add_fetch(&b->got, 1, __ATOMIC_SEQ_CST);
	}
	_exit(0);
}

static void many(void **s)
{
	struct board *b =
		mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;

	assert_true(b != MAP_FAILED);
	for (u32 i = 0; i < 8; i++)
		if (!fork())
			worker(b, i * 7919 + 1);
	while (wait(&status) > 0)
		assert_int_equal(status, 0);
	assert_int_equal(b->bad, 0);
	assert_int_equal(b->got + b->lost, 8 * 60);
	assert_true(b->got > 50);
	munmap(b, sizeof(*b));
}

/* --- the directory --------------------------------------------------------------------------- */

static void refused(void **s)
{
	char found[CPULOCK_DIR_MAX], path[128];
	struct err e = { 0 };
	struct stat sb;

	assert_non_null(cpulock_refuses(0x6969));
	assert_string_equal(cpulock_refuses(0xff534d42), "CIFS");
	assert_string_equal(cpulock_refuses((long)(int)0xfe534d42), "SMB2");
	assert_string_equal(cpulock_refuses(0x65735546), "FUSE");
	assert_null(cpulock_refuses(0x01021994)); /* tmpfs */
	assert_null(cpulock_refuses(0xef53));	  /* ext4 */

	setenv("ORRERY_LOCK_DIR", "relative", 1);
	assert_int_equal(cpulock_dir(true, &e, found), -EINVAL);
	snprintf(path, sizeof(path), "%s/file", dir);
	assert_int_equal(close(open(path, O_CREAT | O_WRONLY, 0600)), 0);
	setenv("ORRERY_LOCK_DIR", path, 1);
	assert_int_equal(cpulock_dir(true, &e, found), -ENOTDIR);
	snprintf(path, sizeof(path), "%s/new", dir);
	setenv("ORRERY_LOCK_DIR", path, 1);
	assert_int_equal(cpulock_dir(false, &e, found), -ENOENT);
	assert_int_equal(cpulock_dir(true, &e, found), 0);
	assert_string_equal(found, path);
	assert_int_equal(stat(path, &sb), 0);
	assert_int_equal(sb.st_mode & 07777, 01777);

	/* What somebody has put there instead of a file is neither followed nor waited for. */
	snprintf(path, sizeof(path), "%s/new/cpu-1.lock", dir);
	assert_int_equal(symlink("/dev/null", path), 0);
	assert_true(cpulock_open(found, CPULOCK_CPU, 1, &e) < 0);
	unlink(path);
	assert_int_equal(mkfifo(path, 0666), 0);
	assert_int_equal(cpulock_open(found, CPULOCK_CPU, 1, &e), -EINVAL);
	setenv("ORRERY_LOCK_DIR", dir, 1);
}

static void names(void **s)
{
	static const char *const bad[] = { "llc-.lock",	  "llc-1",
					   "llc-1.lockx", "xllc-1.lock",
					   "cpu--1.lock", "cpu- 1.lock",
					   "disk-1.lock", "" };
	enum cpulock_kind kind;
	unsigned n;

	assert_true(cpulock_name("llc-12.lock", &kind, &n));
	assert_true(kind == CPULOCK_LLC && n == 12);
	assert_true(cpulock_name("cpu-0.lock", &kind, &n));
	assert_true(kind == CPULOCK_CPU && n == 0);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		if (cpulock_name(bad[i], &kind, &n))
			fail_msg("\"%s\" is taken for one", bad[i]);
}

/* Lines of /proc/locks, most of which are none, or are of other files, or other locks. */
static void listed(void **s)
{
	char path[128], text[2048];
	struct flock_holder h[8];
	struct flocks *f;
	struct stat sb;
	int fd;
	FILE *to;

	snprintf(path, sizeof(path), "%s/proc", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/proc/locks", dir);
	fd = open(path, O_CREAT | O_RDWR, 0600);
	assert_true(fd >= 0 && fstat(fd, &sb) == 0);
	snprintf(text, sizeof(text),
		 "1: FLOCK  ADVISORY  WRITE 41 %1$02x:%2$02x:%3$lu 0 EOF\n"
		 "1: -> FLOCK  ADVISORY  READ 42 %1$02x:%2$02x:%3$lu 0 EOF\n"
		 "2: POSIX  ADVISORY  WRITE 43 %1$02x:%2$02x:%3$lu 0 EOF\n"
		 "3: FLOCK  ADVISORY  READ 44 %1$02x:%2$02x:%4$lu 0 EOF\n"
		 "4: FLOCK  ADVISORY  READ 45 7f:%2$02x:%3$lu 0 EOF\n"
		 "5: FLOCK  ADVISORY  WRITE -1 %1$02x:%2$02x:%3$lu 0 EOF\n"
		 "6: FLOCK\n\nbanana\n7:\n: FLOCK ADVISORY WRITE 1 1:1\n"
		 "8: FLOCK  ADVISORY  READ 46 %1$02x:%2$02x:%3$lu 0 EOF",
		 major(sb.st_dev), minor(sb.st_dev), (unsigned long)sb.st_ino,
		 (unsigned long)sb.st_ino + 1);
	to = fdopen(fd, "r+");
	assert_non_null(to);
	fputs(text, to);
	fflush(to);
	f = flocks_read(dir);
	assert_non_null(f);
	assert_int_equal(flocks_of(f, fd, h, 8), 3);
	assert_true(h[0].pid == 41 && h[0].exclusive && !h[0].waits);
	assert_true(h[1].pid == 42 && !h[1].exclusive && h[1].waits);
	assert_true(h[2].pid == 46 && !h[2].exclusive && !h[2].waits);
	assert_int_equal(flocks_of(f, fd, h, 2), 2);
	flocks_free(f);
	fclose(to);
	f = flocks_read("/nowhere");
	assert_non_null(f);
	assert_int_equal(flocks_of(f, 0, h, 8), 0);
	flocks_free(f);
	flocks_free(NULL);
}

static void commands(void **s)
{
	char text[80];

	assert_non_null(strstr(flocks_command(getpid(), text, sizeof(text)), "test_host_claim"));
	assert_string_equal(flocks_command(0x7fffffff, text, sizeof(text)), "?");
	assert_true(strlen(flocks_command(getpid(), text, 5)) <= 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(kinds, setup, teardown),
		cmocka_unit_test_setup_teardown(impossible, setup, teardown),
		cmocka_unit_test_setup_teardown(contention, setup, teardown),
		cmocka_unit_test_setup_teardown(own_lock, setup, teardown),
		cmocka_unit_test_setup_teardown(many, setup, teardown),
		cmocka_unit_test_setup_teardown(refused, setup, teardown),
		cmocka_unit_test_setup_teardown(listed, setup, teardown),
		cmocka_unit_test(names),
		cmocka_unit_test(commands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
