#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_vsock.py - sockets between host and guest, and commands in a guest that runs

usage: test_vsock.py ORRERY [CASE...]

VSOCK names the static program of vsock_main.c, which is the guest's side.
"""

import fcntl
import os
import select
import selectors
import signal
import socket
import struct
import subprocess
import termios
import threading
import time

from kernel import CLOUD_6_1, CLOUD_6_12, Bad, Skip, complaints, expect, expect_in, kernel, main, run
from cli import SLOW
from terminal import Terminal
from vsock import raise_limit, vm

PROGRAM = os.environ.get("VSOCK", "")
PACKED = ("--include", PROGRAM + ":/bin/vsock")
DIGEST, MANY, PONG = 2000, 3000, 4000
PATTERN, STEP = 65536, 97


def total(data):
    s = 0
    for byte in data:
        s = (s * 31 + byte) & 0xFFFFFFFF
    return s


# --- commands -------------------------------------------------------------------------------------

def commands(orrery, scratch, package):
    with vm(orrery, scratch, "--kernel", kernel(orrery, package), "-v", "--vsock") as v:
        got = v.exec("--", "sh", "-c", "echo out; echo err >&2; exit 7")
        expect("status, output", (got.status, got.out, got.err), (7, b"out\n", "err\n"), got)
        got = v.exec("--", "no-such-program")
        expect("status of what is not there", got.status, 127, got)
        expect_in("why", "no-such-program", got.err, got)
        got = v.exec("--", "/etc")
        expect("status of a directory", got.status, 126, got)
        got = v.exec("--", "sh", "-c", "kill -9 $$")
        expect("status of a killed one", got.status, 137, got)
        data = os.urandom(3000001)
        got = v.exec("--", "cat", stdin=data)
        expect("status of cat", got.status, 0, got)
        expect("its bytes", got.out == data, True)
        got = v.exec("--env", "A=b c", "--cwd", "/usr", "--", "sh", "-c", "echo $A; pwd; id -u")
        expect("environment, directory, user", got.out, b"b c\n/usr\n0\n", got)
        # One that does not read its input, and many at once.
        got = v.exec("--", "true", stdin=data)
        expect("status of true", got.status, 0, got)
        several = [subprocess.Popen([orrery, "exec", "--", "sh", "-c", f"sleep 0.2; exit {i}"],
                                    env={**os.environ, **v.env}, stdin=subprocess.DEVNULL)
                   for i in range(10)]
        expect("statuses", [p.wait(60) for p in several], list(range(10)))
        # The command's end is what counts, not that of what it left behind.
        begun = time.monotonic()
        got = v.exec("--", "sh", "-c", "sleep 100 & echo gone")
        expect("output", got.out, b"gone\n", got)
        expect("waits for the rest", time.monotonic() - begun > 50, False)
        expect("status of the VM's own command", v.end()[0], 0)
        expect("complaints of the kernel", complaints(v.said()), [])
        expect("the socket afterwards", os.path.exists(v.entry), False)


def exec_6_1(orrery, scratch):
    commands(orrery, scratch, CLOUD_6_1)


def exec_6_12(orrery, scratch):
    commands(orrery, scratch, CLOUD_6_12)


def signals(orrery, scratch):
    """Signals reach the command; three of them end a client whose command will not."""
    trap = "trap 'echo got it; exit 9' {}; echo ready; while :; do sleep 0.05; done"
    with vm(orrery, scratch, "--kernel", kernel(orrery, CLOUD_6_12), "--vsock") as v:
        def begin(script):
            p = subprocess.Popen([orrery, "exec", "--wait", "100", "--", "sh", "-c", script], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env={**os.environ, **v.env})
            expect("begins", p.stdout.readline(), b"ready\n")
            return p
        for sig, name in (signal.SIGINT, "INT"), (signal.SIGTERM, "TERM"), (signal.SIGUSR1, "USR1"):
            p = begin(trap.format(name))
            p.send_signal(sig)
            expect("what the trap says", p.communicate(timeout=60 * SLOW)[0], b"got it\n")
            expect("its status", p.returncode, 9)
        p = begin("trap '' INT TERM; echo ready; while :; do sleep 0.05; done")
        for _ in range(3):
            p.send_signal(signal.SIGTERM)
            time.sleep(0.2)  # signals of one kind are not counted while one is pending
        p.communicate(timeout=60 * SLOW)
        expect("status of the client", p.returncode, 128 + signal.SIGINT)
        # Its connection is gone, so the guest's command was hung up; and one that is killed, too.
        p = begin("trap '' INT; echo ready; exec sleep 54321")
        p.kill()
        p.communicate()
        for _ in range(100):
            left = v.exec("--", "sh", "-c", "ps | grep -c '[s]leep 54321'").out.strip()
            if left == b"0":
                break
        expect("what is left of it", left, b"0")
        got = v.exec("--timeout", "0.5", "--", "sh", "-c", "echo out; exec sleep 54321")
        expect("status of a time-out", (got.status, got.out), (124, b"out\n"), got)
        expect("lines", len(got.err.splitlines()), 1, got)


def terminal(orrery, scratch):
    with vm(orrery, scratch, "--kernel", kernel(orrery, CLOUD_6_12), "--vsock") as v:
        os.environ.update(v.env)
        t = Terminal([orrery, "exec", "--wait", "100", "-t", "--", "sh", "-c",
                      "stty size; trap 'stty size' WINCH; echo up; until read x; do :; done; echo \"got $x\"; exit 4"],
                     size=(33, 101))
        t.until(b"33 101\r\n")
        t.until(b"up\r\n")
        expect("raw mode", t.is_raw(), True)
        fcntl.ioctl(t.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 50, 0, 0))
        t.until(b"20 50\r\n")
        t.type(b"some words\r")
        t.until(b"got some words\r\n")
        status, err = t.end()
        expect("status, errors", (status, err), (4, ""))
        t = Terminal([orrery, "exec", "--wait", "100", "-t", "--", "sh", "-c", "echo up; sleep 100"], size=(24, 80))
        t.until(b"up\r\n")
        t.type(b"\x03")
        expect("status after Ctrl-C", t.end()[0], 130)


def limit(orrery, scratch, most=256, more=30):
    """The agent runs 256 commands at once; who comes then waits for one to end, and is not lost."""
    agent = 997  # WIRE_AGENT_PORT in base/wire.h; a HELLO has its magic behind four bytes
    if not raise_limit(most + more + 100):
        raise Skip("too few open files are allowed; ulimit -Hn 2000 would do")
    with vm(orrery, scratch, "--kernel", kernel(orrery, CLOUD_6_12), "-v", "--vsock", "--mem",
            "512M") as v:
        conns = [v.dial(agent) for _ in range(most + more)]

        def greeted(some):
            for s in some:
                s.settimeout(60 * SLOW)
                expect("a greeting", s.recv(100)[4:8], b"ORCP")
        # It greets whom it serves, before anything is asked for.
        greeted(conns[:most])
        waiting = conns[most:]
        expect("greeted beyond the limit", select.select(waiting, [], [], 0.5)[0], [])
        for s in conns[:more]:
            s.close()
        greeted(waiting)
        for s in conns[more:]:
            s.close()
        expect("a command after that", v.exec("--", "echo", "here").out, b"here\n")
        expect("complaints of the kernel", complaints(v.said()), [])


def private(orrery, scratch):
    """What a command is given, in its environment, arguments and input, is nowhere in our words."""
    words = [f"{what}-b7e151628aed2a6a" for what in ("env", "env2", "arg", "in")]
    with vm(orrery, scratch, "--kernel", kernel(orrery, CLOUD_6_12), "-v", "--stats", "--vsock",
            "--env", f"A={words[0]}", command=("sh", "-c", "echo up; exec cat >/dev/null")) as v:
        expect("begins", v.p.stdout.readline(), b"up\n")
        ran = ["--env", f"B={words[1]}", "--", "sh", "-c", 'echo $A $B $1; cat', "sh", words[2]]
        got = v.exec(*ran, stdin=words[3].encode())
        expect("output", got.out.decode().split(), words, got)
        said = got.err
        for args in (["--env", f"B={words[1]}", "--", "no-such-program", words[2]],
                     ["--cwd", "/dev/null/x", "--env", f"B={words[1]}", "--", "echo", words[2]]):
            got = v.exec(*args, stdin=words[3].encode())
            expect("status", got.status != 0, True, got)
            said += got.err
        said += run(orrery, "ps", env=v.env).out.decode()
        said += str([v.ask({"op": op})[0] for op in ("hello", "stats")])
        v.p.stdin.write(words[3].encode())
        expect("status", v.end()[0], 0)
        said += v.said()
    expect_in("what was looked at", "no-such-program", said)
    expect_in("what was looked at", "guest_s", said)
    expect("of that", [word for word in words if word in said], [])


# --- sockets ----------------------------------------------------------------------------------------

def connections(orrery, scratch, package):
    there = os.path.join(scratch, "sockets")
    os.mkdir(there)
    with socket.socket(socket.AF_UNIX) as listener, \
            vm(orrery, scratch, "--kernel", kernel(orrery, package), *PACKED, "-v",
               f"--vsock=77,dir={there}", command=(PROGRAM, "digest", str(DIGEST))) as v:
        v.dial(DIGEST).close()
        # Half-close by the host: the guest reads to the end, and answers after it.
        data = os.urandom(1500000)
        got = v.connect(str(DIGEST), stdin=data)
        expect("status", got.status, 0, got)
        expect("what the guest received", got.out.split(), [b"%d" % len(data), b"%d" % total(data)])
        got = v.connect(str(DIGEST), stdin=b"")
        expect("of nothing", got.out, b"0 0\n", got)
        got = v.connect("2001", stdin=b"")
        expect("status without a listener", got.status, 125, got)
        expect("lines", len(got.err.splitlines()), 1, got)
        # Guest to host, half-close by the guest.
        listener.bind(os.path.join(there, "vsock_900"))
        listener.listen()
        heard = []

        def answer():
            s = listener.accept()[0]
            text = b""
            while True:
                part = s.recv(4096)
                if not part:
                    break
                text += part
            heard.append(text)
            s.sendall(b"an answer to " + text)
            s.close()
        thread = threading.Thread(target=answer)
        thread.start()
        got = v.exec("--", "vsock", "ask", "900", "a question")
        thread.join(60 * SLOW)
        expect("what the host heard", heard, [b"a question"])
        expect("the guest's output", (got.status, got.out), (0, b"an answer to a question"), got)
        got = v.exec("--", "vsock", "ask", "901", "anybody?")
        expect("status where nobody listens", got.status, 1, got)
        # At once: neither a time-out nor a silent drop.
        expect_in("why", "reset by peer", got.err, got)
        expect("complaints of the kernel", complaints(v.said()), [])


def connect_6_1(orrery, scratch):
    connections(orrery, scratch, CLOUD_6_1)


def connect_6_12(orrery, scratch):
    connections(orrery, scratch, CLOUD_6_12)


def make_pattern():
    x, out = 2463534242, bytearray()
    for _ in range(PATTERN):
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        out.append(x & 0xFF)
    return bytes(out) * 2


class Conn:
    """The host's side of one of many connections."""

    def __init__(self, pattern, s, size, number=None):
        self.s, self.size, self.sent, self.got = s, size, 0, b""
        self.pattern, self.number, self.head = pattern, number, b""
        s.setblocking(False)

    def stream(self):
        at = self.number * STEP % PATTERN
        return self.pattern[at:at + self.size]

    def events(self):
        """What to wait for; 0 when all is done."""
        out = self.number is not None and self.sent < self.size
        return (0 if self.got is None else selectors.EVENT_READ) | \
            (selectors.EVENT_WRITE if out else 0)

    def ready(self, mask):
        if mask & selectors.EVENT_WRITE:
            self.sent += self.s.send(memoryview(self.stream())[self.sent:])
            if self.sent == self.size:
                self.s.shutdown(socket.SHUT_WR)
        if mask & selectors.EVENT_READ:
            part = self.s.recv(65536)
            if self.number is None:
                self.head += part
                if len(self.head) >= 4:
                    self.number = int.from_bytes(self.head[:4], "little")
                    self.got = self.head[4:]
            elif part:
                self.got += part
            else:
                expect(f"connection {self.number}", self.got == self.stream(), True)
                self.got = None


