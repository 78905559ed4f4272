"""Every error we raise, with its facts as attributes.

The class says at which *stage* something failed; how much *hope* is left is a
`Verdict`, and tables decide it (`dromos._core.verdict`).

    BridgeError
    ├── PermanentError            the session has ended and will not be tried again
    │   └── InteractionRequired   ... until a person does something
    ├── TokenError                a source gave no usable token
    ├── HandshakeError            a link did not open
    ├── ConnectionClosed          an open link ended
    ├── NotConnected              there is no open link to send on
    ├── MessageTooBig             a message is over a limit of ours
    ├── SendBufferFull            the write buffer has no room for this message
    └── ReceivePaused             an answer can't arrive while reading is paused
"""

from collections.abc import Mapping
from typing import Any

__all__ = [
    "BridgeError",
    "ConnectionClosed",
    "HandshakeError",
    "InteractionRequired",
    "MessageTooBig",
    "NotConnected",
    "PermanentError",
    "ReceivePaused",
    "SendBufferFull",
    "TokenError",
]


class BridgeError(Exception):
    """The base of every error that `dromos` raises for something that happened.

    A wrong argument is a plain `ValueError` or `TypeError` instead.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only constructors defeat the default, which replays `args`.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(kind: type[BridgeError], args: tuple[Any, ...], facts: dict[str, Any]) -> BridgeError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


class PermanentError(BridgeError):
    """The session has ended, and the bridge will not try again.

    What ended it is `__cause__`, where something of ours or of another library
    did.  A handler, provider, strategy or dialer of yours may raise it to end
    the session.

    Attributes:
        unsent: With an outbox: the messages that were never written to a link.
        unknown: With an outbox: the messages that were written to the last link, and
            of which nobody knows whether they arrived.
    """

    unsent: tuple[str | bytes, ...] = ()
    unknown: tuple[str | bytes, ...] = ()


class InteractionRequired(PermanentError):
    """Only a person can help: consent or a login has to be given again.

    Raised for the gateway's 409, "attention required", and for the OAuth
    errors that mean the same.

    Attributes:
        connection_id: The gateway's record that needs attention, where known.
        code: The OAuth error code, where the server gave one.
    """

    def __init__(
        self, message: str, *, connection_id: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.connection_id = connection_id
        self.code = code


class TokenError(BridgeError):
    """A token source gave no usable token.

    Attributes:
        status: The HTTP status of the answer; None when there was no answer.
        code: The error code in the answer, such as `invalid_grant`; None if absent.
        retry_after: Seconds the server asked us to wait, or None.
        step: What was asked: `"token"`, `"refresh"`, `"device"`, `"discovery"`, `"check"`,
            `"request"` or `"providers"`.
        malformed: True if the answer was a success that held no usable token.
        source: `"gateway"` or `"oauth"`: which table of verdicts applies.
        origin: Scheme, host and port of the endpoint, or None.
        suberror: What some servers add to the code, or None.
        error_codes: The numbers that some servers have for it, such as Entra's AADSTS codes.
        claims: What the server wants to be told with the next request (a claims challenge),
            or None.
        correlation_id: What the server calls this exchange in its logs; ours where it
            did not say; None where nothing was asked.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        step: str = "token",
        malformed: bool = False,
        source: str = "oauth",
        origin: str | None = None,
        suberror: str | None = None,
        error_codes: tuple[int, ...] = (),
        claims: str | None = None,
        correlation_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = None if retry_after is None else float(retry_after)
        self.suberror = suberror
        self.error_codes = error_codes
        self.claims = claims
        self.correlation_id = correlation_id
        self.step = step
        self.malformed = malformed
        self.source = source
        self.origin = origin


class HandshakeError(BridgeError):
    """A link did not open: DNS, TCP, TLS, a proxy, or the upgrade failed.

    Attributes:
        status: The HTTP status of the answer; None when there was none.
        headers: The answer's headers, with the values of secret ones redacted.
        retry_after: Seconds the far side asked us to wait, or None.
        body: At most the first 1 KiB of the answer's body, redacted.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers: Mapping[str, str] = headers if headers is not None else {}
        self.retry_after = None if retry_after is None else float(retry_after)
        self.body = body


class ConnectionClosed(BridgeError):
    """An open link ended.

    Attributes:
        code: The close code.  1005: the CLOSE held none; 1006: there was no CLOSE.
        reason: The reason in the CLOSE, or ours for an end without one.
        by_peer: True if the far side ended the link, False if we did.
    """

    def __init__(self, *, code: int, reason: str = "", by_peer: bool = True) -> None:
        who = "the far side" if by_peer else "us"
        # A far side that sends line breaks or escapes must not write our log for us.
        shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in reason)
        super().__init__(f"link closed by {who} ({code}{f' {shown}' if shown else ''})")
        self.code = code
        self.reason = reason
        self.by_peer = by_peer


class NotConnected(BridgeError):
    """There is no open link to send on; the message was not sent."""

    def __init__(self, message: str = "no link is open; the message was not sent") -> None:
        super().__init__(message)


class MessageTooBig(BridgeError):
    """A message of yours is over `send_size_limit`; it was not sent.

    Attributes:
        size: The message's size in bytes.
        limit: The limit in bytes.
    """

    def __init__(self, *, size: int, limit: int) -> None:
        super().__init__(f"message of {size} bytes is over the limit of {limit}; not sent")
        self.size = size
        self.limit = limit


class SendBufferFull(BridgeError):
    """There is no room for this message, in the write buffer or the outbox; it was not sent.

    The far side reads more slowly than you send, or there is no link.  Await what
    `send` returns to be slowed down instead.

    Attributes:
        size: The message's size in bytes.
        buffered: Bytes that wait to be written, or that the outbox keeps.
        limit: `send_buffer_limit`, or the outbox's `max_bytes`, in bytes.
    """

    def __init__(self, *, size: int, buffered: int, limit: int, message: str = "") -> None:
        super().__init__(
            message
            or f"{buffered} bytes wait to be written, and {size} more would pass the limit of "
            f"{limit}; not sent"
        )
        self.size = size
        self.buffered = buffered
        self.limit = limit


class ReceivePaused(BridgeError):
    """Reading is paused, so an answer could not arrive."""


class Closed(RuntimeError):
    """What is closed begins nothing more: a bridge that is being drained, or its group.

    To whoever calls it is a `RuntimeError`, as documented; a service that stops has to tell
    it from those of the program.
    """
