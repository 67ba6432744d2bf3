// SPDX-License-Identifier: Apache-2.0
/*
 * state.c - a vCPU's registers: struct x86_cpu on our side, six structures on KVM's
 *
 * How it works
 * Giving state to KVM reads its structures first and replaces what struct x86_cpu knows: an XSAVE image
 * may hold components that we do not (AVX-512), and the local APIC's base and CR8 are not
 * CPU state here. Events under way (an exception being injected) stay, unless the vCPU is fresh.
 *
 * KVM_SET_MSRS stops at the first MSR that it does not know. Those marked optional are then passed
 * over: which of them a guest has depends on its CPUID.
 */
#include "cpu/kvm/call.h"
#include "cpu/kvm/kvm_priv.h"
#include "isa/x86/sys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct msr {
	u32 index;
	u32 offset; /* in struct x86_cpu */
	bool optional;
};

#define MSR(i, member, opt)                                                                        \
	{                                                                                          \
		i, offsetof(struct x86_cpu, member), opt                                           \
	}
#define VAR(n) MSR(0x200 + 2 * (n), mtrr_base[n], true), MSR(0x201 + 2 * (n), mtrr_mask[n], true)
/* Intel SDM vol. 4, table 2-2 */
static const struct msr msrs[] = {
	MSR(0xc0000081, star, false),
	MSR(0xc0000082, lstar, false),
	MSR(0xc0000083, cstar, false),
	MSR(0xc0000084, fmask, false),
	MSR(0xc0000102, kernel_gs_base, false),
	MSR(0xc0000103, tsc_aux, true),
	MSR(0x174, sysenter_cs, false),
	MSR(0x175, sysenter_esp, false),
	MSR(0x176, sysenter_eip, false),
	MSR(0x277, pat, false),
	MSR(0x1a0, misc_enable, true),
	MSR(0x3b, tsc_adjust, true),
	MSR(0x48, spec_ctrl, true),
	MSR(0x17a, mcg_status, true),
	MSR(0x250, mtrr_fixed[0], true),
	MSR(0x258, mtrr_fixed[1], true),
	MSR(0x259, mtrr_fixed[2], true),
	MSR(0x268, mtrr_fixed[3], true),
	MSR(0x269, mtrr_fixed[4], true),
	MSR(0x26a, mtrr_fixed[5], true),
	MSR(0x26b, mtrr_fixed[6], true),
	MSR(0x26c, mtrr_fixed[7], true),
	MSR(0x26d, mtrr_fixed[8], true),
	MSR(0x26e, mtrr_fixed[9], true),
	MSR(0x26f, mtrr_fixed[10], true),
	VAR(0),
	VAR(1),
	VAR(2),
	VAR(3),
	VAR(4),
	VAR(5),
	VAR(6),
	VAR(7),
	/* Last: it enables what the others say. */
	MSR(0x2ff, mtrr_def, true),
};
#undef VAR
#undef MSR

struct msr_list {
	struct kvm_msrs h;
	struct kvm_msr_entry e[ARRAY_LEN(msrs)];
};

static u64 *msr_field(struct x86_cpu *c, const struct msr *m)
{
	return (u64 *)(void *)((u8 *)c + m->offset);
}

/* Sets (or gets) all MSRs, passing over optional ones that KVM does not know. */
static int move_msrs(struct kvm_vcpu *v, bool set, struct err *e)
{
	unsigned at = 0;

	while (at < ARRAY_LEN(msrs)) {
		struct msr_list l = { .h = { .nmsrs = ARRAY_LEN(msrs) - at } };
		int r;

		for (unsigned i = 0; i < l.h.nmsrs; i++)
			l.e[i] = (struct kvm_msr_entry){
				.index = msrs[at + i].index,
				.data = set ? *msr_field(&v->c, &msrs[at + i]) : 0,
			};
		r = set ? KVM_TRY(e, v->fd, KVM_SET_MSRS, &l) : KVM_TRY(e, v->fd, KVM_GET_MSRS, &l);
		if (r < 0)
			return r;
		for (unsigned i = 0; !set && i < (unsigned)r; i++)
			*msr_field(&v->c, &msrs[at + i]) = l.e[i].data;
		at += (unsigned)r;
		if (at < ARRAY_LEN(msrs) && !msrs[at].optional)
			return err_set(e, -EIO, "KVM does not take MSR 0x%x", msrs[at].index);
		at++;
	}
	return 0;
}

