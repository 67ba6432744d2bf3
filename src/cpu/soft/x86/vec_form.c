/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_form.c - a decoded vector or x87 instruction taken apart for the thunk generator
 *
 * Which instructions there are and which registers they name comes from Zydis; what it does not
 * say (alignment exceptions, waiting x87 instructions) is in the lists here.
 */
#include "cpu/soft/x86/vec_priv.h"

#include <errno.h>
#include <string.h>

static enum vec_kind classify(const ZydisDecodedInstruction *in)
{
	if (in->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return VEC_KIND_NONE;
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_SFENCE:
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_MFENCE:
	case ZYDIS_MNEMONIC_MOVNTI:
	case ZYDIS_MNEMONIC_CRC32:
		return VEC_KIND_NONE;
	case ZYDIS_MNEMONIC_LDMXCSR:
		return VEC_KIND_LDMXCSR;
	case ZYDIS_MNEMONIC_STMXCSR:
		return VEC_KIND_STMXCSR;
	case ZYDIS_MNEMONIC_FWAIT:
		return VEC_KIND_FWAIT;
	case ZYDIS_MNEMONIC_FISTTP: /* in the ISA set SSE3 */
		return VEC_KIND_X87;
	default:
		break;
	}
	switch (in->meta.isa_set) {
	case ZYDIS_ISA_SET_SSE:
	case ZYDIS_ISA_SET_SSE2:
	case ZYDIS_ISA_SET_SSE3:
	case ZYDIS_ISA_SET_SSSE3:
	case ZYDIS_ISA_SET_SSE4:
	case ZYDIS_ISA_SET_SSE42:
		return in->meta.isa_ext == ZYDIS_ISA_EXT_MMX ? VEC_KIND_X87 : VEC_KIND_SSE;
	case ZYDIS_ISA_SET_PENTIUMMMX:
	case ZYDIS_ISA_SET_SSE2MMX:
	case ZYDIS_ISA_SET_SSSE3MMX:
	case ZYDIS_ISA_SET_X87:
		return VEC_KIND_X87;
	default:
		return in->meta.isa_ext == ZYDIS_ISA_EXT_X87 ? VEC_KIND_X87 : VEC_KIND_NONE;
	}
}

/* The exception classes of SDM vol. 2, 2.4 name the instructions that can raise #XM. */
static bool can_raise_xm(const ZydisDecodedInstruction *in)
{
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_CVTPI2PS:
	case ZYDIS_MNEMONIC_CVTPS2PI:
	case ZYDIS_MNEMONIC_CVTTPS2PI:
	case ZYDIS_MNEMONIC_CVTPD2PI:
	case ZYDIS_MNEMONIC_CVTTPD2PI:
		return true;
	default:
		return in->meta.exception_class == ZYDIS_EXCEPTION_CLASS_SSE2 ||
		       in->meta.exception_class == ZYDIS_EXCEPTION_CLASS_SSE3;
	}
}

/* 16-byte operands that need no alignment (SDM vol. 2, each instruction's page). */
bool vec_unaligned_ok(const ZydisDecodedInstruction *in)
{
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_MOVUPS:
	case ZYDIS_MNEMONIC_MOVUPD:
	case ZYDIS_MNEMONIC_MOVDQU:
	case ZYDIS_MNEMONIC_LDDQU:
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_PCMPESTRI:
	case ZYDIS_MNEMONIC_PCMPESTRM:
	case ZYDIS_MNEMONIC_PCMPISTRI:
	case ZYDIS_MNEMONIC_PCMPISTRM:
		return true;
	default:
		return false;
	}
}

bool vec_nowait(const ZydisDecodedInstruction *in)
{
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_FNINIT:
	case ZYDIS_MNEMONIC_FNCLEX:
	case ZYDIS_MNEMONIC_FNSTCW:
	case ZYDIS_MNEMONIC_FNSTSW:
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FENI8087_NOP:
	case ZYDIS_MNEMONIC_FDISI8087_NOP:
	case ZYDIS_MNEMONIC_FSETPM287_NOP:
		return true;
	default:
		return false;
	}
}

