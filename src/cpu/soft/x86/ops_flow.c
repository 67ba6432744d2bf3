/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_flow.c - jumps, calls, the stack, and addresses outside flat 64-bit mode
 *
 * How it works
 * In 64-bit mode a branch target is the block's RIP plus a constant. Elsewhere ("legacy" forms) a
 * new IP is cut to the operand size and checked against the limit of CS, and the stack pointer
 * has the size that SS.B says.
 */
#include "cpu/soft/x86/ops.h"

/* --- addresses ------------------------------------------------------------------------------- */

/* Limit, type and presence of a segment outside 64-bit mode (SDM vol. 3, 5.3 and 5.5). */
static void seg_check(struct vcpu *v, const struct op *op, unsigned sg, u32 off, unsigned n,
		      bool write)
{
	const struct x86_seg *s = &v->c.seg[sg];
	u8 vec = sg == X86_SS ? X86_SS_EXC : X86_GP;
	u32 last = off + n - 1;
	bool ok;

	if (!(v->c.cr0 & CR0_PE) || (v->c.rflags & X86_VM)) {
		ok = last >= off && last <= s->limit;
	} else if (!(s->attr & SEG_P)) {
		ok = false;
	} else if (s->attr & 8) { /* code */
		ok = !write && (s->attr & 2) && last >= off && last <= s->limit;
	} else if (s->attr & 4) { /* expand-down data */
		u32 top = s->attr & SEG_DB ? 0xffffffffu : 0xffff;
		ok = (!write || (s->attr & 2)) && off > s->limit && last >= off && last <= top;
	} else {
		ok = (!write || (s->attr & 2)) && last >= off && last <= s->limit;
	}
	if (ok)
		return;
	x86_fault_err(&v->c, vec, 0);
	vcpu_raise(v, op);
}

u64 seg_linear(struct vcpu *v, const struct op *op, unsigned sg, u64 off, unsigned n, bool write)
{
	if (v->code_mode == CODE_64)
		return off + v->c.segbase[sg];
	seg_check(v, op, sg, (u32)off, n, write);
	return (u32)(v->c.seg[sg].base + off);
}

attr_noinline u64 ea_slow(struct vcpu *v, const struct op *op, unsigned n, bool write)
{
	u64 off = v->c.r[op->base] + (v->c.r[op->index] << op->scale) + (u64)(s64)op->disp;

	if (op->flags & OPF_A32)
		off = (u32)off;
	else if (op->flags & OPF_A16)
		off = (u16)off;
	return seg_linear(v, op, op->seg, off, n, write);
}

/* --- stack ------------------------------------------------------------------------------------ */

static u64 stack_mask(const struct vcpu *v)
{
	if (v->code_mode == CODE_64)
		return ~0ull;
	return v->c.seg[X86_SS].attr & SEG_DB ? 0xffffffffu : 0xffff;
}

static u64 stack_addr(struct vcpu *v, const struct op *op, u64 sp, unsigned n, bool write)
{
	if (v->code_mode == CODE_64)
		return sp;
	return seg_linear(v, op, X86_SS, sp & stack_mask(v), n, write);
}

static void set_sp(struct vcpu *v, u64 sp)
{
	u64 m = stack_mask(v);

	if (m == 0xffff)
		v->c.r[X86_RSP] = (v->c.r[X86_RSP] & ~m) | (sp & m);
	else
		v->c.r[X86_RSP] = sp & m;
}

void stack_add(struct vcpu *v, s64 n)
{
	set_sp(v, v->c.r[X86_RSP] + (u64)n);
}

static void st_n(struct vcpu *v, const struct op *op, u64 a, unsigned n, u64 x)
{
	if (n == 8)
		st_u64(v, op, a, x);
	else if (n == 4)
		st_u32(v, op, a, (u32)x);
	else
		st_u16(v, op, a, (u16)x);
}

static u64 ld_n(struct vcpu *v, const struct op *op, u64 a, unsigned n)
{
	return n == 8 ? ld_u64(v, op, a) : n == 4 ? ld_u32(v, op, a) : ld_u16(v, op, a);
}

void stack_push(struct vcpu *v, const struct op *op, unsigned n, u64 val)
{
	u64 sp = v->c.r[X86_RSP] - n;

	st_n(v, op, stack_addr(v, op, sp, n, true), n, val);
	set_sp(v, sp);
}

