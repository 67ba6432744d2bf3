/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compile.c - guest bytes to blocks of ops: decode with Zydis, pick a handler
 *
 * How it works
 * One op an instruction. Zydis decodes, a picker (pick.h) chooses the handler and fills the op's
 * operands. What the CPU model lacks is #UD whatever the host has. A block ends with an
 * instruction that says so, at BLOCK_OPS, or where the page ends.
 */
#include "cpu/soft/soft_priv.h"
#include "cpu/soft/x86/ops.h"
#include "cpu/soft/x86/pick.h"
#include "cpu/soft/x86/vec.h"

#include <Zydis/Zydis.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct compiler {
	ZydisDecoder dec[3];
	bool full; /* no room for a thunk: see compile_block */
	bool denied_known;
	bool denied[ZYDIS_ISA_SET_MAX_VALUE + 1]; /* not in the CPU model */
};

int compiler_new(struct compiler **ret)
{
	static const struct {
		ZydisMachineMode mode;
		ZydisStackWidth width;
	} modes[] = {
		[CODE_16] = { ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16 },
		[CODE_32] = { ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32 },
		[CODE_64] = { ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64 },
	};
	struct compiler *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	for (int i = 0; i < 3; i++) {
		ZydisDecoderInit(&k->dec[i], modes[i].mode, modes[i].width);
		/* Without these features F3 0F BC/BD are BSF/BSR and hint opcodes are NOPs;
		 * see find_denied. */
		ZydisDecoderEnableMode(&k->dec[i], ZYDIS_DECODER_MODE_LZCNT, ZYAN_FALSE);
		ZydisDecoderEnableMode(&k->dec[i], ZYDIS_DECODER_MODE_TZCNT, ZYAN_FALSE);
		ZydisDecoderEnableMode(&k->dec[i], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
		ZydisDecoderEnableMode(&k->dec[i], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
		ZydisDecoderEnableMode(&k->dec[i], ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE);
		ZydisDecoderEnableMode(&k->dec[i], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
	}
	*ret = k;
	return 0;
}

const ZydisDecoder *compiler_decoder(const struct compiler *k)
{
	return &k->dec[CODE_64];
}

void compiler_free(struct compiler *k)
{
	free(k);
}

/* Instruction sets that a CPU model may lack, and the CPUID bit that says so. */
static const struct {
	ZydisISASet set;
	u32 leaf;
	u8 reg, bit; /* 0..3: EAX..EDX */
} optional_sets[] = {
	{ ZYDIS_ISA_SET_SSE3, 1, 2, 0 },
	{ ZYDIS_ISA_SET_SSE3X87, 1, 2, 0 },
	{ ZYDIS_ISA_SET_SSSE3, 1, 2, 9 },
	{ ZYDIS_ISA_SET_SSSE3MMX, 1, 2, 9 },
	{ ZYDIS_ISA_SET_CMPXCHG16B, 1, 2, 13 },
	{ ZYDIS_ISA_SET_SSE4, 1, 2, 19 },
	{ ZYDIS_ISA_SET_SSE42, 1, 2, 20 },
	{ ZYDIS_ISA_SET_POPCNT, 1, 2, 23 },
	{ ZYDIS_ISA_SET_RDRAND, 1, 2, 30 },
	{ ZYDIS_ISA_SET_RDSEED, 7, 1, 18 },
	{ ZYDIS_ISA_SET_INVPCID, 7, 1, 10 },
	{ ZYDIS_ISA_SET_LAHF, 0x80000001, 2, 0 },
	{ ZYDIS_ISA_SET_RDTSCP, 0x80000001, 3, 27 },
	{ ZYDIS_ISA_SET_XSAVEC, 0xd, 0, 1 }, /* of subleaf 1 */
	/* From here on the host may lack them too: a vCPU without CPUID table has none. */
	{ ZYDIS_ISA_SET_AVX, 1, 2, 28 },
	{ ZYDIS_ISA_SET_AVX2, 7, 1, 5 },
	{ ZYDIS_ISA_SET_AVX2GATHER, 7, 1, 5 },
	{ ZYDIS_ISA_SET_FMA, 1, 2, 12 },
	{ ZYDIS_ISA_SET_F16C, 1, 2, 29 },
	{ ZYDIS_ISA_SET_BMI1, 7, 1, 3 },
	{ ZYDIS_ISA_SET_BMI2, 7, 1, 8 },
	{ ZYDIS_ISA_SET_MOVBE, 1, 2, 22 },
	{ ZYDIS_ISA_SET_LZCNT, 0x80000001, 2, 5 },
};

#define FIRST_V3 ZYDIS_ISA_SET_AVX

/*
 * What the guest is told that it lacks it does not get, on any host. LZCNT and TZCNT are other
 * instructions then.
 */
static void find_denied(struct compiler *k, struct x86_cpu *c)
{
	bool v3 = false;

	k->denied_known = true;
	for (size_t i = 0; i < ARRAY_LEN(optional_sets); i++) {
		u32 leaf = optional_sets[i].leaf, r[4];

		v3 |= optional_sets[i].set == FIRST_V3;
		if (c->cpuid_n) {
			x86_cpuid(c, leaf, leaf == 0xd, r);
			k->denied[optional_sets[i].set] =
				!(r[optional_sets[i].reg] & 1u << optional_sets[i].bit);
		} else {
			k->denied[optional_sets[i].set] = v3;
		}
	}
	for (int i = 0; i < 3; i++) {
		ZydisDecoderEnableMode(&k->dec[i], ZYDIS_DECODER_MODE_LZCNT,
				       !k->denied[ZYDIS_ISA_SET_LZCNT]);
		ZydisDecoderEnableMode(&k->dec[i], ZYDIS_DECODER_MODE_TZCNT,
				       !k->denied[ZYDIS_ISA_SET_BMI1]);
	}
}

static bool denied(const struct vcpu *v, const ZydisDecodedInstruction *in)
{
	/* LAHF's bit is about 64-bit mode; elsewhere it always exists. */
	if (in->meta.isa_set == ZYDIS_ISA_SET_LAHF && v->code_mode != CODE_64)
		return false;
	return v->s->compiler->denied[in->meta.isa_set];
}

/* Decodes one instruction into @op. Returns its length, or 0 if the bytes do not suffice. */
static unsigned compile_one(struct vcpu *v, const u8 *bytes, unsigned avail, struct op *op,
			    bool *ret_ends)
{
	struct compiler *k = v->s->compiler;
	ZydisDecodedInstruction in;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	struct pick p = { .v = v, .in = &in, .o = o, .bytes = bytes, .op = op, .full = &k->full };
	ZyanStatus st;

	if (unlikely(!k->denied_known))
		find_denied(k, &v->c);
	st = ZydisDecoderDecodeFull(&k->dec[v->code_mode], bytes, MIN(avail, 15u), &in, o);
	op->seg = X86_SEGS;
	op->base = op->index = X86_ZERO;
	if (st == ZYDIS_STATUS_NO_MORE_DATA && avail < 15)
		return 0;
	if (!ZYAN_SUCCESS(st)) {
		/* Which byte makes it none is not known; when any changes it may become one. */
		op->len = (u8)MIN(avail, 15u);
		pick_sys(&p,
			 st == ZYDIS_STATUS_INSTRUCTION_TOO_LONG || st == ZYDIS_STATUS_NO_MORE_DATA
				 ? Y_TOOLONG
				 : Y_UD);
		*ret_ends = true;
		return op->len;
	}
	op->len = in.length;
	for (unsigned i = 0; i < in.raw.prefix_count; i++)
		if (in.raw.prefixes[i].value == 0xf2 || in.raw.prefixes[i].value == 0xf3)
			p.rep = in.raw.prefixes[i].value;
	if (denied(v, &in))
		pick_sys(&p, Y_UD);
	else
		pick_insn(&p);
	/* A handler that a table does not have for this size is not an instruction. */
	if (!op->fn)
		pick_sys(&p, Y_UD);
	*ret_ends = p.ends;
	return in.length;
}

static unsigned compile_ops(struct vcpu *v, const u8 *bytes, unsigned avail, struct op *ops,
			    unsigned *ret_len, unsigned *ret_nops)
{
	unsigned n = 0, at = 0;
	bool ends = false;

	while (n < BLOCK_OPS && !ends && at < avail) {
		ops[n] = (struct op){ .ip = (u16)at, .idx = (u8)n };
		unsigned len = compile_one(v, bytes + at, avail - at, &ops[n], &ends);
		if (!len)
			break;
		at += len;
		n++;
	}
	if (!n)
		return 0;
	*ret_nops = n;
	if (!ends)
		op_fallthrough(&ops[(*ret_nops)++], &ops[n - 1]);
	*ret_len = at;
	return n;
}

/*
 * When the thunks' arena is full, everything that points into it is dropped and made anew as the
 * guest comes by. That is safe here because blocks are compiled between handlers only.
 */
unsigned compile_block(struct vcpu *v, const u8 *bytes, unsigned avail, struct op *ops,
		       unsigned *ret_len, unsigned *ret_nops)
{
	struct compiler *k = v->s->compiler;
	unsigned n = compile_ops(v, bytes, avail, ops, ret_len, ret_nops);

	if (likely(!k->full))
		return n;
	blocks_flush_all(v->s);
	vec_flush(v->s->vec);
	k->full = false;
	n = compile_ops(v, bytes, avail, ops, ret_len, ret_nops);
	/* The host has no memory at all, not even for one block's thunks: see block_make. */
	BUG_IF(k->full);
	return n;
}
