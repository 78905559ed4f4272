"""What a session, or all of a bridge, looks like at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = ["Census", "Counters", "SessionState", "Snapshot", "Vitals"]

SessionState: TypeAlias = Literal[
    "waiting", "authorizing", "dialing", "greeting", "open", "closing", "closed"
]
"""Where a session is: `"open"` once `on_connect` has returned, and through hand-overs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What a session has counted since it began.

    Attributes:
        attempts: Dials begun.
        failures: Attempts that failed.
        links: Links opened, hand-overs included.
        handovers: Links that took over from an open one.
        gaps: Times that no link was open, after one was.
        refreshes: Token refresh cycles begun on its behalf.
        received: Messages received.
        sent: Messages sent.
        dropped: Messages received that nobody will see.
        duplicates: Messages that `dedupe` has dropped.
        unsent: Messages that the outbox gave up.
        unknown: Messages of which nobody knows whether they arrived; without an outbox
            those that no answered ping has followed.
        handler_failures: Callbacks that raised.
    """

    attempts: int = 0
    failures: int = 0
    links: int = 0
    handovers: int = 0
    gaps: int = 0
    refreshes: int = 0
    received: int = 0
    sent: int = 0
    dropped: int = 0
    duplicates: int = 0
    unsent: int = 0
    unknown: int = 0
    handler_failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A session at one moment; it does not change.

    Attributes:
        connection_id: What the session was started for.
        session: Its number in its bridge.
        endpoint: Where it connects to, without query or user info.
        state: Where it is.
        since: Unix time at which it came there.
        link: The number of the link that serves, or None.
        link_since: Unix time at which that link opened, or None.
        next_link: The number of the link that is to take over, or None.
        attempts: Failures that the wait for the next attempt grows with: a link that was
            lost before it had proven stable clears none.  0 while a link is open.
        last_error: What went wrong last, or None.  It stays once that has passed.
        last_error_at: Unix time at which it did, or None.
        next_attempt_at: Unix time of the next attempt, while it waits for one.
        token_expires_at: Unix time; None if there is no token, or it never expires.
        receive_queue: Messages that were received and not taken yet.
        write_buffer: Bytes that wait to be written.
        outbox_unsent: Messages in the outbox that wait for a link.
        outbox_unconfirmed: Messages in the outbox that were written and not confirmed.
        latency: Seconds that the last ping on this link took, or None.
        counters: What was counted.
    """

    connection_id: str = ""
    session: int = 0
    endpoint: str = ""
    state: SessionState
    since: float
    link: int | None = None
    link_since: float | None = None
    next_link: int | None = None
    attempts: int = 0
    last_error: Exception | None = None
    last_error_at: float | None = None
    next_attempt_at: float | None = None
    token_expires_at: float | None = None
    receive_queue: int = 0
    write_buffer: int = 0
    outbox_unsent: int = 0
    outbox_unconfirmed: int = 0
    latency: float | None = None
    counters: Counters = Counters()


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """The running sessions of a bridge, added up.

    It costs a small part of what their snapshots cost, for whoever asks every few seconds.

    Attributes:
        at: Unix time.
        states: How many sessions are in each state; a state that none is in is absent.
        received: Messages received on the links that are open.  What came on a link that
            ended is told by its `LinkLost`.
        sent: Messages sent on them.
        bytes_received: Bytes that came on the wire of those links; None if none of them tells,
            because the kernel does not (only Linux's does) or no link is open.
        bytes_sent: Bytes that went and have arrived.
        token_expires_at: Unix time at which the first of their tokens expires; None if none
            will.
    """

    at: float
    states: Mapping[SessionState, int] = field(default_factory=dict[SessionState, int])
    received: int = 0
    sent: int = 0
    bytes_received: int | None = None
    bytes_sent: int | None = None
    token_expires_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What a health check asks of a bridge: a small part of a census, at a fraction of its cost.

    Probes ask every few seconds, and the event loop waits for the answer.

    Attributes:
        sessions: Sessions that run.
        open: How many of them have an open link.
        with_token: How many of them have obtained their first token.
        stalled: How many of them nothing will ever wake again, which is a defect of ours.
        draining: Whether the bridge is being drained, or is closed.
    """

    sessions: int = 0
    open: int = 0
    with_token: int = 0
    stalled: int = 0
    draining: bool = False
