#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""manual.py - the manual page and --help must name the same options: manual.py ORRERY PAGE.1"""

import re
import subprocess
import sys

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


def main():
    orrery, page = sys.argv[1:]
    helped = set()
    for words in ([], ["run"], ["exec"], ["connect"], ["ps"], ["stop"], ["reset"], ["doctor"], ["kernel"], ["locks"],
                  ["topo"]):
        run = subprocess.run([orrery, *words, "--help"], capture_output=True, text=True, check=False)
        if run.returncode:
            sys.exit(f"{' '.join([orrery, *words])} --help: status {run.returncode}")
        helped |= set(OPTION.findall(run.stdout))
    text = subprocess.run(["mandoc", "-T", "ascii", page], capture_output=True, text=True, check=True)
    manual = set(OPTION.findall(re.sub(".\x08", "", text.stdout)))
    helped |= {"--help", "--version"}
    for o in sorted(helped - manual):
        print(f"{page}: {o} is missing", file=sys.stderr)
    for o in sorted(manual - helped):
        print(f"{page}: {o} is in no --help", file=sys.stderr)
    sys.exit(1 if helped != manual else 0)


if __name__ == "__main__":
    main()
