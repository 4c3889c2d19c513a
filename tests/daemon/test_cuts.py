"""Random cuts of the network, and a check of everything that arrived.

Subscribers read, stall, reset, half close, say what is no frame, or fall silent like a host whose
cable was pulled (a socket filter swallows what comes in). Producers are killed in the middle of a
frame. Nobody waits for anybody, so the test does not know what happened when; but whatever it was,
all who were there have seen one sequence of whole events, each producer's in its order, and the
books balance.

The seed is printed; EVRELAY_TEST_SEED repeats the operations.
"""

import os
import random
import re
import time
import unittest

import wire
from relay import KIB, RelayCase, pump, scaled
from vanish import vanish

PRODUCERS = 4
SUBSCRIBERS = 10
MAX_LAG = 512 * KIB
STEPS = 12_000  # of each policy, in the long form
# By a producer, or by a subscriber through the script; what comes of babble looks otherwise.
NUMBERED = re.compile(rb"(?:m )?(\d+) (\d+) ")

SCRIPT = """
event_route["evapi:message-received"] = function(evapi)
  if evapi.msg == "tag" then evapi.set_tag("t") else evapi.relay("m " .. evapi.msg) end
end
"""


class Cuts:
    """One run against one relay."""

    def __init__(self, relay, policy, rng):
        self.relay = relay
        self.policy = policy
        self.rng = rng
        self.observer = relay.subscriber()
        self.producers = []
        self.sent = {}  # by the name of each producer that has ever been: how many events
        self.subscribers = []
        self.gone = []
        self.names = 0
        self.ahead = 0  # bytes sent since the observer has caught up

    def step(self):
        choices, weights = zip(
            (self.send, 20),
            (self.talk, 3),
            (self.come, 4),
            (self.stall, 2),
            (self.read_on, 3),
            (self.reset, 1),
            (self.half_close, 1),
            (self.babble, 1),
            (self.fall_silent, 1),
            (self.kill_producer, 1),
            (self.reload, 0.3),
        )
        self.rng.choices(choices, weights)[0]()
        self.move(self.rng.randint(0, 3))

    def peers(self):
        return [self.observer, *self.producers, *self.subscribers]

    def move(self, polls):
        """Moves what there is to move, so many times."""
        left = polls

        def done():
            nonlocal left
            left -= 1
            return left < 0

        pump(self.peers(), done)
        self.bury()

    def bury(self):
        """Whom the relay has cut."""
        for subscriber in [s for s in self.subscribers if s.ended]:
            self.leave(subscriber)

    def leave(self, subscriber):
        self.subscribers.remove(subscriber)
        self.gone.append(subscriber)
        self.relay.peers.remove(subscriber)

    # Operations

    def send(self):
        if len(self.producers) < PRODUCERS:
            self.names += 1
            producer = self.relay.producer()
            producer.name = self.names
            self.sent[producer.name] = 0
            self.producers.append(producer)
        producer = self.rng.choice(self.producers)
        if len(producer.outgoing) < 128 * KIB:  # it is not held back
            frames = b"".join(self.frame(producer) for _ in range(self.rng.randint(1, 12)))
            producer.send(frames)
            self.ahead += len(frames)
        if self.ahead > 100 * KIB:
            self.catch_up()

    def catch_up(self):
        """The observer is never so far behind that it could be cut."""
        relayed = self.relay.status()["events"]["relayed"]
        pump(self.peers(), lambda: len(self.observer.events) >= relayed)
        self.ahead = 0
        self.bury()

    def frame(self, producer):
        size = int(2 ** self.rng.uniform(4, 15))
        event = b"%d %d " % (producer.name, self.sent[producer.name])
        self.sent[producer.name] += 1
        return wire.data(event.ljust(size, b"."))

    def talk(self):
        if self.subscribers:
            self.names += 1
            name = self.names
            self.sent[name] = 1
            self.rng.choice(self.subscribers).send(wire.data(b"%d 0 " % name) + wire.data(b"tag"))

    def come(self):
        if len(self.subscribers) < SUBSCRIBERS:
            small = self.rng.random() < 0.7
            subscriber = self.relay.subscriber(
                receive_buffer=4 * KIB if small else None, wait=False
            )
            self.subscribers.append(subscriber)

    def stall(self):
        if self.subscribers:
            self.rng.choice(self.subscribers).paused = True

    def read_on(self):
        if self.subscribers:
            self.rng.choice(self.subscribers).paused = False

    def reset(self):
        if self.subscribers:
            subscriber = self.rng.choice(self.subscribers)
            self.leave(subscriber)
            subscriber.kill()

    def half_close(self):
        if self.subscribers:
            subscriber = self.rng.choice(self.subscribers)
            try:
                subscriber.half_close()
            except OSError:
                pass  # the relay was faster

    def babble(self):
        if self.subscribers:
            self.rng.choice(self.subscribers).send(self.rng.choice((b"oops", b"9:trunc", b"1:x;")))

    def fall_silent(self):
        if self.subscribers:
            subscriber = self.rng.choice(self.subscribers)
            vanish(subscriber.sock)
            self.leave(subscriber)
            self.relay.peers.append(subscriber)  # its end of the connection stays open

    def kill_producer(self):
        if self.producers:
            producer = self.producers.pop(self.rng.randrange(len(self.producers)))
            frame = self.frame(producer)
            producer.send(frame[: self.rng.randint(1, len(frame) - 1)])
            self.rng.choice((producer.kill, producer.close))()
            self.relay.peers.remove(producer)

    def reload(self):
        self.relay.control("reload")

    def finish(self):
        """All who are there read on, and what has been sent arrives."""
        for subscriber in self.subscribers:
            subscriber.paused = False

        def done():
            self.bury()
            return not any(peer.outgoing for peer in self.producers)

        pump(self.peers(), done, 60, "all is sent")
        for producer in self.producers:
            producer.send(wire.list_frame("relay", b"last %d" % producer.name))
            pump(self.peers(), lambda p=producer: p.answers, 60, "an answer")
            if producer.answers[0][0] != b"ok":
                raise AssertionError(f"{producer.answers}")
        last = b"last %d" % self.producers[-1].name
        ready = lambda peer: peer.ended or peer.events[-1:] == [last]
        pump(
            self.peers(), lambda: all(map(ready, (self.observer, *self.subscribers))), 60, "the end"
        )


