/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread.h - what a thread of a VM is for
 *
 * Each thread says so once, before anything else. What that means is not for the layers that start
 * threads to know: vm/sandbox takes away what a thread of that kind does not need.
 */
#ifndef ORR_BASE_THREAD_H
#define ORR_BASE_THREAD_H

#include "base/compiler.h"

#include <pthread.h>

enum thread_role {
	THREAD_VM,     /* runs the engine, or waits for its vCPUs; devices, the gate */
	THREAD_VCPU,   /* one vCPU of an engine with a thread for each; devices */
	THREAD_WORKER, /* blocking I/O of a device's requests */
	THREAD_IO,     /* waits for input, signals and time-outs */
	THREAD_ROLES,
};

/* On the thread itself, first of all. Does not fail: who cannot be what it should be ends us. */
void thread_begin(enum thread_role role);

/* What thread_begin calls from now on, in the whole process; NULL: nothing. */
void thread_on_begin(void (*fn)(enum thread_role role));

/*
 * What pthread_create takes for THREAD_WORKER and THREAD_IO: on which CPUs of the host they are, if the
 * calling thread has said so for the threads that it starts; else NULL, and they inherit.
 */
const pthread_attr_t *thread_attr(void);
/* Borrows @attr until it is replaced; NULL: none. */
void thread_set_attr(const pthread_attr_t *attr);

#endif
