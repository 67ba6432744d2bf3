/* SPDX-License-Identifier: Apache-2.0 */
/*
 * debug.c - what a debugger asks of the engine: stop at an instruction, at an access, behind a step
 *
 * How it works
 * Execution. Blocks are made anew where a debugger wants to stop: none goes past such a place, and the one
 * that begins there is entered through an op that looks. Blocks are known by guest-physical address and
 * addresses here are linear, so what decides how blocks are cut is the offset in the page; the op
 * compares the whole address. Nothing of it is in the way while no debugger asks: no memory of the guest is
 * changed, and the budget makes turns end at the same instruction however blocks are cut. So a run with
 * breakpoints is the same run.
 *
 * Data. Pages with a watched place are in no fast path (tlb.c), so accesses to them come to where they can be
 * compared. The instruction that makes one runs alone, and the engine stops behind it, as a processor
 * does. A repeated string instruction goes through such a page an element at a time, which takes more of
 * guest time: there alone a debugger can be noticed.
 *
 * Not watched: what devices write, what the processor itself reads and writes (page tables, descriptors,
 * the frames of exceptions).
 *
 * A stop of execution comes before its instruction. When the engine is run again it stops there again, until the
 * debugger has removed the breakpoint or stepped over it: a step takes no notice of breakpoints.
 */
#include "cpu/soft/soft_priv.h"
#include "cpu/soft/x86/vcpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void debug_init(struct soft *s)
{
	s->dbg.step = -1;
}

void debug_fini(struct soft *s)
{
	free(s->dbg.exec);
}

/* --- what is asked for ------------------------------------------------------------------------ */

static int check(const struct soft *s, const struct engine_debug *d)
{
	if (d->n > ENGINE_BREAKS_MAX)
		return -ENOSPC;
	if (d->step >= 0 && (unsigned)d->step >= s->cfg.ncpus)
		return -EINVAL;
	for (unsigned i = 0; i < d->n; i++) {
		unsigned len = d->at[i].len;
		bool exec = d->at[i].kind == ENGINE_BREAK_EXEC;

		if ((len != 1 && len != 2 && len != 4 && len != 8) || (d->at[i].addr & (len - 1)) ||
		    (exec && len != 1))
			return -EINVAL;
	}
	return 0;
}

