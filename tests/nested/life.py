#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""life.py - pause, resume, reset, stop under the KVM engine: 4 and 16 vCPUs, busy and idle, and at random

usage: life.py ORRERY [CASE...]      SEQUENCES=N SEED=N for the random ones

Runs in the outer guest that tests/nested/run makes (or on a host with KVM).
"""

import os
import time

from inside import ask, begin, cpu_time, load_script, state
from kernel import CLOUD_6_12, expect, kernel
from vsock import vm

BUSY = "for i in $(seq $(nproc)); do while :; do :; done & done; echo up; wait"
IDLE = "echo up; sleep 100000"


def uptime(v):
    got = v.exec("--wait", "200", "--", "cat", "/proc/uptime", limit=400)
    expect("status of exec", got.status, 0, got)
    return float(got.out.split()[0])


def states(orrery, scratch, cpus, script):
    """Three pauses, which nothing outlasts; the guest's time stands still in them; a reset; a stop."""
    with vm(orrery, scratch, "--engine", "kvm", "--kernel", kernel(orrery, CLOUD_6_12), "--vsock", "--mem",
            "1G", "--cpus", str(cpus), command=("sh", "-c", script)) as v:
        begun = time.monotonic()
        expect("begins", v.p.stdout.readline(), b"up\n")
        boot = time.monotonic() - begun
        before, began, pauses, still = uptime(v), time.monotonic(), [], 3
        for _ in range(3):
            pauses.append(ask(v, "pause").seconds)
            expect("state", state(v), "paused")
            used = cpu_time(v.p.pid)
            time.sleep(still)
            expect("CPU time while paused", cpu_time(v.p.pid) - used < 0.2, True)
            ask(v, "resume")
            expect("state", state(v), "running")
        passed = uptime(v) - before
        expect("the guest's time, less than the host's without the pauses",
               passed <= time.monotonic() - began - 3 * still, True)
        reset = ask(v, "reset").seconds
        expect("begins again", v.p.stdout.readline(), b"up\n")
        expect("its time began anew", uptime(v) < before + passed + boot, True)
        ask(v, "pause")
        ask(v, "resume")
        stop = ask(v, "stop", "--force").seconds
        expect("status", v.end()[0], 143)
        print(f"  {cpus} vCPUs, boot {boot:.1f} s; whole commands, ms: pause "
              f"{' '.join(f'{1000 * s:.0f}' for s in pauses)}, reset {1000 * reset:.0f}, stop {1000 * stop:.0f}")


def busy_4(orrery, scratch):
    states(orrery, scratch, 4, BUSY)


def idle_4(orrery, scratch):
    states(orrery, scratch, 4, IDLE)


def busy_16(orrery, scratch):
    states(orrery, scratch, 16, BUSY)


def idle_16(orrery, scratch):
    states(orrery, scratch, 16, IDLE)


def paused_ends(orrery, scratch):
    """A paused guest is stopped and reset as a running one is; a time-out comes in a pause too."""
    args = ("--engine", "kvm", "--kernel", kernel(orrery, CLOUD_6_12), "--cpus", "4")
    with vm(orrery, scratch, *args, command=("sh", "-c", BUSY)) as v:
        expect("begins", v.p.stdout.readline(), b"up\n")
        ask(v, "pause")
        ask(v, "reset")
        expect("begins again", v.p.stdout.readline(), b"up\n")
        ask(v, "pause")
        ask(v, "stop", "--force")
        expect("status", v.end()[0], 143)
    with vm(orrery, scratch, *args, "--timeout", "5", name="t", command=("sh", "-c", BUSY)) as v:
        ask(v, "pause")
        expect("status", v.end(100)[0], 124)


def at_random(path, case, count, orrery, scratch):
    """@case of the test script @path, with $SEQUENCES sequences, or else @count."""
    wanted = os.environ.get("SEQUENCES")
    os.environ["SEQUENCES"] = wanted or str(count)
    try:
        getattr(load_script(path), case)(orrery, scratch)
    finally:
        if not wanted:
            del os.environ["SEQUENCES"]


def sequences(orrery, scratch):
    """Two clients at once, guests of a few bytes, whose beginning costs little."""
    at_random("cli/test_life.py", "sequences", 200, orrery, scratch)


def end_and_pause(orrery, scratch):
    at_random("cli/test_life.py", "end_and_pause", 20, orrery, scratch)


def linux_sequences(orrery, scratch):
    """With exec and balloon, while the command writes without end."""
    at_random("kernel/test_life.py", "sequences", 10, orrery, scratch)


if __name__ == "__main__":
    begin([busy_4, idle_4, busy_16, idle_16, paused_ends, sequences, end_and_pause, linux_sequences])
