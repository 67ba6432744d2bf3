/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_boot.c - what the three entry protocols find in memory and registers
 *
 * The kernel is a made-up image: the loaders are driven, no guest runs. Offsets are written out
 * from the specifications here, so that a wrong structure on the other side shows.
 */
#include "board/x86/acpi.h"
#include "board/x86/boot.h"
#include "board/x86/layout.h"
#include "board/x86/memmap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB (1ull << 20)

struct rig {
	struct kernel_image k;
	struct topo t;
	struct mem_region r[MEM_REGIONS_MAX];
	unsigned nr;
	struct mem *m;
	struct x86_boot_in in;
	struct x86_boot b;
	struct err e;
};

/* calloc does not align as struct x86_xstate asks. */
static struct x86_cpu *cpu_new(void)
{
	struct x86_cpu *c = aligned_alloc(64, ALIGN_UP(sizeof(*c), (size_t)64));

	assert_non_null(c);
	memset(c, 0, sizeof(*c));
	return c;
}

static const u8 text[4096] = { 0x90, 0xf4 };

static void rig_new(struct rig *g, enum kernel_entry kind, u64 mem)
{
	memset(g, 0, sizeof(*g));
	g->k.type = kind == KERNEL_ENTRY_LINUX64 ? KERNEL_VMLINUX : KERNEL_PVH;
	g->k.entry_kind = kind;
	g->k.entry = 16 * MIB + 0x200;
	g->k.seg[0] = (struct kernel_seg){ 16 * MIB, text, sizeof(text), 2 * MIB };
	g->k.nseg = 1;
	g->k.mem_low = 16 * MIB;
	g->k.init_size = 8 * MIB;
	g->k.mem_top = 24 * MIB;
	if (kind == KERNEL_ENTRY_LINUX64) {
		g->k.setup_len = 0x26c - 0x1f1;
		g->k.setup[0x211 - 0x1f1] = 0x82; /* loadflags: KASLR and heap, not ours to claim */
		g->k.setup[0x236 - 0x1f1] = 1;	  /* xloadflags: 64-bit, not above 4 GiB */
		g->k.initrd_addr_max = 0x7fffffff;
		g->k.cmdline_max = 2047;
	}
	assert_int_equal(topo_from_cpus(2, &g->e, &g->t), 0);
	assert_int_equal(x86_mem_layout(&g->t, mem, &g->e, g->r, &g->nr), 0);
	assert_int_equal(mem_new(g->r, g->nr, &g->e, &g->m), 0);
	g->in = (struct x86_boot_in){
		.kernel = &g->k, .cmdline = "console=ttyS0 x", .regions = g->r, .nregions = g->nr
	};
}

static u64 rd(struct rig *g, gpa_t at, unsigned n)
{
	u64 v = 0;

	assert_int_equal(mem_read(g->m, at, &v, n), 0);
	return v;
}

static void check_cmdline(struct rig *g, gpa_t at)
{
	char s[16];

	assert_int_equal(mem_read(g->m, at, s, sizeof(s)), 0);
	assert_string_equal(s, "console=ttyS0 x");
}

/* Walks the page tables for @a as a CPU does. */
static u64 translate(struct rig *g, u64 cr3, u64 a)
{
	u64 e = rd(g, (cr3 & ~0xfffull) + 8 * (a >> 39 & 511), 8);

	assert_int_equal(e & 3, 3);
	e = rd(g, (e & ~0xfffull) + 8 * (a >> 30 & 511), 8);
	assert_int_equal(e & 0x83, 3);
	e = rd(g, (e & ~0xfffull) + 8 * (a >> 21 & 511), 8);
	assert_int_equal(e & 0x83, 0x83);
	return (e & ~0x1fffffull) + (a & 0x1fffff);
}

