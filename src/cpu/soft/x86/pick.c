/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pick.c - from an instruction to its picker: the list of instructions, and operands into ops
 *
 * How it works
 * Most instructions are in the list `picks` below, by mnemonic. Strings are found by opcode, since
 * Zydis calls some of them and some of SSE by one name (MOVSD, CMPSD); conditions by category.
 * What nothing here knows goes to the vector thunks, and what they do not know is not in the CPU
 * model: #UD.
 */
#include "cpu/soft/x86/pick.h"

#include "cpu/soft/x86/ops.h"

/* --- operands ----------------------------------------------------------------------------- */

unsigned size_index(unsigned bits)
{
	return bits == 8 ? 0 : bits == 16 ? 1 : bits == 32 ? 2 : 3;
}

u8 reg_off(ZydisRegister r)
{
	unsigned n;

	if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_R15B) {
		n = (unsigned)(r - ZYDIS_REGISTER_AL);
		if (n < 4)
			return (u8)(n * 8);
		if (n < 8)
			return (u8)((n - 4) * 8 + 1);
		return (u8)((n - 4) * 8);
	}
	if (r >= ZYDIS_REGISTER_AX && r <= ZYDIS_REGISTER_R15W)
		return (u8)((r - ZYDIS_REGISTER_AX) * 8);
	if (r >= ZYDIS_REGISTER_EAX && r <= ZYDIS_REGISTER_R15D)
		return (u8)((r - ZYDIS_REGISTER_EAX) * 8);
	if (r >= ZYDIS_REGISTER_RAX && r <= ZYDIS_REGISTER_R15)
		return (u8)((r - ZYDIS_REGISTER_RAX) * 8);
	return X86_ZERO * 8;
}

u8 seg_num(ZydisRegister r)
{
	switch (r) {
	case ZYDIS_REGISTER_ES:
		return X86_ES;
	case ZYDIS_REGISTER_CS:
		return X86_CS;
	case ZYDIS_REGISTER_SS:
		return X86_SS;
	case ZYDIS_REGISTER_FS:
		return X86_FS;
	case ZYDIS_REGISTER_GS:
		return X86_GS;
	default:
		return X86_DS;
	}
}

u8 address_size(const struct pick *p)
{
	return p->in->address_width == 16 ? OPF_A16 : p->in->address_width == 32 ? OPF_A32 : 0;
}

void set_seg(struct pick *p, u8 seg)
{
	if (p->v->code_mode == CODE_64 && seg != X86_FS && seg != X86_GS) {
		if (seg == X86_SS)
			p->op->flags |= OPF_SS;
		seg = X86_SEGS;
	}
	p->op->seg = seg;
}

/*
 * Mod 0 with SIB base 5 is a 32-bit displacement without a base, whatever REX.B says (SDM vol. 2,
 * table 2-5). Zydis 4.0 makes it R13 without displacement where the address size is 32.
 */
static bool sib_without_base(const struct pick *p)
{
	const ZydisDecodedInstructionRaw *raw = &p->in->raw;

	return (p->in->attributes & ZYDIS_ATTRIB_HAS_SIB) && raw->modrm.mod == 0 &&
	       raw->sib.base == 5;
}

void set_mem(struct pick *p, const ZydisDecodedOperand *o)
{
	struct op *op = p->op;
	s64 disp = o->mem.disp.has_displacement ? o->mem.disp.value : 0;
	u8 as = address_size(p);

	op->flags |= OPF_MEM | as | (as ? OPF_EASLOW : 0);
	op->base = op->index = X86_ZERO;
	op->scale = 0;
	if (o->mem.base == ZYDIS_REGISTER_RIP || o->mem.base == ZYDIS_REGISTER_EIP) {
		op->base = X86_BLOCK;
		disp += op->ip + op->len;
	} else if (sib_without_base(p)) {
		disp = p->in->raw.disp.value;
	} else if (o->mem.base != ZYDIS_REGISTER_NONE) {
		op->base = reg_off(o->mem.base) / 8;
	}
	if (o->mem.index != ZYDIS_REGISTER_NONE) {
		op->index = reg_off(o->mem.index) / 8;
		op->scale = (u8)__builtin_ctz(o->mem.scale ? o->mem.scale : 1);
	}
	op->disp = (s32)disp;
	set_seg(p, seg_num(o->mem.segment));
}

void set_rm(struct pick *p, const ZydisDecodedOperand *o)
{
	if (o->type == ZYDIS_OPERAND_TYPE_MEMORY)
		set_mem(p, o);
	else
		p->op->dst = reg_off(o->reg.value);
}

bool is_mem(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_MEMORY;
}

bool is_reg(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_REGISTER;
}

