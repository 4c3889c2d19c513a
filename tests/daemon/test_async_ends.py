"""Crowds of requests that wait: each ends once (RELIABILITY bar 27), and numbers of one that has
ended say nothing to the next owner of its slot (bar 26)."""

import collections
import os
import random
import signal
import unittest

import wire
from relay import KIB, MIB, SANITIZED, SCALE, RelayCase, pump, scaled

# A message is "INDEX LABEL DATA", and what the hook does with it: "fail" after a good resume is as
# if there had been none.
HOOK = """
event_route["evapi:connection-new"] = function(evapi)
  evapi.set_tag(evapi.conidx % 2 == 0 and "even" or "odd")
end
event_route["evapi:message-received"] = function(evapi)
  local index, label, data = evapi.msg:match("^(%d+) (%d+) (.*)$")
  local result = evapi.resume(index, label, data)
  if data == "fail" then error("on purpose") end
  evapi.reply("answer " .. tostring(result) .. " " .. index .. " " .. label .. " " .. data)
end
"""
ASK = b"ask $T(id_index) $T(id_label)"
VERBS = (("async_relay",), ("async_multicast", "even"), ("async_unicast", "odd"))


class EndsCase(RelayCase):
    def seeded(self):
        seed = int(os.environ.get("EVRELAY_TEST_SEED", random.randrange(2**32)))
        print(f"# seed {seed} ({self.id()})")
        return random.Random(seed)


class Owners(EndsCase):
    def test_bar_26_numbers_of_the_dead_reach_no_new_owner(self):
        """RELIABILITY bar 26: slots change hands all the time, and for each new owner somebody
        resumes what its slot was before, with its label, or with that of others."""
        rng = self.seeded()
        relay = self.start(lua=HOOK, workers=4, log={"level": "warn"})
        clients = relay.subscribers(4)
        relay.wait_handled()
        rounds, size = scaled(100_000) // 50, 50
        former = []  # numbers that have been
        left = []  # numbers of those that wait for their producer's end
        resumed = 0
        producer = relay.producer()
        for number in range(rounds):
            if rng.random() < 0.2:
                producer.kill()
                relay.wait_status(lambda s: s["async"]["waiting"] == 0, "they end with it")
                producer = relay.producer()
                former += left
                left = []
            producer.send(wire.list_frame("async_relay", ASK) * size)
            producer.pump(lambda: len(producer.answers) >= size, 20)
            requests = [tuple(answer[1:]) for answer in producer.answers]
            self.assertEqual({answer[0] for answer in producer.answers}, {b"suspended"})
            producer.answers.clear()
            mine = rng.sample(requests, size - rng.choice([0, 0, 5]))
            left += set(requests) - set(mine)
            wanted = {}
            asked = 0
            for at, (index, label) in enumerate(mine):
                right = b"%b %b mine %d" % (index, label, number)
                wrong = [b"%b %b stale" % old for old in rng.sample(former, min(2, len(former)))]
                wrong += [b"%b %b stale" % (index, old[1]) for old in former[-2:]]
                wrong += [b"%b %b stale" % (index, mine[at - 1][1])] if len(mine) > 1 else []
                wanted[index, label] = b"mine %d" % number
                messages = [*wrong, right]
                rng.shuffle(messages)
                for message in messages:
                    rng.choice(clients).outgoing += wire.data(message)
                asked += len(messages)
            pump(
                [*clients, producer],
                lambda: sum(len(c.events) for c in clients) >= asked + size * len(clients),
                20,
                "all answers of the hook",
            )
            for client in clients:
                for event in client.events:
                    if event.startswith(b"answer true"):
                        self.assertNotIn(b"stale", event)
                client.events.clear()
            producer.pump(lambda: len(producer.answers) >= len(mine), 20)
            got = {tuple(answer[1:3]): answer[3] for answer in producer.answers}
            self.assertEqual({answer[0] for answer in producer.answers}, {b"resumed"})
            self.assertEqual(got, wanted)
            self.assertEqual(len(producer.answers), len(mine))
            producer.answers.clear()
            resumed += len(mine)
            former = (former + mine)[-500:]
        waits = relay.status()["async"]
        self.assertEqual(waits["resumed"], resumed)
        self.assertEqual(waits["suspended"], rounds * size)
        # The slots were few, so each has had many owners.
        self.assertLess(max(int(index) for index, _ in former), 1000)