/* --- segments and control registers ----------------------------------------------------------- */

static struct kvm_segment to_segment(const struct x86_seg *s)
{
	return (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->sel,
		.type = s->attr & SEG_TYPE,
		.present = (s->attr & SEG_P) != 0,
		.dpl = (s->attr & SEG_DPL) >> SEG_DPL_SHIFT,
		.db = (s->attr & SEG_DB) != 0,
		.s = (s->attr & SEG_S) != 0,
		.l = (s->attr & SEG_L) != 0,
		.g = (s->attr & SEG_G) != 0,
		.avl = (s->attr & SEG_AVL) != 0,
		.unusable = !(s->attr & SEG_P),
	};
}

static struct x86_seg from_segment(const struct kvm_segment *s)
{
	u16 attr = (u16)(s->type | (s->present ? SEG_P : 0) | s->dpl << SEG_DPL_SHIFT |
			 (s->db ? SEG_DB : 0) | (s->s ? SEG_S : 0) | (s->l ? SEG_L : 0) |
			 (s->g ? SEG_G : 0) | (s->avl ? SEG_AVL : 0));

	return (struct x86_seg){ .base = s->base,
				 .limit = s->limit,
				 .sel = s->selector,
				 .attr = s->unusable ? 0 : attr };
}

static struct kvm_segment *segment(struct kvm_sregs *s, unsigned i)
{
	struct kvm_segment *const all[X86_SEGS] = {
		[X86_ES] = &s->es, [X86_CS] = &s->cs, [X86_SS] = &s->ss,
		[X86_DS] = &s->ds, [X86_FS] = &s->fs, [X86_GS] = &s->gs
	};
	return all[i];
}

static int set_sregs(struct kvm_vcpu *v, struct err *e)
{
	struct x86_cpu *c = &v->c;
	struct kvm_sregs s;
	int r = KVM_TRY(e, v->fd, KVM_GET_SREGS, &s);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < X86_SEGS; i++)
		*segment(&s, i) = to_segment(&c->seg[i]);
	s.ldt = to_segment(&c->ldtr);
	s.tr = to_segment(&c->tr);
	s.gdt = (struct kvm_dtable){ .base = c->gdtr.base, .limit = c->gdtr.limit };
	s.idt = (struct kvm_dtable){ .base = c->idtr.base, .limit = c->idtr.limit };
	s.cr0 = c->cr0;
	s.cr2 = c->cr2;
	s.cr3 = c->cr3;
	s.cr4 = c->cr4;
	s.efer = c->efer;
	if (v->fresh)
		s.cr8 = 0;
	/* An interrupt that is being injected is among the events. */
	memset(s.interrupt_bitmap, 0, sizeof(s.interrupt_bitmap));
	return KVM_TRY(e, v->fd, KVM_SET_SREGS, &s);
}

static int get_sregs(struct kvm_vcpu *v, struct err *e)
{
	struct x86_cpu *c = &v->c;
	struct kvm_sregs s;
	int r = KVM_TRY(e, v->fd, KVM_GET_SREGS, &s);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < X86_SEGS; i++)
		c->seg[i] = from_segment(segment(&s, i));
	c->ldtr = from_segment(&s.ldt);
	c->tr = from_segment(&s.tr);
	c->gdtr = (struct x86_dtr){ .base = s.gdt.base, .limit = s.gdt.limit };
	c->idtr = (struct x86_dtr){ .base = s.idt.base, .limit = s.idt.limit };
	c->cr0 = s.cr0;
	c->cr2 = s.cr2;
	c->cr3 = s.cr3;
	c->cr4 = s.cr4;
	c->efer = s.efer;
	return 0;
}

/* --- general registers ------------------------------------------------------------------------ */

static int set_regs(struct kvm_vcpu *v, struct err *e)
{
	const u64 *r = v->c.r;
	struct kvm_regs g = {
		.rax = r[X86_RAX],
		.rbx = r[X86_RBX],
		.rcx = r[X86_RCX],
		.rdx = r[X86_RDX],
		.rsi = r[X86_RSI],
		.rdi = r[X86_RDI],
		.rsp = r[X86_RSP],
		.rbp = r[X86_RBP],
		.r8 = r[X86_R8],
		.r9 = r[X86_R9],
		.r10 = r[X86_R10],
		.r11 = r[X86_R11],
		.r12 = r[X86_R12],
		.r13 = r[X86_R13],
		.r14 = r[X86_R14],
		.r15 = r[X86_R15],
		.rip = v->c.rip,
		.rflags = x86_get_rflags(&v->c),
	};

	return KVM_TRY(e, v->fd, KVM_SET_REGS, &g);
}

