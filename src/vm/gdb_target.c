// SPDX-License-Identifier: Apache-2.0
/*
 * gdb_target.c - a machine under a debugger: its vCPUs' registers, memory, breakpoints, and why it stopped
 *
 * How it works
 * Addresses are linear ones of the vCPU that is looked at, translated as its page tables are now, without
 * touching their accessed and dirty bits. Devices' registers are not read: reading may change them.
 *
 * Breakpoints are told to the engine when the vCPUs are to run. An engine that stops anywhere (the soft one)
 * gets all places of execution as they are. One with debug registers only has four for everything: watched
 * data and hardware breakpoints come first, then software breakpoints while there is room; the rest of these
 * become INT3s in the guest's memory, which the debugger does not see when it reads there. An INT3 that is the guest's own (kprobes, patching of code) is
 * executed in a step with all this switched off, and the guest goes on with its handler.
 */
#include "vm/gdb_target.h"

#include "isa/x86/state.h"
#include "vm/machine.h"
#include "vm/x86/gdb_cpu.h"

#include <errno.h>
#include <string.h>

#define INT3 0xcc
#define SIGNAL_TRAP 5u
#define WATCH_BYTES (8u * ENGINE_BREAKS_MAX)

int target_init(struct target *t, struct machine *m)
{
	static const u64 somewhere;
	struct engine_debug d = { .step = -1, .exec = &somewhere, .n_exec = 1 };
	int r;

	*t = (struct target){ .m = m, .step = -1 };
	machine_parts(m, &t->e, &t->mem, &t->cpus);
	r = engine_set_debug(t->e, &d);
	t->plants = r == -ENOSPC;
	d = (struct engine_debug){ .step = -1 };
	return r == -ENOTSUP ? r : engine_set_debug(t->e, &d);
}

static struct x86_cpu *cpu_of(const struct target *t, unsigned cpu)
{
	return engine_cpu(t->e, cpu);
}

int target_describe(const struct target *t, struct buf *out)
{
	int r = gdb_describe_regs(cpu_of(t, 0), out);

	return r == 0 ? buf_add(out, "", 1) : r;
}

/* --- registers -------------------------------------------------------------------------------- */

unsigned target_reg_size(void *o, unsigned reg)
{
	return gdb_reg_size(cpu_of(o, 0), reg);
}

int target_reg_get(void *o, unsigned cpu, unsigned reg, u8 *ret)
{
	gdb_reg_get(cpu_of(o, cpu), reg, ret);
	return 0;
}

int target_reg_set(void *o, unsigned cpu, unsigned reg, const u8 *val)
{
	struct target *t = o;

	if (gdb_reg_set(cpu_of(t, cpu), reg, val))
		engine_cpu_changed(t->e, cpu);
	return 0;
}

void target_describe_cpu(void *o, unsigned cpu, char *ret, size_t size)
{
	gdb_describe_cpu(cpu_of(o, cpu), ret, size);
}

/* --- memory ----------------------------------------------------------------------------------- */

/* Where linear address @a is, and how many of @len bytes from there on are in its page. */
static int place(const struct target *t, unsigned cpu, u64 a, size_t len, gpa_t *ret,
		 size_t *ret_len)
{
	int r = gdb_translate(cpu_of(t, cpu), t->mem, a, ret);

	*ret_len = MIN(len, (size_t)(GUEST_PAGE_SIZE - (a & (GUEST_PAGE_SIZE - 1))));
	return r;
}

int target_mem_read(void *o, unsigned cpu, u64 addr, u8 *ret, size_t len)
{
	struct target *t = o;
	size_t done = 0, n;
	gpa_t gpa;

	for (; done < len; done += n) {
		if (place(t, cpu, addr + done, len - done, &gpa, &n) < 0 ||
		    mem_read(t->mem, gpa, ret + done, n) < 0)
			break;
		for (unsigned i = 0; i < t->n_brk; i++)
			if (t->brk[i].planted && t->brk[i].gpa - gpa < n)
				ret[done + (t->brk[i].gpa - gpa)] = t->brk[i].byte;
	}
	return done ? (int)done : -EFAULT;
}

/* Also where the guest may not: a debugger patches code. What is planted stays, above the new byte. */
static int write_page(struct target *t, gpa_t gpa, const u8 *val, size_t n)
{
	u8 page[GUEST_PAGE_SIZE];

	memcpy(page, val, n);
	for (unsigned i = 0; i < t->n_brk; i++) {
		struct target_break *b = &t->brk[i];

		if (!b->planted || b->gpa - gpa >= n)
			continue;
		b->byte = page[b->gpa - gpa];
		page[b->gpa - gpa] = INT3;
	}
	return mem_write(t->mem, gpa, page, n);
}

