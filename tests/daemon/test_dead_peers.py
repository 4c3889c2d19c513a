"""Subscribers that vanish without a word: their machine, or the way to it, is gone.

A filter on the test's socket makes its kernel throw away whatever arrives for it: it acknowledges
nothing and answers nothing, as if the packets were lost. What the relay makes of the kernel's
figures is tested in tests/unit/net/test_dead_peer.cc; that it takes half a minute, here.
"""

import contextlib
import ctypes
import datetime
import errno
import os
import socket
import time
import unittest

from relay import KIB, SCALE, RelayCase, pump
from vanish import come_back, vanish

SYS_PIDFD_GETFD = 438


def end_of(relay, peer):
    """evrelay's end of the connection, which is to be closed."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(relay.pid)
    try:
        for number in os.listdir(f"/proc/{relay.pid}/fd"):
            fd = libc.syscall(SYS_PIDFD_GETFD, process, int(number), 0)
            if fd < 0:
                if ctypes.get_errno() == errno.EPERM:
                    raise unittest.SkipTest("one process may not look into another here")
                continue
            try:
                sock = socket.socket(fileno=fd)
            except OSError:  # another kind of file
                os.close(fd)
                continue
            with contextlib.suppress(OSError):
                if sock.getpeername() == peer.sock.getsockname():
                    return sock
            sock.close()
    finally:
        os.close(process)
    raise AssertionError("evrelay has no such connection")


class DeadPeers(RelayCase):
    def seconds_until_closed(self, relay, peer, since):
        """By the log, from `since` (of the wall clock) on; waits for it."""
        host, port = peer.sock.getsockname()
        line = relay.wait_log(
            rf"^(\S+)Z warn relay: subscriber {host}:{port} \(conidx \d+\) is closed: dead-peer; "
        )
        closed = datetime.datetime.fromisoformat(line[1] + "+00:00")
        return closed.timestamp() - since

    def test_who_is_away_for_a_moment_misses_nothing(self):
        relay = self.start()
        away, there = relay.subscribers(2)
        pump([away], lambda: not away.shaking)
        producer = relay.producer()
        vanish(away.sock)
        producer.relay(b"one", b"two")
        there.expect(b"one", b"two")
        began = time.monotonic()
        relay.wait_status(lambda s: time.monotonic() > began + 1, "a moment")
        self.assertEqual(away.events, [])
        come_back(away.sock)
        producer.relay(b"three")
        away.expect(b"one", b"two", b"three")
        self.assertEqual(relay.status()["subscribers"]["live"], 2)

    def test_what_the_kernel_finds_has_the_same_name(self):
        """By keepalive, made hasty for the test."""
        relay = self.start(
            lua="""event_route["evapi:connection-closed"] = function(evapi)
              evapi.relay("closed " .. evapi.reason)
            end"""
        )
        peers = gone, there = relay.subscribers(2)
        pump(peers, lambda: not gone.shaking and not there.shaking)
        for peer in peers:
            with end_of(relay, peer) as sock:
                self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)
                times = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                self.assertEqual([sock.getsockopt(socket.SOL_TCP, o) for o in times], [15, 5, 3])
                self.assertEqual(sock.getsockopt(socket.SOL_TCP, socket.TCP_USER_TIMEOUT), 0)
                for option in times:
                    sock.setsockopt(socket.SOL_TCP, option, 1)
        vanish(gone.sock)
        there.expect(b"closed dead-peer")
        status = relay.status()
        self.assertEqual(status["subscribers"]["closed"]["dead-peer"], 1)
        self.assertEqual(status["subscribers"]["live"], 1)
        # Nothing was due to it but the event that tells of its end.
        dropped = status["deliveries"]["dropped"]
        self.assertEqual(sum(dropped.values()), dropped["dead-peer"])

    @unittest.skipIf(SCALE < 20, "the long form only: it takes 100 s")
    def test_bar_25_dead_peers(self):
        """RELIABILITY bar 25: with data in flight: closed within 35 s, dead-peer; an idle one by
        keepalive; a live one with a closed window is never taken for dead."""
        quiet = self.start()
        idle, silent = quiet.subscribers(2)
        relay = self.start(send_buffer="64KiB")
        in_flight, away, reading, window_gone, closed = relay.subscribers(5)
        # Small packets cost this one more memory than it has promised, so that it takes its promise
        # back when some of them are in flight.
        closed_small = relay.subscriber(receive_buffer=4 * KIB)
        pump(
            quiet.peers + relay.peers,
            lambda: not any(p.shaking for p in quiet.peers + relay.peers),
        )
        producer = relay.producer()
        unread = (window_gone, closed, closed_small)
        for peer in unread:
            peer.paused = True
        read = (in_flight, away, reading)
        events = 0

        def say(size, count=1):
            nonlocal events
            for _ in range(count):
                events += 1
                event = (b"%d " % events).ljust(size, b".")
                self.assertEqual(producer.request("relay", event)[0], b"ok")

        say(20, 3000)
        say(60_000, 100)
        pump(read, lambda: all(len(peer.events) == events for peer in read))

        since = time.time()
        for peer in (idle, in_flight, away, window_gone):
            vanish(peer.sock)
        began = time.monotonic()

        def second_by_second(seconds):
            while time.monotonic() < began + seconds:
                say(20)
                pump(
                    [reading, away, silent],
                    lambda until=time.monotonic() + 1: time.monotonic() > until,
                )

        second_by_second(10)
        come_back(away.sock)
        second_by_second(36)
        for name, who, owner in (
            ("idle", idle, quiet),
            ("in flight", in_flight, relay),
            ("window closed", window_gone, relay),
        ):
            seconds = self.seconds_until_closed(owner, who, since)
            print(f"bar 25: {name}: closed after {seconds:.1f} s")
            self.assertGreater(seconds, 25)
            self.assertLess(seconds, 35)
        second_by_second(95)
        self.assertEqual(quiet.status()["subscribers"]["live"], 1)
        status = relay.status()
        self.assertEqual(status["subscribers"]["live"], 4)
        self.assertEqual(status["subscribers"]["closed"]["dead-peer"], 2)
        self.assertEqual(
            sum(status["deliveries"]["dropped"].values()),
            status["deliveries"]["dropped"]["dead-peer"],
        )
        # Who is there gets everything, however late.
        for peer in unread[1:]:
            peer.paused = False
        there = (away, reading, closed, closed_small)
        pump(there, lambda: all(len(peer.events) == events for peer in there))
        for peer in there:
            self.assertEqual([int(e.split()[0]) for e in peer.events], list(range(1, events + 1)))


if __name__ == "__main__":
    unittest.main()
