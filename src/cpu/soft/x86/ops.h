/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops.h - handlers of single instructions, as the compiler picks them
 *
 * Conventions. An r/m operand is in memory if OPF_MEM is set, else the register at byte offset
 * `dst`; the other register is at `src`. Where a table has forms, they are in enum op_form and the
 * destination is `dst`. Sizes index as 0: 8 bits, 1: 16, 2: 32, 3: 64.
 */
#ifndef ORR_CPU_SOFT_X86_OPS_H
#define ORR_CPU_SOFT_X86_OPS_H

#include "cpu/soft/x86/vcpu.h"
#include "cpu/soft/x86/vec.h"

enum op_form { F_RR, F_RI, F_RM, F_MR, F_MI, F_FORMS };
enum alu_op { A_ADD, A_OR, A_ADC, A_SBB, A_AND, A_SUB, A_XOR, A_CMP, A_TEST, A_MOV, A_OPS };
enum un_op { U_INC, U_DEC, U_NEG, U_NOT, U_OPS };
enum sh_op { S_ROL, S_ROR, S_RCL, S_RCR, S_SHL, S_SHR, S_SAR, S_OPS };
enum bt_op { B_BT, B_BTS, B_BTR, B_BTC, B_OPS };

/* ops_alu.c */
extern const op_fn ops_alu[A_OPS][4][F_FORMS];
extern const op_fn ops_un[U_OPS][4][2];			 /* [1]: memory */
extern const op_fn ops_sh[S_OPS][4][2][2];		 /* [1]: count in CL, not imm; [mem] */
extern const op_fn ops_shd[2][4][2][2];			 /* SHLD, SHRD; sizes 1..3 */
extern const op_fn ops_movx[2][2][4][2];		 /* [zero/sign][from 8/16][to size][mem] */
extern const op_fn ops_movsxd[2];			 /* [mem]: 32 to 64 */
extern const op_fn ops_lea[4];				 /* to size 1..3 */
extern const op_fn ops_setcc[16][2], ops_cmov[16][4][2]; /* by condition; [mem] */
extern const op_fn ops_xchg[4][2], ops_xadd[4][2], ops_cmpxchg[4][2]; /* [mem], as below */
extern const op_fn ops_bt[B_OPS][4][2][2]; /* [0]: bit in src register, [1]: in imm */
extern const op_fn ops_bscan[2][4][2];	   /* BSF, BSR */
extern const op_fn ops_popcnt[4][2], ops_crc32[4][2], ops_bswap[4];
extern const op_fn ops_mul[4][2], ops_imul[4][2], ops_div[4], ops_idiv[4]; /* rAX forms */
extern const op_fn ops_imul2[4][2], ops_imul3[4][2]; /* dst in src offset; imul3: times imm */
extern const op_fn ops_cbw[4], ops_cwd[4];	     /* by operand size 1..3 */

/* ops_flow.c */
extern const op_fn ops_jcc[16];					     /* target at block + imm */
const struct op *op_jcc_legacy(struct vcpu *v, const struct op *op); /* condition in aux */
const struct op *op_jmp(struct vcpu *v, const struct op *op);
const struct op *op_jmp_legacy(struct vcpu *v, const struct op *op);
const struct op *op_jmp_rm(struct vcpu *v, const struct op *op);
const struct op *op_jmp_r64(struct vcpu *v, const struct op *op); /* in 64-bit mode */
const struct op *op_jmp_m64(struct vcpu *v, const struct op *op);
const struct op *op_call(struct vcpu *v, const struct op *op);
const struct op *op_call_legacy(struct vcpu *v, const struct op *op);
const struct op *op_call_rm(struct vcpu *v, const struct op *op);
const struct op *op_call_r64(struct vcpu *v, const struct op *op);
const struct op *op_call_m64(struct vcpu *v, const struct op *op);
const struct op *op_ret(struct vcpu *v, const struct op *op);
const struct op *op_ret_legacy(struct vcpu *v, const struct op *op);
const struct op *op_loop(struct vcpu *v, const struct op *op); /* aux: LOOP, LOOPE, LOOPNE, JrCXZ */
const struct op *op_fall(struct vcpu *v, const struct op *op);
const struct op *op_push_r64(struct vcpu *v, const struct op *op);
const struct op *op_pop_r64(struct vcpu *v, const struct op *op);
const struct op *op_push_imm64(struct vcpu *v, const struct op *op);
const struct op *op_push_rm(struct vcpu *v, const struct op *op); /* aux: bytes */
const struct op *op_push_imm(struct vcpu *v, const struct op *op);
const struct op *op_push_seg(struct vcpu *v, const struct op *op);
const struct op *op_pop_rm(struct vcpu *v, const struct op *op);
const struct op *op_pop_seg(struct vcpu *v, const struct op *op);
const struct op *op_pusha(struct vcpu *v, const struct op *op);
const struct op *op_popa(struct vcpu *v, const struct op *op);
const struct op *op_pushf(struct vcpu *v, const struct op *op);
const struct op *op_popf(struct vcpu *v, const struct op *op);
const struct op *op_enter(struct vcpu *v, const struct op *op);
const struct op *op_leave(struct vcpu *v, const struct op *op);
void stack_push(struct vcpu *v, const struct op *op, unsigned n, u64 val);
u64 stack_peek(struct vcpu *v, const struct op *op, unsigned n, unsigned skip);
void stack_add(struct vcpu *v, s64 n);

