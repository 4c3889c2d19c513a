"""Clients that know nothing of evrelay: the netstring libraries of others, in both directions.

They run as programs of their own (foreign/). A library that is not there is skipped: Twisted is
Debian's python3-twisted; EVRELAY_NODE_MODULES names the folder with the npm packages `netstring`
and `@endo/netstring`, which ./dev test installs.
"""

import base64
import os
import random
import shutil
import socket
import subprocess
import sys
import unittest
from itertools import zip_longest

from relay import Peer, RelayCase, patience, pump
from scripts import ECHO

FOREIGN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "foreign")
NODE_MODULES = os.environ.get("EVRELAY_NODE_MODULES", "")

# What is hard for those who take payloads for text, lines or frames.
PAYLOADS = [
    b"hello",
    b"{\n \"event\": \"test\",\n \"data\": { \"fU\": \"test\" }\n}",
    bytes(range(256)),
    b"\0",
    b",",
    b":",
    b"0:,5:hello,",
    b"\r\n\r\n",
    b"%s%n$fU",
    "caf\u00e9 \u2615".encode(),
    b"\xff\xfe\xc0\x80",
    b"x" * 9,
    b"x" * 10,
    b"x" * 65_535,
    b"\0" * 65_536,  # max_message
]

# Everyone hears what anyone says, with the number of who said it in front.
CHAT = """
event_route["evapi:message-received"] = function(evapi)
  evapi.relay(evapi.conidx .. ":" .. evapi.msg)
end
"""

ONE_ANSWER = """
event_route["evapi:connection-new"] = function(evapi)
  evapi.reply("welcome")
end
event_route["evapi:message-received"] = function(evapi)
  evapi.reply("bye, " .. evapi.msg)
  evapi.close()
end
"""


def python_with_twisted():
    """Debian's packages belong to Debian's own Python, which need not be the one that runs this."""
    for python in (sys.executable, "/usr/bin/python3"):
        found = subprocess.run(
            [python, "-c", "import twisted"], stderr=subprocess.DEVNULL, check=False
        )
        if found.returncode == 0:
            return python
    return None


TWISTED = python_with_twisted()


def lacks_node_package(name):
    """Why the client of this npm package cannot run, or an empty string."""
    if shutil.which("node") is None:
        return "there is no node"
    if not os.path.isdir(os.path.join(NODE_MODULES, name)):
        return f"there is no npm package {name} in {NODE_MODULES or 'EVRELAY_NODE_MODULES'}"
    return ""


class ForeignClient(Peer):
    """The test's end of the socket to a client program; `events` are the payloads it heard."""

    def __init__(self, command):
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(command, stdin=theirs, stdout=sys.stderr)
        super().__init__(ours)
        self.events = []
        self.over = False  # the relay has ended the connection
        self._line = b""

    def say(self, *payloads):
        """Has it send these messages, in one go."""
        self.send(b"".join(b"send %b\n" % base64.b64encode(payload) for payload in payloads))

    def end_its_side(self):
        self.send(b"end\n")

    def expect(self, *payloads, timeout=30):
        """The next events it hears are exactly these; forgets them."""
        self.pump(
            lambda: len(self.events) >= len(payloads) or self.over or self.ended,
            timeout,
            f"{len(payloads)} events",
        )
        got, self.events = self.events[: len(payloads)], self.events[len(payloads) :]
        for number, (heard, wanted) in enumerate(zip_longest(got, payloads)):
            if heard != wanted:
                raise AssertionError(f"event {number} is {heard!r:.99}, not {wanted!r:.99}")

    def expect_over(self):
        self.pump(lambda: self.over or self.ended, 10, "the relay ends the connection")
        if self.events or not self.over:
            raise AssertionError(f"no proper end: {len(self.events)} more events, {self.ended}")

    def finish(self):
        self.close()
        try:
            code = self.process.wait(patience(10))
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if code != 0:
            raise AssertionError(f"the client ended with {code}")

    def _take(self, chunk):
        *lines, self._line = (self._line + chunk).split(b"\n")
        for line in lines:
            verb, _, payload = line.partition(b" ")
            if verb == b"event":
                self.events.append(base64.b64decode(payload))
            else:
                self.over = True


class ForeignCase(RelayCase):
    def connect(self, relay, command):
        """A client program that the relay has accepted."""
        accepted = relay.status()["subscribers"]["accepted"]
        client = ForeignClient([*command, str(relay.port)])
        self.addCleanup(client.finish)
        relay.wait_status(
            lambda s: s["subscribers"]["accepted"] > accepted, "the client is there", timeout=30
        )
        return client


