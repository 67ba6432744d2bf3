#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_gdb.py - orrery run --gdb with guests of a few bytes, by a client of our own

What GDB itself makes of it is in tests/kernel/test_gdb.py.

usage: test_gdb.py ORRERY [CASE...]
"""

import os
import re
import socket
import struct
import subprocess
import time

import cli

ENTRY = cli.LOAD + 0x20
RIP, RAX = 16, 0  # numbers of registers

# Counts in EAX for ever, and in memory.
COUNTER = cli.LOAD + 0x800
CODE_COUNT = (b"\x31\xc0"  # 0 xor eax, eax
              b"\x40"  # 2 loop: inc eax
              + b"\xa3" + struct.pack("<I", COUNTER) +  # 3 mov [COUNTER], eax
              b"\xeb\xf8")  # 8 jmp loop
# Counts to 1000 the same way, then ends with status 43.
CODE_END = (b"\x31\xc0\x40\xa3" + struct.pack("<I", COUNTER) + b"\x3d\xe8\x03\x00\x00\x75\xf3" +
            cli.CODE_EXIT_21)


class Client:
    """Speaks the protocol, and judges how it is answered."""

    def __init__(self, where, ack=True):
        kind = socket.AF_INET if isinstance(where, tuple) else socket.AF_UNIX
        self.s = socket.socket(kind, socket.SOCK_STREAM)
        self.s.settimeout(60)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.s.connect(where)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        self.ack, self.buf = ack, b""

    def byte(self):
        if not self.buf:
            try:
                self.buf = self.s.recv(65536)
            except OSError as why:
                raise cli.Bad(f"the connection: {why}") from why
            if not self.buf:
                raise cli.Bad("the connection ended")
        b, self.buf = self.buf[:1], self.buf[1:]
        return b

    def send(self, text):
        data = text if isinstance(text, bytes) else text.encode()
        try:
            self.s.sendall(b"$" + data + b"#%02x" % (sum(data) & 0xFF))
        except OSError as why:
            raise cli.Bad(f"the connection: {why}") from why
        if self.ack:
            cli.expect("acknowledgement", self.byte(), b"+")

    def reply(self):
        while (b := self.byte()) != b"$":
            cli.expect("between packets", b, b"+")
        data = b""
        while (b := self.byte()) != b"#":
            data += b
        cli.expect("checksum", int(self.byte() + self.byte(), 16), sum(data) & 0xFF)
        if self.ack:
            try:
                self.s.sendall(b"+")
            except BrokenPipeError:  # it was the last word
                pass
        # Runs of a character.
        return re.sub(rb"(.)\*(.)", lambda m: m[1] * (m[2][0] - 28), data).decode()

    def ask(self, text):
        self.send(text)
        return self.reply()

    def quiet(self):
        cli.expect("QStartNoAckMode", self.ask("QStartNoAckMode"), "OK")
        self.ack = False

    def reg(self, n):
        return int.from_bytes(bytes.fromhex(self.ask(f"p{n:x}")), "little")

    def mem(self, addr, n):
        return bytes.fromhex(self.ask(f"m{addr:x},{n:x}"))

    def close(self):
        self.s.close()


class Guest:
    """A run with --gdb, and what it says at its end."""

    def __init__(self, orrery, scratch, code, *args, where=None, how="", env=None):
        image = cli.tiny_guest(scratch + "/guest", code)
        self.path = where or scratch + "/gdb"
        # pylint: disable-next=consider-using-with
        self.p = subprocess.Popen(
            [orrery, "run", "--kernel", image, "--debug-exit", "0xf4", "--timeout", "120", *args,
             "--gdb", self.path + how], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=env)

    def end(self):
        out, err = self.p.communicate(timeout=60)
        return cli.Result(self.p.returncode, out, err.decode())

    def stop(self):
        self.p.kill()
        self.p.communicate()


def packets(orrery, scratch):
    """One thing after the other that a debugger does, with the answers that the manual gives."""
    g = Guest(orrery, scratch, CODE_END, "--cpus", "3")
    c = Client(g.path)
    cli.expect("mode of the socket", os.stat(g.path).st_mode & 0o777, 0o600)
    cli.expect_in("qSupported", "qXfer:features:read+", c.ask("qSupported:swbreak+;hwbreak+"))
    c.quiet()
    for text, want in [("vMustReplyEmpty", ""), ("qC", "QC1"), ("qfThreadInfo", "m1,2,3"),
                       ("qsThreadInfo", "l"), ("T3", "OK"), ("T4", "E03"), ("Hg3", "OK"),
                       ("Hg4", "E03"), ("Hg0", "OK"), ("Hg1", "OK"), ("qAttached", "1"),
                       ("qTStatus", ""), ("vCont?", "vCont;c;C;s;S"), ("m0", "E16"),
                       ("mf0000000,4", "E0e"), (f"M{COUNTER:x},4:01020304", "OK"),
                       (f"m{COUNTER:x},4", "01020304"), (f"X{COUNTER:x},0:", "OK"),
                       (f"M{COUNTER:x},4:010203", "E16"), ("Z9,0,0", "E16"), ("Z3,1000,4", ""),
                       ("vCont;c:2", "E.all vCPUs run or none: set scheduler-locking off"),
                       ("vCont;x", "E16"), ("nonsense", ""), ("", "")]:
        cli.expect(text, c.ask(text), want)
    c.send(b"X%x,4:" % COUNTER + b"}\x03}\x04}\x5d*")
    cli.expect("X", c.reply(), "OK")
    cli.expect("what X wrote", c.mem(COUNTER, 4), b"#$}*")
    cli.expect_in("T", "thread:1;", c.ask("?"))
    cli.expect("entry", c.reg(RIP), ENTRY)
    xml = c.ask("qXfer:features:read:target.xml:0,fff")
    cli.expect_in("description", "org.gnu.gdb.i386.core", xml)
    cli.expect_in("info", "not started", bytes.fromhex(c.ask("qThreadExtraInfo,2")).decode())
    # One instruction; a breakpoint, twice; over it; a watched place.
    cli.expect_in("step", "T05", c.ask("vCont;s:1;c"))
    cli.expect("behind xor", c.reg(RIP), ENTRY + 2)
    cli.expect("Z0", c.ask(f"Z0,{ENTRY + 3:x},1"), "OK")
    cli.expect_in("break", "swbreak", c.ask("vCont;c"))
    cli.expect("EAX", c.reg(RAX), 1)
    c.ask("vCont;s:1")
    cli.expect_in("break", "swbreak", c.ask("c"))
    cli.expect("EAX", c.reg(RAX), 2)
    cli.expect("memory does not show it", c.mem(ENTRY + 3, 1), b"\xa3")
    c.ask(f"z0,{ENTRY + 3:x},1")
    cli.expect("Z2", c.ask(f"Z2,{COUNTER:x},4"), "OK")
    cli.expect_in("watch", f"watch:{COUNTER:x};", c.ask("vCont;c"))
    cli.expect("the place", c.mem(COUNTER, 4), struct.pack("<I", 2))
    cli.expect("RIP", c.reg(RIP), ENTRY + 8)
    c.ask(f"z2,{COUNTER:x},4")
    # A register, and so another end of the loop.
    cli.expect("P", c.ask(f"P{RAX:x}={struct.pack('<Q', 900).hex()}"), "OK")
    regs = c.ask("g")
    cli.expect("G", c.ask("G" + regs), "OK")
    cli.expect("the end", c.ask("c"), "W2b")
    cli.expect("status", g.end().status, 43)
    cli.expect("the socket's file is gone", os.path.exists(g.path), False)


def interrupts(orrery, scratch):
    """Byte 3 stops vCPUs that run; two debuggers one after the other; the last one kills."""
    g = Guest(orrery, scratch, CODE_COUNT, "--clock", "real", how=",nowait")
    last = -1
    for i in range(3):
        c = Client(g.path)
        c.quiet()
        cli.expect_in("it stands still", "T02", c.ask("?"))
        eax = c.reg(RAX)
        cli.expect("it had run", eax > last or i == 0, True)
        cli.expect("and does not any more", c.reg(RAX), eax)
        c.ask(f"Z1,{ENTRY + 3:x},1")
        cli.expect_in("hbreak", "T05", c.ask("c"))
        c.ask(f"z1,{ENTRY + 3:x},1")
        c.send("c")
        time.sleep(0.05)
        c.s.sendall(b"\x03")
        cli.expect_in("interrupt", "T02", c.reply())
        last = c.reg(RAX)
        if i == 0:  # in the middle of things, with a breakpoint
            c.ask(f"Z1,{ENTRY + 3:x},1")
            c.close()
            time.sleep(0.2)
        elif i == 1:
            cli.expect("detach", c.ask("D"), "OK")
            time.sleep(0.2)
            c.close()
    cli.expect("kill", c.ask("vKill;1"), "OK")
    got = g.end()
    cli.expect("status", got.status, 0, got)


def idle(orrery, scratch):
    """Byte 3 stops vCPUs that are halted, too; debuggers come and go."""
    g = Guest(orrery, scratch, cli.CODE_IDLE, "--clock", "real", "--cpus", "2", how=",nowait")
    cli.expect("its word", g.p.stdout.readline(), b"ready\n")
    for _ in range(3):
        c = Client(g.path)
        c.quiet()
        cli.expect_in("it stands still", "T02", c.ask("?"))
        c.send("c")
        time.sleep(0.05)
        c.s.sendall(b"\x03")
        cli.expect_in("interrupt", "T02", c.reply())
        cli.expect_in("info", "halted", bytes.fromhex(c.ask("qThreadExtraInfo,1")).decode())
        cli.expect_in("info", "not started", bytes.fromhex(c.ask("qThreadExtraInfo,2")).decode())
        cli.expect("time stands still", time_of(c), time_of(c))
        cli.expect("detach", c.ask("D"), "OK")
        c.close()
    c = Client(g.path)
    cli.expect("kill", c.ask("vKill;1"), "OK")
    cli.expect("status", g.end().status, 0)


def time_of(c):
    c.send("qRcmd," + b"time".hex())
    got = bytes.fromhex(c.reply()[1:])
    cli.expect("qRcmd", c.reply(), "OK")
    return got


def triple(orrery, scratch):
    """The debugger sees the guest's end before it is one."""
    g = Guest(orrery, scratch, cli.CODE_TRIPLE)
    c = Client(g.path)
    cli.expect_in("triple fault", "T0b", c.ask("c"))
    cli.expect("where", c.reg(RIP), ENTRY + 7)
    cli.expect("the end", c.ask("c"), "W7a")
    cli.expect("status", g.end().status, 122)
    # So he does when no vCPU will ever go on.
    g = Guest(orrery, scratch, cli.CODE_HALT)
    c = Client(g.path)
    cli.expect_in("all halted", "T02", c.ask("c"))
    cli.expect_in("info", "halted", bytes.fromhex(c.ask("qThreadExtraInfo,1")).decode())
    cli.expect("behind the HLT", c.reg(RIP), ENTRY + 2)
    cli.expect("the end", c.ask("c"), "W79")
    cli.expect("status", g.end().status, 121)