/* The linear address of @off in segment @sg: checked outside 64-bit mode. */
u64 seg_linear(struct vcpu *v, const struct op *op, unsigned sg, u64 off, unsigned n, bool write);

/* ops_str.c; aux: element bytes | STR_REP */
#define STR_REP 0x80
const struct op *op_movs(struct vcpu *v, const struct op *op);
const struct op *op_stos(struct vcpu *v, const struct op *op);
const struct op *op_lods(struct vcpu *v, const struct op *op);
const struct op *op_scas(struct vcpu *v, const struct op *op);
const struct op *op_cmps(struct vcpu *v, const struct op *op);
const struct op *op_ins(struct vcpu *v, const struct op *op);
const struct op *op_outs(struct vcpu *v, const struct op *op);

/* ops_misc.c: flags, decimal, exchange */
const struct op *op_misc(struct vcpu *v, const struct op *op); /* aux: enum misc */
enum misc {
	M_NOP,
	M_LAHF,
	M_SAHF,
	M_CLC,
	M_STC,
	M_CMC,
	M_CLD,
	M_STD,
	M_XLAT,
	M_AAA,
	M_AAS,
	M_AAM,
	M_AAD,
	M_DAA,
	M_DAS,
	M_SALC,
	M_FENCE,
};
const struct op *op_cmpxchg8b(struct vcpu *v, const struct op *op);
const struct op *op_cmpxchg16b(struct vcpu *v, const struct op *op);
const struct op *op_movabs(struct vcpu *v, const struct op *op); /* aux: bytes | 16: store */
const struct op *op_bound(struct vcpu *v, const struct op *op);
const struct op *op_lxs(struct vcpu *v, const struct op *op); /* LDS..LSS; aux seg, imm bytes */

/* ops_sys.c; aux: enum sys */
const struct op *op_sys(struct vcpu *v, const struct op *op);
enum sys {
	Y_UD,
	Y_TOOLONG,
	Y_INT,
	Y_INT3,
	Y_INT1,
	Y_INTO,
	Y_IRET,
	Y_HLT,
	Y_CLI,
	Y_STI,
	Y_CLTS,
	Y_CPUID,
	Y_RDTSC,
	Y_RDTSCP,
	Y_RDPMC,
	Y_RDMSR,
	Y_WRMSR,
	Y_SYSCALL,
	Y_SYSRET,
	Y_SYSENTER,
	Y_SYSEXIT,
	Y_SWAPGS,
	Y_XGETBV,
	Y_XSETBV,
	Y_INVD,
	Y_WBINVD,
	Y_MOV_FROM_CR,
	Y_MOV_TO_CR,
	Y_MOV_FROM_DR,
	Y_MOV_TO_DR,
	Y_FAR_JMP_IMM,
	Y_FAR_CALL_IMM,
	Y_FAR_JMP_M,
	Y_FAR_CALL_M,
	Y_FAR_RET,
	Y_IN,
	Y_OUT,
	Y_PAUSE,
	Y_RDRAND,
	Y_RDSEED,
	Y_RDFSBASE,
	Y_RDGSBASE,
	Y_WRFSBASE,
	Y_WRGSBASE,
	Y_LGDT,
	Y_LIDT,
	Y_SGDT,
	Y_SIDT,
	Y_LLDT,
	Y_LTR,
	Y_SLDT,
	Y_STR,
	Y_LMSW,
	Y_SMSW,
	Y_INVLPG,
	Y_INVPCID,
	Y_LAR,
	Y_LSL,
	Y_VERR,
	Y_VERW,
	Y_ARPL,
	Y_MOV_TO_SEG,
	Y_FXSAVE,
	Y_FXRSTOR,
	Y_XSAVE,
	Y_XSAVEOPT,
	Y_XSAVEC,
	Y_XRSTOR,
	Y_COUNT,
};
const struct op *op_stac(struct vcpu *v, const struct op *op);
const struct op *op_clac(struct vcpu *v, const struct op *op);
const struct op *op_clflush(struct vcpu *v, const struct op *op);
const struct op *op_mov_from_seg(struct vcpu *v, const struct op *op);

