"""A running evrelay and its peers, for the black-box tests.

Relay starts `$EVRELAY -c FILE` in a directory of its own and talks to it like any user: TCP, the
producer socket, the control socket, signals, log. Subscriber and Producer are its peers; `pump`
moves their bytes. Nothing here waits for a fixed time: a wait ends with what it waits for, or fails
at a deadline.

Environment: EVRELAY (path of the binary), EVRELAY_TEST_SCALE (1: the short form, a twentieth of the
figures of the long one), EVRELAY_SANITIZED (1: absolute times and memory bars are relaxed),
EVRELAY_TEST_TLS (1: every listener that bind_addr names has TLS, and subscribers connect by it).
"""

import contextlib
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import hold
import tls
import wire

EVRELAY = os.environ.get("EVRELAY", "evrelay")
SCALE = float(os.environ.get("EVRELAY_TEST_SCALE", "1"))
SANITIZED = os.environ.get("EVRELAY_SANITIZED", "0") == "1"
OVER_TLS = os.environ.get("EVRELAY_TEST_TLS", "0") == "1"
IS_ROOT = os.geteuid() == 0
if shutil.which(EVRELAY) is None:
    raise RuntimeError("there is no evrelay to test: set EVRELAY to the path of the binary")

KIB = 1024
MIB = 1024 * KIB
READ_SIZE = 256 * KIB
LOG_LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z (debug|info|warn|error) \w+: .+"
)
DEFAULT = object()
# What one turn of the loop may take in beyond max_lag, the last frame not counted.
TURN_INTAKE = 256 * KIB


def scaled(long_figure):
    """The count for this run where the long form uses `long_figure`."""
    return max(1, int(long_figure / 20 * SCALE))


def patience(seconds):
    """A deadline in seconds, longer under sanitizers."""
    return seconds * 4 if SANITIZED else seconds


def plain_only(reason):
    """Marks a test or a class that makes no sense over TLS."""
    return unittest.skipIf(OVER_TLS, f"not over TLS: {reason}")


class Timeout(AssertionError):
    pass


class StartFailed(AssertionError):
    """evrelay ended instead of getting ready."""

    def __init__(self, code, log):
        super().__init__(f"evrelay ended with {code} at its start:\n{log}")
        self.code = code
        self.log = log


# --- peers ---------------------------------------------------------------------------------------


