/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vcpu.h - the engine's view of one x86-64 vCPU: software TLB, blocks, budget
 *
 * How it works
 *
 * Blocks. Straight-line guest code is decoded once into a block: an array of struct op, each with
 * a handler. Blocks are found by guest-physical address and code size (16, 32, 64 bits), so
 * that address spaces share them; per vCPU a small cache (`jc`) finds them by linear address.
 * A block ends at a control transfer, at an instruction that may change what the loop around it
 * must look at (interrupt flag, time, mode, devices), at the page's end, or at BLOCK_OPS.
 *
 * Budget. `budget` is the number of instructions left in this turn. Entering a block takes its
 * whole count away at once; leaving early (a fault) gives the rest back. A block longer than the
 * budget is run in part. So a turn ends after an exact number of instructions in every tier.
 * Instructions that read the clock or can move a deadline are always the last of their block (or
 * run alone, see below), so the number of instructions before them is `start - budget - 1`.
 *
 * Accesses. The TLB maps a linear page to a host address per privilege (user, supervisor,
 * supervisor with EFLAGS.AC). Only RAM pages are in it; pages that hold decoded code are never
 * in it for writing. What misses goes through mem_ld/mem_st, which translate, check, fill. An
 * access to a device must run alone, since it may arm a timer: in the middle of a block the
 * access is abandoned before it happens, and the loop runs that one instruction by itself.
 * Handlers therefore change no state before their last access that can fail.
 *
 * Faults leave handlers by longjmp to the loop (vcpu_run) with the precise RIP.
 */
#ifndef ORR_CPU_SOFT_X86_VCPU_H
#define ORR_CPU_SOFT_X86_VCPU_H

#include "isa/x86/state.h"
#include "isa/x86/sys.h"

#include <setjmp.h>

struct soft;
struct vcpu;
struct op;

/*
 * A handler executes its instruction and returns the next op to run, or NULL to return to the
 * loop with c.rip set. Where the compiler turns calls in tail position into jumps, a handler
 * calls the next one itself (see NEXT).
 */
typedef const struct op *(*op_fn)(struct vcpu *v, const struct op *op);

/* struct op.flags */
#define OPF_EASLOW 0x01 /* address needs ea_slow: 16/32-bit addressing, segment checks */
#define OPF_A16 0x02
#define OPF_A32 0x04
#define OPF_SS 0x08  /* the memory operand is on the stack segment: #SS, not #GP */
#define OPF_MEM 0x10 /* the r/m operand is in memory */
#define OPF_O16 0x20 /* operand size 16 */
#define OPF_REPNE 0x80

struct op {
	op_fn fn;
	union {
		s64 imm;
		const void *ptr; /* struct vec_insn for vector instructions */
	};
	s32 disp;
	u16 ip;		       /* offset of the instruction from the block's start */
	u8 len;		       /* bytes */
	u8 idx;		       /* instructions before it in the block */
	u8 base, index, scale; /* numbers into r[] */
	u8 seg;		       /* index into segbase[]; X86_SEGS: none */
	u8 dst, src; /* byte offsets of registers in r[] (high bytes have odd ones), or numbers */
	u8 flags;
	u8 aux; /* handler's own: operand size, condition, register number */
};
_Static_assert(sizeof(struct op) == 32, "two ops per cache line");

#define BLOCK_OPS 32 /* less than the window of jump_to's returns */

enum code_mode { CODE_16, CODE_32, CODE_64 };

/*
 * A direct branch of translated code. Host code jumps through `to_code`. A target in the same page
 * is the same code under every translation that reaches the branch; one in another page only
 * while `key` is what the cache of blocks would know it by.
 */
struct block_link {
	const void *to_code;		  /* the target's code, or `resolve` */
	const void *resolve;		  /* host code that asks for the link to be made */
	const void *look_up;		  /* host code that looks the target up, or may */
	gpa_t gpa;			  /* of the target, if it is in the same page; else 0 */
	u64 key;			  /* as jc_entry, if it is in another page */
	u32 made;			  /* how often */
	struct block *to;		  /* once it is made */
	struct block_link *next, **prevp; /* among the links to `to` */
};

struct region;

