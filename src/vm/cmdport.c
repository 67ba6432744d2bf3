// SPDX-License-Identifier: Apache-2.0
/*
 * cmdport.c - the host's end of the command port
 *
 * How it works
 * The protocol is in base/wire.h. Bytes from the guest are collected into one frame, whose length
 * is checked against its type before the payload is awaited; a frame is acted on when whole, but
 * output is handed on as it comes, so that a frame never needs a buffer larger than the largest
 * other one.
 *
 *	WAITING --HELLO--> HELLO (READY) --STARTED--> STARTED --EXIT--> EXITED
 *	                   HELLO --EXIT--> EXITED         any --violation--> BROKEN
 *
 * What the user wants before READY, or while the window is full (end of input, window size,
 * signals), is remembered as state, not as a queue, so it needs no bound: one size, one bit a
 * signal.
 */
#include "vm/cmdport.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"

#define SMALL_MAX 512 /* longest frame but for output; words are cut by the sender */
#define SIGNAL_MAX 64

struct cmdport {
	const struct cmdport_ops *ops;
	void *opaque;
	enum cmdport_state state;
	const char *fault;
	struct cmdport_outcome outcome;

	/* receiving */
	u8 head[WIRE_HEAD];
	size_t n_head;
	unsigned type;
	size_t left; /* payload bytes still to come */
	u8 small[SMALL_MAX + 1];
	size_t n_small;

	/* sending */
	size_t window; /* the guest's, from READY; 0: not yet */
	size_t flying; /* bytes sent and not acknowledged */
	bool moved;    /* to a better stream: one more READY may come */
	bool eof, eof_sent;
	bool winsize;
	u16 rows, cols;
	u64 signals; /* bit n - 1: signal n */
	bool shutdown, shutdown_sent;
	u32 shutdown_ms;
};

static int broken(struct cmdport *p, const char *fault)
{
	p->fault = fault;
	p->state = CMDPORT_BROKEN;
	if (p->ops->state)
		p->ops->state(p->opaque, p->state);
	return -EPROTO;
}

static void set_state(struct cmdport *p, enum cmdport_state state)
{
	p->state = state;
	if (p->ops->state)
		p->ops->state(p->opaque, state);
}

int cmdport_new(const struct cmdport_ops *ops, void *opaque, struct cmdport **ret)
{
	struct cmdport *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->ops = ops;
	p->opaque = opaque;
	p->fault = "";
	*ret = p;
	return 0;
}

void cmdport_free(struct cmdport *p)
{
	free(p);
}

enum cmdport_state cmdport_state(const struct cmdport *p)
{
	return p->state;
}

const char *cmdport_fault(const struct cmdport *p)
{
	return p->fault;
}

const struct cmdport_outcome *cmdport_outcome(const struct cmdport *p)
{
	return p->state == CMDPORT_EXITED ? &p->outcome : NULL;
}

int cmdport_status(const struct cmdport_outcome *o)
{
	switch (o->how) {
	case CMDPORT_BY_EXIT:
		return (int)(o->value & 0xff);
	case CMDPORT_BY_SIGNAL:
		return 128 + (int)o->value;
	case CMDPORT_NOT_STARTED:
		break;
	}
	return o->value == ENOENT ? 127 : 126;
}

static bool talking(const struct cmdport *p)
{
	return p->state == CMDPORT_HELLO || p->state == CMDPORT_STARTED;
}

/* Sends one frame if it leaves @reserve bytes of the window. */
static bool send_frame(struct cmdport *p, enum wire_type type, const u8 *data, size_t len,
		       size_t reserve)
{
	u8 frame[WIRE_HEAD + WIRE_PAYLOAD_MAX];

	if (!talking(p) || p->flying + WIRE_HEAD + len + reserve > p->window)
		return false;
	wire_head(frame, type, (unsigned)len);
	if (len)
		memcpy(frame + WIRE_HEAD, data, len);
	p->flying += WIRE_HEAD + len;
	p->ops->send(p->opaque, frame, WIRE_HEAD + len);
	return true;
}

