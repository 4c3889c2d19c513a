"""Requests that wait for a hook: each gets one final answer, whatever happens."""

import random
import signal
import time
import unittest

import wire
from relay import KIB, MIB, SANITIZED, RelayCase, patience, pump, scaled
from scripts import ACT, act

# What an event says of the request that it belongs to.
ASK = b"ask $T(id_index) $T(id_label)"

# Every action of ACT, and what a message with a number needs to race for a request: "r INDEX LABEL
# DATA" is answered at once. "fail INDEX LABEL" has claimed the request when it fails; "spin INDEX
# LABEL MS [fail]" claims it, says so in the log and works on for that long.
HOOK = (
    ACT.replace("function(evapi)\n", "function(evapi)\n  if special(evapi) then return end\n", 1)
    + """
function special(evapi)
  local verb, index, label, rest = evapi.msg:match("^(%l+) (%d+) (%d+) ?(.*)$")
  if not verb then return false end
  if verb == "r" then
    evapi.reply(tostring(evapi.resume(index, label, rest)) .. " " .. index .. " " .. label)
  elseif verb == "fail" then
    xlog("fails after " .. tostring(evapi.resume(index, label, "of the one that failed")))
    error("on purpose")
  elseif verb == "spin" then
    local ms, fails = rest:match("^(%d+) ?(%l*)$")
    xlog("claimed " .. tostring(evapi.resume(index, label, "late")))
    local until_ = os.clock() + ms / 1000
    while os.clock() < until_ do end
    if fails ~= "" then error("on purpose") end
  end
  return true
end
event_route["evapi:connection-closed"] = function(evapi) end
"""
)


def numbers_of(event):
    """INDEX and LABEL in what became of ASK."""
    return tuple(event.split()[1:3])


def resume(request, data):
    """A message to HOOK: the fast way."""
    return wire.data(b"r %b %b %b" % (*request, data))


class AsyncCase(RelayCase):
    def start_one(self, **config):
        """A relay, one subscriber, one producer."""
        self.relay = self.start(lua=HOOK, **config)
        self.subscriber = self.relay.subscriber()
        self.producer = self.relay.producer()

    def do(self, *words, by=None, wanted=True):
        """Has HOOK do it for this subscriber; it returns what is wanted."""
        by = by or self.subscriber
        by.send(act(*words))
        by.skip_to(b"%b %b" % (words[0].encode(), b"true" if wanted else b"false"))

    def resume(self, request, data=b"data", by=None, wanted=True):
        self.do("resume", *request, data, by=by, wanted=wanted)

    def assert_error(self, answer, code):
        self.assertEqual(len(answer), 3, answer)
        self.assertEqual(answer[:2], [b"error", code.encode()])
        self.assertTrue(answer[2].strip(), "an error says what is wrong")

    def expect_resumed(self, request, data=b"data", producer=None):
        answer = (producer or self.producer).next_answer()
        self.assertEqual(answer, [b"resumed", *request, data])

    def books(self, relay=None, **wanted):
        """These counters of `async`, and 0 for the others that say how requests end."""
        names = ("suspended", "resumed", "expired", "drained", "abandoned", "waiting")
        got = (relay or self.relay).status()["async"]
        wanted = {**dict.fromkeys(names, 0), **wanted}
        self.assertEqual({name: got[name] for name in wanted}, wanted)


