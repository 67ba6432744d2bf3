#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_sandbox.py - what is left to a monitor whose guest runs, as the host's kernel tells it

usage: test_sandbox.py ORRERY [CASE...]

That a forbidden call ends the process is in tests/vm/test_sandbox.c. That everything still works
inside is what all other tests of whole guests show, since they run with the sandbox.
"""

import contextlib
import ctypes
import errno
import os
import struct
import subprocess

import cli

# Those of linux/capability.h by which a share acts as the guest's users.
CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID = (1 << n for n in range(5))
SETGID, SETUID, SETFCAP = 1 << 6, 1 << 7, 1 << 31
READER = DAC_READ_SEARCH | FOWNER | SETGID | SETUID
WRITER = READER | DAC_OVERRIDE | CHOWN | FSETID | SETFCAP


def status(path):
    with open(path, encoding="ascii") as f:
        pairs = dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)
    return {"nnp": int(pairs["NoNewPrivs"]), "filter": int(pairs["Seccomp"]),
            "filters": int(pairs.get("Seccomp_filters", "0")),
            "caps": [int(pairs[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")]}


def threads(pid):
    """By thread number; the first is the VM's."""
    tids = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    return {tid: status(f"/proc/{pid}/task/{tid}/status") for tid in tids}


@contextlib.contextmanager
def running(orrery, *args, ready, how=None, env=None):
    """A monitor whose guest has said @ready and waits for its input; @how: called before it begins."""
    p = subprocess.Popen([orrery, "run", *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, preexec_fn=how,
                         env={**os.environ, **(env or {})})
    try:
        got = b""
        while ready not in got:
            byte = os.read(p.stdout.fileno(), 1)
            if not byte:
                raise cli.Bad(f"it ended: {got!r} {p.stderr.read()!r}")
            got += byte
        yield p
    finally:
        p.kill()
        p.communicate()


def need_filters(orrery, scratch):
    """Builds with a sanitizer have no filters, and say so."""
    got = cli.run(orrery, "run", "--verbose", "--timeout", "0.01", "--kernel",
                  cli.tiny_guest(os.path.join(scratch, "spin"), cli.CODE_SPIN))
    line = [x for x in got.err.splitlines() if x.startswith("orrery: sandbox:")]
    cli.expect("lines about the sandbox", len(line), 1, got)
    if "sanitizer" in line[0]:
        raise cli.Skip("a sanitizer's build has no filters; another build has")
    return line[0]


def all_threads(orrery, scratch):
    line = need_filters(orrery, scratch)
    cli.expect_in("what is said", "capabilities kept 0; files: ", line)
    guest = cli.tiny_guest(os.path.join(scratch, "echo"), cli.CODE_ECHO)
    before = status("/proc/self/status")
    with running(orrery, "--kernel", guest, ready=b"ready\n") as p:
        found = threads(p.pid)
        if len(found) < 2:
            raise cli.Bad(f"no I/O thread: {found}")
        for tid, got in found.items():
            cli.expect(f"thread {tid} of {p.pid}", got,
                       {"nnp": 1, "filter": 2, "filters": before["filters"] + 1,
                        "caps": [0, 0, 0, 0]})


def switched_off(orrery, scratch):
    guest = cli.tiny_guest(os.path.join(scratch, "echo"), cli.CODE_ECHO)
    before = status("/proc/self/status")
    with running(orrery, "--no-sandbox", "--kernel", guest, ready=b"ready\n") as p:
        for tid, got in threads(p.pid).items():
            cli.expect(f"thread {tid} of {p.pid}", got, before)


def all_files(orrery, scratch):
    """What is written while the guest runs was opened before."""
    guest = cli.tiny_guest(os.path.join(scratch, "echo"), cli.CODE_ECHO)
    names = {x: os.path.join(scratch, x) for x in ("console", "dump", "symbols")}
    with open(names["symbols"], "w", encoding="ascii") as f:
        f.write(f"{cli.LOAD:016x} T start\n")
    got = cli.run(orrery, "run", "--kernel", guest, "--tier", "jit", "--debug-exit", "0xf4",
                  "--console", names["console"], "--code-dump", names["dump"], "--perf-map",
                  "--symbols", names["symbols"], "--name", "files", "--digest", "--stats",
                  stdin=b"abq", env={"XDG_RUNTIME_DIR": scratch})
    cli.expect("status", got.status, 1, got)
    cli.expect("output", got.out, b"ready\nabq", got)
    cli.expect("its length as a digest", len(got.digest()), 32, got)
    with open(names["console"], "rb") as f:
        cli.expect("the console's file", f.read(), got.out)
    cli.expect("sockets that are left", [x for x in os.listdir(os.path.join(scratch, "orrery"))
                                         if x.endswith(".sock")], [], got)


def shares(orrery, scratch):
    """Root's capabilities for a share, and of no more threads than need them."""
    need_filters(orrery, scratch)
    guest = cli.tiny_guest(os.path.join(scratch, "echo"), cli.CODE_ECHO)
    ours = status("/proc/self/status")["caps"][1] if os.geteuid() == 0 else 0
    os.mkdir(os.path.join(scratch, "dir"))
    for option, want in (",ro", READER), ("", WRITER):
        with running(orrery, "--share", f"{scratch}/dir:x{option}", "--kernel", guest,
                     ready=b"ready\n") as p:
            vm, io = list(threads(p.pid).values())[:2]
            want &= ours
            cli.expect("the VM's thread" + option, vm["caps"], [0, want, want, 0])
            cli.expect("the I/O thread", io["caps"], [0, 0, 0, 0])


def without(number):
    """A function for a child that takes a system call away, as a kernel without it would."""
    code = b"".join(struct.pack("=HBBI", *insn) for insn in (
        (0x20, 0, 0, 0),                        # load the number
        (0x15, 0, 1, number),                   # another: one further
        (0x06, 0, 0, 0x50000 | errno.ENOSYS),   # SECCOMP_RET_ERRNO
        (0x06, 0, 0, 0x7FFF0000)))              # SECCOMP_RET_ALLOW
    libc = ctypes.CDLL(None, use_errno=True)
    insns = ctypes.create_string_buffer(code)
    prog = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8,
                                                   ctypes.addressof(insns)))

    def take(_kept=insns):
        zero = ctypes.c_ulong(0)
        if libc.prctl(38, ctypes.c_ulong(1), zero, zero, zero) or \
                libc.prctl(22, ctypes.c_ulong(2), prog, zero, zero):
            os._exit(99)
    return take


