"""Is a fault seen? bench-load against a server that sends the right stream, and wrong ones."""

import socket
import threading
import types

import servers

SIZE = 64
PERIOD = 256 * 1024 // SIZE  # as in pattern.h


def event(number):
    letters = bytes(ord("a") + (number + i) % 26 for i in range(8, SIZE))
    return b"%d:%s%s," % (SIZE, number.to_bytes(8, "little"), letters)


def streams():
    """Name, stream, whether it is right. Longer than a period, and than one read."""
    right = [event(number % PERIOD) for number in range(PERIOD * 3)]
    middle = PERIOD + 77
    altered = bytearray(right[middle])
    altered[40] ^= 1
    swapped = right.copy()
    swapped[middle], swapped[middle + 1] = swapped[middle + 1], swapped[middle]
    yield "right", right, True
    yield "one missing", right[:middle] + right[middle + 1:], False
    yield "one doubled", right[:middle] + right[middle:middle + 1] + right[middle:], False
    yield "two swapped", swapped, False
    yield "one altered", right[:middle] + [bytes(altered)] + right[middle + 1:], False


def check(programs):
    """Throws BenchError when bench-load takes a wrong stream, or refuses the right one."""
    for name, stream, is_right in streams():
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = types.SimpleNamespace(
                port=listening.getsockname()[1], producer=None,
                child=types.SimpleNamespace(pid=0))
            with servers.Load(programs, server, seconds=0.1, warmup=0.1, check_all=True) as load:
                peer, _ = listening.accept()
                with peer:
                    load.go()
                    sender = threading.Thread(target=send, args=(peer, b"".join(stream)))
                    sender.start()
                    accepted = load.ends_well()
                    sender.join()
        if accepted != is_right:
            raise servers.BenchError(f"bench-load does not tell right from wrong: {name}")


def send(peer, data):
    try:
        peer.sendall(data)
    except OSError:
        pass  # bench-load has seen enough
