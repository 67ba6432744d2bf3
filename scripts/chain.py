#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""chain.py - handlers of instructions go on to the next one by a jump, never by a call

A handler ends in NEXT or GO (src/cpu/soft/x86/vcpu.h): a call in tail position, which must have
become a jump. Where it has not (a local variable whose address got away, a destructor, an option),
the host's stack grows with every guest instruction until the turn ends. So the machine code of the
handlers is looked at: an indirect call is an error unless it is in a function listed below, and
even there if there are more of them, or what it calls was taken from an op.

usage: scripts/chain.py BUILD-DIR
"""

import pathlib
import re
import subprocess
import sys

# Functions that call through a pointer which is no op's handler, and how often.
CALLS = {
    "op_sys": 1,  # the table of system instructions
    "sys_rdtsc": 1,  # the clock
    "sys_int3": 1,  # the exception hook
    "op_vec_reg": 1,  # the thunk, here and below
    "op_vec_load": 1,
    "op_vec_store": 1,
    "op_vec_x87": 1,
    "op_avx_reg": 1,
    "op_avx_load": 1,
    "op_avx_load8": 1,
    "op_avx_store": 1,
    "op_avx_round_store": 1,
    "try_store": 1,
    "x87_split_store": 1,
    "run_code": 1,  # into host code
}
OP_SIZE = 0x20  # sizeof(struct op); its handler is at offset 0
FILES = ("ops_*", "jit")
JUMP = re.compile(r"\sjmp\s+\*")
CALL = re.compile(r"\scall\s+\*(\S+)")
HEAD = re.compile(r"^[0-9a-f]+ <([^>]+)>:$")
LOAD = re.compile(r"\smov\s+(-?(?:0x[0-9a-f]+)?\(%\w+\)),(%\w+)")
FROM_OP = re.compile(rf"^(?:\(%rsi\)|0x{OP_SIZE:x}\(%\w+\))$")


def check(path):
    """Returns (number of jumps through a pointer, complaints) of an object file."""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], capture_output=True,
                          text=True, check=True).stdout
    name, loaded, calls, jumps, bad = "?", {}, 0, 0, []
    for line in text.splitlines():
        if head := HEAD.match(line):
            # Parts that the compiler split off: op_x.cold, op_x.part.0, op_x.constprop.0
            name, loaded, calls = head[1].split(".")[0], {}, 0
        elif load := LOAD.search(line):
            loaded[load[2]] = load[1]
        elif JUMP.search(line):
            jumps += 1
        elif call := CALL.search(line):
            target = loaded.get(call[1], call[1])
            calls += 1
            if calls > CALLS.get(name, 0):
                bad.append(f"{path.name}: {name} calls through a pointer: {line.strip()}")
            elif FROM_OP.match(target):
                bad.append(f"{path.name}: {name} calls the next handler: {line.strip()}")
    return jumps, bad


def main():
    build = pathlib.Path(sys.argv[1])
    objects = sorted(p for f in FILES for p in build.rglob(f"cpu_soft_x86_{f}.c.o"))
    if not objects:
        print(f"chain: SKIP: {build} holds no handlers; building there would un-skip it")
        return 0
    jumps, bad = 0, []
    for path in objects:
        n, b = check(path)
        jumps += n
        bad += b
    if not jumps and not bad:
        print("chain: SKIP: in this build handlers return to a loop (-O0, or a sanitizer); an "
              "optimized build without sanitizers would un-skip it")
        return 0
    print("\n".join(bad), end="\n" if bad else "", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
