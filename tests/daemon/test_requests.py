"""Requests on the producer port: one answer each, in order; who gets what is for a tag; and what
happens to unread answers. Requests that wait are in test_async.py."""

import os
import signal
import unittest

import wire
from relay import KIB, MIB, SANITIZED, RelayCase, pump, scaled
from scripts import ACT, act

CLOSED = """
event_route["evapi:connection-closed"] = function(evapi) end
"""


class Requests(RelayCase):
    def setUp(self):
        self.relay = self.start(max_event="64KiB")
        self.producer = self.relay.producer()

    def assert_error(self, answer, code):
        self.assertEqual(len(answer), 3, answer)
        self.assertEqual(answer[:2], [b"error", code.encode()])
        self.assertTrue(answer[2].strip(), "an error says what is wrong")

    def test_relay_is_answered_with_the_number_of_subscribers(self):
        for count in range(4):
            self.assertEqual(self.producer.request("relay", "x"), [b"ok", b"%d" % count])
            self.relay.subscriber()
        self.assertEqual(self.relay.status()["requests"]["accepted"]["relay"], 4)

    def test_ping(self):
        self.assertEqual(self.producer.request("ping"), [b"ok"])
        self.assertEqual(self.relay.status()["requests"]["accepted"]["ping"], 1)

    def test_a_data_frame_is_not_answered(self):
        self.producer.relay(b"quiet")
        self.assertEqual(self.producer.request("ping"), [b"ok"])
        self.assertEqual(self.producer.answers, [])

    def test_unknown_verbs(self):
        verbs = ["", "Relay", "relay ", "status", "x" * 1000, b"\0\xff\n", "unicas", "multicasts"]
        verbs += ["async_", "async_ping", "async relay", "asyncrelay", "resume", "close", "hello"]
        for number, verb in enumerate(verbs, 1):
            with self.subTest(verb):
                self.assert_error(self.producer.request(verb, "a", "b"), "unknown-verb")
                errors = self.relay.status()["requests"]["errors"]
                self.assertEqual(errors["unknown-verb"], number)
        self.producer.ping()

    def test_bad_arguments(self):
        requests = [("relay",), ("relay", "a", "b"), ("relay", ""), ("ping", "a"), ("ping", "")]
        for verb in ("multicast", "unicast", "async_multicast", "async_unicast"):
            requests += [(verb,), (verb, "a"), (verb, "", "tag"), (verb, "a", ""), (verb, "", "")]
            requests += [(verb, "a", "t" * 64), (verb, "a", "tag", "x")]
            requests += [(verb, "a", "tag", "1", "1")]
        requests += [("async_relay",), ("async_relay", ""), ("async_relay", "", "5")]
        requests += [("async_relay", "a", "tag"), ("async_relay", "a", "5", "5")]
        subscriber = self.relay.subscriber()
        for number, items in enumerate(requests, 1):
            with self.subTest(items):
                self.assert_error(self.producer.request(*items), "bad-arguments")
                errors = self.relay.status()["requests"]["errors"]
                self.assertEqual(errors["bad-arguments"], number)
        self.producer.relay(b"good")
        subscriber.expect(b"good")
        self.assertEqual(self.relay.status()["async"]["suspended"], 0)

    def test_a_request_without_a_verb_is_an_error_and_no_more(self):
        self.producer.send(b"0:]")
        answer = self.producer.next_answer()
        self.assertEqual(answer[0], b"error")
        self.assertIn(answer[1], (b"bad-arguments", b"unknown-verb"))
        self.producer.ping()

    def test_an_event_over_max_event_is_refused_and_the_connection_stays(self):
        subscriber = self.relay.subscriber()
        self.assertEqual(self.producer.request("relay", b"x" * (64 * KIB)), [b"ok", b"1"])
        big = b"x" * (64 * KIB + 1)
        self.assert_error(self.producer.request("relay", big), "too-big")
        for verb in ("multicast", "unicast", "async_multicast", "async_unicast"):
            self.assert_error(self.producer.request(verb, big, "tag"), "too-big")
        self.assert_error(self.producer.request("async_relay", big), "too-big")
        self.producer.relay(b"good")
        subscriber.expect(b"x" * (64 * KIB), b"good")

    def test_a_list_over_max_event_and_4_kib_ends_the_connection(self):
        self.producer.ping()
        self.producer.send(b"%d:" % (68 * KIB + 1))
        self.producer.expect_end("eof")
        self.assert_error(self.producer.answers[0], "too-big")
        self.producer.close()
        self.relay.wait_status(lambda s: s["producers"]["closed"]["too-big"] == 1, "counted")

    def test_a_data_frame_over_max_event_ends_the_connection(self):
        self.producer.send(b"%d:" % (64 * KIB + 1) + b"x" * (64 * KIB + 1) + b",")
        self.producer.expect_end("eof")
        self.assert_error(self.producer.answers[0], "too-big")
        self.assertEqual(self.relay.status()["events"]["relayed"], 0)

    def test_a_bad_list_is_answered_and_ends_the_connection(self):
        bad = [b"hello", b"5:relay", b"5:relay,3:ab,", b"5:relay, 2:ab,", b"5:relay,2:ab]", b"9:x,"]
        bad += [b" 4:ping,", b"4:ping,x", b"4:ping,4294967301:hello,"]
        subscriber = self.relay.subscriber()
        for number, payload in enumerate(bad, 1):
            with self.subTest(payload):
                producer = self.relay.producer()
                producer.send(b"1:g," + b"%d:%b]" % (len(payload), payload) + b"5:after,")
                producer.expect_end("eof")
                self.assertEqual(len(producer.answers), 1)
                self.assert_error(producer.answers[0], "bad-list")
                producer.close()
                status = self.relay.wait_status(
                    lambda s: s["producers"]["closed"]["bad-list"] == number, "counted"
                )
                self.assertEqual(status["requests"]["errors"]["bad-list"], number)
        self.producer.relay(b"end")
        subscriber.expect(*[b"g"] * len(bad), b"end")

    def test_answers_before_a_framing_error_still_come(self):
        self.producer.send(wire.list_frame("ping") * 3 + b"oops")
        self.producer.expect_end("eof")
        self.assertEqual(self.producer.answers[:3], [[b"ok"]] * 3)
        self.assert_error(self.producer.answers[3], "bad-size")
        self.assertEqual(len(self.producer.answers), 4)

    def test_every_error_code(self):
        """What it takes to get each of them, and that it is counted under its name."""
        limits = {"max_suspended": 1}
        relay = self.start(lua=ACT + CLOSED, max_event="1KiB", **{"async": limits})
        subscriber = relay.subscriber()
        subscriber.send(act("set_tag", b"tag"))
        subscriber.expect(b"set_tag true")
        relay.producer().suspend("async_relay", "x")
        codes = {
            "no-subscriber": wire.list_frame("unicast", "x", "other"),
            "unknown-verb": wire.list_frame("fly", "x"),
            "bad-arguments": wire.list_frame("relay"),
            "too-big": wire.list_frame("relay", "x" * 1025),
            "overloaded": wire.list_frame("async_unicast", "x", "tag"),
            "bad-size": b"x",
            "bad-type": b"1:x;",
            "bad-list": b"1:x]",
            "truncated": b"5:hel",
        }
        for code, request in codes.items():
            with self.subTest(code):
                producer = relay.producer()
                producer.send(request)
                if code == "truncated":
                    producer.half_close()
                self.assert_error(producer.next_answer(), code)
                if code in ("bad-size", "bad-type", "bad-list", "truncated"):
                    producer.expect_end("eof")
                else:
                    producer.ping()
                self.assertEqual(relay.status()["requests"]["errors"][code], 1)
        producer = relay.producer()
        producer.ping()
        relay.reload(producer={"allow": [{"uid": os.getuid(), "verbs": ["multicast"]}]})
        self.assert_error(producer.request("relay", "x"), "forbidden")
        self.assertEqual(producer.request("multicast", "end", "tag"), [b"ok", b"1"])
        subscriber.expect(b"x", b"end")
        errors = relay.status()["requests"]["errors"]
        wanted = {**dict.fromkeys(errors, 0), **dict.fromkeys([*codes, "forbidden"], 1)}
        self.assertEqual(errors, wanted)
        # And the last one, seen while a connection-closed keeps the drain waiting.
        self.assertEqual(set(errors) - set(codes) - {"forbidden"}, {"draining"})
        with relay.worker_held(0):
            relay.signal(signal.SIGTERM)
            relay.wait_status(lambda s: s["state"] == "draining", "it drains")
            self.assertEqual(relay.status()["requests"]["errors"]["draining"], 1)
        relay.close_peers()
        self.assertEqual(relay.wait(), 0)

    def check_pipeline(self, relay, requests, heard, events):
        """Sends `requests`, pairs of a frame and the beginning of its answer, in one go; the
        subscriber `heard` gets exactly these events."""
        producer = relay.producer()
        producer.send(b"".join(frame for frame, _ in requests))
        answers = [answer for _, answer in requests if answer]
        pump(
            [producer, heard],
            lambda: len(producer.answers) >= len(answers) and len(heard.events) >= len(events),
            20,
            "all answers and events",
        )
        got = [answer[: len(wanted)] for answer, wanted in zip(producer.answers, answers)]
        self.assertTrue(got == answers, "answers are not those of the requests, in their order")
        self.assertEqual(len(producer.answers), len(answers))
        self.assertTrue(heard.events == events, "events are not in the order of the requests")
        heard.events.clear()

    def test_pipelined_requests_are_answered_in_order(self):
        """Many relay requests, with pings and errors among them at places known to the test."""
        requests, events = [], []
        for number in range(scaled(200_000)):
            events.append(b"event %d" % number)
            requests.append((wire.list_frame("relay", events[-1]), [b"ok", b"1"]))
            if number % 7 == 0:
                requests.append((wire.list_frame("ping"), [b"ok"]))
            if number % 1009 == 0:
                requests.append((wire.list_frame("relay"), [b"error", b"bad-arguments"]))
        self.check_pipeline(self.relay, requests, self.relay.subscriber(), events)

    def test_pipelined_requests_of_all_kinds(self):
        """What goes to a tag stands where it was asked for, between what goes to all."""
        count = scaled(80_000)
        relay = self.start(lua=ACT, **{"async": {"max_suspended": count}})
        others = relay.subscribers(2)
        heard = relay.subscriber()
        for subscriber, tag in zip([*others, heard], (b"one", b"both", b"both")):
            subscriber.send(act("set_tag", tag))
            subscriber.expect(b"set_tag true")
        kinds = [
            (("multicast",), "both", [b"ok", b"2"], True),
            (("unicast",), "both", [b"ok", b"1"], False),
            (("async_multicast",), "both", [b"suspended"], True),
            (("multicast",), "none", [b"ok", b"0"], False),
            (("unicast",), "none", [b"error", b"no-subscriber"], False),
            (("async_unicast",), "one", [b"suspended"], False),
            (("async_unicast",), "none", [b"error", b"no-subscriber"], False),
            (("relay",), None, [b"ok", b"3"], True),
            ((), None, None, True),
            (("async_relay",), None, [b"suspended"], True),
            (("ping",), None, [b"ok"], False),
        ]
        requests, events = [], []
        suspended = 0
        for number in range(count):
            verb, tag, answer, hears = kinds[number * 7 % len(kinds)]
            if answer == [b"suspended"]:
                suspended += 1
                if suspended > count // 4:
                    continue
            event = b"event %d" % number
            if not verb:
                frame = wire.data(event)
            elif verb == ("ping",):
                frame = wire.list_frame("ping")
            else:
                frame = wire.list_frame(*verb, event, *([tag] if tag else []))
            requests.append((frame, answer))
            if hears:
                events.append(event)
        self.check_pipeline(relay, requests, heard, events)

    def test_answers_come_to_who_asked(self):
        subscriber = self.relay.subscriber()
        producers = [self.relay.producer() for _ in range(10)]
        for number, producer in enumerate(producers):
            producer.send(wire.list_frame("relay", "x") * number + wire.list_frame("ping"))
        pump(producers, lambda: all(p.answers and p.answers[-1] == [b"ok"] for p in producers))
        self.assertEqual([len(p.answers) for p in producers], list(range(1, 11)))
        pump([subscriber], lambda: len(subscriber.events) == 45)

    def test_half_close_after_many_requests_gets_all_answers(self):
        count = scaled(100_000)
        self.producer.send(wire.list_frame("ping") * count)
        self.producer.flush()
        self.producer.half_close()
        self.producer.expect_end("eof")
        self.assertEqual(self.producer.answers, [[b"ok"]] * count)


