/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.c - a negative errno with words for a person
 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bug(const char *file, int line, const char *what)
{
	fprintf(stderr, "orrery: BUG at %s:%d: %s\n", file, line, what);
	abort();
}

static void err_vset(struct err *e, int code, const char *fmt, va_list ap)
{
	char buf[sizeof(e->msg)];

	/* Through a buffer, since an argument may be e->msg itself. */
	vsnprintf(buf, sizeof(buf), fmt, ap);
	memcpy(e->msg, buf, sizeof(buf));
	e->code = code;
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	BUG_IF(code >= 0);
	if (!e)
		return code;
	va_start(ap, fmt);
	err_vset(e, code, fmt, ap);
	va_end(ap);
	return code;
}

int err_sys(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	BUG_IF(code >= 0);
	if (!e)
		return code;
	va_start(ap, fmt);
	err_vset(e, code, fmt, ap);
	va_end(ap);
	n = strlen(e->msg);
	snprintf(e->msg + n, sizeof(e->msg) - n, ": %s", strerror(-code));
	return code;
}

void err_prefix(struct err *e, const char *fmt, ...)
{
	char head[sizeof(e->msg) / 2], tail[sizeof(e->msg)];
	va_list ap;

	if (!e)
		return;
	memcpy(tail, e->msg, sizeof(tail));
	va_start(ap, fmt);
	vsnprintf(head, sizeof(head), fmt, ap);
	va_end(ap);
	/* The tail is the part that may be cut; the context always fits. */
	size_t n = strlen(head);
	memcpy(e->msg, head, n);
	memcpy(e->msg + n, ": ", 2);
	snprintf(e->msg + n + 2, sizeof(e->msg) - n - 2, "%.*s", (int)(sizeof(e->msg) - n - 3),
		 tail);
}
