#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_bare.py - ends, signals, console and terminal, with bare-metal guests of a few bytes"""

import os
import signal
import subprocess
import time

import cli
import terminal

# A slow CPU: these guests poll, and what they wait for is a matter of guest time.
ARGS = ("run", "--mips", "10", "--mem", "32M", "--debug-exit", "0xf4", "--kernel")


def guest(scratch, code):
    return cli.tiny_guest(os.path.join(scratch, "guest"), code)


def ends(orrery, scratch):
    """Each end has its status and its words."""
    table = [
        (cli.CODE_TRIPLE, [], 122, "triple fault"),
        (cli.CODE_HALT, [], 121, "halted"),
        (cli.CODE_EXIT_21, [], 43, ""),
        (cli.CODE_SPIN, ["--timeout", "0.3"], 124, "time-out"),
    ]
    for code, more, status, words in table:
        got = cli.run(orrery, *ARGS, guest(scratch, code), *more, limit=30)
        cli.expect("status", got.status, status, got)
        cli.expect_in("standard error", words, got.err, got)


def signals(orrery, scratch):
    """SIGINT, SIGTERM, SIGHUP end the machine in order."""
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        p = subprocess.Popen([orrery, *ARGS, guest(scratch, cli.CODE_ECHO), "--stats"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        p.stdout.read(6)  # "ready\n": the machine runs, so signals are handled
        p.send_signal(sig)
        _, err = p.communicate(timeout=30)
        cli.expect("status", p.returncode, 128 + sig)
        cli.expect_in("standard error", b"instructions", err)


def signals_at_once(orrery, scratch):
    """Two signals within a moment, as timeout(1) sends them, are one."""
    for gap in (0, 0.001, 0.003, 0.01, 0.03):
        p = subprocess.Popen([orrery, *ARGS, guest(scratch, cli.CODE_IDLE), "--clock", "real"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        p.stdout.read(6)
        begun = time.monotonic()
        p.send_signal(signal.SIGTERM)
        time.sleep(gap)
        p.send_signal(signal.SIGTERM)
        late = time.monotonic() - begun > 0.3
        _, err = p.communicate(timeout=30)
        cli.expect("status", p.returncode, 128 + signal.SIGTERM)
        if late:  # this machine has no time for us
            continue
        cli.expect_in("standard error", b"ended by signal 15", err)


def idle(orrery, scratch):
    """So do they where nothing ever executes and the clock only jumps from tick to tick."""
    for clock in ("virtual", "real"):
        for sig in (signal.SIGINT, signal.SIGTERM):
            p = subprocess.Popen([orrery, *ARGS, guest(scratch, cli.CODE_IDLE), "--clock", clock],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
            p.stdout.read(6)
            p.send_signal(sig)
            p.communicate(timeout=30)
            cli.expect("status", p.returncode, 128 + sig)


def console_file(orrery, scratch):
    """Input from a file: all of it, in order, and the same run every time."""
    data = bytes(i % 251 for i in range(5000)).replace(b"q", b"Q") + b"q"
    digests = set()
    for _ in range(2):
        with open(scratch + "/in", "wb") as f:
            f.write(data)
        with open(scratch + "/in", "rb") as f:
            got = cli.run(orrery, *ARGS, guest(scratch, cli.CODE_ECHO), "--digest", "--console",
                          scratch + "/log", stdin=f, limit=60)
        cli.expect("status", got.status, 1, got)
        cli.expect("output", got.out, b"ready\n" + data, got)
        with open(scratch + "/log", "rb") as f:
            cli.expect("--console file", f.read(), b"ready\n" + data)
        digests.add(got.digest())
    cli.expect("different digests", len(digests), 1)


def console_pipe(orrery, scratch):
    """More input than the ring holds, through a pipe."""
    data = bytes(i * 7 % 113 for i in range(200000)) + b"q"
    got = cli.run(orrery, *ARGS, guest(scratch, cli.CODE_ECHO), stdin=data, limit=120)
    cli.expect("status", got.status, 1, got)
    cli.expect("output", got.out == b"ready\n" + data, True)


def broken_output(orrery, scratch):
    """A reader that goes away ends the run silently; a full disk is said."""
    with open("/dev/full", "wb") as full:
        p = subprocess.run([orrery, *ARGS, guest(scratch, cli.CODE_ECHO), "--timeout", "20"],
                           stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE,
                           check=False, timeout=60)
    cli.expect("status", p.returncode, 125)
    cli.expect_in("standard error", b"cannot write to standard output: No space left", p.stderr)
    r, w = os.pipe()
    os.close(r)
    p = subprocess.run([orrery, *ARGS, guest(scratch, cli.CODE_ECHO), "--timeout", "20"],
                       stdin=subprocess.DEVNULL, stdout=w, stderr=subprocess.PIPE, check=False,
                       timeout=60)
    os.close(w)
    cli.expect("status", p.returncode, 141)
    cli.expect("standard error", p.stderr, b"")


def blocked_output(orrery, scratch):
    """The time-out also ends a guest whose output nobody reads."""
    r, w = os.pipe()
    data = b"x" * 300000
    with open(scratch + "/in", "wb") as f:
        f.write(data)
    begun = time.monotonic()
    with open(scratch + "/in", "rb") as f:
        p = subprocess.run([orrery, *ARGS, guest(scratch, cli.CODE_ECHO), "--timeout", "2"],
                           stdin=f, stdout=w, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(w)
    os.close(r)
    cli.expect("status", p.returncode, 124)
    cli.expect("took less than 30 s", time.monotonic() - begun < 30, True)


def on_terminal(orrery, scratch):
    """Raw mode, the escape key, and the terminal restored on every way out."""
    args = [orrery, *ARGS, guest(scratch, cli.CODE_ECHO)]
    t = terminal.Terminal(args)
    t.until(b"ready")
    cli.expect("raw", t.is_raw(), True)
    t.type(b"a\x03\x01\x01b\x01d")  # Ctrl-C is a byte; Ctrl-A twice is one; others pass
    t.until(b"a\x03\x01b\x01d")
    t.type(b"\x01x")
    cli.expect("Ctrl-A X", t.end()[0], 0)
    t = terminal.Terminal(args)
    t.until(b"ready")
    t.type(b"q")
    cli.expect("the guest's end", t.end()[0], 1)
    t = terminal.Terminal(args)
    t.until(b"ready")
    t.p.send_signal(signal.SIGTERM)
    cli.expect("SIGTERM", t.end()[0], 128 + signal.SIGTERM)


cli.main([ends, signals, signals_at_once, idle, console_file, console_pipe, broken_output, blocked_output,
          on_terminal])
