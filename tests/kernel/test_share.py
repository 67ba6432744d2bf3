#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_share.py - directories of the host in stock guests (virtio-fs)

usage: test_share.py ORRERY [CASE...]

TWIN in the environment: the program built of fs_twin.c. What requests do one by one is tested
without a guest (tests/dev/test_fuse.c); here it is what a kernel and real programs make of them.
"""

import hashlib
import os
import shutil
import stat
import subprocess
import time

from kernel import CLOUD_6_1, CLOUD_6_12, Skip, boot, expect, expect_in, kernel, main
from cli import SLOW, run

# A project as they are: directories with makefiles of their own, a library in each, headers that
# others include, dependencies found by the compiler.
TOP = """\
# What uses a library comes before it.
DIRS = lib5 lib4 lib3 lib2 lib1 lib0
LIBS = $(foreach d,$(DIRS),$(d)/$(d).a)
all: app
app: main.o $(LIBS)
\tgcc -o $@ main.o $(LIBS)
main.o: main.c
\tgcc -O1 -Iinclude -MMD -c -o $@ $<
$(LIBS): FORCE
\t$(MAKE) --no-print-directory -C $(dir $@) $(notdir $@)
clean:
\trm -f app *.o *.d; for d in $(DIRS); do $(MAKE) --no-print-directory -C $$d clean; done
FORCE:
.PHONY: all clean FORCE
-include main.d
"""
SUB = """\
OBJS = $(patsubst %.c,%.o,$(wildcard *.c))
{name}.a: $(OBJS)
\trm -f $@; ar rcD $@ $(OBJS); echo made >>../made
%.o: %.c
\tgcc -O1 -I../include -MMD -c -o $@ $<; echo $< >>../compiled
clean:
\trm -f *.o *.d *.a
-include $(wildcard *.d)
"""
UNITS, PER_UNIT = 6, 10


def write_file(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def write_project(tree):
    """60 files in 6 libraries; two of each include the header that is changed later."""
    write_file(f"{tree}/Makefile", TOP)
    calls, protos = "", ""
    for d in range(UNITS):
        write_file(f"{tree}/lib{d}/Makefile", SUB.format(name=f"lib{d}"))
        write_file(f"{tree}/include/lib{d}.h",
                   f"#ifndef LIB{d}\n#define LIB{d}\n#define SALT{d} {d * 7 + 1}u\n" +
                   "".join(f"unsigned f{d}_{i}(unsigned x);\n" for i in range(PER_UNIT)) +
                   "#endif\n")
        for i in range(PER_UNIT):
            special = '#include "special.h"\n' if i % 5 == 0 else "#define SPECIAL 3u\n"
            below = f"f{d - 1}_{i}(x)" if d else "x"
            write_file(f"{tree}/lib{d}/f{i}.c",
                       f'#include "lib{d}.h"\n#include "lib{max(d - 1, 0)}.h"\n{special}'
                       f"static unsigned table[{50 + i}];\n"
                       f"unsigned f{d}_{i}(unsigned x)\n{{\n"
                       f"\tunsigned h = SALT{d} + SPECIAL, y = {below};\n\n"
                       f"\tfor (unsigned k = 0; k < {20 + i}; k++)\n"
                       f"\t\ttable[k] += h = h * 31 + (y >> k % 8);\n"
                       f"\treturn h + table[x % {50 + i}];\n}}\n")
        protos += f'#include "lib{d}.h"\n'
        calls += "".join(f"\t\tsum = sum * 17 + f{d}_{i}(n);\n" for i in range(PER_UNIT))
    write_file(f"{tree}/include/special.h", "#define SPECIAL 5u\n")
    write_file(f"{tree}/main.c", f"{protos}int printf(const char *, ...);\nint main(void)\n{{\n"
               "\tunsigned sum = 1;\n\tfor (unsigned n = 0; n < 200; n++) {\n" + calls +
               '\t}\n\tprintf("%08x\\n", sum);\n\treturn 0;\n}\n')


# The whole of it; nothing; what depends on a header; a library that was cleaned.
BUILDS = r"""
set -e
cd %s
: >compiled; : >made
count() { echo "$1: $(wc -l <compiled) files, $(wc -l <made) libraries, $(./app)"; : >compiled; : >made; }
make -s -j4; count first
make -s -j4; count again
sed s/5u/6u/ include/special.h >new; mv new include/special.h
make -s -j4; count header
make -s -C lib5 clean; test -z "$(find lib5 -name '*.[oad]')"; find . -name '*.o' | wc -l
make -s -j4; count clean
"""


def fresh(scratch, name):
    path = os.path.join(scratch, name)
    shutil.rmtree(path, ignore_errors=True)
    os.mkdir(path)
    return path


def stats(result):
    """The counters of --stats: the last word of a line is the value."""
    return {line.rsplit(None, 1)[0].strip(): line.rsplit(None, 1)[1]
            for line in result.err.splitlines() if len(line.split()) > 1}


def twin(orrery, scratch, package, words, *args, seeds="1 2", operations=4000):
    """Random operations on the share and on a tmpfs, which must agree."""
    share = fresh(scratch, "twin")
    got = boot(orrery, package, "--share", share + ":t" + words, "--stats", *args, "--include",
               os.environ["TWIN"] + ":/bin/fs_twin", command=["sh", "-c", f"""
        umask 0
        mkdir /tmp/model
        for seed in {seeds}; do
            mkdir /mnt/t/$seed /tmp/model/$seed
            fs_twin /mnt/t/$seed /tmp/model/$seed $seed {operations} || exit 1
        done"""])
    expect("passes", got.out.decode().count("PASS"), len(seeds.split()), got)
    return got


def model_6_12(orrery, scratch):
    twin(orrery, scratch, CLOUD_6_12, "")
    twin(orrery, scratch, CLOUD_6_12, "", "--clock", "real", "--cpus", "2")


def model_6_1(orrery, scratch):
    twin(orrery, scratch, CLOUD_6_1, "", "--cpus", "2")
    twin(orrery, scratch, CLOUD_6_1, ",cache=on", "--clock", "real")


def model_dax(orrery, scratch):
    """The same through a window, one so small that ranges are reclaimed."""
    for package, words, clock in ((CLOUD_6_12, ",dax=8M", "real"), (CLOUD_6_1, ",dax", "virtual")):
        got = twin(orrery, scratch, package, words, "--clock", clock, operations=2500)
        expect("some were mapped", int(stats(got)["share t dax setups"]) > 10, True, got)


def build(orrery, scratch):
    """A project of 67 files is built inside by the host's make and gcc, as the host builds it."""
    for tool in "make", "gcc", "ar":
        if not shutil.which(tool):
            raise Skip(f"the host has no {tool}")
    here, tree, one = (fresh(scratch, name) for name in ("here", "tree", "one"))
    for project in here, tree, one:
        write_project(project)
    want = subprocess.run(["sh", "-c", BUILDS % here], capture_output=True, text=True, check=False)
    expect("status on the host", want.returncode, 0, want.stderr)
    common = ("--mem", "1G", "--cpus", "2", "--share", "/")
    got = boot(orrery, CLOUD_6_12, *common, "--clock", "real", "--share", tree + ":tree", limit=900,
               command=["sh", "-c", BUILDS % "/mnt/tree" + "touch /usr/only-in-the-guest"])
    expect("what was built when, and what it says", got.out.decode(), want.stdout, got)
    expect("the host's root was not changed", os.path.exists("/usr/only-in-the-guest"), False)
    # The other kernel builds a library, at a date that is not before that of its sources.
    write_file(f"{one}/include/special.h", "#define SPECIAL 6u\n")
    boot(orrery, CLOUD_6_1, *common, "--rtc-base", str(int(time.time()) + 60), "--share",
         one + ":one", limit=500,
         command=["sh", "-ec", "cd /mnt/one; make -s -j4 -C lib5 lib5.a; make -q -C lib5 lib5.a"])
    # Not a byte of what they made differs, down to the objects in the libraries.
    made = [os.path.relpath(os.path.join(folder, name), here) for folder, _, names in os.walk(here)
            for name in names if name.endswith((".o", ".a", ".d")) or name == "app"]
    expect("files that were made", len(made), 1 + 2 + UNITS + 2 * UNITS * PER_UNIT)
    for name in made:
        for there in (tree, one) if name.startswith("lib5/") else (tree,):
            with open(os.path.join(here, name), "rb") as a, open(os.path.join(there, name), "rb") as b:
                expect(f"{name} in {there}", b.read() == a.read(), True)


