#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_linux.py - commands in a real Linux guest

Few boots, each of which answers many questions.
"""

import hashlib
import os
import subprocess

import cli

BUSYBOX = "/bin/busybox"


def command(orrery, scratch):
    """Streams, status, arguments, command line, module, included file, date, and time that jumps."""
    script = r"""
        read line; echo "stdin: $line"
        echo "release: $(uname -r)"
        echo "cmdline: $(cat /proc/cmdline)"
        echo "module: $(grep -c '^dummy ' /proc/modules)"
        echo "included: $(cat /srv/x)"
        echo "arg: $1"; echo "env: $FROB $HOME"; echo "cwd: $(pwd)"; date -u +'date: %Y-%m-%d'
        a=$(cut -d. -f1 /proc/uptime); sleep 60; b=$(cut -d. -f1 /proc/uptime)
        echo "slept: $((b - a >= 59 && b - a <= 61))"
        echo "to stderr" >&2
        echo "to the kernel log" > /dev/kmsg
        exit 7"""
    with open(scratch + "/x", "w", encoding="ascii") as f:
        f.write("from the host")
    with open(scratch + "/in", "w", encoding="ascii") as f:
        f.write("a line\n")
    with open(scratch + "/in", encoding="ascii") as f:
        got = cli.run(orrery, "run", "--append", "frob=1", "--append", "loglevel=7", "--module",
                      "dummy", "--include", scratch + "/x:/srv/x", "--env", "FROB=two words",
                      "--rtc-base", "2031-02-03", "--stats", "--", "sh", "-c", script, "sh", "$x y",
                      stdin=f, cwd="/usr")
    cli.expect("status", got.status, 7, got)
    out = dict(line.split(": ", 1) for line in got.out.decode().splitlines())
    cli.expect_in("release", out["release"], subprocess.run(
        [orrery, "kernel", "list"], capture_output=True, check=True).stdout.decode(), got)
    cli.expect("--append is last", out["cmdline"].endswith(" frob=1 loglevel=7"), True, got)
    for name, want in (("stdin", "a line"), ("module", "1"), ("included", "from the host"),
                       ("arg", "$x y"), ("env", "two words /root"), ("cwd", "/usr"),
                       ("date", "2031-02-03"), ("slept", "1")):
        cli.expect(name, out.get(name), want, got)
    cli.expect("standard error begins with", got.err.splitlines()[0], "to stderr", got)
    cli.expect("kernel messages in the output", "kernel log" in got.out.decode() + got.err, False)
    cli.expect("guest seconds above 60", got.stat("guest_s") > 60, True, got)


def bytes_through(orrery, scratch):
    """Every byte value, 300,000 of them, through a pipe, the guest's cat, and back."""
    data = b"".join(hashlib.sha256(bytes([i & 255, i >> 8])).digest() for i in range(9375))
    got = cli.run(orrery, "run", "--", "cat", stdin=data)
    cli.expect("status", got.status, 0)
    cli.expect("length", len(got.out), len(data))
    cli.expect("digest", hashlib.sha256(got.out).digest(), hashlib.sha256(data).digest())
    cli.expect("standard error", got.err, "")


def panic(orrery, scratch):
    """A panic is told by status, its line and the console's last words."""
    got = cli.run(orrery, "run", "--", "sh", "-c", "echo before; echo c > /proc/sysrq-trigger; sleep 9")
    cli.expect("status", got.status, 123, got)
    cli.expect("output", got.out, b"before\n", got)
    cli.expect_in("words", "Kernel panic - not syncing: sysrq triggered crash",
                  got.err.splitlines()[0], got)
    # How much of the trace fits depends on stale words on the stack; its end is always there.
    cli.expect_in("the console's last words", "entry_SYSCALL_64_after_hwframe", got.err, got)


def ends(orrery, scratch):
    """A time-out during boot, a command that cannot start, a power-off behind init's back."""
    got = cli.run(orrery, "run", "--timeout", "0.2", "--", "true")
    cli.expect("status", got.status, 124, got)
    cli.expect_in("words", "nothing was heard from its user space", got.err, got)
    got = cli.run(orrery, "run", "--", "sh", "-c", "kill -9 $$")
    cli.expect("status of a killed command", got.status, 137, got)
    got = cli.run(orrery, "run", "--", "busybox", "poweroff", "-f")
    cli.expect("status", got.status, 121, got)
    cli.expect_in("words", "powered off without reporting", got.err, got)


def console(orrery, scratch):
    """One's own initramfs on the console, and Orrery's shell there."""
    with open(BUSYBOX, "rb") as f:
        busybox = f.read()
    init = (b"#!/bin/busybox sh\necho hello from my init\n/bin/busybox cat /proc/version 2>&1\n"
            b"read x\necho got $x\n/bin/busybox poweroff -f\n")
    with open(scratch + "/initrd", "wb") as f:
        f.write(cli.cpio([("bin", 0o40755, b""), ("dev", 0o40755, b""),
                          ("bin/busybox", 0o100755, busybox), ("init", 0o100755, init)]))
    got = cli.run(orrery, "run", "--initrd", scratch + "/initrd", stdin=b"a word\n")
    cli.expect("status", got.status, 0, got)
    cli.expect_in("console", b"hello from my init", got.out, got)
    cli.expect_in("console", b"got a word", got.out, got)
    got = cli.run(orrery, "run", stdin=b"echo $((6 * 7)) answers")
    cli.expect("status of the shell's end", got.status, 0, got)
    cli.expect_in("console", b"42 answers", got.out, got)


cli.main([command, bytes_through, panic, ends, console], kernel=True)
