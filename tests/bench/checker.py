"""Is a fault seen? bench-load against a server that sends the right stream, and wrong ones."""

import dataclasses
import socket
import threading
import types

import servers

SIZE = 64
PERIOD = 256 * 1024 // SIZE  # as in pattern.h


@dataclasses.dataclass
class Wire:
    """What a server of one dialect sends to a subscriber."""

    header: bytes
    trailer: bytes
    greeting: bytes = b""


WIRES = {
    "evrelay": Wire(b"64:", b","),
    "kamailio": Wire(b"64:", b",", b"2:ok,"),
    "nats": Wire(b"MSG e 1 64\r\n", b"\r\n", b"INFO {}\r\nPONG\r\n"),
    "redis": Wire(b"*3\r\n$7\r\nmessage\r\n$1\r\ne\r\n$64\r\n", b"\r\n",
                  b"*3\r\n$9\r\nsubscribe\r\n$1\r\ne\r\n:1\r\n"),
    "mqtt": Wire(b"\x30\x43\0\1e", b"", b"\x20\2\0\0\x90\3\0\1\0"),
}


def event(wire, number):
    digits = bytes(0x80 | number >> 7 * i & 0x7F for i in range(8))
    letters = bytes(ord("a") + (number + i) % 26 for i in range(8, SIZE))
    return wire.header + digits + letters + wire.trailer


def streams(wire):
    """Name, stream, whether it is right. Longer than a period, and than one read."""
    right = [event(wire, number % PERIOD) for number in range(PERIOD * 3)]
    middle = PERIOD + 77
    altered = bytearray(right[middle])
    altered[len(wire.header) + 36] ^= 1
    swapped = right.copy()
    swapped[middle], swapped[middle + 1] = swapped[middle + 1], swapped[middle]
    yield "right", right, True
    yield "one missing", right[:middle] + right[middle + 1:], False
    yield "one doubled", right[:middle] + right[middle:middle + 1] + right[middle:], False
    yield "two swapped", swapped, False
    yield "one altered", right[:middle] + [bytes(altered)] + right[middle + 1:], False


def check(programs, dialects=("evrelay",)):
    """Throws BenchError when bench-load takes a wrong stream, or refuses the right one."""
    for dialect in dialects:
        wire = WIRES[dialect]
        for name, stream, is_right in streams(wire):
            # What is altered within an event is seen only where every byte is compared.
            accepted = accepts(programs, dialect, wire.greeting, b"".join(stream),
                               check_all=name == "one altered")
            if accepted != is_right:
                raise servers.BenchError(
                    f"bench-load does not tell right from wrong ({dialect}): {name}")


def accepts(programs, dialect, greeting, data, check_all):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(servers.PATIENCE)
        server = types.SimpleNamespace(
            port=listening.getsockname()[1], producer=None, options={"dialect": dialect},
            child=types.SimpleNamespace(pids=lambda: []))
        begin = threading.Event()
        sender = threading.Thread(target=serve, args=(listening, greeting, begin, data))
        sender.start()
        try:
            with servers.Load(programs, server, seconds=0.1, warmup=0.1,
                              check_all=check_all) as load:
                load.go()
                begin.set()
                return load.ends_well()
        finally:
            begin.set()
            sender.join()


def serve(listening, greeting, begin, data):
    try:
        with listening.accept()[0] as peer:
            peer.sendall(greeting)
            begin.wait()
            peer.sendall(data)
            while peer.recv(4096):
                pass
    except OSError:
        pass  # bench-load has seen enough
