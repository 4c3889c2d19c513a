"""config/completion.bash against the program's own --help."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from relay import EVRELAY, evrelay

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "config" / "completion.bash"
FLAG = re.compile(r"^ .*?(--[a-z][a-z-]*)(?: ([A-Z]+))?", re.MULTILINE)
PATHS = {"FILE", "PATH"}


def help_of(command):
    done = evrelay(command, "--help")
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands():
    listed = help_of("serve").partition("Commands:\n")[2].partition("Each has")[0]
    return re.findall(r"^  ([a-z]+)\b", listed, re.MULTILINE)


def flags_of(command):
    """Flag -> the name of its value, or ""."""
    options = help_of(command).partition("Options:\n")[2].partition("\n\n")[0]
    return dict(FLAG.findall(options))


@unittest.skipIf(shutil.which("bash") is None, "there is no bash")
class Completion(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="evrelay-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        for name in ("evrelay.yaml", "every hook.lua", "other"):
            pathlib.Path(self.folder, name).touch()

    def complete(self, *words):
        """What is offered for the last of the words; bash splits them at "=" as well."""
        # compopt works only while Tab is handled.
        program = (
            'compopt() { :; }; . "$1"; command=$2; shift 2; COMP_WORDS=(evrelay "$@");'
            ' COMP_CWORD=$#; _evrelay "$command";'
            ' ((${#COMPREPLY[@]} == 0)) || printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "-u", "-c", program, "bash", str(SCRIPT), os.path.abspath(EVRELAY), *words],
            capture_output=True, text=True, timeout=60, check=True, cwd=self.folder,
        )
        self.assertEqual(done.stderr, "")
        return done.stdout.splitlines()

    def test_it_is_bound_to_the_command(self):
        done = subprocess.run(
            ["bash", "-c", '. "$0" && complete -p evrelay', str(SCRIPT)],
            capture_output=True, text=True, timeout=60, check=True,
        )
        self.assertEqual(done.stdout, "complete -F _evrelay evrelay\n")

    def test_every_command(self):
        self.assertIn("pub", commands())
        self.assertEqual(self.complete(""), commands())
        self.assertEqual(self.complete("cl"), ["clients", "close"])
        self.assertEqual(self.complete("nonsense", ""), [])

    def test_every_flag_of_every_command(self):
        for command in commands():
            with self.subTest(command):
                flags = flags_of(command)
                self.assertIn("--help", flags)
                self.assertEqual(self.complete(command, ""), list(flags))
                self.assertEqual(self.complete(command, "--"), list(flags))
        self.assertEqual(self.complete("--"), list(flags_of("serve")))
        self.assertEqual(self.complete("--check", "--c"), ["--config", "--check"])
        self.assertEqual(self.complete("pub", "--a"), ["--async", "--ack"])

    def test_every_value(self):
        for command in commands():
            for flag, value in flags_of(command).items():
                with self.subTest(f"{command} {flag}"):
                    offered = self.complete(command, flag, "e")
                    if value in PATHS:
                        self.assertEqual(sorted(offered), ["every hook.lua", "evrelay.yaml"])
                    elif value == "LEVEL":
                        self.assertEqual(offered, ["error"])
                    else:
                        self.assertEqual(offered, [])
        self.assertEqual(self.complete("-c", "evr"), ["evrelay.yaml"])

    def test_a_value_behind_an_equals_sign(self):
        self.assertEqual(self.complete("--config", "=", "evr"), ["evrelay.yaml"])
        self.assertEqual(len(self.complete("--script", "=")), 3)
        self.assertEqual(self.complete("--log-level", "=", "w"), ["warn"])
        self.assertEqual(self.complete("--log-level", "="), ["debug", "info", "warn", "error"])


if __name__ == "__main__":
    unittest.main()
