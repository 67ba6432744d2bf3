/* SPDX-License-Identifier: Apache-2.0 */
/*
 * diff.c - compares the two runs of a sequence, shrinks a finding, and the test program itself
 *
 * What is not compared, and why:
 *  - RF: the hardware sets it in the image that a fault pushes; the engine's state is the one
 *    before the push;
 *  - flags that the manual leaves undefined (rules.c);
 *  - FIP, FDP, FOP: always zero in Orrery (docs/quirks.md);
 *  - the P bit of a page fault's error code above Linux's user addresses: shown as always set;
 *  - TOP, the tags and the order of the ST registers where an MMX store has faulted: Intel's CPUs
 *    enter MMX state before they touch memory, which a restart cannot tell;
 *  - how far behind an undefined opcode or 15 bytes of prefixes a processor reads (#PF of the
 *    fetch, or #UD or #GP; the host itself is not constant in this);
 *  - sequences that end between an FNSAVE or FXSAVE and the instructions that clear what it has
 *    stored of FIP, FDP and FOP (special.c), by a single-step trap or the end of the code;
 *  - sequences that loop or that reach a system call (counted, a handful in a million).
 */
#include "diff.h"

#include "cpu/soft/soft.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <Zydis/Zydis.h>

#define TASK_END ((1ull << 47) - 4096) /* Linux: the last user page is never mapped */
#define CODE_END (DIFF_CODE + DIFF_CODE_PAGES * 4096)
#define VECTORS 32

bool diff_v3(void)
{
	static int v3 = -1;

	if (v3 < 0) {
		const char *model = getenv("DIFF_MODEL");

		v3 = model && !strcmp(model, "v3");
	}
	return v3;
}

static bool native_twice; /* --native: the host against itself, to test the test */
static bool all_flags;	  /* --undefined: compare undefined flags too */

void diff_native_twice(bool on)
{
	native_twice = on;
}

struct cmp {
	char *text; /* a line a difference; of LOG bytes */
	size_t len;
	unsigned diffs;
};

#define LOG 4096

static void differ(struct cmp *c, const char *what, u64 native, u64 guest)
{
	c->diffs++;
	if (c->len < LOG - 128)
		c->len += (size_t)snprintf(c->text + c->len, LOG - c->len,
					   "  differs: %-10s native %016" PRIx64
					   "  orrery %016" PRIx64 "\n",
					   what, native, guest);
}

static void same(struct cmp *c, const char *what, u64 native, u64 guest)
{
	if (native != guest)
		differ(c, what, native, guest);
}

/* The instruction that ended the sequence by a fault, or NULL. */
static const struct diff_insn *faulted(const struct diff_seq *q, u64 rip)
{
	for (unsigned i = 0; i < q->n; i++) {
		if (rip >= q->va[i] && rip < q->va[i + 1])
			return &q->insn[i];
	}
	return NULL;
}

/* Flags that may be undefined where the sequence ended. */
static u32 undefined_at(const struct diff_seq *q, u64 rip)
{
	u32 all = 0;

	for (unsigned i = 0; i <= q->n; i++) {
		if (rip == q->va[i])
			return q->undef_in[i];
		if (i < q->n)
			all |= q->insn[i].undefined;
	}
	return all;
}

static void compare_gprs(struct cmp *c, const struct diff_seq *q, const struct diff_result *n,
			 const struct diff_result *g)
{
	static const char *const names[] = {
		"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"
	};
	u32 mask = ~X86_RF;

	for (unsigned i = 0; i < 16; i++)
		same(c, names[i], n->s.r[i], g->s.r[i]);
	/* INT3 is a trap: the hardware's RIP is behind it, the engine's hook sees its start. */
	if (n->vector != X86_BP || n->s.rip - g->s.rip > 15)
		same(c, "rip", n->s.rip, g->s.rip);
	if (!all_flags)
		mask &= ~undefined_at(q, n->s.rip);
	same(c, "rflags", n->s.rflags & mask, g->s.rflags & mask);
	same(c, "fsbase", n->s.fsbase, g->s.fsbase);
	same(c, "gsbase", n->s.gsbase, g->s.gsbase);
}

