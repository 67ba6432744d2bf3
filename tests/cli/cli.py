# SPDX-License-Identifier: Apache-2.0
"""cli.py - what the tests of the program share: running it, judging it, tiny guests

A test script calls main(CASES): each case is a function that takes the program's path and a scratch
directory, and returns nothing or raises Bad. Names given on the command line select cases. Exit 77
means skipped.
"""

import os
import struct
import subprocess
import sys
import tempfile
import time

SKIP = 77
# Tests are about the built-in CPU, on hosts with a good KVM too, unless they say --engine.
os.environ.setdefault("ORRERY_ENGINE", "soft")
# KVM's time is the host's.
CLOCKS = ("real",) if os.environ["ORRERY_ENGINE"] == "kvm" else ("virtual", "real")
# How many times slower than a quiet machine of today this one may be: all time limits grow with it.
SLOW = float(os.environ.get("TEST_SLOW", "1"))


class Bad(Exception):
    """A check that failed, with what was expected."""


class Skip(Exception):
    """Why a case cannot run here, and what would let it."""


class Result:
    def __init__(self, status, out, err, seconds=0.0):
        self.status, self.out, self.err, self.seconds = status, out, err, seconds

    def show(self):
        return (f"  status: {self.status}\n  stdout: {self.out[-2000:]!r}\n"
                f"  stderr: {self.err[-4000:]}")

    def stat(self, name):
        """The value that --stats printed for @name."""
        for line in self.err.splitlines():
            words = line.split()
            if len(words) == 2 and words[0] == name:
                return float(words[1])
        raise Bad(f"no counter {name}\n{self.show()}")

    def digest(self):
        for line in self.err.splitlines():
            if line.startswith("digest: "):
                return line[8:]
        raise Bad(f"no digest\n{self.show()}")


def run(orrery, *args, stdin=None, env=None, cwd=None, limit=240):
    """@stdin: bytes through a pipe, an open file, or None for /dev/null."""
    begun = time.monotonic()
    how = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin or subprocess.DEVNULL}
    got = subprocess.run([orrery, *args], capture_output=True, timeout=limit * SLOW, check=False,
                         env={**os.environ, **(env or {})}, cwd=cwd, **how)
    return Result(got.returncode, got.stdout, got.stderr.decode("utf-8", "replace"),
                  time.monotonic() - begun)


def expect(what, got, want, result=None):
    if got != want:
        raise Bad(f"{what}: got {got!r}, expected {want!r}\n{result.show() if result else ''}")


def expect_in(what, part, whole, result=None):
    if part not in whole:
        raise Bad(f"{what}: {part!r} is not in {whole!r}\n{result.show() if result else ''}")


def need_kernel(orrery):
    """Tests that boot Linux use the cache; they do not fetch, which needs a network."""
    listed = subprocess.run([orrery, "kernel", "list"], capture_output=True, check=False)
    if b"linux-image-cloud-amd64" not in listed.stdout and b"-cloud-" not in listed.stdout:
        raise Skip("no kernel is cached; `orrery kernel fetch debian` gets one")


# --- bare-metal guests of a few bytes -----------------------------------------------------------

LOAD = 0x200000

# lidt [zero]; ud2: an exception that cannot be delivered
CODE_TRIPLE = bytes([0x0F, 0x01, 0x1D]) + struct.pack("<I", LOAD + 0x800) + b"\x0f\x0b"
CODE_HALT = b"\xfa\xf4\xeb\xfd"  # cli; hlt; jmp back
CODE_SPIN = b"\xeb\xfe"
def poke(addr, value):
    """mov dword [addr], value"""
    return b"\xc7\x05" + struct.pack("<II", addr, value)


# "ready\n" to the serial port; interrupts off, halted for ever, with a periodic local APIC timer. Under
# KVM, where a guest that is halted with interrupts off is over, they are on, and none comes.
CODE_READY = b"\x66\xba\xf8\x03" + b"".join(bytes([0xB0, c, 0xEE]) for c in b"ready\n")
CODE_IDLE = (poke(0xFEE000F0, 0x1FF) + poke(0xFEE003E0, 0xB) + poke(0xFEE00320, 0x20020) +
             poke(0xFEE00380, 10000) + CODE_READY + b"\xfa\xf4\xeb\xfd")
if os.environ["ORRERY_ENGINE"] == "kvm":
    CODE_IDLE = CODE_READY + b"\xfb\xf4\xeb\xfd"
CODE_EXIT_21 = b"\xb0\x15\xe6\xf4"  # mov al, 21; out 0xf4, al: status 43
# Sends "ready\n", then echoes COM1 byte by byte until 'q', which ends it with status 1.
CODE_ECHO = bytes.fromhex(
    "be" + struct.pack("<I", LOAD + 0x700).hex() +  # mov esi, text
    "66baf803"      # mov dx, 0x3f8
    "ac"            # next: lodsb
    "84c0"          # test al, al
    "7403"          # jz ready
    "ee"            # out dx, al
    "ebf8"          # jmp next
    "66bafd03"      # ready: mov dx, 0x3fd
    "ec"            # wait: in al, dx
    "a801"          # test al, 1
    "74fb"          # jz wait
    "66baf803"      # mov dx, 0x3f8
    "ec"            # in al, dx
    "ee"            # out dx, al
    "3c71"          # cmp al, 'q'
    "75ed"          # jne ready
    "30c0"          # xor al, al
    "e6f4"          # out 0xf4, al
)


def tiny_guest(path, code):
    """A Multiboot image: header with load addresses (flag 16), then the code in 32-bit mode."""
    flags, magic = 0x10000, 0x1BADB002
    head = struct.pack("<III", magic, flags, -(magic + flags) & 0xFFFFFFFF)
    head += struct.pack("<IIIII", LOAD, LOAD, LOAD + 0x1000, LOAD + 0x2000, LOAD + 0x20)
    body = (head + code).ljust(0x700, b"\x90") + b"ready\n\0"
    with open(path, "wb") as f:
        f.write(body.ljust(0x1000, b"\0"))
    return path


# --- an initramfs of one's own --------------------------------------------------------------------

def cpio(entries):
    """@entries: (name, mode, bytes). The "newc" format of cpio(5)."""
    out = b""
    for ino, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")]):
        fields = [ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        out += b"070701" + "".join(f"{x:08x}" for x in fields).encode()
        out += name.encode() + b"\0"
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return out


# --- the runner -------------------------------------------------------------------------------------

def main(cases, kernel=False):
    orrery, wanted = os.path.abspath(sys.argv[1]), sys.argv[2:]
    failed = skipped = 0
    if kernel:
        try:
            need_kernel(orrery)
        except Skip as why:
            print(f"SKIP: {why}")
            sys.exit(SKIP)
    for case in cases:
        name = case.__name__
        if wanted and name not in wanted:
            continue
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="orrery-cli-") as scratch:
            try:
                case(orrery, scratch)
                verdict = "PASS"
            except Bad as why:
                failed += 1
                verdict = f"FAIL: {why}"
            except subprocess.TimeoutExpired as why:
                failed += 1
                verdict = f"FAIL: no end within {why.timeout} s: {' '.join(map(str, why.cmd))}"
            except Skip as why:
                skipped += 1
                verdict = f"SKIP: {why}"
        print(f"{name} ({time.monotonic() - begun:.1f} s): {verdict}", flush=True)
    if failed:
        sys.exit(1)
    sys.exit(SKIP if skipped else 0)
