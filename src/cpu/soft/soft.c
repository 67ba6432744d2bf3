/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft.c - turns of guest time
 *
 * How it works
 * There is one clock, in picoseconds, and execution order is time order. Busy vCPUs take turns of
 * about TURN_NS x mips instructions. While n vCPUs are busy, one instruction advances the clock by
 * 1 / (mips x n) microseconds, so each busy vCPU gets its full rate, and whatever executes later
 * sees a later time. The time at an instruction is
 *
 *     now_ps + used * 10^6 / (mips * n)      (used: instructions before it in this turn)
 *
 * A turn is cut short so that it ends at the exact instruction where the next timer is due:
 * ceil((deadline - now) * mips * n / 10^6). n is fixed during a turn; a vCPU that wakes another
 * ends its turn, so that an interprocessor interrupt arrives within a turn.
 *
 * PAUSE forfeits the rest of the turn: the clock goes on, nothing executes. A lone busy vCPU has
 * no one to share with; its turns are longer (fewer returns to this loop), and PAUSE forfeits only
 * up to the next multiple of a usual turn's length.
 *
 * When no vCPU is busy, the clock jumps to the next timer; with a live back end it waits there on
 * the host's clock. The real clock reads the host's monotonic time instead of counting.
 *
 * The seed feeds two generators: one varies turn lengths and who is next, one is the guest's
 * RDRAND. They are never mixed with anything of the host.
 */
#include "cpu/soft/soft.h"

#include "base/hosttime.h"
#include "cpu/soft/soft_priv.h"
#include "cpu/soft/x86/jit.h"
#include "cpu/soft/x86/vec.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define TURN_NS 2000u
#define LONE_TURNS 32u /* usual turns in one turn of a lone busy vCPU */
#define PS_PER_US 1000000ull

/* xoshiro256** (Blackman, Vigna), seeded by splitmix64. */
u64 rng_next(struct rng *r)
{
	u64 *s = r->s, x = s[1] * 5, t = s[1] << 17;

	x = ((x << 7) | (x >> 57)) * 9;
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = (s[3] << 45) | (s[3] >> 19);
	return x;
}

void rng_seed(struct rng *r, u64 seed)
{
	for (int i = 0; i < 4; i++) {
		u64 z = (seed += 0x9e3779b97f4a7c15ull);
		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
		r->s[i] = z ^ (z >> 31);
	}
}

/* --- time --------------------------------------------------------------------------------- */

static u64 used_ps(const struct soft *s, u64 used)
{
	return used * PS_PER_US / s->rate;
}

static u64 insns_until(const struct soft *s, u64 ns)
{
	u64 ps, k;

	if (__builtin_mul_overflow(ns, PS_PER_NS, &ps))
		return UINT64_MAX / 2;
	if (ps <= s->now_ps)
		return 0;
	if (__builtin_mul_overflow(ps - s->now_ps, s->rate, &k))
		return UINT64_MAX / 2;
	return k / PS_PER_US + (k % PS_PER_US != 0);
}

u64 soft_now(struct soft *s)
{
	u64 ns;

	if (s->cfg.clock == SOFT_CLOCK_REAL) {
		ns = (s->real_stood ? s->real_stood : host_ns()) - s->real_base;
	} else {
		u64 used = 0;
		if (s->in_turn) {
			const struct vcpu *v = s->cpu[s->running];
			s64 u = v->start - v->budget - 1; /* the one that asks is not done yet */
			used = u > 0 ? (u64)u : 0;
		}
		ns = (s->now_ps + used_ps(s, used)) / PS_PER_NS;
	}
	if (ns < s->last_ns)
		ns = s->last_ns;
	s->last_ns = ns;
	return ns;
}

static u64 clk_read(void *o)
{
	return soft_now(o);
}