class Peer:
    """One connection, non-blocking; `pump` moves its bytes."""

    def __init__(self, sock):
        sock.setblocking(False)
        self.sock = sock
        self.channel = sock  # what sends and receives
        self.outgoing = bytearray()
        self.paused = False  # does not read
        # "eof" or "reset", once the other side has ended; over TLS also "cut", an end of the
        # connection without word, and "alert", a refusal; then `alert` says why.
        self.ended = None
        self.alert = None
        self.taken = 0  # bytes read

    @property
    def shaking(self):
        """Its TLS handshake has not ended yet."""
        return False

    def interest(self):
        if self.sock.fileno() < 0:
            return 0
        mask = 0
        if self._reads():
            mask |= select.EPOLLIN
        if self.outgoing and not self.shaking:
            mask |= select.EPOLLOUT
        return mask

    def move(self, events):
        if self.sock.fileno() < 0:
            return
        if events & (select.EPOLLOUT | select.EPOLLERR) and self.outgoing:
            self._write()
        if events & ~select.EPOLLOUT and self._reads():
            self._read()

    def send(self, payload):
        """Queues bytes as they are and writes what goes at once; `pump` writes the rest."""
        self.outgoing += payload
        self._write()

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.sock.close()

    def kill(self):
        """Closes with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def pump(self, done, timeout=30, what=""):
        pump([self], done, timeout, what)

    def flush(self, timeout=30):
        """Writes all that is queued."""
        self.pump(lambda: not self.outgoing, timeout, "what was sent is taken")

    def expect_end(self, how="eof", timeout=30):
        """Reads until the other side has ended; how: "eof", "reset" or None for either."""
        self.pump(lambda: self.ended is not None, timeout, "the other side ends")
        if how is not None and self.ended != how:
            raise AssertionError(f"ended with {self.ended}, not with {how}")

    def _reads(self):
        return self.ended is None and (self.shaking or not self.paused)

    def _write(self):
        try:
            with memoryview(self.outgoing) as view, view[:READ_SIZE] as piece:
                sent = self.channel.send(piece)
        except BlockingIOError:
            return
        except ConnectionError:
            self.outgoing.clear()
            return
        del self.outgoing[:sent]

    def _read(self):
        try:
            chunk = self.channel.recv(READ_SIZE)
        except BlockingIOError:
            return
        except ConnectionError:
            self.ended = "reset"
            return
        except tls.Cut:
            self.ended = "cut"
            return
        except ssl.SSLError as error:
            self.ended, self.alert = "alert", error
            return
        if not chunk:
            self.ended = "eof"
            return
        self.taken += len(chunk)
        self._take(chunk)


class Subscriber(Peer):
    """`events` are the payloads it got, decoded; with raw=True `stream` has the bytes instead.

    over: the ssl.SSLContext to connect with, or None for a plain connection."""

    def __init__(self, address, receive_buffer=None, raw=False, source=None, over=DEFAULT):
        super().__init__(connect(address, receive_buffer, source=source))
        if over is DEFAULT:
            over = tls.plain_context() if OVER_TLS else None
        self.tls = over and tls.Channel(self.sock, over)
        self.channel = self.tls or self.sock
        self.half_closing = False
        self.events = []
        self.stream = bytearray()
        self.decoder = wire.Decoder()
        self.raw = raw

    @property
    def shaking(self):
        return self.tls is not None and self.tls.shaking and self.ended is None

    def interest(self):
        mask = super().interest()
        if self.tls and self.tls.unsent and self.sock.fileno() >= 0:
            mask |= select.EPOLLOUT
        return mask

    def move(self, events):
        super().move(events)
        if self.tls and self.sock.fileno() >= 0:
            self._move_tls()

    def half_close(self):
        if self.tls:
            self.half_closing = True
            self._move_tls()
        else:
            super().half_close()

    def close(self):
        """By TLS it says so, if it can at once."""
        if self.tls and not self.tls.shaking and not self.ended and self.sock.fileno() >= 0:
            self.tls.end()
        super().close()

    def _move_tls(self):
        self.tls.flush()
        if self.half_closing and not self.outgoing:
            self.tls.end()

    def expect(self, *events, timeout=30):
        """The next events are exactly these; forgets them."""
        wanted = list(events)
        self.pump(
            lambda: len(self.events) >= len(wanted) or self.ended, timeout, f"{len(wanted)} events"
        )
        got, self.events = self.events[: len(wanted)], self.events[len(wanted) :]
        if got != wanted:
            raise AssertionError(f"expected {_brief(wanted)}, got {_brief(got)} ({self.ended})")

    def skip_to(self, event, timeout=30):
        """Reads until this event has come; forgets it and all before it."""
        self.pump(lambda: event in self.events or self.ended, timeout, f"the event {event[:60]}")
        if event not in self.events:
            raise AssertionError(f"{self.ended} before {_brief([event])}: {_brief(self.events)}")
        del self.events[: self.events.index(event) + 1]

    def _take(self, chunk):
        if self.raw:
            self.stream += chunk
            return
        for kind, payload in self.decoder.feed(chunk):
            if kind != wire.DATA:
                raise wire.WireError(f"a subscriber got a frame of type {kind!r}")
            self.events.append(payload)


class Producer(Peer):
    """`answers` are the list frames it got, each a list of byte strings."""

    def __init__(self, path, sock=None):
        super().__init__(sock or connect(path))
        self.answers = []
        self.decoder = wire.Decoder()

    def relay(self, *events, timeout=30):
        """Sends data frames and waits until they are written."""
        self.send(b"".join(wire.data(event) for event in events))
        self.flush(timeout)

    def request(self, *items, timeout=30):
        """One request and its answer. No other answer may be outstanding."""
        self.send(wire.list_frame(*items))
        return self.next_answer(timeout)

    def next_answer(self, timeout=30):
        self.pump(lambda: self.answers or self.ended, timeout, "an answer")
        if not self.answers:
            raise AssertionError(f"{self.ended} instead of an answer")
        return self.answers.pop(0)

    def suspend(self, verb, *items, timeout=30):
        """A request that is suspended; returns INDEX and LABEL, as they were written."""
        answer = self.request(verb, *items, timeout=timeout)
        if len(answer) != 3 or answer[0] != b"suspended":
            raise AssertionError(f"{verb} was answered {answer}")
        return tuple(answer[1:])

    def ping(self, timeout=30):
        """A barrier: everything sent before has been taken."""
        answer = self.request("ping", timeout=timeout)
        if answer != [b"ok"]:
            raise AssertionError(f"ping was answered {answer}")

    def _take(self, chunk):
        for kind, payload in self.decoder.feed(chunk):
            if kind != wire.LIST:
                raise wire.WireError(f"an answer of type {kind!r}")
            self.answers.append(wire.split_list(payload))


def pump(peers, done, timeout=30, what=""):
    """Moves bytes of `peers` (a list that may grow meanwhile) until done() is true."""
    deadline = time.monotonic() + patience(timeout)
    watched = {}  # peer -> (fd, mask)
    by_fd = {}
    with select.epoll() as epoll:
        while not done():
            for peer in peers:
                _watch(epoll, watched, by_fd, peer)
            left = deadline - time.monotonic()
            if left <= 0:
                raise Timeout(f"after {patience(timeout)} s still waiting: {what or 'pump'}")
            for fd, events in epoll.poll(min(left, 0.005)):
                by_fd[fd].move(events)


def _watch(epoll, watched, by_fd, peer):
    mask = peer.interest()
    fd, old = watched.get(peer, (-1, 0))
    if mask == old:
        return
    if peer.sock.fileno() < 0:  # closed: the kernel has forgotten it already
        watched.pop(peer)
        return
    if not old:
        epoll.register(peer.sock, mask)
    elif not mask:
        epoll.unregister(fd)
    else:
        epoll.modify(fd, mask)
    fd = peer.sock.fileno()
    watched[peer] = (fd, mask)
    by_fd[fd] = peer


def connect(address, receive_buffer=None, timeout=30, source=None):
    """A connected socket; address: (host, port) or the path of a Unix socket; source: the host to
    come from."""
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
    else:
        sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(patience(timeout))
    try:
        if source is not None:
            sock.bind((source, 0))
        sock.connect(address)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        sock.close()
        raise
    return sock


def parse_address(text):
    """An address as status and log write it, as `connect` takes it."""
    if text.startswith("unix:"):
        return text.removeprefix("unix:")
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _brief(items):
    shown = [item if len(item) <= 60 else item[:60] + b"..." for item in items[:8]]
    return f"{len(items)} {shown}"


# --- the daemon ----------------------------------------------------------------------------------


class Relay:
    """One evrelay process. Use RelayCase.start, which also stops it and shows its log."""

    def __init__(
        self, config=None, *, args=(), env=None, directory=None, start=None, path=None, lua=None
    ):
        """config: keys as in the YAML file; what is not given there is set for a test.

        lua: the text of a script, which is written beside the file.
        start: how to start the argument list, instead of subprocess.Popen; takes its keywords.
        path: of the producer socket, where the file is not to say it.
        """
        self.own_directory = directory is None
        self.directory = directory or tempfile.mkdtemp(prefix="evrelay-")
        os.chmod(self.directory, 0o755)
        self.config = {"bind_addr": "127.0.0.1:0", **(config or {})}
        if path is None:
            path = os.path.join(self.directory, "producer.sock")
            self.config["producer"] = {"socket": path, **self.config.get("producer", {})}
            path = self.config["producer"]["socket"]
        self.file = os.path.join(self.directory, "evrelay.yaml")
        self.script = os.path.join(self.directory, "hook.lua")
        if lua is not None:
            self.write_script(lua)
            self.config["script"] = self.script
        self.write_config()
        self.producer_path = path
        self.control_path = self.config.get("control", {}).get(
            "socket", os.path.join(os.path.dirname(self.producer_path), "control.sock")
        )
        self.peers = []
        self._control = None
        self._log = bytearray()
        self._log_grew = threading.Condition()
        self._log_ended = False
        self.process = (start or subprocess.Popen)(
            [EVRELAY, "-c", self.file, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        self._collector = threading.Thread(target=self._collect_log, daemon=True)
        self._collector.start()

    # Life

    def write_config(self, text=None, **changes):
        """Writes the file anew, with top-level keys changed (None: left out); a reload reads it."""
        for key, value in changes.items():
            old = self.config.get(key)
            self.config[key] = {**old, **value} if isinstance(old, dict) else value
        with open(self.file, "w", encoding="utf-8") as file:
            given = {key: value for key, value in self.config.items() if value is not None}
            if OVER_TLS and "bind_addr" in given:
                given["bind_addr"] = _with_tls(given["bind_addr"])
            file.write(text if text is not None else to_yaml(given))

    def write_script(self, lua):
        with open(self.script, "w", encoding="utf-8") as file:
            file.write(lua)

    def reload(self, expect="reload: done", lua=None, **changes):
        """Changes file and script, signals, and returns the log from the signal to the expected
        line."""
        start = len(self.log)
        if lua is not None:
            self.write_script(lua)
            changes.setdefault("script", self.script)
        self.write_config(**changes)
        self.signal(signal.SIGHUP)
        self.wait_log(expect, start=start)
        return self.log[start:]

    def wait_ready(self, timeout=30):
        """Returns when the control socket answers; raises StartFailed when the process ends."""
        deadline = time.monotonic() + patience(timeout)
        while True:
            try:
                status = self.status()
                if status["pid"] == self.pid:  # not another one, at the same path
                    self.addresses = [parse_address(text) for text in status["listen"]]
                    return self
            except OSError:
                pass
            self._drop_control()
            if self.process.poll() is not None:
                self._collector.join()
                raise StartFailed(self.process.returncode, self.log)
            if time.monotonic() > deadline:
                raise Timeout(f"evrelay is not ready:\n{self.log}")
            with self._log_grew:
                self._log_grew.wait(0.005)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=30):
        """The exit code."""
        try:
            code = self.process.wait(patience(timeout))
        except subprocess.TimeoutExpired:
            raise Timeout(f"evrelay still runs after {patience(timeout)} s") from None
        self._collector.join()
        return code

    def stop(self, timeout=12):
        """Checks the books, lets the peers go, stops evrelay and expects exit code 0."""
        self.check_balance(self.wait_handled())
        self.close_peers()
        # Requests end with their producers.
        self.check_balance(self.wait_status(lambda s: s["async"]["waiting"] == 0, "none waits"))
        self._drop_control()
        self.signal(signal.SIGTERM)
        code = self.wait(timeout)
        self.check_log()
        if code != 0:
            raise AssertionError(f"evrelay ended with {code}")

    def kill(self):
        self.process.kill()
        return self.wait()

    def close_peers(self):
        for peer in self.peers:
            peer.close()
        self._drop_control()

    def clean_up(self):
        """Ends the process whatever its state and removes the directory."""
        self.close_peers()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._collector.join()
        self.process.stderr.close()
        if self.own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    # Peers

    @property
    def address(self):
        """Where subscribers connect, as `connect` takes it."""
        return self.addresses[0]

    @property
    def port(self):
        return self.address[1]

    def subscriber(self, address=None, *, wait=True, **keywords):
        """A connected subscriber; wait: return only when evrelay has accepted it."""
        return self.subscribers(1, address, wait=wait, **keywords)[0]

    def subscribers(self, count, address=None, *, wait=True, **keywords):
        """keywords: as Subscriber takes them."""
        accepted = self.status()["subscribers"]["accepted"] if wait else 0
        new = []
        for _ in range(count):
            peer = Subscriber(address or self.address, **keywords)
            new.append(self._peer(peer))
            if wait:  # one after the other, so that they are accepted in this order
                peer.pump(lambda peer=peer: not peer.shaking)
        if wait:
            self.wait_status(
                lambda s: s["subscribers"]["accepted"] >= accepted + count, f"{count} accepted"
            )
        return new

    @property
    def sub_arguments(self):
        """How `evrelay sub` finds its way to the first listener."""
        host, port = self.address
        arguments = [f"{host}:{port}"]
        return [*arguments, "--tls", "--ca", tls.server().ca] if OVER_TLS else arguments

    def producer(self):
        return self._peer(Producer(self.producer_path))

    def adopt(self, sock):
        """A producer over a socket that somebody else connected."""
        return self._peer(Producer(None, sock))

    def _peer(self, peer):
        self.peers.append(peer)
        return peer

    # What it says

    def control(self, *items, timeout=30):
        """One request over the control socket, and its answer."""
        if self._control is None:
            self._control = Producer(self.control_path)
        try:
            return self._control.request(*items, timeout=timeout)
        except AssertionError:
            self._drop_control()
            raise

    def status(self):
        answer = self.control("status")
        if answer[0] != b"ok" or len(answer) != 2:
            raise AssertionError(f"status was answered {answer}")
        return json.loads(answer[1])

    def wait_status(self, condition, what, timeout=30, peers=()):
        """Asks for the status until condition(status) holds, moving `peers` meanwhile."""
        deadline = time.monotonic() + patience(timeout)
        while True:
            status = self.status()
            if condition(status):
                return status
            if time.monotonic() > deadline:
                raise Timeout(f"{what}: still not so in {json.dumps(status)}")
            turn = time.monotonic() + 0.002
            shaking = [peer for peer in self.peers if peer.shaking and peer not in peers]
            pump([*peers, *shaking, self._control], lambda: time.monotonic() > turn)

    def wait_handled(self, timeout=30, peers=()):
        """Waits until every connection has been admitted and every message that was received is
        handled or dropped; returns the status then. More than were received is never right."""

        def handled(status):
            messages = status["messages"]
            done = messages["handled"] + sum(messages["dropped"].values())
            if done > messages["received"]:
                raise AssertionError(f"more than were received: {json.dumps(messages)}")
            return done == messages["received"] and status["subscribers"]["admitting"] == 0

        return self.wait_status(handled, "all is handled", timeout, peers)

    def turn(self):
        """A barrier: the loop has gone round at least once since the call."""
        self.status()
        self.status()

    @property
    def log(self):
        with self._log_grew:
            return bytes(self._log).decode("utf-8", "backslashreplace")

    @property
    def log_lines(self):
        return self.log.splitlines()

    def wait_log(self, pattern, timeout=30, start=0):
        """Returns the match of `pattern` in the log from `start` (a character index) on."""
        deadline = time.monotonic() + patience(timeout)
        while True:
            match = re.compile(pattern, re.MULTILINE).search(self.log, start)
            if match:
                return match
            left = deadline - time.monotonic()
            if left <= 0 or (self._log_ended and self.process.poll() is not None):
                raise Timeout(f"the log has no {pattern!r}:\n{self.log[start:]}")
            with self._log_grew:
                self._log_grew.wait(min(left, 0.05))

    # Checks

    def check_balance(self, status=None):
        """RELIABILITY bar 5: what was due, received or suspended has come to one of its ends, or
        is still on its way, exactly."""
        status = status or self.status()
        for group, whole, parts in (
            ("deliveries", "due", "written queued dropped"),
            ("messages", "received", "handled unhandled dropped"),
            ("async", "suspended", "waiting resumed expired drained abandoned"),
        ):
            book = status[group]
            figures = [book[part] for part in parts.split()]
            if book[whole] != sum(sum(f.values()) if isinstance(f, dict) else f for f in figures):
                raise AssertionError(f"the books do not balance: {group}: {json.dumps(book)}")

    def check_log(self):
        """Every line has the one format. What a sanitizer says has not."""
        for line in self.log_lines:
            if not LOG_LINE.fullmatch(line):
                raise AssertionError(f"not a line of the log: {line}")

    # The process

    @property
    def pid(self):
        return self.process.pid

    def rss(self):
        """Resident bytes, exactly (the sums in /proc/PID/status are approximate)."""
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as file:
            return int(re.search(r"^Rss:\s+(\d+) kB", file.read(), re.MULTILINE)[1]) * KIB

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def threads(self):
        return os.listdir(f"/proc/{self.pid}/task")

    def worker_thread(self, index):
        """The thread of a worker; there is none before there has been a script. It gives itself its
        name when it first runs."""
        deadline = time.monotonic() + patience(10)
        while time.monotonic() < deadline:
            for thread in self.threads():
                with open(f"/proc/{self.pid}/task/{thread}/comm", encoding="ascii") as file:
                    if file.read().strip() == f"evrelay-hook/{index}":
                        return int(thread)
            self.status()
        raise AssertionError(f"there is no worker {index}")

    @contextlib.contextmanager
    def worker_held(self, index):
        """Worker `index`, idle now, stands still meanwhile; everybody else goes on."""
        self.wait_handled()
        with hold.held(self.pid, self.worker_thread(index)):
            yield

    def open_files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def limit_files(self, count):
        """Changes the running process's limit of open files."""
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (count, count))

    def _collect_log(self):
        while True:
            chunk = os.read(self.process.stderr.fileno(), READ_SIZE)
            with self._log_grew:
                self._log += chunk
                self._log_ended = not chunk
                self._log_grew.notify_all()
            if not chunk:
                return

    def _drop_control(self):
        if self._control is not None:
            self._control.close()
            self._control = None