class Suspending(AsyncCase):
    def test_async_relay_asks_everybody(self):
        self.start_one()
        other = self.relay.subscriber()
        request = self.producer.suspend("async_relay", ASK)
        for subscriber in (self.subscriber, other):
            subscriber.expect(b"ask %b %b" % request)
        self.resume(request)
        self.expect_resumed(request)
        self.books(suspended=1, resumed=1)
        self.assertEqual(self.relay.status()["requests"]["accepted"]["async_relay"], 1)

    def test_async_multicast_asks_all_that_have_the_tag(self):
        self.start_one()
        one, two, three = self.relay.subscribers(3)
        self.do("set_tag", b"tag", by=one)
        self.do("set_tag", b"tag", by=three)
        request = self.producer.suspend("async_multicast", ASK, "tag")
        self.producer.relay(b"end")
        for subscriber in (one, three):
            subscriber.expect(b"ask %b %b" % request, b"end")
        for subscriber in (self.subscriber, two):
            subscriber.expect(b"end")
        self.resume(request, by=three)
        self.expect_resumed(request)

    def test_async_unicast_asks_the_lowest_conidx_that_has_the_tag(self):
        self.start_one()
        one, two = self.relay.subscribers(2)
        self.do("set_tag", b"tag", by=two)
        self.do("set_tag", b"tag", by=one)
        request = self.producer.suspend("async_unicast", ASK, "tag")
        self.producer.relay(b"end")
        one.expect(b"ask %b %b" % request, b"end")
        for subscriber in (self.subscriber, two):
            subscriber.expect(b"end")
        self.resume(request, by=one)
        self.expect_resumed(request)

    def test_every_placeholder_is_replaced_and_nothing_else(self):
        self.start_one()
        index, label = b"$T(id_index)", b"$T(id_label)"
        for text in (
            b"no placeholder",
            index,
            label,
            index + label + label + index,
            b"$$T(id_index)$",
            b"\0" + label + b"\n%s%n" + index + b"\xff",
            b"$T(id_index $T(id_inde) $t(id_index) $T(ID_INDEX) T(id_label) $T( id_label) $",
            b"$T($T(id_index))",
            index * 5000,
        ):
            with self.subTest(text[:60]):
                request = self.producer.suspend("async_relay", text)
                wanted = text.replace(index, request[0]).replace(label, request[1])
                self.subscriber.expect(wanted)

    def test_other_verbs_replace_nothing(self):
        self.start_one()
        self.do("set_tag", b"tag")
        self.producer.request("relay", ASK)
        self.producer.request("multicast", ASK, "tag")
        self.producer.request("unicast", ASK, "tag")
        self.producer.relay(ASK)
        self.subscriber.expect(*[ASK] * 4)

    def test_a_tag_is_taken_as_it_is(self):
        self.start_one()
        self.do("set_tag", ASK)
        request = self.producer.suspend("async_unicast", "x", ASK)
        self.subscriber.expect(b"x")
        self.resume(request)
        self.expect_resumed(request)

    def test_numbers_are_decimal_and_labels_are_not_guessed(self):
        self.start_one()
        requests = [self.producer.suspend("async_relay", "x") for _ in range(200)]
        for index, label in requests:
            self.assertEqual(b"%d" % int(index), index)
            self.assertEqual(b"%d" % int(label), label)
            self.assertLess(0, int(label))
            self.assertLess(int(label), 2**32)
        self.assertEqual(sorted(int(index) for index, _ in requests), list(range(200)))
        labels = [int(label) for _, label in requests]
        self.assertEqual(len(set(labels)), 200)
        # Of 32 random bits each one is set somewhere, and clear somewhere.
        for bit in range(32):
            self.assertEqual({label >> bit & 1 for label in labels}, {0, 1})

    def test_nobody_to_ask_suspends_nothing(self):
        relay = self.start(lua=HOOK)
        producer = relay.producer()
        self.assert_error(producer.request("async_relay", ASK), "no-subscriber")
        subscriber = relay.subscriber()
        self.do("set_tag", b"tag", by=subscriber)
        self.assert_error(producer.request("async_multicast", ASK, "Tag"), "no-subscriber")
        self.assert_error(producer.request("async_unicast", ASK, "ta"), "no-subscriber")
        self.do("set_tag", b"", by=subscriber)
        self.assert_error(producer.request("async_unicast", ASK, "tag"), "no-subscriber")
        self.books(relay)
        status = relay.status()
        self.assertEqual(status["requests"]["errors"]["no-subscriber"], 4)
        self.assertEqual(sum(status["requests"]["accepted"].values()), 0)
        self.assertEqual(status["events"]["relayed"], 0)
        producer.relay(b"end")
        subscriber.expect(b"end")

    def test_without_a_script_it_waits_for_its_deadline(self):
        relay = self.start()
        subscriber, producer = relay.subscriber(), relay.producer()
        request = producer.suspend("async_relay", ASK, 20)
        subscriber.expect(b"ask %b %b" % request)
        self.assertEqual(producer.next_answer(), [b"expired", *request])

    def test_bare_events(self):
        self.relay = self.start(lua=HOOK, netstring_format=False)
        subscriber = self.relay.subscriber(raw=True)
        producer = self.relay.producer()
        request = producer.suspend("async_relay", ASK)
        wanted = b"ask %b %b" % request
        subscriber.pump(lambda: len(subscriber.stream) >= len(wanted))
        self.assertEqual(bytes(subscriber.stream), wanted)
        subscriber.send(b"r %b %b data" % request)
        self.expect_resumed(request, producer=producer)


