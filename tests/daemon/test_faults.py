"""RELIABILITY bars 13 and 14: whatever call of evrelay fails, of every kind, for every n the n-th.

A round is a short life: subscribers come, talk, get events and answers, and leave; a producer sends
events and requests; the configuration is read again. One call of the round fails. Then at most one
connection may have ended for it; everybody else got everything, the books balance, and the loop has
not gone round for nothing. A start with a failing call works or ends with an exit code and a message; a stop is a stop whatever fails.

EVRELAY_TEST_SEED repeats the choice of a short form's faults.
"""

import collections
import contextlib
import errno
import json
import os
import random
import signal
import time
import unittest

import faults
import tls
import wire
from relay import MIB, SCALE, Peer, Producer, Relay, RelayCase, StartFailed, Subscriber, Timeout, pump

SCRIPT = r"""
event_route["evapi:message-received"] = function(evapi)
  local verb, rest = evapi.msg:match("^(%l+) (.*)$")
  if verb == "tag" then
    evapi.set_tag(rest)
    evapi.reply("tagged")
  elseif verb == "resume" then
    evapi.resume(rest:match("^(%d+) (%d+) (.*)$"))
  elseif verb == "relay" then
    evapi.relay(rest)
  end
end
"""
SUBSCRIBERS = 3
# A round takes about 100 turns of the loop.
MOST_TURNS = 1000


def name_of(error):
    return errno.errorcode[error]


def status(relay):
    """The control session may be what the call failed for; one call fails once."""
    try:
        return relay.status()
    except AssertionError:
        return relay.status()


class Round:
    """One round, with a relay that may have failing calls."""

    def __init__(self, relay, number, timeout=20, mute=False, lossy=False):
        """mute: what fails may be a send, after which a producer is heard though it cannot hear.
        lossy: a frame for one alone, or what a hook wanted, may be lost."""
        self.relay = relay
        self.name = b"%d " % number
        self.timeout = timeout
        self.mute = mute
        self.lossy = lossy
        self.lost_before = status(relay)["requests"]["undeliverable"]
        self.subscribers = []
        self.turned_away = 0
        self.producer = None

    def run(self):
        for _ in range(SUBSCRIBERS):
            try:
                self.subscribers.append(Subscriber(self.relay.address))
            except ConnectionError:
                self.turned_away += 1
        self.producer = Producer(self.relay.producer_path)
        for number, subscriber in enumerate(self.subscribers):
            subscriber.send(wire.data(b"tag t%d" % number))
        self.pump(lambda s: s.events, lambda p: True)
        self.producer.send(
            b"".join(wire.data(self.name + b"data %d" % number) for number in range(3))
            + wire.list_frame("relay", self.name + b"request")
            + wire.list_frame("multicast", self.name + b"to t1", "t1")
            + wire.list_frame("unicast", self.name + b"to t2", "t2")
            + wire.list_frame("async_relay", self.name + b"ask $T(id_index) $T(id_label)", 2000)
        )
        ask = self.name + b"ask "
        self.pump(
            lambda s: s.events[-1].startswith(ask) or self.producer.ended,
            lambda p: len(p.answers) >= 4,
        )
        for subscriber in self.subscribers:
            if subscriber.events and subscriber.events[-1].startswith(ask):
                index, label = subscriber.events[-1].split()[2:]
                subscriber.send(wire.data(b"resume %b %b answer" % (index, label)))
                self.pump(lambda s: True, lambda p, s=subscriber: s.ended or len(p.answers) >= 5)
        self.pump(lambda s: True, lambda p: len(p.answers) >= 5)

    def pump(self, subscribers, producer):
        """Until what is to be true of each is true, or it has ended. Now and then something else
        happens, as it does in life: a wait that went wrong may not end before."""

        def done():
            nonlocal patient, before
            if time.monotonic() > patient:
                patient = time.monotonic() + 0.1
                now = {group: status(self.relay)[group] for group in ("deliveries", "messages")}
                at_rest = now == before and now["messages"]["unhandled"] == 0
                if self.lossy and at_rest and now["deliveries"]["queued"] == 0:
                    return True
                before = now
            return all(
                s.ended or s.events and subscribers(s) for s in self.subscribers
            ) and (self.producer.ended or self.unheard() or producer(self.producer))

        patient, before = time.monotonic() + 0.1, None
        pump([*self.subscribers, self.producer], done, self.timeout, "a round")

    def unheard(self):
        """The producer is heard, but its answers are lost."""
        if not self.mute:
            return False
        return status(self.relay)["requests"]["undeliverable"] > self.lost_before

    def leave(self):
        for subscriber, leave in zip(self.subscribers[::-1], (Peer.half_close, Peer.kill, Peer.close)):
            try:
                leave(subscriber)
            except OSError:
                pass  # it had ended
        self.subscribers[-1].expect_end(None)
        self.subscribers[-1].close()
        self.producer.close()

    def ended(self):
        """How many it was not to be the end of."""
        ended = sum(peer.ended is not None for peer in (*self.subscribers, self.producer))
        return ended + self.turned_away

    def deaf(self):
        return self.producer.ended or self.unheard()

    def check(self):
        """What they got is what was sent, in order."""
        broadcast = [self.name + b"data %d" % n for n in range(3)]
        broadcast += [self.name + b"request"]
        got = []
        for subscriber in self.subscribers:
            events = [e for e in subscriber.events if e.startswith(self.name)]
            asks = [e for e in events if e.startswith(self.name + b"ask ")]
            own = [e for e in events if e.startswith(self.name + b"to ")]
            rest = [e for e in events if e not in asks and e not in own]
            if rest != broadcast[: len(rest)] or len(asks) > 1:
                raise AssertionError(f"not what was sent: {events}")
            if not subscriber.ended:
                got.append((rest, asks))
            if not self.deaf() and not subscriber.ended and len(rest) + len(asks) != 5:
                raise AssertionError(f"not all that was sent: {events}")
        if any(one != got[0] for one in got):
            raise AssertionError(f"they differ: {got}")
        if not self.deaf():
            words = [answer[0] for answer in self.producer.answers]
            may_expire = self.lossy or self.ended()
            last = [[b"resumed"]] + may_expire * [[b"expired"], []]
            if words[0] != b"ok" or words[3] != b"suspended" or words[4:] not in last:
                raise AssertionError(f"answers: {self.producer.answers}")


