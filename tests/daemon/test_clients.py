"""evrelay pub, sub and status: what a person needs to try, test and script the relay."""

import base64
import datetime
import json
import os
import pty
import random
import re
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import wire
from relay import EVRELAY, SCALE, RelayCase, evrelay, patience, plain_only, pump, scaled
from scripts import ACT, act

# What an event says of the request that it belongs to.
ASK = "ask $T(id_index) $T(id_label)"


class PubCase(RelayCase):
    def pub(self, *args, stdin=b""):
        return evrelay("pub", "--socket", self.relay.producer_path, *args, stdin=stdin)

    def assert_done(self, done):
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))


class Pub(PubCase):
    def setUp(self):
        self.relay = self.start(max_event="1KiB")
        self.subscriber = self.relay.subscriber()

    def test_arguments(self):
        self.assert_done(self.pub("hello", "[1,2]", "{}", "two words"))
        self.subscriber.expect(b"hello", b"[1,2]", b"{}", b"two words")

    def test_arguments_that_begin_with_a_dash(self):
        self.assert_done(self.pub("--", "--ack", "-"))
        self.subscriber.expect(b"--ack", b"-")

    def test_lines_of_standard_input(self):
        self.assert_done(self.pub(stdin=b"one\ntwo \0\xff\nlast without end"))
        self.subscriber.expect(b"one", b"two \0\xff", b"last without end")

    def test_many_lines_in_order(self):
        lines = [b"line %d" % n for n in range(50_000)]
        process = subprocess.Popen(
            [EVRELAY, "pub", "--socket", self.relay.producer_path], stdin=subprocess.PIPE
        )
        self.addCleanup(process.wait)
        with process.stdin:
            for at in range(0, len(lines), 1000):
                process.stdin.write(b"\n".join(lines[at : at + 1000]) + b"\n")
        self.subscriber.pump(lambda: len(self.subscriber.events) == len(lines))
        self.assertEqual(self.subscriber.events, lines)
        self.assertEqual(process.wait(patience(10)), 0)

    def test_a_line_goes_out_when_it_is_written(self):
        process = subprocess.Popen(
            [EVRELAY, "pub", "--socket", self.relay.producer_path],
            stdin=subprocess.PIPE,
            bufsize=0,
        )
        self.addCleanup(process.wait)
        with process.stdin:
            for word in (b"one", b"two", b"three"):
                process.stdin.write(word + b"\n")
                self.subscriber.expect(word)
        self.assertEqual(process.wait(patience(10)), 0)

    def test_netstrings_of_standard_input(self):
        self.assert_done(self.pub("--netstring", stdin=b"5:hello,0:,\n3:\na\n,"))
        self.subscriber.expect(b"hello", b"\na\n")

    def test_bad_netstrings(self):
        for stdin, error in ((b"1:a,oops", "bad-size"), (b"1:a,5:hel", "truncated")):
            with self.subTest(stdin):
                done = self.pub("--netstring", stdin=stdin)
                self.assertEqual(done.returncode, 1)
                self.assertIn(error, done.stderr)
                self.subscriber.expect(b"a")

    def test_ack(self):
        self.assert_done(self.pub("--ack", "one", "two"))
        self.subscriber.expect(b"one", b"two")
        self.assertEqual(self.relay.status()["requests"]["accepted"]["relay"], 2)
        self.assert_done(self.pub("--ack", stdin=b"three\nfour\n"))
        self.subscriber.expect(b"three", b"four")

    def test_a_refused_event_is_told(self):
        for args in (["--ack"], []):
            with self.subTest(args):
                done = self.pub(*args, "x" * 1025)
                self.assertEqual(done.returncode, 1)
                self.assertIn("too-big", done.stderr)

    def test_an_empty_event_is_refused(self):
        done = self.pub("good", "")
        self.assertEqual(done.returncode, 2)
        self.assertIn("empty", done.stderr)

    def test_nobody_there(self):
        done = evrelay("pub", "--socket", self.relay.directory + "/nowhere.sock", "x")
        self.assertEqual(done.returncode, 1)
        self.assertIn("nowhere.sock", done.stderr)

    def test_evrelay_socket_names_the_relay(self):
        done = evrelay("pub", "hello", env={"EVRELAY_SOCKET": self.relay.producer_path})
        self.assert_done(done)
        self.subscriber.expect(b"hello")

    def test_a_producer_in_one_line_of_shell(self):
        """The contract's example, with the standard library in socat's place."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(self.relay.producer_path)
            sock.sendall(b"5:hello,")
        self.subscriber.expect(b"hello")


class PubRequests(PubCase):
    def begin(self, *tags, **config):
        """A relay with ACT, and a subscriber for each tag; an empty one is none."""
        self.relay = self.start(lua=ACT, **config)
        self.subscribers = self.relay.subscribers(len(tags))
        for subscriber, tag in zip(self.subscribers, tags):
            if tag:
                subscriber.send(act("set_tag", tag))
                subscriber.expect(b"set_tag true")

    def publishing(self, *args, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE):
        """A running `evrelay pub`."""
        process = subprocess.Popen(
            [EVRELAY, "pub", "--socket", self.relay.producer_path, *args],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    def assert_ends(self, process, code, stdout=b"", stderr=b""):
        out, err = process.communicate(timeout=patience(20))
        self.assertEqual((process.returncode, out, err), (code, stdout, stderr))

    def next_ask(self, subscriber):
        """INDEX and LABEL in the next event, which ASK became."""
        subscriber.pump(lambda: subscriber.events)
        word, *request = subscriber.events.pop(0).split()
        self.assertEqual((word, len(request)), (b"ask", 2))
        return request

    def assert_books(self, **wanted):
        names = "suspended resumed expired drained abandoned waiting refused".split()
        self.assertEqual(self.relay.status()["async"], {**dict.fromkeys(names, 0), **wanted})

    def assert_verbs(self, **wanted):
        accepted = self.relay.status()["requests"]["accepted"]
        self.assertEqual({verb: n for verb, n in accepted.items() if n}, wanted)

    def test_multicast(self):
        self.begin("red", "blue", "red", "")
        self.assert_done(self.pub("--multicast", "red", "one", "two"))
        self.assert_done(self.pub("--multicast", "red", stdin=b"three\n"))
        self.assert_done(self.pub("--multicast", "green", "nobody hears it"))
        self.assert_verbs(multicast=4)
        self.assert_done(self.pub("end"))
        red, blue, also_red, none = self.subscribers
        for subscriber in (red, also_red):
            subscriber.expect(b"one", b"two", b"three", b"end")
        for subscriber in (blue, none):
            subscriber.expect(b"end")

    def test_unicast(self):
        self.begin("", "red", "red")
        self.assert_done(self.pub("--unicast", "red", "one", "two"))
        self.assert_verbs(unicast=2)
        done = self.pub("--unicast", "green", "x", "y")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(
            done.stderr,
            r"\A(evrelay pub: event [12]: no-subscriber: .+\n){2}\Z",
        )
        self.assert_done(self.pub("end"))
        none, red, also_red = self.subscribers
        red.expect(b"one", b"two", b"end")
        for subscriber in (none, also_red):
            subscriber.expect(b"end")

    def test_a_tag_that_is_no_word(self):
        tags = ["[1,2]", "{}", "a b", "\N{SNOWMAN}" * 21, "--", "$T(id_index)"]
        self.begin(*tags)
        for tag in tags:
            self.assert_done(self.pub("--unicast=" + tag, "for " + tag))
        self.assert_done(self.pub("end"))
        for subscriber, tag in zip(self.subscribers, tags):
            subscriber.expect(("for " + tag).encode(), b"end")

    def test_many_refused_are_counted(self):
        self.begin("")
        count = scaled(400_000)
        done = self.pub("--unicast", "green", stdin=b"x\n" * count)
        self.assertEqual(done.returncode, 1)
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 7, lines[:20])
        self.assertEqual(lines[-1], f"evrelay pub: no-subscriber: {count} events in all")

    def test_many_with_ack(self):
        self.begin("")
        count = scaled(1_000_000)
        with tempfile.TemporaryFile() as file:
            file.write(b"".join(b"%d\n" % n for n in range(count)))
            file.seek(0)
            process = self.publishing("--ack", stdin=file)
        (subscriber,) = self.subscribers
        subscriber.pump(lambda: len(subscriber.events) >= count, 60)
        self.assertEqual(subscriber.events, [b"%d" % n for n in range(count)])
        self.assert_ends(process, 0)
        self.assert_verbs(relay=count)

    def test_async(self):
        self.begin("", "red", "red")
        none, red, also_red = self.subscribers
        for args, asked in (
            (["--async"], self.subscribers),
            (["--async", "--multicast", "red"], (red, also_red)),
            (["--async", "--unicast", "red"], (red,)),
            (["--async", "--timeout", "3600000", "--unicast=red", "--ack"], (red,)),
        ):
            with self.subTest(args):
                process = self.publishing(*args, ASK)
                request = self.next_ask(asked[0])
                for other in asked[1:]:
                    other.expect(b"ask %b %b" % tuple(request))
                # Whoever was asked, anybody may decide.
                none.send(act("resume", *request, b"let it ring"))
                none.expect(b"resume true")
                self.assert_ends(process, 0, b"let it ring\n")
        self.assert_verbs(async_relay=1, async_multicast=1, async_unicast=2)
        self.assert_books(suspended=4, resumed=4)

    def test_async_answers_are_printed_as_they_come(self):
        self.begin("")
        (subscriber,) = self.subscribers
        process = self.publishing("--async", ASK, ASK, ASK)
        requests = [self.next_ask(subscriber) for _ in range(3)]
        for number in (1, 2, 0):
            subscriber.send(act("resume", *requests[number], b"answer %d" % number))
            self.assertEqual(process.stdout.readline(), b"answer %d\n" % number)
        self.assert_ends(process, 0)

    def test_async_netstrings(self):
        self.begin("")
        (subscriber,) = self.subscribers
        process = self.publishing("--async", "--netstring", stdin=subprocess.PIPE)
        process.stdin.write(wire.data(ASK.encode()) + wire.data(b"\n" + ASK.encode()))
        process.stdin.flush()
        for answer in (b"a\nb", b"c,"):
            subscriber.send(act("resume", *self.next_ask(subscriber), answer))
        self.assert_ends(process, 0, b"3:a\nb,2:c,,")

    def test_async_many_in_any_order(self):
        """Far more than one producer may have suspended: they are all resumed, none refused."""
        self.begin("")
        count = scaled(200_000)
        with tempfile.TemporaryFile() as file:
            file.write(b"".join(b"%d $T(id_index) $T(id_label)\n" % n for n in range(count)))
            file.seek(0)
            process = self.publishing("--async", stdin=file, stderr=None)
        (subscriber,) = self.subscribers
        output = []
        reader = threading.Thread(target=lambda: output.extend(process.stdout))
        reader.start()
        self.addCleanup(reader.join)
        resumed = []
        waiting = []

        def resume_some():
            waiting.extend(event for event in subscriber.events if event[0] != ord("r"))
            subscriber.events.clear()
            random.shuffle(waiting)
            # Half of them, the others meet newer ones.
            batch = [waiting.pop() for _ in range((len(waiting) + 1) // 2)]
            for event in batch:
                number, *request = event.split()
                resumed.append(int(number))
                subscriber.send(act("resume", *request, number))
            return len(resumed) == count

        subscriber.pump(resume_some, 60, "all are resumed")
        subscriber.pump(lambda: process.poll() is not None, 20, "pub ends")
        self.assertEqual(process.returncode, 0)
        reader.join()
        self.assertEqual(sorted(map(int, output)), list(range(count)))
        # Each answer is taken when it is given.
        self.assertEqual(list(map(int, output)), resumed)
        self.assert_books(suspended=count, resumed=count)

    def test_async_timeout(self):
        self.begin("")
        process = self.publishing("--async", "--timeout", "20", ASK, ASK)
        self.assert_ends(
            process,
            1,
            b"",
            b"evrelay pub: event 1: expired: no hook resumed it in time\n"
            b"evrelay pub: event 2: expired: no hook resumed it in time\n",
        )
        self.next_ask(self.subscribers[0])
        self.next_ask(self.subscribers[0])
        self.assert_books(suspended=2, expired=2)

    @unittest.skipIf(SCALE < 20, "the long form only: it takes 10 s")
    def test_async_a_relay_that_says_nothing_is_given_up(self):
        self.begin("")
        with socket.socket(socket.AF_UNIX) as silent:
            path = os.path.join(self.relay.directory, "silent.sock")
            silent.bind(path)
            silent.listen()
            process = subprocess.Popen(
                [EVRELAY, "pub", "--socket", path, "--async", "--timeout", "1", ASK],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            out, err = process.communicate(timeout=patience(20))
        self.assertEqual((process.returncode, out), (1, b""))
        self.assertRegex(err, rb"\Aevrelay pub: the relay has been silent for 10001 ms; .+\n\Z")

    def test_async_nobody_to_ask(self):
        self.begin()
        done = self.pub("--async", ASK)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, r"\Aevrelay pub: event 1: no-subscriber: .+\n\Z")

    def test_async_overloaded(self):
        self.begin("", **{"async": {"max_suspended": 8}})
        (subscriber,) = self.subscribers
        process = self.publishing("--async", ASK, ASK, ASK)
        for _ in range(2):
            subscriber.send(act("resume", *self.next_ask(subscriber), b"yes"))
        out, err = process.communicate(timeout=patience(20))
        self.assertEqual((process.returncode, out), (1, b"yes\nyes\n"))
        self.assertRegex(err, rb"\Aevrelay pub: event 3: overloaded: .+\n\Z")

    def test_async_the_relay_stops(self):
        self.begin("")
        process = self.publishing("--async", ASK, ASK)
        self.next_ask(self.subscribers[0])
        self.relay.signal(signal.SIGTERM)
        self.assertEqual(self.relay.wait(), 0)
        out, err = process.communicate(timeout=patience(20))
        self.assertEqual((process.returncode, out), (1, b""))
        self.assertEqual(
            sorted(err.splitlines()),
            [b"evrelay pub: event %d: draining: the relay is stopping" % n for n in (1, 2)],
        )

    def test_async_the_relay_dies(self):
        self.begin("")
        process = self.publishing("--async", ASK, ASK)
        (subscriber,) = self.subscribers
        self.next_ask(subscriber)
        subscriber.send(act("resume", *self.next_ask(subscriber), b"yes"))
        self.assertEqual(process.stdout.readline(), b"yes\n")
        self.relay.kill()
        self.assert_ends(
            process,
            1,
            b"",
            b"evrelay pub: the relay closed the connection; not answered: 1 event\n",
        )

    def test_the_control_socket_is_told_apart(self):
        self.begin("")
        for args in (["--ack"], ["--async"], ["--unicast", "red"], []):
            with self.subTest(args):
                done = evrelay("pub", "--socket", self.relay.control_path, *args, "x")
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertIn("this looks like the control socket", done.stderr)

    def test_progress_on_a_terminal(self):
        self.begin("")
        terminal, inner = pty.openpty()
        self.addCleanup(os.close, terminal)
        process = self.publishing("--ack", stdin=subprocess.PIPE, stderr=inner)
        os.close(inner)
        process.stdin.write(b"one\ntwo\n")
        process.stdin.flush()
        text = b""
        while b"/s" not in text:
            self.assertTrue(select.select([terminal], [], [], patience(10))[0], text)
            text += os.read(terminal, 4096)
        self.assertRegex(text, rb"\A\r2 events, \d+/s\Z")
        self.assert_ends(process, 0, stderr=None)
        self.assertRegex(os.read(terminal, 4096), rb"\A\r +\r\Z")


class Sub(RelayCase):
    def setUp(self):
        self.relay = self.start()
        self.producer = self.relay.producer()

    def sub(self, *args, stdout=subprocess.PIPE, env=None):
        """A running `evrelay sub` that evrelay has accepted."""
        live = self.relay.status()["subscribers"]["accepted"]
        process = subprocess.Popen(
            [EVRELAY, "sub", *self.relay.sub_arguments, *args],
            stdout=stdout,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        self.addCleanup(self.end, process)
        self.relay.wait_status(
            lambda s: s["subscribers"]["accepted"] == live + 1, "sub is connected"
        )
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    def assert_ends(self, process, code, stdout=None):
        """Waits for its end; returns what it wrote to standard error."""
        out, err = process.communicate(timeout=patience(10))
        self.assertEqual(process.returncode, code, err)
        if stdout is not None:
            self.assertEqual(out, stdout)
        return err.decode()

    def test_text_and_count(self):
        process = self.sub("--count", "3")
        self.producer.relay(b"one", b"two words", b"\0\xff", b"four")
        self.assertEqual(self.assert_ends(process, 0, b"one\ntwo words\n\0\xff\n"), "")

    def test_json(self):
        process = self.sub("--json", "--count", "3")
        before = datetime.datetime.now(datetime.timezone.utc)
        payloads = [b'{"a": "\xc3\xa9\\n"}', b"\0\n\x1b", b"\xff\xfe"]
        self.producer.relay(*payloads)
        out, _ = process.communicate(timeout=patience(10))
        after = datetime.datetime.now(datetime.timezone.utc)
        self.assertEqual(process.returncode, 0)
        lines = out.decode().splitlines()
        self.assertEqual(len(lines), 3)
        for line, payload in zip(lines, payloads):
            event = json.loads(line)
            self.assertRegex(event["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
            when = datetime.datetime.fromisoformat(event["time"])
            self.assertLessEqual(before, when)
            self.assertLessEqual(when, after)
            if payload == b"\xff\xfe":
                self.assertEqual(base64.b64decode(event["data_base64"]), payload)
                self.assertNotIn("data", event)
            else:
                self.assertEqual(event["data"].encode(), payload)

    def test_raw(self):
        process = self.sub("--raw", "--count", "3")
        self.producer.relay(b"one", b"\0\n", b"three")
        self.assert_ends(process, 0, b"one\0\nthree")

    def test_netstring(self):
        process = self.sub("--netstring", "--count", "2")
        self.producer.relay(b"one", b"\0\n")
        self.assert_ends(process, 0, b"3:one,2:\0\n,")

    def test_netstrings_pass_from_sub_to_pub(self):
        subscriber = self.relay.subscriber()
        process = self.sub("--netstring", "--count", "2")
        self.producer.relay(b"a\nb", b"\0")
        subscriber.expect(b"a\nb", b"\0")
        out, _ = process.communicate(timeout=patience(10))
        done = evrelay(
            "pub", "--socket", self.relay.producer_path, "--netstring", "--ack", stdin=out
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        subscriber.expect(b"a\nb", b"\0")

    def test_send(self):
        process = self.sub("--send", "hello", "--send", "[1,2]", "--count", "1")
        self.relay.wait_status(
            lambda s: s["messages"]["received"] == 2 and s["messages"]["bytes"] == 10, "received"
        )
        self.producer.relay(b"end")
        self.assert_ends(process, 0, b"end\n")

    def test_interrupt_prints_a_count(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number):
                process = self.sub()
                self.producer.relay(b"one", b"three")
                self.assertEqual(self.read(process.stdout.fileno(), 10), b"one\nthree\n")
                process.send_signal(number)
                err = self.assert_ends(process, 0)
                self.assertRegex(err, r"2 events, 8 bytes")

    def test_events_are_written_when_they_come(self):
        process = self.sub()
        for word in (b"one", b"two", b"three"):
            self.producer.relay(word)
            self.assertEqual(self.read(process.stdout.fileno(), len(word) + 1), word + b"\n")

    def test_on_a_terminal_with_the_time_and_escaped(self):
        terminal, inner = pty.openpty()
        self.addCleanup(os.close, terminal)
        process = self.sub("--count", "2", stdout=inner, env={"TZ": "UTC"})
        os.close(inner)
        self.producer.relay(b"hello", b"\x1b[31m\nred\\\xff")
        text = b""
        while text.count(b"\n") < 2:
            text += self.read(terminal, 1)
        lines = text.decode().splitlines()
        self.assertRegex(lines[0], r"^\d\d:\d\d:\d\d\.\d{3} hello$")
        self.assertRegex(lines[1], r"^\d\d:\d\d:\d\d\.\d{3} \\x1b\[31m\\nred\\\\\\xff$")
        self.assert_ends(process, 0)

    def test_the_relay_ends(self):
        process = self.sub()
        self.producer.relay(b"last words")
        self.producer.ping()
        self.relay.stop()
        err = self.assert_ends(process, 1, b"last words\n")
        self.assertIn("1 event", err)
        self.assertIn("closed", err)

    def test_nobody_there(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        done = evrelay("sub", f"127.0.0.1:{port}")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"127.0.0.1:{port}", done.stderr)

    def test_nobody_reads_its_output(self):
        process = self.sub()
        process.stdout.close()
        self.producer.relay(b"x" * 100)
        self.producer.ping()
        process.wait(patience(10))
        self.assertEqual(process.returncode, 0)
        process.stderr.close()

    @plain_only("its certificate names no path")
    def test_a_unix_listener(self):
        path = os.path.join(self.directory(), "sub.sock")
        relay = self.start(bind_addr="unix:" + path)
        process = subprocess.Popen(
            [EVRELAY, "sub", "unix:" + path, "--count", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(self.end, process)
        relay.wait_status(lambda s: s["subscribers"]["live"] == 1, "connected")
        relay.producer().relay(b"hello")
        self.assert_ends(process, 0, b"hello\n")

    def read(self, fd, size):
        """Exactly `size` bytes."""
        got = b""
        deadline = time.monotonic() + patience(10)
        while len(got) < size:
            left = deadline - time.monotonic()
            self.assertGreater(left, 0, f"only {got!r} came")
            if select.select([fd], [], [], left)[0]:
                chunk = os.read(fd, size - len(got))
                self.assertTrue(chunk, f"only {got!r} came")
                got += chunk
        return got


class Status(RelayCase):
    def test_json(self):
        relay = self.start()
        subscribers = relay.subscribers(2)
        relay.producer().relay(b"hello")
        pump(subscribers, lambda: all(s.events for s in subscribers))
        done = evrelay("status", "--socket", relay.control_path, "--json")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        status = json.loads(done.stdout)
        self.assertEqual(status["pid"], relay.pid)
        self.assertEqual(status["events"]["relayed"], 1)
        self.assertEqual(status["subscribers"]["live"], 2)
        relay.check_balance(status)

    def test_every_number_is_there(self):
        relay = self.start()
        status = relay.status()
        for section, keys in {
            "subscribers": "live admitting closing blocked accepted refused closed",
            "producers": "connected accepted refused closed",
            "events": "relayed bytes denied",
            "deliveries": "due written queued dropped",
            "messages": "received bytes discarded_bytes unhandled handled dropped",
            "hook": "script workers stuck_workers runs failed actions stale_actions "
            "lost_actions",
            "requests": "accepted errors undeliverable",
            "async": "suspended resumed expired drained abandoned waiting refused",
            "log": "bytes segments free_segments max_lag",
            "loop": "turns sends short_writes holds accept_pauses",
        }.items():
            self.assertEqual(sorted(status[section]), sorted(keys.split()), section)
        refused = {"full", "no-files", "not-allowed", "per-ip", "no-memory"}
        self.assertEqual(set(status["subscribers"]["refused"]), refused)
        self.assertLessEqual(
            set(
                "eof reset hook admission hook-error slow-subscriber stalled dead-peer "
                "frame-timeout truncated bad-size bad-type too-big drain admin "
                "no-memory".split()
            ),
            set(status["subscribers"]["closed"]),
        )
        self.assertEqual(
            set(status["deliveries"]["dropped"]),
            set(
                "closing reset dead-peer refused slow-subscriber skipped stalled drain "
                "no-memory".split()
            ),
        )
        self.assertRegex(status["version"], r"^\d+\.\d+\.\d+")
        self.assertGreaterEqual(status["uptime_s"], 0)

    def test_for_people(self):
        relay = self.start()
        done = evrelay("status", "--socket", relay.control_path)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(f"127.0.0.1:{relay.port}", done.stdout)
        self.assertRegex(done.stdout, r"(?m)^  subscribers +0 live$")

    def test_a_producer_socket_that_is_not_utf_8(self):
        path = os.fsdecode(os.fsencode(self.directory()) + b"/\xff.sock")
        relay = self.start(args=["--producer-socket", path], path=path)
        for option in ([], ["--json"]):
            done = evrelay("status", "--socket", relay.control_path, *option)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("/\N{REPLACEMENT CHARACTER}.sock", json.loads(done.stdout)["producer_socket"])
        relay.producer().ping()

    def test_found_beside_the_producer_socket(self):
        relay = self.start()
        done = evrelay("status", "--json", env={"EVRELAY_SOCKET": relay.producer_path})
        self.assertEqual(json.loads(done.stdout)["pid"], relay.pid)

    def test_nobody_there(self):
        done = evrelay("status", "--socket", self.directory() + "/control.sock")
        self.assertEqual(done.returncode, 1)
        self.assertTrue(re.search(r"control\.sock", done.stderr))


if __name__ == "__main__":
    unittest.main()
