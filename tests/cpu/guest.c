/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest.c - runs a sequence on the soft engine
 *
 * How it works
 * One vCPU, 2 MiB of RAM, no devices. Page tables map the regions of diff.h at the host's
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

#define LIMIT_INSNS 200000 /* a sequence of two dozen instructions, REP iterations counted */

static struct {
	struct mem *mem;
	struct bus *bus;
	struct soft *soft;
	struct diff_result *res;
	bool jit; /* run translated code, twice: DIFF_TIER=jit */
} gst;

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

static int put64(gpa_t table, unsigned index, u64 v)
{
	return mem_write(gst.mem, table + index * 8ull, &v, 8);
}

/* The regions of diff.h all lie in the first GiB. */
static int map_page(u64 va, u64 pte)
{
	static u64 areas[8];
	static unsigned n;
	unsigned i;
	int ret = 0;

	for (i = 0; i < n && areas[i] != va >> 21; i++)
		;
	BUG_IF(i == ARRAY_LEN(areas));
	if (i == n) {
		areas[n++] = va >> 21;
		ret = put64(GPA_PD_LOW, (unsigned)(va >> 21 & 511),
			    (GPA_PT + i * 4096) | PTE_P | PTE_W | PTE_U);
	}
	return ret ? ret : put64(GPA_PT + i * 4096, (unsigned)(va >> 12 & 511), pte);
}

static int make_tables(void)
{
	const u64 dir = PTE_P | PTE_W | PTE_U;
	unsigned page = 0;
	int ret = put64(GPA_PML4, 0, GPA_PDPT_LOW | dir);

	if (!ret)
		ret = put64(GPA_PDPT_LOW, 0, GPA_PD_LOW | dir);
	if (!ret)
		ret = put64(GPA_PML4, 511, GPA_PDPT_HIGH | dir);
	if (!ret)
		ret = put64(GPA_PDPT_HIGH, 510, GPA_PD_HIGH | dir);
	if (!ret)
		ret = put64(GPA_PD_HIGH, 0, GPA_PT_HIGH | dir);
	for (unsigned i = 0; i < 3 && !ret; i++)
		ret = put64(GPA_PT_HIGH, i, (GPA_SYSTEM + i * 4096) | PTE_P | PTE_W | PTE_NX);
	for (unsigned r = 0; r < DIFF_REGIONS; r++) {
		const struct diff_region *d = &diff_regions[r];
		u64 bits = PTE_P | PTE_U | (d->w ? PTE_W : 0) | (d->x ? 0 : PTE_NX);

		for (unsigned i = 0; i < d->pages && !ret; i++, page++)
			ret = map_page(d->va + i * 4096ull, page_gpa(page) | bits);
	}
	return ret;
}

/* Descriptors (SDM vol. 3, 3.4.5): 64-bit code and data of DPL 3, and a busy 64-bit TSS. */
static int make_gdt(void)
{
	const u16 no_map = 0xffff; /* I/O bitmap beyond the limit: every port is #GP */
	u64 tss = VA_SYSTEM + 4096;
	int ret = mem_write(gst.mem, GPA_SYSTEM + 4096 + 0x66, &no_map, 2);

	if (!ret)
		ret = put64(GPA_SYSTEM, DIFF_CS / 8, 0x00affb000000ffffull);

	if (!ret)
		ret = put64(GPA_SYSTEM, DIFF_SS / 8, 0x00cff3000000ffffull);
	if (!ret)
		ret = put64(GPA_SYSTEM, SEL_TSS / 8,
			    0x67 | (tss & 0xffffff) << 16 | 0x8bull << 40 |
				    (tss >> 24 & 0xff) << 56);
	return ret ? ret : put64(GPA_SYSTEM, SEL_TSS / 8 + 1, tss >> 32);
}

static bool on_exception(void *opaque, struct x86_cpu *c)
{
	struct diff_result *res = gst.res;

	res->end = DIFF_EXC;
	res->vector = c->exc.vector;
	res->err = c->exc.has_err ? c->exc.err : 0;
	res->cr2 = c->exc.vector == X86_PF_EXC ? c->exc.cr2 : 0;
	return true;
}

