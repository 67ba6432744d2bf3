/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_avx.c - x86-64-v3 where random sequences do not go
 *
 * First the engine alone, in 32-bit code without paging: what must be enabled, what real mode and
 * other CPU models make of the same bytes, which masked elements are accessed. Then 32-bit code in
 * compatibility mode beside the host's CPU: which fields of a VEX prefix mean nothing there.
 */
#include "diff.h"

#include "cpu/soft/soft.h"
#include "cpu/soft/x86/vec.h"
#include "isa/x86/sys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CODE 0x1000u
#define DATA 0x2000u
#define RAM 0x20000u

/* --- the engine alone --------------------------------------------------------------------------- */

struct rig {
	struct mem *mem;
	struct bus *bus;
	struct soft *soft;
	struct x86_cpu *c;
	bool v3;
	int vector; /* of the exception that ended the run, -1: none */
	u32 err;
};

static const struct x86_cpuid_entry leaves_v2[] = {
	{ .leaf = 0, .eax = 13 },
	{ .leaf = 1, .ecx = 0x04982201, .edx = 0x0789fbff },
	{ .leaf = 7, .indexed = true, .ebx = 0x81 },
	{ .leaf = 0xd, .indexed = true, .eax = 3, .ecx = 576 },
	{ .leaf = 0xd, .indexed = true, .subleaf = 1, .eax = 1 },
	{ .leaf = 0x80000000, .eax = 0x80000001 },
	{ .leaf = 0x80000001, .ecx = 1, .edx = 0x2c100800 },
};
static const struct x86_cpuid_entry leaves_v3[] = {
	{ .leaf = 0, .eax = 13 },
	{ .leaf = 1, .ecx = 0x34d83201, .edx = 0x0789fbff },
	{ .leaf = 7, .indexed = true, .ebx = 0x1a9 },
	{ .leaf = 0xd, .indexed = true, .eax = 7, .ecx = 832 },
	{ .leaf = 0xd, .indexed = true, .subleaf = 1, .eax = 3 },
	{ .leaf = 0xd, .indexed = true, .subleaf = 2, .eax = 256, .ebx = 576 },
	{ .leaf = 0x80000000, .eax = 0x80000001 },
	{ .leaf = 0x80000001, .ecx = 0x21, .edx = 0x2c100800 },
};

static const struct x86_cpuid_entry *table(void *opaque, unsigned cpu, unsigned *ret_n)
{
	const struct rig *r = opaque;

	*ret_n = r->v3 ? ARRAY_LEN(leaves_v3) : ARRAY_LEN(leaves_v2);
	return r->v3 ? leaves_v3 : leaves_v2;
}

static bool on_exception(void *opaque, struct x86_cpu *c)
{
	struct rig *r = opaque;

	r->vector = c->exc.vector;
	r->err = c->exc.err;
	return true;
}

static void rig_open(struct rig *r, bool v3)
{
	const struct mem_region ram = { .base = 0, .size = RAM };
	struct soft_cfg cfg = {
		.ncpus = 1,
		.mips = 1000,
		.tier = SOFT_TIER_INTERP,
		.cr4_allowed = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE,
		.xcr0_allowed = v3 ? 7 : 3,
		.phys_mask = (1ull << 46) - 1,
		.tsc_khz = 1000000,
		.cpuid = table,
		.cpuid_opaque = r,
	};

	*r = (struct rig){ .v3 = v3 };
	assert_int_equal(mem_new(&ram, 1, NULL, &r->mem), 0);
	assert_int_equal(bus_new(&r->bus), 0);
	cfg.mem = r->mem;
	cfg.bus = r->bus;
	assert_int_equal(soft_new(&cfg, NULL, &r->soft), 0);
	soft_set_exc_hook(r->soft, on_exception, r);
	r->c = soft_cpu(r->soft, 0);
}

static void rig_close(struct rig *r)
{
	soft_free(r->soft);
	bus_free(r->bus);
	mem_free(r->mem);
}

