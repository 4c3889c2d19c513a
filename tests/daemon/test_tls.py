"""Listeners with TLS: handshakes, certificates, who is refused and why, and RELIABILITY bar 22.

Run with --handshakes HOST PORT RATE SECONDS this file is a crowd that comes, shakes hands and
leaves.
"""

import itertools
import json
import os
import random
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import unittest
import warnings

import scripts
import tls
import wire
from activation import HAS_SYSTEMD, Activation, tcp_listener
from relay import (
    IS_ROOT,
    KIB,
    MIB,
    TURN_INTAKE,
    RelayCase,
    StartFailed,
    Subscriber,
    evrelay,
    patience,
    pump,
    scaled,
    to_yaml,
)

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
FAILURES = ("timeout", "protocol", "version", "no-certificate", "unknown-ca", "expired",
            "bad-certificate", "closed")
DEADLINE = 5  # seconds for a handshake

# Says who came, and answers.
WHO = """
local function name(evapi)
  return tostring(evapi.peer_name)
end
event_route["evapi:connection-new"] = function(evapi)
  evapi.reply("new " .. name(evapi))
end
event_route["evapi:message-received"] = function(evapi)
  evapi.reply(evapi.msg .. " " .. name(evapi))
end
event_route["evapi:connection-closed"] = function(evapi)
  evapi.relay("closed " .. name(evapi) .. " " .. evapi.reason)
end
"""


PLAIN, SECOND, THIRD = "127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"


def listener(addr="127.0.0.1:0", certificate=None, **keys):
    """An entry of bind_addr with TLS."""
    own = certificate or tls.server()
    return {"addr": addr, "tls": {"cert": own.cert, "key": own.key, **keys}}


def mutual(**keys):
    """One that asks for certificates."""
    return listener(client_ca=tls.authority("ca").cert, **keys)


def old_context():
    """A client that knows nothing newer than TLS 1.1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made = tls.context()
        made.set_ciphers("ALL:@SECLEVEL=0")
        made.minimum_version = ssl.TLSVersion.TLSv1
        made.maximum_version = ssl.TLSVersion.TLSv1_1
    return made


def first_flight():
    """What a client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        tls.context().wrap_bio(incoming, outgoing, server_hostname=tls.NAME).do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("it did not wait for an answer")


class TlsCase(RelayCase):
    def start_tls(self, *entries, **config):
        return self.start(bind_addr=list(entries) or [listener()], **config)

    def let_in(self, relay, certificate=None, address=None, version=None):
        return relay.subscriber(address, over=tls.context(certificate, version=version))

    def assert_failed(self, relay, before, **kinds):
        """Of the handshakes since `before` so many have failed, each for its reason."""
        wanted = dict(before["tls"]["failed"])
        for kind, count in kinds.items():
            wanted[kind.replace("_", "-")] += count
        status = relay.wait_status(
            lambda s: sum(s["tls"]["failed"].values()) >= sum(wanted.values()), "it is counted"
        )
        self.assertEqual(status["tls"]["failed"], wanted)
        return status

    def assert_refused(self, relay, kind, over, alert=None):
        """A client with this context does not get in; it is counted and logged by this name."""
        before, start = relay.status(), len(relay.log)
        peer = relay.subscriber(over=over, wait=False)
        peer.expect_end(None)
        status = self.assert_failed(relay, before, **{kind.replace("-", "_"): 1})
        self.assertEqual(status["tls"]["accepted"], before["tls"]["accepted"])
        self.assertEqual(status["subscribers"]["accepted"], before["subscribers"]["accepted"])
        host = rf"127\.0\.0\.1:{peer.sock.getsockname()[1]}"
        relay.wait_log(rf" (info|warn) \w+: .*{host}\b.*\b{kind}\b", start=start)
        if alert is not None:
            self.assertEqual(peer.ended, "alert", "it was not told why")
            self.assertIn(alert, peer.alert.reason)


