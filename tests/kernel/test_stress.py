# SPDX-License-Identifier: Apache-2.0
"""test_stress.py - programs say the same in the guest as on the host

usage: STRESS=PROGRAM test_stress.py ORRERY [CASE...]
"""

import os
import resource
import shutil
import subprocess

from kernel import CLOUD_6_12, Skip, boot, expect, main

# Handlers of instructions jump from one to the next. One that calls instead leaves a frame on the
# host's stack for each instruction, which this makes show.
STACK = 512 << 10


def small_stack():
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if "build-" not in os.environ.get("STRESS", ""):  # sanitizers want more
        resource.setrlimit(resource.RLIMIT_STACK, (STACK, hard))
    return soft, hard


def compare(orrery, cpus, command, *args):
    host = subprocess.run(command, capture_output=True, check=False)
    expect("status on the host", (host.returncode, host.stderr), (0, b""))
    soft, hard = small_stack()
    try:
        guest = boot(orrery, CLOUD_6_12, "--cpus", str(cpus), *args, command=command, limit=600)
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))
    expect("output", guest.out.decode(), host.stdout.decode(), guest)


def processor(orrery, _):
    compare(orrery, 1, [os.environ["STRESS"]])


def processors(orrery, _):
    compare(orrery, 4, [os.environ["STRESS"]])


TOOLS = r"""
export LC_ALL=C
seq 1 20000 >/tmp/numbers
sha1sum /tmp/numbers; sha512sum /tmp/numbers; md5sum /tmp/numbers; cksum /tmp/numbers
gzip -9 -n -c /tmp/numbers | sha256sum
gzip -1 -n -c /tmp/numbers | gzip -d -c | cmp - /tmp/numbers && echo unpacked
sort -r /tmp/numbers | uniq | sha256sum
awk '{ x += $1 * 1.000001; y = y $1 % 10 } NR % 2000 == 0 { printf "%.10f %.17g %s\n", x, sqrt(x),
    substr(y, NR - 20) }' /tmp/numbers
sed -E 's/([0-9])([0-9])/\2\1/g' /tmp/numbers | sort -n | tail -3
factor 18446744073709551557 1000000016000000063
rm /tmp/numbers
"""


def tools(orrery, _):
    """Debian's essential programs, as the host has them."""
    names = ["sha1sum", "sha512sum", "sha256sum", "md5sum", "cksum", "gzip", "cmp", "sort", "uniq",
             "awk", "sed", "factor", "seq", "tail", "rm"]
    missing = [n for n in names if not shutil.which(n)]
    if missing:
        raise Skip(f"no {missing[0]} on this host")
    compare(orrery, 2, ["sh", "-c", TOOLS], *(x for n in names for x in ("--include", n)))


if __name__ == "__main__":
    main([processor, processors, tools])
