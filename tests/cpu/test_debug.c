/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_debug.c - the soft engine's breakpoints, watched data and steps, and that the guest cannot tell
 *
 * How it works
 * Two vCPUs run loops that are made here; every tier runs them. A run without a debugger says what
 * the digest (registers, guest time, instructions) is at the end. With breakpoints, or with somebody
 * who looks now and then, it must be the same. Where the engine stops is compared with what the program
 * is known to do.
 */
#include "cpu/soft/soft.h"
#include "isa/x86/sys.h"

#include "probe.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#define RAM_SIZE 0x400000u
#define PML4 0x1000u
#define PDPT 0x2000u
#define PD 0x3000u
#define PT 0x4000u /* of the first 2 MiB */
#define DATA 0x40000u
#define CODE 0x10000u
#define OTHER 0x20000u
#define ROUNDS 3000u
#define ALIAS 0x200000u /* linear addresses of the first 2 MiB, once more */

/* What is at CODE, and where its parts are. */
static const u8 program[] = {
	0x48, 0xff, 0xc0,	      /* loop: inc rax */
	0x48, 0x83, 0x03, 0x01,	      /* add qword [rbx], 1 */
	0x48, 0x8b, 0x53, 0x10,	      /* mov rdx, [rbx + 16] */
	0xe8, 0x06, 0x00, 0x00, 0x00, /* call sub */
	0x48, 0xff, 0xc9,	      /* dec rcx */
	0x75, 0xeb,		      /* jnz loop */
	0xf4,			      /* hlt */
	0x48, 0x01, 0xd6,	      /* sub: add rsi, rdx */
	0x89, 0x43, 0x20,	      /* mov [rbx + 32], eax */
	0xc3,			      /* ret */
};
enum {
	AT_INC = 0,
	AT_ADD = 3,
	AT_LOAD = 7,
	AT_CALL = 11,
	AT_DEC = 16,
	AT_HLT = 21,
	AT_SUB = 22,
	AT_STORE = 25
};

static const u8 other_program[] = {
	0x48, 0x01, 0xd8,	/* loop: add rax, rbx */
	0x48, 0x0f, 0xaf, 0xc3, /* imul rax, rbx */
	0x48, 0xff, 0xc9,	/* dec rcx */
	0x75, 0xf4,		/* jnz loop */
	0xf4,
};

struct machine {
	struct mem *mem;
	struct bus *bus;
	struct soft *soft;
	struct engine e;
};

static void put64(struct machine *m, gpa_t gpa, u64 x)
{
	assert_int_equal(mem_write(m->mem, gpa, &x, 8), 0);
}

static void load_cpu(struct machine *m, unsigned i)
{
	struct x86_cpu *c = soft_cpu(m->soft, i);

	c->rip = i ? OTHER : CODE;
	c->r[X86_RBX] = i ? 7 : DATA;
	c->r[X86_RCX] = i ? 2 * ROUNDS : ROUNDS;
	c->r[X86_RSP] = DATA - 0x1000 * (i + 1);
	x86_put_rflags(c, 2);
	c->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	c->cr3 = PML4;
	c->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	c->efer = EFER_LME | EFER_LMA | EFER_NX;
	for (int s = 0; s < X86_SEGS; s++)
		c->seg[s] = (struct x86_seg){ .limit = ~0u, .attr = 0xc093 };
	c->seg[X86_CS] = (struct x86_seg){ .limit = ~0u, .sel = 8, .attr = 0xa09b };
	c->wait_sipi = false;
	soft_cpu_changed(m->soft, i);
}

static void open_machine(struct machine *m, enum soft_tier tier, const void *code, size_t n)
{
	const struct mem_region ram = { .base = 0, .size = RAM_SIZE };
	struct soft_cfg cfg = {
		.ncpus = 2,
		.clock = SOFT_CLOCK_VIRTUAL,
		.mips = 1000,
		.tier = tier,
		.seed = 5,
		.cr4_allowed = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT,
		.xcr0_allowed = 3,
		.phys_mask = (1ull << 46) - 1,
		.tsc_khz = 1000000,
	};

	assert_int_equal(mem_new(&ram, 1, NULL, &m->mem), 0);
	put64(m, PML4, PDPT | 3);
	put64(m, PDPT, PD | 3);
	put64(m, PD, PT | 3);
	put64(m, PD + 8, PT | 3);
	for (u32 i = 0; i < 512; i++)
		put64(m, PT + i * 8, (u64)i << 12 | 3);
	assert_int_equal(mem_write(m->mem, CODE, code, n), 0);
	assert_int_equal(mem_write(m->mem, OTHER, other_program, sizeof(other_program)), 0);
	assert_int_equal(bus_new(&m->bus), 0);
	cfg.mem = m->mem;
	cfg.bus = m->bus;
	assert_int_equal(soft_new(&cfg, NULL, &m->soft), 0);
	m->e = soft_engine(m->soft);
	for (unsigned i = 0; i < 2; i++)
		load_cpu(m, i);
}

