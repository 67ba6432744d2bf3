/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot.c - load a kernel and enter it
 *
 * How it works
 * Three ways in. Linux, by the 64-bit entry of the x86 boot protocol: long mode, the low 4 GiB
 * mapped to themselves, RSI = boot_params. PVH (the direct boot ABI of Xen's HVM guests) and
 * Multiboot 1, for bare-metal images: 32-bit protected mode with flat segments, paging off, an
 * information structure in EBX. What the protocols share is here: the segments, the command line,
 * the initrd, the descriptor table, the CPU's registers; their structures are in boot_linux.c and
 * boot_bare.c.
 *
 * Everything but kernel and initrd lies below X86_LOWMEM_END, at the fixed places of layout.h. A
 * kernel that loads over one of them is refused.
 */
#include "board/x86/boot.h"

#include "board/x86/boot_priv.h"
#include "board/x86/layout.h"

#include <errno.h>
#include <string.h>

/* Linux wants 0x10 and 0x18 (__BOOT_CS, __BOOT_DS); the 32-bit protocols leave it open. */
enum { SEL_CODE = 0x10, SEL_DATA = 0x18, SEL_TSS = 0x20 };

#define ATTR_CODE64 (0xb | SEG_S | SEG_P | SEG_L | SEG_G)
#define ATTR_CODE32 (0xb | SEG_S | SEG_P | SEG_DB | SEG_G)
#define ATTR_DATA (0x3 | SEG_S | SEG_P | SEG_DB | SEG_G)
#define ATTR_TSS (0xb | SEG_P) /* 32-bit or 64-bit, busy */
#define TSS_LIMIT 0x67u

#define MTRR_ENABLE 0x800u
#define MTRR_WB 6u
/* IA32_MISC_ENABLE: fast strings; branch trace and PEBS unavailable. */
#define MISC_ENABLE 0x1801u
#define PAT_RESET 0x0007040600070406ull

/* A descriptor from base 0, limit (in its own granularity) and attributes at their place. */
static u64 descriptor(u32 limit, u16 attr)
{
	return (limit & 0xffff) | (u64)attr << 40 | (u64)(limit >> 16 & 0xf) << 48;
}

static int write_gdt(struct mem *m, enum kernel_entry kind)
{
	bool code64 = kind == KERNEL_ENTRY_LINUX64;
	const u64 gdt[] = {
		0,
		0,
		descriptor(0xfffff, code64 ? ATTR_CODE64 : ATTR_CODE32),
		descriptor(0xfffff, ATTR_DATA),
		descriptor(TSS_LIMIT, ATTR_TSS),
		0, /* the upper half of a 64-bit TSS descriptor */
	};

	return mem_write(m, X86_GDT_BASE, gdt, sizeof(gdt));
}

static int load_segments(const struct kernel_image *k, struct mem *m, u64 low_end, struct err *e)
{
	/* mem_top counts what the kernel uses behind its segments before it knows its RAM. */
	if (k->mem_top > low_end)
		return err_set(
			e, -ENOMEM,
			"the kernel needs memory from %llu MiB to %llu MiB (init_size %llu KiB), "
			"but the VM has RAM up to %llu MiB only; use a larger --mem",
			(unsigned long long)k->mem_low >> 20,
			(unsigned long long)((k->mem_top + 0xfffff) >> 20),
			(unsigned long long)(k->init_size + 1023) >> 10,
			(unsigned long long)low_end >> 20);
	for (unsigned i = 0; i < k->nseg; i++) {
		const struct kernel_seg *s = &k->seg[i];
		u64 end;
		int rc = 0;

		if (s->filesz > s->memsz || __builtin_add_overflow(s->gpa, s->memsz, &end))
			return err_set(e, -EINVAL, "kernel segment %u: its size is nonsense", i);
		if (s->memsz == 0)
			continue;
		if (s->gpa < X86_HIMEM_BASE)
			return err_set(e, -EINVAL,
				       "the kernel has a segment at 0x%llx; below 1 MiB is the "
				       "board's own area",
				       (unsigned long long)s->gpa);
		if (end > k->mem_top)
			return err_set(e, -EINVAL, "kernel segment %u ends behind the kernel", i);
		if (s->filesz)
			rc = mem_write(m, s->gpa, s->data, s->filesz);
		if (rc == 0 && s->memsz > s->filesz)
			rc = mem_fill(m, s->gpa + s->filesz, 0, s->memsz - s->filesz);
		if (rc < 0)
			return err_sys(e, rc, "kernel segment at 0x%llx",
				       (unsigned long long)s->gpa);
	}
	return 0;
}

static int load_cmdline(const struct x86_boot_in *in, struct mem *m, struct err *e)
{
	size_t len = strlen(in->cmdline);
	/* The fixed place has room for more than any kernel takes, but a header can say anything.
	 */
	size_t max = X86_CMDLINE_MAX - 1;
	int rc;

	if (in->kernel->entry_kind == KERNEL_ENTRY_LINUX64 && in->kernel->cmdline_max)
		max = MIN(max, (size_t)in->kernel->cmdline_max);
	if (len > max)
		return err_set(e, -E2BIG,
			       "the kernel command line has %zu characters, this kernel takes %zu; "
			       "shorten --append",
			       len, max);
	rc = mem_write(m, X86_CMDLINE_BASE, in->cmdline, len + 1);
	return rc < 0 ? err_sys(e, rc, "writing the kernel command line") : 0;
}

int x86_boot_load(const struct x86_boot_in *in, struct mem *m, struct err *e, struct x86_boot *ret)
{
	struct x86_boot b = {
		.kind = in->kernel->entry_kind,
		.entry = in->kernel->entry,
		.cmdline = X86_CMDLINE_BASE,
	};
	int rc = load_segments(in->kernel, m, x86_low_ram_end(in->regions, in->nregions), e);

	if (rc == 0)
		rc = load_cmdline(in, m, e);
	if (rc == 0)
		rc = boot_place_initrd(in, e, &b.initrd);
	if (rc < 0)
		return rc;
	if (b.initrd)
		rc = mem_write(m, b.initrd, in->initrd, in->initrd_size);
	if (rc == 0)
		rc = write_gdt(m, b.kind);
	if (rc == 0 && b.kind == KERNEL_ENTRY_LINUX64)
		rc = boot_linux_info(in, m, &b);
	else if (rc == 0 && b.kind == KERNEL_ENTRY_PVH)
		rc = boot_pvh_info(in, m, &b);
	else if (rc == 0)
		rc = boot_multiboot_info(in, m, &b);
	if (rc < 0)
		return err_sys(e, rc, "writing boot information");
	*ret = b;
	return 0;
}

/* --- registers ------------------------------------------------------------------------------ */

static struct x86_seg flat(u16 sel, u16 attr)
{
	return (struct x86_seg){ .limit = 0xffffffff, .sel = sel, .attr = attr };
}

static void set_segments(struct x86_cpu *c, u16 code_attr)
{
	c->seg[X86_CS] = flat(SEL_CODE, code_attr);
	for (unsigned i = 0; i < X86_SEGS; i++)
		if (i != X86_CS)
			c->seg[i] = flat(SEL_DATA, ATTR_DATA);
	c->tr = (struct x86_seg){ .limit = TSS_LIMIT, .sel = SEL_TSS, .attr = ATTR_TSS };
	c->ldtr = (struct x86_seg){ 0 };
	c->gdtr = (struct x86_dtr){ .base = X86_GDT_BASE, .limit = 6 * 8 - 1 };
	c->idtr = (struct x86_dtr){ 0 };
	memset(c->segbase, 0, sizeof(c->segbase));
	c->cpl = 0;
}

void x86_boot_cpu(struct x86_cpu *c, const struct x86_boot *b)
{
	/*
	 * Firmware's part, on every vCPU alike (INIT keeps it): memory is write-back by default, so
	 * that a guest that reads the MTRRs finds its RAM cacheable.
	 */
	c->mtrr_def = MTRR_ENABLE | MTRR_WB;
	c->misc_enable = MISC_ENABLE;
	c->pat = PAT_RESET;
	if (!b) {
		c->wait_sipi = true;
		return;
	}
	memset(c->r, 0, sizeof(c->r));
	x86_put_rflags(c, 2); /* IF = 0 */
	c->rip = b->entry;
	c->wait_sipi = c->halted = false;
	switch (b->kind) {
	case KERNEL_ENTRY_LINUX64:
		set_segments(c, ATTR_CODE64);
		c->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
		c->cr3 = X86_PAGETABLE_BASE;
		c->cr4 = CR4_PAE;
		c->efer = EFER_LME | EFER_LMA;
		c->r[X86_RSI] = b->info;
		return;
	case KERNEL_ENTRY_PVH:
		c->r[X86_RBX] = b->info;
		break;
	case KERNEL_ENTRY_MULTIBOOT:
		c->r[X86_RAX] = 0x2badb002;
		c->r[X86_RBX] = b->info;
		break;
	}
	set_segments(c, ATTR_CODE32);
	c->cr0 = CR0_PE | CR0_ET;
	c->cr3 = c->cr4 = c->efer = 0;
}