class Handshake(TlsCase):
    def test_events_and_messages_in_both_versions(self):
        relay = self.start_tls(lua=scripts.ECHO)
        for version, name in ((V12, "TLSv1.2"), (V13, "TLSv1.3")):
            with self.subTest(name):
                subscriber = self.let_in(relay, version=version)
                self.assertEqual(subscriber.tls.version, name)
                relay.producer().relay(b"hello")
                subscriber.expect(b"hello")
                subscriber.send(wire.data(b"ping"))
                subscriber.expect(b"ping")
        status = relay.status()
        self.assertEqual(set(status["tls"]["failed"]), set(FAILURES))
        self.assertEqual(status["tls"]["handshaking"], 0)
        self.assertEqual(status["tls"]["accepted"], 2)
        self.assertEqual(status["subscribers"]["accepted"], 2)
        self.assertEqual(sum(status["tls"]["failed"].values()), 0)

    def test_the_newest_version_is_taken(self):
        relay = self.start_tls()
        self.assertEqual(self.let_in(relay).tls.version, "TLSv1.3")

    def test_min_1_3_refuses_1_2(self):
        relay = self.start_tls(listener(min="1.3"))
        self.assert_refused(relay, "version", tls.context(version=V12), "PROTOCOL_VERSION")
        self.assertEqual(self.let_in(relay, version=V13).tls.version, "TLSv1.3")

    def test_nothing_is_said_before_the_first_event(self):
        """No tickets either: what nobody asked for would wait in the socket of a slow client."""
        relay = self.start_tls()
        for version in (V12, V13):
            subscriber = self.let_in(relay, version=version)
            relay.turn()
            self.assertRaises(BlockingIOError, subscriber.sock.recv, 1)

    def test_any_size_both_ways(self):
        relay = self.start_tls(lua=scripts.ECHO, max_message=MIB)
        subscriber = self.let_in(relay)
        events = [os.urandom(n) for n in (1, 16383, 16384, 16385, 65536, 300_000, MIB)]
        relay.producer().relay(*events)
        subscriber.expect(*events)
        subscriber.send(b"".join(map(wire.data, events)))
        subscriber.expect(*events)

    def test_a_hello_byte_by_byte(self):
        relay = self.start_tls()
        sock = socket.create_connection(relay.address, patience(10))
        self.addCleanup(sock.close)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = tls.context().wrap_bio(incoming, outgoing, server_hostname=tls.NAME)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    sock.send(bytes([byte]))
                    relay.status()
                incoming.write(sock.recv(64 * KIB))
        sock.sendall(outgoing.read())
        relay.wait_status(lambda s: s["tls"]["accepted"] == 1, "accepted")

    def test_messages_together_with_the_last_flight(self):
        """The socket never becomes readable for them: they have been read with the handshake."""
        relay = self.start_tls(lua=scripts.ECHO)
        # The second fills more than one record; the third takes leave as well.
        for count, leaves in ((1, False), (2000, False), (1, True)):
            with self.subTest(count=count, leaves=leaves):
                messages = [b"message %d" % n for n in range(count)]
                self.assertEqual(self.say_at_once(relay, messages, leaves), messages)

    def say_at_once(self, relay, messages, leaves):
        """Sends them in one write with the end of the handshake; returns the answers."""
        with socket.create_connection(relay.address, patience(10)) as sock:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = tls.context(version=V13).wrap_bio(
                incoming, outgoing, server_hostname=tls.NAME
            )
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    sock.sendall(outgoing.read())
                    incoming.write(sock.recv(64 * KIB))
            client.write(b"".join(map(wire.data, messages)))
            if leaves:
                self.assertRaises(ssl.SSLWantReadError, client.unwrap)
            sock.sendall(outgoing.read())
            answers, decoder = [], wire.Decoder()
            while len(answers) < len(messages):
                try:
                    answers += [payload for _, payload in decoder.feed(client.read(64 * KIB))]
                except ssl.SSLWantReadError:
                    chunk = sock.recv(64 * KIB)
                    self.assertTrue(chunk, f"the end after {len(answers)} answers")
                    incoming.write(chunk)
            return answers

    def test_more_messages_than_a_worker_takes_at_once(self):
        """Reading pauses with bytes that OpenSSL has and the socket has not; they come later."""
        relay = self.start_tls(lua=scripts.ECHO, max_message=MIB)
        subscriber = self.let_in(relay)
        # Both bounds: of the count and of the bytes.
        for messages, most in (([b"%d" % n for n in range(5000)], 1024), ([b"x" * 100_000] * 8, 2)):
            with relay.worker_held(0):
                subscriber.outgoing += b"".join(map(wire.data, messages))
                subscriber.pump(lambda n=most: relay.status()["messages"]["unhandled"] > n)
            subscriber.flush()
            subscriber.expect(*messages)

    def test_a_script_hears_of_it_after_the_handshake_only(self):
        relay = self.start_tls(lua=scripts.OBSERVE)
        observer = self.let_in(relay)
        observer.expect(b"new 0")
        silent = relay.subscriber(over=None, wait=False)
        relay.wait_status(lambda s: s["tls"]["handshaking"] == 1, "it is there")
        producer = relay.producer()
        self.assertEqual(producer.request("relay", "x"), [b"ok", b"1"])
        before = relay.status()
        self.assertEqual(before["subscribers"]["live"], 1)
        silent.close()
        status = self.assert_failed(relay, before, closed=1)
        self.assertEqual(status["tls"]["handshaking"], 0)
        producer.relay(b"y")
        observer.expect(b"x", b"y")

    def test_who_leaves_in_the_handshake_is_counted(self):
        relay = self.start_tls()
        hello = first_flight()
        for said in (b"", hello[:5], hello[:100], hello):
            for leave in ("close", "half_close", "kill"):
                with self.subTest(said=len(said), leave=leave):
                    before = relay.status()
                    peer = relay.subscriber(over=None, raw=True, wait=False)
                    peer.send(said)
                    if said == hello:
                        peer.pump(lambda: peer.stream)
                    else:
                        relay.wait_status(lambda s: s["tls"]["handshaking"] == 1, "it is there")
                    getattr(peer, leave)()
                    status = self.assert_failed(relay, before, closed=1)
                    self.assertEqual(status["tls"]["handshaking"], 0)
                    peer.close()

    def test_handshakes_end_when_it_stops(self):
        """At once, not with the drain; and nobody comes in any more."""
        relay = self.start_tls(drain="60s", send_buffer="4KiB")
        stalled = relay.subscriber(over=tls.context(), receive_buffer=4 * KIB)
        stalled.paused = True
        producer = relay.producer()
        producer.relay(*[b"x" * 60_000] * 20)
        producer.ping()
        producer.close()
        silent = relay.subscriber(over=None, wait=False)
        relay.wait_status(lambda s: s["tls"]["handshaking"] == 1, "it is there")
        relay.signal(signal.SIGTERM)
        relay.wait_status(lambda s: s["state"] != "running", "it drains")
        self.assertEqual(relay.status()["tls"]["handshaking"], 0)
        silent.expect_end(None)
        stalled.paused = False
        stalled.expect_end("eof")
        self.assertEqual(len(stalled.events), 20)
        stalled.close()
        self.assertEqual(relay.wait(), 0)


