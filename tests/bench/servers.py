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
import time

PATIENCE = 60  # seconds until a process that should have answered is given up


class BenchError(Exception):
    """A run that gives no figure: a lost event, a server that fell over, a child that hangs."""


class Child:
    """A process that is spoken to in lines."""

    def __init__(self, command, name):
        self.name = name
        self._buffer = b""
        self._process = subprocess.Popen(
            [str(part) for part in command],
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

    def cpu_seconds(self):
        # The clock of another process's CPU time, as clock_getcpuclockid(3) makes it.
        return time.clock_gettime((~self.pid << 3) | 2)

    def memory(self, field):
        """VmRSS or VmHWM, in bytes."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise BenchError(f"{self.name}: /proc/{self.pid}/status has no {field}")

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
    producer = None  # path of the producer socket; None: it makes the events itself
    child = None

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

    def go(self):
        pass

    def stop(self):
        if self.child.end() != 0:
            raise BenchError(f"bare-relay: {self.child.last_error()}")


class Evrelay(Server):
    """The daemon, with `slow_subscriber` as given."""

    BLOCK = "{policy: block, max_lag: 8MiB}"

    def __init__(self, binary, folder, slow_subscriber=BLOCK):
        self.producer = folder / "producer.sock"
        self._control = folder / "control.sock"
        self._config = folder / "evrelay.yaml"
        self._binary = binary
        self._text = (
            "bind_addr: 127.0.0.1:0\n"
            "max_clients: 15000\n"
            f"producer: {{socket: {self.producer}}}\n"
            f"control: {{socket: {self._control}}}\n"
            f"slow_subscriber: {slow_subscriber}\n"
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
                raise BenchError(f"evrelay: {count} subscribers were not accepted")

    def go(self):
        pass

    def stop(self):
        self._check_idle()
        code = self.child.end(signal.SIGTERM)
        words = self.child.last_error()
        if code != 0 or words:
            raise BenchError(f"evrelay: ended with {code}: {words}")

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

    def _check_idle(self):
        """A server that spins when its clients are gone would spoil whatever runs next."""
        self.await_subscribers(0)
        before = self.child.cpu_seconds()
        self.child.stay_alive(0.1)
        if self.child.cpu_seconds() - before > 0.05:
            raise BenchError("evrelay: busy with no client connected")


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

    def __init__(self, programs, server, **options):
        command = [programs / "bench-load", "--port", server.port, "--server-pid", server.child.pid]
        if server.producer is not None:
            command += ["--producer", server.producer]
        for name, value in options.items():
            if value is False:
                continue
            command.append("--" + name.replace("_", "-"))
            if value is not True:
                command.append(value)
        self._command = command

    def __enter__(self):
        self.child = Child(self._command, "bench-load")
        try:
            self.child.expect_line("connected")
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
            raise BenchError(f"bench-load: {self.child.last_error()}")

    def ends_well(self):
        """Whether it found nothing wrong in what it received."""
        return self.child.end() == 0


def machine_busy_seconds():
    """Processor time used by anyone since the start of the machine."""
    fields = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def run(programs, server, subscribers, **options):
    """One run of `server` under load; what bench-load says of it, and what the kernel does."""
    with server:
        with Load(programs, server, subscribers=subscribers, **options) as load:
            server.await_subscribers(subscribers)
            rss = server.child.memory("VmRSS")
            begin, busy = time.monotonic(), machine_busy_seconds()
            used = server.child.cpu_seconds() + load.child.cpu_seconds()
            server.go()
            load.go()
            result = load.result()
            result["growth_bytes"] = server.child.memory("VmHWM") - rss
            used = server.child.cpu_seconds() + load.child.cpu_seconds() - used
            elapsed = (time.monotonic() - begin) * os.cpu_count()
            result["others_cpu_share"] = max(0.0, (machine_busy_seconds() - busy - used) / elapsed)
            load.end()
    return result