/* The value @skip bytes above the top, without popping. */
u64 stack_peek(struct vcpu *v, const struct op *op, unsigned n, unsigned skip)
{
	return ld_n(v, op, stack_addr(v, op, v->c.r[X86_RSP] + skip, n, false), n);
}

static u64 legacy_next(struct vcpu *v, const struct op *op)
{
	u64 ip = next_rip(v, op);

	return v->code_mode == CODE_64 ? ip : (u32)ip;
}

/* Hot handlers with cold twins, as in ops_alu.c: these three, and near CALL, RET and JMP below. */

attr_cold static const struct op *push_r64_cold(struct vcpu *v, const struct op *op)
{
	stack_push(v, op, 8, REG(u64, op->src));
	NEXT;
}

const struct op *op_push_r64(struct vcpu *v, const struct op *op)
{
	u64 sp = v->c.r[X86_RSP] - 8, *p = tlb_wr(v, sp, 8);

	if (unlikely(!p))
		return push_r64_cold(v, op);
	*p = REG(u64, op->src);
	v->c.r[X86_RSP] = sp;
	NEXT;
}

attr_cold static const struct op *pop_r64_cold(struct vcpu *v, const struct op *op)
{
	u64 x = stack_peek(v, op, 8, 0);

	v->c.r[X86_RSP] += 8;
	REG(u64, op->dst) = x;
	NEXT;
}

const struct op *op_pop_r64(struct vcpu *v, const struct op *op)
{
	const u64 *p = tlb_rd(v, v->c.r[X86_RSP], 8);

	if (unlikely(!p))
		return pop_r64_cold(v, op);
	v->c.r[X86_RSP] += 8;
	REG(u64, op->dst) = *p;
	NEXT;
}

attr_cold static const struct op *push_imm64_cold(struct vcpu *v, const struct op *op)
{
	stack_push(v, op, 8, (u64)op->imm);
	NEXT;
}

const struct op *op_push_imm64(struct vcpu *v, const struct op *op)
{
	u64 sp = v->c.r[X86_RSP] - 8, *p = tlb_wr(v, sp, 8);

	if (unlikely(!p))
		return push_imm64_cold(v, op);
	*p = (u64)op->imm;
	v->c.r[X86_RSP] = sp;
	NEXT;
}

const struct op *op_push_imm(struct vcpu *v, const struct op *op)
{
	stack_push(v, op, op->aux, (u64)op->imm);
	NEXT;
}

/*
 * Handlers that need a copy of the instruction leave the work to a function that is not inlined.
 * With the address of a local variable taken, the compiler has to call the next handler rather than
 * jump to it, and every instruction would leave a frame on the host's stack until the turn ends.
 */
static attr_noinline void push_rm(struct vcpu *v, const struct op *op)
{
	struct op src = *op;

	if (!op->src) /* the operand itself is not on the stack segment: #GP, not #SS */
		src.flags &= (u8)~OPF_SS;
	stack_push(v, op, op->aux, rm_read(v, &src, op->aux));
}

const struct op *op_push_rm(struct vcpu *v, const struct op *op)
{
	push_rm(v, op);
	NEXT;
}

/* With a 32-bit operand only 16 bits are written, as recent processors do (SDM vol. 2, PUSH). */
const struct op *op_push_seg(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux;
	u64 sp = v->c.r[X86_RSP] - n;

	st_n(v, op, stack_addr(v, op, sp, n, true), n == 4 ? 2 : n, v->c.seg[op->src].sel);
	set_sp(v, sp);
	NEXT;
}

/* POP computes the address of its operand after ESP has been incremented (SDM vol. 2, POP). */
static attr_noinline void pop_rm(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux;
	u64 x = stack_peek(v, op, n, 0), sp = v->c.r[X86_RSP];
	struct op dst = *op;

	if (!(op->flags & OPF_MEM)) {
		stack_add(v, n);
		rm_write(v, op, n, x);
		return;
	}
	stack_add(v, n);
	u64 sp2 = v->c.r[X86_RSP];
	/* The address is formed with the new RSP, but a fault must leave the old one. */
	u64 off = v->c.r[op->base] + (v->c.r[op->index] << op->scale) + (u64)(s64)op->disp;
	v->c.r[X86_RSP] = sp;
	if (op->flags & OPF_A32)
		off = (u32)off;
	else if (op->flags & OPF_A16)
		off = (u16)off;
	if (!op->src) /* the operand itself is not on the stack segment: #GP, not #SS */
		dst.flags &= (u8)~OPF_SS;
	st_n(v, &dst, seg_linear(v, &dst, op->seg, off, n, true), n, x);
	v->c.r[X86_RSP] = sp2;
}