class FaultCase(RelayCase):
    def setUp(self):
        if faults.CALLS is None:
            self.skipTest("sanitizers cannot be preloaded with what makes calls fail")
        self.seed = int(os.environ.get("EVRELAY_TEST_SEED", random.randrange(2**32)))
        print(f"# seed {self.seed} ({self.id()})")
        self.rng = random.Random(self.seed)
        self.board = faults.Board()
        self.addCleanup(self.board.close)
        self.rounds = 0

    def start_with_board(self, *libraries, **config):
        return self.start(env=self.board.environment(*libraries), lua=SCRIPT, **config)

    def start_with_witness(self, *libraries, **config):
        """A relay, and one subscriber that is there all the time."""
        relay = self.start_with_board(*libraries, **config)
        self.witness = relay.subscriber()
        return relay

    @contextlib.contextmanager
    def beginning(self, library, fault):
        """A relay that starts while this fails."""
        self.board.arm(*fault)
        relay = Relay({}, env=self.board.environment(library), lua=SCRIPT)
        try:
            yield relay
        finally:
            relay.clean_up()

    def live(self, relay):
        """From its start, in which something may fail, to its stop."""
        self.wait_ready(relay)
        self.board.disarm()
        self.witness = relay.subscriber()
        self.round(relay)
        relay.stop()

    def calls_of_a_round(self, relay, kinds):
        """How many calls of each kind a round makes."""
        for kind in kinds:
            self.board.arm(kind, 0, 0)
        self.round(relay)
        return {kind: self.board.calls(kind) for kind in kinds if self.board.calls(kind)}

    def round(self, relay, fault=None, most_ended=0, mute=False, lossy=False):
        """A round in which this fails, and a check of what came of it. Returns how many connections
        ended that should not."""
        self.rounds += 1
        turns = status(relay)["loop"]["turns"]
        this = Round(relay, self.rounds, mute=mute, lossy=lossy)
        if fault:
            self.board.arm(*fault)
        try:
            this.run()
            try:
                relay.control("reload")
            except AssertionError:
                pass  # the session broke
            ended = this.ended()
            this.leave()
            self.board.disarm()
            ended += self.settle_witness(relay)
            self.assertLessEqual(ended, most_ended)
            this.check()
        finally:
            for peer in (*this.subscribers, this.producer):
                if peer:
                    peer.close()
        self.assertLess(status(relay)["loop"]["turns"] - turns, MOST_TURNS)
        return ended

    def choose(self, calls, errors, short):
        """Each call with each error; the short form has so many of them."""
        all_of_them = [
            (kind, error, n)
            for kind, count in calls.items()
            for error in errors[kind]
            for n in range(1, count + 1)
        ]
        count = min(len(all_of_them), int(short * max(1, SCALE)))
        print(f"# {count} of {len(all_of_them)}")
        return self.rng.sample(all_of_them, count)

    @staticmethod
    def wait_ready(relay):
        try:
            relay.wait_ready()
        except StartFailed:
            raise
        except AssertionError:  # the control session broke
            relay.wait_ready()

    def settle_witness(self, relay):
        """The witness has got what there was; a new one comes when it has ended: then 1."""
        last = b"end of round %d" % self.rounds
        with contextlib.closing(Producer(relay.producer_path)) as producer:
            self.assertEqual(producer.request("relay", last)[0], b"ok")
        self.witness.pump(lambda: self.witness.ended or last in self.witness.events)
        self.witness.events.clear()
        if not self.witness.ended:
            return 0
        self.witness.close()
        self.witness = relay.subscriber()
        return 1

    def settle(self, relay):
        """All who have left are gone, and the books balance."""
        relay.check_balance(
            relay.wait_status(
                lambda s: s["subscribers"]["live"] + s["subscribers"]["closing"] == 1
                and s["producers"]["connected"] == 0
                and s["async"]["waiting"] == 0
                and s["messages"]["unhandled"] == 0,
                "all are gone",
                peers=[self.witness],
            )
        )


