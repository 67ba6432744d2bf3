/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balloon.h - the memory balloon among a VM's devices
 */
#ifndef ORR_VM_BALLOON_H
#define ORR_VM_BALLOON_H

#include "base/err.h"
#include "vm/devices.h"

/*
 * On the VM's thread: the guest is to keep @bytes from now on. 0; -ENOTSUP: the VM has no balloon;
 * -EINVAL: more than it has. With message.
 */
int vm_balloon_keep(const struct vm_devs *devs, u64 bytes, struct err *e);

#endif
