#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""source.py - house rules that a script can see

Errors: a file without an SPDX line at its top, a .c file that does not include its own header
first, a note of unfinished work. Notes, which do not fail: files over 800 lines, functions over 70.
"""

import pathlib
import re
import subprocess
import sys

CODE = {".c", ".h", ".S", ".py", ".sh", ".ld", ".inc"}
FILE_LINES, FUNCTION_LINES = 800, 70
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]', re.M)


def is_code(path):
    return path.suffix in CODE or path.name in ("Makefile", "meson.build") or (
        path.parts[0] in ("scripts", "bench", ".ci") and not path.suffix)


def functions(lines):
    """Yields (name, first line, length) of each function body that starts in column 0."""
    start = None
    for i, line in enumerate(lines):
        if line == "{":
            start = i
        elif line == "}" and start is not None:
            head = " ".join(lines[max(0, start - 4):start])
            names = re.findall(r"(\w+)\s*\(", head)
            yield (names[-1] if names else "?"), start + 1, i - start - 1
            start = None


def check(path, text):
    errors, notes = [], []
    lines = text.split("\n")
    if not any("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:2]):
        errors.append(f"{path}: no SPDX line at the top")
    for i, line in enumerate(lines, 1):
        if UNFINISHED.search(line):
            errors.append(f"{path}:{i}: unfinished: {line.strip()}")
    if path.suffix == ".c":
        own = path.with_suffix(".h")
        first = INCLUDE.search(text)
        # What a directory's siblings share may stand for it: x_priv.h includes x.h itself.
        allowed = (own.name, path.stem + "_priv.h")
        if own.exists() and first and pathlib.PurePosixPath(first.group(1)).name not in allowed:
            errors.append(f"{path}: includes {first.group(1)} before its own {own.name}")
        for name, at, length in functions(lines):
            if length > FUNCTION_LINES:
                notes.append(f"{path}:{at}: {name} has {length} lines")
    if len(lines) > FILE_LINES and path.suffix in (".c", ".h"):
        notes.append(f"{path}: {len(lines)} lines")
    return errors, notes


def main():
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout
    errors = []
    for path in map(pathlib.Path, listed.splitlines()):
        if not path.is_file() or not is_code(path):
            continue
        e, n = check(path, path.read_text(encoding="utf-8"))
        errors += e
        for note in n:
            print("note:", note)
    print("\n".join(errors), end="\n" if errors else "", file=sys.stderr)
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