struct block {
	gpa_t gpa;
	gpa_t gpa2; /* page of the second part if the (only) instruction crosses a page, or 0 */
	struct block *hash_next;
	struct block *page_next, *page2_next;
	struct block **page_prev, **page2_prev; /* what points at it in these lists */
	u32 bytes;				/* of this allocation */
	struct block_link *incoming;
	u64 jc_rip;   /* RIP under which per-vCPU caches know it, 0 if none does */
	u16 len;      /* bytes */
	u8 n;	      /* instructions */
	u8 mode;      /* enum code_mode */
	bool jc_many; /* known under more than one RIP */
	bool dead;
	bool refused; /* the translator cannot do anything with it, or must not */
	bool stops;   /* a debugger may want to stop where it begins */
	u32 heat;     /* executions before it was translated */
	op_fn fn0; /* the first instruction's own handler: ops[0].fn counts or enters host code */
	struct region *region; /* the host code that it is part of, or NULL */
	const void *code;      /* the way in for RIP in a register; or the way back to C */
	const void *near;      /* the way in with c.rip the page's address */
	struct op ops[];       /* n, then maybe a synthetic one that falls through */
};

/* The handler of instruction @k itself. */
static inline op_fn block_fn(const struct block *b, u64 k)
{
	return k ? b->ops[k].fn : b->fn0;
}

#define TLB_BITS 11
#define TLB_SIZE (1u << TLB_BITS)
static attr_inline u32 tlb_index(u64 a)
{
	return (u32)(a >> 12) & (TLB_SIZE - 1);
}
/* A tag that no access to slot @i can be near: its own index is another. */
#define TLB_NONE(i) ((u64)((i) ^ (TLB_SIZE / 2)) << 12)

struct tlb_entry {
	u64 rtag, wtag; /* linear page, or TLB_NONE of the slot */
	u8 *host;	/* of the page's first byte */
	u64 meta;	/* guest-physical page | TLB_GLOBAL | TLB_2M | TLB_1G */
};
#define TLB_GLOBAL 1ull
#define TLB_2M 2ull
#define TLB_1G 4ull
#define TLB_W 16ull /* may be written, and is dirty, whether or not it holds code */
/* A debugger watches place number WATCH_OF of the page: no tag is there, so that accesses take the slow way. */
#define TLB_WATCHED 128ull
#define TLB_WATCH_SHIFT 8
#define TLB_LISTED(global) (32ull << (global)) /* the slot is in this list of struct tlb */

enum tlb_kind { TLB_KERNEL, TLB_KERNEL_AC, TLB_USER, TLB_KINDS };

struct tlb {
	struct tlb_entry e[TLB_SIZE];
	/* Slots that may not be empty: those that had a local entry, those that had a global one. */
	u16 used[2][TLB_SIZE];
	u32 n_used[2];
	u64 large2m, large1g; /* which hashes of 2 MiB / 1 GiB areas have entries */
};

struct jc_entry {
	u64 key; /* rip ^ salt */
	struct block *b;
};
#define JC_BITS 14
#define JC_SIZE (1u << JC_BITS)
/* The lower bits of an index depend on the offset in the page only. */
#define JC_FOLD 6

/*
 * Pages that code was fetched from since they were last flushed, by open addressing. None is ever
 * evicted: when a page is walked for its code must not depend on what a tier looks up.
 */
struct itlb_entry {
	u64 key; /* linear page ^ salt */
	gpa_t gpa;
};
#define ITLB_SIZE 512u

/* Why handlers came back by longjmp. */
enum vcpu_leave { LEAVE_NONE, LEAVE_EXC, LEAVE_ALONE, LEAVE_TRIPLE };

/* Why host code was left. */
enum vcpu_exit {
	VCPU_EXIT_UNKNOWN, /* what follows is not translated, or not in the cache of blocks */
	VCPU_EXIT_LINK,	   /* nor is the target of a direct branch */
	VCPU_EXIT_BUDGET,
	VCPU_EXIT_ONE,	/* one instruction of the interpreter's, then back */
	VCPU_EXIT_LAST, /* the interpreter's instruction at a block's end */
	VCPU_EXIT_SLOW, /* a fault, a device, two pages, a page with code, ... */
	VCPU_EXITS,
};

/* Of the vector registers the host's are the guest's: none, XMM, YMM. */
enum live_xmm { LIVE_NONE, LIVE_XMM, LIVE_YMM = LIVE_XMM | 2 };

struct vcpu {
	struct x86_cpu c; /* first: handlers and thunks use either pointer */

