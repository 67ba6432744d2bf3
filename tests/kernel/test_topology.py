# SPDX-License-Identifier: Apache-2.0
"""test_topology.py - the guest's own sysfs shows the CPUs, caches and nodes that were asked for

What to expect is computed here from the text of the shape alone. With --all, all presets are
booted instead of a few; with other words, only those cases.
"""

import re
import subprocess
import sys

from kernel import CLOUD_6_12, Bad, boot, expect, main

DUMP = r"""
cd /sys/devices/system
grep . cpu/online cpu/cpu*/topology/*_id cpu/cpu*/topology/*_list \
    cpu/cpu*/cache/index*/level cpu/cpu*/cache/index*/type cpu/cpu*/cache/index*/size \
    cpu/cpu*/cache/index*/shared_cpu_list node/online node/has_cpu node/node*/cpulist \
    node/node*/distance
grep -H MemTotal node/node*/meminfo
grep -E '^(processor|apicid|physical id|core id|siblings|cpu cores)' /proc/cpuinfo
grep MemTotal /proc/meminfo
"""

MIB = 1 << 20
MEM = 1024  # MiB, where nodes have no sizes of their own


class Shape:
    """@nodes: (LLCs, MiB of memory) per node."""

    def __init__(self, nodes, cores, threads, distances=None):
        self.nodes, self.cores, self.threads = nodes, cores, threads
        n = len(nodes)
        self.distances = distances or [[10 if a == b else 20 for b in range(n)] for a in range(n)]
        self.cpus = []  # (node, llc, core, thread) by number
        llc = 0
        for node, (llcs, _) in enumerate(nodes):
            for _ in range(llcs):
                self.cpus += [(node, llc, c, t) for c in range(cores) for t in range(threads)]
                llc += 1

    @classmethod
    def of(cls, text):
        n, l, c, t = map(int, re.fullmatch(r"(\d+)n(\d+)l(\d+)c(\d+)t", text).groups())
        return cls([(l // n, MEM // n)] * n, c, t)

    def where(self, wanted):
        return cpu_list(i for i, cpu in enumerate(self.cpus) if wanted(cpu))


def cpu_list(numbers):
    """The kernel's form: 0-3,8"""
    runs = []
    for i in sorted(numbers):
        if runs and runs[-1][1] == i - 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def bits(n):
    return (n - 1).bit_length()


def expected(shape):
    """All lines of the dump with a value that is known exactly."""
    want = {"cpu/online": shape.where(lambda _: True)}
    for i, (_, llc, core, _) in enumerate(shape.cpus):
        threads = shape.where(lambda x: x[1:3] == (llc, core))
        package = shape.where(lambda x: x[1] == llc)
        cpu = f"cpu/cpu{i}"
        want.update({
            f"{cpu}/topology/physical_package_id": str(llc),
            f"{cpu}/topology/core_id": str(core),
            f"{cpu}/topology/core_cpus_list": threads,
            f"{cpu}/topology/thread_siblings_list": threads,
            f"{cpu}/topology/package_cpus_list": package,
            f"{cpu}/topology/core_siblings_list": package,
            f"{cpu}/topology/die_cpus_list": package,
        })
        for index, (level, kind, size, shared) in enumerate((
                (1, "Data", 32, threads), (1, "Instruction", 32, threads),
                (2, "Unified", 1024, threads), (3, "Unified", 2048 * shape.cores, package))):
            cache = f"{cpu}/cache/index{index}"
            want.update({f"{cache}/level": str(level), f"{cache}/type": kind,
                         f"{cache}/size": f"{size}K", f"{cache}/shared_cpu_list": shared})
    want["node/online"] = cpu_list(range(len(shape.nodes)))
    want["node/has_cpu"] = cpu_list(n for n, (llcs, _) in enumerate(shape.nodes) if llcs)
    for node, row in enumerate(shape.distances):
        want[f"node/node{node}/cpulist"] = shape.where(lambda x: x[0] == node)
        want[f"node/node{node}/distance"] = " ".join(map(str, row))
    return want


def check_cpuinfo(shape, text):
    """APIC ids have a field of whole bits for the thread and for the core."""
    blocks = [dict(re.findall(r"^([\w ]+?)\s*: (\d+)$", block, re.M))
              for block in re.split(r"(?=^processor)", text, flags=re.M) if "apicid" in block]
    expect("blocks of /proc/cpuinfo", len(blocks), len(shape.cpus))
    tbits, cbits = bits(shape.threads), bits(shape.cores)
    for i, (_, llc, core, thread) in enumerate(shape.cpus):
        expect(f"/proc/cpuinfo of CPU {i}", blocks[i], {
            "processor": str(i), "physical id": str(llc), "core id": str(core),
            "siblings": str(shape.cores * shape.threads), "cpu cores": str(shape.cores),
            "apicid": str(llc << (tbits + cbits) | core << tbits | thread)})


def check_memory(shape, text):
    """The kernel keeps some for itself: page structures, its image, areas for each CPU."""
    own = 100 + len(shape.cpus) // 2
    got = {int(n): int(k) // 1024 for n, k in re.findall(r"Node (\d+) MemTotal:\s+(\d+) kB", text)}
    expect("nodes with memory", sorted(got), list(range(len(shape.nodes))))
    for node, (_, mib) in enumerate(shape.nodes):
        if not mib - own <= got[node] <= mib:
            raise Bad(f"node {node} has {got[node]} MiB of {mib}")


def check(orrery, shape, *args):
    result = boot(orrery, CLOUD_6_12, *args, command=["sh", "-c", DUMP], limit=600)
    text = result.out.decode()
    got = dict(re.findall(r"^((?:cpu|node)/[^:\n]+):(.*)$", text, re.M))
    want = expected(shape)
    wrong = [f"{k}: got {got.get(k)!r}, expected {want[k]!r}" for k in want
             if got.get(k, "") != want[k]]
    if wrong:
        raise Bad(f"{len(wrong)} of {len(want)} differ:\n  " + "\n  ".join(wrong[:20]))
    caches = [k for k in got if "/cache/" in k and k not in want]
    expect("caches that were not asked for", caches, [])
    check_cpuinfo(shape, text)
    check_memory(shape, text)


def presets(orrery):
    listed = subprocess.run([orrery, "topo"], capture_output=True, check=True).stdout.decode()
    return re.findall(r"^\s*([\w-]+)\s+(\d+n\d+l\d+c\d+t)\b", listed, re.M)


def preset_case(name, text):
    """The text is written down here too: a preset that changes its shape is another preset."""

    def case(orrery, _):
        expect("the preset's shape", dict(presets(orrery)).get(name), text)
        check(orrery, Shape.of(text), "--topology", name, "--mem", f"{MEM}M")

    case.__name__ = name
    return case


def explicit_nodes(orrery, _):
    """Two nodes with CPUs, unequal, and one of memory only, farther from one than the other."""
    distances = [[10, 21, 30], [21, 10, 17], [30, 17, 10]]
    shape = Shape([(2, 512), (1, 768), (0, 256)], 2, 2, distances)
    check(orrery, shape, "--topology", "3n3l2c2t", "--numa", "mem=512M,llcs=2", "--numa",
          "mem=768M,llcs=1", "--numa", "mem=256M,lat=300,bw=20480", "--numa-distances",
          "/".join(",".join(map(str, row)) for row in distances))


ALL = [preset_case(*x) for x in (
    ("tiny-1llc", "1n1l4c1t"), ("tiny-2llc", "1n2l2c1t"), ("odd-3llc", "1n3l3c1t"),
    ("odd-5llc", "1n5l3c1t"), ("odd-7llc", "1n7l2c1t"), ("smt-2llc", "1n2l2c2t"),
    ("smt-3llc", "1n3l2c2t"), ("medium-4llc", "1n4l4c2t"), ("medium-8llc", "1n8l4c2t"),
    ("large-4llc", "1n4l16c2t"), ("large-8llc", "1n8l8c2t"), ("near-max-llc", "1n15l8c2t"),
    ("max-cpu", "1n14l9c2t"), ("medium-4llc-nosmt", "1n4l8c1t"),
    ("medium-8llc-nosmt", "1n8l8c1t"), ("large-4llc-nosmt", "1n4l32c1t"),
    ("large-8llc-nosmt", "1n8l16c1t"), ("near-max-llc-nosmt", "1n15l16c1t"),
    ("max-cpu-nosmt", "1n14l18c1t"), ("numa2-4llc", "2n4l4c1t"), ("numa2-8llc", "2n8l8c2t"),
    ("numa2-8llc-nosmt", "2n8l16c1t"), ("numa4-8llc", "4n8l4c1t"), ("numa4-12llc", "4n12l8c2t"))]
FEW = ("odd-3llc", "smt-3llc", "numa2-4llc", "numa4-8llc", "max-cpu")

if __name__ == "__main__":
    everything = "--all" in sys.argv or len(sys.argv) > 2
    sys.argv = [x for x in sys.argv if x != "--all"]
    main([c for c in ALL if everything or c.__name__ in FEW] + [explicit_nodes])
