"""Order with scripts: of events for all, of messages per connection, and of owners of a conidx."""

import os
import random
import unittest

import wire
from relay import KIB, MIB, RelayCase, pump, scaled
from scripts import ECHO, OBSERVE

PRODUCERS = 8
SUBSCRIBERS = 20
TALKERS = 8  # of the subscribers

# Everything that a subscriber says is for all.
RELAY = """
event_route["evapi:message-received"] = function(evapi)
  evapi.relay(evapi.msg)
end
"""

# A subscriber has its own name for a tag and hears nothing but that. It says it in every message.
NAMES = """
event_route["evapi:connection-new"] = function(evapi)
  evapi.reply("tag " .. tostring(evapi.tag))
end
event_route["evapi:message-received"] = function(evapi)
  local name, verb = evapi.msg:match("^(%d+) (%l+)$")
  if evapi.tag ~= nil and evapi.tag ~= name then
    evapi.relay(name .. " has the tag " .. evapi.tag)
  end
  evapi.reply(name)
  evapi.set_tag(name)
  evapi.unicast("tag " .. name, name)
  if verb == "close" then evapi.close() end
end
event_route["evapi:connection-closed"] = function(evapi)
  if evapi.tag then evapi.multicast("closed " .. evapi.tag, evapi.tag) end
end
"""