static void flat(struct rig *r)
{
	const struct x86_seg data = { .limit = ~0u, .sel = 0x10, .attr = 0xc093 };
	struct x86_cpu *c = r->c;

	x86_reset(c);
	c->cr0 = CR0_PE | CR0_ET;
	c->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	c->xcr0 = r->v3 ? 7 : 3;
	for (unsigned i = 0; i < X86_SEGS; i++)
		c->seg[i] = data;
	c->seg[X86_CS] = (struct x86_seg){ .limit = ~0u, .sel = 8, .attr = 0xc09b };
	memset(c->x.xmm, 0x11, sizeof(c->x.xmm));
	memset(c->x.ymmh, 0x22, sizeof(c->x.ymmh));
	c->r[X86_RSP] = 0x8000;
}

/* Runs @code, with an INT3 behind it, from the state in r->c. Returns the vector it ends with. */
static int rig_run(struct rig *r, const void *code, size_t len)
{
	const u8 int3 = 0xcc;

	assert_int_equal(mem_write(r->mem, CODE, code, len), 0);
	assert_int_equal(mem_write(r->mem, CODE + len, &int3, 1), 0);
	r->c->rip = CODE;
	r->vector = -1;
	x86_derive(r->c);
	soft_cpu_changed(r->soft, 0);
	soft_set_limit(r->soft, 1000);
	soft_run(r->soft, NULL, NULL);
	return r->vector;
}

#define RUN(r, bytes) rig_run(r, bytes, sizeof(bytes) - 1)

#define VPXOR "\xc5\xf9\xef\xc0"    /* vpxor xmm0, xmm0, xmm0 */
#define VADDPS "\xc5\xfc\x58\xc1"   /* vaddps ymm0, ymm0, ymm1 */
#define ANDN "\xc4\xe2\x78\xf2\xc1" /* andn eax, eax, ecx */
#define TZCNT "\xf3\x0f\xbc\xc1"    /* tzcnt eax, ecx; or bsf */
#define LZCNT "\xf3\x0f\xbd\xc1"    /* or bsr */
#define MOVBE "\x0f\x38\xf0\x06"    /* movbe eax, [esi] */
#define VZEROUPPER "\xc5\xf8\x77"
#define VZEROALL "\xc5\xfc\x77"
#define MASKLOAD "\xc4\xe2\x75\x8c\x06"	  /* vpmaskmovd ymm0, ymm1, [esi] */
#define MASKSTORE "\xc4\xe2\x75\x8e\x06"  /* vpmaskmovd [esi], ymm1, ymm0 */
#define GATHER "\xc4\xe2\x6d\x90\x04\x8e" /* vpgatherdd ymm0, [esi + ymm1 * 4], ymm2 */
#define VLDMXCSR "\xc5\xf8\xae\x16"	  /* vldmxcsr [esi] */

static bool all(const void *p, u8 x, size_t n)
{
	const u8 *b = p;

	for (size_t i = 0; i < n; i++)
		if (b[i] != x)
			return false;
	return true;
}

static void host_features(void **state)
{
	const u32 c1 = 1u << 28 | 1u << 12 | 1u << 29 | 1u << 22, b7 = 1u << 5 | 1u << 3 | 1u << 8;

	assert_null(vec_lacks(c1, b7, 1u << 5, 7));
	assert_null(vec_lacks(~0u, ~0u, ~0u, ~0ull));
	assert_string_equal(vec_lacks(c1 & ~(1u << 28), b7, 1u << 5, 7), "AVX");
	assert_string_equal(vec_lacks(c1 & ~(1u << 12), b7, 1u << 5, 7), "FMA");
	assert_string_equal(vec_lacks(c1, b7 & ~(1u << 8), 1u << 5, 7), "BMI2");
	assert_string_equal(vec_lacks(c1, b7, 0, 7), "LZCNT");
	assert_non_null(vec_lacks(c1, b7, 1u << 5, 3)); /* no YMM state */
	assert_null(soft_host_lacks(3));
}