static void close_machine(struct machine *m)
{
	soft_free(m->soft);
	bus_free(m->bus);
	mem_free(m->mem);
}

static u64 digest(struct machine *m)
{
	u64 h = probe_digest(m->soft);

	probe_hash(&h, mem_ptr(m->mem, 0, RAM_SIZE), RAM_SIZE);
	return h;
}

static enum engine_exit run(struct machine *m)
{
	return engine_run(m->e, NULL, NULL);
}

static struct engine_debug_event event(struct machine *m)
{
	return m->e.ops->debug_event(m->e.o);
}

static struct x86_cpu *cpu(struct machine *m, unsigned i)
{
	return engine_cpu(m->e, i);
}

static void ask(struct machine *m, const struct engine_debug *d)
{
	assert_int_equal(engine_set_debug(m->e, d), 0);
}

/* One instruction of vCPU @i, then @d again. */
static void step_cpu(struct machine *m, unsigned i, const struct engine_debug *d)
{
	struct engine_debug s = *d;

	s.step = (int)i;
	ask(m, &s);
	assert_int_equal(run(m), ENGINE_DEBUG);
	assert_int_equal(event(m).what, ENGINE_ON_STEP);
	assert_int_equal(event(m).cpu, i);
	ask(m, d);
}

/* The digest at the end of a run that nobody looks at. */
static u64 plain(enum soft_tier tier)
{
	struct machine m;
	u64 h;

	open_machine(&m, tier, program, sizeof(program));
	assert_int_equal(run(&m), ENGINE_DEADLOCK);
	assert_int_equal(cpu(&m, 0)->r[X86_RAX], ROUNDS);
	h = digest(&m);
	close_machine(&m);
	return h;
}

#define EACH_TIER(t) for (enum soft_tier t = SOFT_TIER_MIX; t <= SOFT_TIER_JIT; t++)

/* Each of them is hit each time, by the right vCPU, before its instruction. */
static void exec_exact(void **state)
{
	static const u64 at[] = { CODE + AT_LOAD, OTHER + 7, CODE + AT_SUB, CODE + AT_INC,
				  CODE + AT_DEC };
	struct engine_debug d = { .step = -1, .exec = at, .n_exec = ARRAY_LEN(at) };
	struct machine m;

	EACH_TIER(t)
	{
		unsigned hits[ARRAY_LEN(at)] = { 0 };

		open_machine(&m, t, program, sizeof(program));
		ask(&m, &d);
		while (run(&m) == ENGINE_DEBUG) {
			struct engine_debug_event ev = event(&m);
			unsigned k = 0;

			assert_int_equal(ev.what, ENGINE_ON_BREAK);
			assert_int_equal(ev.index, ENGINE_BREAKS_MAX);
			while (k < ARRAY_LEN(at) && at[k] != cpu(&m, ev.cpu)->rip)
				k++;
			assert_in_range(k, 0, ARRAY_LEN(at) - 1);
			assert_int_equal(ev.cpu, at[k] >= OTHER);
			if (at[k] == CODE + AT_LOAD)
				assert_int_equal(cpu(&m, 0)->r[X86_RAX], hits[k] + 1);
			hits[k]++;
			/* Without a step it is the same stop again. */
			assert_int_equal(run(&m), ENGINE_DEBUG);
			assert_int_equal(cpu(&m, ev.cpu)->rip, at[k]);
			step_cpu(&m, ev.cpu, &d);
		}
		for (unsigned k = 0; k < ARRAY_LEN(at); k++)
			assert_int_equal(hits[k], at[k] >= OTHER ? 2 * ROUNDS : ROUNDS);
		close_machine(&m);
	}
}