class RunningRelay(FaultCase):
    """A call of a round fails. A subscriber of long standing is there all the time."""

    def test_bar_14_each_call_fails_once(self):
        """RELIABILITY bar 14: no crash, no spin, the books balance, others are unaffected."""
        relay = self.start_with_witness(faults.CALLS, log={"level": "debug"})
        calls = self.calls_of_a_round(relay, faults.ERRORS)
        self.settle(relay)
        failed = collections.Counter()
        for kind in calls:
            for error in faults.ERRORS[kind]:
                failed[kind] += self.fail_each(relay, kind, error)
        print("# failed:", dict(failed))

    def test_bar_14_a_listener_that_is_not_watched_comes_back(self):
        """RELIABILITY bar 14: it rests when descriptors are used up, and then the kernel refuses to
        watch it: it tries again."""
        relay = self.start_with_witness(faults.CALLS)
        for n in range(1, 5):
            self.board.arm("accept4", errno.EMFILE, 1)
            shed = Subscriber(relay.address)
            shed.expect_end(None)
            shed.close()
            self.board.arm("epoll_ctl", errno.ENOMEM, n)
            for _ in range(2):  # one may be what the call failed for
                late = Subscriber(relay.address)
                late.send(wire.data(b"tag late"))
                late.pump(lambda peer=late: peer.ended or peer.events)
                late.close()
                if late.events:
                    break
            self.assertEqual(late.events, [b"tagged"])
            self.board.disarm()

    def fail_each(self, relay, kind, error):
        """The first call of a round fails, then the second, up to the last. Returns how many."""
        mute = kind == "send" and error in (errno.EPIPE, errno.ECONNRESET)
        n = 0
        while True:
            n += 1
            try:
                self.round(relay, (kind, error, n), 1, mute)
                self.settle(relay)
            except Exception as broken:
                raise AssertionError(f"{kind} {n} {name_of(error)}: {broken}") from broken
            if not self.board.failed(kind):
                return n - 1