static void compare_fx(struct cmp *c, const struct diff_seq *q, const struct diff_result *n,
		       const struct diff_result *g)
{
	const struct diff_insn *last = faulted(q, n->s.rip);
	bool stack = !(last && last->mmx);
	u16 fsw_mask = stack ? 0xffff : (u16)~0x3800;
	const struct diff_fx *a = &n->s.fx;
	const struct diff_fx *b = &g->s.fx;
	char name[16];
	u64 x[2], y[2];

	same(c, "fcw", a->fcw, b->fcw);
	same(c, "fsw", a->fsw & fsw_mask, b->fsw & fsw_mask);
	if (stack)
		same(c, "ftw", a->ftw, b->ftw);
	same(c, "mxcsr", a->mxcsr, b->mxcsr);
	for (unsigned i = stack ? 0 : 8; i < 24; i++) {
		const u8 *p = i < 8 ? a->st[i] : a->xmm[i - 8];
		const u8 *r = i < 8 ? b->st[i] : b->xmm[i - 8];

		memset(x, 0, 16);
		memset(y, 0, 16);
		memcpy(x, p, i < 8 ? 10 : 16);
		memcpy(y, r, i < 8 ? 10 : 16);
		if (x[0] == y[0] && x[1] == y[1])
			continue;
		snprintf(name, sizeof(name), i < 8 ? "st%u" : "xmm%u", i < 8 ? i : i - 8);
		if (x[0] != y[0])
			differ(c, name, x[0], y[0]);
		if (x[1] != y[1])
			differ(c, name, x[1], y[1]);
	}
}

static void compare_mem(struct cmp *c, const u8 *n, const u8 *g)
{
	unsigned shown = 0;

	if (!memcmp(n, g, DIFF_MEM))
		return;
	for (unsigned r = 0, off = 0; r < DIFF_REGIONS; r++) {
		for (unsigned i = 0; i < diff_regions[r].pages * 4096; i += 8, off += 8) {
			u64 a, b;
			char name[24];

			memcpy(&a, n + off, 8);
			memcpy(&b, g + off, 8);
			if (a == b || shown++ > 7)
				continue;
			snprintf(name, sizeof(name), "[%08" PRIx64 "]", diff_regions[r].va + i);
			differ(c, name, a, b);
		}
	}
}

static void compare_outcome(struct cmp *c, const struct diff_seq *q, const struct diff_result *n,
			    const struct diff_result *g)
{
	u32 mask = n->vector == X86_PF_EXC && n->cr2 >= TASK_END ? ~PFEC_P : ~0u;

	same(c, "outcome", n->end, g->end);
	if (n->vector == X86_PF_EXC && n->cr2 == CODE_END && n->s.rip + 15 >= CODE_END &&
	    (g->vector == X86_UD || g->vector == X86_GP))
		return;
	same(c, "vector", n->vector, g->vector);
	if (n->vector != g->vector)
		return;
	same(c, "error", n->err & mask, g->err & mask);
	same(c, "cr2", n->cr2, g->cr2);
}

static bool ends_in_fsave(const struct diff_seq *q, const struct diff_result *n)
{
	const struct diff_insn *d = faulted(q, n->s.rip);

	/* At its own address it is the save that has faulted. */
	switch (d && n->s.rip > q->va[d - q->insn] ? d->mnemonic : 0) {
	case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
		return true;
	default:
		return false;
	}
}

static u8 mem_a[DIFF_MEM], mem_b[DIFF_MEM];
static char last_log[LOG]; /* of the last comparison */

