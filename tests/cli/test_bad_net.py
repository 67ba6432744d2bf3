#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_bad_net.py - what --net refuses: one line that says why, and status 125"""

import os
import shutil
import socket

import cli


def fails(orrery, scratch, nets, *words, before=()):
    kernel = cli.tiny_guest(os.path.join(scratch, "guest"), cli.CODE_EXIT_21)
    args = [w for net in nets for w in ("--net", net)]
    if before:
        got = cli.run(before[0], *before[1:], orrery, "run", "--kernel", kernel, *args, limit=60)
    else:
        got = cli.run(orrery, "run", "--kernel", kernel, *args, limit=60)
    cli.expect("status of " + " ".join(nets), got.status, 125, got)
    cli.expect("lines on standard error", len(got.err.splitlines()), 1, got)
    for word in words:
        cli.expect_in("the message", word, got.err, got)


def words(orrery, scratch):
    for net, word in (
            ("", "which network"),
            ("usr", "no such network"),
            ("user=x", "takes no value"),
            ("tap", "which interface"),
            ("tap=", "which interface"),
            ("user,bogus", "no such option"),
            ("user,mtu", "value is missing"),
            ("user,ip=10.0.0.1/8", "no such option"),
            ("loopback,hostfwd=tcp:1-:2", "no such option"),
            ("user,restrict=1", "takes no value"),
            ("user,mtu=100", "576"),
            ("user,mtu=32001", "32000"),
            ("tap=lo,mtu=65521", "65520"),
            ("user,queues=0", "from 1 to 8"),
            ("user,queues=9", "from 1 to 8"),
            ("user,mac=1", "write it as"),
            ("user,mac=02:00:00:00:00:000", "write it as"),
            ("user,mac=01:00:00:00:00:00", "must be even"),
            ("user,mac=00:00:00:00:00:00", "no address"),
            ("tap=lo,gw=10.0.0.1", "needs ip="),
            ("tap=lo,ip=10.0.0.1", "192.168.1.10/24"),
            ("tap=lo,ip=10.0.0.256/8", "192.168.1.10/24"),
            ("tap=lo,ip=10.0.0.1/33", "192.168.1.10/24"),
            ("tap=lo,ip=10.0.0.1/8x", "192.168.1.10/24"),
            ("tap=lo,ip=10.0.0.1/8,gw=gate", "192.168.1.1"),
            ("user,hostfwd=", "tcp:8080-:80"),
            ("user,hostfwd=tcp", "tcp:8080-:80"),
            ("user,hostfwd=icmp:1-:2", "tcp:8080-:80"),
            ("user,hostfwd=tcp:1", "tcp:8080-:80"),
            ("user,hostfwd=tcp:1-2", "tcp:8080-:80"),
            ("user,hostfwd=tcp:0-:2", "tcp:8080-:80"),
            ("user,hostfwd=tcp:8080-:65536", "tcp:8080-:80"),
            ("user,hostfwd=tcp:8080-:-1", "tcp:8080-:80"),
            ("user,hostfwd=tcp:host:8080-:80", "tcp:8080-:80"),
            ("user,hostfwd=tcp:8080-:80,hostfwd=tcp:8080-:81", "forwarded twice"),
            ("passt=" + "x" * 120, "too long")):
        fails(orrery, scratch, [net], "--net", word)


def hosts_refusal(orrery, scratch):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        fails(orrery, scratch, [f"user,hostfwd=tcp:{port}-:80"], f"port {port} is in use")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
        fails(orrery, scratch, [f"user,hostfwd=udp:{port}-:80"], f"port {port} is in use")
    fails(orrery, scratch, ["user,hostfwd=tcp:192.0.2.1:8080-:80"], "no such address")
    fails(orrery, scratch, ["tap=orrery-no-such"], "no interface orrery-no-such", "ip tuntap add")
    fails(orrery, scratch, ["tap=averylonginterfacename"], "no name of an interface")
    fails(orrery, scratch, ["passt=" + os.path.join(scratch, "none")], "cannot connect",
          "No such file")
    fails(orrery, scratch, ["user,mac=02:00:00:00:00:01", "none,mac=02:00:00:00:00:01"],
          "given twice")
    if os.path.exists("/dev/net/tun"):
        if os.access("/dev/net/tun", os.R_OK | os.W_OK):
            fails(orrery, scratch, ["tap=lo"], "lo is not a tap interface")
        else:
            fails(orrery, scratch, ["tap=lo"], "cannot open /dev/net/tun")


def not_permitted(orrery, scratch):
    if os.getuid() or not shutil.which("setpriv"):
        raise cli.Skip("only root can become somebody who may not (needs setpriv)")
    os.chmod(scratch, 0o755)
    copy = shutil.copy(orrery, os.path.join(scratch, "orrery"))
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
              "--bounding-set", "-all"]
    fails(copy, scratch, ["tap=lo"], "lo", before=nobody)
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as f:
        if int(f.read()) > 99:
            fails(copy, scratch, ["user,hostfwd=tcp:99-:80"], "not permitted", before=nobody)


def too_many(orrery, scratch):
    fails(orrery, scratch, ["none"] * 33, "32 slots")


cli.main([words, hosts_refusal, not_permitted, too_many])
