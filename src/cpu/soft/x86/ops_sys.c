/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_sys.c - system instructions: privilege checks here, semantics in isa/x86
 *
 * How it works
 * op_sys runs one of enum sys. Each ends its block, so it may read the clock, touch devices and
 * change the mode, and the loop looks again before the next instruction. A function returns 0 to
 * go on behind the instruction, X86_FAULT with c->exc set, or SYS_JUMPED if RIP is already set.
 */
#include "cpu/soft/x86/ops.h"

#include "cpu/soft/soft_priv.h"

#define SYS_JUMPED 4

typedef int (*sys_fn)(struct vcpu *v, const struct op *op);

static int gp0(struct vcpu *v)
{
	return x86_fault_err(&v->c, X86_GP, 0);
}

static int ud(struct vcpu *v, const struct op *op)
{
	return x86_fault(&v->c, X86_UD);
}

static int too_long(struct vcpu *v, const struct op *op)
{
	return gp0(v);
}

static bool protected_mode(const struct vcpu *v)
{
	return (v->c.cr0 & CR0_PE) && !(v->c.rflags & X86_VM);
}

static u64 cut(const struct vcpu *v, u64 ip)
{
	return v->code_mode == CODE_64 ? ip : (u32)ip;
}

static u64 after(const struct vcpu *v, const struct op *op)
{
	return cut(v, next_rip(v, op));
}

/* A far transfer or event set RIP: derive the mode anew. */
static int jumped(struct vcpu *v, int r)
{
	if (r)
		return r;
	vcpu_mode_changed(v);
	return SYS_JUMPED;
}

/* --- software interrupts --------------------------------------------------------------------- */

static int soft_int(struct vcpu *v, const struct op *op, u8 vec, enum x86_event ev)
{
	v->c.rip = op_rip(v, op);
	v->no_trap = true;
	return jumped(v, x86_deliver(&v->c, ev, vec, after(v, op)));
}

static int sys_int(struct vcpu *v, const struct op *op)
{
	if ((v->c.rflags & X86_VM) && (v->c.rflags & X86_IOPL) != X86_IOPL)
		return gp0(v);
	return soft_int(v, op, (u8)op->imm, X86_EV_SOFT);
}

static int sys_int3(struct vcpu *v, const struct op *op)
{
	if (v->s->exc_hook) {
		x86_fault(&v->c, X86_BP);
		v->c.rip = op_rip(v, op);
		if (v->s->exc_hook(v->s->exc_opaque, &v->c)) {
			soft_stop(v->s, ENGINE_STOPPED);
			v->no_trap = true;
			return SYS_JUMPED;
		}
	}
	if (unlikely(v->s->dbg.int3)) {
		v->c.rip = op_rip(v, op);
		if (debug_int3(v))
			return SYS_JUMPED;
	}
	return soft_int(v, op, X86_BP, X86_EV_SOFT);
}

static int sys_int1(struct vcpu *v, const struct op *op)
{
	v->c.exc = (struct x86_exc){ .vector = X86_DB };
	return soft_int(v, op, X86_DB, X86_EV_ICEBP);
}

static int sys_into(struct vcpu *v, const struct op *op)
{
	return v->c.of ? soft_int(v, op, X86_OF_EXC, X86_EV_SOFT) : 0;
}

static int sys_iret(struct vcpu *v, const struct op *op)
{
	int r = x86_iret(&v->c, op->imm);

	/* RF holds for the next instruction; only breakpoints, and so single steps, can tell. */
	if (!r && !(v->c.dr7 & 0xff) && !(v->c.rflags & X86_TF))
		v->c.rflags &= ~(u64)X86_RF;
	return jumped(v, r);
}

/* --- flags and halting
 * ---------------------------------------------------------------------------- */

static int sys_hlt(struct vcpu *v, const struct op *op)
{
	if (v->c.cpl)
		return gp0(v);
	v->c.halted = true;
	return 0;
}