	struct tlb_entry *tlb; /* the current one; an always-empty one when accesses need checks */
	s64 budget;	       /* instructions left in this turn */
	s64 start;	       /* budget when the turn began */
	s64 held;	       /* part of the budget put out of reach: budget + held are left */
	u64 total;	       /* instructions of earlier turns */
	u64 sti_at;	       /* vcpu_count just after the last STI that set IF */
	const struct block *cur;
	u64 jc_salt[2]; /* for addresses of the lower and upper half */
	u64 jit_salt;	/* the one for the half that RIP is in, while host code runs */
	/* Host code: see jit_priv.h. */
	const void *jit_exit;	/* where it leaves */
	const void *jit_x87;	/* makes the guest's x87 and XMM registers the host's */
	const void *jit_ymm;	/* YMM ones */
	const void *jit_xmm;	/* XMM ones */
	const void *jit_miss;	/* enters a translation into the TLB */
	const void *jit_lookup; /* goes on at the RIP in a register */
	const void *jit_next;	/* the same by way of C */
	const void *jit_resume; /* behind one instruction of the other tier */
	u64 jit_tmp;
	u64 host_rsp; /* of C, while host code runs */
	u32 host_mxcsr;
	u8 xmm_live; /* enum live_xmm, until host code is left */
	u8 x87_live; /* and so is the x87 state */

	bool alone;    /* running one instruction by itself: devices may be touched */
	bool attn;     /* something to look at before the next instruction */
	bool end_turn; /* PAUSE, or another vCPU woke */
	bool pause;    /* the turn ended by PAUSE: its rest passes as time */
	bool stepping; /* TF, or an instruction breakpoint is armed: one instruction at a time */
	bool sse_ok, x87_ok;   /* no #NM/#UD from CR0, CR4 */
	bool kernel_nonglobal; /* code was fetched from a non-global page of the upper half */
	u8 code_mode;
	u64 exec_2m, exec_1g; /* as tlb.large2m, large1g, for code */
	u64 data_break;	      /* DR6 bits of data breakpoints that this instruction hit */

	/* Where the loop goes on inside a block, valid while rip == resume_rip. */
	const struct block *resume;
	u64 resume_rip, resume_base;
	u32 resume_k;
	const struct block *part_of; /* what part_block is a part of */

	u64 legacy_cs_base; /* CS base that the cached RIPs were entered with, outside 64-bit mode */
	bool no_trap;	    /* this instruction takes no single-step trap (MOV SS, INT n) */
	struct tlb_entry *empty_tlb;

	struct soft *s;
	struct tlb *tlbs[TLB_KINDS];
	struct itlb_entry itlb[2][ITLB_SIZE]; /* by half of the address space */
	u32 itlb_n[2];
	u64 gen[2];
	u64 exec_bloom[16];
	jmp_buf env;

	/* An access that straddles pages or hits a device while a pointer is wanted. */
	u8 bounce[512] attr_aligned(64);
	u64 bounce_addr;
	u32 bounce_len;

	struct op one[2]; /* an instruction in the middle of host code, and the way back */
	struct op part[BLOCK_OPS + 2];
	struct block part_block;

	struct {
		u64 tlb_miss, io, alone, exc, intr, jc_miss, part, translated;
		u64 exits[VCPU_EXITS];
	} stat;

	struct jc_entry jc[JC_SIZE];
};

static inline struct vcpu *vcpu_of(struct x86_cpu *c)
{
	return (struct vcpu *)c;
}

/* Instructions executed by this vCPU; exact between blocks. */
static inline u64 vcpu_count(const struct vcpu *v)
{
	return v->total + (u64)(v->start - v->budget);
}

/* --- exec.c -------------------------------------------------------------------------------- */

extern const struct x86_ops vcpu_x86_ops;
/* A zeroed vCPU, with room for signal handlers' frames below it: it is host code's stack. */
struct vcpu *vcpu_alloc(void);
int vcpu_setup(struct vcpu *v, struct soft *s, unsigned index);
void vcpu_free(struct vcpu *v);

/*
 * Runs until the budget is used up, the vCPU halts, end_turn, or a stop is asked for.
 * Returns 0, or X86_SHUTDOWN after a triple fault.
 */
int vcpu_run(struct vcpu *v);
/* Derived state (TLB in use, code mode, salts, FPU availability) from architectural state. */
void vcpu_mode_changed(struct vcpu *v);
/* Leaves the current handler: c.exc is to be delivered at @op. */
attr_noreturn void vcpu_raise(struct vcpu *v, const struct op *op);
/* Leaves the current handler: delivery of an exception failed three times over. */
attr_noreturn void vcpu_triple(struct vcpu *v, const struct op *op);
/* Leaves the current handler: its instruction is to run again, alone. */
attr_noreturn void vcpu_alone(struct vcpu *v, const struct op *op);
static inline u64 op_rip(const struct vcpu *v, const struct op *op)
{
	return v->c.r[X86_BLOCK] + op->ip;
}

/* --- tlb.c --------------------------------------------------------------------------------- */

