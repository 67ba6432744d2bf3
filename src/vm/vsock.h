/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock.h - the socket device among a VM's devices
 */
#ifndef ORR_VM_VSOCK_H
#define ORR_VM_VSOCK_H

#include "dev/virtio_vsock.h"
#include "vm/devices.h"

#define VM_VSOCK_CID_DEFAULT 3u

bool vm_has_vsock(const struct vm_devs *devs);
/* The device, once the machine is built; NULL: the VM has none. */
struct virtio_vsock *vm_vsock(const struct vm_devs *devs);

#endif
