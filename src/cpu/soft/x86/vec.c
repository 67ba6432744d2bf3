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
 * - VEX-encoded (AVX, AVX2, FMA, F16C): as SSE, on YMM registers whose upper halves lie apart from
 *   the lower in struct x86_xstate. VEX.vvvv sits in YMM3, a register in the immediate in YMM4.
 *   Whatever the width, both halves of a written register are stored: the host has zeroed what a
 *   128-bit form zeroes. The host's own upper halves are left zero, or its SSE code would be slow.
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
#define HASH_BITS 14
#define HASH_SIZE (1u << HASH_BITS)
#define THUNK_MAX 320 /* bytes of code; the longest needs about 150 */

#define OFF(field) ((u32)offsetof(struct x86_cpu, field))
#define OFF_R(n) (OFF(r) + 8 * (n))
#define OFF_XMM(n) (OFF(x.xmm) + 16 * (n))
#define OFF_YMMH(n) (OFF(x.ymmh) + 16 * (n))

struct vec {
	struct codebuf code;
	size_t code_base; /* bytes of the resume points, which stay */
	const u8 *resume_sse, *resume_x87, *resume_avx;
	struct vec_thunk *hash[HASH_SIZE];
	u64 thunks, flushes;
};

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

/* Host registers below 8 only. */
static void load_ymm(struct emit *e, const struct vec_regop *r)
{
	PUT(e, 0xc5, 0xf8, 0x28); /* vmovaps xmm */
	put_rdi(e, r->host, OFF_XMM(r->guest));
	if (!r->wide)
		return;
	PUT(e, 0xc4, 0xe3, (u8)(0x05 | (~r->host & 15) << 3),
	    0x18); /* vinsertf128 ymm, ymm, m, 1 */
	put_rdi(e, r->host, OFF_YMMH(r->guest));
	PUT(e, 1);
}

static void store_ymm(struct emit *e, const struct vec_regop *r)
{
	PUT(e, 0xc5, 0xf8, 0x29);
	put_rdi(e, r->host, OFF_XMM(r->guest));
	PUT(e, 0xc4, 0xe3, 0x7d, 0x19); /* vextractf128 m, ymm, 1 */
	put_rdi(e, r->host, OFF_YMMH(r->guest));
	PUT(e, 1);
}