int target_mem_write(void *o, unsigned cpu, u64 addr, const u8 *val, size_t len)
{
	struct target *t = o;
	size_t n;
	gpa_t gpa;
	u8 byte;

	/* All or nothing. */
	for (size_t done = 0; done < len; done += n)
		if (place(t, cpu, addr + done, len - done, &gpa, &n) < 0 ||
		    mem_read(t->mem, gpa, &byte, 1) < 0)
			return -EFAULT;
	for (size_t done = 0; done < len; done += n)
		if (place(t, cpu, addr + done, len - done, &gpa, &n) < 0 ||
		    write_page(t, gpa, val + done, n) < 0)
			return -EFAULT;
	return 0;
}

/* --- breakpoints ------------------------------------------------------------------------------ */

static bool watches(enum rsp_break kind)
{
	return kind == RSP_WATCH_WRITE || kind == RSP_WATCH_ACCESS;
}

/* The largest piece that a debug register holds, of @len bytes at @a. */
static u8 piece(u64 a, u64 len)
{
	u8 k = 8;

	while (k > len || (a & (k - 1u)))
		k /= 2;
	return k;
}

/* What the engine is told, and which breakpoint each of the debug registers is for. */
struct plan {
	struct engine_debug d;
	unsigned owner[ENGINE_BREAKS_MAX];
	u64 exec[TARGET_BREAKS_MAX];
};

/* -ENOSPC: not in what is left of the debug registers. */
static int add_place(struct plan *p, unsigned owner, enum engine_break kind, u64 addr, u64 len)
{
	struct engine_debug *d = &p->d;

	for (u64 at = 0; at < len;) {
		u8 k = kind == ENGINE_BREAK_EXEC ? 1 : piece(addr + at, len - at);

		if (d->n == ENGINE_BREAKS_MAX)
			return -ENOSPC;
		d->at[d->n].kind = kind;
		d->at[d->n].addr = addr + at;
		d->at[d->n].len = k;
		p->owner[d->n++] = owner;
		at += k;
	}
	return 0;
}

/* What has to be where it is: watched data and hardware breakpoints; all execution if that is a list. */
static int build_firm(const struct target *t, struct plan *p)
{
	int r = 0;

	p->d = (struct engine_debug){ .step = t->step, .exec = p->exec };
	for (unsigned i = 0; r == 0 && i < t->n_brk; i++) {
		const struct target_break *b = &t->brk[i];

		if (watches(b->kind))
			r = add_place(p, i,
				      b->kind == RSP_WATCH_WRITE ? ENGINE_BREAK_WRITE
								 : ENGINE_BREAK_ACCESS,
				      b->addr, b->len);
		else if (!t->plants)
			p->exec[p->d.n_exec++] = b->addr;
		else if (b->kind == RSP_BREAK_HARD)
			r = add_place(p, i, ENGINE_BREAK_EXEC, b->addr, 1);
	}
	return r;
}

static int build(const struct target *t, struct plan *p)
{
	int r = build_firm(t, p);

	for (unsigned i = 0; r == 0 && t->plants && i < t->n_brk; i++) {
		if (t->brk[i].planted)
			p->d.int3 = true;
		else if (t->brk[i].kind == RSP_BREAK_SOFT)
			r = add_place(p, i, ENGINE_BREAK_EXEC, t->brk[i].addr, 1);
	}
	return r;
}

static struct target_break *find(struct target *t, enum rsp_break kind, u64 addr, u64 len)
{
	for (unsigned i = 0; i < t->n_brk; i++)
		if (t->brk[i].kind == kind && t->brk[i].addr == addr && t->brk[i].len == len)
			return &t->brk[i];
	return NULL;
}

static bool planted_at(const struct target *t, gpa_t gpa, u8 *ret_byte)
{
	for (unsigned i = 0; i < t->n_brk; i++) {
		if (!t->brk[i].planted || t->brk[i].gpa != gpa)
			continue;
		*ret_byte = t->brk[i].byte;
		return true;
	}
	return false;
}

/* As code of any vCPU: the first that has something there. */
static int plant(struct target *t, struct target_break *b)
{
	static const u8 int3 = INT3;
	unsigned cpu = 0;

	while (gdb_translate(cpu_of(t, cpu), t->mem, b->addr, &b->gpa) < 0)
		if (++cpu == t->cpus)
			return -EFAULT;
	if (!planted_at(t, b->gpa, &b->byte) &&
	    (mem_read(t->mem, b->gpa, &b->byte, 1) < 0 || mem_write(t->mem, b->gpa, &int3, 1) < 0))
		return -EFAULT;
	b->planted = true;
	return 0;
}

