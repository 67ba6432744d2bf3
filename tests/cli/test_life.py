#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_life.py - a VM is listed, paused, resumed, reset and stopped from outside

usage: test_life.py ORRERY [CASE...]

The guests are of a few bytes. What takes a guest that understands is in tests/kernel/test_life.py.
"""

import json
import os
import random
import signal
import socket
import subprocess
import threading
import time

import cli
from vsock import Vm, vm

# Writes to COM1 without end: whoever does not read makes the monitor wait.
CODE_CHATTER = b"\x66\xba\xf8\x03\xb0\x78\xee\xeb\xfd"


def guest(scratch, code, name="guest"):
    return cli.tiny_guest(os.path.join(scratch, name), code)


def orrery(v, *args, status=0, limit=60):
    got = cli.run(v.orrery, *args, env=v.env, limit=limit)
    cli.expect("status of " + " ".join(args), got.status, status, got)
    if status:
        cli.expect("lines on standard error", len(got.err.splitlines()), 1, got)
    return got


def listed(v):
    return json.loads(orrery(v, "ps", "--json").out)


def state(v):
    return v.ask({"op": "hello"})[0]["state"]


def stat(v, name):
    got = v.ask({"op": "stats"})[0]
    if not got or not got["ok"]:
        raise cli.Bad(f"no statistics: {got}")
    return got["stats"][name]


def ended(v, status, seconds):
    begun = time.monotonic()
    try:
        v.p.wait(30 * cli.SLOW)
    except subprocess.TimeoutExpired as why:
        raise cli.Bad("the VM does not end") from why
    took = time.monotonic() - begun
    cli.expect("status of the VM", v.p.returncode, status)
    if took > seconds * cli.SLOW:
        raise cli.Bad(f"it ended after {took:.2f} s, not within {seconds}")


def ps(program, scratch):
    """Names, states, numbers; who was killed is gone, who does not answer is there all the same."""
    spin = guest(scratch, cli.CODE_SPIN)
    with vm(program, scratch, "--kernel", spin, "--mem", "64M", name="one", command=None) as one, \
            vm(program, scratch, "--kernel", spin, name="two", command=None) as two:
        nameless = subprocess.Popen([program, "run", "--kernel", spin], stdin=subprocess.DEVNULL,
                                    env={**os.environ, **one.env})
        end = time.monotonic() + 30
        while [r["state"] for r in listed(one)] != 3 * ["running"] and time.monotonic() < end:
            time.sleep(0.05)
        rows = {r["name"]: r for r in listed(one)}
        cli.expect("names", sorted(rows), sorted(["one", "two", str(nameless.pid)]))
        row = rows["one"]
        cli.expect("of one", (row["pid"], row["state"], row["engine"], row["vcpus"], row["memory"],
                              row["command"]), (one.p.pid, "running", "soft", 1, 64 << 20, None))
        text = orrery(one, "ps").out.decode()
        cli.expect_in("the table", "STATE", text.splitlines()[0])
        cli.expect("its lines", len(text.splitlines()), 4)
        got = orrery(one, "pause", status=125)
        for word in ("3 VMs", "one", "two", "--vm"):
            cli.expect_in("who is meant", word, got.err)
        orrery(one, "pause", "--vm", "two")
        cli.expect("states", sorted(r["state"] for r in listed(one)), ["paused", "running", "running"])
        orrery(one, "resume", "two")
        cli.expect("states", {r["state"] for r in listed(one)}, {"running"})
        for words in (("two", "one"), ("--vm", "two", "one"), ("two", "one", "three")):
            cli.expect_in("one VM", "unexpected", orrery(one, "pause", *words, status=125).err)
        orrery(one, "pause", "two")
        orrery(one, "stop", "--force", str(nameless.pid))
        cli.expect("the nameless one", nameless.wait(20), 143)
        one.p.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, one.p.pid, os.WSTOPPED | os.WNOWAIT)
        rows = {r["name"]: r["state"] for r in listed(two)}
        one.p.send_signal(signal.SIGCONT)
        cli.expect("while one is stopped", rows, {"one": None, "two": "paused"})
        one.p.kill()
        one.p.wait()
        cli.expect("once it was killed", [r["name"] for r in listed(two)], ["two"])
        cli.expect("its entry", os.path.exists(one.entry), False)
    with vm(program, scratch, "--kernel", spin, name="x", command=None) as v:
        v.close()
        cli.expect("none", orrery(v, "ps").out, b"")
        cli.expect_in("none", "no VM is running", orrery(v, "stop", status=125).err)


def states(program, scratch):
    """What a state does not allow is refused, with words; ends are possible in all of them."""
    spin = guest(scratch, cli.CODE_SPIN)
    with vm(program, scratch, "--kernel", spin, command=None) as v:
        cli.expect_in("resume", "has not been paused", orrery(v, "resume", status=125).err)
        orrery(v, "pause")
        cli.expect("state", state(v), "paused")
        cli.expect_in("pause", "orrery resume", orrery(v, "pause", status=125).err)
        cli.expect_in("connect", "paused", str(v.ask({"op": "connect", "port": 5})[0]))
        cli.expect_in("balloon", "paused", orrery(v, "balloon", "64M", status=125).err)
        orrery(v, "stats")
        orrery(v, "resume")
        cli.expect("state", state(v), "running")
        cli.expect_in("balloon", "--balloon", orrery(v, "balloon", "64M", status=125).err)
        cli.expect_in("size", "SIZE", orrery(v, "balloon", status=125).err)
        cli.expect_in("size", "xyz", orrery(v, "balloon", "xyz", status=125).err)
        cli.expect_in("which", "nobody", orrery(v, "balloon", "nobody", "64M", status=125).err)
        cli.expect_in("both", "exclude", orrery(v, "stop", "--force", "--timeout", "3",
                                                 status=125).err)
        cli.expect_in("which", "nobody", orrery(v, "stop", "--vm", "nobody", status=125).err)
        orrery(v, "pause")
        v.p.send_signal(signal.SIGTERM)
        ended(v, 143, 2)
    with vm(program, scratch, "--kernel", spin, command=None) as v:
        orrery(v, "pause")
        orrery(v, "stop", "--force")
        ended(v, 143, 1)
    with vm(program, scratch, "--kernel", spin, "--timeout", "2", command=None) as v:
        orrery(v, "pause")
        ended(v, 124, 10)  # host time runs on
    with vm(program, scratch, "--kernel", spin, command=None) as v:
        orrery(v, "pause")
        # A paused guest goes on to be asked; this one does not listen.
        orrery(v, "stop", "--timeout", "0.3")
        ended(v, 143, 1)
        cli.expect_in("why", "had not ended by itself", v.said())


def still(program, scratch):
    """While paused nothing executes and the guest's time stands still, on both clocks."""
    for clock, code, moves in (("virtual", cli.CODE_SPIN, "guest_ns"),
                               ("real", cli.CODE_SPIN, "guest_ns"), ("real", cli.CODE_IDLE, "idle")):
        with vm(program, scratch, "--kernel", guest(scratch, code), "--clock", clock,
                command=None) as v:
            time.sleep(0.2)
            begun = time.monotonic()
            orrery(v, "pause")
            took = time.monotonic() - begun
            names = ("guest_ns", "instructions", "idle")
            was = {n: stat(v, n) for n in names}
            time.sleep(0.5)
            cli.expect(f"counters ({clock})", {n: stat(v, n) for n in names}, was)
            orrery(v, "resume")
            end = time.monotonic() + 20
            while stat(v, moves) == was[moves] and time.monotonic() < end:
                time.sleep(0.02)
            if stat(v, moves) == was[moves]:
                raise cli.Bad("it does not go on")
            if clock == "real":
                ahead = stat(v, "guest_ns") - was["guest_ns"]
                passed = (time.monotonic() - begun - 0.5) * 1e9
                if ahead > passed:
                    raise cli.Bad(f"guest time went on by {ahead} ns, {passed:.0f} ns of the host's "
                                  f"passed beside the pause")
            if took > 5:
                raise cli.Bad(f"pause took {took:.2f} s")


