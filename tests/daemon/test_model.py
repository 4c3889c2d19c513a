"""Random operations, and a model that says what every peer must get of them.

Subscribers and producers come, talk, stall, leave and are killed while the script is reloaded. What
they do one after the other has one outcome, down to the order of all events and the number in every
answer. In between come bursts, where many talk at once: there the order is free, but it is the same
for all, and each speaker's own. At the end the relay's counters must be those of the model.

The script tells a subscriber of its own, the observer, of everything that it does. So nothing has
to be timed: an operation is over when the observer has heard of it.

EVRELAY_TEST_SEED repeats a run as far as the operations go; a failure prints it with the last ones.
"""

import collections
import os
import random
import signal
import time
import unittest

import wire
from relay import KIB, RelayCase, Timeout, pump, scaled

SCRIPT = r"""
local VERSION = 0
local function tell(...)
  evapi.unicast(table.concat({...}, " "), "observer")
end
event_route["evapi:connection-new"] = function(evapi)
  evapi.relay("came " .. evapi.conidx)
  tell("new", evapi.conidx, evapi.srcport, tostring(evapi.tag))
end
event_route["evapi:message-received"] = function(evapi)
  local number, verb, rest = evapi.msg:match("^(%d+)\t([%l_]+)\t(.*)$")
  local result = true
  if verb == "resume" then
    result = evapi.resume(rest:match("^(%d+)\t(%d+)\t(.*)$"))
  elseif verb == "multicast" or verb == "unicast" then
    result = evapi[verb](rest:match("^([^\t]*)\t(.*)$"))
  elseif verb == "relay" or verb == "reply" or verb == "set_tag" then
    result = evapi[verb](rest)
  elseif verb == "fail" then
    evapi.relay("never heard")
    evapi.set_tag("never set")
    evapi.resume(rest:match("^(%d+)\t(%d+)\t(.*)$"))
    error("on purpose")
  end
  tell("did", number, "v" .. VERSION, tostring(result), tostring(evapi.tag))
  if verb == "close" then evapi.close() end
end
event_route["evapi:connection-closed"] = function(evapi)
  evapi.relay("went " .. evapi.conidx .. " " .. evapi.reason)
  tell("closed", evapi.conidx, evapi.reason, tostring(evapi.tag))
end
"""

TAGS = [b"a", b"b", b"ab", b"A", b"\xff\0 tag", b"t" * 63]
MAX_SUSPENDED = 16
HISTORY = 40
STEPS = 80_000  # of each run, in the long form


def shown(thing):
    text = repr(thing)
    return text if len(text) < 160 else f"{text[:120]}... ({len(text)})"


def equal(got, wanted, what):
    if got == wanted:
        return
    if isinstance(got, list) and isinstance(wanted, list):
        at = next((i for i, (g, w) in enumerate(zip(got, wanted)) if g != w), None)
        if at is None:
            at = min(len(got), len(wanted))
        what += f" (at {at} of {len(wanted)})"
        got, wanted = got[at : at + 3], wanted[at : at + 3]
    raise AssertionError(f"{what}:\n  got    {shown(got)}\n  wanted {shown(wanted)}")


class Listener:
    """A subscriber and what is due to it: events, and bursts of events."""

    def __init__(self, name, peer, conidx):
        self.name = name
        self.peer = peer
        self.conidx = conidx
        self.tag = b""
        self.due = collections.deque()
        self.count = 0  # of the events in `due`

    def __repr__(self):
        return f"{self.name}/{self.conidx}"

    @property
    def spoken_tag(self):
        return self.tag or b"nil"

    def expect(self, event):
        self.due.append(event)
        self.count += 1

    def expect_burst(self, burst):
        self.due.append(burst)
        self.count += burst.count_for(self)

    def has_all(self):
        return len(self.peer.events) >= self.count or self.peer.ended

    def check(self):
        """It has got all that was due so far, in this order."""
        events = self.peer.events
        at = 0
        for due in self.due:
            if isinstance(due, Burst):
                end = at + due.count_for(self)
                due.check(self, events[at:end])
                at = end
            else:
                equal(events[at : at + 1], [due], f"event for {self}")
                at += 1
        self.due.clear()
        self.count = 0
        del events[:at]