/* A timer was armed before all others: the turn must end there. */
static void clk_sooner(void *o, u64 ns)
{
	struct soft *s = o;

	if (!s->in_turn || s->cfg.clock == SOFT_CLOCK_REAL)
		return;
	struct vcpu *v = s->cpu[s->running];
	s64 used = v->start - v->budget, total = v->start + v->held;
	u64 need = insns_until(s, ns);
	if (need >= (u64)total)
		return;
	total = MAX((s64)need, used);
	if (v->held) {
		v->held = total - v->start;
	} else {
		v->start = total;
		v->budget = total - used;
	}
}

/* --- who is busy ------------------------------------------------------------------------------ */

void soft_update_busy(struct soft *s, struct vcpu *v)
{
	u64 bit = BIT(v->c.index & 63), *w = &s->busy[v->c.index / 64];
	bool busy = !v->c.halted && !v->c.wait_sipi;

	if (busy == ((*w & bit) != 0))
		return;
	*w ^= bit;
	s->n_busy += busy ? 1 : -1u;
	/* Whoever woke it ends its turn, so that it gets its own soon. */
	if (busy && s->in_turn)
		s->cpu[s->running]->end_turn = true;
}

/* The first busy vCPU at or after @from, cyclically; ncpus if there is none. */
static unsigned next_busy(const struct soft *s, unsigned from)
{
	unsigned words = (s->cfg.ncpus + 63) / 64;

	if (!s->n_busy)
		return s->cfg.ncpus;
	for (unsigned k = 0; k <= words; k++) {
		unsigned w = (from / 64 + k) % words;
		u64 x = s->busy[w];
		if (k == 0)
			x &= ~0ull << (from & 63);
		if (x)
			return w * 64 + (unsigned)__builtin_ctzll(x);
	}
	return s->cfg.ncpus;
}

/* --- signals from the interrupt controller --------------------------------------------------- */

static void wake(struct soft *s, struct vcpu *v)
{
	v->attn = true;
	if (v->c.halted && !v->c.wait_sipi) {
		/* With IF clear only an NMI ends HLT; the loop finds out what is pending. */
		if ((v->c.rflags & X86_IF) || v->c.nmi_pending) {
			v->c.halted = false;
			soft_update_busy(s, v);
		}
	}
}

static void sig_irq(void *o, unsigned cpu)
{
	struct soft *s = o;

	wake(s, s->cpu[cpu]);
}

static void sig_nmi(void *o, unsigned cpu)
{
	struct soft *s = o;

	s->cpu[cpu]->c.nmi_pending = true;
	wake(s, s->cpu[cpu]);
}

static void sig_init(void *o, unsigned cpu)
{
	struct soft *s = o;
	struct vcpu *v = s->cpu[cpu];

	x86_init_signal(&v->c);
	if (s->intc.cpu_init)
		s->intc.cpu_init(s->intc.opaque, cpu);
	tlb_flush_all(v);
	v->attn = true;
	soft_update_busy(s, v);
}

static void sig_sipi(void *o, unsigned cpu, u8 vector)
{
	struct soft *s = o;
	struct vcpu *v = s->cpu[cpu];

	x86_sipi(&v->c, vector);
	vcpu_mode_changed(v);
	soft_update_busy(s, v);
}

struct cpu_signals soft_signals(struct soft *s)
{
	return (struct cpu_signals){
		.irq = sig_irq,
		.nmi = sig_nmi,
		.init = sig_init,
		.sipi = sig_sipi,
		.opaque = s,
	};
}

void soft_set_intc(struct soft *s, const struct cpu_intc *intc)
{
	s->intc = *intc;
}

/* --- turns --------------------------------------------------------------------------------- */

static void idle_until(struct soft *s, u64 ns)
{
	u64 now = soft_now(s);
	struct pollfd pf = { .fd = s->kick_fd, .events = POLLIN };
	struct timespec ts;
	u64 d = ns == GCLOCK_NEVER ? 3600000000000ull : ns > now ? ns - now : 0;
	u64 before = host_ns();

	ts.tv_sec = (time_t)(d / 1000000000ull);
	ts.tv_nsec = (long)(d % 1000000000ull);
	if (d && ppoll(&pf, 1, &ts, NULL) > 0) {
		u64 x;
		if (read(s->kick_fd, &x, sizeof(x)) < 0) /* someone else took it: as good */
			x = 0;
	}
	if (s->cfg.clock == SOFT_CLOCK_VIRTUAL) {
		u64 passed = MIN(host_ns() - before, d);
		s->now_ps += passed * PS_PER_NS;
	}
}