/* What must be enabled (SDM vol. 2, 2.7), and what need not be. */
static void enabling(void **state)
{
	struct rig r;

	rig_open(&r, true);
	flat(&r);
	assert_int_equal(RUN(&r, VPXOR), X86_BP);
	assert_true(all(r.c->x.xmm[0], 0, 16) && all(r.c->x.ymmh[0], 0, 16));
	assert_true(all(r.c->x.ymmh[1], 0x22, 16));
	for (unsigned off = 0; off < 4; off++) {
		static const u64 cr0[] = { CR0_PE, CR0_PE, CR0_PE | CR0_TS, 0 };
		static const u64 cr4[] = { 0, CR4_OSXSAVE, CR4_OSXSAVE, CR4_OSXSAVE };
		static const u64 xcr0[] = { 7, 3, 7, 7 };
		const int want = off == 2 ? X86_NM : X86_UD;

		for (unsigned i = 0; i < 5; i++) {
			flat(&r);
			r.c->cr0 = cr0[off];
			r.c->cr4 = cr4[off];
			r.c->xcr0 = xcr0[off];
			r.c->r[X86_RSI] = DATA;
			assert_int_equal(i == 0	  ? RUN(&r, VADDPS)
					 : i == 1 ? RUN(&r, VZEROUPPER)
					 : i == 2 ? RUN(&r, MASKLOAD)
					 : i == 3 ? RUN(&r, GATHER)
						  : RUN(&r, VLDMXCSR),
					 want);
			assert_int_equal(r.c->rip, CODE);
		}
	}
	/* #UD before #NM */
	flat(&r);
	r.c->cr0 |= CR0_TS;
	r.c->xcr0 = 1;
	assert_int_equal(RUN(&r, VADDPS), X86_UD);
	/* EM and OSFXSR are about SSE. */
	flat(&r);
	r.c->cr0 |= CR0_EM;
	r.c->cr4 = CR4_OSXSAVE;
	assert_int_equal(RUN(&r, VPXOR), X86_BP);
	/* General registers need none of it but protected mode. */
	flat(&r);
	r.c->cr0 |= CR0_TS;
	r.c->cr4 = 0;
	r.c->r[X86_RAX] = 0xff0f;
	r.c->r[X86_RCX] = 0x1234567f;
	assert_int_equal(RUN(&r, ANDN), X86_BP);
	assert_int_equal(r.c->r[X86_RAX], 0x12340070);
	flat(&r);
	r.c->cr0 = 0;
	assert_int_equal(RUN(&r, ANDN), X86_UD);
	rig_close(&r);
}

/* The same bytes for x86-64-v2: other instructions, or none. */
static void older_model(void **state)
{
	static const u8 les[] = { 0xc4, 0x06 }; /* les eax, [esi] */
	struct rig r;

	for (int v3 = 0; v3 < 2; v3++) {
		rig_open(&r, v3);
		flat(&r);
		assert_int_equal(RUN(&r, VPXOR), v3 ? X86_BP : X86_UD);
		assert_int_equal(RUN(&r, VZEROUPPER), v3 ? X86_BP : X86_UD);
		assert_int_equal(RUN(&r, ANDN), v3 ? X86_BP : X86_UD);
		r.c->r[X86_RSI] = DATA;
		assert_int_equal(RUN(&r, MOVBE), v3 ? X86_BP : X86_UD);
		/* xsavec [esi] */
		assert_int_equal(RUN(&r, "\x0f\xc7\x26"), v3 ? X86_BP : X86_UD);
		/* jkzd k1, +0: a conditional branch to the decoder; vpclmulqdq: in no model */
		assert_int_equal(RUN(&r, "\xc5\xf0\x74\x00"), X86_UD);
		assert_int_equal(RUN(&r, "\xc4\xe3\x71\x44\xc2\x00"), X86_UD);
		r.c->r[X86_RAX] = 77;
		r.c->r[X86_RCX] = 0;
		assert_int_equal(RUN(&r, TZCNT), X86_BP);
		assert_int_equal(r.c->r[X86_RAX], v3 ? 32 : 77);
		assert_int_equal(r.c->fl & (X86_CF | X86_ZF), v3 ? X86_CF : X86_ZF);
		r.c->r[X86_RCX] = 0x10;
		assert_int_equal(RUN(&r, LZCNT), X86_BP);
		assert_int_equal(r.c->r[X86_RAX], v3 ? 27 : 4);
		/* With a memory operand C4 is LES: the selector there is not a good one. */
		assert_int_equal(mem_write(r.mem, DATA, "\1\0\0\0\x99\0", 6), 0);
		assert_int_equal(rig_run(&r, les, sizeof(les)), X86_GP);
		assert_int_equal(r.err, 0x98);
		rig_close(&r);
	}
}