class Ends(TlsCase):
    def start_observed(self):
        relay = self.start_tls(PLAIN, listener(SECOND), lua=scripts.OBSERVE)
        observer = relay.subscriber(over=None)
        observer.expect(b"new 0")
        return relay, observer

    def test_close_notify_is_an_end(self):
        """What was due still comes, then close_notify and the end."""
        relay, observer = self.start_observed()
        subscriber = self.let_in(relay, address=relay.addresses[1])
        observer.expect(b"new 1")
        subscriber.send(wire.data(b"last words"))
        subscriber.half_close()
        observer.expect(b"message 1 last words", b"closed 1 eof")
        subscriber.expect_end("eof")
        self.assertEqual(subscriber.events, [b"new 1", b"message 1 last words", b"closed 1 eof"])

    def test_close_notify_of_one_that_leaves_at_once(self):
        relay, observer = self.start_observed()
        subscriber = self.let_in(relay, address=relay.addresses[1])
        subscriber.expect(b"new 1")
        subscriber.close()
        observer.expect(b"new 1", b"closed 1 eof")

    def test_an_end_without_close_notify(self):
        """As by most clients. Frames say where messages end, so nobody can cut one short."""
        relay, observer = self.start_observed()
        subscriber = self.let_in(relay, address=relay.addresses[1])
        observer.expect(b"new 1")
        subscriber.send(wire.data(b"last words"))
        subscriber.flush()
        subscriber.sock.shutdown(socket.SHUT_WR)
        observer.expect(b"message 1 last words", b"closed 1 eof")
        subscriber.expect_end("eof")
        truncated = self.let_in(relay, address=relay.addresses[1])
        truncated.send(b"10:half")
        truncated.flush()
        truncated.sock.shutdown(socket.SHUT_WR)
        observer.expect(b"new 1", b"closed 1 truncated")

    def test_a_reset(self):
        relay, observer = self.start_observed()
        subscriber = self.let_in(relay, address=relay.addresses[1])
        observer.expect(b"new 1")
        subscriber.kill()
        observer.expect(b"closed 1 reset")

    def test_a_forged_record(self):
        relay, observer = self.start_observed()
        for version in (V12, V13):
            subscriber = self.let_in(relay, address=relay.addresses[1], version=version)
            subscriber.sock.send(b"\x17\x03\x03\x00\x20" + b"x" * 32)
            observer.skip_to(b"closed 1 reset")
            subscriber.expect_end("alert")
            self.assertIn("BAD_RECORD_MAC", subscriber.alert.reason)

    def test_a_close_by_the_hook(self):
        relay = self.start_tls(lua="""
            event_route["evapi:message-received"] = function(evapi)
              evapi.reply(("x"):rep(100000))
              evapi.close()
              evapi.relay("not for who is gone")
            end
            """)
        subscriber = self.let_in(relay)
        subscriber.send(wire.data(b"close"))
        subscriber.expect(b"x" * 100_000)
        subscriber.expect_end("eof")
        self.assertEqual(subscriber.events, [])
        subscriber.half_close()
        relay.wait_status(lambda s: s["subscribers"]["closed"]["hook"] == 1, "closed")

    def test_a_close_by_the_hook_of_one_that_goes_on_talking(self):
        relay = self.start_tls(lua="""
            event_route["evapi:message-received"] = function(evapi)
              evapi.reply(("x"):rep(100000))
              evapi.close()
            end
            """)
        subscriber = relay.subscriber(over=tls.context(), receive_buffer=4 * KIB)
        subscriber.paused = True
        subscriber.send(wire.data(b"close"))
        relay.wait_status(lambda s: s["subscribers"]["closing"] == 1, "it is closing")
        subscriber.send(wire.data(b"what?") * 100)
        subscriber.paused = False
        subscriber.expect(b"x" * 100_000)
        subscriber.expect_end("eof")

    def test_a_refusal_by_the_hook(self):
        relay = self.start_tls(lua="""
            event_route["evapi:connection-new"] = function(evapi)
              evapi.close()
            end
            """)
        self.let_in(relay).expect_end("eof")

    def test_a_protocol_error_ends_in_good_order(self):
        relay = self.start_tls()
        subscriber = self.let_in(relay)
        relay.producer().request("relay", "due")
        subscriber.send(b"oops")
        subscriber.expect(b"due")
        subscriber.expect_end("eof")
        relay.wait_status(lambda s: s["subscribers"]["closed"]["bad-size"] == 1, "bad-size")


class Certificates(TlsCase):
    """Mutual TLS: who they say they are, and who is refused."""

    def test_peer_name(self):
        relay = self.start_tls(PLAIN, mutual(addr=SECOND), lua=WHO)
        observer = relay.subscriber(over=None)
        observer.expect(b"new nil")
        for version, name in ((V12, "desk-1"), (V13, "desk-2")):
            subscriber = self.let_in(relay, tls.client(name), relay.addresses[1], version)
            subscriber.expect(b"new " + name.encode())
            subscriber.send(wire.data(b"hello"))
            subscriber.expect(b"hello " + name.encode())
            done = evrelay("clients", "--socket", relay.control_path, "--json")
            names = [json.loads(line)["peer_name"] for line in done.stdout.splitlines()]
            self.assertEqual(names, ["", name])
            subscriber.half_close()
            observer.expect(b"closed " + name.encode() + b" eof")
        observer.send(wire.data(b"me"))
        observer.expect(b"me nil")

    def test_peer_name_by_its_kemi_name(self):
        relay = self.start_tls(mutual(), event_callback="on_event", lua="""
            function on_event(event)
              KSR.evapi.relay(event .. " " .. KSR.pv.gete("$evapi(peer_name)"))
            end
            """)
        self.let_in(relay, tls.client()).expect(b"evapi:connection-new desk-1")

    def test_peer_name_is_nil_where_no_certificate_is_asked_for(self):
        relay = self.start_tls(lua=WHO)
        self.let_in(relay).expect(b"new nil")
        self.let_in(relay, tls.client()).expect(b"new nil")

    def test_peer_name_belongs_to_one_connection(self):
        """A reused conidx does not inherit it."""
        relay = self.start_tls(PLAIN, mutual(addr=SECOND), lua=WHO)
        for _ in range(3):
            known = self.let_in(relay, tls.client(), relay.addresses[1])
            known.expect(b"new desk-1")
            known.close()
            relay.wait_status(lambda s: s["subscribers"]["live"] == 0, "it has left")
            stranger = relay.subscriber(over=None)
            stranger.expect(b"new nil")
            stranger.close()
            relay.wait_status(lambda s: s["subscribers"]["live"] == 0, "it has left")

    def test_bar_22_refused_by_name(self):
        """RELIABILITY bar 22: no certificate, wrong CA, expired, TLS 1.1: by name, counted."""
        self_signed = tls.authority("self-signed")
        for version in (V12, V13):
            relay = self.start_tls(mutual())  # one for few: the log lets through 10 a second
            for certificate, kind, alert in (
                (None, "no-certificate", "CERTIFICATE_REQUIRED" if version == V13 else ""),
                (tls.stranger(), "unknown-ca", "UNKNOWN_CA"),
                (self_signed, "unknown-ca", "UNKNOWN_CA"),
                (tls.expired(), "expired", "CERTIFICATE_EXPIRED"),
                (tls.not_yet_valid(), "expired", "BAD_CERTIFICATE"),
                (tls.server(), "bad-certificate", "UNSUPPORTED_CERTIFICATE"),
            ):
                with self.subTest(version=version, kind=kind, certificate=certificate):
                    over = tls.context(certificate, version=version)
                    self.assert_refused(relay, kind, over, alert)
        self.assert_refused(relay, "version", old_context(), "PROTOCOL_VERSION")
        # Who has what is asked for comes in all the same.
        self.let_in(relay, tls.client())
        self.assertEqual(relay.status()["tls"]["accepted"], 1)

    def test_a_client_that_does_not_trust_the_server(self):
        relay = self.start_tls()
        self.assert_refused(relay, "closed", tls.context(ca=tls.authority("other-ca").cert))

    def test_refusals_do_not_flood_the_log(self):
        relay = self.start_tls(mutual())
        start, before = len(relay.log_lines), relay.status()
        over, count = tls.plain_context(), 60
        began = time.monotonic()
        for _ in range(count):
            peer = relay.subscriber(over=over, wait=False)
            peer.expect_end(None)
            peer.close()
        self.assert_failed(relay, before, no_certificate=count)
        seconds = time.monotonic() - began
        self.assertLessEqual(len(relay.log_lines) - start, 11 * (seconds + 1))