static int get_regs(struct kvm_vcpu *v, struct err *e)
{
	u64 *r = v->c.r;
	struct kvm_regs g;
	int rc = KVM_TRY(e, v->fd, KVM_GET_REGS, &g);

	if (rc < 0)
		return rc;
	r[X86_RAX] = g.rax;
	r[X86_RBX] = g.rbx;
	r[X86_RCX] = g.rcx;
	r[X86_RDX] = g.rdx;
	r[X86_RSI] = g.rsi;
	r[X86_RDI] = g.rdi;
	r[X86_RSP] = g.rsp;
	r[X86_RBP] = g.rbp;
	r[X86_R8] = g.r8;
	r[X86_R9] = g.r9;
	r[X86_R10] = g.r10;
	r[X86_R11] = g.r11;
	r[X86_R12] = g.r12;
	r[X86_R13] = g.r13;
	r[X86_R14] = g.r14;
	r[X86_R15] = g.r15;
	v->c.rip = g.rip;
	x86_put_rflags(&v->c, g.rflags);
	return 0;
}

/* --- x87, SSE, AVX ---------------------------------------------------------------------------- */

#define LEGACY_LEN 512u
#define XSTATE_BV 512u
#define YMMH 576u

_Static_assert(offsetof(struct x86_xstate, xstate_bv) == XSTATE_BV, "the XSAVE header's place");
_Static_assert(offsetof(struct x86_xstate, ymmh) == YMMH, "AVX state at its standard offset");

/* KVM writes as much as KVM_CAP_XSAVE2 says, which may be more than struct kvm_xsave. */
static int get_xsave(struct kvm_vcpu *v, u8 *buf, struct err *e)
{
	return v->k->xsave_len > sizeof(struct kvm_xsave) ? KVM_TRY(e, v->fd, KVM_GET_XSAVE2, buf)
							  : KVM_TRY(e, v->fd, KVM_GET_XSAVE, buf);
}

static int move_xstate(struct kvm_vcpu *v, bool set, struct err *e)
{
	struct x86_xstate *x = &v->c.x;
	u8 *buf = calloc(1, v->k->xsave_len);
	u32 mask;
	u64 bv;
	int r;

	if (!buf)
		return err_set(e, -ENOMEM, "out of memory");
	r = get_xsave(v, buf, e);
	if (r == 0 && !set) {
		memcpy(x, buf, LEGACY_LEN);
		memcpy(x->ymmh, buf + YMMH, sizeof(x->ymmh));
	} else if (r == 0) {
		memcpy(&mask, buf + offsetof(struct x86_xstate, mxcsr_mask), sizeof(mask));
		memcpy(&bv, buf + XSTATE_BV, sizeof(bv));
		memcpy(buf, x, LEGACY_LEN);
		memcpy(buf + offsetof(struct x86_xstate, mxcsr_mask), &mask, sizeof(mask));
		bv = v->fresh ? 3 : bv | 3;
		if (v->k->cfg.xcr0_allowed & XCR0_AVX) {
			bv |= XCR0_AVX;
			memcpy(buf + YMMH, x->ymmh, sizeof(x->ymmh));
		}
		memcpy(buf + XSTATE_BV, &bv, sizeof(bv));
		r = KVM_TRY(e, v->fd, KVM_SET_XSAVE, buf);
	}
	free(buf);
	return r;
}

static int move_xcr0(struct kvm_vcpu *v, bool set, struct err *e)
{
	struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs = { { .xcr = 0, .value = v->c.xcr0 } } };
	int r;

	if (set)
		return KVM_TRY(e, v->fd, KVM_SET_XCRS, &x);
	r = KVM_TRY(e, v->fd, KVM_GET_XCRS, &x);
	for (u32 i = 0; r == 0 && i < x.nr_xcrs && i < ARRAY_LEN(x.xcrs); i++)
		if (x.xcrs[i].xcr == 0)
			v->c.xcr0 = x.xcrs[i].value;
	return r;
}