class Burst:
    """What several have said at once, and what must be so in whatever order it happened."""

    def __init__(self):
        self.broadcasts = set()
        self.order = None  # of the broadcasts, as the first listener that was checked has got them
        self.places = {}  # of each direct event: how many broadcasts stand before it
        self.source_of = {}
        self.due = {}  # by listener, then by source: their events in order
        self.behind = {}  # what the script told the observer, and the event of the same hook
        self.results = {}  # of the messages whose result the order decides: filled by the check

    def broadcast(self, source, event, listeners):
        self.broadcasts.add(event)
        self.direct(source, event, listeners)

    def direct(self, source, event, listeners):
        self.source_of[event] = source
        for listener in listeners:
            self.due.setdefault(listener, {}).setdefault(source, []).append(event)

    def count_for(self, listener):
        return sum(map(len, self.due.get(listener, {}).values()))

    def check(self, listener, events):
        events = [self._without_result(event) for event in events]
        got = {}
        for event in events:
            if event not in self.source_of:
                raise AssertionError(f"{listener} got what nobody has said: {shown(event)}")
            got.setdefault(self.source_of[event], []).append(event)
        for source, wanted in self.due.get(listener, {}).items():
            equal(got.get(source, []), wanted, f"events of {source} for {listener}")
        order = [event for event in events if event in self.broadcasts]
        if self.order is None:
            self.order = order
        equal(order, self.order, f"the order of all, for {listener}")
        before = 0
        for at, event in enumerate(events):
            if event in self.broadcasts:
                before += 1
                continue
            equal(before, self.places.setdefault(event, before), f"the place of {shown(event)}")
            if event in self.behind:
                equal(events[at - 1], self.behind[event], "what stands before what is of one hook")

    def _without_result(self, event):
        words = event.split(b" ", 4)
        if words[0] != b"did" or int(words[1]) not in self.results:
            return event
        self.results[int(words[1])] = words[3]
        return b" ".join(words[:2])


class Request:
    """One that waits."""

    def __init__(self, producer, numbers, asked, timeout):
        self.producer = producer
        self.numbers = numbers
        self.asked = asked
        self.timeout = timeout  # seconds; None: far away


class Asker:
    """A producer, the answers that are due to it, and its requests that wait."""

    def __init__(self, name, peer):
        self.name = name
        self.peer = peer
        self.due = collections.deque()
        self.waiting = {}  # by (INDEX, LABEL)
        self.expired = 0
        self.ending = False  # has ended its side

    def __repr__(self):
        return self.name

    def check(self):
        """What it has got is what was due; requests may have expired at any place."""
        answers = self.peer.answers
        for answer in answers:
            if answer[0] == b"expired":
                request = self.waiting.pop(tuple(answer[1:]), None)
                if request is None or request.timeout is None:
                    raise AssertionError(f"{self} got {answer}")
                if time.monotonic() < request.asked + request.timeout:
                    raise AssertionError(f"{answer} before its time")
                self.expired += 1
                continue
            if not self.due:
                raise AssertionError(f"{self} got {shown(answer)} and nothing is due")
            wanted = self.due.popleft()
            equal(answer[: len(wanted)], wanted, f"answer for {self}")
            if len(answer) != len(wanted) and wanted[0] != b"error":
                raise AssertionError(f"{self} got {shown(answer)}")
        answers.clear()

    def waits_for_others(self):
        """That is, not only for deadlines."""
        return any(request.timeout is None for request in self.waiting.values())

    def settle(self):
        """Reads until nothing is due."""

        def done():
            self.check()
            return not self.due or self.peer.ended

        self.peer.pump(done, what=f"{len(self.due)} answers for {self}")
        equal(list(self.due), [], f"answers for {self}")


