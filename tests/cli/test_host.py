# SPDX-License-Identifier: Apache-2.0
"""test_host.py - what runs take of the host: orrery doctor, --perf, --cpu-cap, orrery locks

Guests are bare-metal images of a few bytes. Each case has a directory of locks of its own, so that
tests beside it, and runs of the user, are not in the way.
"""

import fcntl
import json
import os
import signal
import subprocess
import time

from cli import (CODE_EXIT_21, CODE_IDLE, Bad, Skip, expect, expect_in, main, run, tiny_guest)

STATES = {"ok", "info", "lacks", "fails"}


def doctor(orrery, scratch):
    got = run(orrery, "doctor", "--json")
    expect("status", got.status, 0, got)
    report = json.loads(got.out)
    expect("it can run", report["can_run"], True, got)
    names = [c["name"] for c in report["checks"]]
    for name in ("built-in CPU", "KVM", "topology", "huge pages", "Landlock", "kernels", "--net tap"):
        expect_in("checks", name, names, got)
    for c in report["checks"]:
        expect_in("states", c["state"], STATES, got)
        expect(f"{c['name']} has a cost exactly if it lacks something", "cost" in c,
               c["state"] in ("lacks", "fails"), got)
        expect(f"{c['name']} is one line", "\n" in c["found"], False, got)
    text = run(orrery, "doctor")
    expect("status", text.status, 0, text)
    for name in names:
        expect_in("text", name.encode(), text.out, text)
    expect("no escapes without a terminal", b"\033" in text.out, False, text)
    expect("bad usage", run(orrery, "doctor", "--jsn").status, 125)
    # Elsewhere: an empty cache, a directory without reflinks or without the right to write.
    empty = run(orrery, "doctor", "--json", env={"XDG_CACHE_HOME": scratch}, cwd="/proc")
    expect("status", empty.status, 0, empty)
    kernels = [c for c in json.loads(empty.out)["checks"] if c["name"] == "kernels"][0]
    expect("kernels", kernels["state"], "lacks", empty)


def no_engine(orrery, scratch):
    """A host on which no guest runs: status 1, and both engines say why."""
    host = {"LD_PRELOAD": os.environ["FORBID"]}
    got = run(orrery, "doctor", "--json", env=host)
    expect("status", got.status, 1, got)
    report = json.loads(got.out)
    expect("it can run", report["can_run"], False, got)
    states = {c["name"]: c["state"] for c in report["checks"]}
    expect("engines", (states["built-in CPU"], states["KVM"]), ("fails", "lacks"), got)
    text = run(orrery, "doctor", env=host)
    expect("status", text.status, 1, text)
    expect_in("why", b"cannot be executed: Permission denied", b" ".join(text.out.split()), text)
    expect_in("the last line", b"neither engine works", text.out.splitlines()[-1], text)


def need_cpus(n):
    if len(os.sched_getaffinity(0)) < n:
        raise Skip(f"this needs {n} CPUs that the test may use")


def setting(scratch):
    run_dir = os.path.join(scratch, "run")
    os.makedirs(run_dir, mode=0o700, exist_ok=True)
    return {"ORRERY_LOCK_DIR": scratch, "XDG_CACHE_HOME": scratch, "XDG_RUNTIME_DIR": run_dir,
            "ORRERY_ENGINE": os.environ["ORRERY_ENGINE"]}


