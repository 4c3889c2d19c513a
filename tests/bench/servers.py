"""The servers that are measured, and the load that measures them.

Each is a child process that lives for one run: `with` starts it and ends it. A server is ready when
`await_subscribers` returns, and a run begins with `go`. What goes wrong is a BenchError.
"""

import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import time

PATIENCE = 60  # seconds until a process that should have answered is given up


class BenchError(Exception):
    """A run that gives no figure: a lost event, a server that fell over, a child that hangs."""


class Child:
    """A process that is spoken to in lines. With `group` it is killed with all that it started."""

    def __init__(self, command, name, group=False, environment=None):
        self.name = name
        self._buffer = b""
        self._group = group
        self._process = subprocess.Popen(
            [str(part) for part in command], start_new_session=group, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.pid = self._process.pid

    def read_line(self):
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self._buffer:
            left = max(0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], left)[0]:
                raise BenchError(f"{self.name}: no answer for {PATIENCE} s")
            data = os.read(self._process.stdout.fileno(), 65536)
            if not data:
                raise BenchError(self._last_words())
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode()

    def expect_line(self, wanted):
        line = self.read_line()
        if line != wanted:
            raise BenchError(f"{self.name}: said {line!r} instead of {wanted!r}")

    def go(self):
        """Sends one line: begin, or end what was begun."""
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchError(self._last_words()) from None

    def stay_alive(self, seconds):
        """Lets time pass in which the process must not end."""
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return
        raise BenchError(self._last_words())

    def end(self, stop_signal=None):
        """Waits for the end, after `stop_signal` if there is one. Returns the exit code."""
        if stop_signal is not None:
            self._process.send_signal(stop_signal)
        self._process.stdin.close()
        try:
            return self._process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{self.name}: did not end within {PATIENCE} s") from None

    def release(self):
        """Kills it if it still runs, closes the pipes."""
        if self._process.poll() is None:
            if self._group:
                os.killpg(self.pid, signal.SIGKILL)
            else:
                self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            pipe.close()

    def last_error(self):
        """What an ended process wrote to standard error."""
        return self._process.stderr.read().decode(errors="replace").strip()

    def _last_words(self):
        try:
            code = self._process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return f"{self.name}: closed its output and hangs"
        return f"{self.name}: ended with {code}: {self.last_error()}"

    # What the kernel knows of the process.

    def pids(self):
        """It and the processes it has started."""
        children = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]

    def cpu_seconds(self):
        """Of all its processes."""
        # The clock of another process's CPU time, as clock_getcpuclockid(3) makes it.
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.pids())

    def thread_cpu_seconds(self, name):
        """Of its threads whose names begin so; to a hundredth of a second."""
        ticks = 0
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            if (task / "comm").read_text().startswith(name):
                fields = (task / "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])  # utime, stime
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self, field):
        """VmRSS or VmHWM of all its processes, in bytes."""
        return sum(self._memory_of(pid, field) for pid in self.pids())

    def _memory_of(self, pid, field):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise BenchError(f"{self.name}: /proc/{pid}/status has no {field}")

    def wake_ups(self):
        """How often any of its threads has waited, since the start."""
        total = 0
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches:"):
                    total += int(line.split()[1])
        return total


class Server:
    """What all servers share. A subclass starts the child and sets `port` and `producer`."""

    port = None
    producer = None  # path of the producer socket, or port; None: it makes the events itself
    options = {}     # of bench-load, in every run
    greets = False   # tells a subscriber when it is admitted
    child = None

    def go(self):
        """The run begins."""

    def facts(self):
        """What it says itself of a run whose clients are gone."""
        return {}

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.release()
            raise
        return self

    def __exit__(self, *error):
        try:
            if error[0] is None:
                self.stop()
        finally:
            self.release()

    def release(self):
        if self.child is not None:
            self.child.release()


class BareSender(Server):
    def __init__(self, programs, subscribers, size, send):
        self._command = [programs / "bare-sender", subscribers, size, send]

    def start(self):
        self.child = Child(self._command, "bare-sender")
        self.port = int(self.child.read_line().removeprefix("port "))

    def await_subscribers(self, _count):
        self.child.expect_line("accepted")

    def go(self):
        self.child.go()

    def stop(self):
        if self.child.end() != 0:
            raise BenchError(f"bare-sender: {self.child.last_error()}")