def exact(orrery, scratch):
    """Guest time does not pass while a debugger looks, and the run is the run without him."""
    plain = cli.run(orrery, "run", "--kernel", cli.tiny_guest(scratch + "/guest", CODE_END),
                    "--debug-exit", "0xf4", "--digest", "--timeout", "60")
    g = Guest(orrery, scratch, CODE_END, "--digest")
    c = Client(g.path)
    c.ask(f"Z0,{ENTRY + 8:x},1")
    c.ask(f"Z2,{COUNTER:x},4")
    times = []
    for i in range(40):
        cli.expect_in("stop", "T05", c.ask("c" if i % 2 else "vCont;s:1"))
        if c.reg(RIP) == ENTRY + 8:
            c.ask("vCont;s:1")
        times.append(time_of(c))
        c.ask("g")
    cli.expect("time goes on", sorted(set(times)), times)
    c.ask(f"z0,{ENTRY + 8:x},1")
    c.ask(f"z2,{COUNTER:x},4")
    c.send("c")
    c.close()
    got = g.end()
    cli.expect("status", got.status, plain.status, got)
    cli.expect("digest", got.digest(), plain.digest())


def port(orrery, scratch):
    """A port that is free, of this host only."""
    g = Guest(orrery, scratch, cli.CODE_EXIT_21, where="0")
    line = g.p.stderr.readline().decode()
    words = re.search(r"waiting for a debugger: target remote 127\.0\.0\.1:(\d+)$", line)
    if not words:
        raise cli.Bad(f"no line that says where: {line!r}")
    c = Client(("127.0.0.1", int(words[1])))
    cli.expect("detach", c.ask("D"), "OK")
    c.close()
    cli.expect("status", g.end().status, 43)


