"""Requests on the producer port: one answer each, in order, and what happens to unread answers."""

import unittest

import wire
from relay import KIB, MIB, SANITIZED, RelayCase, pump, scaled


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
        verbs = ["", "Relay", "relay ", "status", "x" * 1000, b"\0\xff\n", "unicast", "multicast"]
        verbs += ["async_relay", "hello"]
        for number, verb in enumerate(verbs, 1):
            with self.subTest(verb):
                self.assert_error(self.producer.request(verb, "a", "b"), "unknown-verb")
                errors = self.relay.status()["requests"]["errors"]
                self.assertEqual(errors["unknown-verb"], number)
        self.producer.ping()

    def test_bad_arguments(self):
        requests = [("relay",), ("relay", "a", "b"), ("relay", ""), ("ping", "a"), ("ping", "")]
        subscriber = self.relay.subscriber()
        for number, items in enumerate(requests, 1):
            with self.subTest(items):
                self.assert_error(self.producer.request(*items), "bad-arguments")
                errors = self.relay.status()["requests"]["errors"]
                self.assertEqual(errors["bad-arguments"], number)
        self.producer.relay(b"good")
        subscriber.expect(b"good")

    def test_a_request_without_a_verb_is_an_error_and_no_more(self):
        self.producer.send(b"0:]")
        answer = self.producer.next_answer()
        self.assertEqual(answer[0], b"error")
        self.assertIn(answer[1], (b"bad-arguments", b"unknown-verb"))
        self.producer.ping()

    def test_an_event_over_max_event_is_refused_and_the_connection_stays(self):
        subscriber = self.relay.subscriber()
        self.assertEqual(self.producer.request("relay", b"x" * (64 * KIB)), [b"ok", b"1"])
        self.assert_error(self.producer.request("relay", b"x" * (64 * KIB + 1)), "too-big")
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

    def test_pipelined_requests_are_answered_in_order(self):
        """10,000 relay requests, with pings and errors among them at places known to the test."""
        subscriber = self.relay.subscriber()
        frames, answers, events = [], [], []
        for number in range(10_000):
            event = b"event %d" % number
            events.append(event)
            frames.append(wire.list_frame("relay", event))
            answers.append([b"ok", b"1"])
            if number % 7 == 0:
                frames.append(wire.list_frame("ping"))
                answers.append([b"ok"])
            if number % 1009 == 0:
                frames.append(wire.list_frame("relay"))
                answers.append([b"error", b"bad-arguments"])
        self.producer.send(b"".join(frames))
        pump(
            [self.producer, subscriber],
            lambda: len(self.producer.answers) >= len(answers) and len(subscriber.events) >= 10_000,
            20,
            "all answers and events",
        )
        self.assertEqual([answer[:2] for answer in self.producer.answers], answers)
        self.assertEqual(subscriber.events, events)

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


class UnreadAnswers(RelayCase):
    PING = wire.list_frame("ping")

    def fill(self, relay, producer, frame, total):
        """Writes `frame`s without reading until evrelay takes no more; returns how many it took."""
        producer.paused = True
        producer.send(frame * (total // len(frame)))
        progress = [None]

        def stuck():
            status = relay.status()
            handled = status["requests"]["accepted"]["ping"] + sum(status["requests"]["errors"].values())
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
        self.assertLess(taken, total // len(self.PING))
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
