"""The example scripts of config/hooks, as a user would try them."""

import json
import os
import unittest

import wire
from relay import RelayCase, evrelay

FOLDER = os.path.join(
    os.path.dirname(os.path.abspath(__file__)), os.pardir, os.pardir, "config", "hooks"
)


class Examples(RelayCase):
    def start_example(self, name, **config):
        return self.start(script=os.path.join(FOLDER, name + ".lua"), **config)

    def say(self, subscriber, *messages):
        subscriber.send(b"".join(wire.data(m.encode()) for m in messages))

    def hear(self, subscriber, *events):
        subscriber.expect(*[event.encode() for event in events])

    def test_every_example_has_its_test(self):
        names = {name.removesuffix(".lua").replace("-", "_") for name in os.listdir(FOLDER)}
        self.assertEqual(names, {n.removeprefix("test_the_") for n in dir(self) if "test_the_" in n})

    def test_the_echo(self):
        relay = self.start_example("echo")
        subscriber, other = relay.subscribers(2)
        self.say(subscriber, "hello", "caf\u00e9", "\0")
        self.hear(subscriber, "hello", "caf\u00e9", "\0")
        relay.turn()
        self.assertRaises(BlockingIOError, other.sock.recv, 1)

    def test_the_chat(self):
        relay = self.start_example("chat", workers=2)
        ann, bob = relay.subscribers(2)
        self.hear(ann, "Your name?")
        self.hear(bob, "Your name?")
        self.say(ann, "ann")
        self.hear(ann, "ann has come")
        self.hear(bob, "ann has come")
        self.say(bob, "b" * 64, "bob")
        self.hear(bob, "A name has at most 63 bytes. Your name?", "bob has come")
        self.hear(ann, "bob has come")
        self.say(ann, "hello", "@bob just you", "@nobody")
        self.hear(ann, "ann: hello", "ann: @nobody")
        self.hear(bob, "ann: hello", "ann to you: just you", "ann: @nobody")
        nameless = relay.subscriber()
        self.hear(nameless, "Your name?")
        nameless.close()
        bob.close()
        self.hear(ann, "bob has left")
        relay.producer().relay(b"from a producer")
        self.hear(ann, "from a producer")

    def test_the_allow_list(self):
        relay = self.start_example("allow-list")
        welcome = relay.subscriber()
        stranger = relay.subscriber(source="127.0.0.2")
        stranger.expect_end("eof")
        self.assertEqual(stranger.taken, 0)
        relay.wait_log(" warn hook: refused 127.0.0.2:%d$" % stranger.sock.getsockname()[1])
        relay.producer().relay(b"hello")
        self.hear(welcome, "hello")

    def test_the_commands(self):
        relay = self.start_example("commands")
        subscriber = relay.subscriber()
        for message, ok, error in (
            ('{"command": "ping"}', True, None),
            ('{"command": "subscribe", "tag": "calls"}', True, None),
            ('{"command": "subscribe", "tag": ""}', True, None),
            ('{"command": "subscribe", "tag": "%s"}' % ("x" * 64), False, "63 bytes"),
            ('{"command": "subscribe"}', False, "a tag is a text"),
            ('{"command": "subscribe", "tag": 5}', False, "a tag is a text"),
            ('{"command": "publish", "tag": "calls", "data": "ringing"}', True, None),
            ('{"command": "publish", "tag": "calls"}', False, "texts"),
            ('{"command": "publish", "tag": "", "data": "x"}', False, "empty"),
            ('{"command": "resume", "index": 0, "label": 1, "data": "x"}', False, "nothing waits"),
            ('{"command": "resume", "data": "x"}', False, "nothing waits"),
            ('{"command": "resume", "index": 0, "label": 1}', False, "data is a text"),
            ('{"command": "fly"}', False, "no such command"),
            ("{}", False, "no such command"),
            ('{"command": null}', False, "no such command"),
            ('{"command": ["ping"]}', False, "no such command"),
            ("[]", False, "no such command"),
            ('"ping"', False, "not a JSON object"),
            ("hello", False, "not a JSON object"),
            ('{"command": "ping"', False, "not a JSON object"),
        ):
            with self.subTest(message):
                self.say(subscriber, message)
                subscriber.pump(lambda: subscriber.events)
                answer = json.loads(subscriber.events.pop())
                self.assertEqual(answer.pop("ok"), ok)
                if error is None:
                    self.assertEqual(answer, {})
                else:
                    self.assertIn(error, answer["error"])
        self.say(subscriber, '{"command": "subscribe", "tag": "calls"}')
        subscriber.expect(b'{"ok":true}')
        other = relay.subscriber()
        self.say(other, '{"command": "publish", "tag": "calls", "data": "ringing"}')
        subscriber.expect(b"ringing")
        other.expect(b'{"ok":true}')
        producer = relay.producer()
        suspended, index, label = producer.request("async_multicast", "$T(id_label)", "calls")
        self.assertEqual(suspended, b"suspended")
        subscriber.expect(label)
        resume = {"command": "resume", "index": int(index), "label": int(label), "data": "accept"}
        self.say(other, json.dumps(resume))
        other.expect(b'{"ok":true}')
        self.assertEqual(producer.next_answer(), [b"resumed", index, label, b"accept"])
        self.assertEqual(sum(relay.status()["hook"]["failed"].values()), 0)

    def test_all_pass_the_check(self):
        for name in sorted(os.listdir(FOLDER)):
            with self.subTest(name):
                script = os.path.join(FOLDER, name)
                done = evrelay("--script", script, "--producer-socket", "/tmp/x.sock", "--check")
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "ok\n", ""))


if __name__ == "__main__":
    unittest.main()
