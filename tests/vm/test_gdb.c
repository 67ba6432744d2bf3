/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_gdb.c - GDB's remote protocol, against a target of this file's
 *
 * Two vCPUs with three registers and 64 KiB of memory at BASE. What the stub says is kept, and compared
 * with what the manual ("Debugging with GDB", appendix E) says that it says.
 */
#include "vm/gdb_rsp.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BASE 0x10000u
#define SIZE 0x10000u

struct fake {
	struct rsp *r;
	u64 reg[2][3];
	u8 mem[SIZE];
	char said[2 * RSP_PACKET]; /* since the last look, acknowledgements and all */
	size_t n;
	int step;
	unsigned runs, interrupts, detached, killed;
	char placed[200];
};

static unsigned reg_size(void *o, unsigned reg)
{
	return reg < 2 ? 8 : reg == 2 ? 4 : 0;
}

static int reg_get(void *o, unsigned cpu, unsigned reg, u8 *ret)
{
	memcpy(ret, &((struct fake *)o)->reg[cpu][reg], reg_size(o, reg));
	return 0;
}

static int reg_set(void *o, unsigned cpu, unsigned reg, const u8 *val)
{
	memcpy(&((struct fake *)o)->reg[cpu][reg], val, reg_size(o, reg));
	return 0;
}

static int mem_read(void *o, unsigned cpu, u64 addr, u8 *ret, size_t len)
{
	struct fake *f = o;

	if (addr < BASE || addr >= BASE + SIZE)
		return -EFAULT;
	len = MIN(len, (size_t)(BASE + SIZE - addr));
	memcpy(ret, f->mem + (addr - BASE), len);
	return (int)len;
}

static int mem_write(void *o, unsigned cpu, u64 addr, const u8 *val, size_t len)
{
	struct fake *f = o;

	if (addr < BASE || addr >= BASE + SIZE || len > BASE + SIZE - addr)
		return -EFAULT;
	memcpy(f->mem + (addr - BASE), val, len);
	return 0;
}

static int place(struct fake *f, char how, enum rsp_break kind, u64 addr, u64 len)
{
	size_t n = strlen(f->placed);

	if (kind == RSP_WATCH_READ)
		return -ENOTSUP;
	if (addr == 0xbad)
		return -ENOSPC;
	snprintf(f->placed + n, sizeof(f->placed) - n, "%c%u:%x,%x ", how, (unsigned)kind,
		 (unsigned)addr, (unsigned)len);
	return 0;
}

static int insert(void *o, enum rsp_break kind, u64 addr, u64 len)
{
	return place(o, '+', kind, addr, len);
}

static int take_out(void *o, enum rsp_break kind, u64 addr, u64 len)
{
	return place(o, '-', kind, addr, len);
}

static void describe(void *o, unsigned cpu, char *ret, size_t size)
{
	snprintf(ret, size, "cpu %u", cpu);
}

static void monitor(void *o, struct rsp *r, const char *words)
{
	rsp_say(r, "<%s>", words);
}

static void on_run(void *o, int step)
{
	struct fake *f = o;

	f->runs++;
	f->step = step;
}

static void on_interrupt(void *o)
{
	((struct fake *)o)->interrupts++;
}

static void on_detach(void *o)
{
	((struct fake *)o)->detached++;
}

static void on_kill(void *o)
{
	((struct fake *)o)->killed++;
}

static void on_send(void *o, const u8 *bytes, size_t n)
{
	struct fake *f = o;

	assert_true(n < sizeof(f->said) - f->n);
	memcpy(f->said + f->n, bytes, n);
	f->n += n;
	f->said[f->n] = 0;
}

static const struct rsp_ops ops = {
	.reg_size = reg_size,
	.reg_get = reg_get,
	.reg_set = reg_set,
	.mem_read = mem_read,
	.mem_write = mem_write,
	.insert = insert,
	.remove = take_out,
	.describe = describe,
	.monitor = monitor,
	.run = on_run,
	.interrupt = on_interrupt,
	.detach = on_detach,
	.kill = on_kill,
	.send = on_send,
};

