/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call.h - every call of the host's KVM goes through here
 *
 * One place gives a failed call its name for the message, and lets a test make each call fail in
 * turn. Opening the node, mapping a vCPU's page and starting its thread count as calls too.
 */
#ifndef ORR_CPU_KVM_CALL_H
#define ORR_CPU_KVM_CALL_H

#include "base/compiler.h"
#include "base/err.h"

/* ioctl(2): >= 0, or a negative errno. @name is that of @request. */
int kvm_call(int fd, const char *name, unsigned long request, unsigned long arg);
#define KVM_CALL(fd, req, arg) kvm_call(fd, #req, req, (unsigned long)(arg))

/* The same; a failure gets the message "KVM_NAME failed: why". */
int kvm_try(struct err *e, int fd, const char *name, unsigned long request, unsigned long arg);
#define KVM_TRY(e, fd, req, arg) kvm_try(e, fd, #req, req, (unsigned long)(arg))

/* For what is no ioctl: 0, or the errno that a test wants to see here. */
int kvm_gate(const char *name);

/* Opens @node ("/dev/kvm"): the descriptor, or a negative errno with a message. */
int kvm_open(const char *node, struct err *e);

/*
 * For tests: the @nth call from now on (1: the next) fails once with -@error; 0: none. Calls are
 * counted for all threads of the process.
 */
void kvm_calls_fail(u64 nth, int error);
/* How many calls were made since the last kvm_calls_fail, and the name of the one that failed. */
u64 kvm_calls_made(void);
const char *kvm_calls_failed(void);

#endif