static void compare_ymm(struct cmp *c, const struct diff_result *n, const struct diff_result *g)
{
	char name[16];
	u64 x[2], y[2];

	for (unsigned i = 0; i < 16; i++) {
		memcpy(x, n->ymmh[i], 16);
		memcpy(y, g->ymmh[i], 16);
		snprintf(name, sizeof(name), "ymm%u", i);
		same(c, name, x[0], y[0]);
		same(c, name, x[1], y[1]);
	}
}

bool diff_check_result(const struct diff_seq *q, FILE *out, struct diff_result *n)
{
	static struct diff_result g;
	struct cmp c = { .text = last_log };

	last_log[0] = 0;
	native_run(q, n);
	if (n->end != DIFF_EXC || ends_in_fsave(q, n))
		return true;
	memcpy(mem_a, native_mem(), DIFF_MEM);
	if (native_twice) {
		native_run(q, &g);
		memcpy(mem_b, native_mem(), DIFF_MEM);
	} else {
		guest_run(q, &g);
		guest_fetch_mem(mem_b);
	}
	compare_outcome(&c, q, n, &g);
	compare_gprs(&c, q, n, &g);
	compare_fx(&c, q, n, &g);
	compare_ymm(&c, n, &g);
	compare_mem(&c, mem_a, mem_b);
	if (out)
		fputs(last_log, out);
	return c.diffs == 0;
}

bool diff_check(const struct diff_seq *q, FILE *out)
{
	static struct diff_result n;

	return diff_check_result(q, out, &n);
}

/* --- minimising ------------------------------------------------------------------------------- */

static void without(struct diff_seq *q, unsigned k)
{
	memmove(&q->insn[k], &q->insn[k + 1], (q->n - k - 1) * sizeof(q->insn[0]));
	q->n--;
	for (unsigned i = 0; i < q->n; i++) {
		if (q->insn[i].target > (s8)k)
			q->insn[i].target--;
		if (q->insn[i].target >= 0 && q->insn[i].target <= (s8)i)
			q->insn[i].target = (s8)(i + 1);
	}
	diff_layout(q);
}

void diff_minimise(struct diff_seq *q)
{
	static struct diff_seq try;
	bool again = true;

	while (again) {
		again = false;
		for (unsigned k = q->n; k-- > 0 && q->n > 1;) {
			memcpy(&try, q, sizeof(try));
			without(&try, k);
			if (diff_check(&try, NULL))
				continue;
			memcpy(q, &try, sizeof(*q));
			again = true;
		}
	}
}

/* --- the program ------------------------------------------------------------------------------ */

struct opts {
	u64 seed, count, first;
	unsigned max_insns, max_findings;
	bool verbose;
	u16 only[16];
	unsigned n_only;
};

struct tally {
	u64 run, skipped, findings, insns, reached;
	u64 ends[VECTORS], clean;
	u32 seen[ZYDIS_MNEMONIC_MAX_VALUE + 1];
};

