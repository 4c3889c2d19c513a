"""Minutes of half load with random faults, and what they have left behind: `./dev soak faults 20`.

First it finds out how many events a second evrelay can take with LISTENERS subscribers that read,
then it sends half as many for so many minutes. Meanwhile subscribers (over TLS and plain) stall,
reset, half close, babble and fall silent; producers are killed in mid-frame, or with requests that
wait; good and bad configurations and scripts are reloaded. Checked: every event that arrives, in
the one order; the books, every second; the log; the resident memory, which has to be flat. A
sanitizer that evrelay was built with ends it at its first report.

usage: soak_faults.py MINUTES
Environment: EVRELAY, EVRELAY_TEST_SEED (repeats the operations, not their timing).
"""

import collections
import os
import random
import select
import socket
import sys
import time
import unittest

import tls
import wire
from relay import KIB, MIB, Producer, RelayCase, Subscriber, pump
from vanish import vanish

MINUTES = 2.0
LISTENERS = 50  # read all the time; what they get is counted, not looked at
OTHERS = 12  # these have the faults
PRODUCERS = 4
SIZE = 4 * KIB  # bytes of an event, nearly
MAX_LAG = 16 * MIB
SEGMENT = 512 * KIB  # of the log
WINDOW = 200_000  # events that the order is remembered of
MEMORY = 16 * MIB  # what the second half may add: arenas of malloc come and go

SCRIPT = """
-- %d
event_route["evapi:connection-new"] = function(evapi) evapi.set_tag("t" .. evapi.conidx %% 3) end
event_route["evapi:message-received"] = function(evapi)
  local index, label = evapi.msg:match("^resume (%%d+) (%%d+)$")
  if index then evapi.resume(index, label, "answer")
  elseif evapi.msg == "fail" then error("on purpose")
  elseif evapi.msg == "close" then evapi.close()
  else evapi.reply("reply") end
end
"""


class Sinks:
    """A process with so many subscribers that read all and look at nothing."""

    def __init__(self, address, count):
        ready, said = os.pipe()
        self._over, self._life = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(self._life)
                code = self._read_all(address, count, said)
            finally:
                os._exit(code)
        os.close(said)
        os.close(self._over)
        if os.read(ready, 1) != b"r":
            raise AssertionError("the subscribers cannot connect")
        os.close(ready)

    def _read_all(self, address, count, said):
        """1: one of them was closed."""
        epoll = select.epoll()
        socks = {}
        for _ in range(count):
            sock = socket.create_connection(address)
            socks[sock.fileno()] = sock
            epoll.register(sock, select.EPOLLIN)
        epoll.register(self._over, 0)
        os.write(said, b"r")
        while True:
            for fd, _ in epoll.poll():
                if fd == self._over:
                    return 0
                if not socks[fd].recv(4 * MIB, socket.MSG_TRUNC | socket.MSG_DONTWAIT):
                    return 1

    def check(self):
        if os.waitpid(self.pid, os.WNOHANG) != (0, 0):
            raise AssertionError("a subscriber that reads was closed")

    def close(self):
        self.check()
        os.close(self._life)
        os.waitpid(self.pid, 0)


class Order:
    """The one order of events, as the observer sees it."""

    def __init__(self):
        self.places = collections.OrderedDict()
        self.count = 0

    def add(self, event):
        self.places[event] = self.count
        self.count += 1
        if len(self.places) > WINDOW:
            self.places.popitem(last=False)


class Listener(Subscriber):
    """Keeps of its events the names only; `check` compares them with the order."""

    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self.names = collections.deque()
        self.last = None

    def _take(self, chunk):
        super()._take(chunk)
        self.names += [event.split(b" ", 1)[0] for event in self.events if event[:1] == b"#"]
        self.events = [event for event in self.events if event[:4] == b"ask "]

    def check(self, order):
        while self.names and self.names[0] in order.places:
            place = order.places[self.names.popleft()]
            if self.last is not None and place != self.last + 1:
                raise AssertionError(f"after event {self.last} of the order came {place}")
            self.last = place


