/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_alu.c - integer arithmetic, moves and bit operations
 *
 * How it works
 * The host has the guest's instruction set, so each handler executes the instruction itself and
 * takes the flags with LAHF; SETO AL. That makes every flag right, also those that the manual
 * leaves undefined and a given processor family sets in its own way. Operations that change no
 * flags are plain C.
 *
 * Handlers with a memory operand come in twos. The hot one does what is nearly always enough, a
 * flat address that hits the TLB, and calls nothing, so that it needs no stack frame. Where that
 * fails it leaves to its cold twin, which begins anew and can do everything. DEF_LD, DEF_RM and
 * DEF_RMW make both from one body.
 */
#include "cpu/soft/x86/ops.h"

#define SAVE "\n\tlahf\n\tseto %%al"
#define LOADC "btl $0, %[c]\n\t" /* CF from the saved flags; touches no other flag that matters */

/* BODY with the memory operand's value in `m`. */
#define DEF_LD(fn, T, BODY)                                                                        \
	attr_cold static const struct op *fn##_cold(struct vcpu *v, const struct op *op)           \
	{                                                                                          \
		u32 ax attr_unused;                                                                \
		T m = ld_##T(v, op, ea(v, op, sizeof(T), false));                                  \
		BODY;                                                                              \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *fn(struct vcpu *v, const struct op *op)                            \
	{                                                                                          \
		u32 ax attr_unused;                                                                \
		const T *p = hot_rd(v, op, sizeof(T));                                             \
		if (unlikely(!p))                                                                  \
			return fn##_cold(v, op);                                                   \
		T m = *p;                                                                          \
		BODY;                                                                              \
		NEXT;                                                                              \
	}

/* The same with a register as r/m operand: fn##_r, fn##_m. */
#define DEF_RM(fn, T, BODY)                                                                        \
	static const struct op *fn##_r(struct vcpu *v, const struct op *op)                        \
	{                                                                                          \
		u32 ax attr_unused;                                                                \
		T m = REG(T, op->dst);                                                             \
		BODY;                                                                              \
		NEXT;                                                                              \
	}                                                                                          \
	DEF_LD(fn##_m, T, BODY)

/* BODY with a pointer to the memory operand in `p`; AFTER cannot fail and changes registers. */
#define DEF_RMW(fn, T, BODY, AFTER)                                                                \
	attr_cold static const struct op *fn##_cold(struct vcpu *v, const struct op *op)           \
	{                                                                                          \
		u32 ax attr_unused;                                                                \
		T *p = rmw(v, op, ea(v, op, sizeof(T), true), sizeof(T));                          \
		BODY;                                                                              \
		mem_commit(v, op, p);                                                              \
		AFTER;                                                                             \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *fn(struct vcpu *v, const struct op *op)                            \
	{                                                                                          \
		u32 ax attr_unused;                                                                \
		T *p = hot_wr(v, op, sizeof(T));                                                   \
		if (unlikely(!p))                                                                  \
			return fn##_cold(v, op);                                                   \
		BODY;                                                                              \
		AFTER;                                                                             \
		NEXT;                                                                              \
	}

/* --- two-operand arithmetic ------------------------------------------------------------------ */

#define ALU_ASM(insn, sx, PRE, CK, CV, dk, d, s)                                                   \
	__asm__(PRE insn #sx " %[y], %[x]" SAVE                                                    \
		: [x] dk(d), "=&a"(ax)                                                             \
		: [y] "q"(s), [c] CK(CV)                                                           \
		: "cc")

/* Register or immediate as second operand; a register as first. */
#define DEF_ALU_R(fn, insn, T, sx, PRE, CK, CV, WB, SRC)                                           \
	static const struct op *fn(struct vcpu *v, const struct op *op)                            \
	{                                                                                          \
		u32 ax;                                                                            \
		T d = REG(T, op->dst);                                                             \
		T y = SRC;                                                                         \
		ALU_ASM(insn, sx, PRE, CK, CV, "+q", d, y);                                        \
		put_flags(v, ax);                                                                  \
		if (WB)                                                                            \
			set_##T(v, op->dst, d);                                                    \
		NEXT;                                                                              \
	}
/* The same with memory as first: written, or (CMP, TEST) only read. */
#define DEF_ALU_M1(fn, insn, T, sx, PRE, CK, CV, SRC)                                              \
	DEF_RMW(fn, T, T y = SRC; ALU_ASM(insn, sx, PRE, CK, CV, "+m", *p, y), put_flags(v, ax))
#define DEF_ALU_M0(fn, insn, T, sx, PRE, CK, CV, SRC)                                              \
	DEF_LD(fn, T, T y = SRC; ALU_ASM(insn, sx, PRE, CK, CV, "+q", m, y); put_flags(v, ax))

#define DEF_ALU1(name, insn, T, sx, PRE, CK, CV, WB)                                               \
	DEF_ALU_R(name##_##T##_rr, insn, T, sx, PRE, CK, CV, WB, REG(T, op->src))                  \
	DEF_ALU_R(name##_##T##_ri, insn, T, sx, PRE, CK, CV, WB, (T)op->imm)                       \
	DEF_LD(name##_##T##_rm, T, T d = REG(T, op->dst);                                          \
	       ALU_ASM(insn, sx, PRE, CK, CV, "+q", d, m); put_flags(v, ax);                       \
	       if (WB) set_##T(v, op->dst, d))                                                     \
	DEF_ALU_M##WB(name##_##T##_mr, insn, T, sx, PRE, CK, CV, REG(T, op->src))                  \
		DEF_ALU_M##WB(name##_##T##_mi, insn, T, sx, PRE, CK, CV, (T)op->imm)

#define DEF_ALU(name, insn, PRE, CK, CV, WB)                                                       \
	DEF_ALU1(name, insn, u8, b, PRE, CK, CV, WB)                                               \
	DEF_ALU1(name, insn, u16, w, PRE, CK, CV, WB)                                              \
	DEF_ALU1(name, insn, u32, l, PRE, CK, CV, WB)                                              \
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
	DEF_LD(mov_##T##_rm, T, set_##T(v, op->dst, m))                                            \
	DEF_ST(mov_##T##_mr, T, REG(T, op->src))                                                   \
	DEF_ST(mov_##T##_mi, T, (T)op->imm)
/* A store, which needs not read: unlike DEF_RMW's it may go to a device. */
#define DEF_ST(fn, T, SRC)                                                                         \
	attr_cold static const struct op *fn##_cold(struct vcpu *v, const struct op *op)           \
	{                                                                                          \
		st_##T(v, op, ea(v, op, sizeof(T), true), SRC);                                    \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *fn(struct vcpu *v, const struct op *op)                            \
	{                                                                                          \
		T *p = hot_wr(v, op, sizeof(T));                                                   \
		if (unlikely(!p))                                                                  \
			return fn##_cold(v, op);                                                   \
		*p = SRC;                                                                          \
		NEXT;                                                                              \
	}
DEF_MOV(u8)
DEF_MOV(u16)
DEF_MOV(u32)
DEF_MOV(u64)

#define ROW_ALU1(n, T)                                                                             \
	{                                                                                          \
		n##_##T##_rr, n##_##T##_ri, n##_##T##_rm, n##_##T##_mr, n##_##T##_mi               \
	}
#define ROW_ALU(n)                                                                                 \
	{                                                                                          \
		ROW_ALU1(n, u8), ROW_ALU1(n, u16), ROW_ALU1(n, u32), ROW_ALU1(n, u64)              \
	}
const op_fn ops_alu[A_OPS][4][F_FORMS] = {
	[A_ADD] = ROW_ALU(add), [A_OR] = ROW_ALU(or),	[A_ADC] = ROW_ALU(adc),
	[A_SBB] = ROW_ALU(sbb), [A_AND] = ROW_ALU(and), [A_SUB] = ROW_ALU(sub),
	[A_XOR] = ROW_ALU(xor), [A_CMP] = ROW_ALU(cmp), [A_TEST] = ROW_ALU(test),
	[A_MOV] = ROW_ALU(mov),
};

/* --- one operand ------------------------------------------------------------------------------ */

#define UN_ASM(insn, sx, PRE, CK, CV, dk, d)                                                       \
	__asm__(PRE insn #sx " %[x]" SAVE : [x] dk(d), "=&a"(ax) : [c] CK(CV) : "cc")
#define DEF_UN1(name, insn, T, sx, PRE, CK, CV, FL)                                                \
	static const struct op *name##_##T##_r(struct vcpu *v, const struct op *op)                \
	{                                                                                          \
		u32 ax;                                                                            \
		T d = REG(T, op->dst);                                                             \
		UN_ASM(insn, sx, PRE, CK, CV, "+q", d);                                            \
		if (FL)                                                                            \
			put_flags(v, ax);                                                          \
		set_##T(v, op->dst, d);                                                            \
		NEXT;                                                                              \
	}                                                                                          \
	DEF_RMW(name##_##T##_m, T, UN_ASM(insn, sx, PRE, CK, CV, "+m", *p),                        \
		if (FL) put_flags(v, ax))
#define DEF_UN(name, insn, PRE, CK, CV, FL)                                                        \
	DEF_UN1(name, insn, u8, b, PRE, CK, CV, FL)                                                \
	DEF_UN1(name, insn, u16, w, PRE, CK, CV, FL)                                               \
	DEF_UN1(name, insn, u32, l, PRE, CK, CV, FL)                                               \
	DEF_UN1(name, insn, u64, q, PRE, CK, CV, FL)
DEF_UN(inc, "inc", LOADC, "r", (u32)v->c.fl, 1)
DEF_UN(dec, "dec", LOADC, "r", (u32)v->c.fl, 1)
DEF_UN(neg, "neg", "", "i", 0, 1)
DEF_UN(not, "not", "", "i", 0, 0)

#define ROW_M1(n, T)                                                                               \
	{                                                                                          \
		n##_##T##_r, n##_##T##_m                                                           \
	}
#define ROW_M(n)                                                                                   \
	{                                                                                          \
		ROW_M1(n, u8), ROW_M1(n, u16), ROW_M1(n, u32), ROW_M1(n, u64)                      \
	}
#define ROW_MX(n)                                                                                  \
	{                                                                                          \
		{ NULL, NULL }, ROW_M1(n, u16), ROW_M1(n, u32), ROW_M1(n, u64)                     \
	}
const op_fn ops_un[U_OPS][4][2] = {
	[U_INC] = ROW_M(inc),
	[U_DEC] = ROW_M(dec),
	[U_NEG] = ROW_M(neg),
	[U_NOT] = ROW_M(not ),
};

/* --- shifts and rotates ---------------------------------------------------------------------- */

/*
 * The old flags are loaded first (ADD makes OF, SAHF the rest): a count of zero keeps them all,
 * rotates keep most, RCL and RCR read CF.
 */
#define LOADF "movzwl %[f], %%eax\n\taddb $0x7f, %%al\n\tsahf\n\t"
#define OLD_FLAGS [f] "m"(*(const u16 *)(const void *)&v->c.of)

#define SH_ASM(insn, sx, d, cnt)                                                                   \
	__asm__(LOADF insn #sx " %%cl, %[x]" SAVE                                                  \
		: [x] "+q"(d), "=&a"(ax)                                                           \
		: "c"(cnt), OLD_FLAGS                                                              \
		: "cc")
#define DEF_SH2(fn, insn, T, sx, CNT, FLAGS)                                                       \
	static const struct op *fn##_r(struct vcpu *v, const struct op *op)                        \
	{                                                                                          \
		u32 ax;                                                                            \
		T d = REG(T, op->dst);                                                             \
		SH_ASM(insn, sx, d, CNT);                                                          \
		set_##T(v, op->dst, d);                                                            \
		put_flags(v, FLAGS(T));                                                            \
		NEXT;                                                                              \
	}                                                                                          \
	DEF_RMW(fn##_m, T, T d = *p; SH_ASM(insn, sx, d, CNT); *p = d, put_flags(v, ax))
/*
 * ROL and ROR of a register by an immediate other than 1: OF is undefined, and Intel's processors
 * leave it as it was, but not where the count is in CL, as it is here. The translator uses the
 * immediate form; it must not be told from us.
 */
#define ROT_FLAGS(T) ((op->imm & (sizeof(T) == 8 ? 63 : 31)) == 1 ? ax : (ax & ~0xffu) | v->c.of)
#define SH_FLAGS(T) ax
#define DEF_SH1(name, insn, T, sx, FLAGS)                                                          \
	DEF_SH2(name##_##T##_i, insn, T, sx, (u8)op->imm, FLAGS)                                   \
	DEF_SH2(name##_##T##_c, insn, T, sx, (u8)v->c.r[X86_RCX], SH_FLAGS)
#define DEF_SH(n, insn, FLAGS)                                                                     \
	DEF_SH1(n, insn, u8, b, FLAGS)                                                             \
	DEF_SH1(n, insn, u16, w, FLAGS)                                                            \
	DEF_SH1(n, insn, u32, l, FLAGS)                                                            \
	DEF_SH1(n, insn, u64, q, FLAGS)
DEF_SH(rol, "rol", ROT_FLAGS)
DEF_SH(ror, "ror", ROT_FLAGS)
DEF_SH(rcl, "rcl", SH_FLAGS)
DEF_SH(rcr, "rcr", SH_FLAGS)
DEF_SH(shl, "shl", SH_FLAGS)
DEF_SH(shr, "shr", SH_FLAGS)
DEF_SH(sar, "sar", SH_FLAGS)

#define ROW_IC1(n, T)                                                                              \
	{                                                                                          \
		{ n##_##T##_i_r, n##_##T##_i_m },                                                  \
		{                                                                                  \
			n##_##T##_c_r, n##_##T##_c_m                                               \
		}                                                                                  \
	}
#define ROW_SH(n)                                                                                  \
	{                                                                                          \
		ROW_IC1(n, u8), ROW_IC1(n, u16), ROW_IC1(n, u32), ROW_IC1(n, u64)                  \
	}
#define NO_IC                                                                                      \
	{                                                                                          \
		{ NULL, NULL },                                                                    \
		{                                                                                  \
			NULL, NULL                                                                 \
		}                                                                                  \
	}
const op_fn ops_sh[S_OPS][4][2][2] = {
	[S_ROL] = ROW_SH(rol), [S_ROR] = ROW_SH(ror), [S_RCL] = ROW_SH(rcl), [S_RCR] = ROW_SH(rcr),
	[S_SHL] = ROW_SH(shl), [S_SHR] = ROW_SH(shr), [S_SAR] = ROW_SH(sar),
};

#define SHD_ASM(insn, sx, d, s, cnt)                                                               \
	__asm__(LOADF insn #sx " %%cl, %[y], %[x]" SAVE                                            \
		: [x] "+q"(d), "=&a"(ax)                                                           \
		: "c"(cnt), [y] "q"(s), OLD_FLAGS                                                  \
		: "cc")
#define DEF_SHD2(fn, insn, T, sx, CNT)                                                             \
	static const struct op *fn##_r(struct vcpu *v, const struct op *op)                        \
	{                                                                                          \
		u32 ax;                                                                            \
		T d = REG(T, op->dst);                                                             \
		SHD_ASM(insn, sx, d, REG(T, op->src), CNT);                                        \
		set_##T(v, op->dst, d);                                                            \
		put_flags(v, ax);                                                                  \
		NEXT;                                                                              \
	}                                                                                          \
	DEF_RMW(fn##_m, T, T d = *p; SHD_ASM(insn, sx, d, REG(T, op->src), CNT);                   \
		*p = d, put_flags(v, ax))
#define DEF_SHD1(name, insn, T, sx)                                                                \
	DEF_SHD2(name##_##T##_i, insn, T, sx, (u8)op->imm)                                         \
	DEF_SHD2(name##_##T##_c, insn, T, sx, (u8)v->c.r[X86_RCX])
DEF_SHD1(shld, "shld", u16, w)
DEF_SHD1(shld, "shld", u32, l)
DEF_SHD1(shld, "shld", u64, q)
DEF_SHD1(shrd, "shrd", u16, w)
DEF_SHD1(shrd, "shrd", u32, l)
DEF_SHD1(shrd, "shrd", u64, q)
const op_fn ops_shd[2][4][2][2] = {
	{ NO_IC, ROW_IC1(shld, u16), ROW_IC1(shld, u32), ROW_IC1(shld, u64) },
	{ NO_IC, ROW_IC1(shrd, u16), ROW_IC1(shrd, u32), ROW_IC1(shrd, u64) },
};

/* --- moves that widen, LEA, conditionals
 * ----------------------------------------------------------- */

#define DEF_MOVX(name, F, ST, T)                                                                   \
	static const struct op *name##_##F##_##T##_r(struct vcpu *v, const struct op *op)          \
	{                                                                                          \
		set_##T(v, op->dst, (T)(ST)REG(F, op->src));                                       \
		NEXT;                                                                              \
	}                                                                                          \
	DEF_LD(name##_##F##_##T##_m, F, set_##T(v, op->dst, (T)(ST)m))
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
			{ n##_##F##_u32_r, n##_##F##_u32_m },                                      \
		{                                                                                  \
			n##_##F##_u64_r, n##_##F##_u64_m                                           \
		}                                                                                  \
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

/* A handler for each condition: decoding it every time costs more than all the rest. */
#define EACH_CC(X)                                                                                 \
	X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

#define DEF_SETCC(cc)                                                                              \
	static const struct op *setcc_##cc##_r(struct vcpu *v, const struct op *op)                \
	{                                                                                          \
		set_u8(v, op->dst, cond_true(v, cc));                                              \
		NEXT;                                                                              \
	}                                                                                          \
	DEF_ST(setcc_##cc##_m, u8, cond_true(v, cc))
#define ROW_SETCC(cc) { setcc_##cc##_r, setcc_##cc##_m },
EACH_CC(DEF_SETCC)
const op_fn ops_setcc[16][2] = { EACH_CC(ROW_SETCC) };

/* The source is read, and a 32-bit destination extended, whether or not the condition holds. */
#define DEF_CMOV1(cc, T)                                                                           \
	DEF_RM(cmov_##cc##_##T, T, set_##T(v, op->src, cond_true(v, cc) ? m : REG(T, op->src)))
#define DEF_CMOV(cc) DEF_CMOV1(cc, u16) DEF_CMOV1(cc, u32) DEF_CMOV1(cc, u64)
#define ROW_CMOV(cc) ROW_MX(cmov_##cc),
EACH_CC(DEF_CMOV)
const op_fn ops_cmov[16][4][2] = { EACH_CC(ROW_CMOV) };

/* --- exchanges
 * ------------------------------------------------------------------------------------- */

#define ARITH_ASM(insn, sx, d, s)                                                                  \
	__asm__(insn #sx " %[y], %[x]" SAVE : [x] "+q"(d), "=&a"(ax) : [y] "q"(s) : "cc")

#define DEF_XCHG(T, sx)                                                                            \
	static const struct op *xchg_##T##_r(struct vcpu *v, const struct op *op)                  \
	{                                                                                          \
		T x = REG(T, op->dst);                                                             \
		T y = REG(T, op->src);                                                             \
		set_##T(v, op->dst, y);                                                            \
		set_##T(v, op->src, x);                                                            \
		NEXT;                                                                              \
	}                                                                                          \
	DEF_RMW(xchg_##T##_m, T, T x = *p; *p = REG(T, op->src), set_##T(v, op->src, x))           \
	/* With both the same register, the sum stays. */                                          \
	static const struct op *xadd_##T##_r(struct vcpu *v, const struct op *op)                  \
	{                                                                                          \
		u32 ax;                                                                            \
		T d = REG(T, op->dst);                                                             \
		T old = d;                                                                         \
		ARITH_ASM("add", sx, d, REG(T, op->src));                                          \
		set_##T(v, op->src, old);                                                          \
		set_##T(v, op->dst, d);                                                            \
		put_flags(v, ax);                                                                  \
		NEXT;                                                                              \
	}                                                                                          \
	DEF_RMW(xadd_##T##_m, T, T d = *p; T old = d; ARITH_ASM("add", sx, d, REG(T, op->src));    \
		*p = d, set_##T(v, op->src, old); put_flags(v, ax))                                \
	/* Where it fails all 64 bits of a destination register stay; of rAX if it succeeds. */    \
	static const struct op *cmpxchg_##T##_r(struct vcpu *v, const struct op *op)               \
	{                                                                                          \
		u32 ax;                                                                            \
		T d = REG(T, op->dst);                                                             \
		T acc = (T)v->c.r[X86_RAX];                                                        \
		T t = acc;                                                                         \
		ARITH_ASM("cmp", sx, t, d);                                                        \
		if (acc == d)                                                                      \
			set_##T(v, op->dst, REG(T, op->src));                                      \
		else                                                                               \
			set_##T(v, X86_RAX * 8, d);                                                \
		put_flags(v, ax);                                                                  \
		NEXT;                                                                              \
	}                                                                                          \
	/* Memory is written, if only with what it holds, even where the comparison fails. */      \
	DEF_RMW(cmpxchg_##T##_m, T, T d = *p; T acc = (T)v->c.r[X86_RAX]; T t = acc;               \
		ARITH_ASM("cmp", sx, t, d);                                                        \
		*p = acc == d ? REG(T, op->src) : d, if (acc != d) set_##T(v, X86_RAX * 8, d);     \
		put_flags(v, ax))
DEF_XCHG(u8, b)
DEF_XCHG(u16, w)
DEF_XCHG(u32, l)
DEF_XCHG(u64, q)
const op_fn ops_xchg[4][2] = ROW_M(xchg);
const op_fn ops_xadd[4][2] = ROW_M(xadd);
const op_fn ops_cmpxchg[4][2] = ROW_M(cmpxchg);

/* --- bits
 * --------------------------------------------------------------------------------------------- */

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

#define BT_ASM(insn, sx, d, bit)                                                                   \
	__asm__(LOADF insn #sx " %[b], %[x]" SAVE                                                  \
		: [x] "+r"(d), "=&a"(ax)                                                           \
		: [b] "r"(bit), OLD_FLAGS                                                          \
		: "cc")

/*
 * With the bit number in a register, a memory operand is a bit string: the number reaches beyond.
 * Only BT does not write.
 */
#define DEF_BT1(name, insn, T, ST, sx, WB)                                                         \
	static attr_inline T *name##_##T##_at(struct vcpu *v, const struct op *op, T bit, T *tmp)  \
	{                                                                                          \
		s64 byte = ((s64)(ST)bit >> 3) & ~(s64)(sizeof(T) - 1);                            \
		u64 a;                                                                             \
		if (unlikely(op->flags & OPF_EASLOW))                                              \
			a = ea_far(v, op, byte, sizeof(T), WB);                                    \
		else                                                                               \
			a = ea_flat(v, op) + (u64)byte;                                            \
		if (WB)                                                                            \
			return rmw(v, op, a, sizeof(T));                                           \
		*tmp = ld_##T(v, op, a);                                                           \
		return tmp;                                                                        \
	}                                                                                          \
	static const struct op *name##_##T##_r_m(struct vcpu *v, const struct op *op)              \
	{                                                                                          \
		u32 ax;                                                                            \
		T bit = REG(T, op->src), tmp;                                                      \
		T *p = name##_##T##_at(v, op, bit, &tmp), d = *p;                                  \
		bit &= sizeof(T) * 8 - 1;                                                          \
		BT_ASM(insn, sx, d, bit);                                                          \
		*p = d;                                                                            \
		mem_commit(v, op, p);                                                              \
		put_flags(v, ax);                                                                  \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *name##_##T##_r_r(struct vcpu *v, const struct op *op)              \
	{                                                                                          \
		u32 ax;                                                                            \
		T d = REG(T, op->dst);                                                             \
		T bit = REG(T, op->src) & (T)(sizeof(T) * 8 - 1);                                  \
		BT_ASM(insn, sx, d, bit);                                                          \
		if (WB)                                                                            \
			set_##T(v, op->dst, d);                                                    \
		put_flags(v, ax);                                                                  \
		NEXT;                                                                              \
	}                                                                                          \
	static const struct op *name##_##T##_i_r(struct vcpu *v, const struct op *op)              \
	{                                                                                          \
		u32 ax;                                                                            \
		T d = REG(T, op->dst);                                                             \
		T bit = (T)op->imm & (T)(sizeof(T) * 8 - 1);                                       \
		BT_ASM(insn, sx, d, bit);                                                          \
		if (WB)                                                                            \
			set_##T(v, op->dst, d);                                                    \
		put_flags(v, ax);                                                                  \
		NEXT;                                                                              \
	}                                                                                          \
	DEF_BT_M##WB(name##_##T##_i_m, insn, T, sx)
#define DEF_BT_M1(fn, insn, T, sx)                                                                 \
	DEF_RMW(fn, T, T d = *p; T bit = (T)op->imm & (T)(sizeof(T) * 8 - 1);                      \
		BT_ASM(insn, sx, d, bit); *p = d, put_flags(v, ax))
#define DEF_BT_M0(fn, insn, T, sx)                                                                 \
	DEF_LD(fn, T, T bit = (T)op->imm & (T)(sizeof(T) * 8 - 1); BT_ASM(insn, sx, m, bit);       \
	       put_flags(v, ax))

#define DEF_BT(n, insn, WB)                                                                        \
	DEF_BT1(n, insn, u16, s16, w, WB)                                                          \
	DEF_BT1(n, insn, u32, s32, l, WB)                                                          \
	DEF_BT1(n, insn, u64, s64, q, WB)
DEF_BT(bt, "bt", 0)
DEF_BT(bts, "bts", 1)
DEF_BT(btr, "btr", 1)
DEF_BT(btc, "btc", 1)
#define ROW_RI1(n, T)                                                                              \
	{                                                                                          \
		{ n##_##T##_r_r, n##_##T##_r_m },                                                  \
		{                                                                                  \
			n##_##T##_i_r, n##_##T##_i_m                                               \
		}                                                                                  \
	}
#define ROW_BT(n)                                                                                  \
	{                                                                                          \
		NO_IC, ROW_RI1(n, u16), ROW_RI1(n, u32), ROW_RI1(n, u64)                           \
	}
const op_fn ops_bt[B_OPS][4][2][2] = {
	[B_BT] = ROW_BT(bt),
	[B_BTS] = ROW_BT(bts),
	[B_BTR] = ROW_BT(btr),
	[B_BTC] = ROW_BT(btc),
};

/*
 * BSF and BSR of zero set ZF and leave the destination, all 64 bits of it: the host's own does, and
 * so do we.
 */
#define DEF_SCAN(name, insn, T, sx)                                                                \
	DEF_RM(name##_##T, T, T d = REG(T, op->src); __asm__(LOADF insn #sx " %[y], %[x]" SAVE     \
							     : [x] "+r"(d), "=&a"(ax)              \
							     : [y] "r"(m), OLD_FLAGS               \
							     : "cc");                              \
	       put_flags(v, ax); if (m || sizeof(T) != 4) set_##T(v, op->src, d))
DEF_SCAN(bsf, "bsf", u16, w)
DEF_SCAN(bsf, "bsf", u32, l)
DEF_SCAN(bsf, "bsf", u64, q)
DEF_SCAN(bsr, "bsr", u16, w)
DEF_SCAN(bsr, "bsr", u32, l)
DEF_SCAN(bsr, "bsr", u64, q)
const op_fn ops_bscan[2][4][2] = { ROW_MX(bsf), ROW_MX(bsr) };

/* As CRC32 below, an instruction that every host with SSE4.2 has. */
#define DEF_POPCNT(T)                                                                              \
	DEF_RM(popcnt_##T, T, u64 x = m; __asm__("popcntq %[x], %[x]"                              \
						 : [x] "+r"(x)                                     \
						 :                                                 \
						 : "cc");                                          \
	       set_##T(v, op->src, (T)x); v->c.fl = m ? 2 : X86_ZF | 2; v->c.of = 0)
DEF_POPCNT(u16)
DEF_POPCNT(u32)
DEF_POPCNT(u64)
const op_fn ops_popcnt[4][2] = ROW_MX(popcnt);

/*
 * CRC-32C (Castagnoli). The host has the instruction: thunks need SSE4.2 (vec_new refuses hosts
 * without), and the translator takes it as it is.
 */
#define DEF_CRC(T, sx, W)                                                                          \
	DEF_RM(crc32_##T, T, u64 crc = REG(u32, op->src); __asm__("crc32" #sx " %[y], %" W "[x]"   \
								  : [x] "+r"(crc)                  \
								  : [y] "r"(m));                   \
	       set_u32(v, op->src, (u32)crc))
DEF_CRC(u8, b, "k")
DEF_CRC(u16, w, "k")
DEF_CRC(u32, l, "k")
DEF_CRC(u64, q, "q")
const op_fn ops_crc32[4][2] = ROW_M(crc32);

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

/* --- multiplication and division
 * ------------------------------------------------------------------ */

#define DEF_MULW(name, insn, T, sx)                                                                \
	DEF_RM(name##_##T, T, u64 lo = (T)v->c.r[X86_RAX]; u64 hi = (T)v->c.r[X86_RDX];            \
	       ax = *(u16 *)(void *)&v->c.of;                                                      \
	       __asm__("xchg %%rax, %[lo]\n\t" insn #sx " %[y]\n\txchg %%rax, %[lo]" SAVE          \
		       : [lo] "+r"(lo), "+d"(hi), "=&a"(ax)                                        \
		       : [y] "r"(m)                                                                \
		       : "cc");                                                                    \
	       put_flags(v, ax); set_##T(v, X86_RAX * 8, (T)lo); set_##T(v, X86_RDX * 8, (T)hi))
#define DEF_MUL8(name, insn)                                                                       \
	DEF_RM(name##_u8, u8, u32 lo; ax = (u8)v->c.r[X86_RAX];                                    \
	       __asm__(insn " %[y]\n\tmovl %%eax, %[lo]" SAVE                                      \
		       : "+a"(ax), [lo] "=&r"(lo)                                                  \
		       : [y] "q"(m)                                                                \
		       : "cc");                                                                    \
	       put_flags(v, ax); set_u16(v, X86_RAX * 8, (u16)lo))
DEF_MUL8(mul, "mulb")
DEF_MULW(mul, "mul", u16, w)
DEF_MULW(mul, "mul", u32, l)
DEF_MULW(mul, "mul", u64, q)
DEF_MUL8(imul, "imulb")
DEF_MULW(imul, "imul", u16, w)
DEF_MULW(imul, "imul", u32, l)
DEF_MULW(imul, "imul", u64, q)
const op_fn ops_mul[4][2] = ROW_M(mul);
const op_fn ops_imul[4][2] = ROW_M(imul);

#define IMUL_ASM(sx, d, s)                                                                         \
	__asm__("imul" #sx " %[y], %[x]" SAVE : [x] "+r"(d), "=&a"(ax) : [y] "r"(s) : "cc")
#define DEF_IMUL2(T, sx)                                                                           \
	DEF_RM(imul2_##T, T, T d = REG(T, op->src); IMUL_ASM(sx, d, m); put_flags(v, ax);          \
	       set_##T(v, op->src, d))                                                             \
	DEF_RM(imul3_##T, T, T y = (T)op->imm; IMUL_ASM(sx, m, y); put_flags(v, ax);               \
	       set_##T(v, op->src, m))
DEF_IMUL2(u16, w)
DEF_IMUL2(u32, l)
DEF_IMUL2(u64, q)
const op_fn ops_imul2[4][2] = ROW_MX(imul2);
const op_fn ops_imul3[4][2] = ROW_MX(imul3);

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
		/* The one quotient that C itself cannot hold. */                                  \
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
