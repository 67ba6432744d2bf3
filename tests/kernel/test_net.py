#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_net.py - stock kernels with network cards: downloads, forwards, iperf3, the echo, two cards

usage: test_net.py ORRERY [CASE...]

The servers run on the host's loopback, on ports that the host picks; nothing beyond it is needed.
"""

import functools
import hashlib
import http.client
import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
import time

from kernel import CLOUD_6_1, CLOUD_6_12, Bad, Skip, boot, expect, expect_in, kernel, main
from cli import SLOW, run

BLOB = 8 << 20


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_PUT(self):
        self.server.put = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.end_headers()


class Server:
    """Serves @scratch, with a file "blob" in it, and takes uploads."""

    def __init__(self, scratch):
        self.blob = os.urandom(BLOB)
        with open(os.path.join(scratch, "blob"), "wb") as f:
            f.write(self.blob)
        handler = functools.partial(Quiet, directory=scratch)
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.put = None
        self.port = self.http.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.http.shutdown()
        self.http.server_close()


def md5(data):
    return hashlib.md5(data).hexdigest()


def download(orrery, scratch, package):
    """The card is found, configured, and works, under both clocks, with one and several queues."""
    with Server(scratch) as server:
        script = f"""
            set -e
            cat /sys/class/net/eth0/mtu
            cat /etc/resolv.conf
            for i in 1 2; do
                wget -q -O - http://10.0.2.2:{server.port}/blob | md5sum
            done
            ls -d /sys/class/net/eth0/queues/rx-* | wc -l"""
        for clock, cpus in ("virtual", 1), ("real", 3):
            got = boot(orrery, package, "--net", "user", "--clock", clock, "--cpus", str(cpus),
                       command=["sh", "-c", script])
            sum_line = md5(server.blob) + "  -"
            expect("what the guest saw", got.out.decode().splitlines(),
                   ["16384", "nameserver 10.0.2.3", sum_line, sum_line, str(cpus)], got)


def download_6_1(orrery, scratch):
    download(orrery, scratch, CLOUD_6_1)


def download_6_12(orrery, scratch):
    download(orrery, scratch, CLOUD_6_12)


def small_frames(orrery, scratch):
    """An Ethernet's MTU: what is sent is cut by the guest or by us, what comes is in small pieces."""
    with Server(scratch) as server:
        got = boot(orrery, CLOUD_6_12, "--net", "user,mtu=1500", command=[
            "sh", "-c", f"wget -q -O - http://10.0.2.2:{server.port}/blob | md5sum"])
        expect("sum", got.out.decode(), md5(server.blob) + "  -\n", got)


def dhcp(orrery, scratch):
    """libslirp's server answers busybox' client with what init has set by itself."""
    got = boot(orrery, CLOUD_6_12, "--net", "user,mac=02:00:00:12:34:56", command=[
        "sh", "-c", "cat /sys/class/net/eth0/address; ip addr flush dev eth0;"
        "printf '#!/bin/sh\\n[ $1 = bound ] && echo $ip $router $dns; true' >/tmp/s;"
        "chmod +x /tmp/s; udhcpc -i eth0 -n -q -s /tmp/s 2>/dev/null"])
    expect("address, lease", got.out.split(),
           [b"02:00:00:12:34:56", b"10.0.2.15", b"10.0.2.2", b"10.0.2.3"], got)


