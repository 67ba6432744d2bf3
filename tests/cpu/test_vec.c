/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vec.c - every vector and x87 instruction: thunk against the processor itself
 *
 * How it works
 * The whole opcode space of the legacy encodings is walked; each instruction that vec accepts is
 * executed natively from its original bytes (FXRSTOR, all general registers and flags loaded,
 * FXSAVE afterwards, traps caught as signals) and as a thunk, from the same random state, and
 * all registers, flags, MXCSR, memory and the kind of fault are compared. The native operand ends
 * at an inaccessible page, so a wrong operand size shows as well.
 *
 * VEC_TEST_ROUNDS (default 6) sets the random states per encoding, VEC_TEST_SEED the seed.
 */
#include "cpu/soft/x86/vec.h"

#include <errno.h>
#include <fenv.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

/* --- the native runner ----------------------------------------------------------------------- */

struct native {
	u8 fx[512] attr_aligned(64);
	u64 gpr[16];
	u64 flags;
	u64 code;
	u64 rsp;
};

struct native nat attr_aligned(64); /* the assembly refers to it by name */
extern const u8 nat_after[];
void nat_enter(void);
static volatile int nat_trap; /* 0, or the x86 vector + 1 */
static volatile bool in_native;

/* clang-format off */
__asm__(".text\n.globl nat_enter\nnat_enter:\n"
	"push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
	"mov %rsp, nat+656(%rip)\n"
	"fxrstor64 nat(%rip)\n"
	"push nat+640(%rip)\npopfq\n"
	"mov nat+512(%rip), %rax\nmov nat+520(%rip), %rcx\nmov nat+528(%rip), %rdx\n"
	"mov nat+536(%rip), %rbx\nmov nat+552(%rip), %rbp\nmov nat+560(%rip), %rsi\n"
	"mov nat+568(%rip), %rdi\nmov nat+576(%rip), %r8\nmov nat+584(%rip), %r9\n"
	"mov nat+592(%rip), %r10\nmov nat+600(%rip), %r11\nmov nat+608(%rip), %r12\n"
	"mov nat+616(%rip), %r13\nmov nat+624(%rip), %r14\nmov nat+632(%rip), %r15\n"
	"jmp *nat+648(%rip)\n"
	".globl nat_after\nnat_after:\n"
	"mov %rax, nat+512(%rip)\nmov %rcx, nat+520(%rip)\nmov %rdx, nat+528(%rip)\n"
	"mov %rbx, nat+536(%rip)\nmov %rbp, nat+552(%rip)\nmov %rsi, nat+560(%rip)\n"
	"mov %rdi, nat+568(%rip)\nmov %r8, nat+576(%rip)\nmov %r9, nat+584(%rip)\n"
	"mov %r10, nat+592(%rip)\nmov %r11, nat+600(%rip)\nmov %r12, nat+608(%rip)\n"
	"mov %r13, nat+616(%rip)\nmov %r14, nat+624(%rip)\nmov %r15, nat+632(%rip)\n"
	"mov nat+656(%rip), %rsp\n"
	"pushfq\npop nat+640(%rip)\n"
	"fxsave64 nat(%rip)\n"
	"fninit\npushq $0x1f80\nldmxcsr (%rsp)\nadd $8, %rsp\ncld\n"
	"pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n");
/* clang-format on */
_Static_assert(offsetof(struct native, gpr) == 512 && offsetof(struct native, flags) == 640 &&
		       offsetof(struct native, code) == 648 && offsetof(struct native, rsp) == 656,
	       "nat_enter");

static volatile int foreign_traps;
static sigjmp_buf foreign_jmp;

static void on_signal(int sig, siginfo_t *si, void *ctx)
{
	ucontext_t *uc = ctx;

	if (!in_native) {
		if (sig != SIGFPE)
			abort();
		foreign_traps++;
		siglongjmp(foreign_jmp, 1);
	}
	nat_trap = (int)uc->uc_mcontext.gregs[REG_TRAPNO] + 1;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)nat_after;
}

#define CODE_SIZE (32u << 20)
static u8 *code_rw, *code_rx;
static size_t code_len;
static u8 *page; /* 8 KiB accessible, then nothing */
#define PAGE_END (page + 8192)