const struct op *op_pop_rm(struct vcpu *v, const struct op *op)
{
	pop_rm(v, op);
	NEXT;
}

const struct op *op_pop_seg(struct vcpu *v, const struct op *op)
{
	u64 x = stack_peek(v, op, op->aux, 0), next = legacy_next(v, op);

	if (x86_load_seg(&v->c, op->dst, (u16)x))
		vcpu_raise(v, op);
	stack_add(v, op->aux);
	vcpu_mode_changed(v);
	if (op->dst == X86_SS) {
		v->c.shadow = 1;
		v->no_trap = true;
	}
	return jump_checked(v, next);
}

const struct op *op_pusha(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux;
	u64 sp = v->c.r[X86_RSP];

	/* What is stored before a fault stays stored; rSP stays too. */
	for (unsigned i = 0; i < 8; i++)
		st_n(v, op, stack_addr(v, op, sp - (i + 1) * n, n, true), n, v->c.r[i]);
	set_sp(v, sp - 8 * n);
	NEXT;
}

const struct op *op_popa(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux;

	/* What is loaded before a fault stays loaded. */
	for (unsigned i = X86_RDI + 1; i-- > 0;) {
		u64 x = stack_peek(v, op, n, (X86_RDI - i) * n);
		if (i == X86_RSP) /* read, as processors do, and thrown away */
			continue;
		if (n == 2)
			set_u16(v, (u8)(i * 8), (u16)x);
		else
			set_u32(v, (u8)(i * 8), (u32)x);
	}
	stack_add(v, 8 * (s64)n);
	NEXT;
}

const struct op *op_pushf(struct vcpu *v, const struct op *op)
{
	u64 f = x86_get_rflags(&v->c) & ~(u64)(X86_RF | X86_VM);

	if ((v->c.rflags & X86_VM) && (v->c.rflags & X86_IOPL) != X86_IOPL)
		raise_gp0(v, op);
	stack_push(v, op, op->aux, f);
	NEXT;
}

const struct op *op_popf(struct vcpu *v, const struct op *op)
{
	u64 f = stack_peek(v, op, op->aux, 0), next = legacy_next(v, op);

	if (x86_popf(&v->c, f, op->aux))
		vcpu_raise(v, op);
	stack_add(v, op->aux);
	vcpu_mode_changed(v);
	return jump_checked(v, next);
}

const struct op *op_enter(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux, level = (unsigned)(op->imm >> 16) & 31;
	u64 sp = v->c.r[X86_RSP] - n, frame = sp, bp = v->c.r[X86_RBP];

	st_n(v, op, stack_addr(v, op, sp, n, true), n, bp);
	for (unsigned i = 1; i < level; i++) {
		bp -= n;
		sp -= n;
		st_n(v, op, stack_addr(v, op, sp, n, true), n,
		     ld_n(v, op, stack_addr(v, op, bp, n, false), n));
	}
	if (level) {
		sp -= n;
		st_n(v, op, stack_addr(v, op, sp, n, true), n, frame);
	}
	sp -= (u16)op->imm;
	/* The new top must be writable (SDM vol. 2, ENTER). */
	mem_ref(v, op, stack_addr(v, op, sp, n, true), n, true);
	if (n == 2)
		set_u16(v, X86_RBP * 8, (u16)frame);
	else
		v->c.r[X86_RBP] = n == 4 ? (u32)frame : frame;
	set_sp(v, sp);
	NEXT;
}

const struct op *op_leave(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux;
	u64 bp = v->c.r[X86_RBP];
	u64 x = ld_n(v, op, stack_addr(v, op, bp, n, false), n);

	set_sp(v, bp + n);
	if (n == 2)
		set_u16(v, X86_RBP * 8, (u16)x);
	else
		v->c.r[X86_RBP] = n == 4 ? (u32)x : x;
	NEXT;
}

