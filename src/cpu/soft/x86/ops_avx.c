/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_avx.c - VEX-encoded vector instructions: through thunks, and the few that are plain C
 *
 * How it works
 * Most run as the same host instruction (vec.h); here the checks come before and the memory operand
 * is fetched. The plain ones are those whose accesses go element by element (SDM vol. 2, VMASKMOV,
 * VGATHER), since a masked-out element must neither fault nor reach a device:
 *
 * - A masked store is all or nothing: every page it writes to is checked before the first write.
 * - A gather is done in order, and each finished element clears its mask, so that a fault, or a
 *   device that wants the instruction to run alone, leaves a state from which it goes on.
 *
 * Handlers that need an array on the host's stack leave it to a function of their own: with one in
 * its frame a handler cannot go on to the next by a jump.
 */
#include "cpu/soft/x86/ops.h"
#include "cpu/soft/x86/vec.h"

#include <string.h>

#define XCR0_YMM (XCR0_SSE | XCR0_AVX)

/* --- availability ----------------------------------------------------------------------------- */

attr_cold attr_noinline static void unavailable(struct vcpu *v, const struct op *op)
{
	const struct x86_cpu *c = &v->c;

	if (!(c->cr4 & CR4_OSXSAVE) || (c->xcr0 & XCR0_YMM) != XCR0_YMM || !(c->cr0 & CR0_PE) ||
	    (c->rflags & X86_VM))
		raise_ud(v, op);
	x86_fault(&v->c, X86_NM);
	vcpu_raise(v, op);
}

/* SDM vol. 2, 2.7: unlike for SSE, CR0.EM and CR4.OSFXSR do not count. */
static attr_inline void need_avx(struct vcpu *v, const struct op *op)
{
	const struct x86_cpu *c = &v->c;

	if (unlikely(!(c->cr4 & CR4_OSXSAVE) || (c->xcr0 & XCR0_YMM) != XCR0_YMM ||
		     (c->cr0 & (CR0_PE | CR0_TS)) != CR0_PE || (c->rflags & X86_VM)))
		unavailable(v, op);
}

/* --- through thunks --------------------------------------------------------------------------- */

const struct op *op_avx_reg(struct vcpu *v, const struct op *op)
{
	const struct vec_insn *i = op->ptr;

	need_avx(v, op);
	if (unlikely(i->fn(&v->c, v->bounce)))
		vcpu_raise(v, op);
	NEXT;
}

const struct op *op_avx_load(struct vcpu *v, const struct op *op)
{
	need_avx(v, op);
	vec_load(v, op);
	NEXT;
}

const struct op *op_avx_store(struct vcpu *v, const struct op *op)
{
	need_avx(v, op);
	vec_store(v, op);
	NEXT;
}

/* --- VZEROUPPER, VZEROALL --------------------------------------------------------------------- */

/* Registers that the mode cannot name keep their value. */
static size_t named_bytes(const struct vcpu *v)
{
	return v->code_mode == CODE_64 ? sizeof(v->c.x.ymmh) : sizeof(v->c.x.ymmh) / 2;
}

const struct op *op_vzeroupper(struct vcpu *v, const struct op *op)
{
	need_avx(v, op);
	memset(v->c.x.ymmh, 0, named_bytes(v));
	NEXT;
}

const struct op *op_vzeroall(struct vcpu *v, const struct op *op)
{
	need_avx(v, op);
	memset(v->c.x.ymmh, 0, named_bytes(v));
	memset(v->c.x.xmm, 0, named_bytes(v));
	NEXT;
}

/* --- registers as arrays ---------------------------------------------------------------------- */

union ymm {
	u8 b[32];
	u32 d[8];
	u64 q[4];
};

static union ymm get_ymm(const struct vcpu *v, unsigned n)
{
	union ymm y;

	memcpy(y.b, v->c.x.xmm[n], 16);
	memcpy(y.b + 16, v->c.x.ymmh[n], 16);
	return y;
}

static void set_ymm(struct vcpu *v, unsigned n, const union ymm *y)
{
	memcpy(v->c.x.xmm[n], y->b, 16);
	memcpy(v->c.x.ymmh[n], y->b + 16, 16);
}

static bool sign_of(const union ymm *y, unsigned i, unsigned n)
{
	return n == 8 ? y->q[i] >> 63 : y->d[i] >> 31;
}

/* --- elements in memory ------------------------------------------------------------------------ */

/* No #AC for masked moves, gathers and halves. */
static bool by_bytes(const struct vcpu *v, u64 a, unsigned n)
{
	return v->c.cpl == 3 && (v->c.rflags & X86_AC) && (a & (n - 1));
}

