# SPDX-License-Identifier: Apache-2.0
"""test_console.py - 64 KiB each way through the serial console of a user's own initramfs, exact"""

import hashlib
import os
import random
import shutil
import subprocess
import threading

from kernel import CLOUD_6_12, Skip, expect, kernel, main
from cli import cpio

SIZE = 65536
APPLETS = ("sh", "mount", "stty", "head", "cat", "md5sum", "poweroff")
INIT = f"""#!/bin/sh
mount -t devtmpfs dev /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty raw -echo
echo READY
head -c {SIZE} >/input
md5sum </input
cat /input
poweroff -f
"""


def console(orrery, scratch):
    busybox = shutil.which("busybox")
    if not busybox:
        raise Skip("no busybox on this host; the package busybox-static has it")
    with open(busybox, "rb") as f:
        files = [("dev", 0o40755, b""), ("bin", 0o40755, b""), ("bin/busybox", 0o100755, f.read()),
                 ("init", 0o100755, INIT.encode())]
    files += [(f"bin/{name}", 0o120777, b"busybox") for name in APPLETS]
    with open(f"{scratch}/initrd", "wb") as f:
        f.write(cpio(files))

    data = random.Random(3).randbytes(SIZE)
    with subprocess.Popen([orrery, "run", "--engine", "soft", "--kernel",
                           kernel(orrery, CLOUD_6_12), "--initrd", f"{scratch}/initrd", "--timeout",
                           "120"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guest:
        said = b""
        while b"READY" not in said and (more := os.read(guest.stdout.fileno(), 4096)):
            said += more
        # More than a pipe holds: written while the answer is read.
        writer = threading.Thread(target=lambda: (guest.stdin.write(data), guest.stdin.flush()))
        writer.start()
        said += guest.stdout.read()
        writer.join()
        status = guest.wait()
    expect("status", status, 0)
    expect("the guest got it all", hashlib.md5(data).hexdigest().encode() in said, True)
    expect("and sent it back", data in said, True)


if __name__ == "__main__":
    main([console])