/*
 * Whether MMX state is part of the instruction. (Processors do not enter it for CVTPI2PS and
 * CVTPI2PD from memory: those are plain SSE here.)
 */
static bool names_mmx(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *ops)
{
	unsigned i;

	if (in->mnemonic == ZYDIS_MNEMONIC_EMMS)
		return true;
	for (i = 0; i < in->operand_count; i++) {
		if (ops[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(ops[i].reg.value) == ZYDIS_REGCLASS_MMX)
			return true;
	}
	return false;
}

bool vec_is_env(const ZydisDecodedInstruction *in)
{
	return in->mnemonic == ZYDIS_MNEMONIC_FNSTENV || in->mnemonic == ZYDIS_MNEMONIC_FNSAVE ||
	       in->mnemonic == ZYDIS_MNEMONIC_FLDENV || in->mnemonic == ZYDIS_MNEMONIC_FRSTOR;
}

/* --- taking it apart ------------------------------------------------------------------------- */

static int take_reg(struct vec_form *f, const ZydisDecodedOperand *op)
{
	ZydisRegister r = op->reg.value;
	ZydisRegisterClass cls = ZydisRegisterGetClass(r);
	struct vec_regop ro = {
		.guest = (u8)ZydisRegisterGetId(r),
		.read = op->actions & ZYDIS_OPERAND_ACTION_MASK_READ,
		.write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE,
	};
	bool in_reg = op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG;
	bool in_rm = op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM;

	switch (cls) {
	case ZYDIS_REGCLASS_XMM:
		ro.host = in_reg ? VEC_H_XMM_REG : in_rm ? VEC_H_XMM_RM : VEC_H_XMM_IMPLIED;
		if (f->kind == VEC_KIND_SSE && in_reg)
			f->host_reg = ro.host;
		if (f->kind == VEC_KIND_SSE && in_rm)
			f->host_rm = ro.host;
		if (f->nxmm == ARRAY_LEN(f->xmm))
			return -ENOENT;
		f->xmm[f->nxmm++] = ro;
		return 0;
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		ro.host = in_reg ? VEC_H_RAX : in_rm ? VEC_H_RCX : ro.guest;
		if (in_reg)
			f->host_reg = ro.host;
		if (in_rm)
			f->host_rm = ro.host;
		if (f->ngpr == ARRAY_LEN(f->gpr) || (!in_reg && !in_rm && ro.guest > X86_RDX))
			return -ENOENT;
		f->gpr[f->ngpr++] = ro;
		return 0;
	case ZYDIS_REGCLASS_MMX: /* REX.R and REX.B do not reach these */
		if (in_reg)
			f->host_reg = f->reg &= 7;
		if (in_rm)
			f->host_rm = f->rm &= 7;
		return 0;
	default: /* x87 registers are in ModRM as they are; flags come from cpu_flags */
		return 0;
	}
}

static int take_operands(struct vec_form *f, const ZydisDecodedInstruction *in,
			 const ZydisDecodedOperand *ops)
{
	unsigned i;
	int rc;

	for (i = 0; i < in->operand_count; i++) {
		const ZydisDecodedOperand *op = &ops[i];

		if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			f->mem_size = op->size / 8;
			f->mem_read = op->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
			f->mem_write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
		} else if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			/* The implied base of MASKMOV's store is the engine's business. */
			if (f->maskmov && op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN)
				continue;
			rc = take_reg(f, op);
			if (rc < 0)
				return rc;
		}
	}
	/*
	 * A masked-out byte, or a store that an unmasked x87 exception prevents, leaves memory as
	 * it was: the engine's copy must be that memory.
	 */
	if (f->mem_write && (f->maskmov || (f->kind == VEC_KIND_X87 && !f->mmx && !vec_nowait(in))))
		f->mem_read = true;
	return f->mem_size > 512 ? -ENOENT : 0;
}