class Memory(FaultCase):
    """An allocation of C++ (`new`) or of C (`malloc`: libev, Lua and what they use) fails."""

    # How evrelay, libev, Lua and the C++ library say it.
    MESSAGE = r"(?i)memory|cannot allocate|bad_alloc|cannot start a thread"

    def test_bar_13_each_allocation_of_a_round_fails_once(self):
        """RELIABILITY bar 13: a connection or an event fails for it, and nothing else. Where none
        can be given up the process ends, and says why."""
        for kind in faults.ALLOCATIONS:
            relay, n, tried, deaths = None, 0, -1, 0
            while True:
                relay = relay or self.start_with_witness(faults.MEMORY)
                n += 1 if SCALE > 1 else self.rng.randint(1, 6)
                tried += 1
                try:
                    self.round(relay, (kind, errno.ENOMEM, n), 1, lossy=True)
                    self.settle(relay)
                    if not self.board.failed(kind):
                        break
                except (AssertionError, OSError) as broken:
                    self.board.disarm()
                    if not self.has_died(relay):
                        raise AssertionError(f"{kind} {n}: {broken}") from broken
                    deaths += 1
                    relay.clean_up()
                    relay = None
            relay.stop()
            print(f"# {kind}: {tried} have failed, of which {deaths} were the end")
            self.assertLess(deaths, max(tried / 10, 5))

    def test_bar_13_a_start_works_or_says_why_not(self):
        """RELIABILITY bar 13: exit with a message, or a relay that does all it should."""
        relay = self.start_with_witness(faults.MEMORY)
        calls = {kind: self.board.calls(kind) for kind in faults.ALLOCATIONS}
        relay.stop()
        refused = 0
        for kind, error, n in self.choose(calls, faults.ALLOCATIONS, 30):
            with self.beginning(faults.MEMORY, (kind, error, n)) as relay:
                try:
                    self.live(relay)
                except (AssertionError, OSError) as broken:
                    if not self.has_died(relay):
                        raise AssertionError(f"{kind} {n}: {broken}\n{relay.log}") from broken
                    refused += 1
        print(f"# refused: {refused}")

    def test_bar_13_an_event_without_memory_reaches_nobody(self):
        """RELIABILITY bar 13: payload and segments: the producer is closed, its event is whole for
        all or for none, and all others go on."""
        relay = self.start_with_witness(
            faults.MEMORY, max_event="8MiB", slow_subscriber={"max_lag": "256MiB"}
        )
        self.witness.send(wire.data(b"tag t"))
        self.witness.expect(b"tagged")
        self.witness.paused = True  # so that the log is kept
        other = relay.producer()
        other.ping()
        events, unanswered = [], []
        # The first needs more segments than the log keeps in reserve.
        for size, *verb in ((5 * MIB, "relay"), (MIB, "multicast", "t"), (MIB, "unicast", "t")):
            n = closed = 0
            while True:
                n += 1
                event = (b"%b %d " % (verb[0].encode(), n)).ljust(size, b".")
                producer = relay.producer()
                producer.ping()
                self.board.arm("new", errno.ENOMEM, n)
                producer.send(wire.list_frame(verb[0], event, *verb[1:]))
                producer.pump(lambda p=producer: p.answers or p.ended)
                self.board.disarm()
                if producer.answers == [[b"ok", b"1"]]:
                    events.append(event)
                else:
                    closed += 1
                    unanswered.append(event)
                    self.assertIn(producer.answers, ([], [[b"ok", b"0"]]))
                producer.close()
                events.append(b"after %b %d" % (verb[0].encode(), n))
                self.assertEqual(other.request("relay", events[-1]), [b"ok", b"1"])
                if not self.board.failed("new"):
                    break
            self.assertGreater(closed, 0)
            print(f"# {verb[0]}: {closed} closed")
        self.witness.paused = False
        self.witness.pump(lambda: events[-1] in self.witness.events)
        got = [event for event in self.witness.events if event not in unanswered]
        self.assertTrue(got == events, [event[:20] for event in got])
        status = relay.status()
        self.assertGreater(status["producers"]["closed"]["no-memory"], 3)
        relay.check_balance(status)

    def test_bar_13_there_is_no_memory_for_an_answer(self):
        """RELIABILITY bar 13: the producer is closed, having heard whole answers only."""
        relay = self.start_with_witness(faults.MEMORY)
        self.witness.send(wire.data(b"tag t"))
        self.witness.expect(b"tagged")  # its worker needs no more memory for it
        n = closed = 0
        while True:
            n += 1
            producer = relay.producer()
            producer.ping()
            self.board.arm("new", errno.ENOMEM, n)
            producer.send(wire.list_frame("relay", b"event") * 99)
            producer.pump(lambda p=producer: p.ended or len(p.answers) == 99)
            self.board.disarm()
            self.assertEqual(producer.answers, [[b"ok", b"1"]] * len(producer.answers))
            closed += producer.ended is not None
            producer.close()
            if not self.board.failed("new"):
                break
        self.assertGreater(closed, 0)
        self.witness.pump(lambda: relay.status()["deliveries"]["queued"] == 0)

    def has_died(self, relay):
        """It has ended, in one of the ways that are allowed to it, and said why."""
        try:
            code = relay.wait(1)
        except Timeout:
            return False
        self.assertIn(code, (1, 2, 255, -signal.SIGABRT), relay.log)
        self.assertRegex(relay.log, self.MESSAGE)
        return True


