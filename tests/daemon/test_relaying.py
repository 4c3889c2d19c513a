"""What goes in at the producer port comes out at every subscriber, once, in order, unchanged."""

import os
import unittest

import wire
from relay import MIB, RelayCase, pump


class Relaying(RelayCase):
    def test_an_event_reaches_every_subscriber_byte_for_byte(self):
        relay = self.start()
        subscribers = relay.subscribers(3, raw=True)
        relay.producer().send(b"5:hello,")
        pump(subscribers, lambda: all(len(s.stream) >= 8 for s in subscribers))
        self.assertEqual([bytes(s.stream) for s in subscribers], [b"5:hello,"] * 3)

    def test_the_example_of_the_evapi_manual_byte_for_byte(self):
        relay = self.start()
        subscriber = relay.subscriber(raw=True)
        event = b'{\n "event": "test",\n "data": { "fU": "test" }\n}'
        wanted = b'47:{\n "event": "test",\n "data": { "fU": "test" }\n},'
        self.assertEqual(relay.producer().request("relay", event), [b"ok", b"1"])
        subscriber.pump(lambda: len(subscriber.stream) >= len(wanted))
        self.assertEqual(bytes(subscriber.stream), wanted)

    def test_nothing_is_sent_before_the_first_event(self):
        relay = self.start()
        subscriber = relay.subscriber()
        relay.turn()
        self.assertRaises(BlockingIOError, subscriber.sock.recv, 1)

    def test_any_byte_passes_unchanged(self):
        relay = self.start()
        subscriber = relay.subscriber()
        producer = relay.producer()
        events = [bytes(range(256)), b"\0", b"%s%d%n", b"$T(id_index)", b"5:hello,"]
        events += [b"\xff\xfe\n\r"]
        producer.relay(*events)
        subscriber.expect(*events)
        for event in events:
            self.assertEqual(producer.request("relay", event), [b"ok", b"1"])
        subscriber.expect(*events)

    def test_any_size_up_to_max_event(self):
        relay = self.start()
        subscriber = relay.subscriber()
        producer = relay.producer()
        sizes = [1, 9, 10, 99, 100, 32766, 32767, 32768, 60000, 65535, 65536, 262144, MIB - 1, MIB]
        events = [os.urandom(size) for size in sizes]
        producer.send(b"".join(b"%d:%b," % (len(event), event) for event in events))
        pump([producer, subscriber], lambda: len(subscriber.events) == len(events))
        self.assertEqual(subscriber.events, events)

    def test_nothing_is_kept_for_who_comes_later(self):
        relay = self.start()
        producer = relay.producer()
        self.assertEqual(producer.request("relay", "early"), [b"ok", b"0"])
        subscriber = relay.subscriber()
        self.assertEqual(producer.request("relay", "late"), [b"ok", b"1"])
        subscriber.expect(b"late")

    def test_a_subscriber_that_left_is_not_counted(self):
        relay = self.start()
        stays, leaves = relay.subscribers(2)
        producer = relay.producer()
        self.assertEqual(producer.request("relay", "one"), [b"ok", b"2"])
        leaves.expect(b"one")
        leaves.close()
        relay.wait_status(lambda s: s["subscribers"]["live"] == 1, "one has left")
        self.assertEqual(producer.request("relay", "two"), [b"ok", b"1"])
        stays.expect(b"one", b"two")

    def test_a_subscriber_that_ends_its_side_gets_what_was_due_and_the_end(self):
        relay = self.start()
        subscriber = relay.subscriber()
        relay.producer().request("relay", "due")
        subscriber.half_close()
        subscriber.expect(b"due")
        subscriber.expect_end("eof")
        status = relay.wait_status(lambda s: s["subscribers"]["closed"]["eof"] == 1, "eof")
        self.assertEqual(status["subscribers"]["live"], 0)

    def test_a_producer_that_ends_its_side_gets_its_answers_and_the_end(self):
        relay = self.start()
        subscriber = relay.subscriber()
        producer = relay.producer()
        producer.send(wire.list_frame("relay", "one") + wire.list_frame("ping") + b"3:two,")
        producer.half_close()
        producer.expect_end("eof")
        self.assertEqual(producer.answers, [[b"ok", b"1"], [b"ok"]])
        subscriber.expect(b"one", b"two")
        relay.wait_status(lambda s: s["producers"]["closed"]["eof"] == 1, "eof")

    def test_a_single_write_and_close_is_a_complete_producer(self):
        relay = self.start()
        subscriber = relay.subscriber()
        for number in range(50):
            producer = relay.producer()
            producer.send(b"5:ev%03d," % number)
            producer.close()
            subscriber.expect(b"ev%03d" % number)

    def test_the_books_name_every_event_and_byte(self):
        relay = self.start()
        subscribers = relay.subscribers(4)
        producer = relay.producer()
        producer.relay(b"abc", b"defgh")
        producer.request("relay", "ij")
        pump(subscribers, lambda: all(len(s.events) == 3 for s in subscribers))
        subscribers[0].send(b"5:hello,2:ok,")
        status = relay.wait_status(lambda s: s["messages"]["received"] == 2, "two messages")
        self.assertEqual(status["events"], {"relayed": 3, "bytes": 10, "denied": 0})
        self.assertEqual(status["deliveries"]["due"], 12)
        self.assertEqual(status["deliveries"]["written"], 12)
        self.assertEqual(status["deliveries"]["queued"], 0)
        self.assertEqual(status["messages"]["bytes"], 7)
        self.assertEqual(status["messages"]["dropped"]["no-hook"], 2)
        self.assertEqual(status["subscribers"]["live"], 4)
        self.assertEqual(status["subscribers"]["accepted"], 4)
        self.assertEqual(status["producers"]["connected"], 1)
        self.assertEqual(status["requests"]["accepted"]["relay"], 1)
        self.assertEqual(status["state"], "running")
        self.assertEqual(status["pid"], relay.pid)
        self.assertEqual(status["producer_socket"], relay.producer_path)
        self.assertEqual(status["control_socket"], relay.control_path)


if __name__ == "__main__":
    unittest.main()