/* --- debug registers, events, and whether it runs --------------------------------------------- */

static int move_dr(struct kvm_vcpu *v, bool set, struct err *e)
{
	struct x86_cpu *c = &v->c;
	struct kvm_debugregs d = { .dr6 = c->dr6, .dr7 = c->dr7 };
	int r;

	memcpy(d.db, c->dr, sizeof(d.db));
	if (set)
		return KVM_TRY(e, v->fd, KVM_SET_DEBUGREGS, &d);
	r = KVM_TRY(e, v->fd, KVM_GET_DEBUGREGS, &d);
	if (r == 0) {
		memcpy(c->dr, d.db, sizeof(c->dr));
		c->dr6 = d.dr6;
		c->dr7 = d.dr7;
	}
	return r;
}

static int move_events(struct kvm_vcpu *v, bool set, struct err *e)
{
	struct x86_cpu *c = &v->c;
	struct kvm_vcpu_events ev = { 0 };
	int r = KVM_TRY(e, v->fd, KVM_GET_VCPU_EVENTS, &ev);

	if (r < 0)
		return r;
	if (!set) {
		c->nmi_blocked = ev.nmi.masked != 0;
		c->nmi_pending = ev.nmi.pending != 0;
		c->shadow = ev.interrupt.shadow != 0;
		return 0;
	}
	if (v->fresh)
		ev = (struct kvm_vcpu_events){ 0 };
	ev.nmi.masked = c->nmi_blocked;
	ev.nmi.pending = c->nmi_pending;
	ev.interrupt.shadow = c->shadow ? KVM_X86_SHADOW_INT_STI : 0;
	ev.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	return KVM_TRY(e, v->fd, KVM_SET_VCPU_EVENTS, &ev);
}

static int move_mp(struct kvm_vcpu *v, bool set, struct err *e)
{
	struct x86_cpu *c = &v->c;
	struct kvm_mp_state mp;
	u32 want = c->wait_sipi ? KVM_MP_STATE_INIT_RECEIVED
		   : c->halted	? KVM_MP_STATE_HALTED
				: KVM_MP_STATE_RUNNABLE;
	int r = KVM_TRY(e, v->fd, KVM_GET_MP_STATE, &mp);

	if (r < 0)
		return r;
	if (set) {
		/* Waiting for INIT or for SIPI is one state to us. */
		if (mp.mp_state == want ||
		    (!v->fresh && c->wait_sipi && mp.mp_state == KVM_MP_STATE_UNINITIALIZED))
			return 0;
		mp.mp_state = want;
		return KVM_TRY(e, v->fd, KVM_SET_MP_STATE, &mp);
	}
	c->halted = mp.mp_state == KVM_MP_STATE_HALTED;
	c->wait_sipi = mp.mp_state == KVM_MP_STATE_UNINITIALIZED ||
		       mp.mp_state == KVM_MP_STATE_INIT_RECEIVED;
	return 0;
}

/* --- all of it -------------------------------------------------------------------------------- */

int kvm_state_get(struct kvm_vcpu *v, struct err *e)
{
	/* MP state first: to ask for it makes KVM act on a pending INIT or SIPI. */
	int r = move_mp(v, false, e);

	if (r == 0)
		r = get_regs(v, e);
	if (r == 0)
		r = get_sregs(v, e);
	if (r == 0)
		r = move_xcr0(v, false, e);
	if (r == 0)
		r = move_xstate(v, false, e);
	if (r == 0)
		r = move_msrs(v, false, e);
	if (r == 0)
		r = move_dr(v, false, e);
	if (r == 0)
		r = move_events(v, false, e);
	if (r == 0)
		x86_derive(&v->c);
	return r;
}

int kvm_state_set(struct kvm_vcpu *v, struct err *e)
{
	/* XCR0 before the state whose components it names; events behind what they act on. */
	int r = set_sregs(v, e);

	if (r == 0)
		r = set_regs(v, e);
	if (r == 0)
		r = move_xcr0(v, true, e);
	if (r == 0)
		r = move_xstate(v, true, e);
	if (r == 0)
		r = move_msrs(v, true, e);
	if (r == 0)
		r = move_dr(v, true, e);
	if (r == 0)
		r = move_events(v, true, e);
	if (r == 0)
		r = move_mp(v, true, e);
	return r;
}
