// SPDX-License-Identifier: Apache-2.0
/*
 * thread.c - what a thread of a VM is for
 */
#include "base/thread.h"

#include <stdatomic.h>

static _Thread_local const pthread_attr_t *start_attr;
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

const pthread_attr_t *thread_attr(void)
{
	return start_attr;
}

void thread_set_attr(const pthread_attr_t *attr)
{
	start_attr = attr;
}