/* Outside 64-bit mode the upper eight registers keep their value. */
static void zeroing(void **state)
{
	struct rig r;

	rig_open(&r, true);
	flat(&r);
	assert_int_equal(RUN(&r, VZEROUPPER), X86_BP);
	assert_true(all(r.c->x.ymmh[0], 0, 8 * 16) && all(r.c->x.ymmh[8], 0x22, 8 * 16));
	assert_true(all(r.c->x.xmm, 0x11, 16 * 16));
	flat(&r);
	assert_int_equal(RUN(&r, VZEROALL), X86_BP);
	assert_true(all(r.c->x.ymmh[0], 0, 8 * 16) && all(r.c->x.ymmh[8], 0x22, 8 * 16));
	assert_true(all(r.c->x.xmm[0], 0, 8 * 16) && all(r.c->x.xmm[8], 0x11, 8 * 16));
	rig_close(&r);
}

/* Beyond a segment's limit only what is masked in counts. */
static void masked_out(void **state)
{
	struct rig r;
	u32 mask[8] = { 0 };

	rig_open(&r, true);
	for (unsigned on = 0; on <= 8; on++) {
		flat(&r);
		r.c->seg[X86_DS].limit = DATA + 15; /* four elements */
		r.c->r[X86_RSI] = DATA;
		for (unsigned i = 0; i < 8; i++)
			mask[i] = i < on ? ~0u : 0;
		memcpy(r.c->x.xmm[1], mask, 16);
		memcpy(r.c->x.ymmh[1], mask + 4, 16);
		assert_int_equal(RUN(&r, MASKSTORE), on <= 4 ? X86_BP : X86_GP);
		assert_int_equal(RUN(&r, MASKLOAD), on <= 4 ? X86_BP : X86_GP);
		if (on == 2)
			assert_true(all(r.c->x.xmm[0], 0x11, 8) && all(r.c->x.xmm[0] + 8, 0, 8));
	}
	/* A 16-bit address is cut before elements are counted from it: vpmaskmovd [si], ymm1, ymm0 */
	for (unsigned on = 0; on <= 8; on++) {
		flat(&r);
		r.c->seg[X86_DS].limit = 0xffff;
		r.c->r[X86_RSI] = 0x1fff0;
		for (unsigned i = 0; i < 8; i++)
			mask[i] = i < on ? ~0u : 0;
		memcpy(r.c->x.xmm[1], mask, 16);
		memcpy(r.c->x.ymmh[1], mask + 4, 16);
		assert_int_equal(RUN(&r, "\x67\xc4\xe2\x75\x8e\x04"), on <= 4 ? X86_BP : X86_GP);
	}
	rig_close(&r);
}

