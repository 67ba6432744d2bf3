/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_flags.c - the translator: who needs the guest's flags, and where they are kept
 *
 * How it works
 *
 * Most flags that guest code sets are never read: the next comparison overwrites them. But between
 * the two there may be a memory access, which can fault, and the fault shows them to the guest. So
 * analyse() finds for each place whether flags are dead, needed only by ways out, or read.
 *
 * A memory access destroys the host's flags (its TLB compare). Those that only ways out need are
 * not saved if they can be had again: after CMP, or ADD of another register, the operands are still
 * there. That recipe is followed on the way out, or when an instruction reads the flags after all.
 * Else PUSHF saves them to a fixed place just below the vcpu; LEA puts RSP back.
 */
#include "cpu/soft/x86/jit_priv.h"

/* --- what instructions need -------------------------------------------------------------- */

static u16 writes_of(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o)
{
	u16 regs = 0;
	bool high;

	for (unsigned i = 0; i < in->operand_count; i++) {
		if (o[i].type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    !(o[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		int g = gpr_of(o[i].reg.value, &high);
		if (g >= 0)
			regs |= (u16)(1u << g);
	}
	return regs;
}

static bool touches_memory(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o)
{
	for (unsigned i = 0; i < in->operand_count; i++)
		if (o[i].type == ZYDIS_OPERAND_TYPE_MEMORY && o[i].mem.type == ZYDIS_MEMOP_TYPE_MEM)
			return true;
	return false;
}

static void analyse_insn(struct insn *x)
{
	if (x->refused) {
		x->fx = FX_NONE;
		x->exits = true;
		x->writes = 0xffff;
		return;
	}
	x->fx = fx_of(&x->in, x->o);
	x->exits |= touches_memory(&x->in, x->o);
	x->writes = writes_of(&x->in, x->o);
}

static enum live max_live(enum live a, enum live b)
{
	return a > b ? a : b;
}

/* Who needs the flags before instruction @k of @m, given who needs them after it. */
static enum live before(const struct member *m, unsigned k)
{
	const struct insn *x = &m->insn[k];
	enum live l = x->after;

	switch (x->fx) {
	case FX_SET:
		l = DEAD;
		break;
	case FX_READ:
	case FX_SOME:
		l = LIVE;
		break;
	default:
		break;
	}
	return x->exits || (int)k == m->check ? max_live(l, IN_EXITS) : l;
}

/* Flags are wanted in the host's at the start of @m: the first that asks is an instruction. */
static bool wants_host(const struct member *m)
{
	for (unsigned k = 0; k < m->b->n; k++) {
		const struct insn *x = &m->insn[k];
		if (x->exits || x->fx == FX_SET || (int)k == m->check)
			return false;
		if (x->fx == FX_READ || x->fx == FX_SOME)
			return true;
		if (x->fx == FX_KEEP)
			return x->after != DEAD;
	}
	return false;
}

/* Who needs the flags behind @m. */
static enum live at_end(const struct tr *t, const struct member *m)
{
	bool any = false;

	for (unsigned s = 0; s < 2; s++) {
		if (!m->succ[s].used)
			continue;
		any = true;
		if (m->succ[s].m < 0 || t->m[m->succ[s].m].entry != IN_DEAD)
			return IN_EXITS;
	}
	return any ? DEAD : IN_EXITS;
}

/* Predecessors of @i are all before it, so that budgets can be added up. */
static bool only_forward(const struct tr *t, unsigned i)
{
	for (unsigned p = i; p < t->n; p++)
		for (unsigned s = 0; s < 2; s++)
			if (t->m[p].succ[s].used && t->m[p].succ[s].m == (int)i)
				return false;
	return true;
}

/*
 * Every way out needs the flags, and that the budget is used up is one. So a block does not begin
 * with the check: it is made in the block before, where flags are about to be overwritten. A block
 * that sets no flags leaves even the check for what follows it to those before it.
 */
static void budgets(struct tr *t)
{
	for (unsigned i = t->n; i-- > 0;) {
		struct member *m = &t->m[i];
		bool forward = only_forward(t, i);
		m->check = -1;
		for (unsigned k = m->b->n; k-- > 0 && m->check < 0;)
			if (m->insn[k].fx == FX_SET)
				m->check = (int)k;
		/* Only what stands behind it in the list is known yet. */
		if (m->check < 0 && !forward)
			m->check = 0;
		m->in = m->b->n;
	}
	for (unsigned i = t->n; i-- > 0;) {
		struct member *m = &t->m[i];
		m->take = 0;
		for (unsigned s = 0; s < 2; s++)
			if (m->succ[s].used && m->succ[s].m >= 0 && t->m[m->succ[s].m].in > m->take)
				m->take = t->m[m->succ[s].m].in;
		if (m->check < 0 && m->take + m->b->n > TAKE_MAX)
			m->check = 0;
		if (m->check < 0)
			m->in += m->take;
		if (!m->take)
			m->check = -1;
	}
}

void analyse(struct tr *t)
{
	bool again = true;

	for (unsigned i = 0; i < t->n_insn; i++)
		analyse_insn(&t->insn[i]);
	budgets(t);
	for (unsigned i = 0; i < t->n; i++)
		t->m[i].entry = IN_DEAD;
	while (again) {
		again = false;
		for (unsigned i = t->n; i-- > 0;) {
			struct member *m = &t->m[i];
			enum live l = at_end(t, m);
			for (unsigned k = m->b->n; k-- > 0;) {
				m->insn[k].after = l;
				l = before(m, k);
			}
			if (l != DEAD && m->entry == IN_DEAD) {
				m->entry = IN_MEM;
				again = true;
			}
		}
	}
	for (unsigned i = 0; i < t->n; i++)
		if (t->m[i].entry == IN_MEM && wants_host(&t->m[i]))
			t->m[i].entry = IN_HOST;
}

/* --- recipes ----------------------------------------------------------------------------- */

/* The current flags' recipe still works wherever from here on it may have to be followed. */
static bool recipe_lasts(const struct tr *t)
{
	const struct member *m = &t->m[t->cur];
	bool intact = true;

	if (t->rec.kind == REC_NONE)
		return false;
	for (unsigned k = t->k; k < t->b->n; k++) {
		const struct insn *x = &m->insn[k];
		bool asks = x->exits || (int)k == m->check || x->fx == FX_READ ||
			    x->fx == FX_SOME || (x->fx == FX_KEEP && x->after != DEAD);
		if (asks && !intact)
			return false;
		if (x->refused)
			return true; /* saved then */
		if (x->fx != FX_NONE && x->fx != FX_READ)
			return true;
		if (x->writes & t->rec.regs)
			intact = false;
	}
	return intact || at_end(t, m) == DEAD;
}

static void rec_op(struct tr *t, unsigned w, u8 opc_reg, u8 ext, const struct recipe *r)
{
	struct emit *e = &t->e;

	if (r->src < 0) {
		einsn(e, w, 0x81, ext, er(T1));
		e32(e, (u32)r->imm);
	} else if (host_of[r->src] >= 0) {
		einsn(e, w, opc_reg, T1, er((u8)host_of[r->src]));
	} else {
		einsn(e, w, opc_reg, T1, greg((unsigned)r->src));
	}
}

/* CMP or TEST of a register as it was. */
static void rec_compare(struct tr *t, const struct recipe *r)
{
	struct emit *e = &t->e;
	bool cmp = r->kind == REC_CMP;
	unsigned f = r->size == 64 ? EM_W : 0;
	struct erm m = host_of[r->dst] >= 0 ? er((u8)host_of[r->dst]) : greg(r->dst);

	if (r->size == 8 && !m.mem && m.reg >= 4)
		f |= EM_REX;
	if (r->src < 0) {
		u8 opc = cmp ? 0x80 : 0xf6;
		einsn(e, f, r->size == 8 ? opc : opc + 1, cmp ? 7 : 0, m);
		if (r->size == 8)
			e8(e, (u8)r->imm);
		else
			e32(e, (u32)r->imm);
		return;
	}
	u8 s = use(t, (unsigned)r->src, T1);
	if (r->size == 8 && s >= 4)
		f |= EM_REX;
	u8 opc = cmp ? 0x38 : 0x84;
	einsn(e, f, r->size == 8 ? opc : opc + 1, s, m);
}

/* Host flags = the guest's. Only T1 changes. */
void recipe_emit(struct tr *t, const struct recipe *r)
{
	struct emit *e = &t->e;
	unsigned w = r->size == 64 ? EM_W : 0;

	if (r->kind == REC_CMP || r->kind == REC_TEST) {
		rec_compare(t, r);
		return;
	}
	if (host_of[r->dst] >= 0)
		einsn(e, w, 0x8b, T1, er((u8)host_of[r->dst]));
	else
		einsn(e, w, 0x8b, T1, greg(r->dst));
	switch (r->kind) {
	case REC_ADD:
		rec_op(t, w, 0x2b, 5, r);
		rec_op(t, w, 0x03, 0, r);
		break;
	case REC_SUB:
		rec_op(t, w, 0x03, 0, r);
		rec_op(t, w, 0x2b, 5, r);
		break;
	default: /* REC_NEG */
		einsn(e, w, 0xf7, 3, er(T1));
		einsn(e, w, 0xf7, 3, er(T1));
		break;
	}
}

static enum recipe_kind kind_of(ZydisMnemonic m, bool same)
{
	switch (m) {
	case ZYDIS_MNEMONIC_CMP:
		return REC_CMP;
	case ZYDIS_MNEMONIC_TEST:
		return REC_TEST;
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_XOR:
		return REC_RESULT;
	case ZYDIS_MNEMONIC_ADD:
		return same ? REC_NONE : REC_ADD;
	case ZYDIS_MNEMONIC_SUB:
		return same ? REC_RESULT : REC_SUB;
	case ZYDIS_MNEMONIC_NEG:
		return REC_NEG;
	default:
		return REC_NONE;
	}
}

/* How the flags that the current instruction sets can be had again. */
void recipe_note(struct tr *t)
{
	const struct insn *x = &t->m[t->cur].insn[t->k];
	const ZydisDecodedOperand *a = &x->o[0], *b = &x->o[1];
	struct recipe r = { .src = -1 };
	bool high = false, high_b = false;

	t->rec.kind = REC_NONE;
	if (a->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return;
	int g = gpr_of(a->reg.value, &high), s = -1;
	if (g < 0 || high)
		return;
	if (x->in.operand_count_visible > 1) {
		if (b->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			s = gpr_of(b->reg.value, &high_b);
			if (s < 0 || high_b)
				return;
		} else if (b->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
			r.imm = (s32)b->imm.value.s;
		} else {
			s = -2; /* memory: only the result is still there */
		}
	}
	r.kind = kind_of(x->in.mnemonic, g == s);
	if (r.kind == REC_RESULT) { /* the same flags as TEST of the result */
		r.kind = REC_TEST;
		s = g;
	}
	if (r.kind == REC_NONE || s == -2)
		return;
	if (a->size == 16 || (a->size == 8 && r.kind != REC_CMP && r.kind != REC_TEST))
		return;
	r.dst = (u8)g;
	r.src = (s8)s;
	r.size = (u8)a->size;
	r.regs = (u16)(1u << g | (s >= 0 ? 1u << s : 0));
	t->rec = r;
	t->rec_new = true;
}

/* The current instruction is done: it may have changed what a recipe needs. */
void recipe_check(struct tr *t)
{
	if (!t->rec_new && t->fl != FL_RECIPE && (t->m[t->cur].insn[t->k].writes & t->rec.regs))
		t->rec.kind = REC_NONE;
	t->rec_new = false;
}

/* --- moving flags ------------------------------------------------------------------------ */

static void to_memory(struct tr *t)
{
	e8(&t->e, 0x9c); /* pushfq */
	elea(&t->e, EM_W, VC, VC, -1, 0, 8);
}

void flags_save(struct tr *t)
{
	if (t->fl == FL_RECIPE)
		recipe_emit(t, &t->rec);
	else if (t->fl != FL_HOST)
		return;
	to_memory(t);
	t->fl = FL_BOTH;
}

/* The image's upper byte is 2 (IF) or 0Ah (and OF). */
void flags_load(struct tr *t)
{
	struct emit *e = &t->e;

	if (t->fl == FL_RECIPE) {
		recipe_emit(t, &t->rec);
		t->fl = FL_HOST;
	}
	if (t->fl != FL_MEM)
		return;
	emov(e, T1, 0);
	einsn(e, 0, 0x8a, 4, FLAGS_SLOT); /* mov ah, [] */
	einsn(e, 0, 0x8a, 0, em(VC, -7)); /* mov al, [] */
	ebytes(e, "\x04\x76\x9e", 3);	  /* add al, 76h; sahf */
	emov(e, 0, T1);
	t->fl = FL_BOTH;
}

void flags_drop(struct tr *t)
{
	if (t->fl == FL_HOST && recipe_lasts(t))
		t->fl = FL_RECIPE;
	if (t->fl == FL_HOST)
		flags_save(t);
	if (t->fl == FL_BOTH)
		t->fl = FL_MEM;
}

void exit_flags(struct tr *t, s16 rec)
{
	if (rec < 0)
		return;
	recipe_emit(t, &t->recs[rec]);
	to_memory(t);
}

/* What the instruction about to be emitted asks of flags. */
void flags_before(struct tr *t)
{
	const struct insn *x = &t->m[t->cur].insn[t->k];

	if (x->fx == FX_READ || x->fx == FX_SOME || (x->fx == FX_KEEP && x->after != DEAD))
		flags_load(t);
}

void flags_after(struct tr *t)
{
	const struct insn *x = &t->m[t->cur].insn[t->k];

	if (x->fx == FX_NONE || x->fx == FX_READ)
		return;
	t->fl = FL_HOST;
	t->rec.kind = REC_NONE;
	if (x->fx == FX_SET)
		recipe_note(t);
}
