// SPDX-License-Identifier: Apache-2.0
/*
 * gdb_packet.c - GDB's remote serial protocol: what each packet asks for, and its answer
 *
 * How it works
 * vCPUs are threads 1 to n of one process. They all stand still or they all run ("all-stop mode"), but
 * for a step, in which one of them executes one instruction. An empty reply says that a packet is not
 * known here, and GDB does without. Specification: "Debugging with GDB", E.2 to E.4.
 */
#include "vm/gdb_rsp_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SIGNAL_TRAP 5u /* GDB's numbers, E.3 */
#define READ_MAX (RSP_PACKET / 2)

/* --- threads ---------------------------------------------------------------------------------- */

enum { THREAD_ANY = 0, THREAD_ALL = -1 };

/* A thread, 0 (any) or -1 (all). False: no such text, or no such thread. */
static bool parse_thread(struct rsp *r, const char **p, int *ret)
{
	u64 x;

	if (rsp_parse_char(p, '-')) {
		*ret = THREAD_ALL;
		return rsp_parse_char(p, '1');
	}
	if (!rsp_parse_num(p, &x) || x > r->cfg.cpus)
		return false;
	*ret = (int)x;
	return true;
}

static void put_thread(struct rsp *r, unsigned cpu)
{
	rsp_num(r, cpu + 1u);
}

static void thread_list(struct rsp *r)
{
	rsp_begin(r);
	for (unsigned i = 0; i < r->cfg.cpus; i++) {
		rsp_text(r, i ? "," : "m");
		put_thread(r, i);
	}
	rsp_end(r);
}

static void thread_info(struct rsp *r, const char *p)
{
	char words[80] = "";
	int t;

	if (!parse_thread(r, &p, &t) || t <= 0) {
		rsp_error(r, -EINVAL);
		return;
	}
	r->cfg.ops->describe(r->cfg.opaque, (unsigned)t - 1, words, sizeof(words));
	rsp_begin(r);
	rsp_hex(r, (const u8 *)words, strlen(words));
	rsp_end(r);
}

/* H: of which thread further packets are. */
static void choose_thread(struct rsp *r, const char *p)
{
	char what = *p ? *p++ : 0;
	int t;

	if (!parse_thread(r, &p, &t)) {
		rsp_error(r, -ESRCH);
		return;
	}
	if (what == 'g') {
		if (t > 0)
			r->cpu = (unsigned)t - 1;
	} else if (what == 'c') {
		r->step_cpu = t > 0 ? t - 1 : -1;
	} else {
		rsp_error(r, -EINVAL);
		return;
	}
	rsp_reply(r, "OK");
}

static void thread_alive(struct rsp *r, const char *p)
{
	int t;

	if (parse_thread(r, &p, &t) && t > 0)
		rsp_reply(r, "OK");
	else
		rsp_error(r, -ESRCH);
}

/* --- registers -------------------------------------------------------------------------------- */

static unsigned reg_size(struct rsp *r, unsigned reg)
{
	return r->cfg.ops->reg_size(r->cfg.opaque, reg);
}

static void put_reg(struct rsp *r, unsigned cpu, unsigned reg)
{
	u8 val[RSP_REG_MAX] = { 0 };

	r->cfg.ops->reg_get(r->cfg.opaque, cpu, reg, val);
	rsp_hex(r, val, reg_size(r, reg));
}

static void regs_read(struct rsp *r)
{
	rsp_begin(r);
	for (unsigned i = 0; reg_size(r, i); i++)
		put_reg(r, r->cpu, i);
	rsp_shorten(r);
	rsp_end(r);
}

static void regs_write(struct rsp *r, const char *p)
{
	u8 val[RSP_REGS_BYTES];
	size_t n = 0, at = 0;

	for (unsigned i = 0; reg_size(r, i); i++)
		n += reg_size(r, i);
	BUG_IF(n > sizeof(val));
	/* All or nothing. */
	if (!rsp_parse_hex(&p, val, n) || *p) {
		rsp_error(r, -EINVAL);
		return;
	}
	for (unsigned i = 0; reg_size(r, i); at += reg_size(r, i), i++)
		r->cfg.ops->reg_set(r->cfg.opaque, r->cpu, i, val + at);
	rsp_reply(r, "OK");
}

static bool parse_reg(struct rsp *r, const char **p, unsigned *ret)
{
	u64 x;

	if (!rsp_parse_num(p, &x) || x > 1000 || !reg_size(r, (unsigned)x))
		return false;
	*ret = (unsigned)x;
	return true;
}