class MemoryAtTheDoor(FaultCase):
    """An allocation fails for those who come from afar, whose addresses are long, and by TLS."""

    AFAR = "127.100.100.100"
    NAME = "desk-whose-name-is-a-long-one"

    def test_bar_13_one_with_tls_is_given_up_alone(self):
        """RELIABILITY bar 13: and whatever fails, nobody passes for one without a certificate."""
        relay = self.start_with_tls()
        context = tls.context(tls.client(self.NAME))
        for kind, step in (("new", 1), ("malloc", 5)):
            n, failed, seen = 0, True, collections.Counter()
            while failed:
                n += self.rng.randint(1, max(1, int(step / SCALE)))
                try:
                    failed, name = self.visit(relay, context, (kind, errno.ENOMEM, n))
                    self.assertIn(name, (None, self.NAME))
                    self.settle(relay)
                except (AssertionError, OSError) as broken:
                    raise AssertionError(f"{kind} {n}: {broken}") from broken
                seen[name] += 1
            print(f"# {kind}: {dict(seen)}")
            self.assertGreater(seen[None], 0)

    def test_bar_13_who_is_turned_away_is_counted_once(self):
        """RELIABILITY bar 13: there may be no memory to write the address."""
        relay = self.start_with_board(
            faults.MEMORY,
            bind_addr=[{"addr": "127.0.0.1:0", "allow": ["127.0.0.1/32"]}, "127.0.0.2:0"],
            max_clients_per_ip=1,
        )
        relay.subscriber(relay.addresses[1], source=self.AFAR)
        for address, reason in zip(relay.addresses, ("not-allowed", "per-ip")):
            before = sum(relay.status()["subscribers"]["refused"].values())
            n = 0
            while True:
                n += 1
                self.board.arm("new", errno.ENOMEM, n)
                away = Subscriber(address, source=self.AFAR)
                away.expect_end(None)
                away.close()
                failed = self.board.failed("new")
                self.board.disarm()
                refused = relay.status()["subscribers"]["refused"]
                self.assertEqual(refused[reason], n)
                self.assertEqual(sum(refused.values()) - before, n)
                if not failed:
                    break
            self.assertGreater(n, 1)

    def test_bar_13_a_listener_rests_without_memory(self):
        """RELIABILITY bar 13: descriptors are used up, and there are no words to say so."""
        relay = self.start_with_board(faults.CALLS, faults.MEMORY)
        self.board.arm("new", errno.ENOMEM, 1, faults.EVER)
        self.board.arm("accept4", errno.EMFILE, 1)
        shed = Subscriber(relay.address)
        shed.expect_end(None)
        shed.close()
        pump([], lambda: self.board.failed("new"), what="words are missing")
        self.board.disarm()
        late = Subscriber(relay.address)  # comes in when the rest is over
        late.send(wire.data(b"tag late"))
        late.expect(b"tagged")
        late.close()

    def start_with_tls(self):
        """Whose second listener has TLS. It has no script, as verdicts cannot be given up."""
        own, ca = tls.server(), tls.authority("ca")
        listener = {"cert": own.cert, "key": own.key, "client_ca": ca.cert}
        try:
            relay = self.start(
                env=self.board.environment(faults.MEMORY),
                bind_addr=["127.0.0.1:0", {"addr": "127.0.0.2:0", "tls": listener}],
            )
        except StartFailed as failed:
            if "built without TLS" in failed.log:
                self.skipTest("built without TLS")
            raise
        self.witness = relay.subscriber()
        return relay

    def visit(self, relay, context, fault):
        """One comes by TLS, gets an event and leaves, while this fails. Returns whether it did, and
        what the relay calls the visitor; None: it is not there any more."""
        self.rounds += 1
        self.board.arm(*fault)
        # Not from where the witness is: they might have the same port there.
        visitor = Subscriber(relay.addresses[1], over=context, source=self.AFAR)
        producer = Producer(relay.producer_path)
        with contextlib.closing(visitor), contextlib.closing(producer):
            visitor.pump(lambda: visitor.ended or not visitor.shaking)
            # When the first has been answered, the relay has heard the last of the handshake.
            for count, event in enumerate((b"first", b"event" * 1000), 1):
                producer.send(wire.list_frame("relay", event))
                producer.pump(lambda: producer.ended or len(producer.answers) == count)
            visitor.pump(lambda: visitor.ended or producer.ended or event in visitor.events)
            failed = self.board.failed(fault[0])
            self.board.disarm()
            own = "%s:%d" % visitor.sock.getsockname()
            clients = json.loads(relay.control("clients")[1])["clients"]
            names = [client["peer_name"] for client in clients if client["address"] == own]
        return failed, names[0] if names else None


