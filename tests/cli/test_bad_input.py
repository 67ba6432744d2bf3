#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_bad_input.py - bad input gets one clear line and status 125, and leaves nothing behind"""

import os
import struct

import cli



def elf_file(path, bits, machine):
    ident = b"\x7fELF" + bytes([bits, 1, 1]) + b"\0" * 9
    if bits == 2:
        head = ident + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0x100000, 64, 0, 0, 64, 56, 1,
                                   64, 0, 0)
        head += struct.pack("<IIQQQQQQ", 1, 5, 0, 0x100000, 0x100000, 120, 120, 4096)
    else:
        head = ident + struct.pack("<HHIIIIIHHHHHH", 2, machine, 1, 0x100000, 52, 0, 0, 52, 32, 1,
                                   40, 0, 0)
        head += struct.pack("<IIIIIIII", 1, 0, 0x100000, 0x100000, 84, 84, 5, 4096)
    with open(path, "wb") as f:
        f.write(head)


def bzimage(path, size, xloadflags, payload=b""):
    """A setup header as in Documentation/arch/x86/boot.rst, protocol 2.15."""
    b = bytearray(size)
    b[0x1F1] = 1                                      # setup_sects
    b[0x1F4:0x1F8] = struct.pack("<I", 0x10000)       # syssize: 1 MiB
    b[0x1FE:0x200] = b"\x55\xaa"
    b[0x200:0x202] = b"\xeb\x66"
    b[0x202:0x206] = b"HdrS"
    b[0x206:0x208] = struct.pack("<H", 0x20F)
    b[0x211] = 1                                      # LOADED_HIGH
    b[0x236:0x238] = struct.pack("<H", xloadflags)
    b[0x258:0x260] = struct.pack("<Q", 0x1000000)
    b[0x260:0x264] = struct.pack("<I", 0x100000)
    with open(path, "wb") as f:
        f.write(b)


def fails(orrery, args, *words, env=None, cwd=None):
    got = cli.run(orrery, *args, env=env, cwd=cwd, limit=60)
    cli.expect("status of " + " ".join(args), got.status, 125, got)
    cli.expect("standard output", got.out, b"", got)
    lines = got.err.splitlines()
    cli.expect("lines on standard error", len(lines), 1, got)
    cli.expect_in("the line", "orrery: ", lines[0][:8], got)
    for word in words:
        cli.expect_in("the message", word, lines[0], got)


def words(orrery, scratch):
    """Options and values that the command line itself refuses."""
    table = [
        (["rnu"], "did you mean run"),
        ([], "which command"),
        (["run", "--kernal", "x"], "did you mean --kernel"),
        (["run", "--qqqqqq"], "unknown option --qqqqqq"),
        (["run", "--disk", "x,bogus"], "bogus is unknown"),
        (["run", "-x"], "unknown option -x"),
        (["run", "uname"], "behind --"),
        (["run", "--"], "missing"),
        (["run", "--mem"], "--mem needs an argument"),
        (["run", "--stats=1"], "--stats takes no argument"),
        (["run", "--mem", "0"], "--mem 0"),
        (["run", "--mem", "12Q"], "12Q"),
        (["run", "--mem", "-5M"], "-5M"),
        (["run", "--mem", "99999999999T"], "not a size"),
        (["run", "--mem", "512"], "did you mean 512M"),
        (["run", "--cpus", "0"], "--cpus 0"),
        (["run", "--cpus", "253"], "252"),
        (["run", "--cpus", "2", "--topology", "1n1l2c1t"], "exclude each other"),
        (["run", "--topology", "0n1l1c1t"], "zero"),
        (["run", "--topology", "2n3l1c1t"], "divided"),
        (["run", "--topology", "1n1l999c1t"], "252"),
        (["run", "--topology", "nonsense"], "nonsense"),
        (["run", "--numa-distances", "10,20"], "10,20"),
        (["run", "--seed", "x"], "--seed x"),
        (["run", "--mips", "0"], "--mips 0"),
        (["run", "--timeout", "0"], "--timeout 0"),
        (["run", "--timeout", "soon"], "soon"),
        (["run", "--rtc-base", "2026-02-30"], "2026-02-30"),
        (["run", "--debug-exit", "0x10000"], "0x10000"),
        (["run", "--engine", "sotf"], "did you mean soft"),
        (["run", "--clock", "atomic"], "atomic"),
        (["run", "--env", "NOVALUE", "--", "true"], "NAME=VALUE"),
        (["run", "-i"], "-i and -t"),
        (["run", "--engine", "kvm", "--clock", "virtual", "--", "true"], "cannot do --clock virtual"),
        (["run", "--cpu-model", "pentium", "--", "true"], "pentium"),
        (["run", "--initrd", "x", "--", "true"], "exclude each other"),
        (["run", "--initrd", "x", "--include", "/bin/true"], "--initrd"),
        (["topo", "2n3l1c1t"], "divided"),
        (["topo", "1", "2"], "too many"),
    ]
    for args, *parts in table:
        fails(orrery, args, *parts)


