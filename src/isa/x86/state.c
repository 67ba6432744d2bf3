/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.c - power-on, INIT, start-up IPI, and what follows from the segment registers
 *
 * The values are those of SDM vol. 3, table 9-1.
 */
#include "isa/x86/state.h"

#include "isa/x86/sys_priv.h"

#include <string.h>

void x86_derive(struct x86_cpu *c)
{
	bool code64 = x86_code64(c);

	if (x86_real_mode(c))
		c->cpl = 0;
	else if (c->rflags & X86_VM)
		c->cpl = 3;
	else
		c->cpl = (u8)seg_dpl(&c->seg[X86_SS]);
	for (int s = 0; s < X86_SEGS; s++) {
		bool flat = code64 && s != X86_FS && s != X86_GS;

		c->segbase[s] = flat ? 0 : c->seg[s].base;
	}
	c->segbase[X86_SEGS] = 0;
	c->segbase[X86_SEGS + 1] = 0;
	c->r[X86_ZERO] = 0;
}

void x86_mode_sync(struct x86_cpu *c)
{
	x86_derive(c);
	if (c->ops && c->ops->mode_changed)
		c->ops->mode_changed(c);
}

/* What power-on and INIT have in common. */
static void reset_common(struct x86_cpu *c)
{
	const struct x86_cpuid_entry *sig = x86_cpuid_find(c, 1, 0);

	memset(c->r, 0, sizeof(c->r));
	c->r[X86_RDX] = sig ? sig->eax : 0x600;
	c->rip = 0xfff0;
	x86_put_rflags(c, 0);
	for (int s = 0; s < X86_SEGS; s++)
		c->seg[s] = (struct x86_seg){ .limit = 0xffff, .attr = ATTR_DATA16 };
	c->seg[X86_CS] = (struct x86_seg){
		.sel = 0xf000, .base = 0xffff0000, .limit = 0xffff, .attr = ATTR_CODE16
	};
	c->ldtr = (struct x86_seg){ .limit = 0xffff, .attr = SEG_P | SYS_LDT };
	c->tr = (struct x86_seg){ .limit = 0xffff, .attr = SEG_P | SYS_TSS_BUSY };
	c->gdtr = (struct x86_dtr){ .limit = 0xffff };
	c->idtr = (struct x86_dtr){ .limit = 0xffff };
	c->cr2 = 0;
	c->cr3 = 0;
	c->cr4 = 0;
	/* LMA must follow PG; we clear the whole register, so that an AP starts with NX off. */
	c->efer = 0;
	memset(c->dr, 0, sizeof(c->dr));
	c->dr6 = 0xffff0ff0;
	c->dr7 = 0x400;
	c->halted = false;
	c->wait_sipi = false;
	c->nmi_blocked = false;
	c->nmi_pending = false;
	c->shadow = 0;
	c->lin_explicit = false;
	memset(&c->exc, 0, sizeof(c->exc));
}

static void reset_done(struct x86_cpu *c)
{
	if (c->ops && c->ops->tlb_flush_all)
		c->ops->tlb_flush_all(c);
	x86_mode_sync(c);
}

void x86_reset(struct x86_cpu *c)
{
	reset_common(c);
	c->cr0 = CR0_CD | CR0_NW | CR0_ET;
	c->xcr0 = 1;
	c->star = c->lstar = c->cstar = c->fmask = 0;
	c->kernel_gs_base = c->tsc_aux = 0;
	c->sysenter_cs = c->sysenter_esp = c->sysenter_eip = 0;
	c->pat = X86_PAT_RESET;
	/* Fast strings on; branch trace store and PEBS reported as not available. */
	c->misc_enable = BIT(0) | BIT(11) | BIT(12);
	if (x86_cpuid_bit(c, 1, 0, 2, 3))
		c->misc_enable |= BIT(18); /* MONITOR is offered, so its switch is on */
	c->tsc_adjust = 0;
	c->spec_ctrl = 0;
	c->mcg_status = 0;
	c->mtrr_def = 0;
	memset(c->mtrr_fixed, 0, sizeof(c->mtrr_fixed));
	memset(c->mtrr_base, 0, sizeof(c->mtrr_base));
	memset(c->mtrr_mask, 0, sizeof(c->mtrr_mask));
	c->ucode_rev = X86_UCODE_REV;

	memset(&c->x, 0, sizeof(c->x));
	c->x.fcw = 0x40;
	c->x.ftw = 0xff; /* tag word 5555H: every register valid, holding +0.0 */
	c->x.mxcsr = X86_MXCSR_INIT;
	c->x.mxcsr_mask = X86_MXCSR_MASK;
	reset_done(c);
}

void x86_init_signal(struct x86_cpu *c)
{
	u64 cache = c->cr0 & (CR0_CD | CR0_NW);

	reset_common(c);
	c->cr0 = cache | CR0_ET;
	c->wait_sipi = true;
	reset_done(c);
}

void x86_sipi(struct x86_cpu *c, u8 vector)
{
	if (!c->wait_sipi)
		return;
	c->wait_sipi = false;
	c->halted = false;
	c->seg[X86_CS].sel = (u16)(vector << 8);
	c->seg[X86_CS].base = (u64)vector << 12;
	c->rip = 0;
	x86_mode_sync(c);
}
