#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_shell.py - orrery shell on a pseudo-terminal, as a person has it

usage: test_shell.py ORRERY [CASE...]
"""

import fcntl
import os
import signal
import struct
import termios

from cli import expect, expect_in, main, run
from terminal import Terminal

PROMPT = b"guest"


def resize(t, rows, cols):
    fcntl.ioctl(t.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
    os.kill(t.p.pid, signal.SIGWINCH)


def feels_like_a_terminal(orrery, scratch):
    os.environ["TERM"] = "xterm-256color"
    t = Terminal([orrery, "shell"], size=(31, 97))
    t.until(PROMPT)
    expect("raw mode", t.is_raw(), True)
    t.type(b"tty; stty size; echo TERM=$TERM\n")
    t.until(b"/dev/pts/")
    t.until(b"31 97")
    t.until(b"TERM=xterm-256color")
    # The escape codes of colours arrive whole: of the prompt, of ls.
    t.until(b"\x1b[1;36mguest\x1b[0m")
    t.type(b"mkdir /tmp/d; ls -d /tmp/d | cat -A\n")
    t.until(b"/tmp/d")
    resize(t, 50, 132)
    t.type(b"sleep 0.1; stty size; trap 'echo win''ch' WINCH\n")
    t.until(b"50 132")
    # Keys are the guest's: Ctrl-C ends what runs there, Ctrl-Z stops it; line editing works.
    t.type(b"sleep 1000; echo status=$?\n")
    t.until(b"status=$?\r\n")
    t.type(b"\x03")
    t.until(b"^C")
    t.type(b"sleep 1001\n")
    t.until(b"sleep 1001\r\n")
    t.type(b"\x1a")
    t.until(b"topped")
    t.type(b"kill %1; echo left\x7f\x7f\x7f\x7fri''ght\n")
    t.until(b"right")
    # Our own keys: help, a literal Ctrl-A (to the start of the line), the end.
    t.type(b"\x01h")
    t.type(b"ho one\x01\x01ec")
    t.until(b"one")
    t.type(b"\n")
    t.type(b"exit 7\n")
    status, err = t.end()
    expect("status", status, 7)
    expect_in("help", "Ctrl-A X", err)


def escape_ends(orrery, scratch):
    t = Terminal([orrery, "shell", "--", "sh", "-c", "echo up; sleep 1000"])
    t.until(b"up")
    t.type(b"\x01x")
    status, err = t.end()
    expect("status", status, 130)


def refusals(orrery, scratch):
    got = run(orrery, "shell")
    expect("status", got.status, 125, got)
    expect("one line", got.err.count("\n"), 1, got)
    expect_in("why", "no terminal", got.err, got)
    expect("help", run(orrery, "shell", "--help").status, 0)


if __name__ == "__main__":
    main([feels_like_a_terminal, escape_ends, refusals], kernel=True)
