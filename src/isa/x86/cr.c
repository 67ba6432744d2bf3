/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cr.c - control and debug registers, XCR0, INVPCID, and the I/O permission check
 *
 * How it works
 * A write is checked whole, then stored, then the engine hears what became stale: translations
 * (SDM vol. 3, 4.10.4.1) and the derived execution mode. The engine's TLB is not tagged with
 * PCIDs: it holds the current one only. So a CR3 write drops every non-global translation, unless
 * bit 63 asks to keep those of a PCID that is current already; and an INVPCID of another PCID
 * has nothing to drop.
 */
#include "isa/x86/sys_priv.h"

#define CR0_DEFINED                                                                                \
	(CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | \
	 CR0_PG)
/* CR4 bits whose change makes cached translations or permissions stale. */
#define CR4_PAGING (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE)
#define CR3_NOFLUSH BIT(63)
#define CR3_PCID 0xfffull

#define DR6_FIXED 0xffff0ff0ull
#define DR6_WRITABLE 0xe00full
#define DR6_BD BIT(13)
#define DR7_WRITABLE 0xffff23ffull
#define DR7_FIXED BIT(10)
#define DR7_GD BIT(13)

static int gp0(struct x86_cpu *c)
{
	return x86_fault_err(c, X86_GP, 0);
}

/* --- CR0, CR3, CR4, CR8 ----------------------------------------------------------------------- */

int x86_cr_read(struct x86_cpu *c, unsigned n, u64 *ret)
{
	if (n != 0 && n != 2 && n != 3 && n != 4 && n != 8)
		return x86_fault(c, X86_UD);
	if (c->cpl)
		return gp0(c);
	switch (n) {
	case 0:
		*ret = c->cr0;
		break;
	case 2:
		*ret = c->cr2;
		break;
	case 3:
		*ret = c->cr3;
		break;
	case 4:
		*ret = c->cr4;
		break;
	default:
		*ret = c->ops->cr8_read(c);
		break;
	}
	return 0;
}

/* PAE paging outside long mode loads four entries whenever its inputs change. */
static int check_pae(struct x86_cpu *c, u64 cr0, u64 cr3, u64 cr4)
{
	if (!(cr0 & CR0_PG) || !(cr4 & CR4_PAE) || (c->efer & EFER_LME))
		return 0;
	return x86_check_pdptes(c, cr3);
}

static int cr0_write(struct x86_cpu *c, u64 v)
{
	u64 old = c->cr0;
	u64 changed;

	if (v >> 32)
		return gp0(c);
	v = (v & CR0_DEFINED) | CR0_ET; /* undefined bits are ignored, ET is always 1 */
	changed = v ^ old;
	if ((v & CR0_PG) && !(v & CR0_PE))
		return gp0(c);
	if ((v & CR0_NW) && !(v & CR0_CD))
		return gp0(c);
	if ((changed & CR0_PG) && (v & CR0_PG) && (c->efer & EFER_LME)) {
		unsigned tss = c->tr.attr & (SEG_S | SEG_TYPE);

		if (!(c->cr4 & CR4_PAE) || (c->seg[X86_CS].attr & SEG_L) || tss == SYS_TSS16 ||
		    tss == SYS_TSS16_BUSY)
			return gp0(c);
	}
	if ((changed & CR0_PG) && !(v & CR0_PG) && ((c->cr4 & CR4_PCIDE) || x86_code64(c)))
		return gp0(c);
	if ((changed & (CR0_PG | CR0_CD | CR0_NW)) && check_pae(c, v, c->cr3, c->cr4))
		return X86_FAULT;
	c->cr0 = v;
	if (changed & CR0_PG) {
		c->efer &= ~EFER_LMA;
		if ((v & CR0_PG) && (c->efer & EFER_LME))
			c->efer |= EFER_LMA;
	}
	if (changed & (CR0_PG | CR0_PE | CR0_WP))
		c->ops->tlb_flush_all(c);
	x86_mode_sync(c);
	return 0;
}

