/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi_pm.h - sleep and reset registers of a hardware-reduced ACPI machine
 * (ACPI 6.5, 4.8.3.6 reset register, 4.8.3.7 sleep control and status registers)
 */
#ifndef ORR_DEV_ACPI_PM_H
#define ORR_DEV_ACPI_PM_H

#include "base/compiler.h"
#include "bus/bus.h"
#include "bus/device.h"

#define ACPI_PM_PORT 0x600
#define ACPI_PM_PORTS 8u
#define ACPI_PM_SLEEP_CONTROL 0x600 /* byte registers; the FADT names these ports */
#define ACPI_PM_SLEEP_STATUS 0x601
#define ACPI_PM_RESET 0x604
#define ACPI_PM_RESET_VALUE 1
#define ACPI_PM_S5_TYPE 5 /* SLP_TYPx of \_S5 in the DSDT */

struct acpi_pm;

struct acpi_pm_cfg {
	void (*poweroff)(void *opaque);
	void (*reset)(void *opaque);
	void *opaque;
};

int acpi_pm_new(const struct acpi_pm_cfg *cfg, struct acpi_pm **ret); /* 0 or -ENOMEM */
void acpi_pm_free(struct acpi_pm *p);

extern const struct bus_ops acpi_pm_bus_ops; /* for a range of ACPI_PM_PORTS at ACPI_PM_PORT */
struct device acpi_pm_device(struct acpi_pm *p);

#endif
