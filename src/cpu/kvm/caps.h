/* SPDX-License-Identifier: Apache-2.0 */
/*
 * caps.h - what the engine needs of the host's KVM
 */
#ifndef ORR_CPU_KVM_CAPS_H
#define ORR_CPU_KVM_CAPS_H

#include "base/compiler.h"
#include "base/err.h"

/* 0, or -ENOTSUP with a message that names the first thing missing. @fd: /dev/kvm. */
int kvm_caps_check(int fd, struct err *e);

/* KVM_CREATE_VM, which a signal may interrupt. The descriptor, or a negative errno with a message. */
int kvm_create_vm(int fd, struct err *e);

#endif
