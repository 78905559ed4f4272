"""The one stream of what happens in a bridge, from which telemetry is rendered.

Every event is a frozen value in the past tense.  None holds a secret.
"""

from dataclasses import dataclass, field

__all__ = [
    "AttemptFailed",
    "AttemptStarted",
    "BridgeEvent",
    "Connected",
    "DeliveryUnknown",
    "DepartureAnnounced",
    "Disconnected",
    "DuplicatesDropped",
    "EndDeferred",
    "Flapped",
    "HandedOver",
    "HandlerFailed",
    "LatencyMeasured",
    "LinkLost",
    "LinkOpened",
    "LoopBlocked",
    "MessagesDropped",
    "MessagesUnsent",
    "ReadingPaused",
    "RefreshStarted",
    "RenewalFailed",
    "RenewalStopped",
    "RetryScheduled",
    "SessionEnded",
    "SessionStarted",
    "SuspendDetected",
    "TokenObtained",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeEvent:
    """Something happened in a session.

    Attributes:
        connection_id: What the session was started for.
        session: The session's number in this bridge.
        at: Unix time.

    The three are stamped on by the session that announces the event.
    """

    connection_id: str = ""
    session: int = 0
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted(BridgeEvent):
    """`maintain_websocket` began.  `endpoint` is without query or user info."""

    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded(BridgeEvent):
    """`maintain_websocket` is over.  `error` is None if we closed it or it was cancelled."""

    error: Exception | None
    cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenObtained(BridgeEvent):
    """A token is at hand.

    Attributes:
        generation: Its number; the same one again is the same token.
        strategy: What kind of token it is, such as `"oauth2"`.
        expires_in: Seconds, None if it never expires.
        renewed: Whether a refresh of this session's has brought it, be it the same token with
            a later expiry.  False after a `RefreshStarted`: that one failed, and the token
            that was there has to do.
    """

    generation: int
    strategy: str
    expires_in: float | None
    renewed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshStarted(BridgeEvent):
    """A token refresh cycle began, on behalf of this session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalFailed(BridgeEvent):
    """A token could not be renewed; the open link stays.  `retry_in` None: no further try."""

    error: Exception
    retry_in: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalStopped(BridgeEvent):
    """The far side allows one link only: the token is renewed in memory until this link ends."""

    link: int
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(BridgeEvent):
    """A dial began."""

    link: int
    handover: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(BridgeEvent):
    """An attempt failed: no token, no link, or `on_connect` failed."""

    error: Exception
    verdict: str
    link: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled(BridgeEvent):
    """The next attempt starts in `delay` seconds, after `failures` in a row.

    `error` is why, or None if it only waits for its turn among the sessions of a group.
    """

    delay: float
    failures: int
    error: Exception | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flapped(BridgeEvent):
    """Five links in a row lived under 10 s: the backoff goes to its cap."""

    links: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOpened(BridgeEvent):
    """The upgrade succeeded, `took` seconds after the dial began."""

    link: int
    handover: bool
    took: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyMeasured(BridgeEvent):
    """A ping of ours was answered after so many seconds."""

    link: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLost(BridgeEvent):
    """An open link ended.

    Attributes:
        link: Its number.
        error: Why.
        lived: Seconds it was open.
        messages: How many were received on it.
        sent: How many were sent on it.
        unconfirmed: How many of those no answered ping has followed.
        released: Whether we let it go, whatever for.
        bytes_received: How many bytes came on the wire, handshakes included; None where
            the kernel does not tell, which only Linux's does.
        bytes_sent: How many went and have arrived.
    """

    link: int
    error: Exception
    lived: float
    messages: int
    released: bool
    sent: int = 0
    unconfirmed: int = 0
    bytes_received: int | None = None
    bytes_sent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected(BridgeEvent):
    """A gap ended: `on_connect` is due.  `gap` is None for the session's first link."""

    link: int
    gap: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected(BridgeEvent):
    """A gap began: the last open link is gone.  `error` is None when we closed it."""

    error: Exception | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver(BridgeEvent):
    """A new link took over from an open one; nothing was interrupted."""

    old: int
    new: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DepartureAnnounced(BridgeEvent):
    """The far side goes away (1001 or 1012): the next link is opened while this one lasts."""

    link: int
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class EndDeferred(BridgeEvent):
    """A failure that ends the session waits, because a link is still open."""

    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerFailed(BridgeEvent):
    """A callback raised.  The link stays, unless it was `on_connect` or `on_handover`."""

    method: str
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingPaused(BridgeEvent):
    """The handler has kept us from reading for `seconds`."""

    link: int
    method: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopBlocked(BridgeEvent):
    """A callback has kept the event loop from running for `seconds`; `stack` says where."""

    method: str
    seconds: float
    stack: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicatesDropped(BridgeEvent):
    """So many messages came on both links of a hand-over; `dedupe` has dropped the second ones."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryUnknown(BridgeEvent):
    """A link died with messages on it that were not confirmed: they may have arrived, or not.

    `messages` does not show itself.  `resent` if they are sent again on the next link.
    """

    link: int
    count: int
    resent: bool
    messages: tuple[str | bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesUnsent(BridgeEvent):
    """The outbox gave messages up: `reason` is `"expired"`, `"dropped"` or `"closed"`.

    They were never written to a link.  `messages` does not show itself.
    """

    count: int
    reason: str
    messages: tuple[str | bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesDropped(BridgeEvent):
    """Received messages that the handler will not see.

    The session was cancelled, or they came on a link that never came to serve.
    """

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendDetected(BridgeEvent):
    """Wall and monotonic clock drifted apart by `drift` seconds: a suspend or a clock step."""

    drift: float
