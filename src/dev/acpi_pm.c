/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi_pm.c - sleep and reset registers of a hardware-reduced ACPI machine
 *
 * How it works
 * Sleep control (offset 0): SLP_TYPx in bits 4:2, SLP_EN in bit 5. SLP_EN is write-only and acts
 * at once: type 5 powers off, other types are not in the DSDT and do nothing. Sleep status
 * (offset 1): WAK_STS in bit 7, cleared by writing one; a machine that never sleeps never wakes.
 * Reset (offset 4): the value that the FADT names. (ACPI 6.5, 4.8.3.6 and 4.8.3.7)
 */
#include "dev/acpi_pm.h"

#include <errno.h>
#include <stdlib.h>

#define SLP_TYP(v) (((v) >> 2) & 7)
#define SLP_TYP_MASK 0x1c
#define SLP_EN 0x20

struct acpi_pm_st {
	u8 control;
};

struct acpi_pm {
	struct acpi_pm_cfg cfg;
	struct acpi_pm_st st;
};

static const struct field_desc fields[] = {
	DEV_FIELD(struct acpi_pm_st, control),
	DEV_FIELDS_END,
};

static void reg_write(struct acpi_pm *p, u64 port, u8 val)
{
	switch (port) {
	case ACPI_PM_SLEEP_CONTROL:
		p->st.control = val & SLP_TYP_MASK;
		if ((val & SLP_EN) && SLP_TYP(val) == ACPI_PM_S5_TYPE && p->cfg.poweroff)
			p->cfg.poweroff(p->cfg.opaque);
		break;
	case ACPI_PM_RESET:
		if (val == ACPI_PM_RESET_VALUE && p->cfg.reset)
			p->cfg.reset(p->cfg.opaque);
		break;
	}
}

static u64 bus_rd(void *opaque, u64 off, unsigned size, unsigned cpu)
{
	struct acpi_pm *p = opaque;

	/* Control is the lowest byte; status, reset and the gaps read as zero. */
	return off == 0 ? p->st.control : 0;
}

static void bus_wr(void *opaque, u64 off, unsigned size, u64 val, unsigned cpu)
{
	for (unsigned i = 0; i < size; i++)
		reg_write(opaque, ACPI_PM_PORT + off + i, (u8)(val >> (8 * i)));
}

const struct bus_ops acpi_pm_bus_ops = { .read = bus_rd, .write = bus_wr };

static void dev_reset(void *dev)
{
	((struct acpi_pm *)dev)->st = (struct acpi_pm_st){ 0 };
}

static void *dev_state(void *dev, unsigned i)
{
	return i ? NULL : &((struct acpi_pm *)dev)->st;
}

static const struct device_ops device_ops = {
	.name = "acpi_pm",
	.reset = dev_reset,
	.state = dev_state,
	.fields = fields,
};

struct device acpi_pm_device(struct acpi_pm *p)
{
	return (struct device){ &device_ops, p };
}

int acpi_pm_new(const struct acpi_pm_cfg *cfg, struct acpi_pm **ret)
{
	struct acpi_pm *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->cfg = *cfg;
	*ret = p;
	return 0;
}

void acpi_pm_free(struct acpi_pm *p)
{
	free(p);
}
