/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec.c - thunks: a guest vector or x87 instruction as the same host instruction
 *
 * How it works
 * A thunk is identified by its key: the instruction re-encoded for 64-bit mode without what does
 * not matter here (segment, address-size and ignored prefixes, the address of a memory operand).
 * SSE to SSE4.2, MMX and x87 instructions of 16- and 32-bit code have the same bytes without
 * REX, so one key serves all modes; only the environment images of x87 depend on the operand
 * size, which the key has as a 66 prefix.
 *
 * A thunk is called as vec_fn: RDI is the guest CPU, RSI the memory operand. Kinds:
 *
 * - SSE without floating-point exceptions: load, instruction, store, return.
 * - SSE with: as above under the guest's MXCSR, whose flags accumulate by themselves. If the
 *   guest has unmasked an exception, vec_run_unmasked stands between (vec_run.c).
 *   XMM operands sit in fixed host registers: ModRM.reg in XMM1, ModRM.rm in XMM2, the implied
 *   one in XMM0. General registers: ModRM.reg in RAX, ModRM.rm in RCX, implied ones in their own.
 * - x87 and MMX: FXRSTOR64, instruction, FXSAVE64, and the host's x87 unit reset. XMM and MM
 *   operands keep their numbers. vec_run_x87 stands before and behind.
 *
 * Which fields a host register comes from is part of the code, so that thunks have no loops and no
 * look-ups. The arena is bounded; when it is full vec_get fails and the engine flushes.
 */
#include "cpu/soft/x86/vec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/soft/x86/codebuf.h"
#include "cpu/soft/x86/vec_priv.h"

#define ARENA_SIZE (16u << 20)
#define HASH_BITS 12
#define HASH_SIZE (1u << HASH_BITS)
#define THUNK_MAX 320 /* bytes of code; the longest needs about 150 */

#define OFF(field) ((u32)offsetof(struct x86_cpu, field))
#define OFF_R(n) (OFF(r) + 8 * (n))
#define OFF_XMM(n) (OFF(x.xmm) + 16 * (n))

/* Host registers by number in an encoding. */
enum { H_RAX = 0, H_RCX = 1, H_XMM_IMPLIED = 0, H_XMM_REG = 1, H_XMM_RM = 2, H_RSI = 6 };

struct vec {
	struct codebuf code;
	size_t code_base; /* bytes of the resume points, which stay */
	const u8 *resume_sse, *resume_x87;
	struct vec_thunk *hash[HASH_SIZE];
	u64 thunks, flushes;
};

enum kind {
	KIND_NONE,
	KIND_SSE,
	KIND_X87, /* also MMX: the x87 registers take part */
	KIND_LDMXCSR,
	KIND_STMXCSR,
	KIND_FWAIT,
};

/* A register operand. */
struct regop {
	u8 guest, host;
	bool read, write;
};

/* An instruction taken apart, as far as a thunk needs it. */
struct form {
	enum kind kind;
	bool mmx, fp; /* fp: depends on MXCSR and can raise #XM */
	bool maskmov; /* stores at RDI, implicitly */
	bool ax16;    /* FNSTSW AX */
	bool flags_in, flags_out;

	u8 prefix[2], nprefix;
	bool rex_w;
	u8 opcode[3], nopcode;
	bool has_modrm, mem;
	u8 mod, reg, rm;      /* reg and rm with REX.R and REX.B as bit 3 */
	u8 host_reg, host_rm; /* as encoded in the thunk */
	u8 imm[2], nimm;

	struct regop gpr[4], xmm[4];
	unsigned ngpr, nxmm;
	u16 mem_size;
	bool mem_read, mem_write;
};

/* --- what an instruction is ------------------------------------------------------------------ */