static int take_encoding(struct vec_form *f, const ZydisDecodedInstruction *in, const u8 *bytes)
{
	const ZydisDecodedInstructionRaw *raw = &in->raw;
	bool rex = in->attributes & ZYDIS_ATTRIB_HAS_REX;
	unsigned i;

	for (i = 0; i < raw->prefix_count; i++) {
		u8 p = raw->prefixes[i].value;

		if (raw->prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY && f->nprefix < 2 &&
		    (p == 0x66 || p == 0xf2 || p == 0xf3) && !memchr(f->prefix, p, f->nprefix))
			f->prefix[f->nprefix++] = p;
	}
	if (in->opcode_map == ZYDIS_OPCODE_MAP_0F || in->opcode_map == ZYDIS_OPCODE_MAP_0F38 ||
	    in->opcode_map == ZYDIS_OPCODE_MAP_0F3A)
		f->opcode[f->nopcode++] = 0x0f;
	else if (in->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
		return -ENOENT;
	if (in->opcode_map == ZYDIS_OPCODE_MAP_0F38)
		f->opcode[f->nopcode++] = 0x38;
	if (in->opcode_map == ZYDIS_OPCODE_MAP_0F3A)
		f->opcode[f->nopcode++] = 0x3a;
	f->opcode[f->nopcode++] = in->opcode;

	f->rex_w = rex && raw->rex.W;
	f->has_modrm = in->attributes & ZYDIS_ATTRIB_HAS_MODRM;
	if (f->has_modrm) {
		f->mem = raw->modrm.mod != 3;
		f->mod = raw->modrm.mod;
		f->reg = raw->modrm.reg;
		f->rm = raw->modrm.rm;
		if (rex && in->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT) {
			f->reg |= raw->rex.R << 3;
			f->rm |= raw->rex.B << 3;
		}
	}
	if (raw->imm[0].size) {
		f->nimm = raw->imm[0].size / 8 + raw->imm[1].size / 8;
		if (f->nimm > sizeof(f->imm))
			return -ENOENT;
		memcpy(f->imm, bytes + raw->imm[0].offset, f->nimm);
	}
	return 0;
}

int vec_form_init(struct vec_form *f, const ZydisDecodedInstruction *in,
		  const ZydisDecodedOperand *ops, const u8 *bytes)
{
	int rc;

	if (in->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		return vec_vex_init(f, in, ops, bytes);
	*f = (struct vec_form){ .kind = classify(in) };
	if (f->kind == VEC_KIND_NONE)
		return -ENOENT;
	rc = take_encoding(f, in, bytes);
	if (rc < 0)
		return rc;
	f->fp = can_raise_xm(in);
	f->mmx = names_mmx(in, ops);
	if (f->mmx)
		f->kind = VEC_KIND_X87;
	f->maskmov = in->mnemonic == ZYDIS_MNEMONIC_MASKMOVQ ||
		     in->mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU;
	f->host_reg = f->reg;
	f->host_rm = f->rm;
	if (in->cpu_flags) {
		f->flags_in = in->cpu_flags->tested != 0;
		f->flags_out = (in->cpu_flags->modified | in->cpu_flags->set_0 |
				in->cpu_flags->set_1 | in->cpu_flags->undefined) != 0;
	}
	rc = take_operands(f, in, ops);
	if (rc < 0)
		return rc;
	f->ax16 = in->mnemonic == ZYDIS_MNEMONIC_FNSTSW && !f->mem;
	/* 14 and 94 bytes: the 16-bit images, whatever the mode the guest asked from. */
	if (vec_is_env(in)) {
		f->rex_w = false;
		if (f->mem_size == 14 || f->mem_size == 94)
			f->prefix[f->nprefix++] = 0x66;
	}
	return 0;
}
