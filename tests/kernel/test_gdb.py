#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_gdb.py - Debian's gdb on a stock kernel: orrery run --gdb

The kernel's addresses come from its own /proc/kallsyms, with KASLR off; gdb gets them as the symbols
of an ELF file without contents.

usage: test_gdb.py ORRERY [CASE...]
"""

import os
import re
import shutil
import struct
import subprocess
import time

from kernel import CLOUD_6_1, CLOUD_6_12, Bad, Skip, expect, expect_in, kernel, main, run
from cli import SLOW

WANTED = ("start_kernel", "do_sys_openat2", "jiffies", "linux_banner", "linux_proc_banner", "panic",
          "_text", "_end", "_etext")
ARGS = ("--cpus", "4", "--append", "nokaslr", "--seed", "3", "--timeout", "200")
COMMAND = ("sh", "-c", "cat /proc/version; nproc; sleep 0.1; echo done")


def need_gdb():
    if not shutil.which("gdb"):
        raise Skip("there is no gdb; the Debian package gdb has it (make deps)")


def symbols(orrery, release):
    got = run(orrery, "run", "--kernel", release, "--append", "nokaslr", "--",
              "grep", "-E", f" ({'|'.join(WANTED)})$", "/proc/kallsyms")
    expect("status", got.status, 0, got)
    found = {}
    for line in got.out.decode().splitlines():
        addr, _, name = line.split()[:3]
        if name in WANTED and name not in found:
            found[name] = int(addr, 16)
    return found


def elf(path, syms):
    """Sections .text and .data that are nowhere in the file, and symbols in them."""
    strtab, symtab = b"\0", b"\0" * 24
    for name, addr in syms.items():
        code = addr < syms["_etext"] or name == "start_kernel"
        symtab += struct.pack("<IBBHQQ", len(strtab), 0x12 if code else 0x11, 0, 1 if code else 2,
                              addr, 8)
        strtab += name.encode() + b"\0"
    names = b"\0.text\0.data\0.symtab\0.strtab\0.shstrtab\0"
    base, size = syms["_text"], syms["_end"] - syms["_text"]
    at = 64
    body = symtab + strtab + names
    sections = [
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (1, 8, 6, base, at, size, 0, 0, 16, 0),
        (7, 8, 3, base, at, size, 0, 0, 16, 0),
        (13, 2, 0, 0, at, len(symtab), 4, 1, 8, 24),
        (21, 3, 0, 0, at + len(symtab), len(strtab), 0, 0, 1, 0),
        (29, 3, 0, 0, at + len(symtab) + len(strtab), len(names), 0, 0, 1, 0),
    ]
    head = b"\x7fELF\x02\x01\x01" + b"\0" * 9 + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, at + len(body), 0, 64, 0, 0, 64, len(sections), 5)
    with open(path, "wb") as f:
        f.write(head + body)
        for s in sections:
            f.write(struct.pack("<IIQQQQIIQQ", *s))
    return path


class Debugged:
    """A guest with a debugger; gdb's commands in, its words out."""

    def __init__(self, orrery, scratch, release, *args, how="", command=COMMAND):
        need_gdb()
        self.path = scratch + "/gdb"
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.scratch = scratch
        # pylint: disable-next=consider-using-with
        self.p = subprocess.Popen([orrery, "run", "--kernel", release, *ARGS, *args, "--gdb",
                                   self.path + how, "--", *command], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def gdb(self, *commands, file=None):
        deadline = time.monotonic() + 60 * SLOW
        while not os.path.exists(self.path):
            if time.monotonic() > deadline or self.p.poll() is not None:
                raise Bad("the socket did not appear")
            time.sleep(0.02)
        args = ["gdb", "-nx", "-batch", "-ex", "set pagination off", "-ex", "set confirm off",
                "-ex", "set tcp connect-timeout 60"]
        args += ["-ex", f"file {file}"] if file else []
        args += ["-ex", f"target remote {self.path}"]
        for c in commands:
            args += ["-ex", c]
        got = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, timeout=200 * SLOW,
                             check=False, env={**os.environ, "LC_ALL": "C"})
        return got.stdout.decode() + got.stderr.decode()

    def end(self):
        out, err = self.p.communicate(timeout=200 * SLOW)
        return self.p.returncode, out.decode(), err.decode()