class SoakFaults(RelayCase):
    def test_soak_with_faults(self):
        seed = int(os.environ.get("EVRELAY_TEST_SEED", random.randrange(2**32)))
        print(f"# seed {seed}")
        self.rng = random.Random(seed)
        own = tls.server()
        self.relay = self.start(
            lua=SCRIPT % 0,
            bind_addr=[
                "127.0.0.1:0",
                {"addr": "127.0.0.2:0", "tls": {"cert": own.cert, "key": own.key}},
            ],
            workers=2,
            drain="3s",
            max_event="64KiB",
            send_buffer="128KiB",
            slow_subscriber={"max_lag": MAX_LAG},
            **{"async": {"timeout": "2s"}},
        )
        self.sinks = Sinks(self.relay.addresses[0], LISTENERS)
        self.order = Order()
        self.observer = self.listener(0)
        self.names = 0
        self.producers = [self.relay.producer() for _ in range(PRODUCERS)]
        self.others = []
        self.silent = collections.deque()
        self.operations = collections.Counter()

        cpu, began = self.relay.cpu_seconds(), time.monotonic()
        top = self.top_rate()
        share = (self.relay.cpu_seconds() - cpu) / (time.monotonic() - began)
        print(
            f"# it takes {top:.0f} events/s of {SIZE} bytes for {LISTENERS + 1} subscribers, "
            f"at {share:.0%} of a processor"
        )
        self.run_for(MINUTES * 60, top / 2)

    # Load

    def listener(self, door):
        over = tls.plain_context() if door == 1 else None
        small = 4 * KIB if self.rng.random() < 0.5 else None
        peer = Listener(self.relay.addresses[door], None if door == 0 else small, over=over)
        self.relay.peers.append(peer)
        return peer

    def frames(self, count):
        out = []
        for _ in range(count):
            self.names += 1
            out.append(wire.data(b"#%d " % self.names + b"." * SIZE))
        return b"".join(out)

    def move(self):
        peers = [self.observer, *self.producers, *self.others]
        once = iter((False, True))
        pump(peers, lambda: next(once))
        for name in self.observer.names:
            self.order.add(name)
        self.observer.names.clear()
        self.observer.events.clear()
        if self.observer.ended:
            raise AssertionError("the observer was closed")
        for other in list(self.others):
            other.check(self.order)
            if other.ended:
                self.leave(other)

    def top_rate(self):
        """Events a second when there is always something to send, as long as all can read that."""
        began, before = time.monotonic(), self.order.count
        while time.monotonic() < began + 5:
            if self.in_time() and self.relay.status()["log"]["max_lag"] < MAX_LAG // 8:
                self.producers[0].send(self.frames(100))
            self.move()
        return (self.order.count - before) / (time.monotonic() - began)

    def in_time(self):
        """The observer, which all others are compared with, is not far behind."""
        return self.names - self.order.count < MAX_LAG // SIZE // 4

    def run_for(self, seconds, rate):
        began = next_second = next_fault = time.monotonic()
        sent = 0
        memory = []
        while (now := time.monotonic()) < began + seconds:
            due = int((now - began) * rate) - sent
            if due > 0 and self.in_time():
                self.rng.choice(self.producers).send(self.frames(min(due, 200)))
            sent += max(due, 0)
            self.move()
            if now >= next_fault:
                self.fault()
                next_fault = now + self.rng.uniform(0, 0.1)
            if now >= next_second:
                next_second = now + 1
                self.assertIsNone(self.relay.process.poll(), self.relay.log[-2000:])
                self.sinks.check()
                memory.append((now - began, self.memory()))
        self.finish(seconds, rate, memory)

    def memory(self):
        """Resident bytes without the log, which grows and shrinks with those who stall."""
        status = self.relay.status()
        self.relay.check_balance(status)
        segments = status["log"]["segments"] + status["log"]["free_segments"]
        return self.relay.rss() - segments * SEGMENT

    def finish(self, seconds, rate, memory):
        for peer in (*self.others, *self.silent):
            peer.close()
        self.others = []
        for producer in self.producers:
            pump([producer], lambda p=producer: not p.outgoing, 60)
            producer.close()
        self.producers = []
        deadline = time.monotonic() + 60
        while self.order.count < self.names:
            self.move()
            self.assertLess(time.monotonic(), deadline, "events are missing")
        status = self.relay.wait_status(
            lambda s: s["subscribers"]["live"] == LISTENERS + 1
            and s["subscribers"]["closing"] + s["producers"]["connected"] == 0,
            "all have gone",
            60,
            [self.observer],
        )
        self.relay.check_balance(status)
        half = [(at, rss) for at, rss in memory if at >= seconds / 2]
        slope = self.slope(half)
        closed = {k: n for k, n in status["subscribers"]["closed"].items() if n}
        print(f"# {seconds / 60:.0f} min at {rate:.0f} events/s: {status['events']['relayed']} events")
        print(f"# faults: {dict(self.operations)}")
        print(f"# closed: {closed}")
        print(f"# async: {status['async']}, hooks failed: {status['hook']['failed']}")
        print(
            f"# memory beside the log: {memory[0][1] / MIB:.1f} MiB at first, {half[0][1] / MIB:.1f} half-way, "
            f"{half[-1][1] / MIB:.1f} at last; {slope * 60 / KIB:.1f} KiB a minute since half-way"
        )
        self.assertLess(slope * seconds / 2, MEMORY, "memory grows")
        self.sinks.close()
        self.relay.stop()

    @staticmethod
    def slope(points):
        """Bytes a second, by least squares."""
        count = len(points)
        mean_x = sum(x for x, _ in points) / count
        mean_y = sum(y for _, y in points) / count
        square = sum((x - mean_x) ** 2 for x, _ in points)
        return sum((x - mean_x) * (y - mean_y) for x, y in points) / max(square, 1e-9)

    # Faults

    def fault(self):
        operations = [
            (self.come, 8),
            (self.talk, 6),
            (self.stall, 2),
            (self.read_on, 2),
            (self.reset, 2),
            (self.half_close, 2),
            (self.babble, 1),
            (self.fall_silent, 0.5),
            (self.kill_producer, 1),
            (self.ask, 2),
            (self.reload, 0.5),
            (self.reload_bad, 0.3),
        ]
        choices, weights = zip(*operations)
        operation = self.rng.choices(choices, weights)[0]
        self.operations[operation.__name__] += 1
        operation()

    def leave(self, peer):
        self.others.remove(peer)
        self.relay.peers.remove(peer)
        peer.close()

    def anyone(self):
        return self.rng.choice(self.others) if self.others else None

    def come(self):
        if len(self.others) < OTHERS:
            self.others.append(self.listener(self.rng.randint(0, 1)))

    def talk(self):
        if peer := self.anyone():
            peer.send(wire.data(self.rng.choice((b"hello", b"hello", b"fail", b"close"))) * 3)
            for ask in peer.events:
                peer.send(wire.data(b"resume %b" % b" ".join(ask.split()[1:])))
            peer.events.clear()

    def stall(self):
        if peer := self.anyone():
            peer.paused = True

    def read_on(self):
        if peer := self.anyone():
            peer.paused = False

    def reset(self):
        if peer := self.anyone():
            self.others.remove(peer)
            self.relay.peers.remove(peer)
            peer.kill()

    def half_close(self):
        if peer := self.anyone():
            try:
                peer.half_close()
            except OSError:
                pass

    def babble(self):
        if peer := self.anyone():
            peer.send(self.rng.choice((b"oops", b"1:x;", b"99999999999:")))

    def fall_silent(self):
        if peer := self.anyone():
            vanish(peer.sock)
            self.others.remove(peer)
            self.silent.append(peer)  # its end of the connection stays open for a while
            if len(self.silent) > 20:
                self.silent.popleft().sock.close()

    def kill_producer(self):
        producer = Producer(self.relay.producer_path)
        producer.send(wire.list_frame("async_relay", "ask $T(id_index) $T(id_label)", 60_000))
        producer.send(b"500:the beginning of an event")
        self.rng.choice((producer.kill, producer.close))()

    def ask(self):
        producer = self.rng.choice(self.producers)
        producer.answers.clear()
        producer.send(
            wire.list_frame("async_multicast", "ask $T(id_index) $T(id_label)", "t1", 500)
            + wire.list_frame("unicast", "direct", "t2")
            + wire.list_frame("nonsense")
        )

    def reload(self):
        self.relay.write_script(SCRIPT % self.rng.randrange(1000))
        self.relay.write_config()
        self.relay.signal(1)

    def reload_bad(self):
        if self.rng.random() < 0.5:
            self.relay.write_script("this is no Lua")
        else:
            self.relay.write_config(text="no_such_key: 1\n")
        self.relay.signal(1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        MINUTES = float(sys.argv.pop(1))
    unittest.main(warnings="ignore")
