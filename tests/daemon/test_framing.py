"""How both ports read frames: in any pieces, white space between them, and what ends a peer."""

import unittest

import wire
from relay import KIB, MIB, SANITIZED, RelayCase, pump

# Input for either port: bytes, and the payloads in it.
VALID = [
    ("one frame", b"5:hello,", [b"hello"]),
    ("many frames", b"1:a,2:bc,3:def,", [b"a", b"bc", b"def"]),
    ("white space between", b" \t\r\n1:a,\r\n \n2:bc,\r\n", [b"a", b"bc"]),
    ("leading zeros", b"005:hello,0000000000000000000000000000001:x,", [b"hello", b"x"]),
    ("32 digits", b"0" * 31 + b"5:hello,", [b"hello"]),
    ("keepalives", b"0:,1:a,0:,0:,00:,2:bc,0:,", [b"a", b"bc"]),
    ("nul and binary", b"4:\0\x01\xff\0,1:\0,", [b"\0\x01\xff\0", b"\0"]),
    ("a frame in a frame", b"8:5:hello,,", [b"5:hello,"]),
    ("payload of commas and colons", b"6:,:,:,:,", [b",:,:,:"]),
    ("payload of white space", b"3: \r\n,", [b" \r\n"]),
    ("payload that looks like a size", b"2:9:,1:9,", [b"9:", b"9"]),
]

# Input that ends the connection, with the error's name.
INVALID = [
    ("letters", b"hello", "bad-size"),
    ("no size", b":hello,", "bad-size"),
    ("a plus sign", b"+5:hello,", "bad-size"),
    ("a minus sign", b"-5:hello,", "bad-size"),
    ("hexadecimal", b"0x5:hello,", "bad-size"),
    ("a letter in the size", b"1a:hello,", "bad-size"),
    ("white space before the colon", b"5 :hello,", "bad-size"),
    ("no colon", b"5hello,", "bad-size"),
    ("past 32 bits", b"4294967296:", "bad-size"),
    ("far past 32 bits", b"99999999999:", "bad-size"),
    ("wraps to five at 32 bits", b"4294967301:hello,", "bad-size"),
    ("wraps to five at 64 bits", b"18446744073709551621:hello,", "bad-size"),
    ("33 digits", b"0" * 33, "bad-size"),
    ("a stray comma", b",", "bad-size"),
    ("a nul", b"\0", "bad-size"),
    ("the largest size", b"4294967295:", "too-big"),
    ("half of it", b"2147483647:x", "too-big"),
    ("one more than that", b"2147483648:x", "too-big"),
    ("no comma", b"5:hello5:hello,", "bad-type"),
    ("a line feed for the comma", b"5:hello\n", "bad-type"),
    ("one byte too many", b"5:hellos,", "bad-type"),
    ("one byte too few", b"5:hell,1:x,", "bad-type"),
    ("a wrong type", b"5:hello;", "bad-type"),
]