RULES = r"""
    set -e
    cd /mnt/t
    umask 022
    # An open file outlives its name, and a name its file.
    echo one >f; exec 3<f; rm f; read line <&3; test $line = one; exec 3<&-
    echo new >g; exec 3<g; echo other >h; mv h g; read line <&3; test $line = new; exec 3<&-
    # Directories go with what is in them, and not into themselves.
    mkdir -p a/b/c; echo deep >a/b/c/f; mv a/b z; test "$(cat z/c/f)" = deep
    ! mv z z/c/z 2>/dev/null
    ! rmdir z 2>/dev/null
    ln z/c/f hard; echo more >>hard; test "$(cat z/c/f | wc -l)" = 2
    test "$(stat -c %h hard)" = 2; rm z/c/f; test "$(stat -c %h hard)" = 1
    ln -s nowhere dangling; ! cat dangling 2>/dev/null; test "$(readlink dangling)" = nowhere
    ln -s /etc/hostname abs
    truncate -s 1000000 hole; test "$(stat -c %s hole)" = 1000000
    rm -r z
"""
USERS = RULES + r"""
    as() { setpriv --reuid 1234 --regid 1234 --clear-groups "$@"; }
    echo secret >mine; chmod 600 mine
    mkdir open sticky; chmod 777 open; chmod 1777 sticky
    ! as cat mine 2>/dev/null
    ! as touch not-here 2>/dev/null
    as touch open/theirs; test "$(stat -c %u:%g open/theirs)" = 1234:1234
    as mkdir open/dir; as ln -s x open/link; as mkfifo open/fifo
    touch sticky/root; ! as rm -f sticky/root 2>/dev/null
    as touch sticky/own; as rm sticky/own
    ! as chmod 777 mine 2>/dev/null
    ! as chown 1234 mine 2>/dev/null
    chown 1234:1234 mine; as cat mine
    cp /usr/bin/true suid; chmod 4755 suid; echo x >open/w; chmod 6777 open/w; chown 1234 open/w
    as sh -c 'echo y >>open/w'; test "$(stat -c %a open/w)" = 777
    ! mknod open/disk b 8 0 2>/dev/null
    python3 -c 'import os
os.setxattr("mine", "user.note", b"hello")
assert os.getxattr("mine", "user.note") == b"hello" and "user.note" in os.listxattr("mine")
os.removexattr("mine", "user.note")
assert "user.note" not in os.listxattr("mine")'
"""


