/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_gdb_target.c - a debugger's view of vCPUs: registers, memory, breakpoints in registers and in memory
 *
 * The vCPU is the soft engine's. It is treated as one that has debug registers only (target.plants), so
 * that INT3s in memory, which another engine needs, are tested here, too: it reports them as well.
 */
#include "vm/gdb_target.h"

#include "bus/bus.h"
#include "cpu/soft/soft.h"
#include "isa/x86/sys.h"
#include "vm/x86/gdb_cpu.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#define RAM_SIZE 0x200000u
#define PML4 0x1000u
#define PDPT 0x2000u
#define PD 0x3000u
#define PT 0x4000u
#define IDT 0x5000u
#define GDT 0x6000u
#define CODE 0x10000u
#define HANDLER 0x12000u
#define DATA 0x40000u
#define HOLE 0x50000u /* a page that is not mapped */
#define ROUNDS 20u
#define PTE_A 0x20u
#define PTE_D 0x40u

static const u8 program[] = {
	0x48, 0xff, 0xc0,	/* 0 loop: inc rax */
	0xcc,			/* 3 int3: the guest's own */
	0x48, 0xff, 0xc2,	/* 4 inc rdx */
	0x90, 0x90, 0x90, 0x90, /* 7 */
	0x48, 0xff, 0xc9,	/* b dec rcx */
	0x75, 0xf0,		/* e jnz loop */
	0xf4,			/* 10 hlt */
};

static const u8 handler[] = { 0x48, 0xff, 0xc7, 0x48, 0xcf }; /* inc rdi; iretq */

struct rig {
	struct mem *mem;
	struct bus *bus;
	struct soft *soft;
	struct target t;
};

static void put64(struct rig *r, gpa_t gpa, u64 x)
{
	assert_int_equal(mem_write(r->mem, gpa, &x, 8), 0);
}

static void load(struct rig *r)
{
	struct x86_cpu *c = soft_cpu(r->soft, 0);

	put64(r, PML4, PDPT | 3);
	put64(r, PDPT, PD | 3);
	put64(r, PD, PT | 3);
	for (u32 i = 0; i < 512; i++)
		put64(r, PT + i * 8, i == HOLE >> 12 ? 0 : (u64)i << 12 | 3);
	put64(r, GDT + 8, 0x00af9a000000ffff);
	put64(r, IDT + 3 * 16,
	      (u64)(HANDLER & 0xffff) | 8u << 16 | 0x8eull << 40 | (u64)(HANDLER >> 16) << 48);
	assert_int_equal(mem_write(r->mem, CODE, program, sizeof(program)), 0);
	assert_int_equal(mem_write(r->mem, HANDLER, handler, sizeof(handler)), 0);
	c->rip = CODE;
	c->r[X86_RBX] = DATA;
	c->r[X86_RCX] = ROUNDS;
	c->r[X86_RDX] = 0;
	c->r[X86_RSP] = DATA - 0x1000;
	x86_put_rflags(c, 2);
	c->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	c->cr3 = PML4;
	c->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	c->efer = EFER_LME | EFER_LMA | EFER_NX;
	for (int s = 0; s < X86_SEGS; s++)
		c->seg[s] = (struct x86_seg){ .limit = ~0u, .attr = 0xc093 };
	c->seg[X86_CS] = (struct x86_seg){ .limit = ~0u, .sel = 8, .attr = 0xa09b };
	c->gdtr = (struct x86_dtr){ .base = GDT, .limit = 15 };
	c->idtr = (struct x86_dtr){ .base = IDT, .limit = 0xfff };
	soft_cpu_changed(r->soft, 0);
}

static void begin(struct rig *r, bool plants)
{
	const struct mem_region ram = { .base = 0, .size = RAM_SIZE };
	struct soft_cfg cfg = {
		.ncpus = 1,
		.clock = SOFT_CLOCK_VIRTUAL,
		.mips = 1000,
		.cr4_allowed = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT,
		.xcr0_allowed = 3,
		.phys_mask = (1ull << 46) - 1,
		.tsc_khz = 1000000,
	};

	memset(r, 0, sizeof(*r));
	assert_int_equal(mem_new(&ram, 1, NULL, &r->mem), 0);
	assert_int_equal(bus_new(&r->bus), 0);
	cfg.mem = r->mem;
	cfg.bus = r->bus;
	assert_int_equal(soft_new(&cfg, NULL, &r->soft), 0);
	load(r);
	r->t = (struct target){
		.e = soft_engine(r->soft), .mem = r->mem, .cpus = 1, .plants = plants, .step = -1
	};
}