def kernels(orrery, scratch):
    """Files that are no kernel for this machine."""
    at = lambda name: os.path.join(scratch, name)  # noqa: E731
    with open(at("text"), "w", encoding="ascii") as f:
        f.write("not a kernel\n" * 100)
    open(at("empty"), "w", encoding="ascii").close()
    bzimage(at("short"), 4096, 1)
    bzimage(at("bits32"), 0x110000, 0)
    elf_file(at("arm64"), 2, 183)
    elf_file(at("i386"), 1, 3)
    fails(orrery, ["run", "--kernel", at("none"), "--", "true"], "none", "No such file")
    fails(orrery, ["run", "--kernel", at("text"), "--", "true"], "not a kernel")
    fails(orrery, ["run", "--kernel", at("empty"), "--", "true"], at("empty"))
    fails(orrery, ["run", "--kernel", at("short"), "--", "true"], "truncated")
    fails(orrery, ["run", "--kernel", at("bits32"), "--", "true"], "32-bit")
    fails(orrery, ["run", "--kernel", at("arm64"), "--", "true"], "x86-64")
    fails(orrery, ["run", "--kernel", at("i386"), "--", "true"], at("i386"))
    fails(orrery, ["run", "--kernel", scratch, "--", "true"], scratch)


def bare_metal(orrery, scratch):
    """What makes no sense with a bare-metal image."""
    halt = cli.tiny_guest(os.path.join(scratch, "halt"), cli.CODE_HALT)
    fails(orrery, ["run", "--kernel", halt, "--", "true"], "bare-metal", "true")
    fails(orrery, ["run", "--kernel", halt, "--include", "/bin/true"], "bare-metal")
    fails(orrery, ["run", "--kernel", halt, "--debug-exit", "0x60"], "--debug-exit 0x60")
    fails(orrery, ["run", "--kernel", halt, "--mem", "1M"], "too little")
    fails(orrery, ["run", "--kernel", halt, "--initrd", scratch + "/no"], "--initrd", "No such file")
    fails(orrery, ["run", "--kernel", halt, "--console", scratch + "/no/x"], "--console")
    with open(scratch + "/big", "wb") as f:
        f.truncate(40 << 20)
    fails(orrery, ["run", "--kernel", halt, "--initrd", scratch + "/big", "--mem", "32M"],
          "does not fit", "40960 KiB")


def cache(orrery, scratch):
    """A cache that is empty or cannot be written; no network is tried."""
    env = {"XDG_CACHE_HOME": scratch}
    fails(orrery, ["run", "--kernel", "9.9.9", "--", "true"], "unknown kernel", "9.9.9", env=env)
    cli.expect("left behind", os.listdir(scratch), [])
    # /proc: where even root cannot create a directory.
    got = cli.run(orrery, "run", "--", "true", env={"XDG_CACHE_HOME": "/proc"}, limit=60)
    cli.expect("status", got.status, 125, got)
    cli.expect_in("the message", "cannot write the kernel cache", got.err, got)


def helps(orrery, scratch):
    """Every option of the list is in --help; the presets are listed."""
    got = cli.run(orrery, "run", "--help")
    cli.expect("status", got.status, 0, got)
    for opt in ("--kernel", "--topology", "--digest", "--debug-exit", "-t, --tty"):
        cli.expect_in("run --help", opt, got.out.decode())
    cli.expect_in("--version", b"orrery ", cli.run(orrery, "--version").out)
    presets = cli.run(orrery, "topo").out.decode().splitlines()
    cli.expect("presets", len(presets), 25)
    cli.expect_in("topo", b"1n2l2c2t: 8 vCPUs", cli.run(orrery, "topo", "1n2l2c2t").out)


cli.main([words, kernels, bare_metal, cache, helps])