/* A run with breakpoints, steps over them and somebody who looks ends as one without, to the bit. */
static void exec_unnoticed(void **state)
{
	static const u64 at[] = { CODE + AT_LOAD, CODE + AT_STORE, OTHER + 3 };
	struct engine_debug none = { .step = -1 };
	struct engine_debug d = { .step = -1, .exec = at, .n_exec = ARRAY_LEN(at) };
	struct machine m;
	unsigned n;

	EACH_TIER(t)
	{
		n = 0;
		open_machine(&m, t, program, sizeof(program));
		ask(&m, &d);
		while (run(&m) == ENGINE_DEBUG) {
			/* Now and then there are none for a while, as between gdb's commands. */
			step_cpu(&m, event(&m).cpu, n % 3 ? &d : &none);
			ask(&m, n++ > 500 ? &none : &d);
		}
		assert_in_range(n, 400, 600);
		assert_true(digest(&m) == plain(t));
		close_machine(&m);
	}
	assert_true(plain(SOFT_TIER_INTERP) == plain(SOFT_TIER_JIT));
}

static unsigned kicks;

static void on_poll(void *o)
{
	struct machine *m = o;

	if (++kicks % 2)
		engine_stop(m->e, ENGINE_DEBUG);
	engine_kick(m->e);
}

/* Nor does it matter that the engine was asked to stop between turns. */
static void interrupted(void **state)
{
	struct machine m;
	unsigned stops = 0;

	EACH_TIER(t)
	{
		open_machine(&m, t, program, sizeof(program));
		engine_kick(m.e);
		for (;; stops++) {
			enum engine_exit why = engine_run(m.e, on_poll, &m);

			if (why != ENGINE_DEBUG) {
				assert_int_equal(why, ENGINE_DEADLOCK);
				break;
			}
		}
		assert_true(digest(&m) == plain(t));
		close_machine(&m);
	}
	assert_in_range(stops, 3, 1000000);
}

/* An address of another mapping of the same code does not stop there. */
static void alias(void **state)
{
	struct engine_debug d = { .step = -1,
				  .n = 1,
				  .at = { { ENGINE_BREAK_EXEC, ALIAS + CODE + AT_LOAD, 1 } } };
	struct machine m;

	EACH_TIER(t)
	{
		open_machine(&m, t, program, sizeof(program));
		ask(&m, &d);
		assert_int_equal(run(&m), ENGINE_DEADLOCK);
		close_machine(&m);
		open_machine(&m, t, program, sizeof(program));
		ask(&m, &d);
		cpu(&m, 0)->rip += ALIAS;
		engine_cpu_changed(m.e, 0);
		assert_int_equal(run(&m), ENGINE_DEBUG);
		assert_int_equal(event(&m).index, 0);
		assert_int_equal(cpu(&m, 0)->r[X86_RAX], 1);
		close_machine(&m);
	}
}

/* Set when the code is hot and translated. */
static void late(void **state)
{
	struct engine_debug d = { .step = -1,
				  .n = 1,
				  .at = { { ENGINE_BREAK_EXEC, CODE + AT_STORE, 1 } } };
	struct machine m;

	EACH_TIER(t)
	{
		open_machine(&m, t, program, sizeof(program));
		soft_set_limit(m.soft, 10 * ROUNDS);
		assert_int_equal(run(&m), ENGINE_STOPPED);
		soft_set_limit(m.soft, UINT64_MAX);
		ask(&m, &d);
		for (unsigned i = 0; i < 5; i++) {
			u64 rax = cpu(&m, 0)->r[X86_RAX];

			assert_int_equal(run(&m), ENGINE_DEBUG);
			assert_int_equal(cpu(&m, 0)->rip, CODE + AT_STORE);
			assert_in_range(cpu(&m, 0)->r[X86_RAX], rax + (i > 0), rax + 1);
			step_cpu(&m, 0, &d);
		}
		close_machine(&m);
	}
}

/* Behind the instruction that writes, or touches; nowhere else. */
static void watch(void **state)
{
	struct engine_debug d = { .step = -1,
				  .n = 3,
				  .at = { { ENGINE_BREAK_WRITE, DATA, 8 },
					  { ENGINE_BREAK_WRITE, DATA + 16, 8 },
					  { ENGINE_BREAK_ACCESS, DATA + 34, 1 } } };
	struct engine_debug none = { .step = -1 };
	struct machine m;
	u64 val;

	EACH_TIER(t)
	{
		open_machine(&m, t, program, sizeof(program));
		soft_set_limit(m.soft, 10 * ROUNDS);
		assert_int_equal(run(&m), ENGINE_STOPPED);
		soft_set_limit(m.soft, UINT64_MAX);
		ask(&m, &d);
		assert_int_equal(run(&m), ENGINE_DEBUG);
		if (cpu(&m, 0)->rip == CODE + AT_STORE + 3)
			assert_int_equal(run(&m), ENGINE_DEBUG);
		for (unsigned i = 0; i < 10; i++) {
			assert_int_equal(event(&m).what, ENGINE_ON_BREAK);
			assert_int_equal(event(&m).cpu, 0);
			assert_int_equal(event(&m).index, 0);
			assert_int_equal(cpu(&m, 0)->rip, CODE + AT_LOAD);
			assert_int_equal(mem_read(m.mem, DATA, &val, 8), 0);
			assert_int_equal(val, cpu(&m, 0)->r[X86_RAX]);
			assert_int_equal(run(&m), ENGINE_DEBUG);
			assert_int_equal(event(&m).index, 2);
			assert_int_equal(cpu(&m, 0)->rip, CODE + AT_STORE + 3);
			assert_int_equal(run(&m), ENGINE_DEBUG);
		}
		ask(&m, &none);
		assert_int_equal(run(&m), ENGINE_DEADLOCK);
		assert_true(digest(&m) == plain(t));
		close_machine(&m);
	}
}

