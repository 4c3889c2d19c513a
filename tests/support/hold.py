"""Holds one thread of a child process still, as a debugger would: what waits for that thread waits
exactly until it is let go, and nothing has to be timed."""

import contextlib
import ctypes
import os
import time
import unittest

PTRACE_DETACH = 17
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
WAIT_FOR_THREADS = 0x40000000  # __WALL

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


@contextlib.contextmanager
def held(pid, thread):
    """The thread must be about to sleep for want of work: then it holds no lock."""
    _wait_until_asleep(pid, thread)
    if _libc.ptrace(PTRACE_SEIZE, thread, None, None) != 0:
        why = os.strerror(ctypes.get_errno())
        raise unittest.SkipTest(f"no thread can be held still here: {why}")
    try:
        _libc.ptrace(PTRACE_INTERRUPT, thread, None, None)
        os.waitpid(thread, WAIT_FOR_THREADS)
        yield
    finally:
        if _libc.ptrace(PTRACE_DETACH, thread, None, None) != 0:
            os.waitpid(thread, WAIT_FOR_THREADS)  # it has died, and its process waits for this


def _wait_until_asleep(pid, thread):
    deadline = time.monotonic() + 10
    while True:
        with open(f"/proc/{pid}/task/{thread}/stat", encoding="ascii") as file:
            if file.read().rpartition(")")[2].split()[0] == "S":
                return
        if time.monotonic() > deadline:
            raise AssertionError(f"thread {thread} does not sleep")