static void linux64(void **state)
{
	struct x86_cpu *c = cpu_new();
	struct rig g;
	static u8 initrd[5000];
	u64 desc;

	memset(initrd, 0xab, sizeof(initrd));
	rig_new(&g, KERNEL_ENTRY_LINUX64, 5120 * MIB);
	g.in.initrd = initrd;
	g.in.initrd_size = sizeof(initrd);
	assert_int_equal(x86_boot_load(&g.in, g.m, &g.e, &g.b), 0);
	x86_boot_cpu(c, &g.b);

	assert_int_equal(rd(&g, 16 * MIB, 4), 0xf490);
	assert_int_equal(c->rip, 16 * MIB + 0x200);
	assert_int_equal(c->r[X86_RSI], X86_ZEROPAGE_BASE);
	assert_int_equal(x86_get_rflags(c), 2);
	assert_int_equal(c->cr0 & (CR0_PE | CR0_PG), CR0_PE | CR0_PG);
	assert_int_equal(c->cr4 & CR4_PAE, CR4_PAE);
	assert_int_equal(c->efer & (EFER_LME | EFER_LMA), EFER_LME | EFER_LMA);
	assert_int_equal(c->seg[X86_CS].sel, 0x10);
	assert_true(x86_code64(c));
	assert_int_equal(c->seg[X86_DS].sel, 0x18);
	assert_int_equal(c->seg[X86_SS].sel, 0x18);
	/* The cached segments are what a reload from the table would give. */
	desc = rd(&g, c->gdtr.base + 0x10, 8);
	assert_int_equal(desc >> 40 & 0xf0ff, c->seg[X86_CS].attr);
	desc = rd(&g, c->gdtr.base + 0x18, 8);
	assert_int_equal(desc >> 40 & 0xf0ff, c->seg[X86_DS].attr);
	assert_int_equal(desc & 0xffff, 0xffff);
	assert_int_equal(translate(&g, c->cr3, 0), 0);
	assert_int_equal(translate(&g, c->cr3, 16 * MIB + 5), 16 * MIB + 5);
	assert_int_equal(translate(&g, c->cr3, 0xffffffff), 0xffffffff);

	/* boot_params */
	assert_int_equal(rd(&g, X86_ZEROPAGE_BASE + 0x1fe, 2), 0xaa55);
	assert_int_equal(rd(&g, X86_ZEROPAGE_BASE + 0x202, 4), 0x53726448);
	assert_int_equal(rd(&g, X86_ZEROPAGE_BASE + 0x210, 1), 0xff);
	assert_int_equal(rd(&g, X86_ZEROPAGE_BASE + 0x211, 1), 1);
	assert_int_equal(rd(&g, X86_ZEROPAGE_BASE + 0x1ef, 1), 0); /* sentinel */
	assert_int_equal(rd(&g, X86_ZEROPAGE_BASE + 0x070, 8), X86_ACPI_BASE);
	check_cmdline(&g, rd(&g, X86_ZEROPAGE_BASE + 0x228, 4));
	/* The initrd ends at initrd_addr_max, rounded down to a page. */
	assert_int_equal(rd(&g, X86_ZEROPAGE_BASE + 0x218, 4), 0x7fffe000);
	assert_int_equal(rd(&g, X86_ZEROPAGE_BASE + 0x21c, 4), sizeof(initrd));
	assert_int_equal(rd(&g, 0x7fffe000 + sizeof(initrd) - 1, 2), 0xab);
	/* E820: six entries, the last from 4 GiB. */
	assert_int_equal(rd(&g, X86_ZEROPAGE_BASE + 0x1e8, 1), 6);
	assert_int_equal(rd(&g, X86_ZEROPAGE_BASE + 0x2d0, 8), 0);
	assert_int_equal(rd(&g, X86_ZEROPAGE_BASE + 0x2d8, 8), 0x9fc00);
	assert_int_equal(rd(&g, X86_ZEROPAGE_BASE + 0x2d0 + 5 * 20, 8), 1ull << 32);
	assert_int_equal(rd(&g, X86_ZEROPAGE_BASE + 0x2d8 + 5 * 20, 8), 2048 * MIB);

	memset(c, 0, sizeof(*c));
	x86_boot_cpu(c, NULL);
	assert_true(c->wait_sipi);
	mem_free(g.m);
	free(c);
}

static void check_flat32(const struct x86_cpu *c)
{
	assert_int_equal(c->cr0 & (CR0_PE | CR0_PG), CR0_PE);
	assert_int_equal(c->cr4 | c->efer, 0);
	assert_int_equal(x86_get_rflags(c) & (X86_IF | X86_VM | X86_TF), 0);
	assert_int_equal(c->seg[X86_CS].attr & (SEG_L | SEG_DB), SEG_DB);
	for (unsigned i = 0; i < X86_SEGS; i++) {
		assert_int_equal(c->seg[i].base, 0);
		assert_int_equal(c->seg[i].limit, 0xffffffff);
		assert_true(c->seg[i].attr & SEG_P);
	}
	assert_int_equal(c->tr.limit, 0x67);
}

