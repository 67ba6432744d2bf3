#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_disk.py - disks in whole guests: found, formatted, hammered, killed, throttled, shared

usage: test_disk.py ORRERY [CASE...]

HOST_DISK_TEST, if set, is the unit test of the disks' back end: it runs once more on btrfs.
"""

import os
import shutil
import signal
import subprocess

from kernel import CLOUD_6_1, CLOUD_6_12, Skip, boot, expect, expect_in, kernel, kernels, main
from cli import SLOW, run

BLOCK = 4096


def tool(name, package):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise Skip(f"the host has no {name}; apt-get install {package}")
    return path


def sparse(scratch, name, size):
    path = os.path.join(scratch, name)
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def allocated(path):
    return os.stat(path).st_blocks * 512


def sh(text):
    return ["sh", "-c", text]


# --- found ----------------------------------------------------------------------------------------

SHOW = r"""
    cd /sys/block/vda
    echo $(cat size ro queue/write_cache queue/logical_block_size queue/physical_block_size \
        queue/discard_granularity) $(ls mq | wc -l) $(cat serial)
    cd /sys/block/vdb; echo $(cat ro size) $(cat serial); cd /sys/block/vda
    [ $(cat queue/discard_max_bytes) -gt 0 ] && [ $(cat queue/write_zeroes_max_bytes) -gt 0 ] && echo holes
    echo "write through" >cache_type; cat cache_type queue/write_cache
    echo "write back" >cache_type; cat cache_type
    dd if=/dev/zero of=/dev/vdb bs=512 count=1 2>/dev/null || echo "no writing"
    dd if=/dev/vda of=/dev/null bs=512 skip=131071 count=1 2>&1 | grep -c "1+0 records in"
"""


def probe(orrery, scratch, package):
    a, b = sparse(scratch, "a", 64 << 20), sparse(scratch, "b", 1 << 20)
    for clock in "virtual", "real":
        got = boot(orrery, package, "--disk", a, "--disk", f"{b},ro,serial=B-1", "--cpus", "3",
                   "--clock", clock, command=sh(SHOW))
        expect("what the guest sees", got.out.decode().splitlines(), [
            "131072 0 write back 512 4096 4096 3 disk0", "1 2048 B-1", "holes", "write through",
            "write through", "write back", "no writing", "1"], got)


def probe_6_1(orrery, scratch):
    probe(orrery, scratch, CLOUD_6_1)


def probe_6_12(orrery, scratch):
    probe(orrery, scratch, CLOUD_6_12)


# --- file systems ---------------------------------------------------------------------------------

FILES = r"""
    set -e
    mkfs.ext4 -q /dev/vda
    mkdir /d && mount -t ext4 /dev/vda /d
    for i in $(seq 40); do mkdir /d/$i; dd if=/dev/urandom of=/d/$i/f bs=5000 count=$i 2>/dev/null; done
    rm -r /d/7 /d/21; (cd /d; find . -type f | sort | xargs md5sum) >/sums
    umount /d
    e2fsck -fn /dev/vda >/dev/null 2>&1 || { echo "fsck: $?"; exit 1; }
    mount -t ext4 /dev/vda /d; (cd /d; md5sum -c /sums) >/dev/null && echo same; fstrim /d && umount /d