static void unplant(struct target *t, struct target_break *b)
{
	u8 now;

	b->planted = false;
	/* The guest may have put something else there meanwhile. */
	if (planted_at(t, b->gpa, &now) || mem_read(t->mem, b->gpa, &now, 1) < 0 || now != INT3)
		return;
	if (mem_write(t->mem, b->gpa, &b->byte, 1) < 0)
		return;
}

/* Software breakpoints are in debug registers while there is room, else in memory. */
static int settle(struct target *t)
{
	struct plan p;
	unsigned room;
	int r = build_firm(t, &p);

	if (r < 0)
		return r;
	room = ENGINE_BREAKS_MAX - p.d.n;
	for (unsigned i = 0; t->plants && i < t->n_brk; i++) {
		struct target_break *b = &t->brk[i];

		if (b->kind != RSP_BREAK_SOFT)
			continue;
		if (room) {
			room--;
			if (b->planted)
				unplant(t, b);
		} else if (!b->planted) {
			r = plant(t, b);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

int target_insert(void *o, enum rsp_break kind, u64 addr, u64 len)
{
	struct target *t = o;
	int r;

	/* x86 has no break on reads alone; GDB makes do with accesses. */
	if (kind == RSP_WATCH_READ)
		return -ENOTSUP;
	if (watches(kind) && (!len || len > WATCH_BYTES))
		return len ? -ENOSPC : -EINVAL;
	if (find(t, kind, addr, len))
		return 0;
	if (t->n_brk == TARGET_BREAKS_MAX)
		return -ENOSPC;
	t->brk[t->n_brk++] = (struct target_break){ .kind = kind, .addr = addr, .len = len };
	r = settle(t);
	if (r < 0)
		target_remove(t, kind, addr, len);
	return r;
}

int target_remove(void *o, enum rsp_break kind, u64 addr, u64 len)
{
	struct target *t = o;
	struct target_break *b = find(t, kind, addr, len);

	if (kind == RSP_WATCH_READ)
		return -ENOTSUP;
	if (!b)
		return 0;
	if (b->planted)
		unplant(t, b);
	*b = t->brk[--t->n_brk];
	/* What no longer has to be in memory; it can only need less room. */
	return settle(t);
}

void target_clear(struct target *t)
{
	while (t->n_brk)
		target_remove(t, t->brk[0].kind, t->brk[0].addr, t->brk[0].len);
	target_arm(t, -1);
}

/* --- running ---------------------------------------------------------------------------------- */

int target_arm(struct target *t, int step)
{
	struct plan p;
	int r;

	t->step = step;
	r = build(t, &p);
	return r == 0 ? engine_set_debug(t->e, &p.d) : r;
}

/* 1, or 0 for the guest's own. */
static int on_int3(struct target *t, unsigned cpu, struct rsp_stop *s)
{
	struct engine_debug quiet = { .step = (int)cpu };
	gpa_t gpa;
	u8 byte;
	int r = gdb_translate(cpu_of(t, cpu), t->mem, cpu_of(t, cpu)->rip, &gpa);

	s->what = RSP_ON_SOFT;
	if (r == 0 && planted_at(t, gpa, &byte))
		return 1;
	/* The engine goes on with what this leaves it at. */
	if (engine_set_debug(t->e, &quiet) < 0 || engine_run(t->e, NULL, NULL) != ENGINE_DEBUG ||
	    target_arm(t, t->step) < 0)
		return 1;
	return 0;
}

/* Whom a stop by the engine's number @index is for. */
static void on_break(struct target *t, unsigned index, struct rsp_stop *s)
{
	u64 rip = cpu_of(t, s->cpu)->rip;
	const struct target_break *b;
	struct plan p;

	s->what = RSP_ON_HARD;
	if (index < ENGINE_BREAKS_MAX && build(t, &p) == 0 && index < p.d.n) {
		b = &t->brk[p.owner[index]];
		if (watches(b->kind)) {
			s->what = b->kind == RSP_WATCH_WRITE ? RSP_ON_WRITE : RSP_ON_ACCESS;
			s->addr = b->addr;
			return;
		}
	}
	for (unsigned i = 0; i < t->n_brk; i++)
		if (t->brk[i].kind == RSP_BREAK_SOFT && t->brk[i].addr == rip)
			s->what = RSP_ON_SOFT;
}

int target_event(struct target *t, struct rsp_stop *ret)
{
	struct engine_debug_event ev = t->e.ops->debug_event(t->e.o);
	struct rsp_stop s = { .what = RSP_ON_SIGNAL, .signal = SIGNAL_TRAP, .cpu = ev.cpu };

	if (ev.what == ENGINE_ON_INT3) {
		if (!on_int3(t, ev.cpu, &s))
			return 0;
	} else if (ev.what == ENGINE_ON_BREAK) {
		on_break(t, ev.index, &s);
	}
	*ret = s;
	return 1;
}