static void end(struct rig *r)
{
	soft_free(r->soft);
	bus_free(r->bus);
	mem_free(r->mem);
}

static u8 byte_at(struct rig *r, u64 a)
{
	u8 b;

	assert_int_equal(mem_read(r->mem, a, &b, 1), 0);
	return b;
}

static u8 shown_at(struct rig *r, u64 a)
{
	u8 b;

	assert_int_equal(target_mem_read(&r->t, 0, a, &b, 1), 1);
	return b;
}

static u64 rip(struct rig *r)
{
	return soft_cpu(r->soft, 0)->rip;
}

/* As the session does: runs until there is news for the debugger. */
static bool run(struct rig *r, int step, struct rsp_stop *ret)
{
	assert_int_equal(target_arm(&r->t, step), 0);
	for (;;) {
		enum engine_exit why = engine_run(r->t.e, NULL, NULL);

		if (why != ENGINE_DEBUG)
			return false;
		if (target_event(&r->t, ret))
			return true;
	}
}

/* Five breakpoints, four registers: one is in memory, and nobody sees it; the guest's own is its own. */
static void planted(void **state)
{
	struct rsp_stop s;
	struct rig r;
	u64 n = 0;

	begin(&r, true);
	for (unsigned k = 7; k <= 0xb; k++)
		assert_int_equal(target_insert(&r.t, RSP_BREAK_SOFT, CODE + k, 1), 0);
	assert_int_equal(byte_at(&r, CODE + 7), 0x90);
	assert_int_equal(byte_at(&r, CODE + 0xb), 0xcc);
	assert_int_equal(shown_at(&r, CODE + 0xb), 0x48);
	for (; run(&r, -1, &s); n++) {
		u64 at = CODE + 7 + n % 5;

		assert_int_equal(rip(&r), at);
		assert_int_equal(s.what, RSP_ON_SOFT);
		assert_int_equal(s.signal, 5);
		/* As GDB steps over it. */
		assert_int_equal(target_remove(&r.t, RSP_BREAK_SOFT, at, 1), 0);
		assert_true(run(&r, 0, &s));
		assert_int_equal(s.what, RSP_ON_SIGNAL);
		assert_int_equal(rip(&r), at + (n % 5 == 4 ? 3 : 1));
		assert_int_equal(target_insert(&r.t, RSP_BREAK_SOFT, at, 1), 0);
	}
	assert_int_equal(n, 5 * ROUNDS);
	assert_int_equal(soft_cpu(r.soft, 0)->r[X86_RDI], ROUNDS);
	assert_int_equal(soft_cpu(r.soft, 0)->r[X86_RDX], ROUNDS);
	target_clear(&r.t);
	for (unsigned i = 0; i < sizeof(program); i++)
		assert_int_equal(byte_at(&r, CODE + i), program[i]);
	end(&r);
}

