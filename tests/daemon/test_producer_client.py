"""evrelay/producer.h as a user has it: installed, found by pkg-config, compiled into programs that
talk to a running relay.

EVRELAY is in BUILD/src, so that BUILD can be installed. EVRELAY_CXX is the compiler (c++).
"""

import filecmp
import glob
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import unittest

import wire
from relay import EVRELAY, RelayCase, patience, pump, scaled

BUILD = os.path.dirname(os.path.dirname(shutil.which(EVRELAY)))
HERE = os.path.dirname(os.path.abspath(__file__))
EXAMPLE = os.path.join(HERE, os.pardir, os.pardir, "config", "examples", "producer.cc")
CXX = shlex.split(os.environ.get("EVRELAY_CXX", "c++"))

# "INDEX LABEL DATA" resumes, anything else becomes the tag of who says it.
DECIDE = """
event_route["evapi:message-received"] = function(evapi)
  local index, label, data = evapi.msg:match("^(%d+) (%d+) (.*)$")
  if index then evapi.resume(index, label, data) else evapi.set_tag(evapi.msg) end
end
"""


def run(*command, **keywords):
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=patience(60),
        check=False,
        **keywords,
    )
    if done.returncode != 0:
        raise AssertionError(f"{shlex.join(command)}:\n{done.stdout}")
    return done.stdout


class Installed:
    """BUILD, installed into a folder of its own."""

    def __init__(self, folder):
        self.root = os.path.join(folder, "root")
        self._folder = folder
        run("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", self.root)
        self._pkg_config_path = os.path.dirname(self.find("evrelay.pc"))
        # It moved with the whole root.
        prefix = self.root + self.pkg_config("--variable=prefix")[0]
        self.flags = self.pkg_config(f"--define-variable=prefix={prefix}", "--cflags", "--libs")

    def find(self, name):
        (path,) = glob.glob(os.path.join(self.root, "**", name), recursive=True)
        return path

    def pkg_config(self, *arguments):
        env = {**os.environ, "PKG_CONFIG_PATH": self._pkg_config_path}
        return shlex.split(run("pkg-config", *arguments, "evrelay", env=env))

    def compile(self, source):
        """The path of the program."""
        program = os.path.join(self._folder, os.path.basename(source).removesuffix(".cc"))
        # g++ has it by default, clang++ 14 has not.
        ours = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
        run(*CXX, *ours, *self.flags, source, "-o", program)
        return program


class Client(RelayCase):
    @classmethod
    def setUpClass(cls):
        for program in ("meson", "pkg-config", CXX[0]):
            if shutil.which(program) is None:
                raise unittest.SkipTest(f"there is no {program}")
        if not os.path.exists(os.path.join(BUILD, "build.ninja")):
            raise unittest.SkipTest(f"{EVRELAY} is in no build folder of meson")
        folder = tempfile.mkdtemp(prefix="evrelay-")
        cls.addClassCleanup(shutil.rmtree, folder)
        cls.installed = Installed(folder)
        cls.example = cls.installed.compile(cls.installed.find("producer.cc"))

    def start_program(self, *command, env=None):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def expect_end(self, process, code, output, peers=()):
        pump(peers, lambda: process.poll() is not None, 120, "the program ends")
        self.assertEqual((process.returncode, process.stdout.read()), (code, output))

    def question(self, subscriber):
        """Reads to the question; returns its two numbers."""
        asks = b"who opens? "
        subscriber.pump(lambda: any(asks in event for event in subscriber.events), 20, "is asked")
        self.assertEqual(subscriber.events[-1][: len(asks)], asks)
        return subscriber.events[-1].removeprefix(asks)

    def test_what_is_installed(self):
        self.assertTrue(filecmp.cmp(self.installed.find("producer.cc"), EXAMPLE, shallow=False))
        version = run(EVRELAY, "--version").split()[1]
        self.assertEqual(self.installed.pkg_config("--modversion"), [version])
        (flag,) = self.installed.flags
        self.assertTrue(flag.startswith("-I" + self.installed.root), flag)
        names = {os.path.basename(path) for path in glob.glob(flag[2:] + "/evrelay/*")}
        self.assertEqual(names, {"action.h", "ids.h", "netstring.h", "producer.h", "version.h"})

    def test_the_example_is_answered(self):
        relay = self.start(lua=DECIDE)
        guard, other = relay.subscribers(2)
        guard.send(wire.data(b"guard"))
        relay.wait_handled(peers=[guard])
        program = self.start_program(self.example, relay.producer_path)
        numbers = self.question(other)
        self.assertEqual(
            other.events,
            [b"somebody rings", b"bell: ground floor", b"bell: first floor", b"bell: attic"]
            + [b"who opens? " + numbers],
        )
        guard.expect(b"somebody rings", b"look at the door")
        other.send(wire.data(numbers + b" Ann"))
        self.expect_end(
            program, 0, "guards: 1\n" + "heard by: 2\n" * 3 + "Ann opens\n", [other, guard]
        )
        self.assertEqual(relay.status()["async"]["resumed"], 1)

    def test_the_example_when_the_relay_stops(self):
        relay = self.start(lua=DECIDE)
        subscriber = relay.subscriber()
        program = self.start_program(self.example, env={"EVRELAY_SOCKET": relay.producer_path})
        self.question(subscriber)
        subscriber.close()
        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait(), 0)
        self.expect_end(program, 0, "guards: 0\n" + "heard by: 1\n" * 3 + "nobody opens\n")

    def test_the_example_when_nobody_is_there(self):
        relay = self.start(lua=DECIDE)
        program = self.start_program(self.example, relay.producer_path)
        said = "the relay says no-subscriber: no subscriber is there to be asked\n"
        self.expect_end(program, 1, "guards: 0\n" + "heard by: 0\n" * 3 + said)

    def test_the_example_without_a_relay(self):
        program = self.start_program(self.example, "/nonexistent/producer.sock")
        said = "connect /nonexistent/producer.sock: No such file or directory\n"
        self.expect_end(program, 1, said)

    def test_far_more_requests_than_answers_fit(self):
        """The relay does not read who leaves 1 MiB of answers unread."""
        count, asks = max(200_000, scaled(2_000_000)), 2000
        pipeline = self.installed.compile(os.path.join(HERE, "pipeline.cc"))
        relay = self.start(lua=DECIDE, slow_subscriber={"policy": "block"})
        subscriber = relay.subscriber()
        program = self.start_program(pipeline, relay.producer_path, str(count), str(asks))
        total = 0

        def answer():
            nonlocal total
            total += len(subscriber.events)
            for event in subscriber.events:
                if event.startswith(b"ask "):
                    subscriber.send(wire.data(event.removeprefix(b"ask ") + b" yes"))
            subscriber.events.clear()
            return program.poll() is not None

        subscriber.pump(answer, 120, "all is answered")
        self.expect_end(program, 0, f"heard {count - asks}, resumed {asks}, open 0\n")
        subscriber.pump(lambda: answer() and total == count, 20, "all is heard")


if __name__ == "__main__":
    unittest.main()