static void vzeroupper(struct emit *e)
{
	PUT(e, 0xc5, 0xf8, 0x77);
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
static void put_insn(struct emit *e, const struct vec_form *f, unsigned reg, unsigned rm)
{
	u8 rex = (u8)(f->rex_w << 3 | (reg > 7) << 2 | (!f->mem && rm > 7));

	put(e, f->prefix, f->nprefix);
	if (rex)
		PUT(e, 0x40 | rex);
	put(e, f->opcode, f->nopcode);
	if (f->has_modrm && f->mem)
		PUT(e, (u8)((reg & 7) << 3 | VEC_H_RSI)); /* [rsi] */
	else if (f->has_modrm)
		PUT(e, (u8)(0xc0 | (reg & 7) << 3 | (rm & 7)));
	put(e, f->imm, f->nimm);
}

/* The same with a VEX prefix of three bytes, which can say all that the one of two can. */
static void put_vex_insn(struct emit *e, const struct vec_form *f, unsigned reg, unsigned vvvv,
			 unsigned rm)
{
	PUT(e, 0xc4);
	PUT(e, (u8)((reg > 7 ? 0 : 0x80) | 0x40 | (!f->mem && rm > 7 ? 0 : 0x20) | f->vex_map));
	PUT(e, (u8)(f->vex_w << 7 | (~vvvv & 15) << 3 | f->vex_l << 2 | f->vex_pp));
	PUT(e, f->opcode[0]);
	if (f->mem)
		PUT(e, (u8)((reg & 7) << 3 | VEC_H_RSI)); /* [rsi] */
	else
		PUT(e, (u8)(0xc0 | (reg & 7) << 3 | (rm & 7)));
	put(e, f->imm, f->nimm);
}

static void put_host_vex_insn(struct emit *e, const struct vec_form *f)
{
	if (f->maskmov)
		PUT(e, 0x48, 0x87, 0xfe); /* xchg rdi, rsi */
	put_vex_insn(e, f, f->host_reg, f->host_vvvv, f->host_rm);
	if (f->is4)
		e->b[e->n - 1] = (u8)(VEC_H_XMM_IS4 << 4 | (e->b[e->n - 1] & 15));
	if (f->maskmov)
		PUT(e, 0x48, 0x87, 0xfe);
}

static void put_host_insn(struct emit *e, const struct vec_form *f)
{
	if (f->maskmov)
		PUT(e, 0x48, 0x87, 0xfe); /* xchg rdi, rsi */
	put_insn(e, f, f->host_reg, f->host_rm);
	if (f->maskmov)
		PUT(e, 0x48, 0x87, 0xfe);
}

static void store_gprs(struct emit *e, const struct vec_form *f)
{
	unsigned i;

	/* Whole registers: a 32-bit result has cleared the upper half of the host's as well. */
	for (i = 0; i < f->ngpr && !f->ax16; i++) {
		if (f->gpr[i].write)
			store_gpr(e, f->gpr[i].host, f->gpr[i].guest);
	}
	if (f->ax16) {
		PUT(e, 0x66, 0x89);
		put_rdi(e, VEC_H_RAX, OFF_R(X86_RAX));
	}
}

/* A short forward jump (@opcode) over what follows; the result goes to land(). */
static unsigned put_jump(struct emit *e, u8 opcode)
{
	PUT(e, opcode, 0);
	return e->n;
}

static void land(struct emit *e, unsigned at)
{
	e->b[at - 1] = (u8)(e->n - at);
}

/*
 * MXCSR around an instruction. The control bits belong to the caller, the flags to nobody (System
 * V ABI, 3.2.3), so the guest's flags stay in the host register: while guest and host have the
 * same control bits, as they nearly always do, the register already holds the guest's value and
 * nothing is loaded. That matters: a STMXCSR after a LDMXCSR that changed flags costs some 100 ns.
 * [rsp - 4] keeps the host's value, [rsp - 8] the guest's new one. Clobbers EDX.
 */
static void enter_mxcsr(struct emit *e)
{
	unsigned same;

	stmxcsr_red(e);
	PUT(e, 0x8b, 0x54, 0x24, 0xfc, 0x3b); /* mov edx, [rsp - 4]; cmp edx, mxcsr */
	put_rdi(e, VEC_H_RDX, OFF(x.mxcsr));
	same = put_jump(e, 0x74);
	ldmxcsr_guest(e);
	land(e, same);
}

/* Clobbers EAX, EDX and flags. */
static void leave_mxcsr(struct emit *e)
{
	unsigned same;

	PUT(e, 0x8b, 0x54, 0x24, 0xf8, 0x3b); /* mov edx, [rsp - 8]; cmp edx, mxcsr */
	put_rdi(e, VEC_H_RDX, OFF(x.mxcsr));
	same = put_jump(e, 0x74);
	PUT(e, 0x89);
	put_rdi(e, VEC_H_RDX, OFF(x.mxcsr));
	land(e, same);
	PUT(e, 0x89, 0xd0, 0x33, 0x44, 0x24, 0xfc); /* mov eax, edx; xor eax, [rsp - 4] */
	PUT(e, 0xa9, 0xc0, 0xff, 0x00, 0x00);	    /* test eax, 0xffc0 */
	same = put_jump(e, 0x74);
	PUT(e, 0x25, 0xc0, 0xff, 0x00, 0x00, 0x31, 0xd0); /* and eax, 0xffc0; xor eax, edx */
	PUT(e, 0x89, 0x44, 0x24, 0xfc);			  /* host's control, guest's flags */
	ldmxcsr_red(e);
	land(e, same);
}

/*
 * Every XMM operand is loaded, also those that are only written: many scalar forms leave the
 * upper part as it was. A register named twice is loaded twice; only one of the two is written.
 */
static void put_sse_body(struct emit *e, const struct vec_form *f)
{
	unsigned i;

	for (i = 0; i < f->nxmm; i++)
		load_xmm(e, f->xmm[i].host, f->xmm[i].guest);
	for (i = 0; i < f->ngpr; i++) {
		if (f->gpr[i].read)
			load_gpr(e, f->gpr[i].host, f->gpr[i].guest);
	}
	if (f->fp)
		enter_mxcsr(e);
	put_host_insn(e, f);
	if (f->fp)
		PUT(e, 0x0f, 0xae, 0x5c, 0x24, 0xf8); /* stmxcsr [rsp - 8] */
	for (i = 0; i < f->nxmm; i++) {
		if (f->xmm[i].write)
			store_xmm(e, f->xmm[i].host, f->xmm[i].guest);
	}
	store_gprs(e, f);
	if (f->flags_out)
		store_flags(e);
	if (f->fp)
		leave_mxcsr(e);
	put_ret(e, 0);
}

static void put_avx_body(struct emit *e, const struct vec_form *f)
{
	bool wide = f->vex_l;
	unsigned i;

	for (i = 0; i < f->nxmm; i++) {
		if (f->xmm[i].read)
			load_ymm(e, &f->xmm[i]);
	}
	for (i = 0; i < f->ngpr; i++) {
		if (f->gpr[i].read)
			load_gpr(e, f->gpr[i].host, f->gpr[i].guest);
	}
	if (f->fp)
		enter_mxcsr(e);
	put_host_vex_insn(e, f);
	if (f->fp)
		PUT(e, 0x0f, 0xae, 0x5c, 0x24, 0xf8); /* stmxcsr [rsp - 8] */
	for (i = 0; i < f->nxmm; i++) {
		if (f->xmm[i].write)
			store_ymm(e, &f->xmm[i]);
		wide |= f->xmm[i].wide;
	}
	store_gprs(e, f);
	if (f->flags_out)
		store_flags(e);
	if (wide)
		vzeroupper(e);
	if (f->fp)
		leave_mxcsr(e);
	put_ret(e, 0);
}

/*
 * Leaves the x87 unit as the ABI wants it: empty, default control word, so no exception pending;
 * its flags are nobody's. EMMS is enough, and much faster than FNINIT, if the control word is
 * already the default. Then MXCSR's control bits, from [rsp]. Clobbers EDX.
 */
static void leave_x87(struct emit *e)
{
	unsigned deflt, done, same;

	PUT(e, 0x66, 0x81);
	put_rdi(e, 7, OFF(x.fcw));
	PUT(e, 0x7f, 0x03); /* cmp word fcw, 0x37f */
	deflt = put_jump(e, 0x74);
	PUT(e, 0xdb, 0xe3); /* fninit */
	done = put_jump(e, 0xeb);
	land(e, deflt);
	PUT(e, 0x0f, 0x77); /* emms */
	land(e, done);
	PUT(e, 0x8b);
	put_rdi(e, VEC_H_RDX, OFF(x.mxcsr));
	PUT(e, 0x33, 0x14, 0x24);		    /* xor edx, [rsp] */
	PUT(e, 0xf7, 0xc2, 0xc0, 0xff, 0x00, 0x00); /* test edx, 0xffc0 */
	same = put_jump(e, 0x74);
	PUT(e, 0x0f, 0xae, 0x14, 0x24); /* ldmxcsr [rsp] */
	land(e, same);
	PUT(e, 0x48, 0x83, 0xc4, 0x08); /* add rsp, 8 */
}

/* FXRSTOR also loads the guest's MXCSR, so the host's is kept on the stack. */
static void put_x87_body(struct emit *e, const struct vec_form *f)
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
	put_rdi(e, 0, OFF(x)); /* fxsave64 */
	leave_x87(e);
	put_ret(e, 0);
}

