#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_virtio.py - stock kernels find virtio devices, and a run with them is exact

usage: test_virtio.py ORRERY [CASE...]

The entropy device stands for all: what is tested here is what they share.
"""

from kernel import (CLOUD_6_1, CLOUD_6_12, PLAIN_6_12, boot, expect, expect_in, kernel, main)
from cli import CLOCKS, run

# Uses the device, takes its driver away and gives it back (a reset with a request under way), and
# loads the interrupt handler again.
USE = r"""
    set -e
    cd /sys/bus/virtio/drivers/virtio_rng
    cat /sys/class/misc/hw_random/rng_current
    head -c 4096 /dev/hwrng | md5sum
    for i in 1 2 3; do
        head -c 65536 /dev/hwrng >/dev/null 2>&1 & reader=$!
        echo virtio0 >unbind
        echo virtio0 >bind
        wait $reader || true
    done
    cat /sys/class/misc/hw_random/rng_current
    head -c 64 /dev/hwrng | wc -c
    grep -c virtio0 /proc/interrupts
    cat /sys/bus/virtio/devices/virtio0/device
"""


def found(orrery, package):
    for clock in CLOCKS:
        got = boot(orrery, package, "--rng", "--clock", clock, command=["sh", "-c", USE])
        lines = got.out.decode().split("\n")
        expect("source", lines[0], "virtio_rng.0", got)
        expect_in("source after resets", "virtio_rng.", lines[2], got)
        expect("bytes read after the resets", lines[3], "64", got)
        expect("lines of /proc/interrupts", lines[4], "1", got)
        expect("device", lines[5], "0x0004", got)


def cloud_6_1(orrery, scratch):
    found(orrery, CLOUD_6_1)


def cloud_6_12(orrery, scratch):
    found(orrery, CLOUD_6_12)


def plain_6_12(orrery, scratch):
    found(orrery, PLAIN_6_12)


def exact(orrery, scratch):
    """Four CPUs draw at once: the same seed gives the same bytes and digest, another others."""
    draw = "for i in 1 2 3 4; do head -c 2000 /dev/hwrng | md5sum & done; wait"
    got = [run(orrery, "run", "--kernel", kernel(orrery, CLOUD_6_12), "--cpus", "4", "--rng",
               "--seed", seed, "--digest", "--", "sh", "-c", draw) for seed in ("1", "1", "2")]
    for g in got:
        expect("status", g.status, 0, g)
        expect("sums", len(g.out.split()), 8, g)
    expect("bytes of one seed", got[1].out, got[0].out)
    expect("digest of one seed", got[1].digest(), got[0].digest())
    expect("other bytes of another seed", got[2].out != got[0].out, True)


def all_slots(orrery, scratch):
    """A device in every slot, each with a stream and an interrupt of its own; more are refused."""
    show = r"""
        ls /sys/bus/virtio/devices | wc -l
        grep -o 'virtio[^ ]*' /sys/class/misc/hw_random/rng_available | wc -l
        for r in $(cat /sys/class/misc/hw_random/rng_available); do
            case $r in virtio*)
                echo $r >/sys/class/misc/hw_random/rng_current
                head -c 16 /dev/hwrng | md5sum
            esac
        done | sort -u | wc -l
        awk '/virtio/ && $2 > 0' /proc/interrupts | wc -l"""
    got = boot(orrery, CLOUD_6_12, *["--rng"] * 32, command=["sh", "-c", show])
    expect("devices, sources, different streams, lines that interrupted",
           got.out.split(), [b"32", b"32", b"32", b"32"], got)
    got = run(orrery, "run", *["--rng"] * 33, "--", "true")
    expect("status with one more", got.status, 125, got)
    expect_in("why", "32 slots", got.err, got)


def on_the_command_line(orrery, scratch):
    """No Debian kernel takes devices from there: ACPI is silent, and a module gets its words."""
    got = boot(orrery, CLOUD_6_12, "--rng", "--rng", "--virtio-cmdline", "--module", "loop",
               "--append", "loop.max_part=7 loopx.max_part=3", command=[
                   "sh", "-c", "ls /sys/bus/virtio/devices | wc -l; cat /proc/cmdline;"
                   "cat /sys/module/loop/parameters/max_part"])
    lines = got.out.decode().splitlines()
    expect("devices that ACPI names", lines[0], "0", got)
    expect_in("the command line", "virtio_mmio.device=0x200@0xd0000000:32 "
              "virtio_mmio.device=0x200@0xd0001000:33", lines[1], got)
    expect("parameter of the module loop", lines[2], "7", got)


if __name__ == "__main__":
    main([cloud_6_1, cloud_6_12, plain_6_12, exact, all_slots, on_the_command_line])