int guest_open(void)
{
	const struct mem_region ram = { .base = 0, .size = RAM_SIZE };
	struct soft_cfg cfg = {
		.ncpus = 1,
		.clock = SOFT_CLOCK_VIRTUAL,
		.mips = 1000,
		.cr4_allowed = CR4_PAE | CR4_PSE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT |
			       CR4_FSGSBASE | CR4_SMEP | CR4_SMAP,
		.xcr0_allowed = 3,
		.phys_mask = (1ull << 46) - 1,
		.tsc_khz = 1000000,
		.cpuid = cpuid_table,
	};
	const char *tier = getenv("DIFF_TIER");
	int ret;

	if (diff_v3()) {
		cfg.cr4_allowed |= CR4_OSXSAVE;
		cfg.xcr0_allowed |= XCR0_AVX;
	}
	gst.jit = tier && !strcmp(tier, "jit");
	cfg.tier = gst.jit ? SOFT_TIER_JIT : SOFT_TIER_INTERP;
	ret = mem_new(&ram, 1, NULL, &gst.mem);

	if (!ret)
		ret = bus_new(&gst.bus);
	cfg.mem = gst.mem;
	cfg.bus = gst.bus;
	if (!ret)
		ret = soft_new(&cfg, NULL, &gst.soft);
	if (!ret)
		ret = make_tables();
	if (!ret)
		ret = make_gdt();
	if (!ret)
		soft_set_exc_hook(gst.soft, on_exception, NULL);
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

u64 guest_stat(const char *name)
{
	struct stat_query q = { .name = name };

	soft_stats(gst.soft, stat_line, &q);
	return q.val;
}

void guest_close(void)
{
	soft_free(gst.soft);
	bus_free(gst.bus);
	mem_free(gst.mem);
	gst.soft = NULL;
	gst.bus = NULL;
	gst.mem = NULL;
}

static void load_system(struct x86_cpu *c, bool compat)
{
	const struct x86_seg data = { .limit = ~0u, .sel = DIFF_SS, .attr = 0xc0f3 };

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
	c->seg[X86_CS] = (struct x86_seg){ .limit = ~0u, .sel = DIFF_CS, .attr = 0xa0fb };
	if (compat)
		c->seg[X86_CS] = (struct x86_seg){ .limit = ~0u, .sel = DIFF_CS32, .attr = 0xc0fb };
	c->seg[X86_SS] = c->seg[X86_DS] = c->seg[X86_ES] = data;
	c->gdtr = (struct x86_dtr){ .base = VA_SYSTEM, .limit = SEL_TSS + 15 };
	c->idtr = (struct x86_dtr){ .base = VA_SYSTEM + 8192, .limit = 4095 };
	c->ldtr = (struct x86_seg){ .attr = 0x82 };
	c->tr = (struct x86_seg){
		.base = VA_SYSTEM + 4096, .limit = 0x67, .sel = SEL_TSS, .attr = 0x8b
	};
	c->halted = c->wait_sipi = false;
	c->shadow = 0;
}

static void load_state(struct x86_cpu *c, const struct diff_seq *q, bool keep_tlb)
{
	const struct diff_state *s = &q->init;

	load_system(c, q->compat);
	memcpy(c->r, s->r, sizeof(s->r));
	c->rip = s->rip;
	x86_put_rflags(c, s->rflags);
	c->seg[X86_FS].base = s->fsbase;
	c->seg[X86_GS].base = s->gsbase;
	memcpy(&c->x, &s->fx, DIFF_FX);
	memcpy(c->x.ymmh, q->ymmh, sizeof(q->ymmh));
	c->x.fop = 0;
	c->x.fip = c->x.fdp = 0;
	x86_derive(c);
	if (keep_tlb)
		soft_cpu_loaded(gst.soft, 0);
	else
		soft_cpu_changed(gst.soft, 0);
}

/* Only pages that differ are written: the others keep what the engine knows about them. */
static void load_mem(const u8 *mem)
{
	for (unsigned i = 0; i < DIFF_PAGES; i++) {
		const u8 *now = mem_ptr(gst.mem, page_gpa(i), 4096);

		if (memcmp(now, mem + i * 4096, 4096))
			BUG_IF(mem_write(gst.mem, page_gpa(i), mem + i * 4096, 4096));
	}
}

void guest_fetch_mem(u8 *dst)
{
	for (unsigned i = 0; i < DIFF_PAGES; i++)
		memcpy(dst + i * 4096, mem_ptr(gst.mem, page_gpa(i), 4096), 4096);
}

void guest_run(const struct diff_seq *q, struct diff_result *ret)
{
	struct x86_cpu *c = soft_cpu(gst.soft, 0);
	enum engine_exit why;

	memset(ret, 0, sizeof(*ret));
	ret->end = DIFF_BROKEN;
	gst.res = ret;
	load_mem(q->mem);
	load_state(c, q, false);
	soft_set_limit(gst.soft, LIMIT_INSNS);
	why = soft_run(gst.soft, NULL, NULL);
	if (gst.jit) {
		/* Again, with translated code and a warm TLB: now accesses happen in host code. */
		memset(ret, 0, sizeof(*ret));
		ret->end = DIFF_BROKEN;
		load_mem(q->mem);
		load_state(c, q, true);
		soft_set_limit(gst.soft, LIMIT_INSNS);
		why = soft_run(gst.soft, NULL, NULL);
	}
	if (why == ENGINE_STOPPED && ret->end != DIFF_EXC)
		ret->end = DIFF_TIMEOUT;
	memcpy(ret->s.r, c->r, sizeof(ret->s.r));
	ret->s.rip = c->rip;
	ret->s.rflags = x86_get_rflags(c);
	ret->s.fsbase = c->seg[X86_FS].base;
	ret->s.gsbase = c->seg[X86_GS].base;
	memcpy(&ret->s.fx, &c->x, DIFF_FX);
	memcpy(ret->ymmh, c->x.ymmh, sizeof(ret->ymmh));
}
