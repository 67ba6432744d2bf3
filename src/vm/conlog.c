// SPDX-License-Identifier: Apache-2.0
/*
 * conlog.c - what a guest's console said last, and whether it said that its kernel panicked
 *
 * How it works
 * The bytes are a guest's, and end up on a person's terminal: everything but printable characters,
 * tabs and line ends is dropped, escape sequences included, on the way in.
 *
 * A panic is recognized by Linux's fixed words (kernel/panic.c) anywhere in a line, since a time
 * stamp or a log level may precede them. A guest may say these words without meaning them; so they
 * only explain an end that comes for other reasons. Two lines together (the panic and the one that
 * Linux prints when nothing will follow) are taken as an end.
 */
#include "vm/conlog.h"

#include <stdio.h>
#include <string.h>

#define PANIC_WORDS "Kernel panic - not syncing"
#define OVER_WORDS "---[ end Kernel panic"

static void tail_put(struct conlog *c, char ch)
{
	c->tail[c->total++ % CONLOG_TAIL] = ch;
}

static void line_done(struct conlog *c)
{
	c->line[c->n] = 0;
	c->n = 0;
	c->lines++;
	if (!c->panic[0]) {
		const char *at = strstr(c->line, PANIC_WORDS);

		if (at)
			snprintf(c->panic, sizeof(c->panic), "%s", at);
	} else if (strstr(c->line, OVER_WORDS)) {
		c->panic_over = true;
	}
	tail_put(c, '\n');
	c->line[0] = 0;
}

void conlog_add(struct conlog *c, const u8 *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char ch = (char)bytes[i];

		if (ch == '\n') {
			line_done(c);
			continue;
		}
		if ((bytes[i] < 0x20 && ch != '\t') || bytes[i] == 0x7f)
			continue;
		tail_put(c, ch);
		if (c->n < CONLOG_LINE - 1)
			c->line[c->n++] = ch;
	}
}

bool conlog_panicked(const struct conlog *c)
{
	return c->panic[0] || memmem(c->line, c->n, PANIC_WORDS, strlen(PANIC_WORDS));
}

size_t conlog_last(const struct conlog *c, unsigned max_lines, char *ret)
{
	size_t n = (size_t)MIN(c->total, (u64)CONLOG_TAIL), at;
	unsigned lines = 0;

	for (size_t i = 0; i < n; i++)
		ret[i] = c->tail[(c->total - n + i) % CONLOG_TAIL];
	while (n && ret[n - 1] == '\n')
		n--;
	ret[n] = 0;
	for (at = n; at > 0; at--)
		if (ret[at - 1] == '\n' && ++lines == max_lines)
			break;
	/* A full ring begins in the middle of a line. */
	if (at == 0 && c->total > CONLOG_TAIL) {
		char *nl = strchr(ret, '\n');

		at = nl ? (size_t)(nl - ret) + 1 : 0;
	}
	memmove(ret, ret + at, n - at + 1);
	return n - at;
}
