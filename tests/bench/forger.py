"""Is a fault seen? bench-crowd and bench-fair beside a relay that makes one."""

import os
import selectors
import socket
import threading
import types

import fairness
import growth_parts
import servers

WHEN = 50  # the event that goes wrong
FAULTS = {
    "none": lambda event: [event],
    "one missing": lambda event: [],
    "one doubled": lambda event: [event, event],
    "one altered": lambda event: [event[:40] + bytes([event[40] ^ 1]) + event[41:]],
    "one in another's place": lambda event: [b"64:" + b"x" * 64 + b","],
}


class Forger:
    """A relay. `make` makes of an event, number WHEN, what is sent in its place; `answer` is the
    number of subscribers that it tells; `listeners` of all the subscribers are sent something."""

    def __init__(self, folder, make, subscribers, listeners, answer):
        self.options = {}
        self.child = types.SimpleNamespace(pids=lambda: [os.getpid()])
        self.producer = folder / "forger.sock"
        self._make = make
        self._subscribers = subscribers
        self._listeners = listeners
        self._answer = f"2:ok,{len(str(answer))}:{answer},".encode()
        self._events = 0

    def __enter__(self):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._producing = socket.socket(socket.AF_UNIX)
        self.producer.unlink(missing_ok=True)
        self._producing.bind(str(self.producer))
        self._producing.listen()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._thread.join()
        self._listening.close()
        self._producing.close()

    def _run(self):
        everyone = [self._listening.accept()[0] for _ in range(self._subscribers)]
        with selectors.DefaultSelector() as selector:
            selector.register(self._producing, selectors.EVENT_READ)
            selector.register(everyone[0], selectors.EVENT_READ)  # it tells the end
            over = False
            while not over:
                for key, _ in selector.select():
                    if key.fileobj is self._producing:
                        producer = self._producing.accept()[0]
                        selector.register(producer, selectors.EVENT_READ, bytearray())
                    else:
                        over = over or not self._hear(key, everyone[:self._listeners])
            for key in list(selector.get_map().values()):
                if key.data is not None:
                    key.fileobj.close()
        for peer in everyone:
            peer.close()

    def _hear(self, key, listeners):
        """False: the client has gone."""
        try:
            data = key.fileobj.recv(65536)
            if key.data is None or not data:
                return False
            key.data.extend(data)
            while frame := take_frame(key.data):
                self._relay(frame, key.fileobj, listeners)
        except OSError:
            return False
        return True

    def _relay(self, frame, producer, listeners):
        if frame.endswith(b"]"):
            event = servers.split_list(frame.partition(b":")[2][:-1])[1]
            frame = b"%d:%s," % (len(event), event)
            producer.sendall(b"%d:%s]" % (len(self._answer), self._answer))
        self._events += 1
        frames = self._make(frame) if self._events == WHEN else [frame]
        for listener in listeners:
            listener.sendall(b"".join(frames))


def take_frame(buffer):
    """Removes the first frame and returns it; None: there is no whole one."""
    size, colon, _ = buffer[:16].partition(b":")
    end = len(size) + 2 + int(size) if colon else 0
    if not colon or len(buffer) < end:
        return None
    frame = bytes(buffer[:end])
    del buffer[:end]
    return frame


def check(programs, folder):
    """Throws BenchError when a program takes what is wrong, or refuses what is right."""
    def crowd(server):
        with growth_parts.Crowd(programs, server, size=64, warmup=0.05, seconds=0.05,
                                check_all=True) as load:
            load.go()
            load.result()
            load.go()
            return load.ends_well()

    def fair(server, **options):
        with fairness.FairLoad(programs, server, warmup=0.05, seconds=0.05, subscribers=3, rate=1000,
                               **options) as load:
            load.go()
            return load.ends_well()

    for name, make in FAULTS.items():
        right = name == "none"
        with Forger(folder, make, 1, 1, 1) as server:
            expect(crowd(server), right, f"bench-crowd: {name}")
        with Forger(folder, make, 3, 3, 3) as server:
            expect(fair(server, listeners=3, noise="events"), right, f"bench-fair: {name}")
    for wrong, listeners, answer in (("an event too far", 3, 2), ("a wrong answer", 2, 3)):
        with Forger(folder, FAULTS["none"], 3, listeners, answer) as server:
            expect(fair(server, listeners=2, quiet="multicast"), False, f"bench-fair: {wrong}")


def expect(accepted, right, what):
    if accepted != right:
        raise servers.BenchError(f"{what}: does not tell right from wrong")
