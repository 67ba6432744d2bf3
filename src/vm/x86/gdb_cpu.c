/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdb_cpu.c - an x86-64 vCPU as GDB knows it: registers by number, their description, linear addresses
 *
 * How it works
 * One table has all registers in GDB's order: its features core, sse, segments and avx
 * ("Debugging with GDB", G.5.15), between them one of our own for control registers. The description
 * in XML and the packets follow from the table; GDB numbers registers as it reads them there.
 *
 * Registers are set as the debugger says, but for bits that the CPU model does not have and those that
 * hang on others. A selector changes alone: what the segment is (base, limit, rights) stays, outside
 * real mode.
 */
#include "vm/x86/gdb_cpu.h"

#include "isa/x86/state.h"
#include "isa/x86/sys.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum kind {
	GPR,
	RIP,
	FLAGS,
	SEL, /* at: enum x86_segreg */
	ST,  /* at: number */
	X87, /* at: enum x87 */
	XMM, /* at: number */
	MXCSR,
	BASE,	/* at: enum x86_segreg */
	SYSTEM, /* at: offset in struct x86_cpu */
	YMMH,	/* at: number */
};

enum x87 { X87_CW, X87_SW, X87_TAG, X87_IS, X87_IP, X87_DS, X87_DP, X87_OP };

enum feature { F_CORE, F_SSE, F_SEGMENTS, F_SYSTEM, F_AVX, FEATURES };

struct reg {
	const char *name, *type;
	u8 size; /* bytes */
	u8 feature;
	u8 kind;
	u16 at;
};

#define G(n, r)                                                                                    \
	{                                                                                          \
		n, "int64", 8, F_CORE, GPR, r                                                      \
	}
#define S(n, r)                                                                                    \
	{                                                                                          \
		n, "int32", 4, F_CORE, SEL, r                                                      \
	}
#define F(n)                                                                                       \
	{                                                                                          \
		"st" #n, "i387_ext", 10, F_CORE, ST, n                                             \
	}
#define C(n, r)                                                                                    \
	{                                                                                          \
		n, "int", 4, F_CORE, X87, r                                                        \
	}
#define X(n)                                                                                       \
	{                                                                                          \
		"xmm" #n, "vec128", 16, F_SSE, XMM, n                                              \
	}
#define Y(n)                                                                                       \
	{                                                                                          \
		"ymm" #n "h", "uint128", 16, F_AVX, YMMH, n                                        \
	}
#define SYS(n, f)                                                                                  \
	{                                                                                          \
		n, "int64", 8, F_SYSTEM, SYSTEM, offsetof(struct x86_cpu, f)                       \
	}

static const struct reg regs[] = {
	G("rax", X86_RAX),
	G("rbx", X86_RBX),
	G("rcx", X86_RCX),
	G("rdx", X86_RDX),
	G("rsi", X86_RSI),
	G("rdi", X86_RDI),
	{ "rbp", "data_ptr", 8, F_CORE, GPR, X86_RBP },
	{ "rsp", "data_ptr", 8, F_CORE, GPR, X86_RSP },
	G("r8", X86_R8),
	G("r9", X86_R9),
	G("r10", X86_R10),
	G("r11", X86_R11),
	G("r12", X86_R12),
	G("r13", X86_R13),
	G("r14", X86_R14),
	G("r15", X86_R15),
	{ "rip", "code_ptr", 8, F_CORE, RIP, 0 },
	{ "eflags", "flags", 4, F_CORE, FLAGS, 0 },
	S("cs", X86_CS),
	S("ss", X86_SS),
	S("ds", X86_DS),
	S("es", X86_ES),
	S("fs", X86_FS),
	S("gs", X86_GS),
	F(0),
	F(1),
	F(2),
	F(3),
	F(4),
	F(5),
	F(6),
	F(7),
	C("fctrl", X87_CW),
	C("fstat", X87_SW),
	C("ftag", X87_TAG),
	C("fiseg", X87_IS),
	C("fioff", X87_IP),
	C("foseg", X87_DS),
	C("fooff", X87_DP),
	C("fop", X87_OP),
	X(0),
	X(1),
	X(2),
	X(3),
	X(4),
	X(5),
	X(6),
	X(7),
	X(8),
	X(9),
	X(10),
	X(11),
	X(12),
	X(13),
	X(14),
	X(15),
	{ "mxcsr", "mxcsr_flags", 4, F_SSE, MXCSR, 0 },
	{ "fs_base", "int64", 8, F_SEGMENTS, BASE, X86_FS },
	{ "gs_base", "int64", 8, F_SEGMENTS, BASE, X86_GS },
	SYS("k_gs_base", kernel_gs_base),
	SYS("cr0", cr0),
	SYS("cr2", cr2),
	SYS("cr3", cr3),
	SYS("cr4", cr4),
	SYS("efer", efer),
	Y(0),
	Y(1),
	Y(2),
	Y(3),
	Y(4),
	Y(5),
	Y(6),
	Y(7),
	Y(8),
	Y(9),
	Y(10),
	Y(11),
	Y(12),
	Y(13),
	Y(14),
	Y(15),
};