/* Bytes never run at an address that had others before, so nothing needs serializing. */
static u64 native_code(const u8 *insn, unsigned n)
{
	u8 *p = code_rw + code_len;
	u64 after = (u64)(uintptr_t)nat_after, at = (u64)(uintptr_t)(code_rx + code_len);

	assert_true(code_len + 64 <= CODE_SIZE);
	memcpy(p, insn, n);
	memcpy(p + n, "\xff\x25\0\0\0\0", 6); /* jmp [rip] */
	memcpy(p + n + 6, &after, 8);
	code_len += 64;
	return at;
}

static int native_run(u64 code)
{
	nat.code = code;
	nat_trap = 0;
	in_native = true;
	nat_enter();
	in_native = false;
	return nat_trap;
}

/* --- random state ----------------------------------------------------------------------------- */

static u64 rng_state;

static u64 rnd(void)
{
	u64 z = (rng_state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static u32 rnd_f32(void)
{
	static const u32 v[] = { 0,	     0x80000000, 0x3f800000, 0x7f800000, 0xff800000,
				 0x7fc00000, 0x7f800001, 1,	     0x807fffff, 0x00800000,
				 0x7f7fffff, 0xff7fffff, 0x4f000000, 0xcf000000, 0x3f000000,
				 0xbfc00000, 0x42280000, 0x5f000000, 0x5effffff, 0x20000000,
				 0x1fffffff };
	return rnd() & 3 ? v[rnd() % ARRAY_LEN(v)] : (u32)rnd();
}

static u64 rnd_f64(void)
{
	static const u64 v[] = { 0,
				 1ull << 63,
				 0x3ff0000000000000,
				 0x7ff0000000000000,
				 0xfff0000000000000,
				 0x7ff8000000000000,
				 0x7ff0000000000001,
				 1,
				 0x800fffffffffffff,
				 0x0010000000000000,
				 0x7fefffffffffffff,
				 0x41e0000000000000,
				 0xc1e0000000200000,
				 0x43e0000000000000,
				 0x3fe0000000000000,
				 0xbff8000000000000,
				 0x4045000000000000,
				 0x380fffffffffffff,
				 0x36a0000000000000,
				 0x47f0000000000000,
				 0x2000000000000000,
				 0x1fffffffffffffff };
	return rnd() & 3 ? v[rnd() % ARRAY_LEN(v)] : rnd();
}

static void rnd_bytes(void *p, size_t n)
{
	u8 *b = p;

	while (n--)
		*b++ = (u8)rnd();
}

static void rnd_vector(u8 *p)
{
	u32 f[4];
	u64 d[2];
	unsigned i, kind = rnd() % 4;

	for (i = 0; i < 4; i++)
		f[i] = rnd_f32();
	for (i = 0; i < 2; i++)
		d[i] = rnd_f64();
	rnd_bytes(p, 16);
	if (kind == 0)
		memcpy(p, f, 16);
	else if (kind == 1)
		memcpy(p, d, 16);
	else if (kind == 2) /* short strings and small numbers */
		for (i = 0; i < 16; i++)
			p[i] = rnd() % 5;
}

static void rnd_f80(u8 *p)
{
	static const u16 e[] = { 0, 0,	    0x3fff, 0x7fff, 0x3ffe, 0x4000, 0x403e,
				 1, 0x7ffe, 0x3f80, 0x407f, 0x43ff, 0x3c00, 0x401e };
	static const u64 m[] = { 0, 1ull << 63,	      3ull << 62,	  ~0ull,
				 1, (1ull << 63) | 1, 0xc000000000000001, 0x7fffffffffffffff };
	u16 exp = rnd() & 3 ? e[rnd() % ARRAY_LEN(e)] : (u16)rnd();
	u64 man = rnd() & 1 ? m[rnd() % ARRAY_LEN(m)] : rnd();

	if (rnd() & 7)
		man = exp & 0x7fff ? man | 1ull << 63 : man & ~(1ull << 63);
	exp |= (u16)(rnd() << 15);
	memcpy(p, &man, 8);
	memcpy(p + 8, &exp, 2);
}

static void rnd_state(struct x86_cpu *c, bool unmask)
{
	unsigned i;

	memset(c, 0, sizeof(*c));
	for (i = 0; i < 16; i++)
		c->r[i] = rnd() & 1 ? rnd() : (u64)(s64)(s8)rnd();
	if (rnd() & 1) { /* lengths of PCMPESTRx */
		c->r[X86_RAX] = rnd() % 18;
		c->r[X86_RDX] = rnd() % 18;
	}
	c->r[X86_RSP] = 0;
	x86_put_rflags(c, rnd() & X86_ARITH);
	c->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
	c->x.fcw = 0x37f;
	if (rnd() & 1)
		c->x.fcw = (u16)((rnd() & 0x0f00) | 0x7f);
	if (unmask)
		c->x.fcw = (u16)((rnd() & 0x0f3f) | 0x40);
	c->x.fsw = (u16)(rnd() & 0x7f40);
	c->x.fsw |= (u16)(rnd() & (rnd() & 7 ? c->x.fcw : 0x3f) & 0x3f);
	if (!(rnd() & 15)) /* what FXRSTOR makes of inconsistent summary bits */
		c->x.fsw ^= 0x8080;
	c->x.ftw = rnd() & 1 ? 0xff : (u8)rnd();
	c->x.mxcsr_mask = 0x12345;
	for (i = 0; i < 8; i++)
		rnd_f80(c->x.st[i]);
	for (i = 0; i < 16; i++)
		rnd_vector(c->x.xmm[i]);
	c->x.mxcsr = (u32)(0x1f80 | (rnd() & (rnd() & 1 ? 0xe07f : 0x6000)));
	if (unmask)
		c->x.mxcsr = (u32)(rnd() & 0xffff);
}

static void rnd_mem(u8 *p, unsigned n)
{
	unsigned i;

	rnd_bytes(p, n);
	switch (n) {
	case 10:
		if (rnd() & 1)
			rnd_f80(p);
		else
			for (i = 0; i < 9; i++) /* packed decimal */
				p[i] = (u8)(rnd() % 10 << 4 | rnd() % 10);
		break;
	case 4: {
		u32 v = rnd_f32();
		memcpy(p, &v, 4);
		break;
	}
	case 8: {
		u64 v = rnd_f64();
		memcpy(p, &v, 8);
		break;
	}
	case 16:
		rnd_vector(p);
		break;
	case 94:
	case 108:
	case 14:
	case 28:
		p[1] &= 0x1f;
		break;
	default:
		break;
	}
}

/* --- one comparison -------------------------------------------------------------------------- */

struct insn {
	u8 b[16];
	unsigned n;
	ZydisDecodedInstruction in;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
};

static struct vec *vec;
static ZydisDecoder dec64, dec32;
static unsigned failures;
static u8 thunk_mem[512] attr_aligned(64);

static void complain(const struct insn *i, const struct x86_cpu *c0, const char *what, u64 want,
		     u64 got)
{
	unsigned k;

	if (failures++ > 40)
		return;
	print_error("%s: %s: processor %llx, thunk %llx; mxcsr %x fcw %x fsw %x ftw %x; bytes",
		    ZydisMnemonicGetString(i->in.mnemonic), what, (unsigned long long)want,
		    (unsigned long long)got, c0->x.mxcsr, c0->x.fcw, c0->x.fsw, c0->x.ftw);
	for (k = 0; k < i->n; k++)
		print_error(" %02x", i->b[k]);
	print_error("\n");
}

static bool same(const struct insn *i, const struct x86_cpu *c0, const char *what, const void *want,
		 const void *got, size_t n)
{
	u64 a = 0, b = 0;
	size_t k;

	if (!memcmp(want, got, n))
		return true;
	for (k = 0; k < n && ((const u8 *)want)[k] == ((const u8 *)got)[k];)
		k++;
	memcpy(&a, (const u8 *)want + k, MIN(n - k, (size_t)8));
	memcpy(&b, (const u8 *)got + k, MIN(n - k, (size_t)8));
	complain(i, c0, what, a, b);
	return false;
}

static void compare(const struct insn *i, const struct x86_cpu *c0, const struct x86_cpu *c, int rc,
		    int trap, const u8 *mem, unsigned mem_size)
{
	static struct x86_xstate xs;
	struct x86_xstate *x = &xs;
	u64 fl = x86_get_rflags(c) & X86_ARITH, want_fl = nat.flags & X86_ARITH;
	unsigned k;

	memcpy(x, nat.fx, 512);
	if (trap && (trap - 1) != X86_XM && (trap - 1) != X86_MF)
		return complain(i, c0, "unexpected native trap", (u64)trap - 1, (u64)rc);
	if ((rc == X86_FAULT) != (trap != 0))
		return complain(i, c0, "fault", (u64)trap, (u64)rc);
	if (trap && c->exc.vector != trap - 1)
		return complain(i, c0, "vector", (u64)trap - 1, c->exc.vector);
	for (k = 0; k < 16; k++) {
		if (k != X86_RSP && nat.gpr[k] != c->r[k])
			return complain(i, c0, "general register", nat.gpr[k], c->r[k]);
	}
	if (fl != want_fl || !(c->fl & 2) || c->of > 1)
		return complain(i, c0, "flags", want_fl, fl);
	if (x->mxcsr != c->x.mxcsr)
		return complain(i, c0, "mxcsr", x->mxcsr, c->x.mxcsr);
	if (!same(i, c0, "xmm", x->xmm, c->x.xmm, sizeof(x->xmm)))
		return;
	if (trap && trap - 1 == X86_MF)
		goto mem; /* the host kernel's signal frame may have normalized ES */
	if (x->fcw != c->x.fcw || x->ftw != c->x.ftw)
		return complain(i, c0, "fcw/ftw", (u64)x->fcw << 16 | x->ftw,
				(u64)c->x.fcw << 16 | c->x.ftw);
	if (x->fsw != c->x.fsw)
		return complain(i, c0, "fsw", x->fsw, c->x.fsw);
	if (!same(i, c0, "st", x->st, c->x.st, sizeof(x->st)))
		return;
mem:
	if (c->x.fip || c->x.fdp || c->x.fop || c->x.mxcsr_mask != 0x12345)
		return complain(i, c0, "host pointers", 0, c->x.fip);
	if (mem_size && !trap)
		same(i, c0, "memory", mem, thunk_mem, mem_size);
}

/* Puts the guest state where nat_enter finds it. */
static void to_native(const struct x86_cpu *c)
{
	memcpy(nat.fx, &c->x, 512);
	memcpy(nat.gpr, c->r, sizeof(nat.gpr));
	nat.flags = x86_get_rflags(c) | 0x202;
}

static void run_one(const struct insn *i, const struct vec_insn *vi, u64 code, bool unmask)
{
	static struct x86_cpu c0, c;
	u8 *m = PAGE_END - vi->mem_size;
	int rc, trap;

	rnd_state(&c0, unmask);
	if (vi->mem_size) {
		rnd_mem(m, vi->mem_size);
		if (i->in.mnemonic == ZYDIS_MNEMONIC_LDMXCSR)
			m[2] = m[3] = 0;
		/* What is not read must not matter. */
		memset(thunk_mem, 0xa5, sizeof(thunk_mem));
		if (vi->mem_read)
			memcpy(thunk_mem, m, vi->mem_size);
		c0.r[X86_RBX] = c0.r[X86_RDI] = (u64)(uintptr_t)m;
	}
	to_native(&c0);
	trap = native_run(code);
	c = c0;
	rc = vi->fn(&c, thunk_mem);
	if (vi->cls == VEC_SSE ||
	    vi->cls ==
		    VEC_FWAIT) /* loading and storing the state natively has made it consistent */
		c.x.fsw = (u16)((c.x.fsw & 0x7f7f) | (c.x.fsw & ~c.x.fcw & 0x3f ? 0x8080 : 0));
	compare(i, &c0, &c, rc, trap, m, vi->mem_write ? vi->mem_size : 0);
}

static int get_insn(const struct insn *i, struct vec_insn *ret)
{
	const struct vec_insn *d;
	int rc = vec_get(vec, &i->in, i->ops, i->b, &d);

	if (rc == 0)
		*ret = *d;
	return rc;
}

/* Operand size and alignment as vec_get reports them, against what the processor touches. */
static void check_extent(const struct insn *i, const struct vec_insn *vi, u64 code)
{
	static struct x86_cpu c;
	u8 *m;
	int trap;

	rnd_state(&c, false);
	c.x.fsw = 0;
	c.x.ftw = 0xff; /* a stack fault would come before the access */
	if (i->in.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ||
	    i->in.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ)
		return; /* which bytes depends on the mask */
	m = PAGE_END - vi->mem_size + 1;
	c.r[X86_RBX] = (u64)(uintptr_t)m;
	to_native(&c);
	trap = native_run(code);
	if (trap - 1 != X86_PF_EXC && trap - 1 != X86_GP)
		complain(i, &c, "touches fewer bytes than reported", vi->mem_size - 1u,
			 vi->mem_size);
	m = page + 64 + 8 + (vi->mem_align == 1);
	memset(page, 0, 4096);
	c.r[X86_RBX] = (u64)(uintptr_t)m;
	to_native(&c);
	trap = native_run(code);
	if ((trap - 1 == X86_GP) != (vi->mem_align == 16))
		complain(i, &c, "alignment", (u64)trap - 1, vi->mem_align);
}

/* --- the walk -------------------------------------------------------------------------------- */

static u8 seen[ZYDIS_MNEMONIC_MAX_VALUE + 1];
static unsigned long forms;

static bool make_insn(struct insn *i, unsigned map, unsigned op, unsigned prefix, bool mode64,
		      bool mem, unsigned reg, unsigned v)
{
	static const u8 pfx[] = { 0, 0x66, 0xf2, 0xf3 };
	u8 rex = (u8)(0x40 | (rnd() & (mem ? 0xc : 0xd))); /* R, B and W; not X */
	unsigned rm = mem ? 3 : map ? rnd() & 7 : v & 7;

	i->n = 0;
	if (prefix)
		i->b[i->n++] = pfx[prefix];
	if (mode64 && rnd() & 1)
		i->b[i->n++] = rex;
	if (map)
		i->b[i->n++] = 0x0f;
	if (map > 1)
		i->b[i->n++] = map == 2 ? 0x38 : 0x3a;
	i->b[i->n++] = (u8)op;
	i->b[i->n++] = (u8)((mem ? 0 : 0xc0) | reg << 3 | rm);
	rnd_bytes(i->b + i->n, 16 - i->n);
	if (!ZYAN_SUCCESS(
		    ZydisDecoderDecodeFull(mode64 ? &dec64 : &dec32, i->b, 15, &i->in, i->ops)))
		return false;
	i->n = i->in.length;
	return true;
}

static void names_reg(const struct insn *i, bool *ret_rsp)
{
	unsigned k;

	*ret_rsp = false; /* the native side cannot lend RSP */
	for (k = 0; k < i->in.operand_count; k++) {
		if (i->ops[k].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    (ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64,
						      i->ops[k].reg.value) == ZYDIS_REGISTER_RSP))
			*ret_rsp = true;
	}
}

static void test_form(struct insn *i, unsigned rounds)
{
	struct vec_insn vi = { 0 };
	unsigned k;
	bool rsp;
	u64 code;
	int rc;

	names_reg(i, &rsp);
	if (rsp)
		return;
	rc = get_insn(i, &vi);
	if (rc == -ENOENT)
		return;
	if (rc == -ENOMEM) {
		vec_flush(vec);
		rc = get_insn(i, &vi);
	}
	assert_int_equal(rc, 0);
	seen[i->in.mnemonic] = 1;
	forms++;
	code = native_code(i->b, i->n);
	if (vi.mem_size)
		check_extent(i, &vi, code);
	for (k = 0; k < rounds; k++)
		run_one(i, &vi, code, k & 1);
}

static void walk_opcode(unsigned map, unsigned op, unsigned variants, unsigned rounds)
{
	unsigned prefix, mode, mem, reg, v;
	struct insn i;

	for (prefix = 0; prefix < 4; prefix++)
		for (mode = 0; mode < 2; mode++)
			for (mem = 0; mem < 2; mem++)
				for (reg = 0; reg < 8; reg++)
					for (v = 0; v < variants; v++) {
						if (make_insn(&i, map, op, prefix, mode, mem, reg,
							      v))
							test_form(&i, rounds);
					}
}

static unsigned env_or(const char *name, unsigned dflt)
{
	const char *s = getenv(name);

	return s ? (unsigned)strtoul(s, NULL, 0) : dflt;
}

/*
 * cmocka takes the signals over for each test, so each test takes them back: first this file's
 * handler, then vec_new puts its own before it.
 */
static void begin(void)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };

	sigaction(SIGFPE, &sa, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGILL, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	vec_free(vec);
	vec = NULL;
	assert_int_equal(vec_new(&vec), 0);
}

