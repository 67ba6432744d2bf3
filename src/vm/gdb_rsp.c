// SPDX-License-Identifier: Apache-2.0
/*
 * gdb_rsp.c - GDB's remote serial protocol: packets and acknowledgements
 *
 * How it works
 * A packet is `$DATA#SS`, SS the sum of DATA's bytes in two hexadecimal digits ("Debugging with GDB",
 * E.1). It is answered by `+` or, with a wrong sum, `-`, until the client switches that off. One
 * buffer holds the packet that comes in, one the last reply, which `-` asks for again.
 *
 * While the vCPUs run the client may only interrupt them (a byte 3 outside any packet). Bytes of a
 * packet that comes then are not taken: they wait at the transport until the vCPUs stand still, so
 * nothing has to be kept here.
 */
#include "vm/gdb_rsp_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INTERRUPT 0x03
#define ESCAPE 0x7d /* } and the byte with bit 5 inverted */
#define RUN_BIAS 29 /* of the character that says how often one is repeated */

int rsp_new(const struct rsp_cfg *cfg, const struct rsp_stop *why, struct rsp **ret)
{
	struct rsp *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->cfg = *cfg;
	r->stop = *why;
	r->cpu = why->cpu;
	r->step_cpu = -1;
	r->running = cfg->running;
	*ret = r;
	return 0;
}

void rsp_free(struct rsp *r)
{
	free(r);
}

/* --- replies ---------------------------------------------------------------------------------- */

void rsp_begin(struct rsp *r)
{
	r->n_out = 0;
	r->out_full = false;
}

void rsp_put(struct rsp *r, const void *bytes, size_t n)
{
	if (n > RSP_PACKET - r->n_out) {
		r->out_full = true;
		return;
	}
	memcpy(r->out + 1 + r->n_out, bytes, n);
	r->n_out += n;
}

void rsp_text(struct rsp *r, const char *text)
{
	rsp_put(r, text, strlen(text));
}

static const char digits[] = "0123456789abcdef";

void rsp_hex(struct rsp *r, const u8 *bytes, size_t n)
{
	u8 *p = r->out + 1 + r->n_out;

	if (n > (RSP_PACKET - r->n_out) / 2) {
		r->out_full = true;
		return;
	}
	for (size_t i = 0; i < n; i++) {
		*p++ = (u8)digits[bytes[i] >> 4];
		*p++ = (u8)digits[bytes[i] & 15];
	}
	r->n_out += 2 * n;
}

void rsp_num(struct rsp *r, u64 x)
{
	char text[17];

	snprintf(text, sizeof(text), "%llx", (unsigned long long)x);
	rsp_text(r, text);
}

bool rsp_binary(struct rsp *r, const u8 *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		u8 two[2] = { ESCAPE, bytes[i] ^ 0x20 };
		bool special =
			bytes[i] == '#' || bytes[i] == '$' || bytes[i] == '*' || bytes[i] == ESCAPE;

		rsp_put(r, special ? two : &bytes[i], special ? 2 : 1);
	}
	return !r->out_full;
}

/*
 * How many of @n repetitions one character may stand for: it is printable, and neither # nor $ ("E.1":
 * a run of that length is told as a shorter one).
 */
static size_t run_length(size_t n)
{
	n = MIN(n, (size_t)(126 - RUN_BIAS));
	return n + RUN_BIAS == '#' || n + RUN_BIAS == '$' ? '#' - RUN_BIAS - 1 : n;
}

void rsp_shorten(struct rsp *r)
{
	u8 *p = r->out + 1;
	size_t to = 0, same, run;

	for (size_t i = 0; i < r->n_out; i += 1 + same) {
		u8 c = p[i];

		for (same = 0; i + 1 + same < r->n_out && p[i + 1 + same] == c; same++)
			;
		run = run_length(same);
		same = run < 3 ? 0 : run;
		p[to++] = c;
		if (same) {
			p[to++] = '*';
			p[to++] = (u8)(same + RUN_BIAS);
		}
	}
	r->n_out = to;
}

void rsp_end(struct rsp *r)
{
	u8 sum = 0;

	if (r->out_full) { /* only what this file's users bound themselves is put: not to be had */
		rsp_error(r, -EMSGSIZE);
		return;
	}
	r->out[0] = '$';
	for (size_t i = 1; i <= r->n_out; i++)
		sum = (u8)(sum + r->out[i]);
	r->out[1 + r->n_out] = '#';
	r->out[2 + r->n_out] = (u8)digits[sum >> 4];
	r->out[3 + r->n_out] = (u8)digits[sum & 15];
	r->sent = true;
	r->cfg.ops->send(r->cfg.opaque, r->out, r->n_out + 4);
}