"""


def format_and_check(orrery, scratch, package):
    mkfs, fsck = tool("mkfs.ext4", "e2fsprogs"), tool("e2fsck", "e2fsprogs")
    disk = sparse(scratch, "disk", 96 << 20)
    got = boot(orrery, package, "--disk", disk, "--module", "ext4", "--include", mkfs, "--include",
               fsck, "--cpus", "2", command=sh(FILES))
    expect("output", got.out, b"same\n", got)
    checked = subprocess.run([fsck, "-fn", disk], capture_output=True, check=False)
    expect("fsck on the host", checked.returncode, 0)


def mkfs_6_1(orrery, scratch):
    format_and_check(orrery, scratch, CLOUD_6_1)


def mkfs_6_12(orrery, scratch):
    format_and_check(orrery, scratch, CLOUD_6_12)


def lasting(orrery, scratch):
    """What a command leaves on a mounted disk is there for the next one, and on a clean disk."""
    mkfs, fsck = tool("mkfs.ext4", "e2fsprogs"), tool("e2fsck", "e2fsprogs")
    disk = sparse(scratch, "disk", 32 << 20)
    subprocess.run([mkfs, "-q", disk], check=True)
    for word in "one", "two":
        got = boot(orrery, CLOUD_6_12, "--disk", f"{disk},fs=ext4,name=keep",
                   command=sh(f"cd /mnt/keep; echo {word} >>words; cat words"))
    expect("both words", got.out, b"one\ntwo\n", got)
    checked = subprocess.run([fsck, "-fn", disk], capture_output=True, check=False)
    expect("fsck on the host", checked.returncode, 0)
    # Read-only, and a private copy: the file stays as it is.
    with open(disk, "rb") as f:
        before = f.read()
    for words, want in ("ro", b"rest\n"), ("cow", b"wrote\nrest\n"):
        got = boot(orrery, CLOUD_6_12, "--disk", f"{disk},fs=ext4,mount=/a/b,{words}",
                   command=sh("(echo x >/a/b/words) 2>/dev/null && echo wrote; echo rest"))
        expect("output", got.out, want, got)
    with open(disk, "rb") as f:
        expect("the file is unchanged", f.read() == before, True)


def discard(orrery, scratch):
    """Room that the guest gives back, the host's file system gets."""
    disk = sparse(scratch, "disk", 64 << 20)
    got = boot(orrery, CLOUD_6_12, "--disk", disk, command=sh(
        "dd if=/dev/urandom of=/dev/vda bs=1M count=32 conv=fsync 2>/dev/null"))
    expect("allocated", allocated(disk) >= 32 << 20, True)
    got = boot(orrery, CLOUD_6_12, "--disk", disk, command=sh(
        "blkdiscard -o 0 -l $((24<<20)) /dev/vda; head -c $((24<<20)) /dev/vda | tr -d '\\0' | wc -c"))
    expect("bytes that are not zero", got.out, b"0\n", got)
    expect("still allocated", allocated(disk) <= 10 << 20, True)


# --- fio ------------------------------------------------------------------------------------------

JOBS = """
[global]
filename=/dev/vda
direct=1
ioengine=libaio
iodepth=8
verify=crc32c
verify_fatal=1
randseed=7
[sequential]
rw=write
bs=64k
size=8M
[random]
rw=randwrite
bs=4k
offset=16M
size=4M
[mixed]
rw=randrw
bsrange=512-96k
blockalign=512
offset=32M
size=4M
[buffered]
rw=randwrite
direct=0
ioengine=psync
fsync=16
bs=3k
blockalign=512
offset=48M
size=2M
"""


def fio_run(orrery, scratch, *args):
    fio = tool("fio", "fio")
    job = os.path.join(scratch, "jobs")
    with open(job, "w", encoding="ascii") as f:
        f.write(JOBS)
    got = boot(orrery, CLOUD_6_12, "--cpus", "4", "--mem", "1G", "--include", f"{job}:/jobs", "--module",
               "virtio_blk", "--digest", "--stats", *args,
               command=[fio, "--output-format=terse", "/jobs"])
    lines = [line for line in got.out.decode().splitlines() if line.startswith("3;")]
    expect("jobs that ended well", [(x.split(";")[2], x.split(";")[4]) for x in lines],
           [(n, "0") for n in ("sequential", "random", "mixed", "buffered")], got)
    expect("failures", "disk0_failed" in got.err or "disk0_refused" in got.err, False)
    return got


def fio_virtual(orrery, scratch):
    """Verified I/O by four jobs; and again, with the same digest, on a private copy."""
    disk = sparse(scratch, "disk", 64 << 20)
    first = fio_run(orrery, scratch, "--disk", f"{disk},cow")
    second = fio_run(orrery, scratch, "--disk", f"{disk},cow")
    expect("digest", second.digest(), first.digest())
    expect("output", second.out, first.out)
    expect("the file is untouched", allocated(disk), 0)


def fio_real(orrery, scratch):
    disk = sparse(scratch, "disk", 64 << 20)
    fio_run(orrery, scratch, "--disk", disk, "--clock", "real")


def fio_throttled(orrery, scratch):
    """A budget that is exceeded all the time delays, and fails nothing."""
    disk = sparse(scratch, "disk", 64 << 20)
    got = fio_run(orrery, scratch, "--disk", f"{disk},iops=2000,bps=16M")
    expect("delayed", got.stat("disk0_delayed") > 1000, True, got)
    # Less what may come at once.
    floor = max((got.stat("disk0_read_bytes") + got.stat("disk0_written")) / (16 << 20),
                (got.stat("disk0_reads") + got.stat("disk0_writes")) / 2000) - 1
    expect("guest seconds", got.stat("guest_s") >= floor, True, got)


