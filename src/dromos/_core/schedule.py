"""When to renew a token, given how long it lives and how early the user wants it."""

import enum
from dataclasses import dataclass

__all__ = [
    "LONGEST_SLEEP",
    "Lease",
    "Need",
    "floor",
    "is_expired",
    "lead",
    "lease",
    "least_to_dial",
    "remaining",
]

LONGEST_SLEEP = 30.0
"""Seconds after which a waiting session looks again: a suspend or a clock step
is noticed no later than that, whatever the timer was set to."""


class Need(enum.Enum):
    """What a session wants of the token cache."""

    DIAL = "dial"
    """A token with enough life left for a dial."""
    RENEW = "renew"
    """A newer token than the one it has: that one is due."""
    REPLACE = "replace"
    """Another token than the one it has: the far side refused that one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What the core knows about a token: which one, and until when; never its secret.

    Attributes:
        generation: Counts the tokens of a connection; another one, another number.
        expires_at: On the monotonic clock, in seconds; None never expires.
        expires_wall: The same moment on the wall clock, as Unix time.
        lifetime: Seconds that it was issued for; None if it never expires.
    """

    generation: int
    expires_at: float | None = None
    expires_wall: float | None = None
    lifetime: float | None = None


def lease(
    *, generation: int, expires_wall: float | None, lifetime: float | None, now: float, wall: float
) -> Lease:
    """Return the lease of a token that was first seen at this moment.

    Args:
        generation: The token's number.
        expires_wall: Its expiry as Unix time; None never expires.
        lifetime: Seconds it was issued for, or None to take what is left now.
        now: Monotonic seconds.
        wall: Unix time.
    """
    if expires_wall is None:
        return Lease(generation=generation)
    left = expires_wall - wall
    if lifetime is None or lifetime <= 0:
        lifetime = max(0.0, left)
    return Lease(
        generation=generation,
        expires_at=now + left,
        expires_wall=expires_wall,
        # An expiry further off than the lifetime is the server's mistake or a skewed clock.
        lifetime=max(lifetime, left),
    )


def remaining(held: Lease, *, now: float, wall: float) -> float:
    """Seconds of life left; infinite for a token that never expires.

    Both clocks are asked and the smaller answer counts: the monotonic one
    survives a clock step, the wall one a suspend.
    """
    if held.expires_at is None or held.expires_wall is None:
        return float("inf")
    return min(held.expires_at - now, held.expires_wall - wall)


def is_expired(held: Lease, *, now: float, wall: float) -> bool:
    """Whether no life is left."""
    return remaining(held, now=now, wall=wall) <= 0


def lead(held: Lease, *, buffer: float, roll: float) -> float:
    """How many seconds before its expiry a token is due.

    The window is the buffer, or half the lifetime where that is less, so that
    a token shorter than the buffer can't be due for ever.  Jitter goes early,
    so that "at least the buffer" stays true.

    Args:
        held: The token's lease.
        buffer: How early the user wants it, in seconds.
        roll: Uniform in [0, 1).
    """
    if held.lifetime is None:
        return 0.0
    return min(buffer, held.lifetime / 2) * (1 + 0.1 * roll)


def floor(held: Lease | None) -> float:
    """Seconds that must pass between two refreshes of a connection, success or not."""
    if held is None or held.lifetime is None:
        return 1.0
    return max(1.0, min(30.0, held.lifetime / 4))


def least_to_dial(held: Lease) -> float:
    """Seconds of life that a token needs to be worth a dial."""
    return 0.0 if held.lifetime is None else min(30.0, held.lifetime / 4)
