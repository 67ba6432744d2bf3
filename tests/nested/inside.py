#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""inside.py - the KVM engine with real kernels, where /dev/kvm really executes

usage: inside.py ORRERY [CASE...]

Runs in the outer guest that tests/nested/run makes (or on a host with KVM). Nothing here has a bound
on how fast something is: the outer guest is emulated. What took how long is printed.
"""

import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "kernel"))
os.environ["ORRERY_ENGINE"] = "kvm"
from kernel import (CLOUD_6_1, CLOUD_6_12, PLAIN_6_12, complaints, expect, expect_in,  # noqa: E402
                    kernel, main, run)
from vsock import vm  # noqa: E402


def kvm(orrery, package, *args, command, status=0):
    """Runs @command under the KVM engine; the guest's messages, which it must print last, are judged."""
    got = run(orrery, "run", "--engine", "kvm", "--kernel", kernel(orrery, package), *args, "--",
              "sh", "-c", command + "\nstatus=$?\necho ---\ndmesg\nexit $status")
    expect("status", got.status, status, got)
    text, messages = got.out.decode("utf-8", "replace").split("\n---\n", 1)
    expect("complaints of the kernel", complaints(messages), [], got)
    expect_in("hypervisor", "Hypervisor detected: KVM", messages, got)
    print(f"  {args}: {got.seconds:.1f} s from exec to the end")
    return text.split("\n")