bool is_imm(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

bool is_gpr(const ZydisDecodedOperand *o)
{
	ZydisRegisterClass c = ZydisRegisterGetClass(o->reg.value);

	return c == ZYDIS_REGCLASS_GPR8 || c == ZYDIS_REGCLASS_GPR16 || c == ZYDIS_REGCLASS_GPR32 ||
	       c == ZYDIS_REGCLASS_GPR64;
}

bool legacy(const struct pick *p)
{
	return p->v->code_mode != CODE_64;
}

/* --- the list ------------------------------------------------------------------------------ */

struct picker {
	void (*fn)(struct pick *p, unsigned arg);
	unsigned arg;
};

#define MN(name) ZYDIS_MNEMONIC_##name

static const struct picker picks[] = {
	/* moves and arithmetic */
	[MN(MOV)] = { pick_mov, 0 },
	[MN(MOVNTI)] = { pick_alu, A_MOV },
	[MN(ADD)] = { pick_alu, A_ADD },
	[MN(OR)] = { pick_alu, A_OR },
	[MN(ADC)] = { pick_alu, A_ADC },
	[MN(SBB)] = { pick_alu, A_SBB },
	[MN(AND)] = { pick_alu, A_AND },
	[MN(SUB)] = { pick_alu, A_SUB },
	[MN(XOR)] = { pick_alu, A_XOR },
	[MN(CMP)] = { pick_alu, A_CMP },
	[MN(TEST)] = { pick_alu, A_TEST },
	[MN(INC)] = { pick_un, U_INC },
	[MN(DEC)] = { pick_un, U_DEC },
	[MN(NEG)] = { pick_un, U_NEG },
	[MN(NOT)] = { pick_un, U_NOT },
	[MN(ROL)] = { pick_shift, S_ROL },
	[MN(ROR)] = { pick_shift, S_ROR },
	[MN(RCL)] = { pick_shift, S_RCL },
	[MN(RCR)] = { pick_shift, S_RCR },
	[MN(SHL)] = { pick_shift, S_SHL },
	[MN(SHR)] = { pick_shift, S_SHR },
	[MN(SAR)] = { pick_shift, S_SAR },
	[MN(SHLD)] = { pick_shd, 0 },
	[MN(SHRD)] = { pick_shd, 1 },
	[MN(MOVZX)] = { pick_movx, 0 },
	[MN(MOVSX)] = { pick_movx, 1 },
	[MN(MOVSXD)] = { pick_movsxd, 0 },
	[MN(LEA)] = { pick_lea, 0 },
	[MN(XCHG)] = { pick_exchange, X_XCHG },
	[MN(XADD)] = { pick_exchange, X_XADD },
	[MN(CMPXCHG)] = { pick_exchange, X_CMPXCHG },
	[MN(CMPXCHG8B)] = { pick_cmpxchg_pair, 8 },
	[MN(CMPXCHG16B)] = { pick_cmpxchg_pair, 16 },
	[MN(BT)] = { pick_bt, B_BT },
	[MN(BTS)] = { pick_bt, B_BTS },
	[MN(BTR)] = { pick_bt, B_BTR },
	[MN(BTC)] = { pick_bt, B_BTC },
	[MN(BSF)] = { pick_bscan, 0 },
	[MN(BSR)] = { pick_bscan, 1 },
	[MN(POPCNT)] = { pick_popcnt, 0 },
	[MN(LZCNT)] = { pick_count, 0 },
	[MN(TZCNT)] = { pick_count, 1 },
	[MN(MOVBE)] = { pick_movbe, 0 },
	[MN(CRC32)] = { pick_crc32, 0 },
	[MN(BSWAP)] = { pick_bswap, 0 },
	[MN(MUL)] = { pick_mul, 0 },
	[MN(IMUL)] = { pick_imul, 0 },
	[MN(DIV)] = { pick_div, 0 },
	[MN(IDIV)] = { pick_div, 1 },
	[MN(CBW)] = { pick_extend, 0 },
	[MN(CWDE)] = { pick_extend, 0 },
	[MN(CDQE)] = { pick_extend, 0 },
	[MN(CWD)] = { pick_extend, 1 },
	[MN(CDQ)] = { pick_extend, 1 },
	[MN(CQO)] = { pick_extend, 1 },

	/* jumps and the stack */
	[MN(JMP)] = { pick_jmp_call, 0 },
	[MN(CALL)] = { pick_jmp_call, 1 },
	[MN(RET)] = { pick_ret, 0 },
	[MN(LOOPNE)] = { pick_loop, 0 },
	[MN(LOOPE)] = { pick_loop, 1 },
	[MN(LOOP)] = { pick_loop, 2 },
	[MN(JCXZ)] = { pick_loop, 3 },
	[MN(JECXZ)] = { pick_loop, 3 },
	[MN(JRCXZ)] = { pick_loop, 3 },
	[MN(PUSH)] = { pick_push, 0 },
	[MN(POP)] = { pick_pop, 0 },
	[MN(PUSHA)] = { pick_stack, K_PUSHA },
	[MN(PUSHAD)] = { pick_stack, K_PUSHA },
	[MN(POPA)] = { pick_stack, K_POPA },
	[MN(POPAD)] = { pick_stack, K_POPA },
	[MN(PUSHF)] = { pick_stack, K_PUSHF },
	[MN(PUSHFD)] = { pick_stack, K_PUSHF },
	[MN(PUSHFQ)] = { pick_stack, K_PUSHF },
	[MN(POPF)] = { pick_stack, K_POPF },
	[MN(POPFD)] = { pick_stack, K_POPF },
	[MN(POPFQ)] = { pick_stack, K_POPF },
	[MN(ENTER)] = { pick_stack, K_ENTER },
	[MN(LEAVE)] = { pick_stack, K_LEAVE },

	/* flags, decimals, segments; hints are NOPs where they mean nothing */
	[MN(NOP)] = { pick_misc, M_NOP },
	[MN(ENDBR32)] = { pick_misc, M_NOP },
	[MN(ENDBR64)] = { pick_misc, M_NOP },
	[MN(PREFETCH)] = { pick_misc, M_NOP },
	[MN(PREFETCHNTA)] = { pick_misc, M_NOP },
	[MN(PREFETCHT0)] = { pick_misc, M_NOP },
	[MN(PREFETCHT1)] = { pick_misc, M_NOP },
	[MN(PREFETCHT2)] = { pick_misc, M_NOP },
	[MN(PREFETCHW)] = { pick_misc, M_NOP },
	[MN(PREFETCHWT1)] = { pick_misc, M_NOP },
	[MN(LFENCE)] = { pick_misc, M_FENCE },
	[MN(MFENCE)] = { pick_misc, M_FENCE },
	[MN(SFENCE)] = { pick_misc, M_FENCE },
	[MN(LAHF)] = { pick_misc, M_LAHF },
	[MN(SAHF)] = { pick_misc, M_SAHF },
	[MN(CLC)] = { pick_misc, M_CLC },
	[MN(STC)] = { pick_misc, M_STC },
	[MN(CMC)] = { pick_misc, M_CMC },
	[MN(CLD)] = { pick_misc, M_CLD },
	[MN(STD)] = { pick_misc, M_STD },
	[MN(SALC)] = { pick_misc, M_SALC },
	[MN(AAA)] = { pick_misc, M_AAA },
	[MN(AAS)] = { pick_misc, M_AAS },
	[MN(DAA)] = { pick_misc, M_DAA },
	[MN(DAS)] = { pick_misc, M_DAS },
	[MN(AAM)] = { pick_misc_imm, M_AAM },
	[MN(AAD)] = { pick_misc_imm, M_AAD },
	[MN(XLAT)] = { pick_xlat, 0 },
	[MN(BOUND)] = { pick_bound, 0 },
	[MN(LDS)] = { pick_lxs, X86_DS },
	[MN(LES)] = { pick_lxs, X86_ES },
	[MN(LFS)] = { pick_lxs, X86_FS },
	[MN(LGS)] = { pick_lxs, X86_GS },
	[MN(LSS)] = { pick_lxs, X86_SS },
	[MN(CLFLUSH)] = { pick_clflush, 0 },
	[MN(STAC)] = { pick_ac, 1 },
	[MN(CLAC)] = { pick_ac, 0 },

	/* system */
	[MN(INT)] = { pick_int, 0 },
	[MN(INT3)] = { pick_sys, Y_INT3 },
	[MN(INT1)] = { pick_sys, Y_INT1 },
	[MN(INTO)] = { pick_sys, Y_INTO },
	[MN(IRET)] = { pick_iret, 2 },
	[MN(IRETD)] = { pick_iret, 4 },
	[MN(IRETQ)] = { pick_iret, 8 },
	[MN(SYSCALL)] = { pick_sys, Y_SYSCALL },
	[MN(SYSRET)] = { pick_sysret, Y_SYSRET },
	[MN(SYSENTER)] = { pick_sys, Y_SYSENTER },
	[MN(SYSEXIT)] = { pick_sysret, Y_SYSEXIT },
	[MN(HLT)] = { pick_sys, Y_HLT },
	[MN(PAUSE)] = { pick_sys, Y_PAUSE },
	[MN(CLI)] = { pick_sys, Y_CLI },
	[MN(STI)] = { pick_sys, Y_STI },
	[MN(CLTS)] = { pick_sys, Y_CLTS },
	[MN(CPUID)] = { pick_sys, Y_CPUID },
	[MN(RDTSC)] = { pick_sys, Y_RDTSC },
	[MN(RDTSCP)] = { pick_sys, Y_RDTSCP },
	[MN(RDPMC)] = { pick_sys, Y_RDPMC },
	[MN(RDMSR)] = { pick_sys, Y_RDMSR },
	[MN(WRMSR)] = { pick_sys, Y_WRMSR },
	[MN(SWAPGS)] = { pick_sys, Y_SWAPGS },
	[MN(XGETBV)] = { pick_sys, Y_XGETBV },
	[MN(XSETBV)] = { pick_sys, Y_XSETBV },
	[MN(INVD)] = { pick_sys, Y_INVD },
	[MN(WBINVD)] = { pick_sys, Y_WBINVD },
	[MN(RDRAND)] = { pick_sys_rm, Y_RDRAND },
	[MN(RDSEED)] = { pick_sys_rm, Y_RDSEED },
	[MN(RDFSBASE)] = { pick_sys_rm, Y_RDFSBASE },
	[MN(RDGSBASE)] = { pick_sys_rm, Y_RDGSBASE },
	[MN(WRFSBASE)] = { pick_sys_rm, Y_WRFSBASE },
	[MN(WRGSBASE)] = { pick_sys_rm, Y_WRGSBASE },
	[MN(LLDT)] = { pick_sys_rm, Y_LLDT },
	[MN(LTR)] = { pick_sys_rm, Y_LTR },
	[MN(SLDT)] = { pick_sys_rm, Y_SLDT },
	[MN(STR)] = { pick_sys_rm, Y_STR },
	[MN(SMSW)] = { pick_sys_rm, Y_SMSW },
	[MN(LMSW)] = { pick_sys_rm, Y_LMSW },
	[MN(VERR)] = { pick_sys_rm, Y_VERR },
	[MN(VERW)] = { pick_sys_rm, Y_VERW },
	[MN(LAR)] = { pick_lar, Y_LAR },
	[MN(LSL)] = { pick_lar, Y_LSL },
	[MN(ARPL)] = { pick_arpl, 0 },
	[MN(LGDT)] = { pick_sys_table, Y_LGDT },
	[MN(LIDT)] = { pick_sys_table, Y_LIDT },
	[MN(SGDT)] = { pick_sys_mem, Y_SGDT },
	[MN(SIDT)] = { pick_sys_mem, Y_SIDT },
	[MN(INVLPG)] = { pick_sys_mem, Y_INVLPG },
	[MN(INVPCID)] = { pick_invpcid, 0 },
	[MN(FXSAVE)] = { pick_sys_state, Y_FXSAVE },
	[MN(FXSAVE64)] = { pick_sys_state, Y_FXSAVE },
	[MN(FXRSTOR)] = { pick_sys_state, Y_FXRSTOR },
	[MN(FXRSTOR64)] = { pick_sys_state, Y_FXRSTOR },
	[MN(XSAVE)] = { pick_sys_state, Y_XSAVE },
	[MN(XSAVE64)] = { pick_sys_state, Y_XSAVE },
	[MN(XSAVEOPT)] = { pick_sys_state, Y_XSAVEOPT },
	[MN(XSAVEOPT64)] = { pick_sys_state, Y_XSAVEOPT },
	[MN(XSAVEC)] = { pick_sys_state, Y_XSAVEC },
	[MN(XSAVEC64)] = { pick_sys_state, Y_XSAVEC },
	[MN(XRSTOR)] = { pick_sys_state, Y_XRSTOR },
	[MN(XRSTOR64)] = { pick_sys_state, Y_XRSTOR },
	[MN(IN)] = { pick_io, 1 },
	[MN(OUT)] = { pick_io, 0 },
};

void pick_insn(struct pick *p)
{
	ZydisMnemonic m = p->in->mnemonic;

	if (p->in->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
		pick_vex(p);
		return;
	}
	if (m < ARRAY_LEN(picks) && picks[m].fn) {
		picks[m].fn(p, picks[m].arg);
		return;
	}
	switch (p->in->meta.category) {
	case ZYDIS_CATEGORY_COND_BR:
		if (m == ZYDIS_MNEMONIC_XBEGIN) /* in no CPU model */
			pick_sys(p, Y_UD);
		else
			pick_jcc(p);
		break;
	case ZYDIS_CATEGORY_SETCC:
		pick_setcc(p);
		break;
	case ZYDIS_CATEGORY_CMOV:
		pick_cmov(p);
		break;
	default:
		if (!pick_strings(p))
			pick_vec(p);
	}
}
