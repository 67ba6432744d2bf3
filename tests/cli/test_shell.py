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


def ask(t, line, answer, prompt=True):
    """Types a line when the shell is ready for it, and waits for the answer and the next prompt.

    What is typed must not have the answer in it: the terminal echoes it.
    """
    t.seen = b""
    t.type(line + b"\n")
    t.until(answer)
    if prompt:
        t.seen = t.seen[t.seen.index(answer) + len(answer):]
        t.until(PROMPT)


def feels_like_a_terminal(orrery, scratch):
    os.environ["TERM"] = "xterm-256color"
    t = Terminal([orrery, "shell"], size=(31, 97))
    t.until(PROMPT)
    expect("raw mode", t.is_raw(), True)
    # Escape codes arrive whole.
    t.until(b"\x1b[1;36mguest\x1b[0m")
    ask(t, b"tty", b"/dev/pts/")
    ask(t, b"stty size", b"31 97")
    ask(t, b"echo TERM=$TERM", b"TERM=xterm-256color")
    ask(t, b"mkdir /tmp/d; ls -d /tmp/*", b"\x1b[1;34m/tmp/d")
    resize(t, 50, 132)
    ask(t, b"until stty size | grep '50 1[3]2'; do sleep 0.1; done", b"50 132")
    # Keys are the guest's: Ctrl-C ends what runs there, Ctrl-Z stops it.
    ask(t, b"sh -c 'echo run''ning; exec sleep 1000'", b"running", prompt=False)
    t.type(b"\x03")
    t.until(PROMPT)
    ask(t, b"echo status=$?", b"status=130")
    ask(t, b"sh -c 'echo run''ning; exec sleep 1001'", b"running", prompt=False)
    t.type(b"\x1a")
    t.until(b"topped")
    t.until(PROMPT)
    ask(t, b"kill %1; echo ki''lled", b"killed")
    # Line editing; our own keys: help, a literal Ctrl-A (to the start of the line), the end.
    ask(t, b"echo left\x7f\x7f\x7f\x7fri''ght", b"right")
    t.type(b"\x01h")
    ask(t, b"ho o''ne\x01\x01ec", b"\rone")
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
