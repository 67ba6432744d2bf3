#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_cache.py - translated code under a limit: what it takes, and that the guest cannot tell

usage: test_cache.py ORRERY [small|memory|names]
"""

import os
import re
import subprocess

import cli

MIB = 1 << 20
WORK = "seq 3000 | sort -r | sha256sum; for i in 1 2 3 4 5; do (ls -l /bin | md5sum); done"


def once(orrery, *options):
    got = cli.run(orrery, "run", "--mem", "512M", "--stats", "--digest", *options, "--", "sh", "-c",
                  WORK, limit=200)
    cli.expect("status", got.status, 0, got)
    return got


def small(orrery, _):
    """The smallest cache is emptied over and over, a piece at a time."""
    roomy = once(orrery, "--cpus", "2")
    tight = once(orrery, "--cpus", "2", "--code-cache", "1M")
    cli.expect("evictions with room", int(roomy.stat("code_evictions")), 0, roomy)
    cli.expect("many evictions without", int(tight.stat("code_evictions")) > 50, True, tight)
    cli.expect("code_bytes below 1 MiB", int(tight.stat("code_bytes")) <= MIB, True, tight)
    # Processor time; some 50 us. The bound is for a loaded host.
    cli.expect("evictions are short", int(tight.stat("code_evict_ns_max")) < 10_000_000, True,
               tight)
    cli.expect("output", tight.out, roomy.out)
    cli.expect("digest", tight.digest(), roomy.digest())


def memory(orrery, _):
    """All that a Debian boot needs beside the guest's own memory."""
    got = once(orrery, "--cpus", "1")
    took = int(got.stat("translator_bytes"))
    cli.expect(f"translator_bytes ({took}) below 48 MiB", took < 48 * MIB, True, got)
    parts = sum(int(got.stat(name)) for name in ("block_bytes", "code_bytes", "region_bytes"))
    cli.expect("they are more than their parts", took > parts, True, got)


def names(orrery, scratch):
    """--perf-map has a line for each block, by the names of --symbols."""
    syms = os.path.join(scratch, "syms")
    got = cli.run(orrery, "run", "--", "cat", "/proc/kallsyms")
    cli.expect("status", got.status, 0, got)
    with open(syms, "wb") as f:
        f.write(got.out)
    with subprocess.Popen([orrery, "run", "--perf-map", "--symbols", syms, "--", "true"],
                          stdin=subprocess.DEVNULL) as p:
        status = p.wait(timeout=200)
        path = f"/tmp/perf-{p.pid}.map"
    cli.expect("status with a map", status, 0)
    with open(path, encoding="ascii") as f:
        text = f.read()
    os.unlink(path)
    lines = text.splitlines()
    bad = [x for x in lines if not re.fullmatch(r"[0-9a-f]+ [0-9a-f]+ [\w.]+(\+0x[0-9a-f]+)?\w*", x)]
    cli.expect("lines of another form", bad, [])
    kernel = [x for x in lines if " guest_ffffffff8" in x]
    cli.expect("named kernel blocks", "_printk+0x" in text or "vsnprintf+0x" in text, True)
    cli.expect("few without a name", len(kernel) < len(lines) / 50, True)


cli.main([small, memory, names], kernel=True)
