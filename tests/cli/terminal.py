# SPDX-License-Identifier: Apache-2.0
"""terminal.py - the program on a pseudo-terminal, as a person has it"""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time

import cli


class Terminal:
    def __init__(self, args, size=None):
        self.master, self.slave = pty.openpty()
        if size:
            fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        # Its controlling terminal, so that it learns of a new size.
        self.p = subprocess.Popen(args, stdin=self.slave, stdout=self.slave,
                                  stderr=subprocess.PIPE, start_new_session=True,
                                  preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.seen = b""

    def until(self, words, seconds=60):
        end = time.monotonic() + seconds
        while words not in self.seen:
            if not select.select([self.master], [], [], max(0, end - time.monotonic()))[0]:
                self.p.kill()
                raise cli.Bad(f"no {words!r} in {self.seen!r}")
            self.seen += os.read(self.master, 4096)

    def type(self, data):
        os.write(self.master, data)

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO)

    def end(self):
        """Waits for the end. Returns the status and standard error."""
        while self.p.poll() is None:
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 4096)
        err = self.p.stderr.read()
        restored = termios.tcgetattr(self.slave) == self.before
        os.close(self.master)
        os.close(self.slave)
        cli.expect("the terminal is as before", restored, True)
        return self.p.returncode, err.decode("utf-8", "replace")