static bool io_privileged(const struct vcpu *v)
{
	return !protected_mode(v) ? !(v->c.rflags & X86_VM) || (v->c.rflags & X86_IOPL) == X86_IOPL
				  : v->c.cpl <= (v->c.rflags & X86_IOPL) >> 12;
}

static int sys_cli(struct vcpu *v, const struct op *op)
{
	if (!io_privileged(v))
		return gp0(v);
	v->c.rflags &= ~(u64)X86_IF;
	return 0;
}

static int sys_sti(struct vcpu *v, const struct op *op)
{
	if (!io_privileged(v))
		return gp0(v);
	if (!(v->c.rflags & X86_IF)) {
		v->c.rflags |= X86_IF;
		/*
		 * The shadow of one instruction. Events come at a turn's end or if something waits
		 * already, so it is enough to know that nothing was executed since.
		 */
		v->sti_at = vcpu_count(v);
	}
	return 0;
}

static int sys_pause(struct vcpu *v, const struct op *op)
{
	v->pause = v->end_turn = true;
	return 0;
}

/* --- registers
 * -------------------------------------------------------------------------------------- */

static int sys_clts(struct vcpu *v, const struct op *op)
{
	if (v->c.cpl)
		return gp0(v);
	v->c.cr0 &= ~CR0_TS;
	vcpu_mode_changed(v);
	return 0;
}

static int sys_cpuid(struct vcpu *v, const struct op *op)
{
	u32 o[4];

	x86_cpuid(&v->c, (u32)v->c.r[X86_RAX], (u32)v->c.r[X86_RCX], o);
	v->c.r[X86_RAX] = o[0];
	v->c.r[X86_RBX] = o[1];
	v->c.r[X86_RCX] = o[2];
	v->c.r[X86_RDX] = o[3];
	return 0;
}

static int sys_rdtsc(struct vcpu *v, const struct op *op)
{
	if ((v->c.cr4 & CR4_TSD) && v->c.cpl && (v->c.cr0 & CR0_PE))
		return gp0(v);
	u64 t = vcpu_x86_ops.tsc(&v->c) + v->c.tsc_adjust;
	v->c.r[X86_RAX] = (u32)t;
	v->c.r[X86_RDX] = t >> 32;
	if (op->aux == Y_RDTSCP)
		v->c.r[X86_RCX] = (u32)v->c.tsc_aux;
	return 0;
}

/* No performance counters (CPUID leaf 0xA is zero): no index is valid. */
static int sys_rdpmc(struct vcpu *v, const struct op *op)
{
	return gp0(v);
}

static int sys_rdmsr(struct vcpu *v, const struct op *op)
{
	u64 x;

	if (v->c.cpl)
		return gp0(v);
	int r = x86_rdmsr(&v->c, (u32)v->c.r[X86_RCX], &x);
	if (r)
		return r;
	v->c.r[X86_RAX] = (u32)x;
	v->c.r[X86_RDX] = x >> 32;
	return 0;
}

static int sys_wrmsr(struct vcpu *v, const struct op *op)
{
	if (v->c.cpl)
		return gp0(v);
	int r = x86_wrmsr(&v->c, (u32)v->c.r[X86_RCX],
			  v->c.r[X86_RDX] << 32 | (u32)v->c.r[X86_RAX]);
	if (!r)
		vcpu_mode_changed(v);
	return r;
}

static int sys_mov_from_cr(struct vcpu *v, const struct op *op)
{
	u64 x;

	if (v->c.cpl)
		return gp0(v);
	int r = x86_cr_read(&v->c, (unsigned)op->imm, &x);
	if (!r)
		v->c.r[op->dst / 8] = v->code_mode == CODE_64 ? x : (u32)x;
	return r;
}

static int sys_mov_to_cr(struct vcpu *v, const struct op *op)
{
	if (v->c.cpl)
		return gp0(v);
	int r = x86_cr_write(&v->c, (unsigned)op->imm,
			     v->code_mode == CODE_64 ? REG(u64, op->src) : REG(u32, op->src));
	if (!r)
		vcpu_mode_changed(v);
	return r;
}