static void every_instruction(void **state)
{
	unsigned rounds = env_or("VEC_TEST_ROUNDS", 6), map, op, n = 0;
	static const ZydisMnemonic must[] = {
		ZYDIS_MNEMONIC_ADDPS,	  ZYDIS_MNEMONIC_MOVDQU,    ZYDIS_MNEMONIC_PCMPESTRI,
		ZYDIS_MNEMONIC_PCMPISTRM, ZYDIS_MNEMONIC_BLENDVPD,  ZYDIS_MNEMONIC_MASKMOVDQU,
		ZYDIS_MNEMONIC_MASKMOVQ,  ZYDIS_MNEMONIC_CVTPI2PS,  ZYDIS_MNEMONIC_CVTPD2PI,
		ZYDIS_MNEMONIC_FCOMI,	  ZYDIS_MNEMONIC_FCMOVNBE,  ZYDIS_MNEMONIC_FISTTP,
		ZYDIS_MNEMONIC_FNSAVE,	  ZYDIS_MNEMONIC_FRSTOR,    ZYDIS_MNEMONIC_FBSTP,
		ZYDIS_MNEMONIC_FSIN,	  ZYDIS_MNEMONIC_DPPD,	    ZYDIS_MNEMONIC_PTEST,
		ZYDIS_MNEMONIC_EMMS,	  ZYDIS_MNEMONIC_FWAIT,	    ZYDIS_MNEMONIC_LDMXCSR,
		ZYDIS_MNEMONIC_STMXCSR,	  ZYDIS_MNEMONIC_MOVNTDQA,  ZYDIS_MNEMONIC_PEXTRQ,
		ZYDIS_MNEMONIC_PINSRB,	  ZYDIS_MNEMONIC_EXTRACTPS, ZYDIS_MNEMONIC_CVTSI2SD,
		ZYDIS_MNEMONIC_FNSTSW,	  ZYDIS_MNEMONIC_FNINIT,    ZYDIS_MNEMONIC_FNCLEX,
	};

	begin();
	failures = 0;
	for (op = 0xd8; op < 0xe0; op++)
		walk_opcode(0, op, 8, rounds / 2);
	walk_opcode(0, 0x9b, 1, 2);
	for (map = 1; map < 4; map++)
		for (op = 0; op < 256; op++)
			if (map > 1 || (op != 0x38 && op != 0x3a))
				walk_opcode(map, op, 1, rounds);
	for (op = 0; op < ARRAY_LEN(must); op++)
		if (!seen[must[op]])
			fail_msg("%s was not tested", ZydisMnemonicGetString(must[op]));
	for (op = 0; op < sizeof(seen); op++)
		n += seen[op];
	print_message("%u mnemonics, %lu encodings, %u states each\n", n, forms, rounds);
	assert_true(n > 330);
	assert_int_equal(failures, 0);
}

