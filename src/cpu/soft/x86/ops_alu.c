/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_alu.c - integer arithmetic, moves and bit operations
 *
 * How it works
 * The host has the guest's instruction set, so each handler executes the instruction itself and
 * takes the flags with LAHF; SETO AL. That makes every flag right, also those that the manual
 * leaves undefined and a given processor family sets in its own way. Operations that change no
 * flags are plain C.
 */
#include "cpu/soft/x86/ops.h"

#define SAVE "\n\tlahf\n\tseto %%al"
#define LOADC "btl $0, %[c]\n\t" /* CF from the saved flags; touches no other flag that matters */

/* --- two-operand arithmetic ------------------------------------------------------------------ */

#define DEF_ALU1(name, insn, T, sx, PRE, CK, CV, WB)                                                    \
	static const struct op *name##_##T##_rr(struct vcpu *v, const struct op *op)               \
	{                                                                                          \
		u32 ax;                                                                            \
		T d = REG(T, op->dst), s = REG(T, op->src);                                        \
		__asm__(PRE insn #sx " %[s], %[d]" SAVE                                            \
			: [d] "+q"(d), "=&a"(ax)                                                   \
			: [s] "q"(s), [c] CK(CV)                                                          \
			: "cc");                                                                   \
		put_flags(v, ax);                                                                  \
		if (WB)                                                                            \
			set_##T(v, op->dst, d);                                                    \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *name##_##T##_ri(struct vcpu *v, const struct op *op)               \
	{                                                                                          \
		u32 ax;                                                                            \
		T d = REG(T, op->dst), s = (T)op->imm;                                             \
		__asm__(PRE insn #sx " %[s], %[d]" SAVE                                            \
			: [d] "+q"(d), "=&a"(ax)                                                   \
			: [s] "q"(s), [c] CK(CV)                                                          \
			: "cc");                                                                   \
		put_flags(v, ax);                                                                  \
		if (WB)                                                                            \
			set_##T(v, op->dst, d);                                                    \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *name##_##T##_rm(struct vcpu *v, const struct op *op)               \
	{                                                                                          \
		u32 ax;                                                                            \
		T s = ld_##T(v, op, ea(v, op, sizeof(T), false)), d = REG(T, op->dst);             \
		__asm__(PRE insn #sx " %[s], %[d]" SAVE                                            \
			: [d] "+q"(d), "=&a"(ax)                                                   \
			: [s] "q"(s), [c] CK(CV)                                                          \
			: "cc");                                                                   \
		put_flags(v, ax);                                                                  \
		if (WB)                                                                            \
			set_##T(v, op->dst, d);                                                    \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *name##_##T##_mx(struct vcpu *v, const struct op *op, T s)          \
	{                                                                                          \
		u32 ax;                                                                            \
		u64 a = ea(v, op, sizeof(T), WB);                                                  \
		if (WB) {                                                                          \
			T *p = rmw(v, op, a, sizeof(T));                                           \
			__asm__(PRE insn #sx " %[s], %[d]" SAVE                                    \
				: [d] "+m"(*p), "=&a"(ax)                                          \
				: [s] "q"(s), [c] CK(CV)                                                  \
				: "cc");                                                           \
			mem_commit(v, op, p);                                                      \
		} else {                                                                           \
			T d = ld_##T(v, op, a);                                                    \
			__asm__(PRE insn #sx " %[s], %[d]" SAVE                                    \
				: [d] "+q"(d), "=&a"(ax)                                           \
				: [s] "q"(s), [c] CK(CV)                                                  \
				: "cc");                                                           \
		}                                                                                  \
		put_flags(v, ax);                                                                  \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *name##_##T##_mr(struct vcpu *v, const struct op *op)               \
	{                                                                                          \
		return name##_##T##_mx(v, op, REG(T, op->src));                                    \
	}                                                                                          \
	static const struct op *name##_##T##_mi(struct vcpu *v, const struct op *op)               \
	{                                                                                          \
		return name##_##T##_mx(v, op, (T)op->imm);                                         \
	}

#define DEF_ALU(name, insn, PRE, CK, CV, WB)                                                            \
	DEF_ALU1(name, insn, u8, b, PRE, CK, CV, WB)                                                    \
	DEF_ALU1(name, insn, u16, w, PRE, CK, CV, WB)                                                   \
	DEF_ALU1(name, insn, u32, l, PRE, CK, CV, WB)                                                   \
	DEF_ALU1(name, insn, u64, q, PRE, CK, CV, WB)

DEF_ALU(add, "add", "", "i", 0, 1)
DEF_ALU(or, "or", "", "i", 0, 1)
DEF_ALU(adc, "adc", LOADC, "r", (u32)v->c.fl, 1)
DEF_ALU(sbb, "sbb", LOADC, "r", (u32)v->c.fl, 1)
DEF_ALU(and, "and", "", "i", 0, 1)
DEF_ALU(sub, "sub", "", "i", 0, 1)
DEF_ALU(xor, "xor", "", "i", 0, 1)
DEF_ALU(cmp, "cmp", "", "i", 0, 0)
DEF_ALU(test, "test", "", "i", 0, 0)

#define DEF_MOV(T)                                                                                 \
	static const struct op *mov_##T##_rr(struct vcpu *v, const struct op *op)                  \
	{                                                                                          \
		set_##T(v, op->dst, REG(T, op->src));                                              \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *mov_##T##_ri(struct vcpu *v, const struct op *op)                  \
	{                                                                                          \
		set_##T(v, op->dst, (T)op->imm);                                                   \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *mov_##T##_rm(struct vcpu *v, const struct op *op)                  \
	{                                                                                          \
		set_##T(v, op->dst, ld_##T(v, op, ea(v, op, sizeof(T), false)));                   \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *mov_##T##_mr(struct vcpu *v, const struct op *op)                  \
	{                                                                                          \
		st_##T(v, op, ea(v, op, sizeof(T), true), REG(T, op->src));                        \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *mov_##T##_mi(struct vcpu *v, const struct op *op)                  \
	{                                                                                          \
		st_##T(v, op, ea(v, op, sizeof(T), true), (T)op->imm);                             \
		NEXT;                                                                              \
	}
DEF_MOV(u8)
DEF_MOV(u16)
DEF_MOV(u32)
DEF_MOV(u64)

#define ROW_ALU1(n, T) { n##_##T##_rr, n##_##T##_ri, n##_##T##_rm, n##_##T##_mr, n##_##T##_mi }
#define ROW_ALU(n) { ROW_ALU1(n, u8), ROW_ALU1(n, u16), ROW_ALU1(n, u32), ROW_ALU1(n, u64) }
const op_fn ops_alu[A_OPS][4][F_FORMS] = {
	[A_ADD] = ROW_ALU(add), [A_OR] = ROW_ALU(or),	[A_ADC] = ROW_ALU(adc),
	[A_SBB] = ROW_ALU(sbb), [A_AND] = ROW_ALU(and), [A_SUB] = ROW_ALU(sub),
	[A_XOR] = ROW_ALU(xor), [A_CMP] = ROW_ALU(cmp), [A_TEST] = ROW_ALU(test),
	[A_MOV] = ROW_ALU(mov),
};

/* --- one operand ------------------------------------------------------------------------------ */

#define DEF_UN1(name, insn, T, sx, PRE, CK, CV, FL)                                                     \
	static const struct op *name##_##T##_r(struct vcpu *v, const struct op *op)                \
	{                                                                                          \
		u32 ax;                                                                            \
		T d = REG(T, op->dst);                                                             \
		__asm__(PRE insn #sx " %[d]" SAVE : [d] "+q"(d), "=&a"(ax) : [c] CK(CV) : "cc");            \
		if (FL)                                                                            \
			put_flags(v, ax);                                                          \
		set_##T(v, op->dst, d);                                                            \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *name##_##T##_m(struct vcpu *v, const struct op *op)                \
	{                                                                                          \
		u32 ax;                                                                            \
		T *p = rmw(v, op, ea(v, op, sizeof(T), true), sizeof(T));                          \
		__asm__(PRE insn #sx " %[d]" SAVE : [d] "+m"(*p), "=&a"(ax) : [c] CK(CV) : "cc");           \
		mem_commit(v, op, p);                                                              \
		if (FL)                                                                            \
			put_flags(v, ax);                                                          \
		NEXT;                                                                              \
	}
#define DEF_UN(name, insn, PRE, CK, CV, FL)                                                             \
	DEF_UN1(name, insn, u8, b, PRE, CK, CV, FL)                                                     \
	DEF_UN1(name, insn, u16, w, PRE, CK, CV, FL)                                                    \
	DEF_UN1(name, insn, u32, l, PRE, CK, CV, FL)                                                    \
	DEF_UN1(name, insn, u64, q, PRE, CK, CV, FL)
DEF_UN(inc, "inc", LOADC, "r", (u32)v->c.fl, 1)
DEF_UN(dec, "dec", LOADC, "r", (u32)v->c.fl, 1)
DEF_UN(neg, "neg", "", "i", 0, 1)
DEF_UN(not, "not", "", "i", 0, 0)

#define ROW_UN1(n, T) { n##_##T##_r, n##_##T##_m }
#define ROW_UN(n) { ROW_UN1(n, u8), ROW_UN1(n, u16), ROW_UN1(n, u32), ROW_UN1(n, u64) }
const op_fn ops_un[U_OPS][4][2] = {
	[U_INC] = ROW_UN(inc), [U_DEC] = ROW_UN(dec), [U_NEG] = ROW_UN(neg), [U_NOT] = ROW_UN(not),
};

/* --- shifts and rotates ------------------------------------------------------------------------- */

/*
 * The old flags are loaded first (ADD makes OF, SAHF the rest): a count of zero keeps them all,
 * rotates keep most, RCL and RCR read CF.
 */
#define LOADF "movzwl %[f], %%eax\n\taddb $0x7f, %%al\n\tsahf\n\t"

#define DEF_SH1(name, insn, T, sx)                                                                 \
	static attr_inline void name##_##T(struct vcpu *v, const struct op *op, u8 cnt)            \
	{                                                                                          \
		u32 ax;                                                                            \
		T *p = rm_rmw(v, op, sizeof(T));                                                   \
		T d = *p;                                                                          \
		__asm__(LOADF insn #sx " %%cl, %[d]" SAVE                                          \
			: [d] "+q"(d), "=&a"(ax)                                                   \
			: "c"(cnt), [f] "m"(*(u16 *)(void *)&v->c.of)                              \
			: "cc");                                                                   \
		*p = d;                                                                            \
		rm_done(v, op, p, sizeof(T));                                                      \
		put_flags(v, ax);                                                                  \
	}                                                                                          \
	static const struct op *name##_##T##_i(struct vcpu *v, const struct op *op)                \
	{                                                                                          \
		name##_##T(v, op, (u8)op->imm);                                                    \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *name##_##T##_c(struct vcpu *v, const struct op *op)                \
	{                                                                                          \
		name##_##T(v, op, (u8)v->c.r[X86_RCX]);                                            \
		NEXT;                                                                              \
	}
#define DEF_SH(n, insn)                                                                            \
	DEF_SH1(n, insn, u8, b)                                                                    \
	DEF_SH1(n, insn, u16, w)                                                                   \
	DEF_SH1(n, insn, u32, l)                                                                   \
	DEF_SH1(n, insn, u64, q)
DEF_SH(rol, "rol")
DEF_SH(ror, "ror")
DEF_SH(rcl, "rcl")
DEF_SH(rcr, "rcr")
DEF_SH(shl, "shl")
DEF_SH(shr, "shr")
DEF_SH(sar, "sar")

#define ROW_IC1(n, T) { n##_##T##_i, n##_##T##_c }
#define ROW_SH(n) { ROW_IC1(n, u8), ROW_IC1(n, u16), ROW_IC1(n, u32), ROW_IC1(n, u64) }
const op_fn ops_sh[S_OPS][4][2] = {
	[S_ROL] = ROW_SH(rol), [S_ROR] = ROW_SH(ror), [S_RCL] = ROW_SH(rcl), [S_RCR] = ROW_SH(rcr),
	[S_SHL] = ROW_SH(shl), [S_SHR] = ROW_SH(shr), [S_SAR] = ROW_SH(sar),
};

#define DEF_SHD1(name, insn, T, sx)                                                                \
	static attr_inline void name##_##T(struct vcpu *v, const struct op *op, u8 cnt)            \
	{                                                                                          \
		u32 ax;                                                                            \
		T *p = rm_rmw(v, op, sizeof(T));                                                   \
		T d = *p, s = REG(T, op->src);                                                     \
		__asm__(LOADF insn #sx " %%cl, %[s], %[d]" SAVE                                    \
			: [d] "+q"(d), "=&a"(ax)                                                   \
			: "c"(cnt), [s] "q"(s), [f] "m"(*(u16 *)(void *)&v->c.of)                  \
			: "cc");                                                                   \
		*p = d;                                                                            \
		rm_done(v, op, p, sizeof(T));                                                      \
		put_flags(v, ax);                                                                  \
	}                                                                                          \
	static const struct op *name##_##T##_i(struct vcpu *v, const struct op *op)                \
	{                                                                                          \
		name##_##T(v, op, (u8)op->imm);                                                    \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *name##_##T##_c(struct vcpu *v, const struct op *op)                \
	{                                                                                          \
		name##_##T(v, op, (u8)v->c.r[X86_RCX]);                                            \
		NEXT;                                                                              \
	}
DEF_SHD1(shld, "shld", u16, w)
DEF_SHD1(shld, "shld", u32, l)
DEF_SHD1(shld, "shld", u64, q)
DEF_SHD1(shrd, "shrd", u16, w)
DEF_SHD1(shrd, "shrd", u32, l)
DEF_SHD1(shrd, "shrd", u64, q)
const op_fn ops_shd[2][4][2] = {
	{ { NULL, NULL }, ROW_IC1(shld, u16), ROW_IC1(shld, u32), ROW_IC1(shld, u64) },
	{ { NULL, NULL }, ROW_IC1(shrd, u16), ROW_IC1(shrd, u32), ROW_IC1(shrd, u64) },
};

/* --- moves that widen, LEA, conditionals ----------------------------------------------------------- */

#define DEF_MOVX(name, F, ST, T)                                                                   \
	static const struct op *name##_##F##_##T##_r(struct vcpu *v, const struct op *op)          \
	{                                                                                          \
		set_##T(v, op->dst, (T)(ST)REG(F, op->src));                                       \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *name##_##F##_##T##_m(struct vcpu *v, const struct op *op)          \
	{                                                                                          \
		set_##T(v, op->dst, (T)(ST)ld_##F(v, op, ea(v, op, sizeof(F), false)));            \
		NEXT;                                                                              \
	}
DEF_MOVX(movz, u8, u8, u16)
DEF_MOVX(movz, u8, u8, u32)
DEF_MOVX(movz, u8, u8, u64)
DEF_MOVX(movz, u16, u16, u16)
DEF_MOVX(movz, u16, u16, u32)
DEF_MOVX(movz, u16, u16, u64)
DEF_MOVX(movs, u8, s8, u16)
DEF_MOVX(movs, u8, s8, u32)
DEF_MOVX(movs, u8, s8, u64)
DEF_MOVX(movs, u16, s16, u16)
DEF_MOVX(movs, u16, s16, u32)
DEF_MOVX(movs, u16, s16, u64)
DEF_MOVX(movs, u32, s32, u64)
#define ROW_X(n, F)                                                                                \
	{                                                                                          \
		{ NULL, NULL }, { n##_##F##_u16_r, n##_##F##_u16_m },                              \
			{ n##_##F##_u32_r, n##_##F##_u32_m }, { n##_##F##_u64_r, n##_##F##_u64_m } \
	}
const op_fn ops_movx[2][2][4][2] = {
	{ ROW_X(movz, u8), ROW_X(movz, u16) },
	{ ROW_X(movs, u8), ROW_X(movs, u16) },
};
const op_fn ops_movsxd[2] = { movs_u32_u64_r, movs_u32_u64_m };

/* The offset, without segment base, cut to the address and then the operand size. */
#define DEF_LEA(T)                                                                                 \
	static const struct op *lea_##T(struct vcpu *v, const struct op *op)                       \
	{                                                                                          \
		u64 a = v->c.r[op->base] + (v->c.r[op->index] << op->scale) + (u64)(s64)op->disp;  \
		if (op->flags & OPF_A32)                                                           \
			a = (u32)a;                                                                \
		else if (op->flags & OPF_A16)                                                      \
			a = (u16)a;                                                                \
		set_##T(v, op->dst, (T)a);                                                         \
		NEXT;                                                                              \
	}
DEF_LEA(u16)
DEF_LEA(u32)
DEF_LEA(u64)
const op_fn ops_lea[4] = { NULL, lea_u16, lea_u32, lea_u64 };

static const struct op *setcc(struct vcpu *v, const struct op *op)
{
	rm_write(v, op, 1, cond_true(v, op->aux));
	NEXT;
}
const op_fn ops_setcc = setcc;

/* The source is read whether or not the condition holds; r/m is the source here. */
#define DEF_CMOV(T)                                                                                \
	static const struct op *cmov_##T(struct vcpu *v, const struct op *op)                      \
	{                                                                                          \
		T x = (T)rm_read(v, op, sizeof(T));                                                \
		set_##T(v, op->src, cond_true(v, op->aux) ? x : REG(T, op->src));                  \
		NEXT;                                                                              \
	}
DEF_CMOV(u16)
DEF_CMOV(u32)
DEF_CMOV(u64)
const op_fn ops_cmov[4] = { NULL, cmov_u16, cmov_u32, cmov_u64 };

/* --- exchanges ------------------------------------------------------------------------------------- */

#define DEF_XCHG(T, sx)                                                                            \
	static const struct op *xchg_##T(struct vcpu *v, const struct op *op)                      \
	{                                                                                          \
		T *p = rm_rmw(v, op, sizeof(T));                                                   \
		T x = *p, y = REG(T, op->src);                                                     \
		*p = y;                                                                            \
		rm_done(v, op, p, sizeof(T));                                                      \
		set_##T(v, op->src, x);                                                            \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *xadd_##T(struct vcpu *v, const struct op *op)                      \
	{                                                                                          \
		u32 ax;                                                                            \
		T *p = rm_rmw(v, op, sizeof(T));                                                   \
		T d = *p, old = d, s = REG(T, op->src);                                            \
		__asm__("add" #sx " %[s], %[d]" SAVE                                               \
			: [d] "+q"(d), "=&a"(ax)                                                   \
			: [s] "q"(s)                                                               \
			: "cc");                                                                   \
		if (op->flags & OPF_MEM) {                                                         \
			*p = d;                                                                    \
			mem_commit(v, op, p);                                                      \
			set_##T(v, op->src, old);                                                  \
		} else { /* with both the same register, the sum stays */                         \
			set_##T(v, op->src, old);                                                  \
			set_##T(v, op->dst, d);                                                    \
		}                                                                                  \
		put_flags(v, ax);                                                                  \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *cmpxchg_##T(struct vcpu *v, const struct op *op)                   \
	{                                                                                          \
		u32 ax;                                                                            \
		T *p = rm_rmw(v, op, sizeof(T));                                                   \
		T d = *p, acc = (T)v->c.r[X86_RAX], t = acc;                                       \
		__asm__("cmp" #sx " %[s], %[d]" SAVE                                               \
			: [d] "+q"(t), "=&a"(ax)                                                   \
			: [s] "q"(d)                                                               \
			: "cc");                                                                   \
		if (acc == d) {                                                                    \
			*p = REG(T, op->src);                                                      \
			rm_done(v, op, p, sizeof(T));                                              \
		} else { /* memory is written back even so; of a register all 64 bits stay */     \
			if (op->flags & OPF_MEM)                                                   \
				mem_commit(v, op, p);                                              \
			set_##T(v, X86_RAX * 8, d);                                                \
		}                                                                                  \
		put_flags(v, ax);                                                                  \
		NEXT;                                                                              \
	}
DEF_XCHG(u8, b)
DEF_XCHG(u16, w)
DEF_XCHG(u32, l)
DEF_XCHG(u64, q)
const op_fn ops_xchg[4] = { xchg_u8, xchg_u16, xchg_u32, xchg_u64 };
const op_fn ops_xadd[4] = { xadd_u8, xadd_u16, xadd_u32, xadd_u64 };
const op_fn ops_cmpxchg[4] = { cmpxchg_u8, cmpxchg_u16, cmpxchg_u32, cmpxchg_u64 };

/* --- bits --------------------------------------------------------------------------------------------- */

/* ea_slow of @op with @byte added to the offset before it is cut to the address size. */
static attr_noinline u64 ea_far(struct vcpu *v, const struct op *op, s64 byte, unsigned n,
				bool write)
{
	u64 off = v->c.r[op->base] + (v->c.r[op->index] << op->scale) + (u64)(s64)op->disp +
		  (u64)byte;

	if (op->flags & OPF_A32)
		off = (u32)off;
	else if (op->flags & OPF_A16)
		off = (u16)off;
	return seg_linear(v, op, op->seg, off, n, write);
}

/* With the bit number in a register, a memory operand is a bit string: the number reaches beyond. */
#define DEF_BT1(name, insn, T, ST, sx, WB)                                                         \
	static attr_inline void name##_##T(struct vcpu *v, const struct op *op, T bit, bool far)   \
	{                                                                                          \
		u32 ax;                                                                            \
		T *p, d;                                                                           \
		if (op->flags & OPF_MEM) {                                                         \
			s64 byte = far ? ((s64)(ST)bit >> 3) & ~(s64)(sizeof(T) - 1) : 0;          \
			u64 a;                                                                     \
			if (unlikely(op->flags & OPF_EASLOW))                                      \
				a = ea_far(v, op, byte, sizeof(T), WB);                            \
			else                                                                       \
				a = ea(v, op, sizeof(T), WB) + (u64)byte;                          \
			if (WB) {                                                                  \
				p = rmw(v, op, a, sizeof(T));                                      \
				d = *p;                                                            \
			} else {                                                                   \
				d = ld_##T(v, op, a);                                              \
				p = &d;                                                            \
			}                                                                          \
		} else {                                                                           \
			p = &REG(T, op->dst);                                                      \
			d = *p;                                                                    \
		}                                                                                  \
		bit &= sizeof(T) * 8 - 1;                                                          \
		__asm__(LOADF insn #sx " %[b], %[d]" SAVE                                          \
			: [d] "+r"(d), "=&a"(ax)                                                   \
			: [b] "r"(bit), [f] "m"(*(u16 *)(void *)&v->c.of)                          \
			: "cc");                                                                   \
		if (WB) {                                                                          \
			*p = d;                                                                    \
			rm_done(v, op, p, sizeof(T));                                              \
		}                                                                                  \
		put_flags(v, ax);                                                                  \
	}                                                                                          \
	static const struct op *name##_##T##_r(struct vcpu *v, const struct op *op)                \
	{                                                                                          \
		name##_##T(v, op, REG(T, op->src), true);                                          \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *name##_##T##_i(struct vcpu *v, const struct op *op)                \
	{                                                                                          \
		name##_##T(v, op, (T)op->imm, false);                                              \
		NEXT;                                                                              \
	}

#define DEF_BT(n, insn, WB)                                                                        \
	DEF_BT1(n, insn, u16, s16, w, WB)                                                          \
	DEF_BT1(n, insn, u32, s32, l, WB)                                                          \
	DEF_BT1(n, insn, u64, s64, q, WB)
DEF_BT(bt, "bt", 0)
DEF_BT(bts, "bts", 1)
DEF_BT(btr, "btr", 1)
DEF_BT(btc, "btc", 1)
#define ROW_RI1(n, T) { n##_##T##_r, n##_##T##_i }
#define ROW_BT(n) { { NULL, NULL }, ROW_RI1(n, u16), ROW_RI1(n, u32), ROW_RI1(n, u64) }
const op_fn ops_bt[B_OPS][4][2] = {
	[B_BT] = ROW_BT(bt), [B_BTS] = ROW_BT(bts), [B_BTR] = ROW_BT(btr), [B_BTC] = ROW_BT(btc),
};

/* BSF and BSR of zero set ZF and leave the destination: the host's own does, and so do we. */
#define DEF_SCAN(name, insn, T, sx)                                                                \
	static const struct op *name##_##T(struct vcpu *v, const struct op *op)                    \
	{                                                                                          \
		u32 ax;                                                                            \
		T s = (T)rm_read(v, op, sizeof(T)), d = REG(T, op->src);                           \
		__asm__(LOADF insn #sx " %[s], %[d]" SAVE                                          \
			: [d] "+r"(d), "=&a"(ax)                                                   \
			: [s] "r"(s), [f] "m"(*(u16 *)(void *)&v->c.of)                            \
			: "cc");                                                                   \
		put_flags(v, ax);                                                                  \
		if (s || sizeof(T) != 4) /* a 32-bit BSF of zero leaves all 64 bits */            \
			set_##T(v, op->src, d);                                                    \
		NEXT;                                                                              \
	}
DEF_SCAN(bsf, "bsf", u16, w)
DEF_SCAN(bsf, "bsf", u32, l)
DEF_SCAN(bsf, "bsf", u64, q)
DEF_SCAN(bsr, "bsr", u16, w)
DEF_SCAN(bsr, "bsr", u32, l)
DEF_SCAN(bsr, "bsr", u64, q)
const op_fn ops_bscan[2][4] = {
	{ NULL, bsf_u16, bsf_u32, bsf_u64 },
	{ NULL, bsr_u16, bsr_u32, bsr_u64 },
};

#define DEF_POPCNT(T)                                                                              \
	static const struct op *popcnt_##T(struct vcpu *v, const struct op *op)                    \
	{                                                                                          \
		T x = (T)rm_read(v, op, sizeof(T));                                                \
		set_##T(v, op->src, (T)__builtin_popcountll(x));                                   \
		v->c.fl = x ? 2 : X86_ZF | 2;                                                      \
		v->c.of = 0;                                                                       \
		NEXT;                                                                              \
	}
DEF_POPCNT(u16)
DEF_POPCNT(u32)
DEF_POPCNT(u64)
const op_fn ops_popcnt[4] = { NULL, popcnt_u16, popcnt_u32, popcnt_u64 };

/*
 * CRC-32C (Castagnoli). The host has the instruction: thunks need SSE4.2 (vec_new refuses hosts
 * without), and the translator takes it as it is.
 */
#define DEF_CRC(T, sx, W)                                                                          \
	static const struct op *crc32_##T(struct vcpu *v, const struct op *op)                     \
	{                                                                                          \
		T x = (T)rm_read(v, op, sizeof(T));                                                \
		u64 crc = REG(u32, op->src);                                                       \
		__asm__("crc32" #sx " %[x], %" W "[crc]" : [crc] "+r"(crc) : [x] "rm"(x));        \
		set_u32(v, op->src, (u32)crc);                                                     \
		NEXT;                                                                              \
	}
DEF_CRC(u8, b, "k")
DEF_CRC(u16, w, "k")
DEF_CRC(u32, l, "k")
DEF_CRC(u64, q, "q")
const op_fn ops_crc32[4] = { crc32_u8, crc32_u16, crc32_u32, crc32_u64 };

static const struct op *bswap_u16(struct vcpu *v, const struct op *op)
{
	set_u16(v, op->dst, 0); /* undefined in the manual; processors clear it */
	NEXT;
}
static const struct op *bswap_u32(struct vcpu *v, const struct op *op)
{
	set_u32(v, op->dst, __builtin_bswap32(REG(u32, op->dst)));
	NEXT;
}
static const struct op *bswap_u64(struct vcpu *v, const struct op *op)
{
	set_u64(v, op->dst, __builtin_bswap64(REG(u64, op->dst)));
	NEXT;
}
const op_fn ops_bswap[4] = { NULL, bswap_u16, bswap_u32, bswap_u64 };

/* --- multiplication and division ------------------------------------------------------------------ */

#define DEF_MULW(name, insn, T, sx)                                                                \
	static const struct op *name##_##T(struct vcpu *v, const struct op *op)                    \
	{                                                                                          \
		T s = (T)rm_read(v, op, sizeof(T));                                                \
		u64 lo = (T)v->c.r[X86_RAX], hi = (T)v->c.r[X86_RDX];                              \
		u32 f = *(u16 *)(void *)&v->c.of;                                                  \
		__asm__("xchg %%rax, %[lo]\n\t" insn #sx " %[s]\n\txchg %%rax, %[lo]" SAVE         \
			: [lo] "+r"(lo), "+d"(hi), "=&a"(f)                                        \
			: [s] "r"(s)                                                               \
			: "cc");                                                                   \
		put_flags(v, f);                                                                   \
		set_##T(v, X86_RAX * 8, (T)lo);                                                    \
		set_##T(v, X86_RDX * 8, (T)hi);                                                    \
		NEXT;                                                                              \
	}
#define DEF_MUL8(name, insn)                                                                       \
	static const struct op *name##_u8(struct vcpu *v, const struct op *op)                     \
	{                                                                                          \
		u8 s = (u8)rm_read(v, op, 1);                                                      \
		u32 ax = (u8)v->c.r[X86_RAX], lo;                                                  \
		__asm__(insn " %[s]\n\tmovl %%eax, %[lo]" SAVE                                     \
			: "+a"(ax), [lo] "=&r"(lo)                                                 \
			: [s] "q"(s)                                                               \
			: "cc");                                                                   \
		put_flags(v, ax);                                                                  \
		set_u16(v, X86_RAX * 8, (u16)lo);                                                  \
		NEXT;                                                                              \
	}
DEF_MUL8(mul, "mulb")
DEF_MULW(mul, "mul", u16, w)
DEF_MULW(mul, "mul", u32, l)
DEF_MULW(mul, "mul", u64, q)
DEF_MUL8(imul, "imulb")
DEF_MULW(imul, "imul", u16, w)
DEF_MULW(imul, "imul", u32, l)
DEF_MULW(imul, "imul", u64, q)
const op_fn ops_mul[4] = { mul_u8, mul_u16, mul_u32, mul_u64 };
const op_fn ops_imul[4] = { imul_u8, imul_u16, imul_u32, imul_u64 };

#define DEF_IMUL2(T, sx)                                                                           \
	static attr_inline void imul2_##T##_do(struct vcpu *v, const struct op *op, T x, T y)      \
	{                                                                                          \
		u32 ax;                                                                            \
		__asm__("imul" #sx " %[y], %[x]" SAVE : [x] "+r"(x), "=&a"(ax) : [y] "r"(y) : "cc"); \
		put_flags(v, ax);                                                                  \
		set_##T(v, op->src, x);                                                            \
	}                                                                                          \
	static const struct op *imul2_##T(struct vcpu *v, const struct op *op)                     \
	{                                                                                          \
		T y = (T)rm_read(v, op, sizeof(T));                                                \
		imul2_##T##_do(v, op, REG(T, op->src), y);                                         \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *imul3_##T(struct vcpu *v, const struct op *op)                     \
	{                                                                                          \
		T y = (T)rm_read(v, op, sizeof(T));                                                \
		imul2_##T##_do(v, op, y, (T)op->imm);                                              \
		NEXT;                                                                              \
	}
DEF_IMUL2(u16, w)
DEF_IMUL2(u32, l)
DEF_IMUL2(u64, q)
const op_fn ops_imul2[4] = { NULL, imul2_u16, imul2_u32, imul2_u64 };
const op_fn ops_imul3[4] = { NULL, imul3_u16, imul3_u32, imul3_u64 };

attr_cold attr_noreturn static void raise_de(struct vcpu *v, const struct op *op)
{
	x86_fault(&v->c, X86_DE);
	vcpu_raise(v, op);
}

/* Flags after a division are undefined; they are left alone. */
static const struct op *div_u8(struct vcpu *v, const struct op *op)
{
	u8 s = (u8)rm_read(v, op, 1);
	u16 a = (u16)v->c.r[X86_RAX];

	if (!s || a / s > 0xff)
		raise_de(v, op);
	set_u16(v, X86_RAX * 8, (u16)((a % s) << 8 | (a / s)));
	NEXT;
}

static const struct op *idiv_u8(struct vcpu *v, const struct op *op)
{
	s8 s = (s8)rm_read(v, op, 1);
	s16 a = (s16)v->c.r[X86_RAX];

	if (!s || a / s > 127 || a / s < -128)
		raise_de(v, op);
	set_u16(v, X86_RAX * 8, (u16)((u8)(a % s) << 8 | (u8)(a / s)));
	NEXT;
}

#define DEF_DIV(T, ST, W, SW)                                                                      \
	static const struct op *div_##T(struct vcpu *v, const struct op *op)                       \
	{                                                                                          \
		T s = (T)rm_read(v, op, sizeof(T));                                                \
		W a = (W)(T)v->c.r[X86_RDX] << (8 * sizeof(T)) | (T)v->c.r[X86_RAX];               \
		if (!s || (T)v->c.r[X86_RDX] >= s)                                                 \
			raise_de(v, op);                                                           \
		set_##T(v, X86_RAX * 8, (T)(a / s));                                               \
		set_##T(v, X86_RDX * 8, (T)(a % s));                                               \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *idiv_##T(struct vcpu *v, const struct op *op)                      \
	{                                                                                          \
		ST s = (ST)rm_read(v, op, sizeof(T));                                              \
		SW a = (SW)((W)(T)v->c.r[X86_RDX] << (8 * sizeof(T)) | (T)v->c.r[X86_RAX]);        \
		if (!s)                                                                            \
			raise_de(v, op);                                                           \
		/* The one quotient that C itself cannot hold. */                                 \
		if (s == -1 && a == (SW)((W)1 << (16 * sizeof(T) - 1)))                            \
			raise_de(v, op);                                                           \
		SW q = a / s;                                                                      \
		if (q != (ST)q)                                                                    \
			raise_de(v, op);                                                           \
		ST m = (ST)(a % s);                                                                \
		set_##T(v, X86_RAX * 8, (T)q);                                                     \
		set_##T(v, X86_RDX * 8, (T)m);                                                     \
		NEXT;                                                                              \
	}
DEF_DIV(u16, s16, u32, s32)
DEF_DIV(u32, s32, u64, s64)
DEF_DIV(u64, s64, u128, s128)
const op_fn ops_div[4] = { div_u8, div_u16, div_u32, div_u64 };
const op_fn ops_idiv[4] = { idiv_u8, idiv_u16, idiv_u32, idiv_u64 };

static const struct op *cbw(struct vcpu *v, const struct op *op)
{
	set_u16(v, X86_RAX * 8, (u16)(s8)v->c.r[X86_RAX]);
	NEXT;
}
static const struct op *cwde(struct vcpu *v, const struct op *op)
{
	set_u32(v, X86_RAX * 8, (u32)(s16)v->c.r[X86_RAX]);
	NEXT;
}
static const struct op *cdqe(struct vcpu *v, const struct op *op)
{
	set_u64(v, X86_RAX * 8, (u64)(s32)v->c.r[X86_RAX]);
	NEXT;
}
static const struct op *cwd(struct vcpu *v, const struct op *op)
{
	set_u16(v, X86_RDX * 8, (u16)((s16)v->c.r[X86_RAX] >> 15));
	NEXT;
}
static const struct op *cdq(struct vcpu *v, const struct op *op)
{
	set_u32(v, X86_RDX * 8, (u32)((s32)v->c.r[X86_RAX] >> 31));
	NEXT;
}
static const struct op *cqo(struct vcpu *v, const struct op *op)
{
	set_u64(v, X86_RDX * 8, (u64)((s64)v->c.r[X86_RAX] >> 63));
	NEXT;
}
const op_fn ops_cbw[4] = { NULL, cbw, cwde, cdqe };
const op_fn ops_cwd[4] = { NULL, cwd, cdq, cqo };
