# SPDX-License-Identifier: Apache-2.0
"""common.py - what the benchmarks share: the kernel, the initrd, the two command lines, a stopwatch

How it works: a guest's clock is not the host's (Orrery's virtual clock counts instructions), so
guests time nothing. They write lines to their console, and Stopwatch notes when each line came:
wall-clock time, and the CPU time that all threads of the monitor had used by then, to the
nanosecond. CPU time is what the ratios are made of: a monitor with one vCPU is one busy thread, and
another load on the machine stretches its wall-clock time, but hardly its CPU time.
"""

import glob
import json
import math
import os
import selectors
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

PACKAGE = "linux-image-6.12-cloud-amd64"
APPEND = "console=ttyS0 panic=-1 quiet"
os.environ.setdefault("ORRERY_ENGINE", "soft")  # the peer is QEMU's TCG


def cached_kernel():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for meta in glob.glob(os.path.join(base, "orrery/kernels/*/metadata.json")):
        with open(meta, encoding="utf-8") as f:
            if PACKAGE in json.load(f)["requested"]:
                return os.path.join(os.path.dirname(meta), "image")
    sys.exit(f"bench: no cached kernel was fetched as {PACKAGE}; orrery kernel fetch {PACKAGE}")


def pack(root, initrd):
    """Makes an initrd of everything below the directory root."""
    names = ["."]
    for folder, folders, files in os.walk(root):
        folders.sort()
        names += [os.path.relpath(os.path.join(folder, n), root) for n in folders + sorted(files)]
    with open(initrd, "wb") as out:
        subprocess.run(["/bin/busybox", "cpio", "-o", "-H", "newc"], cwd=root, stdout=out,
                       stderr=subprocess.DEVNULL, input=("\n".join(names) + "\n").encode(),
                       check=True)
    return initrd


def compile_c(source, binary, *more):
    """Compiles bench/source, for a guest or the host."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), source)
    subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-o", binary, source, *more],
                   check=True)


def our_command(orrery, kernel, initrd, append=APPEND, mem=512, cpus=1, more=()):
    return [orrery, "run", "--engine", "soft", "--kernel", kernel, "--initrd", initrd,
            "--mem", f"{mem}M", "--cpus", str(cpus), "--append", append, *more]


def host_tsc_khz():
    """What QEMU's TCG shows as the TSC runs at the host's rate; its guests often fail to measure it."""
    with open("/proc/cpuinfo", encoding="ascii") as f:
        for line in f:
            if line.startswith("cpu MHz"):
                return round(float(line.split(":")[1]) * 1000)
    return 1000000


def peer_command(kernel, initrd, append=APPEND, mem=512, machine="microvm,accel=tcg", more=()):
    return ["qemu-system-x86_64", "-M", machine, "-m", str(mem), "-smp", "1", "-kernel", kernel,
            "-initrd", initrd, "-append", f"{append} tsc_early_khz={host_tsc_khz()}",
            "-nodefaults", "-no-reboot", "-display", "none",
            "-serial", "stdio", *more]


def cpu_seconds(pid):
    """CPU time of all threads that the process has now."""
    total = 0
    for task in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        try:
            with open(task, encoding="ascii") as f:
                total += int(f.read().split()[0])
        except OSError:
            pass  # a thread that ended meanwhile
    return total / 1e9


class Stopwatch:
    """Runs a command and yields its output line by line: (text, wall seconds, CPU seconds).

    It is killed after timeout seconds, or when nothing has come for as long as idle seconds.
    """

    def __init__(self, command, timeout, idle=None):
        self.command = command
        self.timeout = timeout
        self.idle = idle or timeout

    def lines(self):
        start = time.monotonic()
        p = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL)
        rest = b""
        wait = selectors.DefaultSelector()
        wait.register(p.stdout, selectors.EVENT_READ)
        try:
            while True:
                left = start + self.timeout - time.monotonic()
                if left <= 0 or not wait.select(min(left, self.idle)):
                    return
                piece = os.read(p.stdout.fileno(), 65536)
                if not piece:
                    return
                wall = time.monotonic() - start
                cpu = cpu_seconds(p.pid)
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    yield line.decode(errors="replace").strip("\r"), wall, cpu
        finally:
            p.send_signal(signal.SIGKILL)
            p.wait()
            p.stdout.close()


@dataclass
class Sample:
    """One piece of work: times between its two lines, and what it computed."""

    wall: float
    cpu: float
    checksum: str
    group: str
    output: list  # the lines between


def guest(command, timeout, idle=None):
    """Returns {name: Sample} from the lines that cpu/kernels.c describes, None without the last.

    A line "= NAME CHECKSUM" behind "!" replaces the checksum, for those who compute it later.
    """
    got = {}
    begun = None
    output = []
    for text, wall, cpu in Stopwatch(command, timeout, idle).lines():
        word = text.split()
        if len(word) == 3 and word[0] == "@":
            begun = (word[1], word[2], wall, cpu)
            output = []
        elif len(word) == 4 and word[0] == "!" and begun and begun[0] == word[1]:
            got[word[1]] = Sample(wall - begun[2], cpu - begun[3], word[2], begun[1], output)
        elif len(word) == 3 and word[0] == "=" and word[1] in got:
            got[word[1]].checksum += word[2]
        elif word == ["$"]:
            return got
        else:
            output.append(text)
    print(f"bench: {command[0]}: the guest did not get to the end; last: {begun}", *output[-5:],
          sep="\n", file=sys.stderr)
    return None


class Peer:
    """QEMU's TCG. guest() runs one; see cpu/kernels.c for the lines it writes.

    The microvm machine calibrates the TSC against a PIT that is emulated in host time. On a loaded
    host that fails, and with ACPI the guest then has no clock and hangs before its first line: from
    then on acpi=off is used, where it gets by with PIT interrupts.
    """

    # QEMU's default model with x86-64-v2's instructions, so that libc chooses the same code in both
    # guests. (With a model that has Intel's name the guest's kernel isolates page tables, and each
    # system call costs QEMU two more TLB flushes.)
    cpu = "qemu64,+cx16,+lahf-lm,+popcnt,+ssse3,+sse4.1,+sse4.2"
    hung = 30  # seconds without a line

    def __init__(self, cpu=None):
        self.machine = "microvm,accel=tcg"
        self.cpu = cpu or self.cpu

    def guest(self, kernel, initrd, append, timeout, mem=512):
        while True:
            got = guest(peer_command(kernel, initrd, append, mem, self.machine,
                                     ("-cpu", self.cpu)), timeout, self.hung)
            if got or "acpi=off" in self.machine:
                return got
            self.machine += ",acpi=off"


def geomean(values):
    values = list(values)
    return math.exp(statistics.fmean(math.log(v) for v in values)) if values else float("nan")
