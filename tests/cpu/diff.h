/* SPDX-License-Identifier: Apache-2.0 */
/*
 * diff.h - differential CPU test: shared shapes of the generator, the runners and the comparer
 *
 * How it works
 * A sequence is a handful of user-mode instructions, an initial register state and the contents
 * of a few pages. The same bytes run at the same virtual addresses with the same page
 * permissions, once on the host's own CPU (native.c) and once on the soft engine (guest.c).
 * Both end at the first exception; a HLT behind the last instruction (#GP at CPL 3) is the
 * regular end, so "the outcome" is always an exception and needs no separate protocol.
 * Sequence number i of a seed is a pure function of (seed, i): any finding is reproduced alone.
 */
#ifndef ORR_TESTS_CPU_DIFF_H
#define ORR_TESTS_CPU_DIFF_H

#include "base/compiler.h"
#include "isa/x86/state.h"

#include <stdio.h>

/* --- memory ------------------------------------------------------------------------------- */

#define DIFF_CODE 0x10000000ull	  /* 2 pages, read + execute; unmapped behind */
#define DIFF_SMC 0x18000000ull	  /* 1 page, read + write + execute */
#define DIFF_DATA 0x20000000ull	  /* 4 pages read + write, then 1 read only, then unmapped */
#define DIFF_RO 0x20004000ull	  /* the read-only page */
#define DIFF_ISLAND 0x20008000ull /* 1 page read + write between unmapped ones */
#define DIFF_STACK 0x20010000ull  /* 2 pages read + write between unmapped ones */

#define DIFF_CODE_PAGES 2
#define DIFF_PAGES 11 /* of all regions, in the order of diff_regions */
#define DIFF_MEM (DIFF_PAGES * 4096)

struct diff_region {
	u64 va;
	unsigned pages;
	bool w, x;
	const char *name;
};

#define DIFF_REGIONS 6
extern const struct diff_region diff_regions[DIFF_REGIONS];

/* --- state -------------------------------------------------------------------------------- */

#define DIFF_FX 512

/* Linux's user selectors, which user code can read. DS and ES hold SEL_SS in both runs. */
#define DIFF_CS 0x33
#define DIFF_CS32 0x23
#define DIFF_SS 0x2b

enum diff_end {
	DIFF_EXC,     /* ended by an exception: the normal case */
	DIFF_TIMEOUT, /* did not end in time */
	DIFF_SKIP,    /* cannot be compared (made a host system call) */
	DIFF_BROKEN,  /* the engine stopped for another reason */
};

/* FXSAVE64 image (SDM vol. 1, table 10-2). */
struct diff_fx {
	u16 fcw, fsw;
	u8 ftw, rsvd1;
	u16 fop;
	u64 fip, fdp;
	u32 mxcsr, mxcsr_mask;
	u8 st[8][16];
	u8 xmm[16][16];
	u8 rsvd2[96];
} attr_aligned(64);
_Static_assert(sizeof(struct diff_fx) == DIFF_FX, "FXSAVE image");

struct diff_state {
	struct diff_fx fx;
	u64 r[16];
	u64 rip, rflags, fsbase, gsbase;
};

struct diff_result {
	struct diff_state s;
	enum diff_end end;
	u8 vector;
	u32 err;	 /* error code, 0 where the vector has none */
	u8 ymmh[16][16]; /* upper halves of YMM registers; zero without diff_v3 */
	u64 cr2;	 /* of #PF, else 0 */
};

/* --- sequences ---------------------------------------------------------------------------- */

#define DIFF_INSNS_MAX 24
#define DIFF_INSN_BYTES 64