def rules(orrery, scratch):
    share = fresh(scratch, "rules")
    boot(orrery, CLOUD_6_12, "--share", share + ":t", command=["sh", "-c", RULES])
    expect("what it left", sorted(os.listdir(share)), ["a", "abs", "dangling", "g", "hard", "hole"])


def users(orrery, scratch):
    """Users of the guest have their own files, and may what they may."""
    if os.geteuid():
        raise Skip("only root can make files for other users; run as root")
    for tool in "setpriv", "python3":
        if not shutil.which(tool):
            raise Skip(f"the host has no {tool}; install util-linux and python3")
    for clock in "virtual", "real":
        share = fresh(scratch, "users")
        boot(orrery, CLOUD_6_1, "--mem", "1G", "--clock", clock, "--share", "/", "--share",
             share + ":t", command=["sh", "-c", USERS])
        sb = os.lstat(os.path.join(share, "open", "theirs"))
        expect("owner on the host", (sb.st_uid, sb.st_gid), (1234, 1234))
        sb = os.lstat(os.path.join(share, "open", "fifo"))
        expect("a FIFO", stat.S_ISFIFO(sb.st_mode), True)


def read_only(orrery, scratch):
    """Refused by the server: the guest's root may mount as it likes."""
    share = fresh(scratch, "ro")
    with open(os.path.join(share, "f"), "w") as f:
        f.write("text")
    os.symlink("/etc/passwd", os.path.join(share, "link"))
    before = os.stat(share).st_mtime_ns
    got = boot(orrery, CLOUD_6_12, "--share", share + ":t,ro", command=["sh", "-c", r"""
        cd /mnt/t
        cat f
        mount -o remount,rw /mnt/t || exit 1
        for try in 'echo x >f' 'echo x >>f' 'touch g' 'rm f' 'mkdir d' 'mv f g' 'ln f g' \
                   'ln -s a b' 'chmod 777 f' 'chown 1 f' 'truncate -s 0 f' 'mkfifo p'; do
            sh -c "$try" 2>/dev/null && echo "$try succeeded"
        done
        cat link"""], limit=60)
    expect("only what was there", got.out.decode().split("\n")[0][:4], "text", got)
    expect("successes", got.out.decode().count("succeeded"), 0, got)
    expect("entries", sorted(os.listdir(share)), ["f", "link"])
    expect("time of the directory", os.stat(share).st_mtime_ns, before)