#undef G
#undef S
#undef F
#undef C
#undef X
#undef Y
#undef SYS

/* Numbers in the table above. */
const unsigned gdb_expedite[] = { 6 /* rbp */, 7 /* rsp */, 16 /* rip */, ~0u };

static bool has_avx(const struct x86_cpu *c)
{
	return c->xcr0_allowed & XCR0_AVX;
}

unsigned gdb_reg_size(const struct x86_cpu *c, unsigned reg)
{
	if (reg >= ARRAY_LEN(regs) || (regs[reg].feature == F_AVX && !has_avx(c)))
		return 0;
	return regs[reg].size;
}

/* --- x87 -------------------------------------------------------------------------------------- */

static unsigned x87_top(const struct x86_cpu *c)
{
	return (c->x.fsw >> 11) & 7;
}

/*
 * The tag word as FSTENV has it (SDM vol. 1, 8.1.7): for each physical register valid, zero, special or
 * empty, from the abridged tags and what is in the registers.
 */
static u32 x87_tags(const struct x86_cpu *c)
{
	u32 tags = 0;

	for (unsigned phys = 0; phys < 8; phys++) {
		const u8 *st = c->x.st[(phys - x87_top(c)) & 7];
		u64 mantissa;
		u16 exp;
		u32 tag = 0;

		memcpy(&mantissa, st, 8);
		memcpy(&exp, st + 8, 2);
		exp &= 0x7fff;
		if (!(c->x.ftw >> phys & 1))
			tag = 3;
		else if (!exp && !mantissa)
			tag = 1;
		else if (!exp || exp == 0x7fff || !(mantissa >> 63))
			tag = 2;
		tags |= tag << (2 * phys);
	}
	return tags;
}

static u32 x87_get(const struct x86_cpu *c, unsigned which)
{
	switch (which) {
	case X87_CW:
		return c->x.fcw;
	case X87_SW:
		return c->x.fsw;
	case X87_TAG:
		return x87_tags(c);
	case X87_IP:
		return (u32)c->x.fip;
	case X87_DP:
		return (u32)c->x.fdp;
	case X87_OP:
		return c->x.fop;
	default: /* selectors are not kept in 64-bit mode */
		return 0;
	}
}

static void x87_set(struct x86_cpu *c, unsigned which, u32 v)
{
	if (which == X87_CW) {
		c->x.fcw = (u16)((v & 0x1f3f) | 0x40);
	} else if (which == X87_SW) {
		c->x.fsw = (u16)v;
	} else if (which == X87_TAG) {
		c->x.ftw = 0;
		for (unsigned i = 0; i < 8; i++)
			if ((v >> (2 * i) & 3) != 3)
				c->x.ftw |= (u8)(1u << i);
	}
}

/* --- all registers ---------------------------------------------------------------------------- */

