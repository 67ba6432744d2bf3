/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest.c - runs sequences on the soft engine, in three of them: one for each tier
 *
 * How it works
 * Each has one vCPU, 2 MiB of RAM, no devices. Page tables map the regions of diff.h at the host's
 * addresses with the same permissions, user mode, onto pages in a scattered order, so that an
 * access across a page boundary really takes two translations. GDT, TSS and IDT lie at
 * supervisor addresses in the upper half, as in Linux. The selectors are Linux's (diff.h). The
 * exception hook ends a run before anything is delivered, so the guest needs no kernel; the IDT
 * holds no gate, which makes every INT n the #GP that it is in Linux.
 */
#include "diff.h"

#include "cpu/soft/soft.h"
#include "isa/x86/sys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RAM_SIZE 0x200000u
#define GPA_PML4 0x1000u
#define GPA_PDPT_LOW 0x2000u
#define GPA_PD_LOW 0x3000u
#define GPA_PDPT_HIGH 0x4000u
#define GPA_PD_HIGH 0x5000u
#define GPA_PT_HIGH 0x6000u
#define GPA_PT 0x10000u	    /* one page a 2 MiB area in use */
#define GPA_SYSTEM 0x20000u /* GDT, TSS, IDT: 3 pages */
#define GPA_PAGES 0x40000u  /* the pages of the test, scattered over the next MiB */
#define VA_SYSTEM 0xffffffff80000000ull

#define PTE_P 1ull
#define PTE_W 2ull
#define PTE_U 4ull
#define PTE_NX (1ull << 63)

#define SEL_TSS 0x40
#define GPA_LDT (GPA_SYSTEM + 0x200u)

struct pte {
	gpa_t gpa;
	u64 val; /* with A and D clear */
};

struct guest {
	struct mem *mem;
	struct bus *bus;
	struct soft *soft;
	struct diff_result *res; /* of the run in progress */
	u64 from;		 /* instructions executed before it */
	struct pte ptes[DIFF_PTES_MAX];
	unsigned n_ptes;
	u64 areas[8]; /* 2 MiB areas that have a page table */
	unsigned n_areas;
};

static struct guest guests[DIFF_TIERS];

static const struct x86_cpuid_entry leaves[] = {
	{ .leaf = 0, .eax = 7, .ebx = 0x756e6547, .edx = 0x49656e69, .ecx = 0x6c65746e },
	{ .leaf = 1, .eax = 0x000106a5, .ecx = 0x00982201, .edx = 0x0789fbff },
	{ .leaf = 7, .indexed = true, .ebx = 0x00000081 | 1u << 20 },
	{ .leaf = 0x80000000, .eax = 0x80000008 },
	{ .leaf = 0x80000001, .ecx = 1, .edx = 0x2c100800 },
	{ .leaf = 0x80000008, .eax = 0x302e },
};

static const struct x86_cpuid_entry leaves_v3[] = {
	{ .leaf = 0, .eax = 7, .ebx = 0x756e6547, .edx = 0x49656e69, .ecx = 0x6c65746e },
	{ .leaf = 1, .eax = 0x000106a5, .ecx = 0x34d83201, .edx = 0x0789fbff },
	{ .leaf = 7, .indexed = true, .ebx = 0x000001a9 | 1u << 20 },
	{ .leaf = 0x80000000, .eax = 0x80000008 },
	{ .leaf = 0x80000001, .ecx = 0x21, .edx = 0x2c100800 },
	{ .leaf = 0x80000008, .eax = 0x302e },
};

static const struct x86_cpuid_entry *cpuid_table(void *opaque, unsigned cpu, unsigned *ret_n)
{
	if (diff_v3()) {
		*ret_n = ARRAY_LEN(leaves_v3);
		return leaves_v3;
	}
	*ret_n = ARRAY_LEN(leaves);
	return leaves;
}

/* Page @i of the memory image. 7 has no common factor with 256: the order is scattered. */
static gpa_t page_gpa(unsigned i)
{
	return GPA_PAGES + (gpa_t)(i * 7 % 256) * 4096 % 0x100000;
}

static int put64(struct guest *g, gpa_t table, unsigned index, u64 v)
{
	gpa_t at = table + index * 8ull;

	if (at < GPA_SYSTEM) {
		BUG_IF(g->n_ptes == DIFF_PTES_MAX);
		g->ptes[g->n_ptes++] = (struct pte){ at, v };
	}
	return mem_write(g->mem, at, &v, 8);
}