def session(orrery, scratch, package):
    """Breakpoints of both kinds, steps, threads, memory, watched data; and it is the same run."""
    release = kernel(orrery, package)
    need_gdb()
    syms = symbols(orrery, release)
    file = elf(scratch + "/vmlinux", syms)
    plain = run(orrery, "run", "--kernel", release, *ARGS, "--digest", "--", *COMMAND)
    expect("status", plain.status, 0, plain)
    d = Debugged(orrery, scratch, release, "--digest")
    words = d.gdb(
        "hbreak *start_kernel", "continue", "printf \"at %d\\n\", $pc == (long)&start_kernel",
        "info registers rip cr3 efer", "x/s (char *)&linux_banner", "stepi",
        "printf \"moved %d\\n\", $pc != (long)&start_kernel", "delete",
        "break *do_sys_openat2", "continue", "info threads", "x/i $pc",
        "set $a = *(unsigned char *)&do_sys_openat2", "stepi", "printf \"code %#x\\n\", $a",
        "delete", "watch *(unsigned long *)&jiffies", "continue", "continue", "delete",
        "thread 4", "printf \"thread %d\\n\", $_thread", "monitor time", "bt 2", "continue", file=file)
    status, out, err = d.end()
    expect_in("start_kernel", "at 1", words)
    expect_in("a step", "moved 1", words)
    expect_in("its name", "<start_kernel>", words)
    expect_in("the banner", "Linux version 6.", words)
    expect_in("openat", "<do_sys_openat2>", words)
    expect("vCPUs", len(re.findall(r"^[* ] +\d +Thread \d \(vCPU \d", words, re.M)), 4)
    # endbr64 or a NOP of ftrace's: nothing of ours.
    code = re.search(r"^code (0x[0-9a-f]+)$", words, re.M)
    if not code or code[1] == "0xcc":
        raise Bad(f"the code at do_sys_openat2\n{words}")
    ticks = re.findall(r"^(?:Old|New) value = (\d+)$", words, re.M)
    if len(ticks) != 4:
        raise Bad(f"values of jiffies: {ticks}\n{words}")
    old, new, again, last = map(int, ticks)
    expect("jiffies go on", (old < new, again, new < last), (True, new, True))
    expect_in("the chosen one", "thread 4", words)
    expect_in("the end", "exited normally", words)
    expect("status", (status, out), (0, plain.out.decode()))
    digest = re.search(r"^digest: (\S+)$", err, re.M)
    expect("digest", digest and digest[1], plain.digest())


def session_6_1(orrery, scratch):
    session(orrery, scratch, CLOUD_6_1)


def session_6_12(orrery, scratch):
    session(orrery, scratch, CLOUD_6_12)


def changes(orrery, scratch):
    """A byte of the kernel's read-only data, and a register; then the debugger goes."""
    release = kernel(orrery, CLOUD_6_1)
    need_gdb()
    file = elf(scratch + "/vmlinux", symbols(orrery, release))
    d = Debugged(orrery, scratch, release)
    words = d.gdb("hbreak *start_kernel", "continue", "delete",
                  "set var *(char *)((long)&linux_proc_banner + 3) = 'V'",
                  "set var $r12 = 0x123456789abcdef0", "p/x $r12", "set var $xmm7.v2_int64[1] = 77",
                  "p $xmm7.v2_int64[1]", "p $eflags", "detach", file=file)
    status, out, _ = d.end()
    expect_in("the register", "= 0x123456789abcdef0", words)
    expect_in("half a register", "= 77", words)
    expect("status", status, 0)
    expect_in("what the guest printed", "Linux Version 6.1", out)


def comes_late(orrery, scratch):
    """A guest that runs for a while, under the host's clock: stopped, looked at, let go, killed."""
    release = kernel(orrery, CLOUD_6_1)
    d = Debugged(orrery, scratch, release, "--clock", "real", how=",nowait",
                 command=("sh", "-c", "while :; do sleep 0.1; done"))
    words = d.gdb("info threads", "p $cr0 != 0", "detach")
    expect("vCPUs", len(re.findall(r"^[* ] +\d +Thread \d \(vCPU \d", words, re.M)), 4)
    expect_in("detached", "detached", words)
    expect_in("killed", "killed", d.gdb("kill"))
    status, _, _ = d.end()
    expect("status", status, 130)


if __name__ == "__main__":
    main([session_6_1, session_6_12, changes, comes_late])
