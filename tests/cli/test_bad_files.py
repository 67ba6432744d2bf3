#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_bad_files.py - files and directories that a VM may not have: one line, and status 125"""

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import time

import cli


def sparse(path, size=1 << 20, mode=0o644):
    with open(path, "wb") as f:
        f.truncate(size)
    os.chmod(path, mode)
    return path


def fails(orrery, scratch, args, *words, before=()):
    kernel = cli.tiny_guest(os.path.join(scratch, "guest"), cli.CODE_EXIT_21)
    got = cli.run(*before, orrery, "run", "--kernel", kernel, *args, limit=60)
    cli.expect("status of " + " ".join(args), got.status, 125, got)
    cli.expect("lines on standard error", len(got.err.splitlines()), 1, got)
    for word in words:
        cli.expect_in("the message", word, got.err, got)


def not_permitted(orrery, scratch):
    if os.getuid() or not shutil.which("setpriv"):
        raise cli.Skip("only root can become somebody who may not (needs setpriv)")
    os.chmod(scratch, 0o755)
    copy = shutil.copy(orrery, os.path.join(scratch, "orrery"))
    at = lambda name: os.path.join(scratch, name)  # noqa: E731
    os.mkdir(at("closed"), 0o700)
    sparse(at("closed/disk"))
    for name, mode in ("secret", 0), ("fixed", 0o444):
        sparse(at(name), mode=mode)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
              "--bounding-set", "-all"]
    for args, *words in (
            (["--disk", at("secret")], "--disk", "Permission denied"),
            (["--disk", at("secret") + ",ro"], "--disk", "Permission denied"),
            (["--disk", at("secret") + ",cow"], "--disk", "Permission denied"),
            (["--disk", at("closed/disk")], "--disk", "Permission denied"),
            (["--disk", at("fixed")], "cannot be written", ",ro or ,cow"),
            (["--disk", at("fixed") + ",overlay=" + at("closed/new")], "overlay=", "Permission denied"),
            (["--share", at("closed")], "--share", "Permission denied"),
            (["--share", at("closed/disk")], "--share", "Permission denied"),
            (["--vsock=dir=" + at("closed")], "--vsock", "Permission denied")):
        fails(copy, scratch, args, *words, before=nobody)
    fails(copy, scratch, ["--disk", "size=1M"], "TMPDIR", "Permission denied",
          before=["env", "TMPDIR=" + at("closed"), *nobody])


@contextlib.contextmanager
def locked(path, kind):
    """The file as a program that writes to it, or reads it, and says so has it."""
    with open(path, "r+b") as f:
        fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, 0, 0, 0, 0))
        yield


def busy(orrery, scratch):
    disk = sparse(os.path.join(scratch, "disk"))
    with locked(disk, fcntl.F_WRLCK):
        for how in "", ",ro", ",cow":
            fails(orrery, scratch, ["--disk", disk + how], "in use as the disk of another VM")
    with locked(disk, fcntl.F_RDLCK):
        fails(orrery, scratch, ["--disk", disk], "in use as the disk", ",ro or ,cow")
    for how in "", ",ro", ",cow":
        fails(orrery, scratch, ["--disk", disk, "--disk", disk + how], "given twice")
    over = f"{disk},overlay={scratch}/over"
    fails(orrery, scratch, ["--disk", over, "--disk", over], "another disk")


def taken(path):
    """Whether somebody has a lock on the file."""
    with open(path, "r+b") as f:
        got = fcntl.fcntl(f, fcntl.F_OFD_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
    return struct.unpack("hhqqi4x", got)[0] != fcntl.F_UNLCK


def changing(orrery, scratch):
    """One that another program makes longer or shorter while the VM is prepared."""
    fifo = os.path.join(scratch, "initrd")
    os.mkfifo(fifo)
    kernel = cli.tiny_guest(os.path.join(scratch, "guest"), cli.CODE_EXIT_21)
    for size in 2 << 20, 512 << 10:
        disk = sparse(os.path.join(scratch, "disk"))
        # An initrd that does not come holds the VM between opening its disk and using it.
        p = subprocess.Popen([orrery, "run", "--kernel", kernel, "--disk", disk, "--initrd", fifo],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        try:
            end = time.monotonic() + 60 * cli.SLOW
            while not taken(disk) and p.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
            os.truncate(disk, size)
            with open(fifo, "wb") as f:
                f.write(bytes(512))
            err = p.communicate(timeout=60 * cli.SLOW)[1].decode()
        finally:
            p.kill()
        cli.expect("status", p.returncode, 125, cli.Result(p.returncode, b"", err))
        cli.expect("lines", len(err.splitlines()), 1)
        cli.expect_in("the message", f"its size changed from 1048576 to {size} bytes", err)


cli.main([not_permitted, busy, changing])