def _with_tls(listeners):
    """The same with TLS wherever there is none yet."""
    if isinstance(listeners, list):
        return [_with_tls(listener) for listener in listeners]
    listener = listeners if isinstance(listeners, dict) else {"addr": listeners}
    own = tls.server()
    return {"tls": {"cert": own.cert, "key": own.key}, **listener}


def to_yaml(value, indent=""):
    """The block form of nested dicts; lists and what is in them in flow form."""
    lines = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines.append(f"{indent}{key}:\n{to_yaml(item, indent + '  ')}")
        else:
            lines.append(f"{indent}{key}: {_scalar(item)}\n")
    return "".join(lines)


def _scalar(value):
    if isinstance(value, str) and re.fullmatch(r"(?=.*[A-Za-z/])[\w./-]+", value):
        return value
    return json.dumps(value)


# --- test cases ----------------------------------------------------------------------------------


class RelayCase(unittest.TestCase):
    """A test with daemons: stops them at its end, and shows their logs when it has failed."""

    maxDiff = 2000

    def start(
        self, *, args=(), env=None, directory=None, start=None, path=None, lua=None, **config
    ):
        """Starts evrelay with these configuration keys and returns it when it is ready."""
        relay = Relay(
            config, args=args, env=env, directory=directory, start=start, path=path, lua=lua
        )
        self._relays.append(relay)
        self.addCleanup(relay.clean_up)
        relay.wait_ready()
        self.addCleanup(self._stop, relay)
        return relay

    def directory(self):
        """A directory that is removed at the end."""
        path = tempfile.mkdtemp(prefix="evrelay-")
        os.chmod(path, 0o755)
        self.addCleanup(shutil.rmtree, path, ignore_errors=True)
        return path

    def run(self, result=None):
        self._relays = []
        watch = _Watch(result if result is not None else self.defaultTestResult())
        super().run(watch)
        if watch.failed:
            for relay in self._relays:
                print(f"--- log of evrelay in {self.id()}\n{relay.log}---", file=sys.stderr)
        return result

    @staticmethod
    def _stop(relay):
        if relay.process.poll() is None:
            relay.stop()