static int cr3_write(struct x86_cpu *c, u64 v)
{
	bool pcide = (c->cr4 & CR4_PCIDE) != 0;
	bool keep = pcide && (v & CR3_NOFLUSH);

	if (pcide)
		v &= ~CR3_NOFLUSH;
	if (!x86_long_mode(c))
		v = (u32)v;
	else if (v & ~(c->phys_mask | 0xfff))
		return gp0(c);
	if (check_pae(c, c->cr0, v, c->cr4))
		return X86_FAULT;
	keep = keep && ((v ^ c->cr3) & CR3_PCID) == 0;
	c->cr3 = v;
	if (!keep)
		c->ops->tlb_flush_nonglobal(c);
	return 0;
}

static int cr4_write(struct x86_cpu *c, u64 v)
{
	u64 changed = v ^ c->cr4;

	if (v & ~c->cr4_allowed)
		return gp0(c);
	if (x86_long_mode(c) && (!(v & CR4_PAE) || (changed & CR4_LA57)))
		return gp0(c);
	if ((changed & v & CR4_PCIDE) && (!x86_long_mode(c) || (c->cr3 & CR3_PCID)))
		return gp0(c);
	if ((changed & (CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP)) && check_pae(c, c->cr0, c->cr3, v))
		return X86_FAULT;
	c->cr4 = v;
	if (changed & CR4_PAGING)
		c->ops->tlb_flush_all(c);
	x86_mode_sync(c);
	return 0;
}

int x86_cr_write(struct x86_cpu *c, unsigned n, u64 v)
{
	if (n != 0 && n != 2 && n != 3 && n != 4 && n != 8)
		return x86_fault(c, X86_UD);
	if (c->cpl)
		return gp0(c);
	switch (n) {
	case 0:
		return cr0_write(c, v);
	case 2:
		c->cr2 = v;
		return 0;
	case 3:
		return cr3_write(c, v);
	case 4:
		return cr4_write(c, v);
	default:
		if (v & ~0xfull)
			return gp0(c);
		c->ops->cr8_write(c, v);
		return 0;
	}
}

/* --- debug registers (SDM vol. 3, 17.2) ------------------------------------------------------- */

static int dr_check(struct x86_cpu *c, unsigned *n)
{
	if (*n > 7)
		return x86_fault(c, X86_UD);
	if (*n == 4 || *n == 5) {
		if (c->cr4 & CR4_DE)
			return x86_fault(c, X86_UD);
		*n += 2;
	}
	if (c->cpl)
		return gp0(c);
	if (c->dr7 & DR7_GD) {
		c->exc = (struct x86_exc){ .vector = X86_DB, .dr6 = DR6_BD };
		return X86_FAULT;
	}
	return 0;
}

int x86_dr_read(struct x86_cpu *c, unsigned n, u64 *ret)
{
	if (dr_check(c, &n))
		return X86_FAULT;
	*ret = n < 4 ? c->dr[n] : n == 6 ? c->dr6 : c->dr7;
	return 0;
}

int x86_dr_write(struct x86_cpu *c, unsigned n, u64 v)
{
	if (dr_check(c, &n))
		return X86_FAULT;
	if (n >= 6 && (v >> 32))
		return gp0(c);
	if (n < 4)
		c->dr[n] = v;
	else if (n == 6)
		c->dr6 = (v & DR6_WRITABLE) | DR6_FIXED;
	else
		c->dr7 = (v & DR7_WRITABLE) | DR7_FIXED;
	if (n != 6)
		x86_mode_sync(c); /* the set of breakpoints is part of what the engine derives */
	return 0;
}

bool x86_dr7_any(const struct x86_cpu *c)
{
	return (c->dr7 & 0xff) != 0;
}

/* Breakpoint @i of kind R/W @rw covers a byte of [a, a+len). */
static bool dr_covers(const struct x86_cpu *c, unsigned i, u64 a, unsigned len)
{
	static const u8 bytes[] = { 1, 2, 8, 4 }; /* LEN field (SDM vol. 3, 17.2.4) */
	unsigned n = bytes[(c->dr7 >> (18 + 4 * i)) & 3];
	u64 base = c->dr[i] & ~(u64)(n - 1);

	/* Differences, so that ranges at the top of the address space work. */
	return a - base < n || base - a < len;
}

