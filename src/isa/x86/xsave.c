/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xsave.c - FXSAVE, FXRSTOR, XSAVE, XSAVEOPT, XSAVEC, XRSTOR (SDM vol. 1, chapters 10.5 and 13)
 *
 * How it works
 * struct x86_xstate is laid out as the memory image, so saving is copying ranges of it and
 * restoring is copying the other way. A save composes nothing ahead: it lists the byte ranges to
 * write, probes that all of them are writable, then writes, so a page fault leaves memory as it
 * was. A restore reads into a temporary image, checks it, and commits at the end.
 *
 * Fixed choices where the manual leaves freedom, so that a run does not depend on the host:
 * FIP, FDP and FOP are zero; MXCSR_MASK is FFFFH; a component is "in use" exactly when it differs
 * from its initial configuration; XSAVEOPT leaves out components that are in their initial
 * configuration, but never because they are unmodified.
 */
#include "isa/x86/sys_priv.h"

#include <string.h>

#define XCOMP_COMPACT BIT(63)
#define XFEATURE_X87 1ull
#define XFEATURE_SSE 2ull
#define XFEATURE_AVX 4ull

#define OFF_MXCSR 24u
#define OFF_ST 32u
#define OFF_XMM 160u
#define OFF_HEADER 512u
#define OFF_AVX 576u

_Static_assert(offsetof(struct x86_xstate, mxcsr) == OFF_MXCSR, "FXSAVE layout");
_Static_assert(offsetof(struct x86_xstate, st) == OFF_ST, "FXSAVE layout");
_Static_assert(offsetof(struct x86_xstate, xmm) == OFF_XMM, "FXSAVE layout");
_Static_assert(offsetof(struct x86_xstate, xstate_bv) == OFF_HEADER, "XSAVE layout");
_Static_assert(offsetof(struct x86_xstate, ymmh) == OFF_AVX, "XSAVE layout");

/* --- memory ----------------------------------------------------------------------------------- */

/* Byte ranges of the image that an instruction writes: offset and length, multiples of 8. */
struct ranges {
	struct {
		u16 off, len;
	} r[6];
	unsigned n;
};

static void add_range(struct ranges *rs, unsigned off, unsigned len)
{
	rs->r[rs->n].off = (u16)off;
	rs->r[rs->n].len = (u16)len;
	rs->n++;
}

/* An image may wrap around 4 GiB wherever code is not of 64 bits, in compatibility mode too. */
static gva_t image_lin(const struct x86_cpu *c, u64 a)
{
	return x86_code64(c) ? a : (u32)a;
}

static int probe_ranges(struct x86_cpu *c, gva_t a, const struct ranges *rs)
{
	for (unsigned i = 0; i < rs->n; i++) {
		gva_t at = image_lin(c, a + rs->r[i].off);
		unsigned len = rs->r[i].len, over = 0;

		if (!x86_code64(c) && at + len > 1ull << 32)
			over = (unsigned)(at + len - (1ull << 32));
		if (c->ops->lin_probe_write(c, at, len - over, c->cpl == 3) ||
		    (over && c->ops->lin_probe_write(c, 0, over, c->cpl == 3)))
			return X86_FAULT;
	}
	return 0;
}

static int write_ranges(struct x86_cpu *c, gva_t a, const struct ranges *rs,
			const struct x86_xstate *img)
{
	for (unsigned i = 0; i < rs->n; i++) {
		for (unsigned o = rs->r[i].off; o < rs->r[i].off + rs->r[i].len; o += 8) {
			u64 v;

			memcpy(&v, (const u8 *)img + o, 8);
			if (c->ops->lin_write(c, image_lin(c, a + o), 8, c->cpl == 3, v))
				return X86_FAULT;
		}
	}
	return 0;
}

static int read_range(struct x86_cpu *c, gva_t a, struct x86_xstate *img, unsigned off,
		      unsigned len)
{
	for (unsigned o = off; o < off + len; o += 8) {
		u64 v;

		if (c->ops->lin_read(c, image_lin(c, a + o), 8, c->cpl == 3, &v))
			return X86_FAULT;
		memcpy((u8 *)img + o, &v, 8);
	}
	return 0;
}

/* XMM and YMM registers that the mode can name. */
static unsigned vregs(const struct x86_cpu *c)
{
	return x86_code64(c) ? 16 : 8;
}

/* --- image <-> state -------------------------------------------------------------------------- */

/* The state as it appears in memory. */
static void image_of(const struct x86_cpu *c, struct x86_xstate *img)
{
	*img = c->x;
	img->rsvd1 = 0;
	img->fop = 0;
	img->fip = img->fdp = 0;
	img->mxcsr_mask = X86_MXCSR_MASK;
	for (int i = 0; i < 8; i++)
		memset(&img->st[i][10], 0, 6);
}

