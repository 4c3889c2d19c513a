"""No torn frame, ever: small send buffers, pauses at random places, kills, policies, drain."""

import os
import random
import signal
import unittest
import zlib

import wire
from relay import KIB, MIB, RelayCase, pump, scaled


def any_size(rng):
    """1 B to 64 KiB, small ones as likely as large ones."""
    return int(2 ** rng.uniform(0, 16))


def sealed(number, size):
    """An event that says its number and carries a checksum of the rest."""
    body = (b"%d " % number) + os.urandom(max(0, size - 20))
    return b"%08x " % zlib.crc32(body) + body


def open_sealed(event):
    """The number, after checking that no byte has changed."""
    body = event[9:]
    if event[:9] != b"%08x " % zlib.crc32(body):
        raise AssertionError(f"a damaged event: {event[:40]!r}")
    return int(body[: body.index(b" ")])


class Readers:
    """Subscribers that stop reading and go on at random; some leave with a reset."""

    def __init__(self, relay, count, rng):
        self.rng = rng
        self.peers = relay.subscribers(count, receive_buffer=4 * KIB)
        self.limits = {peer: rng.randrange(200 * KIB) for peer in self.peers}

    def step(self, final):
        """Pauses who has read up to its limit; now and then gives all of those a new one."""
        halted = 0
        for peer, limit in self.limits.items():
            peer.paused = not final and peer.taken >= limit
            halted += peer.paused
        if halted > len(self.peers) // 2:
            for peer in self.peers:
                if peer.paused:
                    self.limits[peer] = peer.taken + int(2 ** self.rng.uniform(0, 18))

    def kill_one(self):
        victim = self.rng.choice(self.peers)
        self.peers.remove(victim)
        del self.limits[victim]
        victim.kill()
        return victim


class WholeFrames(RelayCase):
    def setUp(self):
        self.seed = int(os.environ.get("EVRELAY_TEST_SEED", random.randrange(2**32)))
        print(f"# seed {self.seed} ({self.id()})")
        self.rng = random.Random(self.seed)

    def run_load(self, relay, readers, producer, events, kills, end=lambda: True):
        """Sends the events while readers pause and leave; reads on until end()."""
        stream = [wire.data(event) for event in events]
        places = sorted(self.rng.sample(range(len(stream)), kills), reverse=True)
        at = 0

        def done():
            nonlocal at
            while at < len(stream) and not producer.outgoing:
                producer.send(b"".join(stream[at : at + 20]))
                at += 20
                while places and places[-1] < at:
                    readers.kill_one()
                    places.pop()
            sent = at >= len(stream) and not producer.outgoing
            readers.step(sent)
            return sent and end()

        pump([producer, *readers.peers], done, 60, "all is read")

    def test_bar_3_no_torn_frame_with_pauses_kills_and_drain(self):
        """RELIABILITY bar 3: SO_SNDBUF 4 KiB, frames 1 B – 64 KiB, pauses, kills, drain."""
        relay = self.start(send_buffer="4KiB", slow_subscriber={"max_lag": "256MiB"})
        readers = Readers(relay, 10, self.rng)
        producer = relay.producer()
        events, size = [], 0
        while size < scaled(40 * MIB):
            events.append(os.urandom(any_size(self.rng)))
            size += len(events[-1])
        self.run_load(relay, readers, producer, events, kills=3)
        producer.ping()
        relay.check_balance()
        # The end comes while most of it is still under way.
        self.assertGreater(relay.status()["deliveries"]["queued"], 0)
        relay.signal(signal.SIGTERM)
        pump(readers.peers, lambda: all(peer.ended for peer in readers.peers), 20, "the end")
        self.assertEqual(relay.wait(12), 0)
        self.assertEqual(len(readers.peers), 7)
        for peer in readers.peers:
            self.assertEqual(peer.ended, "eof")
            self.assertEqual(peer.decoder.pending, 0)
            self.assertEqual(len(peer.events), len(events))
            self.assertEqual(peer.events, events)

    def test_bar_3_no_torn_frame_when_frames_are_skipped(self):
        relay = self.start(
            send_buffer="4KiB",
            max_event="64KiB",
            slow_subscriber={"max_lag": "512KiB", "policy": "skip"},
        )
        readers = Readers(relay, 10, self.rng)
        producer = relay.producer()
        events = self.sealed_events(scaled(60 * MIB))
        self.run_load(
            relay,
            readers,
            producer,
            events,
            kills=3,
            end=lambda: all(r.events and r.events[-1] == events[-1] for r in readers.peers),
        )
        got = sum(self.check_sealed(peer, events) for peer in readers.peers)
        self.assertEqual(len(readers.peers), 7)
        deliveries = relay.status()["deliveries"]
        self.assertGreater(deliveries["dropped"]["skipped"], 0)
        self.assertGreaterEqual(got + sum(deliveries["dropped"].values()), 7 * len(events))

    def test_bar_3_only_the_last_frame_is_cut_when_laggards_are_disconnected(self):
        relay = self.start(
            send_buffer="4KiB", max_event="64KiB", slow_subscriber={"max_lag": "512KiB"}
        )
        readers = Readers(relay, 10, self.rng)
        producer = relay.producer()
        events = self.sealed_events(scaled(60 * MIB))
        self.run_load(
            relay,
            readers,
            producer,
            events,
            kills=3,
            end=lambda: all(r.ended or len(r.events) == len(events) for r in readers.peers),
        )
        for peer in readers.peers:
            count = self.check_sealed(peer, events)
            self.assertEqual(peer.events, events[:count])
            self.assertTrue(peer.ended or count == len(events))

    def test_bar_3_a_drain_that_is_cut_short_cuts_only_the_last_frame(self):
        relay = self.start(
            send_buffer="4KiB", drain="500ms", slow_subscriber={"max_lag": "256MiB"}
        )
        peers = relay.subscribers(5, receive_buffer=4 * KIB)
        producer = relay.producer()
        events = self.sealed_events(4 * MIB)
        for peer in peers:
            peer.paused = True
        producer.relay(*events)
        producer.ping()
        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait(5), 0)
        for peer in peers:
            peer.paused = False
        pump(peers, lambda: all(peer.ended for peer in peers))
        for peer in peers:
            count = self.check_sealed(peer, events)
            self.assertLess(count, len(events))
            self.assertEqual(peer.events, events[:count])

    def sealed_events(self, total):
        events, size = [], 0
        while size < total:
            events.append(sealed(len(events), any_size(self.rng)))
            size += len(events[-1])
        return events

    def check_sealed(self, peer, events):
        """Every event is whole and rising; returns how many there are."""
        last = -1
        for event in peer.events:
            number = open_sealed(event)
            self.assertGreater(number, last)
            self.assertEqual(event, events[number])
            last = number
        return len(peer.events)


if __name__ == "__main__":
    unittest.main()
