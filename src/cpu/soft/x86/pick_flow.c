/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pick_flow.c - pickers of jumps, the stack, and strings
 */
#include "cpu/soft/x86/pick.h"

#include "cpu/soft/x86/ops.h"

static void pick_branch_target(struct pick *p)
{
	p->op->imm = (s64)p->op->ip + p->op->len + p->o[0].imm.value.s;
	if (p->in->operand_width == 16)
		p->op->flags |= OPF_O16;
	p->ends = true;
}

void pick_jcc(struct pick *p)
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
		pick_sys(p, call ? Y_FAR_CALL_M : Y_FAR_JMP_M);
	} else {
		p->op->disp = p->o[0].ptr.segment;
		p->op->imm = (s64)p->o[0].ptr.offset;
		p->op->dst = (u8)n;
		pick_sys(p, call ? Y_FAR_CALL_IMM : Y_FAR_JMP_IMM);
	}
}

void pick_jmp_call(struct pick *p, unsigned call)
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

void pick_ret(struct pick *p, unsigned arg)
{
	unsigned n = p->in->operand_width / 8;

	p->op->imm = p->in->operand_count_visible ? (u16)p->o[0].imm.value.u : 0;
	p->op->flags |= OPF_SS;
	p->ends = true;
	if (p->in->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
		p->op->dst = (u8)n;
		pick_sys(p, Y_FAR_RET);
		return;
	}
	if (n == 2)
		p->op->flags |= OPF_O16;
	p->op->aux = (u8)n;
	p->op->fn = legacy(p) || n == 2 ? op_ret_legacy : op_ret;
}

void pick_loop(struct pick *p, unsigned kind)
{
	p->op->flags |= address_size(p);
	pick_branch_target(p);
	p->op->aux = (u8)kind;
	p->op->fn = op_loop;
}

void pick_push(struct pick *p, unsigned arg)
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

void pick_pop(struct pick *p, unsigned arg)
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

/* Those whose only operand is the stack. */
void pick_stack(struct pick *p, unsigned what)
{
	static const op_fn fns[] = {
		[K_PUSHA] = op_pusha, [K_POPA] = op_popa,   [K_PUSHF] = op_pushf,
		[K_POPF] = op_popf,   [K_ENTER] = op_enter, [K_LEAVE] = op_leave,
	};

	p->op->aux = (u8)(p->in->operand_width / 8);
	p->op->flags |= OPF_SS;
	p->op->fn = fns[what];
	if (what == K_ENTER)
		p->op->imm = (u16)p->o[0].imm.value.u | (s64)(u8)p->o[1].imm.value.u << 16;
	p->ends = what == K_POPF;
}

static void pick_string(struct pick *p, op_fn fn, unsigned n)
{
	u8 seg = X86_DS;
	u64 a = p->in->attributes;

	p->op->flags |= address_size(p);
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

void pick_xlat(struct pick *p, unsigned arg)
{
	pick_string(p, op_misc, 0);
	pick_misc(p, M_XLAT);
	p->ends = false;
}

static bool is_string(const struct pick *p)
{
	ZydisInstructionCategory c = p->in->meta.category;

	return c == ZYDIS_CATEGORY_STRINGOP || c == ZYDIS_CATEGORY_IOSTRINGOP;
}

bool pick_strings(struct pick *p)
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