class Resuming(AsyncCase):
    def test_by_any_client_asked_or_not(self):
        self.start_one()
        other = self.relay.subscriber()
        self.do("set_tag", b"tag")
        for by in (self.subscriber, other):
            request = self.producer.suspend("async_unicast", ASK, "tag")
            self.resume(request, by=by)
            self.expect_resumed(request)

    def test_the_data_is_bytes_up_to_max_event(self):
        self.start_one(max_event="64KiB", max_message="128KiB")
        for data in (b"x", b"\0\xff\r\n%s,]", b"5:hello,", b"y" * 64 * KIB):
            request = self.producer.suspend("async_relay", "x")
            self.resume(request, data)
            self.expect_resumed(request, data)
        request = self.producer.suspend("async_relay", "x")
        for data in (b"", b"y" * (64 * KIB + 1)):
            self.resume(request, data, wanted=False)
        self.resume(request)
        self.expect_resumed(request)

    def test_a_second_one_has_no_effect(self):
        self.start_one()
        other = self.relay.subscriber()
        request = self.producer.suspend("async_relay", "x")
        self.resume(request, b"first")
        for by in (self.subscriber, other, self.subscriber):
            self.resume(request, b"second", by=by, wanted=False)
        self.expect_resumed(request, b"first")
        self.producer.ping()
        self.books(suspended=1, resumed=1)

    def test_a_second_one_in_the_same_hook(self):
        self.start_one()
        self.relay.reload(
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              local index, label = evapi.msg:match("^(%d+) (%d+)$")
              for n = 1, 3 do
                evapi.reply(tostring(evapi.resume(index, label, "of call " .. n)))
              end
            end
            """
        )
        request = self.producer.suspend("async_relay", "x")
        self.subscriber.expect(b"x")
        self.subscriber.send(wire.data(b"%b %b" % request))
        self.subscriber.expect(b"true", b"false", b"false")
        self.expect_resumed(request, b"of call 1")

    def test_forged_numbers_have_no_effect_and_the_request_goes_on_waiting(self):
        self.start_one()
        request = self.producer.suspend("async_relay", "x")
        other = self.producer.suspend("async_relay", "x")
        index, label = map(int, request)
        forged = [
            (index, label ^ 1),
            (index, label ^ 1 << 31),
            (index, int(other[1])),
            (int(other[0]), label),
            (index + 2, label),
            (2**32 - 1, label),
            (index + 2**32, label),
            (index, label + 2**32),
            (index, label + 2**64),
            (index, 0),
            (index, -label),
            (-1, label),
            (index, f"{label}.0"),
            (index, f"{label}x"),
            (index, hex(label)),
            (index, f" {label}"),
            (index, ""),
            ("", label),
            ("", ""),
            ("x", "y"),
            ("nil", "nil"),
        ]
        for numbers in forged:
            with self.subTest(numbers):
                self.resume([str(n).encode() for n in numbers], wanted=False)
        self.producer.ping()
        self.books(suspended=2, waiting=2)
        for known in (other, request):
            self.resume(known)
            self.expect_resumed(known)

    def test_numbers_of_lua(self):
        self.start_one()
        self.relay.reload(
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              local index, label = evapi.msg:match("^(%d+) (%d+)$")
              index, label = math.tointeger(index), math.tointeger(label)
              evapi.reply(tostring(evapi.resume(index, label + 0.5, "x")))
              evapi.reply(tostring(evapi.resume(-1 - index, label, "x")))
              evapi.reply(tostring(evapi.resume(index, label, "integers")))
            end
            """
        )
        request = self.producer.suspend("async_relay", "x")
        self.subscriber.expect(b"x")
        self.subscriber.send(wire.data(b"%b %b" % request))
        self.subscriber.expect(b"false", b"false", b"true")
        self.expect_resumed(request, b"integers")

    def test_in_the_words_of_kemi(self):
        self.start_one()
        self.relay.reload(
            event_callback="on_event",
            lua="""
            function on_event(name)
              if name ~= "evapi:message-received" then return end
              local index, label = KSR.pv.get("$evapi(msg)"):match("^(%d+) (%d+)$")
              KSR.evapi.relay(tostring(KSR.tmx.t_continue(index, label, "kemi")))
              KSR.evapi.relay(tostring(KSR.tmx.t_continue(index, label, "kemi")))
            end
            """,
        )
        request = self.producer.suspend("async_relay", "x")
        self.subscriber.expect(b"x")
        self.subscriber.send(wire.data(b"%b %b" % request))
        self.subscriber.expect(b"1", b"-1")
        self.expect_resumed(request, b"kemi")

    def test_from_connection_new_and_connection_closed(self):
        self.start_one()
        self.relay.reload(
            lua="""
            local index, label
            event_route["evapi:message-received"] = function(evapi)
              index, label = evapi.msg:match("^(%d+) (%d+)$")
              evapi.reply("ok")
            end
            event_route["evapi:connection-new"] = function(evapi)
              evapi.relay("new " .. tostring(evapi.resume(index, label, "by one that comes")))
            end
            event_route["evapi:connection-closed"] = function(evapi)
              evapi.relay("closed " .. tostring(evapi.resume(index, label, "by one that goes")))
            end
            """
        )
        one, two = (self.producer.suspend("async_relay", "x") for _ in range(2))
        self.subscriber.send(wire.data(b"%b %b" % one))
        self.subscriber.expect(b"x", b"x", b"ok")
        late = self.relay.subscriber()
        self.expect_resumed(one, b"by one that comes")
        self.subscriber.send(wire.data(b"%b %b" % two))
        self.subscriber.expect(b"new true", b"ok")
        late.kill()
        self.expect_resumed(two, b"by one that goes")
        self.subscriber.expect(b"closed true")

    def test_final_answers_come_when_they_happen(self):
        self.start_one(max_message="1MiB")
        requests = [self.producer.suspend("async_relay", "x") for _ in range(100)]
        random.Random(1).shuffle(requests)
        for number, request in enumerate(requests):
            self.subscriber.send(resume(request, b"%d" % number))
        self.producer.send(wire.list_frame("ping"))
        self.producer.pump(lambda: len(self.producer.answers) == 101)
        self.producer.answers.remove([b"ok"])
        self.assertEqual(
            self.producer.answers,
            [[b"resumed", *request, b"%d" % n] for n, request in enumerate(requests)],
        )

    def test_answers_go_to_who_asked(self):
        self.start_one()
        producers = [self.relay.producer() for _ in range(10)]
        requests = [[p.suspend("async_relay", "x") for _ in range(5)] for p in producers]
        for number in range(5):
            for of_one in requests:
                self.resume(of_one[number], b"to %b" % of_one[number][0])
        for producer, of_one in zip(producers, requests):
            for request in of_one:
                self.expect_resumed(request, b"to %b" % request[0], producer)
            producer.ping()

    def check_race(self, workers):
        """Clients of all workers resume the same requests at once: one of them has each."""
        relay = self.start(lua=HOOK, workers=workers)
        clients = relay.subscribers(16)
        producer = relay.producer()
        count = scaled(4000)
        for _ in range(10):
            producer.send(wire.list_frame("async_relay", ASK) * (count // 10))
            producer.pump(lambda: len(producer.answers) == count // 10)
            requests = [tuple(answer[1:]) for answer in producer.answers]
            producer.answers.clear()
            pump(clients, lambda: all(len(c.events) == len(requests) for c in clients))
            for number, client in enumerate(clients):
                client.events.clear()
                client.outgoing += b"".join(resume(r, b"of %d" % number) for r in requests)
            pump([*clients, producer], lambda: all(len(c.events) == len(requests) for c in clients))
            winners = {}
            for number, client in enumerate(clients):
                for event in client.events:
                    word, *request = event.split()
                    self.assertIn(word, (b"true", b"false"))
                    if word == b"true":
                        self.assertNotIn(tuple(request), winners, "two have it")
                        winners[tuple(request)] = b"of %d" % number
                client.events.clear()
            producer.send(wire.list_frame("ping"))
            producer.pump(lambda: len(producer.answers) > len(requests))
            producer.answers.remove([b"ok"])
            finals = {tuple(answer[1:3]): answer[3] for answer in producer.answers}
            self.assertEqual(len(finals), len(producer.answers))
            self.assertEqual(finals, winners)
            self.assertEqual(set(finals), set(requests))
            producer.answers.clear()
        self.books(relay, suspended=count // 10 * 10, resumed=count // 10 * 10)

    def test_a_race_with_one_worker(self):
        self.check_race(1)

    def test_a_race_with_4_workers(self):
        self.check_race(4)

    def test_a_race_with_16_workers(self):
        self.check_race(16)


class Failing(AsyncCase):
    """A hook that has claimed a request and does not end well."""

    def test_a_failed_hook_gives_the_claim_back(self):
        self.start_one()
        request = self.producer.suspend("async_relay", "x")
        for _ in range(3):
            start = len(self.relay.log)
            self.subscriber.send(wire.data(b"fail %b %b" % request))
            self.relay.wait_log("fails after true", start=start)
        self.resume(request)
        self.expect_resumed(request)
        self.assertEqual(self.relay.status()["hook"]["failed"]["error"], 3)
        self.books(suspended=1, resumed=1)

    def test_so_does_one_that_takes_too_long(self):
        self.start_one(hook={"timeout": "20ms"})
        request = self.producer.suspend("async_relay", "x")
        self.subscriber.send(wire.data(b"spin %b %b 60000" % request))
        self.resume(request)
        self.expect_resumed(request)
        self.assertEqual(self.relay.status()["hook"]["failed"]["timeout"], 1)

    def test_and_a_full_verdict(self):
        self.start_one(hook={"timeout": "5s"})
        self.relay.reload(
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              local index, label = evapi.msg:match("^(%d+) (%d+)$")
              for n = 1, 1024 do evapi.set_tag("x") end
              assert(not evapi.resume(index, label, "too much"))
            end
            """
        )
        request = self.producer.suspend("async_relay", "x")
        self.subscriber.send(wire.data(b"%b %b" % request))
        self.relay.wait_handled()
        self.relay.reload(lua=HOOK)
        self.resume(request)
        self.expect_resumed(request)
        self.assertEqual(sum(self.relay.status()["hook"]["failed"].values()), 0)

    def test_a_claim_holds_its_request_beyond_the_deadline(self):
        self.start_one(hook={"timeout": "10s"})
        request = self.producer.suspend("async_relay", "x", 30)
        self.subscriber.send(wire.data(b"spin %b %b 200" % request))
        self.relay.wait_log("claimed true")
        self.expect_resumed(request, b"late")
        self.producer.ping()
        self.books(suspended=1, resumed=1)

    def test_a_claim_given_back_beyond_the_deadline_expires(self):
        self.start_one(hook={"timeout": "10s"})
        asked = time.monotonic()
        request = self.producer.suspend("async_relay", "x", 30)
        self.subscriber.send(wire.data(b"spin %b %b 100 fail" % request))
        self.relay.wait_log("claimed true")
        self.assertEqual(self.producer.next_answer(), [b"expired", *request])
        if not SANITIZED:  # a claim that is not given back holds it until then
            self.assertLess(time.monotonic() - asked, 1)
        self.assertEqual(self.relay.wait_handled()["hook"]["failed"]["error"], 1)
        self.books(suspended=1, expired=1)

    def test_a_hook_that_hangs_holds_it_for_a_second(self):
        self.start_one(hook={"timeout": "10s"})
        asked = time.monotonic()
        request = self.producer.suspend("async_relay", "x", 30)
        self.subscriber.send(wire.data(b"spin %b %b 1500" % request))
        self.relay.wait_log("claimed true")
        self.assertEqual(self.producer.next_answer(), [b"expired", *request])
        self.assertGreaterEqual(time.monotonic() - asked, 1.03)
        status = self.relay.wait_handled()
        self.assertEqual(status["hook"]["stale_actions"], 1)
        self.producer.ping()
        self.books(suspended=1, expired=1)


class Expiring(AsyncCase):
    # How late an answer may be. Nothing else is asked of the relay then.
    LATE = 0.5

    def expect_expired(self, request, asked, timeout, producer=None):
        answer = (producer or self.producer).next_answer()
        took = time.monotonic() - asked
        self.assertEqual(answer, [b"expired", *request])
        self.assertGreaterEqual(took, timeout, "before its time")
        self.assertLess(took, timeout + patience(self.LATE))

    def test_at_the_deadline_and_not_before(self):
        self.start_one()
        self.do("set_tag", b"tag")
        relay, multicast = ("async_relay", "x"), ("async_multicast", "x", "tag")
        for items in (relay, multicast, ("async_unicast", "x", "tag")):
            for ms in (1, 20, 150):
                asked = time.monotonic()
                request = self.producer.suspend(*items, ms)
                self.expect_expired(request, asked, ms / 1000)
                self.resume(request, wanted=False)
        self.producer.ping()
        self.books(suspended=9, expired=9)

    def test_async_timeout_where_none_is_given_and_a_reload_changes_it(self):
        self.start_one(**{"async": {"timeout": "500ms"}})
        asked = time.monotonic()
        request = self.producer.suspend("async_relay", "x")
        self.expect_expired(request, asked, 0.5)
        asked = time.monotonic()
        early = self.producer.suspend("async_relay", "x")
        self.relay.reload(**{"async": {"timeout": "10ms"}})
        asked_later = time.monotonic()
        request = self.producer.suspend("async_relay", "x")
        if SANITIZED:
            answers = sorted((self.producer.next_answer(), self.producer.next_answer()))
            self.assertEqual(answers, sorted([[b"expired", *early], [b"expired", *request]]))
            return
        self.expect_expired(request, asked_later, 0.01)
        self.expect_expired(early, asked, 0.5)

    def test_timeouts_of_different_lengths_in_the_order_of_their_ends(self):
        self.start_one()
        forever = [self.producer.suspend("async_relay", "x", 3_600_000) for _ in range(3)]
        lengths = [20 * n for n in range(1, 16)]
        random.Random(2).shuffle(lengths)
        self.producer.send(b"".join(wire.list_frame("async_relay", "x", n) for n in lengths))
        asked = time.monotonic()
        self.producer.pump(lambda: len(self.producer.answers) >= len(lengths))
        requests = [tuple(answer[1:]) for answer in self.producer.answers[: len(lengths)]]
        length_of = dict(zip(requests, lengths))
        del self.producer.answers[: len(lengths)]
        # One that ends otherwise changes nothing for the others.
        gone = requests[lengths.index(300)]
        self.resume(gone)
        self.producer.pump(lambda: len(self.producer.answers) >= len(lengths))
        took = time.monotonic() - asked
        self.producer.answers.remove([b"resumed", *gone, b"data"])
        expired = [tuple(answer[1:]) for answer in self.producer.answers]
        self.assertTrue(all(answer[0] == b"expired" for answer in self.producer.answers))
        self.assertEqual([length_of[request] for request in expired], sorted(lengths)[:-1])
        self.assertLess(took, 0.28 + patience(self.LATE))
        self.producer.answers.clear()
        self.books(suspended=18, resumed=1, expired=14, waiting=3)
        for request in forever:
            self.resume(request)
            self.expect_resumed(request)

    def test_a_timeout_is_from_1_to_3600000(self):
        self.start_one()
        self.do("set_tag", b"tag")
        for text in ("0", "3600001", "-1", "+5", "1.5", "", "x", " 5", "5 ", "0x5", "99999999999"):
            with self.subTest(text):
                self.assert_error(self.producer.request("async_relay", "x", text), "bad-arguments")
                answer = self.producer.request("async_unicast", "x", "tag", text)
                self.assert_error(answer, "bad-arguments")
        self.books()
        self.producer.relay(b"end")
        self.subscriber.expect(b"end")
        for text in ("3600000", "00060000", "1"):  # the last may be over at once
            self.producer.suspend("async_relay", "x", text)

    def test_many_at_once(self):
        count = scaled(40_000)
        self.start_one(**{"async": {"max_suspended": 4 * count}})
        self.producer.send(wire.list_frame("async_relay", "x", 50) * count)
        self.producer.pump(lambda: len(self.producer.answers) >= 2 * count, 20)
        said = [tuple(answer[1:]) for answer in self.producer.answers if answer[0] == b"suspended"]
        over = [tuple(answer[1:]) for answer in self.producer.answers if answer[0] == b"expired"]
        self.assertEqual(len(said), count)
        self.assertEqual(sorted(said), sorted(over))
        self.books(suspended=count, expired=count)


class Leaving(AsyncCase):
    def test_the_one_that_was_asked_leaves_and_another_answers(self):
        self.start_one()
        asked = self.relay.subscriber()
        self.do("set_tag", b"tag", by=asked)
        request = self.producer.suspend("async_unicast", ASK, "tag")
        asked.expect(b"ask %b %b" % request)
        asked.kill()
        self.relay.wait_status(lambda s: s["subscribers"]["live"] == 1, "it has left")
        self.books(suspended=1, waiting=1)
        self.resume(request)
        self.expect_resumed(request)

    def test_all_that_were_asked_leave_and_it_waits_for_its_deadline(self):
        self.start_one()
        request = self.producer.suspend("async_relay", ASK, 100)
        self.subscriber.kill()
        self.assertEqual(self.producer.next_answer(), [b"expired", *request])

    def test_one_that_resumes_and_leaves_at_once(self):
        self.start_one()
        for end in ("kill", "half_close"):
            leaving = self.relay.subscriber()
            request = self.producer.suspend("async_relay", "x")
            leaving.expect(b"x")
            leaving.send(resume(request, b"data"))
            self.expect_resumed(request)
            getattr(leaving, end)()

    def test_the_producer_is_killed(self):
        self.start_one()
        requests = [self.producer.suspend("async_relay", "x") for _ in range(10)]
        self.producer.kill()
        status = self.relay.wait_status(lambda s: not s["async"]["waiting"], "none waits")
        self.assertEqual(status["requests"]["undeliverable"], 10)
        self.books(suspended=10, abandoned=10)
        for request in requests:
            self.resume(request, wanted=False)
        # Their places are taken by others, under other labels.
        other = self.relay.producer()
        heirs = [other.suspend("async_relay", "x") for _ in range(10)]
        self.assertEqual({index for index, _ in heirs}, {index for index, _ in requests})
        self.assertFalse(set(heirs) & set(requests))
        for request in requests:
            self.resume(request, wanted=False)
        for request in heirs:
            self.resume(request)
            self.expect_resumed(request, producer=other)

    def test_a_producer_that_has_ended_its_side_gets_its_answers_and_then_the_end(self):
        self.start_one()
        one, two, three = (self.producer.suspend("async_relay", "x") for _ in range(3))
        expires = self.producer.suspend("async_relay", "x", 60)
        self.producer.half_close()
        self.resume(two)
        self.expect_resumed(two)
        self.assertEqual(self.producer.next_answer(), [b"expired", *expires])
        self.resume(three)
        self.expect_resumed(three)
        self.assertIsNone(self.producer.ended)
        self.assertEqual(self.relay.status()["producers"]["connected"], 1)
        self.resume(one)
        self.expect_resumed(one)
        self.producer.expect_end("eof")
        self.relay.wait_status(lambda s: s["producers"]["connected"] == 0, "it is gone")
        self.books(suspended=4, resumed=3, expired=1)

    def test_a_producer_that_ends_its_side_in_the_same_write(self):
        self.start_one()
        self.producer.outgoing += wire.list_frame("async_relay", ASK, 60) * 100
        self.producer.flush()
        self.producer.half_close()
        self.producer.expect_end("eof")
        said = [tuple(answer[1:]) for answer in self.producer.answers if answer[0] == b"suspended"]
        over = [tuple(answer[1:]) for answer in self.producer.answers if answer[0] == b"expired"]
        self.assertEqual((len(said), len(over)), (100, 100))
        self.assertEqual(set(said), set(over))

    def test_one_that_has_ended_its_side_is_killed(self):
        self.start_one()
        for number in range(1, 4):
            producer = self.relay.producer()
            request = producer.suspend("async_relay", "x")
            producer.half_close()
            self.relay.wait_status(
                lambda s, n=number: s["producers"]["closed"]["eof"] == n, "it has ended its side"
            )
            producer.kill()
            self.relay.wait_status(lambda s: not s["async"]["waiting"], "none waits")
            self.books(suspended=number, abandoned=number)
            self.resume(request, wanted=False)

    def test_one_that_breaks_the_protocol_still_gets_its_answers(self):
        self.start_one()
        one, two = (self.producer.suspend("async_relay", "x") for _ in range(2))
        self.producer.send(b"oops")
        self.assert_error(self.producer.next_answer(), "bad-size")
        self.resume(two)
        self.expect_resumed(two)
        self.resume(one)
        self.expect_resumed(one)
        self.producer.expect_end("eof")

    def test_a_claim_whose_producer_leaves_is_stale(self):
        self.start_one(hook={"timeout": "10s"})
        request = self.producer.suspend("async_relay", "x")
        self.subscriber.send(wire.data(b"spin %b %b 200" % request))
        self.relay.wait_log("claimed true")
        self.producer.kill()
        self.relay.wait_status(lambda s: s["producers"]["connected"] == 0, "it is gone")
        heir = self.relay.producer()
        self.assertEqual(heir.suspend("async_relay", "x")[0], request[0])
        status = self.relay.wait_handled()
        self.assertEqual(status["hook"]["stale_actions"], 1)
        heir.ping()
        self.books(suspended=2, abandoned=1, waiting=1)

    def test_a_producer_that_does_not_read_its_final_answers_is_closed_above_4_mib(self):
        self.start_one(max_message="1MiB")
        count = 100
        requests = [self.producer.suspend("async_relay", "x") for _ in range(count)]
        self.producer.paused = True
        data = b"x" * 64 * KIB
        for number, request in enumerate(requests):
            self.resume(request, data)
            if self.relay.status()["producers"]["closed"]["slow-producer"]:
                break
        # What the kernel holds of it counts as sent.
        self.assertGreaterEqual((number + 1) * len(data), 4 * MIB)
        self.assertLessEqual((number - 1) * len(data), 4 * MIB + 512 * KIB)
        self.relay.wait_log("slow-producer")
        status = self.relay.status()
        self.assertEqual(status["producers"]["connected"], 0)
        waits = status["async"]
        self.assertEqual((waits["resumed"], waits["waiting"]), (number + 1, 0))
        self.assertEqual(waits["abandoned"], count - number - 1)
        undeliverable = status["requests"]["undeliverable"]
        self.assertGreaterEqual(undeliverable, waits["abandoned"] + 4 * MIB // len(data) - 1)
        self.resume(requests[-1], wanted=False)
        # What it had been sent arrives whole.
        self.producer.paused = False
        self.producer.expect_end(None)
        got = len(self.producer.answers)
        self.assertEqual(
            self.producer.answers, [[b"resumed", *request, data] for request in requests[:got]]
        )
        self.assertEqual(got + undeliverable, count)

    def test_below_that_nothing_is_lost(self):
        self.start_one(max_message="1MiB")
        requests = [self.producer.suspend("async_relay", "x") for _ in range(50)]
        self.producer.paused = True
        data = b"x" * 64 * KIB
        for request in requests:
            self.resume(request, data)
        self.producer.paused = False
        for request in requests:
            self.expect_resumed(request, data)
        self.producer.ping()


class Draining(AsyncCase):
    def wait_drained(self, relay, count):
        """While it drains: none waits, and these have been told."""
        status = relay.wait_status(lambda s: s["state"] == "draining", "it drains")
        self.assertEqual((status["async"]["waiting"], status["async"]["drained"]), (0, count))
        relay.check_balance(status)
        self.assertGreaterEqual(status["requests"]["errors"]["draining"], count)

    def expect_drained(self, producer, requests):
        """It gets that for each of its requests, once, and then the end."""
        producer.expect_end("eof")
        for answer in producer.answers:
            self.assertEqual((len(answer), answer[:2]), (4, [b"error", b"draining"]))
        self.assertEqual(
            sorted(tuple(answer[2:]) for answer in producer.answers), sorted(requests)
        )

    def test_every_request_that_waits_is_answered(self):
        self.start_one()
        producers = [self.relay.producer() for _ in range(5)]
        requests = [[p.suspend("async_relay", "x") for _ in range(20)] for p in producers]
        producers[0].half_close()
        self.resume(requests[1].pop(3))
        producers[1].next_answer()
        with self.relay.worker_held(0):
            self.relay.signal(signal.SIGTERM)
            self.wait_drained(self.relay, 99)
        for producer, of_one in zip(producers, requests):
            self.expect_drained(producer, of_one)
        self.relay.close_peers()
        self.assertEqual(self.relay.wait(), 0)

    def test_requests_that_stand_in_the_socket_then_are_refused(self):
        """A laggard holds producers back, so they are read only when the drain begins."""
        self.start_one(
            send_buffer="16KiB",
            max_event="64KiB",
            slow_subscriber={"max_lag": "1MiB", "policy": "block"},
        )
        waits = self.producer.suspend("async_relay", "x")
        laggard = self.relay.subscriber(receive_buffer=4 * KIB)
        laggard.paused = True
        flood = self.relay.producer()
        flood.outgoing += wire.data(b"x" * 60_000) * 40
        flood.pump(lambda: self.relay.status()["loop"]["holds"])
        verbs = (("async_relay", "x"), ("ping",), ("relay", "x"), ("multicast", "x", "tag"))
        self.producer.send(b"".join(wire.list_frame(*items) for items in verbs))
        self.relay.signal(signal.SIGTERM)
        self.wait_drained(self.relay, 1)
        self.producer.expect_end("eof")
        for answer in self.producer.answers[: len(verbs)]:
            self.assert_error(answer, "draining")
        del self.producer.answers[: len(verbs)]
        self.expect_drained(self.producer, [waits])
        laggard.paused = False
        pump([laggard, flood, self.subscriber], lambda: laggard.ended)
        self.relay.close_peers()
        self.assertEqual(self.relay.wait(), 0)

    def test_a_claim_comes_too_late(self):
        self.start_one(hook={"timeout": "10s"})
        request = self.producer.suspend("async_relay", "x")
        self.subscriber.send(wire.data(b"spin %b %b 200" % request))
        self.relay.wait_log("claimed true")
        self.relay.signal(signal.SIGTERM)
        self.expect_drained(self.producer, [request])
        self.relay.close_peers()
        self.assertEqual(self.relay.wait(), 0)

    def test_a_resume_that_was_read_before_comes_too_late(self):
        self.start_one()
        request = self.producer.suspend("async_relay", "x")
        with self.relay.worker_held(0):
            self.subscriber.send(resume(request, b"data"))
            self.relay.wait_status(lambda s: s["messages"]["unhandled"] == 1, "it is read")
            self.relay.signal(signal.SIGTERM)
            self.wait_drained(self.relay, 1)
        self.expect_drained(self.producer, [request])
        self.subscriber.expect(b"x", b"false %b %b" % request)
        self.relay.close_peers()
        self.assertEqual(self.relay.wait(), 0)


class Reloading(AsyncCase):
    def test_requests_go_on_waiting(self):
        self.start_one()
        requests = [self.producer.suspend("async_relay", ASK) for _ in range(3)]
        self.relay.reload(lua=HOOK.replace('"true', '"TRUE'))
        self.resume(requests[0])
        self.relay.reload("nothing has changed", lua="x = = 1")
        self.resume(requests[1])
        self.relay.reload(script=None)
        self.books(suspended=3, resumed=2, waiting=1)
        self.relay.reload(lua=HOOK)
        self.resume(requests[2])
        for request in requests:
            self.expect_resumed(request)

    def test_a_claim_of_the_old_script_counts(self):
        self.start_one(hook={"timeout": "10s"})
        request = self.producer.suspend("async_relay", "x")
        self.subscriber.send(wire.data(b"spin %b %b 200" % request))
        self.relay.wait_log("claimed true")
        self.relay.reload(lua=HOOK + "\n")
        self.expect_resumed(request, b"late")


class Overload(AsyncCase):
    def test_a_quarter_for_one_producer_and_all_for_all(self):
        self.start_one(**{"async": {"max_suspended": 8}})
        self.do("set_tag", b"tag")
        producers = [self.relay.producer() for _ in range(5)]
        requests = []
        for producer in producers[:4]:
            requests.append([producer.suspend("async_relay", "x") for _ in range(2)])
            for items in (("async_relay", "x"), ("async_unicast", "x", "tag")):
                self.assert_error(producer.request(*items), "overloaded")
        self.assert_error(producers[4].request("async_relay", "x"), "overloaded")
        # Nobody is asked in vain.
        self.producer.relay(b"end")
        self.subscriber.expect(*[b"x"] * 8, b"end")
        self.books(suspended=8, waiting=8)
        self.assertEqual(self.relay.status()["requests"]["errors"]["overloaded"], 9)
        # However one ends, there is room again: for its own producer, and for others.
        self.resume(requests[0].pop())
        producers[0].next_answer()
        self.assert_error(producers[1].request("async_relay", "x"), "overloaded")
        requests.append([producers[4].suspend("async_relay", "x", 20)])
        self.assert_error(producers[0].request("async_relay", "x"), "overloaded")
        producers[4].next_answer()
        requests[0].append(producers[0].suspend("async_relay", "x"))
        producers[1].kill()
        self.relay.wait_status(lambda s: s["producers"]["connected"] == 5, "it is gone")
        for _ in range(2):
            producers[4].suspend("async_relay", "x")
        self.assert_error(producers[4].request("async_relay", "x"), "overloaded")
        # Other requests are answered as ever.
        self.assertEqual(producers[4].request("relay", "x"), [b"ok", b"1"])

    def test_one_place_at_least(self):
        for places in (1, 3):
            self.start_one(**{"async": {"max_suspended": places}})
            self.producer.suspend("async_relay", "x")
            self.assert_error(self.producer.request("async_relay", "x"), "overloaded")

    def test_a_reload_changes_it(self):
        self.start_one(**{"async": {"max_suspended": 8}})
        requests = [self.producer.suspend("async_relay", "x") for _ in range(2)]
        self.relay.reload(**{"async": {"max_suspended": 4}})
        self.assert_error(self.producer.request("async_relay", "x"), "overloaded")
        for request in requests:
            self.resume(request)
            self.expect_resumed(request)
        self.producer.suspend("async_relay", "x")
        self.assert_error(self.producer.request("async_relay", "x"), "overloaded")
        self.relay.reload(**{"async": {"max_suspended": 40}})
        for _ in range(9):
            self.producer.suspend("async_relay", "x")
        self.assert_error(self.producer.request("async_relay", "x"), "overloaded")


if __name__ == "__main__":
    unittest.main()
