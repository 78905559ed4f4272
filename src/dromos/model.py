"""Frozen values that users build or receive."""

import enum
import hmac
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Literal, NoReturn, TypeAlias

from dromos.errors import PermanentError
from dromos.redaction import REDACTED, unseen

__all__ = [
    "AuthStrategy",
    "Credentials",
    "Handshake",
    "Message",
    "Outbox",
    "RetryPolicy",
    "Seconds",
    "SessionFailure",
    "Token",
    "Verdict",
    "seconds",
]

Message: TypeAlias = str | bytes
"""What a link delivers: `str` for a text frame, `bytes` for a binary one."""

Seconds: TypeAlias = float | timedelta
"""A duration: seconds as a number, or a `timedelta`."""


def seconds(name: str, value: object, *, least: float = 0.0, above: float | None = None) -> float:
    """Return a duration as float seconds.

    Args:
        name: The argument's name, for the message.
        value: A number of seconds or a `timedelta`.
        least: The smallest value allowed.
        above: If given, the value must be greater than this.

    Raises:
        TypeError: If `value` is neither a number nor a `timedelta`.
        ValueError: If it is not finite or below its bound.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(
            f"{name} must be seconds as a number or a timedelta, not {type(value).__name__}"
        )
    try:
        value = float(value)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, not {value}")
    if above is not None and value <= above:
        raise ValueError(f"{name} must be more than {above:g} s, not {value:g}")
    if value < least:
        raise ValueError(f"{name} must be at least {least:g} s, not {value:g}")
    return value


def in_seconds(value: Seconds) -> float:
    """Return a checked duration as a float."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