def bounded(program, scratch):
    """Stop ends a guest that spins, idles, or waits for a reader, in the time that it was given."""
    for name, code in (("spin", cli.CODE_SPIN), ("idle", cli.CODE_IDLE), ("chatter", CODE_CHATTER)):
        for args, limit in ((["--force"], 1.0), (["--timeout", "0.5"], 1.5)):
            # Four vCPUs, of which these guests start one.
            v = Vm(program, scratch, "--kernel", guest(scratch, code), "--clock", "real", "--cpus", "4",
                   name=name, command=None)
            try:
                time.sleep(0.3)  # the pipe that nobody reads is full by then
                begun = time.monotonic()
                orrery(v, "stop", *args)
                took = time.monotonic() - begun
                cli.expect(f"{name} {args}: status", v.p.wait(5), 143)
                # Twice the promise: other tests run beside this one.
                if took > 2 * limit:
                    raise cli.Bad(f"{name} {args}: {took:.2f} s")
                cli.expect("its entry", os.path.exists(v.entry), False)
            finally:
                v.close()
                v.log.close()


def end_and_pause(program, scratch):
    """A guest that powers off while somebody pauses and resumes it without end is over all the same."""
    # mov ecx, N; loop: dec ecx; jnz loop; mov dx, 0x600; mov al, 0x34 (S5, SLP_EN); out dx, al; jmp $
    code = (b"\xb9" + (20000000).to_bytes(4, "little") + b"\x49\x75\xfd\x66\xba\x00\x06\xb0\x34\xee\xeb\xfe")
    kernel = guest(scratch, code)
    for i in range(int(os.environ.get("SEQUENCES", "12"))):
        v = Vm(program, scratch, "--kernel", kernel, "--clock", cli.CLOCKS[i % len(cli.CLOCKS)],
               name=f"p{i}", command=None)
        try:
            end = time.monotonic() + 30
            with socket.socket(socket.AF_UNIX) as s:
                try:
                    s.connect(v.entry)
                    while time.monotonic() < end:
                        for op in (b"pause", b"resume"):
                            s.sendall(b"{\"op\":\"" + op + b"\"}\n")
                            if not Vm.answer(s)[0]:
                                raise ConnectionError
                except (ConnectionError, FileNotFoundError):
                    pass
            ended(v, 0, 10)
        finally:
            v.close()
            v.log.close()