class BareRelay(Server):
    def __init__(self, programs, folder, subscribers):
        self.producer = folder / "bare-relay.sock"
        self._command = [programs / "bare-relay", subscribers, self.producer]

    def start(self):
        self.producer.unlink(missing_ok=True)
        self.child = Child(self._command, "bare-relay")
        self.port = int(self.child.read_line().removeprefix("port "))

    def await_subscribers(self, _count):
        self.child.expect_line("accepted")

    def stop(self):
        if self.child.end() != 0:
            raise BenchError(f"bare-relay: {self.child.last_error()}")


class Evrelay(Server):
    """The daemon. `script` is the text of a hook; `complains`: it is meant to fail. With a
    `certificate` (tests/support/tls.py) subscribers come over TLS."""

    BLOCK = "{policy: block, max_lag: 8MiB}"

    def __init__(self, binary, folder, slow_subscriber=BLOCK, script=None, workers=1,
                 complains=False, max_clients=15000, certificate=None):
        self.producer = folder / "producer.sock"
        self._control = folder / "control.sock"
        self._config = folder / "evrelay.yaml"
        self._binary = binary
        self._complains = complains
        self._script = folder / "hook.lua"
        self._script.write_text(script or "")
        tls = f", tls: {{cert: {certificate.cert}, key: {certificate.key}}}" if certificate else ""
        self._text = (
            f"bind_addr: {{addr: '127.0.0.1:0'{tls}}}\n"
            f"max_clients: {max_clients}\n"
            f"producer: {{socket: {self.producer}, max_connections: 16}}\n"
            f"control: {{socket: {self._control}}}\n"
            f"slow_subscriber: {slow_subscriber}\n"
            f"workers: {workers}\n"
            f"script: {self._script if script else ''}\n"
            "log: {level: error}\n")

    def start(self):
        self._config.write_text(self._text)
        self.child = Child([self._binary, "serve", "-c", self._config], "evrelay")
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.port = int(self.status()["listen"][0].rpartition(":")[2])
                return
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise BenchError("evrelay: no control socket") from None
            self.child.stay_alive(0.01)

    def await_subscribers(self, count):
        deadline = time.monotonic() + PATIENCE
        while self.status()["subscribers"]["live"] != count:
            if time.monotonic() > deadline:
                raise BenchError(f"evrelay: not {count} subscribers")

    def stop(self):
        self._check_idle()
        code = self.child.end(signal.SIGTERM)
        words = self.child.last_error()
        if code != 0 or (words and not self._complains):
            raise BenchError(f"evrelay: ended with {code}: {words}")

    def facts(self):
        self._await_idle()
        return {"hook_timeouts": self.status()["hook"]["failed"]["timeout"],
                "hook_cpu_s": self.child.thread_cpu_seconds("evrelay-hook")}

    def status(self):
        """One round trip over the control socket."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(PATIENCE)
            control.connect(str(self._control))
            control.sendall(b"9:6:status,]")
            answer = b""
            while True:
                size, colon, rest = answer.partition(b":")
                if colon and len(rest) > int(size):
                    break
                data = control.recv(65536)
                if not data:
                    raise BenchError(f"evrelay: status answered {answer[:200]!r}")
                answer += data
        items = split_list(rest[:int(size)])
        if items[0] != b"ok":
            raise BenchError(f"evrelay: status answered {answer[:200]!r}")
        return json.loads(items[1])

    def _await_idle(self):
        """Until all clients are gone and hooks have heard all that they said."""
        self.await_subscribers(0)
        deadline = time.monotonic() + PATIENCE
        while True:
            messages = self.status()["messages"]
            if messages["received"] == messages["handled"] + sum(messages["dropped"].values()):
                return
            if time.monotonic() > deadline:
                raise BenchError(f"evrelay: messages left behind: {messages}")
            self.child.stay_alive(0.01)

    def _check_idle(self):
        """A server that spins when its clients are gone would spoil whatever runs next."""
        self._await_idle()
        before = self.child.cpu_seconds()
        self.child.stay_alive(0.1)
        if self.child.cpu_seconds() - before > 0.05:
            raise BenchError("evrelay: busy with no client connected")


def free_port(kind):
    """A port of loopback that nobody uses now."""
    with socket.socket(socket.AF_INET, kind) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def is_listening(port):
    """Asks the kernel: to connect would be an event."""
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(fields[1].endswith(f":{port:04X}") and fields[3] == "0A"
               for fields in map(str.split, lines))


class Burner:
    """A process that has nothing to do with the relay and burns one core."""

    def __enter__(self):
        self.child = Child([sys.executable, "-c", "while True: pass"], "burner")
        return self

    def __exit__(self, *error):
        self.child.release()


def split_list(payload):
    """The items of a list frame."""
    items = []
    while payload:
        size, _, rest = payload.partition(b":")
        items.append(rest[:int(size)])
        payload = rest[int(size) + 1:]
    return items


class Load:
    """bench-load with the given options, `subscribers=10, check_all=True` and so on."""

    program = "bench-load"
    ready = "connected"  # what it says before it waits

    def __init__(self, programs, server, **options):
        command = [programs / self.program, "--port", server.port]
        for pid in server.child.pids():
            command += ["--server-pid", pid]
        if server.producer is not None:
            command += ["--producer", server.producer]
        for name, value in (server.options | options).items():
            if value is False:
                continue
            command.append("--" + name.replace("_", "-"))
            if value is not True:
                command.append(value)
        self._command = command

    def __enter__(self):
        self.child = Child(self._command, self._command[0].name)
        try:
            self.child.expect_line(self.ready)
        except BaseException:
            self.child.release()
            raise
        return self

    def __exit__(self, *error):
        self.child.release()

    def go(self):
        self.child.go()

    def result(self):
        return json.loads(self.child.read_line())

    def end(self):
        if self.child.end() != 0:
            raise BenchError(f"{self.child.name}: {self.child.last_error()}")

    def ends_well(self):
        """Whether it found nothing wrong in what it received."""
        return self.child.end() == 0


class Storm(Load):
    """bench-load that connects as fast as it can when it is told to."""

    ready = "ready"

    def __init__(self, programs, server, subscribers):
        super().__init__(programs, server, subscribers=subscribers, storm=True)


class MessageLoad(Load):
    """bench-messages."""

    def __init__(self, programs, server, subscribers, size):
        self._command = [programs / "bench-messages", server.port, subscribers, size]


def cpu_of_others(own):
    """Processor time, in seconds, of all processes that are there, and of their children that have
    ended, but for `own`, this program and the kernel's own; and what the machine's host took.

    The totals of /proc/stat would not do: they are sampled, which a load that comes in step with
    the sampling misleads.
    """
    kernel_thread = 0x00200000  # PF_KTHREAD of proc_pid_stat(5)
    ticks = int(pathlib.Path("/proc/stat").read_text().split(maxsplit=9)[8])  # steal
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if pid != os.getpid() and pid not in own and not int(fields[6]) & kernel_thread:
            ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(server, load, *beside):
    """Lets the run begin; its result, and what share of the machine others took.

    `beside` are children that belong to the run.
    """
    def others():
        children = (server.child, load.child, *beside)
        return cpu_of_others({pid for child in children for pid in child.pids()})

    begin, before = time.monotonic(), others()
    server.go()
    load.go()
    result = load.result()
    elapsed = (time.monotonic() - begin) * os.cpu_count()
    result["others_cpu_share"] = max(0, others() - before) / elapsed
    return result


def run(programs, server, subscribers, beside=(), **options):
    """One run of `server` under load; what bench-load says of it, the server and the kernel."""
    with server:
        with Load(programs, server, subscribers=subscribers, **options) as load:
            server.await_subscribers(subscribers)
            rss = server.child.memory("VmRSS")
            result = measure(server, load, *beside)
            result["growth_bytes"] = server.child.memory("VmHWM") - rss
            load.end()
        result |= server.facts()
    return result


def run_messages(programs, server, subscribers, size):
    """One run of a `server` that counts messages; what bench-messages says of it."""
    with server:
        with MessageLoad(programs, server, subscribers, size) as load:
            server.await_subscribers(subscribers + 1)
            result = measure(server, load)
            load.end()
    return result