static int sys_mov_from_dr(struct vcpu *v, const struct op *op)
{
	u64 x;

	if (v->c.cpl)
		return gp0(v);
	int r = x86_dr_read(&v->c, (unsigned)op->imm, &x);
	if (!r)
		v->c.r[op->dst / 8] = v->code_mode == CODE_64 ? x : (u32)x;
	return r;
}

static int sys_mov_to_dr(struct vcpu *v, const struct op *op)
{
	if (v->c.cpl)
		return gp0(v);
	int r = x86_dr_write(&v->c, (unsigned)op->imm,
			     v->code_mode == CODE_64 ? REG(u64, op->src) : REG(u32, op->src));
	if (!r)
		vcpu_mode_changed(v);
	return r;
}

static int sys_xgetbv(struct vcpu *v, const struct op *op)
{
	if (!(v->c.cr4 & CR4_OSXSAVE))
		return ud(v, op);
	if ((u32)v->c.r[X86_RCX] != 0)
		return gp0(v);
	v->c.r[X86_RAX] = (u32)v->c.xcr0;
	v->c.r[X86_RDX] = v->c.xcr0 >> 32;
	return 0;
}

static int sys_xsetbv(struct vcpu *v, const struct op *op)
{
	if (!(v->c.cr4 & CR4_OSXSAVE))
		return ud(v, op);
	if (v->c.cpl)
		return gp0(v);
	return x86_xsetbv(&v->c, (u32)v->c.r[X86_RCX],
			  v->c.r[X86_RDX] << 32 | (u32)v->c.r[X86_RAX]);
}

/* Caches are invisible here; only the privilege shows. */
static int sys_wbinvd(struct vcpu *v, const struct op *op)
{
	return v->c.cpl ? gp0(v) : 0;
}

static int sys_rdrand(struct vcpu *v, const struct op *op)
{
	rm_write(v, op, (unsigned)op->imm, rng_next(&v->s->guest_rng));
	v->c.fl = X86_CF | 2;
	v->c.of = 0;
	return 0;
}

static int sys_base(struct vcpu *v, const struct op *op)
{
	bool gs = op->aux == Y_RDGSBASE || op->aux == Y_WRGSBASE;
	struct x86_seg *s = &v->c.seg[gs ? X86_GS : X86_FS];

	if (!(v->c.cr4 & CR4_FSGSBASE) || v->code_mode != CODE_64)
		return ud(v, op);
	if (op->aux == Y_RDFSBASE || op->aux == Y_RDGSBASE) {
		rm_write(v, op, (unsigned)op->imm, s->base);
		return 0;
	}
	u64 x = rm_read(v, op, (unsigned)op->imm);
	if (!canonical(x))
		return gp0(v);
	s->base = x;
	v->c.segbase[gs ? X86_GS : X86_FS] = x;
	return 0;
}

static int sys_swapgs(struct vcpu *v, const struct op *op)
{
	u64 x = v->c.seg[X86_GS].base;

	if (v->code_mode != CODE_64)
		return ud(v, op);
	if (v->c.cpl)
		return gp0(v);
	v->c.seg[X86_GS].base = v->c.segbase[X86_GS] = v->c.kernel_gs_base;
	v->c.kernel_gs_base = x;
	return 0;
}

/* --- transfers
 * ---------------------------------------------------------------------------------------- */

static int sys_syscall(struct vcpu *v, const struct op *op)
{
	int r = jumped(v, x86_syscall(&v->c, after(v, op)));

	/* With TF in IA32_FMASK there is no trap behind SYSCALL. */
	v->no_trap = !(v->c.rflags & X86_TF);
	return r;
}

static int sys_sysret(struct vcpu *v, const struct op *op)
{
	return jumped(v, x86_sysret(&v->c, (unsigned)op->imm));
}

static int sys_sysenter(struct vcpu *v, const struct op *op)
{
	return jumped(v, x86_sysenter(&v->c));
}

static int sys_sysexit(struct vcpu *v, const struct op *op)
{
	return jumped(v, x86_sysexit(&v->c, (unsigned)op->imm));
}