static char xml[40000];
static const unsigned expedite[] = { 1, ~0u };
static const struct rsp_stop trap = { .what = RSP_ON_SIGNAL, .signal = 5 };

static void begin(struct fake *f, bool running)
{
	struct rsp_cfg cfg = { .ops = &ops,
			       .opaque = f,
			       .cpus = 2,
			       .xml = xml,
			       .expedite = expedite,
			       .running = running };

	memset(f, 0, sizeof(*f));
	for (u32 i = 0; i < SIZE; i++)
		f->mem[i] = (u8)(i * 7);
	f->reg[0][0] = 0x1122334455667788;
	f->reg[1][0] = 0xa5;
	f->reg[0][2] = 0xdeadbeef;
	assert_int_equal(rsp_new(&cfg, &trap, &f->r), 0);
}

static size_t give(struct fake *f, const char *bytes, size_t n)
{
	return rsp_input(f->r, (const u8 *)bytes, n);
}

/* A packet of @n bytes; what was said, from the start of the reply on. */
static const char *ask_bytes(struct fake *f, const char *data, size_t n)
{
	char packet[RSP_PACKET + 100];
	u8 sum = 0;

	for (size_t i = 0; i < n; i++)
		sum = (u8)(sum + (u8)data[i]);
	packet[0] = '$';
	memcpy(packet + 1, data, n);
	snprintf(packet + 1 + n, 4, "#%02x", sum);
	f->n = 0;
	f->said[0] = 0;
	assert_int_equal(give(f, packet, n + 4), n + 4);
	assert_int_equal(f->said[0], '+');
	return f->said + 1;
}

/* @want: the reply's data; NULL: there is none. */
static void expect(struct fake *f, const char *data, const char *want)
{
	char whole[2 * RSP_PACKET];
	u8 sum = 0;

	for (const char *p = want; p && *p; p++)
		sum = (u8)(sum + (u8)*p);
	snprintf(whole, sizeof(whole), "$%s#%02x", want ? want : "", sum);
	assert_string_equal(ask_bytes(f, data, strlen(data)), want ? whole : "");
}

static void framing(void **state)
{
	struct fake f;

	begin(&f, false);
	give(&f, "+++junk\x03", 8);
	assert_int_equal(f.n, 0);
	assert_int_equal(f.interrupts, 0); /* they stand still */
	give(&f, "$qC#b5", 6);		   /* a wrong sum */
	assert_string_equal(f.said, "-");
	f.n = 0;
	for (const char *p = "$qC#b4"; *p; p++) /* byte by byte */
		give(&f, p, 1);
	assert_string_equal(f.said, "+$QC1#c5");
	f.n = 0;
	give(&f, "-", 1); /* once more */
	assert_string_equal(f.said, "$QC1#c5");
	expect(&f, "", "");
	f.n = 0;
	give(&f, "-", 1);
	assert_string_equal(f.said, "$#00");
	expect(&f, "QStartNoAckMode", "OK");
	f.n = 0;
	give(&f, "$qC#00-+-", 9); /* nobody looks at sums now, nor answers */
	assert_string_equal(f.said, "$QC1#c5");
	rsp_free(f.r);
}

static void too_long(void **state)
{
	static char data[RSP_PACKET + 10];
	struct fake f;
	const char *said;

	begin(&f, false);
	memset(data, 'g', sizeof(data));
	said = ask_bytes(&f, data, sizeof(data));
	assert_int_equal(strncmp(said, "$E", 2), 0);
	data[0] = 'X';
	memset(data + 1, ':', 20);
	said = ask_bytes(&f, data, RSP_PACKET); /* just not */
	assert_string_equal(said, "$E16#ac");
	expect(&f, "qC", "QC1");
	rsp_free(f.r);
}

