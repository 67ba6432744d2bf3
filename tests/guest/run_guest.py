#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""run_guest.py - boots one bare-metal guest program and judges its output and end

usage: run_guest.py ORRERY PROGRAM.elf checks|poweroff|reset|triple CPUS [OPTION...]

A program prints one line a check: "PASS name", "FAIL name: expected X got Y" or "SKIP name: why",
and last "PLAN n". Lines that begin with "#" are comments. It passes if every line is a PASS, there
are n of them, and the machine ended as expected: `checks` by the exit port with value 0 (status
1), the others by the event named. Anything that is not understood is a failure. The environment
variable ORRERY_GUEST_ARGS adds options (a seed, a clock).
"""

import os
import subprocess
import sys

TIMEOUT_S = 100


def judge_output(lines, needs_plan):
    """Returns a list of complaints."""
    bad = []
    passed = 0
    plan = None
    for line in lines:
        if line.startswith("PASS "):
            passed += 1
        elif line.startswith("PLAN "):
            plan = int(line[5:])
        elif line.startswith("#") or not line:
            continue
        else:
            bad.append(line)
    if needs_plan and plan is None:
        bad.append("no PLAN line: the program did not reach its end")
    if plan is not None and plan != passed:
        bad.append(f"{passed} checks passed, {plan} planned")
    return bad, passed


def judge_end(kind, status, words):
    """The monitor says by its status and, but for the exit port, in words how the machine ended."""
    if kind == "checks":
        return [] if status == 1 else [f"status {status}, expected 1 (exit port, value 0)"]
    if kind == "poweroff":
        return [] if status == 0 else [f"status {status}, expected 0 after a power-off"]
    word = {"reset": "reset", "triple": "triple fault"}[kind]
    if word not in words.lower():
        return [f"status {status}: standard error does not mention a {word}"]
    return []


def main():
    orrery, elf, kind, cpus = sys.argv[1:5]
    cmd = [orrery, "run", "--engine", "soft", "--clock", "virtual", "--kernel", elf,
           "--debug-exit", "0xf4", "--mem", "256M", "--cpus", cpus]
    cmd += sys.argv[5:] + os.environ.get("ORRERY_GUEST_ARGS", "").split()
    try:
        run = subprocess.run(cmd, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S,
                             check=False)
    except subprocess.TimeoutExpired as late:
        sys.stdout.write((late.stdout or b"").decode("utf-8", "replace"))
        sys.exit(f"{os.path.basename(elf)}: no end within {TIMEOUT_S} s")
    out = run.stdout.decode("utf-8", "replace").replace("\r", "")
    words = run.stderr.decode("utf-8", "replace")
    bad, passed = judge_output(out.split("\n"), kind == "checks")
    bad += judge_end(kind, run.returncode, words)
    if not bad:
        print(f"{os.path.basename(elf)}: {passed} checks, {kind}")
        return
    print("\n".join(bad))
    print("command:", " ".join(cmd))
    print("status:", run.returncode)
    print("standard error:\n" + words)
    sys.exit(1)


if __name__ == "__main__":
    main()