static void pvh(void **state)
{
	struct x86_cpu *c = cpu_new();
	struct rig g;
	gpa_t info, list;

	rig_new(&g, KERNEL_ENTRY_PVH, 64 * MIB);
	g.in.initrd = text;
	g.in.initrd_size = sizeof(text);
	assert_int_equal(x86_boot_load(&g.in, g.m, &g.e, &g.b), 0);
	x86_boot_cpu(c, &g.b);
	check_flat32(c);
	info = c->r[X86_RBX];
	assert_int_equal(rd(&g, info, 4), 0x336ec578);
	assert_int_equal(rd(&g, info + 4, 4), 1);
	assert_int_equal(rd(&g, info + 12, 4), 1);
	list = rd(&g, info + 16, 8);
	assert_int_equal(rd(&g, list, 8), 64 * MIB - sizeof(text));
	assert_int_equal(rd(&g, list + 8, 8), sizeof(text));
	check_cmdline(&g, rd(&g, info + 24, 8));
	assert_int_equal(rd(&g, info + 32, 8), X86_ACPI_BASE);
	list = rd(&g, info + 40, 8);
	assert_int_equal(rd(&g, info + 48, 4), 5);
	assert_int_equal(rd(&g, list + 4 * 24, 8), MIB);
	assert_int_equal(rd(&g, list + 4 * 24 + 8, 8), 63 * MIB);
	assert_int_equal(rd(&g, list + 4 * 24 + 16, 4), 1);
	mem_free(g.m);
	free(c);
}

static void multiboot(void **state)
{
	struct x86_cpu *c = cpu_new();
	struct rig g;
	gpa_t info, at, end;
	unsigned n = 0;

	rig_new(&g, KERNEL_ENTRY_MULTIBOOT, 64 * MIB);
	g.in.initrd = text;
	g.in.initrd_size = 100;
	assert_int_equal(x86_boot_load(&g.in, g.m, &g.e, &g.b), 0);
	x86_boot_cpu(c, &g.b);
	check_flat32(c);
	assert_int_equal(c->r[X86_RAX], 0x2badb002);
	info = c->r[X86_RBX];
	assert_int_equal(rd(&g, info, 4) & 0x4d, 0x4d);
	assert_int_equal(rd(&g, info + 4, 4), 639);
	assert_int_equal(rd(&g, info + 8, 4), 63 * 1024);
	check_cmdline(&g, rd(&g, info + 16, 4));
	assert_int_equal(rd(&g, info + 20, 4), 1);
	at = rd(&g, info + 24, 4);
	assert_int_equal(rd(&g, at, 4), 64 * MIB - 4096);
	assert_int_equal(rd(&g, at + 4, 4) - rd(&g, at, 4), 100);
	at = rd(&g, info + 48, 4);
	end = at + rd(&g, info + 44, 4);
	for (; at < end; at += rd(&g, at, 4) + 4, n++)
		assert_int_equal(rd(&g, at, 4), 20);
	assert_int_equal(n, 5);
	mem_free(g.m);
	free(c);
}

static void refusals(void **state)
{
	static char line[3000];
	struct rig g;

	/* The kernel itself. */
	rig_new(&g, KERNEL_ENTRY_LINUX64, 20 * MIB);
	assert_int_equal(x86_boot_load(&g.in, g.m, &g.e, &g.b), -ENOMEM);
	assert_non_null(strstr(g.e.msg, "--mem"));
	mem_free(g.m);

	rig_new(&g, KERNEL_ENTRY_LINUX64, 64 * MIB);
	g.k.seg[0].gpa = 0x7000;
	assert_int_equal(x86_boot_load(&g.in, g.m, &g.e, &g.b), -EINVAL);
	g.k.seg[0] = (struct kernel_seg){ UINT64_MAX - 10, text, 20, 20 };
	assert_int_equal(x86_boot_load(&g.in, g.m, &g.e, &g.b), -EINVAL);
	g.k.seg[0] = (struct kernel_seg){ 32 * MIB, text, 20, 20 };
	assert_int_equal(x86_boot_load(&g.in, g.m, &g.e, &g.b), -EINVAL);
	g.k.nseg = 0;

	/* A command line of exactly the limit is fine, one more is not. */
	memset(line, 'a', sizeof(line) - 1);
	g.in.cmdline = line + sizeof(line) - 1 - 2047;
	assert_int_equal(x86_boot_load(&g.in, g.m, &g.e, &g.b), 0);
	g.in.cmdline--;
	assert_int_equal(x86_boot_load(&g.in, g.m, &g.e, &g.b), -E2BIG);
	assert_non_null(strstr(g.e.msg, "2048"));
	mem_free(g.m);
}