class Strangers(TlsCase):
    """Those who do not speak TLS, or speak it where nobody does."""

    def test_a_plain_client_at_a_listener_with_tls(self):
        relay = self.start_tls()
        noise = random.Random(22).randbytes(100_000)
        for said in (b"5:hello,", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, noise):
            with self.subTest(said[:10]):
                before, start = relay.status(), len(relay.log)
                peer = relay.subscriber(over=None, raw=True, wait=False)
                peer.send(said)
                peer.expect_end(None)
                status = self.assert_failed(relay, before, protocol=1)
                self.assertEqual(status["subscribers"]["accepted"], 0)
                port = peer.sock.getsockname()[1]
                relay.wait_log(rf" (info|warn) \w+: .*:{port}\b.*\bprotocol\b", start=start)
        self.let_in(relay)

    def test_a_client_with_tls_at_a_plain_listener(self):
        relay = self.start_tls(PLAIN, listener(SECOND))
        other = relay.subscriber(over=None)
        peer = relay.subscriber(relay.addresses[0], over=tls.context(), wait=False)
        peer.expect_end(None)
        status = relay.wait_status(lambda s: s["subscribers"]["closed"]["bad-size"] == 1, "closed")
        self.assertEqual(sum(status["tls"]["failed"].values()), 0)
        relay.producer().relay(b"hello")
        other.expect(b"hello")


class Listeners(TlsCase):
    def test_with_tls_and_without_side_by_side(self):
        """Everybody sees the same events in the same order."""
        relay = self.start_tls(PLAIN, listener(SECOND), mutual(addr=THIRD), lua=scripts.ECHO)
        plain = relay.subscriber(over=None)
        subscribers = [
            plain,
            self.let_in(relay, None, relay.addresses[1], V12),
            self.let_in(relay, None, relay.addresses[1], V13),
            self.let_in(relay, tls.client(), relay.addresses[2]),
        ]
        producers = [relay.producer() for _ in range(3)]
        for name, producer in enumerate(producers):
            producer.outgoing += b"".join(wire.data(b"%d %d" % (name, n)) for n in range(2000))
        pump([*producers, *subscribers], lambda: all(len(s.events) == 6000 for s in subscribers))
        for subscriber in subscribers:
            self.assertEqual(subscriber.events, plain.events)
        status = relay.status()
        self.assertEqual(status["tls"]["accepted"], 3)
        self.assertEqual(status["subscribers"]["accepted"], 4)

    def test_an_ipv6_listener_and_a_unix_socket(self):
        path = os.path.join(self.directory(), "s")
        relay = self.start_tls(listener("[::1]:0"), listener("unix:" + path))
        subscribers = [self.let_in(relay, address=address) for address in relay.addresses]
        relay.producer().relay(b"hello")
        for subscriber in subscribers:
            subscriber.expect(b"hello")

    def test_who_may_not_come_is_not_shaken_hands_with(self):
        relay = self.start_tls({**listener("0.0.0.0:0"), "allow": ["127.0.0.1/32"]})
        address = ("127.0.0.1", relay.port)
        self.let_in(relay, address=address)
        before = relay.status()
        peer = relay.subscriber(address, over=tls.context(), wait=False, source="127.0.0.2")
        peer.expect_end(None)
        status = relay.wait_status(lambda s: s["subscribers"]["refused"]["not-allowed"] == 1, "no")
        self.assertEqual(status["tls"], before["tls"])

    def test_one_that_shakes_hands_takes_a_place(self):
        """max_clients bounds the handshakes as well."""
        relay = self.start_tls(max_clients=2)
        inside = self.let_in(relay)
        silent = relay.subscriber(over=None, wait=False)
        relay.wait_status(lambda s: s["tls"]["handshaking"] == 1, "it is there")
        relay.subscriber(over=tls.context(), wait=False).expect_end(None)
        self.assertEqual(relay.status()["subscribers"]["refused"]["full"], 1)
        silent.close()
        relay.wait_status(lambda s: s["tls"]["handshaking"] == 0, "the place is free")
        self.let_in(relay)
        relay.producer().relay(b"hello")
        inside.expect(b"hello")


