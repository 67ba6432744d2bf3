/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sigbus.h - memory that files are mapped into, and that must survive their truncation
 */
#ifndef ORR_HOST_SIGBUS_H
#define ORR_HOST_SIGBUS_H

#include "base/compiler.h"

/*
 * From now on an access in [@base, @base+@len) to a page that its file no longer has finds zeros
 * instead of ending the process by SIGBUS. 0, or -ENOSPC: too many such ranges.
 */
int sigbus_guard(void *base, u64 len);
/* Ends it. What is not guarded is ignored. */
void sigbus_unguard(void *base);

#endif
