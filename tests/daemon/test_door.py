"""Who may come in, how many of one address, and how many a second."""

import os
import time
import unittest

from relay import OVER_TLS, SANITIZED, RelayCase, Subscriber, connect, pump

HAS_IPV6 = os.path.exists("/proc/net/if_inet6")


def refused(relay, reason):
    return relay.status()["subscribers"]["refused"][reason]


class DoorCase(RelayCase):
    def assert_in(self, relay, *peers):
        """These get an event, and nobody else."""
        answer = relay.producer().request("relay", "hello")
        self.assertEqual(answer, [b"ok", b"%d" % len(peers)])
        for peer in peers:
            peer.expect(b"hello")

    def assert_out(self, relay, reason, address=None, source=None):
        """One more from there is closed, without a byte, and counted."""
        before = refused(relay, reason)
        peer = Subscriber(address or relay.address, source=source)
        self.addCleanup(peer.close)
        peer.expect_end(None)
        self.assertEqual((peer.events, refused(relay, reason)), ([], before + 1))


class PerIp(DoorCase):
    def test_an_address_has_so_many_over_all_listeners(self):
        relay = self.start(
            max_clients_per_ip=3, bind_addr=["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"]
        )
        held = [relay.subscriber(address, source="127.0.0.1") for address in relay.addresses]
        for address in relay.addresses:
            self.assert_out(relay, "per-ip", address, source="127.0.0.1")
        others = [relay.subscriber(source="127.0.0.5") for _ in range(3)]
        self.assert_out(relay, "per-ip", source="127.0.0.5")
        self.assert_in(relay, *held, *others)
        self.assertEqual(refused(relay, "full"), 0)
        relay.wait_log(
            r" warn subscriber: 127\.0\.0\.1:\d+ is turned away: its address has "
            r"max_clients_per_ip \(3\) places"
        )

    def test_a_place_that_gets_free_is_taken_by_the_next(self):
        relay = self.start(max_clients_per_ip=1)
        ends = (Subscriber.kill, Subscriber.half_close, lambda peer: peer.send(b"oops"))
        for end in ends * 3:
            subscriber = relay.subscriber()
            self.assert_out(relay, "per-ip")
            end(subscriber)
            if subscriber.sock.fileno() >= 0:
                subscriber.expect_end(None)
                subscriber.close()
            relay.wait_status(
                lambda s: s["subscribers"]["live"] + s["subscribers"]["closing"] == 0, "it is gone"
            )

    def test_many_are_turned_away_with_few_words(self):
        relay = self.start(max_clients_per_ip=1)
        relay.subscriber()
        began = time.monotonic()
        for _ in range(200):
            Subscriber(relay.address).close()
        relay.wait_status(
            lambda s: s["subscribers"]["refused"]["per-ip"] == 200, "all are turned away"
        )
        seconds = time.monotonic() - began
        lines = [line for line in relay.log_lines if "max_clients_per_ip" in line]
        self.assertLessEqual(len(lines), 11 * (seconds + 1))

    def test_a_handshake_takes_a_place(self):
        relay = self.start(max_clients_per_ip=2)
        if OVER_TLS:
            silent = [connect(relay.address) for _ in range(2)]
            for sock in silent:
                self.addCleanup(sock.close)
            relay.wait_status(lambda s: s["tls"]["handshaking"] == 2, "both are let in")
            self.assert_out(relay, "per-ip")
            self.assertEqual(relay.status()["subscribers"]["accepted"], 0)
            for sock in silent:
                sock.close()
            relay.wait_status(lambda s: s["tls"]["handshaking"] == 0, "both have left")
        # The place goes from the handshake to the subscriber.
        held = relay.subscribers(2)
        self.assert_out(relay, "per-ip")
        self.assert_in(relay, *held)

    def test_unix_peers_are_not_counted(self):
        path = os.path.join(self.directory(), "subscribers.sock")
        relay = self.start(max_clients_per_ip=1, bind_addr=["unix:" + path, "127.0.0.1:0"])
        held = relay.subscribers(10, path) + relay.subscribers(1, relay.addresses[1])
        self.assert_out(relay, "per-ip", relay.addresses[1])
        self.assert_in(relay, *held)

    @unittest.skipUnless(HAS_IPV6, "no IPv6 here")
    def test_ipv6(self):
        relay = self.start(max_clients_per_ip=1, bind_addr=["[::1]:0", "127.0.0.1:0"])
        held = [relay.subscriber(address) for address in relay.addresses]
        for address in relay.addresses:
            self.assert_out(relay, "per-ip", address)
        self.assert_in(relay, *held)

    def test_a_reload_changes_it_for_new_connections(self):
        relay = self.start()
        held = relay.subscribers(5)
        relay.reload(max_clients_per_ip=3)
        self.assert_out(relay, "per-ip")
        self.assert_in(relay, *held)
        relay.reload(max_clients_per_ip=6)
        held += relay.subscribers(1)
        self.assert_out(relay, "per-ip")
        relay.reload(max_clients_per_ip=None)
        held += relay.subscribers(5)
        self.assert_in(relay, *held)


