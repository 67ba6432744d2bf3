/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.h - a negative errno with words for a person
 *
 * A function that can fail for a reason a user must understand takes a `struct err *` and returns
 * a negative errno. The code below vm/ never prints: whoever consumes the error prints it, once.
 * The message says what failed, on which file or option, why, and what to do next; it has no
 * trailing newline.
 */
#ifndef ORR_BASE_ERR_H
#define ORR_BASE_ERR_H

#include "base/compiler.h"

struct err {
	int code;	/* negative errno, 0 while nothing failed */
	char msg[1024]; /* NUL-terminated, UTF-8, without newline; truncated if longer */
};

/*
 * Records @code (a negative errno) and a message, and returns @code, so that
 * `return err_set(e, -EINVAL, "...")` works. @e may be NULL: then only the code travels.
 * A later call replaces an earlier one.
 */
int err_set(struct err *e, int code, const char *fmt, ...) attr_printf(3, 4);

/* As err_set, with ": strerror(-code)" appended. */
int err_sys(struct err *e, int code, const char *fmt, ...) attr_printf(3, 4);

/* Puts "context: " before the message that is already there; @e may be NULL. */
void err_prefix(struct err *e, const char *fmt, ...) attr_printf(2, 3);

#endif
