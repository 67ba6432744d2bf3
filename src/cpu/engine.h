/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h - what every CPU engine offers to the VM
 */
#ifndef ORR_CPU_ENGINE_H
#define ORR_CPU_ENGINE_H

#include "base/compiler.h"

/* Why engine_run came back. */
enum engine_exit {
	ENGINE_STOPPED,	 /* somebody asked: engine_kick, power-off, time-out */
	ENGINE_RESET,	 /* the guest asked for a reset (i8042, ACPI) */
	ENGINE_POWEROFF, /* the guest powered off */
	ENGINE_TRIPLE,	 /* triple fault */
	ENGINE_DEADLOCK, /* every vCPU is halted with interrupts off, or waits forever */
};

#endif