/* Kernel at 16-24 MiB in 64 MiB of RAM: an initrd of 40 MiB fits, one byte more does not. */
static void initrd_fits_exactly(void **state)
{
	u8 *initrd = calloc(1, 41 * MIB);
	struct rig g;

	rig_new(&g, KERNEL_ENTRY_LINUX64, 64 * MIB);
	g.in.initrd = initrd;
	g.in.initrd_size = 40 * MIB;
	assert_int_equal(x86_boot_load(&g.in, g.m, &g.e, &g.b), 0);
	assert_int_equal(g.b.initrd, 24 * MIB);
	g.in.initrd_size++;
	assert_int_equal(x86_boot_load(&g.in, g.m, &g.e, &g.b), -ENOMEM);
	/* Itemised: kernel, init_size, initrd, RAM, and what would do. */
	assert_non_null(strstr(g.e.msg, "16 MiB to 24 MiB"));
	assert_non_null(strstr(g.e.msg, "init_size 8192 KiB"));
	assert_non_null(strstr(g.e.msg, "initrd has 40961 KiB"));
	assert_non_null(strstr(g.e.msg, "64 MiB of RAM"));
	assert_non_null(strstr(g.e.msg, "--mem"));
	g.in.initrd_size = UINT64_MAX;
	assert_int_equal(x86_boot_load(&g.in, g.m, &g.e, &g.b), -ENOMEM);
	/* A kernel limit below the kernel's own end. */
	g.in.initrd_size = 4096;
	g.k.initrd_addr_max = 0xffffff;
	assert_int_equal(x86_boot_load(&g.in, g.m, &g.e, &g.b), -ENOMEM);
	mem_free(g.m);
	free(initrd);
}

static void initrd_above_4g(void **state)
{
	struct rig g;

	rig_new(&g, KERNEL_ENTRY_LINUX64, 4096 * MIB);
	g.k.initrd_addr_max = 0xffffff; /* no room below */
	g.in.initrd = text;
	g.in.initrd_size = sizeof(text);
	assert_int_equal(x86_boot_load(&g.in, g.m, &g.e, &g.b), -ENOMEM);
	g.k.setup[0x236 - 0x1f1] |= 2; /* can be loaded above 4 GiB */
	assert_int_equal(x86_boot_load(&g.in, g.m, &g.e, &g.b), 0);
	assert_int_equal(g.b.initrd, 5120 * MIB - sizeof(text));
	assert_int_equal(rd(&g, X86_ZEROPAGE_BASE + 0x0c0, 4), 1);
	assert_int_equal(rd(&g, X86_ZEROPAGE_BASE + 0x218, 4), 1024 * MIB - sizeof(text));
	mem_free(g.m);
}

static void floor_grows(void **state)
{
	struct x86_mem_need n = { .kernel = 80 * MIB, .initrd = 10 * MIB, .cpus = 1 };
	u64 base = x86_mem_floor(&n), v;

	assert_int_equal(base % MIB, 0);
	assert_true(base > 80 * MIB + 50 * MIB);
	n.initrd_unpacked = 100 * MIB;
	v = x86_mem_floor(&n);
	assert_true(v >= base + 100 * MIB);
	n.cpus = 252;
	assert_true(x86_mem_floor(&n) >= v + 251 * MIB);
	n = (struct x86_mem_need){ UINT64_MAX, UINT64_MAX, UINT64_MAX, 252 };
	assert_true(x86_mem_floor(&n) > 1ull << 43); /* saturates, does not wrap */
}

static void tables_in_ram(void **state)
{
	struct rig g;
	struct x86_tables_in in;

	rig_new(&g, KERNEL_ENTRY_LINUX64, 64 * MIB);
	in = (struct x86_tables_in){ &g.t, g.r, g.nr, 4 };
	assert_int_equal(x86_tables_write(&in, g.m, &g.e), 0);
	assert_int_equal(rd(&g, X86_ACPI_BASE, 4), 0x20445352);	   /* "RSD " */
	assert_int_equal(rd(&g, X86_MPTABLE_BASE, 4), 0x5f504d5f); /* "_MP_" */
	mem_free(g.m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(linux64),
		cmocka_unit_test(pvh),
		cmocka_unit_test(multiboot),
		cmocka_unit_test(refusals),
		cmocka_unit_test(initrd_fits_exactly),
		cmocka_unit_test(initrd_above_4g),
		cmocka_unit_test(floor_grows),
		cmocka_unit_test(tables_in_ram),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
