#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""spec.py - the tests that documents name must exist: spec.py BUILD-DIR DOCUMENT.md...

Looks at the last cell of each table row that names a test in backticks: "area/name", or "area/name
function" for a part of it, which a file of that area must define. A cell may also name a make target
or a benchmark.
"""

import json
import pathlib
import re
import subprocess
import sys

NAME = re.compile(r"`(make \w+|[a-z0-9_]+/[\w.-]+)(?: (\w+))?`")


def defines(area, function):
    """Whether a test of the area has a function of that name: in C, or in Python."""
    pattern = re.compile(rf"^(?:static void|def) {function}\(", re.M)
    return any(pattern.search(path.read_text(encoding="utf-8"))
               for path in pathlib.Path("tests", area).glob("test_*") if path.suffix in (".c", ".py"))


def main():
    build, *documents = sys.argv[1:]
    listed = subprocess.run(["meson", "introspect", "--tests", build], capture_output=True,
                            text=True, check=True).stdout
    tests = {t["name"] for t in json.loads(listed)}
    makefile = pathlib.Path("Makefile").read_text(encoding="utf-8")
    bad = 0
    for document in documents:
        for number, line in enumerate(pathlib.Path(document).read_text("utf-8").splitlines(), 1):
            cells = line.strip().strip("|").split("|")
            if not line.startswith("|") or len(cells) < 2:
                continue
            for name, function in NAME.findall(cells[-1]):
                if name.startswith("make "):
                    known = re.search(rf"^{name[5:]}:", makefile, re.M)
                else:
                    known = name in tests or pathlib.Path("src", name).is_file() or \
                        pathlib.Path(name).is_file()
                if known and function and not defines(name.split("/")[0], function):
                    print(f"{document}:{number}: {name} has no {function}", file=sys.stderr)
                    bad = 1
                if not known:
                    print(f"{document}:{number}: there is no {name}", file=sys.stderr)
                    bad = 1
    sys.exit(bad)


if __name__ == "__main__":
    main()
