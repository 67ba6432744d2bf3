#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kernel.py - runs a test program that boots Linux, if there is a kernel for it

usage: kernel.py ORRERY PROGRAM [ARG...]
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))

import cli  # noqa: E402

try:
    cli.need_kernel(sys.argv[1])
except cli.Skip as why:
    print(f"SKIP: {why}")
    sys.exit(cli.SKIP)
os.execv(sys.argv[2], sys.argv[2:])
