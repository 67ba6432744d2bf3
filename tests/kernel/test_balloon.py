#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_balloon.py - the balloon with stock kernels, and what the host has of it

usage: test_balloon.py ORRERY [CASE...]
"""

import subprocess
import time

from kernel import CLOUD_6_1, CLOUD_6_12, boot, expect, expect_in, kernel, main
from cli import CLOCKS, SLOW, Bad, run

MIB = 1 << 20

# Fills memory, frees it, uses it again. At each step more is written than a pipe holds: the guest
# stands still until the host has looked and reads on. With deflate-on-OOM, MemTotal does not tell of
# the balloon, but MemFree does.
STEPS = r"""
    step() { echo "step $1"; seq 40000; }
    free() { awk '/MemFree/ { print int($2 / 1024) }' /proc/meminfo; }
    mount -o remount,size=95% /tmp
    seq 150000 >/tmp/part
    fill() { for i in $(seq 380); do cat /tmp/part; done >/tmp/fill; }
    fill
    step full
    rm /tmp/fill
    step removed
    until [ $(free) -lt 230 ]; do sleep 0.5; done
    step out
    until [ $(free) -gt 400 ]; do sleep 0.5; done
    fill
    step again
    n=$(wc -c </tmp/part)
    for i in 0 100 200 300 379; do dd if=/tmp/fill bs=$n skip=$i count=1 2>/dev/null; done >/tmp/check
    for i in 1 2 3 4 5; do cat /tmp/part; done | cmp - /tmp/check && echo same
"""


def rss(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        for line in f:
            if line.startswith("VmRSS"):
                return int(line.split()[1]) << 10
    return 0


def stand_still(pid):
    """Waits until the process uses no more CPU time; KVM's idle guest goes on ticking: for a while."""
    still, last = 0, None
    end = time.monotonic() + 3 * SLOW
    while still < 3 and (CLOCKS != ("real",) or time.monotonic() < end):
        time.sleep(0.1)
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            now = f.read().rsplit(")", 1)[1].split()[11:13]
        still = still + 1 if now == last else 0
        last = now


def steps(orrery, package, balloon):
    """Runs STEPS; returns the monitor's resident bytes at each, and what it said."""
    args = [orrery, "run", "--kernel", kernel(orrery, package), "--mem", "512M", "--balloon", balloon,
            "--stats", "--timeout", str(int(200 * SLOW)), "--", "sh", "-c", STEPS]
    at, last = {}, b""
    with subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as p:
        for line in p.stdout:
            last = line
            if line.startswith(b"step "):
                stand_still(p.pid)
                at[line.split()[1].decode()] = rss(p.pid)
        err = p.stderr.read().decode()
        if p.wait() != 0:
            raise Bad(f"status {p.returncode}: {err}")
    expect("what was written is there", last, b"same\n")
    return at, err


def moved(at, a, b, least, most):
    change = (at[b] - at[a]) / MIB
    if not least <= change <= most:
        raise Bad(f"resident memory changed by {change:.0f} MiB from {a} to {b}, expected "
                  f"{least} to {most}: { {k: v >> 20 for k, v in at.items()} }")


def out_and_back(orrery, package):
    """Without reporting, only the balloon gives memory back: 256 MiB out, then in use again."""
    at, err = steps(orrery, package, "256M@5,512M@9,noreport")
    moved(at, "full", "removed", -16, 16)
    moved(at, "removed", "out", -260, -200)
    moved(at, "out", "again", 200, 280)
    for word in "balloon_inflated", "balloon_deflated", "balloon_available":
        expect_in("counters", word, err)


def out_and_back_6_1(orrery, scratch):
    out_and_back(orrery, CLOUD_6_1)


def out_and_back_6_12(orrery, scratch):
    out_and_back(orrery, CLOUD_6_12)


def reporting(orrery, scratch):
    """What the guest frees goes back by itself, in seconds of its time."""
    command = ["sh", "-c", "dd if=/dev/zero bs=1M count=300 2>/dev/null | tr '\\0' x >/tmp/fill; rm "
               "/tmp/fill; sleep 8"]
    got = boot(orrery, CLOUD_6_12, "--mem", "1G", "--balloon", "1G", "--stats", command=command)
    if got.stat("balloon_reported") < 280 * MIB:
        raise Bad(f"too little was reported\n{got.show()}")


def oom(orrery, scratch):
    """A guest that needs what it gave takes it back instead of killing."""
    got = run(orrery, "run", "--kernel", kernel(orrery, CLOUD_6_12), "--mem", "512M", "--balloon", "160M",
              "--stats", "--", "sh", "-c", "sleep 3; dd if=/dev/zero bs=300M count=1 2>/dev/null | wc -c")
    expect("status", got.status, 0, got)
    expect("output", got.out, b"314572800\n", got)
    if got.stat("balloon_deflated") < 10000:
        raise Bad(f"nothing was taken back\n{got.show()}")


def exact(orrery, scratch):
    """Timed targets and reports in one digest, twice, and in both tiers."""
    runs = [boot(orrery, CLOUD_6_12, "--mem", "600M", "--balloon", "300M@1,500M@3", "--digest", "--cpus",
                 "2", *tier, command=["sh", "-c", "seq 100000 >/tmp/x; sleep 2; md5sum /tmp/x; sleep 3"])
            for tier in ((), (), ("--tier", "interp"))]
    for other in runs[1:]:
        expect("digest", other.digest(), runs[0].digest(), other)


def refusals(orrery, scratch):
    for text, why in (("2T", "MiB"), ("1G@2,512M@1", "comes before"), ("1Q", "1Q"), ("", "--balloon"),
                      ("1G@x", "x"), ("size=1G", "noreport"), ("1G,,", "--balloon")):
        got = run(orrery, "run", "--mem", "1G", "--balloon", text, "--", "true")
        expect(f"status of {text!r}", got.status, 125, got)
        expect(f"lines of {text!r}", got.err.count("\n"), 1, got)
        expect_in(f"why of {text!r}", why, got.err, got)


if __name__ == "__main__":
    main([out_and_back_6_1, out_and_back_6_12, reporting, oom, exact, refusals])
