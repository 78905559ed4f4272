"""What RFC 6455 asks of frames and an engine's parser leaves to its user.  Pure."""

import codecs
from typing import Final

from dromos.interfaces import Limits
from dromos.model import Message

__all__ = [
    "GOING_AWAY",
    "Assembly",
    "Violation",
    "check_close_code",
    "met",
    "parse_close",
    "shortened",
]

GOING_AWAY: Final = frozenset({1001, 1012})
"""Codes of a far side that stops or starts again (RFC 6455, 7.4.1; IANA's registry)."""

LONGEST_REASON: Final = 123
"""Bytes: a control frame holds 125 (RFC 6455, 5.5), and the code takes two."""

# RFC 6455, 7.4.1 and the IANA registry: those that may be on the wire.
_ON_THE_WIRE: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})


class Violation(Exception):
    """The far side broke a rule: fail the link with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Assembly:
    """One message that arrives in fragments (RFC 6455, 5.4).

    Text is decoded as it comes, so that invalid UTF-8 is found in the fragment
    that holds it and not at the end of a message that may never end.
    """

    __slots__ = ("_decoder", "_fragments", "_limits", "_pieces", "_size", "_texts")

    def __init__(self, limits: Limits, *, text: bool) -> None:
        self._limits = limits
        self._size = 0
        self._fragments = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")() if text else None
        self._texts: list[str] = []
        self._pieces: list[bytes] = []

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self._size

    def add(self, payload: bytes, *, final: bool) -> Message | None:
        """Take a fragment; return the message if this is its last.

        Raises:
            Violation: 1007 if text is not UTF-8, 1009 over a limit.
        """
        self._size += len(payload)
        self._fragments += 1
        if self._size > self._limits.message_size:
            raise Violation(1009, f"message over {self._limits.message_size} bytes")
        if self._fragments > self._limits.fragments:
            raise Violation(1009, f"message in over {self._limits.fragments} fragments")
        if self._decoder is None:
            self._pieces.append(payload)
            return b"".join(self._pieces) if final else None
        try:
            self._texts.append(self._decoder.decode(payload, final))
        except UnicodeDecodeError:
            raise Violation(1007, "text is not UTF-8") from None
        return "".join(self._texts) if final else None


def parse_close(payload: bytes) -> tuple[int, str]:
    """Return code and reason of a CLOSE; the code of an empty one is 1005.

    Raises:
        Violation: 1002 for a code that must not be on the wire (RFC 6455, 7.4) or
            half of one, 1007 for a reason that is not UTF-8.
    """
    if not payload:
        return 1005, ""
    if len(payload) == 1:
        raise Violation(1002, "CLOSE with half a code")
    code = int.from_bytes(payload[:2], "big")
    if not may_be_sent(code):
        raise Violation(1002, f"CLOSE with the invalid code {code}")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise Violation(1007, "the reason of a CLOSE is not UTF-8") from None


def met(sent: tuple[int, str], code: int, reason: str) -> tuple[int, str, bool]:
    """Return how a link ends if a CLOSE comes after ours: code, reason, and if by the peer.

    An answer typically echoes the code (RFC 6455, 5.5.1), and may be empty.  Any
    other CLOSE was on its way when ours was written.
    """
    return (*sent, False) if code in (sent[0], 1005) else (code, reason, True)


def may_be_sent(code: int) -> bool:
    """Return whether a close code may be on the wire (RFC 6455, 7.4)."""
    return code in _ON_THE_WIRE or 3000 <= code < 5000


def check_close_code(code: int) -> int:
    """Return the code.

    Raises:
        TypeError: If it is not an int.
        ValueError: If it must not be sent (RFC 6455, 7.4).
    """
    if isinstance(code, bool) or not isinstance(code, int):
        raise TypeError(f"code must be an int, not {type(code).__name__}")
    if not may_be_sent(code):
        raise ValueError(f"code must be a close code that may be sent, not {code}")
    return code


def shortened(reason: str) -> str:
    """Return the reason, cut at a character's end to fit into a CLOSE."""
    encoded = reason.encode("utf-8", "replace")
    return encoded[:LONGEST_REASON].decode("utf-8", "ignore")
