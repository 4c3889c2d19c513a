"""Thousands of subscribers: everybody gets everything, memory stays small, nothing leaks.

Run with --client HOST PORT COUNT this file is one process of the crowd: it connects, says so, reads
on its standard input how many bytes with which digest each connection is to get, says how many got
that, and ends with its standard input.
"""

import hashlib
import json
import os
import resource
import select
import socket
import subprocess
import sys
import unittest

import wire
from relay import KIB, OVER_TLS, SANITIZED, RelayCase, patience, plain_only, pump, scaled

TAG = 'event_route["evapi:message-received"] = function(evapi) evapi.set_tag(evapi.msg) end'
SUBSCRIBERS = 10_000
PROCESSES = 2
EVENTS = 100


def client(host, port, count):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    peers = {}
    for _ in range(count):
        sock = socket.create_connection((host, port))
        sock.setblocking(False)
        peers[sock.fileno()] = sock
    print("connected", flush=True)
    order = json.loads(sys.stdin.readline())
    left = dict.fromkeys(peers, order["bytes"])
    digests = {fd: hashlib.sha256() for fd in peers}
    right = 0
    with select.epoll() as epoll:
        for fd in peers:
            epoll.register(fd, select.EPOLLIN)
        while left:
            for fd, _ in epoll.poll():
                chunk = peers[fd].recv(65536)
                digests[fd].update(chunk)
                left[fd] -= len(chunk)
                if not chunk or left[fd] <= 0:
                    right += left.pop(fd) == 0 and digests[fd].hexdigest() == order["digest"]
                    epoll.unregister(fd)
    print(json.dumps({"right": right}), flush=True)
    sys.stdin.read()


class ManySubscribers(RelayCase):
    def setUp(self):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if hard < SUBSCRIBERS + 1000:
            self.skipTest(f"needs a hard limit of {SUBSCRIBERS + 1000} open files, not {hard}")

    def crowd(self, relay, count):
        process = subprocess.Popen(
            [sys.executable, __file__, "--client", "127.0.0.1", str(relay.port), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        process.stdin.close()
        process.stdout.close()
        process.wait()

    def line(self, process):
        self.assertTrue(select.select([process.stdout], [], [], patience(60))[0], "it is silent")
        return process.stdout.readline()

    @plain_only("the crowd has none")
    def test_ten_thousand_subscribers(self):
        """All 10,000 get all 100 events; an idle one costs at most 512 bytes."""
        relay = self.start(max_clients=SUBSCRIBERS)
        producer = relay.producer()
        relay.subscriber().kill()
        relay.wait_status(lambda s: s["subscribers"]["live"] == 0, "warm")
        memory = relay.rss()
        crowd = [self.crowd(relay, SUBSCRIBERS // PROCESSES) for _ in range(PROCESSES)]
        for process in crowd:
            self.assertEqual(self.line(process), b"connected\n")
        relay.wait_status(lambda s: s["subscribers"]["live"] == SUBSCRIBERS, "all are in", 30)
        growth = (relay.rss() - memory) / SUBSCRIBERS
        print(f"# {growth:.0f} bytes for an idle subscriber")
        if not SANITIZED:
            self.assertLessEqual(growth, 512)
        events = [(b"event %d " % number).ljust(64, b".") for number in range(EVENTS)]
        stream = b"".join(map(wire.data, events))
        order = {"bytes": len(stream), "digest": hashlib.sha256(stream).hexdigest()}
        for process in crowd:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        for at in range(0, EVENTS, 10):
            requests = (wire.list_frame("relay", event) for event in events[at : at + 10])
            producer.send(b"".join(requests))
            producer.pump(lambda: len(producer.answers) == 10, 30)
            self.assertEqual(producer.answers, [[b"ok", b"%d" % SUBSCRIBERS]] * 10)
            producer.answers.clear()
        right = sum(json.loads(self.line(process))["right"] for process in crowd)
        self.assertEqual(right, SUBSCRIBERS)
        status = relay.status()
        self.assertEqual(status["deliveries"]["written"], SUBSCRIBERS * EVENTS)
        for process in crowd:
            self.end(process)
        status = relay.wait_status(lambda s: s["subscribers"]["live"] == 0, "all are gone", 30)
        self.assertEqual(sum(status["subscribers"]["closed"].values()), SUBSCRIBERS + 1)
        self.assertLess(relay.open_files(), 50)

    def test_bar_12_no_leak(self):
        """RELIABILITY bar 12: connect/tag/relay/close cycles: RSS slope < 1 KiB per 1,000."""
        relay = self.start(lua=TAG)
        producer = relay.producer()
        cycles = scaled(100_000)

        def run(count):
            for _ in range(count // 50):
                subscribers = relay.subscribers(50)
                handled = relay.status()["messages"]["handled"]
                for number, subscriber in enumerate(subscribers):
                    subscriber.send(wire.data(b"tag %d" % number))
                subscribers[0].send(b"5:hello,3:ha")
                relay.wait_status(
                    lambda s, n=handled: s["messages"]["handled"] == n + 51,
                    "all have tags",
                    peers=subscribers,
                )
                self.assertEqual(producer.request("relay", "x" * 1000), [b"ok", b"50"])
                self.assertEqual(producer.request("unicast", "y", "tag 49"), [b"ok", b"1"])
                pump(subscribers, lambda peers=subscribers: all(s.events for s in peers))
                for number, subscriber in enumerate(subscribers):
                    if number % 2:
                        subscriber.kill()
                    else:
                        subscriber.close()
                relay.peers[:] = [producer]
                relay.wait_status(
                    lambda s: s["subscribers"]["live"] + s["subscribers"]["closing"] == 0, "gone"
                )

        run(cycles // 5)
        memory, files = relay.rss(), relay.open_files()
        run(cycles)
        self.assertEqual(relay.open_files(), files)
        if not SANITIZED:
            growth = relay.rss() - memory
            print(f"# {growth / cycles * 1000:.0f} bytes for 1,000 cycles")
            # Some pages come and go whatever is done, the script's heap among them; OpenSSL has more of them.
            self.assertLess(growth, max(cycles / 1000, 256 if OVER_TLS else 64) * KIB)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        client(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        unittest.main()
