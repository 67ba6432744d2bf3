/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vcon.h - the virtio consoles of a VM: hvc0, and the command's data port
 *
 * Both are kinds of devices (vm/devices.h), created by the machine; a session connects itself to
 * them here. All on the VM's thread.
 */
#ifndef ORR_VM_VCON_H
#define ORR_VM_VCON_H

#include "dev/virtio_console.h"
#include "vm/devices.h"

struct vcon;

/* The object of the one device of @kind (vm_dev_hvc, vm_dev_port) in @d; NULL: there is none. */
struct vcon *vcon_of(const struct vm_devs *d, const struct vm_dev_kind *kind);
/* Before the machine is created. Legal on NULL. @ops is borrowed. */
void vcon_attach(struct vcon *c, const struct virtio_console_ops *ops, void *opaque);
/* The size of hvc0's terminal; 0: unknown. Legal on NULL, and before the machine is created. */
void vcon_resize(struct vcon *c, unsigned rows, unsigned cols);
/* As virtio_console_rx; 0 before the machine is created. */
size_t vcon_rx(struct vcon *c, const u8 *bytes, size_t n);

#endif