class StartAndStop(FaultCase):
    def test_bar_14_a_start_works_or_says_why_not(self):
        """RELIABILITY bar 14: an exit code and a message, or a relay that does all it should."""
        self.witness = None
        relay = self.start_with_board(faults.CALLS)
        calls = {kind: self.board.calls(kind) for kind in faults.ERRORS}
        relay.stop()
        refused = 0
        for kind, error, n in self.choose(calls, faults.ERRORS, 30):
            what = f"{kind} {n} {name_of(error)}"
            with self.beginning(faults.CALLS, (kind, error, n)) as relay:
                try:
                    self.live(relay)
                except StartFailed as failed:
                    refused += 1
                    self.assertIn(failed.code, (1, 2, 3), what)
                    self.assertRegex(failed.log, r"(?m)^(evrelay|/\S+): .+", what)
                except Exception as broken:
                    raise AssertionError(f"{what}: {broken}\n{relay.log}") from broken
        print(f"# refused: {refused}")

    def test_bar_14_a_stop_is_a_stop(self):
        """RELIABILITY bar 14: exit code 0 within the drain."""
        calls = self.stop("recv", 0, 0)
        for kind, error, n in self.choose(calls, faults.ERRORS, 30):
            try:
                self.stop(kind, error, n)
            except Exception as broken:
                raise AssertionError(f"{kind} {n} {name_of(error)}: {broken}") from broken

    def stop(self, kind, error, n):
        """A relay with work to do is stopped. Returns how many calls of each kind that took."""
        self.board.disarm()
        relay = Relay({"drain": "5s"}, env=self.board.environment(faults.CALLS), lua=SCRIPT)
        try:
            relay.wait_ready()
            subscribers = relay.subscribers(SUBSCRIBERS)
            producer = relay.producer()
            producer.suspend("async_relay", "ask")
            for subscriber in subscribers:
                subscriber.expect(b"ask")
            before = {kind: self.board.calls(kind) for kind in faults.ERRORS}
            self.board.arm(kind, error, n)
            producer.send(wire.data(b"last"))
            relay.signal(signal.SIGTERM)
            peers = [*subscribers, producer]
            pump(peers, lambda: all(peer.ended for peer in peers), 20, "all have ended")
            for peer in peers:
                peer.close()
            self.assertEqual(relay.wait(8), 0)
            for subscriber in subscribers:
                self.assertIn(subscriber.events, ([], [b"last"]))
            before[kind] = 0
            return {kind: self.board.calls(kind) - count for kind, count in before.items()}
        finally:
            relay.clean_up()



if __name__ == "__main__":
    unittest.main()