class AcceptRate(DoorCase):
    def crowd(self, relay, count, address=None):
        """These connect at once; the kernel takes them whether or not evrelay does."""
        return relay.subscribers(count, address, wait=False)

    def assert_kept(self, relay, began, rate):
        """No more have come in than may have since `began`."""
        accepted = relay.status()["subscribers"]["accepted"]
        self.assertLessEqual(accepted, rate * (1 + time.monotonic() - began) + 1)
        return accepted

    def test_so_many_come_in_a_second_and_the_others_wait(self):
        relay = self.start(accept_rate=50)
        began = time.monotonic()
        crowd = self.crowd(relay, 120)
        accepted = 0

        def look():
            nonlocal accepted
            accepted = self.assert_kept(relay, began, 50)
            return accepted == len(crowd)

        pump(crowd, look)
        self.assertGreater(time.monotonic() - began, 1.35)
        self.assert_in(relay, *crowd)
        status = relay.status()
        self.assertEqual(sum(status["subscribers"]["refused"].values()), 0)
        self.assertGreater(status["loop"]["accept_pauses"], 0)
        relay.wait_log(r" info subscriber: accept_rate \(50 a second\) is reached")

    def test_who_waits_costs_nothing_and_delays_nobody(self):
        relay = self.start(accept_rate=1)
        subscriber = relay.subscriber()
        crowd = self.crowd(relay, 100)
        relay.turn()
        cpu, turns = relay.cpu_seconds(), relay.status()["loop"]["turns"]
        began = time.monotonic()
        pump([subscriber], lambda: time.monotonic() > began + 1)
        turns = relay.status()["loop"]["turns"] - turns
        if not SANITIZED:
            self.assertLess((relay.cpu_seconds() - cpu) / (time.monotonic() - began), 0.05)
        self.assertLess(turns, 100)
        producer = relay.producer()
        producer.relay(b"hello")
        subscriber.expect(b"hello")
        # They leave, and are no burden either.
        for peer in crowd:
            peer.close()
        producer.relay(b"again")
        subscriber.expect(b"again")

    def test_a_crowd_at_one_door_does_not_keep_the_others_closed(self):
        for besieged in range(3):
            with self.subTest(besieged):
                relay = self.start(
                    accept_rate=5, bind_addr=["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"]
                )
                self.crowd(relay, 100, relay.addresses[besieged])
                others = [a for a in relay.addresses if a != relay.addresses[besieged]]
                late = [relay.subscriber(address, wait=False) for address in others]
                producer = relay.producer()

                def served(late=late, producer=producer):
                    producer.relay(b"hello")
                    return all(peer.events for peer in late)

                pump(late, served)
                # They have each had their turn, and not only after all the others.
                self.assertLess(relay.status()["subscribers"]["accepted"], 60)
                relay.stop()

    def test_who_is_turned_away_uses_nothing_up(self):
        relay = self.start(accept_rate=1, max_clients_per_ip=1)
        relay.subscriber()
        # There would be a second between any two of these.
        began = time.monotonic()
        relay.subscribers(30, wait=False)
        relay.wait_status(
            lambda s: s["subscribers"]["refused"]["per-ip"] == 30, "all are turned away"
        )
        if not SANITIZED:
            self.assertLess(time.monotonic() - began, 15)

    def test_a_reload_changes_it_at_once(self):
        relay = self.start(accept_rate=1)
        crowd = self.crowd(relay, 100)
        self.assertLess(relay.status()["subscribers"]["accepted"], 90)
        relay.reload(accept_rate=0)
        relay.wait_status(
            lambda s: s["subscribers"]["accepted"] == 100, "all are let in", peers=crowd
        )
        relay.reload(accept_rate=1)
        began = time.monotonic()
        self.crowd(relay, 50)
        relay.turn()
        accepted = relay.status()["subscribers"]["accepted"]
        self.assertLessEqual(accepted, 100 + 2 + time.monotonic() - began)

    def test_a_drain_does_not_wait_for_them(self):
        relay = self.start(accept_rate=1)
        relay.subscriber()
        self.crowd(relay, 20)
        relay.stop()