def hostile(orrery, scratch):
    """Whatever comes: the guest ends as it would have, and memory does not grow."""
    junk = [b"$" + b"a" * 200000, b"#" * 50000, b"$m0,ffffffffffffffff#zz" * 500,
            b"$X0,3fff:}}}#00" * 99, b"\x03" * 9999, b"$" + b"g" + b"#67" * 100,
            b"$qRcmd," + b"6865" * 5000 + b"#00", b"-" * 70000, os.urandom(100000),
            b"+$vCont;" + b"s:1;" * 3000 + b"#00", b"$Hg" + b"f" * 90 + b"#00", b""]
    g = Guest(orrery, scratch, CODE_COUNT, "--clock", "real", how=",nowait")
    for data in junk:
        for end in (b"", b"$?#3f$g#67"):
            c = Client(g.path)
            c.s.settimeout(5)
            try:
                c.s.sendall(data + end)
            except (TimeoutError, OSError):  # sent away
                pass
            c.close()
    # One that never reads.
    c = Client(g.path)
    c.s.settimeout(5)
    try:
        c.s.sendall(b"$g#67" * 100000)
    except (TimeoutError, OSError):
        pass
    with open(f"/proc/{g.p.pid}/status", encoding="ascii") as f:
        rss = int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])
    cli.expect("resident memory stays below 300 MiB", rss < 300 << 10, True)
    c.close()
    c = Client(g.path)
    cli.expect_in("the next client is served", "T02", c.ask("?"))
    c.ask("vKill;1")
    cli.expect("status", g.end().status, 0)