/* Only reads of it are missing. */
static void watch_access(void **state)
{
	struct engine_debug d = { .step = -1,
				  .n = 1,
				  .at = { { ENGINE_BREAK_ACCESS, DATA + 16, 8 } } };
	struct machine m;

	EACH_TIER(t)
	{
		unsigned n = 0;

		open_machine(&m, t, program, sizeof(program));
		ask(&m, &d);
		for (; run(&m) == ENGINE_DEBUG; n++)
			assert_int_equal(cpu(&m, 0)->rip, CODE + AT_CALL);
		assert_int_equal(n, ROUNDS);
		assert_true(digest(&m) == plain(t));
		close_machine(&m);
	}
}

/* A store of every width that ends or begins at the watched byte, and such as do not; a copy; a push. */
static void watch_edges(void **state)
{
	static const u8 code[] = {
		0x48, 0x89, 0x43, 0x39,		    /* 00 mov [rbx + 57], rax: 57..64 */
		0x48, 0x89, 0x43, 0x38,		    /* 04 mov [rbx + 56], rax: not */
		0x88, 0x43, 0x41,		    /* 08 mov [rbx + 65], al: not */
		0x66, 0x89, 0x43, 0x40,		    /* 0b mov [rbx + 64], ax */
		0x0f, 0x11, 0x43, 0x34,		    /* 0f movups [rbx + 52], xmm0 */
		0x48, 0x8d, 0x7b, 0x20,		    /* 13 lea rdi, [rbx + 32] */
		0xb9, 0x30, 0x00, 0x00, 0x00,	    /* 17 mov ecx, 48 */
		0xf3, 0xaa,			    /* 1c rep stosb */
		0x48, 0x8d, 0x63, 0x48,		    /* 1e lea rsp, [rbx + 72] */
		0x50,				    /* 22 push rax */
		0xf0, 0x48, 0x0f, 0xc1, 0x43, 0x40, /* 23 lock xadd [rbx + 64], rax */
		0xf4,
	};
	static const u64 behind[] = { 4, 0xf, 0x13, 0x1c, 0x23, 0x29 };
	struct engine_debug d = { .step = -1,
				  .n = 1,
				  .at = { { ENGINE_BREAK_WRITE, DATA + 64, 1 } } };
	struct machine m;

	EACH_TIER(t)
	{
		open_machine(&m, t, code, sizeof(code));
		ask(&m, &d);
		for (unsigned i = 0; i < ARRAY_LEN(behind); i++) {
			assert_int_equal(run(&m), ENGINE_DEBUG);
			assert_int_equal(cpu(&m, 0)->rip, CODE + behind[i]);
			if (behind[i] == 0x1c) /* in the middle: the byte itself has been written */
				assert_int_equal(cpu(&m, 0)->r[X86_RCX], 15);
		}
		assert_int_equal(run(&m), ENGINE_DEADLOCK);
		close_machine(&m);
	}
}

