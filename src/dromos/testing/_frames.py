"""RFC 6455 frames as a server sees them: read with every check, written without a mask or with."""

import struct

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "Frames",
    "Violation",
    "encode",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


class Violation(Exception):
    """The client broke RFC 6455; `code` is what to close with."""

    def __init__(self, code: int, what: str) -> None:
        super().__init__(what)
        self.code = code


class Frames:
    """The client's bytes, cut into frames and checked against RFC 6455, section 5."""

    def __init__(self, data: bytes) -> None:
        self._data = bytearray(data)

    def feed(self, data: bytes) -> None:
        self._data += data

    def next(self) -> tuple[int, bool, bytes] | None:
        """Return opcode, FIN and payload of the next whole frame, or None."""
        data = self._data
        if len(data) < 2:
            return None
        opcode, final, length = data[0] & 0x0F, bool(data[0] & 0x80), data[1] & 0x7F
        if data[0] & 0x70:
            raise Violation(1002, "a reserved bit")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise Violation(1002, f"opcode {opcode}")
        if not data[1] & 0x80:
            raise Violation(1002, "a frame without a mask")
        if opcode >= CLOSE and (length > 125 or not final):
            raise Violation(1002, "a control frame that is too long or fragmented")
        start = 2
        if length >= 126:
            size = 2 if length == 126 else 8
            start += size
            if len(data) < start:
                return None
            length = int.from_bytes(data[2:start], "big")
        end = start + 4 + length
        if len(data) < end:
            return None
        payload = _unmask(bytes(data[start + 4 : end]), bytes(data[start : start + 4]))
        del data[:end]
        return opcode, final, payload


def _unmask(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def encode(opcode: int, payload: bytes, *, mask: bytes = b"") -> bytes:
    """Return a frame: a server's, or with a `mask` of four bytes a client's."""
    size, is_masked = len(payload), 0x80 if mask else 0
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, is_masked | size)
    elif size < 2**16:
        head = struct.pack("!BBH", 0x80 | opcode, is_masked | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, is_masked | 127, size)
    return head + mask + (_unmask(payload, mask) if mask else payload)