/* ops_vec.c: ptr is a struct vec_insn; SSE by its operand, and everything else */
const struct op *op_vec_reg(struct vcpu *v, const struct op *op);
const struct op *op_vec_load(struct vcpu *v, const struct op *op);
const struct op *op_vec_store(struct vcpu *v, const struct op *op);
const struct op *op_vec_x87(struct vcpu *v, const struct op *op);

/* ops_avx.c: ptr is a struct vec_insn, but for those behind the blank line */
const struct op *op_avx_reg(struct vcpu *v, const struct op *op);
const struct op *op_avx_load(struct vcpu *v, const struct op *op);
const struct op *op_avx_store(struct vcpu *v, const struct op *op);
const struct op *op_avx_load8(struct vcpu *v, const struct op *op);
const struct op *op_avx_round_store(struct vcpu *v, const struct op *op);

#define VX_SIZE 0x0c /* aux: bytes of an element, 4 or 8 */
#define VX_256 0x10
#define VX_INDEX8 0x20 /* indices have 8 bytes */
const struct op *op_vzeroupper(struct vcpu *v, const struct op *op);
const struct op *op_vzeroall(struct vcpu *v, const struct op *op);
const struct op *op_maskload(struct vcpu *v, const struct op *op); /* dst, src: vector registers */
const struct op *op_maskstore(struct vcpu *v, const struct op *op);
const struct op *op_gather(struct vcpu *v, const struct op *op); /* imm: register of indices */

/*
 * ops_bmi.c: aux bytes; destination in src offset, imm: number of one more register, or an
 * immediate. BLSx: the destination is VEX.vvvv. MULX: the upper half goes to src, the lower to imm.
 */
const struct op *op_andn(struct vcpu *v, const struct op *op);
const struct op *op_bextr(struct vcpu *v, const struct op *op);
const struct op *op_bzhi(struct vcpu *v, const struct op *op);
const struct op *op_blsi(struct vcpu *v, const struct op *op);
const struct op *op_blsmsk(struct vcpu *v, const struct op *op);
const struct op *op_blsr(struct vcpu *v, const struct op *op);
const struct op *op_mulx(struct vcpu *v, const struct op *op);
const struct op *op_pdep(struct vcpu *v, const struct op *op);
const struct op *op_pext(struct vcpu *v, const struct op *op);
const struct op *op_rorx(struct vcpu *v, const struct op *op);
const struct op *op_sarx(struct vcpu *v, const struct op *op);
const struct op *op_shlx(struct vcpu *v, const struct op *op);
const struct op *op_shrx(struct vcpu *v, const struct op *op);
const struct op *op_movbe_load(struct vcpu *v, const struct op *op);
const struct op *op_movbe_store(struct vcpu *v, const struct op *op);
const struct op *op_lzcnt(struct vcpu *v, const struct op *op);
const struct op *op_tzcnt(struct vcpu *v, const struct op *op);

/* --- shared by handler files ------------------------------------------------------------------ */

static attr_inline void raise_ud(struct vcpu *v, const struct op *op)
{
	x86_fault(&v->c, X86_UD);
	vcpu_raise(v, op);
}

static attr_inline void raise_gp0(struct vcpu *v, const struct op *op)
{
	x86_fault_err(&v->c, X86_GP, 0);
	vcpu_raise(v, op);
}

static attr_inline void set_u8(struct vcpu *v, u8 off, u8 x)
{
	REG(u8, off) = x;
}
static attr_inline void set_u16(struct vcpu *v, u8 off, u16 x)
{
	REG(u16, off) = x;
}
static attr_inline void set_u32(struct vcpu *v, u8 off, u32 x)
{
	REG(u64, off) = x; /* 32-bit results clear the upper half */
}
static attr_inline void set_u64(struct vcpu *v, u8 off, u64 x)
{
	REG(u64, off) = x;
}