/* The regions of diff.h all lie in the first GiB. */
static int map_page(struct guest *g, u64 va, u64 pte)
{
	unsigned i;
	int ret = 0;

	for (i = 0; i < g->n_areas && g->areas[i] != va >> 21; i++)
		;
	BUG_IF(i == ARRAY_LEN(g->areas));
	if (i == g->n_areas) {
		g->areas[g->n_areas++] = va >> 21;
		ret = put64(g, GPA_PD_LOW, (unsigned)(va >> 21 & 511),
			    (GPA_PT + i * 4096) | PTE_P | PTE_W | PTE_U);
	}
	return ret ? ret : put64(g, GPA_PT + i * 4096, (unsigned)(va >> 12 & 511), pte);
}

static int make_tables(struct guest *g)
{
	const u64 dir = PTE_P | PTE_W | PTE_U;
	unsigned page = 0;
	int ret = put64(g, GPA_PML4, 0, GPA_PDPT_LOW | dir);

	if (!ret)
		ret = put64(g, GPA_PDPT_LOW, 0, GPA_PD_LOW | dir);
	if (!ret)
		ret = put64(g, GPA_PML4, 511, GPA_PDPT_HIGH | dir);
	if (!ret)
		ret = put64(g, GPA_PDPT_HIGH, 510, GPA_PD_HIGH | dir);
	if (!ret)
		ret = put64(g, GPA_PD_HIGH, 0, GPA_PT_HIGH | dir);
	for (unsigned i = 0; i < 3 && !ret; i++)
		ret = put64(g, GPA_PT_HIGH, i, (GPA_SYSTEM + i * 4096) | PTE_P | PTE_W | PTE_NX);
	for (unsigned r = 0; r < DIFF_REGIONS; r++) {
		const struct diff_region *d = &diff_regions[r];
		u64 bits = PTE_P | PTE_U | (d->w ? PTE_W : 0) | (d->x ? 0 : PTE_NX);

		for (unsigned i = 0; i < d->pages && !ret; i++, page++)
			ret = map_page(g, d->va + i * 4096ull, page_gpa(page) | bits);
	}
	return ret;
}

/* A 16-bit segment of DPL 3 and 64 KiB, as modify_ldt(2) makes them. */
static u64 descriptor16(u64 base, bool code)
{
	return 0xffff | (base & 0xffffff) << 16 | (code ? 0xfbull : 0xf3ull) << 40 |
	       (base >> 24 & 0xff) << 56;
}

/* Descriptors (SDM vol. 3, 3.4.5): code and data of DPL 3, and a busy 64-bit TSS. */
static int make_gdt(struct guest *g)
{
	const u16 no_map = 0xffff; /* I/O bitmap beyond the limit: every port is #GP */
	u64 tss = VA_SYSTEM + 4096;
	int ret = mem_write(g->mem, GPA_SYSTEM + 4096 + 0x66, &no_map, 2);

	if (!ret)
		ret = put64(g, GPA_SYSTEM, DIFF_CS32 / 8, 0x00cffb000000ffffull);
	if (!ret)
		ret = put64(g, GPA_SYSTEM, DIFF_CS / 8, 0x00affb000000ffffull);
	if (!ret)
		ret = put64(g, GPA_SYSTEM, DIFF_SS / 8, 0x00cff3000000ffffull);
	if (!ret)
		ret = put64(g, GPA_SYSTEM, SEL_TSS / 8,
			    0x67 | (tss & 0xffffff) << 16 | 0x8bull << 40 |
				    (tss >> 24 & 0xff) << 56);
	if (!ret)
		ret = put64(g, GPA_SYSTEM, SEL_TSS / 8 + 1, tss >> 32);
	if (!ret)
		ret = put64(g, GPA_LDT, DIFF_CS16 / 8, descriptor16(DIFF_CODE, true));
	if (!ret)
		ret = put64(g, GPA_LDT, DIFF_DS16 / 8, descriptor16(DIFF_DATA, false));
	if (!ret)
		ret = put64(g, GPA_LDT, DIFF_SS16 / 8, descriptor16(DIFF_STACK, false));
	if (!ret)
		ret = put64(g, GPA_LDT, DIFF_CS16_SMC / 8, descriptor16(DIFF_SMC, true));
	return ret;
}

static bool on_exception(void *opaque, struct x86_cpu *c)
{
	struct diff_result *res = ((struct guest *)opaque)->res;

	res->end = DIFF_EXC;
	res->vector = c->exc.vector;
	res->err = c->exc.has_err ? c->exc.err : 0;
	res->cr2 = c->exc.vector == X86_PF_EXC ? c->exc.cr2 : 0;
	return true;
}

