"""Graceful stop: what was answered `ok` arrives, in bounded time; a second signal ends it now."""

import os
import signal
import time
import unittest

import wire
from relay import KIB, RelayCase, patience, pump


class Stop(RelayCase):
    def test_an_idle_relay_stops_at_once(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                relay = self.start()
                began = time.monotonic()
                relay.signal(number)
                self.assertEqual(relay.wait(), 0)
                self.assertLess(time.monotonic() - began, patience(1))
                self.assertFalse(os.path.exists(relay.producer_path))
                self.assertFalse(os.path.exists(relay.control_path))

    def test_idle_peers_do_not_hold_it_up(self):
        relay = self.start()
        subscribers = relay.subscribers(5)
        producer = relay.producer()
        producer.ping()
        began = time.monotonic()
        relay.signal(signal.SIGTERM)
        pump([*subscribers, producer], lambda: all(p.ended for p in [*subscribers, producer]))
        for peer in [*subscribers, producer]:
            peer.close()
        self.assertEqual(relay.wait(), 0)
        self.assertLess(time.monotonic() - began, patience(2))

    def test_bar_15_every_event_answered_ok_reaches_the_live_ones(self):
        """RELIABILITY bar 15: SIGTERM under load, 10 of 100 stalled: exit 0 ≤ drain + 1 s."""
        drain = 2
        relay = self.start(
            drain=f"{drain}s", send_buffer="64KiB", slow_subscriber={"max_lag": "64MiB"}
        )
        live = relay.subscribers(90)
        stalled = relay.subscribers(10, receive_buffer=4 * KIB)
        for peer in stalled:
            peer.paused = True
        producers = [relay.producer() for _ in range(3)]
        for name, producer in enumerate(producers):
            producer.outgoing += b"".join(
                wire.list_frame("relay", (b"%d %d " % (name, n)).ljust(KIB)) for n in range(4000)
            )
        pump([*producers, *live], lambda: len(live[0].events) > 500)
        relay.signal(signal.SIGTERM)
        began = time.monotonic()
        pump(
            [*producers, *live],
            lambda: all(p.ended for p in [*producers, *live]),
            drain + 5,
            "all are closed",
        )
        self.assertEqual(relay.wait(drain + 1), 0)
        self.assertLess(time.monotonic() - began, patience(drain + 1))
        answered = set()
        for name, producer in enumerate(producers):
            oks = [answer[0] == b"ok" for answer in producer.answers]
            count = sum(oks)
            self.assertLess(count, 4000, "the load had ended before the signal")
            # First the events that were taken, then refusals.
            self.assertEqual(oks, [True] * count + [False] * (len(oks) - count))
            for answer in producer.answers[count:]:
                self.assertEqual(answer[:2], [b"error", b"draining"])
            answered |= {b"%d %d" % (name, n) for n in range(count)}
        for subscriber in live:
            self.assertEqual(subscriber.ended, "eof")
            self.assertEqual(subscriber.decoder.pending, 0)
            got = {event.rstrip() for event in subscriber.events}
            self.assertEqual(answered - got, set())
            self.assertEqual(got - answered, set())
        self.assertFalse(os.path.exists(relay.producer_path))

    def test_data_frames_that_were_written_before_the_signal_are_relayed(self):
        relay = self.start()
        subscriber = relay.subscriber()
        producer = relay.producer()
        producer.ping()
        events = [b"%d" % n for n in range(1000)]
        producer.relay(*events)
        relay.signal(signal.SIGTERM)
        subscriber.expect_end("eof")
        self.assertEqual(subscriber.events, events)
        self.assertEqual(relay.wait(), 0)

    def test_one_that_talks_late_loses_nothing_that_was_answered_ok(self):
        """What a closed socket is told is answered by a reset, which takes along what is unread."""
        relay = self.start()
        subscriber = relay.subscriber(receive_buffer=4 * KIB)
        subscriber.paused = True
        producer = relay.producer()
        events = [(b"%d " % n).ljust(KIB, b".") for n in range(150)]
        for event in events:
            self.assertEqual(producer.request("relay", event), [b"ok", b"1"])
        relay.turn()
        self.assertEqual(relay.status()["deliveries"]["written"], len(events))
        relay.signal(signal.SIGTERM)
        relay.wait_status(lambda s: s["subscribers"]["closing"] == 1, "all is sent and ended")
        subscriber.send(wire.data(b"hello"))
        subscriber.paused = False
        subscriber.expect_end("eof")
        self.assertEqual(subscriber.events, events)
        self.assertEqual(relay.wait(), 0)

    def test_nobody_is_let_in_while_it_drains(self):
        relay = self.start(drain="5s", send_buffer="4KiB")
        stalled = self.stalled(relay)
        relay.signal(signal.SIGTERM)
        relay.wait_status(lambda s: s["state"] != "running", "it drains")
        self.assertRaises(OSError, relay.subscriber, wait=False)
        self.assertRaises(OSError, relay.producer)
        stalled.paused = False
        stalled.expect_end("eof")
        self.assertEqual(len(stalled.events), 20)
        stalled.close()
        self.assertEqual(relay.wait(), 0)

    def test_a_stalled_subscriber_is_cut_at_drain(self):
        relay = self.start(drain="1s", send_buffer="4KiB")
        self.stalled(relay)
        began = time.monotonic()
        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait(), 0)
        took = time.monotonic() - began
        self.assertGreater(took, 0.9)
        self.assertLess(took, patience(2))

    def test_a_second_signal_ends_it_at_once(self):
        """RELIABILITY bar 15: second SIGTERM < 1 s, exit 1."""
        relay = self.start(drain="60s", send_buffer="4KiB")
        self.stalled(relay)
        relay.signal(signal.SIGTERM)
        relay.wait_status(lambda s: s["state"] != "running", "it drains")
        began = time.monotonic()
        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait(), 1)
        self.assertLess(time.monotonic() - began, patience(1))

    def test_the_books_balance_while_it_drains(self):
        relay = self.start(drain="5s", send_buffer="4KiB")
        stalled = self.stalled(relay)
        relay.signal(signal.SIGTERM)
        status = relay.wait_status(lambda s: s["state"] != "running", "it drains")
        relay.check_balance(status)
        self.assertGreater(status["deliveries"]["queued"], 0)
        stalled.kill()
        self.assertEqual(relay.wait(), 0)

    def stalled(self, relay):
        """A subscriber with 1.2 MB due that it does not read."""
        subscriber = relay.subscriber(receive_buffer=4 * KIB)
        subscriber.paused = True
        producer = relay.producer()
        producer.relay(*[b"x" * 60_000] * 20)
        producer.ping()
        producer.close()
        return subscriber


if __name__ == "__main__":
    unittest.main()