class RandomCuts(RelayCase):
    def check(self, policy):
        seed = int(os.environ.get("EVRELAY_TEST_SEED", random.randrange(2**32)))
        print(f"# seed {seed} ({self.id()})")
        relay = self.start(
            lua=SCRIPT,
            drain="1s",
            max_event="64KiB",
            send_buffer="64KiB",
            slow_subscriber={"max_lag": MAX_LAG, "policy": policy, "stall_timeout": "300ms"},
        )
        cuts = Cuts(relay, policy, random.Random(seed))
        began = time.monotonic()
        for number in range(scaled(STEPS)):
            cuts.step()
            if number % 10 == 0:
                relay.check_balance()
        if not cuts.producers:
            cuts.send()
        cuts.finish()
        status = relay.wait_handled(peers=cuts.peers())
        relay.check_balance(status)
        self.check_order(cuts, status)
        for subscriber in (*cuts.subscribers, *cuts.gone):
            self.check_events(cuts, subscriber)
        closed = {k: n for k, n in status["subscribers"]["closed"].items() if n}
        print(f"# {time.monotonic() - began:.1f} s, {len(cuts.observer.events)} events: {closed}")
        self.assertGreater(sum(closed.values()), 5)

    def check_order(self, cuts, status):
        """The observer has got all that was relayed: each producer's events from its first on, in
        order; of those that stayed all of them."""
        events = cuts.observer.events
        self.assertEqual(status["events"]["relayed"], len(events))
        self.assertEqual(cuts.observer.decoder.pending, 0)
        numbers = {}
        for event in events:
            if words := NUMBERED.match(event):
                numbers.setdefault(int(words[1]), []).append(int(words[2]))
        for name, seen in numbers.items():
            self.assertEqual(seen, list(range(len(seen))), f"of producer {name}")
            self.assertLessEqual(len(seen), cuts.sent[name])
        for producer in cuts.producers:
            self.assertEqual(len(numbers.get(producer.name, [])), cuts.sent[producer.name])

    def check_events(self, cuts, subscriber):
        """Whole events, in the one order, from some event on without a gap. With policy skip, and
        with that alone, there may be gaps."""
        got = subscriber.events
        if not got:
            return
        order = cuts.observer.events
        if not hasattr(cuts, "places"):
            cuts.places = {event: place for place, event in enumerate(order)}
        places = [cuts.places[event] for event in got]
        if cuts.policy == "skip":
            self.assertEqual(places, sorted(set(places)))
        else:
            self.assertEqual(places, list(range(places[0], places[0] + len(places))))

    def test_cuts_with_policy_disconnect(self):
        self.check("disconnect")

    def test_cuts_with_policy_skip(self):
        self.check("skip")

    def test_cuts_with_policy_block(self):
        self.check("block")


if __name__ == "__main__":
    unittest.main()