/* --- single facts ---------------------------------------------------------------------------- */

static int get(const char *bytes, unsigned n, struct vec_insn *ret)
{
	struct insn i = { .n = n };

	memcpy(i.b, bytes, n);
	assert_true(ZYAN_SUCCESS(ZydisDecoderDecodeFull(&dec64, i.b, n, &i.in, i.ops)));
	return get_insn(&i, ret);
}

#define GET(s, ret) get(s, sizeof(s) - 1, ret)

static void others_are_refused(void **state)
{
	struct vec_insn vi;

	begin();
	assert_int_equal(GET("\x48\x01\xd8", &vi), -ENOENT);		 /* add */
	assert_int_equal(GET("\x0f\xae\x03", &vi), -ENOENT);		 /* fxsave */
	assert_int_equal(GET("\x0f\xae\x23", &vi), -ENOENT);		 /* xsave */
	assert_int_equal(GET("\x0f\xc3\x03", &vi), -ENOENT);		 /* movnti */
	assert_int_equal(GET("\xf2\x0f\x38\xf1\xc3", &vi), -ENOENT);	 /* crc32 */
	assert_int_equal(GET("\xf3\x0f\xb8\xc3", &vi), -ENOENT);	 /* popcnt */
	assert_int_equal(GET("\x66\x0f\x38\xdc\xc1", &vi), -ENOENT);	 /* aesenc */
	assert_int_equal(GET("\x66\x0f\x3a\x44\xc1\x00", &vi), -ENOENT); /* pclmulqdq */
	assert_int_equal(GET("\x0f\x38\xc8\xc1", &vi), -ENOENT);	 /* sha1nexte */
	assert_int_equal(GET("\xc4\xe3\x71\x44\xc2\x00", &vi), -ENOENT); /* vpclmulqdq */
	assert_int_equal(GET("\xc4\xe2\x71\xdc\xc2", &vi), -ENOENT);	 /* vaesenc */
	assert_int_equal(GET("\xc5\xf8\x77", &vi), -ENOENT);		 /* vzeroupper */
	assert_int_equal(GET("\xc4\xe2\x70\xf2\xc2", &vi), -ENOENT);	 /* andn */
	assert_int_equal(GET("\x0f\xae\xf0", &vi), -ENOENT);		 /* mfence */
	assert_int_equal(GET("\x0f\x18\x03", &vi), -ENOENT);		 /* prefetchnta */
	assert_int_equal(GET("\xf3\x90", &vi), -ENOENT);		 /* pause */
	assert_int_equal(GET("\x0f\x0f\xc1\x9e", &vi), -ENOENT);	 /* 3DNow! pfadd */
}

