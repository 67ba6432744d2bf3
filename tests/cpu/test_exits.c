/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_exits.c - every way out of translated code leaves precise state
 *
 * How it works
 * Two engines with the same memory, one only interpreting, one translating at once, run exits.S and
 * then loops.S, which has the same in loops of many blocks: TLB misses, faults in the middle of a
 * read-modify-write, accesses across pages, a device, code that changes itself and code beside it,
 * exceptions, an exhausted budget. The interpreter goes one instruction at a
 * time, which is as slow as it is certain. After each, the translator runs from the beginning to
 * the same number of instructions in one go, so that its last block ends (or faults) there. All
 * registers, all memory (page tables with their accessed bits, and the frames that exceptions
 * pushed), and what the device saw must be the same. Then both go in equal steps of several sizes,
 * and the engines' digests, with guest time, must be the same after each.
 */
#include "cpu/soft/soft.h"
#include "isa/x86/sys.h"

#include "probe.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#define RAM_SIZE 0x200000u
#define USED 0x40000u /* what the guest can change */
#define GPA_PML4 0x1000u
#define GPA_PDPT 0x2000u
#define GPA_PD 0x3000u
#define GPA_PT 0x4000u /* 4 KiB pages, linear = physical */
#define GPA_PD_DEV 0x5000u
#define GPA_GDT 0x6000u
#define GPA_TSS 0x7000u
#define GPA_IDT 0x8000u
#define CODE 0x10000u
#define IST_TOP 0x28000u
#define DATA 0x30000u
#define DEVICE 0xd0000000u
#define MAX_INSNS 20000u

#define GUEST(name)                                                                                \
	extern const u8 name##_begin[], name##_end[], name##_pf[], name##_skip[], name##_skip_err[]
GUEST(exits);
GUEST(loops);

struct guest {
	const u8 *begin, *end, *pf, *skip, *skip_err;
	u64 faults, skipped, accesses; /* what the guest counts */
};

/* Six rounds; four rounds. */
static const struct guest guests[] = {
	{ exits_begin, exits_end, exits_pf, exits_skip, exits_skip_err, 6 * 9, 6 * 7, 6 * 7 },
	{ loops_begin, loops_end, loops_pf, loops_skip, loops_skip_err, 32, 2, 46 },
};

struct device {
	u64 accesses, hash;
};

struct machine {
	struct mem *mem;
	struct bus *bus;
	struct soft *soft;
	struct device dev;
};

static u8 image[USED];

static u64 dev_read(void *opaque, u64 off, unsigned size, unsigned cpu)
{
	struct device *d = opaque;

	d->accesses++;
	d->hash = d->hash * 31 + off * 8 + size;
	return d->hash * 0x9e3779b97f4a7c15ull;
}

static void dev_write(void *opaque, u64 off, unsigned size, u64 val, unsigned cpu)
{
	struct device *d = opaque;

	d->accesses++;
	d->hash = (d->hash + val) * 37 + off * 8 + size;
}

static void image_put(u32 gpa, u64 x)
{
	memcpy(image + gpa, &x, 8);
}

/* An interrupt gate to CS 8 with IST 1 (SDM vol. 3, 6.14.1). */
static void gate(const struct guest *g, unsigned vector, const u8 *to)
{
	u64 at = CODE + (u64)(to - g->begin);

	image_put(GPA_IDT + vector * 16,
		  (at & 0xffff) | 8 << 16 | 1ull << 32 | 0x8eull << 40 | (at >> 16) << 48);
}

