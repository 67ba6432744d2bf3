#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_tty.py - a command with a terminal of its own, and a shell on the console"""

import fcntl
import struct
import termios

import cli
import terminal


def size(t, rows, cols):
    fcntl.ioctl(t.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def command(orrery, scratch):
    """-t: a terminal with our size, that follows it, with its own control characters."""
    t = terminal.Terminal([orrery, "run", "-t", "--", "sh", "-c",
                           "trap 'echo caught' INT; trap 'stty size' WINCH; tty; stty size; "
                           "echo go; while ! read x; do :; done; echo got:$x; exit 5"], (33, 101))
    t.until(b"go\r\n", 120)
    cli.expect_in("terminal", b"/dev/pts/", t.seen)
    cli.expect_in("size", b"33 101", t.seen)
    cli.expect("raw", t.is_raw(), True)
    size(t, 44, 122)
    t.until(b"44 122", 60)
    t.type(b"\x03")
    t.until(b"caught", 60)
    t.type(b"word\r")
    t.until(b"got:word", 60)
    cli.expect("status", t.end()[0], 5)


def shell(orrery, scratch):
    """The console's shell on a terminal, ended by Ctrl-A X; the clock is the host's."""
    t = terminal.Terminal([orrery, "run", "--stats"], (24, 80))
    t.until(b"# ", 120)
    t.type(b"echo $((6 * 7)) ok; stty size\r")
    t.until(b"42 ok", 60)
    t.until(b"24 80", 60)
    t.type(b"\x01x")
    status, _ = t.end()
    cli.expect("status", status, 0)


cli.main([command, shell], kernel=True)
