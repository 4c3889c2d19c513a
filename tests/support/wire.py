"""The wire as the tests know it: netstrings in and out, written from the contract alone.

Shares nothing with src/, so that a mistake there cannot hide here. The decoder is stricter than
evrelay's own: it accepts only what evrelay may write (no white space, no leading zero).
"""

DATA = b","
LIST = b"]"
MAX_DIGITS = 10


class WireError(AssertionError):
    """The peer wrote something that is not a sequence of frames."""


def data(payload):
    """The data frame of `payload`."""
    return b"%d:%b," % (len(payload), payload)


def list_frame(*items):
    """The list frame of `items`, for example list_frame("relay", b"hello")."""
    payload = b"".join(data(_as_bytes(item)) for item in items)
    return b"%d:%b]" % (len(payload), payload)


def split_list(payload):
    """The items of a list frame's payload."""
    decoder = Decoder()
    frames = decoder.feed(payload)
    if decoder.pending or any(kind != DATA for kind, _ in frames):
        raise WireError(f"not a list: {payload[:200]!r}")
    return [item for _, item in frames]


def _as_bytes(item):
    return item if isinstance(item, bytes) else str(item).encode()


class Decoder:
    """Bytes in any pieces to frames: (type, payload) pairs, type DATA or LIST."""

    def __init__(self):
        self._buffer = bytearray()

    @property
    def pending(self):
        """Bytes of a frame that has begun and not ended."""
        return len(self._buffer)

    def feed(self, chunk):
        buffer = self._buffer
        buffer += chunk
        frames = []
        at = 0
        while at < len(buffer):
            colon = buffer.find(b":", at, at + MAX_DIGITS + 1)
            digits = bytes(buffer[at:colon] if colon >= 0 else buffer[at : at + MAX_DIGITS + 1])
            if not digits.isdigit() or (len(digits) > 1 and digits.startswith(b"0")):
                raise WireError(f"bad size in {bytes(buffer[at : at + 40])!r}")
            if colon < 0:
                if len(digits) > MAX_DIGITS:
                    raise WireError(f"bad size in {bytes(buffer[at : at + 40])!r}")
                break
            end = colon + 1 + int(digits)
            if end >= len(buffer):
                break
            kind = bytes(buffer[end : end + 1])
            if kind not in (DATA, LIST):
                raise WireError(f"bad type {kind!r} after {int(digits)} bytes")
            frames.append((kind, bytes(buffer[colon + 1 : end])))
            at = end + 1
        del buffer[:at]
        return frames