void gdb_reg_get(const struct x86_cpu *c, unsigned reg, u8 *ret)
{
	const struct reg *r = &regs[reg];
	const void *from = NULL;
	u64 x = 0;

	switch ((enum kind)r->kind) {
	case GPR:
		x = c->r[r->at];
		break;
	case RIP:
		x = c->rip;
		break;
	case FLAGS:
		x = x86_get_rflags(c);
		break;
	case SEL:
		x = c->seg[r->at].sel;
		break;
	case X87:
		x = x87_get(c, r->at);
		break;
	case MXCSR:
		x = c->x.mxcsr;
		break;
	case BASE:
		x = c->seg[r->at].base;
		break;
	case SYSTEM:
		from = (const u8 *)c + r->at;
		break;
	case ST:
		from = c->x.st[r->at];
		break;
	case XMM:
		from = c->x.xmm[r->at];
		break;
	case YMMH:
		from = c->x.ymmh[r->at];
		break;
	}
	memcpy(ret, from ? from : &x, r->size);
}

static void set_selector(struct x86_cpu *c, unsigned s, u16 sel)
{
	c->seg[s].sel = sel;
	if (!(c->cr0 & CR0_PE) || (c->rflags & X86_VM))
		c->seg[s].base = (u64)sel << 4;
}

static void set_system(struct x86_cpu *c, unsigned at, u64 v)
{
	switch (at) {
	case offsetof(struct x86_cpu, cr0):
		c->cr0 = (v & 0xe005003full) | CR0_ET;
		break;
	case offsetof(struct x86_cpu, cr3):
		c->cr3 = v & c->phys_mask;
		break;
	case offsetof(struct x86_cpu, cr4):
		c->cr4 = v & c->cr4_allowed;
		break;
	case offsetof(struct x86_cpu, efer):
		c->efer = v & (EFER_SCE | EFER_LME | EFER_NX);
		break;
	default:
		memcpy((u8 *)c + at, &v, 8);
	}
	/* Long mode is active where it is enabled and paging is on (SDM vol. 3, 10.8.5). */
	c->efer &= ~EFER_LMA;
	if ((c->efer & EFER_LME) && (c->cr0 & CR0_PG))
		c->efer |= EFER_LMA;
}

bool gdb_reg_set(struct x86_cpu *c, unsigned reg, const u8 *val)
{
	const struct reg *r = &regs[reg];
	u8 old[16];
	u64 x = 0;

	gdb_reg_get(c, reg, old);
	/* What a G packet leaves as it is must not be touched: it may hang on others. */
	if (!memcmp(old, val, r->size))
		return false;
	memcpy(&x, val, MIN((size_t)r->size, sizeof(x)));
	switch ((enum kind)r->kind) {
	case GPR:
		c->r[r->at] = x;
		break;
	case RIP:
		c->rip = x;
		break;
	case FLAGS:
		x86_put_rflags(c, x);
		break;
	case SEL:
		set_selector(c, r->at, (u16)x);
		break;
	case X87:
		x87_set(c, r->at, (u32)x);
		break;
	case MXCSR:
		c->x.mxcsr = (u32)x & 0xffff;
		break;
	case BASE:
		c->seg[r->at].base = x;
		break;
	case SYSTEM:
		set_system(c, r->at, x);
		break;
	case ST:
		memcpy(c->x.st[r->at], val, 10);
		break;
	case XMM:
		memcpy(c->x.xmm[r->at], val, 16);
		break;
	case YMMH:
		memcpy(c->x.ymmh[r->at], val, 16);
		break;
	}
	return true;
}

/* --- the description -------------------------------------------------------------------------- */

static const char flags_type[] =
	"<flags id=\"flags\" size=\"4\">"
	"<field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"\" start=\"1\" end=\"1\"/>"
	"<field name=\"PF\" start=\"2\" end=\"2\"/><field name=\"AF\" start=\"4\" end=\"4\"/>"
	"<field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/>"
	"<field name=\"TF\" start=\"8\" end=\"8\"/><field name=\"IF\" start=\"9\" end=\"9\"/>"
	"<field name=\"DF\" start=\"10\" end=\"10\"/><field name=\"OF\" start=\"11\" end=\"11\"/>"
	"<field name=\"NT\" start=\"14\" end=\"14\"/><field name=\"RF\" start=\"16\" end=\"16\"/>"
	"<field name=\"VM\" start=\"17\" end=\"17\"/><field name=\"AC\" start=\"18\" end=\"18\"/>"
	"<field name=\"ID\" start=\"21\" end=\"21\"/></flags>";