class Allow(DoorCase):
    """bind_addr.allow; what it may say is tested with the configuration."""

    SOURCES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.1.1", "127.128.0.1")

    def test_every_source_against_every_network(self):
        for allow, inside in (
            (["0.0.0.0/0"], set(self.SOURCES)),
            (["127.0.0.0/8"], set(self.SOURCES)),
            (["127.0.0.0/9"], {"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.1.1"}),
            (["127.0.0.0/24"], {"127.0.0.1", "127.0.0.2", "127.0.0.3"}),
            (["127.0.0.2/31"], {"127.0.0.2", "127.0.0.3"}),
            (["127.0.0.2"], {"127.0.0.2"}),
            (["127.0.0.1/32", "127.128.0.0/16"], {"127.0.0.1", "127.128.0.1"}),
            (["10.0.0.0/8", "::/0"], set()),
        ):
            with self.subTest(allow):
                relay = self.start(bind_addr={"addr": "127.0.0.1:0", "allow": allow})
                held = []
                for source in self.SOURCES:
                    if source in inside:
                        held.append(relay.subscriber(source=source))
                    else:
                        self.assert_out(relay, "not-allowed", source=source)
                self.assert_in(relay, *held)
                if len(held) < len(self.SOURCES):
                    relay.wait_log(
                        r" warn subscriber: 127\.\d+\.\d+\.\d+:\d+ is turned away: "
                        rf"127\.0\.0\.1:{relay.port} does not allow its address"
                    )
                relay.stop()

    def test_each_listener_has_its_own(self):
        relay = self.start(
            bind_addr=[{"addr": "127.0.0.1:0", "allow": ["127.0.0.2"]}, "127.0.0.2:0"]
        )
        narrow, wide = relay.addresses
        held = [
            relay.subscriber(narrow, source="127.0.0.2"),
            relay.subscriber(wide, source="127.0.0.2"),
            relay.subscriber(wide, source="127.0.0.1"),
        ]
        self.assert_out(relay, "not-allowed", narrow, source="127.0.0.1")
        self.assert_in(relay, *held)

    @unittest.skipUnless(HAS_IPV6, "no IPv6 here")
    def test_ipv6(self):
        for allow, inside in ((["::1"], True), (["::/127"], True), (["2001:db8::/32"], False),
                              (["0.0.0.0/0"], False)):
            with self.subTest(allow):
                relay = self.start(bind_addr={"addr": "[::1]:0", "allow": allow})
                if inside:
                    self.assert_in(relay, relay.subscriber())
                else:
                    self.assert_out(relay, "not-allowed")
                relay.stop()

    @unittest.skipUnless(HAS_IPV6, "no IPv6 here")
    def test_ipv4_does_not_come_in_by_a_listener_for_ipv6(self):
        relay = self.start(bind_addr={"addr": "[::]:0", "allow": ["0.0.0.0/0", "::/0"]})
        with self.assertRaises(ConnectionRefusedError):
            Subscriber(("127.0.0.1", relay.port))
        self.assert_in(relay, relay.subscriber(("::1", relay.port)))

    def test_who_is_not_allowed_takes_no_place(self):
        relay = self.start(
            max_clients=1,
            max_clients_per_ip=1,
            accept_rate=2,
            bind_addr=[{"addr": "127.0.0.1:0", "allow": ["127.0.0.2"]}, "127.0.0.2:0"],
        )
        for _ in range(20):
            self.assert_out(relay, "not-allowed", source="127.0.0.1")
        self.assertEqual(relay.status()["loop"]["accept_pauses"], 0)
        self.assert_in(relay, relay.subscriber(relay.addresses[1], source="127.0.0.1"))

    def test_a_flood_from_elsewhere(self):
        relay = self.start(bind_addr={"addr": "127.0.0.1:0", "allow": ["127.0.0.2"]})
        allowed = relay.subscriber(source="127.0.0.2")
        began = time.monotonic()
        flood = [Subscriber(relay.address, source="127.0.0.3") for _ in range(500)]
        pump(flood, lambda: all(peer.ended for peer in flood))
        for peer in flood:
            peer.close()
        self.assertEqual(refused(relay, "not-allowed"), 500)
        lines = [line for line in relay.log_lines if "does not allow" in line]
        self.assertLessEqual(len(lines), 11 * (time.monotonic() - began + 1))
        self.assert_in(relay, allowed)

    def test_a_reload_changes_it_for_new_connections(self):
        def listener(*allow):
            return {"addr": "127.0.0.1:0", "allow": list(allow)}

        relay = self.start(bind_addr=listener("127.0.0.1", "127.0.0.2"))
        held = [relay.subscriber(source=source) for source in ("127.0.0.1", "127.0.0.2")]
        relay.reload(bind_addr=listener("127.0.0.2", "127.0.0.3"))
        self.assert_out(relay, "not-allowed", source="127.0.0.1")
        held.append(relay.subscriber(source="127.0.0.3"))
        self.assert_in(relay, *held)


if __name__ == "__main__":
    unittest.main()
