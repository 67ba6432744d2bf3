/* SPDX-License-Identifier: Apache-2.0 */
/*
 * diff.h - differential CPU test: shared shapes of the generator, the runners and the comparer
 *
 * How it works
 * A sequence is a handful of user-mode instructions, an initial register state and the contents
 * of a few pages. The same bytes run at the same virtual addresses with the same page
 * permissions on the host's own CPU (native.c) and on the soft engine, interpreted and
 * translated (guest.c). A run goes from exception to exception: behind one it continues with the
 * next instruction, a few times, then it ends. A HLT behind the last instruction (#GP at CPL 3) is
 * the regular end, so "the outcome" is always an exception and needs no separate protocol. What a
 * run was at each exception is its trace; traces are what is compared.
 * Sequence number i of a seed is a pure function of (seed, i): any finding is reproduced alone.
 */
#ifndef ORR_TESTS_CPU_DIFF_H
#define ORR_TESTS_CPU_DIFF_H

#include "base/compiler.h"
#include "isa/x86/state.h"

#include <stdio.h>

/* --- memory ------------------------------------------------------------------------------- */

#define DIFF_CODE 0x10000000ull	  /* 2 pages, read + execute; unmapped behind */
#define DIFF_SMC 0x18000000ull	  /* 2 pages, read + write + execute */
#define DIFF_DATA 0x20000000ull	  /* 4 pages read + write, then 1 read only, then unmapped */
#define DIFF_RO 0x20004000ull	  /* the read-only page */
#define DIFF_ISLAND 0x20008000ull /* 1 page read + write between unmapped ones */
#define DIFF_STACK 0x20010000ull  /* 2 pages read + write between unmapped ones */
#define DIFF_FUEL 0x28000000ull	  /* 1 page read + write, far from all: what bounds loops */

#define DIFF_CODE_PAGES 2
#define DIFF_PAGES 13 /* of all regions, in the order of diff_regions */
#define DIFF_MEM (DIFF_PAGES * 4096)

/* In the page of DIFF_FUEL: how often branches may go back, and where RCX is meanwhile. */
#define DIFF_FUEL_COUNT DIFF_FUEL
#define DIFF_FUEL_RCX (DIFF_FUEL + 64)
/* In pages with code, behind it: data that code may read and write. */
#define DIFF_MIXED 0xc00u

struct diff_region {
	u64 va;
	unsigned pages;
	bool w, x;
	const char *name;
};

#define DIFF_REGIONS 7
extern const struct diff_region diff_regions[DIFF_REGIONS];

/* --- state -------------------------------------------------------------------------------- */

#define DIFF_FX 512

/* Linux's user selectors, which user code can read. DS and ES hold SEL_SS in both runs. */
#define DIFF_CS 0x33
#define DIFF_CS32 0x23
#define DIFF_SS 0x2b

/*
 * 16-bit code runs in segments of a local descriptor table: code at DIFF_CODE (or DIFF_SMC), data at
 * DIFF_DATA, stack at DIFF_STACK, all of 64 KiB.
 */
#define DIFF_CS16 0x07
#define DIFF_DS16 0x0f
#define DIFF_SS16 0x17
#define DIFF_CS16_SMC 0x1f

enum diff_mode { DIFF_64, DIFF_32, DIFF_16 };

#define DIFF_PTES_MAX 40

enum diff_end {
	DIFF_EXC,     /* ended by an exception: the normal case */
	DIFF_TIMEOUT, /* did not end in time */
	DIFF_SKIP,    /* cannot be compared (made a host system call) */
	DIFF_LIMIT,   /* the given number of instructions is done */
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
	/* Of the soft engine only. */
	u64 insns;		 /* executed so far */
	u64 ptes[DIFF_PTES_MAX]; /* what the page tables have become: accessed and dirty bits */
};

/* The exceptions that a run continues behind, and the one that ends it. */
#define DIFF_STOPS 6

struct diff_trace {
	unsigned n;
	bool strayed; /* the sequence made code of its own that cannot be compared with the host */
	struct diff_result r[DIFF_STOPS];
	u8 mem[DIFF_STOPS][DIFF_MEM];
};

/* --- sequences ---------------------------------------------------------------------------- */

#define DIFF_INSNS_MAX 40
#define DIFF_INSN_BYTES 80

/* What the bytes at rel_at become. */
enum diff_fix {
	FIX_NONE,
	FIX_BRANCH, /* displacement to instruction @target, @target_off bytes into it */
	FIX_RIP,    /* displacement to @rip_target */
	FIX_ABS,    /* the address of the same, 4 bytes */
};

