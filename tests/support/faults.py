"""Makes system calls and allocations of a process fail, and its wall clock jump: the libraries of
tests/faults, and the board (tests/faults/board.h) through which they are told what to do.

Environment: EVRELAY_FAIL_CALLS, EVRELAY_FAIL_MEMORY (paths of the libraries; unset: there are none in
this build).
"""

import errno
import mmap
import os
import struct
import tempfile

CALLS = os.environ.get("EVRELAY_FAIL_CALLS")
MEMORY = os.environ.get("EVRELAY_FAIL_MEMORY")

# What each kind of call may really fail with, as far as the caller is not to blame for it.
NO_FILES = (errno.EMFILE, errno.ENFILE)
NO_MEMORY = (errno.ENOMEM, errno.ENOBUFS)
ERRORS = {
    "accept4": (errno.EINTR, errno.EAGAIN, errno.ECONNABORTED, *NO_FILES, *NO_MEMORY),
    "bind": (errno.EADDRINUSE, errno.EACCES, errno.ENOMEM),
    "chmod": (errno.EPERM, errno.EIO),
    "connect": (errno.EINTR, errno.ENOMEM),
    "epoll_create": (*NO_FILES, errno.ENOMEM),
    "epoll_ctl": (errno.ENOMEM, errno.ENOSPC),
    "epoll_wait": (errno.EINTR,),
    "eventfd": (*NO_FILES, errno.ENOMEM),
    "fcntl": (errno.EMFILE,),
    "flock": (errno.EINTR, errno.ENOLCK),
    "fopen": (*NO_FILES, errno.EACCES, errno.EIO),
    "getsockname": (errno.ENOBUFS,),
    "getsockopt": (errno.ENOBUFS,),
    "ioctl": (errno.EINVAL,),
    "listen": (errno.EADDRINUSE,),
    "mkdtemp": (errno.EACCES, errno.ENOSPC),
    "open": (*NO_FILES, errno.EINTR, errno.EACCES, errno.ENOSPC),
    "poll": (errno.EINTR, errno.ENOMEM),
    "pthread_create": (errno.EAGAIN,),
    "recv": (errno.EINTR, errno.EAGAIN, errno.ECONNRESET, errno.ENOMEM),
    "rename": (errno.EACCES, errno.ENOSPC),
    "send": (errno.EINTR, errno.EAGAIN, errno.ECONNRESET, errno.EPIPE, *NO_MEMORY),
    "sendmsg": (errno.EINTR, errno.EAGAIN, errno.ECONNRESET, errno.EPIPE, *NO_MEMORY),
    "setsockopt": (errno.ENOBUFS,),
    "shutdown": (errno.ENOTCONN,),
    "socket": (*NO_FILES, *NO_MEMORY),
    "write": (errno.EINTR, errno.EAGAIN, errno.EPIPE, errno.EIO, errno.ENOSPC),
}
ALLOCATIONS = {"new": (errno.ENOMEM,), "malloc": (errno.ENOMEM,)}

EVER = 2**64 - 1


class Board:
    """What is to go wrong in one process, and what came of it."""

    NAMES = ["board", *ERRORS, *ALLOCATIONS]
    ENTRY = struct.Struct("=16sQQQQq8x")
    FIGURE = struct.Struct("=Q")

    def __init__(self):
        self._file = tempfile.NamedTemporaryFile(prefix="evrelay-faults-")
        for name in self.NAMES:
            self._file.write(self.ENTRY.pack(name.encode(), 0, 0, 0, 0, 0))
        self._file.flush()
        self._map = mmap.mmap(self._file.fileno(), 0)
        self._places = {name: at * self.ENTRY.size for at, name in enumerate(self.NAMES)}

    def environment(self, *libraries):
        return {"EVRELAY_FAULTS": self._file.name, "LD_PRELOAD": " ".join(libraries)}

    def close(self):
        self._map.close()
        self._file.close()

    def arm(self, kind, error, first, last=None):
        """From now on the calls `first` to `last` (None: only that one) of this kind fail."""
        place = self._places[kind]
        self._put(place + 32, 0)  # none, while the rest changes
        self._put(place + 16, 0)
        self._put(place + 24, first)
        self._put(place + 40, 0)
        self._put(place + 48, error)
        self._put(place + 32, last or first)

    def disarm(self):
        """From now on nothing fails."""
        for kind in self.NAMES:
            self._put(self._places[kind] + 32, 0)

    def calls(self, kind):
        """Of this kind since it was last armed; else since the start."""
        return self._get(self._places[kind] + 16)

    def failed(self, kind):
        """How many of them failed."""
        return self._get(self._places[kind] + 40)

    def set_clock(self, seconds):
        """The process's wall clock is off by so much."""
        self._map[48:56] = struct.pack("=q", int(seconds * 1e9))

    def _put(self, at, figure):
        self._map[at : at + 8] = self.FIGURE.pack(figure)

    def _get(self, at):
        return self.FIGURE.unpack(self._map[at : at + 8])[0]
