"""Sockets that a supervisor holds and passes to evrelay, as systemd does it."""

import fcntl
import os
import socket
import subprocess

HAS_SYSTEMD = os.environ.get("EVRELAY_SYSTEMD", "1") == "1"


class Activation:
    """Sockets that a supervisor holds, and how it passes them to each evrelay it starts."""

    def __init__(self, case, sockets):
        """sockets: (name, listening socket) pairs."""
        self.sockets = sockets
        for _, sock in sockets:
            case.addCleanup(sock.close)

    def start(self, args, **keywords):
        held = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD, 100) for _, sock in self.sockets]
        wanted = range(3, 3 + len(held))

        def place():
            for fd, target in zip(held, wanted):
                os.dup2(fd, target, inheritable=True)

        keywords["env"] = {
            **keywords["env"],
            "LISTEN_FDS": str(len(held)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in self.sockets),
        }
        try:
            # The shell becomes evrelay, so the process id is the same.
            return subprocess.Popen(
                ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$0" "$@"', *args],
                pass_fds=wanted,
                preexec_fn=place,
                **keywords,
            )
        finally:
            for fd in held:
                os.close(fd)


def tcp_listener():
    return socket.create_server(("127.0.0.1", 0), backlog=1000)