/* What has to be in a register pushes the others into memory, and back. */
static void room(void **state)
{
	struct rsp_stop s;
	struct rig r;

	begin(&r, true);
	for (unsigned k = 7; k <= 0xa; k++)
		assert_int_equal(target_insert(&r.t, RSP_BREAK_SOFT, CODE + k, 1), 0);
	assert_int_equal(byte_at(&r, CODE + 0xa), 0x90);
	/* 12 bytes from 4 on: two registers. */
	assert_int_equal(target_insert(&r.t, RSP_WATCH_WRITE, DATA + 4, 12), 0);
	assert_int_equal(target_insert(&r.t, RSP_WATCH_WRITE, DATA + 4, 12), 0); /* is there */
	assert_int_equal(byte_at(&r, CODE + 8), 0x90);
	assert_int_equal(byte_at(&r, CODE + 9), 0xcc);
	assert_int_equal(byte_at(&r, CODE + 0xa), 0xcc);
	assert_int_equal(target_insert(&r.t, RSP_WATCH_ACCESS, DATA, 24), -ENOSPC);
	assert_int_equal(target_insert(&r.t, RSP_BREAK_HARD, CODE + 0xb, 1), 0);
	assert_int_equal(target_insert(&r.t, RSP_BREAK_HARD, CODE + 4, 1), 0);
	assert_int_equal(target_insert(&r.t, RSP_BREAK_HARD, CODE, 1), -ENOSPC);
	assert_int_equal(byte_at(&r, CODE + 7), 0xcc);
	assert_true(run(&r, -1, &s));
	assert_int_equal(s.what, RSP_ON_HARD);
	assert_int_equal(rip(&r), CODE + 4);
	target_remove(&r.t, RSP_BREAK_HARD, CODE + 4, 1);
	target_remove(&r.t, RSP_BREAK_HARD, CODE + 4, 1); /* is gone */
	assert_true(run(&r, -1, &s));
	assert_int_equal(s.what, RSP_ON_SOFT);
	assert_int_equal(rip(&r), CODE + 7);
	target_remove(&r.t, RSP_WATCH_WRITE, DATA + 4, 12);
	target_remove(&r.t, RSP_BREAK_HARD, CODE + 0xb, 1);
	for (unsigned k = 7; k <= 0xa; k++)
		assert_int_equal(byte_at(&r, CODE + k), 0x90);
	assert_int_equal(target_insert(&r.t, RSP_BREAK_SOFT, HOLE, 1), -EFAULT);
	assert_int_equal(target_insert(&r.t, RSP_WATCH_READ, DATA, 1), -ENOTSUP);
	assert_int_equal(target_insert(&r.t, RSP_WATCH_WRITE, DATA, 0), -EINVAL);
	assert_int_equal(target_insert(&r.t, RSP_WATCH_WRITE, DATA, ~0ull), -ENOSPC);
	end(&r);
}

/* An engine that stops anywhere: no memory is touched for any number of them. */
static void many(void **state)
{
	struct rsp_stop s;
	struct rig r;

	begin(&r, false);
	for (unsigned i = 0; i < TARGET_BREAKS_MAX; i++)
		assert_int_equal(target_insert(&r.t, i % 2 ? RSP_BREAK_SOFT : RSP_BREAK_HARD,
					       CODE + 7 + i, 1),
				 0);
	assert_int_equal(target_insert(&r.t, RSP_BREAK_SOFT, CODE, 1), -ENOSPC);
	for (unsigned i = 0; i < sizeof(program); i++)
		assert_int_equal(byte_at(&r, CODE + i), program[i]);
	for (unsigned i = 0; i < 4; i++) {
		assert_true(run(&r, -1, &s));
		assert_int_equal(rip(&r), CODE + 7 + i);
		assert_int_equal(s.what, i % 2 ? RSP_ON_SOFT : RSP_ON_HARD);
		assert_true(run(&r, 0, &s));
	}
	end(&r);
}

/* Writes go under what is planted; all or nothing; page tables are only read. */
static void memory(void **state)
{
	static const u8 nops[] = { 0x0f, 0x1f, 0x00, 0x90, 0x90 };
	u8 bytes[32];
	struct rig r;
	u64 pte;

	begin(&r, true);
	for (unsigned k = 6; k <= 0xb; k++)
		assert_int_equal(target_insert(&r.t, RSP_BREAK_SOFT, CODE + k, 1), 0);
	assert_int_equal(byte_at(&r, CODE + 0xa), 0xcc);
	assert_int_equal(target_mem_write(&r.t, 0, CODE + 9, nops, sizeof(nops)), 0);
	assert_int_equal(byte_at(&r, CODE + 9), 0x0f);
	assert_int_equal(byte_at(&r, CODE + 0xa), 0xcc);
	assert_int_equal(target_mem_read(&r.t, 0, CODE + 9, bytes, 5), 5);
	assert_memory_equal(bytes, nops, 5);
	target_clear(&r.t);
	assert_int_equal(byte_at(&r, CODE + 0xa), 0x1f);
	assert_int_equal(byte_at(&r, CODE + 0xb), 0x00);
	/* Up to a hole, and into it. */
	assert_int_equal(target_mem_read(&r.t, 0, HOLE - 8, bytes, 32), 8);
	assert_int_equal(target_mem_read(&r.t, 0, HOLE, bytes, 32), -EFAULT);
	assert_int_equal(target_mem_read(&r.t, 0, 0x800000000000, bytes, 1), -EFAULT);
	assert_int_equal(target_mem_write(&r.t, 0, HOLE - 2, nops, sizeof(nops)), -EFAULT);
	assert_int_equal(byte_at(&r, HOLE - 2), 0);
	/* Across pages. */
	assert_int_equal(target_mem_write(&r.t, 0, DATA + 0xffe, nops, sizeof(nops)), 0);
	assert_int_equal(target_mem_read(&r.t, 0, DATA + 0xffe, bytes, 5), 5);
	assert_memory_equal(bytes, nops, 5);
	assert_int_equal(mem_read(r.mem, PT + (DATA >> 12) * 8, &pte, 8), 0);
	assert_int_equal(pte & (PTE_A | PTE_D), 0);
	end(&r);
}

