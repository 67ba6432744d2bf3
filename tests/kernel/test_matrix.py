# SPDX-License-Identifier: Apache-2.0
"""test_matrix.py - stock kernels reach user space with 1 to 252 vCPUs and find nothing wrong

The kernel's own words are part of the verdict (kernel.py, COMPLAINTS), and so is what it chose: the
TSC as its clock, the TSC deadline as its timer, x2APIC.
"""

import hashlib

from kernel import CLOUD_6_1, CLOUD_6_12, PLAIN_6_12, Bad, boot, expect, expect_in, main

LOOK = r"""
nproc
cd /sys/devices/system
cat clocksource/clocksource0/current_clocksource
cat clockevents/clockevent[0-9]*/current_device | sort -u
(for i in 1 2 3 4; do seq 500 | sha256sum & done; wait) | sort -u
"""


def look(orrery, package, cpus, *args):
    got = boot(orrery, package, *(args or ("--cpus", str(cpus))), command=["sh", "-c", LOOK],
               limit=900)
    text = "".join(f"{i}\n" for i in range(1, 501)).encode()
    want = f"{cpus}\ntsc\nlapic-deadline\n{hashlib.sha256(text).hexdigest()}  -\n"
    expect("what the guest sees", got.out.decode(), want, got)
    # Switched on by the kernel, or already at power-on, where APIC ids do not fit otherwise.
    if "x2apic enabled" not in got.err and "x2apic: enabled by BIOS" not in got.err:
        raise Bad(f"x2APIC is not in use\n{got.show()}")
    return got


def cloud61(orrery, _):
    for cpus in (1, 4, 16):
        look(orrery, CLOUD_6_1, cpus)


def cloud612(orrery, _):
    for cpus in (1, 4, 16):
        look(orrery, CLOUD_6_12, cpus)


def plain612(orrery, _):
    for cpus in (1, 4, 16):
        look(orrery, PLAIN_6_12, cpus)


def max_cpu(orrery, _):
    """252 vCPUs; those with APIC ids from 256 on are only reachable by x2APIC."""
    look(orrery, CLOUD_6_12, 252, "--topology", "max-cpu", "--mem", "1G")


def real_clock(orrery, _):
    """Guest time follows the host's: the same kernel, the same verdicts."""
    for cpus in (1, 4):
        look(orrery, CLOUD_6_12, cpus, "--clock", "real", "--cpus", str(cpus))


OPTIONS = (
    # Page tables of their own for user space, retpolines or IBRS in place of indirect branches.
    "mitigations=auto pti=on",
    "pti=on nopcid nogbpages clearcpuid=smap,smep,fsgsbase,erms,fsrm,rep_good",
    # The xAPIC page instead of MSRs, the timer's count instead of its deadline.
    "nox2apic lapic=notscdeadline highres=off nohz=off",
    "slub_debug=FZPU init_on_alloc=1 init_on_free=1 threadirqs preempt=full",
    "maxcpus=1",
)


def options(orrery, _):
    """Kernel parameters that take other paths through the CPU and the board."""
    for line in OPTIONS:
        got = boot(orrery, CLOUD_6_12, "--cpus", "4", "--append", line,
                   command=["sh", "-c", "nproc; seq 500 | sha256sum"])
        text = "".join(f"{i}\n" for i in range(1, 501)).encode()
        want = f"{1 if 'maxcpus' in line else 4}\n{hashlib.sha256(text).hexdigest()}  -\n"
        expect(f"the guest's output with {line}", got.out.decode(), want, got)


def patching(orrery, _):
    """The kernel patches all of its functions, and CPUs go and come, while others work."""
    got = boot(orrery, PLAIN_6_12, "--cpus", "4", command=["sh", "-c", r"""
        mount -t tracefs tracefs /sys/kernel/tracing
        cd /sys/kernel/tracing
        for i in 1 2; do
            echo function >current_tracer
            seq 500 | sha256sum
            head -300 trace | grep -c '<-' | sed 's/^[12]..$/traced/'
            echo nop >current_tracer
        done
        echo 'p:probe do_sys_openat2' >kprobe_events
        echo 1 >events/kprobes/enable
        cat /proc/version >/dev/null
        echo 0 >events/kprobes/enable
        grep -q probe: trace && echo probed
        cd /sys/devices/system/cpu
        (for i in 1 2 3 4; do seq 3000 | sha256sum & done; wait) | sort -u | wc -l &
        for c in 1 2 3; do echo 0 >cpu$c/online; done
        cat online
        for c in 3 1 2; do echo 1 >cpu$c/online; done
        cat online
        wait"""])
    lines = got.out.decode().split("\n")
    expect("functions traced", lines.count("traced"), 2, got)
    expect_in("kprobe", "probed", lines, got)
    expect("CPUs offline and online", lines[lines.index("probed") + 1:].count("0"), 1, got)
    expect_in("CPUs online again", "0-3", lines, got)


if __name__ == "__main__":
    main([cloud61, cloud612, plain612, max_cpu, real_clock, options, patching])
