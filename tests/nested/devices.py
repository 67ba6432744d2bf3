#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""devices.py - bytes through consoles and disks under the KVM engine, and what it counts

usage: devices.py ORRERY [CASE...]

Runs in the outer guest that tests/nested/run makes (or on a host with KVM). What tests/kernel does with
devices is run there too (meson.build); here is what it does not do, or not without exact runs.
"""

import hashlib
import os
import random
import subprocess
import threading
import time

from inside import begin, image, kvm
from kernel import CLOUD_6_12, PLAIN_6_12, expect, kernel, run
from cli import SLOW, Bad

MIB = 1 << 20


# --- consoles -------------------------------------------------------------------------------------

def console(orrery, tty, size, *args):
    """Bytes of every value both ways through a terminal of the guest that is set to raw."""
    data = random.Random(size).randbytes(size)
    # What the shell echoes must not look like what it then prints.
    script = (f"stty raw -echo; echo; tty; echo REA''DY; head -c {size} >/tmp/in; md5sum </tmp/in; "
              "cat /tmp/in; poweroff -f\n")
    begun = time.monotonic()
    with subprocess.Popen([orrery, "run", "--engine", "kvm", "--kernel", kernel(orrery, CLOUD_6_12),
                           *args, "--timeout", str(int(400 * SLOW))], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as p:
        said = b""

        def until(words):
            nonlocal said
            while words not in said:
                part = os.read(p.stdout.fileno(), 65536)
                if not part:
                    raise Bad(f"the guest ended before it said {words!r}: {said[-500:]!r}")
                said += part

        until(b"# ")
        p.stdin.write(script.encode())
        p.stdin.flush()
        until(b"READY\n")
        writer = threading.Thread(target=lambda: (p.stdin.write(data), p.stdin.flush()))
        writer.start()
        said += p.stdout.read()
        writer.join()
        status = p.wait()
    said = said.split(b"READY\n", 1)
    expect("the terminal", tty in said[0], True)
    said = said[1].split(b"  -\n", 1)
    expect("the sum of what the guest got", said[0], hashlib.md5(data).hexdigest().encode())
    at = next((i for i, (a, b) in enumerate(zip(said[1], data)) if a != b), None)
    expect("the first byte that came back wrong", at, None)
    expect("how many came back", (len(said[1]) >= size, status), (True, 0))
    print(f"  {tty.decode()}: {size >> 10} KiB both ways, {time.monotonic() - begun:.1f} s with the boot")


def hvc(orrery, scratch):
    console(orrery, b"/dev/hvc0", MIB, "--hvc")


def serial(orrery, scratch):
    """Each byte is an exit, which takes long here. SERIAL_BYTES=N sends more."""
    console(orrery, b"/dev/ttyS0", int(os.environ.get("SERIAL_BYTES", MIB // 16)))


def port(orrery, scratch):
    """A command's input and output: the virtio port; with --serial-port the second UART."""
    for how, size in ([], 2 * MIB), (["--serial-port"], MIB // 32):
        data = random.Random(7).randbytes(size)
        got = run(orrery, "run", "--engine", "kvm", "--kernel", kernel(orrery, CLOUD_6_12), "--cpus", "2",
                  "--stats", *how, "--", "cat", stdin=data, limit=400)
        expect("status", got.status, 0, got)
        expect("bytes", len(got.out), size)
        expect("the same", got.out == data, True)
        if not how:
            expect("by the port", got.stat("port_bytes_out") > MIB, True, got)
        print(f"  {' '.join(how) or 'virtio port'}: {size >> 10} KiB both ways, {got.seconds:.1f} s with the boot")


# --- disks ------------------------------------------------------------------------------------------

# Each block tells where it belongs. Written in an order of its own by two at once, read back by both
# without the page cache, and by the host.
VERIFY = r"""
    mark() { printf '%07d' $1 | tr '\n' x; }
    writer() {
        i=$1
        while [ $i -lt 512 ]; do
            at=$((i * 37 % 512)); n=$(mark $at)
            yes $n | head -c 4096 | dd of=/dev/vda bs=4096 seek=$at oflag=direct conv=notrunc 2>/dev/null
            i=$((i + 2))
        done
    }
    writer 0 & writer 1 & wait
    sync
    for q in 1 2; do dd if=/dev/vda bs=64k iflag=direct 2>/dev/null | md5sum; done
    ls /sys/block/vda/mq | wc -l"""


def verify(orrery, scratch):
    disk = image(scratch, "disk", 2)
    want = b"".join((b"%07d\n" % i * 512) for i in range(512))
    lines = kvm(orrery, CLOUD_6_12, "--cpus", "4", "--disk", disk + ",queues=4", command=VERIFY)
    expect("sums, queues", lines, [hashlib.md5(want).hexdigest() + "  -"] * 2 + ["4"])
    with open(disk, "rb") as f:
        expect("the file", f.read() == want, True)


# --- what is counted ----------------------------------------------------------------------------------

def counters(orrery, scratch):
    """The counters of the engine and of the host's KVM say what the guest did."""
    got = run(orrery, "run", "--engine", "kvm", "--stats", "--cpus", "2", "--kernel",
              kernel(orrery, PLAIN_6_12), "--serial-port", "--", "sh", "-c",
              "sleep 0.5; seq 1000; cat /proc/interrupts >/dev/null")
    expect("status", got.status, 0, got)
    for name, least in (("kvm_user_exits", 100), ("kvm_exit_io", 100), ("kvm_messages", 10),
                        ("kvm_kernel_exits", 1000), ("kvm_kernel_halt_exits", 1),
                        ("kvm_kernel_io_exits", 100), ("kvm_kernel_signal_exits", 0)):
        expect(f"{name} is at least {least}", got.stat(name) >= least, True, got)
    # What comes to us is part of what left the guest.
    expect("exits to us, all exits", got.stat("kvm_user_exits") <= got.stat("kvm_kernel_exits"), True, got)
    print("  " + ", ".join(line.strip() for line in got.err.splitlines() if line.startswith("kvm_")))


if __name__ == "__main__":
    begin([hvc, serial, port, verify, counters])