static u64 load_element(struct vcpu *v, const struct op *op, u64 a, unsigned n)
{
	u64 x = 0;

	if (!by_bytes(v, a, n))
		return n == 8 ? ld_u64(v, op, a) : ld_u32(v, op, a);
	for (unsigned i = 0; i < n; i++)
		x |= (u64)ld_u8(v, op, lin_add(v, a, i)) << 8 * i;
	return x;
}

/* Raises what a write to the page of @a would, without writing. */
static void probe_write(struct vcpu *v, const struct op *op, u64 a)
{
	struct x86_walk w;

	if (!x86_walk(&v->c, a, X86_WRITE, v->c.cpl == 3, false, &w))
		return;
	if (v->c.exc.vector == X86_GP && (op->flags & OPF_SS))
		v->c.exc.vector = X86_SS_EXC;
	vcpu_raise(v, op);
}

static void store_element(struct vcpu *v, const struct op *op, u64 a, unsigned n, u64 x)
{
	if (by_bytes(v, a, n)) {
		probe_write(v, op, a);
		probe_write(v, op, lin_add(v, a, n - 1));
		for (unsigned i = 0; i < n; i++)
			st_u8(v, op, lin_add(v, a, i), (u8)(x >> 8 * i));
	} else if (n == 8) {
		st_u64(v, op, a, x);
	} else {
		st_u32(v, op, a, (u32)x);
	}
}

/* --- half-precision in memory --------------------------------------------------------------- */

/*
 * VCVTPS2PH rounds before it stores: MXCSR's flags, and #XM, come first even where the store then
 * faults.
 */
const struct op *op_avx_round_store(struct vcpu *v, const struct op *op)
{
	const struct vec_insn *i = op->ptr;
	u8 *half = v->bounce + 64; /* mem_ref uses what comes before */
	void *p;
	u64 a;

	need_avx(v, op);
	if (unlikely(i->fn(&v->c, half)))
		vcpu_raise(v, op);
	a = ea(v, op, i->mem_size, true);
	if (i->mem_size == 8) {
		store_element(v, op, a, 8, *(const u64 *)(const void *)half);
		NEXT;
	}
	p = rmw(v, op, a, i->mem_size);
	memcpy(p, half, i->mem_size);
	mem_commit(v, op, p);
	NEXT;
}

/* VCVTPH2PS of 8 bytes. */
const struct op *op_avx_load8(struct vcpu *v, const struct op *op)
{
	const struct vec_insn *i = op->ptr;

	need_avx(v, op);
	*(u64 *)(void *)v->bounce = load_element(v, op, ea(v, op, 8, false), 8);
	if (unlikely(i->fn(&v->c, v->bounce)))
		vcpu_raise(v, op);
	NEXT;
}

/* --- VMASKMOVPS, VMASKMOVPD, VPMASKMOVD, VPMASKMOVQ ------------------------------------------- */

/*
 * The address of @byte of the operand, of which the @n bytes there are accessed. The operand's own
 * address is cut to the address size, not that of each element.
 */
static u64 element(struct vcpu *v, const struct op *op, unsigned byte, unsigned n, bool write)
{
	u64 off;

	if (!(op->flags & OPF_EASLOW))
		return lin_add(v, ea_flat(v, op), byte);
	off = v->c.r[op->base] + (v->c.r[op->index] << op->scale) + (u64)(s64)op->disp;
	off = op->flags & OPF_A32 ? (u32)off : op->flags & OPF_A16 ? (u16)off : off;
	return seg_linear(v, op, op->seg, off + byte, n, write);
}

attr_noinline static void mask_load(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux & VX_SIZE, len = op->aux & VX_256 ? 32 : 16;
	union ymm mask, y = { .q = { 0 } };
	const u8 *p = NULL;

	mask = get_ymm(v, op->src);
	if (!(op->flags & OPF_EASLOW))
		p = tlb_rd(v, ea_flat(v, op), len);
	for (unsigned i = 0; i < len / n; i++) {
		u64 x = 0;

		if (!sign_of(&mask, i, n))
			continue;
		if (likely(p != NULL))
			memcpy(&x, p + i * n, n);
		else
			x = load_element(v, op, element(v, op, i * n, n, false), n);
		memcpy(y.b + i * n, &x, n);
	}
	set_ymm(v, op->dst, &y);
}

const struct op *op_maskload(struct vcpu *v, const struct op *op)
{
	need_avx(v, op);
	mask_load(v, op);
	NEXT;
}

static void mask_store_slow(struct vcpu *v, const struct op *op, const union ymm *mask,
			    const union ymm *y, unsigned n, unsigned count)
{
	unsigned first = count, last = 0;
	u64 at[8], end;

	for (unsigned i = 0; i < count; i++) {
		if (!sign_of(mask, i, n))
			continue;
		at[i] = element(v, op, i * n, n, true);
		first = MIN(first, i);
		last = i;
	}
	if (first == count)
		return;
	/* Of what is written processors touch the first byte, then the last: CR2 tells. */
	end = lin_add(v, at[last], n - 1);
	probe_write(v, op, at[first]);
	if (at[first] >> 12 != end >> 12)
		probe_write(v, op, end);
	for (unsigned i = 0; i < count; i++) {
		u64 x = 0;

		if (!sign_of(mask, i, n))
			continue;
		memcpy(&x, y->b + i * n, n);
		store_element(v, op, at[i], n, x);
	}
}

