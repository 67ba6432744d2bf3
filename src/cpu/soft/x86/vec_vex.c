/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_vex.c - a VEX-encoded vector instruction taken apart for the thunk generator
 *
 * How it works
 * Which registers an instruction names, and where in its encoding, comes from Zydis, which also
 * refuses what the manual does: LOCK, 66, F2, F3 and REX before VEX, VEX.vvvv where it names
 * nothing, a reserved VEX.L or VEX.W (SDM vol. 2, 2.3). Here the names are exchanged for the fixed
 * host registers of vec_priv.h. Masked moves, gathers, VZEROUPPER and VZEROALL are not among these:
 * what they do to memory and state element by element is plain C (ops_avx.c).
 */
#include "cpu/soft/x86/vec_priv.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>

/* --- what the host has ------------------------------------------------------------------------ */

const char *vec_lacks(u32 leaf1_ecx, u32 leaf7_ebx, u32 ext1_ecx, u64 xcr0)
{
	const struct {
		u32 reg;
		u8 bit;
		const char *name;
	} need[] = {
		{ leaf1_ecx, 28, "AVX" },   { leaf7_ebx, 5, "AVX2" }, { leaf7_ebx, 3, "BMI1" },
		{ leaf7_ebx, 8, "BMI2" },   { leaf1_ecx, 12, "FMA" }, { leaf1_ecx, 29, "F16C" },
		{ leaf1_ecx, 22, "MOVBE" }, { ext1_ecx, 5, "LZCNT" },
	};

	for (size_t i = 0; i < ARRAY_LEN(need); i++)
		if (!(need[i].reg & 1u << need[i].bit))
			return need[i].name;
	/* XMM and YMM state: the operating system's part. */
	return (xcr0 & 6) == 6 ? NULL : "YMM state enabled by its kernel";
}

const char *vec_host_lacks(void)
{
	u32 a, b, c1 = 0, b7 = 0, cx = 0, d, lo = 0, hi = 0;

	if (!__get_cpuid(1, &a, &b, &c1, &d))
		return "AVX";
	if (!__get_cpuid_count(7, 0, &a, &b7, &b, &d))
		b7 = 0;
	if (!__get_cpuid(0x80000001, &a, &b, &cx, &d))
		cx = 0;
	if (c1 & 1u << 27) /* OSXSAVE */
		__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return vec_lacks(c1, b7, cx, (u64)hi << 32 | lo);
}

/* --- which they are --------------------------------------------------------------------------- */

static enum vec_kind classify(const ZydisDecodedInstruction *in)
{
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_VLDMXCSR:
		return VEC_KIND_LDMXCSR;
	case ZYDIS_MNEMONIC_VSTMXCSR:
		return VEC_KIND_STMXCSR;
	case ZYDIS_MNEMONIC_VZEROALL:
	case ZYDIS_MNEMONIC_VZEROUPPER:
	case ZYDIS_MNEMONIC_VMASKMOVPS:
	case ZYDIS_MNEMONIC_VMASKMOVPD:
	case ZYDIS_MNEMONIC_VPMASKMOVD:
	case ZYDIS_MNEMONIC_VPMASKMOVQ:
	case ZYDIS_MNEMONIC_VPCLMULQDQ: /* in the set AVX, but has a CPUID bit of its own */
		return VEC_KIND_NONE;
	default:
		break;
	}
	switch (in->meta.isa_set) {
	case ZYDIS_ISA_SET_AVX:
	case ZYDIS_ISA_SET_AVX2:
	case ZYDIS_ISA_SET_FMA:
	case ZYDIS_ISA_SET_F16C:
		return VEC_KIND_AVX;
	default:
		return VEC_KIND_NONE;
	}
}

/* The exception classes of SDM vol. 2, 2.7 name the instructions that can raise #XM. */
static bool can_raise_xm(const ZydisDecodedInstruction *in)
{
	return in->meta.exception_class == ZYDIS_EXCEPTION_CLASS_AVX2 ||
	       in->meta.exception_class == ZYDIS_EXCEPTION_CLASS_AVX3 ||
	       in->meta.exception_class == ZYDIS_EXCEPTION_CLASS_AVX11;
}

/* SDM vol. 2, 2.7.1: exception class 1. */
bool vec_vex_aligned(const ZydisDecodedInstruction *in)
{
	return in->meta.exception_class == ZYDIS_EXCEPTION_CLASS_AVX1;
}

/*
 * Outside 64-bit mode VEX.W does not widen general registers; elsewhere it is part of the opcode.
 * (SDM vol. 2, 2.3.5.5.)
 */
static bool w_widens(const ZydisDecodedInstruction *in)
{
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_VMOVD:
	case ZYDIS_MNEMONIC_VPEXTRD:
	case ZYDIS_MNEMONIC_VPINSRD:
	case ZYDIS_MNEMONIC_VCVTSI2SS:
	case ZYDIS_MNEMONIC_VCVTSI2SD:
	case ZYDIS_MNEMONIC_VCVTSS2SI:
	case ZYDIS_MNEMONIC_VCVTSD2SI:
	case ZYDIS_MNEMONIC_VCVTTSS2SI:
	case ZYDIS_MNEMONIC_VCVTTSD2SI:
	case ZYDIS_MNEMONIC_VPCMPESTRI: /* the lengths in EAX and EDX */
	case ZYDIS_MNEMONIC_VPCMPESTRM:
		return true;
	default:
		return false;
	}
}