def dax(orrery, scratch):
    """What is read through the window is never sent; writes through a mapping reach the file."""
    share = fresh(scratch, "dax")
    data = os.urandom(5 << 20)
    with open(os.path.join(share, "f"), "wb") as f:
        f.write(data)
    for package in CLOUD_6_12, CLOUD_6_1:
        got = boot(orrery, package, "--share", share + ":t,dax", "--stats", command=[
            "sh", "-c", "md5sum </mnt/t/f; printf abc | dd of=/mnt/t/f bs=1 seek=4200000 "
            "conv=notrunc 2>/dev/null; sync; cat /mnt/t/f >/dev/null"])
        seen = stats(got)
        expect("mappings", int(seen["share t dax setups"]) >= 3, True, got)
        expect("bytes mapped", int(seen["share t dax bytes"]) >= 5 << 20, True, got)
        expect("bytes read by requests", seen["share t bytes read"], "0", got)
        expect("bytes written by requests", seen["share t bytes written"], "0", got)
        with open(os.path.join(share, "f"), "rb") as f:
            now = f.read()
        data = data[:4200000] + b"abc" + data[4200003:]
        expect("the file has what the guest wrote", now == data, True, got)


def dax_two(orrery, scratch):
    """Two shares have windows of their own; a program runs from one, and from where it was before."""
    shares, words = [], []
    for name in "one", "two":
        shares.append(fresh(scratch, name))
        with open(os.path.join(shares[-1], "f"), "wb") as f:
            f.write(name.encode() * 700000)
        words += ["--share", f"{shares[-1]}:{name},dax"]
    program = shutil.which("busybox")
    if not program:
        raise Skip("the host has no busybox; install busybox-static")
    shutil.copy(program, os.path.join(shares[1], "busybox"))
    got = boot(orrery, CLOUD_6_12, *words, "--stats", command=["sh", "-ec", r"""
        for i in 1 2; do
            cat /mnt/one/f | md5sum; cat /mnt/two/f | md5sum
            /mnt/two/busybox sh -c 'echo program $((6 * 7))'
            # Another file where decoded code was.
            umount /mnt/two; mount -t virtiofs -o dax=always two /mnt/two
        done"""])
    sums = [hashlib.md5(name.encode() * 700000).hexdigest() + "  -" for name in ("one", "two")]
    expect("output", got.out.decode().splitlines(), (sums + ["program 42"]) * 2, got)
    for name in "one", "two":
        expect(f"mappings of {name}", int(stats(got)[f"share {name} dax setups"]) > 0, True, got)
        expect(f"bytes of {name} that were sent", stats(got)[f"share {name} bytes read"], "0", got)


