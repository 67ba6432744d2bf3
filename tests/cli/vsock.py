# SPDX-License-Identifier: Apache-2.0
"""vsock.py - running VMs with --vsock, and the monitor's socket as a client speaks it"""

import contextlib
import json
import os
import resource
import socket
import subprocess
import time

from cli import SLOW, Bad, run


def raise_limit(n):
    """Room for @n descriptors. False if the hard limit forbids it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < n:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return True


class Vm:
    """A VM in the background; with a command, one that ends when its input does."""

    def __init__(self, orrery, scratch, *args, name="vm", command=("cat",)):
        self.orrery, self.name = orrery, name
        self.run_dir = os.path.join(scratch, "run")
        os.makedirs(self.run_dir, mode=0o700, exist_ok=True)
        self.env = {"XDG_RUNTIME_DIR": self.run_dir}
        self.entry = os.path.join(self.run_dir, "orrery", name + ".sock")
        self.log = open(os.path.join(scratch, name + ".log"), "w+b")  # noqa: SIM115
        words = ["--", *command] if command else []
        self.p = subprocess.Popen([orrery, "run", "--name", name, *args, *words],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                  env={**os.environ, **self.env})
        end = time.monotonic() + 60 * SLOW
        while not self.listens() or self.begins():
            if self.p.poll() is not None or time.monotonic() > end:
                self.close()
                raise Bad(f"the VM does not start: {self.said()}")
            time.sleep(0.01)

    def listens(self):
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(self.entry) == 0

    def begins(self):
        """Whether its guest is still to run: clients are served before."""
        try:
            got = self.ask({"op": "hello"})[0]
        except OSError:
            return False
        return got is not None and got["state"] == "initializing"

    def said(self):
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace")

    def exec(self, *args, **how):
        # A guest may boot on an emulated host (tests/nested): longer than the default of 10 s.
        return run(self.orrery, "exec", "--vm", self.name, "--wait", "100", *args, env=self.env, **how)

    def connect(self, *args, **how):
        return run(self.orrery, "connect", "--vm", self.name, *args, env=self.env, **how)

    def ask(self, request):
        """An answer of the monitor's, and the descriptor that came along or None."""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.entry)
            s.sendall(request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n")
            return self.answer(s)

    @staticmethod
    def answer(s):
        text, fds = b"", []
        while not text.endswith(b"\n"):
            part, more, _, _ = socket.recv_fds(s, 4096, 4)
            if not part:
                break
            text += part
            fds += more
        return json.loads(text) if text else None, fds[0] if fds else None

    def dial(self, port, seconds=60):
        """A connected socket; a guest that is not ready is tried again."""
        end = time.monotonic() + seconds * SLOW
        while True:
            got, fd = self.ask({"op": "connect", "port": port})
            if fd is not None:
                return socket.socket(fileno=fd)
            if got is None or got.get("code") != "refused" or time.monotonic() > end:
                raise Bad(f"no connection to port {port}: {got}")
            time.sleep(0.02)

    def end(self, seconds=60):
        """Ends the command. Its status, and what it wrote."""
        out = self.p.communicate(timeout=seconds * SLOW)[0]
        return self.p.returncode, out

    def close(self):
        if self.p.poll() is None:
            self.p.kill()
        self.p.communicate()


@contextlib.contextmanager
def vm(orrery, scratch, *args, **how):
    v = Vm(orrery, scratch, *args, **how)
    try:
        yield v
    finally:
        v.close()
        v.log.close()