static void make_image(const struct guest *g)
{
	memset(image, 0, sizeof(image));
	image_put(GPA_PML4, GPA_PDPT | 3);
	image_put(GPA_PDPT, GPA_PD | 3);
	image_put(GPA_PDPT + 3 * 8, GPA_PD_DEV | 3);
	image_put(GPA_PD, GPA_PT | 3);
	image_put(GPA_PD_DEV + (DEVICE >> 21 & 511) * 8, DEVICE | 0x83);
	for (u32 i = 0; i < 512; i++)
		image_put(GPA_PT + i * 8, i << 12 | 3);
	image_put(GPA_GDT + 8, 0x00af9b000000ffffull);
	image_put(GPA_TSS + 0x24, IST_TOP);
	gate(g, X86_DE, g->skip);
	gate(g, X86_UD, g->skip);
	gate(g, X86_SS_EXC, g->skip_err);
	gate(g, X86_GP, g->skip_err);
	gate(g, X86_PF_EXC, g->pf);
	memcpy(image + CODE, g->begin, (size_t)(g->end - g->begin));
	for (u32 i = 0; i < 0x5000; i++)
		image[DATA + i] = (u8)(i * 7 + (i >> 8));
}

/* Back to the beginning. Pages that are as they were keep their code and translations. */
static void load(struct machine *m)
{
	struct x86_cpu *c = soft_cpu(m->soft, 0);
	const struct x86_seg data = { .limit = ~0u, .attr = 0xc093 };

	for (u32 a = 0; a < USED; a += 4096)
		if (memcmp(mem_ptr(m->mem, a, 4096), image + a, 4096) != 0)
			assert_int_equal(mem_write(m->mem, a, image + a, 4096), 0);
	memset(c->r, 0, X86_GPRS * sizeof(c->r[0]));
	c->r[X86_R12] = DATA;
	c->r[X86_R13] = GPA_PT;
	c->r[X86_R14] = DEVICE;
	c->rip = CODE;
	x86_put_rflags(c, 2);
	c->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	c->cr2 = 0;
	c->cr3 = GPA_PML4;
	c->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	c->efer = EFER_LME | EFER_LMA | EFER_NX;
	for (int i = 0; i < X86_SEGS; i++)
		c->seg[i] = data;
	c->seg[X86_CS] = (struct x86_seg){ .limit = ~0u, .sel = 8, .attr = 0xa09b };
	c->gdtr = (struct x86_dtr){ .base = GPA_GDT, .limit = 15 };
	c->idtr = (struct x86_dtr){ .base = GPA_IDT, .limit = 0xfff };
	c->tr = (struct x86_seg){ .base = GPA_TSS, .limit = 0x67, .sel = 16, .attr = 0x8b };
	memset(&c->x, 0, sizeof(c->x));
	c->x.fcw = 0x37f;
	c->x.mxcsr = 0x1f80;
	c->halted = c->wait_sipi = c->nmi_blocked = false;
	c->shadow = 0;
	x86_derive(c);
	soft_cpu_changed(m->soft, 0);
	m->dev = (struct device){ 0 };
}

static void open_machine(struct machine *m, enum soft_tier tier)
{
	static const struct bus_ops ops = { .read = dev_read, .write = dev_write };
	const struct mem_region ram = { .base = 0, .size = RAM_SIZE };
	struct soft_cfg cfg = {
		.ncpus = 1,
		.clock = SOFT_CLOCK_VIRTUAL,
		.mips = 1000,
		.tier = tier,
		.cr4_allowed = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT,
		.xcr0_allowed = 3,
		.phys_mask = (1ull << 46) - 1,
		.tsc_khz = 1000000,
	};

	assert_int_equal(mem_new(&ram, 1, NULL, &m->mem), 0);
	assert_int_equal(bus_new(&m->bus), 0);
	assert_int_equal(bus_add(m->bus, BUS_MMIO, DEVICE, 4096, &ops, &m->dev, "test"), 0);
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
	enum engine_exit why;

	soft_set_limit(m->soft, insns);
	why = soft_run(m->soft, NULL, NULL);
	assert_true(why == ENGINE_STOPPED || why == ENGINE_DEADLOCK);
	return why == ENGINE_STOPPED;
}