static void registers(void **state)
{
	struct fake f;

	begin(&f, false);
	expect(&f, "g", "88776655443322110*,efbeadde");
	expect(&f, "p0", "8877665544332211");
	expect(&f, "p2", "efbeadde");
	expect(&f, "p3", "E16");
	expect(&f, "pffffffffffffffff", "E16");
	expect(&f, "pfffffffffffffffff", "E16");
	expect(&f, "P1=0102030405060708", "OK");
	assert_int_equal(f.reg[0][1], 0x0807060504030201);
	expect(&f, "P1=01020304050607", "E16");
	expect(&f, "P1=010203040506070809", "E16");
	expect(&f, "P1", "E16");
	expect(&f, "Hg2", "OK");
	expect(&f, "p0", "a500000000000000");
	expect(&f, "G0100000000000000020000000000000003000000", "OK");
	assert_int_equal(f.reg[1][0] * 100 + f.reg[1][1] * 10 + f.reg[1][2], 123);
	expect(&f, "G01", "E16");
	assert_int_equal(f.reg[1][0], 1);
	expect(&f, "G0100000000000000020000000000000003000000ff", "E16");
	rsp_free(f.r);
}

static void memory(void **state)
{
	static const char binary[] = "X10000,5:}\x03}\x04}\x5d*}\x0a";
	struct fake f;

	begin(&f, false);
	expect(&f, "m10000,4", "00070e15");
	expect(&f, "m1fffe,10", "f2f9"); /* as much as there is */
	expect(&f, "m20000,1", "E0e");
	expect(&f, "mffffffffffffffff,ffffffffffffffff", "E0e");
	expect(&f, "m10000,0", "");
	expect(&f, "m10000", "E16");
	expect(&f, "m,4", "E16");
	expect(&f, "m10000,4,", "E16");
	expect(&f, "M10000,3:a1b2c3", "OK");
	assert_memory_equal(f.mem, "\xa1\xb2\xc3\x15", 4);
	expect(&f, "M10000,3:a1b2c", "E16");
	expect(&f, "M10000,3:a1b2c3d4", "E16");
	expect(&f, "M1fffe,3:a1b2c3", "E0e");
	assert_string_equal(ask_bytes(&f, binary, sizeof(binary) - 1), "$OK#9a");
	assert_memory_equal(f.mem, "#$}**", 5);
	expect(&f, "X10000,0:", "OK"); /* is X known? */
	expect(&f, "X10000,2:abc", "E16");
	expect(&f, "X10000,4:abc", "E16");
	expect(&f, "X10000,ffffffffffffffff:abc", "E16");
	/* A whole packet of it. */
	assert_int_equal(strlen(ask_bytes(&f, "m10000,4000", 11)), 4 + RSP_PACKET);
	rsp_free(f.r);
}

/* Runs of every length come out as they went in, and never with # or $ as their length. */
static void runs(void **state)
{
	struct fake f;
	char data[32];

	begin(&f, false);
	for (unsigned n = 1; n < 300; n++) {
		char out[1000];
		size_t k = 0;
		const char *p;

		memset(f.mem, 0x55, n);
		f.mem[n] = 0x12;
		snprintf(data, sizeof(data), "m10000,%x", n + 1);
		p = ask_bytes(&f, data, strlen(data));
		assert_int_equal(*p++, '$');
		for (; *p != '#'; p++) {
			assert_true(k < sizeof(out));
			if (p[0] != '*') {
				out[k++] = *p;
				continue;
			}
			assert_in_range(p[1], 32, 126);
			assert_true(p[1] != '#' && p[1] != '$');
			for (int i = *++p - 29; i > 0; i--, k++)
				out[k] = out[k - 1];
		}
		assert_int_equal(k, 2 * (n + 1));
		for (unsigned i = 0; i < 2 * n; i++)
			assert_int_equal(out[i], '5');
		assert_memory_equal(out + 2 * n, "12", 2);
	}
	rsp_free(f.r);
}