def cut(orrery, scratch):
    """The host truncates a file that the guest has mapped: zeros, and the run goes on."""
    share = fresh(scratch, "cut")
    with open(os.path.join(share, "f"), "wb") as f:
        f.write(b"x" * (4 << 20))
    guest = subprocess.Popen(
        [orrery, "run", "--kernel", kernel(orrery, CLOUD_6_12), "--clock", "real", "--timeout",
         str(int(100 * SLOW)), "--share", share + ":t,dax,cache=on", "--share", scratch + ":go", "--", "sh", "-c",
         "cd /mnt/t; wc -c <f; cat f >/dev/null; echo up >/mnt/go/up;"
         "until [ -e /mnt/go/go ]; do sleep 0.1; done; tr -d '\\0' <f | wc -c"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + 60 * SLOW
    while not os.path.exists(os.path.join(scratch, "up")) and guest.poll() is None:
        if time.monotonic() > end:
            guest.kill()
        time.sleep(0.02)
    os.truncate(os.path.join(share, "f"), 4096)
    with open(os.path.join(scratch, "go"), "w", encoding="utf-8"):
        pass
    out, err = guest.communicate(timeout=100 * SLOW)
    expect("status", guest.returncode, 0, None)
    expect("size before, bytes that are not zero after", out.split(), [b"4194304", b"4096"])
    expect("words", err, b"")


def exact(orrery, scratch):
    """Two runs that read and write shares end in the same state, whatever the host's file system."""
    work = r"""cd /mnt/rw; cp -r ../ro/. copy; ls -laRi . ../ro >log; df . >>log; stat copy/* >>log
        mv copy copied; rm copied/f1; (i=0; while [ $i -lt 200 ]; do echo $i >n$i; i=$((i+1)); done) &
        find . -type f | head -50 | xargs cat | md5sum; wait; ls -i | tail -5; sync"""
    ro = fresh(scratch, "exact-ro")
    for i in range(20):
        with open(os.path.join(ro, f"f{i}"), "w") as f:
            f.write("x" * 997 * i)
        os.utime(os.path.join(ro, f"f{i}"), (10 ** 9, 10 ** 9))
    os.utime(ro, (10 ** 9, 10 ** 9))
    got = []
    for seed in "1", "1", "2":
        rw = fresh(scratch, "exact-rw")
        os.utime(rw, (10 ** 9, 10 ** 9))
        got.append(run(orrery, "run", "--kernel", kernel(orrery, CLOUD_6_12), "--cpus", "4",
                       "--share", ro + ":ro,ro", "--share", rw + ":rw", "--seed", seed, "--digest",
                       "--", "sh", "-c", work))
        expect("status", got[-1].status, 0, got[-1])
        with open(os.path.join(rw, "log"), encoding="utf-8") as f:
            got[-1].log = f.read()
        # Other inode numbers for the next.
        open(os.path.join(scratch, f"hole{len(got)}"), "w", encoding="utf-8").close()
    expect("listing", got[1].log, got[0].log)
    expect("output", got[1].out, got[0].out)
    expect("digest of one seed", got[1].digest(), got[0].digest())
    expect("another of another seed", got[2].digest() != got[0].digest(), True)


def live(orrery, scratch):
    """Under the real clock both sides see what the other does, and locks hold between them."""
    if not shutil.which("flock"):
        raise Skip("the host has no flock; install util-linux")
    share = fresh(scratch, "live")
    guest = subprocess.Popen(
        [orrery, "run", "--kernel", kernel(orrery, CLOUD_6_12), "--clock", "real", "--timeout",
         str(int(100 * SLOW)), "--share", share + ":t", "--include", "flock", "--", "sh", "-c",
         "cd /mnt/t; echo up >up; until grep -q second file 2>/dev/null; do sleep 0.1; done; cat file;"
         "flock lock sh -c 'echo held >held; until [ -e go ]; do sleep 0.1; done'; echo done"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def wait_for(name):
        end = time.monotonic() + 60 * SLOW
        while not os.path.exists(os.path.join(share, name)):
            if time.monotonic() > end or guest.poll() is not None:
                guest.kill()
                expect(f"{name} appears", guest.communicate(), "")
            time.sleep(0.02)

    wait_for("up")
    with open(os.path.join(share, "file"), "w", encoding="utf-8") as f:
        f.write("first\n")
        f.flush()
        time.sleep(0.3)
        f.write("second\n")
    wait_for("held")
    busy = subprocess.run(["flock", "-n", os.path.join(share, "lock"), "true"], check=False)
    with open(os.path.join(share, "go"), "w", encoding="utf-8"):
        pass
    out, err = guest.communicate(timeout=60 * SLOW)
    expect("output", out, b"first\nsecond\ndone\n", err)
    expect("status of flock on the host meanwhile", busy.returncode, 1)


def bad_input(orrery, scratch):
    share = fresh(scratch, "bad")
    with open(os.path.join(share, "file"), "w", encoding="utf-8"):
        pass
    os.mkdir(os.path.join(share, "same"))
    os.makedirs(os.path.join(share, "other", "same"))
    os.mkdir(os.path.join(share, "with space"))
    for args, why in (
            (["--share", ""], "needs a directory"),
            (["--share", ":t"], "needs a directory"),
            (["--share", share + "/none"], "No such file"),
            (["--share", share + "/file"], "not a directory"),
            (["--share", share + "/same", "--share", share + "/other/same"], "the same tag, same"),
            (["--share", share + "/same:x", "--share", share + "/other:x"], "the same tag, x"),
            (["--share", share + "/with space"], "cannot be a tag"),
            (["--share", share + ":a b"], "cannot be a tag"),
            (["--share", share + ":.."], "cannot be a tag"),
            (["--share", share + ":" + "x" * 37], "36 characters"),
            (["--share", share + ":/"], "only the host's own root"),
            (["--share", share + ":t,rw"], 'unknown setting "rw"'),
            (["--share", share + ":t,dax=3M"], "multiple of 2M"),
            (["--share", share + ":t,dax=x"], "dax"),
            (["--share", share + ":t,ro,"], "between two commas"),
            (["--share", "/proc"], "the kernel's own"),
            (["--share", "/", "--include", "/etc/passwd"], "--include"),
            (["--share", "/", "--", "no-such-command"], "no command")):
        got = run(orrery, "run", *args, *([] if "--" in args else ["--", "true"]))
        expect("status of " + " ".join(args), got.status, 125, got)
        expect("lines", len(got.err.splitlines()), 1, got)
        expect_in("the message", why, got.err, got)


if __name__ == "__main__":
    main([model_6_12, model_6_1, model_dax, build, rules, users, read_only, dax, dax_two, cut, exact, live,
          bad_input])