/* Every register takes a value and gives it back; the description has as many as there are. */
static void registers(void **state)
{
	struct buf xml = { 0 };
	unsigned n = 0, described = 0;
	struct rig r;

	begin(&r, false);
	for (; target_reg_size(&r.t, n); n++) {
		unsigned size = target_reg_size(&r.t, n);
		u8 old[RSP_REG_MAX], val[RSP_REG_MAX], got[RSP_REG_MAX];

		assert_in_range(size, 4, RSP_REG_MAX);
		target_reg_get(&r.t, 0, n, old);
		memcpy(val, old, sizeof(val));
		val[0] ^= 1;
		assert_int_equal(target_reg_set(&r.t, 0, n, val), 0);
		target_reg_get(&r.t, 0, n, got);
		/* Not set: FTAG by its lowest bit, pointers of the FPU, CR4.VME of this model, EFLAGS.CF is. */
		if (memcmp(got, val, size))
			assert_memory_equal(got, old, size);
		assert_int_equal(target_reg_set(&r.t, 0, n, old), 0);
		target_reg_get(&r.t, 0, n, got);
		assert_memory_equal(got, old, size);
	}
	assert_int_equal(target_reg_get(&r.t, 0, 16, (u8[8]){ 0 }), 0);
	assert_int_equal(target_describe(&r.t, &xml), 0);
	for (const char *p = (const char *)xml.data; (p = strstr(p, "<reg ")); p++)
		described++;
	assert_int_equal(described, n);
	assert_int_equal(xml.data[xml.len - 1], 0);
	buf_fini(&xml);
	end(&r);
}

/* Bits that the CPU model does not have, and what hangs on others. */
static void control(void **state)
{
	unsigned cr0 = 0, cr4 = 0, efer = 0;
	struct x86_cpu *c;
	struct rig r;

	begin(&r, false);
	c = soft_cpu(r.soft, 0);
	for (unsigned i = 50; target_reg_size(&r.t, i); i++) {
		u64 x = 0;

		if (target_reg_size(&r.t, i) != 8)
			continue;
		target_reg_get(&r.t, 0, i, (u8 *)&x);
		cr0 = x == c->cr0 ? i : cr0;
		cr4 = x == c->cr4 ? i : cr4;
		efer = x == c->efer ? i : efer;
	}
	assert_true(cr0 && cr4 && efer);
	target_reg_set(&r.t, 0, cr4, (u8[8]){ 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff });
	assert_int_equal(c->cr4, c->cr4_allowed);
	target_reg_set(&r.t, 0, efer, (u8[8]){ 0 });
	assert_int_equal(c->efer, 0);
	target_reg_set(&r.t, 0, efer, (u8[8]){ 0x00, 0x0d });
	assert_int_equal(c->efer, EFER_LME | EFER_LMA | EFER_NX);
	target_reg_set(&r.t, 0, cr0, (u8[8]){ 0x33 });
	assert_int_equal(c->efer, EFER_LME | EFER_NX); /* without paging long mode is not active */
	end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(planted), cmocka_unit_test(room),	cmocka_unit_test(many),
		cmocka_unit_test(memory),  cmocka_unit_test(registers), cmocka_unit_test(control),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
