"""The servers that evrelay is compared with, with their best settings (README.md tells why these).

Their programs are Debian's: unpacked in build/peers, where `./dev bench peers` puts them, or
installed. None is ever run as a service.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse

from servers import PATIENCE, BenchError, Child, Server, free_port, is_listening

UNPACKED = pathlib.Path(__file__).resolve().parents[2] / "build/peers"


def short_window(size):
    """For a server that treats each event alone: more would only be waited for at the end."""
    return max(32 * 1024 - 1, 4 * (size + 16))


class Peer(Server):
    """What the servers have in common. A subclass has a name, and writes the configuration.
    Producers come over a Unix socket, unless it says otherwise."""

    package = None     # Debian's name of it
    program = None
    stop_signal = signal.SIGTERM
    greets = True

    def __init__(self, folder, clients=15000, tuned=True):
        """`clients`: how many may be connected. Not `tuned`, it has the bounds that it has by
        default; otherwise as much as possible is kept for a subscriber that does not read."""
        self._folder = folder
        self._clients = clients
        self._tuned = tuned
        self._config = folder / f"{self.package}.conf"
        self.producer = folder / f"{self.package}.sock"

    @classmethod
    def find_program(cls):
        """Its path, or None."""
        installed = os.environ.get("PATH", "") + ":/usr/sbin"
        return shutil.which(cls.program, path=f"{UNPACKED}/usr/bin:{UNPACKED}/usr/sbin:{installed}")

    def environment(self):
        """With the libraries that were unpacked too."""
        libraries = ":".join(map(str, UNPACKED.glob("usr/lib/*-linux-gnu*")))
        return os.environ | {"LD_LIBRARY_PATH": libraries}

    @classmethod
    def missing(cls):
        """Why it cannot be measured, or None."""
        return "it is not installed" if cls.find_program() is None else None

    @classmethod
    def version(cls):
        """That of the Debian package."""
        for package in UNPACKED.glob(f"packages/*/{cls.package}_*.deb"):
            return urllib.parse.unquote(package.name.split("_")[1])
        try:
            return subprocess.run(["dpkg-query", "-W", "-f", "${Version}", cls.package],
                                  timeout=PATIENCE, capture_output=True, text=True,
                                  check=True).stdout
        except (FileNotFoundError, subprocess.CalledProcessError):
            return "of another origin than Debian"

    @staticmethod
    def window(_size):
        """How many bytes the producer may be ahead, if that is a matter of the server."""
        return None

    def start(self):
        self.port = free_port(socket.SOCK_STREAM)
        self._config.write_text(self.configuration())
        # It ends with us, whatever becomes of us; in its own group it can be ended as a whole.
        self.child = Child(
            ["setpriv", "--pdeathsig", "TERM", self.find_program(), *self.arguments()],
            self.package, group=True, environment=self.environment())
        deadline = time.monotonic() + PATIENCE
        while not is_listening(self.port):
            if time.monotonic() > deadline:
                raise BenchError(f"{self.package}: does not listen")
            self.child.stay_alive(0.01)

    def await_subscribers(self, _count):
        """They have heard the answer to their greeting."""

    def stop(self):
        code = self.child.end(self.stop_signal)
        if code != 0:
            raise BenchError(f"{self.package}: ended with {code}: {self.child.last_error()}")


class Nats(Peer):
    package = program = "nats-server"
    stop_signal = signal.SIGINT  # after the other one its exit code is 1
    options = {"dialect": "nats"}

    def start(self):
        super().start()
        self.producer = self.port

    def environment(self):
        # The memory of garbage may grow to nine times what is in use, instead of twice.
        return super().environment() | ({"GOGC": "800"} if self._tuned else {})

    def arguments(self):
        return ["-c", self._config]

    def configuration(self):
        limits = "max_pending: 1GB\nwrite_deadline: \"60s\"\n" if self._tuned else ""
        return (f"listen: 127.0.0.1:{self.port}\n"
                f"max_connections: {self._clients}\n"
                "log_file: /dev/null\n" + limits)


class Redis(Peer):
    package = program = "redis-server"
    options = {"dialect": "redis"}

    def arguments(self):
        return [self._config]

    def configuration(self):
        limits = "client-output-buffer-limit pubsub 0 0 0\n" if self._tuned else ""
        return (f"bind 127.0.0.1\nprotected-mode no\nport {self.port}\n"
                f"unixsocket {self.producer}\n"
                f"dir {self._folder}\n"
                f"maxclients {self._clients}\n"
                "tcp-backlog 4096\n"
                'save ""\nappendonly no\n'
                "logfile /dev/null\n" + limits)


class Mosquitto(Peer):
    package = program = "mosquitto"
    options = {"dialect": "mqtt"}

    @staticmethod
    def window(size):
        return short_window(size)

    def arguments(self):
        return ["-c", self._config]

    def configuration(self):
        limits = "max_queued_messages 0\n" if self._tuned else ""
        self.producer.unlink(missing_ok=True)
        # As root it would become another user, who cannot use this folder.
        return (f"user root\n"
                f"listener {self.port} 127.0.0.1\n"
                f"listener 0 {self.producer}\n"
                "allow_anonymous true\n"
                "persistence false\n"
                "set_tcp_nodelay true\n"
                "sys_interval 0\n"
                "connection_messages false\n"
                "log_dest none\n" + limits)


class Kamailio(Peer):
    """Kamailio with its module evapi, of which nothing but the event routes is used.

    One process of each kind, no log. `workers` changes nothing in 5.6, whose one dispatcher runs
    the event routes itself; later versions hand them to the workers, which look for work now and
    then, unless there are none.
    """

    # Greets whoever comes, and passes each message on to all.
    RELAY_ROUTES = """