static enum kind classify(const ZydisDecodedInstruction *in)
{
	if (in->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return KIND_NONE;
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_SFENCE:
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_MFENCE:
	case ZYDIS_MNEMONIC_MOVNTI:
	case ZYDIS_MNEMONIC_CRC32:
		return KIND_NONE;
	case ZYDIS_MNEMONIC_LDMXCSR:
		return KIND_LDMXCSR;
	case ZYDIS_MNEMONIC_STMXCSR:
		return KIND_STMXCSR;
	case ZYDIS_MNEMONIC_FWAIT:
		return KIND_FWAIT;
	case ZYDIS_MNEMONIC_FISTTP: /* in the ISA set SSE3 */
		return KIND_X87;
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
		return in->meta.isa_ext == ZYDIS_ISA_EXT_MMX ? KIND_X87 : KIND_SSE;
	case ZYDIS_ISA_SET_PENTIUMMMX:
	case ZYDIS_ISA_SET_SSE2MMX:
	case ZYDIS_ISA_SET_SSSE3MMX:
	case ZYDIS_ISA_SET_X87:
		return KIND_X87;
	default:
		return in->meta.isa_ext == ZYDIS_ISA_EXT_X87 ? KIND_X87 : KIND_NONE;
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
static bool unaligned_ok(const ZydisDecodedInstruction *in)
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

static bool nowait(const ZydisDecodedInstruction *in)
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

static bool is_env(const ZydisDecodedInstruction *in)
{
	return in->mnemonic == ZYDIS_MNEMONIC_FNSTENV || in->mnemonic == ZYDIS_MNEMONIC_FNSAVE ||
	       in->mnemonic == ZYDIS_MNEMONIC_FLDENV || in->mnemonic == ZYDIS_MNEMONIC_FRSTOR;
}

/* --- taking it apart ------------------------------------------------------------------------- */

static int take_reg(struct form *f, const ZydisDecodedOperand *op)
{
	ZydisRegister r = op->reg.value;
	ZydisRegisterClass cls = ZydisRegisterGetClass(r);
	struct regop ro = {
		.guest = (u8)ZydisRegisterGetId(r),
		.read = op->actions & ZYDIS_OPERAND_ACTION_MASK_READ,
		.write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE,
	};
	bool in_reg = op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG;
	bool in_rm = op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM;

	switch (cls) {
	case ZYDIS_REGCLASS_XMM:
		ro.host = in_reg ? H_XMM_REG : in_rm ? H_XMM_RM : H_XMM_IMPLIED;
		if (f->kind == KIND_SSE && in_reg)
			f->host_reg = ro.host;
		if (f->kind == KIND_SSE && in_rm)
			f->host_rm = ro.host;
		if (f->nxmm == ARRAY_LEN(f->xmm))
			return -ENOENT;
		f->xmm[f->nxmm++] = ro;
		return 0;
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		ro.host = in_reg ? H_RAX : in_rm ? H_RCX : ro.guest;
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

static int take_operands(struct form *f, const ZydisDecodedInstruction *in,
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
	if (f->mem_write && (f->maskmov || (f->kind == KIND_X87 && !f->mmx && !nowait(in))))
		f->mem_read = true;
	return f->mem_size > 512 ? -ENOENT : 0;
}

static int take_encoding(struct form *f, const ZydisDecodedInstruction *in, const u8 *bytes)
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

static int form_init(struct form *f, const ZydisDecodedInstruction *in,
		     const ZydisDecodedOperand *ops, const u8 *bytes)
{
	int rc;

	*f = (struct form){ .kind = classify(in) };
	if (f->kind == KIND_NONE)
		return -ENOENT;
	rc = take_encoding(f, in, bytes);
	if (rc < 0)
		return rc;
	f->fp = can_raise_xm(in);
	f->mmx = names_mmx(in, ops);
	if (f->mmx)
		f->kind = KIND_X87;
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
	if (is_env(in)) {
		f->rex_w = false;
		if (f->mem_size == 14 || f->mem_size == 94)
			f->prefix[f->nprefix++] = 0x66;
	}
	return 0;
}

/* --- emission -------------------------------------------------------------------------------- */

struct emit {
	u8 b[THUNK_MAX];
	unsigned n;
};

static void put(struct emit *e, const void *p, size_t n)
{
	BUG_IF(e->n + n > sizeof(e->b));
	memcpy(e->b + e->n, p, n);
	e->n += n;
}

#define PUT(e, ...) put(e, (const u8[]){ __VA_ARGS__ }, sizeof((const u8[]){ __VA_ARGS__ }))

/* ModRM (and displacement) of [rdi + @off] with @reg. */
static void put_rdi(struct emit *e, unsigned reg, u32 off)
{
	if (off < 128) {
		PUT(e, (u8)(0x47 | reg << 3), (u8)off);
	} else {
		PUT(e, (u8)(0x87 | reg << 3));
		put(e, &off, 4);
	}
}

static void load_gpr(struct emit *e, unsigned host, unsigned guest)
{
	PUT(e, 0x48, 0x8b);
	put_rdi(e, host, OFF_R(guest));
}

static void store_gpr(struct emit *e, unsigned host, unsigned guest)
{
	PUT(e, 0x48, 0x89);
	put_rdi(e, host, OFF_R(guest));
}

static void load_xmm(struct emit *e, unsigned host, unsigned guest)
{
	PUT(e, 0x0f, 0x28); /* movaps */
	put_rdi(e, host, OFF_XMM(guest));
}

static void store_xmm(struct emit *e, unsigned host, unsigned guest)
{
	PUT(e, 0x0f, 0x29);
	put_rdi(e, host, OFF_XMM(guest));
}

static void ldmxcsr_guest(struct emit *e)
{
	PUT(e, 0x0f, 0xae);
	put_rdi(e, 2, OFF(x.mxcsr));
}

static void stmxcsr_guest(struct emit *e)
{
	PUT(e, 0x0f, 0xae);
	put_rdi(e, 3, OFF(x.mxcsr));
}

/* Below RSP is the red zone of the System V ABI: a leaf function's own. */
static void ldmxcsr_red(struct emit *e)
{
	PUT(e, 0x0f, 0xae, 0x54, 0x24, 0xfc);
}

static void stmxcsr_red(struct emit *e)
{
	PUT(e, 0x0f, 0xae, 0x5c, 0x24, 0xfc);
}

static void put_ret(struct emit *e, u8 rc)
{
	if (rc)
		PUT(e, 0xb8, rc, 0, 0, 0, 0xc3); /* mov eax, rc; ret */
	else
		PUT(e, 0x31, 0xc0, 0xc3); /* xor eax, eax; ret */
}

/* Guest flags into the host's: ADD makes OF from 0 or 1, SAHF the others. Clobbers AX. */
static void load_flags(struct emit *e)
{
	PUT(e, 0x8a);
	put_rdi(e, 0, OFF(of)); /* mov al, of */
	PUT(e, 0x8a);
	put_rdi(e, 4, OFF(fl)); /* mov ah, fl */
	PUT(e, 0x04, 0x7f, 0x9e);
}

/* Clobbers AH. */
static void store_flags(struct emit *e)
{
	PUT(e, 0x9f, 0x0f, 0x90);
	put_rdi(e, 0, OFF(of)); /* lahf; seto of */
	PUT(e, 0x88);
	put_rdi(e, 4, OFF(fl)); /* mov fl, ah */
}

/* mov rdx, @t; mov rax, @fn; jmp rax: to a vec_run_ function, arguments in place. */
static void put_tail(struct emit *e, const struct vec_thunk *t,
		     int (*fn)(struct x86_cpu *, void *, const struct vec_thunk *))
{
	u64 a = (u64)(uintptr_t)t, b = (u64)(uintptr_t)fn;

	PUT(e, 0x48, 0xba);
	put(e, &a, 8);
	PUT(e, 0x48, 0xb8);
	put(e, &b, 8);
	PUT(e, 0xff, 0xe0);
}

/* The instruction with registers @reg and @rm in its ModRM (@rm is not used for memory). */
static void put_insn(struct emit *e, const struct form *f, unsigned reg, unsigned rm)
{
	u8 rex = (u8)(f->rex_w << 3 | (reg > 7) << 2 | (!f->mem && rm > 7));

	put(e, f->prefix, f->nprefix);
	if (rex)
		PUT(e, 0x40 | rex);
	put(e, f->opcode, f->nopcode);
	if (f->has_modrm && f->mem)
		PUT(e, (u8)((reg & 7) << 3 | H_RSI)); /* [rsi] */
	else if (f->has_modrm)
		PUT(e, (u8)(0xc0 | (reg & 7) << 3 | (rm & 7)));
	put(e, f->imm, f->nimm);
}

static void put_host_insn(struct emit *e, const struct form *f)
{
	if (f->maskmov)
		PUT(e, 0x48, 0x87, 0xfe); /* xchg rdi, rsi */
	put_insn(e, f, f->host_reg, f->host_rm);
	if (f->maskmov)
		PUT(e, 0x48, 0x87, 0xfe);
}

static void store_gprs(struct emit *e, const struct form *f)
{
	unsigned i;

	/* Whole registers: a 32-bit result has cleared the upper half of the host's as well. */
	for (i = 0; i < f->ngpr && !f->ax16; i++) {
		if (f->gpr[i].write)
			store_gpr(e, f->gpr[i].host, f->gpr[i].guest);
	}
	if (f->ax16) {
		PUT(e, 0x66, 0x89);
		put_rdi(e, H_RAX, OFF_R(X86_RAX));
	}
}

/*
 * Every XMM operand is loaded, also those that are only written: many scalar forms leave the
 * upper part as it was. A register named twice is loaded twice; only one of the two is written.
 */
static void put_sse_body(struct emit *e, const struct form *f)
{
	unsigned i;

	for (i = 0; i < f->nxmm; i++)
		load_xmm(e, f->xmm[i].host, f->xmm[i].guest);
	for (i = 0; i < f->ngpr; i++) {
		if (f->gpr[i].read)
			load_gpr(e, f->gpr[i].host, f->gpr[i].guest);
	}
	if (f->fp) {
		stmxcsr_red(e);
		ldmxcsr_guest(e);
	}
	put_host_insn(e, f);
	if (f->fp) {
		stmxcsr_guest(e);
		ldmxcsr_red(e);
	}
	for (i = 0; i < f->nxmm; i++) {
		if (f->xmm[i].write)
			store_xmm(e, f->xmm[i].host, f->xmm[i].guest);
	}
	store_gprs(e, f);
	if (f->flags_out)
		store_flags(e);
	put_ret(e, 0);
}

/*
 * FXRSTOR also loads the guest's MXCSR, so the host's is kept on the stack (its control bits are
 * the caller's). FNINIT leaves the x87 unit as the ABI wants it: empty, default control word, and
 * no exception pending.
 */
static void put_x87_body(struct emit *e, const struct form *f)
{
	unsigned i;

	PUT(e, 0x48, 0x83, 0xec, 0x08, 0x0f, 0xae, 0x1c, 0x24); /* sub rsp, 8; stmxcsr [rsp] */
	PUT(e, 0x48, 0x0f, 0xae);
	put_rdi(e, 1, OFF(x)); /* fxrstor64 */
	for (i = 0; i < f->ngpr; i++) {
		if (f->gpr[i].read)
			load_gpr(e, f->gpr[i].host, f->gpr[i].guest);
	}
	if (f->flags_in || f->flags_out)
		load_flags(e);
	put_host_insn(e, f);
	store_gprs(e, f);
	if (f->flags_out)
		store_flags(e);
	PUT(e, 0x48, 0x0f, 0xae);
	put_rdi(e, 0, OFF(x));			    /* fxsave64 */
	PUT(e, 0xdb, 0xe3, 0x0f, 0xae, 0x14, 0x24); /* fninit; ldmxcsr [rsp] */
	PUT(e, 0x48, 0x83, 0xc4, 0x08);
	put_ret(e, 0);
}

/* Skips vec_run_unmasked while every SSE exception is masked and no reserved bit is set. */
static void put_mask_check(struct emit *e, const struct vec_thunk *t)
{
	unsigned at;

	PUT(e, 0x8b);
	put_rdi(e, H_RAX, OFF(x.mxcsr));
	PUT(e, 0x25, 0x80, 0x1f, 0xff, 0xff); /* and eax, 0xffff1f80 */
	PUT(e, 0x3d, 0x80, 0x1f, 0x00, 0x00); /* cmp eax, 0x1f80 */
	PUT(e, 0x74, 0x00);		      /* je body */
	at = e->n;
	put_tail(e, t, vec_run_unmasked);
	e->b[at - 1] = (u8)(e->n - at);
}

static vec_fn as_fn(const u8 *code)
{
	return (vec_fn)(uintptr_t)code;
}

static int generate(struct vec *v, const struct form *f, struct vec_thunk *t)
{
	struct emit e = { .n = 0 };
	const u8 *code;
	unsigned body;
	int rc;

	if (f->kind == KIND_X87)
		put_tail(&e, t, vec_run_x87);
	else if (f->fp)
		put_mask_check(&e, t);
	body = e.n;
	if (f->kind == KIND_X87)
		put_x87_body(&e, f);
	else
		put_sse_body(&e, f);
	rc = codebuf_add(&v->code, e.b, e.n, 16, &code);
	if (rc < 0)
		return rc;
	t->insn.fn = as_fn(code);
	t->body = as_fn(code + body);
	t->end = code + e.n;
	if (f->fp)
		t->resume = f->kind == KIND_X87 ? v->resume_x87 : v->resume_sse;
	return 0;
}

/*
 * Where bodies go on after #XM: keep the flags that the processor set, undo, report. A conversion
 * between XMM and MM registers has entered MMX state by then, so the x87 state is kept as well.
 */
static int generate_resume(struct vec *v)
{
	struct emit e = { .n = 0 };
	int rc;

	stmxcsr_guest(&e);
	ldmxcsr_red(&e);
	put_ret(&e, X86_FAULT);
	rc = codebuf_add(&v->code, e.b, e.n, 16, &v->resume_sse);
	if (rc < 0)
		return rc;
	e.n = 0;
	PUT(&e, 0x48, 0x0f, 0xae);
	put_rdi(&e, 0, OFF(x)); /* fxsave64: MXCSR too */
	PUT(&e, 0xdb, 0xe3, 0x0f, 0xae, 0x14, 0x24, 0x48, 0x83, 0xc4, 0x08);
	put_ret(&e, X86_FAULT);
	rc = codebuf_add(&v->code, e.b, e.n, 16, &v->resume_x87);
	v->code_base = v->code.len;
	return rc;
}

/* --- the cache ------------------------------------------------------------------------------- */

static void make_key(const struct form *f, u8 key[20])
{
	struct emit e = { .n = 0 };

	put_insn(&e, f, f->reg, f->rm);
	BUG_IF(e.n > 16);
	memset(key, 0, 20);
	memcpy(key, e.b, e.n);
	/* EMMS and FWAIT aside, length and ModRM tell trailing zeros apart; this makes it plain. */
	key[19] = (u8)e.n;
}

static unsigned hash_key(const u8 key[20])
{
	u64 a, b;
	u32 c;

	memcpy(&a, key, 8);
	memcpy(&b, key + 8, 8);
	memcpy(&c, key + 16, 4);
	a = (a ^ (b + c) * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;
	return (unsigned)((a ^ a >> 29) * 0xc4ceb9fe1a85ec53ull >> (64 - HASH_BITS));
}

static void describe(const struct form *f, const ZydisDecodedInstruction *in, struct vec_thunk *t)
{
	struct vec_insn *vi = &t->insn;

	vi->mem_size = f->mem_size;
	vi->mem_read = f->mem_read;
	vi->mem_write = f->mem_write;
	vi->mem_align = f->mem_size == 16 && !unaligned_ok(in) ? 16 : 1;
	if (f->kind == KIND_X87) {
		t->waits = !nowait(in);
		vi->cls = f->mmx ? VEC_MMX : t->waits ? VEC_X87 : VEC_X87_NOWAIT;
		if (is_env(in) && f->mem_write)
			t->env = f->nprefix ? VEC_ENV_16 : VEC_ENV_32;
	} else {
		vi->cls = VEC_SSE;
	}
}

static bool get_plain(const struct form *f, struct vec_insn *ret)
{
	struct vec_insn vi = { .cls = VEC_SSE, .mem_size = 4, .mem_align = 1 };

	switch (f->kind) {
	case KIND_LDMXCSR:
		vi.fn = vec_ldmxcsr;
		vi.mem_read = true;
		break;
	case KIND_STMXCSR:
		vi.fn = vec_stmxcsr;
		vi.mem_write = true;
		break;
	case KIND_FWAIT:
		vi = (struct vec_insn){ .fn = vec_fwait, .cls = VEC_FWAIT, .mem_align = 1 };
		break;
	default:
		return false;
	}
	*ret = vi;
	return true;
}

int vec_get(struct vec *v, const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *ops,
	    const u8 *bytes, struct vec_insn *ret)
{
	struct vec_thunk *t;
	struct form f;
	unsigned h;
	u8 key[20];
	int rc;

	rc = form_init(&f, insn, ops, bytes);
	if (rc < 0)
		return rc;
	if (get_plain(&f, ret))
		return 0;
	make_key(&f, key);
	h = hash_key(key);
	for (t = v->hash[h]; t; t = t->next) {
		if (!memcmp(t->key, key, sizeof(key))) {
			*ret = t->insn;
			return 0;
		}
	}
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	memcpy(t->key, key, sizeof(key));
	describe(&f, insn, t);
	rc = generate(v, &f, t);
	if (rc < 0) {
		free(t);
		return rc;
	}
	t->next = v->hash[h];
	v->hash[h] = t;
	v->thunks++;
	*ret = t->insn;
	return 0;
}

static void free_thunks(struct vec *v)
{
	struct vec_thunk *t, *next;
	unsigned i;

	for (i = 0; i < HASH_SIZE; i++) {
		for (t = v->hash[i]; t; t = next) {
			next = t->next;
			free(t);
		}
		v->hash[i] = NULL;
	}
	v->thunks = 0;
}

void vec_flush(struct vec *v)
{
	free_thunks(v);
	codebuf_truncate(&v->code, v->code_base);
	v->flushes++;
}

struct vec_stats vec_stats(const struct vec *v)
{
	return (struct vec_stats){ v->thunks, v->code.len, v->flushes };
}

int vec_new(struct vec **ret)
{
	struct vec *v;
	int rc;

	__builtin_cpu_init();
	if (!__builtin_cpu_supports("sse4.2"))
		return -ENOTSUP;
	rc = vec_trap_init();
	if (rc < 0)
		return rc;
	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	rc = codebuf_init(&v->code, ARENA_SIZE);
	if (rc >= 0)
		rc = generate_resume(v);
	if (rc < 0) {
		vec_free(v);
		return rc;
	}
	*ret = v;
	return 0;
}

void vec_free(struct vec *v)
{
	if (!v)
		return;
	free_thunks(v);
	codebuf_fini(&v->code);
	free(v);
}
