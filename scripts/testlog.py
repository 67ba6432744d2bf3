#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""testlog.py - counts what a run of `meson test` reports: testlog.py TESTLOG.json

A cmocka program or a TAP script counts by its cases, any other program as one test. A case that
skips is no pass: each is listed with the reason that its output gives. A program that fails
although no case of it did (a crash, a time-out, a leak) counts as one failure. The last line is
"N passed, N failed, N skipped"; the status is 1 if something failed or nothing ran.
"""

import json
import re
import sys

CMOCKA = re.compile(r"^\[  (PASSED |FAILED |SKIPPED)\s*\] (\d+) test\(s\)", re.M)
CMOCKA_SKIP = re.compile(r"^\[  SKIPPED \] (?!\d+ test\(s\))(\S+)", re.M)
TAP = re.compile(r"^(ok|not ok)\b([^#\n]*)(?:#\s*(skip)\S*\s*(.*))?$", re.M | re.I)
SKIP_WORDS = re.compile(r"^(?:\S+ \([0-9.]+ s\): )?\W*skip(?:ped|ping)?\b\W*(.*\S)", re.I)


def cases_of(output):
    """Returns (passed, failed, [names of skipped cases]), or None if output counts no cases."""
    found = CMOCKA.findall(output)
    if found:
        n = {"PASSED": 0, "FAILED": 0}
        for word, count in found:
            if word.strip() in n:
                n[word.strip()] += int(count)
        # Each name is printed when it happens and again in the summary.
        names = list(dict.fromkeys(CMOCKA_SKIP.findall(output)))
        return n["PASSED"], n["FAILED"], names
    lines = TAP.findall(output)
    if lines:
        skipped = [f"{name.strip(' -0123456789')}: {why}" for _, name, skip, why in lines if skip]
        failed = sum(1 for ok, _, skip, _ in lines if ok.lower() == "not ok" and not skip)
        return len(lines) - failed - len(skipped), failed, skipped
    return None


def reasons(output):
    """What the program said about skipping, each once."""
    said = []
    for line in output.splitlines():
        m = SKIP_WORDS.match(line)
        if m and not re.match(r"^\[  SKIPPED \]", line) and m.group(1) not in said:
            said.append(m.group(1))
    return said


def main():
    passed = failed = 0
    skips = []
    failures = []
    with open(sys.argv[1], encoding="utf-8") as f:
        tests = [json.loads(line) for line in f if line.strip()]
    for t in tests:
        name = t["name"].split(" / ")[-1]
        output = (t.get("stdout") or "") + "\n" + (t.get("stderr") or "")
        cases = cases_of(output)
        if t["result"] == "SKIP":
            skips.append((name, reasons(output) or ["it does not say why"]))
            continue
        if cases is None:
            cases = (1, 0, []) if t["result"] in ("OK", "EXPECTEDFAIL") else (0, 1, [])
        ok, bad, skipped = cases
        if t["result"] not in ("OK", "EXPECTEDFAIL"):
            bad = max(bad, 1)
            failures.append(f"{name} ({t['result'].lower()})")
        passed += ok
        failed += bad
        if skipped:
            why = "; ".join(reasons(output))
            skips += [(f"{name}: {case}", [why] if why else []) for case in skipped]
    for name, why in skips:
        print("skipped:", name + (": " + "; ".join(why) if why else ""))
    for name in failures:
        print("failed:", name)
    print(f"{passed} passed, {failed} failed, {len(skips)} skipped")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