/* Immediate forms: selector in disp, offset in imm, operand bytes in dst. */
static int sys_far_imm(struct vcpu *v, const struct op *op)
{
	u16 sel = (u16)op->disp;

	if (op->aux == Y_FAR_JMP_IMM)
		return jumped(v, x86_far_jmp(&v->c, sel, (u64)op->imm, op->dst));
	return jumped(v, x86_far_call(&v->c, sel, (u64)op->imm, op->dst, after(v, op)));
}

/* Memory forms: operand bytes in imm. */
static int sys_far_m(struct vcpu *v, const struct op *op)
{
	unsigned n = (unsigned)op->imm;
	u64 a = ea(v, op, n + 2, false);
	u64 off = n == 2 ? ld_u16(v, op, a) : n == 4 ? ld_u32(v, op, a) : ld_u64(v, op, a);
	u16 sel = ld_u16(v, op, lin_add(v, a, n));

	if (op->aux == Y_FAR_JMP_M)
		return jumped(v, x86_far_jmp(&v->c, sel, off, n));
	return jumped(v, x86_far_call(&v->c, sel, off, n, after(v, op)));
}

static int sys_far_ret(struct vcpu *v, const struct op *op)
{
	return jumped(v, x86_far_ret(&v->c, op->dst, (u16)op->imm));
}

/* --- ports: bytes in src, port in imm or -1 for DX
 * ------------------------------------------------------- */

static u16 port_of(const struct vcpu *v, const struct op *op)
{
	return op->imm < 0 ? (u16)v->c.r[X86_RDX] : (u16)op->imm;
}

static int sys_in(struct vcpu *v, const struct op *op)
{
	u64 x;

	if (x86_io_check(&v->c, port_of(v, op), op->src))
		return X86_FAULT;
	bus_read(v->s->cfg.bus, BUS_PIO, port_of(v, op), op->src, v->c.index, &x);
	if (op->src == 1)
		set_u8(v, 0, (u8)x);
	else if (op->src == 2)
		set_u16(v, 0, (u16)x);
	else
		set_u32(v, 0, (u32)x);
	return 0;
}

static int sys_out(struct vcpu *v, const struct op *op)
{
	u64 x = v->c.r[X86_RAX];

	if (x86_io_check(&v->c, port_of(v, op), op->src))
		return X86_FAULT;
	bus_write(v->s->cfg.bus, BUS_PIO, port_of(v, op), op->src,
		  op->src == 1	 ? (u8)x
		  : op->src == 2 ? (u16)x
				 : (u32)x,
		  v->c.index);
	return 0;
}

/* --- descriptor tables
 * --------------------------------------------------------------------------------- */

static int sys_lgdt(struct vcpu *v, const struct op *op)
{
	struct x86_dtr *d = op->aux == Y_LGDT ? &v->c.gdtr : &v->c.idtr;
	unsigned n = v->code_mode == CODE_64 ? 8 : 4;

	if (v->c.cpl)
		return gp0(v);
	u64 a = ea(v, op, n + 2, false);
	u16 limit = ld_u16(v, op, a);
	u64 b = lin_add(v, a, 2);
	u64 base = n == 8 ? ld_u64(v, op, b) : ld_u32(v, op, b);
	if (n == 4 && (op->flags & OPF_O16))
		base &= 0xffffff;
	if (n == 8 && !canonical(base))
		return gp0(v);
	d->limit = limit;
	d->base = base;
	return 0;
}

/* CR4.UMIP keeps what they store from user programs (SDM vol. 3, 2.5). */
static bool umip_hides(const struct vcpu *v)
{
	return (v->c.cr4 & CR4_UMIP) && v->c.cpl;
}