/* Nobody executes. Returns false if nothing ever will. */
static bool idle(struct soft *s)
{
	u64 next = gclock_next(&s->clk);

	s->stat.idle++;
	if (s->live || (s->cfg.clock == SOFT_CLOCK_REAL && next != GCLOCK_NEVER)) {
		idle_until(s, next);
	} else if (next == GCLOCK_NEVER) {
		return false;
	} else if (next * PS_PER_NS > s->now_ps) {
		s->now_ps = next * PS_PER_NS;
	}
	gclock_run(&s->clk, soft_now(s));
	return true;
}

static u64 plan_turn(struct soft *s)
{
	u64 slice = (u64)s->cfg.mips * TURN_NS / 1000;
	u64 n;

	/* Between 1/2 and 3/2 of the usual length. */
	n = slice / 2 + rng_next(&s->order_rng) % (slice + 1);
	if (s->n_busy == 1)
		n *= LONE_TURNS;
	n = MAX(n, 1ull);
	if (s->cfg.clock == SOFT_CLOCK_VIRTUAL)
		n = MIN(n, MAX(insns_until(s, gclock_next(&s->clk)), 1ull));
	return MIN(n, s->limit - s->insns);
}

static void turn_begin(struct soft *s, unsigned i)
{
	struct vcpu *v = s->cpu[i];

	s->stat.turns++;
	s->rate = (u64)s->cfg.mips * s->n_busy;
	s->running = i;
	v->end_turn = false;
	v->pause = false;
	s->plan = plan_turn(s);
	v->start = v->budget = (s64)s->plan;
	s->in_turn = true;
}

static void turn_end(struct soft *s)
{
	struct vcpu *v = s->cpu[s->running];
	u64 used = (u64)(v->start - v->budget);

	s->in_turn = false;
	s->insns += used;
	v->total += used;
	v->start = v->budget = 0;
	if (v->pause && s->cfg.clock == SOFT_CLOCK_VIRTUAL) {
		/* Time that nothing executed in: to the end of a usual turn, never past a timer. */
		u64 slice = MAX((u64)s->cfg.mips * TURN_NS / 1000, 1ull);
		used = MIN(s->plan, (used / slice + 1) * slice);
	}
	s->now_ps += used_ps(s, used);
	soft_update_busy(s, v);
	gclock_run(&s->clk, soft_now(s));
	s->next = s->running + 1;
	/* Now and then somebody else is next, so that seeds explore other orders. */
	if (s->n_busy > 2) {
		u64 x = rng_next(&s->order_rng);
		if ((x & 7) == 0)
			s->next = (unsigned)((x >> 8) % s->cfg.ncpus);
	}
}

/*
 * A debugger's stop in the middle of a turn leaves the turn open, to be gone on with: then no breakpoint
 * changes what the guest does, or when.
 */
static bool stopped_for_debug(const struct soft *s)
{
	return s->stop && s->why == ENGINE_DEBUG;
}

/* Cuts the rest of a turn so that it ends where the next timer is due. */
static void turn_until_timer(struct soft *s)
{
	struct vcpu *v = s->cpu[s->running];
	s64 used = v->start - v->budget;
	u64 until = insns_until(s, gclock_next(&s->clk));

	if (s->cfg.clock == SOFT_CLOCK_VIRTUAL && until < (u64)v->start) {
		v->start = MAX((s64)until, used);
		v->budget = v->start - used;
	}
}

/*
 * One instruction of the vCPU that the debugger names, as part of its turn if that is under way.
 * Interrupts wait meanwhile (take_events). One that is halted stays where it is.
 */
