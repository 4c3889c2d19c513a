"""evrelay pub, sub and status: what a person needs to try, test and script the relay."""

import base64
import datetime
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
import unittest

from relay import EVRELAY, RelayCase, evrelay, patience, pump


class Pub(RelayCase):
    def setUp(self):
        self.relay = self.start(max_event="1KiB")
        self.subscriber = self.relay.subscriber()

    def pub(self, *args, stdin=b""):
        return evrelay("pub", "--socket", self.relay.producer_path, *args, stdin=stdin)

    def assert_done(self, done):
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

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


class Sub(RelayCase):
    def setUp(self):
        self.relay = self.start()
        self.producer = self.relay.producer()

    def sub(self, *args, stdout=subprocess.PIPE, env=None):
        """A running `evrelay sub` that evrelay has accepted."""
        live = self.relay.status()["subscribers"]["accepted"]
        process = subprocess.Popen(
            [EVRELAY, "sub", f"127.0.0.1:{self.relay.port}", *args],
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
            "messages": "received bytes discarded_bytes handled dropped",
            "hook": "script workers stuck_workers runs failed actions stale_actions",
            "requests": "relay ping errors undeliverable",
            "log": "bytes segments free_segments max_lag",
            "loop": "turns sends short_writes holds",
        }.items():
            self.assertEqual(sorted(status[section]), sorted(keys.split()), section)
        self.assertEqual(set(status["subscribers"]["refused"]), {"full", "no-files"})
        self.assertLessEqual(
            {"eof", "reset", "slow-subscriber", "stalled", "truncated", "bad-size", "bad-type"},
            set(status["subscribers"]["closed"]),
        )
        self.assertEqual(
            set(status["deliveries"]["dropped"]),
            {"closing", "reset", "refused", "slow-subscriber", "skipped", "stalled", "drain"},
        )
        self.assertRegex(status["version"], r"^\d+\.\d+\.\d+")
        self.assertGreaterEqual(status["uptime_s"], 0)

    def test_for_people(self):
        relay = self.start()
        done = evrelay("status", "--socket", relay.control_path)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(f"127.0.0.1:{relay.port}", done.stdout)
        self.assertRegex(done.stdout, r"(?m)^subscribers +live 0")

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
