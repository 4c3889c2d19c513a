"""config/install.sh, and the files that it installs."""

import os
import pathlib
import subprocess
import unittest

import wire
from relay import RelayCase, evrelay, patience

CONFIG = pathlib.Path(__file__).resolve().parents[2] / "config"


class Installed(RelayCase):
    def install(self, destdir=""):
        """Into a folder of the test's; returns it."""
        folder = os.path.join(self.directory(), "etc", "evrelay")
        self.install_to(folder, destdir)
        return pathlib.Path(destdir + folder)

    def install_to(self, folder, destdir=""):
        return subprocess.run(
            ["sh", CONFIG / "install.sh", CONFIG / "evrelay.yaml", CONFIG / "hook.lua", folder],
            env={**os.environ, "DESTDIR": destdir}, capture_output=True, text=True,
            timeout=patience(20), check=True,
        ).stdout

    def test_the_file_names_the_script_beside_it(self):
        folder = self.install()
        file = folder / "evrelay.yaml"
        done = evrelay("--check", "-c", str(file))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "ok\n", ""))
        self.assertIn(f"\nscript: {folder}/hook.lua\n", file.read_text(encoding="utf-8"))
        self.assertEqual(file.stat().st_mode & 0o777, 0o644)
        (folder / "hook.lua").unlink()
        self.assertEqual(evrelay("--check", "-c", str(file)).returncode, 2)

    def test_a_folder_for_packaging_is_not_named(self):
        stage = self.directory()
        folder = self.install(stage)
        self.assertNotIn(stage, (folder / "evrelay.yaml").read_text(encoding="utf-8"))

    def test_what_is_there_stays(self):
        folder = self.install()
        for name in ("evrelay.yaml", "hook.lua"):
            (folder / name).write_text("edited", encoding="utf-8")
        self.assertEqual(self.install_to(str(folder)).count("keeping"), 2)
        for name in ("evrelay.yaml", "hook.lua"):
            self.assertEqual((folder / name).read_text(encoding="utf-8"), "edited")

    def test_the_script_does_nothing_but_log(self):
        relay = self.start(script=str(CONFIG / "hook.lua"), log={"level": "debug"})
        subscriber, other = relay.subscribers(2)
        subscriber.send(wire.data(b"hello"))
        relay.wait_log(r"debug .*says hello$")
        status = relay.wait_handled()
        self.assertEqual(status["messages"]["handled"], 1)
        relay.producer().relay(b"next")
        subscriber.expect(b"next")
        other.expect(b"next")


if __name__ == "__main__":
    unittest.main()
