"""Strict start: a bad file is answered with every error's place, and nothing is opened."""

import os
import re
import resource
import unittest

from relay import RelayCase, evrelay

# Bad files: a name, the text, and for each error in it the line and a word that the message has.
# The column must be that of the key or of the value. SOCK stands for a usable socket path.
BAD = [
    ("unknown key", "bind_adr: 127.0.0.1:0\n", [(1, "bind_addr")]),
    ("unknown key far from any", "colour: red\n", [(1, "colour")]),
    ("unknown key in a section", "producer:\n  sockt: SOCK\n", [(2, "socket")]),
    ("repeated key", "max_clients: 1\nmax_event: 1KiB\nmax_clients: 2\n", [(3, "max_clients")]),
    ("repeated key in a section", "log:\n  level: info\n  level: warn\n", [(3, "level")]),
    ("repeated section", "log: {level: info}\nlog: {target: stderr}\n", [(2, "log")]),
    ("a key with capitals", "Max_Clients: 1\n", [(1, "max_clients")]),
    ("not a number", "max_clients: many\n", [(1, "many")]),
    ("zero clients", "max_clients: 0\n", [(1, "max_clients")]),
    ("negative", "max_clients: -1\n", [(1, "-1")]),
    ("a fraction", "max_clients: 1.5\n", [(1, "1.5")]),
    ("hexadecimal", "max_clients: 0x10\n", [(1, "0x10")]),
    ("too large a number", "max_clients: 99999999999999999999\n", [(1, "max_clients")]),
    ("a list for a number", "max_clients: [1]\n", [(1, "max_clients")]),
    ("a map for a number", "max_clients: {a: 1}\n", [(1, "max_clients")]),
    ("nothing for a number", "max_clients:\n", [(1, "max_clients")]),
    ("not a boolean", "netstring_format: maybe\n", [(1, "maybe")]),
    ("the wrong yes", "netstring_format: yes\n", [(1, "true")]),
    ("not a choice", "bad_frame: ignore\n", [(1, "discard")]),
    ("a size without digits", "max_event: KiB\n", [(1, "KiB")]),
    ("a size in kilobytes", "max_event: 64kB\n", [(1, "KiB")]),
    ("a size in kb", "max_message: 64KB\n", [(1, "KiB")]),
    ("a size with a space", "max_event: 64 KiB\n", [(1, "64")]),
    ("a size of nothing", "max_event: 0\n", [(1, "max_event")]),
    ("a size past all bounds", "max_event: 99999999GiB\n", [(1, "max_event")]),
    ("a negative size", "max_event: -1KiB\n", [(1, "-1KiB")]),
    ("a send buffer of no size", "send_buffer: large\n", [(1, "auto")]),
    ("a time without unit", "drain: 10\n", [(1, "10s")]),
    ("a time with a wrong unit", "drain: 10h\n", [(1, "min")]),
    ("a negative time", "drain: -1s\n", [(1, "-1s")]),
    ("a fraction of a time", "slow_subscriber:\n  stall_timeout: 1.5s\n", [(2, "1.5s")]),
    ("not a policy", "slow_subscriber:\n  policy: drop\n", [(2, "disconnect")]),
    ("a lag of nothing", "slow_subscriber:\n  max_lag: 0\n", [(2, "max_lag")]),
    ("a mode as a number", "producer:\n  mode: 0660\n", [(2, "quotes")]),
    ("a mode that is not octal", 'producer:\n  mode: "0680"\n', [(2, "0680")]),
    ("a mode that is too large", 'producer:\n  mode: "7777"\n', [(2, "7777")]),
    ("a mode in letters", "producer:\n  mode: rw-rw----\n", [(2, "mode")]),
    ("a relative socket", "producer:\n  socket: producer.sock\n", [(2, "absolute")]),
    ("a socket of 108 bytes", f"producer:\n  socket: /{'x' * 107}\n", [(2, "107")]),
    ("an unknown user", "producer:\n  user: no-such-user-here\n", [(2, "no-such-user-here")]),
    ("an unknown group", "producer:\n  group: no-such-group\n", [(2, "no-such-group")]),
    ("no connections", "producer:\n  max_connections: 0\n", [(2, "max_connections")]),
    ("allow is no list", "producer:\n  allow: everybody\n", [(2, "allow")]),
    ("a rule that is no map", "producer:\n  allow: [root]\n", [(2, "uid")]),
    ("a rule with an unknown key", "producer:\n  allow:\n    - {user: 0}\n", [(3, "user")]),
    ("a rule with an unknown verb", "producer:\n  allow: [{uid: 0, verbs: [fly]}]\n", [(2, "fly")]),
    ("a rule for an unknown user", "producer:\n  allow: [{uid: no-such}]\n", [(2, "no-such")]),
    ("no port", "bind_addr: 127.0.0.1\n", [(1, "port")]),
    ("no host", "bind_addr: :8448\n", [(1, "host")]),
    ("a port past all ports", "bind_addr: 127.0.0.1:65536\n", [(1, "65536")]),
    ("a port in letters", "bind_addr: 127.0.0.1:http\n", [(1, "http")]),
    ("an address with five parts", "bind_addr: 1.2.3.4.5:8448\n", [(1, "1.2.3.4.5")]),
    ("IPv6 without brackets", 'bind_addr: "::1:8448"\n', [(1, "[::1]")]),
    ("a star", 'bind_addr: "*:8448"\n', [(1, "0.0.0.0")]),
    ("an empty list of addresses", "bind_addr: []\n", [(1, "bind_addr")]),
    ("a listener without an address", "bind_addr: [{allow: [10.0.0.0/8]}]\n", [(1, "bind_addr")]),
    ("too many workers", "workers: 257\n", [(1, "256")]),
    ("a fraction of a worker", "workers: 0.5\n", [(1, "0.5")]),
    ("two scripts", "script: [a.lua, b.lua]\n", [(1, "path")]),
    ("a callback that is no name", "event_callback: my-hook\n", [(1, "my-hook")]),
    ("no time to wait for an answer", "async: {timeout: 0ms}\n", [(1, "1ms")]),
    ("too much time to wait", "async:\n  timeout: 61min\n", [(2, "60min")]),
    ("nothing may be suspended", "async:\n  max_suspended: 0\n", [(2, "1000000")]),
    ("no time for a hook", "hook: {timeout: 0ms}\n", [(1, "1ms")]),
    ("too much time for a hook", "hook:\n  timeout: 2min\n", [(2, "1min")]),
    ("no memory for a hook", "hook:\n  memory: 64KiB\n", [(2, "256KiB")]),
    ("patterns that are neither", "hook:\n  patterns: some\n", [(2, "true")]),
    ("the script's keys in its section", "hook:\n  script: a.lua\n", [(2, "script")]),
    ("an unknown level", "log:\n  level: loud\n", [(2, "debug")]),
    ("a relative log file", "log:\n  target: evrelay.log\n", [(2, "evrelay.log")]),
    ("a value for a section", "producer: yes\n", [(1, "producer")]),
    ("a list for a section", "log: [info]\n", [(1, "log")]),
    ("an open bracket", "bind_addr: [127.0.0.1:0\n", [(1, "bracket")]),
    ("an open quote", 'bind_addr: "127.0.0.1:0\nmax_clients: 1\n', [(1, "quote")]),
    ("a tab", "log:\n\tlevel: info\n", [(2, "tab")]),
    ("a list at the top", "- bind_addr\n", [(1, "list")]),
    ("two documents", "max_clients: 1\n---\nmax_clients: 2\n", [(2, "document")]),
    ("not UTF-8", "max_clients: 1\n# caf\udce9\n", [(2, "UTF-8")]),
    ("three errors", "a: 1\nmax_clients: 0\nlog:\n  level: x\n", [(1, "a"), (2, "0"), (4, "x")]),
]