class Tags(RelayCase):
    """Who has a tag gets what is for it."""

    def setUp(self):
        self.relay = self.start(lua=ACT)
        self.producer = self.relay.producer()

    def tag(self, subscriber, tag):
        subscriber.send(act("set_tag", tag))
        subscriber.expect(b"set_tag true")

    def check(self, wanted):
        """wanted: by tag, the indexes of those that have it, the lowest conidx first."""
        live = [s for s in self.relay.peers if hasattr(s, "events") and s.sock.fileno() >= 0]
        events = {subscriber: [] for subscriber in live}
        for tag, members in wanted.items():
            members = [self.subscribers[index] for index in members]
            for verb, heard in (("multicast", members), ("unicast", members[:1])):
                event = b"%b for %b" % (verb.encode(), tag)
                answer = self.producer.request(verb, event, tag)
                if verb == "unicast" and not heard:
                    self.assertEqual(answer[:2], [b"error", b"no-subscriber"])
                else:
                    self.assertEqual(answer, [b"ok", b"%d" % len(heard)])
                for subscriber in heard:
                    events[subscriber].append(event)
        self.assertEqual(self.producer.request("relay", "end"), [b"ok", b"%d" % len(live)])
        for subscriber in live:
            subscriber.expect(*events[subscriber], b"end")

    def test_exactly_those_that_have_it(self):
        self.subscribers = self.relay.subscribers(6)
        tags = [b"a", b"b", b"a", b"A", b"ab"]  # and one has none
        for subscriber, tag in zip(self.subscribers, tags):
            self.tag(subscriber, tag)
        self.check({b"a": [0, 2], b"b": [1], b"A": [3], b"ab": [4], b"c": [], b"a ": []})

    def test_a_tag_is_bytes(self):
        tags = [b"\0", b"\xff\n%s", b"t" * 63, b"5:hello,", b" "]
        self.subscribers = self.relay.subscribers(len(tags))
        for subscriber, tag in zip(self.subscribers, tags):
            self.tag(subscriber, tag)
        self.check({tag: [index] for index, tag in enumerate(tags)})

    def test_set_again_cleared_and_gone(self):
        self.subscribers = self.relay.subscribers(4)
        one, two, three, _ = self.subscribers
        for subscriber in self.subscribers:
            self.tag(subscriber, b"a")
        self.check({b"a": [0, 1, 2, 3], b"b": []})
        self.tag(one, b"b")
        self.check({b"a": [1, 2, 3], b"b": [0]})
        self.tag(one, b"b")
        self.check({b"a": [1, 2, 3], b"b": [0]})
        self.tag(two, b"")
        self.check({b"a": [2, 3], b"b": [0]})
        three.kill()
        self.relay.wait_status(lambda s: s["subscribers"]["live"] == 3, "it has left")
        self.tag(one, b"b")  # by then its worker knows that, and its number is free
        self.check({b"a": [3], b"b": [0]})
        # Who takes its place has no tag of it, and is the lowest again when it has one.
        self.subscribers[2] = self.relay.subscriber()
        self.check({b"a": [3], b"b": [0]})
        self.tag(self.subscribers[2], b"a")
        self.check({b"a": [2, 3], b"b": [0]})
        # Half-closed, and closed by the hook.
        one.half_close()
        one.expect_end("eof")
        one.close()
        self.subscribers[3].send(act("close"))
        self.subscribers[3].expect_end("eof")
        self.subscribers[3].close()
        self.check({b"a": [2], b"b": []})

    def test_unicast_is_for_the_lowest_conidx_whoever_had_the_tag_first(self):
        self.subscribers = self.relay.subscribers(10)
        for index in (7, 3, 9, 5, 0, 4):
            self.tag(self.subscribers[index], b"a")
        for gone in (0, 3, 4, 5, 7, 9):
            left = [index for index in (0, 3, 4, 5, 7, 9) if index >= gone]
            self.check({b"a": left})
            self.tag(self.subscribers[gone], b"")
        self.check({b"a": []})

    def test_many_members(self):
        count = 200
        self.subscribers = self.relay.subscribers(count)
        for index, subscriber in enumerate(self.subscribers):
            self.tag(subscriber, b"odd" if index % 2 else b"even")
        self.check({b"odd": range(1, count, 2), b"even": range(0, count, 2)})

    def test_a_stalled_member_delays_nobody_and_gets_it_in_order(self):
        relay = self.start(lua=ACT, send_buffer="16KiB", max_event="64KiB")
        stalled = relay.subscriber(receive_buffer=4 * KIB)
        other = relay.subscriber()
        for subscriber in (stalled, other):
            self.tag(subscriber, b"a")
        stalled.paused = True
        producer = relay.producer()
        events = []
        for number in range(60):
            event = b"%d " % number + b"x" * 30_000
            events.append(event)
            if number % 3 == 0:
                producer.relay(event)
            else:
                answer = producer.request("multicast", event, "a")
                self.assertEqual(answer, [b"ok", b"2"])
            other.expect(event)
        stalled.paused = False
        stalled.expect(*events)