static void threads(void **state)
{
	struct fake f;

	begin(&f, false);
	expect(&f, "qfThreadInfo", "m1,2");
	expect(&f, "qsThreadInfo", "l");
	expect(&f, "qThreadExtraInfo,2", "6370752031");
	expect(&f, "qThreadExtraInfo,0", "E16");
	expect(&f, "T2", "OK");
	expect(&f, "T0", "E03");
	expect(&f, "T3", "E03");
	expect(&f, "Hc-1", "OK");
	expect(&f, "Hx1", "E16");
	expect(&f, "H", "E03");
	rsp_free(f.r);
}

static void breakpoints(void **state)
{
	struct fake f;

	begin(&f, false);
	expect(&f, "Z0,1000,1", "OK");
	expect(&f, "Z1,1001,1", "OK");
	expect(&f, "Z2,1002,8", "OK");
	expect(&f, "Z3,1000,1", "");
	expect(&f, "Z4,1004,4", "OK");
	expect(&f, "z2,1002,8", "OK");
	expect(&f, "Z5,1000,1", "E16");
	expect(&f, "Z0,1000", "E16");
	expect(&f, "Z0,1000,1;X1,0", "E16");
	expect(&f, "Z1,bad,1", "E1c");
	assert_string_equal(f.placed, "+0:1000,1 +1:1001,1 +2:1002,8 +4:1004,4 -2:1002,8 ");
	rsp_free(f.r);
}

static void stop(struct fake *f, const struct rsp_stop *why, const char *want)
{
	f->n = 0;
	f->said[0] = 0;
	rsp_stopped(f->r, why);
	assert_non_null(strstr(f->said, want));
}

static void running(void **state)
{
	static const struct {
		const char *packet;
		int step;
	} way[] = {
		{ "c", -1 },	       { "s", 0 },
		{ "C05", -1 },	       { "S05", 0 },
		{ "vCont;c", -1 },     { "vCont;s:2;c", 1 },
		{ "vCont;s:1", 0 },    { "vCont;S05:2;c", 1 },
		{ "vCont;s", 0 },      { "vCont;s:-1", 0 },
		{ "vCont;c:1;c", -1 },
	};
	struct fake f;

	begin(&f, false);
	for (unsigned i = 0; i < ARRAY_LEN(way); i++) {
		expect(&f, way[i].packet, NULL);
		assert_int_equal(f.runs, i + 1);
		assert_int_equal(f.step, way[i].step);
		/* A packet must wait, an interrupt need not. */
		assert_int_equal(give(&f, "+\x03+$qC#b4", 9), 3);
		assert_int_equal(f.interrupts, i + 1);
		stop(&f, &trap, "$T0501:0000000000000000;thread:1;#");
	}
	expect(&f, "vCont;c:1", "E.all vCPUs run or none: set scheduler-locking off");
	expect(&f, "vCont", "E16");
	expect(&f, "vCont;", "E16");
	expect(&f, "vCont;t", "E16");
	expect(&f, "vCont;c:3", "E16");
	expect(&f, "vCont;cc", "E16");
	expect(&f, "c1000", "");
	expect(&f, "C", "E16");
	assert_int_equal(f.runs, ARRAY_LEN(way));
	rsp_free(f.r);
}