/* Takes the x87 component of @img. */
static void take_x87(struct x86_cpu *c, const struct x86_xstate *img)
{
	u16 fsw = img->fsw & 0x7f7f;

	/* Reserved control bits read as fixed values; ES and B follow from flags and masks. */
	c->x.fcw = (img->fcw & 0x1f3f) | 0x40;
	if (fsw & ~c->x.fcw & 0x3f)
		fsw |= 0x8080;
	c->x.fsw = fsw;
	c->x.ftw = img->ftw;
	c->x.fop = 0;
	c->x.fip = c->x.fdp = 0;
	for (int i = 0; i < 8; i++) {
		memcpy(c->x.st[i], img->st[i], 10);
		memset(&c->x.st[i][10], 0, 6);
	}
}

static void init_x87(struct x86_cpu *c)
{
	c->x.fcw = 0x37f;
	c->x.fsw = 0;
	c->x.ftw = 0;
	c->x.fop = 0;
	c->x.fip = c->x.fdp = 0;
	memset(c->x.st, 0, sizeof(c->x.st));
}

static bool all_zero(const void *p, size_t n)
{
	const u8 *b = p;

	for (size_t i = 0; i < n; i++)
		if (b[i])
			return false;
	return true;
}

/* XINUSE (SDM vol. 1, 13.6): components that are not in their initial configuration. */
static u64 xinuse(const struct x86_cpu *c, const struct x86_xstate *img)
{
	u64 use = 0;

	if (img->fcw != 0x37f || img->fsw || img->ftw || !all_zero(img->st, sizeof(img->st)))
		use |= XFEATURE_X87;
	/* MXCSR counts as well, or XRSTOR from a compacted image would lose it (13.10). */
	if (img->mxcsr != X86_MXCSR_INIT || !all_zero(img->xmm, vregs(c) * 16))
		use |= XFEATURE_SSE;
	if (!all_zero(img->ymmh, vregs(c) * 16))
		use |= XFEATURE_AVX;
	return use;
}

/* --- FXSAVE, FXRSTOR -------------------------------------------------------------------------- */

/*
 * Processors touch the last of the 512 bytes before anything else, although nothing is in the last
 * 96: a page fault there comes first, and before the image is looked at.
 */
static int fx_check(struct x86_cpu *c, gva_t a, bool write)
{
	gva_t last = image_lin(c, a + OFF_HEADER - 1);
	bool user = c->cpl == 3;
	u64 v;
	int r;

	if (c->cr0 & (CR0_TS | CR0_EM))
		return x86_fault(c, X86_NM);
	if (a & 15)
		return x86_fault_err(c, X86_GP, 0);
	c->lin_explicit = true;
	r = write ? c->ops->lin_probe_write(c, last, 1, user)
		  : c->ops->lin_read(c, last, 1, user, &v);
	c->lin_explicit = false;
	return r;
}

int x86_fxsave(struct x86_cpu *c, gva_t a, bool rex_w)
{
	struct x86_xstate img;
	struct ranges rs = { 0 };
	int r;

	/* FIP and FDP are zero in either form, so the two images are the same. */
	(void)rex_w;
	if (fx_check(c, a, true))
		return X86_FAULT;
	image_of(c, &img);
	add_range(&rs, 0, OFF_XMM + vregs(c) * 16);
	c->lin_explicit = true;
	r = probe_ranges(c, a, &rs) || write_ranges(c, a, &rs, &img);
	c->lin_explicit = false;
	return r ? X86_FAULT : 0;
}

int x86_fxrstor(struct x86_cpu *c, gva_t a, bool rex_w)
{
	struct x86_xstate img;
	int r;

	(void)rex_w;
	if (fx_check(c, a, false))
		return X86_FAULT;
	c->lin_explicit = true;
	r = read_range(c, a, &img, 0, OFF_XMM + vregs(c) * 16);
	c->lin_explicit = false;
	if (r)
		return X86_FAULT;
	if (img.mxcsr & ~X86_MXCSR_MASK)
		return x86_fault_err(c, X86_GP, 0);
	take_x87(c, &img);
	c->x.mxcsr = img.mxcsr;
	memcpy(c->x.xmm, img.xmm, vregs(c) * 16);
	return 0;
}

/* --- XSAVE ------------------------------------------------------------------------------------ */

static int xs_check(struct x86_cpu *c, gva_t a)
{
	if (!(c->cr4 & CR4_OSXSAVE))
		return x86_fault(c, X86_UD);
	if (c->cr0 & CR0_TS)
		return x86_fault(c, X86_NM);
	if (a & 63)
		return x86_fault_err(c, X86_GP, 0);
	return 0;
}

/* The data of the components @which, of which the instruction was asked for @rfbm. */
static void component_ranges(const struct x86_cpu *c, u64 which, bool mxcsr, struct ranges *rs)
{
	if (which & XFEATURE_X87) {
		add_range(rs, 0, OFF_MXCSR);
		add_range(rs, OFF_ST, OFF_XMM - OFF_ST);
	}
	if (mxcsr)
		add_range(rs, OFF_MXCSR, 8);
	if (which & XFEATURE_SSE)
		add_range(rs, OFF_XMM, vregs(c) * 16);
	if (which & XFEATURE_AVX)
		add_range(rs, OFF_AVX, vregs(c) * 16);
}

