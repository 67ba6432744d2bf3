/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmio.h - the virtio-mmio transport, version 2 (virtio 1.2, 4.2)
 */
#ifndef ORR_VIRTIO_MMIO_H
#define ORR_VIRTIO_MMIO_H

#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"
#include "virtio/vdev.h"

#define VIRTIO_MMIO_LEN 0x200u /* bytes of the register window: 0x100 of them configuration space */

struct virtio_mmio;

/* Puts @v (borrowed; freed after the transport) behind registers. 0 or -ENOMEM. */
int virtio_mmio_new(struct vdev *v, const struct irq_line *irq, struct virtio_mmio **ret);
void virtio_mmio_free(struct virtio_mmio *m);

extern const struct bus_ops virtio_mmio_bus_ops; /* for a range of VIRTIO_MMIO_LEN */
struct device virtio_mmio_device(struct virtio_mmio *m);

#endif