static void reg_read(struct rsp *r, const char *p)
{
	unsigned reg;

	if (!parse_reg(r, &p, &reg) || *p) {
		rsp_error(r, -EINVAL);
		return;
	}
	rsp_begin(r);
	put_reg(r, r->cpu, reg);
	rsp_end(r);
}

static void reg_write(struct rsp *r, const char *p)
{
	u8 val[RSP_REG_MAX];
	unsigned reg;
	int e = -EINVAL;

	if (parse_reg(r, &p, &reg) && rsp_parse_char(&p, '=') &&
	    rsp_parse_hex(&p, val, reg_size(r, reg)) && !*p)
		e = r->cfg.ops->reg_set(r->cfg.opaque, r->cpu, reg, val);
	if (e < 0)
		rsp_error(r, e);
	else
		rsp_reply(r, "OK");
}

/* --- memory ----------------------------------------------------------------------------------- */

/* "ADDR,LEN", with no more than fits a packet. */
static bool parse_range(const char **p, u64 *ret_addr, size_t *ret_len)
{
	u64 len;

	if (!rsp_parse_num(p, ret_addr) || !rsp_parse_char(p, ',') || !rsp_parse_num(p, &len))
		return false;
	*ret_len = (size_t)MIN(len, (u64)READ_MAX);
	return true;
}

static void memory_read(struct rsp *r, const char *p)
{
	u8 bytes[READ_MAX];
	size_t len;
	u64 addr;
	int n;

	if (!parse_range(&p, &addr, &len) || *p) {
		rsp_error(r, -EINVAL);
		return;
	}
	n = len ? r->cfg.ops->mem_read(r->cfg.opaque, r->cpu, addr, bytes, len) : 0;
	if (n < 0) {
		rsp_error(r, n);
		return;
	}
	rsp_begin(r);
	rsp_hex(r, bytes, (size_t)n);
	rsp_shorten(r);
	rsp_end(r);
}

/* Of a packet X: takes the escapes out. How many bytes there are, at most @max + 1. */
static size_t unescape(const u8 *from, size_t n, u8 *ret, size_t max)
{
	size_t k = 0;

	for (size_t i = 0; i < n && k < max; i++) {
		u8 c = from[i];

		if (c == '}' && i + 1 < n)
			c = from[++i] ^ 0x20;
		ret[k++] = c;
	}
	return k;
}

static void memory_write(struct rsp *r, const char *p, bool binary)
{
	const char *end = (const char *)r->in + r->n;
	u8 bytes[RSP_PACKET];
	u64 addr, len;
	bool good = rsp_parse_num(&p, &addr) && rsp_parse_char(&p, ',') &&
		    rsp_parse_num(&p, &len) && rsp_parse_char(&p, ':') && len <= sizeof(bytes);
	int e = -EINVAL;

	if (good && binary)
		good = unescape((const u8 *)p, (size_t)(end - p), bytes, sizeof(bytes)) == len;
	else if (good)
		good = rsp_parse_hex(&p, bytes, (size_t)len) && p == end;
	/* Of length 0: does the stub know X? */
	if (good)
		e = len ? r->cfg.ops->mem_write(r->cfg.opaque, r->cpu, addr, bytes, (size_t)len)
			: 0;
	if (e < 0)
		rsp_error(r, e);
	else
		rsp_reply(r, "OK");
}

/* --- breakpoints ------------------------------------------------------------------------------ */

static void breakpoint(struct rsp *r, const char *p, bool insert)
{
	u64 kind, addr, len;
	int e = -EINVAL;

	/* Conditions and commands (; ...) are for stubs that offer to evaluate them. */
	if (rsp_parse_num(&p, &kind) && rsp_parse_char(&p, ',') && rsp_parse_num(&p, &addr) &&
	    rsp_parse_char(&p, ',') && rsp_parse_num(&p, &len) && !*p && kind <= RSP_WATCH_ACCESS)
		e = (insert ? r->cfg.ops->insert
			    : r->cfg.ops->remove)(r->cfg.opaque, (enum rsp_break)kind, addr, len);
	if (e == -ENOTSUP)
		rsp_reply(r, "");
	else if (e < 0)
		rsp_error(r, e);
	else
		rsp_reply(r, "OK");
}

/* --- running ---------------------------------------------------------------------------------- */