class Guest:
    """An idle guest in the background, until it is killed."""

    def __init__(self, orrery, scratch, *args):
        image = tiny_guest(os.path.join(scratch, "idle"), CODE_IDLE)
        self.process = subprocess.Popen(
            [orrery, "run", "--kernel", image, "--clock", "real", *args], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **setting(scratch)})
        self.pid = self.process.pid
        line = self.process.stdout.readline()
        if line != b"ready\n":
            self.process.kill()
            raise Bad(f"the guest did not start: {line!r} {self.process.stderr.read()!r}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def threads(self):
        """CPUs and policy of each thread; the first is the VM's."""
        tids = sorted(int(t) for t in os.listdir(f"/proc/{self.pid}/task"))
        return [(os.sched_getaffinity(t), os.sched_getscheduler(t)) for t in tids]


def locks(orrery, scratch):
    got = run(orrery, "locks", "--json", env=setting(scratch))
    expect("status of orrery locks", got.status, 0, got)
    return [(w["lock"], w["mode"], w["pid"]) for w in json.loads(got.out)["locks"]]


def quick(orrery, scratch, *args):
    """A guest that ends at once, with status 43."""
    image = tiny_guest(os.path.join(scratch, "exit"), CODE_EXIT_21)
    return run(orrery, "run", "--kernel", image, "--debug-exit", "0xf4", *args,
               env=setting(scratch), limit=60)


def perf(orrery, scratch):
    need_cpus(2)
    plain = quick(orrery, scratch, "--digest")
    expect("status", plain.status, 43, plain)
    for how in ("--perf", "--perf=cpus"):
        got = quick(orrery, scratch, how, "--digest", "-v")
        expect("status", got.status, 43, got)
        expect("the guest cannot tell", got.digest(), plain.digest(), got)
        expect_in("where it was", "vCPUs on CPUs ", got.err, got)
    expect("locks afterwards", locks(orrery, scratch), [])


def perf_threads(orrery, scratch):
    need_cpus(2)
    with Guest(orrery, scratch, "--perf") as guest:
        threads = guest.threads()
        expect("threads", len(threads) >= 2, True)
        vm, others = threads[0], threads[1:]
        expect("the VM's thread has a CPU", len(vm[0]), 1)
        for cpus, policy in others:
            expect("the others have another", (len(cpus), cpus & vm[0]), (1, set()))
            expect("their policy", policy, os.SCHED_OTHER)
        held = locks(orrery, scratch)
        expect("locks", held[0][1:], ("exclusive", guest.pid))
        expect("locks of CPUs", sorted(lock for lock, _, _ in held[1:]),
               sorted(f"cpu {c}" for c in vm[0] | others[0][0]))
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            expect("policy of the VM's thread", vm[1], os.SCHED_FIFO)
        except PermissionError:
            expect("policy of the VM's thread", vm[1], os.SCHED_OTHER)


def contention(orrery, scratch):
    need_cpus(2)
    with Guest(orrery, scratch, "--perf") as guest:
        # Whoever wants whole caches, or a share of them, is refused if this is all there is.
        held = {lock for lock, _, _ in locks(orrery, scratch) if lock.startswith("llc")}
        if len(held) < llcs():
            raise Skip("this host has last-level caches to spare")
        for how in (["--perf"], ["--perf=cpus"], ["--cpu-cap", "1"]):
            got = quick(orrery, scratch, *how)
            expect(f"status of {how}", got.status, 125, got)
            expect_in("who has it", f"process {guest.pid} (", got.err, got)
            expect_in("what to do", "--perf-wait", got.err, got)
            expect("lines", len(got.err.splitlines()), 1, got)
        got = quick(orrery, scratch, "--perf", "--perf-wait", "0.3")
        expect("status", got.status, 125, got)
        expect_in("how long", "after 0.3 s", got.err, got)
        # Without asking for CPUs nobody is in the way.
        expect("status", quick(orrery, scratch).status, 43)

        image = tiny_guest(os.path.join(scratch, "exit"), CODE_EXIT_21)
        waiter = subprocess.Popen(
            [orrery, "run", "--kernel", image, "--debug-exit", "0xf4", "--perf", "--perf-wait", "60"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **setting(scratch)})
        line = waiter.stderr.readline()
        expect_in("it says that it waits", f"waiting for CPUs that are taken by process {guest.pid} ",
                  line.decode())
        guest.process.kill()
        waiter.communicate(timeout=60)
        expect("status of the one that waited", waiter.returncode, 43)


def llcs():
    """How many last-level caches this host has, as the kernel lists them."""
    found = set()
    base = "/sys/devices/system/cpu"
    for cpu in os.sched_getaffinity(0):
        best = (0, "")
        cache = f"{base}/cpu{cpu}/cache"
        for index in os.listdir(cache) if os.path.isdir(cache) else []:
            if index.startswith("index"):
                with open(f"{cache}/{index}/level", encoding="ascii") as f:
                    level = int(f.read())
                with open(f"{cache}/{index}/shared_cpu_list", encoding="ascii") as f:
                    best = max(best, (level, f.read()))
        found.add(best)
    return len(found)


def cap(orrery, scratch):
    with Guest(orrery, scratch, "--cpu-cap", "1") as one, \
            Guest(orrery, scratch, "--cpu-cap", "1") as two:
        for guest in (one, two):
            cpus = {frozenset(c) for c, _ in guest.threads()}
            expect("CPUs of all threads together", [len(c) for c in cpus], [1])
        if len(os.sched_getaffinity(0)) > 1:
            expect("they are not the same", one.threads()[0][0] & two.threads()[0][0], set())
        held = locks(orrery, scratch)
        expect("modes", {mode for _, mode, _ in held}, {"shared"})
        expect("holders", {pid for _, _, pid in held}, {one.pid, two.pid})
        if len(os.sched_getaffinity(0)) > 1:
            got = quick(orrery, scratch, "--perf=cpus")
            expect("status", got.status, 125, got)
    n = len(os.sched_getaffinity(0))
    with Guest(orrery, scratch, "--cpu-cap", "auto") as guest:
        expect("CPUs of all threads", {len(c) for c, _ in guest.threads()}, {(3 * n + 9) // 10})
    got = quick(orrery, scratch, "--cpu-cap", str(n + 1))
    expect("status", got.status, 125, got)
    expect_in("both numbers", f"{n + 1} CPUs are wanted, and {n} can be had", got.err, got)


def refused(orrery, scratch):
    for args, words in (
            (["--perf=all"], "--perf all"),
            (["--perf", "--cpu-cap", "1"], "exclude each other"),
            (["--cpu-cap", "0"], "--cpu-cap"),
            (["--cpu-cap", "all"], "--cpu-cap"),
            (["--perf-wait", "1"], "nothing to wait for"),
            (["--perf", "--perf-wait", "0"], "--perf-wait"),
            (["--engine", "kvm", "--mips", "5"], "--mips")):
        got = quick(orrery, scratch, *args)
        expect(f"status of {args}", got.status, 125, got)
        expect_in("why", words, got.err, got)
        expect("lines", len(got.err.splitlines()), 1, got)
    got = run(orrery, "run", "--", "true", env={"ORRERY_ENGINE": "sift"})
    expect("status", got.status, 125, got)
    expect_in("why", "did you mean soft?", got.err, got)


def list_locks(orrery, scratch):
    got = run(orrery, "locks", env=setting(scratch))
    expect("status", (got.status, got.out), (0, b""), got)
    expect_in("words", "nothing is locked", got.err, got)
    cache = os.path.join(scratch, "orrery", "kernels")
    os.makedirs(cache)
    with open(os.path.join(cache, ".lock"), "w", encoding="ascii") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        expect("locks", locks(orrery, scratch), [("kernels", "exclusive", os.getpid())])
        got = run(orrery, "locks", env=setting(scratch))
        expect_in("command", b"test_host.py", got.out, got)
    with open(os.path.join(scratch, "run", "orrery", ".lock"), "w", encoding="ascii") as f:
        fcntl.flock(f, fcntl.LOCK_SH)
        expect("locks", locks(orrery, scratch), [("running VMs", "shared", os.getpid())])
    watch = subprocess.Popen([orrery, "locks", "--watch", "--json"], stdout=subprocess.PIPE,
                             env={**os.environ, **setting(scratch)})
    begun = time.monotonic()
    two = [json.loads(watch.stdout.readline()) for _ in range(2)]
    expect("two looks", [sorted(o) for o in two], [["locks"], ["locks"]])
    expect("a second apart", time.monotonic() - begun > 0.9, True)
    watch.kill()
    watch.communicate()
    expect("bad usage", run(orrery, "locks", "--wach").status, 125)


if __name__ == "__main__":
    main([doctor, no_engine, perf, perf_threads, contention, cap, refused, list_locks])