class ClientTests:
    """What every client is put through; `command` starts it."""

    command = ()

    def test_hears_any_payload(self):
        relay = self.start()
        client = self.connect(relay, self.command)
        relay.producer().relay(*PAYLOADS)
        client.expect(*PAYLOADS)

    def test_hears_a_burst(self):
        """Frames of all sizes in one stream: what is read ends anywhere inside a frame."""
        relay = self.start()
        client = self.connect(relay, self.command)
        events = self.burst(2000)
        relay.producer().relay(*events)
        client.expect(*events)

    def test_is_heard_with_any_payload(self):
        relay = self.start(lua=ECHO)
        client = self.connect(relay, self.command)
        for payload in PAYLOADS:
            client.say(payload)
            client.expect(payload)

    def test_is_heard_in_a_burst(self):
        relay = self.start(lua=ECHO)
        client = self.connect(relay, self.command)
        messages = self.burst(2000)
        client.say(*messages)
        client.expect(*messages)
        self.assertEqual(relay.status()["messages"]["received"], len(messages))

    def test_talks_with_everyone_else(self):
        relay = self.start(lua=CHAT)
        client = self.connect(relay, self.command)
        other = relay.subscriber()
        producer = relay.producer()
        client.say(b"one")
        client.expect(b"0:one")
        other.send(b"3:two,")
        client.expect(b"1:two")
        producer.relay(b"three")
        client.expect(b"three")
        other.expect(b"0:one", b"1:two", b"three")

    def test_is_closed_by_the_hook(self):
        """What is due comes whole, then the end of the stream."""
        relay = self.start(lua=ONE_ANSWER)
        client = self.connect(relay, self.command)
        client.expect(b"welcome")
        client.say(b"Ann", b"never heard")
        client.expect(b"bye, Ann")
        client.expect_over()
        relay.wait_status(lambda s: s["subscribers"]["closed"]["hook"] == 1, "closed, hook")

    def test_ends_its_side_and_gets_its_answers(self):
        relay = self.start(lua=ECHO)
        client = self.connect(relay, self.command)
        client.say(*PAYLOADS)
        client.end_its_side()
        client.expect(*PAYLOADS)
        client.expect_over()
        relay.wait_status(lambda s: s["subscribers"]["closed"]["eof"] == 1, "closed, eof")

    @staticmethod
    def burst(count):
        chance = random.Random(7)
        return [
            b"%d " % n + chance.randbytes(int(2 ** chance.uniform(0, 14))) for n in range(count)
        ]


@unittest.skipIf(TWISTED is None, "there is no Twisted (Debian's python3-twisted)")
class Twisted(ClientTests, ForeignCase):
    command = (TWISTED, os.path.join(FOREIGN, "twisted_client.py"))


def node_client(library):
    return ("node", "--no-deprecation", os.path.join(FOREIGN, "node_client.js"), library)


@unittest.skipIf(lacks_node_package("netstring"), lacks_node_package("netstring"))
class NpmNetstring(ClientTests, ForeignCase):
    command = node_client("netstring")


@unittest.skipIf(lacks_node_package("@endo/netstring"), lacks_node_package("@endo/netstring"))
class EndoNetstring(ClientTests, ForeignCase):
    command = node_client("endo")


class EndoNetstringChunked(EndoNetstring):
    """Size, payload and comma come as packets of their own: evapi hears next to nothing of it."""

    command = node_client("endo-chunked")


class Conversation(ForeignCase):
    def test_clients_of_all_kinds_hear_one_order(self):
        relay = self.start(lua=CHAT)
        cases = (Twisted, NpmNetstring, EndoNetstring, EndoNetstringChunked)
        commands = [c.command for c in cases if not getattr(c, "__unittest_skip__", False)]
        if len(commands) < 2:
            self.skipTest("fewer than two kinds of clients are there")
        clients = [self.connect(relay, command) for command in commands]
        said = [[b"%d: " % n + payload[:999] for n, payload in enumerate(PAYLOADS)]] * len(clients)
        for client, messages in zip(clients, said):
            client.say(*messages)
        total = sum(map(len, said))
        pump(clients, lambda: all(len(c.events) >= total or c.ended for c in clients), 30)
        for client in clients:
            self.assertEqual(client.events, clients[0].events)
        for number, messages in enumerate(said):
            prefix = b"%d:" % number
            heard = [event for event in clients[0].events if event.startswith(prefix)]
            self.assertEqual(heard, [prefix + message for message in messages])


if __name__ == "__main__":
    unittest.main()