void rsp_stop_reply(struct rsp *r)
{
	const struct rsp_stop *s = &r->stop;
	char text[16];

	rsp_begin(r);
	snprintf(text, sizeof(text), "T%02x", s->signal & 0xff);
	rsp_text(r, text);
	for (const unsigned *e = r->cfg.expedite; *e != ~0u; e++) {
		snprintf(text, sizeof(text), "%02x:", *e);
		rsp_text(r, text);
		put_reg(r, s->cpu, *e);
		rsp_text(r, ";");
	}
	rsp_text(r, "thread:");
	put_thread(r, s->cpu);
	rsp_text(r, ";");
	if (s->what == RSP_ON_WRITE || s->what == RSP_ON_ACCESS) {
		rsp_text(r, s->what == RSP_ON_WRITE ? "watch:" : "awatch:");
		rsp_num(r, s->addr);
		rsp_text(r, ";");
	} else if (s->what == RSP_ON_SOFT && r->swbreak) {
		rsp_text(r, "swbreak:;");
	} else if (s->what == RSP_ON_HARD && r->hwbreak) {
		rsp_text(r, "hwbreak:;");
	}
	rsp_end(r);
}

static void run(struct rsp *r, int step)
{
	r->running = r->greeted = true;
	r->cfg.ops->run(r->cfg.opaque, step);
}

/* c, s [ADDR]; C, S SIGNAL[;ADDR]. A vCPU has no use for signals. */
static void run_plain(struct rsp *r, const char *p, bool signal, bool step)
{
	u64 x;

	if (signal && !rsp_parse_num(&p, &x)) {
		rsp_error(r, -EINVAL);
		return;
	}
	if (*p) { /* elsewhere: nobody has asked for that since vCont is there */
		rsp_reply(r, "");
		return;
	}
	run(r, !step ? -1 : r->step_cpu < 0 ? (int)r->cpu : r->step_cpu);
}

struct action {
	char what; /* c or s; 0: stand still */
	int thread;
};

static bool parse_action(struct rsp *r, const char **p, struct action *ret)
{
	char c = **p;
	u64 x;

	if (!rsp_parse_char(p, ';'))
		return false;
	c = **p;
	if (c != 'c' && c != 's' && c != 'C' && c != 'S')
		return false;
	(*p)++;
	if ((c == 'C' || c == 'S') && !rsp_parse_num(p, &x))
		return false;
	ret->what = c | 0x20;
	ret->thread = THREAD_ALL;
	return !rsp_parse_char(p, ':') || parse_thread(r, p, &ret->thread);
}

/*
 * vCont;ACTION[:THREAD]...: for each thread the first that names it. All that may step do not: the
 * first, or the one that is looked at. Some that go on while others stand still cannot be had.
 */
static void run_each(struct rsp *r, const char *p)
{
	u8 what[256] = { 0 };
	unsigned standing = 0, going = 0;
	int step = -1;
	struct action a;

	BUG_IF(r->cfg.cpus > ARRAY_LEN(what));
	while (*p) {
		if (!parse_action(r, &p, &a) || (*p && *p != ';')) {
			rsp_error(r, -EINVAL);
			return;
		}
		for (unsigned i = 0; i < r->cfg.cpus; i++)
			if (!what[i] && (a.thread <= 0 || (unsigned)a.thread == i + 1))
				what[i] = (u8)a.what;
	}
	for (unsigned i = 0; i < r->cfg.cpus; i++) {
		standing += !what[i];
		going += what[i] == 'c';
		if (what[i] == 's' && (step < 0 || i == r->cpu))
			step = (int)i;
	}
	if (step < 0 && !going)
		rsp_error(r, -EINVAL);
	else if (step < 0 && standing)
		rsp_reply(r, "E.all vCPUs run or none: set scheduler-locking off");
	else
		run(r, step);
}

static void end(struct rsp *r, bool kill, bool reply)
{
	if (reply)
		rsp_reply(r, "OK");
	r->dead = true;
	(kill ? r->cfg.ops->kill : r->cfg.ops->detach)(r->cfg.opaque);
}

/* --- queries ---------------------------------------------------------------------------------- */

/* Whether @p begins with @word; then moves it behind. */
static bool word(const char **p, const char *text)
{
	size_t n = strlen(text);

	if (strncmp(*p, text, n))
		return false;
	*p += n;
	return true;
}