event_route[evapi:connection-new] {
  evapi_set_tag("new");
  evapi_unicast("ok", "new");
  evapi_set_tag("old");
}
event_route[evapi:message-received] { evapi_relay("$evapi(msg)"); }
"""

    package = program = "kamailio"
    options = {"dialect": "kamailio", "messages": True}

    def __init__(self, folder, clients=100, tuned=True, routes=RELAY_ROUTES):
        super().__init__(folder, clients, tuned)
        self.producer = None
        self._routes = routes

    @classmethod
    def missing(cls):
        if super().missing() is not None:
            return super().missing()
        try:
            cls._module_folder()
        except StopIteration:
            return "it has no module evapi"
        return None

    @staticmethod
    def window(size):
        """What it reads at once: so no read ends inside a header."""
        return short_window(size)

    @staticmethod
    def _module_folder():
        """That of the module, which may not be where the program looks for it."""
        roots = (UNPACKED, pathlib.Path("/"))
        return next(path.parent for root in roots
                    for path in root.glob("usr/lib/*/kamailio/modules/evapi.so"))

    def arguments(self):
        return ["-DD", "-E", "-f", self._config, "-L", self._module_folder(), "-Y", self._folder,
                "-m", 64, "-M", 8]

    def configuration(self):
        return (
            "#!KAMAILIO\n"
            "debug=-1\n"
            "log_stderror=yes\n"
            "children=1\n"
            "disable_tcp=yes\n"
            "pv_buffer_size=65536\n"
            f"listen=udp:127.0.0.1:{free_port(socket.SOCK_DGRAM)}\n"
            'loadmodule "pv.so"\n'
            'loadmodule "evapi.so"\n'
            f'modparam("evapi", "bind_addr", "127.0.0.1:{self.port}")\n'
            'modparam("evapi", "workers", 0)\n'
            f'modparam("evapi", "max_clients", {self._clients})\n'
            "request_route { drop; }\n" + self._routes)


PEERS = {"nats": Nats, "redis": Redis, "mosquitto": Mosquitto, "kamailio": Kamailio}
