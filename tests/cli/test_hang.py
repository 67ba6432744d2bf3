#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_hang.py - a VM whose disk's file system does not answer can be ended

usage: test_hang.py ORRERY HANG-LIBRARY [CASE...]
"""

import os
import subprocess
import sys
import time

import cli
from vsock import Vm

HANG = sys.argv.pop(2)


def hung(program, scratch, *args):
    """A VM of which a request for its disk will never be answered."""
    disk = os.path.join(scratch, "disk")
    with open(disk, "wb") as f:
        f.truncate(16 << 20)
    os.environ["LD_PRELOAD"] = HANG
    try:
        v = Vm(program, scratch, "--vsock", "--disk", disk, *args, command=("sleep", "100000"))
    finally:
        del os.environ["LD_PRELOAD"]
    got = v.exec("--", "sh", "-c", "until [ -b /dev/vda ]; do sleep 0.1; done; echo there")
    cli.expect("the disk", got.out, b"there\n", got)
    reader = subprocess.Popen([program, "exec", "--vm", v.name, "--", "sh", "-c",
                               "echo x; exec dd if=/dev/vda bs=4096 skip=1000 count=1"],
                              env={**os.environ, **v.env}, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)
    cli.expect("the reader", reader.stdout.readline(), b"x\n")
    end = time.monotonic() + 60
    while "held" not in v.said() and time.monotonic() < end:
        time.sleep(0.05)
    cli.expect_in("the disk is read", "held", v.said())
    return v, reader


def ends(v, reader, begun, who):
    cli.expect("status of the VM", v.p.wait(20), 125)
    took = time.monotonic() - begun
    if took > 15:
        raise cli.Bad(f"it took {took:.1f} s")
    cli.expect("lines on standard error", len(v.said().splitlines()), 2)
    cli.expect_in("why", f"without {who} of disk0", v.said())
    cli.expect("status of exec", reader.wait(20), 125)
    listed = cli.run(v.orrery, "ps", env=v.env)
    cli.expect("listed", listed.out, b"", listed)


def stop(program, scratch):
    for clock, who in (("real", "a worker"), ("virtual", "a request")):
        v, reader = hung(program, scratch, "--clock", clock)
        with v.log, reader:
            try:
                begun = time.monotonic()
                got = cli.run(program, "stop", "--force", v.name, env=v.env, limit=60)
                cli.expect("status of stop", got.status, 0, got)
                ends(v, reader, begun, who)
            finally:
                v.close()


def signal(program, scratch):
    v, reader = hung(program, scratch, "--clock", "real")
    with v.log, reader:
        try:
            begun = time.monotonic()
            v.p.terminate()
            ends(v, reader, begun, "a worker")
        finally:
            v.close()


if __name__ == "__main__":
    cli.main([stop, signal], kernel=True)
