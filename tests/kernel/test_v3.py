# SPDX-License-Identifier: Apache-2.0
"""test_v3.py - a whole guest with --cpu-model x86-64-v3: its kernel, programs built for it, glibc

usage: STRESS_V3=PROGRAM V3=PROGRAM test_v3.py ORRERY [CASE...]
"""

import os
import shutil
import subprocess

from kernel import CLOUD_6_12, Skip, boot, expect, expect_in, main

MODEL = ("--cpu-model", "x86-64-v3")
FLAGS = "avx avx2 fma f16c bmi1 bmi2 movbe abm xsave xsaveopt xsavec"
LOADER = "/lib64/ld-linux-x86-64.so.2"


def need_host():
    if "V3" not in os.environ:
        raise Skip("the compiler does not know -march=x86-64-v3; a newer one would un-skip it")
    with open("/proc/cpuinfo", encoding="ascii") as f:
        have = next((line for line in f if line.startswith("flags")), "").split()
    lacks = [flag for flag in FLAGS.split()[:8] if flag not in have]
    if lacks:
        raise Skip(f"this host has no {lacks[0]}; one with all of x86-64-v3 would un-skip it")


def compare(orrery, command, *args):
    need_host()
    host = subprocess.run(command, capture_output=True, check=False)
    expect("status on the host", (host.returncode, host.stderr), (0, b""))
    guest = boot(orrery, CLOUD_6_12, *MODEL, *args, command=command, limit=600)
    expect("output", guest.out.decode(), host.stdout.decode(), guest)


def kernel(orrery, _):
    """What the kernel and the loader make of the CPU."""
    need_host()
    if not os.path.exists(LOADER):
        raise Skip(f"no {LOADER} on this host")
    guest = boot(orrery, CLOUD_6_12, *MODEL, "--cpus", "2", "--include", LOADER, command=[
        "sh", "-c", f"grep ^flags /proc/cpuinfo; {LOADER} --help"])
    flags = [line.split() for line in guest.out.decode().splitlines() if line.startswith("flags")]
    expect("CPUs", len(flags), 2, guest)
    for flag in FLAGS.split():
        expect_in("flags", flag, flags[1], guest)
    for flag in ("aes", "pclmulqdq", "xsaves", "avx512f"):
        expect(f"{flag} in the flags", flag in flags[1], False, guest)
    expect_in("the loader", b"x86-64-v3 (supported, searched)", guest.out, guest)
    expect_in("the kernel's log", "xstate_offset[2]:  576, xstate_sizes[2]:  256", guest.err, guest)


def program(orrery, _):
    """Built for it: the compiler's own AVX2, FMA, gathers; registers across calls and signals."""
    compare(orrery, [os.environ["V3"]], "--cpus", "2")


def stress(orrery, _):
    compare(orrery, [os.environ["STRESS_V3"]], "--cpus", "2")


CRYPTO = r"""
seq 1 60000 >/tmp/v3-numbers
for d in sha1 sha256 sha512 sha3-256 blake2b512; do openssl dgst -$d </tmp/v3-numbers; done
for c in chacha20 aes-256-ctr aes-128-cbc camellia-256-cbc; do
    openssl enc -$c -pbkdf2 -iter 1 -pass pass:x -nosalt -in /tmp/v3-numbers | sha256sum
done
openssl prime 170141183460469231731687303715884105727
rm /tmp/v3-numbers
"""


def crypto(orrery, _):
    """OpenSSL chooses AVX2 code by CPUID, as glibc does for its string functions."""
    names = ["openssl", "sha256sum", "seq", "rm"]
    missing = [n for n in names if not shutil.which(n)]
    if missing:
        raise Skip(f"no {missing[0]} on this host")
    compare(orrery, ["sh", "-c", CRYPTO], *(x for n in names for x in ("--include", n)))


def tiers(orrery, _):
    """Interpreter, translator and both: the same run to the bit."""
    need_host()
    got = [boot(orrery, CLOUD_6_12, *MODEL, "--cpus", "2", "--digest", "--tier", tier,
                command=[os.environ["V3"]], limit=600) for tier in ("interp", "jit", "mix")]
    for other in got[1:]:
        expect("output", other.out, got[0].out)
        expect("digest", other.digest(), got[0].digest())


if __name__ == "__main__":
    main([kernel, program, stress, crypto, tiers])
