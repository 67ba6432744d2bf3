/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_cache.c - caches of code that are too small, and that a child process inherits
 *
 * How it works
 * The guest is made here: some thousand functions, called in a mixed order for a few rounds. Each has
 * loops, flags that are needed far away, memory and vector operands, a jump to the next one in its
 * page, and now and then a store into the code of another. Together they make several times more host
 * code than the smallest cache holds, so segments are emptied all the time, beside what the stores
 * drop. An engine that only interprets says what is right: after steps of odd sizes and at the end, the
 * engines' digests (registers, guest time, instructions) and the guest's memory must be the same.
 *
 * For the fork a machine stops in the middle, the child and a child of its own change the order of the
 * calls, so that each translates other code next, and all go on. Memory for generated code (codebuf.h) is also tested alone.
 */
#include "cpu/soft/soft.h"
#include "cpu/soft/x86/codebuf.h"
#include "isa/x86/sys.h"

#include "probe.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PR_SET_MDWE /* Linux 6.3 */
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

#define RAM_SIZE 0x400000u
#define GPA_PML4 0x1000u
#define GPA_PDPT 0x2000u
#define GPA_PD 0x3000u
#define START 0x10000u
#define STACK 0x20000u
#define TABLE 0x30000u
#define DATA 0x40000u /* 64 KiB */
#define CODE 0x100000u
#define FUNCTION 256u /* bytes for each */
#define FUNCTIONS 3072u
#define CHAIN 4u /* that many jump from one to the next, then return */
#define ROUNDS 4u
#define NEVER (1ull << 30) /* instructions: more than there are */

static u8 image[RAM_SIZE];

struct machine {
	struct mem *mem;
	struct bus *bus;
	struct soft *soft;
};

/* --- the guest --------------------------------------------------------------------------- */

static u32 seed;

static u32 rnd(u32 n)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % n;
}

static u8 *put(u8 *p, const void *bytes, size_t n)
{
	memcpy(p, bytes, n);
	return p + n;
}

static u8 *put32(u8 *p, u32 x)
{
	return put(p, &x, 4);
}

#define PUT(p, ...) put(p, (const u8[]){ __VA_ARGS__ }, sizeof((const u8[]){ __VA_ARGS__ }))

/* Where the immediate of its IMUL is, which others change. */
static u32 imm_of(u32 i)
{
	return CODE + i * FUNCTION + 5 + 2;
}

static void make_function(u32 i)
{
	u8 *base = image + CODE + i * FUNCTION, *p = base, *loop;

	p = PUT(p, 0xb9); /* mov ecx, rounds: some get hot in one go */
	p = put32(p, i % 4 ? 60 : 1 + rnd(3));
	loop = p;
	p = PUT(p, 0x69, 0xc0); /* imul eax, eax, ... */
	p = put32(p, rnd(1u << 24) | 1);
	p = PUT(p, 0x31, 0xc2, 0x01, 0x93); /* xor edx, eax; add [rbx + ...], edx */
	p = put32(p, rnd(0x10000 - 8));
	p = PUT(p, 0x13, 0xb3); /* adc esi, [rbx + ...] */
	p = put32(p, rnd(0x10000 - 8));
	p = PUT(p, 0x48, 0xc1, 0xc2, 0x07);		 /* rol rdx, 7 */
	p = PUT(p, 0x66, 0x0f, 0xfe, 0xc1);		 /* paddd xmm0, xmm1 */
	p = PUT(p, 0x66, 0x0f, 0x6e, 0xc8);		 /* movd xmm1, eax */
	p = PUT(p, 0xa8, (u8)rnd(8), 0x74, 5);		 /* test al, ...; jz over */
	p = PUT(p, 0x48, 0x8d, 0x7c, 0x77, (u8)rnd(99)); /* lea rdi, [rdi + rsi*2 + ...] */
	p = PUT(p, 0xff, 0xc9, 0x75);			 /* dec ecx; jnz loop */
	p = PUT(p, (u8)(loop - p - 1));
	if (rnd(24) == 0) {
		p = PUT(p, 0x88, 0x04, 0x25); /* mov [...], al */
		p = put32(p, imm_of(rnd(FUNCTIONS)));
	}
	if (i % CHAIN == CHAIN - 1) {
		p = PUT(p, 0xc3);
	} else {
		p = PUT(p, 0xe9);
		p = put32(p, (u32)(base + FUNCTION - p - 4));
	}
	assert_true(p <= base + FUNCTION);
}

/* Where the call number @i goes. @order has no factor in common with their number. */
static u64 entry(u32 i, u32 order)
{
	return CODE + (i * order + 3) % (FUNCTIONS / CHAIN) * CHAIN * FUNCTION;
}