class Once(EndsCase):
    def test_bar_27_each_ends_once(self):
        """RELIABILITY bar 27: requests with random, double, late, forged resumes and hooks that
        fail, subscriber and producer kills, finally a drain: one final answer each."""
        self.rng = rng = self.seeded()
        self.suspended = self.lost = 0  # requests; those that waited when their producer was killed
        self.resumed = []  # of these somebody was told that they are
        relay = self.relay = self.start(
            lua=HOOK,
            workers=4,
            log={"level": "error"},
            send_buffer="16KiB",
            max_event="64KiB",
            **{"async": {"max_suspended": 4000, "timeout": "10min"}},
        )
        self.clients = clients = [relay.subscriber(wait=False) for _ in range(8)]
        producers = [Asker(self) for _ in range(6)]
        total = scaled(100_000)
        memory = None
        while self.suspended < total:
            for producer in producers:
                producer.ask(rng.randint(1, 40))
            self.pump(producers, lambda: not any(p.unanswered for p in producers))
            for client in clients:
                self.decide(client)
            fate = rng.random()
            if fate < 0.10:
                gone = clients.pop(rng.randrange(len(clients)))
                gone.kill() if rng.random() < 0.7 else gone.close()
                relay.peers.remove(gone)
                clients.append(relay.subscriber(wait=False))
            elif fate < 0.20:
                gone = producers.pop(rng.randrange(len(producers)))
                gone.kill() if rng.random() < 0.6 else self.let_go(gone)
                producers.append(Asker(self))
            if memory is None and self.suspended > total / 5:
                memory = relay.rss()
        self.silence()
        self.pump(producers, lambda: not any(p.waiting(deadline=True) for p in producers))
        victim = max(producers, key=lambda producer: len(producer.waiting()))
        producers.remove(victim)
        victims = len(victim.waiting())
        self.assertGreater(victims, 0)
        victim.kill()
        waiting = sum(len(producer.waiting()) for producer in producers)
        self.assertGreater(waiting, 0)
        relay.wait_status(lambda s: s["async"]["waiting"] == waiting, "those of one have ended")
        if SCALE >= 20 and not SANITIZED:
            self.assertLess(relay.rss() - memory, 4 * MIB)
        status = self.drain(producers)
        for producer in producers:
            self.assertEqual(producer.peer.ended, "eof")
            self.assertEqual(producer.waiting(), [])
        waits = status["async"]
        self.assertEqual(waits["suspended"], self.suspended)
        self.assertEqual(waits["drained"], waiting)
        # The last answers to those that were killed earlier may have been on their way.
        self.assertLessEqual(waits["abandoned"], self.lost)
        self.assertGreaterEqual(waits["abandoned"], victims)
        self.assertGreater(waits["resumed"], 0)
        self.assertGreater(waits["expired"], 0)

    def drain(self, producers):
        """Returns the status in mid-drain, when no request waits any more."""
        stalled = self.relay.subscriber(receive_buffer=4 * KIB)  # keeps the drain going
        stalled.paused = True
        producers[0].peer.outgoing += wire.data(b"x" * 64 * KIB) * 40
        self.pump(producers, lambda: not producers[0].peer.outgoing)
        self.relay.wait_status(
            lambda s: s["subscribers"]["blocked"] > 0, "one stalls", peers=self.clients
        )
        self.relay.signal(signal.SIGTERM)
        status = self.relay.wait_status(
            lambda s: s["state"] == "draining" and s["async"]["waiting"] == 0, "none waits"
        )
        self.relay.check_balance(status)
        self.pump(producers, lambda: all(producer.peer.ended for producer in producers))
        stalled.paused = False
        pump([stalled, *self.clients], lambda: stalled.ended)
        self.relay.close_peers()
        self.assertEqual(self.relay.wait(), 0)
        return status

    def pump(self, askers, done):
        def read_and_done():
            for asker in askers:
                asker.read()
            return done()

        pump([*self.clients, *[asker.peer for asker in askers]], read_and_done, 20, "the answers")

    def decide(self, client):
        """What this client says to what it was asked."""
        rng = self.rng
        messages = []
        for event in self.heard(client):
            _, index, label = event.split()
            right = b"%b %b for %b" % (index, label, label)
            fate = rng.random()
            if fate < 0.25:
                messages.append(right)
            elif fate < 0.35:
                messages += [right, right]
            elif fate < 0.45:
                messages.append(b"%b %b fail" % (index, label))
            elif fate < 0.55:
                messages.append(b"%b %d forged" % (index, int(label) ^ 1 << rng.randrange(32)))
            elif fate < 0.65 and self.resumed:
                messages.append(b"%b %b late" % rng.choice(self.resumed))
        rng.shuffle(messages)
        client.send(b"".join(map(wire.data, messages)))

    def heard(self, client):
        """What it was asked; looks at what the hook has answered."""
        asked = []
        for event in client.events:
            if event.startswith(b"ask "):
                asked.append(event)
            elif event.startswith(b"answer true"):
                _, _, index, label, data = event.split(b" ", 4)
                self.assertEqual(data, b"for " + label, "somebody else's resume had an effect")
                self.resumed.append((index, label))
        client.events.clear()
        del self.resumed[:-1000]
        return asked

    def silence(self):
        """All that clients have said is done."""
        end = b"answer false 0 0 end"
        for client in self.clients:
            client.send(wire.data(b"0 0 end"))
        pump(self.clients, lambda: all(end in client.events for client in self.clients), 20)

    def let_go(self, asker):
        """It ends its side, and gets what is still due to it."""
        self.silence()
        asker.peer.half_close()
        for numbers in asker.waiting():
            right = b"%b %b for %b" % (*numbers, numbers[1])
            self.rng.choice(self.clients).outgoing += wire.data(right)
        self.pump([asker], lambda: asker.peer.ended)
        self.assertEqual((asker.peer.ended, asker.waiting()), ("eof", []))
        asker.peer.close()
        self.relay.peers.remove(asker.peer)


