// SPDX-License-Identifier: Apache-2.0
/*
 * thread.c - what a thread of a VM is for
 */
#include "base/thread.h"

#include <stdatomic.h>

static void (*_Atomic on_begin)(enum thread_role role);

void thread_begin(enum thread_role role)
{
	void (*fn)(enum thread_role) = atomic_load(&on_begin);

	if (fn)
		fn(role);
}

void thread_on_begin(void (*fn)(enum thread_role role))
{
	atomic_store(&on_begin, fn);
}
