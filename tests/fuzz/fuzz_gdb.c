// SPDX-License-Identifier: Apache-2.0
/*
 * fuzz_gdb.c - libFuzzer entry: a hostile debugger against the stub's protocol
 *
 * The first byte of each portion says what happens next: bytes as they are, a packet whose frame and
 * sum are made here, or a stop of the vCPUs. Checked: what the stub says is well-formed packets and
 * acknowledgements, of bounded length, and what it asks of the target is in bounds.
 */
#include "vm/gdb_rsp.h"

#include "input.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CPUS 3u
#define REGS 70u

struct target {
	bool runs;
	u64 sum;
};

static unsigned reg_size(void *o, unsigned reg)
{
	return reg < REGS ? 1u + reg % RSP_REG_MAX : 0;
}

static int reg_get(void *o, unsigned cpu, unsigned reg, u8 *ret)
{
	BUG_IF(cpu >= CPUS || reg >= REGS);
	memset(ret, (int)reg, reg_size(o, reg));
	return 0;
}

static int reg_set(void *o, unsigned cpu, unsigned reg, const u8 *val)
{
	struct target *t = o;

	BUG_IF(cpu >= CPUS || reg >= REGS || t->runs);
	for (unsigned i = 0; i < reg_size(o, reg); i++)
		t->sum += val[i];
	return 0;
}

static int mem_read(void *o, unsigned cpu, u64 addr, u8 *ret, size_t len)
{
	struct target *t = o;

	BUG_IF(cpu >= CPUS || !len || t->runs);
	if (addr & 1)
		return -EFAULT;
	len = MIN(len, (size_t)(1 + (addr >> 1) % len));
	memset(ret, (int)addr, len);
	return (int)len;
}

static int mem_write(void *o, unsigned cpu, u64 addr, const u8 *val, size_t len)
{
	struct target *t = o;

	BUG_IF(cpu >= CPUS || !len || t->runs);
	for (size_t i = 0; i < len; i++)
		t->sum += val[i];
	return addr & 1 ? -EFAULT : 0;
}

static int place(void *o, enum rsp_break kind, u64 addr, u64 len)
{
	BUG_IF(kind > RSP_WATCH_ACCESS);
	return addr & 1 ? -ENOSPC : kind == RSP_WATCH_READ ? -ENOTSUP : 0;
}

static void describe(void *o, unsigned cpu, char *ret, size_t size)
{
	BUG_IF(cpu >= CPUS);
	snprintf(ret, size, "vCPU %u", cpu);
}

static void monitor(void *o, struct rsp *r, const char *words)
{
	BUG_IF(strlen(words) > 255);
	rsp_say(r, "%s %s %s %s %s", words, words, words, words, words);
}

static void on_run(void *o, int step)
{
	struct target *t = o;

	BUG_IF(t->runs || step >= (int)CPUS);
	t->runs = true;
}

static void on_interrupt(void *o)
{
	BUG_IF(!((struct target *)o)->runs);
}

static void on_end(void *o)
{
}

static int digit(u8 c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void on_send(void *o, const u8 *bytes, size_t n)
{
	u8 sum = 0;

	if (n == 1) {
		BUG_IF(*bytes != '+' && *bytes != '-');
		return;
	}
	BUG_IF(n < 4 || n > RSP_PACKET + 4 || bytes[0] != '$' || bytes[n - 3] != '#');
	for (size_t i = 1; i < n - 3; i++) {
		BUG_IF(bytes[i] == '#' || bytes[i] == '$');
		sum = (u8)(sum + bytes[i]);
	}
	BUG_IF((digit(bytes[n - 2]) << 4 | digit(bytes[n - 1])) != sum);
}

static const struct rsp_ops ops = {
	.reg_size = reg_size,
	.reg_get = reg_get,
	.reg_set = reg_set,
	.mem_read = mem_read,
	.mem_write = mem_write,
	.insert = place,
	.remove = place,
	.describe = describe,
	.monitor = monitor,
	.run = on_run,
	.interrupt = on_interrupt,
	.detach = on_end,
	.kill = on_end,
	.send = on_send,
};

static void give(struct rsp *r, const u8 *bytes, size_t n)
{
	size_t took = rsp_input(r, bytes, n);

	BUG_IF(took > n);
}

/* The rest of the portion as a packet. */
static void packet(struct rsp *r, struct input *in, size_t n)
{
	u8 data[300], sum = 0;

	data[0] = '$';
	for (size_t i = 0; i < n; i++) {
		data[1 + i] = (u8)take(in, 1);
		sum = (u8)(sum + data[1 + i]);
	}
	snprintf((char *)data + 1 + n, 4, "#%02x", sum);
	give(r, data, n + 4);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);

int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	static const unsigned expedite[] = { 3, 5, ~0u };
	struct input in = { data, len };
	struct target t = { .runs = take(&in, 1) & 1 };
	struct rsp_stop why = { .signal = 5 };
	struct rsp_cfg cfg = { .ops = &ops,
			       .opaque = &t,
			       .cpus = CPUS,
			       .xml = "<target>}*$#</target>",
			       .expedite = expedite,
			       .running = t.runs };
	struct rsp *r;

	BUG_IF(rsp_new(&cfg, &why, &r) < 0);
	while (in.left) {
		u32 what = take(&in, 1);
		size_t n = MIN(in.left, (size_t)take(&in, 1));
		u8 raw[256];

		if (what % 8 == 0) {
			why = (struct rsp_stop){
				.what = what / 8 % 5, .signal = n & 0xff, .cpu = n % CPUS, .addr = n
			};
			t.runs = false;
			rsp_stopped(r, &why);
		} else if (what % 8 < 6) {
			packet(r, &in, n);
		} else {
			for (size_t i = 0; i < n; i++)
				raw[i] = (u8)take(&in, 1);
			give(r, raw, n);
		}
	}
	rsp_exited(r, 0);
	rsp_free(r);
	return 0;
}
