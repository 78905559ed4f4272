"""When to ping a link, and when to give it up."""

import enum
from dataclasses import dataclass, replace

__all__ = ["Action", "Watch", "begin", "look"]

LATE = 1.0
"""A timer that fires this many seconds late tells of a busy machine, not of a dead peer."""

GRACE = 1.0
"""Seconds that a peer gets on top, then."""


class Action(enum.Enum):
    """What to do about a link."""

    NOTHING = "nothing"
    PING = "ping"
    GIVE_UP = "give up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What is known of a link's life.

    Attributes:
        interval: Seconds without inbound data after which a ping is due.
        timeout: Seconds that the answer may take.
        since: When we began to look, or began to read again.
        pinged: When the ping was written that nothing has followed yet, or None.
        deadline: Until when something has to follow it.
        at: When to look again.
    """

    interval: float
    timeout: float
    since: float
    pinged: float | None = None
    deadline: float = 0.0
    at: float = 0.0


def begin(*, interval: float, timeout: float, now: float) -> Watch:
    """Return the watch of a link that has just opened."""
    return Watch(interval=interval, timeout=timeout, since=now, at=now + interval)


def look(watch: Watch, *, now: float, idle: float, paused: bool) -> tuple[Watch, Action]:
    """Return what to do, and the watch with the next time to look.

    Args:
        watch: What was known.
        now: Monotonic seconds.
        idle: Seconds since any data arrived; all data is life, not only pongs.  It may be
            wrong by up to half the interval: kernels count in ticks of 1 to 10 ms, and an
            answer from nearby comes sooner than that.
        paused: Whether we have stopped reading: then an answer can't be seen,
            pings go out to keep middleboxes awake, and TCP has to notice a dead peer.
    """
    heard = max(watch.since, now - idle)
    if paused:
        after = replace(watch, since=now, at=now + watch.interval)
        return after, Action.PING if now >= watch.at else Action.NOTHING
    # A ping is due an interval after the last that was heard: whatever came later than
    # halfway between the two has followed the ping.
    if watch.pinged is not None and heard < watch.pinged - watch.interval / 2:
        if now < watch.deadline:
            return replace(watch, at=watch.deadline), Action.NOTHING
        if now - watch.at > LATE:
            # We were late ourselves: the answer may be waiting in the socket.
            return replace(watch, deadline=now + GRACE, at=now + GRACE), Action.NOTHING
        return watch, Action.GIVE_UP
    if now < heard + watch.interval:
        return replace(watch, pinged=None, at=heard + watch.interval), Action.NOTHING
    deadline = now + watch.timeout
    # The answer may take longer than the interval, and usually takes no time at all: then
    # the next ping is due before this one's deadline.
    at = min(deadline, now + watch.interval)
    return replace(watch, pinged=now, deadline=deadline, at=at), Action.PING