static void classes_and_extents(void **state)
{
	struct vec_insn a, b;

	begin();
	assert_int_equal(GET("\x0f\x58\x03", &a), 0); /* addps xmm0, [rbx] */
	assert_int_equal(a.cls, VEC_SSE);
	assert_int_equal(a.mem_size, 16);
	assert_int_equal(a.mem_align, 16);
	assert_true(a.mem_read && !a.mem_write);
	/* The same with another address, an address-size and a segment prefix: the same thunk. */
	assert_int_equal(GET("\x64\x67\x41\x0f\x58\x84\x8b\x00\x01\x00\x00", &b), 0);
	assert_ptr_equal(a.fn, b.fn);
	assert_int_equal(GET("\x44\x0f\x58\x03", &b), 0);
	assert_ptr_not_equal(a.fn, b.fn);
	assert_int_equal(GET("\xd9\x13", &a), 0); /* fst m32: may not store, so it is read */
	assert_int_equal(a.cls, VEC_X87);
	assert_true(a.mem_read && a.mem_write);
	assert_int_equal(GET("\xdb\xe3", &a), 0);
	assert_int_equal(a.cls, VEC_X87_NOWAIT);
	assert_int_equal(GET("\x0f\xef\xc1", &a), 0);
	assert_int_equal(a.cls, VEC_MMX);
	assert_int_equal(GET("\x9b", &a), 0);
	assert_int_equal(a.cls, VEC_FWAIT);
	assert_int_equal(GET("\x66\x0f\xf7\xc1", &a), 0); /* maskmovdqu */
	assert_true(a.mem_read && a.mem_write && a.mem_size == 16 && a.mem_align == 1);
}

