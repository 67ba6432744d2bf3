/* SPDX-License-Identifier: Apache-2.0 */
/*
 * diff_main.c - the program behind test_diff and fuzz_cpu: many sequences, several at a time
 *
 * How it works
 * Workers (processes) take numbers of sequences from a common counter, a batch at a time, and
 * write down which one they are at. So a sequence that kills its worker, or never ends, is known
 * as well as one whose runs differ; the parent starts another worker. At the end the parent tries
 * each finding alone, every attempt in a child of its own, and makes it smaller. A finding that
 * does not come up alone is tried again behind the sequences before it, since what the engine has
 * cached is part of its state.
 */
#include "diff.h"

#include "base/hosttime.h"
#include "cpu/soft/soft.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <Zydis/Zydis.h>

#define VECTORS 32
#define BATCH 64u
#define JOBS_MAX 64u
#define FINDINGS_MAX 64u
#define HANG_S 20.0   /* of CPU time: no sequence takes that long */
#define STILL_S 600.0 /* nor this long without any */
#define TRY_S 4u      /* nor one of them this long, on a busy machine */
#define EXIT_SKIP 77  /* meson's and automake's */

struct opts {
	u64 seed, count, first;
	unsigned max_insns, max_findings, jobs, seconds;
	bool verbose, native_twice;
	u16 only[16];
	unsigned n_only;
};

struct tally {
	u64 run, skipped, insns, executed, stops, flow, modes[3], tiers_only;
	u64 ends[VECTORS], clean;
	u32 seen[ZYDIS_MNEMONIC_MAX_VALUE + 1];
};

/* What the processes share. */
struct shared {
	_Atomic u64 next; /* sequence that nobody has taken */
	_Atomic u32 findings;
	u64 found[FINDINGS_MAX];
	_Atomic bool stop;
	struct slot {
		_Atomic u64 at;	  /* sequence being run */
		_Atomic u64 beat; /* sequences done */
		struct tally t;
	} slot[JOBS_MAX];
};

static struct shared *sh;
static struct diff_cfg cfg;

static void usage(FILE *out, const char *name)
{
	fprintf(out,
		"Usage: %s [--seed S] [--count N] [--index I] [--seconds S] [--jobs N]\n"
		"          [--insn MNEMONIC]... [--max-insns N] [--findings N] [--undefined]\n"
		"          [--native] [--verbose]\n"
		"Runs N random sequences on the host's CPU and in all tiers of Orrery and compares.\n"
		"  --index I      start with sequence I (to reproduce one: --index I --count 1)\n"
		"  --seconds S    take no new sequences after S seconds\n"
		"  --jobs N       processes; 0: none but this one, for a debugger\n"
		"  --findings N   stop after N findings (default 5)\n"
		"  --undefined    compare flags that the manual leaves undefined as well\n"
		"  --native       compare the host with itself\n"
		"  --verbose      say which instructions and exceptions came up\n",
		name);
}

static int add_mnemonic(struct opts *o, const char *s)
{
	char name[32];
	size_t n = strlen(s);

	if (n >= sizeof(name) || o->n_only + 1 >= ARRAY_LEN(o->only))
		return -EINVAL;
	for (size_t i = 0; i <= n; i++)
		name[i] = (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] + 32 : s[i]);
	for (unsigned m = 1; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++) {
		const char *t = ZydisMnemonicGetString((ZydisMnemonic)m);

		if (t && !strcmp(t, name)) {
			o->only[o->n_only++] = (u16)m;
			return 0;
		}
	}
	return -ENOENT;
}

enum {
	OPT_SEED = 1,
	OPT_COUNT,
	OPT_INDEX,
	OPT_INSN,
	OPT_MAX,
	OPT_FINDINGS,
	OPT_SECONDS,
	OPT_JOBS,
	OPT_UNDEF,
	OPT_NATIVE,
	OPT_VERBOSE,
	OPT_HELP
};

