"""Subscribers that do not read: exact caps, the three policies, and that they harm nobody else."""

import random
import time
import unittest

import wire
from relay import KIB, MIB, TURN_INTAKE, RelayCase, patience, plain_only, pump, scaled

MAX_EVENT = 64 * KIB
MAX_LAG = MIB


def numbered(number, size):
    """An event that says which one it is, and is as long as it should be."""
    return (b"%d " % number).ljust(size, b".")


def number_of(event):
    return int(event[: event.index(b" ")])


def lossy_events(count, seed):
    rng = random.Random(seed)
    return [numbered(n, rng.choice((16, 100, 1000, 5000, 20000))) for n in range(count)]


class SlowSubscriberCase(RelayCase):
    def start_with(self, policy, **slow_subscriber):
        return self.start(
            max_event=MAX_EVENT,
            send_buffer="128KiB",
            slow_subscriber={"max_lag": MAX_LAG, "policy": policy, **slow_subscriber},
        )

    def stalled(self, relay):
        """A subscriber that does not read until paused is set to False."""
        subscriber = relay.subscriber(receive_buffer=4 * KIB)
        subscriber.paused = True
        return subscriber

    def feed(self, relay, producer, events, readers):
        """Sends the events no faster than the readers take them, asking for the status all the
        time; returns the largest lag seen."""
        largest = 0

        def arrived():
            nonlocal largest
            status = relay.status()
            relay.check_balance(status)
            largest = max(largest, status["log"]["max_lag"])
            return all(reader.ended or len(reader.events) >= end for reader in readers)

        end = 0
        while end < len(events):
            begin, size = end, 0
            while end < len(events) and size < MAX_LAG // 4:
                size += len(events[end])
                end += 1
            producer.send(b"".join(map(wire.data, events[begin:end])))
            pump([producer, *readers], arrived, 20, "the readers have it")
        return largest

    def hold(self, relay, producer, events):
        """Sends the events until policy block holds the producer back."""
        producer.send(b"".join(map(wire.data, events)))
        producer.pump(lambda: relay.status()["loop"]["holds"] > 0)
        self.assertTrue(producer.outgoing, "everything was taken")

    def assert_rising(self, events):
        numbers = [number_of(event) for event in events]
        self.assertEqual(numbers, sorted(set(numbers)))