static void image_put(u32 gpa, u64 x)
{
	memcpy(image + gpa, &x, 8);
}

static int make_image(void **state)
{
	const u32 n = FUNCTIONS / CHAIN;
	u8 *p = image + START, *round, *next;

	seed = 1;
	image_put(GPA_PML4, GPA_PDPT | 3);
	image_put(GPA_PDPT, GPA_PD | 3);
	image_put(GPA_PD, 0x83);
	image_put(GPA_PD + 8, 0x200083);
	for (u32 i = 0; i < FUNCTIONS; i++)
		make_function(i);
	for (u32 i = 0; i < n; i++)
		image_put(TABLE + i * 8, entry(i, 5));
	p = PUT(p, 0x41, 0xbc); /* mov r12d, rounds */
	p = put32(p, ROUNDS);
	round = p;
	p = PUT(p, 0x45, 0x31, 0xed); /* xor r13d, r13d */
	next = p;
	p = PUT(p, 0x4f, 0x8b, 0x3c, 0xee); /* mov r15, [r14 + r13*8] */
	p = PUT(p, 0x41, 0xff, 0xd7);	    /* call r15 */
	p = PUT(p, 0x41, 0xff, 0xc5);	    /* inc r13d */
	p = PUT(p, 0x41, 0x81, 0xfd);	    /* cmp r13d, n */
	p = put32(p, n);
	p = PUT(p, 0x75);
	p = PUT(p, (u8)(next - p - 1));
	p = PUT(p, 0x41, 0xff, 0xcc); /* dec r12d */
	p = PUT(p, 0x75);
	p = PUT(p, (u8)(round - p - 1));
	p = PUT(p, 0xf4); /* hlt */
	return 0;
}

/* --- machines ---------------------------------------------------------------------------- */

static void load(struct machine *m)
{
	struct x86_cpu *c = soft_cpu(m->soft, 0);
	const struct x86_seg data = { .limit = ~0u, .attr = 0xc093 };

	c->r[X86_RBX] = DATA;
	c->r[X86_RSP] = STACK;
	c->r[X86_R14] = TABLE;
	c->r[X86_RAX] = 12345;
	c->rip = START;
	x86_put_rflags(c, 2);
	c->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	c->cr3 = GPA_PML4;
	c->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	c->efer = EFER_LME | EFER_LMA | EFER_NX;
	for (int i = 0; i < X86_SEGS; i++)
		c->seg[i] = data;
	c->seg[X86_CS] = (struct x86_seg){ .limit = ~0u, .sel = 8, .attr = 0xa09b };
	c->x.fcw = 0x37f;
	c->x.mxcsr = 0x1f80;
	x86_derive(c);
	soft_cpu_changed(m->soft, 0);
}

static void open_machine(struct machine *m, enum soft_tier tier, u64 code_cache, u64 block_cache)
{
	const struct mem_region ram = { .base = 0, .size = RAM_SIZE };
	struct soft_cfg cfg = {
		.ncpus = 1,
		.clock = SOFT_CLOCK_VIRTUAL,
		.mips = 1000,
		.tier = tier,
		.code_cache = code_cache,
		.block_cache = block_cache,
		.cr4_allowed = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT,
		.xcr0_allowed = 3,
		.phys_mask = (1ull << 46) - 1,
		.tsc_khz = 1000000,
	};

	assert_int_equal(mem_new(&ram, 1, NULL, &m->mem), 0);
	assert_int_equal(mem_write(m->mem, 0, image, RAM_SIZE), 0);
	assert_int_equal(bus_new(&m->bus), 0);
	cfg.mem = m->mem;
	cfg.bus = m->bus;
	assert_int_equal(soft_new(&cfg, NULL, &m->soft), 0);
	load(m);
}

static void close_machine(struct machine *m)
{
	soft_free(m->soft);
	bus_free(m->bus);
	mem_free(m->mem);
}

/* False when the guest has come to its end. */
static bool step(struct machine *m, u64 insns)
{
	soft_set_limit(m->soft, insns);
	return soft_run(m->soft, NULL, NULL) == ENGINE_STOPPED;
}

static u64 digest(struct machine *m, bool memory)
{
	u64 h = probe_digest(m->soft);

	if (memory)
		probe_hash(&h, mem_ptr(m->mem, 0, RAM_SIZE), RAM_SIZE);
	return h;
}

/* Mappings of this process that hold code made here; none may be writable and executable. */
static unsigned check_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512], perm[8];
	unsigned n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		assert_int_equal(sscanf(line, "%*s %7s", perm), 1);
		assert_false(strchr(perm, 'w') && strchr(perm, 'x'));
		n += strchr(perm, 'x') && strstr(line, "/dev/zero");
	}
	fclose(f);
	return n;
}

