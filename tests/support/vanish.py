"""A TCP peer that vanishes without a word: its machine, or the way to it, is gone."""

import ctypes
import socket
import struct
import unittest

SO_ATTACH_FILTER = 26
SO_DETACH_FILTER = 27


def vanish(sock):
    """From now on nothing that is sent to this socket arrives: a filter of one instruction, which
    keeps 0 bytes of each packet."""
    keep_nothing = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # ret 0
    program = struct.pack("HL", 1, ctypes.addressof(keep_nothing))
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    except PermissionError:
        raise unittest.SkipTest("this kernel lets only root filter packets") from None


def come_back(sock):
    sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, struct.pack("i", 0))