/* Skips vec_run_unmasked while every SSE exception is masked and no reserved bit is set. */
static void put_mask_check(struct emit *e, const struct vec_thunk *t)
{
	unsigned at;

	PUT(e, 0x8b);
	put_rdi(e, VEC_H_RAX, OFF(x.mxcsr));
	PUT(e, 0x25, 0x80, 0x1f, 0xff, 0xff); /* and eax, 0xffff1f80 */
	PUT(e, 0x3d, 0x80, 0x1f, 0x00, 0x00); /* cmp eax, 0x1f80 */
	at = put_jump(e, 0x74);
	put_tail(e, t, vec_run_unmasked);
	land(e, at);
}

static vec_fn as_fn(const u8 *code)
{
	return (vec_fn)(uintptr_t)code;
}

static int generate(struct vec *v, const struct vec_form *f, struct vec_thunk *t)
{
	struct emit e = { .n = 0 };
	const u8 *code;
	unsigned body;
	int rc;

	if (f->kind == VEC_KIND_X87)
		put_tail(&e, t, vec_run_x87);
	else if (f->fp)
		put_mask_check(&e, t);
	body = e.n;
	if (f->kind == VEC_KIND_X87)
		put_x87_body(&e, f);
	else if (f->kind == VEC_KIND_AVX)
		put_avx_body(&e, f);
	else
		put_sse_body(&e, f);
	rc = codebuf_add(&v->code, e.b, e.n, 16, &code);
	if (rc < 0)
		return rc;
	t->insn.fn = as_fn(code);
	t->body = as_fn(code + body);
	t->end = code + e.n;
	if (f->fp)
		t->resume = f->kind == VEC_KIND_X87   ? v->resume_x87
			    : f->kind == VEC_KIND_AVX ? v->resume_avx
						      : v->resume_sse;
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
	leave_x87(&e);
	put_ret(&e, X86_FAULT);
	rc = codebuf_add(&v->code, e.b, e.n, 16, &v->resume_x87);
	if (rc < 0)
		return rc;
	e.n = 0;
	stmxcsr_guest(&e);
	ldmxcsr_red(&e);
	if (vec_host_lacks() == NULL)
		vzeroupper(&e);
	put_ret(&e, X86_FAULT);
	rc = codebuf_add(&v->code, e.b, e.n, 16, &v->resume_avx);
	v->code_base = v->code.len;
	return rc;
}

