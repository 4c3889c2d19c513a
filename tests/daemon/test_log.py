"""The log: levels, targets, reopening, and that nobody can forge or flood it."""

import os
import re
import select
import signal
import subprocess
import time
import unittest

import wire
from relay import LOG_LINE, RelayCase, StartFailed, patience, pump, scaled


class Levels(RelayCase):
    def levels(self, level, *args):
        """The levels of the lines of a short life with one bad subscriber."""
        relay = self.start(log={"level": level}, args=args)
        subscriber = relay.subscriber()
        subscriber.send(b"oops")
        subscriber.expect_end("eof")
        subscriber.close()
        relay.wait_status(lambda s: s["subscribers"]["closed"]["bad-size"] == 1, "closed")
        relay.stop()
        return {match[1] for match in map(LOG_LINE.fullmatch, relay.log_lines) if match}

    def test_each_level_leaves_out_what_is_below(self):
        self.assertEqual(self.levels("debug"), {"debug", "info", "warn"})
        self.assertEqual(self.levels("info"), {"info", "warn"})
        self.assertEqual(self.levels("warn"), {"warn"})
        self.assertEqual(self.levels("error"), set())

    def test_the_flag_beats_the_file(self):
        self.assertEqual(self.levels("debug", "--log-level", "warn"), {"warn"})

    def test_every_line_has_the_one_format(self):
        relay = self.start(log={"level": "debug"})
        relay.subscriber().send(b"oops")
        relay.producer().send(b"oops")
        relay.signal(signal.SIGHUP)
        relay.wait_log("reload: done")
        relay.stop()
        for line in relay.log_lines:
            self.assertRegex(line, LOG_LINE)


class Targets(RelayCase):
    def test_a_file_and_reopening_it(self):
        home = self.directory()
        path = os.path.join(home, "evrelay.log")
        relay = self.start(log={"target": path})

        def wait_in(name, text):
            def found(_):
                if not os.path.exists(name):
                    return False
                with open(name, encoding="utf-8") as file:
                    return text in file.read()

            relay.wait_status(found, f"{text!r} in {name}")

        wait_in(path, "ready: ")
        self.assertEqual(relay.log, "")
        os.rename(path, path + ".1")
        relay.signal(signal.SIGHUP)
        wait_in(path + ".1", "reload: done")
        self.assertFalse(os.path.exists(path))
        relay.signal(signal.SIGUSR1)
        relay.wait_status(lambda _: os.path.exists(path), "the log file is there again")
        relay.signal(signal.SIGHUP)
        wait_in(path, "reload: done")
        with open(path + ".1", encoding="utf-8") as file:
            self.assertEqual(file.read().count("reload: done"), 1)
        relay.stop()
        wanted = re.compile(r"stop|drain", re.IGNORECASE)
        with open(path, encoding="utf-8") as file:
            self.assertRegex(file.read(), wanted)

    def test_an_existing_file_is_appended_to(self):
        path = os.path.join(self.directory(), "evrelay.log")
        with open(path, "w", encoding="utf-8") as file:
            file.write("before\n")
        self.start(log={"target": path}).stop()
        with open(path, encoding="utf-8") as file:
            text = file.read()
        self.assertTrue(text.startswith("before\n"))
        self.assertIn("ready: ", text)

    def test_a_file_that_cannot_be_opened_is_refused(self):
        path = os.path.join(self.directory(), "missing", "evrelay.log")
        with self.assertRaises(StartFailed) as failed:
            self.start(log={"target": path})
        self.assertEqual(failed.exception.code, 2)
        self.assertIn(path, failed.exception.log)

    def test_sigusr1_without_a_file_is_harmless(self):
        relay = self.start()
        relay.signal(signal.SIGUSR1)
        relay.producer().ping()

    def test_syslog_and_journald_work_or_say_why_not(self):
        for target in ("syslog", "journald"):
            with self.subTest(target):
                try:
                    relay = self.start(log={"target": target})
                except StartFailed as failed:
                    self.assertIn(failed.code, (1, 2))
                    self.assertRegex(failed.log, target + "|systemd")
                else:
                    relay.producer().ping()
                    self.assertNotIn("ready: ", relay.log)
                    relay.stop()