static void stops(void **state)
{
	struct rsp_stop s = {
		.what = RSP_ON_WRITE, .signal = 5, .cpu = 1, .addr = 0xffff888000001000
	};
	struct fake f;

	begin(&f, false);
	expect(&f, "c", NULL);
	stop(&f, &s, "thread:2;watch:ffff888000001000;#");
	expect(&f, "qC", "QC2"); /* and it is the one that is looked at */
	s.what = RSP_ON_ACCESS;
	expect(&f, "c", NULL);
	stop(&f, &s, "awatch:ffff888000001000;#");
	s.what = RSP_ON_SOFT;
	expect(&f, "c", NULL);
	stop(&f, &s, "thread:2;#"); /* the client has not said that it knows the word */
	assert_non_null(
		strstr(ask_bytes(&f, "qSupported:swbreak+;hwbreak+;x", 30), "PacketSize=4000;"));
	expect(&f, "c", NULL);
	stop(&f, &s, "thread:2;swbreak:;#");
	s.what = RSP_ON_HARD;
	expect(&f, "c", NULL);
	stop(&f, &s, "thread:2;hwbreak:;#");
	/* Not asked for: not told. */
	f.n = 0;
	rsp_stopped(f.r, &s);
	assert_int_equal(f.n, 0);
	expect(&f, "c", NULL);
	f.n = 0;
	rsp_exited(f.r, 0x2b);
	assert_string_equal(f.said, "$W2b#eb");
	f.n = 0;
	assert_int_equal(give(&f, "$qC#b4", 6), 6);
	assert_int_equal(f.n, 0);
	rsp_free(f.r);
}

/* Whoever comes while they run is answered when they stand still. */
static void late(void **state)
{
	struct fake f;

	begin(&f, true);
	assert_int_equal(give(&f, "+$?#3f", 6), 1);
	rsp_stopped(f.r, &trap);
	assert_int_equal(f.n, 0);
	give(&f, "$?#3f", 5);
	assert_non_null(strstr(f.said, "+$T05"));
	rsp_free(f.r);
}

static void queries(void **state)
{
	struct fake f;
	size_t at = 0;
	const char *p;
	char data[80];

	begin(&f, false);
	expect(&f, "vMustReplyEmpty", "");
	expect(&f, "qUnknown", "");
	expect(&f, "Qunknown", "");
	expect(&f, "!", "");
	expect(&f, "qAttached", "1");
	expect(&f, "qXfer:features:read:other.xml:0,10", "");
	expect(&f, "qXfer:features:read:target.xml:0", "E16");
	expect(&f, "qXfer:features:read:target.xml:ffffffff,10", "l");
	/* All of the description, by pieces. */
	for (bool more = true; more;) {
		snprintf(data, sizeof(data), "qXfer:features:read:target.xml:%zx,ffb", at);
		p = ask_bytes(&f, data, strlen(data));
		more = p[1] == 'm';
		for (p += 2; *p != '#'; p++)
			assert_int_equal(*p == '}' ? *++p ^ 0x20 : *p, xml[at++]);
	}
	assert_int_equal(at, strlen(xml));
	ask_bytes(&f, "qRcmd,68656c70", 14);
	assert_string_equal(f.said, "+$O3c68656c703e#56$OK#9a");
	expect(&f, "qRcmd,6", "E16");
	expect(&f, "qRcmd,zz", "E16");
	rsp_free(f.r);
}

static void ends(void **state)
{
	struct fake f;

	begin(&f, false);
	expect(&f, "D", "OK");
	assert_int_equal(f.detached, 1);
	rsp_free(f.r);
	begin(&f, false);
	expect(&f, "k", NULL);
	assert_int_equal(f.killed, 1);
	rsp_free(f.r);
	begin(&f, false);
	expect(&f, "vKill;1", "OK");
	assert_int_equal(f.killed, 1);
	assert_int_equal(give(&f, "$k#6b", 5), 5);
	assert_int_equal(f.killed, 1);
	rsp_free(f.r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(framing),     cmocka_unit_test(too_long),
		cmocka_unit_test(registers),   cmocka_unit_test(memory),
		cmocka_unit_test(runs),	       cmocka_unit_test(threads),
		cmocka_unit_test(breakpoints), cmocka_unit_test(running),
		cmocka_unit_test(stops),       cmocka_unit_test(late),
		cmocka_unit_test(queries),     cmocka_unit_test(ends),
	};

	for (size_t i = 0; i + 1 < sizeof(xml); i++)
		xml[i] = "<reg name=\"}#$*\"/>\n"[i % 19];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