/* One instruction each, of the one vCPU, whatever breakpoints there are. */
static void steps(void **state)
{
	static const u64 way[] = { AT_ADD,	 AT_LOAD, AT_CALL,    AT_SUB, AT_STORE,
				   AT_STORE + 3, AT_DEC,  AT_DEC + 3, AT_INC };
	static const u64 at[] = { CODE + AT_LOAD }, other_way[] = { 0, 3, 7, 10 };
	struct engine_debug d = { .step = -1, .exec = at, .n_exec = 1 }, none = { .step = -1 };
	struct machine m;

	EACH_TIER(t)
	{
		open_machine(&m, t, program, sizeof(program));
		for (unsigned i = 0; i < 20 * ARRAY_LEN(way); i++) {
			step_cpu(&m, 0, &d);
			assert_int_equal(cpu(&m, 0)->rip, CODE + way[i % ARRAY_LEN(way)]);
			assert_int_equal(soft_insns(m.soft) <= i + 1, 1);
			assert_int_equal(cpu(&m, 1)->rip, OTHER);
		}
		for (unsigned i = 1; i < 8; i++) {
			step_cpu(&m, 1, &none);
			assert_int_equal(cpu(&m, 1)->rip, OTHER + other_way[i % 4]);
		}
		ask(&m, &none);
		assert_int_equal(run(&m), ENGINE_DEADLOCK);
		assert_int_equal(cpu(&m, 0)->r[X86_RAX], ROUNDS);
		step_cpu(&m, 0, &none); /* halted: it stays */
		assert_int_equal(cpu(&m, 0)->rip, CODE + AT_HLT + 1);
		close_machine(&m);
	}
}

/* All of a run in steps of the vCPU whose turn it is. */
static void all_steps(void **state)
{
	struct engine_debug d = { .step = -1 };
	struct machine m;
	u64 n = 0;

	open_machine(&m, SOFT_TIER_MIX, program, sizeof(program));
	for (unsigned i = 0; !cpu(&m, 0)->halted || !cpu(&m, 1)->halted; n++) {
		i = cpu(&m, 0)->halted ? 1 : cpu(&m, 1)->halted ? 0 : !i;
		step_cpu(&m, i, &d);
	}
	assert_int_equal(run(&m), ENGINE_DEADLOCK);
	assert_int_equal(n, ROUNDS * 9ull + 1 + 2 * ROUNDS * 4ull + 1);
	assert_int_equal(soft_insns(m.soft), n);
	close_machine(&m);
}

static void int3(void **state)
{
	static const u8 code[] = { 0x48, 0xff, 0xc0, 0xcc, 0x48, 0xff, 0xc0, 0xf4 };
	struct engine_debug d = { .step = -1, .int3 = true };
	struct machine m;

	EACH_TIER(t)
	{
		open_machine(&m, t, code, sizeof(code));
		ask(&m, &d);
		assert_int_equal(run(&m), ENGINE_DEBUG);
		assert_int_equal(event(&m).what, ENGINE_ON_INT3);
		assert_int_equal(event(&m).cpu, 0);
		assert_int_equal(cpu(&m, 0)->rip, CODE + 3);
		assert_int_equal(run(&m), ENGINE_DEBUG); /* again */
		cpu(&m, 0)->rip++;
		engine_cpu_changed(m.e, 0);
		assert_int_equal(run(&m), ENGINE_DEADLOCK);
		assert_int_equal(cpu(&m, 0)->r[X86_RAX], 2);
		assert_int_equal(soft_insns(m.soft), 3 + 2 * ROUNDS * 4ull + 1);
		close_machine(&m);
		/* Not asked for: the guest's own, without an IDT a triple fault. */
		open_machine(&m, t, code, sizeof(code));
		assert_int_equal(run(&m), ENGINE_TRIPLE);
		close_machine(&m);
	}
}

static void refused(void **state)
{
	static const struct {
		struct engine_debug d;
		int error;
	} bad[] = {
		{ { .step = 2 }, -EINVAL },
		{ { .step = -1, .n = ENGINE_BREAKS_MAX + 1 }, -ENOSPC },
		{ { .step = -1, .n = 1, .at = { { ENGINE_BREAK_WRITE, DATA + 1, 2 } } }, -EINVAL },
		{ { .step = -1, .n = 1, .at = { { ENGINE_BREAK_WRITE, DATA, 3 } } }, -EINVAL },
		{ { .step = -1, .n = 1, .at = { { ENGINE_BREAK_EXEC, DATA, 2 } } }, -EINVAL },
	};
	struct machine m;

	open_machine(&m, SOFT_TIER_MIX, program, sizeof(program));
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(engine_set_debug(m.e, &bad[i].d), bad[i].error);
	close_machine(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exec_exact),	cmocka_unit_test(exec_unnoticed),
		cmocka_unit_test(interrupted),	cmocka_unit_test(alias),
		cmocka_unit_test(late),		cmocka_unit_test(watch),
		cmocka_unit_test(watch_access), cmocka_unit_test(watch_edges),
		cmocka_unit_test(steps),	cmocka_unit_test(all_steps),
		cmocka_unit_test(int3),		cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