/* --- caches that are too small ------------------------------------------------------------ */

/* To the end in steps of @insns, compared after each. */
static void run_beside(enum soft_tier tier, u64 code_cache, u64 block_cache, u64 insns)
{
	struct machine slow, fast;
	bool on = true;

	open_machine(&slow, SOFT_TIER_INTERP, 0, 0);
	open_machine(&fast, tier, code_cache, block_cache);
	while (on) {
		on = step(&slow, insns);
		assert_int_equal(step(&fast, insns), on);
		assert_int_equal(digest(&slow, false), digest(&fast, false));
	}
	assert_int_equal(digest(&slow, true), digest(&fast, true));
	assert_int_equal(soft_cpu(fast.soft, 0)->r[X86_R12], 0);
	if (code_cache) {
		assert_true(probe_stat(fast.soft, "code_evictions") > 8);
		assert_true(probe_stat(fast.soft, "regions_evicted") > 100);
		assert_true(probe_stat(fast.soft, "code_bytes") <= code_cache);
		assert_true(check_maps() >= 8);
	} else {
		assert_int_equal(probe_stat(fast.soft, "code_evictions"), 0);
	}
	if (!block_cache) {
		assert_true(probe_stat(fast.soft, "blocks_invalidated") > 100);
	} else {
		assert_true(probe_stat(fast.soft, "blocks_swept") > 1000);
		assert_true(probe_stat(fast.soft, "block_bytes") < block_cache + (64u << 10));
	}
	close_machine(&slow);
	close_machine(&fast);
}

static void test_evict(void **state)
{
	run_beside(SOFT_TIER_JIT, 1u << 20, 0, 997);
	run_beside(SOFT_TIER_JIT, 1u << 20, 0, NEVER);
	run_beside(SOFT_TIER_JIT, 0, 0, NEVER);
}

/* A region may stay and be used for long, and still be the oldest. */
static void test_evict_mixed(void **state)
{
	run_beside(SOFT_TIER_MIX, 1u << 20, 0, 10007);
}

static void test_sweep(void **state)
{
	run_beside(SOFT_TIER_JIT, 1u << 20, 256u << 10, 4999);
	run_beside(SOFT_TIER_MIX, 0, 256u << 10, 50021);
}

/* --- children ------------------------------------------------------------------------------ */

struct outcome {
	u64 digest, evictions, regions;
	int who;
};

static struct outcome finish(struct machine *m)
{
	assert_false(step(m, NEVER));
	check_maps();
	return (struct outcome){ .digest = digest(m, true),
				 .evictions = probe_stat(m->soft, "code_evictions"),
				 .regions = probe_stat(m->soft, "regions_translated") };
}

#define CHILDREN 2
#define APART 20011 /* instructions between the two forks */

static void reorder(struct machine *m, u32 order)
{
	for (u32 i = 0; i < FUNCTIONS / CHAIN; i++) {
		u64 e = entry(i, order);
		assert_int_equal(mem_write(m->mem, TABLE + i * 8, &e, 8), 0);
	}
}

/* What machine @who comes to: the one that stays, its child, or the child's. */
static u64 reference(int who, u64 before)
{
	struct machine m;
	u64 d;

	open_machine(&m, SOFT_TIER_INTERP, 0, 0);
	assert_true(step(&m, before));
	if (who > 0) {
		reorder(&m, 7);
		assert_true(step(&m, APART));
	}
	if (who > 1)
		reorder(&m, 11);
	d = finish(&m).digest;
	close_machine(&m);
	return d;
}

/* In the child, which has a child of its own. The parent looks at what they have come to. */
static void child(struct machine *m, int fd)
{
	struct outcome o;
	pid_t pid;
	int st;

	if (soft_fork_child(m->soft) < 0)
		_exit(2);
	reorder(m, 7);
	if (!step(m, APART))
		_exit(2);
	pid = fork();
	if (pid < 0 || (pid == 0 && soft_fork_child(m->soft) < 0))
		_exit(3);
	if (pid == 0)
		reorder(m, 11);
	o = finish(m);
	o.who = pid ? 1 : 2;
	if (write(fd, &o, sizeof(o)) != sizeof(o))
		_exit(4);
	if (pid > 0 && (waitpid(pid, &st, 0) != pid || st != 0))
		_exit(5);
	_exit(0);
}

