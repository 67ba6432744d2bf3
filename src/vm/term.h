/* SPDX-License-Identifier: Apache-2.0 */
/*
 * term.h - the host's terminal in raw mode, and back
 */
#ifndef ORR_VM_TERM_H
#define ORR_VM_TERM_H

#include "base/err.h"

/*
 * Puts the terminal @fd into raw mode: every key goes to the guest. One terminal at a time. 0, or
 * a negative errno with a message.
 */
int term_raw(int fd, struct err *e);
/* Undoes term_raw; harmless without it, safe in a signal handler. */
void term_restore(void);
/* The size of the first of @fds (@n of them) that is a terminal. False: there is none. */
bool term_size(const int *fds, unsigned n, unsigned *ret_rows, unsigned *ret_cols);

#endif