class Order(RelayCase):
    def check_bar_4(self, workers):
        """8 producers write numbered events at once, 8 of 20 subscribers say as many lines as
        producers write in a tenth; all see one sequence."""
        count = scaled(100_000)
        said = count // 10
        relay = self.start(
            lua=RELAY, workers=workers, slow_subscriber={"max_lag": "64MiB", "policy": "block"}
        )
        subscribers = relay.subscribers(SUBSCRIBERS, raw=True)
        relay.wait_handled()
        producers = [relay.producer() for _ in range(PRODUCERS)]
        total = 0
        numbers = {}
        sources = [("producer", p, count) for p in producers]
        sources += [("talker", s, said) for s in subscribers[:TALKERS]]
        for name, (kind, peer, how_many) in enumerate(sources):
            events = [b"%d %d" % (name, number) for number in range(how_many)]
            frames = b"".join(map(wire.data, events))
            total += len(frames)
            peer.outgoing += frames
            numbers[name] = list(range(how_many))
        pump(
            producers + subscribers,
            lambda: all(len(s.stream) >= total for s in subscribers),
            60,
            "all have all events",
        )
        first = bytes(subscribers[0].stream)
        for subscriber in subscribers:
            self.assertTrue(subscriber.stream == first, "two subscribers saw different sequences")
        decoder = wire.Decoder()
        seen = {name: [] for name in numbers}
        for _, event in decoder.feed(first):
            name, number = event.split()
            seen[int(name)].append(int(number))
        self.assertEqual(decoder.pending, 0)
        for name, wanted in numbers.items():
            self.assertTrue(seen[name] == wanted, f"source {name} is out of order")

    def test_bar_4_order_with_one_worker(self):
        """RELIABILITY bar 4."""
        self.check_bar_4(1)

    def test_bar_4_order_with_4_workers(self):
        self.check_bar_4(4)

    def test_bar_4_order_with_16_workers(self):
        self.check_bar_4(16)

    def test_direct_frames_keep_their_place_among_the_events(self):
        """Of one verdict nothing is torn apart: a reply stands right behind the event before it."""
        relay = self.start(
            workers=4,
            slow_subscriber={"policy": "block"},
            lua="""
            event_route["evapi:connection-new"] = function(evapi)
              evapi.set_tag("all")
            end
            event_route["evapi:message-received"] = function(evapi)
              local name = evapi.conidx .. " " .. evapi.msg
              evapi.reply("before " .. name)
              evapi.relay("relay " .. name)
              evapi.multicast("multicast " .. name, "all")
              evapi.reply("after " .. name)
            end
            """,
        )
        talkers = relay.subscribers(8)
        relay.wait_handled()
        producer = relay.producer()
        count = scaled(10_000)
        for talker in talkers:
            talker.outgoing += b"".join(wire.data(b"%d" % n) for n in range(count))
        producer.outgoing += b"".join(wire.data(b"event %d" % n) for n in range(count))
        wanted = len(talkers) * count * 2 + count + 2 * count
        pump([*talkers, producer], lambda: all(len(t.events) == wanted for t in talkers), 30)
        for conidx, talker in enumerate(talkers):
            events = iter(talker.events)
            own = 0
            for event in events:
                if event.startswith(b"before"):
                    name = b"%d %d" % (conidx, own)
                    self.assertEqual(event, b"before " + name)
                    wanted = [b"relay " + name, b"multicast " + name, b"after " + name]
                    self.assertEqual([next(events) for _ in wanted], wanted)
                    own += 1
            self.assertEqual(own, count)
            shared = [e for e in talker.events if not e.startswith((b"before", b"after"))]
            if conidx == 0:
                first = shared
            self.assertTrue(shared == first, "two subscribers saw different sequences")

    def test_messages_see_what_earlier_ones_of_the_same_read_did(self):
        relay = self.start(
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              evapi.reply(tostring(evapi.tag))
              evapi.set_tag(evapi.msg)
              evapi.reply(tostring(evapi.tag))
            end
            """
        )
        subscriber = relay.subscriber()
        subscriber.send(b"1:a,2:bc," + wire.data(b"x" * 64) + b"1:d,")
        subscriber.expect(b"nil", b"a", b"a", b"bc", b"bc", b"bc", b"bc", b"d")


class Pausing(RelayCase):
    """A connection whose messages wait is not read beyond its bounds, and only that one."""

    def check(self, message, most_bytes, most_messages):
        relay = self.start(lua=ECHO, workers=2)
        floods, other = relay.subscribers(2)
        beside = relay.subscriber()  # of the first worker, too
        count = 4 * MIB // len(wire.data(message))
        floods.outgoing += b"".join(wire.data(b"%d" % n + message) for n in range(count))
        with relay.worker_held(0):
            floods.paused = True
            before = None
            status = relay.status()
            while status["messages"] != before:  # until nothing more is read
                before = status["messages"]
                floods.send(b"")
                relay.turn()
                relay.turn()
                status = relay.status()
            self.assertTrue(floods.outgoing, "all of it was read, or waits in the socket")
            self.assertTrue(
                before["received"] > 1024 or before["bytes"] > 256 * KIB, "it was paused too early"
            )
            self.assertLessEqual(before["received"], most_messages)
            self.assertLessEqual(before["bytes"], most_bytes)
            # Others are read and answered, or at least read; the flooded one hears what is relayed.
            other.send(b"5:other,")
            other.expect(b"other")
            beside.send(b"6:beside,")
            relay.wait_status(
                lambda s: s["messages"]["received"] == before["received"] + 2, "both are read"
            )
            self.assertEqual(relay.producer().request("relay", "event"), [b"ok", b"3"])
            floods.paused = False
            floods.skip_to(b"event")
            other.expect(b"event")
        # And then it goes on, with everything and in order.
        floods.expect(*[b"%d" % n + message for n in range(count)], timeout=30)
        beside.expect(b"event", b"beside")

    def test_above_256_kib(self):
        self.check(b"x" * KIB, most_bytes=(256 + 64 + 1) * KIB, most_messages=1024)

    def test_above_1024_messages(self):
        # A read may bring 64 KiB more of them.
        self.check(
            b"x" * 60, most_bytes=256 * KIB, most_messages=1024 + 64 * KIB // len(b"61:0x,")
        )

    def test_one_that_ends_while_it_is_paused_is_handled_to_its_end(self):
        relay = self.start(lua=OBSERVE, workers=2)
        talker = relay.subscriber()
        relay.wait_handled()
        observer = relay.subscriber()
        observer.expect(b"new 1")
        count = 5000
        with relay.worker_held(0):
            talker.send(b"".join(wire.data(b"%d" % n) for n in range(count)))
            talker.paused = True
            talker.flush()
            talker.half_close()
            relay.wait_status(lambda s: s["messages"]["received"] > 1024, "it is paused")
        observer.expect(*[b"message 0 %d" % n for n in range(count)], b"closed 0 eof")
        talker.paused = False
        talker.expect_end("eof")


class StaleIdentity(RelayCase):
    """RELIABILITY bar 26: what is in flight for those who have left reaches no new owner."""

    def test_bar_26_close_and_reopen_with_work_in_flight(self):
        seed = int(os.environ.get("EVRELAY_TEST_SEED", random.randrange(2**32)))
        print(f"# seed {seed} ({self.id()})")
        rng = random.Random(seed)
        relay = self.start(lua=NAMES, workers=4, log={"level": "warn"})
        rounds = scaled(100_000) // 40
        fates = ("kill", "kill later", "half_close", "hook", "stay")
        stays = []
        name = 0
        for _ in range(rounds):
            ends = []
            for _ in range(40):
                name += 1
                fate = rng.choices(fates, (10, 10, 8, 8, 4))[0]
                subscriber = relay.subscriber(wait=False)
                subscriber.pump(lambda s=subscriber: not s.shaking)
                messages = [b"%d talk" % name] * rng.randint(1, 5)
                if fate == "hook":
                    messages.append(b"%d close" % name)
                    messages += [b"%d talk" % name] * rng.randint(0, 3)
                subscriber.send(b"".join(map(wire.data, messages)))
                heard = messages.index(b"%d close" % name) + 1 if fate == "hook" else len(messages)
                subscriber.wanted = [b"tag nil"] + [b"%d" % name, b"tag %d" % name] * heard
                subscriber.name = name
                if fate == "kill":
                    subscriber.kill()
                elif fate == "kill later":
                    subscriber.pump(lambda s=subscriber: s.events)
                    self.assertEqual(subscriber.events[0], b"tag nil")
                    subscriber.kill()
                elif fate == "half_close":
                    subscriber.half_close()
                    subscriber.wanted.append(b"closed %d" % name)
                    ends.append(subscriber)
                elif fate == "hook":
                    ends.append(subscriber)
                else:
                    stays.append(subscriber)
            pump(ends + stays, lambda ends=ends: all(s.ended for s in ends), 20, "they end")
            for subscriber in ends:
                self.assertEqual(subscriber.ended, "eof")
                self.assertEqual(subscriber.events, subscriber.wanted)
                subscriber.close()
            while len(stays) > 20:
                self.check_and_leave(stays.pop(rng.randrange(len(stays))))
            del relay.peers[:]
            relay.peers += stays
        for subscriber in stays:
            self.check_and_leave(subscriber)
        status = relay.wait_status(lambda s: s["subscribers"]["live"] == 0, "all have left")
        # Over TLS some leave in their handshake.
        failed = sum(status["tls"]["failed"].values())
        self.assertEqual(status["subscribers"]["accepted"] + failed, name)
        self.assertGreater(status["hook"]["stale_actions"], 0)
        self.assertEqual(sum(status["hook"]["failed"].values()), 0)
        self.assertEqual(status["events"]["relayed"], 0)  # nobody had a tag of somebody else

    def check_and_leave(self, subscriber):
        """It has been there for a while, and has heard only what was its own."""
        subscriber.send(wire.data(b"%d talk" % subscriber.name))
        wanted = [*subscriber.wanted, b"%d" % subscriber.name, b"tag %d" % subscriber.name]
        subscriber.pump(lambda: len(subscriber.events) >= len(wanted) or subscriber.ended)
        self.assertEqual(subscriber.events, wanted)
        subscriber.kill()


if __name__ == "__main__":
    unittest.main()