/* Sends what was remembered and fits. */
static void send_pending(struct cmdport *p)
{
	u8 data[WIRE_WINSIZE_LEN > WIRE_SHUTDOWN_LEN ? WIRE_WINSIZE_LEN : WIRE_SHUTDOWN_LEN];

	if (p->winsize) {
		wire_put16(data, p->rows);
		wire_put16(data + 2, p->cols);
		p->winsize = !send_frame(p, WIRE_WINSIZE, data, WIRE_WINSIZE_LEN, 0);
	}
	/* The command must exist to get a signal. */
	for (unsigned n = 1; p->signals && p->state == CMDPORT_STARTED && n <= SIGNAL_MAX; n++) {
		data[0] = (u8)n;
		if ((p->signals & BIT(n - 1)) && send_frame(p, WIRE_SIGNAL, data, 1, 0))
			p->signals &= ~BIT(n - 1);
	}
	if (p->shutdown && !p->shutdown_sent && p->state == CMDPORT_STARTED) {
		wire_put32(data, p->shutdown_ms);
		p->shutdown_sent = send_frame(p, WIRE_SHUTDOWN, data, WIRE_SHUTDOWN_LEN, 0);
	}
	if (p->eof && !p->eof_sent)
		p->eof_sent = send_frame(p, WIRE_STDIN_EOF, NULL, 0, 0);
}

size_t cmdport_stdin_room(const struct cmdport *p)
{
	size_t used = p->flying + WIRE_HEAD + WIRE_RESERVE;

	if (!talking(p) || p->eof || used >= p->window)
		return 0;
	return MIN(p->window - used, (size_t)WIRE_PAYLOAD_MAX);
}

size_t cmdport_stdin(struct cmdport *p, const u8 *data, size_t len)
{
	size_t n = MIN(len, cmdport_stdin_room(p));

	if (n)
		send_frame(p, WIRE_STDIN, data, n, WIRE_RESERVE);
	return n;
}

void cmdport_stdin_eof(struct cmdport *p)
{
	p->eof = true;
	send_pending(p);
}

void cmdport_winsize(struct cmdport *p, unsigned rows, unsigned cols)
{
	p->rows = (u16)MIN(rows, 0xffffu);
	p->cols = (u16)MIN(cols, 0xffffu);
	p->winsize = true;
	send_pending(p);
}

void cmdport_signal(struct cmdport *p, unsigned sig)
{
	if (sig < 1 || sig > SIGNAL_MAX)
		return;
	p->signals |= BIT(sig - 1);
	send_pending(p);
}

void cmdport_shutdown(struct cmdport *p, u32 ms)
{
	p->shutdown = true;
	p->shutdown_ms = ms;
	send_pending(p);
}

int cmdport_move(struct cmdport *p)
{
	u8 frame[WIRE_HEAD];

	if (p->n_head)
		return broken(p, "it changed its port within a frame");
	if (!talking(p) || !p->window)
		return 0;
	wire_head(frame, WIRE_MOVED, 0);
	p->ops->send(p->opaque, frame, sizeof(frame));
	p->moved = true;
	return 0;
}

/* Copies words from the guest: they will be shown on a terminal, so no control characters. */
static void words_from(char *out, size_t size, const u8 *data, size_t len)
{
	size_t n = MIN(len, size - 1);

	for (size_t i = 0; i < n; i++)
		out[i] = (char)(data[i] < 0x20 || data[i] == 0x7f ? '?' : data[i]);
	out[n] = 0;
}

static int on_hello(struct cmdport *p)
{
	if (memcmp(p->small, WIRE_MAGIC, 4) != 0)
		return broken(p, "the first frame has the wrong magic");
	if (wire_get16(p->small + 4) != WIRE_VERSION)
		return broken(p, "the guest's init speaks another version of the protocol");
	set_state(p, CMDPORT_HELLO);
	return 0;
}

static int on_ready(struct cmdport *p)
{
	u32 window = wire_get32(p->small);

	if (window < 2 * WIRE_RESERVE)
		return broken(p, "the guest's window is too small");
	p->window = MIN(window, (u32)WIRE_WINDOW);
	return 0;
}

static int on_exit_frame(struct cmdport *p)
{
	struct cmdport_outcome *o = &p->outcome;

	o->value = wire_get32(p->small + 4);
	o->words[0] = 0;
	switch (p->small[0]) {
	case WIRE_EXITED:
		o->how = CMDPORT_BY_EXIT;
		if (o->value > 255)
			return broken(p, "an exit status above 255");
		break;
	case WIRE_SIGNALED:
		o->how = CMDPORT_BY_SIGNAL;
		if (o->value < 1 || o->value > SIGNAL_MAX)
			return broken(p, "no such signal");
		break;
	case WIRE_NOT_STARTED:
		o->how = CMDPORT_NOT_STARTED;
		words_from(o->words, sizeof(o->words), p->small + WIRE_EXIT_LEN,
			   p->n_small - WIRE_EXIT_LEN);
		break;
	default:
		return broken(p, "an unknown way to end");
	}
	set_state(p, CMDPORT_EXITED);
	return 0;
}