static int by_address(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

/* All addresses where execution is to stop, sorted. */
static int collect(const struct engine_debug *d, u64 **ret, unsigned *ret_n)
{
	u64 *exec = calloc(d->n_exec + d->n + 1, sizeof(*exec));
	unsigned n = 0;

	if (!exec)
		return -ENOMEM;
	for (unsigned i = 0; i < d->n_exec; i++)
		exec[n++] = d->exec[i];
	for (unsigned i = 0; i < d->n; i++)
		if (d->at[i].kind == ENGINE_BREAK_EXEC)
			exec[n++] = d->at[i].addr;
	qsort(exec, n, sizeof(*exec), by_address);
	*ret = exec;
	*ret_n = n;
	return 0;
}

static bool bit(const u64 *map, u64 offset)
{
	offset &= 0xfff;
	return map[offset >> 6] >> (offset & 63) & 1;
}

static void set_exec(struct soft *s, u64 *exec, unsigned n)
{
	u64 stops[ARRAY_LEN(s->dbg.stops)] = { 0 };
	u64 changed[ARRAY_LEN(s->dbg.stops)], any = 0;

	for (unsigned i = 0; i < n; i++)
		stops[(exec[i] & 0xfff) >> 6] |= 1ull << (exec[i] & 63);
	for (unsigned i = 0; i < ARRAY_LEN(stops); i++)
		any |= changed[i] = stops[i] ^ s->dbg.stops[i];
	free(s->dbg.exec);
	s->dbg.exec = exec;
	s->dbg.n_exec = n;
	memcpy(s->dbg.stops, stops, sizeof(stops));
	if (any)
		blocks_drop_over(s, changed);
}

int debug_set(struct soft *s, const struct engine_debug *d)
{
	unsigned n;
	u64 *exec;
	int r = check(s, d);

	if (r == 0)
		r = collect(d, &exec, &n);
	if (r < 0)
		return r;
	set_exec(s, exec, n);
	if (s->dbg.n_watch)
		tlb_unwatch(s);
	s->dbg.int3 = d->int3;
	s->dbg.step = d->step;
	s->dbg.n_at = d->n;
	s->dbg.n_watch = 0;
	for (unsigned i = 0; i < d->n; i++) {
		s->dbg.at[i].kind = d->at[i].kind;
		s->dbg.at[i].addr = d->at[i].addr;
		s->dbg.at[i].len = d->at[i].len;
		s->dbg.n_watch += d->at[i].kind != ENGINE_BREAK_EXEC;
	}
	if (s->dbg.n_watch)
		tlb_watch(s);
	return 0;
}

/* --- execution -------------------------------------------------------------------------------- */

bool debug_stops_at(const struct soft *s, gpa_t gpa)
{
	return bit(s->dbg.stops, gpa);
}

unsigned debug_block_end(const struct soft *s, gpa_t gpa, const struct op *ops, unsigned n)
{
	for (unsigned k = 1; k < n; k++)
		if (bit(s->dbg.stops, gpa + ops[k].ip))
			return k;
	return n;
}

static void stop(struct vcpu *v, struct engine_debug_event ev)
{
	struct soft *s = v->s;

	if (s->stop)
		return;
	ev.cpu = v->c.index;
	s->dbg.event = ev;
	soft_stop(s, ENGINE_DEBUG);
}

bool debug_stop_here(struct vcpu *v)
{
	const struct soft_debug *d = &v->s->dbg;
	u64 lin = v->c.rip;
	unsigned i;

	if (v->code_mode != CODE_64)
		lin = (u32)(lin + v->c.seg[X86_CS].base);
	if (d->step >= 0 || !bsearch(&lin, d->exec, d->n_exec, sizeof(lin), by_address))
		return false;
	for (i = 0; i < d->n_at; i++)
		if (d->at[i].kind == ENGINE_BREAK_EXEC && d->at[i].addr == lin)
			break;
	stop(v, (struct engine_debug_event){ .what = ENGINE_ON_BREAK,
					     .index = i < d->n_at ? i : ENGINE_BREAKS_MAX });
	return true;
}

const struct op *op_break(struct vcpu *v, const struct op *op)
{
	const struct block *b = v->cur;

	v->c.rip = v->c.r[X86_BLOCK];
	if (!debug_stop_here(v))
		return b->fn0(v, op);
	v->budget += b->n;
	return NULL;
}

bool debug_int3(struct vcpu *v)
{
	if (v->s->dbg.step >= 0)
		return false;
	v->budget++;	/* it has not been executed */
	v->attn = true; /* back to the loop, which finds out */
	stop(v, (struct engine_debug_event){ .what = ENGINE_ON_INT3 });
	return true;
}

/* --- data ------------------------------------------------------------------------------------- */

static int watch_of(const struct soft *s, u64 a, unsigned n, bool write)
{
	for (unsigned i = 0; i < s->dbg.n_at; i++) {
		enum engine_break kind = s->dbg.at[i].kind;
		u64 base = s->dbg.at[i].addr;

		if (kind == ENGINE_BREAK_EXEC || (kind == ENGINE_BREAK_WRITE && !write))
			continue;
		/* Differences, so that ranges at the top of the address space work. */
		if (a - base < s->dbg.at[i].len || base - a < n)
			return (int)i;
	}
	return -1;
}

bool debug_watches(const struct soft *s, u64 a, unsigned n, bool write)
{
	return watch_of(s, a, n, write) >= 0;
}

void debug_stop_behind(struct vcpu *v, u64 a, unsigned n, bool write)
{
	v->attn = true; /* back to the loop */
	stop(v, (struct engine_debug_event){ .what = ENGINE_ON_BREAK,
					     .index = (unsigned)watch_of(v->s, a, n, write) });
}