static const struct option options[] = { { "seed", 1, NULL, OPT_SEED },
					 { "count", 1, NULL, OPT_COUNT },
					 { "index", 1, NULL, OPT_INDEX },
					 { "insn", 1, NULL, OPT_INSN },
					 { "max-insns", 1, NULL, OPT_MAX },
					 { "findings", 1, NULL, OPT_FINDINGS },
					 { "seconds", 1, NULL, OPT_SECONDS },
					 { "jobs", 1, NULL, OPT_JOBS },
					 { "undefined", 0, NULL, OPT_UNDEF },
					 { "native", 0, NULL, OPT_NATIVE },
					 { "verbose", 0, NULL, OPT_VERBOSE },
					 { "help", 0, NULL, OPT_HELP },
					 { 0 } };

/* 0; 1: the user asked for help; -EINVAL. */
static int parse(int argc, char **argv, struct opts *o)
{
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		u64 n = optarg ? strtoull(optarg, NULL, 0) : 0;

		switch (c) {
		case OPT_SEED:
			o->seed = n;
			break;
		case OPT_COUNT:
			o->count = n;
			break;
		case OPT_INDEX:
			o->first = n;
			break;
		case OPT_INSN:
			if (add_mnemonic(o, optarg)) {
				fprintf(stderr, "%s: no such instruction: %s\n", argv[0], optarg);
				return -EINVAL;
			}
			break;
		case OPT_MAX:
			o->max_insns = (unsigned)n;
			break;
		case OPT_FINDINGS:
			o->max_findings = (unsigned)MIN(n, (u64)FINDINGS_MAX);
			break;
		case OPT_SECONDS:
			o->seconds = (unsigned)n;
			break;
		case OPT_JOBS:
			o->jobs = (unsigned)MIN(n, (u64)JOBS_MAX);
			break;
		case OPT_UNDEF:
			diff_all_flags(true);
			break;
		case OPT_NATIVE:
			o->native_twice = true;
			diff_native_twice(true);
			break;
		case OPT_VERBOSE:
			o->verbose = true;
			break;
		case OPT_HELP:
			usage(stdout, argv[0]);
			return 1;
		default:
			usage(stderr, argv[0]);
			return -EINVAL;
		}
	}
	if (o->max_insns < 1 || o->max_insns > DIFF_INSNS_MAX - 2 || optind != argc) {
		usage(stderr, argv[0]);
		return -EINVAL;
	}
	return 0;
}

static double seconds(void)
{
	return (double)host_ns() / 1e9;
}

/* --- one sequence ----------------------------------------------------------------------------- */

static void count_one(struct tally *t, const struct diff_seq *q, const struct diff_trace *r)
{
	const struct diff_result *n = &r->r[r->n - 1];
	bool back = false;

	t->run++;
	t->insns += q->n;
	t->stops += r->n;
	t->modes[q->mode]++;
	t->tiers_only += q->tiers_only;
	for (unsigned i = 0; i < q->n; i++) {
		t->seen[q->insn[i].mnemonic]++;
		back |= q->insn[i].back;
	}
	t->flow += back;
	if (n->end != DIFF_EXC || r->strayed)
		t->skipped++;
	else if (n->s.rip == q->va[q->n] && n->vector == X86_GP)
		t->clean++;
	else
		t->ends[n->vector % VECTORS]++;
}

/* Number @index; false if its runs differ. */
static bool run_one(const struct opts *o, u64 index, struct tally *t, FILE *out)
{
	static struct diff_seq q;
	struct diff_effort e;
	bool ok;

	diff_gen(&q, &cfg, o->seed, index);
	e = diff_effort_of(&q);
	ok = diff_check(&q, &e, out);
	if (t)
		count_one(t, &q, diff_last());
	return ok;
}

static void add_finding(u64 index)
{
	u32 n = atomic_fetch_add(&sh->findings, 1);

	if (n < FINDINGS_MAX)
		sh->found[n] = index;
}