class UnreadAnswers(RelayCase):
    PING = wire.list_frame("ping")

    def fill(self, relay, producer, frame, total):
        """Writes `frame`s without reading until evrelay takes no more; returns how many it took."""
        producer.paused = True
        producer.send(frame * (total // len(frame)))
        progress = [None]

        def stuck():
            status = relay.status()
            requests = status["requests"]
            handled = requests["accepted"]["ping"] + sum(requests["errors"].values())
            before, progress[0] = progress[0], (handled, len(producer.outgoing))
            return before == progress[0] or not status["producers"]["connected"]

        pump([producer], stuck, 20, "evrelay stops reading")
        return progress[0][0]

    def test_a_producer_that_does_not_read_is_not_read_and_loses_nothing(self):
        relay = self.start()
        producer = relay.producer()
        memory = relay.rss()
        total = 40 * MIB
        taken = self.fill(relay, producer, self.PING, total)
        if not SANITIZED:
            self.assertLess(relay.rss() - memory, 8 * MIB)
        # A mebibyte of answers, and what stands in the two sockets' buffers.
        answers = taken * len(wire.list_frame("ok"))
        self.assertGreater(answers, MIB)
        self.assertLess(answers, 2 * MIB)
        self.assertEqual(relay.status()["producers"]["connected"], 1)
        # Others are not disturbed.
        other, subscriber = relay.producer(), relay.subscriber()
        other.relay(b"hello")
        subscriber.expect(b"hello")
        # It ends the request it is in, reads again and gets every answer.
        unsent = len(producer.outgoing)
        del producer.outgoing[unsent % len(self.PING) :]
        asked = (total - total % len(self.PING) - unsent + len(producer.outgoing)) // len(self.PING)
        producer.paused = False
        producer.flush()
        producer.half_close()
        producer.expect_end("eof")
        self.assertEqual(producer.answers, [[b"ok"]] * asked)
        self.assertEqual(relay.status()["requests"]["accepted"]["ping"], asked)

    def test_unread_answers_are_bounded_whatever_they_say(self):
        """Answers many times longer than their requests: read pauses or it ends, slow-producer."""
        relay = self.start()
        producer = relay.producer()
        memory = relay.rss()
        taken = self.fill(relay, producer, b"0:]", 20 * MIB)
        self.assertLess(taken, 20 * MIB // 3)
        if not SANITIZED:
            self.assertLess(relay.rss() - memory, 16 * MIB)
        status = relay.status()
        if not status["producers"]["connected"]:
            self.assertEqual(status["producers"]["closed"]["slow-producer"], 1)
            relay.wait_log("slow-producer")

    def test_answers_whose_producer_is_gone_are_counted(self):
        relay = self.start()
        producer = relay.producer()
        self.fill(relay, producer, self.PING, 40 * MIB)
        producer.kill()
        status = relay.wait_status(lambda s: s["producers"]["connected"] == 0, "it is gone")
        self.assertGreater(status["requests"]["undeliverable"], 0)


if __name__ == "__main__":
    unittest.main()
