"""Random, mostly valid frame streams, and what a trusted parser makes of them."""

import codecs
import random
import struct
from dataclasses import dataclass, field
from typing import Any

from tests.dialers.loopback import BINARY, CLOSE, PING, PONG, TEXT, frame
from websockets.exceptions import PayloadTooBig
from websockets.frames import Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

LIMIT = 1000  # bytes of a message


@dataclass
class Outcome:
    """What was delivered, and how it ended."""

    messages: list[str | bytes] = field(default_factory=list)
    code: int = 1006


# Streams


def random_stream(rng: random.Random) -> bytes:
    """Return a stream of frames; about every second one breaks some rule somewhere."""
    parts = [_random_part(rng) for _ in range(rng.randint(1, 12))]
    if rng.random() < 0.5:
        parts.append(_close(rng))
        if rng.random() < 0.3:
            parts.append(_random_part(rng))
    data = b"".join(parts)
    if rng.random() < 0.1 and data:
        position = rng.randrange(len(data))
        data = data[:position] + bytes([rng.randrange(256)]) + data[position + 1 :]
    if rng.random() < 0.1:
        data = data[: rng.randrange(len(data) + 1)]
    return data


def pieces(rng: random.Random, data: bytes) -> list[bytes]:
    """Cut a stream as TCP might."""
    count = rng.choice([0, 0, 1, 2, 5, 20])
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(count))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


