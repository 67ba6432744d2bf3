/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pick.h - what the compiler's parts share: an instruction on its way to an op
 *
 * A picker chooses the handler of an instruction and fills the operands of its op. @arg is what
 * the list in pick.c says beside it. A handler left NULL is one that a table does not have for
 * this size: no such instruction.
 */
#ifndef ORR_CPU_SOFT_X86_PICK_H
#define ORR_CPU_SOFT_X86_PICK_H

#include "cpu/soft/x86/vcpu.h"

#include <Zydis/Zydis.h>

struct pick {
	struct vcpu *v;
	const ZydisDecodedInstruction *in;
	const ZydisDecodedOperand *o;
	const u8 *bytes;
	struct op *op;
	bool *full; /* set: no room for a vector thunk */
	bool ends;  /* the block ends here */
	u8 rep;	    /* last of F2, F3, or 0 */
};

void pick_insn(struct pick *p);

/* Operands (pick.c). */
unsigned size_index(unsigned bits); /* 0..3 for 8..64 bits */
u8 reg_off(ZydisRegister r);	    /* byte offset of a general register in r[] */
u8 seg_num(ZydisRegister r);
u8 address_size(const struct pick *p); /* OPF_A16, OPF_A32, or 0 */
void set_seg(struct pick *p, u8 seg);
void set_mem(struct pick *p, const ZydisDecodedOperand *o);
void set_rm(struct pick *p, const ZydisDecodedOperand *o); /* memory, or the register at dst */
bool is_mem(const ZydisDecodedOperand *o);
bool is_reg(const ZydisDecodedOperand *o);
bool is_imm(const ZydisDecodedOperand *o);
bool is_gpr(const ZydisDecodedOperand *o);
bool legacy(const struct pick *p); /* not 64-bit code */

/* pick_int.c */
enum pick_exchange { X_XCHG, X_XADD, X_CMPXCHG };
void pick_alu(struct pick *p, unsigned a);   /* enum alu_op */
void pick_un(struct pick *p, unsigned u);    /* enum un_op */
void pick_shift(struct pick *p, unsigned s); /* enum sh_op */
void pick_bt(struct pick *p, unsigned b);    /* enum bt_op */
void pick_mov(struct pick *p, unsigned arg);
void pick_shd(struct pick *p, unsigned right);
void pick_movx(struct pick *p, unsigned sign);
void pick_movsxd(struct pick *p, unsigned arg);
void pick_lea(struct pick *p, unsigned arg);
void pick_exchange(struct pick *p, unsigned x);
void pick_cmpxchg_pair(struct pick *p, unsigned bytes);
void pick_bscan(struct pick *p, unsigned reverse);
void pick_popcnt(struct pick *p, unsigned arg);
void pick_crc32(struct pick *p, unsigned arg);
void pick_bswap(struct pick *p, unsigned arg);
void pick_mul(struct pick *p, unsigned arg);
void pick_imul(struct pick *p, unsigned arg);
void pick_div(struct pick *p, unsigned sign);
void pick_extend(struct pick *p, unsigned into_dx);
void pick_setcc(struct pick *p);
void pick_cmov(struct pick *p);

/* pick_flow.c */
enum pick_stack { K_PUSHA, K_POPA, K_PUSHF, K_POPF, K_ENTER, K_LEAVE };
void pick_jmp_call(struct pick *p, unsigned call);
void pick_ret(struct pick *p, unsigned arg);
void pick_loop(struct pick *p, unsigned kind);
void pick_push(struct pick *p, unsigned arg);
void pick_pop(struct pick *p, unsigned arg);
void pick_stack(struct pick *p, unsigned what);
void pick_xlat(struct pick *p, unsigned arg);
void pick_jcc(struct pick *p);
bool pick_strings(struct pick *p); /* whether it was one */

/* pick_sys.c */
void pick_sys(struct pick *p, unsigned y);  /* enum sys; ends the block */
void pick_misc(struct pick *p, unsigned m); /* enum misc */
void pick_misc_imm(struct pick *p, unsigned m);
void pick_sys_rm(struct pick *p, unsigned y);
void pick_sys_mem(struct pick *p, unsigned y);
void pick_sys_state(struct pick *p, unsigned y);
void pick_sys_table(struct pick *p, unsigned y);
void pick_int(struct pick *p, unsigned arg);
void pick_iret(struct pick *p, unsigned bytes);
void pick_sysret(struct pick *p, unsigned y);
void pick_io(struct pick *p, unsigned in);
void pick_invpcid(struct pick *p, unsigned arg);
void pick_lar(struct pick *p, unsigned y);
void pick_arpl(struct pick *p, unsigned arg);
void pick_bound(struct pick *p, unsigned arg);
void pick_lxs(struct pick *p, unsigned s);
void pick_clflush(struct pick *p, unsigned arg);
void pick_ac(struct pick *p, unsigned set);
void pick_vec(struct pick *p);
/* The thunk of a vector instruction, its memory operand set; NULL: none, and the op raises #UD. */
const struct vec_insn *pick_vec_insn(struct pick *p);

/* pick_vex.c */
void pick_vex(struct pick *p); /* what is VEX-encoded */
void pick_movbe(struct pick *p, unsigned arg);
void pick_count(struct pick *p, unsigned trailing);

#endif