static void faults_without_osxmmexcpt(void **state)
{
	struct x86_cpu c;
	struct vec_insn vi;

	begin();
	rnd_state(&c, false);
	memset(c.x.xmm, 0, sizeof(c.x.xmm));
	c.x.mxcsr = 0x1f00; /* IM clear: 0/0 traps */
	assert_int_equal(GET("\x0f\x5e\xc1", &vi), 0);
	assert_int_equal(vi.fn(&c, thunk_mem), X86_FAULT);
	assert_int_equal(c.exc.vector, X86_XM);
	assert_int_equal(c.x.mxcsr, 0x1f01);
	c.cr4 = CR4_OSFXSR;
	assert_int_equal(vi.fn(&c, thunk_mem), X86_FAULT);
	assert_int_equal(c.exc.vector, X86_UD);
	/* LDMXCSR of a reserved bit */
	memcpy(thunk_mem, "\x80\x1f\x01\x00", 4);
	assert_int_equal(GET("\x0f\xae\x13", &vi), 0);
	assert_int_equal(vi.fn(&c, thunk_mem), X86_FAULT);
	assert_int_equal(c.exc.vector, X86_GP);
	assert_true(c.exc.has_err && c.exc.err == 0);
	/* A reserved bit that came in some other way must not fault the host. */
	c.x.mxcsr = 0xffff1f80;
	assert_int_equal(GET("\x0f\x58\xc1", &vi), 0);
	assert_int_equal(vi.fn(&c, thunk_mem), 0);
	c.x.mxcsr = 0xffff1f80;
	assert_int_equal(GET("\xd9\xe8", &vi), 0);
	assert_int_equal(vi.fn(&c, thunk_mem), 0);
}

