"""SIGHUP: what a running relay takes over, what it names as needing a restart, and bad files."""

import signal
import unittest

import wire
from relay import IS_ROOT, KIB, RelayCase, connect_as, pump, scaled


class Reload(RelayCase):
    def test_nothing_has_changed(self):
        relay = self.start()
        subscriber = relay.subscriber()
        producer = relay.producer()
        self.assertNotIn("restart", relay.reload())
        producer.relay(b"hello")
        subscriber.expect(b"hello")

    def test_log_level(self):
        relay = self.start(log={"level": "warn"})
        start = len(relay.log)
        relay.write_config(log={"level": "info"})
        relay.signal(signal.SIGHUP)
        relay.wait_log(" info ", start=start)
        relay.reload(log={"level": "debug"})
        relay.producer().send(b"oops")
        relay.wait_log(" warn ", start=start)

    def test_max_clients(self):
        relay = self.start(max_clients=1)
        relay.subscriber()
        relay.subscriber(wait=False).expect_end(None)
        relay.reload(max_clients=2)
        held = relay.subscriber()
        relay.subscriber(wait=False).expect_end(None)
        # Fewer than there are: those stay, nobody else comes in.
        relay.reload(max_clients=1)
        relay.producer().relay(b"hello")
        held.expect(b"hello")
        held.kill()
        relay.wait_status(lambda s: s["subscribers"]["live"] == 1, "one is gone")
        relay.subscriber(wait=False).expect_end(None)

    def test_slow_subscriber(self):
        relay = self.start(
            send_buffer="16KiB",
            max_event="64KiB",
            slow_subscriber={"policy": "block", "max_lag": "1MiB", "stall_timeout": "10min"},
        )
        stalled = relay.subscriber(receive_buffer=4 * KIB)
        stalled.paused = True
        producer = relay.producer()
        producer.send(wire.data(b"x" * 60_000) * 100)
        producer.pump(lambda: relay.status()["loop"]["holds"] > 0)
        self.assertTrue(producer.outgoing)
        # A policy that does not hold: the rest is taken.
        relay.reload(slow_subscriber={"policy": "skip"})
        producer.flush()
        producer.ping()
        self.assertGreater(relay.status()["deliveries"]["dropped"]["skipped"], 0)
        self.assertEqual(relay.status()["subscribers"]["live"], 1)
        # More room: nothing more is skipped.
        relay.reload(slow_subscriber={"max_lag": "64MiB"})
        skipped = relay.status()["deliveries"]["dropped"]["skipped"]
        producer.relay(*[b"x" * 60_000] * 100)
        producer.ping()
        self.assertEqual(relay.status()["deliveries"]["dropped"]["skipped"], skipped)
        # Less room, and the first policy again: it goes at once or with the next event.
        relay.reload(slow_subscriber={"max_lag": "1MiB", "policy": "disconnect"})
        producer.relay(b"x")
        relay.wait_status(lambda s: s["subscribers"]["closed"]["slow-subscriber"] == 1, "closed")

    def test_stall_timeout(self):
        relay = self.start(
            send_buffer="16KiB",
            max_event="64KiB",
            slow_subscriber={"policy": "block", "max_lag": "1MiB", "stall_timeout": "10min"},
        )
        relay.reload(slow_subscriber={"stall_timeout": "100ms"})
        stalled = relay.subscriber(receive_buffer=4 * KIB)
        stalled.paused = True
        producer = relay.producer()
        producer.send(wire.data(b"x" * 60_000) * 100)
        producer.flush()
        relay.wait_status(lambda s: s["subscribers"]["closed"]["stalled"] == 1, "stalled")

    def test_max_event(self):
        relay = self.start(max_event="1KiB")
        producer = relay.producer()
        event = b"x" * 2000
        self.assertEqual(producer.request("relay", event)[1], b"too-big")
        relay.reload(max_event="2KiB")
        self.assertEqual(producer.request("relay", event), [b"ok", b"0"])
        relay.reload(max_event="1KiB")
        self.assertEqual(producer.request("relay", event)[1], b"too-big")

    def test_max_message(self):
        relay = self.start(max_message="1KiB")
        subscriber = relay.subscriber()
        relay.reload(max_message="2KiB")
        subscriber.send(wire.data(b"x" * 2000))
        relay.wait_status(lambda s: s["messages"]["received"] == 1, "received")
        relay.reload(max_message="1KiB")
        subscriber.send(wire.data(b"x" * 2000))
        subscriber.expect_end("eof")

    def test_bad_frame(self):
        relay = self.start()
        subscriber = relay.subscriber()
        relay.reload(bad_frame="discard")
        subscriber.send(b"oops")
        relay.wait_status(lambda s: s["messages"]["discarded_bytes"] == 4, "discarded")
        relay.reload(bad_frame="close")
        subscriber.send(b"oops")
        subscriber.expect_end("eof")

    def test_max_connections(self):
        relay = self.start(producer={"max_connections": 1})
        relay.producer().ping()
        relay.producer().expect_end(None)
        relay.reload(producer={"max_connections": 2})
        relay.producer().ping()
        relay.producer().expect_end(None)

    @unittest.skipUnless(IS_ROOT, "needs root to connect as another user")
    def test_allow(self):
        relay = self.start(producer={"mode": "0666", "allow": [{"uid": 2001}]})
        subscriber = relay.subscriber()
        producer = relay.adopt(connect_as(relay.producer_path, 2001, 2001))
        self.assertEqual(producer.request("relay", "one"), [b"ok", b"1"])
        relay.reload(producer={"allow": [{"uid": 2002}]})
        # It counts for connections that are already there.
        self.assertEqual(producer.request("relay", "two")[:2], [b"error", b"forbidden"])
        relay.reload(producer={"allow": [{"uid": 2001}]})
        self.assertEqual(producer.request("relay", "three"), [b"ok", b"1"])
        subscriber.expect(b"one", b"three")

    def test_drain(self):
        relay = self.start(drain="10min", send_buffer="4KiB")
        relay.reload(drain="100ms")
        stalled = relay.subscriber(receive_buffer=4 * KIB)
        stalled.paused = True
        producer = relay.producer()
        producer.relay(*[b"x" * 60_000] * 20)
        producer.ping()
        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait(5), 0)

    def test_what_needs_a_restart_is_named_and_not_changed(self):
        relay = self.start()
        elsewhere = relay.directory + "/elsewhere.sock"
        for key, changes in (
            ("bind_addr", {"bind_addr": "127.0.0.2:0"}),
            ("netstring_format", {"netstring_format": False}),
            ("producer.socket", {"producer": {"socket": elsewhere}}),
            ("producer.mode", {"producer": {"mode": "0600"}}),
            ("producer.user", {"producer": {"user": 1}}),
            ("producer.group", {"producer": {"group": 1}}),
            ("control.socket", {"control": {"socket": elsewhere + "2"}}),
            ("control.mode", {"control": {"mode": "0660"}}),
            ("log.target", {"log": {"target": relay.directory + "/log"}}),
        ):
            with self.subTest(key):
                text = relay.reload(**changes)
                self.assertRegex(text, rf"(?m)^\S+Z warn daemon: .*\b{key}\b.*restart")
        self.assertEqual(relay.status()["listen"], [f"127.0.0.1:{relay.port}"])
        subscriber, producer = relay.subscriber(), relay.producer()
        producer.relay(b"hello")
        subscriber.expect(b"hello")

    def test_a_bad_file_changes_nothing_and_says_why(self):
        relay = self.start(max_clients=1)
        relay.subscriber()
        bad = "bind_addr: 127.0.0.1:0\nmax_clients: 5\nmax_events: 1KiB\nbad_frame: discard\n"
        start = len(relay.log)
        relay.write_config(text=bad)
        relay.signal(signal.SIGHUP)
        relay.wait_log(r" error daemon: .*evrelay\.yaml:3:1: .*max_event", start=start)
        relay.turn()
        relay.subscriber(wait=False).expect_end(None)
        self.assertEqual(relay.status()["subscribers"]["live"], 1)
        # A good one is still taken.
        relay.reload(max_clients=2)
        relay.subscriber()

    def test_flags_still_beat_the_file(self):
        relay = self.start(args=["--log-level", "info"], log={"level": "info"})
        start = len(relay.log)
        relay.write_config(log={"level": "error"})
        relay.signal(signal.SIGHUP)
        relay.wait_log("reload: done", start=start)

    def test_bar_17_reloads_under_load(self):
        """RELIABILITY bar 17: good and bad files alternating, under load: 0 dropped, 0 lost."""
        relay = self.start(slow_subscriber={"max_lag": "64MiB"})
        subscribers = relay.subscribers(5)
        producer = relay.producer()
        reloads = scaled(1000)
        sent = 0
        for number in range(reloads):
            start = len(relay.log)
            if number % 2:
                relay.write_config(text="no_such_key: 1\n")
                wanted = "reload: nothing has changed"
            else:
                relay.write_config(max_clients=100 + number)
                wanted = "reload: done"
            producer.send(b"".join(wire.data(b"%d" % n) for n in range(sent, sent + 200)))
            sent += 200
            relay.signal(signal.SIGHUP)
            pump([producer, *subscribers], lambda at=start, line=wanted: line in relay.log[at:])
        pump([producer, *subscribers], lambda: all(len(s.events) == sent for s in subscribers))
        for subscriber in subscribers:
            self.assertEqual(subscriber.events, [b"%d" % n for n in range(sent)])
        dropped = relay.status()["deliveries"]["dropped"]
        self.assertEqual(sum(dropped.values()), 0)


if __name__ == "__main__":
    unittest.main()