class Files(TlsCase):
    """The files of certificates: at start, with --check, at a reload."""

    def setUp(self):
        self.home = self.directory()
        self.cert = os.path.join(self.home, "cert.pem")
        self.key = os.path.join(self.home, "key.pem")
        self.ca = os.path.join(self.home, "ca.pem")
        self.install(tls.server())
        shutil.copy(tls.authority("ca").cert, self.ca)

    def install(self, certificate, key=None):
        shutil.copy(certificate.cert, self.cert)
        shutil.copy((key or certificate).key, self.key)

    def entry(self, **changes):
        keys = {"cert": self.cert, "key": self.key, "client_ca": self.ca, **changes}
        return {"addr": "127.0.0.1:0", "tls": {k: v for k, v in keys.items() if v is not None}}

    def start_here(self, **changes):
        return self.start_tls(self.entry(**changes))

    def bad_files(self):
        """What is wrong, the keys of the file, the file that is to be named, and a word."""
        empty, garbage = os.path.join(self.home, "empty.pem"), os.path.join(self.home, "bad.pem")
        locked = os.path.join(self.home, "locked.pem")
        missing = os.path.join(self.home, "missing.pem")
        with open(empty, "w", encoding="ascii"):
            pass
        with open(garbage, "w", encoding="ascii") as file:
            file.write("-----BEGIN CERTIFICATE-----\nnot base 64!\n-----END CERTIFICATE-----\n")
        subprocess.run(
            ["openssl", "pkey", "-in", tls.server().key, "-aes256", "-passout", "pass:secret",
             "-out", locked],
            check=True, capture_output=True, timeout=patience(30),
        )
        return [
            ("no certificate file", {"cert": missing}, missing, "No such file"),
            ("no key file", {"key": missing}, missing, "No such file"),
            ("no CA file", {"client_ca": missing}, missing, "No such file"),
            ("an empty certificate", {"cert": empty}, empty, "certificate"),
            ("an empty key", {"key": empty}, empty, "key"),
            ("an empty CA file", {"client_ca": empty}, empty, "certificate"),
            ("garbage for a certificate", {"cert": garbage}, garbage, "certificate"),
            ("garbage for a key", {"key": garbage}, garbage, "key"),
            ("garbage for a CA", {"client_ca": garbage}, garbage, "certificate"),
            ("a folder", {"cert": self.home}, self.home, "not a file"),
            ("the key for the certificate", {"cert": self.key}, self.key, "certificate"),
            ("the certificate for the key", {"key": self.cert}, self.cert, "key"),
            ("somebody else's key", {"key": tls.client().key}, tls.client().key, "not the key"),
            ("a key with a passphrase", {"key": locked}, locked, "passphrase"),
        ]

    def test_bad_files_at_the_start_and_with_check(self):
        file = os.path.join(self.home, "evrelay.yaml")
        for what, changes, named, word in self.bad_files():
            with self.subTest(what):
                with self.assertRaises(StartFailed) as failed:
                    self.start_here(**changes)
                self.assertEqual(failed.exception.code, 2)
                self.assert_named(failed.exception.log, named, word)
                with open(file, "w", encoding="utf-8") as config:
                    config.write(to_yaml({"bind_addr": [self.entry(**changes)]}))
                done = evrelay("serve", "-c", file, "--check")
                self.assertEqual(done.returncode, 2)
                self.assert_named(done.stderr, named, word)

    def assert_named(self, text, named, word):
        lines = [line for line in text.splitlines() if named in line]
        self.assertTrue(lines, text)
        self.assertRegex(lines[0], rf"(?i){word}")

    def test_check_says_ok(self):
        file = os.path.join(self.home, "evrelay.yaml")
        with open(file, "w", encoding="utf-8") as config:
            config.write(to_yaml({"bind_addr": [self.entry()]}))
        done = evrelay("serve", "-c", file, "--check")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("ok", done.stdout)

    @unittest.skipIf(IS_ROOT, "root may read everything")
    def test_a_key_that_may_not_be_read(self):
        os.chmod(self.key, 0)
        with self.assertRaises(StartFailed) as failed:
            self.start_here()
        self.assert_named(failed.exception.log, self.key, "Permission denied")

    def test_a_reload_takes_new_certificates_for_new_connections(self):
        relay = self.start_here(client_ca=None)
        old = self.let_in(relay)
        self.assertEqual(old.tls.server_serial, tls.server().serial)
        newer = tls.server("newer")
        self.install(newer)
        # Only a reload reads them.
        self.assertEqual(self.let_in(relay).tls.server_serial, tls.server().serial)
        self.assertNotIn("restart", relay.reload())
        new = self.let_in(relay)
        self.assertEqual(new.tls.server_serial, newer.serial)
        relay.producer().relay(b"x" * 100_000)
        old.expect(b"x" * 100_000)
        new.expect(b"x" * 100_000)

    def test_a_reload_takes_a_new_client_ca(self):
        relay = self.start_here()
        inside = self.let_in(relay, tls.client())
        shutil.copy(tls.authority("other-ca").cert, self.ca)
        relay.reload()
        self.assert_refused(relay, "unknown-ca", tls.context(tls.client()))
        self.let_in(relay, tls.stranger())
        relay.producer().relay(b"hello")
        inside.expect(b"hello")

    def test_a_handshake_that_is_under_way_keeps_its_certificate(self):
        relay = self.start_here(client_ca=None)
        slow = Subscriber(relay.address, over=tls.context())  # `relay` does not move its bytes
        self.addCleanup(slow.close)
        relay.wait_status(lambda s: s["tls"]["handshaking"] == 1, "it is there")
        self.install(tls.server("newer"))
        relay.reload()
        slow.pump(lambda: not slow.shaking)
        self.assertIsNone(slow.ended)
        relay.wait_status(lambda s: s["tls"]["accepted"] == 1, "accepted")

    def test_a_bad_file_at_a_reload_changes_nothing_and_is_named(self):
        relay = self.start_here(client_ca=None)
        old = self.let_in(relay)
        good = tls.server().serial
        for what, damage, named in (
            ("no certificate", lambda: os.remove(self.cert), self.cert),
            ("no key", lambda: os.remove(self.key), self.key),
            ("half a certificate", lambda: os.truncate(self.cert, 200), self.cert),
            ("an empty key", lambda: os.truncate(self.key, 0), self.key),
            ("the key of another", lambda: self.install(tls.server("newer"), tls.server()),
             self.key),
        ):
            with self.subTest(what):
                damage()
                start = len(relay.log)
                text = relay.reload(
                    rf" error \w+: .*{named}", bad_frame="discard", max_clients=1
                )
                self.assertNotIn("reload: done", text)
                relay.turn()
                self.assertNotIn("reload: done", relay.log[start:])
                new = self.let_in(relay)  # max_clients is as it was
                self.assertEqual(new.tls.server_serial, good)
                new.send(b"oops")
                new.expect_end("eof")  # and so is bad_frame
                relay.write_config(bad_frame=None, max_clients=None)
                self.install(tls.server())
        relay.reload()
        relay.producer().relay(b"hello")
        old.expect(b"hello")

    def test_what_holds_for_a_listener_can_be_changed_by_a_reload(self):
        relay = self.start_here(client_ca=None)
        old = self.let_in(relay, version=V12)
        self.assertNotIn("restart", relay.reload(bind_addr=[self.entry(client_ca=None, min="1.3")]))
        self.assert_refused(relay, "version", tls.context(version=V12))
        relay.reload(bind_addr=[self.entry()])
        self.assert_refused(relay, "no-certificate", tls.context())
        # With or without TLS is another listener.
        self.assertRegex(relay.reload(bind_addr=[PLAIN]), r"(?m)\bbind_addr\b.*restart")
        new = self.let_in(relay, tls.client())
        relay.producer().relay(b"hello")
        old.expect(b"hello")
        new.expect(b"hello")

    def test_allow_can_be_changed_by_a_reload(self):
        relay = self.start_here(client_ca=None)
        inside = self.let_in(relay)
        relay.reload(bind_addr=[{**self.entry(client_ca=None), "allow": ["127.0.0.2/32"]}])
        refused = relay.subscriber(over=tls.context(), wait=False)
        refused.expect_end(None)
        self.assertEqual(relay.status()["subscribers"]["refused"]["not-allowed"], 1)
        welcome = relay.subscriber(over=tls.context(), source="127.0.0.2")
        relay.producer().relay(b"hello")
        inside.expect(b"hello")
        welcome.expect(b"hello")

    def test_another_address_needs_a_restart_and_until_then_nothing_changes(self):
        relay = self.start_here(client_ca=None)
        self.install(tls.server("newer"))
        entry = {**self.entry(client_ca=None), "addr": SECOND}
        text = relay.reload(bind_addr=[entry])
        self.assertRegex(text, r"(?m)^\S+Z warn daemon: .*\bbind_addr\b.*restart")
        self.assertEqual(self.let_in(relay).tls.server_serial, tls.server().serial)
        # But a restart that could not succeed is told now.
        os.remove(self.key)
        relay.reload(rf" error daemon: .*{self.key}", bind_addr=[entry])

    def test_a_certificate_that_nobody_will_accept_is_warned_of(self):
        self.install(tls.expired_server())
        relay = self.start_here(client_ca=None)
        relay.wait_log(rf" warn \w+: .*{self.cert}.*expired")
        self.assert_refused(relay, "closed", tls.context())


