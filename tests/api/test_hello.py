#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_hello.py - the example of the C API does what it says

usage: HELLO=PROGRAM test_hello.py ORRERY
"""

import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))

import cli  # noqa: E402


def hello(orrery, scratch):
    got = subprocess.run([os.environ["HELLO"]], capture_output=True, timeout=180, check=False,
                         stdin=subprocess.DEVNULL)
    result = cli.Result(got.returncode, got.stdout, got.stderr.decode("utf-8", "replace"))
    cli.expect("status", result.status, 0, result)
    cli.expect_in("the guest's words", b"hello from orrery\n", result.out, result)
    if not re.search(rb"^status 0, [0-9.]+ s of guest time, digest [0-9a-f]{32}$", result.out, re.M):
        raise cli.Bad(f"no result\n{result.show()}")


if __name__ == "__main__":
    cli.main([hello], kernel=True)