static enum engine_exit step(struct soft *s)
{
	unsigned i = (unsigned)s->dbg.step;
	struct vcpu *v = s->cpu[i];
	s64 rest;
	int r;

	s->dbg.event = (struct engine_debug_event){ .what = ENGINE_ON_STEP, .cpu = i };
	if (v->c.halted || v->c.wait_sipi)
		return ENGINE_DEBUG;
	if (s->in_turn && (s->running != i || v->end_turn || v->budget <= 0))
		turn_end(s);
	if (!s->in_turn)
		turn_begin(s, i);
	rest = v->budget - 1;
	v->start -= rest;
	v->budget = 1;
	r = vcpu_run(v);
	v->start += rest;
	v->budget += rest;
	turn_until_timer(s);
	if (r != X86_SHUTDOWN && (!s->stop || stopped_for_debug(s)))
		return ENGINE_DEBUG;
	turn_end(s);
	return r == X86_SHUTDOWN ? ENGINE_TRIPLE : s->why;
}

static enum engine_exit run(struct soft *s, void (*poll)(void *opaque), void *opaque)
{
	int r;

	while (s->in_turn) { /* left open by a debugger's stop */
		r = vcpu_run(s->cpu[s->running]);
		if (r != X86_SHUTDOWN && stopped_for_debug(s))
			return ENGINE_DEBUG;
		turn_end(s);
		if (r == X86_SHUTDOWN)
			return ENGINE_TRIPLE;
	}
	for (;;) {
		if (atomic_load_explicit(&s->kicked, memory_order_relaxed)) {
			atomic_store(&s->kicked, 0);
			if (poll)
				poll(opaque);
		}
		if (s->stop)
			return s->why;
		if (s->insns >= s->limit)
			return ENGINE_STOPPED;
		unsigned i = next_busy(s, s->next < s->cfg.ncpus ? s->next : 0);
		if (i >= s->cfg.ncpus) {
			if (!idle(s))
				return ENGINE_DEADLOCK;
			continue;
		}
		turn_begin(s, i);
		r = vcpu_run(s->cpu[i]);
		if (r != X86_SHUTDOWN && stopped_for_debug(s))
			return ENGINE_DEBUG;
		turn_end(s);
		if (r == X86_SHUTDOWN)
			return ENGINE_TRIPLE;
	}
}

enum engine_exit soft_run(struct soft *s, void (*poll)(void *opaque), void *opaque)
{
	enum engine_exit why;

	s->stop = false;
	/* Guest time stands still while nobody runs the guest. */
	s->real_base += s->real_stood ? host_ns() - s->real_stood : 0;
	s->real_stood = 0;
	why = s->dbg.step >= 0 ? step(s) : run(s, poll, opaque);
	s->real_stood = host_ns();
	return why;
}

void soft_kick(struct soft *s)
{
	u64 one = 1;

	atomic_store(&s->kicked, 1);
	if (write(s->kick_fd, &one, sizeof(one)) < 0) /* full counter: a kick is pending anyway */
		return;
}

void soft_stop(struct soft *s, enum engine_exit why)
{
	if (s->stop && !engine_outweighs(why, s->why))
		return;
	s->stop = true;
	s->why = why;
	if (s->in_turn && why != ENGINE_DEBUG)
		s->cpu[s->running]->end_turn = true;
}

void soft_set_live(struct soft *s, bool live)
{
	s->live = live;
}

/* --- the rest of the interface -------------------------------------------------------------- */