static int sys_sgdt(struct vcpu *v, const struct op *op)
{
	const struct x86_dtr *d = op->aux == Y_SGDT ? &v->c.gdtr : &v->c.idtr;
	unsigned n = v->code_mode == CODE_64 ? 8 : 4;

	if (umip_hides(v))
		return gp0(v);
	u64 a = ea(v, op, n + 2, true);
	u8 *p = mem_ref(v, op, a, n + 2, true);

	*(u16 *)(void *)p = d->limit;
	if (n == 8)
		*(u64 *)(void *)(p + 2) = d->base;
	else
		*(u32 *)(void *)(p + 2) = (u32)d->base;
	mem_commit(v, op, p);
	return 0;
}

static int sys_lldt(struct vcpu *v, const struct op *op)
{
	if (!protected_mode(v))
		return ud(v, op);
	if (v->c.cpl)
		return gp0(v);
	u16 sel = (u16)rm_read(v, op, 2);
	return op->aux == Y_LLDT ? x86_lldt(&v->c, sel) : x86_ltr(&v->c, sel);
}

/* SLDT, STR, SMSW: 16 bits to memory, operand size (imm) to a register. */
static int sys_store_sel(struct vcpu *v, const struct op *op)
{
	u64 x = op->aux == Y_SLDT ? v->c.ldtr.sel : op->aux == Y_STR ? v->c.tr.sel : v->c.cr0;

	if (op->aux != Y_SMSW && !protected_mode(v))
		return ud(v, op);
	if (umip_hides(v))
		return gp0(v);
	rm_write(v, op, op->flags & OPF_MEM ? 2 : (unsigned)op->imm, x);
	return 0;
}

static int sys_lmsw(struct vcpu *v, const struct op *op)
{
	if (v->c.cpl)
		return gp0(v);
	u64 x = rm_read(v, op, 2) & 15;
	/* LMSW sets PE but cannot clear it. */
	int r = x86_cr_write(&v->c, 0, (v->c.cr0 & ~0xeull) | x);
	if (!r)
		vcpu_mode_changed(v);
	return r;
}

static int sys_invlpg(struct vcpu *v, const struct op *op)
{
	if (v->c.cpl)
		return gp0(v);
	u64 a = v->c.r[op->base] + (v->c.r[op->index] << op->scale) + (u64)(s64)op->disp;
	if (op->flags & OPF_A32)
		a = (u32)a;
	else if (op->flags & OPF_A16)
		a = (u16)a;
	a += v->c.segbase[op->seg];
	if (v->code_mode != CODE_64)
		a = (u32)a;
	tlb_flush_page(v, a);
	return 0;
}

static int sys_invpcid(struct vcpu *v, const struct op *op)
{
	if (v->c.cpl)
		return gp0(v);
	const u64 *p = mem_ref(v, op, ea(v, op, 16, false), 16, false);
	u64 type = v->code_mode == CODE_64 ? REG(u64, op->src) : REG(u32, op->src);
	return x86_invpcid(&v->c, type, p[0], p[1]);
}

/* LAR, LSL, VERR, VERW: result size in imm. */
static int sys_probe_sel(struct vcpu *v, const struct op *op)
{
	u32 x = 0;
	int r;

	if (!protected_mode(v))
		return ud(v, op);
	u16 sel = (u16)rm_read(v, op, 2);
	if (op->aux == Y_LAR)
		r = x86_lar(&v->c, sel, &x);
	else if (op->aux == Y_LSL)
		r = x86_lsl(&v->c, sel, &x);
	else
		r = x86_verr(&v->c, sel, op->aux == Y_VERW);
	if (r < 0)
		return X86_FAULT;
	v->c.fl = (u8)((v->c.fl & ~X86_ZF) | (r ? X86_ZF : 0));
	if (r && (op->aux == Y_LAR || op->aux == Y_LSL)) {
		if (op->imm == 2)
			set_u16(v, op->src, (u16)x);
		else
			set_u32(v, op->src, x);
	}
	return 0;
}

static int sys_arpl(struct vcpu *v, const struct op *op)
{
	if (!protected_mode(v))
		return ud(v, op);
	u16 s = REG(u16, op->src), *p = rm_rmw(v, op, 2);
	bool raise = (*p & 3) < (s & 3);
	if (raise)
		*p = (u16)((*p & ~3) | (s & 3));
	if (op->flags & OPF_MEM)
		mem_commit(v, op, p);
	v->c.fl = (u8)((v->c.fl & ~X86_ZF) | (raise ? X86_ZF : 0));
	return 0;
}

