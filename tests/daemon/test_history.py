"""Random operations, and a check of the whole history afterwards.

The seed is printed; EVRELAY_TEST_SEED repeats a run. After every operation everything that was sent
has reached the observer, so that the test knows exactly which events each subscriber was due.
"""

import os
import random
import unittest

import wire
from relay import KIB, RelayCase, pump, scaled

PRODUCERS = 3
MOST_SUBSCRIBERS = 12
MAX_LAG = 512 * KIB


class Seat:
    """A subscriber, and what the test knows of it."""

    def __init__(self, subscriber, joined):
        self.subscriber = subscriber
        self.joined = joined  # how many events had been relayed before it came
        self.left = None  # how many when it ended its side


class History:
    """One run: the operations, each followed by a barrier."""

    def __init__(self, relay, policy, rng):
        self.relay = relay
        self.policy = policy
        self.rng = rng
        self.observer = relay.subscriber()
        self.producers = [relay.producer() for _ in range(PRODUCERS)]
        self.numbers = [0] * PRODUCERS
        self.seats = []  # who is there
        self.gone = []  # who left, by its own doing
        self.kills = self.half_closes = self.bad_frames = 0
        self.sent = 0
        self.due = 0

    def operations(self):
        return [
            (self.burst, 8),
            (self.request, 4),
            (self.join, 4),
            (self.stall, 4),
            (self.resume, 3),
            (self.kill, 1),
            (self.half_close, 1),
            (self.bad_frame, 1),
            (self.message, 1),
        ]

    def step(self):
        choices, weights = zip(*self.operations())
        self.rng.choices(choices, weights)[0]()

    # Operations

    def burst(self):
        """Several producers write at once."""
        for name in self.rng.sample(range(PRODUCERS), self.rng.randint(1, PRODUCERS)):
            events = [self.next_event(name) for _ in range(self.rng.randint(1, 15))]
            self.producers[name].send(b"".join(map(wire.data, events)))
        self.settle()

    def request(self):
        name = self.rng.randrange(PRODUCERS)
        producer = self.producers[name]
        producer.send(wire.list_frame("relay", self.next_event(name)))
        self.settle()
        producer.pump(lambda: producer.answers)
        answer = producer.answers.pop()
        if self.policy != "disconnect":  # then nobody goes without the test's doing
            assert answer == [b"ok", b"%d" % (1 + len(self.seats))], answer
        assert answer[0] == b"ok", answer

    def join(self):
        if len(self.seats) < MOST_SUBSCRIBERS:
            small = self.rng.random() < 0.7
            subscriber = self.relay.subscriber(receive_buffer=4 * KIB if small else None)
            self.seats.append(Seat(subscriber, self.sent))

    def stall(self):
        if self.seats:
            self.rng.choice(self.seats).subscriber.paused = True

    def resume(self):
        if self.seats:
            subscriber = self.rng.choice(self.seats).subscriber
            subscriber.paused = False
            target = subscriber.taken + self.rng.randint(1, 500_000)
            self.move(lambda: subscriber.ended or subscriber.taken >= target or self.has_all())

    def kill(self):
        if self.seats:
            seat = self.leave()
            seat.subscriber.kill()
            self.kills += 1
            self.relay.turn()

    def half_close(self):
        if self.seats:
            seat = self.leave()
            self.half_closes += 1
            self.end(seat, seat.subscriber.half_close)

    def bad_frame(self):
        if self.seats:
            seat = self.leave()
            self.bad_frames += 1
            self.end(seat, lambda: seat.subscriber.send(b"oops"))

    def message(self):
        if self.seats:
            self.rng.choice(self.seats).subscriber.send(wire.data(b"x" * self.rng.randint(0, 999)))

    # Parts

    def next_event(self, name):
        size = int(2 ** self.rng.uniform(4, 15))
        event = (b"%d %d " % (name, self.numbers[name])).ljust(size, b".")
        self.numbers[name] += 1
        self.sent += 1
        self.due += 1 + len(self.seats)
        return event

    def leave(self):
        seat = self.rng.choice(self.seats)
        self.seats.remove(seat)
        self.gone.append(seat)
        seat.left = self.sent
        return seat

    def end(self, seat, how):
        """It ends its side and reads what is still due, up to the end."""
        subscriber = seat.subscriber
        try:
            how()
        except OSError:
            pass  # evrelay was faster
        self.relay.turn()
        subscriber.paused = False
        subscriber.expect_end(None)
        subscriber.close()

    def peers(self):
        return [self.observer, *self.producers, *(seat.subscriber for seat in self.seats)]

    def has_all(self):
        return len(self.observer.events) == self.sent

    def move(self, done):
        pump(self.peers(), done, 20, "operation")

    def settle(self):
        """Everything that was sent reaches the observer; whoever holds it back reads again."""

        def done():
            if self.policy == "block" and self.relay.status()["log"]["max_lag"] >= MAX_LAG:
                for seat in self.seats:
                    seat.subscriber.paused = False
            return self.has_all()

        self.move(done)
        self.relay.turn()

    def acts(self):
        """How often the policy has done what it is for."""
        status = self.relay.status()
        return {
            "disconnect": status["subscribers"]["closed"]["slow-subscriber"],
            "skip": status["deliveries"]["dropped"]["skipped"],
            "block": status["loop"]["holds"],
        }[self.policy]

    def provoke(self):
        """Somebody reads nothing until the policy has acted, if it has not yet."""
        if not self.seats:
            self.join()
        for _ in range(1000):
            if self.acts() > 0:
                return
            self.seats[0].subscriber.paused = True
            self.burst()
        raise AssertionError(f"policy {self.policy} has done nothing")

    def finish(self):
        """All read on until they have the last event or have been cut."""
        for seat in self.seats:
            seat.subscriber.paused = False
        last = self.observer.events[-1:]
        self.move(
            lambda: all(
                seat.subscriber.ended
                or seat.joined == self.sent
                or seat.subscriber.events[-1:] == last
                for seat in self.seats
            )
        )


