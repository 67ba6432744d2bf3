#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_ctl.py - the socket by which a running VM is reached: who may, what is wrong, what is hostile

usage: test_ctl.py ORRERY [CASE...]

The guests are of a few bytes and have no drivers: what a connection needs of a guest is in
tests/kernel/test_vsock.py.
"""

import json
import os
import signal
import socket
import subprocess
import time

import cli
from vsock import Vm, vm


def fails(orrery, args, *words, env=None):
    got = cli.run(orrery, *args, env=env, limit=60)
    cli.expect("status of " + " ".join(args), got.status, 125, got)
    cli.expect("lines on standard error", len(got.err.splitlines()), 1, got)
    for word in ("orrery: ", *words):
        cli.expect_in("the message", word, got.err, got)


def halted(scratch):
    """A guest that waits for ever: its interrupts are off, but the run is live."""
    return cli.tiny_guest(os.path.join(scratch, "halt"), cli.CODE_SPIN)


def bad_words(orrery, scratch):
    run = ["run", "--kernel", halted(scratch)]
    env = {"XDG_RUNTIME_DIR": scratch}
    open(os.path.join(scratch, "file"), "w", encoding="ascii").close()
    for cid in "0", "1", "2", "4294967295":
        fails(orrery, [*run, "--vsock=" + cid], "reserved", cid, env=env)
    for value, *words in (
            ("abc", "abc"), ("-1", "-1"), ("4294967296", "4294967296"), ("3,4", "4"), ("", "empty"),
            ("dir=", "dir"), ("cid=3", "cid=3"), ("3,dir=/nowhere", "/nowhere", "No such file"),
            (f"dir={scratch}/file", "file", "directory")):
        fails(orrery, [*run, "--vsock=" + value], *words, env=env)
    fails(orrery, [*run, "--vsock", "--vsock=4"], "at most 1", env=env)
    for name in "a/b", "12", "", ".x", "-x", "x" * 33, "a b", "ä":
        fails(orrery, [*run, "--name", name], "--name", env=env)
    for args, *words in (
            (["exec"], "which command"), (["exec", "--"], "which command"),
            (["exec", "--cwd", "here", "--", "true"], "--cwd here"),
            (["exec", "--env", "A", "--", "true"], "NAME=VALUE"),
            (["exec", "--wait", "x", "--", "true"], "--wait x"),
            (["exec", "--", "true"], "no VM is running"), (["exec", "--vm", "x", "--", "true"], "VM"),
            (["exec", "--vn", "x", "--", "true"], "--vm"),
            (["connect"], "which port"), (["connect", "x"], "PORT x"),
            (["connect", "4294967296"], "4294967296"), (["connect", "--vm", "x", "5"], "no VM")):
        fails(orrery, args, *words, env=env)


def bad_directories(orrery, scratch):
    run = ["run", "--kernel", halted(scratch), "--name", "x"]
    env = {"XDG_RUNTIME_DIR": scratch}
    os.mkdir(os.path.join(scratch, "orrery"), 0o755)
    fails(orrery, run, "0700", env=env)
    fails(orrery, ["exec", "--", "true"], "0700", env=env)
    os.rmdir(os.path.join(scratch, "orrery"))
    os.symlink("/tmp", os.path.join(scratch, "orrery"))
    fails(orrery, run, "a directory of your own", env=env)
    fails(orrery, run, "too long", env={"XDG_RUNTIME_DIR": scratch + "/x" * 60})
    fails(orrery, run, "/nowhere", "No such file", env={"XDG_RUNTIME_DIR": "/nowhere"})


def names(orrery, scratch):
    """Two VMs: which one is meant, a name that is taken, one that was killed."""
    spin = halted(scratch)
    with vm(orrery, scratch, "--kernel", spin, name="one", command=None) as one, \
            vm(orrery, scratch, "--kernel", spin, name="two", command=None) as two:
        fails(orrery, ["connect", "5"], "2 VMs", "one", "two", "--vm", env=one.env)
        fails(orrery, ["connect", "--vm", "three", "5"], "three", "one", env=one.env)
        fails(orrery, ["connect", "--vm", "one", "5"], "one", "--vsock", env=one.env)
        fails(orrery, ["connect", "--vm", str(two.p.pid), "5"], "two", "--vsock", env=one.env)
        fails(orrery, ["exec", "--vm", "one", "--", "true"], "--vsock", env=one.env)
        fails(orrery, ["run", "--kernel", spin, "--name", "two"], "two", "running", env=one.env)
        cli.expect("mode of the socket", os.stat(two.entry).st_mode & 0o777, 0o600)
        cli.expect("of the directory", os.stat(os.path.dirname(two.entry)).st_mode & 0o777, 0o700)
        two.p.kill()
        two.p.wait()
        cli.expect("a killed one's entry", os.path.exists(two.entry), True)
        fails(orrery, ["connect", "5"], "one", "--vsock", env=one.env)
        cli.expect("once somebody looked", os.path.exists(two.entry), False)
        one.p.kill()
        one.p.wait()
        again = Vm(orrery, scratch, "--kernel", spin, name="one", command=None)
        cli.expect("the name is free", again.ask({"op": "hello"})[0]["pid"], again.p.pid)
        again.p.send_signal(signal.SIGTERM)
        again.p.wait(20)
        cli.expect("an orderly end's entry", os.path.exists(again.entry), False)
        again.close()


def hostile(orrery, scratch):
    """Clients that do everything wrong get an answer or are dropped; the next one is served."""
    with vm(orrery, scratch, "--kernel", halted(scratch), "--vsock", command=None) as v:
        hello = v.ask({"op": "hello"})[0]
        cli.expect("hello", (hello["ok"], hello["name"], hello["vsock"], hello["agent"]),
                   (True, "vm", True, False))
        for request in (b"\n", b"{}\n", b"[1,2]\n", b"\0\xff\n", b"{\"op\":5}\n", b"\"op\"\n",
                        b"{\"op\":\"hello\",\"op\":\"hello\"}\n", b"[" * 3000 + b"\n",
                        b"{\"op\":\"connect\"}\n", b"{\"op\":\"connect\",\"port\":-1}\n",
                        b"{\"op\":\"connect\",\"port\":4294967296}\n",
                        b"{\"op\":\"connect\",\"port\":\"5\"}\n", b"x" * 5000,
                        b"{\"op\":\"hello\"}\n" * 2):
            got, fd = v.ask(request)
            cli.expect(f"answer to {request[:60]!r}", (got["ok"], got["code"], fd),
                       (False, "request", None))
        crowd = []
        for i in range(300):
            s = socket.socket(socket.AF_UNIX)
            s.connect(v.entry)
            s.sendall(b"{\"op\":" if i % 2 else b"{\"op\":\"connect\",\"port\":7}\n")
            crowd.append(s)
        for s in crowd:
            s.close()
        cli.expect("after all of them", v.ask({"op": "hello"})[0]["pid"], v.p.pid)
        # One request at a time: what comes during it waits, and its answer is not lost.
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(v.entry)
            for _ in range(3):
                s.sendall(json.dumps({"op": "hello"}).encode() + b"\n")
                cli.expect("again", Vm.answer(s)[0]["ok"], True)


def no_driver(orrery, scratch):
    """A guest that never answers: whoever waits may go, and is told when the VM ends."""
    with vm(orrery, scratch, "--kernel", halted(scratch), "--vsock", command=None) as v:
        waiting = [subprocess.Popen([orrery, "connect", "7"], stdin=subprocess.DEVNULL,
                                    stderr=subprocess.PIPE, env={**os.environ, **v.env})
                   for _ in range(2)]
        time.sleep(0.3)
        waiting[0].terminate()
        waiting[0].communicate()
        cli.expect("it waits", waiting[1].poll(), None)
        v.p.send_signal(signal.SIGTERM)
        err = waiting[1].communicate(timeout=20)[1]
        cli.expect("status", waiting[1].returncode, 125)
        cli.expect_in("why", b"the VM has ended", err)


if __name__ == "__main__":
    cli.main([bad_words, bad_directories, names, hostile, no_driver])