/* XSETBV: AVX only with SSE; XSAVEC and XRSTOR carry the upper halves. */
static void saving(void **state)
{
	static const u8 xsetbv[] = { 0x0f, 0x01, 0xd1 };
	struct rig r;

	rig_open(&r, true);
	for (u64 v = 0; v < 16; v++) {
		flat(&r);
		r.c->r[X86_RAX] = v;
		assert_int_equal(rig_run(&r, xsetbv, sizeof(xsetbv)),
				 v == 1 || v == 3 || v == 7 ? X86_BP : X86_GP);
	}
	flat(&r);
	r.c->r[X86_RSI] = DATA;
	r.c->r[X86_RAX] = 7;
	/* xsavec [esi]; vzeroall; xrstor [esi] */
	assert_int_equal(RUN(&r, "\x0f\xc7\x26" VZEROALL "\x0f\xae\x2e"), X86_BP);
	assert_true(all(r.c->x.ymmh, 0x22, 16 * 16) && all(r.c->x.xmm, 0x11, 16 * 16));
	/* The component in its initial configuration is not stored, and is restored as that. */
	flat(&r);
	r.c->r[X86_RSI] = DATA;
	r.c->r[X86_RAX] = 4;
	assert_int_equal(RUN(&r, VZEROUPPER "\x0f\xc7\x26" VPXOR "\x0f\xae\x2e"), X86_BP);
	assert_true(all(r.c->x.ymmh[0], 0, 8 * 16));
	rig_close(&r);
}

/* --- beside the host's CPU ----------------------------------------------------------------------- */

/* EBX points to data in diff_gen_raw's state. */
static const struct legacy {
	u8 len, b[12];
} legacy[] = {
	{ 5, { 0xc4, 0xe1, 0xf9, 0x6e, 0xc0 } },	     /* vmovq xmm0, rax: W is ignored */
	{ 5, { 0xc4, 0xe1, 0xf9, 0x7e, 0xc8 } },	     /* to eax */
	{ 5, { 0xc4, 0xe1, 0xf9, 0x7e, 0x0b } },	     /* to memory: 4 bytes */
	{ 6, { 0xc4, 0xe3, 0xf9, 0x16, 0xc8, 0x01 } },	     /* vpextrq */
	{ 6, { 0xc4, 0xe3, 0xf9, 0x16, 0x0b, 0x01 } },	     /* to memory */
	{ 6, { 0xc4, 0xe3, 0xf1, 0x22, 0xc0, 0x01 } },	     /* vpinsrq */
	{ 6, { 0xc4, 0xe3, 0xf1, 0x22, 0x03, 0x01 } },	     /* from memory */
	{ 5, { 0xc4, 0xe1, 0xfb, 0x2a, 0xc0 } },	     /* vcvtsi2sd xmm0, xmm0, rax */
	{ 5, { 0xc4, 0xe1, 0xfa, 0x2a, 0x03 } },	     /* vcvtsi2ss from memory */
	{ 5, { 0xc4, 0xe1, 0xfb, 0x2d, 0xc1 } },	     /* vcvtsd2si rax, xmm1 */
	{ 5, { 0xc4, 0xe1, 0xfa, 0x2c, 0xc1 } },	     /* vcvttss2si */
	{ 5, { 0xc4, 0xe2, 0xf5, 0x45, 0xc2 } },	     /* vpsrlvq: W is the opcode's */
	{ 5, { 0xc4, 0xe2, 0xf5, 0x98, 0xc2 } },	     /* vfmadd132pd: the same */
	{ 5, { 0xc4, 0xe2, 0xfd, 0x8e, 0x03 } },	     /* vpmaskmovq */
	{ 5, { 0xc4, 0xe1, 0x31, 0xfe, 0xc1 } },	     /* vpaddd, VEX.vvvv = 9: 1 */
	{ 5, { 0xc4, 0xc1, 0x71, 0xfe, 0xc1 } },	     /* VEX.B: nothing */
	{ 6, { 0xc4, 0xe3, 0x71, 0x4c, 0xc2, 0xb0 } },	     /* vpblendvb, register 11: 3 */
	{ 6, { 0xc4, 0xe3, 0x75, 0x4b, 0xc2, 0xf0 } },	     /* vblendvpd, register 15: 7 */
	{ 6, { 0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x8b } },	     /* vpgatherdd */
	{ 3, { 0xc5, 0xf8, 0x77 } },			     /* vzeroupper */
	{ 3, { 0xc5, 0xfc, 0x77 } },			     /* vzeroall */
	{ 5, { 0xc4, 0xe2, 0xf0, 0xf2, 0xc2 } },	     /* andn, W is ignored */
	{ 5, { 0xc4, 0xe2, 0xfb, 0xf6, 0xc2 } },	     /* mulx */
	{ 6, { 0xc4, 0xe3, 0xfb, 0xf0, 0xc2, 0x25 } },	     /* rorx: 37 of 32 bits */
	{ 5, { 0xc4, 0xe2, 0xf2, 0xf7, 0xc2 } },	     /* sarx */
	{ 5, { 0xc4, 0xe2, 0x30, 0xf2, 0xc2 } },	     /* andn, VEX.vvvv = 9: 1 */
	{ 4, { 0xf3, 0x0f, 0xbc, 0x03 } },		     /* tzcnt eax, [ebx] */
	{ 5, { 0x66, 0x0f, 0x38, 0xf1, 0x03 } },	     /* movbe [ebx], ax */
	{ 5, { 0x66, 0xc5, 0xf9, 0xef, 0xc0 } },	     /* 66 before VEX: #UD */
	{ 5, { 0xf0, 0xc5, 0xf9, 0xef, 0xc0 } },	     /* LOCK */
	{ 5, { 0x65, 0xc5, 0xf9, 0xef, 0xc0 } },	     /* a segment is none of its business */
	{ 5, { 0x67, 0xc5, 0xfd, 0xef, 0x07 } },	     /* [bx] */
	{ 7, { 0x67, 0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x8b } }, /* a gather there: #UD */
};