static void usage(FILE *out, const char *name)
{
	fprintf(out,
		"Usage: %s [--seed S] [--count N] [--index I] [--insn MNEMONIC]... [--max-insns N]\n"
		"          [--findings N] [--undefined] [--native] [--verbose]\n"
		"Runs N random sequences on the host's CPU and in Orrery and compares.\n"
		"  --index I      start with sequence I (to reproduce one: --index I --count 1)\n"
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
		switch (c) {
		case OPT_SEED:
			o->seed = strtoull(optarg, NULL, 0);
			break;
		case OPT_COUNT:
			o->count = strtoull(optarg, NULL, 0);
			break;
		case OPT_INDEX:
			o->first = strtoull(optarg, NULL, 0);
			break;
		case OPT_INSN:
			if (add_mnemonic(o, optarg)) {
				fprintf(stderr, "%s: no such instruction: %s\n", argv[0], optarg);
				return -EINVAL;
			}
			break;
		case OPT_MAX:
			o->max_insns = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case OPT_FINDINGS:
			o->max_findings = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case OPT_UNDEF:
			all_flags = true;
			break;
		case OPT_NATIVE:
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

static void report(struct diff_seq *q)
{
	u64 seed = q->seed, index = q->index;

	printf("FINDING: --seed %" PRIu64 " --index %" PRIu64 " --count 1; as generated:\n", seed,
	       index);
	diff_print(q, stdout);
	fputs(last_log, stdout);
	diff_minimise(q);
	printf("minimised:\n");
	diff_print(q, stdout);
	if (diff_check(q, stdout))
		printf("  (no longer differs: depends on what ran before)\n");
	fflush(stdout);
}

static void count_one(struct tally *t, const struct diff_seq *q, const struct diff_result *n)
{
	t->run++;
	t->insns += q->n;
	for (unsigned i = 0; i < q->n; i++)
		t->reached += n->s.rip > q->va[i];
	for (unsigned i = 0; i < q->n; i++)
		t->seen[q->insn[i].mnemonic]++;
	if (n->end != DIFF_EXC)
		t->skipped++;
	else if (n->s.rip == q->va[q->n] && n->vector == X86_GP)
		t->clean++;
	else
		t->ends[n->vector % VECTORS]++;
}

static void summary(const struct tally *t, double sec, bool verbose)
{
	unsigned kinds = 0;

	for (unsigned m = 1; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
		kinds += t->seen[m] != 0;
	printf("%" PRIu64 " sequences (%" PRIu64 " instructions, %u mnemonics; %" PRIu64
	       " executed), %" PRIu64 " ran to the end, %" PRIu64 " skipped, %" PRIu64
	       " findings; %.1f s, %.0f sequences/s\n",
	       t->run, t->insns, kinds, t->reached, t->clean, t->skipped, t->findings, sec,
	       sec > 0 ? (double)t->run / sec : 0);
	if (!verbose)
		return;
	for (unsigned v = 0; v < VECTORS; v++) {
		if (t->ends[v])
			printf("  exception %2u: %" PRIu64 "\n", v, t->ends[v]);
	}
	for (unsigned m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++) {
		if (t->seen[m])
			printf("  %-12s %u\n",
			       m ? ZydisMnemonicGetString((ZydisMnemonic)m) : "(invalid)",
			       t->seen[m]);
	}
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int run_all(const struct opts *o)
{
	static struct diff_seq q;
	static struct diff_result n;
	static struct tally t;
	struct diff_cfg cfg = { .only = o->n_only ? o->only : NULL, .max_insns = o->max_insns };
	double from = seconds();

	for (u64 i = 0; i < o->count && t.findings < o->max_findings; i++) {
		bool ok;

		diff_gen(&q, &cfg, o->seed, o->first + i);
		ok = diff_check_result(&q, NULL, &n);
		count_one(&t, &q, &n);
		if (!ok) {
			t.findings++;
			report(&q);
		}
	}
	summary(&t, seconds() - from, o->verbose);
	return t.findings ? 1 : 0;
}

#define EXIT_SKIP 77 /* meson's and automake's */

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
	struct opts o = { .seed = 1, .count = default_count, .max_insns = 12, .max_findings = 5 };
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
	if (!native_twice && (ret = guest_open())) {
		fprintf(stderr, "%s: cannot set up the soft engine: %s\n", argv[0], strerror(-ret));
		return 1;
	}
	ret = native_open();
	if (ret == -ENOSYS) {
		printf("SKIP: this host's kernel does not enable the FSGSBASE instructions for user "
		       "programs; Linux 5.9 or newer on a CPU with FSGSBASE would un-skip it\n");
		return EXIT_SKIP;
	}
	if (ret) {
		fprintf(stderr, "%s: cannot set up the native runner: %s\n", argv[0],
			strerror(-ret));
		return 1;
	}
	ret = run_all(&o);
	if (!native_twice)
		guest_close();
	native_close();
	return ret;
}