class RandomHistory(RelayCase):
    def check(self, policy):
        seed = int(os.environ.get("EVRELAY_TEST_SEED", random.randrange(2**32)))
        print(f"# seed {seed} ({self.id()})")
        relay = self.start(
            max_event="64KiB",
            send_buffer="64KiB",
            slow_subscriber={"max_lag": MAX_LAG, "policy": policy, "stall_timeout": "10min"},
        )
        history = History(relay, policy, random.Random(seed))
        for _ in range(scaled(8000)):
            history.step()
            relay.check_balance()
        history.provoke()
        history.finish()
        self.check_order(history)
        for seat in history.seats + history.gone:
            self.check_seat(history, seat)
        self.check_books(history, relay.status())

    def check_order(self, history):
        """Bar 4: each producer's events in its order, none lost, none twice."""
        numbers = [[] for _ in range(PRODUCERS)]
        for event in history.observer.events:
            name, number = event.split()[:2]
            numbers[int(name)].append(int(number))
        self.assertEqual(numbers, [list(range(count)) for count in history.numbers])

    def check_seat(self, history, seat):
        """Bar 3 and 4: whole events, in the one order, and all that were due."""
        got = seat.subscriber.events
        due = history.observer.events[seat.joined : seat.left]
        live = seat in history.seats and seat.subscriber.ended is None
        if history.policy == "skip":
            places = {event: place for place, event in enumerate(due)}
            order = [places[event] for event in got]
            self.assertEqual(order, sorted(set(order)))
            if live and due:
                self.assertEqual(got[-1], due[-1])
        else:
            self.assertEqual(got, due[: len(got)])
            if live:
                self.assertEqual(len(got), len(due))
        if live:
            self.assertEqual(seat.subscriber.decoder.pending, 0)

    def check_books(self, history, status):
        """Bar 5, and the reasons."""
        self.assertEqual(status["events"]["relayed"], history.sent)
        closed = status["subscribers"]["closed"]
        deliveries = status["deliveries"]
        left = history.kills + history.half_closes + history.bad_frames
        if history.policy == "disconnect":
            self.assertLessEqual(deliveries["due"], history.due)
            cut = sum(seat.subscriber.ended is not None for seat in history.seats)
            self.assertGreaterEqual(closed["slow-subscriber"], cut)
            self.assertGreaterEqual(sum(closed.values()), left)
            return
        self.assertEqual(deliveries["due"], history.due)
        self.assertEqual(closed["reset"], history.kills)
        self.assertEqual(closed["eof"], history.half_closes)
        self.assertEqual(closed["bad-size"], history.bad_frames)
        self.assertEqual(sum(closed.values()), left)
        self.assertEqual(status["subscribers"]["live"], 1 + len(history.seats))
        if history.policy == "block":
            self.assertEqual(deliveries["dropped"]["skipped"], 0)

    def test_policy_disconnect(self):
        self.check("disconnect")

    def test_policy_skip(self):
        self.check("skip")

    def test_policy_block(self):
        self.check("block")


if __name__ == "__main__":
    unittest.main()