static u32 get_mxcsr(void)
{
	u32 v;

	__asm__ volatile("stmxcsr %0" : "=m"(v));
	return v;
}

static void host_state_is_kept(void **state)
{
	static const char *const insns[] = { "\x0f\x58\xc1", "\xdc\xf1", "\x0f\x2d\xc1",
					     "\xf3\x0f\x10\xc1" };
	u32 host = 0x5fbf;
	struct vec_insn vi;
	struct x86_cpu c;
	unsigned i, k;
	u16 fcw, fsw;

	begin();
	for (i = 0; i < ARRAY_LEN(insns) * 64; i++) {
		k = i % ARRAY_LEN(insns);
		assert_int_equal(get(insns[k], (unsigned)strlen(insns[k]), &vi), 0);
		rnd_state(&c, i & 32);
		__asm__ volatile("ldmxcsr %0" ::"m"(host));
		vi.fn(&c, thunk_mem);
		assert_int_equal(get_mxcsr() & 0xffc0, host & 0xffc0);
		__asm__ volatile("fnstcw %0; fnstsw %1" : "=m"(fcw), "=m"(fsw));
		assert_int_equal(fcw, 0x37f);
		assert_int_equal(fsw & 0x80, 0);
	}
	host = 0x1f80;
	__asm__ volatile("ldmxcsr %0" ::"m"(host));
}