/* --- control transfer ------------------------------------------------------------------------ */

#define DEF_JCC(cc)                                                                                \
	static const struct op *jcc_##cc(struct vcpu *v, const struct op *op)                      \
	{                                                                                          \
		return jump_to(v, cond_true(v, cc) ? v->c.r[X86_BLOCK] + (u64)op->imm              \
						   : next_rip(v, op));                             \
	}
DEF_JCC(0)
DEF_JCC(1)
DEF_JCC(2)
DEF_JCC(3)
DEF_JCC(4)
DEF_JCC(5)
DEF_JCC(6)
DEF_JCC(7)
DEF_JCC(8)
DEF_JCC(9)
DEF_JCC(10)
DEF_JCC(11)
DEF_JCC(12)
DEF_JCC(13)
DEF_JCC(14)
DEF_JCC(15)
const op_fn ops_jcc[16] = { jcc_0, jcc_1, jcc_2,  jcc_3,  jcc_4,  jcc_5,  jcc_6,  jcc_7,
			    jcc_8, jcc_9, jcc_10, jcc_11, jcc_12, jcc_13, jcc_14, jcc_15 };

/* A new IP outside 64-bit mode: cut to 16 bits by a 16-bit operand, inside the limit of CS. */
static u64 legacy_ip(struct vcpu *v, const struct op *op, u64 ip)
{
	ip = op->flags & OPF_O16 ? (u16)ip : (u32)ip;
	if (v->code_mode != CODE_64 && ip > v->c.seg[X86_CS].limit)
		raise_gp0(v, op);
	return ip;
}

static u64 new_ip(struct vcpu *v, const struct op *op, u64 ip)
{
	if (v->code_mode != CODE_64)
		return legacy_ip(v, op, ip);
	/* #GP at the branch, not at the target (SDM vol. 2, JMP). */
	if (!canonical(ip))
		raise_gp0(v, op);
	return ip;
}

const struct op *op_jcc_legacy(struct vcpu *v, const struct op *op)
{
	if (cond_true(v, op->aux))
		return jump_to(v, legacy_ip(v, op, v->c.r[X86_BLOCK] + (u64)op->imm));
	return jump_to(v, legacy_next(v, op));
}

const struct op *op_jmp(struct vcpu *v, const struct op *op)
{
	return jump_to(v, v->c.r[X86_BLOCK] + (u64)op->imm);
}

const struct op *op_jmp_legacy(struct vcpu *v, const struct op *op)
{
	return jump_to(v, legacy_ip(v, op, v->c.r[X86_BLOCK] + (u64)op->imm));
}

const struct op *op_jmp_rm(struct vcpu *v, const struct op *op)
{
	return jump_to(v, new_ip(v, op, rm_read(v, op, op->aux)));
}

const struct op *op_jmp_r64(struct vcpu *v, const struct op *op)
{
	u64 ip = REG(u64, op->dst);

	if (unlikely(!canonical(ip)))
		return op_jmp_rm(v, op);
	return jump_to(v, ip);
}

const struct op *op_jmp_m64(struct vcpu *v, const struct op *op)
{
	const u64 *p = hot_rd(v, op, 8);

	if (unlikely(!p || !canonical(*p)))
		return op_jmp_rm(v, op);
	return jump_to(v, *p);
}

attr_cold static const struct op *call_cold(struct vcpu *v, const struct op *op)
{
	stack_push(v, op, 8, next_rip(v, op));
	return jump_to(v, v->c.r[X86_BLOCK] + (u64)op->imm);
}

const struct op *op_call(struct vcpu *v, const struct op *op)
{
	u64 sp = v->c.r[X86_RSP] - 8, *p = tlb_wr(v, sp, 8);

	if (unlikely(!p))
		return call_cold(v, op);
	*p = next_rip(v, op);
	v->c.r[X86_RSP] = sp;
	return jump_to(v, v->c.r[X86_BLOCK] + (u64)op->imm);
}

const struct op *op_call_legacy(struct vcpu *v, const struct op *op)
{
	u64 ip = legacy_ip(v, op, v->c.r[X86_BLOCK] + (u64)op->imm);

	stack_push(v, op, op->aux, next_rip(v, op));
	return jump_to(v, ip);
}