class Model:
    """One relay and the peers around it."""

    def __init__(self, relay, rng):
        self.relay = relay
        self.rng = rng
        self.history = collections.deque(maxlen=HISTORY)
        self.names = 0
        self.numbers = 0
        self.version = 0
        self.listeners = []
        self.askers = []
        self.ended = collections.deque(maxlen=30)  # numbers of requests that have ended
        self.totals = collections.Counter()
        self.due = [0, 0]  # deliveries: at least, at most
        self.observer = self.connect_observer()
        self.operations = self.weigh_operations()

    # --- what the model knows ---

    def number(self):
        self.numbers += 1
        return self.numbers

    def name(self, kind):
        self.names += 1
        return f"{kind}{self.names}"

    def event(self, text=b""):
        """A payload of its own, now and then a big one."""
        event = b"e%d %b" % (self.number(), text)
        if self.rng.random() < 0.15:
            event += b"." * self.rng.randrange(20_000)
        return event

    def others(self):
        return [listener for listener in self.listeners if listener is not self.observer]

    def with_tag(self, tag):
        return [listener for listener in self.listeners if listener.tag == tag]

    def first_with_tag(self, tag):
        return sorted(self.with_tag(tag), key=lambda listener: listener.conidx)[:1]

    def ready_askers(self):
        return [a for a in self.askers if not a.ending and not a.peer.paused]

    def waiting(self, sure=None):
        """Requests that wait; sure: whether they have a deadline that could be over."""
        return [
            request
            for asker in self.askers
            for request in asker.waiting.values()
            if sure is None or (request.timeout is None) == sure
        ]

    def broadcast(self, event):
        self.totals["relayed"] += 1
        self.direct(event, self.listeners)

    def direct(self, event, listeners):
        self.due[0] += len(listeners)
        self.due[1] += len(listeners)
        for listener in listeners:
            listener.expect(event)

    def tell(self, *words):
        self.direct(b" ".join(words), [self.observer])

    # --- what is done and awaited ---

    def settle(self, *listeners):
        """All that is due has arrived: at the observer, and at these."""
        listeners = [self.observer, *listeners]
        self.pump(listeners, [listener.peer for listener in listeners])
        for listener in listeners:
            listener.check()

    def pump(self, listeners, peers, done=lambda: True):
        """Until these have got as many events as are due."""
        try:
            pump(
                peers,
                lambda: done() and all(listener.has_all() for listener in listeners),
                what=f"what is due to {listeners}",
            )
        except Timeout:
            for listener in listeners:  # what is missing says more
                listener.check()
            raise

    def settle_all(self):
        self.settle(*[listener for listener in self.others() if not listener.peer.paused])
        for asker in self.askers:
            if not asker.peer.paused:
                asker.settle()

    def say(self, listener, number, verb, *words):
        self.totals["messages"] += 1
        message = b"\t".join([b"%d" % number, verb, *words, *([] if words else [b""])])
        listener.peer.send(wire.data(message))

    def did(self, number, result, listener):
        self.tell(
            b"did %d v%d" % (number, self.version),
            b"true" if result else b"false",
            listener.spoken_tag,
        )

    def ask(self, asker, *items):
        """A request whose answer is due now."""
        asker.peer.send(wire.list_frame(*items))
        asker.settle()

    def connect_observer(self):
        peer = self.relay.subscriber()
        observer = Listener("observer", peer, 0)
        self.listeners.append(observer)
        self.totals["accepted"] += 1
        self.observer = observer
        self.broadcast(b"came 0")
        observer.tag = b"observer"
        number = self.number()
        self.say(observer, number, b"set_tag", b"observer")
        self.did(number, True, observer)
        self.settle()
        return observer

    def weigh_operations(self):
        """Which there are, and how often each is tried."""
        return {
            self.connect: 12,
            self.half_close: 3,
            self.kill: 3,
            self.close_by_hook: 3,
            self.set_tag: 14,
            self.stall: 5,
            self.unstall: 5,
            self.say_something: 14,
            self.fail: 4,
            self.connect_producer: 5,
            self.half_close_producer: 2,
            self.kill_producer: 2,
            self.stall_producer: 2,
            self.unstall_producer: 4,
            self.relay_frames: 6,
            self.request: 14,
            self.request_badly: 4,
            self.suspend: 22,
            self.suspend_many: 1,
            self.resume: 20,
            self.resume_together: 4,
            self.await_expiry: 3,
            self.reload: 1,
            self.burst: 8,
            self.settle_all: 6,
        }

    def step(self):
        operation = self.rng.choices(*zip(*self.operations.items()))[0]
        self.history.append(operation.__name__)
        said = operation()
        if said is False:
            self.history.pop()
            return
        if said:
            self.history[-1] += f" {said}"

    def note(self, text):
        self.history[-1] += f" {text}"

    # --- operations: each returns False where it cannot be done now ---

    def connect(self):
        if len(self.listeners) >= 12:
            return False
        small = self.rng.random() < 0.5
        peer = self.relay.subscriber(receive_buffer=4 * KIB if small else None, wait=False)
        peer.pump(lambda: not peer.shaking)
        taken = {listener.conidx for listener in self.listeners}
        conidx = min(set(range(len(taken) + 1)) - taken)
        listener = Listener(self.name("s"), peer, conidx)
        self.listeners.append(listener)
        self.totals["accepted"] += 1
        self.broadcast(b"came %d" % conidx)
        self.tell(b"new %d %d nil" % (conidx, peer.sock.getsockname()[1]))
        self.settle()
        return listener

    def gone(self, listener, reason):
        """It has ended; its connection-closed is heard by all that are left."""
        self.listeners.remove(listener)
        self.relay.peers.remove(listener.peer)
        self.totals[f"closed {reason}"] += 1
        self.broadcast(b"went %d %b" % (listener.conidx, reason.encode()))
        self.tell(b"closed %d %b" % (listener.conidx, reason.encode()), listener.spoken_tag)

    def pick(self, listeners=None):
        listeners = self.others() if listeners is None else listeners
        return self.rng.choice(listeners) if listeners else None

    def half_close(self):
        listener = self.pick()
        if listener is None:
            return False
        self.note(listener)
        listener.peer.paused = False
        listener.peer.half_close()
        # It hears its own connection-closed.
        listener.expect(b"went %d eof" % listener.conidx)
        self.due[0] += 1
        self.due[1] += 1
        self.gone(listener, "eof")
        self.settle(listener)
        self.expect_end(listener)
        return None

    def expect_end(self, listener):
        listener.peer.expect_end("eof")
        equal(listener.peer.events, [], f"events for {listener} behind its end")
        listener.peer.close()

    def kill(self):
        listener = self.pick()
        if listener is None:
            return False
        self.note(listener)
        listener.peer.kill()
        self.gone(listener, "reset")
        self.settle()
        return None

    def close_by_hook(self):
        listener = self.pick()
        if listener is None:
            return False
        self.note(listener)
        listener.peer.paused = False
        number = self.number()
        self.say(listener, number, b"close")
        self.did(number, True, listener)
        if self.rng.random() < 0.5:  # what follows is not heard
            self.say(listener, self.number(), b"relay", b"never heard")
            self.totals["messages"] -= 1
            self.totals["perhaps"] += 1
        self.gone(listener, "hook")
        self.settle(listener)
        self.expect_end(listener)
        return None

    def set_tag(self):
        listener = self.pick()
        if listener is None:
            return False
        tag = self.rng.choice([*TAGS, b"", b"t" * 64])
        number = self.number()
        self.note(f"{listener} {tag} number {number}")
        self.say(listener, number, b"set_tag", tag)
        if len(tag) <= 63:
            listener.tag = tag
        self.did(number, len(tag) <= 63, listener)
        self.settle()
        return None

    def stall(self):
        listener = self.pick([l for l in self.others() if not l.peer.paused])
        if listener is None:
            return False
        listener.peer.paused = True
        return listener

    def unstall(self):
        listener = self.pick([l for l in self.others() if l.peer.paused])
        if listener is None:
            return False
        self.note(listener)
        listener.peer.paused = False
        self.settle(listener)
        return None

    def say_something(self):
        listener = self.pick()
        if listener is None:
            return False
        verb = self.rng.choice([b"relay", b"reply", b"multicast", b"unicast", b"close_not"])
        number, event, tag = self.number(), self.event(), self.rng.choice(TAGS)
        self.note(f"{listener} {verb} {shown(event)} {tag} number {number}")
        if verb == b"relay":
            self.say(listener, number, verb, event)
            self.broadcast(event)
        elif verb == b"reply":
            self.say(listener, number, verb, event)
            self.direct(event, [listener])
        elif verb == b"close_not":  # a verb that the script does not know does nothing
            self.say(listener, number, verb)
        else:
            self.say(listener, number, verb, event, tag)
            self.direct(
                event, self.with_tag(tag) if verb == b"multicast" else self.first_with_tag(tag)
            )
        self.did(number, True, listener)
        self.settle()
        return None

    def fail(self):
        """The hook fails with a verdict half full: nothing is done, its claim is given back."""
        listener = self.pick()
        if listener is None:
            return False
        request = self.pick(self.waiting(sure=True))
        numbers = request.numbers if request else (b"0", b"0")
        number = self.number()
        self.note(f"{listener} {numbers} number {number}")
        self.say(listener, self.number(), b"fail", *numbers, b"data")
        self.say(listener, number, b"nothing")
        self.totals["failed"] += 1
        self.did(number, True, listener)
        self.settle()
        return None

    # Producers

    def connect_producer(self):
        return self.add_producer() if len(self.askers) < 6 else False

    def add_producer(self):
        asker = Asker(self.name("p"), self.relay.producer())
        self.askers.append(asker)
        asker.due.append([b"ok"])
        self.ask(asker, "ping")
        self.totals["ping"] += 1
        return asker

    def leave(self, asker):
        """It is gone, and with it what waited."""
        self.askers.remove(asker)
        self.relay.peers.remove(asker.peer)
        self.totals["expired"] += asker.expired
        self.totals["producers gone"] += 1
        left = len(self.askers)
        self.relay.wait_status(lambda s: s["producers"]["connected"] <= left, "it is gone")

    def end_ending(self, asker):
        """One that has ended its side gets the end when nothing waits any more."""
        if not asker.ending or asker.waits_for_others():
            return
        self.await_expiries(asker)
        asker.settle()
        asker.peer.expect_end("eof")
        asker.check()
        asker.peer.close()
        self.leave(asker)

    def half_close_producer(self):
        asker = self.pick(self.ready_askers())
        if asker is None:
            return False
        self.note(f"{asker} with {len(asker.waiting)} that wait")
        asker.settle()
        asker.peer.half_close()
        asker.ending = True
        self.end_ending(asker)
        return None

    def kill_producer(self):
        asker = self.pick(self.askers)
        if asker is None:
            return False
        self.note(f"{asker} with {len(asker.waiting)} that wait")
        for numbers, request in asker.waiting.items():
            self.ended.append(numbers)
            # With a deadline it may have expired, with the answer under way.
            self.totals["lost" if request.timeout is None else "lost, perhaps"] += 1
        asker.peer.kill()
        self.leave(asker)
        return None

    def stall_producer(self):
        asker = self.pick(self.ready_askers())
        if asker is None:
            return False
        asker.peer.paused = True
        return asker

    def unstall_producer(self):
        asker = self.pick([a for a in self.askers if a.peer.paused])
        if asker is None:
            return False
        self.note(asker)
        asker.peer.paused = False
        asker.settle()
        return None

    def relay_frames(self):
        asker = self.pick(self.ready_askers())
        if asker is None:
            return False
        events = [self.event() for _ in range(self.rng.choice([1, 1, 2, 5]))]
        self.note(f"{asker} {shown(events)}")
        asker.peer.send(b"".join(map(wire.data, events)))
        for event in events:
            self.broadcast(event)
        self.settle()
        return None

    def request(self):
        asker = self.pick(self.ready_askers())
        if asker is None:
            return False
        verb, event = self.rng.choice(["relay", "multicast", "unicast"]), self.event()
        tag = self.rng.choice(TAGS)
        self.note(f"{asker} {verb} {shown(event)} {tag}")
        self.expect_delivered(asker, verb, event, tag)
        self.ask(asker, verb, event, *([] if verb == "relay" else [tag]))
        self.settle()
        return None

    def expect_delivered(self, asker, verb, event, tag):
        """The answer to relay, multicast or unicast, and who gets the event."""
        if verb == "relay":
            asker.due.append([b"ok", b"%d" % len(self.listeners)])
            self.broadcast(event)
        else:
            heard = self.with_tag(tag) if verb == "multicast" else self.first_with_tag(tag)
            self.direct(event, heard)
            if verb == "unicast" and not heard:
                asker.due.append([b"error", b"no-subscriber"])
                self.totals["no-subscriber"] += 1
                return
            asker.due.append([b"ok", b"%d" % len(heard)])
        self.totals[verb] += 1

    def request_badly(self):
        asker = self.pick(self.ready_askers())
        if asker is None:
            return False
        bad = [
            ("bad-arguments", ("relay", "")),
            ("bad-arguments", ("unicast", "x")),
            ("bad-arguments", ("multicast", "x", "t" * 64)),
            ("bad-arguments", ("async_relay", "x", "0")),
            ("unknown-verb", ("Relay", "x")),
            ("too-big", ("relay", b"x" * (64 * KIB + 1))),
        ]
        code, items = self.rng.choice(bad)
        self.note(f"{asker} {code}")
        asker.due.append([b"error", code.encode()])
        self.totals[code] += 1
        self.ask(asker, *items)
        return None

    # Requests that wait

    def suspend(self):
        asker = self.pick(self.ready_askers())
        if asker is None:
            return False
        verb = self.rng.choice(["async_relay", "async_multicast", "async_unicast"])
        # Mostly none of its own: nothing expires of itself then.
        timeout = self.rng.choice([None, None, None, None, 1, 20, 60])
        return self.suspend_for(asker, verb, self.rng.choice(TAGS), timeout)

    def suspend_many(self):
        """More than each producer may have, and more than all together."""
        for asker in self.ready_askers():
            for _ in range(MAX_SUSPENDED // 4 + 1):
                self.suspend_for(asker, "async_relay", b"", None)

    def suspend_for(self, asker, verb, tag, timeout):
        event = self.event(b"$T(id_index) $T(id_label) $T(id_label)")
        heard = {
            "async_relay": self.listeners,
            "async_multicast": self.with_tag(tag),
            "async_unicast": self.first_with_tag(tag),
        }[verb]
        self.note(f"{asker} {verb} {shown(event)} {tag} {timeout}")
        items = [verb, event, *([] if verb == "async_relay" else [tag])]
        asked = time.monotonic()
        asker.peer.send(wire.list_frame(*items, *([timeout] if timeout else [])))
        answer = self.first_answer(asker)
        self.note(f"-> {answer[:3]}")
        if not heard:
            equal(answer[:2], [b"error", b"no-subscriber"], "nobody is there to be asked")
            self.totals["no-subscriber"] += 1
            return None
        if answer[0] == b"error":
            equal(answer[1], b"overloaded", f"{verb} was answered {answer}")
            if len(asker.waiting) < MAX_SUSPENDED // 4 and len(self.waiting()) < MAX_SUSPENDED:
                # Those that have expired meanwhile are not counted any more; others are missing.
                raise AssertionError(f"{answer}: there was room")
            self.totals["overloaded"] += 1
            return None
        equal((answer[0], len(answer)), (b"suspended", 3), f"{verb} was answered")
        equal(self.is_full(asker), False, "full")
        index, label = numbers = tuple(answer[1:])
        if any(index == request.numbers[0] for request in self.waiting(sure=True)):
            raise AssertionError(f"the index of {numbers} is another's")
        if int(index) >= MAX_SUSPENDED or not 0 < int(label) < 2**32:
            raise AssertionError(f"odd numbers: {numbers}")
        request = Request(asker, numbers, asked, timeout and timeout / 1000)
        asker.waiting[numbers] = request
        self.totals["suspended"] += 1
        self.totals[verb] += 1
        event = event.replace(b"$T(id_index)", index).replace(b"$T(id_label)", label)
        if verb == "async_relay":
            self.broadcast(event)
        else:
            self.direct(event, heard)
        self.settle()
        return None

    def first_answer(self, asker):
        """The next answer that is not of a request that has expired."""
        def found():
            return next((n for n, a in enumerate(asker.peer.answers) if a[0] != b"expired"), None)

        asker.peer.pump(lambda: found() is not None or asker.peer.ended, what=f"answer for {asker}")
        if found() is None:
            raise AssertionError(f"{asker} got the end instead of an answer")
        return asker.peer.answers.pop(found())

    def is_full(self, asker):
        """Surely, that is without those that may have expired."""
        own = sum(request.timeout is None for request in asker.waiting.values())
        return own >= MAX_SUSPENDED // 4 or len(self.waiting(sure=True)) >= MAX_SUSPENDED

    def resume(self):
        """Right, twice, late or forged."""
        listener = self.pick()
        if listener is None:
            return False
        waiting = self.waiting()
        kind = self.rng.choice(["right", "right", "right", "twice", "late", "forged"])
        if kind in ("right", "twice") and not waiting or kind == "late" and not self.ended:
            return False
        if kind == "late":
            numbers, request = self.rng.choice(self.ended), None
        elif kind == "forged":
            numbers, request = self.forge(), None
        else:
            request = self.rng.choice(waiting)
            numbers = request.numbers
        messages = [(self.number(), self.event()) for _ in range(2 if kind == "twice" else 1)]
        self.note(f"{listener} {kind} {numbers} {shown(messages)}")
        for number, data in messages:
            self.say(listener, number, b"resume", *numbers, data)
        if request is None or request.timeout is None:
            for at, (number, _) in enumerate(messages):
                self.did(number, request is not None and at == 0, listener)
            self.settle()
            if request is not None:
                self.resumed(request, messages[0][1])
            return None
        # It may have expired meanwhile: the script knows.
        burst = Burst()
        for number, _ in messages:
            self.expect_result(burst, listener, number)
        self.settle_burst(burst)
        winners = [data for number, data in messages if burst.results[number] == b"true"]
        self.note(f"-> {burst.results}")
        if winners:
            equal(winners, [messages[0][1]], "who has resumed it")
            self.resumed(request, winners[0])
        elif time.monotonic() < request.asked + request.timeout:
            raise AssertionError(f"{request.numbers} is not resumed, and has time left")
        return None

    def forge(self):
        index, label = self.pick([r.numbers for r in self.waiting()]) or (b"0", b"77")
        label = int(label)
        known = {request.numbers for request in self.waiting()}
        while True:
            forged = self.rng.choice(
                [
                    (index, b"%d" % (label ^ 1 << self.rng.randrange(32))),
                    (b"%d" % self.rng.randrange(MAX_SUSPENDED), b"%d" % label),
                    (index, b"%d" % (label + 2**32)),
                    (b"%d" % (int(index) + 2**32), b"%d" % label),
                    (index, b"0"),
                ]
            )
            if forged not in known:
                return forged

    def resumed(self, request, data):
        asker = request.producer
        if asker.waiting.pop(request.numbers, None) is None:
            raise AssertionError(f"{request.numbers} has expired, and a hook has resumed it")
        asker.due.append([b"resumed", *request.numbers, data])
        self.ended.append(request.numbers)
        self.totals["resumed"] += 1
        if not asker.peer.paused:
            asker.settle()
        self.end_ending(asker)

    def expect_result(self, burst, listener, number):
        burst.results[number] = None
        burst.direct(f"{listener} said", b"did %d" % number, [self.observer])
        self.due[0] += 1
        self.due[1] += 1

    def settle_burst(self, burst):
        """The observer has got all of it, and so have those who read."""
        for listener in self.listeners:
            if burst.count_for(listener):
                listener.expect_burst(burst)
        self.settle()

    def resume_together(self):
        """Several at once, of the same request: one of them has it."""
        listeners, waiting = self.others(), self.waiting(sure=True)
        if len(listeners) < 2 or not waiting:
            return False
        request = self.rng.choice(waiting)
        listeners = self.rng.sample(listeners, self.rng.randint(2, min(5, len(listeners))))
        self.note(f"{listeners} {request.numbers}")
        burst, data_of = Burst(), {}
        for listener in listeners:
            number = self.number()
            data_of[number] = self.event()
            self.say(listener, number, b"resume", *request.numbers, data_of[number])
            self.expect_result(burst, listener, number)
        self.settle_burst(burst)
        winners = [number for number in data_of if burst.results[number] == b"true"]
        equal(len(winners), 1, f"how many have resumed it: {burst.results}")
        self.resumed(request, data_of[winners[0]])
        return None

    def await_expiries(self, asker):
        def over():
            asker.check()
            return all(request.timeout is None for request in asker.waiting.values())

        asker.peer.pump(over, what=f"the requests of {asker} with a deadline expire")

    def await_expiry(self):
        request = self.pick([r for r in self.waiting(sure=False) if not r.producer.peer.paused])
        if request is None:
            return False
        asker = request.producer
        self.note(f"{asker} {request.numbers}")
        asker.peer.pump(
            lambda: (asker.check(), request.numbers not in asker.waiting)[1], what="it expires"
        )
        late = time.monotonic() - request.asked - request.timeout
        self.ended.append(request.numbers)
        self.end_ending(asker)
        return f"{late * 1000:.0f} ms late"

    def reload(self):
        good = self.rng.random() < 0.7
        if good:
            self.version += 1
            self.relay.reload(lua=SCRIPT.replace("VERSION = 0", f"VERSION = {self.version}"))
        else:
            self.relay.reload("nothing has changed", lua="x = = 1")
        return f"version {self.version}"

    # Many at once

    def burst(self):
        """Producers and subscribers speak at once; perhaps one is killed meanwhile, and several
        resume the same requests."""
        askers = self.ready_askers()
        speakers = self.others()
        victim = self.pick() if self.rng.random() < 0.3 else None
        if victim:
            speakers.remove(victim)
        if not askers or len(speakers) < 2:
            return False
        self.rng.shuffle(askers)
        self.rng.shuffle(speakers)
        askers, speakers = askers[:3], speakers[:4]
        self.note(f"{askers} {speakers} without {victim}")
        # Whether the victim still gets an event is open, so no event is for its tag.
        tags = [tag for tag in TAGS if victim is None or tag != victim.tag]
        heard = [listener for listener in self.listeners if listener is not victim]
        burst = Burst()

        def broadcast(source, event):
            burst.broadcast(source, event, heard)
            self.totals["relayed"] += 1
            self.due[0] += len(heard)
            self.due[1] += len(self.listeners)

        def direct(source, event, listeners):
            burst.direct(source, event, listeners)
            self.due[0] += len(listeners)
            self.due[1] += len(listeners)

        def immediate(asker):
            return [answer for answer in asker.peer.answers if answer[0] in (b"ok", b"error")]

        counts = {}  # by asker: the places in its answers where the number of listeners is open
        for asker in askers:
            asker.settle()
            frames = []
            for _ in range(self.rng.randint(1, 20)):
                event, tag = self.event(), self.rng.choice(tags)
                verb = self.rng.choice(["frame", "frame", "relay", "multicast", "unicast"])
                if verb == "frame":
                    frames.append(wire.data(event))
                    broadcast(asker, event)
                    continue
                if verb == "relay":
                    frames.append(wire.list_frame(verb, event))
                    broadcast(asker, event)
                    if victim:
                        counts.setdefault(asker, []).append(len(asker.due))
                    asker.due.append([b"ok", b"%d" % len(heard)])
                    self.totals[verb] += 1
                    continue
                frames.append(wire.list_frame(verb, event, tag))
                members = self.with_tag(tag) if verb == "multicast" else self.first_with_tag(tag)
                direct(asker, event, members)
                if verb == "unicast" and not members:
                    asker.due.append([b"error", b"no-subscriber"])
                    self.totals["no-subscriber"] += 1
                else:
                    asker.due.append([b"ok", b"%d" % len(members)])
                    self.totals[verb] += 1
            asker.peer.outgoing += b"".join(frames)

        open_ = [r for r in self.waiting(sure=True) if not r.producer.peer.paused]
        races = self.rng.sample(open_, min(2, len(open_)))
        runners = {request: {} for request in races}  # number -> data
        for speaker in speakers:
            for _ in range(self.rng.randint(1, 8)):
                number, event, tag = self.number(), self.event(), self.rng.choice(tags)
                verb = self.rng.choice([b"relay", b"relay", b"reply", b"multicast", b"unicast"])
                words = [event] if verb in (b"relay", b"reply") else [event, tag]
                self.queue(speaker, number, verb, *words)
                if verb == b"relay":
                    broadcast(speaker, event)
                elif verb == b"reply":
                    direct(speaker, event, [speaker])
                elif verb == b"multicast":
                    direct(speaker, event, self.with_tag(tag))
                else:
                    direct(speaker, event, self.first_with_tag(tag))
                did = b"did %d v%d true %b" % (number, self.version, speaker.spoken_tag)
                if verb == b"relay":
                    burst.behind[did] = event
                direct(speaker, did, [self.observer])
            for request, data_of in runners.items():
                number, data = self.number(), self.event()
                data_of[number] = data
                self.queue(speaker, number, b"resume", *request.numbers, data)
                burst.results[number] = None
                direct(speaker, b"did %d" % number, [self.observer])

        if victim:
            went = b"went %d reset" % victim.conidx
            burst.broadcast("the victim", went, heard)
            closed = b"closed %d reset %b" % (victim.conidx, victim.spoken_tag)
            burst.direct("the victim", closed, [self.observer])
            burst.behind[closed] = went
            self.totals["relayed"] += 1
            self.due[0] += len(heard) + 1
            self.due[1] += len(heard) + 1
        for listener in heard:
            if burst.count_for(listener):
                listener.expect_burst(burst)
        for number, peer in enumerate([a.peer for a in askers] + [s.peer for s in speakers]):
            peer.send(b"")
            if victim and number == 1:
                victim.peer.kill()
        if victim:
            self.listeners.remove(victim)
            self.relay.peers.remove(victim.peer)
            self.totals["closed reset"] += 1
        readers = [listener for listener in heard if not listener.peer.paused]
        # Those who stall still speak, and who is asked still answers.
        self.pump(
            readers,
            [listener.peer for listener in heard] + [asker.peer for asker in self.askers],
            lambda: not any(speaker.peer.outgoing for speaker in speakers)
            and all(len(immediate(asker)) >= len(asker.due) for asker in askers),
        )
        for asker, places in counts.items():
            for place in places:
                got = immediate(asker)[place]
                if got == [b"ok", b"%d" % (len(heard) + 1)]:
                    asker.due[place] = got
        # The winners of the races are known from what the observer has heard.
        self.observer.check()
        for request, data_of in runners.items():
            winners = [number for number in data_of if burst.results[number] == b"true"]
            equal(len(winners), 1, f"how many have resumed {request.numbers}: {burst.results}")
            self.take_final(request, data_of[winners[0]])
        for listener in readers:
            listener.check()
        for asker in askers:
            asker.settle()
        for asker in {request.producer for request in races}:
            self.end_ending(asker)
        return None

    def queue(self, speaker, number, verb, *words):
        """As `say`, but all of them are sent when everybody's are ready."""
        self.totals["messages"] += 1
        speaker.peer.outgoing += wire.data(b"\t".join([b"%d" % number, verb, *words]))

    def take_final(self, request, data):
        """Its final answer stands anywhere among the answers of its producer."""
        asker = request.producer
        del asker.waiting[request.numbers]
        self.ended.append(request.numbers)
        self.totals["resumed"] += 1
        wanted = [b"resumed", *request.numbers, data]
        asker.peer.pump(lambda: wanted in asker.peer.answers, what=f"{shown(wanted)} for {asker}")
        asker.peer.answers.remove(wanted)

    # --- the end ---

    def finish(self):
        """Everybody reads, and has got everything and nothing more; the counters are the model's;
        a drain ends what waits."""
        self.history.append("finish")
        for peer in [listener.peer for listener in self.listeners]:
            peer.paused = False
        for asker in list(self.askers):
            asker.peer.paused = False
            self.await_expiries(asker)
            asker.settle()
            self.end_ending(asker)
        asker = self.add_producer()
        self.expect_delivered(asker, "relay", b"end", b"")
        self.ask(asker, "relay", b"end")
        for _ in range(3):  # for the drain
            self.suspend_for(asker, "async_relay", b"", None)
        self.settle(*self.others())
        for listener in self.listeners:
            equal(listener.peer.events, [], f"events for {listener} that nobody has said")
        self.check_counters()
        self.drain()

    def check_counters(self):
        status = self.relay.wait_handled()
        self.relay.check_balance(status)
        totals = self.totals
        for asker in self.askers:
            asker.settle()
        expired = totals["expired"] + sum(asker.expired for asker in self.askers)
        people = status["subscribers"]
        equal(people["live"], len(self.listeners), "live")
        equal(people["accepted"], totals["accepted"], "accepted")
        for reason, count in people["closed"].items():
            equal(count, totals[f"closed {reason}"], f"closed for {reason}")
        equal(status["producers"]["connected"], len(self.askers), "producers")
        equal(status["events"]["relayed"], totals["relayed"], "events.relayed")
        due = status["deliveries"]["due"]
        if not self.due[0] <= due <= self.due[1]:
            raise AssertionError(f"deliveries.due is {due}, not in {self.due}")
        received = status["messages"]["received"] - totals["messages"]
        if not 0 <= received <= totals["perhaps"]:
            raise AssertionError(f"messages.received is off by {received}")
        requests = status["requests"]
        for kind in ("accepted", "errors"):
            for name, count in requests[kind].items():
                equal(count, totals[name], f"requests.{kind}.{name}")
        equal(status["hook"]["actions"]["resume"], totals["resumed"], "hook.actions.resume")
        equal(status["hook"]["failed"]["error"], totals["failed"], "hook.failed.error")
        equal(status["hook"]["stale_actions"], 0, "hook.stale_actions")
        waits = status["async"]
        equal(waits["suspended"], totals["suspended"], "async.suspended")
        equal(waits["resumed"], totals["resumed"], "async.resumed")
        equal(waits["drained"], 0, "async.drained")
        lost = waits["abandoned"] - totals["lost"]
        if not 0 <= lost <= totals["lost, perhaps"]:
            raise AssertionError(f"async.abandoned is {waits['abandoned']}: off by {lost}")
        equal(
            waits["expired"] + waits["waiting"] + lost,
            expired + len(self.waiting()) + totals["lost, perhaps"],
            "async.expired and those that wait",
        )

    def drain(self):
        self.relay.signal(signal.SIGTERM)
        peers = [listener.peer for listener in self.listeners] + [a.peer for a in self.askers]
        pump(peers, lambda: all(peer.ended for peer in peers), what="the end of the drain")
        for asker in self.askers:
            drained = [a for a in asker.peer.answers if a[0] == b"error"]
            asker.peer.answers = [a for a in asker.peer.answers if a[0] != b"error"]
            asker.check()
            equal(
                sorted(drained),
                sorted([b"error", b"draining", *numbers] for numbers in asker.waiting),
                f"answers of the drain for {asker}",
            )
        equal({peer.ended for peer in peers}, {"eof"}, "how the peers' connections end")
        self.relay.close_peers()
        equal(self.relay.wait(), 0, "the exit code")


class ModelCase(RelayCase):
    def check(self, workers, policy):
        seed = int(os.environ.get("EVRELAY_TEST_SEED", random.randrange(2**32)))
        print(f"# seed {seed} ({self.id()})")
        relay = self.start(
            lua=SCRIPT,
            workers=workers,
            send_buffer="16KiB",
            max_event="64KiB",
            slow_subscriber={"max_lag": "64MiB", "policy": policy},
            **{"async": {"max_suspended": MAX_SUSPENDED, "timeout": "60min"}},
        )
        model = None
        try:
            model = Model(relay, random.Random(seed))
            for _ in range(scaled(STEPS)):
                model.step()
            model.finish()
        except Exception as error:
            steps = "\n  ".join(model.history) if model else "the start"
            raise AssertionError(
                f"{error}\nEVRELAY_TEST_SEED={seed}; the last operations:\n  {steps}"
            ) from error

    def test_with_one_worker(self):
        self.check(1, "disconnect")

    def test_with_4_workers(self):
        self.check(4, "block")

    def test_with_16_workers(self):
        self.check(16, "skip")


if __name__ == "__main__":
    unittest.main()