static void check_same(struct machine *a, struct machine *b, u64 n)
{
	const struct x86_cpu *x = soft_cpu(a->soft, 0), *y = soft_cpu(b->soft, 0);
	bool same = !memcmp(x->r, y->r, X86_GPRS * sizeof(x->r[0])) && x->rip == y->rip &&
		    x86_get_rflags(x) == x86_get_rflags(y) && x->cr2 == y->cr2 &&
		    x->halted == y->halted && x->shadow == y->shadow &&
		    !memcmp(&x->x, &y->x, offsetof(struct x86_xstate, rsvd2)) &&
		    !memcmp(mem_ptr(a->mem, 0, USED), mem_ptr(b->mem, 0, USED), USED) &&
		    a->dev.accesses == b->dev.accesses && a->dev.hash == b->dev.hash;

	if (same)
		return;
	fprintf(stderr, "after %llu instructions: rip %llx and %llx, flags %llx and %llx\n",
		(unsigned long long)n, (unsigned long long)x->rip, (unsigned long long)y->rip,
		(unsigned long long)x86_get_rflags(x), (unsigned long long)x86_get_rflags(y));
	for (unsigned i = 0; i < X86_GPRS; i++)
		if (x->r[i] != y->r[i])
			fprintf(stderr, "r%u: %llx and %llx\n", i, (unsigned long long)x->r[i],
				(unsigned long long)y->r[i]);
	for (u32 i = 0; i < USED; i++)
		if (*(u8 *)mem_ptr(a->mem, i, 1) != *(u8 *)mem_ptr(b->mem, i, 1))
			fprintf(stderr, "memory differs at %x\n", i);
	fail();
}

/* After every number of instructions. */
static void test_each_instruction(void **state)
{
	const struct guest *g = *state;
	struct machine slow = { 0 }, fast = { 0 };
	u64 n = 0;
	u64 counts[2];
	bool on = true;

	make_image(g);
	open_machine(&slow, SOFT_TIER_INTERP);
	open_machine(&fast, SOFT_TIER_JIT);
	step(&fast, MAX_INSNS); /* translates everything */
	for (n = 1; on && n < MAX_INSNS; n++) {
		on = step(&slow, 1);
		load(&fast);
		assert_int_equal(step(&fast, n), on);
		check_same(&slow, &fast, n);
	}
	/* The guest came to its end, and by the ways it was meant to. */
	assert_false(on);
	memcpy(counts, mem_ptr(fast.mem, DATA + 0x5000, 16), 16);
	assert_int_equal(counts[0], g->faults);
	assert_int_equal(counts[1], g->skipped);
	assert_int_equal(fast.dev.accesses, g->accesses);
	assert_true(probe_stat(fast.soft, "blocks_translated") > 50);
	assert_true(probe_stat(fast.soft, "blocks_invalidated") > 0);
	close_machine(&slow);
	close_machine(&fast);
}

static void test_equal_steps(void **state)
{
	const struct guest *g = *state;
	static const u64 sizes[] = { 1, 2, 3, 5, 7, 13, 32, 97, 333 };

	make_image(g);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct machine slow = { 0 }, fast = { 0 };
		bool on = true;
		u64 n = 0;

		open_machine(&slow, SOFT_TIER_INTERP);
		open_machine(&fast, SOFT_TIER_JIT);
		while (on && n < MAX_INSNS) {
			n += sizes[i];
			on = step(&slow, sizes[i]);
			assert_int_equal(step(&fast, sizes[i]), on);
			check_same(&slow, &fast, n);
			assert_int_equal(probe_digest(slow.soft), probe_digest(fast.soft));
		}
		assert_false(on);
		close_machine(&slow);
		close_machine(&fast);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		{ "exits_each_instruction", test_each_instruction, NULL, NULL, (void *)&guests[0] },
		{ "exits_equal_steps", test_equal_steps, NULL, NULL, (void *)&guests[0] },
		{ "loops_each_instruction", test_each_instruction, NULL, NULL, (void *)&guests[1] },
		{ "loops_equal_steps", test_equal_steps, NULL, NULL, (void *)&guests[1] },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