# --- the monitor is killed ------------------------------------------------------------------------

def kill_after(orrery, count, *args):
    """Starts a guest, kills the monitor behind its @count-th line. Returns the lines that came."""
    p = subprocess.Popen([orrery, "run", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    lines = []
    try:
        for line in p.stdout:
            lines.append(line.decode().strip())
            if len(lines) == count:
                break
    finally:
        p.send_signal(signal.SIGKILL)
        rest, err = p.communicate()
    lines += [line for line in rest.decode().split("\n")[:-1]]
    if len(lines) < count:
        raise AssertionError(f"the guest ended early: {lines} {err.decode()}")
    return lines


def killed_raw(orrery, scratch):
    """Every block whose flush was honoured is in the file."""
    disk = sparse(scratch, "disk", 64 << 20)
    for clock in "virtual", "real":
        text = (f"i=0; while :; do i=$((i+1)); yes {clock}-$i | head -c {BLOCK} | "
                f"dd of=/dev/vda bs={BLOCK} seek=$i conv=notrunc,fsync 2>/dev/null; echo $i; done")
        lines = kill_after(orrery, 40, "--kernel", kernel(orrery, CLOUD_6_12), "--clock", clock,
                           "--disk", disk, "--", *sh(text))
        with open(disk, "rb") as f:
            for i in map(int, lines):
                f.seek(i * BLOCK)
                line = f"{clock}-{i}\n".encode()
                expect(f"block {i}", f.read(BLOCK), (line * BLOCK)[:BLOCK])


def killed_ext4(orrery, scratch):
    """A journal replayed by the next guest: every file that was synced is whole."""
    mkfs, fsck = tool("mkfs.ext4", "e2fsprogs"), tool("e2fsck", "e2fsprogs")
    disk = sparse(scratch, "disk", 64 << 20)
    subprocess.run([mkfs, "-q", disk], check=True)
    text = ("cd /mnt/disk0; i=0; while :; do i=$((i+1)); mkdir d$i; yes $i | head -c 9000 >d$i/f; "
            "sync d$i/f d$i .; echo $i; done")
    lines = kill_after(orrery, 40, "--kernel", kernel(orrery, CLOUD_6_12), "--cpus", "2",
                       "--disk", f"{disk},fs=ext4", "--", *sh(text))
    check = ("cd /mnt/disk0; for i in %s; do yes $i | head -c 9000 | cmp - d$i/f || echo bad $i; done"
             % " ".join(lines))
    got = boot(orrery, CLOUD_6_12, "--disk", f"{disk},fs=ext4", command=sh(check))
    expect("files that are not whole", got.out, b"", got)
    checked = subprocess.run([fsck, "-fn", disk], capture_output=True, check=False)
    expect("fsck on the host", checked.returncode, 0)


# --- templates ------------------------------------------------------------------------------------

def own_cache(orrery, scratch):
    """A cache of its own, with the real kernels in it."""
    kernels(orrery)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    os.makedirs(os.path.join(scratch, "cache/orrery"))
    os.symlink(os.path.join(base, "orrery/kernels"), os.path.join(scratch, "cache/orrery/kernels"))
    return {"XDG_CACHE_HOME": os.path.join(scratch, "cache")}


def overlay(orrery, scratch):
    """What the guest of one run writes, the next one finds; the original stays as it was."""
    image, kept = os.path.join(scratch, "original"), os.path.join(scratch, "kept")
    with open(image, "wb") as f:
        f.write(b"original" * (1 << 17))
    peek = "dd if=/dev/vda bs=512 skip=8 count=1 2>/dev/null | head -c 8;"
    for n in range(1, 4):
        # Both kernels, and the last one's monitor is killed behind a flush.
        package, end = CLOUD_6_1 if n == 1 else CLOUD_6_12, "sleep 100" if n == 3 else "true"
        script = (f"{peek} echo; echo 'turn {n}  ' >/tmp/x;"
                  "dd if=/tmp/x of=/dev/vda bs=512 seek=8 conv=notrunc,fsync 2>/dev/null; echo flushed;"
                  f"dd if=/dev/zero of=/dev/vda bs=4k seek=16 conv=notrunc count={n} 2>/dev/null; {end}")
        with subprocess.Popen([orrery, "run", "--kernel", kernel(orrery, package), "--disk",
                               f"{image},overlay={kept}", "--clock", "real", "--", *sh(script)],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as p:
            expect(f"found by run {n}", p.stdout.readline(),
                   b"original\n" if n == 1 else b"turn %d  \n" % (n - 1))
            expect("flush", p.stdout.readline(), b"flushed\n")
            if n == 3:
                p.kill()
            expect("status", p.wait(120), -9 if n == 3 else 0)
    got = run(orrery, "run", "--kernel", kernel(orrery, CLOUD_6_12), "--disk",
              f"{image},overlay={kept}", "--", *sh(peek))
    expect("found after the death of the monitor", got.out, b"turn 3  ", got)
    with open(image, "rb") as f:
        expect("the original", f.read() == b"original" * (1 << 17), True)
    expect("room that the overlay takes", os.stat(kept).st_blocks < 200, True)


def template(orrery, scratch):
    tool("mkfs.ext4", "e2fsprogs")
    env = own_cache(orrery, scratch)
    kind = kernel(orrery, CLOUD_6_12)
    use = ["run", "--kernel", kind, "--disk", "fs=ext4,size=64M", "--disk", "fs=ext4,size=64M,name=b",
           "--digest", "--", *sh("ls /mnt/disk0 | wc -l; echo x >/mnt/disk0/x; ls /mnt/b; mount | "
                                 "grep -o '/dev/vd. on /mnt/[^ ]* type ext4'")]
    # Two at once make it once, and then it is there; all runs are equal.
    both = [subprocess.Popen([orrery, *use], env={**os.environ, **env}, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE) for _ in range(2)]
    out = [p.communicate(timeout=200) for p in both]
    third = run(orrery, *use, env=env)
    expect("status", [p.returncode for p in both] + [third.status], [0, 0, 0], third)
    said = sum(b"making an empty ext4" in e for _, e in out)
    expect("makers", said, 1)
    expect("third says only its digest", len(third.err.splitlines()), 1, third)
    expect("output", [o for o, _ in out], [third.out] * 2)
    expect("digests", [e.decode().splitlines()[-1] for _, e in out], [third.err.strip()] * 2)
    expect("guest", third.out.decode().splitlines(), [
        "1", "lost+found", "/dev/vda on /mnt/disk0 type ext4", "/dev/vdb on /mnt/b type ext4"])
    made = sorted(os.listdir(os.path.join(scratch, "cache/orrery/disks")))
    expect("files", [n.split("-")[0] for n in made], ["ext4"] * 2)
    # Made anew it is the same to the bit.
    image = os.path.join(scratch, "cache/orrery/disks", made[0])
    with open(image, "rb") as f:
        before = f.read()
    os.unlink(image)
    again = run(orrery, *use, env=env)
    expect("status", again.status, 0, again)
    with open(image, "rb") as f:
        expect("same bytes", f.read() == before, True)


def btrfs(orrery, scratch):
    """A btrfs template; on it, private copies are reflinks."""
    tool("mkfs.btrfs", "btrfs-progs")
    got = boot(orrery, CLOUD_6_12, "--disk", "fs=btrfs,size=512M,name=data", command=sh(
        "mount | grep -o '/mnt/data type btrfs'; echo hello >/mnt/data/x; cat /mnt/data/x"))
    expect("output", got.out, b"/mnt/data type btrfs\nhello\n", got)
    test = os.environ.get("HOST_DISK_TEST")
    if not test:
        raise Skip("HOST_DISK_TEST does not name the unit test of the disks; meson sets it")
    got = boot(orrery, CLOUD_6_12, "--disk", "fs=btrfs,size=512M", "--env", "TMPDIR=/mnt/disk0",
               "--env", "ORRERY_TEST_REFLINK=1", command=[test])
    expect_in("unit test", "PASSED", got.out.decode() + got.err, got)


# --- the host's trouble ---------------------------------------------------------------------------

def shrinks(orrery, scratch):
    """Somebody cuts the file while a guest reads and writes it: I/O errors there, one message here."""
    disk = sparse(scratch, "disk", 32 << 20)
    text = ("echo ready; while dd if=/dev/vda of=/dev/null bs=64k skip=400 count=8 iflag=direct "
            "2>/dev/null; do :; done; echo failed; dd if=/dev/zero of=/dev/vda bs=4k seek=8000 count=1 "
            "oflag=direct 2>/dev/null || echo failed")
    p = subprocess.Popen([orrery, "run", "--kernel", kernel(orrery, CLOUD_6_12), "--clock", "real",
                          "--timeout", str(int(100 * SLOW)), "--disk", disk, "--", *sh(text)],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        expect("first line", p.stdout.readline(), b"ready\n")
        os.truncate(disk, 4 << 20)
        out, err = p.communicate(timeout=120 * SLOW)
    finally:
        p.kill()
    expect("guest", out, b"failed\nfailed\n")
    expect_in("why", "its size changed from 33554432 to 4194304 bytes", err.decode())
    expect_in("what", "the guest gets I/O errors", err.decode())


def refused(orrery, scratch):
    """What cannot be a disk: a line each, and status 125."""
    empty, odd = sparse(scratch, "empty", 0), sparse(scratch, "odd", 1000)
    good = sparse(scratch, "good", 1 << 20)
    table = [
        ("none", "No such file"), (scratch, "a directory"), (empty, "is empty"),
        (odd, "not a multiple of 512"), (odd + ",ro", "not a multiple of 512"),
        ("/dev/null", "neither"), ("size=0", "some"), ("size=1000", "did you mean"),
        (good + ",rw", "rw is unknown"), (good + ",ro,cow", "exclude"), (good + ",size=1M", "size="),
        ("", "size=SIZE"), ("ro", "size=SIZE"), (good + ",", "nothing"), (good + ",ro=1", "no value"),
        (good + ",fs", "a value"), ("file", "./file"), (good + ",fs=ntfs", "ntfs"), (good + ",mount=/x", "file system"),
        (good + ",fs=ext4,mount=x", "absolute"), (good + ",fs=ext4,mount=/x,nomount", "exclude"),
        (good + ",name=a/b", "letters"), (good + ",serial=" + "x" * 21, "20"),
        (good + ",queues=0", "from 1 to 64"), (good + ",iops=0", "from 1"),
        (good + ",iops_burst=9", "needs iops="), (good + ",iops=9,iops_burst=8", "less than iops=9"),
        (good + ",bps=1x", "not a size"), ("size=1M,cow", "private anyway"),
        ("fs=ext4,size=1M", "at least 8"), ("fs=btrfs,size=100M", "at least 128"),
        ("fs=ext4,size=9000K", "whole MiB"),
    ]
    for text, words in table:
        got = run(orrery, "run", "--disk", text, "--", "true", limit=60)
        expect(f"status of --disk {text}", got.status, 125, got)
        expect("lines", len(got.err.splitlines()), 1, got)
        expect_in("message", words, got.err, got)
        expect_in("message", "--disk", got.err, got)
    for more in [good, good + ",ro", good + ",cow"]:
        got = run(orrery, "run", "--disk", good, "--disk", more, "--", "true", limit=60)
        expect("status of a disk twice", got.status, 125, got)
        expect_in("message", "in use as the disk", got.err, got)
    for a, b, words in [("size=1M,name=x", "size=2M,name=x", "the name x"),
                        (good + ",ro,fs=ext4,mount=/x", good + ",ro,fs=ext4,mount=/x", "at /x")]:
        got = run(orrery, "run", "--disk", a, "--disk", b, "--", "true", limit=60)
        expect("status", got.status, 125, got)
        expect_in("message", words, got.err, got)
    got = run(orrery, "run", "--disk", "fs=ext4", "--", "true", limit=60,
              env={"XDG_CACHE_HOME": "/proc"})
    expect("status without a cache", got.status, 125, got)


def busy(orrery, scratch):
    """In use by another Orrery; not any more when that one has been killed."""
    disk = sparse(scratch, "disk", 1 << 20)
    p = subprocess.Popen([orrery, "run", "--disk", disk, "--clock", "real", "--", *sh("echo on; sleep 99")],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        expect("first line", p.stdout.readline(), b"on\n")
        got = run(orrery, "run", "--disk", disk, "--", "true", limit=60)
    finally:
        p.kill()
        p.communicate()
    expect("status", got.status, 125, got)
    expect_in("message", "in use as the disk of another VM", got.err, got)
    boot(orrery, CLOUD_6_12, "--disk", disk, command=["true"])


if __name__ == "__main__":
    main([probe_6_1, probe_6_12, mkfs_6_1, mkfs_6_12, lasting, discard, fio_virtual, fio_real,
          fio_throttled, killed_raw, killed_ext4, template, overlay, btrfs, shrinks, refused, busy])