static void supported(struct rsp *r, const char *p)
{
	char text[16];

	/* Words between semicolons. */
	r->swbreak = strstr(p, "swbreak+") != NULL;
	r->hwbreak = strstr(p, "hwbreak+") != NULL;
	rsp_begin(r);
	rsp_text(r, "PacketSize=");
	snprintf(text, sizeof(text), "%x", RSP_PACKET);
	rsp_text(r, text);
	rsp_text(r, ";qXfer:features:read+;QStartNoAckMode+;vContSupported+;swbreak+;hwbreak+");
	rsp_end(r);
}

/* OFFSET,LEN of the description, as much as one packet takes. */
static void features(struct rsp *r, const char *p)
{
	u64 off, len, all = strlen(r->cfg.xml);

	if (!rsp_parse_num(&p, &off) || !rsp_parse_char(&p, ',') || !rsp_parse_num(&p, &len) ||
	    *p) {
		rsp_error(r, -EINVAL);
		return;
	}
	off = MIN(off, all);
	len = MIN(MIN(len, all - off), (u64)READ_MAX - 1);
	rsp_begin(r);
	rsp_text(r, off + len < all ? "m" : "l");
	rsp_binary(r, (const u8 *)r->cfg.xml + off, (size_t)len);
	rsp_end(r);
}

static void command(struct rsp *r, const char *p)
{
	size_t n = strlen(p) / 2;
	char words[256];

	if (n >= sizeof(words) || !rsp_parse_hex(&p, (u8 *)words, n) || *p) {
		rsp_error(r, -EINVAL);
		return;
	}
	words[n] = 0;
	r->cfg.ops->monitor(r->cfg.opaque, r, words);
	rsp_reply(r, "OK");
}

static void query(struct rsp *r, const char *p)
{
	if (word(&p, "Supported"))
		supported(r, p);
	else if (word(&p, "Xfer:features:read:target.xml:"))
		features(r, p);
	else if (word(&p, "Rcmd,"))
		command(r, p);
	else if (word(&p, "ThreadExtraInfo,"))
		thread_info(r, p);
	else if (word(&p, "fThreadInfo"))
		thread_list(r);
	else if (word(&p, "sThreadInfo"))
		rsp_reply(r, "l");
	else if (word(&p, "Attached"))
		rsp_reply(r, "1"); /* the machine was there: the end of a session is a detach */
	else if (!strcmp(p, "C")) {
		rsp_begin(r);
		rsp_text(r, "QC");
		put_thread(r, r->cpu);
		rsp_end(r);
	} else
		rsp_reply(r, "");
}

static void verbose(struct rsp *r, const char *p)
{
	if (!strcmp(p, "Cont?"))
		rsp_reply(r, "vCont;c;C;s;S");
	else if (word(&p, "Cont"))
		run_each(r, p);
	else if (word(&p, "Kill"))
		end(r, true, true);
	else
		rsp_reply(r, ""); /* vMustReplyEmpty is one of those */
}

static void set(struct rsp *r, const char *p)
{
	if (strcmp(p, "StartNoAckMode")) {
		rsp_reply(r, "");
		return;
	}
	rsp_reply(r, "OK");
	r->no_ack = true;
}

void rsp_packet(struct rsp *r)
{
	const char *p = (const char *)r->in;
	char c = *p;

	p += c != 0;
	switch (c) {
	case '?':
		rsp_stop_reply(r);
		break;
	case 'g':
		regs_read(r);
		break;
	case 'G':
		regs_write(r, p);
		break;
	case 'p':
		reg_read(r, p);
		break;
	case 'P':
		reg_write(r, p);
		break;
	case 'm':
		memory_read(r, p);
		break;
	case 'M':
	case 'X':
		memory_write(r, p, c == 'X');
		break;
	case 'Z':
	case 'z':
		breakpoint(r, p, c == 'Z');
		break;
	case 'H':
		choose_thread(r, p);
		break;
	case 'T':
		thread_alive(r, p);
		break;
	case 'c':
	case 's':
	case 'C':
	case 'S':
		run_plain(r, p, c < 'a', (c | 0x20) == 's');
		break;
	case 'D':
		end(r, false, true);
		break;
	case 'k':
		end(r, true, false);
		break;
	case 'q':
		query(r, p);
		break;
	case 'Q':
		set(r, p);
		break;
	case 'v':
		verbose(r, p);
		break;
	default:
		rsp_reply(r, "");
	}
}