@unittest.skipUnless(HAS_SYSTEMD, "built without libsystemd")
class SocketActivation(TlsCase):
    """Sockets that systemd holds get what bind_addr says of their address."""

    def test_tls_goes_by_the_address(self):
        plain, secure = tcp_listener(), tcp_listener()
        ports = [sock.getsockname()[1] for sock in (plain, secure)]
        relay = self.start(
            start=Activation(self, [("subscriber", plain), ("subscriber", secure)]).start,
            # In another order than that of the sockets.
            bind_addr=[mutual(addr=f"127.0.0.1:{ports[1]}"), f"127.0.0.1:{ports[0]}"],
            lua=WHO,
        )
        self.assertEqual(relay.addresses, [sock.getsockname() for sock in (plain, secure)])
        relay.subscriber(relay.addresses[0], over=None).expect(b"new nil")
        self.let_in(relay, tls.client(), relay.addresses[1]).expect(b"new desk-1")

    def test_certificates_are_reloaded_there_too(self):
        home = self.directory()
        cert, key = os.path.join(home, "cert.pem"), os.path.join(home, "key.pem")
        sock = tcp_listener()
        for own in (tls.server(), tls.server("newer")):
            shutil.copy(own.cert, cert)
            shutil.copy(own.key, key)
            if own is tls.server():
                relay = self.start(
                    start=Activation(self, [("subscriber", sock)]).start,
                    bind_addr=[listener("127.0.0.1:%d" % sock.getsockname()[1],
                                        tls.Certificate(cert, key, None))],
                )
            else:
                relay.reload()
            self.assertEqual(self.let_in(relay).tls.server_serial, own.serial)

    def test_a_socket_that_bind_addr_does_not_mention(self):
        """It must not be open to everyone by a slip of the pen."""
        for restricted in (
            listener("127.0.0.1:1"), {"addr": "127.0.0.1:1", "allow": ["127.0.0.1/32"]}
        ):
            with self.subTest(restricted):
                sock = tcp_listener()
                with self.assertRaises(StartFailed) as failed:
                    self.start(
                        start=Activation(self, [("subscriber", sock)]).start,
                        bind_addr=["127.0.0.1:2", restricted],
                    )
                self.assertIn(failed.exception.code, (1, 2))
                self.assertIn("127.0.0.1:%d" % sock.getsockname()[1], failed.exception.log)
                self.assertIn("bind_addr", failed.exception.log)