/* SIGFPE that is not a thunk's goes to the handler that was there before. */
static void foreign_sigfpe_is_passed_on(void **state)
{
	volatile float a = 0, b;
	u32 unmasked = 0x1f00, masked = 0x1f80;

	begin();
	foreign_traps = 0;
	if (!sigsetjmp(foreign_jmp, 1)) {
		__asm__ volatile("ldmxcsr %0" ::"m"(unmasked));
		b = a / a;
		(void)b;
		fail_msg("no trap");
	}
	__asm__ volatile("ldmxcsr %0" ::"m"(masked));
	assert_int_equal(foreign_traps, 1);
}

static void *blocked_thread(void *arg)
{
	struct vec_insn *vi = arg;
	struct x86_cpu c;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	rng_state = 1;
	rnd_state(&c, false);
	memset(c.x.xmm, 0, sizeof(c.x.xmm));
	c.x.mxcsr = 0x1f00;
	return vi->fn(&c, thunk_mem) == X86_FAULT && c.exc.vector == X86_XM ? arg : NULL;
}

static void thread_with_blocked_signals(void **state)
{
	struct vec_insn vi;
	pthread_t th;
	void *ret;

	begin();
	assert_int_equal(GET("\x0f\x5e\xc1", &vi), 0);
	assert_int_equal(pthread_create(&th, NULL, blocked_thread, &vi), 0);
	pthread_join(th, &ret);
	assert_non_null(ret);
}

static void arena_is_bounded(void **state)
{
	struct vec_insn vi, again;
	char b[6] = { 0x66, 0x40, 0x0f, 0x70 };
	unsigned op, n = 0;
	int rc = 0;

	begin();
	for (op = 0; rc == 0 && op < 1u << 20; op++) {
		b[0] = (char)"\x66\xf2\xf3"[(op >> 18) % 3];
		b[1] = (char)(0x40 | (op >> 16 & 1) << 2 | (op >> 17 & 1));
		b[4] = (char)(0xc0 | (op >> 8 & 0x3f));
		b[5] = (char)op;
		if (op >> 14 & 3)
			continue;
		rc = get(b, 6, &vi);
		n++;
	}
	if (rc == 0) /* shuffles alone do not fill it: SHUFPS, PBLENDW, ... on top */
		for (op = 0; rc == 0 && op < 1u << 21; op++) {
			const char c[7] = { 0x66,
					    (char)(0x40 | (op & 1) | (op >> 1 & 1) << 2),
					    0x0f,
					    0x3a,
					    (char)(8 + (op >> 16) % 7),
					    (char)(0xc0 | (op >> 10 & 0x3f)),
					    (char)(op >> 2) };
			rc = get(c, 7, &vi);
			n++;
		}
	assert_int_equal(rc, -ENOMEM);
	assert_true(n > 50000);
	vec_flush(vec);
	assert_int_equal(vec_stats(vec).thunks, 0);
	assert_int_equal(GET("\x0f\x58\xc1", &vi), 0);
	assert_int_equal(GET("\x0f\x58\xc1", &again), 0);
	assert_ptr_equal(vi.fn, again.fn);
}

static int setup(void **state)
{
	int fd = memfd_create("test-code", 0);

	if (fd < 0 || ftruncate(fd, CODE_SIZE) < 0)
		return -1;
	code_rw = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	code_rx = mmap(NULL, CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	page = mmap(NULL, 12288, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	close(fd);
	if (code_rw == MAP_FAILED || code_rx == MAP_FAILED || page == MAP_FAILED ||
	    mprotect(page, 8192, PROT_READ | PROT_WRITE) < 0)
		return -1;
	ZydisDecoderInit(&dec64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisDecoderInit(&dec32, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
	rng_state = env_or("VEC_TEST_SEED", 1);
	return 0;
}

static int teardown(void **state)
{
	vec_free(vec);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(others_are_refused),
		cmocka_unit_test(classes_and_extents),
		cmocka_unit_test(every_instruction),
		cmocka_unit_test(faults_without_osxmmexcpt),
		cmocka_unit_test(host_state_is_kept),
		cmocka_unit_test(foreign_sigfpe_is_passed_on),
		cmocka_unit_test(thread_with_blocked_signals),
		cmocka_unit_test(arena_is_bounded),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