def start(orrery, package, *args, command):
    return subprocess.Popen(
        [orrery, "run", "--kernel", kernel(orrery, package), *args, "--", *command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def await_line(process, wanted):
    line = process.stdout.readline()
    if line.strip() != wanted:
        process.kill()
        raise Bad(f"the guest said {line!r}, not {wanted!r}: {process.stderr.read()[-2000:]!r}")


def forward(orrery, scratch):
    """Connections and datagrams from the host reach the guest, which waits for them at its pace."""
    tcp, udp = free_port(), free_port(socket.SOCK_DGRAM)
    program = os.environ["NETECHO"]
    script = f"""
        NETECHO={program}
        mkdir /www; head -c 3000000 /dev/urandom >/www/blob; md5sum </www/blob >/www/sum
        httpd -p 80 -h /www
        $NETECHO udp 99 &
        echo ready; while [ ! -e /tmp/done ]; do sleep 1; done"""
    guest = start(orrery, CLOUD_6_12, "--net", f"user,hostfwd=tcp:{tcp}-:80,hostfwd=udp:{udp}-:99",
                  "--timeout", str(int(100 * SLOW)), "--include", program, command=["sh", "-c", script])
    try:
        await_line(guest, b"ready")
        for _ in range(3):
            c = http.client.HTTPConnection("127.0.0.1", tcp, timeout=60 * SLOW)
            c.request("GET", "/sum")
            want = c.getresponse().read().split()[0].decode()
            c = http.client.HTTPConnection("127.0.0.1", tcp, timeout=60 * SLOW)
            c.request("GET", "/blob")
            expect("sum of the file that the guest served", md5(c.getresponse().read()), want)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(30 * SLOW)
            for size in 20, 1472, 9000, 60000:
                data = os.urandom(size)
                s.sendto(data, ("127.0.0.1", udp))
                expect(f"datagram of {size} bytes", s.recv(65536) == data, True)
    finally:
        guest.terminate()
        guest.communicate()


def iperf(orrery, scratch):
    """Both ways, several connections."""
    if not shutil.which("iperf3"):
        raise Skip("iperf3 is not installed (make deps does it)")
    port = free_port()
    server = subprocess.Popen(["iperf3", "-s", "-B", "127.0.0.1", "-p", str(port)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.2)
        for way in [], ["-R"], ["-P", "4"]:
            got = boot(orrery, CLOUD_6_12, "--net", "user", "--mem", "1G", "--cpus", "2", command=[
                "iperf3", "-c", "10.0.2.2", "-p", str(port), "-n", "40M", *way])
            expect_in("the end", b"iperf Done", got.out, got)
        # Segments too large for libslirp's window made every other of these wait for 15 seconds.
        got = boot(orrery, CLOUD_6_12, "--net", "user", "--mem", "1G", "--stats", "--include",
                   shutil.which("iperf3"), command=["sh", "-c", f"""
            for i in 1 2 3 4 5 6; do
                iperf3 -R -c 10.0.2.2 -p {port} -n 10M >/dev/null || exit 1
            done"""])
        expect("six of them take less than 8 s", got.stat("guest_s") < 8, True, got)
    finally:
        server.kill()
        server.wait()


def echo(orrery, scratch):
    """Every frame comes back right; two runs are equal to the bit, also with several queues."""
    program = os.environ["NETECHO"]
    for package, cpus in (CLOUD_6_1, "1"), (CLOUD_6_12, "4"):
        two = [run(orrery, "run", "--kernel", kernel(orrery, package), "--net", "loopback",
                   "--cpus", cpus, "--digest", "--stats", "--", program, "eth0", "3000")
               for _ in range(2)]
        for got in two:
            expect("status", got.status, 0, got)
            expect_in("the program", b"3000 frames", got.out, got)
        expect("digest of the second run", two[1].digest(), two[0].digest())
        expect("time of the second run", two[1].stat("guest_s"), two[0].stat("guest_s"))


def exact_without_traffic(orrery, scratch):
    """A network in user space of which nothing comes leaves a run exact; ARP's answers are its own."""
    two = [run(orrery, "run", "--kernel", kernel(orrery, CLOUD_6_12), "--net", "user", "--seed",
               seed, "--digest", "--", "sh", "-c",
               "cat /sys/class/net/eth0/address; arping -c 2 -I eth0 10.0.2.2; sleep 100")
           for seed in ("5", "5", "6")]
    for got in two:
        expect("status", got.status, 0, got)
        expect("seconds are few, since nobody is waited for", got.seconds < 60, True, got)
    expect("digest", two[1].digest(), two[0].digest())
    macs = [got.out.split()[0] for got in two]
    expect("addresses of equal and other seeds", (macs[0] == macs[1], macs[0] == macs[2]),
           (True, False))


def two_cards(orrery, scratch):
    """Networks of their own, the first the way out; a third without a cable."""
    with Server(scratch) as server:
        script = f"""
            cat /sys/class/net/eth?/address | sort -u | wc -l
            cat /sys/class/net/eth2/carrier
            ip -o -4 addr | awk '{{ print $2, $4 }}'
            ip route | grep default | head -1
            cat /etc/resolv.conf
            for a in 10.0.2.2 10.0.3.2; do
                wget -q -O - http://$a:{server.port}/blob | md5sum
            done"""
        got = boot(orrery, CLOUD_6_12, "--net", "user", "--net", "user,mtu=9000", "--net", "none",
                   command=["sh", "-c", script])
    lines = got.out.decode().splitlines()
    expect("how many hardware addresses", lines.pop(0), "3", got)
    expect("carrier, addresses", lines[:4],
           ["0", "lo 127.0.0.1/8", "eth0 10.0.2.15/24", "eth1 10.0.3.15/24"], got)
    expect_in("the way out", "via 10.0.2.2 dev eth0", lines[4], got)
    expect("DNS", lines[5:7], ["nameserver 10.0.2.3", "nameserver 10.0.3.3"], got)
    expect("sums", lines[7:], [md5(server.blob) + "  -"] * 2, got)


def resets(orrery, scratch):
    """The driver goes and comes back in the middle of traffic; offloads are switched off and on."""
    with Server(scratch) as server:
        url = f"http://10.0.2.2:{server.port}/blob"
        script = f"""
            set -e
            dev=$(basename $(readlink /sys/class/net/eth0/device))
            for i in 1 2 3; do
                wget -q -O /dev/null {url} 2>/dev/null & sleep 0.05
                echo $dev >/sys/bus/virtio/drivers/virtio_net/unbind
                kill $! 2>/dev/null || true
                echo $dev >/sys/bus/virtio/drivers/virtio_net/bind
                ip link set eth0 up
                ip addr add 10.0.2.15/24 dev eth0
            done
            wget -q -O - {url} | md5sum"""
        got = boot(orrery, CLOUD_6_12, "--net", "user", command=["sh", "-c", script])
        expect("sum", got.out.decode(), md5(server.blob) + "  -\n", got)


def passt(orrery, scratch):
    if not shutil.which("passt"):
        raise Skip("passt is not installed (Debian's package passt)")
    with Server(scratch) as server:
        url = f"http://10.0.2.2:{server.port}/blob"
        got = run(orrery, "run", "--kernel", kernel(orrery, CLOUD_6_12), "--net", "passt", "--",
                  "sh", "-c", f"wget -q -O - {url} | md5sum")
        if got.status == 125 and "passt did not start" in got.err:
            raise Skip(f"passt does not run here (it makes namespaces): {got.err.strip()}")
        expect("status", got.status, 0, got)
        expect("sum", got.out.decode(), md5(server.blob) + "  -\n", got)


def tap(orrery, scratch):
    """Through an interface of the host's: needs the right to make one."""
    name = f"orr{os.getpid() % 100000}"
    made = subprocess.run(["ip", "tuntap", "add", "dev", name, "mode", "tap"], check=False,
                          capture_output=True) if shutil.which("ip") else None
    if not made or made.returncode:
        raise Skip("cannot make a tap interface (needs root with CAP_NET_ADMIN, and iproute2)")
    try:
        subprocess.run(["ip", "addr", "add", "10.77.0.1/24", "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        with Server(scratch) as server:
            relay = socket.create_server(("10.77.0.1", 0))
            threading.Thread(target=serve_blob, args=(relay, server.blob), daemon=True).start()
            got = boot(orrery, CLOUD_6_12, "--net", f"tap={name},ip=10.77.0.2/24,gw=10.77.0.1",
                       command=["sh", "-c", f"nc 10.77.0.1 {relay.getsockname()[1]} | md5sum"])
            expect("sum", got.out.decode(), md5(server.blob) + "  -\n", got)
    finally:
        subprocess.run(["ip", "link", "del", name], check=False)


def serve_blob(listener, blob):
    c, _ = listener.accept()
    c.sendall(blob)
    c.close()


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    main([download_6_1, download_6_12, small_frames, dhcp, forward, iperf, echo,
          exact_without_traffic, two_cards, resets, passt, tap])
