# SPDX-License-Identifier: Apache-2.0
"""kernel.py - what the tests with whole Linux guests share

Built on tests/cli/cli.py: a script calls main(CASES), cases are functions of the program's path and
a scratch directory. Kernels come from the cache; a case whose kernel is missing is skipped.
"""

import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))

from cli import Bad, Skip, expect, expect_in, main, run  # noqa: E402,F401

# Names as `orrery kernel list` has them: what a kernel was fetched as.
CLOUD_6_1 = "linux-image-cloud-amd64"
CLOUD_6_12 = "linux-image-6.12-cloud-amd64"
PLAIN_6_12 = "linux-image-6.12-amd64"

# What no boot may say.
COMPLAINTS = re.compile(
    r"WARNING|\bBUG\b|Oops|Call Trace|unstable|TSC warp|not in sync|[Mm]ismatch|\b[Ii]nvalid\b|"
    r"rcu.*stall|soft lockup|hard LOCKUP|clocksource: Watchdog|timed out|Firmware Bug|"
    r"APIC.*(error|Error)|spurious|bad page|general protection|segfault|panic:")
HARMLESS = re.compile(r"DMI not present or invalid|Command line:|command line:")
if os.environ.get("ORRERY_ENGINE") == "kvm":
    # The host's CPU need not promise that its TSC never stops (TCG's does not); then a guest with
    # several packages, or an older one, does not trust the TSCs to be equal.
    HARMLESS = re.compile(HARMLESS.pattern + "|Marking TSC unstable due to TSCs unsynchronized")


def kernels(orrery):
    """What is cached: a dict from the names a kernel was fetched by to its release."""
    listed = subprocess.run([orrery, "kernel", "list", "--json"], capture_output=True, check=True)
    entries = json.loads(listed.stdout)
    entries = entries if isinstance(entries, list) else entries["kernels"]
    return {name: e["release"] for e in entries for name in e["requested"]}


def kernel(orrery, package):
    have = kernels(orrery)
    if package not in have:
        raise Skip(f"no kernel is cached for it; `orrery kernel fetch {package}` gets it")
    return have[package]


def complaints(log):
    return [line for line in log.splitlines()
            if COMPLAINTS.search(line) and not HARMLESS.search(line)]


def boot(orrery, package, *args, command, **how):
    """Runs @command in a guest with its kernel's messages; all must go well, and be said so.

    The engine is that of ORRERY_ENGINE: soft, unless tests/nested says otherwise.
    """
    result = run(orrery, "run", "--kernel", kernel(orrery, package), "-v",
                 *args, "--", *command, **how)
    expect("status", result.status, 0, result)
    expect("complaints of the kernel", complaints(result.err), [])
    return result