static int soft_alloc(struct soft *s)
{
	const struct mem_region *last =
		mem_region_get(s->cfg.mem, mem_region_count(s->cfg.mem) - 1);

	s->n_pages = (last->base + last->size) >> GUEST_PAGE_SHIFT;
	s->block_max = s->cfg.block_cache ? s->cfg.block_cache : SOFT_BLOCK_CACHE_DEFAULT;
	s->page_code = calloc(s->n_pages, sizeof(*s->page_code));
	s->hash = calloc(1u << BLOCK_HASH_BITS, sizeof(*s->hash));
	s->cpu = calloc(s->cfg.ncpus, sizeof(*s->cpu));
	if (!s->page_code || !s->hash || !s->cpu || compiler_new(&s->compiler) < 0 ||
	    vec_new(&s->vec) < 0)
		return -ENOMEM;
	for (unsigned i = 0; i < s->cfg.ncpus; i++) {
		s->cpu[i] = vcpu_alloc();
		if (!s->cpu[i])
			return -ENOMEM;
	}
	if (s->cfg.tier != SOFT_TIER_INTERP &&
	    jit_new(s->cfg.code_cache ? s->cfg.code_cache : SOFT_CODE_CACHE_DEFAULT,
		    s->cfg.tier == SOFT_TIER_JIT, &s->jit) < 0)
		return -ENOMEM;
	if (s->jit)
		jit_trace(s->jit, s->cfg.code_dump, s->cfg.perf_map, s->cfg.symbols);
	for (unsigned i = 0; i < s->cfg.ncpus; i++) {
		int r = vcpu_setup(s->cpu[i], s, i);
		if (r < 0)
			return r;
	}
	return 0;
}

const char *soft_host_lacks(u64 xcr0_allowed)
{
	return xcr0_allowed & XCR0_AVX ? vec_host_lacks() : NULL;
}

static void mem_written(void *o, gpa_t gpa, size_t len)
{
	blocks_invalidate(o, gpa, len);
}

int soft_new(const struct soft_cfg *cfg, struct err *e, struct soft **ret)
{
	struct soft *s;

	if (!cfg->ncpus || cfg->ncpus > SOFT_CPUS_MAX || !cfg->mips || cfg->mips > 100000 ||
	    !mem_region_count(cfg->mem))
		return err_set(e, -EINVAL, "soft engine: bad number of CPUs or instruction rate");
	if (soft_host_lacks(cfg->xcr0_allowed))
		return err_set(e, -ENOTSUP,
			       "soft engine: the CPU model needs %s, which this host lacks",
			       soft_host_lacks(cfg->xcr0_allowed));
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(e, -ENOMEM, "soft engine: out of memory");
	s->cfg = *cfg;
	s->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->kick_fd < 0 || soft_alloc(s) < 0) {
		soft_free(s);
		return err_set(e, -ENOMEM, "soft engine: out of memory for %u vCPUs", cfg->ncpus);
	}
	gclock_init(&s->clk, clk_read, clk_sooner, s);
	debug_init(s);
	rng_seed(&s->order_rng, cfg->seed);
	rng_seed(&s->guest_rng, cfg->seed ^ 0x6f7272657279ull);
	s->rate = cfg->mips;
	s->limit = UINT64_MAX;
	s->real_base = s->real_stood = host_ns();
	for (unsigned i = 0; i < cfg->ncpus; i++)
		soft_update_busy(s, s->cpu[i]);
	mem_set_observer(cfg->mem, mem_written, s);
	*ret = s;
	return 0;
}

void soft_free(struct soft *s)
{
	if (!s)
		return;
	if (s->hash && s->cpu && s->page_code)
		blocks_flush_all(s);
	for (unsigned i = 0; s->cpu && i < s->cfg.ncpus; i++)
		vcpu_free(s->cpu[i]);
	debug_fini(s);
	gclock_fini(&s->clk);
	jit_free(s->jit);
	vec_free(s->vec);
	compiler_free(s->compiler);
	free(s->cpu);
	free(s->hash);
	free(s->page_code);
	if (s->kick_fd >= 0)
		close(s->kick_fd);
	free(s);
}

int soft_fork_child(struct soft *s)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return -errno;
	close(s->kick_fd);
	s->kick_fd = fd;
	if (s->jit)
		jit_fork_child(s->jit);
	return vec_fork_child(s->vec);
}

struct gclock *soft_gclock(struct soft *s)
{
	return &s->clk;
}