static const char sse_types[] =
	"<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>"
	"<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
	"<vector id=\"v16i8\" type=\"int8\" count=\"16\"/>"
	"<vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
	"<vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
	"<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
	"<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/>"
	"<field name=\"v2_double\" type=\"v2d\"/><field name=\"v16_int8\" type=\"v16i8\"/>"
	"<field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>"
	"<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>"
	"<flags id=\"mxcsr_flags\" size=\"4\">"
	"<field name=\"IE\" start=\"0\" end=\"0\"/><field name=\"DE\" start=\"1\" end=\"1\"/>"
	"<field name=\"ZE\" start=\"2\" end=\"2\"/><field name=\"OE\" start=\"3\" end=\"3\"/>"
	"<field name=\"UE\" start=\"4\" end=\"4\"/><field name=\"PE\" start=\"5\" end=\"5\"/>"
	"<field name=\"DAZ\" start=\"6\" end=\"6\"/><field name=\"IM\" start=\"7\" end=\"7\"/>"
	"<field name=\"DM\" start=\"8\" end=\"8\"/><field name=\"ZM\" start=\"9\" end=\"9\"/>"
	"<field name=\"OM\" start=\"10\" end=\"10\"/><field name=\"UM\" start=\"11\" end=\"11\"/>"
	"<field name=\"PM\" start=\"12\" end=\"12\"/><field name=\"FZ\" start=\"15\" end=\"15\"/>"
	"</flags>";

int gdb_describe_regs(const struct x86_cpu *c, struct buf *out)
{
	static const struct {
		const char *name, *types;
	} feature[FEATURES] = {
		[F_CORE] = { "org.gnu.gdb.i386.core", flags_type },
		[F_SSE] = { "org.gnu.gdb.i386.sse", sse_types },
		[F_SEGMENTS] = { "org.gnu.gdb.i386.segments", "" },
		[F_SYSTEM] = { "org.orrery.x86.system", "" },
		[F_AVX] = { "org.gnu.gdb.i386.avx", "" },
	};
	unsigned reg = 0;
	int r = buf_printf(out, "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\">"
				"<target version=\"1.0\"><architecture>i386:x86-64</architecture>");

	for (unsigned f = 0; r == 0 && f < FEATURES; f++) {
		if (f == F_AVX && !has_avx(c))
			continue;
		r = buf_printf(out, "<feature name=\"%s\">%s", feature[f].name, feature[f].types);
		for (; r == 0 && reg < ARRAY_LEN(regs) && regs[reg].feature == f; reg++)
			r = buf_printf(out, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\"/>",
				       regs[reg].name, regs[reg].size * 8u, regs[reg].type);
		if (r == 0)
			r = buf_printf(out, "</feature>");
	}
	return r == 0 ? buf_printf(out, "</target>") : r;
}

void gdb_describe_cpu(const struct x86_cpu *c, char *ret, size_t size)
{
	const char *mode = x86_code64(c)	? "64-bit"
			   : !(c->cr0 & CR0_PE) ? "real mode"
			   : x86_long_mode(c)	? "compatibility mode"
						: "protected mode";

	if (c->wait_sipi)
		snprintf(ret, size, "vCPU %u, not started", c->index);
	else
		snprintf(ret, size, "vCPU %u, %s%s, %s", c->index, c->halted ? "halted, " : "",
			 c->cpl == 3 ? "user" : "kernel", mode);
}

/* --- addresses -------------------------------------------------------------------------------- */

static u64 phys_read(struct x86_cpu *c, gpa_t a, unsigned size)
{
	u64 x = 0;

	return mem_read(c->engine, a, &x, size) < 0 ? ~0ull >> (64 - 8 * size) : x;
}

static void phys_or(struct x86_cpu *c, gpa_t a, unsigned size, u64 bits)
{
}

int gdb_translate(const struct x86_cpu *c, struct mem *mem, u64 a, gpa_t *ret)
{
	static const struct x86_ops ops = { .phys_read = phys_read, .phys_or = phys_or };
	struct x86_cpu copy = *c;
	struct x86_walk w;

	copy.ops = &ops;
	copy.engine = mem;
	copy.rflags |= X86_AC; /* SMAP is not for debuggers */
	if (x86_walk(&copy, a, X86_READ, false, false, &w))
		return -EFAULT;
	*ret = w.gpa;
	return 0;
}