/* One instruction, perhaps with helpers before and behind that stay with it. */
struct diff_insn {
	u8 b[DIFF_INSN_BYTES];
	u8 len;	      /* of all bytes */
	u8 at;	      /* where the instruction itself begins in b */
	u8 ilen;      /* length of the instruction itself */
	u8 rel_at;    /* offset in b of a relative displacement, 0: none */
	u8 rel_size;  /* 1, 2 or 4 bytes */
	s8 target;    /* index of the instruction a branch goes to (> own index), -1: none */
	bool rip_rel; /* rel_at/4 is a RIP-relative displacement to @rip_target */
	u64 rip_target;
	u16 mnemonic;  /* ZydisMnemonic, 0: not decodable */
	u32 tested;    /* arithmetic flags read */
	u32 defined;   /* arithmetic flags always written with a defined value */
	u32 undefined; /* arithmetic flags that may become undefined */
	bool stops;    /* control never falls through */
	bool mmx;      /* has an MMX register operand */
	bool indirect; /* may continue behind any CALL of the sequence */
};

struct diff_seq {
	u64 seed, index;
	struct diff_insn insn[DIFF_INSNS_MAX];
	unsigned n;
	u64 base;    /* virtual address of the first instruction */
	bool no_end; /* runs off the end of the code region instead of into HLT */
	bool compat; /* 32-bit code, in compatibility mode */
	struct diff_state init;
	u8 ymmh[16][16];  /* part of it with diff_v3 */
	u8 mem[DIFF_MEM]; /* initial contents; the code pages are filled by diff_layout */
	/* filled by diff_layout */
	u64 va[DIFF_INSNS_MAX + 1];	  /* of each instruction's bytes, and of the end */
	u32 undef_in[DIFF_INSNS_MAX + 1]; /* flags undefined before each */
};

/* Whether the CPU model is x86-64-v3 (DIFF_MODEL=v3 in the environment) and not v2. */
bool diff_v3(void);

/* What the generator may draw from: 0-terminated list of mnemonics, or NULL for all. */
struct diff_cfg {
	const u16 *only;
	unsigned max_insns; /* 1..DIFF_INSNS_MAX - 2 */
};

/* Makes sequence @index of @seed, and lays it out. */
void diff_gen(struct diff_seq *q, const struct diff_cfg *cfg, u64 seed, u64 index);
/* A sequence of given machine code with a plain initial state; for directed tests. */
void diff_gen_raw(struct diff_seq *q, const u8 *code, size_t len, u64 va);
/* Places the instructions, resolves displacements, computes undefined flags, fills code pages. */
void diff_layout(struct diff_seq *q);
/* Decodes insn @d (bytes at, ilen) for its mnemonic and flag effects; false: not decodable. */
bool diff_classify(struct diff_insn *d);

/* Offset in the memory image of virtual address @va, or -1. */
long diff_offset(u64 va);

/* --- runners ------------------------------------------------------------------------------ */

/* Each runs q->mem (copied) from q->init; the end contents are in *_mem() until the next run. */
int native_open(void); /* after guest_open: the engine's SIGFPE handler is kept behind ours */
/* Puts the signal handlers in place again, after others have changed them. */
int native_arm(void);
void native_run(const struct diff_seq *q, struct diff_result *ret);
const u8 *native_mem(void);
void native_close(void);

int guest_open(void);
void guest_run(const struct diff_seq *q, struct diff_result *ret);
void guest_fetch_mem(u8 *dst);	  /* DIFF_MEM bytes */
u64 guest_stat(const char *name); /* a counter of soft_stats */
void guest_close(void);

/* --- comparing ---------------------------------------------------------------------------- */

/* Runs @q on both; true if they agree. Differences go to @out (may be NULL), one a line. */
bool diff_check(const struct diff_seq *q, FILE *out);
/* As diff_check; also tells how the native run ended. */
bool diff_check_result(const struct diff_seq *q, FILE *out, struct diff_result *ret_native);
/* Compares the host with itself instead, to test the test. */
void diff_native_twice(bool on);
/* Removes instructions while the runs still differ. */
void diff_minimise(struct diff_seq *q);
void diff_print(const struct diff_seq *q, FILE *out);
/* The program behind test_diff and fuzz_cpu. */
int diff_main(int argc, char **argv, u64 default_count);

#endif