static void run_forked(enum soft_tier tier, u64 code_cache, u64 before, bool evicts)
{
	struct outcome mine, theirs;
	struct machine m;
	int p[2], st;
	u64 regions;
	pid_t pid;

	open_machine(&m, tier, code_cache, 0);
	assert_true(step(&m, before));
	regions = probe_stat(m.soft, "regions_translated");
	assert_int_equal(pipe(p), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		child(&m, p[1]);
	close(p[1]);
	mine = finish(&m);
	assert_int_equal(mine.digest, reference(0, before));
	assert_int_equal(evicts, mine.evictions > 8);
	for (int i = 0; i < CHILDREN; i++) {
		assert_int_equal(read(p[0], &theirs, sizeof(theirs)), sizeof(theirs));
		assert_int_equal(theirs.digest, reference(theirs.who, before));
		assert_int_equal(evicts, theirs.evictions > 8);
		/* They need not translate again what they inherit, and do translate the rest. */
		if (!evicts)
			assert_true(theirs.regions <= mine.regions + regions / 2);
		if (tier != SOFT_TIER_INTERP)
			assert_true(theirs.regions > regions);
	}
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_int_equal(st, 0);
	close(p[0]);
	close_machine(&m);
}

static void test_fork(void **state)
{
	run_forked(SOFT_TIER_JIT, 0, 1000003, false);
	run_forked(SOFT_TIER_JIT, 1u << 20, 1000003, true);
	run_forked(SOFT_TIER_MIX, 0, 1500001, false);
	run_forked(SOFT_TIER_INTERP, 0, 1000003, false);
}

/* --- the memory itself --------------------------------------------------------------------- */

typedef int (*int_fn)(void);

/* mov eax, @x; ret */
static int_fn add_fn(struct codebuf *cb, int x)
{
	u8 code[6] = { 0xb8, [5] = 0xc3 };
	const u8 *at;
	int_fn fn;

	memcpy(code + 1, &x, 4);
	if (codebuf_add(cb, code, sizeof(code), 16, &at) < 0)
		return NULL;
	memcpy(&fn, &at, sizeof(fn));
	return fn;
}

static void test_codebuf(void **state)
{
	struct codebuf cb;
	int_fn a, b;

	assert_int_equal(codebuf_init(&cb, 8192), 0);
	a = add_fn(&cb, 1);
	assert_int_equal(a(), 1);
	check_maps();
	while ((b = add_fn(&cb, 2)) != NULL)
		assert_int_equal(b(), 2);
	assert_int_equal(cb.len, 8192 - 16 + 6);
	codebuf_truncate(&cb, 6); /* the first page stays */
	assert_int_equal(a(), 1);
	b = add_fn(&cb, 3);
	assert_int_equal(b(), 3);
	codebuf_seal(&cb);
	assert_null(add_fn(&cb, 4));
	assert_int_equal(a() + b(), 4);
	check_maps();
	codebuf_fini(&cb);
	codebuf_fini(&cb);
}

/* Who goes on adding, and who forgets, does so alone. */
static void test_codebuf_fork(void **state)
{
	struct codebuf cb;
	int_fn a, b;
	int p[2], st;
	char c;
	pid_t pid;

	assert_int_equal(codebuf_init(&cb, 1u << 20), 0);
	a = add_fn(&cb, 1);
	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		if (codebuf_fork_child(&cb) < 0 || read(p[0], &c, 1) != 1)
			_exit(1);
		b = add_fn(&cb, 20);
		codebuf_truncate(&cb, cb.len);
		_exit(a() == 1 && b() == 20 && add_fn(&cb, 21)() == 21 ? 0 : 2);
	}
	b = add_fn(&cb, 2);
	codebuf_truncate(&cb, 0);
	assert_int_equal(add_fn(&cb, 3)(), 3);
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_int_equal(st, 0);
	close(p[0]);
	close(p[1]);
	codebuf_fini(&cb);
}

/* A process that has sworn off memory which becomes executable later (systemd's option, say). */
static void test_codebuf_hardened(void **state)
{
	struct codebuf cb;
	int st;
	pid_t pid = fork();

	if (pid == 0) {
		if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) < 0)
			_exit(77);
		if (codebuf_init(&cb, 1u << 20) < 0 || add_fn(&cb, 5)() != 5)
			_exit(1);
		codebuf_truncate(&cb, 0);
		_exit(add_fn(&cb, 6)() != 6);
	}
	assert_int_equal(waitpid(pid, &st, 0), pid);
	if (WEXITSTATUS(st) == 77) {
		print_message("skip: this kernel has no PR_SET_MDWE; Linux 6.3 has\n");
		skip();
	}
	assert_int_equal(st, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codebuf),
		cmocka_unit_test(test_codebuf_fork),
		cmocka_unit_test(test_codebuf_hardened),
		cmocka_unit_test(test_evict),
		cmocka_unit_test(test_evict_mixed),
		cmocka_unit_test(test_sweep),
		cmocka_unit_test(test_fork),
	};

	return cmocka_run_group_tests(tests, make_image, NULL);
}