class BadFiles(RelayCase):
    def setUp(self):
        self.home = self.directory()
        self.file = os.path.join(self.home, "evrelay.yaml")
        self.socket = os.path.join(self.home, "producer.sock")

    def write(self, text):
        with open(self.file, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text.replace("SOCK", self.socket))

    def run_evrelay(self, *args):
        """With the default socket path inside the test's directory."""
        return evrelay("-c", self.file, *args, env={"RUNTIME_DIRECTORY": self.home})

    def assert_bad(self, text, errors, *args):
        self.write(text)
        done = self.run_evrelay(*args)
        self.assertEqual(done.returncode, 2, done.stderr)
        lines = text.replace("SOCK", self.socket).splitlines()
        said = done.stderr.splitlines()
        self.assertEqual(len(said), len(errors), done.stderr)
        for message, (line, word) in zip(said, errors):
            match = re.fullmatch(re.escape(self.file) + r":(\d+):(\d+): (.+)", message)
            self.assertTrue(match, message)
            self.assertEqual(int(match[1]), line, message)
            self.assertIn(int(match[2]), self.columns(lines[line - 1]), message)
            self.assertIn(word, match[3])
        # Nothing was opened.
        self.assertEqual(os.listdir(self.home), ["evrelay.yaml"])

    @staticmethod
    def columns(line):
        """Where words and brackets begin, from 1; one past the end for what is missing."""
        starts = {match.start() + 1 for match in re.finditer(r"[^\s:,]+|[\[{]|\t", line)}
        starts |= {match.start() + 1 for match in re.finditer(r"(?<=[\[{ ])\S|\udce9", line)}
        return starts | {len(line) + 1}

    def test_bar_33_bad_files_are_refused_with_their_place(self):
        """RELIABILITY bar 33: 60 bad files: file:line:column, exit 2, nothing opened."""
        self.assertGreaterEqual(len(BAD), 60)
        for name, text, errors in BAD:
            with self.subTest(name):
                self.assert_bad(text, errors)

    def test_check_says_the_same_errors(self):
        for name, text, errors in BAD[::7]:
            with self.subTest(name):
                self.assert_bad(text, errors, "--check")

    def test_check_says_ok_and_opens_nothing(self):
        for text in ("", "# nothing\n", "bind_addr: 127.0.0.1:0\nproducer:\n  socket: SOCK\n"):
            with self.subTest(text):
                self.write(text)
                done = self.run_evrelay("--check")
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "ok\n", ""))
                self.assertEqual(os.listdir(self.home), ["evrelay.yaml"])

    def test_check_of_every_key(self):
        script = os.path.join(self.home, "hook.lua")
        with open(script, "w", encoding="utf-8") as file:
            file.write("function on_event(name) end\n")
        self.write(
            'bind_addr: [127.0.0.1:8448, "[::1]:8448", localhost:0, unix:/run/evrelay.sock]\n'
            "max_clients: 10\nnetstring_format: false\nbad_frame: discard\n"
            "max_message: 1KiB\nmax_event: 2MiB\nsend_buffer: 64KiB\n"
            f"workers: 4\nscript: {script}\nevent_callback: on_event\n"
            "hook: {timeout: 10ms, memory: 1MiB, patterns: false}\n"
            'producer: {socket: SOCK, mode: "0600", user: root, group: root, max_connections: 5,\n'
            "  allow: [{uid: root}, {gid: 0, verbs: [relay]}, {uid: 1000, gid: root}]}\n"
            'control:\n  socket: /run/control.sock\n  mode: "0660"\n'
            "slow_subscriber: {max_lag: 1GiB, policy: block, stall_timeout: 5s}\n"
            "log: {level: debug, target: syslog}\ndrain: 1min\n"
        )
        done = self.run_evrelay("--check")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "ok\n", ""))

    def test_a_callback_needs_a_script(self):
        self.write("event_callback: on_event\n")
        done = self.run_evrelay()
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, "^event_callback: .*script")
        self.assertEqual(os.listdir(self.home), ["evrelay.yaml"])

    def test_a_file_that_cannot_be_read(self):
        for path in (os.path.join(self.home, "missing.yaml"), self.home):
            with self.subTest(path):
                done = evrelay("-c", path)
                self.assertEqual(done.returncode, 2)
                self.assertIn(path, done.stderr)

    def test_hostile_files_are_refused_quickly(self):
        aliases = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n"
            for n in range(12)
        )
        for name, text in (
            ("deep brackets", "bind_addr: " + "[" * 100_000),
            ("aliases of aliases", aliases),
            ("a megabyte of keys", "x: 1\n" * 250_000),
            ("control bytes", "bind_addr: \x01\x1b[31m\n"),
        ):
            with self.subTest(name):
                self.write(text)
                done = self.run_evrelay()
                self.assertEqual(done.returncode, 2)
                self.assertLess(len(done.stderr), 100_000)
                self.assertNotRegex(done.stderr, r"[\x00-\x09\x0b-\x1f]")

    def test_only_the_hard_limit_of_files_can_refuse_max_clients(self):
        self.write("max_clients: 1000\nbind_addr: 127.0.0.1:0\n")
        def limit(hard):
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))

        done = evrelay(
            "-c",
            self.file,
            env={"RUNTIME_DIRECTORY": self.home},
            preexec_fn=lambda: limit(500),
        )
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("max_clients", done.stderr)
        self.assertRegex(done.stderr, r"\d{3}")
        self.assertEqual(os.listdir(self.home), ["evrelay.yaml"])


class Usage(RelayCase):
    def test_bad_usage(self):
        for args in (
            ["--no-such-flag"],
            ["launch"],
            ["-c"],
            ["--log-level", "loud"],
            ["--workers", "257"],
            ["--script"],
            ["pub", "--multicast", "one", "--unicast", "two", "x"],
            ["pub", "--timeout", "5", "x"],
            ["sub", "--count", "0"],
            ["sub", "--json", "--raw"],
        ):
            with self.subTest(args):
                done = evrelay(*args)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertTrue(done.stderr)
                self.assertEqual(done.stdout, "")

    def test_help_and_version(self):
        for args in (["--help"], ["serve", "--help"], ["pub", "--help"], ["sub", "--help"]):
            with self.subTest(args):
                done = evrelay(*args)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertIn("evrelay", done.stdout)
        done = evrelay("--version")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"^evrelay \d+\.\d+\.\d+\n$")


if __name__ == "__main__":
    unittest.main()