static void work(const struct opts *o, unsigned slot)
{
	struct slot *s = &sh->slot[slot];
	u64 i, end;

	while (!atomic_load(&sh->stop)) {
		i = atomic_fetch_add(&sh->next, BATCH);
		end = MIN(i + BATCH, o->first + o->count);
		if (i >= end)
			return;
		for (; i < end && atomic_load(&sh->findings) < o->max_findings; i++) {
			atomic_store(&s->at, i);
			if (!run_one(o, i, &s->t, NULL))
				add_finding(i);
			atomic_fetch_add(&s->beat, 1);
		}
	}
}

/* --- findings --------------------------------------------------------------------------------- */

/* Runs @fn(@o, @arg) in a child. True if it said false, died, or took longer than @sec. */
static bool fails_in_child(bool (*fn)(void *o, const void *arg), void *o, const void *arg,
			   unsigned sec)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		native_arm();
		alarm(sec);
		bool ok = fn(o, arg);
		fflush(stdout);
		_exit(ok ? 0 : 1);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static bool check_quietly(void *o, const void *q)
{
	return diff_check(q, o, NULL);
}

static bool check_loudly(void *o, const void *q)
{
	return diff_check(q, o, stdout);
}

static double patience; /* when minimising is to have come to its end */

static bool fails(void *effort, const struct diff_seq *q)
{
	/* What hangs takes TRY_S for each attempt that is good for something. */
	if (seconds() > patience)
		return false;
	return fails_in_child(check_quietly, effort, q, TRY_S);
}

struct window {
	u64 from, to;
};

static bool check_window(void *o, const void *arg)
{
	const struct window *w = arg;
	bool ok = true;

	for (u64 i = w->from; i <= w->to; i++)
		ok = run_one(o, i, NULL, i == w->to ? stdout : NULL);
	return ok;
}

static void show(struct diff_seq *q, struct diff_effort *e)
{
	diff_print(q, stdout);
	if (!fails_in_child(check_loudly, e, q, TRY_S))
		printf("  (does not differ)\n");
}

static void report(const struct opts *o, u64 index)
{
	static struct diff_seq q;
	struct diff_effort e;

	printf("FINDING: --seed %" PRIu64 " --index %" PRIu64 " --count 1; as generated:\n",
	       o->seed, index);
	diff_gen(&q, &cfg, o->seed, index);
	e = diff_effort_of(&q);
	patience = seconds() + 60;
	if (fails(&e, &q)) {
		show(&q, &e);
		/* As little effort as it takes: others may still be needed, so one at a time. */
		struct diff_effort less = e;
		less.hot = 0;
		e = fails(&less, &q) ? less : e;
		less = e;
		less.budgets = 0;
		e = fails(&less, &q) ? less : e;
		diff_minimise(&q, fails, &e);
		printf("minimised:\n");
		show(&q, &e);
		fflush(stdout);
		return;
	}
	diff_print(&q, stdout);
	for (u64 back = 16; back <= 4096; back *= 16) {
		struct window w = { index > o->first + back ? index - back : o->first, index };

		if (!fails_in_child(check_window, (void *)o, &w, 60))
			continue;
		printf("  only behind others: --seed %" PRIu64 " --index %" PRIu64
		       " --count %" PRIu64 " --jobs 1\n",
		       o->seed, w.from, w.to - w.from + 1);
		fflush(stdout);
		return;
	}
	printf("  (does not come up again: depends on what ran before, or on chance)\n");
	fflush(stdout);
}