u64 x86_dr_match(const struct x86_cpu *c, gva_t a, unsigned len, enum x86_access access)
{
	u64 hit = 0;

	for (unsigned i = 0; i < 4; i++) {
		unsigned rw = (c->dr7 >> (16 + 4 * i)) & 3;

		if (!(c->dr7 & (3ull << (2 * i))))
			continue;
		switch (access) {
		case X86_EXEC:
			if (rw == 0 && c->dr[i] == a)
				hit |= BIT(i);
			break;
		case X86_WRITE:
			if ((rw == 1 || rw == 3) && dr_covers(c, i, a, len))
				hit |= BIT(i);
			break;
		case X86_READ:
			if (rw == 3 && dr_covers(c, i, a, len))
				hit |= BIT(i);
			break;
		}
	}
	return hit;
}

u64 x86_dr_match_io(const struct x86_cpu *c, u16 port, unsigned size)
{
	u64 hit = 0;

	if (!(c->cr4 & CR4_DE))
		return 0;
	for (unsigned i = 0; i < 4; i++)
		if ((c->dr7 & (3ull << (2 * i))) && ((c->dr7 >> (16 + 4 * i)) & 3) == 2 &&
		    dr_covers(c, i, port, size))
			hit |= BIT(i);
	return hit;
}

/* --- XCR0, INVPCID, I/O permission ------------------------------------------------------------ */

int x86_xsetbv(struct x86_cpu *c, u32 n, u64 v)
{
	if (!(c->cr4 & CR4_OSXSAVE))
		return x86_fault(c, X86_UD);
	if (c->cpl || n != 0 || !(v & 1) || (v & ~c->xcr0_allowed))
		return gp0(c);
	if ((v & 4) && !(v & 2)) /* AVX state contains SSE state */
		return gp0(c);
	c->xcr0 = v;
	x86_mode_sync(c);
	return 0;
}

int x86_invpcid(struct x86_cpu *c, u64 type, u64 lo, u64 hi)
{
	u64 pcid = lo & CR3_PCID;
	bool current = pcid == (c->cr4 & CR4_PCIDE ? c->cr3 & CR3_PCID : 0);

	if (c->cpl || type > 3)
		return gp0(c);
	if (type <= 1 && ((lo & ~CR3_PCID) || (pcid && !(c->cr4 & CR4_PCIDE))))
		return gp0(c);
	switch (type) {
	case 0: /* one address of one PCID */
		if (x86_long_mode(c) && !x86_canonical(hi))
			return gp0(c);
		if (current)
			c->ops->tlb_flush_page(c, x86_lin(c, hi));
		break;
	case 1: /* one PCID, without global translations */
		if (current)
			c->ops->tlb_flush_nonglobal(c);
		break;
	case 2: /* everything */
		c->ops->tlb_flush_all(c);
		break;
	default: /* every PCID, without global translations */
		c->ops->tlb_flush_nonglobal(c);
		break;
	}
	return 0;
}

int x86_io_check(struct x86_cpu *c, u16 port, unsigned size)
{
	unsigned type = c->tr.attr & SEG_TYPE;
	u64 base, bits;

	if (x86_real_mode(c) || (!x86_v86_mode(c) && c->cpl <= x86_iopl(c)))
		return 0;
	/* A 16-bit TSS has no bitmap (SDM vol. 1, 19.5.2). */
	if (!(c->tr.attr & SEG_P) || (type != SYS_TSS && type != SYS_TSS_BUSY) || c->tr.limit < 103)
		return gp0(c);
	if (c->ops->lin_read(c, x86_lin(c, c->tr.base + 102), 2, false, &base))
		return X86_FAULT;
	/* Two bytes are read always, and both must be inside the limit. */
	base += port / 8;
	if (base + 1 > c->tr.limit)
		return gp0(c);
	if (c->ops->lin_read(c, x86_lin(c, c->tr.base + base), 2, false, &bits))
		return X86_FAULT;
	return (bits >> (port & 7)) & (BIT(size) - 1) ? gp0(c) : 0;
}