/* In 64-bit mode first: the same bytes may name other registers there. */
static void compatibility_mode(void **state)
{
	static struct diff_seq q;
	static struct diff_result n;

	native_arm();
	for (unsigned i = 0; i < 2 * ARRAY_LEN(legacy); i++) {
		diff_gen_raw(&q, legacy[i / 2].b, legacy[i / 2].len, DIFF_CODE + 0x100);
		q.mode = i % 2 ? DIFF_32 : DIFF_64;
		for (unsigned k = 0; k < 16; k++) {
			memset(q.ymmh[k], (int)(0x81 + 7 * k), 16);
			/* Registers 8 apart differ in the sign, by which VBLENDV chooses. */
			memset(q.init.fx.xmm[k], (int)(0x21 * k ^ (k & 8) << 4), 16);
		}
		memset(q.init.fx.xmm[1], 0, 16); /* small indices for the gather */
		memset(q.ymmh[1], 0, 16);
		if (!diff_check_result(&q, stderr, &n) || n.end != DIFF_EXC) {
			diff_print(&q, stderr);
			fail_msg("row %u, %s", i / 2, i % 2 ? "32-bit" : "64-bit");
		}
	}
}

#define EXIT_SKIP 77

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(host_features),      cmocka_unit_test(enabling),
		cmocka_unit_test(older_model),	      cmocka_unit_test(zeroing),
		cmocka_unit_test(masked_out),	      cmocka_unit_test(saving),
		cmocka_unit_test(compatibility_mode),
	};
	int ret;

	if (soft_host_lacks(XCR0_AVX)) {
		printf("SKIP: this host has no %s; a host with all of x86-64-v3 would un-skip it\n",
		       soft_host_lacks(XCR0_AVX));
		return EXIT_SKIP;
	}
	setenv("DIFF_MODEL", "v3", 1);
	if (guest_open()) {
		fprintf(stderr, "cannot set up the soft engine\n");
		return 1;
	}
	if (native_open()) {
		printf("SKIP: this host's kernel does not enable the FSGSBASE instructions for user "
		       "programs; Linux 5.9 or newer on a CPU with FSGSBASE would un-skip it\n");
		return EXIT_SKIP;
	}
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	guest_close();
	native_close();
	return ret;
}
