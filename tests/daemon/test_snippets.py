"""The examples of evrelay-protocol(7), cut out of its source and run as they stand there.

In the source a comment names each: `.\\" snippet NAME`. Those named shell-* are transcripts: lines
after `$ ` are commands, indented lines continue them, the others are what the commands write.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

import wire
from relay import EVRELAY, RelayCase, pump
from scripts import ECHO

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
ESCAPES = {r"\e": "\\", r"\(:o": "\u00f6"}
QUESTION = b"who opens? "


def read_snippets():
    with open(os.path.join(ROOT, "man", "evrelay-protocol.7"), encoding="utf-8") as file:
        page = file.read()
    examples = page[page.index(".Sh EXAMPLES") : page.index(".Sh SEE ALSO")]
    displays = re.findall(
        r'^(?:\.\\" snippet (\S+)\n)?\.Bd .*\n((?:(?!\.Ed$).*\n)*)', examples, re.MULTILINE
    )
    return {
        name: re.sub(r"\\(?:\(..|.)", lambda escape: ESCAPES[escape[0]], text)
        for name, text in displays
    }


SNIPPETS = read_snippets()


def read_transcript(name):
    """The commands, and what they write."""
    commands, output = "", ""
    for line in SNIPPETS[name].splitlines(keepends=True):
        if line.startswith("$ "):
            commands += line.removeprefix("$ ")
        elif line.startswith("  "):
            commands += line
        else:
            output += line
    return commands, output


# Everybody is a guard.
TAGGING = """
event_route["evapi:connection-new"] = function(evapi)
  evapi.set_tag("guard")