class Hostile(RelayCase):
    def test_bar_29_the_log_is_not_flooded(self):
        """RELIABILITY bar 29: 100,000 bad frames/s ≤ 10 lines/s + a suppressed count."""
        relay = self.start()
        began = time.monotonic()
        count = 0
        while count < scaled(20_000) or "suppressed" not in relay.log:
            self.assertLess(time.monotonic() - began, patience(10), "no suppressed count")
            peers = relay.subscribers(50, wait=False)
            for peer in peers:
                peer.send(b"oops")
            pump(peers, lambda peers=peers: all(peer.ended for peer in peers))
            for peer in peers:
                peer.close()
            relay.peers.clear()
            count += 50
        relay.wait_status(lambda s: s["subscribers"]["closed"]["bad-size"] == count, "counted")
        seconds = time.monotonic() - began
        self.assertLessEqual(len(relay.log_lines), 11 * (seconds + 1) + 1, relay.log)
        told = sum(map(int, re.findall(r"(\d+) more suppressed", relay.log)))
        self.assertGreater(told, 0)
        self.assertLessEqual(told, count)

    def test_bar_29_errors_of_a_script_do_not_flood_the_log(self):
        """RELIABILITY bar 29: 100,000 in one go, from one peer: ≤ 10 lines/s + a count."""
        relay = self.start(lua='event_route["evapi:message-received"] = function() error("bad") end')
        subscriber = relay.subscriber()
        began = time.monotonic()
        subscriber.send(wire.data(b"x") * 100_000)
        subscriber.flush()
        relay.wait_status(
            lambda s: s["hook"]["failed"]["error"] == 100_000, "all have failed", 60, [subscriber]
        )
        seconds = time.monotonic() - began
        print(f"# {100_000 / seconds:.0f} failures/s, {len(relay.log_lines)} lines")
        self.assertLessEqual(len(relay.log_lines), 11 * (seconds + 1) + 2, relay.log)

    def test_bar_29_the_log_cannot_be_forged(self):
        """What a user of the producer port can bring into the log is escaped, on one line."""
        relay = self.start(log={"level": "debug"})
        forged = b"\n2026-01-31T12:00:00.123456Z error daemon: forged\r\x1b[31m\0"
        producer = relay.producer()
        producer.request(forged, "x")
        producer.request("relay", "x", forged)
        producer.send(forged)
        producer.expect_end("eof")
        subscriber = relay.subscriber()
        subscriber.send(forged)
        subscriber.expect_end("eof")
        relay.stop()
        for line in relay.log_lines:
            self.assertRegex(line, LOG_LINE)
            self.assertNotRegex(line, r"Z error daemon: forged")
            self.assertNotRegex(line, r"[\x00-\x1f]")

    def test_bar_29_a_full_log_pipe_never_blocks_the_loop(self):
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)

        def with_full_pipe(args, **keywords):
            # Nobody reads this pipe; it is full from the start.
            os.set_blocking(writer, False)
            try:
                while True:
                    os.write(writer, b"x" * 65536)
            except BlockingIOError:
                pass
            os.set_blocking(writer, True)
            keywords["stderr"] = writer
            process = subprocess.Popen(args, **keywords)
            os.close(writer)
            process.stderr = open(os.devnull, "rb")  # what the harness reads
            return process

        relay = self.start(start=with_full_pipe, log={"level": "debug"})
        subscriber = relay.subscriber()
        producer = relay.producer()
        for number in range(200):
            bad = relay.producer()
            bad.send(b"oops")
            bad.expect_end("eof")
            bad.close()
            producer.relay(b"%d" % number)
            subscriber.expect(b"%d" % number)
        began = time.monotonic()
        relay.stop(5)
        self.assertLess(time.monotonic() - began, patience(3))
        self.assertTrue(select.select([reader], [], [], 0)[0])


if __name__ == "__main__":
    unittest.main()
