#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_exact.py - the same seed gives the same run to the bit, another seed another run

usage: test_exact.py ORRERY [one|four|sixteen]
"""

import subprocess
import sys

import cli

# Work that interleaves: parallel hashing, pipes between processes, a storm of forks.
WORK = r"""
    for i in 1 2 3 4; do head -c 20000 /dev/urandom | sha256sum & done
    seq 200 | grep 7 | sort -r | tail -1 &
    for i in $(seq 30); do (:) & done
    wait
    nproc; cat /proc/loadavg /proc/uptime"""


def once(orrery, scratch, cpus, seed):
    with open(scratch + "/in", "w", encoding="ascii") as f:
        f.write("input")
    with open(scratch + "/in", encoding="ascii") as f:
        got = cli.run(orrery, "run", "--cpus", str(cpus), "--seed", str(seed), "--digest", "--",
                      "sh", "-c", WORK, stdin=f, limit=400)
    cli.expect("status", got.status, 0, got)
    cli.expect_in("CPUs online", f"\n{cpus}\n".encode(), got.out, got)
    return got


def exact(orrery, scratch, cpus):
    first = once(orrery, scratch, cpus, 1)
    # The second time with the other core loaded.
    load = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        second = once(orrery, scratch, cpus, 1)
    finally:
        load.kill()
        load.wait()
    cli.expect("output of the second run", second.out, first.out)
    cli.expect("digest of the second run", second.digest(), first.digest())
    third = once(orrery, scratch, cpus, 2)
    cli.expect("another seed has another digest", third.digest() != first.digest(), True)


def one(orrery, scratch):
    exact(orrery, scratch, 1)


def four(orrery, scratch):
    exact(orrery, scratch, 4)


def sixteen(orrery, scratch):
    exact(orrery, scratch, 16)


cli.main([one, four, sixteen], kernel=True)