/* --- the cache ------------------------------------------------------------------------------- */

static void make_key(const struct vec_form *f, u8 key[20])
{
	struct emit e = { .n = 0 };

	if (f->kind == VEC_KIND_AVX) /* begins with C4, as no other does */
		put_vex_insn(&e, f, f->reg, f->vvvv, f->rm);
	else
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

static void describe(const struct vec_form *f, const ZydisDecodedInstruction *in,
		     struct vec_thunk *t)
{
	struct vec_insn *vi = &t->insn;

	vi->mem_size = f->mem_size;
	vi->mem_read = f->mem_read;
	vi->mem_write = f->mem_write;
	vi->mem_align = f->mem_size == 16 && !vec_unaligned_ok(in) ? 16 : 1;
	if (f->kind == VEC_KIND_AVX) {
		vi->cls = VEC_AVX;
		vi->mem_align = vec_vex_aligned(in) ? (u8)f->mem_size : 1;
	} else if (f->kind == VEC_KIND_X87) {
		t->waits = !vec_nowait(in);
		vi->cls = f->mmx ? VEC_MMX : t->waits ? VEC_X87 : VEC_X87_NOWAIT;
		if (vec_is_env(in) && f->mem_write)
			t->env = f->nprefix ? VEC_ENV_16 : VEC_ENV_32;
	} else {
		vi->cls = VEC_SSE;
	}
}

/* Those that need no thunk. */
static const struct vec_insn *get_plain(const struct vec_form *f)
{
	static const struct vec_insn ldmxcsr = {
		.fn = vec_ldmxcsr, .cls = VEC_SSE, .mem_read = true, .mem_size = 4, .mem_align = 1
	};
	static const struct vec_insn stmxcsr = {
		.fn = vec_stmxcsr, .cls = VEC_SSE, .mem_write = true, .mem_size = 4, .mem_align = 1
	};
	static const struct vec_insn fwait = { .fn = vec_fwait, .cls = VEC_FWAIT, .mem_align = 1 };

	switch (f->kind) {
	case VEC_KIND_LDMXCSR:
		return &ldmxcsr;
	case VEC_KIND_STMXCSR:
		return &stmxcsr;
	case VEC_KIND_FWAIT:
		return &fwait;
	default:
		return NULL;
	}
}

int vec_get(struct vec *v, const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *ops,
	    const u8 *bytes, const struct vec_insn **ret)
{
	const struct vec_insn *plain;
	struct vec_thunk *t;
	struct vec_form f;
	unsigned h;
	u8 key[20];
	int rc;

	rc = vec_form_init(&f, insn, ops, bytes);
	if (rc < 0)
		return rc;
	plain = get_plain(&f);
	if (plain) {
		*ret = plain;
		return 0;
	}
	make_key(&f, key);
	h = hash_key(key);
	for (t = v->hash[h]; t; t = t->next) {
		if (!memcmp(t->key, key, sizeof(key))) {
			*ret = &t->insn;
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
	*ret = &t->insn;
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

int vec_fork_child(struct vec *v)
{
	return codebuf_fork_child(&v->code);
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