class Disconnect(SlowSubscriberCase):
    def test_bar_2_disconnect_at_the_cap(self):
        """RELIABILITY bar 2: lag ≤ max_lag + one turn's intake + one frame at any sample."""
        relay = self.start_with("disconnect")
        reads = relay.subscriber()
        stalled = self.stalled(relay)
        producer = relay.producer()
        events = lossy_events(4000, 1)
        largest = self.feed(relay, producer, events, [reads])
        self.assertLessEqual(largest, MAX_LAG + TURN_INTAKE + MAX_EVENT)
        self.assertEqual(reads.events, events)
        status = relay.status()
        self.assertEqual(status["subscribers"]["closed"]["slow-subscriber"], 1)
        relay.wait_log(r" warn \w+: .*slow-subscriber")
        # What it got is a beginning of the whole; what it did not get is counted.
        stalled.paused = False
        stalled.expect_end(None)
        self.assertEqual(stalled.events, events[: len(stalled.events)])
        dropped = status["deliveries"]["dropped"]["slow-subscriber"]
        self.assertGreater(dropped, 0)
        self.assertLessEqual(len(stalled.events) + dropped, len(events))

    def test_below_the_cap_nobody_is_disconnected(self):
        relay = self.start_with("disconnect")
        stalled = self.stalled(relay)
        producer = relay.producer()
        events = [numbered(n, KIB) for n in range(MAX_LAG // (KIB + 6))]
        producer.relay(*events)
        producer.ping()
        relay.turn()
        status = relay.status()
        self.assertEqual(status["subscribers"]["live"], 1)
        self.assertGreater(status["log"]["max_lag"], MAX_LAG // 2)
        stalled.paused = False
        stalled.expect(*events)

    def test_memory_stays_within_the_cap(self):
        relay = self.start_with("disconnect")
        reads = relay.subscriber()
        self.stalled(relay)
        producer = relay.producer()
        self.feed(relay, producer, [b"x" * KIB] * 20_000, [reads])
        status = relay.status()
        largest = MAX_LAG + TURN_INTAKE + MAX_EVENT
        self.assertLessEqual(status["log"]["bytes"], largest + MIB)
        self.assertEqual(status["subscribers"]["closed"]["slow-subscriber"], 1)

    def test_one_of_fifty_is_disconnected_and_the_others_lose_nothing(self):
        relay = self.start(max_event=MAX_EVENT, slow_subscriber={"max_lag": "2MiB"})
        others = relay.subscribers(49)
        stalled = self.stalled(relay)
        producer = relay.producer()
        events = [numbered(n, KIB) for n in range(8000)]
        self.feed(relay, producer, events, others)
        for other in others:
            self.assertEqual(other.events, events)
        status = relay.wait_status(
            lambda s: s["subscribers"]["closed"]["slow-subscriber"] == 1, "it is disconnected"
        )
        self.assertEqual(status["subscribers"]["live"], 49)
        lines = [line for line in relay.log_lines if "slow-subscriber" in line]
        self.assertEqual(len(lines), 1)
        self.assertIn(f"127.0.0.1:{stalled.sock.getsockname()[1]}", lines[0])
        dropped = status["deliveries"]["dropped"]
        self.assertEqual(sum(dropped.values()), dropped["slow-subscriber"])

    def test_a_laggard_that_reads_again_in_time_gets_everything(self):
        """As evapi's users know it: 120 frames of 30 kB to who reads nothing for a while."""
        relay = self.start()
        subscriber = self.stalled(relay)
        producer = relay.producer()
        events = [numbered(n, 30_000) for n in range(120)]
        producer.relay(*events)
        producer.ping()
        subscriber.paused = False
        subscriber.expect(*events)


class Skip(SlowSubscriberCase):
    def test_bar_2_skip_keeps_the_newest_and_counts_the_rest(self):
        """RELIABILITY bar 2: skip keeps the newest whole frames and counts the rest exactly."""
        relay = self.start_with("skip")
        reads = relay.subscriber()
        stalled = self.stalled(relay)
        producer = relay.producer()
        events = lossy_events(4000, 2)
        largest = self.feed(relay, producer, events, [reads])
        self.assertLessEqual(largest, MAX_LAG + TURN_INTAKE + MAX_EVENT)
        self.assertEqual(reads.events, events)
        skipped = relay.status()["deliveries"]["dropped"]["skipped"]
        self.assertGreater(skipped, 0)
        stalled.paused = False
        stalled.pump(lambda: len(stalled.events) + skipped >= len(events))
        self.assertEqual(len(stalled.events) + skipped, len(events))
        self.assert_rising(stalled.events)
        self.assertEqual(stalled.events[-1], events[-1])
        for event in stalled.events:
            self.assertEqual(event, events[number_of(event)])
        status = relay.status()
        self.assertEqual(status["subscribers"]["live"], 2)
        self.assertEqual(status["deliveries"]["dropped"]["skipped"], skipped)
        self.assertEqual(status["deliveries"]["queued"], 0)

    def test_it_keeps_no_less_than_it_must(self):
        """After a skip at least half of max_lag of the newest events is still there."""
        relay = self.start_with("skip")
        stalled = self.stalled(relay)
        producer = relay.producer()
        events = [numbered(n, KIB) for n in range(5000)]
        producer.relay(*events)
        producer.ping()
        stalled.paused = False
        stalled.pump(lambda: stalled.events and number_of(stalled.events[-1]) == 4999)
        tail = [number_of(event) for event in stalled.events]
        kept = 0
        while kept + 1 < len(tail) and tail[-1 - kept] == 4999 - kept:
            kept += 1
        self.assertGreater(kept * KIB, MAX_LAG // 4)

    def test_skip_again_and_again(self):
        relay = self.start_with("skip")
        stalled = self.stalled(relay)
        producer = relay.producer()
        events = lossy_events(scaled(60_000), 3)
        step = len(events) // 10
        for at in range(0, len(events), step):
            producer.relay(*events[at : at + step])
            producer.ping()
            # It reads a little each time, so that skips meet half-sent frames at many places.
            target = stalled.taken + 30_000 + at
            stalled.paused = False
            stalled.pump(lambda target=target: stalled.taken >= target)
            stalled.paused = True
        stalled.paused = False
        stalled.pump(lambda: stalled.events[-1] == events[-1], 20)
        self.assert_rising(stalled.events)
        skipped = relay.status()["deliveries"]["dropped"]["skipped"]
        self.assertEqual(len(stalled.events) + skipped, len(events))


class Block(SlowSubscriberCase):
    def test_bar_2_block_loses_nothing(self):
        """RELIABILITY bar 2: block holds producers back at the cap and loses 0."""
        relay = self.start_with("block")
        reads = relay.subscriber()
        stalled = self.stalled(relay)
        producer = relay.producer()
        events = lossy_events(2000, 4)
        self.hold(relay, producer, events)
        # Held means held: nothing more is taken in, and who reads has all that was.
        taken = relay.status()["events"]["relayed"]
        pump([producer, reads], lambda: len(reads.events) == taken)
        relay.turn()
        held = relay.status()
        self.assertEqual(held["events"]["relayed"], taken)
        self.assertEqual(held["subscribers"]["blocked"], 1)
        self.assertGreaterEqual(held["log"]["max_lag"], MAX_LAG)
        largest = held["log"]["max_lag"]
        stalled.paused = False

        def arrived():
            nonlocal largest
            largest = max(largest, relay.status()["log"]["max_lag"])
            return len(reads.events) == len(stalled.events) == len(events)

        pump([producer, reads, stalled], arrived, 20, "both have it")
        self.assertLessEqual(largest, MAX_LAG + TURN_INTAKE + MAX_EVENT)
        self.assertEqual(reads.events, events)
        self.assertEqual(stalled.events, events)
        dropped = relay.status()["deliveries"]["dropped"]
        self.assertEqual(sum(dropped.values()), 0, dropped)

    def test_requests_are_held_back_too(self):
        relay = self.start_with("block")
        stalled = self.stalled(relay)
        producer = relay.producer()
        event = b"x" * (60 * KIB)
        producer.send(wire.list_frame("relay", event) * 60)
        producer.pump(lambda: relay.status()["loop"]["holds"] > 0)
        self.assertLess(relay.status()["requests"]["accepted"]["relay"], 60)
        stalled.paused = False
        pump([producer, stalled], lambda: len(producer.answers) == 60)
        self.assertEqual(producer.answers, [[b"ok", b"1"]] * 60)
        stalled.expect(*[event] * 60)

    def test_a_new_subscriber_is_let_in_meanwhile(self):
        relay = self.start_with("block")
        stalled = self.stalled(relay)
        producer = relay.producer()
        events = [numbered(n, 10_000) for n in range(400)]
        self.hold(relay, producer, events)
        late = relay.subscriber()
        stalled.paused = False
        pump([producer, stalled, late], lambda: len(stalled.events) == len(events))
        late.pump(lambda: late.events and late.events[-1] == events[-1])
        self.assertEqual(late.events, events[-len(late.events) :])

    def test_a_stalled_subscriber_is_cut_at_stall_timeout_and_producers_go_on(self):
        relay = self.start_with("block", stall_timeout="1s")
        reads = relay.subscriber()
        self.stalled(relay)
        producer = relay.producer()
        events = [numbered(n, 10_000) for n in range(400)]
        began = time.monotonic()
        producer.send(b"".join(map(wire.data, events)))
        pump([producer, reads], lambda: len(reads.events) == len(events))
        took = time.monotonic() - began
        self.assertGreaterEqual(took, 0.9)
        # The kernel may take some last bytes when it is tried after the first second.
        self.assertLess(took, patience(3))
        self.assertEqual(reads.events, events)
        status = relay.wait_status(lambda s: s["subscribers"]["closed"]["stalled"] == 1, "stalled")
        self.assertGreater(status["deliveries"]["dropped"]["stalled"], 0)
        self.assertEqual(status["subscribers"]["live"], 1)
        relay.wait_log(r" warn \w+: .*stalled")

    def test_one_that_takes_a_byte_now_and_then_is_not_stalled(self):
        relay = self.start_with("block", stall_timeout="1s")
        subscriber = self.stalled(relay)
        producer = relay.producer()
        events = [numbered(n, 10_000) for n in range(400)]
        producer.send(b"".join(map(wire.data, events)))
        began = time.monotonic()
        # Reads 8 KiB whenever a twentieth of a second has gone, for three timeouts.
        while time.monotonic() < began + 3:
            subscriber.paused = False
            target = subscriber.taken + 8 * KIB
            pump([producer, subscriber], lambda target=target: subscriber.taken >= target)
            subscriber.paused = True
            until = time.monotonic() + 0.05
            pump([producer], lambda until=until: time.monotonic() > until)
        self.assertEqual(relay.status()["subscribers"]["live"], 1)
        subscriber.paused = False
        pump([producer, subscriber], lambda: len(subscriber.events) == len(events))
        self.assertEqual(subscriber.events, events)

    @plain_only("a record is more than it should take")
    def test_one_that_takes_too_little_to_be_called_writable_is_not_stalled(self):
        """The kernel calls a socket writable when a third of its buffer is free, not before."""
        relay = self.start(
            send_buffer=MIB,
            slow_subscriber={"max_lag": "256KiB", "policy": "block", "stall_timeout": "1s"},
        )
        subscriber = self.stalled(relay)
        producer = relay.producer()
        self.hold(relay, producer, [b"x" * KIB] * 4000)
        began = time.monotonic()
        # Reads 2 KiB or more whenever a twentieth of a second has gone.
        while time.monotonic() < began + 2.5:
            subscriber.paused = False
            target = subscriber.taken + 2 * KIB
            pump([producer, subscriber], lambda target=target: subscriber.taken >= target)
            subscriber.paused = True
            until = time.monotonic() + 0.05
            pump([producer], lambda until=until: time.monotonic() > until)
        self.assertLess(subscriber.taken, MIB // 3 * 2, "it reads too fast to show anything")
        status = relay.status()
        self.assertEqual(status["subscribers"]["closed"]["stalled"], 0)
        self.assertEqual(status["subscribers"]["live"], 1)
        self.assertTrue(producer.outgoing, "it was not held back all the time")

    def test_the_slow_one_leaves_and_producers_go_on(self):
        relay = self.start_with("block")
        reads = relay.subscriber()
        stalled = self.stalled(relay)
        producer = relay.producer()
        events = [numbered(n, 10_000) for n in range(400)]
        self.hold(relay, producer, events)
        stalled.kill()
        pump([producer, reads], lambda: len(reads.events) == len(events))
        self.assertEqual(reads.events, events)


class EveryPolicy(SlowSubscriberCase):
    def test_what_one_that_is_behind_has_taken_is_written(self):
        for policy in ("disconnect", "skip", "block"):
            with self.subTest(policy):
                relay = self.start_with(policy)
                subscriber = self.stalled(relay)
                producer = relay.producer()
                producer.relay(*[numbered(n, KIB) for n in range(1000)])
                producer.ping()
                for count in (200, 400):
                    subscriber.paused = False
                    # The last one has read less than READ_SIZE too many: some stay queued.
                    subscriber.pump(lambda count=count: len(subscriber.events) >= count)
                    subscriber.paused = True
                    relay.turn()
                    status = relay.status()
                    deliveries = status["deliveries"]
                    self.assertGreaterEqual(deliveries["written"], len(subscriber.events))
                    self.assertGreater(deliveries["queued"], 0)
                    relay.check_balance(status)

    def test_bar_5_the_books_balance_after_every_way_to_end(self):
        """RELIABILITY bar 5, with all kinds of losses in one life."""
        for policy in ("disconnect", "skip", "block"):
            with self.subTest(policy):
                relay = self.start_with(policy, stall_timeout="1s")
                reads = relay.subscribers(3)
                peers = {name: self.stalled(relay) for name in ("stays", "resets", "half", "bad")}
                producer = relay.producer()
                events = [numbered(n, 5000) for n in range(600)]
                self.feed(relay, producer, events[:100], reads)
                relay.check_balance()
                peers["resets"].kill()
                peers["half"].half_close()
                peers["bad"].send(b"oops")
                relay.turn()
                relay.check_balance()
                for reader in reads:
                    reader.events.clear()
                self.feed(relay, producer, events[100:], reads)
                status = relay.wait_status(lambda s: s["subscribers"]["closing"] == 0, "all closed")
                relay.check_balance(status)
                closed = status["subscribers"]["closed"]
                self.assertEqual(closed["reset"], 1)
                live = {"disconnect": 3, "skip": 4, "block": 3}[policy]
                self.assertEqual(status["subscribers"]["live"], live)
                self.assertEqual(sum(closed.values()) + live, 7)
                relay.stop()


if __name__ == "__main__":
    unittest.main()
