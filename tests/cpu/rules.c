/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rules.c - which instructions take part, and which of their flags the manual leaves undefined
 *
 * How it works
 * An instruction takes part if the CPU model (x86-64-v2, or v3 with diff_v3) has it and if what it
 * does at CPL 3 depends on nothing but the state that is compared. The instruction-set test is an
 * allow list, so that extensions a newer decoder knows stay out by themselves.
 *
 * The flags table is the Intel SDM's (volume 2, "Flags Affected"; summary in volume 1, appendix
 * A). Flags it calls undefined are not compared, and never reach an instruction that reads them:
 * layout.c puts a CMP between.
 */
#include "gen_priv.h"

#include <string.h>

#include <Zydis/Zydis.h>

static ZydisDecoder *decoder(enum diff_mode mode)
{
	static ZydisDecoder d[3];
	static bool ready;

	if (!ready) {
		ZydisDecoderInit(&d[DIFF_64], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
		ZydisDecoderInit(&d[DIFF_32], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
		ZydisDecoderInit(&d[DIFF_16], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
		ready = true;
	}
	return &d[mode];
}

static bool set_allowed(ZydisISASet set)
{
	switch (set) {
	case ZYDIS_ISA_SET_I86:
	case ZYDIS_ISA_SET_I186:
	case ZYDIS_ISA_SET_I286REAL:
	case ZYDIS_ISA_SET_I386:
	case ZYDIS_ISA_SET_I486:
	case ZYDIS_ISA_SET_I486REAL:
	case ZYDIS_ISA_SET_PENTIUMREAL:
	case ZYDIS_ISA_SET_PENTIUMMMX:
	case ZYDIS_ISA_SET_PPRO:
	case ZYDIS_ISA_SET_LONGMODE:
	case ZYDIS_ISA_SET_LAHF:
	case ZYDIS_ISA_SET_CMOV:
	case ZYDIS_ISA_SET_FCMOV:
	case ZYDIS_ISA_SET_CMPXCHG16B:
	case ZYDIS_ISA_SET_FAT_NOP:
	case ZYDIS_ISA_SET_PREFETCH_NOP:
	case ZYDIS_ISA_SET_FXSAVE:
	case ZYDIS_ISA_SET_FXSAVE64:
	case ZYDIS_ISA_SET_CLFSH:
	case ZYDIS_ISA_SET_PAUSE:
	case ZYDIS_ISA_SET_POPCNT:
	case ZYDIS_ISA_SET_RDWRFSGS:
	case ZYDIS_ISA_SET_SSE:
	case ZYDIS_ISA_SET_SSE2:
	case ZYDIS_ISA_SET_SSE2MMX:
	case ZYDIS_ISA_SET_SSE3:
	case ZYDIS_ISA_SET_SSE3X87:
	case ZYDIS_ISA_SET_SSSE3:
	case ZYDIS_ISA_SET_SSSE3MMX:
	case ZYDIS_ISA_SET_SSE4:
	case ZYDIS_ISA_SET_SSE42:
	case ZYDIS_ISA_SET_SSEMXCSR:
	case ZYDIS_ISA_SET_SSE_PREFETCH:
	case ZYDIS_ISA_SET_X87:
		return true;
	case ZYDIS_ISA_SET_AVX:
	case ZYDIS_ISA_SET_AVX2:
	case ZYDIS_ISA_SET_AVX2GATHER:
	case ZYDIS_ISA_SET_FMA:
	case ZYDIS_ISA_SET_F16C:
	case ZYDIS_ISA_SET_BMI1:
	case ZYDIS_ISA_SET_BMI2:
	case ZYDIS_ISA_SET_LZCNT:
	case ZYDIS_ISA_SET_MOVBE:
		return diff_v3();
	default:
		return false;
	}
}

static bool mnemonic_allowed(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_CPUID: /* the model's answer, not the host's */
	case ZYDIS_MNEMONIC_RDTSC: /* time */
	case ZYDIS_MNEMONIC_RDTSCP:
	case ZYDIS_MNEMONIC_RDPMC:
	case ZYDIS_MNEMONIC_SYSCALL: /* would call the host's kernel */
	case ZYDIS_MNEMONIC_SYSENTER:
	case ZYDIS_MNEMONIC_SYSRET:
	case ZYDIS_MNEMONIC_SYSEXIT:
	case ZYDIS_MNEMONIC_SGDT: /* host descriptor tables, or Linux's UMIP emulation */
	case ZYDIS_MNEMONIC_SIDT:
	case ZYDIS_MNEMONIC_SLDT:
	case ZYDIS_MNEMONIC_STR:
	case ZYDIS_MNEMONIC_SMSW:
	case ZYDIS_MNEMONIC_LAR: /* depend on the GDT, as far transfers do */
	case ZYDIS_MNEMONIC_LSL:
	case ZYDIS_MNEMONIC_VERR:
	case ZYDIS_MNEMONIC_VERW:
	case ZYDIS_MNEMONIC_LDS:
	case ZYDIS_MNEMONIC_LES:
	case ZYDIS_MNEMONIC_LSS:
	case ZYDIS_MNEMONIC_LFS:
	case ZYDIS_MNEMONIC_LGS:
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
	case ZYDIS_MNEMONIC_INTO:   /* has a user gate in Linux */
	case ZYDIS_MNEMONIC_INT1:   /* delivered through debug state that Linux owns */
	case ZYDIS_MNEMONIC_FNSAVE: /* store FIP and FDP: special.c makes them, and clears those */
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
	case ZYDIS_MNEMONIC_MASKMOVDQU: /* a zero mask may fault or not: special.c makes them */
	case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
	case ZYDIS_MNEMONIC_VPCLMULQDQ: /* not in the model, whatever its ISA set says */
		return false;
	default:
		return true;
	}
}

static bool is_segment(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_SEGMENT;
}

static bool is_control(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_CONTROL;
}

static bool operands_allowed(const ZydisDecodedInstruction *i, const ZydisDecodedOperand *ops)
{
	if (i->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return false;
	switch (i->mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		/* Selectors name descriptors of the host. LOCK MOV CR0 is AMD's name of CR8. */
		return !is_segment(&ops[0]) && !((is_control(&ops[0]) || is_control(&ops[1])) &&
						 (i->attributes & ZYDIS_ATTRIB_HAS_LOCK));
	case ZYDIS_MNEMONIC_POP:
		return !is_segment(&ops[0]);
	case ZYDIS_MNEMONIC_SALC: /* as all of map 0, but it is in no manual */
		return true;
	case ZYDIS_MNEMONIC_BSWAP: /* of 16 bits: undefined */
		return i->operand_width != 16;
	case ZYDIS_MNEMONIC_INT: /* 0x80 would call the host's kernel; 3 and 4 have user gates */
		return ops[0].imm.value.u != 0x80 && ops[0].imm.value.u != 3 &&
		       ops[0].imm.value.u != 4;
	default:
		return true;
	}
}

/* --- flags ------------------------------------------------------------------------------------ */

#define F_ALL X86_ARITH
#define F_SZP (X86_SF | X86_ZF | X86_PF)

/* Shifts and rotates: OF is defined for a count of 1 only; a count of 0 changes no flag. */
static void shift_flags(const ZydisDecodedInstruction *i, const ZydisDecodedOperand *ops,
			struct diff_insn *d, bool rotate, bool sar)
{
	const ZydisDecodedOperand *c = &ops[i->operand_count_visible - 1];
	unsigned mask = i->operand_width == 64 ? 63 : 31;
	bool known = c->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	unsigned n = known ? (unsigned)c->imm.value.u & mask : 0;

	if (known && n == 0)
		return;
	d->undefined = rotate ? 0 : X86_AF;
	if (!known || n != 1)
		d->undefined |= X86_OF;
	if (!rotate && !sar && (!known || n >= i->operand_width))
		d->undefined |= X86_CF;
	if (known)
		d->defined = (rotate ? X86_CF | X86_OF : F_ALL) & ~d->undefined;
}

/* Those of x86-64-v3. */
static void flags_v3(const ZydisDecodedInstruction *i, struct diff_insn *d)
{
	switch (i->mnemonic) {
	case ZYDIS_MNEMONIC_VCOMISS:
	case ZYDIS_MNEMONIC_VCOMISD:
	case ZYDIS_MNEMONIC_VUCOMISS:
	case ZYDIS_MNEMONIC_VUCOMISD:
	case ZYDIS_MNEMONIC_VPTEST:
	case ZYDIS_MNEMONIC_VTESTPS:
	case ZYDIS_MNEMONIC_VTESTPD:
		d->defined = F_ALL;
		return;
	case ZYDIS_MNEMONIC_LZCNT:
	case ZYDIS_MNEMONIC_TZCNT:
		d->defined = X86_CF | X86_ZF;
		d->undefined = F_ALL & ~(X86_CF | X86_ZF);
		return;
	case ZYDIS_MNEMONIC_ANDN:
	case ZYDIS_MNEMONIC_BLSI:
	case ZYDIS_MNEMONIC_BLSMSK:
	case ZYDIS_MNEMONIC_BLSR:
	case ZYDIS_MNEMONIC_BZHI:
		d->defined = X86_CF | X86_ZF | X86_SF | X86_OF;
		d->undefined = X86_AF | X86_PF;
		return;
	case ZYDIS_MNEMONIC_BEXTR:
		d->defined = X86_CF | X86_ZF | X86_OF;
		d->undefined = X86_AF | X86_PF | X86_SF;
		return;
	default:
		return;
	}
}

static void flags(const ZydisDecodedInstruction *i, const ZydisDecodedOperand *ops,
		  struct diff_insn *d)
{
	switch (i->mnemonic) {
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
	case ZYDIS_MNEMONIC_CMP:
	case ZYDIS_MNEMONIC_NEG:
	case ZYDIS_MNEMONIC_XADD:
	case ZYDIS_MNEMONIC_CMPXCHG:
	case ZYDIS_MNEMONIC_POPCNT:
	case ZYDIS_MNEMONIC_COMISS:
	case ZYDIS_MNEMONIC_COMISD:
	case ZYDIS_MNEMONIC_UCOMISS:
	case ZYDIS_MNEMONIC_UCOMISD:
	case ZYDIS_MNEMONIC_PTEST:
		d->defined = F_ALL;
		return;
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_XOR:
	case ZYDIS_MNEMONIC_TEST:
		d->defined = F_ALL & ~X86_AF;
		d->undefined = X86_AF;
		return;
	case ZYDIS_MNEMONIC_DAA:
	case ZYDIS_MNEMONIC_DAS:
		d->defined = F_ALL & ~X86_OF;
		d->undefined = X86_OF;
		return;
	case ZYDIS_MNEMONIC_AAA:
	case ZYDIS_MNEMONIC_AAS:
		d->defined = X86_AF | X86_CF;
		d->undefined = F_SZP | X86_OF;
		return;
	case ZYDIS_MNEMONIC_AAM:
	case ZYDIS_MNEMONIC_AAD:
		d->defined = F_SZP;
		d->undefined = X86_OF | X86_AF | X86_CF;
		return;
	case ZYDIS_MNEMONIC_MUL:
	case ZYDIS_MNEMONIC_IMUL:
		d->defined = X86_CF | X86_OF;
		d->undefined = F_SZP | X86_AF;
		return;
	case ZYDIS_MNEMONIC_DIV:
	case ZYDIS_MNEMONIC_IDIV:
		d->undefined = F_ALL;
		return;
	case ZYDIS_MNEMONIC_BSF:
	case ZYDIS_MNEMONIC_BSR:
		d->defined = X86_ZF;
		d->undefined = F_ALL & ~X86_ZF;
		return;
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		d->defined = X86_CF;
		d->undefined = F_ALL & ~(X86_CF | X86_ZF);
		return;
	case ZYDIS_MNEMONIC_SHL:
	case ZYDIS_MNEMONIC_SHR:
	case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHRD:
		shift_flags(i, ops, d, false, false);
		return;
	case ZYDIS_MNEMONIC_SAR:
		shift_flags(i, ops, d, false, true);
		return;
	case ZYDIS_MNEMONIC_ROL:
	case ZYDIS_MNEMONIC_ROR:
	case ZYDIS_MNEMONIC_RCL:
	case ZYDIS_MNEMONIC_RCR:
		shift_flags(i, ops, d, true, false);
		return;
	default:
		flags_v3(i, d);
		return;
	}
}

static void control(const ZydisDecodedInstruction *i, const ZydisDecodedOperand *ops,
		    struct diff_insn *d)
{
	d->stops = i->mnemonic == ZYDIS_MNEMONIC_JMP || i->mnemonic == ZYDIS_MNEMONIC_RET;
	d->indirect = i->mnemonic == ZYDIS_MNEMONIC_RET ||
		      ((i->mnemonic == ZYDIS_MNEMONIC_JMP || i->mnemonic == ZYDIS_MNEMONIC_CALL) &&
		       ops[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE);
}

static bool decode(struct diff_insn *d, ZydisDecodedInstruction *i, ZydisDecodedOperand *ops)
{
	unsigned avail = sizeof(d->b) - d->at;

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder(d->mode), d->b + d->at, MIN(avail, 15u), i,
						 ops)))
		return false;
	d->ilen = i->length;
	d->len = d->at + d->ilen;
	d->mnemonic = (u16)i->mnemonic;
	d->tested = i->cpu_flags ? i->cpu_flags->tested & X86_ARITH : 0;
	d->defined = d->undefined = 0;
	flags(i, ops, d);
	control(i, ops, d);
	d->mmx = false;
	for (unsigned k = 0; k < i->operand_count; k++)
		d->mmx |= ops[k].type == ZYDIS_OPERAND_TYPE_REGISTER &&
			  ZydisRegisterGetClass(ops[k].reg.value) == ZYDIS_REGCLASS_MMX;
	if (i->raw.imm[0].is_relative) {
		d->fix = FIX_BRANCH;
		d->reaches = true;
		d->rel_at = d->at + i->raw.imm[0].offset;
		d->rel_size = i->raw.imm[0].size / 8;
		d->rel_end = d->len;
	} else if (d->mode == DIFF_64 && (i->attributes & ZYDIS_ATTRIB_HAS_MODRM) &&
		   i->raw.modrm.mod == 0 && i->raw.modrm.rm == 5 && i->raw.disp.size == 32) {
		d->fix = FIX_RIP;
		d->rel_at = d->at + i->raw.disp.offset;
		d->rel_size = 4;
		d->rel_end = d->len;
	}
	return true;
}

bool diff_classify(struct diff_insn *d)
{
	ZydisDecodedInstruction i;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];

	return decode(d, &i, ops);
}