/* Pushes the return address and returns the target. */
static attr_noinline u64 call_rm(struct vcpu *v, const struct op *op)
{
	u64 ip = rm_read(v, op, op->aux), sp = v->c.r[X86_RSP];
	struct op stk = *op;

	if (v->code_mode != CODE_64)
		ip = legacy_ip(v, op, ip);
	stk.flags |= OPF_SS; /* the push is there, whatever the operand is on */
	stack_push(v, &stk, op->aux, next_rip(v, op));
	/*
	 * Processors store the return address before they look at the target, and take the store's
	 * RSP back.
	 */
	if (unlikely(!canonical(ip))) {
		v->c.r[X86_RSP] = sp;
		raise_gp0(v, op);
	}
	return ip;
}

const struct op *op_call_rm(struct vcpu *v, const struct op *op)
{
	return jump_to(v, call_rm(v, op));
}

static attr_inline const struct op *call_to(struct vcpu *v, const struct op *op, u64 ip)
{
	u64 sp = v->c.r[X86_RSP] - 8, *p = tlb_wr(v, sp, 8);

	if (unlikely(!p || !canonical(ip)))
		return op_call_rm(v, op);
	*p = next_rip(v, op);
	v->c.r[X86_RSP] = sp;
	return jump_to(v, ip);
}

const struct op *op_call_r64(struct vcpu *v, const struct op *op)
{
	return call_to(v, op, REG(u64, op->dst));
}

const struct op *op_call_m64(struct vcpu *v, const struct op *op)
{
	const u64 *p = hot_rd(v, op, 8);

	if (unlikely(!p))
		return op_call_rm(v, op);
	return call_to(v, op, *p);
}

attr_cold static const struct op *ret_cold(struct vcpu *v, const struct op *op)
{
	u64 ip = stack_peek(v, op, 8, 0);

	if (!canonical(ip))
		raise_gp0(v, op);
	v->c.r[X86_RSP] += 8 + (u64)op->imm;
	return jump_to(v, ip);
}

const struct op *op_ret(struct vcpu *v, const struct op *op)
{
	const u64 *p = tlb_rd(v, v->c.r[X86_RSP], 8);

	if (unlikely(!p || !canonical(*p)))
		return ret_cold(v, op);
	v->c.r[X86_RSP] += 8 + (u64)op->imm;
	return jump_to(v, *p);
}

const struct op *op_ret_legacy(struct vcpu *v, const struct op *op)
{
	u64 ip = new_ip(v, op, stack_peek(v, op, op->aux, 0));

	stack_add(v, op->aux + op->imm);
	return jump_to(v, ip);
}

/* LOOPNE, LOOPE, LOOP, JrCXZ: aux 0..3; the counter has the address size. */
const struct op *op_loop(struct vcpu *v, const struct op *op)
{
	u64 m = op->flags & OPF_A16				 ? 0xffff
		: op->flags & OPF_A32 || v->code_mode != CODE_64 ? 0xffffffff
								 : ~0ull;
	u64 n = v->c.r[X86_RCX];
	bool zf = (v->c.fl & X86_ZF) != 0, take;

	if (op->aux == 3) {
		take = (n & m) == 0;
	} else {
		n--;
		take = (n & m) != 0 && (op->aux == 2 || zf == (op->aux == 1));
	}
	u64 ip = take ? v->c.r[X86_BLOCK] + (u64)op->imm : next_rip(v, op);
	if (v->code_mode != CODE_64)
		ip = take ? legacy_ip(v, op, ip) : (u32)ip;
	if (op->aux != 3) {
		if (m == 0xffff)
			set_u16(v, X86_RCX * 8, (u16)n);
		else
			v->c.r[X86_RCX] = n & m;
	}
	return jump_to(v, ip);
}

/* Behind a block's last instruction. */
const struct op *op_fall(struct vcpu *v, const struct op *op)
{
	u64 ip = v->c.r[X86_BLOCK] + op->ip;

	return jump_to(v, v->code_mode == CODE_64 ? ip : (u32)ip);
}

void op_fallthrough(struct op *op, const struct op *prev)
{
	*op = (struct op){ .fn = op_fall,
			   .ip = (u16)(prev->ip + prev->len),
			   .idx = (u8)(prev->idx + 1) };
}
