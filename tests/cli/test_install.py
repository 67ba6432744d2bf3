#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_install.py - what `make install` puts into DESTDIR works from there

usage: test_install.py ORRERY BUILD-DIR MESON
"""

import os
import subprocess
import sys

import cli

BUILD, MESON = os.path.abspath(sys.argv[2]), sys.argv[3]
del sys.argv[2:4]


def install(scratch):
    """As the Makefile does. Returns all files, relative to DESTDIR."""
    got = subprocess.run([MESON, "install", "-C", BUILD, "--no-rebuild", "--tags", "runtime,man"],
                         env={**os.environ, "DESTDIR": scratch}, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, check=False, timeout=100)
    if got.returncode:
        raise cli.Bad(f"meson install: {got.stdout.decode('utf-8', 'replace')}")
    return sorted(os.path.relpath(os.path.join(at, name), scratch)
                  for at, _, names in os.walk(scratch) for name in names)


def from_destdir(orrery, scratch):
    """The program and its manual page, nothing else; it runs a guest where it lies."""
    files = install(scratch)
    cli.expect("files", [os.path.basename(f) for f in files], ["orrery", "orrery.1"])
    program = os.path.join(scratch, files[0])
    cli.expect("directory", os.path.basename(os.path.dirname(program)), "bin")
    for args, words in ((["--help"], b"orrery run"), (["--version"], b"orrery ")):
        got = cli.run(program, *args, limit=30)
        cli.expect(f"status of {args}", got.status, 0, got)
        cli.expect_in("standard output", words, got.out, got)
    guest = cli.tiny_guest(os.path.join(scratch, "guest"), cli.CODE_EXIT_21)
    got = cli.run(program, "run", "--mem", "32M", "--debug-exit", "0xf4", "--kernel", guest, cwd="/",
                  limit=30)
    cli.expect("status", got.status, 43, got)


cli.main([from_destdir])