/* A memory operand of the usual kind that the TLB has, or NULL: see ops_alu.c. */
static attr_inline const void *hot_rd(struct vcpu *v, const struct op *op, unsigned n)
{
	if (unlikely(op->flags & OPF_EASLOW))
		return NULL;
	return tlb_rd(v, ea_flat(v, op), n);
}

static attr_inline void *hot_wr(struct vcpu *v, const struct op *op, unsigned n)
{
	if (unlikely(op->flags & OPF_EASLOW))
		return NULL;
	return tlb_wr(v, ea_flat(v, op), n);
}

/* The r/m operand for reading and writing; done with rm_done. */
static attr_inline void *rm_rmw(struct vcpu *v, const struct op *op, unsigned n)
{
	if (op->flags & OPF_MEM)
		return rmw(v, op, ea(v, op, n, true), n);
	return &REG(u8, op->dst);
}

static attr_inline void rm_done(struct vcpu *v, const struct op *op, void *p, unsigned n)
{
	if (op->flags & OPF_MEM)
		mem_commit(v, op, p);
	else if (n == 4)
		*(u64 *)p = *(u32 *)p;
}

static attr_inline u64 rm_read(struct vcpu *v, const struct op *op, unsigned n)
{
	if (op->flags & OPF_MEM) {
		u64 a = ea(v, op, n, false);
		switch (n) {
		case 1:
			return ld_u8(v, op, a);
		case 2:
			return ld_u16(v, op, a);
		case 4:
			return ld_u32(v, op, a);
		default:
			return ld_u64(v, op, a);
		}
	}
	switch (n) {
	case 1:
		return REG(u8, op->dst);
	case 2:
		return REG(u16, op->dst);
	case 4:
		return REG(u32, op->dst);
	default:
		return REG(u64, op->dst);
	}
}

static attr_inline void rm_write(struct vcpu *v, const struct op *op, unsigned n, u64 x)
{
	if (op->flags & OPF_MEM) {
		u64 a = ea(v, op, n, true);
		switch (n) {
		case 1:
			st_u8(v, op, a, (u8)x);
			return;
		case 2:
			st_u16(v, op, a, (u16)x);
			return;
		case 4:
			st_u32(v, op, a, (u32)x);
			return;
		default:
			st_u64(v, op, a, x);
			return;
		}
	}
	switch (n) {
	case 1:
		set_u8(v, op->dst, (u8)x);
		return;
	case 2:
		set_u16(v, op->dst, (u16)x);
		return;
	case 4:
		set_u32(v, op->dst, (u32)x);
		return;
	default:
		set_u64(v, op->dst, x);
	}
}

static attr_inline void put_flags(struct vcpu *v, u32 ax)
{
	*(u16 *)(void *)&v->c.of = (u16)ax;
}

static attr_inline bool cond_true(const struct vcpu *v, unsigned cc)
{
	u8 f = v->c.fl, o = v->c.of;
	bool r;

	switch (cc >> 1) {
	case 0:
		r = o;
		break;
	case 1:
		r = f & X86_CF;
		break;
	case 2:
		r = f & X86_ZF;
		break;
	case 3:
		r = f & (X86_CF | X86_ZF);
		break;
	case 4:
		r = f & X86_SF;
		break;
	case 5:
		r = f & X86_PF;
		break;
	case 6:
		r = (f >> 7) != o;
		break;
	default:
		r = (f & X86_ZF) || (f >> 7) != o;
		break;
	}
	return r ^ (cc & 1);
}

/* An instruction with a thunk and a memory operand that it reads, or writes. */
static attr_inline void vec_load(struct vcpu *v, const struct op *op)
{
	const struct vec_insn *i = op->ptr;
	u64 a = ea(v, op, i->mem_size, false);
	void *p = tlb_rd(v, a, i->mem_size);

	if (unlikely(!p || (a & (i->mem_align - 1u)))) {
		if (a & (i->mem_align - 1u))
			raise_gp0(v, op);
		p = mem_ref(v, op, a, i->mem_size, false);
	}
	if (unlikely(i->fn(&v->c, p)))
		vcpu_raise(v, op);
}

static attr_inline void vec_store(struct vcpu *v, const struct op *op)
{
	const struct vec_insn *i = op->ptr;
	u64 a = ea(v, op, i->mem_size, true);

	if (unlikely(a & (i->mem_align - 1u)))
		raise_gp0(v, op);
	void *p = rmw(v, op, a, i->mem_size);
	if (unlikely(i->fn(&v->c, p)))
		vcpu_raise(v, op);
	mem_commit(v, op, p);
}

#endif
