"""systemd: readiness over NOTIFY_SOCKET, and sockets passed in by name."""

import configparser
import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest

from activation import HAS_SYSTEMD, Activation, tcp_listener
from relay import (
    EVRELAY,
    KIB,
    Relay,
    RelayCase,
    StartFailed,
    Subscriber,
    parse_address,
    patience,
    plain_only,
    scaled,
)

UNITS = pathlib.Path(__file__).resolve().parents[2] / "systemd"


class Supervised(RelayCase):
    """The test holds the socket that the relay tells of its state."""

    def setUp(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.path = os.path.join(self.directory(), "notify.sock")
        self.socket.bind(self.path)
        self.socket.settimeout(patience(10))

    def expect(self, assignment):
        """Reads messages until one has this line; returns all lines on the way."""
        lines = []
        deadline = time.monotonic() + patience(10)
        while assignment not in lines:
            # The watchdog may be fed all the while.
            self.assertLess(time.monotonic(), deadline, f"no {assignment} in {lines}")
            lines += self.socket.recv(64 * KIB).decode().splitlines()
        return lines


class Notify(Supervised):
    def test_ready_and_stopping(self):
        relay = self.start(env={"NOTIFY_SOCKET": self.path})
        self.expect("READY=1")
        relay.signal(signal.SIGTERM)
        self.assertNotIn("READY=1", self.expect("STOPPING=1"))
        self.assertEqual(relay.wait(), 0)

    def test_ready_comes_when_every_socket_is_open(self):
        relay = Relay(env={"NOTIFY_SOCKET": self.path})
        self._relays.append(relay)
        self.addCleanup(relay.clean_up)
        self.expect("READY=1")
        # No patience here: what is not open now has been announced too early.
        relay.producer().ping()
        Subscriber(parse_address(relay.status()["listen"][0])).close()
        relay.stop()

    def test_an_abstract_address(self):
        name = f"evrelay-test-{os.getpid()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract:
            abstract.bind("\0" + name)
            abstract.settimeout(patience(10))
            self.start(env={"NOTIFY_SOCKET": "@" + name})
            self.assertIn("READY=1", abstract.recv(64 * KIB).decode())

    def test_status_has_counts(self):
        self.start(env={"NOTIFY_SOCKET": self.path})
        while True:
            lines = self.socket.recv(64 * KIB).decode().splitlines()
            told = [line for line in lines if line.startswith("STATUS=")]
            if told:
                break
        self.assertRegex(told[0], r"0 subscribers")

    def test_a_reload_is_told(self):
        relay = self.start(env={"NOTIFY_SOCKET": self.path})
        self.expect("READY=1")
        relay.signal(signal.SIGHUP)
        self.expect("RELOADING=1")
        self.expect("READY=1")

    def test_nobody_listens_at_the_notify_socket(self):
        self.socket.close()
        relay = self.start(env={"NOTIFY_SOCKET": self.path})
        relay.producer().ping()

    def test_a_full_notify_socket_does_not_block(self):
        """A supervisor that never reads: start, reloads and stop go on."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
            full.setblocking(False)
            try:
                while True:
                    full.sendto(b"x", self.path)
            except BlockingIOError:
                pass
        relay = self.start(env={"NOTIFY_SOCKET": self.path})
        relay.producer().ping()

    @unittest.skipUnless(HAS_SYSTEMD, "built without libsystemd")
    def test_the_watchdog_is_fed(self):
        self.start(env={"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "200000"})
        self.expect("READY=1")
        for _ in range(5):
            self.expect("WATCHDOG=1")


def unix_listener(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen(1000)
    return sock


def service(program, config_folder):
    """evrelay.service as it is installed."""
    text = (UNITS / "evrelay.service.in").read_text(encoding="utf-8")
    text = text.replace("@bindir@/evrelay", program).replace("@configdir@", config_folder)
    assert "dir@" not in text, text
    return text


class Units(RelayCase):
    def installed(self):
        """The units as they are installed, in a folder of their own."""
        folder = pathlib.Path(self.directory())
        for unit in UNITS.glob("*.socket"):
            shutil.copy(unit, folder)
        text = service("/usr/bin/evrelay", "/etc/evrelay")
        (folder / "evrelay.service").write_text(text, encoding="utf-8")
        return folder

    def test_the_sockets_have_the_names_that_the_relay_looks_for(self):
        units = {}
        for path in UNITS.glob("*.socket"):
            unit = configparser.ConfigParser(interpolation=None)
            unit.optionxform = str
            unit.read(path)
            units[unit["Socket"]["FileDescriptorName"]] = dict(unit["Socket"])
        self.assertEqual(set(units), {"subscriber", "producer"})
        self.assertEqual(units["subscriber"]["ListenStream"], "127.0.0.1:8448")
        self.assertEqual(units["producer"]["ListenStream"], "/run/evrelay/producer.sock")
        self.assertEqual(units["producer"]["SocketMode"], "0660")
        self.assertEqual(units["producer"]["Service"], "evrelay.service")

    @unittest.skipIf(shutil.which("systemd-analyze") is None, "there is no systemd-analyze")
    def test_bar_21_the_sandbox_is_tight(self):
        """RELIABILITY bar 21: an exposure of at most 1.5 (that of a bare unit is 9.6)."""
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15",
             str(self.installed() / "evrelay.service")],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=patience(20),
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout)


@unittest.skipUnless(HAS_SYSTEMD, "built without libsystemd")
class Service(Supervised):
    """The commands of evrelay.service as they stand there, in the order in which systemd runs them.
    (`./dev deb --check` has systemd itself do it.)"""

    def setUp(self):
        super().setUp()
        self.home = self.directory()
        self.run_folder = os.path.join(self.home, "run")
        os.mkdir(self.run_folder)
        self.unit = {}
        for line in service(os.path.abspath(EVRELAY), self.home).splitlines():
            key, is_setting, value = line.partition("=")
            if is_setting and not line.startswith("#"):
                self.unit.setdefault(key, []).append(value)

    def commands(self, key, pid=None):
        return [shlex.split(line.replace("$MAINPID", str(pid))) for line in self.unit[key]]

    def exit_codes(self, commands):
        return [
            subprocess.run(
                command, timeout=patience(20), check=False,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ).returncode
            for command in commands
        ]

    def start_service(self, activation=None, **config):
        """evrelay, started by ExecStart; the socket is where RuntimeDirectory says."""
        self.assertEqual(self.unit["RuntimeDirectory"], ["evrelay"])
        (command,) = self.commands("ExecStart")

        def start(args, **keywords):
            self.assertEqual(self.exit_codes(self.commands("ExecStartPre")), [0])
            popen = activation.start if activation else subprocess.Popen
            return popen(command, cwd="/", umask=int(self.unit["UMask"][0], 8), **keywords)

        return self.start(
            directory=self.home, path=os.path.join(self.run_folder, "producer.sock"), start=start,
            env={
                "RUNTIME_DIRECTORY": self.run_folder,
                "NOTIFY_SOCKET": self.path,
                "WATCHDOG_USEC": "200000",
            },
            **config,
        )

    def test_it_runs(self):
        self.assertEqual(self.unit["Type"], ["notify"])
        relay = self.start_service()
        self.expect("READY=1")
        self.expect("WATCHDOG=1")
        subscriber = relay.subscriber()
        relay.producer().relay(b"hello")
        subscriber.expect(b"hello")
        relay.signal(signal.SIGTERM)
        self.expect("STOPPING=1")
        self.assertEqual(relay.wait(), 0)
        # The default of drain is 10 s.
        self.assertGreater(int(self.unit["TimeoutStopSec"][0]), 10)

    @plain_only("where the file names TLS, it must name the sockets")
    def test_it_runs_on_sockets_of_the_supervisor(self):
        tcp = tcp_listener()
        held = unix_listener(os.path.join(self.run_folder, "producer.sock"))
        relay = self.start_service(Activation(self, [("producer", held), ("subscriber", tcp)]))
        self.expect("READY=1")
        self.assertEqual(relay.addresses, [tcp.getsockname()])
        relay.producer().ping()

    def test_it_reloads(self):
        relay = self.start_service()
        self.expect("READY=1")
        reload = self.commands("ExecReload", relay.pid)
        self.assertEqual(self.exit_codes(reload), [0, 0])
        self.expect("RELOADING=1")
        self.expect("READY=1")
        relay.write_config(workers="many")
        self.assertEqual(self.exit_codes(reload[:1]), [2])

    def test_a_bad_configuration_is_not_tried_again(self):
        with open(os.path.join(self.home, "evrelay.yaml"), "w", encoding="utf-8") as file:
            file.write("workers: many\n")
        codes = self.exit_codes(self.commands("ExecStartPre") + self.commands("ExecStart"))
        self.assertEqual(codes, [2, 2])
        self.assertEqual(self.unit["RestartPreventExitStatus"], ["2"])


@unittest.skipUnless(HAS_SYSTEMD, "built without libsystemd")
class SocketActivation(RelayCase):
    def setUp(self):
        self.home = self.directory()
        self.path = os.path.join(self.home, "producer.sock")

    @plain_only("where the file names TLS, it must name the sockets")
    def test_both_ports_by_name(self):
        tcp = tcp_listener()
        activation = Activation(
            self, [("producer", unix_listener(self.path)), ("subscriber", tcp)]
        )
        relay = self.start(
            directory=self.home, start=activation.start, bind_addr="127.0.0.1:1"
        )
        self.assertEqual(relay.addresses, [tcp.getsockname()])
        subscriber = relay.subscriber()
        producer = relay.producer()
        self.assertEqual(producer.request("relay", "hello"), [b"ok", b"1"])
        subscriber.expect(b"hello")
        relay.stop()
        # It is the supervisor's: the path stays, and the sockets still listen.
        self.assertTrue(os.path.exists(self.path))
        subscriber = Subscriber(tcp.getsockname())
        self.addCleanup(subscriber.close)

    @plain_only("where the file names TLS, it must name the sockets")
    def test_several_subscriber_sockets_and_an_own_producer_socket(self):
        sockets = [("subscriber", tcp_listener()), ("subscriber", tcp_listener())]
        relay = self.start(start=Activation(self, sockets).start)
        self.assertEqual(relay.addresses, [sock.getsockname() for _, sock in sockets])
        subscribers = [relay.subscriber(address) for address in relay.addresses]
        relay.producer().relay(b"hello")
        for subscriber in subscribers:
            subscriber.expect(b"hello")

    def test_only_a_producer_socket(self):
        activation = Activation(self, [("producer", unix_listener(self.path))])
        relay = self.start(directory=self.home, start=activation.start)
        subscriber = relay.subscriber()
        relay.producer().relay(b"hello")
        subscriber.expect(b"hello")

    def test_sockets_that_have_no_use_are_refused(self):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        for name, sock in (
            ("http", tcp_listener()),
            ("producer", tcp_listener()),
            ("subscriber", udp),
        ):
            with self.subTest(name):
                with self.assertRaises(StartFailed) as failed:
                    self.start(start=Activation(self, [(name, sock)]).start)
                self.assertIn(failed.exception.code, (1, 2, 3))
                self.assertIn(name, failed.exception.log)

    def test_the_environment_of_somebody_else_is_ignored(self):
        relay = self.start(env={"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "producer"})
        relay.producer().ping()

    @plain_only("where the file names TLS, it must name the sockets")
    def test_bar_16_a_restart_refuses_nobody(self):
        """RELIABILITY bar 16: restarts by a supervisor that holds the sockets: 0 refused."""
        tcp = tcp_listener()
        activation = Activation(
            self, [("producer", unix_listener(self.path)), ("subscriber", tcp)]
        )
        refused, connected, stop = [], [0], threading.Event()

        def connect_again_and_again():
            while not stop.is_set():
                try:
                    with socket.create_connection(tcp.getsockname(), patience(10)) as sock:
                        connected[0] += 1
                        sock.shutdown(socket.SHUT_WR)
                        sock.recv(1)  # waits for its turn: EOF, or a reset at a stop
                except ConnectionRefusedError as error:
                    refused.append(error)
                except ConnectionError:
                    pass

        clients = threading.Thread(target=connect_again_and_again)
        clients.start()
        try:
            for _ in range(scaled(400)):
                relay = self.start(directory=self.home, start=activation.start)
                relay.wait_status(lambda s: s["subscribers"]["accepted"] > 0, "somebody came")
                relay.stop()
        finally:
            # The last one waits in the backlog for a relay that serves it.
            stop.set()
            relay = self.start(directory=self.home, start=activation.start)
            clients.join(patience(10))
        self.assertFalse(clients.is_alive())
        self.assertEqual(refused, [])
        self.assertGreaterEqual(connected[0], scaled(400))


if __name__ == "__main__":
    unittest.main()