static int do_xsave(struct x86_cpu *c, gva_t a, u64 rfbm, enum x86_xsave_kind kind)
{
	struct x86_xstate img, old;
	struct ranges rs = { 0 };
	bool mxcsr;
	u64 use;

	if (xs_check(c, a))
		return X86_FAULT;
	rfbm &= c->xcr0;
	image_of(c, &img);
	use = xinuse(c, &img) & rfbm;
	if (kind == X86_XSAVEC) {
		/* AVX is the only component behind the header: it is at 576 when compacted too. */
		img.xstate_bv = use;
		img.xcomp_bv = rfbm | XCOMP_COMPACT;
		mxcsr = (use & XFEATURE_SSE) != 0;
		add_range(&rs, OFF_HEADER, 16);
	} else {
		if (read_range(c, a, &old, OFF_HEADER, 8))
			return X86_FAULT;
		img.xstate_bv = (old.xstate_bv & ~rfbm) | use;
		/* MXCSR goes with SSE and with AVX. */
		mxcsr = (rfbm & (XFEATURE_SSE | XFEATURE_AVX)) != 0;
		add_range(&rs, OFF_HEADER, 8);
	}
	component_ranges(c, kind == X86_XSAVE ? rfbm : use, mxcsr, &rs);
	if (probe_ranges(c, a, &rs))
		return X86_FAULT;
	return write_ranges(c, a, &rs, &img);
}

int x86_xsave(struct x86_cpu *c, gva_t a, u64 rfbm, enum x86_xsave_kind kind, bool rex_w)
{
	int r;

	(void)rex_w;
	c->lin_explicit = true;
	r = do_xsave(c, a, rfbm, kind);
	c->lin_explicit = false;
	return r;
}

/* --- XRSTOR ----------------------------------------------------------------------------------- */

/* SDM vol. 1, 13.8: what the header must look like. */
static int check_header(struct x86_cpu *c, const u8 *header)
{
	bool has_compact = x86_cpuid_bit(c, 0xd, 1, 0, 1);
	u64 bv, comp;

	memcpy(&bv, header, 8);
	memcpy(&comp, header + 8, 8);
	if (comp & XCOMP_COMPACT) {
		if (!has_compact || (comp & ~(c->xcr0 | XCOMP_COMPACT)) || (bv & ~comp) ||
		    !all_zero(header + 16, 48))
			return x86_fault_err(c, X86_GP, 0);
		return 0;
	}
	if ((bv & ~c->xcr0) || !all_zero(header + 8, 16))
		return x86_fault_err(c, X86_GP, 0);
	return 0;
}

static int read_components(struct x86_cpu *c, gva_t a, u64 load, bool mxcsr, struct x86_xstate *img)
{
	struct ranges rs = { 0 };

	component_ranges(c, load, mxcsr, &rs);
	for (unsigned i = 0; i < rs.n; i++)
		if (read_range(c, a, img, rs.r[i].off, rs.r[i].len))
			return X86_FAULT;
	if (mxcsr && (img->mxcsr & ~X86_MXCSR_MASK))
		return x86_fault_err(c, X86_GP, 0);
	return 0;
}

static int do_xrstor(struct x86_cpu *c, gva_t a, u64 rfbm)
{
	struct x86_xstate img;
	u64 load, init;
	bool compact, mxcsr;

	if (xs_check(c, a) || read_range(c, a, &img, OFF_HEADER, 64) ||
	    check_header(c, (const u8 *)&img + OFF_HEADER))
		return X86_FAULT;
	rfbm &= c->xcr0;
	compact = (img.xcomp_bv & XCOMP_COMPACT) != 0;
	load = rfbm & img.xstate_bv;
	init = rfbm & ~img.xstate_bv;
	/* Standard form: MXCSR is loaded whatever XSTATE_BV says; compacted: it goes with SSE. */
	mxcsr = compact ? (load & XFEATURE_SSE) != 0 : (rfbm & (XFEATURE_SSE | XFEATURE_AVX)) != 0;
	if (read_components(c, a, load, mxcsr, &img))
		return X86_FAULT;
	if (load & XFEATURE_X87)
		take_x87(c, &img);
	if (init & XFEATURE_X87)
		init_x87(c);
	if (mxcsr)
		c->x.mxcsr = img.mxcsr;
	else if (init & XFEATURE_SSE)
		c->x.mxcsr = X86_MXCSR_INIT;
	if (load & XFEATURE_SSE)
		memcpy(c->x.xmm, img.xmm, vregs(c) * 16);
	if (init & XFEATURE_SSE)
		memset(c->x.xmm, 0, vregs(c) * 16);
	if (load & XFEATURE_AVX)
		memcpy(c->x.ymmh, img.ymmh, vregs(c) * 16);
	if (init & XFEATURE_AVX)
		memset(c->x.ymmh, 0, vregs(c) * 16);
	return 0;
}

int x86_xrstor(struct x86_cpu *c, gva_t a, u64 rfbm, bool rex_w)
{
	int r;

	(void)rex_w;
	c->lin_explicit = true;
	r = do_xrstor(c, a, rfbm);
	c->lin_explicit = false;
	return r;
}