class SubCommand(TlsCase):
    """evrelay sub --tls."""

    def sub(self, relay, *args, host="localhost", count=1):
        return evrelay("sub", f"{host}:{relay.port}", "--count", str(count), *args)

    def test_it_gets_events_and_says_something(self):
        relay = self.start_tls(lua=WHO)
        ca = tls.authority("ca").cert
        for host in ("localhost", "127.0.0.1"):
            done = self.sub(relay, "--tls", "--ca", ca, "--send", "hi", host=host, count=2)
            self.assertEqual((done.returncode, done.stdout), (0, "new nil\nhi nil\n"), done.stderr)

    def test_it_shows_its_certificate(self):
        relay = self.start_tls(mutual(), lua=WHO)
        own = tls.client()
        done = self.sub(relay, "--tls", "--ca", own.ca, "--cert", own.cert, "--key", own.key)
        self.assertEqual((done.returncode, done.stdout), (0, "new desk-1\n"), done.stderr)

    def test_much_at_once(self):
        relay = self.start_tls(
            hook={"timeout": "5s"},
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              for n = 1, 200 do evapi.reply(n .. (" "):rep(10000)) end
            end
            """,
        )
        ca = tls.authority("ca").cert
        done = self.sub(relay, "--tls", "--ca", ca, "--send", "go", count=200)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([int(line) for line in done.stdout.splitlines()], [*range(1, 201)])

    def test_the_end_is_told(self):
        relay = self.start_tls(lua="""
            event_route["evapi:connection-new"] = function(evapi)
              evapi.reply("bye")
              evapi.close()
            end
            """)
        done = self.sub(relay, "--tls", "--ca", tls.authority("ca").cert, count=2)
        plain = self.start(bind_addr="127.0.0.1:0", lua=relay_script(relay))
        wanted = self.sub(plain, count=2, host="127.0.0.1")
        self.assertEqual(done.stdout, wanted.stdout)
        self.assertEqual(done.returncode, wanted.returncode)

    def test_a_server_that_it_does_not_trust(self):
        relay = self.start_tls()
        for args in (["--ca", tls.authority("other-ca").cert], []):  # [] is the system's own
            done = self.sub(relay, "--tls", *args)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertRegex(done.stderr, r"^evrelay sub: .*certificate")
            self.assertEqual(done.stdout, "")

    def test_a_server_of_another_name(self):
        relay = self.start_tls(listener(certificate=tls.elsewhere()))
        for host in ("localhost", "127.0.0.1"):
            done = self.sub(relay, "--tls", "--ca", tls.authority("ca").cert, host=host)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(host, done.stderr)

    def test_an_expired_server(self):
        relay = self.start_tls(listener(certificate=tls.expired_server()))
        done = self.sub(relay, "--tls", "--ca", tls.authority("ca").cert)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("expired", done.stderr)

    def test_where_a_certificate_is_asked_for(self):
        relay = self.start_tls(mutual())
        ca = tls.authority("ca").cert
        for own, word in ((None, "certificate"), (tls.stranger(), "unknown ca"),
                          (tls.expired(), "expired")):
            args = ["--cert", own.cert, "--key", own.key] if own else []
            done = self.sub(relay, "--tls", "--ca", ca, *args)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertRegex(done.stderr, rf"(?i)^evrelay sub: .*{word}")
            self.assertEqual(done.stdout, "")

    def test_where_nobody_speaks_tls(self):
        relay = self.start()
        done = self.sub(relay, "--tls", "--ca", tls.authority("ca").cert)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, r"^evrelay sub: .*TLS")

    def test_without_tls_where_it_is_spoken(self):
        relay = self.start_tls()
        done = self.sub(relay, "--send", "hello")
        self.assertEqual(done.returncode, 1, done.stderr)

    def test_its_own_files(self):
        relay = self.start_tls(mutual())
        own, missing = tls.client(), os.path.join(relay.directory, "missing.pem")
        for what, args, word in (
            ("no CA", ["--ca", missing], missing),
            ("no certificate", ["--ca", own.ca, "--cert", missing, "--key", own.key], missing),
            ("no key", ["--ca", own.ca, "--cert", own.cert, "--key", missing], missing),
            ("a wrong key", ["--ca", own.ca, "--cert", own.cert, "--key", tls.server().key],
             tls.server().key),
            ("only half a pair", ["--ca", own.ca, "--cert", own.cert], "--key"),
        ):
            with self.subTest(what):
                done = self.sub(relay, "--tls", *args)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(word, done.stderr)
        done = self.sub(relay, "--ca", own.ca)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("--tls", done.stderr)


def relay_script(relay):
    with open(relay.script, encoding="utf-8") as file:
        return file.read()


class Abuse(TlsCase):
    """RELIABILITY bar 22."""

    def test_bar_22_silent_peers(self):
        """RELIABILITY bar 22: 500 silent peers, all closed at the handshake deadline (5 s)."""
        relay = self.start_tls(PLAIN, listener(SECOND), max_clients=2000)
        plain = relay.subscribers(5, over=None)
        producer = relay.producer()
        producer.ping()
        files, hello = relay.open_files(), first_flight()
        silent = {}  # the peer, and when it came
        # Some say nothing, some stop in the middle, and some trickle: every byte would put off an
        # idle timer.
        kinds = itertools.cycle(("silent", "half", "trickles"))
        trickling = []
        for _ in range(max(30, scaled(500))):
            began = time.monotonic()
            peer = relay.subscriber(relay.addresses[1], over=None, raw=True, wait=False)
            silent[peer] = began
            kind = next(kinds)
            if kind == "half":
                peer.send(hello[:100])
            elif kind == "trickles":
                trickling.append((peer, iter(hello[:-1])))
        relay.wait_status(lambda s: s["tls"]["handshaking"] == len(silent), "all are there")
        took, asked, events, trickle_at = {}, 0, 0, 0.0

        def look():
            nonlocal asked, trickle_at, events
            now = time.monotonic()
            for peer, began in silent.items():
                if peer.ended and peer not in took:
                    took[peer] = now - began
            if now > trickle_at:
                trickle_at = now + 0.1
                for peer, rest in trickling:
                    byte = next(rest, None)
                    if byte is not None and not peer.ended:
                        peer.send(bytes([byte]))
                # The others live as before.
                producer.send(wire.data(b"%d" % events))
                events += 1
                relay.status()
            return len(took) == len(silent)

        pump([*silent, *plain, producer], look, DEADLINE + 10, "all silent peers are closed")
        self.assertGreater(min(took.values()), DEADLINE - 0.5)
        self.assertLess(max(took.values()), patience(DEADLINE + 2))
        status = relay.wait_status(lambda s: s["tls"]["handshaking"] == 0, "none is left")
        self.assertEqual(status["tls"]["failed"]["timeout"], len(silent))
        self.assertEqual(sum(status["tls"]["failed"].values()), len(silent))
        self.assertEqual(relay.open_files(), files)
        self.let_in(relay, address=relay.addresses[1])
        wanted = [b"%d" % n for n in range(events)]
        pump([*plain, producer], lambda: all(len(s.events) >= events for s in plain))
        for subscriber in plain:
            self.assertEqual(subscriber.events, wanted)
        print(f"# {len(silent)} silent peers: closed after {min(took.values()):.3f} to "
              f"{max(took.values()):.3f} s, {events} events meanwhile")

    def test_bar_22_handshakes_beside_plain_subscribers(self):
        """RELIABILITY bar 22: 200 handshakes/s: the plain subscribers' p99 within 20 %."""
        relay = self.start_tls(PLAIN, listener(SECOND))
        producer = relay.producer()
        clocks = [Clock(relay.addresses[0], over=None) for _ in range(10)]
        relay.peers += clocks
        relay.wait_status(lambda s: s["subscribers"]["live"] == len(clocks), "all are in")
        seconds, rate = scaled(60), 200
        self.measure(producer, clocks, 0.5)  # warm
        alone = self.measure(producer, clocks, seconds)
        cpu = relay.cpu_seconds()
        crowd = subprocess.Popen(
            [sys.executable, __file__, "--handshakes", tls.authority("ca").cert,
             relay.addresses[1][0], str(relay.addresses[1][1]), str(rate), str(seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            self.assertTrue(select.select([crowd.stdout], [], [], patience(30))[0], "it is silent")
            self.assertEqual(crowd.stdout.readline(), b"ready\n")
            crowd.stdin.write(b"go\n")
            crowd.stdin.flush()
            beside = self.measure(producer, clocks, seconds)
            self.assertTrue(select.select([crowd.stdout], [], [], patience(60))[0], "it is silent")
            report = json.loads(crowd.stdout.readline())
        finally:
            crowd.stdin.close()
            crowd.stdout.close()
            crowd.wait()
        cpu = (relay.cpu_seconds() - cpu) / seconds
        self.assertEqual(report["failed"], 0)
        self.assertGreater(report["shaken"], 10 * seconds, "it was too slow to show anything")
        status = relay.wait_status(
            lambda s: s["subscribers"]["live"] == len(clocks), "the crowd has left"
        )
        self.assertEqual(status["tls"]["accepted"], report["shaken"])
        self.assertEqual(sum(status["tls"]["failed"].values()), 0)
        self.assertEqual(sum(status["deliveries"]["dropped"].values()), 0)
        print(f"# p99 alone {alone * 1e3:.3f} ms, beside {report['shaken'] / seconds:.0f} "
              f"handshakes/s {beside * 1e3:.3f} ms: {beside / alone:.2f} times; CPU {cpu:.2f}")
        self.assertLess(beside, patience(0.25))

    def measure(self, producer, clocks, seconds):
        """Relays for so long; returns the p99 of what an event took. Nothing may be lost."""
        for clock in clocks:
            clock.numbers, clock.took = [], []
        began = time.monotonic()
        sent = 0

        def go_on():
            nonlocal sent
            now = time.monotonic()
            if now - began < seconds:
                due = int((now - began) * 500) + 1
                if sent < due:
                    producer.send(wire.data(b"%d %r" % (sent, time.monotonic())))
                    sent += 1
                return False
            return all(len(clock.numbers) == sent for clock in clocks)

        pump([producer, *clocks], go_on, seconds + 30, "all events have come")
        for clock in clocks:
            self.assertEqual(clock.numbers, [*range(sent)])
        took = sorted(itertools.chain.from_iterable(clock.took for clock in clocks))
        return took[len(took) * 99 // 100]

    def test_bar_22_a_stalled_subscriber_obeys_the_caps(self):
        """RELIABILITY bars 22, 1 and 2: its lag ends at the cap and nobody else loses anything."""
        max_event, max_lag = 64 * KIB, MIB
        events = [(b"%d " % n).ljust(size, b".")
                  for n, size in zip(range(3000), itertools.cycle((16, 100, 1000, 5000)))]
        for policy in ("disconnect", "skip", "block"):
            with self.subTest(policy):
                relay = self.start_tls(
                    PLAIN, listener(SECOND), max_event=max_event, send_buffer="64KiB",
                    slow_subscriber={"max_lag": max_lag, "policy": policy},
                )
                others = [
                    *relay.subscribers(5, over=None),
                    *relay.subscribers(5, relay.addresses[1], over=tls.plain_context()),
                ]
                stalled = relay.subscriber(
                    relay.addresses[1], over=tls.plain_context(), receive_buffer=4 * KIB
                )
                stalled.paused = True
                producer = relay.producer()
                largest = 0

                def held_or_done():
                    nonlocal largest
                    status = relay.status()
                    relay.check_balance(status)
                    largest = max(largest, status["log"]["max_lag"])
                    if policy == "block" and status["loop"]["holds"] > 0:
                        stalled.paused = False
                    return all(len(other.events) >= end for other in others)

                end = 0
                while end < len(events):
                    begin, end = end, end + 100
                    producer.send(b"".join(map(wire.data, events[begin:end])))
                    pump([producer, stalled, *others], held_or_done, 30, "the others have it")
                self.assertLessEqual(largest, max_lag + TURN_INTAKE + max_event)
                for other in others:
                    self.assertEqual(other.events, events)
                status = relay.status()
                dropped = status["deliveries"]["dropped"]
                closed = status["subscribers"]["closed"]
                stalled.paused = False
                if policy == "disconnect":
                    self.assertEqual(closed["slow-subscriber"], 1)
                    self.assertEqual(sum(dropped.values()), dropped["slow-subscriber"])
                    stalled.expect_end(None)
                    self.assertEqual(stalled.events, events[: len(stalled.events)])
                    self.assertLessEqual(
                        len(stalled.events) + dropped["slow-subscriber"], len(events)
                    )
                elif policy == "skip":
                    self.assertGreater(dropped["skipped"], 0)
                    stalled.pump(lambda: stalled.events[-1:] == events[-1:])
                    self.assertEqual(len(stalled.events) + dropped["skipped"], len(events))
                    for event in stalled.events:
                        self.assertEqual(event, events[int(event.split()[0])])
                else:
                    stalled.pump(lambda: len(stalled.events) >= len(events))
                    self.assertEqual(stalled.events, events)
                    self.assertEqual(sum(dropped.values()), 0)
                    self.assertGreater(status["loop"]["holds"], 0)
                print(f"# {policy}: largest lag {largest} of {max_lag + TURN_INTAKE + max_event}")
                relay.stop()


class Clock(Subscriber):
    """Notes what each event was about: its number and when it was sent."""

    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self.numbers, self.took = [], []

    def _take(self, chunk):
        now = time.monotonic()
        for _, payload in self.decoder.feed(chunk):
            number, sent = payload.split()
            self.numbers.append(int(number))
            self.took.append(now - float(sent))


def shake_hands(ca, host, port, rate, seconds):
    over = tls.context(ca=ca)
    print("ready", flush=True)
    sys.stdin.readline()
    began, shaken, failed = time.monotonic(), 0, 0
    while (at := time.monotonic() - began) < seconds:
        # Until the next is due, or nobody waits for it any more.
        early = max(0, (shaken + failed) / rate - at)
        if select.select([sys.stdin], [], [], early)[0]:
            return
        try:
            with socket.create_connection((host, port), patience(10)) as sock:
                with over.wrap_socket(sock, server_hostname=tls.NAME) as secure:
                    secure.shutdown(socket.SHUT_WR)
                    while secure.recv(64 * KIB):
                        pass
                    shaken += 1
        except OSError as error:
            print(f"# {error!r}", file=sys.stderr)
            failed += 1
    print(json.dumps({"shaken": shaken, "failed": failed}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--handshakes"]:
        shake_hands(*sys.argv[2:4], *map(int, sys.argv[4:7]))
    else:
        unittest.main()