def _random_part(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.03:
        return _broken(rng)
    if kind < 0.15:
        return frame(rng.choice([PING, PONG]), rng.randbytes(rng.choice([0, 5, 125])))
    text = rng.random() < 0.6
    payload = _text(rng).encode() if text else rng.randbytes(_size(rng))
    if text and rng.random() < 0.03:
        payload = payload + rng.choice([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
    opcode = TEXT if text else BINARY
    return frame(opcode, payload) if kind < 0.6 else _fragments(rng, opcode, payload)


def _fragments(rng: random.Random, opcode: int, payload: bytes) -> bytes:
    parts: list[bytes] = []
    cut = pieces(rng, payload) or [b""]
    for index, piece in enumerate(cut):
        if rng.random() < 0.2:
            parts.append(frame(rng.choice([PING, PONG]), b"between"))
        last = index == len(cut) - 1
        parts.append(frame(opcode if index == 0 else 0, piece, fin=last and rng.random() > 0.02))
    return b"".join(parts)


def _broken(rng: random.Random) -> bytes:
    payload = rng.randbytes(rng.choice([0, 1, 10]))
    choice = rng.randrange(8)
    if choice == 0:
        return frame(rng.choice([3, 7, 11, 15]), payload)
    if choice == 1:
        return frame(rng.choice([TEXT, BINARY, PING, PONG]), b"x", rsv=rng.randint(1, 7))
    if choice == 2:
        return frame(0, payload, fin=rng.random() < 0.5)
    if choice == 3:
        return frame(rng.choice([PING, PONG]), payload, fin=False)
    if choice == 4:
        return frame(rng.choice([PING, PONG]), bytes(rng.choice([126, 300])))
    if choice == 5:
        return frame(BINARY, bytes(LIMIT + rng.choice([1, 70_000])))
    if choice == 6:
        return frame(TEXT, b"unfinished", fin=False) + frame(TEXT, b"inside")
    return bytes([0x82, 0x80 | len(payload)]) + bytes(4) + payload


def _close(rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return frame(CLOSE)
    if rng.random() < 0.05:
        return frame(CLOSE, b"\x03")
    code = rng.choice(
        [1000, 1001, 1007, 1008, 1011, 1012, 1014, 3000, 4000, 4999]
        + ([0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535] if rng.random() < 0.3 else [])
    )
    reason = _text(rng).encode()[:123].decode("utf-8", "ignore").encode()
    if rng.random() < 0.05:
        reason = b"\xff"
    return frame(CLOSE, struct.pack("!H", code) + reason)


def _size(rng: random.Random) -> int:
    return rng.choice([0, 1, 20, 125, 126, 127, 500, LIMIT])


def _text(rng: random.Random) -> str:
    alphabet = "abc äöü ß ✓ 漢字 😀 \u07ff \uffff \U0010ffff"
    text = "".join(rng.choice(alphabet) for _ in range(_size(rng)))
    return text.encode()[:LIMIT].decode("utf-8", "ignore")


# What a trusted parser makes of them


def expected(data: bytes) -> Outcome:
    """Return what `websockets` makes of a stream that the far side then ends.

    It decodes text in a layer above this parser, so that is done here.
    """
    protocol = Protocol(CLIENT, state=OPEN, max_size=LIMIT)
    protocol.receive_data(data)
    outcome = Outcome()
    assembly: list[str | bytes] = []
    decoder: Any = None
    for event in protocol.events_received():
        opcode = event.opcode  # type: ignore[union-attr]
        if opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if opcode is not Opcode.CONT:
                text = opcode is Opcode.TEXT
                decoder = codecs.getincrementaldecoder("utf-8")() if text else None
                assembly = []
            payload = bytes(event.data)  # type: ignore[union-attr]
            try:
                assembly.append(decoder.decode(payload, event.fin) if decoder else payload)  # type: ignore[union-attr]
            except UnicodeDecodeError:
                outcome.code = 1007
                return outcome
            if event.fin:  # type: ignore[union-attr]
                empty: Any = "" if decoder else b""
                outcome.messages.append(empty.join(assembly))
    outcome.code = _code(protocol)
    return outcome


def _code(protocol: Protocol) -> int:
    if protocol.close_rcvd is not None:
        return int(protocol.close_rcvd.code)
    if protocol.parser_exc is None:
        return 1006
    if isinstance(protocol.parser_exc, PayloadTooBig):
        return 1009
    return 1007 if isinstance(protocol.parser_exc, UnicodeDecodeError) else 1002


# Where the two may differ


def comparable(data: bytes) -> tuple[bytes, bytes]:
    """Cut a stream where comparing ends; return what is before and what is after.

    That is, before the first frame that

    - is not there in full: picows judges a header as it comes, `websockets` a
      control frame or a reserved bit when the frame is complete, and picows a
      message over the limit when the fragment that crosses it is complete;
    - breaks two rules at once: which of them is named is nobody's business;
    - has its length in more bytes than it needs: RFC 6455, 5.2 forbids that,
      picows refuses it and `websockets` does not look;
    - is a control frame between fragments that would take the message over the
      limit if it were part of it: `websockets` counts it.
    """
    position, size, decoder = 0, None, None
    while position < len(data):
        end, faults, size, decoder = _examine(data, position, size, decoder)
        if end is None or faults > 1:
            return data[:position], data[position:]
        if faults or data[position] & 15 == CLOSE:
            break  # nothing after it counts, for either
        position = end
    return data, b""


def _examine(data: bytes, at: int, size: int | None, decoder: Any) -> tuple[Any, int, Any, Any]:
    """Return where a frame ends, how many rules it breaks, and the state after it."""
    if at + 2 > len(data):
        return None, 0, size, decoder
    first, second = data[at], data[at + 1]
    opcode, fin, length, start = first & 15, bool(first & 128), second & 127, at + 2
    faults = bool(first & 0x70) + bool(second & 128) + (opcode not in (0, 1, 2, 8, 9, 10))
    if length > 125:
        width = 2 if length == 126 else 8
        start += width
        length = int.from_bytes(data[at + 2 : start], "big")
        faults += 2 * (length < (126 if width == 2 else 65536) or length >> 63)
    end = start + length
    if opcode in (8, 9, 10):
        faults += (not fin) + (length > 125) + 2 * ((size or 0) + length > LIMIT)
    elif opcode in (0, 1, 2):
        faults += (opcode == 0) != (size is not None)
        faults += (size or 0) + length > LIMIT
    if end > len(data):
        # Only a frame over the limit is refused by both before it is complete.
        over = opcode in (0, 1, 2) and length > LIMIT and start <= len(data)
        return (end if over and not faults - 1 and size is None else None), faults, size, decoder
    payload = data[start:end]
    if opcode == CLOSE:
        faults += len(payload) == 1
        code = int.from_bytes(payload[:2], "big")
        faults += len(payload) > 1 and not (
            code in (1000, 1001, 1002, 1003, *range(1007, 1015)) or 3000 <= code < 5000
        )
        faults += not _is_utf8(payload[2:])
    elif opcode in (0, 1, 2):
        if opcode:
            decoder = codecs.getincrementaldecoder("utf-8")() if opcode == TEXT else None
        try:
            if decoder:
                decoder.decode(payload, fin)
        except UnicodeDecodeError:
            faults += 1
        size = None if fin else (size or 0) + length
    return end, faults, size, decoder


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