static int sys_mov_to_seg(struct vcpu *v, const struct op *op)
{
	u16 sel = (u16)rm_read(v, op, 2);
	int r = x86_load_seg(&v->c, (enum x86_segreg)op->imm, sel);

	if (r)
		return r;
	vcpu_mode_changed(v);
	if (op->imm == X86_SS) {
		v->c.shadow = 1;
		v->no_trap = true;
	}
	return 0;
}

/* --- state images
 * ---------------------------------------------------------------------------------------- */

/* Whether no #UD or #NM comes before the operand is looked at. */
static bool xsave_available(const struct vcpu *v, const struct op *op)
{
	if (op->aux == Y_FXSAVE || op->aux == Y_FXRSTOR)
		return !(v->c.cr0 & (CR0_TS | CR0_EM));
	return (v->c.cr4 & CR4_OSXSAVE) && !(v->c.cr0 & CR0_TS);
}

static int sys_xsave(struct vcpu *v, const struct op *op)
{
	u64 a = ea(v, op, 1, true), mask = v->c.r[X86_RDX] << 32 | (u32)v->c.r[X86_RAX];
	bool w = op->imm == 8;

	/* Before alignment; and only this is #SS on the stack segment. */
	if (v->code_mode == CODE_64 && (!canonical(a) || !canonical(a + 511)) &&
	    xsave_available(v, op))
		return x86_fault_err(&v->c, op->flags & OPF_SS ? X86_SS_EXC : X86_GP, 0);
	/* How fine #AC looks, where it is not #GP anyway, is up to the processor (SDM, FXSAVE). */
	if ((a & 3) && v->c.cpl == 3 && (v->c.rflags & X86_AC) && (v->c.cr0 & CR0_AM) &&
	    xsave_available(v, op))
		return x86_fault_err(&v->c, X86_AC_EXC, 0);
	switch ((enum sys)op->aux) {
	case Y_FXSAVE:
		return x86_fxsave(&v->c, a, w);
	case Y_FXRSTOR:
		return x86_fxrstor(&v->c, a, w);
	case Y_XSAVE:
		return x86_xsave(&v->c, a, mask, X86_XSAVE, w);
	case Y_XSAVEOPT:
		return x86_xsave(&v->c, a, mask, X86_XSAVEOPT, w);
	case Y_XSAVEC:
		return x86_xsave(&v->c, a, mask, X86_XSAVEC, w);
	default:
		return x86_xrstor(&v->c, a, mask, w);
	}
}