/* Slow paths of loads and stores; 1..8 bytes; they raise. */
u64 mem_ld(struct vcpu *v, const struct op *op, u64 a, unsigned n);
void mem_st(struct vcpu *v, const struct op *op, u64 a, unsigned n, u64 val);
/*
 * A pointer to @n bytes at @a for reading, or for reading and writing (@write; all bytes are
 * checked for writing first). May be v->bounce: then mem_commit writes it back.
 */
void *mem_ref(struct vcpu *v, const struct op *op, u64 a, unsigned n, bool write);
void mem_commit_slow(struct vcpu *v, const struct op *op);
/* Non-raising forms for the system semantics. 0 or X86_FAULT. */
int lin_ld(struct vcpu *v, u64 a, unsigned n, bool user, bool implicit, u64 *ret);
int lin_st(struct vcpu *v, u64 a, unsigned n, bool user, bool implicit, u64 val);
/*
 * The guest-physical address of code at linear address @a (fetch permission checked).
 * 0 or X86_FAULT.
 */
int vcpu_fetch(struct vcpu *v, u64 a, gpa_t *ret);

/*
 * For translated code: enters the translation of @a into the current TLB. The host address of
 * the @n bytes there, or NULL if the access is not a plain one (a fault, a device, two pages,
 * a page with code): then the interpreter is to make it.
 */
void *tlb_enter(struct vcpu *v, u64 a, unsigned n, bool write);

void tlb_flush_all(struct vcpu *v);
void tlb_flush_nonglobal(struct vcpu *v);
void tlb_flush_page(struct vcpu *v, u64 a);
/* Page @gpa now holds decoded code: no vCPU may have it for writing. */
void tlb_protect_code(struct soft *s, gpa_t gpa);
void jc_flush(struct vcpu *v, unsigned half);
/* Keeps the pages of soft_debug's places out of the fast paths; makes them pages like others again. */
void tlb_watch(struct soft *s);
void tlb_unwatch(struct soft *s);

/* --- block.c ------------------------------------------------------------------------------- */

/* The block at linear c.rip in the current mode, decoded now if need be. NULL: c.exc is set. */
struct block *block_get(struct vcpu *v);
/* The block at @gpa if it is known and in one page, or NULL. */
struct block *block_find(const struct soft *s, gpa_t gpa, enum code_mode mode);
/* Drops blocks that overlap [gpa, gpa+len). */
void blocks_invalidate(struct soft *s, gpa_t gpa, u64 len);
bool block_overlaps(const struct block *b, gpa_t gpa, u64 len);
bool page_has_code(const struct soft *s, gpa_t gpa);
/* Frees dropped blocks; call when no handler runs. */
void blocks_reap(struct soft *s);
void blocks_flush_all(struct soft *s);
/* Drops blocks with a byte at an offset in its page that has its bit set in @offsets (4096 bits). */
void blocks_drop_over(struct soft *s, const u64 *offsets);

/* --- compile.c ----------------------------------------------------------------------------- */

/*
 * Decodes a block that starts at c.rip in v->code_mode from @bytes (@avail of them). Fills @ops
 * (room for BLOCK_OPS + 1): one op an instruction, then a fall-through op unless the last
 * instruction transfers control. Returns the number of instructions, *ret_len bytes consumed,
 * *ret_nops ops; or 0 if the first instruction does not fit in @avail. What is no instruction
 * becomes an op that raises #UD (or #GP if longer than 15 bytes).
 */
struct compiler;
struct ZydisDecoder_;
/* The decoder for 64-bit code of the CPU model. */
const struct ZydisDecoder_ *compiler_decoder(const struct compiler *k);
int compiler_new(struct compiler **ret);
void compiler_free(struct compiler *k);
unsigned compile_block(struct vcpu *v, const u8 *bytes, unsigned avail, struct op *ops,
		       unsigned *ret_len, unsigned *ret_nops);

static attr_inline bool canonical(u64 a)
{
	return (u64)((s64)(a << 16) >> 16) == a;
}

/* Linear addresses wrap at 4 GiB outside long mode. */
static inline u64 lin_add(const struct vcpu *v, u64 a, u64 n)
{
	return x86_long_mode(&v->c) ? a + n : (u32)(a + n);
}

/* Fills @op with the one that goes on behind @prev. */
void op_fallthrough(struct op *op, const struct op *prev);

/* --- inline access ------------------------------------------------------------------------- */

u64 ea_slow(struct vcpu *v, const struct op *op, unsigned n, bool write);

/* Without OPF_EASLOW. */
static attr_inline u64 ea_flat(const struct vcpu *v, const struct op *op)
{
	return v->c.r[op->base] + (v->c.r[op->index] << op->scale) + (u64)(s64)op->disp +
	       v->c.segbase[op->seg];
}