/* --- taking it apart -------------------------------------------------------------------------- */

/* Where the host's instruction has the operand: its place there, or NULL for an implied one. */
static u8 *host_place(struct vec_form *f, ZydisOperandEncoding enc, u8 *ret_xmm, u8 *ret_gpr)
{
	switch (enc) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG:
		*ret_xmm = VEC_H_XMM_REG;
		*ret_gpr = VEC_H_RAX;
		return &f->host_reg;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM:
		*ret_xmm = VEC_H_XMM_RM;
		*ret_gpr = VEC_H_RCX;
		return &f->host_rm;
	case ZYDIS_OPERAND_ENCODING_NDSNDD:
		*ret_xmm = VEC_H_XMM_VVVV;
		*ret_gpr = VEC_H_RDX;
		return &f->host_vvvv;
	default:
		return NULL;
	}
}

static int take_reg(struct vec_form *f, const ZydisDecodedOperand *op)
{
	ZydisRegister r = op->reg.value;
	ZydisRegisterClass cls = ZydisRegisterGetClass(r);
	bool gpr = cls == ZYDIS_REGCLASS_GPR16 || cls == ZYDIS_REGCLASS_GPR32 ||
		   cls == ZYDIS_REGCLASS_GPR64;
	struct vec_regop ro = {
		.guest = (u8)ZydisRegisterGetId(r),
		.read = op->actions & ZYDIS_OPERAND_ACTION_MASK_READ,
		.write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE,
		.wide = cls == ZYDIS_REGCLASS_YMM,
	};
	u8 xmm = VEC_H_XMM_IMPLIED, general = ro.guest;
	u8 *place = host_place(f, op->encoding, &xmm, &general);

	if (op->encoding == ZYDIS_OPERAND_ENCODING_IS4) {
		xmm = VEC_H_XMM_IS4;
		f->is4 = true;
		/* Bit 7 is ignored outside 64-bit mode: one name for one register (vec.c's keys). */
		f->imm[0] = (u8)(ro.guest << 4 | (f->imm[0] & 15));
	}
	if (cls == ZYDIS_REGCLASS_XMM || cls == ZYDIS_REGCLASS_YMM) {
		if (f->nxmm == ARRAY_LEN(f->xmm))
			return -ENOENT;
		ro.host = xmm;
		f->xmm[f->nxmm++] = ro;
	} else if (gpr) {
		if (f->ngpr == ARRAY_LEN(f->gpr) || (!place && ro.guest > X86_RDX))
			return -ENOENT;
		ro.host = general;
		f->gpr[f->ngpr++] = ro;
	} else {
		return 0; /* flags come from cpu_flags */
	}
	if (place)
		*place = ro.host;
	return 0;
}

static int take_operands(struct vec_form *f, const ZydisDecodedInstruction *in,
			 const ZydisDecodedOperand *ops)
{
	for (unsigned i = 0; i < in->operand_count; i++) {
		const ZydisDecodedOperand *op = &ops[i];
		int rc;

		if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			f->mem_size = op->size / 8;
			f->mem_read = op->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
			f->mem_write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
		} else if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			rc = take_reg(f, op);
			if (rc < 0)
				return rc;
		}
	}
	if (f->maskmov) /* a masked-out byte leaves memory as it was */
		f->mem_read = true;
	return f->mem_size > 32 ? -ENOENT : 0;
}

int vec_vex_init(struct vec_form *f, const ZydisDecodedInstruction *in,
		 const ZydisDecodedOperand *ops, const u8 *bytes)
{
	const ZydisDecodedInstructionRaw *raw = &in->raw;

	*f = (struct vec_form){ .kind = classify(in) };
	if (f->kind == VEC_KIND_NONE)
		return -ENOENT;
	f->vex_map = raw->vex.m_mmmm;
	f->vex_pp = raw->vex.pp;
	f->vex_l = raw->vex.L;
	f->vex_w = raw->vex.W && (in->machine_mode == ZYDIS_MACHINE_MODE_LONG_64 || !w_widens(in));
	f->opcode[0] = in->opcode;
	f->nopcode = 1;
	f->has_modrm = true;
	f->mem = raw->modrm.mod != 3;
	f->mod = raw->modrm.mod;
	f->reg = raw->modrm.reg;
	f->rm = raw->modrm.rm;
	f->vvvv = ~raw->vex.vvvv & 15;
	if (in->machine_mode == ZYDIS_MACHINE_MODE_LONG_64) {
		f->reg |= !raw->vex.R << 3;
		f->rm |= !raw->vex.B << 3;
	} else {
		f->vvvv &= 7;
	}
	f->host_reg = f->reg & 7; /* part of the opcode if it names nothing */
	if (raw->imm[0].size) {
		f->nimm = 1;
		f->imm[0] = bytes[raw->imm[0].offset];
	}
	f->fp = can_raise_xm(in);
	f->maskmov = in->mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU;
	if (in->cpu_flags)
		f->flags_out = (in->cpu_flags->modified | in->cpu_flags->set_0 |
				in->cpu_flags->set_1 | in->cpu_flags->undefined) != 0;
	return take_operands(f, in, ops);
}