struct x86_cpu *soft_cpu(struct soft *s, unsigned cpu)
{
	return &s->cpu[cpu]->c;
}

void soft_cpu_changed(struct soft *s, unsigned cpu)
{
	struct vcpu *v = s->cpu[cpu];

	x86_derive(&v->c);
	tlb_flush_all(v);
	soft_update_busy(s, v);
}

void soft_cpu_loaded(struct soft *s, unsigned cpu)
{
	struct vcpu *v = s->cpu[cpu];

	x86_derive(&v->c);
	vcpu_mode_changed(v);
	v->resume = NULL;
	soft_update_busy(s, v);
}

void soft_set_exc_hook(struct soft *s, bool (*hook)(void *, struct x86_cpu *), void *opaque)
{
	s->exc_hook = hook;
	s->exc_opaque = opaque;
}

void soft_set_limit(struct soft *s, u64 insns)
{
	if (__builtin_add_overflow(s->insns, insns, &s->limit))
		s->limit = UINT64_MAX;
}

u64 soft_insns(const struct soft *s)
{
	return s->insns;
}

void soft_digest(struct soft *s, void (*add)(void *h, const void *p, size_t n), void *h)
{
	for (unsigned i = 0; i < s->cfg.ncpus; i++) {
		const struct x86_cpu *c = &s->cpu[i]->c;
		u64 f = x86_get_rflags(c);
		u8 wait[4] = { c->halted, c->wait_sipi, c->nmi_blocked, c->shadow };

		add(h, c->r, X86_GPRS * sizeof(c->r[0]));
		add(h, &c->rip, sizeof(c->rip));
		add(h, &f, sizeof(f));
		for (int k = 0; k < X86_SEGS; k++)
			add(h, &c->seg[k], sizeof(c->seg[k]));
		/* cr0 up to ucode_rev, without padding holes: all are 64-bit words. */
		add(h, &c->cr0, offsetof(struct x86_cpu, halted) - offsetof(struct x86_cpu, cr0));
		add(h, wait, sizeof(wait));
		add(h, &c->x, offsetof(struct x86_xstate, rsvd2));
		if (c->xcr0_allowed & XCR0_AVX)
			add(h, c->x.ymmh, sizeof(c->x.ymmh));
	}
	/* With what of a turn that a debugger's stop left open is over. */
	const struct vcpu *v = s->cpu[s->running];
	u64 used = s->in_turn ? (u64)(v->start - v->budget) : 0;
	u64 now = s->now_ps + used_ps(s, used), insns = s->insns + used;

	add(h, &now, sizeof(now));
	add(h, &insns, sizeof(insns));
}

/* All that stands for guest code in some form, with the tables that find it; not malloc's overhead. */
static u64 translator_bytes(const struct soft *s, const struct jit_stats *js)
{
	return s->block_bytes + js->code_held + js->region_bytes + js->other_bytes +
	       vec_stats(s->vec).code_bytes + (sizeof(*s->hash) << BLOCK_HASH_BITS) +
	       s->n_pages * sizeof(*s->page_code);
}