static int on_credit(struct cmdport *p)
{
	u32 n = wire_get32(p->small);

	if (n > p->flying)
		return broken(p, "more acknowledged than sent");
	p->flying -= n;
	return 0;
}

/* A whole frame is in p->small; output frames have already gone out. */
static int frame_done(struct cmdport *p)
{
	char words[SMALL_MAX + 1];
	int ret = 0;

	switch (p->type) {
	case WIRE_HELLO:
		ret = on_hello(p);
		break;
	case WIRE_MESSAGE:
		words_from(words, sizeof(words), p->small, p->n_small);
		if (p->ops->message)
			p->ops->message(p->opaque, words);
		return 0;
	case WIRE_STARTED:
		set_state(p, CMDPORT_STARTED);
		break;
	case WIRE_READY:
		ret = on_ready(p);
		break;
	case WIRE_CREDIT:
		ret = on_credit(p);
		break;
	case WIRE_EXIT:
		return on_exit_frame(p);
	default: /* output */
		return 0;
	}
	if (ret)
		return ret;
	send_pending(p);
	if (p->ops->room && cmdport_stdin_room(p))
		p->ops->room(p->opaque);
	return 0;
}

/* Checks a header: is the type allowed now, is the length allowed for the type? */
static int frame_begin(struct cmdport *p)
{
	size_t len = wire_get16(p->head + 2), min = 0, max = 0;

	p->type = p->head[0];
	p->left = len;
	p->n_small = 0;
	if (p->state == CMDPORT_EXITED)
		return broken(p, "a frame after EXIT");
	if ((p->type == WIRE_HELLO) != (p->state == CMDPORT_WAITING))
		return broken(p, p->type == WIRE_HELLO ? "a second HELLO" : "a frame before HELLO");
	if (p->head[1])
		return broken(p, "unknown flags");
	switch (p->type) {
	case WIRE_HELLO:
		min = max = WIRE_HELLO_LEN;
		break;
	case WIRE_MESSAGE:
		max = SMALL_MAX;
		break;
	case WIRE_READY:
		if (p->window && !p->moved)
			return broken(p, "READY twice");
		p->moved = false;
		min = max = WIRE_READY_LEN;
		break;
	case WIRE_STARTED:
		if (p->state != CMDPORT_HELLO)
			return broken(p, "STARTED twice");
		break;
	case WIRE_STDOUT:
	case WIRE_STDERR:
		if (p->state != CMDPORT_STARTED)
			return broken(p, "output before STARTED");
		max = WIRE_PAYLOAD_MAX;
		break;
	case WIRE_CREDIT:
		min = max = WIRE_CREDIT_LEN;
		break;
	case WIRE_EXIT:
		min = WIRE_EXIT_LEN;
		max = SMALL_MAX;
		break;
	default:
		return broken(p, "an unknown frame type");
	}
	return len < min || len > max ? broken(p, "a frame of a wrong length") : 0;
}

int cmdport_rx(struct cmdport *p, const u8 *data, size_t len)
{
	int ret = p->state == CMDPORT_BROKEN ? -EPROTO : 0;

	while (!ret && len) {
		size_t n;

		if (p->n_head < WIRE_HEAD) {
			p->head[p->n_head++] = *data++;
			len--;
			if (p->n_head < WIRE_HEAD)
				continue;
			ret = frame_begin(p);
		}
		n = ret ? 0 : MIN(len, p->left);
		if (n && (p->type == WIRE_STDOUT || p->type == WIRE_STDERR)) {
			p->ops->out(p->opaque, p->type == WIRE_STDOUT ? 1 : 2, data, n);
		} else if (n) {
			memcpy(p->small + p->n_small, data, n);
			p->n_small += n;
		}
		data += n;
		len -= n;
		p->left -= n;
		if (!ret && !p->left) {
			p->n_head = 0;
			ret = frame_done(p);
		}
	}
	return ret;
}
