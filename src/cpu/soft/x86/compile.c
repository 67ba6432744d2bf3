/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compile.c - guest bytes to ops: decode with Zydis, pick a handler
 *
 * How it works
 * One op an instruction. A picker (pick_*) fills the op's operands and returns; what no picker
 * knows goes to the vector thunks, and what they do not know is not in the CPU model: #UD. An
 * instruction that ends its block sets `ends`.
 */
#include "cpu/soft/soft_priv.h"
#include "cpu/soft/x86/ops.h"
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

/* One instruction on its way to an op. */
struct pick {
	struct vcpu *v;
	const ZydisDecodedInstruction *in;
	const ZydisDecodedOperand *o;
	const u8 *bytes;
	struct op *op;
	u64 rip;   /* of the block */
	bool ends; /* the block ends here */
	u8 rep;	   /* last of F2, F3, or 0 */
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
		/* Without these features F3 0F BC/BD are BSF/BSR and hint opcodes are NOPs. */
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

void compiler_free(struct compiler *k)
{
	free(k);
}

/* --- operands ----------------------------------------------------------------------------- */

/* 0..3 for 8..64 bits. */
static unsigned size_index(unsigned bits)
{
	return bits == 8 ? 0 : bits == 16 ? 1 : bits == 32 ? 2 : 3;
}

/* Byte offset of a general register in r[]. */
static u8 reg_off(ZydisRegister r)
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

static u8 seg_num(ZydisRegister r)
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

static u8 addr_flags(const struct pick *p)
{
	if (p->in->address_width == 16)
		return OPF_EASLOW | OPF_A16;
	if (p->in->address_width == 32)
		return OPF_EASLOW | OPF_A32;
	return 0;
}

static void set_seg(struct pick *p, u8 seg)
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

static void set_mem(struct pick *p, const ZydisDecodedOperand *o)
{
	struct op *op = p->op;
	s64 disp = o->mem.disp.has_displacement ? o->mem.disp.value : 0;

	op->flags |= OPF_MEM | addr_flags(p);
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

/* An r/m operand: memory, or the register at dst. */
static void set_rm(struct pick *p, const ZydisDecodedOperand *o)
{
	if (o->type == ZYDIS_OPERAND_TYPE_MEMORY)
		set_mem(p, o);
	else
		p->op->dst = reg_off(o->reg.value);
}

static bool is_mem(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_MEMORY;
}

static bool is_reg(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_REGISTER;
}

static bool is_imm(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

/* --- pickers --------------------------------------------------------------------------------- */

static void sys(struct pick *p, enum sys y)
{
	p->op->fn = op_sys;
	p->op->aux = (u8)y;
	p->ends = true;
}

static void misc(struct pick *p, enum misc m)
{
	p->op->fn = op_misc;
	p->op->aux = (u8)m;
}

static void pick_alu(struct pick *p, enum alu_op a)
{
	const ZydisDecodedOperand *d = &p->o[0], *s = &p->o[1];
	unsigned z = size_index(d->size);
	enum op_form f;

	if (is_mem(d)) {
		set_mem(p, d);
		f = is_imm(s) ? F_MI : F_MR;
	} else if (is_mem(s)) {
		set_mem(p, s);
		f = F_RM;
	} else {
		f = is_imm(s) ? F_RI : F_RR;
	}
	if (is_reg(d))
		p->op->dst = reg_off(d->reg.value);
	if (is_imm(s))
		p->op->imm = s->imm.value.s;
	else if (is_reg(s))
		p->op->src = reg_off(s->reg.value);
	p->op->fn = ops_alu[a][z][f];
}

/* MOV between rAX and a 64-bit offset, where it does not fit a displacement. */
static const struct op *op_movabs(struct vcpu *v, const struct op *op)
{
	u64 a = (u64)op->imm + v->c.segbase[op->seg];
	unsigned n = op->aux & 15;

	if (op->aux & 16) {
		u64 x = v->c.r[X86_RAX];
		if (n == 1)
			st_u8(v, op, a, (u8)x);
		else if (n == 2)
			st_u16(v, op, a, (u16)x);
		else if (n == 4)
			st_u32(v, op, a, (u32)x);
		else
			st_u64(v, op, a, x);
	} else {
		if (n == 1)
			set_u8(v, 0, ld_u8(v, op, a));
		else if (n == 2)
			set_u16(v, 0, ld_u16(v, op, a));
		else if (n == 4)
			set_u32(v, 0, ld_u32(v, op, a));
		else
			set_u64(v, 0, ld_u64(v, op, a));
	}
	NEXT;
}

static void pick_mov_special(struct pick *p)
{
	const ZydisDecodedOperand *d = &p->o[0], *s = &p->o[1];
	bool to = is_reg(d);
	ZydisRegister r = to ? d->reg.value : s->reg.value;
	ZydisRegisterClass cd = is_reg(d) ? ZydisRegisterGetClass(d->reg.value) : 0;
	ZydisRegisterClass cs = is_reg(s) ? ZydisRegisterGetClass(s->reg.value) : 0;

	/* LOCK MOV CR0 is another vendor's CR8. */
	if (p->in->attributes & ZYDIS_ATTRIB_HAS_LOCK) {
		sys(p, Y_UD);
		return;
	}
	if (cd == ZYDIS_REGCLASS_SEGMENT) {
		p->op->imm = seg_num(r);
		if (p->op->imm == X86_CS) {
			sys(p, Y_UD);
			return;
		}
		set_rm(p, s);
		sys(p, Y_MOV_TO_SEG);
	} else if (cs == ZYDIS_REGCLASS_SEGMENT) {
		p->op->imm = seg_num(s->reg.value);
		set_rm(p, d);
		p->op->aux = (u8)(d->size / 8);
		p->op->fn = op_mov_from_seg;
	} else if (cd == ZYDIS_REGCLASS_CONTROL || cd == ZYDIS_REGCLASS_DEBUG) {
		bool cr = cd == ZYDIS_REGCLASS_CONTROL;
		p->op->imm = r - (cr ? ZYDIS_REGISTER_CR0 : ZYDIS_REGISTER_DR0);
		p->op->src = reg_off(s->reg.value);
		sys(p, cr ? Y_MOV_TO_CR : Y_MOV_TO_DR);
	} else {
		bool cr = cs == ZYDIS_REGCLASS_CONTROL;
		p->op->imm = s->reg.value - (cr ? ZYDIS_REGISTER_CR0 : ZYDIS_REGISTER_DR0);
		p->op->dst = reg_off(d->reg.value);
		sys(p, cr ? Y_MOV_FROM_CR : Y_MOV_FROM_DR);
	}
}

static bool is_gpr(const ZydisDecodedOperand *o)
{
	ZydisRegisterClass c = ZydisRegisterGetClass(o->reg.value);

	return c == ZYDIS_REGCLASS_GPR8 || c == ZYDIS_REGCLASS_GPR16 || c == ZYDIS_REGCLASS_GPR32 ||
	       c == ZYDIS_REGCLASS_GPR64;
}

static void pick_mov(struct pick *p)
{
	const ZydisDecodedOperand *d = &p->o[0], *s = &p->o[1];
	const ZydisDecodedOperand *m = is_mem(d) ? d : s;

	if ((is_reg(d) && !is_gpr(d)) || (is_reg(s) && !is_gpr(s))) {
		pick_mov_special(p);
		return;
	}
	if (is_mem(m) && m->mem.disp.value != (s32)m->mem.disp.value) {
		set_seg(p, seg_num(m->mem.segment));
		p->op->imm = m->mem.disp.value;
		p->op->aux = (u8)(d->size / 8 | (is_mem(d) ? 16 : 0));
		p->op->fn = op_movabs;
		return;
	}
	pick_alu(p, A_MOV);
}

static void pick_un(struct pick *p, enum un_op u)
{
	set_rm(p, &p->o[0]);
	p->op->fn = ops_un[u][size_index(p->o[0].size)][is_mem(&p->o[0])];
}

static void pick_shift(struct pick *p, enum sh_op s)
{
	bool cl = is_reg(&p->o[1]);

	set_rm(p, &p->o[0]);
	p->op->imm = cl ? 0 : (u8)p->o[1].imm.value.u;
	p->op->fn = ops_sh[s][size_index(p->o[0].size)][cl][is_mem(&p->o[0])];
}

static void pick_shd(struct pick *p, unsigned right)
{
	bool cl = is_reg(&p->o[2]);

	set_rm(p, &p->o[0]);
	p->op->src = reg_off(p->o[1].reg.value);
	p->op->imm = cl ? 0 : (u8)p->o[2].imm.value.u;
	p->op->fn = ops_shd[right][size_index(p->o[0].size)][cl][is_mem(&p->o[0])];
}

static void pick_movx(struct pick *p, unsigned sign)
{
	p->op->dst = reg_off(p->o[0].reg.value);
	if (is_mem(&p->o[1]))
		set_mem(p, &p->o[1]);
	else
		p->op->src = reg_off(p->o[1].reg.value);
	p->op->fn = ops_movx[sign][p->o[1].size == 16][size_index(p->o[0].size)][is_mem(&p->o[1])];
}

static void pick_movsxd(struct pick *p)
{
	if (p->o[0].size != 64) { /* MOVSXD without REX.W moves */
		ZydisDecodedOperand s = p->o[1];
		s.size = p->o[0].size;
		p->op->dst = reg_off(p->o[0].reg.value);
		if (is_mem(&s))
			set_mem(p, &s);
		else
			p->op->src = reg_off(s.reg.value);
		p->op->fn = ops_alu[A_MOV][size_index(p->o[0].size)][is_mem(&s) ? F_RM : F_RR];
		return;
	}
	p->op->dst = reg_off(p->o[0].reg.value);
	if (is_mem(&p->o[1]))
		set_mem(p, &p->o[1]);
	else
		p->op->src = reg_off(p->o[1].reg.value);
	p->op->fn = ops_movsxd[is_mem(&p->o[1])];
}

/* Destination register in `src`, r/m source in `dst` or memory. */
static void pick_reg_rm(struct pick *p, const op_fn t[4][2], unsigned bits)
{
	p->op->src = reg_off(p->o[0].reg.value);
	set_rm(p, &p->o[1]);
	p->op->fn = t[size_index(bits)][is_mem(&p->o[1])];
}

static void pick_rm_reg(struct pick *p, const op_fn t[4][2])
{
	const ZydisDecodedOperand *m = &p->o[0], *r = &p->o[1];

	if (is_mem(r)) {
		m = &p->o[1];
		r = &p->o[0];
	}
	set_rm(p, m);
	p->op->src = reg_off(r->reg.value);
	p->op->fn = t[size_index(m->size)][is_mem(m)];
}

static void pick_bt(struct pick *p, enum bt_op b)
{
	bool imm = is_imm(&p->o[1]);

	set_rm(p, &p->o[0]);
	if (imm)
		p->op->imm = (u8)p->o[1].imm.value.u;
	else
		p->op->src = reg_off(p->o[1].reg.value);
	p->op->fn = ops_bt[b][size_index(p->o[0].size)][imm][is_mem(&p->o[0])];
}

static void pick_imul(struct pick *p)
{
	unsigned n = p->in->operand_count_visible;

	if (n == 1) {
		set_rm(p, &p->o[0]);
		p->op->fn = ops_imul[size_index(p->o[0].size)][is_mem(&p->o[0])];
	} else {
		pick_reg_rm(p, n == 2 ? ops_imul2 : ops_imul3, p->o[0].size);
		if (n == 3)
			p->op->imm = p->o[2].imm.value.s;
	}
}

static void pick_branch_target(struct pick *p)
{
	p->op->imm = (s64)p->op->ip + p->op->len + p->o[0].imm.value.s;
	if (p->in->operand_width == 16)
		p->op->flags |= OPF_O16;
	p->ends = true;
}

static bool legacy(const struct pick *p)
{
	return p->v->code_mode != CODE_64;
}

static void pick_jcc(struct pick *p)
{
	pick_branch_target(p);
	p->op->aux = p->in->opcode & 15;
	p->op->fn = legacy(p) ? op_jcc_legacy : ops_jcc[p->op->aux];
}

static void pick_far(struct pick *p, bool call)
{
	unsigned n = p->in->operand_width / 8;

	if (is_mem(&p->o[0])) {
		set_mem(p, &p->o[0]);
		p->op->imm = n;
		sys(p, call ? Y_FAR_CALL_M : Y_FAR_JMP_M);
	} else {
		p->op->disp = p->o[0].ptr.segment;
		p->op->imm = (s64)p->o[0].ptr.offset;
		p->op->dst = (u8)n;
		sys(p, call ? Y_FAR_CALL_IMM : Y_FAR_JMP_IMM);
	}
}

static void pick_jmp_call(struct pick *p, bool call)
{
	unsigned n = p->in->operand_width / 8;

	if (p->in->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
		pick_far(p, call);
		return;
	}
	p->ends = true;
	p->op->aux = (u8)n;
	if (is_imm(&p->o[0])) {
		pick_branch_target(p);
		if (call)
			p->op->fn = legacy(p) ? op_call_legacy : op_call;
		else
			p->op->fn = legacy(p) ? op_jmp_legacy : op_jmp;
		if (call && !legacy(p))
			p->op->flags |= OPF_SS;
		return;
	}
	if (n == 2)
		p->op->flags |= OPF_O16;
	set_rm(p, &p->o[0]);
	if (legacy(p) || n != 8)
		p->op->fn = call ? op_call_rm : op_jmp_rm;
	else if (is_mem(&p->o[0]))
		p->op->fn = call ? op_call_m64 : op_jmp_m64;
	else
		p->op->fn = call ? op_call_r64 : op_jmp_r64;
}

static void pick_ret(struct pick *p)
{
	unsigned n = p->in->operand_width / 8;

	p->op->imm = p->in->operand_count_visible ? (u16)p->o[0].imm.value.u : 0;
	p->op->flags |= OPF_SS;
	p->ends = true;
	if (p->in->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
		p->op->dst = (u8)n;
		sys(p, Y_FAR_RET);
		return;
	}
	if (n == 2)
		p->op->flags |= OPF_O16;
	p->op->aux = (u8)n;
	p->op->fn = legacy(p) || n == 2 ? op_ret_legacy : op_ret;
}

static void pick_loop(struct pick *p, u8 kind)
{
	p->op->flags |= p->in->address_width == 16   ? OPF_A16
			: p->in->address_width == 32 ? OPF_A32
						     : 0;
	pick_branch_target(p);
	p->op->aux = kind;
	p->op->fn = op_loop;
}

static void pick_push(struct pick *p)
{
	const ZydisDecodedOperand *o = &p->o[0];
	unsigned n = p->in->operand_width / 8;

	p->op->aux = (u8)n;
	if (is_imm(o)) {
		p->op->imm = o->imm.value.s;
		p->op->fn = !legacy(p) && n == 8 ? op_push_imm64 : op_push_imm;
		p->op->flags |= OPF_SS;
	} else if (is_reg(o) && !is_gpr(o)) {
		p->op->src = seg_num(o->reg.value);
		p->op->fn = op_push_seg;
		p->op->flags |= OPF_SS;
	} else if (is_reg(o) && !legacy(p) && n == 8) {
		p->op->src = reg_off(o->reg.value);
		p->op->fn = op_push_r64;
		p->op->flags |= OPF_SS;
	} else {
		set_rm(p, o);
		p->op->src = (p->op->flags & OPF_SS) != 0;
		p->op->flags |= OPF_SS;
		p->op->fn = op_push_rm;
	}
}

static void pick_pop(struct pick *p)
{
	const ZydisDecodedOperand *o = &p->o[0];
	unsigned n = p->in->operand_width / 8;

	p->op->aux = (u8)n;
	if (is_reg(o) && !is_gpr(o)) {
		p->op->dst = seg_num(o->reg.value);
		p->op->fn = op_pop_seg;
		p->ends = true;
	} else if (is_reg(o) && !legacy(p) && n == 8) {
		p->op->dst = reg_off(o->reg.value);
		p->op->fn = op_pop_r64;
	} else {
		set_rm(p, o);
		p->op->src = (p->op->flags & OPF_SS) != 0;
		p->op->fn = op_pop_rm;
	}
	p->op->flags |= OPF_SS;
}

static void pick_string(struct pick *p, op_fn fn, unsigned n)
{
	u8 seg = X86_DS;
	u64 a = p->in->attributes;

	p->op->flags |= p->in->address_width == 16   ? OPF_A16
			: p->in->address_width == 32 ? OPF_A32
						     : 0;
	if (a & ZYDIS_ATTRIB_HAS_SEGMENT_ES)
		seg = X86_ES;
	else if (a & ZYDIS_ATTRIB_HAS_SEGMENT_CS)
		seg = X86_CS;
	else if (a & ZYDIS_ATTRIB_HAS_SEGMENT_SS)
		seg = X86_SS;
	else if (a & ZYDIS_ATTRIB_HAS_SEGMENT_FS)
		seg = X86_FS;
	else if (a & ZYDIS_ATTRIB_HAS_SEGMENT_GS)
		seg = X86_GS;
	set_seg(p, seg);
	if (p->rep == 0xf2)
		p->op->flags |= OPF_REPNE;
	p->op->aux = (u8)(n | (p->rep ? STR_REP : 0));
	p->op->fn = fn;
	p->ends = true;
}

static void pick_io(struct pick *p, bool in)
{
	const ZydisDecodedOperand *port = &p->o[in ? 1 : 0], *val = &p->o[in ? 0 : 1];

	p->op->imm = is_imm(port) ? (u8)port->imm.value.u : -1;
	p->op->src = (u8)(val->size / 8);
	sys(p, in ? Y_IN : Y_OUT);
}

/* System instruction with an r/m operand; operand size in imm. */
static void sys_rm(struct pick *p, enum sys y, unsigned which)
{
	set_rm(p, &p->o[which]);
	p->op->imm = p->o[which].size / 8;
	sys(p, y);
}

static void sys_mem(struct pick *p, enum sys y, s64 imm)
{
	set_mem(p, &p->o[0]);
	p->op->imm = imm;
	sys(p, y);
}

static void pick_lxs(struct pick *p, enum x86_segreg s)
{
	p->op->src = reg_off(p->o[0].reg.value);
	set_mem(p, &p->o[1]);
	p->op->aux = (u8)(p->o[0].size / 8);
	p->op->imm = s;
	p->op->fn = op_lxs;
	p->ends = true;
}

static void pick_vec(struct pick *p)
{
	const struct vec_insn *d;
	int r = vec_get(p->v->s->vec, p->in, p->o, p->bytes, &d);

	if (r < 0) {
		p->v->s->compiler->full |= r != -ENOENT;
		sys(p, Y_UD);
		return;
	}
	for (unsigned j = 0; d->mem_size && j < p->in->operand_count; j++) {
		if (is_mem(&p->o[j])) {
			set_mem(p, &p->o[j]);
			break;
		}
	}
	p->op->ptr = d;
	if (d->cls != VEC_SSE)
		p->op->fn = op_vec_x87;
	else if (!(p->op->flags & OPF_MEM))
		p->op->fn = op_vec_reg;
	else
		p->op->fn = d->mem_write ? op_vec_store : op_vec_load;
}

/* Arithmetic and moves. Returns whether it was one. */
static bool pick_integer(struct pick *p)
{
	switch (p->in->mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		pick_mov(p);
		break;
	case ZYDIS_MNEMONIC_ADD:
		pick_alu(p, A_ADD);
		break;
	case ZYDIS_MNEMONIC_OR:
		pick_alu(p, A_OR);
		break;
	case ZYDIS_MNEMONIC_ADC:
		pick_alu(p, A_ADC);
		break;
	case ZYDIS_MNEMONIC_SBB:
		pick_alu(p, A_SBB);
		break;
	case ZYDIS_MNEMONIC_AND:
		pick_alu(p, A_AND);
		break;
	case ZYDIS_MNEMONIC_SUB:
		pick_alu(p, A_SUB);
		break;
	case ZYDIS_MNEMONIC_XOR:
		pick_alu(p, A_XOR);
		break;
	case ZYDIS_MNEMONIC_CMP:
		pick_alu(p, A_CMP);
		break;
	case ZYDIS_MNEMONIC_TEST:
		pick_alu(p, A_TEST);
		break;
	case ZYDIS_MNEMONIC_INC:
		pick_un(p, U_INC);
		break;
	case ZYDIS_MNEMONIC_DEC:
		pick_un(p, U_DEC);
		break;
	case ZYDIS_MNEMONIC_NEG:
		pick_un(p, U_NEG);
		break;
	case ZYDIS_MNEMONIC_NOT:
		pick_un(p, U_NOT);
		break;
	case ZYDIS_MNEMONIC_ROL:
		pick_shift(p, S_ROL);
		break;
	case ZYDIS_MNEMONIC_ROR:
		pick_shift(p, S_ROR);
		break;
	case ZYDIS_MNEMONIC_RCL:
		pick_shift(p, S_RCL);
		break;
	case ZYDIS_MNEMONIC_RCR:
		pick_shift(p, S_RCR);
		break;
	case ZYDIS_MNEMONIC_SHL:
		pick_shift(p, S_SHL);
		break;
	case ZYDIS_MNEMONIC_SHR:
		pick_shift(p, S_SHR);
		break;
	case ZYDIS_MNEMONIC_SAR:
		pick_shift(p, S_SAR);
		break;
	case ZYDIS_MNEMONIC_SHLD:
		pick_shd(p, 0);
		break;
	case ZYDIS_MNEMONIC_SHRD:
		pick_shd(p, 1);
		break;
	case ZYDIS_MNEMONIC_MOVZX:
		pick_movx(p, 0);
		break;
	case ZYDIS_MNEMONIC_MOVSX:
		pick_movx(p, 1);
		break;
	case ZYDIS_MNEMONIC_MOVSXD:
		pick_movsxd(p);
		break;
	case ZYDIS_MNEMONIC_MOVNTI:
		pick_alu(p, A_MOV);
		break;
	case ZYDIS_MNEMONIC_LEA:
		set_mem(p, &p->o[1]);
		p->op->dst = reg_off(p->o[0].reg.value);
		p->op->fn = ops_lea[size_index(p->o[0].size)];
		break;
	case ZYDIS_MNEMONIC_XCHG:
		pick_rm_reg(p, ops_xchg);
		break;
	case ZYDIS_MNEMONIC_XADD:
		pick_rm_reg(p, ops_xadd);
		break;
	case ZYDIS_MNEMONIC_CMPXCHG:
		pick_rm_reg(p, ops_cmpxchg);
		break;
	case ZYDIS_MNEMONIC_CMPXCHG8B:
		set_mem(p, &p->o[0]);
		p->op->fn = op_cmpxchg8b;
		break;
	case ZYDIS_MNEMONIC_CMPXCHG16B:
		set_mem(p, &p->o[0]);
		p->op->fn = op_cmpxchg16b;
		break;
	case ZYDIS_MNEMONIC_BT:
		pick_bt(p, B_BT);
		break;
	case ZYDIS_MNEMONIC_BTS:
		pick_bt(p, B_BTS);
		break;
	case ZYDIS_MNEMONIC_BTR:
		pick_bt(p, B_BTR);
		break;
	case ZYDIS_MNEMONIC_BTC:
		pick_bt(p, B_BTC);
		break;
	case ZYDIS_MNEMONIC_BSF:
		pick_reg_rm(p, ops_bscan[0], p->o[0].size);
		break;
	case ZYDIS_MNEMONIC_BSR:
		pick_reg_rm(p, ops_bscan[1], p->o[0].size);
		break;
	case ZYDIS_MNEMONIC_POPCNT:
		pick_reg_rm(p, ops_popcnt, p->o[0].size);
		break;
	case ZYDIS_MNEMONIC_CRC32:
		pick_reg_rm(p, ops_crc32, p->o[1].size);
		break;
	case ZYDIS_MNEMONIC_BSWAP:
		p->op->dst = reg_off(p->o[0].reg.value);
		p->op->fn = ops_bswap[size_index(p->o[0].size)];
		break;
	case ZYDIS_MNEMONIC_MUL:
		set_rm(p, &p->o[0]);
		p->op->fn = ops_mul[size_index(p->o[0].size)][is_mem(&p->o[0])];
		break;
	case ZYDIS_MNEMONIC_IMUL:
		pick_imul(p);
		break;
	case ZYDIS_MNEMONIC_DIV:
		set_rm(p, &p->o[0]);
		p->op->fn = ops_div[size_index(p->o[0].size)];
		break;
	case ZYDIS_MNEMONIC_IDIV:
		set_rm(p, &p->o[0]);
		p->op->fn = ops_idiv[size_index(p->o[0].size)];
		break;
	case ZYDIS_MNEMONIC_CBW:
	case ZYDIS_MNEMONIC_CWDE:
	case ZYDIS_MNEMONIC_CDQE:
		p->op->fn = ops_cbw[size_index(p->in->operand_width)];
		break;
	case ZYDIS_MNEMONIC_CWD:
	case ZYDIS_MNEMONIC_CDQ:
	case ZYDIS_MNEMONIC_CQO:
		p->op->fn = ops_cwd[size_index(p->in->operand_width)];
		break;
	default:
		return false;
	}
	return true;
}

static bool is_string(const struct pick *p)
{
	ZydisInstructionCategory c = p->in->meta.category;

	return c == ZYDIS_CATEGORY_STRINGOP || c == ZYDIS_CATEGORY_IOSTRINGOP;
}

static bool pick_strings(struct pick *p)
{
	unsigned n = p->in->opcode & 1 ? p->in->operand_width / 8 : 1;

	if (!is_string(p))
		return false;
	switch (p->in->opcode & 0xfe) {
	case 0xa4:
		pick_string(p, op_movs, n);
		break;
	case 0xa6:
		pick_string(p, op_cmps, n);
		break;
	case 0xaa:
		pick_string(p, op_stos, n);
		break;
	case 0xac:
		pick_string(p, op_lods, n);
		break;
	case 0xae:
		pick_string(p, op_scas, n);
		break;
	case 0x6c:
		pick_string(p, op_ins, n == 8 ? 4 : n);
		break;
	case 0x6e:
		pick_string(p, op_outs, n == 8 ? 4 : n);
		break;
	default:
		return false;
	}
	return true;
}

/* Jumps, the stack, flags. */
static bool pick_flow(struct pick *p)
{
	unsigned n = p->in->operand_width / 8;

	switch (p->in->mnemonic) {
	case ZYDIS_MNEMONIC_JMP:
		pick_jmp_call(p, false);
		break;
	case ZYDIS_MNEMONIC_CALL:
		pick_jmp_call(p, true);
		break;
	case ZYDIS_MNEMONIC_RET:
		pick_ret(p);
		break;
	case ZYDIS_MNEMONIC_LOOPNE:
		pick_loop(p, 0);
		break;
	case ZYDIS_MNEMONIC_LOOPE:
		pick_loop(p, 1);
		break;
	case ZYDIS_MNEMONIC_LOOP:
		pick_loop(p, 2);
		break;
	case ZYDIS_MNEMONIC_JCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
	case ZYDIS_MNEMONIC_JRCXZ:
		pick_loop(p, 3);
		break;
	case ZYDIS_MNEMONIC_PUSH:
		pick_push(p);
		break;
	case ZYDIS_MNEMONIC_POP:
		pick_pop(p);
		break;
	case ZYDIS_MNEMONIC_PUSHA:
	case ZYDIS_MNEMONIC_PUSHAD:
		p->op->aux = (u8)n;
		p->op->flags |= OPF_SS;
		p->op->fn = op_pusha;
		break;
	case ZYDIS_MNEMONIC_POPA:
	case ZYDIS_MNEMONIC_POPAD:
		p->op->aux = (u8)n;
		p->op->flags |= OPF_SS;
		p->op->fn = op_popa;
		break;
	case ZYDIS_MNEMONIC_PUSHF:
	case ZYDIS_MNEMONIC_PUSHFD:
	case ZYDIS_MNEMONIC_PUSHFQ:
		p->op->aux = (u8)n;
		p->op->flags |= OPF_SS;
		p->op->fn = op_pushf;
		break;
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_POPFQ:
		p->op->aux = (u8)n;
		p->op->flags |= OPF_SS;
		p->op->fn = op_popf;
		p->ends = true;
		break;
	case ZYDIS_MNEMONIC_ENTER:
		p->op->aux = (u8)n;
		p->op->imm = (u16)p->o[0].imm.value.u | (s64)(u8)p->o[1].imm.value.u << 16;
		p->op->flags |= OPF_SS;
		p->op->fn = op_enter;
		break;
	case ZYDIS_MNEMONIC_LEAVE:
		p->op->aux = (u8)n;
		p->op->flags |= OPF_SS;
		p->op->fn = op_leave;
		break;
	default:
		if (p->in->meta.category == ZYDIS_CATEGORY_COND_BR) {
			pick_jcc(p);
		} else if (p->in->meta.category == ZYDIS_CATEGORY_SETCC) {
			set_rm(p, &p->o[0]);
			p->op->fn = ops_setcc[p->in->opcode & 15][is_mem(&p->o[0])];
		} else if (p->in->meta.category == ZYDIS_CATEGORY_CMOV) {
			pick_reg_rm(p, ops_cmov[p->in->opcode & 15], p->o[0].size);
		} else {
			return false;
		}
	}
	return true;
}

static bool pick_misc(struct pick *p)
{
	switch (p->in->mnemonic) {
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_ENDBR32:
	case ZYDIS_MNEMONIC_ENDBR64:
	case ZYDIS_MNEMONIC_PREFETCH:
	case ZYDIS_MNEMONIC_PREFETCHNTA:
	case ZYDIS_MNEMONIC_PREFETCHT0:
	case ZYDIS_MNEMONIC_PREFETCHT1:
	case ZYDIS_MNEMONIC_PREFETCHT2:
	case ZYDIS_MNEMONIC_PREFETCHW:
	case ZYDIS_MNEMONIC_PREFETCHWT1: /* hints are NOPs where they mean nothing */
		misc(p, M_NOP);
		break;
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_MFENCE:
	case ZYDIS_MNEMONIC_SFENCE:
		misc(p, M_FENCE);
		break;
	case ZYDIS_MNEMONIC_LAHF:
		misc(p, M_LAHF);
		break;
	case ZYDIS_MNEMONIC_SAHF:
		misc(p, M_SAHF);
		break;
	case ZYDIS_MNEMONIC_CLC:
		misc(p, M_CLC);
		break;
	case ZYDIS_MNEMONIC_STC:
		misc(p, M_STC);
		break;
	case ZYDIS_MNEMONIC_CMC:
		misc(p, M_CMC);
		break;
	case ZYDIS_MNEMONIC_CLD:
		misc(p, M_CLD);
		break;
	case ZYDIS_MNEMONIC_STD:
		misc(p, M_STD);
		break;
	case ZYDIS_MNEMONIC_XLAT:
		pick_string(p, op_misc, 0);
		misc(p, M_XLAT);
		p->ends = false;
		break;
	case ZYDIS_MNEMONIC_AAA:
		misc(p, M_AAA);
		break;
	case ZYDIS_MNEMONIC_AAS:
		misc(p, M_AAS);
		break;
	case ZYDIS_MNEMONIC_DAA:
		misc(p, M_DAA);
		break;
	case ZYDIS_MNEMONIC_DAS:
		misc(p, M_DAS);
		break;
	case ZYDIS_MNEMONIC_AAM:
		p->op->imm = (u8)p->o[0].imm.value.u;
		misc(p, M_AAM);
		break;
	case ZYDIS_MNEMONIC_AAD:
		p->op->imm = (u8)p->o[0].imm.value.u;
		misc(p, M_AAD);
		break;
	case ZYDIS_MNEMONIC_SALC:
		misc(p, M_SALC);
		break;
	case ZYDIS_MNEMONIC_BOUND:
		p->op->src = reg_off(p->o[0].reg.value);
		set_mem(p, &p->o[1]);
		p->op->aux = (u8)(p->o[0].size / 8);
		p->op->fn = op_bound;
		break;
	case ZYDIS_MNEMONIC_LDS:
		pick_lxs(p, X86_DS);
		break;
	case ZYDIS_MNEMONIC_LES:
		pick_lxs(p, X86_ES);
		break;
	case ZYDIS_MNEMONIC_LFS:
		pick_lxs(p, X86_FS);
		break;
	case ZYDIS_MNEMONIC_LGS:
		pick_lxs(p, X86_GS);
		break;
	case ZYDIS_MNEMONIC_LSS:
		pick_lxs(p, X86_SS);
		break;
	case ZYDIS_MNEMONIC_CLFLUSH:
		set_mem(p, &p->o[0]);
		p->op->fn = op_clflush;
		break;
	case ZYDIS_MNEMONIC_STAC:
		p->op->fn = op_stac;
		break;
	case ZYDIS_MNEMONIC_CLAC:
		p->op->fn = op_clac;
		break;
	default:
		return false;
	}
	return true;
}

/* System instructions that take no operand beyond fixed registers. */
static const struct {
	ZydisMnemonic m;
	enum sys y;
} plain_sys[] = {
	{ ZYDIS_MNEMONIC_INT3, Y_INT3 },	 { ZYDIS_MNEMONIC_INT1, Y_INT1 },
	{ ZYDIS_MNEMONIC_INTO, Y_INTO },	 { ZYDIS_MNEMONIC_HLT, Y_HLT },
	{ ZYDIS_MNEMONIC_CLI, Y_CLI },		 { ZYDIS_MNEMONIC_STI, Y_STI },
	{ ZYDIS_MNEMONIC_CLTS, Y_CLTS },	 { ZYDIS_MNEMONIC_CPUID, Y_CPUID },
	{ ZYDIS_MNEMONIC_RDTSC, Y_RDTSC },	 { ZYDIS_MNEMONIC_RDTSCP, Y_RDTSCP },
	{ ZYDIS_MNEMONIC_RDPMC, Y_RDPMC },	 { ZYDIS_MNEMONIC_RDMSR, Y_RDMSR },
	{ ZYDIS_MNEMONIC_WRMSR, Y_WRMSR },	 { ZYDIS_MNEMONIC_SYSCALL, Y_SYSCALL },
	{ ZYDIS_MNEMONIC_SYSENTER, Y_SYSENTER }, { ZYDIS_MNEMONIC_SWAPGS, Y_SWAPGS },
	{ ZYDIS_MNEMONIC_XGETBV, Y_XGETBV },	 { ZYDIS_MNEMONIC_XSETBV, Y_XSETBV },
	{ ZYDIS_MNEMONIC_INVD, Y_INVD },	 { ZYDIS_MNEMONIC_WBINVD, Y_WBINVD },
	{ ZYDIS_MNEMONIC_PAUSE, Y_PAUSE },
};

/* With an r/m operand (number `which`), or memory only with a fixed size in imm. */
static const struct {
	ZydisMnemonic m;
	enum sys y;
	s8 which; /* -1: memory operand 0, imm as given */
	u8 imm;
} rm_sys[] = {
	{ ZYDIS_MNEMONIC_RDRAND, Y_RDRAND, 0, 0 },
	{ ZYDIS_MNEMONIC_RDSEED, Y_RDSEED, 0, 0 },
	{ ZYDIS_MNEMONIC_RDFSBASE, Y_RDFSBASE, 0, 0 },
	{ ZYDIS_MNEMONIC_RDGSBASE, Y_RDGSBASE, 0, 0 },
	{ ZYDIS_MNEMONIC_WRFSBASE, Y_WRFSBASE, 0, 0 },
	{ ZYDIS_MNEMONIC_WRGSBASE, Y_WRGSBASE, 0, 0 },
	{ ZYDIS_MNEMONIC_LLDT, Y_LLDT, 0, 0 },
	{ ZYDIS_MNEMONIC_LTR, Y_LTR, 0, 0 },
	{ ZYDIS_MNEMONIC_SLDT, Y_SLDT, 0, 0 },
	{ ZYDIS_MNEMONIC_STR, Y_STR, 0, 0 },
	{ ZYDIS_MNEMONIC_SMSW, Y_SMSW, 0, 0 },
	{ ZYDIS_MNEMONIC_LMSW, Y_LMSW, 0, 0 },
	{ ZYDIS_MNEMONIC_VERR, Y_VERR, 0, 0 },
	{ ZYDIS_MNEMONIC_VERW, Y_VERW, 0, 0 },
	{ ZYDIS_MNEMONIC_LGDT, Y_LGDT, -1, 0 },
	{ ZYDIS_MNEMONIC_LIDT, Y_LIDT, -1, 0 },
	{ ZYDIS_MNEMONIC_SGDT, Y_SGDT, -1, 0 },
	{ ZYDIS_MNEMONIC_SIDT, Y_SIDT, -1, 0 },
	{ ZYDIS_MNEMONIC_INVLPG, Y_INVLPG, -1, 0 },
	{ ZYDIS_MNEMONIC_FXSAVE, Y_FXSAVE, -1, 4 },
	{ ZYDIS_MNEMONIC_FXSAVE64, Y_FXSAVE, -1, 8 },
	{ ZYDIS_MNEMONIC_FXRSTOR, Y_FXRSTOR, -1, 4 },
	{ ZYDIS_MNEMONIC_FXRSTOR64, Y_FXRSTOR, -1, 8 },
	{ ZYDIS_MNEMONIC_XSAVE, Y_XSAVE, -1, 4 },
	{ ZYDIS_MNEMONIC_XSAVE64, Y_XSAVE, -1, 8 },
	{ ZYDIS_MNEMONIC_XSAVEOPT, Y_XSAVEOPT, -1, 4 },
	{ ZYDIS_MNEMONIC_XSAVEOPT64, Y_XSAVEOPT, -1, 8 },
	{ ZYDIS_MNEMONIC_XRSTOR, Y_XRSTOR, -1, 4 },
	{ ZYDIS_MNEMONIC_XRSTOR64, Y_XRSTOR, -1, 8 },
};

static bool pick_system(struct pick *p)
{
	ZydisMnemonic m = p->in->mnemonic;

	for (size_t i = 0; i < ARRAY_LEN(plain_sys); i++) {
		if (plain_sys[i].m == m) {
			sys(p, plain_sys[i].y);
			return true;
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(rm_sys); i++) {
		if (rm_sys[i].m != m)
			continue;
		if (rm_sys[i].which < 0)
			sys_mem(p, rm_sys[i].y, rm_sys[i].imm);
		else
			sys_rm(p, rm_sys[i].y, (unsigned)rm_sys[i].which);
		if ((m == ZYDIS_MNEMONIC_LGDT || m == ZYDIS_MNEMONIC_LIDT) &&
		    p->in->operand_width == 16)
			p->op->flags |= OPF_O16;
		return true;
	}
	switch (m) {
	case ZYDIS_MNEMONIC_INT:
		p->op->imm = (u8)p->o[0].imm.value.u;
		sys(p, Y_INT);
		break;
	case ZYDIS_MNEMONIC_IRET:
		p->op->imm = 2;
		sys(p, Y_IRET);
		break;
	case ZYDIS_MNEMONIC_IRETD:
		p->op->imm = 4;
		sys(p, Y_IRET);
		break;
	case ZYDIS_MNEMONIC_IRETQ:
		p->op->imm = 8;
		sys(p, Y_IRET);
		break;
	case ZYDIS_MNEMONIC_SYSRET:
		p->op->imm = p->in->attributes & ZYDIS_ATTRIB_HAS_REX && p->in->raw.rex.W ? 8 : 4;
		sys(p, Y_SYSRET);
		break;
	case ZYDIS_MNEMONIC_SYSEXIT:
		p->op->imm = p->in->attributes & ZYDIS_ATTRIB_HAS_REX && p->in->raw.rex.W ? 8 : 4;
		sys(p, Y_SYSEXIT);
		break;
	case ZYDIS_MNEMONIC_IN:
		pick_io(p, true);
		break;
	case ZYDIS_MNEMONIC_OUT:
		pick_io(p, false);
		break;
	case ZYDIS_MNEMONIC_INVPCID:
		p->op->src = reg_off(p->o[0].reg.value);
		set_mem(p, &p->o[1]);
		sys(p, Y_INVPCID);
		break;
	case ZYDIS_MNEMONIC_LAR:
	case ZYDIS_MNEMONIC_LSL:
		p->op->src = reg_off(p->o[0].reg.value);
		set_rm(p, &p->o[1]);
		p->op->imm = p->o[0].size / 8;
		sys(p, m == ZYDIS_MNEMONIC_LAR ? Y_LAR : Y_LSL);
		break;
	case ZYDIS_MNEMONIC_ARPL:
		set_rm(p, &p->o[0]);
		p->op->src = reg_off(p->o[1].reg.value);
		sys(p, Y_ARPL);
		break;
	default:
		return false;
	}
	return true;
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
};

/* What the guest is told that it lacks it does not get, on any host. */
static void find_denied(struct compiler *k, struct x86_cpu *c)
{
	k->denied_known = true;
	if (!c->cpuid_n)
		return;
	for (size_t i = 0; i < ARRAY_LEN(optional_sets); i++) {
		u32 r[4];

		x86_cpuid(c, optional_sets[i].leaf, 0, r);
		k->denied[optional_sets[i].set] =
			!(r[optional_sets[i].reg] & 1u << optional_sets[i].bit);
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
	struct pick p = { .v = v, .in = &in, .o = o, .bytes = bytes, .op = op };
	ZyanStatus st =
		ZydisDecoderDecodeFull(&k->dec[v->code_mode], bytes, MIN(avail, 15u), &in, o);

	op->seg = X86_SEGS;
	op->base = op->index = X86_ZERO;
	if (st == ZYDIS_STATUS_NO_MORE_DATA && avail < 15)
		return 0;
	if (!ZYAN_SUCCESS(st)) {
		op->len = 1;
		sys(&p, st == ZYDIS_STATUS_INSTRUCTION_TOO_LONG || st == ZYDIS_STATUS_NO_MORE_DATA
				? Y_TOOLONG
				: Y_UD);
		*ret_ends = true;
		return 1;
	}
	op->len = in.length;
	for (unsigned i = 0; i < in.raw.prefix_count; i++)
		if (in.raw.prefixes[i].value == 0xf2 || in.raw.prefixes[i].value == 0xf3)
			p.rep = in.raw.prefixes[i].value;
	if (unlikely(!k->denied_known))
		find_denied(k, &v->c);
	if (denied(v, &in))
		sys(&p, Y_UD);
	else if (!pick_integer(&p) && !pick_strings(&p) && !pick_flow(&p) && !pick_misc(&p) &&
		 !pick_system(&p))
		pick_vec(&p);
	/* A handler that a table does not have for this size is not an instruction. */
	if (!op->fn)
		sys(&p, Y_UD);
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