static void summary(const struct opts *o, double sec)
{
	static struct tally all;
	unsigned kinds = 0;

	for (unsigned j = 0; j < JOBS_MAX; j++) {
		const u64 *from = (const u64 *)&sh->slot[j].t;
		u64 *to = (u64 *)&all;

		for (size_t i = 0; i < offsetof(struct tally, seen) / 8; i++)
			to[i] += from[i];
		for (unsigned m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
			all.seen[m] += sh->slot[j].t.seen[m];
	}
	for (unsigned m = 1; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
		kinds += all.seen[m] != 0;
	printf("%" PRIu64 " sequences (%" PRIu64 " instructions, %u mnemonics; %" PRIu64
	       " with loops, %" PRIu64 " of 32-bit code, %" PRIu64 " of 16-bit code, %" PRIu64
	       " of the tiers alone), %" PRIu64 " exceptions, %" PRIu64 " ran to the end, %" PRIu64
	       " skipped, %u findings; %.1f s, %.0f sequences/s\n",
	       all.run, all.insns, kinds, all.flow, all.modes[DIFF_32], all.modes[DIFF_16],
	       all.tiers_only, all.stops, all.clean, all.skipped, (unsigned)sh->findings, sec,
	       sec > 0 ? (double)all.run / sec : 0);
	if (!o->verbose)
		return;
	for (unsigned v = 0; v < VECTORS; v++) {
		if (all.ends[v])
			printf("  ended by exception %2u: %" PRIu64 "\n", v, all.ends[v]);
	}
	for (unsigned m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++) {
		if (all.seen[m])
			printf("  %-12s %u\n",
			       m ? ZydisMnemonicGetString((ZydisMnemonic)m) : "(invalid)",
			       all.seen[m]);
	}
}

/* --- workers ---------------------------------------------------------------------------------- */

/* What makes a run: engines, the host's segments. 0, EXIT_SKIP, or another exit status. */
static int open_all(const struct opts *o)
{
	int ret = o->native_twice ? 0 : guest_open();

	if (ret) {
		fprintf(stderr, "cannot set up the soft engine: %s\n", strerror(-ret));
		return 1;
	}
	ret = native_open();
	if (ret == -ENOSYS) {
		printf("SKIP: this host's kernel does not enable the FSGSBASE instructions for user "
		       "programs; Linux 5.9 or newer on a CPU with FSGSBASE would un-skip it\n");
		return EXIT_SKIP;
	}
	if (ret) {
		fprintf(stderr, "cannot set up the native runner: %s\n", strerror(-ret));
		return 1;
	}
	if (!native_has_16()) {
		printf("skip: no 16-bit code: this host's kernel has no modify_ldt; one with "
		       "CONFIG_MODIFY_LDT_SYSCALL would un-skip it\n");
		cfg.modes &= (u8) ~(1u << DIFF_16);
	}
	return 0;
}

static pid_t start_worker(const struct opts *o, unsigned slot)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Engines of its own: guest memory and the code buffer are shared across fork. */
	native_close();
	guest_close();
	if (open_all(o))
		_exit(2);
	work(o, slot);
	fflush(stdout);
	_exit(0);
}

struct watch {
	pid_t pid;
	u64 beat;
	double since;
	double cpu; /* of the process at that time */
};

/* CPU time of @pid in seconds: on a busy machine a worker may not get any for long. */
static double cpu_seconds(pid_t pid)
{
	struct timespec t;
	clockid_t clk;

	if (clock_getcpuclockid(pid, &clk) || clock_gettime(clk, &t) < 0)
		return 0;
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* One worker: whether it ended, died, or hangs. True while it is to be watched on. */
static bool look_after(const struct opts *o, unsigned slot, struct watch *w, double now)
{
	u64 beat = atomic_load(&sh->slot[slot].beat);
	int status;

	if (beat != w->beat) {
		w->beat = beat;
		w->since = now;
		w->cpu = cpu_seconds(w->pid);
	} else if (cpu_seconds(w->pid) - w->cpu > HANG_S || now - w->since > STILL_S) {
		kill(w->pid, SIGKILL);
		w->since = now;
	}
	if (waitpid(w->pid, &status, WNOHANG) != w->pid)
		return true;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return false;
	if (WIFEXITED(status)) { /* it could not begin */
		atomic_store(&sh->stop, true);
		add_finding(atomic_load(&sh->slot[slot].at));
		return false;
	}
	printf("a worker died (signal %d) or hung at sequence %" PRIu64 "\n", WTERMSIG(status),
	       (u64)atomic_load(&sh->slot[slot].at));
	add_finding(atomic_load(&sh->slot[slot].at));
	if (atomic_load(&sh->stop) || atomic_load(&sh->findings) >= o->max_findings)
		return false;
	*w = (struct watch){ .pid = start_worker(o, slot), .since = now, .beat = beat };
	return true;
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
	interrupted = 1;
}

static void run_workers(const struct opts *o)
{
	static struct watch w[JOBS_MAX];
	const struct timespec tick = { .tv_nsec = 50000000 };
	struct sigaction sa = { .sa_handler = on_interrupt }, old;
	double from = seconds(), said = from;
	unsigned left = o->jobs;

	for (unsigned j = 0; j < o->jobs; j++)
		w[j] = (struct watch){ .pid = start_worker(o, j), .since = from };
	sigaction(SIGINT, &sa, &old);
	while (left) {
		double now;

		nanosleep(&tick, NULL);
		now = seconds();
		if (interrupted || (o->seconds && now - from > o->seconds) ||
		    atomic_load(&sh->findings) >= o->max_findings)
			atomic_store(&sh->stop, true);
		for (unsigned j = 0; j < o->jobs; j++) {
			if (w[j].pid && !look_after(o, j, &w[j], now)) {
				w[j].pid = 0;
				left--;
			}
		}
		if (now - said > 60) {
			u64 done = MIN(atomic_load(&sh->next) - o->first, o->count);

			said = now;
			printf("%" PRIu64 " sequences, %.0f/s\n", done,
			       (double)done / (now - from));
			fflush(stdout);
		}
	}
	sigaction(SIGINT, &old, NULL);
}

static int run_all(const struct opts *o)
{
	double from = seconds();
	u64 next;

	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED)
		return 1;
	atomic_store(&sh->next, o->first);
	if (o->jobs)
		run_workers(o);
	else
		work(o, 0);
	from = seconds() - from;
	for (u32 i = 0; i < MIN(atomic_load(&sh->findings), MIN(o->max_findings, FINDINGS_MAX));
	     i++)
		report(o, sh->found[i]);
	summary(o, from);
	next = MIN(atomic_load(&sh->next), o->first + o->count);
	if (next < o->first + o->count)
		printf("stopped early; go on with --seed %" PRIu64 " --index %" PRIu64 "\n",
		       o->seed, next);
	return atomic_load(&sh->findings) ? 1 : 0;
}

/* AddressSanitizer maps its shadow where random code on the host's CPU reads and writes. */
#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifndef WITH_ASAN
#define WITH_ASAN 0
#endif

int diff_main(int argc, char **argv, u64 default_count)
{
	struct opts o = {
		.seed = 1, .count = default_count, .max_insns = 12, .max_findings = 5, .jobs = 1
	};
	int ret = parse(argc, argv, &o);

	if (ret)
		return ret < 0 ? 2 : 0;
	if (WITH_ASAN) {
		printf("SKIP: random code on the host's CPU hits AddressSanitizer's mappings; a build "
		       "without SANITIZE=address would un-skip it\n");
		return EXIT_SKIP;
	}
	if (diff_v3() && soft_host_lacks(XCR0_AVX)) {
		printf("SKIP: this host has no %s; a host with all of x86-64-v3 would un-skip it\n",
		       soft_host_lacks(XCR0_AVX));
		return EXIT_SKIP;
	}
	cfg = (struct diff_cfg){ .only = o.n_only ? o.only : NULL,
				 .max_insns = o.max_insns,
				 .modes = 1 << DIFF_64 | 1 << DIFF_32 | 1 << DIFF_16 };
	ret = open_all(&o);
	if (ret)
		return ret;
	ret = run_all(&o);
	guest_close();
	native_close();
	return ret;
}
