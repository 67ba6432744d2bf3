#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""layers.py - holds the #include lines of src/ and cmd/ against the table of layers

usage: layers.py docs/ARCHITECTURE.md

The table's rows are "| `src/dir` | what it holds | may use |". A directory's rules are those of the
longest row that is a prefix of it. "May use" names rows without "src/", each optionally with the
one header that is meant: "base (wire.h)". Rows may only use rows above them, so the table cannot
have a cycle; "all above" is allowed too.
"""

import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
ROW = re.compile(r"^\|\s*`(src/[^`]+|cmd)`\s*\|[^|]*\|([^|]*)\|\s*$")
USE = re.compile(r"^([\w/]+)(?:\s*\(([\w.]+)\))?$")


def read_table(path):
    """Returns {row: {used row: header or None}}."""
    rows = {}
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        m = ROW.match(line)
        if not m:
            continue
        name = m.group(1).removeprefix("src/").rstrip("/")
        uses = {}
        for word in (w.strip(" `") for w in m.group(2).split(",")):
            if word in ("libc", "-", "–"):
                continue
            if word == "all above":
                uses.update(dict.fromkeys(rows))
                continue
            u = USE.match(word)
            if not u or u.group(1) not in rows:
                sys.exit(f"{path}: row {name} uses {word!r}, which is no row above it")
            uses[u.group(1)] = u.group(2)
        rows[name] = uses
    if not rows:
        sys.exit(f"{path}: no table of layers found")
    return rows


def row_of(rows, directory):
    fits = [r for r in rows if directory == r or directory.startswith(r + "/")]
    return max(fits, key=len, default=None)


def check(rows, path, top):
    here = row_of(rows, str(path.parent.relative_to(top)) if top.name == "src" else "cmd")
    if here is None:
        return [f"{path}: its directory is not in the table of layers"]
    bad = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        m = INCLUDE.match(line)
        if not m or "/" not in m.group(1).removeprefix("../"):
            continue
        target = m.group(1)
        there = row_of(rows, str(pathlib.PurePosixPath(target).parent))
        if there == here:
            continue
        if there is None:
            bad.append(f"{path}:{number}: {target} is in no layer")
        elif there not in rows[here]:
            bad.append(f"{path}:{number}: {here} must not use {there} ({target})")
        elif rows[here][there] not in (None, pathlib.PurePosixPath(target).name):
            bad.append(f"{path}:{number}: of {there}, {here} may use {rows[here][there]} only")
        elif target.endswith("_priv.h"):
            bad.append(f"{path}:{number}: {target} is private to {there}")
    return bad


def main():
    rows = read_table(sys.argv[1])
    bad = []
    for top in (pathlib.Path("src"), pathlib.Path("cmd")):
        for path in sorted(top.rglob("*.[ch]")):
            bad += check(rows, path, top)
    print("\n".join(bad), end="\n" if bad else "", file=sys.stderr)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