static const sys_fn sys_table[Y_COUNT] = {
	[Y_UD] = ud,
	[Y_TOOLONG] = too_long,
	[Y_INT] = sys_int,
	[Y_INT3] = sys_int3,
	[Y_INT1] = sys_int1,
	[Y_INTO] = sys_into,
	[Y_IRET] = sys_iret,
	[Y_HLT] = sys_hlt,
	[Y_CLI] = sys_cli,
	[Y_STI] = sys_sti,
	[Y_CLTS] = sys_clts,
	[Y_CPUID] = sys_cpuid,
	[Y_RDTSC] = sys_rdtsc,
	[Y_RDTSCP] = sys_rdtsc,
	[Y_RDPMC] = sys_rdpmc,
	[Y_RDMSR] = sys_rdmsr,
	[Y_WRMSR] = sys_wrmsr,
	[Y_SYSCALL] = sys_syscall,
	[Y_SYSRET] = sys_sysret,
	[Y_SYSENTER] = sys_sysenter,
	[Y_SYSEXIT] = sys_sysexit,
	[Y_SWAPGS] = sys_swapgs,
	[Y_XGETBV] = sys_xgetbv,
	[Y_XSETBV] = sys_xsetbv,
	[Y_INVD] = sys_wbinvd,
	[Y_WBINVD] = sys_wbinvd,
	[Y_MOV_FROM_CR] = sys_mov_from_cr,
	[Y_MOV_TO_CR] = sys_mov_to_cr,
	[Y_MOV_FROM_DR] = sys_mov_from_dr,
	[Y_MOV_TO_DR] = sys_mov_to_dr,
	[Y_FAR_JMP_IMM] = sys_far_imm,
	[Y_FAR_CALL_IMM] = sys_far_imm,
	[Y_FAR_JMP_M] = sys_far_m,
	[Y_FAR_CALL_M] = sys_far_m,
	[Y_FAR_RET] = sys_far_ret,
	[Y_IN] = sys_in,
	[Y_OUT] = sys_out,
	[Y_PAUSE] = sys_pause,
	[Y_RDRAND] = sys_rdrand,
	[Y_RDSEED] = sys_rdrand,
	[Y_RDFSBASE] = sys_base,
	[Y_RDGSBASE] = sys_base,
	[Y_WRFSBASE] = sys_base,
	[Y_WRGSBASE] = sys_base,
	[Y_LGDT] = sys_lgdt,
	[Y_LIDT] = sys_lgdt,
	[Y_SGDT] = sys_sgdt,
	[Y_SIDT] = sys_sgdt,
	[Y_LLDT] = sys_lldt,
	[Y_LTR] = sys_lldt,
	[Y_SLDT] = sys_store_sel,
	[Y_STR] = sys_store_sel,
	[Y_SMSW] = sys_store_sel,
	[Y_LMSW] = sys_lmsw,
	[Y_INVLPG] = sys_invlpg,
	[Y_INVPCID] = sys_invpcid,
	[Y_LAR] = sys_probe_sel,
	[Y_LSL] = sys_probe_sel,
	[Y_VERR] = sys_probe_sel,
	[Y_VERW] = sys_probe_sel,
	[Y_ARPL] = sys_arpl,
	[Y_MOV_TO_SEG] = sys_mov_to_seg,
	[Y_FXSAVE] = sys_xsave,
	[Y_FXRSTOR] = sys_xsave,
	[Y_XSAVE] = sys_xsave,
	[Y_XSAVEOPT] = sys_xsave,
	[Y_XSAVEC] = sys_xsave,
	[Y_XRSTOR] = sys_xsave,
};

const struct op *op_sys(struct vcpu *v, const struct op *op)
{
	u64 next = after(v, op);
	int r = sys_table[op->aux](v, op);

	if (r == 0)
		return v->c.halted ? (v->c.rip = next, NULL) : jump_checked(v, next);
	if (r == SYS_JUMPED)
		return jump_checked(v, v->c.rip);
	if (r == X86_FAULT)
		vcpu_raise(v, op);
	vcpu_triple(v, op);
}

/* --- in the middle of a block
 * --------------------------------------------------------------------------- */

const struct op *op_mov_from_seg(struct vcpu *v, const struct op *op)
{
	rm_write(v, op, op->flags & OPF_MEM ? 2 : op->aux, v->c.seg[op->imm].sel);
	NEXT;
}

static const struct op *set_ac(struct vcpu *v, const struct op *op, bool ac)
{
	if (v->c.cpl || !(v->c.cr4_allowed & CR4_SMAP))
		raise_ud(v, op);
	v->c.rflags = ac ? v->c.rflags | X86_AC : v->c.rflags & ~(u64)X86_AC;
	if (v->tlb != v->empty_tlb)
		v->tlb = v->tlbs[ac ? TLB_KERNEL_AC : TLB_KERNEL]->e;
	NEXT;
}

const struct op *op_stac(struct vcpu *v, const struct op *op)
{
	return set_ac(v, op, true);
}

const struct op *op_clac(struct vcpu *v, const struct op *op)
{
	return set_ac(v, op, false);
}

/* CLFLUSH and its kin are loads as far as faults go. */
const struct op *op_clflush(struct vcpu *v, const struct op *op)
{
	ld_u8(v, op, ea(v, op, 1, false));
	NEXT;
}