def load_script(path):
    """A script of another directory of tests as a module: some have the same name."""
    spec = importlib.util.spec_from_file_location(path.replace("/", "_"), os.path.join(HERE, "..", path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def begin(cases):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("SKIP: there is no /dev/kvm that may be opened; tests/nested/run makes one")
        sys.exit(77)
    main(cases)


def image(scratch, name, mib):
    path = os.path.join(scratch, name)
    with open(path, "wb") as f:
        f.truncate(mib << 20)
    return path


# --- to userspace -----------------------------------------------------------------------------------

# Processes on every CPU, signals while the FPU's registers are in use (mawk), sleep, interrupts.
WORK = r"""
    nproc
    (for i in $(seq $(nproc)); do
        taskset -c $((i - 1)) sh -c 'trap : USR1; kill -USR1 $$; seq 3000 | md5sum' &
    done; wait) | sort -u
    sleep 0.2
    awk '/LOC:/ { n = 0; for (i = 2; i <= NF && $i ~ /^[0-9]+$/; i++) n += $i > 0; print n }' \
        /proc/interrupts
    awk 'BEGIN { for (i = 1; i < 200; i++) x += i / 7; print x }'
    (exit 5)"""


def boots(orrery, package, cpus, *args):
    lines = kvm(orrery, package, *(args or ("--cpus", str(cpus))), command=WORK, status=5)
    md5 = hashlib.md5("".join(f"{i}\n" for i in range(1, 3001)).encode()).hexdigest()
    expect("CPUs, sum, CPUs with timer interrupts, floating point", lines,
           [str(cpus), md5 + "  -", str(cpus), "2842.86"])


def one_cpu(orrery, scratch):
    boots(orrery, CLOUD_6_12, 1)


def four_cpus(orrery, scratch):
    boots(orrery, CLOUD_6_12, 4)


def older_kernel(orrery, scratch):
    boots(orrery, CLOUD_6_1, 2)


def plain_kernel(orrery, scratch):
    boots(orrery, PLAIN_6_12, 2)


def models(orrery, scratch):
    for model in "x86-64-v1", "x86-64-v3", "host":
        boots(orrery, CLOUD_6_12, 2, "--cpus", "2", "--cpu-model", model)


def sixteen(orrery, scratch):
    boots(orrery, CLOUD_6_12, 16)


# One more CPU than xAPIC can name, without booting all that come before it.
LARGE = r"""
    echo 1 >/sys/devices/system/cpu/cpu152/online
    nproc
    awk '/^apicid/ { id = $3 } END { print id }' /proc/cpuinfo
    taskset -c 152 sh -c 'trap : USR1; kill -USR1 $$; seq 3000 | md5sum; grep ^Cpus_allowed_list /proc/self/status'
    awk '/LOC:/ { print ($4 > 0) }' /proc/interrupts
    for irq in $(awk -F '[ :]+' '/virtio/ { print $2 }' /proc/interrupts); do
        echo 152 >/proc/irq/$irq/smp_affinity_list
    done
    before=$(awk '/virtio/ { n += $4 } END { print n }' /proc/interrupts)
    head -c 4096 /dev/hwrng | wc -c
    after=$(awk '/virtio/ { n += $4 } END { print n }' /proc/interrupts)
    [ $after -gt $before ] && echo interrupted"""


def large_ids(orrery, scratch):
    """APIC ids that xAPIC cannot name: such a CPU starts, gets timer and device interrupts, and works."""
    lines = kvm(orrery, CLOUD_6_12, "--topology", "1n17l9c1t", "--mem", "1G", "--rng", "--append",
                "maxcpus=2", command=LARGE)
    md5 = hashlib.md5("".join(f"{i}\n" for i in range(1, 3001)).encode()).hexdigest()
    expect("CPUs, APIC id, work, timer, bytes, device's interrupts", lines,
           ["3", "264", md5 + "  -", "Cpus_allowed_list:\t152", "1", "4096", "interrupted"])


# --- devices ----------------------------------------------------------------------------------------

DEVICES = r"""
    echo disk $(dd if=/dev/vda bs=4k count=64 iflag=direct 2>/dev/null | md5sum)
    dd if=/dev/zero bs=4k count=64 2>/dev/null | tr '\0' y | dd of=/dev/vda bs=4k seek=64 oflag=direct \
        conv=fsync 2>/dev/null
    echo rng $(head -c 100 /dev/hwrng | wc -c)
    echo net $(ip -4 addr show eth0 | grep -c 10.0.2.15) $(ping -c 1 -W 20 10.0.2.2 | grep -c '1 packets rec')
    echo balloon $(ls /sys/bus/virtio/drivers/virtio_balloon | grep -c virtio)
    echo vsock $(ls /dev/vsock)
    echo interrupts $(grep -c 'virtio[0-9]' /proc/interrupts)"""


def devices(orrery, scratch):
    """The devices that a cloud kernel has drivers for, at once, with four vCPUs."""
    disk = image(scratch, "disk", 8)
    block = b"x" * 4096 * 64
    with open(disk, "r+b") as f:
        f.write(block)
    lines = kvm(orrery, CLOUD_6_12, "--cpus", "4", "--disk", disk, "--rng", "--net", "user",
                "--balloon", "512M", "--vsock", command=DEVICES)
    got = dict(line.split(" ", 1) for line in lines)
    expect("what was read", got["disk"].split()[0], hashlib.md5(block).hexdigest())
    with open(disk, "rb") as f:
        f.seek(len(block))
        expect("what was written", f.read(len(block)) == b"y" * len(block), True)
    del got["disk"]
    expect("devices", {k: v for k, v in got.items() if k != "interrupts"},
           {"rng": "100", "net": "1 1", "balloon": "1", "vsock": "/dev/vsock"})


def share(orrery, scratch):
    there = os.path.join(scratch, "there")
    os.mkdir(there)
    with open(os.path.join(there, "in"), "wb") as f:
        f.write(b"from the host\n" * 50000)
    lines = kvm(orrery, PLAIN_6_12, "--cpus", "2", "--share", f"{there}:x,dax", command=
                "md5sum </mnt/x/in; seq 50000 >/mnt/x/out; mkdir /mnt/x/d; ls /mnt/x; sync")
    expect("sum, names", lines, [hashlib.md5(b"from the host\n" * 50000).hexdigest() + "  -",
                                 "d", "in", "out"])
    with open(os.path.join(there, "out"), "rb") as f:
        expect("what the guest wrote", f.read().count(b"\n"), 50000)


# --- the life of a VM -------------------------------------------------------------------------------

def ask(v, *words, status=0):
    """A command for a running VM. Its result; the seconds are in it."""
    got = run(v.orrery, words[0], "--vm", v.name, *words[1:], env=v.env)
    expect(f"status of orrery {' '.join(words)}", got.status, status, got)
    return got


def state(v):
    listed = run(v.orrery, "ps", "--json", env=v.env)
    vms = {e["name"]: e for e in json.loads(listed.out)}
    return vms[v.name]["state"] if v.name in vms else None


BUSY = "for i in $(seq $(nproc)); do while :; do :; done & done; echo busy; wait"


def life(orrery, scratch, cpus=4):
    """A busy guest: pause, which shows; resume; a command in it; an idle one; stop."""
    with vm(orrery, scratch, "--engine", "kvm", "--kernel", kernel(orrery, CLOUD_6_12), "--vsock",
            "--cpus", str(cpus), command=("sh", "-c", BUSY)) as v:
        expect("begins", v.p.stdout.readline(), b"busy\n")
        paused = ask(v, "pause")
        expect("state", state(v), "paused")
        before = cpu_time(v.p.pid)
        time.sleep(0.5)
        expect("CPU time while paused", cpu_time(v.p.pid) - before < 0.2, True)
        ask(v, "resume")
        expect("state", state(v), "running")
        got = v.exec("--wait", "60", "--", "cat", "/proc/uptime")
        expect("status of exec", got.status, 0, got)
        stopped = ask(v, "stop", "--force")
        status, _ = v.end()
        expect("status", status, 143)
        print(f"  {cpus} busy vCPUs: pause {1000 * paused.seconds:.0f} ms, stop "
              f"{1000 * stopped.seconds:.0f} ms, of the whole commands")


def cpu_time(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def life_16(orrery, scratch):
    life(orrery, scratch, 16)


def asked_to_stop(orrery, scratch):
    """The guest's init passes the wish on: the command may end by itself, with its own status."""
    with vm(orrery, scratch, "--engine", "kvm", "--kernel", kernel(orrery, CLOUD_6_12), "--vsock",
            command=("sh", "-c", "trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.1; done")) as v:
        expect("begins", v.p.stdout.readline(), b"up\n")
        ask(v, "stop", "--timeout", "100")
        expect("status, output", v.end(), (9, b"bye\n"))


def signals(orrery, scratch):
    """SIGTERM and --timeout end a guest that never stops."""
    args = [orrery, "run", "--engine", "kvm", "--kernel", kernel(orrery, CLOUD_6_12), "--cpus", "2"]
    with subprocess.Popen([*args, "--", "sh", "-c", BUSY], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
        expect("begins", p.stdout.readline(), b"busy\n")
        begun = time.monotonic()
        p.send_signal(signal.SIGTERM)
        p.communicate(timeout=100)
        print(f"  SIGTERM: {1000 * (time.monotonic() - begun):.0f} ms to the end")
        expect("status", p.returncode, 143)
    got = run(*args, "--timeout", "1", "--", "sleep", "1000")
    expect("status of a time-out", got.status, 124, got)


def reset(orrery, scratch):
    """Begins anew, with what the disk holds."""
    disk = image(scratch, "disk", 1)
    text = ("head -c 1 /dev/vda | tr '\\0' 0; echo; printf 1 | dd of=/dev/vda conv=fsync,notrunc "
            "2>/dev/null; sleep 1000")
    with vm(orrery, scratch, "--engine", "kvm", "--kernel", kernel(orrery, CLOUD_6_12), "--cpus", "2",
            "--disk", disk, command=("sh", "-c", text)) as v:
        expect("the first time", v.p.stdout.readline(), b"0\n")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with open(disk, "rb") as f:
                if f.read(1) == b"1":
                    break
            time.sleep(0.05)
        ask(v, "reset")
        expect("the second time", v.p.stdout.readline(), b"1\n")
        ask(v, "stop", "--force")
        expect("status", v.end()[0], 143)


# --- which engine -----------------------------------------------------------------------------------

def emulated():
    """Whether this machine's SVM is QEMU's."""
    with open("/proc/cpuinfo", encoding="ascii") as f:
        return "QEMU TCG" in f.read()


def auto(orrery, scratch):
    """Where KVM is the real thing it is chosen; else one line says why not. Both end well."""
    script = "cat /sys/devices/system/clocksource/clocksource0/current_clocksource"
    got = run(orrery, "run", "--engine", "auto", "-v", "--kernel", kernel(orrery, CLOUD_6_12), "--",
              "sh", "-c", script, limit=600)
    expect("status", got.status, 0, got)
    why = [line for line in got.err.splitlines() if line.startswith("orrery: engine ")]
    print(f"  clock {got.out.decode().strip()}; {why}")
    expect("lines about the engine", len(why), 1, got)
    # TCG's speed is on either side of the limit, by how busy its host is.
    if "engine soft: " in why[0]:
        expect("the emulated one is refused", emulated(), True)
        expect_in("why", "million instructions a second, hardware more than", why[0], got)
        expect("the guest's clock", got.out, b"tsc\n", got)
    else:
        expect_in("which", "engine kvm: KVM executes", why[0], got)
        expect("the guest's clock", got.out, b"kvm-clock\n", got)
    said = run(orrery, "doctor")
    expect("status of orrery doctor", said.status, 0, said)
    print("  " + " / ".join(x.strip() for x in said.out.decode().splitlines() if "KVM" in x))


# --- host CPUs of its own -----------------------------------------------------------------------------

def perf(orrery, scratch):
    """A vCPU that idles stays in the guest, on its CPU, with priority; all else is on another."""
    env = {"ORRERY_LOCK_DIR": scratch}
    halts = []
    for how in ([], ["--perf"]):
        got = run(orrery, "run", "--engine", "kvm", "--stats", *how, "--kernel",
                  kernel(orrery, CLOUD_6_12), "--", "sleep", "0.3", env=env)
        expect("status", got.status, 0, got)
        halts.append(got.stat("kvm_kernel_halt_exits"))
    print(f"  HLT exits without and with --perf: {halts}")
    expect("HLT exits without --perf", halts[0] > 0, True)
    expect("HLT exits with --perf", halts[1], 0)
    with subprocess.Popen([orrery, "run", "--engine", "kvm", "--perf", "--kernel",
                           kernel(orrery, CLOUD_6_12), "--", "sh", "-c", "echo up; sleep 600"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          env={**os.environ, **env}) as p:
        expect("the guest's word", p.stdout.readline(), b"up\n")
        threads = {}
        for tid in os.listdir(f"/proc/{p.pid}/task"):
            with open(f"/proc/{p.pid}/task/{tid}/comm", encoding="ascii") as f:
                name = "VM" if int(tid) == p.pid else f.read().strip()
            threads[name] = (os.sched_getaffinity(int(tid)), os.sched_getscheduler(int(tid)),
                             os.sched_getparam(int(tid)).sched_priority)
        p.kill()
    print(f"  {threads}")
    vcpu, of_vm = threads["vcpu-0"], threads["VM"]
    expect("the vCPU's policy", vcpu[1:], (os.SCHED_FIFO, 1))
    expect("the VM's thread", of_vm[1:], (os.SCHED_FIFO, 2))
    expect("CPUs", (len(vcpu[0]), len(of_vm[0]), vcpu[0] & of_vm[0]), (1, 1, set()))


SHORT = [one_cpu, devices, life]
LONG = [four_cpus, older_kernel, plain_kernel, models, sixteen, large_ids, share, life_16,
        asked_to_stop, signals, reset, auto, perf]

if __name__ == "__main__":
    if "short" in sys.argv:
        sys.argv[sys.argv.index("short"):] = [f.__name__ for f in SHORT]
    begin(SHORT + LONG)
