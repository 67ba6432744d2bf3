#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_examples.py - the examples of the C API do what they say

usage: EXAMPLE=PROGRAM test_examples.py ORRERY hello|exec
"""

import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))

import cli  # noqa: E402


def example():
    got = subprocess.run([os.environ["EXAMPLE"]], capture_output=True, timeout=180, check=False,
                         stdin=subprocess.DEVNULL)
    result = cli.Result(got.returncode, got.stdout, got.stderr.decode("utf-8", "replace"))
    cli.expect("status", result.status, 0, result)
    return result


def hello(orrery, scratch):
    result = example()
    cli.expect_in("the guest's words", b"hello from orrery\n", result.out, result)
    if not re.search(rb"^status 0, [0-9.]+ s of guest time, digest [0-9a-f]{32}$", result.out, re.M):
        raise cli.Bad(f"no result\n{result.show()}")


def exec_(orrery, scratch):
    result = example()
    cli.expect("the guest's words", result.out, b"written\n", result)
    cli.expect_in("the status", "status is 3\n", result.err, result)


exec_.__name__ = "exec"

if __name__ == "__main__":
    cli.main([hello, exec_], kernel=True)