static int open_one(struct guest *g, enum soft_tier tier)
{
	const struct mem_region ram = { .base = 0, .size = RAM_SIZE };
	struct soft_cfg cfg = {
		.ncpus = 1,
		.clock = SOFT_CLOCK_VIRTUAL,
		.mips = 1000,
		.tier = tier,
		.code_cache = 1 << 20, /* its segments are emptied all the time */
		.cr4_allowed = CR4_PAE | CR4_PSE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT |
			       CR4_FSGSBASE | CR4_SMEP | CR4_SMAP,
		.xcr0_allowed = 3,
		.phys_mask = (1ull << 46) - 1,
		.tsc_khz = 1000000,
		.cpuid = cpuid_table,
	};
	int ret = mem_new(&ram, 1, NULL, &g->mem);

	if (diff_v3()) {
		cfg.cr4_allowed |= CR4_OSXSAVE;
		cfg.xcr0_allowed |= XCR0_AVX;
	}

	if (!ret)
		ret = bus_new(&g->bus);
	cfg.mem = g->mem;
	cfg.bus = g->bus;
	if (!ret)
		ret = soft_new(&cfg, NULL, &g->soft);
	if (!ret)
		ret = make_tables(g);
	if (!ret)
		ret = make_gdt(g);
	if (!ret)
		soft_set_exc_hook(g->soft, on_exception, g);
	return ret;
}

int guest_open(void)
{
	static const enum soft_tier tiers[] = { [DIFF_INTERP] = SOFT_TIER_INTERP,
						[DIFF_JIT] = SOFT_TIER_JIT,
						[DIFF_MIX] = SOFT_TIER_MIX };
	int ret = 0;

	for (unsigned t = 0; t < DIFF_TIERS && !ret; t++)
		ret = open_one(&guests[t], tiers[t]);
	return ret;
}

struct stat_query {
	const char *name;
	u64 val;
};

static void stat_line(void *o, const char *name, u64 val)
{
	struct stat_query *q = o;

	if (!strcmp(q->name, name))
		q->val = val;
}

u64 guest_stat(enum diff_tier t, const char *name)
{
	struct stat_query q = { .name = name };

	soft_stats(guests[t].soft, stat_line, &q);
	return q.val;
}

void guest_close(void)
{
	for (unsigned t = 0; t < DIFF_TIERS; t++) {
		soft_free(guests[t].soft);
		bus_free(guests[t].bus);
		mem_free(guests[t].mem);
		guests[t] = (struct guest){ 0 };
	}
}

/* CS, and DS and ES, by mode. SS is DS's, but for 16-bit code. */
static void load_segments(struct x86_cpu *c, const struct diff_seq *q)
{
	const struct x86_seg flat = { .limit = ~0u, .sel = DIFF_SS, .attr = 0xc0f3 };

	c->seg[X86_CS] = (struct x86_seg){ .limit = ~0u, .sel = DIFF_CS, .attr = 0xa0fb };
	c->seg[X86_SS] = c->seg[X86_DS] = c->seg[X86_ES] = flat;
	if (q->mode == DIFF_32)
		c->seg[X86_CS] = (struct x86_seg){ .limit = ~0u, .sel = DIFF_CS32, .attr = 0xc0fb };
	if (q->mode != DIFF_16)
		return;
	c->seg[X86_CS] = (struct x86_seg){ .base = diff_cs_base(q),
					   .limit = 0xffff,
					   .sel = q->base >= DIFF_SMC ? DIFF_CS16_SMC : DIFF_CS16,
					   .attr = 0x00fb };
	c->seg[X86_DS] = (struct x86_seg){
		.base = DIFF_DATA, .limit = 0xffff, .sel = DIFF_DS16, .attr = 0x00f3
	};
	c->seg[X86_ES] = c->seg[X86_DS];
	c->seg[X86_SS] = (struct x86_seg){
		.base = DIFF_STACK, .limit = 0xffff, .sel = DIFF_SS16, .attr = 0x00f3
	};
}

static void load_system(struct x86_cpu *c, const struct diff_seq *q)
{
	c->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
	c->cr3 = GPA_PML4;
	c->cr4 = CR4_PAE | CR4_PSE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_FSGSBASE |
		 CR4_SMEP | CR4_SMAP;
	if (diff_v3()) {
		c->cr4 |= CR4_OSXSAVE;
		c->xcr0 = 7;
	}
	c->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NX;
	memset(c->seg, 0, sizeof(c->seg));
	load_segments(c, q);
	c->gdtr = (struct x86_dtr){ .base = VA_SYSTEM, .limit = SEL_TSS + 15 };
	c->idtr = (struct x86_dtr){ .base = VA_SYSTEM + 8192, .limit = 4095 };
	c->ldtr = (struct x86_seg){ .base = VA_SYSTEM + (GPA_LDT - GPA_SYSTEM),
				    .limit = 4 * 8 - 1,
				    .attr = 0x82 };
	c->tr = (struct x86_seg){
		.base = VA_SYSTEM + 4096, .limit = 0x67, .sel = SEL_TSS, .attr = 0x8b
	};
	c->halted = c->wait_sipi = false;
	c->shadow = 0;
}

