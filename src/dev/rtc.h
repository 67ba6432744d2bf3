/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rtc.h - real-time clock and CMOS memory (Motorola MC146818A as in the PC/AT)
 */
#ifndef ORR_DEV_RTC_H
#define ORR_DEV_RTC_H

#include "base/compiler.h"
#include "base/gclock.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"

#define RTC_PORT 0x70
#define RTC_PORTS 2u /* index, data */
#define RTC_IRQ 8
#define RTC_BASE_MIN 0		    /* 1970-01-01 */
#define RTC_BASE_MAX 253402300799ll /* 9999-12-31 23:59:59, the last two-digit century */

struct rtc;

struct rtc_cfg {
	struct gclock *clk; /* borrowed */
	struct irq_line irq;
	s64 base; /* Unix time (UTC) at guest time 0; RTC_BASE_MIN..RTC_BASE_MAX */
};

int rtc_new(const struct rtc_cfg *cfg, struct rtc **ret); /* 0, -EINVAL, -ENOMEM */
void rtc_free(struct rtc *r);

extern const struct bus_ops rtc_bus_ops; /* for a range of RTC_PORTS at RTC_PORT */
struct device rtc_device(struct rtc *r);

#endif