void soft_stats(struct soft *s, void (*line)(void *o, const char *name, u64 val), void *o)
{
	static const char *const exit_name[VCPU_EXITS] = {
		[VCPU_EXIT_UNKNOWN] = "exits_unknown", [VCPU_EXIT_LINK] = "exits_link",
		[VCPU_EXIT_BUDGET] = "exits_budget",   [VCPU_EXIT_ONE] = "exits_one",
		[VCPU_EXIT_LAST] = "exits_last",       [VCPU_EXIT_SLOW] = "exits_slow",
	};
	u64 exits[VCPU_EXITS] = { 0 };
	u64 miss = 0, exc = 0, intr = 0, alone = 0, jc = 0, part = 0, io = 0, translated = 0;

	for (unsigned i = 0; i < s->cfg.ncpus; i++) {
		const struct vcpu *v = s->cpu[i];
		miss += v->stat.tlb_miss;
		exc += v->stat.exc;
		intr += v->stat.intr;
		alone += v->stat.alone;
		jc += v->stat.jc_miss;
		part += v->stat.part;
		io += v->stat.io;
		translated += v->stat.translated;
		for (unsigned j = 0; j < VCPU_EXITS; j++)
			exits[j] += v->stat.exits[j];
	}
	line(o, "instructions", s->insns);
	line(o, "guest_ns", s->now_ps / PS_PER_NS);
	line(o, "turns", s->stat.turns);
	line(o, "idle", s->stat.idle);
	line(o, "blocks_decoded", s->stat.blocks);
	line(o, "instructions_decoded", s->stat.decoded);
	line(o, "blocks_invalidated", s->stat.invalidated);
	line(o, "blocks_swept", s->stat.swept);
	line(o, "blocks_live", s->n_blocks);
	line(o, "block_bytes", s->block_bytes);
	line(o, "block_lookups", jc);
	line(o, "blocks_in_part", part);
	line(o, "tlb_misses", miss);
	line(o, "device_accesses", io);
	line(o, "ran_alone", alone);
	line(o, "exceptions", exc);
	line(o, "interrupts", intr);
	for (unsigned i = 0; s->jit && i < VCPU_EXITS; i++)
		line(o, exit_name[i], exits[i]);
	line(o, "thunks", vec_stats(s->vec).thunks);
	line(o, "thunk_flushes", vec_stats(s->vec).flushes);
	if (s->jit) {
		struct jit_stats js = jit_stats(s->jit);
		line(o, "instructions_translated", translated);
		line(o, "blocks_translated", js.translated);
		line(o, "regions_translated", js.regions);
		line(o, "blocks_refused", js.refused);
		line(o, "code_bytes", js.code_bytes);
		line(o, "region_bytes", js.region_bytes);
		line(o, "code_evictions", js.evictions);
		line(o, "regions_evicted", js.evicted);
		line(o, "code_evict_ns_max", js.evict_ns_max);
		line(o, "translator_bytes", translator_bytes(s, &js));
	}
}

/* --- as an engine ----------------------------------------------------------------------------- */

static void op_free(void *o)
{
	soft_free(o);
}

static struct gclock *op_gclock(void *o)
{
	return soft_gclock(o);
}

static enum engine_exit op_run(void *o, void (*poll)(void *opaque), void *opaque)
{
	return soft_run(o, poll, opaque);
}

static void op_kick(void *o)
{
	soft_kick(o);
}

static void op_stop(void *o, enum engine_exit why)
{
	soft_stop(o, why);
}

static void op_set_live(void *o, bool live)
{
	soft_set_live(o, live);
}

static struct x86_cpu *op_cpu(void *o, unsigned cpu)
{
	return soft_cpu(o, cpu);
}

static void op_cpu_changed(void *o, unsigned cpu)
{
	soft_cpu_changed(o, cpu);
}

static void op_digest(void *o, void (*add)(void *h, const void *p, size_t n), void *h)
{
	soft_digest(o, add, h);
}

static void op_stats(void *o, void (*line)(void *l, const char *name, u64 val), void *l)
{
	soft_stats(o, line, l);
}

static int op_debug(void *o, const struct engine_debug *d)
{
	return debug_set(o, d);
}

static struct engine_debug_event op_debug_event(void *o)
{
	const struct soft *s = o;

	return s->dbg.event;
}

struct engine soft_engine(struct soft *s)
{
	static const struct engine_ops ops = {
		.name = "soft",
		.free = op_free,
		.gclock = op_gclock,
		.run = op_run,
		.kick = op_kick,
		.stop = op_stop,
		.set_live = op_set_live,
		.cpu = op_cpu,
		.cpu_changed = op_cpu_changed,
		.digest = op_digest,
		.stats = op_stats,
		.debug = op_debug,
		.debug_event = op_debug_event,
	};

	return (struct engine){ &ops, s };
}