static void load_state(struct guest *g, const struct diff_seq *q)
{
	struct x86_cpu *c = soft_cpu(g->soft, 0);
	const struct diff_state *s = &q->init;

	load_system(c, q);
	memcpy(c->r, s->r, sizeof(s->r));
	c->rip = s->rip - diff_cs_base(q);
	x86_put_rflags(c, s->rflags);
	c->seg[X86_FS].base = s->fsbase;
	c->seg[X86_GS].base = s->gsbase;
	memcpy(&c->x, &s->fx, DIFF_FX);
	memcpy(c->x.ymmh, q->ymmh, sizeof(q->ymmh));
	c->x.fop = 0;
	c->x.fip = c->x.fdp = 0;
	x86_derive(c);
}

/* Only pages that differ are written: the others keep what the engine knows about them. */
static void load_mem(struct guest *g, const u8 *mem)
{
	for (unsigned i = 0; i < DIFF_PAGES; i++) {
		const u8 *now = mem_ptr(g->mem, page_gpa(i), 4096);

		if (memcmp(now, mem + i * 4096, 4096) != 0)
			BUG_IF(mem_write(g->mem, page_gpa(i), mem + i * 4096, 4096));
	}
}

void guest_fetch_mem(enum diff_tier t, u8 *dst)
{
	for (unsigned i = 0; i < DIFF_PAGES; i++)
		memcpy(dst + i * 4096, mem_ptr(guests[t].mem, page_gpa(i), 4096), 4096);
}

u8 guest_byte(enum diff_tier t, long off)
{
	const u8 *page = mem_ptr(guests[t].mem, page_gpa((unsigned)off / 4096), 4096);

	return page[off % 4096];
}

bool guest_mem_equal(enum diff_tier a, enum diff_tier b)
{
	for (unsigned i = 0; i < DIFF_PAGES; i++) {
		if (memcmp(mem_ptr(guests[a].mem, page_gpa(i), 4096),
			   mem_ptr(guests[b].mem, page_gpa(i), 4096), 4096) != 0)
			return false;
	}
	return true;
}

void guest_start(enum diff_tier t, const struct diff_seq *q, bool cold)
{
	struct guest *g = &guests[t];

	load_mem(g, q->mem);
	load_state(g, q);
	g->from = soft_insns(g->soft);
	if (!cold) {
		soft_cpu_loaded(g->soft, 0);
		return;
	}
	for (unsigned i = 0; i < g->n_ptes; i++)
		BUG_IF(mem_write(g->mem, g->ptes[i].gpa, &g->ptes[i].val, 8));
	soft_cpu_changed(g->soft, 0);
}

void guest_resume(enum diff_tier t, const struct diff_seq *q, u64 rip, u32 flags)
{
	struct guest *g = &guests[t];
	struct x86_cpu *c = soft_cpu(g->soft, 0);
	u64 fs = c->seg[X86_FS].base, gs = c->seg[X86_GS].base;

	load_system(c, q);
	c->seg[X86_FS].base = fs;
	c->seg[X86_GS].base = gs;
	c->rip = rip - diff_cs_base(q);
	x86_put_rflags(c, (x86_get_rflags(c) & ~(u64)(X86_ARITH | X86_RF | X86_TF)) |
				  (flags & X86_ARITH));
	x86_derive(c);
	soft_cpu_loaded(g->soft, 0);
}

void guest_go(enum diff_tier t, const struct diff_seq *q, u64 insns, struct diff_result *ret)
{
	struct guest *g = &guests[t];
	struct x86_cpu *c = soft_cpu(g->soft, 0);
	enum engine_exit why;

	memset(ret, 0, sizeof(*ret));
	ret->end = DIFF_BROKEN;
	g->res = ret;
	soft_set_limit(g->soft, insns);
	why = soft_run(g->soft, NULL, NULL);
	if (why == ENGINE_STOPPED && ret->end != DIFF_EXC)
		ret->end = DIFF_LIMIT;
	memcpy(ret->s.r, c->r, sizeof(ret->s.r));
	ret->s.rip = c->rip + diff_cs_base(q);
	ret->s.rflags = x86_get_rflags(c);
	ret->s.fsbase = c->seg[X86_FS].base;
	ret->s.gsbase = c->seg[X86_GS].base;
	memcpy(&ret->s.fx, &c->x, DIFF_FX);
	memcpy(ret->ymmh, c->x.ymmh, sizeof(ret->ymmh));
	ret->insns = soft_insns(g->soft) - g->from;
	for (unsigned i = 0; i < g->n_ptes; i++)
		memcpy(&ret->ptes[i], mem_ptr(g->mem, g->ptes[i].gpa, 8), 8);
}