class Framing(RelayCase):
    def setUp(self):
        self.relay = self.start()

    # The producer port

    def test_valid_frames_from_a_producer_in_every_split(self):
        subscriber = self.relay.subscriber()
        producer = self.relay.producer()
        for name, text, events in VALID:
            for at in range(len(text)):
                with self.subTest(name, at=at):
                    self.send_split(producer, text, at)
                    subscriber.expect(*events)
        producer.ping()

    def test_requests_in_every_split(self):
        subscriber = self.relay.subscriber()
        producer = self.relay.producer()
        text = b"0:," + wire.list_frame("relay", "hi") + b"\n1:x," + wire.list_frame("ping")
        for at in range(len(text)):
            with self.subTest(at=at):
                self.send_split(producer, text, at)
                pump([producer], lambda: len(producer.answers) == 2)
                self.assertEqual(producer.answers, [[b"ok", b"1"], [b"ok"]])
                producer.answers.clear()
                subscriber.expect(b"hi", b"x")

    def test_a_producer_byte_by_byte(self):
        subscriber = self.relay.subscriber()
        producer = self.relay.producer()
        for name, text, events in VALID:
            with self.subTest(name):
                for at in range(len(text)):
                    producer.send(text[at : at + 1])
                    self.relay.status()
                subscriber.expect(*events)

    def test_a_producer_with_a_malformed_frame_is_told_and_closed(self):
        subscriber = self.relay.subscriber()
        for name, text, error in INVALID:
            with self.subTest(name):
                before = self.relay.status()
                producer = self.relay.producer()
                producer.send(b"4:good," + text)
                producer.expect_end("eof")
                self.assertEqual(len(producer.answers), 1)
                self.assertEqual(producer.answers[0][:2], [b"error", error.encode()])
                self.assertEqual(len(producer.answers[0]), 3)
                producer.close()
                subscriber.expect(b"good")
                self.expect_closed("producers", error, before)
                errors = self.relay.status()["requests"]["errors"]
                self.assertEqual(errors[error], before["requests"]["errors"][error] + 1)

    def test_a_producer_that_ends_inside_a_frame_is_told(self):
        subscriber = self.relay.subscriber()
        for text in (b"5", b"5:", b"5:hell", b"5:hello", b"12:4:ping"):
            with self.subTest(text):
                before = self.relay.status()
                producer = self.relay.producer()
                producer.send(b"4:good," + text)
                producer.half_close()
                producer.expect_end("eof")
                self.assertEqual(producer.answers[0][:2], [b"error", b"truncated"])
                producer.close()
                subscriber.expect(b"good")
                self.expect_closed("producers", "truncated", before)

    def test_white_space_at_the_end_is_not_a_frame(self):
        producer = self.relay.producer()
        producer.send(b"5:hello,\r\n \t")
        producer.half_close()
        producer.expect_end("eof")
        self.assertEqual(producer.answers, [])
        self.relay.wait_status(lambda s: s["producers"]["closed"]["eof"] == 1, "eof")

    # The subscriber port

    def test_valid_frames_from_a_subscriber_in_every_split(self):
        subscriber = self.relay.subscriber()
        for name, text, messages in VALID:
            for at in range(len(text)):
                with self.subTest(name, at=at):
                    before = self.relay.status()["messages"]
                    self.send_split(subscriber, text, at)
                    self.expect_messages(before, messages)
        self.assertIsNone(subscriber.ended)

    def test_a_subscriber_byte_by_byte(self):
        subscriber = self.relay.subscriber()
        for name, text, messages in VALID:
            with self.subTest(name):
                before = self.relay.status()["messages"]
                for at in range(len(text)):
                    subscriber.send(text[at : at + 1])
                    self.relay.status()
                self.expect_messages(before, messages)

    def test_a_subscriber_with_a_malformed_frame_is_closed_and_only_it(self):
        other = self.relay.subscriber()
        for name, text, error in INVALID:
            with self.subTest(name):
                before = self.relay.status()
                subscriber = self.relay.subscriber()
                subscriber.send(b"4:good," + text)
                subscriber.expect_end("eof")
                subscriber.close()
                self.expect_closed("subscribers", error, before)
                self.expect_messages(before["messages"], [b"good"])
        self.relay.producer().relay(b"still here")
        other.expect(b"still here")

    def test_a_subscriber_may_not_send_lists(self):
        before = self.relay.status()
        subscriber = self.relay.subscriber()
        subscriber.send(wire.list_frame("relay", "hello"))
        subscriber.expect_end("eof")
        subscriber.close()
        self.expect_closed("subscribers", "bad-type", before)

    def test_a_subscriber_that_ends_inside_a_frame(self):
        for text in (b"5", b"5:", b"5:hell", b"5:hello"):
            with self.subTest(text):
                before = self.relay.status()
                subscriber = self.relay.subscriber()
                subscriber.send(b"4:good," + text)
                subscriber.half_close()
                subscriber.expect_end("eof")
                self.expect_closed("subscribers", "truncated", before)
                self.expect_messages(before["messages"], [b"good"])

    def test_a_closed_subscriber_that_goes_on_talking_still_gets_what_was_due(self):
        """What it sends after its bad frame is thrown away; a reset would destroy what is due."""
        subscriber = self.relay.subscriber(receive_buffer=4 * KIB)
        producer = self.relay.producer()
        events = [b"%d " % number + b"x" * 5000 for number in range(100)]
        producer.relay(*events)
        producer.ping()
        subscriber.paused = True
        subscriber.send(b"oops" + b"more" * 16 * KIB)
        self.relay.wait_status(lambda s: s["subscribers"]["live"] == 0, "it is closing")
        subscriber.paused = False
        # It answers whatever it gets with more of the same.
        while not subscriber.ended:
            seen = subscriber.taken
            subscriber.send(b"more" * KIB)
            subscriber.pump(lambda seen=seen: subscriber.taken > seen or subscriber.ended)
        self.assertEqual(subscriber.ended, "eof")
        self.assertEqual(subscriber.events, events)

    def test_half_a_frame_leaves_nothing_behind_for_the_next_peer(self):
        first = self.relay.subscriber()
        first.send(b"9:half a fr")
        self.relay.turn()
        first.kill()
        self.relay.wait_status(lambda s: s["subscribers"]["live"] == 0, "the first is gone")
        before = self.relay.status()["messages"]
        second = self.relay.subscriber()
        second.send(b"5:hello,")
        self.expect_messages(before, [b"hello"])

    # Hostile lengths

    def test_bar_7_a_hostile_length_is_refused_when_it_is_read(self):
        """RELIABILITY bar 7: closed within one read, growth < 64 KiB, reason counted."""
        limits = {"subscribers": 64 * KIB, "producers": MIB}
        for port, limit in limits.items():
            over = b"%d:" % (limit + 1 + (4 * KIB if port == "producers" else 0))
            heads = [(b"99999999999:", "bad-size"), (b"4294967296:", "bad-size")]
            heads += [(b":", "bad-size"), (b"4294967295:", "too-big"), (over, "too-big")]
            self.refuse(port, over, "too-big")  # warms the buffers that all connections share
            for head, error in heads:
                with self.subTest(port=port, head=head):
                    growth = self.refuse(port, head, error)
                    if not SANITIZED:
                        self.assertLess(growth, 64 * KIB)

    def refuse(self, port, head, error):
        """Sends a refused head and half a megabyte more; returns the growth of memory."""
        before = self.relay.status()
        memory = self.relay.rss()
        peer = self.relay.subscriber() if port == "subscribers" else self.relay.producer()
        peer.send(head)
        peer.pump(lambda: peer.ended, 5, "the end")
        self.assertEqual(peer.ended, "eof")
        peer.send(b"x" * (512 * KIB))
        peer.flush()
        self.relay.turn()
        growth = self.relay.rss() - memory
        peer.close()
        self.expect_closed(port, error, before)
        return growth

    # Helpers

    def send_split(self, peer, text, at):
        """Sends text in two pieces that evrelay reads apart."""
        peer.send(text[:at])
        self.relay.turn()
        peer.send(text[at:])

    def expect_messages(self, before, messages):
        """evrelay has received exactly these since `before`."""
        count = before["received"] + len(messages)
        size = before["bytes"] + sum(map(len, messages))
        self.relay.wait_status(lambda s: s["messages"]["received"] >= count, "received")
        self.relay.turn()
        now = self.relay.status()["messages"]
        self.assertEqual((now["received"], now["bytes"]), (count, size))

    def expect_closed(self, kind, reason, before):
        """Exactly one more of `kind` was closed since `before`, for `reason`."""
        wanted = dict(before[kind]["closed"])
        wanted[reason] += 1
        status = self.relay.wait_status(
            lambda s: sum(s[kind]["closed"].values()) > sum(before[kind]["closed"].values()),
            f"{kind} closed",
        )
        self.assertEqual(status[kind]["closed"], wanted)


if __name__ == "__main__":
    unittest.main()