def carry(conns, limit=200):
    sel = selectors.DefaultSelector()
    for c in conns:
        sel.register(c.s, c.events(), c)
    left, end = len(conns), time.monotonic() + limit
    while left:
        if time.monotonic() > end:
            raise Bad(f"{left} connections are not done: {[c.number for c in conns][:10]}...")
        for key, mask in sel.select(1):
            c = key.data
            c.ready(mask)
            if c.events():
                sel.modify(c.s, c.events(), c)
            else:
                sel.unregister(c.s)
                c.s.close()
                left -= 1


def thousand_by_host(orrery, scratch, package, n=1000, size=30000):
    """One of them is stalled in the guest until the others are done."""
    if not raise_limit(n + 100):
        raise Skip("too few open files are allowed; ulimit -Hn 2000 would do")
    pattern = make_pattern()
    with vm(orrery, scratch, "--kernel", kernel(orrery, package), *PACKED, "-v", "--vsock",
            "--stats", command=(PROGRAM, "many", "serve", str(MANY), str(n), str(size))) as v:
        expect("begins", v.p.stdout.readline(), b"listening\n")
        conns = []
        for i in range(n):
            s = v.dial(MANY)
            s.sendall(i.to_bytes(4, "little"))
            conns.append(Conn(pattern, s, size, i))
        carry(conns)
        status, out = v.end()
        expect("status, output", (status, out),
               (0, b"%d connections, %d bytes both ways on each\n" % (n, size)))
        expect("complaints of the kernel", complaints(v.said()), [])