class _Watch:
    """A test result that remembers whether this one test has failed."""

    def __init__(self, result):
        self._result = result
        self.failed = False

    def __getattr__(self, name):
        return getattr(self._result, name)

    def addError(self, test, err):
        self.failed = True
        self._result.addError(test, err)

    def addFailure(self, test, err):
        self.failed = True
        self._result.addFailure(test, err)

    def addSubTest(self, test, subtest, err):
        self.failed = self.failed or err is not None
        self._result.addSubTest(test, subtest, err)


def evrelay(*args, stdin=b"", timeout=20, env=None, **keywords):
    """Runs the binary to its end; the result has returncode, stdout, stderr as text."""
    done = subprocess.run(
        [EVRELAY, *args],
        input=stdin,
        capture_output=True,
        timeout=patience(timeout),
        env={**os.environ, **(env or {})},
        check=False,
        **keywords,
    )
    done.stdout = done.stdout.decode("utf-8", "backslashreplace")
    done.stderr = done.stderr.decode("utf-8", "backslashreplace")
    return done


def connect_as(path, uid, gid, groups=()):
    """A socket connected to the Unix socket `path` by a process of another user. Needs root."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups(list(groups))
            os.setgid(gid)
            os.setuid(uid)
            sock = connect(path)
            socket.send_fds(theirs, [b"x"], [sock.fileno()])
            code = 0
        finally:
            os._exit(code)
    theirs.close()
    with ours:
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    _, status = os.waitpid(child, 0)
    if not fds:
        raise PermissionError(f"uid {uid} could not connect ({status})")
    return socket.socket(fileno=fds[0])