def reset(program, scratch):
    """The guest begins anew, running or paused; its time does too."""
    v = Vm(program, scratch, "--kernel", guest(scratch, cli.CODE_IDLE), "--clock", "real",
           command=None)
    with v.log:
        try:
            cli.expect("first", v.p.stdout.readline(), b"ready\n")
            time.sleep(0.3)
            orrery(v, "reset")
            cli.expect("second", v.p.stdout.readline(), b"ready\n")
            orrery(v, "pause")
            orrery(v, "reset")
            cli.expect("third", v.p.stdout.readline(), b"ready\n")
            cli.expect("state", state(v), "running")
            if stat(v, "guest_ns") > 60e9:
                raise cli.Bad("guest time did not begin anew")
            orrery(v, "stop", "--force")
        finally:
            v.close()


def hostile(program, scratch):
    """Wrong, slow, impatient and many clients, and none of another user."""
    with vm(program, scratch, "--kernel", guest(scratch, cli.CODE_SPIN), command=None) as v:
        for request in (b"{\"op\":\"stop\",\"timeout_ms\":-1}\n", b"{\"op\":\"stop\",\"timeout_ms\":1e3}\n",
                        b"{\"op\":\"stop\",\"timeout_ms\":86400001}\n",
                        b"{\"op\":\"stop\",\"timeout_ms\":\"5\"}\n", b"{\"op\":\"balloon\"}\n",
                        b"{\"op\":\"balloon\",\"bytes\":-5}\n", b"{\"op\":\"balloon\",\"bytes\":99999999999999999999}\n",
                        b"{\"op\":\"stop \"}\n", b"{\"op\":null}\n", b"{\"op\":\"pause\"" + b" " * 5000 + b"}\n"):
            got, _ = v.ask(request)
            cli.expect(f"answer to {request[:50]!r}", (got["ok"], got["code"]), (False, "request"))
        slow = socket.socket(socket.AF_UNIX)
        slow.connect(v.entry)
        for byte in b"{\"op\":\"hello\"}":
            slow.sendall(bytes([byte]))
            cli.expect("beside a slow one", state(v), "running")
        slow.sendall(b"\n")
        cli.expect("the slow one", Vm.answer(slow)[0]["ok"], True)
        # Who asks and goes away: what was asked may happen or not, and the next one is served.
        for i in range(200):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(v.entry)
                s.sendall(json.dumps({"op": ("pause", "resume", "stats", "reset")[i % 4]}).encode() + b"\n")
        v.ask({"op": "resume"})
        end = time.monotonic() + 20  # a reset may be under way
        while v.begins() and time.monotonic() < end:
            time.sleep(0.01)
        cli.expect("after them", state(v), "running")
        # A thousand that stay do not keep others out.
        crowd = []
        for _ in range(1000):
            s = socket.socket(socket.AF_UNIX)
            s.connect(v.entry)
            crowd.append(s)
        cli.expect("beside a crowd", state(v), "running")
        answers = []

        def many():
            for _ in range(20):
                answers.append(v.ask({"op": "stats"})[0]["ok"])

        threads = [threading.Thread(target=many) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        cli.expect("at once", (len(answers), all(answers)), (160, True))
        for s in crowd:
            s.close()
        if os.geteuid() == 0:
            code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({v.entry!r})"
            got = subprocess.run(["python3", "-c", code], capture_output=True, check=False, user=65534,
                                 group=65534, extra_groups=[], cwd="/")
            cli.expect("another user gets in", got.returncode == 0, False)
            cli.expect_in("why not", b"PermissionError", got.stderr)


def sequences(program, scratch):
    """Random requests from two clients at once; whatever they do, the VM lives and ends in order."""
    count, seed = int(os.environ.get("SEQUENCES", "12")), int(os.environ.get("SEED", "1"))
    codes = [cli.CODE_SPIN, cli.CODE_IDLE, CODE_CHATTER]
    for i in range(count):
        rng = random.Random(seed * 100000 + i)
        v = Vm(program, scratch, "--kernel", guest(scratch, rng.choice(codes)), "--clock",
               rng.choice(cli.CLOCKS), "--balloon", "400M", name=f"s{i}", command=None)
        reader = threading.Thread(target=v.p.stdout.read)
        reader.start()
        try:
            def client(choices, v=v):
                for op in choices:
                    request = {"op": op}
                    if op == "balloon":
                        request["bytes"] = 300 << 20
                    got = v.ask(request)[0]
                    if not got or (not got["ok"] and got["code"] not in ("state", "device")):
                        problems.append((op, got))

            problems = []
            ops = ("pause", "resume", "resume", "balloon", "stats", "hello", "reset")
            clients = [threading.Thread(target=client, args=([rng.choice(ops) for _ in range(10)],))
                       for _ in range(2)]
            for c in clients:
                c.start()
            for c in clients:
                c.join()
            cli.expect("answers", problems, [])
            orrery(v, "stop", *rng.choice((["--force"], ["--timeout", "0.2"])))
            ended(v, 143, 5)
        except cli.Bad as why:
            raise cli.Bad(f"sequence {i} of seed {seed}: {why}\n  the VM: {v.said()}") from why
        finally:
            if v.p.poll() is None:
                v.p.kill()
            reader.join()
            v.p.wait()
            v.log.close()


if __name__ == "__main__":
    cli.main([ps, states, still, bounded, end_and_pause, reset, hostile, sequences])