def thousand_6_1(orrery, scratch):
    thousand_by_host(orrery, scratch, CLOUD_6_1)


def thousand_6_12(orrery, scratch):
    thousand_by_host(orrery, scratch, CLOUD_6_12)


def thousand_by_guest(orrery, scratch, n=1000, size=30000):
    if not raise_limit(n + 100):
        raise Skip("too few open files are allowed; ulimit -Hn 2000 would do")
    pattern = make_pattern()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.join(scratch, f"vsock_{MANY}"))
        listener.listen(1024)
        with vm(orrery, scratch, "--kernel", kernel(orrery, CLOUD_6_12), *PACKED, "-v",
                f"--vsock=dir={scratch}",
                command=(PROGRAM, "many", "call", str(MANY), str(n), str(size))) as v:
            listener.settimeout(60 * SLOW)
            carry([Conn(pattern, listener.accept()[0], size) for _ in range(n)])
            status, out = v.end()
            expect("status, output", (status, out),
                   (0, b"%d connections, %d bytes both ways on each\n" % (n, size)))
            expect("complaints of the kernel", complaints(v.said()), [])


def rebind(orrery, scratch):
    """The guest takes the driver away and gives it back; connections end, new ones work."""
    driver = "/sys/bus/virtio/drivers/vmw_vsock_virtio_transport"
    with vm(orrery, scratch, "--kernel", kernel(orrery, CLOUD_6_12), *PACKED, "--vsock", "-v",
            command=("sh", "-c", "vsock digest 2000 >/dev/null & read x;"
                     f"echo virtio0 >{driver}/unbind; echo virtio0 >{driver}/bind;"
                     "echo back; read x; exit 0")) as v:
        s = v.dial(DIGEST)
        v.p.stdin.write(b"\n")
        v.p.stdin.flush()
        expect("the guest goes on", v.p.stdout.readline(), b"back\n")
        expect("the connection's end", s.recv(10), b"")
        s = v.dial(DIGEST)
        s.sendall(b"abc")
        s.shutdown(socket.SHUT_WR)
        expect("a new one", s.recv(100), b"3 %d\n" % total(b"abc"))
        expect("status", v.end()[0], 0)


def exact(orrery, scratch):
    """A device that nobody uses changes nothing: equal digests, and one host's pace or another."""
    got = [run(orrery, "run", "--kernel", kernel(orrery, CLOUD_6_12), "--vsock", "--digest", "--",
               "sh", "-c", "sleep 0.3; ls /sys/bus/virtio/devices",
               env={"XDG_RUNTIME_DIR": scratch}) for _ in range(2)]
    expect("status", [g.status for g in got], [0, 0], got[0])
    expect("digest", got[1].digest(), got[0].digest())


if __name__ == "__main__":
    main([exec_6_1, exec_6_12, signals, terminal, limit, private, connect_6_1, connect_6_12, thousand_6_1,
          thousand_6_12, thousand_by_guest, rebind, exact])
