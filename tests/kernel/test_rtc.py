#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_rtc.py - stock kernels take the real-time clock: their date, setting it, its alarm

usage: test_rtc.py ORRERY [CASE...]
"""

from kernel import CLOUD_6_1, CLOUD_6_12, boot, expect, expect_in, main

USE = r"""
    cat /sys/class/rtc/rtc0/name /sys/class/rtc/rtc0/hctosys
    date -u +%Y-%m-%dT%H:%M
    date -u -s '2031-02-03 04:05:06' >/dev/null && hwclock -u -w && cat /sys/class/rtc/rtc0/date
    sleep 2; hwclock -u -s; date -u +%H:%M
    before=$(awk '/rtc0/ { print $2 }' /proc/interrupts)
    echo $(($(cat /sys/class/rtc/rtc0/since_epoch) + 3)) >/sys/class/rtc/rtc0/wakealarm
    sleep 5
    after=$(awk '/rtc0/ { print $2 }' /proc/interrupts)
    [ $after -gt $before ] && echo alarm
"""


def use(orrery, package):
    got = boot(orrery, package, "--rtc-base", "2029-12-31T23:59:00Z", command=["sh", "-c", USE])
    lines = got.out.decode().split("\n")
    expect_in("driver", "rtc_cmos", lines[0], got)
    expect("the system's time came from it", lines[1], "1", got)
    expect("date", lines[2], "2029-12-31T23:59", got)
    expect("date that was set", lines[3], "2031-02-03", got)
    expect("time that was set", lines[4], "04:05", got)
    expect("alarm", lines[5], "alarm", got)


def cloud_6_1(orrery, scratch):
    use(orrery, CLOUD_6_1)


def cloud_6_12(orrery, scratch):
    use(orrery, CLOUD_6_12)


if __name__ == "__main__":
    main([cloud_6_1, cloud_6_12])
