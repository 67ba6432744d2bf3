/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uart16550.h - 16550A serial port (National Semiconductor PC16550D data sheet)
 */
#ifndef ORR_DEV_UART16550_H
#define ORR_DEV_UART16550_H

#include "base/compiler.h"
#include "base/gclock.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"

#define UART_PORTS 8u /* bytes of register space */

struct uart;

struct uart_cfg {
	struct gclock *clk; /* borrowed */
	struct irq_line irq;
	/* Bytes the guest sent, in order, as it writes them. May be NULL: they are dropped. */
	void (*tx)(void *opaque, const u8 *bytes, size_t n);
	/*
	 * The guest emptied the receive FIFO a while ago: uart_rx will take bytes again. Called on
	 * the engine's thread. May be NULL.
	 */
	void (*rx_space)(void *opaque);
	void *opaque;
};

int uart_new(const struct uart_cfg *cfg, struct uart **ret); /* 0 or -ENOMEM */
void uart_free(struct uart *u);

extern const struct bus_ops uart_bus_ops; /* for a range of UART_PORTS */
struct device uart_device(struct uart *u);

/*
 * Offers @n received bytes. Returns how many were taken (0..@n): as many as the FIFO has room for
 * (one without FIFO, none in loopback mode). After a short answer rx_space will be called.
 */
size_t uart_rx(struct uart *u, const u8 *bytes, size_t n);

/* Whether received bytes interrupt the guest; rx_space is called when that begins. */
bool uart_rx_listening(const struct uart *u);

/* A break condition on the line (Linux: the start of a SysRq). Taken if the FIFO has room. */
bool uart_rx_break(struct uart *u);

#endif