LANDLOCK = 444  # landlock_create_ruleset


def mount_namespace():
    """Whether this process may make one."""
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


def older_kernels(orrery, scratch):
    """Without Landlock the other stages are left; without seccomp nothing runs unless it may."""
    need_filters(orrery, scratch)
    guest = cli.tiny_guest(os.path.join(scratch, "exit"), cli.CODE_EXIT_21)
    run = [orrery, "run", "--verbose", "--debug-exit", "0xf4", "--kernel", guest]
    os.mkdir(os.path.join(scratch, "dir"))
    files = "(a mount namespace)" if mount_namespace() else "a guest that breaks out can open"
    for number, args, status_, words in (
            (LANDLOCK, ["--share", f"{scratch}/dir:x"], 43, files), (317, [], 125, "--no-sandbox"), (317, ["--no-sandbox"], 43, "")):
        got = subprocess.run(run + args, capture_output=True, check=False, timeout=60,
                             preexec_fn=without(number), stdin=subprocess.DEVNULL)
        got = cli.Result(got.returncode, got.stdout, got.stderr.decode())
        cli.expect(f"status without {number}", got.status, status_, got)
        cli.expect_in("what is said", words, got.err, got)


def reset(orrery, scratch, *args):
    """Another machine is made where nothing can be opened any more."""
    guest = cli.tiny_guest(os.path.join(scratch, "echo"), cli.CODE_ECHO)
    env = {"XDG_RUNTIME_DIR": scratch}
    p = subprocess.Popen([orrery, "run", *args, "--clock", "real", "--name", "anew", "--kernel",
                          guest, "--debug-exit", "0xf4", "--digest"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env={**os.environ, **env})
    try:
        got = b""
        while not got.endswith(b"ready\n"):
            byte = os.read(p.stdout.fileno(), 1)
            if not byte:
                return got, p.stderr.read().decode(), p.wait()
            got += byte
        asked = cli.run(orrery, "reset", "--vm", "anew", env=env, limit=60)
        cli.expect("status of reset", asked.status, 0, asked)
        while got.count(b"ready\n") < 2:
            byte = os.read(p.stdout.fileno(), 1)
            if not byte:
                raise cli.Bad(f"it ended: {got!r} {p.stderr.read().decode()}")
            got += byte
        out, err = p.communicate(b"xq", timeout=60)
        return got + out, err.decode(), p.returncode
    finally:
        p.kill()
        p.wait()


def reset_soft(orrery, scratch):
    got, err, status_ = reset(orrery, scratch)
    cli.expect("what it said", got, b"ready\nready\nxq", cli.Result(status_, got, err))
    cli.expect("status", status_, 1, cli.Result(status_, got, err))


def reset_kvm(orrery, scratch):
    got, err, status_ = reset(orrery, scratch, "--engine", "kvm", "--cpu-model", "x86-64-v1",
                              "--cpus", "2")
    if status_ == 125 and not got and "sandbox" not in err:
        raise cli.Skip(f"no KVM that runs a guest of a few bytes: {err.strip()}")
    cli.expect("what it said", got, b"ready\nready\nxq", cli.Result(status_, got, err))
    cli.expect("status", status_, 1, cli.Result(status_, got, err))


def linux_without_landlock(orrery, scratch):
    """The same where the host's files are kept away by a mount namespace."""
    if not mount_namespace():
        raise cli.Skip("a mount namespace takes CAP_SYS_ADMIN; run it as root")
    linux_at_work(orrery, scratch, how=without(LANDLOCK))


def root_of(pid, places):
    """Nothing but the way to @places and /proc is left of the host's files."""
    root = f"/proc/{pid}/root"
    ways = {"/", "/proc"}
    for place in places:
        while place != "/":
            ways.add(place)
            place = os.path.dirname(place)
    for way in sorted(ways - {"/proc", *places}):
        here = {os.path.join(way, name) for name in os.listdir(root + way)}
        cli.expect(f"what is left in {way}", here - ways, set())
    cli.expect("the way to the host's files", os.path.exists(root + "/etc/passwd"), False)


def linux_at_work(orrery, scratch, how=None):
    """All kinds of back ends at once, and their workers."""
    need_filters(orrery, scratch)
    cli.need_kernel(orrery)
    share = os.path.join(scratch, "share")
    os.mkdir(share)
    with open(os.path.join(share, "in"), "w", encoding="ascii") as f:
        f.write("from the host\n")
    script = ("set -e; cd /mnt/x; cat in; cp in out; mv out moved; mkdir d; mv moved d/; "
              "dd if=/dev/zero of=/mnt/disk0/file bs=64k count=16 2>/dev/null; sync; "
              "head -c 100 /dev/hwrng | wc -c; ip -o addr show eth0 | grep -c 10.0.2.15; "
              "echo at work; read x; echo $x > /mnt/x/read; cd /; umount /mnt/x")
    with running(orrery, "--clock", "real", "--share", share + ":x", "--disk", "size=16M,fs=ext4",
                 "--net", "user", "--vsock", "--rng", "--", "sh", "-c", script,
                 ready=b"at work\n", how=how, env={"XDG_RUNTIME_DIR": scratch}) as p:
        if how:
            root_of(p.pid, {share, os.path.join(scratch, "orrery"), "/etc/resolv.conf"})
        found = threads(p.pid)
        if len(found) < 3:
            raise cli.Bad(f"no workers: {found}")
        for tid, got in found.items():
            cli.expect(f"thread {tid}", (got["nnp"], got["filter"]), (1, 2))
        out, err = p.communicate(b"word\n", timeout=60)
        cli.expect("status", p.returncode, 0, cli.Result(p.returncode, out, err.decode()))
    with open(os.path.join(share, "read"), encoding="ascii") as f:
        cli.expect("what the guest wrote", f.read(), "word\n")
    cli.expect("what it moved", os.listdir(os.path.join(share, "d")), ["moved"])


if __name__ == "__main__":
    cli.main([all_threads, switched_off, all_files, shares, older_kernels, reset_soft, reset_kvm, linux_at_work,
              linux_without_landlock])