class Asker:
    """A producer and its requests."""

    def __init__(self, case):
        self.case = case
        self.peer = case.relay.producer()
        self.unanswered = collections.deque()  # whether they have a deadline of their own
        self.deadline = {}  # the same of those that wait
        self.ended = set()

    def waiting(self, deadline=None):
        return [n for n, own in self.deadline.items() if deadline is None or own == deadline]

    def ask(self, count):
        rng = self.case.rng
        for _ in range(count):
            verb, *tag = rng.choice(VERBS)
            timeout = rng.choice([(), (), (1,), (5,), (30,)])
            self.peer.outgoing += wire.list_frame(verb, ASK, *tag, *timeout)
            self.unanswered.append(bool(timeout))

    def read(self):
        """Of each request: one answer at once, in order, and one final answer."""
        case = self.case
        for answer in self.peer.answers:
            if answer[0] == b"suspended" or len(answer) == 3 and answer[0] == b"error":
                own = self.unanswered.popleft()
                if answer[0] == b"error":
                    case.assertIn(answer[1], (b"no-subscriber", b"overloaded"))
                else:
                    case.suspended += 1
                    self.deadline[tuple(answer[1:])] = own
                continue
            numbers = tuple(answer[2:] if answer[0] == b"error" else answer[1:3])
            case.assertNotIn(numbers, self.ended, f"a second final answer: {answer}")
            case.assertIn(numbers, self.deadline, answer)
            if answer[0] == b"resumed":
                case.assertEqual(answer[3], b"for " + numbers[1])
            elif answer[0] == b"expired":
                case.assertTrue(self.deadline[numbers], f"before its time: {answer}")
            else:
                case.assertEqual(answer[:2], [b"error", b"draining"])
            del self.deadline[numbers]
            self.ended.add(numbers)
        self.peer.answers.clear()

    def kill(self):
        self.case.lost += len(self.deadline)
        self.peer.kill()
        self.case.relay.peers.remove(self.peer)


if __name__ == "__main__":
    unittest.main()
