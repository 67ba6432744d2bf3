#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_vcon.py - virtio consoles with stock kernels: a command's port, hvc0

usage: test_vcon.py ORRERY [CASE...]
"""

import fcntl
import hashlib
import os
import random
import struct
import subprocess
import termios
import time

from kernel import CLOUD_6_1, CLOUD_6_12, PLAIN_6_12, boot, expect, expect_in, kernel, main
from cli import Bad, run
from terminal import Terminal

MIB = 1 << 20


def many(orrery, package, size):
    """Bytes of every value, both ways at once, more than all windows together."""
    data = random.Random(size).randbytes(size)
    with open("/dev/shm/orrery-test-%d" % os.getpid(), "w+b") as f:
        os.unlink(f.name)
        f.write(data)
        f.seek(0)
        got = boot(orrery, package, "--stats", "--digest", command=["cat"], stdin=f)
    if got.out != data:
        at = next((i for i, (a, b) in enumerate(zip(got.out, data)) if a != b), None)
        raise Bad(f"{len(got.out)} bytes came of {len(data)}; the first wrong one is at {at}")
    if got.stat("port_bytes_out") < size - 2 * MIB or got.stat("port_bytes_in") < size - 2 * MIB:
        raise Bad(f"they did not go through the virtio port\n{got.show()}")
    return got


def both_ways_6_1(orrery, scratch):
    many(orrery, CLOUD_6_1, 8 * MIB)


def both_ways_6_12(orrery, scratch):
    """Twice, with one digest: moving to the port is part of what is exact."""
    one, two = (many(orrery, CLOUD_6_12, 8 * MIB) for _ in range(2))
    expect("digest", two.digest(), one.digest())
    expect("guest time", two.stat("guest_s"), one.stat("guest_s"))


def both_ways_plain(orrery, scratch):
    many(orrery, PLAIN_6_12, 4 * MIB)


def sixty_four(orrery, scratch):
    """64 MiB of output: their hash is that of the same command on this host."""
    command = ["seq", "8400000"]
    want = hashlib.sha256()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as p:
        while piece := p.stdout.read(MIB):
            want.update(piece)
    got = run(orrery, "run", "--kernel", kernel(orrery, CLOUD_6_12), "--", *command)
    expect("status", got.status, 0, got)
    if len(got.out) < 63 * MIB:
        raise Bad(f"only {len(got.out)} bytes")
    expect("hash", hashlib.sha256(got.out).hexdigest(), want.hexdigest())


def rss(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        for line in f:
            if line.startswith("VmRSS"):
                return int(line.split()[1]) << 10
    return 0


def cpu_time(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))


def slow_reader(orrery, scratch):
    """A reader that stops stops the guest; nothing piles up; the run is the same as with a fast one."""
    args = [orrery, "run", "--kernel", kernel(orrery, CLOUD_6_12), "--digest", "--", "seq", "3000000"]
    fast = subprocess.run(args, capture_output=True, check=True, stdin=subprocess.DEVNULL)
    with subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as p:
        got = p.stdout.read(2 * MIB)
        # It is held up when it uses no more CPU time.
        still, last = 0, -1
        end = time.monotonic() + 60
        while still < 5 and time.monotonic() < end:
            now = cpu_time(p.pid)
            still = still + 1 if now == last else 0
            last = now
            time.sleep(0.1)
        expect("it waits for its reader", still, 5)
        before = rss(p.pid)
        got += p.stdout.read(8 * MIB)
        grown = rss(p.pid) - before
        got += p.stdout.read()
        err = p.stderr.read()
        expect("status", p.wait(), 0)
    if grown > 8 * MIB:
        raise Bad(f"the monitor grew by {grown >> 10} KiB while 8 MiB were read")
    expect("output", hashlib.sha256(got).hexdigest(), hashlib.sha256(fast.stdout).hexdigest())
    expect("digest", err.splitlines()[-1], fast.stderr.splitlines()[-1])


def falls_back(orrery, scratch):
    """Without the drivers, a slot, or by request the bytes stay on the serial port, and are right."""
    command = ["seq", "60000"]
    want = subprocess.run(command, capture_output=True, check=True).stdout
    for args in (["--serial-port"], ["--append", "module_blacklist=virtio_mmio"],
                 ["--virtio-cmdline"]):
        got = run(orrery, "run", "--kernel", kernel(orrery, CLOUD_6_12), *args, "--stats", "--",
                  *command)
        expect(f"status with {args}", got.status, 0, got)
        expect(f"output with {args}", got.out == want, True, got)
        if "port_bytes_out" in got.err:
            expect(f"port with {args}", got.stat("port_bytes_out"), 0, got)


def early_port(orrery, scratch):
    """With another virtio device the port is there before the command, and used from the start."""
    got = boot(orrery, CLOUD_6_12, "--rng", "--stats", command=["cat", "/sys/class/virtio-ports/vport1p0/name"])
    expect("name", got.out, b"orrery.command\n", got)
    if got.stat("port_bytes_out") < 10:
        raise Bad(f"the port was not used\n{got.show()}")


def hvc(orrery, package):
    t = Terminal([orrery, "run", "--hvc", "--kernel", kernel(orrery, package), "--stats"], (33, 101))
    t.until(b"# ", 120)
    t.type(b"tty; stty size; echo $((6 * 7)) ok\r")
    t.until(b"42 ok", 60)
    expect_in("terminal", b"/dev/hvc0", t.seen)
    expect_in("size", b"33 101", t.seen)
    fcntl.ioctl(t.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 122, 0, 0))
    t.type(b"until stty size | grep '44 122'; do sleep 0.1; done\r")
    t.until(b"44 122\r\n", 60)
    # More than the queue holds, and a line that the line discipline must hold back.
    t.type(b"seq 20000 | md5sum\r")
    t.until(subprocess.run("seq 20000 | md5sum", shell=True, capture_output=True,
                           check=True).stdout.split()[0], 60)
    t.type(b"\x01x")
    status, err = t.end()
    expect("status", status, 0)
    expect_in("counters", "hvc_bytes_out", err)


def hvc_6_1(orrery, scratch):
    hvc(orrery, CLOUD_6_1)


def hvc_6_12(orrery, scratch):
    hvc(orrery, CLOUD_6_12)


def hvc_piped(orrery, scratch):
    """A script on standard input runs on hvc0 and ends the guest; the same digest each time."""
    with open(os.path.join(scratch, "in"), "w+b") as f:
        f.write(b"tty\nseq 3\nexit\n")
        runs = []
        for _ in range(2):
            f.seek(0)
            runs.append(run(orrery, "run", "--hvc", "--kernel", kernel(orrery, CLOUD_6_12), "--digest",
                            stdin=f))
    for got in runs:
        expect("status", got.status, 0, got)
        expect_in("terminal", b"/dev/hvc0", got.out, got)
        expect_in("output", b"1\r\n2\r\n3\r\n", got.out, got)
    expect("digest", runs[0].digest(), runs[1].digest())


if __name__ == "__main__":
    main([both_ways_6_1, both_ways_6_12, both_ways_plain, sixty_four, slow_reader, falls_back, early_port,
          hvc_6_1, hvc_6_12, hvc_piped])
