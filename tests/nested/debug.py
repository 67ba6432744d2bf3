#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""debug.py - Debian's gdb on a stock kernel under the KVM engine

usage: debug.py ORRERY [CASE...]

Runs in the outer guest that tests/nested/run makes (or on a host with KVM). QEMU's TCG enters an
SVM guest without its breakpoints (helper_vmrun sets DR7 and arms none of them), and an INT3 there goes to the
guest, not to KVM. So what is about breakpoints skips there; steps, registers, memory and stops do not.
"""

import functools
import re

from inside import begin, emulated, load_script
from kernel import CLOUD_6_12, Bad, Skip, expect, expect_in, kernel
from cli import SLOW

test_gdb = load_script("kernel/test_gdb.py")
Debugged = test_gdb.Debugged
test_gdb.ARGS = ("--cpus", "4", "--append", "nokaslr", "--timeout", str(int(300 * SLOW)))
STEPS = 40
IDLE = ("sh", "-c", "echo up; while :; do sleep 0.1; done")
BUSY = ("sh", "-c", "echo up; for i in 1 2 3 4; do while :; do :; done & done; wait")


symbols = functools.cache(test_gdb.symbols)  # they cost a boot


def vmlinux(orrery, scratch):
    release = kernel(orrery, CLOUD_6_12)
    test_gdb.need_gdb()
    return release, test_gdb.elf(scratch + "/vmlinux", symbols(orrery, release))


def vcpus(words):
    return re.findall(r"^[* ] +\d +Thread \d \(vCPU (\d)", words, re.M)


def steps(orrery, scratch):
    """From the first instruction on: each step is one instruction, and the guest then boots as ever."""
    release, file = vmlinux(orrery, scratch)
    d = Debugged(orrery, scratch, release)
    # Straight code: each instruction ends where the next begins.
    one = ("x/2i $pc", "stepi", 'printf "now %#lx\\n", $pc')
    words = d.gdb("info threads", "info registers cs cr0 cr3 efer", *(one * STEPS),
                  "set var $xmm7.v2_int64[1] = 77", "stepi", "p $xmm7.v2_int64[1]", "detach", file=file)
    status, out, _ = d.end()
    expect("vCPUs", vcpus(words), ["0", "1", "2", "3"])
    expect("LMA and LME", re.findall(r"^efer +0x([0-9a-f]+)", words, re.M), ["500"])
    pairs = re.findall(r"^=> (0x[0-9a-f]+)[^\n]*:\t([^\n]*)\n\s+(0x[0-9a-f]+)[^\n]*\n(?:[^\n]*\n)*?now (0x[0-9a-f]+)$",
                       words, re.M)
    if len(pairs) != STEPS:
        raise Bad(f"{len(pairs)} steps of {STEPS}\n{words}")
    for at, what, behind, now in pairs:
        # Behind a write to SS the processor does not stop (SDM vol. 3, 6.8.3).
        if not re.match(r"j|call|ret|lret|iret|rep|loop|.*,%ss$", what) and behind != now:
            raise Bad(f"a step over {what} at {at} went to {now}, not {behind}\n{words}")
    expect_in("a register that was set, which Linux does not need here", "= 77", words)
    expect("status and output of the guest", (status, out.splitlines()[1:]), (0, ["4", "done"]))


def look(orrery, scratch, command=IDLE):
    """A running guest is stopped: all vCPUs' registers, memory by virtual address, steps; let go."""
    release, file = vmlinux(orrery, scratch)
    d = Debugged(orrery, scratch, release, how=",nowait", command=command)
    expect("the guest", d.p.stdout.readline(), b"up\n")
    registers = [x for n in (1, 2, 3, 4) for x in (
        f"thread {n}", 'printf "cpu %d rip %#lx rsp %#lx cr3 %#lx efer %#x gs %#lx\\n", $_thread, $pc, $rsp, '
        "$cr3, $efer, $gs_base")]
    words = d.gdb("info threads", *registers, "x/s (char *)&linux_banner",
                  'printf "jiffies %lu\\n", *(unsigned long *)&jiffies',
                  'printf "jiffies %lu\\n", *(unsigned long *)&jiffies',
                  "thread 1", "stepi", "stepi", "stepi", 'printf "stepped\\n"',
                  "x/2i $pc", "p *(char *)0xdead000000000000", "detach", file=file)
    expect("vCPUs", vcpus(words), ["0", "1", "2", "3"])
    seen = re.findall(r"^cpu (\d) rip (\S+) rsp (\S+) cr3 (\S+) efer (\S+) gs (\S+)$", words, re.M)
    expect("registers of", [s[0] for s in seen], ["1", "2", "3", "4"])
    for s in seen:
        expect("long mode with NX and SYSCALL", int(s[4], 16) & 0xd01, 0xd01)
        expect("page tables", int(s[3], 16) > 0, True)
    expect("each has its own stack", len({s[2] for s in seen}), 4)
    expect_in("the banner", "Linux version 6.", words)
    ticks = re.findall(r"^jiffies (\d+)$", words, re.M)
    expect("time stands still", (len(ticks), len(set(ticks))), (2, 1))
    expect_in("steps", "stepped", words)
    expect_in("what is not mapped", "annot access memory at address 0xdead000000000000", words)
    # It goes on: time passes.
    again = d.gdb('printf "jiffies %lu\\n", *(unsigned long *)&jiffies', "kill", file=file)
    later = re.search(r"^jiffies (\d+)$", again, re.M)
    expect("it went on", bool(later) and int(later[1]) > int(ticks[0]), True)
    expect_in("killed", "killed", again)
    expect("status", d.end()[0], 130)


def look_idle(orrery, scratch):
    look(orrery, scratch, IDLE)


def look_busy(orrery, scratch):
    look(orrery, scratch, BUSY)


def memory(orrery, scratch):
    """What is written by a virtual address, the guest reads."""
    release, file = vmlinux(orrery, scratch)
    d = Debugged(orrery, scratch, release, how=",nowait", command=(
        "sh", "-c", "echo up; until grep -q Version /proc/version; do sleep 0.1; done; cat /proc/version"))
    expect("the guest", d.p.stdout.readline(), b"up\n")
    words = d.gdb("p (char)*((char *)&linux_proc_banner + 3)",
                  "set var *(char *)((long)&linux_proc_banner + 3) = 'V'", "detach", file=file)
    expect_in("as it was", "'v'", words)
    status, out, _ = d.end()
    expect("status", status, 0)
    expect_in("what the guest printed", "Linux Version 6.", out)


def breakpoints(orrery, scratch):
    """At functions, on data: where the processor that KVM runs on has them."""
    if emulated():
        raise Skip("QEMU's TCG enters an SVM guest without its breakpoints; run on hardware")
    release, file = vmlinux(orrery, scratch)
    d = Debugged(orrery, scratch, release)
    words = d.gdb("hbreak *start_kernel", "continue", 'printf "at %d\\n", $pc == (long)&start_kernel', "delete",
                  "break *do_sys_openat2", "continue", "x/i $pc", "delete",
                  "watch *(unsigned long *)&jiffies", "continue", "continue", "delete", "continue", file=file)
    status, _, _ = d.end()
    expect_in("start_kernel", "at 1", words)
    expect_in("openat", "<do_sys_openat2>", words)
    ticks = re.findall(r"^(?:Old|New) value = (\d+)$", words, re.M)
    expect("values of jiffies", len(ticks), 4)
    expect("status", status, 0)


if __name__ == "__main__":
    begin([steps, look_idle, look_busy, memory, breakpoints])