static attr_inline u64 ea(struct vcpu *v, const struct op *op, unsigned n, bool write)
{
	if (unlikely(op->flags & OPF_EASLOW))
		return ea_slow(v, op, n, write);
	return ea_flat(v, op);
}

/* No host address is NULL; the compiler need not ask. */
static attr_inline void *tlb_host(const struct tlb_entry *e, u64 off)
{
	void *p = e->host + off;

	if (!p)
		__builtin_unreachable();
	return p;
}

static attr_inline void *tlb_rd(struct vcpu *v, u64 a, unsigned n)
{
	struct tlb_entry *e = &v->tlb[tlb_index(a)];

	u64 off = a - e->rtag;

	return likely(off <= 0x1000 - n) ? tlb_host(e, off) : NULL;
}

static attr_inline void *tlb_wr(struct vcpu *v, u64 a, unsigned n)
{
	struct tlb_entry *e = &v->tlb[tlb_index(a)];

	u64 off = a - e->wtag;

	return likely(off <= 0x1000 - n) ? tlb_host(e, off) : NULL;
}

#define DEF_LDST(T)                                                                                \
	static attr_inline T ld_##T(struct vcpu *v, const struct op *op, u64 a)                    \
	{                                                                                          \
		void *p = tlb_rd(v, a, sizeof(T));                                                 \
		return likely(p != NULL) ? *(T *)p : (T)mem_ld(v, op, a, sizeof(T));               \
	}                                                                                          \
	static attr_inline void st_##T(struct vcpu *v, const struct op *op, u64 a, T x)            \
	{                                                                                          \
		void *p = tlb_wr(v, a, sizeof(T));                                                 \
		if (likely(p != NULL))                                                             \
			*(T *)p = x;                                                               \
		else                                                                               \
			mem_st(v, op, a, sizeof(T), x);                                            \
	}
DEF_LDST(u8)
DEF_LDST(u16)
DEF_LDST(u32)
DEF_LDST(u64)

static attr_inline void *rmw(struct vcpu *v, const struct op *op, u64 a, unsigned n)
{
	void *p = tlb_wr(v, a, n);

	return likely(p != NULL) ? p : mem_ref(v, op, a, n, true);
}

static attr_inline void mem_commit(struct vcpu *v, const struct op *op, const void *p)
{
	if (unlikely(p == v->bounce))
		mem_commit_slow(v, op);
}

/* --- control flow between handlers ----------------------------------------------------------- */

/* gcc says so by a macro, clang by a feature. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(ORR_NO_TAILCALL)
#define ORR_NO_TAILCALL
#endif
#endif
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(ORR_NO_TAILCALL)
#define ORR_TAILCALL 1
#define NEXT return op[1].fn(v, op + 1)
#define GO(o) return (o)->fn(v, (o))
#else
#define ORR_TAILCALL 0
#define NEXT return op + 1
#define GO(o) return (o)
#endif

static attr_inline u32 jc_hash(u64 rip)
{
	return (u32)((rip ^ (rip >> JC_FOLD)) & (JC_SIZE - 1));
}

/*
 * Goes on at @rip: straight into the next block if it is known and fits the budget.
 *
 * Now and then it goes by way of the loop: a handler whose frame the compiler could not take down
 * before the next one runs would otherwise deepen the host's stack for as long as the guest likes.
 * A block takes at most BLOCK_OPS from the budget, so no 2048 instructions pass without a return.
 */
static attr_inline const struct op *jump_to(struct vcpu *v, u64 rip)
{
	struct jc_entry *e = &v->jc[jc_hash(rip)];

	v->c.rip = rip;
	if (likely(e->key == (rip ^ v->jc_salt[rip >> 63]))) {
		const struct block *b = e->b;
		if (likely(v->budget >= b->n)) {
			v->budget -= b->n;
			v->cur = b;
			v->c.r[X86_BLOCK] = rip;
			if (unlikely((v->budget & 0x7c0) == 0))
				return b->ops;
			GO(b->ops);
		}
	}
	return NULL;
}

/* As jump_to, unless the loop has something to look at. */
static attr_inline const struct op *jump_checked(struct vcpu *v, u64 rip)
{
	if (unlikely(v->attn | v->stepping | v->end_turn | v->c.shadow)) {
		v->c.rip = rip;
		return NULL;
	}
	return jump_to(v, rip);
}

/* Registers by byte offset in r[]. */
#define REG(T, off) (*(T *)((u8 *)v->c.r + (off)))

static attr_inline u64 next_rip(const struct vcpu *v, const struct op *op)
{
	return v->c.r[X86_BLOCK] + op->ip + op->len;
}

#endif