def orders(orrery, scratch):
    """What others ask of a VM whose debugger holds it: it is there, it can be paused, and ended."""
    env = {**os.environ, "XDG_RUNTIME_DIR": scratch}

    def tell(*args):
        got = subprocess.run([orrery, *args], capture_output=True, timeout=60, check=False, env=env)
        return got.returncode, got.stdout.decode() + got.stderr.decode()

    g = Guest(orrery, scratch, CODE_COUNT, "--clock", "real", "--name", "held", env=env)
    c = Client(g.path)
    cli.expect_in("it waits", "T05", c.ask("?"))
    cli.expect_in("ps", "held", tell("ps")[1])
    for what in ("pause", "resume"):
        cli.expect(what, tell(what, "--vm", "held"), (0, ""))
    cli.expect_in("it waits still", "T05", c.ask("vCont;s:1"))
    cli.expect("and has made a step", c.reg(RIP), ENTRY + 2)
    # A reset begins anew, held again; what was asked to go on says so.
    c.send("c")
    cli.expect("reset", tell("reset", "--vm", "held"), (0, ""))
    cli.expect_in("it waits at its beginning", "T05", c.reply())
    cli.expect("RIP", c.reg(RIP), ENTRY)
    status, words = tell("stop", "--force", "--vm", "held")
    cli.expect("stop", (status, words), (0, ""))
    cli.expect("status", g.end().status, 143)


def kvm(orrery, scratch):
    """Steps, registers and interrupts under KVM, also under one that only emulates it."""
    g = Guest(orrery, scratch, CODE_COUNT, "--engine", "kvm", "--cpu-model", "host", "--cpus", "2",
              "--clock", "real")
    try:
        c = Client(g.path)
        cli.expect_in("it waits", "T05", c.ask("?"))
    except cli.Bad as why:
        raise cli.Skip(f"there is no KVM here that works; /dev/kvm has one: {g.end().err}") from why
    for rip in (2, 3, 8, 2, 3):
        cli.expect_in("step", "T05", c.ask("vCont;s:1;c"))
        cli.expect("RIP", c.reg(RIP), ENTRY + rip)
    last = 0
    for _ in range(3):
        c.send("c")
        time.sleep(0.1)
        c.s.sendall(b"\x03")
        cli.expect_in("interrupt", "T02", c.reply())
        cli.expect("it has run", c.reg(RAX) > last, True)
        last = c.reg(RAX)
        time.sleep(0.02)
        cli.expect("it stands still", c.reg(RAX), last)
    cli.expect("P", c.ask(f"P{RAX:x}=0500000000000000"), "OK")
    cli.expect("detach", c.ask("D"), "OK")
    c.close()
    time.sleep(0.1)
    c = Client(g.path)
    cli.expect_in("once more", "T02", c.ask("?"))
    cli.expect("it ran from there", 5 < c.reg(RAX) != last, True)
    c.ask("vKill;1")
    cli.expect("status", g.end().status, 0)


def refused(orrery, scratch):
    taken = scratch + "/taken"
    with open(taken, "wb"):
        pass
    image = cli.tiny_guest(scratch + "/guest", cli.CODE_EXIT_21)
    for where, words in [("70000", "a number up to 65535"), ("", "it takes a port, or a path"),
                         (",nowait", "it takes a port, or a path"), (taken, "it exists"),
                         ("123x", "it takes a port, or a path"), ("socket,nowait", "with a /"),
                         (scratch + "/no/such", "No such file"), ("/" * 120, "107 bytes")]:
        got = cli.run(orrery, "run", "--kernel", image, "--gdb", where)
        cli.expect("status", got.status, 125, got)
        cli.expect_in("words", words, got.err, got)
        cli.expect("lines", got.err.count("\n"), 1, got)


cli.main([packets, interrupts, idle, triple, exact, port, hostile, orders, kvm, refused])