/* One instruction, perhaps with helpers before and behind that stay with it. */
struct diff_insn {
	u8 b[DIFF_INSN_BYTES];
	u8 len;	     /* of all bytes */
	u8 at;	     /* where the instruction itself begins in b */
	u8 ilen;     /* length of the instruction itself */
	u8 fix;	     /* enum diff_fix */
	u8 rel_at;   /* offset in b of what fix says */
	u8 rel_end;  /* what a displacement counts from */
	u8 rel_size; /* 1, 2 or 4 bytes */
	s8 target;   /* index of the instruction meant, -1: not chosen */
	u8 target_off;
	bool back;    /* @target may be at or before this instruction: it is bounded */
	bool reaches; /* control may go to @target */
	bool inner;   /* a branch may go one byte into it: that is another instruction */
	u8 patch_at;  /* offset in b of a byte that may be changed while the code runs; 0: none */
	u64 rip_target;
	u16 mnemonic;  /* ZydisMnemonic, 0: not decodable */
	u8 mode;       /* enum diff_mode */
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
	u64 base;    /* virtual address of the first instruction, in DIFF_CODE or DIFF_SMC */
	bool no_end; /* runs off the end of the code region instead of into HLT */
	u8 mode;     /* enum diff_mode */
	/*
	 * Instructions may read flags that are undefined: what the tiers must agree in, but not the
	 * host's CPU.
	 */
	bool tiers_only;
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
	u8 modes;	    /* bits of enum diff_mode that may come up */
};

/* Makes sequence @index of @seed, and lays it out. */
void diff_gen(struct diff_seq *q, const struct diff_cfg *cfg, u64 seed, u64 index);
/* A sequence of given machine code with a plain initial state; for directed tests. */
void diff_gen_raw(struct diff_seq *q, const u8 *code, size_t len, u64 va);
/* Places the instructions, resolves displacements, computes undefined flags, fills code pages. */
void diff_layout(struct diff_seq *q);
/* Decodes insn @d (bytes at, ilen) for its mnemonic and flag effects; false: not decodable. */
bool diff_classify(struct diff_insn *d);
/*
 * Whether host and CPU model agree in what it does, and it leaves no flag undefined. What the decoder
 * does not know a newer host may.
 */
bool diff_comparable(struct diff_insn *d);
/* What RIP counts from: the base of the code segment. */
u64 diff_cs_base(const struct diff_seq *q);

/* Offset in the memory image of virtual address @va, or -1. */
long diff_offset(u64 va);

/* --- runners ------------------------------------------------------------------------------ */

/*
 * A run: start (memory and registers from @q), then go until it stops, then perhaps resume and go
 * again. In results RIP is a linear address. Changed registers on resuming: @rip, the arithmetic
 * flags @flags; RF and TF are cleared, DS and ES are as at the start.
 */
int native_open(void); /* after guest_open: the engine's SIGFPE handler is kept behind ours */
/* Puts the signal handlers in place again, after others have changed them. */
int native_arm(void);
bool native_has_16(void); /* the host's kernel offers 16-bit segments */
void native_start(const struct diff_seq *q);
void native_go(const struct diff_seq *q, struct diff_result *ret);
void native_resume(const struct diff_seq *q, const struct diff_result *from, u64 rip, u32 flags);
const u8 *native_mem(void);
bool native_owns(u64 va); /* what the sequence reads there is this program's */
void native_close(void);

enum diff_tier { DIFF_INTERP, DIFF_JIT, DIFF_MIX, DIFF_TIERS };

int guest_open(void);
/* @cold: with an empty TLB, and no page accessed or dirty. */
void guest_start(enum diff_tier t, const struct diff_seq *q, bool cold);
/* Executes at most @insns instructions. */
void guest_go(enum diff_tier t, const struct diff_seq *q, u64 insns, struct diff_result *ret);
void guest_resume(enum diff_tier t, const struct diff_seq *q, u64 rip, u32 flags);
void guest_fetch_mem(enum diff_tier t, u8 *dst); /* DIFF_MEM bytes */
/* The byte at offset @off of that. */
u8 guest_byte(enum diff_tier t, long off);
bool guest_mem_equal(enum diff_tier a, enum diff_tier b);
u64 guest_stat(enum diff_tier t, const char *name); /* a counter of soft_stats */
void guest_close(void);

/* --- comparing ---------------------------------------------------------------------------- */

/* How much work a check does. */
struct diff_effort {
	bool native;	  /* also on the host's CPU */
	unsigned hot;	  /* how often the mixed tiers run it; 0: not */
	unsigned budgets; /* how many counts of instructions the tiers are stopped at */
	u64 seed;	  /* of those */
};

/* Effort for sequence @q: mostly little, sometimes much. */
struct diff_effort diff_effort_of(const struct diff_seq *q);
/* Runs @q; true if all runs agree. Differences go to @out (may be NULL), one a line. */
bool diff_check(const struct diff_seq *q, const struct diff_effort *e, FILE *out);
/* As diff_check with the host and little effort; also tells how the host's first stop was. */
bool diff_check_result(const struct diff_seq *q, FILE *out, struct diff_result *ret_native);
/* Of the last check, by the host's CPU (or the interpreter, where that one did not run). */
const struct diff_trace *diff_last(void);
/* Compares the host with itself instead, to test the test. */
void diff_native_twice(bool on);
/* Compares flags that the manual leaves undefined as well. */
void diff_all_flags(bool on);

/* --- diff_min.c, diff_main.c ---------------------------------------------------------------- */

/* Removes instructions from @q while @fails (@opaque, .) says that it still fails. */
void diff_minimise(struct diff_seq *q, bool (*fails)(void *opaque, const struct diff_seq *q),
		   void *opaque);
void diff_print(const struct diff_seq *q, FILE *out);
/* The program behind test_diff and fuzz_cpu. */
int diff_main(int argc, char **argv, u64 default_count);

#endif