static void prepend(struct diff_insn *d, u64 bytes, unsigned n)
{
	memmove(d->b + n, d->b, d->len);
	memcpy(d->b, &bytes, n);
	d->at += (u8)n;
	d->len += (u8)n;
	if (d->fix) {
		d->rel_at += (u8)n;
		d->rel_end += (u8)n;
	}
}

/* Puts MOV r32, imm32 before the instruction (r16, imm16): RAX to R15 in the encoding's order. */
static void prepend_mov(struct diff_insn *d, unsigned reg, u32 v)
{
	u64 b = (u64)(0xb8 | (reg & 7)) | (u64)v << 8;

	if (reg >= 8)
		prepend(d, 0x41 | b << 8, 6);
	else
		prepend(d, b, d->mode == DIFF_16 ? 3 : 5);
}

/*
 * Earlier instructions overwrite the good pointers of the initial state, so most memory operands
 * get a fresh one just before.
 */
static void fresh_address(struct rng *g, const ZydisDecodedInstruction *i,
			  const ZydisDecodedOperand *ops, struct diff_insn *d)
{
	for (unsigned k = 0; k < i->operand_count_visible; k++) {
		const ZydisDecodedOperandMem *m = &ops[k].mem;
		s16 base, index;

		if (ops[k].type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		if (ZydisRegisterGetClass(m->index) == ZYDIS_REGCLASS_XMM ||
		    ZydisRegisterGetClass(m->index) == ZYDIS_REGCLASS_YMM)
			return; /* gen_avx.c has seen to these */
		base = (s16)ZydisRegisterGetId(m->base);
		index = (s16)ZydisRegisterGetId(m->index);
		if (m->base != ZYDIS_REGISTER_NONE && d->fix != FIX_RIP && base != X86_RSP)
			prepend_mov(d, (unsigned)base, (u32)rnd_pointer(g));
		if (m->index != ZYDIS_REGISTER_NONE && index != base && index != X86_RSP)
			prepend_mov(d, (unsigned)index,
				    g->calm ? rnd_below(g, 4) * 16 : rnd_below(g, 32));
		return;
	}
}

/* Whether the instruction will probably not fault, and leaves the stack pointer alone. */
static bool is_calm(const ZydisDecodedInstruction *i, const ZydisDecodedOperand *ops)
{
	if (i->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED)
		return false;
	switch (i->meta.category) {
	case ZYDIS_CATEGORY_IO:
	case ZYDIS_CATEGORY_IOSTRINGOP:
	case ZYDIS_CATEGORY_INTERRUPT:
	case ZYDIS_CATEGORY_RET:
	case ZYDIS_CATEGORY_STRINGOP:
	case ZYDIS_CATEGORY_SYSTEM:
	case ZYDIS_CATEGORY_SEGOP:
		return false;
	default:
		break;
	}
	switch (i->mnemonic) {
	case ZYDIS_MNEMONIC_ENTER:
	case ZYDIS_MNEMONIC_LEAVE:
	case ZYDIS_MNEMONIC_DIV:
	case ZYDIS_MNEMONIC_IDIV:
	case ZYDIS_MNEMONIC_XLAT:
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFQ:
	case ZYDIS_MNEMONIC_LDMXCSR:
	case ZYDIS_MNEMONIC_FLDCW:
	case ZYDIS_MNEMONIC_FLDENV:
	case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
		return false;
	default:
		break;
	}
	for (unsigned k = 0; k < i->operand_count; k++) {
		if (ops[k].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    ZydisRegisterGetId(ops[k].mem.index) == X86_RSP)
			return false;
		/* A bit offset in a register reaches far. */
		if (k == 0 && ops[k].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    i->meta.category == ZYDIS_CATEGORY_BITBYTE &&
		    ops[1].type == ZYDIS_OPERAND_TYPE_REGISTER && i->operand_count_visible == 2)
			return false;
		if (ops[k].visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN ||
		    ops[k].type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    !(ops[k].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		if (ZydisRegisterGetId(ops[k].reg.value) == X86_RSP &&
		    ZydisRegisterGetClass(ops[k].reg.value) != ZYDIS_REGCLASS_XMM &&
		    ZydisRegisterGetClass(ops[k].reg.value) != ZYDIS_REGCLASS_YMM &&
		    ZydisRegisterGetClass(ops[k].reg.value) != ZYDIS_REGCLASS_MMX &&
		    ZydisRegisterGetClass(ops[k].reg.value) != ZYDIS_REGCLASS_X87)
			return false;
	}
	return true;
}

static bool comparable(const ZydisDecodedInstruction *i, const ZydisDecodedOperand *ops)
{
	return set_allowed(i->meta.isa_set) && mnemonic_allowed(i->mnemonic) &&
	       operands_allowed(i, ops);
}

bool diff_comparable(struct diff_insn *d)
{
	ZydisDecodedInstruction i;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];

	return decode(d, &i, ops) && comparable(&i, ops) && !d->undefined;
}

bool gen_allowed(struct rng *g, struct diff_insn *d)
{
	ZydisDecodedInstruction i;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];

	if (!decode(d, &i, ops) || !comparable(&i, ops))
		return false;
	if (g->calm && !is_calm(&i, ops))
		return false;
	/* What always ends a sequence comes up, but not so often that little else does. */
	if ((i.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) && !rnd_pct(g, 8))
		return false;
	switch (i.meta.category) {
	case ZYDIS_CATEGORY_IO:
	case ZYDIS_CATEGORY_IOSTRINGOP:
	case ZYDIS_CATEGORY_INTERRUPT:
	case ZYDIS_CATEGORY_RET:
		if (!rnd_pct(g, 10))
			return false;
		break;
	case ZYDIS_CATEGORY_CMOV: /* many encodings of one idea */
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_SETCC:
	case ZYDIS_CATEGORY_WIDENOP:
		if (!rnd_pct(g, 40))
			return false;
		break;
	default:
		if (i.mnemonic == ZYDIS_MNEMONIC_BSWAP && !rnd_pct(g, 15))
			return false;
		break;
	}
	if (d->fix == FIX_RIP)
		d->rip_target = rnd_pointer(g);
	/* SHLD, SHRD of 16 bits: a count above 16 gives an undefined result. */
	if ((i.mnemonic == ZYDIS_MNEMONIC_SHLD || i.mnemonic == ZYDIS_MNEMONIC_SHRD) &&
	    i.operand_width == 16) {
		if (ops[2].type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
			prepend(d, 0xb1 | rnd_below(g, 17) << 8, 2); /* MOV CL, imm8 */
		else if ((ops[2].imm.value.u & 31) > 16)
			return false;
	}
	if (g->calm || rnd_pct(g, 60))
		fresh_address(g, &i, ops, d);
	return true;
}
