"""Sockets and their paths: takeover of the dead, refusal of the living, owner and mode, ports."""

import fcntl
import os
import pwd
import random
import signal
import socket
import stat
import subprocess
import threading
import time
import unittest

import wire
from relay import IS_ROOT, SCALE, Relay, RelayCase, StartFailed, patience, pump, scaled

RELAY_ALL = 'event_route["evapi:message-received"] = function(evapi) evapi.relay(evapi.msg) end'


class Paths(RelayCase):
    """RELIABILITY bar 20: refused clearly, nothing removed but a dead socket."""

    def setUp(self):
        self.home = self.directory()
        self.path = os.path.join(self.home, "producer.sock")

    def start_here(self, **config):
        return self.start(directory=self.home, **config)

    def assert_refused(self, codes=(3,), path=None):
        """It does not start, says which path is at fault, and leaves everything as it was."""
        path = path or self.path
        before = self.snapshot()
        with self.assertRaises(StartFailed) as failed:
            self.start_here(producer={"socket": path})
        self.assertIn(failed.exception.code, codes, failed.exception.log)
        self.assertIn(path[:40], failed.exception.log)
        self.assertLessEqual(len(failed.exception.log.splitlines()), 2, failed.exception.log)
        self.assertEqual(self.snapshot(), before)

    def snapshot(self):
        """What stands in the directory, but for the configuration and the lock files."""
        entries = {}
        for name in os.listdir(self.home):
            if not name.endswith((".yaml", ".lock")):
                info = os.lstat(os.path.join(self.home, name))
                entries[name] = (info.st_ino, info.st_mode, info.st_size, info.st_mtime_ns)
        return entries

    def dead_socket(self, path):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)

    def test_bar_20_a_dead_socket_is_replaced(self):
        self.dead_socket(self.path)
        relay = self.start_here()
        relay.producer().ping()

    def test_bar_20_a_live_foreign_socket_is_refused(self):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(self.path)
            sock.listen()
            self.assert_refused()
            sock.settimeout(patience(5))
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(self.path)
                sock.accept()[0].close()

    def test_a_running_relay_is_refused_and_not_disturbed(self):
        first = self.start_here()
        subscriber, producer = first.subscriber(), first.producer()
        self.assert_refused()
        producer.relay(b"hello")
        subscriber.expect(b"hello")
        first.producer().ping()

    def test_a_held_lock_is_refused(self):
        with open(self.path + ".lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.assert_refused()

    def test_bar_20_a_regular_file_is_refused(self):
        with open(self.path, "w", encoding="ascii") as file:
            file.write("precious")
        self.assert_refused()

    def test_a_directory_is_refused(self):
        os.mkdir(self.path)
        self.assert_refused()

    def test_a_fifo_is_refused(self):
        os.mkfifo(self.path)
        self.assert_refused()

    def test_bar_20_a_symbolic_link_is_not_followed(self):
        target = os.path.join(self.home, "target")
        for name, make in (
            ("dead socket", self.dead_socket),
            ("regular file", lambda path: open(path, "w", encoding="ascii").close()),
            ("nothing", lambda path: None),
        ):
            with self.subTest(name):
                make(target)
                os.symlink(target, self.path)
                self.assert_refused()
                os.unlink(self.path)
                if os.path.lexists(target):
                    os.unlink(target)

    def test_a_missing_directory_is_refused(self):
        self.assert_refused((1, 2, 3), os.path.join(self.home, "missing", "producer.sock"))

    @unittest.skipUnless(IS_ROOT, "needs root to become somebody else")
    def test_bar_20_a_directory_that_may_not_be_written_is_refused(self):
        nobody = pwd.getpwnam("nobody")
        closed = os.path.join(self.home, "closed")
        os.mkdir(closed, 0o755)

        def as_nobody(args, **keywords):
            return subprocess.Popen(args, user=nobody.pw_uid, group=nobody.pw_gid, **keywords)

        path = os.path.join(closed, "producer.sock")
        with self.assertRaises(StartFailed) as failed:
            self.start_here(producer={"socket": path}, start=as_nobody)
        self.assertIn(failed.exception.code, (1, 2, 3))
        self.assertIn(path, failed.exception.log)
        self.assertEqual(os.listdir(closed), [])

    def test_bar_20_the_longest_path_and_one_byte_more(self):
        longest = os.path.join(self.home, "x" * (107 - len(self.home) - 1))
        self.assertEqual(len(longest), 107)
        control = os.path.join(self.home, "control.sock")
        relay = self.start_here(producer={"socket": longest}, control={"socket": control})
        relay.producer().ping()
        relay.stop()
        self.assert_refused((1, 2, 3), longest + "x")

    def test_control_socket_and_unix_listeners_are_guarded_likewise(self):
        control = os.path.join(self.home, "control.sock")
        listener = os.path.join(self.home, "sub.sock")
        for path in (control, listener):
            with self.subTest(path):
                with open(path, "w", encoding="ascii") as file:
                    file.write("precious")
                with self.assertRaises(StartFailed) as failed:
                    self.start_here(bind_addr="unix:" + listener)
                self.assertEqual(failed.exception.code, 3)
                self.assertIn(path, failed.exception.log)
                self.assertEqual(os.path.getsize(path), 8)
                self.assertFalse(os.path.lexists(self.path))
                os.unlink(path)

    def test_paths_are_gone_after_a_stop(self):
        listener = os.path.join(self.home, "sub.sock")
        relay = self.start_here(bind_addr="unix:" + listener)
        self.assertTrue(stat.S_ISSOCK(os.lstat(listener).st_mode))
        relay.stop()
        self.assertEqual(self.snapshot(), {})

    def test_a_path_that_is_no_longer_ours_is_not_removed(self):
        relay = self.start_here()
        os.unlink(self.path)
        with open(self.path, "w", encoding="ascii") as file:
            file.write("precious")
        relay.stop()
        self.assertEqual(os.path.getsize(self.path), 8)

    def test_bar_18_kill_9_and_start_again(self):
        """RELIABILITY bar 18: kills at random points under load: ready again < 1 s, socket path
        taken over, nothing left that refuses a start."""
        seed = int(os.environ.get("EVRELAY_TEST_SEED", random.randrange(2**32)))
        print(f"# seed {seed}")
        rng = random.Random(seed)
        # Beside other tests a second is not much.
        limit = patience(1 if SCALE > 1 else 10)
        slowest = 0.0
        relay = self.start_here(lua=RELAY_ALL)
        for _ in range(scaled(200)):
            self.load_and_kill(relay, rng)
            relay.wait()
            relay.close_peers()
            began = time.monotonic()
            relay = self.start_here(lua=RELAY_ALL)
            slowest = max(slowest, time.monotonic() - began)
            self.assertLess(slowest, limit)
        relay.producer().ping()
        relay.stop()
        print(f"# ready again after {slowest:.3f} s at most")
        # Of one that was killed in the middle of its start, its private directory may be left.
        for name in self.snapshot():
            self.assertRegex(name, r"^\.\w{6}$|^hook\.lua$")

    @staticmethod
    def load_and_kill(relay, rng):
        """Whatever it does, it is killed in the middle of that."""
        subscribers = relay.subscribers(5)
        producers = [relay.producer() for _ in range(2)]
        for producer in producers:
            producer.send(wire.data(b"x" * 1000) * 1000)
            producer.send(wire.list_frame("async_relay", "x") * 100)
        subscribers[0].send(wire.data(b"hello") * 1000)
        subscribers[1].paused = True
        relay.signal(rng.choice((0, 0, signal.SIGHUP, signal.SIGTERM)))
        target = rng.randrange(2_000_000)
        pump(
            [*subscribers, *producers],
            lambda: subscribers[2].taken >= target or subscribers[2].ended,
        )
        relay.process.kill()

    def test_bar_18_killed_in_the_middle_of_a_start(self):
        """RELIABILITY bar 18: at whatever call of its start it is killed, the next one works."""
        rng = random.Random()
        for _ in range(scaled(100)):
            relay = Relay({}, directory=self.home)
            at = time.monotonic() + rng.uniform(0, 0.02)
            pump([], lambda at=at: time.monotonic() > at)
            relay.process.kill()
            relay.wait()
            relay.clean_up()
        self.start_here().producer().ping()


class OwnerAndMode(RelayCase):
    def mode_of(self, path):
        return stat.S_IMODE(os.lstat(path).st_mode)

    def test_defaults(self):
        relay = self.start()
        self.assertEqual(self.mode_of(relay.producer_path), 0o660)
        self.assertEqual(self.mode_of(relay.control_path), 0o600)

    def test_modes_are_exact_whatever_the_umask_is(self):
        for umask in (0o000, 0o077, 0o777):
            with self.subTest(umask=oct(umask)):

                def with_umask(args, umask=umask, **keywords):
                    return subprocess.Popen(args, umask=umask, **keywords)

                relay = self.start(
                    producer={"mode": "0622"}, control={"mode": "0640"}, start=with_umask
                )
                self.assertEqual(self.mode_of(relay.producer_path), 0o622)
                self.assertEqual(self.mode_of(relay.control_path), 0o640)

    @unittest.skipUnless(IS_ROOT, "needs root to give files away")
    def test_user_and_group_by_name_and_number(self):
        nobody = pwd.getpwnam("nobody")
        for user, group in ((nobody.pw_name, 0), (nobody.pw_uid, nobody.pw_gid), (0, "daemon")):
            with self.subTest(user=user, group=group):
                relay = self.start(producer={"user": user, "group": group})
                info = os.lstat(relay.producer_path)
                self.assertEqual(info.st_uid, 0 if user == 0 else nobody.pw_uid)
                wanted = {0: 0, nobody.pw_gid: nobody.pw_gid}.get(group)
                if wanted is not None:
                    self.assertEqual(info.st_gid, wanted)
                else:
                    self.assertNotEqual(info.st_gid, 0)

    def test_bar_19_racing_openers_never_see_a_wider_mode(self):
        """RELIABILITY bar 19: the socket has its final mode whenever it is seen at its path."""
        home = self.directory()
        path = os.path.join(home, "producer.sock")
        seen, stop = set(), threading.Event()

        def look():
            while not stop.is_set():
                try:
                    seen.add(self.mode_of(path))
                except FileNotFoundError:
                    pass

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            for _ in range(scaled(200)):
                relay = self.start(directory=home, producer={"mode": "0600"})
                relay.stop()
        finally:
            stop.set()
            watcher.join()
        self.assertEqual(seen, {0o600})


class Addresses(RelayCase):
    def test_a_port_in_use_is_refused(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with self.assertRaises(StartFailed) as failed:
                self.start(bind_addr=f"127.0.0.1:{port}")
            self.assertEqual(failed.exception.code, 3, failed.exception.log)
            self.assertIn(f"127.0.0.1:{port}", failed.exception.log)

    def test_a_port_in_use_leaves_no_socket_behind(self):
        home = self.directory()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with self.assertRaises(StartFailed):
                self.start(directory=home, bind_addr=["127.0.0.1:0", f"127.0.0.1:{port}"])
        left = [name for name in os.listdir(home) if not name.endswith((".yaml", ".lock"))]
        self.assertEqual(left, [])

    def test_an_address_that_is_not_ours_is_refused(self):
        with self.assertRaises(StartFailed) as failed:
            self.start(bind_addr="192.0.2.1:8448")
        self.assertIn(failed.exception.code, (1, 3))
        self.assertIn("192.0.2.1:8448", failed.exception.log)

    def test_a_name_that_does_not_resolve_is_refused(self):
        with self.assertRaises(StartFailed) as failed:
            self.start(bind_addr="name.invalid:8448")
        self.assertIn(failed.exception.code, (1, 2))
        self.assertIn("name.invalid", failed.exception.log)

    def test_a_port_can_be_bound_again_at_once(self):
        relay = self.start()
        port = relay.port
        subscribers = relay.subscribers(5)
        relay.producer().relay(b"hello")
        for subscriber in subscribers:
            subscriber.expect(b"hello")
        relay.kill()
        again = self.start(bind_addr=f"127.0.0.1:{port}")
        self.assertEqual(again.port, port)
        again.subscriber()


if __name__ == "__main__":
    unittest.main()
