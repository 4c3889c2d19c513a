"""One order for all: every subscriber sees the same sequence, and each producer's own within it."""

import os
import signal
import unittest

import wire
from relay import RelayCase, pump, scaled

PRODUCERS = 8
SUBSCRIBERS = 20


class Order(RelayCase):
    def check(self, make_frame, answers):
        """8 producers write numbered events at once; returns when all 20 subscribers have all."""
        count = scaled(100_000)
        relay = self.start(slow_subscriber={"max_lag": "64MiB", "policy": "block"})
        subscribers = relay.subscribers(SUBSCRIBERS, raw=True)
        producers = [relay.producer() for _ in range(PRODUCERS)]
        total = 0
        for name, producer in enumerate(producers):
            events = [b"%d %d" % (name, number) for number in range(count)]
            total += sum(len(wire.data(event)) for event in events)
            producer.outgoing += b"".join(map(make_frame, events))
        pump(
            producers + subscribers,
            lambda: all(len(s.stream) >= total for s in subscribers)
            and all(len(p.answers) >= answers * count for p in producers),
            60,
            "all have all events",
        )
        first = bytes(subscribers[0].stream)
        for subscriber in subscribers:
            self.assertTrue(subscriber.stream == first, "two subscribers saw different sequences")
        decoder = wire.Decoder()
        numbers = [[] for _ in producers]
        for kind, event in decoder.feed(first):
            self.assertEqual(kind, wire.DATA)
            name, number = event.split()
            numbers[int(name)].append(int(number))
        self.assertEqual(decoder.pending, 0)
        for seen in numbers:
            self.assertEqual(seen, list(range(count)))
        return producers

    def test_bar_4_order_of_data_frames(self):
        """RELIABILITY bar 4: per producer strictly rising, one identical sequence for all."""
        self.check(wire.data, answers=0)

    def test_bar_4_order_of_requests(self):
        producers = self.check(lambda event: wire.list_frame("relay", event), answers=1)
        wanted = [b"ok", b"%d" % SUBSCRIBERS]
        for producer in producers:
            self.assertTrue(all(answer == wanted for answer in producer.answers))

    def test_no_producer_starves_beside_busy_ones(self):
        """Intake is shared: an event of a quiet producer does not wait for the busy ones to end."""
        relay = self.start(slow_subscriber={"max_lag": "64MiB", "policy": "block"})
        subscriber = relay.subscriber()
        busy = [relay.producer() for _ in range(4)]
        quiet = relay.producer()
        for producer in busy:
            producer.outgoing += wire.data(b"x" * 1000) * 8000
        pump([*busy, subscriber], lambda: len(subscriber.events) > 100)
        quiet.send(wire.list_frame("relay", "quiet"))
        pump([quiet, *busy, subscriber], lambda: quiet.answers)
        self.assertTrue(all(producer.outgoing for producer in busy), "they had ended already")
        pump([*busy, subscriber], lambda: len(subscriber.events) == 32_001, 30)
        self.assertIn(b"quiet", subscriber.events)

    def test_one_shot_producers_that_are_found_together(self):
        """One after the other they came, and so their events go out."""
        relay = self.start()
        subscriber = relay.subscriber()
        relay.turn()
        events = [b"%d" % number for number in range(6)]
        relay.signal(signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, relay.pid, os.WSTOPPED)
            for event in events:
                producer = relay.producer()
                producer.relay(event)
                producer.close()
        finally:
            relay.signal(signal.SIGCONT)
        subscriber.expect(*events)


if __name__ == "__main__":
    unittest.main()