end
"""


class SnippetCase(RelayCase):
    def start_relay(self, lua=None):
        relay = self.start(lua=lua or SNIPPETS["hook.lua"])
        self.relay = relay
        self.env = {
            **os.environ,
            "EVRELAY_SOCKET": relay.producer_path,
            "EVRELAY_PORT": str(relay.port),
            "PATH": os.path.dirname(shutil.which(EVRELAY)) + os.pathsep + os.environ["PATH"],
        }
        return relay

    def need(self, *programs):
        for program in programs:
            if shutil.which(program) is None:
                self.skipTest(f"there is no {program}")

    def launch(self, *command):
        output = tempfile.TemporaryFile()
        self.addCleanup(output.close)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            env=self.env,
            start_new_session=True,  # so that it can be ended with those that it has started
        )
        process.output = output
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def launch_file(self, name, *interpreter):
        self.need(interpreter[0])
        path = os.path.join(self.relay.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(SNIPPETS[name])
        return self.launch(*interpreter, path)

    def output_of(self, process, peers=()):
        pump(peers, lambda: process.poll() is not None, 30, f"{process.args} ends")
        self.assertEqual(process.returncode, 0, process.args)
        process.output.seek(0)
        return process.output.read().decode()

    def stop_relay(self):
        self.relay.close_peers()
        self.relay.stop()

    # What all languages do alike

    def publishes(self, name, *interpreter, event=b"door opened"):
        subscriber = self.start_relay().subscriber()
        process = self.launch_file(name, *interpreter)
        subscriber.expect(event)
        self.assertEqual(self.output_of(process), "")

    def answer_question(self, subscriber):
        """Answers the question that comes; returns its numbers."""
        subscriber.pump(lambda: subscriber.events, 30, "the question")
        question = subscriber.events.pop(0)
        self.assertEqual(question[: len(QUESTION)], QUESTION)
        subscriber.send(wire.data(question.removeprefix(QUESTION) + b" Ann"))
        return question.removeprefix(QUESTION).decode().split()

    def asks(self, name, *interpreter):
        """Writes what comments in it say, with other labels."""
        subscriber = self.start_relay().subscriber()
        process = self.launch_file(name, *interpreter)
        if "door opened" in SNIPPETS[name]:
            subscriber.expect(b"door opened")
        index, label = self.answer_question(subscriber)
        self.assertEqual(index, "0")
        output = self.output_of(process, [subscriber]).replace(label, "401937")
        said = re.findall(r"(?:print|console\.log)\(.* (?:#|//|--) (.*)", SNIPPETS[name])
        self.assertEqual(output.splitlines(), said)

    def subscribes(self, name, *interpreter):
        """Shows what is relayed, until the relay ends; answers the question, if it can."""
        relay = self.start_relay()
        process = self.launch_file(name, *interpreter)
        relay.wait_status(lambda s: s["subscribers"]["accepted"] == 1, "it has subscribed")
        producer = relay.producer()
        events = [b"door opened", "gr\u00fc\u00df dich \u2615".encode(), b"x" * 100_000]
        producer.relay(*events)
        answer = producer.request("async_relay", QUESTION + b"$T(id_index) $T(id_label)", "30000")
        self.assertEqual(answer[0], b"suspended")
        events.append(QUESTION + b" ".join(answer[1:]))
        if not name.endswith(".lua"):
            self.assertEqual(producer.next_answer(), [b"resumed", *answer[1:], b"Ann"])
        producer.close()
        self.stop_relay()
        self.assertEqual(self.output_of(process).encode(), b"".join(e + b"\n" for e in events))


class Page(unittest.TestCase):
    def test_every_example_has_a_name_and_a_test(self):
        with open(__file__, encoding="utf-8") as file:
            tests = file.read()
        for name, text in SNIPPETS.items():
            self.assertTrue(name, f"no name: {text}")
            self.assertIn(f'"{name}"', tests)

    def test_no_example_is_too_wide_for_78_columns(self):
        for name, text in SNIPPETS.items():
            for line in text.splitlines():
                self.assertLessEqual(len(line), 67, f"{name}: {line}")


class Shell(SnippetCase):
    def launch_transcript(self, name):
        places, _ = read_transcript("shell-places")
        commands, output = read_transcript(name)
        self.need(*{"nc", "socat"}.intersection(commands.split()))
        return self.launch("sh", "-c", places + commands), output

    def check(self, name, peers=()):
        process, output = self.launch_transcript(name)
        # Frames do not end with a newline, and on the page they do.
        self.assertEqual(self.output_of(process, peers).rstrip("\n"), output.rstrip("\n"))

    def test_subscribe(self):
        relay = self.start_relay()
        process, output = self.launch_transcript("shell-subscribe")
        relay.wait_status(lambda s: s["subscribers"]["accepted"] == 1, "nc has subscribed")
        relay.producer().relay(b"hello")
        self.stop_relay()
        self.assertEqual(self.output_of(process) + "\n", output)

    def test_publish(self):
        subscriber = self.start_relay().subscriber()
        self.check("shell-publish")
        subscriber.expect(b"hello")

    def test_publish_a_variable(self):
        subscriber = self.start_relay().subscriber()
        self.check("shell-variable")
        subscriber.expect('{"city": "K\u00f6ln"}'.encode())

    def test_publish_with_an_answer(self):
        subscribers = self.start_relay().subscribers(2)
        self.check("shell-relay")
        for subscriber in subscribers:
            subscriber.expect(b"hello")

    def test_say_something_to_the_script(self):
        self.start_relay(lua=ECHO)
        self.check("shell-message")

    def test_ping(self):
        self.start_relay()
        self.check("shell-ping")

    def test_break_the_protocol(self):
        self.start_relay()
        self.check("shell-error")

    def test_read_the_counters(self):
        relay = self.start_relay()
        process, _ = self.launch_transcript("shell-status")
        ((kind, payload),) = wire.Decoder().feed(self.output_of(process).encode())
        ok, status = wire.split_list(payload)
        self.assertEqual((kind, ok, json.loads(status)["pid"]), (wire.LIST, b"ok", relay.pid))

    def test_evrelay_pub(self):
        subscriber = self.start_relay(lua=TAGGING + SNIPPETS["hook.lua"]).subscriber()
        process, output = self.launch_transcript("shell-pub")
        subscriber.expect(b"door opened", b"door opened")
        self.answer_question(subscriber)
        self.assertEqual(self.output_of(process, [subscriber]), output)

    def test_evrelay_sub(self):
        relay = self.start_relay()
        process, _ = self.launch_transcript("shell-sub")
        relay.wait_status(lambda s: s["subscribers"]["accepted"] == 1, "it has subscribed")
        relay.producer().relay(b"door  opened", b" * ")
        self.stop_relay()
        self.assertEqual(self.output_of(process), "heard: door  opened\nheard:  * \n")


class Python(SnippetCase):
    def test_publish(self):
        self.publishes("publish.py", sys.executable)

    def test_ask(self):
        self.asks("ask.py", sys.executable)

    def test_subscribe(self):
        self.subscribes("subscribe.py", sys.executable)


class Node(SnippetCase):
    def test_publish(self):
        self.publishes("publish.mjs", "node")

    def test_ask(self):
        self.asks("ask.mjs", "node")

    def test_subscribe(self):
        self.subscribes("subscribe.mjs", "node")


class Lua(SnippetCase):
    def test_publish(self):
        self.publishes("publish.lua", "lua5.4")

    def test_ask(self):
        self.asks("ask.lua", "lua5.4")

    def test_subscribe(self):
        self.subscribes("subscribe.lua", "lua5.4")


class Cxx(SnippetCase):
    def test_ask(self):
        compiler = shlex.split(os.environ.get("EVRELAY_CXX", "c++"))
        self.need(compiler[0])
        subscriber = self.start_relay().subscriber()
        source = os.path.join(self.relay.directory, "ask.cc")
        program = source.removesuffix(".cc")
        with open(source, "w", encoding="utf-8") as file:
            file.write(SNIPPETS["ask.cc"])
        include = os.path.join(ROOT, "include")
        subprocess.run(
            [*compiler, "-std=c++17", "-I", include, source, "-o", program], check=True
        )
        process = self.launch(program)
        subscriber.expect(b"somebody rings", b"door opened")
        self.answer_question(subscriber)
        self.assertEqual(self.output_of(process, [subscriber]), "1 subscribers\nAnn opens\n")


if __name__ == "__main__":
    unittest.main()