attr_noinline static void mask_store(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux & VX_SIZE, len = op->aux & VX_256 ? 32 : 16;
	union ymm mask, y;
	u8 *p = NULL;

	mask = get_ymm(v, op->src);
	y = get_ymm(v, op->dst);
	if (!(op->flags & OPF_EASLOW))
		p = tlb_wr(v, ea_flat(v, op), len);
	if (unlikely(!p)) {
		mask_store_slow(v, op, &mask, &y, n, len / n);
		return;
	}
	for (unsigned i = 0; i < len / n; i++)
		if (sign_of(&mask, i, n))
			memcpy(p + i * n, y.b + i * n, n);
}

const struct op *op_maskstore(struct vcpu *v, const struct op *op)
{
	need_avx(v, op);
	mask_store(v, op);
	NEXT;
}

/* --- VGATHER, VPGATHER ------------------------------------------------------------------------ */

/* Where element @i is; aux says whether indices have 8 bytes, imm which register they are in. */
static u64 gather_at(struct vcpu *v, const struct op *op, const union ymm *index, unsigned i,
		     unsigned n)
{
	s64 x = op->aux & VX_INDEX8 ? (s64)index->q[i] : (s32)index->d[i];
	u64 off = v->c.r[op->base] + ((u64)x << op->scale) + (u64)(s64)op->disp;

	if (op->flags & OPF_A32)
		off = (u32)off;
	return seg_linear(v, op, op->seg, off, n, false);
}

/*
 * All ones or zero by each element's sign, zero behind the vector's length: that is done first,
 * fault or not. Elements that no index belongs to are spread as well, as processors do it.
 */
static void spread_mask(union ymm *mask, unsigned n, unsigned len)
{
	for (unsigned i = 0; i < len / n; i++)
		memset(mask->b + i * n, sign_of(mask, i, n) ? 0xff : 0, n);
	memset(mask->b + len, 0, sizeof(*mask) - len);
}

/*
 * A trap that finished elements have earned (single step, data breakpoint) comes before the fault of
 * the next one, at the gather itself, which then goes on (SDM vol. 2, VGATHERDPS).
 */
attr_cold attr_noinline static void trap_before_fault(struct vcpu *v, const struct op *op, u64 a,
						      unsigned n)
{
	u64 dr6 = v->data_break | (v->c.rflags & X86_TF ? 1u << 14 : 0);
	bool user = v->c.cpl == 3;
	struct x86_walk w;

	if (!dr6 || (!x86_walk(&v->c, a, X86_READ, user, false, &w) &&
		     !x86_walk(&v->c, lin_add(v, a, n - 1), X86_READ, user, false, &w)))
		return;
	v->c.rflags |= X86_RF;
	v->c.exc = (struct x86_exc){ .vector = X86_DB, .dr6 = dr6 };
	vcpu_raise(v, op);
}

attr_noinline static void gather(struct vcpu *v, const struct op *op)
{
	unsigned n = op->aux & VX_SIZE, len = op->aux & VX_256 ? 32 : 16;
	unsigned count = len / (op->aux & VX_INDEX8 ? 8 : n);
	union ymm mask, y, index;
	bool some = false;

	mask = get_ymm(v, op->src);
	y = get_ymm(v, op->dst);
	index = get_ymm(v, (unsigned)op->imm);
	spread_mask(&mask, n, len);
	memset(y.b + len, 0, sizeof(y) - len); /* with the first element that is written */
	set_ymm(v, op->src, &mask);
	for (unsigned i = 0; i < count; i++) {
		u64 x, a;

		if (!sign_of(&mask, i, n))
			continue;
		a = gather_at(v, op, &index, i, n);
		if (unlikely(v->stepping) && some)
			trap_before_fault(v, op, a, n);
		x = load_element(v, op, a, n);
		some = true;
		/* At once in the state: the next element may not come back here. */
		memcpy(y.b + i * n, &x, n);
		memset(mask.b + i * n, 0, n);
		set_ymm(v, op->dst, &y);
		set_ymm(v, op->src, &mask);
	}
	memset(y.b + count * n, 0, sizeof(y) - count * n);
	memset(mask.b, 0, sizeof(mask));
	set_ymm(v, op->dst, &y);
	set_ymm(v, op->src, &mask);
}

const struct op *op_gather(struct vcpu *v, const struct op *op)
{
	need_avx(v, op);
	gather(v, op);
	NEXT;
}