void rsp_reply(struct rsp *r, const char *text)
{
	rsp_begin(r);
	rsp_text(r, text);
	rsp_end(r);
}

void rsp_error(struct rsp *r, int err)
{
	char text[4];

	/* The numbers are Linux's, of which GDB shows the digits. */
	snprintf(text, sizeof(text), "E%02x", err < 0 && err > -100 ? (unsigned)-err : EINVAL);
	rsp_reply(r, text);
}

void rsp_say(struct rsp *r, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	rsp_begin(r);
	rsp_text(r, "O");
	rsp_hex(r, (const u8 *)text, strlen(text));
	rsp_end(r);
}

/* --- parsing ---------------------------------------------------------------------------------- */

int rsp_digit(u8 c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool rsp_parse_num(const char **p, u64 *ret)
{
	const char *s = *p;
	u64 x = 0;

	for (; rsp_digit((u8)*s) >= 0; s++) {
		if (x >> 60)
			return false;
		x = x << 4 | (u64)rsp_digit((u8)*s);
	}
	if (s == *p)
		return false;
	*p = s;
	*ret = x;
	return true;
}

bool rsp_parse_char(const char **p, char c)
{
	if (**p != c)
		return false;
	(*p)++;
	return true;
}

bool rsp_parse_hex(const char **p, u8 *ret, size_t n)
{
	const char *s = *p;

	for (size_t i = 0; i < n; i++, s += 2) {
		int hi = rsp_digit((u8)s[0]), lo = hi < 0 ? -1 : rsp_digit((u8)s[1]);

		if (lo < 0)
			return false;
		ret[i] = (u8)(hi << 4 | lo);
	}
	*p = s;
	return true;
}

/* --- input ------------------------------------------------------------------------------------ */

static void acknowledge(struct rsp *r, const char *how)
{
	if (!r->no_ack)
		r->cfg.ops->send(r->cfg.opaque, (const u8 *)how, 1);
}

static void packet_complete(struct rsp *r, u8 second)
{
	int lo = rsp_digit(second);

	r->state = RSP_BETWEEN;
	if (!r->no_ack && (r->given < 0 || lo < 0 || (r->given << 4 | lo) != r->sum)) {
		acknowledge(r, "-");
		return;
	}
	acknowledge(r, "+");
	if (r->too_long) {
		rsp_error(r, -EMSGSIZE);
		return;
	}
	r->in[r->n] = 0;
	rsp_packet(r);
}

static void data_byte(struct rsp *r, u8 c)
{
	if (c == '#') {
		r->state = RSP_SUM_1;
		return;
	}
	r->sum = (u8)(r->sum + c);
	if (r->n == RSP_PACKET)
		r->too_long = true;
	else
		r->in[r->n++] = c;
}

static void between(struct rsp *r, u8 c)
{
	switch (c) {
	case '$':
		r->state = RSP_DATA;
		r->n = 0;
		r->sum = 0;
		r->too_long = false;
		break;
	case '-':
		if (!r->no_ack && r->sent)
			r->cfg.ops->send(r->cfg.opaque, r->out, r->n_out + 4);
		break;
	case INTERRUPT:
		if (r->running)
			r->cfg.ops->interrupt(r->cfg.opaque);
		break;
	default: /* + */
		break;
	}
}

size_t rsp_input(struct rsp *r, const u8 *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (r->dead)
			return n;
		switch (r->state) {
		case RSP_BETWEEN:
			if (r->running && bytes[i] == '$')
				return i;
			between(r, bytes[i]);
			break;
		case RSP_DATA:
			data_byte(r, bytes[i]);
			break;
		case RSP_SUM_1:
			r->given = rsp_digit(bytes[i]);
			r->state = RSP_SUM_2;
			break;
		case RSP_SUM_2:
			packet_complete(r, bytes[i]);
			break;
		}
	}
	return n;
}

/* --- what the target tells -------------------------------------------------------------------- */

void rsp_stopped(struct rsp *r, const struct rsp_stop *why)
{
	if (r->dead || !r->running)
		return;
	r->running = false;
	r->stop = *why;
	r->cpu = why->cpu;
	if (r->greeted)
		rsp_stop_reply(r);
}

void rsp_exited(struct rsp *r, u8 status)
{
	char text[4];

	if (r->dead)
		return;
	snprintf(text, sizeof(text), "W%02x", status);
	if (r->running)
		rsp_reply(r, text);
	r->dead = true;
}