class Verdict(enum.Enum):
    """How much hope a failure leaves."""

    TRANSIENT = "T"
    """Try again, with backoff."""
    LIMITED = "L"
    """Try again at the cap, and give up after a few in a row."""
    AUTHENTICATION = "A"
    """The token was refused: get another one, then try again."""
    BOUNDED = "B"
    """A token source failed in a way that heals at times: a few tries, if it ever worked."""
    INTERACTION = "U"
    """Only a person can help."""
    PERMANENT = "P"
    """Trying again would repeat it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long to wait between attempts, and when to give up.

    The delay after `n` failures in a row is drawn between 0.2 s and
    `min(max_backoff, min_backoff * 2**n)` (full jitter); it is reset by a
    link that proves stable.

    Attributes:
        min_backoff: The first step, in seconds. Default 1. Zero is safe: no wait is under 0.2 s.
        max_backoff: The longest step, in seconds. Default 60.
        jitter: `"full"` (default), or seconds to add at random to an exponential
            delay, which is the form of the Go library.
        stable_after: Seconds of unbroken time with an open link that reset the
            backoff. Default 10.
        max_attempts: Failed attempts in a row before the session ends with a
            `PermanentError`. None (default) never ends it.
        max_elapsed: Seconds since the first failure in a row after which no new
            attempt starts. None (default) never ends it.
    """

    min_backoff: Seconds = 1.0
    max_backoff: Seconds = 60.0
    jitter: Literal["full"] | Seconds = "full"
    stable_after: Seconds = 10.0
    max_attempts: int | None = None
    max_elapsed: Seconds | None = None

    def __post_init__(self) -> None:
        keep = object.__setattr__
        keep(self, "min_backoff", seconds("min_backoff", self.min_backoff))
        keep(self, "max_backoff", seconds("max_backoff", self.max_backoff))
        keep(self, "stable_after", seconds("stable_after", self.stable_after))
        if isinstance(self.jitter, str):
            if self.jitter != "full":
                raise ValueError(f'jitter must be "full" or seconds, not {self.jitter!r}')
        else:
            keep(self, "jitter", seconds("jitter", self.jitter))
        if self.max_elapsed is not None:
            keep(self, "max_elapsed", seconds("max_elapsed", self.max_elapsed))
        if self.max_attempts is not None:
            if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int):
                raise TypeError(
                    f"max_attempts must be an int or None, not {type(self.max_attempts).__name__}"
                )
            if self.max_attempts < 1:
                raise ValueError(f"max_attempts must be at least 1, not {self.max_attempts}")
        if in_seconds(self.max_backoff) < in_seconds(self.min_backoff):
            raise ValueError(
                f"max_backoff ({self.max_backoff} s) must not be below "
                f"min_backoff ({self.min_backoff} s)"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """Keeps what could not be sent, in order, across links; and says what became of the rest.

    A message is *confirmed* when a ping written after it was answered, or our
    CLOSE was.  Until then it counts against the bounds.  A message whose link
    died before that is *unknown*: the far side may have it, or not.

    Attributes:
        max_messages: Messages kept, unsent and unconfirmed ones together. Default 1000.
        max_bytes: Bytes of them. Default 2 MiB.
        ttl: Seconds that a message may wait for a link; after that it is reported as
            unsent. Default 60. None keeps it for as long as the session lasts.
        when_full: `"error"` (default) raises `SendBufferFull`; `"drop_oldest"` reports
            the oldest unsent messages as unsent, to make room; `"wait"` has
            `connection.send` wait for room, within its timeout.  A handler's `send`
            can't wait before it writes, so it raises as with `"error"`.
        resend_unknown: Whether unknown messages are sent again on the next link, so
            that each arrives at least once.  Default False: at most once.
    """

    max_messages: int = 1000
    max_bytes: int = 2 * 2**20
    ttl: Seconds | None = 60.0
    when_full: Literal["error", "drop_oldest", "wait"] = "error"
    resend_unknown: bool = False

    def __post_init__(self) -> None:
        for name in ("max_messages", "max_bytes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an int, not {type(value).__name__}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.ttl is not None:
            object.__setattr__(self, "ttl", seconds("ttl", self.ttl, above=0))
        if self.when_full not in ("error", "drop_oldest", "wait"):
            raise ValueError(
                f'when_full must be "error", "drop_oldest" or "wait", not {self.when_full!r}'
            )
        if not isinstance(self.resend_unknown, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"resend_unknown must be a bool, not {type(self.resend_unknown).__name__}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFailure:
    """A session of a group that has failed for good.

    Attributes:
        connection_id: What the session was started for.
        session: Its number in its bridge.
        endpoint: Where it connected to, without query or user info.
        error: Why; what ended it is its `__cause__`.
        at: Unix time.
    """

    connection_id: str
    session: int
    endpoint: str
    error: PermanentError
    at: float


class Credentials(Mapping[str, Any]):
    """A strategy's secret values by name, which do not show themselves.

    Reading a value by its name gives it in the clear; the map's `repr` names
    the keys only, and copying or pickling it is refused, so that logging,
    `dataclasses.asdict` or a crash reporter can't take it along.
    """

    __slots__ = ("_values",)

    @unseen
    def __init__(self, values: Mapping[str, Any]) -> None:
        for key in values:
            if not isinstance(key, str):
                raise TypeError(f"credentials must have str keys, not {type(key).__name__}")
        self._values: dict[str, Any] = dict(values)

    def __getitem__(self, key: str, /) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{key!r}: {REDACTED}" for key in self._values) + "}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Credentials):
            return NotImplemented
        mine, theirs = self._canonical(), other._canonical()
        if mine is None or theirs is None:
            return self is other
        return hmac.compare_digest(mine, theirs)

    # A hash in a log or a set's order would be a fingerprint of the secret.
    __hash__ = None  # type: ignore[assignment]

    def _canonical(self) -> bytes | None:
        """Return the values in one spelling; None if they are no JSON values."""
        try:
            return json.dumps(self._values, sort_keys=True, default=repr).encode()
        except (TypeError, ValueError, RecursionError):  # whose frames hold the values
            return None

    def __reduce_ex__(self, protocol: object, /) -> NoReturn:
        raise TypeError("credentials can't be copied or pickled: they are secret")

    def __copy__(self) -> NoReturn:
        raise TypeError("credentials can't be copied or pickled: they are secret")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("credentials can't be copied or pickled: they are secret")


def _no_config() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class AuthStrategy:
    """How a token is presented to the far side.

    Attributes:
        type: The strategy's name, such as `"oauth2"` or `"header"`.
        config: The strategy's settings; not secret.
    """

    type: str
    config: Mapping[str, Any] = field(default_factory=_no_config)

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", MappingProxyType(dict(self.config)))

    def __reduce__(self) -> tuple[Any, ...]:
        # A read-only view can't be pickled; the settings in it can.
        return AuthStrategy, (self.type, dict(self.config))


@dataclass(frozen=True, slots=True)
class Token:
    """What a provider yields: credentials, how to present them, and until when.

    Attributes:
        credentials: The strategy's map of plain JSON values, masked in `repr`,
            and refused to `pickle` and `copy`.
        strategy: How to present them. Default `AuthStrategy("oauth2")`.
        expires_at: Unix time on the local wall clock; None never expires.
        lifetime: Seconds that it was issued for, where known; None takes what
            is left when this token is first seen.
        scopes: What it allows, where the server said so; else None.
        clock_skew: Seconds by which the clock of who issued it was ahead of ours, as its
            answer's `Date` told; None where unknown.
    """

    credentials: Mapping[str, Any]
    strategy: AuthStrategy = AuthStrategy("oauth2")
    expires_at: float | None = None
    lifetime: float | None = None
    scopes: tuple[str, ...] | None = field(default=None, kw_only=True)
    clock_skew: float | None = field(default=None, kw_only=True, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.credentials, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"credentials must be a mapping, not {type(self.credentials).__name__}")
        if not isinstance(self.credentials, Credentials):
            object.__setattr__(self, "credentials", Credentials(self.credentials))
        for name in ("expires_at", "lifetime"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} must be a number or None, not {type(value).__name__}")
            if math.isnan(value):
                raise ValueError(f"{name} must be a number, not nan")

    @property
    def access_token(self) -> str:
        """The bearer token in the clear.

        Raises:
            KeyError: If the credentials hold no `access_token`.
        """
        return str(self.credentials["access_token"])


# Providers of users make tokens from what they are told, and that may be anything.
Token.__init__ = unseen(Token.__init__)  # type: ignore[method-assign]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """The upgrade request as strategies shape it and dialers send it.

    Its `repr` shows neither header values nor the query, subprotocols or first
    message, where secrets travel.

    Attributes:
        url: The endpoint, `ws://` or `wss://`.
        headers: Name and value pairs, in order, beside those of the protocol itself.
        subprotocols: Offered in `Sec-WebSocket-Protocol`, in order of preference.
        first_message: Sent as soon as the link is open, before anything else; None sends
            nothing.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    subprotocols: tuple[str, ...] = ()
    first_message: str | None = None

    def with_header(self, name: str, value: str) -> "Handshake":
        """Return a copy with this header, in place of any of the same name."""
        kept = tuple(pair for pair in self.headers if pair[0].lower() != name.lower())
        return replace(self, headers=(*kept, (name, value)))

    def with_url(self, url: str) -> "Handshake":
        """Return a copy for another URL."""
        return replace(self, url=url)

    def with_subprotocols(self, *subprotocols: str) -> "Handshake":
        """Return a copy that offers these as well, after those it has; each once."""
        offered = dict.fromkeys((*self.subprotocols, *subprotocols))
        return replace(self, subprotocols=tuple(offered))

    def with_first_message(self, text: str) -> "Handshake":
        """Return a copy with this first message, in place of another."""
        return replace(self, first_message=text)

    def __reduce_ex__(self, protocol: object, /) -> NoReturn:
        raise TypeError("a handshake can't be copied or pickled: it is secret")

    def __repr__(self) -> str:
        target = self.url.partition("?")[0]
        names = [name for name, _ in self.headers]
        first = "" if self.first_message is None else f", first_message={REDACTED}"
        return (
            f"Handshake(url={target!r}, headers={names}, "
            f"subprotocols={len(self.subprotocols)}{first})"
        )
